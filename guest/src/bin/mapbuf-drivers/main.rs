//! Tries the example drivers (`examples/drivers`): for each check a driver is loaded, used, and unloaded again.

mod checks;
mod subjects;
mod sys;

use checks::Check;
use std::fs;
use std::io::Read;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;
use subjects::Subject;

/// Where the modules lie.
const HALL: &str = "/drivers";

/// How long what ends with a system call may take to be seen.
pub fn grace() -> Duration {
    Duration::from_secs(3) * mapbuf_guest::patience()
}

/// Where the guest has an example's module.
pub fn module_path(module: &str) -> String {
    format!("{HALL}/{module}.ko")
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["--list", scope, filter] => {
            for (subject, check) in chosen(scope, filter) {
                println!("{}", name(subject, check));
            }
            ExitCode::SUCCESS
        }
        ["--one", subject, check] => one(subject, check),
        ["--visit", subject] => {
            let known = subjects::SUBJECTS.iter().find(|one| one.name == *subject);
            finish(known.map(checks::visit))
        }
        ["--all", scope, filter] => all(scope, filter),
        _ => {
            eprintln!("mapbuf-drivers --list|--all whole|short|older FILTER");
            ExitCode::from(2)
        }
    }
}

fn name(subject: &Subject, check: &Check) -> String {
    format!("drivers::{}::{}", subject.name, check.name)
}

/// The checks of a scope with such names: all of them; in a slow kernel those that touch memory that could be gone, or in
/// another state than it seems; in a kernel before 7.2 those that it can have.
fn chosen(scope: &str, filter: &str) -> Vec<(&'static Subject, &'static Check)> {
    let mut pairs = checks::pairs();
    pairs.retain(|(subject, check)| {
        let name = name(subject, check);
        let in_scope = match scope {
            "short" => checks::SHORT.contains(&check.name),
            "older" => subject.is_for_older() && !checks::OF_NEWER_KERNELS.contains(&check.name),
            _ => true,
        };
        in_scope && filter.split(',').any(|part| name.contains(part))
    });
    pairs
}

fn finish(outcome: Option<std::io::Result<()>>) -> ExitCode {
    match outcome {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(error)) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
        None => {
            eprintln!("no such driver or check");
            ExitCode::from(2)
        }
    }
}

/// Carries out one check, in this process.
fn one(subject: &str, check: &str) -> ExitCode {
    let pairs = checks::pairs();
    let pair = pairs
        .iter()
        .find(|pair| pair.0.name == subject && pair.1.name == check);
    finish(pair.map(|(subject, check)| (check.run)(subject)))
}

fn all(scope: &str, filter: &str) -> ExitCode {
    let chosen = chosen(scope, filter);
    println!("plan {}", chosen.len());
    // Pages on the lists of the processors count as used; small lists make MemFree a good witness. Where that cannot be
    // set, the check that looks at it says so.
    let _ = fs::write("/proc/sys/vm/percpu_pagelist_high_fraction", "1000000");
    let mut failed = 0;
    for (subject, check) in &chosen {
        let name = name(subject, check);
        match loaded(subject, check) {
            Ok(()) => println!("ok {name}"),
            Err(why) => {
                failed += 1;
                let why: Vec<_> = why.split_whitespace().collect();
                println!("FAILED {name}: {}", why.join(" "));
            }
        }
    }
    println!("{} passed, {failed} failed", chosen.len() - failed);
    ExitCode::from(u8::from(failed > 0))
}

/// Loads the driver, runs the check in a process of its own, and unloads the driver.
fn loaded(subject: &Subject, check: &Check) -> Result<(), String> {
    sys::load(&module_path(subject.module), subject.parameters)
        .map_err(|error| format!("insmod: {error}"))?;
    let outcome = in_process(subject, check);
    let mut last = None;
    let is_loaded = || fs::exists(format!("/sys/module/{}", subject.module)).unwrap_or(true);
    let unloaded = sys::until(grace(), || {
        // The check itself may have unloaded it.
        if !is_loaded() {
            return true;
        }
        last = sys::unload(subject.module).err();
        last.is_none()
    });
    outcome?;
    match last {
        Some(error) if !unloaded => Err(format!("rmmod: {error}")),
        _ if subject
            .path()
            .is_ok_and(|path| fs::exists(path).unwrap_or(true)) =>
        {
            Err("its node is still there".to_owned())
        }
        _ => Ok(()),
    }
}

fn in_process(subject: &Subject, check: &Check) -> Result<(), String> {
    let run = || -> std::io::Result<Result<(), String>> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--one", subject.name, check.name])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut said = String::new();
        if let Some(stderr) = &mut child.stderr {
            stderr.read_to_string(&mut said)?;
        }
        let status = child.wait()?;
        if status.success() {
            return Ok(Ok(()));
        }
        Ok(Err(format!("{status}: {said}")))
    };
    run().map_err(|error| error.to_string())?
}
