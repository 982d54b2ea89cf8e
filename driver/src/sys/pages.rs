// SPDX-License-Identifier: GPL-2.0

//! Physical pages that we own, and virtual areas over them.

use super::{
    caller,
    helpers::*,
    user::Bytes, //
};
use crate::{
    abi::wire::Cache,
    counts::{
        Counted,
        Sort, //
    },
};
use core::ptr::NonNull;
use kernel::{
    bindings,
    error::to_result,
    page::PAGE_SIZE,
    prelude::*, //
};

/// Pages in a PMD entry, as a power of two; 0 where the kernel has no such entries for us.
pub(crate) fn pmd_order() -> u32 {
    // SAFETY: Answers with a constant.
    unsafe { mapbuf_pmd_order() }
}

/// Bytes of memory that could be had without driving others into swap, as the kernel estimates them.
pub(crate) fn available() -> u64 {
    // SAFETY: Reads counters.
    unsafe { mapbuf_available_bytes() }
}

/// The largest order of the page allocator (`MAX_PAGE_ORDER`).
pub(crate) const MAX_ORDER: u32 = bindings::MAX_PAGE_ORDER;

/// A NUMA node to allocate on.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) struct NumaNode(Option<i32>);

impl NumaNode {
    pub(crate) const ANY: Self = Self(None);

    /// The node with this number, if it has memory.
    pub(crate) fn new(node: i32) -> Option<Self> {
        // SAFETY: The function takes any number.
        unsafe { mapbuf_node_has_memory(node) }.then_some(Self(Some(node)))
    }

    pub(crate) fn is_any(self) -> bool {
        self.0.is_none()
    }

    fn id(self) -> i32 {
        self.0.unwrap_or(bindings::NUMA_NO_NODE)
    }

    fn gfp(self) -> bindings::gfp_t {
        match self.0 {
            None => 0,
            Some(_) => gfp::THISNODE,
        }
    }
}

/// Flags that the bindings have as bit numbers only.
mod gfp {
    use kernel::bindings;

    pub(super) const RETRY_MAYFAIL: bindings::gfp_t = 1 << bindings::___GFP_RETRY_MAYFAIL_BIT;
    pub(super) const NORETRY: bindings::gfp_t = 1 << bindings::___GFP_NORETRY_BIT;
    pub(super) const COMP: bindings::gfp_t = 1 << bindings::___GFP_COMP_BIT;
    pub(super) const THISNODE: bindings::gfp_t = 1 << bindings::___GFP_THISNODE_BIT;
    /// For memory whose size a user chose: no warning when it fails, and no OOM killer.
    pub(super) const POLITE: bindings::gfp_t = bindings::__GFP_NOWARN | RETRY_MAYFAIL;
    /// Memory that a user asks for comes from the nodes of its cpuset and from no other
    /// (`cpuset_current_node_allowed` of `kernel/cgroup/cpuset.c`).
    pub(super) const HARDWALL: bindings::gfp_t = 1 << bindings::___GFP_HARDWALL_BIT;
    /// The same, zeroed and charged to the memory cgroup.
    pub(super) const ACCOUNTED: bindings::gfp_t =
        bindings::GFP_KERNEL_ACCOUNT | bindings::__GFP_ZERO | HARDWALL | POLITE;
}

/// One page that something else owns.
///
/// # Invariants
///
/// Points to a `struct page` with memory behind it.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct PageRef(NonNull<bindings::page>);

impl PageRef {
    pub(super) fn as_ptr(self) -> *mut bindings::page {
        self.0.as_ptr()
    }

    /// Its page frame number.
    pub(crate) fn pfn(self) -> u64 {
        // SAFETY: By the type's invariants.
        unsafe { mapbuf_page_to_pfn(self.as_ptr()) as u64 }
    }

    /// Whether it is the first page of a folio of `count` pages.
    pub(crate) fn begins_folio(self, count: usize) -> bool {
        // SAFETY: By the type's invariants.
        unsafe { mapbuf_begins_folio(self.as_ptr(), count) }
    }

    /// The kernel's address of it.
    fn address(self) -> *mut u8 {
        // SAFETY: By the type's invariants; none of our pages is highmem (64-bit only).
        unsafe { mapbuf_page_address(self.as_ptr()) }.cast()
    }

    /// Fills it with zeros.
    fn clear(self) {
        // SAFETY: The page's memory is mapped at its address, and nobody else has seen it yet.
        unsafe { self.address().write_bytes(0, PAGE_SIZE) };
    }
}

/// How the pages of a [`Run`] go back.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Origin {
    /// One compound page: a folio, with one reference count.
    Folio,
    /// Pages with a reference count each.
    Single,
    /// A CMA area's.
    Cma,
}

/// A physically contiguous run of pages that we own.
///
/// # Invariants
///
/// `count` pages from `first` are ours, contiguous, and one reference on each (`Single`), on the folio
/// (`Folio`) or the CMA allocation (`Cma`) belongs to this value.
pub(crate) struct Run {
    first: PageRef,
    count: usize,
    origin: Origin,
}

// SAFETY: Pages belong to no thread.
unsafe impl Send for Run {}
// SAFETY: Methods on a shared reference only read what never changes.
unsafe impl Sync for Run {}

impl Run {
    /// A folio of `1 << order` zeroed pages.
    ///
    /// Above order 0 it is taken only if it is to be had with little effort, unless `hard`.
    pub(crate) fn folio(order: u32, node: NumaNode, hard: bool) -> Option<Self> {
        let gfp = match order {
            0 => gfp::ACCOUNTED,
            _ if hard => gfp::ACCOUNTED | gfp::COMP,
            _ => gfp::ACCOUNTED & !gfp::RETRY_MAYFAIL | gfp::NORETRY | gfp::COMP,
        };
        let first = Self::alloc(order, gfp, node)?;
        // INVARIANT: `alloc` gave 2^order contiguous pages; with `__GFP_COMP`, or as a single page, they
        // are one folio, whose reference is ours.
        Some(Self {
            first,
            count: 1 << order,
            origin: Origin::Folio,
        })
    }

    /// `count` zeroed pages, each with a reference count of its own; at most `1 << MAX_ORDER`.
    pub(crate) fn split(count: usize, node: NumaNode) -> Option<Self> {
        let order = count.checked_next_power_of_two()?.trailing_zeros();
        if order > MAX_ORDER {
            return None;
        }
        let first = Self::alloc(order, gfp::ACCOUNTED, node)?;
        // SAFETY: The page is the first of a non-compound block of this order with one reference, ours.
        unsafe { bindings::split_page(first.as_ptr(), order) };
        let whole = Self {
            // INVARIANT: After the split each page of the block has a reference, ours.
            first,
            count: 1 << order,
            origin: Origin::Single,
        };
        Some(whole.truncate(count))
    }

    /// `count` zeroed pages of any number, each with a reference count of its own, by moving others away.
    /// The memory cgroup is not charged: the kernel has no way to (`__alloc_contig_verify_gfp_mask`).
    pub(crate) fn contig(count: usize, node: NumaNode) -> Option<Self> {
        let gfp = bindings::GFP_KERNEL | gfp::POLITE | node.gfp();
        // SAFETY: Any count may be asked for; a node that is named has memory.
        let first = unsafe { mapbuf_alloc_contig(count, gfp, node.id()) };
        // INVARIANT: The kernel gave `count` contiguous pages with a reference each, ours.
        let run = Self {
            first: PageRef(NonNull::new(first)?),
            count,
            origin: Origin::Single,
        };
        run.cleared()
    }

    /// The same, as one folio where it can be one: its pages are counted together, so that mapping and
    /// unmapping them is cheap. `1 << order` pages, more than `1 << MAX_ORDER`.
    pub(crate) fn contig_folio(order: u32, node: NumaNode) -> Option<Self> {
        // SAFETY: It answers with a constant.
        if order > unsafe { mapbuf_max_folio_order() } {
            return Self::contig(1 << order, node);
        }
        let gfp = bindings::GFP_KERNEL | gfp::POLITE | node.gfp();
        // SAFETY: The kernel can make a folio of this order; a node that is named has memory.
        let first = unsafe { mapbuf_alloc_contig_folio(order, gfp, node.id()) };
        // INVARIANT: The kernel gave one folio of so many pages, with one reference, ours.
        let run = Self {
            first: PageRef(NonNull::new(first)?),
            count: 1 << order,
            origin: Origin::Folio,
        };
        run.cleared()
    }

    /// `count` zeroed pages of the CMA area that the machine was booted with, if it was.
    pub(crate) fn cma(count: usize) -> Option<Self> {
        // SAFETY: Any count may be asked for; the alignment is a power of two of pages.
        let first = unsafe { mapbuf_cma_alloc(count, 0) };
        // INVARIANT: The allocation is ours.
        let run = Self {
            first: PageRef(NonNull::new(first)?),
            count,
            origin: Origin::Cma,
        };
        run.cleared()
    }

    fn alloc(order: u32, gfp: bindings::gfp_t, node: NumaNode) -> Option<PageRef> {
        // SAFETY: The order is at most `MAX_PAGE_ORDER`, and a node that is named has memory.
        let page = unsafe { mapbuf_alloc_pages_node(node.id(), gfp | node.gfp(), order) };
        // INVARIANT: The page allocator gives pages with memory.
        NonNull::new(page).map(PageRef)
    }

    /// Fills all of it with zeros; `None` when the caller was killed meanwhile.
    fn cleared(self) -> Option<Self> {
        for page in self.pages() {
            page.clear();
            caller::breathe();
            if caller::dying() {
                return None;
            }
        }
        Some(self)
    }

    /// Gives back what lies behind the first `count` pages.
    fn truncate(self, count: usize) -> Self {
        let (first, whole, origin) = (self.first, self.count, self.origin);
        core::mem::forget(self);
        for index in count..whole {
            // SAFETY: The page is one of the run's, with a reference that nobody uses any more.
            unsafe { mapbuf_put_page(mapbuf_page_at(first.as_ptr(), index)) };
        }
        // INVARIANT: The first `count` pages are still ours.
        Self {
            first,
            count: count.min(whole),
            origin,
        }
    }

    /// How many pages.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Whether each page can be mapped, pinned and copied like a file's.
    pub(crate) fn paged(&self) -> bool {
        self.origin != Origin::Cma
    }

    /// Whether it is one folio of more than one page.
    pub(crate) fn compound(&self) -> bool {
        self.origin == Origin::Folio && self.count > 1
    }

    /// Page frame number of the first.
    pub(crate) fn pfn(&self) -> u64 {
        self.first.pfn()
    }

    /// The kernel's address of it all.
    pub(crate) fn address(&self) -> Option<NonNull<u8>> {
        NonNull::new(self.first.address())
    }

    /// The page with this index.
    pub(crate) fn page(&self, index: usize) -> Option<PageRef> {
        if index >= self.count {
            return None;
        }
        // SAFETY: The index lies within the run.
        let page = unsafe { mapbuf_page_at(self.first.as_ptr(), index) };
        // INVARIANT: It is one of ours.
        NonNull::new(page).map(PageRef)
    }

    /// All of them.
    pub(crate) fn pages(&self) -> impl Iterator<Item = PageRef> + '_ {
        (0..self.count).filter_map(|index| self.page(index))
    }

    /// Notes where a folio lies in its buffer, in pages: the fault path compares that with the size of
    /// the file (`finish_fault` of `mm/memory.c`).
    pub(crate) fn set_index(&self, index: usize) {
        if self.origin == Origin::Folio {
            // SAFETY: The folio is ours and in no page cache, so its index is free for us to use.
            unsafe { mapbuf_set_folio_index(self.first.as_ptr(), index) };
        }
    }

    /// Bytes of the page with this index, from `offset` in it, at most `length`.
    pub(crate) fn bytes(&self, index: usize, offset: usize, length: usize) -> Option<Bytes<'_>> {
        let page = self.page(index)?;
        let length = length.min(PAGE_SIZE.checked_sub(offset)?);
        // SAFETY: The page is mapped in the kernel as long as we own it, and offset + length stay in it.
        Some(unsafe { Bytes::new(page.address().add(offset), length) })
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        match self.origin {
            Origin::Folio => {
                // SAFETY: The reference on the folio is ours.
                unsafe { mapbuf_put_page(self.first.as_ptr()) };
                // A buffer of many folios drops them one after the other.
                caller::breathe();
            }
            Origin::Single => {
                for page in self.pages() {
                    // SAFETY: The reference on each page is ours.
                    unsafe { mapbuf_put_page(page.as_ptr()) };
                    caller::breathe();
                }
            }
            // SAFETY: The allocation is ours, from the area that still is the default one.
            Origin::Cma => unsafe { mapbuf_cma_release(self.first.as_ptr(), self.count) },
        }
    }
}

/// The kernel's own view of pages with a cache mode other than the usual one, until it is dropped. The
/// pages must be given back afterwards, not before.
///
/// # Invariants
///
/// The linear map has `pages` with a mode that [`Drop`] changes back.
pub(crate) struct Recached {
    pages: KVVec<PageRef>,
}

// SAFETY: Pages belong to no thread.
unsafe impl Send for Recached {}
// SAFETY: There is nothing to do with a shared reference.
unsafe impl Sync for Recached {}

impl Recached {
    /// Changes the view of these pages; `None` when the mode is the usual one.
    pub(crate) fn new(
        cache: Cache,
        count: usize,
        pages: impl Iterator<Item = PageRef>,
    ) -> Result<Option<Self>> {
        if cache == Cache::Cached {
            return Ok(None);
        }
        let flags = GFP_KERNEL_ACCOUNT | __GFP_NOWARN;
        let mut list = KVVec::with_capacity(count, flags)?;
        for page in pages {
            list.push(page, flags)?;
            caller::go_on()?;
        }
        // When this fails in the middle, the kernel has changed back what it had changed.
        Self::set(&mut list, cache)?;
        // INVARIANT: The mode was just changed.
        Ok(Some(Self { pages: list }))
    }

    fn set(pages: &mut KVVec<PageRef>, cache: Cache) -> Result {
        let count = i32::try_from(pages.len())?;
        // SAFETY: `PageRef` is transparent over a pointer to a page, so this is an array of `count` of
        // them; they are ours, and nobody has another view of them now.
        to_result(unsafe { mapbuf_set_cache(pages.as_mut_ptr().cast(), count, cache.number()) })
    }
}

impl Drop for Recached {
    fn drop(&mut self) {
        if Self::set(&mut self.pages, Cache::Cached).is_err() {
            // The page tables were split when the mode was changed, so there is nothing to allocate now.
            pr_err!("pages keep a wrong cache mode: please report this\n");
        }
    }
}

/// Whether the machine was booted with a CMA area.
pub(crate) fn cma_exists() -> bool {
    // SAFETY: Looks at a static.
    unsafe { mapbuf_cma_exists() }
}

/// Scattered pages under one virtual area of the kernel's, which `remap_vmalloc_range` can map.
///
/// # Invariants
///
/// `area` is a `vmap` of exactly `pages`, made with `VM_MAP | VM_USERMAP`; a reference on each page is ours.
pub(crate) struct Vmap {
    pages: KVVec<PageRef>,
    area: NonNull<u8>,
    recached: Option<Recached>,
}

// SAFETY: Pages and areas belong to no thread.
unsafe impl Send for Vmap {}
// SAFETY: Methods on a shared reference only read what never changes.
unsafe impl Sync for Vmap {}

/// Pages on their way into a [`Vmap`].
///
/// # Invariants
///
/// A reference on each page is ours.
struct Loose(KVVec<PageRef>);

impl Drop for Loose {
    fn drop(&mut self) {
        for page in &self.0 {
            // SAFETY: By the type's invariants.
            unsafe { mapbuf_put_page(page.as_ptr()) };
            caller::breathe();
        }
    }
}

/// Pages mapped one behind the other for the kernel.
///
/// # Invariants
///
/// `address` is what `vmap` gave.
pub(crate) struct KernelMap {
    address: NonNull<u8>,
    _counted: Counted,
}

// SAFETY: Mappings belong to no thread.
unsafe impl Send for KernelMap {}

impl KernelMap {
    /// Maps these pages, which must outlive the mapping.
    pub(crate) fn new(
        count: usize,
        cache: Cache,
        pages: impl Iterator<Item = PageRef>,
    ) -> Result<Self> {
        let flags = GFP_KERNEL | __GFP_NOWARN;
        let mut list = KVVec::with_capacity(count, flags)?;
        for page in pages {
            list.push(page, flags)?;
            caller::go_on()?;
        }
        let count = u32::try_from(list.len())?;
        // SAFETY: `PageRef` is transparent over a pointer to a page, so this is an array of `count`.
        let area = unsafe { mapbuf_vmap(list.as_mut_ptr().cast(), count, cache.number()) };
        // INVARIANT: `vmap` succeeded.
        Ok(Self {
            address: NonNull::new(area.cast()).ok_or(ENOMEM)?,
            _counted: Counted::new(Sort::KernelAddress),
        })
    }

    /// Where they are.
    pub(crate) fn address(&self) -> NonNull<u8> {
        self.address
    }
}

impl Drop for KernelMap {
    fn drop(&mut self) {
        // SAFETY: By the type's invariants.
        unsafe { mapbuf_vunmap(self.address.as_ptr().cast()) };
    }
}

/// Why a [`Vmap`] could not be had.
pub(crate) enum VmapError {
    /// No memory.
    NoMemory,
    /// The caller was killed when so many pages were there.
    Killed(usize),
    /// The cache mode could not be changed.
    Cache(Error),
}

impl Vmap {
    /// `count` zeroed pages of order 0 under one area.
    pub(crate) fn new(count: usize, node: NumaNode, cache: Cache) -> Result<Self, VmapError> {
        let flags = GFP_KERNEL_ACCOUNT | __GFP_NOWARN;
        let pages = KVVec::with_capacity(count, flags).map_err(|_| VmapError::NoMemory)?;
        // INVARIANT: There are none yet.
        let mut pages = Loose(pages);
        while pages.0.len() < count {
            let page = Run::alloc(0, gfp::ACCOUNTED, node).ok_or(VmapError::NoMemory)?;
            // INVARIANT: The new page's reference is ours. The capacity is there, so none is lost.
            if pages.0.push_within_capacity(page).is_err() {
                // SAFETY: The reference is ours, and nobody else knows the page.
                unsafe { mapbuf_put_page(page.as_ptr()) };
                return Err(VmapError::NoMemory);
            }
            caller::breathe();
            if caller::dying() {
                return Err(VmapError::Killed(pages.0.len()));
            }
        }
        let recached =
            Recached::new(cache, count, pages.0.iter().copied()).map_err(VmapError::Cache)?;
        let count = u32::try_from(count).map_err(|_| VmapError::NoMemory)?;
        // SAFETY: `PageRef` is transparent over a pointer to a page, so this is an array of `count` of them.
        let area = unsafe { mapbuf_vmap(pages.0.as_mut_ptr().cast(), count, cache.number()) };
        let area = NonNull::new(area.cast()).ok_or(VmapError::NoMemory)?;
        // INVARIANT: `vmap` succeeded; the references move over.
        let pages = core::mem::replace(&mut pages.0, KVVec::new());
        Ok(Self {
            pages,
            area,
            recached,
        })
    }

    /// How many pages.
    pub(crate) fn len(&self) -> usize {
        self.pages.len()
    }

    /// The page with this index.
    pub(crate) fn page(&self, index: usize) -> Option<PageRef> {
        self.pages.get(index).copied()
    }

    /// The kernel's address of it all.
    pub(crate) fn address(&self) -> NonNull<u8> {
        self.area
    }

    /// The area, for `remap_vmalloc_range`.
    pub(super) fn as_ptr(&self) -> *mut u8 {
        self.area.as_ptr()
    }

    /// Bytes of the page with this index through the area, from `offset` in it, at most `length`.
    pub(crate) fn bytes(&self, index: usize, offset: usize, length: usize) -> Option<Bytes<'_>> {
        self.page(index)?;
        let length = length.min(PAGE_SIZE.checked_sub(offset)?);
        // SAFETY: The page lies in the area, which is mapped as long as we live.
        Some(unsafe { Bytes::new(self.area.as_ptr().add(index * PAGE_SIZE + offset), length) })
    }
}

impl Drop for Vmap {
    fn drop(&mut self) {
        // SAFETY: The area is ours, and nothing uses it any more.
        unsafe { mapbuf_vunmap(self.area.as_ptr().cast()) };
        self.recached = None;
        // INVARIANT: The references on the pages are ours.
        drop(Loose(core::mem::replace(&mut self.pages, KVVec::new())));
    }
}
