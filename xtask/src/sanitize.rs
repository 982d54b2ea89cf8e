//! `cargo xtask sanitize`

use crate::workspace;
use anyhow::{bail, Context, Result};
use std::process::{Command, ExitCode, Stdio};

/// Run the tests of what has no system calls where undefined behaviour is seen: in Miri, or with AddressSanitizer.
///
/// Miri is a part of nightly toolchains (`rustup +nightly component add miri`); where there is none, the same tests run
/// with AddressSanitizer, which comes with every toolchain, and with overflow checks. Miri sees more: references that
/// must not be, values that are none, memory that was never written.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only in Miri: fail where there is none.
    #[arg(long)]
    miri: bool,
}

/// What is plain Rust: the interface, the rules, and the library without its devices.
const PLAIN: [&str; 6] = ["-p", "mapbuf-abi", "-p", "mapbuf-policy", "-p", "mapbuf"];

/// AddressSanitizer has to be told for which target, or build scripts are built with it too.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Runs the command.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    let miri = ["cargo +nightly miri", "cargo miri"]
        .into_iter()
        .find(|command| {
            let version = to_run(command)
                .arg("--version")
                .stderr(Stdio::null())
                .output();
            version.is_ok_and(|output| output.status.success())
        });
    let mut command = match miri {
        Some(miri) => {
            eprintln!("with {miri}");
            let mut command = to_run(miri);
            command.arg("test");
            // proptest looks for a file of earlier failures, and a few cases take long enough here.
            command.env("MIRIFLAGS", "-Zmiri-disable-isolation");
            command.env("PROPTEST_CASES", "8");
            command
        }
        None if arguments.miri => {
            bail!("no toolchain here has Miri: rustup +nightly component add miri")
        }
        None => {
            eprintln!("no toolchain here has Miri: using AddressSanitizer");
            let mut command = to_run("cargo");
            // An option of nightly compilers that stable ones have as well, for those who say that they know.
            command.env("RUSTC_BOOTSTRAP", "1");
            command.env("RUSTFLAGS", "-Zsanitizer=address -Coverflow-checks=on");
            command.args([
                "test",
                "--target",
                TARGET,
                "--target-dir",
                "target/sanitize",
            ]);
            command
        }
    };
    // Of the library only what lies in it: the tests beside it open files and start programs.
    command.args(PLAIN).arg("--lib");
    let mut status = run(&mut command)?;
    if status {
        // The edges of all numbers are a test beside the rules.
        let mut edges = Command::new(command.get_program());
        let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        edges.args(
            arguments
                .iter()
                .take_while(|argument| *argument != PLAIN[0]),
        );
        for (key, value) in command.get_envs() {
            edges.env(key, value.unwrap_or_default());
        }
        edges.args(["-p", "mapbuf-policy", "--test", "edges"]);
        status = run(&mut edges)?;
    }
    Ok(if status {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn to_run(words: &str) -> Command {
    let mut words = words.split(' ');
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    command
}

fn run(command: &mut Command) -> Result<bool> {
    let status = command
        .current_dir(workspace()?)
        .status()
        .context("cargo could not be started")?;
    Ok(status.success())
}
