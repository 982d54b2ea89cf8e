// SPDX-License-Identifier: GPL-2.0

//! Mappings that are described, not made: `mmap_prepare` fills in a `vm_area_desc`, and the kernel carries it out.
//!
//! What the description names is used after `mmap_prepare` has returned, by `mmap_action_complete` of `mm/util.c`: the VMA has
//! its file by then, and the file keeps the memory. So a description takes memory that a file has, and no other.

use super::{
    fault::Faults,
    helpers::*,
    lease::OWNED,
    vma::Operations, //
};
use kernel::{
    bindings,
    mm::virt::flags,
    page::PAGE_SIZE,
    prelude::*, //
};

/// A mapping of a `T` that `mmap_prepare` is asked to describe.
///
/// Whatever is said, it cannot grow, and never becomes executable.
///
/// # Invariants
///
/// The VMA will have the file that keeps `data` until its release. The page offset counts in the memory of that, and the
/// operations and the private data are those of a VMA for `T`.
pub struct NewDesc<'a, T: Faults> {
    desc: &'a mut bindings::vm_area_desc,
    data: &'a T,
}

impl<'a, T: Faults> NewDesc<'a, T> {
    /// # Errors
    ///
    /// `EINVAL`: the VMA will have another file, as one that lies on top of this one; its page offset counts in that, and it
    /// need not keep this one.
    ///
    /// # Safety
    ///
    /// The running `mmap_prepare` was given the description, and uses it in no other way. The description's file keeps `data`
    /// until its release; the page offset counts in that.
    pub(crate) unsafe fn new(desc: *mut bindings::vm_area_desc, data: &'a T) -> Result<Self> {
        const { assert!(!T::COUNTED, "its VMAs have references of their own") };
        // SAFETY: By the safety requirements it is ours meanwhile.
        let desc = unsafe { &mut *desc };
        if desc.file != desc.vm_file {
            return Err(EINVAL);
        }
        // With none it would pass for anonymous memory.
        desc.vm_ops = Operations::<T, false>::NEVER;
        desc.private_data = core::ptr::from_ref(data).cast_mut().cast();
        // INVARIANT: That was just asked and set.
        Ok(Self { desc, data })
    }

    /// The data whose memory it will show.
    pub fn data(&self) -> &'a T {
        self.data
    }

    /// The page of the memory that it begins with.
    pub fn page_offset(&self) -> u64 {
        self.desc.pgoff as u64
    }

    /// How many pages it covers.
    pub fn pages(&self) -> usize {
        (self.desc.end - self.desc.start) / PAGE_SIZE
    }

    /// Has the kernel map pages, by `mmap_action_map_kernel_pages`. Pages that `madvise(MADV_DONTNEED)` removes come back by
    /// faults.
    ///
    /// # Errors
    ///
    /// `EINVAL`: it is not within the memory, or that has no array of its pages ([`Backing::pages`]).
    ///
    /// [`Backing::pages`]: super::backing::Backing::pages
    pub fn map_pages(mut self) -> Result {
        let data = self.data;
        let (first, count) = self.range()?;
        let pages = data.backing().pages().ok_or(EINVAL)?;
        let pages = pages.get(first..).and_then(|pages| pages.get(..count));
        let pages = pages.ok_or(EINVAL)?.as_ptr().cast_mut().cast();
        self.describe(Operations::<T, false>::MIXED, flags::MIXEDMAP)?;
        // SAFETY: There are so many pages, and the kernel only reads the array. It is the data's, so both stay as long as the
        // VMA's file, which is there until after the action.
        unsafe { kmap_helper_desc_map_pages(self.desc, pages) };
        Ok(())
    }

    /// Has the kernel map page frames, by `mmap_action_remap`. A private mapping stays read-only: of frames the kernel makes
    /// copies only by showing their numbers to everybody.
    ///
    /// # Errors
    ///
    /// `EINVAL`: it is private and writable; or it is not within one contiguous run of the memory.
    pub fn map_frames(mut self) -> Result {
        let data = self.data;
        let (first, count) = self.range()?;
        let frames = data.backing().frames(&OWNED, first, count).ok_or(EINVAL)?;
        if frames.count() < count {
            return Err(EINVAL);
        }
        if self.flags() & (flags::SHARED | flags::MAYWRITE) == flags::MAYWRITE {
            if self.flags() & flags::WRITE != 0 {
                return Err(EINVAL);
            }
            self.change_flags(0, flags::MAYWRITE);
        }
        // The kernel sets the flags of a VMA of frames.
        self.describe(Operations::<T, false>::NEVER, 0)?;
        // SAFETY: So many frames are the data's, and they stay as long as the VMA's file.
        unsafe { kmap_helper_desc_remap(self.desc, frames.first() as usize) };
        Ok(())
    }

    /// The first page of the memory that it shows, and how many; they are in it.
    fn range(&self) -> Result<(usize, usize)> {
        let (first, count) = (self.desc.pgoff, self.pages());
        match first.checked_add(count) {
            Some(end) if end <= self.data.backing().len() => Ok((first, count)),
            _ => Err(EINVAL),
        }
    }

    /// Sets everything except the action.
    fn describe(
        &mut self,
        operations: &'static bindings::vm_operations_struct,
        set: bindings::vm_flags_t,
    ) -> Result {
        // There is nothing to tell a watch by: the mapping may fail later, without a `close`.
        if self.data.watch().is_some() || self.flags() & flags::EXEC != 0 {
            return Err(EINVAL);
        }
        self.change_flags(set | flags::DONTEXPAND, flags::MAYEXEC);
        self.desc.vm_ops = operations;
        let attributes = self.data.backing().attributes();
        let hold = self.data.hold();
        let view = hold
            .as_ref()
            .map_or(core::ptr::null(), |hold| attributes.view(hold));
        // SAFETY: By the invariants of `Attributes` the view is an address of the kernel's, or null, while `hold` lives.
        unsafe {
            kmap_helper_desc_protection(self.desc, attributes.cache().number(), view.cast());
        }
        Ok(())
    }

    fn flags(&self) -> bindings::vm_flags_t {
        // SAFETY: It is a description.
        unsafe { kmap_helper_desc_flags(&*self.desc) }
    }

    fn change_flags(&mut self, set: bindings::vm_flags_t, clear: bindings::vm_flags_t) {
        // SAFETY: It is a description, of which we may change the flags.
        unsafe { kmap_helper_desc_change_flags(self.desc, set, clear) };
    }
}
