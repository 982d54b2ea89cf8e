//! Stops of the program at the moment from which on more is to be recorded than before.
//!
//! A probe that waits to be turned on by another event costs at each page fault nearly what it costs when it is on. So
//! those are really off until the program opens a file whose memory may be a device's: then a perf event has the kernel
//! send SIGTRAP to the thread (`perf_sigtrap` of `kernel/events/core.c`, since 5.13), at its return to user space and
//! before it can do anything with the file. The tracer takes the signal, the program never sees it.

use nix::{
    sys::{
        ptrace,
        resource::{getrlimit, setrlimit, Resource},
    },
    unistd::Pid,
};
use perf_event::{events::Tracepoint, Builder, Counter};
use std::{collections::BTreeMap, ffi::CString, io};

/// `TRAP_PERF` of `include/uapi/asm-generic/siginfo.h`.
const TRAP_PERF: i32 = 6;
/// What tells our signals from those of perf events of the program's own.
const MARK: u64 = 0x6d61_7062_7566;

/// A probe that stops the program.
#[derive(Clone, Debug)]
pub struct Stop {
    /// Its event's number.
    pub id: u64,
    /// Only where this holds; empty: always.
    pub filter: CString,
}

/// The stops of a program and of all that it starts.
#[derive(Default)]
pub struct Stops {
    wanted: Vec<Stop>,
    /// By process. Those that it inherited, and those of programs that it was before, are gone or go with others.
    open: BTreeMap<i32, Vec<Counter>>,
}

impl Stops {
    /// Nothing stops yet. Each process that executes a program takes a few descriptors of ours: as many as may be are allowed
    /// from here on, which the program that was started before does not inherit.
    pub fn new(wanted: Vec<Stop>) -> Self {
        if let (false, Ok((_, most))) = (wanted.is_empty(), getrlimit(Resource::RLIMIT_NOFILE)) {
            // With less, all is turned on sooner.
            let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
        }
        Self {
            wanted,
            open: BTreeMap::new(),
        }
    }

    /// Whether there are any.
    pub fn are_wanted(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// Has a process that stands still, and those that it starts, stop. The kernel takes these events away when a process
    /// executes another program.
    pub fn lay(&mut self, process: i32) -> io::Result<()> {
        let mut counters = Vec::new();
        for stop in &self.wanted {
            let mut event = Builder::new(Tracepoint::with_id(stop.id));
            let mut counter = event
                .observe_pid(process)
                .any_cpu()
                .inherit(true)
                .remove_on_exec(true)
                .sigtrap(true)
                .sig_data(MARK)
                .sample_period(1)
                .exclude_kernel(false)
                .exclude_hv(false)
                .enabled(false)
                .build()?;
            if !stop.filter.is_empty() {
                raw::set_filter(&counter, &stop.filter)?;
            }
            counter.enable()?;
            counters.push(counter);
        }
        self.open.insert(process, counters);
        Ok(())
    }

    /// Nothing stops any more.
    pub fn take_away(&mut self) {
        self.wanted.clear();
        self.open.clear();
    }
}

/// Whether the SIGTRAP that a thread is about to get is one of these.
pub fn is_at_one(thread: i32) -> bool {
    ptrace::getsiginfo(Pid::from_raw(thread))
        .is_ok_and(|info| info.si_code == TRAP_PERF && raw::data(&info) == MARK)
}

/// What the libraries leave out: a request, and a field of a union.
mod raw {
    use nix::libc;
    use perf_event::Counter;
    use std::{ffi::CStr, io, os::fd::AsRawFd};

    /// `PERF_EVENT_IOC_SET_FILTER` of `include/uapi/linux/perf_event.h`.
    const SET_FILTER: u64 = 0x4008_2406;
    /// Where `si_perf_data` lies in `siginfo_t` (`include/uapi/asm-generic/siginfo.h`, of 64 bits).
    const PERF_DATA: usize = 24;

    pub fn set_filter(counter: &Counter, filter: &CStr) -> io::Result<()> {
        let descriptor = counter.as_raw_fd();
        let request = SET_FILTER as libc::Ioctl;
        // SAFETY: the request reads a string that ends with 0, as a `CStr` does, and keeps no pointer to it.
        match unsafe { libc::ioctl(descriptor, request, filter.as_ptr()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The data of a signal of a perf event.
    pub fn data(info: &libc::siginfo_t) -> u64 {
        let start = std::ptr::from_ref(info).cast::<u8>();
        // SAFETY: `siginfo_t` has 128 bytes.
        let place = unsafe { start.add(PERF_DATA) };
        // SAFETY: it is within `info`, which the kernel filled in wholly, and any bytes are a number.
        unsafe { place.cast::<u64>().read_unaligned() }
    }
}
