// SPDX-License-Identifier: GPL-2.0

//! Scattered pages at one address of the kernel's.

use super::{
    alloc::{
        NumaNode,
        Run, //
    },
    area::Area,
    backing::Backing,
    bytes::Bytes,
    cache::Cache,
    caller,
    counts::{
        Counted,
        Sort, //
    },
    frames::{
        Attributes,
        Frames,
        PageRef, //
    },
    long_vec::LongVec,
    owner::Pinnable,
    parked::Parked,
    recached::Recached, //
};
use crate::kmap::helpers::kmap_helper_put_page;
use core::ptr::NonNull;
use kernel::{
    bindings,
    page::PAGE_SIZE,
    prelude::*, //
};

/// The pages of a buffer at one address, for an importer.
pub(crate) struct KernelMap {
    area: Area,
    _counted: Counted,
}

impl KernelMap {
    /// Maps all of them.
    ///
    /// A fatal signal must not make this fail: `dma_buf_vmap` warns about every error.
    ///
    /// # Safety
    ///
    /// The memory outlives the mapping.
    pub(super) unsafe fn new(memory: &dyn Backing) -> Result<Self> {
        let flags = GFP_KERNEL | __GFP_NOWARN;
        let mut pages = LongVec::with_capacity(memory.len(), flags)?;
        for index in 0..memory.len() {
            let page = memory.page(index).ok_or(EINVAL)?;
            pages.push(page.as_ptr(), flags)?;
            caller::cond_resched();
        }
        // SAFETY: By the safety requirements, and by what `Attributes` says of the linear map.
        let area = unsafe { Area::new(&pages, memory.attributes().cache())? };
        Ok(Self {
            area,
            _counted: Counted::new(Sort::KernelAddress),
        })
    }

    /// Where they are.
    pub(super) fn address(&self) -> NonNull<u8> {
        self.area.start()
    }
}

/// Pages of order 0.
///
/// # Invariants
///
/// A reference on each page is ours; each is a folio of its own.
struct Singles(LongVec<*mut bindings::page>);

// SAFETY: Pages belong to no thread.
unsafe impl Send for Singles {}
// SAFETY: Methods on a shared reference only read what never changes.
unsafe impl Sync for Singles {}

// SAFETY: Once it is shared nothing is pushed, so the pages stay; they are all that there is.
unsafe impl Pinnable for Singles {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn page(&self, index: usize) -> Option<PageRef<'_>> {
        // SAFETY: By the type's invariants it is a page with a reference of ours, as long as we live.
        unsafe { PageRef::new(*self.0.get(index)?) }
    }

    fn park(mut self, parked: &mut Parked) {
        while let Some(page) = self.0.pop() {
            // SAFETY: By the type's invariants it is a folio, and the reference that is handed over was ours.
            unsafe { parked.add(page) };
        }
    }
}

impl Drop for Singles {
    fn drop(&mut self) {
        while let Some(page) = self.0.pop() {
            // SAFETY: By the type's invariants the reference was ours.
            unsafe { kmap_helper_put_page(page) };
            caller::cond_resched();
        }
    }
}

/// Scattered pages in one virtual area of the kernel, which `remap_vmalloc_range` can map.
pub(crate) struct Vmap {
    /// Dropped first. It maps all of `pages` and nothing else.
    area: Area,
    pages: Recached<Singles>,
}

/// Why a [`Vmap`] could not be made.
pub(crate) enum VmapError {
    /// No memory.
    NoMemory,
    /// The caller was killed after this many pages.
    Killed(usize),
    /// The cache mode could not be changed.
    Cache(Error),
}

impl Vmap {
    /// `count` zeroed pages of order 0 under one area.
    pub(crate) fn new(count: usize, node: NumaNode, cache: Cache) -> Result<Self, VmapError> {
        let flags = GFP_KERNEL_ACCOUNT | __GFP_NOWARN;
        let pages = LongVec::with_capacity(count, flags).map_err(|_| VmapError::NoMemory)?;
        // INVARIANT: There are none yet.
        let mut pages = Singles(pages);
        while pages.0.len() < count {
            let page = Run::folio(0, node, true).ok_or(VmapError::NoMemory)?;
            // INVARIANT: The run's reference becomes ours. The capacity is there, so none is lost.
            if !pages.0.push_within_capacity(page.into_page()) {
                return Err(VmapError::NoMemory);
            }
            caller::cond_resched();
            if caller::fatal_signal_pending() {
                return Err(VmapError::Killed(pages.0.len()));
            }
        }
        let pages = Recached::new(pages, cache).map_err(VmapError::Cache)?;
        // SAFETY: The area is dropped before the pages; they have this mode by the invariants of `Recached`.
        let area = unsafe { Area::new(&pages.0, cache) }.map_err(|_| VmapError::NoMemory)?;
        Ok(Self { area, pages })
    }

    /// How many pages.
    pub(crate) fn len(&self) -> usize {
        Pinnable::len(&*self.pages)
    }

    /// How the kernel has it mapped: the linear map and the area alike.
    pub(crate) fn attributes(&self) -> Attributes {
        self.pages.attributes()
    }

    /// The page with this index.
    pub(crate) fn page(&self, index: usize) -> Option<PageRef<'_>> {
        Pinnable::page(&*self.pages, index)
    }

    fn pfn(&self, index: usize) -> Option<u64> {
        self.page(index).map(PageRef::pfn)
    }

    /// The frames from the page with this index on, at most `most`.
    pub(crate) fn frames(&self, index: usize, most: usize) -> Option<Frames<'_>> {
        let first = self.pfn(index)?;
        let mut count = 1;
        while count < most && self.pfn(index + count) == first.checked_add(count as u64) {
            count += 1;
        }
        // SAFETY: Each is the frame of a page of ours, and they follow each other.
        Some(unsafe { Frames::new(first, count) })
    }

    /// The area.
    pub(crate) fn area(&self) -> &Area {
        &self.area
    }

    /// Bytes of the page with this index through the area, from `offset` in it, at most `length`.
    pub(crate) fn bytes(&self, index: usize, offset: usize, length: usize) -> Option<Bytes<'_>> {
        if index >= self.len() {
            return None;
        }
        let length = length.min(PAGE_SIZE.checked_sub(offset)?);
        // SAFETY: The area maps all pages as long as we live, and the bytes stay in this one.
        Some(unsafe {
            let start = self.area.start().as_ptr();
            Bytes::new(start.add(index * PAGE_SIZE + offset), length)
        })
    }

    /// Frees the pages that nobody else refers to. The others stay until then.
    pub(crate) fn park(self, parked: &mut Parked) {
        drop(self.area);
        self.pages.park(parked);
    }
}
