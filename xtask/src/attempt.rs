//! `cargo xtask kernel try`: a kernel that the driver was not written for, or any other.

use crate::kit::Kit;
use crate::module;
use crate::test;
use anyhow::{bail, Result};
use mapbuf_abi::series::SERIES;
use mapbuf_vm::module::Module;
use mapbuf_vm::{Choice, Ui};
use std::fs;
use std::path::Path;
use std::process::ExitCode;

/// Get a kernel, supported or not, build the driver for it, and run in it what is run in older series: the demo and the
/// tests `stock` and `witness`
///
/// Says which of these went well. When all did, the kernel's series can be put into SERIES of abi/src/series.rs.
#[derive(clap::Args)]
pub struct Arguments {
    /// A series (`7.4`) or another kernel, as for `--kernel`.
    kernel: Choice,
    /// Only build the driver, with clippy as well.
    #[arg(long)]
    build: bool,
}

/// Runs the command.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    let ui = Ui::default();
    let logs = crate::workspace()?.join("target/logs");
    fs::create_dir_all(&logs)?;
    let kit = Kit::open(&ui, &arguments.kernel)?;
    let kernel = &kit.kernel;
    let source = module::default_dir()?;
    let clippy = Module {
        out: module::out_for(&source, &kernel.identity.release, true, false)?,
        source,
        clippy: true,
        seams: false,
    };
    let mut attempt = Attempt {
        logs: &logs,
        rows: Vec::new(),
    };
    let modules = attempt.step("build", || kit.driver(None));
    attempt.step("clippy", || clippy.build(kernel, &ui));
    if modules.is_some() && !arguments.build {
        attempt.step("tests", || tests(&kit));
    }
    println!(
        "{} of Debian {}, {}:",
        kernel.identity.release,
        kernel.identity.suite,
        kernel.root.rustc_version()?
    );
    for (title, failure) in &attempt.rows {
        match failure {
            None => println!("ok      {title}"),
            Some(failure) => println!("FAILED  {title}: {failure}"),
        }
    }
    let well = attempt.rows.iter().all(|(_, failure)| failure.is_none());
    let series = kernel.identity.series();
    if well && !arguments.build && !SERIES.contains(&series) {
        println!("Put \"{series}\" into SERIES of abi/src/series.rs, and it is supported.");
    }
    Ok(match well {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

struct Attempt<'a> {
    logs: &'a Path,
    /// What was done, and why it failed.
    rows: Vec<(&'static str, Option<String>)>,
}

impl Attempt<'_> {
    /// Does a step; what it gave, if it went well. All that a failure says is kept in a file.
    fn step<T>(&mut self, title: &'static str, action: impl FnOnce() -> Result<T>) -> Option<T> {
        let (value, failure) = match action() {
            Ok(value) => (Some(value), None),
            Err(error) => {
                let text = format!("{error:#}");
                let log = self.logs.join(format!("try-{title}.log"));
                let place = match fs::write(&log, &text) {
                    Ok(()) => format!(" (all of it: {})", log.display()),
                    Err(_) => String::new(),
                };
                let is_first = |line: &&str| line.starts_with("error");
                let line = text.lines().find(is_first).or(text.lines().next());
                (None, Some(format!("{}{place}", line.unwrap_or_default())))
            }
        };
        self.rows.push((title, failure));
        value
    }
}

/// The demo and the tests; those that failed have been named.
fn tests(kit: &Kit) -> Result<()> {
    let tally = test::trial(kit)?;
    if tally.failed > 0 || tally.passed == 0 {
        bail!("{} passed, {} failed", tally.passed, tally.failed);
    }
    Ok(())
}
