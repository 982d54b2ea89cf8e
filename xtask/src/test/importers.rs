//! The importers: drivers that others wrote, which take mapbuf's buffers as dma-bufs; in Debian's full kernel, or in the
//! debug kernel, which has them too.

use super::slots::Slots;
use super::stock::{self, Choice, Programs};
use super::Tally;
use crate::kit::Kit;
use anyhow::Result;
use mapbuf_guest::profile::IMPORTERS;
use mapbuf_vm::{Flavour, Variant};
use std::path::Path;

/// The name for `--profile`.
pub const PROFILE: &str = IMPORTERS.name;

/// Boots the guest and runs the tests of the profile.
pub fn run(kit: &Kit, choice: &Choice<'_>, slots: &Slots, logs: &Path) -> Result<Tally> {
    let programs = Programs::build(kit)?;
    if !programs.has_tests(&IMPORTERS, choice.filter)? {
        return Ok(Tally::default());
    }
    let _slot = slots.take(IMPORTERS.memory_mib + kit.overhead());
    let full;
    let kit = if kit.kernel.identity.variant == Variant::Stock {
        // The kernel is fetched when there is something to run in it.
        full = kit.with_flavour(Flavour::Full)?;
        &full
    } else {
        kit
    };
    let modules = kit.driver(choice.driver)?;
    kit.ui.note("importers: booting the guest");
    stock::boot(kit, &programs, &IMPORTERS, &modules, choice, logs)
}
