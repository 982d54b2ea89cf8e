// SPDX-License-Identifier: GPL-2.0

//! Pages of freed buffers that somebody else still refers to, with their charge.
//!
//! `vmsplice`, `O_DIRECT`, fixed buffers of `io_uring` and the like take references to pages, not to buffers. Nothing
//! reports when the last of those ends, so the pages are checked in the background, and before a request is refused.

use crate::{
    accounts::Charge,
    sys::{
        counts::{
            Counted,
            Sort, //
        },
        later::Background,
        Parked, //
    },
    Driver,
};
use core::mem::MaybeUninit;
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex, //
    },
};

/// Buffers of one session whose ids were freed and whose memory is still held.
pub(crate) struct Freed {
    buffers: Atomic<i64>,
    bytes: Atomic<i64>,
}

impl Freed {
    pub(crate) fn new() -> Self {
        Self {
            buffers: Atomic::new(0),
            bytes: Atomic::new(0),
        }
    }

    pub(crate) fn add(&self, buffers: i64, bytes: i64) {
        self.buffers.add(buffers, Relaxed);
        self.bytes.add(bytes, Relaxed);
    }

    /// How many, and their bytes.
    pub(crate) fn held(&self) -> (u64, u64) {
        let value = |count: &Atomic<i64>| u64::try_from(count.load(Relaxed)).unwrap_or(0);
        (value(&self.buffers), value(&self.bytes))
    }
}

/// A buffer's part in what its session has freed and holds.
pub(crate) struct Share {
    session: Arc<Freed>,
    bytes: u64,
}

impl Share {
    /// A part that was added before.
    pub(crate) fn new(session: Arc<Freed>, bytes: u64) -> Self {
        Self { session, bytes }
    }

    fn reduce(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.session.add(0, bytes as i64 - self.bytes as i64);
        self.bytes = bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.session.add(-1, -(self.bytes as i64));
    }
}

/// What is left of one buffer.
pub(crate) struct Held {
    /// Dropped first; the charge follows.
    parked: Parked,
    charge: Charge,
    freed: Option<Share>,
    next: Option<KBox<Held>>,
    _buffer: Counted,
    _counted: Counted,
}

impl Held {
    /// Keeps what is left, if anything, in the memory that was allocated for it.
    pub(crate) fn keep(
        room: KBox<MaybeUninit<Self>>,
        parked: Parked,
        charge: Charge,
        freed: Option<Share>,
        buffer: Counted,
    ) {
        if parked.pages() == 0 {
            return;
        }
        let driver = charge.driver().clone();
        let mut held = KBox::write(
            room,
            Self {
                parked,
                charge,
                freed,
                next: None,
                _buffer: buffer,
                _counted: Counted::new(Sort::Pinned),
            },
        );
        held.reduce();
        driver.pinned.add(held);
        driver.pinned.start();
    }

    /// Frees the pages that nobody else refers to any more. Returns whether none is left.
    fn sweep(&mut self) -> bool {
        let before = self.parked.pages();
        self.parked.sweep();
        if self.parked.pages() < before {
            self.reduce();
        }
        self.parked.pages() == 0
    }

    /// Reduces the charge to the pages that are left.
    fn reduce(&mut self) {
        let bytes = self.parked.pages() as u64 * PAGE_SIZE as u64;
        self.charge.reduce(bytes);
        if let Some(freed) = &mut self.freed {
            freed.reduce(bytes);
        }
    }
}

/// What is left of all freed buffers.
#[pin_data]
pub(crate) struct Pinned {
    #[pin]
    first: Mutex<Option<KBox<Held>>>,
}

impl Pinned {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            first <- kernel::new_mutex!(None, "mapbuf_pinned"),
        })
    }

    fn add(&self, mut held: KBox<Held>) {
        let mut first = self.first.lock();
        held.next = first.take();
        *first = Some(held);
    }

    /// Frees the pages that nobody else refers to any more. Returns whether there were any.
    pub(crate) fn sweep(&self) -> bool {
        // Others need not wait while the pages are checked.
        let mut list = self.first.lock().take();
        let mut swept = false;
        while let Some(mut held) = list {
            list = held.next.take();
            let before = held.parked.pages();
            let empty = held.sweep();
            swept |= held.parked.pages() < before;
            if !empty {
                self.add(held);
            }
        }
        swept
    }

    fn forget(&self) {
        let mut list = self.first.lock().take();
        while let Some(mut held) = list {
            // One after the other, rather than each within the previous one's drop.
            list = held.next.take();
        }
    }
}

impl Background for Pinned {
    fn run(&self) -> bool {
        self.sweep();
        self.first.lock().is_some()
    }
}

/// Forgets all of it when the module is unloaded: nothing is accounted any more. The pages stay with whoever refers to
/// them, and stay charged to their memory cgroup.
pub(crate) struct ForgottenAtUnload(Arc<Driver>);

impl ForgottenAtUnload {
    pub(crate) fn new(driver: Arc<Driver>) -> Self {
        Self(driver)
    }
}

impl Drop for ForgottenAtUnload {
    fn drop(&mut self) {
        self.0.pinned.stop();
        // What is left holds a reference to the driver, which would never be freed.
        self.0.pinned.forget();
    }
}
