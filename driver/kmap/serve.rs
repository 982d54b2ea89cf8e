// SPDX-License-Identifier: GPL-2.0

//! Answering page faults. A fault outside the memory is SIGBUS: the VMA cannot grow, so there is none; if there
//! were one, it would not fault for ever.

use super::fault::{
    Fault,
    Faults,
    MixedFault,
    Outcome,
    Place, //
};

impl<T: Faults> Fault<'_, T> {
    /// Maps or gives what is wanted of the memory, by the sort of the mapping.
    pub fn serve(self) -> Outcome {
        match self {
            Fault::Page(fault) => match index(&fault) {
                Some(index) => fault.give(index),
                None => Outcome::SIGBUS,
            },
            // The core makes a copy: `vmf_insert_page_mkwrite` would let a private write reach the memory.
            Fault::Mixed(fault) | Fault::Around(fault) if fault.copies() => match index(&fault) {
                Some(index) => fault.give(index),
                None => Outcome::SIGBUS,
            },
            Fault::Mixed(mut fault) => match index(&fault) {
                Some(index) => fault.insert(index),
                None => Outcome::SIGBUS,
            },
            Fault::Around(fault) => match index(&fault) {
                Some(index) => around(index, fault),
                None => Outcome::SIGBUS,
            },
            Fault::Frame(fault) => match index(&fault) {
                Some(index) => fault.insert(index),
                None => Outcome::SIGBUS,
            },
            // Never an entry of 1 GiB: when a mapping is split, `mm_find_pmd` of `mm/rmap.c` takes the mapped memory for a
            // table of PMDs, which whoever maps the memory could have written.
            Fault::HugePage(fault) => fault.insert(),
            Fault::HugeFrame(fault) => fault.insert(),
        }
    }
}

/// The index of the wanted page in the memory.
fn index<T: Faults>(place: &Place<'_, T>) -> Option<usize> {
    usize::try_from(place.page_offset()).ok()
}

/// Maps the page and those that share its page table: a fault costs as much as twenty entries.
fn around<T: Faults>(index: usize, mut fault: MixedFault<'_, T>) -> Outcome {
    let outcome = fault.insert(index);
    if outcome.failed() {
        return outcome;
    }
    let table = fault.table();
    let pages = fault.data().backing().len();
    let limit = |page: u64| usize::try_from(page).map_or(0, |page| page.min(pages));
    // What cannot be mapped now is mapped when it is touched.
    fault.insert_others(limit(table.start)..index);
    fault.insert_others(index + 1..limit(table.end));
    outcome
}
