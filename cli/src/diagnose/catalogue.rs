//! Every cause that `mapbuf diagnose` can name: why it has the effect that the program saw, what to do about it, and the
//! words that people search for. `mapbuf explain EINVAL` and the guide's list of symptoms are made from this list.

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It is wrong, or the program could not continue.
    Error,
    /// It works, and costs or endangers something.
    Warning,
}

/// What a person sees of a cause.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Symptom {
    /// `EINVAL`, `SIGBUS`, `oops`, `slow`, or `data` where no error is reported and the bytes are wrong.
    pub sign: &'static str,
    /// The call that fails, or when the signal comes.
    pub call: &'static str,
    /// What the user sees, in the words of the message if there is one.
    pub seen: &'static str,
}

const fn symptom(sign: &'static str, call: &'static str, seen: &'static str) -> Symptom {
    Symptom { sign, call, seen }
}

/// A cause.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cause {
    /// A stable name, for programs and for the guide's pages.
    pub name: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// Why it has this effect, and where in the kernel.
    pub why: &'static str,
    /// What to do about it.
    pub next: &'static [&'static str],
    /// How it shows, the likeliest first.
    pub symptoms: &'static [Symptom],
    /// How to tell it from others without `mapbuf diagnose`.
    pub tell: &'static str,
}

macro_rules! causes {
    ($($constant:ident $name:literal $severity:ident
        why $why:expr;
        next [$($next:expr),* $(,)?];
        seen [$($sign:literal $call:literal $seen:literal),* $(,)?];
        tell $tell:expr;)*) => {
        $(
            #[doc = $name]
            pub const $constant: Cause = Cause {
                name: $name,
                severity: Severity::$severity,
                why: $why,
                next: &[$($next),*],
                symptoms: &[$(symptom($sign, $call, $seen)),*],
                tell: $tell,
            };
        )*
                /// All causes. Among those with the same symptom, the likelier ones come first.
        pub const ALL: &[Cause] = &[$($constant),*];
    };
}

causes! {
    COPY_ON_WRITE "copy-on-write" Error
        why "the mapping is private and may become writable, so it is copy-on-write; for such a mapping the kernel keeps \
             the first frame in vm_pgoff, and accepts only a single call for the whole range (get_remap_pgoff in mm/memory.c)";
        next [
            "the program: map with MAP_SHARED, or map single pages privately",
            "the driver: clear VM_MAYWRITE when the mapping is not writable (vm_flags_clear(vma, VM_MAYWRITE)), so that a \
             private read-only mapping never becomes copy-on-write",
            "the driver: if private writable mappings are wanted, map by page faults (vm_operations_struct.fault), which copy",
        ];
        seen [
            "SIGBUS" "first touch" "Bus error at the first touch; MAP_PRIVATE; the driver maps page by page with remap_pfn_range",
            "EINVAL" "mmap" "mmap: Invalid argument with MAP_PRIVATE, and MAP_SHARED works",
        ];
        tell "the same program with MAP_SHARED works";

    UNALIGNED_OFFSET "unaligned-offset" Error
                why "the offset must be a multiple of the page size; the system call itself checks this, before the file \
             or its \
             driver is asked (mmap in arch/x86/kernel/sys_x86_64.c)";
        next ["the program: map from the start of the page (offset & ~0xfff), and add offset & 0xfff to the pointer"];
        seen ["EINVAL" "mmap" "mmap: Invalid argument; the offset is a register's address, not its page's"];
        tell "offset % 4096 is not 0";

    DRIVER_REFUSED "driver-refused" Error
                why "the kernel's own checks passed and the file's mmap operation was called; none of the kernel's \
             mapping functions \
             failed in it, so the driver itself returned this error";
        next [
                        "compare length, offset, sharing and protection with what the driver allows; most drivers check \
             the size of the \
             buffer and vm_pgoff",
            "the driver's log (dmesg) may say more",
        ];
        seen [
            "EINVAL" "mmap" "mmap: Invalid argument; the driver's mmap checks size, offset or sharing",
            "EINVAL" "mmap" "mmap of /dev/uio0: Invalid argument; the offset is an address, not the number of the region",
            "EINVAL" "mmap" "mmap of /dev/dri/card0 by a 32-bit program: Invalid argument; the offset lost its upper half",
            "ENXIO" "mmap" "mmap: No such device or address, from the driver itself",
            "EPERM" "mmap" "mmap: Operation not permitted, from the driver itself",
            "EBUSY" "mmap" "mmap: Device or resource busy, from the driver itself",
        ];
        tell "sudo mapbuf diagnose -- PROGRAM names the driver's function";

    NOT_FOR_USERS "not-for-users" Error
        why "remap_vmalloc_range maps only areas that were made for user space (VM_USERMAP or VM_DMA_COHERENT), from the \
             start of a page on; vmalloc_user and vmalloc_32_user make such areas, vmalloc and vzalloc do not \
             (remap_vmalloc_range_partial in mm/vmalloc.c)";
        next [
            "the driver: allocate with vmalloc_user, which also clears the memory, and pass the pointer that it returned",
            "the driver: for memory from kmalloc or alloc_pages: remap_pfn_range or vm_insert_page",
        ];
        seen ["EINVAL" "mmap" "mmap: Invalid argument; the driver calls remap_vmalloc_range for memory from vmalloc or vzalloc"];
        tell "/proc/vmallocinfo has user at the end of the line of an area for user space";

    CALL_FAILED "call-failed" Error
        why "the driver passed the error on, so mmap failed with it";
                next ["read what this function checks: its chapter in the guide says"];
        seen [
            "EINVAL" "mmap" "mmap: Invalid argument, passed on from the kernel's mapping function",
            "EBUSY" "mmap" "mmap: Device or resource busy: vm_insert_page found an entry there already",
            "EFAULT" "mmap" "mmap: Bad address: the pages that the driver inserts are outside the mapping",
        ];
        tell "sudo mapbuf diagnose -- PROGRAM shows the function's result";

    CACHE_CONFLICT "cache-conflict" Error
                why "on x86 each physical range has one cache mode (PAT); an ioremap, a memremap or another mapping \
             already gave \
             this range a different one, so the kernel refused to map it (memtype_reserve and reserve_pfn_range or \
             pfnmap_track in arch/x86/mm/pat/memtype.c)";
        next [
            "the driver: use the same mode everywhere: ioremap_wc with pgprot_writecombine, ioremap with \
             pgprot_noncached, memremap(MEMREMAP_WB) with an unchanged vm_page_prot",
                        "/sys/kernel/debug/x86/pat_memtype_list shows which range has which mode",
        ];
        seen [
            "EINVAL" "mmap" "mmap: Invalid argument; dmesg: x86/PAT: … map pfn expected mapping type … got …",
            "EAGAIN" "mmap" "mmap: Resource temporarily unavailable; dmesg: x86/PAT: … conflicting memory types",
        ];
        tell "dmesg | grep x86/PAT";

    BAR_CLAIMED "bar-claimed" Error
                why "a driver has claimed the BAR, and the kernel does not let anything else map it (iomem_is_exclusive in \
             kernel/resource.c, with CONFIG_IO_STRICT_DEVMEM; pci_mmap_resource in drivers/pci/pci-sysfs.c returns EINVAL)";
        next [
            "map it through that driver, or unbind the driver first: echo DEVICE > /sys/bus/pci/drivers/DRIVER/unbind",
                        "for experiments only: boot with iomem=relaxed",
        ];
        seen ["EINVAL" "mmap" "mmap of /sys/bus/pci/devices/…/resource0: Invalid argument"];
        tell "ls -l /sys/bus/pci/devices/DEVICE/driver; grep the BAR in /proc/iomem";

    BEYOND_BAR "beyond-bar" Error
                why "the range goes past the end of the BAR (pci_mmap_fits in drivers/pci/mmap.c)";
        next ["map no more than the size of this BAR in /sys/bus/pci/devices/DEVICE/resource, from an offset within it"];
        seen ["EINVAL" "mmap" "mmap of resource0: Invalid argument; length or offset is larger than the BAR"];
        tell "stat -c %s /sys/bus/pci/devices/DEVICE/resource0";

    ZERO_LENGTH "zero-length" Error
                why "the length of a mapping must not be 0 (do_mmap in mm/mmap.c)";
        next ["check where the length comes from: fstat returns 0 for the files of most devices"];
        seen ["EINVAL" "mmap" "mmap: Invalid argument; the length came from fstat or an ioctl, and is 0"];
        tell "strace -e mmap PROGRAM shows the length";

    NO_SHARING "no-sharing" Error
        why "exactly one of MAP_SHARED, MAP_SHARED_VALIDATE and MAP_PRIVATE is needed (do_mmap in mm/mmap.c)";
                next ["the program: pass MAP_SHARED, which is right for devices"];
        seen ["EINVAL" "mmap" "mmap: Invalid argument; the flags have neither MAP_SHARED nor MAP_PRIVATE"];
        tell "strace -e mmap PROGRAM shows the flags";

    UNALIGNED_ADDRESS "unaligned-address" Error
                why "with MAP_FIXED the address must be a multiple of the page size; for munmap, mprotect, mremap, msync \
             and madvise \
             it always must";
        next ["the program: round the address down to its page; pass munmap the pointer that mmap returned"];
        seen [
            "EINVAL" "mmap" "mmap with MAP_FIXED: Invalid argument",
            "EINVAL" "mprotect" "mprotect: Invalid argument; the address is not at the start of a page",
            "EINVAL" "munmap" "munmap: Invalid argument; the pointer includes the register's offset in its page",
            "EINVAL" "msync" "msync: Invalid argument; the address is that of the data, not of its page",
        ];
        tell "address % 4096 is not 0";

    HUGE_FLAG "huge-flag" Error
                why "MAP_HUGETLB works only for anonymous memory and for files on hugetlbfs (ksys_mmap_pgoff in mm/mmap.c)";
        next ["the program: do not pass MAP_HUGETLB for a device's file; the driver chooses the size of the entries"];
        seen ["EINVAL" "mmap" "mmap with MAP_HUGETLB of a device: Invalid argument"];
        tell "without MAP_HUGETLB it works";

    HUGE_SIZE "huge-size" Error
        why "the kernel has no huge pages of the size that was asked for (MAP_HUGE_SHIFT; hstate_sizelog in \
             include/linux/hugetlb.h)";
        next [
            "the program: ask for a size that is listed in /sys/kernel/mm/hugepages, or leave the size out (the default size)",
            "1 GiB pages need a processor with pdpe1gb, and are best set aside at boot: hugepagesz=1G hugepages=N",
        ];
        seen ["EINVAL" "mmap" "mmap with MAP_HUGETLB and MAP_HUGE_1GB: Invalid argument"];
        tell "ls /sys/kernel/mm/hugepages";

    HUGE_PAGES_GONE "no-huge-pages" Error
                why "hugetlb pages are set aside in advance, and there are not enough (hugetlb_acct_memory and \
             alloc_hugetlb_folio in \
             mm/hugetlb.c): mmap fails with ENOMEM, or, if it did not reserve them, the first touch is a SIGBUS";
        next [
            "set some aside: echo 64 > /proc/sys/vm/nr_hugepages, and look at HugePages_Free in /proc/meminfo",
                        "or use ordinary memory with madvise(MADV_HUGEPAGE), for which nothing is set aside",
        ];
        seen [
            "ENOMEM" "mmap" "mmap with MAP_HUGETLB: Cannot allocate memory",
            "SIGBUS" "first touch" "Bus error in memory of hugetlbfs or MAP_HUGETLB",
        ];
        tell "grep Huge /proc/meminfo";

    HUGE_ALIGNMENT "huge-alignment" Error
                why "memory of huge pages is mapped and unmapped in whole huge pages: offsets in a file on hugetlbfs, and \
             the address and \
             length of munmap, must be multiples of their size; mmap rounds a length up, munmap does not \
             (hugetlbfs_file_mmap in \
             fs/hugetlbfs/inode.c, hugetlb_vm_op_split in mm/hugetlb.c)";
        next ["the program: round offset and length up to the huge page's size (Hugepagesize in /proc/meminfo, statfs of the file)"];
        seen [
            "EINVAL" "munmap" "munmap: Invalid argument, for memory that was mapped with MAP_HUGETLB and a length that is \
             not a multiple of 2 MiB",
            "EINVAL" "mmap" "mmap: Invalid argument, for a file on hugetlbfs with an offset of 4096",
        ];
        tell "length % Hugepagesize is not 0";

    HUGE_GROUP_LIMIT "huge-group-limit" Error
                why "huge pages are free, but over the limit of the program's cgroup: mmap only reserves them, and unless \
             the limit is on \
             reservations (rsvd), the first touch is a SIGBUS (alloc_hugetlb_folio in mm/hugetlb.c)";
        next [
            "raise the limit: hugetlb.SIZE.max of the cgroup (docker and Kubernetes: limits of hugepages-SIZE)",
                        "or set hugetlb.SIZE.rsvd.max too, so that mmap fails with ENOMEM",
        ];
        seen ["SIGBUS" "first touch" "Bus error in huge pages, in a container, although HugePages_Free is not 0"];
        tell "hugetlb.2MB.events in the program's cgroup counts it (max)";

    OUT_OF_MEMORY "out-of-memory" Error
                why "the machine, or the program's memory cgroup, ran out of memory, and the kernel killed the program \
             (oom_kill_process in \
             mm/oom_kill.c): memory is allocated at the first touch, so mmap succeeded";
        next [
            "the program: touch less, or map in pieces; with MAP_POPULATE mmap does not fail either",
            "raise the limit: memory.max of the cgroup, docker run --memory, MemoryMax= of systemd",
        ];
        seen ["SIGKILL" "some pages in" "Killed (exit status 137) while memory is touched; dmesg: Memory cgroup out of \
             memory, Out of memory"];
        tell "dmesg | grep -i 'killed process'; memory.events of the cgroup counts it (oom_kill)";

    NO_SYNC "no-sync" Error
                why "MAP_SYNC is for persistent memory: a file on a file system that is mounted with dax, or a devdax \
             device \
             (MAP_SHARED_VALIDATE in do_mmap of mm/mmap.c)";
        next ["the program: map without MAP_SYNC and call msync, or mount with -o dax on a pmem device"];
        seen ["EOPNOTSUPP" "mmap" "mmap with MAP_SYNC: Operation not supported"];
        tell "without MAP_SYNC it works";

    PORT_BAR "port-bar" Error
                why "the BAR has I/O ports, which are not memory: x86 has separate instructions for them, and the kernel \
             does not map \
             them (pci_mmap_resource_range; arch_can_pci_mmap_io is 0 on x86)";
        next [
            "read and write the resourceN file instead of mapping it (pread, pwrite of 1, 2 or 4 bytes)",
                        "most devices have the same registers in a memory BAR as well",
        ];
        seen [
            "EINVAL" "mmap" "mmap of resource0 of a PCI device: Invalid argument, and lspci calls the region I/O ports",
            "ENODEV" "mmap" "mmap of resource2 of a PCI device: No such device, and lspci calls the region I/O ports",
        ];
                tell "lspci -v prints I/O ports at …; the third number of its line in …/resource has 0x100 set";

    NO_ADVICE "no-advice" Error
                why "for this memory, madvise and msync accept only what makes sense: frames that a device's driver \
             mapped by number cannot \
             be given back or merged (madvise_vma_behavior in mm/madvise.c), and MS_SYNC and MS_ASYNC exclude each other";
        next ["the program: leave out the call for a device's memory; munmap gives the memory back"];
        seen [
            "EINVAL" "madvise" "madvise of a device's mapping: Invalid argument",
            "EINVAL" "msync" "msync: Invalid argument",
        ];
        tell "VmFlags in /proc/PID/smaps has pf or io";

    OFFSET_IS_ID "offset-is-id" Error
        why "vm_pgoff is read as an offset inside the buffer, in pages (dma_common_mmap in kernel/dma/ops_helpers.c, \
                          dma_direct_mmap in kernel/dma/direct.c, __vm_map_pages in mm/memory.c), and this offset is \
                          beyond the buffer's end";
        next [
            "if the driver takes the offset for a buffer's id: look the buffer up, then set vma->vm_pgoff = 0 before the \
             call \
             (or use vm_map_pages_zero)",
            "if the driver takes it for a place in the buffer: leave vm_pgoff as it is, and map pages that the buffer has",
        ];
        seen [
            "ENXIO" "mmap" "mmap: No such device or address; the driver uses dma_mmap_coherent or vm_map_pages",
            "EINVAL" "mmap" "mmap: Invalid argument for an imported dma-buf; the importer passes its own offset to dma_buf_mmap",
            "data" "mmap" "unexpected data: a small id was taken for a page of the buffer",
        ];
        tell "with offset 0 it works";

    BEYOND_MAPPED "beyond-mapped" Error
        why "there is no entry for this page, and no fault handler that could make one, so the fault is a SIGBUS \
             (do_fault in \
             mm/memory.c)";
        next [
            "the program: map no more than the buffer has, from an offset within it",
                        "the driver: compare offset + length with the buffer's size in mmap, and return -EINVAL where \
             they go past its end",
        ];
        seen ["SIGBUS" "some pages in" "Bus error some pages into the mapping; mmap succeeded"];
        tell "the first pages can be read";

    BEYOND_BUFFER "beyond-buffer" Error
                why "the program asked for more than the buffer has, and the mapping function checked (dma_mmap_attrs, \
             vm_map_pages, remap_vmalloc_range and \
             vm_iomap_memory compare with the size that they are given)";
        next ["the program: map at most what the buffer has, from an offset within it"];
        seen [
            "ENXIO" "mmap" "mmap: No such device or address; the length goes past the end of the buffer",
            "EINVAL" "mmap" "mmap: Invalid argument from vm_iomap_memory; the length goes past the end of the resource",
        ];
        tell "a shorter length works";

    SUCCESS_TAKEN_FOR_FAILURE "success-taken-for-failure" Error
                why "vmf_insert_pfn and similar functions return VM_FAULT_NOPAGE (0x100) on success, not 0; a handler \
             that takes \
             every value but 0 for an error turns success into SIGBUS (vm_insert_pfn of 4.19 returned 0)";
        next ["the driver: return what vmf_insert_pfn returned: return vmf_insert_pfn(vma, vmf->address, pfn)"];
        seen ["SIGBUS" "first touch" "Bus error at the first touch; the fault handler was ported from vm_insert_pfn of \
             4.19 to vmf_insert_pfn"];
                tell "the handler compares the result of vmf_insert_pfn with 0";

    IGNORED_ERROR "ignored-error" Error
                why "the driver did not check the result, so the program got an address with nothing behind it: its first \
             touch \
             raises SIGBUS";
        next [
            "the driver: return what the mapping function returned; the kernel then undoes what was mapped, and mmap fails",
        ];
        seen ["SIGBUS" "first touch" "Bus error at the first touch; mmap succeeded"];
                tell "the driver's mmap does not check what remap_pfn_range or vm_insert_page returns";

    FAULT_REFUSED "fault-refused" Error
                why "the driver's fault handler returned VM_FAULT_SIGBUS for this page: the driver has no memory there";
        next [
            "the program: touch only what the buffer has",
                        "the driver: refuse in mmap what the handler would refuse later, and check vmf->pgoff, which \
             includes the mapping's \
             offset",
        ];
        seen ["SIGBUS" "some pages in" "Bus error some pages into a mapping with a fault handler"];
        tell "the first pages can be read";

    FLAG_MISSING "pfn-flag-missing" Error
                why "a frame may be inserted by number only if the VMA has the flag for it: vmf_insert_pfn needs \
             VM_PFNMAP, or VM_MIXEDMAP \
             for frames without a page (else BUG_ON), vmf_insert_mixed needs VM_MIXEDMAP (else VM_FAULT_SIGBUS) \
             (mm/memory.c)";
        next [
            "the driver: in mmap, vm_flags_set(vma, VM_PFNMAP | VM_IO | VM_DONTEXPAND | VM_DONTDUMP) for vmf_insert_pfn, \
             or \
             VM_MIXEDMAP for vmf_insert_mixed",
        ];
        seen [
            "SIGBUS" "first touch" "Bus error at the first touch; the handler uses vmf_insert_mixed",
            "oops" "first touch" "kernel BUG at mm/memory.c in vmf_insert_pfn_prot; the program cannot be killed (state D)",
        ];
        tell "the driver's mmap sets no VM_PFNMAP or VM_MIXEDMAP";

    PRIVATE_PFN "copy-on-write-at-fault" Error
                why "a fault handler cannot insert a frame by number into a private mapping that may become writable: \
             there is no page \
             to copy, and the kernel stops with BUG_ON (vmf_insert_pfn_prot in mm/memory.c)";
        next [
            "the driver: in mmap, refuse mappings for which (vm_flags & (VM_SHARED | VM_MAYWRITE)) == VM_MAYWRITE",
            "the program: MAP_SHARED",
        ];
        seen ["oops" "first touch" "kernel BUG at mm/memory.c in vmf_insert_pfn_prot; MAP_PRIVATE"];
        tell "with MAP_SHARED it works";

    INSERT_FAILED "insert-failed" Error
        why "the frame could not be inserted: the address is outside the VMA, or the frame's number is not one of this \
             machine's (vmf_insert_pfn_prot in mm/memory.c)";
        next [
                        "the driver: insert at vmf->address; if you compute the address from vmf->pgoff, subtract vma->vm_pgoff first",
            "the driver: check the frame's number (a DMA address or a kernel address is not one)",
        ];
        seen ["SIGBUS" "first touch" "Bus error from a fault handler, only with an offset"];
        tell "with offset 0 it works";

    FILE_END "file-end" Error
                why "the page is beyond the end of the file (filemap_fault in mm/filemap.c, shmem_fault in mm/shmem.c)";
        next ["the program: make the file as long as the mapping (ftruncate) before touching it"];
        seen ["SIGBUS" "some pages in" "Bus error in the mapping of an ordinary file, which is shorter than the mapping"];
        tell "stat -c %s FILE";

    FILE_UNREADABLE "file-unreadable" Error
        why "the page is within the file, and its file system failed to read it: a page fault cannot return EIO, so it is a \
             SIGBUS (filemap_fault in mm/filemap.c)";
        next [
            "read the same bytes with read(2), which returns the error, and look at the kernel's log for the disk or the server",
            "the program: read files on removable, network or user-space file systems instead of mapping them",
        ];
        seen ["SIGBUS" "some pages in" "Bus error in a mapped file that is long enough; the disk or the network file system has errors"];
        tell "dd if=FILE of=/dev/null: Input/output error";

    FILESYSTEM_FULL "filesystem-full" Error
                why "the page is within the file, but the file is sparse there, and the file system has no room for it: a \
             write to a \
             mapping cannot return ENOSPC, so it is a SIGBUS (shmem_get_folio_gfp in mm/shmem.c, page_mkwrite of other file systems)";
        next [
            "the program: reserve the room first with posix_fallocate, which returns ENOSPC",
            "make the file system larger: mount -o remount,size=… for a tmpfs, docker run --shm-size=… for /dev/shm",
        ];
        seen ["SIGBUS" "some pages in" "Bus error in shared memory (/dev/shm, a tmpfs); ftruncate succeeded; in a container"];
        tell "df /dev/shm";

    USERFAULTFD "userfaultfd" Error
        why "the range is registered with a userfaultfd, and the fault was not answered: the descriptor has the feature \
             SIGBUS, or \
             is closed (handle_userfault)";
        next ["fill the page before it is touched (UFFDIO_COPY, UFFDIO_ZEROPAGE), or unregister the range"];
        seen ["SIGBUS" "first touch" "Bus error in memory that is registered with userfaultfd"];
        tell "VmFlags in /proc/PID/smaps has um, uw or ui";

    MEMORY_FAILURE "memory-failure" Error
                why "the memory itself failed, and the kernel took it out of use (BUS_MCEERR_AR; kill_proc in mm/memory-failure.c)";
        next ["read the kernel's log and rasdaemon's; replace the memory module"];
        seen ["SIGBUS" "any time" "Bus error; dmesg: Memory failure, Machine check"];
        tell "si_code is BUS_MCEERR_AR or BUS_MCEERR_AO; HardwareCorrupted in /proc/meminfo";

    REVOKED "revoked" Error
                why "the page had an entry, which was removed: the driver unmapped it (unmap_mapping_range, as when a \
             device goes away), \
             or madvise(MADV_DONTNEED) did, and no fault handler puts it back";
        next [
            "the program: treat a SIGBUS as the loss of the device, or open it again",
            "the driver: give the mapping a fault handler if entries are to come back",
        ];
        seen ["SIGBUS" "later" "Bus error in a mapping that worked before; the device was unplugged or reset"];
        tell "it worked before";

    MAP_FAILED_USED "map-failed-used" Error
        why "mmap failed, and the program used its result, MAP_FAILED ((void *)-1), as an address";
        next ["the program: compare with MAP_FAILED (not with NULL) and print errno; the failed call itself is above"];
        seen [
            "SIGSEGV" "first touch" "Segmentation fault at 0xffffffffffffffff right after mmap",
        ];
        tell "strace -e mmap PROGRAM shows the failed call";

    ERROR_WITHOUT_MINUS "error-without-minus" Error
        why "the driver's mmap returned a positive error number: only negative ones are errors, so the kernel took it for \
             the mapping's address and passed it to the program (mmap_region in mm/vma.c)";
        next [
            "the driver: return -EINVAL instead of EINVAL (and the like), and 0 for success",
            "the program: the real cause is what the driver meant to refuse: length, offset, sharing or protection",
        ];
        seen [
            "SIGSEGV" "first touch" "Segmentation fault at a small address like 0x16; mmap did not return MAP_FAILED",
        ];
        tell "strace -e mmap PROGRAM shows a small number as the result: mmap(...) = 0x16";

    KERNELS_OWN_ERROR "kernels-own-error" Error
        why "the driver returned an error number that the kernel keeps to itself (512 and above, include/linux/errno.h); \
             programs know no such number: perror prints Unknown error 524";
        next [
            "the program: the driver cannot map this, or not as it was asked for: compare length, offset, sharing and \
             protection with what it allows; a BPF map needs BPF_F_MMAPABLE when it is made",
            "the driver: return an error that programs know: EOPNOTSUPP for ENOTSUPP, ENOTTY for ENOIOCTLCMD, EAGAIN for \
             EPROBE_DEFER, EINTR for the ERESTART ones",
        ];
        seen ["ENOTSUPP" "mmap" "mmap: Unknown error 524"];
        tell "strace -e mmap PROGRAM shows the number and its name";

    PAST_THE_END "past-the-end" Error
        why "the address is past the end of the mapping, where nothing is mapped";
        next [
            "the program: an offset in bytes that is added to a pointer to words of 4 bytes counts four times; add it to a char \
             pointer, or divide it by the word's size",
            "the program: or map more: the length of mmap is in bytes",
        ];
        seen ["SIGSEGV" "some pages in" "Segmentation fault behind the end of a device's mapping"];
        tell "the fault's address minus what mmap returned is more than the mapping's length";

    UNMAPPED "unmapped" Error
                why "the address was in a mapping that the program itself removed before";
        next ["the program: keep the mapping until the last access, in every thread"];
        seen ["SIGSEGV" "later" "Segmentation fault in memory that was mapped before: used after munmap"];
        tell "strace -f -e mmap,munmap,mremap PROGRAM";

    NOT_INHERITED "not-inherited" Error
                why "the mapping belongs to the parent and was not copied at fork (VM_DONTCOPY in dup_mmap of mm/mmap.c): \
             libraries for \
             RDMA and graphics set this on purpose";
        next [
            "the program: map the device again in the child, or use it in one process only",
            "madvise(MADV_DOFORK) undoes it, if the library that set it can cope with that",
        ];
        seen ["SIGSEGV" "after fork" "Segmentation fault in a child at an address of the parent's device mapping"];
        tell "VmFlags in the parent's /proc/PID/smaps has dc";

    PROTECTION_CHANGED "protection-changed" Error
                why "mprotect changed the mapping's permissions, which no longer allow this access";
        next ["the program: restore the permission before the access"];
        seen ["SIGSEGV" "later" "Segmentation fault in a mapping after mprotect"];
        tell "strace -f -e mprotect PROGRAM";

    WRITE_PROTECTED "write-protected" Error
                why "the mapping's permissions do not allow this access";
        next [
            "the program: open the file for writing, and map it with PROT_WRITE (PROT_READ for a read, PROT_EXEC for a jump)",
        ];
        seen ["SIGSEGV" "a write" "Segmentation fault at a write to a device's mapping"];
        tell "the line of /proc/PID/maps has no w";

    PROTECTION_KEY "protection-key" Error
                why "the memory has a protection key that does not allow this thread to access it (SEGV_PKUERR)";
        next ["the program: call pkey_set(3) in this thread; a new thread starts without the rights"];
        seen ["SIGSEGV" "any time" "Segmentation fault with si_code SEGV_PKUERR"];
        tell "ProtectionKey in /proc/PID/smaps";

    READ_ONLY_OPEN "read-only-open" Error
                why "every mapping needs a file that was opened for reading, and a shared writable one a file that was \
             also opened for \
             writing (do_mmap in mm/mmap.c)";
        next ["the program: open with O_RDWR (O_WRONLY is not enough), or map with PROT_READ only"];
        seen ["EACCES" "mmap" "mmap: Permission denied; the file was opened with O_RDONLY or O_WRONLY"];
        tell "grep flags /proc/PID/fdinfo/N";

    NEVER_WRITABLE "never-writable" Error
        why "VM_MAYWRITE is cleared: the file was opened for reading only, or the driver cleared it (mprotect_fixup in \
             mm/mprotect.c)";
                next ["map it again, shared, through a file that was opened for writing"];
        seen ["EACCES" "mprotect" "mprotect(PROT_WRITE): Permission denied"];
        tell "VmFlags in /proc/PID/smaps has no mw";

    NO_GROWTH "no-growth" Error
                why "mappings of devices cannot grow (VM_DONTEXPAND, VM_PFNMAP; mm/mremap.c)";
        next ["map the rest as a new mapping"];
        seen ["EFAULT" "mremap" "mremap: Bad address"];
        tell "VmFlags in /proc/PID/smaps has de or pf";

    NOT_MAPPED "not-mapped" Error
        why "part of the range has no mapping";
                next ["find the hole in /proc/PID/maps"];
        seen [
            "ENOMEM" "mprotect" "mprotect: Cannot allocate memory: there is a hole in the range",
            "EFAULT" "mremap" "mremap: Bad address: nothing is mapped there",
        ];
        tell "cat /proc/PID/maps";

    NO_MMAP "no-mmap" Error
        why "the file has no mmap operation (do_mmap in mm/mmap.c; for a file of /proc EIO, from pde_mmap in fs/proc/inode.c)";
        next [
            "is it the right node? Sockets, pipes, terminals, directories and most files of proc and sysfs cannot be mapped",
            "the driver: set .mmap in its file_operations",
        ];
        seen [
            "ENODEV" "mmap" "mmap: No such device; the file cannot be mapped",
            "EIO" "mmap" "mmap of a file in /proc: Input/output error",
        ];
        tell "ls -l /proc/PID/fd/N";

    BAD_DESCRIPTOR "bad-descriptor" Error
        why "the descriptor is not open; -1 is what a failed open returned";
                next ["the program: check what open returned; does the node exist, and may this user open it?"];
        seen ["EBADF" "mmap" "mmap: Bad file descriptor"];
        tell "strace -e openat,mmap PROGRAM";

    STRICT_DEVMEM "strict-devmem" Error
                why "/dev/mem maps neither RAM nor ranges that a driver has claimed (CONFIG_STRICT_DEVMEM and \
             CONFIG_IO_STRICT_DEVMEM; \
             range_is_allowed in include/linux/io.h), and nothing at all in a locked down kernel";
        next [
            "map the device through its driver, UIO or VFIO",
                        "for memory of your own: reserve it at boot (memmap=SIZE$START), so that it is not System RAM",
            "for experiments only: boot with iomem=relaxed",
        ];
        seen ["EPERM" "mmap" "mmap of /dev/mem: Operation not permitted"];
        tell "grep the address in /proc/iomem: System RAM, or a driver's name";

    LOCK_LIMIT "lock-limit" Error
        why "the memory would be locked (MAP_LOCKED, mlockall(MCL_FUTURE)), and RLIMIT_MEMLOCK does not allow it \
             (mlock_future_ok \
             in mm/mmap.c; with a limit of 0 EPERM)";
        next ["raise it: ulimit -l, LimitMEMLOCK= of systemd, or CAP_IPC_LOCK; or do not lock"];
        seen [
            "EAGAIN" "mmap" "mmap: Resource temporarily unavailable, with MAP_LOCKED or after mlockall",
            "EPERM" "mmap" "mmap with MAP_LOCKED: Operation not permitted",
            "ENOMEM" "mlock" "mlock: Cannot allocate memory",
            "EPERM" "mlock" "mlock: Operation not permitted",
        ];
        tell "ulimit -l; grep VmLck /proc/PID/status";

    TOO_MANY_MAPPINGS "too-many-mappings" Error
                why "a process may have at most vm.max_map_count mappings (do_mmap in mm/mmap.c)";
        next ["raise it: sysctl vm.max_map_count=…; or map larger pieces"];
        seen ["ENOMEM" "mmap" "mmap: Cannot allocate memory, after tens of thousands of mappings"];
        tell "wc -l /proc/PID/maps; sysctl vm.max_map_count";

    ADDRESS_SPACE_LIMIT "address-space-limit" Error
        why "RLIMIT_AS, or RLIMIT_DATA for private writable memory, does not allow so much (may_expand_vm in mm/mmap.c)";
        next ["raise it: ulimit -v, ulimit -d"];
        seen ["ENOMEM" "mmap" "mmap: Cannot allocate memory, under ulimit -v"];
        tell "ulimit -v; grep VmSize /proc/PID/status";

    OVERCOMMIT "overcommit" Error
                why "private writable memory is charged to the total that the kernel may promise, and that is used up \
             (__vm_enough_memory in mm/util.c)";
        next [
            "the program: map it shared, or only for reading, or with MAP_NORESERVE",
            "compare CommitLimit with Committed_AS in /proc/meminfo; sysctl vm.overcommit_memory",
        ];
        seen ["ENOMEM" "mmap" "mmap of private writable memory: Cannot allocate memory, although memory is free"];
        tell "grep Commit /proc/meminfo";

    NO_ADDRESS_SPACE "no-address-space" Error
        why "the address space has no free range of that length";
        next [
                        "a 32-bit program has 3 or 4 GiB in total; a length of many terabytes is a miscalculation",
            "MAP_32BIT: leave it out if the addresses need not be small",
        ];
        seen [
            "ENOMEM" "mmap" "mmap of a huge length: Cannot allocate memory",
            "ENOMEM" "mmap" "mmap with MAP_32BIT: Cannot allocate memory",
        ];
        tell "strace -e mmap PROGRAM shows the length";

    OFFSET_WRAPS "offset-wraps" Error
                why "offset plus length is beyond the largest offset that the file may have (do_mmap, file_mmap_ok in mm/mmap.c)";
        next ["check how the offset is computed: a sign-extended 32-bit number (int instead of off_t), or an id shifted too far"];
        seen ["EOVERFLOW" "mmap" "mmap: Value too large for defined data type"];
        tell "strace -e mmap PROGRAM shows the offset";

    FIXED_EXISTS "fixed-exists" Error
                why "MAP_FIXED_NOREPLACE was passed, and something is mapped there";
        next ["choose another address, or let the kernel choose"];
        seen ["EEXIST" "mmap" "mmap with MAP_FIXED_NOREPLACE: File exists"];
        tell "cat /proc/PID/maps";

    LOW_ADDRESS "low-address" Error
        why "the address is below vm.mmap_min_addr, which protects the kernel from null pointers (cap_mmap_addr in \
             security/commoncap.c)";
        next ["choose another address; sysctl vm.mmap_min_addr"];
        seen ["EPERM" "mmap" "mmap with MAP_FIXED at a low address: Operation not permitted"];
        tell "sysctl vm.mmap_min_addr";

    NO_EXEC "no-exec" Error
                why "a file cannot be mapped executable from a file system that is mounted noexec (do_mmap in mm/mmap.c)";
        next ["leave PROT_EXEC out, or mount without noexec"];
        seen [
            "EPERM" "mmap" "mmap with PROT_EXEC: Operation not permitted",
            "EACCES" "mprotect" "mprotect(PROT_EXEC): Permission denied",
        ];
        tell "findmnt -T FILE";

    SEALED "sealed" Error
        why "the memfd has a seal against writing (F_SEAL_WRITE, F_SEAL_FUTURE_WRITE; memfd_check_seals_mmap in mm/memfd.c)";
        next ["map it with PROT_READ, or privately"];
        seen ["EPERM" "mmap" "mmap of a memfd: Operation not permitted"];
        tell "fcntl(fd, F_GET_SEALS)";

    SEALED_MAPPING "sealed-mapping" Error
        why "the mapping is sealed (mseal, from 6.10 on): nobody can unmap, move or shrink it, change its protection, map over \
             it or discard its contents as long as the process runs (vma_is_sealed in mm/vma.h; Documentation/userspace-api/mseal.rst)";
        next ["find out who seals it: the program, the C library (glibc.rtld sealing of executables), or a sandbox; leave it alone, or do \
               not seal it"];
        seen ["EPERM" "later" "munmap, mprotect or mremap: Operation not permitted"];
        tell "VmFlags in /proc/PID/smaps has sl";

    SWAP_FILE "swap-file" Error
        why "a file that is in use as swap (swapon) cannot be mapped shared and writable (IS_SWAPFILE in do_mmap, mm/mmap.c)";
        next ["swapoff FILE first, or map it with PROT_READ, or privately"];
        seen ["ETXTBSY" "mmap" "mmap: Text file busy"];
        tell "cat /proc/swaps";

    WRITE_EXECUTE "write-and-execute" Error
        why "the process may not have memory that is both writable and executable, nor make writable memory executable: \
             PR_SET_MDWE was set (mmap_region in mm/vma.c; MemoryDenyWriteExecute= of systemd), or SELinux \
             forbids it (execmem)";
        next [
            "the program: map it twice (memfd_create), once writable and once executable, or leave PROT_EXEC out",
            "the service: MemoryDenyWriteExecute=no; SELinux: a policy that allows execmem",
        ];
        seen [
            "EACCES" "mmap" "mmap with PROT_WRITE and PROT_EXEC: Permission denied, in a service",
            "EACCES" "mprotect" "mprotect with PROT_EXEC of ordinary memory: Permission denied, in a service",
        ];
        tell "systemctl show -p MemoryDenyWriteExecute SERVICE; dmesg | grep -i execmem";

    SECURITY_MODULE "security-module" Error
                why "the kernel's own checks do not refuse this, and the driver was not called: a security module \
             (SELinux, AppArmor, \
             Landlock) or seccomp may have refused it";
        next ["read the audit log: dmesg | grep -i -e avc -e apparmor; ausearch -m avc"];
        seen [
            "EACCES" "mmap" "mmap: Permission denied although the file was opened for reading and writing",
            "EPERM" "mmap" "mmap: Operation not permitted by a security module",
        ];
        tell "dmesg | grep -i -e avc -e apparmor";

    SLAB_MEMORY "slab-memory" Error
                why "the frame belongs to the slab allocator: an object from kmalloc can start anywhere in its page, and \
             shares the page \
             with others; the whole page is mapped, so the program sees the object at its offset in the page, and \
             unrelated \
             objects beside it";
        next [
            "the driver: allocate whole pages for memory that is mapped (alloc_pages, dma_alloc_coherent, vmalloc_user), \
             never with \
             kmalloc or from a kmem_cache",
        ];
        seen ["data" "mmap" "wrong data at the start of the mapping, and the driver's bytes at some offset; memory from kmalloc"];
        tell "bit 7 (SLAB) of /proc/kpageflags for the frame";

    PAGE_NOT_INSERTABLE "page-not-insertable" Error
                why "vm_insert_page accepts only pages that are reference-counted and not in other use: no slab memory, \
             no anonymous \
             memory, no page whose count is 0 (validate_page_before_insert in mm/memory.c)";
        next [
            "the driver: allocate with __GFP_COMP, or page by page (alloc_page), or split the block (split_page)",
            "the driver: or map the block by number (remap_pfn_range), and memory from dma_alloc_coherent with dma_mmap_coherent",
        ];
        seen [
            "EINVAL" "mmap" "mmap: Invalid argument from vm_insert_page, at the second page of a block from \
             __get_free_pages or \
                             dma_alloc_coherent",
            "SIGBUS" "first touch" "Bus error from a fault handler that calls vm_insert_page; the block has no __GFP_COMP",
        ];
        tell "the first page can be inserted, the second cannot";

    UNALIGNED_MEMORY "unaligned-memory" Warning
        why "only whole pages can be mapped: vm_iomap_memory rounds the start down to its page \
             (mm/memory.c), so the memory begins inside the mapping";
        next [
                        "the program: add the start's offset in its page (the driver must report it; UIO has it in maps/mapN/offset)",
            "the driver: offer whole pages, if they hold nothing that the program must not see",
        ];
        seen ["data" "mmap" "wrong registers: the start of the mapping shows what lies before the device's first register"];
        tell "the physical address % 4096 is not 0";

    MAPPED_OVER "mapped-over" Warning
                why "MAP_FIXED silently removes anything that is mapped at the address";
        next ["the program: let the kernel choose the address, or pass MAP_FIXED_NOREPLACE, which fails with EEXIST instead"];
        seen ["data" "later" "the device's memory reads as zeros, or keeps what was written, after another mmap with MAP_FIXED"];
        tell "strace -e mmap PROGRAM: a second mmap with MAP_FIXED and an address within the first one";

    FRAME_OF_IMAGE "frame-of-module-data" Error
                why "a module's own variables are not in the linear map, but in memory like vmalloc's: there virt_to_phys \
             computes the \
             address of something else";
        next [
            "the driver: allocate the memory that is mapped (alloc_pages, vmalloc_user, dma_alloc_coherent)",
            "the driver: or find each page with vmalloc_to_page, and map page by page",
        ];
        seen ["data" "mmap" "wrong data (zeros, ones) in the mapping of a static array of the module; virt_to_phys"];
        tell "the array is declared static in the module";

    OTHERS_MEMORY "others-memory" Error
                why "the frames do not belong to the driver: they are free, or in other use";
        next [
            "the driver: where does the frame's number come from? virt_to_phys works in the linear map only; a DMA \
             address is \
             not a physical address; memory that was freed is gone",
        ];
        seen ["data" "mmap" "data that changes by itself, or other programs' data, in the mapping"];
        tell "/proc/kpageflags for the frame";

    FRAME_OF_VMALLOC "frame-of-vmalloc" Error
                why "virt_to_phys (and __pa, virt_to_page, virt_to_pfn) is arithmetic that is right in the linear map \
             only; for an \
             address from vmalloc the result is not a frame of this memory";
        next ["the driver: vmalloc_to_pfn for each page (one remap_pfn_range a page), or remap_vmalloc_range"];
        seen [
            "data" "mmap" "wrong data (zeros, ones) in the mapping; memory from vmalloc; virt_to_phys",
            "SIGBUS" "first touch" "Bus error or a killed program at the first touch; memory from vmalloc; virt_to_phys",
            "oops" "first touch" "Corrupted page table at address; memory from vmalloc; virt_to_phys",
        ];
        tell "the driver calls virt_to_phys on what vmalloc returned";

    FRAME_IMPOSSIBLE "frame-impossible" Error
                why "the frame's number is beyond what this processor can address: it is a virtual address, or an address \
             that was not \
             shifted by PAGE_SHIFT";
        next ["the driver: remap_pfn_range takes a frame's number: physical address >> PAGE_SHIFT"];
        seen [
            "oops" "first touch" "Corrupted page table at address; Bad page map in process",
            "data" "mmap" "all ones in the mapping",
            "EINVAL" "mmap" "mmap: Invalid argument from remap_pfn_range; there is no frame of that number",
        ];
        tell "address sizes in /proc/cpuinfo";

    DMA_ADDRESS "dma-address-as-frame" Error
                why "a DMA address is the address that the device uses; behind an IOMMU it is not the physical address. \
             remap_pfn_range needs the physical frame";
        next ["the driver: dma_mmap_coherent (or dma_mmap_attrs), which knows where the memory is"];
                seen ["data" "mmap" "not the data that the device writes; an IOMMU is on; remap_pfn_range of a dma_addr_t"];
        tell "ls /sys/class/iommu; with iommu=off it works";

    NOTHING_BEHIND "nothing-behind" Error
                why "mapping a frame does not check whether anything answers at its address: reads return all ones (or \
             zeros), and \
             writes are silently lost";
        next [
            "compare the address with /proc/iomem and the device's documentation; on a PC, firmware may have moved it",
                        "the driver: claim the range with request_mem_region, and check that a written word reads back \
             before offering it",
        ];
        seen ["data" "mmap" "every read gives 0xff (or 0), dmesg is silent"];
        tell "grep the address in /proc/iomem";

    PRIVATE_COPY "private-copy" Warning
                why "the mapping is private: the first write to a page gives the program its own copy, which neither the \
             driver nor \
             the device ever sees (do_wp_page and do_cow_fault in mm/memory.c)";
        next [
            "the program: map with MAP_SHARED",
            "the driver: refuse private writable mappings: (vm_flags & (VM_SHARED | VM_MAYWRITE)) == VM_MAYWRITE",
        ];
        seen ["data" "mmap" "the device (or another process) does not see what was written; MAP_PRIVATE"];
        tell "Anonymous in /proc/PID/smaps is not 0; the line of /proc/PID/maps has p, not s";

    OFFSET_IGNORED "offset-ignored" Error
                why "the driver maps the buffer from its start and ignores the offset: it does not add vm_pgoff to the frame's number";
        next ["the driver: add vma->vm_pgoff to the frame's number, and check it against the buffer's size"];
                seen ["data" "mmap" "the first page again, with any offset"];
        tell "two mappings with different offsets show the same bytes";

    MAPPED_TOO_MUCH "mapped-too-much" Error
        why "remap_pfn_range does not compare its length with the mapping: it fills the page table past the mapping's end, \
             where other memory of the program is or will be (mm/memory.c)";
        next [
            "the driver: map vma->vm_end - vma->vm_start bytes, after comparing that with the buffer's size, and not the \
             buffer's size",
        ];
        seen [
            "data" "mmap" "unrelated memory of the program changes or is lost; the program maps less than the driver's buffer",
            "oops" "mmap" "BUG: Bad page map in process; kernel BUG at mm/memory.c in remap_pfn_range; the program maps less \
             than the driver's buffer",
        ];
        tell "with the length of the whole buffer it works";

    ENTRY_EXISTS "entry-exists" Error
        why "remap_pfn_range fills empty entries only, and stops the kernel with BUG_ON where there is one already, or for \
             a length of 0 (remap_pte_range and remap_pfn_range_internal in mm/memory.c)";
        next [
            "the driver: call it once for each address: a loop must move on in the mapping too (vma->vm_start + i * PAGE_SIZE)",
            "restart the machine: the program cannot exit",
        ];
        seen ["oops" "mmap" "kernel BUG at mm/memory.c in remap_pfn_range; the program cannot be killed (state D)"];
        tell "dmesg has kernel BUG at mm/memory.c, and remap_pfn_range in the line after it";

    CALLED_IN_FAULT "called-in-fault" Error
        why "remap_pfn_range and what is made of it, and vm_insert_page in a VMA without VM_MIXEDMAP, change the VMA's flags, which \
             needs the mmap lock for writing (vm_flags_set in include/linux/mm.h). A fault handler has it for reading, or has the \
             VMA's lock alone, so other threads read the flags meanwhile; vm_insert_page (mm/memory.c) stops the kernel";
        next [
            "the driver: map all of it in mmap; or set the VMA's flags there (vm_flags_set) and call vmf_insert_pfn (VM_PFNMAP) or \
             vm_insert_page (VM_MIXEDMAP) for vmf->address in the handler; or set vmf->page",
        ];
        seen [
            "oops" "first touch" "kernel BUG at mm/memory.c in vm_insert_page; the fault handler calls it",
            "data" "later" "remap_pfn_range in a fault handler: rare crashes, a warning in vm_flags_set in a kernel with lockdep",
        ];
        tell "the driver calls remap_pfn_range or vm_insert_page in its fault handler, and sets no flag in mmap";

    PAGE_IN_PFN_VMA "page-in-pfn-vma" Error
        why "a VMA with VM_PFNMAP has frames by number alone, without counting their pages: vm_insert_page (mm/memory.c) \
             counts, and stops the kernel where the VMA has VM_PFNMAP";
        next [
            "the driver: leave VM_PFNMAP out if it inserts pages (vm_insert_page sets VM_MIXEDMAP by itself), or insert by number: \
             remap_pfn_range in mmap, vmf_insert_pfn in a fault handler",
        ];
        seen ["oops" "any time" "kernel BUG at mm/memory.c in vm_insert_page; the driver sets VM_PFNMAP"];
        tell "the driver sets VM_PFNMAP and calls vm_insert_page";

    DEVICE_OFF "device-off" Error
        why "the PCI device does not answer in memory: memory space is off in its command register, as it is before a driver \
             enables the device (pci_enable_device), so all reads return ones and writes are lost";
        next [
            "echo 1 > /sys/bus/pci/devices/DEVICE/enable, or bind a driver (vfio-pci) that enables it",
            "the driver: call pci_enable_device or pcim_enable_device before the BAR is mapped",
        ];
        seen ["data" "mmap" "all reads of a PCI BAR (resource0) return 0xffffffff"];
        tell "lspci -vv: Control: Mem-; cat /sys/bus/pci/devices/DEVICE/enable";

    SAME_FRAME "same-frame" Warning
                why "one frame was mapped at several addresses of one mapping: a write to one page shows in the others";
        next ["the driver: does the loop move on to the next page (pfn + i, pages[i], vmalloc + i * PAGE_SIZE)?"];
        seen ["data" "mmap" "every page shows the same bytes"];
        tell "write to one page, read the next";

    FREED_BY_UNMAPPING "freed-by-unmapping" Error
                why "the driver still used these pages, but their count fell to 0 when the mapping was removed, so they \
             were freed. In a \
             block that is not a compound page (from dma_alloc_coherent, or alloc_pages without __GFP_COMP) only the \
             first page is \
             counted: for the others get_page raises the count from 0 to 1, and unmapping lowers it to 0. A handler that \
             takes no \
             reference at all gives away the driver's own";
        next [
            "the driver: map memory from dma_alloc_coherent with dma_mmap_coherent, and other blocks by number (remap_pfn_range)",
            "the driver: or allocate with __GFP_COMP, and call get_page for each page that the handler returns",
        ];
        seen [
            "data" "later" "unrelated data in the buffer after munmap and mmap again",
            "oops" "later" "BUG: Bad page state in process …, after the mapping was removed",
        ];
                tell "dmesg | grep 'Bad page'; boot with page_owner=on to see who allocated the page";

    OUTLIVED "outlived" Error
                why "remap_pfn_range takes no reference: the pages went back to the allocator and will be used for \
             something else, while \
             the program can still read and write them";
        next [
            "the driver: keep the memory until the last mapping is gone: count in vm_ops->open and ->close, or give each \
             buffer \
             its own file that its mappings hold (a dma-buf), and free in its release",
            "or remove the mappings first: unmap_mapping_range",
        ];
        seen ["data" "later" "unrelated data in the buffer; memory corruption after the driver freed it"];
        tell "the driver frees in an ioctl, in close, or when the device goes away, without checking for mappings";

    UNCACHED_RAM "uncached-ram" Warning
                why "the frames are ordinary RAM, which the kernel has mapped cached: x86 ignores the requested mode, \
             with at most a line in \
             the log (reserve_pfn_range and pfnmap_setup_cachemode of arch/x86/mm/pat/memtype.c); elsewhere the two views \
             disagree, and where the mode is granted, reads are 5 to 30 times slower";
        next [
            "the driver: leave vma->vm_page_prot as it is for RAM; if a device does not snoop the caches, use \
             dma_mmap_coherent, which knows what the device needs",
        ];
        seen [
            "slow" "mmap" "reads are 5 to 30 times slower than they should be",
            "data" "mmap" "dmesg: x86/PAT: … map pfn RAM range req uncached-minus …, got write-back",
        ];
        tell "dmesg | grep x86/PAT";

    NO_PAGES "no-pages" Error
                why "the mapping has frames by number (VM_PFNMAP), and get_user_pages needs pages: O_DIRECT, io_uring's \
             fixed \
             buffers, RDMA, vmsplice and process_vm_readv all use it and get EFAULT (check_vma_flags in mm/gup.c)";
        next [
            "the program: copy through an ordinary buffer, or read and write without O_DIRECT",
            "the driver: for RAM, insert pages instead (vm_insert_pages, vm_map_pages, or a fault handler that returns them)",
        ];
        seen ["EFAULT" "read, write" "Bad address with O_DIRECT, io_uring_register, ibv_reg_mr(3), process_vm_readv or \
             vmsplice on the mapping"];
        tell "VmFlags in /proc/PID/smaps has pf";

    SECRET_MEMORY "secret-memory" Error
                why "memory of memfd_secret is removed from the kernel's own view, so only the program itself can access \
             it: \
             O_DIRECT, io_uring's fixed buffers, RDMA and process_vm_readv get EFAULT (check_vma_flags in mm/gup.c)";
        next ["the program: copy through an ordinary buffer"];
        seen ["EFAULT" "read, write" "Bad address with O_DIRECT or process_vm_readv on memory of memfd_secret"];
                tell "/proc/PID/maps has /secretmem";

    ERRNO_FROM_FAULT "errno-from-fault" Error
                why "a fault handler's result is a set of bits (vm_fault_t), and an error number has nearly all of them \
             set: among them \
             VM_FAULT_RETRY and VM_FAULT_COMPLETED, so the kernel retries forever and loses its locks, or \
             VM_FAULT_HWPOISON, \
             so the kernel reports failed memory (handle_mm_fault and do_user_addr_fault)";
        next [
            "the driver: return vmf_error(err), VM_FAULT_SIGBUS or VM_FAULT_OOM; VM_FAULT_NOPAGE after inserting an entry",
            "restart the machine: the program may never exit",
        ];
        seen [
            "hang" "first touch" "the program spins at its first touch and cannot be killed; the handler returns -EINVAL or -ENOMEM",
            "SIGBUS" "first touch" "Bus error, si_code BUS_MCEERR_AR, dmesg: MCE: Killing … due to hardware memory \
             corruption fault; the \
                                    memory is fine, and the handler returns an error number",
        ];
                tell "sparse (make C=1) warns about it: incorrect type in return expression, expected vm_fault_t";

    NO_PAGE_GIVEN "no-page-given" Error
                why "a fault handler that returns 0 must have set vmf->page; one that inserted the page itself \
             (vm_insert_page, \
             vmf_insert_pfn) must return VM_FAULT_NOPAGE (__do_fault in mm/memory.c)";
        next ["the driver: return VM_FAULT_NOPAGE after inserting, or set vmf->page (with get_page) and return 0"];
        seen ["oops" "first touch" "BUG: kernel NULL pointer dereference in __do_fault; the fault handler returns 0"];
                tell "the handler has a path that returns 0 without setting vmf->page";

    PAGE_OF_USER_ADDRESS "page-of-user-address" Error
                why "the handler computed the page from the program's address (vmf->address or vma->vm_start) instead of \
             the buffer's; \
             virt_to_page of such an address is not a page, and the kernel crashed when it read it";
        next [
            "the driver: virt_to_page(buffer + (vmf->pgoff << PAGE_SHIFT)), and get_page before returning it",
        ];
        seen ["oops" "first touch" "BUG: unable to handle page fault in __do_fault; the program cannot be killed"];
        tell "the handler uses vmf->address or vm_start where it looks up its memory";

    PAGE_OF_VMALLOC "page-of-vmalloc" Error
                why "virt_to_page is arithmetic that is right in the linear map only; for an address from vmalloc the \
             result does not point \
             to a page, and the kernel crashed when it read it";
        next ["the driver: vmalloc_to_page for each page, or remap_vmalloc_range for all"];
        seen ["oops" "mmap" "BUG: unable to handle page fault in validate_page_before_insert, vm_insert_page; memory from vmalloc"];
        tell "the driver calls virt_to_page on what vmalloc returned";

    BAD_PAGE "bad-page" Error
                why "the kernel crashed when it read the page that the driver returned: the pointer does not point to a page";
        next ["the driver: where does the page come from? virt_to_page works in the linear map only; check for NULL and errors"];
        seen ["oops" "first touch" "BUG: unable to handle page fault in __do_fault or finish_fault"];
        tell "the oops in dmesg";

    KERNEL_TROUBLE "kernel-trouble" Error
                why "the kernel itself reported an error while the program ran; a thread that hits such an error is \
             killed in the middle of \
             its work, and never releases the locks that it held";
        next ["look at the module's function that the log names; restart the machine"];
        seen ["oops" "any time" "BUG, Oops or general protection fault in dmesg; a program that cannot be killed (state D)"];
        tell "dmesg";

    KERNEL_WARNING "kernel-warning" Warning
                why "the kernel warned about something that must not happen, while the program ran";
        next ["look at the module's function that the log names"];
        seen ["oops" "any time" "WARNING: CPU: … in dmesg"];
        tell "dmesg";
}

/// The cause with this name.
pub fn find(name: &str) -> Option<&'static Cause> {
    ALL.iter().find(|cause| cause.name == name)
}

/// Causes with this sign (`EINVAL`, `SIGBUS`, …), each with its symptom, the likeliest first.
pub fn with_sign(sign: &str) -> Vec<(&'static Cause, &'static Symptom)> {
    ALL.iter()
        .flat_map(|cause| cause.symptoms.iter().map(move |symptom| (cause, symptom)))
        .filter(|(_, symptom)| symptom.sign.eq_ignore_ascii_case(sign))
        .collect()
}

/// All signs, without duplicates.
pub fn signs() -> Vec<&'static str> {
    let mut signs: Vec<_> = ALL
        .iter()
        .flat_map(|cause| cause.symptoms.iter().map(|symptom| symptom.sign))
        .collect();
    signs.sort_unstable();
    signs.dedup();
    signs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_a_name_a_way_out_and_a_symptom() {
        let mut names: Vec<_> = ALL.iter().map(|cause| cause.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        for cause in ALL {
            assert!(
                !cause.next.is_empty() && !cause.symptoms.is_empty(),
                "{}",
                cause.name
            );
            assert_eq!(find(cause.name), Some(cause));
        }
        assert!(with_sign("einval").len() > 5 && signs().contains(&"SIGBUS"));
    }
}
