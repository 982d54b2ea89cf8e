// SPDX-License-Identifier: GPL-2.0

//! Scattered pages in one virtual area of the kernel's, as `vmalloc_user` has them, but charged to the memory cgroup.

use super::{
    alloc::{
        NumaNode,
        Run, //
    },
    area::Area,
    backing::Backing,
    bytes::Bytes,
    cache::Cache,
    frames::{
        Attributes,
        Frames,
        PageRef, //
    },
    helpers::kmap_helper_put_page,
    lease::Hold,
    long_vec::LongVec,
    owner::Pinnable,
    parked::Parked,
    recached::Recached,
    task, //
};
use core::ptr::NonNull;
use kernel::{
    bindings,
    page::PAGE_SIZE,
    prelude::*, //
};

/// Pages of order 0.
///
/// # Invariants
///
/// A reference on each page is ours; each is a folio of its own.
struct Singles(LongVec<*mut bindings::page>);

impl Singles {
    fn all(&self) -> &[PageRef<'_>] {
        // SAFETY: By the type's invariants each is a page with a reference of ours, as long as we live, which is what a
        // `PageRef` is, of the same layout.
        unsafe { core::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len()) }
    }
}

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
            task::cond_resched();
        }
    }
}

/// Scattered pages in one virtual area of the kernel, which `remap_vmalloc_range` can map.
pub struct Vmap {
    /// Dropped first. It maps all of `pages` and nothing else.
    area: Area,
    pages: Recached<Singles>,
}

/// Why a [`Vmap`] could not be made.
#[derive(Debug)]
pub enum VmapError {
    /// No memory.
    NoMemory,
    /// The caller was killed after this many pages.
    Killed(usize),
    /// The cache mode could not be changed.
    Cache(Error),
}

impl Vmap {
    /// `count` zeroed pages of order 0 under one area.
    pub fn new(count: usize, node: NumaNode, cache: Cache) -> Result<Self, VmapError> {
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
            task::cond_resched();
            if task::fatal_signal_pending() {
                return Err(VmapError::Killed(pages.0.len()));
            }
        }
        let pages = Recached::new(pages, cache).map_err(VmapError::Cache)?;
        // SAFETY: The area is dropped before the pages; they have this mode by the invariants of `Recached`.
        let area = unsafe { Area::new(&pages.0, cache) }.map_err(|_| VmapError::NoMemory)?;
        Ok(Self { area, pages })
    }

    /// How many pages.
    pub fn len(&self) -> usize {
        Pinnable::len(&*self.pages)
    }

    /// How the kernel has it mapped: the linear map and the area alike.
    pub fn attributes(&self) -> Attributes<'_> {
        self.pages.attributes()
    }

    /// The page with this index.
    pub fn page(&self, index: usize) -> Option<PageRef<'_>> {
        Pinnable::page(&*self.pages, index)
    }

    fn pfn(&self, index: usize) -> Option<u64> {
        self.page(index).map(PageRef::pfn)
    }

    /// The frames from the page with this index on, at most `most`.
    pub fn frames(&self, index: usize, most: usize) -> Option<Frames<'_>> {
        let first = self.pfn(index)?;
        let mut count = 1;
        while count < most && self.pfn(index + count) == first.checked_add(count as u64) {
            count += 1;
        }
        // SAFETY: Each is the frame of a page of ours, and they follow each other.
        Some(unsafe { Frames::new(first, count) })
    }

    /// The area.
    pub fn area(&self) -> &Area {
        &self.area
    }

    /// Bytes of the page with this index through the area, from `offset` in it, at most `length`.
    pub fn bytes(&self, index: usize, offset: usize, length: usize) -> Option<Bytes<'_>> {
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

    /// Writes the kernel's own bytes to the page with this index, at `offset` in it.
    ///
    /// # Errors
    ///
    /// `EINVAL` where they do not fit there.
    pub fn write(&self, index: usize, offset: usize, from: &[u8]) -> Result {
        let to = self.bytes(index, offset, from.len()).ok_or(EINVAL)?;
        if to.len() != from.len() {
            return Err(EINVAL);
        }
        // SAFETY: There are so many bytes in the slice, which is the kernel's own memory.
        unsafe { to.copy_from_kernel(from.as_ptr()) }
    }

    /// Frees the pages that nobody else refers to. The others stay until then.
    pub fn park(self, parked: &mut Parked) {
        drop(self.area);
        self.pages.park(parked);
    }
}

impl From<VmapError> for Error {
    fn from(error: VmapError) -> Self {
        match error {
            VmapError::NoMemory => ENOMEM,
            VmapError::Killed(_) => EINTR,
            VmapError::Cache(error) => error,
        }
    }
}

impl Backing for Vmap {
    fn len(&self) -> usize {
        Self::len(self)
    }

    fn page(&self, index: usize) -> Option<PageRef<'_>> {
        Self::page(self, index)
    }

    fn frames<'a>(&'a self, _hold: &'a Hold<'_>, index: usize, most: usize) -> Option<Frames<'a>> {
        Self::frames(self, index, most)
    }

    fn attributes(&self) -> Attributes<'_> {
        Self::attributes(self)
    }

    fn bytes<'a>(
        &'a self,
        _hold: &'a Hold<'_>,
        index: usize,
        offset: usize,
        length: usize,
    ) -> Option<Bytes<'a>> {
        Self::bytes(self, index, offset, length)
    }

    fn address(&self) -> Option<NonNull<u8>> {
        Some(self.area.start())
    }

    fn area(&self) -> Option<&Area> {
        Some(&self.area)
    }

    fn pages(&self) -> Option<&[PageRef<'_>]> {
        Some(self.pages.all())
    }
}
