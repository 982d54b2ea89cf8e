//! Makes a program of a seed.
//!
//! The generator goes along with the model, so that most operations have something to work on; now and then it gives
//! one arguments that make no sense. What a program does depends on its seed alone.

use crate::model::ioctls::FOREIGN;
use crate::model::memory::LIMITS;
use crate::model::{Description, Process, What, World};
use crate::op::{Damage, Id, Op, Place, Step, FILES, NAMES, PAGE, PAGES, USER, VARS, WORKERS};
use fastrand::Rng;
use mapbuf_abi::{Kind, Method, CALLER, MAX_IDS};

/// Pages of one buffer or mapping that are looked at in the end: more would make it slow.
const MUCH: u64 = 24;
/// Forks in a program: more would make it slow.
const FORKS: u32 = 6;

/// Makes a program of about so many steps.
pub fn program(seed: u64, length: usize) -> Vec<Step> {
    let mut generator = Generator {
        rng: Rng::with_seed(seed),
        world: World::new(),
        steps: Vec::with_capacity(length + 64),
        worker: 0,
        forks: 0,
    };
    while generator.steps.len() < length {
        generator.worker = generator.rng.usize(..WORKERS) as u8;
        for _ in 0..generator.rng.usize(6..30) {
            let op = generator.operation();
            generator.push(op);
        }
    }
    generator.look_at_everything();
    generator.steps
}

/// A buffer that a process can name: the session's place, the variable, and the size in pages.
#[derive(Clone, Copy)]
struct Known {
    file: u8,
    var: u8,
    pages: u64,
}

/// A mapping, in pages.
#[derive(Clone, Copy)]
struct Range {
    at: u32,
    pages: u32,
}

struct Generator {
    rng: Rng,
    world: World,
    steps: Vec<Step>,
    worker: u8,
    forks: u32,
}

type Make = fn(&mut Generator) -> Op;

/// How often each operation comes, among all.
const WEIGHTS: &[(u32, Make)] = &[
    (200, Generator::load),
    (200, Generator::store),
    (120, Generator::map),
    (90, Generator::alloc),
    (40, Generator::free),
    (45, Generator::unmap),
    (45, Generator::protect),
    (30, Generator::relocate),
    (20, Generator::resize),
    (35, Generator::forget),
    (60, Generator::read_at),
    (50, Generator::write_at),
    (40, Generator::info),
    (25, Generator::segments),
    (45, Generator::offset),
    (25, Generator::export),
    (20, Generator::import),
    (25, Generator::name),
    (15, Generator::unname),
    (20, Generator::open_named),
    (12, Generator::open),
    (14, Generator::close),
    (15, Generator::query),
    (12, Generator::send),
    (14, Generator::receive),
    (5, Generator::probe),
    (4, Generator::region),
    (8, Generator::last_error),
    (5, Generator::unknown),
    (10, Generator::dma_buf_sync),
    (14, Generator::seek),
    (4, Generator::fork),
    (3, Generator::leave),
];

impl Generator {
    fn push(&mut self, op: Op) {
        let step = Step {
            worker: self.worker,
            op,
        };
        self.world.step(&step, None);
        self.steps.push(step);
    }

    fn process(&self) -> &Process {
        self.world.process(self.worker)
    }

    fn operation(&mut self) -> Op {
        let depth = self.world.depth(self.worker);
        if depth > 0 && self.one_in(12) {
            return self.leave();
        }
        if self.sessions().is_empty() && !self.one_in(4) {
            return self.open();
        }
        let last = self.steps.last().filter(|step| step.worker == self.worker);
        if let Some(op) = last.map(|step| step.op) {
            if let Some(op) = self.follow(op) {
                return op;
            }
        }
        let all: u32 = WEIGHTS.iter().map(|(weight, _)| weight).sum();
        let mut at = self.rng.u32(..all);
        for (weight, make) in WEIGHTS {
            if at < *weight {
                return make(self);
            }
            at -= weight;
        }
        self.load()
    }

    /// What often comes next: the ways into trouble are longer than one step.
    fn follow(&mut self, last: Op) -> Option<Op> {
        let often = matches!(last, Op::Offset { .. });
        if self.rng.u32(..6) >= if often { 4 } else { 2 } {
            return None;
        }
        match last {
            Op::Alloc { file, to, .. } => Some(self.map_of(file, Place::Var(to, 0))),
            Op::Offset { file, to, .. } => Some(self.map_of(file, Place::Var(to, 0))),
            Op::Import { file, to, .. } => Some(self.map_of(file, Place::Id(to))),
            Op::Map { at, pages, .. }
            | Op::Forget { at, pages }
            | Op::Protect { at, pages, .. }
            | Op::Move { to: at, pages, .. } => {
                let skip = self.rng.u32(..pages.max(1));
                Some(self.access(Range {
                    at: at + skip,
                    pages: pages - skip.min(pages),
                }))
            }
            Op::Store { at, .. } if self.rng.bool() => Some(Op::Forget { at, pages: 1 }),
            Op::Store { at, .. } => Some(Op::Load {
                at,
                skip: 0,
                length: PAGE as u32,
            }),
            _ => None,
        }
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.rng.u32(..n) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        match from.len() {
            0 => None,
            count => from.get(self.rng.usize(..count)).copied(),
        }
    }

    fn of<T: Copy>(&mut self, from: &[T], otherwise: T) -> T {
        self.pick(from).unwrap_or(otherwise)
    }

    fn damage(&mut self) -> Damage {
        match self.rng.u32(..40) {
            0..=2 => self.of(Damage::ALL, Damage::No),
            3 => Damage::Longer,
            4 => Damage::Edge,
            _ => Damage::No,
        }
    }

    fn files(&self, wanted: impl Fn(&Description) -> bool) -> Vec<u8> {
        let files = (0..).zip(&self.process().files);
        files
            .filter(|(_, file)| file.as_deref().is_some_and(&wanted))
            .map(|(place, _)| place)
            .collect()
    }

    fn sessions(&self) -> Vec<u8> {
        self.files(|file| matches!(file.what, What::Session(_)) && file.writes() && file.reads())
    }

    /// A file of the wanted sort; now and then any, or none.
    fn file(&mut self, wanted: impl Fn(&Description) -> bool) -> u8 {
        let any = self.rng.u8(..FILES as u8);
        if self.one_in(25) {
            return any;
        }
        let good = self.files(wanted);
        self.of(&good, any)
    }

    fn session(&mut self) -> u8 {
        let sessions = self.sessions();
        let any = self.file(|file| matches!(file.what, What::Session(_)));
        if self.one_in(10) {
            return any;
        }
        self.of(&sessions, any)
    }

    /// A place for a new descriptor: mostly an empty one.
    fn free_file(&mut self) -> u8 {
        let files = (0..).zip(&self.process().files);
        let empty: Vec<u8> = files
            .filter(|(_, file)| file.is_none())
            .map(|(place, _)| place)
            .collect();
        let any = self.rng.u8(1..FILES as u8);
        if self.one_in(8) {
            return any;
        }
        self.of(&empty, any)
    }

    fn var(&mut self) -> u8 {
        self.rng.u8(..VARS as u8)
    }

    /// A variable for a new buffer: mostly one that stands for none.
    fn free_var(&mut self) -> u8 {
        let known: Vec<u8> = self.known().iter().map(|known| known.var).collect();
        let free: Vec<u8> = (0..VARS as u8).filter(|var| !known.contains(var)).collect();
        let any = self.var();
        self.of(&free, any)
    }

    /// The buffers that the process can name.
    fn known(&self) -> Vec<Known> {
        let process = self.process();
        let mut known = Vec::new();
        for (place, file) in (0..).zip(&process.files) {
            let Some(What::Session(session)) = file.as_ref().map(|file| &file.what) else {
                continue;
            };
            for (var, id) in (0..).zip(process.ids) {
                if let Ok(buffer) = session.buffer(id) {
                    known.push(Known {
                        file: place,
                        var,
                        pages: buffer.len(),
                    });
                }
            }
        }
        known
    }

    /// A buffer, mostly one that there is.
    fn buffer(&mut self) -> (u8, Id) {
        let known = self.known();
        match self.pick(&known) {
            Some(known) if !self.one_in(20) => (known.file, Id::Var(known.var)),
            _ => {
                let named = self.files(|file| matches!(file.what, What::Named(_)));
                if let (Some(file), false) = (self.pick(&named), self.one_in(4)) {
                    return (file, Id::Number(u32::from(self.one_in(8))));
                }
                (self.session(), self.id())
            }
        }
    }

    fn id(&mut self) -> Id {
        match self.rng.u32(..6) {
            0 => Id::Number(self.rng.u32(..12)),
            1 => Id::Number(MAX_IDS - self.rng.u32(..2)),
            2 => Id::Number(u32::MAX),
            3 => Id::Number(0),
            _ => Id::Var(self.var()),
        }
    }

    fn open(&mut self) -> Op {
        Op::Open {
            to: self.free_file(),
            access: self.of(&[2, 2, 2, 2, 2, 0, 0, 1], 2),
        }
    }

    fn open_named(&mut self) -> Op {
        let names: Vec<u8> = self.world.names().collect();
        let any = self.rng.u8(..6);
        Op::OpenNamed {
            to: self.free_file(),
            name: if self.one_in(8) {
                any
            } else {
                self.of(&names, any)
            },
            access: self.of(&[2, 2, 2, 2, 0, 0, 1], 2),
        }
    }

    fn close(&mut self) -> Op {
        // A process that has closed its last session loses all its buffers: not too often.
        let file = match self.one_in(4) {
            true => self.file(|_| true),
            false => self.file(|file| !matches!(file.what, What::Session(_))),
        };
        Op::Close { file }
    }

    fn send(&mut self) -> Op {
        Op::Send {
            file: self.file(|_| true),
            worker: self.rng.usize(..WORKERS) as u8,
        }
    }

    fn receive(&mut self) -> Op {
        if self.world.waiting(self.worker) == 0 && !self.one_in(6) {
            return self.load();
        }
        Op::Receive {
            to: self.free_file(),
        }
    }

    fn query(&mut self) -> Op {
        Op::Query {
            file: self.file(|file| !matches!(file.what, What::DmaBuf(_))),
            damage: self.damage(),
        }
    }

    fn bytes(&mut self) -> u64 {
        let page = PAGE as u64;
        match self.rng.u32(..40) {
            0 => self.of(
                &[0, 1, u64::MAX, 1 << 44, 1 << 45, (1 << 44) - (1 << 32) + 1],
                0,
            ),
            1 => self.rng.u64(..LIMITS.all * 2),
            2 => self.of(&[512, 512, 513, 1023, 1024], 512) * page,
            3..=5 => self.rng.u64(1..200) * page,
            8..=12 => self.rng.u64(1..64 * page),
            _ => self.rng.u64(1..12) * page,
        }
    }

    fn alloc(&mut self) -> Op {
        let kind = self.rng.u32(1..5);
        let odd = self.one_in(25);
        let cached = kind == Kind::Coherent.number() && !self.one_in(20);
        Op::Alloc {
            file: self.session(),
            to: self.free_var(),
            kind: match odd && self.rng.bool() {
                true => self.of(&[0, 5, 6, u32::MAX], 0),
                false => kind,
            },
            cache: match self.rng.u32(..30) {
                0..=7 if odd => self.of(&[3, u32::MAX], 3),
                0..=4 if !cached => self.rng.u32(1..3),
                _ => 0,
            },
            bytes: self.bytes(),
            node: match self.rng.u32(..25) {
                0 => self.of(&[1, -2, 64, i32::MAX, i32::MIN], 1),
                1..=3 => 0,
                _ => -1,
            },
            id: match self.rng.u32(..8) {
                0 => self.id(),
                1 => Id::Number(self.rng.u32(1..30)),
                _ => Id::Number(0),
            },
            damage: self.damage(),
        }
    }

    fn free(&mut self) -> Op {
        let (file, id) = self.buffer();
        let damage = self.damage();
        Op::Free { file, id, damage }
    }

    fn info(&mut self) -> Op {
        let (file, mut id) = self.buffer();
        if self.one_in(6) {
            id = Id::Number(0);
        }
        let damage = self.damage();
        Op::Info { file, id, damage }
    }

    fn segments(&mut self) -> Op {
        let (file, id) = self.buffer();
        Op::Segments {
            file,
            id,
            first: self.of(&[0, 0, 0, 1, 2, 7, u32::MAX], 0),
            count: self.of(&[0, 1, 2, 16, 16, 512], 16),
            damage: self.damage(),
        }
    }

    fn offset(&mut self) -> Op {
        let (file, id) = self.buffer();
        let var = match id {
            Id::Var(var) => var,
            Id::Number(_) => self.var(),
        };
        Op::Offset {
            file,
            // The offset takes the place of the one for `auto`.
            to: if self.one_in(4) { self.var() } else { var },
            id,
            method: match self.one_in(30) {
                true => self.of(&[12, 99, u32::MAX], 12),
                false => self.rng.u32(..Method::ALL.len() as u32),
            },
            damage: self.damage(),
        }
    }

    fn export(&mut self) -> Op {
        let (file, id) = self.buffer();
        Op::Export {
            file,
            to: self.free_file(),
            id,
            starved: self.one_in(15),
            damage: self.damage(),
        }
    }

    fn import(&mut self) -> Op {
        let buffer = match self.rng.u32(..20) {
            0 => FOREIGN,
            _ => self.file(|file| matches!(file.what, What::DmaBuf(_))),
        };
        Op::Import {
            file: self.session(),
            to: self.free_var(),
            buffer,
            id: if self.one_in(5) {
                self.id()
            } else {
                Id::Number(0)
            },
            damage: self.damage(),
        }
    }

    fn name(&mut self) -> Op {
        let (file, id) = self.buffer();
        let owner = [CALLER, CALLER, CALLER, CALLER, CALLER, 0, USER, USER + 1];
        Op::Name {
            file,
            id,
            name: match self.one_in(10) {
                true => self.rng.u8(..NAMES),
                false => self.rng.u8(..6),
            },
            mode: match self.one_in(15) {
                true => self.of(&[0o777, 0o1600, 1 << 16], 0o777),
                false => self.of(&[0o600, 0o640, 0o644, 0o666, 0o666, 0o200, 0], 0o600),
            },
            uid: self.of(&owner, CALLER),
            gid: self.of(&owner, CALLER),
            damage: self.damage(),
        }
    }

    fn unname(&mut self) -> Op {
        let names: Vec<u8> = self.world.names().collect();
        let any = self.rng.u8(..NAMES);
        Op::Unname {
            file: self.file(|file| !matches!(file.what, What::DmaBuf(_))),
            name: if self.one_in(6) {
                any
            } else {
                self.of(&names, any)
            },
            damage: self.damage(),
        }
    }

    fn probe(&mut self) -> Op {
        let (file, id) = self.buffer();
        Op::Probe {
            file,
            id,
            flags: self.of(&[0, 1, 2, 3, 4], 0),
            damage: self.damage(),
        }
    }

    fn region(&mut self) -> Op {
        Op::Region {
            file: self.file(|file| !matches!(file.what, What::DmaBuf(_))),
            index: self.of(&[0, 1, u32::MAX], 0),
            damage: self.damage(),
        }
    }

    fn last_error(&mut self) -> Op {
        Op::LastError {
            file: self.file(|file| !matches!(file.what, What::DmaBuf(_))),
            damage: self.damage(),
        }
    }

    fn unknown(&mut self) -> Op {
        // One after the last of ours, and numbers that only look like ours.
        let numbers = [0xb9ff, 0xc010_b90e, 0xb97f, 0xc050_ba00, 0x8010_b801];
        Op::Unknown {
            file: self.file(|_| true),
            number: self.of(&numbers, 0xb9ff),
        }
    }

    fn dma_buf_sync(&mut self) -> Op {
        Op::DmaBufSync {
            file: self.file(|file| matches!(file.what, What::DmaBuf(_))),
            flags: self.of(&[1, 2, 3, 5, 6, 7, 3, 7, 0, 4, 8], 3),
        }
    }

    /// A place in a file that has bytes there, and how many pages lie behind it.
    fn place(&mut self, mapping: bool) -> (u8, Place, u64) {
        let others = self.files(|file| match file.what {
            What::Named(_) => true,
            What::DmaBuf(_) => mapping,
            What::Session(_) => false,
        });
        if let (Some(place), true) = (self.pick(&others), self.one_in(4)) {
            let pages = match self.process().file(place).map(|file| &file.what) {
                Some(What::Named(buffer) | What::DmaBuf(buffer)) => buffer.len(),
                _ => 1,
            };
            let delta = match !mapping && self.one_in(6) {
                true => pages,
                false => self.delta(pages),
            };
            return (
                place,
                Place::Bytes(delta * PAGE as u64),
                pages - delta.min(pages),
            );
        }
        if self.one_in(40) {
            let odd = [0, 1, 4096, 77 << 12, 1 << 32, 1 << 44, (1 << 32) + 4096];
            return (self.session(), Place::Bytes(self.of(&odd, 0)), 1);
        }
        let known = self.known();
        let Some(known) = self.pick(&known) else {
            return (self.session(), Place::Var(self.var(), 0), 1);
        };
        if mapping && self.one_in(4) {
            return (known.file, Place::Id(known.var), known.pages);
        }
        let delta = self.delta(known.pages);
        let pages = known.pages - delta.min(known.pages);
        (known.file, Place::Var(known.var, delta as u32), pages)
    }

    /// A page of a buffer, mostly its first, hardly ever one behind its end.
    fn delta(&mut self, pages: u64) -> u64 {
        match self.rng.u32(..30) {
            0 => pages,
            1..=15 => self.rng.u64(..pages.max(1)),
            _ => 0,
        }
    }

    fn stretch(&mut self, pages: u64) -> (u32, u32) {
        let skip = match self.rng.u32(..3) {
            0 => 0,
            1 => self.rng.u32(..PAGE as u32),
            _ => self.rng.u32(..PAGE as u32 / 8) * 8,
        };
        let most = (pages.min(3) * PAGE as u64) as u32;
        let length = match self.rng.u32(..12) {
            0 => 0,
            1..=5 => self.rng.u32(..64),
            6 => most.saturating_sub(skip),
            7 => most,
            _ => self.rng.u32(..PAGE as u32),
        };
        (skip, length)
    }

    fn read_at(&mut self) -> Op {
        let (file, place, pages) = self.place(false);
        let (skip, length) = self.stretch(pages);
        Op::ReadAt {
            file,
            place,
            skip,
            length,
            nowhere: self.one_in(30),
        }
    }

    fn write_at(&mut self) -> Op {
        let (file, place, pages) = self.place(false);
        let (skip, length) = self.stretch(pages);
        Op::WriteAt {
            file,
            place,
            skip,
            length,
            nowhere: self.one_in(30),
            seed: self.rng.u32(..),
        }
    }

    fn seek(&mut self) -> Op {
        Op::Seek {
            file: self.file(|_| true),
            offset: self.of(
                &[0, 0, 0, 1, -1, 4096, -4096, 1 << 40, i64::MAX, i64::MIN],
                0,
            ),
            whence: self.of(&[0, 0, 1, 1, 2, 2, 3, 4, 5, -1], 0),
        }
    }

    /// A free range of pages.
    fn gap(&mut self, pages: u32) -> u32 {
        for _ in 0..6 {
            let vmas = self.process().space.vmas();
            let ends: Vec<u32> = vmas.iter().map(|vma| vma.end as u32).collect();
            let at = match self.rng.u32(..4) {
                // Huge entries need it.
                _ if pages >= 256 => self.rng.u32(..PAGES / 512) * 512,
                0 | 1 => self.of(&ends, 0),
                _ => self.rng.u32(..PAGES / 4),
            };
            let (start, end) = (u64::from(at), u64::from(at) + u64::from(pages));
            if end <= PAGES.into() && !self.process().space.any(start, end) {
                return at;
            }
        }
        self.rng.u32(..PAGES / 2)
    }

    fn map(&mut self) -> Op {
        let (file, place, left) = self.place(true);
        self.map_at(file, place, left)
    }

    /// A mapping of all of a buffer, or of a part.
    fn map_of(&mut self, file: u8, place: Place) -> Op {
        let (Place::Var(var, _) | Place::Id(var)) = place else {
            return self.map();
        };
        let known = self.known();
        let known = known
            .iter()
            .find(|known| known.file == file && known.var == var);
        let pages = known.map_or(1, |known| known.pages);
        self.map_at(file, place, pages)
    }

    fn map_at(&mut self, file: u8, place: Place, left: u64) -> Op {
        let left = left.min(1100) as u32;
        let pages = match self.rng.u32(..24) {
            0 => 0,
            1 => left + 1,
            2 => self.rng.u32(..PAGES / 4),
            3..=14 => left,
            _ => self.rng.u32(..left.max(1)) + 1,
        };
        Op::Map {
            file,
            at: self.gap(pages),
            pages,
            place,
            prot: self.of(&[3, 3, 3, 3, 3, 3, 3, 3, 1, 1, 1, 1, 2, 0, 3, 1, 5, 7], 3),
            sharing: match self.rng.u32(..60) {
                0 => self.of(&[0, 3], 0),
                1..=20 => 2,
                _ => 1,
            },
            populate: self.one_in(6),
        }
    }

    /// A mapping, mostly one that there is.
    fn mapping(&mut self) -> Range {
        let vmas = self.process().space.vmas();
        let ranges: Vec<Range> = vmas
            .iter()
            .map(|vma| Range {
                at: vma.start as u32,
                pages: (vma.end - vma.start) as u32,
            })
            .collect();
        let any = Range {
            at: self.rng.u32(..PAGES / 4),
            pages: self.rng.u32(..8),
        };
        if self.one_in(25) {
            return any;
        }
        self.of(&ranges, any)
    }

    /// A part of a mapping, all of it, or more.
    fn part(&mut self) -> Range {
        let Range { at, pages } = self.mapping();
        match self.rng.u32(..10) {
            0..=2 => Range { at, pages },
            3 => Range {
                at: at.saturating_sub(self.rng.u32(..3)),
                pages: pages + self.rng.u32(..20),
            },
            _ => {
                let skip = self.rng.u32(..pages.max(1));
                Range {
                    at: at + skip,
                    pages: self.rng.u32(..(pages - skip.min(pages)).max(1)) + 1,
                }
            }
        }
    }

    fn unmap(&mut self) -> Op {
        let Range { at, pages } = self.part();
        Op::Unmap {
            at,
            pages: if self.one_in(30) { 0 } else { pages },
        }
    }

    fn protect(&mut self) -> Op {
        let Range { at, pages } = self.part();
        let prot = self.of(&[0, 1, 1, 3, 3, 3, 3, 2, 4], 3);
        Op::Protect { at, pages, prot }
    }

    fn relocate(&mut self) -> Op {
        let Range { at, pages } = self.part();
        Op::Move {
            at,
            pages,
            to: match self.one_in(5) {
                true => self.mapping().at,
                false => self.gap(pages),
            },
        }
    }

    fn resize(&mut self) -> Op {
        let Range { at, pages } = self.part();
        let new = match self.rng.u32(..6) {
            0 => pages + 1,
            1 => 0,
            2 => pages,
            _ => self.rng.u32(..pages.max(1)) + 1,
        };
        Op::Resize { at, pages, new }
    }

    fn forget(&mut self) -> Op {
        let Range { at, pages } = self.part();
        Op::Forget { at, pages }
    }

    /// A read or a write of a range.
    fn access(&mut self, Range { at, pages }: Range) -> Op {
        let (skip, length) = self.stretch(pages.into());
        match self.rng.bool() {
            true => Op::Load { at, skip, length },
            false => Op::Store {
                at,
                skip,
                length,
                seed: self.rng.u32(..),
            },
        }
    }

    fn load(&mut self) -> Op {
        let Range { at, pages } = self.part();
        let (skip, length) = self.stretch(pages.into());
        Op::Load { at, skip, length }
    }

    fn store(&mut self) -> Op {
        let Range { at, pages } = self.part();
        let (skip, length) = self.stretch(pages.into());
        Op::Store {
            at,
            skip,
            length,
            seed: self.rng.u32(..),
        }
    }

    fn fork(&mut self) -> Op {
        if self.forks >= FORKS || self.world.depth(self.worker) > 1 {
            return self.load();
        }
        self.forks += 1;
        Op::Fork {}
    }

    fn leave(&mut self) -> Op {
        if self.world.depth(self.worker) == 0 {
            if self.forks >= FORKS {
                return self.store();
            }
            self.forks += 1;
        }
        match self.one_in(3) {
            true => Op::Kill {},
            false => Op::Exit {},
        }
    }

    /// A part of so many pages: all of them, unless there are very many.
    fn some_of(&mut self, pages: u64) -> (u32, u32) {
        let most = MUCH.min(pages);
        let first = self.rng.u64(..=pages - most);
        (first as u32, (most * PAGE as u64) as u32)
    }

    /// The last steps of a program: what any process can see is read once more, by every way.
    fn look_at_everything(&mut self) {
        for worker in 0..WORKERS as u8 {
            self.worker = worker;
            let mut ops = Vec::new();
            let vmas = self.process().space.vmas().iter();
            let ranges: Vec<_> = vmas.map(|vma| (vma.start, vma.end - vma.start)).collect();
            for (start, pages) in ranges {
                let (first, length) = self.some_of(pages);
                ops.push(Op::Load {
                    at: start as u32 + first,
                    skip: 0,
                    length,
                });
            }
            for Known { file, var, pages } in self.known() {
                let (first, length) = self.some_of(pages);
                ops.push(Op::ReadAt {
                    file,
                    place: Place::Var(var, first),
                    skip: 0,
                    length,
                    nowhere: false,
                });
                ops.push(Op::Info {
                    file,
                    id: Id::Var(var),
                    damage: Damage::No,
                });
            }
            let file = self.sessions().first().copied();
            if let Some(file) = file {
                let damage = Damage::No;
                ops.push(Op::Query { file, damage });
            }
            for op in ops {
                self.push(op);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model;
    use crate::tally::Tally;

    #[test]
    fn the_same_seed_makes_the_same_program() {
        assert_eq!(program(7, 500), program(7, 500));
        assert_ne!(program(7, 500), program(8, 500));
    }

    #[test]
    fn programs_do_everything_and_much_of_it_well() {
        let mut tally = Tally::default();
        for seed in 0..24 {
            let steps = program(seed, 1000);
            for (step, answer) in steps.iter().zip(model::run(&steps)) {
                tally.count(&step.op, &answer);
            }
        }
        assert!(tally.missing().is_empty(), "{:?}", tally.missing());
        assert!(tally.share_of_successes() > 0.5, "{tally}");
    }

    #[test]
    fn a_world_that_ends_leaves_nothing_behind() {
        for seed in 0..20 {
            let mut world = World::new();
            for step in program(seed, 600) {
                world.step(&step, None);
            }
            let names: Vec<u8> = world.names().collect();
            for name in names {
                let (worker, file, damage) = (0, 0, Damage::No);
                for op in [
                    Op::Open { to: 0, access: 2 },
                    Op::Unname { file, name, damage },
                ] {
                    assert!(world.step(&Step { worker, op }, None).succeeded());
                }
            }
            for worker in 0..WORKERS as u8 {
                while world.waiting(worker) > 0 {
                    let op = Op::Receive { to: 0 };
                    world.step(&Step { worker, op }, None);
                }
                while world.depth(worker) > 0 {
                    let op = Op::Exit {};
                    world.step(&Step { worker, op }, None);
                }
                let op = Op::Kill {};
                world.step(&Step { worker, op }, None);
            }
            assert_eq!(world.accounts().used(), 0);
            assert_eq!(world.accounts().buffers(), 0);
        }
    }
}
