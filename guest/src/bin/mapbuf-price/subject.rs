//! What is measured: each kind of mapbuf's, mapped as it is by default, and what programs use instead.

use super::sys::{check, Mapped};
use super::Result;
use mapbuf::{Buffer, Device, Kind};
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

/// The region that the module is loaded with.
const REGION: &str = "/dev/mapbuf/named/price";
const HEAP: &str = "/dev/dma_heap/system";
const UDMABUF: &str = "/dev/udmabuf";

/// One way to have memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A buffer of mapbuf's.
    Buffer(Kind),
    /// A region of mapbuf's, reserved at boot.
    Region,
    /// The kernel's dma-heap `system`.
    Heap,
    /// The kernel's udmabuf, over a memfd.
    Udmabuf,
    /// Anonymous memory, with huge pages or without.
    Anonymous(bool),
}

impl Subject {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 9] = [
        Self::Buffer(Kind::Vmalloc),
        Self::Buffer(Kind::Pages),
        Self::Buffer(Kind::Contiguous),
        Self::Buffer(Kind::Coherent),
        Self::Region,
        Self::Heap,
        Self::Udmabuf,
        Self::Anonymous(false),
        Self::Anonymous(true),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Buffer(kind) => kind.name(),
            Self::Region => "region",
            Self::Heap => "dma-heap",
            Self::Udmabuf => "udmabuf",
            Self::Anonymous(false) => "anonymous",
            Self::Anonymous(true) => "anonymous-huge",
        }
    }

    /// The one with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|subject| subject.name() == name)
    }

    /// Opens what it comes from.
    pub fn open(self) -> Result<Source> {
        let node = |path: &str| {
            let file = OpenOptions::new().read(true).write(true).open(path);
            file.map_err(|error| format!("{path}: {error}"))
        };
        Ok(match self {
            Self::Buffer(kind) => Source::Device(Device::open()?, kind),
            Self::Region => Source::Region,
            Self::Heap => Source::Heap(node(HEAP)?),
            Self::Udmabuf => Source::Udmabuf(node(UDMABUF)?),
            Self::Anonymous(huge) => Source::Anonymous(huge),
        })
    }
}

/// Where memory comes from.
pub enum Source {
    /// A node of mapbuf's.
    Device(Device, Kind),
    /// The region's node, opened each time.
    Region,
    /// A dma-heap.
    Heap(File),
    /// The device that makes dma-bufs of memfds.
    Udmabuf(File),
    /// The kernel, when it is touched.
    Anonymous(bool),
}

/// Memory that can be mapped.
pub enum Memory<'a> {
    /// A buffer, by its offset in the node.
    Buffer(&'a Device, Buffer),
    /// A file, from its start; and another one that has to be closed with it.
    File(OwnedFd, Option<OwnedFd>),
    /// Nothing so far.
    Anonymous(bool),
}

// include/uapi/linux/dma-heap.h
#[repr(C)]
#[derive(Default)]
struct HeapAllocation {
    len: u64,
    fd: u32,
    fd_flags: u32,
    heap_flags: u64,
}
const DMA_HEAP_IOCTL_ALLOC: libc::c_ulong = 0xc018_4800;

// include/uapi/linux/udmabuf.h
#[repr(C)]
struct UdmabufCreate {
    memfd: u32,
    flags: u32,
    offset: u64,
    size: u64,
}
const UDMABUF_CREATE: libc::c_ulong = 0x4018_7542;
const UDMABUF_FLAGS_CLOEXEC: u32 = 1;

impl Source {
    /// Gets memory.
    pub fn alloc(&self, bytes: usize) -> Result<Memory<'_>> {
        Ok(match self {
            Self::Device(device, kind) => {
                Memory::Buffer(device, device.alloc(*kind, bytes as u64)?)
            }
            Self::Region => {
                let node = OpenOptions::new().read(true).write(true).open(REGION)?;
                Memory::File(node.into(), None)
            }
            Self::Heap(heap) => Memory::File(from_heap(heap, bytes)?, None),
            Self::Udmabuf(device) => {
                let memfd = memfd(bytes)?;
                Memory::File(udmabuf(device, &memfd, bytes)?, Some(memfd))
            }
            Self::Anonymous(huge) => Memory::Anonymous(*huge),
        })
    }
}

impl Memory<'_> {
    /// Maps it.
    pub fn map(&self, bytes: usize) -> Result<Mapped> {
        match self {
            Self::Buffer(device, buffer) => {
                let fd = device.as_fd().as_raw_fd();
                Mapped::new(Some(fd), buffer.mmap_offset(), bytes, None)
            }
            Self::File(file, _) => Mapped::new(Some(file.as_raw_fd()), 0, bytes, None),
            Self::Anonymous(huge) => Mapped::new(None, 0, bytes, Some(*huge)),
        }
    }

    /// Gives it back.
    pub fn free(self) -> Result<()> {
        match self {
            Self::Buffer(_, buffer) => buffer.free()?,
            Self::File(file, other) => drop((file, other)),
            Self::Anonymous(_) => {}
        }
        Ok(())
    }
}

fn from_heap(heap: &File, bytes: usize) -> Result<OwnedFd> {
    let mut request = HeapAllocation {
        len: bytes as u64,
        fd_flags: (libc::O_RDWR | libc::O_CLOEXEC).unsigned_abs(),
        ..HeapAllocation::default()
    };
    // SAFETY: the struct is the one that this request takes.
    let result = unsafe { libc::ioctl(heap.as_raw_fd(), DMA_HEAP_IOCTL_ALLOC, &mut request) };
    check(result.into())?;
    let fd = RawFd::try_from(request.fd)?;
    // SAFETY: the kernel has just put this descriptor into our table.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A memfd that cannot shrink, which udmabuf insists on.
fn memfd(bytes: usize) -> Result<OwnedFd> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: the name ends with a zero.
    let fd = check(unsafe { libc::memfd_create(c"price".as_ptr(), flags) }.into())?;
    // SAFETY: the kernel has just put this descriptor into our table.
    let memfd = unsafe { OwnedFd::from_raw_fd(RawFd::try_from(fd)?) };
    let fd = memfd.as_raw_fd();
    // SAFETY: system calls without pointers.
    check(unsafe { libc::ftruncate(fd, libc::off_t::try_from(bytes)?) }.into())?;
    // SAFETY: as above.
    check(unsafe { libc::fcntl(fd, libc::F_ADD_SEALS, libc::F_SEAL_SHRINK) }.into())?;
    Ok(memfd)
}

fn udmabuf(device: &File, memfd: &OwnedFd, bytes: usize) -> Result<OwnedFd> {
    let request = UdmabufCreate {
        memfd: memfd.as_raw_fd().unsigned_abs(),
        flags: UDMABUF_FLAGS_CLOEXEC,
        offset: 0,
        size: bytes as u64,
    };
    // SAFETY: the struct is the one that this request takes.
    let fd = unsafe { libc::ioctl(device.as_raw_fd(), UDMABUF_CREATE, &request) };
    check(fd.into())?;
    // SAFETY: the kernel has just put this descriptor into our table.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
