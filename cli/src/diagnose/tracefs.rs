//! Probes and an instance of our own in tracefs, and what they record.
//!
//! Everything carries this process's number in its name, and goes when the value is dropped. What a killed one
//! left is removed by the next.

use super::{
    btf::Btf,
    frames::Frames,
    probes::{
        nr, Form, Probe, DEVICE, FOLLOWED, HANDED, HANDLER, MAPPABLE, MAPPED, MAPPING_CALLS,
        MMAP_FAILED, MUNMAP_FAILED, OF_32_BITS, OF_ONE_PROGRAM, OPENED, PROBES, REACHED, STOP,
        STOP_HUGE, STOP_RING,
    },
    stops::Stop,
    trace::{self, What, END, ENTER},
    Problem,
};
use std::{
    collections::BTreeSet,
    ffi::CString,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering},
        Arc, Mutex, PoisonError,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// What the names of instances and of groups of probes begin with.
const INSTANCE: &str = "mapbuf-";
const GROUP: &str = "mapbuf_";
/// For each processor; a per-page mapping of a gigabyte is a quarter of a million events.
const BUFFER_KIB: &str = "4096";
/// What a line has that is about what a fault handler returned.
const HANDLED: &[u8] = b": handler: (";
/// The same of an `mmap` that failed.
const FAILED: &[u8] = b": mmap_failed: (";
/// The probes that see failures alone, and are on until all is.
const OF_FAILURES: [&str; 3] = [MMAP_FAILED, MUNMAP_FAILED, REACHED];
/// Those that are off until then.
const LATER: [&str; 3] = [HANDLER, MAPPED, "mmap_region"];
/// Calls of `mmap` that go well, which are recorded once something has failed: what failed may have been made up for.
const WENT_WELL: &str = "sys_exit_mmap";
const AFTER_A_FAILURE: &str = "enable_event:syscalls:sys_exit_mmap if ret < 0";
/// The events of calls whose failure is told of, beside `mmap` and `munmap`.
const MAY_FAIL: [&str; 7] = [
    "sys_exit_mprotect",
    "sys_exit_mremap",
    "sys_exit_msync",
    "sys_exit_madvise",
    "sys_exit_mlock",
    "sys_exit_mlock2",
    "sys_exit_mlockall",
];

/// What is recorded, and what not.
struct Switch {
    instance: PathBuf,
    group: String,
    /// Whether all is that there is to record.
    is_all_on: Mutex<bool>,
}

/// The probes and the instance; dropping it removes them.
pub struct Tracer {
    root: PathBuf,
    instance: PathBuf,
    group: String,
    switch: Arc<Switch>,
    /// Each event that this kernel has, with its probe.
    events: Vec<(String, &'static Probe)>,
    /// Functions that it does not have, or that cannot be probed.
    missing: Vec<&'static str>,
    /// Arguments by their number (`$arg1`) are known to it.
    numbered: bool,
    /// Whether fprobes come first.
    fprobes: bool,
}

impl Tracer {
    /// Makes the instance and defines the probes; nothing is recorded yet. Kprobe events come first: they are set and taken
    /// away in a fraction of the time, and keep a function's arguments until its end from 6.9 on, fprobe events only from
    /// 6.14 on.
    pub fn new(fprobes: bool) -> Result<Self, Problem> {
        let root = mounted()?;
        if locked_down() {
            return Err(Problem::Lockdown);
        }
        sweep(&root);
        let own = std::process::id();
        let instance = root.join("instances").join(format!("{INSTANCE}{own}"));
        fs::create_dir(&instance)
            .map_err(|error| refused("an instance of its own".into(), &error))?;
        let readme = fs::read_to_string(root.join("README")).unwrap_or_default();
        let group = format!("{GROUP}{own}");
        let mut tracer = Self {
            root,
            switch: Arc::new(Switch {
                instance: instance.clone(),
                group: group.clone(),
                is_all_on: Mutex::new(true),
            }),
            instance,
            group,
            events: Vec::new(),
            missing: Vec::new(),
            numbered: readme.is_empty() || readme.contains("$arg<N>"),
            fprobes: fprobes && readme.contains("f[:[<group>/][<event>]]"),
        };
        let types = Btf::running();
        for probe in PROBES {
            // Several functions may stand for one event: the first that the kernel takes.
            if !tracer.has(probe.event) {
                tracer.define(probe, types);
            }
        }
        let Self {
            missing, events, ..
        } = &mut tracer;
        missing.retain(|event| !events.iter().any(|(name, _)| name == event));
        if tracer.events.is_empty() {
            let error = io::Error::other("it takes none of them");
            return Err(refused("probes of kernel functions".into(), &error));
        }
        Ok(tracer)
    }

    /// Defines a probe's events, in the first form that this kernel takes.
    fn define(&mut self, probe: &'static Probe, types: Option<&Btf>) {
        let Probe {
            event,
            form,
            result,
            ..
        } = probe;
        let fetch = text_last(&Btf::fill_in(types, probe.fetch));
        let ret = format!("ret=$retval:{result}");
        let whole = |tracer: &mut Self| tracer.event(probe, event, true, &format!("{ret} {fetch}"));
        let pair = |tracer: &mut Self| {
            tracer.event(probe, &format!("{event}{ENTER}"), false, &fetch)
                && tracer.event(probe, &format!("{event}{END}"), true, &ret)
        };
        let defined = match form {
            Form::Entry => self.event(probe, event, false, &fetch),
            Form::Pair => pair(self),
            Form::Whole => whole(self) || pair(self),
            Form::WholeOnly => whole(self),
            Form::End => whole(self) || self.event(probe, event, true, &ret),
        };
        if !defined {
            self.missing.push(probe.event);
        }
    }

    /// Whether an event of this name is defined.
    fn has(&self, event: &str) -> bool {
        self.events.iter().any(|(name, _)| name == event)
    }

    fn event(&mut self, probe: &'static Probe, event: &str, end: bool, fetch: &str) -> bool {
        let path = self.root.join("dynamic_events");
        let fetch = if self.numbered {
            fetch.to_owned()
        } else {
            by_registers(fetch)
        };
        let (group, function) = (&self.group, probe.function);
        let (kind, place) = if end { ("r64", "%return") } else { ("p", "") };
        let kprobe = format!("{kind}:{group}/{event} {function} {fetch}");
        let fprobe = format!("f:{group}/{event} {function}{place} {fetch}");
        let both = if self.fprobes {
            [fprobe, kprobe]
        } else {
            [kprobe, fprobe]
        };
        let defined = both.iter().any(|line| append(&path, line).is_ok());
        if defined {
            self.events.push((event.to_owned(), probe));
        }
        defined
    }

    /// Has another process remove the probes and the instance; whether it came to its end within seconds.
    pub fn leave_to_another(self) -> bool {
        const PATIENCE: u32 = 100;
        let own = std::process::id().to_string();
        let null = Stdio::null;
        let cleaner = Command::new("/proc/self/exe")
            .args([super::CLEANER, &own])
            .stdin(null())
            .stdout(null())
            .stderr(null())
            .spawn();
        let Ok(mut cleaner) = cleaner else {
            // What it is to remove is removed here.
            return true;
        };
        std::mem::forget(self);
        for _ in 0..PATIENCE {
            if !matches!(cleaner.try_wait(), Ok(None)) {
                return true;
            }
            thread::sleep(Duration::from_millis(100));
        }
        false
    }

    /// The probes that could not be set: what they would show stays unknown.
    pub fn missing(&self) -> &[&'static str] {
        &self.missing
    }

    /// Records what these threads do, and those that they start. `lean` leaves out what waits for the stops ([`Self::stops`]); that
    /// a process has no device's memory yet is the caller's to know.
    pub fn watch(&self, threads: &BTreeSet<i32>, lean: bool) -> Result<Recording, Problem> {
        self.begin(Some(threads), lean)?;
        Recording::start(&self.instance, &self.group, Arc::clone(&self.switch))
            .map_err(|error| refused("to be read (trace_pipe)".into(), &error))
    }

    /// Records threads that were made before the recording began.
    pub fn watch_too(&self, threads: &BTreeSet<i32>) {
        let list: Vec<_> = threads.iter().map(i32::to_string).collect();
        // They are told apart by nothing else, and miss no more than their own events.
        let _ = self.set("set_event_pid", &list.join(" "));
    }

    /// Records what everybody does, this process excepted.
    pub fn watch_all(&self) -> Result<Pipe, Problem> {
        self.begin(None, false)?;
        Pipe::open(&self.instance)
            .map_err(|error| refused("to be read (trace_pipe)".into(), &error))
    }

    /// What stops the program when a file is open whose memory may be a device's, so that all is recorded from there on
    /// ([`Self::all_on`]), and until then only calls of `mmap` and `munmap` that fail. Nothing where the kernel cannot tell those by
    /// themselves, with their arguments.
    pub fn stops(&self) -> Vec<Stop> {
        let went_well = self.instance.join("events/syscalls").join(WENT_WELL);
        if !(OF_FAILURES.iter().all(|event| self.has(event))
            && self.has(STOP)
            && went_well.exists())
        {
            return Vec::new();
        }
        let types = Btf::running();
        let fields = PROBES
            .iter()
            .find(|probe| probe.event == STOP)
            .map(|probe| Btf::fill_in(types, probe.fetch))
            .unwrap_or_default();
        let is_there = |field: &str| {
            let mut all = fields.split_whitespace();
            all.any(|one| one.split_once('=').is_some_and(|(name, _)| name == field))
        };
        let clauses: Vec<_> = MAPPABLE
            .iter()
            .filter(|(field, _)| is_there(field))
            .map(|(_, clause)| format!("({clause})"))
            .collect();
        let stop = |event: &str, filter: String| {
            let path = self.root.join("events").join(&self.group).join(event);
            let id = fs::read_to_string(path.join("id")).ok()?;
            Some(Stop {
                id: id.trim().parse().ok()?,
                filter: CString::new(filter).ok()?,
            })
        };
        let Some(opened) = stop(STOP, clauses.join(" || ")) else {
            return Vec::new();
        };
        // Without them the kernel has no huge pages, or no io_uring.
        let others = [STOP_HUGE, STOP_RING];
        std::iter::once(opened)
            .chain(others.iter().filter_map(|event| stop(event, String::new())))
            .collect()
    }

    /// Records from here on all that there is to record of threads that were watched for less.
    pub fn all_on(&self) -> Result<(), Problem> {
        self.switch.all_on()
    }

    fn begin(&self, threads: Option<&BTreeSet<i32>>, lean: bool) -> Result<(), Problem> {
        let set = |file: &str, value: &str| {
            self.set(file, value)
                .map_err(|error| refused(format!("to write {value:?} into {file}"), &error))
        };
        set("buffer_size_kb", BUFFER_KIB)?;
        set("trace_clock", "mono")?;
        set("options/irq-info", "0")?;
        match threads {
            Some(threads) => {
                set("options/event-fork", "1")?;
                let list: Vec<_> = threads.iter().map(i32::to_string).collect();
                set("set_event_pid", &list.join(" "))?;
            }
            // From 5.7 on; before, its own calls are recorded with the others'.
            None => {
                let _ = self.set("set_event_notrace_pid", &std::process::id().to_string());
            }
        }
        let followed = match threads {
            Some(_) => FOLLOWED.as_slice(),
            None => MAPPING_CALLS,
        };
        *self
            .switch
            .is_all_on
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = !lean;
        self.switch.follow(followed, !lean)?;
        for event in ["sys_enter", "sys_exit"] {
            set(&format!("events/raw_syscalls/{event}/enable"), "1")?;
        }
        if lean {
            set(&format!("events/syscalls/{WENT_WELL}/filter"), "ret >= 0")?;
            for event in MAY_FAIL {
                // A call that this kernel does not have.
                let _ = self.set(&format!("events/syscalls/{event}/trigger"), AFTER_A_FAILURE);
            }
        }
        // Without them processes are not told apart, no more.
        for event in [
            "sched/sched_process_exit",
            "sched/sched_process_exec",
            "task/task_newtask",
        ] {
            let _ = self.set(&format!("events/{event}/enable"), "1");
        }
        for (name, probe) in &self.events {
            let event = format!("events/{}/{name}", self.group);
            let filter = if threads.is_none() && probe.event == OPENED {
                DEVICE
            } else if name.ends_with(ENTER) || probe.form == Form::Entry {
                probe.enter_if
            } else {
                probe.end_if
            };
            if !filter.is_empty() && self.set(&format!("{event}/filter"), filter).is_err() {
                // Unfiltered it would be one event for each page fault.
                continue;
            }
            if threads.is_none() && OF_ONE_PROGRAM.contains(&probe.event) {
                continue;
            }
            let of_failures = OF_FAILURES.contains(&probe.event);
            if [STOP, STOP_HUGE, STOP_RING].contains(&probe.event) || of_failures && !lean {
                continue;
            }
            if of_failures && probe.event != REACHED {
                set(&format!("{event}/trigger"), AFTER_A_FAILURE)?;
            }
            if probe.event == MAPPED && threads.is_some() && !lean {
                self.switch.let_mapping_trigger();
            }
            let waits = name == HANDED || lean && LATER.contains(&name.as_str());
            if !waits {
                set(&format!("{event}/enable"), "1")?;
            }
        }
        Ok(())
    }

    fn set(&self, file: &str, value: &str) -> io::Result<()> {
        self.switch.set(file, value)
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

impl Switch {
    /// Records from here on all that there is to record.
    fn all_on(&self) -> Result<(), Problem> {
        let mut is_all_on = self
            .is_all_on
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if *is_all_on {
            return Ok(());
        }
        self.follow(FOLLOWED.as_slice(), true)?;
        self.let_mapping_trigger();
        for event in LATER {
            let enable = format!("events/{}/{event}/enable", self.group);
            if self.instance.join(&enable).exists() {
                self.set(&enable, "1")
                    .map_err(|error| refused(format!("to turn {event} on"), &error))?;
            }
        }
        for event in OF_FAILURES {
            // Told twice is no harm.
            let _ = self.set(&format!("events/{}/{event}/enable", self.group), "0");
        }
        *is_all_on = true;
        Ok(())
    }

    /// Says which system calls are recorded: these, of 32-bit programs too; those that map and unmap or not.
    fn follow(&self, followed: &[u64], maps: bool) -> Result<(), Problem> {
        let of_32_bits = OF_32_BITS
            .iter()
            .filter(|(_, native)| followed.contains(native))
            .map(|(number, _)| number);
        let left_out = |number: &&u64| !maps && [nr::MMAP, nr::MUNMAP].contains(number);
        let numbers = followed.iter().filter(|number| !left_out(number));
        let numbers: BTreeSet<_> = numbers
            .chain(of_32_bits.filter(|number| !left_out(number)))
            .collect();
        let is: Vec<_> = numbers
            .iter()
            .map(|number| format!("id == {number}"))
            .collect();
        let mut filter = is.join(" || ");
        if !maps {
            // The most frequent ones are soon decided.
            let (mmap, munmap) = (nr::MMAP, nr::MUNMAP);
            filter = format!("id != {mmap} && id != {munmap} && ({filter})");
        }
        for event in ["sys_enter", "sys_exit"] {
            let file = format!("events/raw_syscalls/{event}/filter");
            self.set(&file, &filter)
                .map_err(|error| refused(format!("to write {filter:?} into {file}"), &error))?;
        }
        Ok(())
    }

    /// Has the mapping of a device turn on what is of interest then, and happens often. The event's own filter does not hold
    /// for that.
    fn let_mapping_trigger(&self) {
        let group = &self.group;
        let mut all = vec![
            format!("enable_event:kmem:mm_page_free if {DEVICE}"),
            format!("enable_event:kmem:mm_page_alloc if {DEVICE}"),
        ];
        let handed = self.instance.join(format!("events/{group}/{HANDED}"));
        if handed.exists() {
            all.push(format!("enable_event:{group}:{HANDED} if {DEVICE}"));
        }
        for wanted in all {
            let _ = self.set(&format!("events/{group}/{MAPPED}/trigger"), &wanted);
        }
    }

    fn set(&self, file: &str, value: &str) -> io::Result<()> {
        OpenOptions::new()
            .write(true)
            .open(self.instance.join(file))?
            .write_all(value.as_bytes())
    }

    /// Whether lines tell that a file is open that may be a device's, and not all is recorded yet. The program was stopped at
    /// that, unless it blocks SIGTRAP.
    fn is_late(&self, lines: &str) -> bool {
        const OPENED: &str = ": opened: (";
        let is_all_on = self
            .is_all_on
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if *is_all_on || memchr::memmem::find(lines.as_bytes(), OPENED.as_bytes()).is_none() {
            return false;
        }
        let opened: Vec<_> = lines.lines().filter(|line| line.contains(OPENED)).collect();
        trace::parse(&opened.join("\n"))
            .iter()
            .any(|event| match &event.what {
                What::Call(call) => call.get("mode") & 0x8000 == 0 && call.mmap().is_some(),
                _ => false,
            })
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        remove(&self.root, &self.instance, &self.group);
    }
}

/// The events of everybody, as they come.
pub struct Pipe {
    file: File,
    chunk: Vec<u8>,
    /// The beginning of a line whose end has not come yet.
    rest: Vec<u8>,
}

impl Pipe {
    fn open(instance: &Path) -> io::Result<Self> {
        Ok(Self {
            file: open_pipe(instance)?,
            chunk: vec![0; 1 << 16],
            rest: Vec::new(),
        })
    }

    /// The whole lines that are new.
    pub fn lines(&mut self) -> String {
        drain(&mut self.file, &mut self.chunk, &mut self.rest);
        let whole = self
            .rest
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |at| at + 1);
        let rest = self.rest.split_off(whole);
        let lines = std::mem::replace(&mut self.rest, rest);
        String::from_utf8_lossy(&lines).into_owned()
    }
}

/// Opens what events are taken from, so that reading does not wait for them.
fn open_pipe(instance: &Path) -> io::Result<File> {
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open(instance.join("trace_pipe"))
}

/// The thread that takes the events out while the program runs.
pub struct Recording {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    spins: Arc<AtomicBool>,
    short: Arc<AtomicBool>,
    thread: JoinHandle<(Vec<u8>, Frames)>,
}

impl Recording {
    fn start(instance: &Path, group: &str, switch: Arc<Switch>) -> io::Result<Self> {
        let spins = Arc::new(AtomicBool::new(false));
        let round_and_round = Arc::clone(&spins);
        let short = Arc::new(AtomicBool::new(false));
        let ran_short = Arc::clone(&short);
        let handler = instance.join(format!("events/{group}/handler/enable"));
        let mut negative = 0;
        let mut pipe = open_pipe(instance)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let rounds = Arc::new(AtomicU64::new(0));
        let round = Arc::clone(&rounds);
        let thread = thread::spawn(move || {
            let mut text: Vec<u8> = Vec::new();
            let mut frames = Frames::open();
            let mut seen = 0;
            let mut chunk = vec![0; 1 << 16];
            loop {
                let last = stopped.load(Ordering::Acquire);
                let empty = drain(&mut pipe, &mut chunk, &mut text);
                // Whole lines only.
                let whole = text
                    .iter()
                    .rposition(|&byte| byte == b'\n')
                    .map_or(0, |at| at + 1);
                if let Some(new) = text.get(seen..whole).filter(|new| !new.is_empty()) {
                    let new = String::from_utf8_lossy(new);
                    // Most has nothing of it, which is soon seen.
                    if memchr::memmem::find(new.as_bytes(), HANDLED).is_some() {
                        negative += new.lines().filter(|line| is_negative_fault(line)).count();
                    }
                    if switch.is_late(&new) {
                        let _ = switch.all_on();
                    }
                    if memchr::memmem::find(new.as_bytes(), b"-12").is_some()
                        && new.lines().any(is_enomem)
                    {
                        ran_short.store(true, Ordering::Release);
                    }
                    if negative > SPINNING && !round_and_round.swap(true, Ordering::AcqRel) {
                        // It goes on like this, and tells nothing new.
                        let _ = fs::write(&handler, "0");
                    }
                    frames.look(&new);
                    seen = whole;
                }
                if empty {
                    round.fetch_add(1, Ordering::AcqRel);
                }
                if last && empty {
                    return (text, frames);
                } else if empty {
                    thread::sleep(Duration::from_millis(5));
                }
            }
        });
        Ok(Self {
            stop,
            rounds,
            spins,
            short,
            thread,
        })
    }

    /// Whether a fault handler has the program fault again and again.
    pub fn spins(&self) -> bool {
        self.spins.load(Ordering::Acquire)
    }

    /// Whether an `mmap` failed with `ENOMEM`.
    pub fn ran_short(&self) -> bool {
        self.short.load(Ordering::Acquire)
    }

    /// Waits until all that has happened so far was read, and the frames in it were looked at.
    pub fn catch_up(&self) {
        // The round that is going on may have read already, the next one has not.
        let until = self.rounds.load(Ordering::Acquire) + 2;
        for _ in 0..400 {
            if self.rounds.load(Ordering::Acquire) >= until {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// What was recorded, when the program has ended.
    pub fn finish(self) -> (String, Frames) {
        self.stop.store(true, Ordering::Release);
        let (text, frames) = self.thread.join().unwrap_or_default();
        (String::from_utf8_lossy(&text).into_owned(), frames)
    }
}

/// So many faults of one run whose handler returned an error number are no accident: the kernel tries again for ever.
const SPINNING: usize = 200;

/// Whether a line tells of a fault handler that returned a negative number.
fn is_negative_fault(line: &str) -> bool {
    memchr::memmem::find(line.as_bytes(), HANDLED).is_some() && line.contains(" ret=0xfffff")
}

/// Whether a line tells of an `mmap` that failed with `ENOMEM`.
fn is_enomem(line: &str) -> bool {
    memchr::memmem::find(line.as_bytes(), FAILED).is_some() && line.contains(" ret=-12 ")
        || line.ends_with("sys_exit: NR 9 = -12")
}

/// Reads what there is, and says whether that was all: a program that makes events as fast as they are read is not waited
/// for.
fn drain(pipe: &mut File, chunk: &mut [u8], text: &mut Vec<u8>) -> bool {
    const AT_ONCE: usize = 4 << 20;
    let begun = text.len();
    loop {
        if text.len() - begun > AT_ONCE {
            return false;
        }
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
    // A trigger holds the event that it turns on.
    let own = [MMAP_FAILED, MUNMAP_FAILED, MAPPED].map(|event| format!("{group}/{event}"));
    let of_calls = MAY_FAIL.map(|event| format!("syscalls/{event}"));
    for event in own.iter().chain(&of_calls) {
        let trigger = instance.join(format!("events/{event}/trigger"));
        let set = fs::read_to_string(&trigger).unwrap_or_default();
        for line in set.lines().filter(|line| line.starts_with("enable_event")) {
            // `enable_event:kmem:mm_page_free:unlimited if …`
            let line = line.replace(":unlimited", "");
            let _ = fs::write(&trigger, format!("!{line}"));
        }
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
        let Some(event) = event_of(line, group) else {
            continue;
        };
        for _ in 0..20 {
            match append(&path, &format!("-:{event}")) {
                // The end of what it stopped is still under way.
                Err(error) if error.kind() == ErrorKind::ResourceBusy => {
                    thread::sleep(Duration::from_millis(10));
                }
                _ => break,
            }
        }
    }
}

/// `GROUP/EVENT` of a definition, if it is of that group.
fn event_of<'a>(definition: &'a str, group: &str) -> Option<&'a str> {
    let event = definition.split_once(':')?.1.split(' ').next()?;
    event.strip_prefix(group)?.starts_with('/').then_some(event)
}

/// Removes the probes and the instance of a run.
pub fn clean(pid: u32) {
    if let Ok(root) = mounted() {
        let instance = root.join("instances").join(format!("{INSTANCE}{pid}"));
        remove(&root, &instance, &format!("{GROUP}{pid}"));
    }
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

/// Symbols and text go last: they may have blanks in them.
fn text_last(fetch: &str) -> String {
    let is_text = |word: &&str| word.ends_with(":symbol") || word.ends_with(":string");
    let words = || fetch.split_whitespace();
    let all: Vec<_> = words()
        .filter(|word| !is_text(word))
        .chain(words().filter(is_text))
        .collect();
    all.join(" ")
}

/// The registers that hold the arguments, where a kernel does not know them by their number.
fn by_registers(fetch: &str) -> String {
    let registers = ["%di", "%si", "%dx", "%cx", "%r8", "%r9"];
    let mut fetch = fetch.to_owned();
    for (number, register) in (1..).zip(registers) {
        fetch = fetch.replace(&format!("$arg{number}"), register);
    }
    fetch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_stand_for_arguments() {
        assert_eq!(
            by_registers("a=$arg1:x64 b=+8($arg3):x64"),
            "a=%di:x64 b=+8(%dx):x64"
        );
        assert_eq!(
            text_last("a=x:symbol b=$arg1:x64"),
            "b=$arg1:x64 a=x:symbol"
        );
    }

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
