//! `cargo xtask two-machines`: RDMA between the buffers of two machines.

use crate::kit::Kit;
use anyhow::{anyhow, ensure, Context, Result};
use mapbuf_init::Job;
use mapbuf_vm::qemu::Report;
use mapbuf_vm::wire::{self, End};
use mapbuf_vm::{drivers, splat, Choice, Ui, Verdict};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

/// Boot two machines on one wire, and move bytes between their buffers by RDMA.
///
/// Each has a card for RDMA in software (rdma_rxe), and the driver. `examples/two-machines` writes into the other machine's
/// buffer and reads from it; perftest does the same with a node. `tests/two-machines/run` lists the steps; the exit status is 0
/// when each of them went well on both.
#[derive(clap::Args)]
pub struct Arguments {
    /// The kernel, as for `cargo xtask vm`.
    #[arg(long, value_name = "KERNEL", default_value_t)]
    kernel: Choice,
}

/// Debian packages that the steps need.
const PACKAGES: [&str; 6] = [
    "gcc",
    "ibverbs-providers",
    "iproute2",
    "libc6-dev",
    "libibverbs-dev",
    "perftest",
];

/// Modules besides those of the disk and the wire: RDMA for programs.
const RDMA: [&str; 3] = ["ib_uverbs", "rdma_ucm", "rdma_rxe"];

/// What each is called.
const NAMES: [&str; 2] = ["first", "second"];

/// Each waits for the other, which may have to boot twice.
const IDLE: Duration = Duration::from_secs(300);

/// Runs the command.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    let mut kit = Kit::open(&Ui::default(), &arguments.kernel)?;
    kit.add_drivers(&drivers::RDMA)?;
    // Made once, before both ask for it.
    kit.driver(None)?;
    kit.command()?;
    let ends = wire::wire()?;
    let runs = thread::scope(|scope| {
        let kit = &kit;
        let threads: Vec<_> = ends
            .into_iter()
            .zip(NAMES)
            .map(|(end, name)| scope.spawn(move || run(kit, end, name)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
            .collect::<Result<Vec<_>>>()
    })?;
    let logs = crate::workspace()?.join("target/logs");
    fs::create_dir_all(&logs)?;
    let (mut passed, mut failed) = (0, 0);
    for (name, (said, report)) in NAMES.into_iter().zip(&runs) {
        let log = logs.join(format!("two-machines-{name}.log"));
        let text = format!("{said}\n# The kernel's log\n{}\n", report.log.join("\n"));
        fs::write(&log, text).with_context(|| format!("{} cannot be written", log.display()))?;
        let count = |word: &str| said.lines().filter(|line| line.starts_with(word)).count();
        passed += count("ok ");
        failed += count("FAILED ");
    }
    for (name, (_, report)) in NAMES.into_iter().zip(&runs) {
        ensure!(
            matches!(report.verdict, Verdict::Exited(0 | 1)),
            "the {name} machine: {}\n{}",
            report.verdict,
            splat::excerpts(&report.log).join("\n")
        );
    }
    println!("{passed} steps passed, {failed} failed");
    let well = |(_, report): &(String, Report)| report.verdict == Verdict::Exited(0);
    Ok(if failed == 0 && passed > 0 && runs.iter().all(well) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// One of the machines; what its program printed, and how it ended.
fn run(kit: &Kit, end: End, name: &str) -> Result<(String, Report)> {
    let mut machine = kit.machine();
    machine.processors = 1;
    machine.wire = Some(end);
    machine.limits.idle = Some(IDLE);
    let mut guest = kit.guest(true)?;
    let mut job = Job {
        argv: vec!["/root/run".into(), name.into()],
        ..Job::default()
    };
    kit.root_on_disk(
        &kit.ui,
        &mut machine,
        &mut guest,
        &mut job,
        &PACKAGES.map(String::from),
    )?;
    for module in wire::MODULES.into_iter().chain(RDMA) {
        kit.load_own(&mut guest, &mut job, module, "")?;
    }
    kit.load(&mut guest, &mut job, &kit.driver(None)?, "")?;
    guest.program(&kit.command()?)?;
    let workspace = crate::workspace()?;
    for (from, to) in [
        ("tests/two-machines/run", "/root/run"),
        ("examples/two-machines", "/root/two-machines"),
        ("include", "/root/include"),
    ] {
        guest.copy(&workspace.join(from), Path::new(to))?;
    }
    let mut said = String::new();
    let mut shown = 0;
    let report = kit.boot(&machine, guest, &job, &mut |_, bytes| {
        said.push_str(&String::from_utf8_lossy(bytes));
        // Whole lines: the other machine prints, too. Who watches need not be there any more.
        if let Some(end) = said.rfind('\n') {
            let lines = said.get(shown..=end).unwrap_or_default();
            let _ = std::io::stdout().write_all(lines.as_bytes());
            shown = end + 1;
        }
    })?;
    Ok((said, report))
}
