// SPDX-License-Identifier: GPL-2.0

//! What memory is asked for, and the refusals when it cannot be had.

use crate::{
    abi::{
        reason::{
            Reason,
            Refusal, //
        },
        wire::{
            Cache,
            Kind, //
        },
    },
    policy::request::Placement,
    refusals,
    sys::{
        alloc::{
            self,
            NumaNode, //
        },
        caller, //
    },
};
use kernel::{
    error::code::ENOMEM,
    page::PAGE_SIZE, //
};

/// What memory is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Spec {
    pub(crate) kind: Kind,
    pub(crate) cache: Cache,
    pub(crate) pages: usize,
    pub(crate) node: NumaNode,
    /// Where it must lie.
    pub(crate) placement: Placement,
    /// The placement is that of the addresses which an IOMMU chooses for it later.
    pub(crate) for_device: bool,
    /// The last physical address that it may have.
    pub(crate) last: u64,
}

impl Spec {
    /// Its size in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        (self.pages as u64).saturating_mul(PAGE_SIZE as u64)
    }

    /// The refusal when the cache mode could not be changed.
    pub(super) fn cache_refused(&self, error: kernel::error::Error) -> Refusal {
        if caller::fatal_signal_pending() {
            return Reason::Interrupted.with(&[self.bytes(), 0]);
        }
        // If the kernel lacks memory for the change, that is EINVAL (`_set_pages_array` of `arch/x86/mm/pat/set_memory.c`).
        if error == ENOMEM {
            return self.out_of_memory(None, 0, self.bytes());
        }
        let errno = error.to_errno().unsigned_abs();
        Reason::CacheRefused.with(&[u64::from(self.cache.number()), u64::from(errno)])
    }

    /// The refusal when memory ran out after `done` pages. The caller may have been killed, or its memory cgroup
    /// may be full. Memory that is not charged to a cgroup has a `reason` of its own.
    pub(super) fn out_of_memory(&self, reason: Option<Reason>, done: usize, most: u64) -> Refusal {
        let done = (done * PAGE_SIZE) as u64;
        if caller::fatal_signal_pending() {
            return Reason::Interrupted.with(&[self.bytes(), done]);
        }
        let charged = match self.kind {
            Kind::Vmalloc | Kind::Pages => self.bytes().saturating_sub(done),
            Kind::Contiguous if self.pages <= 1 << alloc::MAX_ORDER => self.bytes(),
            _ => 0,
        };
        let refusal = refusals::no_memory(self.bytes(), charged);
        match reason {
            Some(reason) if refusal.reason == Reason::OutOfMemory => {
                reason.with(&[self.bytes(), most])
            }
            _ => refusal,
        }
    }
}
