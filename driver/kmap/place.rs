// SPDX-License-Identifier: GPL-2.0

//! Contiguous runs of folios that get a huge entry each.
//!
//! `do_set_pmd` of `mm/memory.c` takes folios of the size of such an entry, and no larger ones. The kernel has no function
//! that gives several of them one behind the other, but one that takes a folio from its place
//! (`alloc_contig_frozen_range_noprof` of `mm/page_alloc.c`). So a place for the whole run is looked for, and each folio is
//! taken from there. A place is no promise: what somebody else took meanwhile is moved away, or another place is tried.

use super::{
    alloc::{
        pmd_order,
        NumaNode,
        Run, //
    },
    helpers::*,
    task, //
};
use core::ptr::NonNull;
use kernel::bindings;

/// How many places are tried before the kernel is asked to make one.
const TRIES: usize = 64;

/// `count` contiguous zeroed pages: folios of [`pmd_order`], and single pages at the end, less than one folio has. The memory
/// cgroup is not charged, as for [`Run::contig`].
///
/// `None` where there are none, where the caller was killed, or where there is no whole folio.
pub fn huge_run(count: usize, node: NumaNode) -> Option<Run> {
    let order = pmd_order();
    let size = 1usize << order;
    // SAFETY: It returns a constant.
    if count < size || !unsafe { kmap_helper_takes_folios(order) } {
        return None;
    }
    let room = count.checked_next_multiple_of(size)?;
    free_run(count, room, node).or_else(|| {
        if task::fatal_signal_pending() {
            return None;
        }
        take(made(room, node)?, count, node).ok()
    })
}

/// The same, where a place is free.
fn free_run(count: usize, room: usize, node: NumaNode) -> Option<Run> {
    // SAFETY: By its invariants a node that is named has memory.
    let nid = unsafe { kmap_helper_contig_node(node.id()) };
    // SAFETY: It looks at the flags only.
    let mut zone = unsafe { kmap_helper_zone_of(node.movable()) };
    let mut from = 0;
    let mut tries = 0;
    while zone >= 0 && nid >= 0 && tries < TRIES && !task::fatal_signal_pending() {
        // SAFETY: The node has memory, and there is a zone with this number.
        let place = unsafe { kmap_helper_free_place(nid, zone as u32, from, room, pmd_order()) };
        let Some(place) = NonNull::new(place) else {
            from = 0;
            zone -= 1;
            continue;
        };
        match take(place, count, node) {
            Ok(run) => return Some(run),
            Err(behind) => from = behind,
        }
        tries += 1;
    }
    None
}

/// A place for `room` pages that the kernel made by moving other memory away.
fn made(room: usize, node: NumaNode) -> Option<NonNull<bindings::page>> {
    // One folio is the cheapest way to ask.
    let run = match room.is_power_of_two() {
        true => Run::contig_one(room.trailing_zeros(), node, 0),
        false => None,
    };
    let run = run.or_else(|| Run::contig_singles(room, node, 0))?;
    Some(run.first)
}

/// Takes a run from a place; else, the number of the frame from which on another place may be looked for.
fn take(first: NonNull<bindings::page>, count: usize, node: NumaNode) -> Result<Run, usize> {
    let order = pmd_order();
    let size = 1usize << order;
    let gfp = node.movable() | bindings::__GFP_ZERO;
    // SAFETY: It is a page.
    let start = unsafe { kmap_helper_page_to_pfn(first.as_ptr()) };
    // The search for a place goes by multiples of its size (`alloc_contig_frozen_pages_noprof` of `mm/page_alloc.c`).
    if start % size != 0 {
        return Err(start.next_multiple_of(size));
    }
    // INVARIANT: There are no pages yet.
    let mut run = Run {
        first,
        count: 0,
        order,
    };
    while run.count < count {
        let behind = start + run.count + size;
        let pages = size.min(count - run.count);
        // SAFETY: The page is one of a zone, at a multiple of the order. Like the kernel's own search, which lets go of its
        // lock before it takes what it found (`alloc_contig_frozen_pages_noprof` of `mm/page_alloc.c`), this relies on the memory
        // not being unplugged before it is taken.
        let taken = unsafe {
            let page = kmap_helper_page_at(first.as_ptr(), run.count);
            match pages == size {
                true => kmap_helper_take_folio(page, order, gfp),
                false => kmap_helper_take_pages(page, pages, gfp),
            }
        };
        if !taken {
            return Err(behind);
        }
        // INVARIANT: The folio, or less than one of single pages, follows the others, and the references are ours.
        run.count += pages;
        task::cond_resched();
        if task::fatal_signal_pending() && run.count < count {
            return Err(behind);
        }
    }
    Ok(run)
}
