//! `mapbuf demo`: shows what the driver does, and checks it.
//!
//! Scenes play one after the other; each tells what it does, and enters what it saw for the requirements that it
//! shows. A requirement passes when at least one check of it ran and all that ran held. Each scene has a process of its
//! own: one that a driver kills has failed what it was to show, and the others play all the same.

mod by_hand;
mod charset;
mod device;
mod disk;
mod exporters;
pub mod frames;
mod guide;
mod heap;
mod kinds;
mod ledger;
mod note;
mod overview;
mod picture;
mod question_a;
mod question_b;
mod refusals;
mod regions;
mod scene;
mod stage;
mod unload;

use crate::{failure::Failure, module, output};
use clap::Args as Group;
use ledger::Ledger;
use mapbuf::Device;
use note::{Note, OfKind};
use scene::{Played, Scene};
use serde::Serialize;
use stage::Stage;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

pub use scene::{SceneArgs, SCENE};

/// Show what the driver does, and check it
///
/// Allocates a buffer of each kind, maps it, writes and reads through the mapping and through the kernel's view, maps a
/// part, frees while mapped, and draws which virtual page lies on which physical frame. Then come the two questions that
/// mapbuf answers, a refusal with its reason, and, where nothing else uses the driver, unloading and loading it again.
/// Run it as root: physical addresses are not shown to others.
#[derive(Debug, Group)]
pub struct DemoArgs {
    /// Write the results of all checks to this file, as JSON; without a file, or with '-', to standard output in place
    /// of the text
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub json: Option<PathBuf>,
    /// The guide's programs to run: a list that 'cargo xtask demo' makes
    #[arg(long, value_name = "FILE")]
    pub guide: Option<PathBuf>,
    /// The module's file, to load it again at the end
    #[arg(long, value_name = "FILE")]
    pub module: Option<PathBuf>,
    /// At the end, load the module with dma_heaps=1 and show a dma-heap; the module then cannot be unloaded until the
    /// machine is rebooted
    #[arg(long)]
    pub dma_heaps: bool,
}

/// What `--json` writes.
#[derive(Serialize)]
struct Report<'a> {
    kinds: &'a [OfKind],
    requirements: &'a Ledger,
    /// Why a requirement does not pass.
    failures: BTreeMap<&'static str, &'a str>,
}

/// The scenes, in the order in which they play. One without a title goes on with what the one before it began.
const SCENES: &[Scene] = &[
    Scene::new("node", "The node", &["A1"], question_a::node),
    Scene::new("vmalloc", "Kind vmalloc", &["B1"], |demo| {
        kinds::scene(demo, &kinds::VMALLOC)
    }),
    Scene::new("pages", "Kind pages", &["A2"], |demo| {
        kinds::scene(demo, &kinds::PAGES)
    }),
    Scene::new("contiguous", "Kind contiguous", &["A7"], |demo| {
        kinds::scene(demo, &kinds::CONTIGUOUS)
    }),
    Scene::new("coherent", "Kind coherent", &["A6"], |demo| {
        kinds::scene(demo, &kinds::COHERENT)
    }),
    Scene::new(
        "sizes",
        "Question A: the user asks for a size, and maps by id << PAGE_SHIFT",
        &["A2"],
        question_a::sizes,
    ),
    Scene::new("arguments", "", &["A3"], question_a::arguments),
    Scene::new("by-id", "", &["A4"], question_a::by_id),
    Scene::new("program", "", &["A11"], question_a::program),
    Scene::new("frees", "", &["A10"], question_a::frees),
    Scene::new("by-dma", "", &["A6"], question_a::by_dma),
    Scene::new("uncached", "", &["A5"], question_a::uncached),
    Scene::new(
        "question-b",
        "Question B: 16 vmalloc'd pages, a read-only descriptor, a private mapping",
        &["B2", "B4"],
        question_b::program,
    ),
    Scene::new("outlives", "", &["B3"], question_b::outlives),
    Scene::new(
        "ways-out",
        "The three ways out of question B's SIGBUS, and the fault handler",
        &["B5"],
        question_b::ways_out,
    ),
    Scene::new("failing-case", "", &["B5"], question_b::failing_case),
    Scene::new("faults", "", &["B6"], question_b::faults),
    Scene::new(
        "regions",
        "Reserved physical ranges",
        &["A8"],
        regions::both_views,
    ),
    Scene::new("holes", "", &["A9"], regions::nothing_there),
    Scene::new("overview", "Every way to map", &["A12"], overview::scene),
    Scene::new("guide", "The guide's programs", &["A12"], guide::scene),
    Scene::new(
        "refusals",
        "Refusals, and what they say",
        &["B7"],
        refusals::scene,
    ),
    Scene::new("device", "A device", device::SHOWS, device::scene),
    Scene::new("disk", "", disk::SHOWS, disk::scene),
    Scene::new("unload", "Everything is released", &["B8"], unload::scene),
    // The last one: the module stays loaded after it.
    Scene::new("heap", "A dma-heap", &["D11"], heap::scene),
];

/// Plays one scene: the hidden command.
pub fn play(args: SceneArgs) -> Result<ExitCode, Failure> {
    match SCENES.iter().find(|scene| scene.name == args.name) {
        Some(scene) => scene::play(scene, args),
        None => Err(Failure::Usage(format!("there is no scene {}", args.name))),
    }
}

/// Carries the command out.
pub fn run(args: &DemoArgs) -> Result<(), Failure> {
    let to_stdout = args.json.as_deref() == Some(Path::new("-"));
    let stage = Stage::new(to_stdout);
    let mut ledger = Ledger::default();
    let mut kinds = Vec::new();
    // Without the driver there is nothing to show: that is no failed check. With one that makes no node, there is.
    let before = Device::open().and_then(|device| device.query());
    let mut made = None;
    let before = match before {
        Err(error) if !module::is_loaded() => return Err(error.into()),
        Err(_) => {
            let what = "the driver is loaded, and its node does not answer";
            stage.check(false, what, &["A1"]);
            ledger.enter("A1", false, what);
            made = by_hand::Node::make(&stage);
            Device::open().and_then(|device| device.query()).ok()
        }
        Ok(info) => Some(info),
    };
    let told = SceneArgs {
        name: String::new(),
        silent: to_stdout,
        module: args.module.clone(),
        guide: args.guide.clone(),
        before: before.map(|info| format!("{}:{}", info.buffers, info.used_bytes)),
        dma_heaps: args.dma_heaps,
    };
    for scene in SCENES {
        let told = SceneArgs {
            name: scene.name.to_owned(),
            ..told.clone()
        };
        let end = scene::watch(&told, &mut |note| match note {
            Note::Check { shows, held, what } => {
                for id in shows.iter().filter_map(|id| ledger::known(id)) {
                    ledger.enter(id, held, &what);
                }
            }
            Note::NotYet { id, why } => {
                if let Some(id) = ledger::known(&id) {
                    ledger.put_off(id, &why);
                }
            }
            Note::Kind(seen) => kinds.push(seen),
        });
        if let Played::Died(how) = end {
            stage.check(false, &how, scene.shows);
            for id in scene.shows {
                ledger.enter(id, false, &how);
            }
        }
    }
    drop(made);

    stage.heading("Requirements");
    for row in ledger.rows() {
        stage.row(row);
    }
    let report = Report {
        kinds: &kinds,
        requirements: &ledger,
        failures: ledger
            .rows()
            .filter_map(|row| Some((row.id, row.why?)))
            .collect(),
    };
    match args.json.as_deref() {
        Some(_) if to_stdout => output::print_json(&report)?,
        Some(path) => write(path, &report)?,
        None => {}
    }
    match ledger.failed() {
        failed if failed.is_empty() => Ok(()),
        failed => Err(Failure::Checks(failed)),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenes_have_names_and_show_what_there_is() {
        for (number, scene) in SCENES.iter().enumerate() {
            assert!(SCENES[..number]
                .iter()
                .all(|other| other.name != scene.name));
            assert!(!scene.shows.is_empty());
            for id in scene.shows {
                assert!(ledger::known(id).is_some(), "{id}");
            }
        }
    }
}
