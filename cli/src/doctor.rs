//! `mapbuf doctor`: looks at a machine, and says of everything that is not as it should be what to do.

mod checks;
mod options;

use crate::{
    failure::Failure,
    output::{self, OutputArgs},
    pci::{Address, System},
};
use anstyle::{AnsiColor, Style};
use clap::Args as Group;
use serde::Serialize;
use std::fmt;

/// Look at this machine: is everything there that mapbuf needs, and what to do where it is not
///
/// Changes nothing, and reads no device's memory. Root sees more (physical addresses, the kernel's options).
/// The exit code is 1 when something keeps mapbuf from working.
#[derive(Debug, Group)]
pub struct DoctorArgs {
    /// Look at this PCI device too: can it be bound?
    #[arg(long, value_name = "ADDRESS")]
    pub device: Option<Address>,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// How it is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Well,
    /// Worth knowing; nothing is wrong.
    Note,
    /// It works, with less than there could be.
    Lacking,
    /// It keeps mapbuf from working.
    Wrong,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub subject: &'static str,
    /// How it is.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do.
    pub next: Option<String>,
}

impl Finding {
    /// All is well.
    pub fn well(subject: &'static str, found: impl Into<String>) -> Self {
        Self {
            subject,
            state: State::Well,
            found: found.into(),
            next: None,
        }
    }

    /// Something that is worth a word, with what to do about it.
    pub fn new(
        subject: &'static str,
        state: State,
        found: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self {
            subject,
            state,
            found: found.into(),
            next: Some(next.into()),
        }
    }
}

#[derive(Serialize)]
struct Report {
    findings: Vec<Finding>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            let (word, colour) = match finding.state {
                State::Well => ("ok", AnsiColor::Green),
                State::Note => ("--", AnsiColor::Cyan),
                State::Lacking => ("??", AnsiColor::Yellow),
                State::Wrong => ("no", AnsiColor::Red),
            };
            let style = Style::new().fg_color(Some(colour.into())).bold();
            writeln!(
                f,
                "{style}{word}{style:#}  {:12} {}",
                finding.subject, finding.found
            )?;
            if let Some(next) = &finding.next {
                writeln!(f, "    {:12} next: {next}", "")?;
            }
        }
        let count = |state| {
            self.findings
                .iter()
                .filter(|finding| finding.state == state)
                .count()
        };
        writeln!(
            f,
            "{} well, {} lacking, {} wrong",
            count(State::Well),
            count(State::Lacking),
            count(State::Wrong)
        )
    }
}

/// Runs the command.
pub fn run(args: &DoctorArgs) -> Result<(), Failure> {
    let mut findings = checks::all();
    if let Some(address) = &args.device {
        let function = System::default().function(address)?;
        findings.extend(checks::device(&function));
    }
    let wrong = findings
        .iter()
        .filter(|finding| finding.state == State::Wrong)
        .count();
    output::answer(args.output, &Report { findings })?;
    match wrong {
        0 => Ok(()),
        count => Err(Failure::Unwell(count)),
    }
}
