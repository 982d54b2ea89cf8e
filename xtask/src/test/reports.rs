//! What people reported, and bugs that have nothing to do with mappings: how often `mapbuf diagnose` is right.

use super::plan::{self, Boot};
use super::tail;
use crate::kit::Kit;
use crate::{museum, overhead};
use anyhow::{bail, Context, Result};
use mapbuf_init::Ending;
use mapbuf_vm::museum_kernel::Series;
use mapbuf_vm::{qemu, splat};
use std::fs;
use std::path::Path;

/// The name for `--profile`.
pub const PROFILE: &str = "reports";

const MEMORY_MIB: u32 = 1024;

/// What every line of `mapbuf-museum` about a report that is not [`RIGHT`] begins with, and about what else is wrong.
const NOT_RIGHT: [&str; 5] = ["Partly ", "Silent ", "Wrong ", "Unknown ", "FAILED "];
const RIGHT: &str = "Right ";

/// The kernels that distributions ship, beside the driver's own: the one that is always tried, those of `--all-kernels`, and
/// what is tried by the profile's name alone, as the archives may stop to carry it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kernels {
    /// The driver's, and the oldest that Debian still maintains.
    Few,
    /// Those that Debian maintains.
    Maintained,
    /// Every one.
    All,
}

/// The kernels, each with the name of its test and of the way to boot it.
const KERNELS: [(Option<Series>, &str, &str); 4] = [
    (None, "reports::right_or_silent", PROFILE),
    (
        Some(Series::V6_1),
        "reports::right_or_silent_on_6.1",
        "reports-6.1",
    ),
    (
        Some(Series::V6_12),
        "reports::right_or_silent_on_6.12",
        "reports-6.12",
    ),
    (
        Some(Series::V5_10),
        "reports::right_or_silent_on_5.10",
        "reports-5.10",
    ),
];

/// What is to be booted, if the filter chooses it: one test for each kernel. It is a score, which may lack a tenth, but has no
/// finding that is wrong.
pub fn plan<'a>(kit: &'a Kit, filter: &str, logs: &'a Path, kernels: Kernels) -> Vec<Boot<'a>> {
    let tried = match kernels {
        Kernels::Few => KERNELS.get(..2),
        Kernels::Maintained => KERNELS.get(..3),
        Kernels::All => KERNELS.get(..),
    };
    let scores = tried
        .unwrap_or_default()
        .iter()
        .filter_map(|(series, test, name)| {
            let chosen = plan::chosen([(*test, ())], filter);
            if chosen.is_empty() {
                return None;
            }
            Some(Boot {
                name: (*name).to_owned(),
                purpose: "mistakes that people reported, unrelated bugs, and how often diagnose is right",
                tests: chosen.len() as u64,
                memory: MEMORY_MIB,
                run: Box::new(move |line| {
                    Ok(plan::one_by_one(name, chosen, line, |()| {
                        score(kit, logs, *series, name)
                    }))
                }),
            })
        });
    scores.chain(cost(kit, filter)).collect()
}

/// The name of the test of what it costs.
const COST: &str = "reports::diagnose_costs_little";
/// Its mappings of an ordinary file; `cargo xtask overhead` makes more.
const MAPPINGS: u64 = 5000;

/// What it costs a program that maps ordinary files.
fn cost<'a>(kit: &'a Kit, filter: &str) -> Option<Boot<'a>> {
    const NAME: &str = "overhead";
    let chosen = plan::chosen([(COST, ())], filter);
    (!chosen.is_empty()).then(|| Boot {
        name: NAME.to_owned(),
        purpose: "the instructions that diagnose costs a program that maps ordinary files",
        tests: 1,
        memory: MEMORY_MIB,
        run: Box::new(move |line| {
            Ok(plan::one_by_one(NAME, chosen, line, |()| {
                overhead::measure(kit, MAPPINGS)?.is_within()
            }))
        }),
    })
}

/// Gives them all to `mapbuf diagnose`, in one guest.
fn score(kit: &Kit, logs: &Path, series: Option<Series>, name: &str) -> Result<()> {
    let folder = crate::workspace()?.join("examples/reports");
    let mut said = Vec::new();
    let report = museum::boot_reports(kit, &[folder], "", series, false, &mut |_, bytes| {
        said.extend_from_slice(bytes);
    })?;
    let said = String::from_utf8_lossy(&said);
    let log = logs.join(format!("{name}.log"));
    fs::write(&log, whole(&said, &report))
        .with_context(|| format!("{} cannot be written", log.display()))?;
    if let Some(score) = said.lines().find(|line| line.starts_with("score on ")) {
        println!("{name}: {score}");
    }
    let wrong = not_right(&said);
    for line in &wrong {
        println!("{name}: {line}");
    }
    // Some of the reports end in an oops, so the kernel's log is no measure: the program has added up.
    match report.program {
        Some(Ending::Exited(0)) if said.contains(RIGHT) => Ok(()),
        Some(Ending::Exited(_)) => bail!(
            "a finding is wrong, or fewer than nine of ten reports are diagnosed; full output: {}",
            log.display()
        ),
        _ => bail!(
            "{}; the last lines:\n{}\n{}",
            report.verdict,
            tail(&said, 5),
            splat::excerpts(&report.log).join("\n")
        ),
    }
}

/// The lines about what is not right.
fn not_right(said: &str) -> Vec<&str> {
    said.lines()
        .filter(|line| NOT_RIGHT.iter().any(|word| line.starts_with(word)))
        .collect()
}

fn whole(said: &str, report: &qemu::Report) -> String {
    format!(
        "# What mapbuf-museum said\n{said}\n# The kernel's log\n{}\n# QEMU\n{}\n",
        report.log.join("\n"),
        report.qemu
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_right_is_shown() {
        let said = "Right plain (1 s): \nSilent too-long (1 s): \nFAILED doctor: why\nscore on 7.3: right 1\n";
        assert_eq!(
            not_right(said),
            ["Silent too-long (1 s): ", "FAILED doctor: why"]
        );
    }
}
