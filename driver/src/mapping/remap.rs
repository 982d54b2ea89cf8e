// SPDX-License-Identifier: GPL-2.0

//! Maps page frames at `mmap` by `remap_pfn_range`.

use crate::sys::{
    alloc,
    caller,
    fault::Faults,
    FramesVma, //
};
use kernel::prelude::*;

/// One call for the whole VMA.
pub(super) fn whole<T: Faults>(vma: &FramesVma<'_, T>) -> Result {
    vma.remap(0, vma.pages())
}

/// What lies before and behind the huge entries, which faults make: a fault for each small one would cost more.
pub(super) fn ends<T: Faults>(vma: &FramesVma<'_, T>) -> Result {
    let pages = vma.pages();
    let first = vma.before_huge().min(pages);
    let huge = (pages - first) >> alloc::pmd_order() << alloc::pmd_order();
    for (at, pages) in [(0, first), (first + huge, pages - first - huge)] {
        if pages > 0 {
            vma.remap(at, pages)?;
        }
    }
    Ok(())
}

/// One call per page.
pub(super) fn each<T: Faults>(vma: &FramesVma<'_, T>) -> Result {
    for at in 0..vma.pages() {
        vma.remap(at, 1)?;
        caller::resched_unless_killed()?;
    }
    Ok(())
}
