// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Why a request was refused: a closed, numbered list.
//!
//! The kernel sends a reason's number and its operands; the sentence, what it means and what to do
//! about it are in `explain.rs`. Two cases with different remedies have two reasons. Numbers are never
//! reused.

use super::wire::{
    Refused,
    OPERANDS, //
};

/// The `errno` values of the reasons (the same on every architecture for which Linux supports Rust).
pub mod errno {
    /// Operation not permitted.
    pub const EPERM: i32 = 1;
    /// No such entry.
    pub const ENOENT: i32 = 2;
    /// Interrupted.
    pub const EINTR: i32 = 4;
    /// No such device or address.
    pub const ENXIO: i32 = 6;
    /// Out of memory.
    pub const ENOMEM: i32 = 12;
    /// Input or output failed.
    pub const EIO: i32 = 5;
    /// Permission denied.
    pub const EACCES: i32 = 13;
    /// Bad address.
    pub const EFAULT: i32 = 14;
    /// Busy.
    pub const EBUSY: i32 = 16;
    /// Already exists.
    pub const EEXIST: i32 = 17;
    /// No such device: it went away.
    pub const ENODEV: i32 = 19;
    /// Invalid argument.
    pub const EINVAL: i32 = 22;
    /// Too many open files.
    pub const EMFILE: i32 = 24;
    /// Not an ioctl of this file.
    pub const ENOTTY: i32 = 25;
    /// No space left.
    pub const ENOSPC: i32 = 28;
    /// Argument list too long: here, a struct with an unknown tail.
    pub const E2BIG: i32 = 7;
    /// Operation not supported.
    pub const EOPNOTSUPP: i32 = 95;
    /// Quota exceeded.
    pub const EDQUOT: i32 = 122;
}

macro_rules! reasons {
    ( $( $(#[$meta:meta])* $variant:ident = $value:literal, $errno:ident; )* ) => {
        /// Why a request was refused. The first line of each one lists its operands, in order.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[repr(u32)]
        pub enum Reason {
            $( $(#[$meta])* $variant = $value, )*
        }

        #[cfg_attr(MODULE, allow(dead_code, reason = "user space looks reasons up"))]
        impl Reason {
            /// Every reason, in the order of its number.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )* ];

            /// The reason with this number, if there is one.
            pub const fn from_number(number: u32) -> Option<Self> {
                match number {
                    $( $value => Some(Self::$variant), )*
                    _ => None,
                }
            }

            /// Its number on the wire.
            pub const fn number(self) -> u32 {
                self as u32
            }

            /// Its name, as in `mapbuf explain NAME`.
            pub const fn name(self) -> &'static str {
                match self {
                    $( Self::$variant => stringify!($variant), )*
                }
            }

            /// Its `errno`, which is always the same.
            pub const fn errno(self) -> i32 {
                match self {
                    $( Self::$variant => errno::$errno, )*
                }
            }
        }
    };
}

reasons! {
    // 1xx: how the driver is called.

    /// (given, least): the struct is shorter than its first version.
    StructTooShort = 101, EINVAL;
    /// (given, known): bytes beyond what this driver knows are not zero.
    StructTooNew = 102, E2BIG;
    /// (given, most): the struct claims to be larger than any struct may be.
    StructTooLong = 103, E2BIG;
    /// (flags, known): flag bits that this driver does not know.
    UnknownFlags = 104, EINVAL;
    /// (byte offset in the struct): a reserved field is not zero.
    ReservedNotZero = 105, EINVAL;
    /// (number): no such ioctl.
    UnknownIoctl = 106, ENOTTY;
    /// (address, bytes): user memory that cannot be read or written.
    BadAddress = 107, EFAULT;
    /// (operation): needs an allocator node, and this is a named buffer's node.
    NeedsSession = 108, EOPNOTSUPP;
    /// (id): on a named buffer's node the id must be 0.
    IdOnNamedNode = 109, EINVAL;
    /// (operation): the file was not opened for writing.
    ReadOnlyOpen = 110, EACCES;
    /// (operation): the file was not opened for reading.
    WriteOnlyOpen = 111, EACCES;

    // 2xx: allocation and ids.

    /// (): a buffer of 0 bytes.
    ZeroBytes = 201, EINVAL;
    /// (bytes, most): larger than any buffer can be.
    TooManyBytes = 202, EINVAL;
    /// (kind): no such kind of memory.
    UnknownKind = 203, EINVAL;
    /// (kind): this node does not provide this kind of memory.
    KindNotHere = 204, EINVAL;
    /// (cache): no such cache mode.
    UnknownCache = 205, EINVAL;
    /// (kind, cache): this machine's DMA is cache-coherent, so its coherent memory is cached.
    CoherentIsCached = 206, EINVAL;
    /// (node): there is no memory on this NUMA node.
    NoSuchNode = 207, EINVAL;
    /// (id, end): ids are below `end`.
    IdTooLarge = 208, EINVAL;
    /// (id): a buffer already has this id.
    IdInUse = 209, EEXIST;
    /// (id): no buffer has this id in this session.
    NoSuchId = 210, ENOENT;
    /// (most): this session has as many buffers as it can have.
    TooManyBuffers = 211, ENOSPC;
    /// (bytes, used, limit): the limit for all users together.
    OverLimit = 212, ENOMEM;
    /// (bytes, used, limit, uid): the limit for this user.
    OverUserLimit = 213, EDQUOT;
    /// (bytes): the machine does not have enough free memory.
    OutOfMemory = 214, ENOMEM;
    /// (bytes, most): no free physically contiguous run of this size; `most` is the limit without a CMA area.
    NoContiguousMemory = 215, ENOMEM;
    /// (bytes, most): no DMA-coherent run of this size; `most` is the limit without a CMA area.
    NoCoherentMemory = 216, ENOMEM;
    /// (bytes, done): a fatal signal arrived while memory was being allocated.
    Interrupted = 217, EINTR;
    /// (node): coherent memory comes from the NUMA node of the device, not from one that the caller chooses.
    NodeOfDevice = 218, EINVAL;
    /// (): the process has as many descriptors as it can have.
    NoDescriptor = 219, EMFILE;
    /// (cache, errno): the kernel could not change the cache mode of its own mapping of the memory.
    CacheRefused = 220, ENOMEM;

    /// (descriptor): not a dma-buf.
    NotADmaBuf = 221, EINVAL;
    // 222 was that of another driver's dma-buf, before there were ids for those.
    /// (bytes): no range of this size is free among the session's `mmap` offsets.
    OffsetsFull = 223, ENOSPC;
    /// (bytes, limit, room): the caller's memory cgroup, or one of its ancestors, does not have this much left.
    OverCgroupLimit = 224, ENOMEM;
    /// (kind): a device cannot import memory without pages.
    NoPagesForDevices = 225, EOPNOTSUPP;
    /// (node): the caller's cpuset has no memory on this NUMA node.
    NodeNotAllowed = 226, EACCES;
    /// (descriptor): the dma-buf was not opened for both reading and writing.
    DmaBufMode = 227, EACCES;
    /// (): another driver's dma-buf does not say where its memory lies.
    ForeignFrames = 228, EOPNOTSUPP;

    // 3xx: mapping.

    /// (method): no such method.
    UnknownMethod = 301, EINVAL;
    /// (offset): no buffer at this `mmap` offset.
    NothingAtOffset = 302, EINVAL;
    /// (offset in the buffer, length, bytes of the buffer): the mapping would run past the end of the buffer.
    BeyondEnd = 303, EINVAL;
    /// (): buffers are never executable.
    Executable = 304, EACCES;
    /// (offset, length, calls): private and writable, and needs more than one call of `remap_pfn_range`.
    CowNeedsContiguous = 305, EINVAL;
    /// (): a private writable mapping of memory without pages would show its physical address.
    CowShowsAddress = 306, EPERM;
    /// (cache): private copies are cached pages, and the buffer is not cached.
    CowNeedsCached = 307, EINVAL;
    /// (method): this method inserts PFNs at fault time, which a private writable mapping cannot have.
    CowAtFault = 308, EINVAL;
    /// (method, offset, length, run): the method needs one physically contiguous run, and this one ends after `run` bytes.
    NeedsOneRun = 309, EINVAL;
    /// (method, kind): the method needs memory with struct pages of its own.
    NeedsPages = 310, EINVAL;
    /// (kind): `remap_vmalloc_range` maps vmalloc'd memory only.
    NeedsVmalloc = 311, EINVAL;
    /// (kind): `dma_mmap_coherent` maps coherent memory only.
    NeedsCoherent = 312, EINVAL;
    /// (bytes, huge): no part of the mapping can have an entry of `huge` bytes.
    NothingHuge = 313, EINVAL;
    /// (method, errno): the kernel function refused for a reason of its own.
    KernelRefused = 314, EINVAL;
    /// (method): another driver's dma-buf is mapped by that driver alone.
    ExporterMaps = 315, EINVAL;
    /// (bytes, errno): the driver that exported the dma-buf did not map it.
    ExporterRefused = 316, EINVAL;

    // 4xx: names.

    /// (position, byte): a name cannot have this byte at this position; position 64: it is too long or empty.
    NameInvalid = 401, EINVAL;
    /// (): a buffer already has this name.
    NameTaken = 402, EEXIST;
    /// (): no buffer has this name.
    NameUnknown = 403, ENOENT;
    /// (owner): only the owner can remove the name.
    NotOwner = 404, EPERM;
    /// (id): this buffer already has a name.
    AlreadyNamed = 405, EBUSY;
    /// (mode): not a mode within 0666.
    ModeInvalid = 406, EINVAL;
    /// (uid, gid): giving a node to another user needs CAP_CHOWN.
    OwnerNotPermitted = 407, EPERM;
    /// (most): there are as many names as there can be.
    TooManyNames = 408, ENOSPC;
    /// (): another driver's dma-buf cannot have a name.
    ForeignUnnamed = 409, EOPNOTSUPP;

    // 5xx: the file's own read, write and lseek.

    /// (offset): this offset is a buffer's id, which leaves no room for a byte offset.
    OffsetIsId = 501, EINVAL;
    /// (offset, whence): the position is outside the file.
    BadSeek = 502, EINVAL;
    /// (offset, bytes): a write at or beyond the buffer's end.
    WriteBeyondEnd = 503, ENOSPC;
    /// (offset, length, width in bits): a write to uncached memory that is not whole, aligned words.
    UnalignedWrite = 504, EINVAL;
    /// (): the kernel has no view of its own of another driver's dma-buf.
    ForeignView = 505, EOPNOTSUPP;

    // 6xx: regions.

    /// (bytes): the range overlaps System RAM that the kernel uses.
    RegionIsRam = 601, EBUSY;
    /// (bytes): the range, or part of it, is already claimed.
    RegionTaken = 602, EBUSY;
    /// (bytes): the kernel could not map the range for itself.
    RegionUnmappable = 603, ENOMEM;
    /// (bytes): writing showed that there is no memory behind the range.
    RegionUnbacked = 604, ENXIO;
    /// (kind): only regions can be probed.
    NotARegion = 605, EINVAL;
    /// (): reading a device's memory can do harm.
    ProbeIsRisky = 606, EPERM;
    /// (): a device's memory is never written to by a probe.
    ProbeWritesDevice = 607, EPERM;
    /// (): the region's name is one of a buffer that exists already.
    RegionNameTaken = 608, EEXIST;
    /// (mappings): a probe that writes must be alone with the region.
    ProbeWhileMapped = 609, EBUSY;

    // 7xx: devices.

    /// (operation): only the node of a bound device can do this.
    NeedsDevice = 701, EOPNOTSUPP;
    /// (): the device was unbound, or taken out.
    DeviceGone = 702, ENODEV;
    /// (): no IOMMU keeps the device from all memory, and the file was opened without CAP_SYS_RAWIO.
    DeviceNotIsolated = 703, EPERM;
    /// (group, device, other device): another driver has a device of the same IOMMU group.
    GroupShared = 704, EPERM;
    /// (bits, least, most): no DMA mask.
    MaskInvalid = 705, EINVAL;
    /// (bits, errno): the platform cannot give the device memory at so small addresses.
    MaskRefused = 706, EIO;
    /// (buffers): buffers have addresses for the device already.
    MaskInUse = 707, EBUSY;
    /// (direction): no such direction.
    UnknownDirection = 708, EINVAL;
    /// (kind): only memory with pages can be attached.
    CannotAttach = 709, EINVAL;
    /// (id): the buffer has addresses for the device already.
    AlreadyAttached = 710, EBUSY;
    /// (id): the buffer has no addresses for the device that could be taken away.
    NotAttached = 711, EINVAL;
    /// (bytes, errno): the DMA API could not map the buffer for the device.
    DmaRefused = 712, ENOMEM;
    /// (offset, length, bytes of the buffer): the range to sync is empty, or passes the buffer's end.
    SyncOutside = 713, EINVAL;
    /// (flags): neither begin nor end, or both.
    SyncPhase = 714, EINVAL;
    /// (index): the device has no such base address register.
    NoSuchBar = 715, ENXIO;
    /// (index): another driver has claimed what the register leads to.
    BarTaken = 716, EBUSY;
    /// (index, cache): not a cache mode for this register, or not the one that it has already.
    BarCache = 717, EINVAL;
    /// (width): no width of an access.
    BarWidth = 718, EINVAL;
    /// (bytes): ports are read and written, and cannot be mapped.
    PortsNotMappable = 719, EINVAL;
    /// (offset, length): the MSI-X table lies there, and is never written to by user space.
    MsixTable = 720, EACCES;
    /// (kind): no such kind of interrupts.
    UnknownIrqKind = 721, EINVAL;
    /// (action): no such action.
    UnknownIrqAction = 722, EINVAL;
    /// (kind, index, vectors): the device has no such vector, or did not take it.
    NoSuchVector = 723, ENXIO;
    /// (kind, index): another open file has set the device's interrupts.
    IrqTaken = 724, EBUSY;
    /// (kind, kind in use): the device has interrupts of another kind.
    IrqKindInUse = 725, EBUSY;
    /// (kind, index): nobody has set this vector.
    IrqNotSet = 726, EINVAL;
    /// (kind, errno): the kernel could not give the device these interrupts.
    IrqRefused = 727, EIO;
    /// (descriptor): not an eventfd.
    NotAnEventFd = 728, EINVAL;
    /// (kind): this kind of vector cannot be masked.
    CannotMask = 729, EOPNOTSUPP;
    /// (offset, width, bytes of the space): no such field.
    ConfigOutside = 730, EINVAL;
    /// (offset, width, value, bits that can be written): user space may not change this field so.
    ConfigReadOnly = 731, EPERM;
    /// (method): memory that goes when the device does is mapped by faults only.
    RevocableByFault = 732, EINVAL;
    /// (kind): an importer that cannot let go may not have memory that goes when the device does.
    ImporterHolds = 733, EOPNOTSUPP;
    /// (kind): registers of a device have no name: its own node says who may use it.
    RevocableUnnamed = 736, EINVAL;
    /// (bytes): what a base address register leads to shares its page with something else.
    BarSharesPage = 737, EINVAL;
    /// (bits, offset): from byte `offset` of the buffer on its memory lies where the device's addresses do not reach.
    OutOfReach = 740, EINVAL;
    /// (direction, direction of the attachment): the buffer is attached for another direction.
    SyncDirection = 741, EINVAL;
    /// (byte offset in the struct, value): no such limit of addresses.
    PlacementInvalid = 742, EINVAL;
    /// (bytes, below, alignment in bits, boundary in bits): no memory was found that lies so; 0 is no wish.
    PlacementRefused = 743, ENOMEM;
    /// (bytes, errno): the driver that exported the dma-buf did not map it for the device.
    ExporterRefusedDevice = 744, EIO;
    /// (bits): another driver's dma-buf may lie where the device's addresses do not reach.
    ForeignOutOfReach = 745, EINVAL;
    /// (errno): the driver that exported the dma-buf did not give it to the CPU, or to the devices.
    ExporterRefusedSync = 746, EIO;
    /// (bytes): what a base address register leads to is never probed.
    BarNotProbed = 747, EPERM;
}

/// A refusal: the reason and its operands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// The operands of [`Reason`], in its order; the rest is zero.
    pub operands: [u64; OPERANDS],
}

impl Reason {
    /// A refusal for this reason with these operands (at most [`OPERANDS`]; further ones are dropped).
    pub fn with(self, operands: &[u64]) -> Refusal {
        let mut refusal = Refusal {
            reason: self,
            operands: [0; OPERANDS],
        };
        for (to, from) in refusal.operands.iter_mut().zip(operands) {
            *to = *from;
        }
        refusal
    }
}

impl From<&Refusal> for Refused {
    fn from(refusal: &Refusal) -> Self {
        Self {
            reason: refusal.reason.number(),
            errno: refusal.reason.errno(),
            operands: refusal.operands,
        }
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        reason.with(&[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_grow_and_come_back() {
        assert!(Reason::ALL
            .windows(2)
            .all(|pair| pair[0].number() < pair[1].number()));
        for &reason in Reason::ALL {
            assert_eq!(Reason::from_number(reason.number()), Some(reason));
        }
        assert_eq!(Reason::from_number(0), None);
    }
}
