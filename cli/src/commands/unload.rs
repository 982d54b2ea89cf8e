//! `mapbuf unload`

use crate::{
    failure::Failure,
    holders::{self, Mapped},
    module,
    output::{self, OutputArgs},
};
use clap::Args as Group;
use mapbuf::{sysfs, Device};
use serde::Serialize;
use std::fmt;

/// Remove all names and unload the driver's module, unless a process holds any of it
///
/// Named buffers hold the module, so their names are removed first. If a process has a node or a dma-buf open, or a buffer
/// mapped, nothing is changed: the output names the processes, and the exit code is 5.
#[derive(Debug, Group)]
pub struct UnloadArgs {
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Serialize)]
struct Unloaded {
    removed: Vec<String>,
}

impl fmt::Display for Unloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.removed
            .iter()
            .try_for_each(|name| writeln!(f, "{name}: removed"))?;
        writeln!(f, "the driver is unloaded")
    }
}

pub fn run(args: &UnloadArgs) -> Result<(), Failure> {
    if !module::is_loaded() {
        return Err(Failure::NoModule("the driver is not loaded".to_owned()));
    }
    // Looked at before anything is removed: whoever cannot unload keeps the named buffers.
    let named = sysfs::list()?;
    let in_use = module::references().is_some_and(|references| references > named.len())
        || named
            .iter()
            .any(|entry| entry.mappings.is_some_and(|count| count > 0))
        || !holders::all(Mapped::Certainly).is_empty();
    if in_use {
        return Err(Failure::Held(holders::all(Mapped::Possibly)));
    }
    let mut removed = Vec::new();
    if !named.is_empty() {
        let device = Device::open()?;
        for entry in named {
            device.unname(&entry.name)?;
            removed.push(entry.name);
        }
    }
    match module::unload()? {
        true => output::answer(args.output, &Unloaded { removed }),
        false => Err(Failure::Held(holders::all(Mapped::Possibly))),
    }
}
