// SPDX-License-Identifier: GPL-2.0 OR MIT

//! What a refusal means, in words: one sentence with the values in it, and what to do next.

use crate::{
    reason::{
        Reason,
        Refusal, //
    },
    wire::{
        Cache,
        Direction,
        IrqKind,
        Kind,
        Method,
        Operation, //
    },
};
use core::fmt;

/// The texts of one reason.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    /// What happened. `{0}` … `{3}` stand for the operands, `{0:bytes}` for a size, `{0:hex}`, `{0:octal}`,
    /// `{0:char}`, `{0:signed}`, `{0:pci}` for a device's address, and `{0:kind}`, `{0:cache}`, `{0:method}`,
    /// `{0:operation}`, `{0:irq}`, `{0:direction}` for names.
    pub sentence: &'static str,
    /// What to do next.
    pub remedy: &'static str,
    /// For a refusal that depends on the memory itself: the place in the kernel that forces it, as `file,
    /// function: what it does there`, or what would happen otherwise if the kernel checks nothing. Empty for the others.
    pub kernel: &'static str,
}

const fn text(sentence: &'static str, remedy: &'static str) -> Text {
    Text {
        sentence,
        remedy,
        kernel: "",
    }
}

impl Text {
    const fn since(self, kernel: &'static str) -> Self {
        Self { kernel, ..self }
    }
}

impl Reason {
    /// What this reason says, and what to do.
    pub const fn text(self) -> Text {
        match self {
            Self::StructTooShort => text(
                "the struct is {0} bytes long; its first version already had {1}",
                "set the first field to sizeof(the struct)",
            ),
            Self::StructTooNew => text(
                "the struct is {0} bytes long; this driver knows the first {1} of them, and the rest is not zero",
                "set the fields that this driver does not know to zero, or load a newer driver",
            ),
            Self::StructTooLong => text(
                "the struct claims to be {0} bytes long; no struct is longer than {1}",
                "set the first field to sizeof(the struct), and the rest to zero before filling it in",
            ),
            Self::UnknownFlags => text(
                "flags {0:hex} have bits that this driver does not know (it knows {1:hex})",
                "clear those bits, or load a newer driver",
            ),
            Self::ReservedNotZero => text(
                "the reserved field at byte {0} of the struct is not zero",
                "set the whole struct to zero before filling it in",
            ),
            Self::UnknownIoctl => text(
                "this driver has no ioctl number {0:hex}",
                "use the numbers in include/mapbuf.h, or load a newer driver",
            ),
            Self::BadAddress => text(
                "{1} bytes at address {0:hex} cannot be read or written",
                "pass the address of that much memory, which the program can both read and write",
            ),
            Self::NeedsSession => text(
                "{0:operation} needs an allocator node, and this file is a named buffer's node",
                "open /dev/mapbuf/system instead",
            ),
            Self::IdOnNamedNode => text(
                "the id is {0}, but on a named buffer's node it must be 0",
                "pass 0, which stands for the node's own buffer",
            ),
            Self::ReadOnlyOpen => text(
                "{0:operation} makes changes, and this file was opened read-only",
                "open the node with O_RDWR",
            ),
            Self::WriteOnlyOpen => text(
                "{0:operation} gives read access, and this file was not opened for reading",
                "open the node with O_RDWR",
            ),
            Self::ZeroBytes => text(
                "a buffer of 0 bytes was requested",
                "request at least 1 byte; sizes are rounded up to whole pages",
            ),
            Self::TooManyBytes => text(
                "{0} bytes were requested; a buffer can have at most {1}",
                "request less, or several buffers",
            ),
            Self::UnknownKind => text(
                "there is no memory kind {0}",
                "use vmalloc (1), pages (2), contiguous (3) or coherent (4)",
            ),
            Self::KindNotHere => text(
                "this node does not provide {0:kind} memory",
                "QUERY reports the kinds that it provides; regions are declared when the module is loaded",
            ),
            Self::UnknownCache => text(
                "there is no cache mode {0}",
                "use cached (0), write-combined (1) or uncached (2)",
            ),
            Self::CoherentIsCached => text(
                "{0:kind} memory cannot be {1:cache} here: DMA on this machine is cache-coherent, and the kernel's own mapping stays cached",
                "use cached, or a contiguous buffer, whose kernel mapping can be changed",
            )
            .since(
                "kernel/dma/mapping.c, dma_pgprot: if dev_is_dma_coherent(), the cache mode is left as it is; kernel/dma/direct.c, dma_direct_alloc: such memory stays in the linear map, where it is cached",
            ),
            Self::NodeNotAllowed => text(
                "NUMA node {0} is not in the caller's cpuset",
                "use a node from Mems_allowed_list in /proc/self/status, or -1 for any of them",
            ),
            Self::NoSuchNode => text(
                "there is no memory on NUMA node {0:signed}",
                "use -1 for any node; /sys/devices/system/node/has_memory lists the nodes with memory",
            ),
            Self::IdTooLarge => text(
                "id {0} is too large: ids are below {1}",
                "use a smaller id, or 0 to have one assigned",
            ),
            Self::IdInUse => text(
                "this session already has a buffer with id {0}",
                "free it first, use another id, or pass 0 to have one assigned",
            ),
            Self::NoSuchId => text(
                "this session has no buffer with id {0}",
                "use an id that ALLOC returned for this open file and that has not been freed; each open file has its own ids",
            ),
            Self::TooManyBuffers => text(
                "this session has {0} buffers, the most that it can have",
                "free some, open the node again, or load the module with a larger max_buffers",
            ),
            Self::OverLimit => text(
                "{0:bytes} more would exceed the limit for all users together: {1:bytes} of {2:bytes} are in use",
                "free buffers (including those that are still mapped or exported), or raise max_bytes in /sys/module/mapbuf/parameters",
            ),
            Self::OverUserLimit => text(
                "{0:bytes} more would exceed the limit for user {3}: {1:bytes} of {2:bytes} are in use",
                "free buffers (including those that are still mapped or exported), or raise max_bytes_per_user in /sys/module/mapbuf/parameters",
            ),
            Self::OutOfMemory => text(
                "the kernel does not have {0:bytes} of free memory",
                "request less, or free memory",
            ),
            Self::NoContiguousMemory => text(
                "the kernel found no physically contiguous run of {0:bytes}",
                "boot with cma=SIZE (larger than the buffer) to reserve memory for this, or use the kind pages",
            ),
            Self::NoCoherentMemory => text(
                "the kernel found no DMA-coherent run of {0:bytes} (without a CMA area the limit is {1:bytes})",
                "boot with cma=SIZE (larger than the buffer), or use several smaller buffers",
            ),
            Self::Interrupted => text(
                "a fatal signal arrived after {1:bytes} of {0:bytes} had been allocated",
                "nothing to do: what had been allocated has been freed",
            ),
            Self::NodeOfDevice => text(
                "coherent memory comes from the device's own NUMA node, and node {0:signed} was requested",
                "use -1 (any node), or the kind contiguous",
            ),
            Self::NoDescriptor => text(
                "the process has as many open descriptors as it can have",
                "close some, or raise the limit (ulimit -n)",
            ),
            Self::CacheRefused => text(
                "the kernel could not change its own mapping of this memory to {0:cache} (errno {1})",
                "use cached; the other modes need x86, and some free memory for page tables",
            )
            .since(
                "arch/x86/mm/pat/set_memory.c, _set_pages_array: memtype_reserve() of a page, or splitting a huge entry of the linear map, failed; other architectures have no such function",
            ),
            Self::NotADmaBuf => text(
                "descriptor {0:signed} is not a dma-buf",
                "pass a descriptor that EXPORT returned",
            ),
            Self::DmaBufMode => text(
                "descriptor {0:signed} is a dma-buf that was not opened for both reading and writing",
                "have its exporter open it with O_RDWR (DMA_HEAP_IOCTL_ALLOC: fd_flags); an id here can be mapped for writing, and a device can write to it",
            )
            .since(
                "no check there: drivers/dma-buf/dma-buf.c, dma_buf_mmap and dma_buf_dynamic_attach do not look at the mode of the file",
            ),
            Self::ForeignFrames => text(
                "another driver's dma-buf does not say where its memory lies",
                "ATTACH it on a device's node, and ask with the flag FOR_DEVICE for that device's addresses",
            )
            .since(
                "drivers/dma-buf/dma-buf.c, dma_buf_wrap_sg_table: importers get DMA addresses, and with CONFIG_DMABUF_DEBUG no struct pages at all",
            ),
            Self::ExporterMaps => text(
                "another driver's dma-buf is mapped by that driver alone, and not by {0:method}",
                "use the method auto",
            ),
            Self::ExporterRefused => text(
                "the driver that exported this dma-buf did not map {0} bytes of it (errno {1})",
                "map it with MAP_SHARED, which is all that most exporters take, or by that driver's own means",
            ),
            Self::ForeignUnnamed => text(
                "another driver's dma-buf cannot have a name here: it belongs to that driver",
                "pass its descriptor on, or copy it to a buffer of this driver and name that",
            ),
            Self::ForeignView => text(
                "read and write do not reach another driver's dma-buf",
                "map it, and SYNC before and after the accesses",
            )
            .since(
                "drivers/dma-buf/dma-buf.c, dma_buf_vmap: warns (WARN_ON_ONCE) when the exporter cannot map it for the kernel, which a signal is enough for",
            ),
            Self::ExporterRefusedDevice => text(
                "the driver that exported this dma-buf did not map its {0:bytes} for the device (errno {1})",
                "attach less at a time, or with more address bits (DMA_MASK); memory that only importers which let go may have (EOPNOTSUPP, 95) cannot be attached",
            )
            .since(
                "drivers/dma-buf/dma-buf.c, dma_buf_attach and dma_buf_map_attachment: the exporter's attach, pin or map_dma_buf has failed",
            ),
            Self::ForeignOutOfReach => text(
                "the device reaches memory with {0} address bits, and another driver's dma-buf may lie anywhere",
                "set more bits (DMA_MASK) if the device has them, boot with an IOMMU, or copy to a buffer that is allocated on the device's node",
            )
            .since(
                "kernel/dma/direct.h, dma_direct_map_phys: warns (dev_WARN_ONCE) about such memory where there are no bounce buffers, and an importer cannot look before it is mapped",
            ),
            Self::BarNotProbed => text(
                "these {0:bytes} are a device's registers, which are never probed: reading one can change what the device does",
                "read the registers that the device's manual names, by a mapping or with pread; whether the device is there, DEVICE says",
            ),
            Self::ExporterRefusedSync => text(
                "the driver that exported this dma-buf did not sync it (errno {0})",
                "try again; if it stays so, the exporting driver's documentation says when the CPU may have its memory",
            ),
            Self::OffsetsFull => text(
                "this session has no {0:bytes} left in its mmap offsets, which end at 16 TiB",
                "free buffers, or open the node again: each open file has its own offsets",
            ),
            Self::OverCgroupLimit => text(
                "{0:bytes} would exceed the limit of the caller's memory cgroup: only {2:bytes} of {1:bytes} are left",
                "free memory in the container or service, or raise its limit (memory.max of its cgroup)",
            ),
            Self::NoPagesForDevices => text(
                "a device cannot import {0:kind} memory: it has no pages",
                "have the device import another kind of buffer, or map the dma-buf's descriptor and copy",
            )
            .since(
                "include/linux/scatterlist.h, sg_set_page: the scatterlist that a device gets is made of struct pages, and a reserved range has none",
            ),
            Self::UnknownMethod => text(
                "there is no method {0}",
                "QUERY returns a mask of the methods; 0 is auto",
            ),
            Self::NothingAtOffset => text(
                "there is no buffer at mmap offset {0:hex}",
                "use id << PAGE_SHIFT, or the mmap_offset that ALLOC or OFFSET returned, plus whole pages within the buffer",
            ),
            Self::BeyondEnd => text(
                "{1} bytes from byte {0} would run past the end of the buffer at {2}",
                "map no more than what lies between the offset and the end of the buffer",
            )
            .since(
                "drivers/dma-buf/dma-buf.c, dma_buf_mmap and dma_buf_mmap_internal: EINVAL if vm_pgoff + vma_pages() is beyond the dma-buf's size",
            ),
            Self::Executable => text(
                "PROT_EXEC was requested; buffers are never executable",
                "leave PROT_EXEC out (the READ_IMPLIES_EXEC personality adds it silently)",
            )
            .since(
                "no check there: mm/mmap.c, do_mmap leaves VM_MAYEXEC set on every file system that is not mounted noexec, so a buffer that others write could be executed",
            ),
            Self::CowNeedsContiguous => text(
                "MAP_PRIVATE with PROT_WRITE is copy-on-write, which remap_pfn_range supports only if one call covers the whole mapping; {1} bytes from byte {0} would take {2} calls",
                "use the method auto, MAP_SHARED, or PROT_READ alone, or map each physically contiguous run separately",
            )
            .since(
                "mm/memory.c, get_remap_pgoff (called by remap_pfn_range): EINVAL if the mapping is copy-on-write and the call does not cover it from vm_start to vm_end",
            ),
            Self::CowShowsAddress => text(
                "MAP_PRIVATE with PROT_WRITE of memory without pages shows its physical address in /proc/PID/maps, which needs CAP_SYS_ADMIN",
                "use MAP_SHARED, PROT_READ alone, or the kind pages or vmalloc, or run with CAP_SYS_ADMIN",
            )
            .since(
                "mm/memory.c, get_remap_pgoff: writes the frame number into vm_pgoff if the mapping is copy-on-write; fs/proc/task_mmu.c, show_map_vma: prints that as the offset",
            ),
            Self::CowNeedsCached => text(
                "MAP_PRIVATE with PROT_WRITE makes private copies, which are cached memory, and this buffer is {0:cache}",
                "use MAP_SHARED, PROT_READ alone, or a cached buffer",
            )
            .since(
                "mm/memory.c, wp_page_copy: the copy is an ordinary page whose other mappings are cached, and its entry gets the vm_page_prot of this one, which is not",
            ),
            Self::CowAtFault => text(
                "{0:method} inserts page frames at fault time, which the kernel does not allow for MAP_PRIVATE with PROT_WRITE",
                "use MAP_SHARED, PROT_READ alone, or the method auto",
            )
            .since(
                "mm/memory.c, vmf_insert_pfn_prot, and mm/huge_memory.c, vmf_insert_pfn_pmd: BUG_ON if a mapping with VM_PFNMAP is copy-on-write",
            ),
            Self::NeedsOneRun => text(
                "{0:method} maps one physically contiguous run; only the first {3} of the {2} bytes from byte {1} are contiguous",
                "use the method auto or remap-each, map each run separately, or use the kind contiguous",
            )
            .since(
                "no check there: mm/memory.c, remap_pte_range counts up from the first frame number, and would map whatever follows the run",
            ),
            Self::NeedsPages => text(
                "{0:method} needs memory with struct pages of its own, and this {1:kind} buffer has none",
                "use the method auto, or the kind pages or vmalloc",
            )
            .since(
                "mm/memory.c, validate_page_before_insert: EINVAL for a page whose folio has no reference, which most pages of a DMA-coherent block are; include/linux/mm.h, folio_is_longterm_pinnable: a page of a CMA area must never be pinned for long; a region has no pages",
            ),
            Self::NeedsVmalloc => text(
                "vmalloc (remap_vmalloc_range) only maps vmalloc'd memory, and this is a {0:kind} buffer",
                "use the method auto, or the kind vmalloc",
            )
            .since(
                "mm/vmalloc.c, remap_vmalloc_range_partial: EINVAL unless find_vm_area() finds an area that has VM_USERMAP or VM_DMA_COHERENT",
            ),
            Self::NeedsCoherent => text(
                "dma (dma_mmap_coherent) only maps DMA-coherent memory, and this is a {0:kind} buffer",
                "use the method auto, or the kind coherent",
            )
            .since(
                "no check there: kernel/dma/direct.c, dma_direct_mmap turns the DMA address into a frame number, and maps whatever that is",
            ),
            Self::NothingHuge => text(
                "no part of these {0:bytes} can be mapped with an entry of {1:bytes}",
                "use the kind pages or contiguous with at least that size, at an offset and address that are multiples of it, or the method auto",
            )
            .since(
                "mm/memory.c, do_set_pmd: VM_FAULT_FALLBACK unless address and offset are aligned (thp_vma_suitable_order) and the folio has exactly that size (is_pmd_order); mm/huge_memory.c, vmf_insert_folio_pmd: SIGBUS and a warning for another size",
            ),
            Self::KernelRefused => text(
                "the kernel function behind {0:method} returned errno {1}",
                "please report this with the kernel version: the driver should have refused it earlier",
            ),
            Self::NameInvalid => text(
                "the name is empty, or has a byte {1:char} at position {0} that is not allowed there",
                "use 1 to 64 letters, digits, '_', '.' or '-', not starting with '.' or '-'",
            ),
            Self::NameTaken => text(
                "a buffer already has this name",
                "use another name, or remove the existing buffer first (mapbuf remove NAME)",
            ),
            Self::NameUnknown => text(
                "no buffer has this name",
                "mapbuf list shows the existing names",
            ),
            Self::NotOwner => text(
                "the named buffer belongs to user {0}",
                "ask its owner, or run with CAP_SYS_ADMIN",
            ),
            Self::AlreadyNamed => text(
                "the buffer with id {0} already has a name",
                "remove that name first; a buffer has one name at a time",
            ),
            Self::ModeInvalid => text(
                "{0:octal} is not a valid mode for a node: only the bits in 0666 can be set",
                "use 0660, 0640 or 0444, for example",
            ),
            Self::OwnerNotPermitted => text(
                "giving a node to user {0}, group {1} needs CAP_CHOWN",
                "leave the owner and group as the caller's own, or run with CAP_CHOWN",
            ),
            Self::TooManyNames => text(
                "there are {0} named buffers, the most that there can be",
                "remove one, or load the module with a larger max_names",
            ),
            Self::OffsetIsId => text(
                "offset {0:hex} stands for a buffer's id, and leaves no room for a byte offset",
                "read and write at the mmap_offset that ALLOC returned, plus the offset in the buffer",
            ),
            Self::BadSeek => text(
                "the position {0:signed} (whence {1}) is outside the file",
                "on a named node, seek between 0 and its size; on an allocator node, SEEK_END has no meaning",
            ),
            Self::UnalignedWrite => text(
                "a write of {1} bytes at byte {0}, to uncached memory that is written in {2}-bit words",
                "write whole words at multiples of their size, or map the region",
            ),
            Self::RegionIsRam => text(
                "part of the {0:bytes} is System RAM that the kernel uses",
                "reserve it at boot: memmap=SIZE$START on the kernel command line (x86), or a reserved-memory node (device tree)",
            )
            .since(
                "kernel/resource.c, region_intersects: the range touches IORESOURCE_SYSTEM_RAM; arch/x86/mm/ioremap.c, __ioremap_check_ram refuses to map it for the same reason",
            ),
            Self::RegionTaken => text(
                "part of the {0:bytes} is already claimed",
                "/proc/iomem shows by whom (as root); unbind that driver, or declare another range",
            )
            .since(
                "kernel/resource.c, __request_region_locked: EBUSY if the range conflicts with a busy resource",
            ),
            Self::RegionUnmappable => text(
                "the kernel could not map the {0:bytes} for itself with the declared cache mode",
                "declare it uc or wc: /proc/mtrr and /sys/kernel/debug/x86/pat_memtype_list show which mode the machine uses for it",
            )
            .since(
                "arch/x86/mm/ioremap.c, __ioremap_caller, by ioremap() or memremap(): memtype_reserve() finds another cache mode (an MTRR that says uncached, for example), or there is no address space left",
            ),
            Self::RegionUnbacked => text(
                "there is no memory behind the region of {0:bytes}: what is written there does not stay",
                "check the declared start address and size; add 'trust' to the declaration to map it anyway",
            )
            .since(
                "no check there: mm/memory.c, remap_pfn_range maps any frame number, whether or not anything answers there",
            ),
            Self::NotARegion => text(
                "only regions can be probed, and this is a {0:kind} buffer",
                "nothing to do: memory that the kernel allocated is there",
            ),
            Self::ProbeIsRisky => text(
                "this region is device memory: reading it can hang the bus, or take data out of a FIFO",
                "check the device's manual first; then probe with the flag RISK (mapbuf probe --risk NAME)",
            ),
            Self::ProbeWritesDevice => text(
                "this region is device memory, and a probe never writes to a device",
                "probe it with reads alone",
            ),
            Self::ProbeWhileMapped => text(
                "the region is mapped ({0} times), and a probe that writes and restores could undo a write by another program",
                "probe it before it is in use, or with reads alone",
            ),
            Self::RegionNameTaken => text(
                "a buffer or region already has this name",
                "give each region its own name",
            ),
            Self::NeedsDevice => text(
                "{0:operation} needs the node of a bound device, and this is not one",
                "bind the device (mapbuf bind 0000:00:04.0), and open /dev/mapbuf/pci-0000:00:04.0",
            ),
            Self::DeviceGone => text(
                "the device was unbound from the driver, or removed",
                "close this file; when the device is bound again, open its node again",
            ),
            Self::DeviceNotIsolated => text(
                "no IOMMU confines this device, so that it can reach all of memory, and the node was opened without CAP_SYS_RAWIO",
                "boot with an IOMMU (intel_iommu=on, amd_iommu=on), or open the node with CAP_SYS_RAWIO",
            ),
            Self::GroupShared => text(
                "the IOMMU cannot tell device {1:pci} from device {2:pci}, which is bound to another driver (group {0})",
                "unbind that device from its driver, or bind it here too",
            ),
            Self::MaskInvalid => text(
                "{0} is not a valid number of DMA address bits: the range is {1} to {2}",
                "use the number in the device's manual, for example 32",
            ),
            Self::MaskRefused => text(
                "the platform has no DMA with {0}-bit addresses for this device (errno {1})",
                "use more bits, or boot with an IOMMU, which can provide addresses of any width",
            ),
            Self::MaskInUse => text(
                "{0} buffers already have addresses for the device, which may not fit the mask",
                "set the mask first, then allocate and attach",
            ),
            Self::UnknownDirection => text(
                "there is no direction {0}",
                "use to-device (1), from-device (2) or both (3)",
            ),
            Self::CannotAttach => text(
                "{0:kind} memory cannot be attached: it has no pages, or already has addresses for the device",
                "attach cached vmalloc, pages or contiguous memory",
            ),
            Self::AlreadyAttached => text(
                "buffer {0} already has addresses for the device",
                "DETACH it first",
            ),
            Self::NotAttached => text(
                "buffer {0} has no addresses for the device",
                "ATTACH it first",
            ),
            Self::DmaRefused => text(
                "the kernel could not map {0:bytes} for the device (errno {1})",
                "attach less at a time; if the device's mask is narrow and there is no IOMMU, use coherent memory, which is allocated within the mask",
            )
            .since(
                "kernel/dma/mapping.c, __dma_map_sg_attrs: no room in the IOMMU's address space, or in the bounce buffers (swiotlb)",
            ),
            Self::OutOfReach => text(
                "from byte {1} on the buffer lies in memory that the device does not reach with its {0} address bits",
                "allocate it on the device's node after the mask was set, which gives memory that the device reaches, or use coherent memory",
            )
            .since(
                "kernel/dma/direct.h, dma_direct_map_phys: warns (dev_WARN_ONCE) about such memory where there are no bounce buffers, and would copy the bytes where there are",
            ),
            Self::PlacementInvalid => text(
                "{1:hex} at byte {0} of the struct is no place for memory",
                "use for `below` 0 or at least a page, for `align_bits` at most 40, for `boundary_bits` 0 or 12 to 63",
            ),
            Self::PlacementRefused => text(
                "no {0:bytes} were found with addresses below {1:hex}, {2} low bits of 0 at the start, and no run over a multiple of 2^{3} (0: no such wish)",
                "ask for less at a time or for less of it; behind an IOMMU the device's addresses are chosen anew, so ask with FOR_DEVICE there",
            ),
            Self::SyncDirection => text(
                "the sync is {0:direction}, and the buffer is attached {1:direction}",
                "sync in the direction that ATTACH was given, or attach it for both (3)",
            ),
            Self::SyncOutside => text(
                "{1} bytes from byte {0} are an empty range, or run past the end of the buffer at {2}",
                "sync at least one byte, within the buffer",
            ),
            Self::SyncPhase => text(
                "the flags {0:hex} do not say whether this is a begin or an end",
                "set exactly one of BEGIN (1) and END (2)",
            ),
            Self::NoSuchBar => text(
                "the device has no BAR {0}, or nothing is behind it",
                "DEVICE reports the BARs that it has; a 64-bit BAR has the number of its lower half",
            ),
            Self::BarTaken => text(
                "the range of BAR {0} is claimed by another driver",
                "/proc/iomem and /proc/ioports show by which (as root)",
            ),
            Self::BarCache => text(
                "BAR {0} cannot be {1:cache} now",
                "use uncached; write-combined needs a prefetchable BAR that is not in use with another mode",
            ),
            Self::BarWidth => text(
                "an access cannot be {0} bits wide",
                "use 8, 16, 32 or 64, or 0 for 32",
            ),
            Self::PortsNotMappable => text(
                "these {0:bytes} are I/O ports, which cannot be mapped",
                "use pread and pwrite at the buffer's mmap_offset",
            ),
            Self::MsixTable => text(
                "the MSI-X table is in the {1} bytes from byte {0}: a program that writes to it can make the device write anywhere",
                "map it read-only, or map what lies before and after it; set interrupts with IRQ",
            ),
            Self::UnknownIrqKind => text(
                "there is no interrupt kind {0}",
                "use INTx (1), MSI (2) or MSI-X (3)",
            ),
            Self::UnknownIrqAction => text(
                "there is no interrupt action {0}",
                "use set (1), mask (2), unmask (3) or trigger (4)",
            ),
            Self::NoSuchVector => text(
                "there is no {0:irq} vector {1}: there are {2}",
                "DEVICE reports how many the device has; the first vector that is set fixes how many are in use",
            ),
            Self::IrqTaken => text(
                "another open file has set the device's interrupts",
                "unset them in that program, or end it",
            ),
            Self::IrqKindInUse => text(
                "the device now has {1:irq} interrupts, not {0:irq}",
                "unset those first: a device has one kind at a time",
            ),
            Self::IrqNotSet => text(
                "{0:irq} vector {1} is not set",
                "set it with an eventfd first",
            ),
            Self::IrqRefused => text(
                "the kernel could not give the device {0:irq} interrupts (errno {1})",
                "use fewer vectors, or another kind",
            ),
            Self::NotAnEventFd => text(
                "descriptor {0:signed} is not an eventfd",
                "create one with eventfd(2)",
            ),
            Self::CannotMask => text(
                "{0:irq} vectors cannot be masked on this device",
                "mask it in the device's own registers",
            ),
            Self::ConfigOutside => text(
                "{1} bytes at byte {0} are not a field of the configuration space, which has {2} bytes",
                "read or write 1, 2 or 4 bytes at a multiple of that",
            ),
            Self::ConfigReadOnly => text(
                "the {1} bytes at byte {0} of the configuration space cannot be set to {2:hex}: user space can only change the bits {3:hex} there",
                "write the other bits back as they were read; BARs, interrupts and capabilities belong to the kernel",
            ),
            Self::RevocableByFault => text(
                "{0:method} maps everything at once, and this memory goes away with its device",
                "use auto, or one of the fault methods: what they map can be revoked at any time",
            )
            .since(
                "mm/vma.c, __mmap_region: the VMA is linked after its mmap operation, so unmap_mapping_range() would not find the entries until then",
            ),
            Self::ImporterHolds => text(
                "the importing driver cannot give this {0:kind} memory up, and it goes away with its device",
                "import vmalloc, pages or contiguous memory there, and attach that to this device",
            )
            .since(
                "drivers/dma-buf/dma-buf.c, dma_buf_attach_revocable: only an attachment with invalidate_mappings can be revoked",
            ),
            Self::RevocableUnnamed => text(
                "the registers of a device ({0:kind}) cannot have a name: its own node decides who may use them",
                "open the device's node (BAR), or pass the dma-buf on (EXPORT)",
            ),
            Self::BarSharesPage => text(
                "what the base address register leads to, {0:bytes}, shares a page with something else",
                "read and write it: pread and pwrite at the buffer's mmap_offset",
            ),
            Self::WriteBeyondEnd => text(
                "a write at byte {0}, but the buffer ends at byte {1}",
                "write within the buffer: it does not grow",
            ),
        }
    }
}

impl fmt::Display for Refusal {
    /// The reason's sentence with its operands.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.reason.text().sentence;
        while let Some((before, after)) = rest.split_once('{') {
            f.write_str(before)?;
            let (field, after) = after.split_once('}').unwrap_or((after, ""));
            let (index, form) = field.split_once(':').unwrap_or((field, ""));
            let value = index
                .parse::<usize>()
                .ok()
                .and_then(|index| self.operands.get(index));
            match value {
                Some(&value) => operand(f, value, form)?,
                None => write!(f, "{{{field}}}")?,
            }
            rest = after;
        }
        f.write_str(rest)
    }
}

fn operand(f: &mut fmt::Formatter<'_>, value: u64, form: &str) -> fmt::Result {
    let number = u32::try_from(value).ok();
    let name = match form {
        "kind" => number.and_then(Kind::from_number).map(Kind::name),
        "cache" => number.and_then(Cache::from_number).map(Cache::name),
        "method" => number.and_then(Method::from_number).map(Method::name),
        "operation" => number.and_then(Operation::from_number).map(Operation::name),
        "irq" => number.and_then(IrqKind::from_number).map(IrqKind::name),
        "direction" => number.and_then(Direction::from_number).map(Direction::name),
        _ => None,
    };
    match (form, name) {
        (_, Some(name)) => f.write_str(name),
        ("bytes", _) => write!(f, "{}", Bytes(value)),
        ("hex", _) => write!(f, "{value:#x}"),
        ("octal", _) => write!(f, "{value:#o}"),
        // Domain, bus, and the byte that has device and function.
        ("pci", _) => write!(
            f,
            "{:04x}:{:02x}:{:02x}.{}",
            value >> 16,
            value >> 8 & 0xff,
            value >> 3 & 0x1f,
            value & 7
        ),
        ("signed", _) => write!(f, "{}", value as i64),
        ("char", _) => match u8::try_from(value) {
            Ok(byte) => write!(f, "'{}'", byte.escape_ascii()),
            Err(_) => write!(f, "{value:#x}"),
        },
        _ => write!(f, "{value}"),
    }
}

/// A size in bytes, shown as `4 KiB` if it is a whole number of units, else as `4097 bytes`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if self.0 != 0 && self.0 % (1 << shift) == 0 {
                return write!(f, "{} {unit}", self.0 >> shift);
            }
        }
        write!(f, "{} bytes", self.0)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::string::ToString;

    #[test]
    fn every_field_of_every_sentence_is_known() {
        for &reason in Reason::ALL {
            let shown = reason.with(&[1, 2, 3, 0]).to_string();
            assert!(!shown.contains(['{', '}']), "{reason:?}: {shown}");
            assert!(!reason.text().remedy.is_empty(), "{reason:?}");
            assert!(!reason.text().remedy.contains('{'), "{reason:?}");
        }
    }

    /// Every reason for which `policy` refuses a mapping comes from the kernel.
    #[test]
    fn refused_mappings_name_the_kernels_place() {
        for &reason in Reason::ALL {
            let kernel = reason.text().kernel;
            // The first two are about the caller's numbers, the last one about what was not foreseen.
            let expected = (303..314).contains(&reason.number());
            assert!(!expected || kernel.contains(".c, "), "{reason:?}: {kernel}");
            assert!(
                !kernel.contains('{') && !kernel.ends_with('.'),
                "{reason:?}"
            );
        }
    }

    #[test]
    fn operands_are_put_in() {
        let refusal = Reason::OverUserLimit.with(&[4096, 1 << 20, 1 << 30, 1000]);
        assert_eq!(
            refusal.to_string(),
            "4 KiB more would exceed the limit for user 1000: 1 MiB of 1 GiB are in use"
        );
        let refusal = Reason::NeedsPages.with(&[3, 4]);
        assert_eq!(
            refusal.to_string(),
            "insert needs memory with struct pages of its own, and this coherent buffer has none"
        );
        let refusal = Reason::NameInvalid.with(&[0, u64::from(b'.')]);
        assert!(refusal.to_string().contains("a byte '.' at position 0"));
        let refusal = Reason::NoSuchNode.with(&[-5i64 as u64]);
        assert!(refusal.to_string().ends_with("-5"));
        let refusal = Reason::GroupShared.with(&[3, 0x0020, 0x10122]);
        assert_eq!(
            refusal.to_string(),
            "the IOMMU cannot tell device 0000:00:04.0 from device 0001:01:04.2, which is bound to another driver (group 3)"
        );
    }

    #[test]
    fn sizes_are_readable() {
        assert_eq!(Bytes(0).to_string(), "0 bytes");
        assert_eq!(Bytes(4096).to_string(), "4 KiB");
        assert_eq!(Bytes(4097).to_string(), "4097 bytes");
        assert_eq!(Bytes(3 << 30).to_string(), "3 GiB");
    }
}
