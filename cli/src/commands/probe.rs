//! `mapbuf probe`

use crate::{
    failure::Failure,
    output::{self, OutputArgs},
};
use clap::Args as Group;
use mapbuf::{Access, Device, Named, ProbeOptions, Probed, RegionState, RegionType};
use serde::Serialize;
use std::fmt;

/// Check whether anything answers in a region
///
/// Reads some words of each page. With --write it also writes a pattern to each page, checks that it stays, and restores
/// the old contents. All ones or all zeros are suspect; a pattern that does not stay is proof.
///
/// Device memory is only read with --risk: a read can hang the bus, take data out of a FIFO, or clear a status register.
/// It is never written.
#[derive(Debug, Group)]
#[command(after_long_help = "Examples:
  mapbuf probe ring
  mapbuf probe --write ring
  mapbuf probe --risk registers")]
pub struct ProbeArgs {
    /// The region's name
    pub name: String,
    /// Write a pattern and restore the old contents (memory only, and only while it is not mapped)
    #[arg(long)]
    pub write: bool,
    /// Read device memory, accepting what that can do
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
            "  words read: {} all ones, {} all zeros, {} others",
            self.ones, self.zeros, self.others
        )?;
        match RegionState::from_name(self.state).and_then(advice) {
            Some(advice) => writeln!(f, "  {advice}"),
            None => Ok(()),
        }
    }
}

/// What to do about the result.
fn advice(state: RegionState) -> Option<&'static str> {
    match state {
        RegionState::ReadsOnes | RegionState::ReadsZeros => Some(
            "suspect: an address at which nothing answers reads like this; 'mapbuf probe --write' tells, if it is memory",
        ),
        RegionState::Unbacked => Some(
            "there is no memory behind it: check the declared start address and size",
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
