// SPDX-License-Identifier: GPL-2.0

//! `pages`: folios, the largest orders first.
//!
//! The largest order is that of a PMD entry, since a folio of any other size gets none (`do_set_pmd` of
//! `mm/memory.c`). When no folio of an order is available, the rest is allocated with the next smaller order.

use super::spec::Spec;
use crate::{
    abi::reason::Refusal,
    policy::plan::Huge,
    sys::{
        alloc::{
            self,
            Run,
            Runs, //
        },
        bytes::Bytes,
        caller,
        lease::Hold,
        Attributes,
        Backing,
        Frames,
        PageRef,
        Parked,
        Recached, //
    },
};
use core::ptr::NonNull;

pub(crate) struct Pages {
    runs: Recached<Runs>,
}

impl Pages {
    pub(super) fn new(spec: &Spec) -> Result<Self, Refusal> {
        let mut runs = Runs::new();
        let mut order = alloc::pmd_order();
        while runs.len() < spec.pages {
            let done = runs.len();
            order = order.min((spec.pages - done).checked_ilog2().unwrap_or(0));
            match Run::folio(order, spec.node, false) {
                Some(run) => runs
                    .push(run)
                    .map_err(|_| spec.out_of_memory(None, done, 0))?,
                None if order > 0 && !caller::fatal_signal_pending() => order -= 1,
                None => return Err(spec.out_of_memory(None, done, 0)),
            }
            caller::cond_resched();
            if caller::fatal_signal_pending() {
                return Err(spec.out_of_memory(None, runs.len(), 0));
            }
        }
        let runs = Recached::new(runs, spec.cache).map_err(|error| spec.cache_refused(error))?;
        Ok(Self { runs })
    }

    pub(super) fn park(self, parked: &mut Parked) {
        self.runs.park(parked);
    }

    pub(super) fn huge(&self, start: usize, end: usize) -> Huge {
        let huge = 1 << alloc::pmd_order();
        let whole = |(at, len)| len == huge && at >= start && at + huge <= end;
        if huge > 1 && self.runs.pieces().any(whole) {
            Huge::Folio
        } else {
            Huge::No
        }
    }
}

impl Backing for Pages {
    fn len(&self) -> usize {
        self.runs.len()
    }

    fn page(&self, index: usize) -> Option<PageRef<'_>> {
        self.runs.page(index)
    }

    fn frames<'a>(&'a self, hold: &'a Hold<'_>, index: usize, most: usize) -> Option<Frames<'a>> {
        self.runs.frames(hold, index, most)
    }

    fn attributes(&self) -> Attributes<'_> {
        self.runs.attributes()
    }

    fn bytes<'a>(
        &'a self,
        hold: &'a Hold<'_>,
        index: usize,
        offset: usize,
        length: usize,
    ) -> Option<Bytes<'a>> {
        self.runs.bytes(hold, index, offset, length)
    }

    fn address(&self) -> Option<NonNull<u8>> {
        None
    }
}
