// SPDX-License-Identifier: GPL-2.0

//! Memory of a device that a dma-buf shows, and how everybody who reaches it is made to let go: mappings, the kernel's own
//! accesses, and devices of other drivers.
//!
//! The lock order is: the lock of `shown`, the dma-buf's reservation lock, the lock in the lease. The first is never taken
//! with one of the others: a dma-buf is released with no lock of its own held.

use super::{
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
    /// Until it goes.
    buffer: Option<NonNull<bindings::dma_buf>>,
    /// Which stays: no other file has its address space then.
    inode: Inode,
}

/// Something of a device that goes when the device does, and the dma-buf that shows it.
///
/// # Invariants
///
/// What is in `shown` is a dma-buf that is not freed before it is taken out, and the inode in whose address space `lease` has
/// entries looked for.
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

    /// For what the kernel has mapped as long as this is held.
    pub(super) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Says which dma-buf shows it. What another one shows has no entry in any mapping.
    ///
    /// # Safety
    ///
    /// The dma-buf is not freed before [`Self::shown_no_more`] is called for it. The file is its own.
    pub(super) unsafe fn shown_by(
        &self,
        buffer: NonNull<bindings::dma_buf>,
        file: *const bindings::file,
    ) {
        // SAFETY: By the safety requirements.
        let inode = unsafe { Inode::of(file) };
        let mut shown = self.shown.lock();
        if self.lease.look_in(inode.space()) {
            // INVARIANT: By the safety requirements, and by what was just said to the lease.
            *shown = Some(Shown {
                buffer: Some(buffer),
                inode,
            });
        }
    }

    /// Says that this dma-buf is about to go. Waits for those who tell its importers something.
    pub(super) fn shown_no_more(&self, buffer: NonNull<bindings::dma_buf>) {
        if let Some(shown) = &mut *self.shown.lock() {
            shown.buffer.take_if(|shown| *shown == buffer);
        }
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
        let shown = self.shown.lock();
        if let Some(buffer) = shown.as_ref().and_then(|shown| shown.buffer) {
            // SAFETY: By the type's invariants, while we have the lock; we hold no lock of the dma-buf.
            unsafe { mapbuf_invalidate(buffer.as_ptr()) };
        }
        drop(shown);
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

/// The inode of a dma-buf, which may be gone itself.
///
/// # Invariants
///
/// A reference on the inode is ours.
struct Inode(*mut bindings::inode);

// SAFETY: References on an inode can be dropped anywhere that may sleep.
unsafe impl Send for Inode {}
// SAFETY: There is nothing to change through a shared reference without the kernel's own locks.
unsafe impl Sync for Inode {}

impl Inode {
    /// # Safety
    ///
    /// The file is valid.
    unsafe fn of(file: *const bindings::file) -> Self {
        // SAFETY: By the safety requirements; an open file has an inode.
        unsafe {
            let inode = (*file).f_inode;
            bindings::ihold(inode);
            // INVARIANT: The reference was just taken.
            Self(inode)
        }
    }

    /// Where the mappings of the dma-buf are found.
    fn space(&self) -> *mut bindings::address_space {
        // SAFETY: By the type's invariants it is there; the file has the same (`dma_buf_getfile` of
        // `drivers/dma-buf/dma-buf.c`).
        unsafe { (*self.0).i_mapping }
    }

    /// Takes out what all mappings of the dma-buf show, private copies too.
    fn unmap(&self) {
        // SAFETY: It is an address space, and stays as long as the inode; a length of 0 is all of it.
        unsafe { bindings::unmap_mapping_range(self.space(), 0, 0, 1) };
    }
}

impl Drop for Inode {
    fn drop(&mut self) {
        // SAFETY: By the type's invariants.
        unsafe { bindings::iput(self.0) };
    }
}
