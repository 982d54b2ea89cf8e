// SPDX-License-Identifier: GPL-2.0

//! Scattered pages at one address of the kernel's.

pub(crate) use super::vmap::{
    Vmap,
    VmapError, //
};

use super::{
    area::Area,
    backing::Backing,
    caller,
    counts::{
        Counted,
        Sort, //
    },
    long_vec::LongVec, //
};
use core::ptr::NonNull;
use kernel::prelude::*;

/// The pages of a buffer at one address, for an importer.
pub(crate) struct KernelMap {
    area: Area,
    _counted: Counted,
}

impl KernelMap {
    /// Maps all of them.
    ///
    /// A fatal signal must not make this fail: `dma_buf_vmap` warns about every error.
    ///
    /// # Safety
    ///
    /// The memory outlives the mapping.
    pub(super) unsafe fn new(memory: &dyn Backing) -> Result<Self> {
        let flags = GFP_KERNEL | __GFP_NOWARN;
        let mut pages = LongVec::with_capacity(memory.len(), flags)?;
        for index in 0..memory.len() {
            let page = memory.page(index).ok_or(EINVAL)?;
            pages.push(page.as_ptr(), flags)?;
            caller::cond_resched();
        }
        // SAFETY: By the safety requirements, and by what `Attributes` says of the linear map.
        let area = unsafe { Area::new(&pages, memory.attributes().cache())? };
        Ok(Self {
            area,
            _counted: Counted::new(Sort::KernelAddress),
        })
    }

    /// Where they are.
    pub(super) fn address(&self) -> NonNull<u8> {
        self.area.start()
    }
}
