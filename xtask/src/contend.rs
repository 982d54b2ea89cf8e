//! `cargo xtask contend`: what it costs when many processes do the same at once.

use crate::guest;
use crate::kit::Kit;
use crate::vm;
use anyhow::{bail, Context, Result};
use mapbuf_guest::price::Contended;
use mapbuf_init::Job;
use mapbuf_vm::accel::Accel;
use mapbuf_vm::{qemu, Ui};
use std::process::ExitCode;
use std::time::Duration;

/// A clock that counts the instructions of all processors, which take turns.
const QEMU: [&str; 4] = ["-icount", "shift=0,align=off", "-cpu", "max,-erms"];
const APPEND: [&str; 2] = ["tsc=reliable", "cryptomgr.notests"];
const MEMORY_MIB: u32 = 1024;
const PROCESSORS: u32 = 4;
/// Counting makes the emulation slow.
const TIMEOUT: Duration = Duration::from_secs(900);
/// What the others are compared with: the kernel's own allocator of buffers.
const KERNELS: &str = "dma-heap";

/// Compare many processes that allocate and map at once with one, in instructions.
///
/// Each process allocates, maps, touches, unmaps and frees again and again; the clock of the guest (QEMU's `-icount`)
/// counts the instructions of all four processors. A factor of 1 means that eight processes take eight times what one
/// takes; what is more was spent waiting for one another. The kernel's dma-heap does the same beside it.
#[derive(clap::Args)]
pub struct Arguments {
    /// How many processes.
    #[arg(long, value_name = "N", default_value_t = 8)]
    processes: usize,
    /// How often each of them does it.
    #[arg(long, value_name = "N", default_value_t = 50)]
    lives: usize,
    /// How large each piece is, in bytes.
    #[arg(long, value_name = "N", default_value_t = 65536)]
    bytes: usize,
    /// Only these, as for `cargo xtask price`.
    #[arg(default_values = ["vmalloc", "pages", "contiguous", "coherent", KERNELS, "anonymous"])]
    subjects: Vec<String>,
}

/// Runs the command.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    let kit = Kit::open(&Ui::default())?;
    let rows = measure(&kit, arguments)?;
    println!(
        "{:<15} {:>12} {:>12}   factor",
        "",
        "1 process",
        format!("{} of them", arguments.processes)
    );
    for row in &rows {
        let each = |sum: u64, processes: u64| sum / processes.max(1) / row.lives.max(1);
        let (alone, together) = (each(row.alone, 1), each(row.together, row.processes));
        println!(
            "{:<15} {alone:>12} {together:>12}   {:>6.2}",
            row.subject,
            together as f64 / alone.max(1) as f64
        );
    }
    println!(
        "\nInstructions for {} KiB: to allocate, map, touch, unmap and free them once.",
        arguments.bytes >> 10
    );
    Ok(ExitCode::SUCCESS)
}

fn measure(kit: &Kit, arguments: &Arguments) -> Result<Vec<Contended>> {
    let program = guest::build(&["mapbuf-guest"], &kit.ui)?.join("mapbuf-price");
    let modules = kit.driver(None)?;
    let mut guest = kit.guest(false)?;
    let mut argv: Vec<String> = ["mapbuf-price", "--processes"].map(String::from).to_vec();
    argv.push(arguments.processes.to_string());
    argv.extend(["--repeats".into(), arguments.lives.to_string()]);
    argv.extend(["--bytes".into(), arguments.bytes.to_string()]);
    argv.extend(arguments.subjects.iter().cloned());
    let mut job = Job {
        argv,
        ..Job::default()
    };
    kit.load(&mut guest, &mut job, &modules, "")?;
    guest.program(&program)?;
    let mut machine = kit.machine();
    machine.accel = Accel::Tcg;
    machine.memory = MEMORY_MIB;
    machine.processors = PROCESSORS;
    machine.append = APPEND.map(String::from).to_vec();
    machine.qemu_arguments = QEMU.map(String::from).to_vec();
    machine.timeout = Some(TIMEOUT);
    let mut said = Vec::new();
    let report = qemu::run(
        &machine,
        &kit.kernel,
        guest.archive,
        &job,
        None,
        &mut |stream, bytes| match stream {
            qemu::Stream::Stdout => said.extend_from_slice(bytes),
            qemu::Stream::Stderr => vm::to_own_streams(stream, bytes),
        },
    )?;
    if !report.verdict.is_success() {
        vm::explain(&kit.ui, &report, false);
        bail!("nothing is known of the contention: {}", report.verdict);
    }
    let said = String::from_utf8(said).context("mapbuf-price prints no text")?;
    let rows = said.lines().map(serde_json::from_str);
    rows.collect::<Result<_, _>>()
        .context("mapbuf-price printed something else")
}
