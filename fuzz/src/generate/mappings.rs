//! Mappings, and what is done to them.

use super::{large, Generator, Range};
use crate::op::{Op, Place, PAGES};

impl Generator {
    /// A free range of pages.
    pub(super) fn gap(&mut self, pages: u32) -> u32 {
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

    pub(super) fn map(&mut self) -> Op {
        let (file, place, left) = self.place(true);
        self.map_at(file, place, left)
    }

    /// A mapping of all of a buffer, or of a part.
    pub(super) fn map_of(&mut self, file: u8, place: Place) -> Op {
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

    pub(super) fn map_at(&mut self, file: u8, place: Place, left: u64) -> Op {
        let left = left.min(1100) as u32;
        let pages = match self.rng.u32(..24) {
            0 => 0,
            1 => left + 1,
            2 => self.rng.u32(..PAGES / 4),
            3..=14 => left,
            15..=20 if large(left.into()) => left,
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
                21..=30 if large(pages.into()) => 2,
                _ => 1,
            },
            populate: self.one_in(6),
        }
    }

    /// A mapping, mostly one that there is.
    pub(super) fn mapping(&mut self) -> Range {
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
    pub(super) fn part(&mut self) -> Range {
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

    pub(super) fn unmap(&mut self) -> Op {
        let Range { at, pages } = self.part();
        Op::Unmap {
            at,
            pages: if self.one_in(30) { 0 } else { pages },
        }
    }

    pub(super) fn protect(&mut self) -> Op {
        let Range { at, pages } = self.part();
        let prot = self.of(&[0, 1, 1, 3, 3, 3, 3, 2, 4], 3);
        Op::Protect { at, pages, prot }
    }

    pub(super) fn relocate(&mut self) -> Op {
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

    pub(super) fn resize(&mut self) -> Op {
        let Range { at, pages } = self.part();
        let new = match self.rng.u32(..6) {
            0 => pages + 1,
            1 => 0,
            2 => pages,
            _ => self.rng.u32(..pages.max(1)) + 1,
        };
        Op::Resize { at, pages, new }
    }

    pub(super) fn forget(&mut self) -> Op {
        let Range { at, pages } = self.part();
        Op::Forget { at, pages }
    }

    /// A read or a write of a range.
    pub(super) fn access(&mut self, Range { at, pages }: Range) -> Op {
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

    pub(super) fn load(&mut self) -> Op {
        let Range { at, pages } = self.part();
        let (skip, length) = self.stretch(pages.into());
        Op::Load { at, skip, length }
    }

    pub(super) fn store(&mut self) -> Op {
        let Range { at, pages } = self.part();
        let (skip, length) = self.stretch(pages.into());
        Op::Store {
            at,
            skip,
            length,
            seed: self.rng.u32(..),
        }
    }
}
