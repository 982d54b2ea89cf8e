// SPDX-License-Identifier: GPL-2.0

//! `vmalloc`: scattered pages under one virtual area of the kernel's.
//!
//! `vmalloc_user` would give the same, but its pages are not charged to the memory cgroup, it takes no
//! NUMA node, and it warns when it fails (`__vmalloc_node_range_noprof` of `mm/vmalloc.c`).

use super::{
    run_of_frames,
    Backing,
    Spec, //
};
use crate::{
    abi::{reason::Refusal, wire::Cache},
    policy::plan::Huge,
    sys::{
        pages::{
            PageRef,
            Vmap,
            VmapError, //
        },
        user::Bytes, //
    },
};

use core::ptr::NonNull;

pub(crate) struct Vmalloc {
    area: Vmap,
    cache: Cache,
}

impl Vmalloc {
    pub(super) fn new(spec: &Spec) -> Result<Self, Refusal> {
        let cache = spec.cache;
        match Vmap::new(spec.pages, spec.node, cache) {
            Ok(area) => Ok(Self { area, cache }),
            Err(VmapError::NoMemory) => Err(spec.out_of_memory(None, 0, 0)),
            Err(VmapError::Killed(done)) => Err(spec.out_of_memory(None, done, 0)),
            Err(VmapError::Cache(error)) => Err(spec.cache_refused(error)),
        }
    }

    /// The area, for `remap_vmalloc_range`.
    pub(crate) fn area(&self) -> &Vmap {
        &self.area
    }
}

impl Backing for Vmalloc {
    fn len(&self) -> usize {
        self.area.len()
    }

    fn paged(&self) -> bool {
        true
    }

    fn page(&self, index: usize) -> Option<PageRef> {
        self.area.page(index)
    }

    fn pfn(&self, index: usize) -> Option<u64> {
        self.page(index).map(PageRef::pfn)
    }

    fn run(&self, index: usize) -> usize {
        run_of_frames(index, self.len(), |at| self.pfn(at))
    }

    fn cache(&self) -> Cache {
        self.cache
    }

    fn huge(&self, _start: usize, _end: usize) -> Huge {
        Huge::No
    }

    fn address(&self) -> Option<NonNull<u8>> {
        Some(self.area.address())
    }

    fn bytes(&self, index: usize, offset: usize, length: usize) -> Option<Bytes<'_>> {
        self.area.bytes(index, offset, length)
    }
}
