//! Mapped memory of a buffer.

use crate::{
    access::{protection, Access},
    bounds::{self, wide, OutOfBounds},
    core_refusal,
    error::{Error, Result},
    removal::Watch,
    volatile::{self, Copies},
};
use mapbuf_abi::Operation;
use rustix::{
    io::Errno,
    mm::{MprotectFlags, MremapFlags},
};
use std::{mem::ManuallyDrop, ptr::NonNull, slice};

/// A mapping of a buffer, or of a part of it. Dropping it unmaps it.
///
/// It keeps the buffer's memory: the mapping stays valid when the [`Buffer`](crate::Buffer) and the
/// [`Device`](crate::Device) are gone.
///
/// Others may write the memory at any time, so there is no safe slice of it. The accesses are volatile and checked
/// against the bounds.
///
/// # Copies
///
/// [`copy_in`](Self::copy_in), [`copy_out`](Self::copy_out), [`fill`](Self::fill) and [`to_vec`](Self::to_vec) access
/// memory according to its cache mode:
///
/// * cached memory as fast as the machine can, in any order and width; a byte may be loaded or stored more than once. Use
///   [`read`](Self::read) and [`write`](Self::write) where the width or the number of accesses matters;
/// * uncached regions and BARs in whole words of their declared width (a BAR's from [`Device::bar_with`], a region's from
///   the module's parameter; 32 bits if it is not known), each once and in order. Writes that are not whole words are
///   refused; to read a part of a word, the word is read;
/// * other memory, and what is at an offset of a [`Device`] or in a dma-buf from elsewhere, in words of 8 bytes where the
///   address allows, and single bytes at the edges.
///
/// [`Device`]: crate::Device
/// [`Device::bar_with`]: crate::Device::bar_with
///
/// # Send and Sync
///
/// A mapping belongs to the process, so any thread can use it. Writing takes `&self`: see the
/// [crate's documentation](crate#send-and-sync).
///
/// # Signals
///
/// The memory of a device goes away with it; an access after that raises SIGBUS, as with a truncated file, or is an error
/// where the program has called [`survive_removal`](crate::survive_removal). An access to a page for which the machine has no
/// memory left raises SIGBUS too.
// INVARIANT: `base` is the start of a mapping of `len` bytes, rounded up to whole pages, that this value alone unmaps;
// it can be read, and written if `access` says so.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
    access: Access,
    copies: Copies,
    watch: Watch,
}

// SAFETY: the mapping belongs to the process and not to the thread that made it.
unsafe impl Send for Mapping {}

// SAFETY: what takes `&self` accesses the memory by volatile accesses of at most a word, or by assembly (`volatile.rs`), which
// is what a mapping is for: the other side (another process, the kernel, a device) makes accesses at the same time as well,
// and no reference to the memory exists beside those for which a caller of an `unsafe` function has vouched. What changes
// the mapping itself takes `&mut`.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Takes over a mapping.
    ///
    /// # Safety
    ///
    /// `base` is the start of a mapping of `len` bytes that allows `access` and that nobody else unmaps.
    pub(crate) unsafe fn from_raw(
        base: NonNull<u8>,
        len: usize,
        access: Access,
        copies: Copies,
    ) -> Self {
        // SAFETY: by this function's contract; the watch ends, or follows, before the mapping does.
        let watch = unsafe { Watch::over(base.as_ptr(), len) };
        // INVARIANT: by this function's contract.
        Self {
            base,
            len,
            access,
            copies,
            watch,
        }
    }

    /// The length in bytes, as requested; the kernel maps whole pages.
    #[expect(clippy::len_without_is_empty, reason = "there is no empty mapping")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it can be written.
    pub fn access(&self) -> Access {
        self.access
    }

    /// The address of its first byte. Valid until the mapping is dropped or resized.
    pub fn as_ptr(&self) -> *const u8 {
        self.base.as_ptr()
    }

    /// The address of its first byte, for writing, if it is writable. Valid until the mapping is dropped or resized.
    pub fn as_mut_ptr(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// Reads a number, in the machine's byte order, by one volatile access.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`]; [`Error::Misaligned`] if the offset is not a multiple of the number's size.
    pub fn read<T: Value>(&self, offset: usize) -> Result<T> {
        let at = self.place::<T>(offset)?;
        // SAFETY: `place` has checked that the number lies in the mapping and is aligned; any bits are a valid `T`.
        let value = unsafe { at.read_volatile() };
        self.watch.check(Operation::Read).map(|()| value)
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
        self.watch.check(Operation::Write)
    }

    /// Copies bytes out of the mapping.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`]; nothing is copied then.
    pub fn copy_out(&self, offset: usize, to: &mut [u8]) -> Result<()> {
        let at = self.range(offset, to.len())?;
        // SAFETY: `range` has checked that the bytes lie in the mapping, which can be read and has whole pages, so whole
        // words.
        unsafe { volatile::copy_out(at, to, self.copies) };
        self.watch.check(Operation::Read)
    }

    /// Copies bytes into the mapping.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`], [`Error::ReadOnlyMapping`], and [`Error::PartOfAWord`] for a device's memory; nothing is
    /// copied then.
    pub fn copy_in(&self, offset: usize, from: &[u8]) -> Result<()> {
        let at = self.range(offset, from.len())?;
        self.check_writable()?;
        self.check_words(offset, from.len())?;
        // SAFETY: `range` has checked that the bytes lie in the mapping, it may be written, and they are whole words where
        // they must be, as the mapping starts at a page.
        unsafe { volatile::copy_in(at, from, self.copies) };
        self.watch.check(Operation::Write)
    }

    /// Sets bytes of the mapping.
    ///
    /// # Errors
    ///
    /// As for [`copy_in`](Self::copy_in).
    pub fn fill(&self, offset: usize, len: usize, byte: u8) -> Result<()> {
        let at = self.range(offset, len)?;
        self.check_writable()?;
        self.check_words(offset, len)?;
        // SAFETY: `range` has checked that the bytes lie in the mapping, it may be written, and they are whole words where
        // they must be, as the mapping starts at a page.
        unsafe { volatile::fill(at, len, byte, self.copies) };
        self.watch.check(Operation::Write)
    }

    /// Copies all bytes of the mapping.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len];
        // SAFETY: the mapping has as many bytes, can be read, and has whole pages, so whole words.
        unsafe { volatile::copy_out(self.as_ptr(), &mut bytes, self.copies) };
        bytes
    }

    /// The bytes as a slice.
    ///
    /// # Safety
    ///
    /// While the slice exists, nothing may write the memory: no other mapping of it in any process, not the kernel, and no
    /// device. Do not use this on memory of a device that can go away.
    pub unsafe fn as_slice(&self) -> &[u8] {
        // SAFETY: the mapping has as many bytes and can be read, and the caller vouches that nobody writes them.
        unsafe { slice::from_raw_parts(self.as_ptr(), self.len) }
    }

    /// The bytes as a mutable slice.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnlyMapping`].
    ///
    /// # Safety
    ///
    /// As for [`as_slice`](Self::as_slice), and nothing may read the memory either.
    pub unsafe fn as_mut_slice(&mut self) -> Result<&mut [u8]> {
        self.check_writable()?;
        // SAFETY: the mapping has as many bytes and may be written, and the caller vouches that it is ours alone.
        Ok(unsafe { slice::from_raw_parts_mut(self.as_mut_ptr(), self.len) })
    }

    /// Changes whether it can be written (`mprotect`).
    ///
    /// # Errors
    ///
    /// [`CoreRefusal::NeverWritable`](crate::CoreRefusal::NeverWritable) for a mapping that was made read-only, and
    /// is private or comes from a file that was opened read-only.
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

    /// Shortens the mapping, and may move it (`mremap`). Mappings of buffers do not grow.
    ///
    /// # Errors
    ///
    /// [`CoreRefusal::NoGrowth`](crate::CoreRefusal::NoGrowth); the mapping is as it was.
    pub fn resize(&mut self, len: usize) -> Result<()> {
        let base = self.base.as_ptr().cast();
        self.watch.pause();
        // SAFETY: the range is this mapping, and no reference to its memory lives through `&mut self`.
        let moved = unsafe { rustix::mm::mremap(base, self.len, len, MremapFlags::MAYMOVE) };
        let result = match moved.map(|base| NonNull::new(base.cast::<u8>())) {
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
        };
        self.watch.follow(self.base.as_ptr(), self.len);
        result
    }

    /// Unmaps it, as dropping does, but reports a failure.
    ///
    /// # Errors
    ///
    /// [`Error::System`]: the kernel could not split the mapping from a neighbour (`ENOMEM`). It stays mapped then.
    pub fn unmap(self) -> Result<()> {
        ManuallyDrop::new(self).munmap()
    }

    fn munmap(&self) -> Result<()> {
        self.watch.end();
        // SAFETY: the invariant says that this value alone unmaps it; both callers do so once, and at the end.
        unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) }
            .map_err(|errno| failed("munmap", None, errno))
    }

    pub(crate) fn range(&self, offset: usize, len: usize) -> Result<*mut u8, OutOfBounds> {
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

    fn check_words(&self, offset: usize, len: usize) -> Result<()> {
        match self.copies {
            Copies::Device(width) if !self.copies.can_write(offset, len) => {
                Err(Error::PartOfAWord { offset, len, width })
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn check_writable(&self) -> Result<()> {
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

/// Numbers that a single access reads or writes.
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

pub(crate) fn failed(
    call: &'static str,
    refusal: Option<crate::CoreRefusal>,
    errno: Errno,
) -> Error {
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
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A page of the program's own memory in place of a mapping.
    #[repr(align(4096))]
    struct Page([u8; 4096]);

    /// Calls a test with a writable mapping of a page, all zero.
    pub(crate) fn writable(test: impl FnOnce(&Mapping)) {
        with_mapping(Access::ReadWrite, test);
    }

    /// The same with one that cannot be written.
    pub(crate) fn read_only(test: impl FnOnce(&Mapping)) {
        with_mapping(Access::ReadOnly, test);
    }

    fn with_mapping<R>(access: Access, test: impl FnOnce(&Mapping) -> R) -> R {
        with_copies(access, Copies::Cached, test)
    }

    fn with_copies<R>(access: Access, copies: Copies, test: impl FnOnce(&Mapping) -> R) -> R {
        let mut page = Box::new(Page([0; 4096]));
        let base = NonNull::from(&mut page.0).cast();
        // SAFETY: the page outlives the value, which is never dropped and so unmaps nothing.
        let mapping = ManuallyDrop::new(unsafe { Mapping::from_raw(base, 4096, access, copies) });
        test(&mapping)
    }

    #[test]
    fn a_device_is_written_in_whole_words() {
        with_copies(Access::ReadWrite, Copies::Device(4), |mapping| {
            mapping.copy_in(4, &[1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
            for (offset, len) in [(2, 4), (4, 3), (0, 1)] {
                let refused = mapping.copy_in(offset, &[0; 4][..len]);
                assert!(
                    matches!(refused, Err(Error::PartOfAWord { width: 4, .. })),
                    "{refused:?}"
                );
                assert!(mapping.fill(offset, len, 0).is_err());
            }
            let mut part = [0; 3];
            mapping.copy_out(6, &mut part).unwrap();
            assert_eq!(part, [3, 4, 5]);
            assert_eq!(mapping.to_vec()[4..12], [1, 2, 3, 4, 5, 6, 7, 8]);
        });
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
