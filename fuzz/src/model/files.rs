//! Open files: sessions, nodes of named buffers, dma-bufs; and what they do without an ioctl.

use super::device::{Kept, OfDevice, Reach};
use super::memory::{pieces, written, Buffer, Freed, Reading};
use super::{next, Refused, Result, World};
use crate::answer::{Answer, Said};
use crate::op::{Op, PAGE, WORKERS};
use mapbuf_abi::{Method, Operation, Reason, MAX_IDS, MAX_OFFSET_PAGES};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Threads whose refusals an open file remembers.
const REMEMBERED: usize = 32;

/// What an id stands for.
#[derive(Debug)]
pub struct Entry {
    /// The buffer.
    pub buffer: Rc<Buffer>,
    /// The first pages of its ranges of offsets, by method.
    pub places: BTreeMap<Method, u64>,
    /// Whether another session allocated it, or this one has it twice.
    pub imported: bool,
    /// The addresses that the node's device has for it.
    pub kept: Option<Rc<Kept>>,
}

/// An open allocator node.
#[derive(Debug, Default)]
pub struct Session {
    /// Its ids.
    pub ids: RefCell<BTreeMap<u32, Entry>>,
    /// What was freed and lives on.
    pub freed: Rc<Freed>,
    /// The device of its node, if there is one.
    pub device: Option<OfDevice>,
    /// Guesses of what the driver will choose: the end of all offsets, and the last id.
    pub guess: Cell<(u64, u32)>,
}

/// A place in a session's range of offsets: the buffer, the page in it, and the method.
type Target = (Rc<Buffer>, u64, Method);

impl Session {
    /// The buffer with an id.
    pub fn buffer(&self, id: u32) -> Result<Rc<Buffer>> {
        let ids = self.ids.borrow();
        let entry = ids.get(&id).ok_or(Reason::NoSuchId)?;
        Ok(Rc::clone(&entry.buffer))
    }

    /// What is at a page of the range of offsets.
    pub fn target(&self, page: u64) -> Result<Target> {
        if page == 0 {
            return Err(Reason::NothingAtOffset.into());
        }
        if page < u64::from(MAX_IDS) {
            return Ok((self.buffer(page as u32)?, 0, Method::Auto));
        }
        for entry in self.ids.borrow().values() {
            for (method, first) in &entry.places {
                if (*first..first + entry.buffer.len()).contains(&page) {
                    return Ok((Rc::clone(&entry.buffer), page - first, *method));
                }
            }
        }
        Err(Reason::NothingAtOffset.into())
    }

    /// Whether a range of offsets is free.
    pub fn is_free(&self, first: u64, pages: u64) -> bool {
        let ids = self.ids.borrow();
        let overlaps = ids.values().any(|entry| {
            let mut places = entry.places.values();
            places.any(|other| *other < first + pages && first < other + entry.buffer.len())
        });
        !overlaps && first >= u64::from(MAX_IDS) && first + pages <= MAX_OFFSET_PAGES
    }

    /// A new range of offsets: the one that was seen, if it can be one.
    pub fn place(&self, pages: u64, seen: Option<u64>) -> u64 {
        let (end, last) = self.guess.get();
        let end = end.max(u64::from(MAX_IDS));
        let good = |offset: &u64| {
            let size = PAGE as u64;
            offset % size == 0 && self.is_free(offset / size, pages)
        };
        let first = seen.filter(good).map_or(end, |offset| offset / PAGE as u64);
        self.guess.set((end.max(first + pages), last));
        first
    }

    /// A new id: the one that was seen, if it can be one.
    pub fn new_id(&self, seen: Option<u64>) -> u32 {
        let ids = self.ids.borrow();
        let (end, last) = self.guess.get();
        let mut guess = last + 1;
        while ids.contains_key(&guess) {
            guess += 1;
        }
        let seen = seen.and_then(|id| u32::try_from(id).ok());
        let good = |id: &u32| *id > 0 && *id < MAX_IDS && !ids.contains_key(id);
        let id = seen.filter(good).unwrap_or(guess);
        self.guess.set((end, id));
        id
    }
}

/// What a file is of.
#[derive(Debug)]
pub enum What {
    /// The allocator node.
    Session(Session),
    /// The node of a named buffer.
    Named(Rc<Buffer>),
    /// A dma-buf.
    DmaBuf(Rc<Buffer>),
}

/// An open file, which descriptors in any process may be of.
#[derive(Debug)]
pub struct Description {
    /// What it is of.
    pub what: What,
    /// What the node of a named buffer has to do with a device.
    pub reach: Reach,
    access: u8,
    /// The user who opened it: what is allocated by way of it is theirs to pay.
    pub opener: u32,
    position: Cell<u64>,
    refusals: Cell<u64>,
    last: RefCell<Vec<(u64, Said)>>,
}

impl Description {
    /// A file that was opened with this `O_ACCMODE`.
    pub fn new(what: What, access: u8, opener: u32) -> Rc<Self> {
        Self::reaching(what, Reach::default(), access, opener)
    }

    /// The same, of the node of a buffer that is for a device.
    pub fn reaching(what: What, reach: Reach, access: u8, opener: u32) -> Rc<Self> {
        Rc::new(Self {
            what,
            reach,
            access,
            opener,
            position: Cell::new(0),
            refusals: Cell::new(0),
            last: RefCell::default(),
        })
    }

    /// Whether it may be read.
    pub fn reads(&self) -> bool {
        matches!(self.access, 0 | 2)
    }

    /// Whether it may be written.
    pub fn writes(&self) -> bool {
        // 3 is for ioctls alone (`O_ACCMODE`), and has neither right.
        matches!(self.access, 1 | 2)
    }

    /// Remembers a refusal for a process: in its own place, else in that of the one that is silent the longest.
    pub fn remember(&self, process: u64, reason: Reason, operation: Operation) -> Said {
        let said = Said {
            sequence: next(&self.refusals),
            reason: reason.number(),
            operation: operation.number(),
        };
        let mut last = self.last.borrow_mut();
        last.retain(|(other, _)| *other != process);
        if last.len() >= REMEMBERED {
            let oldest = last.iter().map(|(_, said)| said.sequence).min();
            last.retain(|(_, said)| Some(said.sequence) != oldest);
        }
        last.push((process, said));
        said
    }

    /// What is remembered for a process.
    pub fn said(&self, process: u64) -> Said {
        let last = self.last.borrow();
        let found = last.iter().find(|(other, _)| *other == process);
        found.map_or_else(Said::default, |(_, said)| *said)
    }

    /// The buffer at a byte of the file, and the byte in it.
    fn bytes_at(&self, position: u64) -> Result<(Rc<Buffer>, u64)> {
        let size = PAGE as u64;
        match &self.what {
            What::Session(_) if position / size < u64::from(MAX_IDS) => {
                Err(Reason::OffsetIsId.into())
            }
            What::Session(session) => {
                let (buffer, page, _) = session.target(position / size)?;
                Ok((buffer, page * size + position % size))
            }
            What::Named(buffer) => Ok((Rc::clone(buffer), position)),
            // `alloc_file_pseudo` of `fs/file_table.c` does not set `FMODE_PREAD`.
            What::DmaBuf(_) => Err(Refused::Kernel(libc::ESPIPE)),
        }
    }
}

impl World {
    fn descriptor(&self, worker: u8, place: u8) -> Result<Rc<Description>> {
        let file = self.process(worker).file(place);
        file.cloned().ok_or(Refused::Kernel(libc::EBADF))
    }

    pub(super) fn open(&mut self, worker: u8, to: u8, access: u8) -> Result<Answer> {
        let uid = self.process(worker).uid;
        let file = Description::new(What::Session(Session::default()), access, uid);
        self.process_mut(worker).put(to, file);
        Ok(Answer::done())
    }

    pub(super) fn open_device_node(&mut self, worker: u8, to: u8, access: u8) -> Result<Answer> {
        let uid = self.process(worker).uid;
        let session = Session {
            device: Some(self.open_device(uid)?),
            ..Session::default()
        };
        let file = Description::new(What::Session(session), access, uid);
        self.process_mut(worker).put(to, file);
        Ok(Answer::done())
    }

    pub(super) fn open_named(
        &mut self,
        worker: u8,
        to: u8,
        name: u8,
        access: u8,
    ) -> Result<Answer> {
        let named = self.names.get(&name);
        let named = named.ok_or(Refused::Kernel(libc::ENOENT))?;
        let uid = self.process(worker).uid;
        // The user's gid is the number of his uid, and he is in no other group.
        let bits = match uid {
            0 => 6,
            uid if uid == named.uid => named.mode >> 6,
            uid if uid == named.gid => named.mode >> 3,
            _ => named.mode,
        };
        let wanted = [4, 2, 6].get(usize::from(access)).copied().unwrap_or(6);
        if bits & wanted != wanted {
            return Err(Refused::Kernel(libc::EACCES));
        }
        let what = What::Named(Rc::clone(&named.buffer));
        let file = Description::reaching(what, named.reach(), access, uid);
        self.process_mut(worker).put(to, file);
        Ok(Answer::done())
    }

    pub(super) fn close(&mut self, worker: u8, place: u8) -> Result<Answer> {
        self.descriptor(worker, place)?;
        if let Some(file) = self.process_mut(worker).files.get_mut(usize::from(place)) {
            *file = None;
        }
        Ok(Answer::done())
    }

    pub(super) fn send(&mut self, worker: u8, place: u8, to: u8) -> Result<Answer> {
        let file = self.descriptor(worker, place)?;
        self.mail[usize::from(to) % WORKERS].push_back(file);
        Ok(Answer::done())
    }

    pub(super) fn receive(&mut self, worker: u8, to: u8) -> Result<Answer> {
        let file = self.mail[usize::from(worker) % WORKERS].pop_front();
        let file = file.ok_or(Refused::Kernel(libc::EAGAIN))?;
        self.process_mut(worker).put(to, file);
        Ok(Answer::done())
    }

    pub(super) fn read_at(&mut self, worker: u8, op: &Op) -> Result<Answer> {
        let Op::ReadAt {
            file,
            place,
            skip,
            length,
            nowhere,
        } = *op
        else {
            return Err(Refused::Kernel(libc::EINVAL));
        };
        let position = self.process(worker).place(place) + u64::from(skip);
        let file = self.descriptor(worker, file)?;
        if matches!(file.what, What::DmaBuf(_)) {
            return Err(Refused::Kernel(libc::ESPIPE));
        }
        if !file.reads() {
            return Err(Refused::Kernel(libc::EBADF));
        }
        let (buffer, at) = file.bytes_at(position)?;
        if buffer.gone() && length > 0 {
            return Err(Reason::DeviceGone.into());
        }
        let length = u64::from(length).min(buffer.bytes().saturating_sub(at));
        if nowhere && length > 0 {
            return Err(Reason::BadAddress.into());
        }
        let mut reading = Reading::default();
        for (page, at, piece, _) in pieces(at, length) {
            reading.add(&buffer.page(page), at, piece);
        }
        Ok(Answer::of(&reading.finish()))
    }

    pub(super) fn write_at(&mut self, worker: u8, op: &Op) -> Result<Answer> {
        let Op::WriteAt {
            file,
            place,
            skip,
            length,
            nowhere,
            seed,
        } = *op
        else {
            return Err(Refused::Kernel(libc::EINVAL));
        };
        let position = self.process(worker).place(place) + u64::from(skip);
        let file = self.descriptor(worker, file)?;
        if matches!(file.what, What::DmaBuf(_)) {
            return Err(Refused::Kernel(libc::ESPIPE));
        }
        if !file.writes() {
            return Err(Refused::Kernel(libc::EBADF));
        }
        let (buffer, at) = file.bytes_at(position)?;
        let word = buffer.word();
        if at % word != 0 || u64::from(length) % word != 0 {
            return Err(Reason::UnalignedWrite.into());
        }
        if at >= buffer.bytes() && length > 0 {
            return Err(Reason::WriteBeyondEnd.into());
        }
        if buffer.gone() && length > 0 {
            return Err(Reason::DeviceGone.into());
        }
        let bytes = written(seed, length);
        let length = u64::from(length).min(buffer.bytes().saturating_sub(at));
        if nowhere && length > 0 {
            return Err(Reason::BadAddress.into());
        }
        for (page, at, piece, before) in pieces(at, length) {
            let bytes = bytes.get(before..before + piece).unwrap_or_default();
            buffer.write(page, at, bytes);
        }
        Ok(Answer::of(&[length]))
    }

    pub(super) fn seek(
        &mut self,
        worker: u8,
        file: u8,
        offset: i64,
        whence: i32,
    ) -> Result<Answer> {
        let file = self.descriptor(worker, file)?;
        if !(libc::SEEK_SET..=libc::SEEK_HOLE).contains(&whence) {
            return Err(Refused::Kernel(libc::EINVAL));
        }
        let end = match &file.what {
            What::Session(_) => None,
            What::Named(buffer) => Some(buffer.bytes() as i64),
            // `dma_buf_llseek` of `drivers/dma-buf/dma-buf.c` tells the size and does nothing else.
            What::DmaBuf(buffer) => {
                return match (whence, offset) {
                    (libc::SEEK_END, 0) => Ok(Answer::of(&[buffer.bytes()])),
                    (libc::SEEK_SET, 0) => Ok(Answer::done()),
                    _ => Err(Refused::Kernel(libc::EINVAL)),
                };
            }
        };
        let base = match whence {
            libc::SEEK_SET => Some(0),
            libc::SEEK_CUR => Some(file.position.get() as i64),
            libc::SEEK_END => end,
            _ => None,
        };
        let to = base.and_then(|base| base.checked_add(offset));
        let to = to.filter(|to| *to >= 0 && end.is_none_or(|end| *to <= end));
        let to = to.ok_or(Reason::BadSeek)? as u64;
        file.position.set(to);
        Ok(Answer::of(&[to]))
    }
}
