//! System calls, and what the kernel tells of a mapping.

use super::Result;
use std::fs::{self, File};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// The size of a page.
pub const PAGE: usize = 4096;
/// What one entry of the table above shows.
pub const HUGE: usize = 2 << 20;

/// The processor's time stamp counter.
pub fn clock() -> u64 {
    // SAFETY: the instruction is there on every x86-64 processor, and Linux lets programs use it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// The time that real-time programs may take, in microseconds of a second; -1: all of it.
const SHARE: &str = "/proc/sys/kernel/sched_rt_runtime_us";

/// While it lives, nothing but interrupts runs in between: other threads of the kernel have work to do, but not now.
pub struct First {
    share: String,
}

impl First {
    /// Takes precedence.
    pub fn new() -> Result<Self> {
        let first = Self {
            share: fs::read_to_string(SHARE)?,
        };
        fs::write(SHARE, "-1")?;
        let parameters = libc::sched_param { sched_priority: 1 };
        // SAFETY: the struct is the one that the call takes.
        check(unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &parameters) }.into())?;
        Ok(first)
    }
}

impl Drop for First {
    fn drop(&mut self) {
        // The program ends now; there is nobody to tell.
        let _ = fs::write(SHARE, self.share.trim());
    }
}

/// Page faults of this process so far.
pub fn faults() -> u64 {
    // SAFETY: integers, for which zero is a value.
    let mut usage: libc::rusage = unsafe { core::mem::zeroed() };
    // SAFETY: the kernel writes the struct.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
    (usage.ru_minflt + usage.ru_majflt).unsigned_abs()
}

/// The memory that this process has for page tables of the lowest level, in KiB.
pub fn page_tables() -> Result<u64> {
    field(&fs::read_to_string("/proc/self/status")?, "VmPTE:")
        .ok_or_else(|| "/proc/self/status has no VmPTE".into())
}

/// The number of KiB behind a name.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The result of a system call, or the error.
pub fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// A pipe: what is read, what is written.
pub fn pipe() -> Result<(File, File)> {
    let mut ends = [0; 2];
    // SAFETY: there is room for two descriptors.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }.into())?;
    // SAFETY: the kernel has just put these descriptors into our table.
    let [read, write] = ends.map(|fd| File::from(unsafe { OwnedFd::from_raw_fd(fd) }));
    Ok((read, write))
}

/// Runs a function in a process of its own; its number.
pub fn fork(body: impl FnOnce() -> Result<()>) -> Result<libc::pid_t> {
    // SAFETY: the process has one thread.
    let pid = check(unsafe { libc::fork() }.into())?;
    if pid != 0 {
        return Ok(libc::pid_t::try_from(pid)?);
    }
    let status = match body() {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("mapbuf-price: {error}");
            1
        }
    };
    // SAFETY: ends the process at once.
    unsafe { libc::_exit(status) }
}

/// Waits until a child has ended well.
pub fn wait_for(pid: libc::pid_t) -> Result<()> {
    let mut status = 0;
    // SAFETY: the status is valid for the call.
    check(unsafe { libc::waitpid(pid, &mut status, 0) }.into())?;
    if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0 {
        return Ok(());
    }
    Err(format!("process {pid} ended with status {status:#x}").into())
}

/// What was mapped.
pub struct Mapped {
    start: usize,
    len: usize,
}

/// What the kernel tells of a mapping.
pub struct Sight {
    /// What has entries of 2 MiB, of that which has pages.
    pub huge_bytes: u64,
    /// Whether it is mapped by page frame.
    pub by_frame: bool,
}

impl Mapped {
    /// Maps a file, shared; without a file anonymous memory, with huge pages or without (`Some`).
    pub fn new(fd: Option<RawFd>, offset: u64, len: usize, huge: Option<bool>) -> Result<Self> {
        let flags = match fd {
            Some(_) => libc::MAP_SHARED,
            None => libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        };
        let offset = libc::off_t::try_from(offset)?;
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let none = core::ptr::null_mut();
        // SAFETY: without MAP_FIXED nothing that is mapped is replaced.
        let start = unsafe { libc::mmap(none, len, prot, flags, fd.unwrap_or(-1), offset) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error().into());
        }
        let mapped = Self {
            start: start as usize,
            len,
        };
        if let Some(huge) = huge {
            let advice = if huge {
                libc::MADV_HUGEPAGE
            } else {
                libc::MADV_NOHUGEPAGE
            };
            // SAFETY: the range was mapped just now; the advice changes no byte of it.
            check(unsafe { libc::madvise(start, len, advice) }.into())?;
        }
        Ok(mapped)
    }

    /// Writes one word to each page.
    pub fn touch(&self) {
        for at in (0..self.len).step_by(PAGE) {
            // SAFETY: the word lies in the mapping, to which there are no references.
            unsafe { ((self.start + at) as *mut u64).write_volatile(at as u64) };
        }
    }

    /// Whether a huge entry could show its first page.
    pub fn begins_at_a_huge_entry(&self) -> bool {
        self.start % HUGE == 0
    }

    /// What the kernel tells of it.
    pub fn look(&self) -> Result<Sight> {
        let all = fs::read_to_string("/proc/self/smaps")?;
        let head = format!("{:x}-", self.start);
        let (_, ours) = all.split_once(&head).ok_or("smaps does not have it")?;
        let last = "VmFlags:";
        let (fields, rest) = ours.split_once(last).ok_or("smaps without flags")?;
        let flags = rest.lines().next().unwrap_or_default();
        let huge_kib: u64 = ["AnonHugePages:", "ShmemPmdMapped:", "FilePmdMapped:"]
            .iter()
            .filter_map(|name| field(fields, name))
            .sum();
        Ok(Sight {
            huge_bytes: huge_kib * 1024,
            by_frame: flags.split_whitespace().any(|flag| flag == "pf"),
        })
    }

    /// Unmaps it.
    pub fn unmap(self) -> Result<()> {
        // SAFETY: the range is this mapping's own, and nobody has a reference into it.
        check(unsafe { libc::munmap(self.start as *mut libc::c_void, self.len) }.into())?;
        Ok(())
    }
}
