// SPDX-License-Identifier: GPL-2.0

//! A driver for platform devices: those that a device tree calls `mapbuf,buffer`, and any that somebody gives to it by
//! `driver_override`.
//!
//! Not by the kernel crate's `platform::Adapter`, whose trait is another one in 7.2 than in 7.3.

use super::{
    bind::{
        Binds,
        Kept,
        Registered, //
    },
    hardware::Hardware,
    helpers::*,
    platform_device::{
        OwnMemory,
        PlatformDevice, //
    },
    this_module::this_module, //
};
use kernel::{
    bindings,
    error::{
        from_result,
        to_result, //
    },
    ffi::c_int,
    prelude::*,
    sync::{
        Arc,
        ArcBorrow, //
    }, //
};

/// The driver's name: not `mapbuf`, the name of a device of our own, by which the bus would match them
/// (`platform_match` of `drivers/base/platform.c`).
const NAME: &CStr = c"mapbuf-buffer";

/// The registration as a driver; dropping it unbinds all devices.
///
/// # Invariants
///
/// The driver in the box is registered with the callbacks for `B`, and stays where it is.
pub(crate) struct PlatformDriver<B: Binds>(KBox<Registered<bindings::platform_driver, B>>);

impl<B: Binds> PlatformDriver<B> {
    /// Registers it. Devices that are described already are bound at once.
    pub(crate) fn register(binds: Arc<B>) -> Result<Self> {
        let driver = bindings::platform_driver {
            probe: Some(Self::probe),
            remove: Some(Self::remove),
            driver: bindings::device_driver {
                name: NAME.as_char_ptr(),
                // SAFETY: It answers with a table that is static.
                of_match_table: unsafe { mapbuf_platform_compatible() },
                ..Default::default()
            },
            ..Default::default()
        };
        let registered = Registered::new(driver, binds)?;
        let driver = registered.driver();
        // SAFETY: The driver is in a box, where it stays until it is unregistered; the names are static.
        to_result(unsafe {
            bindings::__platform_driver_register(driver, this_module(), c"mapbuf".as_char_ptr())
        })?;
        // INVARIANT: It was just registered.
        Ok(Self(registered))
    }

    /// Who takes the devices of the driver that `device` has.
    ///
    /// # Safety
    ///
    /// The device is being bound to a driver of a `PlatformDriver<B>`, or bound to it, for `'a`.
    unsafe fn binds<'a>(device: *mut bindings::platform_device) -> ArcBorrow<'a, B> {
        // SAFETY: By the safety requirements its driver (`really_probe` of `drivers/base/dd.c`) lies in that of a
        // `Registered`, which stays as long as a device is bound.
        unsafe {
            let driver = (*device).dev.driver;
            Registered::binds(kernel::container_of!(
                driver,
                bindings::platform_driver,
                driver
            ))
        }
    }

    /// # Safety
    ///
    /// The platform bus calls this to bind a device to a driver of a `PlatformDriver<B>`.
    unsafe extern "C" fn probe(device: *mut bindings::platform_device) -> c_int {
        // SAFETY: By the safety requirements.
        let (binds, ours) = unsafe { (Self::binds(device), PlatformDevice::get(device)) };
        from_result(|| {
            let ours = ours?;
            // SAFETY: The device is being bound to us, and has no memory yet. `Kept` drops it when all memory was taken back.
            let memory = unsafe { OwnMemory::take(ours.device()) }?;
            // SAFETY: The device is being bound to us; `remove` ends what this begins.
            unsafe { Kept::bind(binds, Hardware::Platform(ours), memory) }?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// The platform bus calls this to unbind a device that [`Self::probe`] has accepted.
    unsafe extern "C" fn remove(device: *mut bindings::platform_device) {
        // SAFETY: By the safety requirements; `probe` has bound it so.
        unsafe { Kept::<B, OwnMemory>::unbind(Self::binds(device), &raw mut (*device).dev) };
    }
}

impl<B: Binds> Drop for PlatformDriver<B> {
    fn drop(&mut self) {
        // SAFETY: By the type's invariants; it calls `remove` for every device that is bound.
        unsafe { bindings::platform_driver_unregister(self.0.driver()) };
    }
}
