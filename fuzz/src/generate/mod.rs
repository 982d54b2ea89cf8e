//! Makes a program of a seed.
//!
//! The generator goes along with the model, so that most operations have something to work on; now and then it gives
//! one arguments that make no sense. What a program does depends on its seed alone.

mod files;
mod ioctls;
mod mappings;

use crate::model::irq::NO_EVENTFD;
use crate::model::mapping::HUGE;
use crate::model::{Description, Process, What, World};
use crate::op::{Damage, Id, Op, Place, Step, FILES, PAGE, VARS, WORKERS};
use fastrand::Rng;
use mapbuf_abi::{Method, MAX_IDS};

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

/// A buffer that a process can name: the session's place, the variable, the size in pages, and what tells it from others.
#[derive(Clone, Copy)]
struct Known {
    file: u8,
    var: u8,
    pages: u64,
    number: u64,
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
    (26, Generator::open_named),
    (12, Generator::open),
    (12, Generator::open_device),
    (25, Generator::alloc_dma),
    (15, Generator::attach),
    (10, Generator::detach),
    (20, Generator::sync),
    (6, Generator::dma_mask),
    (22, Generator::irq),
    (6, Generator::count),
    (14, Generator::bar),
    (2, Generator::unbind),
    (6, Generator::bind),
    (14, Generator::close),
    (15, Generator::query),
    (12, Generator::send),
    (14, Generator::receive),
    (8, Generator::probe),
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
        // Without it there is less to do.
        if self.world.device().is_none() && self.process().uid == 0 && self.one_in(25) {
            return Op::Bind {};
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
        let often = match last {
            // A huge entry takes every one of its steps.
            Op::Alloc { bytes, .. } if large(bytes.div_ceil(PAGE as u64)) => 5,
            Op::Map { pages, .. } if large(pages.into()) => 5,
            Op::Store { at, .. } if self.is_large(at) => 5,
            Op::Offset { .. } => 4,
            _ => 2,
        };
        if self.rng.u32(..6) >= often {
            return None;
        }
        match last {
            Op::Alloc {
                file, to, bytes, ..
            } if large(bytes.div_ceil(PAGE as u64)) => Some(Op::Offset {
                file,
                to,
                id: Id::Var(to),
                method: Method::FaultHuge.number(),
                damage: Damage::No,
            }),
            Op::Alloc { file, to, .. } | Op::AllocDma { file, to, .. } => {
                Some(self.map_of(file, Place::Var(to, 0)))
            }
            Op::Offset { file, to, .. } => Some(self.map_of(file, Place::Var(to, 0))),
            // What comes from elsewhere may have no pages.
            Op::Attach { file, id, .. } => Some(self.sync_of(file, id)),
            Op::Bar { file, to, .. } if self.one_in(6) => Some(Op::Probe {
                file,
                id: Id::Var(to),
                flags: 0,
                damage: Damage::No,
            }),
            Op::Bar { file, to, .. } => Some(self.map_of(file, Place::Var(to, 0))),
            Op::Irq {
                file,
                kind,
                index,
                action: 1,
                event: 0..=1,
                ..
            } => Some(Op::Irq {
                file,
                kind,
                index,
                action: self.of(&[2, 3, 4, 4, 4], 4),
                event: NO_EVENTFD,
                vectors: 0,
                damage: Damage::No,
            }),
            // Who has it mapped is to see that it is gone.
            Op::Unbind {} => {
                let vmas = self.process().space.vmas().iter();
                let gone = vmas.filter(|vma| vma.buffer.gone());
                let gone: Vec<_> = gone.map(|vma| vma.start as u32).collect();
                let at = self.pick(&gone)?;
                Some(self.access(Range { at, pages: 1 }))
            }
            Op::Import { file, to, .. } if self.is_of_device(file) && self.rng.bool() => {
                Some(Op::Attach {
                    file,
                    id: Id::Var(to),
                    direction: 3,
                    damage: Damage::No,
                })
            }
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
            Op::Store { at, .. } => match self.rng.u32(..3) {
                0 => Some(Op::Forget { at, pages: 1 }),
                1 => Some(Op::Load {
                    at,
                    skip: 0,
                    length: PAGE as u32,
                }),
                _ => self.look_behind(at),
            },
            _ => None,
        }
    }

    /// Whether a page lies in a mapping that can have a huge entry.
    fn is_large(&self, at: u32) -> bool {
        let vma = self.process().space.at(at.into());
        vma.is_some_and(|vma| large(vma.end - vma.start))
    }

    /// Reads from the buffer itself what a mapped page shows.
    fn look_behind(&self, at: u32) -> Option<Op> {
        let vma = self.process().space.at(at.into())?;
        let page = vma.first + (u64::from(at) - vma.start);
        let known = self.known();
        let known = known
            .iter()
            .find(|known| known.number == vma.buffer.number)?;
        Some(Op::ReadAt {
            file: known.file,
            place: Place::Var(known.var, page as u32),
            skip: 0,
            length: PAGE as u32,
            nowhere: false,
        })
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

    /// A session of the device that may use it; now and then any file.
    fn of_device(&mut self) -> u8 {
        self.file(|file| match &file.what {
            What::Session(session) => {
                let device = session.device.as_ref();
                file.writes() && device.is_some_and(|device| device.usable().is_ok())
            }
            _ => false,
        })
    }

    /// What makes one, mostly, where there is none and could be.
    fn without_device(&mut self) -> Option<Op> {
        // Users cannot.
        if self.process().uid != 0 && !self.one_in(6) {
            return Some(self.load());
        }
        let may = self.process().uid == 0 && self.world.device().is_some();
        let usable = |file: &Description| match &file.what {
            What::Session(session) => {
                let device = session.device.as_ref();
                device.is_some_and(|device| device.usable().is_ok())
            }
            _ => false,
        };
        if !may || !self.files(usable).is_empty() || self.one_in(4) {
            return None;
        }
        let to = self.free_file();
        Some(Op::OpenDevice { to, access: 2 })
    }

    /// Whether a place has a session of the device.
    fn is_of_device(&self, place: u8) -> bool {
        let file = self.process().file(place);
        matches!(file.map(|file| &file.what), Some(What::Session(session)) if session.device.is_some())
    }

    /// A buffer of such a session.
    fn buffer_of_device(&mut self) -> (u8, Id) {
        let mut known = self.known();
        known.retain(|known| self.is_of_device(known.file));
        match self.pick(&known) {
            Some(known) if !self.one_in(12) => (known.file, Id::Var(known.var)),
            _ => self.buffer(),
        }
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
                        number: buffer.number,
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
            for Known {
                file, var, pages, ..
            } in self.known()
            {
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

/// Whether a huge entry can lie in so many pages.
fn large(pages: u64) -> bool {
    pages >= HUGE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model;
    use crate::model::declared::REGIONS;
    use crate::op::NAMES;
    use crate::tally::Tally;

    #[test]
    fn the_same_seed_makes_the_same_program() {
        assert_eq!(program(7, 500), program(7, 500));
        assert_ne!(program(7, 500), program(8, 500));
    }

    #[test]
    fn programs_do_everything_and_much_of_it_well() {
        let mut tally = Tally::default();
        for seed in 0..64 {
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
            for name in names.into_iter().filter(|name| *name < NAMES) {
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
            assert_eq!(world.accounts().buffers(), REGIONS.len() as u64);
        }
    }
}
