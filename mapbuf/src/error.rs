//! What can go wrong, said so that a person knows what to do next.

use crate::{bounds::OutOfBounds, core_refusal::CoreRefusal, errno::Shown};
use mapbuf_abi::{reason::Refusal, Operation, Reason, OPERANDS};
use std::{
    io,
    path::{Path, PathBuf},
};

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong: shown as "what happened; what to do next".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A node cannot be opened.
    #[error("{} cannot be opened: {}; {}", .path.display(), Shown(*.errno), open_remedy(.path, *.errno))]
    Open {
        /// The node.
        path: PathBuf,
        /// The `errno` of `open(2)`.
        errno: i32,
    },
    /// What was opened is no node of the driver.
    #[error("{} is no node of the mapbuf driver; its nodes are in {}", .path.display(), mapbuf_abi::DEV_DIR)]
    NotANode {
        /// What was opened.
        path: PathBuf,
    },
    /// The driver refused, and said why.
    #[error("{} was refused: {refusal}; {} ({}, {})", .operation.name(), .refusal.reason.text().remedy,
            Shown(.refusal.reason.errno()), .refusal.reason.name())]
    Refused {
        /// What was refused.
        operation: Operation,
        /// Why, with the values it speaks of.
        refusal: Refusal,
    },
    /// The driver refused for a reason that this library does not know: the driver is newer.
    #[error("{} was refused for reason {reason} {operands:?}, which this program does not know; \
             use the mapbuf that came with the driver ({})", .operation.name(), Shown(*.errno))]
    UnknownReason {
        /// What was refused.
        operation: Operation,
        /// The reason's number.
        reason: u32,
        /// Its operands.
        operands: [u64; OPERANDS],
        /// The `errno` that came with it.
        errno: i32,
    },
    /// The kernel's memory manager refused, and the request shows why.
    #[error("{call} was refused by the kernel: {refusal}; {} ({})", .refusal.remedy(), Shown(*.errno))]
    Core {
        /// The system call.
        call: &'static str,
        /// Why.
        refusal: CoreRefusal,
        /// The `errno` that came with it.
        errno: i32,
    },
    /// A system call failed, and neither the driver nor the request tells why.
    #[error("{call} failed: {} ({})", io::Error::from_raw_os_error(*.errno), Shown(*.errno))]
    System {
        /// The system call, or the operation.
        call: &'static str,
        /// The `errno` that came with it.
        errno: i32,
    },
    /// Bytes outside a buffer or a mapping.
    #[error(transparent)]
    OutOfBounds(#[from] OutOfBounds),
    /// A number at an address that is no multiple of its size.
    #[error("a number of {size} bytes cannot lie at byte {offset}; use a multiple of {size}, or copy the bytes")]
    Misaligned {
        /// Where it would lie in the mapping.
        offset: usize,
        /// The number's size in bytes.
        size: usize,
    },
    /// A write to a mapping that is read-only.
    #[error("the mapping is read-only; map the buffer for writing")]
    ReadOnlyMapping,
    /// The driver answered with a number that this library does not know: the driver is newer.
    #[error(
        "the driver answered with {what} number {number}, which this program does not know; \
             use the mapbuf that came with the driver"
    )]
    UnknownNumber {
        /// What the number stands for.
        what: &'static str,
        /// The number.
        number: u32,
    },
    /// A folder or an attribute in sysfs cannot be read, or does not hold what it should.
    #[error("{} cannot be read: {source}; {}", .path.display(), sysfs_remedy(.path, .source))]
    Sysfs {
        /// The attribute's file, or the folder.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
}

impl Error {
    /// The `errno`, where a system call failed.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal.reason.errno()),
            Self::Open { errno, .. }
            | Self::UnknownReason { errno, .. }
            | Self::Core { errno, .. }
            | Self::System { errno, .. } => Some(*errno),
            Self::Sysfs { source, .. } => source.raw_os_error(),
            Self::NotANode { .. }
            | Self::OutOfBounds(_)
            | Self::Misaligned { .. }
            | Self::ReadOnlyMapping
            | Self::UnknownNumber { .. } => None,
        }
    }

    /// The driver's reason, where it gave one.
    pub fn reason(&self) -> Option<Reason> {
        self.refusal().map(|refusal| refusal.reason)
    }

    /// The driver's reason with its operands, where it gave one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal),
            _ => None,
        }
    }

    /// What the kernel's memory manager refused by itself, where the request shows it.
    pub fn core_refusal(&self) -> Option<&CoreRefusal> {
        match self {
            Self::Core { refusal, .. } => Some(refusal),
            _ => None,
        }
    }

    /// What to do next, where that is known.
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal.reason.text().remedy),
            Self::Core { refusal, .. } => Some(refusal.remedy()),
            Self::Open { path, errno } => Some(open_remedy(path, *errno)),
            Self::Sysfs { path, source } => Some(sysfs_remedy(path, source)),
            _ => None,
        }
    }
}

impl From<Error> for io::Error {
    /// Keeps the kind of the `errno`, and the whole error inside.
    fn from(error: Error) -> Self {
        let kind = match error.errno() {
            Some(errno) => Self::from_raw_os_error(errno).kind(),
            None => io::ErrorKind::InvalidInput,
        };
        Self::new(kind, error)
    }
}

fn open_remedy(path: &Path, errno: i32) -> &'static str {
    use mapbuf_abi::reason::errno::{EACCES, EBUSY, ENOENT, EPERM};
    match errno {
        ENOENT if path.starts_with(mapbuf_abi::NAMED_DIR) => {
            "no buffer has this name; mapbuf list shows the names that there are"
        }
        ENOENT => "the driver is not loaded; load it with: mapbuf load",
        EACCES | EPERM => {
            "its mode does not let you; ask to be added to its group (ls -l shows it), or run as root"
        }
        EBUSY => "try again",
        _ => "see whether the driver is loaded (mapbuf list) and whether this is one of its nodes",
    }
}

fn sysfs_remedy(path: &Path, source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound if path == Path::new(mapbuf_abi::SYSFS_CLASS) => {
            "the driver is not loaded; load it with: mapbuf load"
        }
        io::ErrorKind::NotFound => {
            "no buffer has this name; mapbuf list shows the names that there are"
        }
        io::ErrorKind::PermissionDenied => "run as root",
        _ => "use the mapbuf that came with the driver",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_and_what_next() {
        let error = Error::Refused {
            operation: Operation::Mmap,
            refusal: Reason::BeyondEnd.with(&[4096, 8192, 8192]),
        };
        assert_eq!(
            error.to_string(),
            "mmap was refused: 8192 bytes from byte 4096 of the buffer would pass its end at 8192; \
             map at most what lies between the offset and the buffer's end (EINVAL, BeyondEnd)"
        );
        assert_eq!(error.errno(), Some(22));
        assert_eq!(error.reason(), Some(Reason::BeyondEnd));

        let error = Error::Core {
            call: "mmap",
            refusal: CoreRefusal::ZeroLength,
            errno: 22,
        };
        assert_eq!(
            error.to_string(),
            "mmap was refused by the kernel: a mapping of 0 bytes was asked for; \
             map at least 1 byte; lengths are rounded up to whole pages (EINVAL)"
        );

        let error = Error::Open {
            path: "/dev/mapbuf/system".into(),
            errno: 2,
        };
        assert!(error.to_string().ends_with("mapbuf load"), "{error}");
        let error = Error::from(OutOfBounds {
            offset: 8,
            len: 4,
            size: 10,
        });
        assert_eq!(
            error.to_string(),
            "4 bytes from byte 8 on would pass the end at byte 10; stay below it"
        );
    }

    #[test]
    fn io_errors_keep_kind_and_text() {
        let error = io::Error::from(Error::Refused {
            operation: Operation::Alloc,
            refusal: Reason::OutOfMemory.with(&[1 << 40]),
        });
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
        assert!(error.to_string().contains("1 TiB"));
    }
}
