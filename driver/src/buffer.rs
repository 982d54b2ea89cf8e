// SPDX-License-Identifier: GPL-2.0

//! A buffer: memory, its charge, and what is known of it by name. It is the data of a dma-buf, so that
//! ids, names, descriptors and mappings are all references of one kind, and the last one frees it.

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
    counts::{
        Counted,
        Sort, //
    },
    mapping,
    memory::{
        Memory,
        Spec, //
    },
    policy::plan::{
        decide,
        Plan,
        Request,
        Sharing, //
    },
    refusals::{
        self,
        Refusals, //
    },
    runs::Runs,
    seam::{
        pause,
        Seam, //
    },
    sys::{
        caller::{
            self,
            Capability, //
        },
        dmabuf::{
            DmaBuf,
            Exporter, //
        },
        pages::KernelMap,
        user::Bytes,
        vma::{
            Fault,
            NewVma,
            Outcome,
            Page, //
        },
    },
};
use core::ptr::NonNull;
use kernel::{
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

/// Buffers of one session whose ids were freed and whose memory is still held.
pub(crate) struct Freed {
    buffers: Atomic<i64>,
    bytes: Atomic<i64>,
}

impl Freed {
    pub(crate) fn new() -> Self {
        Self {
            buffers: Atomic::new(0),
            bytes: Atomic::new(0),
        }
    }

    fn add(&self, buffers: i64, bytes: i64) {
        self.buffers.add(buffers, Relaxed);
        self.bytes.add(bytes, Relaxed);
    }

    /// How many, and their bytes.
    pub(crate) fn held(&self) -> (u64, u64) {
        let value = |count: &Atomic<i64>| u64::try_from(count.load(Relaxed)).unwrap_or(0);
        (value(&self.buffers), value(&self.bytes))
    }
}

/// A name, as in the interface: padded with zeros.
pub(crate) type Name = [u8; NAME_LEN];

/// The data of a buffer's dma-buf.
pub(crate) struct Buffer {
    /// Goes first when the buffer is dropped; the charge follows.
    memory: Memory,
    charge: Charge,
    runs: Runs,
    session: Arc<Freed>,
    id_freed: Atomic<bool>,
    /// Written under the lock of the driver's names.
    name: Pin<KBox<Mutex<Option<Name>>>>,
    /// For an importer that sees scattered pages through the kernel's address space.
    kernel_map: Pin<KBox<Mutex<Option<KernelMap>>>>,
    _counted: Counted,
}

/// A reference to a buffer.
pub(crate) type BufferRef = DmaBuf<Buffer>;

impl Buffer {
    /// Allocates a buffer of zeroed memory, charged to those who pay.
    pub(crate) fn allocate(
        payers: &Arc<Payers>,
        session: &Arc<Freed>,
        spec: &Spec,
    ) -> Result<BufferRef, Refusal> {
        let charge = Charge::new(payers, spec.bytes())?;
        pause(Seam::Charged);
        let memory = Memory::new(spec, &charge.driver().device)?;
        Self::new(session, memory, charge)
    }

    /// A buffer of a region, which costs no memory.
    pub(crate) fn of_region(
        nobody: &Arc<Payers>,
        session: &Arc<Freed>,
        memory: Memory,
    ) -> Result<BufferRef, Refusal> {
        let charge = Charge::new(nobody, 0)?;
        Self::new(session, memory, charge)
    }

    fn new(session: &Arc<Freed>, memory: Memory, charge: Charge) -> Result<BufferRef, Refusal> {
        let pages = memory.backing().len();
        let no_memory = |_| refusals::no_memory((pages * PAGE_SIZE) as u64, PAGE_SIZE as u64);
        let name = kernel::new_mutex!(None, "mapbuf_name");
        let name = KBox::pin_init(name, GFP_KERNEL_ACCOUNT).map_err(no_memory)?;
        let kernel_map = kernel::new_mutex!(None, "mapbuf_kernel_map");
        let kernel_map = KBox::pin_init(kernel_map, GFP_KERNEL_ACCOUNT).map_err(no_memory)?;
        let runs = Runs::count(memory.backing())?;
        let buffer = Self {
            memory,
            charge,
            runs,
            session: session.clone(),
            id_freed: Atomic::new(false),
            name,
            kernel_map,
            _counted: Counted::new(Sort::Buffer),
        };
        let kind = buffer.memory.kind().name();
        let buffer = DmaBuf::export(buffer, pages * PAGE_SIZE).map_err(no_memory)?;
        buffer.describe(fmt!("mapbuf {kind}")).map_err(no_memory)?;
        Ok(buffer)
    }

    fn of_dma_bufs(&self) -> &Refusals {
        &self.charge.driver().of_dma_bufs
    }

    /// Its memory.
    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
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

    /// Its name, all zeros when it has none.
    pub(crate) fn name(&self) -> Name {
        self.name.lock().unwrap_or([0; NAME_LEN])
    }

    /// Gives it a name, or takes it away.
    pub(crate) fn set_name(&self, name: Option<Name>) {
        *self.name.lock() = name;
    }

    /// Notes that its session has no id for it any more.
    pub(crate) fn id_freed(&self) {
        if !self.id_freed.xchg(true, Relaxed) {
            self.session.add(1, self.bytes() as i64);
        }
    }

    /// How a mapping would be made, or why it is refused.
    pub(crate) fn plan(
        &self,
        vma: &NewVma<'_>,
        page: u64,
        method: Method,
    ) -> Result<Plan, Refusal> {
        let sharing = vma.sharing();
        let request = Request {
            method,
            page,
            pages: vma.pages() as u64,
            sharing,
            exec: vma.executable(),
            // Nothing else asks for it.
            admin: sharing == Sharing::PrivateWritable && caller::may_see(Capability::SysAdmin),
        };
        decide(&self.memory, &request)
    }

    /// Calls `f` for the runs from number `first` on, with their row; at most `count` times.
    pub(crate) fn rows(
        &self,
        first: u32,
        count: u32,
        show: Visible,
        mut f: impl FnMut(Segment) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let memory = self.memory.backing();
        self.runs.each(memory, first, count, |at, run| {
            let physical = memory.pfn(at).map(|pfn| pfn * PAGE_SIZE as u64);
            f(Segment {
                offset: (at * PAGE_SIZE) as u64,
                length: (run * PAGE_SIZE) as u64,
                dma_address: memory
                    .dma_address(at)
                    .filter(|_| show.dma)
                    .unwrap_or(ADDRESS_HIDDEN),
                physical_address: physical.filter(|_| show.physical).unwrap_or(ADDRESS_HIDDEN),
            })
        })
    }

    /// The kernel's own view: passes bytes from `offset` on to `copy`, a page at a time, with how many
    /// were done before; `copy` answers with how many it copied. Answers with how many that were.
    pub(crate) fn transfer(
        &self,
        offset: u64,
        length: usize,
        user: usize,
        copy: impl Fn(&Bytes<'_>, usize) -> usize,
    ) -> Result<usize, Refusal> {
        let memory = self.memory.backing();
        let mut done = 0;
        while done < length {
            let Ok(at) = usize::try_from(offset.saturating_add(done as u64)) else {
                break;
            };
            let Some(bytes) = memory.bytes(at / PAGE_SIZE, at % PAGE_SIZE, length - done) else {
                break;
            };
            let copied = copy(&bytes, user.wrapping_add(done));
            done += copied;
            if copied < bytes.len() {
                if done == 0 {
                    return Err(Reason::BadAddress.with(&[user as u64, length as u64]));
                }
                break;
            }
            caller::breathe();
            if caller::dying() {
                break;
            }
        }
        Ok(done)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        pause(Seam::Dropping);
        if self.id_freed.load(Relaxed) {
            self.session.add(-1, -(self.bytes() as i64));
        }
    }
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

impl Exporter for Buffer {
    fn mmap(&self, vma: &NewVma<'_>, method: Option<u32>) -> Result {
        // A node has asked for a plan before, and remembers a refusal for its own open file.
        let by_descriptor = method.is_none();
        let method = method.and_then(Method::from_number).unwrap_or(Method::Auto);
        let plan = self.plan(vma, vma.page_offset(), method);
        let plan = match by_descriptor {
            true => self.of_dma_bufs().note(Operation::Mmap, plan)?,
            false => plan.map_err(|refusal| refusals::error(refusal.reason))?,
        };
        pause(Seam::Entered);
        mapping::carry_out(&self.memory, vma, &plan)
    }

    fn fault(&self, fault: Fault<'_>) -> Outcome {
        pause(Seam::Faulted);
        mapping::fault::answer(self.memory.backing(), fault)
    }

    fn frames(&self, each: &mut dyn FnMut(u64, usize)) -> Result {
        let memory = self.memory.backing();
        if self.memory.kind() == Kind::Region {
            // The frames of a reserved range have no `struct page`.
            let kind = u64::from(self.memory.kind().number());
            let refusal = Reason::NoPagesForDevices.with(&[kind]);
            return self.of_dma_bufs().note(Operation::Attach, Err(refusal));
        }
        let mut at = 0;
        while at < memory.len() {
            let run = memory.run(at).max(1);
            each(memory.pfn(at).ok_or(EINVAL)?, run);
            at += run;
            caller::go_on()?;
        }
        Ok(())
    }

    fn has_kernel_address(&self) -> bool {
        let memory = self.memory.backing();
        memory.paged() || memory.address().is_some()
    }

    fn kernel_address(&self) -> Result<NonNull<u8>> {
        let memory = self.memory.backing();
        if let Some(address) = memory.address() {
            return Ok(address);
        }
        let pages = (0..memory.len()).filter_map(|index| memory.page(index));
        let map = KernelMap::new(memory.len(), memory.cache(), pages)?;
        let address = map.address();
        *self.kernel_map.lock() = Some(map);
        Ok(address)
    }

    fn kernel_address_done(&self) {
        let map = self.kernel_map.lock().take();
        drop(map);
    }

    fn page_bytes(&self, page: Page, offset: usize, length: usize) -> Option<Bytes<'_>> {
        let memory = self.memory.backing();
        let index = match page {
            Page::Index(index) => index,
            // Copy-on-write by frame number is for one run: see `policy::plan`.
            Page::Frame(frame) => usize::try_from(frame.checked_sub(memory.pfn(0)?)?).ok()?,
        };
        memory.bytes(index, offset, length)
    }
}
