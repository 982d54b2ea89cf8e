/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What a refusal of the mapbuf driver means, in words. Made from abi/: do not edit.
 *
 *     if (ioctl(fd, MAPBUF_IOCTL_ALLOC, &alloc) < 0) {
 *         char text[512];
 *         mapbuf_explain_last(fd, text, sizeof(text));
 *         fprintf(stderr, "%s\n", text);
 *     }
 */

#ifndef MAPBUF_EXPLAIN_H
#define MAPBUF_EXPLAIN_H

#include "mapbuf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

static inline const char *mapbuf_kind_name(uint32_t number)
{
	switch (number) {
	case 1:
		return "vmalloc";
	case 2:
		return "pages";
	case 3:
		return "contiguous";
	case 4:
		return "coherent";
	case 5:
		return "region";
	case 6:
		return "foreign";
	default:
		return NULL;
	}
}

static inline const char *mapbuf_cache_name(uint32_t number)
{
	switch (number) {
	case 0:
		return "cached";
	case 1:
		return "write-combined";
	case 2:
		return "uncached";
	default:
		return NULL;
	}
}

static inline const char *mapbuf_method_name(uint32_t number)
{
	switch (number) {
	case 0:
		return "auto";
	case 1:
		return "remap";
	case 2:
		return "remap-each";
	case 3:
		return "insert";
	case 4:
		return "map-pages";
	case 5:
		return "vmalloc";
	case 6:
		return "dma";
	case 7:
		return "iomap";
	case 8:
		return "io-remap";
	case 9:
		return "fault-page";
	case 10:
		return "fault-pfn";
	case 11:
		return "fault-huge";
	default:
		return NULL;
	}
}

static inline const char *mapbuf_operation_name(uint32_t number)
{
	switch (number) {
	case 0:
		return "QUERY";
	case 1:
		return "ALLOC";
	case 2:
		return "FREE";
	case 3:
		return "INFO";
	case 4:
		return "SEGMENTS";
	case 5:
		return "OFFSET";
	case 6:
		return "SYNC";
	case 7:
		return "EXPORT";
	case 8:
		return "LAST_ERROR";
	case 9:
		return "NAME";
	case 10:
		return "UNNAME";
	case 11:
		return "IMPORT";
	case 12:
		return "PROBE";
	case 13:
		return "REGION";
	case 14:
		return "DEVICE";
	case 15:
		return "DMA_MASK";
	case 16:
		return "ATTACH";
	case 17:
		return "DETACH";
	case 18:
		return "IRQ";
	case 19:
		return "CONFIG";
	case 20:
		return "BAR";
	case 255:
		return "unknown ioctl";
	case 256:
		return "open";
	case 257:
		return "mmap";
	case 258:
		return "page fault";
	case 259:
		return "read";
	case 260:
		return "write";
	case 261:
		return "lseek";
	case 262:
		return "attaching a device";
	default:
		return NULL;
	}
}

static inline const char *mapbuf_irq_kind_name(uint32_t number)
{
	switch (number) {
	case 1:
		return "intx";
	case 2:
		return "msi";
	case 3:
		return "msi-x";
	default:
		return NULL;
	}
}

static inline const char *mapbuf_direction_name(uint32_t number)
{
	switch (number) {
	case 1:
		return "to-device";
	case 2:
		return "from-device";
	case 3:
		return "both";
	default:
		return NULL;
	}
}

static inline const char *mapbuf_reason_name(uint32_t number)
{
	switch (number) {
	case 101:
		return "StructTooShort";
	case 102:
		return "StructTooNew";
	case 103:
		return "StructTooLong";
	case 104:
		return "UnknownFlags";
	case 105:
		return "ReservedNotZero";
	case 106:
		return "UnknownIoctl";
	case 107:
		return "BadAddress";
	case 108:
		return "NeedsSession";
	case 109:
		return "IdOnNamedNode";
	case 110:
		return "ReadOnlyOpen";
	case 111:
		return "WriteOnlyOpen";
	case 201:
		return "ZeroBytes";
	case 202:
		return "TooManyBytes";
	case 203:
		return "UnknownKind";
	case 204:
		return "KindNotHere";
	case 205:
		return "UnknownCache";
	case 206:
		return "CoherentIsCached";
	case 207:
		return "NoSuchNode";
	case 208:
		return "IdTooLarge";
	case 209:
		return "IdInUse";
	case 210:
		return "NoSuchId";
	case 211:
		return "TooManyBuffers";
	case 212:
		return "OverLimit";
	case 213:
		return "OverUserLimit";
	case 214:
		return "OutOfMemory";
	case 215:
		return "NoContiguousMemory";
	case 216:
		return "NoCoherentMemory";
	case 217:
		return "Interrupted";
	case 218:
		return "NodeOfDevice";
	case 219:
		return "NoDescriptor";
	case 220:
		return "CacheRefused";
	case 221:
		return "NotADmaBuf";
	case 223:
		return "OffsetsFull";
	case 224:
		return "OverCgroupLimit";
	case 225:
		return "NoPagesForDevices";
	case 226:
		return "NodeNotAllowed";
	case 227:
		return "DmaBufMode";
	case 228:
		return "ForeignFrames";
	case 301:
		return "UnknownMethod";
	case 302:
		return "NothingAtOffset";
	case 303:
		return "BeyondEnd";
	case 304:
		return "Executable";
	case 305:
		return "CowNeedsContiguous";
	case 306:
		return "CowShowsAddress";
	case 307:
		return "CowNeedsCached";
	case 308:
		return "CowAtFault";
	case 309:
		return "NeedsOneRun";
	case 310:
		return "NeedsPages";
	case 311:
		return "NeedsVmalloc";
	case 312:
		return "NeedsCoherent";
	case 313:
		return "NothingHuge";
	case 314:
		return "KernelRefused";
	case 315:
		return "ExporterMaps";
	case 316:
		return "ExporterRefused";
	case 401:
		return "NameInvalid";
	case 402:
		return "NameTaken";
	case 403:
		return "NameUnknown";
	case 404:
		return "NotOwner";
	case 405:
		return "AlreadyNamed";
	case 406:
		return "ModeInvalid";
	case 407:
		return "OwnerNotPermitted";
	case 408:
		return "TooManyNames";
	case 409:
		return "ForeignUnnamed";
	case 501:
		return "OffsetIsId";
	case 502:
		return "BadSeek";
	case 503:
		return "WriteBeyondEnd";
	case 504:
		return "UnalignedWrite";
	case 505:
		return "ForeignView";
	case 601:
		return "RegionIsRam";
	case 602:
		return "RegionTaken";
	case 603:
		return "RegionUnmappable";
	case 604:
		return "RegionUnbacked";
	case 605:
		return "NotARegion";
	case 606:
		return "ProbeIsRisky";
	case 607:
		return "ProbeWritesDevice";
	case 608:
		return "RegionNameTaken";
	case 609:
		return "ProbeWhileMapped";
	case 701:
		return "NeedsDevice";
	case 702:
		return "DeviceGone";
	case 703:
		return "DeviceNotIsolated";
	case 704:
		return "GroupShared";
	case 705:
		return "MaskInvalid";
	case 706:
		return "MaskRefused";
	case 707:
		return "MaskInUse";
	case 708:
		return "UnknownDirection";
	case 709:
		return "CannotAttach";
	case 710:
		return "AlreadyAttached";
	case 711:
		return "NotAttached";
	case 712:
		return "DmaRefused";
	case 713:
		return "SyncOutside";
	case 714:
		return "SyncPhase";
	case 715:
		return "NoSuchBar";
	case 716:
		return "BarTaken";
	case 717:
		return "BarCache";
	case 718:
		return "BarWidth";
	case 719:
		return "PortsNotMappable";
	case 720:
		return "MsixTable";
	case 721:
		return "UnknownIrqKind";
	case 722:
		return "UnknownIrqAction";
	case 723:
		return "NoSuchVector";
	case 724:
		return "IrqTaken";
	case 725:
		return "IrqKindInUse";
	case 726:
		return "IrqNotSet";
	case 727:
		return "IrqRefused";
	case 728:
		return "NotAnEventFd";
	case 729:
		return "CannotMask";
	case 730:
		return "ConfigOutside";
	case 731:
		return "ConfigReadOnly";
	case 732:
		return "RevocableByFault";
	case 733:
		return "ImporterHolds";
	case 736:
		return "RevocableUnnamed";
	case 737:
		return "BarSharesPage";
	case 740:
		return "OutOfReach";
	case 741:
		return "SyncDirection";
	case 742:
		return "PlacementInvalid";
	case 743:
		return "PlacementRefused";
	case 744:
		return "ExporterRefusedDevice";
	case 745:
		return "ForeignOutOfReach";
	case 746:
		return "ExporterRefusedSync";
	case 747:
		return "BarNotProbed";
	default:
		return NULL;
	}
}

static inline const char *mapbuf_reason_sentence(uint32_t number)
{
	switch (number) {
	case 101:
		return "the struct is {0} bytes long; its first version already had {1}";
	case 102:
		return "the struct is {0} bytes long; this driver knows the first {1} of them, and the rest is not zero";
	case 103:
		return "the struct claims to be {0} bytes long; no struct is longer than {1}";
	case 104:
		return "flags {0:hex} have bits that this driver does not know (it knows {1:hex})";
	case 105:
		return "the reserved field at byte {0} of the struct is not zero";
	case 106:
		return "this driver has no ioctl number {0:hex}";
	case 107:
		return "{1} bytes at address {0:hex} cannot be read or written";
	case 108:
		return "{0:operation} needs an allocator node, and this file is a named buffer's node";
	case 109:
		return "the id is {0}, but on a named buffer's node it must be 0";
	case 110:
		return "{0:operation} makes changes, and this file was opened read-only";
	case 111:
		return "{0:operation} gives read access, and this file was not opened for reading";
	case 201:
		return "a buffer of 0 bytes was requested";
	case 202:
		return "{0} bytes were requested; a buffer can have at most {1}";
	case 203:
		return "there is no memory kind {0}";
	case 204:
		return "this node does not provide {0:kind} memory";
	case 205:
		return "there is no cache mode {0}";
	case 206:
		return "{0:kind} memory cannot be {1:cache} here: DMA on this machine is cache-coherent, and the kernel's own mapping stays cached";
	case 207:
		return "there is no memory on NUMA node {0:signed}";
	case 208:
		return "id {0} is too large: ids are below {1}";
	case 209:
		return "this session already has a buffer with id {0}";
	case 210:
		return "this session has no buffer with id {0}";
	case 211:
		return "this session has {0} buffers, the most that it can have";
	case 212:
		return "{0:bytes} more would exceed the limit for all users together: {1:bytes} of {2:bytes} are in use";
	case 213:
		return "{0:bytes} more would exceed the limit for user {3}: {1:bytes} of {2:bytes} are in use";
	case 214:
		return "the kernel does not have {0:bytes} of free memory";
	case 215:
		return "the kernel found no physically contiguous run of {0:bytes}";
	case 216:
		return "the kernel found no DMA-coherent run of {0:bytes} (without a CMA area the limit is {1:bytes})";
	case 217:
		return "a fatal signal arrived after {1:bytes} of {0:bytes} had been allocated";
	case 218:
		return "coherent memory comes from the device's own NUMA node, and node {0:signed} was requested";
	case 219:
		return "the process has as many open descriptors as it can have";
	case 220:
		return "the kernel could not change its own mapping of this memory to {0:cache} (errno {1})";
	case 221:
		return "descriptor {0:signed} is not a dma-buf";
	case 223:
		return "this session has no {0:bytes} left in its mmap offsets, which end at 16 TiB";
	case 224:
		return "{0:bytes} would exceed the limit of the caller's memory cgroup: only {2:bytes} of {1:bytes} are left";
	case 225:
		return "a device cannot import {0:kind} memory: it has no pages";
	case 226:
		return "NUMA node {0} is not in the caller's cpuset";
	case 227:
		return "descriptor {0:signed} is a dma-buf that was not opened for both reading and writing";
	case 228:
		return "another driver's dma-buf does not say where its memory lies";
	case 301:
		return "there is no method {0}";
	case 302:
		return "there is no buffer at mmap offset {0:hex}";
	case 303:
		return "{1} bytes from byte {0} would run past the end of the buffer at {2}";
	case 304:
		return "PROT_EXEC was requested; buffers are never executable";
	case 305:
		return "MAP_PRIVATE with PROT_WRITE is copy-on-write, which remap_pfn_range supports only if one call covers the whole mapping; {1} bytes from byte {0} would take {2} calls";
	case 306:
		return "MAP_PRIVATE with PROT_WRITE of memory without pages shows its physical address in /proc/PID/maps, which needs CAP_SYS_ADMIN";
	case 307:
		return "MAP_PRIVATE with PROT_WRITE makes private copies, which are cached memory, and this buffer is {0:cache}";
	case 308:
		return "{0:method} inserts page frames at fault time, which the kernel does not allow for MAP_PRIVATE with PROT_WRITE";
	case 309:
		return "{0:method} maps one physically contiguous run; only the first {3} of the {2} bytes from byte {1} are contiguous";
	case 310:
		return "{0:method} needs memory with struct pages of its own, and this {1:kind} buffer has none";
	case 311:
		return "vmalloc (remap_vmalloc_range) only maps vmalloc'd memory, and this is a {0:kind} buffer";
	case 312:
		return "dma (dma_mmap_coherent) only maps DMA-coherent memory, and this is a {0:kind} buffer";
	case 313:
		return "no part of these {0:bytes} can be mapped with an entry of {1:bytes}";
	case 314:
		return "the kernel function behind {0:method} returned errno {1}";
	case 315:
		return "another driver's dma-buf is mapped by that driver alone, and not by {0:method}";
	case 316:
		return "the driver that exported this dma-buf did not map {0} bytes of it (errno {1})";
	case 401:
		return "the name is empty, or has a byte {1:char} at position {0} that is not allowed there";
	case 402:
		return "a buffer already has this name";
	case 403:
		return "no buffer has this name";
	case 404:
		return "the named buffer belongs to user {0}";
	case 405:
		return "the buffer with id {0} already has a name";
	case 406:
		return "{0:octal} is not a valid mode for a node: only the bits in 0666 can be set";
	case 407:
		return "giving a node to user {0}, group {1} needs CAP_CHOWN";
	case 408:
		return "there are {0} named buffers, the most that there can be";
	case 409:
		return "another driver's dma-buf cannot have a name here: it belongs to that driver";
	case 501:
		return "offset {0:hex} stands for a buffer's id, and leaves no room for a byte offset";
	case 502:
		return "the position {0:signed} (whence {1}) is outside the file";
	case 503:
		return "a write at byte {0}, but the buffer ends at byte {1}";
	case 504:
		return "a write of {1} bytes at byte {0}, to uncached memory that is written in {2}-bit words";
	case 505:
		return "read and write do not reach another driver's dma-buf";
	case 601:
		return "part of the {0:bytes} is System RAM that the kernel uses";
	case 602:
		return "part of the {0:bytes} is already claimed";
	case 603:
		return "the kernel could not map the {0:bytes} for itself with the declared cache mode";
	case 604:
		return "there is no memory behind the region of {0:bytes}: what is written there does not stay";
	case 605:
		return "only regions can be probed, and this is a {0:kind} buffer";
	case 606:
		return "this region is device memory: reading it can hang the bus, or take data out of a FIFO";
	case 607:
		return "this region is device memory, and a probe never writes to a device";
	case 608:
		return "a buffer or region already has this name";
	case 609:
		return "the region is mapped ({0} times), and a probe that writes and restores could undo a write by another program";
	case 701:
		return "{0:operation} needs the node of a bound device, and this is not one";
	case 702:
		return "the device was unbound from the driver, or removed";
	case 703:
		return "no IOMMU confines this device, so that it can reach all of memory, and the node was opened without CAP_SYS_RAWIO";
	case 704:
		return "the IOMMU cannot tell device {1:pci} from device {2:pci}, which is bound to another driver (group {0})";
	case 705:
		return "{0} is not a valid number of DMA address bits: the range is {1} to {2}";
	case 706:
		return "the platform has no DMA with {0}-bit addresses for this device (errno {1})";
	case 707:
		return "{0} buffers already have addresses for the device, which may not fit the mask";
	case 708:
		return "there is no direction {0}";
	case 709:
		return "{0:kind} memory cannot be attached: it has no pages, or already has addresses for the device";
	case 710:
		return "buffer {0} already has addresses for the device";
	case 711:
		return "buffer {0} has no addresses for the device";
	case 712:
		return "the kernel could not map {0:bytes} for the device (errno {1})";
	case 713:
		return "{1} bytes from byte {0} are an empty range, or run past the end of the buffer at {2}";
	case 714:
		return "the flags {0:hex} do not say whether this is a begin or an end";
	case 715:
		return "the device has no BAR {0}, or nothing is behind it";
	case 716:
		return "the range of BAR {0} is claimed by another driver";
	case 717:
		return "BAR {0} cannot be {1:cache} now";
	case 718:
		return "an access cannot be {0} bits wide";
	case 719:
		return "these {0:bytes} are I/O ports, which cannot be mapped";
	case 720:
		return "the MSI-X table is in the {1} bytes from byte {0}: a program that writes to it can make the device write anywhere";
	case 721:
		return "there is no interrupt kind {0}";
	case 722:
		return "there is no interrupt action {0}";
	case 723:
		return "there is no {0:irq} vector {1}: there are {2}";
	case 724:
		return "another open file has set the device's interrupts";
	case 725:
		return "the device now has {1:irq} interrupts, not {0:irq}";
	case 726:
		return "{0:irq} vector {1} is not set";
	case 727:
		return "the kernel could not give the device {0:irq} interrupts (errno {1})";
	case 728:
		return "descriptor {0:signed} is not an eventfd";
	case 729:
		return "{0:irq} vectors cannot be masked on this device";
	case 730:
		return "{1} bytes at byte {0} are not a field of the configuration space, which has {2} bytes";
	case 731:
		return "the {1} bytes at byte {0} of the configuration space cannot be set to {2:hex}: user space can only change the bits {3:hex} there";
	case 732:
		return "{0:method} maps everything at once, and this memory goes away with its device";
	case 733:
		return "the importing driver cannot give this {0:kind} memory up, and it goes away with its device";
	case 736:
		return "the registers of a device ({0:kind}) cannot have a name: its own node decides who may use them";
	case 737:
		return "what the base address register leads to, {0:bytes}, shares a page with something else";
	case 740:
		return "from byte {1} on the buffer lies in memory that the device does not reach with its {0} address bits";
	case 741:
		return "the sync is {0:direction}, and the buffer is attached {1:direction}";
	case 742:
		return "{1:hex} at byte {0} of the struct is no place for memory";
	case 743:
		return "no {0:bytes} were found with addresses below {1:hex}, {2} low bits of 0 at the start, and no run over a multiple of 2^{3} (0: no such wish)";
	case 744:
		return "the driver that exported this dma-buf did not map its {0:bytes} for the device (errno {1})";
	case 745:
		return "the device reaches memory with {0} address bits, and another driver's dma-buf may lie anywhere";
	case 746:
		return "the driver that exported this dma-buf did not sync it (errno {0})";
	case 747:
		return "these {0:bytes} are a device's registers, which are never probed: reading one can change what the device does";
	default:
		return NULL;
	}
}

static inline const char *mapbuf_reason_remedy(uint32_t number)
{
	switch (number) {
	case 101:
		return "set the first field to sizeof(the struct)";
	case 102:
		return "set the fields that this driver does not know to zero, or load a newer driver";
	case 103:
		return "set the first field to sizeof(the struct), and the rest to zero before filling it in";
	case 104:
		return "clear those bits, or load a newer driver";
	case 105:
		return "set the whole struct to zero before filling it in";
	case 106:
		return "use the numbers in include/mapbuf.h, or load a newer driver";
	case 107:
		return "pass the address of that much memory, which the program can both read and write";
	case 108:
		return "open /dev/mapbuf/system instead";
	case 109:
		return "pass 0, which stands for the node's own buffer";
	case 110:
		return "open the node with O_RDWR";
	case 111:
		return "open the node with O_RDWR";
	case 201:
		return "request at least 1 byte; sizes are rounded up to whole pages";
	case 202:
		return "request less, or several buffers";
	case 203:
		return "use vmalloc (1), pages (2), contiguous (3) or coherent (4)";
	case 204:
		return "QUERY reports the kinds that it provides; regions are declared when the module is loaded";
	case 205:
		return "use cached (0), write-combined (1) or uncached (2)";
	case 206:
		return "use cached, or a contiguous buffer, whose kernel mapping can be changed";
	case 207:
		return "use -1 for any node; /sys/devices/system/node/has_memory lists the nodes with memory";
	case 208:
		return "use a smaller id, or 0 to have one assigned";
	case 209:
		return "free it first, use another id, or pass 0 to have one assigned";
	case 210:
		return "use an id that ALLOC returned for this open file and that has not been freed; each open file has its own ids";
	case 211:
		return "free some, open the node again, or load the module with a larger max_buffers";
	case 212:
		return "free buffers (including those that are still mapped or exported), or raise max_bytes in /sys/module/mapbuf/parameters";
	case 213:
		return "free buffers (including those that are still mapped or exported), or raise max_bytes_per_user in /sys/module/mapbuf/parameters";
	case 214:
		return "request less, or free memory";
	case 215:
		return "boot with cma=SIZE (larger than the buffer) to reserve memory for this, or use the kind pages";
	case 216:
		return "boot with cma=SIZE (larger than the buffer), or use several smaller buffers";
	case 217:
		return "nothing to do: what had been allocated has been freed";
	case 218:
		return "use -1 (any node), or the kind contiguous";
	case 219:
		return "close some, or raise the limit (ulimit -n)";
	case 220:
		return "use cached; the other modes need x86, and some free memory for page tables";
	case 221:
		return "pass a descriptor that EXPORT returned";
	case 223:
		return "free buffers, or open the node again: each open file has its own offsets";
	case 224:
		return "free memory in the container or service, or raise its limit (memory.max of its cgroup)";
	case 225:
		return "have the device import another kind of buffer, or map the dma-buf's descriptor and copy";
	case 226:
		return "use a node from Mems_allowed_list in /proc/self/status, or -1 for any of them";
	case 227:
		return "have its exporter open it with O_RDWR (DMA_HEAP_IOCTL_ALLOC: fd_flags); an id here can be mapped for writing, and a device can write to it";
	case 228:
		return "ATTACH it on a device's node, and ask with the flag FOR_DEVICE for that device's addresses";
	case 301:
		return "QUERY returns a mask of the methods; 0 is auto";
	case 302:
		return "use id << PAGE_SHIFT, or the mmap_offset that ALLOC or OFFSET returned, plus whole pages within the buffer";
	case 303:
		return "map no more than what lies between the offset and the end of the buffer";
	case 304:
		return "leave PROT_EXEC out (the READ_IMPLIES_EXEC personality adds it silently)";
	case 305:
		return "use the method auto, MAP_SHARED, or PROT_READ alone, or map each physically contiguous run separately";
	case 306:
		return "use MAP_SHARED, PROT_READ alone, or the kind pages or vmalloc, or run with CAP_SYS_ADMIN";
	case 307:
		return "use MAP_SHARED, PROT_READ alone, or a cached buffer";
	case 308:
		return "use MAP_SHARED, PROT_READ alone, or the method auto";
	case 309:
		return "use the method auto or remap-each, map each run separately, or use the kind contiguous";
	case 310:
		return "use the method auto, or the kind pages or vmalloc";
	case 311:
		return "use the method auto, or the kind vmalloc";
	case 312:
		return "use the method auto, or the kind coherent";
	case 313:
		return "use the kind pages or contiguous with at least that size, at an offset and address that are multiples of it, or the method auto";
	case 314:
		return "please report this with the kernel version: the driver should have refused it earlier";
	case 315:
		return "use the method auto";
	case 316:
		return "map it with MAP_SHARED, which is all that most exporters take, or by that driver's own means";
	case 401:
		return "use 1 to 64 letters, digits, '_', '.' or '-', not starting with '.' or '-'";
	case 402:
		return "use another name, or remove the existing buffer first (mapbuf remove NAME)";
	case 403:
		return "mapbuf list shows the existing names";
	case 404:
		return "ask its owner, or run with CAP_SYS_ADMIN";
	case 405:
		return "remove that name first; a buffer has one name at a time";
	case 406:
		return "use 0660, 0640 or 0444, for example";
	case 407:
		return "leave the owner and group as the caller's own, or run with CAP_CHOWN";
	case 408:
		return "remove one, or load the module with a larger max_names";
	case 409:
		return "pass its descriptor on, or copy it to a buffer of this driver and name that";
	case 501:
		return "read and write at the mmap_offset that ALLOC returned, plus the offset in the buffer";
	case 502:
		return "on a named node, seek between 0 and its size; on an allocator node, SEEK_END has no meaning";
	case 503:
		return "write within the buffer: it does not grow";
	case 504:
		return "write whole words at multiples of their size, or map the region";
	case 505:
		return "map it, and SYNC before and after the accesses";
	case 601:
		return "reserve it at boot: memmap=SIZE$START on the kernel command line (x86), or a reserved-memory node (device tree)";
	case 602:
		return "/proc/iomem shows by whom (as root); unbind that driver, or declare another range";
	case 603:
		return "declare it uc or wc: /proc/mtrr and /sys/kernel/debug/x86/pat_memtype_list show which mode the machine uses for it";
	case 604:
		return "check the declared start address and size; add 'trust' to the declaration to map it anyway";
	case 605:
		return "nothing to do: memory that the kernel allocated is there";
	case 606:
		return "check the device's manual first; then probe with the flag RISK (mapbuf probe --risk NAME)";
	case 607:
		return "probe it with reads alone";
	case 608:
		return "give each region its own name";
	case 609:
		return "probe it before it is in use, or with reads alone";
	case 701:
		return "bind the device (mapbuf bind 0000:00:04.0), and open /dev/mapbuf/pci-0000:00:04.0";
	case 702:
		return "close this file; when the device is bound again, open its node again";
	case 703:
		return "boot with an IOMMU (intel_iommu=on, amd_iommu=on), or open the node with CAP_SYS_RAWIO";
	case 704:
		return "unbind that device from its driver, or bind it here too";
	case 705:
		return "use the number in the device's manual, for example 32";
	case 706:
		return "use more bits, or boot with an IOMMU, which can provide addresses of any width";
	case 707:
		return "set the mask first, then allocate and attach";
	case 708:
		return "use to-device (1), from-device (2) or both (3)";
	case 709:
		return "attach cached vmalloc, pages or contiguous memory";
	case 710:
		return "DETACH it first";
	case 711:
		return "ATTACH it first";
	case 712:
		return "attach less at a time; if the device's mask is narrow and there is no IOMMU, use coherent memory, which is allocated within the mask";
	case 713:
		return "sync at least one byte, within the buffer";
	case 714:
		return "set exactly one of BEGIN (1) and END (2)";
	case 715:
		return "DEVICE reports the BARs that it has; a 64-bit BAR has the number of its lower half";
	case 716:
		return "/proc/iomem and /proc/ioports show by which (as root)";
	case 717:
		return "use uncached; write-combined needs a prefetchable BAR that is not in use with another mode";
	case 718:
		return "use 8, 16, 32 or 64, or 0 for 32";
	case 719:
		return "use pread and pwrite at the buffer's mmap_offset";
	case 720:
		return "map it read-only, or map what lies before and after it; set interrupts with IRQ";
	case 721:
		return "use INTx (1), MSI (2) or MSI-X (3)";
	case 722:
		return "use set (1), mask (2), unmask (3) or trigger (4)";
	case 723:
		return "DEVICE reports how many the device has; the first vector that is set fixes how many are in use";
	case 724:
		return "unset them in that program, or end it";
	case 725:
		return "unset those first: a device has one kind at a time";
	case 726:
		return "set it with an eventfd first";
	case 727:
		return "use fewer vectors, or another kind";
	case 728:
		return "create one with eventfd(2)";
	case 729:
		return "mask it in the device's own registers";
	case 730:
		return "read or write 1, 2 or 4 bytes at a multiple of that";
	case 731:
		return "write the other bits back as they were read; BARs, interrupts and capabilities belong to the kernel";
	case 732:
		return "use auto, or one of the fault methods: what they map can be revoked at any time";
	case 733:
		return "import vmalloc, pages or contiguous memory there, and attach that to this device";
	case 736:
		return "open the device's node (BAR), or pass the dma-buf on (EXPORT)";
	case 737:
		return "read and write it: pread and pwrite at the buffer's mmap_offset";
	case 740:
		return "allocate it on the device's node after the mask was set, which gives memory that the device reaches, or use coherent memory";
	case 741:
		return "sync in the direction that ATTACH was given, or attach it for both (3)";
	case 742:
		return "use for `below` 0 or at least a page, for `align_bits` at most 40, for `boundary_bits` 0 or 12 to 63";
	case 743:
		return "ask for less at a time or for less of it; behind an IOMMU the device's addresses are chosen anew, so ask with FOR_DEVICE there";
	case 744:
		return "attach less at a time, or with more address bits (DMA_MASK); memory that only importers which let go may have (EOPNOTSUPP, 95) cannot be attached";
	case 745:
		return "set more bits (DMA_MASK) if the device has them, boot with an IOMMU, or copy to a buffer that is allocated on the device's node";
	case 746:
		return "try again; if it stays so, the exporting driver's documentation says when the CPU may have its memory";
	case 747:
		return "read the registers that the device's manual names, by a mapping or with pread; whether the device is there, DEVICE says";
	default:
		return NULL;
	}
}

/* Appends an operand to the text at `to`, and returns the place behind it. */
static inline size_t mapbuf_explain_operand(char *to, size_t size, size_t at, uint64_t value, const char *form)
{
	static const char *const units[] = { "KiB", "MiB", "GiB", "TiB" };
	char *end = at < size ? to + at : NULL;
	size_t room = at < size ? size - at : 0;
	unsigned long long number = value;
	const char *name = NULL;
	int written, unit;

	if (value <= UINT32_MAX) {
		if (!strcmp(form, "kind"))
			name = mapbuf_kind_name((uint32_t)value);
		else if (!strcmp(form, "cache"))
			name = mapbuf_cache_name((uint32_t)value);
		else if (!strcmp(form, "method"))
			name = mapbuf_method_name((uint32_t)value);
		else if (!strcmp(form, "operation"))
			name = mapbuf_operation_name((uint32_t)value);
		else if (!strcmp(form, "irq"))
			name = mapbuf_irq_kind_name((uint32_t)value);
		else if (!strcmp(form, "direction"))
			name = mapbuf_direction_name((uint32_t)value);
	}
	if (name) {
		written = snprintf(end, room, "%s", name);
	} else if (!strcmp(form, "bytes")) {
		for (unit = 3; unit >= 0; unit--)
			if (value && value % (1ull << (10 * (unit + 1))) == 0)
				break;
		if (unit >= 0)
			written = snprintf(end, room, "%llu %s", number >> (10 * (unit + 1)), units[unit]);
		else
			written = snprintf(end, room, "%llu bytes", number);
	} else if (!strcmp(form, "hex")) {
		written = snprintf(end, room, "0x%llx", number);
	} else if (!strcmp(form, "octal")) {
		written = snprintf(end, room, "0o%llo", number);
	} else if (!strcmp(form, "pci")) {
		written = snprintf(end, room, "%04llx:%02llx:%02llx.%llu", number >> 16, number >> 8 & 0xff,
				   number >> 3 & 0x1f, number & 7);
	} else if (!strcmp(form, "signed")) {
		written = snprintf(end, room, "%lld", (long long)value);
	} else if (!strcmp(form, "char") && value >= 0x20 && value < 0x7f) {
		written = snprintf(end, room, "'%c'", (int)value);
	} else if (!strcmp(form, "char")) {
		written = snprintf(end, room, "0x%llx", number);
	} else {
		written = snprintf(end, room, "%llu", number);
	}
	return at + (written > 0 ? (size_t)written : 0);
}

/*
 * Writes "what happened; what to do next" into `to`, with a zero at the end, and returns the length of the whole text
 * (as snprintf does). A reason that this header does not know is shown by its number.
 */
static inline int mapbuf_explain(const struct mapbuf_last_error *error, char *to, size_t size)
{
	const char *sentence = mapbuf_reason_sentence(error->reason);
	const char *remedy = mapbuf_reason_remedy(error->reason);
	size_t at = 0;
	int written;

	if (!sentence)
		return snprintf(to, size, "%s was refused for reason %lu, which this program does not know",
				mapbuf_operation_name(error->operation) ? mapbuf_operation_name(error->operation) : "it",
				(unsigned long)error->reason);
	while (*sentence) {
		if (*sentence == '{') {
			char form[16] = "";
			unsigned long index = strtoul(sentence + 1, NULL, 10);
			const char *stop = strchr(sentence, '}');
			const char *colon = strchr(sentence, ':');

			if (colon && stop && colon < stop)
				snprintf(form, sizeof(form), "%.*s", (int)(stop - colon - 1), colon + 1);
			if (stop && index < MAPBUF_OPERANDS) {
				at = mapbuf_explain_operand(to, size, at, error->operands[index], form);
				sentence = stop + 1;
				continue;
			}
		}
		if (at + 1 < size)
			to[at] = *sentence;
		at++;
		sentence++;
	}
	written = snprintf(at < size ? to + at : NULL, at < size ? size - at : 0, "; %s", remedy);
	if (size)
		to[size - 1] = 0;
	return (int)at + (written > 0 ? written : 0);
}

/*
 * Explains the failure of the call on `fd` that this thread has just made: by the driver's reason if `errno` is the
 * one that the driver gave, else by `errno` alone. Leaves `errno` as it was.
 */
static inline int mapbuf_explain_last(int fd, char *to, size_t size)
{
	struct mapbuf_last_error last = { .size = sizeof(last) };
	int error = errno, asked = ioctl(fd, MAPBUF_IOCTL_LAST_ERROR, &last);

	errno = error;
	if (asked == 0 && last.sequence && last.error_number == error)
		return mapbuf_explain(&last, to, size);
	return snprintf(to, size, "%s", strerror(error));
}

#endif /* MAPBUF_EXPLAIN_H */
