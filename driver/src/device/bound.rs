// SPDX-License-Identifier: GPL-2.0

//! A bound device as the memory of buffers knows it.

use crate::{
    abi::{
        reason::{
            Reason,
            Refusal, //
        },
        wire::{
            self,
            Direction,
            Iommu, //
        },
    },
    sys::{
        attached::{
            Attached,
            NotMapped, //
        },
        counts::{
            Counted,
            Sort, //
        },
        dmabuf::{
            DmaBuf,
            Exporter, //
        },
        foreign::Foreign,
        hardware::Hardware,
        lend::{
            Lender,
            Lent, //
        },
        node::{
            NoAttributes,
            Node, //
        },
        LentBar, //
    },
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex, //
    },
};

/// Open files of a node.
#[derive(Default)]
pub(super) struct Users {
    /// Those that may use the device.
    pub(super) now: u32,
    /// All that there ever were.
    pub(super) ever: u64,
}

/// A device that is, or was, bound to the driver.
#[pin_data]
pub(crate) struct BoundDevice {
    pub(super) lender: Arc<Lender>,
    /// What was known of it when it was bound.
    pub(super) told: wire::Device,
    pub(super) minor: u32,
    /// It is being unbound. Set before those who have names for its memory are looked for, so that nobody names more.
    going: Atomic<bool>,
    /// Open files of its node. It may send DMA while some may use it, and not after one of them was closed where no IOMMU keeps
    /// it from what that one had.
    #[pin]
    pub(super) users: Mutex<Users>,
    /// Goes when the device does.
    #[pin]
    pub(super) node: Mutex<Option<Node<NoAttributes>>>,
    _counted: Counted,
}

impl BoundDevice {
    /// A device that was just bound.
    pub(super) fn new(lender: Arc<Lender>, told: wire::Device, minor: u32) -> impl PinInit<Self> {
        pin_init!(Self {
            lender,
            told,
            minor,
            going: Atomic::new(false),
            users <- kernel::new_mutex!(Users::default(), "mapbuf_device_users"),
            node <- kernel::new_mutex!(None, "mapbuf_node"),
            _counted: Counted::new(Sort::Device),
        })
    }

    /// Calls `f` while the device is bound, and stays so until it returns.
    ///
    /// # Errors
    ///
    /// [`Reason::DeviceGone`].
    pub(super) fn while_bound<R>(
        &self,
        f: impl FnOnce(&Hardware) -> Result<R, Refusal>,
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

    /// Ends what a buffer has shown of a base address register.
    pub(crate) fn end_bar(&self, lent: &Arc<LentBar>) {
        self.lender.end_bar(lent);
    }

    /// The last physical address that memory for it may have.
    ///
    /// # Errors
    ///
    /// [`Reason::DeviceGone`].
    pub(crate) fn reach(&self) -> Result<u64, Refusal> {
        self.while_bound(|hardware| Ok(hardware.reach()))
    }

    /// Maps a buffer with pages for it, at addresses of the device's below `below` if that is not 0.
    ///
    /// # Errors
    ///
    /// [`Reason::DeviceGone`].
    pub(crate) fn attach<T: Exporter>(
        &self,
        buffer: &DmaBuf<T>,
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
        let bound = self.lender.while_bound(Hardware::dma_mask);
        bound.unwrap_or(self.told.dma_mask)
    }

    /// Whether an IOMMU keeps it from memory that is not its own.
    pub(crate) fn isolated(&self) -> bool {
        self.told.iommu == Iommu::Translated.number()
    }

    /// Its name on its bus, as `0000:00:04.0`.
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

    /// From now on it is being unbound.
    pub(super) fn go(&self) {
        self.going.store(true, Relaxed);
    }

    /// Takes its node away.
    pub(super) fn hide(&self) {
        // Not under the lock: whoever reads the node's attributes is waited for.
        let node = self.node.lock().take();
        drop(node);
    }
}
