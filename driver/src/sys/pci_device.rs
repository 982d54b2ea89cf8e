// SPDX-License-Identifier: GPL-2.0

//! What can be asked about a PCI device, and set.

use super::helpers::*;
use crate::abi::wire;
use core::{
    ops::Range,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    error::to_result,
    prelude::*, //
};

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
    pub(super) unsafe fn get(device: *mut bindings::pci_dev) -> Result<Self> {
        // SAFETY: By the safety requirements.
        let device = unsafe { bindings::pci_dev_get(device) };
        // INVARIANT: The reference was just taken.
        Ok(Self(NonNull::new(device).ok_or(ENODEV)?))
    }

    pub(super) fn as_ptr(&self) -> *mut bindings::pci_dev {
        self.0.as_ptr()
    }

    pub(super) fn device(&self) -> *mut bindings::device {
        // SAFETY: By the type's invariants.
        unsafe { &raw mut (*self.as_ptr()).dev }
    }

    /// Its address as a number: domain, bus, and the byte with device and function.
    pub(super) fn address(&self) -> u64 {
        // SAFETY: By the type's invariants.
        u64::from(unsafe { mapbuf_pci_address(self.as_ptr()) })
    }

    /// Fills in what only PCI devices have. It is bound to us: while it is, the kernel knows all of this without asking it.
    pub(super) fn tell(&self, to: &mut wire::Device) {
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
            let [intx, msi, msix] = [0, 1, 2].map(|kind| mapbuf_pci_vectors(device, kind));
            (to.intx, to.msi, to.msix) = (intx, msi, msix);
        }
        for (index, bar) in (0 as c_uint..).zip(&mut to.bars) {
            // SAFETY: By the type's invariants; the index is below 6.
            unsafe { bar.bytes = mapbuf_pci_bar(device, index, &mut bar.flags) };
        }
    }

    /// The size of what a base address register leads to, and bits of [`wire::bar`]; zeros where there is none. It is bound
    /// to us.
    pub(super) fn bar(&self, index: usize) -> (u64, u32) {
        let mut flags = 0;
        let bytes = match c_uint::try_from(index) {
            // SAFETY: By the type's invariants; there is such a register.
            Ok(index) if (index as usize) < wire::BARS => unsafe {
                mapbuf_pci_bar(self.as_ptr(), index, &mut flags)
            },
            _ => 0,
        };
        (bytes, flags)
    }

    /// Where that begins. It is bound to us.
    pub(super) fn bar_start(&self, index: usize) -> u64 {
        // SAFETY: By the type's invariants; a device that is bound keeps its resources.
        let resources = unsafe { &(*self.as_ptr()).resource };
        let resource = resources.get(index).filter(|_| index < wire::BARS);
        resource.map_or(0, |resource| resource.start)
    }

    /// The bytes behind a base address register that hold the MSI-X table, and its pending bits; empty where they are
    /// elsewhere. It is bound to us.
    pub(super) fn msix_in(&self, index: usize) -> [Range<u64>; 2] {
        // SAFETY: By the type's invariants; this field never changes.
        let capability = u32::from(unsafe { (*self.as_ptr()).msix_cap });
        let vectors = self
            .config_read(capability + bindings::PCI_MSIX_FLAGS, 2)
            .unwrap_or(0);
        let vectors = u64::from(vectors & bindings::PCI_MSIX_FLAGS_QSIZE) + 1;
        let part = |register, bytes| {
            let place = self.config_read(capability + register, 4).unwrap_or(0);
            let here = (place & bindings::PCI_MSIX_TABLE_BIR) as usize == index;
            let start = u64::from(place & bindings::PCI_MSIX_TABLE_OFFSET);
            match capability != 0 && here {
                true => start..start + bytes,
                false => 0..0,
            }
        };
        [
            part(bindings::PCI_MSIX_TABLE, 16 * vectors),
            part(bindings::PCI_MSIX_PBA, 8 * vectors.div_ceil(64)),
        ]
    }

    /// Whether its pin can be masked in the device.
    pub(super) fn can_mask_pin(&self) -> bool {
        // SAFETY: By the type's invariants; this field never changes once the device was found.
        unsafe { (*self.as_ptr()).broken_intx_masking() == 0 }
    }

    /// Masks its pin. It is bound to us.
    pub(super) fn mask_pin(&self) {
        // SAFETY: By the type's invariants.
        unsafe { bindings::pci_intx(self.as_ptr(), 0) };
    }

    /// Masks its pin if it interrupts by it; whether it does. May be called in an interrupt. It is bound to us.
    pub(super) fn mask_pin_if_pending(&self) -> bool {
        // SAFETY: By the type's invariants.
        unsafe { bindings::pci_check_and_mask_intx(self.as_ptr()) }
    }

    /// Unmasks its pin, unless it would interrupt by it at once; whether it has. It is bound to us.
    pub(super) fn unmask_pin_unless_pending(&self) -> bool {
        // SAFETY: By the type's invariants.
        unsafe { bindings::pci_check_and_unmask_intx(self.as_ptr()) }
    }

    /// The number that the kernel has for one of its interrupts: a message that was taken, or the pin. It is bound to us.
    pub(super) fn irq_number(&self, index: u32) -> Result<c_uint> {
        // SAFETY: By the type's invariants; any index may be asked for.
        let number = unsafe { bindings::pci_irq_vector(self.as_ptr(), index) };
        to_result(number)?;
        Ok(number.unsigned_abs())
    }

    /// Reads a field of its configuration space, of 1, 2 or 4 bytes at a multiple of that within the space. It is bound to us.
    pub(super) fn config_read(&self, offset: u32, width: u32) -> Result<u32> {
        let at = i32::try_from(offset)?;
        let (mut byte, mut word, mut all) = (0, 0, 0);
        // SAFETY: By the type's invariants. Any offset may be asked for (`pci_user_read_config_byte` and the others of
        // `drivers/pci/access.c`).
        let (done, value) = unsafe {
            let pci = self.as_ptr();
            match width {
                1 => {
                    let done = bindings::pci_user_read_config_byte(pci, at, &mut byte);
                    (done, u32::from(byte))
                }
                2 => {
                    let done = bindings::pci_user_read_config_word(pci, at, &mut word);
                    (done, u32::from(word))
                }
                _ => {
                    let done = bindings::pci_user_read_config_dword(pci, at, &mut all);
                    (done, all)
                }
            }
        };
        to_result(done)?;
        Ok(value)
    }

    /// Writes such a field. `policy::config` says what may be written.
    pub(super) fn config_write(&self, offset: u32, width: u32, value: u32) -> Result {
        let at = i32::try_from(offset)?;
        // SAFETY: By the type's invariants. Any offset may be asked for; what the device does with the value is for whoever
        // may use it to say, as with VFIO.
        to_result(unsafe {
            let pci = self.as_ptr();
            match width {
                1 => bindings::pci_user_write_config_byte(pci, at, value as u8),
                2 => bindings::pci_user_write_config_word(pci, at, value as u16),
                _ => bindings::pci_user_write_config_dword(pci, at, value),
            }
        })
    }

    /// Lets it send DMA, or keeps it from that. It is bound to us.
    pub(super) fn set_master(&self, master: bool) {
        // SAFETY: By the type's invariants.
        unsafe {
            match master {
                true => bindings::pci_set_master(self.as_ptr()),
                false => bindings::pci_clear_master(self.as_ptr()),
            }
        }
    }

    /// Whether it may send DMA now. It is bound to us.
    pub(super) fn is_master(&self) -> bool {
        let command = self.config_read(bindings::PCI_COMMAND, 2);
        command.is_ok_and(|command| command & bindings::PCI_COMMAND_MASTER != 0)
    }
}

impl Drop for PciDevice {
    fn drop(&mut self) {
        // SAFETY: By the type's invariants.
        unsafe { bindings::pci_dev_put(self.as_ptr()) };
    }
}
