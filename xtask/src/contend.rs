//! `cargo xtask contend`: what it costs when many processes do the same at once.

use crate::counting;
use crate::kit::Kit;
use anyhow::Result;
use mapbuf_guest::price::Contended;
use mapbuf_vm::Ui;
use std::process::ExitCode;

const PROCESSORS: u32 = 4;
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
    /// Which kernel, as for `cargo xtask kernel`.
    #[arg(long, value_name = "KERNEL", default_value_t)]
    kernel: mapbuf_vm::Choice,
}

/// Runs the command.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    let kit = Kit::open(&Ui::default(), &arguments.kernel)?;
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
    let mut words = vec!["--processes".to_owned(), arguments.processes.to_string()];
    words.extend(["--repeats".into(), arguments.lives.to_string()]);
    words.extend(["--bytes".into(), arguments.bytes.to_string()]);
    words.extend(arguments.subjects.iter().cloned());
    let guest = counting::Guest {
        processors: PROCESSORS,
        ..Default::default()
    };
    guest.measure(kit, &words)
}
