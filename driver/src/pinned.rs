// SPDX-License-Identifier: GPL-2.0

//! What is left of buffers that are gone: pages that somebody else still refers to, with their charge.
//!
//! `vmsplice`, `O_DIRECT`, fixed buffers of `io_uring` and the like take references to pages, not to buffers. Nobody says
//! when the last of those ends, so it is looked after: in the background, and when somebody would be refused otherwise.

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
    /// One that was added already.
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
    /// Goes first; the charge follows.
    parked: Parked,
    charge: Charge,
    freed: Option<Share>,
    next: Option<KBox<Held>>,
    _buffer: Counted,
    _counted: Counted,
}

impl Held {
    /// Keeps what is left, if anything is, in the room that was made for it.
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

    /// Gives back what nobody else refers to any more; whether nothing is left.
    fn sweep(&mut self) -> bool {
        let before = self.parked.pages();
        self.parked.sweep();
        if self.parked.pages() < before {
            self.reduce();
        }
        self.parked.pages() == 0
    }

    /// Has the charge follow the pages.
    fn reduce(&mut self) {
        let bytes = self.parked.pages() as u64 * PAGE_SIZE as u64;
        self.charge.reduce(bytes);
        if let Some(freed) = &mut self.freed {
            freed.reduce(bytes);
        }
    }
}

/// All that is left of buffers.
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

    /// Gives back what nobody else refers to any more; whether that was anything.
    pub(crate) fn sweep(&self) -> bool {
        // Others need not wait while pages are looked at.
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
            // One after the other: not each within the last one's drop.
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

/// Forgets all of it when the module goes: nobody keeps an account any more. The pages stay with whoever refers to them,
/// and charged to their memory cgroup.
pub(crate) struct ForgottenAtUnload(Arc<Driver>);

impl ForgottenAtUnload {
    pub(crate) fn new(driver: Arc<Driver>) -> Self {
        Self(driver)
    }
}

impl Drop for ForgottenAtUnload {
    fn drop(&mut self) {
        self.0.pinned.stop();
        // What is left holds the driver, which would never go.
        self.0.pinned.forget();
    }
}
