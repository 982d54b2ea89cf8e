//! The developer's commands: `cargo xtask help` lists them.

mod attempt;
mod claims;
mod contend;
mod copies;
mod counting;
mod crates;
mod demo;
mod dist;
mod docs;
mod fuzz;
mod guest;
mod install_test;
mod inventory;
mod kernel;
mod kit;
mod module;
mod museum;
mod mutants;
#[cfg(test)]
mod named;
mod new_driver;
mod outputs;
mod overhead;
mod package;
mod price;
mod race;
mod sanitize;
mod scale;
mod terminal;
mod test;
mod two_machines;
mod unsound;
mod vm;
mod yardstick;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Builds mapbuf, boots it and tests it.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    BenchScale(scale::Arguments),
    Claims(claims::Arguments),
    Contend(contend::Arguments),
    Copies(copies::Arguments),
    Crates(crates::Arguments),
    Demo(demo::Arguments),
    Dist(dist::Arguments),
    Docs(docs::Arguments),
    Fuzz(fuzz::Arguments),
    InstallTest(install_test::Arguments),
    Kernel(kernel::Arguments),
    Module(module::Arguments),
    Museum(test::museum::Arguments),
    Mutants(mutants::Arguments),
    NewDriver(new_driver::Arguments),
    Outputs(outputs::Arguments),
    Overhead(overhead::Arguments),
    Package(package::Arguments),
    Price(price::Arguments),
    Race(race::Arguments),
    Sanitize(sanitize::Arguments),
    Test(test::Arguments),
    TwoMachines(two_machines::Arguments),
    Unsafe(inventory::Arguments),
    Unsound(unsound::Arguments),
    Vm(vm::Arguments),
    Yardstick(yardstick::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::BenchScale(arguments) => scale::main(&arguments),
        Command::Claims(arguments) => claims::main(&arguments),
        Command::Contend(arguments) => contend::main(&arguments),
        Command::Copies(arguments) => copies::main(&arguments),
        Command::Crates(arguments) => crates::main(&arguments),
        Command::Demo(arguments) => demo::main(&arguments),
        Command::Dist(arguments) => dist::main(&arguments),
        Command::Docs(arguments) => docs::main(&arguments),
        Command::Fuzz(arguments) => fuzz::main(&arguments),
        Command::InstallTest(arguments) => install_test::main(&arguments),
        Command::Kernel(arguments) => kernel::main(&arguments),
        Command::Module(arguments) => module::main(&arguments),
        Command::Museum(arguments) => test::museum::show(&arguments),
        Command::Mutants(arguments) => mutants::main(&arguments),
        Command::NewDriver(arguments) => new_driver::main(&arguments),
        Command::Outputs(arguments) => outputs::main(&arguments),
        Command::Overhead(arguments) => overhead::main(&arguments),
        Command::Package(arguments) => package::main(&arguments),
        Command::Price(arguments) => price::main(&arguments),
        Command::Race(arguments) => race::main(arguments),
        Command::Sanitize(arguments) => sanitize::main(&arguments),
        Command::Test(arguments) => test::main(&arguments),
        Command::TwoMachines(arguments) => two_machines::main(&arguments),
        Command::Unsafe(arguments) => inventory::main(&arguments),
        Command::Unsound(arguments) => unsound::main(&arguments),
        Command::Vm(arguments) => vm::main(arguments),
        Command::Yardstick(arguments) => yardstick::main(&arguments),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("Error: {error:#}");
        ExitCode::from(119)
    })
}

/// The folder of the workspace.
fn workspace() -> Result<std::path::PathBuf> {
    use anyhow::Context;
    std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(std::path::Path::to_owned)
        .context("xtask lies nowhere")
}
