//! The guest's page tables, as the processor walks them: x86-64, with four or five levels.
//!
//! [`Tables`] reads them from the guest's memory and tells what lies at an address ([`Tables::at`]), what a range of
//! addresses shows ([`Tables::range`]), and by which other addresses the kernel sees the same frames
//! ([`Tables::kernel_views`]). Nothing of the guest's kernel is asked.

use anyhow::{Context, Result};
use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

/// Memory by its physical addresses.
pub trait PhysicalMemory {
    /// Reads from one address on; an error where there is nothing, or not enough.
    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<()>;
}

/// A physically contiguous piece of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frames {
    /// Where it begins.
    pub start: u64,
    /// How long it is.
    pub bytes: u64,
}

impl Frames {
    /// The first address behind it.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.bytes)
    }
}

/// What an entry covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Size {
    /// 4 KiB.
    Small,
    /// 2 MiB.
    Large,
    /// 1 GiB.
    Giant,
}

impl Size {
    /// In bytes.
    pub fn bytes(self) -> u64 {
        match self {
            Self::Small => 1 << 12,
            Self::Large => 1 << 21,
            Self::Giant => 1 << 30,
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Small => "4 KiB",
            Self::Large => "2 MiB",
            Self::Giant => "1 GiB",
        })
    }
}

/// How the processor may cache what an entry shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memtype {
    /// Ordinary memory.
    WriteBack,
    /// Writes are gathered, nothing is cached.
    WriteCombining,
    /// Not cached; a range register may make it write-combining.
    UncachedMinus,
    /// Not cached.
    Uncached,
    /// Reads are cached.
    WriteProtected,
    /// Reads are cached, writes go through.
    WriteThrough,
}

impl fmt::Display for Memtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WriteBack => "WB",
            Self::WriteCombining => "WC",
            Self::UncachedMinus => "UC-",
            Self::Uncached => "UC",
            Self::WriteProtected => "WP",
            Self::WriteThrough => "WT",
        })
    }
}

/// What Linux programs into the page attribute table (`pat_bp_init` of `arch/x86/mm/pat/memtype.c`).
const PAT: [Memtype; 8] = [
    Memtype::WriteBack,
    Memtype::WriteCombining,
    Memtype::UncachedMinus,
    Memtype::Uncached,
    Memtype::WriteBack,
    Memtype::WriteProtected,
    Memtype::UncachedMinus,
    Memtype::WriteThrough,
];

/// What Linux logs when it has programmed the table like that.
pub const PAT_LOGGED: &str = "x86/PAT: Configuration [0-7]: WB  WC  UC- UC  WB  WP  UC- WT";

/// Bits of an entry, by the processor's manual and by `arch/x86/include/asm/pgtable_types.h`.
mod bit {
    pub const PRESENT: u64 = 1 << 0;
    pub const WRITE: u64 = 1 << 1;
    pub const USER: u64 = 1 << 2;
    pub const PWT: u64 = 1 << 3;
    pub const PCD: u64 = 1 << 4;
    /// The entry of an upper level is the last one.
    pub const LARGE: u64 = 1 << 7;
    /// In the lowest level.
    pub const PAT_SMALL: u64 = 1 << 7;
    /// In the levels above.
    pub const PAT_LARGE: u64 = 1 << 12;
    /// Linux: there is no `struct page` to be used.
    pub const SPECIAL: u64 = 1 << 9;
    pub const NO_EXECUTE: u64 = 1 << 63;
    /// Where the next table, or the frame, lies.
    pub const FRAME: u64 = 0x000f_ffff_ffff_f000;
}

/// The last entry of a walk, with what the entries above it allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The first virtual address that it covers.
    pub address: u64,
    /// The first physical address that it shows.
    pub frame: u64,
    /// How much it covers.
    pub size: Size,
    /// Its cache mode.
    pub memtype: Memtype,
    /// Writing is allowed.
    pub write: bool,
    /// User mode is allowed.
    pub user: bool,
    /// Execution is allowed.
    pub execute: bool,
    /// Linux has marked it as one without a `struct page` to be used.
    pub special: bool,
}

impl Leaf {
    /// The last virtual address that it covers.
    pub fn last(&self) -> u64 {
        self.address + (self.size.bytes() - 1)
    }

    /// Where a virtual address within it leads.
    pub fn translate(&self, address: u64) -> u64 {
        self.frame + (address - self.address)
    }
}

impl fmt::Display for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flag = |set, yes, no| if set { yes } else { no };
        write!(
            f,
            "{:#x} -> {:#x}, {}, {}, r{}{} {}{}",
            self.address,
            self.frame,
            self.size,
            self.memtype,
            flag(self.write, "w", "-"),
            flag(self.execute, "x", "-"),
            flag(self.user, "user", "kernel"),
            flag(self.special, ", special", ""),
        )
    }
}

/// What holds for a leaf because of the entries above it.
#[derive(Clone, Copy)]
struct Allowed {
    write: bool,
    user: bool,
    execute: bool,
}

impl Allowed {
    const ALL: Self = Self {
        write: true,
        user: true,
        execute: true,
    };

    fn by(self, entry: u64) -> Self {
        Self {
            write: self.write && entry & bit::WRITE != 0,
            user: self.user && entry & bit::USER != 0,
            execute: self.execute && entry & bit::NO_EXECUTE == 0,
        }
    }
}

/// A set of page tables.
pub struct Tables<'a, M> {
    memory: &'a M,
    root: u64,
    levels: u32,
}

/// A table that a walk has come to.
#[derive(Clone, Copy)]
struct Place {
    /// Its physical address.
    table: u64,
    /// 1 for the lowest.
    level: u32,
    /// The first virtual address that it covers.
    base: u64,
    allowed: Allowed,
}

impl<'a, M: PhysicalMemory> Tables<'a, M> {
    /// The tables that these control registers lead to.
    pub fn new(memory: &'a M, cr3: u64, cr4: u64) -> Self {
        /// `CR4.LA57`
        const FIVE_LEVELS: u64 = 1 << 12;
        Self {
            memory,
            root: cr3 & bit::FRAME,
            levels: if cr4 & FIVE_LEVELS == 0 { 4 } else { 5 },
        }
    }

    /// Where Linux has all memory mapped, when it does not shuffle its addresses (`nokaslr`):
    /// `__PAGE_OFFSET_BASE_L4` and `__PAGE_OFFSET_BASE_L5` of `arch/x86/include/asm/page_64_types.h`.
    pub fn linear_map(&self) -> u64 {
        match self.levels {
            4 => 0xffff_8880_0000_0000,
            _ => 0xff11_0000_0000_0000,
        }
    }

    /// Where Linux has its `vmalloc` areas, `ioremap` among them (`__VMALLOC_BASE_L4` and
    /// `__VMALLOC_BASE_L5` of `arch/x86/include/asm/pgtable_64_types.h`).
    pub fn vmalloc_areas(&self) -> Range<u64> {
        let (start, tebibytes) = match self.levels {
            4 => (0xffff_c900_0000_0000, 32),
            _ => (0xffa0_0000_0000_0000, 12800),
        };
        start..start + (tebibytes << 40)
    }

    /// What lies at a virtual address.
    pub fn at(&self, address: u64) -> Result<Option<Leaf>> {
        let mut found = None;
        self.visit(address, address, None, &mut |leaf| found = Some(leaf))?;
        Ok(found)
    }

    /// What a range of virtual addresses shows, in order; where nothing is mapped, nothing is listed.
    pub fn range(&self, start: u64, bytes: u64) -> Result<Vec<Leaf>> {
        let mut found = Vec::new();
        if let Some(more) = bytes.checked_sub(1) {
            self.visit(start, start.saturating_add(more), None, &mut |leaf| {
                found.push(leaf)
            })?;
        }
        Ok(found)
    }

    /// Every entry of the kernel's half that shows one of these frames, which are given in rising order.
    ///
    /// A table that is used at several places is looked at once (the kernel does that with the stacks of `espfix`).
    pub fn kernel_views(&self, frames: &[Frames]) -> Result<Vec<Leaf>> {
        let shows = |leaf: &Leaf| {
            let end = leaf.frame + leaf.size.bytes();
            let after = frames.partition_point(|frames| frames.end() <= leaf.frame);
            frames.get(after).is_some_and(|frames| frames.start < end)
        };
        let half = self.sign_extended(1 << (self.covered(self.levels) - 1));
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        self.visit(half, u64::MAX, Some(&mut seen), &mut |leaf| {
            if shows(&leaf) {
                found.push(leaf);
            }
        })?;
        Ok(found)
    }

    fn visit(
        &self,
        first: u64,
        last: u64,
        seen: Option<&mut HashSet<u64>>,
        take: &mut dyn FnMut(Leaf),
    ) -> Result<()> {
        let root = Place {
            table: self.root,
            level: self.levels,
            base: 0,
            allowed: Allowed::ALL,
        };
        self.visit_table(root, first, last, &mut { seen }, take)
    }

    fn visit_table(
        &self,
        place: Place,
        first: u64,
        last: u64,
        seen: &mut Option<&mut HashSet<u64>>,
        take: &mut dyn FnMut(Leaf),
    ) -> Result<()> {
        if let Some(seen) = seen {
            if !seen.insert(place.table) {
                return Ok(());
            }
        }
        let mut table = [0; 4096];
        self.memory
            .read(place.table, &mut table)
            .with_context(|| format!("a page table lies at {:#x}", place.table))?;
        let shift = self.covered(place.level - 1);
        for (index, bytes) in (0u64..).zip(table.chunks_exact(8)) {
            let entry = bytes.try_into().map_or(0, u64::from_le_bytes);
            let address = self.sign_extended(place.base | (index << shift));
            let end = address + ((1 << shift) - 1);
            if entry & bit::PRESENT == 0 || end < first || address > last {
                continue;
            }
            let allowed = place.allowed.by(entry);
            let size = match place.level {
                1 => Some(Size::Small),
                2 if entry & bit::LARGE != 0 => Some(Size::Large),
                3 if entry & bit::LARGE != 0 => Some(Size::Giant),
                _ => None,
            };
            match size {
                Some(size) => take(leaf(entry, address, size, allowed)),
                None => {
                    let next = Place {
                        table: entry & bit::FRAME,
                        level: place.level - 1,
                        base: address,
                        allowed,
                    };
                    self.visit_table(next, first, last, seen, take)?;
                }
            }
        }
        Ok(())
    }

    /// Bits of an address that a table of this level translates; 12 for level 0, the page.
    fn covered(&self, level: u32) -> u32 {
        12 + 9 * level
    }

    fn sign_extended(&self, address: u64) -> u64 {
        let unused = 64 - self.covered(self.levels);
        ((address << unused) as i64 >> unused) as u64
    }
}

fn leaf(entry: u64, address: u64, size: Size, allowed: Allowed) -> Leaf {
    let pat = match size {
        Size::Small => bit::PAT_SMALL,
        Size::Large | Size::Giant => bit::PAT_LARGE,
    };
    let index = (usize::from(entry & pat != 0) << 2)
        | (usize::from(entry & bit::PCD != 0) << 1)
        | usize::from(entry & bit::PWT != 0);
    Leaf {
        address,
        frame: entry & bit::FRAME & !(size.bytes() - 1),
        size,
        memtype: PAT[index],
        write: allowed.write,
        user: allowed.user,
        execute: allowed.execute,
        special: entry & bit::SPECIAL != 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;
    use std::collections::BTreeMap;

    /// Tables by their addresses.
    #[derive(Default)]
    struct Image(BTreeMap<u64, [u64; 512]>);

    impl PhysicalMemory for Image {
        fn read(&self, address: u64, bytes: &mut [u8]) -> Result<()> {
            let Some(table) = self.0.get(&address) else {
                bail!("nothing at {address:#x}");
            };
            for (to, entry) in bytes.chunks_exact_mut(8).zip(table) {
                to.copy_from_slice(&entry.to_le_bytes());
            }
            Ok(())
        }
    }

    impl Image {
        fn set(&mut self, table: u64, index: usize, entry: u64) {
            self.0.entry(table).or_insert([0; 512])[index] = entry;
        }
    }

    fn frames(start: u64, bytes: u64) -> Frames {
        Frames { start, bytes }
    }

    const TABLE: u64 = bit::PRESENT | bit::WRITE | bit::USER;
    const PAGE: u64 = TABLE | bit::NO_EXECUTE;

    /// Root at 0x1000; user address 0 by 0x2000, 0x3000, 0x4000; the kernel's half by 0x5000.
    fn image() -> Image {
        let mut image = Image::default();
        image.set(0x1000, 0, 0x2000 | TABLE);
        image.set(0x2000, 0, 0x3000 | TABLE);
        image.set(0x3000, 0, 0x4000 | TABLE);
        image.set(0x4000, 5, 0x7_7000 | PAGE | bit::PWT | bit::SPECIAL);
        image.set(0x4000, 6, 0x7_8000 | bit::PRESENT | bit::PCD);
        image.set(0x4000, 7, 0x7_9000 | PAGE | bit::PAT_SMALL | bit::PWT);
        image.set(
            0x3000,
            1,
            0x40_0000 | PAGE | bit::LARGE | bit::PAT_LARGE | bit::PWT,
        );
        image.set(0x1000, 273, 0x5000 | TABLE);
        image.set(0x5000, 0, bit::PRESENT | bit::WRITE | bit::LARGE);
        image.set(0x5000, 1, (1 << 30) | PAGE | bit::LARGE);
        image
    }

    #[test]
    fn small_entries() {
        let image = image();
        let tables = Tables::new(&image, 0x1018, 0);
        let leaf = tables.at(0x5123).unwrap().unwrap();
        assert_eq!((leaf.address, leaf.frame), (0x5000, 0x7_7000));
        assert_eq!(leaf.translate(0x5123), 0x7_7123);
        assert_eq!(
            (leaf.size, leaf.memtype),
            (Size::Small, Memtype::WriteCombining)
        );
        assert!(leaf.write && leaf.user && !leaf.execute && leaf.special);
        let leaf = tables.at(0x6000).unwrap().unwrap();
        assert_eq!(leaf.memtype, Memtype::UncachedMinus);
        assert!(!leaf.write && !leaf.user && leaf.execute && !leaf.special);
        let leaf = tables.at(0x7fff).unwrap().unwrap();
        assert_eq!(leaf.memtype, Memtype::WriteProtected);
        assert_eq!(tables.at(0x8000).unwrap(), None);
        assert_eq!(tables.at(1 << 40).unwrap(), None);
    }

    #[test]
    fn the_attribute_bit_of_a_large_entry_is_no_part_of_its_frame() {
        let image = image();
        let tables = Tables::new(&image, 0x1000, 0);
        let leaf = tables.at(0x2f_ffff).unwrap().unwrap();
        assert_eq!(
            (leaf.address, leaf.frame, leaf.size),
            (0x20_0000, 0x40_0000, Size::Large)
        );
        assert_eq!(leaf.memtype, Memtype::WriteProtected);
        assert_eq!(leaf.last(), 0x3f_ffff);
    }

    #[test]
    fn what_an_upper_entry_forbids_stays_forbidden() {
        let mut image = image();
        image.set(0x2000, 0, 0x3000 | bit::PRESENT | bit::NO_EXECUTE);
        let tables = Tables::new(&image, 0x1000, 0);
        let leaf = tables.at(0x5000).unwrap().unwrap();
        assert!(!leaf.write && !leaf.user && !leaf.execute);
    }

    #[test]
    fn a_range_lists_what_it_touches() {
        let image = image();
        let tables = Tables::new(&image, 0x1000, 0);
        let addresses = |start, bytes| -> Vec<u64> {
            let leaves = tables.range(start, bytes).unwrap();
            leaves.iter().map(|leaf| leaf.address).collect()
        };
        assert_eq!(addresses(0, 1 << 22), [0x5000, 0x6000, 0x7000, 0x20_0000]);
        assert_eq!(addresses(0x6fff, 2), [0x6000, 0x7000]);
        assert_eq!(addresses(0x6000, 0), [0; 0]);
    }

    #[test]
    fn views_of_the_kernel_are_found_by_frame() {
        let image = image();
        let tables = Tables::new(&image, 0x1000, 0);
        assert_eq!(tables.linear_map(), 0xffff_8880_0000_0000);
        let views = tables.kernel_views(&[frames(0x7_7000, 4096)]).unwrap();
        assert_eq!(views.len(), 1);
        let view = views[0];
        assert_eq!((view.address, view.frame), (tables.linear_map(), 0));
        assert_eq!((view.size, view.user), (Size::Giant, false));
        assert_eq!(view.translate(tables.linear_map() + 0x7_7000), 0x7_7000);
        let far = frames(1 << 33, 1 << 33);
        let list = [frames(0, 1), frames((1 << 30) - 4096, 8192), far];
        assert_eq!(tables.kernel_views(&list).unwrap().len(), 2);
        assert_eq!(tables.kernel_views(&[far]).unwrap(), []);
    }

    #[test]
    fn shared_tables_are_looked_at_once() {
        let mut image = image();
        image.set(0x1000, 511, 0x5000 | TABLE);
        let tables = Tables::new(&image, 0x1000, 0);
        assert_eq!(tables.kernel_views(&[frames(0, 4096)]).unwrap().len(), 1);
    }

    #[test]
    fn five_levels() {
        let mut image = image();
        image.set(0x9000, 0, 0x1000 | TABLE);
        image.set(0x9000, 273, 0x1000 | TABLE);
        let tables = Tables::new(&image, 0x9000, 1 << 12);
        assert_eq!(tables.at(0x5000).unwrap().unwrap().frame, 0x7_7000);
        assert_eq!(tables.linear_map(), 273 << 48 | 0xfe00_0000_0000_0000);
        let leaf = tables.at(tables.linear_map() + 0x5000).unwrap().unwrap();
        assert_eq!(leaf.address, tables.linear_map() + 0x5000);
    }

    #[test]
    fn a_table_that_lies_nowhere_is_an_error() {
        let mut image = image();
        image.set(0x3000, 2, 0xdead_0000 | TABLE);
        let tables = Tables::new(&image, 0x1000, 0);
        let error = tables.at(0x40_0000).unwrap_err();
        assert_eq!(error.to_string(), "a page table lies at 0xdead0000");
    }
}
