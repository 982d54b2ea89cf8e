//! Probes and an instance of our own in tracefs, and what they record.
//!
//! Everything carries this process's number in its name, and goes when the value is dropped. What a killed one
//! left is removed by the next.

use super::Problem;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// What the names of instances and of groups of probes begin with.
const INSTANCE: &str = "mapbuf-";
const GROUP: &str = "mapbuf_";
/// For each processor; a per-page mapping of a gigabyte is a quarter of a million events.
const BUFFER_KIB: &str = "4096";

/// Fields of the VMA, for the functions that get one as `vma`. Their offsets come from the kernel's BTF.
const VMA: &str =
    "start=vma->vm_start:x64 end=vma->vm_end:x64 flags=vma->vm_flags:x64 pgoff=vma->vm_pgoff:x64 \
                   prot=vma->vm_page_prot.pgprot:x64";

/// A function that is watched.
struct Probe {
    /// The event's name.
    event: &'static str,
    /// `function` or `function%return`.
    place: &'static str,
    /// What is recorded of its arguments and its result.
    fetch: &'static str,
    /// Whether it gets a VMA as `vma`.
    vma: bool,
    /// Only events for which this holds.
    filter: &'static str,
}

const fn probe(event: &'static str, place: &'static str, fetch: &'static str) -> Probe {
    Probe {
        event,
        place,
        fetch,
        vma: true,
        filter: "",
    }
}

/// `VM_FAULT_OOM | SIGBUS | HWPOISON | SIGSEGV`, `include/linux/mm_types.h`.
const FAILED_FAULT: &str = "ret & 0x53";
const IS_EFAULT: &str = "ret == -14";

/// The event of a call that may end in a `BUG`.
const MAY_STOP: &str = "vmf_insert_pfn_begin";

/// The functions of `mm/memory.c`, `mm/vmalloc.c`, `kernel/dma/mapping.c`, `mm/vma.c` and `mm/gup.c` that are watched.
/// Not every kernel has each of them as a function of its own: those that are missing are left out.
const PROBES: &[Probe] = &[
    probe("remap_pfn_range", "remap_pfn_range%return", "addr=$arg2:x64 pfn=$arg3:x64 size=$arg4:x64 asked=$arg5:x64 ret=$retval:s32"),
    probe(
        "remap_pfn_range_complete",
        "remap_pfn_range_complete%return",
        "addr=action->remap.start:x64 pfn=action->remap.start_pfn:x64 size=action->remap.size:x64 \
         asked=action->remap.pgprot.pgprot:x64 ret=$retval:s32",
    ),
    // The cache mode that came of the one that was asked for (arch/x86/mm/pat/memtype.c).
    Probe { vma: false, ..probe("pfnmap_track", "pfnmap_track%return", "granted=+0($arg3):x64") },
    Probe { vma: false, ..probe("pfnmap_setup_cachemode", "pfnmap_setup_cachemode%return", "granted=+0($arg3):x64") },
    probe("vm_insert_page", "vm_insert_page%return", "addr=$arg2:x64 size=\\4096 ret=$retval:s32"),
    probe("vm_insert_pages_begin", "vm_insert_pages", "addr=$arg2:x64 num=+0($arg4):u64"),
    probe("vm_insert_pages", "vm_insert_pages%return", "addr=$arg2:x64 left=+0($arg4):u64 ret=$retval:s32"),
    probe("vm_map_pages", "vm_map_pages%return", "num=$arg3:u64 ret=$retval:s32"),
    probe("vm_map_pages_zero", "vm_map_pages_zero%return", "num=$arg3:u64 ret=$retval:s32"),
    probe("remap_vmalloc_range", "remap_vmalloc_range%return", "ret=$retval:s32"),
    probe("remap_vmalloc_range_partial", "remap_vmalloc_range_partial%return", "addr=$arg2:x64 size=$arg5:x64 ret=$retval:s32"),
    probe("vm_iomap_memory", "vm_iomap_memory%return", "physical=$arg2:x64 size=$arg3:x64 ret=$retval:s32"),
    probe("dma_mmap_attrs", "dma_mmap_attrs%return", "size=$arg5:x64 ret=$retval:s32"),
    // At its beginning: with a wrong VMA it does not come to its end (BUG_ON).
    Probe { filter: "!(flags & 0x400) || (flags & 0x10000000) || ((flags & 0x20) && !(flags & 0x8))",
        ..probe(MAY_STOP, "vmf_insert_pfn", "addr=$arg2:x64 pfn=$arg3:x64 fault=vma->vm_ops->fault:symbol") },
    Probe { filter: FAILED_FAULT, ..probe("vmf_insert_pfn", "vmf_insert_pfn%return", "addr=$arg2:x64 pfn=$arg3:x64 ret=$retval:x32 fault=vma->vm_ops->fault:symbol") },
    Probe { filter: FAILED_FAULT, ..probe("vmf_insert_pfn_prot", "vmf_insert_pfn_prot%return", "addr=$arg2:x64 pfn=$arg3:x64 ret=$retval:x32 fault=vma->vm_ops->fault:symbol") },
    Probe { filter: FAILED_FAULT, ..probe("vmf_insert_mixed", "vmf_insert_mixed%return", "addr=$arg2:x64 pfn=$arg3:x64 ret=$retval:x32 fault=vma->vm_ops->fault:symbol") },
    Probe { filter: FAILED_FAULT, ..probe("vmf_insert_mixed_mkwrite", "vmf_insert_mixed_mkwrite%return", "addr=$arg2:x64 pfn=$arg3:x64 ret=$retval:x32 fault=vma->vm_ops->fault:symbol") },
    Probe { filter: FAILED_FAULT, ..probe("handle_mm_fault", "handle_mm_fault%return",
        "addr=$arg2:x64 ret=$retval:x32 fault=vma->vm_ops->fault:symbol name=vma->vm_file->f_path.dentry->d_name.name:string") },
    Probe { vma: false, ..probe("mmap_region", "mmap_region%return",
        "addr=$arg2:x64 size=$arg3:x64 flags=$arg4:x64 ret=$retval:x64 mode=file->f_inode->i_mode:x16 mmap=file->f_op->mmap:symbol name=file->f_path.dentry->d_name.name:string") },
    Probe { vma: false, filter: IS_EFAULT, ..probe("pin_user_pages_fast", "pin_user_pages_fast%return", "addr=$arg1:x64 ret=$retval:s32") },
    Probe { vma: false, filter: IS_EFAULT, ..probe("get_user_pages_fast", "get_user_pages_fast%return", "addr=$arg1:x64 ret=$retval:s32") },
    Probe { vma: false, filter: IS_EFAULT, ..probe("pin_user_pages", "pin_user_pages%return", "addr=$arg1:x64 ret=$retval:s32") },
    Probe { vma: false, filter: IS_EFAULT, ..probe("pin_user_pages_remote", "pin_user_pages_remote%return", "addr=$arg2:x64 ret=$retval:s32") },
];

/// The system calls that are followed, by their number on this architecture: `mmap`, `munmap`, `mremap`, `execve`,
/// `ioctl`, `close`.
#[cfg(target_arch = "x86_64")]
pub mod nr {
    pub const MMAP: u64 = 9;
    pub const MUNMAP: u64 = 11;
    pub const IOCTL: u64 = 16;
    pub const EXECVE: u64 = 59;
    pub const CLOSE: u64 = 3;
}
#[cfg(not(target_arch = "x86_64"))]
pub mod nr {
    // The numbers of `include/uapi/asm-generic/unistd.h`.
    pub const MMAP: u64 = 222;
    pub const MUNMAP: u64 = 215;
    pub const IOCTL: u64 = 29;
    pub const EXECVE: u64 = 221;
    pub const CLOSE: u64 = 57;
}

/// The probes and the instance; dropping it removes them.
pub struct Tracer {
    root: PathBuf,
    instance: PathBuf,
    group: String,
    /// The events that this kernel has.
    events: Vec<&'static str>,
}

impl Tracer {
    /// Makes the instance and defines the probes; nothing is recorded yet. Without fprobe events, or where kprobes are
    /// asked for, kprobe events do the same.
    pub fn new(kprobes: bool) -> Result<Self, Problem> {
        let root = mounted()?;
        if locked_down() {
            return Err(Problem::Lockdown);
        }
        sweep(&root);
        let own = std::process::id();
        let instance = root.join("instances").join(format!("{INSTANCE}{own}"));
        fs::create_dir(&instance)
            .map_err(|error| refused("an instance of its own".into(), &error))?;
        let mut tracer = Self {
            root,
            instance,
            group: format!("{GROUP}{own}"),
            events: Vec::new(),
        };
        tracer.define(kprobes)?;
        Ok(tracer)
    }

    fn define(&mut self, kprobes: bool) -> Result<(), Problem> {
        let path = self.root.join("dynamic_events");
        let mut last = None;
        for probe in PROBES {
            let vma = if probe.vma { VMA } else { "" };
            let Probe {
                event,
                place,
                fetch,
                ..
            } = probe;
            let fetch = fetch.split_once(" fault=").map_or_else(
                || format!("{fetch} {vma}"),
                // Text goes last: a name may have blanks in it.
                |(first, rest)| format!("{first} {vma} fault={rest}"),
            );
            let group = &self.group;
            let (function, kretprobe) = match place.strip_suffix("%return") {
                Some(function) => (function, "r64"),
                None => (*place, "p"),
            };
            let fprobe = format!("f:{group}/{event} {place} {fetch}");
            let kprobe = format!("{kretprobe}:{group}/{event} {function} {fetch}");
            let defined = if kprobes {
                append(&path, &kprobe)
            } else {
                append(&path, &fprobe).or_else(|_| append(&path, &kprobe))
            };
            match defined {
                Ok(()) => self.events.push(event),
                Err(error) => last = Some(error),
            }
        }
        match last {
            Some(error) if !self.events.contains(&"remap_pfn_range") => {
                Err(refused("probes of kernel functions".into(), &error))
            }
            _ => Ok(()),
        }
    }

    /// Records what the process does, and those that it starts.
    pub fn watch(&self, pid: u32) -> Result<Recording, Problem> {
        let set = |file: &str, value: &str| {
            self.set(file, value)
                .map_err(|error| refused(format!("to write {value:?} into {file}"), &error))
        };
        set("buffer_size_kb", BUFFER_KIB)?;
        set("trace_clock", "mono")?;
        set("options/irq-info", "0")?;
        set("options/event-fork", "1")?;
        set("set_event_pid", &pid.to_string())?;
        let numbers = [nr::MMAP, nr::MUNMAP, nr::IOCTL, nr::EXECVE, nr::CLOSE]
            .map(|number| format!("id == {number}"))
            .join(" || ");
        for event in ["sys_enter", "sys_exit"] {
            let event = format!("events/raw_syscalls/{event}");
            set(&format!("{event}/filter"), &numbers)?;
            set(&format!("{event}/enable"), "1")?;
        }
        // Without it an address space's end is not seen, no more.
        let _ = self.set("events/sched/sched_process_exit/enable", "1");
        for probe in PROBES
            .iter()
            .filter(|probe| self.events.contains(&probe.event))
        {
            let event = format!("events/{}/{}", self.group, probe.event);
            if !probe.filter.is_empty()
                && self.set(&format!("{event}/filter"), probe.filter).is_err()
            {
                // Unfiltered it would be one event for each page fault.
                continue;
            }
            if probe.event.starts_with("remap_pfn_range") {
                // Freed pages are of interest once there are entries without a reference to them, and there are many.
                let _ = self.set(
                    &format!("{event}/trigger"),
                    "enable_event:kmem:mm_page_free",
                );
            }
            set(&format!("{event}/enable"), "1")?;
        }
        Recording::start(&self.instance)
            .map_err(|error| refused("to be read (trace_pipe)".into(), &error))
    }

    fn set(&self, file: &str, value: &str) -> io::Result<()> {
        OpenOptions::new()
            .write(true)
            .open(self.instance.join(file))?
            .write_all(value.as_bytes())
    }

    /// How many events found no room.
    pub fn lost(&self) -> u64 {
        let Ok(folders) = fs::read_dir(self.instance.join("per_cpu")) else {
            return 0;
        };
        folders
            .flatten()
            .filter_map(|folder| fs::read_to_string(folder.path().join("stats")).ok())
            .map(|stats| {
                stats
                    .lines()
                    .filter_map(|line| line.strip_prefix("overrun: "))
                    .filter_map(|number| number.trim().parse::<u64>().ok())
                    .sum::<u64>()
            })
            .sum()
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        remove(&self.root, &self.instance, &self.group);
    }
}

/// The thread that takes the events out while the program runs.
pub struct Recording {
    stop: Arc<AtomicBool>,
    doomed: Arc<AtomicBool>,
    thread: JoinHandle<Vec<u8>>,
}

impl Recording {
    /// Whether a call was seen that may have stopped a thread in the middle of the kernel.
    pub fn may_have_stopped(&self) -> bool {
        self.doomed.load(Ordering::Acquire)
    }

    fn start(instance: &Path) -> io::Result<Self> {
        let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
        let mut pipe = OpenOptions::new()
            .read(true)
            .custom_flags(nonblocking)
            .open(instance.join("trace_pipe"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let doomed = Arc::new(AtomicBool::new(false));
        let dooming = Arc::clone(&doomed);
        let thread = thread::spawn(move || {
            let mark = format!(" {MAY_STOP}: ");
            let mut text: Vec<u8> = Vec::new();
            let mut searched = 0;
            let mut chunk = vec![0; 1 << 16];
            loop {
                let last = stopped.load(Ordering::Acquire);
                let empty = drain(&mut pipe, &mut chunk, &mut text);
                let new = text.get(searched..).unwrap_or_default();
                if new.windows(mark.len()).any(|part| part == mark.as_bytes()) {
                    dooming.store(true, Ordering::Release);
                }
                // The mark may lie across the end.
                searched = text.len().saturating_sub(mark.len() - 1);
                if empty && !last {
                    thread::sleep(Duration::from_millis(5));
                } else if last {
                    return text;
                }
            }
        });
        Ok(Self {
            stop,
            doomed,
            thread,
        })
    }

    /// What was recorded, when the program has ended.
    pub fn finish(self) -> String {
        self.stop.store(true, Ordering::Release);
        let text = self.thread.join().unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// Reads all that there is; says that it did.
fn drain(pipe: &mut File, chunk: &mut [u8], text: &mut Vec<u8>) -> bool {
    loop {
        match pipe.read(chunk) {
            Ok(0) => return true,
            Ok(length) => text.extend_from_slice(chunk.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return true,
        }
    }
}

/// Where tracefs is.
fn mounted() -> Result<PathBuf, Problem> {
    for path in ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"] {
        match fs::metadata(Path::new(path).join("dynamic_events")) {
            Ok(_) => return Ok(path.into()),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                return Err(Problem::Privilege);
            }
            Err(_) => {}
        }
    }
    Err(if rustix::process::geteuid().is_root() {
        Problem::NoTracefs
    } else {
        Problem::Privilege
    })
}

/// Whether the kernel lets nobody use tracefs (`LOCKDOWN_TRACEFS` of `include/linux/security.h`).
fn locked_down() -> bool {
    fs::read_to_string("/sys/kernel/security/lockdown")
        .is_ok_and(|modes| modes.contains("[confidentiality]"))
}

fn refused(what: String, error: &io::Error) -> Problem {
    match error.kind() {
        ErrorKind::PermissionDenied if !rustix::process::geteuid().is_root() => Problem::Privilege,
        _ => Problem::Tracefs {
            what,
            error: error.to_string(),
        },
    }
}

fn append(path: &Path, line: &str) -> io::Result<()> {
    OpenOptions::new()
        .append(true)
        .open(path)?
        .write_all(format!("{line}\n").as_bytes())
}

/// Removes an instance and the probes of a group. What is gone already is no failure.
fn remove(root: &Path, instance: &Path, group: &str) {
    let off = |file: PathBuf| {
        let _ = fs::write(file, "0");
    };
    off(instance.join("tracing_on"));
    off(instance.join("events/enable"));
    for event in ["remap_pfn_range", "remap_pfn_range_complete"] {
        let trigger = instance.join(format!("events/{group}/{event}/trigger"));
        let _ = fs::write(trigger, "!enable_event:kmem:mm_page_free");
    }
    off(root.join("events").join(group).join("enable"));
    for _ in 0..20 {
        match fs::remove_dir(instance) {
            // Somebody reads in it.
            Err(error) if error.kind() == ErrorKind::ResourceBusy => {
                thread::sleep(Duration::from_millis(10));
            }
            _ => break,
        }
    }
    let path = root.join("dynamic_events");
    let defined = fs::read_to_string(&path).unwrap_or_default();
    for line in defined.lines() {
        if let Some(event) = event_of(line, group) {
            let _ = append(&path, &format!("-:{event}"));
        }
    }
}

/// `GROUP/EVENT` of a definition, if it is of that group.
fn event_of<'a>(definition: &'a str, group: &str) -> Option<&'a str> {
    let event = definition.split_once(':')?.1.split(' ').next()?;
    event.strip_prefix(group)?.starts_with('/').then_some(event)
}

/// Removes what processes left that are no more.
fn sweep(root: &Path) {
    let dead =
        |number: &str| number.parse::<u32>().is_ok() && !Path::new("/proc").join(number).exists();
    let mut numbers: Vec<String> = fs::read_dir(root.join("instances"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            Some(
                entry
                    .file_name()
                    .to_str()?
                    .strip_prefix(INSTANCE)?
                    .to_owned(),
            )
        })
        .collect();
    for line in fs::read_to_string(root.join("dynamic_events"))
        .unwrap_or_default()
        .lines()
    {
        let group = line
            .split_once(':')
            .and_then(|(_, rest)| rest.split('/').next());
        if let Some(number) = group.and_then(|group| group.strip_prefix(GROUP)) {
            numbers.push(number.to_owned());
        }
    }
    numbers.sort();
    numbers.dedup();
    for number in numbers.iter().filter(|number| dead(number)) {
        let instance = root.join("instances").join(format!("{INSTANCE}{number}"));
        remove(root, &instance, &format!("{GROUP}{number}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_has_its_group() {
        let line = "f:mapbuf_12/remap_pfn_range remap_pfn_range%return addr=$arg2:x64";
        assert_eq!(
            event_of(line, "mapbuf_12"),
            Some("mapbuf_12/remap_pfn_range")
        );
        assert_eq!(event_of(line, "mapbuf_1"), None);
        assert_eq!(event_of("r64:mapbuf_1/x y", "mapbuf_1"), Some("mapbuf_1/x"));
    }
}
