// SPDX-License-Identifier: GPL-2.0

//! The physically contiguous runs of a buffer. They are counted once, when the memory is allocated. A run that lies far
//! from the last mark, in runs or in pages, is marked. To answer about some runs, only those and a few before them are
//! visited, and the end of a long run is known.

use crate::{
    abi::reason::{
        Reason,
        Refusal, //
    },
    memory::Memory,
    refusals,
    sys::{
        caller,
        LongVec, //
    },
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*, //
};

/// A run is marked when it lies this many runs, or this many pages, behind the last mark.
const RUNS: u32 = 16;
const PAGES: usize = 64;

/// Where a run begins.
#[derive(Clone, Copy)]
struct Mark {
    number: u32,
    page: u32,
}

/// # Invariants
///
/// `marks` are sorted by number. The first run is marked, and so is the end behind the last one. The run behind a run of
/// [`PAGES`] pages or more is marked. Where all is one run, there are no marks.
pub(crate) struct Runs {
    total: u32,
    marks: LongVec<Mark>,
}

impl Runs {
    /// Counts those of `memory`.
    pub(crate) fn count(memory: &Memory) -> Result<Self, Refusal> {
        let mut runs = Self {
            total: 0,
            marks: LongVec::new(),
        };
        let mut at = 0;
        if length(memory, 0) >= memory.backing().len() {
            // INVARIANT: All is one run.
            runs.total = 1;
            return Ok(runs);
        }
        while at < memory.backing().len() {
            let far = runs.marks.last().is_none_or(|last| {
                runs.total - last.number >= RUNS || at - last.page as usize >= PAGES
            });
            if far {
                runs.mark(memory, at)?;
            }
            at += length(memory, at);
            runs.total = runs.total.saturating_add(1);
            resched_unless_killed(memory, at)?;
        }
        // INVARIANT: What follows a long run is at least as far from the last mark as the run is long.
        runs.mark(memory, memory.backing().len())?;
        Ok(runs)
    }

    fn mark(&mut self, memory: &Memory, page: usize) -> Result<(), Refusal> {
        let bytes = (memory.backing().len() * PAGE_SIZE) as u64;
        let no_memory = || refusals::no_memory(bytes, PAGE_SIZE as u64);
        let mark = Mark {
            number: self.total,
            // A buffer has fewer than 2^32 pages (`policy::place::MAX_BUFFER_PAGES`).
            page: u32::try_from(page).map_err(|_| no_memory())?,
        };
        let flags = GFP_KERNEL_ACCOUNT | __GFP_NOWARN;
        self.marks.push(mark, flags).map_err(|_| no_memory())
    }

    /// How many there are.
    pub(crate) fn total(&self) -> u32 {
        self.total
    }

    /// Calls `f` with the first page and the length of each run, starting at run `first`, at most `count` times.
    pub(crate) fn each(
        &self,
        memory: &Memory,
        first: u32,
        count: u32,
        mut f: impl FnMut(usize, usize) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let end = first.saturating_add(count).min(self.total);
        if first >= end {
            return Ok(());
        }
        if self.marks.is_empty() {
            return f(0, memory.backing().len());
        }
        let mut next = self.marks.partition_point(|mark| mark.number <= first);
        let Some(start) = next.checked_sub(1).and_then(|last| self.marks.get(last)) else {
            return Ok(());
        };
        let (mut number, mut at) = (start.number, start.page as usize);
        while number < end {
            let follows = self
                .marks
                .get(next)
                .filter(|mark| mark.number == number + 1);
            let behind = match follows {
                Some(mark) => {
                    next += 1;
                    mark.page as usize
                }
                // A short one.
                None => at + length(memory, at),
            };
            if number >= first {
                f(at, behind - at)?;
            }
            at = behind;
            number += 1;
            resched_unless_killed(memory, at)?;
        }
        Ok(())
    }
}

/// Pages from `at` to the end of its run.
fn length(memory: &Memory, at: usize) -> usize {
    memory.run_from(at).max(1)
}

/// Reschedules if need be, and ends the walk when the caller is being killed.
fn resched_unless_killed(memory: &Memory, at: usize) -> Result<(), Refusal> {
    caller::cond_resched();
    if caller::fatal_signal_pending() {
        let bytes = (memory.backing().len() * PAGE_SIZE) as u64;
        return Err(Reason::Interrupted.with(&[bytes, (at * PAGE_SIZE) as u64]));
    }
    Ok(())
}
