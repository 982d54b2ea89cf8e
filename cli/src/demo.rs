//! `mapbuf demo`: shows what the driver does, and checks it.
//!
//! Scenes play one after the other; each tells what it does, and enters what it saw for the requirements that it
//! shows. A requirement passes when at least one check of it ran and all that ran held.

mod charset;
pub mod frames;
mod kinds;
mod ledger;
mod overview;
mod picture;
mod question_a;
mod question_b;
mod refusals;
mod regions;
mod stage;
mod unload;

use crate::{args::DemoArgs, failure::Failure, output};
use ledger::Ledger;
use mapbuf::Device;
use serde::Serialize;
use stage::Stage;
use std::{fs, path::Path};

/// What `--json` writes.
#[derive(Serialize)]
struct Report<'a> {
    kinds: &'a [kinds::Result],
    requirements: &'a Ledger,
}

/// The state of a demo: where it is shown, and what was seen.
pub struct Demo {
    stage: Stage,
    ledger: Ledger,
    kinds: Vec<kinds::Result>,
}

pub fn run(args: &DemoArgs) -> Result<(), Failure> {
    let to_stdout = args.json.as_deref() == Some(Path::new("-"));
    let mut demo = Demo {
        stage: Stage::new(to_stdout),
        ledger: Ledger::default(),
        kinds: Vec::new(),
    };
    // Without the driver there is nothing to show: that is no failed check.
    let before = Device::open()?.query()?;

    demo.scene("The node", &["A1"], question_a::node);
    kinds::scenes(&mut demo);
    demo.scene(
        "Question A: the user asks for a size, and maps by id << PAGE_SHIFT",
        &["A2", "A3", "A4", "A11"],
        question_a::program,
    );
    demo.scene(
        "Question B: 16 vmalloc'd pages, a read-only descriptor, a private mapping",
        &["B1", "B2", "B3", "B4"],
        question_b::program,
    );
    demo.scene(
        "The three ways out of question B's SIGBUS, and the fault handler",
        &["B5", "B6"],
        question_b::ways_out,
    );
    demo.scene("Reserved physical ranges", &["A8", "A9"], regions::scene);
    demo.scene("Every way to map", &["A12"], overview::scene);
    demo.scene("Refusals, and what they say", &["B7"], refusals::scene);
    demo.scene("Everything is released", &["B8"], |demo| {
        unload::scene(demo, &before, args.module.as_deref())
    });

    demo.stage.heading("Requirements");
    for row in demo.ledger.rows() {
        demo.stage.row(row);
    }
    let report = Report {
        kinds: &demo.kinds,
        requirements: &demo.ledger,
    };
    match args.json.as_deref() {
        Some(_) if to_stdout => output::print_json(&report)?,
        Some(path) => write(path, &report)?,
        None => {}
    }
    match demo.ledger.failed() {
        failed if failed.is_empty() => Ok(()),
        failed => Err(Failure::Checks(failed)),
    }
}

impl Demo {
    /// Plays a scene. One that breaks off has failed every requirement that it was to show.
    fn scene<E: std::fmt::Display>(
        &mut self,
        title: &str,
        shows: &[&'static str],
        play: impl FnOnce(&mut Self) -> Result<(), E>,
    ) {
        self.stage.heading(title);
        if let Err(error) = play(self) {
            self.check(shows, false, &format!("broken off: {error}"));
        }
    }

    /// Tells what a check saw, and enters it.
    fn check(&mut self, shows: &[&'static str], held: bool, what: &str) {
        self.stage.check(held, what, shows);
        for id in shows {
            self.ledger.enter(id, held, what);
        }
    }

    /// Tells why a requirement cannot be shown yet.
    fn not_yet(&mut self, id: &'static str, why: &str) {
        self.stage.not_yet(why, id);
        self.ledger.put_off(id, why);
    }
}

fn write(path: &Path, report: &Report<'_>) -> Result<(), Failure> {
    let failed = |source| Failure::File {
        path: path.to_owned(),
        source,
    };
    let text = serde_json::to_string_pretty(report).map_err(|error| failed(error.into()))?;
    fs::write(path, text + "\n").map_err(failed)
}
