// SPDX-License-Identifier: GPL-2.0

//! The place for the kernel's C functions that only this driver needs. Each file wraps one part of the kernel in types
//! that are safe to use; what cannot be wrapped is an `unsafe fn` with its contract. What any driver could use is in
//! [`crate::kmap`]; there is no other `unsafe`.

mod attach;
pub(crate) mod attached;
mod bar;
mod helpers;
mod mode;
mod node_vma;
mod pci_device;
mod platform_device;
mod revocable;
mod scatter;

pub(crate) mod bind;
pub(crate) mod caller;
pub(crate) mod chardev;
pub(crate) mod counts;
pub(crate) mod credentials;
pub(crate) mod dmabuf;
pub(crate) mod foreign;
pub(crate) mod hardware;
pub(crate) mod heap;
pub(crate) mod irq;
pub(crate) mod kernel_map;
pub(crate) mod lend;
pub(crate) mod node;
pub(crate) mod pci;
pub(crate) mod platform;
pub(crate) mod refused;
pub(crate) mod seam;
pub(crate) mod wire;

pub(crate) use crate::kmap::{
    alloc,
    area,
    bytes,
    debugfs,
    dma,
    fault,
    later,
    lease,
    numa,
    physical,
    place, //
};
use crate::kmap::{
    backing,
    cache,
    frames,
    long_vec,
    parked,
    recached,
    task,
    this_module,
    vma,
    vmap, //
};

pub(crate) use self::{
    attach::Importable,
    backing::{
        Backed,
        Backing,
        Watch, //
    },
    bar::{
        LentBar,
        NoWindow, //
    },
    frames::{
        Attributes,
        Frames,
        PageRef, //
    },
    long_vec::LongVec,
    node_vma::NodeVma,
    parked::Parked,
    recached::Recached,
    revocable::Revocable,
    vma::{
        Answer,
        Batch,
        FramesVma,
        NewVma,
        PagesVma,
        Wish, //
    }, //
};

#[cfg(CONFIG_KUNIT)]
pub(crate) use self::recached::failing;
