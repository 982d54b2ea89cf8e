//! `mapbuf show`: what a way to map does, shown with memory that is made for it.

use crate::{
    failure::Failure,
    output::{self, OutputArgs},
    specimen::{Row, Source, Specimen},
    values::{CacheArg, KindArg},
};
use clap::{builder::PossibleValuesParser, Args as Group};
use mapbuf::{abi::explain::Bytes, Kind, MapOptions, Mapping, Method};
use nix::{
    sys::uio::{process_vm_readv, RemoteIoVec},
    unistd::Pid,
};
use serde::Serialize;
use std::{fmt, fs, io::IoSliceMut};

/// Show what a mapping method does: its entries, its page faults, whether its pages can be pinned, and what is refused
///
/// Allocates a buffer, maps it with the method, and reads it (only the first half for methods that map by faults); then
/// looks at the page tables of its own process. Needs root, since only root can see frames.
#[derive(Debug, Group)]
#[command(after_long_help = "Examples:
  mapbuf show remap
  mapbuf show fault-huge --pages 4096
  mapbuf show remap remap-each
  mapbuf show remap --cache uncached
  mapbuf show dma --json")]
pub struct ShowArgs {
    /// The method, or several
    #[arg(required = true, value_parser = PossibleValuesParser::new(Method::ALL.iter().map(|method| method.name())))]
    methods: Vec<String>,
    /// The kind of memory [default: one that suits the method]
    #[arg(long, value_enum)]
    kind: Option<KindArg>,
    /// The cache mode of every mapping, the kernel's included
    #[arg(long, value_enum, default_value = "cached")]
    cache: CacheArg,
    /// How many pages
    #[arg(long, default_value_t = 8)]
    pages: u64,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Entries that follow one another, here and in memory.
#[derive(Debug, Serialize)]
struct Run {
    first_page: u64,
    entries: u64,
    entry_bytes: u64,
    cached: Option<bool>,
    /// Where they lead to; nowhere: no entry.
    physical: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Report {
    method: &'static str,
    kind: &'static str,
    bytes: u64,
    /// The mapping's flags, as `/proc/self/smaps` has them.
    vma_flags: Vec<String>,
    touched: u64,
    faults: i64,
    source: &'static str,
    runs: Vec<Run>,
    /// What `process_vm_readv` said.
    pin: String,
    private_read_only: String,
    private_writable: String,
}

/// Several of them, as text or as an array.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Reports(Vec<Report>);

/// Runs the command.
pub fn run(args: &ShowArgs) -> Result<(), Failure> {
    let mut reports = Vec::new();
    for method in &args.methods {
        let kind = args.kind.map(Kind::from);
        let specimen = Specimen::new(method, kind, args.cache.into(), args.pages)?;
        reports.push(report(&specimen));
    }
    output::answer(args.output, &Reports(reports))
}

fn report(specimen: &Specimen) -> Report {
    let private = MapOptions::new().method(specimen.method).private();
    Report {
        method: specimen.method.name(),
        kind: specimen.kind.name(),
        bytes: specimen.buffer.len(),
        vma_flags: flags(&specimen.memory),
        touched: specimen.touched,
        faults: specimen.faults,
        source: match specimen.source {
            Source::Tables => "the page tables have",
            Source::Pagemap => "/proc/self/pagemap has",
            Source::Driver => "(the tables cannot be read here) the driver names",
        },
        runs: runs(&specimen.rows),
        pin: pin(&specimen.memory),
        private_read_only: outcome(private.clone().read_only().map(&specimen.buffer)),
        private_writable: outcome(private.read_write().map(&specimen.buffer).and_then(copies)),
    }
}

fn flags(memory: &Mapping) -> Vec<String> {
    let start = format!("{:x}-", memory.as_ptr().addr());
    let text = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    let mut lines = text.lines().skip_while(|line| !line.starts_with(&start));
    let flags = lines.find_map(|line| line.strip_prefix("VmFlags:"));
    flags
        .unwrap_or_default()
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}

/// Rows that follow one another are one run.
fn runs(rows: &[Row]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for row in rows {
        let follows = runs.last().is_some_and(|run| {
            let next = run
                .physical
                .map(|physical| physical + run.entries * run.entry_bytes);
            next == row.physical
                && run.cached == row.cached
                && (row.physical.is_none() || run.entry_bytes == row.bytes)
        });
        match runs.last_mut() {
            Some(run) if follows => run.entries += 1,
            _ => runs.push(Run {
                first_page: row.page,
                entries: 1,
                entry_bytes: row.bytes,
                cached: row.cached,
                physical: row.physical,
            }),
        }
    }
    runs
}

/// Reads the mapping as a debugger's `process_vm_readv` does: the kernel pins the page for it, as for `O_DIRECT`.
fn pin(memory: &Mapping) -> String {
    let mut bytes = [0; 64];
    let remote = RemoteIoVec {
        base: memory.as_ptr().addr(),
        len: bytes.len(),
    };
    match process_vm_readv(Pid::this(), &mut [IoSliceMut::new(&mut bytes)], &[remote]) {
        Ok(_) => "works".to_owned(),
        Err(errno) => format!("{errno:?}"),
    }
}

/// Whether what is written to a private mapping stays there.
fn copies(memory: Mapping) -> mapbuf::Result<Mapping> {
    let before: u8 = memory.read(0)?;
    memory.write(0, !before)?;
    Ok(memory)
}

fn outcome(result: mapbuf::Result<Mapping>) -> String {
    match result {
        Ok(_) => "maps".to_owned(),
        Err(error) => match error.reason() {
            Some(reason) => format!("refused: {}", reason.name()),
            None => format!("refused: {error}"),
        },
    }
}

impl fmt::Display for Reports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, report) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{report}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} of {} memory, mapped by {}; VMA flags: {}",
            Bytes(self.bytes),
            self.kind,
            self.method,
            self.vma_flags.join(" ")
        )?;
        writeln!(
            f,
            "{} read, with {} page faults; then {}:",
            Bytes(self.touched),
            self.faults,
            self.source
        )?;
        for run in &self.runs {
            let Some(physical) = run.physical else {
                writeln!(f, "  page {:4}  no entry from here on", run.first_page)?;
                continue;
            };
            let plural = if run.entries == 1 { "entry" } else { "entries" };
            let mode = match run.cached {
                Some(true) => ", cached",
                Some(false) => ", uncached",
                None => "",
            };
            writeln!(
                f,
                "  page {:4}  {:3} {plural} of {}{mode} -> {physical:#x}",
                run.first_page,
                run.entries,
                Bytes(run.entry_bytes)
            )?;
        }
        writeln!(f, "pin it (process_vm_readv):        {}", self.pin)?;
        writeln!(
            f,
            "MAP_PRIVATE, PROT_READ:           {}",
            self.private_read_only
        )?;
        writeln!(
            f,
            "MAP_PRIVATE, PROT_WRITE, written: {}",
            self.private_writable
        )
    }
}
