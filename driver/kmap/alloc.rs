// SPDX-License-Identifier: GPL-2.0

//! Physical pages that we own.
//!
//! There are two classes. A [`Run`] or [`Runs`] is *charged and pinnable*: ordinary pages, to which others may take
//! references. In the end they go to a [`Parked`], which keeps those that somebody still refers to. A [`CmaBlock`] is
//! *frames only*, as coherent memory and regions are: nobody can refer to its pages, so it is gone when it is dropped.

use super::{
    bytes::Bytes,
    frames::{
        Frames,
        PageRef, //
    },
    helpers::*,
    long_vec::LongVec,
    owner::{
        Owner,
        Pinnable, //
    },
    parked::Parked, //
    task,
};
use core::ptr::NonNull;
use kernel::{
    bindings,
    page::PAGE_SIZE,
    prelude::*, //
};

/// The order of a PMD entry; 0 if the kernel has no such entries for us.
pub fn pmd_order() -> u32 {
    // SAFETY: Returns a constant.
    unsafe { kmap_helper_pmd_order() }
}

/// The largest order of a folio.
fn max_folio_order() -> u32 {
    // SAFETY: Returns a constant.
    unsafe { kmap_helper_max_folio_order() }
}

/// Bytes that can be allocated without swapping, as the kernel estimates them.
pub fn available() -> u64 {
    // SAFETY: Reads counters.
    unsafe { kmap_helper_available_bytes() }
}

/// Whether the machine was booted with a CMA area.
pub fn cma_exists() -> bool {
    // SAFETY: Looks at a static.
    unsafe { kmap_helper_cma_exists() }
}

/// The largest order of the page allocator (`MAX_PAGE_ORDER`).
pub const MAX_ORDER: u32 = bindings::MAX_PAGE_ORDER;

/// Which memory the page allocator may give, by physical address.
#[derive(Clone, Copy, Eq, PartialEq)]
pub enum Zone {
    /// Any.
    Any,
    /// Below 4 GiB.
    Low,
    /// Below what the oldest devices reach: 16 MiB on x86.
    Lowest,
}

impl Zone {
    /// The zones to try for memory whose last address is at most `last`, one after the other. A zone may lie partly above.
    pub fn up_to(last: u64) -> &'static [Self] {
        // SAFETY: Reads a number that never grows after boot but by hotplug.
        if last >= unsafe { kmap_helper_last_ram() } {
            &[Self::Any]
        } else if last >= u64::from(u32::MAX) {
            &[Self::Low]
        } else {
            &[Self::Low, Self::Lowest]
        }
    }

    fn gfp(self) -> bindings::gfp_t {
        match self {
            Self::Any => 0,
            Self::Low => gfp::DMA32,
            Self::Lowest => gfp::DMA,
        }
    }
}

/// A NUMA node to allocate on, and a zone.
///
/// # Invariants
///
/// A node that is named has memory.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct NumaNode {
    node: Option<i32>,
    zone: Zone,
}

impl NumaNode {
    /// Any node: the one that the caller's memory policy says.
    pub const ANY: Self = Self {
        node: None,
        zone: Zone::Any,
    };

    /// The node with this number, if it has memory.
    pub fn new(node: i32) -> Option<Self> {
        // SAFETY: The function takes any number.
        // INVARIANT: It was just asked.
        unsafe { kmap_helper_node_has_memory(node) }.then_some(Self {
            node: Some(node),
            ..Self::ANY
        })
    }

    /// The same, in a zone.
    pub fn within(self, zone: Zone) -> Self {
        Self { zone, ..self }
    }

    /// Whether it is any node.
    pub fn is_any(self) -> bool {
        self.node.is_none()
    }

    pub(super) fn id(self) -> i32 {
        self.node.unwrap_or(bindings::NUMA_NO_NODE)
    }

    fn gfp(self) -> bindings::gfp_t {
        let node = match self.node {
            None => 0,
            Some(_) => gfp::THISNODE,
        };
        node | self.zone.gfp()
    }

    /// For memory that is made by moving other memory away.
    pub(super) fn movable(self) -> bindings::gfp_t {
        bindings::GFP_KERNEL | gfp::POLITE | self.gfp()
    }
}

/// Flags for which the bindings only have bit numbers.
mod gfp {
    use kernel::bindings;

    pub(super) const RETRY_MAYFAIL: bindings::gfp_t = 1 << bindings::___GFP_RETRY_MAYFAIL_BIT;
    pub(super) const NORETRY: bindings::gfp_t = 1 << bindings::___GFP_NORETRY_BIT;
    pub(super) const COMP: bindings::gfp_t = 1 << bindings::___GFP_COMP_BIT;
    pub(super) const THISNODE: bindings::gfp_t = 1 << bindings::___GFP_THISNODE_BIT;
    pub(super) const DMA: bindings::gfp_t = 1 << bindings::___GFP_DMA_BIT;
    pub(super) const DMA32: bindings::gfp_t = 1 << bindings::___GFP_DMA32_BIT;
    /// For memory whose size a user chose: no warning when it fails, and no OOM killer.
    pub(super) const POLITE: bindings::gfp_t = bindings::__GFP_NOWARN | RETRY_MAYFAIL;
    /// Memory that a user asks for comes from the nodes of its cpuset and from no other
    /// (`cpuset_current_node_allowed` of `kernel/cgroup/cpuset.c`).
    pub(super) const HARDWALL: bindings::gfp_t = 1 << bindings::___GFP_HARDWALL_BIT;
    /// The same, zeroed and charged to the memory cgroup.
    pub(super) const ACCOUNTED: bindings::gfp_t =
        bindings::GFP_KERNEL_ACCOUNT | bindings::__GFP_ZERO | HARDWALL | POLITE;
}

/// A physically contiguous run of pages that we own.
///
/// # Invariants
///
/// `count` pages from `first` are contiguous. They are folios of this order, and where no whole one is left, folios of one
/// page. One reference on each folio belongs to this value. They are mapped in the linear map.
pub struct Run {
    pub(super) first: NonNull<bindings::page>,
    pub(super) count: usize,
    pub(super) order: u32,
}

// SAFETY: Pages belong to no thread.
unsafe impl Send for Run {}
// SAFETY: Methods on a shared reference only read what never changes.
unsafe impl Sync for Run {}

impl Run {
    /// A folio of `1 << order` zeroed pages.
    ///
    /// Above order 0 the allocator makes little effort, unless `hard`.
    pub fn folio(order: u32, node: NumaNode, hard: bool) -> Option<Self> {
        if order > MAX_ORDER {
            return None;
        }
        let gfp = match order {
            0 => gfp::ACCOUNTED,
            _ if hard => gfp::ACCOUNTED | gfp::COMP,
            _ => gfp::ACCOUNTED & !gfp::RETRY_MAYFAIL | gfp::NORETRY | gfp::COMP,
        };
        // SAFETY: The order is at most `MAX_PAGE_ORDER`, and by its invariants a node that is named has memory.
        let page = unsafe { kmap_helper_alloc_pages_node(node.id(), gfp | node.gfp(), order) };
        // INVARIANT: There are 2^order contiguous pages; with `__GFP_COMP`, or as a single page, they are one folio,
        // whose reference is ours.
        Some(Self {
            first: NonNull::new(page)?,
            count: 1 << order,
            order,
        })
    }

    /// `count` zeroed pages, each with a reference count of its own; at most `1 << MAX_ORDER`.
    pub fn split(count: usize, node: NumaNode) -> Option<Self> {
        let order = count.checked_next_power_of_two()?.trailing_zeros();
        if order > MAX_ORDER {
            return None;
        }
        // SAFETY: The order is at most `MAX_PAGE_ORDER`, and by its invariants a node that is named has memory.
        let page =
            unsafe { kmap_helper_alloc_pages_node(node.id(), gfp::ACCOUNTED | node.gfp(), order) };
        let first = NonNull::new(page)?;
        // SAFETY: The page is the first of a block of this order, which is not compound and has one reference, ours.
        unsafe { bindings::split_page(first.as_ptr(), order) };
        let mut run = Self {
            // INVARIANT: After the split each page of the block has a reference, ours.
            first,
            count: 1 << order,
            order: 0,
        };
        run.shorten(count);
        Some(run)
    }

    /// Any number of zeroed pages, each with a reference count of its own, made by moving other memory away.
    /// The memory cgroup is not charged: the kernel has no way to (`__alloc_contig_verify_gfp_mask`).
    pub fn contig(count: usize, node: NumaNode) -> Option<Self> {
        Self::contig_singles(count, node, bindings::__GFP_ZERO)
    }

    /// The same, with these flags.
    pub(super) fn contig_singles(
        count: usize,
        node: NumaNode,
        flags: bindings::gfp_t,
    ) -> Option<Self> {
        let gfp = node.movable() | flags;
        // SAFETY: Any count may be asked for; by its invariants a node that is named has memory.
        let first = unsafe { kmap_helper_alloc_contig(count, gfp, node.id()) };
        // INVARIANT: The kernel gave `count` contiguous pages with a reference each, ours.
        Some(Self {
            first: NonNull::new(first)?,
            count,
            order: 0,
        })
    }

    /// The same as [`Self::contig`], as one folio where that is possible: its pages share one count, so mapping and
    /// unmapping them is cheap. `1 << order` pages, more than `1 << MAX_ORDER`.
    pub fn contig_folio(order: u32, node: NumaNode) -> Option<Self> {
        match order <= max_folio_order() {
            true => Self::contig_one(order, node, bindings::__GFP_ZERO),
            false => Self::contig(1usize.checked_shl(order)?, node),
        }
    }

    /// One folio of `1 << order` pages, with these flags, where the kernel can make one of this order.
    pub(super) fn contig_one(order: u32, node: NumaNode, flags: bindings::gfp_t) -> Option<Self> {
        if order > max_folio_order() {
            return None;
        }
        let gfp = node.movable() | flags;
        // SAFETY: The kernel can make a folio of this order; by its invariants a node that is named has memory.
        let first = unsafe { kmap_helper_alloc_contig_folio(order, gfp, node.id()) };
        // INVARIANT: The kernel gave one folio of so many pages, with one reference, ours.
        Some(Self {
            first: NonNull::new(first)?,
            count: 1 << order,
            order,
        })
    }

    /// Gives back what lies behind the first `pages` pages. No folio may lie across that.
    fn shorten(&mut self, pages: usize) {
        while self.count > pages {
            let last = match self.count == self.large() {
                true => 1 << self.order,
                false => 1,
            };
            // INVARIANT: The last folio, whose reference goes, is not of the run any more.
            self.count -= last;
            // SAFETY: By the type's invariants a reference on the folio that begins there was ours.
            unsafe { kmap_helper_put_page(kmap_helper_page_at(self.first.as_ptr(), self.count)) };
        }
    }

    /// Hands the first page over, with the reference on its folio.
    pub(crate) fn into_page(self) -> *mut bindings::page {
        core::mem::ManuallyDrop::new(self).first.as_ptr()
    }

    /// The kernel's address of it all.
    pub fn start(&self) -> NonNull<u8> {
        // SAFETY: By the type's invariants it is a page of ours; none of ours is highmem (64-bit only), so it has an
        // address, which is not null.
        unsafe { NonNull::new_unchecked(kmap_helper_page_address(self.first.as_ptr()).cast()) }
    }

    /// How many pages.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether it is one folio of more than one page.
    pub fn compound(&self) -> bool {
        self.order > 0 && self.count == 1 << self.order
    }

    /// The order of its folios, except for single pages at the end.
    pub fn order(&self) -> u32 {
        self.order
    }

    /// How many pages its folios of that order have.
    fn large(&self) -> usize {
        self.count >> self.order << self.order
    }

    /// The indices of the first pages of its folios.
    fn folios(&self) -> impl Iterator<Item = usize> + use<> {
        let (order, large) = (self.order, self.large());
        let folios = { 0..large >> order }.map(move |number| number << order);
        Iterator::chain(folios, large..self.count)
    }

    /// The frames from the page with this index on, at most `most`.
    pub fn frames(&self, index: usize, most: usize) -> Option<Frames<'_>> {
        let count = self.count.checked_sub(index).filter(|count| *count > 0)?;
        let count = count.min(most);
        // SAFETY: By the type's invariants these frames follow each other, and are ours as long as we live.
        Some(unsafe {
            Frames::new(
                kmap_helper_page_to_pfn(self.first.as_ptr()) as u64 + index as u64,
                count,
            )
        })
    }

    /// The page with this index.
    pub fn page(&self, index: usize) -> Option<PageRef<'_>> {
        if index >= self.count {
            return None;
        }
        // SAFETY: By the type's invariants it is one of the run's pages, which has our reference as long as we live.
        unsafe { PageRef::new(kmap_helper_page_at(self.first.as_ptr(), index)) }
    }

    /// Sets the folio's index, its page in the buffer: the fault path compares that with the size of
    /// the file (`finish_fault` of `mm/memory.c`).
    pub fn set_index(&mut self, index: usize) {
        for at in self.folios() {
            // SAFETY: The folio is ours and in no page cache, so its index is free for us to use.
            unsafe {
                let page = kmap_helper_page_at(self.first.as_ptr(), at);
                kmap_helper_set_folio_index(page, index + at);
            }
        }
    }

    /// Bytes of the page with this index, from `offset` in it, at most `length`.
    pub fn bytes(&self, index: usize, offset: usize, length: usize) -> Option<Bytes<'_>> {
        if index >= self.count {
            return None;
        }
        let length = length.min(PAGE_SIZE.checked_sub(offset)?);
        // SAFETY: By the type's invariants the page is mapped as long as we live; `offset + length` stays in it.
        Some(unsafe {
            Bytes::new(
                self.start().as_ptr().add(index * PAGE_SIZE + offset),
                length,
            )
        })
    }
}

// SAFETY: Pages and their number never change, and they are all that there is.
unsafe impl Pinnable for Run {
    fn len(&self) -> usize {
        self.count
    }

    fn page(&self, index: usize) -> Option<PageRef<'_>> {
        Self::page(self, index)
    }

    fn park(self, parked: &mut Parked) {
        let this = core::mem::ManuallyDrop::new(self);
        for index in this.folios() {
            // SAFETY: By the type's invariants the page begins a folio on which a reference is ours. It is handed over:
            // the value is not dropped.
            unsafe { parked.add(kmap_helper_page_at(this.first.as_ptr(), index)) };
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        for index in self.folios() {
            // SAFETY: By the type's invariants a reference on the folio that this page begins is ours.
            unsafe { kmap_helper_put_page(kmap_helper_page_at(self.first.as_ptr(), index)) };
            // A buffer may have many folios.
            task::cond_resched();
        }
    }
}

/// One run, and where it begins among others.
struct Piece {
    start: usize,
    run: Run,
}

/// Runs of pages, one behind the other.
///
/// # Invariants
///
/// The pieces lie without gaps from page 0 to page `len`.
pub struct Runs {
    pieces: LongVec<Piece>,
    len: usize,
}

impl Default for Runs {
    fn default() -> Self {
        Self::new()
    }
}

impl Runs {
    /// None.
    pub fn new() -> Self {
        // INVARIANT: Nothing lies between 0 and 0.
        Self {
            pieces: LongVec::new(),
            len: 0,
        }
    }

    /// Adds a run at the end.
    pub fn push(&mut self, mut run: Run) -> Result {
        let start = self.len;
        let pages = run.len();
        run.set_index(start);
        self.pieces
            .push(Piece { start, run }, GFP_KERNEL_ACCOUNT | __GFP_NOWARN)?;
        // INVARIANT: The new piece begins where the last one ended.
        self.len = start + pages;
        Ok(())
    }

    /// How many pages.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The number of the piece that holds a page.
    fn find(&self, index: usize) -> Option<usize> {
        if index >= self.len {
            return None;
        }
        self.pieces
            .partition_point(|piece| piece.start <= index)
            .checked_sub(1)
    }

    /// The piece that holds a page, and the page's place in it.
    fn locate(&self, index: usize) -> Option<(&Run, usize)> {
        let piece = self.pieces.get(self.find(index)?)?;
        Some((&piece.run, index.checked_sub(piece.start)?))
    }

    /// The page with this index.
    pub fn page(&self, index: usize) -> Option<PageRef<'_>> {
        let (run, at) = self.locate(index)?;
        run.page(at)
    }

    /// The frames from the page with this index on, at most `most`, also those of the next pieces if they follow.
    pub fn frames(&self, index: usize, most: usize) -> Option<Frames<'_>> {
        let number = self.find(index)?;
        let (run, at) = self.locate(index)?;
        let first = run.frames(at, most)?;
        let mut count = first.count();
        for piece in self.pieces.iter().skip(number + 1) {
            let next = piece.run.frames(0, most - count)?;
            if count == most || next.first() != first.first() + count as u64 {
                break;
            }
            count += next.count();
        }
        // SAFETY: They are those of runs of ours, by the invariants of `Frames`, and each begins where the last ended.
        Some(unsafe { Frames::new(first.first(), count) })
    }

    /// Where each run begins, and how many pages it has.
    pub fn pieces(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.pieces
            .iter()
            .map(|piece| (piece.start, piece.run.len()))
    }

    /// Bytes of the page with this index, from `offset` in it, at most `length`.
    pub fn bytes(&self, index: usize, offset: usize, length: usize) -> Option<Bytes<'_>> {
        let (run, at) = self.locate(index)?;
        run.bytes(at, offset, length)
    }
}

// SAFETY: Once it is shared nothing is pushed, so the pages stay; they are all that the runs own.
unsafe impl Pinnable for Runs {
    fn len(&self) -> usize {
        self.len
    }

    fn page(&self, index: usize) -> Option<PageRef<'_>> {
        Self::page(self, index)
    }

    fn park(mut self, parked: &mut Parked) {
        while let Some(piece) = self.pieces.pop() {
            piece.run.park(parked);
        }
    }
}

/// Contiguous memory from the CMA area that the machine was booted with. It must stay movable, so nobody may pin it.
///
/// # Invariants
///
/// `count` pages from `first` came from `cma_alloc`, and are ours.
pub struct CmaBlock {
    first: NonNull<bindings::page>,
    count: usize,
}

// SAFETY: Pages belong to no thread.
unsafe impl Send for CmaBlock {}
// SAFETY: Methods on a shared reference only read what never changes.
unsafe impl Sync for CmaBlock {}

impl CmaBlock {
    /// `count` zeroed pages; `None` where there is no such area, or when the caller was killed meanwhile.
    pub fn new(count: usize) -> Option<Self> {
        // SAFETY: Any count may be asked for; the alignment is a power of two of pages.
        let first = unsafe { kmap_helper_cma_alloc(count, 0) };
        // INVARIANT: The allocation is ours.
        let block = Self {
            first: NonNull::new(first)?,
            count,
        };
        // SAFETY: By the type's invariants so many pages are mapped there, and nobody has seen them yet.
        unsafe { clear(block.start(), count) }.then_some(block)
    }

    /// The kernel's address of it all.
    pub fn start(&self) -> NonNull<u8> {
        // SAFETY: By the type's invariants it is a page of ours; none of ours is highmem (64-bit only), so it has an
        // address, which is not null.
        unsafe { NonNull::new_unchecked(kmap_helper_page_address(self.first.as_ptr()).cast()) }
    }

    /// How many pages.
    pub fn len(&self) -> usize {
        self.count
    }

    /// The frames from the page with this index on, at most `most`.
    pub fn frames(&self, index: usize, most: usize) -> Option<Frames<'_>> {
        let count = self.count.checked_sub(index).filter(|count| *count > 0)?;
        let count = count.min(most);
        // SAFETY: By the type's invariants these frames follow each other, and are ours as long as we live.
        Some(unsafe {
            Frames::new(
                kmap_helper_page_to_pfn(self.first.as_ptr()) as u64 + index as u64,
                count,
            )
        })
    }

    /// Bytes of the page with this index, from `offset` in it, at most `length`.
    pub fn bytes(&self, index: usize, offset: usize, length: usize) -> Option<Bytes<'_>> {
        if index >= self.count {
            return None;
        }
        let length = length.min(PAGE_SIZE.checked_sub(offset)?);
        // SAFETY: By the type's invariants the page is mapped as long as we live; `offset + length` stays in it.
        Some(unsafe {
            Bytes::new(
                self.start().as_ptr().add(index * PAGE_SIZE + offset),
                length,
            )
        })
    }
}

// SAFETY: Pages and their number never change; the frames can be recached, since the linear map has them.
unsafe impl Owner for CmaBlock {
    fn len(&self) -> usize {
        self.count
    }

    fn page(&self, index: usize) -> Option<*mut bindings::page> {
        // SAFETY: The index lies within the block.
        (index < self.count).then(|| unsafe { kmap_helper_page_at(self.first.as_ptr(), index) })
    }
}

impl Drop for CmaBlock {
    fn drop(&mut self) {
        // SAFETY: By the type's invariants the allocation is ours, from the area that still is the default one.
        unsafe { kmap_helper_cma_release(self.first.as_ptr(), self.count) };
    }
}

/// Fills pages with zeros; `false` when the caller was killed meanwhile.
///
/// # Safety
///
/// `count` pages are mapped from `start` on, and nobody else looks at them.
unsafe fn clear(start: NonNull<u8>, count: usize) -> bool {
    for index in 0..count {
        // SAFETY: By the safety requirements the page may be written to.
        unsafe {
            start
                .as_ptr()
                .add(index * PAGE_SIZE)
                .write_bytes(0, PAGE_SIZE)
        };
        task::cond_resched();
        if task::fatal_signal_pending() {
            return false;
        }
    }
    true
}
