//! What can go wrong.

use std::fmt;
use std::time::Duration;

/// A result of this driver's.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the disk did not do something.
#[derive(Debug)]
pub enum Error {
    /// Whoever gives registers, memory and interrupts refuses.
    Platform(Box<dyn std::error::Error + Send + Sync>),
    /// The disk has refused a command.
    Refused {
        /// The command.
        opcode: u8,
        /// Status code type and status code (section 3.3.3.2.1).
        status: u16,
    },
    /// The disk does not do what it is to do in the time that it has named itself.
    Late {
        /// What was waited for.
        what: &'static str,
        /// How long.
        after: Duration,
    },
    /// The disk says that it has failed (`CSTS.CFS`), or it is gone: all its registers read as ones.
    Dead {
        /// The register `CSTS`.
        status: u32,
    },
    /// There are as many commands in the queue as go into it.
    QueueFull {
        /// How many.
        entries: u16,
    },
    /// More bytes than the disk takes with one command.
    TooMuch {
        /// Bytes asked for.
        bytes: usize,
        /// The most.
        most: usize,
    },
    /// Bytes that are no whole number of blocks.
    NoBlocks {
        /// Bytes asked for.
        bytes: usize,
        /// Bytes in a block.
        block: usize,
    },
    /// The disk is not one that this driver can use.
    Unsuitable(String),
}

impl Error {
    /// An error of the platform's.
    pub fn platform(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Platform(error.into())
    }
}

impl From<rustix::io::Errno> for Error {
    fn from(error: rustix::io::Errno) -> Self {
        Self::platform(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Platform(error) => error.fmt(f),
            Self::Refused { opcode, status } => write!(
                f,
                "the disk refuses command {opcode:#04x} with status {status:#x}"
            ),
            Self::Late { what, after } => {
                write!(f, "{what} does not come within {} ms", after.as_millis())
            }
            Self::Dead { status } if *status == u32::MAX => write!(f, "the disk is gone"),
            Self::Dead { status } => write!(f, "the disk has failed: CSTS is {status:#x}"),
            Self::QueueFull { entries } => {
                write!(f, "{entries} commands are under way already; wait for one")
            }
            Self::TooMuch { bytes, most } => write!(
                f,
                "{bytes} bytes are more than the {most} that one command can move"
            ),
            Self::NoBlocks { bytes, block } => {
                write!(f, "{bytes} bytes are no whole number of blocks of {block}")
            }
            Self::Unsuitable(why) => write!(f, "this driver cannot use the disk: {why}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Platform(error) => error.source(),
            _ => None,
        }
    }
}
