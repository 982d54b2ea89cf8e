//! How a test says that something is not as it must be.

use crate::session::Refused;
use crate::sys::{Ending, Errno};
use crate::tests::reasons;
use mapbuf_abi::{Operation, Reason};
use std::fmt;
use std::panic::Location;

/// Why a test did not pass, on one line.
#[derive(Debug)]
pub enum Failure {
    Failed(String),
    Skipped(String),
}

pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    #[track_caller]
    pub fn new(why: impl fmt::Display) -> Self {
        let place = Location::caller();
        let file = place.file().rsplit('/').next().unwrap_or_default();
        Self::Failed(format!("{file}:{}: {why}", place.line()))
    }
}

impl From<Refused> for Failure {
    #[track_caller]
    fn from(refused: Refused) -> Self {
        Self::new(refused)
    }
}

impl From<Errno> for Failure {
    #[track_caller]
    fn from(errno: Errno) -> Self {
        Self::new(errno)
    }
}

impl From<std::io::Error> for Failure {
    #[track_caller]
    fn from(error: std::io::Error) -> Self {
        Self::new(error)
    }
}

impl From<String> for Failure {
    #[track_caller]
    fn from(why: String) -> Self {
        Self::new(why)
    }
}

/// Fails the test unless the condition holds.
#[macro_export]
macro_rules! check {
    ($condition:expr, $($why:tt)+) => {
        if !$condition {
            return Err($crate::check::Failure::new(format!($($why)+)));
        }
    };
}

/// Fails the test unless both sides are equal.
#[macro_export]
macro_rules! check_eq {
    ($left:expr, $right:expr, $($why:tt)+) => {
        match (&$left, &$right) {
            (left, right) => {
                if left != right {
                    return Err($crate::check::Failure::new(format!(
                        "{}: is {left:x?}, must be {right:x?}", format!($($why)+)
                    )));
                }
            }
        }
    };
}

/// Ends the test: what it needs is not there.
#[macro_export]
macro_rules! skip {
    ($($why:tt)+) => { return Err($crate::check::Failure::Skipped(format!($($why)+))) };
}

/// The driver must have refused this, for this reason, in this operation, with these operands first.
#[track_caller]
pub fn refused<T>(
    result: Result<T, Refused>,
    operation: Operation,
    reason: Reason,
    operands: &[u64],
) -> Outcome {
    let refused = match result {
        Ok(_) => {
            return Err(Failure::new(format!(
                "worked, must be refused as {reason:?}"
            )))
        }
        Err(refused) => refused,
    };
    let Some(said) = refused.said else {
        return Err(Failure::new(format!(
            "{refused} and no reason given, must be {reason:?}"
        )));
    };
    if Reason::from_number(said.reason) != Some(reason) {
        return Err(Failure::new(format!(
            "{refused}, must be refused as {reason:?}"
        )));
    }
    reasons::met(reason);
    if refused.errno.0 != reason.errno() || said.errno != reason.errno() {
        return Err(Failure::new(format!(
            "{reason:?} with {} (LAST_ERROR says errno {}), must be {:?}",
            refused.errno,
            said.errno,
            Errno(reason.errno())
        )));
    }
    if said.operation != operation.number() {
        return Err(Failure::new(format!(
            "{reason:?} in operation {:#x}, must be {operation:?} ({:#x})",
            said.operation,
            operation.number()
        )));
    }
    if said.operands.get(..operands.len()) != Some(operands) {
        return Err(Failure::new(format!(
            "{reason:?} with operands {:?}, must be {operands:?}",
            said.operands
        )));
    }
    Ok(())
}

/// The kernel itself must have refused this: the driver was not asked, and has no new reason.
#[track_caller]
pub fn core_refused<T>(result: Result<T, Refused>, errno: i32) -> Outcome {
    match result {
        Ok(_) => Err(Failure::new(format!("worked, must be {:?}", Errno(errno)))),
        Err(Refused { said: Some(_), .. }) if errno == 0 => unreachable!(),
        Err(refused) if refused.errno != Errno(errno) => Err(Failure::new(format!(
            "{refused}, must be {:?}",
            Errno(errno)
        ))),
        Err(refused) if refused.said.is_some() => Err(Failure::new(format!(
            "{refused}, must come from the kernel's core, without a reason"
        ))),
        Err(_) => Ok(()),
    }
}

/// A system call must have failed so.
#[track_caller]
pub fn fails<T>(result: Result<T, Errno>, errno: i32) -> Outcome {
    match result {
        Ok(_) => Err(Failure::new(format!("worked, must be {:?}", Errno(errno)))),
        Err(found) if found.0 != errno => {
            Err(Failure::new(format!("{found}, must be {:?}", Errno(errno))))
        }
        Err(_) => Ok(()),
    }
}

/// Runs a part of a test in another process, and passes its verdict on.
#[track_caller]
pub fn elsewhere(body: impl FnOnce() -> Outcome) -> Outcome {
    use std::io::{Read, Write};
    let (mut read, mut write) = crate::sys::pipe()?;
    let child = crate::sys::fork(move || match body() {
        Ok(()) => 0,
        Err(Failure::Failed(why) | Failure::Skipped(why)) => {
            // The reader is still there: it waits for this.
            let _ = write.write_all(why.as_bytes());
            1
        }
    })?;
    let mut why = String::new();
    read.read_to_string(&mut why)?;
    match child.wait() {
        Ending::Exited(0) => Ok(()),
        Ending::Exited(1) if !why.is_empty() => Err(Failure::Failed(why)),
        ending => Err(Failure::new(format!(
            "the other process ended so: {ending:?} {why}"
        ))),
    }
}

/// A function that must die of a signal.
#[track_caller]
pub fn dies_of(signal: i32, body: impl FnOnce()) -> Outcome {
    let child = crate::sys::fork(move || {
        body();
        0
    })?;
    match child.wait() {
        Ending::Signalled(found) if found == signal => Ok(()),
        ending => Err(Failure::new(format!(
            "ended so: {ending:?}, must be signal {signal}"
        ))),
    }
}
