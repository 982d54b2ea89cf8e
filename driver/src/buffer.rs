// SPDX-License-Identifier: GPL-2.0

//! A buffer: memory, its charge and its name. It is the data of a dma-buf, so ids, names, descriptors
//! and mappings are references of one kind, and the last one frees it.

use crate::{
    abi::{
        reason::{
            Reason,
            Refusal, //
        },
        wire::{
            Kind,
            Method,
            Operation,
            Segment,
            ADDRESS_HIDDEN,
            NAME_LEN, //
        },
    },
    accounts::{
        Charge,
        Payers, //
    },
    mapping,
    memory::{
        Device,
        Memory,
        Spec, //
    },
    pinned::{
        Held,
        Share, //
    },
    policy::plan::{
        decide,
        Layout,
        Plan,
        Request,
        Sharing, //
    },
    refusals::{
        self,
        Refusals, //
    },
    runs::Runs,
    sys::{
        bytes::{
            self,
            Bytes, //
        },
        caller::{
            self,
            Capability, //
        },
        counts::{
            Counted,
            Sort, //
        },
        dmabuf::{
            DmaBuf,
            Exporter,
            READ_WRITE, //
        },
        fault::{
            Fault,
            Faults,
            Outcome, //
        },
        lease::{
            Hold,
            OWNED, //
        },
        seam::{
            pause,
            Seam, //
        },
        Backed,
        Backing,
        Importable,
        NewVma,
        NodeVma,
        Parked,
        Revocable,
        Watch,
        Wish, //
    },
};
use core::mem::MaybeUninit;
use kernel::{
    iov::{
        IovIterDest,
        IovIterSource, //
    },
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex, //
    },
};

pub(crate) use crate::pinned::Freed;

/// A name, as in the interface: padded with zeros.
pub(crate) type Name = [u8; NAME_LEN];

/// The data of a buffer's dma-buf.
pub(crate) struct Buffer {
    /// Dropped first; the charge follows.
    memory: Memory,
    charge: Charge,
    runs: Runs,
    /// Room for the pages that others still refer to when the buffer is gone.
    parked: Parked,
    held: KBox<MaybeUninit<Held>>,
    session: Arc<Freed>,
    id_freed: Atomic<bool>,
    /// Written under `Driver::names`.
    name: Pin<KBox<Mutex<Option<Name>>>>,
    counted: Counted,
}

/// A reference to a buffer.
pub(crate) type BufferRef = DmaBuf<Buffer>;

impl Buffer {
    /// Allocates a buffer of zeroed memory, charged to those who pay.
    pub(crate) fn allocate(
        payers: &Arc<Payers>,
        session: &Arc<Freed>,
        spec: &Spec,
        device: &Device,
    ) -> Result<BufferRef, Refusal> {
        Self::allocate_with(payers, session, spec, device, READ_WRITE)
    }

    /// The same, with the flags of the dma-buf's file.
    pub(crate) fn allocate_with(
        payers: &Arc<Payers>,
        session: &Arc<Freed>,
        spec: &Spec,
        device: &Device,
        flags: u32,
    ) -> Result<BufferRef, Refusal> {
        let charge = Charge::new(payers, spec.bytes());
        // Buffers whose pins have ended may still be charged.
        let charge = match charge {
            Err(_) if payers.driver().pinned.sweep() => Charge::new(payers, spec.bytes()),
            charge => charge,
        }?;
        let memory = Memory::new(spec, device)?;
        Self::new(session, memory, charge, flags)
    }

    /// A buffer of a region or of a device's registers, which costs no memory.
    pub(crate) fn of_region(
        nobody: &Arc<Payers>,
        session: &Arc<Freed>,
        memory: Memory,
    ) -> Result<BufferRef, Refusal> {
        let charge = Charge::new(nobody, 0)?;
        Self::new(session, memory, charge, READ_WRITE)
    }

    fn new(
        session: &Arc<Freed>,
        memory: Memory,
        charge: Charge,
        flags: u32,
    ) -> Result<BufferRef, Refusal> {
        let pages = memory.backing().len();
        let no_memory = |_| refusals::no_memory((pages * PAGE_SIZE) as u64, PAGE_SIZE as u64);
        let name = kernel::new_mutex!(None, "mapbuf_name");
        let name = KBox::pin_init(name, GFP_KERNEL_ACCOUNT).map_err(no_memory)?;
        let runs = Runs::count(&memory)?;
        let buffer = Self {
            memory,
            charge,
            runs,
            parked: Parked::new(),
            held: KBox::new_uninit(GFP_KERNEL_ACCOUNT).map_err(|_| no_memory(ENOMEM))?,
            session: session.clone(),
            id_freed: Atomic::new(false),
            name,
            counted: Counted::new(Sort::Buffer),
        };
        let buffer = DmaBuf::export(buffer, pages * PAGE_SIZE, flags).map_err(no_memory)?;
        buffer.describe(buffer.text()).map_err(no_memory)?;
        pause(Seam::Allocated);
        Ok(buffer)
    }

    fn of_dma_bufs(&self) -> &Refusals {
        &self.charge.driver().of_dma_bufs
    }

    /// Its memory.
    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Whether a device can be given addresses for it.
    pub(crate) fn can_attach(&self) -> bool {
        self.has_pages()
    }

    /// Its size in pages.
    pub(crate) fn pages(&self) -> usize {
        self.memory.backing().len()
    }

    /// Its size in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.pages() as u64 * PAGE_SIZE as u64
    }

    /// Physically contiguous runs in it.
    pub(crate) fn segments(&self) -> u32 {
        self.runs.total()
    }

    /// What `/proc/PID/maps` shows for it, while it has no name.
    pub(crate) fn text(&self) -> &'static CStr {
        match self.memory.kind() {
            Kind::Vmalloc => c"mapbuf vmalloc",
            Kind::Pages => c"mapbuf pages",
            Kind::Contiguous => c"mapbuf contiguous",
            Kind::Coherent => c"mapbuf coherent",
            Kind::Region => c"mapbuf region",
            Kind::Foreign => c"mapbuf foreign",
        }
    }

    /// Its name, all zeros when it has none.
    pub(crate) fn name(&self) -> Name {
        self.name.lock().unwrap_or([0; NAME_LEN])
    }

    /// Gives it a name, or takes it away.
    pub(crate) fn set_name(&self, name: Option<Name>) {
        *self.name.lock() = name;
    }

    /// Notes that its session no longer has an id for it.
    pub(crate) fn id_freed(&self) {
        if !self.id_freed.xchg(true, Relaxed) {
            self.session.add(1, self.bytes() as i64);
        }
    }

    /// How a mapping would be made, or why it is refused.
    pub(crate) fn plan(&self, wish: Wish, page: u64, method: Method) -> Result<Plan, Refusal> {
        let sharing = Sharing::new(wish.shared, wish.write, wish.may_write);
        let request = Request {
            method,
            page,
            pages: wish.pages,
            sharing,
            exec: wish.exec,
            write: wish.write,
            // Nothing else asks for it.
            admin: sharing == Sharing::PrivateWritable && caller::may_see(Capability::SysAdmin),
            lined_up: self.memory.lined_up(page, wish.pages, wish.address),
        };
        decide(&self.memory, &request)
    }

    /// Calls `f` with the row of each run, starting at run `first`, at most `count` times. `address` says what a byte's
    /// address is for the node's device.
    pub(crate) fn rows(
        &self,
        first: u32,
        count: u32,
        show: Visible,
        address: impl Fn(u64) -> Option<u64>,
        mut f: impl FnMut(Segment) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        self.runs.each(&self.memory, first, count, |at, run| {
            let frame = self.memory.frame(at);
            let physical = frame.map(|frame| frame * PAGE_SIZE as u64);
            f(Segment {
                offset: (at * PAGE_SIZE) as u64,
                length: (run * PAGE_SIZE) as u64,
                dma_address: address((at * PAGE_SIZE) as u64)
                    .filter(|_| show.dma)
                    .unwrap_or(ADDRESS_HIDDEN),
                physical_address: physical.filter(|_| show.physical).unwrap_or(ADDRESS_HIDDEN),
            })
        })
    }

    /// Copies bytes out, starting at `offset`. Returns how many.
    pub(crate) fn read(&self, to: &mut IovIterDest<'_>, offset: u64) -> Result<usize, Refusal> {
        let (length, user) = (to.len(), bytes::destination(to));
        if !self.memory.revocable() {
            return self.transfer(offset, length, user, |at, most| {
                let bytes = self.bytes_at(&OWNED, at, most)?;
                Some(Ok((bytes.copy_to_iter(to), bytes.len())))
            });
        }
        // A user copy may take for ever, and whoever takes the memory back waits for those who hold it.
        let mut own = own_page()?;
        self.transfer(offset, length, user, |at, most| {
            let held = self.held(|hold| {
                let bytes = self.bytes_at(hold, at, most)?;
                Some(bytes.copy_out(own.get_mut(..bytes.len())?))
            });
            let count = match held? {
                Ok(count) => count,
                Err(gone) => return Some(Err(gone)),
            };
            Some(Ok((to.copy_to_iter(own.get(..count)?), count)))
        })
    }

    /// Copies bytes in, starting at `offset`. Returns how many.
    pub(crate) fn write(
        &self,
        from: &mut IovIterSource<'_>,
        offset: u64,
    ) -> Result<usize, Refusal> {
        let (length, user) = (from.len(), bytes::source(from));
        if !self.memory.revocable() {
            return self.transfer(offset, length, user, |at, most| {
                let bytes = self.bytes_at(&OWNED, at, most)?;
                Some(Ok((bytes.copy_from_iter(from), bytes.len())))
            });
        }
        let word = self
            .memory
            .word()
            .map_or(1, |bits| bits as usize / 8)
            .max(1);
        let mut own = own_page()?;
        self.transfer(offset, length, user, |at, most| {
            let wanted = most.min(PAGE_SIZE - at % PAGE_SIZE);
            let copied = from.copy_from_iter(own.get_mut(..wanted)?);
            // Whole words only.
            let whole = copied - copied % word;
            let held = self.held(|hold| {
                let bytes = self.bytes_at(hold, at, whole)?;
                let done = bytes.copy_in(own.get(..bytes.len())?);
                Some(done.map_or(0, |()| bytes.len()))
            });
            Some(held?.map(|done| (done, wanted)))
        })
    }

    /// Bytes of a page from byte `at` of the buffer on, at most `most`.
    fn bytes_at<'a>(&'a self, hold: &'a Hold<'_>, at: usize, most: usize) -> Option<Bytes<'a>> {
        let memory = self.memory.backing();
        memory.bytes(hold, at / PAGE_SIZE, at % PAGE_SIZE, most)
    }

    /// Calls `f` while the memory is there; `None` if `f` answers so.
    ///
    /// # Errors
    ///
    /// [`Reason::DeviceGone`].
    fn held<R>(&self, f: impl FnOnce(&Hold<'_>) -> Option<R>) -> Option<Result<R, Refusal>> {
        let Some(hold) = self.hold() else {
            return Some(Err(Reason::DeviceGone.into()));
        };
        f(&hold).map(Ok)
    }

    /// The kernel's own view: calls `copy` with the next byte and how many are left, starting at `offset`. It copies up to the
    /// end of that page, and answers with how many bytes it has copied of how many; `None` ends this. The sum is
    /// returned. `user` is for the refusal.
    fn transfer(
        &self,
        offset: u64,
        length: usize,
        user: u64,
        mut copy: impl FnMut(usize, usize) -> Option<Result<(usize, usize), Refusal>>,
    ) -> Result<usize, Refusal> {
        let interrupted = |_| Reason::Interrupted.with(&[length as u64, 0]);
        let access = self.memory.gate().map(|gate| gate.access()).transpose();
        let _access = access.map_err(interrupted)?;
        let mut done = 0;
        while done < length {
            let Ok(at) = usize::try_from(offset.saturating_add(done as u64)) else {
                break;
            };
            let (copied, wanted) = match copy(at, length - done) {
                None => break,
                Some(Ok(copied)) => copied,
                Some(Err(_)) if done > 0 => break,
                Some(Err(refusal)) => return Err(refusal),
            };
            done += copied;
            if copied < wanted {
                if done == 0 {
                    return Err(Reason::BadAddress.with(&[user, length as u64]));
                }
                break;
            }
            caller::cond_resched();
            if caller::fatal_signal_pending() {
                break;
            }
        }
        Ok(done)
    }
}

/// A page through which bytes go.
fn own_page() -> Result<KVec<u8>, Refusal> {
    let page = KVec::from_elem(0, PAGE_SIZE, GFP_KERNEL | __GFP_NOWARN);
    page.map_err(|_| refusals::no_memory(PAGE_SIZE as u64, 0))
}

/// Maps a part of a buffer, starting at page `page`, by a plan that was made for this part.
pub(crate) fn map(buffer: &BufferRef, vma: NodeVma<'_>, page: u64, plan: &Plan) -> Result {
    pause(Seam::Planned);
    mapping::carry_out(buffer.bind(vma, page)?, plan)
}

/// Which addresses the caller may see.
#[derive(Clone, Copy)]
pub(crate) struct Visible {
    pub(crate) dma: bool,
    pub(crate) physical: bool,
}

impl Visible {
    /// For the caller, on the `system` node: without an IOMMU its DMA addresses are physical ones.
    pub(crate) fn to_caller() -> Self {
        Self {
            dma: caller::param::expose_dma() || caller::may_see(Capability::SysRawio),
            physical: caller::may_see(Capability::SysAdmin),
        }
    }
}

impl Backed for Buffer {
    fn backing(&self) -> &dyn Backing {
        self.memory.backing()
    }

    fn hold(&self) -> Option<Hold<'_>> {
        self.memory.hold()
    }

    fn watch(&self) -> Option<&dyn Watch> {
        self.memory.gate().map(|gate| gate as &dyn Watch)
    }
}

impl Faults for Buffer {
    fn fault(fault: Fault<'_, Self>) -> Outcome {
        pause(Seam::Faulted);
        fault.serve()
    }
}

impl Importable for Buffer {
    fn attach(&self, lets_go: bool) -> Result {
        let kind = u64::from(self.memory.kind().number());
        let refusal = if self.memory.kind() == Kind::Region {
            // The frames of a reserved range, and of registers, have no `struct page`.
            Reason::NoPagesForDevices.with(&[kind])
        } else if self.memory.revocable() && !lets_go {
            Reason::ImporterHolds.with(&[kind])
        } else if self.hold().is_none() {
            Reason::DeviceGone.into()
        } else {
            return Ok(());
        };
        self.of_dma_bufs()
            .note(Operation::ForeignAttach, Err(refusal))
    }

    fn revocable(&self) -> Option<&Arc<Revocable>> {
        self.memory.goes_with()
    }

    fn has_pages(&self) -> bool {
        matches!(
            self.memory.kind(),
            Kind::Vmalloc | Kind::Pages | Kind::Contiguous
        )
    }
}

impl Exporter for Buffer {
    fn mmap(vma: NewVma<'_, Self>) -> Result {
        let this = vma.data();
        let plan = this.plan(vma.wish(), vma.page_offset(), Method::Auto);
        let plan = this.of_dma_bufs().note(Operation::Mmap, plan)?;
        mapping::carry_out(vma, &plan)
    }

    fn release(self) {
        pause(Seam::Dropping);
        let bytes = self.bytes();
        let freed = self.id_freed.load(Relaxed);
        let Self {
            memory,
            charge,
            mut parked,
            held,
            session,
            counted,
            ..
        } = self;
        let freed = freed.then(|| Share::new(session, bytes));
        memory.park(&mut parked);
        Held::keep(held, parked, charge, freed, counted);
    }
}
