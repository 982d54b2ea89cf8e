//! The device that is bound to the driver (QEMU's `edu`), which reaches all memory: no IOMMU is before it.
//!
//! So its node is for who may do anything: whether a file may use the device was settled when it was opened.

use super::{Refused, Result, World};
use crate::op::USER;
use mapbuf_abi::Reason;
use std::cell::Cell;
use std::rc::Rc;

/// The device while it is bound; bound again, it is another.
#[derive(Debug, Default)]
pub struct Bound {
    gone: Cell<bool>,
    /// Blocks of memory that have addresses for it: coherent ones, and what was attached.
    blocks: Cell<u64>,
}

impl Bound {
    /// Whether it is bound still.
    pub fn there(&self) -> bool {
        !self.gone.get()
    }

    /// Whether anything has addresses for it.
    pub fn used(&self) -> bool {
        self.blocks.get() > 0
    }

    pub(super) fn take(&self) {
        self.blocks.set(self.blocks.get() + 1);
    }

    pub(super) fn give_back(&self) {
        self.blocks.set(self.blocks.get() - 1);
    }
}

/// The device as one open file of its node has it.
#[derive(Clone, Debug)]
pub struct OfDevice {
    /// Which.
    pub bound: Rc<Bound>,
    /// Root opened it.
    pub rawio: bool,
}

impl OfDevice {
    /// That the file may use the device.
    ///
    /// # Errors
    ///
    /// [`Reason::DeviceGone`], [`Reason::DeviceNotIsolated`].
    pub fn usable(&self) -> Result<()> {
        match (self.bound.there(), self.rawio) {
            (false, _) => Err(Reason::DeviceGone.into()),
            (true, false) => Err(Reason::DeviceNotIsolated.into()),
            (true, true) => Ok(()),
        }
    }
}

/// Addresses that a device has for a buffer.
#[derive(Debug)]
pub struct Attached {
    bound: Rc<Bound>,
    /// Which way bytes go, as in `Direction`.
    pub direction: u32,
    ended: Cell<bool>,
}

impl Attached {
    /// Whether the device has them still.
    pub fn alive(&self) -> bool {
        !self.ended.get() && self.bound.there()
    }
}

/// What keeps addresses: an id and a name share one.
#[derive(Debug)]
pub struct Kept(Rc<Attached>);

impl Kept {
    /// New addresses.
    pub fn new(bound: &Rc<Bound>, direction: u32) -> Rc<Self> {
        bound.take();
        Rc::new(Self(Rc::new(Attached {
            bound: Rc::clone(bound),
            direction,
            ended: Cell::new(false),
        })))
    }

    /// The addresses.
    pub fn attached(&self) -> &Rc<Attached> {
        &self.0
    }

    /// Whose they are.
    pub fn bound(&self) -> &Rc<Bound> {
        &self.0.bound
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.ended.set(true);
        self.0.bound.give_back();
    }
}

/// What a file has to do with a device, for one buffer.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// The device of the node, or the one that the named buffer is for.
    pub device: Option<Rc<Bound>>,
    /// The addresses that the buffer was given.
    pub attached: Option<Rc<Attached>>,
}

impl World {
    /// The device, if it is bound.
    pub fn device(&self) -> Option<&Rc<Bound>> {
        self.device.as_ref()
    }

    /// Opens the device's node, which everybody may.
    pub(super) fn open_device(&self, uid: u32) -> Result<OfDevice> {
        let bound = self.device.as_ref().ok_or(Refused::Kernel(libc::ENOENT))?;
        Ok(OfDevice {
            bound: Rc::clone(bound),
            rawio: uid != USER,
        })
    }
}
