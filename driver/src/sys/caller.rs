// SPDX-License-Identifier: GPL-2.0

//! The calling thread, and the module's parameters.

pub(crate) use super::task::{
    cond_resched,
    fatal_signal_pending,
    resched_unless_killed, //
};

use super::helpers::*;
use kernel::{
    bindings,
    ffi::c_int,
    prelude::*, //
};

/// A thread, distinguished from a later one with the same number.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) struct Thread {
    pid: i32,
    start: u64,
    /// In the thread's own namespace.
    number: u32,
}

impl Thread {
    pub(crate) fn current() -> Self {
        Self {
            pid: kernel::current!().pid(),
            // SAFETY: Reads a field of the current task.
            start: unsafe { mapbuf_current_start() },
            // SAFETY: Reads the number of the current task.
            number: unsafe { mapbuf_current_number() },
        }
    }

    /// What `gettid` returns in it.
    pub(crate) fn number(self) -> u32 {
        self.number
    }
}

/// Bytes left in the caller's memory cgroup, and its limit; of the cgroup and its ancestors, those of the one with the
/// least room. `None` if there is no limit.
pub(crate) fn cgroup_room() -> Option<(u64, u64)> {
    let mut limit = 0;
    // SAFETY: The function writes the limit.
    let room = unsafe { mapbuf_cgroup_room(&mut limit) };
    (limit != u64::MAX).then_some((room, limit))
}

/// A capability in the initial user namespace, by what it allows.
#[derive(Clone, Copy)]
pub(crate) enum Capability {
    /// Give files away.
    Chown,
    /// See DMA addresses.
    SysRawio,
    /// See physical addresses; take names away.
    SysAdmin,
}

impl Capability {
    fn number(self) -> c_int {
        let number = match self {
            Self::Chown => bindings::CAP_CHOWN,
            Self::SysRawio => bindings::CAP_SYS_RAWIO,
            Self::SysAdmin => bindings::CAP_SYS_ADMIN,
        };
        number as c_int
    }
}

/// Whether the caller has a capability. A denial is audited.
pub(crate) fn capable(capability: Capability) -> bool {
    // SAFETY: `capable` takes any valid capability number, and we are in process context.
    unsafe { bindings::capable(capability.number()) }
}

/// Whether the caller has a capability that shows more. A denial is not audited.
pub(crate) fn may_see(capability: Capability) -> bool {
    // SAFETY: Takes any valid capability number, and we are in process context.
    unsafe { mapbuf_may_see(capability.number()) }
}

/// The caller's file-system uid, in the initial user namespace.
pub(crate) fn uid() -> u32 {
    // SAFETY: Reads the current credentials.
    unsafe { mapbuf_current_uid() }
}

/// The caller's file-system gid, in the initial user namespace.
pub(crate) fn gid() -> u32 {
    // SAFETY: Reads the current credentials.
    unsafe { mapbuf_current_gid() }
}

/// A uid from the caller's user namespace, translated to the initial one.
pub(crate) fn map_uid(uid: u32) -> Option<u32> {
    // SAFETY: Looks the number up in the caller's user namespace.
    Some(unsafe { mapbuf_uid_from_caller(uid) }).filter(|uid| *uid != u32::MAX)
}

/// A gid from the caller's user namespace, translated to the initial one.
pub(crate) fn map_gid(gid: u32) -> Option<u32> {
    // SAFETY: Looks the number up in the caller's user namespace.
    Some(unsafe { mapbuf_gid_from_caller(gid) }).filter(|gid| *gid != u32::MAX)
}

/// Whether the caller is in a group (by its number in the initial user namespace).
pub(crate) fn in_group(gid: u32) -> bool {
    // SAFETY: Looks at the current credentials.
    unsafe { mapbuf_in_group(gid) }
}

/// Module parameters. They can change at any time.
pub(crate) mod param {
    use super::*;

    pub(crate) fn max_bytes() -> u64 {
        // SAFETY: Reads a static.
        unsafe { mapbuf_param_max_bytes() }
    }

    pub(crate) fn max_bytes_per_user() -> u64 {
        // SAFETY: Reads a static.
        unsafe { mapbuf_param_max_bytes_per_user() }
    }

    pub(crate) fn max_buffers() -> u32 {
        // SAFETY: Reads a static.
        unsafe { mapbuf_param_max_buffers() }
    }

    pub(crate) fn max_names() -> u32 {
        // SAFETY: Reads a static.
        unsafe { mapbuf_param_max_names() }
    }

    pub(crate) fn dma_heaps() -> bool {
        // SAFETY: Reads a parameter.
        unsafe { mapbuf_param_dma_heaps() }
    }

    pub(crate) fn expose_dma() -> bool {
        // SAFETY: Reads a static.
        unsafe { mapbuf_param_expose_dma() }
    }

    /// The declarations of regions.
    pub(crate) fn regions() -> &'static CStr {
        // SAFETY: A static buffer that ends with a zero, which nobody writes to any more.
        unsafe { CStr::from_char_ptr(mapbuf_param_regions()) }
    }

    /// Bytes of memory that the machine has.
    pub(crate) fn ram() -> u64 {
        // SAFETY: Reads a static.
        unsafe { mapbuf_ram_bytes() }
    }
}
