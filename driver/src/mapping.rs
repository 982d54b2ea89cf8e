// SPDX-License-Identifier: GPL-2.0

//! Carrying out a plan: one file for each family of kernel functions that map.
//!
//! No rule is looked at here a second time. When a kernel function fails in the middle, its error goes
//! to the core, which unmaps what was mapped (`__mmap_new_file_vma` of `mm/vma.c`).

mod dma;
pub(crate) mod fault;
mod insert;
mod remap;
mod vmalloc;

use crate::{
    buffer::Buffer,
    memory::Memory,
    policy::plan::{
        Plan,
        Way, //
    },
    seam::{
        pause,
        Seam, //
    },
    sys::vma::{
        Answer,
        NewVma, //
    },
};
use kernel::prelude::*;

/// Maps the part of the buffer that the VMA's page offset begins.
pub(crate) fn carry_out(memory: &Memory, vma: &NewVma<'_>, plan: &Plan) -> Result {
    vma.restrict(plan.seal)?;
    vma.set_cache(memory.cache());
    let backing = memory.backing();
    match plan.way {
        Way::Remap => remap::whole(backing, vma)?,
        Way::RemapEach => remap::each(backing, vma)?,
        Way::IoRemap => remap::io(backing, vma)?,
        Way::Iomap => remap::iomap(backing, vma)?,
        Way::Insert => insert::insert(backing, vma)?,
        Way::MapPages => insert::map_pages(backing, vma)?,
        Way::Vmalloc => vmalloc::map(memory, vma)?,
        Way::Dma => dma::map(memory, vma)?,
        Way::FaultPage
        | Way::FaultAround
        | Way::FaultPfn
        | Way::FaultHugeFolio
        | Way::FaultHugePfn => {}
    }
    pause(Seam::Mapped);
    vma.answer_faults::<Buffer>(match plan.way {
        Way::Remap | Way::RemapEach | Way::IoRemap | Way::Iomap | Way::Dma => Answer::Never,
        Way::Insert | Way::MapPages | Way::Vmalloc => Answer::Refill,
        Way::FaultPage => Answer::Page,
        Way::FaultAround => Answer::Around,
        Way::FaultPfn => Answer::Pfn,
        Way::FaultHugeFolio => Answer::HugeFolio,
        Way::FaultHugePfn => Answer::HugePfn,
    });
    Ok(())
}
