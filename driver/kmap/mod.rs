// SPDX-License-Identifier: GPL-2.0

//! Memory for user space: pages, frames and ranges with their owners, virtual memory areas that `mmap` sets up, and the
//! faults in them. Each file wraps one part of the kernel in types that are safe to use; what cannot be wrapped is an
//! `unsafe fn` with its contract.

use super::{
    caller,
    dma,
    helpers,
    lease, //
};

pub(crate) mod alloc;
pub(crate) mod area;
pub(crate) mod backing;
pub(crate) mod bytes;
pub(crate) mod debugfs;
pub(crate) mod fault;
pub(crate) mod frames;
pub(crate) mod later;
pub(crate) mod long_vec;
pub(crate) mod numa;
pub(crate) mod owner;
pub(crate) mod parked;
pub(crate) mod physical;
pub(crate) mod ptrace;
pub(crate) mod recached;
pub(crate) mod this_module;
pub(crate) mod vma;
