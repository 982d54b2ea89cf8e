// SPDX-License-Identifier: GPL-2.0

//! Scatter lists of buffers, which the DMA API maps for devices.

use super::{
    backing::Backing,
    caller,
    helpers::*,
    lease::Hold, //
};
use crate::kmap::helpers::kmap_helper_max_segment;
use kernel::{
    bindings,
    error::to_result,
    page::PAGE_SIZE,
    prelude::*,
    types::Opaque, //
};

/// A scatter list of all pages of a buffer.
///
/// # Invariants
///
/// The table is ours, with entries for the whole buffer in its order.
pub(super) struct Scatter(Opaque<bindings::sg_table>);

// SAFETY: Memory belongs to no thread.
unsafe impl Send for Scatter {}
// SAFETY: There is nothing to change through a shared reference but by the DMA API, whose callers order themselves.
unsafe impl Sync for Scatter {}

impl Scatter {
    /// In pieces that the device takes. `hold` is asked for holds of the memory, one after the other.
    ///
    /// # Errors
    ///
    /// `ENODEV`: the memory is gone. `EOPNOTSUPP`: it has frames without a `struct page`.
    ///
    /// # Safety
    ///
    /// The device exists.
    pub(super) unsafe fn of<'a>(
        memory: &dyn Backing,
        hold: impl Fn() -> Option<Hold<'a>>,
        device: *mut bindings::device,
    ) -> Result<Self> {
        // SAFETY: By the safety requirements.
        let most = unsafe { kmap_helper_max_segment(device) } as usize;
        let most = (most / PAGE_SIZE).clamp(1, (1 << 30) / PAGE_SIZE);

        let (mut pieces, mut paged) = (0u32, true);
        runs(memory, &hold().ok_or(ENODEV)?, |pfn, pages| {
            pieces = pieces.saturating_add(pages.div_ceil(most) as u32);
            // SAFETY: Any frames may be asked about.
            paged &= unsafe { mapbuf_have_pages(pfn as usize, pages) };
        })?;
        if !paged {
            return Err(Error::from_errno(
                -(bindings::EOPNOTSUPP as kernel::ffi::c_int),
            ));
        }
        // The memory is not held meanwhile: the caller's memory cgroup may be full.
        let this = Self(Opaque::zeroed());
        let flags = bindings::GFP_KERNEL_ACCOUNT | bindings::__GFP_NOWARN;
        // SAFETY: The table is zeroed memory of ours; dropping `this` frees what it was given.
        to_result(unsafe { bindings::sg_alloc_table(this.as_ptr(), pieces, flags) })?;
        // SAFETY: The table has a list.
        let mut entry = unsafe { (*this.as_ptr()).sgl };
        runs(memory, &hold().ok_or(ENODEV)?, |pfn, pages| {
            let mut done = 0;
            while done < pages && !entry.is_null() {
                let length = most.min(pages - done);
                // SAFETY: The entry is one of the list's, which has one for each piece; that the frames have pages was asked.
                entry = unsafe {
                    mapbuf_sg_set(entry, pfn as usize + done, (length * PAGE_SIZE) as u32)
                };
                done += length;
            }
        })?;
        // INVARIANT: All runs are in it.
        Ok(this)
    }

    pub(super) fn as_ptr(&self) -> *mut bindings::sg_table {
        self.0.get()
    }
}

/// Calls `each` for every physically contiguous run, with its first frame number and its pages.
pub(super) fn runs(
    memory: &dyn Backing,
    hold: &Hold<'_>,
    mut each: impl FnMut(u64, usize),
) -> Result {
    let mut at = 0;
    while at < memory.len() {
        let frames = memory.frames(hold, at, usize::MAX).ok_or(EINVAL)?;
        each(frames.first(), frames.count());
        at += frames.count();
        caller::resched_unless_killed()?;
    }
    Ok(())
}

impl Drop for Scatter {
    fn drop(&mut self) {
        // SAFETY: The table is ours; one that was given nothing has nothing to free.
        unsafe { bindings::sg_free_table(self.as_ptr()) };
    }
}
