// SPDX-License-Identifier: GPL-2.0

//! What owners of pages promise to the code that changes the kernel's view of them and to the code that lends them out.

use super::{
    frames::PageRef,
    parked::Parked, //
};
use kernel::bindings;

/// An owner of pages in the linear map.
///
/// # Safety
///
/// The pages are always the same, the owner's alone, and the linear map has all of them.
pub unsafe trait Owner {
    /// How many there are.
    fn len(&self) -> usize;
    /// The page with this index.
    fn page(&self, index: usize) -> Option<*mut bindings::page>;
}

// SAFETY: By the safety requirements of `Pinnable`; none of our pages is highmem (64-bit only).
unsafe impl<M: Pinnable> Owner for M {
    fn len(&self) -> usize {
        Pinnable::len(self)
    }

    fn page(&self, index: usize) -> Option<*mut bindings::page> {
        Pinnable::page(self, index).map(|page| page.as_ptr())
    }
}

/// Pages that others may refer to.
///
/// # Safety
///
/// [`Self::page`] always gives the same pages, and all that the value owns.
pub unsafe trait Pinnable: Send + Sync {
    /// How many there are.
    fn len(&self) -> usize;

    /// The page with this index.
    fn page(&self, index: usize) -> Option<PageRef<'_>>;

    /// Frees the pages that nobody else refers to. The others stay until then.
    fn park(self, parked: &mut Parked);
}
