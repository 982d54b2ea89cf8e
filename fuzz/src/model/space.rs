//! The addresses of a process: its mappings, as `mm/` of the kernel keeps them.
//!
//! Mappings of buffers do not grow (`VM_DONTEXPAND`), so the kernel never merges two of them (`VM_SPECIAL` in
//! `vma_merge_existing_range` and `vma_merge_new_range` of `mm/vma.c`): they are only ever split.

use super::memory::{write_page, Buffer, Page};
use std::collections::BTreeMap;
use std::rc::Rc;

/// `PROT_WRITE`
pub const WRITE: u8 = 2;
/// `PROT_EXEC`
pub const EXEC: u8 = 4;

/// A mapping, in pages.
#[derive(Clone, Debug)]
pub struct Vma {
    /// Its first page.
    pub start: u64,
    /// Behind its last page.
    pub end: u64,
    /// What it shows.
    pub buffer: Rc<Buffer>,
    /// The page of the buffer at its start.
    pub first: u64,
    /// `PROT_*`
    pub prot: u8,
    /// Whether it may become writable.
    pub may_write: bool,
    /// `MAP_SHARED`
    pub shared: bool,
    /// Whether it is one of page frames (`VM_PFNMAP`), of which the kernel takes none out again.
    pub frames: bool,
    /// Whether its file places mappings by itself (`get_unmapped_area`), so that it does not move together with others.
    pub alone: bool,
    /// Private copies, by the page of the buffer that they were made of.
    pub copies: BTreeMap<u64, Page>,
}

impl Vma {
    fn split_off(&mut self, at: u64) -> Self {
        let first = self.first + (at - self.start);
        let right = Self {
            start: at,
            first,
            copies: self.copies.split_off(&first),
            ..self.clone()
        };
        self.end = at;
        right
    }

    fn page_of(&self, at: u64) -> u64 {
        self.first + (at - self.start)
    }

    /// That its memory is there; nothing of a device's is ever copied.
    fn there(&self) -> Result<(), i32> {
        match self.buffer.gone() {
            true => Err(libc::SIGBUS),
            false => Ok(()),
        }
    }
}

/// All mappings of a process, in the order of their addresses.
#[derive(Clone, Debug, Default)]
pub struct Space {
    vmas: Vec<Vma>,
}

const ENOMEM: i32 = libc::ENOMEM;

impl Space {
    /// Its mappings.
    pub fn vmas(&self) -> &[Vma] {
        &self.vmas
    }

    /// Whether something is mapped there.
    pub fn any(&self, start: u64, end: u64) -> bool {
        self.vmas
            .iter()
            .any(|vma| vma.start < end && start < vma.end)
    }

    /// The mapping at a page.
    pub fn at(&self, page: u64) -> Option<&Vma> {
        let index = self.vmas.partition_point(|vma| vma.end <= page);
        self.vmas.get(index).filter(|vma| vma.start <= page)
    }

    /// Adds a mapping where there is none.
    pub fn insert(&mut self, vma: Vma) {
        let index = self.vmas.partition_point(|other| other.end <= vma.start);
        self.vmas.insert(index, vma);
    }

    /// Makes a mapping end there, if one lies across.
    fn cut(&mut self, page: u64) {
        let index = self.vmas.partition_point(|vma| vma.end <= page);
        if let Some(vma) = self.vmas.get_mut(index).filter(|vma| vma.start < page) {
            let right = vma.split_off(page);
            self.vmas.insert(index + 1, right);
        }
    }

    /// `munmap`
    pub fn unmap(&mut self, start: u64, end: u64) {
        self.cut(start);
        self.cut(end);
        self.vmas.retain(|vma| vma.end <= start || vma.start >= end);
    }

    /// `mprotect`: goes from mapping to mapping until there is a gap, or one that may not be so
    /// (`do_mprotect_pkey` of `mm/mprotect.c`).
    pub fn protect(&mut self, start: u64, end: u64, prot: u8) -> i32 {
        let mut at = start;
        while at < end {
            let Some(vma) = self.at(at) else {
                return ENOMEM;
            };
            if prot & EXEC != 0 || prot & WRITE != 0 && !vma.may_write {
                return libc::EACCES;
            }
            let to = vma.end.min(end);
            if vma.prot != prot {
                self.cut(at);
                self.cut(to);
                let index = self.vmas.partition_point(|vma| vma.end <= at);
                if let Some(vma) = self.vmas.get_mut(index) {
                    vma.prot = prot;
                }
            }
            at = to;
        }
        0
    }

    /// `mremap` with `MREMAP_FIXED` and the same length: moves mapping after mapping, and keeps the gaps between them
    /// (`remap_move` of `mm/mremap.c`, and `vma_multi_allowed` for what stops it).
    pub fn relocate(&mut self, start: u64, pages: u64, to: u64) -> i32 {
        let end = start + pages;
        if pages == 0 || (start < to + pages && to < end) {
            return libc::EINVAL;
        }
        if self.at(start).is_none() {
            return libc::EFAULT;
        }
        let moving: Vec<_> = self
            .vmas
            .iter()
            .filter(|vma| vma.start < end && start < vma.end)
            .map(|vma| (vma.start.max(start), vma.end.min(end), vma.alone))
            .collect();
        for (from, until, alone) in moving {
            // It would have to be the first, and the last.
            if alone && (from > start || until < end) {
                return libc::EFAULT;
            }
            let target = from - start + to;
            self.unmap(target, target + (until - from));
            self.cut(from);
            self.cut(until);
            let index = self.vmas.partition_point(|vma| vma.end <= from);
            let mut vma = self.vmas.remove(index);
            vma.start = target;
            vma.end = target + (until - from);
            self.insert(vma);
        }
        0
    }

    /// `mremap` to another length, in its place (`check_prep_vma` of `mm/mremap.c`).
    pub fn resize(&mut self, start: u64, old: u64, new: u64) -> i32 {
        if new == 0 {
            return libc::EINVAL;
        }
        let Some(vma) = self.at(start) else {
            return libc::EFAULT;
        };
        if new > old {
            // Nothing is made out of nothing of a private mapping; no mapping of a buffer grows.
            return match old == 0 && !vma.shared {
                true => libc::EINVAL,
                false => libc::EFAULT,
            };
        }
        if new < old {
            self.unmap(start + new, start + old);
        }
        0
    }

    /// `madvise(MADV_DONTNEED)`: private copies are forgotten. Stops at a mapping of page frames; gaps are passed, and
    /// told of in the end (`madvise_walk_vmas` and `madvise_dontneed_free_valid_vma` of `mm/madvise.c`).
    pub fn forget(&mut self, start: u64, end: u64) -> i32 {
        let mut at = start;
        let mut error = 0;
        while at < end {
            let index = self.vmas.partition_point(|vma| vma.end <= at);
            let Some(vma) = self.vmas.get_mut(index).filter(|vma| vma.start < end) else {
                return ENOMEM;
            };
            if vma.start > at {
                error = ENOMEM;
                at = vma.start;
            }
            if vma.frames {
                return libc::EINVAL;
            }
            let to = vma.end.min(end);
            let (first, last) = (vma.page_of(at), vma.page_of(to));
            vma.copies.retain(|page, _| *page < first || *page >= last);
            at = to;
        }
        error
    }

    /// What a read of a page sees. On x86 what may be written may be read.
    ///
    /// # Errors
    ///
    /// The signal that it raises.
    pub fn load(&self, page: u64) -> Result<Page, i32> {
        let vma = self.at(page).filter(|vma| vma.prot != 0);
        let vma = vma.ok_or(libc::SIGSEGV)?;
        vma.there()?;
        let page = vma.page_of(page);
        Ok(match vma.copies.get(&page) {
            Some(copy) => copy.clone(),
            None => vma.buffer.page(page),
        })
    }

    /// Writes to a page.
    ///
    /// # Errors
    ///
    /// The signal that it raises.
    pub fn store(&mut self, page: u64, at: usize, bytes: &[u8]) -> Result<(), i32> {
        let index = self.vmas.partition_point(|vma| vma.end <= page);
        let vma = self.vmas.get_mut(index).filter(|vma| vma.start <= page);
        let vma = vma.filter(|vma| vma.prot & WRITE != 0);
        let vma = vma.ok_or(libc::SIGSEGV)?;
        vma.there()?;
        let page = vma.page_of(page);
        if vma.shared {
            vma.buffer.write(page, at, bytes);
        } else {
            let buffer = &vma.buffer;
            let copy = vma.copies.entry(page).or_insert_with(|| buffer.page(page));
            write_page(copy, at, bytes);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::Accounts;
    use super::*;
    use mapbuf_abi::{Cache, Kind};
    use std::cell::Cell;

    fn space() -> Space {
        let buffer = Buffer::new(
            (1, Kind::Pages, Cache::Cached),
            vec![10],
            0,
            &Rc::new(Cell::new((0, 0))),
            &Rc::new(Accounts::default()),
        );
        let vma = |start, shared| Vma {
            start,
            end: start + 10,
            buffer: Rc::clone(&buffer),
            first: 0,
            prot: 3,
            may_write: true,
            shared,
            frames: false,
            alone: false,
            copies: BTreeMap::new(),
        };
        let mut space = Space::default();
        space.insert(vma(30, false));
        space.insert(vma(10, true));
        space
    }

    fn places(space: &Space) -> Vec<(u64, u64, u64)> {
        space
            .vmas
            .iter()
            .map(|vma| (vma.start, vma.end, vma.first))
            .collect()
    }

    #[test]
    fn a_hole_splits() {
        let mut space = space();
        space.unmap(13, 15);
        assert_eq!(places(&space), [(10, 13, 0), (15, 20, 5), (30, 40, 0)]);
        space.unmap(0, 100);
        assert!(space.vmas.is_empty());
    }

    #[test]
    fn protection_stops_at_a_gap() {
        let mut space = space();
        assert_eq!(space.protect(12, 25, 1), ENOMEM);
        assert_eq!(places(&space), [(10, 12, 0), (12, 20, 2), (30, 40, 0)]);
        assert_eq!(space.protect(25, 35, 1), ENOMEM);
        assert_eq!(space.protect(30, 40, 5), libc::EACCES);
        assert_eq!(space.protect(10, 20, 3), 0);
        assert_eq!(space.vmas.len(), 3);
    }

    #[test]
    fn copies_move_with_their_pages() {
        let mut space = space();
        assert!(space.store(35, 0, b"mine").is_ok());
        assert_eq!(space.relocate(33, 7, 15), 0);
        assert_eq!(places(&space), [(10, 15, 0), (15, 22, 3), (30, 33, 0)]);
        assert_eq!(space.load(17).unwrap().unwrap()[..4], *b"mine");
        assert_eq!(space.load(12), Ok(None));
        assert_eq!(space.forget(16, 18), 0);
        assert_eq!(space.load(17), Ok(None));
        assert_eq!(space.relocate(15, 7, 18), libc::EINVAL);
    }

    #[test]
    fn what_places_itself_moves_alone() {
        let mut space = space();
        space.vmas[1].alone = true;
        assert_eq!(space.relocate(10, 30, 100), libc::EFAULT);
        assert_eq!(places(&space), [(30, 40, 0), (100, 110, 0)]);
        assert_eq!(space.relocate(30, 11, 200), libc::EFAULT);
        assert_eq!(space.relocate(30, 10, 200), 0);
        assert_eq!(places(&space), [(100, 110, 0), (200, 210, 0)]);
    }

    #[test]
    fn a_private_write_stays_private() {
        let mut space = space();
        assert!(space.store(30, 7, b"private").is_ok());
        assert_eq!(space.load(10), Ok(None));
        assert!(space.store(10, 0, b"shared").is_ok());
        assert_eq!(space.load(30).unwrap().unwrap()[..7], [0; 7]);
        assert!(space.store(11, 0, b"shared").is_ok());
        assert_eq!(space.load(31).unwrap().unwrap()[..6], *b"shared");
    }
}
