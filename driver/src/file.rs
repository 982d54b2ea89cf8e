// SPDX-License-Identifier: GPL-2.0

//! An open file of a node: dispatches each request to the code that serves it.

use crate::{
    abi::{
        reason::{
            Reason,
            Refusal, //
        },
        wire::{
            self,
            bit,
            feature,
            Kind,
            Method,
            Operation,
            Segment, //
        },
    },
    accounts::{
        self,
        Payers, //
    },
    buffer::{
        self,
        Buffer,
        BufferRef,
        Freed,
        Visible, //
    },
    device::{
        bound::BoundDevice,
        DeviceFile, //
    },
    memory::{
        gate::NotAlone,
        Memory, //
    },
    named,
    object::{
        self,
        Object, //
    },
    policy::{
        place,
        region::Asked,
        request::{
            self,
            Placement, //
        },
        right::{
            self,
            Access, //
        }, //
    },
    reach::Reach,
    refusals::{
        self,
        Refusals, //
    },
    session::{
        Session,
        Target,
        Wanted, //
    },
    sys::{
        alloc,
        caller::{
            self,
            param, //
        },
        chardev::{
            OpenFile,
            FIRST_DEVICE_MINOR,
            SYSTEM_MINOR, //
        },
        counts::{
            Counted,
            Sort, //
        },
        credentials::Opener,
        dmabuf,
        refused,
        seam::{
            pause,
            Seam, //
        },
        wire::{
            self as user,
            UserStruct,
            Wire, //
        },
        NodeVma, //
    },
    Driver,
};
use core::mem::size_of;
use kernel::{
    bindings,
    fs::file::FileDescriptorReservation,
    ioctl::{
        _IOC_NR,
        _IOC_TYPE, //
    },
    iov::{
        IovIterDest,
        IovIterSource, //
    },
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        Arc,
        ArcBorrow, //
    },
    transmute::AsBytes, //
};

/// What a node is.
enum Opened {
    /// An allocator node.
    Session(Pin<KBox<Session>>),
    /// The node of a named buffer, and what that has to do with a device.
    Named(BufferRef, Reach),
}

/// An open file of any of our nodes.
pub(crate) struct MapbufFile {
    driver: Arc<Driver>,
    payers: Arc<Payers>,
    refusals: Pin<KBox<Refusals>>,
    opened: Opened,
    _counted: Counted,
}

impl OpenFile for MapbufFile {
    type Shared = Driver;
    type Buffer = Buffer;

    fn open(
        driver: ArcBorrow<'_, Driver>,
        minor: u32,
        opener: &Opener<'_>,
    ) -> Result<(Self, Option<BufferRef>)> {
        let payers = Payers::of(&driver.into(), opener)?;
        let opened = if minor == SYSTEM_MINOR || minor >= FIRST_DEVICE_MINOR {
            let device = match minor {
                SYSTEM_MINOR => None,
                _ => {
                    let found = driver.devices.lock().find(minor);
                    Some(DeviceFile::open(found.ok_or(ENXIO)?))
                }
            };
            let freed = Arc::new(Freed::new(), GFP_KERNEL_ACCOUNT)?;
            let session = Session::new(payers.clone(), freed, device)?;
            Opened::Session(KBox::pin_init(session, GFP_KERNEL_ACCOUNT)?)
        } else {
            let found = driver.names.lock().find(minor);
            pause(Seam::Opening);
            let (buffer, reach) = found.ok_or(ENXIO)?;
            Opened::Named(buffer, reach)
        };
        let shows = match &opened {
            Opened::Session(_) => None,
            Opened::Named(buffer, _) => Some(buffer.clone()),
        };
        let file = Self {
            driver: driver.into(),
            payers,
            refusals: KBox::pin_init(Refusals::new(), GFP_KERNEL_ACCOUNT)?,
            opened,
            _counted: Counted::new(Sort::File),
        };
        Ok((file, shows))
    }

    fn ioctl(&self, access: Access, command: u32, argument: usize) -> Result {
        if let (Opened::Named(buffer, _), dmabuf::SYNC) = (&self.opened, command) {
            return buffer.sync(argument);
        }
        // The size encoded in the command does not matter: the struct carries its own.
        let (magic, number) = (_IOC_TYPE(command), _IOC_NR(command));
        let operation = match Operation::from_number(number) {
            Some(operation) if magic == wire::MAGIC => operation,
            _ => Operation::UnknownIoctl,
        };
        let result = match operation {
            Operation::Query => self.query(argument),
            Operation::Alloc => self.alloc(access, argument),
            Operation::Free => self.free(argument),
            Operation::Info => self.info(access, argument),
            Operation::Segments => self.segments(access, argument),
            Operation::Offset => self.offset(argument),
            Operation::Export => self.export(access, argument),
            Operation::Import => self.import(access, argument),
            Operation::Probe => self.probe(access, argument),
            Operation::Region => self.region(argument),
            Operation::LastError => self.last_error(argument),
            Operation::Name => self.name(access, argument),
            Operation::Unname => self.unname(argument),
            Operation::Device => self.device_info(argument),
            Operation::DmaMask => self.dma_mask(access, argument),
            Operation::Config => self.config(access, argument),
            Operation::Bar => self.bar(access, argument),
            Operation::Irq => self.irq(access, argument),
            Operation::Attach => self.attach(access, argument),
            Operation::Detach => self.detach(access, argument),
            Operation::Sync => self.sync(access, argument),
            _ => Err(Reason::UnknownIoctl.with(&[u64::from(command)])),
        };
        if let (Err(refusal), Some(at)) = (&result, wire::refused_at(operation)) {
            refused::tell(argument, at, &wire::Refused::from(refusal));
        }
        self.refusals.note(operation, result)
    }

    fn mmap(&self, vma: NodeVma<'_>) -> Result {
        self.refusals.note(Operation::Mmap, self.map(vma))
    }

    fn get_unmapped_area(&self, page_offset: u64) -> u64 {
        match &self.opened {
            Opened::Session(session) => session.target(page_offset).map_or(page_offset, |target| {
                let memory = target.object.memory();
                memory.map_or(target.page, |memory| memory.unmapped_area(target.page))
            }),
            Opened::Named(buffer, _) => buffer.memory().unmapped_area(page_offset),
        }
    }

    fn read(&self, to: &mut IovIterDest<'_>, position: u64) -> Result<usize> {
        let result = self
            .bytes_at(position)
            .and_then(|(buffer, offset)| buffer.read(to, offset));
        self.refusals.note(Operation::Read, result)
    }

    fn write(&self, from: &mut IovIterSource<'_>, position: u64) -> Result<usize> {
        let result = self.bytes_at(position).and_then(|(buffer, offset)| {
            let word = buffer.memory().word();
            let (length, end) = (from.len() as u64, buffer.memory().bytes());
            place::write(offset, length, end, word)?;
            buffer.memory().writable(offset, length)?;
            buffer.write(from, offset)
        });
        self.refusals.note(Operation::Write, result)
    }

    fn seek(&self, position: i64, offset: i64, whence: i32) -> Result<i64> {
        let size = match &self.opened {
            Opened::Session(_) => None,
            Opened::Named(buffer, _) => Some(buffer.bytes()),
        };
        let result = place::seek(position, size, offset, whence);
        self.refusals.note(Operation::Seek, result)
    }
}

/// Copies in a struct that has no flags yet.
fn read<T: Wire>(argument: usize) -> Result<(UserStruct, T), Refusal> {
    read_with_flags(argument, 0)
}

/// Copies in a struct and checks its flags.
fn read_with_flags<T: Wire>(argument: usize, known: u32) -> Result<(UserStruct, T), Refusal> {
    let (place, value) = UserStruct::read::<T>(argument)?;
    request::flags(value.flags(), known)?;
    Ok((place, value))
}

impl MapbufFile {
    fn session(&self, operation: Operation) -> Result<&Session, Refusal> {
        match &self.opened {
            Opened::Session(session) => Ok(session),
            Opened::Named(..) => Err(right::needs_session(operation)),
        }
    }

    /// What an id means on this file.
    fn object(&self, id: u32) -> Result<Object, Refusal> {
        match &self.opened {
            Opened::Session(session) => session.object(id),
            Opened::Named(buffer, _) => {
                right::id_on_named_node(id).map(|()| Object::Own(buffer.clone()))
            }
        }
    }

    fn target(&self, page: u64) -> Result<Target, Refusal> {
        match &self.opened {
            Opened::Session(session) => session.target(page),
            Opened::Named(buffer, _) => Ok(Target {
                object: Object::Own(buffer.clone()),
                page,
                method: Method::Auto,
            }),
        }
    }

    /// The buffer at a position in the file, and the byte in it.
    fn bytes_at(&self, position: u64) -> Result<(BufferRef, u64), Refusal> {
        if matches!(self.opened, Opened::Session(_)) {
            place::has_bytes(position, PAGE_SIZE as u64)?;
        }
        let target = self.target(position / PAGE_SIZE as u64)?;
        let offset = target.page * PAGE_SIZE as u64 + position % PAGE_SIZE as u64;
        match target.object {
            Object::Own(buffer) => Ok((buffer, offset)),
            Object::Foreign(_) => Err(Reason::ForeignView.into()),
        }
    }

    fn map(&self, vma: NodeVma<'_>) -> Result<(), Refusal> {
        let Target {
            object,
            page,
            method,
        } = self.target(vma.page_offset())?;
        let buffer = match object {
            Object::Own(buffer) => buffer,
            Object::Foreign(foreign) => {
                return object::map_foreign(&foreign, vma, page, method);
            }
        };
        let plan = buffer.plan(vma.wish(), page, method)?;
        let bytes = (vma.pages() * PAGE_SIZE) as u64;
        buffer::map(&buffer, vma, page, &plan).map_err(|error| {
            if error == EINTR && caller::fatal_signal_pending() {
                return Reason::Interrupted.with(&[bytes, 0]);
            }
            // `vm_insert_pages` says EFAULT where it has no memory for a page table (`insert_pages`).
            if error == ENOMEM || error == EFAULT {
                // Page tables are charged too.
                refusals::no_memory(bytes, PAGE_SIZE as u64)
            } else {
                let errno = error.to_errno().unsigned_abs();
                Reason::KernelRefused.with(&[u64::from(plan.method().number()), u64::from(errno)])
            }
        })
    }

    fn query(&self, argument: usize) -> Result<(), Refusal> {
        let (place, mut query) = read::<wire::Query>(argument)?;
        let limits = accounts::limits();
        query.abi_version = wire::ABI_VERSION;
        query.page_size = PAGE_SIZE as u32;
        query.features = feature::OFFSET | feature::EXPORT | feature::NAME | feature::IMPORT;
        query.features |= feature::REFUSED;
        if alloc::cma_exists() {
            query.features |= feature::CMA;
        }
        if self.device(Operation::Query).is_ok() {
            query.features |= feature::DEVICE;
        }
        if param::expose_dma() {
            query.features |= feature::EXPOSE_DMA;
        }
        query.kinds = match self.opened {
            Opened::Session(_) => [Kind::Vmalloc, Kind::Pages, Kind::Contiguous, Kind::Coherent]
                .iter()
                .fold(0, |mask, kind| mask | bit(kind.number())),
            Opened::Named(..) => 0,
        };
        query.methods = Method::ALL
            .iter()
            .fold(0, |mask, method| mask | bit(method.number()));
        query.max_buffer_bytes = limits.all.min(limits.user);
        query.max_bytes = limits.all;
        query.max_bytes_per_user = limits.user;
        query.used_bytes = self.driver.accounts.used();
        query.used_bytes_by_user = self.payers.used();
        query.buffers = self.driver.accounts.buffers();
        place.write(&query)
    }

    /// The device of the node.
    fn device(&self, operation: Operation) -> Result<&DeviceFile, Refusal> {
        match &self.opened {
            Opened::Session(session) => session.device(),
            Opened::Named(..) => None,
        }
        .ok_or_else(|| right::needs_device(operation))
    }

    fn device_info(&self, argument: usize) -> Result<(), Refusal> {
        let device = self.device(Operation::Device)?;
        let (place, mut told) = read::<wire::Device>(argument)?;
        device.tell(&mut told);
        place.write(&told)
    }

    fn dma_mask(&self, access: Access, argument: usize) -> Result<(), Refusal> {
        let device = self.device(Operation::DmaMask)?;
        access.writable(Operation::DmaMask)?;
        let (_, mask) = read::<wire::DmaMask>(argument)?;
        request::reserved(
            &[u64::from(mask.reserved)],
            core::mem::offset_of!(wire::DmaMask, reserved),
        )?;
        device.set_dma_mask(mask.bits)
    }

    fn config(&self, access: Access, argument: usize) -> Result<(), Refusal> {
        let device = self.device(Operation::Config)?;
        let (place, mut config) = read_with_flags::<wire::Config>(argument, wire::config::WRITE)?;
        request::reserved(
            &[u64::from(config.reserved)],
            core::mem::offset_of!(wire::Config, reserved),
        )?;
        if config.flags & wire::config::WRITE != 0 {
            access.writable(Operation::Config)?;
            return device.config_write(&config);
        }
        device.config_read(&mut config)?;
        place.write(&config)
    }

    fn bar(&self, access: Access, argument: usize) -> Result<(), Refusal> {
        let device = self.device(Operation::Bar)?;
        let session = self.session(Operation::Bar)?;
        access.writable(Operation::Bar)?;
        let (place, mut bar) = read::<wire::Bar>(argument)?;
        request::reserved(
            &[u64::from(bar.reserved)],
            core::mem::offset_of!(wire::Bar, reserved),
        )?;
        let memory = device.bar(bar.index, bar.cache, bar.width)?;
        let done = session.adopt(memory, bar.id)?;
        bar.id = done.id;
        bar.bytes = done.bytes;
        bar.mmap_offset = done.mmap_offset;
        bar.bar_flags = device.bar_flags(bar.index);
        place.write(&bar).inspect_err(|_| {
            let _ = session.free(done.id);
        })
    }

    fn irq(&self, access: Access, argument: usize) -> Result<(), Refusal> {
        let device = self.device(Operation::Irq)?;
        access.writable(Operation::Irq)?;
        let (place, mut irq) = read::<wire::Irq>(argument)?;
        request::reserved(
            &[u64::from(irq.reserved)],
            core::mem::offset_of!(wire::Irq, reserved),
        )?;
        device.irq(&mut irq)?;
        place.write(&irq)
    }

    fn alloc(&self, access: Access, argument: usize) -> Result<(), Refusal> {
        let session = self.session(Operation::Alloc)?;
        access.writable(Operation::Alloc)?;
        if let Some(device) = session.device() {
            device.usable()?;
        }
        let (place, mut alloc) = read_with_flags::<wire::Alloc>(argument, wire::alloc::FOR_DEVICE)?;
        let for_device = alloc.flags & wire::alloc::FOR_DEVICE != 0;
        if for_device {
            self.device(Operation::Alloc)?;
        }
        request::reserved(
            &[alloc.reserved],
            core::mem::offset_of!(wire::Alloc, reserved),
        )?;
        let done = session.allocate(&Wanted {
            bytes: alloc.bytes,
            kind: alloc.kind,
            cache: alloc.cache,
            numa_node: alloc.numa_node,
            id: alloc.id,
            placement: Placement {
                below: alloc.below,
                align_bits: alloc.align_bits,
                boundary_bits: alloc.boundary_bits,
            },
            for_device,
        })?;
        pause(Seam::Untold);
        alloc.id = done.id;
        alloc.bytes = done.bytes;
        alloc.mmap_offset = done.mmap_offset;
        place.write(&alloc).inspect_err(|_| {
            // Nobody knows the id, but another thread may have guessed it and freed it.
            let _ = session.free(done.id);
        })
    }

    fn free(&self, argument: usize) -> Result<(), Refusal> {
        let session = self.session(Operation::Free)?;
        let (_, free) = read::<wire::Free>(argument)?;
        request::reserved(
            &[u64::from(free.reserved)],
            core::mem::offset_of!(wire::Free, reserved),
        )?;
        session.free(free.id)
    }

    /// Which addresses the caller may see. Those of a device behind an IOMMU mean nothing elsewhere: whoever may write to its
    /// node, or to that of a buffer for it, sees them. Without one, a file that may use the device is that of somebody who
    /// may see all of them.
    fn visible(&self, access: Access) -> Visible {
        let visible = Visible::to_caller();
        let dma = match &self.opened {
            Opened::Session(session) => {
                let may = |device: &DeviceFile| access.write && device.usable().is_ok();
                session.device().map_or(visible.dma, may)
            }
            Opened::Named(_, reach) => {
                let may = |device: &Arc<BoundDevice>| {
                    device.there() && (visible.dma || (access.write && device.isolated()))
                };
                reach.device().map_or(visible.dma, may)
            }
        };
        Visible { dma, ..visible }
    }

    fn info(&self, access: Access, argument: usize) -> Result<(), Refusal> {
        let (place, mut info) = read::<wire::Info>(argument)?;
        info.width = 0;
        if let Opened::Session(session) = &self.opened {
            let (buffers, bytes) = session.freed_held();
            info.freed_held = u32::try_from(buffers).unwrap_or(u32::MAX);
            info.freed_held_bytes = bytes;
            if info.id == 0 {
                return place.write(&info);
            }
            info.mmap_offset = session.offset(info.id, Method::Auto)?;
        }
        let (object, reach) = self.reach(info.id)?;
        info.kind = object.kind().number();
        info.cache = object.cache().number();
        info.mappings = object.mappings();
        info.bytes = object.bytes();
        if let Some(buffer) = object.own() {
            info.segments = buffer.segments();
            info.name = buffer.name();
        }
        let visible = self.visible(access);
        info.dma_address = reach
            .address(&object, 0)
            .filter(|_| visible.dma)
            .unwrap_or(wire::ADDRESS_HIDDEN);
        info.traits = reach.traits(&object);
        info.width = object.memory().and_then(Memory::word).unwrap_or(0);
        place.write(&info)
    }

    fn segments(&self, access: Access, argument: usize) -> Result<(), Refusal> {
        let (place, mut segments) =
            read_with_flags::<wire::Segments>(argument, wire::segments::FOR_DEVICE)?;
        let (object, reach) = self.reach(segments.id)?;
        let visible = self.visible(access);
        let (first, count) = (segments.first, segments.count);
        let mut written = 0;
        let rows = usize::try_from(segments.rows).unwrap_or(usize::MAX);
        let mut row = |row: Segment| {
            let to = rows.saturating_add(written as usize * size_of::<Segment>());
            user::write_bytes(to, row.as_bytes())?;
            written += 1;
            Ok(())
        };
        segments.total = match segments.flags & wire::segments::FOR_DEVICE {
            0 => {
                let buffer = object.own().ok_or(Reason::ForeignFrames)?;
                let address = |offset| reach.address(&object, offset);
                buffer.rows(first, count, visible, address, row)?;
                buffer.segments()
            }
            _ => {
                let total = reach.each(&object, first, count, |run| {
                    let address = Some(run.address).filter(|_| visible.dma);
                    row(Segment {
                        offset: run.offset,
                        length: run.length,
                        dma_address: address.unwrap_or(wire::ADDRESS_HIDDEN),
                        physical_address: wire::ADDRESS_HIDDEN,
                    })
                })?;
                total.ok_or(Reason::NotAttached.with(&[u64::from(segments.id)]))?
            }
        };
        segments.count = written;
        place.write(&segments)
    }

    /// What an id means, and the addresses that the node's device has for it by ATTACH.
    fn reach(&self, id: u32) -> Result<(Object, Reach), Refusal> {
        match &self.opened {
            Opened::Session(session) => session.reach(id),
            Opened::Named(_, reach) => Ok((self.object(id)?, reach.clone())),
        }
    }

    fn attach(&self, access: Access, argument: usize) -> Result<(), Refusal> {
        let device = self.device(Operation::Attach)?;
        let session = self.session(Operation::Attach)?;
        access.writable(Operation::Attach)?;
        let (place, mut attach) = read::<wire::Attach>(argument)?;
        request::reserved(
            &[u64::from(attach.reserved)],
            core::mem::offset_of!(wire::Attach, reserved),
        )?;
        let direction = request::direction(attach.direction)?;
        device.usable()?;
        let made = session.attach(attach.id, device, direction)?;
        attach.dma_address = made.address(0).unwrap_or(wire::ADDRESS_HIDDEN);
        attach.segments = u32::try_from(made.runs().len()).unwrap_or(u32::MAX);
        place.write(&attach).inspect_err(|_| {
            let _ = session.detach(attach.id);
        })
    }

    fn detach(&self, access: Access, argument: usize) -> Result<(), Refusal> {
        self.device(Operation::Detach)?;
        let session = self.session(Operation::Detach)?;
        access.writable(Operation::Detach)?;
        let (_, detach) = read::<wire::Detach>(argument)?;
        request::reserved(
            &[u64::from(detach.reserved)],
            core::mem::offset_of!(wire::Detach, reserved),
        )?;
        session.detach(detach.id)
    }

    fn sync(&self, access: Access, argument: usize) -> Result<(), Refusal> {
        let device = match &self.opened {
            Opened::Session(session) => session.device().map(DeviceFile::bound),
            Opened::Named(_, reach) => reach.device(),
        };
        let needs_device = || right::needs_device(Operation::Sync);
        if matches!(self.opened, Opened::Named(..)) && device.is_none() {
            return Err(needs_device());
        }
        access.writable(Operation::Sync)?;
        let known = wire::sync::BEGIN | wire::sync::END;
        let (_, sync) = read_with_flags::<wire::Sync>(argument, known)?;
        if device.is_none() && !matches!(self.object(sync.id), Ok(Object::Foreign(_))) {
            return Err(needs_device());
        }
        let for_cpu = request::phase(sync.flags)?;
        let direction = request::direction(sync.direction)?;
        let (object, reach) = self.reach(sync.id)?;
        place::sync(sync.offset, sync.length, object.bytes())?;
        match &self.opened {
            Opened::Session(session) => session.device().map_or(Ok(()), DeviceFile::usable)?,
            // Whoever may write to the node has the bytes, be the device theirs or not.
            Opened::Named(..) if device.is_some_and(|device| !device.there()) => {
                return Err(Reason::DeviceGone.into());
            }
            Opened::Named(..) => {}
        }
        match (&object, reach.attached()) {
            // Its exporter knows who has it, be it attached here or not.
            (Object::Foreign(foreign), on_device) => {
                on_device.map_or(Ok(()), |on_device| on_device.goes(direction))?;
                object::sync_foreign(foreign, direction, for_cpu)
            }
            // The name is gone, and the addresses with it.
            (_, Some(on_device))
                if matches!(self.opened, Opened::Named(..)) && !on_device.alive() =>
            {
                Err(Reason::NotAttached.with(&[u64::from(sync.id)]))
            }
            (_, Some(on_device)) => on_device.sync((sync.offset, sync.length), direction, for_cpu),
            // The CPU and the device see the same bytes at all times.
            (_, None) if reach.address(&object, 0).is_some() => Ok(()),
            // They did until now.
            (_, None) if device.is_some_and(|device| !device.there()) => {
                Err(Reason::DeviceGone.into())
            }
            (_, None) => Err(Reason::NotAttached.with(&[u64::from(sync.id)])),
        }
    }

    fn offset(&self, argument: usize) -> Result<(), Refusal> {
        let session = self.session(Operation::Offset)?;
        let (place, mut offset) = read::<wire::Offset>(argument)?;
        request::reserved(
            &[offset.reserved],
            core::mem::offset_of!(wire::Offset, reserved),
        )?;
        let method = request::method(offset.method)?;
        offset.mmap_offset = session.offset(offset.id, method)?;
        place.write(&offset)
    }

    fn export(&self, access: Access, argument: usize) -> Result<(), Refusal> {
        access.both(Operation::Export)?;
        let (place, mut export) = read::<wire::Export>(argument)?;
        let object = self.object(export.id)?;
        let descriptor = FileDescriptorReservation::get_unused_fd_flags(bindings::O_CLOEXEC)
            .map_err(|_| Reason::NoDescriptor)?;
        export.fd = descriptor.reserved_fd() as i32;
        // The descriptor means something only when its number has reached the caller.
        place.write(&export)?;
        object.install(descriptor);
        Ok(())
    }

    fn import(&self, access: Access, argument: usize) -> Result<(), Refusal> {
        let session = self.session(Operation::Import)?;
        access.writable(Operation::Import)?;
        let (place, mut import) =
            read_with_flags::<wire::Import>(argument, wire::import::FOR_DEVICE)?;
        let device = match import.flags & wire::import::FOR_DEVICE {
            0 => None,
            _ => Some(self.device(Operation::Import)?),
        };
        let object = Object::from_descriptor(import.fd)?;
        if let Some(device) = device {
            device.usable()?;
        }
        let done = session.import(object, import.id, device)?;
        import.id = done.id;
        import.bytes = done.bytes;
        import.mmap_offset = done.mmap_offset;
        place.write(&import).inspect_err(|_| {
            let _ = session.free(done.id);
        })
    }

    fn probe(&self, access: Access, argument: usize) -> Result<(), Refusal> {
        access.both(Operation::Probe)?;
        let (place, mut probe) =
            read_with_flags::<wire::Probe>(argument, wire::probe::WRITE | wire::probe::RISK)?;
        let object = self.object(probe.id)?;
        let region = match object.memory() {
            Some(Memory::Region(region)) => region,
            Some(Memory::Bar(bar)) => return Err(Reason::BarNotProbed.with(&[bar.bytes()])),
            _ => {
                let kind = object.kind().number();
                return Err(Reason::NotARegion.with(&[u64::from(kind)]));
            }
        };
        let has = |flag| probe.flags & flag != 0;
        let asked = Asked {
            write: has(wire::probe::WRITE),
            risk: has(wire::probe::RISK),
        };
        asked.allowed(region.class(), 0)?;
        // Nobody else uses the region until the probe is done.
        let _alone = match asked.write {
            true => Some(region.gate().alone().map_err(|error| match error {
                NotAlone::Mapped(mappings) => Reason::ProbeWhileMapped.with(&[mappings]),
                NotAlone::Interrupted => Reason::Interrupted.with(&[object.bytes(), 0]),
            })?),
            false => None,
        };
        let (state, sample) = region.probe(asked.write);
        probe.state = state.number();
        probe.ones = sample.ones;
        probe.zeros = sample.zeros;
        probe.others = sample.others;
        place.write(&probe)
    }

    fn region(&self, argument: usize) -> Result<(), Refusal> {
        let (place, mut region) = read::<wire::Region>(argument)?;
        self.driver.regions.lock().tell(&mut region);
        place.write(&region)
    }

    fn last_error(&self, argument: usize) -> Result<(), Refusal> {
        let (place, mut error) =
            read_with_flags::<wire::LastError>(argument, wire::last_error::OF_DMA_BUFS)?;
        if error.flags & wire::last_error::OF_DMA_BUFS == 0 {
            self.refusals.tell(&mut error);
        } else {
            // The refusals of all users are kept together, so each thread is told only its own.
            let at = core::mem::offset_of!(wire::LastError, thread);
            request::reserved(&[u64::from(error.thread)], at)?;
            self.driver.of_dma_bufs.tell(&mut error);
        }
        place.write(&error)
    }

    fn name(&self, access: Access, argument: usize) -> Result<(), Refusal> {
        let session = self.session(Operation::Name)?;
        access.both(Operation::Name)?;
        let (_, name) = read::<wire::Name>(argument)?;
        let (object, kept) = session.kept(name.id)?;
        pause(Seam::Found);
        let buffer = match object {
            Object::Own(buffer) => buffer,
            Object::Foreign(_) => return Err(Reason::ForeignUnnamed.into()),
        };
        if let Memory::Bar(_) = buffer.memory() {
            let kind = buffer.memory().kind().number();
            return Err(Reason::RevocableUnnamed.with(&[u64::from(kind)]));
        }
        let owner = (name.uid, name.gid, name.mode);
        named::name(&self.driver, name.id, buffer, kept, &name.name, owner)
    }

    fn unname(&self, argument: usize) -> Result<(), Refusal> {
        let (_, unname) = read::<wire::Unname>(argument)?;
        named::unname(&self.driver, &unname.name)
    }
}
