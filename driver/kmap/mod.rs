// SPDX-License-Identifier: GPL-2.0

//! Memory for user space: pages, frames and ranges with their owners, virtual memory areas that `mmap` sets up, and the
//! faults in them. Each file wraps one part of the kernel in types that are safe to use; what cannot be wrapped is an
//! `unsafe fn` with its contract.

#![allow(clippy::len_without_is_empty, reason = "memory has a page at least")]

pub mod alloc;
pub mod area;
pub mod backing;
pub mod bytes;
pub mod cache;
pub mod debugfs;
pub mod dma;
pub mod dma_buf;
pub mod fault;
pub mod frames;
pub(crate) mod helpers;
pub mod later;
pub mod lease;
pub mod long_vec;
pub mod misc;
pub mod numa;
pub mod owner;
pub mod parked;
pub mod pci;
pub mod physical;
pub mod place;
pub mod prepare;
pub mod ptrace;
pub mod recached;
pub mod revocable;
mod serve;
pub mod task;
pub mod this_module;
pub mod vma;
pub mod vmap;
pub mod words;
