//! The host's processors and memory, shared out to the guests that run at once.

use super::plan::Boot;
use super::progress::Progress;
use super::Tally;
use std::collections::VecDeque;
use std::fs;
use std::sync::{mpsc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// What QEMU takes beside the guest's memory, in MiB.
const OVERHEAD: u64 = 400;

/// Boots all of them in their order, as the slots allow, and adds up. What failed so that no test could say it is a
/// failure of one.
pub fn run(boots: Vec<Boot<'_>>, jobs: usize, progress: &Progress<'_>) -> Tally {
    let slots = Slots::new(jobs);
    let queue = Mutex::new(VecDeque::from(boots));
    let sum = Mutex::new(Tally::default());
    let (over, ended) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || progress.watch(&ended));
        let workers: Vec<_> = (0..jobs)
            .map(|_| {
                scope.spawn(|| loop {
                    let next = lock(&queue).pop_front();
                    let Some(boot) = next else {
                        return;
                    };
                    let _slot = slots.take(boot.memory);
                    let line = progress.begin(&boot.name);
                    let tally = (boot.run)(&line).unwrap_or_else(|error| {
                        println!("{}: FAILED: {error:#}", boot.name);
                        Tally::one(false)
                    });
                    line.end(&tally);
                    lock(&sum).add(tally);
                })
            })
            .collect();
        for worker in workers {
            if let Err(panic) = worker.join() {
                drop(over);
                std::panic::resume_unwind(panic);
            }
        }
        drop(over);
    });
    let sum = lock(&sum);
    *sum
}

/// What a mutex guards, whatever became of other threads.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The host's processors and memory.
pub struct Slots {
    free: Mutex<(usize, u64)>,
    changed: Condvar,
    all: usize,
}

/// A guest's place, until it is dropped.
pub struct Slot<'a> {
    slots: &'a Slots,
    memory: u64,
}

impl Slots {
    /// Room for so many guests, and as much memory as there is.
    pub fn new(jobs: usize) -> Self {
        let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let available = text
            .lines()
            .find_map(|line| line.strip_prefix("MemAvailable:"))
            .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok())
            .map_or(u64::MAX, |kib| kib / 1024);
        Self {
            free: Mutex::new((jobs, available)),
            changed: Condvar::new(),
            all: jobs,
        }
    }

    /// Waits until there is a place for another guest with so much memory; the only one always gets one.
    pub fn take(&self, mebibytes: u32) -> Slot<'_> {
        let memory = u64::from(mebibytes) + OVERHEAD;
        let mut free = lock(&self.free);
        while free.0 == 0 || (free.0 < self.all && free.1 < memory) {
            free = self
                .changed
                .wait(free)
                .unwrap_or_else(PoisonError::into_inner);
        }
        free.0 -= 1;
        free.1 = free.1.saturating_sub(memory);
        Slot {
            slots: self,
            memory,
        }
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut free = lock(&self.slots.free);
        free.0 += 1;
        free.1 = free.1.saturating_add(self.memory);
        self.slots.changed.notify_all();
    }
}
