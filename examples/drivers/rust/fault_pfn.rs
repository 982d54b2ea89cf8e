// SPDX-License-Identifier: GPL-2.0

//! A fault handler that inserts frames: device memory that can be taken away while it is mapped.
//!
//! The BAR of a PCI device, here the shared memory of QEMU's ivshmem, as /dev/rust_fault_pfn-ADDRESS; read and write are the
//! kernel's view of the same bytes. When the device goes (unplugged, or unbound from the driver), every mapping is emptied:
//! the next touch is a SIGBUS, and what read and write get is ENODEV.

#[path = "../../../driver/kmap/mod.rs"]
pub mod kmap;

use kernel::{prelude::*, str::CStr, sync::Arc};
use kmap::{
    backing::{Backed, Backing},
    cache::Cache,
    fault::{Fault, Faults, Outcome},
    lease::Hold,
    misc::{Mode, Node, NodeVma, OpenFile},
    pci::{self, Bar, Device, Ids, Registration, Table},
    revocable::{Mappings, Revocable},
    vma::Answer,
};

module! {
    type: Module,
    name: "rust_fault_pfn",
    authors: ["the mapbuf authors"],
    description: "mmap by a fault handler that inserts frames, revoked when the device goes",
    license: "GPL",
}

const NAME: &CStr = c"rust_fault_pfn";

/// What an open has: the device's memory, until the device goes. It may be open longer than that.
struct Memory(Arc<Revocable<Bar>>);

impl OpenFile for Memory {
    type Node = Arc<Revocable<Bar>>;

    fn open(memory: &Self::Node, _: Mode) -> Result<Self> {
        Ok(Self(memory.clone()))
    }

    // One address space for all files: revoke empties the mappings in it, and no fault makes an entry elsewhere.
    fn mappings(&self) -> Option<&Mappings> {
        Some(self.0.mappings())
    }

    fn mmap(&self, vma: NodeVma<'_, Self>) -> Result {
        let vma = vma.of_file();
        vma.restrict(false)?;
        // Of frames the kernel makes private copies only by showing their numbers to everybody.
        vma.never_copied()?;
        // Nothing is mapped now: the mapping is not yet where revoke would find it.
        vma.answer_faults(Answer::Frame)
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

    // A fault holds the memory until its entry is made; once the device is gone it is a SIGBUS.
    fn hold(&self) -> Option<Hold<'_>> {
        self.0.hold()
    }
}

impl Faults for Memory {
    // The layer has the same handler for all sorts of mappings, if this function is left out.
    fn fault(fault: Fault<'_, Self>) -> Outcome {
        match fault {
            Fault::Frame(fault) => match usize::try_from(fault.page_offset()) {
                Ok(page) => fault.insert(page),
                Err(_) => Outcome::SIGBUS,
            },
            // Of mappings that were not set up so.
            _ => Outcome::SIGBUS,
        }
    }
}

pci::table! {
    static IDS: Ids<1> = Ids::new([(0x1af4, 0x1110)]);
}

/// What is kept of a device.
struct Bound {
    node: Node<Memory>,
    memory: Arc<Revocable<Bar>>,
}

impl pci::Driver for Bound {
    const NAME: &'static CStr = NAME;
    const IDS: Table = IDS.table();

    fn probe(device: &Device<'_>) -> Result<Self> {
        // Claimed, and the kernel's view: registers are never cached. Less than a page is refused: a program would see
        // what else is in that page. This is memory, which read and write access by bytes; registers have a width.
        let bar = device.bar(2, Cache::Uncached, 8)?;
        let memory = Arc::pin_init(Revocable::new(bar), GFP_KERNEL)?;
        let node = Node::new(device.node_name(NAME)?, 0o600, memory.clone())?;
        Ok(Self { node, memory })
    }

    fn remove(self) {
        // Nobody can open it any more ...
        drop(self.node);
        // ... and those who have it mapped lose it now. Without this the device would be waited for.
        self.memory.revoke();
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
