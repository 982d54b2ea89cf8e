//! The importers: drivers that others wrote, which take mapbuf's buffers as dma-bufs; in Debian's full kernel, or in the
//! debug kernel, which has them too.

use super::plan::Boot;
use super::stock::{self, Choice, Programs};
use crate::kit::Kit;
use anyhow::Result;
use mapbuf_guest::profile::IMPORTERS;
use mapbuf_vm::{Flavour, Variant};
use std::path::Path;

/// The name for `--profile`.
pub const PROFILE: &str = IMPORTERS.name;

/// What is to be booted, if there are such tests.
pub fn plan<'a>(kit: &'a Kit, choice: &'a Choice<'a>, logs: &'a Path) -> Result<Option<Boot<'a>>> {
    let programs = Programs::build(kit)?;
    let tests = programs.tests_of(&IMPORTERS, choice.filter)?;
    if tests == 0 {
        return Ok(None);
    }
    let kit = if kit.kernel.identity.variant == Variant::Stock {
        // The kernel is fetched when there is something to run in it.
        kit.with_flavour(Flavour::Full)?
    } else {
        kit.clone()
    };
    let modules = kit.driver(choice.driver)?;
    Ok(Some(Boot {
        name: PROFILE.to_owned(),
        purpose: IMPORTERS.purpose,
        tests,
        memory: IMPORTERS.memory_mib + kit.overhead(),
        run: Box::new(move |line| {
            stock::boot(&kit, &programs, &IMPORTERS, &modules, choice, logs, line)
        }),
    }))
}
