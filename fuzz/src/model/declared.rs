//! The regions that the module is told of.

use mapbuf_abi::Cache;

/// A region, as it is declared.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    /// The number of its name.
    pub name: u8,
    /// Physical address of its first byte.
    pub start: u64,
    /// Its size in pages.
    pub pages: u64,
    /// The cache mode of every view of it.
    pub cache: Cache,
}

/// What the module's parameter `regions` declares: see `REGIONS` of `xtask/src/fuzz.rs`.
pub const REGIONS: &[Region] = &[
    Region {
        name: 12,
        start: 0x1000_0000,
        pages: 16,
        cache: Cache::Cached,
    },
    Region {
        name: 13,
        start: 0x1004_0000,
        pages: 8,
        cache: Cache::Uncached,
    },
];

/// Bits in an access of the kernel's own view.
pub const WIDTH: u32 = 32;
/// Bytes in one.
pub const WORD: u64 = WIDTH as u64 / 8;
