// SPDX-License-Identifier: GPL-2.0

//! Memory that is mapped for a device that is bound to us: pages of a buffer, by `dma_map_sgtable`, once; or another driver's
//! dma-buf, by that driver. The [`Lender`] of the device keeps a list of them, and unmaps what is on it when the device goes.
//!
//! [`Lender`]: super::lend::Lender

use super::{
    attach::Exported,
    backing::Backing,
    caller,
    counts::{
        Counted,
        Sort, //
    },
    dmabuf::{
        DmaBuf,
        Exporter, //
    },
    foreign::{
        Foreign,
        Imported, //
    },
    helpers::*,
    lease::OWNED,
    long_vec::LongVec,
    scatter::{
        self,
        Scatter, //
    },
};
use crate::abi::wire::Direction;
use core::{
    mem::ManuallyDrop,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    error::to_result,
    page::PAGE_SIZE,
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
};

/// Addresses of the device's that follow each other.
#[derive(Clone, Copy)]
pub(crate) struct DmaRun {
    /// The byte of the buffer that it begins with.
    pub(crate) offset: u64,
    /// How many bytes.
    pub(crate) length: u64,
    /// The address of its first byte.
    pub(crate) address: u64,
}

/// Why pages could not be mapped.
pub(crate) enum NotMapped {
    /// From this byte of the buffer on they lie where the device does not reach.
    OutOfReach(u64),
    /// There is memory that the device does not reach, and nobody can tell whether this is some.
    MaybeOutOfReach,
    /// The DMA API, or an allocation, has failed.
    Failed(Error),
}

impl From<Error> for NotMapped {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Finds the memory of a dma-buf.
///
/// # Safety
///
/// It is [`memory_of`] for a `T`, with what that asks for.
type Memory = unsafe fn(&NonNull<bindings::dma_buf>) -> &dyn Backing;

/// # Safety
///
/// The dma-buf was made by [`DmaBuf::export`] for `T`, and outlives the answer.
unsafe fn memory_of<T: Exporter>(buffer: &NonNull<bindings::dma_buf>) -> &dyn Backing {
    // SAFETY: By the safety requirements.
    unsafe { Exported::<T>::of(buffer.as_ptr()) }.backing()
}

/// Pages of a buffer of ours.
///
/// # Invariants
///
/// The table describes the memory of a dma-buf on which a reference (`buffer`) is ours, and which `memory` finds.
struct Pages {
    table: Scatter,
    memory: Memory,
    buffer: NonNull<bindings::dma_buf>,
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: By the type's invariants the reference is ours. Whoever has mapped the table has taken the addresses away.
        unsafe { bindings::dma_buf_put(self.buffer.as_ptr()) };
    }
}

/// Whose memory is mapped, and by whom.
enum Mapped {
    /// Ours, by us.
    Pages(Pages),
    /// Another driver's, by that driver.
    Imported(Imported),
}

/// The entries of a table that have addresses, from the buffer's first byte to its last.
///
/// # Invariants
///
/// `entry` begins a list of which the first `left` entries have addresses.
struct Entries {
    entry: *mut bindings::scatterlist,
    left: u32,
    offset: u64,
}

impl Iterator for Entries {
    type Item = DmaRun;

    fn next(&mut self) -> Option<DmaRun> {
        self.left = self.left.checked_sub(1)?;
        let (mut address, mut length) = (0, 0);
        // SAFETY: By the type's invariants this entry has an address. INVARIANT: What is returned begins the rest.
        self.entry = unsafe { mapbuf_sg_mapped(self.entry, &mut address, &mut length) };
        let offset = self.offset;
        self.offset += length;
        Some(DmaRun {
            offset,
            length,
            address,
        })
    }
}

/// Memory that a device has addresses for.
///
/// # Invariants
///
/// Until [`Self::give_back`] it is mapped for `device`, in `direction`; `runs` are the addresses, from the first byte to the
/// last.
pub(crate) struct Attached {
    mapped: Mapped,
    device: *mut bindings::device,
    direction: Direction,
    runs: LongVec<DmaRun>,
    needs_sync: bool,
    gone: Atomic<bool>,
    counted: ManuallyDrop<Counted>,
}

// SAFETY: Mappings and references belong to no thread; a buffer's memory is that of a `Backed`, which is `Sync`.
unsafe impl Send for Attached {}
// SAFETY: Through a shared reference nothing changes but `gone`, which is atomic.
unsafe impl Sync for Attached {}

impl Attached {
    /// Maps all of a buffer, whose frames have pages.
    ///
    /// # Safety
    ///
    /// The device is bound to us, and [`Self::give_back`] is called before it is no more. The table is of the buffer's
    /// memory.
    pub(super) unsafe fn new<T: Exporter>(
        buffer: &DmaBuf<T>,
        table: Scatter,
        device: *mut bindings::device,
        direction: Direction,
    ) -> Result<Self, NotMapped> {
        let memory = buffer.backing();
        // SAFETY: By the safety requirements.
        let reach = unsafe { mapbuf_reach(device) };
        let (mut at, mut beyond) = (0, None);
        scatter::runs(memory, &OWNED, |first, pages| {
            let end = first
                .saturating_add(pages as u64)
                .saturating_mul(PAGE_SIZE as u64);
            if end.saturating_sub(1) > reach {
                beyond = beyond.or(Some((at * PAGE_SIZE) as u64));
            }
            at += pages;
        })?;
        if let Some(offset) = beyond {
            return Err(NotMapped::OutOfReach(offset));
        }
        // SAFETY: The table describes pages that the reference below keeps, and is unmapped before it is freed.
        to_result(unsafe { mapbuf_map_table(device, table.as_ptr(), direction.number()) })?;
        // INVARIANT: The reference is taken.
        let pages = Pages {
            table,
            memory: memory_of::<T>,
            buffer: DmaBuf::clone(buffer).into_raw(),
        };
        // SAFETY: It was just mapped so.
        Ok(unsafe { Self::of(Mapped::Pages(pages), device, direction) }?)
    }

    /// Has another driver map all of its dma-buf. That one alone knows whether the CPU and the device see the same bytes.
    ///
    /// # Safety
    ///
    /// As for [`Self::new`].
    pub(super) unsafe fn imported(
        foreign: &Foreign,
        device: *mut bindings::device,
        direction: Direction,
    ) -> Result<Self, NotMapped> {
        // SAFETY: The device is bound to us.
        if !unsafe { mapbuf_reaches_all(device) } {
            return Err(NotMapped::MaybeOutOfReach);
        }
        // SAFETY: By the safety requirements.
        let imported = unsafe { Imported::new(foreign, device, direction) }?;
        // SAFETY: It was just mapped so.
        let mut this = unsafe { Self::of(Mapped::Imported(imported), device, direction) }?;
        this.needs_sync = true;
        let mapped = this.runs.last().map_or(0, |run| run.offset + run.length);
        if mapped < foreign.bytes() {
            // SAFETY: It was just mapped, and nobody else has it.
            unsafe { this.give_back() };
            return Err(NotMapped::Failed(EINVAL));
        }
        Ok(this)
    }

    /// # Safety
    ///
    /// This is mapped so, and the device is bound to us.
    unsafe fn of(
        mapped: Mapped,
        device: *mut bindings::device,
        direction: Direction,
    ) -> Result<Self> {
        // INVARIANT: By the safety requirements; nobody has this before it has the addresses.
        let mut this = Self {
            mapped,
            device,
            direction,
            runs: LongVec::new(),
            needs_sync: false,
            gone: Atomic::new(false),
            counted: ManuallyDrop::new(Counted::new(Sort::DeviceMapping)),
        };
        if let Err(error) = this.read_runs() {
            // SAFETY: By the safety requirements; nobody else has it.
            unsafe { this.give_back() };
            return Err(error);
        }
        Ok(this)
    }

    fn table(&self) -> *mut bindings::sg_table {
        match &self.mapped {
            Mapped::Pages(pages) => pages.table.as_ptr(),
            Mapped::Imported(imported) => imported.table().as_ptr(),
        }
    }

    /// What the DMA API has made of the memory.
    ///
    /// # Safety
    ///
    /// It is mapped, and stays so while the answer is used.
    unsafe fn entries(&self) -> Entries {
        // SAFETY: By the safety requirements and the type's invariants the table is mapped.
        let (entry, left) = unsafe {
            let table = self.table();
            ((*table).sgl, (*table).nents)
        };
        // INVARIANT: So many entries of the list have addresses, and keep them by the safety requirements.
        Entries {
            entry,
            left,
            offset: 0,
        }
    }

    /// Notes the addresses.
    fn read_runs(&mut self) -> Result {
        // Under a lock that an unbind takes, so that a full memory cgroup must not matter.
        let flags = GFP_KERNEL | __GFP_NOWARN;
        let (mut runs, mut last) = (LongVec::new(), None::<DmaRun>);
        // SAFETY: By the type's invariants it is mapped, and nobody else has it yet.
        for entry in unsafe { self.entries() } {
            // SAFETY: The address is one of the device's.
            self.needs_sync |= unsafe { mapbuf_needs_sync(self.device, entry.address) };
            match &mut last {
                Some(run) if run.address.checked_add(run.length) == Some(entry.address) => {
                    run.length += entry.length;
                }
                _ => {
                    if let Some(run) = last {
                        runs.push(run, flags)?;
                    }
                    last = Some(entry);
                }
            }
            caller::resched_unless_killed()?;
        }
        if let Some(run) = last {
            runs.push(run, flags)?;
        }
        self.runs = runs;
        Ok(())
    }

    /// The addresses, in the order of the buffer's bytes. They lead there while [`Self::alive`].
    pub(crate) fn runs(&self) -> &[DmaRun] {
        &self.runs
    }

    /// For which direction.
    pub(crate) fn direction(&self) -> Direction {
        self.direction
    }

    /// Whether the device has addresses still.
    pub(crate) fn alive(&self) -> bool {
        !self.gone.load(Relaxed)
    }

    /// Whether the CPU and the device see the same bytes only after a sync.
    pub(crate) fn needs_sync(&self) -> bool {
        self.needs_sync
    }

    /// Whether such a range lies in the buffer, and this direction in that of the mapping.
    pub(super) fn covers(&self, offset: u64, length: u64, direction: Direction) -> bool {
        let bytes = self.runs.last().map_or(0, |run| run.offset + run.length);
        let inside = offset.checked_add(length).is_some_and(|end| end <= bytes);
        inside && (self.direction == Direction::Both || self.direction == direction)
    }

    /// Gives `length` bytes from `offset` on to the CPU, or to the device, where they are ours.
    ///
    /// # Safety
    ///
    /// It is mapped, and stays so until this returns. The range lies in the buffer; `direction` is that of the mapping, or
    /// a part of it.
    pub(super) unsafe fn sync(
        &self,
        offset: u64,
        length: u64,
        direction: Direction,
        for_cpu: bool,
    ) {
        let Mapped::Pages(pages) = &self.mapped else {
            return;
        };
        // SAFETY: By the invariants of `Pages` the reference on the dma-buf is ours, and it is one for this function.
        let memory = unsafe { (pages.memory)(&pages.buffer) };
        let end = offset.saturating_add(length);
        let mut at = offset;
        // SAFETY: By the safety requirements.
        let mut entries = unsafe { self.entries() };
        let mut entry = entries.next();
        while at < end {
            // A sync is of one entry: that is what `CONFIG_DMA_API_DEBUG` holds drivers to.
            while entry.is_some_and(|entry| entry.offset + entry.length <= at) {
                entry = entries.next();
            }
            let page = at / PAGE_SIZE as u64;
            let frames = usize::try_from(page)
                .ok()
                .and_then(|page| memory.frames(&OWNED, page, usize::MAX));
            let (Some(entry), Some(frames)) = (entry, frames) else {
                return;
            };
            // The DMA API takes one run of both: for what is behind an IOMMU it looks the first byte up
            // (`iommu_dma_sync_single_for_cpu` of `drivers/iommu/dma-iommu.c`).
            let behind = (page + frames.count() as u64) * PAGE_SIZE as u64;
            let stop = end.min(behind).min(entry.offset + entry.length);
            if stop <= at {
                return;
            }
            let address = entry.address.wrapping_add(at - entry.offset);
            // SAFETY: By the safety requirements and the type's invariants the bytes are mapped at that address.
            unsafe {
                mapbuf_sync_range(
                    self.device,
                    address,
                    (stop - at) as usize,
                    direction.number(),
                    for_cpu,
                )
            };
            at = stop;
            caller::cond_resched();
        }
    }

    /// Takes the addresses away.
    ///
    /// # Safety
    ///
    /// This is called once, and the device is bound to us.
    pub(super) unsafe fn give_back(&self) {
        self.gone.store(true, Relaxed);
        // SAFETY: By the safety requirements this is the only time.
        drop(unsafe { core::ptr::read(&*self.counted) });
        // SAFETY: By the safety requirements and the type's invariants it is mapped so, and the device is bound to us.
        unsafe {
            match &self.mapped {
                Mapped::Pages(_) => {
                    mapbuf_unmap_table(self.device, self.table(), self.direction.number());
                }
                Mapped::Imported(imported) => imported.end(),
            }
        };
    }
}
