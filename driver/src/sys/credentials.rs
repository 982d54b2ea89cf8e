// SPDX-License-Identifier: GPL-2.0

//! The credentials with which a file was opened.

use super::helpers::{mapbuf_current_cred, mapbuf_payers};
use core::marker::PhantomData;
use kernel::{
    bindings,
    error::code::EINVAL,
    prelude::*, //
};

/// User namespaces nest at most 33 deep (`create_user_ns` of `kernel/user_namespace.c`).
const MOST: usize = 40;

/// The credentials with which a file was opened. They stay with the file, whoever holds it later.
///
/// # Invariants
///
/// The pointer is that of credentials that live as long as `'a`.
pub(crate) struct Opener<'a>(*const bindings::cred, PhantomData<&'a bindings::cred>);

impl Opener<'_> {
    /// # Safety
    ///
    /// `file` is a file that stays open as long as the value is used.
    pub(super) unsafe fn of(file: *const bindings::file) -> Self {
        // SAFETY: By the safety requirements, the file can be read.
        let credentials = unsafe { (*file).f_cred };
        // INVARIANT: An open file has a reference to its credentials.
        Self(credentials, PhantomData)
    }

    /// Calls `f` with those of the calling thread.
    pub(crate) fn with_caller<R>(f: impl FnOnce(&Opener<'_>) -> R) -> R {
        // SAFETY: Looks at the current task.
        // INVARIANT: Only the thread itself changes its credentials, and it does not until this returns.
        f(&Self(unsafe { mapbuf_current_cred() }, PhantomData))
    }

    /// Calls `f` with each user who is charged for what is allocated through this file: the user who opened it, and the
    /// owner of each user namespace that they were in, up to the initial one. The uids are those of the initial namespace;
    /// some may come more than once. The kernel's own limits work the same way (`inc_rlimit_ucounts` of `kernel/ucount.c`).
    pub(crate) fn each_payer(&self, mut f: impl FnMut(u32) -> Result) -> Result {
        let mut uids = [0; MOST];
        // SAFETY: By the type's invariants; the function writes at most `MOST` numbers.
        let count = unsafe { mapbuf_payers(self.0, uids.as_mut_ptr(), MOST as u32) };
        let payers = uids.get(..count as usize).ok_or(EINVAL)?;
        payers.iter().try_for_each(|uid| f(*uid))
    }
}
