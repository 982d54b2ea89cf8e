//! Memory that the host and the guest share: QEMU has it from a file, and whoever holds the file reads and writes it.

use crate::pagetable::PhysicalMemory;
use anyhow::{Context, Result};
use rustix::fs::{memfd_create, MemfdFlags};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

/// A file in memory, gone with this process and QEMU. It takes room only where it was touched.
pub struct SharedMemory {
    file: File,
    bytes: u64,
}

impl SharedMemory {
    /// One of so many bytes, all zero.
    pub fn new(bytes: u64) -> Result<Self> {
        let file = memfd_create("mapbuf-guest", MemfdFlags::CLOEXEC)
            .context("there is no memory to share")?;
        let file = File::from(file);
        file.set_len(bytes)?;
        Ok(Self { file, bytes })
    }

    /// How long it is.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// QEMU's `-object` argument for it. With `readonly`, what the guest writes goes nowhere.
    pub fn object(&self, id: &str, readonly: bool) -> String {
        let access = if readonly {
            "share=off,readonly=on"
        } else {
            "share=on"
        };
        // QEMU opens the file by its path, as this process does.
        format!(
            "memory-backend-file,id={id},size={},{access},mem-path=/proc/{}/fd/{}",
            self.bytes,
            std::process::id(),
            self.file.as_raw_fd()
        )
    }

    /// Writes at an offset.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all_at(bytes, offset)
            .with_context(|| format!("shared memory at {offset:#x}"))
    }
}

/// The guest's memory, as long as all of it lies in one piece from address 0 on.
impl PhysicalMemory for SharedMemory {
    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<()> {
        self.file
            .read_exact_at(bytes, address)
            .with_context(|| format!("shared memory at {address:#x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_in_and_come_out() {
        let memory = SharedMemory::new(8192).unwrap();
        memory.write(4096, &[1, 2, 3]).unwrap();
        let mut bytes = [9; 4];
        memory.read(4095, &mut bytes).unwrap();
        assert_eq!(bytes, [0, 1, 2, 3]);
        assert!(memory.read(8190, &mut bytes).is_err());
        let object = memory.object("ram", false);
        let path = object.split("mem-path=").nth(1).unwrap();
        assert_eq!(std::fs::metadata(path).unwrap().len(), 8192);
    }
}
