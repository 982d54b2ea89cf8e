// SPDX-License-Identifier: GPL-2.0

//! Waiting at a seam: see `crate::seam`.

extern "C" {
    fn mapbuf_seam(place: u32);
}

/// Waits for a random time.
pub(crate) fn pause(place: u32) {
    // SAFETY: Only called in process context with no spinlock held.
    unsafe { mapbuf_seam(place) };
}
