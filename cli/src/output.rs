//! Answers: text for people, JSON for programs.

use crate::failure::Failure;
use anstyle::{AnsiColor, Style};
use clap::Args as Group;
use serde::Serialize;
use std::{
    fmt::Display,
    io::{self, Write},
    process::ExitCode,
};

/// How to answer.
#[derive(Clone, Copy, Debug, Group)]
pub struct OutputArgs {
    /// Print JSON, errors included: {"error": {"message", "exit_code", "errno", "reason", …}}
    #[arg(long)]
    pub json: bool,
}

/// Answers with `value`: as JSON where that was asked for, else as the text that it is shown as.
pub fn answer<T: Serialize + Display>(output: OutputArgs, value: &T) -> Result<(), Failure> {
    if output.json {
        print_json(value)
    } else {
        print(value).map(drop)
    }
}

/// Prints a value as JSON.
pub fn print_json<T: Serialize>(value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| failed(error.into()))?;
    print(&format!("{text}\n")).map(drop)
}

/// Prints a text, without its colours where standard output is no terminal. Says whether anybody still reads:
/// `mapbuf dump ring | head` has seen enough, which is no failure.
pub fn print(text: &impl Display) -> Result<bool, Failure> {
    let mut out = anstream::stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

/// Tells about a failure, and gives the exit code.
pub fn report(failure: &Failure, json: bool) -> ExitCode {
    let style = Style::new().fg_color(Some(AnsiColor::Red.into())).bold();
    anstream::eprintln!("{style}mapbuf:{style:#} {failure}");
    if let (true, Some(value)) = (json, failure.json()) {
        // Where that cannot be printed either, the exit code is what is left.
        let _ = print_json(&value);
    }
    ExitCode::from(failure.exit_code())
}

fn failed(source: io::Error) -> Failure {
    Failure::File {
        path: "standard output".into(),
        source,
    }
}
