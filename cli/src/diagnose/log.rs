//! The kernel's log while the program runs: what it says of an oops, a `BUG` or a warning, and of cache modes that it would
//! not give.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
};

use serde::Serialize;

/// How many lines of a trace are kept.
const LINES: usize = 120;

/// A line of the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Line {
    /// When, in microseconds since the machine started.
    pub time: u64,
    /// What it says.
    pub text: String,
}

/// `/dev/kmsg`, from where it stood when it was opened.
#[derive(Debug, Default)]
pub struct Log {
    file: Option<File>,
    /// All lines since then.
    pub lines: Vec<Line>,
}

/// An oops, a `BUG` or a warning.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Trouble {
    /// The line that begins it.
    pub head: String,
    /// The thread that it was in, where the log says so.
    pub thread: Option<i32>,
    /// The thread's name.
    pub name: String,
    /// The function that the processor was in: `symbol+offset [module]`.
    pub place: String,
    /// The first function of a module in the trace, or the place itself.
    pub module_function: Option<String>,
    /// The functions of the trace, the inner ones first.
    pub calls: Vec<String>,
    /// The address that was accessed, where it was an access.
    pub address: Option<u64>,
    /// The lines that are worth quoting.
    pub quoted: Vec<String>,
    /// The kernel went on in this thread: a warning.
    pub only_warned: bool,
    /// A thread had died in the kernel before, with whatever it held: this may be a consequence of that.
    pub after_a_crash: bool,
}

/// Where the trace of an oops is still in what reports it, and not in what went wrong.
fn is_of_the_report(place: &str) -> bool {
    [
        "show_",
        "__die",
        "die",
        "page_fault_oops",
        "kernelmode_fixup_or_oops",
        "__bad_area",
        "bad_area",
        "do_user_addr_fault",
        "do_kern_addr_fault",
        "exc_",
        "asm_exc_",
        "fixup_exception",
        "no_context",
        "oops_",
    ]
    .iter()
    .any(|name| place.starts_with(name))
}

impl Trouble {
    /// The functions that the processor was in, the innermost first, as far as the first one of a module: the kernel often
    /// dies in a helper of the function that tells what it was about.
    pub fn inner_calls(&self) -> impl Iterator<Item = &str> {
        const HELPERS: usize = 4;
        std::iter::once(self.place.as_str())
            .chain(self.calls.iter().map(String::as_str))
            .filter(|place| !place.is_empty() && !is_of_the_report(place))
            .take_while(|place| !place.contains('['))
            .take(HELPERS)
    }
}

impl Log {
    /// Begins to follow it. Without the privilege there is nothing to see.
    pub fn follow() -> Self {
        let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(nonblocking)
            .open("/dev/kmsg")
            .and_then(|mut file| {
                file.seek(SeekFrom::End(0))?;
                Ok(file)
            });
        Self {
            file: file.ok(),
            lines: Vec::new(),
        }
    }

    /// All of it that the kernel still has.
    pub fn whole() -> Self {
        let mut log = Self::follow();
        if let Some(file) = &mut log.file {
            // Where that fails, there is nothing to see.
            let _ = file.seek(SeekFrom::Start(0));
        }
        log.catch_up();
        log
    }

    /// Whether it can be read.
    pub fn can_see(&self) -> bool {
        self.file.is_some()
    }

    /// Takes what is new; whether there was anything.
    pub fn catch_up(&mut self) -> bool {
        let Some(file) = &mut self.file else {
            return false;
        };
        let mut new = false;
        // One record for each read.
        let mut record = [0; 8192];
        loop {
            match file.read(&mut record) {
                Ok(0) => return new,
                Ok(length) => {
                    let text = String::from_utf8_lossy(record.get(..length).unwrap_or_default());
                    if let Some(line) = line(&text) {
                        self.lines.push(line);
                        new = true;
                    }
                }
                // Records were dropped before they were read.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return new,
            }
        }
    }

    /// Every oops, `BUG` and warning so far.
    pub fn troubles(&self) -> Vec<Trouble> {
        troubles(&self.lines)
    }
}

/// `6,339,5140900,-;text`, and then lines for machines.
fn line(record: &str) -> Option<Line> {
    let (head, text) = record.split_once(';')?;
    let time = head.split(',').nth(2)?.parse().ok()?;
    let text = text.lines().next()?.to_owned();
    Some(Line { time, text })
}

/// Whether a line begins a report.
fn is_head(text: &str) -> bool {
    let text = text.trim_start();
    [
        "BUG: ",
        "kernel BUG at",
        "Oops: ",
        "general protection fault",
        "WARNING: CPU:",
        "WARNING: at ",
        "Bad page",
        "Unable to handle kernel",
        "refcount_t: ",
        "page dumped because",
    ]
    .iter()
    .any(|mark| text.starts_with(mark))
        || names_a_source_line(text)
        || text.contains(": Corrupted page table at address")
}

/// Whether it is a warning in the words of newer kernels, `WARNING: mm/memory.c:2557 at f+0x1/0x2, CPU#0: p/7`; there are others,
/// as lockdep's.
fn names_a_source_line(text: &str) -> bool {
    let place = text
        .strip_prefix("WARNING: ")
        .and_then(|rest| rest.split(' ').next())
        .and_then(|place| place.rsplit_once(':'));
    place.is_some_and(|(file, line)| {
        [".c", ".h", ".rs"].iter().any(|end| file.ends_with(end)) && line.parse::<u32>().is_ok()
    })
}

fn troubles(lines: &[Line]) -> Vec<Trouble> {
    let mut all: Vec<Trouble> = Vec::new();
    let mut current: Option<(Trouble, usize)> = None;
    for Line { text, .. } in lines {
        let ended = text.contains("---[ end trace") || text.contains("[ end Kernel panic");
        if let Some((trouble, count)) = &mut current {
            take(trouble, text);
            *count += 1;
            if ended || *count >= LINES {
                all.extend(current.take().map(|(trouble, _)| trouble));
            }
        } else if is_head(text) {
            let mut trouble = Trouble {
                head: text.trim().to_owned(),
                only_warned: text.starts_with("WARNING:") || text.starts_with("refcount_t"),
                ..Trouble::default()
            };
            trouble.quoted.push(trouble.head.clone());
            take(&mut trouble, text);
            current = Some((trouble, 0));
        }
    }
    // The end may not have been printed yet.
    all.extend(current.map(|(trouble, _)| trouble));
    let mut crashed = false;
    for trouble in &mut all {
        trouble.after_a_crash = crashed;
        crashed |= !trouble.only_warned;
    }
    all
}

/// `symbol+0x1/0x2` of a line of a trace, with its module.
fn function(text: &str) -> Option<String> {
    let text = text.trim_start();
    let symbol = text.split(' ').next()?;
    let (name, offsets) = symbol.split_once("+0x")?;
    if name.is_empty() || !offsets.contains("/0x") {
        return None;
    }
    let rest = text.get(symbol.len()..)?.trim();
    Some(
        match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            // A build identifier may follow the module's name.
            Some((module, _)) => {
                format!("{symbol} [{}]", module.split(' ').next().unwrap_or(module))
            }
            None => symbol.to_owned(),
        },
    )
}

fn take(trouble: &mut Trouble, text: &str) {
    let text = text.trim_start();
    if let Some(rest) = text.strip_prefix("CPU: ") {
        let mut words = rest.split(' ');
        let thread = words
            .position(|word| word == "PID:")
            .and_then(|_| words.next());
        if let Some(thread) = thread.and_then(|word| word.parse().ok()) {
            trouble.thread.get_or_insert(thread);
        }
        if let Some((_, name)) = rest.split_once("Comm: ") {
            let end = [" Tainted:", " Not tainted"]
                .iter()
                .find_map(|mark| name.find(mark))
                .unwrap_or(name.len());
            trouble.name = name.get(..end).unwrap_or(name).trim().to_owned();
        }
    }
    // The program's own registers are printed, too (0033).
    if let Some(rest) = text.strip_prefix("RIP: 0010:") {
        if trouble.place.is_empty() {
            trouble.place = function(rest).unwrap_or_else(|| rest.to_owned());
            trouble.quoted.push(text.to_owned());
        }
    }
    if text.starts_with("Oops: ") || text.starts_with("Tainted: ") {
        // A WARN does not come to an oops.
        trouble.only_warned &= !text.starts_with("Oops: ");
        if text != trouble.head && text.starts_with("Oops") {
            trouble.quoted.push(text.to_owned());
        }
    }
    if let Some((_, rest)) = text.split_once("for address: ") {
        let digits = rest.split([' ', ':']).next().unwrap_or(rest);
        trouble.address = u64::from_str_radix(digits.trim_start_matches("0x"), 16).ok();
    }
    if let Some((_, digits)) = text.split_once("NULL pointer dereference, address: ") {
        trouble.address = u64::from_str_radix(digits.trim(), 16).ok();
    }
    if let Some((_, rest)) = text.split_once("non-canonical address 0x") {
        let digits = rest.split([' ', ':']).next().unwrap_or(rest);
        trouble.address = u64::from_str_radix(digits, 16).ok();
    }
    if let Some(called) = function(text).filter(|_| !text.starts_with('?')) {
        if called.contains('[') && trouble.module_function.is_none() {
            trouble.quoted.push(text.to_owned());
        }
        trouble.calls.push(called);
    }
    if trouble.module_function.is_none() {
        let inner = std::iter::once(&trouble.place).chain(&trouble.calls);
        trouble.module_function = inner
            .filter(|function| function.contains('['))
            .map(|function| super::trace::symbol(function))
            .next();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_oops_is_read() {
        let text = "BUG: unable to handle page fault for address: 000027a000001008\n\
            #PF: supervisor read access in kernel mode\n\
            Oops: Oops: 0000 [#1] SMP NOPTI\n\
            CPU: 0 UID: 0 PID: 131 Comm: my prog Tainted: G           O        7.2.12 #1\n\
            RIP: 0010:__do_fault+0x42/0x120\n\
            Call Trace:\n\
             <TASK>\n\
             ? __die+0x1/0x2 [other]\n\
             do_fault+0x1/0x2\n\
             my_fault+0x10/0x20 [maps]\n\
            RIP: 0033:0x401000\n\
            ---[ end trace 0000000000000000 ]---";
        let lines: Vec<_> = text
            .lines()
            .map(|text| Line {
                time: 1,
                text: text.to_owned(),
            })
            .collect();
        let found = troubles(&lines);
        assert_eq!(found.len(), 1, "{found:?}");
        let trouble = &found[0];
        assert_eq!(
            (trouble.thread, trouble.name.as_str()),
            (Some(131), "my prog")
        );
        assert_eq!(trouble.address, Some(0x27a0_0000_1008));
        assert_eq!(trouble.place, "__do_fault+0x42/0x120");
        assert_eq!(trouble.module_function.as_deref(), Some("my_fault [maps]"));
        assert!(
            !trouble.only_warned && trouble.quoted.len() == 4,
            "{trouble:?}"
        );
    }

    #[test]
    fn a_warning_is_told_from_what_is_called_so() {
        for text in [
            "WARNING: CPU: 0 PID: 203 at kernel/rcu/tree_plugin.h:331 f+0x5ad/0x630",
            "WARNING: arch/x86/mm/pat/memtype.c:721 at f+0x1/0x2, CPU#0: p/7",
            "WARNING: drivers/dma-buf/dma-buf.c:12 at f+0x1/0x2 [m], CPU#0: p/7",
            "WARNING: at f+0x1/0x2, CPU#0: p/7",
        ] {
            assert!(is_head(text), "{text}");
        }
        for text in [
            "WARNING: possible circular locking dependency detected",
            "WARNING: a.c: no line",
            "RETBleed: WARNING: Spectre v2 mitigation leaves CPU vulnerable",
        ] {
            assert!(!is_head(text), "{text}");
        }
    }

    #[test]
    fn helpers_lead_to_the_function_that_tells() {
        let calls = |calls: &[&str]| Trouble {
            place: "_compound_head+0x0/0x40".into(),
            calls: calls.iter().map(|&call| call.to_owned()).collect(),
            ..Trouble::default()
        };
        let trouble = calls(&["page_fault_oops+0x1/0x2", "__do_fault+0x30/0x110"]);
        let inner: Vec<_> = trouble.inner_calls().collect();
        assert_eq!(inner, ["_compound_head+0x0/0x40", "__do_fault+0x30/0x110"]);
        // The module's own mistake: what called it is not to blame.
        let trouble = calls(&["my_fault+0x1/0x2 [maps]", "__do_fault+0x30/0x110"]);
        assert_eq!(trouble.inner_calls().count(), 1);
    }

    #[test]
    fn a_record_is_read() {
        let line = line("6,339,5140900,-;x86/PAT: a\n SUBSYSTEM=b\n").unwrap();
        assert_eq!((line.time, line.text.as_str()), (5_140_900, "x86/PAT: a"));
    }
}
