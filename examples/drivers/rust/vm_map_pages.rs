// SPDX-License-Identifier: GPL-2.0

//! vm_map_pages: an array of pages, all of them mapped in mmap, with a reference each.
//!
//! Every open of /dev/rust_vm_map_pages has 64 KiB of its own, physically contiguous. read and write are the kernel's view
//! of the same bytes.

#[path = "../../../driver/kmap/mod.rs"]
pub mod kmap;

use kernel::prelude::*;
use kmap::{
    alloc::{NumaNode, Run},
    backing::{Backed, Backing},
    cache::Cache,
    fault::Faults,
    misc::{Mode, Node, NodeVma, OpenFile},
    recached::Recached,
};

module! {
    type: Module,
    name: "rust_vm_map_pages",
    authors: ["the mapbuf authors"],
    description: "mmap by vm_map_pages",
    license: "GPL",
}

const PAGES: usize = 16;

/// What an open has. It is dropped after the last close and the last munmap, those of forked children included.
struct Memory(Recached<Run>);

impl OpenFile for Memory {
    type Node = ();

    fn open((): &(), _: Mode) -> Result<Self> {
        // Each page has a count of its own: the kernel inserts single pages.
        let run = Run::split(PAGES, NumaNode::ANY).ok_or(ENOMEM)?;
        Ok(Self(Recached::new(run, Cache::Cached)?))
    }

    fn mmap(&self, vma: NodeVma<'_, Self>) -> Result {
        let vma = vma.of_file();
        // It cannot grow, and never becomes executable. Private copies are made of pages as of a file's.
        vma.restrict(false)?;
        vma.insert_pages(|vma| vma.map_pages())
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
        let name = c"rust_vm_map_pages".try_into()?;
        Ok(Self {
            _node: Node::new(name, 0o600, ())?,
        })
    }
}
