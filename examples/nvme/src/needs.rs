//! What the driver needs of whoever gives it the device.

use crate::Result;
use std::os::fd::OwnedFd;

/// A PCI function that this program drives.
pub trait Function {
    /// What [`memory`](Self::memory) gives.
    type Memory: Memory;

    /// Reads a register of BAR 0.
    fn load(&self, register: usize) -> Result<u32>;

    /// Writes a register of BAR 0, after everything that was written to memory before.
    fn store(&self, register: usize, value: u32) -> Result<()>;

    /// Memory for so many bytes that the device reaches; all zero. It begins with a page.
    fn memory(&self, bytes: usize) -> Result<Self::Memory>;

    /// The same, of which both sides see at all times what the other one writes.
    fn coherent(&self, bytes: usize) -> Result<Self::Memory> {
        self.memory(bytes)
    }

    /// Descriptors for the first `count` interrupts: an eventfd each, in their order.
    fn interrupts(&self, count: u32) -> Result<Vec<OwnedFd>>;
}

/// Memory that the program and the device share.
///
/// The device writes to it at any time, so there are no references into it: bytes go in and out.
pub trait Memory {
    /// What the device calls the byte at `offset`: its DMA address. It holds up to the end of that byte's page.
    fn address(&self, offset: usize) -> Result<u64>;

    /// Copies bytes out.
    fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<()>;

    /// Copies bytes in.
    fn write(&self, offset: usize, bytes: &[u8]) -> Result<()>;

    /// Reads an aligned word at once, before everything that is read afterwards.
    fn load(&self, offset: usize) -> Result<u32>;

    /// Says that the program is done with these bytes, and the device may have them. Where DMA is coherent there is nothing to
    /// do.
    fn give(&self, _offset: usize, _bytes: usize) -> Result<()> {
        Ok(())
    }

    /// Says that the device is done with these bytes, and the program may have them.
    fn take(&self, _offset: usize, _bytes: usize) -> Result<()> {
        Ok(())
    }
}
