// SPDX-License-Identifier: GPL-2.0

//! User memory: the structs of the interface, and bytes of buffers.

use super::helpers::{
    mapbuf_copy_in,
    mapbuf_memcpy, //
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
    /// Bytes that its first version had.
    const FIRST: u32 = size_of::<Self>() as u32;
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

wire!(Query Alloc Free Info Segments Offset Export LastError Name Unname);

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

/// Bytes of a buffer within one page, which user space and devices may change at any time: never a slice.
///
/// # Invariants
///
/// `length` bytes at `address` are mapped in the kernel and lie within one page, as long as `'a`.
pub(crate) struct Bytes<'a> {
    address: *mut u8,
    length: usize,
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
            _memory: core::marker::PhantomData,
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Copies them out to user memory; answers with how many were copied.
    pub(crate) fn copy_out(&self, to: usize) -> usize {
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
        // SAFETY: As for `copy_to_kernel`.
        unsafe { mapbuf_memcpy(self.address.cast(), from.cast(), self.length) };
    }

    /// Copies user memory in; answers with how many bytes were copied. The rest stays as it was.
    pub(crate) fn copy_in(&self, from: usize) -> usize {
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
