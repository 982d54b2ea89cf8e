// SPDX-License-Identifier: GPL-2.0

//! A device of our own, and memory that is coherent for it.
//!
//! The kernel crate's `dma::Coherent` wants a device that is bound to a driver; ours is a platform device
//! that exists only so that the DMA API has a device to allocate for.

use super::cache::Cache;
use super::{
    bytes::Bytes,
    frames::{
        Attributes,
        Frames, //
    },
    helpers::*, //
};
use core::ptr::NonNull;
use kernel::{
    bindings,
    error::from_err_ptr,
    page::PAGE_SIZE,
    prelude::*,
    sync::Arc, //
};

/// The platform device of the `system` node, with a DMA mask of 64 bits.
///
/// # Invariants
///
/// Points to a registered platform device that is ours to unregister.
pub struct SystemDevice(NonNull<bindings::platform_device>);

// SAFETY: A device belongs to no thread.
unsafe impl Send for SystemDevice {}
// SAFETY: The DMA API does its own locking.
unsafe impl Sync for SystemDevice {}

impl SystemDevice {
    /// Registers it under a name.
    pub fn register(name: &CStr) -> Result<Self> {
        let info = bindings::platform_device_info {
            name: name.as_char_ptr(),
            id: bindings::PLATFORM_DEVID_NONE,
            dma_mask: u64::MAX,
            ..pin_init::zeroed()
        };
        // SAFETY: The description is valid, and copied before the function returns.
        let device = from_err_ptr(unsafe { bindings::platform_device_register_full(&info) })?;
        // INVARIANT: It was just registered.
        Ok(Self(NonNull::new(device).ok_or(ENODEV)?))
    }

    fn device(&self) -> *mut bindings::device {
        // SAFETY: By the type's invariants the pointer is valid.
        unsafe { &raw mut (*self.0.as_ptr()).dev }
    }
}

impl Drop for SystemDevice {
    fn drop(&mut self) {
        // SAFETY: By the type's invariants; every block of coherent memory keeps us alive, so none is left.
        unsafe { bindings::platform_device_unregister(self.0.as_ptr()) };
    }
}

/// Zeroed DMA-coherent memory.
///
/// # Invariants
///
/// `size` bytes at `address` came from `dma_alloc_attrs` for `device`, which calls them `dma`, and can be given back for it
/// until this is dropped.
pub struct CoherentBlock {
    device: *mut bindings::device,
    /// Keeps the device, where that is ours.
    _system: Option<Arc<SystemDevice>>,
    address: NonNull<u8>,
    dma: bindings::dma_addr_t,
    size: usize,
    /// Whether its pages are physically contiguous.
    one_run: bool,
    /// How the kernel has it mapped.
    cache: Cache,
}

// SAFETY: Memory belongs to no thread.
unsafe impl Send for CoherentBlock {}
// SAFETY: Methods on a shared reference only read what never changes.
unsafe impl Sync for CoherentBlock {}

impl CoherentBlock {
    /// `pages` pages, or `None`.
    pub fn new(device: Arc<SystemDevice>, pages: usize) -> Option<Self> {
        let pointer = device.device();
        // SAFETY: The block keeps the device, which is ours.
        unsafe { Self::of(pointer, Some(device), pages) }
    }

    /// # Safety
    ///
    /// The device has DMA masks, and may be given memory back for as long as the block lives.
    pub(crate) unsafe fn of(
        device: *mut bindings::device,
        system: Option<Arc<SystemDevice>>,
        pages: usize,
    ) -> Option<Self> {
        let size = pages.checked_mul(PAGE_SIZE)?;
        let mut dma = 0;
        let gfp = bindings::GFP_KERNEL
            | bindings::__GFP_NOWARN
            | 1 << bindings::___GFP_HARDWALL_BIT
            | 1 << bindings::___GFP_RETRY_MAYFAIL_BIT;
        // SAFETY: By the safety requirements; the memory comes zeroed, as always from this function.
        let address = unsafe { bindings::dma_alloc_attrs(device, size, &mut dma, gfp, 0) };
        // INVARIANT: The allocation succeeded.
        let mut this = Self {
            address: NonNull::new(address.cast())?,
            device,
            _system: system,
            dma,
            size,
            one_run: false,
            // On x86 coherent memory is cached, unless the device has memory of its own.
            // SAFETY: By the safety requirements.
            cache: match unsafe { kmap_helper_has_pool(device) } {
                true => Cache::WriteCombined,
                false => Cache::Cached,
            },
        };
        this.one_run = this.frames(0, pages)?.count() == pages;
        Some(this)
    }

    /// Whether its pages are physically contiguous.
    pub fn one_run(&self) -> bool {
        self.one_run
    }

    /// The kernel's address of it all.
    pub fn address(&self) -> NonNull<u8> {
        self.address
    }

    /// How many pages.
    pub fn len(&self) -> usize {
        self.size / PAGE_SIZE
    }

    /// The device's address of a page.
    pub fn dma_address(&self, index: usize) -> u64 {
        self.dma.wrapping_add((index * PAGE_SIZE) as u64)
    }

    /// Page frame number of a page. This asks for the CPU's address: the device's may mean something else.
    fn pfn(&self, index: usize) -> Option<u64> {
        if index >= self.len() {
            return None;
        }
        // SAFETY: The address lies in the block, whose memory is either in the linear map or in vmalloc
        // space; the helper tells them apart.
        let pfn = unsafe {
            let address = self.address.as_ptr().add(index * PAGE_SIZE);
            kmap_helper_virt_to_pfn(address.cast())
        };
        Some(pfn as u64)
    }

    /// The frames from a page to the end of its physically contiguous run, at most `most`; behind an IOMMU there may be several runs.
    pub fn frames(&self, index: usize, most: usize) -> Option<Frames<'_>> {
        let first = self.pfn(index)?;
        let mut count = match self.one_run {
            true => most.min(self.len() - index),
            false => 1,
        };
        while count < most && self.pfn(index + count) == first.checked_add(count as u64) {
            count += 1;
        }
        // SAFETY: They are the frames of the block's pages, and they follow each other.
        Some(unsafe { Frames::new(first, count) })
    }

    /// How the kernel has it mapped.
    pub fn attributes(&self) -> Attributes<'_> {
        // SAFETY: By the type's invariants the address is of the block.
        unsafe { Attributes::new(self.cache, self.address.as_ptr()) }
    }

    /// Bytes of a page, from `offset` in it, at most `length`.
    pub fn bytes(&self, index: usize, offset: usize, length: usize) -> Option<Bytes<'_>> {
        if index >= self.len() {
            return None;
        }
        let length = length.min(PAGE_SIZE.checked_sub(offset)?);
        // SAFETY: The block is mapped as long as we live, and the bytes stay in the page.
        Some(unsafe {
            Bytes::new(
                self.address.as_ptr().add(index * PAGE_SIZE + offset),
                length,
            )
        })
    }

    pub(crate) fn raw(&self) -> (*mut bindings::device, *mut u8, bindings::dma_addr_t, usize) {
        (self.device, self.address.as_ptr(), self.dma, self.size)
    }
}

impl Drop for CoherentBlock {
    fn drop(&mut self) {
        let (device, address, dma, size) = self.raw();
        // SAFETY: By the type's invariants.
        unsafe { kmap_helper_free_coherent(device, size, address.cast(), dma) };
    }
}
