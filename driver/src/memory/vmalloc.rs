// SPDX-License-Identifier: GPL-2.0

//! `vmalloc`: scattered pages under one virtual area of the kernel's.
//!
//! `vmalloc_user` would give the same, but its pages are not charged to the memory cgroup, it takes no
//! NUMA node, and it warns when it fails (`__vmalloc_node_range_noprof` of `mm/vmalloc.c`).

use super::spec::Spec;
use crate::{
    abi::reason::Refusal,
    sys::{
        area::Area,
        bytes::Bytes,
        kernel_map::{
            Vmap,
            VmapError, //
        },
        lease::Hold,
        Attributes,
        Backing,
        Frames,
        PageRef,
        Parked, //
    },
};
use core::ptr::NonNull;

pub(crate) struct Vmalloc {
    pages: Vmap,
}

impl Vmalloc {
    pub(super) fn new(spec: &Spec) -> Result<Self, Refusal> {
        match Vmap::new(spec.pages, spec.node, spec.cache.into()) {
            Ok(pages) => Ok(Self { pages }),
            Err(VmapError::NoMemory) => Err(spec.out_of_memory(None, 0, 0)),
            Err(VmapError::Killed(done)) => Err(spec.out_of_memory(None, done, 0)),
            Err(VmapError::Cache(error)) => Err(spec.cache_refused(error)),
        }
    }

    pub(super) fn park(self, parked: &mut Parked) {
        self.pages.park(parked);
    }
}

impl Backing for Vmalloc {
    fn len(&self) -> usize {
        self.pages.len()
    }

    fn page(&self, index: usize) -> Option<PageRef<'_>> {
        self.pages.page(index)
    }

    fn frames<'a>(&'a self, _hold: &'a Hold<'_>, index: usize, most: usize) -> Option<Frames<'a>> {
        self.pages.frames(index, most)
    }

    fn attributes(&self) -> Attributes<'_> {
        self.pages.attributes()
    }

    fn bytes<'a>(
        &'a self,
        _hold: &'a Hold<'_>,
        index: usize,
        offset: usize,
        length: usize,
    ) -> Option<Bytes<'a>> {
        self.pages.bytes(index, offset, length)
    }

    fn address(&self) -> Option<NonNull<u8>> {
        Some(self.pages.area().start())
    }

    fn area(&self) -> Option<&Area> {
        Some(self.pages.area())
    }
}
