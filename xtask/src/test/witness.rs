//! The witness: a boot whose guest maps in every way, while the host walks its page tables and reads its memory.
//!
//! The driver, the library and the program in the guest say what there should be; what there is, nobody in the guest
//! is asked. `mapbuf_guest::witness` has what both sides agree on, [`look`] what is looked for.

mod look;
mod promise;

use super::plan::Boot;
use super::progress::Line;
use super::Tally;
use crate::guest;
use crate::kit::Kit;
use crate::vm;
use anyhow::{bail, Context, Result};
use look::World;
use mapbuf_guest::witness::{
    all_cells, beacon, chosen, held, held_name, names, Cell, Message, Piece, Sight, DEVICE_BYTES,
    MACHINE_BYTES, MARK, MEMORIES, ONES_BYTES, RESERVED, RESERVED_BYTES,
};
use mapbuf_init::{Ending, Job};
use mapbuf_policy::plan::decide;
use mapbuf_vm::monitor::{self, Monitor};
use mapbuf_vm::pagetable::{Tables, PAT_LOGGED};
use mapbuf_vm::shared::SharedMemory;
use mapbuf_vm::{qemu, splat, Verdict};
use promise::Buffer;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The name for `--profile`.
pub const PROFILE: &str = "witness";

/// The result that says that cache modes were read as the guest's kernel means them.
const PAT: &str = "witness::cache-modes-are-numbered-as-known";

/// How long the guest may be about something else than the program, of its own time.
const PATIENCE: Duration = Duration::from_secs(30);

/// Failures that are printed; the log has all of them.
const PRINTED: usize = 30;

/// What is to be booted, if there are such tests.
pub fn plan<'a>(
    kit: &'a Kit,
    filter: &'a str,
    driver: Option<&'a Path>,
    logs: &'a Path,
) -> Result<Option<Boot<'a>>> {
    let mut wanted = names();
    wanted.push(PAT.to_owned());
    wanted.retain(|name| chosen(name, filter));
    if wanted.is_empty() {
        return Ok(None);
    }
    Ok(Some(Boot {
        name: PROFILE.to_owned(),
        purpose: "each way to map, as the guest's page tables and memory show it from outside",
        tests: wanted.len() as u64,
        memory: u32::try_from(MACHINE_BYTES >> 20)?,
        run: Box::new(move |line| run(kit, filter, &wanted, driver, logs, line)),
    }))
}

/// Boots the guest and looks.
fn run(
    kit: &Kit,
    filter: &str,
    wanted: &[String],
    driver: Option<&Path>,
    logs: &Path,
    line: &Line,
) -> Result<Tally> {
    let modules = kit.driver(driver)?;
    let program = guest::build(&["mapbuf-guest"], &kit.ui)?.join("mapbuf-witness");
    let mut guest = kit.guest(false)?;
    guest.program(&program)?;
    let mut job = Job {
        argv: vec!["mapbuf-witness".into()],
        unload: vec!["mapbuf".into()],
        ..Job::default()
    };
    if !filter.is_empty() {
        job.argv.push(filter.into());
    }
    for module in &modules {
        let path = guest.module(module)?;
        job.env.insert("MAPBUF_MODULE".into(), path);
    }

    let folder = tempfile::Builder::new()
        .prefix("mapbuf-witness-")
        .tempdir()?;
    let socket = folder.path().join("monitor");
    let ram = SharedMemory::new(MACHINE_BYTES)?;
    let device = SharedMemory::new(DEVICE_BYTES)?;
    let ones = SharedMemory::new(ONES_BYTES)?;
    ones.write(0, &[0xff; ONES_BYTES as usize])?;
    let mut machine = kit.machine();
    machine.memory = u32::try_from(MACHINE_BYTES >> 20)?;
    // The processor that spins for the host is the one whose registers it reads.
    machine.processors = 1;
    machine.append = vec![
        // The kernel's memory lies where it is said to lie, and one set of tables has both halves.
        "nokaslr".into(),
        "pti=off".into(),
        format!("memmap={RESERVED_BYTES:#x}${RESERVED:#x}"),
    ];
    machine.qemu_arguments = monitor::arguments(&socket).to_vec();
    let objects = [
        ("ram", &ram, false),
        ("shared", &device, false),
        ("ones", &ones, true),
    ];
    for (id, memory, readonly) in objects {
        machine
            .qemu_arguments
            .extend(["-object".into(), memory.object(id, readonly)]);
    }
    machine
        .qemu_arguments
        .extend(["-machine".into(), "memory-backend=ram".into()]);
    for id in ["shared", "ones"] {
        let device = format!("ivshmem-plain,memdev={id}");
        machine.qemu_arguments.extend(["-device".into(), device]);
    }

    let begun = Instant::now();
    let mut witness = Witness::new(World::new(ram, device), socket);
    let report = kit.boot(&machine, guest, &job, &mut |stream, bytes| {
        witness.take(stream, bytes);
        line.at(witness.complete, &witness.last);
    })?;
    witness.conclude(wanted, &report, begun.elapsed(), &logs.join("witness.log"))
}

/// The program in the guest, as it presented itself.
struct Program {
    beacon: u64,
    nonce: u64,
}

/// What was found about one result.
#[derive(Default)]
struct Finding {
    /// What was seen, for people.
    seen: Vec<String>,
    /// What should not be.
    wrong: Vec<String>,
    /// Nothing follows.
    complete: bool,
}

struct Witness {
    world: World,
    socket: PathBuf,
    monitor: Option<Monitor>,
    program: Option<Program>,
    pieces: Vec<Piece>,
    cells: BTreeMap<String, Cell>,
    findings: BTreeMap<String, Finding>,
    /// Of how many the last word is said, and of which one was the last.
    complete: u64,
    last: String,
    partial: Vec<u8>,
    text: String,
    broken: Option<String>,
    done: bool,
}

impl Witness {
    fn new(world: World, socket: PathBuf) -> Self {
        let mut cells: BTreeMap<_, _> = all_cells().map(|cell| (cell.name(), cell)).collect();
        for memory in MEMORIES {
            for &cache in memory.caches {
                cells.insert(held_name(memory, cache), held(memory, cache));
            }
        }
        Self {
            world,
            socket,
            monitor: None,
            program: None,
            pieces: Vec::new(),
            cells,
            findings: BTreeMap::new(),
            complete: 0,
            last: String::new(),
            partial: Vec::new(),
            text: String::new(),
            broken: None,
            done: false,
        }
    }

    /// Takes a piece of what the program prints.
    fn take(&mut self, stream: qemu::Stream, bytes: &[u8]) {
        if stream == qemu::Stream::Stderr {
            self.text.push_str(&String::from_utf8_lossy(bytes));
            return;
        }
        self.partial.extend_from_slice(bytes);
        while let Some(end) = self.partial.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line).into_owned();
            let Some(text) = line.strip_prefix(MARK) else {
                self.text.push_str(&line);
                continue;
            };
            let heard = serde_json::from_str(text)
                .context("the program's output was not understood")
                .and_then(|message| self.hear(message));
            if let Err(error) = heard {
                self.broken.get_or_insert(format!("{error:#}"));
            }
        }
    }

    fn hear(&mut self, message: Message) -> Result<()> {
        match message {
            Message::Ready {
                beacon,
                nonce,
                device,
            } => {
                self.program = Some(Program { beacon, nonce });
                self.world.place_device(device)?;
            }
            Message::Buffer { pieces } => self.pieces = pieces,
            Message::Look { test, look, sight } => self.look(&test, look, sight)?,
            Message::Refused { test, reason, text } => {
                let wrong = self.refusal(&test, reason, &text)?;
                self.count(&test);
                let finding = self.findings.entry(test).or_default();
                finding.seen.push(format!("refused: {text}"));
                finding.wrong.extend(wrong);
                finding.complete = true;
            }
            Message::Result { test, wrong } => {
                self.count(&test);
                let finding = self.findings.entry(test).or_default();
                finding.wrong.extend(wrong);
                finding.complete = true;
            }
            Message::Done => self.done = true,
        }
        Ok(())
    }

    fn count(&mut self, test: &str) {
        self.complete += 1;
        test.clone_into(&mut self.last);
    }

    /// What is wrong with a refusal: the table has another answer.
    fn refusal(&self, test: &str, reason: u32, text: &str) -> Result<Option<String>> {
        let cell = self.cells.get(test).context("a cell that nobody knows")?;
        if cell.must_map() {
            return Ok(Some(format!("it must map; but {text}")));
        }
        let buffer = Buffer::new(cell.memory, cell.cache, &self.pieces);
        Ok(match decide(&buffer, &buffer.request(cell)) {
            Ok(plan) => Some(format!("the table says {:?}; but {text}", plan.way)),
            Err(refusal) if refusal.reason.number() == reason => None,
            Err(refusal) => Some(format!(
                "the table says {}; but {text}",
                refusal.reason.name()
            )),
        })
    }

    /// Stops the guest while the program's page tables are in force, looks, answers, and lets it go on.
    fn look(&mut self, test: &str, look: u64, sight: Sight) -> Result<()> {
        let program = self.program.as_ref().context("no program is ready")?;
        let mut monitor = match self.monitor.take() {
            Some(monitor) => monitor,
            None => Monitor::connect(&self.socket)?,
        };
        let begun = monitor.time();
        loop {
            monitor.stop()?;
            let registers = monitor.registers()?;
            let tables = Tables::new(&self.world, registers.cr3, registers.cr4);
            if let Some(page) = find_program(&tables, &self.world, program, look) {
                let cell = self.cells.get(test);
                let seen = look::look(&tables, &self.world, test, cell, &self.pieces, look, sight)?;
                let finding = self.findings.entry(test.to_owned()).or_default();
                finding.seen.extend(seen.seen);
                finding.wrong.extend(seen.wrong);
                self.world.write(page + 8 * beacon::MADE as u64, look)?;
                monitor.go_on()?;
                break;
            }
            monitor.go_on_for_a_moment()?;
            if monitor.time() - begun > PATIENCE {
                bail!("{test}: the program's page tables are never in force");
            }
        }
        self.monitor = Some(monitor);
        Ok(())
    }

    /// Says what failed, and keeps the rest in a log.
    fn conclude(
        mut self,
        wanted: &[String],
        report: &qemu::Report,
        took: Duration,
        log: &Path,
    ) -> Result<Tally> {
        let known = report.log.iter().any(|line| line.contains(PAT_LOGGED));
        let pat = self.findings.entry(PAT.to_owned()).or_default();
        pat.complete = true;
        if !known {
            pat.wrong
                .push(format!("the kernel does not log {PAT_LOGGED}"));
        }
        let mut tally = Tally::default();
        let (mut mapped, mut refused) = (0, 0);
        let mut out = String::new();
        let mut text = format!("# What mapbuf-witness said\n{}\n# Results\n", self.text);
        for name in wanted {
            let finding = self.findings.remove(name).unwrap_or_default();
            let mut wrong = finding.wrong;
            if !finding.complete {
                wrong.push("the program did not finish".into());
            }
            let passed = wrong.is_empty();
            tally.add(Tally::one(passed));
            let line = if passed {
                format!("ok {name}")
            } else {
                format!("FAILED {name}: {}", wrong.join("; "))
            };
            if !passed && tally.failed as usize <= PRINTED {
                writeln!(out, "{PROFILE}: {line}")?;
            }
            writeln!(text, "{line}")?;
            for seen in &finding.seen {
                writeln!(text, "    {seen}")?;
            }
            if self.cells.contains_key(name) {
                match finding.seen.first() {
                    Some(seen) if seen.starts_with("refused") => refused += 1,
                    Some(_) => mapped += 1,
                    None => {}
                }
            }
        }
        let mut failures = Vec::new();
        failures.extend(self.broken.take());
        let well = report.program == Some(Ending::Exited(0)) && self.done;
        match &report.verdict {
            Verdict::Exited(0) if well => {}
            Verdict::Exited(0) => failures.push("the program did not do everything".into()),
            verdict => failures.push(verdict.to_string()),
        }
        for complaint in &report.complaints {
            failures.push(format!("guest: {complaint}"));
        }
        text.push_str("\n# The kernel's log\n");
        for line in &report.log {
            writeln!(text, "{line}")?;
        }
        write!(text, "\n# QEMU\n{}", report.qemu)?;
        fs::write(log, text)?;
        if !failures.is_empty() {
            tally.failed += 1;
        }
        for failure in &failures {
            writeln!(out, "{PROFILE}: FAILED: {failure}")?;
        }
        for line in self.text.lines().take(20) {
            writeln!(out, "    {line}")?;
        }
        for line in splat::excerpts(&report.log).iter().take(120) {
            writeln!(out, "    {line}")?;
        }
        if tally.failed > 0 {
            writeln!(out, "    (all of it: {})", log.display())?;
        }
        let boot = report.boot_time.map_or(0.0, |time| time.as_secs_f32());
        writeln!(
            out,
            "{PROFILE}: {} ok, {} not ({mapped} ways mapped and looked at, {refused} refused), in {:.0} s (boot {boot:.1} s)",
            tally.passed,
            tally.failed,
            took.as_secs_f32()
        )?;
        vm::to_own_streams(qemu::Stream::Stdout, out.as_bytes());
        Ok(tally)
    }
}

/// The physical address of the program's page, if these are the program's page tables and it waits for this look.
fn find_program(
    tables: &Tables<World>,
    world: &World,
    program: &Program,
    look: u64,
) -> Option<u64> {
    // Another program's tables may have anything at that address.
    let leaf = tables.at(program.beacon).ok()??;
    let page = leaf.translate(program.beacon);
    let word = |index: usize| world.word(page + 8 * index as u64).ok();
    let known = word(beacon::NONCE) == Some(program.nonce) && word(beacon::ASKED) == Some(look);
    known.then_some(page)
}
