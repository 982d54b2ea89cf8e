// SPDX-License-Identifier: GPL-2.0

//! `region`: a reserved physical range, claimed and viewed by the kernel as long as the buffer lives.
//!
//! A device's range is never touched unasked: a read can hang a bus or take data out of a queue. Memory is read
//! when it is registered, since a range that nothing answers maps without an error and then reads all ones, or
//! zeros, for ever.

use super::gate::Gate;
use crate::{
    abi::{
        reason::{
            Reason,
            Refusal, //
        },
        wire::{
            RegionState,
            RegionType, //
        },
    },
    policy::region::{
        settled,
        Declared,
        Sample, //
    },
    sys::{
        bytes::Bytes,
        caller,
        lease::Hold,
        physical::{
            Claim,
            ClaimError,
            View, //
        },
        Attributes,
        Backing,
        Frames,
        PageRef, //
    },
};
use core::ptr::NonNull;
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    str::CString,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
};

/// What is known about a region. It outlives the region, for the list.
pub(crate) struct Knowledge(Atomic<u32>);

impl Knowledge {
    pub(crate) fn new() -> Self {
        Self(Atomic::new(RegionState::Unprobed.number()))
    }

    pub(crate) fn state(&self) -> RegionState {
        RegionState::from_number(self.0.load(Relaxed)).unwrap_or(RegionState::Unprobed)
    }

    pub(crate) fn set(&self, state: RegionState) {
        self.0.store(state.number(), Relaxed);
    }
}

/// How many words are read at the start of each page after the first.
const WORDS_PER_PAGE: usize = 8;

pub(crate) struct Region {
    view: View,
    declared: Declared,
    knowledge: Arc<Knowledge>,
    gate: Pin<KBox<Gate>>,
}

impl Region {
    /// Claims a range and looks at it, as far as that is harmless.
    pub(crate) fn new(
        declared: &Declared,
        name: &str,
        knowledge: Arc<Knowledge>,
    ) -> Result<Self, Refusal> {
        let bytes = declared.bytes;
        let unmappable = Reason::RegionUnmappable.with(&[bytes]);
        let name = CString::try_from_fmt(fmt!("mapbuf {name}")).map_err(|_| unmappable)?;
        let claim = Claim::new(declared.start, bytes, name).map_err(|error| match error {
            ClaimError::IsRam => Reason::RegionIsRam.with(&[bytes]),
            ClaimError::Taken => Reason::RegionTaken.with(&[bytes]),
        })?;
        let gate = KBox::pin_init(Gate::new(), GFP_KERNEL).map_err(|_| unmappable)?;
        let view = View::new(claim, declared.cache.into(), declared.width).ok_or(unmappable)?;
        let region = Self {
            view,
            declared: *declared,
            knowledge,
            gate,
        };
        if let Some(write) = declared.probed_at_once() {
            region.probe(write);
        }
        Ok(region)
    }

    /// Memory or a device.
    pub(crate) fn class(&self) -> RegionType {
        self.declared.class
    }

    /// A probe found nothing behind it, and the declaration does not ignore that.
    pub(crate) fn unbacked(&self) -> bool {
        self.declared.refuses(self.knowledge.state())
    }

    /// Who uses it now.
    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Bits in each of the kernel's own accesses, where those must be by words.
    pub(crate) fn word(&self) -> Option<u32> {
        self.view.word()
    }

    /// Reads the first page and the start of each other page. With `write`, also writes to each and restores it;
    /// the caller must be [`Gate::alone`] for that.
    pub(crate) fn probe(&self, write: bool) -> (RegionState, Sample) {
        let mut sample = Sample::default();
        let mut kept = true;
        for index in 0..self.len() {
            let words = if index == 0 {
                PAGE_SIZE
            } else {
                WORDS_PER_PAGE
            };
            self.view
                .sample(index, words, |word, width| sample.add(word, width));
            if write {
                kept &= self.view.keeps(index);
            }
            caller::cond_resched();
            if caller::fatal_signal_pending() {
                // Too little was seen to decide.
                return (self.knowledge.state(), sample);
            }
        }
        let state = settled(write.then_some(kept), &sample, self.knowledge.state());
        self.knowledge.set(state);
        (state, sample)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // A region that was refused for its name is dropped, too, and stays refused.
        if self.knowledge.state() != RegionState::Refused {
            self.knowledge.set(RegionState::Released);
        }
    }
}

impl Backing for Region {
    fn len(&self) -> usize {
        self.view.claim().pages()
    }

    fn page(&self, _index: usize) -> Option<PageRef<'_>> {
        None
    }

    fn frames<'a>(&'a self, _hold: &'a Hold<'_>, index: usize, most: usize) -> Option<Frames<'a>> {
        self.view.frames(index, most)
    }

    fn attributes(&self) -> Attributes<'_> {
        self.view.attributes()
    }

    fn bytes<'a>(
        &'a self,
        _hold: &'a Hold<'_>,
        index: usize,
        offset: usize,
        length: usize,
    ) -> Option<Bytes<'a>> {
        self.view.bytes(index, offset, length)
    }

    fn address(&self) -> Option<NonNull<u8>> {
        None
    }
}
