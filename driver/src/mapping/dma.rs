// SPDX-License-Identifier: GPL-2.0

//! `dma_mmap_coherent`: the DMA API knows where its memory is, and with which protection it is mapped.

use crate::{
    memory::Memory,
    sys::vma::NewVma, //
};
use kernel::prelude::*;

pub(super) fn map(memory: &Memory, vma: &NewVma<'_>) -> Result {
    let Memory::Coherent(memory) = memory else {
        return Err(EINVAL);
    };
    vma.dma(memory.block())
}
