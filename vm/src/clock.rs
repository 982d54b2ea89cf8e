//! The guest's own time: that of the host, less what QEMU spent waiting for a processor.
//!
//! A guest on a busy host is slow, and a deadline by the host's clock would take that for a hang. The scheduler counts
//! for each thread how long it ran and how long it waited for its turn (`/proc/PID/task/TID/schedstat`,
//! `Documentation/scheduler/sched-stats.rst`). What was spent waiting is no time of the guest's. On a host whose
//! processors are slower than the one that the limits were measured on, its seconds are longer, by what its boot cost.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

/// The processor time that a boot costs, up to PID 1, where the limits were measured.
const USUAL_BOOT: Duration = Duration::from_secs(6);

/// A boot that took longer than so many times the usual was held up by something else.
const SLOWEST: f64 = 16.0;

/// What the scheduler says of each thread: how long it ran, and how long it waited for a processor.
pub type Threads = BTreeMap<u32, Spent>;

/// How long a thread ran, and how long it waited for a processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// On a processor.
    pub running: Duration,
    /// Ready to run, without a processor.
    pub waiting: Duration,
}

/// The clock of one guest.
#[derive(Debug)]
pub struct Clock {
    pid: u32,
    looked: Instant,
    time: Time,
}

impl Clock {
    /// Begins at zero.
    pub fn of(pid: u32) -> Self {
        Self {
            pid,
            looked: Instant::now(),
            time: Time::new(threads(pid)),
        }
    }

    /// Looks at QEMU again, and answers with the guest's time since the beginning.
    pub fn look(&mut self) -> Duration {
        let now = Instant::now();
        self.time.pass(now - self.looked, threads(self.pid));
        self.looked = now;
        self.time.now()
    }

    /// The guest's time at the last look.
    pub fn now(&self) -> Duration {
        self.time.now()
    }

    /// The processor time that QEMU has used.
    pub fn used(&self) -> Duration {
        self.time.used
    }

    /// The guest has booted, in a kernel that takes `patience` times longer than the stock kernel: from now on its
    /// seconds are as much longer as its boot was.
    pub fn booted(&mut self, patience: u32) {
        self.time.scale = scale(self.time.used, patience);
    }
}

/// How many seconds of this host's are one of the host's on which the limits were measured.
fn scale(boot: Duration, patience: u32) -> f64 {
    let usual = USUAL_BOOT.as_secs_f64() * f64::from(patience.max(1));
    (boot.as_secs_f64() / usual).clamp(1.0, SLOWEST)
}

/// The threads of a process, as far as the kernel tells.
fn threads(pid: u32) -> Threads {
    let mut threads = Threads::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let thread = entry.file_name().to_string_lossy().parse().ok();
        let text = fs::read_to_string(entry.path().join("schedstat")).ok();
        if let (Some(thread), Some(spent)) = (thread, text.as_deref().and_then(parse)) {
            threads.insert(thread, spent);
        }
    }
    threads
}

fn parse(schedstat: &str) -> Option<Spent> {
    let mut numbers = schedstat.split_whitespace().map(str::parse);
    let mut next = || Some(Duration::from_nanos(numbers.next()?.ok()?));
    Some(Spent {
        running: next()?,
        waiting: next()?,
    })
}

/// The sums.
#[derive(Debug)]
struct Time {
    threads: Threads,
    /// What each thread that is there has waited since the beginning.
    waited: BTreeMap<u32, Duration>,
    elapsed: Duration,
    /// What of that was the guest's.
    own: Duration,
    passed: Duration,
    used: Duration,
    scale: f64,
}

impl Time {
    fn new(threads: Threads) -> Self {
        Self {
            threads,
            waited: BTreeMap::new(),
            elapsed: Duration::ZERO,
            own: Duration::ZERO,
            passed: Duration::ZERO,
            used: Duration::ZERO,
            scale: 1.0,
        }
    }

    /// So much time has passed on the host, and this is what the threads have spent altogether.
    fn pass(&mut self, elapsed: Duration, threads: Threads) {
        self.elapsed += elapsed;
        self.waited.retain(|thread, _| threads.contains_key(thread));
        for (thread, now) in &threads {
            let before = self.threads.get(thread).copied().unwrap_or_default();
            self.used += now.running.saturating_sub(before.running);
            *self.waited.entry(*thread).or_default() += now.waiting.saturating_sub(before.waiting);
        }
        self.threads = threads;
        // The thread that waited longest holds up the guest. What a thread waits is counted when it has come to its turn,
        // so the guest's time may have gone ahead; then it stands still.
        let waited = self.waited.values().max().copied().unwrap_or_default();
        let own = self.elapsed.saturating_sub(waited).max(self.own);
        self.passed += (own - self.own).div_f64(self.scale);
        self.own = own;
    }

    fn now(&self) -> Duration {
        self.passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn spent(running: u64, waiting: u64) -> Spent {
        Spent {
            running: Duration::from_millis(running),
            waiting: Duration::from_millis(waiting),
        }
    }

    #[test]
    fn waiting_for_a_processor_is_no_time_of_the_guests() {
        let mut time = Time::new(Threads::new());
        // Idle, then busy, then busy with a quarter of a processor.
        time.pass(SECOND, [(1, spent(0, 0))].into());
        assert_eq!(time.now(), SECOND);
        time.pass(SECOND, [(1, spent(1000, 0))].into());
        assert_eq!(time.now(), 2 * SECOND);
        time.pass(SECOND, [(1, spent(1250, 750))].into());
        assert_eq!(time.now(), Duration::from_millis(2250));
        assert_eq!(time.used, Duration::from_millis(1250));
    }

    #[test]
    fn a_host_that_does_not_tell_has_its_own_time() {
        let mut time = Time::new(Threads::new());
        time.pass(SECOND, Threads::new());
        time.pass(SECOND, Threads::new());
        assert_eq!(time.now(), 2 * SECOND);
    }

    #[test]
    fn what_was_waited_is_told_late() {
        let mut time = Time::new([(1, spent(0, 5000))].into());
        // What was before the beginning does not count.
        time.pass(SECOND, [(1, spent(0, 5000))].into());
        time.pass(SECOND, [(1, spent(0, 5000))].into());
        assert_eq!(time.now(), 2 * SECOND);
        // Both seconds were spent waiting.
        time.pass(SECOND, [(1, spent(0, 7000))].into());
        assert_eq!(time.now(), 2 * SECOND);
        time.pass(2 * SECOND, [(1, spent(2000, 7000))].into());
        assert_eq!(time.now(), 3 * SECOND);
    }

    #[test]
    fn threads_come_and_go() {
        let mut time = Time::new(Threads::new());
        time.pass(SECOND, [(1, spent(500, 0)), (2, spent(300, 100))].into());
        time.pass(SECOND, [(1, spent(600, 0)), (3, spent(100, 200))].into());
        assert_eq!(time.used, Duration::from_secs(1));
        assert_eq!(time.now(), Duration::from_millis(1800));
        // More than passed is not taken off.
        time.pass(SECOND, [(1, spent(600, 5000))].into());
        assert_eq!(time.now(), Duration::from_millis(1800));
    }

    #[test]
    fn a_slow_host_has_longer_seconds() {
        assert_eq!(scale(USUAL_BOOT / 2, 1), 1.0);
        assert_eq!(scale(USUAL_BOOT * 3, 1), 3.0);
        // A debug kernel's boot is long for other reasons, for which there is patience already.
        assert_eq!(scale(USUAL_BOOT * 3, 8), 1.0);
        assert_eq!(scale(USUAL_BOOT * 1000, 8), SLOWEST);
        let mut time = Time::new(Threads::new());
        time.scale = 4.0;
        time.pass(SECOND, Threads::new());
        assert_eq!(time.now(), SECOND / 4);
    }

    #[test]
    fn schedstat_is_read() {
        assert_eq!(parse("9351962139 5588917422 7157\n"), {
            Some(Spent {
                running: Duration::from_nanos(9_351_962_139),
                waiting: Duration::from_nanos(5_588_917_422),
            })
        });
        assert_eq!(parse("1"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn a_process_that_waits_for_a_processor_is_seen() {
        // This one, as the kernel tells it.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(20) {
            std::hint::spin_loop();
        }
        let own = threads(std::process::id());
        let used: Duration = own.values().map(|spent| spent.running).sum();
        // A kernel without CONFIG_SCHED_INFO tells nothing.
        assert!(own.is_empty() || used > Duration::ZERO);
    }
}
