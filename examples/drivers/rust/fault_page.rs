// SPDX-License-Identifier: GPL-2.0

//! A fault handler that returns pages: nothing is mapped before it is touched, and the kernel enters the page.
//!
//! Every open of /dev/rust_fault_page has 64 KiB of its own. read and write are the kernel's view of the same bytes.
//! The way to take when in doubt: pages can be pinned, private mappings copy them, and what madvise(MADV_DONTNEED) has
//! thrown away comes back at the next touch.

#[path = "../../../driver/kmap/mod.rs"]
pub mod kmap;

use kernel::prelude::*;
use kmap::{
    alloc::NumaNode,
    backing::{Backed, Backing},
    cache::Cache,
    fault::{Fault, Faults, Outcome},
    misc::{Mode, Node, NodeVma, OpenFile},
    vma::Answer,
    vmap::Vmap,
};

module! {
    type: Module,
    name: "rust_fault_page",
    authors: ["the mapbuf authors"],
    description: "mmap by a fault handler that returns pages",
    license: "GPL",
}

const PAGES: usize = 16;

/// What an open has. It is dropped after the last close and the last munmap, those of forked children included.
struct Memory(Vmap);

impl OpenFile for Memory {
    type Node = ();

    fn open((): &(), _: Mode) -> Result<Self> {
        // Zeroed, and charged to the memory cgroup of whoever opens.
        Ok(Self(Vmap::new(PAGES, NumaNode::ANY, Cache::Cached)?))
    }

    fn mmap(&self, vma: NodeVma<'_, Self>) -> Result {
        let vma = vma.of_file();
        // It cannot grow, and never becomes executable. Private copies are made of pages as of a file's.
        vma.restrict(false)?;
        // Refuses what is beyond the memory here, where it is an error of mmap and not a SIGBUS.
        vma.answer_faults(Answer::Page)
    }

    fn memory_at(
        &self,
        at: u64,
        f: impl FnOnce(&dyn Backing, u64) -> Result<usize>,
    ) -> Result<usize> {
        f(&self.0, at)
    }
}

impl Backed for Memory {
    fn backing(&self) -> &dyn Backing {
        &self.0
    }
}

impl Faults for Memory {
    // The layer has the same handler for all sorts of mappings, if this function is left out.
    fn fault(fault: Fault<'_, Self>) -> Outcome {
        match fault {
            Fault::Page(fault) => match usize::try_from(fault.page_offset()) {
                // The entry that the kernel makes takes a reference over; there is none to forget.
                Ok(page) => fault.give(page),
                Err(_) => Outcome::SIGBUS,
            },
            // Of mappings that were not set up so.
            _ => Outcome::SIGBUS,
        }
    }
}

struct Module {
    _node: Node<Memory>,
}

impl kernel::Module for Module {
    fn init(_: &'static ThisModule) -> Result<Self> {
        let name = c"rust_fault_page".try_into()?;
        Ok(Self {
            _node: Node::new(name, 0o600, ())?,
        })
    }
}
