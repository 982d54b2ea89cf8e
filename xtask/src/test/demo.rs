//! The demo as a test: each of its rows.

use super::plan::Boot;
use super::progress::Line;
use super::Tally;
use crate::demo::Show;
use crate::kit::Kit;
use anyhow::{bail, Context, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The name among the guests.
const NAME: &str = "demo";

/// The rows: A1 to A12, B1 to B8, and D1 to D12.
const ROWS: u64 = 32;

/// What the demo wrote.
#[derive(Deserialize)]
struct Results {
    requirements: BTreeMap<String, String>,
    failures: BTreeMap<String, String>,
}

/// What is to be booted.
pub fn plan<'a>(kit: &'a Kit, driver: Option<&Path>) -> Result<Boot<'a>> {
    let show = Show::of(kit.clone())?;
    let modules = kit.driver(driver)?;
    Ok(Boot {
        name: NAME.to_owned(),
        purpose: "what cargo xtask demo shows",
        tests: ROWS,
        memory: kit.machine().memory,
        run: Box::new(move |_: &Line| run(&show, &modules)),
    })
}

fn run(show: &Show, modules: &[PathBuf]) -> Result<Tally> {
    let begun = Instant::now();
    let report = show.boot(modules, true, true, &mut |_, _| {})?;
    let file = match report.files.first() {
        Some(Ok(file)) => file,
        Some(Err(error)) => bail!("the demo left no results ({error}): {}", report.verdict),
        None => bail!("the demo left no results: {}", report.verdict),
    };
    let results: Results =
        serde_json::from_slice(file).context("the demo's results are unreadable")?;
    let mut tally = Tally::default();
    for (row, verdict) in &results.requirements {
        let well = verdict == "pass";
        if !well {
            let why = results.failures.get(row).map_or("", String::as_str);
            println!("{NAME}: FAILED {row}: {verdict} {why}");
        }
        tally.add(Tally::one(well));
    }
    if results.requirements.len() as u64 != ROWS {
        println!(
            "{NAME}: FAILED: {} rows, and {ROWS} were expected",
            results.requirements.len()
        );
        tally.add(Tally::one(false));
    }
    if tally.failed == 0 && !report.verdict.is_success() {
        println!("{NAME}: FAILED: {}", report.verdict);
        tally.add(Tally::one(false));
    }
    println!(
        "{} {NAME}: {} ok, {} not, in {:.0} s",
        show.kit.kernel.identity.series(),
        tally.passed,
        tally.failed,
        begun.elapsed().as_secs_f32()
    );
    Ok(tally)
}
