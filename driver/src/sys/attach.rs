// SPDX-License-Identifier: GPL-2.0

//! Devices that import a buffer: the scatter list of its pages, mapped for each of them.
//!
//! The core calls `attach` and `detach` without the dma-buf's reservation lock, `map` and `unmap` with it, and
//! `begin` and `end` of CPU access without (`DOC: locking convention` of `drivers/dma-buf/dma-buf.c`); so whether
//! an attachment is mapped, and for which direction, is protected by that lock.

use super::{
    backing::Typed,
    counts::{
        Counted,
        Sort, //
    },
    fault::Faults,
    helpers::*,
    kernel_map::KernelMap,
    revocable::{
        LongHold,
        Revocable, //
    },
    scatter::Scatter, //
};
use crate::kmap::helpers::{
    kmap_helper_iosys_set,
    kmap_helper_sync_table, //
};
use core::{
    cell::UnsafeCell,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    error::to_result,
    prelude::*,
    sync::Arc, //
};

/// What devices of other drivers can import.
pub(crate) trait Importable: Faults {
    /// Whether a device may attach, whose driver gives up what it has mapped when it is told to, or does not.
    ///
    /// # Errors
    ///
    /// Its frames have no `struct page`, which importers need; it may go, and the driver does not let go, so that whoever
    /// takes it back would wait for the driver.
    fn attach(&self, lets_go: bool) -> Result;

    /// What it goes with, if it may go before its owner.
    fn revocable(&self) -> Option<&Arc<Revocable>>;

    /// Whether all of its frames have a `struct page`, and are no device's memory already.
    fn has_pages(&self) -> bool;
}

/// The data of a dma-buf, and the kernel's address of it while an importer wants one.
///
/// # Invariants
///
/// `map` is of the memory of `data`. It is changed with the dma-buf's reservation lock only.
#[repr(C)]
pub(super) struct Exported<T> {
    /// First, so that a pointer to all of it is one to the data.
    data: Typed<T>,
    map: UnsafeCell<Option<KernelMap>>,
    /// What the data said that it goes with.
    revocable: Option<Arc<Revocable>>,
}

// SAFETY: A shared reference gives access to `data` alone, which is `Sync`.
unsafe impl<T: Sync> Sync for Exported<T> {}

impl<T: Importable> Exported<T> {
    pub(super) fn new(data: T) -> Self {
        let revocable = data.revocable().cloned();
        // INVARIANT: There is none.
        Self {
            data: Typed::new(data),
            map: UnsafeCell::new(None),
            revocable,
        }
    }

    /// What the data goes with, if it may go: the same at all times.
    pub(super) fn revocable(&self) -> Option<&Arc<Revocable>> {
        self.revocable.as_ref()
    }

    /// Whether the kernel may map all of it at one address.
    pub(super) fn has_kernel_address(&self) -> bool {
        let memory = self.data.data().backing();
        memory.page(0).is_some() || memory.address().is_some()
    }

    /// The data; no importer has an address any more.
    pub(super) fn into_data(self) -> T {
        drop(self.map.into_inner());
        self.data.into_data()
    }

    /// The data of a dma-buf.
    ///
    /// # Safety
    ///
    /// The dma-buf was made by `DmaBuf::export` for `T`, and outlives `'a`.
    pub(super) unsafe fn of<'a>(buffer: *mut bindings::dma_buf) -> &'a T {
        // SAFETY: By the safety requirements its private data is such a struct.
        unsafe { (*(*buffer).priv_.cast::<Self>()).data.data() }
    }

    /// What the data of a dma-buf goes with.
    ///
    /// # Safety
    ///
    /// As for [`Self::of`].
    unsafe fn revocable_of<'a>(buffer: *mut bindings::dma_buf) -> Option<&'a Arc<Revocable>> {
        // SAFETY: By the safety requirements its private data is such a struct.
        unsafe { &*(*buffer).priv_.cast::<Self>() }.revocable()
    }

    /// The place of the kernel's address.
    ///
    /// # Safety
    ///
    /// As for [`Self::of`]; the reservation lock is held for `'a`.
    unsafe fn map<'a>(buffer: *mut bindings::dma_buf) -> &'a mut Option<KernelMap> {
        // SAFETY: By the safety requirements; the lock makes us the only user, by the type's invariants.
        unsafe { &mut *(*(*buffer).priv_.cast::<Self>()).map.get() }
    }
}

/// What a device has while it has a buffer mapped.
struct Mapped {
    direction: bindings::dma_data_direction,
    _counted: Counted,
    /// Memory that may go stays until it is unmapped.
    hold: Option<LongHold>,
}

/// The private data of an attachment.
pub(super) struct Attachment {
    table: Scatter,
    mapped: Option<Mapped>,
    _counted: Counted,
}

impl Attachment {
    /// A scatter list of all pages of a buffer, in pieces that the device takes.
    ///
    /// # Safety
    ///
    /// `device` is the one that attaches.
    unsafe fn new<T: Importable>(
        data: &T,
        lets_go: bool,
        device: *mut bindings::device,
    ) -> Result<KBox<Self>> {
        data.attach(lets_go)?;
        // SAFETY: By the safety requirements.
        let table = unsafe { Scatter::of(data.backing(), || data.hold(), device) }?;
        Ok(KBox::new(
            Self {
                table,
                mapped: None,
                _counted: Counted::new(Sort::Attachment),
            },
            GFP_KERNEL,
        )?)
    }
}

/// The operations of a dma-buf of `T` for importers.
pub(super) struct Import<T>(core::marker::PhantomData<T>);

impl<T: Importable> Import<T> {
    /// # Safety
    ///
    /// The attachment is one that [`Self::attach`] accepted, and the reservation lock is held.
    unsafe fn of<'a>(attachment: *mut bindings::dma_buf_attachment) -> &'a mut Attachment {
        // SAFETY: `attach` stored a box, which `detach` takes back; the lock makes us the only user.
        unsafe { &mut *(*attachment).priv_.cast::<Attachment>() }
    }

    /// # Safety
    ///
    /// The core calls this for a dma-buf of `T` and a new attachment to it.
    pub(super) unsafe extern "C" fn attach(
        buffer: *mut bindings::dma_buf,
        attachment: *mut bindings::dma_buf_attachment,
    ) -> kernel::ffi::c_int {
        // SAFETY: By the safety requirements.
        let (data, device, lets_go) = unsafe {
            let lets_go = bindings::dma_buf_attach_revocable(attachment);
            (Exported::<T>::of(buffer), (*attachment).dev, lets_go)
        };
        // SAFETY: It is the device that attaches.
        match unsafe { Attachment::new(data, lets_go, device) } {
            Ok(ours) => {
                // SAFETY: The attachment's private field is ours.
                unsafe { (*attachment).priv_ = KBox::into_raw(ours).cast() };
                0
            }
            Err(error) => error.to_errno(),
        }
    }

    /// # Safety
    ///
    /// The core calls this for an attachment that [`Self::attach`] accepted, once, when it is unmapped.
    pub(super) unsafe extern "C" fn detach(
        _buffer: *mut bindings::dma_buf,
        attachment: *mut bindings::dma_buf_attachment,
    ) {
        // SAFETY: `attach` stored a box.
        drop(unsafe { KBox::from_raw((*attachment).priv_.cast::<Attachment>()) });
    }

    /// # Safety
    ///
    /// The core calls this for an attachment that [`Self::attach`] accepted, with the reservation lock.
    pub(super) unsafe extern "C" fn map(
        attachment: *mut bindings::dma_buf_attachment,
        direction: bindings::dma_data_direction,
    ) -> *mut bindings::sg_table {
        // SAFETY: By the safety requirements.
        let (ours, device, revocable) = unsafe {
            let revocable = Exported::<T>::revocable_of((*attachment).dmabuf);
            (Self::of(attachment), (*attachment).dev, revocable)
        };
        // There is one table for each attachment, and what is mapped twice would be given back after the first unmapping.
        if ours.mapped.is_some() {
            return EBUSY.to_ptr();
        }
        let hold = revocable.map(LongHold::new);
        if let Some(None) = hold {
            return ENODEV.to_ptr();
        }
        // SAFETY: The table describes pages of the buffer, which the attachment keeps alive, or the hold until it is unmapped.
        let mapped =
            unsafe { bindings::dma_map_sgtable(device, ours.table.as_ptr(), direction, 0) };
        let mapped = to_result(mapped);
        match mapped {
            Ok(()) => {
                ours.mapped = Some(Mapped {
                    direction,
                    _counted: Counted::new(Sort::DeviceMapping),
                    hold: hold.flatten(),
                });
                ours.table.as_ptr()
            }
            Err(error) => error.to_ptr(),
        }
    }

    /// # Safety
    ///
    /// The core calls this for a table that [`Self::map`] gave, with the reservation lock.
    pub(super) unsafe extern "C" fn unmap(
        attachment: *mut bindings::dma_buf_attachment,
        table: *mut bindings::sg_table,
        direction: bindings::dma_data_direction,
    ) {
        // SAFETY: By the safety requirements.
        unsafe {
            let mapped = Self::of(attachment).mapped.take();
            let (list, entries) = ((*table).sgl, (*table).orig_nents as kernel::ffi::c_int);
            bindings::dma_unmap_sg_attrs((*attachment).dev, list, entries, direction, 0);
            if mapped.as_ref().is_some_and(|mapped| mapped.hold.is_some()) {
                // Whoever waits for the hold gives the memory back.
                mapbuf_forget((*attachment).dev);
            }
            drop(mapped);
        }
    }

    /// # Safety
    ///
    /// The core calls this for a dma-buf of `T`, without the reservation lock.
    pub(super) unsafe extern "C" fn begin_cpu_access(
        buffer: *mut bindings::dma_buf,
        _direction: bindings::dma_data_direction,
    ) -> kernel::ffi::c_int {
        // SAFETY: By the safety requirements.
        unsafe { Self::sync(buffer, true) };
        0
    }

    /// # Safety
    ///
    /// The core calls this for a dma-buf of `T`, without the reservation lock.
    pub(super) unsafe extern "C" fn end_cpu_access(
        buffer: *mut bindings::dma_buf,
        _direction: bindings::dma_data_direction,
    ) -> kernel::ffi::c_int {
        // SAFETY: By the safety requirements.
        unsafe { Self::sync(buffer, false) };
        0
    }

    /// Gives the buffer to the CPU, or to the devices that have it mapped.
    ///
    /// # Safety
    ///
    /// `buffer` is a dma-buf of `T`, whose reservation lock the caller does not hold.
    unsafe fn sync(buffer: *mut bindings::dma_buf, for_cpu: bool) {
        // SAFETY: By the safety requirements; under the lock the list of attachments stays as it is.
        unsafe {
            bindings::dma_resv_lock((*buffer).resv, core::ptr::null_mut());
            let head = &raw mut (*buffer).attachments;
            let mut link = (*head).next;
            while link != head {
                let attachment = kernel::container_of!(link, bindings::dma_buf_attachment, node);
                let device = (*attachment).dev;
                // An attachment is on the list only when `attach` has accepted it.
                let ours = NonNull::new((*attachment).priv_.cast::<Attachment>());
                if let Some(ours) = ours.map(|ours| &*ours.as_ptr()) {
                    if let Some(mapped) = &ours.mapped {
                        kmap_helper_sync_table(
                            device,
                            ours.table.as_ptr(),
                            mapped.direction,
                            for_cpu,
                        );
                    }
                }
                link = (*link).next;
            }
            bindings::dma_resv_unlock((*buffer).resv);
        }
    }

    /// # Safety
    ///
    /// The core calls this for a dma-buf of `T`, with the reservation lock, and a place for the address.
    pub(super) unsafe extern "C" fn vmap(
        buffer: *mut bindings::dma_buf,
        map: *mut bindings::iosys_map,
    ) -> kernel::ffi::c_int {
        // SAFETY: By the safety requirements; the core holds the lock meanwhile.
        let (data, place) = unsafe { (Exported::<T>::of(buffer), Exported::<T>::map(buffer)) };
        let memory = data.backing();
        let address = match memory.address() {
            Some(address) => Ok(address),
            // SAFETY: The map lies beside the data, and goes first: `vunmap`, or `Exported::into_data`.
            None => unsafe { KernelMap::new(memory) }.map(|map| place.insert(map).address()),
        };
        match address {
            Ok(address) => {
                // SAFETY: By the safety requirements; the address is of ordinary memory.
                unsafe { kmap_helper_iosys_set(map, address.as_ptr().cast()) };
                0
            }
            Err(error) => error.to_errno(),
        }
    }

    /// # Safety
    ///
    /// The core calls this for an address that [`Self::vmap`] gave, with the reservation lock.
    pub(super) unsafe extern "C" fn vunmap(
        buffer: *mut bindings::dma_buf,
        _map: *mut bindings::iosys_map,
    ) {
        // SAFETY: By the safety requirements; the core holds the lock meanwhile.
        drop(unsafe { Exported::<T>::map(buffer) }.take());
    }
}
