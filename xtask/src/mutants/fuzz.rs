//! Breaks of the driver, shown to the fuzzer instead of the tests.

use super::{break_copy, End, Mutant};
use anyhow::{bail, Result};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// The programs that every break is shown.
const SEED: &str = "1";

/// Runs the fuzzer on a broken driver.
pub fn try_one(workspace: &Path, mutant: &Mutant, seconds: u64) -> Result<End> {
    let copy = break_copy(workspace, mutant)?;
    let output = Command::new(std::env::current_exe()?)
        .args(["fuzz", "--seed", SEED, "--seconds", &seconds.to_string()])
        .arg("--driver")
        .arg(copy.join("driver"))
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    fs::write(copy.join("log-fuzz"), format!("{said}{complained}"))?;
    if output.status.success() {
        return Ok(End::Survived);
    }
    let line = |start: &str| said.lines().find_map(|line| line.strip_prefix(start));
    match (line("after "), line("--- "), line("DIFFERENCE")) {
        (Some(after), Some(short), _) => {
            let short = short.trim_end_matches(" show it:");
            Ok(End::Caught(format!("the fuzzer after {after}, {short}")))
        }
        (Some(after), None, _) => Ok(End::Caught(format!("the fuzzer after {after}"))),
        _ => bail!("the fuzzer did not run:\n{complained}"),
    }
}
