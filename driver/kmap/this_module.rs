// SPDX-License-Identifier: GPL-2.0

//! This module's `struct module`, for the `owner` of what the kernel calls us through.
//!
//! Its Rust name differs between series: `module!` makes a static at the crate's root in 7.2, a constant of
//! `ModuleMetadata` from 7.3 on. The symbol that modpost makes is the same in both (`scripts/mod/modpost.c`).

use kernel::bindings;

/// The kernel's `THIS_MODULE`.
pub(crate) const fn this_module() -> *mut bindings::module {
    &raw mut bindings::__this_module
}
