// SPDX-License-Identifier: GPL-2.0

//! mmap_prepare: the driver describes the mapping, and the kernel carries it out. Linux 7.2 and later.
//!
//! Every open of /dev/rust_mmap_prepare-pages and of /dev/rust_mmap_prepare-frames has 64 KiB of its own; the one maps them
//! as pages (vm_map_pages.rs with the new callback), the other as frames (remap_pfn_range.rs). read and write are the
//! kernel's view.

#[path = "../../../driver/kmap/mod.rs"]
pub mod kmap;

use kernel::prelude::*;
use kmap::{
    alloc::{NumaNode, Run},
    backing::{Backed, Backing},
    cache::Cache,
    fault::Faults,
    misc::{Mode, Node, OpenFile, Prepared},
    prepare::NewDesc,
    recached::Recached,
    vmap::Vmap,
};

module! {
    type: Module,
    name: "rust_mmap_prepare",
    authors: ["the mapbuf authors"],
    description: "mmap by mmap_prepare and its actions",
    license: "GPL",
}

/// As a power of two of pages.
const ORDER: u32 = 4;

/// What an open of the one node has: single pages, in an array that stays until the action is done. It is dropped after the
/// last close and the last munmap, those of forked children included.
struct Pages(Vmap);

impl OpenFile for Pages {
    type Node = ();

    fn open((): &(), _: Mode) -> Result<Self> {
        // Zeroed, since it goes to user space, and charged to the memory cgroup of whoever opens.
        let pages = Vmap::new(1 << ORDER, NumaNode::ANY, Cache::Cached)?;
        Ok(Self(pages))
    }

    fn memory_at(
        &self,
        at: u64,
        f: impl FnOnce(&dyn Backing, u64) -> Result<usize>,
    ) -> Result<usize> {
        f(&self.0, at)
    }
}

impl Backed for Pages {
    fn backing(&self) -> &dyn Backing {
        &self.0
    }
}

impl Faults for Pages {}

impl Prepared for Pages {
    fn mmap_prepare(desc: NewDesc<'_, Self>) -> Result {
        // Offset and length are compared with the memory, and the mapping cannot grow. Private copies need no care: the
        // kernel makes them of pages.
        desc.map_pages()
    }
}

/// What an open of the other node has: a contiguous run.
struct Frames(Recached<Run>);

impl OpenFile for Frames {
    type Node = ();

    fn open((): &(), _: Mode) -> Result<Self> {
        let run = Run::folio(ORDER, NumaNode::ANY, true).ok_or(ENOMEM)?;
        Ok(Self(Recached::new(run, Cache::Cached)?))
    }

    fn memory_at(
        &self,
        at: u64,
        f: impl FnOnce(&dyn Backing, u64) -> Result<usize>,
    ) -> Result<usize> {
        f(&self.0, at)
    }
}

impl Backed for Frames {
    fn backing(&self) -> &dyn Backing {
        &self.0
    }
}

impl Faults for Frames {}

impl Prepared for Frames {
    fn mmap_prepare(desc: NewDesc<'_, Self>) -> Result {
        // A private mapping is refused if it is writable, and stays read-only if it is not.
        desc.map_frames()
    }
}

struct Module {
    _pages: Node<Pages>,
    _frames: Node<Frames>,
}

impl kernel::Module for Module {
    fn init(_: &'static ThisModule) -> Result<Self> {
        let pages = c"rust_mmap_prepare-pages".try_into()?;
        let frames = c"rust_mmap_prepare-frames".try_into()?;
        Ok(Self {
            _pages: Node::prepared(pages, 0o600, ())?,
            _frames: Node::prepared(frames, 0o600, ())?,
        })
    }
}
