// SPDX-License-Identifier: GPL-2.0

//! vm_insert_pages: single pages from anywhere, all of them mapped in mmap, with a reference each.
//!
//! Every open of /dev/rust_vm_insert_pages has 64 KiB of its own. read and write are the kernel's view of the same bytes.
//! What madvise(MADV_DONTNEED) has thrown away comes back at the next touch: the layer has a fault handler for it.

#[path = "../../../driver/kmap/mod.rs"]
pub mod kmap;

use kernel::prelude::*;
use kmap::{
    alloc::{NumaNode, Run, Runs},
    backing::{Backed, Backing},
    cache::Cache,
    fault::Faults,
    misc::{Mode, Node, NodeVma, OpenFile},
    recached::Recached,
    task,
    vma::Batch,
};

module! {
    type: Module,
    name: "rust_vm_insert_pages",
    authors: ["the mapbuf authors"],
    description: "mmap by vm_insert_pages",
    license: "GPL",
}

const PAGES: usize = 16;

/// What an open has. It is dropped after the last close and the last munmap, those of forked children included.
struct Memory(Recached<Runs>);

impl OpenFile for Memory {
    type Node = ();

    fn open((): &(), _: Mode) -> Result<Self> {
        let mut pages = Runs::new();
        for _ in 0..PAGES {
            pages.push(Run::folio(0, NumaNode::ANY, true).ok_or(ENOMEM)?)?;
        }
        Ok(Self(Recached::new(pages, Cache::Cached)?))
    }

    fn mmap(&self, vma: NodeVma<'_, Self>) -> Result {
        let vma = vma.of_file();
        // It cannot grow, and never becomes executable. Private copies are made of pages as of a file's.
        vma.restrict(false)?;
        vma.insert_pages(|vma| {
            let mut batch = Batch::for_insert()?;
            let mut at = 0;
            while at < vma.pages() {
                at += vma.insert(at, &mut batch)?;
                task::resched_unless_killed()?;
            }
            Ok(())
        })
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
        let name = c"rust_vm_insert_pages".try_into()?;
        Ok(Self {
            _node: Node::new(name, 0o600, ())?,
        })
    }
}
