// SPDX-License-Identifier: GPL-2.0

//! Memory whose cache mode in the kernel's own view was changed.
//!
//! `_set_pages_array` (`arch/x86/mm/pat/set_memory.c`) does not undo a change that fails in the middle, so it is undone
//! here, a batch at a time. Pages that cannot be restored are leaked.

use super::cache::Cache;
use super::{
    alloc::{
        Run,
        Runs, //
    },
    backing::Backing,
    bytes::Bytes,
    frames::{
        Attributes,
        Frames,
        PageRef, //
    },
    helpers::{
        kmap_helper_page_address,
        kmap_helper_set_cache, //
    },
    lease::Hold,
    owner::{
        Owner,
        Pinnable, //
    },
    parked::Parked,
    task, //
};
use core::{
    mem::ManuallyDrop,
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    error::to_result,
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
};

/// Pages that are changed at once: the pointers to them fill a page.
const BATCH: usize = 512;

/// For tests: fails a change of a batch when it is half done.
#[cfg(CONFIG_KUNIT)]
pub mod failing {
    use super::*;

    /// Batches until one fails; 0 where none does.
    static AFTER: Atomic<i32> = Atomic::new(0);

    /// Makes the batch with this number fail, counted from 1, and none after it.
    pub fn batch(number: i32) {
        AFTER.store(number, Relaxed);
    }

    /// Whether it is this one.
    pub(super) fn now() -> bool {
        AFTER.load(Relaxed) > 0 && AFTER.fetch_add(-1, Relaxed) == 1
    }

    /// Whether the linear map has memory cached.
    pub fn is_cached(address: core::ptr::NonNull<u8>) -> bool {
        // SAFETY: Looks at the kernel's page tables, for whatever address.
        unsafe { super::super::helpers::kmap_helper_is_cached(address.as_ptr().cast()) }
    }
}

/// Memory with a cache mode. The usual mode is restored before the memory is freed.
///
/// # Invariants
///
/// The linear map has the first `changed` pages of `memory` with `cache`, the others with the usual mode. The capacity of
/// `batch` is enough to change them back.
pub struct Recached<M: Owner> {
    memory: ManuallyDrop<M>,
    cache: Cache,
    changed: usize,
    batch: KVec<*mut bindings::page>,
}

// SAFETY: Pointers to pages belong to no thread, and the memory can be sent.
unsafe impl<M: Owner + Send> Send for Recached<M> {}
// SAFETY: A shared reference gives access to the memory only.
unsafe impl<M: Owner + Sync> Sync for Recached<M> {}

/// Pages leaked with the last buffer that could not be restored. Only the first such buffer is logged.
static LOST: Atomic<i64> = Atomic::new(0);

impl<M: Owner> Recached<M> {
    /// Changes the kernel's view of this memory, which nobody else has mapped.
    pub fn new(memory: M, cache: impl Into<Cache>) -> Result<Self> {
        let cache = cache.into();
        let room = match cache {
            Cache::Cached => 0,
            Cache::WriteCombined | Cache::Uncached => BATCH.min(memory.len()),
        };
        let mut this = Self {
            // INVARIANT: Nothing was changed.
            batch: KVec::with_capacity(room, GFP_KERNEL_ACCOUNT | __GFP_NOWARN)?,
            memory: ManuallyDrop::new(memory),
            cache,
            changed: 0,
        };
        if cache == Cache::Cached {
            return Ok(this);
        }
        while this.changed < this.memory.len() {
            let first = this.changed;
            let set = this.set(first, cache);
            // INVARIANT: A part of the batch may have been changed even if that failed; what was not, is changed back all
            // the same, which does nothing to it.
            this.changed += this.batch.len();
            // The memory is changed back, and given back, when `this` is dropped.
            set?;
            task::resched_unless_killed()?;
        }
        Ok(this)
    }

    /// Sets the mode of a batch of pages, starting at `first`. [`Self::batch`] has them afterwards.
    fn set(&mut self, first: usize, cache: Cache) -> Result {
        self.batch.clear();
        let end = self.memory.len().min(first.saturating_add(BATCH));
        for index in first..end {
            let page = self.memory.page(index).ok_or(EINVAL)?;
            if self.batch.push_within_capacity(page).is_err() {
                break;
            }
        }
        let count = i32::try_from(self.batch.len())?;
        #[cfg(CONFIG_KUNIT)]
        let (count, fails) = match failing::now() {
            true => (count / 2, Err(EINVAL)),
            false => (count, Ok(())),
        };
        // SAFETY: By the safety requirements of `Owner` these are pages of the linear map and its owner's alone; the
        // array has `count` of them.
        to_result(unsafe {
            kmap_helper_set_cache(self.batch.as_mut_ptr(), count, cache.number())
        })?;
        #[cfg(CONFIG_KUNIT)]
        fails?;
        Ok(())
    }

    /// Restores the usual mode of all pages. Returns whether that worked.
    fn restore(&mut self) -> bool {
        let mut first = 0;
        while first < self.changed {
            // What was changed has page tables of its own already, so there is nothing to allocate.
            if self.set(first, Cache::Cached).is_err() || self.batch.is_empty() {
                let lost = i64::try_from(self.memory.len()).unwrap_or(i64::MAX);
                if LOST.xchg(lost, Relaxed) == 0 {
                    pr_err!("the cache mode of memory cannot be changed back: it is lost\n");
                }
                return false;
            }
            first += self.batch.len();
            task::cond_resched();
        }
        // INVARIANT: All of them have the usual mode.
        self.changed = 0;
        true
    }

    /// How the kernel has it mapped.
    pub fn attributes(&self) -> Attributes<'_> {
        let first = self.memory.page(0).unwrap_or(core::ptr::null_mut());
        // SAFETY: It is one of the memory's pages, or null, for which the address is not used. By the safety requirements
        // of `Owner` the linear map has all of them, and by the type's invariants with this mode: all were changed when
        // `new` ended.
        unsafe {
            let view = match first.is_null() {
                true => core::ptr::null(),
                false => kmap_helper_page_address(first).cast::<u8>().cast_const(),
            };
            Attributes::new(self.cache, view)
        }
    }

    /// The memory with the usual mode; `None` if that cannot be restored, and the memory is leaked.
    fn into_inner(self) -> Option<M> {
        let mut this = ManuallyDrop::new(self);
        let restored = this.restore();
        // SAFETY: Neither is used again: `this` is not dropped.
        let (memory, batch) = unsafe {
            (
                ManuallyDrop::take(&mut this.memory),
                core::ptr::read(&this.batch),
            )
        };
        drop(batch);
        if !restored {
            core::mem::forget(memory);
            return None;
        }
        Some(memory)
    }
}

impl<M: Pinnable> Recached<M> {
    /// Frees the pages that nobody else refers to. The others stay until then.
    pub fn park(self, parked: &mut Parked) {
        if let Some(memory) = self.into_inner() {
            memory.park(parked);
        }
    }
}

impl<M: Owner> Deref for Recached<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.memory
    }
}

impl<M: Owner> Drop for Recached<M> {
    fn drop(&mut self) {
        if self.restore() {
            // SAFETY: It is not used again.
            unsafe { ManuallyDrop::drop(&mut self.memory) };
        }
    }
}

impl Backing for Recached<Run> {
    fn len(&self) -> usize {
        (**self).len()
    }

    fn page(&self, index: usize) -> Option<PageRef<'_>> {
        (**self).page(index)
    }

    fn frames<'a>(&'a self, _hold: &'a Hold<'_>, index: usize, most: usize) -> Option<Frames<'a>> {
        (**self).frames(index, most)
    }

    fn attributes(&self) -> Attributes<'_> {
        self.attributes()
    }

    fn bytes<'a>(
        &'a self,
        _hold: &'a Hold<'_>,
        index: usize,
        offset: usize,
        length: usize,
    ) -> Option<Bytes<'a>> {
        (**self).bytes(index, offset, length)
    }

    fn address(&self) -> Option<NonNull<u8>> {
        Some((**self).start())
    }
}

impl Backing for Recached<Runs> {
    fn len(&self) -> usize {
        (**self).len()
    }

    fn page(&self, index: usize) -> Option<PageRef<'_>> {
        (**self).page(index)
    }

    fn frames<'a>(&'a self, _hold: &'a Hold<'_>, index: usize, most: usize) -> Option<Frames<'a>> {
        (**self).frames(index, most)
    }

    fn attributes(&self) -> Attributes<'_> {
        self.attributes()
    }

    fn bytes<'a>(
        &'a self,
        _hold: &'a Hold<'_>,
        index: usize,
        offset: usize,
        length: usize,
    ) -> Option<Bytes<'a>> {
        (**self).bytes(index, offset, length)
    }

    fn address(&self) -> Option<NonNull<u8>> {
        None
    }
}
