//! The model: what every operation must answer with.
//!
//! [`World::step`] takes one step and says what the kernel's answer must be. With the answer in hand it also learns
//! what cannot be known beforehand (see the crate's documentation); without one it guesses, which is good enough for
//! making programs.

pub mod declared;
pub mod device;
mod files;
pub mod ioctls;
pub mod irq;
pub mod mapping;
pub mod memory;
mod region;
pub mod space;

pub use files::{Description, Session, What};

use crate::answer::{Answer, Said};
use crate::op::{self, Id, Op, Place, Step, EVENTS, FILES, PAGE, USER, VARS, WORKERS};
use declared::{BAR_PAGES, REGIONS};
use device::{Bound, Kept, Reach};
use mapbuf_abi::{Operation, Reason};
use memory::{Accounts, Buffer, Page, Reading};
use space::Space;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// What the kernel answered, for what must be learned.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The answer.
    pub answer: &'a Answer,
    /// The physical runs of a buffer that was allocated, in pages.
    pub runs: &'a [u64],
}

/// Why something is refused.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Refused {
    /// By the driver, for this reason.
    Driver(Reason),
    /// By the kernel's core, which gives no reason.
    Kernel(i32),
}

impl From<Reason> for Refused {
    fn from(reason: Reason) -> Self {
        Self::Driver(reason)
    }
}

type Result<T> = std::result::Result<T, Refused>;

/// A process.
#[derive(Clone, Debug)]
pub struct Process {
    /// Tells it from all others.
    number: u64,
    /// Whose it is; 0 has all privileges, others have none.
    pub uid: u32,
    /// Its descriptors.
    pub files: [Option<Rc<Description>>; FILES],
    /// Its variables: ids,
    pub ids: [u32; VARS],
    /// and `mmap` offsets in bytes.
    pub offsets: [u64; VARS],
    /// What it has mapped.
    pub space: Space,
}

impl Process {
    fn new(number: u64, uid: u32) -> Self {
        Self {
            number,
            uid,
            files: Default::default(),
            ids: [0; VARS],
            offsets: [0; VARS],
            space: Space::default(),
        }
    }

    /// The file in a place.
    pub fn file(&self, place: u8) -> Option<&Rc<Description>> {
        self.files.get(usize::from(place))?.as_ref()
    }

    fn put(&mut self, place: u8, file: Rc<Description>) {
        if let Some(to) = self.files.get_mut(usize::from(place)) {
            *to = Some(file);
        }
    }

    /// What an id stands for.
    pub fn id(&self, id: Id) -> u32 {
        match id {
            Id::Var(var) => self.ids.get(usize::from(var)).copied().unwrap_or(0),
            Id::Number(number) => number,
        }
    }

    /// The byte that a place stands for.
    pub fn place(&self, place: Place) -> u64 {
        match place {
            Place::Id(var) => u64::from(self.id(Id::Var(var))) * PAGE as u64,
            Place::Var(var, pages) => {
                let offset = self.offsets.get(usize::from(var)).copied().unwrap_or(0);
                offset + u64::from(pages) * PAGE as u64
            }
            Place::Bytes(bytes) => bytes,
        }
    }

    fn admin(&self) -> bool {
        self.uid == 0
    }
}

/// A name, and whose it is.
#[derive(Debug)]
struct Named {
    buffer: Rc<Buffer>,
    /// The addresses that some device has for it.
    kept: Option<Rc<Kept>>,
    mode: u32,
    uid: u32,
    gid: u32,
}

impl Named {
    /// The device that it is for.
    fn device(&self) -> Option<&Rc<Bound>> {
        match &self.kept {
            Some(kept) => Some(kept.bound()),
            None => self.buffer.device.as_ref(),
        }
    }

    /// What it has to do with a device, for somebody who opens it.
    fn reach(&self) -> Reach {
        let kept = self.kept.as_ref();
        Reach {
            device: self.device().cloned(),
            attached: kept.map(|kept| Rc::clone(kept.attached())),
        }
    }
}

/// All processes, files and buffers.
#[derive(Debug)]
pub struct World {
    workers: [Vec<Process>; WORKERS],
    names: BTreeMap<u8, Named>,
    mail: [VecDeque<Rc<Description>>; WORKERS],
    accounts: Rc<Accounts>,
    device: Option<Rc<Bound>>,
    /// The device's own memory.
    bar: Rc<RefCell<Vec<Page>>>,
    /// What the eventfds have counted.
    events: [Rc<Cell<u64>>; EVENTS],
    buffers: u64,
    processes: u64,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

fn uid_of(worker: usize) -> u32 {
    if worker + 1 == WORKERS {
        USER
    } else {
        0
    }
}

impl World {
    /// A world with nothing in it but a process for each worker, the regions, and the device, which was bound just now.
    pub fn new() -> Self {
        let process = |worker: usize| vec![Process::new(worker as u64, uid_of(worker))];
        let accounts = Rc::default();
        let bar = Rc::new(RefCell::new(vec![None; BAR_PAGES as usize]));
        Self {
            workers: std::array::from_fn(process),
            names: region::named(&accounts),
            mail: Default::default(),
            accounts,
            device: Some(Bound::new(Rc::clone(&bar))),
            bar,
            events: Default::default(),
            buffers: REGIONS.len() as u64,
            processes: WORKERS as u64,
        }
    }

    /// The process of a worker that works now.
    pub fn process(&self, worker: u8) -> &Process {
        let stack = &self.workers[usize::from(worker) % WORKERS];
        stack.last().expect("a worker always has a process")
    }

    fn process_mut(&mut self, worker: u8) -> &mut Process {
        let stack = &mut self.workers[usize::from(worker) % WORKERS];
        stack.last_mut().expect("a worker always has a process")
    }

    /// How many processes of a worker wait for a child.
    pub fn depth(&self, worker: u8) -> usize {
        self.workers[usize::from(worker) % WORKERS].len() - 1
    }

    /// The numbers of all names that there are.
    pub fn names(&self) -> impl Iterator<Item = u8> + '_ {
        self.names.keys().copied()
    }

    /// How many descriptors wait for a worker.
    pub fn waiting(&self, worker: u8) -> usize {
        self.mail[usize::from(worker) % WORKERS].len()
    }

    /// What is charged now.
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// How many mappings there are of a buffer.
    fn mappings(&self, buffer: &Rc<Buffer>) -> u64 {
        let processes = self.workers.iter().flatten();
        let vmas = processes.flat_map(|process| process.space.vmas());
        vmas.filter(|vma| Rc::ptr_eq(&vma.buffer, buffer)).count() as u64
    }

    /// Takes a step: what it must answer with.
    pub fn step(&mut self, step: &Step, seen: Option<Seen<'_>>) -> Answer {
        let worker = step.worker;
        let process = self.process(worker).number;
        let file = self.file_of(worker, &step.op);
        match self.answer(worker, &step.op, seen) {
            Ok(answer) => answer,
            Err(Refused::Driver(reason)) => {
                let said = match &file {
                    Some(file) => file.remember(process, reason, operation(&step.op)),
                    None => Said::default(),
                };
                Answer {
                    errno: reason.errno(),
                    said,
                    ..Answer::default()
                }
            }
            Err(Refused::Kernel(errno)) => Answer {
                errno,
                said: file.map_or_else(Said::default, |file| file.said(process)),
                ..Answer::default()
            },
        }
    }

    /// The file that an operation is about, if it is one of ours that remembers refusals.
    fn file_of(&self, worker: u8, op: &Op) -> Option<Rc<Description>> {
        let place = file_place(op)?;
        let file = self.process(worker).file(place)?;
        Some(Rc::clone(file)).filter(|file| !matches!(file.what, What::DmaBuf(_)))
    }

    fn answer(&mut self, worker: u8, op: &Op, seen: Option<Seen<'_>>) -> Result<Answer> {
        let errno = |errno: i32| match errno {
            0 => Ok(Answer::done()),
            errno => Err(Refused::Kernel(errno)),
        };
        let end = |at: u32, pages: u32| u64::from(at) + u64::from(pages);
        match *op {
            Op::Open { to, access } => self.open(worker, to, access),
            Op::OpenDevice { to, access } => self.open_device_node(worker, to, access),
            Op::OpenNamed { to, name, access } => self.open_named(worker, to, name, access),
            Op::Close { file } => self.close(worker, file),
            Op::Send { file, worker: to } => self.send(worker, file, to),
            Op::Receive { to } => self.receive(worker, to),
            Op::Unbind {} => self.unbind(worker),
            Op::Bind {} => self.bind(worker),
            Op::Count { event } => self.count(event),
            Op::ReadAt { .. } => self.read_at(worker, op),
            Op::WriteAt { .. } => self.write_at(worker, op),
            Op::Seek {
                file,
                offset,
                whence,
            } => self.seek(worker, file, offset, whence),
            Op::Map { .. } => self.map(worker, op, seen),
            Op::Unmap { pages: 0, .. } => Err(Refused::Kernel(libc::EINVAL)),
            Op::Unmap { at, pages } => {
                let space = &mut self.process_mut(worker).space;
                space.unmap(at.into(), end(at, pages));
                Ok(Answer::done())
            }
            Op::Protect { at, pages, prot } => {
                let space = &mut self.process_mut(worker).space;
                errno(space.protect(at.into(), end(at, pages), prot))
            }
            Op::Move { at, pages, to } => {
                let space = &mut self.process_mut(worker).space;
                errno(space.relocate(at.into(), pages.into(), to.into()))
            }
            Op::Resize { at, pages, new } => {
                let space = &mut self.process_mut(worker).space;
                errno(space.resize(at.into(), pages.into(), new.into()))
            }
            Op::Forget { at, pages } => {
                let space = &mut self.process_mut(worker).space;
                errno(space.forget(at.into(), end(at, pages)))
            }
            Op::Load { at, skip, length } => Ok(self.load(worker, at, skip, length)),
            Op::Store {
                at,
                skip,
                length,
                seed,
            } => Ok(self.store(worker, (at, skip), length, seed)),
            Op::Fork {} => {
                let child = Process {
                    number: self.processes,
                    ..self.process(worker).clone()
                };
                self.processes += 1;
                self.workers[usize::from(worker) % WORKERS].push(child);
                Ok(Answer::done())
            }
            Op::Exit {} | Op::Kill {} => {
                let number = self.processes;
                self.processes += 1;
                let stack = &mut self.workers[usize::from(worker) % WORKERS];
                stack.pop();
                if stack.is_empty() {
                    stack.push(Process::new(number, uid_of(worker.into())));
                }
                Ok(Answer::done())
            }
            _ => self.ioctl(worker, op, seen),
        }
    }

    /// Reads bytes of mapped memory up to the first page that cannot be read.
    fn load(&self, worker: u8, at: u32, skip: u32, length: u32) -> Answer {
        let space = &self.process(worker).space;
        let start = u64::from(at) * PAGE as u64 + u64::from(skip);
        let mut reading = Reading::default();
        let mut signal = 0;
        for (page, at, piece, _) in memory::pieces(start, length.into()) {
            match space.load(page) {
                Ok(page) => reading.add(&page, at, piece),
                Err(raised) => {
                    signal = raised;
                    break;
                }
            }
        }
        Answer {
            signal,
            ..Answer::of(&reading.finish())
        }
    }

    fn store(&mut self, worker: u8, (at, skip): (u32, u32), length: u32, seed: u32) -> Answer {
        let space = &mut self.process_mut(worker).space;
        let start = u64::from(at) * PAGE as u64 + u64::from(skip);
        let bytes = memory::written(seed, length);
        for (page, at, piece, before) in memory::pieces(start, length.into()) {
            let bytes = bytes.get(before..before + piece).unwrap_or_default();
            if let Err(signal) = space.store(page, at, bytes) {
                return Answer {
                    signal,
                    ..Answer::of(&[before as u64])
                };
            }
        }
        Answer::of(&[length.into()])
    }
}

/// The place of the file that an operation is about.
pub fn file_place(op: &Op) -> Option<u8> {
    match *op {
        Op::Query { file, .. }
        | Op::Alloc { file, .. }
        | Op::AllocDma { file, .. }
        | Op::Attach { file, .. }
        | Op::Detach { file, .. }
        | Op::Sync { file, .. }
        | Op::DmaMask { file, .. }
        | Op::Irq { file, .. }
        | Op::Bar { file, .. }
        | Op::Free { file, .. }
        | Op::Info { file, .. }
        | Op::Segments { file, .. }
        | Op::Offset { file, .. }
        | Op::Export { file, .. }
        | Op::Import { file, .. }
        | Op::Name { file, .. }
        | Op::Unname { file, .. }
        | Op::Probe { file, .. }
        | Op::Region { file, .. }
        | Op::LastError { file, .. }
        | Op::Unknown { file, .. }
        | Op::DmaBufSync { file, .. }
        | Op::ReadAt { file, .. }
        | Op::WriteAt { file, .. }
        | Op::Seek { file, .. }
        | Op::Map { file, .. } => Some(file),
        _ => None,
    }
}

/// As what the driver remembers a refusal of it.
fn operation(op: &Op) -> Operation {
    match op {
        Op::Query { .. } => Operation::Query,
        Op::Alloc { .. } | Op::AllocDma { .. } => Operation::Alloc,
        Op::Attach { .. } => Operation::Attach,
        Op::Detach { .. } => Operation::Detach,
        Op::Sync { .. } => Operation::Sync,
        Op::DmaMask { .. } => Operation::DmaMask,
        Op::Irq { .. } => Operation::Irq,
        Op::Bar { .. } => Operation::Bar,
        Op::Free { .. } => Operation::Free,
        Op::Info { .. } => Operation::Info,
        Op::Segments { .. } => Operation::Segments,
        Op::Offset { .. } => Operation::Offset,
        Op::Export { .. } => Operation::Export,
        Op::Import { .. } => Operation::Import,
        Op::Name { .. } => Operation::Name,
        Op::Unname { .. } => Operation::Unname,
        Op::Probe { .. } => Operation::Probe,
        Op::Region { .. } => Operation::Region,
        Op::LastError { .. } => Operation::LastError,
        Op::ReadAt { .. } => Operation::Read,
        Op::WriteAt { .. } => Operation::Write,
        Op::Seek { .. } => Operation::Seek,
        Op::Map { .. } => Operation::Mmap,
        _ => Operation::UnknownIoctl,
    }
}

/// What a program must answer with, step by step, as far as it can be said beforehand.
pub fn run(steps: &[Step]) -> Vec<Answer> {
    let mut world = World::new();
    steps.iter().map(|step| world.step(step, None)).collect()
}

/// The bytes of a name.
fn name_bytes(number: Option<u8>) -> [u8; mapbuf_abi::NAME_LEN] {
    number.map_or([0; mapbuf_abi::NAME_LEN], op::name)
}

/// A counter's next value.
fn next(counter: &Cell<u64>) -> u64 {
    counter.set(counter.get() + 1);
    counter.get()
}
