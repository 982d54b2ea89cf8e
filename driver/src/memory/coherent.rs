// SPDX-License-Identifier: GPL-2.0

//! `coherent`: DMA-coherent memory of the node's device.
//!
//! Its pages are the DMA API's, not ours: a block of them is not compound, its tail pages have no
//! reference count (and asking for a compound one warns, `dma_alloc_attrs` of `kernel/dma/mapping.c`).
//! So they are mapped by the DMA API, or by page frame number, never as pages.

use super::{
    huge::huge_frames,
    spec::Spec, //
};
use crate::{
    abi::reason::{
        Reason,
        Refusal, //
    },
    policy::plan::Huge,
    sys::{
        alloc,
        bytes::Bytes,
        dma::{
            CoherentBlock,
            SystemDevice, //
        },
        lease::Hold,
        numa,
        Attributes,
        Backing,
        Frames,
        PageRef, //
    },
};
use core::ptr::NonNull;
use kernel::{
    page::PAGE_SIZE,
    sync::Arc, //
};

pub(crate) struct Coherent {
    block: CoherentBlock,
}

impl Coherent {
    pub(super) fn new(spec: &Spec, device: Arc<SystemDevice>) -> Result<Self, Refusal> {
        let most = (PAGE_SIZE as u64) << alloc::MAX_ORDER;
        // It may come from a CMA area, which may lie outside the caller's cpuset.
        let block = CoherentBlock::new(device, spec.pages)
            .filter(|block| block.frames(0, 1).is_some_and(numa::frames_allowed))
            .ok_or_else(|| spec.out_of_memory(Some(Reason::NoCoherentMemory), 0, most))?;
        Ok(Self { block })
    }

    pub(super) fn huge(&self, start: usize, end: usize) -> Huge {
        match self.block.one_run() {
            true => huge_frames(self.block.frames(0, 1), start, end),
            false => Huge::No,
        }
    }

    pub(super) fn dma_address(&self, index: usize) -> Option<u64> {
        (index < self.block.len()).then(|| self.block.dma_address(index))
    }
}

impl Backing for Coherent {
    fn len(&self) -> usize {
        self.block.len()
    }

    fn page(&self, _index: usize) -> Option<PageRef<'_>> {
        None
    }

    fn frames<'a>(&'a self, _hold: &'a Hold<'_>, index: usize, most: usize) -> Option<Frames<'a>> {
        self.block.frames(index, most)
    }

    fn attributes(&self) -> Attributes<'_> {
        self.block.attributes()
    }

    fn bytes<'a>(
        &'a self,
        _hold: &'a Hold<'_>,
        index: usize,
        offset: usize,
        length: usize,
    ) -> Option<Bytes<'a>> {
        self.block.bytes(index, offset, length)
    }

    fn address(&self) -> Option<NonNull<u8>> {
        Some(self.block.address())
    }

    fn coherent(&self) -> Option<&CoherentBlock> {
        Some(&self.block)
    }
}
