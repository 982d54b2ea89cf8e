//! `cargo xtask demo`

use crate::kit::Kit;
use crate::vm;
use anyhow::{Context, Result};
use mapbuf_init::Job;
use mapbuf_vm::{qemu, Ui};
use std::fs;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Where the demo writes its results in the guest.
const RESULTS: &str = "/tmp/demo.json";
/// A range of memory that the guest's kernel leaves alone, and what the module is told of it, and of a place where this
/// machine has nothing.
const RESERVED: &str = "memmap=2M$0x30000000";
const REGIONS: &str = "regions=ring:0x30000000:1M:ram:probe,uncached:0x30100000:1M:ram:uc:probe,\
                       hole:0x90000000:64K:ram:probe";
const TIMEOUT: Duration = Duration::from_secs(180);

/// Show what the driver does: get a kernel, build the module, boot, load it, run the demo.
#[derive(clap::Args)]
pub struct Arguments {
    /// Write the results to this file as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Take the module from this folder instead of the driver's.
    #[arg(long, value_name = "DIR")]
    driver: Option<PathBuf>,
}

/// What it takes to run the demo, any number of times.
pub struct Show {
    /// The kit.
    pub kit: Kit,
    command: PathBuf,
}

impl Show {
    /// Makes all ready but the module.
    pub fn new(ui: &Ui) -> Result<Self> {
        let kit = Kit::open(ui)?;
        let command = kit.command()?;
        Ok(Self { kit, command })
    }

    /// Boots a guest with the module and runs the demo in it; with `json` its results are the report's file.
    pub fn boot(
        &self,
        modules: &[PathBuf],
        json: bool,
        output: &mut dyn FnMut(qemu::Stream, &[u8]),
    ) -> Result<qemu::Report> {
        let mut guest = self.kit.guest(false)?;
        let mut job = Job {
            argv: vec!["mapbuf".into(), "demo".into()],
            ..Job::default()
        };
        self.kit.load(&mut guest, &mut job, modules, REGIONS)?;
        guest.program(&self.command)?;
        if std::io::stdout().is_terminal() {
            let (_, columns) = crate::terminal::size();
            job.env.insert("COLUMNS".into(), columns.to_string());
            job.env.insert("CLICOLOR_FORCE".into(), "1".into());
        }
        if json {
            job.argv.extend(["--json".into(), RESULTS.into()]);
            job.fetch.push(RESULTS.into());
        }
        let mut machine = self.kit.machine();
        machine.append.push(RESERVED.into());
        machine.timeout = Some(TIMEOUT);
        qemu::run(
            &machine,
            &self.kit.kernel,
            guest.archive,
            &job,
            None,
            output,
        )
    }
}

/// Runs the command.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    let ui = Ui::default();
    let show = Show::new(&ui)?;
    let modules = show.kit.driver(arguments.driver.as_deref())?;
    let step = ui.step("Booting", 0);
    let mut step = Some(step);
    let report = show.boot(&modules, arguments.json.is_some(), &mut |stream, bytes| {
        // A bar must be gone before anything else is printed.
        if let Some(step) = step.take() {
            step.done();
        }
        vm::to_own_streams(stream, bytes);
    })?;
    drop(step);
    vm::explain(&ui, &report, false);
    if let (Some(path), Some(file)) = (&arguments.json, report.files.first()) {
        match file {
            Ok(contents) => {
                fs::write(path, contents)
                    .with_context(|| format!("{} cannot be written", path.display()))?;
                ui.note(format!("The results are in {}.", path.display()));
            }
            Err(error) => {
                ui.note(format!("The demo left no results: {error}"));
                if report.verdict.is_success() {
                    return Ok(ExitCode::FAILURE);
                }
            }
        }
    }
    Ok(vm::exit_code(report.verdict.exit_code()))
}
