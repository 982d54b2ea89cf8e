// SPDX-License-Identifier: GPL-2.0

//! Page frames put in at `mmap`: `remap_pfn_range`, `io_remap_pfn_range`, `vm_iomap_memory`.

use crate::{
    memory::Backing,
    sys::{
        caller,
        vma::NewVma, //
    },
};
use kernel::prelude::*;

/// The page of the buffer that the VMA begins with.
fn first(vma: &NewVma<'_>) -> Result<usize> {
    Ok(usize::try_from(vma.page_offset())?)
}

/// One `remap_pfn_range` over all of it.
pub(super) fn whole(memory: &dyn Backing, vma: &NewVma<'_>) -> Result {
    let pfn = memory.pfn(first(vma)?).ok_or(EINVAL)?;
    vma.remap(0, pfn, vma.pages())
}

/// One `remap_pfn_range` a page.
pub(super) fn each(memory: &dyn Backing, vma: &NewVma<'_>) -> Result {
    let first = first(vma)?;
    for at in 0..vma.pages() {
        let pfn = memory.pfn(first + at).ok_or(EINVAL)?;
        vma.remap(at, pfn, 1)?;
        caller::go_on()?;
    }
    Ok(())
}

/// One `io_remap_pfn_range` over all of it.
pub(super) fn io(memory: &dyn Backing, vma: &NewVma<'_>) -> Result {
    let pfn = memory.pfn(first(vma)?).ok_or(EINVAL)?;
    vma.io_remap(pfn)
}

/// `vm_iomap_memory`, which adds the VMA's page offset to the buffer's start itself.
pub(super) fn iomap(memory: &dyn Backing, vma: &NewVma<'_>) -> Result {
    let pfn = memory.pfn(0).ok_or(EINVAL)?;
    vma.iomap(pfn, memory.len())
}
