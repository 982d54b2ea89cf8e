//! `cargo xtask install-test`: is the Debian package installed, used and removed as it should be?

use crate::kit::Kit;
use crate::package;
use anyhow::{ensure, Context, Result};
use mapbuf_init::Job;
use mapbuf_vm::{splat, Choice, Ui, Verdict};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

/// Install the Debian package in an ordinary Debian, use it as a member of its group, and remove it.
///
/// The guest has no network. `tests/install/check` lists the steps; the exit status is 0 when each of them went well. The
/// guest has Debian's userland with udev, but its PID 1 is the kit's, not systemd. The driver is the module that the kit
/// builds, since the package has none.
#[derive(clap::Args)]
pub struct Arguments {
    /// The kernel, as for `cargo xtask vm`.
    #[arg(long, value_name = "KERNEL", default_value_t)]
    kernel: Choice,
}

/// Debian packages that the steps need; `passwd` is one that mapbuf's own package depends on.
const PACKAGES: [&str; 3] = ["passwd", "systemd", "udev"];
/// Where the steps are in the guest.
const CHECK: &str = "/root/check";

/// Runs the command.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    let ui = Ui::default();
    let package = package::build(&ui)?;
    let kit = Kit::open(&ui, &arguments.kernel)?;
    let mut machine = kit.machine();
    let packages = PACKAGES.map(String::from);
    let mut guest = kit.guest(true)?;
    let mut job = Job::default();
    kit.root_on_disk(&ui, &mut machine, &mut guest, &mut job, &packages)?;
    job.argv.push(CHECK.into());
    let check = crate::workspace()?.join("tests/install/check");
    guest.copy(&check, Path::new(CHECK))?;
    for file in [package]
        .into_iter()
        .chain(kit.driver(None)?.into_iter().take(1))
    {
        let name = file.file_name().context("a file without a name")?;
        let to = Path::new("/root").join(name);
        guest.copy(&file, &to)?;
        job.argv.push(to.to_string_lossy().into_owned());
    }
    let mut said = String::new();
    let report = kit.boot(&machine, guest, &job, &mut |_, bytes| {
        said.push_str(&String::from_utf8_lossy(bytes));
        // Who watches need not be there any more.
        let _ = std::io::stdout().write_all(bytes);
    })?;
    let log = crate::workspace()?.join("target/logs/install.log");
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(
        &log,
        format!("{said}\n# The kernel's log\n{}\n", report.log.join("\n")),
    )
    .with_context(|| format!("{} cannot be written", log.display()))?;
    let count = |word: &str| said.lines().filter(|line| line.starts_with(word)).count();
    let (passed, failed) = (count("ok "), count("FAILED "));
    ensure!(
        matches!(report.verdict, Verdict::Exited(0 | 1)) && passed + failed > 0,
        "{}\n{}",
        report.verdict,
        splat::excerpts(&report.log).join("\n")
    );
    println!("{passed} steps passed, {failed} failed");
    Ok(if failed == 0 && report.verdict == Verdict::Exited(0) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
