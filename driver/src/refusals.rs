// SPDX-License-Identifier: GPL-2.0

//! The last refusal of each thread that uses an open file.

use crate::{
    abi::{
        reason::{
            Reason,
            Refusal, //
        },
        wire::{
            LastError,
            Operation, //
        },
    },
    sys::caller::{
        self,
        Thread, //
    },
};
use kernel::{
    prelude::*,
    sync::Mutex, //
};

/// How many threads are remembered for one open file. Beyond that the oldest refusal is forgotten.
const THREADS: usize = 32;

#[derive(Clone, Copy)]
struct Record {
    thread: Thread,
    sequence: u64,
    operation: Operation,
    refusal: Refusal,
}

struct Records {
    /// How many refusals there were.
    sequence: u64,
    last: [Option<Record>; THREADS],
}

/// The last refusals, by thread.
#[pin_data]
pub(crate) struct Refusals {
    #[pin]
    records: Mutex<Records>,
}

impl Refusals {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            records <- kernel::new_mutex!(
                Records {
                    sequence: 0,
                    last: [None; THREADS],
                },
                "mapbuf_records"
            ),
        })
    }

    /// Passes a result on, and remembers a refusal for the calling thread.
    pub(crate) fn note<T>(&self, operation: Operation, result: Result<T, Refusal>) -> Result<T> {
        result.map_err(|refusal| {
            self.remember(operation, refusal);
            error(refusal.reason)
        })
    }

    fn remember(&self, operation: Operation, refusal: Refusal) {
        let thread = Thread::current();
        let mut records = self.records.lock();
        records.sequence += 1;
        let sequence = records.sequence;
        // The thread's own entry, else the oldest one.
        let place = records.last.iter_mut().min_by_key(|place| match place {
            Some(record) if record.thread == thread => (0, 0),
            Some(record) => (1, record.sequence),
            None => (1, 0),
        });
        if let Some(place) = place {
            *place = Some(Record {
                thread,
                sequence,
                operation,
                refusal,
            });
        }
    }

    /// Fills in what is remembered for the named thread, or for the calling one; all zeros if there is nothing.
    pub(crate) fn tell(&self, to: &mut LastError) {
        let thread = Thread::current();
        let records = self.records.lock();
        let all = records.last.iter().flatten();
        let record = match to.thread {
            0 => all.into_iter().find(|record| record.thread == thread),
            // If two threads had this number one after the other, the later one is meant.
            number => all
                .filter(|record| record.thread.number() == number)
                .max_by_key(|record| record.sequence),
        };
        if let Some(record) = record {
            to.sequence = record.sequence;
            to.reason = record.refusal.reason.number();
            to.errno = record.refusal.reason.errno();
            to.operation = record.operation.number();
            to.operands = record.refusal.operands;
        }
    }
}

/// The refusal when there was no memory for `bytes` bytes, of which `charged` were still to be charged to the caller's
/// memory cgroup, if any. A full cgroup needs another remedy than a full machine.
pub(crate) fn no_memory(bytes: u64, charged: u64) -> Refusal {
    match caller::cgroup_room() {
        Some((room, limit)) if room < charged => {
            Reason::OverCgroupLimit.with(&[bytes, limit, room])
        }
        _ => Reason::OutOfMemory.with(&[bytes]),
    }
}

/// The error code of a reason.
pub(crate) fn error(reason: Reason) -> Error {
    error_code(reason.errno())
}

/// An `errno` as the kernel crate's error.
pub(crate) fn error_code(errno: i32) -> Error {
    Error::from_errno(-errno)
}
