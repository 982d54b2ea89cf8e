// SPDX-License-Identifier: GPL-2.0

//! remap_pfn_range page by page: memory from vmalloc, which is contiguous for the kernel alone.
//!
//! Every open of /dev/rust_maps0 has 64 KiB of its own, with the word 0xaabbccdd at the start of each page. Everybody may
//! read it. read and write are the kernel's view of the same bytes.

#[path = "../../../driver/kmap/mod.rs"]
pub mod kmap;

use kernel::prelude::*;
use kmap::{
    alloc::NumaNode,
    backing::{Backed, Backing},
    cache::Cache,
    fault::Faults,
    misc::{Mode, Node, NodeVma, OpenFile},
    task,
    vmap::Vmap,
};

module! {
    type: Module,
    name: "rust_maps0",
    authors: ["the mapbuf authors"],
    description: "mmap by remap_pfn_range, page by page over vmalloc",
    license: "GPL",
}

const PAGES: usize = 16;
const MAGIC: u32 = 0xaabb_ccdd;

/// What an open has. It is dropped after the last close and the last munmap, those of forked children included.
struct Memory(Vmap);

impl OpenFile for Memory {
    type Node = ();

    fn open((): &(), _: Mode) -> Result<Self> {
        // Zeroed, and charged to the memory cgroup of whoever opens.
        let memory = Vmap::new(PAGES, NumaNode::ANY, Cache::Cached)?;
        for page in 0..PAGES {
            memory.write(page, 0, &MAGIC.to_ne_bytes())?;
        }
        Ok(Self(memory))
    }

    fn mmap(&self, vma: NodeVma<'_, Self>) -> Result {
        let vma = vma.of_file();
        vma.restrict(false)?;
        // Of frames the kernel makes private copies only by showing their numbers to everybody.
        vma.never_copied()?;
        vma.map_frames(|vma| {
            for page in 0..vma.pages() {
                // Counted in the mapping: the layer adds its offset, and finds the frame of that page.
                vma.remap(page, 1)?;
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
        let name = c"rust_maps0".try_into()?;
        Ok(Self {
            _node: Node::new(name, 0o644, ())?,
        })
    }
}
