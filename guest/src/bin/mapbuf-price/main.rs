//! Measures what each kind of memory costs, and what others cost beside it: `mapbuf-price [--bytes N[,N]...]
//! [--repeats N] [SUBJECT...]` prints one line of JSON for each.
//!
//! The processor's time stamp counter is read before and after each step. Under QEMU's `-icount shift=0` it counts
//! instructions (`cpu_get_ticks` of `softmmu/cpu-timers.c`); elsewhere it counts whatever it counts. Interrupts add to
//! it, so each step is repeated and the least is told.
//!
//! With `--processes N` it measures instead what N processes take that do all steps at once; with `--objects N[,N]...
//! --operations N` what operations cost among so many objects, and after so many operations.

mod contend;
mod scale;
mod subject;
mod sys;

use mapbuf_guest::price::{Price, Steps};
use std::error::Error;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;
use subject::Subject;
use sys::Mapped;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(20);

/// What is to be done.
struct Task {
    sizes: Vec<usize>,
    repeats: usize,
    subjects: Vec<Subject>,
    /// Processes that do it at once; 0: one alone, step by step.
    processes: usize,
    /// Numbers of objects to measure among; none: prices.
    objects: Vec<usize>,
    /// Operations before the last of these measurements.
    operations: u64,
}

fn main() -> ExitCode {
    let Some(task) = arguments() else {
        let names: Vec<_> = Subject::ALL.iter().map(|subject| subject.name()).collect();
        eprintln!("usage: mapbuf-price [--bytes N[,N]...] [--repeats N] [SUBJECT...]");
        eprintln!("subjects: {}", names.join(" "));
        return ExitCode::from(2);
    };
    match run(&task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mapbuf-price: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: &Task) -> Result<()> {
    if !task.objects.is_empty() {
        return scale::scale(&task.objects, task.operations);
    }
    if task.processes > 0 {
        for &bytes in &task.sizes {
            for &subject in &task.subjects {
                tell(&contend::contend(
                    subject,
                    bytes,
                    task.processes,
                    task.repeats,
                )?)?;
            }
        }
        return Ok(());
    }
    let _first = sys::First::new()?;
    for &bytes in &task.sizes {
        for &subject in &task.subjects {
            let price = measure(subject, bytes, task.repeats);
            let price = price.map_err(|error| format!("{} of {bytes}: {error}", subject.name()))?;
            tell(&price)?;
        }
    }
    Ok(())
}

fn arguments() -> Option<Task> {
    let mut task = Task {
        sizes: vec![4 << 10, 64 << 10, 2 << 20, 64 << 20],
        repeats: 5,
        subjects: Vec::new(),
        processes: 0,
        objects: Vec::new(),
        operations: 0,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--bytes" => task.sizes = numbers(&words.next()?)?,
            "--objects" => task.objects = numbers(&words.next()?)?,
            "--operations" => task.operations = words.next()?.parse().ok()?,
            "--repeats" => task.repeats = words.next()?.parse().ok()?,
            "--processes" => task.processes = words.next()?.parse().ok()?,
            name => task.subjects.push(Subject::named(name)?),
        }
    }
    if task.subjects.is_empty() {
        task.subjects = Subject::ALL.to_vec();
    }
    (task.repeats > 0).then_some(task)
}

/// Numbers with commas between them.
fn numbers(text: &str) -> Option<Vec<usize>> {
    text.split(',').map(|number| number.parse().ok()).collect()
}

fn tell(row: &impl serde::Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(row)?;
    line.push(b'\n');
    std::io::stdout().write_all(&line)?;
    Ok(())
}

/// Runs a step; what it gave, and what the clock counted.
fn timed<T>(step: impl FnOnce() -> T) -> (T, u64) {
    let before = sys::clock();
    let result = step();
    let after = sys::clock();
    (result, after.wrapping_sub(before))
}

fn measure(subject: Subject, bytes: usize, repeats: usize) -> Result<Price> {
    let source = subject.open()?;
    // What reading the clock costs itself.
    let idle = (0..16).map(|_| timed(|| ()).1).min().unwrap_or_default();
    let mut least: Option<Steps> = None;
    let mut faults = u64::MAX;
    // The first round warms up what is made once: the kernel's caches, and this program's own pages.
    for round in 0..=repeats {
        // What the last round left to the kernel's threads is done now.
        std::thread::sleep(PAUSE);
        let (memory, alloc) = timed(|| source.alloc(bytes));
        let memory = memory?;
        let (mapped, map) = timed(|| memory.map(bytes));
        let mapped = mapped?;
        let before = sys::faults();
        let ((), touch) = timed(|| mapped.touch());
        let met = sys::faults() - before;
        let (unmapped, unmap) = timed(|| mapped.unmap());
        unmapped?;
        let (freed, free) = timed(|| memory.free());
        freed?;
        if round == 0 {
            continue;
        }
        let cost = |ticks: u64| ticks.saturating_sub(idle);
        let steps = Steps {
            alloc: cost(alloc),
            map: cost(map),
            touch: cost(touch),
            unmap: cost(unmap),
            free: cost(free),
        };
        least = Some(least.map_or(steps, |least| least.least(&steps)));
        faults = faults.min(met);
    }
    let (huge_bytes, by_frame) = look(&source, bytes)?;
    Ok(Price {
        subject: subject.name().to_owned(),
        bytes: bytes as u64,
        faults,
        huge_bytes,
        by_frame,
        steps: least.ok_or("nothing was repeated")?,
    })
}

/// Once more, to look at it: how much of it has entries of 2 MiB, and whether it is mapped by page frame.
fn look(source: &subject::Source, bytes: usize) -> Result<(u64, bool)> {
    let memory = source.alloc(bytes)?;
    let tables = sys::page_tables()?;
    let mapped: Mapped = memory.map(bytes)?;
    mapped.touch();
    let sight = mapped.look()?;
    // `smaps` leaves frames out: they have entries of 4 KiB where there are tables for them, and a table for so much is
    // for nothing else.
    let own_tables = bytes >= sys::HUGE && mapped.begins_at_a_huge_entry();
    let huge = if sight.by_frame && own_tables && sys::page_tables()? == tables {
        bytes as u64
    } else {
        sight.huge_bytes
    };
    mapped.unmap()?;
    memory.free()?;
    Ok((huge, sight.by_frame))
}
