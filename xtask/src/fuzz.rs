//! `cargo xtask fuzz`: random programs in a guest, with a model beside them.

use crate::guest;
use crate::kit::Kit;
use crate::vm;
use anyhow::{Context, Result};
use mapbuf_init::Job;
use mapbuf_vm::{device, qemu, Choice, Ui, Verdict};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Run random programs in the guest, and compare every answer with what a model says.
///
/// The same seed makes the same programs. A difference is made short and left in target/fuzz/found.txt; kept under
/// tests/fuzz/ it is run again by every `cargo xtask test`. The exit status is 0 when nothing differed.
#[derive(clap::Args)]
pub struct Arguments {
    /// How long [default: 60, or no end with --ops].
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// What the programs are made of [default: another one every time].
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// End after so many operations.
    #[arg(long, value_name = "N")]
    ops: Option<u64>,
    /// Throw bytes at the ioctls instead: structs that make no sense, that are not there, or that change meanwhile.
    #[arg(long, conflicts_with = "ops")]
    raw: bool,
    /// Run these programs instead.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seconds", "seed", "ops", "raw"])]
    replay: Vec<PathBuf>,
    /// Take the module from this folder instead of the driver's.
    #[arg(long, value_name = "DIR")]
    driver: Option<PathBuf>,
    /// Which kernel, as for `cargo xtask kernel`.
    #[arg(long, value_name = "KERNEL", default_value_t)]
    kernel: Choice,
}

/// The program in the guest, and where a program of steps is left there.
const PROGRAM: &str = "mapbuf-fuzz";
const FOUND: &str = "/tmp/found.txt";

/// Memory that is set aside, and the regions in it, which the model knows: `fuzz/src/model/region.rs`.
const RESERVED: &str = "memmap=1M$0x10000000";
const REGIONS: &str =
    "regions=region:0x10000000:64K:ram:probe,region-uc:0x10040000:32K:ram:uc:probe";

/// What to run.
pub enum What {
    /// Random programs: seed, seconds, operations.
    Random(u64, Option<u64>, Option<u64>),
    /// Programs that were kept.
    Replay(Vec<PathBuf>),
    /// Bytes: seed, seconds.
    Raw(u64, u64),
    /// Both, as tests: seed, operations (or 0), programs.
    Test(u64, u64, Vec<PathBuf>),
}

/// Runs the command.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    let ui = Ui::default();
    let kit = Kit::open(&ui, &arguments.kernel)?;
    let what = if arguments.replay.is_empty() {
        let seconds = match (arguments.seconds, arguments.ops) {
            (None, None) => Some(60),
            (seconds, _) => seconds,
        };
        let clock = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        let seed = arguments.seed.unwrap_or(clock.as_secs());
        match arguments.raw {
            true => What::Raw(seed, seconds.unwrap_or(60)),
            false => What::Random(seed, seconds, arguments.ops),
        }
    } else {
        What::Replay(arguments.replay.clone())
    };
    let driver = arguments.driver.as_deref();
    let report = boot(&kit, &what, driver, &mut vm::to_own_streams)?;
    vm::explain(&ui, &report, false);
    if let Some(Ok(found)) = report.files.first() {
        let folder = crate::workspace()?.join("target/fuzz");
        fs::create_dir_all(&folder)?;
        let path = folder.join("found.txt");
        fs::write(&path, found)?;
        ui.note(format!("The program is in {}.", path.display()));
    }
    Ok(vm::exit_code(match report.verdict {
        Verdict::Exited(status) => status,
        verdict => verdict.exit_code(),
    }))
}

/// Boots a guest and runs the fuzzer in it.
pub fn boot(
    kit: &Kit,
    what: &What,
    driver: Option<&Path>,
    take: &mut dyn FnMut(qemu::Stream, &[u8]),
) -> Result<qemu::Report> {
    let program = guest::build(&[PROGRAM], &kit.ui)?.join(PROGRAM);
    let modules = kit.driver(driver)?;
    let mut guest = kit.guest(false)?;
    let mut job = Job::default();
    let mut argument = |word: &str| job.argv.push(word.to_owned());
    argument(PROGRAM);
    let mut longest = 600;
    match what {
        What::Random(seed, seconds, ops) => {
            argument("random");
            let options = [
                ("--seed", Some(*seed)),
                ("--seconds", *seconds),
                ("--ops", *ops),
            ];
            for (name, value) in options {
                if let Some(value) = value {
                    argument(name);
                    argument(&value.to_string());
                }
            }
            // Booting, making a program shorter, and a slow machine.
            longest += seconds.map_or(24 * 3600, |seconds| 2 * seconds);
            job.fetch.push(FOUND.into());
        }
        What::Raw(seed, seconds) => {
            argument("raw");
            argument(&seed.to_string());
            argument(&seconds.to_string());
            longest += 2 * seconds;
        }
        What::Replay(files) | What::Test(_, _, files) => {
            match what {
                What::Test(seed, ops, _) => {
                    argument("test");
                    argument(&seed.to_string());
                    argument(&ops.to_string());
                }
                _ => argument("replay"),
            }
            for file in files {
                let name = file.file_name().context("a program without a name")?;
                let path = Path::new("/fuzz").join(name);
                guest.copy(file, &path)?;
                job.argv.push(path.to_string_lossy().into_owned());
            }
        }
    }
    kit.load(&mut guest, &mut job, &modules, REGIONS)?;
    kit.suit(&mut job);
    guest.program(&program)?;
    job.unload.push("mapbuf".into());
    let mut machine = kit.machine();
    // The kernel must not zero pages by itself, so that a driver which forgets to is seen; little memory, so that a
    // page which was freed comes back soon.
    machine.append = ["init_on_alloc=0", "init_on_free=0", RESERVED]
        .map(Into::into)
        .to_vec();
    machine.memory = 640 + kit.overhead();
    // One for programs, and one for the bytes that are thrown at its node.
    machine.devices = device::parse(&["nvme,cmb_size_mb=1", "edu"])?;
    // A thread that races needs a processor of its own.
    machine.processors = if matches!(what, What::Raw(..) | What::Test(..)) {
        2
    } else {
        1
    };
    machine.limits.timeout = Some(Duration::from_secs(longest) * kit.patience());
    kit.boot(&machine, guest, &job, take)
}
