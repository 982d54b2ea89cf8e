// SPDX-License-Identifier: GPL-2.0

//! Memory of a device that may go before whoever uses the memory. Then it is given back at once: mappings of it are taken
//! out, and nobody can reach it any more.

use super::{
    dma::CoherentBlock,
    dmabuf::Inode,
    lease::{
        Hold,
        Lease, //
    },
    pci_device::PciDevice, //
};
use core::mem::ManuallyDrop;
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
}

/// A device that lends memory as long as it is bound to us.
///
/// # Invariants
///
/// Until `gone` is set the device is bound to us. What is on the list `lent`, and nothing else, has memory of it.
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

    /// How many blocks it has lent.
    pub(crate) fn lent(&self) -> usize {
        self.state.lock().lent.len()
    }

    /// `pages` pages of coherent memory; nothing where there are none, and where the device is gone.
    pub(crate) fn lend(&self, pages: usize) -> Option<Arc<Lent>> {
        let flags = GFP_KERNEL_ACCOUNT | __GFP_NOWARN;
        let lease = KBox::pin_init(Lease::new(), flags).ok()?;
        let inode = KBox::pin_init(kernel::new_mutex!(None, "mapbuf_inode"), flags).ok()?;
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
            lease,
            inode,
        };
        let lent = Arc::from(room.write(lent));
        // There is room.
        let _ = state.lent.push_within_capacity(lent.clone());
        Some(lent)
    }

    /// Takes a block back that nobody uses any more, if the device has not done so.
    pub(crate) fn take_back(&self, lent: &Arc<Lent>) {
        let mut state = self.state.lock();
        let at = state.lent.iter().position(|other| Arc::ptr_eq(other, lent));
        if let Some(lent) = at.and_then(|at| state.lent.remove(at).ok()) {
            // Under the lock, so that the device is bound until this is done.
            lent.lease.revoke();
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
        drop(state);
        for lent in all {
            lent.lease.revoke();
            // Entries were made by who held the lease, and are all there: see `lease.rs`.
            if let Some(inode) = &*lent.inode.lock() {
                inode.unmap();
            }
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
    lease: Pin<KBox<Lease>>,
    /// Of the dma-buf that shows it, when there is one.
    inode: Pin<KBox<Mutex<Option<Inode>>>>,
}

impl Lent {
    /// Keeps the memory until the answer is dropped; `None` where the device is gone.
    pub(crate) fn hold(&self) -> Option<Hold<'_>> {
        self.lease.hold()
    }

    /// What it was, or is: only who [holds](Self::hold) it may use an address or a frame of it.
    pub(crate) fn block(&self) -> &CoherentBlock {
        &self.block
    }

    /// Says which dma-buf shows it.
    pub(crate) fn shown_by(&self, inode: Inode) {
        *self.inode.lock() = Some(inode);
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
