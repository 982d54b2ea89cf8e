/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The binary interface of the mapbuf driver. Made from abi/: do not edit.
 * What a refusal means, in words: mapbuf-explain.h.
 *
 * Every struct starts with its own size in bytes; set the whole of it to zero before filling it in:
 *
 *     struct mapbuf_alloc alloc = { .size = sizeof(alloc), .bytes = 65536,
 *                                   .kind = MAPBUF_KIND_COHERENT, .numa_node = MAPBUF_ANY_NODE };
 *     if (ioctl(fd, MAPBUF_IOCTL_ALLOC, &alloc) == 0)
 *         p = mmap(NULL, alloc.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, alloc.mmap_offset);
 */

#ifndef MAPBUF_H
#define MAPBUF_H

#include <stdint.h>

/* Where the nodes are, and what is told of them. */
#define MAPBUF_SYSTEM_NODE "/dev/mapbuf/system"
#define MAPBUF_DEV_DIR "/dev/mapbuf"
#define MAPBUF_NAMED_DIR "/dev/mapbuf/named"
#define MAPBUF_PCI_NODE_PREFIX "/dev/mapbuf/pci-"
#define MAPBUF_PLATFORM_NODE_PREFIX "/dev/mapbuf/platform-"
#define MAPBUF_SYSFS_CLASS "/sys/class/mapbuf"

// Version of this interface, in `Query::abi_version`. It changes with each incompatible change.
#define MAPBUF_ABI_VERSION 1

// `_IOC_TYPE` of every ioctl here; free in `Documentation/userspace-api/ioctl/ioctl-number.rst`.
#define MAPBUF_MAGIC 185

// `mmap` offsets below this many pages are buffer ids; packed offsets start here.
#define MAPBUF_MAX_IDS 1048576

// All `mmap` offsets lie below this many pages, so that `mmap2` of a 32-bit program reaches them.
#define MAPBUF_MAX_OFFSET_PAGES 4294967296

// Longest name of a named buffer, in bytes.
#define MAPBUF_NAME_LEN 64

// Longest name of a device (`0000:00:04.0`), in bytes.
#define MAPBUF_DEVICE_NAME_LEN 32

// Number of base address registers of a PCI device.
#define MAPBUF_BARS 6

// `Device::iommu_group`: none.
#define MAPBUF_NO_GROUP UINT32_MAX

// `Irq::fd`: none.
#define MAPBUF_NO_DESCRIPTOR -1

// Number of operands that a refusal carries.
#define MAPBUF_OPERANDS 4

// A DMA or physical address that the caller may not see, or that does not exist.
#define MAPBUF_ADDRESS_HIDDEN UINT64_MAX

// `Alloc::numa_node`: any node.
#define MAPBUF_ANY_NODE -1

// `Alloc::numa_node`: that of the node's device, or any if it has none.
#define MAPBUF_NEAR_DEVICE -2

// `Name::uid` and `Name::gid`: the caller's own.
#define MAPBUF_CALLER UINT32_MAX

// The largest struct size that the driver reads (a page on every architecture).
#define MAPBUF_MAX_STRUCT_SIZE 4096

// `OFFSET` returns offsets for named methods.
#define MAPBUF_FEATURE_OFFSET 1

// `EXPORT` returns dma-buf descriptors.
#define MAPBUF_FEATURE_EXPORT 2

// `NAME` creates persistent nodes.
#define MAPBUF_FEATURE_NAME 4

// Contiguous and coherent buffers may come from a CMA area (`cma=` on the kernel command line).
#define MAPBUF_FEATURE_CMA 8

// `IMPORT` accepts dma-buf descriptors of this driver's buffers.
#define MAPBUF_FEATURE_IMPORT 32

// DMA addresses of the system node are public (`expose_dma=1`).
#define MAPBUF_FEATURE_EXPOSE_DMA 16

// An ioctl that is refused returns the reason in its own struct (struct mapbuf_refused).
#define MAPBUF_FEATURE_REFUSED 64

// The node is one of a bound device: `DEVICE`, `DMA_MASK`, `ATTACH`, `DETACH`, `SYNC`, `IRQ`, `CONFIG` and `BAR`
// work.
#define MAPBUF_FEATURE_DEVICE 128

// On the node of a device: a DMA buffer. It is attached at once, in both directions, until `DETACH` or `FREE`;
// coherent memory is always attached. The placement then applies to the device's addresses.
#define MAPBUF_ALLOC_FOR_DEVICE 1

// It has pages: `O_DIRECT`, `io_uring` and RDMA can pin its mappings.
#define MAPBUF_TRAITS_PINNABLE 1

// The node's device and the CPU see the same bytes at all times: `SYNC` has nothing to do.
#define MAPBUF_TRAITS_COHERENT 2

// It has addresses for the node's device: `SEGMENTS` with MAPBUF_FOR_DEVICE returns them.
#define MAPBUF_TRAITS_ATTACHED 4

// It goes away with the device: mappings then raise SIGBUS. Only the `fault` methods map it.
#define MAPBUF_TRAITS_REVOCABLE 8

// Ports, which can be read and written (`pread`, `pwrite`) but not mapped.
#define MAPBUF_TRAITS_PORTS 16

// The rows are runs that are contiguous in the addresses of the node's device, for a buffer that has such
// addresses. Behind an IOMMU there are fewer than physical runs. `physical_address` is MAPBUF_ADDRESS_HIDDEN.
#define MAPBUF_SEGMENTS_FOR_DEVICE 1

// Attach it to the node's device at once, for both directions.
#define MAPBUF_IMPORT_FOR_DEVICE 1

// Write a pattern to every page, check whether it stays, and restore the old contents. Memory only.
#define MAPBUF_PROBE_WRITE 1

// Read a device's memory, although this can hang a bus or remove data from a queue.
#define MAPBUF_PROBE_RISK 2

// Ask about dma-bufs instead of this open file: the last refusal for this thread when it mapped a dma-buf's own
// descriptor, or had a device import one. Any open file of the driver returns it, but only for the calling thread.
#define MAPBUF_LAST_ERROR_OF_DMA_BUFS 1

// Memory: it can be mapped.
#define MAPBUF_BAR_MEMORY 1

// Ports: they can be read and written.
#define MAPBUF_BAR_PORTS 2

// Reading has no side effects, and writes may be combined.
#define MAPBUF_BAR_PREFETCHABLE 4

// The MSI-X table or its pending bits lie in it; no mapping of those pages is writable.
#define MAPBUF_BAR_MSIX 8

// It is present. Without this bit it is gone, and the other fields are from before.
#define MAPBUF_DEVICE_STATE_PRESENT 1

// This open file may use it. Without this bit, each use is refused with the reason.
#define MAPBUF_DEVICE_STATE_USABLE 2

// DMA is cache-coherent: `SYNC` has nothing to do.
#define MAPBUF_DEVICE_STATE_COHERENT 4

// It may do DMA now (bus master).
#define MAPBUF_DEVICE_STATE_BUS_MASTER 8

// The CPU is about to use the bytes; the device is done with them.
#define MAPBUF_SYNC_BEGIN 1

// The CPU is done with the bytes; the device may have them.
#define MAPBUF_SYNC_END 2

// Write the value; without it, read it.
#define MAPBUF_CONFIG_WRITE 1

// An enumeration whose numbers are part of the interface.
// Kinds of memory.
enum mapbuf_kind {
  // Scattered order-0 pages, virtually contiguous in the kernel (`vmap` with `VM_USERMAP`).
  MAPBUF_KIND_VMALLOC = 1,
  // Page-backed folios, the largest orders first (2 MiB on x86-64, down to 4 KiB).
  MAPBUF_KIND_PAGES = 2,
  // One physically contiguous run.
  MAPBUF_KIND_CONTIGUOUS = 3,
  // DMA-coherent memory of the node's device (`dma_alloc_coherent`).
  MAPBUF_KIND_COHERENT = 4,
  // A reserved physical range, or a PCI BAR, registered by name.
  MAPBUF_KIND_REGION = 5,
  // Another driver's dma-buf, which `IMPORT` gave an id: that driver maps it, and pays for it.
  MAPBUF_KIND_FOREIGN = 6,
};

// Ways to map, each named after the kernel function that does it.
enum mapbuf_method {
  // The best one for the kind.
  MAPBUF_METHOD_AUTO = 0,
  // `remap_pfn_range` over the whole mapping.
  MAPBUF_METHOD_REMAP = 1,
  // `remap_pfn_range` page by page.
  MAPBUF_METHOD_REMAP_EACH = 2,
  // `vm_insert_pages`.
  MAPBUF_METHOD_INSERT = 3,
  // `vm_map_pages`.
  MAPBUF_METHOD_MAP_PAGES = 4,
  // `remap_vmalloc_range`.
  MAPBUF_METHOD_VMALLOC = 5,
  // `dma_mmap_coherent`.
  MAPBUF_METHOD_DMA = 6,
  // `vm_iomap_memory`.
  MAPBUF_METHOD_IOMAP = 7,
  // `io_remap_pfn_range`.
  MAPBUF_METHOD_IO_REMAP = 8,
  // A fault handler that answers with a `struct page`.
  MAPBUF_METHOD_FAULT_PAGE = 9,
  // A fault handler that calls `vmf_insert_pfn`.
  MAPBUF_METHOD_FAULT_PFN = 10,
  // A huge-fault handler (`vmf_insert_folio_pmd`, `vmf_insert_pfn_pmd`).
  MAPBUF_METHOD_FAULT_HUGE = 11,
};

// Cache modes of a buffer, the same for every view of it.
enum mapbuf_cache {
  // Ordinary write-back memory.
  MAPBUF_CACHE_CACHED = 0,
  // Writes are gathered, reads are not cached.
  MAPBUF_CACHE_WRITE_COMBINED = 1,
  // Every access goes to memory.
  MAPBUF_CACHE_UNCACHED = 2,
};

// What a region was declared to be.
enum mapbuf_region_type {
  // Memory, which is probed when it is registered.
  MAPBUF_REGION_TYPE_RAM = 1,
  // A device: reading it may have side effects, so it is never read unless asked for.
  MAPBUF_REGION_TYPE_MMIO = 2,
};

// What is known about a region.
enum mapbuf_region_state {
  // It has not been read yet.
  MAPBUF_REGION_STATE_UNPROBED = 0,
  // It reads neither only ones nor only zeros.
  MAPBUF_REGION_STATE_ANSWERS = 1,
  // Suspect: it reads only ones, as on most buses where nothing answers.
  MAPBUF_REGION_STATE_READS_ONES = 2,
  // Suspect: it reads only zeros, as on some buses and emulators where nothing answers.
  MAPBUF_REGION_STATE_READS_ZEROS = 3,
  // It does not keep what is written: there is no memory.
  MAPBUF_REGION_STATE_UNBACKED = 4,
  // It keeps what is written: there is memory.
  MAPBUF_REGION_STATE_BACKED = 5,
  // It could not be registered; the reason says why.
  MAPBUF_REGION_STATE_REFUSED = 6,
  // Its name was removed and it is not in use any more: the claim was released.
  MAPBUF_REGION_STATE_RELEASED = 7,
};

// The direction of a transfer between the CPU and a device.
enum mapbuf_direction {
  // The CPU writes them, the device reads them.
  MAPBUF_DIRECTION_TO_DEVICE = 1,
  // The device writes them, the CPU reads them.
  MAPBUF_DIRECTION_FROM_DEVICE = 2,
  // Both.
  MAPBUF_DIRECTION_BOTH = 3,
};

// What is between a device and memory.
enum mapbuf_iommu {
  // Nothing: the device reaches all memory, and DMA addresses are physical addresses.
  MAPBUF_IOMMU_NONE = 0,
  // An IOMMU that passes everything through, at the same addresses.
  MAPBUF_IOMMU_IDENTITY = 1,
  // An IOMMU that translates: the device reaches only memory that was mapped for it, at its own addresses.
  MAPBUF_IOMMU_TRANSLATED = 2,
};

// Kinds of interrupts of a PCI device.
enum mapbuf_irq_kind {
  // The pin: one level-triggered interrupt. It is masked when it arrives, until MAPBUF_Unmask.
  MAPBUF_IRQ_KIND_INTX = 1,
  // Message-signalled interrupts (MSI).
  MAPBUF_IRQ_KIND_MSI = 2,
  // Message-signalled interrupts with a table (MSI-X).
  MAPBUF_IRQ_KIND_MSIX = 3,
};

// What struct mapbuf_irq does.
enum mapbuf_irq_action {
  // Makes an eventfd, `Irq::fd`, count the vector; MAPBUF_NO_DESCRIPTOR ends that. The first vector that is set
  // allocates the vectors of its kind, and unsetting the last one frees them. A device can use one kind of
  // interrupts at a time.
  MAPBUF_IRQ_ACTION_SET = 1,
  // Masks the vector. Masking it twice is the same as once.
  MAPBUF_IRQ_ACTION_MASK = 2,
  // Unmasks the vector. An interrupt that came in between is delivered now.
  MAPBUF_IRQ_ACTION_UNMASK = 3,
  // Triggers the vector, as if the device had sent it.
  MAPBUF_IRQ_ACTION_TRIGGER = 4,
};

// The operation that was refused, in `LastError::operation`. Below 0x100: the number of an ioctl.
enum mapbuf_operation {
  // `MAPBUF_IOCTL_QUERY`
  MAPBUF_OPERATION_QUERY = 0,
  // `MAPBUF_IOCTL_ALLOC`
  MAPBUF_OPERATION_ALLOC = 1,
  // `MAPBUF_IOCTL_FREE`
  MAPBUF_OPERATION_FREE = 2,
  // `MAPBUF_IOCTL_INFO`
  MAPBUF_OPERATION_INFO = 3,
  // `MAPBUF_IOCTL_SEGMENTS`
  MAPBUF_OPERATION_SEGMENTS = 4,
  // `MAPBUF_IOCTL_OFFSET`
  MAPBUF_OPERATION_OFFSET = 5,
  // `MAPBUF_IOCTL_SYNC`
  MAPBUF_OPERATION_SYNC = 6,
  // `MAPBUF_IOCTL_EXPORT`
  MAPBUF_OPERATION_EXPORT = 7,
  // `MAPBUF_IOCTL_LAST_ERROR`
  MAPBUF_OPERATION_LAST_ERROR = 8,
  // `MAPBUF_IOCTL_NAME`
  MAPBUF_OPERATION_NAME = 9,
  // `MAPBUF_IOCTL_UNNAME`
  MAPBUF_OPERATION_UNNAME = 10,
  // `MAPBUF_IOCTL_IMPORT`
  MAPBUF_OPERATION_IMPORT = 11,
  // `MAPBUF_IOCTL_PROBE`
  MAPBUF_OPERATION_PROBE = 12,
  // `MAPBUF_IOCTL_REGION`
  MAPBUF_OPERATION_REGION = 13,
  // `MAPBUF_IOCTL_DEVICE`
  MAPBUF_OPERATION_DEVICE = 14,
  // `MAPBUF_IOCTL_DMA_MASK`
  MAPBUF_OPERATION_DMA_MASK = 15,
  // `MAPBUF_IOCTL_ATTACH`
  MAPBUF_OPERATION_ATTACH = 16,
  // `MAPBUF_IOCTL_DETACH`
  MAPBUF_OPERATION_DETACH = 17,
  // `MAPBUF_IOCTL_IRQ`
  MAPBUF_OPERATION_IRQ = 18,
  // `MAPBUF_IOCTL_CONFIG`
  MAPBUF_OPERATION_CONFIG = 19,
  // `MAPBUF_IOCTL_BAR`
  MAPBUF_OPERATION_BAR = 20,
  // An ioctl that this driver does not know.
  MAPBUF_OPERATION_UNKNOWN_IOCTL = 255,
  // `open(2)`
  MAPBUF_OPERATION_OPEN = 256,
  // `mmap(2)`
  MAPBUF_OPERATION_MMAP = 257,
  // A page fault in a mapping; the thread got SIGBUS.
  MAPBUF_OPERATION_FAULT = 258,
  // `read(2)`, `pread(2)`
  MAPBUF_OPERATION_READ = 259,
  // `write(2)`, `pwrite(2)`
  MAPBUF_OPERATION_WRITE = 260,
  // `lseek(2)`
  MAPBUF_OPERATION_SEEK = 261,
  // A device attached to a dma-buf: a driver of another device imports it for the calling thread.
  MAPBUF_OPERATION_FOREIGN_ATTACH = 262,
};

// Why a request was refused. The operands are named first.
enum mapbuf_reason {
  // (given, least): the struct is shorter than its first version.
  // Comes with EINVAL.
  MAPBUF_REASON_STRUCT_TOO_SHORT = 101,
  // (given, known): bytes beyond what this driver knows are not zero.
  // Comes with E2BIG.
  MAPBUF_REASON_STRUCT_TOO_NEW = 102,
  // (given, most): the struct claims to be larger than any struct may be.
  // Comes with E2BIG.
  MAPBUF_REASON_STRUCT_TOO_LONG = 103,
  // (flags, known): flag bits that this driver does not know.
  // Comes with EINVAL.
  MAPBUF_REASON_UNKNOWN_FLAGS = 104,
  // (byte offset in the struct): a reserved field is not zero.
  // Comes with EINVAL.
  MAPBUF_REASON_RESERVED_NOT_ZERO = 105,
  // (number): no such ioctl.
  // Comes with ENOTTY.
  MAPBUF_REASON_UNKNOWN_IOCTL = 106,
  // (address, bytes): user memory that cannot be read or written.
  // Comes with EFAULT.
  MAPBUF_REASON_BAD_ADDRESS = 107,
  // (operation): needs an allocator node, and this is a named buffer's node.
  // Comes with EOPNOTSUPP.
  MAPBUF_REASON_NEEDS_SESSION = 108,
  // (id): on a named buffer's node the id must be 0.
  // Comes with EINVAL.
  MAPBUF_REASON_ID_ON_NAMED_NODE = 109,
  // (operation): the file was not opened for writing.
  // Comes with EACCES.
  MAPBUF_REASON_READ_ONLY_OPEN = 110,
  // (operation): the file was not opened for reading.
  // Comes with EACCES.
  MAPBUF_REASON_WRITE_ONLY_OPEN = 111,
  // (): a buffer of 0 bytes.
  // Comes with EINVAL.
  MAPBUF_REASON_ZERO_BYTES = 201,
  // (bytes, most): larger than any buffer can be.
  // Comes with EINVAL.
  MAPBUF_REASON_TOO_MANY_BYTES = 202,
  // (kind): no such kind of memory.
  // Comes with EINVAL.
  MAPBUF_REASON_UNKNOWN_KIND = 203,
  // (kind): this node does not provide this kind of memory.
  // Comes with EINVAL.
  MAPBUF_REASON_KIND_NOT_HERE = 204,
  // (cache): no such cache mode.
  // Comes with EINVAL.
  MAPBUF_REASON_UNKNOWN_CACHE = 205,
  // (kind, cache): this machine's DMA is cache-coherent, so its coherent memory is cached.
  // Comes with EINVAL.
  MAPBUF_REASON_COHERENT_IS_CACHED = 206,
  // (node): there is no memory on this NUMA node.
  // Comes with EINVAL.
  MAPBUF_REASON_NO_SUCH_NODE = 207,
  // (id, end): ids are below `end`.
  // Comes with EINVAL.
  MAPBUF_REASON_ID_TOO_LARGE = 208,
  // (id): a buffer already has this id.
  // Comes with EEXIST.
  MAPBUF_REASON_ID_IN_USE = 209,
  // (id): no buffer has this id in this session.
  // Comes with ENOENT.
  MAPBUF_REASON_NO_SUCH_ID = 210,
  // (most): this session has as many buffers as it can have.
  // Comes with ENOSPC.
  MAPBUF_REASON_TOO_MANY_BUFFERS = 211,
  // (bytes, used, limit): the limit for all users together.
  // Comes with ENOMEM.
  MAPBUF_REASON_OVER_LIMIT = 212,
  // (bytes, used, limit, uid): the limit for this user.
  // Comes with EDQUOT.
  MAPBUF_REASON_OVER_USER_LIMIT = 213,
  // (bytes): the machine does not have enough free memory.
  // Comes with ENOMEM.
  MAPBUF_REASON_OUT_OF_MEMORY = 214,
  // (bytes, most): no free physically contiguous run of this size; `most` is the limit without a CMA area.
  // Comes with ENOMEM.
  MAPBUF_REASON_NO_CONTIGUOUS_MEMORY = 215,
  // (bytes, most): no DMA-coherent run of this size; `most` is the limit without a CMA area.
  // Comes with ENOMEM.
  MAPBUF_REASON_NO_COHERENT_MEMORY = 216,
  // (bytes, done): a fatal signal arrived while memory was being allocated.
  // Comes with EINTR.
  MAPBUF_REASON_INTERRUPTED = 217,
  // (node): coherent memory comes from the NUMA node of the device, not from one that the caller chooses.
  // Comes with EINVAL.
  MAPBUF_REASON_NODE_OF_DEVICE = 218,
  // (): the process has as many descriptors as it can have.
  // Comes with EMFILE.
  MAPBUF_REASON_NO_DESCRIPTOR = 219,
  // (cache, errno): the kernel could not change the cache mode of its own mapping of the memory.
  // Comes with ENOMEM.
  MAPBUF_REASON_CACHE_REFUSED = 220,
  // (descriptor): not a dma-buf.
  // Comes with EINVAL.
  MAPBUF_REASON_NOT_A_DMA_BUF = 221,
  // (bytes): no range of this size is free among the session's `mmap` offsets.
  // Comes with ENOSPC.
  MAPBUF_REASON_OFFSETS_FULL = 223,
  // (bytes, limit, room): the caller's memory cgroup, or one of its ancestors, does not have this much left.
  // Comes with ENOMEM.
  MAPBUF_REASON_OVER_CGROUP_LIMIT = 224,
  // (kind): a device cannot import memory without pages.
  // Comes with EOPNOTSUPP.
  MAPBUF_REASON_NO_PAGES_FOR_DEVICES = 225,
  // (node): the caller's cpuset has no memory on this NUMA node.
  // Comes with EACCES.
  MAPBUF_REASON_NODE_NOT_ALLOWED = 226,
  // (descriptor): the dma-buf was not opened for both reading and writing.
  // Comes with EACCES.
  MAPBUF_REASON_DMA_BUF_MODE = 227,
  // (): another driver's dma-buf does not say where its memory lies.
  // Comes with EOPNOTSUPP.
  MAPBUF_REASON_FOREIGN_FRAMES = 228,
  // (method): no such method.
  // Comes with EINVAL.
  MAPBUF_REASON_UNKNOWN_METHOD = 301,
  // (offset): no buffer at this `mmap` offset.
  // Comes with EINVAL.
  MAPBUF_REASON_NOTHING_AT_OFFSET = 302,
  // (offset in the buffer, length, bytes of the buffer): the mapping would run past the end of the buffer.
  // Comes with EINVAL.
  MAPBUF_REASON_BEYOND_END = 303,
  // (): buffers are never executable.
  // Comes with EACCES.
  MAPBUF_REASON_EXECUTABLE = 304,
  // (offset, length, calls): private and writable, and needs more than one call of `remap_pfn_range`.
  // Comes with EINVAL.
  MAPBUF_REASON_COW_NEEDS_CONTIGUOUS = 305,
  // (): a private writable mapping of memory without pages would show its physical address.
  // Comes with EPERM.
  MAPBUF_REASON_COW_SHOWS_ADDRESS = 306,
  // (cache): private copies are cached pages, and the buffer is not cached.
  // Comes with EINVAL.
  MAPBUF_REASON_COW_NEEDS_CACHED = 307,
  // (method): this method inserts PFNs at fault time, which a private writable mapping cannot have.
  // Comes with EINVAL.
  MAPBUF_REASON_COW_AT_FAULT = 308,
  // (method, offset, length, run): the method needs one physically contiguous run, and this one ends after `run` bytes.
  // Comes with EINVAL.
  MAPBUF_REASON_NEEDS_ONE_RUN = 309,
  // (method, kind): the method needs memory with struct pages of its own.
  // Comes with EINVAL.
  MAPBUF_REASON_NEEDS_PAGES = 310,
  // (kind): `remap_vmalloc_range` maps vmalloc'd memory only.
  // Comes with EINVAL.
  MAPBUF_REASON_NEEDS_VMALLOC = 311,
  // (kind): `dma_mmap_coherent` maps coherent memory only.
  // Comes with EINVAL.
  MAPBUF_REASON_NEEDS_COHERENT = 312,
  // (bytes, huge): no part of the mapping can have an entry of `huge` bytes.
  // Comes with EINVAL.
  MAPBUF_REASON_NOTHING_HUGE = 313,
  // (method, errno): the kernel function refused for a reason of its own.
  // Comes with EINVAL.
  MAPBUF_REASON_KERNEL_REFUSED = 314,
  // (method): another driver's dma-buf is mapped by that driver alone.
  // Comes with EINVAL.
  MAPBUF_REASON_EXPORTER_MAPS = 315,
  // (bytes, errno): the driver that exported the dma-buf did not map it.
  // Comes with EINVAL.
  MAPBUF_REASON_EXPORTER_REFUSED = 316,
  // (position, byte): a name cannot have this byte at this position; position 64: it is too long or empty.
  // Comes with EINVAL.
  MAPBUF_REASON_NAME_INVALID = 401,
  // (): a buffer already has this name.
  // Comes with EEXIST.
  MAPBUF_REASON_NAME_TAKEN = 402,
  // (): no buffer has this name.
  // Comes with ENOENT.
  MAPBUF_REASON_NAME_UNKNOWN = 403,
  // (owner): only the owner can remove the name.
  // Comes with EPERM.
  MAPBUF_REASON_NOT_OWNER = 404,
  // (id): this buffer already has a name.
  // Comes with EBUSY.
  MAPBUF_REASON_ALREADY_NAMED = 405,
  // (mode): not a mode within 0666.
  // Comes with EINVAL.
  MAPBUF_REASON_MODE_INVALID = 406,
  // (uid, gid): giving a node to another user needs CAP_CHOWN.
  // Comes with EPERM.
  MAPBUF_REASON_OWNER_NOT_PERMITTED = 407,
  // (most): there are as many names as there can be.
  // Comes with ENOSPC.
  MAPBUF_REASON_TOO_MANY_NAMES = 408,
  // (): another driver's dma-buf cannot have a name.
  // Comes with EOPNOTSUPP.
  MAPBUF_REASON_FOREIGN_UNNAMED = 409,
  // (offset): this offset is a buffer's id, which leaves no room for a byte offset.
  // Comes with EINVAL.
  MAPBUF_REASON_OFFSET_IS_ID = 501,
  // (offset, whence): the position is outside the file.
  // Comes with EINVAL.
  MAPBUF_REASON_BAD_SEEK = 502,
  // (offset, bytes): a write at or beyond the buffer's end.
  // Comes with ENOSPC.
  MAPBUF_REASON_WRITE_BEYOND_END = 503,
  // (offset, length, width in bits): a write to uncached memory that is not whole, aligned words.
  // Comes with EINVAL.
  MAPBUF_REASON_UNALIGNED_WRITE = 504,
  // (): the kernel has no view of its own of another driver's dma-buf.
  // Comes with EOPNOTSUPP.
  MAPBUF_REASON_FOREIGN_VIEW = 505,
  // (bytes): the range overlaps System RAM that the kernel uses.
  // Comes with EBUSY.
  MAPBUF_REASON_REGION_IS_RAM = 601,
  // (bytes): the range, or part of it, is already claimed.
  // Comes with EBUSY.
  MAPBUF_REASON_REGION_TAKEN = 602,
  // (bytes): the kernel could not map the range for itself.
  // Comes with ENOMEM.
  MAPBUF_REASON_REGION_UNMAPPABLE = 603,
  // (bytes): writing showed that there is no memory behind the range.
  // Comes with ENXIO.
  MAPBUF_REASON_REGION_UNBACKED = 604,
  // (kind): only regions can be probed.
  // Comes with EINVAL.
  MAPBUF_REASON_NOT_A_REGION = 605,
  // (): reading a device's memory can do harm.
  // Comes with EPERM.
  MAPBUF_REASON_PROBE_IS_RISKY = 606,
  // (): a device's memory is never written to by a probe.
  // Comes with EPERM.
  MAPBUF_REASON_PROBE_WRITES_DEVICE = 607,
  // (): the region's name is one of a buffer that exists already.
  // Comes with EEXIST.
  MAPBUF_REASON_REGION_NAME_TAKEN = 608,
  // (mappings): a probe that writes must be alone with the region.
  // Comes with EBUSY.
  MAPBUF_REASON_PROBE_WHILE_MAPPED = 609,
  // (operation): only the node of a bound device can do this.
  // Comes with EOPNOTSUPP.
  MAPBUF_REASON_NEEDS_DEVICE = 701,
  // (): the device was unbound, or taken out.
  // Comes with ENODEV.
  MAPBUF_REASON_DEVICE_GONE = 702,
  // (): no IOMMU keeps the device from all memory, and the file was opened without CAP_SYS_RAWIO.
  // Comes with EPERM.
  MAPBUF_REASON_DEVICE_NOT_ISOLATED = 703,
  // (group, device, other device): another driver has a device of the same IOMMU group.
  // Comes with EPERM.
  MAPBUF_REASON_GROUP_SHARED = 704,
  // (bits, least, most): no DMA mask.
  // Comes with EINVAL.
  MAPBUF_REASON_MASK_INVALID = 705,
  // (bits, errno): the platform cannot give the device memory at so small addresses.
  // Comes with EIO.
  MAPBUF_REASON_MASK_REFUSED = 706,
  // (buffers): buffers have addresses for the device already.
  // Comes with EBUSY.
  MAPBUF_REASON_MASK_IN_USE = 707,
  // (direction): no such direction.
  // Comes with EINVAL.
  MAPBUF_REASON_UNKNOWN_DIRECTION = 708,
  // (kind): only memory with pages can be attached.
  // Comes with EINVAL.
  MAPBUF_REASON_CANNOT_ATTACH = 709,
  // (id): the buffer has addresses for the device already.
  // Comes with EBUSY.
  MAPBUF_REASON_ALREADY_ATTACHED = 710,
  // (id): the buffer has no addresses for the device that could be taken away.
  // Comes with EINVAL.
  MAPBUF_REASON_NOT_ATTACHED = 711,
  // (bytes, errno): the DMA API could not map the buffer for the device.
  // Comes with ENOMEM.
  MAPBUF_REASON_DMA_REFUSED = 712,
  // (offset, length, bytes of the buffer): the range to sync is empty, or passes the buffer's end.
  // Comes with EINVAL.
  MAPBUF_REASON_SYNC_OUTSIDE = 713,
  // (flags): neither begin nor end, or both.
  // Comes with EINVAL.
  MAPBUF_REASON_SYNC_PHASE = 714,
  // (index): the device has no such base address register.
  // Comes with ENXIO.
  MAPBUF_REASON_NO_SUCH_BAR = 715,
  // (index): another driver has claimed what the register leads to.
  // Comes with EBUSY.
  MAPBUF_REASON_BAR_TAKEN = 716,
  // (index, cache): not a cache mode for this register, or not the one that it has already.
  // Comes with EINVAL.
  MAPBUF_REASON_BAR_CACHE = 717,
  // (width): no width of an access.
  // Comes with EINVAL.
  MAPBUF_REASON_BAR_WIDTH = 718,
  // (bytes): ports are read and written, and cannot be mapped.
  // Comes with EINVAL.
  MAPBUF_REASON_PORTS_NOT_MAPPABLE = 719,
  // (offset, length): the MSI-X table lies there, and is never written to by user space.
  // Comes with EACCES.
  MAPBUF_REASON_MSIX_TABLE = 720,
  // (kind): no such kind of interrupts.
  // Comes with EINVAL.
  MAPBUF_REASON_UNKNOWN_IRQ_KIND = 721,
  // (action): no such action.
  // Comes with EINVAL.
  MAPBUF_REASON_UNKNOWN_IRQ_ACTION = 722,
  // (kind, index, vectors): the device has no such vector, or did not take it.
  // Comes with ENXIO.
  MAPBUF_REASON_NO_SUCH_VECTOR = 723,
  // (kind, index): another open file has set the device's interrupts.
  // Comes with EBUSY.
  MAPBUF_REASON_IRQ_TAKEN = 724,
  // (kind, kind in use): the device has interrupts of another kind.
  // Comes with EBUSY.
  MAPBUF_REASON_IRQ_KIND_IN_USE = 725,
  // (kind, index): nobody has set this vector.
  // Comes with EINVAL.
  MAPBUF_REASON_IRQ_NOT_SET = 726,
  // (kind, errno): the kernel could not give the device these interrupts.
  // Comes with EIO.
  MAPBUF_REASON_IRQ_REFUSED = 727,
  // (descriptor): not an eventfd.
  // Comes with EINVAL.
  MAPBUF_REASON_NOT_AN_EVENT_FD = 728,
  // (kind): this kind of vector cannot be masked.
  // Comes with EOPNOTSUPP.
  MAPBUF_REASON_CANNOT_MASK = 729,
  // (offset, width, bytes of the space): no such field.
  // Comes with EINVAL.
  MAPBUF_REASON_CONFIG_OUTSIDE = 730,
  // (offset, width, value, bits that can be written): user space may not change this field so.
  // Comes with EPERM.
  MAPBUF_REASON_CONFIG_READ_ONLY = 731,
  // (method): memory that goes when the device does is mapped by faults only.
  // Comes with EINVAL.
  MAPBUF_REASON_REVOCABLE_BY_FAULT = 732,
  // (kind): an importer that cannot let go may not have memory that goes when the device does.
  // Comes with EOPNOTSUPP.
  MAPBUF_REASON_IMPORTER_HOLDS = 733,
  // (kind): registers of a device have no name: its own node says who may use it.
  // Comes with EINVAL.
  MAPBUF_REASON_REVOCABLE_UNNAMED = 736,
  // (bytes): what a base address register leads to shares its page with something else.
  // Comes with EINVAL.
  MAPBUF_REASON_BAR_SHARES_PAGE = 737,
  // (bits, offset): from byte `offset` of the buffer on its memory lies where the device's addresses do not reach.
  // Comes with EINVAL.
  MAPBUF_REASON_OUT_OF_REACH = 740,
  // (direction, direction of the attachment): the buffer is attached for another direction.
  // Comes with EINVAL.
  MAPBUF_REASON_SYNC_DIRECTION = 741,
  // (byte offset in the struct, value): no such limit of addresses.
  // Comes with EINVAL.
  MAPBUF_REASON_PLACEMENT_INVALID = 742,
  // (bytes, below, alignment in bits, boundary in bits): no memory was found that lies so; 0 is no wish.
  // Comes with ENOMEM.
  MAPBUF_REASON_PLACEMENT_REFUSED = 743,
  // (bytes, errno): the driver that exported the dma-buf did not map it for the device.
  // Comes with EIO.
  MAPBUF_REASON_EXPORTER_REFUSED_DEVICE = 744,
  // (bits): another driver's dma-buf may lie where the device's addresses do not reach.
  // Comes with EINVAL.
  MAPBUF_REASON_FOREIGN_OUT_OF_REACH = 745,
  // (errno): the driver that exported the dma-buf did not give it to the CPU, or to the devices.
  // Comes with EIO.
  MAPBUF_REASON_EXPORTER_REFUSED_SYNC = 746,
  // (bytes): what a base address register leads to is never probed.
  // Comes with EPERM.
  MAPBUF_REASON_BAR_NOT_PROBED = 747,
};

// Why an ioctl was refused, as in struct mapbuf_last_error, but without a second call. An ioctl that succeeds leaves it
// unchanged, and so does an error that is not the driver's: if it was zero before the call, a `reason` of 0 afterwards
// means that the kernel's core refused the call.
struct mapbuf_refused {
  // Out: an enum mapbuf_reason by number.
  uint32_t reason;
  // Out: the `errno` that goes with it.
  int32_t error_number;
  // Out: the reason's operands, in its order.
  uint64_t operands[MAPBUF_OPERANDS];
};

// `MAPBUF_IOCTL_QUERY`: the driver's version, features and limits.
struct mapbuf_query {
  // In: size of this struct in bytes.
  uint32_t size;
  // In: 0.
  uint32_t flags;
  // Out: MAPBUF_ABI_VERSION of the driver.
  uint32_t abi_version;
  // Out: bytes in a page; the unit of offsets and lengths.
  uint32_t page_size;
  // Out: bits of MAPBUF_FEATURE_*.
  uint64_t features;
  // Out: mask of the enum mapbuf_kind that `ALLOC` on this node accepts (see (1 << number)).
  uint32_t kinds;
  // Out: mask of the enum mapbuf_method that `OFFSET` accepts.
  uint32_t methods;
  // Out: the largest buffer that the limits allow, in bytes.
  uint64_t max_buffer_bytes;
  // Out: limit for all buffers together, in bytes (module parameter `max_bytes`).
  uint64_t max_bytes;
  // Out: limit for all buffers of one user, in bytes (`max_bytes_per_user`).
  uint64_t max_bytes_per_user;
  // Out: bytes charged now, for all users.
  uint64_t used_bytes;
  // Out: bytes charged now to the user who opened this file.
  uint64_t used_bytes_by_user;
  // Out: buffers that exist now, including those whose id was freed.
  uint64_t buffers;
  // Out: why it was refused.
  struct mapbuf_refused refused;
};

// `MAPBUF_IOCTL_ALLOC`: allocates a buffer of zeroed memory.
// On the node of a device without a translating IOMMU, all memory is allocated where the device reaches it. Coherent
// memory always is.
struct mapbuf_alloc {
  // In: size of this struct in bytes.
  uint32_t size;
  // In: bits of MAPBUF_ALLOC_*.
  uint32_t flags;
  // In: bytes wanted, at least 1. Out: the same, rounded up to whole pages.
  uint64_t bytes;
  // In: an enum mapbuf_kind.
  uint32_t kind;
  // In: an enum mapbuf_cache.
  uint32_t cache;
  // In: NUMA node to allocate from, MAPBUF_ANY_NODE, or MAPBUF_NEAR_DEVICE.
  int32_t numa_node;
  // In: the id wanted, below MAPBUF_MAX_IDS, or 0 for any. Out: the id, never 0.
  uint32_t id;
  // Out: `mmap` offset in bytes, for method `auto`; plus any whole pages maps a part.
  uint64_t mmap_offset;
  // In: all memory lies below this address, or 0 for anywhere. This is a physical address, or, with
  // MAPBUF_FOR_DEVICE and for coherent memory, one of the node's device.
  uint64_t below;
  // In: alignment of the first byte: this many low bits of its address are 0, at most 40.
  uint32_t align_bits;
  // In: no run crosses a multiple of 2 to this power, 12 to 63, or 0 for no such boundary.
  uint32_t boundary_bits;
  // In: 0.
  uint64_t reserved;
  // Out: why it was refused.
  struct mapbuf_refused refused;
};

// `MAPBUF_IOCTL_FREE`: frees the id; the memory is freed with its last user.
struct mapbuf_free {
  // In: size of this struct in bytes.
  uint32_t size;
  // In: 0.
  uint32_t flags;
  // In: the buffer's id.
  uint32_t id;
  // In: 0.
  uint32_t reserved;
  // Out: why it was refused.
  struct mapbuf_refused refused;
};

// `MAPBUF_IOCTL_INFO`: what a buffer is. On a named node, id 0 is its buffer.
struct mapbuf_info {
  // In: size of this struct in bytes.
  uint32_t size;
  // In: 0.
  uint32_t flags;
  // In: the buffer's id (0 on a named node; 0 in a session returns only the session's fields).
  uint32_t id;
  // Out: its enum mapbuf_kind.
  uint32_t kind;
  // Out: its enum mapbuf_cache.
  uint32_t cache;
  // Out: physically contiguous runs in it; 0: not known (MAPBUF_Foreign).
  uint32_t segments;
  // Out: virtual memory areas that map it now, in any process.
  uint32_t mappings;
  // Out: buffers of this session whose id was freed while their memory is still in use.
  uint32_t freed_held;
  // Out: its size in bytes, whole pages.
  uint64_t bytes;
  // Out: bytes in the buffers of `freed_held`.
  uint64_t freed_held_bytes;
  // Out: its `mmap` offset for `auto` in bytes (0 on a named node, whose offsets count from the start of the buffer).
  uint64_t mmap_offset;
  // Out: its name, padded with zeros; all zeros if it has none.
  uint8_t name[MAPBUF_NAME_LEN];
  // Out: the address of its first byte for the node's device, or MAPBUF_ADDRESS_HIDDEN.
  uint64_t dma_address;
  // Out: bits of MAPBUF_TRAITS_*.
  uint32_t traits;
  // Out: bits in each of the kernel's own accesses (`read`, `write`), where those must be by words: a region that is not
  // cached, or a BAR; 0: any.
  uint32_t width;
  // Out: why it was refused.
  struct mapbuf_refused refused;
};

// One physically contiguous run of a buffer.
struct mapbuf_segment {
  // Where it starts in the buffer, in bytes.
  uint64_t offset;
  // Its length in bytes.
  uint64_t length;
  // Its address for the node's device, or MAPBUF_ADDRESS_HIDDEN. Only coherent memory always has one.
  uint64_t dma_address;
  // Its physical address, or MAPBUF_ADDRESS_HIDDEN: needs CAP_SYS_ADMIN.
  uint64_t physical_address;
};

// `MAPBUF_IOCTL_SEGMENTS`: the physically contiguous runs of a buffer. On a named node, id 0 is its buffer.
struct mapbuf_segments {
  // In: size of this struct in bytes.
  uint32_t size;
  // In: bits of MAPBUF_SEGMENTS_*.
  uint32_t flags;
  // In: the buffer's id.
  uint32_t id;
  // In: number of the first run wanted.
  uint32_t first;
  // In: how many rows `rows` has room for. Out: how many were written.
  uint32_t count;
  // Out: number of runs of the buffer.
  uint32_t total;
  // In: address of an array of struct mapbuf_segment; ignored if `count` is 0.
  uint64_t rows;
  // Out: why it was refused.
  struct mapbuf_refused refused;
};

// `MAPBUF_IOCTL_OFFSET`: an `mmap` offset that maps this buffer by this method.
struct mapbuf_offset {
  // In: size of this struct in bytes.
  uint32_t size;
  // In: 0.
  uint32_t flags;
  // In: the buffer's id.
  uint32_t id;
  // In: an enum mapbuf_method.
  uint32_t method;
  // Out: `mmap` offset in bytes; plus any whole pages maps a part.
  uint64_t mmap_offset;
  // In: 0.
  uint64_t reserved;
  // Out: why it was refused.
  struct mapbuf_refused refused;
};

// `MAPBUF_IOCTL_EXPORT`: a dma-buf descriptor of the buffer, close-on-exec, readable and writable.
struct mapbuf_export {
  // In: size of this struct in bytes.
  uint32_t size;
  // In: 0.
  uint32_t flags;
  // In: the buffer's id (0 on a named node).
  uint32_t id;
  // Out: the descriptor.
  int32_t fd;
  // Out: why it was refused.
  struct mapbuf_refused refused;
};

// `MAPBUF_IOCTL_IMPORT`: gives a buffer whose dma-buf descriptor the caller has an id in this session. It came from
// `EXPORT`, also of a named node, and every method maps it; or from another driver (a dma-heap, `udmabuf`, a graphics
// card), and is of kind MAPBUF_Foreign: `mmap` at its offset is that driver's, struct mapbuf_sync asks that driver, and `ATTACH`
// gives it addresses for the node's device. The descriptor must be open for reading and writing.
struct mapbuf_import {
  // In: size of this struct in bytes.
  uint32_t size;
  // In: bits of MAPBUF_IMPORT_*.
  uint32_t flags;
  // In: the descriptor; it may be closed afterwards.
  int32_t fd;
  // In: the id wanted, or 0 for any. Out: the id.
  uint32_t id;
  // Out: the buffer's size in bytes.
  uint64_t bytes;
  // Out: `mmap` offset in bytes, for method `auto`.
  uint64_t mmap_offset;
  // Out: why it was refused.
  struct mapbuf_refused refused;
};

// `MAPBUF_IOCTL_PROBE`: probes a region. On its own node the id is 0.
struct mapbuf_probe {
  // In: size of this struct in bytes.
  uint32_t size;
  // In: bits of MAPBUF_PROBE_*.
  uint32_t flags;
  // In: the buffer's id.
  uint32_t id;
  // Out: an enum mapbuf_region_state.
  uint32_t state;
  // Out: words read that were all ones.
  uint64_t ones;
  // Out: words read that were all zeros.
  uint64_t zeros;
  // Out: other words read.
  uint64_t others;
  // Out: why it was refused.
  struct mapbuf_refused refused;
};

// `MAPBUF_IOCTL_REGION`: a region that the module's parameter `regions` declared.
struct mapbuf_region {
  // In: size of this struct in bytes.
  uint32_t size;
  // In: 0.
  uint32_t flags;
  // In: its number, from 0.
  uint32_t index;
  // Out: how many were declared. The other fields are zero if there is no region with this number.
  uint32_t count;
  // Out: its size in bytes.
  uint64_t bytes;
  // Out: its physical address, or MAPBUF_ADDRESS_HIDDEN: needs CAP_SYS_ADMIN.
  uint64_t start;
  // Out: its enum mapbuf_region_type.
  uint32_t region_type;
  // Out: its enum mapbuf_cache.
  uint32_t cache;
  // Out: width in bits of the kernel's own accesses, where its view is uncached.
  uint32_t width;
  // Out: an enum mapbuf_region_state.
  uint32_t state;
  // Out: when refused, an enum mapbuf_reason by number, else 0.
  uint32_t reason;
  // Out: the `errno` that goes with it.
  int32_t error_number;
  // Out: the reason's operands.
  uint64_t operands[MAPBUF_OPERANDS];
  // Out: its name, padded with zeros.
  uint8_t name[MAPBUF_NAME_LEN];
  // Out: why it was refused.
  struct mapbuf_refused refused;
};

// `MAPBUF_IOCTL_LAST_ERROR`: the last refusal that the driver made for a thread on this open file.
struct mapbuf_last_error {
  // In: size of this struct in bytes.
  uint32_t size;
  // In: bits of MAPBUF_LAST_ERROR_*.
  uint32_t flags;
  // Out: number of this refusal; grows with each one on this open file. 0: none yet for the thread.
  // If the caller has seen this number before, its current error came from somewhere else.
  uint64_t sequence;
  // Out: an enum mapbuf_reason by number.
  uint32_t reason;
  // Out: the `errno` that went with it.
  int32_t error_number;
  // Out: an enum mapbuf_operation by number.
  uint32_t operation;
  // In: 0 for the calling thread, or the `gettid` number of another thread that uses this open file: a thread of a
  // process that was killed can no longer ask by itself.
  uint32_t thread;
  // Out: the reason's operands, in its order.
  uint64_t operands[MAPBUF_OPERANDS];
  // Out: why it was refused.
  struct mapbuf_refused refused;
};

// `MAPBUF_IOCTL_NAME`: gives a buffer its own node, `/dev/mapbuf/named/NAME`, which stays until `UNNAME`.
struct mapbuf_name {
  // In: size of this struct in bytes.
  uint32_t size;
  // In: 0.
  uint32_t flags;
  // In: the buffer's id.
  uint32_t id;
  // In: permission bits of the node, within 0666.
  uint32_t mode;
  // In: its owner, or MAPBUF_CALLER. Another owner needs CAP_CHOWN.
  uint32_t uid;
  // In: its group, or MAPBUF_CALLER. A group that the caller is not in needs CAP_CHOWN.
  uint32_t gid;
  // In: its name, `[A-Za-z0-9_][A-Za-z0-9._-]{0,63}`, padded with zeros.
  uint8_t name[MAPBUF_NAME_LEN];
  // Out: why it was refused.
  struct mapbuf_refused refused;
};

// `MAPBUF_IOCTL_UNNAME`: removes a named buffer's node; open files and mappings keep the memory.
struct mapbuf_unname {
  // In: size of this struct in bytes.
  uint32_t size;
  // In: 0.
  uint32_t flags;
  // In: the name, padded with zeros.
  uint8_t name[MAPBUF_NAME_LEN];
  // Out: why it was refused.
  struct mapbuf_refused refused;
};

// What a base address register of a device leads to; zeros if there is none.
struct mapbuf_bar_info {
  // Its size in bytes.
  uint64_t bytes;
  // Bits of MAPBUF_BAR_*.
  uint32_t flags;
  // 0.
  uint32_t reserved;
};

// `MAPBUF_IOCTL_DEVICE`: describes the device of a node.
struct mapbuf_device {
  // In: size of this struct in bytes.
  uint32_t size;
  // In: 0.
  uint32_t flags;
  // Out: its address (`0000:00:04.0`), or the name of a platform device, padded with zeros.
  uint8_t name[MAPBUF_DEVICE_NAME_LEN];
  // Out: vendor. A platform device has 0 in this and what else only PCI devices have.
  uint32_t vendor;
  // Out: device.
  uint32_t device;
  // Out: vendor of the subsystem.
  uint32_t subsystem_vendor;
  // Out: device of the subsystem.
  uint32_t subsystem_device;
  // Out: class, three bytes: base class, sub-class, interface.
  uint32_t pci_class;
  // Out: revision.
  uint32_t revision;
  // Out: bits of MAPBUF_DEVICE_STATE_*.
  uint32_t state;
  // Out: an enum mapbuf_iommu.
  uint32_t iommu;
  // Out: its IOMMU group, or MAPBUF_NO_GROUP.
  uint32_t iommu_group;
  // Out: its NUMA node, or MAPBUF_ANY_NODE.
  int32_t numa_node;
  // Out: current width of its DMA addresses in bits.
  uint32_t dma_mask;
  // Out: bytes of its configuration space: 256 or 4096, or 0 for a platform device.
  uint32_t config_bytes;
  // Out: number of its MAPBUF_Intx vectors.
  uint32_t intx;
  // Out: number of its MAPBUF_Msi vectors.
  uint32_t msi;
  // Out: number of its MAPBUF_Msix vectors.
  uint32_t msix;
  // Out: 0.
  uint32_t reserved;
  // Out: its base address registers. A 64-bit one is at the number of its lower half.
  struct mapbuf_bar_info bars[MAPBUF_BARS];
  // Out: why it was refused.
  struct mapbuf_refused refused;
};

// `MAPBUF_IOCTL_DMA_MASK`: sets how many bits the device's DMA addresses have. The driver starts with 64, or as many
// as the platform allows. Refused while a buffer has an address for the device.
struct mapbuf_dma_mask {
  // In: size of this struct in bytes.
  uint32_t size;
  // In: 0.
  uint32_t flags;
  // In: bits, 12 to 64.
  uint32_t bits;
  // In: 0.
  uint32_t reserved;
  // Out: why it was refused.
  struct mapbuf_refused refused;
};

// `MAPBUF_IOCTL_ATTACH`: maps a buffer that has pages, or another driver's, for the device. Coherent memory of the device is
// at all times.
struct mapbuf_attach {
  // In: size of this struct in bytes.
  uint32_t size;
  // In: 0.
  uint32_t flags;
  // In: the buffer's id.
  uint32_t id;
  // In: an enum mapbuf_direction.
  uint32_t direction;
  // Out: the address of its first byte for the device.
  uint64_t dma_address;
  // Out: runs of addresses for the device.
  uint32_t segments;
  // In: 0.
  uint32_t reserved;
  // Out: why it was refused.
  struct mapbuf_refused refused;
};

// `MAPBUF_IOCTL_DETACH`: unmaps a buffer for the device. `FREE` does this too.
struct mapbuf_detach {
  // In: size of this struct in bytes.
  uint32_t size;
  // In: 0.
  uint32_t flags;
  // In: the buffer's id.
  uint32_t id;
  // In: 0.
  uint32_t reserved;
  // Out: why it was refused.
  struct mapbuf_refused refused;
};

// `MAPBUF_IOCTL_SYNC`: says who has a part of a buffer, the CPU or the device. Where DMA is coherent
// (MAPBUF_COHERENT) it does nothing. For another driver's buffer (MAPBUF_Foreign) it is said to that driver, for the
// whole of it, on any allocator node; BEGIN waits until the devices that write to it are done.
struct mapbuf_sync {
  // In: size of this struct in bytes.
  uint32_t size;
  // In: bits of MAPBUF_SYNC_*.
  uint32_t flags;
  // In: the buffer's id.
  uint32_t id;
  // In: an enum mapbuf_direction.
  uint32_t direction;
  // In: first byte.
  uint64_t offset;
  // In: number of bytes, at least 1.
  uint64_t length;
  // Out: why it was refused.
  struct mapbuf_refused refused;
};

// `MAPBUF_IOCTL_IRQ`: controls an interrupt of the device. It belongs to the open file that set it, and ends with that
// file.
struct mapbuf_irq {
  // In: size of this struct in bytes.
  uint32_t size;
  // In: 0.
  uint32_t flags;
  // In: an enum mapbuf_irq_kind.
  uint32_t kind;
  // In: the vector's number, from 0.
  uint32_t index;
  // In: an enum mapbuf_irq_action.
  uint32_t action;
  // In: with MAPBUF_Set, an eventfd or MAPBUF_NO_DESCRIPTOR; otherwise 0.
  int32_t fd;
  // In: with the first MAPBUF_Set, how many vectors to allocate, or 0 for as many as the device has, at most
  // 32; otherwise 0. Out: how many were allocated.
  uint32_t vectors;
  // In: 0.
  uint32_t reserved;
  // Out: how often the interrupt came since it was set.
  uint64_t count;
  // Out: why it was refused.
  struct mapbuf_refused refused;
};

// `MAPBUF_IOCTL_CONFIG`: reads or writes the configuration space. Values are in the CPU's byte order.
struct mapbuf_config {
  // In: size of this struct in bytes.
  uint32_t size;
  // In: bits of MAPBUF_CONFIG_*.
  uint32_t flags;
  // In: first byte, a multiple of `width`.
  uint32_t offset;
  // In: width in bytes: 1, 2 or 4.
  uint32_t width;
  // In: the value to write. Out: the value read.
  uint32_t value;
  // In: 0.
  uint32_t reserved;
  // Out: why it was refused.
  struct mapbuf_refused refused;
};

// `MAPBUF_IOCTL_BAR`: gives the memory or ports of a base address register an id in this session. They are a buffer of
// the kind struct mapbuf_region, which is mapped, read and written like any other.
struct mapbuf_bar {
  // In: size of this struct in bytes.
  uint32_t size;
  // In: 0.
  uint32_t flags;
  // In: its number, from 0.
  uint32_t index;
  // In: an enum mapbuf_cache: uncached, or write-combined if it is prefetchable. It is the same for all open files of a device.
  uint32_t cache;
  // In: the id wanted, or 0 for any. Out: the id.
  uint32_t id;
  // Out: bits of MAPBUF_BAR_*.
  uint32_t bar_flags;
  // Out: its size in bytes, whole pages.
  uint64_t bytes;
  // Out: `mmap` offset in bytes, for method `auto`.
  uint64_t mmap_offset;
  // In: width in bits of the kernel's own accesses: 8, 16, 32 or 64; 0 means 32.
  uint32_t width;
  // In: 0.
  uint32_t reserved;
  // Out: why it was refused.
  struct mapbuf_refused refused;
};

/* The ioctls; each takes the address of the struct that it is named after. */
#define MAPBUF_IOCTL_QUERY 0xc078b900u
#define MAPBUF_IOCTL_ALLOC 0xc068b901u
#define MAPBUF_IOCTL_FREE 0xc038b902u
#define MAPBUF_IOCTL_INFO 0xc0b0b903u
#define MAPBUF_IOCTL_SEGMENTS 0xc048b904u
#define MAPBUF_IOCTL_OFFSET 0xc048b905u
#define MAPBUF_IOCTL_EXPORT 0xc038b907u
#define MAPBUF_IOCTL_IMPORT 0xc048b90bu
#define MAPBUF_IOCTL_PROBE 0xc050b90cu
#define MAPBUF_IOCTL_REGION 0xc0c0b90du
#define MAPBUF_IOCTL_LAST_ERROR 0xc068b908u
#define MAPBUF_IOCTL_NAME 0xc080b909u
#define MAPBUF_IOCTL_UNNAME 0xc070b90au
#define MAPBUF_IOCTL_DEVICE 0xc0f0b90eu
#define MAPBUF_IOCTL_DMA_MASK 0xc038b90fu
#define MAPBUF_IOCTL_ATTACH 0xc048b910u
#define MAPBUF_IOCTL_DETACH 0xc038b911u
#define MAPBUF_IOCTL_SYNC 0xc048b906u
#define MAPBUF_IOCTL_IRQ 0xc050b912u
#define MAPBUF_IOCTL_CONFIG 0xc040b913u
#define MAPBUF_IOCTL_BAR 0xc058b914u

#endif /* MAPBUF_H */
