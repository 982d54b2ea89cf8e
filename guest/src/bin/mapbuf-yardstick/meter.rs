//! What is counted, and how.

use super::Result;
use perf_event_open_sys as perf;
use rustix::mm::{mmap, MapFlags, ProtFlags};
use std::arch::asm;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::FromRawFd;
use std::ptr;

/// The number of the tracepoint that each system call passes.
const SYS_ENTER: &str = "/sys/kernel/tracing/events/raw_syscalls/sys_enter/id";

/// Something that goes up.
pub enum Meter {
    /// Instructions, less those of having nothing to do.
    Instructions(Idler),
    /// System calls of this process, in thousandths.
    Calls(Calls),
}

impl Meter {
    /// Where it stands when something begins.
    pub fn begin(&self) -> Result<u64> {
        match self {
            Self::Instructions(idler) => Ok(idler.busy()),
            Self::Calls(calls) => Ok(1000 * calls.now()?),
        }
    }

    /// Where it stands when something has ended.
    pub fn end(&self) -> Result<u64> {
        match self {
            Self::Instructions(idler) => Ok(idler.busy()),
            // Less the call that asks.
            Self::Calls(calls) => Ok(1000 * calls.now()?.saturating_sub(1)),
        }
    }
}

/// Where the idler counts, for every process to see.
const COUNT: &str = "/tmp/idler";
/// Instructions for each count.
const STEP: u64 = 2;

/// What a process counts that runs whenever no other one wants the only processor.
pub struct Idler {
    count: *const u64,
}

impl Idler {
    /// Starts it. It ends with the machine.
    pub fn start() -> Result<Self> {
        fs::write(COUNT, [0; 4096])?;
        let idler = Self::find()?;
        // SAFETY: nothing is done in the child but what is below, which needs nothing of the parent's other threads.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error().into()),
            0 => {
                let parameters = libc::sched_param { sched_priority: 0 };
                // SAFETY: the struct is the one that the call takes.
                unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &parameters) };
                // SAFETY: the word is this process's to write; `STEP` is the number of instructions.
                unsafe {
                    asm!("2:", "inc qword ptr [{0}]", "jmp 2b", in(reg) idler.count, options(noreturn))
                }
            }
            _ => Ok(idler),
        }
    }

    /// The one that another process has started.
    pub fn find() -> Result<Self> {
        let file = File::options().read(true).write(true).open(COUNT)?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, where the kernel likes. It stays to the end of the process.
        let count = unsafe { mmap(ptr::null_mut(), 4096, access, MapFlags::SHARED, &file, 0) }?;
        Ok(Self {
            count: count.cast(),
        })
    }

    /// Instructions of everybody else.
    fn busy(&self) -> u64 {
        // SAFETY: the mapping stays; another process changes the word.
        let idle = unsafe { self.count.read_volatile() };
        // SAFETY: the instruction is there on every x86-64 processor, and Linux lets programs use it.
        let all = unsafe { core::arch::x86_64::_rdtsc() };
        all.saturating_sub(STEP * idle)
    }
}

/// A counter of this process's system calls.
pub struct Calls(File);

impl Calls {
    /// Counts from here on.
    pub fn count() -> Result<Self> {
        let id = fs::read_to_string(SYS_ENTER).map_err(|error| format!("{SYS_ENTER}: {error}"))?;
        let mut attributes = perf::bindings::perf_event_attr {
            type_: perf::bindings::PERF_TYPE_TRACEPOINT,
            size: size_of::<perf::bindings::perf_event_attr>() as u32,
            config: id.trim().parse()?,
            ..Default::default()
        };
        // SAFETY: the structure is whole, and says how long it is. This process, on every processor.
        let fd = unsafe { perf::perf_event_open(&mut attributes, 0, -1, -1, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error().into());
        }
        // SAFETY: the kernel has just made it for this process.
        Ok(Self(unsafe { File::from_raw_fd(fd) }))
    }

    fn now(&self) -> Result<u64> {
        let mut bytes = [0; 8];
        (&self.0).read_exact(&mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }
}
