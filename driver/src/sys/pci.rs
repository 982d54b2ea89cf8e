// SPDX-License-Identifier: GPL-2.0

//! A driver for PCI devices that somebody gives to it.
//!
//! Not by the kernel crate's `pci::Adapter`: in 7.2 its `probe` looks for what goes with a device by the `driver_data` of
//! the id that matched, as an index into the driver's table (`probe_callback` of `rust/kernel/pci.rs`). A device that
//! comes by `driver_override` or `new_id` has 0 there, and a driver that takes no other has an empty table, so that this
//! would panic; from 7.3 on it is a pointer, and the trait another one.

use super::{
    bind::{
        Binds,
        Kept,
        Registered, //
    },
    hardware::Hardware,
    pci_device::PciDevice,
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

/// The registration as a driver; dropping it unbinds all devices.
///
/// # Invariants
///
/// The driver in the box is registered with the callbacks for `B`, and stays where it is.
pub(crate) struct PciDriver<B: Binds>(KBox<Registered<bindings::pci_driver, B>>);

impl<B: Binds> PciDriver<B> {
    /// Registers it. There is no table of ids: no device is taken that nobody gave.
    pub(crate) fn register(binds: Arc<B>) -> Result<Self> {
        let driver = bindings::pci_driver {
            name: c"mapbuf".as_char_ptr(),
            probe: Some(Self::probe),
            remove: Some(Self::remove),
            ..Default::default()
        };
        let registered = Registered::new(driver, binds)?;
        let driver = registered.driver();
        // SAFETY: The driver is in a box, where it stays until it is unregistered; the names are static.
        to_result(unsafe {
            bindings::__pci_register_driver(driver, this_module(), c"mapbuf".as_char_ptr())
        })?;
        // INVARIANT: It was just registered.
        Ok(Self(registered))
    }

    /// Who takes the devices of the driver that `device` has.
    ///
    /// # Safety
    ///
    /// The device is being bound to a driver of a `PciDriver<B>`, or bound to it, for `'a`.
    unsafe fn binds<'a>(device: *mut bindings::pci_dev) -> ArcBorrow<'a, B> {
        // SAFETY: By the safety requirements its driver (`local_pci_probe` of `drivers/pci/pci-driver.c`) is that of a
        // `Registered`, which stays as long as a device is bound.
        unsafe { Registered::binds((*device).driver) }
    }

    /// # Safety
    ///
    /// The PCI core calls this to bind a device to a driver of a `PciDriver<B>`.
    unsafe extern "C" fn probe(
        device: *mut bindings::pci_dev,
        _id: *const bindings::pci_device_id,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        let (binds, ours) = unsafe { (Self::binds(device), PciDevice::get(device)) };
        from_result(|| {
            let ours = ours?;
            // SAFETY: The device is being bound to us, so it is ours to enable.
            to_result(unsafe { bindings::pci_enable_device(device) })?;
            // Nobody would answer its pin. `pci_enable_device` unmasks it for the next driver.
            ours.mask_pin();
            // SAFETY: The device is being bound to us; `remove` ends what this begins.
            let bound = unsafe { Kept::bind(binds, Hardware::Pci(ours), ()) };
            bound.inspect_err(|_| {
                // SAFETY: It was just enabled.
                unsafe { bindings::pci_disable_device(device) }
            })?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// The PCI core calls this to unbind a device that [`Self::probe`] has accepted.
    unsafe extern "C" fn remove(device: *mut bindings::pci_dev) {
        // SAFETY: By the safety requirements; `probe` has bound it so.
        unsafe {
            Kept::<B, ()>::unbind(Self::binds(device), &raw mut (*device).dev);
            bindings::pci_disable_device(device);
        }
    }
}

impl<B: Binds> Drop for PciDriver<B> {
    fn drop(&mut self) {
        // SAFETY: By the type's invariants; it calls `remove` for every device that is bound.
        unsafe { bindings::pci_unregister_driver(self.0.driver()) };
    }
}
