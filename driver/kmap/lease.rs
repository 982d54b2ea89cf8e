// SPDX-License-Identifier: GPL-2.0

//! Memory that goes at a moment of somebody else's choosing: whoever is about to touch it holds it for so long.
//!
//! How a mapping that is made at that moment is caught: such memory is mapped by page faults alone. A fault holds the
//! memory until its entry is made, and is refused once the memory has been revoked. [`Lease::revoke`] waits for those that
//! hold it, so what they have made is there when `unmap_mapping_range` runs afterwards, and is taken out. A VMA that `mmap`
//! sets up meanwhile has no entries before it can be found by that function (`__mmap_region` of `mm/vma.c` links it after the
//! file's `mmap` operation), and gets none later. A fault makes no entry in a file other than the one in which they are
//! looked for, which the lease knows ([`Lease::look_in`]). A fork copies the entries of a VMA after it has put the copy behind
//! the original in the tree of the file's VMAs (`dup_mmap` of `mm/mmap.c`), and the function walks in that order.

use kernel::{
    bindings, new_condvar, new_mutex,
    prelude::*,
    sync::{
        CondVar,
        Mutex, //
    },
};

struct State {
    holds: u64,
    revoked: bool,
    /// The address space of the file in whose mappings entries are looked for, or null.
    looked_in: Space,
}

/// An address space, of which nothing but the address is used.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Space(usize);

/// Who holds some memory now. Whoever offers that memory gives nothing of it without a hold [of this](Hold::is_of).
#[pin_data]
pub struct Lease {
    #[pin]
    state: Mutex<State>,
    #[pin]
    changed: CondVar,
}

impl Lease {
    /// Nobody holds it yet.
    pub fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            state <- new_mutex!(State { holds: 0, revoked: false, looked_in: Space(0) }, "lease"),
            changed <- new_condvar!("lease_changed"),
        })
    }

    /// Keeps the memory until the answer is dropped; `None` where it was revoked.
    pub fn hold(&self) -> Option<Hold<'_>> {
        let mut state = self.state.lock();
        if state.revoked {
            return None;
        }
        state.holds += 1;
        Some(Hold(Some((self, state.looked_in))))
    }

    /// Says in which file's mappings entries for the memory are looked for after it was revoked. That is said once: later
    /// calls change nothing, and the answer is whether this was the first.
    ///
    /// Nothing but the address is used. A file that gets the same address later is taken for it, so whoever has its mappings
    /// unmapped keeps the address space as long as the lease.
    pub fn look_in(&self, space: *const bindings::address_space) -> bool {
        let mut state = self.state.lock();
        let first = state.looked_in == Space(0);
        if first {
            state.looked_in = Space(space.addr());
        }
        first
    }

    /// How many hold it now.
    pub fn holds(&self) -> u64 {
        self.state.lock().holds
    }

    /// Lets nobody hold the memory any more.
    pub fn close(&self) {
        self.state.lock().revoked = true;
    }

    /// The same, and waits for those who hold it.
    pub fn revoke(&self) {
        let mut state = self.state.lock();
        state.revoked = true;
        while state.holds > 0 {
            self.changed.wait(&mut state);
        }
    }
}

/// Memory that stays as long as this lives. What can be reached of such memory is borrowed from this.
pub struct Hold<'a>(Option<(&'a Lease, Space)>);

/// A hold of memory that never goes before its owner, for any time. Memory that does go answers nothing to it.
pub static OWNED: Hold<'static> = Hold::of_its_owner();

impl Hold<'_> {
    /// Of memory that never goes before its owner.
    pub const fn of_its_owner() -> Self {
        Self(None)
    }

    /// Whether it is one of this lease.
    pub fn is_of(&self, lease: &Lease) -> bool {
        self.0.is_some_and(|(held, _)| core::ptr::eq(held, lease))
    }

    /// Whether an entry that is made in a mapping of this file is found when the memory goes.
    pub(crate) fn is_found_in(&self, space: *const bindings::address_space) -> bool {
        self.0
            .is_none_or(|(_, looked_in)| looked_in == Space(space.addr()))
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        if let Some((lease, _)) = self.0 {
            let mut state = lease.state.lock();
            state.holds = state.holds.saturating_sub(1);
            if state.holds == 0 && state.revoked {
                lease.changed.notify_all();
            }
        }
    }
}
