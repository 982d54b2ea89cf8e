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
use kernel::{
    bindings,
    prelude::*,
    types::Opaque, //
};

/// Folios, with a reference of ours on each.
///
/// # Invariants
///
/// `list` is the head of a list, by `folio->lru`, of folios with `pages` pages together. No list of the kernel's has
/// them, and a reference on each is ours.
pub struct Parked {
    list: KBox<Opaque<bindings::list_head>>,
    pages: usize,
}

// SAFETY: Folios belong to no thread.
unsafe impl Send for Parked {}
// SAFETY: A shared reference only reads the number.
unsafe impl Sync for Parked {}

impl Parked {
    /// None yet.
    pub fn new() -> Result<Self> {
        let list = KBox::new(Opaque::zeroed(), GFP_KERNEL_ACCOUNT)?;
        // SAFETY: The head is ours, and stays where it is: in a box.
        unsafe { kmap_helper_init_list(list.get()) };
        // INVARIANT: The list is empty.
        Ok(Self { list, pages: 0 })
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
        self.pages += unsafe { kmap_helper_park(self.list.get(), page) };
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
        self.pages = unsafe { kmap_helper_sweep_parked(self.list.get()) };
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        // SAFETY: By the type's invariants the references are ours.
        unsafe { kmap_helper_drop_parked(self.list.get()) };
    }
}
