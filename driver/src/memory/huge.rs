// SPDX-License-Identifier: GPL-2.0

//! Huge entries for memory that is mapped by the numbers of its frames.

use crate::{
    policy::plan::Huge,
    sys::{
        alloc,
        Frames, //
    },
};

/// Whether a run of frames, which holds the pages `start` to `end` of a buffer from its first page on, has an
/// aligned piece of the size of a PMD entry.
pub(super) fn huge_frames(run: Option<Frames<'_>>, start: usize, end: usize) -> Huge {
    let Some(run) = run else {
        return Huge::No;
    };
    let huge = 1u64 << alloc::pmd_order();
    let first = run.first().saturating_add(start as u64);
    let first = first.next_multiple_of(huge);
    let last = run.first().saturating_add(end as u64);
    if huge > 1 && first.saturating_add(huge) <= last {
        Huge::Pfn
    } else {
        Huge::No
    }
}
