// SPDX-License-Identifier: GPL-2.0

//! Memory of a device that may go before whoever uses the memory. Then it is given back at once: mappings of it are taken
//! out, and nobody can reach it any more.

use super::{
    bar::{
        Bars,
        LentBar,
        NoWindow, //
    },
    dma::CoherentBlock,
    dmabuf::Inode,
    irq::{
        Interrupts,
        Vectors, //
    },
    lease::{
        Hold,
        Lease, //
    },
    pci_device::PciDevice, //
};
use core::mem::ManuallyDrop;
use crate::abi::wire::Cache;
use kernel::{
    prelude::*,
    sync::{
        Arc,
        Mutex,
        UniqueArc, //
    },
};

struct State {
    /// The device is not bound to us any more.
    gone: bool,
    lent: KVec<Arc<Lent>>,
    bars: Bars,
    vectors: Option<Vectors>,
}

/// A device that lends memory as long as it is bound to us.
///
/// # Invariants
///
/// Until `gone` is set the device is bound to us, and its pin is masked unless a vector is set. What is on the list `lent`,
/// and nothing else, has memory of it; what is in `bars` has its registers, and `vectors` its interrupts.
#[pin_data]
pub(crate) struct Lender {
    pci: PciDevice,
    #[pin]
    state: Mutex<State>,
}

impl Lender {
    /// # Safety
    ///
    /// The device is bound to us, or being bound, and [`Self::revoke`] is called before it is no more.
    pub(super) unsafe fn new(pci: PciDevice) -> Result<Arc<Self>> {
        let state = State {
            gone: false,
            lent: KVec::new(),
            bars: Bars::new(),
            vectors: None,
        };
        // INVARIANT: By the safety requirements; nothing is lent.
        let this = pin_init!(Self {
            pci,
            state <- kernel::new_mutex!(state, "mapbuf_lender"),
        });
        Arc::pin_init(this, GFP_KERNEL)
    }

    /// Calls `f` while the device is bound to us, and stays so until it returns; `None` where it is gone.
    pub(crate) fn while_bound<R>(&self, f: impl FnOnce(&PciDevice) -> R) -> Option<R> {
        let state = self.state.lock();
        let bound = !state.gone;
        bound.then(|| f(&self.pci))
    }

    pub(super) fn mask_pin(&self) {
        self.pci.mask_pin();
    }

    /// How many blocks it has lent.
    pub(crate) fn lent(&self) -> usize {
        self.state.lock().lent.len()
    }

    /// `pages` pages of coherent memory; nothing where there are none, and where the device is gone.
    pub(crate) fn lend(&self, pages: usize) -> Option<Arc<Lent>> {
        let flags = GFP_KERNEL_ACCOUNT | __GFP_NOWARN;
        let revocable = Revocable::new(flags)?;
        let room = UniqueArc::new_uninit(flags).ok()?;
        let mut state = self.state.lock();
        if state.gone {
            return None;
        }
        state.lent.reserve(1, flags).ok()?;
        // SAFETY: By the type's invariants the device is bound to us, and has the masks that it got then. The block is on
        // the list, from which it is given back before the device goes.
        let block = unsafe { CoherentBlock::of(self.pci.device(), None, pages) }?;
        // INVARIANT: The block is there, and nobody has the lease.
        let lent = Lent {
            block: ManuallyDrop::new(block),
            revocable,
        };
        let lent = Arc::from(room.write(lent));
        // There is room.
        let _ = state.lent.push_within_capacity(lent.clone());
        Some(lent)
    }

    /// What a base address register leads to. See [`Bars::show`].
    pub(crate) fn show_bar(
        &self,
        index: usize,
        cache: Cache,
        width: u32,
    ) -> Option<Result<Arc<LentBar>, NoWindow>> {
        let mut state = self.state.lock();
        if state.gone {
            return None;
        }
        // SAFETY: By the type's invariants the device is bound to us; `revoke` is called before it is no more.
        Some(unsafe { state.bars.show(&self.pci, index, cache, width) })
    }

    /// Ends that, when nobody uses it any more.
    pub(crate) fn end_bar(&self, lent: &Arc<LentBar>) {
        // Under the lock, so that the device is bound until this is done.
        self.state.lock().bars.end(lent);
    }

    /// Calls `f` with the device's interrupts while the device is bound to us; `None` where it is gone.
    pub(crate) fn interrupts<R>(&self, f: impl FnOnce(Interrupts<'_>) -> R) -> Option<R> {
        let mut state = self.state.lock();
        if state.gone {
            return None;
        }
        // SAFETY: By the type's invariants the device is bound to us, its pin is masked unless a vector is set, and `revoke`
        // drops what was taken before that changes.
        Some(f(unsafe { Interrupts::new(&self.pci, &mut state.vectors) }))
    }

    /// Takes a block back that nobody uses any more, if the device has not done so.
    pub(crate) fn take_back(&self, lent: &Arc<Lent>) {
        let mut state = self.state.lock();
        let at = state.lent.iter().position(|other| Arc::ptr_eq(other, lent));
        if let Some(lent) = at.and_then(|at| state.lent.remove(at).ok()) {
            // Under the lock, so that the device is bound until this is done.
            lent.revocable.end();
            // SAFETY: It was on the list, so this was not done yet; nobody holds the lease, and the owner of the dma-buf's
            // mappings, if there were any, is gone.
            unsafe { lent.give_back() };
        }
    }

    /// The device goes: takes all of its memory back, whoever uses it.
    pub(super) fn revoke(&self) {
        let mut state = self.state.lock();
        state.gone = true;
        // Before its memory is anybody else's.
        self.pci.set_master(false);
        // INVARIANT: What is taken from the list has no memory any more when this returns.
        let all = core::mem::take(&mut state.lent);
        let bars = core::mem::replace(&mut state.bars, Bars::new());
        let vectors = state.vectors.take();
        drop(state);
        if let Some(vectors) = vectors {
            vectors.wake_all();
        }
        bars.revoke();
        for lent in all {
            lent.revocable.revoke();
            // SAFETY: It was on the list, so this was not done yet. Nobody holds the lease, nobody will, and no mapping has
            // an entry for it.
            unsafe { lent.give_back() };
        }
    }
}

/// Coherent memory of a device.
///
/// # Invariants
///
/// The block is there until [`Self::give_back`]. What reaches its memory holds the lease.
pub(crate) struct Lent {
    block: ManuallyDrop<CoherentBlock>,
    revocable: Revocable,
}

impl Lent {
    /// Keeps the memory until the answer is dropped; `None` where the device is gone.
    pub(crate) fn hold(&self) -> Option<Hold<'_>> {
        self.revocable.hold()
    }

    /// What it was, or is: only who [holds](Self::hold) it may use an address or a frame of it.
    pub(crate) fn block(&self) -> &CoherentBlock {
        &self.block
    }

    /// What goes with the device.
    pub(crate) fn revocable(&self) -> &Revocable {
        &self.revocable
    }

    /// # Safety
    ///
    /// This is called once. Nobody holds the lease, or will, no page table leads to the memory, and the device is bound to
    /// us.
    unsafe fn give_back(&self) {
        // SAFETY: By the safety requirements. The fields of the block stay as they are, and only tell what it was.
        drop(unsafe { core::ptr::read(&*self.block) });
    }
}

/// Something of a device that goes when the device does, and the dma-buf that shows it.
pub(crate) struct Revocable {
    lease: Pin<KBox<Lease>>,
    /// Of the dma-buf that shows it, when there is one.
    inode: Pin<KBox<Mutex<Option<Inode>>>>,
}

impl Revocable {
    pub(super) fn new(flags: kernel::alloc::Flags) -> Option<Self> {
        let lease = KBox::pin_init(Lease::new(), flags).ok()?;
        let inode = KBox::pin_init(kernel::new_mutex!(None, "mapbuf_inode"), flags).ok()?;
        Some(Self { lease, inode })
    }

    /// Keeps it until the answer is dropped; `None` where it was revoked.
    pub(super) fn hold(&self) -> Option<Hold<'_>> {
        self.lease.hold()
    }

    /// Says which dma-buf shows it.
    pub(crate) fn shown_by(&self, inode: Inode) {
        *self.inode.lock() = Some(inode);
    }

    /// Nobody holds it any more when this returns, and nobody will.
    pub(super) fn end(&self) {
        self.lease.revoke();
    }

    /// The same, and no mapping has an entry for it any more.
    pub(super) fn revoke(&self) {
        self.end();
        // Entries were made by who held the lease, and are all there: see `lease.rs`.
        if let Some(inode) = &*self.inode.lock() {
            inode.unmap();
        }
    }
}
