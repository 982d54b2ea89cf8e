//! Errors, and what to do about each.

use crate::{bounds::OutOfBounds, core_refusal::CoreRefusal, errno::Shown};
use mapbuf_abi::{reason::Refusal, Operation, Reason, OPERANDS};
use std::{
    io,
    path::{Path, PathBuf},
};

/// The result type of this crate.
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
    /// The file that was opened is not one of the driver's nodes.
    #[error("{} is not a node of the mapbuf driver; its nodes are in {}", .path.display(), mapbuf_abi::DEV_DIR)]
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
        /// Why, with its operands.
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
    /// A system call failed, and neither the driver nor the request shows why.
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
    /// A number at an offset that is not a multiple of its size.
    #[error("a {size}-byte number cannot be at byte {offset}; use a multiple of {size}, or copy the bytes")]
    Misaligned {
        /// Where it would lie in the mapping.
        offset: usize,
        /// The number's size in bytes.
        size: usize,
    },
    /// A copy into a device's memory that is not whole words.
    #[error(
        "{len} bytes from byte {offset} are not whole words of {width} bytes, which this device memory is written in; \
             write whole words"
    )]
    PartOfAWord {
        /// The offset in the mapping.
        offset: usize,
        /// How many bytes.
        len: usize,
        /// The bytes in a word.
        width: usize,
    },
    /// A write to a mapping that is read-only.
    #[error("the mapping is read-only; map the buffer for writing")]
    ReadOnlyMapping,
    /// The driver returned a number that this library does not know: the driver is newer.
    #[error(
        "the driver returned {what} number {number}, which this program does not know; \
             use the mapbuf that came with the driver"
    )]
    UnknownNumber {
        /// What the number stands for.
        what: &'static str,
        /// The number.
        number: u32,
    },
    /// A directory or an attribute in sysfs cannot be read, or has unexpected contents.
    #[error("{} cannot be read: {source}; {}", .path.display(), sysfs_remedy(.path, .source))]
    Sysfs {
        /// The attribute's file, or the directory.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
}

impl Error {
    /// The `errno`, if a system call failed.
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
            | Self::PartOfAWord { .. }
            | Self::ReadOnlyMapping
            | Self::UnknownNumber { .. } => None,
        }
    }

    /// The driver's reason, if it gave one.
    pub fn reason(&self) -> Option<Reason> {
        self.refusal().map(|refusal| refusal.reason)
    }

    /// The driver's reason with its operands, if it gave one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal),
            _ => None,
        }
    }

    /// The refusal by the kernel's memory manager, if the request shows it.
    pub fn core_refusal(&self) -> Option<&CoreRefusal> {
        match self {
            Self::Core { refusal, .. } => Some(refusal),
            _ => None,
        }
    }

    /// What to do next, if that is known.
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

/// Whether a node's path begins so.
fn begins(path: &Path, prefix: &str) -> bool {
    let text = path.as_os_str().as_encoded_bytes();
    text.starts_with(prefix.as_bytes())
}

fn open_remedy(path: &Path, errno: i32) -> &'static str {
    use mapbuf_abi::reason::errno::{EACCES, EBUSY, ENOENT, EPERM};
    match errno {
        ENOENT if path.starts_with(mapbuf_abi::NAMED_DIR) => {
            "no buffer has this name; mapbuf list shows the existing names"
        }
        ENOENT if begins(path, mapbuf_abi::PCI_NODE_PREFIX) => {
            "no such device is bound to mapbuf; mapbuf list shows those that are, mapbuf bind adds one"
        }
        ENOENT if begins(path, mapbuf_abi::PLATFORM_NODE_PREFIX) => {
            "no such platform device is bound to mapbuf; mapbuf list shows those that are, and a PCI device is named by its address (0000:00:04.0)"
        }
        ENOENT => "the driver is not loaded; to load it: mapbuf load",
        EACCES | EPERM => {
            "its mode does not allow it; join its group (ls -l shows it), or run as root"
        }
        EBUSY => "try again",
        _ => "check that the driver is loaded (mapbuf list) and that this is one of its nodes",
    }
}

fn sysfs_remedy(path: &Path, source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound if path == Path::new(mapbuf_abi::SYSFS_CLASS) => {
            "the driver is not loaded; to load it: mapbuf load"
        }
        io::ErrorKind::NotFound => "no buffer has this name; mapbuf list shows the existing names",
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
            "mmap was refused: 8192 bytes from byte 4096 would run past the end of the buffer at 8192; \
             map no more than what lies between the offset and the end of the buffer (EINVAL, BeyondEnd)"
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
            "mmap was refused by the kernel: a mapping of 0 bytes was requested; \
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
            "4 bytes from byte 8 would run past the end at byte 10; stay within it"
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
