//! What people reported, and bugs that have nothing to do with mappings: how often `mapbuf diagnose` is right.

use super::plan::{self, Boot};
use super::tail;
use crate::kit::Kit;
use crate::museum;
use anyhow::{bail, Context, Result};
use mapbuf_init::Ending;
use mapbuf_vm::{qemu, splat};
use std::fs;
use std::path::Path;

/// The name for `--profile`.
pub const PROFILE: &str = "reports";

const MEMORY_MIB: u32 = 1024;

/// What every line of `mapbuf-museum` about a report that is not [`RIGHT`] begins with, and about what else is wrong.
const NOT_RIGHT: [&str; 5] = ["Partly ", "Silent ", "Wrong ", "Unknown ", "FAILED "];
const RIGHT: &str = "Right ";

/// What is to be booted, if the filter chooses it. It is one test: a score, which may lack a tenth, but has no finding that
/// is wrong.
pub fn plan<'a>(kit: &'a Kit, filter: &str, logs: &'a Path) -> Option<Boot<'a>> {
    let chosen = plan::chosen([("reports::right_or_silent", ())], filter);
    if chosen.is_empty() {
        return None;
    }
    Some(Boot {
        name: PROFILE.to_owned(),
        purpose: "mistakes that people reported, unrelated bugs, and how often diagnose is right",
        tests: chosen.len() as u64,
        memory: MEMORY_MIB,
        run: Box::new(move |line| {
            Ok(plan::one_by_one(PROFILE, chosen, line, |()| {
                score(kit, logs)
            }))
        }),
    })
}

/// Gives them all to `mapbuf diagnose`, in one guest.
fn score(kit: &Kit, logs: &Path) -> Result<()> {
    let folder = crate::workspace()?.join("examples/reports");
    let mut said = Vec::new();
    let report = museum::boot_reports(kit, &[folder], "", None, false, &mut |_, bytes| {
        said.extend_from_slice(bytes);
    })?;
    let said = String::from_utf8_lossy(&said);
    let log = logs.join(format!("{PROFILE}.log"));
    fs::write(&log, whole(&said, &report))
        .with_context(|| format!("{} cannot be written", log.display()))?;
    if let Some(score) = said.lines().find(|line| line.starts_with("score on ")) {
        println!("{PROFILE}: {score}");
    }
    let wrong = not_right(&said);
    for line in &wrong {
        println!("{PROFILE}: {line}");
    }
    // Some of the reports end in an oops, so the kernel's log is no measure: the program has added up.
    match report.program {
        Some(Ending::Exited(0)) if said.contains(RIGHT) => Ok(()),
        Some(Ending::Exited(_)) => bail!(
            "a finding is wrong, or less than nine of ten reports are diagnosed; all of it: {}",
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
