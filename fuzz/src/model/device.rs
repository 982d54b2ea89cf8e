//! The device that is bound to the driver (QEMU's `nvme`), which reaches all memory: no IOMMU is before it.
//!
//! So its node is for who may do anything: whether a file may use the device was settled when it was opened.

use super::irq::Taken;
use super::memory::{Buffer, Page};
use super::{Named, Refused, Result, World};
use crate::answer::Answer;
use crate::op::USER;
use mapbuf_abi::{Cache, Reason};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// The device while it is bound; bound again, it is another.
#[derive(Debug)]
pub struct Bound {
    gone: Cell<bool>,
    /// Blocks of memory that have addresses for it: coherent ones, and what was attached.
    blocks: Cell<u64>,
    /// Open files that its node ever had.
    files: Cell<u64>,
    /// Its interrupts, where somebody has taken them.
    pub(super) interrupts: RefCell<Option<Taken>>,
    /// How many buffers show its memory, and in which cache mode.
    shown: Cell<(u64, Cache)>,
    /// That memory, which stays when the device goes.
    pub(super) bar: Rc<RefCell<Vec<Page>>>,
}

impl Bound {
    /// The device, bound just now, with this memory.
    pub(super) fn new(bar: Rc<RefCell<Vec<Page>>>) -> Rc<Self> {
        Rc::new(Self {
            gone: Cell::default(),
            blocks: Cell::default(),
            files: Cell::default(),
            interrupts: RefCell::default(),
            shown: Cell::new((0, Cache::Uncached)),
            bar,
        })
    }

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

    /// One buffer more shows its memory.
    ///
    /// # Errors
    ///
    /// [`Reason::BarCache`]: others show it in another mode.
    pub(super) fn show(&self, cache: Cache) -> Result<()> {
        match self.shown.get() {
            (0, _) => self.shown.set((1, cache)),
            (by, same) if same == cache => self.shown.set((by + 1, cache)),
            _ => return Err(Reason::BarCache.into()),
        }
        Ok(())
    }

    pub(super) fn show_no_more(&self) {
        let (by, cache) = self.shown.get();
        self.shown.set((by - 1, cache));
    }

    /// It goes: whoever waits for an interrupt is told.
    fn go(&self) {
        self.gone.set(true);
        if let Some(taken) = self.interrupts.take() {
            taken.wake_all();
        }
    }
}

/// The device as one open file of its node has it.
#[derive(Debug)]
pub struct OfDevice {
    /// Which.
    pub bound: Rc<Bound>,
    /// Root opened it.
    pub rawio: bool,
    /// Which of its open files this is.
    pub number: u64,
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

impl Drop for OfDevice {
    fn drop(&mut self) {
        let number = self.number;
        let mut interrupts = self.bound.interrupts.borrow_mut();
        interrupts.take_if(|taken| taken.is_of(number));
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

impl Reach {
    /// Whether the device, or the lack of one, has an address for the buffer.
    pub fn has_address(&self, buffer: &Buffer) -> bool {
        match (&self.attached, &buffer.device, &self.device) {
            (Some(attached), ..) => attached.alive(),
            (None, Some(own), Some(device)) => {
                !buffer.is_bar() && own.there() && Rc::ptr_eq(own, device)
            }
            // The system's own memory has one for the system's own device.
            (None, None, None) => buffer.is_coherent(),
            _ => false,
        }
    }
}

impl World {
    /// The device, if it is bound.
    pub fn device(&self) -> Option<&Rc<Bound>> {
        self.device.as_ref()
    }

    /// The pages of its own memory that are not known to be zero.
    pub fn written_bar(&self) -> Vec<u64> {
        let bar = self.bar.borrow();
        let pages = (0..).zip(bar.iter());
        let written = pages.filter(|(_, page)| page.is_some());
        written.map(|(number, _)| number).collect()
    }

    /// Opens the device's node, which everybody may.
    pub(super) fn open_device(&self, uid: u32) -> Result<OfDevice> {
        let bound = self.device.as_ref().ok_or(Refused::Kernel(libc::ENOENT))?;
        Ok(OfDevice {
            bound: Rc::clone(bound),
            rawio: uid != USER,
            number: super::next(&bound.files),
        })
    }

    /// Takes the device from the driver (`unbind_store` of `drivers/base/bus.c`), whoever uses it.
    pub(super) fn unbind(&mut self, worker: u8) -> Result<Answer> {
        self.root(worker)?;
        let bound = self.device.take().ok_or(Refused::Kernel(libc::ENODEV))?;
        bound.go();
        let is_of = |named: &Named| named.device().is_some_and(|own| Rc::ptr_eq(own, &bound));
        self.names.retain(|_, named| {
            let stays = !is_of(named);
            if !stays {
                named.buffer.name.set(None);
            }
            stays
        });
        Ok(Answer::done())
    }

    /// Gives it to the driver (`bind_store` there).
    pub(super) fn bind(&mut self, worker: u8) -> Result<Answer> {
        self.root(worker)?;
        if self.device.is_some() {
            return Err(Refused::Kernel(libc::EBUSY));
        }
        self.device = Some(Bound::new(Rc::clone(&self.bar)));
        Ok(Answer::done())
    }

    /// That a worker may write to files of sysfs.
    fn root(&self, worker: u8) -> Result<()> {
        match self.process(worker).uid {
            0 => Ok(()),
            _ => Err(Refused::Kernel(libc::EACCES)),
        }
    }
}
