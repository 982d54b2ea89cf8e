// SPDX-License-Identifier: GPL-2.0

//! dma_mmap_coherent: DMA-coherent memory behind an ioctl, mapped by its id: mmap(..., fd, id << PAGE_SHIFT).
//!
//! The ids belong to the open file. A buffer lives until its id and its last mapping are gone, in whichever order.
//! pread and pwrite are the kernel's view, at the offset (id << 32) + byte. Programs include ../c/dma_mmap_coherent.h.

#[path = "../../../driver/kmap/mod.rs"]
pub mod kmap;

use kernel::{
    ioctl::{_IO, _IOW},
    new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    sync::{Arc, Mutex},
    uaccess::{UserPtr, UserSlice},
};
use kmap::{
    backing::{Backed, Backing},
    dma::{CoherentBlock, SystemDevice},
    fault::Faults,
    misc::{Mode, Node, NodeVma, OpenFile},
};

module! {
    type: Module,
    name: "rust_dma_mmap_coherent",
    authors: ["the mapbuf authors"],
    description: "mmap by dma_mmap_coherent, of buffers that an ioctl allocates",
    license: "GPL",
}

const MAX_BYTES: u64 = 4 << 20;
/// No program can take more than 16 * 4 MiB for each file that it may open.
const IDS: usize = 16;

/// As struct my_alloc: bytes, and flags (none yet, so 0).
type MyAlloc = (u64, u64);
const MY_ALLOC: u32 = _IOW::<MyAlloc>('M' as u32, 1);
/// The argument is the id itself.
const MY_FREE: u32 = _IO('M' as u32, 2);

/// What the device is told is its DMA address. No physical one: behind an IOMMU it is something else.
struct Buffer(CoherentBlock);

impl Backed for Buffer {
    // Each VMA has a reference; so have the id, and who reads or writes.
    const COUNTED: bool = true;

    fn backing(&self) -> &dyn Backing {
        &self.0
    }
}

impl Faults for Buffer {}

/// At an id's place less one, its buffer.
type Table = [Option<Arc<Buffer>>; IDS];

/// What an open has: its ids, and the device that does the DMA. A driver of a real one has that from probe.
struct Ids {
    device: Arc<SystemDevice>,
    buffers: Pin<KBox<Mutex<Table>>>,
}

impl Ids {
    /// From 1 on: the offset 0, which programs map when they have forgotten theirs, is no buffer.
    fn find(&self, id: u64) -> Result<Arc<Buffer>> {
        let at = usize::try_from(id)?.checked_sub(1).ok_or(ENOENT)?;
        self.buffers.lock().get(at).cloned().flatten().ok_or(ENOENT)
    }

    fn alloc(&self, argument: usize) -> Result<i32> {
        let from = UserSlice::new(UserPtr::from_addr(argument), size_of::<MyAlloc>());
        let mut reader = from.reader();
        let (bytes, flags) = (reader.read::<u64>()?, reader.read::<u64>()?);
        if bytes == 0 || bytes > MAX_BYTES || flags != 0 {
            return Err(EINVAL);
        }
        let pages = bytes.div_ceil(PAGE_SIZE as u64) as usize;
        // Always zeroed. The size is the user's: an error if there is no such run, not a warning.
        let block = CoherentBlock::new(self.device.clone(), pages).ok_or(ENOMEM)?;
        let buffer = Arc::new(Buffer(block), GFP_KERNEL_ACCOUNT)?;
        let mut buffers = self.buffers.lock();
        let free = buffers.iter().position(Option::is_none).ok_or(EBUSY)?;
        buffers[free] = Some(buffer);
        Ok(free as i32 + 1)
    }
}

impl OpenFile for Ids {
    type Node = Arc<SystemDevice>;

    fn open(device: &Arc<SystemDevice>, _: Mode) -> Result<Self> {
        let buffers = new_mutex!([const { None }; IDS]);
        let buffers = KBox::pin_init(buffers, GFP_KERNEL_ACCOUNT)?;
        Ok(Self {
            device: device.clone(),
            buffers,
        })
    }

    fn ioctl(&self, command: u32, argument: usize) -> Result<i32> {
        match command {
            MY_ALLOC => self.alloc(argument),
            MY_FREE => {
                let at = argument.checked_sub(1).ok_or(ENOENT)?;
                let buffer = self.buffers.lock().get_mut(at).and_then(Option::take);
                // Mappings have references of their own.
                buffer.map(|_| 0).ok_or(ENOENT)
            }
            _ => Err(ENOTTY),
        }
    }

    fn mmap(&self, vma: NodeVma<'_, Self>) -> Result {
        let buffer = self.find(vma.page_offset())?;
        // From its first page on: for dma_mmap_coherent the offset is one in the buffer, and an id there is none.
        let vma = vma.of(buffer, 0);
        vma.restrict(false)?;
        // Of frames the kernel makes private copies only by showing their numbers to everybody.
        vma.never_copied()?;
        vma.map_frames(|vma| vma.dma())
    }

    fn memory_at(
        &self,
        at: u64,
        f: impl FnOnce(&dyn Backing, u64) -> Result<usize>,
    ) -> Result<usize> {
        f(&self.find(at >> 32)?.0, at & u64::from(u32::MAX))
    }
}

struct Module {
    _node: Node<Ids>,
}

impl kernel::Module for Module {
    fn init(_: &'static ThisModule) -> Result<Self> {
        let device = Arc::new(
            SystemDevice::register(c"rust_dma_mmap_coherent")?,
            GFP_KERNEL,
        )?;
        let name = c"rust_dma_mmap_coherent".try_into()?;
        Ok(Self {
            _node: Node::new(name, 0o600, device)?,
        })
    }
}
