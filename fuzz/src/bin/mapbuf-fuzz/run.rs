//! Runs a program: a process for each worker, one of which works at a time.
//!
//! All of them are forked with the program in their memory. Whose turn it is reads a byte from its pipe, works on as
//! long as the steps are its own, and wakes the next one. So the order of everything is that of the program, and the
//! same program does the same again.

use crate::board::Shared;
use crate::execute::{Executor, Mail};
use crate::sys::{self, Errno};
use mapbuf_fuzz::answer::Answer;
use mapbuf_fuzz::op::{Op, Step, EVENTS, USER, WORKERS};
use mapbuf_init::clock::{self, Stopwatch};
use std::time::Duration;

/// What the runner is told beside the numbers of workers whose process has ended as it should.
const FINISHED: u8 = 254;
const BROKEN: u8 = 255;

/// How long a step may take during which the guest has nothing to do: it waits for what does not come. The kit, which
/// gives up the whole guest, waits a little longer.
const IDLE: Duration = Duration::from_secs(30);

/// How the run of a program ended.
pub enum End {
    /// All steps were done.
    Finished,
    /// A process died untold in this step; what is known of it.
    Died(usize, String),
    /// Nothing was heard for too long while this step was done.
    Silent(usize),
}

/// What the processes need.
#[derive(Clone, Copy)]
struct Table {
    shared: Shared,
    mail: Mail,
    turns: [[i32; 2]; WORKERS],
    told: [i32; 2],
}

/// Runs programs.
pub struct Runner {
    shared: Shared,
    foreign: i32,
    patience: Duration,
}

impl Runner {
    /// Makes one; a step may take as long as `patience`.
    pub fn new(patience: Duration) -> Result<Self, Errno> {
        Ok(Self {
            shared: Shared::new()?,
            foreign: sys::foreign_dma_buf().unwrap_or(-1),
            patience,
        })
    }

    /// The answer of a step that was done, and the physical runs that it told of.
    pub fn answer(&self, step: usize) -> (Answer, Vec<u64>) {
        self.shared.answer(step)
    }

    /// Runs a program, and leaves no process behind.
    pub fn run(&self, steps: &[Step]) -> Result<End, Errno> {
        self.shared.reset();
        let mut pairs = Vec::new();
        for _ in 0..WORKERS {
            pairs.push((sys::sockets()?, sys::pipe()?));
        }
        let mut events = [-1; EVENTS];
        for event in &mut events {
            *event = sys::eventfd()?;
        }
        let table = Table {
            shared: self.shared,
            mail: Mail {
                sockets: std::array::from_fn(|worker| pairs[worker].0),
                foreign: self.foreign,
                events,
            },
            turns: std::array::from_fn(|worker| pairs[worker].1),
            told: sys::pipe()?,
        };
        let mut workers = Vec::new();
        for worker in 0..WORKERS as u8 {
            workers.push(table.start(worker, steps)?);
        }
        let end = self.conduct(&table, steps, &mut workers);
        for worker in &workers {
            // One that had no turn yet may have made no group.
            sys::kill(-worker);
            sys::kill(*worker);
        }
        // Those in between have none to wait for them: they are ours.
        while sys::wait(-1, false).is_some() {}
        let ends = table.mail.sockets.iter().chain(&table.turns);
        for fd in ends.chain([&table.told]).flatten().chain(&events) {
            sys::close(*fd);
        }
        end
    }

    fn conduct(&self, table: &Table, steps: &[Step], workers: &mut [i32]) -> Result<End, Errno> {
        let mut heard = Stopwatch::start();
        let mut reached = 0;
        table.next(steps);
        loop {
            if sys::wait_for(table.told[0], 500) {
                match sys::listen(table.told[0]) {
                    Some(FINISHED) => return Ok(End::Finished),
                    Some(BROKEN) | None => {
                        let status = table.shared.died();
                        return Ok(End::Died(table.shared.cursor(), say(status)));
                    }
                    Some(worker) => {
                        let Some(place) = workers.get_mut(usize::from(worker)) else {
                            continue;
                        };
                        let status = sys::wait(*place, false).map_or(-1, |(_, status)| status);
                        if !sys::ended_as_told(status) {
                            return Ok(End::Died(table.shared.cursor(), say(status)));
                        }
                        *place = table.start(worker, steps)?;
                        table.next(steps);
                    }
                }
                heard = Stopwatch::start();
                continue;
            }
            let cursor = table.shared.cursor();
            // A worker that tells of its end is found by what it tells.
            for worker in workers.iter() {
                if let Some((_, status)) = sys::wait(*worker, true) {
                    if !sys::wait_for(table.told[0], 0) {
                        return Ok(End::Died(cursor, say(status)));
                    }
                }
            }
            if cursor != reached {
                (heard, reached) = (Stopwatch::start(), cursor);
            } else if heard.elapsed() > self.patience
                || (heard.elapsed() > IDLE && clock::idle() > IDLE)
            {
                return Ok(End::Silent(cursor));
            }
        }
    }
}

fn say(status: i32) -> String {
    if libc::WIFSIGNALED(status) {
        format!("a process died of signal {}", libc::WTERMSIG(status))
    } else {
        format!("a process ended with status {}", libc::WEXITSTATUS(status))
    }
}

impl Table {
    /// Wakes whose turn it is.
    fn next(&self, steps: &[Step]) {
        match steps.get(self.shared.cursor()) {
            Some(step) => sys::tell(self.turns[usize::from(step.worker) % WORKERS][1], 0),
            None => sys::tell(self.told[1], FINISHED),
        };
    }

    /// Starts the first process of a worker.
    fn start(&self, worker: u8, steps: &[Step]) -> Result<i32, Errno> {
        if let Some(child) = sys::fork()? {
            return Ok(child);
        }
        sys::own_group();
        let well = usize::from(worker) + 1 < WORKERS || sys::become_user(USER) == 0;
        match Executor::new(worker, self.mail) {
            Ok(executor) if well => self.work(worker, steps, executor),
            _ => sys::leave(90),
        }
    }

    /// Works until the end of the process.
    fn work(&self, worker: u8, steps: &[Step], mut executor: Executor) -> ! {
        let mut depth = 0;
        loop {
            if sys::listen(self.turns[usize::from(worker) % WORKERS][0]).is_none() {
                sys::leave(91);
            }
            loop {
                let at = self.shared.cursor();
                let Some(step) = steps.get(at).filter(|step| step.worker == worker) else {
                    break;
                };
                let answer = executor.execute(&step.op);
                self.shared.record(at, answer, &executor.runs);
                self.shared.set_cursor(at + 1);
                match step.op {
                    Op::Fork {} => depth += u32::from(self.fork()),
                    Op::Exit {} | Op::Kill {} => {
                        if depth == 0 {
                            sys::tell(self.told[1], worker);
                        }
                        match step.op {
                            Op::Kill {} => sys::die(),
                            _ => sys::leave(0),
                        }
                    }
                    _ => {}
                }
            }
            self.next(steps);
        }
    }

    /// Forks; in the child, says so. The parent comes back when the child is gone, and has its turn.
    fn fork(&self) -> bool {
        let child = match sys::fork() {
            Ok(None) => return true,
            Ok(Some(child)) => child,
            Err(_) => sys::leave(92),
        };
        let status = sys::wait(child, false).map_or(-1, |(_, status)| status);
        if !sys::ended_as_told(status) {
            self.shared.set_died(status);
            sys::tell(self.told[1], BROKEN);
            // To be killed.
            while sys::wait_for(-1, 60_000) {}
            sys::leave(93);
        }
        false
    }
}
