// SPDX-License-Identifier: GPL-2.0

//! `remap_vmalloc_range`.

use crate::{
    memory::Memory,
    sys::vma::NewVma, //
};
use kernel::prelude::*;

pub(super) fn map(memory: &Memory, vma: &NewVma<'_>) -> Result {
    let Memory::Vmalloc(memory) = memory else {
        return Err(EINVAL);
    };
    vma.vmalloc(memory.area())
}
