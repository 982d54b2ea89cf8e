// SPDX-License-Identifier: GPL-2.0

//! A dma-buf with operations of our own: the object that descriptors, ids, names and mappings refer to.

use super::{
    attach::Import,
    helpers::*,
    this_module::this_module,
    user::Bytes,
    vma::{
        Fault,
        NewVma,
        Outcome,
        Page, //
    },
};
use core::{
    marker::PhantomData,
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    error::{
        from_err_ptr,
        from_result,
        to_result, //
    },
    fmt,
    fs::{
        file::FileDescriptorReservation,
        File, //
    },
    prelude::*,
    str::CString,
    sync::aref::ARef, //
};

/// Longest name of a dma-buf (`DMA_BUF_NAME_LEN` of `uapi/linux/dma-buf.h`, which counts the zero).
const NAME_LEN: usize = 31;

/// What lies behind a dma-buf.
pub(crate) trait Exporter: Send + Sync + Sized + 'static {
    /// Maps a part of it into a VMA, whose page offset counts in the buffer now. `method` is what
    /// [`DmaBuf::mmap`] was given; `None` when somebody maps the dma-buf's own descriptor.
    fn mmap(&self, vma: &NewVma<'_>, method: Option<u32>) -> Result;

    /// Answers a fault in such a VMA.
    fn fault(&self, fault: Fault<'_>) -> Outcome;

    /// Calls `each` for every physically contiguous run, with its first frame number and its pages.
    ///
    /// # Errors
    ///
    /// When there are no `struct page`s behind the frames, which importers need.
    fn frames(&self, each: &mut dyn FnMut(u64, usize)) -> Result;

    /// Whether the kernel may see all of it at one address. Where not, that address is never asked for.
    fn has_kernel_address(&self) -> bool;

    /// An address at which the kernel sees all of it, until [`Self::kernel_address_done`]. The core asks
    /// again only after that.
    fn kernel_address(&self) -> Result<NonNull<u8>>;

    /// That address is not used any more.
    fn kernel_address_done(&self);

    /// The kernel's own view of a page, from `offset` in it, at most `length` bytes.
    fn page_bytes(&self, page: Page, offset: usize, length: usize) -> Option<Bytes<'_>>;
}

/// Why a descriptor is of no use.
pub(crate) enum NotOurs {
    /// It is not that of a dma-buf.
    NoDmaBuf,
    /// Another driver made it.
    Foreign,
}

/// A reference to a dma-buf of ours.
///
/// # Invariants
///
/// Points to a dma-buf that [`DmaBuf::export`] made for the same `T`, and owns a reference on it.
pub(crate) struct DmaBuf<T: Exporter> {
    buffer: NonNull<bindings::dma_buf>,
    _data: PhantomData<T>,
}

// SAFETY: References on a dma-buf can be dropped anywhere; `T` is `Send` and `Sync`.
unsafe impl<T: Exporter> Send for DmaBuf<T> {}
// SAFETY: As above.
unsafe impl<T: Exporter> Sync for DmaBuf<T> {}

impl<T: Exporter> DmaBuf<T> {
    const OPERATIONS: bindings::dma_buf_ops = bindings::dma_buf_ops {
        attach: Some(Import::<T>::attach),
        detach: Some(Import::<T>::detach),
        map_dma_buf: Some(Import::<T>::map),
        unmap_dma_buf: Some(Import::<T>::unmap),
        begin_cpu_access: Some(Import::<T>::begin_cpu_access),
        end_cpu_access: Some(Import::<T>::end_cpu_access),
        vmap: Some(Import::<T>::vmap),
        vunmap: Some(Import::<T>::vunmap),
        release: Some(Self::release),
        mmap: Some(Self::mmap_callback),
        ..pin_init::zeroed()
    };

    /// For data without an address in the kernel: `dma_buf_vmap` warns about a `vmap` that refuses, and
    /// whoever has a descriptor can have a driver call it. Without one it is `EINVAL`, in silence.
    const WITHOUT_ADDRESS: bindings::dma_buf_ops = bindings::dma_buf_ops {
        vmap: None,
        vunmap: None,
        ..Self::OPERATIONS
    };

    /// Makes a dma-buf of `size` bytes out of `data`. It holds the module as long as it lives.
    pub(crate) fn export(data: T, size: usize) -> Result<Self> {
        let ops = match data.has_kernel_address() {
            true => &Self::OPERATIONS,
            false => &Self::WITHOUT_ADDRESS,
        };
        let data = KBox::into_raw(KBox::new(data, GFP_KERNEL_ACCOUNT)?);
        let info = bindings::dma_buf_export_info {
            exp_name: c"mapbuf".as_char_ptr(),
            owner: this_module(),
            ops,
            size,
            flags: bindings::O_RDWR as kernel::ffi::c_int,
            resv: core::ptr::null_mut(),
            priv_: data.cast(),
        };
        // SAFETY: The description is valid; the operations are static.
        match from_err_ptr(unsafe { bindings::dma_buf_export(&info) }) {
            Ok(buffer) => Ok(Self {
                // INVARIANT: It was just made, with one reference, for `T`.
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

    /// The dma-buf behind a descriptor of the caller's.
    pub(crate) fn from_descriptor(descriptor: i32) -> Result<Self, NotOurs> {
        // SAFETY: Any number may be asked about.
        let buffer = from_err_ptr(unsafe { bindings::dma_buf_get(descriptor) })
            .ok()
            .and_then(NonNull::new)
            .ok_or(NotOurs::NoDmaBuf)?;
        // SAFETY: The reference on it is ours, and its owner never changes.
        if unsafe { (*buffer.as_ptr()).owner } != this_module() {
            // SAFETY: The reference is ours.
            unsafe { bindings::dma_buf_put(buffer.as_ptr()) };
            return Err(NotOurs::Foreign);
        }
        // INVARIANT: Whatever this module owns was made by `export`, for the one `T` that there is.
        Ok(Self {
            buffer,
            _data: PhantomData,
        })
    }

    fn file(&self) -> *mut bindings::file {
        // SAFETY: By the type's invariants; the file of a dma-buf never changes.
        unsafe { (*self.buffer.as_ptr()).file }
    }

    /// Maps a part of it, from page `page` on, into the VMA that the running `mmap` sets up: the VMA's
    /// file becomes the dma-buf's, and [`Exporter::mmap`] is called with `method`.
    pub(crate) fn mmap(&self, vma: &NewVma<'_>, page: u64, method: u32) -> Result {
        // SAFETY: We may write to a VMA that is being set up. `mmap_callback` takes the value out again.
        unsafe { (*vma.as_ptr()).vm_private_data = Self::note(method) };
        // SAFETY: The dma-buf and the VMA are valid.
        to_result(unsafe {
            bindings::dma_buf_mmap(self.buffer.as_ptr(), vma.as_ptr(), page as usize)
        })
    }

    /// What `/proc/PID/maps` and `bufinfo` show of it; at most [`NAME_LEN`] bytes of it.
    pub(crate) fn describe(&self, text: fmt::Arguments<'_>) -> Result {
        let text = CString::try_from_fmt(text)?;
        // SAFETY: The text is a C string; the copy is handed over.
        unsafe {
            let copy = bindings::kstrndup(text.as_char_ptr(), NAME_LEN, bindings::GFP_KERNEL);
            if copy.is_null() {
                return Err(ENOMEM);
            }
            mapbuf_name_dmabuf(self.buffer.as_ptr(), copy);
        }
        Ok(())
    }

    /// A method as it travels in `vm_private_data`, which is null for everybody else.
    fn note(method: u32) -> *mut kernel::ffi::c_void {
        core::ptr::without_provenance_mut(method as usize + 1)
    }

    /// VMAs that map it now.
    pub(crate) fn mappings(&self) -> u32 {
        // SAFETY: The file is valid.
        unsafe { mapbuf_count_mappings(self.file()) }
    }

    /// Installs a descriptor for it that was reserved before.
    pub(crate) fn install(&self, descriptor: FileDescriptorReservation) {
        // SAFETY: The file is valid, and nobody uses `fdget_pos` on it: a dma-buf's descriptor is made
        // by `fd_install` alone.
        let file = unsafe { File::from_raw_file(self.file()) };
        descriptor.fd_install(ARef::from(file));
    }

    /// # Safety
    ///
    /// `buffer` was made by [`Self::export`]; the running `mmap` sets `vma` up.
    unsafe extern "C" fn mmap_callback(
        buffer: *mut bindings::dma_buf,
        vma: *mut bindings::vm_area_struct,
    ) -> kernel::ffi::c_int {
        // SAFETY: The core calls this with a dma-buf of ours, which the caller keeps alive.
        let data = unsafe { &*(*buffer).priv_.cast::<T>() };
        // SAFETY: The VMA is being set up; its private data is ours to take.
        let note =
            unsafe { core::mem::replace(&mut (*vma).vm_private_data, core::ptr::null_mut()) };
        let method = note
            .addr()
            .checked_sub(1)
            .and_then(|method| u32::try_from(method).ok());
        // SAFETY: The core passes the VMA that the running `mmap` sets up.
        let vma = unsafe { NewVma::from_raw(vma) };
        from_result(|| data.mmap(&vma, method).map(|()| 0))
    }

    /// # Safety
    ///
    /// `buffer` was made by [`Self::export`], and its last reference is gone.
    unsafe extern "C" fn release(buffer: *mut bindings::dma_buf) {
        // SAFETY: The last reference is gone, so the data is ours again; it came from `export`.
        drop(unsafe { KBox::from_raw((*buffer).priv_.cast::<T>()) });
    }
}

/// The data behind a dma-buf's file.
///
/// # Safety
///
/// The file is that of a dma-buf made by [`DmaBuf::export`] for `T`, and outlives `'a`.
pub(super) unsafe fn data_of<'a, T: Exporter>(file: *mut bindings::file) -> &'a T {
    // SAFETY: A dma-buf's file has the dma-buf as its private data (`dma_buf_export`), and that has ours.
    unsafe {
        &*(*(*file).private_data.cast::<bindings::dma_buf>())
            .priv_
            .cast::<T>()
    }
}

impl<T: Exporter> Deref for DmaBuf<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: By the type's invariants; the data lives as long as the dma-buf.
        unsafe { &*(*self.buffer.as_ptr()).priv_.cast::<T>() }
    }
}

impl<T: Exporter> Clone for DmaBuf<T> {
    fn clone(&self) -> Self {
        // SAFETY: The file is valid; a reference on it is a reference on the dma-buf.
        unsafe { bindings::get_file(self.file()) };
        // INVARIANT: The new reference is ours.
        Self {
            buffer: self.buffer,
            _data: PhantomData,
        }
    }
}

impl<T: Exporter> Drop for DmaBuf<T> {
    fn drop(&mut self) {
        // SAFETY: By the type's invariants.
        unsafe { bindings::dma_buf_put(self.buffer.as_ptr()) };
    }
}
