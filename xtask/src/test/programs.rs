//! Programs that know nothing of the driver, in an ordinary Debian: fio, gdb, QEMU, NumPy and the like, each run by a script in
//! `tests/programs/`; and the Python package.

use super::plan::Boot;
use super::progress::Line;
use super::{tail, Tally};
use crate::kit::Kit;
use anyhow::{ensure, Context, Result};
use mapbuf_init::Job;
use mapbuf_vm::{device, drivers, splat, Verdict};
use std::fs;
use std::path::Path;
use std::time::Instant;

/// The name for `--profile`.
pub const PROFILE: &str = "programs";

const MEMORY_MIB: u32 = 2048;

/// Debian packages that the scripts need.
const PACKAGES: &[&str] = &[
    "fio",
    "gcc",
    "gdb",
    "ibverbs-providers",
    "iproute2",
    "libc6-dev",
    "libdpdk-dev",
    "nodejs",
    "perftest",
    "pkgconf",
    "python3-numpy",
    "python3-pip",
    "python3-pyverbs",
    "python3-setuptools",
    "python3-wheel",
    "qemu-system-x86",
    "valgrind",
];

/// Modules besides those of the disk: a network card that goes nowhere, and RDMA over it for programs.
const NETWORK: [&str; 4] = ["dummy", "ib_uverbs", "rdma_ucm", "rdma_rxe"];

/// Where the scripts are in the guest.
const FOLDER: &str = "/root/programs";
/// Runs the others.
const RUNNER: &str = "run";
/// What they have in common.
const LIBRARY: &str = "lib";

/// What is to be booted, if the filter chooses any: one guest for all scripts.
pub fn plan<'a>(
    kit: &'a Kit,
    filter: &'a str,
    driver: Option<&'a Path>,
    logs: &'a Path,
) -> Result<Option<Boot<'a>>> {
    let mut chosen = Vec::new();
    for entry in fs::read_dir(crate::workspace()?.join("tests/programs"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let test = format!("{PROFILE}::{name}");
        let own = [RUNNER, LIBRARY].contains(&name.as_str());
        if !own && filter.split(',').any(|part| test.contains(part)) {
            chosen.push(name);
        }
    }
    if chosen.is_empty() {
        return Ok(None);
    }
    chosen.sort();
    let mut kit = kit.clone();
    kit.add_drivers(&drivers::RDMA)?;
    Ok(Some(Boot {
        name: PROFILE.to_owned(),
        purpose:
            "fio, gdb, valgrind, QEMU, dd, RDMA, DPDK, NumPy and the Python package, in an ordinary Debian with an IOMMU",
        tests: chosen.len() as u64,
        memory: MEMORY_MIB,
        run: Box::new(move |line| run(&kit, &chosen, driver, logs, line)),
    }))
}

fn run(
    kit: &Kit,
    chosen: &[String],
    driver: Option<&Path>,
    logs: &Path,
    line: &Line<'_>,
) -> Result<Tally> {
    let begun = Instant::now();
    let packages: Vec<_> = PACKAGES.iter().copied().map(String::from).collect();
    let mut machine = kit.machine();
    machine.memory = MEMORY_MIB;
    machine.devices = device::parse(&["edu"])?;
    machine.iommu = true;
    // A program may be busy for long without a word.
    machine.limits.quiet = None;
    let mut guest = kit.guest(true)?;
    let mut job = Job {
        argv: vec![format!("{FOLDER}/{RUNNER}")],
        ..Job::default()
    };
    job.argv.extend_from_slice(chosen);
    kit.root_on_disk(&kit.ui, &mut machine, &mut guest, &mut job, &packages)?;
    for module in NETWORK {
        kit.load_own(&mut guest, &mut job, module, "")?;
    }
    let modules = kit.driver(driver)?;
    kit.load(&mut guest, &mut job, &modules, "")?;
    guest.program(&kit.command()?)?;
    let workspace = crate::workspace()?;
    guest.copy(&workspace.join("tests/programs"), Path::new(FOLDER))?;
    guest.copy(&workspace.join("python"), Path::new("/root/python"))?;

    let mut said = String::new();
    let mut count = 0;
    let report = kit.boot(&machine, guest, &job, &mut |_, bytes| {
        said.push_str(&String::from_utf8_lossy(bytes));
        let done = said.lines().filter_map(outcome).count() as u64;
        if done > count {
            count = done;
            let (name, _) = said
                .lines()
                .filter_map(outcome)
                .next_back()
                .unwrap_or_default();
            line.at(done, name);
        }
    })?;
    let log = logs.join(format!("{PROFILE}.log"));
    fs::write(
        &log,
        format!("{said}\n# The kernel's log\n{}\n", report.log.join("\n")),
    )
    .with_context(|| format!("{} cannot be written", log.display()))?;
    ensure!(
        report.verdict == Verdict::Exited(0),
        "{}; the last lines:\n{}\n{}",
        report.verdict,
        tail(&said, 15),
        splat::excerpts(&report.log).join("\n")
    );
    let passed = said
        .lines()
        .filter_map(outcome)
        .filter(|(_, passed)| *passed)
        .count() as u64;
    let tally = Tally {
        passed,
        failed: (chosen.len() as u64).saturating_sub(passed),
        skipped: 0,
    };
    if tally.failed > 0 {
        println!(
            "{PROFILE}: {} of the programs failed; their output:\n{said}",
            tally.failed
        );
    }
    println!(
        "stock {PROFILE}: {} ok, {} not, in {:.0} s",
        tally.passed,
        tally.failed,
        begun.elapsed().as_secs_f32()
    );
    Ok(tally)
}

/// The program that a line of the runner's is about, and whether it passed.
fn outcome(line: &str) -> Option<(&str, bool)> {
    if let Some(name) = line.strip_prefix("ok ") {
        return Some((name, true));
    }
    let (name, _) = line.strip_prefix("FAILED ")?.split_once(':')?;
    Some((name, false))
}
