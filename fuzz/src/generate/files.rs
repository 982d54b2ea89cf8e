//! Operations on files.

use super::Generator;
use crate::model::What;
use crate::op::{Op, Place, PAGE, WORKERS};

impl Generator {
    pub(super) fn open(&mut self) -> Op {
        Op::Open {
            to: self.free_file(),
            access: self.of(&[2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 0, 0, 0, 1, 1, 3], 2),
        }
    }

    pub(super) fn open_device(&mut self) -> Op {
        // Without an IOMMU it is of no use to users.
        if self.process().uid != 0 && !self.one_in(3) {
            return self.open();
        }
        Op::OpenDevice {
            to: self.free_file(),
            access: self.of(&[2, 2, 2, 2, 2, 2, 2, 2, 0, 1, 3], 2),
        }
    }

    pub(super) fn open_named(&mut self) -> Op {
        let names: Vec<u8> = self.world.names().collect();
        let any = self.rng.u8(..6);
        Op::OpenNamed {
            to: self.free_file(),
            name: if self.one_in(8) {
                any
            } else {
                self.of(&names, any)
            },
            access: self.of(&[2, 2, 2, 2, 2, 2, 2, 2, 0, 0, 0, 1, 1, 3], 2),
        }
    }

    pub(super) fn close(&mut self) -> Op {
        // A process that has closed its last session loses all its buffers: not too often.
        let file = match self.one_in(4) {
            true => self.file(|_| true),
            false => self.file(|file| !matches!(file.what, What::Session(_))),
        };
        Op::Close { file }
    }

    pub(super) fn send(&mut self) -> Op {
        Op::Send {
            file: self.file(|_| true),
            worker: self.rng.usize(..WORKERS) as u8,
        }
    }

    pub(super) fn receive(&mut self) -> Op {
        if self.world.waiting(self.worker) == 0 && !self.one_in(6) {
            return self.load();
        }
        Op::Receive {
            to: self.free_file(),
        }
    }

    /// A place in a file that has bytes there, and how many pages lie behind it.
    pub(super) fn place(&mut self, mapping: bool) -> (u8, Place, u64) {
        // A dma-buf has no bytes to be read.
        let dma_bufs = mapping || self.one_in(40);
        let others = self.files(|file| match file.what {
            What::Named(_) => true,
            What::DmaBuf(_) => dma_bufs,
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
    pub(super) fn delta(&mut self, pages: u64) -> u64 {
        match self.rng.u32(..30) {
            0 => pages,
            1..=15 => self.rng.u64(..pages.max(1)),
            _ => 0,
        }
    }

    pub(super) fn stretch(&mut self, pages: u64) -> (u32, u32) {
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

    pub(super) fn read_at(&mut self) -> Op {
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

    pub(super) fn write_at(&mut self) -> Op {
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

    pub(super) fn seek(&mut self) -> Op {
        Op::Seek {
            file: self.file(|_| true),
            offset: self.of(
                &[0, 0, 0, 1, -1, 4096, -4096, 1 << 40, i64::MAX, i64::MIN],
                0,
            ),
            whence: self.of(&[0, 0, 1, 1, 2, 2, 3, 4, 5, -1], 0),
        }
    }
}
