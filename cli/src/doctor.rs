//! `mapbuf doctor`: looks at a machine, and says of everything that is not as it should be what to do.

mod checks;
mod options;

use crate::{
    failure::{Failure, Unwell},
    output::{self, OutputArgs},
    pci::{Address, System},
};
use anstyle::{AnsiColor, Style};
use clap::Args as Group;
use serde::Serialize;
use std::fmt;

/// Check that this machine has everything that mapbuf needs, and say what to do if it does not
///
/// Changes nothing and reads no device memory; the probes that it sets to check `mapbuf diagnose` are removed again. Root
/// sees more (physical addresses, the kernel's options, the probes).
#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES)]
pub struct DoctorArgs {
    /// Also check whether this PCI device can be bound
    #[arg(long, value_name = "ADDRESS")]
    pub device: Option<Address>,
    #[command(flatten)]
    pub output: OutputArgs,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  the driver and mapbuf diagnose work here
  7  mapbuf diagnose works here, the driver does not
  8  the driver works here, mapbuf diagnose does not
  1  neither works; or the device of --device cannot be bound
  3  there is no such device";

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
    /// It keeps the driver or `mapbuf diagnose` from working.
    Wrong,
}

/// The subject of what `mapbuf diagnose` needs.
pub const DIAGNOSE: &str = "diagnose";
/// The subject of the device that was asked for.
pub const DEVICE: &str = "device";

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
    /// Whether the driver works here.
    driver_works: bool,
    /// Whether `mapbuf diagnose` does.
    diagnose_works: bool,
}

impl Report {
    fn new(findings: Vec<Finding>) -> Self {
        let wrong = |is_it: fn(&str) -> bool| {
            findings
                .iter()
                .any(|finding| finding.state == State::Wrong && is_it(finding.subject))
        };
        let driver_works = !wrong(|subject| ![DIAGNOSE, DEVICE].contains(&subject));
        let diagnose_works = !wrong(|subject| subject == DIAGNOSE);
        Self {
            findings,
            driver_works,
            diagnose_works,
        }
    }

    fn unwell(&self) -> Option<Unwell> {
        let is_refused =
            |finding: &Finding| finding.subject == DEVICE && finding.state == State::Wrong;
        if self.findings.iter().any(is_refused) {
            return Some(Unwell::Device);
        }
        match (self.driver_works, self.diagnose_works) {
            (true, true) => None,
            (false, true) => Some(Unwell::Driver),
            (true, false) => Some(Unwell::Diagnose),
            (false, false) => Some(Unwell::Both),
        }
    }

    /// What keeps a part from working.
    fn obstacles(&self, of_diagnose: bool) -> String {
        let mut subjects: Vec<_> = self
            .findings
            .iter()
            .filter(|finding| finding.state == State::Wrong && finding.subject != DEVICE)
            .filter(|finding| (finding.subject == DIAGNOSE) == of_diagnose)
            .map(|finding| finding.subject)
            .collect();
        subjects.dedup();
        subjects.join(", ")
    }
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
        )?;
        let parts = [
            ("the driver", self.driver_works, false),
            ("mapbuf diagnose", self.diagnose_works, true),
        ];
        for (part, works, of_diagnose) in parts {
            if works {
                writeln!(f, "{part} works here")?;
            } else {
                let obstacles = self.obstacles(of_diagnose);
                writeln!(f, "{part} does not work here (see: {obstacles})")?;
            }
        }
        Ok(())
    }
}

/// Runs the command.
pub fn run(args: &DoctorArgs) -> Result<(), Failure> {
    let mut findings = checks::all();
    if let Some(address) = &args.device {
        let function = System::default().function(address)?;
        findings.extend(checks::device(&function));
    }
    let report = Report::new(findings);
    output::answer(args.output, &report)?;
    report
        .unwell()
        .map_or(Ok(()), |unwell| Err(Failure::Unwell(unwell)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(wrong: &[&'static str]) -> Report {
        let all = ["kernel", "node", DIAGNOSE, DEVICE];
        let findings = all.map(|subject| {
            if wrong.contains(&subject) {
                Finding::new(subject, State::Wrong, "it is not", "do it")
            } else {
                Finding::well(subject, "it is")
            }
        });
        Report::new(findings.into())
    }

    #[test]
    fn the_driver_is_told_apart_from_diagnose() {
        let cases: [(&[&'static str], Option<Unwell>, u8); 6] = [
            (&[], None, 0),
            (&["kernel"], Some(Unwell::Driver), 7),
            (&[DIAGNOSE], Some(Unwell::Diagnose), 8),
            (&["node", DIAGNOSE], Some(Unwell::Both), 1),
            (&[DEVICE], Some(Unwell::Device), 1),
            (&[DEVICE, DIAGNOSE], Some(Unwell::Device), 1),
        ];
        for (wrong, unwell, code) in cases {
            let report = report(wrong);
            assert_eq!(report.unwell(), unwell, "{wrong:?}");
            let status = unwell.map_or(0, |unwell| Failure::Unwell(unwell).exit_code());
            assert_eq!(status, code, "{wrong:?}");
        }
    }

    #[test]
    fn each_part_has_a_line_of_its_own() {
        let text = |wrong| anstream::adapter::strip_str(&report(wrong).to_string()).to_string();
        let both = "\nthe driver works here\nmapbuf diagnose works here\n";
        assert!(text(&[]).ends_with(both));
        let old =
            "\nthe driver does not work here (see: kernel, node)\nmapbuf diagnose works here\n";
        assert!(text(&["kernel", "node"]).ends_with(old));
        let no_root =
            "\nthe driver works here\nmapbuf diagnose does not work here (see: diagnose)\n";
        assert!(text(&[DIAGNOSE]).ends_with(no_root));
    }
}
