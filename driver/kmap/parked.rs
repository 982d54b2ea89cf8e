// SPDX-License-Identifier: GPL-2.0

//! Pages of freed buffers to which somebody else still refers: a pipe, a socket, an `io_uring`, a device.
//!
//! We keep our own reference until it is the only one, so the pages cannot become anybody else's meanwhile, and we know
//! when they are free. They are on a list linked by `folio->lru`, which the owner of a folio may use while it is on no LRU
//! list, so nothing need be allocated.

use super::{
    helpers::*, //
    task,
};
use kernel::bindings;

/// Folios, with a reference of ours on each.
///
/// # Invariants
///
/// `first` is the first of a list of folios with `pages` pages together, or null. `folio->lru.next` is the next one. No list
/// of the kernel's has them, and a reference on each is ours.
pub struct Parked {
    first: *mut bindings::folio,
    pages: usize,
}

// SAFETY: Folios belong to no thread.
unsafe impl Send for Parked {}
// SAFETY: A shared reference only reads the number.
unsafe impl Sync for Parked {}

impl Parked {
    /// None yet.
    pub const fn new() -> Self {
        // INVARIANT: The list is empty.
        Self {
            first: core::ptr::null_mut(),
            pages: 0,
        }
    }

    /// Frees a folio if nobody else refers to it; keeps it otherwise.
    ///
    /// # Safety
    ///
    /// The page begins a folio, on no list and not in the page cache, and a reference on it is handed over. No mapping,
    /// and nothing else that a new reference could be taken from without having one, leads to it.
    pub(crate) unsafe fn add(&mut self, page: *mut bindings::page) {
        // SAFETY: By the safety requirements the folio and its `lru` are ours.
        // INVARIANT: It returns the pages of a folio that it has put on the list.
        self.pages += unsafe { kmap_helper_park(&mut self.first, page) };
        task::cond_resched();
    }

    /// How many pages are kept.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// Frees the folios that nobody else refers to any more.
    pub fn sweep(&mut self) {
        // SAFETY: By the type's invariants; no new reference comes to a folio that has ours only.
        // INVARIANT: It returns the pages that are left.
        self.pages = unsafe { kmap_helper_sweep_parked(&mut self.first) };
    }
}

impl Default for Parked {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        // SAFETY: By the type's invariants the references are ours.
        unsafe { kmap_helper_drop_parked(self.first) };
    }
}
