//! `cargo xtask overhead`: what `mapbuf diagnose` costs the program that it watches, in instructions.

use crate::counting;
use crate::kit::Kit;
use anyhow::{Context, Result};
use mapbuf_guest::overhead::Overhead;
use mapbuf_vm::Ui;
use std::process::ExitCode;

/// How many times as many instructions a program that maps ordinary files may take, in hundredths.
const AT_MOST: u64 = 130;

/// Count the instructions of a program that maps ordinary files, alone and under `mapbuf diagnose`.
///
/// The guest runs under QEMU's `-icount`, where the clock counts instructions, on one processor: what `mapbuf diagnose` does
/// meanwhile is counted with the program. The exit status is 1 where it takes more than 1.3 times as many.
#[derive(clap::Args)]
pub struct Arguments {
    /// How often the program maps ten pages, writes to each, and unmaps them.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    mappings: u64,
    /// Which kernel, as for `cargo xtask kernel`.
    #[arg(long, value_name = "KERNEL", default_value_t)]
    kernel: mapbuf_vm::Choice,
}

/// Runs the command.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    let kit = Kit::open(&Ui::default(), &arguments.kernel)?;
    let guest = counting::Guest {
        program: "mapbuf-overhead",
        command: true,
        ..Default::default()
    };
    let words = [arguments.mappings.to_string()];
    let rows: Vec<Overhead> = guest.measure(&kit, &words)?;
    let find = |name: &str| {
        let row = rows.iter().find(|row| row.how == name);
        row.with_context(|| format!("nothing was measured {name}"))
    };
    let (alone, diagnosed) = (find("alone")?, find("diagnosed")?);
    let hundredths = diagnosed.instructions.saturating_mul(100) / alone.instructions.max(1);
    println!(
        "{} mappings of an ordinary file, {} page faults",
        arguments.mappings, alone.faults
    );
    for row in [alone, diagnosed] {
        println!(
            "{:<24} {:>8.2} thousand million instructions",
            row.how,
            row.instructions as f64 / 1e9
        );
    }
    println!("{}.{:02} times as many", hundredths / 100, hundredths % 100);
    Ok(ExitCode::from(u8::from(hundredths > AT_MOST)))
}
