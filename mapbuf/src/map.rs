//! How a buffer is mapped.

use crate::{
    access::{protection, Access, Sharing},
    bounds::{self, wide, OutOfBounds},
    core_refusal::{self, MmapCall},
    error::{Error, Result},
    file::NodeFile,
    mapping::Mapping,
    volatile::Copies,
};
use mapbuf_abi::{Method, Operation};
use rustix::{io::Errno, mm::MapFlags};
use std::{
    os::fd::BorrowedFd,
    ptr::{self, NonNull},
};

/// What can be mapped: a [`Buffer`](crate::Buffer), a [`Named`](crate::Named) buffer, an [`Export`](crate::Export).
pub trait Mappable: sealed::Source {}

/// What a [`Mappable`] is for `mmap`.
#[derive(Debug)]
pub struct Target<'a> {
    /// The node to ask for the reason of a refusal, if the file is one.
    pub(crate) file: Option<&'a NodeFile>,
    pub(crate) fd: BorrowedFd<'a>,
    pub(crate) access: Access,
    pub(crate) bytes: u64,
    /// The file offset of the buffer's byte 0.
    pub(crate) base: u64,
    /// How copies access the memory.
    pub(crate) copies: Copies,
}

pub(crate) mod sealed {
    use super::*;

    pub trait Source {
        fn target(&self, method: Method) -> Result<Target<'_>>;
    }
}

/// Which part of a buffer to map, and how.
///
/// ```no_run
/// use mapbuf::{Device, Kind, MapOptions};
///
/// # fn main() -> Result<(), mapbuf::Error> {
/// let buffer = Device::open()?.alloc(Kind::Pages, 1 << 20)?;
/// let second_half = MapOptions::new()
///     .offset(512 << 10)
///     .read_only()
///     .populate()
///     .map(&buffer)?;
/// assert_eq!(second_half.len(), 512 << 10);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "options do nothing until `map` is called"]
pub struct MapOptions {
    offset: u64,
    len: Option<usize>,
    access: Option<Access>,
    sharing: Sharing,
    populate: bool,
    method: Method,
}

impl Default for MapOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl MapOptions {
    /// The whole buffer, shared, for reading and writing unless its file was opened read-only, with the best method for
    /// its kind.
    pub fn new() -> Self {
        Self {
            offset: 0,
            len: None,
            access: None,
            sharing: Sharing::Shared,
            populate: false,
            method: Method::Auto,
        }
    }

    /// The offset in the buffer, in bytes, at which the mapping starts: a multiple of the page size.
    pub fn offset(mut self, offset: u64) -> Self {
        self.offset = offset;
        self
    }

    /// The length in bytes [default: up to the end of the buffer].
    pub fn len(mut self, len: usize) -> Self {
        self.len = Some(len);
        self
    }

    /// Whether the mapping can be written.
    pub fn access(mut self, access: Access) -> Self {
        self.access = Some(access);
        self
    }

    /// Read-only.
    pub fn read_only(self) -> Self {
        self.access(Access::ReadOnly)
    }

    /// Reading and writing.
    pub fn read_write(self) -> Self {
        self.access(Access::ReadWrite)
    }

    /// `MAP_PRIVATE`: writes stay in this mapping.
    pub fn private(mut self) -> Self {
        self.sharing = Sharing::Private;
        self
    }

    /// Whether writes are seen by others.
    pub fn sharing(mut self, sharing: Sharing) -> Self {
        self.sharing = sharing;
        self
    }

    /// `MAP_POPULATE`: fill the page tables now, so that no access faults later.
    pub fn populate(mut self) -> Self {
        self.populate = true;
        self
    }

    /// The kernel function to map with.
    pub fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// Maps the buffer.
    ///
    /// # Errors
    ///
    /// * [`Error::OutOfBounds`] if the offset is at or beyond the end of the buffer, where the next buffer may start;
    /// * [`Error::Refused`] with a [`Reason`](crate::Reason) of the 300s: `BeyondEnd` if the mapping would run
    ///   past the end, `CowNeedsContiguous` and others for private writable mappings, or why a method does not fit;
    /// * [`Error::Core`] for what the kernel refuses before the driver is called ([`CoreRefusal`](crate::CoreRefusal)).
    pub fn map(&self, what: &impl Mappable) -> Result<Mapping> {
        let target = what.target(self.method)?;
        let (offset, len) = extent(self.offset, self.len, target.bytes, target.base)?;
        self.mmap(&target, offset, len)
    }

    /// Maps what is at an `mmap` offset of a node.
    pub(crate) fn map_file(&self, file: &NodeFile, offset: u64, len: usize) -> Result<Mapping> {
        use std::os::fd::AsFd;
        let target = Target {
            file: Some(file),
            fd: file.as_fd(),
            access: file.access(),
            // Any buffer can be there: neither its size nor its cache mode is known.
            bytes: 0,
            base: 0,
            copies: Copies::Words,
        };
        self.mmap(&target, offset, len)
    }

    fn mmap(&self, target: &Target<'_>, offset: u64, len: usize) -> Result<Mapping> {
        let (file, fd, opened) = (target.file, target.fd, target.access);
        let access = self.access.unwrap_or(opened);
        let call = MmapCall {
            offset,
            len,
            access,
            sharing: self.sharing,
            page_size: wide(rustix::param::page_size()),
            opened,
            export_bytes: file.is_none().then_some(target.bytes),
        };
        let mut flags = match self.sharing {
            Sharing::Shared => MapFlags::SHARED,
            Sharing::Private => MapFlags::PRIVATE,
        };
        if self.populate {
            flags |= MapFlags::POPULATE;
        }
        let mark = file.map(NodeFile::mark);
        // SAFETY: the kernel picks the address (no MAP_FIXED), so no memory of the program is replaced.
        let mapped = unsafe {
            rustix::mm::mmap(ptr::null_mut(), len, protection(access), flags, fd, offset)
        };
        match mapped.map(|base| NonNull::new(base.cast::<u8>())) {
            // SAFETY: the mapping is new, and nobody else knows of it.
            Ok(Some(base)) => Ok(unsafe { Mapping::from_raw(base, len, access, target.copies) }),
            Ok(None) => Err(failed(&call, Errno::NOMEM)),
            Err(errno) => Err(file
                .zip(mark)
                .and_then(|(file, mark)| file.reason(mark, Operation::Mmap, errno))
                .unwrap_or_else(|| failed(&call, errno))),
        }
    }
}

/// The error of an `mmap` for which the driver gives no reason.
fn failed(call: &MmapCall, errno: Errno) -> Error {
    let (name, number) = (Operation::Mmap.name(), errno.raw_os_error());
    match core_refusal::of_mmap(call, errno) {
        Some(refusal) => Error::Core {
            call: name,
            refusal,
            errno: number,
        },
        None => Error::System {
            call: name,
            errno: number,
        },
    }
}

/// The file offset at which a mapping starts, and its length.
///
/// A start outside the buffer is refused here, as the next buffer's offsets may begin there. Everything else is left to
/// the kernel, which has the reasons.
fn extent(
    offset: u64,
    len: Option<usize>,
    bytes: u64,
    base: u64,
) -> Result<(u64, usize), OutOfBounds> {
    let rest = match len {
        Some(len) => wide(len),
        None => bytes.saturating_sub(offset),
    };
    let outside = OutOfBounds {
        offset,
        len: rest,
        size: bytes,
    };
    bounds::check(offset, 1, bytes).map_err(|_| outside)?;
    let start = base.checked_add(offset).ok_or(outside)?;
    Ok((start, usize::try_from(rest).map_err(|_| outside)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn edges() {
        assert_eq!(extent(0, None, 8192, 0), Ok((0, 8192)));
        assert_eq!(
            extent(4096, None, 8192, 1 << 32),
            Ok(((1 << 32) + 4096, 4096))
        );
        assert_eq!(extent(4096, Some(8192), 8192, 0), Ok((4096, 8192)));
        assert_eq!(extent(0, Some(0), 8192, 0), Ok((0, 0)));
        assert!(extent(8192, None, 8192, 0).is_err());
        assert!(extent(8192, Some(0), 8192, 0).is_err());
        assert!(extent(u64::MAX, Some(1), u64::MAX, 1).is_err());
    }

    proptest! {
        /// A mapping never starts at another buffer's offsets.
        #[test]
        fn starts_within(offset: u64, len: Option<usize>, bytes: u64, base: u64) {
            if let Ok((start, len_of)) = extent(offset, len, bytes, base) {
                prop_assert!(start >= base && start - base < bytes);
                prop_assert!(len.is_some() || start - base + wide(len_of) == bytes);
            }
        }
    }
}
