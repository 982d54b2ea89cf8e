//! How a run ended.

use std::fmt;
use std::time::Duration;

/// How a run ended. What is worse hides what is better: a program that exited well in a kernel that has reported a
/// failure has not ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The program exited with this status.
    Exited(i32),
    /// The program was ended by this signal.
    Signalled(i32),
    /// The program could not be started, or the guest not prepared for it.
    NotRun(String),
    /// The kernel's log has failure reports; the program may have ended well.
    Splat,
    /// The kernel panicked.
    Panic,
    /// The guest stopped talking.
    Silent,
    /// The guest had nothing to do for so long, and the program printed nothing.
    Idle(Duration),
    /// The guest was busy, and the program printed nothing for so long.
    Quiet(Duration),
    /// The program did not end in time.
    TimedOut,
    /// QEMU ended, or could not be started, without a word from the guest.
    QemuFailed(String),
}

/// Added to a signal's number, as shells do it.
const SIGNALLED: i32 = 128;

impl Verdict {
    /// The exit status that tells it to a script.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Exited(status) => *status,
            Self::Signalled(signal) => SIGNALLED + signal,
            Self::NotRun(_) => 120,
            Self::Splat => 121,
            Self::Panic => 122,
            Self::Silent | Self::Idle(_) => 123,
            Self::TimedOut | Self::Quiet(_) => 124,
            Self::QemuFailed(_) => 125,
        }
    }

    /// Whether it was the kit that ended the run, and the guest may still tell where it hangs.
    pub(crate) fn may_be_asked_why(&self) -> bool {
        matches!(self, Self::Idle(_) | Self::Quiet(_) | Self::TimedOut)
    }

    /// Whether the program ran and said that all is well, and so did the kernel.
    pub fn is_success(&self) -> bool {
        *self == Self::Exited(0)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "the program exited with status {status}"),
            Self::Signalled(signal) => write!(f, "the program was ended by signal {signal}"),
            Self::NotRun(why) => write!(f, "the program was not run: {why}"),
            Self::Splat => write!(f, "the kernel reported a failure"),
            Self::Panic => write!(f, "the kernel panicked"),
            Self::Silent => write!(f, "the guest fell silent"),
            Self::Idle(time) => write!(
                f,
                "the guest had nothing to do for {} s, and the program printed nothing: it waits for what does not come",
                time.as_secs()
            ),
            Self::Quiet(time) => write!(
                f,
                "the program printed nothing for {} s of the guest's time, while the guest was busy",
                time.as_secs()
            ),
            Self::TimedOut => write!(f, "the program did not end in time"),
            Self::QemuFailed(why) => write!(f, "QEMU failed: {why}"),
        }
    }
}
