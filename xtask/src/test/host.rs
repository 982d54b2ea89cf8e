//! The host rung: everything that needs no guest.

use super::{report_failure, tail, Tally};
use crate::claims::{self, Said};
use crate::kit::Kit;
use crate::{crates, module, new_driver};
use anyhow::{Context, Result};
use mapbuf_vm::module::Module;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How much of it is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Everything.
    All,
    /// The tests alone.
    Tests,
    /// What depends on the kernel.
    Kernel,
    /// Nothing.
    Nothing,
}

const FORMATTING: &str = "formatting";
const CLIPPY: &str = "clippy";
const DOCUMENTATION: &str = "documentation";
const DRIVER_CLIPPY: &str = "clippy for the driver";
const DRIVER_FORMATTING: &str = "formatting of the driver";
const EXAMPLES_CLIPPY: &str = "clippy for the example drivers";
const EXAMPLES_FORMATTING: &str = "formatting of the example drivers";
const CRATES: &str = "packages for crates.io";
const OLDEST: &str = "the oldest compiler";
const CLAIMS: &str = "claims about the kernel";
const TESTS: &str = "tests";

impl Part {
    /// What is done, in order.
    pub fn checks(self) -> &'static [&'static str] {
        match self {
            Self::All => &[
                FORMATTING,
                CLIPPY,
                DOCUMENTATION,
                DRIVER_CLIPPY,
                DRIVER_FORMATTING,
                EXAMPLES_CLIPPY,
                EXAMPLES_FORMATTING,
                CRATES,
                OLDEST,
                CLAIMS,
                TESTS,
            ],
            Self::Tests => &[TESTS],
            Self::Kernel => &[DRIVER_CLIPPY, EXAMPLES_CLIPPY, CLAIMS],
            Self::Nothing => &[],
        }
    }
}

/// Runs it; with a filter, the tests that have such names.
pub fn run(
    kit: &Kit,
    part: Part,
    filter: Option<&str>,
    driver: Option<&Path>,
    logs: &Path,
) -> Result<Tally> {
    if part == Part::All {
        mapbuf_vm::host::ensure_lints(&kit.ui)?;
    }
    let mut rung = Rung {
        kit,
        logs,
        tally: Tally::default(),
    };
    for check in part.checks() {
        match *check {
            FORMATTING => rung.cargo(FORMATTING, &["fmt", "--all", "--check"], &[])?,
            CLIPPY => rung.cargo(CLIPPY, &CLIPPY_ARGUMENTS, &[])?,
            DOCUMENTATION => rung.cargo(
                DOCUMENTATION,
                &DOC_ARGUMENTS,
                &[("RUSTDOCFLAGS", "-D warnings")],
            )?,
            DRIVER_CLIPPY => rung.kernel_clippy(DRIVER_CLIPPY, source(driver)?)?,
            DRIVER_FORMATTING => rung.kernel_formatting(DRIVER_FORMATTING, &source(driver)?)?,
            EXAMPLES_CLIPPY => {
                rung.kernel_clippy(EXAMPLES_CLIPPY, new_driver::examples_in_rust()?)?
            }
            EXAMPLES_FORMATTING => {
                rung.kernel_formatting(EXAMPLES_FORMATTING, &new_driver::examples_in_rust()?)?
            }
            CRATES => rung.run(CRATES, &mut crates::publish(true)?)?,
            OLDEST => rung.run(OLDEST, &mut crates::oldest(&kit.kernel.root)?)?,
            CLAIMS => rung.claims()?,
            _ => rung.tests(filter)?,
        }
    }
    Ok(rung.tally)
}

const CLIPPY_ARGUMENTS: [&str; 7] = [
    "clippy",
    "--quiet",
    "--workspace",
    "--all-targets",
    "--",
    "-D",
    "warnings",
];
const DOC_ARGUMENTS: [&str; 5] = [
    "doc",
    "--quiet",
    "--workspace",
    "--no-deps",
    "--document-private-items",
];

struct Rung<'a> {
    kit: &'a Kit,
    logs: &'a Path,
    tally: Tally,
}

impl Rung<'_> {
    /// A check that is a run of cargo.
    fn cargo(
        &mut self,
        title: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<()> {
        let mut command = cargo()?;
        command.args(arguments).envs(environment.iter().copied());
        self.run(title, &mut command)
    }

    /// A check that is a program.
    fn run(&mut self, title: &str, command: &mut Command) -> Result<()> {
        let step = self.kit.ui.step(&format!("host: {title}"), 0);
        let (well, text) = output(command)?;
        step.done();
        self.conclude(title, well, &text)
    }

    fn conclude(&mut self, title: &str, well: bool, text: &str) -> Result<()> {
        let log = self
            .logs
            .join(format!("host-{}.log", title.replace(' ', "-")));
        fs::write(&log, text)?;
        if !well {
            report_failure(&format!("host: {title}"), &tail(text, 40), &log);
        }
        self.tally.add(Tally::one(well));
        Ok(())
    }

    /// Modules, with clippy, no warning allowed.
    fn kernel_clippy(&mut self, title: &str, source: PathBuf) -> Result<()> {
        let step = self.kit.ui.step(&format!("host: {title}"), 0);
        let module = Module {
            out: module::out_for(&source, &self.kit.kernel.identity.release, true, false)?,
            source,
            clippy: true,
            seams: false,
        };
        let outcome = module.build(&self.kit.kernel, &self.kit.ui);
        step.done();
        let text = outcome.as_ref().err().map(|error| format!("{error:#}"));
        self.conclude(title, outcome.is_ok(), &text.unwrap_or_default())
    }

    /// Their formatting, by the kernel's rules and the rustfmt of its compiler.
    fn kernel_formatting(&mut self, title: &str, source: &Path) -> Result<()> {
        let step = self.kit.ui.step(&format!("host: {title}"), 0);
        let mut files = Vec::new();
        rust_files(source, &mut files)?;
        let sandbox = self.kit.kernel.sandbox().read(source, source);
        // From standard input, since rustfmt would follow `mod` into files that have rules of their own.
        // `--check` of standard input shows a difference, and its status says that there is none.
        let script = "status=0; config=$1; shift; for file; do \
             rustfmt --check --edition 2021 --config-path \"$config\" < \"$file\" > /tmp/diff && ! [ -s /tmp/diff ] || \
             { status=1; echo \"$file\"; cat /tmp/diff; }; done; exit $status";
        let mut command = sandbox.command("sh");
        command.args(["-c", script, "sh"]);
        command.arg(self.kit.kernel.tree_inside().join(".rustfmt.toml"));
        let (well, text) = output(command.args(&files))?;
        step.done();
        self.conclude(title, well, &text)
    }

    /// What the texts say of the kernel, held against its sources.
    fn claims(&mut self) -> Result<()> {
        let step = self.kit.ui.step(&format!("host: {CLAIMS}"), 0);
        let trees = claims::trees_at_hand(&self.kit.cache, &self.kit.kernel)?;
        let findings = claims::check(&Said::gather(&crate::workspace()?)?, &trees)?;
        step.done();
        let lines: Vec<_> = findings.iter().map(ToString::to_string).collect();
        self.conclude(CLAIMS, lines.is_empty(), &lines.join("\n"))
    }

    /// `cargo test`, its results counted.
    fn tests(&mut self, filter: Option<&str>) -> Result<()> {
        let step = self.kit.ui.step("host: tests", 0);
        let mut command = cargo()?;
        command.args(["test", "--workspace", "--no-fail-fast"]);
        let parts: Vec<_> = filter
            .into_iter()
            .flat_map(|filter| filter.split(','))
            .collect();
        if !parts.is_empty() {
            command.arg("--").args(&parts);
        }
        let (well, text) = output(&mut command)?;
        step.done();
        let log = self.logs.join("host-tests.log");
        fs::write(&log, &text)?;
        let mut tally = count(&text);
        if !well && tally.failed == 0 {
            // It did not compile, or a test took its whole process along.
            tally.failed = 1;
        }
        if tally.failed > 0 {
            report_failure("host: tests", &failures(&text), &log);
        }
        self.tally.add(tally);
        Ok(())
    }
}

/// What the failed tests said; of a run that did not come so far, the end.
fn failures(text: &str) -> String {
    let mut said = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        inside |= line == "failures:";
        if inside && !line.is_empty() {
            said.push(line);
        }
        inside &= !line.starts_with("test result:");
    }
    if said.is_empty() {
        tail(text, 60)
    } else {
        said.join("\n")
    }
}

/// Adds up the results of a run of `cargo test`.
fn count(text: &str) -> Tally {
    let mut tally = Tally::default();
    for line in text.lines() {
        let Some(result) = line.strip_prefix("test result: ") else {
            continue;
        };
        let number = |what: &str| {
            result
                .split([';', '.'])
                .find_map(|part| part.trim().strip_suffix(what)?.trim().parse().ok())
                .unwrap_or(0)
        };
        tally.add(Tally {
            passed: number("passed"),
            failed: number("failed"),
            skipped: number("ignored"),
        });
    }
    tally
}

fn source(driver: Option<&Path>) -> Result<PathBuf> {
    let source = match driver {
        Some(driver) => driver.to_owned(),
        None => module::default_dir()?,
    };
    source
        .canonicalize()
        .with_context(|| format!("{} is not there", source.display()))
}

fn cargo() -> Result<Command> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(crate::workspace()?);
    Ok(command)
}

/// Runs a program; whether it ended well, and what it printed.
fn output(command: &mut Command) -> Result<(bool, String)> {
    let output = command.stdin(Stdio::null()).output().with_context(|| {
        format!(
            "{} could not be started",
            command.get_program().to_string_lossy()
        )
    })?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok((output.status.success(), text))
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let mut entries: Vec<_> = fs::read_dir(folder)?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            rust_files(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_added_up() {
        let text = "running 2 tests\ntest a ... ok\n\
            test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
            test result: FAILED. 10 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s\n";
        let expected = Tally {
            passed: 12,
            failed: 3,
            skipped: 1,
        };
        assert_eq!(count(text), expected);
    }
}
