// SPDX-License-Identifier: GPL-2.0

//! A driver for PCI devices that somebody gives to it, and what can be asked about such a device.
//!
//! Not by the kernel crate's `pci::Adapter`: in 7.2 its `probe` looks for what goes with a device by the `driver_data` of
//! the id that matched, as an index into the driver's table (`probe_callback` of `rust/kernel/pci.rs`). A device that
//! comes by `driver_override` or `new_id` has 0 there, and a driver that takes no other has an empty table, so that this
//! would panic; from 7.3 on it is a pointer, and the trait another one.

use super::{
    helpers::*,
    lend::Lender,
    this_module::this_module, //
};
use crate::abi::wire;
use core::ptr::NonNull;
use kernel::{
    bindings,
    error::{
        from_result,
        to_result, //
    },
    ffi::{
        c_int,
        c_uint, //
    },
    prelude::*,
    str::{
        CStr,
        CString, //
    },
    sync::{
        Arc,
        ArcBorrow, //
    },
    types::Opaque, //
};

/// Who takes devices.
pub(crate) trait Binds: Send + Sync + Sized + 'static {
    /// What is kept of a device while it is bound.
    type Bound: Send + Sync + 'static;

    /// Somebody gives us a device. It is enabled.
    fn bind(this: ArcBorrow<'_, Self>, device: Arc<Lender>) -> Result<Arc<Self::Bound>>;

    /// It goes: nobody new is to find it. Afterwards its memory is taken back, and [`Lender::while_bound`] says so.
    fn unbind(this: ArcBorrow<'_, Self>, bound: Arc<Self::Bound>);
}

/// What a `struct pci_driver` of ours lies in.
#[repr(C)]
struct Registered<B: Binds> {
    driver: Opaque<bindings::pci_driver>,
    binds: Arc<B>,
}

/// What a bound device has as its data.
struct Kept<B: Binds> {
    lender: Arc<Lender>,
    bound: Arc<B::Bound>,
}

/// The registration as a driver; dropping it unbinds all devices.
///
/// # Invariants
///
/// The driver in the box is registered with the callbacks for `B`, and stays where it is.
pub(crate) struct PciDriver<B: Binds>(KBox<Registered<B>>);

// SAFETY: Registrations belong to no thread, and what is shared can be sent.
unsafe impl<B: Binds> Send for PciDriver<B> {}
// SAFETY: There is nothing to change through a shared reference.
unsafe impl<B: Binds> Sync for PciDriver<B> {}

impl<B: Binds> PciDriver<B> {
    /// Registers it. There is no table of ids: no device is taken that nobody gave.
    pub(crate) fn register(binds: Arc<B>) -> Result<Self> {
        let driver = bindings::pci_driver {
            name: c"mapbuf".as_char_ptr(),
            probe: Some(Self::probe),
            remove: Some(Self::remove),
            ..Default::default()
        };
        let registered = Registered {
            driver: Opaque::new(driver),
            binds,
        };
        let registered = KBox::new(registered, GFP_KERNEL)?;
        let driver = registered.driver.get();
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
        // SAFETY: By the safety requirements its driver (`local_pci_probe` of `drivers/pci/pci-driver.c`) is the first field
        // of a `Registered<B>`, which stays as long as a device is bound.
        unsafe {
            (*(*device).driver.cast::<Registered<B>>())
                .binds
                .as_arc_borrow()
        }
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
            // SAFETY: The device is being bound to us; `remove` revokes what it has lent, and so does a failure here.
            let lender = unsafe { Lender::new(ours?) }?;
            // SAFETY: The device is being bound to us, so it is ours to enable.
            to_result(unsafe { bindings::pci_enable_device(device) })?;
            let bind = || -> Result<KBox<Kept<B>>> {
                let bound = B::bind(binds, lender.clone())?;
                let lender = lender.clone();
                Ok(KBox::new(Kept { lender, bound }, GFP_KERNEL)?)
            };
            let kept = bind().inspect_err(|_| {
                lender.revoke();
                // SAFETY: It was just enabled.
                unsafe { bindings::pci_disable_device(device) }
            })?;
            // SAFETY: The device is being bound to us, and the data is ours until `remove`.
            unsafe { mapbuf_pci_set_data(device, KBox::into_raw(kept).cast()) };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// The PCI core calls this to unbind a device that [`Self::probe`] has accepted.
    unsafe extern "C" fn remove(device: *mut bindings::pci_dev) {
        // SAFETY: By the safety requirements; `probe` has stored the reference, and nobody takes it but this.
        unsafe {
            let binds = Self::binds(device);
            let kept = KBox::from_raw(mapbuf_pci_data(device).cast::<Kept<B>>());
            let Kept { lender, bound } = KBox::into_inner(kept);
            B::unbind(binds, bound);
            lender.revoke();
            mapbuf_pci_set_data(device, core::ptr::null_mut());
            bindings::pci_clear_master(device);
            bindings::pci_disable_device(device);
        }
    }
}

impl<B: Binds> Drop for PciDriver<B> {
    fn drop(&mut self) {
        // SAFETY: By the type's invariants; it calls `remove` for every device that is bound.
        unsafe { bindings::pci_unregister_driver(self.0.driver.get()) };
    }
}

/// A PCI device, be it bound to us or not any more.
///
/// # Invariants
///
/// A reference on the device is ours.
pub(crate) struct PciDevice(NonNull<bindings::pci_dev>);

// SAFETY: References on a device can be dropped anywhere.
unsafe impl Send for PciDevice {}
// SAFETY: The methods read what never changes, or call functions of the kernel that lock for themselves.
unsafe impl Sync for PciDevice {}

impl PciDevice {
    /// # Safety
    ///
    /// The pointer is that of a device.
    unsafe fn get(device: *mut bindings::pci_dev) -> Result<Self> {
        // SAFETY: By the safety requirements.
        let device = unsafe { bindings::pci_dev_get(device) };
        // INVARIANT: The reference was just taken.
        Ok(Self(NonNull::new(device).ok_or(ENODEV)?))
    }

    fn as_ptr(&self) -> *mut bindings::pci_dev {
        self.0.as_ptr()
    }

    pub(super) fn device(&self) -> *mut bindings::device {
        // SAFETY: By the type's invariants.
        unsafe { &raw mut (*self.as_ptr()).dev }
    }

    /// Its address, as `0000:00:04.0`.
    pub(crate) fn name(&self) -> Result<CString> {
        // SAFETY: By the type's invariants; the name of a device that was added never changes.
        let name = unsafe { CStr::from_char_ptr(mapbuf_pci_name(self.as_ptr())) };
        Ok(CString::try_from(name)?)
    }

    /// Its address as a number: domain, bus, and the byte with device and function.
    pub(crate) fn address(&self) -> u64 {
        // SAFETY: By the type's invariants.
        u64::from(unsafe { mapbuf_pci_address(self.as_ptr()) })
    }

    /// Fills in what the device is. It is bound to us: while it is, the kernel knows all of this without asking it.
    pub(crate) fn tell(&self, to: &mut wire::Device) {
        let device = self.as_ptr();
        // SAFETY: By the type's invariants; these fields never change.
        unsafe {
            to.vendor = u32::from((*device).vendor);
            to.device = u32::from((*device).device);
            to.subsystem_vendor = u32::from((*device).subsystem_vendor);
            to.subsystem_device = u32::from((*device).subsystem_device);
            to.pci_class = (*device).class;
            to.revision = u32::from((*device).revision);
            to.config_bytes = u32::try_from((*device).cfg_size).unwrap_or(0);
        }
        // SAFETY: By the type's invariants.
        unsafe {
            to.iommu = mapbuf_pci_iommu(device, &mut to.iommu_group);
            to.numa_node = mapbuf_pci_node(device);
            let [intx, msi, msix] = [0, 1, 2].map(|kind| mapbuf_pci_vectors(device, kind));
            (to.intx, to.msi, to.msix) = (intx, msi, msix);
            if mapbuf_device_coherent(self.device()) {
                to.state |= wire::device_state::COHERENT;
            }
        }
        for (index, bar) in (0 as c_uint..).zip(&mut to.bars) {
            // SAFETY: By the type's invariants; the index is below 6.
            unsafe { bar.bytes = mapbuf_pci_bar(device, index, &mut bar.flags) };
        }
    }

    /// Bits of its DMA addresses.
    pub(crate) fn dma_mask(&self) -> u32 {
        // SAFETY: By the type's invariants.
        unsafe { mapbuf_dma_bits(self.device()) }
    }

    /// Sets how many bits its DMA addresses have; they are at least 1, and at most 64. It is bound to us, and has no DMA
    /// addresses.
    pub(crate) fn set_dma_mask(&self, bits: u32) -> Result {
        let mask = u64::MAX.checked_shr(64u32.saturating_sub(bits)).unwrap_or(0);
        // SAFETY: By the type's invariants.
        to_result(unsafe { bindings::dma_set_mask(self.device(), mask) })?;
        // SAFETY: By the type's invariants.
        to_result(unsafe { bindings::dma_set_coherent_mask(self.device(), mask) })
    }

    /// Lets it send DMA, or keeps it from that. It is bound to us.
    pub(crate) fn set_master(&self, master: bool) {
        // SAFETY: By the type's invariants.
        unsafe {
            match master {
                true => bindings::pci_set_master(self.as_ptr()),
                false => bindings::pci_clear_master(self.as_ptr()),
            }
        }
    }

    /// The address of a device of the same IOMMU group that another driver has, if there is one.
    pub(crate) fn stranger(&self) -> Option<u64> {
        let mut address = 0;
        // SAFETY: By the type's invariants.
        match unsafe { mapbuf_pci_stranger(self.as_ptr(), &mut address) } {
            true => Some(u64::from(address)),
            false => None,
        }
    }
}

impl Drop for PciDevice {
    fn drop(&mut self) {
        // SAFETY: By the type's invariants.
        unsafe { bindings::pci_dev_put(self.as_ptr()) };
    }
}
