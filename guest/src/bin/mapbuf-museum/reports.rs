//! Mistakes that people reported: each is given to `mapbuf diagnose`, and what it says is compared with what is true.
//!
//! A report lies in a folder of its own, with its program and, where there are any, its modules. What is true of it stands
//! in its file `expect`, or, for those that come without, in the table below.

use super::exhibits::WRONG;
use super::{
    diagnose_with, doctor_ends_with, instances, is_diagnosed, nothing_is_left, values, HALL,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

/// What must be said of a report: a cause, or several of which one is to be named, and words that must be there.
struct Truth {
    report: &'static str,
    causes: &'static [&'static str],
    words: &'static [&'static str],
}

const fn truth(
    report: &'static str,
    causes: &'static [&'static str],
    words: &'static [&'static str],
) -> Truth {
    Truth {
        report,
        causes,
        words,
    }
}

/// Reports that come without a file `expect`.
const TRUTHS: &[Truth] = &[
    truth(
        "01-kmalloc-offset",
        &["slab-memory"],
        &["rep_mmap", "kpageflags"],
    ),
    truth(
        "02-user-address-page",
        &["page-of-user-address"],
        &["rep_fault", "BUG:", "RIP:"],
    ),
    truth("03-tail-refcount", &["freed-by-unmapping"], &["rep_fault"]),
    truth(
        "05-nopage-is-error",
        &["success-taken-for-failure"],
        &["rep_fault", "VM_FAULT_NOPAGE"],
    ),
    truth(
        "07-memtype-conflict",
        &["cache-conflict"],
        &["x86/PAT", "rep_mmap", "EAGAIN"],
    ),
    truth("08-sysfs-bar-claimed", &["bar-claimed"], &["rep08"]),
    truth("10-unaligned-offset", &["unaligned-offset"], &["0x10"]),
    truth("11-shm-full", &["filesystem-full"], &["tmpfs"]),
    truth("12-private-copy", &["private-copy"], &[]),
    truth("13-fork-dontfork", &["not-inherited"], &["MADV_DONTFORK"]),
    truth(
        "15-page-of-vmapped",
        &["page-of-vmalloc"],
        &["rep_mmap", "BUG:", "RIP:"],
    ),
];

/// How well a report was diagnosed.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Score {
    Right,
    Partly,
    Silent,
    Wrong,
    /// Nothing is known that could be compared.
    Unknown,
    /// This kernel cannot show it: it lacks what goes wrong.
    Impossible,
}

/// The exit status of a program that cannot show its report on this kernel, as Automake has it.
const IMPOSSIBLE: i32 = 77;

/// What is true of a report.
struct Expected {
    causes: Vec<String>,
    words: Vec<String>,
    /// Words that must not be there.
    never: Vec<String>,
    /// The kernel does not live on after it.
    last: bool,
    /// Nor does it come to an end of removing the probes.
    stays: bool,
}

impl Expected {
    /// Reads a file of lines `cause: a|b`, `words: a|b`, `never: a`, `last:`, `stays:`. No cause (`cause:`) means that no mapping may
    /// be blamed.
    fn read(folder: &Path) -> Option<Self> {
        let name = folder.file_name()?.to_str()?;
        let mut expected = Self {
            causes: Vec::new(),
            words: Vec::new(),
            never: Vec::new(),
            last: false,
            stays: false,
        };
        if let Ok(text) = fs::read_to_string(folder.join("expect")) {
            for line in text.lines() {
                let (key, value) = line.split_once(':')?;
                let parts = value
                    .split('|')
                    .map(str::trim)
                    .filter(|part| !part.is_empty());
                match key {
                    "cause" => expected.causes.extend(parts.map(str::to_owned)),
                    "words" => expected.words.extend(parts.map(str::to_owned)),
                    "never" => expected.never.extend(parts.map(str::to_owned)),
                    "last" => expected.last = true,
                    "stays" => expected.stays = true,
                    _ => {}
                }
            }
            return Some(expected);
        }
        let truth = TRUTHS.iter().find(|truth| truth.report == name)?;
        expected.causes = truth.causes.iter().map(|&cause| cause.to_owned()).collect();
        expected.words = truth.words.iter().map(|&word| word.to_owned()).collect();
        expected.last = truth.words.contains(&"RIP:");
        Some(expected)
    }

    fn score(&self, diagnosis: &str) -> Score {
        let found = values(diagnosis, "cause");
        let severe = values(diagnosis, "severity").len();
        if self.causes.is_empty() {
            return if severe == 0 {
                Score::Right
            } else {
                Score::Wrong
            };
        }
        if found.is_empty() {
            return Score::Silent;
        }
        if !found
            .iter()
            .any(|cause| self.causes.iter().any(|known| known == cause))
        {
            return Score::Wrong;
        }
        if self
            .never
            .iter()
            .any(|word| diagnosis.contains(word.as_str()))
        {
            return Score::Wrong;
        }
        // A second cause beside the right one leads astray.
        let others = found
            .iter()
            .filter(|cause| !self.causes.iter().any(|known| known == *cause))
            .count();
        let all = self
            .words
            .iter()
            .all(|word| diagnosis.contains(word.as_str()));
        if all && others == 0 {
            Score::Right
        } else {
            Score::Partly
        }
    }
}

/// Gives each report of the folder to `mapbuf diagnose`; the exit status is that of a test.
pub fn run(hall: &str, verbose: bool) -> ExitCode {
    // Some reports are of drivers that kill their thread; the machine is to live on.
    let _ = fs::write("/proc/sys/kernel/panic_on_oops", "0");
    let mut reports: Vec<(PathBuf, Option<Expected>)> = fs::read_dir(hall)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .map(|path| {
            let expected = Expected::read(&path);
            (path, expected)
        })
        .collect();
    reports.sort_by_key(|(path, expected)| {
        let last = expected.as_ref().is_some_and(|expected| expected.last);
        let stays = expected.as_ref().is_some_and(|expected| expected.stays);
        (stays, last, path.clone())
    });
    let stays =
        |expected: &Option<Expected>| expected.as_ref().is_some_and(|expected| expected.stays);
    let mut doctor = None;
    let exhibits = exhibits();
    let mut lacking = BTreeSet::new();
    for (path, _) in &reports {
        if load_modules(modules_of(path)) {
            lacking.insert(path.clone());
        }
    }
    reports.retain(|(path, _)| path.join("prog").exists());
    let mut scores: BTreeMap<Score, Vec<String>> = BTreeMap::new();
    for (path, expected) in &reports {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if stays(expected) && doctor.is_none() {
            doctor = Some(ask_doctor());
        }
        let begun = Instant::now();
        let (score, diagnosis) = match lacking.contains(path) {
            true => (Score::Impossible, String::new()),
            false => one(path, expected.as_ref()),
        };
        let took = begun.elapsed().as_secs();
        println!(
            "{score:?} {name} ({took} s): {}",
            values(&diagnosis, "cause").join(", ")
        );
        if verbose {
            println!("{diagnosis}");
        }
        // Whoever reads tracefs would wait, too.
        let left = (!stays(expected)).then(nothing_is_left);
        if let Some(Err(left)) = left {
            println!("FAILED {name}: {left}");
            scores
                .entry(Score::Wrong)
                .or_default()
                .push(format!("{name} (left in tracefs)"));
        }
        scores.entry(score).or_default().push(name.into_owned());
    }
    let count = |score| scores.get(&score).map_or(0, Vec::len);
    let (right, partly, silent, wrong) = (
        count(Score::Right),
        count(Score::Partly),
        count(Score::Silent),
        count(Score::Wrong),
    );
    println!(
        "score on {}: right {right}, partly {partly}, silent {silent}, wrong {wrong}",
        fs::read_to_string("/proc/sys/kernel/osrelease")
            .unwrap_or_default()
            .trim()
    );
    let stayed = doctor.is_some();
    let doctor = doctor.unwrap_or_else(ask_doctor);
    match &doctor {
        Ok(()) => println!("doctor tells the driver apart from diagnose"),
        Err(why) => println!("FAILED doctor: {why}"),
    }
    let enough = right * 10 >= (right + partly + silent + wrong) * 9;
    ExitCode::from(u8::from(
        wrong > 0
            || !enough
            || !exhibits
            || doctor.is_err()
            || (!stayed && !instances().is_empty()),
    ))
}

/// There is no driver of mapbuf's here: diagnose needs none.
fn ask_doctor() -> Result<(), String> {
    let lines = [
        "the driver does not work here",
        "mapbuf diagnose works here",
    ];
    doctor_ends_with(7, &lines).and_then(|()| nothing_is_left())
}

/// Shows the exhibits, where they are in this guest: whether all were diagnosed.
fn exhibits() -> bool {
    let hall = Path::new(HALL);
    if !hall.exists() {
        return true;
    }
    let is_here = |name: &str| hall.join(format!("{name}.ko")).exists();
    let shown: Vec<_> = WRONG.iter().filter(|one| is_here(one.module())).collect();
    // Others stop the kernel, or need a device that is not here; the disk is for O_DIRECT.
    let wanted = shown.iter().map(|one| one.module()).chain(["brd"]);
    let wanted: BTreeSet<_> = wanted.map(|name| hall.join(format!("{name}.ko"))).collect();
    load_modules(wanted);
    let mut failed = 0;
    for exhibit in &shown {
        if let Err(why) = is_diagnosed(exhibit, &[]).and_then(|()| nothing_is_left()) {
            let why: Vec<_> = why.split_whitespace().collect();
            println!("FAILED exhibit {}: {}", exhibit.name, why.join(" "));
            failed += 1;
        }
    }
    println!(
        "exhibits: {} of {} are diagnosed",
        shown.len() - failed,
        shown.len()
    );
    failed == 0 && !shown.is_empty()
}

/// The modules of a folder; what others need comes first.
fn modules_of(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = files
        .map(|file| file.path())
        .filter(|file| file.extension().is_some_and(|extension| extension == "ko"))
        .collect();
    files.sort();
    files
}

/// Whether one of them uses a function that this kernel does not have.
fn load_modules(files: impl IntoIterator<Item = PathBuf>) -> bool {
    let mut lacks = false;
    for file in files {
        let output = Command::new("insmod").arg(&file).output();
        let said = output.map_or_else(
            |error| Some(error.to_string()),
            |output| {
                let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                (!output.status.success()).then_some(said)
            },
        );
        if let Some(said) = said {
            println!("note {}: insmod failed: {said}", file.display());
            lacks |= said.contains("nknown symbol");
        }
    }
    lacks
}

fn one(folder: &Path, expected: Option<&Expected>) -> (Score, String) {
    let program = folder.join("prog");
    let words = fs::read_to_string(folder.join("arguments")).unwrap_or_default();
    let program = program.to_string_lossy();
    let mut command = vec![program.as_ref()];
    command.extend(words.split_whitespace());
    match diagnose_with(&[], &command) {
        Ok((output, diagnosis)) if output.status.code() == Some(IMPOSSIBLE) => {
            (Score::Impossible, diagnosis)
        }
        Ok((_, diagnosis)) => (
            expected.map_or(Score::Unknown, |expected| expected.score(&diagnosis)),
            diagnosis,
        ),
        Err(why) => (Score::Wrong, why),
    }
}
