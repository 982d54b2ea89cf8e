// SPDX-License-Identifier: GPL-2.0

//! Exporting a dma-buf: memory that other drivers can take, and that programs can map by a descriptor of its own.
//!
//! A driver that uses this has `imports_ns: ["DMA_BUF"]` in its `module!`.
//!
//! The core calls for a device's mapping with the dma-buf's reservation lock, and for the processor's access without
//! (`DOC: locking convention` of `drivers/dma-buf/dma-buf.c`). So that lock protects the list of what devices have mapped.

use super::{
    backing::Backing,
    fault::Faults,
    helpers::*,
    long_vec::LongVec,
    misc::Mode,
    this_module::this_module,
    vma::{
        FileVma,
        NewVma, //
    }, //
};
use core::{
    marker::PhantomData,
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    container_of,
    error::{
        from_err_ptr,
        from_result,
        to_result, //
    },
    ffi::{
        c_int,
        c_uint, //
    },
    page::PAGE_SIZE,
    prelude::*,
    str::CStr,
    types::Opaque, //
};

/// The data of a dma-buf: it has its memory. It is dropped when the last descriptor, mapping and attachment are gone.
///
/// Devices can take memory that has pages, as [`Backing::page`] gives them, and no other.
pub trait Exporter: Faults {
    /// The exporter's name, as debugfs shows it.
    const NAME: &'static CStr;

    /// Somebody maps the dma-buf. Offset and length are within it (`dma_buf_mmap_internal` of `drivers/dma-buf/dma-buf.c`).
    fn mmap(vma: NewVma<'_, Self>) -> Result;
}

/// A reference to a dma-buf.
///
/// # Invariants
///
/// Points to a dma-buf that [`DmaBuf::export`] made for the same `T`, and owns a reference on it.
pub struct DmaBuf<T: Exporter> {
    buffer: NonNull<bindings::dma_buf>,
    _data: PhantomData<T>,
}

// SAFETY: References on a dma-buf can be dropped anywhere; `T` is `Send` and `Sync`.
unsafe impl<T: Exporter> Send for DmaBuf<T> {}
// SAFETY: A shared reference gives shared references to `T`, which is `Sync`, and takes more references on the dma-buf.
unsafe impl<T: Exporter> Sync for DmaBuf<T> {}

impl<T: Exporter> DmaBuf<T> {
    const OPERATIONS: &'static bindings::dma_buf_ops = &Self::operations(true);
    /// For memory without an area in the kernel: `dma_buf_vmap` warns where a `vmap` fails, but not where there is none.
    const WITHOUT_AREA: &'static bindings::dma_buf_ops = &Self::operations(false);

    const fn operations(area: bool) -> bindings::dma_buf_ops {
        let mut operations: bindings::dma_buf_ops = pin_init::zeroed();
        operations.map_dma_buf = Some(Self::map_for_device);
        operations.unmap_dma_buf = Some(unmap_for_device);
        operations.begin_cpu_access = Some(begin_cpu_access);
        operations.end_cpu_access = Some(end_cpu_access);
        operations.mmap = Some(Self::mmap_callback);
        operations.release = Some(Self::release);
        if area {
            operations.vmap = Some(Self::vmap);
        }
        operations
    }

    /// Makes a dma-buf out of memory. It keeps the module as long as it lives. Its descriptors allow what `mode` does.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, and those of `dma_buf_export`.
    pub fn export(data: T, mode: Mode) -> Result<Self> {
        let size = data.backing().len().checked_mul(PAGE_SIZE).ok_or(EINVAL)?;
        let ops = match area_of(data.backing(), size) {
            Some(_) => Self::OPERATIONS,
            None => Self::WITHOUT_AREA,
        };
        let data = KBox::into_raw(KBox::new(data, GFP_KERNEL_ACCOUNT)?);
        let info = bindings::dma_buf_export_info {
            exp_name: T::NAME.as_char_ptr(),
            owner: this_module(),
            ops,
            size,
            flags: mode.flags() as c_int,
            resv: core::ptr::null_mut(),
            priv_: data.cast(),
        };
        // SAFETY: The description is valid; the operations and the name are static.
        match from_err_ptr(unsafe { bindings::dma_buf_export(&info) }) {
            // INVARIANT: It was just made, with one reference, for `T`.
            Ok(buffer) => Ok(Self {
                buffer: NonNull::new(buffer).ok_or(ENOMEM)?,
                _data: PhantomData,
            }),
            Err(error) => {
                // SAFETY: `dma_buf_export` failed, so the data is still ours.
                drop(unsafe { KBox::from_raw(data) });
                Err(error)
            }
        }
    }

    /// Makes a descriptor of it for the caller, who may have closed it before this returns.
    pub fn descriptor(&self) -> Result<i32> {
        let buffer = self.buffer.as_ptr();
        // SAFETY: By the type's invariants; the file of a dma-buf never changes. The new reference is that of the
        // descriptor, or given back.
        let descriptor = unsafe {
            bindings::get_file((*buffer).file);
            let descriptor = bindings::dma_buf_fd(buffer, bindings::O_CLOEXEC as c_int);
            if descriptor < 0 {
                bindings::dma_buf_put(buffer);
            }
            descriptor
        };
        match descriptor < 0 {
            true => Err(Error::from_errno(descriptor)),
            false => Ok(descriptor),
        }
    }

    /// Has a VMA show it, from the VMA's page offset on. The mapping holds the dma-buf, and its own file no more.
    pub fn mmap(&self, vma: FileVma<'_>) -> Result {
        let page = usize::try_from(vma.page_offset())?;
        // SAFETY: The VMA is being set up by us, and used up here; the function compares offset and length with the size, and
        // has the operations do the rest.
        to_result(unsafe { bindings::dma_buf_mmap(self.buffer.as_ptr(), vma.as_ptr(), page) })
    }

    /// The data of such a dma-buf.
    ///
    /// # Safety
    ///
    /// [`Self::export`] made the dma-buf for `T`, and it lives as long as `'a`.
    unsafe fn data<'a>(buffer: *mut bindings::dma_buf) -> &'a T {
        // SAFETY: By the safety requirements; `release` takes it back.
        unsafe { &*(*buffer).priv_.cast::<T>() }
    }

    /// # Safety
    ///
    /// The core calls this for an attachment to a dma-buf of [`Self::export`] for `T`, whose reservation lock it has.
    unsafe extern "C" fn map_for_device(
        attachment: *mut bindings::dma_buf_attachment,
        direction: bindings::dma_data_direction,
    ) -> *mut bindings::sg_table {
        // SAFETY: By the safety requirements. Who has attached keeps the dma-buf, and the dma-buf its data.
        let (data, size, device) = unsafe {
            let buffer = (*attachment).dmabuf;
            (Self::data(buffer), (*buffer).size, (*attachment).dev)
        };
        let mapped = pages(data.backing(), size / PAGE_SIZE).and_then(|mut pages| {
            // SAFETY: The device is attached until all of its mappings are undone. The data owns the pages, so they stay as
            // long as the dma-buf.
            unsafe { DeviceMapping::new(&mut pages, device, direction) }
        });
        match mapped {
            // SAFETY: By the safety requirements.
            Ok(mapping) => unsafe { DeviceMapping::note(mapping, attachment) },
            Err(error) => error.to_ptr(),
        }
    }

    /// # Safety
    ///
    /// The core calls this for a dma-buf of [`Self::export`] for `T`, with a place for the address.
    unsafe extern "C" fn vmap(
        buffer: *mut bindings::dma_buf,
        map: *mut bindings::iosys_map,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        let (data, size) = unsafe { (Self::data(buffer), (*buffer).size) };
        match area_of(data.backing(), size) {
            Some(start) => {
                // SAFETY: The place is the caller's to be filled in. The area is the data's, so it stays as long as the dma-buf.
                unsafe { kmap_helper_iosys_set(map, start.as_ptr().cast()) };
                0
            }
            None => EINVAL.to_errno(),
        }
    }

    /// # Safety
    ///
    /// The dma-buf was made by [`Self::export`] for `T`; the running `mmap` sets the VMA up, whose file is the dma-buf's.
    unsafe extern "C" fn mmap_callback(
        buffer: *mut bindings::dma_buf,
        vma: *mut bindings::vm_area_struct,
    ) -> c_int {
        // SAFETY: By the safety requirements; the VMA's file keeps the dma-buf, and so its data, in which the page offset
        // counts.
        let vma = unsafe { NewVma::new(vma, Self::data(buffer)) };
        from_result(|| T::mmap(vma).map(|()| 0))
    }

    /// # Safety
    ///
    /// The dma-buf was made by [`Self::export`] for `T`, and its last reference is gone.
    unsafe extern "C" fn release(buffer: *mut bindings::dma_buf) {
        // SAFETY: The last reference is gone, so the box is ours again; it came from `export`.
        drop(unsafe { KBox::from_raw((*buffer).priv_.cast::<T>()) });
    }
}

impl<T: Exporter> Deref for DmaBuf<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: By the type's invariants; the data lives as long as the dma-buf.
        unsafe { Self::data(self.buffer.as_ptr()) }
    }
}

impl<T: Exporter> Drop for DmaBuf<T> {
    fn drop(&mut self) {
        // SAFETY: By the type's invariants.
        unsafe { bindings::dma_buf_put(self.buffer.as_ptr()) };
    }
}

/// Where the kernel has `size` bytes of the memory in one area, if it has.
fn area_of(memory: &dyn Backing, size: usize) -> Option<NonNull<u8>> {
    let area = memory.area()?;
    (area.pages() >= size / PAGE_SIZE).then(|| area.start())
}

/// The first `count` pages of the memory.
fn pages(memory: &dyn Backing, count: usize) -> Result<LongVec<*mut bindings::page>> {
    let flags = GFP_KERNEL | __GFP_NOWARN;
    let mut pages = LongVec::with_capacity(count, flags)?;
    for index in 0..count {
        // Frames without pages cannot be given to any device.
        pages.push(memory.page(index).ok_or(EINVAL)?.as_ptr(), flags)?;
    }
    Ok(pages)
}

/// Memory that a device has mapped. Each has a list of its own, since the addresses of two devices differ.
///
/// # Invariants
///
/// The table is zeroed or was allocated. Where there is a device, the table is mapped for it, in this direction. `next` is null
/// or came from [`KBox::into_raw`].
struct DeviceMapping {
    table: Opaque<bindings::sg_table>,
    device: Option<NonNull<bindings::device>>,
    direction: bindings::dma_data_direction,
    /// The attachment's others.
    next: *mut DeviceMapping,
}

impl DeviceMapping {
    /// # Safety
    ///
    /// The device exists, and the pages are there, until the mapping is dropped.
    unsafe fn new(
        pages: &mut LongVec<*mut bindings::page>,
        device: *mut bindings::device,
        direction: bindings::dma_data_direction,
    ) -> Result<KBox<Self>> {
        // INVARIANT: The table is zeroed, and there is no device.
        let mapping = Self {
            table: Opaque::zeroed(),
            device: None,
            direction,
            next: core::ptr::null_mut(),
        };
        let mut mapping = KBox::new(mapping, GFP_KERNEL)?;
        let (table, count) = (mapping.table.get(), c_uint::try_from(pages.len())?);
        // SAFETY: There are so many pages. The table is zeroed memory of ours, and the device exists.
        to_result(unsafe {
            bindings::sg_alloc_table_from_pages_segment(
                table,
                pages.as_mut_ptr(),
                count,
                0,
                pages.len() * PAGE_SIZE,
                kmap_helper_max_segment(device),
                bindings::GFP_KERNEL,
            )
        })?;
        // SAFETY: The table was just allocated; by the safety requirements the device and the pages stay until it is unmapped.
        to_result(unsafe { bindings::dma_map_sgtable(device, table, direction, 0) })?;
        // INVARIANT: It was just mapped.
        mapping.device = NonNull::new(device);
        Ok(mapping)
    }

    /// Puts it on an attachment's list. Returns the table.
    ///
    /// # Safety
    ///
    /// The attachment is one to a dma-buf of ours, and the caller has its reservation lock.
    unsafe fn note(
        mut this: KBox<Self>,
        attachment: *mut bindings::dma_buf_attachment,
    ) -> *mut bindings::sg_table {
        let table = this.table.get();
        // SAFETY: By the safety requirements the list is ours to change.
        let first = unsafe { first_of(attachment) };
        // INVARIANT: What was on the list came from `into_raw`.
        this.next = core::mem::replace(first, core::ptr::null_mut());
        *first = KBox::into_raw(this);
        table
    }
}

impl Drop for DeviceMapping {
    fn drop(&mut self) {
        let table = self.table.get();
        // SAFETY: By the type's invariants: what is mapped is unmapped as it was mapped, and a table without entries has
        // nothing to free.
        unsafe {
            if let Some(device) = self.device {
                let (list, count) = ((*table).sgl, (*table).orig_nents as c_int);
                bindings::dma_unmap_sg_attrs(device.as_ptr(), list, count, self.direction, 0);
            }
            bindings::sg_free_table(table);
        }
    }
}

/// Where an attachment's list of mappings begins. The core sets it to null, and leaves it to us.
///
/// # Safety
///
/// The attachment is one to a dma-buf of ours, whose reservation lock is held for `'a`.
unsafe fn first_of<'a>(
    attachment: *mut bindings::dma_buf_attachment,
) -> &'a mut *mut DeviceMapping {
    // SAFETY: By the safety requirements; only this file uses the field, with the lock.
    unsafe { &mut *(&raw mut (*attachment).priv_).cast() }
}

/// # Safety
///
/// The core calls this for a table that `map_for_device` gave for the attachment, with the reservation lock.
unsafe extern "C" fn unmap_for_device(
    attachment: *mut bindings::dma_buf_attachment,
    table: *mut bindings::sg_table,
    _direction: bindings::dma_data_direction,
) {
    // SAFETY: By the safety requirements.
    let mut link = unsafe { first_of(attachment) };
    // SAFETY: What is on the list came from `KBox::into_raw`, and the lock makes it ours.
    while let Some(mapping) = unsafe { link.as_mut() } {
        if mapping.table.get() == table {
            let ours = core::mem::replace(link, mapping.next);
            // SAFETY: It came from `KBox::into_raw`, and nothing refers to it any more.
            drop(unsafe { KBox::from_raw(ours) });
            return;
        }
        link = &mut mapping.next;
    }
}

/// # Safety
///
/// The core calls this for a dma-buf of ours, without the reservation lock.
unsafe extern "C" fn begin_cpu_access(
    buffer: *mut bindings::dma_buf,
    _direction: bindings::dma_data_direction,
) -> c_int {
    // SAFETY: By the safety requirements.
    unsafe { give(buffer, true) };
    0
}

/// # Safety
///
/// The core calls this for a dma-buf of ours, without the reservation lock.
unsafe extern "C" fn end_cpu_access(
    buffer: *mut bindings::dma_buf,
    _direction: bindings::dma_data_direction,
) -> c_int {
    // SAFETY: By the safety requirements.
    unsafe { give(buffer, false) };
    0
}

/// Gives the memory to the processor, or to all devices that have it mapped.
///
/// # Safety
///
/// The dma-buf is one of ours, whose reservation lock the caller does not hold.
unsafe fn give(buffer: *mut bindings::dma_buf, for_cpu: bool) {
    // SAFETY: By the safety requirements. Under the lock the attachments and their lists stay as they are, and what is on a
    // list is mapped for the device, in the direction that it notes.
    unsafe {
        bindings::dma_resv_lock((*buffer).resv, core::ptr::null_mut());
        let head = &raw mut (*buffer).attachments;
        let mut link = (*head).next;
        while link != head {
            let attachment = container_of!(link, bindings::dma_buf_attachment, node);
            let mut at = *first_of(attachment);
            while let Some(mapping) = at.as_ref() {
                if let Some(device) = mapping.device {
                    let table = mapping.table.get();
                    kmap_helper_sync_table(device.as_ptr(), table, mapping.direction, for_cpu);
                }
                at = mapping.next;
            }
            link = (*link).next;
        }
        bindings::dma_resv_unlock((*buffer).resv);
    }
}
