//! `cargo xtask race`

use crate::test;
use anyhow::Result;
use mapbuf_vm::Choice;
use std::path::PathBuf;
use std::process::ExitCode;

/// Race each operation of the driver with each other, for longer than `cargo xtask test` does.
///
/// The module is one that waits at random where another thread might come in between (`driver/src/sys/seam.rs`). A thousand
/// rounds of all pairs take most of an hour. The last line is `N passed, N failed`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only pairs whose names contain this, as `races::free_x_map` (several: with commas between them).
    #[arg(default_value = "races::")]
    filter: String,
    /// Rounds of each pair.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    rounds: u64,
    /// Take the module from this folder instead of the driver's.
    #[arg(long, value_name = "DIR")]
    driver: Option<PathBuf>,
    /// Which kernel, as for `cargo xtask kernel`.
    #[arg(long, value_name = "KERNEL", default_value_t)]
    kernel: Choice,
}

/// Runs the command.
pub fn main(arguments: Arguments) -> Result<ExitCode> {
    test::main(&test::Arguments::races(
        arguments.filter,
        arguments.rounds,
        arguments.driver,
        arguments.kernel,
    ))
}
