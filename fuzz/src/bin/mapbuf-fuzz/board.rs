//! What all processes share.

#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "the reason of a block covers the steps that belong together"
)]

use crate::sys::{check, Errno};
use mapbuf_fuzz::answer::Answer;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

/// The most steps in a program.
pub const STEPS: usize = 8192;
/// The most physical runs that a program's buffers have in all.
const RUNS: usize = 1 << 20;

#[repr(C)]
struct Record {
    answer: Answer,
    runs: [u32; 2],
}

#[repr(C)]
struct Board {
    cursor: AtomicU32,
    died: AtomicI32,
    runs: AtomicU32,
    records: [Record; STEPS],
    lengths: [u32; RUNS],
}

/// Memory that all processes share: which step is next, and the answers. Only who has the turn touches it.
#[derive(Clone, Copy)]
pub struct Shared(*mut Board);

impl Shared {
    /// Makes it.
    pub fn new() -> Result<Self, Errno> {
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: at an address of the kernel's choice.
        let result =
            unsafe { libc::mmap(std::ptr::null_mut(), size_of::<Board>(), prot, flags, -1, 0) };
        check(result as i64)?;
        Ok(Self(result.cast()))
    }

    fn board(&self) -> &Board {
        // SAFETY: the memory is there for good, and zeros are a value; answers are not looked at through this.
        unsafe { &*self.0 }
    }

    /// Forgets everything.
    pub fn reset(&self) {
        let board = self.board();
        board.cursor.store(0, Ordering::SeqCst);
        board.died.store(0, Ordering::SeqCst);
        board.runs.store(0, Ordering::SeqCst);
    }

    /// The step that is next.
    pub fn cursor(&self) -> usize {
        self.board().cursor.load(Ordering::SeqCst) as usize
    }

    /// Says which step is next.
    pub fn set_cursor(&self, step: usize) {
        self.board().cursor.store(step as u32, Ordering::SeqCst);
    }

    /// The status of a process that died untold, or 0.
    pub fn died(&self) -> i32 {
        self.board().died.load(Ordering::SeqCst)
    }

    /// Notes that a process died untold.
    pub fn set_died(&self, status: i32) {
        self.board().died.store(status, Ordering::SeqCst);
    }

    /// Notes the answer of a step, and the physical runs that it told of.
    pub fn record(&self, step: usize, answer: Answer, runs: &[u32]) {
        let board = self.board();
        let first = board.runs.load(Ordering::SeqCst) as usize;
        let runs = if first + runs.len() > RUNS { &[] } else { runs };
        board
            .runs
            .store((first + runs.len()) as u32, Ordering::SeqCst);
        assert!(step < STEPS);
        let record = Record {
            answer,
            runs: [first as u32, runs.len() as u32],
        };
        // SAFETY: within the arrays; only the process whose turn it is writes, and nobody reads meanwhile.
        unsafe {
            (&raw mut (*self.0).records[step]).write(record);
            let lengths = (&raw mut (*self.0).lengths).cast::<u32>();
            lengths
                .add(first)
                .copy_from_nonoverlapping(runs.as_ptr(), runs.len());
        }
    }

    /// The answer of a step, and the runs.
    pub fn answer(&self, step: usize) -> (Answer, Vec<u64>) {
        assert!(step < STEPS);
        // SAFETY: within the arrays; nobody writes now.
        unsafe {
            let record = (&raw const (*self.0).records[step]).read();
            let [first, count] = record.runs;
            let lengths = (&raw const (*self.0).lengths).cast::<u32>();
            let runs = (0..count).map(|at| u64::from(lengths.add((first + at) as usize).read()));
            (record.answer, runs.collect())
        }
    }
}
