# SPDX-License-Identifier: MIT OR Apache-2.0
"""The binary interface of the mapbuf driver, and what its refusals mean. Made from abi/: do not edit."""

import ctypes
import enum

SYSTEM_NODE = "/dev/mapbuf/system"
DEV_DIR = "/dev/mapbuf"
NAMED_DIR = "/dev/mapbuf/named"
PCI_NODE_PREFIX = "/dev/mapbuf/pci-"
PLATFORM_NODE_PREFIX = "/dev/mapbuf/platform-"
SYSFS_CLASS = "/sys/class/mapbuf"
ABI_VERSION = 1
MAGIC = 185
MAX_IDS = 1048576
MAX_OFFSET_PAGES = 4294967296
NAME_LEN = 64
DEVICE_NAME_LEN = 32
BARS = 6
NO_GROUP = 0xFFFF_FFFF
NO_DESCRIPTOR = -1
OPERANDS = 4
ADDRESS_HIDDEN = 0xFFFF_FFFF_FFFF_FFFF
ANY_NODE = -1
NEAR_DEVICE = -2
CALLER = 0xFFFF_FFFF
MAX_STRUCT_SIZE = 4096
FEATURE_OFFSET = 1
FEATURE_EXPORT = 2
FEATURE_NAME = 4
FEATURE_CMA = 8
FEATURE_IMPORT = 32
FEATURE_EXPOSE_DMA = 16
FEATURE_REFUSED = 64
FEATURE_DEVICE = 128
ALLOC_FOR_DEVICE = 1
TRAITS_PINNABLE = 1
TRAITS_COHERENT = 2
TRAITS_ATTACHED = 4
TRAITS_REVOCABLE = 8
TRAITS_PORTS = 16
SEGMENTS_FOR_DEVICE = 1
IMPORT_FOR_DEVICE = 1
PROBE_WRITE = 1
PROBE_RISK = 2
LAST_ERROR_OF_DMA_BUFS = 1
BAR_MEMORY = 1
BAR_PORTS = 2
BAR_PREFETCHABLE = 4
BAR_MSIX = 8
DEVICE_STATE_PRESENT = 1
DEVICE_STATE_USABLE = 2
DEVICE_STATE_COHERENT = 4
DEVICE_STATE_BUS_MASTER = 8
SYNC_BEGIN = 1
SYNC_END = 2
CONFIG_WRITE = 1

class Kind(enum.IntEnum):
    # Scattered order-0 pages, virtually contiguous in the kernel (`vmap` with `VM_USERMAP`).
    VMALLOC = 1
    # Page-backed folios, the largest orders first (2 MiB on x86-64, down to 4 KiB).
    PAGES = 2
    # One physically contiguous run.
    CONTIGUOUS = 3
    # DMA-coherent memory of the node's device (`dma_alloc_coherent`).
    COHERENT = 4
    # A reserved physical range, or a PCI BAR, registered by name.
    REGION = 5
    # Another driver's dma-buf, which `IMPORT` gave an id: that driver maps it, and pays for it.
    FOREIGN = 6


class Method(enum.IntEnum):
    # The best one for the kind.
    AUTO = 0
    # `remap_pfn_range` over the whole mapping.
    REMAP = 1
    # `remap_pfn_range` page by page.
    REMAP_EACH = 2
    # `vm_insert_pages`.
    INSERT = 3
    # `vm_map_pages`.
    MAP_PAGES = 4
    # `remap_vmalloc_range`.
    VMALLOC = 5
    # `dma_mmap_coherent`.
    DMA = 6
    # `vm_iomap_memory`.
    IOMAP = 7
    # `io_remap_pfn_range`.
    IO_REMAP = 8
    # A fault handler that answers with a `struct page`.
    FAULT_PAGE = 9
    # A fault handler that calls `vmf_insert_pfn`.
    FAULT_PFN = 10
    # A huge-fault handler (`vmf_insert_folio_pmd`, `vmf_insert_pfn_pmd`).
    FAULT_HUGE = 11


class Cache(enum.IntEnum):
    # Ordinary write-back memory.
    CACHED = 0
    # Writes are gathered, reads are not cached.
    WRITE_COMBINED = 1
    # Every access goes to memory.
    UNCACHED = 2


class RegionType(enum.IntEnum):
    # Memory, which is probed when it is registered.
    RAM = 1
    # A device: reading it may have side effects, so it is never read unless asked for.
    MMIO = 2


class RegionState(enum.IntEnum):
    # It has not been read yet.
    UNPROBED = 0
    # It reads neither only ones nor only zeros.
    ANSWERS = 1
    # Suspect: it reads only ones, as on most buses where nothing answers.
    READS_ONES = 2
    # Suspect: it reads only zeros, as on some buses and emulators where nothing answers.
    READS_ZEROS = 3
    # It does not keep what is written: there is no memory.
    UNBACKED = 4
    # It keeps what is written: there is memory.
    BACKED = 5
    # It could not be registered; the reason says why.
    REFUSED = 6
    # Its name was removed and it is not in use any more: the claim was released.
    RELEASED = 7


class Direction(enum.IntEnum):
    # The CPU writes them, the device reads them.
    TO_DEVICE = 1
    # The device writes them, the CPU reads them.
    FROM_DEVICE = 2
    # Both.
    BOTH = 3


class Iommu(enum.IntEnum):
    # Nothing: the device reaches all memory, and DMA addresses are physical addresses.
    NONE = 0
    # An IOMMU that passes everything through, at the same addresses.
    IDENTITY = 1
    # An IOMMU that translates: the device reaches only memory that was mapped for it, at its own addresses.
    TRANSLATED = 2


class IrqKind(enum.IntEnum):
    # The pin: one level-triggered interrupt. It is masked when it arrives, until MAPBUF_Unmask.
    INTX = 1
    # Message-signalled interrupts (MSI).
    MSI = 2
    # Message-signalled interrupts with a table (MSI-X).
    MSIX = 3


class IrqAction(enum.IntEnum):
    # Makes an eventfd, `Irq::fd`, count the vector; MAPBUF_NO_DESCRIPTOR ends that. The first vector that is set
    # allocates the vectors of its kind, and unsetting the last one frees them. A device can use one kind of
    # interrupts at a time.
    SET = 1
    # Masks the vector. Masking it twice is the same as once.
    MASK = 2
    # Unmasks the vector. An interrupt that came in between is delivered now.
    UNMASK = 3
    # Triggers the vector, as if the device had sent it.
    TRIGGER = 4


class Operation(enum.IntEnum):
    # `MAPBUF_IOCTL_QUERY`
    QUERY = 0
    # `MAPBUF_IOCTL_ALLOC`
    ALLOC = 1
    # `MAPBUF_IOCTL_FREE`
    FREE = 2
    # `MAPBUF_IOCTL_INFO`
    INFO = 3
    # `MAPBUF_IOCTL_SEGMENTS`
    SEGMENTS = 4
    # `MAPBUF_IOCTL_OFFSET`
    OFFSET = 5
    # `MAPBUF_IOCTL_SYNC`
    SYNC = 6
    # `MAPBUF_IOCTL_EXPORT`
    EXPORT = 7
    # `MAPBUF_IOCTL_LAST_ERROR`
    LAST_ERROR = 8
    # `MAPBUF_IOCTL_NAME`
    NAME = 9
    # `MAPBUF_IOCTL_UNNAME`
    UNNAME = 10
    # `MAPBUF_IOCTL_IMPORT`
    IMPORT = 11
    # `MAPBUF_IOCTL_PROBE`
    PROBE = 12
    # `MAPBUF_IOCTL_REGION`
    REGION = 13
    # `MAPBUF_IOCTL_DEVICE`
    DEVICE = 14
    # `MAPBUF_IOCTL_DMA_MASK`
    DMA_MASK = 15
    # `MAPBUF_IOCTL_ATTACH`
    ATTACH = 16
    # `MAPBUF_IOCTL_DETACH`
    DETACH = 17
    # `MAPBUF_IOCTL_IRQ`
    IRQ = 18
    # `MAPBUF_IOCTL_CONFIG`
    CONFIG = 19
    # `MAPBUF_IOCTL_BAR`
    BAR = 20
    # An ioctl that this driver does not know.
    UNKNOWN_IOCTL = 255
    # `open(2)`
    OPEN = 256
    # `mmap(2)`
    MMAP = 257
    # A page fault in a mapping; the thread got SIGBUS.
    FAULT = 258
    # `read(2)`, `pread(2)`
    READ = 259
    # `write(2)`, `pwrite(2)`
    WRITE = 260
    # `lseek(2)`
    SEEK = 261
    # A device attached to a dma-buf: a driver of another device imports it for the calling thread.
    FOREIGN_ATTACH = 262


class Reason(enum.IntEnum):
    # (given, least): the struct is shorter than its first version.
    # Comes with EINVAL.
    STRUCT_TOO_SHORT = 101
    # (given, known): bytes beyond what this driver knows are not zero.
    # Comes with E2BIG.
    STRUCT_TOO_NEW = 102
    # (given, most): the struct claims to be larger than any struct may be.
    # Comes with E2BIG.
    STRUCT_TOO_LONG = 103
    # (flags, known): flag bits that this driver does not know.
    # Comes with EINVAL.
    UNKNOWN_FLAGS = 104
    # (byte offset in the struct): a reserved field is not zero.
    # Comes with EINVAL.
    RESERVED_NOT_ZERO = 105
    # (number): no such ioctl.
    # Comes with ENOTTY.
    UNKNOWN_IOCTL = 106
    # (address, bytes): user memory that cannot be read or written.
    # Comes with EFAULT.
    BAD_ADDRESS = 107
    # (operation): needs an allocator node, and this is a named buffer's node.
    # Comes with EOPNOTSUPP.
    NEEDS_SESSION = 108
    # (id): on a named buffer's node the id must be 0.
    # Comes with EINVAL.
    ID_ON_NAMED_NODE = 109
    # (operation): the file was not opened for writing.
    # Comes with EACCES.
    READ_ONLY_OPEN = 110
    # (operation): the file was not opened for reading.
    # Comes with EACCES.
    WRITE_ONLY_OPEN = 111
    # (): a buffer of 0 bytes.
    # Comes with EINVAL.
    ZERO_BYTES = 201
    # (bytes, most): larger than any buffer can be.
    # Comes with EINVAL.
    TOO_MANY_BYTES = 202
    # (kind): no such kind of memory.
    # Comes with EINVAL.
    UNKNOWN_KIND = 203
    # (kind): this node does not provide this kind of memory.
    # Comes with EINVAL.
    KIND_NOT_HERE = 204
    # (cache): no such cache mode.
    # Comes with EINVAL.
    UNKNOWN_CACHE = 205
    # (kind, cache): this machine's DMA is cache-coherent, so its coherent memory is cached.
    # Comes with EINVAL.
    COHERENT_IS_CACHED = 206
    # (node): there is no memory on this NUMA node.
    # Comes with EINVAL.
    NO_SUCH_NODE = 207
    # (id, end): ids are below `end`.
    # Comes with EINVAL.
    ID_TOO_LARGE = 208
    # (id): a buffer already has this id.
    # Comes with EEXIST.
    ID_IN_USE = 209
    # (id): no buffer has this id in this session.
    # Comes with ENOENT.
    NO_SUCH_ID = 210
    # (most): this session has as many buffers as it can have.
    # Comes with ENOSPC.
    TOO_MANY_BUFFERS = 211
    # (bytes, used, limit): the limit for all users together.
    # Comes with ENOMEM.
    OVER_LIMIT = 212
    # (bytes, used, limit, uid): the limit for this user.
    # Comes with EDQUOT.
    OVER_USER_LIMIT = 213
    # (bytes): the machine does not have enough free memory.
    # Comes with ENOMEM.
    OUT_OF_MEMORY = 214
    # (bytes, most): no free physically contiguous run of this size; `most` is the limit without a CMA area.
    # Comes with ENOMEM.
    NO_CONTIGUOUS_MEMORY = 215
    # (bytes, most): no DMA-coherent run of this size; `most` is the limit without a CMA area.
    # Comes with ENOMEM.
    NO_COHERENT_MEMORY = 216
    # (bytes, done): a fatal signal arrived while memory was being allocated.
    # Comes with EINTR.
    INTERRUPTED = 217
    # (node): coherent memory comes from the NUMA node of the device, not from one that the caller chooses.
    # Comes with EINVAL.
    NODE_OF_DEVICE = 218
    # (): the process has as many descriptors as it can have.
    # Comes with EMFILE.
    NO_DESCRIPTOR = 219
    # (cache, errno): the kernel could not change the cache mode of its own mapping of the memory.
    # Comes with ENOMEM.
    CACHE_REFUSED = 220
    # (descriptor): not a dma-buf.
    # Comes with EINVAL.
    NOT_A_DMA_BUF = 221
    # (bytes): no range of this size is free among the session's `mmap` offsets.
    # Comes with ENOSPC.
    OFFSETS_FULL = 223
    # (bytes, limit, room): the caller's memory cgroup, or one of its ancestors, does not have this much left.
    # Comes with ENOMEM.
    OVER_CGROUP_LIMIT = 224
    # (kind): a device cannot import memory without pages.
    # Comes with EOPNOTSUPP.
    NO_PAGES_FOR_DEVICES = 225
    # (node): the caller's cpuset has no memory on this NUMA node.
    # Comes with EACCES.
    NODE_NOT_ALLOWED = 226
    # (descriptor): the dma-buf was not opened for both reading and writing.
    # Comes with EACCES.
    DMA_BUF_MODE = 227
    # (): another driver's dma-buf does not say where its memory lies.
    # Comes with EOPNOTSUPP.
    FOREIGN_FRAMES = 228
    # (method): no such method.
    # Comes with EINVAL.
    UNKNOWN_METHOD = 301
    # (offset): no buffer at this `mmap` offset.
    # Comes with EINVAL.
    NOTHING_AT_OFFSET = 302
    # (offset in the buffer, length, bytes of the buffer): the mapping would run past the end of the buffer.
    # Comes with EINVAL.
    BEYOND_END = 303
    # (): buffers are never executable.
    # Comes with EACCES.
    EXECUTABLE = 304
    # (offset, length, calls): private and writable, and needs more than one call of `remap_pfn_range`.
    # Comes with EINVAL.
    COW_NEEDS_CONTIGUOUS = 305
    # (): a private writable mapping of memory without pages would show its physical address.
    # Comes with EPERM.
    COW_SHOWS_ADDRESS = 306
    # (cache): private copies are cached pages, and the buffer is not cached.
    # Comes with EINVAL.
    COW_NEEDS_CACHED = 307
    # (method): this method inserts PFNs at fault time, which a private writable mapping cannot have.
    # Comes with EINVAL.
    COW_AT_FAULT = 308
    # (method, offset, length, run): the method needs one physically contiguous run, and this one ends after `run` bytes.
    # Comes with EINVAL.
    NEEDS_ONE_RUN = 309
    # (method, kind): the method needs memory with struct pages of its own.
    # Comes with EINVAL.
    NEEDS_PAGES = 310
    # (kind): `remap_vmalloc_range` maps vmalloc'd memory only.
    # Comes with EINVAL.
    NEEDS_VMALLOC = 311
    # (kind): `dma_mmap_coherent` maps coherent memory only.
    # Comes with EINVAL.
    NEEDS_COHERENT = 312
    # (bytes, huge): no part of the mapping can have an entry of `huge` bytes.
    # Comes with EINVAL.
    NOTHING_HUGE = 313
    # (method, errno): the kernel function refused for a reason of its own.
    # Comes with EINVAL.
    KERNEL_REFUSED = 314
    # (method): another driver's dma-buf is mapped by that driver alone.
    # Comes with EINVAL.
    EXPORTER_MAPS = 315
    # (bytes, errno): the driver that exported the dma-buf did not map it.
    # Comes with EINVAL.
    EXPORTER_REFUSED = 316
    # (position, byte): a name cannot have this byte at this position; position 64: it is too long or empty.
    # Comes with EINVAL.
    NAME_INVALID = 401
    # (): a buffer already has this name.
    # Comes with EEXIST.
    NAME_TAKEN = 402
    # (): no buffer has this name.
    # Comes with ENOENT.
    NAME_UNKNOWN = 403
    # (owner): only the owner can remove the name.
    # Comes with EPERM.
    NOT_OWNER = 404
    # (id): this buffer already has a name.
    # Comes with EBUSY.
    ALREADY_NAMED = 405
    # (mode): not a mode within 0666.
    # Comes with EINVAL.
    MODE_INVALID = 406
    # (uid, gid): giving a node to another user needs CAP_CHOWN.
    # Comes with EPERM.
    OWNER_NOT_PERMITTED = 407
    # (most): there are as many names as there can be.
    # Comes with ENOSPC.
    TOO_MANY_NAMES = 408
    # (): another driver's dma-buf cannot have a name.
    # Comes with EOPNOTSUPP.
    FOREIGN_UNNAMED = 409
    # (offset): this offset is a buffer's id, which leaves no room for a byte offset.
    # Comes with EINVAL.
    OFFSET_IS_ID = 501
    # (offset, whence): the position is outside the file.
    # Comes with EINVAL.
    BAD_SEEK = 502
    # (offset, bytes): a write at or beyond the buffer's end.
    # Comes with ENOSPC.
    WRITE_BEYOND_END = 503
    # (offset, length, width in bits): a write to uncached memory that is not whole, aligned words.
    # Comes with EINVAL.
    UNALIGNED_WRITE = 504
    # (): the kernel has no view of its own of another driver's dma-buf.
    # Comes with EOPNOTSUPP.
    FOREIGN_VIEW = 505
    # (bytes): the range overlaps System RAM that the kernel uses.
    # Comes with EBUSY.
    REGION_IS_RAM = 601
    # (bytes): the range, or part of it, is already claimed.
    # Comes with EBUSY.
    REGION_TAKEN = 602
    # (bytes): the kernel could not map the range for itself.
    # Comes with ENOMEM.
    REGION_UNMAPPABLE = 603
    # (bytes): writing showed that there is no memory behind the range.
    # Comes with ENXIO.
    REGION_UNBACKED = 604
    # (kind): only regions can be probed.
    # Comes with EINVAL.
    NOT_A_REGION = 605
    # (): reading a device's memory can do harm.
    # Comes with EPERM.
    PROBE_IS_RISKY = 606
    # (): a device's memory is never written to by a probe.
    # Comes with EPERM.
    PROBE_WRITES_DEVICE = 607
    # (): the region's name is one of a buffer that exists already.
    # Comes with EEXIST.
    REGION_NAME_TAKEN = 608
    # (mappings): a probe that writes must be alone with the region.
    # Comes with EBUSY.
    PROBE_WHILE_MAPPED = 609
    # (operation): only the node of a bound device can do this.
    # Comes with EOPNOTSUPP.
    NEEDS_DEVICE = 701
    # (): the device was unbound, or taken out.
    # Comes with ENODEV.
    DEVICE_GONE = 702
    # (): no IOMMU keeps the device from all memory, and the file was opened without CAP_SYS_RAWIO.
    # Comes with EPERM.
    DEVICE_NOT_ISOLATED = 703
    # (group, device, other device): another driver has a device of the same IOMMU group.
    # Comes with EPERM.
    GROUP_SHARED = 704
    # (bits, least, most): no DMA mask.
    # Comes with EINVAL.
    MASK_INVALID = 705
    # (bits, errno): the platform cannot give the device memory at so small addresses.
    # Comes with EIO.
    MASK_REFUSED = 706
    # (buffers): buffers have addresses for the device already.
    # Comes with EBUSY.
    MASK_IN_USE = 707
    # (direction): no such direction.
    # Comes with EINVAL.
    UNKNOWN_DIRECTION = 708
    # (kind): only memory with pages can be attached.
    # Comes with EINVAL.
    CANNOT_ATTACH = 709
    # (id): the buffer has addresses for the device already.
    # Comes with EBUSY.
    ALREADY_ATTACHED = 710
    # (id): the buffer has no addresses for the device that could be taken away.
    # Comes with EINVAL.
    NOT_ATTACHED = 711
    # (bytes, errno): the DMA API could not map the buffer for the device.
    # Comes with ENOMEM.
    DMA_REFUSED = 712
    # (offset, length, bytes of the buffer): the range to sync is empty, or passes the buffer's end.
    # Comes with EINVAL.
    SYNC_OUTSIDE = 713
    # (flags): neither begin nor end, or both.
    # Comes with EINVAL.
    SYNC_PHASE = 714
    # (index): the device has no such base address register.
    # Comes with ENXIO.
    NO_SUCH_BAR = 715
    # (index): another driver has claimed what the register leads to.
    # Comes with EBUSY.
    BAR_TAKEN = 716
    # (index, cache): not a cache mode for this register, or not the one that it has already.
    # Comes with EINVAL.
    BAR_CACHE = 717
    # (width): no width of an access.
    # Comes with EINVAL.
    BAR_WIDTH = 718
    # (bytes): ports are read and written, and cannot be mapped.
    # Comes with EINVAL.
    PORTS_NOT_MAPPABLE = 719
    # (offset, length): the MSI-X table lies there, and is never written to by user space.
    # Comes with EACCES.
    MSIX_TABLE = 720
    # (kind): no such kind of interrupts.
    # Comes with EINVAL.
    UNKNOWN_IRQ_KIND = 721
    # (action): no such action.
    # Comes with EINVAL.
    UNKNOWN_IRQ_ACTION = 722
    # (kind, index, vectors): the device has no such vector, or did not take it.
    # Comes with ENXIO.
    NO_SUCH_VECTOR = 723
    # (kind, index): another open file has set the device's interrupts.
    # Comes with EBUSY.
    IRQ_TAKEN = 724
    # (kind, kind in use): the device has interrupts of another kind.
    # Comes with EBUSY.
    IRQ_KIND_IN_USE = 725
    # (kind, index): nobody has set this vector.
    # Comes with EINVAL.
    IRQ_NOT_SET = 726
    # (kind, errno): the kernel could not give the device these interrupts.
    # Comes with EIO.
    IRQ_REFUSED = 727
    # (descriptor): not an eventfd.
    # Comes with EINVAL.
    NOT_AN_EVENT_FD = 728
    # (kind): this kind of vector cannot be masked.
    # Comes with EOPNOTSUPP.
    CANNOT_MASK = 729
    # (offset, width, bytes of the space): no such field.
    # Comes with EINVAL.
    CONFIG_OUTSIDE = 730
    # (offset, width, value, bits that can be written): user space may not change this field so.
    # Comes with EPERM.
    CONFIG_READ_ONLY = 731
    # (method): memory that goes when the device does is mapped by faults only.
    # Comes with EINVAL.
    REVOCABLE_BY_FAULT = 732
    # (kind): an importer that cannot let go may not have memory that goes when the device does.
    # Comes with EOPNOTSUPP.
    IMPORTER_HOLDS = 733
    # (kind): registers of a device have no name: its own node says who may use it.
    # Comes with EINVAL.
    REVOCABLE_UNNAMED = 736
    # (bytes): what a base address register leads to shares its page with something else.
    # Comes with EINVAL.
    BAR_SHARES_PAGE = 737
    # (bits, offset): from byte `offset` of the buffer on its memory lies where the device's addresses do not reach.
    # Comes with EINVAL.
    OUT_OF_REACH = 740
    # (direction, direction of the attachment): the buffer is attached for another direction.
    # Comes with EINVAL.
    SYNC_DIRECTION = 741
    # (byte offset in the struct, value): no such limit of addresses.
    # Comes with EINVAL.
    PLACEMENT_INVALID = 742
    # (bytes, below, alignment in bits, boundary in bits): no memory was found that lies so; 0 is no wish.
    # Comes with ENOMEM.
    PLACEMENT_REFUSED = 743
    # (bytes, errno): the driver that exported the dma-buf did not map it for the device.
    # Comes with EIO.
    EXPORTER_REFUSED_DEVICE = 744
    # (bits): another driver's dma-buf may lie where the device's addresses do not reach.
    # Comes with EINVAL.
    FOREIGN_OUT_OF_REACH = 745
    # (errno): the driver that exported the dma-buf did not give it to the CPU, or to the devices.
    # Comes with EIO.
    EXPORTER_REFUSED_SYNC = 746
    # (bytes): what a base address register leads to is never probed.
    # Comes with EPERM.
    BAR_NOT_PROBED = 747


class Refused(ctypes.Structure):
    _fields_ = [
        # Out: an enum mapbuf_reason by number.
        ("reason", ctypes.c_uint32),
        # Out: the `errno` that goes with it.
        ("error_number", ctypes.c_int32),
        # Out: the reason's operands, in its order.
        ("operands", ctypes.c_uint64 * OPERANDS),
    ]


class Query(ctypes.Structure):
    _fields_ = [
        # In: size of this struct in bytes.
        ("size", ctypes.c_uint32),
        # In: 0.
        ("flags", ctypes.c_uint32),
        # Out: MAPBUF_ABI_VERSION of the driver.
        ("abi_version", ctypes.c_uint32),
        # Out: bytes in a page; the unit of offsets and lengths.
        ("page_size", ctypes.c_uint32),
        # Out: bits of MAPBUF_FEATURE_*.
        ("features", ctypes.c_uint64),
        # Out: mask of the enum mapbuf_kind that `ALLOC` on this node accepts (see (1 << number)).
        ("kinds", ctypes.c_uint32),
        # Out: mask of the enum mapbuf_method that `OFFSET` accepts.
        ("methods", ctypes.c_uint32),
        # Out: the largest buffer that the limits allow, in bytes.
        ("max_buffer_bytes", ctypes.c_uint64),
        # Out: limit for all buffers together, in bytes (module parameter `max_bytes`).
        ("max_bytes", ctypes.c_uint64),
        # Out: limit for all buffers of one user, in bytes (`max_bytes_per_user`).
        ("max_bytes_per_user", ctypes.c_uint64),
        # Out: bytes charged now, for all users.
        ("used_bytes", ctypes.c_uint64),
        # Out: bytes charged now to the user who opened this file.
        ("used_bytes_by_user", ctypes.c_uint64),
        # Out: buffers that exist now, including those whose id was freed.
        ("buffers", ctypes.c_uint64),
        # Out: why it was refused.
        ("refused", Refused),
    ]


class Alloc(ctypes.Structure):
    _fields_ = [
        # In: size of this struct in bytes.
        ("size", ctypes.c_uint32),
        # In: bits of MAPBUF_ALLOC_*.
        ("flags", ctypes.c_uint32),
        # In: bytes wanted, at least 1. Out: the same, rounded up to whole pages.
        ("bytes", ctypes.c_uint64),
        # In: an enum mapbuf_kind.
        ("kind", ctypes.c_uint32),
        # In: an enum mapbuf_cache.
        ("cache", ctypes.c_uint32),
        # In: NUMA node to allocate from, MAPBUF_ANY_NODE, or MAPBUF_NEAR_DEVICE.
        ("numa_node", ctypes.c_int32),
        # In: the id wanted, below MAPBUF_MAX_IDS, or 0 for any. Out: the id, never 0.
        ("id", ctypes.c_uint32),
        # Out: `mmap` offset in bytes, for method `auto`; plus any whole pages maps a part.
        ("mmap_offset", ctypes.c_uint64),
        # In: all memory lies below this address, or 0 for anywhere. This is a physical address, or, with
        # MAPBUF_FOR_DEVICE and for coherent memory, one of the node's device.
        ("below", ctypes.c_uint64),
        # In: alignment of the first byte: this many low bits of its address are 0, at most 40.
        ("align_bits", ctypes.c_uint32),
        # In: no run crosses a multiple of 2 to this power, 12 to 63, or 0 for no such boundary.
        ("boundary_bits", ctypes.c_uint32),
        # In: 0.
        ("reserved", ctypes.c_uint64),
        # Out: why it was refused.
        ("refused", Refused),
    ]


class Free(ctypes.Structure):
    _fields_ = [
        # In: size of this struct in bytes.
        ("size", ctypes.c_uint32),
        # In: 0.
        ("flags", ctypes.c_uint32),
        # In: the buffer's id.
        ("id", ctypes.c_uint32),
        # In: 0.
        ("reserved", ctypes.c_uint32),
        # Out: why it was refused.
        ("refused", Refused),
    ]


class Info(ctypes.Structure):
    _fields_ = [
        # In: size of this struct in bytes.
        ("size", ctypes.c_uint32),
        # In: 0.
        ("flags", ctypes.c_uint32),
        # In: the buffer's id (0 on a named node; 0 in a session returns only the session's fields).
        ("id", ctypes.c_uint32),
        # Out: its enum mapbuf_kind.
        ("kind", ctypes.c_uint32),
        # Out: its enum mapbuf_cache.
        ("cache", ctypes.c_uint32),
        # Out: physically contiguous runs in it; 0: not known (MAPBUF_Foreign).
        ("segments", ctypes.c_uint32),
        # Out: virtual memory areas that map it now, in any process.
        ("mappings", ctypes.c_uint32),
        # Out: buffers of this session whose id was freed while their memory is still in use.
        ("freed_held", ctypes.c_uint32),
        # Out: its size in bytes, whole pages.
        ("bytes", ctypes.c_uint64),
        # Out: bytes in the buffers of `freed_held`.
        ("freed_held_bytes", ctypes.c_uint64),
        # Out: its `mmap` offset for `auto` in bytes (0 on a named node, whose offsets count from the start of the buffer).
        ("mmap_offset", ctypes.c_uint64),
        # Out: its name, padded with zeros; all zeros if it has none.
        ("name", ctypes.c_uint8 * NAME_LEN),
        # Out: the address of its first byte for the node's device, or MAPBUF_ADDRESS_HIDDEN.
        ("dma_address", ctypes.c_uint64),
        # Out: bits of MAPBUF_TRAITS_*.
        ("traits", ctypes.c_uint32),
        # Out: bits in each of the kernel's own accesses (`read`, `write`), where those must be by words: a region that is not
        # cached, or a BAR; 0: any.
        ("width", ctypes.c_uint32),
        # Out: why it was refused.
        ("refused", Refused),
    ]


class Segment(ctypes.Structure):
    _fields_ = [
        # Where it starts in the buffer, in bytes.
        ("offset", ctypes.c_uint64),
        # Its length in bytes.
        ("length", ctypes.c_uint64),
        # Its address for the node's device, or MAPBUF_ADDRESS_HIDDEN. Only coherent memory always has one.
        ("dma_address", ctypes.c_uint64),
        # Its physical address, or MAPBUF_ADDRESS_HIDDEN: needs CAP_SYS_ADMIN.
        ("physical_address", ctypes.c_uint64),
    ]


class Segments(ctypes.Structure):
    _fields_ = [
        # In: size of this struct in bytes.
        ("size", ctypes.c_uint32),
        # In: bits of MAPBUF_SEGMENTS_*.
        ("flags", ctypes.c_uint32),
        # In: the buffer's id.
        ("id", ctypes.c_uint32),
        # In: number of the first run wanted.
        ("first", ctypes.c_uint32),
        # In: how many rows `rows` has room for. Out: how many were written.
        ("count", ctypes.c_uint32),
        # Out: number of runs of the buffer.
        ("total", ctypes.c_uint32),
        # In: address of an array of struct mapbuf_segment; ignored if `count` is 0.
        ("rows", ctypes.c_uint64),
        # Out: why it was refused.
        ("refused", Refused),
    ]


class Offset(ctypes.Structure):
    _fields_ = [
        # In: size of this struct in bytes.
        ("size", ctypes.c_uint32),
        # In: 0.
        ("flags", ctypes.c_uint32),
        # In: the buffer's id.
        ("id", ctypes.c_uint32),
        # In: an enum mapbuf_method.
        ("method", ctypes.c_uint32),
        # Out: `mmap` offset in bytes; plus any whole pages maps a part.
        ("mmap_offset", ctypes.c_uint64),
        # In: 0.
        ("reserved", ctypes.c_uint64),
        # Out: why it was refused.
        ("refused", Refused),
    ]


class Export(ctypes.Structure):
    _fields_ = [
        # In: size of this struct in bytes.
        ("size", ctypes.c_uint32),
        # In: 0.
        ("flags", ctypes.c_uint32),
        # In: the buffer's id (0 on a named node).
        ("id", ctypes.c_uint32),
        # Out: the descriptor.
        ("fd", ctypes.c_int32),
        # Out: why it was refused.
        ("refused", Refused),
    ]


class Import(ctypes.Structure):
    _fields_ = [
        # In: size of this struct in bytes.
        ("size", ctypes.c_uint32),
        # In: bits of MAPBUF_IMPORT_*.
        ("flags", ctypes.c_uint32),
        # In: the descriptor; it may be closed afterwards.
        ("fd", ctypes.c_int32),
        # In: the id wanted, or 0 for any. Out: the id.
        ("id", ctypes.c_uint32),
        # Out: the buffer's size in bytes.
        ("bytes", ctypes.c_uint64),
        # Out: `mmap` offset in bytes, for method `auto`.
        ("mmap_offset", ctypes.c_uint64),
        # Out: why it was refused.
        ("refused", Refused),
    ]


class Probe(ctypes.Structure):
    _fields_ = [
        # In: size of this struct in bytes.
        ("size", ctypes.c_uint32),
        # In: bits of MAPBUF_PROBE_*.
        ("flags", ctypes.c_uint32),
        # In: the buffer's id.
        ("id", ctypes.c_uint32),
        # Out: an enum mapbuf_region_state.
        ("state", ctypes.c_uint32),
        # Out: words read that were all ones.
        ("ones", ctypes.c_uint64),
        # Out: words read that were all zeros.
        ("zeros", ctypes.c_uint64),
        # Out: other words read.
        ("others", ctypes.c_uint64),
        # Out: why it was refused.
        ("refused", Refused),
    ]


class Region(ctypes.Structure):
    _fields_ = [
        # In: size of this struct in bytes.
        ("size", ctypes.c_uint32),
        # In: 0.
        ("flags", ctypes.c_uint32),
        # In: its number, from 0.
        ("index", ctypes.c_uint32),
        # Out: how many were declared. The other fields are zero if there is no region with this number.
        ("count", ctypes.c_uint32),
        # Out: its size in bytes.
        ("bytes", ctypes.c_uint64),
        # Out: its physical address, or MAPBUF_ADDRESS_HIDDEN: needs CAP_SYS_ADMIN.
        ("start", ctypes.c_uint64),
        # Out: its enum mapbuf_region_type.
        ("region_type", ctypes.c_uint32),
        # Out: its enum mapbuf_cache.
        ("cache", ctypes.c_uint32),
        # Out: width in bits of the kernel's own accesses, where its view is uncached.
        ("width", ctypes.c_uint32),
        # Out: an enum mapbuf_region_state.
        ("state", ctypes.c_uint32),
        # Out: when refused, an enum mapbuf_reason by number, else 0.
        ("reason", ctypes.c_uint32),
        # Out: the `errno` that goes with it.
        ("error_number", ctypes.c_int32),
        # Out: the reason's operands.
        ("operands", ctypes.c_uint64 * OPERANDS),
        # Out: its name, padded with zeros.
        ("name", ctypes.c_uint8 * NAME_LEN),
        # Out: why it was refused.
        ("refused", Refused),
    ]


class LastError(ctypes.Structure):
    _fields_ = [
        # In: size of this struct in bytes.
        ("size", ctypes.c_uint32),
        # In: bits of MAPBUF_LAST_ERROR_*.
        ("flags", ctypes.c_uint32),
        # Out: number of this refusal; grows with each one on this open file. 0: none yet for the thread.
        # If the caller has seen this number before, its current error came from somewhere else.
        ("sequence", ctypes.c_uint64),
        # Out: an enum mapbuf_reason by number.
        ("reason", ctypes.c_uint32),
        # Out: the `errno` that went with it.
        ("error_number", ctypes.c_int32),
        # Out: an enum mapbuf_operation by number.
        ("operation", ctypes.c_uint32),
        # In: 0 for the calling thread, or the `gettid` number of another thread that uses this open file: a thread of a
        # process that was killed can no longer ask by itself.
        ("thread", ctypes.c_uint32),
        # Out: the reason's operands, in its order.
        ("operands", ctypes.c_uint64 * OPERANDS),
        # Out: why it was refused.
        ("refused", Refused),
    ]


class Name(ctypes.Structure):
    _fields_ = [
        # In: size of this struct in bytes.
        ("size", ctypes.c_uint32),
        # In: 0.
        ("flags", ctypes.c_uint32),
        # In: the buffer's id.
        ("id", ctypes.c_uint32),
        # In: permission bits of the node, within 0666.
        ("mode", ctypes.c_uint32),
        # In: its owner, or MAPBUF_CALLER. Another owner needs CAP_CHOWN.
        ("uid", ctypes.c_uint32),
        # In: its group, or MAPBUF_CALLER. A group that the caller is not in needs CAP_CHOWN.
        ("gid", ctypes.c_uint32),
        # In: its name, `[A-Za-z0-9_][A-Za-z0-9._-]{0,63}`, padded with zeros.
        ("name", ctypes.c_uint8 * NAME_LEN),
        # Out: why it was refused.
        ("refused", Refused),
    ]


class Unname(ctypes.Structure):
    _fields_ = [
        # In: size of this struct in bytes.
        ("size", ctypes.c_uint32),
        # In: 0.
        ("flags", ctypes.c_uint32),
        # In: the name, padded with zeros.
        ("name", ctypes.c_uint8 * NAME_LEN),
        # Out: why it was refused.
        ("refused", Refused),
    ]


class BarInfo(ctypes.Structure):
    _fields_ = [
        # Its size in bytes.
        ("bytes", ctypes.c_uint64),
        # Bits of MAPBUF_BAR_*.
        ("flags", ctypes.c_uint32),
        # 0.
        ("reserved", ctypes.c_uint32),
    ]


class Device(ctypes.Structure):
    _fields_ = [
        # In: size of this struct in bytes.
        ("size", ctypes.c_uint32),
        # In: 0.
        ("flags", ctypes.c_uint32),
        # Out: its address (`0000:00:04.0`), or the name of a platform device, padded with zeros.
        ("name", ctypes.c_uint8 * DEVICE_NAME_LEN),
        # Out: vendor. A platform device has 0 in this and what else only PCI devices have.
        ("vendor", ctypes.c_uint32),
        # Out: device.
        ("device", ctypes.c_uint32),
        # Out: vendor of the subsystem.
        ("subsystem_vendor", ctypes.c_uint32),
        # Out: device of the subsystem.
        ("subsystem_device", ctypes.c_uint32),
        # Out: class, three bytes: base class, sub-class, interface.
        ("pci_class", ctypes.c_uint32),
        # Out: revision.
        ("revision", ctypes.c_uint32),
        # Out: bits of MAPBUF_DEVICE_STATE_*.
        ("state", ctypes.c_uint32),
        # Out: an enum mapbuf_iommu.
        ("iommu", ctypes.c_uint32),
        # Out: its IOMMU group, or MAPBUF_NO_GROUP.
        ("iommu_group", ctypes.c_uint32),
        # Out: its NUMA node, or MAPBUF_ANY_NODE.
        ("numa_node", ctypes.c_int32),
        # Out: current width of its DMA addresses in bits.
        ("dma_mask", ctypes.c_uint32),
        # Out: bytes of its configuration space: 256 or 4096, or 0 for a platform device.
        ("config_bytes", ctypes.c_uint32),
        # Out: number of its MAPBUF_Intx vectors.
        ("intx", ctypes.c_uint32),
        # Out: number of its MAPBUF_Msi vectors.
        ("msi", ctypes.c_uint32),
        # Out: number of its MAPBUF_Msix vectors.
        ("msix", ctypes.c_uint32),
        # Out: 0.
        ("reserved", ctypes.c_uint32),
        # Out: its base address registers. A 64-bit one is at the number of its lower half.
        ("bars", BarInfo * BARS),
        # Out: why it was refused.
        ("refused", Refused),
    ]


class DmaMask(ctypes.Structure):
    _fields_ = [
        # In: size of this struct in bytes.
        ("size", ctypes.c_uint32),
        # In: 0.
        ("flags", ctypes.c_uint32),
        # In: bits, 12 to 64.
        ("bits", ctypes.c_uint32),
        # In: 0.
        ("reserved", ctypes.c_uint32),
        # Out: why it was refused.
        ("refused", Refused),
    ]


class Attach(ctypes.Structure):
    _fields_ = [
        # In: size of this struct in bytes.
        ("size", ctypes.c_uint32),
        # In: 0.
        ("flags", ctypes.c_uint32),
        # In: the buffer's id.
        ("id", ctypes.c_uint32),
        # In: an enum mapbuf_direction.
        ("direction", ctypes.c_uint32),
        # Out: the address of its first byte for the device.
        ("dma_address", ctypes.c_uint64),
        # Out: runs of addresses for the device.
        ("segments", ctypes.c_uint32),
        # In: 0.
        ("reserved", ctypes.c_uint32),
        # Out: why it was refused.
        ("refused", Refused),
    ]


class Detach(ctypes.Structure):
    _fields_ = [
        # In: size of this struct in bytes.
        ("size", ctypes.c_uint32),
        # In: 0.
        ("flags", ctypes.c_uint32),
        # In: the buffer's id.
        ("id", ctypes.c_uint32),
        # In: 0.
        ("reserved", ctypes.c_uint32),
        # Out: why it was refused.
        ("refused", Refused),
    ]


class Sync(ctypes.Structure):
    _fields_ = [
        # In: size of this struct in bytes.
        ("size", ctypes.c_uint32),
        # In: bits of MAPBUF_SYNC_*.
        ("flags", ctypes.c_uint32),
        # In: the buffer's id.
        ("id", ctypes.c_uint32),
        # In: an enum mapbuf_direction.
        ("direction", ctypes.c_uint32),
        # In: first byte.
        ("offset", ctypes.c_uint64),
        # In: number of bytes, at least 1.
        ("length", ctypes.c_uint64),
        # Out: why it was refused.
        ("refused", Refused),
    ]


class Irq(ctypes.Structure):
    _fields_ = [
        # In: size of this struct in bytes.
        ("size", ctypes.c_uint32),
        # In: 0.
        ("flags", ctypes.c_uint32),
        # In: an enum mapbuf_irq_kind.
        ("kind", ctypes.c_uint32),
        # In: the vector's number, from 0.
        ("index", ctypes.c_uint32),
        # In: an enum mapbuf_irq_action.
        ("action", ctypes.c_uint32),
        # In: with MAPBUF_Set, an eventfd or MAPBUF_NO_DESCRIPTOR; otherwise 0.
        ("fd", ctypes.c_int32),
        # In: with the first MAPBUF_Set, how many vectors to allocate, or 0 for as many as the device has, at most
        # 32; otherwise 0. Out: how many were allocated.
        ("vectors", ctypes.c_uint32),
        # In: 0.
        ("reserved", ctypes.c_uint32),
        # Out: how often the interrupt came since it was set.
        ("count", ctypes.c_uint64),
        # Out: why it was refused.
        ("refused", Refused),
    ]


class Config(ctypes.Structure):
    _fields_ = [
        # In: size of this struct in bytes.
        ("size", ctypes.c_uint32),
        # In: bits of MAPBUF_CONFIG_*.
        ("flags", ctypes.c_uint32),
        # In: first byte, a multiple of `width`.
        ("offset", ctypes.c_uint32),
        # In: width in bytes: 1, 2 or 4.
        ("width", ctypes.c_uint32),
        # In: the value to write. Out: the value read.
        ("value", ctypes.c_uint32),
        # In: 0.
        ("reserved", ctypes.c_uint32),
        # Out: why it was refused.
        ("refused", Refused),
    ]


class Bar(ctypes.Structure):
    _fields_ = [
        # In: size of this struct in bytes.
        ("size", ctypes.c_uint32),
        # In: 0.
        ("flags", ctypes.c_uint32),
        # In: its number, from 0.
        ("index", ctypes.c_uint32),
        # In: an enum mapbuf_cache: uncached, or write-combined if it is prefetchable. It is the same for all open files of a device.
        ("cache", ctypes.c_uint32),
        # In: the id wanted, or 0 for any. Out: the id.
        ("id", ctypes.c_uint32),
        # Out: bits of MAPBUF_BAR_*.
        ("bar_flags", ctypes.c_uint32),
        # Out: its size in bytes, whole pages.
        ("bytes", ctypes.c_uint64),
        # Out: `mmap` offset in bytes, for method `auto`.
        ("mmap_offset", ctypes.c_uint64),
        # In: width in bits of the kernel's own accesses: 8, 16, 32 or 64; 0 means 32.
        ("width", ctypes.c_uint32),
        # In: 0.
        ("reserved", ctypes.c_uint32),
        # Out: why it was refused.
        ("refused", Refused),
    ]

IOCTL_QUERY = 0xc078b900
IOCTL_ALLOC = 0xc068b901
IOCTL_FREE = 0xc038b902
IOCTL_INFO = 0xc0b0b903
IOCTL_SEGMENTS = 0xc048b904
IOCTL_OFFSET = 0xc048b905
IOCTL_EXPORT = 0xc038b907
IOCTL_IMPORT = 0xc048b90b
IOCTL_PROBE = 0xc050b90c
IOCTL_REGION = 0xc0c0b90d
IOCTL_LAST_ERROR = 0xc068b908
IOCTL_NAME = 0xc080b909
IOCTL_UNNAME = 0xc070b90a
IOCTL_DEVICE = 0xc0f0b90e
IOCTL_DMA_MASK = 0xc038b90f
IOCTL_ATTACH = 0xc048b910
IOCTL_DETACH = 0xc038b911
IOCTL_SYNC = 0xc048b906
IOCTL_IRQ = 0xc050b912
IOCTL_CONFIG = 0xc040b913
IOCTL_BAR = 0xc058b914

KIND_NAMES = {
    1: "vmalloc",
    2: "pages",
    3: "contiguous",
    4: "coherent",
    5: "region",
    6: "foreign",
}

CACHE_NAMES = {
    0: "cached",
    1: "write-combined",
    2: "uncached",
}

METHOD_NAMES = {
    0: "auto",
    1: "remap",
    2: "remap-each",
    3: "insert",
    4: "map-pages",
    5: "vmalloc",
    6: "dma",
    7: "iomap",
    8: "io-remap",
    9: "fault-page",
    10: "fault-pfn",
    11: "fault-huge",
}

OPERATION_NAMES = {
    0: "QUERY",
    1: "ALLOC",
    2: "FREE",
    3: "INFO",
    4: "SEGMENTS",
    5: "OFFSET",
    6: "SYNC",
    7: "EXPORT",
    8: "LAST_ERROR",
    9: "NAME",
    10: "UNNAME",
    11: "IMPORT",
    12: "PROBE",
    13: "REGION",
    14: "DEVICE",
    15: "DMA_MASK",
    16: "ATTACH",
    17: "DETACH",
    18: "IRQ",
    19: "CONFIG",
    20: "BAR",
    255: "unknown ioctl",
    256: "open",
    257: "mmap",
    258: "page fault",
    259: "read",
    260: "write",
    261: "lseek",
    262: "attaching a device",
}

IRQ_KIND_NAMES = {
    1: "intx",
    2: "msi",
    3: "msi-x",
}

#: Of each reason: its name, its errno, what happened, what to do next.
REASONS = {
    101: (
        "StructTooShort",
        22,
        "the struct is {0} bytes long; its first version already had {1}",
        "set the first field to sizeof(the struct)",
    ),
    102: (
        "StructTooNew",
        7,
        "the struct is {0} bytes long; this driver knows the first {1} of them, and the rest is not zero",
        "set the fields that this driver does not know to zero, or load a newer driver",
    ),
    103: (
        "StructTooLong",
        7,
        "the struct claims to be {0} bytes long; no struct is longer than {1}",
        "set the first field to sizeof(the struct), and the rest to zero before filling it in",
    ),
    104: (
        "UnknownFlags",
        22,
        "flags {0:hex} have bits that this driver does not know (it knows {1:hex})",
        "clear those bits, or load a newer driver",
    ),
    105: (
        "ReservedNotZero",
        22,
        "the reserved field at byte {0} of the struct is not zero",
        "set the whole struct to zero before filling it in",
    ),
    106: (
        "UnknownIoctl",
        25,
        "this driver has no ioctl number {0:hex}",
        "use the numbers in include/mapbuf.h, or load a newer driver",
    ),
    107: (
        "BadAddress",
        14,
        "{1} bytes at address {0:hex} cannot be read or written",
        "pass the address of that much memory, which the program can both read and write",
    ),
    108: (
        "NeedsSession",
        95,
        "{0:operation} needs an allocator node, and this file is a named buffer's node",
        "open /dev/mapbuf/system instead",
    ),
    109: (
        "IdOnNamedNode",
        22,
        "the id is {0}, but on a named buffer's node it must be 0",
        "pass 0, which stands for the node's own buffer",
    ),
    110: (
        "ReadOnlyOpen",
        13,
        "{0:operation} makes changes, and this file was opened read-only",
        "open the node with O_RDWR",
    ),
    111: (
        "WriteOnlyOpen",
        13,
        "{0:operation} gives read access, and this file was not opened for reading",
        "open the node with O_RDWR",
    ),
    201: (
        "ZeroBytes",
        22,
        "a buffer of 0 bytes was requested",
        "request at least 1 byte; sizes are rounded up to whole pages",
    ),
    202: (
        "TooManyBytes",
        22,
        "{0} bytes were requested; a buffer can have at most {1}",
        "request less, or several buffers",
    ),
    203: (
        "UnknownKind",
        22,
        "there is no memory kind {0}",
        "use vmalloc (1), pages (2), contiguous (3) or coherent (4)",
    ),
    204: (
        "KindNotHere",
        22,
        "this node does not provide {0:kind} memory",
        "QUERY reports the kinds that it provides; regions are declared when the module is loaded",
    ),
    205: (
        "UnknownCache",
        22,
        "there is no cache mode {0}",
        "use cached (0), write-combined (1) or uncached (2)",
    ),
    206: (
        "CoherentIsCached",
        22,
        "{0:kind} memory cannot be {1:cache} here: DMA on this machine is cache-coherent, and the kernel's own mapping stays cached",
        "use cached, or a contiguous buffer, whose kernel mapping can be changed",
    ),
    207: (
        "NoSuchNode",
        22,
        "there is no memory on NUMA node {0:signed}",
        "use -1 for any node; /sys/devices/system/node/has_memory lists the nodes with memory",
    ),
    208: (
        "IdTooLarge",
        22,
        "id {0} is too large: ids are below {1}",
        "use a smaller id, or 0 to have one assigned",
    ),
    209: (
        "IdInUse",
        17,
        "this session already has a buffer with id {0}",
        "free it first, use another id, or pass 0 to have one assigned",
    ),
    210: (
        "NoSuchId",
        2,
        "this session has no buffer with id {0}",
        "use an id that ALLOC returned for this open file and that has not been freed; each open file has its own ids",
    ),
    211: (
        "TooManyBuffers",
        28,
        "this session has {0} buffers, the most that it can have",
        "free some, open the node again, or load the module with a larger max_buffers",
    ),
    212: (
        "OverLimit",
        12,
        "{0:bytes} more would exceed the limit for all users together: {1:bytes} of {2:bytes} are in use",
        "free buffers (including those that are still mapped or exported), or raise max_bytes in /sys/module/mapbuf/parameters",
    ),
    213: (
        "OverUserLimit",
        122,
        "{0:bytes} more would exceed the limit for user {3}: {1:bytes} of {2:bytes} are in use",
        "free buffers (including those that are still mapped or exported), or raise max_bytes_per_user in /sys/module/mapbuf/parameters",
    ),
    214: (
        "OutOfMemory",
        12,
        "the kernel does not have {0:bytes} of free memory",
        "request less, or free memory",
    ),
    215: (
        "NoContiguousMemory",
        12,
        "the kernel found no physically contiguous run of {0:bytes}",
        "boot with cma=SIZE (larger than the buffer) to reserve memory for this, or use the kind pages",
    ),
    216: (
        "NoCoherentMemory",
        12,
        "the kernel found no DMA-coherent run of {0:bytes} (without a CMA area the limit is {1:bytes})",
        "boot with cma=SIZE (larger than the buffer), or use several smaller buffers",
    ),
    217: (
        "Interrupted",
        4,
        "a fatal signal arrived after {1:bytes} of {0:bytes} had been allocated",
        "nothing to do: what had been allocated has been freed",
    ),
    218: (
        "NodeOfDevice",
        22,
        "coherent memory comes from the device's own NUMA node, and node {0:signed} was requested",
        "use -1 (any node), or the kind contiguous",
    ),
    219: (
        "NoDescriptor",
        24,
        "the process has as many open descriptors as it can have",
        "close some, or raise the limit (ulimit -n)",
    ),
    220: (
        "CacheRefused",
        12,
        "the kernel could not change its own mapping of this memory to {0:cache} (errno {1})",
        "use cached; the other modes need x86, and some free memory for page tables",
    ),
    221: (
        "NotADmaBuf",
        22,
        "descriptor {0:signed} is not a dma-buf",
        "pass a descriptor that EXPORT returned",
    ),
    223: (
        "OffsetsFull",
        28,
        "this session has no {0:bytes} left in its mmap offsets, which end at 16 TiB",
        "free buffers, or open the node again: each open file has its own offsets",
    ),
    224: (
        "OverCgroupLimit",
        12,
        "{0:bytes} would exceed the limit of the caller's memory cgroup: only {2:bytes} of {1:bytes} are left",
        "free memory in the container or service, or raise its limit (memory.max of its cgroup)",
    ),
    225: (
        "NoPagesForDevices",
        95,
        "a device cannot import {0:kind} memory: it has no pages",
        "have the device import another kind of buffer, or map the dma-buf's descriptor and copy",
    ),
    226: (
        "NodeNotAllowed",
        13,
        "NUMA node {0} is not in the caller's cpuset",
        "use a node from Mems_allowed_list in /proc/self/status, or -1 for any of them",
    ),
    227: (
        "DmaBufMode",
        13,
        "descriptor {0:signed} is a dma-buf that was not opened for both reading and writing",
        "have its exporter open it with O_RDWR (DMA_HEAP_IOCTL_ALLOC: fd_flags); an id here can be mapped for writing, and a device can write to it",
    ),
    228: (
        "ForeignFrames",
        95,
        "another driver's dma-buf does not say where its memory lies",
        "ATTACH it on a device's node, and ask with the flag FOR_DEVICE for that device's addresses",
    ),
    301: (
        "UnknownMethod",
        22,
        "there is no method {0}",
        "QUERY returns a mask of the methods; 0 is auto",
    ),
    302: (
        "NothingAtOffset",
        22,
        "there is no buffer at mmap offset {0:hex}",
        "use id << PAGE_SHIFT, or the mmap_offset that ALLOC or OFFSET returned, plus whole pages within the buffer",
    ),
    303: (
        "BeyondEnd",
        22,
        "{1} bytes from byte {0} would run past the end of the buffer at {2}",
        "map no more than what lies between the offset and the end of the buffer",
    ),
    304: (
        "Executable",
        13,
        "PROT_EXEC was requested; buffers are never executable",
        "leave PROT_EXEC out (the READ_IMPLIES_EXEC personality adds it silently)",
    ),
    305: (
        "CowNeedsContiguous",
        22,
        "MAP_PRIVATE with PROT_WRITE is copy-on-write, which remap_pfn_range supports only if one call covers the whole mapping; {1} bytes from byte {0} would take {2} calls",
        "use the method auto, MAP_SHARED, or PROT_READ alone, or map each physically contiguous run separately",
    ),
    306: (
        "CowShowsAddress",
        1,
        "MAP_PRIVATE with PROT_WRITE of memory without pages shows its physical address in /proc/PID/maps, which needs CAP_SYS_ADMIN",
        "use MAP_SHARED, PROT_READ alone, or the kind pages or vmalloc, or run with CAP_SYS_ADMIN",
    ),
    307: (
        "CowNeedsCached",
        22,
        "MAP_PRIVATE with PROT_WRITE makes private copies, which are cached memory, and this buffer is {0:cache}",
        "use MAP_SHARED, PROT_READ alone, or a cached buffer",
    ),
    308: (
        "CowAtFault",
        22,
        "{0:method} inserts page frames at fault time, which the kernel does not allow for MAP_PRIVATE with PROT_WRITE",
        "use MAP_SHARED, PROT_READ alone, or the method auto",
    ),
    309: (
        "NeedsOneRun",
        22,
        "{0:method} maps one physically contiguous run; only the first {3} of the {2} bytes from byte {1} are contiguous",
        "use the method auto or remap-each, map each run separately, or use the kind contiguous",
    ),
    310: (
        "NeedsPages",
        22,
        "{0:method} needs memory with struct pages of its own, and this {1:kind} buffer has none",
        "use the method auto, or the kind pages or vmalloc",
    ),
    311: (
        "NeedsVmalloc",
        22,
        "vmalloc (remap_vmalloc_range) only maps vmalloc'd memory, and this is a {0:kind} buffer",
        "use the method auto, or the kind vmalloc",
    ),
    312: (
        "NeedsCoherent",
        22,
        "dma (dma_mmap_coherent) only maps DMA-coherent memory, and this is a {0:kind} buffer",
        "use the method auto, or the kind coherent",
    ),
    313: (
        "NothingHuge",
        22,
        "no part of these {0:bytes} can be mapped with an entry of {1:bytes}",
        "use the kind pages or contiguous with at least that size, at an offset and address that are multiples of it, or the method auto",
    ),
    314: (
        "KernelRefused",
        22,
        "the kernel function behind {0:method} returned errno {1}",
        "please report this with the kernel version: the driver should have refused it earlier",
    ),
    315: (
        "ExporterMaps",
        22,
        "another driver's dma-buf is mapped by that driver alone, and not by {0:method}",
        "use the method auto",
    ),
    316: (
        "ExporterRefused",
        22,
        "the driver that exported this dma-buf did not map {0} bytes of it (errno {1})",
        "map it with MAP_SHARED, which is all that most exporters take, or by that driver's own means",
    ),
    401: (
        "NameInvalid",
        22,
        "the name is empty, or has a byte {1:char} at position {0} that is not allowed there",
        "use 1 to 64 letters, digits, '_', '.' or '-', not starting with '.' or '-'",
    ),
    402: (
        "NameTaken",
        17,
        "a buffer already has this name",
        "use another name, or remove the existing buffer first (mapbuf remove NAME)",
    ),
    403: (
        "NameUnknown",
        2,
        "no buffer has this name",
        "mapbuf list shows the existing names",
    ),
    404: (
        "NotOwner",
        1,
        "the named buffer belongs to user {0}",
        "ask its owner, or run with CAP_SYS_ADMIN",
    ),
    405: (
        "AlreadyNamed",
        16,
        "the buffer with id {0} already has a name",
        "remove that name first; a buffer has one name at a time",
    ),
    406: (
        "ModeInvalid",
        22,
        "{0:octal} is not a valid mode for a node: only the bits in 0666 can be set",
        "use 0660, 0640 or 0444, for example",
    ),
    407: (
        "OwnerNotPermitted",
        1,
        "giving a node to user {0}, group {1} needs CAP_CHOWN",
        "leave the owner and group as the caller's own, or run with CAP_CHOWN",
    ),
    408: (
        "TooManyNames",
        28,
        "there are {0} named buffers, the most that there can be",
        "remove one, or load the module with a larger max_names",
    ),
    409: (
        "ForeignUnnamed",
        95,
        "another driver's dma-buf cannot have a name here: it belongs to that driver",
        "pass its descriptor on, or copy it to a buffer of this driver and name that",
    ),
    501: (
        "OffsetIsId",
        22,
        "offset {0:hex} stands for a buffer's id, and leaves no room for a byte offset",
        "read and write at the mmap_offset that ALLOC returned, plus the offset in the buffer",
    ),
    502: (
        "BadSeek",
        22,
        "the position {0:signed} (whence {1}) is outside the file",
        "on a named node, seek between 0 and its size; on an allocator node, SEEK_END has no meaning",
    ),
    503: (
        "WriteBeyondEnd",
        28,
        "a write at byte {0}, but the buffer ends at byte {1}",
        "write within the buffer: it does not grow",
    ),
    504: (
        "UnalignedWrite",
        22,
        "a write of {1} bytes at byte {0}, to uncached memory that is written in {2}-bit words",
        "write whole words at multiples of their size, or map the region",
    ),
    505: (
        "ForeignView",
        95,
        "read and write do not reach another driver's dma-buf",
        "map it, and SYNC before and after the accesses",
    ),
    601: (
        "RegionIsRam",
        16,
        "part of the {0:bytes} is System RAM that the kernel uses",
        "reserve it at boot: memmap=SIZE$START on the kernel command line (x86), or a reserved-memory node (device tree)",
    ),
    602: (
        "RegionTaken",
        16,
        "part of the {0:bytes} is already claimed",
        "/proc/iomem shows by whom (as root); unbind that driver, or declare another range",
    ),
    603: (
        "RegionUnmappable",
        12,
        "the kernel could not map the {0:bytes} for itself with the declared cache mode",
        "declare it uc or wc: /proc/mtrr and /sys/kernel/debug/x86/pat_memtype_list show which mode the machine uses for it",
    ),
    604: (
        "RegionUnbacked",
        6,
        "there is no memory behind the region of {0:bytes}: what is written there does not stay",
        "check the declared start address and size; add 'trust' to the declaration to map it anyway",
    ),
    605: (
        "NotARegion",
        22,
        "only regions can be probed, and this is a {0:kind} buffer",
        "nothing to do: memory that the kernel allocated is there",
    ),
    606: (
        "ProbeIsRisky",
        1,
        "this region is device memory: reading it can hang the bus, or take data out of a FIFO",
        "check the device's manual first; then probe with the flag RISK (mapbuf probe --risk NAME)",
    ),
    607: (
        "ProbeWritesDevice",
        1,
        "this region is device memory, and a probe never writes to a device",
        "probe it with reads alone",
    ),
    608: (
        "RegionNameTaken",
        17,
        "a buffer or region already has this name",
        "give each region its own name",
    ),
    609: (
        "ProbeWhileMapped",
        16,
        "the region is mapped ({0} times), and a probe that writes and restores could undo a write by another program",
        "probe it before it is in use, or with reads alone",
    ),
    701: (
        "NeedsDevice",
        95,
        "{0:operation} needs the node of a bound device, and this is not one",
        "bind the device (mapbuf bind 0000:00:04.0), and open /dev/mapbuf/pci-0000:00:04.0",
    ),
    702: (
        "DeviceGone",
        19,
        "the device was unbound from the driver, or removed",
        "close this file; when the device is bound again, open its node again",
    ),
    703: (
        "DeviceNotIsolated",
        1,
        "no IOMMU confines this device, so that it can reach all of memory, and the node was opened without CAP_SYS_RAWIO",
        "boot with an IOMMU (intel_iommu=on, amd_iommu=on), or open the node with CAP_SYS_RAWIO",
    ),
    704: (
        "GroupShared",
        1,
        "the IOMMU cannot tell device {1:pci} from device {2:pci}, which is bound to another driver (group {0})",
        "unbind that device from its driver, or bind it here too",
    ),
    705: (
        "MaskInvalid",
        22,
        "{0} is not a valid number of DMA address bits: the range is {1} to {2}",
        "use the number in the device's manual, for example 32",
    ),
    706: (
        "MaskRefused",
        5,
        "the platform has no DMA with {0}-bit addresses for this device (errno {1})",
        "use more bits, or boot with an IOMMU, which can provide addresses of any width",
    ),
    707: (
        "MaskInUse",
        16,
        "{0} buffers already have addresses for the device, which may not fit the mask",
        "set the mask first, then allocate and attach",
    ),
    708: (
        "UnknownDirection",
        22,
        "there is no direction {0}",
        "use to-device (1), from-device (2) or both (3)",
    ),
    709: (
        "CannotAttach",
        22,
        "{0:kind} memory cannot be attached: it has no pages, or already has addresses for the device",
        "attach cached vmalloc, pages or contiguous memory",
    ),
    710: (
        "AlreadyAttached",
        16,
        "buffer {0} already has addresses for the device",
        "DETACH it first",
    ),
    711: (
        "NotAttached",
        22,
        "buffer {0} has no addresses for the device",
        "ATTACH it first",
    ),
    712: (
        "DmaRefused",
        12,
        "the kernel could not map {0:bytes} for the device (errno {1})",
        "attach less at a time; if the device's mask is narrow and there is no IOMMU, use coherent memory, which is allocated within the mask",
    ),
    713: (
        "SyncOutside",
        22,
        "{1} bytes from byte {0} are an empty range, or run past the end of the buffer at {2}",
        "sync at least one byte, within the buffer",
    ),
    714: (
        "SyncPhase",
        22,
        "the flags {0:hex} do not say whether this is a begin or an end",
        "set exactly one of BEGIN (1) and END (2)",
    ),
    715: (
        "NoSuchBar",
        6,
        "the device has no BAR {0}, or nothing is behind it",
        "DEVICE reports the BARs that it has; a 64-bit BAR has the number of its lower half",
    ),
    716: (
        "BarTaken",
        16,
        "the range of BAR {0} is claimed by another driver",
        "/proc/iomem and /proc/ioports show by which (as root)",
    ),
    717: (
        "BarCache",
        22,
        "BAR {0} cannot be {1:cache} now",
        "use uncached; write-combined needs a prefetchable BAR that is not in use with another mode",
    ),
    718: (
        "BarWidth",
        22,
        "an access cannot be {0} bits wide",
        "use 8, 16, 32 or 64, or 0 for 32",
    ),
    719: (
        "PortsNotMappable",
        22,
        "these {0:bytes} are I/O ports, which cannot be mapped",
        "use pread and pwrite at the buffer's mmap_offset",
    ),
    720: (
        "MsixTable",
        13,
        "the MSI-X table is in the {1} bytes from byte {0}: a program that writes to it can make the device write anywhere",
        "map it read-only, or map what lies before and after it; set interrupts with IRQ",
    ),
    721: (
        "UnknownIrqKind",
        22,
        "there is no interrupt kind {0}",
        "use INTx (1), MSI (2) or MSI-X (3)",
    ),
    722: (
        "UnknownIrqAction",
        22,
        "there is no interrupt action {0}",
        "use set (1), mask (2), unmask (3) or trigger (4)",
    ),
    723: (
        "NoSuchVector",
        6,
        "there is no {0:irq} vector {1}: there are {2}",
        "DEVICE reports how many the device has; the first vector that is set fixes how many are in use",
    ),
    724: (
        "IrqTaken",
        16,
        "another open file has set the device's interrupts",
        "unset them in that program, or end it",
    ),
    725: (
        "IrqKindInUse",
        16,
        "the device now has {1:irq} interrupts, not {0:irq}",
        "unset those first: a device has one kind at a time",
    ),
    726: (
        "IrqNotSet",
        22,
        "{0:irq} vector {1} is not set",
        "set it with an eventfd first",
    ),
    727: (
        "IrqRefused",
        5,
        "the kernel could not give the device {0:irq} interrupts (errno {1})",
        "use fewer vectors, or another kind",
    ),
    728: (
        "NotAnEventFd",
        22,
        "descriptor {0:signed} is not an eventfd",
        "create one with eventfd(2)",
    ),
    729: (
        "CannotMask",
        95,
        "{0:irq} vectors cannot be masked on this device",
        "mask it in the device's own registers",
    ),
    730: (
        "ConfigOutside",
        22,
        "{1} bytes at byte {0} are not a field of the configuration space, which has {2} bytes",
        "read or write 1, 2 or 4 bytes at a multiple of that",
    ),
    731: (
        "ConfigReadOnly",
        1,
        "the {1} bytes at byte {0} of the configuration space cannot be set to {2:hex}: user space can only change the bits {3:hex} there",
        "write the other bits back as they were read; BARs, interrupts and capabilities belong to the kernel",
    ),
    732: (
        "RevocableByFault",
        22,
        "{0:method} maps everything at once, and this memory goes away with its device",
        "use auto, or one of the fault methods: what they map can be revoked at any time",
    ),
    733: (
        "ImporterHolds",
        95,
        "the importing driver cannot give this {0:kind} memory up, and it goes away with its device",
        "import vmalloc, pages or contiguous memory there, and attach that to this device",
    ),
    736: (
        "RevocableUnnamed",
        22,
        "the registers of a device ({0:kind}) cannot have a name: its own node decides who may use them",
        "open the device's node (BAR), or pass the dma-buf on (EXPORT)",
    ),
    737: (
        "BarSharesPage",
        22,
        "what the base address register leads to, {0:bytes}, shares a page with something else",
        "read and write it: pread and pwrite at the buffer's mmap_offset",
    ),
    740: (
        "OutOfReach",
        22,
        "from byte {1} on the buffer lies in memory that the device does not reach with its {0} address bits",
        "allocate it on the device's node after the mask was set, which gives memory that the device reaches, or use coherent memory",
    ),
    741: (
        "SyncDirection",
        22,
        "the sync is {0:direction}, and the buffer is attached {1:direction}",
        "sync in the direction that ATTACH was given, or attach it for both (3)",
    ),
    742: (
        "PlacementInvalid",
        22,
        "{1:hex} at byte {0} of the struct is no place for memory",
        "use for `below` 0 or at least a page, for `align_bits` at most 40, for `boundary_bits` 0 or 12 to 63",
    ),
    743: (
        "PlacementRefused",
        12,
        "no {0:bytes} were found with addresses below {1:hex}, {2} low bits of 0 at the start, and no run over a multiple of 2^{3} (0: no such wish)",
        "ask for less at a time or for less of it; behind an IOMMU the device's addresses are chosen anew, so ask with FOR_DEVICE there",
    ),
    744: (
        "ExporterRefusedDevice",
        5,
        "the driver that exported this dma-buf did not map its {0:bytes} for the device (errno {1})",
        "attach less at a time, or with more address bits (DMA_MASK); memory that only importers which let go may have (EOPNOTSUPP, 95) cannot be attached",
    ),
    745: (
        "ForeignOutOfReach",
        22,
        "the device reaches memory with {0} address bits, and another driver's dma-buf may lie anywhere",
        "set more bits (DMA_MASK) if the device has them, boot with an IOMMU, or copy to a buffer that is allocated on the device's node",
    ),
    746: (
        "ExporterRefusedSync",
        5,
        "the driver that exported this dma-buf did not sync it (errno {0})",
        "try again; if it stays so, the exporting driver's documentation says when the CPU may have its memory",
    ),
    747: (
        "BarNotProbed",
        1,
        "these {0:bytes} are a device's registers, which are never probed: reading one can change what the device does",
        "read the registers that the device's manual names, by a mapping or with pread; whether the device is there, DEVICE says",
    ),
}
