// SPDX-License-Identifier: GPL-2.0

//! `IRQ`: interrupts of a bound device. They belong to one open file of its node at a time.

use super::DeviceFile;
use crate::{
    abi::{
        reason::{
            Reason,
            Refusal, //
        },
        wire::{
            self,
            IrqAction,
            IrqKind,
            NO_DESCRIPTOR, //
        },
    },
    policy::request,
    sys::irq::{
        EventFd,
        Interrupts,
        Vectors, //
    },
};
use core::mem::offset_of;
use kernel::{
    error::Error,
    page::PAGE_SIZE,
    prelude::*, //
};

/// Vectors that are taken where the caller names no number.
const MOST: u32 = 32;

/// What is wanted of a vector.
struct Wanted {
    kind: IrqKind,
    index: u32,
    action: IrqAction,
    vectors: u32,
    eventfd: Option<EventFd>,
}

impl Wanted {
    fn of(request: &wire::Irq) -> Result<Self, Refusal> {
        let unknown = Reason::UnknownIrqKind.with(&[u64::from(request.kind)]);
        let kind = IrqKind::from_number(request.kind).ok_or(unknown)?;
        let unknown = Reason::UnknownIrqAction.with(&[u64::from(request.action)]);
        let action = IrqAction::from_number(request.action).ok_or(unknown)?;
        let eventfd = match (action, request.fd) {
            (IrqAction::Set, NO_DESCRIPTOR) => None,
            (IrqAction::Set, fd) => {
                let none = Reason::NotAnEventFd.with(&[i64::from(fd) as u64]);
                Some(EventFd::from_descriptor(fd).ok_or(none)?)
            }
            (_, fd) => {
                request::reserved(&[i64::from(fd) as u64], offset_of!(wire::Irq, fd))?;
                None
            }
        };
        if eventfd.is_none() {
            let vectors = [u64::from(request.vectors)];
            request::reserved(&vectors, offset_of!(wire::Irq, vectors))?;
        }
        Ok(Self {
            kind,
            index: request.index,
            action,
            vectors: request.vectors,
            eventfd,
        })
    }

    fn vector(&self) -> [u64; 2] {
        [u64::from(self.kind.number()), u64::from(self.index)]
    }

    fn no_such(&self, vectors: u32) -> Refusal {
        let [kind, index] = self.vector();
        Reason::NoSuchVector.with(&[kind, index, u64::from(vectors)])
    }

    fn refused(&self, error: Error) -> Refusal {
        if error == ENOMEM {
            return Reason::OutOfMemory.with(&[PAGE_SIZE as u64]);
        }
        let errno = u64::from(error.to_errno().unsigned_abs());
        Reason::IrqRefused.with(&[u64::from(self.kind.number()), errno])
    }

    /// Sets a vector of those that were taken.
    fn set(&self, vectors: &mut Vectors, eventfd: EventFd) -> Result<(), Refusal> {
        if self.index >= vectors.count() {
            return Err(self.no_such(vectors.count()));
        }
        vectors
            .set(self.index, eventfd)
            .map_err(|error| self.refused(error))
    }

    /// Does what is wanted, with vectors that the caller's file has taken. Answers with how often it came.
    fn act(&mut self, vectors: &mut Vectors) -> Result<u64, Refusal> {
        let not_set = Reason::IrqNotSet.with(&self.vector());
        let index = self.index;
        match (self.action, self.eventfd.take()) {
            (IrqAction::Set, Some(eventfd)) => self.set(vectors, eventfd)?,
            (IrqAction::Set, None) => return vectors.unset(index).map_err(|_| not_set),
            (IrqAction::Mask, _) => vectors.mask(index).map_err(|_| not_set)?,
            (IrqAction::Unmask, _) => vectors.unmask(index).map_err(|_| not_set)?,
            (IrqAction::Trigger, _) => vectors.trigger(index).map_err(|_| not_set)?,
        }
        vectors.came(index).map_err(|_| not_set)
    }
}

impl DeviceFile {
    /// Does what the request says, and fills in how many vectors there are and how often this one came.
    ///
    /// # Errors
    ///
    /// [`Reason::UnknownIrqKind`], [`Reason::UnknownIrqAction`], [`Reason::NotAnEventFd`], [`Reason::NoSuchVector`],
    /// [`Reason::IrqTaken`], [`Reason::IrqKindInUse`], [`Reason::IrqNotSet`], [`Reason::IrqRefused`],
    /// [`Reason::OutOfMemory`], and those of [`Self::usable`].
    pub(crate) fn irq(&self, request: &mut wire::Irq) -> Result<(), Refusal> {
        self.usable()?;
        let mut wanted = Wanted::of(request)?;
        let lender = &self.device.lender;
        let done = lender.interrupts(|mut interrupts| {
            let done = self.act(&mut wanted, &mut interrupts);
            // The last one that is unset gives them back, and so does a first one that could not be set.
            if interrupts.taken().is_some_and(|vectors| vectors.unused()) {
                interrupts.give_back();
            }
            done
        });
        let none = || match self.device.there() {
            true => wanted.no_such(0),
            false => Reason::DeviceGone.into(),
        };
        (request.count, request.vectors) = done.ok_or_else(none)??;
        Ok(())
    }

    /// Answers with how often the vector came, and how many there are.
    fn act(
        &self,
        wanted: &mut Wanted,
        interrupts: &mut Interrupts<'_>,
    ) -> Result<(u64, u32), Refusal> {
        let vectors = match interrupts.taken() {
            Some(vectors) if vectors.owner() != self.number => {
                return Err(Reason::IrqTaken.with(&wanted.vector()));
            }
            Some(vectors) if vectors.kind() != wanted.kind => {
                let kinds = [wanted.kind, vectors.kind()];
                let kinds = kinds.map(|kind| u64::from(kind.number()));
                return Err(Reason::IrqKindInUse.with(&kinds));
            }
            Some(_) => interrupts.taken(),
            None => Some(self.take(wanted, interrupts)?),
        };
        let vectors = vectors.ok_or(Reason::DeviceGone)?;
        let came = wanted.act(vectors)?;
        Ok((came, vectors.count()))
    }

    /// Takes the device's vectors, the wanted one among them.
    fn take<'a>(
        &self,
        wanted: &Wanted,
        interrupts: &'a mut Interrupts<'_>,
    ) -> Result<&'a mut Vectors, Refusal> {
        if wanted.eventfd.is_none() {
            return Err(Reason::IrqNotSet.with(&wanted.vector()));
        }
        let told = &self.device.told;
        let have = match wanted.kind {
            IrqKind::Intx => told.intx,
            IrqKind::Msi => told.msi,
            IrqKind::Msix => told.msix,
        };
        let most = match wanted.vectors {
            0 => have.min(MOST),
            vectors => have.min(vectors),
        };
        if wanted.index >= most {
            return Err(wanted.no_such(most));
        }
        interrupts
            .take(wanted.kind, most, self.number)
            .map_err(|error| wanted.refused(error))
    }

    /// What this file has set ends.
    pub(super) fn end_interrupts(&self) {
        self.device.lender.interrupts(|mut interrupts| {
            let owner = interrupts.taken().map(|vectors| vectors.owner());
            if owner == Some(self.number) {
                interrupts.give_back();
            }
        });
    }
}
