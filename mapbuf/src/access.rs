//! The access that an open node or a mapping allows.

use rustix::mm::ProtFlags;
use std::fmt;

/// How a node is opened, or a buffer is mapped.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Access {
    /// Read-only.
    ReadOnly,
    /// Reading and writing.
    ReadWrite,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadOnly => "read-only",
            Self::ReadWrite => "read-write",
        })
    }
}

/// Whether writes through a mapping are seen by others.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Sharing {
    /// `MAP_SHARED`: they go to the buffer.
    Shared,
    /// `MAP_PRIVATE`: they go to copies of the pages, which only this mapping sees.
    Private,
}

/// The protection bits of a mapping with this access. Never executable.
pub(crate) fn protection(access: Access) -> ProtFlags {
    match access {
        Access::ReadOnly => ProtFlags::READ,
        Access::ReadWrite => ProtFlags::READ | ProtFlags::WRITE,
    }
}
