// SPDX-License-Identifier: GPL-2.0

//! Devices that are bound to the driver, each with a node of its own: what they are, who may use them, and how they go.

mod bar;
mod config;
mod irq;

use crate::{
    abi::{
        reason::{
            Reason,
            Refusal, //
        },
        wire::{
            self,
            device_state,
            Direction,
            Iommu, //
        },
    },
    buffer::BufferRef,
    named,
    sys::{
        attached::{
            Attached,
            NotMapped, //
        },
        caller::{
            self,
            Capability, //
        },
        chardev::{
            FIRST_DEVICE_MINOR,
            MINORS, //
        },
        counts::{
            Counted,
            Sort, //
        },
        foreign::Foreign,
        lend::{
            Lender,
            Lent,
            MaskNotSet, //
        },
        node::{
            NoAttributes,
            Node,
            NodeName,
            Ownership, //
        },
        pci::Binds,
        pci_device::PciDevice,
    },
    Driver,
};
use kernel::{
    prelude::*,
    str::CString,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
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

/// Open files of a node.
#[derive(Default)]
struct Users {
    /// Those that may use the device.
    now: u32,
    /// All that there ever were.
    ever: u64,
}

/// A device that is, or was, bound to the driver.
#[pin_data]
pub(crate) struct BoundDevice {
    lender: Arc<Lender>,
    /// What was known of it when it was bound.
    told: wire::Device,
    minor: u32,
    /// It is being unbound. Set before those who have names for its memory are looked for, so that nobody names more.
    going: Atomic<bool>,
    /// Open files of its node. It may send DMA while some may use it, and not after one of them was closed where no IOMMU keeps
    /// it from what that one had.
    #[pin]
    users: Mutex<Users>,
    /// Goes when the device does.
    #[pin]
    node: Mutex<Option<Node<NoAttributes>>>,
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
        self.lender
            .while_bound(f)
            .unwrap_or_else(|| Err(Reason::DeviceGone.into()))
    }

    /// Coherent memory of it; `None` where there is none.
    ///
    /// # Errors
    ///
    /// [`Reason::DeviceGone`].
    pub(crate) fn lend(&self, pages: usize) -> Result<Option<Arc<Lent>>, Refusal> {
        match self.lender.lend(pages) {
            Some(lent) => Ok(Some(lent)),
            None => self.while_bound(|_| Ok(None)),
        }
    }

    /// Takes memory back that nobody uses any more.
    pub(crate) fn take_back(&self, lent: &Arc<Lent>) {
        self.lender.take_back(lent);
    }

    /// The last physical address that memory for it may have.
    ///
    /// # Errors
    ///
    /// [`Reason::DeviceGone`].
    pub(crate) fn reach(&self) -> Result<u64, Refusal> {
        self.while_bound(|pci| Ok(pci.reach()))
    }

    /// Maps a buffer with pages for it, at addresses of the device's below `below` if that is not 0.
    ///
    /// # Errors
    ///
    /// [`Reason::DeviceGone`].
    pub(crate) fn attach(
        &self,
        buffer: &BufferRef,
        direction: Direction,
        below: u64,
    ) -> Result<Result<Arc<Attached>, NotMapped>, Refusal> {
        // As many bits as have no address beyond it.
        let most = below.checked_ilog2();
        let attached = self.lender.attach(buffer, direction, most);
        attached.ok_or_else(|| Reason::DeviceGone.into())
    }

    /// Has another driver map its dma-buf for the device.
    ///
    /// # Errors
    ///
    /// [`Reason::DeviceGone`].
    pub(crate) fn import(
        &self,
        foreign: &Foreign,
        direction: Direction,
    ) -> Result<Result<Arc<Attached>, NotMapped>, Refusal> {
        let attached = self.lender.import(foreign, direction);
        attached.ok_or_else(|| Reason::DeviceGone.into())
    }

    /// Takes the addresses of a buffer away, if the device did not when it went.
    pub(crate) fn detach(&self, attached: &Arc<Attached>) {
        self.lender.detach(attached);
    }

    /// Gives bytes of a buffer to the CPU or to the device; whether that has addresses for it.
    pub(crate) fn sync(
        &self,
        attached: &Arc<Attached>,
        range: (u64, u64),
        direction: Direction,
        for_cpu: bool,
    ) -> bool {
        self.lender.sync(attached, range, direction, for_cpu)
    }

    /// Bits of its DMA addresses.
    pub(crate) fn dma_mask(&self) -> u32 {
        let bound = self.lender.while_bound(PciDevice::dma_mask);
        bound.unwrap_or(self.told.dma_mask)
    }

    /// Whether an IOMMU keeps it from memory that is not its own.
    pub(crate) fn isolated(&self) -> bool {
        self.told.iommu == Iommu::Translated.number()
    }

    /// Its address, as `0000:00:04.0`.
    pub(crate) fn name(&self) -> &[u8] {
        let name = &self.told.name;
        let end = name.iter().position(|byte| *byte == 0);
        name.get(..end.unwrap_or(name.len())).unwrap_or_default()
    }

    /// Whether it is there.
    pub(crate) fn there(&self) -> bool {
        self.lender.while_bound(|_| ()).is_some()
    }

    /// Whether it is being unbound, or was. Under `Driver::names` it is not, or its names are looked for afterwards.
    pub(crate) fn going(&self) -> bool {
        self.going.load(Relaxed)
    }

    /// What is named for it has no name any more, and nothing gets one.
    fn forget_names(&self, driver: &Driver) {
        self.going.store(true, Relaxed);
        named::device_goes(driver, self);
    }

    fn hide(&self) {
        // Not under the lock: whoever reads the node's attributes is waited for.
        let node = self.node.lock().take();
        drop(node);
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
                device.lender.while_bound(|pci| pci.set_master(true));
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
        self.device.lender.while_bound(|pci| {
            to.state |= device_state::PRESENT;
            if pci.is_master() {
                to.state |= device_state::BUS_MASTER;
            }
            to.dma_mask = pci.dma_mask();
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
            self.device.lender.while_bound(|pci| pci.set_master(false));
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
        let text = lender.while_bound(|pci| {
            pci.tell(&mut told);
            told.dma_mask = pci.dma_mask();
            pci.name()
        });
        let text = text.ok_or(ENODEV)??;
        for (to, from) in told.name.iter_mut().zip(text.to_bytes()) {
            *to = *from;
        }
        let text = text.to_str().map_err(|_| EINVAL)?;
        let node = NodeName {
            sysfs: CString::try_from_fmt(fmt!("pci-{text}"))?,
            path: CString::try_from_fmt(fmt!("mapbuf/pci-{text}"))?,
        };
        let mut devices = this.devices.lock();
        let minor = devices.free_minor().ok_or(ENOSPC)?;
        let device = Arc::pin_init(
            pin_init!(BoundDevice {
                lender,
                told,
                minor,
                going: Atomic::new(false),
                users <- kernel::new_mutex!(Users::default(), "mapbuf_device_users"),
                node <- kernel::new_mutex!(None, "mapbuf_node"),
                _counted: Counted::new(Sort::Device),
            }),
            GFP_KERNEL,
        )?;
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
                device.forget_names(&this);
                return Err(error);
            }
        }
        Ok(device)
    }

    fn unbind(this: ArcBorrow<'_, Self>, device: Arc<BoundDevice>) {
        this.devices.lock().remove(device.minor);
        device.hide();
        device.forget_names(&this);
    }
}
