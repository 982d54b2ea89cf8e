// SPDX-License-Identifier: GPL-2.0

//! What an open file may be used for.

use kernel::bindings;

/// `FMODE_READ` of `include/linux/fs.h`.
pub(super) const FMODE_READ: bindings::fmode_t = 1 << 0;

/// `FMODE_WRITE` of `include/linux/fs.h`.
pub(super) const FMODE_WRITE: bindings::fmode_t = 1 << 1;

/// `FMODE_CAN_ODIRECT` of `include/linux/fs.h`.
pub(super) const FMODE_CAN_ODIRECT: bindings::fmode_t = 1 << 22;
