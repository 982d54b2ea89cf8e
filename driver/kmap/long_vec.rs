// SPDX-License-Identifier: GPL-2.0

//! Arrays with an entry for each page of a buffer.
//!
//! `kvmalloc` refuses more than `INT_MAX` bytes (`__kvmalloc_node_noprof` of `mm/slub.c`): pointers to the pages of 1 TiB.
//! `vmalloc` has no such limit, but its smallest piece is a page.

use core::ops::Deref;
use kernel::{
    alloc::{
        AllocError,
        Flags, //
    },
    page::PAGE_SIZE,
    prelude::*, //
};

/// A vector of any length: up to a page from `kmalloc`, beyond that from `vmalloc`.
pub enum LongVec<T> {
    /// At most a page.
    Short(KVec<T>),
    /// Any length.
    Long(VVec<T>),
}

impl<T> LongVec<T> {
    /// Entries that fit into a page.
    const SHORT: usize = PAGE_SIZE / size_of::<T>();

    pub(crate) const fn new() -> Self {
        Self::Short(KVec::new())
    }

    /// Has room for `count` values.
    pub fn with_capacity(count: usize, flags: Flags) -> Result<Self, AllocError> {
        Ok(match count <= Self::SHORT {
            true => Self::Short(KVec::with_capacity(count, flags)?),
            false => Self::Long(VVec::with_capacity(count, flags)?),
        })
    }

    /// Adds an entry if there is room for it; whether there was.
    pub fn push_within_capacity(&mut self, entry: T) -> bool {
        match self {
            Self::Short(entries) => entries.push_within_capacity(entry).is_ok(),
            Self::Long(entries) => entries.push_within_capacity(entry).is_ok(),
        }
    }

    /// Adds an entry, with more room if need be.
    pub fn push(&mut self, entry: T, flags: Flags) -> Result<(), AllocError> {
        if let Self::Short(entries) = self {
            if entries.len() < Self::SHORT {
                return entries.push(entry, flags);
            }
            let mut long = VVec::with_capacity(2 * Self::SHORT, flags)?;
            for entry in entries.drain_all() {
                long.push(entry, flags)?;
            }
            *self = Self::Long(long);
        }
        match self {
            Self::Short(entries) => entries.push(entry, flags),
            Self::Long(entries) => entries.push(entry, flags),
        }
    }

    /// Takes the last entry away.
    pub fn pop(&mut self) -> Option<T> {
        match self {
            Self::Short(entries) => entries.pop(),
            Self::Long(entries) => entries.pop(),
        }
    }

    /// Takes all entries away. Their room stays.
    pub fn clear(&mut self) {
        match self {
            Self::Short(entries) => entries.clear(),
            Self::Long(entries) => entries.clear(),
        }
    }

    /// Where the first entry is.
    pub fn as_mut_ptr(&mut self) -> *mut T {
        match self {
            Self::Short(entries) => entries.as_mut_ptr(),
            Self::Long(entries) => entries.as_mut_ptr(),
        }
    }
}

impl<T> Deref for LongVec<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::Short(entries) => entries,
            Self::Long(entries) => entries,
        }
    }
}
