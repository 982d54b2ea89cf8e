// SPDX-License-Identifier: GPL-2.0

//! Work that is repeated in the background.
//!
//! The kernel crate's `DelayedWork` cannot be cancelled in 7.2, so it could run after the module is unloaded.

use super::helpers::kmap_helper_init_delayed_work;
use core::ops::Deref;
use kernel::{
    bindings,
    container_of,
    prelude::*,
    types::Opaque, //
};

/// How often the work is done, in milliseconds.
const PERIOD_MS: u32 = 200;

/// Something to do in the background.
pub trait Background: Send + Sync + 'static {
    /// Does the work. Returns whether to repeat it.
    fn run(&self) -> bool;
}

/// Does its work in the background from [`Self::start`] until none is left.
///
/// # Invariants
///
/// `work` is initialized with [`Self::work`] and lies in this struct, which stays where it is.
#[pin_data(PinnedDrop)]
pub struct Later<T: Background> {
    #[pin]
    work: Opaque<bindings::delayed_work>,
    #[pin]
    inner: T,
}

// SAFETY: Works belong to no thread; `T` is `Send`.
unsafe impl<T: Background> Send for Later<T> {}
// SAFETY: The workqueue locks what it keeps in `work`; `T` is `Sync`.
unsafe impl<T: Background> Sync for Later<T> {}

impl<T: Background> Later<T> {
    /// Initializes it; nothing is queued yet.
    pub fn new(inner: impl PinInit<T>) -> impl PinInit<Self> {
        pin_init!(Self {
            // INVARIANT: The initializer is given the place where the struct stays.
            work <- Opaque::ffi_init(|work| {
                // SAFETY: `work` is memory for such a struct.
                unsafe { kmap_helper_init_delayed_work(work, Some(Self::work)) }
            }),
            inner <- inner,
        })
    }

    /// Queues the work, if it is not queued already.
    pub fn start(&self) {
        // SAFETY: By the type's invariants the work is initialized.
        unsafe {
            bindings::queue_delayed_work_on(
                bindings::wq_misc_consts_WORK_CPU_UNBOUND as kernel::ffi::c_int,
                // Sweeping takes time in proportion to the pages.
                bindings::system_dfl_wq,
                self.work.get(),
                kernel::time::msecs_to_jiffies(PERIOD_MS),
            )
        };
    }

    /// Cancels it, and waits until it has ended.
    pub fn stop(&self) {
        // SAFETY: By the type's invariants the work is initialized.
        unsafe { bindings::disable_delayed_work_sync(self.work.get()) };
    }

    /// # Safety
    ///
    /// The workqueue calls this for the work of a `Later<T>` that is alive.
    unsafe extern "C" fn work(work: *mut bindings::work_struct) {
        let delayed = container_of!(work, bindings::delayed_work, work);
        let delayed: *mut Opaque<bindings::delayed_work> = delayed.cast();
        // SAFETY: By the safety requirements; `Drop` waits until this is done.
        let this = unsafe { &*container_of!(delayed, Self, work) };
        if this.inner.run() {
            this.start();
        }
    }
}

#[pinned_drop]
impl<T: Background> PinnedDrop for Later<T> {
    fn drop(self: Pin<&mut Self>) {
        self.stop();
    }
}

impl<T: Background> Deref for Later<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}
