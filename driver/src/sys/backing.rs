// SPDX-License-Identifier: GPL-2.0

//! What the memory of a buffer offers to whoever maps it.
//!
//! A page or a frame is a value that only the types of this folder make that own the memory, and it lives no longer
//! than a borrow of its owner. What maps memory for longer asks a [`Backed`] for it, by the number of the page: what
//! comes out of `&'a self` for any `'a` is there until `self` is dropped.

use super::{
    bytes::Bytes,
    dma::CoherentBlock,
    helpers::*,
    kernel_map::Area, //
};
use crate::abi::wire::Cache;
use core::{
    any::TypeId,
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    error::Result,
    ffi::c_void, //
};

/// A page of a buffer. It can be mapped and pinned like a file's, and whoever holds a reference to it keeps its charge.
///
/// # Invariants
///
/// Points to a `struct page` of a folio, with memory behind it, on which somebody holds a reference for `'a`.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct PageRef<'a>(NonNull<bindings::page>, PhantomData<&'a ()>);

impl PageRef<'_> {
    /// # Safety
    ///
    /// The invariants of the type.
    pub(super) unsafe fn new(page: *mut bindings::page) -> Option<Self> {
        // INVARIANT: By the safety requirements.
        NonNull::new(page).map(|page| Self(page, PhantomData))
    }

    pub(super) fn as_ptr(self) -> *mut bindings::page {
        self.0.as_ptr()
    }

    /// Its page frame number.
    pub(crate) fn pfn(self) -> u64 {
        // SAFETY: By the type's invariants it is a page.
        unsafe { mapbuf_page_to_pfn(self.as_ptr()) as u64 }
    }

    /// Whether it is the first page of a folio of `count` pages.
    pub(crate) fn begins_folio(self, count: usize) -> bool {
        // SAFETY: By the type's invariants it is a page of a folio that stays one.
        unsafe { mapbuf_begins_folio(self.as_ptr(), count) }
    }
}

/// Page frames of a buffer that follow each other. They are mapped by number: nobody counts who uses them.
///
/// # Invariants
///
/// `count` frames from `first` on belong to somebody who keeps them for `'a`.
#[derive(Clone, Copy)]
pub(crate) struct Frames<'a> {
    first: u64,
    count: usize,
    _owner: PhantomData<&'a ()>,
}

impl Frames<'_> {
    /// # Safety
    ///
    /// The invariants of the type.
    pub(super) unsafe fn new(first: u64, count: usize) -> Self {
        // INVARIANT: By the safety requirements.
        Self {
            first,
            count,
            _owner: PhantomData,
        }
    }

    /// Number of the first frame.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }
}

/// How the kernel itself has the memory mapped. Every other view of it must be like that: on x86 two views with
/// different cache modes are undefined, and one that is encrypted where the other is not shows other bytes.
///
/// # Invariants
///
/// `view` is an address in the kernel's own view of the memory, or null where there is none of it.
#[derive(Clone, Copy)]
pub(crate) struct Attributes {
    cache: Cache,
    view: *const u8,
}

impl Attributes {
    /// # Safety
    ///
    /// The invariants of the type; the kernel has the memory mapped with `cache`.
    pub(super) unsafe fn new(cache: Cache, view: *const u8) -> Self {
        // INVARIANT: By the safety requirements.
        Self { cache, view }
    }

    /// The cache mode.
    pub(crate) fn cache(self) -> Cache {
        self.cache
    }

    pub(super) fn view(self) -> *const u8 {
        self.view
    }
}

/// What every kind of memory can be asked. Indices count pages from the buffer's start; one that lies beyond the end
/// gets `None`.
pub(crate) trait Backing {
    /// How many pages there are.
    fn len(&self) -> usize;

    /// The page, if the memory is charged and pinnable.
    fn page(&self, index: usize) -> Option<PageRef<'_>>;

    /// The frames from this page to the end of its physically contiguous run, at most `most`.
    fn frames(&self, index: usize, most: usize) -> Option<Frames<'_>>;

    /// How the kernel has it mapped.
    fn attributes(&self) -> Attributes;

    /// The kernel's own view: bytes of a page from `offset` in it, at most `length`.
    fn bytes(&self, index: usize, offset: usize, length: usize) -> Option<Bytes<'_>>;

    /// An address at which the kernel sees all of it at all times, if there is one.
    fn address(&self) -> Option<NonNull<u8>>;

    /// The area of the kernel's that it lies in, if that can be given to `remap_vmalloc_range`.
    fn area(&self) -> Option<&Area> {
        None
    }

    /// The memory as the DMA API gave it, if it did.
    fn coherent(&self) -> Option<&CoherentBlock> {
        None
    }
}

/// Who must know whether memory is mapped.
pub(crate) trait Watch {
    /// A mapping is about to be made. May wait; an error refuses it.
    fn enter(&self) -> Result;
    /// There is one more, of memory that is mapped already.
    fn again(&self);
    /// One is gone.
    fn leave(&self);
}

/// The data of a dma-buf: it has the memory that mappings of the dma-buf show, until it is dropped.
pub(crate) trait Backed: Send + Sync + Sized + 'static {
    /// The memory.
    fn backing(&self) -> &dyn Backing;

    /// Who must know of mappings, if anybody.
    fn watch(&self) -> Option<&dyn Watch>;
}

/// The data of a dma-buf, which says of what type it is.
///
/// # Invariants
///
/// `id` is that of `T`. It comes first whatever `T` is.
#[repr(C)]
pub(super) struct Typed<T> {
    id: TypeId,
    data: T,
}

impl<T: Backed> Typed<T> {
    pub(super) fn new(data: T) -> Self {
        // INVARIANT: That is the type.
        Self {
            id: TypeId::of::<T>(),
            data,
        }
    }

    pub(super) fn data(&self) -> &T {
        &self.data
    }

    pub(super) fn into_data(self) -> T {
        self.data
    }

    /// Whether a dma-buf's data is a `T`.
    ///
    /// # Safety
    ///
    /// The pointer is the private data of a dma-buf that was made by `DmaBuf::export`, for whatever type.
    pub(super) unsafe fn is(data: *const c_void) -> bool {
        // SAFETY: By the safety requirements there is a struct of this sort, by whose invariants the type's number is first.
        unsafe { *data.cast::<TypeId>() == TypeId::of::<T>() }
    }
}

/// The data behind a dma-buf's file.
///
/// # Safety
///
/// The file is that of a dma-buf made by `DmaBuf::export` for `T`, and outlives `'a`.
pub(super) unsafe fn data_of<'a, T: Backed>(file: *mut bindings::file) -> &'a T {
    // SAFETY: A dma-buf's file has the dma-buf as its private data (`dma_buf_export` of `drivers/dma-buf/dma-buf.c`),
    // whose private data begins with the `Typed<T>` that `DmaBuf::export` put there, until the file's last reference is
    // gone.
    unsafe {
        let buffer = (*file).private_data.cast::<bindings::dma_buf>();
        &(*(*buffer).priv_.cast::<Typed<T>>()).data
    }
}
