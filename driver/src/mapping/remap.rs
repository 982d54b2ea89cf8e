// SPDX-License-Identifier: GPL-2.0

//! Page frames put in at `mmap` by `remap_pfn_range`.

use crate::sys::{
    caller,
    fault::Faults,
    FramesVma, //
};
use kernel::prelude::*;

/// One call over all of it.
pub(super) fn whole<T: Faults>(vma: &FramesVma<'_, T>) -> Result {
    vma.remap(0, vma.pages())
}

/// One call a page.
pub(super) fn each<T: Faults>(vma: &FramesVma<'_, T>) -> Result {
    for at in 0..vma.pages() {
        vma.remap(at, 1)?;
        caller::resched_unless_killed()?;
    }
    Ok(())
}
