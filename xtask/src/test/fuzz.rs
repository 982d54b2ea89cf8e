//! The fuzzer as a test: the programs under tests/fuzz, and random ones that are the same every time.

use super::plan::Boot;
use super::stock::Results;
use crate::fuzz::{self, What};
use crate::kit::Kit;
use anyhow::{Context, Result};
use mapbuf_guest::Profile;
use mapbuf_vm::Variant;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The name for `--profile`.
pub const PROFILE: &str = "fuzz";

/// What is said of it; [`fuzz::boot`] knows the rest.
const BOOT: Profile = Profile {
    name: PROFILE,
    purpose: "programs that were kept, and random ones, with a model beside them",
    append: &[],
    memory_mib: 640,
    processors: 2,
    modules: &[],
    module_parameters: "",
    qemu_args: &[],
    quiet_seconds: 300,
    ..Profile::PLAIN
};

/// The random programs.
const RANDOM: &str = "fuzz::random";
const SEED: u64 = 20_261_121;
const OPS: u64 = 40_000;
/// Too few for every reason to come, and enough to see what these kernels have to say.
const OPS_IN_SLOW_KERNELS: u64 = 10_000;
/// Bytes that nobody has thought about.
const RAW: &str = "fuzz::raw";

/// What is to be booted, if something has such a name.
pub fn plan<'a>(
    kit: &'a Kit,
    filter: &str,
    driver: Option<&'a Path>,
    logs: &'a Path,
) -> Result<Option<Boot<'a>>> {
    let wanted = |name: &str| filter.split(',').any(|part| name.contains(part));
    let mut programs = kept()?;
    programs.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        wanted(&format!("replay::{name}"))
    });
    let ops = match kit.kernel.identity.variant {
        _ if !wanted(RANDOM) && !wanted(RAW) => 0,
        Variant::Stock => OPS,
        _ => OPS_IN_SLOW_KERNELS,
    };
    if programs.is_empty() && ops == 0 {
        return Ok(None);
    }
    // The random ones and the bytes are a test each.
    let tests = programs.len() as u64 + if ops > 0 { 2 } else { 0 };
    Ok(Some(Boot {
        name: PROFILE.to_owned(),
        purpose: BOOT.purpose,
        tests,
        memory: BOOT.memory_mib + kit.overhead(),
        run: Box::new(move |line| {
            let mut results = Results::default();
            let begun = Instant::now();
            let what = What::Test(SEED, ops, programs);
            let report = fuzz::boot(kit, &what, driver, &mut |stream, bytes| {
                results.take(stream, bytes);
                results.tell(line);
            })?;
            let rung = kit.kernel.identity.variant.name();
            let log = logs.join(format!("{rung}-fuzz.log"));
            results.conclude(rung, &BOOT, &report, begun.elapsed(), &log)
        }),
    }))
}

/// The programs that were kept.
fn kept() -> Result<Vec<PathBuf>> {
    let folder = crate::workspace()?.join("tests/fuzz");
    let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "txt"));
    files.sort();
    Ok(files)
}
