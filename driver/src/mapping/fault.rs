// SPDX-License-Identifier: GPL-2.0

//! Answering page faults. A place outside the buffer is SIGBUS: the VMA cannot grow, so there is none,
//! and if there were one, it would not fault for ever.

use crate::{
    memory::Backing,
    sys::{
        pages::{
            self,
            PageRef, //
        },
        vma::{
            Answer,
            Fault,
            Outcome, //
        },
    },
};
use core::ops::Range;

/// Pages that one call of `vm_insert_pages` is given in a fault: they lie on the stack.
const BATCH: usize = 32;

pub(crate) fn answer(memory: &dyn Backing, mut fault: Fault<'_>) -> Outcome {
    let Ok(index) = usize::try_from(fault.page_offset()) else {
        return Outcome::SIGBUS;
    };
    if fault.order > 0 {
        return huge(memory, fault);
    }
    let (page, pfn) = (memory.page(index), memory.pfn(index));
    match (fault.answer, page, pfn) {
        (Answer::Page | Answer::HugeFolio, Some(page), _) => fault.give(page),
        // The core makes the copy: `vmf_insert_page_mkwrite` would let a private write reach the buffer.
        (Answer::Refill | Answer::Around, Some(page), _) if fault.copies() => fault.give(page),
        (Answer::Around, Some(page), _) => around(memory, index, page, fault),
        (Answer::Refill, Some(page), _) => fault.insert(page),
        (Answer::Pfn | Answer::HugePfn, _, Some(pfn)) => fault.insert_pfn(pfn),
        _ => Outcome::SIGBUS,
    }
}

/// The page, and those that share its page table: a fault costs as much as twenty entries.
fn around(memory: &dyn Backing, index: usize, page: PageRef, mut fault: Fault<'_>) -> Outcome {
    let outcome = fault.insert(page);
    if outcome.failed() {
        return outcome;
    }
    let table = fault.table();
    let limit = |page: u64| usize::try_from(page).map_or(0, |page| page.min(memory.len()));
    // What cannot be mapped now is mapped when it is touched.
    insert(memory, limit(table.start)..index, page, &fault);
    insert(memory, index + 1..limit(table.end), page, &fault);
    outcome
}

/// Maps pages of the buffer until one has an entry already; `filler` is any page.
fn insert(memory: &dyn Backing, pages: Range<usize>, filler: PageRef, fault: &Fault<'_>) {
    let mut batch = [filler; BATCH];
    let mut at = pages.start;
    while at < pages.end {
        let mut count = 0;
        for (slot, index) in batch.iter_mut().zip(at..pages.end) {
            let Some(page) = memory.page(index) else {
                return;
            };
            *slot = page;
            count += 1;
        }
        let all = batch.get_mut(..count);
        if !all.is_some_and(|pages| fault.insert_others(at, pages)) {
            return;
        }
        at += count;
    }
}

/// A huge entry, where buffer, memory and address line up; else the core asks for a small one.
fn huge(memory: &dyn Backing, fault: Fault<'_>) -> Outcome {
    // Never an entry of 1 GiB: when a mapping is split, `mm_find_pmd` of `mm/rmap.c` takes the memory that it
    // shows for a table of PMDs, and whoever maps the memory has written that table.
    let huge = fault.order == pages::pmd_order();
    // A private copy is made of a small page; `vmf_insert_folio_pmd` would let it write to the buffer.
    let fits = huge && fault.huge_fits() && !fault.copies();
    let start = match fault.huge_page_offset().map(usize::try_from) {
        Some(Ok(start)) if fits => start,
        _ => return Outcome::FALLBACK,
    };
    let count = 1usize << fault.order;
    match (fault.answer, memory.page(start), memory.pfn(start)) {
        // There are folios of one huge size.
        (Answer::HugeFolio, Some(page), _) if page.begins_folio(count) => {
            fault.insert_huge_folio(page)
        }
        (Answer::HugePfn, _, Some(pfn))
            if pfn % count as u64 == 0 && memory.run(start) >= count =>
        {
            fault.insert_huge_pfn(pfn)
        }
        _ => Outcome::FALLBACK,
    }
}
