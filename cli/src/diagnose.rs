//! `mapbuf diagnose`: runs any program against any driver, watches what the kernel does underneath, and says what
//! went wrong.
//!
//! Probes record what the mapping functions return ([`tracefs`]), the program is traced so that its memory map can be
//! seen when a signal comes ([`tracee`]); both are put together ([`history`]) and compared with what is known to go
//! wrong ([`causes`]).

mod all;
mod btf;
mod calls;
pub mod catalogue;
mod causes;
mod facts;
mod finding;
mod frames;
mod history;
mod iomem;
mod library;
mod log;
mod physical;
mod probes;
mod refusals;
mod report;
mod stops;
mod trace;
mod tracee;
mod tracefs;

use crate::failure::Failure;
use clap::Args as Group;
use facts::Facts;
pub use finding::name_of;
use finding::Seen;
use history::History;
pub use iomem::Iomem;
pub use log::Log;
use report::Report;
use std::{ffi::OsString, fs, io::Write, path::PathBuf, process::ExitCode, time::Duration};
use stops::Stops;
use tracee::{Moment, State};

/// The subcommand that becomes the program.
pub const STUB: &str = "diagnosed-program";
/// The subcommand that removes what a run cannot wait for.
pub const CLEANER: &str = "diagnose-cleaner";
/// The status of a run that could not be watched, as `env` and `timeout` have it.
const NOT_WATCHED: u8 = 125;

/// Run a program, watch what the kernel does for its mmaps, and say what went wrong
///
/// Works with any driver. It needs root (probes of kernel functions, in an instance of tracefs of its own that is
/// removed again). The program's output and exit status stay its own (a signal N is 128 + N); the diagnosis goes to
/// standard error. 125: it could not be watched; 126: not executable; 127: not found.
#[derive(Debug, Group)]
#[command(after_long_help = "Examples:
  mapbuf diagnose -- ./my-program /dev/maps0
  mapbuf diagnose --json --output why.json -- ./my-program
  mapbuf diagnose --attach 1234 --seconds 60             (a daemon; Ctrl-C ends it sooner)
  mapbuf diagnose --all --seconds 60                     (every failing mapping call on the machine, as a log)
  mapbuf diagnose --read -- ./my-program                 (also see whether anything answers)
  mapbuf diagnose --trace events.txt -- ./my-program     (also keep the raw events)")]
pub struct DiagnoseArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Write the diagnosis to this file instead of standard error
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write what the probes recorded to this file
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Use fprobe events instead of kprobe events, if the kernel has them
    #[arg(long)]
    fprobes: bool,
    /// Afterwards, read physical ranges that are not RAM; reading can have side effects in a device
    #[arg(long)]
    read: bool,
    /// Watch this running process and those that it starts; it continues afterwards
    #[arg(long, value_name = "PID", conflicts_with = "all")]
    attach: Option<u32>,
    /// Watch the whole machine: print a line for each mmap, mremap and mprotect that fails
    #[arg(long, conflicts_with_all = ["read", "trace"])]
    all: bool,
    /// Stop after this many seconds; otherwise press Ctrl-C
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// The program and its arguments
    #[arg(
        required_unless_present_any = ["attach", "all"],
        conflicts_with_all = ["attach", "all", "seconds"],
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "PROGRAM"
    )]
    command: Vec<OsString>,
}

/// The program that is diagnosed, before it is executed.
#[derive(Debug, Group)]
pub struct StubArgs {
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// Why a program cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Not root, or not root of everything.
    #[error("watching the kernel needs root (CAP_SYS_ADMIN, and CAP_SYS_PTRACE for the program): sudo mapbuf diagnose \
        -- …")]
    Privilege,
    /// The kernel is locked down.
    #[error("the kernel is locked down (confidentiality, see /sys/kernel/security/lockdown), which forbids probes of \
        its functions even for root; boot with lockdown=integrity or none, or run the program in a virtual machine (cargo \
             xtask vm) to have it diagnosed")]
    Lockdown,
    /// Not mounted, or not built.
    #[error("there is no tracefs with dynamic_events at /sys/kernel/tracing; mount it (mount -t tracefs tracefs \
             /sys/kernel/tracing); the kernel needs CONFIG_FPROBE_EVENTS or CONFIG_KPROBE_EVENTS")]
    NoTracefs,
    /// tracefs says no.
    #[error("tracefs refused {what}: {error}; see /sys/kernel/tracing/error_log")]
    Tracefs {
        /// What was tried.
        what: String,
        /// What it answered.
        error: String,
    },
    /// The program.
    #[error("the program could not be started: {0}")]
    Start(String),
}

/// Runs the command; the exit status is the program's.
pub fn run(args: &DiagnoseArgs) -> Result<ExitCode, Failure> {
    match watch(args) {
        Ok(status) => Ok(ExitCode::from(status)),
        Err(Stopped::Problem(problem)) => {
            anstream::eprintln!("mapbuf: {problem}");
            Ok(ExitCode::from(NOT_WATCHED))
        }
        Err(Stopped::Failure(failure)) => Err(failure),
    }
}

/// Defines all probes and takes them away again: what this kernel does not let them show.
pub fn unseen_here() -> Result<Vec<&'static str>, Problem> {
    let tracer = tracefs::Tracer::new(false)?;
    Ok(report::unseen_without(tracer.missing()))
}

/// The run whose probes are to be removed.
#[derive(Debug, Group)]
pub struct CleanerArgs {
    pid: u32,
}

/// Removes the probes of a run.
pub fn clean(args: &CleanerArgs) -> ExitCode {
    tracefs::clean(args.pid);
    ExitCode::SUCCESS
}

/// Becomes the program.
pub fn become_program(args: &StubArgs) -> ExitCode {
    ExitCode::from(tracee::become_program(&args.command))
}

enum Stopped {
    Problem(Problem),
    Failure(Failure),
}

impl From<Problem> for Stopped {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

/// Reads the ranges that were mapped by frame number, except RAM.
fn look_behind(history: &History, iomem: &mut Iomem) {
    let parts = history.mappings.iter().flat_map(|mapping| &mapping.filled);
    for part in parts {
        let Some(address) = part.pfn.map(|pfn| pfn * frames::PAGE) else {
            continue;
        };
        if !part.by_number || iomem.is_ram(address) || iomem.sight(address).is_some() {
            continue;
        }
        // What the kernel does not let us read stays unknown.
        if let Ok(sight) = physical::look(address, part.length) {
            iomem.saw(address, sight);
        }
    }
}

/// A process's name, with its number.
fn name_of_process(pid: u32) -> OsString {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    format!("{}[{pid}]", name.trim()).into()
}

fn watch(args: &DiagnoseArgs) -> Result<u8, Stopped> {
    let signals = tracee::hold_signals()?;
    let tracer = tracefs::Tracer::new(args.fprobes)?;
    if args.all {
        return all::watch(args, &tracer, &signals);
    }
    let tracee = match args.attach {
        Some(pid) => tracee::Tracee::attach(pid, signals)?,
        None => tracee::Tracee::new(&args.command, STUB, signals)?,
    };
    let (process, threads) = (tracee.pid(), tracee.threads());
    // A process that runs already may have a device's memory, and descriptors that are inherited may lead to one.
    let all_at_once = args.attach.is_some() || facts::inherits_a_device(process);
    let wanted = if all_at_once {
        Vec::new()
    } else {
        tracer.stops()
    };
    let mut stops = Stops::new(wanted);
    let recording = match tracer.watch(&threads, stops.are_wanted()) {
        Ok(recording) => recording,
        Err(problem) => {
            tracee.give_up();
            return Err(problem.into());
        }
    };
    // Those that were made meanwhile.
    let threads = if args.attach.is_some() {
        let threads = tracee.threads();
        tracer.watch_too(&threads);
        threads
    } else {
        threads
    };
    let command = match args.attach {
        Some(pid) => vec![name_of_process(pid)],
        None => args.command.clone(),
    };
    // What cannot be turned on is not seen, no more.
    let turn_all_on = |stops: &mut Stops| {
        if stops.are_wanted() {
            stops.take_away();
            let _ = tracer.all_on();
        }
    };
    let mut log = Log::follow();
    let mut facts = Facts::default();
    let life = tracee.run(
        args.seconds.map(Duration::from_secs),
        |moment| match moment {
            Moment::Standing(thread) => {
                recording.catch_up();
                facts.process(thread);
                if recording.ran_short() {
                    facts.note_mappings(thread, tracee::count_mappings(thread));
                }
                State::Well
            }
            Moment::Executed(process, narrow) => {
                if stops.are_wanted() && (narrow || stops.lay(process).is_err()) {
                    turn_all_on(&mut stops);
                }
                State::Well
            }
            Moment::AtStop => {
                turn_all_on(&mut stops);
                State::Well
            }
            Moment::Passing(threads) => {
                if recording.spins() {
                    return State::Spinning;
                }
                log.catch_up();
                let trouble = log.troubles().iter().any(|trouble| {
                    !trouble.only_warned
                        && trouble
                            .thread
                            .is_some_and(|thread| threads.contains(&thread))
                });
                if trouble {
                    State::Trouble
                } else {
                    State::Well
                }
            }
        },
    )?;
    // A probe that stops somebody cannot be removed.
    drop(stops);
    let (text, frames) = recording.finish();
    log.catch_up();
    facts.read();
    let lost = tracer.lost();
    let missing = tracer.missing().to_vec();
    let tracer = Some(tracer).filter(|_| life.stuck);
    let keep = |path: &PathBuf, text: &str| {
        fs::write(path, text).map_err(|source| {
            Stopped::Failure(Failure::File {
                path: path.clone(),
                source,
            })
        })
    };
    if let Some(path) = &args.trace {
        keep(path, &text)?;
    }
    let mut history = History::with_threads(&threads, process);
    history.narrow.clone_from(&life.narrow);
    history.go_on(&trace::parse_with(&text, &life.returned));
    facts.find_off(&history.physical());
    facts.find_variables(&history.made_of_module_addresses());
    let mut iomem = Iomem::read();
    if args.read {
        look_behind(&history, &mut iomem);
    }
    let seen = Seen {
        history: &history,
        life: &life,
        iomem: &iomem,
        frames: &frames,
        log: &log,
        facts: &facts,
        missing: &missing,
    };
    let findings = causes::find(&seen);
    let report = Report::new(&command, &seen, findings, lost);
    let text = if args.json {
        report.to_json()
    } else {
        report.to_string()
    };
    match &args.output {
        Some(path) => keep(path, &anstream::adapter::strip_str(&text).to_string())?,
        None => {
            // A terminal that was closed meanwhile takes nothing.
            let _ = anstream::stderr().write_all(text.as_bytes());
        }
    }
    // A thread that was stopped in the middle of its work may hold up for ever whoever removes a probe.
    if tracer.is_some_and(|tracer| !tracer.leave_to_another()) {
        anstream::eprintln!(
            "mapbuf: the kernel does not come to an end of removing the probes; only a restart of the machine helps"
        );
    }
    Ok(life.status)
}
