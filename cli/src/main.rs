//! The mapbuf command: named buffers, the module, and the demo.

mod args;
mod commands;
mod demo;
mod diagnose;
mod doctor;
mod failure;
mod figure;
mod hex;
mod holders;
mod matrix;
mod module;
mod output;
mod pci;
mod platform;
mod specimen;
mod tables;
mod terminal;
mod usage;
mod values;
mod wanted;

use args::{Args, Command};
use clap::{CommandFactory, Parser};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = Args::parse();
    let json = args.command.json();
    let result = match args.command {
        Command::Diagnose(args) => {
            return diagnose::run(&args).unwrap_or_else(|failure| output::report(&failure, false));
        }
        Command::DiagnosedProgram(args) => return diagnose::become_program(&args),
        Command::DiagnoseCleaner(args) => return diagnose::clean(&args),
        Command::DemoScene(args) => {
            return demo::play(args).unwrap_or_else(|failure| output::report(&failure, false));
        }
        Command::Apply(args) => commands::apply::run(&args),
        Command::Create(args) => commands::create::run(&args),
        Command::Remove(args) => commands::remove::run(&args),
        Command::List(args) => commands::list::run(&args),
        Command::Info(args) => commands::info::run(&args),
        Command::Dump(args) => commands::dump::run(&args),
        Command::Fill(args) => commands::fill::run(&args),
        Command::Bind(args) => commands::bind::run(&args),
        Command::Unbind(args) => commands::unbind::run(&args),
        Command::Load(args) => commands::load::run(&args),
        Command::Unload(args) => commands::unload::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Explain(args) => commands::explain::run(&args),
        Command::Matrix(args) => matrix::run(&args),
        Command::Show(args) => commands::show::run(&args),
        Command::Figure(args) => figure::run(&args),
        Command::Completions(args) => commands::generate::completions(&args, Args::command()),
        Command::Man(args) => commands::generate::man(&args, Args::command()),
        Command::Doctor(args) => doctor::run(&args),
        Command::Probe(args) => commands::probe::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => output::report(&failure, json),
    }
}
