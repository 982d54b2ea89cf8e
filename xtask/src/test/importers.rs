//! The importers: drivers that others wrote, which take mapbuf's buffers as dma-bufs; in Debian's full kernel, or in the
//! debug kernel, which has them too.

use super::slots::Slots;
use super::stock::Results;
use super::Tally;
use crate::guest;
use crate::kit::Kit;
use anyhow::{Context, Result};
use mapbuf_guest::profile::IMPORTERS;
use mapbuf_init::Job;
use mapbuf_vm::{qemu, Flavour, Variant};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// The name for `--profile`.
pub const PROFILE: &str = IMPORTERS.name;

/// Boots the guest and runs the tests of the profile.
pub fn run(
    kit: &Kit,
    filter: &str,
    driver: Option<&Path>,
    slots: &Slots,
    logs: &Path,
) -> Result<Tally> {
    let program = guest::build(&["mapbuf-guest"], &kit.ui)?.join("mapbuf-test");
    let mut argv = vec!["mapbuf-test", "--profile", PROFILE];
    if !filter.is_empty() {
        argv.push(filter);
    }
    let listed = Command::new(&program)
        .args(&argv[1..])
        .arg("--list")
        .output();
    if listed
        .context("mapbuf-test could not be started")?
        .stdout
        .is_empty()
    {
        return Ok(Tally::default());
    }
    let variant = kit.kernel.identity.variant;
    let _slot = slots.take(IMPORTERS.memory_mib + kit.overhead());
    let full;
    let kit = if variant == Variant::Stock {
        // The kernel is fetched when there is something to run in it.
        full = kit.with_flavour(Flavour::Full)?;
        &full
    } else {
        kit
    };
    let modules = kit.driver(driver)?;
    let mut guest = kit.guest(false)?;
    let mut job = Job {
        argv: argv.into_iter().map(str::to_owned).collect(),
        ..Job::default()
    };
    for (name, parameters) in IMPORTERS.modules {
        kit.load_own(&mut guest, &mut job, name, parameters)?;
    }
    kit.load(&mut guest, &mut job, &modules, IMPORTERS.module_parameters)?;
    guest.program(&program)?;
    for example in kit.examples()? {
        guest.example(&example)?;
    }
    job.env
        .insert("MAPBUF_EXAMPLES".into(), guest::EXAMPLES.to_owned());
    kit.suit(&mut job);
    let mut machine = kit.machine();
    machine.memory = IMPORTERS.memory_mib + kit.overhead();
    machine.processors = IMPORTERS.processors;
    machine.append = IMPORTERS
        .append
        .iter()
        .map(|&word| word.to_owned())
        .collect();
    machine.timeout = Some(Duration::from_secs(IMPORTERS.timeout_seconds) * kit.patience());
    let mut results = Results::default();
    kit.ui.note("importers: booting the guest");
    let begun = Instant::now();
    let report = qemu::run(
        &machine,
        &kit.kernel,
        guest.archive,
        &job,
        None,
        &mut |stream, bytes| results.take(stream, bytes),
    )?;
    results.conclude(
        variant.name(),
        &IMPORTERS,
        &report,
        begun.elapsed(),
        &logs.join(format!("{variant}-{PROFILE}.log")),
    )
}
