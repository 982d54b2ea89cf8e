// SPDX-License-Identifier: GPL-2.0

//! Cache modes.

/// A cache mode, as both the kernel's view and the user's views of memory have it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cache {
    /// Ordinary write-back memory.
    Cached,
    /// Writes are gathered, reads are not cached.
    WriteCombined,
    /// Every access goes to memory.
    Uncached,
}

impl Cache {
    /// The number that `helpers.c` knows it by.
    pub(crate) const fn number(self) -> u32 {
        match self {
            Self::Cached => 0,
            Self::WriteCombined => 1,
            Self::Uncached => 2,
        }
    }
}
