//! An open node of the driver: how it is asked, and how its refusals are told from those of the kernel's core.

use crate::{
    access::Access,
    error::{Error, Result},
    raw::{self, Failed, Request},
};
use mapbuf_abi::{feature, LastError, Operation, Query, Reason, Refused, SYSFS_CLASS};
use rustix::{
    fs::{FileType, Mode, OFlags},
    io::Errno,
};
use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicU64, Ordering},
        OnceLock,
    },
};

/// An open node.
#[derive(Debug)]
pub(crate) struct NodeFile {
    fd: OwnedFd,
    path: PathBuf,
    access: Access,
    /// The largest number of a refusal on this open file that anyone here has looked at.
    seen: AtomicU64,
    /// See [`NodeFile::tells`].
    tells: OnceLock<bool>,
}

/// Where the refusals of an open file stood before a call: a reason with a larger number belongs to the call.
#[derive(Clone, Copy)]
pub(crate) struct Mark(u64);

impl NodeFile {
    pub(crate) fn open(path: &Path, access: Access) -> Result<Self> {
        let flags = match access {
            Access::ReadOnly => OFlags::RDONLY,
            Access::ReadWrite => OFlags::RDWR,
        };
        let fd = rustix::fs::open(
            path,
            flags | OFlags::CLOEXEC | OFlags::NOCTTY,
            Mode::empty(),
        )
        .map_err(|errno| Error::Open {
            path: path.to_owned(),
            errno: errno.raw_os_error(),
        })?;
        if !is_ours(&fd) {
            return Err(Error::NotANode {
                path: path.to_owned(),
            });
        }
        Ok(Self {
            fd,
            path: path.to_owned(),
            access,
            seen: AtomicU64::new(0),
            tells: OnceLock::new(),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn access(&self) -> Access {
        self.access
    }

    /// Makes an ioctl, whose struct has the reason when it is refused.
    pub(crate) fn call<R: Request>(&self, request: &mut R) -> Result<()> {
        self.ioctl(R::OPERATION, |fd| raw::call_sized(fd, request))
    }

    /// The same for any way to make an ioctl.
    pub(crate) fn ioctl<T>(
        &self,
        operation: Operation,
        action: impl FnOnce(BorrowedFd<'_>) -> Result<T, Failed>,
    ) -> Result<T> {
        let mark = self.mark();
        action(self.fd.as_fd()).map_err(|failed| {
            let errno = failed.errno;
            let said = told(&failed.refused, operation, errno.raw_os_error());
            said.or_else(|| {
                // A driver that says it in the struct says nothing where the kernel's core has refused.
                let tells = self.tells();
                (!tells).then(|| self.reason(mark, operation, errno))?
            })
            .unwrap_or(Error::System {
                call: operation.name(),
                errno: errno.raw_os_error(),
            })
        })
    }

    /// Whether the driver gives reasons in the structs of its ioctls: it did not always.
    fn tells(&self) -> bool {
        *self.tells.get_or_init(|| {
            let mut query = Query::default();
            raw::call_sized(self.fd.as_fd(), &mut query).is_ok()
                && query.features & feature::REFUSED != 0
        })
    }

    /// Does something with the descriptor, and asks for the reason when that is refused.
    pub(crate) fn attempt<T>(
        &self,
        operation: Operation,
        action: impl FnOnce(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> Result<T> {
        let mark = self.mark();
        action(self.fd.as_fd()).map_err(|errno| {
            self.reason(mark, operation, errno)
                .unwrap_or(Error::System {
                    call: operation.name(),
                    errno: errno.raw_os_error(),
                })
        })
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark(self.seen.load(Ordering::Relaxed))
    }

    /// The driver's reason for the failure of `operation` with `errno`, if it was the driver who made it.
    ///
    /// The driver keeps one refusal for each thread and open file, and numbers them per open file. A refusal of this
    /// call has a number above every one that anybody had looked at before it (`mark`), and its operation and errno are
    /// the call's: what fails one of these belongs to an older call, and the kernel's core has refused this one.
    pub(crate) fn reason(&self, mark: Mark, operation: Operation, errno: Errno) -> Option<Error> {
        let last = self.last_error(0).ok()?;
        self.seen.fetch_max(last.sequence, Ordering::Relaxed);
        explained(&last, mark.0, operation, errno.raw_os_error())
    }

    /// What the driver last refused to this thread on this open file.
    pub(crate) fn last_error(&self, flags: u32) -> Result<LastError> {
        let mut last = LastError {
            flags,
            ..LastError::default()
        };
        match raw::call_sized(self.fd.as_fd(), &mut last) {
            Ok(()) => Ok(last),
            // Not by way of `call`: it would come here again for the reason.
            Err(failed) => Err(Error::System {
                call: Operation::LastError.name(),
                errno: failed.errno.raw_os_error(),
            }),
        }
    }
}

impl AsFd for NodeFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Whether this is a node of the driver, and its ioctls may be made on it: to another driver the same numbers might mean
/// something else. Where there is no sysfs to ask, a char device is taken at its word.
fn is_ours(fd: &OwnedFd) -> bool {
    let Ok(stat) = rustix::fs::fstat(fd) else {
        return false;
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice {
        return false;
    }
    let number = (
        rustix::fs::major(stat.st_rdev),
        rustix::fs::minor(stat.st_rdev),
    );
    let subsystem = format!("/sys/dev/char/{}:{}/subsystem", number.0, number.1);
    match std::fs::read_link(subsystem) {
        Ok(class) => class.file_name() == Path::new(SYSFS_CLASS).file_name(),
        Err(_) => true,
    }
}

/// The error that `last` explains, if it is the one of a call that failed with `errno` after number `before`.
fn explained(last: &LastError, before: u64, operation: Operation, errno: i32) -> Option<Error> {
    if last.sequence <= before || last.errno != errno || last.operation != operation.number() {
        return None;
    }
    let refused = Refused {
        reason: last.reason,
        errno,
        operands: last.operands,
    };
    told(&refused, operation, errno)
}

/// The error that the driver gives for a call that failed with `errno`, if it gives one.
fn told(refused: &Refused, operation: Operation, errno: i32) -> Option<Error> {
    if refused.reason == 0 || refused.errno != errno {
        return None;
    }
    Some(match Reason::from_number(refused.reason) {
        Some(reason) => Error::Refused {
            operation,
            refusal: reason.with(&refused.operands),
        },
        None => Error::UnknownReason {
            operation,
            reason: refused.reason,
            operands: refused.operands,
            errno,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: LastError = LastError {
        size: 64,
        flags: 0,
        sequence: 7,
        reason: 303,
        errno: 22,
        operation: 0x101,
        thread: 0,
        operands: [0, 8192, 4096, 0],
        refused: Refused {
            reason: 0,
            errno: 0,
            operands: [0; 4],
        },
    };

    #[test]
    fn a_reason_explains_its_own_call_alone() {
        let error = explained(&LAST, 6, Operation::Mmap, 22).unwrap();
        assert_eq!(error.reason(), Some(Reason::BeyondEnd));
        // Seen before: the errno came from somewhere else.
        assert!(explained(&LAST, 7, Operation::Mmap, 22).is_none());
        // Another call, or another errno.
        assert!(explained(&LAST, 6, Operation::Alloc, 22).is_none());
        assert!(explained(&LAST, 6, Operation::Mmap, 13).is_none());
        // None yet.
        assert!(explained(&LastError::default(), 0, Operation::Mmap, 22).is_none());
    }

    #[test]
    fn a_struct_explains_its_own_call() {
        let refused = Refused {
            reason: 210,
            errno: 2,
            operands: [77, 0, 0, 0],
        };
        let error = told(&refused, Operation::Free, 2).unwrap();
        assert_eq!(error.refusal(), Some(&Reason::NoSuchId.with(&[77])));
        assert!(told(&Refused::default(), Operation::Free, 2).is_none());
        assert!(told(&refused, Operation::Free, 14).is_none());
    }

    #[test]
    fn a_newer_driver_is_said_to_be_newer() {
        let last = LastError {
            reason: 9999,
            ..LAST
        };
        let error = explained(&last, 0, Operation::Mmap, 22).unwrap();
        assert!(error.to_string().contains("9999"), "{error}");
        assert_eq!(error.errno(), Some(22));
    }
}
