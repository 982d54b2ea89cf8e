//! What a plan promises of the page tables.

use mapbuf_abi::{Cache, Kind, RegionType};
use mapbuf_guest::witness::{Cell, Memory, Piece, Sharing, PAGE};
use mapbuf_policy::plan::{self, Facts, Huge, Layout, Request, Way};
use mapbuf_vm::pagetable::{Frames, Memtype, Size};

/// Pages in the page allocator's largest block.
const BLOCK: u64 = 1024;

/// A buffer, as its segments tell: what the table asks about memory, answered from outside of the driver.
pub struct Buffer<'a> {
    memory: &'static Memory,
    cache: Cache,
    pieces: &'a [Piece],
}

impl<'a> Buffer<'a> {
    /// The buffer that consists of these pieces.
    pub fn new(memory: &'static Memory, cache: Cache, pieces: &'a [Piece]) -> Self {
        Self {
            memory,
            cache,
            pieces,
        }
    }

    /// What the program asked the driver for, as root.
    pub fn request(&self, cell: &Cell) -> Request {
        Request {
            method: cell.method,
            page: cell.first,
            pages: cell.pages(),
            sharing: match cell.sharing {
                Sharing::Shared => plan::Sharing::Shared,
                Sharing::PrivateReadOnly => plan::Sharing::PrivateReadOnly,
                Sharing::PrivateWritable => plan::Sharing::PrivateWritable,
            },
            exec: false,
            write: true,
            admin: true,
            // The user does not choose the address.
            lined_up: true,
        }
    }

    /// The physical address of a page.
    pub fn frame(&self, page: u64) -> Option<u64> {
        let at = page * PAGE;
        let after = self.pieces.partition_point(|piece| piece.offset <= at);
        let piece = self.pieces.get(after.checked_sub(1)?)?;
        let within = at - piece.offset;
        (within < piece.bytes).then(|| piece.physical + within)
    }

    /// Its frames, in rising order.
    pub fn frames(&self) -> Vec<Frames> {
        let mut frames: Vec<_> = self
            .pieces
            .iter()
            .map(|piece| Frames {
                start: piece.physical,
                bytes: piece.bytes,
            })
            .collect();
        frames.sort_by_key(|frames| frames.start);
        frames
    }

    /// Whether an entry of this size can show the pages from `page` on, given an address that fits.
    pub fn holds(&self, page: u64, size: Size) -> bool {
        let pages = size.bytes() / PAGE;
        let aligned = self
            .frame(page)
            .is_some_and(|frame| frame % size.bytes() == 0);
        aligned && self.run(page) >= pages
    }

    /// Whether contiguous memory is folios that get a huge entry: one, or several where it is larger than the page
    /// allocator's largest block.
    fn in_folios(&self) -> bool {
        let (pages, huge) = (self.memory.pages, Size::Large.bytes() / PAGE);
        let several = pages > BLOCK && plan::in_huge_folios(pages, huge);
        self.memory.kind == Kind::Contiguous && (pages == huge || several)
    }

    /// The largest entry that a plan may use.
    pub fn largest(&self, way: Way) -> Size {
        match way {
            // Never one of 1 GiB: the kernel takes what it shows for a page table when the mapping is split
            // (mm_find_pmd of mm/rmap.c), and a program writes there what it likes.
            Way::FaultHugePfn | Way::RemapAndHuge | Way::FaultHugeFolio => Size::Large,
            // The core maps a folio of that size by one entry, as it does for files.
            Way::FaultPage if self.memory.kind == Kind::Pages || self.in_folios() => Size::Large,
            _ => Size::Small,
        }
    }

    /// The cache mode of every view of it.
    pub fn memtype(&self) -> Memtype {
        match self.cache {
            Cache::Cached => Memtype::WriteBack,
            Cache::WriteCombined => Memtype::WriteCombining,
            Cache::Uncached => Memtype::UncachedMinus,
        }
    }
}

/// Whether a plan maps frames that nobody may take for pages.
pub fn is_special(way: Way) -> bool {
    match way {
        Way::Remap
        | Way::RemapEach
        | Way::Dma
        | Way::Iomap
        | Way::IoRemap
        | Way::FaultPfn
        | Way::FaultHugePfn
        | Way::RemapAndHuge => true,
        Way::Insert
        | Way::MapPages
        | Way::Vmalloc
        | Way::FaultPage
        | Way::FaultAround
        | Way::FaultHugeFolio => false,
    }
}

impl Layout for Buffer<'_> {
    fn facts(&self) -> Facts {
        let region = self.memory.region;
        Facts {
            kind: self.memory.kind,
            cache: self.cache,
            pages: self.memory.pages,
            page_size: PAGE,
            huge_pages: Size::Large.bytes() / PAGE,
            paged: matches!(
                self.memory.kind,
                Kind::Vmalloc | Kind::Pages | Kind::Contiguous
            ),
            ram: region.is_none_or(|region| region.class == RegionType::Ram),
            unbacked: false,
        }
    }

    fn run(&self, page: u64) -> u64 {
        let Some(first) = self.frame(page) else {
            return 0;
        };
        (page..)
            .take_while(|&next| self.frame(next) == Some(first + (next - page) * PAGE))
            .count() as u64
    }

    fn huge(&self, page: u64, end: u64) -> Huge {
        let pages = Size::Large.bytes() / PAGE;
        let holds = |first: &u64| first + pages <= end && self.holds(*first, Size::Large);
        match self.memory.kind {
            Kind::Pages if (page..end).any(|first| holds(&first)) => Huge::Folio,
            Kind::Vmalloc | Kind::Pages => Huge::No,
            _ if !(page..end).any(|first| holds(&first)) => Huge::No,
            _ if self.in_folios() => Huge::Folio,
            _ => Huge::Pfn,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mapbuf_guest::witness::memory;

    const MIB: u64 = 1 << 20;

    fn piece(offset: u64, bytes: u64, physical: u64) -> Piece {
        Piece {
            offset,
            bytes,
            physical,
        }
    }

    #[test]
    fn frames_follow_the_pieces() {
        let pieces = [
            piece(0, 2 * MIB, 6 * MIB),
            piece(2 * MIB, MIB, 2 * MIB),
            piece(3 * MIB, MIB, 3 * MIB),
        ];
        let buffer = Buffer::new(memory("pages-4M").unwrap(), Cache::Cached, &pieces);
        assert_eq!(buffer.frame(0), Some(6 * MIB));
        assert_eq!(buffer.frame(513), Some(2 * MIB + PAGE));
        assert_eq!(buffer.frame(1024), None);
        assert_eq!(buffer.run(1), 511);
        assert_eq!(buffer.run(512), 512);
        assert!(buffer.holds(0, Size::Large) && !buffer.holds(1, Size::Large));
        assert_eq!(buffer.huge(0, 1024), Huge::Folio);
        assert_eq!(buffer.huge(513, 1024), Huge::No);
        assert_eq!(buffer.frames()[0].start, 2 * MIB);
    }

    #[test]
    fn contiguous_memory_has_entries_for_frames() {
        let pieces = [piece(0, 3 * MIB, 4 * MIB)];
        let buffer = Buffer::new(memory("contiguous-3M").unwrap(), Cache::Uncached, &pieces);
        assert_eq!(buffer.huge(0, 768), Huge::Pfn);
        assert_eq!(buffer.huge(1, 768), Huge::No);
        assert_eq!(buffer.largest(Way::FaultPage), Size::Small);
        assert_eq!(buffer.memtype(), Memtype::UncachedMinus);
        let folio = [piece(0, 2 * MIB, 4 * MIB)];
        let folio = Buffer::new(memory("contiguous-2M").unwrap(), Cache::Cached, &folio);
        assert_eq!(folio.huge(0, 512), Huge::Folio);
        assert_eq!(folio.largest(Way::FaultPage), Size::Large);
    }
}
