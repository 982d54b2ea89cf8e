//! dma-bufs of other drivers: who makes them, and how.

use crate::sys::{self, Result};
use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;

/// `DMA_HEAP_IOCTL_ALLOC` of include/uapi/linux/dma-heap.h.
const HEAP_ALLOC: u32 = 3 << 30 | 24 << 16 | (b'H' as u32) << 8;
/// `UDMABUF_CREATE` of include/uapi/linux/udmabuf.h, and its one flag, `UDMABUF_FLAGS_CLOEXEC`.
const UDMABUF_CREATE: u32 = 1 << 30 | 24 << 16 | (b'u' as u32) << 8 | 0x42;
const CLOEXEC: u32 = 1;

/// Who makes them here: each a driver of the kernel's own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exporter {
    Heap,
    Udmabuf,
}

/// All of them.
pub const EXPORTERS: [Exporter; 2] = [Exporter::Heap, Exporter::Udmabuf];

impl Exporter {
    /// A dma-buf of so many bytes, whole pages.
    pub fn make(self, bytes: usize) -> Result<File> {
        match self {
            Self::Heap => heap(bytes, libc::O_RDWR),
            Self::Udmabuf => udmabuf(bytes),
        }
    }
}

/// One of the system's dma-heap, opened with these flags.
pub fn heap(bytes: usize, flags: i32) -> Result<File> {
    // u64 len, u32 fd, u32 fd_flags, u64 heap_flags.
    let mut request = [0_u8; 24];
    request[..8].copy_from_slice(&(bytes as u64).to_ne_bytes());
    request[12..16].copy_from_slice(&(flags | libc::O_CLOEXEC).to_ne_bytes());
    sys::ioctl_bytes(
        &File::open("/dev/dma_heap/system")?,
        HEAP_ALLOC,
        &mut request,
    )?;
    let fd = i32::from_ne_bytes([request[8], request[9], request[10], request[11]]);
    Ok(sys::own(fd))
}

/// One of udmabuf, over a file in memory that cannot shrink.
fn udmabuf(bytes: usize) -> Result<File> {
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/udmabuf")?;
    let memfd = sys::sealed_memfd(bytes)?;
    // u32 memfd, u32 flags, u64 offset, u64 size.
    let mut request = [0_u8; 24];
    request[..4].copy_from_slice(&memfd.as_raw_fd().to_ne_bytes());
    request[4..8].copy_from_slice(&CLOEXEC.to_ne_bytes());
    request[16..].copy_from_slice(&(bytes as u64).to_ne_bytes());
    sys::ioctl_bytes(&device, UDMABUF_CREATE, &mut request).map(sys::own)
}

/// What tells one dma-buf from another.
pub fn identity(dma_buf: &impl AsFd) -> Result<u64> {
    let link = format!("/proc/self/fd/{}", dma_buf.as_fd().as_raw_fd());
    Ok(fs::metadata(link)?.ino())
}
