//! Executes operations.

use crate::device::Device;
use crate::memory::{self, Desk, Rows};
use crate::sys::{self, Errno};
use mapbuf_abi::{
    alloc, import, ioctl, segments, Alloc, Attach, Bar, Detach, DmaMask, Export, Free, Import,
    Info, Irq, Kind, LastError, Name, Offset, Probe, Query, Refused, Region, Segments, Sync,
    Unname, ADDRESS_HIDDEN, ANY_NODE, NO_DESCRIPTOR, SYSTEM_NODE,
};
use mapbuf_fuzz::answer::{digest, pattern, Answer, Said};
use mapbuf_fuzz::model::file_place;
use mapbuf_fuzz::model::ioctls::FOREIGN;
use mapbuf_fuzz::model::irq::{NO_EVENT, NO_EVENTFD};
use mapbuf_fuzz::model::memory::pieces;
use mapbuf_fuzz::op::{self, Damage, Id, Op, Place, EVENTS, FILES, PAGE, VARS, WORKERS};
use std::cell::Cell;
use std::mem::offset_of;

/// What all processes have from the first.
#[derive(Clone, Copy)]
pub struct Mail {
    /// Where descriptors are sent to, and taken from.
    pub sockets: [[i32; 2]; WORKERS],
    /// A dma-buf of another driver, or -1.
    pub foreign: i32,
    /// Eventfds.
    pub events: [i32; EVENTS],
}

/// A process that works: where the things are that operations name.
pub struct Executor {
    worker: u8,
    mail: Mail,
    files: [i32; FILES],
    ids: [u32; VARS],
    offsets: [u64; VARS],
    desk: Desk,
    rows: Rows,
    /// The physical runs of the buffer that was allocated last, in pages.
    pub runs: Vec<u32>,
    /// The reason in the struct of the last ioctl that was refused, where it has one.
    told: Cell<Option<u32>>,
}

type Result = std::result::Result<Answer, Errno>;

impl Executor {
    /// A process that has nothing.
    pub fn new(worker: u8, mail: Mail) -> std::result::Result<Self, Errno> {
        Ok(Self {
            worker,
            mail,
            files: [-1; FILES],
            ids: [0; VARS],
            offsets: [0; VARS],
            desk: Desk::new()?,
            rows: Rows::new(),
            runs: Vec::new(),
            told: Cell::new(None),
        })
    }

    /// Does what the operation says. Forking and dying are the caller's.
    pub fn execute(&mut self, op: &Op) -> Answer {
        self.runs.clear();
        self.told.set(None);
        match self.result(op) {
            Ok(answer) => answer,
            Err(errno) => {
                let told = self.told.take();
                let mut said = file_place(op).map_or_else(Said::default, |file| self.said(file));
                // The model foretells one reason for both.
                said.reason = told.unwrap_or(said.reason);
                Answer {
                    errno,
                    said,
                    ..Answer::default()
                }
            }
        }
    }

    /// Writes zeros to a file, from a byte on.
    pub fn clear(&self, file: u8, position: u64, bytes: u64) -> std::result::Result<usize, Errno> {
        sys::write_at(self.fd(file), &vec![0; bytes as usize], position, false)
    }

    fn fd(&self, place: u8) -> i32 {
        match place {
            FOREIGN => self.mail.foreign,
            place => self.files.get(usize::from(place)).copied().unwrap_or(-1),
        }
    }

    fn put(&mut self, place: u8, fd: i32) {
        if let Some(to) = self.files.get_mut(usize::from(place)) {
            let before = std::mem::replace(to, fd);
            if before >= 0 {
                sys::close(before);
            }
        }
    }

    fn id(&self, id: Id) -> u32 {
        match id {
            Id::Var(var) => self.ids.get(usize::from(var)).copied().unwrap_or(0),
            Id::Number(number) => number,
        }
    }

    fn place(&self, place: Place) -> u64 {
        match place {
            Place::Id(var) => u64::from(self.id(Id::Var(var))) * PAGE as u64,
            Place::Var(var, pages) => {
                let offset = self.offsets.get(usize::from(var)).copied().unwrap_or(0);
                offset + u64::from(pages) * PAGE as u64
            }
            Place::Bytes(bytes) => bytes,
        }
    }

    fn set_var(&mut self, var: u8, id: u32, offset: u64) {
        let var = usize::from(var);
        if let (Some(to), Some(place)) = (self.ids.get_mut(var), self.offsets.get_mut(var)) {
            (*to, *place) = (id, offset);
        }
    }

    /// What the driver says of its last refusal on this file.
    fn said(&self, file: u8) -> Said {
        let mut last = LastError::default();
        match self.call(file, ioctl::LAST_ERROR, &mut last, Damage::No, None) {
            Ok(()) => Said {
                sequence: last.sequence,
                reason: last.reason,
                operation: last.operation,
            },
            Err(_) => Said::default(),
        }
    }

    /// An ioctl with a struct that has this wrong with it; `reserved`: where it has a reserved field.
    fn call<T: Copy>(
        &self,
        file: u8,
        number: u32,
        value: &mut T,
        damage: Damage,
        reserved: Option<usize>,
    ) -> std::result::Result<(), Errno> {
        const MORE: usize = 64;
        let (fd, size) = (self.fd(file), size_of::<T>());
        let mut bytes = [0; 256];
        bytes[..size].copy_from_slice(memory::bytes_of(value));
        let given = match damage {
            Damage::Short => size - size_of::<Refused>() - 8,
            Damage::TooLong => PAGE + 8,
            Damage::Longer | Damage::Newer => size + MORE,
            _ => size,
        };
        bytes[..4].copy_from_slice(&(given as u32).to_ne_bytes());
        match (damage, reserved) {
            (Damage::Flags, _) => bytes[7] |= 0x80,
            (Damage::Reserved, Some(at)) => bytes[at] = 1,
            (Damage::Newer, _) => bytes[size + MORE - 1] = 1,
            _ => {}
        }
        let at = match damage {
            Damage::Edge => Desk::ROOM - size,
            Damage::Torn => Desk::ROOM - size + 4,
            _ => 0,
        };
        self.desk.write(at, &bytes[..size + MORE]);
        let errno = match damage {
            Damage::Nowhere => self.desk.ioctl_nowhere(fd, number),
            Damage::ReadOnly => self.desk.ioctl_read_only(fd, number, at),
            _ => self.desk.ioctl(fd, number, at),
        };
        if errno != 0 {
            // Where there is no room for it, or it cannot be written, LAST_ERROR alone says why.
            let told = !matches!(
                damage,
                Damage::Nowhere | Damage::ReadOnly | Damage::Torn | Damage::Short | Damage::TooLong
            );
            if told && !matches!(errno, libc::EBADF | libc::ENOTTY) {
                self.desk.read(at, &mut bytes[..size]);
                let reason = &bytes[size - size_of::<Refused>()..][..4];
                self.told
                    .set(reason.try_into().map(u32::from_ne_bytes).ok());
            }
            return Err(errno);
        }
        self.desk.read(at, &mut bytes[..size]);
        memory::set_bytes(value, &bytes[..size]);
        Ok(())
    }

    fn result(&mut self, op: &Op) -> Result {
        let only = |errno: Errno| match errno {
            0 => Ok(Answer::done()),
            errno => Err(errno),
        };
        match *op {
            Op::Open { to, access } => {
                let fd = sys::open(SYSTEM_NODE, access)?;
                self.put(to, fd);
                Ok(Answer::done())
            }
            Op::OpenDevice { to, access } => {
                let device = Device::nvme().ok_or(libc::ENXIO)?;
                let fd = device.open(access)?;
                self.put(to, fd);
                Ok(Answer::done())
            }
            Op::Unbind {} => {
                let device = Device::nvme().ok_or(libc::ENXIO)?;
                device.unbind().map(|()| Answer::done())
            }
            Op::Bind {} => {
                let device = Device::nvme().ok_or(libc::ENXIO)?;
                device.bind().map(|()| Answer::done())
            }
            Op::Count { event } => {
                let event = self.mail.events.get(usize::from(event));
                let count = sys::count(event.copied().unwrap_or(-1))?;
                Ok(Answer::of(&[count]))
            }
            Op::OpenNamed { to, name, access } => {
                let fd = sys::open(&op::node(name), access)?;
                self.put(to, fd);
                Ok(Answer::done())
            }
            Op::Close { file } => {
                only(sys::close(self.fd(file)))?;
                if let Some(to) = self.files.get_mut(usize::from(file)) {
                    *to = -1;
                }
                Ok(Answer::done())
            }
            Op::Send { file, worker } => {
                let mail = self.mail.sockets[usize::from(worker) % WORKERS];
                only(sys::send(mail[0], self.fd(file)))
            }
            Op::Receive { to } => {
                let mail = self.mail.sockets[usize::from(self.worker) % WORKERS];
                let fd = sys::receive(mail[1])?;
                self.put(to, fd);
                Ok(Answer::done())
            }
            Op::ReadAt {
                file,
                place,
                skip,
                length,
                nowhere,
            } => {
                let position = self.place(place) + u64::from(skip);
                let mut bytes = vec![0; length as usize];
                let count = sys::read_at(self.fd(file), &mut bytes, position, nowhere)?;
                bytes.truncate(count);
                Ok(Answer::of(&[count as u64, digest(&bytes)]))
            }
            Op::WriteAt {
                file,
                place,
                skip,
                length,
                nowhere,
                seed,
            } => {
                let position = self.place(place) + u64::from(skip);
                let bytes = pattern(seed, length as usize);
                let count = sys::write_at(self.fd(file), &bytes, position, nowhere)?;
                Ok(Answer::of(&[count as u64]))
            }
            Op::Seek {
                file,
                offset,
                whence,
            } => Ok(Answer::of(&[sys::seek(self.fd(file), offset, whence)?])),
            Op::Map {
                file,
                at,
                pages,
                place,
                prot,
                sharing,
                populate,
            } => {
                let populate = if populate { libc::MAP_POPULATE } else { 0 };
                let flags = i32::from(sharing) | populate;
                let offset = self.place(place);
                only(memory::map(self.fd(file), at, pages, prot, flags, offset))
            }
            Op::Unmap { at, pages } => only(memory::unmap(at, pages)),
            Op::Protect { at, pages, prot } => only(memory::protect(at, pages, prot)),
            Op::Move { at, pages, to } => only(memory::relocate(at, pages, to)),
            Op::Resize { at, pages, new } => only(memory::resize(at, pages, new)),
            Op::Forget { at, pages } => only(memory::forget(at, pages)),
            Op::Load { at, skip, length } => Ok(load(at, skip, length)),
            Op::Store {
                at,
                skip,
                length,
                seed,
            } => Ok(store(at, skip, &pattern(seed, length as usize))),
            Op::DmaBufSync { file, flags } => {
                // DMA_BUF_IOCTL_SYNC of include/uapi/linux/dma-buf.h.
                self.desk.write(0, &flags.to_ne_bytes());
                only(self.desk.ioctl(self.fd(file), 0x4008_6200, 0))
            }
            Op::Unknown { file, number } => {
                self.desk.write(0, &[0; 128]);
                only(self.desk.ioctl(self.fd(file), number, 0))
            }
            Op::Fork {} | Op::Exit {} | Op::Kill {} => Ok(Answer::done()),
            _ => self.ioctl(op),
        }
    }

    fn ioctl(&mut self, op: &Op) -> Result {
        match *op {
            Op::Query { file, damage } => {
                let mut query = Query::default();
                self.call(file, ioctl::QUERY, &mut query, damage, None)?;
                Ok(Answer::of(&[
                    query.page_size.into(),
                    query.kinds.into(),
                    query.methods.into(),
                    query.max_buffer_bytes,
                    query.max_bytes,
                    query.max_bytes_per_user,
                    query.used_bytes,
                    query.used_bytes_by_user,
                    query.buffers,
                ]))
            }
            Op::Alloc {
                file,
                to,
                kind,
                cache,
                bytes,
                node,
                id,
                damage,
            } => {
                let alloc = Alloc {
                    bytes,
                    kind,
                    cache,
                    numa_node: node,
                    id: self.id(id),
                    ..Alloc::default()
                };
                self.allocate(file, to, alloc, damage)
            }
            Op::AllocDma {
                file,
                to,
                kind,
                bytes,
                device,
                below,
                align,
                boundary,
                damage,
            } => {
                let alloc = Alloc {
                    flags: if device { alloc::FOR_DEVICE } else { 0 },
                    bytes,
                    kind,
                    numa_node: ANY_NODE,
                    below,
                    align_bits: align,
                    boundary_bits: boundary,
                    ..Alloc::default()
                };
                self.allocate(file, to, alloc, damage)
            }
            Op::Attach {
                file,
                id,
                direction,
                damage,
            } => {
                let mut attach = Attach {
                    id: self.id(id),
                    direction,
                    ..Attach::default()
                };
                let reserved = Some(offset_of!(Attach, reserved));
                self.call(file, ioctl::ATTACH, &mut attach, damage, reserved)?;
                Ok(Answer::done())
            }
            Op::Detach { file, id, damage } => {
                let mut detach = Detach {
                    id: self.id(id),
                    ..Detach::default()
                };
                let reserved = Some(offset_of!(Detach, reserved));
                self.call(file, ioctl::DETACH, &mut detach, damage, reserved)?;
                Ok(Answer::done())
            }
            Op::Sync {
                file,
                id,
                phase,
                direction,
                offset,
                length,
                damage,
            } => {
                let mut sync = Sync {
                    flags: phase,
                    id: self.id(id),
                    direction,
                    offset,
                    length,
                    ..Sync::default()
                };
                self.call(file, ioctl::SYNC, &mut sync, damage, None)?;
                Ok(Answer::done())
            }
            Op::Irq {
                file,
                kind,
                index,
                action,
                event,
                vectors,
                damage,
            } => {
                let fd = match event {
                    NO_EVENT => NO_DESCRIPTOR,
                    NO_EVENTFD => 0,
                    event => {
                        let event = self.mail.events.get(usize::from(event));
                        event.copied().unwrap_or(-77)
                    }
                };
                let mut irq = Irq {
                    kind,
                    index,
                    action,
                    fd,
                    vectors,
                    ..Irq::default()
                };
                let reserved = Some(offset_of!(Irq, reserved));
                self.call(file, ioctl::IRQ, &mut irq, damage, reserved)?;
                Ok(Answer::of(&[irq.count, irq.vectors.into()]))
            }
            Op::Bar {
                file,
                to,
                index,
                cache,
                width,
                id,
                damage,
            } => {
                let mut bar = Bar {
                    index,
                    cache,
                    width,
                    id: self.id(id),
                    ..Bar::default()
                };
                let reserved = Some(offset_of!(Bar, reserved));
                self.call(file, ioctl::BAR, &mut bar, damage, reserved)?;
                self.set_var(to, bar.id, bar.mmap_offset);
                let values = [bar.id.into(), bar.bytes, bar.mmap_offset];
                Ok(Answer::of(&values))
            }
            Op::DmaMask { file, bits, damage } => {
                let mut mask = DmaMask {
                    bits,
                    ..DmaMask::default()
                };
                let reserved = Some(offset_of!(DmaMask, reserved));
                self.call(file, ioctl::DMA_MASK, &mut mask, damage, reserved)?;
                Ok(Answer::done())
            }
            Op::Free { file, id, damage } => {
                let mut free = Free {
                    id: self.id(id),
                    ..Free::default()
                };
                let reserved = Some(offset_of!(Free, reserved));
                self.call(file, ioctl::FREE, &mut free, damage, reserved)?;
                Ok(Answer::done())
            }
            Op::Info { file, id, damage } => {
                let mut info = Info {
                    id: self.id(id),
                    ..Info::default()
                };
                self.call(file, ioctl::INFO, &mut info, damage, None)?;
                // Of the session alone it says no address.
                let shown = info.bytes > 0 && info.dma_address != ADDRESS_HIDDEN;
                Ok(Answer::of(&[
                    info.kind.into(),
                    info.cache.into(),
                    info.segments.into(),
                    info.mappings.into(),
                    info.freed_held.into(),
                    info.bytes,
                    info.freed_held_bytes,
                    info.mmap_offset,
                    digest(&info.name),
                    u64::from(info.traits) | u64::from(shown) << 32,
                ]))
            }
            Op::Segments {
                file,
                id,
                first,
                count,
                device,
                damage,
            } => {
                let mut segments = Segments {
                    flags: if device { segments::FOR_DEVICE } else { 0 },
                    id: self.id(id),
                    first,
                    count,
                    rows: self.rows.address(),
                    ..Segments::default()
                };
                self.call(file, ioctl::SEGMENTS, &mut segments, damage, None)?;
                let [hash, physical, dma] = self.rows.digest(segments.count);
                let count = segments.count.into();
                Ok(Answer::of(&[
                    count,
                    segments.total.into(),
                    hash,
                    physical,
                    dma,
                ]))
            }
            Op::Offset {
                file,
                to,
                id,
                method,
                damage,
            } => {
                let mut offset = Offset {
                    id: self.id(id),
                    method,
                    ..Offset::default()
                };
                let reserved = Some(offset_of!(Offset, reserved));
                self.call(file, ioctl::OFFSET, &mut offset, damage, reserved)?;
                if let Some(var) = self.offsets.get_mut(usize::from(to)) {
                    *var = offset.mmap_offset;
                }
                Ok(Answer::of(&[offset.mmap_offset]))
            }
            Op::Export {
                file,
                to,
                id,
                starved,
                damage,
            } => {
                let mut export = Export {
                    id: self.id(id),
                    ..Export::default()
                };
                let mut call = || self.call(file, ioctl::EXPORT, &mut export, damage, None);
                if starved {
                    sys::without_descriptors(call)?;
                } else {
                    call()?;
                }
                self.put(to, export.fd);
                Ok(Answer::done())
            }
            Op::Import {
                file,
                to,
                buffer,
                id,
                device,
                damage,
            } => {
                let mut import = Import {
                    flags: if device { import::FOR_DEVICE } else { 0 },
                    fd: self.fd(buffer),
                    id: self.id(id),
                    ..Import::default()
                };
                self.call(file, ioctl::IMPORT, &mut import, damage, None)?;
                self.set_var(to, import.id, import.mmap_offset);
                let values = [import.id.into(), import.bytes, import.mmap_offset];
                Ok(Answer::of(&values))
            }
            Op::Name {
                file,
                id,
                name,
                mode,
                uid,
                gid,
                damage,
            } => {
                let mut name = Name {
                    size: 0,
                    flags: 0,
                    id: self.id(id),
                    mode,
                    uid,
                    gid,
                    name: op::name(name),
                    refused: Refused::default(),
                };
                self.call(file, ioctl::NAME, &mut name, damage, None)?;
                Ok(Answer::done())
            }
            Op::Unname { file, name, damage } => {
                let mut unname = Unname {
                    size: 0,
                    flags: 0,
                    name: op::name(name),
                    refused: Refused::default(),
                };
                self.call(file, ioctl::UNNAME, &mut unname, damage, None)?;
                Ok(Answer::done())
            }
            Op::Probe {
                file,
                id,
                flags,
                damage,
            } => {
                let mut probe = Probe {
                    flags,
                    id: self.id(id),
                    ..Probe::default()
                };
                self.call(file, ioctl::PROBE, &mut probe, damage, None)?;
                Ok(Answer::of(&[
                    probe.state.into(),
                    probe.ones,
                    probe.zeros,
                    probe.others,
                ]))
            }
            Op::Region {
                file,
                index,
                damage,
            } => {
                let mut region = Region {
                    index,
                    ..no_region()
                };
                self.call(file, ioctl::REGION, &mut region, damage, None)?;
                Ok(Answer::of(&[
                    region.count.into(),
                    region.bytes,
                    region.start,
                    region.class.into(),
                    region.cache.into(),
                    region.width.into(),
                    region.state.into(),
                    region.reason.into(),
                    digest(&region.name),
                ]))
            }
            Op::LastError { file, damage } => {
                let mut last = LastError::default();
                self.call(file, ioctl::LAST_ERROR, &mut last, damage, None)?;
                let values = [last.sequence, last.reason.into(), last.operation.into()];
                Ok(Answer::of(&values))
            }
            _ => Err(libc::ENOSYS),
        }
    }

    /// Allocates a buffer, and notes its id, its offset, and its runs where these are scattered.
    fn allocate(
        &mut self,
        file: u8,
        to: u8,
        mut alloc: Alloc,
        damage: Damage,
    ) -> std::result::Result<Answer, Errno> {
        let reserved = Some(offset_of!(Alloc, reserved));
        self.call(file, ioctl::ALLOC, &mut alloc, damage, reserved)?;
        self.set_var(to, alloc.id, alloc.mmap_offset);
        if [Kind::Vmalloc.number(), Kind::Pages.number()].contains(&alloc.kind) {
            self.learn_runs(file, alloc.id)?;
        }
        let values = [alloc.id.into(), alloc.bytes, alloc.mmap_offset];
        Ok(Answer::of(&values))
    }

    /// Asks into how many physical runs a buffer fell.
    fn learn_runs(&mut self, file: u8, id: u32) -> std::result::Result<(), Errno> {
        let mut segments = Segments {
            id,
            count: Rows::COUNT as u32,
            rows: self.rows.address(),
            ..Segments::default()
        };
        self.call(file, ioctl::SEGMENTS, &mut segments, Damage::No, None)?;
        let rows = self.rows.get(segments.count);
        self.runs
            .extend(rows.map(|row| (row.length / PAGE as u64) as u32));
        Ok(())
    }
}

fn no_region() -> Region {
    Region {
        size: 0,
        flags: 0,
        index: 0,
        count: 0,
        bytes: 0,
        start: 0,
        class: 0,
        cache: 0,
        width: 0,
        state: 0,
        reason: 0,
        errno: 0,
        operands: [0; mapbuf_abi::OPERANDS],
        name: [0; mapbuf_abi::NAME_LEN],
        refused: Refused::default(),
    }
}

fn load(at: u32, skip: u32, length: u32) -> Answer {
    let start = u64::from(at) * PAGE as u64 + u64::from(skip);
    let mut bytes = vec![0; length as usize];
    let mut done = 0;
    let mut signal = 0;
    for (page, at, piece, before) in pieces(start, length.into()) {
        if let Some(to) = bytes.get_mut(before..before + piece) {
            signal = memory::load(page, at, to);
        }
        if signal != 0 {
            break;
        }
        done = before + piece;
    }
    bytes.truncate(done);
    Answer {
        signal,
        ..Answer::of(&[done as u64, digest(&bytes)])
    }
}

fn store(at: u32, skip: u32, bytes: &[u8]) -> Answer {
    let start = u64::from(at) * PAGE as u64 + u64::from(skip);
    for (page, at, piece, before) in pieces(start, bytes.len() as u64) {
        let from = bytes.get(before..before + piece).unwrap_or_default();
        let signal = memory::store(page, at, from);
        if signal != 0 {
            return Answer {
                signal,
                ..Answer::of(&[before as u64])
            };
        }
    }
    Answer::of(&[bytes.len() as u64])
}
