// SPDX-License-Identifier: GPL-2.0

//! The only place for `unsafe` and for the kernel's C functions. Each file wraps one part of the kernel in types
//! that are safe to use; what cannot be wrapped is an `unsafe fn` with its contract.

pub(crate) mod area;
mod attach;
mod backing;
mod frames;
mod helpers;
mod long_vec;
mod owner;
mod parked;
mod ptrace;
mod recached;
mod this_module;
mod vma;

pub(crate) mod alloc;
pub(crate) mod bytes;
pub(crate) mod caller;
pub(crate) mod chardev;
pub(crate) mod counts;
pub(crate) mod credentials;
pub(crate) mod debugfs;
pub(crate) mod dma;
pub(crate) mod dmabuf;
pub(crate) mod fault;
pub(crate) mod kernel_map;
pub(crate) mod later;
pub(crate) mod lease;
pub(crate) mod lend;
pub(crate) mod node;
pub(crate) mod numa;
pub(crate) mod pci;
pub(crate) mod pci_device;
pub(crate) mod physical;
pub(crate) mod refused;
pub(crate) mod seam;
pub(crate) mod wire;

pub(crate) use self::{
    attach::Importable,
    backing::{
        Backed,
        Backing,
        Watch, //
    },
    frames::{
        Attributes,
        Frames,
        PageRef, //
    },
    long_vec::LongVec,
    parked::Parked,
    recached::Recached,
    vma::{
        Answer,
        Batch,
        FramesVma,
        NewVma,
        NodeVma,
        PagesVma,
        Wish, //
    }, //
};

#[cfg(CONFIG_KUNIT)]
pub(crate) use self::recached::failing;
