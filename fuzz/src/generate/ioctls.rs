//! Ioctls.

use super::Generator;
use crate::model::declared::{BAR, REGIONS};
use crate::model::ioctls::FOREIGN;
use crate::model::irq::{NO_EVENT, NO_EVENTFD};
use crate::model::mapping::{BLOCK, HUGE};
use crate::model::memory::LIMITS;
use crate::model::What;
use crate::op::{Damage, Id, Op, EVENTS, NAMES, PAGE, USER};
use mapbuf_abi::{Kind, Method, CALLER};

impl Generator {
    pub(super) fn query(&mut self) -> Op {
        Op::Query {
            file: self.file(|file| !matches!(file.what, What::DmaBuf(_))),
            damage: self.damage(),
        }
    }

    pub(super) fn bytes(&mut self) -> u64 {
        let page = PAGE as u64;
        match self.rng.u32(..40) {
            0 => self.of(
                &[0, 1, u64::MAX, 1 << 44, 1 << 45, (1 << 44) - (1 << 32) + 1],
                0,
            ),
            1 => self.rng.u64(..LIMITS.all * 2),
            2..=3 => self.of(&[512, 512, 512, 513, 1023, 1024], 512) * page,
            4..=6 => self.rng.u64(1..200) * page,
            8..=12 => self.rng.u64(1..64 * page),
            _ => self.rng.u64(1..12) * page,
        }
    }

    pub(super) fn alloc(&mut self) -> Op {
        let bytes = self.bytes();
        // Only these have folios of the size of a huge entry, and mostly when they fit a block of the page allocator.
        let folios = [Kind::Pages.number(), Kind::Contiguous.number()];
        let kind = match (HUGE..=BLOCK).contains(&bytes.div_ceil(PAGE as u64)) && !self.one_in(4) {
            true => self.of(&folios, 1),
            false => self.rng.u32(1..5),
        };
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
            bytes,
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

    pub(super) fn alloc_dma(&mut self) -> Op {
        let odd = self.one_in(8);
        Op::AllocDma {
            file: if self.one_in(6) {
                self.session()
            } else {
                self.of_device()
            },
            to: self.free_var(),
            kind: self.rng.u32(1..5),
            bytes: self.bytes(),
            device: !self.one_in(4),
            below: match odd {
                true => self.of(&[1, 4095, 4096, 4096], 1),
                false => self.of(&[0, 0, 1 << 40, 1 << 63], 0),
            },
            align: match odd && self.one_in(3) {
                true => self.of(&[41, u32::MAX], 41),
                false => self.of(&[0, 0, 12], 0),
            },
            boundary: match odd && self.one_in(3) {
                true => self.of(&[1, 11, 64, u32::MAX], 1),
                false => self.of(&[0, 0, 63], 0),
            },
            damage: self.damage(),
        }
    }

    /// What follows an `ATTACH`: mostly in a direction that it was made for.
    pub(super) fn sync_of(&mut self, file: u8, id: Id) -> Op {
        Op::Sync {
            file,
            id,
            phase: self.of(&[1, 2], 1),
            direction: self.direction(),
            offset: 0,
            length: self.rng.u64(1..4096),
            damage: Damage::No,
        }
    }

    fn direction(&mut self) -> u32 {
        match self.one_in(20) {
            true => self.of(&[0, 4, u32::MAX], 0),
            false => self.of(&[1, 2, 3, 3], 3),
        }
    }

    pub(super) fn attach(&mut self) -> Op {
        let (file, id) = self.buffer_of_device();
        Op::Attach {
            file,
            id,
            direction: self.direction(),
            damage: self.damage(),
        }
    }

    pub(super) fn detach(&mut self) -> Op {
        let (file, id) = self.buffer_of_device();
        let damage = self.damage();
        Op::Detach { file, id, damage }
    }

    pub(super) fn sync(&mut self) -> Op {
        let (file, id) = self.buffer_of_device();
        let (offset, length) = match self.one_in(10) {
            true => (self.rng.u64(..4096), u64::MAX - self.rng.u64(..4096)),
            false => (self.rng.u64(..4096), self.rng.u64(..4096)),
        };
        Op::Sync {
            file,
            id,
            phase: match self.one_in(20) {
                true => self.of(&[0, 3], 0),
                false => self.of(&[1, 2], 1),
            },
            direction: self.direction(),
            offset,
            length,
            damage: self.damage(),
        }
    }

    pub(super) fn irq(&mut self) -> Op {
        if let Some(op) = self.without_device() {
            return op;
        }
        let file = self.of_device();
        let set = self.rng.u32(..5) < 3;
        let odd = self.one_in(7);
        let event = match set {
            true => self.of(&[0, 0, 1, 1, 1, NO_EVENT], 0),
            false => NO_EVENTFD,
        };
        let action = match set {
            true => 1,
            false => self.of(&[2, 3, 4, 4, 4], 4),
        };
        Op::Irq {
            file,
            kind: match self.rng.u32(..16) {
                0 => self.of(&[0, 2, 2, 4, u32::MAX], 2),
                1..=3 => 1,
                _ => 3,
            },
            index: self.of(&[0, 0, 0, 0, 0, 1, 1, 2, 31, 32, u32::MAX], 0),
            action: match odd && self.one_in(3) {
                true => self.of(&[0, 5, u32::MAX], 5),
                false => action,
            },
            event: match odd {
                true => self.of(&[0, NO_EVENT, NO_EVENTFD, 9], 9),
                false => event,
            },
            vectors: match set || odd {
                true => self.of(&[0, 0, 1, 2, 3, 33], 0),
                false => 0,
            },
            damage: self.damage(),
        }
    }

    pub(super) fn count(&mut self) -> Op {
        Op::Count {
            event: self.rng.u8(..EVENTS as u8),
        }
    }

    pub(super) fn bar(&mut self) -> Op {
        if let Some(op) = self.without_device() {
            return op;
        }
        let odd = self.one_in(8);
        Op::Bar {
            file: self.of_device(),
            to: self.free_var(),
            // Not 0: the controller itself.
            index: match odd && self.rng.bool() {
                true => self.of(&[1, 3, 6, u32::MAX], 6),
                false => BAR,
            },
            cache: match odd && self.rng.bool() {
                true => self.of(&[0, 3, u32::MAX], 0),
                false => self.of(&[1, 1, 1, 2], 1),
            },
            width: match odd && self.rng.bool() {
                true => self.of(&[1, 24, 128, u32::MAX], 1),
                false => self.of(&[0, 0, 8, 16, 32, 64], 0),
            },
            id: match self.one_in(8) {
                true => self.id(),
                false => Id::Number(0),
            },
            damage: self.damage(),
        }
    }

    pub(super) fn unbind(&mut self) -> Op {
        match self.may_bind() {
            true => Op::Unbind {},
            false => self.load(),
        }
    }

    pub(super) fn bind(&mut self) -> Op {
        // Mostly it is bound already.
        match self.may_bind() && (self.world.device().is_none() || self.one_in(4)) {
            true => Op::Bind {},
            false => self.open_device(),
        }
    }

    /// Root may; now and then another asks.
    fn may_bind(&mut self) -> bool {
        self.process().uid == 0 || self.one_in(4)
    }

    pub(super) fn dma_mask(&mut self) -> Op {
        Op::DmaMask {
            file: self.of_device(),
            bits: match self.one_in(6) {
                true => self.of(&[0, 11, 65, u32::MAX], 0),
                // All of this machine's memory is below the least of them.
                false => self.of(&[64, 63, 48, 40], 64),
            },
            damage: self.damage(),
        }
    }

    pub(super) fn free(&mut self) -> Op {
        let (file, id) = self.buffer();
        let damage = self.damage();
        Op::Free { file, id, damage }
    }

    pub(super) fn info(&mut self) -> Op {
        let (file, mut id) = self.buffer();
        if self.one_in(6) {
            id = Id::Number(0);
        }
        let damage = self.damage();
        Op::Info { file, id, damage }
    }

    pub(super) fn segments(&mut self) -> Op {
        let device = self.one_in(3);
        let (file, id) = match device {
            true => self.buffer_of_device(),
            false => self.buffer(),
        };
        Op::Segments {
            file,
            id,
            first: self.of(&[0, 0, 0, 1, 2, 7, u32::MAX], 0),
            count: self.of(&[0, 1, 2, 16, 16, 512], 16),
            device,
            damage: self.damage(),
        }
    }

    pub(super) fn offset(&mut self) -> Op {
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

    pub(super) fn export(&mut self) -> Op {
        let (file, id) = self.buffer();
        Op::Export {
            file,
            to: self.free_file(),
            id,
            starved: self.one_in(15),
            damage: self.damage(),
        }
    }

    pub(super) fn import(&mut self) -> Op {
        let buffer = match self.rng.u32(..20) {
            0 => FOREIGN,
            _ => self.file(|file| matches!(file.what, What::DmaBuf(_))),
        };
        let device = self.one_in(3);
        Op::Import {
            file: if device {
                self.of_device()
            } else {
                self.session()
            },
            to: self.free_var(),
            buffer,
            id: if self.one_in(5) {
                self.id()
            } else {
                Id::Number(0)
            },
            device,
            damage: self.damage(),
        }
    }

    pub(super) fn name(&mut self) -> Op {
        let (file, id) = self.buffer();
        let owner = [CALLER, CALLER, CALLER, CALLER, CALLER, 0, USER, USER + 1];
        Op::Name {
            file,
            id,
            name: match self.one_in(10) {
                true => self.rng.u8(..NAMES + REGIONS.len() as u8),
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

    pub(super) fn unname(&mut self) -> Op {
        // A region that has lost its name would be lost to all programs that follow: root is not to ask for it.
        let may = |name: &u8| *name < NAMES || self.process().uid != 0;
        let names: Vec<u8> = self.world.names().filter(may).collect();
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

    pub(super) fn probe(&mut self) -> Op {
        let regions = self
            .files(|file| matches!(&file.what, What::Named(buffer) if buffer.kind == Kind::Region));
        let (file, id) = match self.pick(&regions) {
            Some(file) if !self.one_in(4) => (file, Id::Number(0)),
            _ => self.buffer(),
        };
        Op::Probe {
            file,
            id,
            flags: self.of(&[0, 1, 2, 3, 4], 0),
            damage: self.damage(),
        }
    }

    pub(super) fn region(&mut self) -> Op {
        Op::Region {
            file: self.file(|file| !matches!(file.what, What::DmaBuf(_))),
            index: self.of(&[0, 1, 2, u32::MAX], 0),
            damage: self.damage(),
        }
    }

    pub(super) fn last_error(&mut self) -> Op {
        Op::LastError {
            file: self.file(|file| !matches!(file.what, What::DmaBuf(_))),
            damage: self.damage(),
        }
    }

    pub(super) fn unknown(&mut self) -> Op {
        // One after the last of ours, and numbers that only look like ours.
        let numbers = [0xb9ff, 0xc010_b915, 0xb97f, 0xc050_ba00, 0x8010_b801];
        Op::Unknown {
            file: self.file(|_| true),
            number: self.of(&numbers, 0xb9ff),
        }
    }

    pub(super) fn dma_buf_sync(&mut self) -> Op {
        Op::DmaBufSync {
            file: self.file(|file| matches!(file.what, What::DmaBuf(_))),
            flags: self.of(&[1, 2, 3, 5, 6, 7, 3, 7, 0, 4, 8], 3),
        }
    }
}
