// SPDX-License-Identifier: GPL-2.0

//! What a buffer's memory offers to the code that maps it.
//!
//! [`PageRef`], [`Frames`] and [`Bytes`] live no longer than a borrow of their owner, and frames and bytes no longer than a
//! [`Hold`] of the memory. What maps memory for longer asks a [`Backed`] for it, by page number: what is borrowed from
//! `&'a self`, and from [`OWNED`](super::lease::OWNED), for any `'a` stays valid until `self` is dropped.

use super::{
    area::Area,
    bytes::Bytes,
    dma::CoherentBlock,
    frames::{
        Attributes,
        Frames,
        PageRef, //
    },
    lease::Hold, //
};
use core::{
    any::TypeId,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    error::Result,
    ffi::c_void, //
};

/// The interface of every kind of memory. Indices count pages from the buffer's start; beyond the end the result is
/// `None`.
///
/// Memory that may go before its owner has a [`Lease`](super::lease::Lease), and answers `None` where the hold is not
/// [one of it](Hold::is_of). Other memory needs no hold, and takes any.
pub trait Backing {
    /// How many pages there are.
    fn len(&self) -> usize;

    /// The page, if the memory is charged and pinnable.
    fn page(&self, index: usize) -> Option<PageRef<'_>>;

    /// The frames from this page to the end of its physically contiguous run, at most `most`.
    fn frames<'a>(&'a self, hold: &'a Hold<'_>, index: usize, most: usize) -> Option<Frames<'a>>;

    /// How the kernel has it mapped.
    fn attributes(&self) -> Attributes<'_>;

    /// The kernel's own view: bytes of a page from `offset` in it, at most `length`.
    fn bytes<'a>(
        &'a self,
        hold: &'a Hold<'_>,
        index: usize,
        offset: usize,
        length: usize,
    ) -> Option<Bytes<'a>>;

    /// An address at which the kernel sees all of it at all times, if there is one.
    fn address(&self) -> Option<NonNull<u8>>;

    /// The area of the kernel's that it lies in, if that can be given to `remap_vmalloc_range`.
    fn area(&self) -> Option<&Area> {
        None
    }

    /// All of its pages in an array, which stays as it is as long as the memory, if there is one.
    fn pages(&self) -> Option<&[PageRef<'_>]> {
        None
    }

    /// The memory as the DMA API gave it, if it did.
    fn coherent(&self) -> Option<&CoherentBlock> {
        None
    }
}

impl Backing for CoherentBlock {
    fn len(&self) -> usize {
        Self::len(self)
    }

    fn page(&self, _index: usize) -> Option<PageRef<'_>> {
        None
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
        Some(Self::address(self))
    }

    fn coherent(&self) -> Option<&CoherentBlock> {
        Some(self)
    }
}

/// Is told when memory is mapped.
pub trait Watch {
    /// A mapping is about to be made. May wait; an error refuses it.
    fn enter(&self) -> Result;
    /// Another mapping of memory that is mapped already.
    fn again(&self);
    /// A mapping is gone.
    fn leave(&self);
}

/// The data of a dma-buf: it has the memory that mappings of the dma-buf show, until it is dropped.
pub trait Backed: Send + Sync + Sized + 'static {
    /// Whether each VMA has a reference of its own to the data, which is in an `Arc` then. Otherwise the VMA's file keeps
    /// the data until its release.
    const COUNTED: bool = false;

    /// The memory.
    fn backing(&self) -> &dyn Backing;

    /// Keeps the memory until the answer is dropped; `None` where it is gone, before whoever maps it.
    fn hold(&self) -> Option<Hold<'_>> {
        Some(Hold::of_its_owner())
    }

    /// Who is told of mappings, if anybody.
    fn watch(&self) -> Option<&dyn Watch> {
        None
    }
}

/// The data of a dma-buf, with its type.
///
/// # Invariants
///
/// `id` is that of `T`. It comes first whatever `T` is.
#[repr(C)]
pub struct Typed<T> {
    id: TypeId,
    data: T,
}

impl<T: Backed> Typed<T> {
    /// Notes its type.
    pub fn new(data: T) -> Self {
        // INVARIANT: That is the type.
        Self {
            id: TypeId::of::<T>(),
            data,
        }
    }

    /// The data.
    pub fn data(&self) -> &T {
        &self.data
    }

    /// Takes the data out.
    pub fn into_data(self) -> T {
        self.data
    }

    /// Whether a dma-buf's data is a `T`.
    ///
    /// # Safety
    ///
    /// The pointer is the private data of a dma-buf that was made by `DmaBuf::export`, for whatever type.
    pub unsafe fn is(data: *const c_void) -> bool {
        // SAFETY: By the safety requirements there is a struct of this sort, by whose invariants the type's number is first.
        unsafe { *data.cast::<TypeId>() == TypeId::of::<T>() }
    }
}

/// The data whose memory a VMA shows.
///
/// # Safety
///
/// The VMA was set up by `NewVma` for `T`, and outlives `'a`.
pub(crate) unsafe fn data_of<'a, T: Backed>(vma: *const bindings::vm_area_struct) -> &'a T {
    // SAFETY: By the safety requirements the VMA's private data is what `NewVma::new` put there, which is the data of a
    // dma-buf that the VMA's file keeps.
    unsafe { &*(*vma).vm_private_data.cast::<T>() }
}
