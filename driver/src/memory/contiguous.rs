// SPDX-License-Identifier: GPL-2.0

//! `contiguous`: one physically contiguous run.
//!
//! Where it comes from depends on its size. A power of two of pages up to a PMD entry is one folio; any
//! other size up to the page allocator's largest block is a block that was split, its rest given back.
//! Both are charged to the memory cgroup, so when that is full there is nothing to fall back on: the
//! other sources are not charged.
//!
//! What is larger is gathered by moving other memory away (`alloc_contig_pages`), and where that fails it
//! comes from the CMA area that the machine was booted with. CMA memory must stay movable, so it is
//! mapped by page frame number only: a pin would wait for it to move, for ever.

use super::{
    huge_frames,
    Backing,
    Spec, //
};
use crate::{
    abi::{
        reason::{
            Reason,
            Refusal, //
        },
        wire::Cache,
    },
    policy::plan::Huge,
    sys::{
        pages::{
            self as phys,
            PageRef,
            Recached,
            Run, //
        },
        user::Bytes, //
    },
};
use core::ptr::NonNull;
use kernel::page::PAGE_SIZE;

pub(crate) struct Contiguous {
    /// Goes before the memory.
    _recached: Option<Recached>,
    run: Run,
    cache: Cache,
}

impl Contiguous {
    pub(super) fn new(spec: &Spec) -> Result<Self, Refusal> {
        let pages = spec.pages;
        let order = pages.ilog2();
        let run = if pages.is_power_of_two() && order <= phys::MAX_ORDER {
            Run::folio(order, spec.node, true)
        } else if pages <= 1 << phys::MAX_ORDER {
            Run::split(pages, spec.node)
        } else {
            // A CMA area lies where it lies, whatever node was asked for.
            let cma = || spec.node.is_any().then(|| Run::cma(pages)).flatten();
            let contig = match pages.is_power_of_two() {
                true => Run::contig_folio(order, spec.node),
                false => Run::contig(pages, spec.node),
            };
            contig.or_else(cma)
        };
        let most = (PAGE_SIZE as u64) << phys::MAX_ORDER;
        let run =
            run.ok_or_else(|| spec.out_of_memory(Some(Reason::NoContiguousMemory), 0, most))?;
        run.set_index(0);
        let recached = Recached::new(spec.cache, pages, run.pages())
            .map_err(|error| spec.cache_refused(error))?;
        Ok(Self {
            _recached: recached,
            run,
            cache: spec.cache,
        })
    }

    /// Whether the kernel's fault path maps one page at a time: pages that are folios of their own, or a folio
    /// larger than a page table shows (`finish_fault` of `mm/memory.c`).
    pub(crate) fn faults_singly(&self) -> bool {
        let least = match self.run.compound() {
            true => 1 << phys::pmd_order(),
            false => 1,
        };
        self.run.paged() && self.run.len() > least
    }

    /// Whether it is one folio that gets a PMD entry.
    fn huge_folio(&self) -> bool {
        self.run.compound() && self.run.len() == 1 << phys::pmd_order()
    }
}

impl Backing for Contiguous {
    fn len(&self) -> usize {
        self.run.len()
    }

    fn paged(&self) -> bool {
        self.run.paged()
    }

    fn page(&self, index: usize) -> Option<PageRef> {
        self.run.page(index).filter(|_| self.paged())
    }

    fn pfn(&self, index: usize) -> Option<u64> {
        self.run.page(index).map(PageRef::pfn)
    }

    fn run(&self, index: usize) -> usize {
        self.len().saturating_sub(index)
    }

    fn cache(&self) -> Cache {
        self.cache
    }

    fn huge(&self, start: usize, end: usize) -> Huge {
        if self.huge_folio() && start == 0 && end == self.len() {
            Huge::Folio
        } else {
            huge_frames(self.run.pfn(), start, end)
        }
    }

    fn address(&self) -> Option<NonNull<u8>> {
        self.run.address()
    }

    fn bytes(&self, index: usize, offset: usize, length: usize) -> Option<Bytes<'_>> {
        self.run.bytes(index, offset, length)
    }
}
