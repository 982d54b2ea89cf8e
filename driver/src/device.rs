// SPDX-License-Identifier: GPL-2.0

//! Devices that are bound to the driver, each with a node of its own: what they are, who may use them, and how they go.

use crate::{
    abi::{
        reason::{
            Reason,
            Refusal, //
        },
        wire::{
            self,
            device_state,
            Iommu, //
        },
    },
    counts::{
        Counted,
        Sort, //
    },
    named::BufferAttributes,
    sys::{
        caller::{
            self,
            Capability, //
        },
        chardev::{
            FIRST_DEVICE_MINOR,
            MINORS, //
        },
        node::{
            Node,
            NodeName,
            Ownership, //
        },
        pci::{
            Binds,
            PciDevice, //
        },
    },
    Driver,
};
use kernel::{
    prelude::*,
    str::CString,
    sync::{
        Arc,
        ArcBorrow,
        Mutex, //
    },
};

/// Fewest bits of a DMA mask: below a page there is nothing to address.
const LEAST_MASK: u32 = 12;
/// Most bits of a DMA mask.
const MOST_MASK: u32 = 64;

/// All devices that are bound.
pub(crate) struct Devices(KVec<Arc<BoundDevice>>);

impl Devices {
    pub(crate) fn new() -> Self {
        Self(KVec::new())
    }

    /// The device of a node.
    pub(crate) fn find(&self, minor: u32) -> Option<Arc<BoundDevice>> {
        let mut all = self.0.iter();
        all.find(|device| device.minor == minor).cloned()
    }

    fn free_minor(&self) -> Option<u32> {
        (FIRST_DEVICE_MINOR..MINORS).find(|minor| self.find(*minor).is_none())
    }

    fn remove(&mut self, minor: u32) {
        self.0.retain(|device| device.minor != minor);
    }
}

/// Whether a device is there, and what it does.
struct Presence {
    /// It was unbound: whoever uses it is told so.
    gone: bool,
    /// Open files of its node that may use it.
    users: u32,
}

/// A device that is, or was, bound to the driver.
#[pin_data]
pub(crate) struct BoundDevice {
    pci: PciDevice,
    /// What was known of it when it was bound.
    told: wire::Device,
    minor: u32,
    #[pin]
    presence: Mutex<Presence>,
    /// Goes when the device does.
    #[pin]
    node: Mutex<Option<Node<BufferAttributes>>>,
    _counted: Counted,
}

impl BoundDevice {
    /// Calls `f` while the device is bound, and stays so until it returns.
    ///
    /// # Errors
    ///
    /// [`Reason::DeviceGone`].
    fn while_bound<R>(
        &self,
        f: impl FnOnce(&PciDevice) -> Result<R, Refusal>,
    ) -> Result<R, Refusal> {
        let presence = self.presence.lock();
        match presence.gone {
            true => Err(Reason::DeviceGone.into()),
            false => f(&self.pci),
        }
    }

    /// Whether an IOMMU keeps it from memory that is not its own.
    fn isolated(&self) -> bool {
        self.told.iommu == Iommu::Translated.number()
    }

    fn go(&self) {
        self.presence.lock().gone = true;
        // Not under the lock: whoever reads the node's attributes is waited for.
        let node = self.node.lock().take();
        drop(node);
    }
}

/// A device as one open file of its node uses it.
pub(crate) struct DeviceFile {
    device: Arc<BoundDevice>,
    /// Whoever opened it has CAP_SYS_RAWIO. Asked only where it decides.
    rawio: bool,
}

impl DeviceFile {
    /// For whoever opens the node.
    pub(crate) fn open(device: Arc<BoundDevice>) -> Self {
        let rawio = !device.isolated() && caller::capable(Capability::SysRawio);
        let mut presence = device.presence.lock();
        if !presence.gone {
            presence.users += 1;
            if presence.users == 1 {
                device.pci.set_master(true);
            }
        }
        drop(presence);
        Self { device, rawio }
    }

    /// That this file may use the device.
    ///
    /// # Errors
    ///
    /// [`Reason::DeviceGone`], [`Reason::DeviceNotIsolated`], [`Reason::GroupShared`].
    pub(crate) fn usable(&self) -> Result<(), Refusal> {
        self.device.while_bound(|pci| {
            if !self.device.isolated() {
                return match self.rawio {
                    true => Ok(()),
                    false => Err(Reason::DeviceNotIsolated.into()),
                };
            }
            match pci.stranger() {
                None => Ok(()),
                Some(other) => {
                    let group = u64::from(self.device.told.iommu_group);
                    Err(Reason::GroupShared.with(&[group, pci.address(), other]))
                }
            }
        })
    }

    /// Fills in what the device is.
    pub(crate) fn tell(&self, to: &mut wire::Device) {
        let (size, flags, refused) = (to.size, to.flags, to.refused);
        *to = self.device.told;
        (to.size, to.flags, to.refused) = (size, flags, refused);
        if self.usable().is_ok() {
            to.state |= device_state::USABLE;
        }
        let presence = self.device.presence.lock();
        if !presence.gone {
            to.state |= device_state::PRESENT;
            to.dma_mask = self.device.pci.dma_mask();
            if presence.users > 0 {
                to.state |= device_state::BUS_MASTER;
            }
        }
    }

    /// Sets the bits of the device's DMA addresses.
    ///
    /// # Errors
    ///
    /// [`Reason::MaskInvalid`], [`Reason::MaskRefused`], and those of [`Self::usable`].
    pub(crate) fn set_dma_mask(&self, bits: u32) -> Result<(), Refusal> {
        self.usable()?;
        if !(LEAST_MASK..=MOST_MASK).contains(&bits) {
            let [bits, least, most] = [bits, LEAST_MASK, MOST_MASK].map(u64::from);
            return Err(Reason::MaskInvalid.with(&[bits, least, most]));
        }
        self.device.while_bound(|pci| {
            pci.set_dma_mask(bits).map_err(|error| {
                let errno = error.to_errno().unsigned_abs();
                Reason::MaskRefused.with(&[u64::from(bits), u64::from(errno)])
            })
        })
    }
}

impl Drop for DeviceFile {
    fn drop(&mut self) {
        let mut presence = self.device.presence.lock();
        if !presence.gone {
            presence.users = presence.users.saturating_sub(1);
            if presence.users == 0 {
                self.device.pci.set_master(false);
            }
        }
    }
}

impl Binds for Driver {
    type Bound = BoundDevice;

    fn bind(this: ArcBorrow<'_, Self>, pci: PciDevice) -> Result<Arc<BoundDevice>> {
        let mut mask = MOST_MASK;
        while let Err(error) = pci.set_dma_mask(mask) {
            if mask <= LEAST_MASK {
                return Err(error);
            }
            mask -= 1;
        }
        let mut told = wire::Device::default();
        pci.tell(&mut told);
        told.dma_mask = pci.dma_mask();
        let text = pci.name()?;
        for (to, from) in told.name.iter_mut().zip(text.to_bytes()) {
            *to = *from;
        }
        let text = text.to_str().map_err(|_| EINVAL)?;
        let mut devices = this.devices.lock();
        let minor = devices.free_minor().ok_or(ENOSPC)?;
        let presence = Presence {
            gone: false,
            users: 0,
        };
        let device = Arc::pin_init(
            pin_init!(BoundDevice {
                pci,
                told,
                minor,
                presence <- kernel::new_mutex!(presence, "mapbuf_presence"),
                node <- kernel::new_mutex!(None, "mapbuf_node"),
                _counted: Counted::new(Sort::Device),
            }),
            GFP_KERNEL,
        )?;
        devices.0.push(device.clone(), GFP_KERNEL)?;
        drop(devices);
        let node = NodeName {
            sysfs: CString::try_from_fmt(fmt!("pci-{text}"))?,
            path: CString::try_from_fmt(fmt!("mapbuf/pci-{text}"))?,
        };
        let ownership = Ownership {
            uid: 0,
            gid: 0,
            mode: 0o660,
        };
        let made = Node::new(
            &this.class,
            &this.numbers,
            minor,
            node,
            ownership,
            None,
            true,
        );
        match made {
            Ok(node) => *device.node.lock() = Some(node),
            Err(error) => {
                this.devices.lock().remove(minor);
                return Err(error);
            }
        }
        Ok(device)
    }

    fn unbind(this: ArcBorrow<'_, Self>, device: Arc<BoundDevice>) {
        this.devices.lock().remove(device.minor);
        device.go();
    }
}
