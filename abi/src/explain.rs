// SPDX-License-Identifier: GPL-2.0 OR MIT

//! What a refusal means, for a person: one sentence with the values in it, and what to do next.

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
    /// For a refusal that has to do with the memory itself: the place in the kernel that forces it, as `file,
    /// function: what it does there`; what would happen otherwise, where the kernel itself checks nothing. Else empty.
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
                "the struct is {0} bytes long, and its first version already had {1}",
                "put sizeof(the struct) into its first field",
            ),
            Self::StructTooNew => text(
                "the struct is {0} bytes long, this driver knows the first {1}, and the rest is not zero",
                "leave fields zero that this driver does not know, or load a newer driver",
            ),
            Self::StructTooLong => text(
                "the struct says that it is {0} bytes long; no struct has more than {1}",
                "put sizeof(the struct) into its first field, and set the rest of it to zero before the call",
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
                "use the numbers of include/mapbuf.h, or load a newer driver",
            ),
            Self::BadAddress => text(
                "{1} bytes at address {0:hex} cannot be read or written",
                "pass the address of memory of that size which the program may both read and write",
            ),
            Self::NeedsSession => text(
                "{0:operation} works on an allocator node, and this file is the node of a named buffer",
                "open /dev/mapbuf/system for it",
            ),
            Self::IdOnNamedNode => text(
                "the id is {0}, and on the node of a named buffer it must be 0",
                "pass 0, which is the node's own buffer",
            ),
            Self::ReadOnlyOpen => text(
                "{0:operation} changes something, and this file was opened for reading only",
                "open the node with O_RDWR",
            ),
            Self::WriteOnlyOpen => text(
                "{0:operation} gives something to read, and this file was not opened for reading",
                "open the node with O_RDWR",
            ),
            Self::ZeroBytes => text(
                "a buffer of 0 bytes was asked for",
                "ask for at least 1 byte; sizes are rounded up to whole pages",
            ),
            Self::TooManyBytes => text(
                "{0} bytes were asked for; a buffer has at most {1}",
                "ask for less, or for several buffers",
            ),
            Self::UnknownKind => text(
                "there is no kind of memory number {0}",
                "use vmalloc (1), pages (2), contiguous (3) or coherent (4)",
            ),
            Self::KindNotHere => text(
                "this node does not give memory of the kind {0:kind}",
                "QUERY tells which kinds it gives; regions are named when the module is loaded",
            ),
            Self::UnknownCache => text(
                "there is no cache mode number {0}",
                "use cached (0), write-combined (1) or uncached (2)",
            ),
            Self::CoherentIsCached => text(
                "{0:kind} memory cannot be {1:cache} here: DMA on this machine is cache-coherent, and the kernel's own view stays cached",
                "use cached, or a contiguous buffer, whose kernel view can be changed",
            )
            .since(
                "kernel/dma/mapping.c, dma_pgprot: where dev_is_dma_coherent(), the cache mode stays as it is; kernel/dma/direct.c, dma_direct_alloc: such memory keeps its ordinary place in the linear map, where it is cached",
            ),
            Self::NodeNotAllowed => text(
                "memory of NUMA node {0} is not among what the caller's cpuset allows",
                "ask for a node of Mems_allowed_list in /proc/self/status, or for -1: any of them",
            ),
            Self::NoSuchNode => text(
                "there is no memory on a NUMA node {0:signed}",
                "use -1 for any node; /sys/devices/system/node/has_memory lists those that have some",
            ),
            Self::IdTooLarge => text(
                "the id {0} is too large: ids lie below {1}",
                "use a smaller id, or 0 to be given one",
            ),
            Self::IdInUse => text(
                "a buffer of this session has the id {0} already",
                "free it first, use another id, or pass 0 to be given one",
            ),
            Self::NoSuchId => text(
                "no buffer of this session has the id {0}",
                "use an id that ALLOC gave to this open file and that was not freed since; ids of one open file mean nothing to another",
            ),
            Self::TooManyBuffers => text(
                "this session has {0} buffers, which is as many as it may have",
                "free some, open the node once more, or load the module with a larger max_buffers",
            ),
            Self::OverLimit => text(
                "{0:bytes} more would pass the limit for all users together: {1:bytes} of {2:bytes} are taken",
                "free buffers (also those that are still mapped or exported), or raise max_bytes in /sys/module/mapbuf/parameters",
            ),
            Self::OverUserLimit => text(
                "{0:bytes} more would pass the limit for user {3}: {1:bytes} of {2:bytes} are taken",
                "free buffers (also those that are still mapped or exported), or raise max_bytes_per_user in /sys/module/mapbuf/parameters",
            ),
            Self::OutOfMemory => text(
                "the kernel has no {0:bytes} of free memory to give",
                "ask for less, or free memory",
            ),
            Self::NoContiguousMemory => text(
                "the kernel found no physically contiguous run of {0:bytes}",
                "boot with cma=SIZE (larger than the buffer) on the kernel command line to set memory aside for this, or use the kind pages",
            ),
            Self::NoCoherentMemory => text(
                "the kernel found no DMA-coherent run of {0:bytes} (without a CMA area it gives at most {1:bytes})",
                "boot with cma=SIZE (larger than the buffer) on the kernel command line, or use several smaller buffers",
            ),
            Self::Interrupted => text(
                "a fatal signal came when {1:bytes} of {0:bytes} were gathered",
                "nothing: what was gathered has been given back",
            ),
            Self::NodeOfDevice => text(
                "coherent memory comes from the device's own NUMA node, and node {0:signed} was asked for",
                "use -1 (any node), or the kind contiguous",
            ),
            Self::NoDescriptor => text(
                "the process has as many open descriptors as it may",
                "close some, or raise the limit (ulimit -n)",
            ),
            Self::CacheRefused => text(
                "the kernel could not make its own view of this memory {0:cache} (errno {1})",
                "use cached; other modes need x86, and a little free memory for page tables",
            )
            .since(
                "arch/x86/mm/pat/set_memory.c, _set_pages_array: memtype_reserve() of a page, or splitting a huge entry of the linear map, failed; other architectures have no such function",
            ),
            Self::NotADmaBuf => text(
                "descriptor {0:signed} is not that of a dma-buf",
                "pass a descriptor that EXPORT gave",
            ),
            Self::ForeignDmaBuf => text(
                "descriptor {0:signed} is a dma-buf of another driver",
                "map that descriptor itself; only buffers of this driver can be given an id here",
            ),
            Self::OffsetsFull => text(
                "no {0:bytes} are free among the mmap offsets of this session, which reach to 16 TiB",
                "free buffers, or open the node once more: each open file has offsets of its own",
            ),
            Self::OverCgroupLimit => text(
                "{0:bytes} would pass the limit of the caller's memory cgroup: of {1:bytes} only {2:bytes} are left",
                "free memory in the container or service, or raise its limit (memory.max of its cgroup)",
            ),
            Self::NoPagesForDevices => text(
                "a device cannot import memory of kind {0:kind}: it has no pages",
                "let the device import a buffer of another kind; or map the dma-buf's descriptor and copy",
            )
            .since(
                "include/linux/scatterlist.h, sg_set_page: the list that a device is given names struct pages, and a reserved range has none",
            ),
            Self::UnknownMethod => text(
                "there is no method number {0}",
                "QUERY gives a mask of the methods; 0 is auto",
            ),
            Self::NothingAtOffset => text(
                "no buffer lies at the mmap offset {0:hex}",
                "use id << PAGE_SHIFT, or the mmap_offset that ALLOC or OFFSET gave, plus whole pages within the buffer",
            ),
            Self::BeyondEnd => text(
                "{1} bytes from byte {0} of the buffer would pass its end at {2}",
                "map at most what lies between the offset and the buffer's end",
            )
            .since(
                "drivers/dma-buf/dma-buf.c, dma_buf_mmap and dma_buf_mmap_internal: EINVAL where vm_pgoff + vma_pages() passes the dma-buf's size",
            ),
            Self::Executable => text(
                "PROT_EXEC was asked for; buffers are never executable",
                "leave PROT_EXEC out (READ_IMPLIES_EXEC of the process's personality adds it silently)",
            )
            .since(
                "no check there: mm/mmap.c, do_mmap leaves VM_MAYEXEC set on every file system that is not mounted noexec, so a buffer that others write could be run",
            ),
            Self::CowNeedsContiguous => text(
                "MAP_PRIVATE with PROT_WRITE is copy-on-write, which remap_pfn_range makes in one call for the whole mapping only; {1} bytes from byte {0} would take {2}",
                "use the method auto; or MAP_SHARED; or PROT_READ alone; or map each part by itself that takes one call",
            )
            .since(
                "mm/memory.c, get_remap_pgoff (called by remap_pfn_range): EINVAL where the mapping is copy-on-write and the call does not cover it from vm_start to vm_end",
            ),
            Self::CowShowsAddress => text(
                "MAP_PRIVATE with PROT_WRITE of memory without pages puts its physical address into /proc/PID/maps, which needs CAP_SYS_ADMIN",
                "use MAP_SHARED, or PROT_READ alone, or the kind pages or vmalloc, or run with CAP_SYS_ADMIN",
            )
            .since(
                "mm/memory.c, get_remap_pgoff: writes the frame number into vm_pgoff where the mapping is copy-on-write; fs/proc/task_mmu.c, show_map_vma: prints that as the offset",
            ),
            Self::CowNeedsCached => text(
                "MAP_PRIVATE with PROT_WRITE makes private copies, which are cached memory, and this buffer is {0:cache}",
                "use MAP_SHARED, or PROT_READ alone, or a cached buffer",
            )
            .since(
                "mm/memory.c, wp_page_copy: the copy, an ordinary page whose other views are cached, gets an entry with the mapping's vm_page_prot, which is not",
            ),
            Self::CowAtFault => text(
                "{0:method} puts page frames in at fault time, which the kernel does not allow for MAP_PRIVATE with PROT_WRITE",
                "use MAP_SHARED, or PROT_READ alone, or the method auto",
            )
            .since(
                "mm/memory.c, vmf_insert_pfn_prot, and mm/huge_memory.c, vmf_insert_pfn_pmd: BUG_ON where a mapping with VM_PFNMAP is copy-on-write",
            ),
            Self::NeedsOneRun => text(
                "{0:method} maps one physically contiguous run; of the {2} bytes from byte {1} only the first {3} are",
                "use the method auto or remap-each, map each run by itself, or use the kind contiguous",
            )
            .since(
                "no check there: mm/memory.c, remap_pte_range counts on from the first frame number, and would map whatever lies behind the run",
            ),
            Self::NeedsPages => text(
                "{0:method} needs memory that has pages of its own, and this buffer of the kind {1:kind} has none",
                "use the method auto, or the kind pages or vmalloc",
            )
            .since(
                "mm/memory.c, validate_page_before_insert: EINVAL for a page whose folio has no reference, as most of a DMA-coherent block; include/linux/mm.h, folio_is_longterm_pinnable: a page of a CMA area must never be pinned for long; a region has no pages",
            ),
            Self::NeedsVmalloc => text(
                "vmalloc (remap_vmalloc_range) maps vmalloc'd memory only, and this buffer's kind is {0:kind}",
                "use the method auto, or the kind vmalloc",
            )
            .since(
                "mm/vmalloc.c, remap_vmalloc_range_partial: EINVAL unless find_vm_area() finds an area that has VM_USERMAP or VM_DMA_COHERENT",
            ),
            Self::NeedsCoherent => text(
                "dma (dma_mmap_coherent) maps DMA-coherent memory only, and this buffer's kind is {0:kind}",
                "use the method auto, or the kind coherent",
            )
            .since(
                "no check there: kernel/dma/direct.c, dma_direct_mmap makes the frame number of the DMA address, and maps whatever that is",
            ),
            Self::NothingHuge => text(
                "no part of these {0:bytes} can be mapped by an entry of {1:bytes}",
                "use at least that much memory of the kind pages or contiguous, at an offset and address that are multiples of it, or the method auto",
            )
            .since(
                "mm/memory.c, do_set_pmd: VM_FAULT_FALLBACK unless the place suits (thp_vma_suitable_order) and the folio has just that size (is_pmd_order); mm/huge_memory.c, vmf_insert_folio_pmd: SIGBUS and a warning for another size",
            ),
            Self::KernelRefused => text(
                "the kernel function behind {0:method} returned errno {1}",
                "please report it, with the kernel's version: the driver should have known before",
            ),
            Self::NameInvalid => text(
                "the name is empty, or has a byte {1:char} at position {0} that may not be there",
                "use 1 to 64 letters, digits, '_', '.', '-', and no '.' or '-' at the start",
            ),
            Self::NameTaken => text(
                "a buffer has this name already",
                "use another name, or remove the other one first (mapbuf remove NAME)",
            ),
            Self::NameUnknown => text(
                "no buffer has this name",
                "mapbuf list shows the names that there are",
            ),
            Self::NotOwner => text(
                "the named buffer belongs to user {0}",
                "ask its owner, or run with CAP_SYS_ADMIN",
            ),
            Self::AlreadyNamed => text(
                "the buffer with id {0} has a name already",
                "take that name away first; a buffer has one name at a time",
            ),
            Self::ModeInvalid => text(
                "{0:octal} is not a mode for a node: only bits within 0666 can be set",
                "use for example 0660, 0640 or 0444",
            ),
            Self::OwnerNotPermitted => text(
                "a node may not be given to user {0}, group {1} without CAP_CHOWN",
                "leave owner and group to the caller's own, or run with CAP_CHOWN",
            ),
            Self::TooManyNames => text(
                "there are {0} named buffers, which is as many as there may be",
                "remove one, or load the module with a larger max_names",
            ),
            Self::OffsetIsId => text(
                "offset {0:hex} stands for a buffer's id, which has no room for bytes",
                "read and write at the mmap_offset that ALLOC gave, plus the byte's place in the buffer",
            ),
            Self::BadSeek => text(
                "the place sought ({0:signed}, whence {1}) lies outside the file",
                "on a named node seek within 0 and its size; on an allocator node SEEK_END has no meaning",
            ),
            Self::UnalignedWrite => text(
                "a write of {1} bytes at byte {0}, to uncached memory that is written in words of {2} bits",
                "write whole words at multiples of their size, or map the region",
            ),
            Self::RegionIsRam => text(
                "a part of the {0:bytes} is System RAM that the kernel uses",
                "keep the kernel off it at boot: memmap=SIZE$START on the kernel command line (x86), or a reserved-memory node (device tree)",
            )
            .since(
                "kernel/resource.c, region_intersects: the range touches IORESOURCE_SYSTEM_RAM; arch/x86/mm/ioremap.c, __ioremap_check_ram refuses to map it for the same reason",
            ),
            Self::RegionTaken => text(
                "a part of the {0:bytes} is claimed by somebody else",
                "/proc/iomem shows by whom (as root); unbind that driver, or declare another range",
            )
            .since(
                "kernel/resource.c, __request_region_locked: EBUSY where the range conflicts with a busy resource",
            ),
            Self::RegionUnmappable => text(
                "the kernel could not map the {0:bytes} for itself with the cache mode that was declared",
                "declare it uc or wc: /proc/mtrr and /sys/kernel/debug/x86/pat_memtype_list show as what the machine has it",
            )
            .since(
                "arch/x86/mm/ioremap.c, __ioremap_caller, by ioremap() or memremap(): memtype_reserve() finds another cache mode, as where a range register says uncached, or there is no address space",
            ),
            Self::RegionUnbacked => text(
                "there is no memory behind the region of {0:bytes}: what is written to it does not stay",
                "look at the start address and the size that it was declared with; declare it with 'trust' to map it all the same",
            )
            .since(
                "no check there: mm/memory.c, remap_pfn_range maps any frame number, whether anything answers at it or not",
            ),
            Self::NotARegion => text(
                "only regions can be probed, and this buffer's kind is {0:kind}",
                "nothing: memory that the kernel gave is there",
            ),
            Self::ProbeIsRisky => text(
                "this region is a device's memory: reading it can hang the bus, or take data out of a queue",
                "ask the device's manual first; then probe with the flag RISK (mapbuf probe --risk NAME)",
            ),
            Self::ProbeWritesDevice => text(
                "this region is a device's memory, and a probe never writes to a device",
                "probe it by reading alone",
            ),
            Self::ProbeWhileMapped => text(
                "the region is mapped ({0} times), and a probe that writes and restores could undo somebody's write",
                "probe it before it is used, or by reading alone",
            ),
            Self::RegionNameTaken => text(
                "a buffer or region has this name already",
                "give each region a name of its own",
            ),
            Self::NeedsDevice => text(
                "{0:operation} works on the node of a bound device, and this is not one",
                "bind the device (mapbuf bind 0000:00:04.0), and open /dev/mapbuf/pci-0000:00:04.0",
            ),
            Self::DeviceGone => text(
                "the device was unbound from the driver, or taken out",
                "close this file; when the device is bound again, open its node again",
            ),
            Self::DeviceNotIsolated => text(
                "no IOMMU keeps this device from all of the memory, and the node was opened without CAP_SYS_RAWIO",
                "boot with an IOMMU (intel_iommu=on, amd_iommu=on), or open the node with CAP_SYS_RAWIO",
            ),
            Self::GroupShared => text(
                "the IOMMU cannot tell device {1:pci} from device {2:pci}, which another driver has (group {0})",
                "unbind that device from its driver, or bind it here too",
            ),
            Self::MaskInvalid => text(
                "{0} is no number of bits for DMA addresses: they have {1} to {2}",
                "use what the device's manual says, for example 32",
            ),
            Self::MaskRefused => text(
                "the platform has no DMA with addresses of {0} bits for this device (errno {1})",
                "use more bits, or boot with an IOMMU, which has addresses of any size",
            ),
            Self::MaskInUse => text(
                "{0} buffers have addresses for the device already, which may be larger",
                "set the mask first, then allocate and attach",
            ),
            Self::UnknownDirection => text(
                "there is no direction number {0}",
                "use to-device (1), from-device (2) or both (3)",
            ),
            Self::CannotAttach => text(
                "memory of the kind {0:kind} cannot be attached: it has no pages, or addresses for the device already",
                "attach vmalloc, pages or contiguous memory that is cached",
            ),
            Self::AlreadyAttached => text(
                "the buffer {0} has addresses for the device already",
                "DETACH it first",
            ),
            Self::NotAttached => text(
                "the buffer {0} has no addresses for the device",
                "ATTACH it first",
            ),
            Self::DmaRefused => text(
                "the kernel could not map {0:bytes} for the device (errno {1})",
                "attach less at a time; where the device's mask is small and there is no IOMMU, use coherent memory, which comes from below it",
            )
            .since(
                "kernel/dma/mapping.c, __dma_map_sg_attrs: no room in the IOMMU's addresses, or in the bounce buffers (swiotlb)",
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
                "{1} bytes from byte {0} on are none, or pass the buffer's end at {2}",
                "sync at least one byte, within the buffer",
            ),
            Self::SyncPhase => text(
                "flags {0:hex} are neither begin nor end",
                "set exactly one of BEGIN (1) and END (2)",
            ),
            Self::NoSuchBar => text(
                "the device has no base address register {0} with anything behind it",
                "DEVICE tells which it has; one of 64 bits has the number of its lower half",
            ),
            Self::BarTaken => text(
                "what base address register {0} leads to is claimed by another driver",
                "/proc/iomem and /proc/ioports show by whom (as root)",
            ),
            Self::BarCache => text(
                "base address register {0} cannot be {1:cache} now",
                "use uncached; write-combined only where it is prefetchable, and as long as nobody has it otherwise",
            ),
            Self::BarWidth => text(
                "an access of {0} bits is none",
                "use 8, 16, 32 or 64, or 0 for 32",
            ),
            Self::PortsNotMappable => text(
                "these {0:bytes} are ports of a device, which no page table leads to",
                "read and write them: pread and pwrite at the buffer's mmap_offset",
            ),
            Self::MsixTable => text(
                "the MSI-X table is in the {1} bytes from byte {0} on: whoever writes to it has the device write anywhere",
                "map for reading alone, or what lies before and behind; interrupts are set with IRQ",
            ),
            Self::UnknownIrqKind => text(
                "there is no kind of interrupts number {0}",
                "use INTx (1), MSI (2) or MSI-X (3)",
            ),
            Self::UnknownIrqAction => text(
                "there is no action number {0} for interrupts",
                "use set (1), mask (2), unmask (3) or trigger (4)",
            ),
            Self::NoSuchVector => text(
                "there is no vector {1} of the kind {0:irq}: there are {2}",
                "DEVICE tells how many the device has; those that are used are taken with the first one that is set",
            ),
            Self::IrqTaken => text(
                "another open file has set the device's interrupts",
                "have that program unset them, or end it",
            ),
            Self::IrqKindInUse => text(
                "the device has interrupts of the kind {1:irq} now, not {0:irq}",
                "unset those first: a device has one kind at a time",
            ),
            Self::IrqNotSet => text(
                "vector {1} of the kind {0:irq} is not set",
                "set it with an eventfd first",
            ),
            Self::IrqRefused => text(
                "the kernel could not give the device interrupts of the kind {0:irq} (errno {1})",
                "take fewer vectors, or another kind",
            ),
            Self::NotAnEventFd => text(
                "descriptor {0:signed} is no eventfd",
                "make one with eventfd(2)",
            ),
            Self::CannotMask => text(
                "a vector of the kind {0:irq} cannot be masked on this device",
                "mask it in the device's own registers",
            ),
            Self::ConfigOutside => text(
                "{1} bytes at byte {0} are no field of the configuration space, which has {2} bytes",
                "read or write 1, 2 or 4 bytes at a multiple of that",
            ),
            Self::ConfigReadOnly => text(
                "the {1} bytes at byte {0} of the configuration space cannot become {2:hex}: user space may change the bits {3:hex} there",
                "leave the other bits as they read; base address registers, interrupts and capabilities are the kernel's",
            ),
            Self::RevocableByFault => text(
                "{0:method} maps everything at once, and this memory goes when its device does",
                "use auto, or one of the fault methods: what they map can be taken back at any moment",
            )
            .since(
                "mm/vma.c, __mmap_region: the VMA is linked after its mmap operation, so that unmap_mapping_range() at that moment would not find the entries made by it",
            ),
            Self::ImporterHolds => text(
                "the driver that wants to import this cannot let go of it, and the memory goes when its device does",
                "import vmalloc, pages or contiguous memory there, and attach that to this device",
            )
            .since(
                "drivers/dma-buf/dma-buf.c, dma_buf_attach_revocable: only an attachment with invalidate_mappings can be revoked",
            ),
            Self::RevocableUnnamed => text(
                "memory of the kind {0:kind} of a device cannot have a name: it goes when the device does",
                "pass its dma-buf on (EXPORT), or name memory of another kind",
            ),
            Self::BarSharesPage => text(
                "what the base address register leads to, {0:bytes}, shares a page with something else",
                "read and write it: pread and pwrite at the buffer's mmap_offset",
            ),
            Self::WriteBeyondEnd => text(
                "a write at byte {0}, and the buffer ends at byte {1}",
                "write within the buffer: it does not grow",
            ),
        }
    }
}

impl fmt::Display for Refusal {
    /// The reason's sentence, with the operands put in.
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

/// A size in bytes, shown as `4 KiB` where it is a whole number of a unit, else as `4097 bytes`.
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

    /// What `policy` refuses a mapping for, it refuses because of the kernel.
    #[test]
    fn refused_mappings_name_the_kernels_place() {
        for &reason in Reason::ALL {
            let kernel = reason.text().kernel;
            // The first two are about the caller's numbers, the last one about what nobody foresaw.
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
            "4 KiB more would pass the limit for user 1000: 1 MiB of 1 GiB are taken"
        );
        let refusal = Reason::NeedsPages.with(&[3, 4]);
        assert_eq!(
            refusal.to_string(),
            "insert needs memory that has pages of its own, and this buffer of the kind coherent has none"
        );
        let refusal = Reason::NameInvalid.with(&[0, u64::from(b'.')]);
        assert!(refusal.to_string().contains("a byte '.' at position 0"));
        let refusal = Reason::NoSuchNode.with(&[-5i64 as u64]);
        assert!(refusal.to_string().ends_with("-5"));
        let refusal = Reason::GroupShared.with(&[3, 0x0020, 0x10122]);
        assert_eq!(
            refusal.to_string(),
            "the IOMMU cannot tell device 0000:00:04.0 from device 0001:01:04.2, which another driver has (group 3)"
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
