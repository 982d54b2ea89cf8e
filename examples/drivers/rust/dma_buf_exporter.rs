// SPDX-License-Identifier: GPL-2.0

//! A dma-buf exporter with mmap: memory that other drivers can take, and that programs can map.
//!
//! Every open of /dev/rust_dma_buf_exporter is a buffer of 64 KiB; MY_EXPORT of ../c/dma_buf_exporter.h gives a descriptor of
//! it. Both can be mapped, and a mapping holds the buffer, not the node. read and write are the kernel's view of the same
//! bytes.

#[path = "../../../driver/kmap/mod.rs"]
pub mod kmap;

use kernel::{ioctl::_IO, prelude::*, str::CStr};
use kmap::{
    alloc::NumaNode,
    backing::{Backed, Backing},
    cache::Cache,
    dma_buf::{DmaBuf, Exporter},
    fault::Faults,
    misc::{Mode, Node, NodeVma, OpenFile},
    vma::NewVma,
    vmap::Vmap,
};

module! {
    type: Module,
    name: "rust_dma_buf_exporter",
    authors: ["the mapbuf authors"],
    description: "a dma-buf exporter with mmap",
    license: "GPL",
    imports_ns: ["DMA_BUF"],
}

const NAME: &CStr = c"rust_dma_buf_exporter";
const PAGES: usize = 16;
const MY_EXPORT: u32 = _IO('M' as u32, 3);

/// A buffer. It is dropped after the last descriptor, mapping and attachment of its dma-buf.
struct Buffer(Vmap);

impl Backed for Buffer {
    fn backing(&self) -> &dyn Backing {
        &self.0
    }
}

impl Faults for Buffer {}

// The layer makes a table of its own for each device that maps the buffer, and gives its bytes to the processor and back to
// all of them (DMA_BUF_IOCTL_SYNC).
impl Exporter for Buffer {
    const NAME: &'static CStr = NAME;

    fn mmap(vma: NewVma<'_, Self>) -> Result {
        vma.restrict(false)?;
        // Private copies need no care: the kernel makes them of pages.
        vma.insert_pages(|vma| vma.map_pages())
    }
}

/// What an open has: a reference to the buffer, which a descriptor or a mapping keeps when the node is long closed.
struct Open(DmaBuf<Buffer>);

impl OpenFile for Open {
    type Node = ();

    fn open((): &(), mode: Mode) -> Result<Self> {
        // Zeroed, and charged to the memory cgroup of whoever opens.
        let buffer = Buffer(Vmap::new(PAGES, NumaNode::ANY, Cache::Cached)?);
        // What the node was not opened for, a descriptor of the buffer does not allow either.
        Ok(Self(DmaBuf::export(buffer, mode)?))
    }

    fn ioctl(&self, command: u32, _: usize) -> Result<i32> {
        match command {
            MY_EXPORT => self.0.descriptor(),
            _ => Err(ENOTTY),
        }
    }

    fn mmap(&self, vma: NodeVma<'_, Self>) -> Result {
        // Compares offset and length with the buffer, and has the mapping hold the buffer instead of the node.
        self.0.mmap(vma.into_inner())
    }

    fn memory_at(
        &self,
        at: u64,
        f: impl FnOnce(&dyn Backing, u64) -> Result<usize>,
    ) -> Result<usize> {
        f(self.0.backing(), at)
    }
}

struct Module {
    _node: Node<Open>,
}

impl kernel::Module for Module {
    fn init(_: &'static ThisModule) -> Result<Self> {
        Ok(Self {
            _node: Node::new(NAME.try_into()?, 0o600, ())?,
        })
    }
}
