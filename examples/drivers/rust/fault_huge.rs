// SPDX-License-Identifier: GPL-2.0

//! huge_fault: entries of 2 MiB where a mapping has room for one, small ones elsewhere.
//!
//! Every open of /dev/rust_fault_huge has a folio of 2 MiB. read and write are the kernel's view of the same bytes.

#[path = "../../../driver/kmap/mod.rs"]
pub mod kmap;

use kernel::prelude::*;
use kmap::{
    alloc::{self, NumaNode, Run},
    backing::{Backed, Backing},
    cache::Cache,
    fault::Faults,
    misc::{Mode, Node, NodeVma, OpenFile},
    recached::Recached,
    vma::Answer,
};

module! {
    type: Module,
    name: "rust_fault_huge",
    authors: ["the mapbuf authors"],
    description: "mmap by a fault handler that makes entries of 2 MiB",
    license: "GPL",
}

/// What an open has. It is dropped after the last close and the last munmap, those of forked children included.
struct Memory(Recached<Run>);

impl OpenFile for Memory {
    type Node = ();

    fn open((): &(), _: Mode) -> Result<Self> {
        // Zeroed, and one folio: its order is that of an entry, and so is its place in physical memory.
        let run = Run::folio(alloc::pmd_order(), NumaNode::ANY, true).ok_or(ENOMEM)?;
        Ok(Self(Recached::new(run, Cache::Cached)?))
    }

    fn mmap(&self, vma: NodeVma<'_, Self>) -> Result {
        let vma = vma.of_file();
        vma.restrict(false)?;
        // A private mapping gets small entries, of which the kernel makes copies.
        vma.answer_faults(Answer::HugePage)
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

impl Faults for Memory {}

struct Module {
    _node: Node<Memory>,
}

impl kernel::Module for Module {
    fn init(_: &'static ThisModule) -> Result<Self> {
        let name = c"rust_fault_huge".try_into()?;
        Ok(Self {
            _node: Node::new(name, 0o600, ())?,
        })
    }
}
