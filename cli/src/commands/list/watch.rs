//! `mapbuf list --watch`: who holds what, how much, and since when.

use crate::{
    failure::Failure,
    output,
    usage::{self, Look, Process},
};
use anstyle::{AnsiColor, Style};
use mapbuf::{
    abi::{explain::Bytes, SYSTEM_NODE},
    sysfs, Access, Device, Named,
};
use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use serde::Serialize;
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    io::{self, IsTerminal},
    os::unix::fs::MetadataExt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How to watch.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// The time between two looks.
    pub every: Duration,
    /// The number of looks; without end if there is none.
    pub looks: Option<u32>,
    /// Whether each look is a line of JSON.
    pub json: bool,
}

/// What is seen at one moment, with its JSON names. Times are in seconds since 1970.
#[derive(Debug, Serialize)]
pub struct Seen {
    time: u64,
    /// Bytes of all buffers together; absent if the allocator node cannot be opened.
    used_bytes: Option<u64>,
    /// What they can be at most.
    max_bytes: Option<u64>,
    buffers: Vec<Buffer>,
    processes: Vec<Holder>,
    cgroups: Vec<Group>,
}

/// A named buffer.
#[derive(Debug, Serialize)]
struct Buffer {
    name: String,
    bytes: u64,
    kind: &'static str,
    mappings: Option<u64>,
    /// When it got its name.
    since: Option<u64>,
    processes: usize,
}

/// A process that holds something.
#[derive(Debug, Serialize)]
struct Holder {
    #[serde(flatten)]
    process: Process,
    /// When it was first seen to hold anything.
    since: u64,
    /// Whether that was at the first look, so that it may hold it for longer.
    at_first_look: bool,
}

/// The processes of a control group together.
#[derive(Debug, Default, Serialize)]
struct Group {
    cgroup: String,
    processes: usize,
    descriptors: usize,
    mapped_bytes: u64,
}

/// Looks again and again, until it is told to end, or nobody reads any more.
pub fn run(watch: Watch) -> Result<(), Failure> {
    // Before the first look, so that no signal comes between.
    let end = End::new()?;
    let screen = !watch.json && io::stdout().is_terminal();
    let mut since = Since::default();
    let mut names = usage::Names::default();
    let mut looks = 0_u32;
    loop {
        let seen = since.note(look(&mut names)?);
        let read = if watch.json {
            let line = serde_json::to_string(&seen).map_err(|error| Failure::File {
                path: "standard output".into(),
                source: error.into(),
            })?;
            output::print(&format!("{line}\n"))?
        } else {
            // ECMA-48: to the first place, and erase what is below.
            let before = match (screen, looks) {
                (true, _) => "\x1b[H\x1b[J",
                (false, 0) => "",
                (false, _) => "\n",
            };
            output::print(&format!("{before}{seen}"))?
        };
        looks = looks.saturating_add(1);
        let enough = watch.looks.is_some_and(|most| looks >= most);
        if !read || enough || end.comes_within(watch.every)? {
            return Ok(());
        }
    }
}

/// SIGINT and SIGTERM, which end the command between two looks, with success.
struct End(SignalFd);

impl End {
    fn new() -> Result<Self, Failure> {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGINT);
        signals.add(Signal::SIGTERM);
        signals
            .thread_block()
            .and_then(|()| SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC))
            .map(Self)
            .map_err(|errno| failed(errno.into()))
    }

    /// Waits, unless the end comes before.
    fn comes_within(&self, time: Duration) -> Result<bool, Failure> {
        let mut descriptors = [PollFd::new(&self.0, PollFlags::IN)];
        let time =
            Timespec::try_from(time).map_err(|_| failed(io::ErrorKind::InvalidInput.into()))?;
        match poll(&mut descriptors, Some(&time)) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(errno) => Err(failed(errno.into())),
        }
    }
}

fn failed(source: io::Error) -> Failure {
    Failure::File {
        path: "the signals".into(),
        source,
    }
}

/// What is there now; what is known only over time is not filled in.
fn look(names: &mut usage::Names) -> Result<Seen, Failure> {
    let entries = sysfs::list()?;
    let limits = Device::open_with(SYSTEM_NODE, Access::ReadOnly)
        .and_then(|device| device.query())
        .ok();
    names.learn(&entries);
    let processes = Look::new(names).processes();
    let time = SystemTime::now().duration_since(UNIX_EPOCH);
    let time = time.map_or(0, |time| time.as_secs());
    let buffers = entries.into_iter().map(|entry| {
        let node = std::fs::metadata(Named::path(&entry.name)).ok();
        let holds = |process: &&Process| process.holds.iter().any(|hold| hold.what == entry.name);
        Buffer {
            processes: processes.iter().filter(holds).count(),
            bytes: entry.bytes,
            kind: entry.kind.name(),
            mappings: entry.mappings,
            since: node.and_then(|node| u64::try_from(node.mtime()).ok()),
            name: entry.name,
        }
    });
    Ok(Seen {
        time,
        used_bytes: limits.as_ref().map(|limits| limits.used_bytes),
        max_bytes: limits.as_ref().map(|limits| limits.max_bytes),
        buffers: buffers.collect(),
        cgroups: groups(&processes),
        processes: processes
            .into_iter()
            .map(|process| Holder {
                process,
                since: time,
                at_first_look: false,
            })
            .collect(),
    })
}

/// Adds up what the processes of each control group hold.
fn groups(processes: &[Process]) -> Vec<Group> {
    let mut groups: BTreeMap<&str, Group> = BTreeMap::new();
    for process in processes {
        let name = process.cgroup.as_deref().unwrap_or("?");
        let group = groups.entry(name).or_default();
        group.cgroup = name.to_owned();
        group.processes += 1;
        group.descriptors += process
            .holds
            .iter()
            .map(|hold| hold.descriptors)
            .sum::<usize>();
        group.mapped_bytes += process.mapped_bytes;
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.mapped_bytes));
    groups
}

/// Since when each process was seen, by its number and when it began: numbers are used again.
#[derive(Default)]
struct Since {
    first: HashMap<(i32, u64), (u64, bool)>,
    looked: bool,
}

impl Since {
    fn note(&mut self, mut seen: Seen) -> Seen {
        let mut now = HashMap::new();
        for holder in &mut seen.processes {
            let key = (holder.process.pid, holder.process.start_ticks);
            let known = self.first.get(&key).copied();
            let first = known.unwrap_or((seen.time, !self.looked));
            (holder.since, holder.at_first_look) = first;
            now.insert(key, first);
        }
        self.first = now;
        self.looked = true;
        seen
    }
}

/// How long ago, in one number.
struct Age(u64);

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 {
            seconds @ 0..120 => format!("{seconds} s"),
            seconds @ 120..7200 => format!("{} min", seconds / 60),
            seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
            seconds => format!("{} days", seconds / 86_400),
        };
        f.pad(&text)
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bold = Style::new().bold();
        if let (Some(used), Some(most)) = (self.used_bytes, self.max_bytes) {
            writeln!(f, "{} of at most {} in use", Bytes(used), Bytes(most))?;
        }
        self.buffers(f, bold)?;
        self.processes(f, bold)?;
        self.cgroups(f, bold)
    }
}

impl Seen {
    fn buffers(&self, f: &mut fmt::Formatter<'_>, bold: Style) -> fmt::Result {
        if self.buffers.is_empty() {
            return writeln!(f, "no named buffers");
        }
        let width = self.buffers.iter().map(|buffer| buffer.name.len()).max();
        let width = width.unwrap_or(0).max(6);
        writeln!(
            f,
            "{bold}{:width$}  {:>12}  {:10}  {:>8}  {:>9}  {:>7}{bold:#}",
            "BUFFER", "SIZE", "KIND", "MAPPINGS", "PROCESSES", "NAMED"
        )?;
        for buffer in &self.buffers {
            let dash = || "-".to_owned();
            writeln!(
                f,
                "{:width$}  {:>12}  {:10}  {:>8}  {:>9}  {:>7}",
                buffer.name,
                Bytes(buffer.bytes).to_string(),
                buffer.kind,
                buffer.mappings.map_or_else(dash, |count| count.to_string()),
                buffer.processes,
                buffer
                    .since
                    .map_or_else(dash, |since| Age(self.time.saturating_sub(since))
                        .to_string()),
            )?;
        }
        Ok(())
    }

    fn processes(&self, f: &mut fmt::Formatter<'_>, bold: Style) -> fmt::Result {
        if self.processes.is_empty() {
            return writeln!(f, "\nno process that you can see holds any; root sees all");
        }
        writeln!(
            f,
            "\n{bold}{:>7}  {:15}  {:>6}  {:>12}  {:>8}  HOLDS{bold:#}",
            "PROCESS", "COMMAND", "USER", "MAPPED", "SINCE"
        )?;
        for holder in &self.processes {
            let process = &holder.process;
            let age = Age(self.time.saturating_sub(holder.since));
            let since = match holder.at_first_look {
                true => format!(">{age}"),
                false => age.to_string(),
            };
            let holds: Vec<_> = process.holds.iter().map(ToString::to_string).collect();
            let new = match self.time.saturating_sub(holder.since) < 10 && !holder.at_first_look {
                true => AnsiColor::Green.on_default(),
                false => Style::new(),
            };
            writeln!(
                f,
                "{new}{:>7}  {:15}  {:>6}  {:>12}  {since:>8}  {}{new:#}",
                process.pid,
                process.command,
                process.uid.map_or("-".to_owned(), |uid| uid.to_string()),
                Bytes(process.mapped_bytes).to_string(),
                holds.join(", "),
            )?;
        }
        Ok(())
    }

    fn cgroups(&self, f: &mut fmt::Formatter<'_>, bold: Style) -> fmt::Result {
        if self.cgroups.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "\n{bold}{:>9}  {:>11}  {:>12}  CGROUP{bold:#}",
            "PROCESSES", "DESCRIPTORS", "MAPPED"
        )?;
        for group in &self.cgroups {
            writeln!(
                f,
                "{:>9}  {:>11}  {:>12}  {}",
                group.processes,
                group.descriptors,
                Bytes(group.mapped_bytes).to_string(),
                group.cgroup,
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::Hold;

    fn process(pid: i32, start_ticks: u64, cgroup: &str, mapped_bytes: u64) -> Process {
        Process {
            pid,
            command: "reader".into(),
            uid: Some(0),
            cgroup: Some(cgroup.into()),
            start_ticks,
            mapped_bytes,
            holds: vec![Hold {
                what: "ring".into(),
                descriptors: 1,
                mapped_bytes,
            }],
        }
    }

    fn seen(time: u64, processes: Vec<Process>) -> Seen {
        Seen {
            time,
            used_bytes: Some(4096),
            max_bytes: Some(1 << 30),
            buffers: Vec::new(),
            cgroups: groups(&processes),
            processes: processes
                .into_iter()
                .map(|process| Holder {
                    process,
                    since: time,
                    at_first_look: false,
                })
                .collect(),
        }
    }

    #[test]
    fn processes_are_followed_and_numbers_are_used_again() {
        let mut since = Since::default();
        let first = since.note(seen(100, vec![process(1, 5, "/", 0)]));
        assert_eq!(
            (first.processes[0].since, first.processes[0].at_first_look),
            (100, true)
        );
        let second = since.note(seen(
            103,
            vec![process(1, 5, "/", 0), process(2, 6, "/", 0)],
        ));
        assert_eq!(
            (second.processes[0].since, second.processes[0].at_first_look),
            (100, true)
        );
        assert_eq!(
            (second.processes[1].since, second.processes[1].at_first_look),
            (103, false)
        );
        assert!(second.to_string().contains(">3 s"), "{second}");
        // It let go, and another process got its number.
        let third = since.note(seen(110, vec![process(1, 9, "/", 0)]));
        assert_eq!(
            (third.processes[0].since, third.processes[0].at_first_look),
            (110, false)
        );
    }

    #[test]
    fn groups_are_added_up_and_the_largest_is_first() {
        let found = groups(&[
            process(1, 1, "/small", 4096),
            process(2, 1, "/large", 8192),
            process(3, 1, "/large", 8192),
        ]);
        assert_eq!(
            (found[0].cgroup.as_str(), found[0].processes),
            ("/large", 2)
        );
        assert_eq!((found[0].mapped_bytes, found[0].descriptors), (16384, 2));
        assert_eq!(found[1].mapped_bytes, 4096);
    }

    #[test]
    fn ages_are_short() {
        for (seconds, text) in [
            (0, "0 s"),
            (119, "119 s"),
            (180, "3 min"),
            (7200, "2 h"),
            (864_000, "10 days"),
        ] {
            assert_eq!(Age(seconds).to_string(), text);
        }
    }
}
