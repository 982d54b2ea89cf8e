//! Bytes that the kernel moves between a mapping and a file.

use crate::{
    core_refusal,
    error::Result,
    mapping::{failed, Mapping},
};
use rustix::io::{retry_on_intr, Errno};
use std::os::fd::{AsFd, AsRawFd};

impl Mapping {
    /// Writes bytes of the mapping to a file, from byte `at` of it on, by one `pwrite(2)`. Returns how many bytes were
    /// written, which may be fewer than `len`.
    ///
    /// Where the file was opened with `O_DIRECT`, its device takes them from the buffer's own pages, without a copy.
    /// Offset, length, and `at` must be multiples of the file's block then, and the mapping must be one of pages
    /// (`PINNABLE` in the buffer's traits).
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`](crate::Error::OutOfBounds);
    /// [`CoreRefusal::NoPages`](crate::CoreRefusal::NoPages) for `O_DIRECT` on a mapping by page frame;
    /// [`Error::System`](crate::Error::System) for whatever else `pwrite` says.
    pub fn write_to(&self, offset: usize, len: usize, file: impl AsFd, at: u64) -> Result<usize> {
        let from = self.range(offset, len)?;
        let (fd, position) = (file.as_fd().as_raw_fd(), position(at, "pwrite")?);
        done("pwrite", || {
            // SAFETY: `range` has checked that the bytes lie in the mapping, which can be read. The kernel reads them, and no
            // reference to them is made.
            unsafe { libc::pwrite64(fd, from.cast_const().cast(), len, position) }
        })
    }

    /// Reads bytes of a file, from byte `at` of it on, into the mapping, by one `pread(2)`. Returns how many bytes were read,
    /// which may be fewer than `len`: 0 at the file's end.
    ///
    /// Where the file was opened with `O_DIRECT`, its device puts them into the buffer's own pages, as
    /// [`write_to`](Self::write_to) says.
    ///
    /// # Errors
    ///
    /// As for [`write_to`](Self::write_to); [`Error::ReadOnlyMapping`](crate::Error::ReadOnlyMapping).
    pub fn read_from(&self, offset: usize, len: usize, file: impl AsFd, at: u64) -> Result<usize> {
        let to = self.range(offset, len)?;
        self.check_writable()?;
        let (fd, position) = (file.as_fd().as_raw_fd(), position(at, "pread")?);
        done("pread", || {
            // SAFETY: `range` has checked that the bytes lie in the mapping, and it may be written. The kernel writes them, and
            // no reference to them exists.
            unsafe { libc::pread64(fd, to.cast(), len, position) }
        })
    }
}

fn position(at: u64, call: &'static str) -> Result<i64> {
    i64::try_from(at).map_err(|_| failed(call, None, Errno::INVAL))
}

fn done(call: &'static str, mut transfer: impl FnMut() -> isize) -> Result<usize> {
    let transferred = retry_on_intr(|| {
        usize::try_from(transfer()).map_err(|_| {
            let error = std::io::Error::last_os_error();
            Errno::from_io_error(&error).unwrap_or(Errno::IO)
        })
    });
    transferred.map_err(|errno| failed(call, core_refusal::of_transfer(errno), errno))
}

#[cfg(test)]
mod tests {
    use crate::{
        mapping::tests::{read_only, writable},
        CoreRefusal, Error,
    };
    use rustix::fs::{memfd_create, MemfdFlags};
    use rustix::io::Errno;

    #[test]
    fn bytes_go_both_ways_and_no_further() {
        let file = memfd_create("transfer", MemfdFlags::CLOEXEC).unwrap();
        writable(|mapping| {
            mapping.copy_in(4090, b"abcdef").unwrap();
            assert_eq!(mapping.write_to(4090, 6, &file, 3).unwrap(), 6);
            // From the file's start on there are nine bytes, the first three of them zero.
            assert_eq!(mapping.read_from(0, 100, &file, 0).unwrap(), 9);
            assert_eq!(&mapping.to_vec()[..10], b"\0\0\0abcdef\0");
            assert_eq!(mapping.read_from(0, 100, &file, 9).unwrap(), 0);
            for (offset, len) in [(4090, 7), (4097, 0), (usize::MAX, 1), (1, usize::MAX)] {
                let results = [
                    mapping.write_to(offset, len, &file, 0),
                    mapping.read_from(offset, len, &file, 0),
                ];
                for result in results {
                    assert!(matches!(result, Err(Error::OutOfBounds(_))), "{result:?}");
                }
            }
            assert!(mapping.write_to(0, 1, &file, u64::MAX).is_err());
        });
        read_only(|mapping| {
            let result = mapping.read_from(0, 1, &file, 0);
            assert!(matches!(result, Err(Error::ReadOnlyMapping)), "{result:?}");
        });
    }

    #[test]
    fn memory_without_pages_is_told_apart() {
        let of = crate::core_refusal::of_transfer;
        assert_eq!(of(Errno::FAULT), Some(CoreRefusal::NoPages));
        assert_eq!(of(Errno::INVAL), None);
    }
}
