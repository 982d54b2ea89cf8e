//! How a buffer is mapped.

use crate::{
    access::{protection, Access, Sharing},
    bounds::{self, wide, OutOfBounds},
    core_refusal::{self, MmapCall},
    error::{Error, Result},
    file::NodeFile,
    mapping::Mapping,
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
    /// Where byte 0 of the buffer lies among the file's offsets.
    pub(crate) base: u64,
}

pub(crate) mod sealed {
    use super::*;

    pub trait Source {
        fn target(&self, method: Method) -> Result<Target<'_>>;
    }
}

/// Which part of a buffer is mapped, and how.
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
    /// The whole buffer, shared, for reading and writing unless its file was opened for reading alone, by the best
    /// method for its kind.
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

    /// Where in the buffer the mapping starts: whole pages.
    pub fn offset(mut self, offset: u64) -> Self {
        self.offset = offset;
        self
    }

    /// How many bytes; without this, all from the offset to the buffer's end.
    pub fn len(mut self, len: usize) -> Self {
        self.len = Some(len);
        self
    }

    /// Whether the mapping may be written.
    pub fn access(mut self, access: Access) -> Self {
        self.access = Some(access);
        self
    }

    /// For reading alone.
    pub fn read_only(self) -> Self {
        self.access(Access::ReadOnly)
    }

    /// For reading and writing.
    pub fn read_write(self) -> Self {
        self.access(Access::ReadWrite)
    }

    /// `MAP_PRIVATE`: what is written stays in this mapping.
    pub fn private(mut self) -> Self {
        self.sharing = Sharing::Private;
        self
    }

    /// Whether writes are seen by others.
    pub fn sharing(mut self, sharing: Sharing) -> Self {
        self.sharing = sharing;
        self
    }

    /// `MAP_POPULATE`: the page tables are filled now, and no access faults later.
    pub fn populate(mut self) -> Self {
        self.populate = true;
        self
    }

    /// By which kernel function.
    pub fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// Maps the buffer.
    ///
    /// # Errors
    ///
    /// * [`Error::OutOfBounds`] where the offset lies at or beyond the buffer's end, where the next buffer may start;
    /// * [`Error::Refused`] with a [`Reason`](crate::Reason) of the 300s: `BeyondEnd` for a length that passes the
    ///   end, `CowNeedsContiguous` and its like for private writable mappings, and why a method does not fit;
    /// * [`Error::Core`] for what the kernel refuses before the driver is asked ([`CoreRefusal`](crate::CoreRefusal)).
    pub fn map(&self, what: &impl Mappable) -> Result<Mapping> {
        let target = what.target(self.method)?;
        let (offset, len) = extent(self.offset, self.len, target.bytes, target.base)?;
        let export_bytes = target.file.is_none().then_some(target.bytes);
        self.mmap(
            target.file,
            target.fd,
            target.access,
            offset,
            len,
            export_bytes,
        )
    }

    /// Maps what lies at an `mmap` offset of a node.
    pub(crate) fn map_file(&self, file: &NodeFile, offset: u64, len: usize) -> Result<Mapping> {
        use std::os::fd::AsFd;
        self.mmap(Some(file), file.as_fd(), file.access(), offset, len, None)
    }

    fn mmap(
        &self,
        file: Option<&NodeFile>,
        fd: BorrowedFd<'_>,
        opened: Access,
        offset: u64,
        len: usize,
        export_bytes: Option<u64>,
    ) -> Result<Mapping> {
        let access = self.access.unwrap_or(opened);
        let call = MmapCall {
            offset,
            len,
            access,
            sharing: self.sharing,
            page_size: wide(rustix::param::page_size()),
            opened,
            export_bytes,
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
            Ok(Some(base)) => Ok(unsafe { Mapping::from_raw(base, len, access) }),
            Ok(None) => Err(failed(&call, Errno::NOMEM)),
            Err(errno) => Err(file
                .zip(mark)
                .and_then(|(file, mark)| file.reason(mark, Operation::Mmap, errno))
                .unwrap_or_else(|| failed(&call, errno))),
        }
    }
}

/// The error of an `mmap` that the driver gives no reason for.
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

/// Where among the file's offsets a mapping starts, and how long it is.
///
/// A start outside of the buffer is refused here, as the next buffer's offsets may begin there. All else is left to the
/// kernel, which has the reasons.
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
