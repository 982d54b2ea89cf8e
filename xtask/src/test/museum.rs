//! The museum: drivers that are wrong on purpose, and what `mapbuf diagnose` says about each.

use super::stock::Results;
use super::Tally;
use crate::guest;
use crate::kit::Kit;
use crate::vm;
use anyhow::{bail, Context, Result};
use mapbuf_guest::Profile;
use mapbuf_init::Job;
use mapbuf_vm::{qemu, Ui};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// The name for `--profile`.
pub const PROFILE: &str = "museum";

const BOOT: Profile = Profile {
    name: PROFILE,
    purpose: "drivers that are wrong on purpose, and what is said about them",
    // The kernel's own code is rewritten for every probe. Emulated processors that run in parallel may execute the half
    // of it.
    append: &["tsc=reliable"],
    memory_mib: 1024,
    processors: 1,
    module_parameters: "",
    qemu_args: &[],
    timeout_seconds: 600,
};

/// Where it is in the guest.
const HALL: &str = "/museum";

/// Boots the guest and goes through the museum.
pub fn run(kit: &Kit, filter: &str, driver: Option<&Path>, logs: &Path) -> Result<Tally> {
    let program = guest::build(&["mapbuf-guest"], &kit.ui)?.join("mapbuf-museum");
    let listed = Command::new(&program).args(["--list", filter]).output();
    if listed
        .context("mapbuf-museum could not be started")?
        .stdout
        .is_empty()
    {
        return Ok(Tally::default());
    }
    let mut results = Results::default();
    kit.ui.note("museum: booting the guest");
    let begun = Instant::now();
    let report = boot(kit, filter, driver, &mut |stream, bytes| {
        results.take(stream, bytes)
    })?;
    results.conclude(
        "stock",
        &BOOT,
        &report,
        begun.elapsed(),
        &logs.join("museum.log"),
    )
}

/// Print what `mapbuf diagnose` says about each driver of the museum (examples/broken), and about some that are right.
#[derive(clap::Args)]
pub struct Arguments {}

/// Shows the museum.
pub fn show(_: &Arguments) -> Result<ExitCode> {
    let ui = Ui::default();
    let kit = Kit::open(&ui)?;
    let report = boot(&kit, "--show", None, &mut vm::to_own_streams)?;
    vm::explain(&ui, &report, false);
    Ok(vm::exit_code(report.verdict.exit_code()))
}

/// Boots a guest that has the museum, and runs `mapbuf-museum` in it with a word.
fn boot(
    kit: &Kit,
    word: &str,
    driver: Option<&Path>,
    take: &mut dyn FnMut(qemu::Stream, &[u8]),
) -> Result<qemu::Report> {
    let program = guest::build(&["mapbuf-guest"], &kit.ui)?.join("mapbuf-museum");
    let modules = kit.driver(driver)?;
    let folder = crate::workspace()?.join("examples/broken");
    let exhibits = kit.driver(Some(&folder))?;
    let mut guest = kit.guest(false)?;
    let mut job = Job {
        argv: vec!["mapbuf-museum".into(), word.into()],
        ..Job::default()
    };
    kit.load(&mut guest, &mut job, &modules, "")?;
    guest.program(&kit.command()?)?;
    guest.program(&program)?;
    for file in exhibits.iter().chain([&visitor(&folder)?]) {
        let name = file.file_name().context("a file without a name")?;
        guest.copy(file, &Path::new(HALL).join(name))?;
    }
    let mut machine = kit.machine();
    machine.memory = BOOT.memory_mib;
    machine.processors = BOOT.processors;
    machine.append = BOOT.append.iter().map(|&word| word.to_owned()).collect();
    machine.timeout = Some(Duration::from_secs(BOOT.timeout_seconds));
    qemu::run(&machine, &kit.kernel, guest.archive, &job, None, take)
}

/// Compiles the program that tries each driver.
fn visitor(folder: &Path) -> Result<PathBuf> {
    let out = crate::workspace()?.join("target/museum");
    fs::create_dir_all(&out)?;
    let program = out.join("visit");
    let output = Command::new("cc")
        .args([
            "-std=gnu11",
            "-O2",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-static",
            "-o",
        ])
        .arg(&program)
        .arg(folder.join("visit.c"))
        .output()
        .context("cc could not be started")?;
    if !output.status.success() {
        bail!(
            "visit.c did not compile:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(program)
}
