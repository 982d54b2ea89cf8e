// SPDX-License-Identifier: GPL-2.0

//! `contiguous`: one physically contiguous run.
//!
//! Where it comes from depends on its size. A power of two of pages, up to a PMD entry, is one folio. Any other
//! size up to the page allocator's largest block is a block that was split, with the rest given back. Both are
//! charged to the memory cgroup, so there is no fallback when that is full: the other sources are not charged.
//!
//! Larger runs are made by moving other memory away (`alloc_contig_pages`), as folios of the size of a PMD entry one behind
//! the other: a larger folio gets no such entry. No memory cgroup can be charged for those; the driver's own limits are, until
//! the last reference is gone. Where that fails, the run comes from the CMA area that
//! the machine was booted with. CMA memory must stay movable, so it is mapped by page frame number only: a pin would wait
//! for it to move, for ever.

use super::{
    huge::huge_frames,
    spec::Spec, //
};
use crate::{
    abi::reason::{
        Reason,
        Refusal, //
    },
    policy::plan::{
        in_huge_folios,
        Huge, //
    },
    sys::{
        alloc::{
            self,
            CmaBlock,
            NumaNode,
            Run, //
        },
        bytes::Bytes,
        caller,
        lease::{
            Hold,
            OWNED, //
        },
        place,
        Attributes,
        Backing,
        Frames,
        PageRef,
        Parked,
        Recached, //
    },
};
use core::ptr::NonNull;
use kernel::page::PAGE_SIZE;

pub(crate) enum Contiguous {
    /// Charged and pinnable.
    Run(Recached<Run>),
    /// Frames only.
    Cma(Recached<CmaBlock>),
}

impl Contiguous {
    pub(super) fn new(spec: &Spec) -> Result<Self, Refusal> {
        let pages = spec.pages;
        let order = pages.checked_ilog2().unwrap_or(0);
        let run = if pages.is_power_of_two() && order <= alloc::MAX_ORDER {
            Run::folio(order, spec.node, true)
        } else if pages <= 1 << alloc::MAX_ORDER {
            Run::split(pages, spec.node)
        } else {
            contig(pages, spec.node)
        };
        let refused = |error| spec.cache_refused(error);
        if let Some(mut run) = run {
            run.set_index(0);
            let run = Recached::new(run, spec.cache).map_err(refused)?;
            return Ok(Self::Run(run));
        }
        // The CMA area has a fixed place, which may not be on the node that was asked for.
        let cma = || (pages > 1 << alloc::MAX_ORDER && spec.node.is_any()).then_some(());
        if let Some(block) = cma().and_then(|()| CmaBlock::new(pages)) {
            let block = Recached::new(block, spec.cache).map_err(refused)?;
            return Ok(Self::Cma(block));
        }
        let most = (PAGE_SIZE as u64) << alloc::MAX_ORDER;
        Err(spec.out_of_memory(Some(Reason::NoContiguousMemory), 0, most))
    }

    pub(super) fn park(self, parked: &mut Parked) {
        match self {
            Self::Run(run) => run.park(parked),
            Self::Cma(block) => drop(block),
        }
    }

    /// Whether the kernel's fault path maps one page at a time: pages that are folios of their own, or a folio
    /// larger than a page table shows (`finish_fault` of `mm/memory.c`). Never where a folio gets a huge entry.
    pub(crate) fn faults_singly(&self) -> bool {
        match self {
            Self::Run(run) if run.order() > 0 => run.order() > alloc::pmd_order(),
            Self::Run(run) => run.len() > 1,
            Self::Cma(_) => false,
        }
    }

    pub(super) fn huge(&self, start: usize, end: usize) -> Huge {
        let size = 1 << alloc::pmd_order();
        match self {
            // Folios that get a PMD entry each.
            Self::Run(run) if size > 1 && run.order() == alloc::pmd_order() => {
                let last = end.min(run.len());
                match start.next_multiple_of(size).saturating_add(size) <= last {
                    true => Huge::Folio,
                    false => Huge::No,
                }
            }
            _ => huge_frames(self.frames(&OWNED, 0, 1), start, end),
        }
    }
}

/// More pages than the page allocator has in one block.
fn contig(pages: usize, node: NumaNode) -> Option<Run> {
    if in_huge_folios(pages as u64, 1 << alloc::pmd_order()) {
        if let Some(run) = place::huge_run(pages, node) {
            return Some(run);
        }
        if caller::fatal_signal_pending() {
            return None;
        }
    }
    match pages.is_power_of_two() {
        true => Run::contig_folio(pages.trailing_zeros(), node),
        false => Run::contig(pages, node),
    }
}

impl Backing for Contiguous {
    fn len(&self) -> usize {
        match self {
            Self::Run(run) => run.len(),
            Self::Cma(block) => block.len(),
        }
    }

    fn page(&self, index: usize) -> Option<PageRef<'_>> {
        match self {
            Self::Run(run) => run.page(index),
            Self::Cma(_) => None,
        }
    }

    fn frames<'a>(&'a self, hold: &'a Hold<'_>, index: usize, most: usize) -> Option<Frames<'a>> {
        match self {
            Self::Run(run) => run.frames(hold, index, most),
            Self::Cma(block) => block.frames(index, most),
        }
    }

    fn attributes(&self) -> Attributes<'_> {
        match self {
            Self::Run(run) => run.attributes(),
            Self::Cma(block) => block.attributes(),
        }
    }

    fn bytes<'a>(
        &'a self,
        hold: &'a Hold<'_>,
        index: usize,
        offset: usize,
        length: usize,
    ) -> Option<Bytes<'a>> {
        match self {
            Self::Run(run) => run.bytes(hold, index, offset, length),
            Self::Cma(block) => block.bytes(index, offset, length),
        }
    }

    fn address(&self) -> Option<NonNull<u8>> {
        Some(match self {
            Self::Run(run) => run.start(),
            Self::Cma(block) => block.start(),
        })
    }
}
