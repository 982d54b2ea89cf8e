//! The example drivers, and what is promised of each.

use crate::sys::{self, PAGE};
use std::fs::{self, File, OpenOptions};
use std::io::{Error, Result};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;

/// `MY_ALLOC` and `MY_FREE` of `dma_mmap_coherent.h`.
pub const ALLOC: u32 = 0x4010_4d01;
pub const FREE: u32 = 0x4d02;
/// `MY_EXPORT` of `dma_buf_exporter.h`.
pub const EXPORT: u32 = 0x4d03;

/// Where the profile has set memory aside, and how much of it is used.
pub const RESERVED: &str = "start=0x30000000 bytes=0x10000";

/// What a private mapping that writes does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Private {
    /// The kernel copies what is written.
    Copies,
    /// `mmap` refuses it.
    Refused,
}

/// What `madvise(MADV_DONTNEED)` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// The next touch brings the bytes back.
    ComesBack,
    /// The next touch is a SIGBUS.
    StaysAway,
    /// The kernel refuses it.
    Refused,
}

/// How a subject is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// The node is the memory.
    Node,
    /// An ioctl makes a buffer with an id.
    Allocate,
    /// An ioctl gives a descriptor.
    Export,
}

/// A way to get at a driver's memory.
pub struct Subject {
    /// Its name in the results.
    pub name: &'static str,
    pub module: &'static str,
    pub parameters: &'static str,
    /// The node in /dev; with `*` at the end its beginning.
    node: &'static str,
    how: How,
    /// Pages of its memory.
    pub pages: usize,
    pub private: Private,
    pub dropped: Dropped,
    /// What a range outside of the memory is.
    pub outside: i32,
    /// Whether new memory reads as zeros, but for `starts_with` at the start of each page.
    pub zeroed: bool,
    pub starts_with: u32,
}

const PAGES: usize = 16;

/// Memory with pages.
const fn pages(name: &'static str, dropped: Dropped) -> Subject {
    Subject {
        name,
        module: name,
        parameters: "",
        node: name,
        how: How::Node,
        pages: PAGES,
        private: Private::Copies,
        dropped,
        outside: libc::EINVAL,
        zeroed: true,
        starts_with: 0,
    }
}

/// Memory that is mapped by frame.
const fn frames(name: &'static str) -> Subject {
    Subject {
        private: Private::Refused,
        ..pages(name, Dropped::Refused)
    }
}

/// The same way, in Rust.
const fn rust(name: &'static str, like: Subject) -> Subject {
    Subject {
        name,
        module: name,
        node: name,
        // The layer compares with the memory by itself.
        outside: libc::EINVAL,
        dropped: match like.dropped {
            // It has a fault handler for all pages.
            Dropped::StaysAway => Dropped::ComesBack,
            other => other,
        },
        ..like
    }
}

pub const SUBJECTS: &[Subject] = &[
    frames("remap_pfn_range"),
    Subject {
        starts_with: 0xaabb_ccdd,
        ..frames("maps0")
    },
    pages("remap_vmalloc_range", Dropped::StaysAway),
    pages("vm_insert_pages", Dropped::StaysAway),
    Subject {
        outside: libc::ENXIO,
        ..pages("vm_map_pages", Dropped::StaysAway)
    },
    Subject {
        how: How::Allocate,
        outside: libc::ENXIO,
        ..frames("dma_mmap_coherent")
    },
    Subject {
        node: "vm_iomap_memory-*",
        pages: 256,
        zeroed: false,
        ..frames("vm_iomap_memory")
    },
    Subject {
        parameters: RESERVED,
        ..frames("io_remap_pfn_range")
    },
    pages("fault_page", Dropped::ComesBack),
    Subject {
        node: "fault_pfn-*",
        pages: 256,
        zeroed: false,
        ..frames("fault_pfn")
    },
    Subject {
        pages: 512,
        ..pages("fault_huge", Dropped::ComesBack)
    },
    pages("dma_buf_exporter", Dropped::StaysAway),
    Subject {
        name: "dma_buf_exporter-descriptor",
        how: How::Export,
        ..pages("dma_buf_exporter", Dropped::StaysAway)
    },
    Subject {
        name: "mmap_prepare-pages",
        module: "mmap_prepare",
        node: "mmap_prepare-pages",
        ..pages("", Dropped::StaysAway)
    },
    Subject {
        name: "mmap_prepare-frames",
        module: "mmap_prepare",
        node: "mmap_prepare-frames",
        ..frames("")
    },
    rust("rust_remap_pfn_range", frames("")),
    rust(
        "rust_maps0",
        Subject {
            starts_with: 0xaabb_ccdd,
            ..frames("")
        },
    ),
    rust("rust_remap_vmalloc_range", pages("", Dropped::StaysAway)),
    rust("rust_vm_insert_pages", pages("", Dropped::StaysAway)),
    rust("rust_vm_map_pages", pages("", Dropped::StaysAway)),
    rust(
        "rust_dma_mmap_coherent",
        Subject {
            how: How::Allocate,
            ..frames("")
        },
    ),
    rust(
        "rust_io_remap_pfn_range",
        Subject {
            parameters: RESERVED,
            ..frames("")
        },
    ),
    Subject {
        node: "rust_vm_iomap_memory-*",
        pages: 256,
        zeroed: false,
        ..rust("rust_vm_iomap_memory", frames(""))
    },
    Subject {
        node: "rust_fault_pfn-*",
        pages: 256,
        zeroed: false,
        ..rust("rust_fault_pfn", frames(""))
    },
    rust("rust_dma_buf_exporter", pages("", Dropped::StaysAway)),
    Subject {
        name: "rust_dma_buf_exporter-descriptor",
        how: How::Export,
        ..rust("rust_dma_buf_exporter", pages("", Dropped::StaysAway))
    },
    Subject {
        module: "rust_mmap_prepare",
        ..rust("rust_mmap_prepare-pages", pages("", Dropped::StaysAway))
    },
    Subject {
        module: "rust_mmap_prepare",
        ..rust("rust_mmap_prepare-frames", frames(""))
    },
    rust("rust_fault_page", pages("", Dropped::ComesBack)),
    rust(
        "rust_fault_huge",
        Subject {
            pages: 512,
            ..pages("", Dropped::ComesBack)
        },
    ),
];

/// What is mapped: the node itself, or a descriptor that it gave.
pub enum Mapped {
    Node(File),
    Descriptor(OwnedFd),
}

impl AsRawFd for Mapped {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Node(file) => file.as_raw_fd(),
            Self::Descriptor(fd) => fd.as_raw_fd(),
        }
    }
}

/// A driver's memory, opened.
pub struct Buffer {
    pub node: File,
    pub mapped: Mapped,
    /// What `mmap` is told for its first byte.
    pub offset: u64,
    /// What `pread` is told for its first byte.
    view: u64,
    pub len: usize,
}

impl Subject {
    /// The way that it shows, by the name of the driver in C.
    pub fn way(&self) -> &'static str {
        self.name.strip_prefix("rust_").unwrap_or(self.name)
    }

    /// Whether kernels before 7.2 can have it: a driver in C, for a callback that they call.
    pub fn is_for_older(&self) -> bool {
        !self.name.starts_with("rust_") && self.module != "mmap_prepare"
    }

    /// The node's path.
    pub fn path(&self) -> Result<String> {
        let Some(beginning) = self.node.strip_suffix('*') else {
            return Ok(format!("/dev/{}", self.node));
        };
        let found = fs::read_dir("/dev")?
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .find(|name| name.starts_with(beginning));
        let found = found.map(|name| format!("/dev/{name}"));
        found.ok_or_else(|| Error::other(format!("no node /dev/{}", self.node)))
    }

    pub fn open(&self) -> Result<Buffer> {
        self.open_for(true)
    }

    /// Opens it, if need be for reading alone.
    pub fn open_for(&self, writing: bool) -> Result<Buffer> {
        let node = OpenOptions::new()
            .read(true)
            .write(writing)
            .open(self.path()?)?;
        let mut buffer = Buffer {
            mapped: Mapped::Node(node.try_clone()?),
            node,
            offset: 0,
            view: 0,
            len: self.pages * PAGE,
        };
        match self.how {
            How::Node => {}
            How::Allocate => {
                let id = allocate(&buffer.node, buffer.len as u64)?;
                buffer.offset = u64::from(id) * PAGE as u64;
                buffer.view = u64::from(id) << 32;
            }
            How::Export => {
                let fd = sys::ioctl_value(&buffer.node, EXPORT, 0)?;
                buffer.mapped = Mapped::Descriptor(sys::descriptor(fd));
            }
        }
        Ok(buffer)
    }
}

/// `MY_ALLOC`; the id.
pub fn allocate(node: &File, bytes: u64) -> Result<u32> {
    let mut argument = [0; 16];
    argument[..8].copy_from_slice(&bytes.to_ne_bytes());
    let id = sys::ioctl_bytes(node, ALLOC, &mut argument)?;
    u32::try_from(id).map_err(Error::other)
}

impl Buffer {
    /// Maps all of it, shared.
    pub fn map(&self) -> Result<sys::Map> {
        sys::Map::new(&self.mapped, self.offset, self.len, sys::RW, sys::SHARED)
    }

    /// Maps `pages` of it from page `first` on; any numbers.
    pub fn map_part(&self, first: u64, pages: usize, prot: i32, sharing: i32) -> Result<sys::Map> {
        let offset = self.offset.wrapping_add(first.wrapping_mul(PAGE as u64));
        sys::Map::new(&self.mapped, offset, pages * PAGE, prot, sharing)
    }

    /// The kernel's view of a word.
    pub fn kernel_word(&self, byte: usize) -> Result<u32> {
        let mut bytes = [0; 4];
        self.node
            .read_exact_at(&mut bytes, self.view + byte as u64)?;
        Ok(u32::from_ne_bytes(bytes))
    }

    pub fn set_kernel_word(&self, byte: usize, word: u32) -> Result<()> {
        self.node
            .write_all_at(&word.to_ne_bytes(), self.view + byte as u64)
    }

    /// The id of a buffer that was allocated.
    pub fn id(&self) -> usize {
        (self.view >> 32) as usize
    }

    /// Whether its ids stand where offsets would: a part of the memory cannot be named then.
    pub fn has_ids(&self) -> bool {
        self.view != 0
    }
}
