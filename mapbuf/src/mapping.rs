//! Mapped memory of a buffer.

use crate::{
    access::{protection, Access},
    bounds::{self, wide, OutOfBounds},
    core_refusal,
    error::{Error, Result},
    volatile,
};
use rustix::{
    io::Errno,
    mm::{MprotectFlags, MremapFlags},
};
use std::{mem::ManuallyDrop, ptr::NonNull, slice};

/// A mapping of a buffer, or of a part of it. Dropping it unmaps it.
///
/// It holds the buffer's memory: neither the [`Buffer`](crate::Buffer) nor the [`Device`](crate::Device) has to live,
/// and the bytes are there when both are gone.
///
/// Others may write the memory at any time, so there is no safe slice of it. The accesses are volatile and checked
/// against the bounds; [`copy_in`](Self::copy_in) and [`copy_out`](Self::copy_out) work by words of 8 bytes where the
/// address allows.
///
/// # Send and Sync
///
/// A mapping belongs to the process, so any thread may use it. Writing takes `&self`: see the
/// [crate's documentation](crate#send-and-sync).
///
/// # Signals
///
/// A device that goes away takes its memory along; an access after that raises SIGBUS, as one to a truncated file does.
/// A page that the machine has no memory left for does so too.
// INVARIANT: `base` is the start of a mapping of `len` bytes, rounded up to whole pages, that this value alone unmaps;
// it can be read, and written if `access` says so.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
    access: Access,
}

// SAFETY: the mapping belongs to the process and not to the thread that made it.
unsafe impl Send for Mapping {}

// SAFETY: what takes `&self` makes volatile accesses of at most a word, which is what a mapping is for: the other side
// (another process, the kernel, a device) makes them at the same time as well, and no reference to the memory exists
// beside those for which a caller of an `unsafe` function has vouched. What changes the mapping itself takes `&mut`.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Takes over a mapping.
    ///
    /// # Safety
    ///
    /// `base` is the start of a mapping of `len` bytes that allows `access` and that nobody else unmaps.
    pub(crate) unsafe fn from_raw(base: NonNull<u8>, len: usize, access: Access) -> Self {
        // INVARIANT: by this function's contract.
        Self { base, len, access }
    }

    /// Its length in bytes, as asked for; the kernel maps whole pages.
    #[expect(clippy::len_without_is_empty, reason = "there is no empty mapping")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it may be written.
    pub fn access(&self) -> Access {
        self.access
    }

    /// The address of its first byte. Valid until the mapping is dropped or resized.
    pub fn as_ptr(&self) -> *const u8 {
        self.base.as_ptr()
    }

    /// The address of its first byte, for writing, if it may be written. Valid until the mapping is dropped or resized.
    pub fn as_mut_ptr(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// Reads a number, in the machine's byte order, by one volatile access.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`]; [`Error::Misaligned`] where the place is no multiple of the number's size.
    pub fn read<T: Value>(&self, offset: usize) -> Result<T> {
        let at = self.place::<T>(offset)?;
        // SAFETY: `place` has checked that the number lies in the mapping and is aligned; any bits are a valid `T`.
        Ok(unsafe { at.read_volatile() })
    }

    /// Writes a number, in the machine's byte order, by one volatile access.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read); [`Error::ReadOnlyMapping`].
    pub fn write<T: Value>(&self, offset: usize, value: T) -> Result<()> {
        let at = self.place::<T>(offset)?;
        self.check_writable()?;
        // SAFETY: `place` has checked that the number lies in the mapping and is aligned, and it may be written.
        unsafe { at.write_volatile(value) };
        Ok(())
    }

    /// Copies bytes out of the mapping.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`]; nothing is copied then.
    pub fn copy_out(&self, offset: usize, to: &mut [u8]) -> Result<()> {
        let at = self.range(offset, to.len())?;
        // SAFETY: `range` has checked that the bytes lie in the mapping, which can be read.
        unsafe { volatile::copy_out(at, to) };
        Ok(())
    }

    /// Copies bytes into the mapping.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`], [`Error::ReadOnlyMapping`]; nothing is copied then.
    pub fn copy_in(&self, offset: usize, from: &[u8]) -> Result<()> {
        let at = self.range(offset, from.len())?;
        self.check_writable()?;
        // SAFETY: `range` has checked that the bytes lie in the mapping, and it may be written.
        unsafe { volatile::copy_in(at, from) };
        Ok(())
    }

    /// Sets bytes of the mapping.
    ///
    /// # Errors
    ///
    /// As for [`copy_in`](Self::copy_in).
    pub fn fill(&self, offset: usize, len: usize, byte: u8) -> Result<()> {
        let at = self.range(offset, len)?;
        self.check_writable()?;
        // SAFETY: `range` has checked that the bytes lie in the mapping, and it may be written.
        unsafe { volatile::fill(at, len, byte) };
        Ok(())
    }

    /// Copies all bytes of the mapping.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len];
        // SAFETY: the mapping has as many bytes, and can be read.
        unsafe { volatile::copy_out(self.as_ptr(), &mut bytes) };
        bytes
    }

    /// The bytes as a slice.
    ///
    /// # Safety
    ///
    /// As long as the slice lives, nobody may write the memory: no other mapping of it in any process, not the kernel's
    /// view, and no device. Memory of a device that may go away must not be used so.
    pub unsafe fn as_slice(&self) -> &[u8] {
        // SAFETY: the mapping has as many bytes and can be read, and the caller vouches that nobody writes them.
        unsafe { slice::from_raw_parts(self.as_ptr(), self.len) }
    }

    /// The bytes as a slice that may be written.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnlyMapping`].
    ///
    /// # Safety
    ///
    /// As for [`as_slice`](Self::as_slice), and nobody may read the memory either.
    pub unsafe fn as_mut_slice(&mut self) -> Result<&mut [u8]> {
        self.check_writable()?;
        // SAFETY: the mapping has as many bytes and may be written, and the caller vouches that it is ours alone.
        Ok(unsafe { slice::from_raw_parts_mut(self.as_mut_ptr(), self.len) })
    }

    /// Changes whether it may be written (`mprotect`).
    ///
    /// # Errors
    ///
    /// [`CoreRefusal::NeverWritable`](crate::CoreRefusal::NeverWritable) for a mapping that was made read-only, and
    /// is private or comes from a file that was opened for reading alone.
    pub fn protect(&mut self, access: Access) -> Result<()> {
        let flags = MprotectFlags::from_bits_retain(protection(access).bits());
        // SAFETY: the range is this mapping, and no reference to its memory lives through `&mut self`.
        match unsafe { rustix::mm::mprotect(self.base.as_ptr().cast(), self.len, flags) } {
            Ok(()) => {
                self.access = access;
                Ok(())
            }
            Err(errno) => Err(failed(
                "mprotect",
                core_refusal::of_mprotect(access, errno),
                errno,
            )),
        }
    }

    /// Shortens the mapping, or moves it to where the kernel likes (`mremap`). Mappings of buffers do not grow.
    ///
    /// # Errors
    ///
    /// [`CoreRefusal::NoGrowth`](crate::CoreRefusal::NoGrowth); the mapping is as it was.
    pub fn resize(&mut self, len: usize) -> Result<()> {
        let base = self.base.as_ptr().cast();
        // SAFETY: the range is this mapping, and no reference to its memory lives through `&mut self`.
        let moved = unsafe { rustix::mm::mremap(base, self.len, len, MremapFlags::MAYMOVE) };
        match moved.map(|base| NonNull::new(base.cast::<u8>())) {
            Ok(Some(base)) => {
                // INVARIANT: the kernel has moved the whole mapping there, and cut it to this length.
                self.base = base;
                self.len = len;
                Ok(())
            }
            Ok(None) => Err(failed("mremap", None, Errno::NOMEM)),
            Err(errno) => Err(failed(
                "mremap",
                core_refusal::of_mremap(self.len, len, errno),
                errno,
            )),
        }
    }

    /// Unmaps it, as dropping does, and tells when that fails.
    ///
    /// # Errors
    ///
    /// [`Error::System`]: the kernel could not split the mapping from a neighbour (`ENOMEM`). It stays mapped then.
    pub fn unmap(self) -> Result<()> {
        ManuallyDrop::new(self).munmap()
    }

    fn munmap(&self) -> Result<()> {
        // SAFETY: the invariant says that this value alone unmaps it; both callers do so once, and at the end.
        unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) }
            .map_err(|errno| failed("munmap", None, errno))
    }

    fn range(&self, offset: usize, len: usize) -> Result<*mut u8, OutOfBounds> {
        bounds::check(wide(offset), wide(len), wide(self.len))?;
        Ok(self.base.as_ptr().wrapping_add(offset))
    }

    fn place<T: Value>(&self, offset: usize) -> Result<*mut T> {
        let size = size_of::<T>();
        let at = self.range(offset, size)?;
        // The mapping starts at a page, so the offset's alignment is the address's.
        if offset % size != 0 {
            return Err(Error::Misaligned { offset, size });
        }
        Ok(at.cast())
    }

    fn check_writable(&self) -> Result<()> {
        match self.access {
            Access::ReadWrite => Ok(()),
            Access::ReadOnly => Err(Error::ReadOnlyMapping),
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // A mapping that cannot be unmapped stays until the process ends; there is nobody to tell.
        let _ = self.munmap();
    }
}

/// Numbers that one access reads or writes.
pub trait Value: sealed::Plain {}

mod sealed {
    /// # Safety
    ///
    /// Any bits are a valid value, and the size is the alignment that a volatile access of it needs.
    pub unsafe trait Plain: Copy {}
}

macro_rules! values {
    ($($number:ty)*) => {$(
        // SAFETY: a primitive number.
        unsafe impl sealed::Plain for $number {}
        impl Value for $number {}
    )*};
}

values!(u8 u16 u32 u64 i8 i16 i32 i64);

fn failed(call: &'static str, refusal: Option<crate::CoreRefusal>, errno: Errno) -> Error {
    let errno = errno.raw_os_error();
    match refusal {
        Some(refusal) => Error::Core {
            call,
            refusal,
            errno,
        },
        None => Error::System { call, errno },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A page of the program's own memory in place of a mapping.
    #[repr(align(4096))]
    struct Page([u8; 4096]);

    fn with_mapping<R>(access: Access, test: impl FnOnce(&Mapping) -> R) -> R {
        let mut page = Box::new(Page([0; 4096]));
        let base = NonNull::from(&mut page.0).cast();
        // SAFETY: the page outlives the value, which is never dropped and so unmaps nothing.
        let mapping = ManuallyDrop::new(unsafe { Mapping::from_raw(base, 4096, access) });
        test(&mapping)
    }

    #[test]
    fn numbers_at_the_edges() {
        with_mapping(Access::ReadWrite, |mapping| {
            mapping.write(4092, 0xaabb_ccdd_u32).unwrap();
            assert_eq!(mapping.read::<u32>(4092).unwrap(), 0xaabb_ccdd);
            assert_eq!(mapping.read::<u8>(4095).unwrap(), 0xaa_u32.to_ne_bytes()[0]);
            assert!(matches!(
                mapping.read::<u32>(4093),
                Err(Error::OutOfBounds(_))
            ));
            assert!(matches!(
                mapping.read::<u8>(4096),
                Err(Error::OutOfBounds(_))
            ));
            assert!(matches!(
                mapping.read::<u64>(usize::MAX),
                Err(Error::OutOfBounds(_))
            ));
            assert!(matches!(
                mapping.write(2, 0_u32),
                Err(Error::Misaligned { offset: 2, size: 4 })
            ));
        });
    }

    #[test]
    fn a_read_only_mapping_is_not_written() {
        with_mapping(Access::ReadOnly, |mapping| {
            assert!(matches!(
                mapping.write(0, 1_u8),
                Err(Error::ReadOnlyMapping)
            ));
            assert!(matches!(
                mapping.copy_in(0, b"x"),
                Err(Error::ReadOnlyMapping)
            ));
            assert!(matches!(mapping.fill(0, 1, 1), Err(Error::ReadOnlyMapping)));
            assert_eq!(mapping.read::<u64>(0).unwrap(), 0);
        });
    }

    proptest! {
        #[test]
        fn copies_stay_within(offset in 0_usize..5000, bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            with_mapping(Access::ReadWrite, |mapping| {
                let fits = offset + bytes.len() <= 4096;
                prop_assert_eq!(mapping.copy_in(offset, &bytes).is_ok(), fits);
                let mut back = vec![0; bytes.len()];
                prop_assert_eq!(mapping.copy_out(offset, &mut back).is_ok(), fits);
                if fits {
                    prop_assert_eq!(&back, &bytes);
                    let whole = mapping.to_vec();
                    let set: usize = whole.iter().filter(|byte| **byte != 0).count();
                    prop_assert_eq!(set, bytes.iter().filter(|byte| **byte != 0).count());
                }
                Ok(())
            })?;
        }
    }
}
