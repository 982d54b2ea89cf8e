//! `cargo xtask test`: the host rung and the stock rung of the ladder, with the witness that looks from outside; or,
//! asked for by name, the same tests in a kernel that finds mistakes.

mod browser;
mod canary;
pub mod demo;
pub mod drivers;
mod fuzz;
mod guide;
mod host;
mod importers;
pub mod museum;
mod patience;
mod plan;
mod programs;
mod progress;
mod reports;
mod slots;
mod stock;
mod witness;

use crate::kit::Kit;
use anyhow::{bail, Result};
use drivers::Scope;
use mapbuf_abi::series::SERIES;
use mapbuf_vm::{Choice, Ui, Variant};
use plan::Times;
use progress::Progress;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Run the tests: on the host, then in the guest, booted in several ways.
///
/// With `--debug` the guest's tests are run in the debug kernel (KASAN, lockdep, kmemleak, DMA and page table checks),
/// and those of fault injection with them; whatever that kernel complains of, or finds leaked, is a failure.
///
/// The last line is `N passed, N failed`; the exit status is 0 when at least one test ran and none failed.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only tests whose names contain this (several: with commas between them); leaves out the host's checks.
    filter: Option<String>,
    /// Only the host rung.
    #[arg(long, conflicts_with_all = ["stock", "debug"])]
    host: bool,
    /// Only the stock rung.
    #[arg(long, conflicts_with = "debug")]
    stock: bool,
    /// The debug rung: the guest's tests, in the debug kernel. The same as `--kernel debug`.
    #[arg(long, conflicts_with = "kernel")]
    debug: bool,
    /// In another kernel: an older series (`7.2`), `kcsan`, which finds data races, `debug@7.2`, and so on.
    #[arg(long, value_name = "KERNEL", default_value_t)]
    kernel: Choice,
    /// Everything with the newest kernel, in the debug kernel too; with each older series that is supported the driver's
    /// clippy, the profiles `stock` and `witness`, the example drivers and the demo; and the example drivers in C with
    /// 6.1 and 6.12. One sum at the end.
    #[arg(long, conflicts_with_all = ["filter", "host", "stock", "debug", "kernel", "profile"])]
    all_kernels: bool,
    /// Only these ways to boot; `witness` is the one that is looked at from outside.
    #[arg(long, value_name = "NAME")]
    profile: Vec<String>,
    /// Take the module from this folder instead of the driver's.
    #[arg(long, value_name = "DIR")]
    driver: Option<PathBuf>,
    /// How many guests may run at once.
    #[arg(long, value_name = "N", default_value_t = 2)]
    jobs: usize,
    /// Rounds of each pair in the profile `races` [default: few].
    #[arg(skip)]
    rounds: Option<u64>,
}

impl Arguments {
    /// Those of a long run of the races.
    pub fn races(filter: String, rounds: u64, driver: Option<PathBuf>, kernel: Choice) -> Self {
        Self {
            filter: Some(filter),
            host: false,
            stock: kernel.variant == Variant::Stock,
            debug: false,
            kernel,
            all_kernels: false,
            profile: vec!["races".to_owned()],
            driver,
            jobs: 1,
            rounds: Some(rounds),
        }
    }
}

/// Whether there is such a way to boot.
pub fn is_profile(name: &str) -> bool {
    [
        witness::PROFILE,
        museum::PROFILE,
        fuzz::PROFILE,
        guide::PROFILE,
        patience::PROFILE,
        programs::PROFILE,
        reports::PROFILE,
    ]
    .contains(&name)
        || Scope::ALL.iter().any(|scope| scope.profile() == name)
        || mapbuf_guest::profile::find(name).is_some()
}

/// What has been counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tests that passed.
    pub passed: u64,
    /// Tests that failed, those that did not come to run included.
    pub failed: u64,
    /// Tests that could not be run here.
    pub skipped: u64,
}

impl Tally {
    /// One test.
    pub fn one(passed: bool) -> Self {
        Self {
            passed: u64::from(passed),
            failed: u64::from(!passed),
            skipped: 0,
        }
    }

    /// Adds another's numbers.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// Runs the command.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    let ui = Ui::default();
    let mut choice = arguments.kernel.clone();
    if arguments.debug {
        choice.variant = Variant::Debug;
    }
    // A kit that cannot be had is seen before minutes are spent.
    let kit = Kit::open(&ui, &choice)?;
    let mut tally = Tally::default();
    if arguments.all_kernels {
        for (choice, depth) in ladder(&kit) {
            ui.note(format!("{}:", depth.describe(&choice)));
            let outcome = Kit::open(&ui, &choice)
                .and_then(|kit| stage(&kit, arguments, depth, Some(&choice.to_string())));
            tally.add(outcome.unwrap_or_else(|error| {
                println!("{choice}: FAILED: {error:#}");
                Tally::one(false)
            }));
        }
    } else {
        tally = stage(&kit, arguments, Depth::Whole, None)?;
    }
    if tally.passed + tally.failed == 0 {
        println!("No test has such a name.");
    }
    if tally.skipped > 0 {
        println!("{} tests could not be run here.", tally.skipped);
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    let well = tally.failed == 0 && tally.passed > 0;
    Ok(if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// How much is run with a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    /// Everything.
    Whole,
    /// Whether the driver is the same there: its build without a warning, the profile `stock`, the witness, the demo. And
    /// what matters most of the example drivers.
    Short,
}

impl Depth {
    fn describe(self, choice: &Choice) -> String {
        match self {
            Self::Whole => format!("All tests with the kernel {choice}"),
            Self::Short => {
                format!("The driver's clippy, stock, witness, example drivers and demo with the kernel {choice}")
            }
        }
    }
}

/// The kernels of `--all-kernels`, the newest of which this kit has.
fn ladder(newest: &Kit) -> Vec<(Choice, Depth)> {
    let debug = Choice {
        variant: Variant::Debug,
        ..Choice::default()
    };
    let older = SERIES
        .iter()
        .skip_while(|series| **series != newest.kernel.identity.series())
        .skip(1)
        .filter_map(|series| series.parse().ok());
    [(Choice::default(), Depth::Whole), (debug, Depth::Whole)]
        .into_iter()
        .chain(older.map(|choice| (choice, Depth::Short)))
        .collect()
}

/// Runs what is run with an older series: whether the driver is the same in the kit's kernel.
pub fn trial(kit: &Kit) -> Result<Tally> {
    let arguments = Arguments {
        filter: None,
        stock: false,
        profile: Vec::new(),
        jobs: 2,
        rounds: None,
        ..Arguments::races(String::new(), 0, None, Choice::default())
    };
    stage(kit, &arguments, Depth::Short, Some("try"))
}

/// Runs the tests with one kernel. One of several has its logs in a folder of its own.
fn stage(kit: &Kit, arguments: &Arguments, depth: Depth, name: Option<&str>) -> Result<Tally> {
    let logs = &crate::workspace()?
        .join("target/logs")
        .join(name.unwrap_or_default());
    fs::create_dir_all(logs)?;
    let variant = kit.kernel.identity.variant;
    let stock = variant == Variant::Stock;
    let filter = arguments.filter.as_deref();
    let driver = arguments.driver.as_deref();
    let mut profiles = arguments.profile.clone();
    let mut demonstrated = false;
    if depth == Depth::Short {
        profiles = ["stock", witness::PROFILE].map(String::from).to_vec();
        profiles.push(Scope::Short.profile());
        demonstrated = true;
    }
    let all = profiles.is_empty();
    let on_host = match depth {
        Depth::Short => host::Part::Kernel,
        Depth::Whole if !stock || arguments.stock || !all => host::Part::Nothing,
        Depth::Whole if filter.is_some() => host::Part::Tests,
        Depth::Whole => host::Part::All,
    };
    let mut asked_for = |name: &str| {
        let before = profiles.len();
        profiles.retain(|other| other != name);
        profiles.len() < before
    };
    let witnessed = asked_for(witness::PROFILE);
    let toured = asked_for(museum::PROFILE);
    let imported = asked_for(importers::PROFILE);
    let mut exemplary = Scope::ALL.to_vec();
    exemplary.retain(|scope| {
        asked_for(&scope.profile())
            || all
                && match scope {
                    Scope::Whole => stock,
                    // There all of them take longer than all else.
                    Scope::Short => variant == Variant::Debug,
                    Scope::Older(_) => stock && arguments.all_kernels,
                }
    });
    let fuzzed = asked_for(fuzz::PROFILE);
    let guided = asked_for(guide::PROFILE);
    let watched = asked_for(patience::PROFILE);
    let reported = asked_for(reports::PROFILE);
    let programmed = asked_for(programs::PROFILE);
    let canary = asked_for(canary::PROFILE);
    if !stock && (witnessed || toured || watched || guided || reported || programmed) {
        bail!("the witness, the museum, the reports, the programs, the guide and the kit's own guests know Debian's kernels only");
    }
    let importers = variant.has_importers();
    if imported && !importers {
        bail!("the {variant} kernel has no drivers that take dma-bufs");
    }
    if stock && canary {
        bail!("the stock kernel does not notice the canary's mistakes");
    }
    let names = filter.unwrap_or_default();
    let choice = &stock::Choice {
        filter: names,
        profiles: &profiles,
        driver,
        rounds: arguments.rounds,
    };
    let mut boots = Vec::new();
    if !arguments.host {
        if canary || (!stock && all && filter.is_none()) {
            boots.push(canary::plan(kit, logs));
        }
        // It takes longest.
        if stock && (toured || all) {
            boots.extend(museum::plan(kit, names, driver, logs)?);
        }
        if all || !profiles.is_empty() {
            boots.extend(stock::plan(kit, choice, logs)?);
        }
        for scope in exemplary {
            boots.extend(drivers::plan(kit, scope, names, logs)?);
        }
        if fuzzed || all {
            boots.extend(fuzz::plan(kit, names, driver, logs)?);
        }
        if stock && (witnessed || all) {
            boots.extend(witness::plan(kit, names, driver, logs)?);
        }
        if importers && (imported || all) {
            boots.extend(importers::plan(kit, choice, logs)?);
        }
        if stock && (guided || all) {
            boots.extend(guide::plan(kit, names, driver));
        }
        if stock && (reported || all) {
            let kernels = if reported {
                reports::Kernels::All
            } else if arguments.all_kernels {
                reports::Kernels::Maintained
            } else {
                reports::Kernels::Few
            };
            boots.extend(reports::plan(kit, names, logs, kernels));
        }
        if stock && (programmed || all) {
            boots.extend(programs::plan(kit, names, driver, logs)?);
        }
        if stock && (watched || all) {
            boots.extend(patience::plan(kit, names));
        }
        if demonstrated {
            boots.push(demo::plan(kit, driver)?);
        }
    }
    let jobs = arguments.jobs.max(1);
    let mut times = Times::of(&kit.kernel.identity.release, logs);
    plan::longest_first(&mut boots, &times);
    kit.ui.note(plan::describe(
        &kit.kernel.identity.release,
        on_host.checks(),
        &boots,
        &times,
        jobs,
    ));
    let mut tally = host::run(kit, on_host, filter, driver, logs)?;
    let progress = Progress::new(&kit.ui, &boots, &times, jobs);
    tally.add(slots::run(boots, jobs, &progress));
    // What a part takes says nothing of the whole.
    if filter.is_none() && arguments.rounds.is_none() && tally.failed == 0 {
        for (name, took) in progress.took() {
            times.set(&name, took);
        }
        times.save()?;
    }
    Ok(tally)
}

/// Says that something failed, and where the whole of it is.
fn report_failure(title: &str, tail: &str, log: &Path) {
    println!("FAILED {title}");
    for line in tail.lines() {
        println!("    {line}");
    }
    println!("    (all of it: {})", log.display());
}

/// The last lines of a text.
fn tail(text: &str, lines: usize) -> String {
    let all: Vec<_> = text.lines().collect();
    let from = all.len().saturating_sub(lines);
    all.get(from..).unwrap_or_default().join("\n")
}
