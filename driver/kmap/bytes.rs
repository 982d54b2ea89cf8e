// SPDX-License-Identifier: GPL-2.0

//! Bytes of a buffer, which user space and devices may change at any time.

use super::helpers::{
    kmap_helper_iter_address,
    kmap_helper_memcpy,
    kmap_helper_read_word,
    kmap_helper_write_word, //
};
use super::words::{
    chunks,
    words, //
};
use core::marker::PhantomData;
use kernel::{
    bindings,
    iov::{
        IovIterDest,
        IovIterSource, //
    },
    prelude::*, //
};

/// How many bytes go through the stack at a time where memory is accessed by words.
const CHUNK: usize = 64;

/// Bytes of a buffer within one page; never a slice, since others change them.
///
/// # Invariants
///
/// `length` bytes at `address` are mapped in the kernel and lie within one page, as long as `'a`. If `width` is not 0, it
/// is 8, 16, 32 or 64, and all of that page may be accessed, in aligned words of so many bits and no other way.
pub struct Bytes<'a> {
    address: *mut u8,
    length: usize,
    width: u32,
    _memory: PhantomData<&'a ()>,
}

impl Bytes<'_> {
    /// # Safety
    ///
    /// The invariants of the type.
    pub(crate) unsafe fn new(address: *mut u8, length: usize) -> Self {
        // INVARIANT: By the safety requirements.
        Self {
            address,
            length,
            width: 0,
            _memory: PhantomData,
        }
    }

    /// Bytes that are accessed in words of `width` bits: 8, 16, 32 or 64.
    ///
    /// # Safety
    ///
    /// The invariants of the type.
    pub(crate) unsafe fn by_words(address: *mut u8, length: usize, width: u32) -> Self {
        // INVARIANT: By the safety requirements.
        Self {
            address,
            length,
            width,
            _memory: PhantomData,
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Bytes of a word, a power of two.
    fn word(&self) -> usize {
        (self.width / 8).max(1) as usize
    }

    /// Reads a part by words, each of them once.
    ///
    /// # Safety
    ///
    /// `at + length` is at most [`Self::len`], and there is room for `length` bytes at `to`.
    unsafe fn read_words(&self, at: usize, length: usize, to: *mut u8) {
        // SAFETY: By the safety requirements.
        let start = unsafe { self.address.add(at) };
        for piece in words(start.addr(), length, self.word()) {
            // SAFETY: By the type's invariants the word that holds the piece lies in the page and may be read; the piece
            // lies in the word, and the caller has room for it.
            unsafe {
                let word = start.wrapping_add(piece.at).wrapping_sub(piece.into);
                let value = kmap_helper_read_word(word.cast(), self.width).to_ne_bytes();
                to.add(piece.at)
                    .copy_from_nonoverlapping(value.as_ptr().add(piece.into), piece.length);
            }
        }
    }

    /// Writes a part, which must be of whole words.
    ///
    /// # Safety
    ///
    /// `at + length` is at most [`Self::len`], and there are `length` bytes at `from`.
    unsafe fn write_words(&self, at: usize, length: usize, from: *const u8) -> Result {
        let word = self.word();
        // SAFETY: By the safety requirements.
        let start = unsafe { self.address.add(at) };
        // The size of a word is a power of two.
        if (start.addr() | length) & (word - 1) != 0 {
            return Err(EINVAL);
        }
        for at in (0..length).step_by(word) {
            let mut value = [0; 8];
            // SAFETY: By the type's invariants the word lies in the page and may be written; the caller has its bytes,
            // which are at most 8.
            unsafe {
                value
                    .as_mut_ptr()
                    .copy_from_nonoverlapping(from.add(at), word);
                kmap_helper_write_word(start.add(at).cast(), u64::from_ne_bytes(value), self.width);
            }
        }
        Ok(())
    }

    /// Copies them out. Returns how many were copied.
    pub(crate) fn copy_to_iter(&self, to: &mut IovIterDest<'_>) -> usize {
        if self.width == 0 {
            // SAFETY: By the type's invariants the source is there. Others may change it meanwhile: this copies as
            // `copy_to_user` does, not through a reference.
            return unsafe {
                bindings::_copy_to_iter(self.address.cast(), self.length, to.as_raw())
            };
        }
        let mut done = 0;
        for (at, length) in chunks(self.address.addr(), self.length, CHUNK) {
            let mut own = [0u8; CHUNK];
            // SAFETY: The chunk is a part of these bytes, and fits.
            unsafe { self.read_words(at, length, own.as_mut_ptr()) };
            let copied = to.copy_to_iter(own.get(..length).unwrap_or_default());
            done += copied;
            if copied < length {
                break;
            }
        }
        done
    }

    /// Copies other bytes in. Returns how many were copied; the rest is unchanged.
    pub(crate) fn copy_from_iter(&self, from: &mut IovIterSource<'_>) -> usize {
        if self.width == 0 {
            // SAFETY: By the type's invariants the destination is there. Others may change it meanwhile: this copies as
            // `copy_from_user` does, but fills nothing with zeros.
            return unsafe {
                bindings::_copy_from_iter(self.address.cast(), self.length, from.as_raw())
            };
        }
        let mut done = 0;
        for (at, length) in chunks(self.address.addr(), self.length, CHUNK) {
            let mut own = [0u8; CHUNK];
            let copied = from.copy_from_iter(own.get_mut(..length).unwrap_or_default());
            // Whole words only.
            let whole = copied & !(self.word() - 1);
            // SAFETY: The chunk is a part of these bytes, and `own` has as many.
            if unsafe { self.write_words(at, whole, own.as_ptr()) }.is_err() {
                break;
            }
            done += whole;
            if whole < length {
                break;
            }
        }
        done
    }

    /// Copies them out, as many as there is room for. Returns how many.
    pub(crate) fn copy_out(&self, to: &mut [u8]) -> usize {
        let part = Bytes {
            // INVARIANT: These are the first of the bytes.
            length: self.length.min(to.len()),
            ..*self
        };
        // SAFETY: There is room for so many. It is not this memory, to which there are no references.
        unsafe { part.copy_to_kernel(to.as_mut_ptr()) };
        part.length
    }

    /// Copies other bytes in, as many as there are.
    ///
    /// # Errors
    ///
    /// Nothing was written: memory that is accessed by words takes whole words only.
    pub(crate) fn copy_in(&self, from: &[u8]) -> Result {
        let part = Bytes {
            // INVARIANT: These are the first of the bytes.
            length: self.length.min(from.len()),
            ..*self
        };
        // SAFETY: There are so many, and not in this memory, to which there are no references.
        unsafe { part.copy_from_kernel(from.as_ptr()) }
    }

    /// Copies them to the kernel's own memory.
    ///
    /// # Safety
    ///
    /// There is room for [`Self::len`] bytes at `to`, which is not this memory.
    pub(crate) unsafe fn copy_to_kernel(&self, to: *mut u8) {
        if self.width != 0 {
            // SAFETY: All of these bytes, for which by the safety requirements there is room.
            return unsafe { self.read_words(0, self.length, to) };
        }
        // SAFETY: The source is there by the type's invariants, the destination by the safety requirements. It is C's
        // `memcpy`, so others may change the source meanwhile.
        unsafe { kmap_helper_memcpy(to.cast(), self.address.cast(), self.length) };
    }

    /// Copies the kernel's own memory in, all of it.
    ///
    /// # Errors
    ///
    /// Nothing was written: memory that is accessed by words takes whole words only.
    ///
    /// # Safety
    ///
    /// There are [`Self::len`] bytes at `from`, which is not this memory.
    pub(crate) unsafe fn copy_from_kernel(&self, from: *const u8) -> Result {
        if self.width != 0 {
            // SAFETY: All of these bytes, which by the safety requirements are there.
            return unsafe { self.write_words(0, self.length, from) };
        }
        // SAFETY: The destination is there by the type's invariants, the source by the safety requirements.
        unsafe { kmap_helper_memcpy(self.address.cast(), from.cast(), self.length) };
        Ok(())
    }
}

/// The address that the next byte goes to, if it is a user's.
pub fn destination(iter: &mut IovIterDest<'_>) -> u64 {
    // SAFETY: The iterator is valid, by the invariants of its type.
    unsafe { kmap_helper_iter_address(iter.as_raw()) as u64 }
}

/// The address that the next byte comes from, if it is a user's.
pub fn source(iter: &mut IovIterSource<'_>) -> u64 {
    // SAFETY: The iterator is valid, by the invariants of its type.
    unsafe { kmap_helper_iter_address(iter.as_raw()) as u64 }
}
