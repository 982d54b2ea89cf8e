// SPDX-License-Identifier: GPL-2.0

//! Ranges of page offsets, packed into the space from [`place::FIRST_PACKED`] to [`MAX_OFFSET_PAGES`].
//!
//! A new range comes from the space behind all ranges ever given out, as long as there is some, so that a stale offset
//! does not soon refer to another buffer. Afterwards it comes from the smallest gap that is large enough. Each range has
//! a node in two trees: one ordered by position, one by the size of the gap behind the range. Both allocating and freeing
//! a range are logarithmic in the number of ranges, and freeing never needs memory.

use crate::{
    abi::wire::MAX_OFFSET_PAGES,
    policy::place::FIRST_PACKED, //
};
use kernel::{
    alloc::Flags,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    },
};

/// A gap: its size in pages and its first page. A gap of no pages counts, too.
type Gap = (u64, u64);

/// A range that is taken.
struct Range<T> {
    first: u64,
    value: T,
}

/// # Invariants
///
/// The ranges do not overlap. For each of them, and for the start of the space, `gaps` has the gap that begins behind
/// it and ends at the next range, or at the space's end.
pub(crate) struct Places<T> {
    /// By the last page of the range.
    ranges: RBTree<u64, Range<T>>,
    gaps: RBTree<Gap, ()>,
    /// No range has ever lain at or behind this page.
    end: u64,
}

/// Memory for one more range.
pub(crate) struct Reservation<T> {
    range: RBTreeNodeReservation<u64, Range<T>>,
    gap: RBTreeNodeReservation<Gap, ()>,
}

impl<T> Reservation<T> {
    pub(crate) fn new(flags: Flags) -> Result<Self> {
        Ok(Self {
            range: RBTreeNodeReservation::new(flags)?,
            gap: RBTreeNodeReservation::new(flags)?,
        })
    }
}

/// Where a new range can lie.
#[derive(Clone, Copy)]
pub(crate) struct Free {
    gap: Gap,
    at: u64,
    pages: u64,
}

impl<T> Places<T> {
    pub(crate) fn new(flags: Flags) -> Result<Self> {
        let mut gaps = RBTree::new();
        gaps.try_create_and_insert((MAX_OFFSET_PAGES - FIRST_PACKED, FIRST_PACKED), (), flags)?;
        // INVARIANT: There is no range, and one gap from the start to the end.
        Ok(Self {
            ranges: RBTree::new(),
            gaps,
            end: FIRST_PACKED,
        })
    }

    /// A place for a range of `pages` pages, at least 1.
    pub(crate) fn find(&self, pages: u64) -> Option<Free> {
        if self.end.checked_add(pages)? <= MAX_OFFSET_PAGES {
            let last = self.ranges.cursor_back();
            let first = last.map_or(FIRST_PACKED, |last| *last.current().0 + 1);
            return Some(Free {
                gap: (MAX_OFFSET_PAGES - first, first),
                at: self.end,
                pages,
            });
        }
        let fits = self.gaps.cursor_lower_bound(&(pages, 0))?;
        let gap = *fits.current().0;
        Some(Free {
            gap,
            at: gap.1,
            pages,
        })
    }

    /// Takes a place that [`Self::find`] has just found. Returns its first page.
    pub(crate) fn take(&mut self, free: Free, memory: Reservation<T>, value: T) -> u64 {
        let Free { gap, at, pages } = free;
        let behind = at + pages;
        if let Some(node) = self.gaps.remove_node(&gap) {
            let node = node.into_reservation();
            self.gaps.insert(node.into_node((at - gap.1, gap.1), ()));
        }
        let rest = (gap.1 + gap.0) - behind;
        self.gaps.insert(memory.gap.into_node((rest, behind), ()));
        let range = Range { first: at, value };
        // INVARIANT: The range lies in what was one gap, and both parts that are left of it are noted.
        self.ranges
            .insert(memory.range.into_node(behind - 1, range));
        self.end = self.end.max(behind);
        at
    }

    /// Frees the range that has these pages.
    pub(crate) fn remove(&mut self, first: u64, pages: u64) -> Option<T> {
        let last = first + pages - 1;
        let (start, end) = {
            let here = self.ranges.cursor_lower_bound(&last)?;
            if *here.current().0 != last {
                return None;
            }
            let start = here.peek_prev().map_or(FIRST_PACKED, |(last, _)| last + 1);
            let next = here.peek_next().map(|(_, next)| next.first);
            (start, next.unwrap_or(MAX_OFFSET_PAGES))
        };
        self.gaps.remove(&(end - last - 1, last + 1));
        if let Some(node) = self.gaps.remove_node(&(first - start, start)) {
            let node = node.into_reservation();
            self.gaps.insert(node.into_node((end - start, start), ()));
        }
        // INVARIANT: What was a gap, the range and a gap is one gap.
        Some(self.ranges.remove(&last)?.value)
    }

    /// Calls `f` for the range that holds a page, with its first page and its value.
    pub(crate) fn at<R>(&self, page: u64, f: impl FnOnce(u64, &T) -> R) -> Option<R> {
        let cursor = self.ranges.cursor_lower_bound(&page)?;
        let (_, range) = cursor.current();
        (range.first <= page).then(|| f(range.first, &range.value))
    }
}
