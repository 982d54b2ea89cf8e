//! The host's processors and memory, shared out to the guests that run at once.

use super::Tally;
use anyhow::Result;
use std::fs;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// What QEMU takes beside the guest's memory, in MiB.
const OVERHEAD: u64 = 400;

/// Something that boots guests, each in a slot.
pub type Guests<'a> = Box<dyn FnOnce() -> Result<Tally> + Send + 'a>;

/// Runs all of them, as the slots allow, and adds up; the first error after the last has ended.
pub fn at_once(all: Vec<Guests<'_>>) -> Result<Tally> {
    thread::scope(|scope| {
        let running: Vec<_> = all.into_iter().map(|guests| scope.spawn(guests)).collect();
        let mut tally = Tally::default();
        let mut error = None;
        for thread in running {
            match thread.join() {
                Ok(Ok(counted)) => tally.add(counted),
                Ok(Err(failed)) => error = error.or(Some(failed)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        error.map_or(Ok(tally), Err)
    })
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

    /// How many guests may run at once.
    pub fn all(&self) -> usize {
        self.all
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
