//! The stock rung and the debug rung: the integration tests in a kernel, one boot for each profile.

use super::plan::Boot;
use super::progress::Line;
use super::Tally;
use crate::guest::{self, EXAMPLES};
use crate::kit::Kit;
use crate::vm;
use anyhow::{bail, Context, Result};
use mapbuf_guest::profile::PER_ROUND;
use mapbuf_guest::{Profile, DEBUG_PROFILES, PROFILES, ROUNDS};
use mapbuf_init::{Ending, Job, LoadModule};
use mapbuf_vm::{device, device_tree, qemu, selftest, splat, Variant, Verdict};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What to run.
pub struct Choice<'a> {
    /// Parts of names, with commas between them.
    pub filter: &'a str,
    /// Names of profiles; none: all.
    pub profiles: &'a [String],
    /// The module's folder, if not the driver's.
    pub driver: Option<&'a Path>,
    /// Rounds of each pair of operations that race, if not as few as in a quick run.
    pub rounds: Option<u64>,
}

/// What is to be booted: a guest for each profile that has such tests.
pub fn plan<'a>(kit: &'a Kit, choice: &'a Choice<'a>, logs: &'a Path) -> Result<Vec<Boot<'a>>> {
    let variant = kit.kernel.identity.variant;
    let all: Vec<_> = DEBUG_PROFILES
        .iter()
        .filter(|_| variant.injects_faults())
        .chain(PROFILES)
        .filter(|profile| kit.overhead() == 0 || !profile.has_nodes())
        // The kernels that are built here have few modules.
        .filter(|profile| variant == Variant::Stock || has_modules(kit, profile))
        .filter(|profile| profile.device_tree.is_none() || device_tree::taken_by(&kit.kernel))
        .collect();
    for name in choice.profiles {
        if !all.iter().any(|profile| profile.name == name) {
            let names: Vec<_> = all.iter().map(|profile| profile.name).collect();
            bail!(
                "the {variant} kernel has no profile {name}; there are {}",
                names.join(", ")
            );
        }
    }
    let mut programs = Programs::build(kit)?;
    let mut profiles = Vec::new();
    for profile in all {
        let chosen =
            choice.profiles.is_empty() || choice.profiles.iter().any(|name| name == profile.name);
        let tests = programs.tests_of(profile, choice.filter)?;
        if chosen && tests > 0 {
            profiles.push((profile, tests));
        }
    }
    programs.checks.extend(guest::build_checks(&kit.ui)?);
    let price = programs.tests.with_file_name("mapbuf-price");
    programs.checks.push(("price", price));
    if profiles.iter().any(|(profile, _)| profile.name == "peers") {
        programs.checks.extend(selftests(kit)?);
    }
    let programs = Arc::new(programs);
    // Not by each guest: they would wait for one another.
    let mut built = [None, None];
    let mut boots = Vec::new();
    for name in profiles
        .iter()
        .flat_map(|(profile, _)| profile.test_modules)
    {
        kit.driver(Some(&test_module(name)?))?;
    }
    for (profile, tests) in profiles {
        let modules = &mut built[usize::from(profile.seams())];
        let modules: &Arc<Vec<PathBuf>> = match modules {
            Some(modules) => modules,
            None => modules.insert(Arc::new(kit.variant(choice.driver, profile.seams())?)),
        };
        let (modules, programs) = (Arc::clone(modules), Arc::clone(&programs));
        boots.push(Boot {
            name: profile.name.to_owned(),
            purpose: profile.purpose,
            tests,
            memory: profile.memory_mib + kit.overhead(),
            run: Box::new(move |line| boot(kit, &programs, profile, &modules, choice, logs, line)),
        });
    }
    Ok(boots)
}

/// The folder of a module of the tests' own.
pub(super) fn test_module(name: &str) -> Result<PathBuf> {
    Ok(crate::workspace()?.join("tests").join(name))
}

/// Whether the kernel has the modules that a profile loads.
fn has_modules(kit: &Kit, profile: &Profile) -> bool {
    let has = |name| kit.kernel.module_with_dependencies(name).is_ok();
    profile.modules.iter().all(|(name, _)| has(name))
}

/// What the guests are given.
pub(super) struct Programs {
    tests: PathBuf,
    command: PathBuf,
    /// Those that drive a device.
    drivers: [PathBuf; 2],
    examples: Vec<PathBuf>,
    /// More programs that tests start, and their names.
    checks: Vec<(&'static str, PathBuf)>,
}

impl Programs {
    /// Builds them.
    pub(super) fn build(kit: &Kit) -> Result<Self> {
        let built = guest::build(&["mapbuf-guest", "mapbuf-edu", "mapbuf-nvme"], &kit.ui)?;
        Ok(Self {
            tests: built.join("mapbuf-test"),
            drivers: ["edu", "nvme"].map(|name| built.join(name)),
            command: kit.command()?,
            examples: kit.examples()?,
            checks: Vec::new(),
        })
    }

    /// How many tests with such names a profile has: the program is static and can say so on the host.
    pub(super) fn tests_of(&self, profile: &Profile, filter: &str) -> Result<u64> {
        let mut command = Command::new(&self.tests);
        command.args(["--profile", profile.name, "--list"]);
        if !filter.is_empty() {
            command.arg(filter);
        }
        let output = command
            .output()
            .context("mapbuf-test could not be started")?;
        if !output.status.success() {
            bail!(
                "mapbuf-test --list failed:\n{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).lines().count() as u64)
    }
}

/// Boots the guest of a profile with the driver's module, and runs the profile's tests in it.
pub(super) fn boot(
    kit: &Kit,
    programs: &Programs,
    profile: &Profile,
    modules: &[PathBuf],
    choice: &Choice<'_>,
    logs: &Path,
    line: &Line,
) -> Result<Tally> {
    let mut guest = kit.guest(false)?;
    let mut job = Job {
        argv: vec![
            "mapbuf-test".into(),
            "--profile".into(),
            profile.name.into(),
        ],
        ..Job::default()
    };
    if !choice.filter.is_empty() {
        job.argv.push(choice.filter.into());
    }
    for (name, parameters) in profile.modules {
        kit.load_own(&mut guest, &mut job, name, parameters)?;
    }
    kit.load(&mut guest, &mut job, modules, profile.module_parameters)?;
    for name in profile.test_modules {
        for file in kit.driver(Some(&test_module(name)?))? {
            let path = guest.module(&file)?;
            let params = String::new();
            job.modules.push(LoadModule { path, params });
        }
        job.unload.push(format!("mapbuf_{name}"));
    }
    guest.program(&programs.command)?;
    guest.program(&programs.tests)?;
    if !profile.devices.is_empty() {
        for driver in &programs.drivers {
            guest.program(driver)?;
        }
    }
    for example in &programs.examples {
        guest.example(example)?;
    }
    for (name, check) in &programs.checks {
        guest.copy(check, &Path::new(EXAMPLES).join(name))?;
    }
    job.env
        .insert("MAPBUF_EXAMPLES".into(), EXAMPLES.to_string());
    if std::env::var_os("MAPBUF_TEST_TIMES").is_some() {
        job.env.insert("MAPBUF_TEST_TIMES".into(), "1".into());
    }
    kit.suit(&mut job);
    let mut quiet = Duration::from_secs(profile.quiet_seconds);
    if let Some(rounds) = choice.rounds {
        job.env
            .insert("MAPBUF_RACE_ROUNDS".into(), rounds.to_string());
        quiet += Duration::from_secs(rounds);
    }
    if let Some(rounds) = mapbuf_guest::rounds() {
        job.env.insert(ROUNDS.into(), rounds.to_string());
        quiet += PER_ROUND * rounds;
    }
    // The names of regions hold the module.
    if !profile.module_parameters.contains("regions=") {
        job.unload.push("mapbuf".into());
    }
    let mut machine = kit.machine();
    machine.memory = profile.memory_mib + kit.overhead();
    machine.processors = profile.processors;
    machine.append = profile.append.iter().map(|&word| word.to_owned()).collect();
    machine.qemu_arguments = profile
        .qemu_args
        .iter()
        .map(|&word| word.to_owned())
        .collect();
    machine.devices = device::parse(profile.devices)?;
    machine.iommu = profile.iommu;
    if let Some(source) = profile.device_tree {
        let (source, out) = (
            crate::workspace()?.join(source),
            crate::workspace()?.join("target/device-tree"),
        );
        machine.device_tree = Some(device_tree::compile(&kit.kernel, &source, &out)?);
    }
    machine.limits.quiet = Some(quiet * kit.patience());
    let begun = Instant::now();
    let mut results = Results::default();
    let report = kit.boot(&machine, guest, &job, &mut |stream, bytes| {
        results.take(stream, bytes);
        results.tell(line);
    })?;
    let variant = kit.kernel.identity.variant;
    let log = logs.join(format!("{variant}-{}.log", profile.name));
    results.conclude(variant.name(), profile, &report, begun.elapsed(), &log)
}

/// Builds the kernel's own selftests that are run; their names in the guest, and where they are.
fn selftests(kit: &Kit) -> Result<Vec<(&'static str, PathBuf)>> {
    let step = kit.ui.step("Building the kernel's own selftests", 0);
    let out = crate::workspace()?.join("target/selftests");
    let sources = ["mm/pfnmap.c", "mm/vm_util.c"];
    let pfnmap = selftest::build(&kit.kernel, "pfnmap", &sources, &out)?;
    let heaps = selftest::build(
        &kit.kernel,
        "dmabuf-heap",
        &["dmabuf-heaps/dmabuf-heap.c"],
        &out,
    )?;
    step.done();
    Ok(vec![("pfnmap", pfnmap), ("dmabuf-heap", heaps)])
}

/// What `mapbuf-test` has said.
#[derive(Debug, Default)]
pub(super) struct Results {
    text: String,
    partial: Vec<u8>,
    plan: Option<u64>,
    tally: Tally,
    closed: bool,
    /// The last test that has a result.
    last: String,
    remarks: Vec<String>,
}

impl Results {
    /// Takes what the program in the guest has written.
    pub(super) fn take(&mut self, stream: qemu::Stream, bytes: &[u8]) {
        if stream == qemu::Stream::Stderr {
            self.text.push_str(&String::from_utf8_lossy(bytes));
            return;
        }
        self.partial.extend_from_slice(bytes);
        while let Some(end) = self.partial.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            self.text.push_str(&line);
            self.line(line.trim_end());
        }
    }

    /// Says how far it is.
    pub(super) fn tell(&self, line: &Line) {
        line.at(self.seen(), &self.last);
    }

    /// How many tests have a result.
    fn seen(&self) -> u64 {
        self.tally.passed + self.tally.failed + self.tally.skipped
    }

    fn line(&mut self, line: &str) {
        let result = ["ok ", "FAILED ", "skipped "];
        if let Some(name) = result.iter().find_map(|word| line.strip_prefix(word)) {
            self.last = name.split(':').take(3).collect::<Vec<_>>().join(":");
        }
        if let Some(plan) = line.strip_prefix("plan ") {
            self.plan = plan.parse().ok();
        } else if line.starts_with("ok ") {
            self.tally.passed += 1;
        } else if line.starts_with("FAILED ") {
            self.tally.failed += 1;
            self.remarks.push(line.to_owned());
        } else if line.starts_with("skipped ") {
            self.tally.skipped += 1;
            self.remarks.push(line.to_owned());
        } else if line.starts_with("note ") {
            self.remarks.push(line.to_owned());
        } else if line.contains(" passed, ") && line.contains(" failed") {
            self.closed = true;
        }
    }

    /// Counts what was lost, says what is to be said, and keeps the rest in a log.
    pub(super) fn conclude(
        self,
        rung: &str,
        profile: &Profile,
        report: &qemu::Report,
        took: Duration,
        log: &Path,
    ) -> Result<Tally> {
        let (tally, text) = self.settle(rung, profile, report, took, log)?;
        vm::to_own_streams(qemu::Stream::Stdout, text.as_bytes());
        Ok(tally)
    }

    /// The numbers, and what is to be said.
    fn settle(
        mut self,
        rung: &str,
        profile: &Profile,
        report: &qemu::Report,
        took: Duration,
        log: &Path,
    ) -> Result<(Tally, String)> {
        let name = profile.name;
        let seen = self.seen();
        let expected_status = i32::from(self.tally.failed > 0);
        let mut failures = Vec::new();
        match self.plan {
            None => failures.push("the tests did not begin".to_owned()),
            Some(plan) if plan != seen => {
                failures.push(format!(
                    "{plan} tests were planned and {seen} gave a result"
                ));
                // Each that is missing is one that failed; the sentence stands for one of them.
                self.tally.failed += plan.saturating_sub(seen).saturating_sub(1);
            }
            Some(_) if !self.closed => {
                failures.push("the tests did not end as they should".to_owned())
            }
            Some(_) => {}
        }
        let program_well = report.program == Some(Ending::Exited(expected_status));
        match &report.verdict {
            Verdict::Exited(_) if program_well => {}
            // A failure of the kernel's is not undone by tests that passed.
            verdict => failures.push(verdict.to_string()),
        }
        failures.extend(
            report
                .complaints
                .iter()
                .map(|complaint| format!("guest: {complaint}")),
        );
        if let Some((count @ 1.., _)) = &report.leaks {
            failures.push(format!("kmemleak: {count} unreferenced objects"));
        }
        failures.dedup();
        let mut text = format!("# What mapbuf-test said\n{}", self.text);
        text.push_str("\n# The kernel's log\n");
        for line in &report.log {
            writeln!(text, "{line}")?;
        }
        if let Some((count, found)) = &report.leaks {
            write!(text, "\n# kmemleak: {count} unreferenced objects\n{found}")?;
        }
        if !report.qemu.is_empty() {
            write!(text, "\n# QEMU\n{}", report.qemu)?;
        }
        fs::write(log, text)?;
        let excerpts = splat::excerpts(&report.log);
        let mut out = String::new();
        for remark in &self.remarks {
            writeln!(out, "{name}: {remark}")?;
        }
        for failure in &failures {
            writeln!(out, "{name}: FAILED: {failure}")?;
        }
        for line in excerpts.iter().take(120) {
            writeln!(out, "    {line}")?;
        }
        if let Some((1.., found)) = &report.leaks {
            for line in found.lines().take(80) {
                writeln!(out, "    {line}")?;
            }
        }
        if !failures.is_empty() && excerpts.is_empty() {
            let from = report.log.len().saturating_sub(15);
            for line in report.log.get(from..).unwrap_or_default() {
                writeln!(out, "    {line}")?;
            }
        }
        if !failures.is_empty() {
            self.tally.failed += 1;
        }
        if self.tally.failed > 0 {
            writeln!(out, "    (all of it: {})", log.display())?;
        }
        let Tally {
            passed,
            failed,
            skipped,
        } = self.tally;
        let boot = report.boot_time.map_or(0.0, |time| time.as_secs_f32());
        let leaks = report
            .leaks
            .as_ref()
            .map_or_else(String::new, |(count, _)| {
                format!("; kmemleak: {count} unreferenced objects")
            });
        writeln!(
            out,
            "{rung} {name}: {passed} ok, {failed} not, {skipped} left out, in {:.0} s (boot {boot:.1} s){leaks}",
            took.as_secs_f32()
        )?;
        Ok((self.tally, out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(verdict: Verdict, program: Option<Ending>) -> qemu::Report {
        qemu::Report {
            verdict,
            program,
            log: vec!["[    0.000000] x".into()],
            complaints: Vec::new(),
            files: Vec::new(),
            leaks: None,
            qemu: String::new(),
            boot_time: None,
            reached_init: true,
        }
    }

    fn conclude(said: &str, verdict: Verdict, program: Option<Ending>) -> Tally {
        let mut results = Results::default();
        // In pieces, as they may arrive.
        for piece in said.as_bytes().chunks(7) {
            results.take(qemu::Stream::Stdout, piece);
        }
        let log = std::env::temp_dir().join(format!(
            "mapbuf-results-{}-{}",
            std::process::id(),
            said.len()
        ));
        let (tally, _) = results
            .settle(
                "stock",
                &PROFILES[0],
                &report(verdict, program),
                Duration::ZERO,
                &log,
            )
            .unwrap();
        fs::remove_file(log).unwrap();
        tally
    }

    const ALL_WELL: &str = "plan 2\nok a\nok b\n2 passed, 0 failed\n";

    #[test]
    fn only_a_whole_run_is_well() {
        let zero = Some(Ending::Exited(0));
        let well = conclude(ALL_WELL, Verdict::Exited(0), zero);
        assert_eq!((well.passed, well.failed), (2, 0));
        // A splat, a lost end, a wrong status, a short plan, silence from the first.
        assert_eq!(conclude(ALL_WELL, Verdict::Splat, zero).failed, 1);
        assert_eq!(
            conclude(ALL_WELL, Verdict::Exited(1), Some(Ending::Exited(1))).failed,
            1
        );
        assert_eq!(
            conclude("plan 2\nok a\nok b\n", Verdict::Exited(0), zero).failed,
            1
        );
        assert_eq!(
            conclude("plan 5\nok a\nok b\n", Verdict::Panic, None).failed,
            3
        );
        assert_eq!(conclude("", Verdict::Silent, None).failed, 1);
        assert_eq!(conclude("", Verdict::Exited(0), zero).failed, 1);
    }

    #[test]
    fn a_leak_is_a_failure() {
        let run = |leaks| {
            let mut results = Results::default();
            results.take(qemu::Stream::Stdout, ALL_WELL.as_bytes());
            let mut report = report(Verdict::Exited(0), Some(Ending::Exited(0)));
            report.leaks = leaks;
            let log = tempfile::NamedTempFile::new().unwrap();
            results
                .settle("debug", &PROFILES[0], &report, Duration::ZERO, log.path())
                .unwrap()
        };
        let (tally, said) = run(Some((0, String::new())));
        assert_eq!(tally.failed, 0);
        assert!(said.contains("kmemleak: 0 unreferenced objects"), "{said}");
        let (tally, said) = run(Some((2, "unreferenced object 0xffff".into())));
        assert_eq!(tally.failed, 1);
        assert!(said.contains("FAILED: kmemleak: 2 unreferenced"), "{said}");
        assert!(said.contains("    unreferenced object 0xffff"), "{said}");
    }

    #[test]
    fn failures_are_counted_once() {
        let said = "plan 3\nok a\nFAILED b: why\nskipped c: no\n1 passed, 1 failed, 1 skipped\n";
        let tally = conclude(said, Verdict::Exited(1), Some(Ending::Exited(1)));
        assert_eq!(
            tally,
            Tally {
                passed: 1,
                failed: 1,
                skipped: 1
            }
        );
    }
}
