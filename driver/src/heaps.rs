// SPDX-License-Identifier: GPL-2.0

//! Our kinds of memory as dma-heaps, if the module's parameter `dma_heaps` asks for them: for programs that know dma-heap
//! and not this driver. What they allocate is a buffer like any other, charged to the caller.

use crate::{
    abi::wire::{
        Cache,
        Kind, //
    },
    accounts::Payers,
    buffer::{
        Buffer,
        BufferRef,
        Freed, //
    },
    memory::{
        Device,
        Spec, //
    },
    policy::request::{
        self,
        Placement, //
    },
    sys::{
        alloc::NumaNode,
        caller::param,
        credentials::Opener,
        heap::{
            self,
            Serves, //
        }, //
    },
    Driver,
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    str::CStr,
    sync::Arc, //
};

/// The heaps: those kinds that a device of any driver can import.
const HEAPS: [(&CStr, Kind); 2] = [
    (c"mapbuf-pages", Kind::Pages),
    (c"mapbuf-contiguous", Kind::Contiguous),
];

/// One heap.
struct Heap {
    driver: Arc<Driver>,
    kind: Kind,
}

impl Serves for Heap {
    type Data = Buffer;

    fn allocate(&self, bytes: usize, flags: u32) -> Result<BufferRef> {
        let none = |_| EINVAL;
        let pages = request::buffer_pages(bytes as u64, PAGE_SIZE as u64).map_err(none)?;
        let payers = Opener::with_caller(|caller| Payers::of(&self.driver, caller))?;
        let freed = Arc::new(Freed::new(), GFP_KERNEL_ACCOUNT)?;
        let spec = Spec {
            kind: self.kind,
            cache: Cache::Cached,
            pages: usize::try_from(pages)?,
            node: NumaNode::ANY,
            placement: Placement::ANYWHERE,
            for_device: false,
            last: u64::MAX,
        };
        let device = Device::System(self.driver.device.clone());
        let buffer = Buffer::allocate_with(&payers, &freed, &spec, &device, flags);
        buffer.map_err(|refusal| Error::from_errno(-refusal.reason.errno()))
    }
}

/// Adds them when the module is loaded. They stay, and so does the module.
pub(crate) fn add(driver: &Arc<Driver>) {
    if !param::dma_heaps() {
        return;
    }
    for (name, kind) in HEAPS {
        let driver = driver.clone();
        if let Err(error) = heap::add(name, Heap { driver, kind }) {
            pr_warn!("no dma-heap for {}: {error:?}\n", kind.name());
        }
    }
}
