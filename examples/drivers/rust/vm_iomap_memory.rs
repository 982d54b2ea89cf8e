// SPDX-License-Identifier: GPL-2.0

//! vm_iomap_memory: the BAR of a PCI device, here the shared memory of QEMU's ivshmem.
//!
//! /dev/rust_vm_iomap_memory-ADDRESS maps it; read and write are the kernel's view of the same bytes. A device that must go
//! while programs have it mapped wants fault_pfn.rs: here its removal waits for them.

#[path = "../../../driver/kmap/mod.rs"]
pub mod kmap;

use kernel::{prelude::*, str::CStr, sync::Arc};
use kmap::{
    backing::{Backed, Backing},
    cache::Cache,
    fault::Faults,
    misc::{Mode, Node, NodeVma, OpenFile},
    pci::{self, Bar, Device, Ids, Registration, Table},
};

module! {
    type: Module,
    name: "rust_vm_iomap_memory",
    authors: ["the mapbuf authors"],
    description: "mmap by vm_iomap_memory, of a PCI device's memory",
    license: "GPL",
}

const NAME: &CStr = c"rust_vm_iomap_memory";

/// What an open has: the device's memory, which every mapping holds by its file.
struct Memory(Arc<Bar>);

impl OpenFile for Memory {
    type Node = Arc<Bar>;

    fn open(bar: &Arc<Bar>, _: Mode) -> Result<Self> {
        Ok(Self(bar.clone()))
    }

    fn mmap(&self, vma: NodeVma<'_, Self>) -> Result {
        let vma = vma.of_file();
        vma.restrict(false)?;
        // Of frames the kernel makes private copies only by showing their numbers to everybody.
        vma.never_copied()?;
        // With the cache mode of the kernel's view.
        vma.map_frames(|vma| vma.iomap())
    }

    fn memory_at(
        &self,
        at: u64,
        f: impl FnOnce(&dyn Backing, u64) -> Result<usize>,
    ) -> Result<usize> {
        f(&*self.0, at)
    }
}

impl Backed for Memory {
    fn backing(&self) -> &dyn Backing {
        &*self.0
    }
}

impl Faults for Memory {}

pci::table! {
    static IDS: Ids<1> = Ids::new([(0x1af4, 0x1110)]);
}

/// What is kept of a device. When it goes, so does its node, and then the device is waited for: it stays until the last of
/// its Bar is dropped, which open files have.
struct Bound {
    _node: Node<Memory>,
}

impl pci::Driver for Bound {
    const NAME: &'static CStr = NAME;
    const IDS: Table = IDS.table();

    fn probe(device: &Device<'_>) -> Result<Self> {
        // Claimed, and the kernel's view: registers are never cached. Less than a page is refused: a program would see
        // what else is in that page. This is memory, which read and write access by bytes; registers have a width.
        let bar = device.bar(2, Cache::Uncached, 8)?;
        let bar = Arc::new(bar, GFP_KERNEL)?;
        Ok(Self {
            _node: Node::new(device.node_name(NAME)?, 0o600, bar)?,
        })
    }
}

struct Module {
    _driver: Registration<Bound>,
}

impl kernel::Module for Module {
    fn init(_: &'static ThisModule) -> Result<Self> {
        Ok(Self {
            _driver: Registration::new()?,
        })
    }
}
