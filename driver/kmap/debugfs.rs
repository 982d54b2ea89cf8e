// SPDX-License-Identifier: GPL-2.0

//! Numbers in debugfs.
//!
//! Not by `kernel::debugfs`: its file operations lie in the module that uses it and name no owner
//! (`ReadFile::FILE_OPS` of `rust/kernel/debugfs/file_ops.rs`), so who has such a file open while the module goes,
//! and closes it afterwards, makes `full_proxy_release` of `fs/debugfs/file.c` read memory that is not there any
//! more. Those that are used here belong to the kernel itself.

#[cfg(CONFIG_DEBUG_FS)]
use kernel::bindings;
use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
};

/// A number that can be shown.
pub struct Number(Atomic<i32>);

impl Default for Number {
    fn default() -> Self {
        Self::new()
    }
}

impl Number {
    /// Zero.
    pub const fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// Adds to it.
    pub fn add(&self, count: i32) {
        self.0.add(count, Relaxed);
    }
}

/// A directory in debugfs, removed with all its files when dropped. Without debugfs, or without memory for it, nothing is
/// shown.
///
/// # Invariants
///
/// Holds what `debugfs_create_dir` answered with: a directory, or an error, which all of debugfs takes as well.
pub struct Directory(#[cfg(CONFIG_DEBUG_FS)] *mut bindings::dentry);

// SAFETY: A directory belongs to no thread.
unsafe impl Send for Directory {}
// SAFETY: debugfs has locks of its own.
unsafe impl Sync for Directory {}

#[cfg(CONFIG_DEBUG_FS)]
impl Directory {
    /// Makes it at the top level.
    pub fn new(name: &CStr) -> Self {
        // SAFETY: The name is a C string, which is copied.
        let entry =
            unsafe { bindings::debugfs_create_dir(name.as_char_ptr(), core::ptr::null_mut()) };
        // INVARIANT: That is the answer.
        Self(entry)
    }

    /// Shows a number in a file that root may read.
    pub fn show(&self, name: &CStr, number: &'static Number) {
        let value = number.0.as_ptr().cast::<bindings::atomic_t>();
        // SAFETY: By the type's invariants; the name is a C string, which is copied. An `Atomic<i32>` is an `atomic_t`.
        // It is static, and dropping the directory waits until nobody reads the file any more.
        unsafe {
            bindings::debugfs_create_atomic_t(name.as_char_ptr(), 0o400, self.0, value);
        }
    }
}

#[cfg(CONFIG_DEBUG_FS)]
impl Drop for Directory {
    fn drop(&mut self) {
        // SAFETY: By the type's invariants.
        unsafe { bindings::debugfs_remove(self.0) };
    }
}

#[cfg(not(CONFIG_DEBUG_FS))]
impl Directory {
    pub fn new(_name: &CStr) -> Self {
        Self()
    }

    pub fn show(&self, _name: &CStr, _number: &'static Number) {}
}
