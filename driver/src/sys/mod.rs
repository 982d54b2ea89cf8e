// SPDX-License-Identifier: GPL-2.0

//! The place for the kernel's C functions that only this driver needs. Each file wraps one part of the kernel in types
//! that are safe to use; what cannot be wrapped is an `unsafe fn` with its contract. What any driver could use is in
//! [`kmap`]; there is no other `unsafe`.

mod attach;
mod helpers;
#[path = "../../kmap/mod.rs"]
mod kmap;

pub(crate) mod caller;
pub(crate) mod chardev;
pub(crate) mod counts;
pub(crate) mod credentials;
pub(crate) mod dma;
pub(crate) mod dmabuf;
pub(crate) mod kernel_map;
pub(crate) mod lease;
pub(crate) mod lend;
pub(crate) mod node;
pub(crate) mod pci;
pub(crate) mod pci_device;
pub(crate) mod refused;
pub(crate) mod seam;
pub(crate) mod wire;

pub(crate) use self::kmap::{
    alloc,
    area,
    bytes,
    debugfs,
    fault,
    later,
    numa,
    physical, //
};
use self::kmap::{
    backing,
    frames,
    long_vec,
    owner,
    parked,
    recached,
    this_module,
    vma, //
};

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
