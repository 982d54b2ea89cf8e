// SPDX-License-Identifier: GPL-2.0

//! A platform device, and the memory that a device tree gives it.

use super::helpers::*;
use core::ptr::NonNull;
use kernel::{
    bindings,
    error::to_result,
    prelude::*, //
};

/// A platform device, be it bound to us or not any more.
///
/// # Invariants
///
/// A reference on the device is ours.
pub(crate) struct PlatformDevice(NonNull<bindings::device>);

// SAFETY: References on a device can be dropped anywhere.
unsafe impl Send for PlatformDevice {}
// SAFETY: The methods read what never changes.
unsafe impl Sync for PlatformDevice {}

impl PlatformDevice {
    /// # Safety
    ///
    /// The pointer is that of a device.
    pub(super) unsafe fn get(device: *mut bindings::platform_device) -> Result<Self> {
        // SAFETY: By the safety requirements.
        let device = unsafe { bindings::get_device(&raw mut (*device).dev) };
        // INVARIANT: The reference was just taken.
        Ok(Self(NonNull::new(device).ok_or(ENODEV)?))
    }

    pub(super) fn device(&self) -> *mut bindings::device {
        self.0.as_ptr()
    }
}

impl Drop for PlatformDevice {
    fn drop(&mut self) {
        // SAFETY: By the type's invariants.
        unsafe { bindings::put_device(self.device()) };
    }
}

/// What `memory-region` of the device's node leads to, if it has any: the DMA API takes coherent memory of the device from
/// there.
///
/// # Invariants
///
/// The device is bound to us, or being bound, until this is dropped.
pub(super) struct OwnMemory(*mut bindings::device);

impl OwnMemory {
    /// # Safety
    ///
    /// The device is being bound to us, and stays bound until this is dropped. It has no coherent memory yet, and none when
    /// this is dropped.
    pub(super) unsafe fn take(device: *mut bindings::device) -> Result<Self> {
        // SAFETY: By the safety requirements.
        to_result(unsafe { mapbuf_platform_take_memory(device) })?;
        // INVARIANT: By the safety requirements.
        Ok(Self(device))
    }
}

impl Drop for OwnMemory {
    fn drop(&mut self) {
        // SAFETY: By the type's invariants. It does nothing where nothing was taken.
        unsafe { mapbuf_platform_give_memory_back(self.0) };
    }
}
