// SPDX-License-Identifier: GPL-2.0

//! remap_vmalloc_range: memory from vmalloc, all of it at once.
//!
//! Every open of /dev/rust_remap_vmalloc_range has 64 KiB of its own. read and write are the kernel's view of the same
//! bytes. What madvise(MADV_DONTNEED) has thrown away comes back at the next touch: the layer has a fault handler for it.

#[path = "../../../driver/kmap/mod.rs"]
pub mod kmap;

use kernel::prelude::*;
use kmap::{
    alloc::NumaNode,
    backing::{Backed, Backing},
    cache::Cache,
    fault::Faults,
    misc::{Mode, Node, NodeVma, OpenFile},
    vmap::Vmap,
};

module! {
    type: Module,
    name: "rust_remap_vmalloc_range",
    authors: ["the mapbuf authors"],
    description: "mmap by remap_vmalloc_range",
    license: "GPL",
}

const PAGES: usize = 16;

/// What an open has. It is dropped after the last close and the last munmap, those of forked children included.
struct Memory(Vmap);

impl OpenFile for Memory {
    type Node = ();

    fn open((): &(), _: Mode) -> Result<Self> {
        // Zeroed, and with VM_USERMAP, without which the kernel refuses to map it.
        Ok(Self(Vmap::new(PAGES, NumaNode::ANY, Cache::Cached)?))
    }

    fn mmap(&self, vma: NodeVma<'_, Self>) -> Result {
        let vma = vma.of_file();
        // It cannot grow, and never becomes executable. Private copies are made of pages as of a file's.
        vma.restrict(false)?;
        vma.insert_pages(|vma| vma.remap_vmalloc())
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
        let name = c"rust_remap_vmalloc_range".try_into()?;
        Ok(Self {
            _node: Node::new(name, 0o600, ())?,
        })
    }
}
