//! `mapbuf remove`

use crate::{
    failure::Failure,
    output::{self, OutputArgs},
};
use clap::Args as Group;
use mapbuf::Device;
use serde::Serialize;
use std::fmt;

/// Remove named buffers
///
/// The nodes disappear at once. Programs that have one open or mapped keep the memory until they close or unmap it.
#[derive(Debug, Group)]
pub struct RemoveArgs {
    /// The names
    #[arg(required = true)]
    pub names: Vec<String>,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Serialize)]
struct Removed {
    removed: Vec<String>,
}

impl fmt::Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.removed
            .iter()
            .try_for_each(|name| writeln!(f, "{name}: removed"))
    }
}

pub fn run(args: &RemoveArgs) -> Result<(), Failure> {
    let device = Device::open()?;
    let mut removed = Vec::new();
    let mut failed = None;
    // One name that cannot be removed does not save the others; the first failure is the answer.
    for name in &args.names {
        match device.unname(name) {
            Ok(()) => removed.push(name.clone()),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    match failed {
        None => output::answer(args.output, &Removed { removed }),
        Some(source) => {
            if !args.output.json {
                output::print(&Removed {
                    removed: removed.clone(),
                })?;
            }
            let done = ("removed", removed);
            Err(Failure::Partly { done, source })
        }
    }
}
