// SPDX-License-Identifier: GPL-2.0

//! dma-heaps: nodes below `/dev/dma_heap`, for programs that know nothing else.
//!
//! A heap that was added stays: `dma_heap_add` of `drivers/dma-buf/dma-heap.c` has no counterpart. So the module stays too.

use super::{
    dmabuf::{
        DmaBuf,
        Exporter, //
    },
    helpers::*,
};
use kernel::{
    bindings,
    error::to_result,
    ffi::{
        c_ulong,
        c_void, //
    },
    prelude::*,
    str::CStr, //
};

/// Who serves a heap.
pub(crate) trait Serves: Send + Sync + 'static {
    /// The data of its dma-bufs.
    type Data: Exporter;

    /// A new dma-buf of at least this many bytes, for the calling thread. Its descriptors are opened with `flags`.
    fn allocate(&self, bytes: usize, flags: u32) -> Result<DmaBuf<Self::Data>>;
}

/// Adds a heap.
///
/// # Errors
///
/// `EOPNOTSUPP` where the kernel has no heaps; what it says where there is one of this name.
pub(crate) fn add<S: Serves>(name: &'static CStr, serves: S) -> Result {
    let serves = KBox::into_raw(KBox::new(serves, GFP_KERNEL)?);
    // SAFETY: The name is static, and the function is one for what `serves` points to, which is never freed once this
    // succeeds; nor is the module, which the function keeps then.
    let added = unsafe { mapbuf_add_heap(name.as_char_ptr(), allocate::<S>, serves.cast()) };
    to_result(added).inspect_err(|_| {
        // SAFETY: It came from the box, and the kernel has not taken it.
        drop(unsafe { KBox::from_raw(serves) });
    })
}

/// # Safety
///
/// `serves` is what [`add`] was given for the same `S`.
unsafe extern "C" fn allocate<S: Serves>(
    serves: *mut c_void,
    bytes: c_ulong,
    flags: u32,
) -> *mut bindings::dma_buf {
    // SAFETY: By the safety requirements; it is never freed.
    let serves = unsafe { &*serves.cast::<S>() };
    match serves.allocate(bytes, flags) {
        Ok(buffer) => buffer.into_raw().as_ptr(),
        Err(error) => error.to_ptr(),
    }
}
