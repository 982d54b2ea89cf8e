//! The module's load, with regions and without, and what can be asked of a region.

use super::sweep::{sweep, Answers, Count, Injection};
use crate::check::{Failure, Outcome};
use crate::session::Session;
use crate::sys::{self, Errno};
use crate::{check, skip};
use mapbuf_abi::{Operation, Reason};
use std::fs::File;
use std::path::Path;
use std::time::Duration;

tests! { "faults":
    FAULTS, 900: [
        regions_with_failing_memory,
        load_with_failing_memory,
    ];
}

/// In the range that the profile has set aside.
const REGION: &str = "regions=ring:0x30000000:64K:ram:probe";

fn module_file() -> Outcome<File> {
    let Some(path) = std::env::var_os("MAPBUF_MODULE") else {
        skip!("no module file is named");
    };
    Ok(File::open(path)?)
}

/// Loads the module with a region in the place of the one that is loaded.
fn with_region<T>(f: impl FnOnce(&File) -> Outcome<T>) -> Outcome<T> {
    let file = module_file()?;
    sys::unload_module("mapbuf")?;
    f(&file).and_then(|value| {
        sys::load_module(&file, "")?;
        Ok(value)
    })
}

/// Takes the region's name away, which holds the module, and then the module.
///
/// `device_add` does not look at what devtmpfs answers, so after a fault a node can be missing; one is enough.
fn unload() -> Outcome {
    let session = match Session::open() {
        Err(Errno(libc::ENOENT)) => Session::open_named("ring", true)?,
        session => session?,
    };
    let unknown = Some(Reason::NameUnknown.number());
    match session.unname("ring") {
        // A region that was refused has no name.
        Err(refused) if refused.said.map(|said| said.reason) == unknown => {}
        unnamed => unnamed?,
    }
    drop(session);
    let mut result = Ok(());
    sys::until(Duration::from_secs(3), || {
        result = sys::unload_module("mapbuf");
        result.is_ok()
    });
    Ok(result?)
}

fn regions_with_failing_memory() -> Outcome {
    with_region(|file| {
        sys::load_module(file, REGION)?;
        let result = ask();
        unload()?;
        result
    })
}

fn ask() -> Outcome {
    let session = Session::open()?;
    sweep(
        "REGION",
        Answers::Driver(Operation::Region),
        || Ok(()),
        |()| session.region(0),
        |(), _| Ok(()),
    )?;
    let node = Session::open_named("ring", true)?;
    sweep(
        "PROBE",
        Answers::Driver(Operation::Probe),
        || Ok(()),
        |()| node.probe(0, 0),
        |(), _| Ok(()),
    )
}

/// A module whose start fails at any point leaves nothing, and can be loaded afterwards. A region that could not be
/// registered is refused by itself.
fn load_with_failing_memory() -> Outcome {
    let mut injection = Injection::new()?;
    with_region(|file| {
        for (what, parameters) in [("load", ""), ("load with a region", REGION)] {
            let mut count = Count::default();
            loop {
                let nth = count.faults + 1;
                let (result, came) = injection.at(nth, || sys::load_module(file, parameters))?;
                match result {
                    Ok(()) if parameters.is_empty() => sys::unload_module("mapbuf")?,
                    Ok(()) => {
                        unload().map_err(|why| {
                            Failure::new(format!("{what}, chance {nth}: {why:?}"))
                        })?;
                    }
                    Err(_) => count.refusals += 1,
                }
                check!(
                    !Path::new("/dev/mapbuf").exists(),
                    "/dev/mapbuf is still there after chance {nth}"
                );
                if !came {
                    check!(result.is_ok(), "{what} fails without a fault");
                    break;
                }
                count.faults += 1;
            }
            check!(count.faults > 0, "{what}: nothing was injected");
            count.print(what);
        }
        Ok(())
    })
}
