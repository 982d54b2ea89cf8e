// SPDX-License-Identifier: GPL-2.0

//! Inserts pages at `mmap`, a batch at a time. `madvise(MADV_DONTNEED)` removes them, so faults put them back.

use crate::sys::{
    caller,
    fault::Faults,
    Batch,
    PagesVma, //
};
use kernel::prelude::*;

/// `vm_insert_pages` for the whole VMA.
pub(super) fn insert<T: Faults>(vma: &PagesVma<'_, T>) -> Result {
    let mut batch = Batch::for_insert()?;
    let mut at = 0;
    while at < vma.pages() {
        at += vma.insert(at, &mut batch)?;
        caller::resched_unless_killed()?;
    }
    Ok(())
}
