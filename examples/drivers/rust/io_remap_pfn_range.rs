// SPDX-License-Identifier: GPL-2.0

//! io_remap_pfn_range: a physical range that was reserved at boot.
//!
//!     memmap=16M$0x30000000      (on the kernel's command line, \$ in GRUB's files)
//!     insmod rust_io_remap_pfn_range.ko start=0x30000000 bytes=0x100000
//!
//! The range is RAM here. A device's registers want another cache mode, and must not be written to see whether they are
//! there. /dev/rust_io_remap_pfn_range maps it; read and write are the kernel's view of the same bytes.

#[path = "../../../driver/kmap/mod.rs"]
pub mod kmap;

use core::borrow::Borrow;
use kernel::{page::PAGE_SIZE, prelude::*, sync::Arc};
use kmap::{
    backing::{Backed, Backing},
    cache::Cache,
    fault::Faults,
    misc::{Mode, Node, NodeVma, OpenFile},
    physical::{Claim, ClaimError, View},
};

module! {
    type: Module,
    name: "rust_io_remap_pfn_range",
    authors: ["the mapbuf authors"],
    description: "mmap by io_remap_pfn_range, of a range that was reserved at boot",
    license: "GPL",
    params: {
        start: u64 {
            default: 0,
            description: "Physical address of the range, a multiple of the page size",
        },
        bytes: u64 {
            default: 0,
            description: "Length of the range in bytes, a multiple of the page size",
        },
    },
}

/// The range, claimed, and the kernel's view of it. What an open has is the same for all.
struct Memory(Arc<View>);

impl OpenFile for Memory {
    type Node = Arc<View>;

    fn open(view: &Arc<View>, _: Mode) -> Result<Self> {
        Ok(Self(view.clone()))
    }

    fn mmap(&self, vma: NodeVma<'_, Self>) -> Result {
        let vma = vma.of_file();
        vma.restrict(false)?;
        // Of frames the kernel makes private copies only by showing their numbers to everybody.
        vma.never_copied()?;
        // With the cache mode of the kernel's view: two for the same bytes lose data, or are refused.
        vma.map_frames(|vma| vma.io_remap())
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

/// A parameter is a reference in 7.2, and a value from 7.3 on.
fn number(parameter: impl Borrow<u64>) -> u64 {
    *parameter.borrow()
}

struct Module {
    _node: Node<Memory>,
}

impl kernel::Module for Module {
    fn init(_: &'static ThisModule) -> Result<Self> {
        let start = number(module_parameters::start.value());
        let bytes = number(module_parameters::bytes.value());
        let whole = (start | bytes) % PAGE_SIZE as u64 == 0;
        if bytes == 0 || !whole || start.checked_add(bytes).is_none() {
            pr_err!(
                "start and bytes must name a range of whole pages, not {start:#x} and {bytes:#x}\n"
            );
            return Err(EINVAL);
        }
        // Nobody else's from now on. Memory that the kernel itself uses is refused: it was not reserved.
        let name = c"rust_io_remap_pfn_range";
        let claim = Claim::new(start, bytes, name.try_into()?).map_err(|error| {
            match error {
                ClaimError::IsRam => pr_err!("the kernel uses {bytes:#x} bytes at {start:#x}\n"),
                ClaimError::Taken => pr_err!("{bytes:#x} bytes at {start:#x}: see /proc/iomem\n"),
            }
            EBUSY
        })?;
        let view = View::new(claim, Cache::Cached, 64).ok_or(ENOMEM)?;
        // A range at which there is nothing maps without a word, and reads as ones, or as zeros.
        if (0..view.claim().pages()).any(|page| !view.keeps(page)) {
            pr_err!("nothing answers at {start:#x}\n");
            return Err(ENODEV);
        }
        // Whatever the firmware or the kernel before left there is not for user space.
        view.clear()?;
        let view = Arc::new(view, GFP_KERNEL)?;
        Ok(Self {
            _node: Node::new(name.try_into()?, 0o600, view)?,
        })
    }
}
