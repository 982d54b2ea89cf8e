// SPDX-License-Identifier: GPL-2.0

//! Who uses a region: either any number of mappings and accesses by `pread` and `pwrite`, or one probe that writes.
//!
//! A probe reads a word, overwrites it with patterns and restores it. A write in between would be lost, and a read would
//! see the patterns.

use crate::sys::Watch;
use kernel::{
    new_condvar, new_mutex,
    prelude::*,
    sync::{
        CondVar,
        Mutex, //
    },
};

/// How a region is used now.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Use {
    /// By this many mappings and this many accesses.
    Shared { mappings: u64, accesses: u64 },
    /// By a probe.
    Alone,
}

const NOBODY: Use = Use::Shared {
    mappings: 0,
    accesses: 0,
};

struct State {
    now: Use,
    /// Mappings and accesses that wait for a probe to end. They go before the next probe.
    waiting: u64,
}

/// Admits users of a region. No lock is held while they use it.
#[pin_data]
pub(crate) struct Gate {
    #[pin]
    state: Mutex<State>,
    #[pin]
    changed: CondVar,
}

impl Gate {
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            state <- new_mutex!(State { now: NOBODY, waiting: 0 }, "mapbuf_gate"),
            changed <- new_condvar!("mapbuf_gate_changed"),
        })
    }

    /// Waits for a probe to end, then counts a user.
    ///
    /// # Errors
    ///
    /// `EINTR`: there was a signal before.
    fn come(&self, mapping: bool) -> Result {
        let mut state = self.state.lock();
        loop {
            if let Use::Shared { mappings, accesses } = &mut state.now {
                *(if mapping { mappings } else { accesses }) += 1;
                return Ok(());
            }
            state.waiting += 1;
            let signal = self.changed.wait_interruptible(&mut state);
            state.waiting -= 1;
            if signal {
                // A probe may wait for the waiters.
                self.changed.notify_all();
                return Err(EINTR);
            }
        }
    }

    fn go(&self, mapping: bool) {
        if let Use::Shared { mappings, accesses } = &mut self.state.lock().now {
            let users = if mapping { mappings } else { accesses };
            *users = users.saturating_sub(1);
        }
        self.changed.notify_all();
    }

    /// An access by the kernel, until the result is dropped.
    pub(crate) fn access(&self) -> Result<Access<'_>> {
        self.come(false)?;
        Ok(Access(self))
    }

    /// Exclusive use until the result is dropped. Waits for accesses that have begun.
    pub(crate) fn alone(&self) -> Result<Alone<'_>, NotAlone> {
        let mut state = self.state.lock();
        loop {
            match state.now {
                NOBODY if state.waiting == 0 => {
                    state.now = Use::Alone;
                    return Ok(Alone(self));
                }
                Use::Shared { mappings, .. } if mappings > 0 => {
                    return Err(NotAlone::Mapped(mappings));
                }
                Use::Shared { .. } | Use::Alone => {
                    if self.changed.wait_interruptible(&mut state) {
                        return Err(NotAlone::Interrupted);
                    }
                }
            }
        }
    }
}

/// Why exclusive use of a region is refused.
pub(crate) enum NotAlone {
    /// There are this many mappings.
    Mapped(u64),
    /// There was a signal.
    Interrupted,
}

/// An access by the kernel.
pub(crate) struct Access<'a>(&'a Gate);

impl Drop for Access<'_> {
    fn drop(&mut self) {
        self.0.go(false);
    }
}

/// Nobody else uses the region.
pub(crate) struct Alone<'a>(&'a Gate);

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.0.state.lock().now = NOBODY;
        self.0.changed.notify_all();
    }
}

impl Watch for Gate {
    fn enter(&self) -> Result {
        self.come(true)
    }

    fn again(&self) {
        // There is a mapping already, so there is no probe to wait for.
        if let Use::Shared { mappings, .. } = &mut self.state.lock().now {
            *mappings += 1;
        }
    }

    fn leave(&self) {
        self.go(true);
    }
}
