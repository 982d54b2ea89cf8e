// SPDX-License-Identifier: GPL-2.0

//! Maps page frames at `mmap` by `remap_pfn_range`.

use crate::sys::{
    caller,
    fault::Faults,
    FramesVma, //
};
use kernel::prelude::*;

/// One call for the whole VMA.
pub(super) fn whole<T: Faults>(vma: &FramesVma<'_, T>) -> Result {
    vma.remap(0, vma.pages())
}

/// One call per page.
pub(super) fn each<T: Faults>(vma: &FramesVma<'_, T>) -> Result {
    for at in 0..vma.pages() {
        vma.remap(at, 1)?;
        caller::resched_unless_killed()?;
    }
    Ok(())
}
