//! The importers: drivers that others wrote, which take mapbuf's buffers as dma-bufs. The debug kernel has them; for the
//! stock kernel the camera is built from its sources.

use super::plan::Boot;
use super::stock::{self, Choice, Programs};
use crate::kit::Kit;
use anyhow::Result;
use mapbuf_guest::profile::{IMPORTERS, IMPORTERS_AND_CARD};
use mapbuf_vm::{drivers, Variant};
use std::path::Path;

/// The name for `--profile`.
pub const PROFILE: &str = IMPORTERS.name;

/// What is to be booted, if there are such tests.
pub fn plan<'a>(kit: &'a Kit, choice: &'a Choice<'a>, logs: &'a Path) -> Result<Option<Boot<'a>>> {
    let stock = kit.kernel.identity.variant == Variant::Stock;
    let profile = if stock {
        &IMPORTERS
    } else {
        &IMPORTERS_AND_CARD
    };
    let programs = Programs::build(kit)?;
    let tests = programs.tests_of(profile, choice.filter)?;
    if tests == 0 {
        return Ok(None);
    }
    let mut kit = kit.clone();
    if stock {
        // They are built when there is something that takes them.
        kit.add_drivers(&drivers::CAMERA)?;
    }
    let modules = kit.driver(choice.driver)?;
    Ok(Some(Boot {
        name: PROFILE.to_owned(),
        purpose: profile.purpose,
        tests,
        memory: profile.memory_mib + kit.overhead(),
        run: Box::new(move |line| {
            stock::boot(&kit, &programs, profile, &modules, choice, logs, line)
        }),
    }))
}
