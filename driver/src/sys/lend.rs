// SPDX-License-Identifier: GPL-2.0

//! Memory of a device that may go before whoever uses the memory. Then it is given back at once: mappings of it are taken
//! out, and nobody can reach it any more.

use super::{
    attached::{
        Attached,
        NotMapped, //
    },
    bar::{
        Bars,
        LentBar,
        NoWindow, //
    },
    dma::CoherentBlock,
    dmabuf::{
        DmaBuf,
        Exporter, //
    },
    foreign::Foreign,
    frames::Attributes,
    hardware::Hardware,
    irq::{
        Interrupts,
        Vectors, //
    },
    lease::{
        Hold,
        Lease, //
    },
    revocable::Revocable,
    scatter::Scatter, //
};
use crate::abi::wire::{
    Cache,
    Direction, //
};
use core::mem::ManuallyDrop;
use kernel::{
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    },
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
    /// By its place in memory.
    attached: RBTree<usize, Arc<Attached>>,
}

/// Why the bits of a device's DMA addresses were not set.
pub(crate) enum MaskNotSet {
    /// It has, or is being given, so many blocks of addresses.
    InUse(u64),
    /// The DMA API has refused them.
    Refused(Error),
}

/// A device that lends memory as long as it is bound to us.
///
/// # Invariants
///
/// Until `gone` is set the device is bound to us, and its pin is masked unless a vector is set. What is on the list `lent`,
/// and nothing else, has memory of it; what is on the list `attached`, and nothing else, is mapped for it; what is in `bars`
/// has its registers, and `vectors` its interrupts. The device stays bound to us while `busy` is held.
#[pin_data]
pub(crate) struct Lender {
    hardware: Hardware,
    #[pin]
    state: Mutex<State>,
    /// Held while another driver maps or unmaps its memory for the device: not under the lock, since that one may wait.
    #[pin]
    busy: Lease,
}

impl Lender {
    /// # Safety
    ///
    /// The device is bound to us, or being bound, and [`Self::revoke`] is called before it is no more.
    pub(super) unsafe fn new(hardware: Hardware) -> Result<Arc<Self>> {
        let state = State {
            gone: false,
            lent: KVec::new(),
            bars: Bars::new(),
            vectors: None,
            attached: RBTree::new(),
        };
        // INVARIANT: By the safety requirements; nothing is lent or attached.
        let this = pin_init!(Self {
            hardware,
            state <- kernel::new_mutex!(state, "mapbuf_lender"),
            busy <- Lease::new(),
        });
        Arc::pin_init(this, GFP_KERNEL)
    }

    /// Calls `f` while the device is bound to us, and stays so until it returns; `None` where it is gone.
    pub(crate) fn while_bound<R>(&self, f: impl FnOnce(&Hardware) -> R) -> Option<R> {
        let state = self.state.lock();
        let bound = !state.gone;
        bound.then(|| f(&self.hardware))
    }

    /// Sets the bits of the device's DMA addresses, which are at least 1 and at most 64; `None` where it is gone.
    ///
    /// # Errors
    ///
    /// [`MaskNotSet::InUse`] while it has addresses, or another driver is giving it some.
    pub(crate) fn set_dma_mask(&self, bits: u32) -> Option<Result<(), MaskNotSet>> {
        // Under the lock nobody gets addresses. Whoever gets them from another driver has taken `busy` and then the lock.
        let state = self.state.lock();
        if state.gone {
            return None;
        }
        let lent = state.lent.len() + state.attached.iter().count();
        let used = (lent as u64).saturating_add(self.busy.holds());
        Some(match used {
            0 => self
                .hardware
                .set_dma_mask(bits)
                .map_err(MaskNotSet::Refused),
            _ => Err(MaskNotSet::InUse(used)),
        })
    }

    /// Maps a buffer for it, where an IOMMU chooses the addresses at ones of at most `bits` bits; `None` where the device is
    /// gone.
    pub(crate) fn attach<T: Exporter>(
        &self,
        buffer: &DmaBuf<T>,
        direction: Direction,
        bits: Option<u32>,
    ) -> Option<Result<Arc<Attached>, NotMapped>> {
        let flags = GFP_KERNEL_ACCOUNT | __GFP_NOWARN;
        let room = RBTreeNodeReservation::new(flags)
            .and_then(|place| Ok((place, UniqueArc::new_uninit(flags)?)));
        let Ok((place, room)) = room else {
            return Some(Err(NotMapped::Failed(ENOMEM)));
        };
        if !buffer.has_pages() {
            return Some(Err(NotMapped::Failed(EINVAL)));
        }
        let device = self.hardware.as_ptr();
        // Not under the lock, which an unbind takes: the caller's memory cgroup may be full.
        let owned = || Some(Hold::of_its_owner());
        // SAFETY: The reference on the device is ours. That the frames have pages was just asked.
        let table = match unsafe { Scatter::of(buffer.backing(), owned, device) } {
            Ok(table) => table,
            Err(error) => return Some(Err(error.into())),
        };
        let mut state = self.state.lock();
        if state.gone {
            return None;
        }
        let map = || {
            // SAFETY: By the type's invariants the device is bound to us; the answer goes on the list, from which it is given
            // back before the device goes. The table was made of the buffer's memory.
            unsafe { Attached::new(buffer, table, device, direction) }
        };
        let attached = match self.hardware.with_bits(bits, map) {
            Ok(Ok(attached)) => Arc::from(room.write(attached)),
            Ok(Err(error)) => return Some(Err(error)),
            Err(error) => return Some(Err(error.into())),
        };
        // INVARIANT: It is mapped.
        let key = Arc::as_ptr(&attached).addr();
        state
            .attached
            .insert(place.into_node(key, attached.clone()));
        Some(Ok(attached))
    }

    /// Has another driver map its dma-buf for the device; `None` where the device is gone.
    pub(crate) fn import(
        &self,
        foreign: &Foreign,
        direction: Direction,
    ) -> Option<Result<Arc<Attached>, NotMapped>> {
        let _busy = self.busy.hold()?;
        // Whoever changes the DMA mask has done so, or finds it busy.
        if self.state.lock().gone {
            return None;
        }
        let flags = GFP_KERNEL_ACCOUNT | __GFP_NOWARN;
        let room = RBTreeNodeReservation::new(flags)
            .and_then(|place| Ok((place, UniqueArc::new_uninit(flags)?)));
        let Ok((place, room)) = room else {
            return Some(Err(NotMapped::Failed(ENOMEM)));
        };
        let device = self.hardware.as_ptr();
        // SAFETY: While `busy` is held the device is bound to us. The answer goes on the list, from which it is given back
        // before the device goes, or is given back here.
        let attached = match unsafe { Attached::imported(foreign, device, direction) } {
            Ok(attached) => Arc::from(room.write(attached)),
            Err(error) => return Some(Err(error)),
        };
        let mut state = self.state.lock();
        if state.gone {
            drop(state);
            // SAFETY: It was just mapped, nobody else has it, and while `busy` is held the device is bound to us.
            unsafe { attached.give_back() };
            return None;
        }
        // INVARIANT: It is mapped.
        let key = Arc::as_ptr(&attached).addr();
        state
            .attached
            .insert(place.into_node(key, attached.clone()));
        Some(Ok(attached))
    }

    /// Takes the addresses of a buffer away, if the device has not done so.
    pub(crate) fn detach(&self, attached: &Arc<Attached>) {
        // Where nobody can hold it any more, the device does it.
        let Some(_busy) = self.busy.hold() else {
            return;
        };
        let key = Arc::as_ptr(attached).addr();
        let taken = self.state.lock().attached.remove(&key);
        if let Some(attached) = taken {
            // SAFETY: It was on the list, so this was not done yet, and while `busy` is held the device stays bound.
            unsafe { attached.give_back() };
        }
    }

    /// Gives bytes of a buffer to the CPU, or to the device: `length` from `offset` on, which lie in the buffer, in a
    /// direction that is that of the mapping or a part of it. Whether the device has addresses for it.
    pub(crate) fn sync(
        &self,
        attached: &Arc<Attached>,
        (offset, length): (u64, u64),
        direction: Direction,
        for_cpu: bool,
    ) -> bool {
        let state = self.state.lock();
        let key = Arc::as_ptr(attached).addr();
        let there = state.attached.get(&key).is_some();
        if there && attached.covers(offset, length, direction) {
            // SAFETY: It is on the list, which does not change under the lock; the rest was just asked.
            unsafe { attached.sync(offset, length, direction, for_cpu) };
        }
        there
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
        let block = unsafe { CoherentBlock::of(self.hardware.as_ptr(), None, pages) }?;
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
        let Some(pci) = self.hardware.pci() else {
            return Some(Err(NoWindow::None));
        };
        // SAFETY: By the type's invariants the device is bound to us; `revoke` is called before it is no more.
        Some(unsafe { state.bars.show(pci, index, cache, width) })
    }

    /// Ends that, when nobody uses it any more.
    pub(crate) fn end_bar(&self, lent: &Arc<LentBar>) {
        // Under the lock, so that the device is bound until this is done.
        self.state.lock().bars.end(lent);
    }

    /// Calls `f` with the device's interrupts while the device is bound to us; `None` where it is gone, and for one whose
    /// interrupts are not a PCI device's.
    pub(crate) fn interrupts<R>(&self, f: impl FnOnce(Interrupts<'_>) -> R) -> Option<R> {
        let mut state = self.state.lock();
        if state.gone {
            return None;
        }
        // SAFETY: By the type's invariants the device is bound to us, its pin is masked unless a vector is set, and `revoke`
        // drops what was taken before that changes.
        Some(f(unsafe {
            Interrupts::new(self.hardware.pci()?, &mut state.vectors)
        }))
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
        self.hardware.set_master(false);
        drop(state);
        // Who is about to be mapped, or unmapped, for it. Nobody will any more.
        self.busy.revoke();
        let mut state = self.state.lock();
        // INVARIANT: What is taken from the list has no memory any more when this returns.
        let all = core::mem::take(&mut state.lent);
        let attached = core::mem::replace(&mut state.attached, RBTree::new());
        let bars = core::mem::replace(&mut state.bars, Bars::new());
        let vectors = state.vectors.take();
        drop(state);
        bars.revoke();
        for attached in attached.values() {
            // SAFETY: It was on the list, so this was not done yet; the device is bound until this returns.
            unsafe { attached.give_back() };
        }
        for lent in all {
            lent.revocable.revoke();
            // SAFETY: It was on the list, so this was not done yet. Nobody holds the lease, nobody will, and no mapping has
            // an entry for it.
            unsafe { lent.give_back() };
        }
        // Whoever waits looks at the memory next: it is to find it gone, and not to wait again.
        if let Some(vectors) = vectors {
            vectors.wake_all();
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
    revocable: Arc<Revocable>,
}

impl Lent {
    /// Keeps the memory until the answer is dropped; `None` where the device is gone.
    pub(crate) fn hold(&self) -> Option<Hold<'_>> {
        self.revocable.hold()
    }

    /// The memory; `None` where this is not what `hold` holds.
    pub(crate) fn block<'a>(&'a self, hold: &'a Hold<'_>) -> Option<&'a CoherentBlock> {
        self.revocable.is_held_by(hold).then_some(&*self.block)
    }

    /// How many pages it has, or had.
    pub(crate) fn pages(&self) -> usize {
        self.block.len()
    }

    /// The address of a page of it that the device has, or had.
    pub(crate) fn dma_address(&self, index: usize) -> Option<u64> {
        (index < self.pages()).then(|| self.block.dma_address(index))
    }

    /// How the kernel has it mapped, or had it.
    pub(crate) fn attributes(&self) -> Attributes<'_> {
        self.block.attributes().of(self.revocable.lease())
    }

    /// What goes with the device.
    pub(crate) fn revocable(&self) -> &Arc<Revocable> {
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
