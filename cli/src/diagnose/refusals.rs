//! Mapping system calls that failed: in the order of the kernel's own checks, from the arguments and from what is known
//! about the file, the process and the machine.

use super::{
    catalogue::*,
    facts::Bar,
    finding::{kept_by_the_kernel, name_of, Finding, Seen, Sure},
    frames::PAGE,
    history::{failed, magic, vm, Doing, Kind, Refusal},
    probes::nr,
    trace::Call,
};

const EPERM: i64 = -1;
const EIO: i64 = -5;
const EBADF: i64 = -9;
const EAGAIN: i64 = -11;
const ENOMEM: i64 = -12;
const ETXTBSY: i64 = -26;
const EACCES: i64 = -13;
const EFAULT: i64 = -14;
const EEXIST: i64 = -17;
const ENODEV: i64 = -19;
const EINVAL: i64 = -22;
const EOVERFLOW: i64 = -75;
const EOPNOTSUPP: i64 = -95;

/// Flags of mmap (`include/uapi/asm-generic/mman-common.h`).
mod map {
    pub const TYPE: u64 = 0xf;
    pub const PRIVATE: u64 = 2;
    pub const FIXED: u64 = 0x10;
    pub const ANONYMOUS: u64 = 0x20;
    /// Below 2 GiB (x86).
    pub const LOW: u64 = 0x40;
    pub const LOCKED: u64 = 0x2000;
    pub const HUGETLB: u64 = 0x4_0000;
    pub const SYNC: u64 = 0x8_0000;
    pub const FIXED_NOREPLACE: u64 = 0x10_0000;
}
const PROT_WRITE: u64 = 2;
const PROT_EXEC: u64 = 4;
const WRITE_EXEC: u64 = PROT_WRITE | PROT_EXEC;
/// `FMODE_READ` and `FMODE_WRITE`, `include/linux/fs.h`.
const FMODE_READ: u64 = 1;
const FMODE_WRITE: u64 = 2;

/// An `mmap`'s arguments, by name.
struct Mmap {
    address: u64,
    length: u64,
    protection: u64,
    flags: u64,
    descriptor: u64,
    offset: u64,
}

impl Mmap {
    fn of(doing: &Doing) -> Self {
        Self {
            address: doing.argument(0),
            length: doing.argument(1),
            protection: doing.argument(2),
            flags: doing.argument(3),
            descriptor: doing.argument(4) & 0xffff_ffff,
            offset: doing.argument(5),
        }
    }

    /// The size of huge pages that is asked for; 1: the default (`MAP_HUGE_SHIFT`).
    fn huge_size(&self) -> u64 {
        1 << ((self.flags >> 26) & 0x3f)
    }

    fn has(&self, flag: u64) -> bool {
        self.flags & flag != 0
    }

    fn is_anonymous(&self) -> bool {
        self.has(map::ANONYMOUS)
    }

    fn wants_private_writable(&self) -> bool {
        self.flags & map::TYPE == map::PRIVATE && self.protection & PROT_WRITE != 0
    }
}

/// What a refusal is about, for people.
pub fn file_of(seen: &Seen<'_>, refusal: &Refusal) -> String {
    let mmap = Mmap::of(&refusal.doing);
    if refusal.doing.number != nr::MMAP {
        let mapping = seen.history.at(refusal.space, refusal.doing.argument(0));
        return mapping.map_or_else(|| "memory".to_owned(), |mapping| mapping.file.clone());
    }
    if mmap.is_anonymous() {
        return "anonymous memory".to_owned();
    }
    // A name that the kernel gave is the file's; a path is more.
    let name = refusal
        .reached
        .iter()
        .chain(&refusal.opened)
        .find_map(|call| call.text("name"));
    let path = seen.facts.path(refusal.space, mmap.descriptor);
    match (name, path) {
        (Some(name), Some(path)) if path.ends_with(name) => path.to_owned(),
        (Some(name), _) => name.to_owned(),
        (None, Some(path)) => path.to_owned(),
        (None, None) => format!(
            "descriptor {}",
            i64::from(i32::from_ne_bytes(
                u32::try_from(mmap.descriptor).unwrap_or(0).to_ne_bytes()
            ))
        ),
    }
}

/// Whether the refused call was about a device's file, or one that was not open.
pub fn is_of_a_device(seen: &Seen<'_>, refusal: &Refusal) -> bool {
    if refusal.doing.number != nr::MMAP || Mmap::of(&refusal.doing).is_anonymous() {
        return false;
    }
    let mut known = refusal.reached.iter().chain(&refusal.opened);
    let known = known.find(|call| call.number("mode").is_some());
    match known {
        Some(call) => {
            call.get("mode") & 0o170_000 != 0o100_000 || call.get("magic") == magic::SYSFS
        }
        // Opened before it was watched, or not open.
        None => !seen
            .facts
            .is_regular(refusal.space, Mmap::of(&refusal.doing).descriptor),
    }
}

/// The driver's function that a refusal came from.
pub fn driver_of(refusal: &Refusal) -> String {
    let called = refusal.calls.iter().rev().find_map(Call::module_function);
    let asked = refusal.reached.iter().chain(&refusal.opened);
    called
        .or_else(|| asked.into_iter().find_map(Call::mmap))
        .unwrap_or_else(|| "the file's mmap".to_owned())
}

/// Changes nothing of a mapping that `mseal` sealed: all of these answer `EPERM` for that alone, from 6.10 on (mm/mprotect.c,
/// mm/mremap.c, mm/vma.c, mm/madvise.c); before, they never did.
const CHANGE_MAPPINGS: [u64; 4] = [nr::MPROTECT, nr::MREMAP, nr::MUNMAP, nr::MADVISE];

fn of_sealed_mapping(seen: &Seen<'_>, refusal: &Refusal) -> Option<Finding> {
    let why = "the range has a mapping that mseal sealed".to_owned();
    Some(found(seen, refusal, &SEALED_MAPPING, why, Sure::Follows))
}

/// The cause of a system call that failed; `None` where it is not known.
pub fn find(seen: &Seen<'_>, refusal: &Refusal) -> Option<Finding> {
    let finding = match refusal.doing.number {
        number if refusal.result == EPERM && CHANGE_MAPPINGS.contains(&number) => {
            of_sealed_mapping(seen, refusal)
        }
        nr::MMAP => of_mmap(seen, refusal),
        nr::MPROTECT => of_mprotect(seen, refusal),
        nr::MREMAP => of_mremap(seen, refusal),
        nr::MUNMAP => of_munmap(seen, refusal),
        nr::MSYNC => of_msync(seen, refusal),
        nr::MADVISE => of_madvise(seen, refusal),
        nr::MLOCK | nr::MLOCK2 | nr::MLOCKALL => of_mlock(seen, refusal),
        _ => None,
    }?;
    let call = format!("{} = {}", refusal.doing.text(), name_of(refusal.result));
    Some(finding.event(call))
}

fn found(seen: &Seen<'_>, refusal: &Refusal, cause: &Cause, why: String, sure: Sure) -> Finding {
    let call = match refusal.doing.number {
        nr::MPROTECT => "mprotect",
        nr::MREMAP => "mremap",
        nr::MUNMAP => "munmap",
        nr::MSYNC => "msync",
        nr::MADVISE => "madvise",
        nr::MLOCK | nr::MLOCK2 => "mlock",
        nr::MLOCKALL => "mlockall",
        _ => "mmap",
    };
    let mut what = format!(
        "{call} of {} failed with {}: {why}",
        file_of(seen, refusal),
        name_of(refusal.result).trim_start_matches('-'),
    );
    if let Some((ioctl, result)) = refusal.ioctl.as_ref().filter(|(_, result)| *result < 0) {
        what += &format!(
            ". The ioctl before it on this descriptor ({}) had failed with {}, so an offset or length from it is not valid",
            ioctl.text(),
            name_of(*result)
        );
    }
    Finding::new(cause, file_of(seen, refusal), driver_of(refusal), what).sure(sure)
}

fn of_mmap(seen: &Seen<'_>, refusal: &Refusal) -> Option<Finding> {
    let mmap = Mmap::of(&refusal.doing);
    let result = refusal.result;
    let say = |cause, why: String, sure| Some(found(seen, refusal, cause, why, sure));
    if result == EINVAL && mmap.offset % PAGE != 0 {
        let why = format!(
            "the offset {:#x} is not a multiple of the page size {PAGE}; neither the file nor its driver was asked",
            mmap.offset
        );
        let finding = say(&UNALIGNED_OFFSET, why, Sure::Seen)?;
        return Some(Finding {
            function: String::new(),
            ..finding
        });
    }
    if result == EBADF && !mmap.is_anonymous() {
        let descriptor = i32::from_ne_bytes(u32::try_from(mmap.descriptor).ok()?.to_ne_bytes());
        let why = format!("the descriptor {descriptor} is not open");
        return say(&BAD_DESCRIPTOR, why, Sure::Seen);
    }
    if failed(&refusal.calls).next().is_some() {
        // The mapping functions have said it.
        return super::calls::failed_call(
            seen,
            &refusal.calls,
            result,
            &file_of(seen, refusal),
            &driver_of(refusal),
        );
    }
    let mut known = refusal.reached.iter().chain(&refusal.opened);
    let of_proc = known.any(|call| {
        let has_mmap = call.text("proc").is_some_and(|text| text.contains('+'));
        call.get("magic") == magic::PROC && !has_mmap
    });
    if result == EIO && of_proc {
        let why = "it is a file of /proc whose operations have no proc_mmap".to_owned();
        let finding = say(&NO_MMAP, why, Sure::Seen)?;
        return Some(Finding {
            function: String::new(),
            ..finding
        });
    }
    // The core forbids this one before and after it has asked the driver, depending on the kernel.
    let both = result == EACCES && mmap.protection & WRITE_EXEC == WRITE_EXEC;
    if refusal.reached.is_some() && !both {
        return after_the_core(seen, refusal, &mmap);
    }
    let finding = by_the_core(seen, refusal, &mmap)?;
    // Whether the driver was asked is not known: what the arguments alone show holds, no more.
    let blind = seen.missing.contains(&"mmap_region");
    if blind && finding.sure != Sure::Seen {
        return None;
    }
    Some(Finding {
        function: String::new(),
        ..finding
    })
}

/// The core got as far as the driver, or nearly.
fn after_the_core(seen: &Seen<'_>, refusal: &Refusal, mmap: &Mmap) -> Option<Finding> {
    let result = refusal.result;
    let say = |cause, why: String, sure| Some(found(seen, refusal, cause, why, sure));
    let reached = refusal.reached.as_ref()?;
    let path = file_of(seen, refusal);
    if reached.get("magic") == magic::SYSFS {
        if let Some(finding) = of_bar(seen, refusal, mmap, &path) {
            return Some(finding);
        }
    }
    let asked = |function: &str| {
        let texts = [reached.text("mmap"), reached.text("prepare")];
        let is_it = |text: &str| text.starts_with(function);
        texts.into_iter().flatten().any(is_it)
    };
    // Anonymous memory of this kind has a file of the kernel's own, whose mmap reserves the pages.
    if result == ENOMEM && (mmap.has(map::HUGETLB) || asked("hugetlbfs_file_mmap")) {
        let finding = of_huge_pages(seen, refusal, mmap);
        return Some(Finding {
            function: String::new(),
            ..finding
        });
    }
    if asked("hugetlbfs_file_mmap") && result == EINVAL {
        let size = seen.facts.huge_page_bytes.unwrap_or(2 << 20);
        if mmap.offset % size != 0 {
            let why = format!(
                "the offset {} is not a multiple of the size of a huge page, {size} bytes",
                mmap.offset
            );
            return Some(Finding {
                function: String::new(),
                ..say(&HUGE_ALIGNMENT, why, Sure::Follows)?
            });
        }
    }
    // Older kernels look at the seals in mmap_region and in shmem's mmap, newer ones before (memfd_check_seals_mmap).
    let is_memfd = reached
        .text("name")
        .is_some_and(|name| name.starts_with("memfd:"));
    if is_memfd && result == EPERM {
        let finding = say(&SEALED, "the file is a memfd".into(), Sure::Likely)?;
        return Some(Finding {
            function: String::new(),
            ..finding
        });
    }
    // From 7.2 on `mmap_mem_prepare` of `drivers/char/mem.c`.
    if asked("mmap_mem") {
        let what = seen
            .iomem
            .name(mmap.offset)
            .unwrap_or("nothing that /proc/iomem lists");
        if result == EPERM {
            let why = format!("{:#x} is {what}, which /dev/mem does not map", mmap.offset);
            return Some(
                say(&STRICT_DEVMEM, why, Sure::Follows)?.proc(format!("/proc/iomem: {what}")),
            );
        }
    }
    if result == ENOMEM {
        if let Some(finding) = of_limits(seen, refusal, mmap) {
            return Some(finding);
        }
    }
    let sharing = match mmap.flags & map::TYPE {
        map::PRIVATE => "private",
        _ => "shared",
    };
    let writable = if mmap.protection & PROT_WRITE == 0 {
        "to read"
    } else {
        "to read and write"
    };
    let why = format!(
        "{} refused it ({} pages from page {:#x}, {sharing}, {writable}) before it called any mapping function",
        driver_of(refusal),
        mmap.length.div_ceil(PAGE),
        mmap.offset / PAGE
    );
    // ENOMEM and the like may come from the core's own bookkeeping around the driver.
    let sure = if result == ENOMEM {
        Sure::Likely
    } else {
        Sure::Follows
    };
    let why = match rule_of(&driver_of(refusal)) {
        Some(rule) => format!("{why}. Its rule: {rule}"),
        // A common mistake.
        None if result == EPERM => {
            format!("{why} (-EPERM is -1, which drivers return for any failure)")
        }
        None => why,
    } + &truncated(seen, refusal);
    let cause = match kept_by_the_kernel(result) {
        None => &DRIVER_REFUSED,
        Some(_) => &KERNELS_OWN_ERROR,
    };
    let finding = say(cause, why, sure)?;
    Some(finding.event(format!(
        "mmap_region returned {} for {}",
        name_of(result),
        driver_of(refusal)
    )))
}

/// What well-known drivers of the kernel require of length and offset: the name of their `mmap`, and the rule.
const RULES: &[(&str, &str)] = &[
    (
        "uio_mmap",
        "the offset is the number of the region (mapN) times the page size, not an address (uio_find_mem_index in \
        drivers/uio/uio.c), and the length at most that in /sys/class/uio/uioN/maps/mapN/size",
    ),
    (
        "mmap_mem",
        "the offset is a physical address, and must be one that the processor has (address sizes in /proc/cpuinfo; \
        valid_mmap_phys_addr_range in arch/x86/mm/mmap.c)",
    ),
    (
        "vfio_device_fops_mmap",
        "offset, size and whether a region can be mapped at all come from VFIO_DEVICE_GET_REGION_INFO \
         (vfio_pci_core_mmap in drivers/vfio/pci/vfio_pci_core.c)",
    ),
    (
        "v4l2_mmap",
        "the mapping is shared, PROT_READ for a queue that captures and PROT_WRITE for one that shows; the buffers were \
         requested by VIDIOC_REQBUFS with V4L2_MEMORY_MMAP, and offset and length are those that VIDIOC_QUERYBUF returned, \
         with several planes those of the plane (vb2_mmap in drivers/media/common/videobuf2/videobuf2-core.c)",
    ),
    (
        "drm_gem_mmap",
        "the offset is the one that an ioctl returned for the object (DRM_IOCTL_MODE_MAP_DUMB or the driver's own), \
        and the object must belong to this descriptor (drivers/gpu/drm/drm_gem.c)",
    ),
    (
        "fb_mmap",
        "offset and length must lie within smem_len, which FBIOGET_FSCREENINFO returns (include/uapi/linux/fb.h)",
    ),
    (
        "perf_mmap",
        "the offset is 0, the mapping is shared, and the length is 1 + 2^n pages, as far as vm.perf_event_mlock_kb allows \
         (kernel/events/core.c)",
    ),
    (
        "sock_mmap",
        "only packet and XDP sockets can be mapped, as a whole and after their rings were set up (packet_mmap in \
         net/packet/af_packet.c)",
    ),
    (
        "snd_pcm_mmap",
        "the offset selects what is mapped (SNDRV_PCM_MMAP_OFFSET_DATA and others), and the length must be that of \
        the buffer (sound/core/pcm_native.c)",
    ),
    (
        "io_uring_mmap",
        "the offset is IORING_OFF_SQ_RING or a similar constant, and the length comes from io_uring_setup's \
        parameters (io_uring/memmap.c)",
    ),
    (
        "dma_buf_mmap_internal",
        "offset and length must lie within the buffer's size, which lseek(fd, 0, SEEK_END) returns \
        (drivers/dma-buf/dma-buf.c)",
    ),
    (
        "fuse_file_mmap",
        "a file that is opened with direct I/O (cache=none) cannot be mapped shared (fs/fuse/file.c)",
    ),
];

fn rule_of(function: &str) -> Option<&'static str> {
    let function = function.split(' ').next().unwrap_or("");
    let function = function.strip_suffix("_prepare").unwrap_or(function);
    let known = RULES.iter().find(|(name, _)| *name == function);
    known.map(|(_, rule)| *rule)
}

/// What may have happened to the offset of a 32-bit program.
fn truncated(seen: &Seen<'_>, refusal: &Refusal) -> String {
    if seen.history.was_narrow(refusal.space) {
        return format!(
            ". It is a 32-bit program: if its off_t has 32 bits, an offset of 4 GiB or more from the driver has lost \
            its upper half (build it with -D_FILE_OFFSET_BITS=64, or call mmap64); the offset that arrived is {:#x}",
            refusal.doing.argument(5)
        );
    }
    String::new()
}

fn of_bar(seen: &Seen<'_>, refusal: &Refusal, mmap: &Mmap, path: &str) -> Option<Finding> {
    let bar = Bar::of(path);
    let (first, last) = bar.as_ref().and_then(|bar| bar.range)?;
    let bar = bar?;
    let say = |cause, why: String, sure| Some(found(seen, refusal, cause, why, sure));
    if refusal.result != EINVAL && !(bar.is_ports && refusal.result == ENODEV) {
        return None;
    }
    if bar.is_ports {
        let why = format!(
            "the BAR is {} I/O ports from {first:#x} on, not memory: ports cannot be mapped on x86",
            (last - first).saturating_add(1)
        );
        let finding = say(&PORT_BAR, why, Sure::Seen)?;
        return Some(Finding {
            function: String::new(),
            ..finding.proc(format!(
                "{path}: the flags in resource have IORESOURCE_IO (0x100)"
            ))
        });
    }
    let size = (last - first).saturating_add(1);
    if mmap.offset.saturating_add(mmap.length) > size.div_ceil(PAGE) * PAGE {
        let why = format!(
            "{} bytes from {:#x} go past the end of the BAR, which has {size} bytes",
            mmap.length, mmap.offset
        );
        return say(&BEYOND_BAR, why, Sure::Seen);
    }
    let names = seen.iomem.names_within(first, last);
    let claimed = names
        .iter()
        .find(|name| **name != bar.device && !name.starts_with("PCI"))?;
    let driver = bar.driver.as_deref().unwrap_or("no driver");
    let why = format!(
        "the BAR ({first:#x}-{last:#x}) of {} is claimed by {claimed}; {driver} is bound to the device",
        bar.device
    );
    let finding = say(&BAR_CLAIMED, why, Sure::Follows)?;
    let finding = finding.proc(format!("/proc/iomem: {first:08x}-{last:08x} : {claimed}"));
    Some(Finding {
        function: format!("{driver} (driver of {})", bar.device),
        ..finding
    })
}

fn of_huge_pages(seen: &Seen<'_>, refusal: &Refusal, mmap: &Mmap) -> Finding {
    let free = seen.facts.huge_pages_free;
    let free = free.map_or_else(|| "an unknown number".to_owned(), |free| free.to_string());
    let why = format!(
        "{} bytes of hugetlb memory, and {free} huge pages are free",
        mmap.length
    );
    let finding = found(seen, refusal, &HUGE_PAGES_GONE, why, Sure::Follows);
    finding.proc(format!("/proc/meminfo: HugePages_Free: {free}"))
}

/// What the core refuses before it asks a driver, in the order of its checks (`do_mmap` in `mm/mmap.c`).
fn by_the_core(seen: &Seen<'_>, refusal: &Refusal, mmap: &Mmap) -> Option<Finding> {
    let result = refusal.result;
    let say = |cause, why: String, sure| Some(found(seen, refusal, cause, why, sure));
    let opened = refusal.opened.as_ref();
    match result {
        EINVAL if mmap.length == 0 => say(&ZERO_LENGTH, "the length is 0".into(), Sure::Seen),
        EINVAL if !mmap.is_anonymous() && mmap.has(map::HUGETLB) => say(
            &HUGE_FLAG,
            "MAP_HUGETLB was passed for a file that is not on hugetlbfs".into(),
            Sure::Follows,
        ),
        EINVAL if mmap.has(map::HUGETLB) && is_no_size(seen, mmap) => {
            let sizes = seen.facts.huge_sizes.iter();
            let sizes: Vec<_> = sizes.map(|size| format!("{} kB", size >> 10)).collect();
            let why = format!(
                "huge pages of {} kB were asked for, and this kernel has {}",
                mmap.huge_size() >> 10,
                match sizes.is_empty() {
                    true => "none".to_owned(),
                    false => format!("those of {}", sizes.join(", ")),
                }
            );
            say(&HUGE_SIZE, why, Sure::Seen)
        }
        EINVAL if mmap.has(map::FIXED | map::FIXED_NOREPLACE) && mmap.address % PAGE != 0 => say(
            &UNALIGNED_ADDRESS,
            format!(
                "the address {:#x} is not a multiple of the page size",
                mmap.address
            ),
            Sure::Seen,
        ),
        EINVAL if !(1..=3).contains(&(mmap.flags & map::TYPE)) => say(
            &NO_SHARING,
            format!(
                "the flags {:#x} have neither MAP_SHARED nor MAP_PRIVATE",
                mmap.flags
            ),
            Sure::Seen,
        ),
        ENOMEM if mmap.has(map::HUGETLB) => Some(of_huge_pages(seen, refusal, mmap)),
        ENOMEM => of_limits(seen, refusal, mmap),
        EOVERFLOW => {
            let mut why = format!("{} bytes from offset {:#x} on", mmap.length, mmap.offset);
            if mmap.offset >= SIGN_EXTENDED {
                why += &format!(
                    ", which is the 32-bit number {:#x}, sign-extended",
                    mmap.offset & 0xffff_ffff
                );
            }
            say(&OFFSET_WRAPS, why, Sure::Seen)
        }
        EOPNOTSUPP if mmap.has(map::SYNC) => say(
            &NO_SYNC,
            "MAP_SYNC was passed for a file whose file system or device has no DAX".into(),
            Sure::Follows,
        ),
        EEXIST => say(
            &FIXED_EXISTS,
            format!("something is mapped at {:#x}", mmap.address),
            Sure::Seen,
        ),
        EAGAIN => of_lock(seen, refusal, mmap),
        EACCES if mmap.is_anonymous() => (mmap.protection & WRITE_EXEC == WRITE_EXEC)
            .then(|| {
                let why = "the memory was to be writable and executable".to_owned();
                say(&WRITE_EXECUTE, why, Sure::Follows)
            })
            .flatten(),
        EACCES => {
            let mode = opened.map(|call| call.get("fmode"))?;
            let shared = mmap.flags & map::TYPE != map::PRIVATE;
            if mode & FMODE_READ == 0 {
                say(
                    &READ_ONLY_OPEN,
                    "the file was not opened for reading".into(),
                    Sure::Seen,
                )
            } else if shared && mmap.protection & PROT_WRITE != 0 && mode & FMODE_WRITE == 0 {
                let why =
                    "the mapping is shared and writable, but the file was opened only for reading";
                say(&READ_ONLY_OPEN, why.into(), Sure::Seen)
            } else if mmap.protection & WRITE_EXEC == WRITE_EXEC {
                let why = "the memory was to be writable and executable".to_owned();
                say(&WRITE_EXECUTE, why, Sure::Likely)
            } else {
                let why =
                    "the file was opened with the necessary rights, and the driver was not called";
                say(&SECURITY_MODULE, why.into(), Sure::Likely)
            }
        }
        ETXTBSY if mmap.flags & map::TYPE != map::PRIVATE => say(
            &SWAP_FILE,
            "the mapping is shared and writable, and the file is in use as swap".into(),
            Sure::Follows,
        ),
        EPERM if mmap.has(map::LOCKED) => of_lock(seen, refusal, mmap),
        EPERM
            if mmap.has(map::FIXED | map::FIXED_NOREPLACE)
                && seen
                    .facts
                    .min_address
                    .is_some_and(|least| mmap.address < least) =>
        {
            say(
                &LOW_ADDRESS,
                format!("the address is {:#x}", mmap.address),
                Sure::Follows,
            )
        }
        EPERM
            if opened
                .and_then(|call| call.text("name"))
                .is_some_and(|name| name.starts_with("memfd:")) =>
        {
            say(&SEALED, "the file is a memfd".into(), Sure::Likely)
        }
        EPERM if mmap.protection & PROT_EXEC != 0 => {
            say(&NO_EXEC, "the mapping is executable".into(), Sure::Likely)
        }
        EPERM => say(
            &SECURITY_MODULE,
            "the driver was not called".into(),
            Sure::Likely,
        ),
        ENODEV => {
            let none = opened.is_some_and(|call| {
                let has = |name| call.text(name).is_some_and(|text| text.contains('+'));
                !has("mmap") && !has("prepare")
            });
            let sure = if none { Sure::Seen } else { Sure::Follows };
            say(&NO_MMAP, "the file's operations have no mmap".into(), sure)
        }
        _ => None,
    }
}

/// Whether huge pages of a size were asked for that there is not.
fn is_no_size(seen: &Seen<'_>, mmap: &Mmap) -> bool {
    let size = mmap.huge_size();
    mmap.is_anonymous() && size > 1 && !seen.facts.huge_sizes.contains(&size)
}

/// The first 64-bit number that is a negative 32-bit one.
const SIGN_EXTENDED: u64 = 0xffff_ffff_8000_0000;

fn of_lock(seen: &Seen<'_>, refusal: &Refusal, mmap: &Mmap) -> Option<Finding> {
    let process = seen.facts.processes.get(&refusal.space)?;
    let limit = process.locked?;
    let wanted = process.locked_now.saturating_add(mmap.length);
    (wanted > limit).then(|| {
        let why = format!(
            "{} more bytes would be locked, {} are already, and the limit is {limit}",
            mmap.length, process.locked_now
        );
        found(seen, refusal, &LOCK_LIMIT, why, Sure::Follows)
            .proc(format!("/proc/PID/limits: Max locked memory {limit}"))
    })
}

/// `ENOMEM`: limits that are reached.
fn of_limits(seen: &Seen<'_>, refusal: &Refusal, mmap: &Mmap) -> Option<Finding> {
    /// What a process can have at most, with four levels of page tables.
    const MOST: u64 = 1 << 47;
    /// For a 32-bit program with its own code, stack and libraries in it.
    const NARROW_MOST: u64 = 2 << 30;
    let say = |cause, why: String, sure| found(seen, refusal, cause, why, sure);
    if mmap.length >= MOST {
        return Some(say(
            &NO_ADDRESS_SPACE,
            format!("{} bytes were asked for", mmap.length),
            Sure::Seen,
        ));
    }
    if mmap.has(map::LOW) && refusal.doing.number == nr::MMAP {
        let why = format!(
            "{} bytes with MAP_32BIT, for which there is 1 GiB in total (0x40000000-0x7fffffff)",
            mmap.length
        );
        return Some(say(&NO_ADDRESS_SPACE, why, Sure::Follows));
    }
    if seen.history.was_narrow(refusal.space) && mmap.length >= NARROW_MOST {
        let why = format!(
            "{} bytes for a 32-bit program, which has 4 GiB in total",
            mmap.length
        );
        return Some(say(&NO_ADDRESS_SPACE, why, Sure::Follows));
    }
    let process = seen.facts.processes.get(&refusal.space)?;
    if let Some(limit) = process.address_space {
        if process.size.saturating_add(mmap.length) > limit {
            let why = format!(
                "the process has {} bytes and asked for {} more, and the limit is {limit}",
                process.size, mmap.length
            );
            let finding = say(&ADDRESS_SPACE_LIMIT, why, Sure::Follows);
            return Some(finding.proc(format!("/proc/PID/limits: Max address space {limit}")));
        }
    }
    if let Some(limit) = process.data.filter(|_| mmap.wants_private_writable()) {
        if process.data_now.saturating_add(mmap.length) > limit {
            let why = format!(
                "the process has {} bytes of data and asked for {} more, and the limit is {limit}",
                process.data_now, mmap.length
            );
            let finding = say(&ADDRESS_SPACE_LIMIT, why, Sure::Follows);
            return Some(finding.proc(format!("/proc/PID/limits: Max data size {limit}")));
        }
    }
    let limit = seen.facts.max_map_count.unwrap_or(u64::MAX);
    if seen.mappings_of(refusal.space) >= limit {
        let why = format!("the process has as many mappings as vm.max_map_count allows ({limit})");
        return Some(say(&TOO_MANY_MAPPINGS, why, Sure::Likely));
    }
    let (limit, used) = seen.facts.commit?;
    let strict = seen.facts.overcommit == Some(2) && used.saturating_add(mmap.length) > limit;
    // By the heuristic, one call that wants more than all memory and swap is refused.
    let obvious = seen.facts.overcommit == Some(0) && mmap.length > limit.saturating_mul(2);
    (mmap.wants_private_writable() && (strict || obvious)).then(|| {
        let why = format!(
            "{} bytes of private writable memory; {used} bytes are promised, and the limit is {limit} \
            (vm.overcommit_memory is {})",
            mmap.length,
            seen.facts.overcommit.unwrap_or(0)
        );
        say(&OVERCOMMIT, why, Sure::Follows).proc(format!("/proc/meminfo: CommitLimit {limit}, Committed_AS {used}"))
    })
}

fn of_mprotect(seen: &Seen<'_>, refusal: &Refusal) -> Option<Finding> {
    let doing = &refusal.doing;
    let say = |cause, why: String, sure| Some(found(seen, refusal, cause, why, sure));
    let mapping = seen.history.at(refusal.space, doing.argument(0));
    let named = |finding: Finding| match mapping {
        Some(mapping) => Finding {
            file: mapping.file.clone(),
            ..finding
        },
        None => finding,
    };
    match refusal.result {
        EINVAL if doing.argument(0) % PAGE != 0 => say(
            &UNALIGNED_ADDRESS,
            format!("the address is {:#x}", doing.argument(0)),
            Sure::Seen,
        ),
        EACCES if doing.argument(2) & PROT_WRITE != 0 => {
            let mapping = mapping?;
            let sure = if mapping.flags & vm::MAYWRITE == 0 {
                Sure::Seen
            } else {
                Sure::Likely
            };
            let why = format!(
                "the mapping's flags are {:#x}, without VM_MAYWRITE (0x20)",
                mapping.flags
            );
            say(&NEVER_WRITABLE, why, sure).map(named)
        }
        EACCES if doing.argument(2) & PROT_EXEC != 0 => say(
            &NO_EXEC,
            "the program asked for executable memory: the file's file system is mounted noexec, its driver cleared VM_MAYEXEC, \
            or the process may not have it (PR_SET_MDWE, MemoryDenyWriteExecute= of systemd)"
                .into(),
            Sure::Likely,
        )
        .map(named),
        ENOMEM => say(
            &NOT_MAPPED,
            "part of the range is not mapped".into(),
            Sure::Likely,
        )
        .map(named),
        _ => None,
    }
}

/// `munmap` returns only `EINVAL` for wrong arguments; see [`CHANGE_MAPPINGS`] for `EPERM`.
fn of_munmap(seen: &Seen<'_>, refusal: &Refusal) -> Option<Finding> {
    let (address, length) = (refusal.doing.argument(0), refusal.doing.argument(1));
    let say = |cause, why: String, sure| Some(found(seen, refusal, cause, why, sure));
    if refusal.result != EINVAL {
        return None;
    }
    let size = seen.facts.huge_page_bytes.unwrap_or(2 << 20);
    let huge = seen
        .history
        .marked_at(refusal.space, address)
        .filter(|marked| marked.kind == Kind::Huge && (address | length) % size != 0);
    if address % PAGE != 0 {
        let why = format!("the address {address:#x} is not a multiple of the page size");
        return say(&UNALIGNED_ADDRESS, why, Sure::Seen);
    }
    if length == 0 {
        return say(&ZERO_LENGTH, "the length is 0".into(), Sure::Seen);
    }
    let marked = huge?;
    let why = format!(
        "the memory has huge pages ({}), so address and length must be multiples of {size}",
        marked.by.text()
    );
    say(&HUGE_ALIGNMENT, why, Sure::Follows)
}

fn of_msync(seen: &Seen<'_>, refusal: &Refusal) -> Option<Finding> {
    let (address, flags) = (refusal.doing.argument(0), refusal.doing.argument(2));
    let say = |cause, why: String, sure| Some(found(seen, refusal, cause, why, sure));
    match refusal.result {
        EINVAL if address % PAGE != 0 => {
            let why = format!("the address {address:#x} is not a multiple of the page size");
            say(&UNALIGNED_ADDRESS, why, Sure::Seen)
        }
        EINVAL if flags & 5 == 5 => {
            let why = format!("the flags {flags:#x} have both MS_SYNC and MS_ASYNC");
            say(&NO_ADVICE, why, Sure::Seen)
        }
        ENOMEM => say(
            &NOT_MAPPED,
            "part of the range is not mapped".into(),
            Sure::Follows,
        ),
        _ => None,
    }
}

fn of_madvise(seen: &Seen<'_>, refusal: &Refusal) -> Option<Finding> {
    let (address, advice) = (refusal.doing.argument(0), refusal.doing.argument(2));
    let say = |cause, why: String, sure| Some(found(seen, refusal, cause, why, sure));
    match refusal.result {
        EINVAL if address % PAGE != 0 => {
            let why = format!("the address {address:#x} is not a multiple of the page size");
            say(&UNALIGNED_ADDRESS, why, Sure::Seen)
        }
        EINVAL => {
            let mapping = seen.history.at(refusal.space, address)?;
            let special = mapping.flags & (vm::PFNMAP | vm::IO | vm::MIXEDMAP | vm::DONTEXPAND);
            let why = format!(
                "advice {advice} is not accepted for a device's mapping; its flags are {:#x} (VM_PFNMAP 0x400, VM_IO \
                0x4000, \
                 VM_DONTEXPAND 0x40000, VM_MIXEDMAP 0x10000000)",
                mapping.flags
            );
            (special != 0)
                .then(|| say(&NO_ADVICE, why, Sure::Follows))
                .flatten()
        }
        ENOMEM => say(
            &NOT_MAPPED,
            "part of the range is not mapped".into(),
            Sure::Likely,
        ),
        _ => None,
    }
}

/// Any memory that is locked counts against `RLIMIT_MEMLOCK`.
fn of_mlock(seen: &Seen<'_>, refusal: &Refusal) -> Option<Finding> {
    let say = |cause, why: String, sure| Some(found(seen, refusal, cause, why, sure));
    let process = seen.facts.processes.get(&refusal.space)?;
    let wanted = match refusal.doing.number {
        nr::MLOCKALL => process.size,
        _ => process.locked_now.saturating_add(refusal.doing.argument(1)),
    };
    match (refusal.result, process.locked) {
        (EPERM, Some(0)) => {
            let finding = say(&LOCK_LIMIT, "the limit is 0".into(), Sure::Follows)?;
            Some(finding.proc("/proc/PID/limits: Max locked memory 0"))
        }
        (ENOMEM | EAGAIN, Some(limit)) if wanted > limit => {
            let why = format!("{wanted} bytes would be locked, and the limit is {limit}");
            let finding = say(&LOCK_LIMIT, why, Sure::Follows)?;
            Some(finding.proc(format!("/proc/PID/limits: Max locked memory {limit}")))
        }
        (ENOMEM, _) => say(
            &NOT_MAPPED,
            "part of the range is not mapped".into(),
            Sure::Likely,
        ),
        _ => None,
    }
}

fn of_mremap(seen: &Seen<'_>, refusal: &Refusal) -> Option<Finding> {
    let doing = &refusal.doing;
    let (address, from, to) = (doing.argument(0), doing.argument(1), doing.argument(2));
    let say = |cause, why: String, sure| Some(found(seen, refusal, cause, why, sure));
    let mapping = seen.history.at(refusal.space, address);
    match (refusal.result, mapping) {
        (EINVAL, _) if address % PAGE != 0 => say(
            &UNALIGNED_ADDRESS,
            format!("the address is {address:#x}"),
            Sure::Seen,
        ),
        (EINVAL, _) if to == 0 => say(&ZERO_LENGTH, "the new length is 0".into(), Sure::Seen),
        (EFAULT, Some(mapping))
            if to > from && mapping.flags & (vm::DONTEXPAND | vm::PFNMAP) != 0 =>
        {
            let why = format!(
                "from {from} to {to} bytes; the mapping's flags are {:#x}, among them VM_DONTEXPAND (0x40000) or \
                VM_PFNMAP (0x400)",
                mapping.flags
            );
            let finding = say(&NO_GROWTH, why, Sure::Seen)?;
            Some(Finding {
                file: mapping.file.clone(),
                ..finding
            })
        }
        _ => None,
    }
}
