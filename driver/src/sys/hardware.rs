// SPDX-License-Identifier: GPL-2.0

//! A device that was given to us: what is asked of it and set whatever bus it is on, and its DMA addresses.

use super::{
    helpers::*,
    pci_device::PciDevice,
    platform_device::PlatformDevice, //
};
use crate::abi::wire;
use kernel::{
    bindings,
    error::to_result,
    prelude::*,
    str::{
        CStr,
        CString, //
    }, //
};

/// A device, be it bound to us or not any more.
pub(crate) enum Hardware {
    /// On the PCI bus.
    Pci(PciDevice),
    /// One that firmware or a device tree describes.
    Platform(PlatformDevice),
}

impl Hardware {
    /// The `struct device`, on which a reference is ours.
    pub(super) fn as_ptr(&self) -> *mut bindings::device {
        match self {
            Self::Pci(pci) => pci.device(),
            Self::Platform(platform) => platform.device(),
        }
    }

    /// What only a PCI device has.
    pub(super) fn pci(&self) -> Option<&PciDevice> {
        match self {
            Self::Pci(pci) => Some(pci),
            Self::Platform(_) => None,
        }
    }

    /// The bus, as in the name of its node.
    pub(crate) fn bus(&self) -> &'static str {
        match self {
            Self::Pci(_) => "pci",
            Self::Platform(_) => "platform",
        }
    }

    /// Its name on that: an address such as `0000:00:04.0`, or `40000000.buffer`.
    pub(crate) fn name(&self) -> Result<CString> {
        // SAFETY: The pointer is that of a device; the name of one that was added never changes.
        let name = unsafe { CStr::from_char_ptr(mapbuf_device_name(self.as_ptr())) };
        Ok(CString::try_from(name)?)
    }

    /// Its address as a number: domain, bus, and the byte with device and function; 0 for what is on no PCI bus.
    pub(crate) fn address(&self) -> u64 {
        self.pci().map_or(0, PciDevice::address)
    }

    /// Fills in what the device is. It is bound to us.
    pub(crate) fn tell(&self, to: &mut wire::Device) {
        if let Some(pci) = self.pci() {
            pci.tell(to);
        }
        let device = self.as_ptr();
        // SAFETY: The pointer is that of a device.
        unsafe {
            to.iommu = mapbuf_device_iommu(device, &mut to.iommu_group);
            to.numa_node = mapbuf_device_node(device);
            if mapbuf_device_coherent(device) {
                to.state |= wire::device_state::COHERENT;
            }
        }
    }

    /// Bits of its DMA addresses.
    pub(crate) fn dma_mask(&self) -> u32 {
        // SAFETY: The pointer is that of a device.
        unsafe { mapbuf_dma_bits(self.as_ptr()) }
    }

    /// The last physical address that it reaches, where its addresses are the machine's; else `u64::MAX`. It is bound to us.
    pub(crate) fn reach(&self) -> u64 {
        // SAFETY: The pointer is that of a device.
        unsafe { mapbuf_reach(self.as_ptr()) }
    }

    /// Calls `f` with fewer bits in its DMA addresses, if it has more. It is bound to us, and nobody else maps memory for it
    /// meanwhile.
    pub(super) fn with_bits<R>(&self, bits: Option<u32>, f: impl FnOnce() -> R) -> Result<R> {
        let before = self.dma_mask();
        let Some(bits) = bits.filter(|bits| *bits < before) else {
            return Ok(f());
        };
        self.set_dma_mask(bits)?;
        let done = f();
        // It had these.
        let _ = self.set_dma_mask(before);
        Ok(done)
    }

    /// Sets how many bits its DMA addresses have; they are at least 1, and at most 64. It is bound to us, and has no DMA
    /// addresses.
    pub(super) fn set_dma_mask(&self, bits: u32) -> Result {
        let mask = u64::MAX
            .checked_shr(64u32.saturating_sub(bits))
            .unwrap_or(0);
        // SAFETY: The pointer is that of a device.
        to_result(unsafe { bindings::dma_set_mask(self.as_ptr(), mask) })?;
        // SAFETY: The pointer is that of a device.
        to_result(unsafe { bindings::dma_set_coherent_mask(self.as_ptr(), mask) })
    }

    /// Reads a field of its configuration space, as [`PciDevice::config_read`] does. It is bound to us.
    pub(crate) fn config_read(&self, offset: u32, width: u32) -> Result<u32> {
        self.pci().ok_or(ENODEV)?.config_read(offset, width)
    }

    /// Writes such a field. `policy::config` says what may be written.
    pub(crate) fn config_write(&self, offset: u32, width: u32, value: u32) -> Result {
        self.pci().ok_or(ENODEV)?.config_write(offset, width, value)
    }

    /// Lets it send DMA, or keeps it from that, where the bus can. It is bound to us.
    pub(crate) fn set_master(&self, master: bool) {
        if let Some(pci) = self.pci() {
            pci.set_master(master);
        }
    }

    /// Whether the bus lets it send DMA now. It is bound to us.
    pub(crate) fn is_master(&self) -> bool {
        self.pci().is_none_or(PciDevice::is_master)
    }

    /// The address of a device of the same IOMMU group that another driver has, if there is one.
    pub(crate) fn stranger(&self) -> Option<u64> {
        let mut address = 0;
        // SAFETY: The pointer is that of a device.
        match unsafe { mapbuf_device_stranger(self.as_ptr(), &mut address) } {
            true => Some(u64::from(address)),
            false => None,
        }
    }
}
