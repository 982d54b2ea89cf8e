//! The whole machine: every `mmap`, `mremap` and `mprotect` that fails, as a log.

use super::{
    facts::{self, Facts},
    finding::{name_of, Seen},
    frames::Frames,
    history::{History, Refusal},
    iomem::Iomem,
    log::Log,
    refusals, trace,
    tracee::Life,
    tracefs::Tracer,
    DiagnoseArgs, Failure, Stopped,
};
use nix::sys::signalfd::SignalFd;
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use serde::Serialize;
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write},
    time::{Duration, Instant},
};

/// How often what is new is printed.
const TICK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// A call that failed.
#[derive(Serialize)]
struct Line {
    process: i32,
    thread: i32,
    name: String,
    call: String,
    file: String,
    result: String,
    cause: Option<&'static str>,
    what: Option<String>,
}

/// Prints them until the time is over or a signal comes.
pub fn watch(args: &DiagnoseArgs, tracer: &Tracer, signals: &SignalFd) -> Result<u8, Stopped> {
    let mut output: Box<dyn Write> = match &args.output {
        Some(path) => Box::new(File::create(path).map_err(|source| {
            let path = path.clone();
            Stopped::Failure(Failure::File { path, source })
        })?),
        None => Box::new(io::stderr()),
    };
    let mut pipe = tracer.watch_all()?;
    let begun = Instant::now();
    let time = args.seconds.map(Duration::from_secs);
    let mut history = History::default();
    let mut log = Log::follow();
    let (life, iomem, frames) = (Life::default(), Iomem::read(), Frames::default());
    let mut known = BTreeSet::new();
    let mut rounds = trace::Rounds::default();
    let mut over = false;
    while !over {
        let mut polled = [PollFd::new(signals, PollFlags::IN)];
        let asked = poll(&mut polled, Some(&TICK)).is_ok_and(|ready| ready > 0);
        over = asked
            && signals
                .read_signal()
                .is_ok_and(|signal| is_an_end(signal.as_ref()))
            || time.is_some_and(|time| begun.elapsed() >= time);
        let events = rounds.take(&pipe.lines());
        for event in &events {
            if known.insert(event.thread) && facts::is_narrow(event.thread) {
                history.narrow.insert((event.thread, 0), true);
            }
        }
        history.go_on(&events);
        log.catch_up();
        let refused = history.take_refusals();
        if refused.is_empty() {
            continue;
        }
        let mut machine = Facts::default();
        machine.read();
        for refusal in &refused {
            machine.process(process_of(refusal.thread));
        }
        for mut refusal in refused {
            refusal.space = process_of(refusal.thread);
            let seen = Seen {
                history: &history,
                life: &life,
                iomem: &iomem,
                frames: &frames,
                log: &log,
                facts: &machine,
                missing: tracer.missing(),
            };
            let line = Line::of(&seen, &refusal);
            let text = if args.json {
                serde_json::to_string(&line).unwrap_or_default()
            } else {
                line.to_text()
            };
            if writeln!(output, "{text}").is_err() {
                // Nobody reads it any more.
                return Ok(0);
            }
        }
    }
    if tracer.lost() > 0 {
        anstream::eprintln!(
            "mapbuf: {} events were lost because the buffer was full",
            tracer.lost()
        );
    }
    Ok(0)
}

/// Whether a signal asks for the end; the end of a child does not.
fn is_an_end(signal: Option<&nix::libc::signalfd_siginfo>) -> bool {
    let child = nix::sys::signal::Signal::SIGCHLD as i32;
    signal.is_some_and(|signal| i32::try_from(signal.ssi_signo) != Ok(child))
}

/// The process of a thread; the thread's own number, where it has ended.
fn process_of(thread: i32) -> i32 {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
    let group = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    group
        .and_then(|number| number.trim().parse().ok())
        .unwrap_or(thread)
}

impl Line {
    fn of(seen: &Seen<'_>, refusal: &Refusal) -> Self {
        let finding = refusals::find(seen, refusal);
        let name = fs::read_to_string(format!("/proc/{}/comm", refusal.thread));
        Self {
            process: refusal.space,
            thread: refusal.thread,
            name: name.map_or_else(|_| "?".to_owned(), |name| name.trim().to_owned()),
            call: refusal.doing.text(),
            file: refusals::file_of(seen, refusal),
            result: name_of(refusal.result),
            cause: finding.as_ref().map(|finding| finding.cause),
            what: finding.map(|finding| finding.what),
        }
    }

    fn to_text(&self) -> String {
        let Self {
            thread,
            name,
            call,
            file,
            result,
            ..
        } = self;
        let cause = match (self.cause, &self.what) {
            (Some(cause), Some(what)) => format!("{cause}: {what}"),
            _ => format!(
                "unknown reason; mapbuf explain {} lists the usual causes",
                result.trim_start_matches('-')
            ),
        };
        format!("{name}[{thread}] {call} = {result} ({file})  {cause}")
    }
}
