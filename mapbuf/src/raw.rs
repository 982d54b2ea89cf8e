//! The raw ioctls, for programs that need the numbers and structs themselves. The rest of the library is built on them.

use crate::bounds::wide;
use mapbuf_abi::{
    ioctl, Alloc, Attach, Bar, Config, Detach, Device, DmaMask, Export, Free, Import, Info, Irq,
    LastError, Name, Offset, Operation, Probe, Query, Refused, Region, Segment, Segments, Sync,
    Unname,
};
use rustix::{
    io::Errno,
    ioctl::{Ioctl, IoctlOutput, Opcode},
};
use std::{
    ffi::c_void,
    io,
    os::fd::{AsFd, BorrowedFd},
};

/// A struct of [`mapbuf_abi`] that an ioctl takes as its argument.
pub trait Request: sealed::Layout {
    /// The operation that it requests.
    const OPERATION: Operation;
}

/// An open node of the driver: a [`Device`](crate::Device), or a [`Named`](crate::Named) buffer. Other descriptors are not
/// accepted, since the same ioctl number can mean something else to another driver.
pub trait Node: AsFd + sealed::Node {}

pub(crate) mod sealed {
    use mapbuf_abi::Refused;

    /// A node that this library itself has opened.
    pub trait Node {}

    /// A struct that an ioctl reads and writes.
    ///
    /// # Safety
    ///
    /// The struct is `repr(C)` without padding, every bit pattern of it is valid, and its ioctl touches no memory of
    /// the caller beside the first `size` bytes of it.
    pub unsafe trait Layout: Copy {
        /// The ioctl's number.
        const OPCODE: u32;
        /// The field that every struct starts with.
        fn size(&mut self) -> &mut u32;
        /// The field that every struct ends with.
        fn refused(&mut self) -> &mut Refused;
    }
}

macro_rules! requests {
    ($($name:ident = $opcode:ident;)*) => {$(
        // SAFETY: `mapbuf_abi` asserts the layout, and has nothing but integers in it.
        unsafe impl sealed::Layout for $name {
            const OPCODE: u32 = ioctl::$opcode;

            fn size(&mut self) -> &mut u32 {
                &mut self.size
            }

            fn refused(&mut self) -> &mut Refused {
                &mut self.refused
            }
        }

        impl Request for $name {
            const OPERATION: Operation = Operation::$name;
        }
    )*};
}

requests! {
    Query = QUERY;
    Alloc = ALLOC;
    Free = FREE;
    Info = INFO;
    Offset = OFFSET;
    Export = EXPORT;
    Import = IMPORT;
    Probe = PROBE;
    Region = REGION;
    LastError = LAST_ERROR;
    Name = NAME;
    Unname = UNNAME;
    Device = DEVICE;
    DmaMask = DMA_MASK;
    Attach = ATTACH;
    Detach = DETACH;
    Sync = SYNC;
    Irq = IRQ;
    Config = CONFIG;
    Bar = BAR;
}

/// Makes the ioctl that takes `request`, with all of its fields as they are, `size` included.
///
/// # Errors
///
/// The system call's `errno`; `EINVAL`, without calling the driver, if `size` exceeds the struct, as the driver would then
/// write past its end.
pub fn call<R: Request>(node: &impl Node, request: &mut R) -> io::Result<()> {
    if usize::try_from(*request.size()).map_or(true, |size| size > size_of::<R>()) {
        return Err(Errno::INVAL.into());
    }
    Ok(invoke(node.as_fd(), request)?)
}

/// Makes the `SEGMENTS` ioctl for the buffer with this id, starting at run number `first`. Writes as many rows as fit, and
/// returns their number and the total number of runs.
///
/// # Errors
///
/// The system call's `errno`.
pub fn segments(
    node: &impl Node,
    id: u32,
    first: u32,
    rows: &mut [Segment],
) -> io::Result<(usize, u32)> {
    segments_of(node.as_fd(), id, 0, first, rows).map_err(|failed| failed.errno.into())
}

/// A failed ioctl: the `errno`, and the driver's answer in the struct, all zeros if it gave none.
pub(crate) struct Failed {
    pub(crate) errno: Errno,
    pub(crate) refused: Refused,
}

/// Sets the struct's size and makes the ioctl.
pub(crate) fn call_sized<R: Request>(fd: BorrowedFd<'_>, request: &mut R) -> Result<(), Failed> {
    *request.size() = struct_size::<R>();
    *request.refused() = Refused::default();
    invoke(fd, request).map_err(|errno| Failed {
        errno,
        refused: *request.refused(),
    })
}

pub(crate) fn segments_of(
    fd: BorrowedFd<'_>,
    id: u32,
    flags: u32,
    first: u32,
    rows: &mut [Segment],
) -> Result<(usize, u32), Failed> {
    let mut request = Segments {
        size: struct_size::<Segments>(),
        flags,
        id,
        first,
        count: u32::try_from(rows.len()).unwrap_or(u32::MAX),
        rows: wide(rows.as_mut_ptr().expose_provenance()),
        ..Segments::default()
    };
    // SAFETY: the driver writes at most `count` rows to `rows`, which are exclusively ours during the call, and any
    // bits make a valid `Segment`.
    let done = unsafe { rustix::ioctl::ioctl(fd, Call::<Segments>(&mut request, ioctl::SEGMENTS)) };
    done.map_err(|errno| Failed {
        errno,
        refused: request.refused,
    })?;
    let written = usize::try_from(request.count).unwrap_or(usize::MAX);
    Ok((written.min(rows.len()), request.total))
}

fn struct_size<T>() -> u32 {
    // Every struct is smaller than a page: `mapbuf_abi` asserts their sizes.
    size_of::<T>() as u32
}

fn invoke<R: Request>(fd: BorrowedFd<'_>, request: &mut R) -> Result<(), Errno> {
    // SAFETY: the descriptor is that of a node of the driver (`NodeFile::open` has seen to that). `Layout` says that the
    // driver touches the first `size` bytes of this struct alone, and both callers have made sure that it has as many.
    unsafe { rustix::ioctl::ioctl(fd, Call(request, R::OPCODE)) }
}

/// An ioctl by its number, and the struct that it reads and writes.
struct Call<'a, R>(&'a mut R, u32);

// SAFETY: the pointer is that of the whole struct, which lives as long as the call, and the opcode is the struct's.
unsafe impl<R> Ioctl for Call<'_, R> {
    type Output = ();

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        Opcode::from(self.1)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::from_mut(self.0).cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> rustix::io::Result<Self::Output> {
        Ok(())
    }
}
