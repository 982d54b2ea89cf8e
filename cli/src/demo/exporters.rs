//! Drivers that have nothing to do with mapbuf, and export memory as dma-bufs: dma-heaps, and udmabuf.

use rustix::{
    fs::{fcntl_add_seals, ftruncate, memfd_create, open, MemfdFlags, Mode, OFlags, SealFlags},
    ioctl::{ioctl, opcode, Updater},
};
use std::{
    error::Error,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
};

/// `DMA_HEAP_IOCTL_ALLOC` of `uapi/linux/dma-heap.h`.
const ALLOC: rustix::ioctl::Opcode = opcode::read_write::<Request>(b'H', 0);
/// `UDMABUF_CREATE` of `uapi/linux/udmabuf.h`, and `UDMABUF_FLAGS_CLOEXEC`.
const CREATE: rustix::ioctl::Opcode = opcode::write::<Create>(b'u', 0x42);
const CLOEXEC: u32 = 1;

/// `struct dma_heap_allocation_data`.
#[repr(C)]
struct Request {
    len: u64,
    fd: u32,
    fd_flags: u32,
    heap_flags: u64,
}

/// `struct udmabuf_create`.
#[repr(C)]
struct Create {
    memfd: u32,
    flags: u32,
    offset: u64,
    size: u64,
}

/// A dma-buf of a dma-heap.
pub fn of_heap(heap: &impl AsFd, bytes: u64) -> Result<OwnedFd, Box<dyn Error>> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let mut request = Request {
        len: bytes,
        fd: 0,
        fd_flags: flags.bits(),
        heap_flags: 0,
    };
    // SAFETY: The opcode is that of the request, which the kernel reads and writes.
    let update = unsafe { Updater::<ALLOC, Request>::new(&mut request) };
    // SAFETY: As the header has it; the kernel looks at nothing else of ours.
    unsafe { ioctl(heap, update) }?;
    let number = i32::try_from(request.fd)?;
    // SAFETY: The kernel has just put this descriptor into our table, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// A dma-buf of udmabuf, over a file in memory.
pub fn of_udmabuf(bytes: u64) -> Result<OwnedFd, Box<dyn Error>> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = memfd_create(c"mapbuf-demo", flags)?;
    ftruncate(&memory, bytes)?;
    // It insists on that.
    fcntl_add_seals(&memory, SealFlags::SHRINK)?;
    let create = Create {
        memfd: u32::try_from(memory.as_raw_fd())?,
        flags: CLOEXEC,
        offset: 0,
        size: bytes,
    };
    let device = open(
        "/dev/udmabuf",
        OFlags::RDWR | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    // SAFETY: The opcode is that of the request, which the kernel reads; it answers with a descriptor.
    let number = unsafe { ioctl(&device, Making(create)) }?;
    // SAFETY: The kernel has just put this descriptor into our table, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// The request whose answer is a descriptor.
struct Making(Create);

// SAFETY: The kernel reads a `struct udmabuf_create` at the pointer, and writes nothing there.
unsafe impl rustix::ioctl::Ioctl for Making {
    type Output = i32;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> rustix::ioctl::Opcode {
        CREATE
    }

    fn as_ptr(&mut self) -> *mut rustix::ffi::c_void {
        core::ptr::from_mut(&mut self.0).cast()
    }

    unsafe fn output_from_ptr(
        output: rustix::ioctl::IoctlOutput,
        _pointer: *mut rustix::ffi::c_void,
    ) -> rustix::io::Result<i32> {
        Ok(output)
    }
}
