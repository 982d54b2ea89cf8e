// SPDX-License-Identifier: GPL-2.0

//! A virtual area of the kernel's.

use super::cache::Cache;
use super::helpers::*;
use core::ptr::NonNull;
use kernel::{
    bindings,
    prelude::*, //
};

/// A virtual area.
///
/// # Invariants
///
/// `start` is what `vmap` gave for so many pages, with `VM_MAP | VM_USERMAP`, and nothing has unmapped it.
pub struct Area {
    start: NonNull<u8>,
    pages: usize,
}

// SAFETY: Areas belong to no thread.
unsafe impl Send for Area {}
// SAFETY: There is nothing to change through a shared reference.
unsafe impl Sync for Area {}

impl Area {
    /// Maps pages one after the other.
    ///
    /// # Safety
    ///
    /// They outlive the area, and the linear map has them with `cache`.
    pub(crate) unsafe fn new(pages: &[*mut bindings::page], cache: Cache) -> Result<Self> {
        let count = u32::try_from(pages.len())?;
        // SAFETY: By the safety requirements these are so many pages; without `VM_MAP_PUT_PAGES` the list is only read.
        let start = unsafe { kmap_helper_vmap(pages.as_ptr().cast_mut(), count, cache.number()) };
        // INVARIANT: `vmap` gave it.
        Ok(Self {
            start: NonNull::new(start.cast()).ok_or(ENOMEM)?,
            pages: pages.len(),
        })
    }

    /// Where it begins.
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// How many pages it maps.
    pub fn pages(&self) -> usize {
        self.pages
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: By the type's invariants.
        unsafe { kmap_helper_vunmap(self.start.as_ptr().cast()) };
    }
}
