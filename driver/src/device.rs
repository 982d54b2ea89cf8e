// SPDX-License-Identifier: GPL-2.0

//! Devices that are bound to the driver, each with a node of its own: who may use them, and how they come and go.

mod bar;
pub(crate) mod bound;
mod config;
mod irq;

use self::bound::BoundDevice;
use crate::{
    abi::{
        reason::{
            Reason,
            Refusal, //
        },
        wire::{
            self,
            device_state, //
        },
    },
    named,
    sys::{
        bind::Binds,
        caller::{
            self,
            Capability, //
        },
        chardev::{
            FIRST_DEVICE_MINOR,
            MINORS, //
        },
        lend::{
            Lender,
            MaskNotSet, //
        },
        node::{
            Node,
            NodeName,
            Ownership, //
        }, //
    },
    Driver,
};
use kernel::{
    prelude::*,
    str::CString,
    sync::{
        Arc,
        ArcBorrow, //
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

/// A device as one open file of its node uses it.
pub(crate) struct DeviceFile {
    device: Arc<BoundDevice>,
    /// Which of those that ever opened it this is.
    number: u64,
    /// Whoever opened it has CAP_SYS_RAWIO. Asked only where it decides.
    rawio: bool,
}

impl DeviceFile {
    /// For whoever opens the node.
    pub(crate) fn open(device: Arc<BoundDevice>) -> Self {
        let rawio = !device.isolated() && caller::capable(Capability::SysRawio);
        let mut users = device.users.lock();
        users.ever += 1;
        let number = users.ever;
        if device.isolated() || rawio {
            users.now += 1;
            // Elsewhere it could go on with what somebody had it do before, in memory that is another's now: whoever knows
            // that it does not, sets the bit.
            if users.now == 1 && device.isolated() {
                device
                    .lender
                    .while_bound(|hardware| hardware.set_master(true));
            }
        }
        drop(users);
        Self {
            device,
            number,
            rawio,
        }
    }

    /// Whether this file was opened by somebody who may have the device at all.
    fn counts(&self) -> bool {
        self.device.isolated() || self.rawio
    }

    /// That this file may use the device.
    ///
    /// # Errors
    ///
    /// [`Reason::DeviceGone`], [`Reason::DeviceNotIsolated`], [`Reason::GroupShared`].
    pub(crate) fn usable(&self) -> Result<(), Refusal> {
        self.device.while_bound(|hardware| {
            if !self.device.isolated() {
                return match self.rawio {
                    true => Ok(()),
                    false => Err(Reason::DeviceNotIsolated.into()),
                };
            }
            match hardware.stranger() {
                None => Ok(()),
                Some(other) => {
                    let group = u64::from(self.device.told.iommu_group);
                    Err(Reason::GroupShared.with(&[group, hardware.address(), other]))
                }
            }
        })
    }

    /// The device.
    pub(crate) fn bound(&self) -> &Arc<BoundDevice> {
        &self.device
    }

    /// Its NUMA node, -1 for none.
    pub(crate) fn numa_node(&self) -> i32 {
        self.device.told.numa_node
    }

    /// Fills in what the device is.
    pub(crate) fn tell(&self, to: &mut wire::Device) {
        let (size, flags, refused) = (to.size, to.flags, to.refused);
        *to = self.device.told;
        (to.size, to.flags, to.refused) = (size, flags, refused);
        if self.usable().is_ok() {
            to.state |= device_state::USABLE;
        }
        self.device.lender.while_bound(|hardware| {
            to.state |= device_state::PRESENT;
            if hardware.is_master() {
                to.state |= device_state::BUS_MASTER;
            }
            to.dma_mask = hardware.dma_mask();
        });
    }

    /// Sets the bits of the device's DMA addresses.
    ///
    /// # Errors
    ///
    /// [`Reason::MaskInvalid`], [`Reason::MaskRefused`], [`Reason::MaskInUse`], and those of [`Self::usable`].
    pub(crate) fn set_dma_mask(&self, bits: u32) -> Result<(), Refusal> {
        self.usable()?;
        if !(LEAST_MASK..=MOST_MASK).contains(&bits) {
            let [bits, least, most] = [bits, LEAST_MASK, MOST_MASK].map(u64::from);
            return Err(Reason::MaskInvalid.with(&[bits, least, most]));
        }
        let set = self.device.lender.set_dma_mask(bits);
        set.ok_or(Reason::DeviceGone)?.map_err(|error| match error {
            MaskNotSet::InUse(blocks) => Reason::MaskInUse.with(&[blocks]),
            MaskNotSet::Refused(error) => {
                let errno = error.to_errno().unsigned_abs();
                Reason::MaskRefused.with(&[u64::from(bits), u64::from(errno)])
            }
        })
    }
}

impl Drop for DeviceFile {
    fn drop(&mut self) {
        self.end_interrupts();
        if !self.counts() {
            return;
        }
        let mut users = self.device.users.lock();
        users.now = users.now.saturating_sub(1);
        // Before the memory of this file is given back, which nothing else would keep the device from.
        if users.now == 0 || !self.device.isolated() {
            self.device
                .lender
                .while_bound(|hardware| hardware.set_master(false));
        }
    }
}

impl Binds for Driver {
    type Bound = BoundDevice;

    fn bind(this: ArcBorrow<'_, Self>, lender: Arc<Lender>) -> Result<Arc<BoundDevice>> {
        let mut told = wire::Device::default();
        let mut mask = MOST_MASK;
        while let Err(error) = lender.set_dma_mask(mask).ok_or(ENODEV)? {
            match error {
                MaskNotSet::Refused(_) if mask > LEAST_MASK => mask -= 1,
                MaskNotSet::Refused(error) => return Err(error),
                MaskNotSet::InUse(_) => return Err(EBUSY),
            }
        }
        let told_by = lender.while_bound(|hardware| {
            hardware.tell(&mut told);
            told.dma_mask = hardware.dma_mask();
            (hardware.bus(), hardware.name())
        });
        let (bus, text) = told_by.ok_or(ENODEV)?;
        let text = text?;
        // A zero follows it.
        if text.to_bytes().len() >= told.name.len() {
            return Err(EOVERFLOW);
        }
        for (to, from) in told.name.iter_mut().zip(text.to_bytes()) {
            *to = *from;
        }
        let text = text.to_str().map_err(|_| EINVAL)?;
        let node = NodeName {
            sysfs: CString::try_from_fmt(fmt!("{bus}-{text}"))?,
            path: CString::try_from_fmt(fmt!("mapbuf/{bus}-{text}"))?,
        };
        let mut devices = this.devices.lock();
        let minor = devices.free_minor().ok_or(ENOSPC)?;
        let device = Arc::pin_init(BoundDevice::new(lender, told, minor), GFP_KERNEL)?;
        devices.0.push(device.clone(), GFP_KERNEL)?;
        // From here on a failure must take it out again.
        drop(devices);
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
                forget_names(&this, &device);
                return Err(error);
            }
        }
        Ok(device)
    }

    fn unbind(this: ArcBorrow<'_, Self>, device: Arc<BoundDevice>) {
        this.devices.lock().remove(device.minor);
        device.hide();
        forget_names(&this, &device);
    }
}

/// What is named for a device has no name any more, and nothing gets one.
fn forget_names(driver: &Driver, device: &BoundDevice) {
    device.go();
    named::device_goes(driver, device);
}
