// SPDX-License-Identifier: GPL-2.0

//! What `mmap` of a node of ours is asked to set up.

use super::vma::FileVma;
use core::{
    ops::Deref,
    ptr::NonNull, //
};
use kernel::bindings;

/// A VMA for which `mmap` of one of our nodes was called: not yet visible to anybody else, and without a buffer.
///
/// # Invariants
///
/// `shown` is a dma-buf that the VMA's file holds until its release, and whose address space the file has.
pub(crate) struct NodeVma<'a> {
    vma: FileVma<'a>,
    shown: Option<NonNull<bindings::dma_buf>>,
}

impl NodeVma<'_> {
    /// # Safety
    ///
    /// The pointer is the VMA that the running `mmap` operation was given, and that operation uses it in no other way.
    /// The invariants of the type hold for `shown`.
    pub(super) unsafe fn from_raw(
        vma: *mut bindings::vm_area_struct,
        shown: Option<NonNull<bindings::dma_buf>>,
    ) -> Self {
        // SAFETY: By the safety requirements.
        let vma = unsafe { FileVma::from_raw(vma) };
        // INVARIANT: By the safety requirements.
        Self { vma, shown }
    }

    /// Whether its file is one of this dma-buf alone.
    pub(super) fn is_of(&self, buffer: NonNull<bindings::dma_buf>) -> bool {
        self.shown == Some(buffer)
    }
}

impl<'a> Deref for NodeVma<'a> {
    type Target = FileVma<'a>;

    fn deref(&self) -> &FileVma<'a> {
        &self.vma
    }
}
