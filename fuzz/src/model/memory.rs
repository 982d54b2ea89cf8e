//! Buffers: their bytes, their limits, and how long they live.

use super::declared::{BAR_PAGES, REGIONS, WORD};
use super::device::Bound;
use crate::answer::{digest, pattern};
use crate::op::PAGE;
use mapbuf_abi::{Cache, Kind};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

/// The bytes of a page; `None` while they are all zero.
pub type Page = Option<Rc<[u8; PAGE]>>;

/// The limits that the module was given.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of all buffers.
    pub all: u64,
    /// Bytes of one user's buffers.
    pub user: u64,
    /// Buffers of one session.
    pub buffers: u64,
    /// Names, those of regions among them.
    pub names: usize,
}

/// What the fuzzer sets them to: so small that each is met.
pub const LIMITS: Limits = Limits {
    all: 20 << 20,
    user: 14 << 20,
    buffers: 9,
    names: 3 + REGIONS.len(),
};

/// What is charged now.
#[derive(Debug, Default)]
pub struct Accounts {
    used: Cell<u64>,
    buffers: Cell<u64>,
    users: RefCell<BTreeMap<u32, u64>>,
}

impl Accounts {
    /// Bytes of everybody.
    pub fn used(&self) -> u64 {
        self.used.get()
    }

    /// Bytes of a user.
    pub fn used_by(&self, uid: u32) -> u64 {
        self.users.borrow().get(&uid).copied().unwrap_or(0)
    }

    /// Buffers that exist.
    pub fn buffers(&self) -> u64 {
        self.buffers.get()
    }
}

/// Buffers of a session whose ids were freed and that live on: how many, and their bytes.
pub type Freed = Cell<(u64, u64)>;

/// A buffer. It lives as long as something refers to it; then its charge is given back.
#[derive(Debug)]
pub struct Buffer {
    /// Tells it from all others.
    pub number: u64,
    /// What it was allocated as.
    pub kind: Kind,
    /// What it was allocated as.
    pub cache: Cache,
    /// The lengths of its physical runs in pages.
    pub runs: Vec<u64>,
    /// Its bytes.
    pub pages: Rc<RefCell<Vec<Page>>>,
    /// The number of its name.
    pub name: Cell<Option<u8>>,
    /// The device whose memory it is.
    pub device: Option<Rc<Bound>>,
    /// The bytes that a write is made of.
    word: u64,
    uid: u32,
    charged: u64,
    id_freed: Cell<bool>,
    session: Weak<Freed>,
    accounts: Rc<Accounts>,
}

impl Buffer {
    /// A buffer of zeros.
    pub fn new(
        what: (u64, Kind, Cache),
        runs: Vec<u64>,
        uid: u32,
        session: &Rc<Freed>,
        accounts: &Rc<Accounts>,
    ) -> Rc<Self> {
        Self::of_device(what, runs, uid, session, accounts, None)
    }

    /// The same, of memory that may be a device's.
    pub fn of_device(
        (number, kind, cache): (u64, Kind, Cache),
        runs: Vec<u64>,
        uid: u32,
        session: &Rc<Freed>,
        accounts: &Rc<Accounts>,
        device: Option<&Rc<Bound>>,
    ) -> Rc<Self> {
        if let Some(device) = device {
            device.take();
        }
        let pages = runs.iter().sum::<u64>();
        let charged = match kind {
            Kind::Region => 0,
            _ => pages * PAGE as u64,
        };
        accounts.used.set(accounts.used.get() + charged);
        accounts.buffers.set(accounts.buffers.get() + 1);
        *accounts.users.borrow_mut().entry(uid).or_default() += charged;
        Rc::new(Self {
            number,
            kind,
            cache,
            runs,
            pages: Rc::new(RefCell::new(vec![None; pages as usize])),
            name: Cell::new(None),
            device: device.cloned(),
            word: match (kind, cache) {
                (Kind::Region, Cache::Uncached) => WORD,
                _ => 1,
            },
            uid,
            charged,
            id_freed: Cell::new(false),
            session: Rc::downgrade(session),
            accounts: Rc::clone(accounts),
        })
    }

    /// What shows the device's own memory, written in words of so many bytes. The device knows that it is shown.
    pub fn of_bar(
        (number, cache, word): (u64, Cache, u64),
        uid: u32,
        session: &Rc<Freed>,
        accounts: &Rc<Accounts>,
        device: &Rc<Bound>,
    ) -> Rc<Self> {
        accounts.buffers.set(accounts.buffers.get() + 1);
        Rc::new(Self {
            number,
            kind: Kind::Region,
            cache,
            runs: vec![BAR_PAGES],
            pages: Rc::clone(&device.bar),
            name: Cell::new(None),
            device: Some(Rc::clone(device)),
            word,
            uid,
            charged: 0,
            id_freed: Cell::new(false),
            session: Rc::downgrade(session),
            accounts: Rc::clone(accounts),
        })
    }

    /// Whether it shows the device's own memory.
    pub fn is_bar(&self) -> bool {
        self.kind == Kind::Region && self.device.is_some()
    }

    /// Whether it is coherent memory of some device.
    pub fn is_coherent(&self) -> bool {
        self.kind == Kind::Coherent
    }

    /// Whether its memory went with its device.
    pub fn gone(&self) -> bool {
        self.device.as_ref().is_some_and(|device| !device.there())
    }

    /// Its size in pages.
    pub fn len(&self) -> u64 {
        self.pages.borrow().len() as u64
    }

    /// Whether it has no pages, which no buffer is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its size in bytes.
    pub fn bytes(&self) -> u64 {
        self.len() * PAGE as u64
    }

    /// Whether its pages can be handed out one by one.
    pub fn has_pages(&self) -> bool {
        !matches!(self.kind, Kind::Coherent | Kind::Region)
    }

    /// The bytes that a write is made of.
    pub fn word(&self) -> u64 {
        self.word
    }

    /// How many pages follow each other in physical memory, from this one on.
    pub fn run_from(&self, page: u64) -> u64 {
        let mut end = 0;
        for run in &self.runs {
            end += run;
            if page < end {
                return end - page;
            }
        }
        0
    }

    /// Notes that the session which allocated it has freed its id.
    pub fn free_id(&self) {
        if !self.id_freed.replace(true) {
            self.count_freed(|(buffers, bytes)| (buffers + 1, bytes + self.bytes()));
        }
    }

    fn count_freed(&self, change: impl FnOnce((u64, u64)) -> (u64, u64)) {
        if let Some(freed) = self.session.upgrade() {
            freed.set(change(freed.get()));
        }
    }

    /// The bytes of one of its pages.
    pub fn page(&self, page: u64) -> Page {
        self.pages.borrow().get(page as usize).cloned().flatten()
    }

    /// Writes to one of its pages.
    pub fn write(&self, page: u64, at: usize, bytes: &[u8]) {
        if let Some(page) = self.pages.borrow_mut().get_mut(page as usize) {
            write_page(page, at, bytes);
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(device) = &self.device {
            match self.is_bar() {
                true => device.show_no_more(),
                false => device.give_back(),
            }
        }
        let (bytes, charged) = (self.bytes(), self.charged);
        if self.id_freed.get() {
            self.count_freed(|(buffers, held)| (buffers - 1, held - bytes));
        }
        let accounts = &self.accounts;
        accounts.used.set(accounts.used.get() - charged);
        accounts.buffers.set(accounts.buffers.get() - 1);
        *accounts.users.borrow_mut().entry(self.uid).or_default() -= charged;
    }
}

/// Writes to a page.
pub fn write_page(page: &mut Page, at: usize, bytes: &[u8]) {
    let own = Rc::make_mut(page.get_or_insert_with(|| Rc::new([0; PAGE])));
    if let Some(to) = own.get_mut(at..at + bytes.len()) {
        to.copy_from_slice(bytes);
    }
}

/// Bytes that are read one piece after the other.
#[derive(Default)]
pub struct Reading(Vec<u8>);

impl Reading {
    /// Adds a part of a page.
    pub fn add(&mut self, page: &Page, at: usize, length: usize) {
        match page.as_deref().and_then(|page| page.get(at..at + length)) {
            Some(bytes) => self.0.extend_from_slice(bytes),
            None => self.0.resize(self.0.len() + length, 0),
        }
    }

    /// How many there are, and what they are.
    pub fn finish(&self) -> [u64; 2] {
        [self.0.len() as u64, digest(&self.0)]
    }
}

/// Cuts `length` bytes from `start` on into pieces within pages: page, place in it, length, and how many lie before.
pub fn pieces(start: u64, length: u64) -> impl Iterator<Item = (u64, usize, usize, usize)> {
    let size = PAGE as u64;
    let mut done = 0;
    std::iter::from_fn(move || {
        if done >= length {
            return None;
        }
        let at = start + done;
        let piece = (size - at % size).min(length - done);
        let before = done;
        done += piece;
        Some((
            at / size,
            (at % size) as usize,
            piece as usize,
            before as usize,
        ))
    })
}

/// The bytes that a write writes.
pub fn written(seed: u32, length: u32) -> Vec<u8> {
    pattern(seed, length as usize)
}
