//! The kernel functions that are watched, and what is recorded of each.
//!
//! A definition names fields by structure (`{vm_area_struct:vm_flags}`); their offsets come from the running kernel
//! ([`Btf`](super::btf::Btf)). Nothing here depends on a kernel's version: what a kernel does not have is left out, and
//! the report says which causes cannot be seen without it.

/// How a function is watched.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Form {
    /// At its beginning.
    Entry,
    /// At its beginning and at its end, by two events: one that never ends is seen too.
    Pair,
    /// At its end, with its arguments. Kernels before 6.9 forget them: there, by two events.
    Whole,
    /// At its end, with its arguments or not at all.
    WholeOnly,
    /// At its end, with its arguments where the kernel keeps them: it is called too often for two events.
    End,
}

/// A function that is watched.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// The event's name, which is the function's where nothing else is said.
    pub event: &'static str,
    /// The function.
    pub function: &'static str,
    /// How.
    pub form: Form,
    /// What is recorded of its arguments.
    pub fetch: &'static str,
    /// The type of its result, as in `$retval:s32`.
    pub result: &'static str,
    /// Only beginnings for which this holds.
    pub enter_if: &'static str,
    /// Only ends for which this holds.
    pub end_if: &'static str,
}

/// The VMA that is the first argument.
macro_rules! vma {
    ($vma:literal) => {
        concat!(
            " start=+{vm_area_struct:vm_start}(",
            $vma,
            "):x64",
            " end=+{vm_area_struct:vm_end}(",
            $vma,
            "):x64",
            " flags=+{vm_area_struct:vm_flags}(",
            $vma,
            "):x64",
            " pgoff=+{vm_area_struct:vm_pgoff}(",
            $vma,
            "):x64",
            " prot=+{vm_area_struct:vm_page_prot}(",
            $vma,
            "):x64",
            " ops=+{vm_area_struct:vm_ops}(",
            $vma,
            "):x64",
            " fault=+{vm_operations_struct:fault}(+{vm_area_struct:vm_ops}(",
            $vma,
            ")):symbol"
        )
    };
}

/// Where the kernel keeps the structures of pages, the linear map and vmalloc's range (`arch/x86/include/asm/page_64_types.h`).
macro_rules! bases {
    () => {
        " vmemmap=@vmemmap_base:x64 linear=@page_offset_base:x64 vmalloc=@vmalloc_base:x64 image=@phys_base:x64"
    };
}

/// A file.
macro_rules! file {
    ($file:literal) => {
        concat!(
            " file=",
            $file,
            ":x64",
            " mode=+{inode:i_mode}(+{file:f_inode}(",
            $file,
            ")):x16",
            " bytes=+{inode:i_size}(+{file:f_inode}(",
            $file,
            ")):s64",
            " magic=+{super_block:s_magic}(+{inode:i_sb}(+{file:f_inode}(",
            $file,
            "))):x64",
            " fmode=+{file:f_mode}(",
            $file,
            "):x32",
            " mmap=+{file_operations:mmap}(+{file:f_op}(",
            $file,
            ")):symbol",
            " prepare=+{file_operations:mmap_prepare}(+{file:f_op}(",
            $file,
            ")):symbol",
            // What lies behind proc_reg_mmap, where it is a file of /proc.
            " proc=+{proc_ops:proc_mmap}(+{proc_dir_entry:proc_ops}(+{proc_inode:pde-vfs_inode}(+{file:f_inode}(",
            $file,
            ")))):symbol",
            " name=+0(+{dentry:d_name.name}(+{file:f_path.dentry}(",
            $file,
            "))):string"
        )
    };
}

/// Files that are no ordinary ones: those that are not regular, and those of sysfs, proc, dma-buf and anonymous inodes
/// (`include/uapi/linux/magic.h`), whose regular files may be a device's memory.
pub const DEVICE: &str = "file != 0 && (!(mode & 0x8000) || magic == 0x62656572 || magic == 0x9fa0 || magic == 0x444d4142 \
                          || magic == 0x9041934)";

/// Files whose mappings are followed: those of the above that can be mapped, and the ones of hugetlbfs and of
/// `memfd_secret`. A field and what is said of it; of the fields that a kernel does not have nothing is said. A file of sysfs can be
/// mapped where its node has the flag `KERNFS_HAS_MMAP` (`include/linux/kernfs.h`).
pub const MAPPABLE: [(&str, &str); 6] = [
    (
        "mmap",
        "(!(mode & 0x8000) || magic == 0x444d4142 || magic == 0x9041934) && mmap != 0",
    ),
    (
        "prepare",
        "(!(mode & 0x8000) || magic == 0x444d4142 || magic == 0x9041934) && prepare != 0",
    ),
    ("kernfs", "magic == 0x62656572 && kernfs & 0x80"),
    ("proc", "magic == 0x9fa0 && proc != 0"),
    ("magic", "magic == 0x958458f6"),
    ("magic", "magic == 0x5345434d"),
];

/// `VM_FAULT_OOM | SIGBUS | HWPOISON | SIGSEGV | HWPOISON_LARGE | FALLBACK`, `include/linux/mm_types.h`.
const FAILED_FAULT: &str = "ret & 0x73";
const IS_EFAULT: &str = "ret == -14";
const IS_ERROR: &str = "ret < 0";

const fn call(
    function: &'static str,
    form: Form,
    fetch: &'static str,
    result: &'static str,
) -> Probe {
    Probe {
        event: function,
        function,
        form,
        fetch,
        result,
        enter_if: "",
        end_if: "",
    }
}

/// A function that is called with each VMA when it is set up.
const fn vma_is_done(function: &'static str) -> Probe {
    Probe {
        event: MAPPED,
        enter_if: DEVICE,
        ..call(
            function,
            Form::Entry,
            concat!(
                bases!(),
                vma!("$arg1"),
                file!("+{vm_area_struct:vm_file}($arg1)")
            ),
            "",
        )
    }
}

/// The event of an `mmap` that came about.
pub const MAPPED: &str = "mapped";
/// The event of a file that was opened.
pub const OPENED: &str = "opened";
/// Events that are recorded for one program, and not for a whole machine: page faults and pages are too many there, and
/// only failing calls are wanted.
pub const OF_ONE_PROGRAM: &[&str] = &[
    MAPPED,
    HANDED,
    COPY_FAILED,
    MMAP_FAILED,
    MUNMAP_FAILED,
    REACHED,
    STOP,
    STOP_HUGE,
    STOP_RING,
    HANDLER,
    "copied",
    "dma_alloc_attrs",
];
/// The event that a file is open that can be mapped: what is of interest then, and happens often, is off before.
pub const STOP: &str = "stop";
/// The same of memory of huge pages without a file of the program's own.
pub const STOP_HUGE: &str = "stop_huge";
/// The same of `io_uring`, whose workers open files and block every signal.
pub const STOP_RING: &str = "stop_ring";
/// The event of an `mmap` that failed. Those that go well are not recorded before a file that may be a device's is open.
pub const MMAP_FAILED: &str = "mmap_failed";
/// The event of what a fault handler returned.
pub const HANDLER: &str = "handler";
/// The event of an `mmap` that the file's driver, or what follows it, refused. It goes with [`MMAP_FAILED`].
pub const REACHED: &str = "reached";
/// The event of a `munmap` that failed.
pub const MUNMAP_FAILED: &str = "munmap_failed";
/// The event of a copy between the kernel and the program that failed.
pub const COPY_FAILED: &str = "copy_failed";
/// The events of vmalloc's area that was looked up; one of the functions may be part of its callers.
pub const FIND_AREA: &str = "find_vm_area";
/// See [`FIND_AREA`].
pub const FIND_VMAP_AREA: &str = "find_vmap_area";
/// The event of a frame that a fault handler gave.
pub const HANDED: &str = "handed";

/// The functions of `mm/`, `kernel/dma/mapping.c` and `fs/file.c` that are watched.
pub const PROBES: &[Probe] = &[
    Probe { event: STOP, ..call(
        "fd_install",
        Form::Entry,
        "mode=+{inode:i_mode}(+{file:f_inode}($arg2)):x16 \
         magic=+{super_block:s_magic}(+{inode:i_sb}(+{file:f_inode}($arg2))):x64 \
         mmap=+{file_operations:mmap}(+{file:f_op}($arg2)):x64 \
         prepare=+{file_operations:mmap_prepare}(+{file:f_op}($arg2)):x64 \
         kernfs=+{kernfs_node:flags}(+{inode:i_private}(+{file:f_inode}($arg2))):x16 \
         proc=+{proc_ops:proc_mmap}(+{proc_dir_entry:proc_ops}(+{proc_inode:pde-vfs_inode}(+{file:f_inode}($arg2)))):x64",
        "",
    ) },
    // The file behind anonymous memory of huge pages (hugetlb_file_setup of fs/hugetlbfs/inode.c).
    Probe { event: STOP_HUGE, ..call("hugetlb_file_setup", Form::Entry, "", "") },
    // A ring itself is a file that can be mapped, but need not be one of the program's (IORING_SETUP_REGISTERED_FD_ONLY of
    // include/uapi/linux/io_uring.h).
    Probe { event: STOP_RING, ..call("__x64_sys_io_uring_setup", Form::Entry, "", "") },
    // The VMA as it is when all is done. Called by mprotect, too.
    vma_is_done("perf_event_mmap"),
    // In 5.10 kernel/events/core.c is compiled without what probes need (its Makefile): there, what follows it in mmap_region.
    vma_is_done("vma_set_page_prot"),
    Probe {
        enter_if: DEVICE,
        end_if: IS_ERROR,
        ..call(
            "mmap_region",
            Form::Whole,
            concat!("addr=$arg2:x64 size=$arg3:x64 asked_flags=$arg4:x64", file!("$arg1")),
            "s64",
        )
    },
    // The same of any file, told by its end alone: of all that is recorded of the file above, each mmap would pay for the reading.
    Probe {
        event: REACHED,
        end_if: IS_ERROR,
        ..call(
            "mmap_region",
            Form::WholeOnly,
            "addr=$arg2:x64 size=$arg3:x64 asked_flags=$arg4:x64",
            "s64",
        )
    },
    Probe {
        event: OPENED,
        enter_if: "",
        ..call("fd_install", Form::Entry, concat!("fd=$arg1:u32", file!("$arg2")), "")
    },
    call(
        "remap_pfn_range",
        Form::Whole,
        concat!("addr=$arg2:x64 pfn=$arg3:x64 size=$arg4:x64 asked=$arg5:x64", bases!(), vma!("$arg1")),
        "s32",
    ),
    // For drivers with mmap_prepare, which choose in advance what is done later.
    call(
        "remap_pfn_range_complete",
        Form::Whole,
        concat!(
            "addr=+{mmap_action:remap.start}($arg2):x64 pfn=+{mmap_action:remap.start_pfn}($arg2):x64 \
             size=+{mmap_action:remap.size}($arg2):x64 asked=+{mmap_action:remap.pgprot}($arg2):x64",
            vma!("$arg1")
        ),
        "s32",
    ),
    // The cache mode that came of the one that was asked for (arch/x86/mm/pat/memtype.c); before 7.x by other names.
    call("pfnmap_track", Form::WholeOnly, "granted=+0($arg3):x64", "s32"),
    call("pfnmap_setup_cachemode", Form::WholeOnly, "granted=+0($arg3):x64", "s32"),
    call("track_pfn_remap", Form::WholeOnly, "granted=+0($arg2):x64", "s32"),
    call(
        "vm_insert_page",
        Form::Pair,
        concat!(
            "addr=$arg2:x64 size=\\4096 page=$arg3:x64 count=+{page:_refcount.counter}($arg3):s32",
            bases!(),
            vma!("$arg1")
        ),
        "s32",
    ),
    call(
        "vm_insert_pages",
        Form::Pair,
        concat!(
            "addr=$arg2:x64 num=+0($arg4):u64 page=+0($arg3):x64 count=+{page:_refcount.counter}(+0($arg3)):s32",
            bases!(),
            vma!("$arg1")
        ),
        "s32",
    ),
    call("vm_map_pages", Form::Whole, concat!("num=$arg3:u64", vma!("$arg1")), "s32"),
    call("vm_map_pages_zero", Form::Whole, concat!("num=$arg3:u64", vma!("$arg1")), "s32"),
    // What remap_vmalloc_range finds at the kernel's address. Not on kernels that forget a function's arguments before its end: there
    // it is part of its caller.
    call(
        FIND_AREA,
        Form::WholeOnly,
        "kernel=$arg1:x64 area_flags=+{vm_struct:flags}($retval):x64 area_size=+{vm_struct:size}($retval):x64",
        "x64",
    ),
    call(
        FIND_VMAP_AREA,
        Form::WholeOnly,
        "kernel=$arg1:x64 area_flags=+{vm_struct:flags}(+{vmap_area:vm}($retval)):x64 \
         area_size=+{vm_struct:size}(+{vmap_area:vm}($retval)):x64",
        "x64",
    ),
    call("remap_vmalloc_range", Form::Whole, concat!("kernel=$arg2:x64", vma!("$arg1")), "s32"),
    call(
        "remap_vmalloc_range_partial",
        Form::Whole,
        concat!("addr=$arg2:x64 kernel=$arg3:x64 size=$arg5:x64", vma!("$arg1")),
        "s32",
    ),
    call(
        "vm_iomap_memory",
        Form::Whole,
        concat!("physical=$arg2:x64 size=$arg3:x64", vma!("$arg1")),
        "s32",
    ),
    // Its VMA is the second argument.
    call(
        "dma_mmap_attrs",
        Form::Whole,
        concat!("kernel=$arg3:x64 handle=$arg4:x64 size=$arg5:x64", vma!("$arg2")),
        "s32",
    ),
    // With a wrong VMA these do not come to their end (BUG_ON).
    call("vmf_insert_pfn", Form::Pair, concat!("addr=$arg2:x64 pfn=$arg3:x64", bases!(), vma!("$arg1")), "x32"),
    call("vmf_insert_pfn_prot", Form::Pair, concat!("addr=$arg2:x64 pfn=$arg3:x64", bases!(), vma!("$arg1")), "x32"),
    call("vmf_insert_mixed", Form::Pair, concat!("addr=$arg2:x64 pfn=$arg3:x64", bases!(), vma!("$arg1")), "x32"),
    call("vmf_insert_mixed_prot", Form::Pair, concat!("addr=$arg2:x64 pfn=$arg3:x64", bases!(), vma!("$arg1")), "x32"),
    call("vmf_insert_mixed_mkwrite", Form::Pair, concat!("addr=$arg2:x64 pfn=$arg3:x64", bases!(), vma!("$arg1")), "x32"),
    // Its VMA is the second argument, too; the offset is in pages.
    call("dma_buf_mmap", Form::Whole, concat!("asked_pgoff=$arg3:x64 size=+{dma_buf:size}($arg1):x64", vma!("$arg2")), "s32"),
    // Their argument is the registers of the program (`struct pt_regs` of `arch/x86/include/asm/ptrace.h`).
    Probe {
        event: MMAP_FAILED,
        end_if: IS_ERROR,
        ..call(
            "__x64_sys_mmap",
            Form::WholeOnly,
            "addr=+{pt_regs:di}($arg1):x64 size=+{pt_regs:si}($arg1):x64 prot=+{pt_regs:dx}($arg1):x64 \
             flags=+{pt_regs:r10}($arg1):x64 fd=+{pt_regs:r8}($arg1):x64 offset=+{pt_regs:r9}($arg1):x64",
            "s64",
        )
    },
    Probe {
        event: MUNMAP_FAILED,
        end_if: IS_ERROR,
        ..call(
            "__x64_sys_munmap",
            Form::WholeOnly,
            "addr=+{pt_regs:di}($arg1):x64 size=+{pt_regs:si}($arg1):x64",
            "s64",
        )
    },
    // A copy between the kernel and the program that failed at an address: the system call says EFAULT, or does less than
    // it was asked for (`kernelmode_fixup_or_oops` of arch/x86/mm/fault.c; 14 is a page fault).
    Probe {
        event: COPY_FAILED,
        enter_if: "trap == 14 && addr < 0x800000000000",
        ..call("fixup_exception", Form::Entry, "trap=$arg2:u32 error=$arg3:x64 addr=$arg4:x64", "")
    },
    // What a fault handler said, when it was an error.
    Probe {
        event: HANDLER,
        end_if: FAILED_FAULT,
        ..call(
            "__do_fault",
            Form::End,
            concat!("addr=+{vm_fault:address}($arg1):x64", vma!("+{vm_fault:vma}($arg1)")),
            "x32",
        )
    },
    // The page that a fault handler gave, before it gets its entry; its count is the one that the handler left.
    Probe {
        event: HANDED,
        enter_if: DEVICE,
        ..call(
            "finish_fault",
            Form::Entry,
            concat!(
                "addr=+{vm_fault:address}($arg1):x64 page=+{vm_fault:page}($arg1):x64 \
                 count=+{page:_refcount.counter}(+{vm_fault:page}($arg1)):s32 \
                 head=+{page:compound_head}(+{vm_fault:page}($arg1)):x64 \
                 write=+{vm_fault:flags}($arg1):x32 vmemmap=@vmemmap_base:x64 \
                 file=+{vm_area_struct:vm_file}(+{vm_fault:vma}($arg1)):x64 \
                 mode=+{inode:i_mode}(+{file:f_inode}(+{vm_area_struct:vm_file}(+{vm_fault:vma}($arg1)))):x16 \
                 magic=+{super_block:s_magic}(+{inode:i_sb}(+{file:f_inode}(+{vm_area_struct:vm_file}(+{vm_fault:vma}($arg1))))):x64",
                vma!("+{vm_fault:vma}($arg1)")
            ),
            "",
        )
    },
    // The first private copy of a page in a mapping.
    Probe {
        event: "copied",
        enter_if: DEVICE,
        ..call(
            "__anon_vma_prepare",
            Form::Entry,
            concat!(
                "file=+{vm_area_struct:vm_file}($arg1):x64 \
                 mode=+{inode:i_mode}(+{file:f_inode}(+{vm_area_struct:vm_file}($arg1))):x16 \
                 magic=+{super_block:s_magic}(+{inode:i_sb}(+{file:f_inode}(+{vm_area_struct:vm_file}($arg1)))):x64",
                vma!("$arg1")
            ),
            "",
        )
    },
    call(
        "dma_alloc_attrs",
        Form::WholeOnly,
        "size=$arg2:x64 handle=+0($arg3):x64 linear=@page_offset_base:x64",
        "x64",
    ),
    Probe { end_if: IS_EFAULT, ..call("pin_user_pages_fast", Form::Whole, "addr=$arg1:x64", "s32") },
    Probe { end_if: IS_EFAULT, ..call("get_user_pages_fast", Form::Whole, "addr=$arg1:x64", "s32") },
    Probe { end_if: IS_EFAULT, ..call("pin_user_pages", Form::Whole, "addr=$arg1:x64", "s32") },
    Probe { end_if: IS_EFAULT, ..call("pin_user_pages_remote", Form::Whole, "addr=$arg2:x64", "s32") },
];

/// The system calls that are followed, by their number on this architecture.
#[cfg(target_arch = "x86_64")]
pub mod nr {
    pub const CLOSE: u64 = 3;
    pub const MMAP: u64 = 9;
    pub const MPROTECT: u64 = 10;
    pub const MUNMAP: u64 = 11;
    pub const IOCTL: u64 = 16;
    pub const MREMAP: u64 = 25;
    pub const MSYNC: u64 = 26;
    pub const MADVISE: u64 = 28;
    pub const EXECVE: u64 = 59;
    pub const EXIT: u64 = 60;
    pub const MLOCK: u64 = 149;
    pub const MLOCKALL: u64 = 151;
    pub const EXIT_GROUP: u64 = 231;
    pub const MLOCK2: u64 = 325;
}
#[cfg(not(target_arch = "x86_64"))]
pub mod nr {
    // The numbers of `include/uapi/asm-generic/unistd.h`.
    pub const CLOSE: u64 = 57;
    pub const MMAP: u64 = 222;
    pub const MPROTECT: u64 = 226;
    pub const MUNMAP: u64 = 215;
    pub const IOCTL: u64 = 29;
    pub const MREMAP: u64 = 216;
    pub const MSYNC: u64 = 227;
    pub const MADVISE: u64 = 233;
    pub const EXECVE: u64 = 221;
    pub const EXIT: u64 = 93;
    pub const MLOCK: u64 = 228;
    pub const MLOCKALL: u64 = 230;
    pub const EXIT_GROUP: u64 = 94;
    pub const MLOCK2: u64 = 284;
}

/// Those that make or change mappings.
pub const MAPPING_CALLS: &[u64] = &[nr::MMAP, nr::MPROTECT, nr::MREMAP];

/// Those of which it is told when they fail, beside `mmap`.
pub const TOLD_WHEN_FAILED: &[u64] = &[
    nr::MPROTECT,
    nr::MREMAP,
    nr::MUNMAP,
    nr::MSYNC,
    nr::MADVISE,
    nr::MLOCK,
    nr::MLOCK2,
    nr::MLOCKALL,
];

/// The numbers that the same calls have for 32-bit programs on x86-64 (`arch/x86/entry/syscalls/syscall_32.tbl`), and the
/// call that each is. Its `exit` is left out: that number is `write` for all others, and the thread's end is seen anyway.
pub const OF_32_BITS: &[(u64, u64)] = &[
    (6, nr::CLOSE),
    (11, nr::EXECVE),
    (54, nr::IOCTL),
    (91, nr::MUNMAP),
    (125, nr::MPROTECT),
    (144, nr::MSYNC),
    (150, nr::MLOCK),
    (152, nr::MLOCKALL),
    (163, nr::MREMAP),
    (192, nr::MMAP),
    (219, nr::MADVISE),
    (252, nr::EXIT_GROUP),
    (376, nr::MLOCK2),
];

/// All of them.
pub const FOLLOWED: [u64; 14] = [
    nr::CLOSE,
    nr::MMAP,
    nr::MPROTECT,
    nr::MUNMAP,
    nr::IOCTL,
    nr::MREMAP,
    nr::MSYNC,
    nr::MADVISE,
    nr::EXECVE,
    nr::EXIT,
    nr::MLOCK,
    nr::MLOCKALL,
    nr::EXIT_GROUP,
    nr::MLOCK2,
];
