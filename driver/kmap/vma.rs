// SPDX-License-Identifier: GPL-2.0

//! Virtual memory areas that `mmap` sets up.
//!
//! A [`FileVma`] is a VMA that a file was asked to map. With memory to show it becomes a [`NewVma`], which shows that memory
//! and no other. It is consumed by the call that fills it: with frames at once, with pages at once, or by
//! page faults. That call also sets the operations and the flags, so they cannot disagree.

use super::{
    backing::{
        Backing,
        Watch, //
    },
    fault::{
        Faults,
        Handlers, //
    },
    helpers::*,
    lease::OWNED,
    long_vec::LongVec,
    ptrace, //
};
use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ops::Deref, //
};
use kernel::{
    bindings,
    error::to_result,
    mm::virt::{
        flags,
        VmaNew, //
    },
    page::PAGE_SIZE,
    prelude::*,
    sync::Arc, //
};

/// A VMA that `mmap` of a file was called for: not yet visible to anybody else, and without memory to show.
pub struct FileVma<'a>(&'a VmaNew);

impl<'a> FileVma<'a> {
    /// # Safety
    ///
    /// The pointer is the VMA that the running `mmap` operation was given, and that operation uses it in no other way.
    pub(crate) unsafe fn from_raw(vma: *mut bindings::vm_area_struct) -> Self {
        // SAFETY: By the safety requirements it is undergoing initial setup.
        Self(unsafe { VmaNew::from_raw(vma) })
    }

    /// The VMA itself.
    pub(crate) fn as_ptr(&self) -> *mut bindings::vm_area_struct {
        self.0.as_ptr()
    }

    /// Its page offset in the file.
    pub fn page_offset(&self) -> u64 {
        page_offset(self.0)
    }

    /// How many pages it covers.
    pub fn pages(&self) -> usize {
        pages(self.0)
    }

    /// What the caller wants it to be like.
    pub fn wish(&self) -> Wish {
        Wish::of(self.0)
    }

    /// Keeps it from being executable, now and by `mprotect`.
    ///
    /// # Errors
    ///
    /// `EINVAL`: it is already.
    pub fn never_executable(&self) -> Result {
        self.0.try_clear_mayexec()
    }
}

fn page_offset(vma: &VmaNew) -> u64 {
    // SAFETY: By the invariants of `VmaNew` it is being set up, so its fields may be read.
    unsafe { (*vma.as_ptr()).vm_pgoff as u64 }
}

fn pages(vma: &VmaNew) -> usize {
    (vma.end() - vma.start()) / PAGE_SIZE
}

/// What the caller of `mmap` wants a mapping to be like.
#[derive(Clone, Copy)]
pub struct Wish {
    /// Where it begins, in pages.
    pub address: u64,
    /// How many pages.
    pub pages: u64,
    /// `VM_SHARED`. `MAP_SHARED` of a file that was opened for reading comes without it, and without `VM_MAYWRITE`
    /// (`do_mmap` of `mm/mmap.c`).
    pub shared: bool,
    /// Writable now.
    pub write: bool,
    /// Writable, or `mprotect` can make it so.
    pub may_write: bool,
    /// Executable.
    pub exec: bool,
}

impl Wish {
    fn of(vma: &VmaNew) -> Self {
        let has = |flag| vma.flags() & flag != 0;
        Self {
            address: (vma.start() / PAGE_SIZE) as u64,
            pages: pages(vma) as u64,
            shared: has(flags::SHARED),
            write: has(flags::WRITE),
            may_write: has(flags::MAYWRITE),
            exec: vma.executable(),
        }
    }
}

/// A VMA that is being set up to show memory of a `T`.
///
/// # Invariants
///
/// Who keeps the data is as [`Backed::COUNTED`] says, and the VMA's page offset counts in its memory. Nothing is mapped yet, and
/// none of `VM_IO`, `VM_PFNMAP` and `VM_MIXEDMAP` is set.
pub struct NewVma<'a, T: Faults> {
    vma: &'a VmaNew,
    data: Kept<'a, T>,
}

/// The data whose memory a VMA shows, and who keeps it.
enum Kept<'a, T> {
    /// The VMA's file, until its release.
    ByFile(&'a T),
    /// This reference, which the VMA takes over when it is set up.
    Counted(Arc<T>),
}

impl<T> Clone for Kept<'_, T> {
    fn clone(&self) -> Self {
        match self {
            Self::ByFile(data) => Self::ByFile(data),
            Self::Counted(data) => Self::Counted(data.clone()),
        }
    }
}

impl<T> Deref for Kept<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match self {
            Self::ByFile(data) => data,
            Self::Counted(data) => data,
        }
    }
}

/// How the faults of a VMA are answered.
#[derive(Clone, Copy, Eq, PartialEq)]
pub enum Answer {
    /// With the page; the core maps it, by a huge entry where its folio has the size of one.
    Page,
    /// With the page and those around it, mapped by us. No page may be one of a folio that gets a huge entry.
    Around,
    /// With the page frame.
    Frame,
    /// With a folio by a huge entry where it fits, else with the page.
    HugePage,
    /// With page frames by a huge entry where it fits, else with the page frame.
    HugeFrame,
}

impl<'a, T: Faults> NewVma<'a, T> {
    /// # Safety
    ///
    /// The running `mmap` operation was given this VMA, and uses it in no other way. The VMA's file keeps the dma-buf that
    /// has `data` as its data, until the file's release; the VMA's page offset counts in that.
    pub(crate) unsafe fn new(vma: *mut bindings::vm_area_struct, data: &'a T) -> Self {
        // SAFETY: By the safety requirements it is undergoing initial setup.
        let vma = unsafe { VmaNew::from_raw(vma) };
        // Without operations it would pass for anonymous memory.
        // SAFETY: We may set the operations and the private data of a VMA that we set up; these operations suit any for
        // `T`.
        unsafe {
            (*vma.as_ptr()).vm_ops = Operations::<T, false>::NEVER;
            (*vma.as_ptr()).vm_private_data = core::ptr::from_ref(data).cast_mut().cast();
        }
        const { assert!(!T::COUNTED, "its VMAs have references of their own") };
        // INVARIANT: By the safety requirements; the core has mapped nothing, and sets none of the flags.
        Self {
            vma,
            data: Kept::ByFile(data),
        }
    }

    /// One that keeps the data itself, whatever becomes of the file. It shows the memory from `page` on, which replaces its
    /// page offset: fork, split and move count from there.
    pub fn of(vma: FileVma<'a>, data: Arc<T>, page: usize) -> Self {
        const { assert!(T::COUNTED, "its VMAs have no references of their own") };
        let vma = vma.0;
        // SAFETY: We may set these fields of a VMA that we set up. The operations are empty, so the data is not looked for
        // before `set_up` puts it there; with none at all it would pass for anonymous memory.
        unsafe {
            (*vma.as_ptr()).vm_ops = Operations::<T, false>::EMPTY;
            (*vma.as_ptr()).vm_pgoff = page;
        }
        // INVARIANT: The reference is here; the core has mapped nothing, and sets none of the flags.
        Self {
            vma,
            data: Kept::Counted(data),
        }
    }

    /// The data whose memory it will show.
    pub fn data(&self) -> &T {
        &self.data
    }

    /// Its page offset in the buffer.
    pub fn page_offset(&self) -> u64 {
        page_offset(self.vma)
    }

    /// How many pages it covers.
    pub fn pages(&self) -> usize {
        pages(self.vma)
    }

    /// What the caller wants it to be like.
    pub fn wish(&self) -> Wish {
        Wish::of(self.vma)
    }

    /// Sets what every mapping of a buffer has: it cannot grow and never becomes executable; with `seal`, it never
    /// becomes writable either.
    pub fn restrict(&self, seal: bool) -> Result {
        self.vma.set_dontexpand();
        self.vma.try_clear_mayexec()?;
        if seal {
            self.vma.try_clear_maywrite()?;
        }
        Ok(())
    }

    /// Refuses copy-on-write: a private mapping stays read-only.
    ///
    /// # Errors
    ///
    /// `EINVAL` where it is private and writable.
    pub fn never_copied(&self) -> Result {
        let wish = self.wish();
        if wish.shared || !wish.may_write {
            return Ok(());
        }
        self.vma.try_clear_maywrite()
    }

    /// Has `fill` map all page frames now.
    pub fn map_frames(self, fill: impl FnOnce(&FramesVma<'a, T>) -> Result) -> Result {
        self.set_up(
            |counted| match counted {
                true => Operations::<T, true>::NEVER,
                false => Operations::<T, false>::NEVER,
            },
            // The functions that map set them.
            0,
            // INVARIANT: The operations suit a VMA of page frames.
            |vma| fill(&FramesVma(vma)),
        )
    }

    /// Has `fill` insert all pages now. Pages that `madvise(MADV_DONTNEED)` removes come back by faults.
    pub fn insert_pages(self, fill: impl FnOnce(&PagesVma<'a, T>) -> Result) -> Result {
        self.set_up(
            |counted| match counted {
                true => Operations::<T, true>::MIXED,
                false => Operations::<T, false>::MIXED,
            },
            flags::MIXEDMAP,
            // INVARIANT: The flag was just set, and the operations suit it.
            |vma| fill(&PagesVma(vma)),
        )
    }

    /// Maps nothing now: [`Faults::fault`] does.
    pub fn answer_faults(self, by: Answer) -> Result {
        self.set_up_faults(by, |_| Ok(()))
    }

    /// Has `fill` map some page frames now. Faults answered by [`Answer::HugeFrame`] map the others.
    ///
    /// # Errors
    ///
    /// Those of `fill`, and `EINVAL` for copy-on-write.
    pub fn map_and_answer(self, fill: impl FnOnce(&FramesVma<'a, T>) -> Result) -> Result {
        // INVARIANT: The operations suit a VMA of page frames.
        self.set_up_faults(Answer::HugeFrame, |vma| fill(&FramesVma(vma)))
    }

    fn set_up_faults(self, by: Answer, fill: impl FnOnce(Self) -> Result) -> Result {
        let set = match by {
            // As `remap_pfn_range` does. A core dump finds no page, and would hold zeros.
            Answer::Frame | Answer::HugeFrame => flags::PFNMAP | flags::IO | flags::DONTDUMP,
            // A fault cannot set the flag any more.
            Answer::Around => flags::MIXEDMAP,
            Answer::Page | Answer::HugePage => 0,
        };
        // `vmf_insert_pfn_prot` of `mm/memory.c` has a `BUG_ON` for these.
        let copy_on_write = self.vma.flags() & (flags::SHARED | flags::MAYWRITE) == flags::MAYWRITE;
        if set & flags::PFNMAP != 0 && copy_on_write {
            return Err(EINVAL);
        }
        self.set_up(
            |counted| match counted {
                true => Operations::<T, true>::answering(by),
                false => Operations::<T, false>::answering(by),
            },
            set,
            fill,
        )
    }

    /// Sets everything except the entries, which `fill` makes.
    fn set_up(
        self,
        operations: impl FnOnce(bool) -> &'static bindings::vm_operations_struct,
        set: bindings::vm_flags_t,
        fill: impl FnOnce(Self) -> Result,
    ) -> Result {
        let (data, left) = (self.data.clone(), self.data.clone());
        let attributes = data.backing().attributes();
        let end = self.page_offset().checked_add(self.pages() as u64);
        if end.is_none_or(|end| end > data.backing().len() as u64) {
            return Err(EINVAL);
        }
        let watch = data.watch().map(Watching::new).transpose()?;
        // What is gone is shown by nobody.
        let hold = data.hold();
        let view = hold
            .as_ref()
            .map_or(core::ptr::null(), |hold| attributes.view(hold));
        // SAFETY: We may change a VMA that we set up. The operations are those for the flags: the caller sees to it. By the
        // invariants of `Attributes` the view is an address of the kernel's, or null, while `hold` lives.
        unsafe {
            let vma = self.vma.as_ptr();
            (*vma).vm_ops = operations(watch.is_some());
            (*vma).vm_private_data = core::ptr::from_ref::<T>(&data).cast_mut().cast();
            kmap_helper_vma_flags(vma, set, 0);
            kmap_helper_vma_protection(vma, attributes.cache().number(), view.cast());
        }
        drop(hold);
        fill(self)?;
        if let Some(watch) = watch {
            // From now on the core calls `close` when the mapping goes. (It would not if `mmap` had failed: `mmap_file` of
            // `mm/internal.h`.)
            core::mem::forget(watch);
        }
        if let Kept::Counted(left) = left {
            // `close` gives this reference back.
            core::mem::forget(left);
        }
        Ok(())
    }

    /// The address of the VMA's page `at`, of which `pages` are about to be mapped.
    fn address(&self, at: usize, pages: usize) -> Result<usize> {
        match at.checked_add(pages) {
            Some(end) if pages > 0 && end <= self.pages() => Ok(self.vma.start() + at * PAGE_SIZE),
            _ => Err(EINVAL),
        }
    }

    /// The page of the buffer that the VMA's page `at` shows.
    fn index(&self, at: usize) -> Result<usize> {
        let index = self.page_offset().checked_add(at as u64).ok_or(EINVAL)?;
        Ok(usize::try_from(index)?)
    }
}

/// A [`Watch`] that was told of a new mapping. When dropped, it is told that the mapping is gone.
struct Watching<'a>(&'a dyn Watch);

impl<'a> Watching<'a> {
    fn new(watch: &'a dyn Watch) -> Result<Self> {
        watch.enter()?;
        Ok(Self(watch))
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// A VMA that page frames are being mapped into.
///
/// # Invariants
///
/// Its operations suit a VMA of page frames.
pub struct FramesVma<'a, T: Faults>(NewVma<'a, T>);

impl<'a, T: Faults> FramesVma<'a, T> {
    /// How many pages it covers.
    pub fn pages(&self) -> usize {
        self.0.pages()
    }

    /// Pages before its first address at which a huge entry could be.
    pub fn before_huge(&self) -> usize {
        let start = self.0.vma.start() / PAGE_SIZE;
        start.next_multiple_of(1 << super::alloc::pmd_order()) - start
    }

    /// The number of the first of `pages` contiguous frames, which the VMA shows from its page `at` on.
    fn run(&self, at: usize, pages: usize) -> Result<usize> {
        let index = self.0.index(at)?;
        // Memory that may go is not mapped now: an entry that is made before the VMA is linked is not found.
        let memory = self.0.data.backing();
        let frames = memory.frames(&OWNED, index, pages).ok_or(EINVAL)?;
        if frames.count() < pages {
            return Err(EINVAL);
        }
        Ok(usize::try_from(frames.first())?)
    }

    /// `remap_pfn_range` over `pages` pages of the VMA, starting at its page `at`.
    ///
    /// # Errors
    ///
    /// `EINVAL` where that is not one run.
    pub fn remap(&self, at: usize, pages: usize) -> Result {
        // Before the call, which replaces the offset of a copy-on-write mapping with the frame number.
        let pfn = self.run(at, pages)?;
        let address = self.0.address(at, pages)?;
        let vma = self.0.vma.as_ptr();
        // SAFETY: The range lies in the VMA, which we set up. The frames are there as long as the VMA: its file keeps the
        // data. The protection is the VMA's own.
        to_result(unsafe {
            bindings::remap_pfn_range(vma, address, pfn, pages * PAGE_SIZE, (*vma).vm_page_prot)
        })
    }

    /// `io_remap_pfn_range` over the whole VMA.
    pub fn io_remap(&self) -> Result {
        let pages = self.pages();
        let pfn = self.run(0, pages)?;
        let address = self.0.address(0, pages)?;
        self.plain()?;
        // SAFETY: As for `remap_pfn_range`: the range lies in the VMA, and the frames are there as long as it.
        to_result(unsafe {
            kmap_helper_io_remap_pfn_range(self.0.vma.as_ptr(), address, pfn, pages * PAGE_SIZE)
        })
    }

    /// `vm_iomap_memory`, which takes the start and the length of the buffer, and adds the VMA's page offset.
    pub fn iomap(&self) -> Result {
        let memory = self.0.data.backing();
        let frames = memory.frames(&OWNED, 0, memory.len()).ok_or(EINVAL)?;
        if frames.count() < memory.len() {
            return Err(EINVAL);
        }
        self.plain()?;
        let start = frames.first() * PAGE_SIZE as u64;
        // SAFETY: All of it is the buffer's, and there as long as the VMA; the function checks the VMA against its length.
        to_result(unsafe {
            bindings::vm_iomap_memory(self.0.vma.as_ptr(), start, memory.len() * PAGE_SIZE)
        })
    }

    /// `io_remap_pfn_range` makes an entry that is not encrypted: wrong for memory that the kernel sees encrypted.
    fn plain(&self) -> Result {
        let view = self.0.data.backing().attributes().view(&OWNED);
        // SAFETY: By the invariants of `Attributes` it is an address of the kernel's, or null.
        match unsafe { kmap_helper_is_encrypted(view.cast()) } {
            true => Err(EINVAL),
            false => Ok(()),
        }
    }

    /// `dma_mmap_coherent`, starting at the VMA's page offset.
    pub fn dma(&self) -> Result {
        let block = self.0.data.backing().coherent().ok_or(EINVAL)?;
        let (device, address, dma, size) = block.raw();
        // SAFETY: By the invariants of `CoherentBlock` that is what `dma_alloc_attrs` gave for this device. It is there as
        // long as the VMA; the function checks the VMA against its size.
        to_result(unsafe {
            bindings::dma_mmap_attrs(device, self.0.vma.as_ptr(), address.cast(), dma, size, 0)
        })
    }
}

/// A VMA that pages are being inserted into.
///
/// # Invariants
///
/// It has `VM_MIXEDMAP`, and operations that suit that.
pub struct PagesVma<'a, T: Faults>(NewVma<'a, T>);

/// Pages that one call of `vm_insert_pages` is given.
const BATCH: usize = 512;

impl<'a, T: Faults> PagesVma<'a, T> {
    /// How many pages it covers.
    pub fn pages(&self) -> usize {
        self.0.pages()
    }

    /// One call of `vm_insert_pages` for the VMA's pages, starting at `at`. Returns how many it inserted.
    pub fn insert(&self, at: usize, batch: &mut Batch) -> Result<usize> {
        let count = BATCH.min(self.pages().checked_sub(at).ok_or(EINVAL)?);
        batch.fill(self.0.data.backing(), self.0.index(at)?, count)?;
        let address = self.0.address(at, count)?;
        let mut left = count;
        // SAFETY: The batch has `count` pages; the range lies in the VMA, which has `VM_MIXEDMAP`. The function takes
        // references of its own.
        to_result(unsafe {
            let pages = batch.0.as_mut_ptr();
            bindings::vm_insert_pages(self.0.vma.as_ptr(), address, pages, &mut left)
        })?;
        Ok(count)
    }

    /// `vm_map_pages` over the whole VMA.
    ///
    /// The function takes all pages of an object and skips as many as the VMA's page offset says. With an offset of 0,
    /// the array need not hold more than the VMA shows.
    pub fn map_pages(&self) -> Result {
        let mut all = Batch::new(self.pages())?;
        all.fill(self.0.data.backing(), self.0.index(0)?, self.pages())?;
        let vma = self.0.vma.as_ptr();
        // SAFETY: We may change the page offset of a VMA that we set up, and put it back. The array has so many pages, and
        // the function checks the VMA against their number; it takes references of its own.
        to_result(unsafe {
            let offset = core::mem::replace(&mut (*vma).vm_pgoff, 0);
            let mapped = bindings::vm_map_pages(vma, all.0.as_mut_ptr(), all.0.len());
            (*vma).vm_pgoff = offset;
            mapped
        })
    }

    /// `remap_vmalloc_range`, starting at the VMA's page offset.
    pub fn remap_vmalloc(&self) -> Result {
        let area = self.0.data.backing().area().ok_or(EINVAL)?;
        let page = self.0.index(0)?;
        // SAFETY: By the invariants of `Area` it has `VM_USERMAP`; the function checks the VMA against its size, and takes
        // references of its own to the pages.
        to_result(unsafe {
            let start = area.start().as_ptr().cast();
            kmap_helper_remap_vmalloc_range(self.0.vma.as_ptr(), start, page)
        })
    }
}

/// An array of pages to pass to a function.
pub struct Batch(LongVec<*mut bindings::page>);

impl Batch {
    /// For [`PagesVma::insert`].
    pub fn for_insert() -> Result<Self> {
        Self::new(BATCH)
    }

    fn new(count: usize) -> Result<Self> {
        let flags = GFP_KERNEL_ACCOUNT | __GFP_NOWARN;
        Ok(Self(LongVec::with_capacity(count, flags)?))
    }

    fn fill(&mut self, memory: &dyn Backing, first: usize, count: usize) -> Result {
        self.0.clear();
        for index in 0..count {
            let page = memory.page(first.checked_add(index).ok_or(EINVAL)?);
            let page = page.ok_or(EINVAL)?.as_ptr();
            self.0.push(page, GFP_KERNEL_ACCOUNT | __GFP_NOWARN)?;
            super::task::resched_unless_killed()?;
        }
        Ok(())
    }
}

/// The operations of VMAs for `T`. They have `open` and `close` with a [`Watch`] (`WATCHED`), and where each VMA keeps the data.
/// Otherwise they have neither: the VMA's file keeps the data, so forks, splits and merges need no counting of ours.
pub(super) struct Operations<T, const WATCHED: bool>(PhantomData<T>);

impl<T: Faults, const WATCHED: bool> Operations<T, WATCHED> {
    const EMPTY: &'static bindings::vm_operations_struct = &pin_init::zeroed();
    /// Of a VMA all of which is mapped.
    pub(super) const NEVER: &'static bindings::vm_operations_struct = &Self::none();
    /// Of a VMA with `VM_MIXEDMAP`.
    pub(super) const MIXED: &'static bindings::vm_operations_struct =
        &Self::small(Handlers::<T>::mixed);
    const AROUND: &'static bindings::vm_operations_struct = &Self::small(Handlers::<T>::around);
    const PAGE: &'static bindings::vm_operations_struct = &Self::small(Handlers::<T>::page);
    const FRAME: &'static bindings::vm_operations_struct = &Self::small(Handlers::<T>::frame);
    const HUGE_PAGE: &'static bindings::vm_operations_struct = &bindings::vm_operations_struct {
        huge_fault: Some(Handlers::<T>::huge_page),
        ..Self::small(Handlers::<T>::page)
    };
    const HUGE_FRAME: &'static bindings::vm_operations_struct = &bindings::vm_operations_struct {
        huge_fault: Some(Handlers::<T>::huge_frame),
        ..Self::small(Handlers::<T>::frame)
    };

    const fn none() -> bindings::vm_operations_struct {
        let mut operations: bindings::vm_operations_struct = pin_init::zeroed();
        operations.access = Some(ptrace::access::<T>);
        if WATCHED || T::COUNTED {
            operations.open = Some(Self::open);
            operations.close = Some(Self::close);
        }
        operations
    }

    const fn small(
        fault: unsafe extern "C" fn(*mut bindings::vm_fault) -> bindings::vm_fault_t,
    ) -> bindings::vm_operations_struct {
        bindings::vm_operations_struct {
            fault: Some(fault),
            map_pages: Some(Handlers::<T>::none_around),
            ..Self::none()
        }
    }

    fn answering(by: Answer) -> &'static bindings::vm_operations_struct {
        match by {
            Answer::Page => Self::PAGE,
            Answer::Around => Self::AROUND,
            Answer::Frame => Self::FRAME,
            Answer::HugePage => Self::HUGE_PAGE,
            Answer::HugeFrame => Self::HUGE_FRAME,
        }
    }

    /// # Safety
    ///
    /// The core calls this for a VMA that has become part of a mapping for `T`.
    unsafe extern "C" fn open(vma: *mut bindings::vm_area_struct) {
        // SAFETY: By the safety requirements.
        let data = unsafe { super::backing::data_of::<T>(vma) };
        if T::COUNTED {
            // SAFETY: The data is in an `Arc`, and the VMA that this one was made from has a reference.
            let kept = ManuallyDrop::new(unsafe { Arc::from_raw(data) });
            core::mem::forget(Arc::clone(&kept));
        }
        if !WATCHED {
            return;
        }
        if let Some(watch) = data.watch() {
            watch.again();
        }
    }

    /// # Safety
    ///
    /// The core calls this for a VMA for `T` that goes.
    unsafe extern "C" fn close(vma: *mut bindings::vm_area_struct) {
        // SAFETY: By the safety requirements.
        let data = unsafe { super::backing::data_of::<T>(vma) };
        // SAFETY: The data is in an `Arc`, of which the VMA has a reference, and no use for it any more.
        let _kept = T::COUNTED.then(|| unsafe { Arc::from_raw(data) });
        if !WATCHED {
            return;
        }
        if let Some(watch) = data.watch() {
            watch.leave();
        }
    }
}
