//! `cargo xtask test`: the host rung and the stock rung of the ladder, with the witness that looks from outside; or,
//! asked for by name, the same tests in a kernel that finds mistakes.

mod canary;
mod fuzz;
mod host;
mod importers;
pub mod museum;
mod slots;
mod stock;
mod witness;

use crate::kit::Kit;
use anyhow::{bail, Result};
use mapbuf_vm::{Choice, Ui, Variant};
use slots::{at_once, Guests, Slots};
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
            profile: vec!["races".to_owned()],
            driver,
            jobs: 1,
            rounds: Some(rounds),
        }
    }
}

impl Arguments {
    /// Those that tell whether the driver is the same in another kernel.
    pub fn trial(kernel: Choice) -> Self {
        Self {
            profile: vec!["stock".to_owned(), witness::PROFILE.to_owned()],
            jobs: 2,
            rounds: None,
            ..Self::races(String::new(), 0, None, kernel)
        }
    }
}

/// Whether there is such a way to boot.
pub fn is_profile(name: &str) -> bool {
    [witness::PROFILE, museum::PROFILE, fuzz::PROFILE].contains(&name)
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
    let logs = crate::workspace()?.join("target/logs");
    fs::create_dir_all(&logs)?;
    let mut tally = Tally::default();
    let mut choice = arguments.kernel.clone();
    if arguments.debug {
        choice.variant = Variant::Debug;
    }
    let variant = choice.variant;
    // The kit is the same for both rungs: one that cannot be had is seen before minutes are spent.
    let kit = Kit::open(&ui, &choice)?;
    let stock = variant == Variant::Stock;
    let filter = arguments.filter.as_deref();
    if stock && !arguments.stock && arguments.profile.is_empty() {
        if filter.is_none() {
            mapbuf_vm::host::ensure_lints(&ui)?;
        }
        tally.add(host::run(&kit, filter, arguments.driver.as_deref(), &logs)?);
    }
    let mut profiles = arguments.profile.clone();
    let mut asked_for = |name: &str| {
        let before = profiles.len();
        profiles.retain(|other| other != name);
        profiles.len() < before
    };
    let witnessed = asked_for(witness::PROFILE);
    let toured = asked_for(museum::PROFILE);
    let imported = asked_for(importers::PROFILE);
    let fuzzed = asked_for(fuzz::PROFILE);
    let all = arguments.profile.is_empty();
    let canary = asked_for(canary::PROFILE);
    if !stock && (witnessed || toured) {
        bail!("the witness and the museum know Debian's kernels only");
    }
    let importers = variant.has_importers();
    if imported && !importers {
        bail!("the {variant} kernel has no drivers that take dma-bufs");
    }
    if stock && canary {
        bail!("the stock kernel does not notice the canary's mistakes");
    }
    if canary || (!stock && all && filter.is_none()) {
        tally.add(canary::run(&kit, &logs)?);
    }
    let (driver, filter) = (arguments.driver.as_deref(), filter.unwrap_or_default());
    let (kit, logs) = (&kit, &logs);
    let slots = &Slots::new(arguments.jobs.max(1));
    let choice = &stock::Choice {
        filter,
        profiles: &profiles,
        driver,
        rounds: arguments.rounds,
    };
    let mut guests: Vec<Guests<'_>> = Vec::new();
    if !arguments.host {
        // It takes longest.
        if stock && (toured || all) {
            guests.push(Box::new(move || {
                museum::run(kit, filter, driver, slots, logs)
            }));
        }
        if all || !profiles.is_empty() {
            guests.push(Box::new(move || stock::run(kit, choice, slots, logs)));
        }
        if stock && (witnessed || all) {
            guests.push(Box::new(move || {
                witness::run(kit, filter, driver, slots, logs)
            }));
        }
        if importers && (imported || all) {
            guests.push(Box::new(move || importers::run(kit, choice, slots, logs)));
        }
        if fuzzed || all {
            guests.push(Box::new(move || {
                fuzz::run(kit, filter, driver, slots, logs)
            }));
        }
    }
    tally.add(at_once(guests)?);
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
