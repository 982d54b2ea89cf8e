//! A block device, which the kernel reads and writes by DMA: straight into and out of the pages that a program names.

use crate::check::{Failure, Outcome};
use crate::skip;
use crate::sys::{self, Map};
use io_uring::{opcode, squeue, types, IoUring};
use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

/// The guest's only NVMe disk, empty, whose driver is built into the kernel.
pub const DEVICE: &str = "/dev/nvme0n1";
/// The class of NVMe controllers in PCI's numbering.
const NVME: &str = "0x010802";

/// The device, opened with `O_DIRECT`.
pub fn open() -> Outcome<File> {
    let there = fs::read_dir("/sys/bus/pci/devices")?
        .flatten()
        .any(|device| {
            fs::read_to_string(device.path().join("class")).is_ok_and(|class| class.trim() == NVME)
        });
    if !there {
        return Err(Failure::new("the machine has no NVMe controller"));
    }
    if !fs::exists("/sys/bus/pci/drivers/nvme")? {
        skip!("the kernel has no driver for NVMe");
    }
    // The controller is looked at while the kernel goes on booting.
    let mut disk = Err(Failure::new("not tried"));
    sys::until(Duration::from_secs(20), || {
        disk = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_DIRECT | libc::O_CLOEXEC)
            .open(DEVICE)
            .map_err(|error| Failure::new(format!("{DEVICE}: {error}")));
        disk.is_ok()
    });
    disk
}

/// Which way the bytes go.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    ToMemory,
    ToDisk,
}

/// An `io_uring` with a part of a mapping as its only fixed buffer.
pub struct Fixed {
    ring: IoUring,
    start: usize,
    len: usize,
}

impl Fixed {
    /// Pins the memory until the ring is gone; `None` where there is no `io_uring`.
    pub fn new(map: &Map, at: usize, len: usize) -> Outcome<Option<sys::Result<Self>>> {
        assert!(at + len <= map.len);
        Self::pin(map.start + at, len)
    }

    /// The same with all of a library's mapping.
    pub fn of(mapping: &mapbuf::Mapping) -> Outcome<Option<sys::Result<Self>>> {
        Self::pin(mapping.as_ptr().addr(), mapping.len())
    }

    fn pin(start: usize, len: usize) -> Outcome<Option<sys::Result<Self>>> {
        let ring = match IoUring::new(4) {
            Ok(ring) => ring,
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let vector = libc::iovec {
            iov_base: start as *mut _,
            iov_len: len,
        };
        // SAFETY: the vector names a mapping, to which there are no references; pinned pages outlive even that.
        let registered = unsafe { ring.submitter().register_buffers(&[vector]) };
        Ok(Some(match registered {
            Ok(()) => Ok(Self { ring, start, len }),
            Err(error) => Err(error.into()),
        }))
    }

    /// Moves `len` bytes between byte `at` of the buffer and the disk; how many were moved.
    pub fn transfer(
        &mut self,
        way: Way,
        disk: &File,
        at: usize,
        len: usize,
        offset: u64,
    ) -> Outcome<i32> {
        assert!(at + len <= self.len);
        let entry = self.entry(way, disk.as_raw_fd(), at, len as u32, offset);
        // SAFETY: the buffer is pinned as long as the ring is there.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        pushed.map_err(|_| Failure::new("the ring is full"))?;
        self.ring.submit_and_wait(1)?;
        let answer = self.ring.completion().next();
        Ok(answer.ok_or(Failure::new("no answer"))?.result())
    }

    fn entry(&self, way: Way, disk: RawFd, at: usize, len: u32, offset: u64) -> squeue::Entry {
        let disk = types::Fd(disk);
        let start = (self.start + at) as *mut u8;
        match way {
            Way::ToMemory => opcode::ReadFixed::new(disk, start, len, 0)
                .offset(offset)
                .build(),
            Way::ToDisk => opcode::WriteFixed::new(disk, start, len, 0)
                .offset(offset)
                .build(),
        }
    }
}
