// SPDX-License-Identifier: GPL-2.0

//! The only place for `unsafe` and for the kernel's C functions. Each file wraps one part of the kernel
//! into types that can be used without care; what cannot be wrapped is an `unsafe fn` with its contract.

mod attach;
mod helpers;
mod this_module;

pub(crate) mod caller;
pub(crate) mod chardev;
pub(crate) mod credentials;
pub(crate) mod debugfs;
pub(crate) mod dma;
pub(crate) mod dmabuf;
pub(crate) mod node;
pub(crate) mod numa;
pub(crate) mod pages;
pub(crate) mod physical;
pub(crate) mod refused;
#[cfg(mapbuf_seams)]
pub(crate) mod seam;
pub(crate) mod user;
pub(crate) mod vma;
