//! `cargo xtask unsound`: can the safe types of the driver's room for unsafe code be misused?

use crate::mutants::copy_sources;
use anyhow::{bail, Context, Result};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

/// Try to misuse the types of driver/kmap/ and driver/src/sys/ in the ways of tests/unsound/, and see the compiler refuse.
///
/// The exit status is 0 when each attempt ended with the error that it names, and what is allowed compiled.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only these [default: all].
    names: Vec<String>,
    /// The kit's kernel to build against, as for `cargo xtask module`.
    #[arg(long, value_name = "KERNEL", default_value = "stock")]
    kernel: String,
}

/// An attempt, as tests/unsound/README.md describes it.
#[derive(Debug, PartialEq, Eq)]
struct Attempt {
    why: String,
    /// The compiler's code of the error; `None` where it must compile.
    error: Option<String>,
    code: String,
}

fn parse(text: &str) -> Result<Attempt> {
    let (head, code) = text.split_once("\n\n").context("there is no code")?;
    let key = |name: &str| {
        let line = head.lines().find_map(|line| line.strip_prefix(name));
        line.with_context(|| format!("there is no line '{name}'"))
    };
    let error = key("error: ")?.trim();
    if code.contains("unsafe") {
        bail!("an attempt must not have unsafe code, with which anything can be misused");
    }
    Ok(Attempt {
        why: key("why: ")?.trim().to_owned(),
        error: (error != "none").then(|| error.to_owned()),
        code: code.to_owned(),
    })
}

/// The file that an attempt becomes.
const FILE: &str = "driver/src/attempt.rs";

/// What the compiler said of an attempt: the codes of its errors, and how many of them do not lie in it.
fn errors(said: &str) -> (BTreeSet<String>, usize) {
    let mut codes = BTreeSet::new();
    let mut elsewhere = 0;
    let mut lines = said.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(rest) = line.strip_prefix("error[") else {
            continue;
        };
        codes.extend(rest.split_once(']').map(|(code, _)| code.to_owned()));
        let place = lines.peek().map_or("", |place| place.trim_start());
        if place.starts_with("--> ") && !place.contains(FILE) {
            elsewhere += 1;
        }
    }
    (codes, elsewhere)
}

/// Why an attempt did not end as it should, if so.
fn wrong(attempt: &Attempt, built: bool, said: &str) -> Option<String> {
    let (codes, elsewhere) = errors(said);
    let codes: Vec<_> = codes.into_iter().collect();
    match &attempt.error {
        None if built => None,
        None => Some(format!("it must compile but does not: {codes:?}")),
        Some(error) if built => Some(format!("it compiles but must be refused with {error}")),
        Some(error) if codes == [error.as_str()] && elsewhere == 0 => None,
        Some(error) => Some(format!(
            "it must be refused with only {error}, and in {FILE}: {codes:?}, {elsewhere} elsewhere"
        )),
    }
}

/// Tries one; why it did not end as it should, if so.
fn try_one(workspace: &Path, attempt: &Attempt, kernel: &str) -> Result<Option<String>> {
    let copy = workspace.join("target/unsound");
    for source in ["driver", "abi", "policy"] {
        copy_sources(&workspace.join(source), &copy.join(source))?;
    }
    let code = format!(
        "// SPDX-License-Identifier: GPL-2.0\n\n#![forbid(unsafe_code)]\n#![allow(dead_code)]\n\n{}",
        attempt.code
    );
    fs::write(copy.join(FILE), code)?;
    let main = copy.join("driver/src/main.rs");
    let text = fs::read_to_string(&main)?;
    let text = text.replacen("mod accounts;", "mod accounts;\nmod attempt;", 1);
    fs::write(&main, text)?;
    let output = Command::new(std::env::current_exe()?)
        .args(["module", "--kernel", kernel, "--dir"])
        .arg(copy.join("driver"))
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    fs::write(copy.join("log"), &said)?;
    Ok(wrong(attempt, output.status.success(), &said))
}

/// Runs the command.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    let workspace = crate::workspace()?;
    let folder = workspace.join("tests/unsound");
    let mut files: Vec<_> = fs::read_dir(&folder)
        .with_context(|| folder.display().to_string())?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    files.sort();
    let (mut right, mut not) = (0, 0);
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let wanted = arguments.names.is_empty() || arguments.names.iter().any(|one| *one == name);
        if name.contains('.') || !wanted {
            continue;
        }
        let attempt = parse(&fs::read_to_string(&file)?).with_context(|| name.to_string())?;
        let end = try_one(&workspace, &attempt, &arguments.kernel)?;
        let expected = attempt.error.as_deref().unwrap_or("compiles");
        match end {
            None => {
                right += 1;
                println!("{name:32} {expected:8} {}", attempt.why);
            }
            Some(wrong) => {
                not += 1;
                println!("{name:32} NOT SO   {wrong}");
            }
        }
    }
    println!("{right} as expected, {not} not");
    Ok(if not == 0 && right > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "why: it would be wrong\nerror: E0382\n\nfn f() {}\n";

    #[test]
    fn an_attempt_is_read() {
        let attempt = parse(TEXT).unwrap();
        assert_eq!(attempt.why, "it would be wrong");
        assert_eq!(attempt.error.as_deref(), Some("E0382"));
        assert_eq!(attempt.code, "fn f() {}\n");
        assert_eq!(parse(&TEXT.replace("E0382", "none")).unwrap().error, None);
        assert!(parse("why: nothing\n").is_err());
        assert!(parse(&TEXT.replace("fn f", "unsafe fn f")).is_err());
    }

    #[test]
    fn the_error_must_be_the_one_and_lie_in_the_attempt() {
        let attempt = parse(TEXT).unwrap();
        let said = |code: &str, file: &str| format!("error[{code}]: no\n  --> /x/{file}:1:1\n");
        assert_eq!(wrong(&attempt, false, &said("E0382", FILE)), None);
        assert!(wrong(&attempt, true, "").is_some());
        assert!(wrong(&attempt, false, "").is_some());
        assert!(wrong(&attempt, false, &said("E0308", FILE)).is_some());
        assert!(wrong(&attempt, false, &said("E0382", "driver/src/main.rs")).is_some());
        let two = said("E0382", FILE) + &said("E0308", FILE);
        assert!(wrong(&attempt, false, &two).is_some());
        let allowed = parse(&TEXT.replace("E0382", "none")).unwrap();
        assert_eq!(wrong(&allowed, true, ""), None);
        assert!(wrong(&allowed, false, &said("E0382", FILE)).is_some());
    }

    #[test]
    fn all_attempts_are_read() {
        let folder = crate::workspace().unwrap().join("tests/unsound");
        let mut allowed = 0;
        for entry in fs::read_dir(folder).unwrap().flatten() {
            if entry.path().extension().is_none() {
                let attempt = parse(&fs::read_to_string(entry.path()).unwrap()).unwrap();
                allowed += usize::from(attempt.error.is_none());
            }
        }
        assert_eq!(allowed, 1);
    }
}
