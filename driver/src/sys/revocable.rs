// SPDX-License-Identifier: GPL-2.0

//! Memory of a device that a dma-buf shows, and how everybody who reaches it is made to let go: mappings, the kernel's own
//! accesses, and devices of other drivers.
//!
//! The lock order is: the lock of `shown`, the dma-buf's reservation lock, the lock in the lease. The first is never taken
//! with one of the others: a dma-buf is released with no lock of its own held.

use super::{
    dmabuf::Inode,
    helpers::*,
    lease::{
        Hold,
        Lease, //
    },
};
use core::ptr::NonNull;
use kernel::{
    bindings, new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
};

/// The dma-buf that shows it.
struct Shown {
    buffer: NonNull<bindings::dma_buf>,
    /// Which may be there for longer than the dma-buf's file.
    inode: Inode,
}

/// Something of a device that goes when the device does, and the dma-buf that shows it.
///
/// # Invariants
///
/// What is in `shown` is a dma-buf that is not freed before it is taken out.
#[pin_data]
pub(crate) struct Revocable {
    #[pin]
    lease: Lease,
    #[pin]
    shown: Mutex<Option<Shown>>,
}

// SAFETY: A dma-buf belongs to no thread.
unsafe impl Send for Revocable {}
// SAFETY: The lease and the lock are `Sync`, and the pointer is used under the lock only.
unsafe impl Sync for Revocable {}

impl Revocable {
    /// Nothing shows it yet; `None` where there is no memory.
    pub(super) fn new(flags: kernel::alloc::Flags) -> Option<Arc<Self>> {
        // INVARIANT: Nothing shows it.
        let this = pin_init!(Self {
            lease <- Lease::new(),
            shown <- new_mutex!(None, "mapbuf_shown"),
        });
        Arc::pin_init(this, flags).ok()
    }

    /// Keeps it until the answer is dropped; `None` where it was revoked.
    pub(super) fn hold(&self) -> Option<Hold<'_>> {
        self.lease.hold()
    }

    /// Whether `hold` is one of it.
    pub(super) fn is_held_by(&self, hold: &Hold<'_>) -> bool {
        hold.is_of(&self.lease)
    }

    /// Says which dma-buf shows it.
    ///
    /// # Safety
    ///
    /// The dma-buf is not freed before [`Self::shown_no_more`] is called. The inode is its own.
    pub(super) unsafe fn shown_by(&self, buffer: NonNull<bindings::dma_buf>, inode: Inode) {
        // INVARIANT: By the safety requirements.
        *self.shown.lock() = Some(Shown { buffer, inode });
    }

    /// Says that this dma-buf is about to go. Waits for those who tell its importers something.
    pub(super) fn shown_no_more(&self) {
        // The inode goes without the lock.
        let shown = self.shown.lock().take();
        drop(shown);
    }

    /// Nobody holds it any more when this returns, and nobody will.
    pub(super) fn end(&self) {
        self.lease.revoke();
    }

    /// The same, and no mapping has an entry for it any more. Importers are told to let go, and waited for: they hold it as
    /// long as they have it mapped (`dma_buf_invalidate_mappings` of `drivers/dma-buf/dma-buf.c` has the order).
    pub(super) fn revoke(&self) {
        // Before they are told: they may ask for it again at once.
        self.lease.close();
        if let Some(shown) = &*self.shown.lock() {
            // SAFETY: By the type's invariants, while we have the lock; we hold no lock of the dma-buf.
            unsafe { mapbuf_invalidate(shown.buffer.as_ptr()) };
        }
        self.end();
        // Entries were made by who held the lease, and are all there: see `lease.rs`.
        if let Some(shown) = &*self.shown.lock() {
            shown.inode.unmap();
        }
    }
}

/// A hold that keeps what it is one of.
pub(super) struct LongHold {
    /// Dropped first.
    _hold: Hold<'static>,
    _of: Arc<Revocable>,
}

impl LongHold {
    /// `None` where it was revoked.
    pub(super) fn new(of: &Arc<Revocable>) -> Option<Self> {
        let hold = of.hold()?;
        // SAFETY: The hold borrows what the reference beside it keeps, which does not move, and is dropped before that.
        let hold = unsafe { core::mem::transmute::<Hold<'_>, Hold<'static>>(hold) };
        Some(Self {
            _hold: hold,
            _of: of.clone(),
        })
    }
}
