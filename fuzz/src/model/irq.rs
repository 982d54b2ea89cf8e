//! `IRQ`: interrupts of the bound device, which one open file of its node has at a time.
//!
//! The device itself never interrupts here: what an eventfd counts are triggers, and the end of the device.

use super::declared::{INTX, MSI, MSIX};
use super::ioctls::OF_DEVICE;
use super::{Refused, Result, World};
use crate::answer::Answer;
use crate::op::{Op, EVENTS};
use mapbuf_abi::{IrqAction, IrqKind, Reason};
use std::cell::Cell;
use std::rc::Rc;

/// The place of an eventfd that stands for `NO_DESCRIPTOR`.
pub const NO_EVENT: u8 = EVENTS as u8;
/// The place that stands for descriptor 0, which is no eventfd.
pub const NO_EVENTFD: u8 = NO_EVENT + 1;

/// Vectors that are taken where the caller names no number.
const MOST: u32 = 32;

/// A vector that is set: the eventfd that counts it, and how often it came.
#[derive(Debug)]
struct Line {
    event: Rc<Cell<u64>>,
    came: u64,
}

impl Line {
    fn signal(&self) {
        self.event.set(self.event.get() + 1);
    }
}

/// The vectors of one kind that were taken.
#[derive(Debug)]
pub struct Taken {
    kind: IrqKind,
    /// The number of the open file.
    owner: u64,
    lines: Vec<Option<Line>>,
}

impl Taken {
    /// Whether this open file has taken them.
    pub fn is_of(&self, file: u64) -> bool {
        self.owner == file
    }

    /// The device goes: whoever waits is to look.
    pub fn wake_all(&self) {
        self.lines.iter().flatten().for_each(Line::signal);
    }

    fn line(&mut self, index: u32) -> Result<&mut Line> {
        let line = self.lines.get_mut(index as usize);
        line.and_then(Option::as_mut)
            .ok_or_else(|| Reason::IrqNotSet.into())
    }
}

impl World {
    pub(super) fn irq(&mut self, worker: u8, op: &Op) -> Result<Answer> {
        let Op::Irq {
            file,
            kind,
            index,
            action,
            event,
            vectors,
            damage,
        } = *op
        else {
            return Err(Refused::Kernel(libc::EINVAL));
        };
        let begun = self.begin(worker, file, damage, OF_DEVICE)?;
        let device = begun.session()?.device.as_ref();
        let device = device.ok_or(Reason::NeedsDevice)?;
        device.usable()?;
        let kind = IrqKind::from_number(kind).ok_or(Reason::UnknownIrqKind)?;
        let action = IrqAction::from_number(action).ok_or(Reason::UnknownIrqAction)?;
        let eventfd = match (action, event) {
            (IrqAction::Set, NO_EVENT) => None,
            (IrqAction::Set, event) => {
                let event = self.events.get(usize::from(event));
                Some(event.ok_or(Reason::NotAnEventFd)?)
            }
            (_, NO_EVENTFD) => None,
            _ => return Err(Reason::ReservedNotZero.into()),
        };
        if eventfd.is_none() && vectors != 0 {
            return Err(Reason::ReservedNotZero.into());
        }
        let mut interrupts = device.bound.interrupts.borrow_mut();
        if interrupts.is_none() {
            let have = match kind {
                IrqKind::Intx => INTX,
                IrqKind::Msi => MSI,
                IrqKind::Msix => MSIX,
            };
            let most = match vectors {
                0 => have.min(MOST),
                vectors => have.min(vectors),
            };
            if eventfd.is_none() {
                return Err(Reason::IrqNotSet.into());
            }
            if index >= most {
                return Err(Reason::NoSuchVector.into());
            }
            *interrupts = Some(Taken {
                kind,
                owner: device.number,
                lines: (0..most).map(|_| None).collect(),
            });
        }
        let Some(taken) = interrupts.as_mut() else {
            return Err(Reason::IrqNotSet.into());
        };
        if !taken.is_of(device.number) {
            return Err(Reason::IrqTaken.into());
        }
        if taken.kind != kind {
            return Err(Reason::IrqKindInUse.into());
        }
        let count = taken.lines.len() as u64;
        let came = match (action, eventfd) {
            (IrqAction::Set, Some(event)) => {
                let slot = taken.lines.get_mut(index as usize);
                let event = Rc::clone(event);
                *slot.ok_or(Reason::NoSuchVector)? = Some(Line { event, came: 0 });
                0
            }
            (IrqAction::Set, None) => {
                let came = taken.line(index)?.came;
                if let Some(slot) = taken.lines.get_mut(index as usize) {
                    *slot = None;
                }
                came
            }
            // What was masked is triggered all the same: that is for tests of whoever waits.
            (IrqAction::Trigger, _) => {
                let line = taken.line(index)?;
                line.came += 1;
                line.signal();
                line.came
            }
            (IrqAction::Mask | IrqAction::Unmask, _) => taken.line(index)?.came,
        };
        if taken.lines.iter().all(Option::is_none) {
            *interrupts = None;
        }
        begun.answer(&[came, count])
    }

    /// Reads an eventfd, which begins at 0 again then.
    pub(super) fn count(&self, event: u8) -> Result<Answer> {
        let event = self.events.get(usize::from(event));
        match event.ok_or(Refused::Kernel(libc::EBADF))?.take() {
            0 => Err(Refused::Kernel(libc::EAGAIN)),
            count => Ok(Answer::of(&[count])),
        }
    }
}
