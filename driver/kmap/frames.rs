// SPDX-License-Identifier: GPL-2.0

//! Pages and page frames of buffers, and how the kernel itself has them mapped. Only their owners make these values,
//! which live no longer than a borrow of the owner.

use super::{
    cache::Cache,
    helpers::*,
    lease::{
        Hold,
        Lease, //
    }, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::bindings;

/// A page of a buffer. It can be mapped and pinned like a file's, and whoever holds a reference to it keeps its charge.
///
/// # Invariants
///
/// Points to a `struct page` of a folio, with memory behind it, on which somebody holds a reference for `'a`.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct PageRef<'a>(NonNull<bindings::page>, PhantomData<&'a ()>);

impl PageRef<'_> {
    /// # Safety
    ///
    /// The invariants of the type.
    pub(crate) unsafe fn new(page: *mut bindings::page) -> Option<Self> {
        // INVARIANT: By the safety requirements.
        NonNull::new(page).map(|page| Self(page, PhantomData))
    }

    pub(crate) fn as_ptr(self) -> *mut bindings::page {
        self.0.as_ptr()
    }

    /// Its page frame number.
    pub fn pfn(self) -> u64 {
        // SAFETY: By the type's invariants it is a page.
        unsafe { kmap_helper_page_to_pfn(self.as_ptr()) as u64 }
    }

    /// Whether it is the first page of a folio of `count` pages.
    pub fn begins_folio(self, count: usize) -> bool {
        // SAFETY: By the type's invariants it is a page of a folio that stays one.
        unsafe { kmap_helper_begins_folio(self.as_ptr(), count) }
    }
}

/// Contiguous page frames of a buffer. They are mapped by number: nobody counts their users.
///
/// # Invariants
///
/// `count` frames from `first` on belong to somebody who keeps them for `'a`.
#[derive(Clone, Copy)]
pub struct Frames<'a> {
    first: u64,
    count: usize,
    _owner: PhantomData<&'a ()>,
}

impl Frames<'_> {
    /// # Safety
    ///
    /// The invariants of the type.
    pub(crate) unsafe fn new(first: u64, count: usize) -> Self {
        // INVARIANT: By the safety requirements.
        Self {
            first,
            count,
            _owner: PhantomData,
        }
    }

    /// Number of the first frame.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }
}

/// How the kernel itself has the memory mapped. Every other view must match: on x86 the result of two views with
/// different cache modes is undefined, and two views that differ in encryption show different bytes.
///
/// # Invariants
///
/// `view` is an address in the kernel's own view of the memory, or null where there is none of it. It is there for `'a`, and
/// where there is a `lease`, while somebody holds that.
#[derive(Clone, Copy)]
pub struct Attributes<'a> {
    cache: Cache,
    view: *const u8,
    lease: Option<&'a Lease>,
}

impl<'a> Attributes<'a> {
    /// # Safety
    ///
    /// The invariants of the type, for memory without a lease; the kernel has it mapped with `cache`.
    pub(crate) unsafe fn new(cache: Cache, view: *const u8) -> Self {
        // INVARIANT: By the safety requirements.
        Self {
            cache,
            view,
            lease: None,
        }
    }

    /// The same, of memory that goes with this lease.
    pub fn of(self, lease: &'a Lease) -> Self {
        // INVARIANT: The view is there for longer than the invariants ask for.
        Self {
            lease: Some(lease),
            ..self
        }
    }

    /// With which lease the memory goes, if it goes before its owner.
    pub(crate) fn lease(self) -> Option<&'a Lease> {
        self.lease
    }

    /// The cache mode.
    pub fn cache(self) -> Cache {
        self.cache
    }

    /// The address of the view while `hold` lives; null where there is none, and where `hold` is not one of this memory.
    pub(crate) fn view(self, hold: &Hold<'_>) -> *const u8 {
        match self.lease {
            Some(lease) if !hold.is_of(lease) => core::ptr::null(),
            _ => self.view,
        }
    }
}
