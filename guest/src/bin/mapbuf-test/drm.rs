//! As much of the Direct Rendering Manager as the tests need: handles for dma-bufs (`include/uapi/drm/drm.h`).

use crate::sys::{self, Result};
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;

const HANDLE_TO_FD: u32 = 3 << 30 | 12 << 16 | (b'd' as u32) << 8 | 0x2d;
const FD_TO_HANDLE: u32 = HANDLE_TO_FD + 1;
const GEM_CLOSE: u32 = 1 << 30 | 8 << 16 | (b'd' as u32) << 8 | 9;

/// A graphics card.
pub struct Card(File);

impl Card {
    /// The first one.
    pub fn open() -> Result<Self> {
        let mut options = OpenOptions::new();
        Ok(Self(options.read(true).write(true).open("/dev/dri/card0")?))
    }

    /// A handle for a dma-buf, to which the card attaches itself.
    pub fn import(&self, dma_buf: &File) -> Result<u32> {
        let prime = self.prime(FD_TO_HANDLE, [0, 0, dma_buf.as_raw_fd() as u32])?;
        Ok(prime[0])
    }

    /// The dma-buf behind a handle.
    pub fn export(&self, handle: u32) -> Result<File> {
        let prime = self.prime(HANDLE_TO_FD, [handle, libc::O_RDWR as u32, 0])?;
        Ok(sys::own(prime[2] as i32))
    }

    /// Gives a handle back.
    pub fn close(&self, handle: u32) -> Result<()> {
        let mut request = u64::from(handle).to_ne_bytes();
        sys::ioctl_bytes(&self.0, GEM_CLOSE, &mut request).map(drop)
    }

    /// `struct drm_prime_handle`: handle, flags, descriptor.
    fn prime(&self, request: u32, words: [u32; 3]) -> Result<[u32; 3]> {
        let mut bytes = words.map(u32::to_ne_bytes).concat();
        sys::ioctl_bytes(&self.0, request, &mut bytes)?;
        let mut words = words;
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = bytes.try_into().map_or(0, u32::from_ne_bytes);
        }
        Ok(words)
    }
}
