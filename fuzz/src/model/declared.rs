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

/// The device's interrupts, by kind.
pub const INTX: u32 = 1;
/// It has none of these.
pub const MSI: u32 = 0;
/// As many as QEMU's `nvme` has.
pub const MSIX: u32 = 65;
/// Its register that leads to memory: the controller's own buffer (`cmb_size_mb` of `xtask/src/fuzz.rs`).
pub const BAR: u32 = 2;
/// The size of that in pages.
pub const BAR_PAGES: u64 = 256;

/// Bits in an access of the kernel's own view.
pub const WIDTH: u32 = 32;
/// Bytes in one.
pub const WORD: u64 = WIDTH as u64 / 8;
