// SPDX-License-Identifier: GPL-2.0

//! remap_pfn_range: one physically contiguous run, entered by frame number in mmap.
//!
//! Every open of /dev/rust_remap_pfn_range has 64 KiB of its own. read and write are the kernel's view of the same bytes.
//! For memory that nobody will ever pin (O_DIRECT, io_uring, RDMA); where somebody might, take vm_map_pages.rs.

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
    name: "rust_remap_pfn_range",
    authors: ["the mapbuf authors"],
    description: "mmap by remap_pfn_range: a contiguous run",
    license: "GPL",
}

/// As a power of two of pages.
const ORDER: u32 = 4;

/// What an open has. It is dropped after the last close and the last munmap, those of forked children included.
struct Memory(Recached<Run>);

impl OpenFile for Memory {
    type Node = ();

    fn open((): &(), _: Mode) -> Result<Self> {
        // Zeroed, since it goes to user space, and charged to the memory cgroup of whoever opens.
        let run = Run::folio(ORDER, NumaNode::ANY, true).ok_or(ENOMEM)?;
        Ok(Self(Recached::new(run, Cache::Cached)?))
    }

    fn mmap(&self, vma: NodeVma<'_, Self>) -> Result {
        let vma = vma.of_file();
        // It cannot grow, and never becomes executable.
        vma.restrict(false)?;
        // Of frames the kernel makes private copies only by showing their numbers to everybody.
        vma.never_copied()?;
        // What is beyond the memory has no frames, so the offset and the length need no check of ours.
        vma.map_frames(|vma| vma.remap(0, vma.pages()))
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
        let name = c"rust_remap_pfn_range".try_into()?;
        Ok(Self {
            _node: Node::new(name, 0o600, ())?,
        })
    }
}
