//! The integration tests: what a user of the driver sees, asked of a real kernel.
//!
//! `mapbuf-test --profile NAME [FILTER]` prints `plan N`, then one line for each test
//! (`ok NAME`, `FAILED NAME: why`, `skipped NAME: why`; before it `note TEXT`, what people are told also when all is
//! well), then `N passed, N failed`. Each test runs in a process of
//! its own, with a deadline, and must leave nothing behind.

mod check;
mod disk;
mod drm;
mod foreign;
mod importer;
mod pci;
mod proc;
mod runner;
mod session;
mod sys;
mod tests;
mod v4l2;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut profile = None;
    let mut filter = None;
    let mut list = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--profile" => profile = arguments.next(),
            "--list" => list = true,
            other if filter.is_none() && !other.starts_with('-') => filter = Some(argument),
            _ => return usage(),
        }
    }
    let Some(profile) = profile.as_deref().and_then(mapbuf_guest::profile::find) else {
        return usage();
    };
    let filter = filter.unwrap_or_default();
    // FILTER is one or more parts of names, with commas between them.
    let chosen: Vec<_> = tests::all()
        .filter(|test| test.profiles.contains(&profile.name))
        .filter(|test| filter.split(',').any(|part| test.name().contains(part)))
        .collect();
    if list {
        for test in chosen {
            println!("{}", test.name());
        }
        return ExitCode::SUCCESS;
    }
    std::env::set_var(tests::reasons::PROFILE, profile.name);
    if !filter.is_empty() {
        // Some tests look at what all the others have met.
        std::env::set_var(tests::reasons::NOT_ALL, "1");
    }
    runner::run(&chosen)
}

fn usage() -> ExitCode {
    let names: Vec<_> = mapbuf_guest::PROFILES
        .iter()
        .map(|profile| profile.name)
        .collect();
    eprintln!(
        "usage: mapbuf-test --profile {} [--list] [FILTER[,FILTER]...]",
        names.join("|")
    );
    ExitCode::from(2)
}
