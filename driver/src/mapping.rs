// SPDX-License-Identifier: GPL-2.0

//! Carrying out a plan: one file for each family of kernel functions that map.
//!
//! No rule is checked here a second time. When a kernel function fails in the middle, the error is returned
//! to the core, which unmaps what was mapped (`__mmap_new_file_vma` of `mm/vma.c`).

mod insert;
mod remap;

use crate::{
    policy::plan::{
        Plan,
        Way, //
    },
    sys::{
        fault::Faults,
        seam::{
            pause,
            Seam, //
        },
        Answer,
        NewVma, //
    },
};
use kernel::prelude::*;

/// Maps the part of the buffer that starts at the VMA's page offset.
pub(crate) fn carry_out<T: Faults>(vma: NewVma<'_, T>, plan: &Plan) -> Result {
    pause(Seam::Entered);
    vma.restrict(plan.seal)?;
    match plan.way {
        Way::Remap => vma.map_frames(remap::whole),
        Way::RemapEach => vma.map_frames(remap::each),
        Way::IoRemap => vma.map_frames(|vma| vma.io_remap()),
        Way::Iomap => vma.map_frames(|vma| vma.iomap()),
        Way::Dma => vma.map_frames(|vma| vma.dma()),
        Way::Insert => vma.insert_pages(insert::insert),
        Way::MapPages => vma.insert_pages(|vma| vma.map_pages()),
        Way::Vmalloc => vma.insert_pages(|vma| vma.remap_vmalloc()),
        Way::FaultPage => vma.answer_faults(Answer::Page),
        Way::FaultAround => vma.answer_faults(Answer::Around),
        Way::FaultPfn => vma.answer_faults(Answer::Frame),
        Way::FaultHugeFolio => vma.answer_faults(Answer::HugePage),
        Way::FaultHugePfn => vma.answer_faults(Answer::HugeFrame),
        Way::RemapAndHuge => vma.map_and_answer(remap::ends),
    }?;
    pause(Seam::Mapped);
    Ok(())
}
