//! `cargo xtask overhead`: what `mapbuf diagnose` costs the program that it watches, in instructions.

use crate::counting;
use crate::kit::Kit;
use anyhow::{bail, Context, Result};
use mapbuf_guest::overhead::Overhead;
use mapbuf_vm::Ui;
use std::process::ExitCode;

/// How many times as many instructions a program that maps ordinary files may take, in hundredths.
const AT_MOST: u64 = 125;

/// Count the instructions of a program that maps ordinary files, alone and under `mapbuf diagnose`.
///
/// The guest runs under QEMU's `-icount`, where the clock counts instructions, on one processor: what `mapbuf diagnose` does
/// meanwhile is counted with the program. The exit status is 1 where it takes more than 1.25 times as many.
#[derive(clap::Args)]
pub struct Arguments {
    /// How often the program maps ten pages, writes to each, and unmaps them.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    mappings: u64,
    /// Which kernel, as for `cargo xtask kernel`.
    #[arg(long, value_name = "KERNEL", default_value_t)]
    kernel: mapbuf_vm::Choice,
}

/// What was measured.
pub struct Measured {
    alone: Overhead,
    diagnosed: Overhead,
}

impl Measured {
    /// How many times as many instructions it took, in hundredths.
    fn hundredths(&self) -> u64 {
        self.diagnosed.instructions.saturating_mul(100) / self.alone.instructions.max(1)
    }

    /// An error where that is too many.
    pub fn is_within(&self) -> Result<()> {
        let (is, may) = (self.hundredths(), AT_MOST);
        if is > may {
            bail!("mapbuf diagnose takes {is} % of the program's own instructions, and may take {may} %");
        }
        Ok(())
    }
}

/// Runs the program that many times both ways, in a guest.
pub fn measure(kit: &Kit, mappings: u64) -> Result<Measured> {
    let guest = counting::Guest {
        program: "mapbuf-overhead",
        command: true,
        ..Default::default()
    };
    let rows: Vec<Overhead> = guest.measure(kit, &[mappings.to_string()])?;
    let find = |name: &str| {
        let row = rows.iter().find(|row| row.how == name);
        row.cloned()
            .with_context(|| format!("nothing was measured {name}"))
    };
    Ok(Measured {
        alone: find("alone")?,
        diagnosed: find("diagnosed")?,
    })
}

/// Runs the command.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    let kit = Kit::open(&Ui::default(), &arguments.kernel)?;
    let measured = measure(&kit, arguments.mappings)?;
    println!(
        "{} mappings of an ordinary file, {} page faults",
        arguments.mappings, measured.alone.faults
    );
    for row in [&measured.alone, &measured.diagnosed] {
        println!(
            "{:<24} {:>8.2} thousand million instructions",
            row.how,
            row.instructions as f64 / 1e9
        );
    }
    let hundredths = measured.hundredths();
    println!("{}.{:02} times as many", hundredths / 100, hundredths % 100);
    Ok(ExitCode::from(u8::from(measured.is_within().is_err())))
}
