// SPDX-License-Identifier: GPL-2.0

//! `coherent`: DMA-coherent memory of the node's device.
//!
//! Its pages are the DMA API's, not ours: a block of them is not compound, its tail pages have no
//! reference count (and asking for a compound one warns, `dma_alloc_attrs` of `kernel/dma/mapping.c`).
//! So they are mapped by the DMA API, or by page frame number, never as pages.

use super::{
    huge_frames,
    run_of_frames,
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
        dma::{
            CoherentBlock,
            SystemDevice, //
        },
        numa,
        pages::{
            self as phys,
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

pub(crate) struct Coherent {
    block: CoherentBlock,
    /// Whether all of it is one run; behind an IOMMU it need not be.
    one_run: bool,
}

impl Coherent {
    pub(super) fn new(spec: &Spec, device: Arc<SystemDevice>) -> Result<Self, Refusal> {
        let most = (PAGE_SIZE as u64) << phys::MAX_ORDER;
        // It may be of a CMA area, which lies where it lies, also outside of the caller's cpuset.
        let block = CoherentBlock::new(device, spec.pages)
            .filter(|block| block.pfn(0).is_some_and(numa::frame_allowed))
            .ok_or_else(|| spec.out_of_memory(Some(Reason::NoCoherentMemory), 0, most))?;
        let one_run = run_of_frames(0, block.len(), |at| block.pfn(at)) == block.len();
        Ok(Self { block, one_run })
    }

    /// The memory, for `dma_mmap_coherent`.
    pub(crate) fn block(&self) -> &CoherentBlock {
        &self.block
    }
}

impl Backing for Coherent {
    fn len(&self) -> usize {
        self.block.len()
    }

    fn paged(&self) -> bool {
        false
    }

    fn page(&self, _index: usize) -> Option<PageRef> {
        None
    }

    fn pfn(&self, index: usize) -> Option<u64> {
        self.block.pfn(index)
    }

    fn run(&self, index: usize) -> usize {
        if self.one_run {
            self.len().saturating_sub(index)
        } else {
            run_of_frames(index, self.len(), |at| self.pfn(at))
        }
    }

    fn cache(&self) -> Cache {
        Cache::Cached
    }

    fn huge(&self, start: usize, end: usize) -> Huge {
        match self.pfn(0) {
            Some(pfn) if self.one_run => huge_frames(pfn, start, end),
            _ => Huge::No,
        }
    }

    fn dma_address(&self, index: usize) -> Option<u64> {
        (index < self.len()).then(|| self.block.dma_address(index))
    }

    fn address(&self) -> Option<NonNull<u8>> {
        Some(self.block.address())
    }

    fn bytes(&self, index: usize, offset: usize, length: usize) -> Option<Bytes<'_>> {
        self.block.bytes(index, offset, length)
    }
}
