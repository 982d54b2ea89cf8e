//! The fuzzer that runs in the guest: makes programs, runs them, and compares every answer with the model's.
//!
//! `mapbuf-fuzz random --seed S [--seconds N] [--ops N]` makes programs until the time is up or the number is reached;
//! `mapbuf-fuzz replay FILE...` runs programs that were kept;
//! `mapbuf-fuzz raw SEED SECONDS` throws bytes at the ioctls;
//! `mapbuf-fuzz test SEED OPS FILE...` does both as tests, with a plan and a result for each (no OPS: the files alone).

mod board;
mod device;
mod execute;
mod memory;
mod pages;
mod raw;
mod run;
mod sys;

use device::Device;
use execute::Executor;
use mapbuf_abi::{Cache, NAMED_DIR, SYSTEM_NODE};
use mapbuf_fuzz::model::declared::{self, REGIONS};
use mapbuf_fuzz::model::memory::LIMITS;
use mapbuf_fuzz::model::{Seen, World};
use mapbuf_fuzz::op::{self, Damage, Id, Op, Step};
use mapbuf_fuzz::tally::Tally;
use mapbuf_fuzz::{generate, shrink};
use run::{End, Runner};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Steps in a program.
const STEPS: usize = 1500;
/// How often the fuzzer says where it is.
const SAY: Duration = Duration::from_secs(10);
/// How long a step may take before the guest is said to hang: emulation is slow, and its machine is shared.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often a program is run to make it shorter.
const TRIES: usize = 600;
/// Rounds of the raw fuzzer in a test.
const RAW_ROUNDS: u32 = 12;
/// From so many operations on, each operation and each reason must have come.
const MANY: u64 = 20_000;
/// Where a program is left that shows a difference.
const FOUND: &str = "/tmp/found.txt";

type Error = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match command() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("mapbuf-fuzz: {error}");
            ExitCode::from(2)
        }
    }
}

fn command() -> Result<bool, Error> {
    let mut arguments = std::env::args().skip(1);
    let mode = arguments.next().unwrap_or_default();
    let mut fuzzer = Fuzzer::new()?;
    let well = match mode.as_str() {
        "random" => {
            let (mut seed, mut seconds, mut ops) = (1, None, None);
            while let Some(word) = arguments.next() {
                let value = arguments.next().ok_or("an option without a value")?;
                let number: u64 = value.parse()?;
                match word.as_str() {
                    "--seed" => seed = number,
                    "--seconds" => seconds = Some(number),
                    "--ops" => ops = Some(number),
                    _ => return Err(format!("no option {word}").into()),
                }
            }
            fuzzer.random(seed, seconds, ops)
        }
        "replay" => fuzzer.replay(&arguments.collect::<Vec<_>>()),
        "raw" => {
            let mut number = || arguments.next().unwrap_or_default().parse::<u64>();
            let (seed, seconds) = (number()?, number()?);
            fuzzer.raw(seed, Duration::from_secs(seconds), u32::MAX)
        }
        "test" => {
            let mut number = || arguments.next().unwrap_or_default().parse::<u64>();
            let (seed, ops) = (number()?, number()?);
            fuzzer.test(seed, ops, &arguments.collect::<Vec<_>>())
        }
        _ => Err("say random, replay, raw or test".into()),
    };
    for device in [Device::nvme().cloned(), Device::edu()].iter().flatten() {
        let _ = device.unbind();
    }
    // Regions that have names hold the module.
    if let Some(mut own) = with_a_session() {
        take_away(&mut own, REGIONS.iter().map(|region| region.name));
    }
    well
}

/// What does not agree.
struct Difference {
    /// The step; none when it was seen after the last.
    at: Option<usize>,
    /// What stays the same when the program gets shorter.
    mark: String,
    /// What is to be said.
    text: String,
}

/// Fills the regions with zeros: what is in them outlives a program.
fn clear_regions() -> Result<(), Error> {
    for region in REGIONS {
        let path = op::node(region.name);
        let node = fs::OpenOptions::new().write(true).open(&path);
        let zeros = vec![0; region.pages as usize * op::PAGE];
        node.and_then(|mut node| node.write_all(&zeros))
            .map_err(|error| format!("{path}: {error}"))?;
    }
    Ok(())
}

/// The same for these pages of the device's memory.
fn clear_bar(pages: impl IntoIterator<Item = u64>) -> Result<(), Error> {
    let mut own = with_a_session().ok_or("the node cannot be opened")?;
    own.execute(&Op::OpenDevice { to: 0, access: 2 });
    let shown = own.execute(&Op::Bar {
        file: 0,
        to: 0,
        index: declared::BAR,
        cache: Cache::Uncached.number(),
        width: 64,
        id: Id::Number(0),
        damage: Damage::No,
    });
    let [_, bytes, offset, ..] = shown.values;
    let page = op::PAGE as u64;
    let mut well = bytes == declared::BAR_PAGES * page;
    for number in pages {
        well &= own.clear(0, offset + number * page, page) == Ok(op::PAGE);
    }
    own.execute(&Op::Close { file: 0 });
    match well {
        true => Ok(()),
        false => Err(format!("the memory of the device cannot be cleared: {shown}").into()),
    }
}

/// What the driver counts beyond what there is when nothing is open, if this kernel tells.
fn counted() -> Option<String> {
    let most = [
        ("ids", 0),
        ("offsets", 0),
        ("attachments", 0),
        ("device_mappings", 0),
        ("names", REGIONS.len() as u64),
        // The one that is bound now, or none.
        ("devices", 1),
    ];
    most.iter().find_map(|(name, most)| {
        let path = format!("/sys/kernel/debug/mapbuf/{name}");
        let count: u64 = fs::read_to_string(path).ok()?.trim().parse().ok()?;
        (count > *most).then(|| format!("when everything was closed, {count} {name} were left"))
    })
}

/// What works for the fuzzer itself, with a session in place 0.
fn with_a_session() -> Option<Executor> {
    let mail = execute::Mail {
        sockets: Default::default(),
        foreign: -1,
        events: Default::default(),
    };
    let mut own = Executor::new(0, mail).ok()?;
    let opened = own.execute(&Op::Open { to: 0, access: 2 });
    opened.succeeded().then_some(own)
}

/// Takes names away, those that there are.
fn take_away(own: &mut Executor, names: impl IntoIterator<Item = u8>) {
    for name in names {
        own.execute(&Op::Unname {
            file: 0,
            name,
            damage: Damage::No,
        });
    }
}

struct Fuzzer {
    runner: Runner,
    tally: Tally,
    log: Option<fs::File>,
    /// Pages of the device's memory that are not zero.
    written: Vec<u64>,
}

impl Fuzzer {
    fn new() -> Result<Self, Error> {
        memory::catch_faults();
        sys::adopt_orphans();
        // Everybody may open it; who may do what then is the driver's business.
        fs::set_permissions(SYSTEM_NODE, fs::Permissions::from_mode(0o666))?;
        for (name, value) in [
            ("max_bytes", LIMITS.all),
            ("max_bytes_per_user", LIMITS.user),
            ("max_buffers", LIMITS.buffers),
            ("max_names", LIMITS.names as u64),
        ] {
            let path = format!("/sys/module/mapbuf/parameters/{name}");
            fs::write(&path, value.to_string()).map_err(|error| format!("{path}: {error}"))?;
        }
        let log = fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/kmsg");
        let runner = Runner::new(PATIENCE).map_err(|errno| format!("errno {errno}"))?;
        let mut fuzzer = Self {
            runner,
            tally: Tally::default(),
            log: log.ok(),
            written: (0..declared::BAR_PAGES).collect(),
        };
        fuzzer.complaint();
        Ok(fuzzer)
    }

    /// Runs a program and compares.
    fn try_program(&mut self, steps: &[Step], count: bool) -> Result<Option<Difference>, Error> {
        let steps = steps.get(..board::STEPS).unwrap_or(steps);
        clear_regions()?;
        let device = Device::nvme().ok_or("there is no nvme")?;
        device
            .renew()
            .map_err(|errno| format!("{}: errno {errno}", device.node()))?;
        // Unless the model knows better, all of it may have been written to.
        clear_bar(std::mem::replace(
            &mut self.written,
            (0..declared::BAR_PAGES).collect(),
        ))?;
        let end = self.runner.run(steps);
        let end = end.map_err(|errno| format!("the processes: errno {errno}"))?;
        let done = match &end {
            End::Finished => steps.len(),
            End::Died(at, _) | End::Silent(at) => *at,
        };
        let mut world = World::new();
        let mut found = None;
        for (at, step) in steps.iter().enumerate().take(done) {
            let (answer, runs) = self.runner.answer(at);
            let seen = Seen {
                answer: &answer,
                runs: &runs,
            };
            let wanted = world.step(step, Some(seen));
            if count {
                self.tally.count(&step.op, &answer);
            }
            if wanted != answer {
                found = Some(Difference {
                    at: Some(at),
                    mark: step.op.name().into(),
                    text: format!("step {at}: {step}\n  kernel: {answer}\n  model:  {wanted}"),
                });
                break;
            }
        }
        if found.is_none() && matches!(end, End::Finished) {
            self.written = world.written_bar();
        }
        // What nobody refers to any more is not there in the kernel either.
        drop(world);
        let left = self.clean_up();
        if found.is_some() {
            // The rest is the follow of it.
            self.complaint();
            return Ok(found);
        }
        Ok(match (end, self.complaint()) {
            (_, Some(line)) => Some(Difference {
                at: None,
                mark: "complaint".into(),
                text: format!("the kernel says: {line}"),
            }),
            (End::Died(at, how), None) => Some(Difference {
                at: Some(at),
                mark: "death".into(),
                text: format!("step {at}: {how}"),
            }),
            (End::Silent(at), None) => Some(Difference {
                at: Some(at),
                mark: "silence".into(),
                text: format!("step {at} does not end"),
            }),
            (End::Finished, None) => left.map(|left| Difference {
                at: None,
                mark: "left".into(),
                text: left,
            }),
        })
    }

    /// Takes all names away but those of regions; says what is left when all processes and names are gone.
    fn clean_up(&mut self) -> Option<String> {
        let Some(mut own) = with_a_session() else {
            return Some("the node cannot be opened any more".into());
        };
        let damage = Damage::No;
        if fs::read_dir(NAMED_DIR).is_ok_and(|folder| folder.count() > REGIONS.len()) {
            take_away(&mut own, 0..op::NAMES);
        }
        let answer = own.execute(&Op::Query { file: 0, damage });
        own.execute(&Op::Close { file: 0 });
        let [.., used, _, buffers, _] = answer.values;
        if let Some(left) = counted() {
            return Some(left);
        }
        (!answer.succeeded() || used != 0 || buffers != REGIONS.len() as u64).then(|| {
            format!("when everything was closed, {buffers} buffers with {used} bytes were left, regions among them")
        })
    }

    /// The first new line of the kernel's log that is a complaint.
    fn complaint(&mut self) -> Option<String> {
        const BAD: &[&str] = &[
            "BUG:",
            "WARNING:",
            "Oops",
            "KASAN",
            "UBSAN",
            "refcount_t",
            "Bad page",
            "Call Trace",
            "hung task",
            "page allocation failure",
            "Out of memory",
        ];
        let log = self.log.as_mut()?;
        let mut first = None;
        let mut record = [0; 8192];
        loop {
            match log.read(&mut record) {
                Ok(0) => return first,
                Ok(count) => {
                    let text = String::from_utf8_lossy(record.get(..count).unwrap_or_default());
                    let line = text.lines().next().unwrap_or_default();
                    let line = line.split_once(';').map_or(line, |(_, line)| line);
                    if first.is_none() && BAD.iter().any(|bad| line.contains(bad)) {
                        first = Some(line.to_owned());
                    }
                }
                // The ring was overrun: there is more.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                Err(_) => return first,
            }
        }
    }

    /// Makes a program shorter as long as it shows the same.
    fn shorten(&mut self, steps: &[Step], found: &Difference) -> Vec<Step> {
        let shown = found.at.map_or(steps.len(), |at| (at + 1).min(steps.len()));
        let steps = steps.get(..shown).unwrap_or(steps);
        let begun = Instant::now();
        shrink::shrink(steps, TRIES, |candidate| {
            let same = |other: &Difference| other.mark == found.mark;
            begun.elapsed() < Duration::from_secs(120)
                && matches!(self.try_program(candidate, false), Ok(Some(other)) if same(&other))
        })
    }

    fn report(&mut self, title: &str, steps: &[Step], found: &Difference) -> Result<(), Error> {
        println!("DIFFERENCE in {title}\n{}", found.text);
        println!("making the program of {} steps shorter ...", steps.len());
        let short = self.shorten(steps, found);
        let (short, found) = match self.try_program(&short, false)? {
            Some(found) => (short, found.text),
            None => (steps.to_vec(), format!("{} (not seen again)", found.text)),
        };
        let mut text = format!("# {title}\n");
        for line in found.lines() {
            text.push_str(&format!("# {line}\n"));
        }
        text.push_str(&op::print(&short));
        println!("--- {} steps show it:\n{text}---", short.len());
        fs::write(FOUND, text)?;
        Ok(())
    }

    fn random(&mut self, seed: u64, seconds: Option<u64>, ops: Option<u64>) -> Result<bool, Error> {
        println!("seed {seed}");
        let begun = Instant::now();
        let mut said = begun;
        let mut programs = 0;
        let going = |tally: &Tally| {
            seconds.is_none_or(|seconds| begun.elapsed() < Duration::from_secs(seconds))
                && ops.is_none_or(|ops| tally.tried() < ops)
        };
        while going(&self.tally) {
            let own = seed.wrapping_mul(1_000_003).wrapping_add(programs);
            let steps = generate::program(own, STEPS);
            if let Some(found) = self.try_program(&steps, true)? {
                let title = format!("seed {seed}, program {programs}");
                println!("after {:.1} s", begun.elapsed().as_secs_f32());
                self.report(&title, &steps, &found)?;
                return Ok(false);
            }
            programs += 1;
            if said.elapsed() >= SAY {
                said = Instant::now();
                self.progress(begun, programs);
            }
        }
        self.progress(begun, programs);
        print!("{}", self.tally);
        Ok(self.judge())
    }

    fn progress(&self, begun: Instant, programs: u64) {
        let (took, tried) = (begun.elapsed().as_secs_f64(), self.tally.tried());
        println!(
            "{took:.0} s: {programs} programs, {tried} operations, {:.0} % well, {:.0} in a second",
            self.tally.share_of_successes() * 100.0,
            tried as f64 / took
        );
        let _ = std::io::stdout().flush();
    }

    fn judge(&self) -> bool {
        let missing = self.tally.missing();
        let few = self.tally.tried() < MANY;
        if few && !missing.is_empty() {
            println!("not seen in this short run: {}", missing.join(", "));
        } else if !missing.is_empty() {
            println!("FAILED: never seen: {}", missing.join(", "));
            return false;
        }
        if self.tally.share_of_successes() < 0.3 {
            println!("FAILED: less than 30 % of the operations came out well");
            return false;
        }
        println!("no difference between the kernel and the model");
        true
    }

    fn raw(&mut self, seed: u64, time: Duration, rounds: u32) -> Result<bool, Error> {
        println!("seed {seed}");
        let result = raw::Raw::new(seed)?.run(time, rounds);
        let left = self.clean_up();
        let complaint = self.complaint();
        let found = result.err().or(left).or(complaint);
        match &found {
            Some(what) => println!("FAILED {what}"),
            None => println!("nothing found"),
        }
        Ok(found.is_none())
    }

    fn test(&mut self, seed: u64, ops: u64, files: &[String]) -> Result<bool, Error> {
        // The raw fuzzer's threads would not be in the processes that the other one forks: it comes last.
        let all = files.len() + if ops > 0 { 2 } else { 0 };
        println!("plan {all}");
        let mut failed = 0;
        for file in files {
            failed += usize::from(!self.replay(std::slice::from_ref(file))?);
        }
        if ops > 0 {
            self.tally = Tally::default();
            let well = self.random(seed, None, Some(ops))?;
            let verdict = if well { "ok" } else { "FAILED" };
            println!("{verdict} fuzz::random: seed {seed}, {ops} operations");
            failed += usize::from(!well);
            let well = self.raw(seed, PATIENCE, RAW_ROUNDS)?;
            let verdict = if well { "ok" } else { "FAILED" };
            println!("{verdict} fuzz::raw: seed {seed}");
            failed += usize::from(!well);
        }
        println!("{} passed, {failed} failed", all - failed);
        Ok(failed == 0)
    }

    fn replay(&mut self, files: &[String]) -> Result<bool, Error> {
        let mut well = true;
        for file in files {
            let steps = op::parse(&fs::read_to_string(file)?)?;
            let name = file.rsplit('/').next().unwrap_or(file);
            match self.try_program(&steps, true)? {
                None => println!("ok replay::{name}"),
                Some(found) => {
                    well = false;
                    println!("FAILED replay::{name}: {}", found.text.replace('\n', "; "));
                }
            }
        }
        Ok(well)
    }
}
