//! What `mapbuf-witness`, in the guest, and the host agree on.
//!
//! The program maps a buffer, writes a [`tag`] into its pages, tells the host where it did so, and waits in user mode
//! until the host has looked: at the page tables that are in force at that moment, and at the bytes in the guest's
//! memory, which the host holds as a file. The host writes an [`answer`] into the same pages, which the program must
//! find, in its mapping and by `pread`.
//!
//! Messages go to the host as lines, each [`MARK`] and a [`Message`] in JSON. The way back is the [`beacon`], a page of
//! the program's own, which the host finds by the page tables as well.

use mapbuf_abi::{Cache, Kind, Method, RegionType};
use serde::{Deserialize, Serialize};

/// What a line with a message begins with.
pub const MARK: &str = "WITNESS ";

/// Where things lie in the program's page, counted in words of 64 bits.
pub mod beacon {
    /// What tells that it is this program's page.
    pub const NONCE: usize = 0;
    /// Program: the look that is asked for.
    pub const ASKED: usize = 1;
    /// Host: the look that was made.
    pub const MADE: usize = 2;
}

/// Bytes in a page.
pub const PAGE: u64 = 4096;

/// What the program writes to the start of a page before look number `look`.
pub fn tag(look: u64, page: u64) -> u64 {
    0x7a67_0000_0000_0000 | (look << 32) | page
}

/// What the program writes to the start of a private copy.
pub fn copy_tag(look: u64, page: u64) -> u64 {
    tag(look, page) ^ 0xffff_0000_0000_0000
}

/// What the host writes to the second word of a page when it has looked.
pub fn answer(look: u64, page: u64) -> u64 {
    !tag(look, page)
}

/// What a region is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Memory that the kernel was told to leave alone, from this offset in [`RESERVED`] on.
    Reserved(u64),
    /// The memory of a PCI device, from this offset on.
    Device(u64),
}

/// Where the reserved memory begins: a multiple of 1 GiB.
pub const RESERVED: u64 = 1 << 30;
/// How much of it there is.
pub const RESERVED_BYTES: u64 = (1 << 30) + (16 << 20);
/// The machine's memory; all of it lies in one piece from address 0 on.
pub const MACHINE_BYTES: u64 = RESERVED + RESERVED_BYTES + (16 << 20);
/// The memory of the device that the host shares.
pub const DEVICE_BYTES: u64 = 16 << 20;
/// The memory of the device that reads nothing but ones, and keeps nothing.
pub const ONES_BYTES: u64 = 1 << 20;

/// A region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Where it lies.
    pub place: Place,
    /// What it is declared to be.
    pub class: RegionType,
    /// The rest of its declaration.
    pub words: &'static str,
}

/// Memory that is mapped in every way.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Its name in the results.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Its pages.
    pub pages: u64,
    /// Its cache modes; each is a buffer of its own.
    pub caches: &'static [Cache],
    /// The methods that are tried.
    pub methods: &'static [Method],
    /// The methods that must map it, shared and private read-only, whatever the table says.
    pub must: &'static [Method],
    /// Each page of this number is touched.
    pub step: u64,
    /// What it is made from, if it is a region.
    pub region: Option<Region>,
}

/// What scattered pages allow.
const SCATTERED: &[Method] = &[
    Method::Auto,
    Method::RemapEach,
    Method::Insert,
    Method::MapPages,
    Method::FaultPage,
    Method::FaultPfn,
];

/// What they allow in a `vmalloc` area.
const IN_AN_AREA: &[Method] = &[
    Method::Auto,
    Method::RemapEach,
    Method::Insert,
    Method::MapPages,
    Method::Vmalloc,
    Method::FaultPage,
    Method::FaultPfn,
];

/// What folios of the size of a huge entry allow.
const FOLIOS: &[Method] = &[
    Method::Auto,
    Method::RemapEach,
    Method::Insert,
    Method::MapPages,
    Method::FaultPage,
    Method::FaultPfn,
    Method::FaultHuge,
];

/// What one run of pages allows.
const ONE_RUN: &[Method] = &[
    Method::Auto,
    Method::Remap,
    Method::RemapEach,
    Method::Insert,
    Method::MapPages,
    Method::Iomap,
    Method::IoRemap,
    Method::FaultPage,
    Method::FaultPfn,
];

/// What one run allows that has the size of a huge entry at least.
const LARGE_RUN: &[Method] = &[
    Method::Auto,
    Method::Remap,
    Method::RemapEach,
    Method::Insert,
    Method::MapPages,
    Method::Iomap,
    Method::IoRemap,
    Method::FaultPage,
    Method::FaultPfn,
    Method::FaultHuge,
];

/// What memory of the DMA API's allows.
const COHERENT: &[Method] = &[
    Method::Auto,
    Method::Remap,
    Method::RemapEach,
    Method::Dma,
    Method::Iomap,
    Method::IoRemap,
    Method::FaultPfn,
];

/// What frames without pages allow, in a large run.
const FRAMES: &[Method] = &[
    Method::Auto,
    Method::Remap,
    Method::RemapEach,
    Method::Iomap,
    Method::IoRemap,
    Method::FaultPfn,
    Method::FaultHuge,
];

const fn buffer(name: &'static str, kind: Kind, bytes: u64, must: &'static [Method]) -> Memory {
    Memory {
        name,
        kind,
        pages: bytes / PAGE,
        caches: Cache::ALL,
        methods: Method::ALL,
        must,
        step: 1,
        region: None,
    }
}

const fn region(
    name: &'static str,
    bytes: u64,
    caches: &'static [Cache],
    place: Place,
    class: RegionType,
    words: &'static str,
) -> Memory {
    let region = Region {
        place,
        class,
        words,
    };
    Memory {
        caches,
        region: Some(region),
        ..buffer(name, Kind::Region, bytes, FRAMES)
    }
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// All of it. Regions come in the order in which they are declared.
pub const MEMORIES: &[Memory] = &[
    buffer("vmalloc-256K", Kind::Vmalloc, 256 * KIB, IN_AN_AREA),
    buffer("pages-256K", Kind::Pages, 256 * KIB, SCATTERED),
    buffer("pages-4M", Kind::Pages, 4 * MIB, FOLIOS),
    buffer("contiguous-64K", Kind::Contiguous, 64 * KIB, ONE_RUN),
    // One folio of the size of a huge entry.
    buffer("contiguous-2M", Kind::Contiguous, 2 * MIB, LARGE_RUN),
    // A block of the page allocator's, split.
    buffer("contiguous-3M", Kind::Contiguous, 3 * MIB, LARGE_RUN),
    // More than the page allocator gives in one block.
    buffer("contiguous-8M", Kind::Contiguous, 8 * MIB, LARGE_RUN),
    // Coherent memory has one cache mode on x86.
    Memory {
        caches: &[Cache::Cached],
        ..buffer("coherent-64K", Kind::Coherent, 64 * KIB, COHERENT)
    },
    // The same frames as those of a region, and `dma` on top.
    Memory {
        caches: &[Cache::Cached],
        ..buffer("coherent-4M", Kind::Coherent, 4 * MIB, FRAMES)
    },
    region(
        "reserved",
        4 * MIB,
        &[Cache::Cached],
        Place::Reserved(1 << 30),
        RegionType::Ram,
        "cached",
    ),
    region(
        "reserved-wc",
        4 * MIB,
        &[Cache::WriteCombined],
        Place::Reserved((1 << 30) + 4 * MIB),
        RegionType::Ram,
        "wc",
    ),
    region(
        "reserved-uc",
        4 * MIB,
        &[Cache::Uncached],
        Place::Reserved((1 << 30) + 8 * MIB),
        RegionType::Ram,
        "uc",
    ),
    // Large enough for an entry of 1 GiB, and it gets none. One page of each huge entry is touched, since more would take
    // the host's memory; so would a probe (`trust`).
    Memory {
        methods: &[Method::FaultHuge],
        must: &[Method::FaultHuge],
        step: 512,
        ..region(
            "reserved-1G",
            1 << 30,
            &[Cache::Cached],
            Place::Reserved(0),
            RegionType::Ram,
            "cached:trust",
        )
    },
    region(
        "device",
        4 * MIB,
        &[Cache::Uncached],
        Place::Device(0),
        RegionType::Mmio,
        "uc",
    ),
    region(
        "device-wc",
        4 * MIB,
        &[Cache::WriteCombined],
        Place::Device(4 * MIB),
        RegionType::Mmio,
        "wc",
    ),
    region(
        "device-ram",
        4 * MIB,
        &[Cache::Uncached],
        Place::Device(8 * MIB),
        RegionType::Ram,
        "uc:64:probe",
    ),
    // Its first frame is no place for a huge entry; one that lies in it is.
    region(
        "device-odd",
        4 * MIB - CACHED_BYTES,
        &[Cache::WriteCombined],
        Place::Device(CACHED_OFFSET + CACHED_BYTES),
        RegionType::Mmio,
        "wc",
    ),
];

/// The memory with this name.
pub fn memory(name: &str) -> Option<&'static Memory> {
    MEMORIES.iter().find(|memory| memory.name == name)
}

/// Who sees writes through a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sharing {
    /// Everybody.
    Shared,
    /// There are none.
    PrivateReadOnly,
    /// The process alone.
    PrivateWritable,
}

impl Sharing {
    /// Every value.
    pub const ALL: [Self; 3] = [Self::Shared, Self::PrivateReadOnly, Self::PrivateWritable];

    /// Its name in the results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::PrivateReadOnly => "private-read-only",
            Self::PrivateWritable => "private-writable",
        }
    }
}

/// A way to map a buffer.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    /// The memory.
    pub memory: &'static Memory,
    /// The buffer's cache mode.
    pub cache: Cache,
    /// By which kernel function.
    pub method: Method,
    /// Shared or private.
    pub sharing: Sharing,
    /// The first page of the part that is mapped; the last one is the buffer's.
    pub first: u64,
}

/// Where a part begins that is mapped beside the whole: at no place where a huge entry could.
const PART: u64 = 5;

impl Cell {
    /// Its name in the results.
    pub fn name(&self) -> String {
        let part = match self.first {
            0 => String::new(),
            first => format!("/from-page-{first}"),
        };
        format!(
            "witness::{}/{}/{}/{}{part}",
            self.memory.name,
            self.cache.name(),
            self.method.name(),
            self.sharing.name()
        )
    }

    /// Whether it must map, whatever the table says.
    pub fn must_map(&self) -> bool {
        /// Pages that a huge entry shows.
        const HUGE: u64 = 512;
        // A part that begins at no huge entry's place needs another one behind it.
        let huge = self.method != Method::FaultHuge
            || self.first.next_multiple_of(HUGE) + HUGE <= self.memory.pages;
        self.sharing != Sharing::PrivateWritable && self.memory.must.contains(&self.method) && huge
    }

    /// The pages that are touched, as they are counted in the buffer.
    pub fn touched(&self) -> impl Iterator<Item = u64> {
        (self.first..self.memory.pages).step_by(self.memory.step as usize)
    }

    /// How many pages are mapped.
    pub fn pages(&self) -> u64 {
        self.memory.pages - self.first
    }
}

/// The ways to map one buffer.
pub fn cells(memory: &'static Memory, cache: Cache) -> impl Iterator<Item = Cell> {
    let cell = move |method, sharing, first| Cell {
        memory,
        cache,
        method,
        sharing,
        first,
    };
    memory.methods.iter().flat_map(move |&method| {
        let whole = Sharing::ALL.map(|sharing| cell(method, sharing, 0));
        // A part has the frames that belong there, and huge entries where its address allows them.
        let part = (memory.step == 1).then(|| cell(method, Sharing::Shared, PART));
        whole.into_iter().chain(part)
    })
}

/// All ways to map all buffers.
pub fn all_cells() -> impl Iterator<Item = Cell> {
    let buffers = MEMORIES
        .iter()
        .flat_map(|memory| memory.caches.iter().map(move |&cache| (memory, cache)));
    buffers.flat_map(|(memory, cache)| cells(memory, cache))
}

/// A mapping that holds its buffer after the id, or the name, is gone.
pub fn held(memory: &'static Memory, cache: Cache) -> Cell {
    Cell {
        memory,
        cache,
        method: memory.methods[0],
        sharing: Sharing::Shared,
        first: 0,
    }
}

/// The name of the look at such a mapping.
pub fn held_name(memory: &Memory, cache: Cache) -> String {
    format!(
        "witness::{}/{}/held-by-a-mapping",
        memory.name,
        cache.name()
    )
}

/// The name of the look at memory that was given back.
pub fn freed_name(memory: &Memory, cache: Cache) -> String {
    format!("witness::{}/{}/freed", memory.name, cache.name())
}

/// What there is to know of memory that answers with ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ones {
    /// It was read when it was registered.
    Suspect,
    /// It was written to as well.
    Unbacked,
    /// It is to be mapped all the same.
    Trusted,
}

/// A range among a device's addresses that is declared to be cached: the processor's range registers forbid it there,
/// and the kernel makes it uncached without a word.
pub const CACHED_TEST: &str = "witness::device-cached/refused";
/// Where it lies in the device's memory.
pub const CACHED_OFFSET: u64 = 12 * MIB;
/// How long it is.
pub const CACHED_BYTES: u64 = 64 * KIB;

/// What the program finds out about it by itself.
pub const ONES_TESTS: [(&str, Ones); 3] = [
    ("witness::ones/suspect", Ones::Suspect),
    ("witness::ones/unbacked", Ones::Unbacked),
    ("witness::ones/trusted", Ones::Trusted),
];

/// The names of all results, in their order.
pub fn names() -> Vec<String> {
    let mut names = Vec::new();
    for memory in MEMORIES {
        for &cache in memory.caches {
            names.extend(cells(memory, cache).map(|cell| cell.name()));
            names.push(held_name(memory, cache));
            names.push(freed_name(memory, cache));
        }
    }
    names.push(CACHED_TEST.to_owned());
    names.extend(ONES_TESTS.map(|(name, _)| name.to_owned()));
    names
}

/// Whether a result was asked for, by parts of names with commas between them.
pub fn chosen(name: &str, filter: &str) -> bool {
    filter.split(',').any(|part| name.contains(part))
}

/// A physically contiguous piece of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Where it begins in the buffer, in bytes.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
    /// Where it lies.
    pub physical: u64,
}

/// What the host is to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sight {
    /// A mapping whose pages were all touched.
    Mapped {
        /// Where it begins.
        start: u64,
        /// How long it is.
        bytes: u64,
        /// What the program has done to it.
        touched: Touched,
    },
    /// The buffer is gone.
    Freed,
}

/// How pages were touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Touched {
    /// Written through the mapping.
    Written,
    /// Written through the kernel's view, read through the mapping.
    Read,
    /// Some were written through a private mapping, see [`is_copied`].
    Copied,
}

/// Whether the program writes to this page of a private mapping of the whole buffer.
pub fn is_copied(page: u64, pages: u64) -> bool {
    page == 0 || page == pages / 2 || page + 1 == pages
}

/// The memory of a PCI device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Where it begins.
    pub start: u64,
    /// How long it is.
    pub bytes: u64,
}

/// What the program says to the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// It begins.
    Ready {
        /// Where its page lies.
        beacon: u64,
        /// What stands there.
        nonce: u64,
        /// The device that the host shares.
        device: Window,
    },
    /// It has a buffer.
    Buffer {
        /// Where its frames lie.
        pieces: Vec<Piece>,
    },
    /// It waits for a look.
    Look {
        /// The name of the result that this is for.
        test: String,
        /// Its number, from 1 on.
        look: u64,
        /// What to look at.
        sight: Sight,
    },
    /// A cell, or a buffer's kind, was refused.
    Refused {
        /// The name of the result.
        test: String,
        /// The reason's number.
        reason: u32,
        /// The whole sentence.
        text: String,
    },
    /// It has done all that belongs to a result.
    Result {
        /// The name of the result.
        test: String,
        /// What was wrong, as seen from inside.
        wrong: Vec<String>,
    },
    /// It has done everything.
    Done,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique() {
        let names = names();
        let unique: HashSet<_> = names.iter().collect();
        assert_eq!(unique.len(), names.len());
        assert!(names.len() > 500);
    }

    #[test]
    fn regions_lie_where_they_may_and_apart() {
        let mut taken: Vec<(bool, u64, u64)> = Vec::new();
        for memory in MEMORIES {
            let Some(region) = memory.region else {
                continue;
            };
            let bytes = memory.pages * PAGE;
            let (device, start, all) = match region.place {
                Place::Reserved(start) => (false, start, RESERVED_BYTES),
                Place::Device(start) => (true, start, DEVICE_BYTES),
            };
            assert!(start + bytes <= all, "{}", memory.name);
            for (other, from, to) in &taken {
                assert!(
                    *other != device || start >= *to || start + bytes <= *from,
                    "{}",
                    memory.name
                );
            }
            taken.push((device, start, start + bytes));
        }
    }

    #[test]
    fn what_must_map_is_tried() {
        for memory in MEMORIES {
            let tried = |method| memory.methods.contains(method);
            assert!(memory.must.iter().all(tried), "{}", memory.name);
        }
    }

    #[test]
    fn words_differ() {
        let words = [tag(7, 3), tag(8, 3), copy_tag(7, 3), answer(7, 3)];
        assert_eq!(words.iter().collect::<HashSet<_>>().len(), words.len());
    }

    #[test]
    fn messages_survive_the_way() {
        let message = Message::Look {
            test: "x".into(),
            look: u64::MAX,
            sight: Sight::Mapped {
                start: 0x7fff_ffff_f000,
                bytes: 4096,
                touched: Touched::Read,
            },
        };
        let text = serde_json::to_string(&message).unwrap();
        assert!(!text.contains('\n'));
        assert_eq!(serde_json::from_str::<Message>(&text).unwrap(), message);
    }
}
