// SPDX-License-Identifier: GPL-2.0

//! A debugger's access to mappings of page frames, which have no pages to pin.
//!
//! The kernel's `generic_access_phys` (`mm/memory.c`) is for devices: in 7.2 it maps the frame by `ioremap`, which warns
//! about RAM and fails; from 7.3 on it refuses RAM itself, without a warning.

use super::{
    backing::{
        data_of,
        Backed,
        Backing, //
    },
    bytes::Bytes,
    helpers::*,
    lease::Hold, //
};
use kernel::{
    bindings,
    error::to_result,
    ffi::{
        c_int,
        c_ulong,
        c_void, //
    },
    mm::virt::{
        flags,
        VmaRef, //
    },
    page::PAGE_SIZE,
    prelude::*, //
};

/// The result of an access to a private mapping.
enum Copied {
    /// There is a private copy, and it was read or written.
    Done,
    /// The page is the buffer's own.
    Shared,
}

/// The core's own bytes, to or from which it wants to copy.
///
/// # Invariants
///
/// `length` bytes at `bytes` are the core's own memory.
#[derive(Clone, Copy)]
struct Wanted {
    bytes: *mut u8,
    length: usize,
    write: bool,
}

/// The operation `access` of a VMA for `T`.
///
/// # Safety
///
/// The core calls this for a VMA that was set up for `T`, with `length` bytes at `bytes`, and holds the lock of the
/// address space (`__access_remote_vm` of `mm/memory.c`).
pub(super) unsafe extern "C" fn access<T: Backed>(
    vma: *mut bindings::vm_area_struct,
    address: c_ulong,
    bytes: *mut c_void,
    length: c_int,
    write: c_int,
) -> c_int {
    let length = usize::try_from(length).unwrap_or(0);
    // INVARIANT: By the safety requirements.
    let wanted = Wanted {
        bytes: bytes.cast(),
        length: length.min(PAGE_SIZE - address % PAGE_SIZE),
        write: write != 0,
    };
    // SAFETY: By the safety requirements the VMA is locked, its fields may be read, and it was set up for `T`.
    let (vma, offset, data) =
        unsafe { (VmaRef::from_raw(vma), (*vma).vm_pgoff, data_of::<T>(vma)) };
    let Some(hold) = data.hold() else {
        return EFAULT.to_errno();
    };
    // SAFETY: By the safety requirements.
    match unsafe { reach((data.backing(), &hold), vma, offset, address, wanted) } {
        Ok(()) => wanted.length as c_int,
        Err(error) => error.to_errno(),
    }
}

/// # Safety
///
/// The lock of the address space is held.
unsafe fn reach(
    (memory, hold): (&dyn Backing, &Hold<'_>),
    vma: &VmaRef,
    offset: usize,
    address: usize,
    wanted: Wanted,
) -> Result {
    let flags = vma.flags();
    // The core asks for writes to read-only mappings too (`FOLL_FORCE`), which is good for private
    // copies only, and those have pages.
    let needed = match wanted.write {
        true => flags::WRITE,
        false => flags::MAYREAD,
    };
    if flags & needed == 0 {
        return Err(EFAULT);
    }
    let into = address.checked_sub(vma.start()).ok_or(EFAULT)?;
    let at = offset.checked_add(into / PAGE_SIZE).ok_or(EFAULT)?;
    // `remap_pfn_range` has put the frame number there when the mapping is copy-on-write.
    let by_frame = flags::PFNMAP | flags::SHARED | flags::MAYWRITE;
    let index = if flags & by_frame == flags::PFNMAP | flags::MAYWRITE {
        // SAFETY: By the safety requirements; `wanted` stays in the page.
        match unsafe { reach_copy(vma, address, at, wanted)? } {
            Copied::Done => return Ok(()),
            // A write must make a copy first, which only the process itself can do.
            Copied::Shared if wanted.write => return Err(EFAULT),
            // Copy-on-write by frame number is for one run: see `policy::plan`.
            Copied::Shared => {
                let first = memory.frames(hold, 0, 1).ok_or(EFAULT)?.first();
                usize::try_from((at as u64).checked_sub(first).ok_or(EFAULT)?)?
            }
        }
    } else {
        at
    };
    let ours: Bytes<'_> = memory
        .bytes(hold, index, address % PAGE_SIZE, wanted.length)
        .filter(|ours| ours.len() == wanted.length)
        .ok_or(EFAULT)?;
    // SAFETY: By the invariants of `Wanted` there are so many bytes.
    unsafe {
        if wanted.write {
            ours.copy_from_kernel(wanted.bytes)
        } else {
            ours.copy_to_kernel(wanted.bytes);
            Ok(())
        }
    }
}

/// Access to a private copy in a mapping of page frames. The core finds no page there, since it does not look for one in
/// such a VMA. `expected` is the frame of the buffer.
///
/// # Safety
///
/// The lock of the address space is held, and `wanted` lies in one page from `address` on.
unsafe fn reach_copy(
    vma: &VmaRef,
    address: usize,
    expected: usize,
    wanted: Wanted,
) -> Result<Copied> {
    let mut entry = bindings::follow_pfnmap_args {
        vma: vma.as_ptr(),
        address,
        ..pin_init::zeroed()
    };
    // SAFETY: By the safety requirements.
    if unsafe { bindings::follow_pfnmap_start(&mut entry) } != 0 {
        // All frames were mapped by `mmap`, and nothing takes such an entry out. So there was a copy, which is swapped
        // out, or on its way to another place. It comes back as it does for the process itself.
        let write = match wanted.write {
            true => bindings::fault_flag_FAULT_FLAG_WRITE,
            false => 0,
        };
        // SAFETY: By the safety requirements; without a place for `unlocked` the lock stays held.
        to_result(unsafe {
            bindings::fixup_user_fault(
                (*vma.as_ptr()).vm_mm,
                address,
                write | bindings::fault_flag_FAULT_FLAG_REMOTE,
                core::ptr::null_mut(),
            )
        })?;
        // SAFETY: By the safety requirements.
        to_result(unsafe { bindings::follow_pfnmap_start(&mut entry) })?;
    }
    let copied = if entry.pfn == expected {
        Ok(Copied::Shared)
    } else if wanted.write && !entry.writable {
        Err(EFAULT)
    } else {
        // SAFETY: Until `follow_pfnmap_end` the entry stays, and with it the page of the process, an ordinary one, which
        // the kernel has mapped. By the invariants of `Wanted` there are so many bytes.
        unsafe {
            let page = kmap_helper_page_address(kmap_helper_pfn_to_page(entry.pfn)).cast::<u8>();
            let there = page.add(address % PAGE_SIZE);
            let (to, from) = match wanted.write {
                true => (there, wanted.bytes),
                false => (wanted.bytes, there),
            };
            kmap_helper_memcpy(to.cast(), from.cast(), wanted.length);
        }
        Ok(Copied::Done)
    };
    // SAFETY: `follow_pfnmap_start` succeeded.
    unsafe { bindings::follow_pfnmap_end(&mut entry) };
    copied
}
