//! The kit's own guests: one that has nothing to do is given up soon, and one that a busy host makes slow is not.

use super::plan::{self, Boot};
use crate::kit::Kit;
use anyhow::{bail, ensure, Result};
use mapbuf_init::Job;
use mapbuf_vm::{qemu, Machine, Verdict};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The name for `--profile`.
pub const PROFILE: &str = "patience";

const MEMORY_MIB: u32 = 512;

/// How long the first one may be idle, and how much longer the kit may take to see it: it looks at spans of five seconds.
const IDLE: Duration = Duration::from_secs(10);
const NOTICED: Duration = Duration::from_secs(15);

/// How much time of its own the second one has in all, and when it ends by the clock.
const OWN: Duration = Duration::from_secs(16);
const ENDS: Duration = Duration::from_secs(20);

type Test = fn(&Kit) -> Result<()>;

const TESTS: [(&str, Test); 2] = [
    ("patience::idle_guest_is_given_up", idle_guest_is_given_up),
    (
        "patience::slow_guest_is_left_alone",
        slow_guest_is_left_alone,
    ),
];

/// What is to be booted, if there are such tests: a guest for each, one after the other.
pub fn plan<'a>(kit: &'a Kit, filter: &str) -> Option<Boot<'a>> {
    let chosen = plan::chosen(TESTS, filter);
    if chosen.is_empty() {
        return None;
    }
    Some(Boot {
        name: PROFILE.to_owned(),
        purpose: "the kit's patience with a guest that is idle, and with one that is slow",
        tests: chosen.len() as u64,
        memory: MEMORY_MIB,
        run: Box::new(move |line| Ok(plan::one_by_one(PROFILE, chosen, line, |test| test(kit)))),
    })
}

/// Boots a guest without a module, in which the shell does this.
fn boot(kit: &Kit, machine: &Machine, script: &str) -> Result<qemu::Report> {
    let job = Job {
        argv: ["sh", "-c", script].map(String::from).to_vec(),
        ..Job::default()
    };
    kit.boot(machine, kit.guest(false)?, &job, &mut |_, _| {})
}

fn machine(kit: &Kit) -> Machine {
    let mut machine = kit.machine();
    machine.memory = MEMORY_MIB;
    machine
}

fn idle_guest_is_given_up(kit: &Kit) -> Result<()> {
    let mut machine = machine(kit);
    machine.limits.idle = Some(IDLE);
    let report = boot(kit, &machine, "echo; exec sleep 1000")?;
    match report.verdict {
        Verdict::Idle(idle) if idle <= NOTICED => Ok(()),
        verdict => bail!(
            "{verdict}; that it was idle for {} s should have been noticed",
            IDLE.as_secs()
        ),
    }
}

/// A guest that computes, and prints nothing, until so much time has passed by the clock; on a host that has two other
/// things to do on each processor, it has had less of its own.
fn slow_guest_is_left_alone(kit: &Kit) -> Result<()> {
    let mut machine = machine(kit);
    machine.limits.timeout = Some(OWN);
    machine.limits.quiet = Some(OWN);
    machine.processors = 1;
    let script = format!(
        "while read up idle < /proc/uptime && [ ${{up%.*}} -lt {} ]; do :; done",
        ENDS.as_secs()
    );
    let over = AtomicBool::new(false);
    let busy = 2 * thread::available_parallelism().map_or(1, usize::from);
    let begun = Instant::now();
    let report = thread::scope(|scope| {
        for _ in 0..busy {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let report = boot(kit, &machine, &script);
        over.store(true, Ordering::Relaxed);
        report
    })?;
    ensure!(
        report.verdict == Verdict::Exited(0),
        "{}; of {} s by the clock it should have had less than {} s of its own",
        report.verdict,
        begun.elapsed().as_secs(),
        OWN.as_secs()
    );
    ensure!(
        begun.elapsed() > OWN,
        "the guest ended within {} s, so nothing was seen",
        OWN.as_secs()
    );
    Ok(())
}
