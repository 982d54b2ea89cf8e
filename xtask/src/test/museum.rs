//! The museum: drivers that are wrong on purpose, and what `mapbuf diagnose` says about each.

use super::plan::Boot;
use super::stock::Results;
use crate::guest::{self, Guest};
use crate::kit::Kit;
use crate::vm;
use anyhow::{bail, Context, Result};
use mapbuf_guest::Profile;
use mapbuf_init::{Ending, Job, LoadModule};
use mapbuf_vm::museum_kernel::Series;
use mapbuf_vm::shared::SharedMemory;
use mapbuf_vm::{qemu, splat, Choice, Ui, Verdict};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::str::FromStr;
use std::time::{Duration, Instant};

/// The name for `--profile`.
pub const PROFILE: &str = "museum";

const BOOT: Profile = Profile {
    name: PROFILE,
    purpose: "drivers that are wrong on purpose, and what is said about them",
    // The kernel's own code is rewritten for every probe. Emulated processors that run in parallel may execute the half
    // of it.
    append: &["tsc=reliable"],
    memory_mib: 1024,
    processors: 1,
    modules: &[],
    module_parameters: "",
    qemu_args: &[],
    quiet_seconds: 300,
    ..Profile::PLAIN
};

/// What the device has whose memory reads as ones.
const ONES_BYTES: usize = 1 << 20;
/// Where it is in the guest.
const HALL: &str = "/museum";

/// Exhibits that stop the kernel in the middle, in a boot of their own.
const STOPPING: Profile = Profile {
    name: "museum-stopping",
    purpose: "drivers that run into a BUG_ON",
    ..BOOT
};
/// What is told to `mapbuf-museum` for that.
const STOPPING_WORD: &str = "--stopping";

/// What is to be booted.
pub fn plan<'a>(
    kit: &'a Kit,
    filter: &'a str,
    driver: Option<&'a Path>,
    logs: &'a Path,
) -> Result<Vec<Boot<'a>>> {
    let program = guest::build(&["mapbuf-guest"], &kit.ui)?.join("mapbuf-museum");
    let mut boots = Vec::new();
    for (profile, word) in [(&BOOT, None), (&STOPPING, Some(STOPPING_WORD))] {
        let listed = Command::new(&program)
            .args(["--list", filter])
            .args(word)
            .output()
            .context("mapbuf-museum could not be started")?;
        let tests = String::from_utf8_lossy(&listed.stdout).lines().count();
        if tests == 0 {
            continue;
        }
        if boots.is_empty() {
            // Before a guest that waits for it takes a place; what is built is found there.
            kit.driver(driver)?;
            kit.driver(Some(&crate::workspace()?.join("examples/broken")))?;
        }
        boots.push(Boot {
            name: profile.name.to_owned(),
            purpose: profile.purpose,
            tests: tests as u64,
            memory: profile.memory_mib,
            run: Box::new(move |line| {
                let mut results = Results::default();
                let begun = Instant::now();
                let words: Vec<_> = word.into_iter().chain([filter]).collect();
                let mut report = boot(kit, profile, &words, driver, &mut |stream, bytes| {
                    results.take(stream, bytes);
                    results.tell(line);
                })?;
                if word.is_some() {
                    report = without_the_expected(report, tests);
                }
                let log = logs.join(format!("{}.log", profile.name));
                results.conclude("stock", profile, &report, begun.elapsed(), &log)
            }),
        });
    }
    Ok(boots)
}

/// A report in which the `BUG` of each test is no failure; one more, one less or another is.
fn without_the_expected(mut report: qemu::Report, tests: usize) -> qemu::Report {
    let marks = [
        "------------[ cut here ]------------",
        "kernel BUG at mm/memory.c:",
        "Oops: invalid opcode: 0000 [#",
    ];
    let is_expected = |line: &str| marks.iter().any(|mark| line.contains(mark));
    let (expected, others): (Vec<_>, Vec<_>) = report
        .log
        .iter()
        .filter(|line| splat::is_splat(line))
        .partition(|line| is_expected(line));
    let all = others.is_empty() && expected.len() == marks.len() * tests;
    if !all {
        let seen = expected.len();
        let complaint = format!("{tests} times a BUG and an Oops are expected, not {seen} lines");
        report.complaints.push(complaint);
    } else if report.verdict == Verdict::Splat {
        if let Some(Ending::Exited(status)) = report.program {
            report.verdict = Verdict::Exited(status);
            report.log.retain(|line| !is_expected(line));
        }
    }
    report
}

/// Print what `mapbuf diagnose` says about each driver of the museum (examples/broken), and about some that are right
///
/// With `--reports` or `--kernel`: give it what people reported (examples/reports, or a folder of the same form: one
/// folder each, with a `prog.c` and, where a module is needed, a `Kbuild`), and count how often it is right.
#[derive(clap::Args)]
pub struct Arguments {
    /// Which kernel, as for `cargo xtask kernel`; or 6.1 or 6.12, Debian's stable kernels, which this driver does not
    /// support and `mapbuf diagnose` does.
    #[arg(long, value_name = "KERNEL", default_value_t)]
    kernel: Which,
    /// A folder of reports [default: examples/reports, where --kernel is one of those].
    #[arg(long, value_name = "DIR")]
    reports: Option<PathBuf>,
    /// Only reports whose names contain this (several: with commas between them); `exhibits` are those of examples/broken, on a
    /// kernel that is not the driver's.
    #[arg(long, value_name = "NAME", default_value = "")]
    only: String,
    /// Print each diagnosis too.
    #[arg(long)]
    verbose: bool,
    /// Print how often it is right, on the driver's kernel and on each of Debian's stable ones; what this build was not tried
    /// on yet is tried.
    #[arg(long, conflicts_with_all = ["kernel", "reports", "only", "verbose"])]
    score: bool,
}

/// A kernel of the kit's, or one that is for the museum alone.
#[derive(Clone, Debug)]
pub enum Which {
    /// One that the driver is built for.
    Kit(Choice),
    /// One of Debian's stable releases.
    Stable(Series),
}

impl Default for Which {
    fn default() -> Self {
        Self::Kit(Choice::default())
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kit(choice) => choice.fmt(f),
            Self::Stable(series) => series.fmt(f),
        }
    }
}

impl FromStr for Which {
    type Err = <Choice as FromStr>::Err;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        match text.parse() {
            Ok(series) => Ok(Self::Stable(series)),
            Err(_) => text.parse().map(Self::Kit),
        }
    }
}

/// Shows the museum.
pub fn show(arguments: &Arguments) -> Result<ExitCode> {
    let ui = Ui::default();
    let (choice, series) = match &arguments.kernel {
        Which::Kit(choice) => (choice.clone(), None),
        Which::Stable(series) => (Choice::default(), Some(*series)),
    };
    let kit = Kit::open(&ui, &choice)?;
    if arguments.score {
        return crate::museum::scores(&kit);
    }
    if arguments.reports.is_some() || series.is_some() {
        let folder = match &arguments.reports {
            Some(folder) => folder.clone(),
            None => crate::workspace()?.join("examples/reports"),
        };
        let Arguments { only, verbose, .. } = arguments;
        return crate::museum::reports(&kit, &folder, only, series, *verbose);
    }
    let report = boot(&kit, &BOOT, &["--show"], None, &mut vm::to_own_streams)?;
    vm::explain(&ui, &report, false);
    if !report.verdict.is_success() {
        return Ok(vm::exit_code(report.verdict.exit_code()));
    }
    let words = ["--show", STOPPING_WORD];
    let report = boot(&kit, &STOPPING, &words, None, &mut vm::to_own_streams)?;
    let report = without_the_expected(report, 2);
    vm::explain(&ui, &report, false);
    Ok(vm::exit_code(report.verdict.exit_code()))
}

/// Boots a guest that has the museum, and runs `mapbuf-museum` in it with some words.
fn boot(
    kit: &Kit,
    profile: &Profile,
    words: &[&str],
    driver: Option<&Path>,
    take: &mut dyn FnMut(qemu::Stream, &[u8]),
) -> Result<qemu::Report> {
    let program = guest::build(&["mapbuf-guest"], &kit.ui)?.join("mapbuf-museum");
    let modules = kit.driver(driver)?;
    let mut guest = kit.guest(false)?;
    let mut job = Job {
        argv: ["mapbuf-museum"]
            .iter()
            .chain(words)
            .map(|&word| word.into())
            .collect(),
        ..Job::default()
    };
    kit.load(&mut guest, &mut job, &modules, "")?;
    guest.program(&kit.command()?)?;
    guest.program(&program)?;
    furnish(kit, &mut guest, &mut job)?;
    // A device whose memory reads as ones, and keeps nothing.
    let ones = SharedMemory::new(ONES_BYTES as u64)?;
    ones.write(0, &[0xff; ONES_BYTES])?;
    let mut machine = kit.machine();
    machine.memory = profile.memory_mib;
    machine.processors = profile.processors;
    machine.append = profile.append.iter().map(|&word| word.to_owned()).collect();
    machine.qemu_arguments = vec![
        "-object".into(),
        ones.object("ones", true),
        "-device".into(),
        "ivshmem-plain,memdev=ones".into(),
    ];
    machine.limits.quiet = Some(Duration::from_secs(profile.quiet_seconds));
    kit.boot(&machine, guest, &job, take)
}

/// Puts the exhibits and their visitor into a guest.
pub fn furnish(kit: &Kit, guest: &mut Guest, job: &mut Job) -> Result<()> {
    let folder = crate::workspace()?.join("examples/broken");
    for file in kit
        .driver(Some(&folder))?
        .iter()
        .chain([&visitor(&folder)?])
    {
        let name = file.file_name().context("a file without a name")?;
        guest.copy(file, &Path::new(HALL).join(name))?;
    }
    // A disk in memory, for O_DIRECT.
    for file in kit.kernel.module_with_dependencies("brd")? {
        let path = guest.module(&file)?;
        let params = "rd_nr=1".into();
        job.modules.push(LoadModule { path, params });
    }
    Ok(())
}

/// Compiles the program that tries each driver.
pub fn visitor(folder: &Path) -> Result<PathBuf> {
    let out = crate::workspace()?.join("target/museum");
    fs::create_dir_all(&out)?;
    let program = out.join("visit");
    let output = Command::new("cc")
        .args([
            "-std=gnu11",
            "-O2",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-static",
            "-o",
        ])
        .arg(&program)
        .arg(folder.join("visit.c"))
        .output()
        .context("cc could not be started")?;
    if !output.status.success() {
        bail!(
            "visit.c did not compile:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(program)
}
