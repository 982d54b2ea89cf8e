// SPDX-License-Identifier: GPL-2.0

//! The calling thread.

use super::helpers::*;
use kernel::prelude::*;

/// Whether the caller has a fatal signal pending.
pub fn fatal_signal_pending() -> bool {
    // SAFETY: Looks at the current task's signals.
    unsafe { kmap_helper_fatal_signal_pending() }
}

/// Reschedules if need be, in a long loop.
pub fn cond_resched() {
    // SAFETY: All of this driver runs in process context with no spinlock held: it has none.
    unsafe { kmap_helper_cond_resched() }
}

/// The same, and `EINTR` if the caller is being killed and need not finish the loop.
pub fn resched_unless_killed() -> Result {
    cond_resched();
    if fatal_signal_pending() {
        return Err(EINTR);
    }
    Ok(())
}
