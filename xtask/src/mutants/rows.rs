//! `cargo xtask mutants --rows`: each row of the demo says `fail` when the driver is broken in the way that is meant
//! for it.

use super::{break_copy, Mutant};
use crate::demo::Show;
use anyhow::{bail, Context, Result};
use mapbuf_vm::{Choice, Ui};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

/// The rows that need a break: question A's and question B's own, and those of devices. A12, the overview of all ways, goes
/// with most of them.
fn all() -> impl Iterator<Item = String> {
    let numbered = |letter, last| (1..=last).map(move |number| format!("{letter}{number}"));
    let devices = numbered("D", 12);
    numbered("A", 11).chain(numbered("B", 8)).chain(devices)
}

/// A row's name, if it is one.
pub fn known(name: &str) -> Result<String> {
    match all().find(|row| row == name) {
        Some(row) => Ok(row),
        None => bail!(
            "{name} is no row with a break: there are {}",
            all().collect::<Vec<_>>().join(" ")
        ),
    }
}

/// What the demo wrote.
#[derive(Debug, Deserialize)]
struct Results {
    requirements: BTreeMap<String, String>,
    failures: BTreeMap<String, String>,
}

impl Results {
    /// The rows that failed, in their order.
    fn failed(&self) -> Vec<&str> {
        let mut failed: Vec<&str> = self
            .requirements
            .iter()
            .filter(|(_, verdict)| *verdict == "fail")
            .map(|(row, _)| row.as_str())
            .collect();
        failed.sort_by_key(|row| (row.get(..1), row.len(), *row));
        failed
    }

    /// What became of a row, in words, and whether it failed.
    fn of(&self, row: &str) -> (bool, String) {
        match self.requirements.get(row).map(String::as_str) {
            Some("fail") => {
                let why = self.failures.get(row).map_or("", String::as_str);
                (true, format!("fail: {why}"))
            }
            Some(verdict) => (false, format!("STILL {verdict}")),
            None => (false, "NOT IN THE RESULTS".to_owned()),
        }
    }
}

/// Runs the demo with each break that is meant for one of the rows (none named: for any).
pub fn main(workspace: &Path, mutants: &[Mutant], named: &[String]) -> Result<ExitCode> {
    let wanted = |row: &String| named.is_empty() || named.contains(row);
    let chosen: Vec<&Mutant> = mutants
        .iter()
        .filter(|mutant| mutant.rows.iter().any(wanted))
        .collect();
    if let Some(row) = named
        .iter()
        .find(|row| !chosen.iter().any(|mutant| mutant.rows.contains(row)))
    {
        bail!("no mutant is meant for {row}");
    }
    let ui = Ui::default();
    let show = Show::new(&ui, &Choice::default())?;
    let begun = Instant::now();
    let sound = run(&show, None).context("the demo with the driver as it is")?;
    let mut seen = vec![("", sound, begun.elapsed())];
    for mutant in &chosen {
        ui.note(format!("{}: {} ...", mutant.name, mutant.why));
        let begun = Instant::now();
        let copy = break_copy(workspace, mutant)?;
        let results = run(&show, Some(&copy.join("driver")))
            .with_context(|| format!("the demo with {}", mutant.name))?;
        seen.push((&mutant.name, results, begun.elapsed()));
    }
    let mut missed = 0;
    println!("{:4} {:34} {:>3}  what the demo says", "row", "break", "s");
    for row in all().filter(wanted) {
        for mutant in chosen.iter().filter(|mutant| mutant.rows.contains(&row)) {
            let end = seen.iter().find(|(name, ..)| *name == mutant.name);
            let (_, results, took) = end.context("a break was not tried")?;
            missed += usize::from(!tell(&row, &mutant.name, results, *took));
        }
    }
    if let [("", results, took), ..] = seen.as_slice() {
        missed += usize::from(!tell("", "none", results, *took));
    }
    println!("{missed} rows did not turn as they should");
    Ok(if missed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Prints a line of the table; whether all is as it should be. Without a row, that no row may fail.
fn tell(row: &str, name: &str, results: &Result<Results, String>, took: Duration) -> bool {
    let (well, text) = match results {
        Err(why) => (false, format!("NOTHING: {why}")),
        Ok(results) if row.is_empty() => {
            let passed = results.requirements.values().all(|said| said == "pass");
            let text = match passed {
                true => "no row fails".to_owned(),
                false => format!("NOT pass: {:?}", results.requirements),
            };
            (passed, text)
        }
        Ok(results) => {
            let (well, mut text) = results.of(row);
            let failed = results.failed();
            let others: Vec<_> = failed.into_iter().filter(|other| *other != row).collect();
            if !others.is_empty() {
                text += &format!(" [and {}]", others.join(" "));
            }
            (well, text)
        }
    };
    println!("{row:4} {name:34} {:>3.0}  {text}", took.as_secs_f32());
    well
}

/// One boot with one demo; the inner error is about a demo that left no results.
fn run(show: &Show, driver: Option<&Path>) -> Result<Result<Results, String>> {
    let modules = show.kit.driver(driver)?;
    let report = show.boot(&modules, true, driver.is_none(), &mut |_, _| {})?;
    Ok(match report.files.into_iter().next() {
        Some(Ok(contents)) => {
            serde_json::from_slice(&contents).map_err(|error| format!("unreadable: {error}"))
        }
        Some(Err(error)) => Err(format!("{error}; {}", report.verdict)),
        None => Err(report.verdict.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The list is complete: no row without a break.
    #[test]
    fn every_row_has_a_break() {
        let workspace = crate::workspace().unwrap();
        let mutants = super::super::read_all(&workspace.join("tests/mutants"), &[]).unwrap();
        let missing: Vec<_> = all()
            .filter(|row| !mutants.iter().any(|mutant| mutant.rows.contains(row)))
            .collect();
        assert_eq!(all().count(), 31);
        assert!(missing.is_empty(), "no mutant turns {missing:?}");
    }

    #[test]
    fn only_a_row_that_fails_has_turned() {
        let results: Results = serde_json::from_str(
            r#"{"kinds": [], "requirements": {"A10": "fail", "A2": "fail", "A3": "pass", "B1": "not yet"},
                "failures": {"A2": "too small", "A10": "", "B1": "no root"}}"#,
        )
        .unwrap();
        assert_eq!(results.failed(), ["A2", "A10"]);
        assert_eq!(results.of("A2"), (true, "fail: too small".to_owned()));
        for row in ["A3", "B1", "B2"] {
            assert!(!results.of(row).0, "{row}");
        }
    }
}
