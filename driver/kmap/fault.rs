// SPDX-License-Identifier: GPL-2.0

//! Answering the page faults of a VMA.
//!
//! How a fault can be answered depends on how the VMA was set up, so each sort of VMA has its own type of fault. All of
//! them take a page number in the VMA's buffer, never a page.

use super::{
    backing::{
        data_of,
        Backed, //
    },
    helpers::*,
    lease::Hold, //
};
use core::ops::Range;
use kernel::{
    bindings,
    mm::virt::{
        flags,
        VmaRef, //
    },
    page::PAGE_SIZE, //
};

/// How many bytes the lowest page table maps.
const TABLE: usize = PAGE_SIZE * (PAGE_SIZE / size_of::<bindings::pte_t>());

/// Pages for one call of `vm_insert_pages`; the array is on the stack.
const BATCH: usize = 32;

/// Data whose mappings are filled by faults.
pub trait Faults: Backed {
    /// Answers a fault in a mapping of the data.
    ///
    /// Without another answer, with what the memory has there.
    fn fault(fault: Fault<'_, Self>) -> Outcome {
        fault.serve()
    }
}

/// A page fault in a mapping of a buffer.
pub enum Fault<'a, T> {
    /// The page is given to the core, which maps it, by a huge entry where its folio has the size of one.
    Page(PageFault<'a, T>),
    /// The page is mapped by us, where pages were inserted and one was taken out.
    Mixed(MixedFault<'a, T>),
    /// The page is mapped by us, with those around it where they are single pages.
    Around(MixedFault<'a, T>),
    /// The page frame is mapped by us.
    Frame(FrameFault<'a, T>),
    /// A folio is wanted by a huge entry.
    HugePage(HugePageFault<'a, T>),
    /// Page frames are wanted by a huge entry.
    HugeFrame(HugeFrameFault<'a, T>),
}

/// The result of a fault.
#[derive(Clone, Copy)]
pub struct Outcome(bindings::vm_fault_t);

impl Outcome {
    /// Nothing is mapped there.
    pub const SIGBUS: Self = Self(bindings::vm_fault_reason_VM_FAULT_SIGBUS);
    /// No huge entry fits: the core asks again for a small one.
    pub const FALLBACK: Self = Self(bindings::vm_fault_reason_VM_FAULT_FALLBACK);

    /// Whether the address has no entry now.
    pub fn failed(self) -> bool {
        self.0 != bindings::vm_fault_reason_VM_FAULT_NOPAGE
    }
}

/// The place of a fault.
///
/// # Invariants
///
/// `fault` is what the core has called us with. Its VMA is locked against changes, and shows the memory of `data`, from
/// the page on that its page offset tells. `hold` is one of that memory, and
/// an entry that is made here is found when the memory goes.
pub struct Place<'a, T> {
    fault: &'a mut bindings::vm_fault,
    data: &'a T,
    hold: Hold<'a>,
}

impl<'a, T: Faults> Place<'a, T> {
    /// `None` where the memory is gone, or an entry for it would not be found when it goes.
    ///
    /// # Safety
    ///
    /// The core passes `fault` to an operation of a VMA that was set up for `T`, for the time of `'a`.
    unsafe fn new(fault: *mut bindings::vm_fault) -> Option<Self> {
        // SAFETY: By the safety requirements the fault is ours for the time of the call, and its VMA was set up for `T`.
        unsafe {
            let fault = &mut *fault;
            let data: &T = data_of(fault.__bindgen_anon_1.vma);
            let hold = data.hold()?;
            let file = (*fault.__bindgen_anon_1.vma).vm_file;
            if !hold.is_found_in((*file).f_mapping) {
                return None;
            }
            // INVARIANT: By the safety requirements; the last was just asked.
            Some(Self { fault, data, hold })
        }
    }

    /// The data whose memory the VMA shows.
    pub fn data(&self) -> &'a T {
        self.data
    }

    /// The page of the buffer that is wanted.
    pub fn page_offset(&self) -> u64 {
        self.fault.__bindgen_anon_1.pgoff as u64
    }

    fn address(&self) -> usize {
        self.fault.__bindgen_anon_1.address
    }

    fn vma(&self) -> &VmaRef {
        // SAFETY: By the type's invariants the VMA is locked against changes.
        unsafe { VmaRef::from_raw(self.fault.__bindgen_anon_1.vma) }
    }

    fn write(&self) -> bool {
        self.fault.flags & bindings::fault_flag_FAULT_FLAG_WRITE != 0
    }

    /// Whether the core must make a private copy, which it does for small pages only.
    pub fn copies(&self) -> bool {
        self.write() && self.vma().flags() & flags::SHARED == 0
    }

    /// The range of the buffer's pages that the VMA maps through the page table of the address.
    pub fn table(&self) -> Range<u64> {
        let start = self.address() & !(TABLE - 1);
        let last = start.saturating_add(TABLE).min(self.vma().end());
        let before = self.address().saturating_sub(start.max(self.vma().start())) / PAGE_SIZE;
        let behind = last.saturating_sub(self.address()).div_ceil(PAGE_SIZE);
        let page = self.page_offset();
        page.saturating_sub(before as u64)..page.saturating_add(behind as u64)
    }

    /// The buffer's page at the start of a huge entry for the address, if the entry lies within the VMA.
    fn huge_start(&self, order: u32) -> Option<u64> {
        let pages = 1usize.checked_shl(order)?;
        let size = pages.checked_mul(PAGE_SIZE)?;
        let start = self.address() & !(size - 1);
        let end = start.checked_add(size)?;
        if start < self.vma().start() || end > self.vma().end() {
            return None;
        }
        let into = (self.address() - start) / PAGE_SIZE;
        self.page_offset().checked_sub(into as u64)
    }

    /// Gives a page, which the core maps.
    fn give(self, index: usize) -> Outcome {
        let Some(page) = self.data.backing().page(index) else {
            return Outcome::SIGBUS;
        };
        // SAFETY: By the invariants of `PageRef` there is a reference on it, so another can be taken; the core takes this
        // one over.
        unsafe { kmap_helper_get_page(page.as_ptr()) };
        self.fault.page = page.as_ptr();
        Outcome(0)
    }
}

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        $(
            $(#[$doc])*
            pub struct $name<'a, T>(Place<'a, T>);

            impl<'a, T> core::ops::Deref for $name<'a, T> {
                type Target = Place<'a, T>;

                fn deref(&self) -> &Place<'a, T> {
                    &self.0
                }
            }
        )*
    };
}

faults! {
    /// A fault in a VMA without special flags.
    PageFault,
    /// A fault in a VMA with `VM_MIXEDMAP`. Such a VMA must never get a huge entry for a folio:
    /// `__split_huge_pmd_locked` of `mm/huge_memory.c` would leak it.
    ///
    /// # Invariants
    ///
    /// The VMA has the flag.
    MixedFault,
    /// A fault in a VMA of page frames.
    ///
    /// # Invariants
    ///
    /// The VMA has `VM_PFNMAP`, and is not copy-on-write.
    FrameFault,
}

/// A fault in a VMA without special flags, by a huge entry.
pub struct HugePageFault<'a, T> {
    place: Place<'a, T>,
    order: u32,
}

/// A fault in a VMA of page frames, by a huge entry.
///
/// # Invariants
///
/// The VMA has `VM_PFNMAP`, and is not copy-on-write.
pub struct HugeFrameFault<'a, T> {
    place: Place<'a, T>,
    order: u32,
}

impl<T: Faults> PageFault<'_, T> {
    /// Gives a page, which the core maps.
    pub fn give(self, index: usize) -> Outcome {
        self.0.give(index)
    }
}

impl<T: Faults> MixedFault<'_, T> {
    /// Gives a page, which the core maps or copies.
    pub fn give(self, index: usize) -> Outcome {
        self.0.give(index)
    }

    /// Maps a page by a small entry. No private copy is made: see [`Place::copies`].
    pub fn insert(&mut self, index: usize) -> Outcome {
        let write = self.0.write();
        let Some(page) = self.0.data.backing().page(index) else {
            return Outcome::SIGBUS;
        };
        if self.0.copies() {
            return Outcome::SIGBUS;
        }
        // SAFETY: By the type's invariants the VMA has `VM_MIXEDMAP`; the function takes a reference of its own.
        Outcome(unsafe { bindings::vmf_insert_page_mkwrite(self.0.fault, page.as_ptr(), write) })
    }

    /// Maps pages by small entries, up to the first that has an entry already.
    pub fn insert_others(&self, pages: Range<usize>) {
        let place = &self.0.fault.__bindgen_anon_1;
        let backing = self.0.data.backing();
        let mut at = pages.start;
        while at < pages.end {
            let mut batch = [core::ptr::null_mut(); BATCH];
            let mut count = 0;
            for (slot, index) in batch.iter_mut().zip(at..pages.end) {
                let Some(page) = backing.page(index) else {
                    return;
                };
                *slot = page.as_ptr();
                count += 1;
            }
            let distance = at.wrapping_sub(place.pgoff).wrapping_mul(PAGE_SIZE);
            let address = (place.address & !(PAGE_SIZE - 1)).wrapping_add(distance);
            let mut left = count;
            // SAFETY: The batch has `count` pages. By the type's invariants the VMA has `VM_MIXEDMAP`, so nothing of it is
            // changed; the function checks that the range lies in it, and takes references of its own.
            let result = unsafe {
                bindings::vm_insert_pages(place.vma, address, batch.as_mut_ptr(), &mut left)
            };
            if result != 0 {
                return;
            }
            at += count;
        }
    }
}

impl<T: Faults> FrameFault<'_, T> {
    /// Maps a page frame by a small entry.
    pub fn insert(self, index: usize) -> Outcome {
        let place = &self.0.fault.__bindgen_anon_1;
        let memory = self.0.data.backing();
        let Some(frames) = memory.frames(&self.0.hold, index, 1) else {
            return Outcome::SIGBUS;
        };
        // SAFETY: By the type's invariants the VMA has `VM_PFNMAP` and is not copy-on-write. The frame is there as long as
        // the VMA, whose file keeps the data, or as long as the hold. Whoever ends the latter takes the entry out: see
        // `lease.rs`.
        Outcome(unsafe {
            bindings::vmf_insert_pfn(place.vma, place.address, frames.first() as usize)
        })
    }
}

impl<T: Faults> HugePageFault<'_, T> {
    /// Maps the folio by a huge entry, if it has the size of one and is aligned with it.
    pub fn insert(self) -> Outcome {
        // A private copy is made of a small page; `vmf_insert_folio_pmd` would let the process write to the buffer.
        if self.order != super::alloc::pmd_order() || self.place.copies() {
            return Outcome::FALLBACK;
        }
        let start = self.place.huge_start(self.order).map(usize::try_from);
        let Some(Ok(start)) = start else {
            return Outcome::FALLBACK;
        };
        match self.place.data.backing().page(start) {
            Some(page) if page.begins_folio(1 << self.order) => {
                let write = self.place.write();
                // SAFETY: The folio has the size of the entry, which lies in the VMA; the VMA has neither `VM_MIXEDMAP` nor
                // `VM_PFNMAP`, by the constructor of the fault. The function takes a reference of its own.
                Outcome(unsafe {
                    let folio = kmap_helper_page_folio(page.as_ptr());
                    bindings::vmf_insert_folio_pmd(self.place.fault, folio, write)
                })
            }
            _ => Outcome::FALLBACK,
        }
    }
}

impl<T: Faults> HugeFrameFault<'_, T> {
    /// Maps page frames by a huge entry, if they are contiguous and aligned with it.
    pub fn insert(self) -> Outcome {
        if self.order != super::alloc::pmd_order() {
            return Outcome::FALLBACK;
        }
        let start = self.place.huge_start(self.order).map(usize::try_from);
        let Some(Ok(start)) = start else {
            return Outcome::FALLBACK;
        };
        let pages = 1u64 << self.order;
        let memory = self.place.data.backing();
        match memory.frames(&self.place.hold, start, 1 << self.order) {
            Some(frames) if frames.first() % pages == 0 && frames.count() as u64 >= pages => {
                let write = self.place.write();
                let pfn = frames.first() as usize;
                // SAFETY: By the type's invariants the VMA has `VM_PFNMAP` and is not copy-on-write. The entry lies in the
                // VMA and shows frames that are there as long as it, or as for a single frame.
                Outcome(unsafe { bindings::vmf_insert_pfn_pmd(self.place.fault, pfn, write) })
            }
            _ => Outcome::FALLBACK,
        }
    }
}

/// Fault handlers for a `vm_operations_struct`. Each is for the sort of VMA in its name.
pub(super) struct Handlers<T>(core::marker::PhantomData<T>);

impl<T: Faults> Handlers<T> {
    /// Answers a fault while the memory stays.
    ///
    /// # Safety
    ///
    /// As for [`Place::new`].
    unsafe fn answer<'a>(
        fault: *mut bindings::vm_fault,
        of: impl FnOnce(Place<'a, T>) -> Fault<'a, T>,
    ) -> bindings::vm_fault_t
    where
        T: 'a,
    {
        // SAFETY: By the safety requirements.
        match unsafe { Place::new(fault) } {
            // Whoever makes an entry has the place, and with it the hold, until the entry is there.
            Some(place) => T::fault(of(place)).0,
            None => Outcome::SIGBUS.0,
        }
    }

    /// # Safety
    ///
    /// The core calls this for a VMA for `T` without special flags.
    pub(super) unsafe extern "C" fn page(fault: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        // SAFETY: By the safety requirements.
        unsafe { Self::answer(fault, |place| Fault::Page(PageFault(place))) }
    }

    /// # Safety
    ///
    /// The core calls this for a VMA for `T` with `VM_MIXEDMAP`.
    pub(super) unsafe extern "C" fn mixed(fault: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        // SAFETY: By the safety requirements.
        // INVARIANT: So is the flag.
        unsafe { Self::answer(fault, |place| Fault::Mixed(MixedFault(place))) }
    }

    /// # Safety
    ///
    /// The core calls this for a VMA for `T` with `VM_MIXEDMAP`.
    pub(super) unsafe extern "C" fn around(fault: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        // SAFETY: By the safety requirements.
        // INVARIANT: So is the flag.
        unsafe { Self::answer(fault, |place| Fault::Around(MixedFault(place))) }
    }

    /// # Safety
    ///
    /// The core calls this for a VMA for `T` with `VM_PFNMAP` that is not copy-on-write.
    pub(super) unsafe extern "C" fn frame(fault: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        // SAFETY: By the safety requirements.
        // INVARIANT: So is what the VMA is.
        unsafe { Self::answer(fault, |place| Fault::Frame(FrameFault(place))) }
    }

    /// # Safety
    ///
    /// The core calls this for a VMA for `T` without special flags.
    pub(super) unsafe extern "C" fn huge_page(
        fault: *mut bindings::vm_fault,
        order: kernel::ffi::c_uint,
    ) -> bindings::vm_fault_t {
        // SAFETY: By the safety requirements.
        unsafe {
            Self::answer(fault, |place| {
                Fault::HugePage(HugePageFault { place, order })
            })
        }
    }

    /// # Safety
    ///
    /// The core calls this for a VMA for `T` with `VM_PFNMAP` that is not copy-on-write.
    pub(super) unsafe extern "C" fn huge_frame(
        fault: *mut bindings::vm_fault,
        order: kernel::ffi::c_uint,
    ) -> bindings::vm_fault_t {
        // SAFETY: By the safety requirements.
        // INVARIANT: By the safety requirements.
        unsafe {
            Self::answer(fault, |place| {
                Fault::HugeFrame(HugeFrameFault { place, order })
            })
        }
    }

    /// That there is such a function tells the core that faults need only the lock of the VMA
    /// (`vmf_can_call_fault` of `mm/memory.c`); without it each is taken twice, the second time under the
    /// lock of the address space. Nothing is mapped here: [`Faults::fault`] does that.
    ///
    /// # Safety
    ///
    /// None: it looks at nothing.
    pub(super) unsafe extern "C" fn none_around(
        _fault: *mut bindings::vm_fault,
        _start: kernel::ffi::c_ulong,
        _end: kernel::ffi::c_ulong,
    ) -> bindings::vm_fault_t {
        0
    }
}
