// SPDX-License-Identifier: GPL-2.0

//! The physically contiguous runs of a buffer. They are counted once, when the memory is there; a mark at every 16th
//! says where it begins, so that an answer about some of them walks those and the ones from the last mark on.

use crate::{
    abi::reason::{
        Reason,
        Refusal, //
    },
    refusals,
    sys::{
        caller,
        Backing, //
    },
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*, //
};

/// Runs from one mark to the next.
const STEP: u32 = 16;

/// # Invariants
///
/// Mark `n` is the first page of run `n * STEP`.
pub(crate) struct Runs {
    total: u32,
    marks: KVVec<u32>,
}

impl Runs {
    /// Counts those of `memory`.
    pub(crate) fn count(memory: &dyn Backing) -> Result<Self, Refusal> {
        let mut runs = Self {
            total: 0,
            marks: KVVec::new(),
        };
        let bytes = (memory.len() * PAGE_SIZE) as u64;
        walk(memory, 0, |at, _| {
            if runs.total % STEP == 0 {
                let no_memory = || refusals::no_memory(bytes, PAGE_SIZE as u64);
                // A buffer has fewer than 2^32 pages (`policy::place::MAX_BUFFER_PAGES`).
                let mark = u32::try_from(at).map_err(|_| no_memory())?;
                let flags = GFP_KERNEL_ACCOUNT | __GFP_NOWARN;
                // INVARIANT: As many marks are there as runs before this one, by steps.
                runs.marks.push(mark, flags).map_err(|_| no_memory())?;
            }
            runs.total = runs.total.saturating_add(1);
            Ok(true)
        })?;
        Ok(runs)
    }

    /// How many there are.
    pub(crate) fn total(&self) -> u32 {
        self.total
    }

    /// Calls `f` for those from number `first` on, with the first page and the number of pages; at most `count` times.
    pub(crate) fn each(
        &self,
        memory: &dyn Backing,
        first: u32,
        count: u32,
        mut f: impl FnMut(usize, usize) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let mark = first / STEP;
        let Some(at) = self.marks.get(mark as usize) else {
            return Ok(());
        };
        let mut number = mark * STEP;
        let end = first.saturating_add(count);
        walk(memory, *at as usize, |at, run| {
            if number >= end {
                return Ok(false);
            }
            if number >= first {
                f(at, run)?;
            }
            number = number.saturating_add(1);
            Ok(number < end)
        })
    }
}

/// Calls `f` for each run from page `at` on, until it answers with false.
fn walk(
    memory: &dyn Backing,
    mut at: usize,
    mut f: impl FnMut(usize, usize) -> Result<bool, Refusal>,
) -> Result<(), Refusal> {
    while at < memory.len() {
        let run = memory
            .frames(at, usize::MAX)
            .map_or(1, |frames| frames.count());
        if !f(at, run)? {
            break;
        }
        at += run;
        caller::cond_resched();
        if caller::fatal_signal_pending() {
            let bytes = (memory.len() * PAGE_SIZE) as u64;
            return Err(Reason::Interrupted.with(&[bytes, (at * PAGE_SIZE) as u64]));
        }
    }
    Ok(())
}
