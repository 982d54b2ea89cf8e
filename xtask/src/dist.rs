//! `cargo xtask dist`: the command as one static binary, to be copied to the machine that has the problem.

use crate::guest;
use anyhow::{bail, Context, Result};
use mapbuf_vm::Ui;
use std::fs;
use std::process::{Command, ExitCode};

/// Make the `mapbuf` command as one static binary, with its checksum
///
/// It needs no library and no driver: `mapbuf diagnose`, `explain` and `doctor` work on any x86-64 Linux with it.
#[derive(clap::Args)]
pub struct Arguments {}

/// Runs the command.
pub fn main(_: &Arguments) -> Result<ExitCode> {
    let ui = Ui::default();
    let built = guest::build(&["mapbuf-cli"], &ui)?.join("mapbuf");
    let out = crate::workspace()?.join("target/dist");
    fs::create_dir_all(&out)?;
    let name = format!("mapbuf-{}-x86_64-linux", env!("CARGO_PKG_VERSION"));
    fs::copy(&built, out.join(&name))
        .with_context(|| format!("{} cannot be copied", built.display()))?;
    let summed = Command::new("sha256sum")
        .arg(&name)
        .current_dir(&out)
        .output()
        .context("sha256sum could not be started")?;
    if !summed.status.success() {
        bail!(
            "sha256sum failed: {}",
            String::from_utf8_lossy(&summed.stderr).trim()
        );
    }
    fs::write(out.join(format!("{name}.sha256")), &summed.stdout)?;
    print!("{}", String::from_utf8_lossy(&summed.stdout));
    println!("{}", out.join(name).display());
    Ok(ExitCode::SUCCESS)
}
