//! `mapbuf probe`

use crate::{
    failure::Failure,
    output::{self, OutputArgs},
};
use clap::Args as Group;
use mapbuf::{Access, Device, Named, ProbeOptions, Probed, RegionState, RegionType};
use serde::Serialize;
use std::fmt;

/// Look at a region: whether anything answers there
///
/// Reads some words of each page, and with --write also writes a pattern to each page, looks whether it stays, and puts
/// back what was there. Nothing but ones, or nothing but zeros, is suspect; a pattern that does not stay is proof.
///
/// A device's memory is not read unless you take the risk: a read can hang the bus, take data out of a queue, or clear a
/// status register. It is never written.
#[derive(Debug, Group)]
#[command(after_long_help = "Examples:
  mapbuf probe ring
  mapbuf probe --write ring
  mapbuf probe --risk registers")]
pub struct ProbeArgs {
    /// The region's name
    pub name: String,
    /// Write a pattern and put back what was there (memory only, and nobody may have it mapped)
    #[arg(long)]
    pub write: bool,
    /// Read a device's memory, knowing what that can do
    #[arg(long)]
    pub risk: bool,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Serialize)]
struct Report {
    name: String,
    state: &'static str,
    bad: bool,
    ones: u64,
    zeros: u64,
    others: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.name, self.state)?;
        writeln!(
            f,
            "  words read: {} of nothing but ones, {} of nothing but zeros, {} others",
            self.ones, self.zeros, self.others
        )?;
        match RegionState::from_name(self.state).and_then(advice) {
            Some(advice) => writeln!(f, "  {advice}"),
            None => Ok(()),
        }
    }
}

/// What to do about what was seen.
fn advice(state: RegionState) -> Option<&'static str> {
    match state {
        RegionState::ReadsOnes | RegionState::ReadsZeros => Some(
            "suspect: so reads a place at which nothing answers; memory is settled by 'mapbuf probe --write'",
        ),
        RegionState::Unbacked => Some(
            "nothing is behind it: look at the start and the size that it was declared with",
        ),
        _ => None,
    }
}

pub fn run(args: &ProbeArgs) -> Result<(), Failure> {
    let device = Device::open_with(mapbuf::abi::SYSTEM_NODE, Access::ReadOnly)?;
    let region = device
        .regions()?
        .into_iter()
        .find(|region| region.name == args.name);
    if args.risk && region.is_some_and(|region| region.class == RegionType::Mmio) {
        anstream::eprintln!(
            "mapbuf: reading the device memory of {}: if nothing answers, the machine may hang here; \
             a queue may lose what is read",
            args.name
        );
    }
    let mut options = ProbeOptions::new();
    if args.write {
        options = options.write();
    }
    if args.risk {
        options = options.risk();
    }
    let Probed {
        state,
        ones,
        zeros,
        others,
        ..
    } = options.probe(&Named::open(&args.name)?)?;
    output::answer(
        args.output,
        &Report {
            name: args.name.clone(),
            state: state.name(),
            bad: state.is_bad(),
            ones,
            zeros,
            others,
        },
    )
}
