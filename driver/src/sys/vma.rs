// SPDX-License-Identifier: GPL-2.0

//! Virtual memory areas: setting one up in `mmap`, and answering its faults.

use super::{
    dma::CoherentBlock,
    dmabuf::{
        self,
        Exporter, //
    },
    helpers::*,
    pages::{
        PageRef,
        Vmap, //
    },
};
use crate::{
    abi::wire::Cache,
    policy::plan::Sharing, //
};
use core::ops::Range;
use kernel::{
    bindings,
    error::to_result,
    ffi::{
        c_int,
        c_uint,
        c_ulong,
        c_void, //
    },
    mm::virt::{
        flags,
        VmaNew,
        VmaRef, //
    },
    page::PAGE_SIZE,
    prelude::*, //
};

/// What the lowest page table shows, in bytes.
const TABLE: usize = PAGE_SIZE * (PAGE_SIZE / size_of::<bindings::pte_t>());

/// A VMA that `mmap` is setting up: not yet visible to anybody else.
pub(crate) struct NewVma<'a>(&'a VmaNew);

impl<'a> NewVma<'a> {
    /// # Safety
    ///
    /// The pointer is the VMA that the running `mmap` operation was given.
    pub(super) unsafe fn from_raw(vma: *mut bindings::vm_area_struct) -> Self {
        // SAFETY: By the safety requirements it is undergoing initial setup.
        Self(unsafe { VmaNew::from_raw(vma) })
    }

    pub(super) fn as_ptr(&self) -> *mut bindings::vm_area_struct {
        self.0.as_ptr()
    }

    /// Its page offset: in the file before it is handed to a dma-buf, in the buffer afterwards.
    pub(crate) fn page_offset(&self) -> u64 {
        // SAFETY: We may read the fields of a VMA that we set up.
        unsafe { (*self.as_ptr()).vm_pgoff as u64 }
    }

    /// How many pages it covers.
    pub(crate) fn pages(&self) -> usize {
        (self.0.end() - self.0.start()) / PAGE_SIZE
    }

    /// Shared or private.
    pub(crate) fn sharing(&self) -> Sharing {
        let has = |flag| self.0.flags() & flag != 0;
        Sharing::new(has(flags::SHARED), has(flags::WRITE), has(flags::MAYWRITE))
    }

    /// Whether it is to be executable.
    pub(crate) fn executable(&self) -> bool {
        self.0.executable()
    }

    /// What every mapping of a buffer has: it does not grow, and it never becomes executable; `seal`: nor
    /// writable.
    pub(crate) fn restrict(&self, seal: bool) -> Result {
        self.0.set_dontexpand();
        self.0.try_clear_mayexec()?;
        if seal {
            self.0.try_clear_maywrite()?;
        }
        Ok(())
    }

    /// The cache mode of its entries.
    pub(crate) fn set_cache(&self, cache: Cache) {
        match cache {
            Cache::Cached => {}
            // SAFETY: We may change the protection of a VMA that we set up.
            Cache::WriteCombined => unsafe { mapbuf_vma_write_combined(self.as_ptr()) },
            // SAFETY: As above.
            Cache::Uncached => unsafe { mapbuf_vma_uncached(self.as_ptr()) },
        }
    }

    /// Lets faults in it be answered by `T` in this way. The VMA's file must be a dma-buf of `T`, as it
    /// is in [`Exporter::mmap`].
    pub(crate) fn answer_faults<T: Exporter>(&self, by: Answer) {
        let operations = match by {
            Answer::Never => &Operations::<T>::NEVER,
            Answer::Page => &Operations::<T>::PAGE,
            Answer::Around => &Operations::<T>::AROUND,
            Answer::Refill => &Operations::<T>::REFILL,
            Answer::Pfn => &Operations::<T>::PFN,
            Answer::HugeFolio => &Operations::<T>::HUGE_FOLIO,
            Answer::HugePfn => &Operations::<T>::HUGE_PFN,
        };
        // SAFETY: We may set the operations of a VMA that we set up.
        unsafe { (*self.as_ptr()).vm_ops = operations };
        let set = match by {
            // As `remap_pfn_range` does. A core dump, which finds no page, would hold zeros.
            Answer::Pfn | Answer::HugePfn => flags::PFNMAP | flags::IO | flags::DONTDUMP,
            // A fault could not set it any more.
            Answer::Around => flags::MIXEDMAP,
            Answer::Never | Answer::Page | Answer::Refill | Answer::HugeFolio => return,
        };
        // SAFETY: We may set the flags of a VMA that we set up.
        unsafe { mapbuf_vma_flags(self.as_ptr(), set, 0) };
    }

    /// `remap_pfn_range`: `pages` pages of the VMA from its page `at` on show the frames from `pfn` on.
    pub(crate) fn remap(&self, at: usize, pfn: u64, pages: usize) -> Result {
        let vma = self.as_ptr();
        // SAFETY: The range lies in the VMA, which we set up; the frames belong to the buffer, which the
        // VMA's file keeps alive. The protection is the VMA's own.
        to_result(unsafe {
            bindings::remap_pfn_range(
                vma,
                self.address(at, pages)?,
                pfn as usize,
                pages * PAGE_SIZE,
                (*vma).vm_page_prot,
            )
        })
    }

    /// `io_remap_pfn_range` over the whole VMA.
    pub(crate) fn io_remap(&self, pfn: u64) -> Result {
        let pages = self.pages();
        // SAFETY: As for `remap`.
        to_result(unsafe {
            mapbuf_io_remap_pfn_range(
                self.as_ptr(),
                self.address(0, pages)?,
                pfn as usize,
                pages * PAGE_SIZE,
            )
        })
    }

    /// `vm_iomap_memory`: the memory that begins at frame `pfn` and has `pages` pages, from the VMA's
    /// page offset on.
    pub(crate) fn iomap(&self, pfn: u64, pages: usize) -> Result {
        let start = pfn * PAGE_SIZE as u64;
        // SAFETY: The memory belongs to the buffer; the function checks the VMA against its length.
        to_result(unsafe { bindings::vm_iomap_memory(self.as_ptr(), start, pages * PAGE_SIZE) })
    }

    /// `vm_insert_pages`: the VMA's pages from `at` on show these pages.
    pub(crate) fn insert(&self, at: usize, pages: &mut [PageRef]) -> Result {
        let mut left = pages.len();
        // SAFETY: `PageRef` is transparent over a pointer to a page; the range lies in the VMA, which we
        // set up, so `VM_MIXEDMAP` can still be set by the function.
        to_result(unsafe {
            bindings::vm_insert_pages(
                self.as_ptr(),
                self.address(at, pages.len())?,
                pages.as_mut_ptr().cast(),
                &mut left,
            )
        })
    }

    /// `vm_map_pages`: these are all the buffer's pages; the VMA's page offset says where to begin.
    pub(crate) fn map_pages(&self, pages: &mut [PageRef]) -> Result {
        // SAFETY: As for `insert`; the function checks the VMA against the number of pages.
        to_result(unsafe {
            bindings::vm_map_pages(self.as_ptr(), pages.as_mut_ptr().cast(), pages.len())
        })
    }

    /// `remap_vmalloc_range`, from the VMA's page offset on.
    pub(crate) fn vmalloc(&self, area: &Vmap) -> Result {
        let page = self.page_offset() as usize;
        // SAFETY: The area has `VM_USERMAP`; the function checks the VMA against its size.
        to_result(unsafe { mapbuf_remap_vmalloc_range(self.as_ptr(), area.as_ptr().cast(), page) })
    }

    /// `dma_mmap_coherent`, from the VMA's page offset on.
    pub(crate) fn dma(&self, block: &CoherentBlock) -> Result {
        let (device, address, dma, size) = block.raw();
        // SAFETY: The block is what `dma_alloc_attrs` gave for this device, address and size.
        to_result(unsafe {
            bindings::dma_mmap_attrs(device, self.as_ptr(), address.cast(), dma, size, 0)
        })
    }

    /// The address of the VMA's page `at`, of which `pages` are about to be mapped.
    fn address(&self, at: usize, pages: usize) -> Result<usize> {
        match at.checked_add(pages) {
            Some(end) if pages > 0 && end <= self.pages() => Ok(self.0.start() + at * PAGE_SIZE),
            _ => Err(EINVAL),
        }
    }
}

/// A page of a buffer, as a VMA's page offset tells it.
#[derive(Clone, Copy)]
pub(crate) enum Page {
    /// By its place in the buffer.
    Index(usize),
    /// By its frame number.
    Frame(u64),
}

/// How the faults of a VMA are answered.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Answer {
    /// Not at all: everything was mapped by page frame at `mmap`, and nothing takes such entries out.
    Never,
    /// With the page; the core maps it, by a huge entry where its folio has the size of one.
    Page,
    /// With the page and those around it, as far as one page table reaches. No page may be one of a folio
    /// that gets a huge entry: the VMA has `VM_MIXEDMAP`, as with `Refill`.
    Around,
    /// With the page, mapped by us: a VMA whose pages were inserted has `VM_MIXEDMAP`, and must never get
    /// a huge entry for a folio (`__split_huge_pmd_locked` of `mm/huge_memory.c` would leak it).
    Refill,
    /// With the page frame.
    Pfn,
    /// With a folio by a huge entry where it fits, else with the page.
    HugeFolio,
    /// With page frames by a huge entry where it fits, else with the page frame.
    HugePfn,
}

/// A page fault in a mapping of a buffer.
pub(crate) struct Fault<'a> {
    fault: &'a mut bindings::vm_fault,
    /// How it is to be answered.
    pub(crate) answer: Answer,
    /// Pages of the entry wanted, as a power of two.
    pub(crate) order: u32,
}

/// What becomes of the access.
#[derive(Clone, Copy)]
pub(crate) struct Outcome(bindings::vm_fault_t);

impl Outcome {
    /// There is nothing at this place.
    pub(crate) const SIGBUS: Self = Self(bindings::vm_fault_reason_VM_FAULT_SIGBUS);
    /// Not by a huge entry: the core asks again for a small one.
    pub(crate) const FALLBACK: Self = Self(bindings::vm_fault_reason_VM_FAULT_FALLBACK);

    /// Whether there is no entry for the address now.
    pub(crate) fn failed(self) -> bool {
        self.0 != bindings::vm_fault_reason_VM_FAULT_NOPAGE
    }
}

impl Fault<'_> {
    /// The page of the buffer that is wanted.
    pub(crate) fn page_offset(&self) -> u64 {
        self.fault.__bindgen_anon_1.pgoff as u64
    }

    /// Whether a huge entry around the address lies within the VMA.
    pub(crate) fn huge_fits(&self) -> bool {
        let Some(size) = PAGE_SIZE.checked_shl(self.order) else {
            return false;
        };
        let start = self.fault.__bindgen_anon_1.address & !(size - 1);
        // SAFETY: The VMA of a fault is locked against changes.
        let (first, end) = unsafe {
            let vma = &(*self.fault.__bindgen_anon_1.vma)
                .__bindgen_anon_1
                .__bindgen_anon_1;
            (vma.vm_start, vma.vm_end)
        };
        start >= first && start.checked_add(size).is_some_and(|last| last <= end)
    }

    /// The buffer's page at the start of the huge entry, if buffer and address line up.
    pub(crate) fn huge_page_offset(&self) -> Option<u64> {
        let pages = 1u64.checked_shl(self.order)?;
        let into = (self.fault.__bindgen_anon_1.address / PAGE_SIZE) as u64 & (pages - 1);
        self.page_offset().checked_sub(into)
    }

    /// Whether the answer must be a private copy, which the core makes of a small page.
    pub(crate) fn copies(&self) -> bool {
        // SAFETY: The VMA of a fault is locked against changes.
        let flags = unsafe { VmaRef::from_raw(self.fault.__bindgen_anon_1.vma) }.flags();
        self.write() && flags & flags::SHARED == 0
    }

    fn write(&self) -> bool {
        self.fault.flags & bindings::fault_flag_FAULT_FLAG_WRITE != 0
    }

    /// Answers with the page, which the core maps.
    pub(crate) fn give(self, page: PageRef) -> Outcome {
        // SAFETY: The page is the buffer's; the core takes over the reference.
        unsafe { mapbuf_get_page(page.as_ptr()) };
        self.fault.page = page.as_ptr();
        Outcome(0)
    }

    /// Maps the page by a small entry.
    pub(crate) fn insert(&mut self, page: PageRef) -> Outcome {
        let write = self.write();
        // SAFETY: The VMA has `VM_MIXEDMAP`: `answer_faults` or `vm_insert_pages` and its like have set it.
        Outcome(unsafe { bindings::vmf_insert_page_mkwrite(self.fault, page.as_ptr(), write) })
    }

    /// The pages of the buffer, from the first to the one behind the last, that the VMA shows by the page
    /// table of the address.
    pub(crate) fn table(&self) -> Range<u64> {
        let place = &self.fault.__bindgen_anon_1;
        // SAFETY: The VMA of a fault is locked against changes.
        let (first, end) = unsafe {
            let vma = &(*place.vma).__bindgen_anon_1.__bindgen_anon_1;
            (vma.vm_start, vma.vm_end)
        };
        let start = place.address & !(TABLE - 1);
        let last = start.saturating_add(TABLE).min(end);
        let before = place.address.saturating_sub(start.max(first)) / PAGE_SIZE;
        let behind = last.saturating_sub(place.address).div_ceil(PAGE_SIZE);
        let page = self.page_offset();
        page.saturating_sub(before as u64)..page.saturating_add(behind as u64)
    }

    /// Maps pages, which lie in the buffer from page `at` on, by small entries, until one of them has an
    /// entry already; whether all of them were mapped.
    pub(crate) fn insert_others(&self, at: usize, pages: &mut [PageRef]) -> bool {
        let place = &self.fault.__bindgen_anon_1;
        let distance = at.wrapping_sub(place.pgoff);
        let address =
            (place.address & !(PAGE_SIZE - 1)).wrapping_add(distance.wrapping_mul(PAGE_SIZE));
        let mut left = pages.len();
        // SAFETY: `PageRef` is transparent over a pointer to a page; the VMA has `VM_MIXEDMAP`, so nothing
        // of it is changed; the function checks that the range lies in it.
        let result = unsafe {
            bindings::vm_insert_pages(place.vma, address, pages.as_mut_ptr().cast(), &mut left)
        };
        result == 0
    }

    /// Maps the page frame by a small entry.
    pub(crate) fn insert_pfn(self, pfn: u64) -> Outcome {
        let place = &self.fault.__bindgen_anon_1;
        // SAFETY: The VMA has `VM_PFNMAP` and is not copy-on-write (`policy` lets no such plan through).
        Outcome(unsafe { bindings::vmf_insert_pfn(place.vma, place.address, pfn as usize) })
    }

    /// Maps the folio that the page begins by a huge entry.
    pub(crate) fn insert_huge_folio(self, page: PageRef) -> Outcome {
        let write = self.write();
        // SAFETY: The folio is the buffer's, and of the size of the entry; the VMA has neither
        // `VM_MIXEDMAP` nor `VM_PFNMAP`.
        Outcome(unsafe {
            let folio = mapbuf_page_folio(page.as_ptr());
            bindings::vmf_insert_folio_pmd(self.fault, folio, write)
        })
    }

    /// Maps the page frames from `pfn` on by a huge entry.
    pub(crate) fn insert_huge_pfn(self, pfn: u64) -> Outcome {
        let write = self.write();
        // SAFETY: The VMA has `VM_PFNMAP` and is not copy-on-write; the frames are the buffer's.
        Outcome(unsafe { bindings::vmf_insert_pfn_pmd(self.fault, pfn as usize, write) })
    }
}

/// What became of an access to a private mapping.
enum Copied {
    /// There was a private copy, and it was read or written.
    Done,
    /// The page is the buffer's own.
    Shared,
    /// There is a private copy that may not be written to.
    Refused,
}

/// The operations of mapped VMAs. None has `open` or `close`: the VMA's file keeps the buffer, so forks,
/// splits and merges need no counting of ours.
struct Operations<T>(core::marker::PhantomData<T>);

impl<T: Exporter> Operations<T> {
    const NEVER: bindings::vm_operations_struct = bindings::vm_operations_struct {
        access: Some(Self::access),
        ..pin_init::zeroed()
    };
    const PAGE: bindings::vm_operations_struct = Self::small(Self::page);
    const AROUND: bindings::vm_operations_struct = Self::small(Self::around);
    const REFILL: bindings::vm_operations_struct = Self::small(Self::refill);
    const PFN: bindings::vm_operations_struct = Self::small(Self::pfn);
    const HUGE_FOLIO: bindings::vm_operations_struct = bindings::vm_operations_struct {
        huge_fault: Some(Self::huge_folio),
        ..Self::PAGE
    };
    const HUGE_PFN: bindings::vm_operations_struct = bindings::vm_operations_struct {
        huge_fault: Some(Self::huge_pfn),
        ..Self::PFN
    };

    const fn small(
        fault: unsafe extern "C" fn(*mut bindings::vm_fault) -> bindings::vm_fault_t,
    ) -> bindings::vm_operations_struct {
        bindings::vm_operations_struct {
            fault: Some(fault),
            map_pages: Some(Self::none_around),
            ..Self::NEVER
        }
    }

    /// There being such a function tells the core that faults need the lock of the VMA alone
    /// (`vmf_can_call_fault` of `mm/memory.c`); without it each is taken twice, the second time under the
    /// lock of the address space. Nothing is mapped here: [`Fault`] does that.
    ///
    /// # Safety
    ///
    /// None: it looks at nothing.
    unsafe extern "C" fn none_around(
        _fault: *mut bindings::vm_fault,
        _start: c_ulong,
        _end: c_ulong,
    ) -> bindings::vm_fault_t {
        0
    }

    /// A debugger's access to page frames, which have no pages that it could pin. The kernel's
    /// `generic_access_phys` (`mm/memory.c`) is for devices: in 7.2 it maps the frame by `ioremap`, which
    /// warns about RAM and fails; from 7.3 on it refuses RAM itself, without a warning.
    ///
    /// # Safety
    ///
    /// The core calls this for a VMA that [`NewVma::answer_faults`] was called for, with `length` bytes
    /// at `bytes`, and holds the lock of the address space.
    unsafe extern "C" fn access(
        vma: *mut bindings::vm_area_struct,
        address: c_ulong,
        bytes: *mut c_void,
        length: c_int,
        write: c_int,
    ) -> c_int {
        // SAFETY: The VMA is locked.
        let vma = unsafe { VmaRef::from_raw(vma) };
        // SAFETY: The VMA's file keeps the data alive, and the VMA's fields may be read.
        let (data, offset) = unsafe {
            let raw = vma.as_ptr();
            (dmabuf::data_of::<T>((*raw).vm_file), (*raw).vm_pgoff)
        };
        let flags = vma.flags();
        // The core asks for writes to read-only mappings too (`FOLL_FORCE`), which is good for private
        // copies only, and those have pages.
        let wanted = if write != 0 {
            flags::WRITE
        } else {
            flags::MAYREAD
        };
        if flags & wanted == 0 {
            return EFAULT.to_errno();
        }
        let into = address.saturating_sub(vma.start());
        let length = usize::try_from(length)
            .unwrap_or(0)
            .min(PAGE_SIZE - into % PAGE_SIZE);
        let at = offset.saturating_add(into / PAGE_SIZE);
        // `remap_pfn_range` has put the frame number there when the mapping is copy-on-write.
        let by_frame = flags::PFNMAP | flags::SHARED | flags::MAYWRITE;
        let page = if flags & by_frame == flags::PFNMAP | flags::MAYWRITE {
            // SAFETY: The address space is locked, and there are so many bytes of the core's.
            let copied =
                unsafe { Self::access_copy(vma, address, at, bytes.cast(), length, write != 0) };
            match copied {
                Copied::Done => return length as c_int,
                Copied::Shared if write == 0 => Page::Frame(at as u64),
                // A write must make a copy first, which only the process itself can.
                Copied::Shared | Copied::Refused => return EFAULT.to_errno(),
            }
        } else {
            Page::Index(at)
        };
        match data.page_bytes(page, into % PAGE_SIZE, length) {
            // SAFETY: The core passes so many bytes of its own.
            Some(ours) => unsafe {
                if write != 0 {
                    ours.copy_from_kernel(bytes.cast());
                } else {
                    ours.copy_to_kernel(bytes.cast());
                }
                ours.len() as c_int
            },
            None => EFAULT.to_errno(),
        }
    }

    /// A debugger's access to a private copy in a mapping of page frames: the core finds no page there,
    /// because it does not look for one in a VMA of page frames. `expected` is the frame of the buffer.
    ///
    /// # Safety
    ///
    /// The lock of the address space is held; `length` bytes lie at `bytes`, and from `address` on in one
    /// page of the VMA.
    unsafe fn access_copy(
        vma: &VmaRef,
        address: usize,
        expected: usize,
        bytes: *mut u8,
        length: usize,
        write: bool,
    ) -> Copied {
        let mut entry = bindings::follow_pfnmap_args {
            vma: vma.as_ptr(),
            address,
            ..pin_init::zeroed()
        };
        // SAFETY: The lock of the address space is held.
        if unsafe { bindings::follow_pfnmap_start(&mut entry) } != 0 {
            // Not there yet: it would be the buffer's.
            return Copied::Shared;
        }
        let copied = if entry.pfn == expected {
            Copied::Shared
        } else if write && !entry.writable {
            Copied::Refused
        } else {
            // SAFETY: Until `follow_pfnmap_end` the entry stays, and with it the page of the process, an
            // ordinary one, which the kernel has mapped.
            unsafe {
                let page = mapbuf_page_address(mapbuf_pfn_to_page(entry.pfn)).cast::<u8>();
                let there = page.add(address % PAGE_SIZE);
                let (to, from) = if write {
                    (there, bytes)
                } else {
                    (bytes, there)
                };
                mapbuf_memcpy(to.cast(), from.cast(), length);
            }
            Copied::Done
        };
        // SAFETY: `follow_pfnmap_start` succeeded.
        unsafe { bindings::follow_pfnmap_end(&mut entry) };
        copied
    }

    /// # Safety
    ///
    /// The core calls this for a fault in a VMA whose file is a dma-buf of `T`.
    unsafe fn answer(
        fault: *mut bindings::vm_fault,
        answer: Answer,
        order: u32,
    ) -> bindings::vm_fault_t {
        // SAFETY: By the safety requirements the pointer is ours for the time of the call.
        let fault = unsafe { &mut *fault };
        // SAFETY: The VMA's file keeps the dma-buf, and so its data, alive during the fault.
        let data = unsafe { dmabuf::data_of::<T>((*fault.__bindgen_anon_1.vma).vm_file) };
        data.fault(Fault {
            fault,
            answer,
            order,
        })
        .0
    }

    /// # Safety
    ///
    /// The core calls this for a fault in a VMA that [`NewVma::answer_faults`] was called for.
    unsafe extern "C" fn page(fault: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        // SAFETY: Called by the core for a VMA that `answer_faults` was called for.
        unsafe { Self::answer(fault, Answer::Page, 0) }
    }

    /// # Safety
    ///
    /// The core calls this for a fault in a VMA that [`NewVma::answer_faults`] was called for.
    unsafe extern "C" fn around(fault: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        // SAFETY: As above.
        unsafe { Self::answer(fault, Answer::Around, 0) }
    }

    /// # Safety
    ///
    /// The core calls this for a fault in a VMA that [`NewVma::answer_faults`] was called for.
    unsafe extern "C" fn refill(fault: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        // SAFETY: As above.
        unsafe { Self::answer(fault, Answer::Refill, 0) }
    }

    /// # Safety
    ///
    /// The core calls this for a fault in a VMA that [`NewVma::answer_faults`] was called for.
    unsafe extern "C" fn pfn(fault: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        // SAFETY: As above.
        unsafe { Self::answer(fault, Answer::Pfn, 0) }
    }

    /// # Safety
    ///
    /// The core calls this for a fault in a VMA that [`NewVma::answer_faults`] was called for.
    unsafe extern "C" fn huge_folio(
        fault: *mut bindings::vm_fault,
        order: c_uint,
    ) -> bindings::vm_fault_t {
        // SAFETY: As above.
        unsafe { Self::answer(fault, Answer::HugeFolio, order) }
    }

    /// # Safety
    ///
    /// The core calls this for a fault in a VMA that [`NewVma::answer_faults`] was called for.
    unsafe extern "C" fn huge_pfn(
        fault: *mut bindings::vm_fault,
        order: c_uint,
    ) -> bindings::vm_fault_t {
        // SAFETY: As above.
        unsafe { Self::answer(fault, Answer::HugePfn, order) }
    }
}
