// SPDX-License-Identifier: GPL-2.0

//! The memory of a buffer: one file a kind, and what all kinds can be asked.

mod coherent;
mod contiguous;
mod pages;
pub(crate) mod region;
mod vmalloc;

pub(crate) use self::{
    coherent::Coherent,
    contiguous::Contiguous,
    pages::Pages,
    region::Region,
    vmalloc::Vmalloc, //
};

use crate::{
    abi::{
        reason::{
            Reason,
            Refusal, //
        },
        wire::{
            Cache,
            Kind,
            RegionType, //
        },
    },
    policy::plan::{
        Facts,
        Huge,
        Layout, //
    },
    refusals,
    sys::{
        caller,
        dma::SystemDevice,
        pages::{
            self as phys,
            NumaNode,
            PageRef, //
        },
        user::Bytes, //
    },
};
use core::ptr::NonNull;
use kernel::{
    page::PAGE_SIZE,
    sync::Arc, //
};

/// What memory is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Spec {
    pub(crate) kind: Kind,
    pub(crate) cache: Cache,
    pub(crate) pages: usize,
    pub(crate) node: NumaNode,
}

impl Spec {
    /// Its size in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        (self.pages as u64).saturating_mul(PAGE_SIZE as u64)
    }

    /// The refusal when the cache mode could not be changed.
    fn cache_refused(&self, error: kernel::error::Error) -> Refusal {
        if caller::dying() {
            return Reason::Interrupted.with(&[self.bytes(), 0]);
        }
        let errno = error.to_errno().unsigned_abs();
        Reason::CacheRefused.with(&[u64::from(self.cache.number()), u64::from(errno)])
    }

    /// The refusal when memory ran out after `done` pages: the caller may have been killed, or its memory cgroup
    /// may be full. Memory that is charged to none has a `reason` of its own.
    fn out_of_memory(&self, reason: Option<Reason>, done: usize, most: u64) -> Refusal {
        let done = (done * PAGE_SIZE) as u64;
        if caller::dying() {
            return Reason::Interrupted.with(&[self.bytes(), done]);
        }
        let charged = match self.kind {
            Kind::Vmalloc | Kind::Pages => self.bytes().saturating_sub(done),
            Kind::Contiguous if self.pages <= 1 << phys::MAX_ORDER => self.bytes(),
            _ => 0,
        };
        let refusal = refusals::no_memory(self.bytes(), charged);
        match reason {
            Some(reason) if refusal.reason == Reason::OutOfMemory => {
                reason.with(&[self.bytes(), most])
            }
            _ => refusal,
        }
    }
}

/// What every kind of memory can be asked. Indices count pages from the buffer's start; one that lies
/// beyond the end gets `None` or 0.
pub(crate) trait Backing {
    /// How many pages there are.
    fn len(&self) -> usize;

    /// Whether each page has a reference count of its own.
    fn paged(&self) -> bool;

    /// The page, if [`Self::paged`].
    fn page(&self, index: usize) -> Option<PageRef>;

    /// The page's frame number.
    fn pfn(&self, index: usize) -> Option<u64>;

    /// Pages from this one to the end of its physically contiguous run.
    fn run(&self, index: usize) -> usize;

    /// Its cache mode.
    fn cache(&self) -> Cache;

    /// What huge entry a mapping of these pages can have.
    fn huge(&self, start: usize, end: usize) -> Huge;

    /// The device's address of the page, if the memory has one at all times.
    fn dma_address(&self, _index: usize) -> Option<u64> {
        None
    }

    /// Bits in an access of the kernel's own view, where it must be by words.
    fn word(&self) -> Option<u32> {
        None
    }

    /// An address at which the kernel sees all of it at all times, if there is one.
    fn address(&self) -> Option<NonNull<u8>>;

    /// The kernel's own view: bytes of a page from `offset` in it, at most `length`.
    fn bytes(&self, index: usize, offset: usize, length: usize) -> Option<Bytes<'_>>;
}

/// The memory of one buffer.
pub(crate) enum Memory {
    Vmalloc(Vmalloc),
    Pages(Pages),
    Contiguous(Contiguous),
    Coherent(Coherent),
    Region(Region),
}

impl Memory {
    /// Gathers zeroed memory.
    pub(crate) fn new(spec: &Spec, device: &Arc<SystemDevice>) -> Result<Self, Refusal> {
        // What cannot be had is not gathered first: on the way there every cache would be dropped, and
        // everybody's memory swapped out.
        if spec.bytes() > phys::available() {
            return Err(Reason::OutOfMemory.with(&[spec.bytes()]));
        }
        Ok(match spec.kind {
            Kind::Vmalloc => Self::Vmalloc(Vmalloc::new(spec)?),
            Kind::Pages => Self::Pages(Pages::new(spec)?),
            Kind::Contiguous => Self::Contiguous(Contiguous::new(spec)?),
            Kind::Coherent => Self::Coherent(Coherent::new(spec, device.clone())?),
            Kind::Region => {
                return Err(Reason::KindNotHere.with(&[u64::from(spec.kind.number())]));
            }
        })
    }

    /// Its kind.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Vmalloc(_) => Kind::Vmalloc,
            Self::Pages(_) => Kind::Pages,
            Self::Contiguous(_) => Kind::Contiguous,
            Self::Coherent(_) => Kind::Coherent,
            Self::Region(_) => Kind::Region,
        }
    }

    /// Its cache mode.
    pub(crate) fn cache(&self) -> Cache {
        self.backing().cache()
    }

    /// What the address of a mapping that begins with this page is to be, in pages and modulo the size of a
    /// huge entry: an entry for frames must begin at a multiple of its size there and in physical memory, one
    /// for a folio there and in the buffer (`do_set_pmd` of `mm/memory.c`).
    pub(crate) fn lines_up_with(&self, page: u64) -> u64 {
        let frame = |index| match self {
            Self::Pages(_) | Self::Vmalloc(_) => None,
            _ => self.backing().pfn(index),
        };
        usize::try_from(page).ok().and_then(frame).unwrap_or(page)
    }

    /// What every kind can be asked.
    pub(crate) fn backing(&self) -> &dyn Backing {
        match self {
            Self::Vmalloc(memory) => memory,
            Self::Pages(memory) => memory,
            Self::Contiguous(memory) => memory,
            Self::Coherent(memory) => memory,
            Self::Region(memory) => memory,
        }
    }
}

impl Layout for Memory {
    fn facts(&self) -> Facts {
        let backing = self.backing();
        Facts {
            kind: self.kind(),
            cache: self.cache(),
            pages: backing.len() as u64,
            page_size: PAGE_SIZE as u64,
            huge_pages: 1 << phys::pmd_order(),
            paged: backing.paged(),
            ram: match self {
                Self::Region(region) => region.class() == RegionType::Ram,
                _ => true,
            },
            unbacked: match self {
                Self::Region(region) => region.unbacked(),
                _ => false,
            },
        }
    }

    fn run(&self, page: u64) -> u64 {
        usize::try_from(page).map_or(0, |page| self.backing().run(page) as u64)
    }

    fn huge(&self, page: u64, end: u64) -> Huge {
        match (usize::try_from(page), usize::try_from(end)) {
            (Ok(page), Ok(end)) => self.backing().huge(page, end),
            _ => Huge::No,
        }
    }

    fn faults_singly(&self) -> bool {
        match self {
            Self::Vmalloc(_) => true,
            Self::Contiguous(memory) => memory.faults_singly(),
            Self::Pages(_) | Self::Coherent(_) | Self::Region(_) => false,
        }
    }
}

/// Pages from `index` on whose frame numbers follow each other, among `len`.
fn run_of_frames(index: usize, len: usize, pfn: impl Fn(usize) -> Option<u64>) -> usize {
    let Some(first) = pfn(index) else {
        return 0;
    };
    (index + 1..len)
        .take_while(|at| pfn(*at) == first.checked_add((at - index) as u64))
        .count()
        + 1
}

/// Whether a run of frames from `pfn` on, which holds the pages `start` to `end` of a buffer, has an
/// aligned piece of the size of a PMD entry.
fn huge_frames(pfn: u64, start: usize, end: usize) -> Huge {
    let huge = 1u64 << phys::pmd_order();
    let first = pfn.saturating_add(start as u64).next_multiple_of(huge);
    let last = pfn.saturating_add(end as u64);
    if huge > 1 && first.saturating_add(huge) <= last {
        Huge::Pfn
    } else {
        Huge::No
    }
}
