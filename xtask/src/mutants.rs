//! `cargo xtask mutants`: do the tests, and the demo, see it when the driver is broken?

mod fuzz;
mod rows;

use anyhow::{bail, Context, Result};
use mapbuf_guest::profile::DEBUG_PROFILES;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

/// Break the driver in each of the ways that tests/mutants/ lists, and see the tests fail.
///
/// With --rows, see the rows of the demo fail instead: each of A1 to A11, B1 to B8, and D1 to D12 has a break that turns it.
///
/// The exit status is 0 when each break was seen.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only these [default: all].
    names: Vec<String>,
    /// Only list them.
    #[arg(long)]
    list: bool,
    /// Run the demo with those that are to turn a row of it.
    #[arg(long)]
    rows: bool,
    /// The same, for this row alone.
    #[arg(long, value_name = "ROW", value_parser = rows::known)]
    row: Vec<String>,
    /// Show them to `cargo xtask fuzz` for so many seconds each, instead of to the tests.
    #[arg(long, value_name = "SECONDS", conflicts_with_all = ["rows", "row"])]
    fuzz: Option<u64>,
}

/// What the module is made of.
const SOURCES: [&str; 3] = ["driver", "abi", "policy"];

/// A way to break the driver.
#[derive(Debug, PartialEq, Eq)]
struct Mutant {
    name: String,
    why: String,
    /// How the guest is booted, and which tests are run: empty where only the demo is to see it.
    profile: String,
    tests: String,
    /// The kernel that is sure to see it, if not any.
    kernel: Option<String>,
    /// The rows of the demo that it turns to `fail`.
    rows: Vec<String>,
    changes: Vec<Change>,
}

impl Mutant {
    /// The kernel that its tests are run in, as an argument of `cargo xtask test`: the debug kernel where the profile is one of
    /// its own.
    fn rung(&self) -> String {
        let of_debug = DEBUG_PROFILES.iter().any(|it| it.name == self.profile);
        match &self.kernel {
            Some(kernel) if kernel != "debug" => format!("--kernel={kernel}"),
            None if !of_debug => "--stock".into(),
            _ => "--debug".into(),
        }
    }
}

/// A text that another one takes the place of.
#[derive(Debug, Default, PartialEq, Eq)]
struct Change {
    file: String,
    before: String,
    after: String,
}

/// What became of it.
enum End {
    /// By these tests, or by what else the runner said.
    Caught(String),
    Survived,
}

/// Runs the command.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    let workspace = crate::workspace()?;
    let mutants = read_all(&workspace.join("tests/mutants"), &arguments.names)?;
    if arguments.list {
        for mutant in &mutants {
            let rows = mutant.rows.join(" ");
            println!("{:32} {:8} {}", mutant.name, rows, mutant.why);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.rows || !arguments.row.is_empty() {
        return rows::main(&workspace, &mutants, &arguments.row);
    }
    let mut rows = Vec::new();
    for mutant in mutants.iter().filter(|mutant| !mutant.tests.is_empty()) {
        eprintln!("{}: {} ...", mutant.name, mutant.why);
        let begun = Instant::now();
        let end = match arguments.fuzz {
            Some(seconds) => fuzz::try_one(&workspace, mutant, seconds),
            None => try_one(&workspace, mutant),
        };
        rows.push((mutant, end, begun.elapsed()));
    }
    println!("{:32} {:>5}  caught by", "break", "s");
    let mut missed = 0;
    for (mutant, end, took) in &rows {
        let text = match end {
            Ok(End::Caught(by)) => by.clone(),
            Ok(End::Survived) => "NOTHING".to_owned(),
            Err(error) => format!("NOT TRIED: {error:#}"),
        };
        missed += usize::from(!matches!(end, Ok(End::Caught(_))));
        println!("{:32} {:>5.0}  {text}", mutant.name, took.as_secs_f32());
    }
    println!("{} caught, {missed} not", rows.len() - missed);
    Ok(if missed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn read_all(folder: &Path, names: &[String]) -> Result<Vec<Mutant>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    let mut mutants = Vec::new();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        if name.contains('.') || !(names.is_empty() || names.iter().any(|wanted| *wanted == name)) {
            continue;
        }
        let text = fs::read_to_string(&file)?;
        let mutant = parse(&name, &text).with_context(|| file.display().to_string())?;
        if !mutant.tests.is_empty() && !crate::test::is_profile(&mutant.profile) {
            bail!(
                "{name} asks for the profile {}, which does not exist",
                mutant.profile
            );
        }
        mutants.push(mutant);
    }
    for name in names {
        if !mutants.iter().any(|mutant| mutant.name == *name) {
            bail!("there is no mutant {name}; --list shows all of them");
        }
    }
    Ok(mutants)
}

/// Reads a mutant as tests/mutants/README.md describes it.
fn parse(name: &str, text: &str) -> Result<Mutant> {
    let mut mutant = Mutant {
        name: name.to_owned(),
        why: String::new(),
        profile: String::new(),
        tests: String::new(),
        kernel: None,
        rows: Vec::new(),
        changes: Vec::new(),
    };
    let mut after = false;
    for line in text.lines() {
        if let Some(file) = line.strip_prefix("=== ") {
            after = false;
            mutant.changes.push(Change {
                file: file.to_owned(),
                ..Change::default()
            });
        } else if let Some(change) = mutant.changes.last_mut() {
            if line == "--- becomes" {
                after = true;
                continue;
            }
            let side = if after {
                &mut change.after
            } else {
                &mut change.before
            };
            side.push_str(line);
            side.push('\n');
        } else if let Some((key, value)) = line.split_once(": ") {
            match key {
                "why" => value.clone_into(&mut mutant.why),
                "profile" => value.clone_into(&mut mutant.profile),
                "tests" => value.clone_into(&mut mutant.tests),
                "kernel" => mutant.kernel = Some(value.to_owned()),
                "rows" => {
                    let rows = value.split_whitespace().map(rows::known);
                    mutant.rows = rows.collect::<Result<_>>()?;
                }
                _ => bail!("the key {key} means nothing"),
            }
        }
    }
    if mutant.why.is_empty() || mutant.changes.is_empty() {
        bail!("why and a change are needed");
    }
    if mutant.tests.is_empty() != mutant.profile.is_empty() {
        bail!("tests and their profile go together");
    }
    if mutant.tests.is_empty() && mutant.rows.is_empty() {
        bail!("tests or rows are needed");
    }
    if mutant.changes.iter().any(|change| change.before.is_empty()) {
        bail!("a change has no text to look for");
    }
    Ok(mutant)
}

/// Makes the change in a text in which it must be possible in one place.
fn apply(change: &Change, text: &str) -> Result<String> {
    match text.matches(&change.before).count() {
        1 => Ok(text.replacen(&change.before, &change.after, 1)),
        count => bail!(
            "{} has this text {count} times instead of once:\n{}",
            change.file,
            change.before
        ),
    }
}

/// Makes a copy of the sources in which the driver is broken; its folder.
fn break_copy(workspace: &Path, mutant: &Mutant) -> Result<PathBuf> {
    let copy = workspace.join("target/mutants").join(&mutant.name);
    for source in SOURCES {
        copy_sources(&workspace.join(source), &copy.join(source))?;
    }
    for change in &mutant.changes {
        let file = copy.join(&change.file);
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        fs::write(&file, apply(change, &text)?)?;
    }
    Ok(copy)
}

fn try_one(workspace: &Path, mutant: &Mutant) -> Result<End> {
    let copy = break_copy(workspace, mutant)?;
    let output = Command::new(std::env::current_exe()?)
        .args(["test", &mutant.rung(), "--profile", &mutant.profile])
        .arg("--driver")
        .arg(copy.join("driver"))
        .arg(&mutant.tests)
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    fs::write(copy.join("log"), format!("{said}{complained}"))?;
    judge(&said, output.status.success())
        .with_context(|| format!("the tests did not run:\n{complained}"))
}

/// Reads what `cargo xtask test` said; an error when it did not come to test anything.
fn judge(said: &str, success: bool) -> Result<End> {
    let verdict = said.lines().rev().find(|line| line.contains(" passed, "));
    if verdict.is_none() {
        bail!("there is no verdict");
    }
    if success {
        return Ok(End::Survived);
    }
    // `PROFILE: FAILED TEST: why`, or `PROFILE: FAILED: what happened to the guest`.
    let failed = |line: &str| -> Option<String> {
        let (_, rest) = line.split_once(": FAILED")?;
        let text = match rest.strip_prefix(": ") {
            Some(what) => what,
            None => rest.trim_start().split(": ").next()?,
        };
        Some(text.to_owned())
    };
    let by: Vec<_> = said.lines().filter_map(failed).collect();
    match by.split_first() {
        None => bail!("the tests failed without saying which"),
        Some((first, [])) => Ok(End::Caught(first.clone())),
        Some((first, more)) => Ok(End::Caught(format!("{first} and {} more", more.len()))),
    }
}

/// Makes a copy of a folder, without what an earlier copy had more.
pub fn copy_sources(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    let mut kept = Vec::new();
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        let (source, target): (PathBuf, PathBuf) = (entry.path(), to.join(&name));
        if entry.file_type()?.is_dir() {
            copy_sources(&source, &target)?;
        } else {
            fs::copy(&source, &target)?;
        }
        kept.push(name);
    }
    for entry in fs::read_dir(to)? {
        let entry = entry?;
        if !kept.contains(&entry.file_name()) {
            let gone = entry.path();
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(gone)?;
            } else {
                fs::remove_file(gone)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "why: it hurts\nprofile: stock\ntests: a::,b::\n\
        === driver/src/x.rs\n    one\n    two\n--- becomes\n    three\n=== policy/src/y.rs\nfour\n--- becomes\n";

    #[test]
    fn a_mutant_is_read() {
        let mutant = parse("name", TEXT).unwrap();
        assert_eq!(
            (&*mutant.why, &*mutant.profile, &*mutant.tests),
            ("it hurts", "stock", "a::,b::")
        );
        assert_eq!(mutant.changes.len(), 2);
        assert_eq!(mutant.changes[0].before, "    one\n    two\n");
        assert_eq!(mutant.changes[0].after, "    three\n");
        assert_eq!(mutant.changes[1].after, "");
        assert!(mutant.rows.is_empty());
        assert!(parse("name", "why: it hurts\n").is_err());
        let change = "=== driver/src/x.rs\none\n--- becomes\n";
        let with = |head: &str| parse("name", &format!("why: it hurts\n{head}{change}"));
        assert_eq!(with("rows: A1 B8\n").unwrap().rows, ["A1", "B8"]);
        assert!(with("").is_err());
        assert!(with("tests: a::\n").is_err());
        assert!(with("rows: A12\n").is_err());
        assert!(parse("name", "what: it hurts\n").is_err());
    }

    #[test]
    fn a_text_must_be_there_once() {
        let change = &parse("name", TEXT).unwrap().changes[1];
        assert_eq!(
            apply(change, "three\nfour\nfive\n").unwrap(),
            "three\nfive\n"
        );
        assert!(apply(change, "four\nfour\n").is_err());
        assert!(apply(change, "five\n").is_err());
    }

    #[test]
    fn only_a_failing_test_catches() {
        let caught = |said: &str, success| match judge(said, success) {
            Ok(End::Caught(by)) => by,
            Ok(End::Survived) => "survived".into(),
            Err(_) => "not tried".into(),
        };
        assert_eq!(
            caught("stock: FAILED a::b: why\n3 passed, 1 failed\n", false),
            "a::b"
        );
        assert_eq!(
            caught(
                "stock: FAILED a::b: why\nstock: FAILED: the kernel panicked\n0 passed, 2 failed\n",
                false
            ),
            "a::b and 1 more"
        );
        assert_eq!(caught("3 passed, 0 failed\n", true), "survived");
        assert_eq!(caught("", false), "not tried");
    }

    #[test]
    fn a_kernel_that_is_asked_for_is_booted() {
        let of = |text: &str| parse("name", text).unwrap().rung();
        assert_eq!(of(TEXT), "--stock");
        assert_eq!(of(&TEXT.replace("stock", "kunit")), "--debug");
        assert_eq!(
            of(&TEXT.replace("tests:", "kernel: debug\ntests:")),
            "--debug"
        );
        assert_eq!(
            of(&TEXT.replace("tests:", "kernel: kcsan\ntests:")),
            "--kernel=kcsan"
        );
    }

    #[test]
    fn every_mutant_still_finds_its_place() {
        let workspace = crate::workspace().unwrap();
        for mutant in read_all(&workspace.join("tests/mutants"), &[]).unwrap() {
            for change in &mutant.changes {
                let text = fs::read_to_string(workspace.join(&change.file)).unwrap();
                apply(change, &text).unwrap_or_else(|error| panic!("{}: {error}", mutant.name));
            }
        }
    }
}
