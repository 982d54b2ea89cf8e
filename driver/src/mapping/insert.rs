// SPDX-License-Identifier: GPL-2.0

//! Pages put in at `mmap`: `vm_insert_pages`, `vm_map_pages`. `madvise(MADV_DONTNEED)` takes them out
//! again, so faults put them back.

use crate::{
    memory::Backing,
    sys::{
        caller,
        pages::PageRef,
        vma::NewVma, //
    },
};
use kernel::prelude::*;

/// Pages that one call of `vm_insert_pages` is given.
const BATCH: usize = 512;

fn pages(memory: &dyn Backing, first: usize, count: usize) -> Result<KVVec<PageRef>> {
    let flags = GFP_KERNEL_ACCOUNT | __GFP_NOWARN;
    let mut pages = KVVec::with_capacity(count, flags)?;
    for index in first..first + count {
        pages.push(memory.page(index).ok_or(EINVAL)?, flags)?;
        caller::go_on()?;
    }
    Ok(pages)
}

/// `vm_insert_pages`, a batch at a time.
pub(super) fn insert(memory: &dyn Backing, vma: &NewVma<'_>) -> Result {
    let first = usize::try_from(vma.page_offset())?;
    let mut at = 0;
    while at < vma.pages() {
        let mut batch = pages(memory, first + at, BATCH.min(vma.pages() - at))?;
        vma.insert(at, &mut batch)?;
        at += batch.len();
    }
    Ok(())
}

/// `vm_map_pages`, which takes all pages of the buffer and begins at the VMA's page offset.
pub(super) fn map_pages(memory: &dyn Backing, vma: &NewVma<'_>) -> Result {
    let mut all = pages(memory, 0, memory.len())?;
    vma.map_pages(&mut all)
}
