//! The program, from its first instruction to its end: it is traced so that the memory map can be seen at the moment
//! of a signal.

use super::{
    facts, frames,
    library::Traps,
    probes::nr,
    stops,
    trace::{Event, What},
    Problem,
};
use nix::{
    sys::{
        ptrace::{self, Options},
        signal::{self, SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
    unistd::Pid,
};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs,
    os::unix::process::CommandExt,
    process::{Child, Command},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

/// `SI_KERNEL`: the terminal sent it, to the program as well.
const SI_KERNEL: i32 = 0x80;
/// `PTRACE_EVENT_EXIT`, `include/uapi/linux/ptrace.h`.
const EVENT_EXIT: i32 = 6;
/// `PTRACE_EVENT_EXEC`.
const EVENT_EXEC: i32 = 4;
/// `PTRACE_EVENT_STOP`.
const EVENT_STOP: i32 = 128;
/// How often it is looked whether the program hangs, when nothing happens.
const TICK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 500_000_000,
};
/// How often it is looked whether the program hangs, while its memory map is read.
const MAP_TICK: Duration = Duration::from_millis(500);
/// So many looks one after the other must find it hanging.
const TICKS_HANGING: u32 = 4;
/// What the stub exits with when there is no such program, as a shell does.
pub const NOT_FOUND: u8 = 127;
/// The same, when it cannot be executed.
pub const NOT_EXECUTABLE: u8 = 126;

/// A mapping as `/proc/PID/smaps` shows it.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Vma {
    /// Its first byte.
    pub start: u64,
    /// The byte behind its last.
    pub end: u64,
    /// `rw-p` and the like.
    pub permissions: String,
    /// The file's path, or what stands in its place.
    pub path: String,
    /// Where in the file it begins.
    #[serde(skip)]
    pub offset: u64,
    /// The two-letter flags.
    pub flags: Vec<String>,
}

/// A SIGSEGV or SIGBUS that the kernel sent.
#[derive(Clone, Debug, Serialize)]
pub struct Fault {
    /// Whose.
    pub pid: i32,
    /// Its name.
    pub signal: &'static str,
    /// Why, as in `siginfo_t`.
    pub code: i32,
    /// Where.
    pub address: u64,
    /// The mapping that this address is in.
    pub vma: Option<Vma>,
    /// What is known of that mapping's file at this moment.
    pub backing: Option<Backing>,
    /// The memory map could not be read: whether there is a mapping is not known.
    pub blind: bool,
    /// When, in microseconds of the monotonic clock.
    #[serde(skip)]
    pub time: u64,
    /// Free pages of the machine's hugetlb memory.
    #[serde(skip)]
    pub huge_pages_free: Option<u64>,
    /// The cgroup whose limit of huge pages was met, and the limit.
    #[serde(skip)]
    pub huge_group: Option<(String, String)>,
    /// The mapping below, where there is none at the address.
    #[serde(skip)]
    pub below: Option<Vma>,
}

impl Fault {
    /// A copy between the kernel and the program that failed: the same as a fault, but no signal comes of it.
    pub fn of_copy(thread: i32, address: u64, time: u64) -> Self {
        Self {
            pid: thread,
            signal: "EFAULT",
            code: 0,
            address,
            vma: None,
            backing: None,
            blind: false,
            time,
            huge_pages_free: None,
            huge_group: None,
            below: None,
        }
    }
}

/// A mapping's file, and the file system that it is on.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Backing {
    /// How long it is.
    pub bytes: u64,
    /// Its mode, with its type.
    pub mode: u32,
    /// The file system's magic number.
    pub magic: u64,
    /// The bytes that the file system has left.
    pub room: u64,
    /// Where in the file the mapping begins.
    pub offset: u64,
    /// The error that reading the page of the fault gives.
    #[serde(skip)]
    pub unreadable: Option<i32>,
}

/// How the program went.
#[derive(Debug, Default)]
pub struct Life {
    /// What a shell would say.
    pub status: u8,
    /// The signal that ended it.
    pub killed_by: Option<i32>,
    /// In their order.
    pub faults: Vec<Fault>,
    /// The kernel stopped a thread of it in the middle (BUG), and it cannot come to its end.
    pub stuck: bool,
    /// It went round and round in a page fault, and was killed.
    pub spun: bool,
    /// Programs that were executed, by process and time (microseconds): whether each is one for 32 bits.
    pub narrow: BTreeMap<(i32, u64), bool>,
    /// It was not waited for: somebody asked twice to end it.
    pub abandoned: bool,
    /// It was running before it was watched.
    pub attached: bool,
    /// The same, and it goes on.
    pub detached: bool,
    /// Every thread that was traced.
    pub threads: BTreeSet<i32>,
    /// Calls of `mmap` that the C library refused by itself: the thread, and the arguments.
    pub library: Vec<(i32, [u64; 6])>,
    /// Calls of `mmap` that threads came back from when they met a stop.
    pub returned: Vec<Event>,
}

/// What the caller is told while the program runs.
pub enum Moment<'a> {
    /// A thread stands still before its end, and has all that it had.
    Standing(i32),
    /// A process has become another program; whether one for 32 bits.
    Executed(i32, bool),
    /// A thread has met one of the stops that were laid for it.
    AtStop,
    /// Some time has passed; the threads that there were. What is wrong with them is the answer.
    Passing(&'a BTreeSet<i32>),
}

/// What is wrong with the program.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// Nothing.
    Well,
    /// The kernel's log tells of trouble with one of its threads.
    Trouble,
    /// A fault handler has it fault again and again for ever.
    Spinning,
}

/// The program, stopped before it is executed.
pub struct Tracee {
    /// `None`: it was running before.
    child: Option<Child>,
    pid: Pid,
    signals: SignalFd,
}

/// Becomes the program, after a stop in which the tracer takes hold of it.
pub fn become_program(command: &[OsString]) -> u8 {
    let failed = signal::raise(Signal::SIGSTOP).and_then(|()| SigSet::empty().thread_set_mask());
    let Some((program, arguments)) = command.split_first() else {
        return NOT_FOUND;
    };
    let error = match failed {
        Ok(()) => Command::new(program).args(arguments).exec(),
        Err(errno) => errno.into(),
    };
    anstream::eprintln!("mapbuf: {}: {error}", program.to_string_lossy());
    match error.kind() {
        std::io::ErrorKind::NotFound => NOT_FOUND,
        _ => NOT_EXECUTABLE,
    }
}

/// From here on no signal ends this process before it has cleaned up. To be called before there are other threads:
/// they inherit it.
pub fn hold_signals() -> Result<SignalFd, Problem> {
    let mut set = SigSet::empty();
    for signal in [
        Signal::SIGCHLD,
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ] {
        set.add(signal);
    }
    set.thread_block().map_err(problem)?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC).map_err(problem)
}

impl Tracee {
    /// Starts the stub, and takes hold of it.
    pub fn new(command: &[OsString], stub: &str, signals: SignalFd) -> Result<Self, Problem> {
        let child = Command::new("/proc/self/exe")
            .arg(stub)
            .arg("--")
            .args(command)
            .spawn()
            .map_err(|error| Problem::Start(error.to_string()))?;
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(0));
        let tracee = Self {
            child: Some(child),
            pid,
            signals,
        };
        match tracee.seize() {
            Ok(()) => Ok(tracee),
            Err(problem) => {
                tracee.give_up();
                Err(problem)
            }
        }
    }

    /// Takes hold of a process that runs, with all its threads.
    pub fn attach(pid: u32, signals: SignalFd) -> Result<Self, Problem> {
        let number = i32::try_from(pid).unwrap_or(0);
        if threads_of(number).is_empty() {
            return Err(Problem::Start(format!("there is no process {pid}")));
        }
        let mut held = BTreeSet::new();
        loop {
            // A thread that is held hands on to those that it makes; others may have made some meanwhile.
            let new: Vec<_> = threads_of(number)
                .into_iter()
                .filter(|thread| !held.contains(thread))
                .collect();
            if new.is_empty() {
                break;
            }
            for thread in new {
                held.insert(thread);
                match seize(Pid::from_raw(thread)) {
                    // It has ended, or was taken hold of when it was made.
                    Err(_) if thread != number => {}
                    other => other?,
                }
            }
        }
        Ok(Self {
            child: None,
            pid: Pid::from_raw(number),
            signals,
        })
    }

    fn seize(&self) -> Result<(), Problem> {
        let stopped =
            nix::sys::wait::waitpid(self.pid, Some(nix::sys::wait::WaitPidFlag::WUNTRACED));
        stopped.map_err(problem)?;
        seize(self.pid)
    }

    /// Ends it before it has begun. What it starts later, and leaves running when it ends, goes on without us.
    pub fn give_up(self) {
        // It is stopped, and ours: neither can fail in a way that matters. One that was running is let go when we end.
        if let Some(mut child) = self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// The numbers of its threads.
    pub fn threads(&self) -> BTreeSet<i32> {
        threads_of(self.pid.as_raw())
    }

    /// Its number.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Runs it to its end, or, one that was running before, for some time or until somebody sends us a signal; then lets go
    /// of all that goes on.
    pub fn run(
        self,
        time: Option<Duration>,
        told: impl FnMut(Moment<'_>) -> State,
    ) -> Result<Life, Problem> {
        let mut traps = Traps::default();
        let life = self.watch(time, &mut traps, told)?;
        self.let_go(&life, &mut traps);
        Ok(life)
    }

    /// Runs it to its end. A signal that somebody sends to us is the program's; a second one ends the watching. A program
    /// of which a thread met with trouble in the kernel, and hangs in its own end, is not waited for.
    fn watch(
        &self,
        time: Option<Duration>,
        traps: &mut Traps,
        mut told: impl FnMut(Moment<'_>) -> State,
    ) -> Result<Life, Problem> {
        let begun = Instant::now();
        let mut life = Life {
            threads: self.threads(),
            attached: self.child.is_none(),
            ..Life::default()
        };
        life.threads.insert(self.pid.as_raw());
        if life.attached {
            let narrow = facts::is_narrow(self.pid.as_raw());
            life.narrow.insert((self.pid.as_raw(), 0), narrow);
        }
        let mut hanging = 0;
        let mut asked = 0;
        if self.child.is_some() {
            signal::kill(self.pid, Signal::SIGCONT).map_err(problem)?;
        }
        loop {
            if self.collect(&mut life, traps, &mut told) {
                return Ok(life);
            }
            if time.is_some_and(|time| begun.elapsed() >= time) {
                life.detached = true;
                told(Moment::Standing(self.pid.as_raw()));
                return Ok(life);
            }
            if !self.signal_within(TICK) {
                let state = told(Moment::Passing(&life.threads));
                if state == State::Spinning && !life.spun {
                    life.spun = true;
                    // Whatever it waits for does not come.
                    let _ = signal::kill(self.pid, Signal::SIGKILL);
                }
                let trouble = state != State::Well;
                hanging = if trouble && hangs(&life.threads) {
                    hanging + 1
                } else {
                    0
                };
                if hanging >= TICKS_HANGING {
                    life.stuck = true;
                    // What the kernel ends a thread with after a BUG (oops_end in arch/x86/kernel/dumpstack.c).
                    life.killed_by = Some(Signal::SIGSEGV as i32);
                    life.status = 128 + Signal::SIGSEGV as u8;
                    return Ok(life);
                }
                continue;
            }
            let Ok(Some(info)) = self.signals.read_signal() else {
                continue;
            };
            let number = i32::try_from(info.ssi_signo).unwrap_or(0);
            if number == Signal::SIGCHLD as i32 {
                continue;
            }
            if self.child.is_none() {
                life.detached = true;
                told(Moment::Standing(self.pid.as_raw()));
                return Ok(life);
            }
            asked += 1;
            if asked > 1 {
                life.abandoned = true;
                life.killed_by = Some(number);
                life.status = 128 + u8::try_from(number).unwrap_or(0);
                return Ok(life);
            }
            // When a terminal goes, only the session's leader is told, which may be us (`tty_signal_session_leader` in
            // drivers/tty/tty_jobctrl.c).
            let hung_up = number == Signal::SIGHUP as i32;
            if info.ssi_code != SI_KERNEL || hung_up {
                if let Ok(signal) = Signal::try_from(number) {
                    // It may have ended this moment.
                    let _ = signal::kill(self.pid, signal);
                }
            }
        }
    }

    /// Lets go of what is still held: without traps in its memory, and without a signal that was meant for us.
    fn let_go(&self, life: &Life, traps: &mut Traps) {
        // A child that was made a moment ago has not told of itself yet: the kernel knows all.
        let mut held = all_held();
        // Of a process whose memory map is locked for ever nothing can be read or written.
        let hanging = hangs(&life.threads);
        for &thread in held.iter().filter(|_| !hanging) {
            traps.remove(thread);
        }
        for &thread in &held {
            raw::interrupt(thread);
        }
        while !held.is_empty() {
            while let Some((thread, status)) = raw::wait_any() {
                let (signal, event) = (raw::stop_signal(status), raw::event(status));
                if raw::exited(status).is_some() || raw::signaled(status).is_some() {
                    held.remove(&thread);
                } else if event == EVENT_STOP && traps.is_about_to_meet(thread) {
                    held.insert(thread);
                    raw::go_on(thread, 0);
                } else {
                    let ours = event != 0
                        || (signal == Signal::SIGTRAP as i32
                            && (stops::is_at_one(thread) || traps.met(thread)));
                    held.remove(&thread);
                    raw::detach(thread, if ours { 0 } else { signal });
                }
            }
            // One that the kernel will never let go on cannot be stopped, either.
            held.retain(|thread| !cannot_stop(*thread));
            if !held.is_empty() && self.signal_within(TICK) {
                // Whatever it is: all is being let go already.
                let _ = self.signals.read_signal();
            }
        }
    }

    /// Whether a signal comes within this time.
    fn signal_within(&self, time: Timespec) -> bool {
        let mut polled = [PollFd::new(&self.signals, PollFlags::IN)];
        // Interrupted: the same as nothing.
        poll(&mut polled, Some(&time)).is_ok_and(|ready| ready > 0)
    }

    /// Handles every change of state that there is; whether the program has ended.
    fn collect(
        &self,
        life: &mut Life,
        traps: &mut Traps,
        told: &mut impl FnMut(Moment<'_>) -> State,
    ) -> bool {
        while let Some((pid, status)) = raw::wait_any() {
            life.threads.insert(pid);
            if raw::exited(status).is_some() || raw::signaled(status).is_some() {
                if pid == self.pid.as_raw() {
                    life.library.append(&mut traps.seen);
                    life.killed_by = raw::signaled(status);
                    let code = raw::exited(status).or(life.killed_by.map(|signal| 128 + signal));
                    life.status = code.and_then(|code| u8::try_from(code).ok()).unwrap_or(255);
                    return true;
                }
                continue;
            }
            let (signal, event) = (raw::stop_signal(status), raw::event(status));
            let deliver = match event {
                0 if signal == Signal::SIGTRAP as i32 && stops::is_at_one(pid) => {
                    told(Moment::AtStop);
                    life.returned.extend(mmap_before(pid).into_iter().flatten());
                    0
                }
                0 if signal == Signal::SIGTRAP as i32 && traps.met(pid) => 0,
                0 => {
                    look(pid, signal, life);
                    signal
                }
                EVENT_EXEC => {
                    let narrow = facts::is_narrow(pid);
                    life.narrow.insert((pid, frames::now()), narrow);
                    traps.executed(pid);
                    told(Moment::Executed(pid, narrow));
                    0
                }
                EVENT_EXIT => {
                    told(Moment::Standing(pid));
                    0
                }
                // A group stop is not kept up: the program goes on.
                _ => 0,
            };
            raw::go_on(pid, deliver);
        }
        life.library.append(&mut traps.seen);
        false
    }
}

/// The threads of a process.
fn threads_of(pid: i32) -> BTreeSet<i32> {
    fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

fn seize(thread: Pid) -> Result<(), Problem> {
    ptrace::seize(
        thread,
        Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_TRACEEXIT,
    )
    .map_err(|errno| match errno {
        nix::errno::Errno::EPERM if !rustix::process::geteuid().is_root() => Problem::Privilege,
        errno => Problem::Start(format!("it cannot be traced (PTRACE_SEIZE): {errno}")),
    })
}

/// Every thread that this process traces.
fn all_held() -> BTreeSet<i32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .flat_map(threads_of)
        .filter(|thread| is_held(*thread))
        .collect()
}

/// Whether a thread is there, and traced by this process.
fn is_held(thread: i32) -> bool {
    let own = std::process::id().to_string();
    fs::read_to_string(format!("/proc/{thread}/status")).is_ok_and(|status| {
        status
            .lines()
            .filter_map(|line| line.strip_prefix("TracerPid:"))
            .any(|tracer| tracer.trim() == own)
    })
}

/// Whether a thread has ended, or waits in the kernel for what no signal ends.
fn cannot_stop(thread: i32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{thread}/stat")) else {
        return true;
    };
    let state = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    state.starts_with(['D', 'Z', 'X'])
}

/// Whether a thread is ending, and waits for what does not come.
fn hangs(threads: &BTreeSet<i32>) -> bool {
    threads
        .iter()
        .filter_map(|thread| fs::read_to_string(format!("/proc/{thread}/stat")).ok())
        .any(|stat| is_ending_in_vain(&stat))
}

/// The `mmap` that a thread comes back from, as its registers have it: its beginning and its end.
#[cfg(target_arch = "x86_64")]
fn mmap_before(thread: i32) -> Option<[Event; 2]> {
    let registers = ptrace::getregs(Pid::from_raw(thread)).ok()?;
    let time = frames::now();
    let number = nr::MMAP;
    let arguments = vec![
        registers.rdi,
        registers.rsi,
        registers.rdx,
        registers.r10,
        registers.r8,
        registers.r9,
    ];
    let result = i64::from_ne_bytes(registers.rax.to_ne_bytes());
    let event = |what| Event { thread, time, what };
    (registers.orig_rax == number).then(|| {
        [
            event(What::Enter { number, arguments }),
            event(What::Exit { number, result }),
        ]
    })
}

#[cfg(not(target_arch = "x86_64"))]
fn mmap_before(_: i32) -> Option<[Event; 2]> {
    None
}

/// Keeps what there is to see of a fault, before the signal arrives.
fn look(pid: i32, signal: i32, life: &mut Life) {
    let name = match Signal::try_from(signal) {
        Ok(signal @ (Signal::SIGSEGV | Signal::SIGBUS)) => signal.as_str(),
        _ => return,
    };
    let Ok(info) = ptrace::getsiginfo(Pid::from_raw(pid)) else {
        return;
    };
    // Sent by a process, not by a fault.
    if info.si_code <= 0 {
        return;
    }
    let address = raw::fault_address(&info);
    let seen = unless_it_hangs(&life.threads, move || surroundings(pid, address));
    let blind = seen.is_none();
    let (vma, below, backing) = seen.unwrap_or_default();
    let is_huge = vma
        .as_ref()
        .is_some_and(|vma| vma.flags.iter().any(|flag| flag == "ht"));
    life.faults.push(Fault {
        pid,
        signal: name,
        code: info.si_code,
        address,
        vma,
        backing,
        blind,
        time: frames::now(),
        huge_group: is_huge.then(|| huge_group(pid)).flatten(),
        huge_pages_free: huge_pages_free(),
        below,
    });
}

/// Reads the memory map of a program with these threads. One that the kernel stopped may hold the map's lock for ever, so
/// another thread of ours reads; nothing is known if the program hangs.
fn unless_it_hangs<T: Send + 'static>(
    threads: &BTreeSet<i32>,
    read: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        // Nobody waits any more: it came too late.
        let _ = sender.send(read());
    });
    let mut hanging = 0;
    loop {
        match receiver.recv_timeout(MAP_TICK) {
            Err(RecvTimeoutError::Timeout) if hanging < TICKS_HANGING => {
                hanging = if hangs(threads) { hanging + 1 } else { 0 };
            }
            other => return other.ok(),
        }
    }
}

/// How many mappings a process has; not known if it hangs.
pub fn count_mappings(pid: i32) -> Option<u64> {
    let text = unless_it_hangs(&threads_of(pid), move || {
        fs::read(format!("/proc/{pid}/maps"))
    })?;
    u64::try_from(memchr::memchr_iter(b'\n', &text.ok()?).count()).ok()
}

/// The mapping of an address, the one below it, and what is known of its file.
fn surroundings(pid: i32, address: u64) -> (Option<Vma>, Option<Vma>, Option<Backing>) {
    let (vma, below) = vma_at(pid, address);
    let backing = vma.as_ref().and_then(|vma| backing(pid, vma, address));
    (vma, below, backing)
}

fn backing(pid: i32, vma: &Vma, address: u64) -> Option<Backing> {
    // The link leads to files that have no name any more, too.
    let path = format!("/proc/{pid}/map_files/{:x}-{:x}", vma.start, vma.end);
    let file = rustix::fs::stat(&path).ok()?;
    let system = rustix::fs::statfs(&path).ok();
    let number = |value: i64| u64::try_from(value).unwrap_or(0);
    Some(Backing {
        bytes: number(file.st_size),
        mode: file.st_mode,
        magic: system.as_ref().map_or(0, |system| number(system.f_type)),
        room: system.as_ref().map_or(u64::MAX, |system| {
            system.f_bavail.saturating_mul(number(system.f_bsize))
        }),
        offset: vma.offset,
        unreadable: (file.st_mode & 0o170_000 == 0o100_000)
            .then(|| unreadable(&path, vma.offset + (address - vma.start)))
            .flatten(),
    })
}

/// The error that reading a byte of an ordinary file gives.
fn unreadable(path: &str, place: u64) -> Option<i32> {
    use std::os::unix::fs::FileExt;
    let file = fs::File::open(path).ok()?;
    let error = file.read_at(&mut [0], place).err()?;
    error.raw_os_error()
}

/// The cgroup of a process that has met its limit of huge pages, if one of its own or above has, and the limit.
fn huge_group(pid: i32) -> Option<(String, String)> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let mounts = fs::read_to_string(format!("/proc/{pid}/mounts")).ok()?;
    // `0::/a/b` of version 2, `4:hugetlb:/a/b` of version 1.
    let path = groups.lines().find_map(|line| {
        line.strip_prefix("0::")
            .or_else(|| line.split_once(":hugetlb:").map(|(_, path)| path))
    })?;
    let is_mounted = |words: &[&str]| {
        words.get(2) == Some(&"cgroup2")
            || words.get(2) == Some(&"cgroup")
                && words
                    .get(3)
                    .is_some_and(|options| options.contains("hugetlb"))
    };
    let root = mounts.lines().find_map(|line| {
        let words: Vec<_> = line.split(' ').collect();
        is_mounted(&words).then(|| words.get(1).copied()).flatten()
    })?;
    let folder = std::path::PathBuf::from(format!("{root}{path}"));
    folder
        .ancestors()
        .take_while(|folder| folder.starts_with(root))
        .find_map(|folder| limit_met(folder).map(|limit| (folder.display().to_string(), limit)))
}

/// The limit of huge pages of a cgroup's folder, if it was met.
fn limit_met(folder: &std::path::Path) -> Option<String> {
    let names = fs::read_dir(folder).ok()?.flatten();
    let names = names.filter_map(|entry| entry.file_name().to_str().map(str::to_owned));
    names
        .filter(|name| name.starts_with("hugetlb."))
        .find_map(|name| {
            let read = |name: String| fs::read_to_string(folder.join(name)).ok();
            let number = |text: String| text.trim().parse::<u64>().ok();
            if let Some(size) = name
                .strip_suffix(".events")
                .filter(|size| !size.ends_with("rsvd"))
            {
                let met = read(name.clone())?;
                let met = met.lines().find_map(|line| line.strip_prefix("max "))?;
                let limit = read(format!("{size}.max"))?;
                return (met.trim() != "0").then(|| limit.trim().to_owned());
            }
            let size = name
                .strip_suffix(".failcnt")
                .filter(|size| !size.contains("rsvd"))?;
            let met = read(name.clone()).and_then(number)?;
            let limit = read(format!("{size}.limit_in_bytes"))?;
            (met > 0).then(|| limit.trim().to_owned())
        })
}

fn huge_pages_free() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("HugePages_Free:"))?;
    line.trim().parse().ok()
}

/// Whether a line of `/proc/PID/stat` is that of a thread that is ending (`PF_EXITING` of `include/linux/sched.h`) and
/// cannot be woken.
fn is_ending_in_vain(stat: &str) -> bool {
    const PF_EXITING: u64 = 0x4;
    // The name may have anything in it.
    let Some((_, rest)) = stat.rsplit_once(") ") else {
        return false;
    };
    let mut words = rest.split(' ');
    let state = words.next();
    let flags = words.nth(5).and_then(|word| word.parse::<u64>().ok());
    state == Some("D") && flags.is_some_and(|flags| flags & PF_EXITING != 0)
}

/// The mapping of a process that an address is in, and, where there is none, the one below.
fn vma_at(pid: i32, address: u64) -> (Option<Vma>, Option<Vma>) {
    let Ok(text) = fs::read_to_string(format!("/proc/{pid}/smaps")) else {
        return (None, None);
    };
    let mut found = None;
    let mut below = None;
    for line in text.lines() {
        if let Some(vma) = header(line) {
            if found.is_some() || vma.start > address {
                break;
            }
            if address < vma.end {
                found = Some(vma);
            } else {
                below = Some(vma);
            }
        } else if let (Some(vma), Some(flags)) = (&mut found, line.strip_prefix("VmFlags:")) {
            vma.flags = flags.split_whitespace().map(str::to_owned).collect();
        }
    }
    (found, below)
}

/// The first line of a mapping in `smaps`.
fn header(line: &str) -> Option<Vma> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let mut words = rest.splitn(5, ' ');
    Some(Vma {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        permissions: words.next()?.to_owned(),
        offset: u64::from_str_radix(words.next()?, 16).ok()?,
        path: words.nth(2).unwrap_or_default().trim().to_owned(),
        flags: Vec::new(),
    })
}

fn problem(errno: nix::errno::Errno) -> Problem {
    Problem::Start(errno.to_string())
}

/// What nix leaves out: real-time signals, which its types cannot hold, and a field of a union.
mod raw {
    use nix::libc;

    /// A change of state of any process or thread that we trace, if there is one.
    pub fn wait_any() -> Option<(i32, i32)> {
        let mut status = 0;
        // SAFETY: `status` is a valid place for the result for as long as the call takes.
        let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG | libc::__WALL) };
        (pid > 0).then_some((pid, status))
    }

    /// Lets a stopped thread go on, with a signal or without (0). One that was killed meanwhile is gone: no failure.
    pub fn go_on(pid: i32, signal: i32) {
        let no_address = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: PTRACE_CONT reads and writes no memory of ours.
        unsafe { libc::ptrace(libc::PTRACE_CONT, pid, no_address, i64::from(signal)) };
    }

    /// Has a thread stop.
    pub fn interrupt(pid: i32) {
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: PTRACE_INTERRUPT reads and writes no memory of ours.
        unsafe { libc::ptrace(libc::PTRACE_INTERRUPT, pid, none, none) };
    }

    /// Lets go of a stopped thread, with a signal or without (0). One that was killed meanwhile is gone: no failure.
    pub fn detach(pid: i32, signal: i32) {
        let no_address = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: PTRACE_DETACH reads and writes no memory of ours.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, pid, no_address, i64::from(signal)) };
    }

    /// Where a fault was.
    pub fn fault_address(info: &libc::siginfo_t) -> u64 {
        // SAFETY: the caller looked at the signal and its code: for a fault the kernel fills in this part of the union,
        // and any bytes are a valid pointer value.
        let address = unsafe { info.si_addr() };
        address as u64
    }

    pub fn exited(status: i32) -> Option<i32> {
        libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status))
    }

    pub fn signaled(status: i32) -> Option<i32> {
        libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status))
    }

    pub fn stop_signal(status: i32) -> i32 {
        libc::WSTOPSIG(status)
    }

    pub fn event(status: i32) -> i32 {
        (status >> 16) & 0xff
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_thread_that_ends_and_cannot_be_woken_hangs() {
        let stat = |state, flags| format!("104 (a) b) {state} 100 104 97 0 -1 {flags} 22 0 0");
        assert!(is_ending_in_vain(&stat("D", 0x40_404c)));
        assert!(!is_ending_in_vain(&stat("D", 0x40_4040)));
        assert!(!is_ending_in_vain(&stat("S", 0x40_404c)));
        assert!(!is_ending_in_vain(""));
    }

    #[test]
    fn the_first_line_of_a_mapping_is_read() {
        let vma = header("7f00-8000 rw-s 00001000 00:06 12     /dev/my node").unwrap();
        assert_eq!((vma.start, vma.end), (0x7f00, 0x8000));
        assert_eq!(
            (vma.permissions.as_str(), vma.path.as_str()),
            ("rw-s", "/dev/my node")
        );
        assert_eq!(header("Rss:   4 kB"), None);
    }
}
