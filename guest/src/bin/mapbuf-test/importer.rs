//! The driver at the other end of a dma-buf: `tests/importer/mapbuf_importer.c`.

use crate::sys::{self, Result};
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;

/// How an importer behaves: it is one that lets go when it is told to.
pub const LETS_GO: u32 = 1;
/// At once, and not some time later.
pub const AT_ONCE: u32 = 2;
/// Or it only says so.
pub const NEVER: u32 = 4;

const fn request(direction: u32, number: u32, bytes: usize) -> u32 {
    direction << 30 | (bytes as u32) << 16 | (b't' as u32) << 8 | number
}

const ATTACH: u32 = request(1, 1, 40);
const MAP: u32 = request(0, 2, 0);
const UNMAP: u32 = request(0, 3, 0);
const DETACH: u32 = request(0, 4, 0);
const READ: u32 = request(3, 5, 16);
const TOLD: u32 = request(2, 6, 16);
const READ_STALE: u32 = request(3, 7, 16);
const EXPORT: u32 = request(0, 8, 0);
const REVOKE: u32 = request(0, 9, 0);
const MAP_AGAIN: u32 = request(0, 10, 0);

/// What it was told, and what it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// How often it was told to let go.
    pub invalidated: u32,
    /// Whether it has the dma-buf mapped.
    pub mapped: u32,
    /// Whether its device could read until it said that it had done.
    pub read_at_last: u32,
    /// How often the dma-buf that it exports is pinned now.
    pub pinned: u32,
}

/// One attachment, or one dma-buf of its own.
pub struct Importer(File);

impl Importer {
    pub fn open() -> Result<Self> {
        let mut options = OpenOptions::new();
        Ok(Self(
            options
                .read(true)
                .write(true)
                .open("/dev/mapbuf-importer")?,
        ))
    }

    /// Attaches a PCI device, or where no address is given a device of its own.
    pub fn attach(&self, dma_buf: &File, flags: u32, device: &str) -> Result<()> {
        let mut bytes = [0_u8; 40];
        bytes[..4].copy_from_slice(&dma_buf.as_raw_fd().to_ne_bytes());
        bytes[4..8].copy_from_slice(&flags.to_ne_bytes());
        bytes[8..8 + device.len()].copy_from_slice(device.as_bytes());
        sys::ioctl_bytes(&self.0, ATTACH, &mut bytes).map(drop)
    }

    pub fn map(&self) -> Result<()> {
        sys::ioctl_nowhere(&self.0, MAP, 0).map(drop)
    }

    /// The same attachment once more, while it is mapped.
    pub fn map_again(&self) -> Result<()> {
        sys::ioctl_nowhere(&self.0, MAP_AGAIN, 0).map(drop)
    }

    pub fn unmap(&self) -> Result<()> {
        sys::ioctl_nowhere(&self.0, UNMAP, 0).map(drop)
    }

    pub fn detach(&self) -> Result<()> {
        sys::ioctl_nowhere(&self.0, DETACH, 0).map(drop)
    }

    /// A word, through the addresses that its device has.
    pub fn read(&self, offset: usize) -> Result<u64> {
        self.word(READ, offset)
    }

    /// A word, through those that it had last: where an IOMMU leads them now.
    pub fn read_stale(&self, offset: usize) -> Result<u64> {
        self.word(READ_STALE, offset)
    }

    fn word(&self, number: u32, offset: usize) -> Result<u64> {
        let mut bytes = [0_u8; 16];
        bytes[..8].copy_from_slice(&(offset as u64).to_ne_bytes());
        sys::ioctl_bytes(&self.0, number, &mut bytes)?;
        Ok(bytes[8..].try_into().map_or(0, u64::from_ne_bytes))
    }

    pub fn told(&self) -> Result<Told> {
        let mut bytes = [0_u8; 16];
        sys::ioctl_bytes(&self.0, TOLD, &mut bytes)?;
        let word = |at: usize| {
            let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
            word.map_or(0, u32::from_ne_bytes)
        };
        Ok(Told {
            invalidated: word(0),
            mapped: word(4),
            read_at_last: word(8),
            pinned: word(12),
        })
    }

    /// A dma-buf of a page, which asks for importers that let go, or pins itself for those that do not.
    pub fn export(&self, asks: bool) -> Result<File> {
        sys::ioctl_nowhere(&self.0, EXPORT, asks.into()).map(sys::own)
    }

    /// Takes the memory of that away. `EBUSY` while it is pinned.
    pub fn revoke(&self) -> Result<()> {
        sys::ioctl_nowhere(&self.0, REVOKE, 0).map(drop)
    }
}
