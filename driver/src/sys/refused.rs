// SPDX-License-Identifier: GPL-2.0

//! The last field of the interface's structs: why a request was refused.

use crate::abi::wire::{
    self,
    MAX_STRUCT_SIZE, //
};
use core::mem::size_of;
use kernel::{
    transmute::AsBytes,
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};

// SAFETY: Two 32-bit integers and an array of 64-bit ones, at their multiples: no padding (`wire.rs` asserts the size).
unsafe impl AsBytes for wire::Refused {}

/// Writes it into the struct at `address`, whose last field starts at byte `at`, if the caller's struct is long enough.
///
/// The refusal is kept for `LAST_ERROR` in any case, so a failed write is ignored. The size is read again here, since a
/// struct may be refused before it was read; a caller that changes it meanwhile only chooses the place in its own memory.
pub(crate) fn tell(address: usize, at: usize, refused: &wire::Refused) {
    let mut size = UserSlice::new(UserPtr::from_addr(address), size_of::<u32>()).reader();
    let Ok(size) = size.read::<u32>() else {
        return;
    };
    let end = at + size_of::<wire::Refused>();
    if size > MAX_STRUCT_SIZE || (size as usize) < end {
        return;
    }
    let Some(to) = address.checked_add(at) else {
        return;
    };
    let to = UserSlice::new(UserPtr::from_addr(to), size_of::<wire::Refused>());
    let _ = to.writer().write_slice(refused.as_bytes());
}
