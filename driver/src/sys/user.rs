// SPDX-License-Identifier: GPL-2.0

//! User memory: the structs of the interface, and bytes of buffers.

use super::helpers::{
    mapbuf_copy_in,
    mapbuf_memcpy,
    mapbuf_read_word,
    mapbuf_write_word, //
};
use crate::{
    abi::{
        reason::{
            Reason,
            Refusal, //
        },
        wire, //
    },
    policy::request::struct_size,
};
use core::mem::size_of;
use kernel::{
    bindings,
    transmute::{
        AsBytes,
        FromBytes, //
    },
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};

/// A struct of the interface: plain integers, no padding, its size and its flags in front.
///
/// # Safety
///
/// Any bytes are a value of the type, and it has no padding.
pub(crate) unsafe trait Wire: FromBytes + AsBytes + Copy {
    /// Bytes that its first version had: all but why it was refused.
    const FIRST: u32 = (size_of::<Self>() - size_of::<wire::Refused>()) as u32;
    /// The value with all bytes zero.
    const ZERO: Self;

    /// Its size field.
    fn size_mut(&mut self) -> &mut u32;
    /// Its flags.
    fn flags(&self) -> u32;
}

macro_rules! wire {
    ($( $name:ident )*) => {
        $(
            // SAFETY: The type has integer fields and arrays of them only; any bytes are a value.
            unsafe impl FromBytes for wire::$name {}
            // SAFETY: As above; `wire.rs` asserts sizes and offsets, which leave no padding.
            unsafe impl AsBytes for wire::$name {}
            // SAFETY: By the two above.
            unsafe impl Wire for wire::$name {
                // SAFETY: By `FromBytes`, all zeros are a value.
                const ZERO: Self = unsafe { core::mem::zeroed() };

                fn size_mut(&mut self) -> &mut u32 {
                    &mut self.size
                }

                fn flags(&self) -> u32 {
                    self.flags
                }
            }
        )*
    };
}

wire!(Query Alloc Free Info Segments Offset Export Import Probe Region LastError Name Unname);

// SAFETY: Four 64-bit integers: no padding.
unsafe impl AsBytes for wire::Segment {}

/// Where a struct lies in user memory, and how long the caller says it is.
pub(crate) struct UserStruct {
    address: usize,
    size: usize,
}

impl UserStruct {
    /// Copies a struct in, once: first its size, then the rest.
    pub(crate) fn read<T: Wire>(address: usize) -> Result<(Self, T), Refusal> {
        let bad = |bytes: usize| Reason::BadAddress.with(&[address as u64, bytes as u64]);
        let known = size_of::<T>() as u32;

        let mut size = UserSlice::new(UserPtr::from_addr(address), size_of::<u32>()).reader();
        let given = size.read::<u32>().map_err(|_| bad(size_of::<u32>()))?;
        let copied = struct_size(given, T::FIRST, known)? as usize;
        let given = given as usize;

        let mut reader = UserSlice::new(UserPtr::from_addr(address), given).reader();
        let mut value = T::ZERO;
        // The size was read already, and must not be read again.
        reader.skip(size_of::<u32>()).map_err(|_| bad(given))?;
        let body = value.as_bytes_mut().get_mut(size_of::<u32>()..copied);
        reader
            .read_slice(body.unwrap_or_default())
            .map_err(|_| bad(given))?;
        *value.size_mut() = given as u32;

        let mut chunk = [0; 64];
        while !reader.is_empty() {
            let length = reader.len().min(chunk.len());
            let tail = chunk.get_mut(..length).unwrap_or_default();
            reader.read_slice(tail).map_err(|_| bad(given))?;
            if tail.iter().any(|byte| *byte != 0) {
                return Err(Reason::StructTooNew.with(&[given as u64, u64::from(known)]));
            }
        }
        Ok((
            Self {
                address,
                size: copied,
            },
            value,
        ))
    }

    /// Copies the struct out, as much of it as the caller knows.
    pub(crate) fn write<T: Wire>(&self, value: &T) -> Result<(), Refusal> {
        let bytes = value.as_bytes().get(..self.size).unwrap_or_default();
        write_bytes(self.address, bytes)
    }
}

/// Copies bytes of the kernel's own out to user memory.
pub(crate) fn write_bytes(address: usize, bytes: &[u8]) -> Result<(), Refusal> {
    UserSlice::new(UserPtr::from_addr(address), bytes.len())
        .writer()
        .write_slice(bytes)
        .map_err(|_| Reason::BadAddress.with(&[address as u64, bytes.len() as u64]))
}

/// Bytes that are moved through the stack at a time, where memory is accessed by words.
const CHUNK: usize = 64;

/// Bytes of a buffer within one page, which user space and devices may change at any time: never a slice.
///
/// # Invariants
///
/// `length` bytes at `address` are mapped in the kernel and lie within one page, as long as `'a`. If
/// `width` is not 0, all of that page may be accessed, in aligned words of so many bits and no other way.
pub(crate) struct Bytes<'a> {
    address: *mut u8,
    length: usize,
    width: u32,
    _memory: core::marker::PhantomData<&'a ()>,
}

impl Bytes<'_> {
    /// # Safety
    ///
    /// The invariants of the type.
    pub(super) unsafe fn new(address: *mut u8, length: usize) -> Self {
        // INVARIANT: By the safety requirements.
        Self {
            address,
            length,
            width: 0,
            _memory: core::marker::PhantomData,
        }
    }

    /// Bytes that are accessed in words of `width` bits: 8, 16, 32 or 64.
    ///
    /// # Safety
    ///
    /// The invariants of the type.
    pub(super) unsafe fn by_words(address: *mut u8, length: usize, width: u32) -> Self {
        // INVARIANT: By the safety requirements.
        Self {
            address,
            length,
            width,
            _memory: core::marker::PhantomData,
        }
    }

    /// Calls `f` with pieces of at most a word: where each begins in the word, how long it is, and how
    /// far it lies behind the start of these bytes.
    fn words(&self, mut f: impl FnMut(*mut u8, usize, usize, usize)) {
        let size = (self.width / 8).max(1) as usize;
        let mut at = 0;
        while at < self.length {
            // SAFETY: `at` is less than the length.
            let place = unsafe { self.address.add(at) };
            // The size is a power of two.
            let into = place.addr() & (size - 1);
            let piece = (size - into).min(self.length - at);
            f(place.wrapping_sub(into), into, piece, at);
            at += piece;
        }
    }

    /// Reads words into memory of the kernel's own.
    ///
    /// # Safety
    ///
    /// There is room for [`Self::len`] bytes at `to`.
    unsafe fn read_words(&self, to: *mut u8) {
        self.words(|word, into, piece, at| {
            // SAFETY: By the type's invariants the word may be read; the caller has room for the piece.
            unsafe {
                let value = mapbuf_read_word(word.cast(), self.width).to_ne_bytes();
                to.add(at)
                    .copy_from_nonoverlapping(value.as_ptr().add(into), piece);
            }
        });
    }

    /// Writes words out of memory of the kernel's own. What is not a whole word is left out.
    ///
    /// # Safety
    ///
    /// There are [`Self::len`] bytes at `from`.
    unsafe fn write_words(&self, from: *const u8) {
        let size = (self.width / 8) as usize;
        self.words(|word, _, piece, at| {
            if piece < size {
                return;
            }
            let mut value = [0; 8];
            // SAFETY: By the type's invariants the word may be written; the caller has the piece.
            unsafe {
                value
                    .as_mut_ptr()
                    .copy_from_nonoverlapping(from.add(at), piece);
                mapbuf_write_word(word.cast(), u64::from_ne_bytes(value), self.width);
            }
        });
    }

    /// The same bytes in pieces that fit a buffer on the stack.
    fn chunks(&self) -> impl Iterator<Item = Bytes<'_>> {
        let address = self.address;
        let (length, width) = (self.length, self.width);
        (0..length).step_by(CHUNK).map(move |at| {
            // SAFETY: A part of these bytes.
            unsafe { Bytes::by_words(address.add(at), CHUNK.min(length - at), width) }
        })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Copies them out to user memory; answers with how many were copied.
    pub(crate) fn copy_out(&self, to: usize) -> usize {
        if self.width != 0 {
            let mut done = 0;
            for piece in self.chunks() {
                let mut own = [0u8; CHUNK];
                // SAFETY: The buffer has room for a chunk.
                unsafe { piece.read_words(own.as_mut_ptr()) };
                let own = own.get(..piece.len()).unwrap_or_default();
                if write_bytes(to.wrapping_add(done), own).is_err() {
                    break;
                }
                done += piece.len();
            }
            return done;
        }
        // SAFETY: The source is valid by the type's invariants; `_copy_to_user` checks the destination,
        // and takes races with other writers.
        let left = unsafe {
            bindings::copy_to_user(
                to as *mut kernel::ffi::c_void,
                self.address.cast(),
                self.length,
            )
        };
        self.length.saturating_sub(left)
    }

    /// Copies them to the kernel's own memory.
    ///
    /// # Safety
    ///
    /// There is room for [`Self::len`] bytes at `to`, which is not this memory.
    pub(super) unsafe fn copy_to_kernel(&self, to: *mut u8) {
        if self.width != 0 {
            // SAFETY: By the safety requirements.
            return unsafe { self.read_words(to) };
        }
        // SAFETY: The source is valid by the type's invariants, the destination by the safety
        // requirements. It is C's `memcpy`, so others may change the source meanwhile.
        unsafe { mapbuf_memcpy(to.cast(), self.address.cast(), self.length) };
    }

    /// Copies the kernel's own memory in.
    ///
    /// # Safety
    ///
    /// There are [`Self::len`] bytes at `from`, which is not this memory.
    pub(super) unsafe fn copy_from_kernel(&self, from: *const u8) {
        if self.width != 0 {
            // SAFETY: By the safety requirements.
            return unsafe { self.write_words(from) };
        }
        // SAFETY: As for `copy_to_kernel`.
        unsafe { mapbuf_memcpy(self.address.cast(), from.cast(), self.length) };
    }

    /// Copies user memory in; answers with how many bytes were copied. The rest stays as it was.
    pub(crate) fn copy_in(&self, from: usize) -> usize {
        if self.width != 0 {
            let mut done = 0;
            for piece in self.chunks() {
                let mut own = [0u8; CHUNK];
                let buffer = own.get_mut(..piece.len()).unwrap_or_default();
                let user = UserPtr::from_addr(from.wrapping_add(done));
                let mut reader = UserSlice::new(user, buffer.len()).reader();
                if reader.read_slice(buffer).is_err() {
                    break;
                }
                // SAFETY: The buffer holds the piece.
                unsafe { piece.write_words(buffer.as_ptr()) };
                done += piece.len();
            }
            return done;
        }
        // SAFETY: The destination is valid by the type's invariants; the helper checks the source.
        let left = unsafe {
            mapbuf_copy_in(
                self.address.cast(),
                from as *const kernel::ffi::c_void,
                self.length,
            )
        };
        self.length.saturating_sub(left)
    }
}
