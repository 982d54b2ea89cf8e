// SPDX-License-Identifier: GPL-2.0

//! Copies the structs of the interface from and to user memory.

use super::cache::Cache;
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
    prelude::*,
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
pub(crate) unsafe trait Wire: FromBytes + AsBytes + Zeroable + Copy {
    /// The size of its first version: without the reason for a refusal.
    const FIRST: u32 = (size_of::<Self>() - size_of::<wire::Refused>()) as u32;

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
            // SAFETY: Zeros are as good as any other bytes, which `FromBytes` says are a value.
            unsafe impl Zeroable for wire::$name {}
            // SAFETY: The type has integer fields and arrays of them only; `wire.rs` asserts sizes and offsets, which
            // leave no padding.
            unsafe impl AsBytes for wire::$name {}
            // SAFETY: By `FromBytes` any bytes are a value, and by `AsBytes` there is no padding.
            unsafe impl Wire for wire::$name {
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
wire!(Device DmaMask Attach Detach Sync Irq Config Bar);

// SAFETY: Four 64-bit integers: no padding.
unsafe impl AsBytes for wire::Segment {}

/// The place of a struct in user memory, and its size as the caller knows it.
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
        let mut value = T::zeroed();
        // The size has been read and must not be read again.
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

    /// Copies out as much of the struct as the caller knows.
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

impl From<wire::Cache> for Cache {
    fn from(cache: wire::Cache) -> Self {
        match cache {
            wire::Cache::Cached => Self::Cached,
            wire::Cache::WriteCombined => Self::WriteCombined,
            wire::Cache::Uncached => Self::Uncached,
        }
    }
}

impl From<Cache> for wire::Cache {
    fn from(cache: Cache) -> Self {
        match cache {
            Cache::Cached => Self::Cached,
            Cache::WriteCombined => Self::WriteCombined,
            Cache::Uncached => Self::Uncached,
        }
    }
}
