// SPDX-License-Identifier: GPL-2.0

//! A dma-buf with operations of our own: the object that descriptors, ids, names and mappings refer to.

use super::{
    attach::{
        Exported,
        Import,
        Importable, //
    },
    backing::Typed,
    foreign::Foreign,
    helpers::*,
    mode::{
        FMODE_READ,
        FMODE_WRITE, //
    },
    node_vma::NodeVma,
    seam::{
        pause,
        Seam, //
    },
    this_module::this_module,
    vma::NewVma, //
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
    fs::{
        file::FileDescriptorReservation,
        File, //
    },
    ioctl::_IOW,
    prelude::*,
    sync::aref::ARef, //
};

/// Longest name of a dma-buf (`DMA_BUF_NAME_LEN` of `uapi/linux/dma-buf.h`, which counts the zero).
const NAME_LEN: usize = 31;

/// The access mode of what is exported for anybody.
pub(crate) const READ_WRITE: u32 = bindings::O_RDWR;

/// `DMA_BUF_IOCTL_SYNC` of `uapi/linux/dma-buf.h`, whose `struct dma_buf_sync` is one `__u64`.
pub(crate) const SYNC: u32 = _IOW::<u64>(b'b' as u32, 0);

/// The data of a dma-buf, as an exporter.
pub(crate) trait Exporter: Importable {
    /// Somebody maps the dma-buf's own descriptor.
    fn mmap(vma: NewVma<'_, Self>) -> Result;

    /// The last reference to the dma-buf is gone: no mapping, descriptor or attachment of it is left.
    fn release(self);
}

/// What is behind a descriptor.
pub(crate) enum Found<T: Exporter> {
    /// No dma-buf.
    Nothing,
    /// A dma-buf whose file cannot be both read and written.
    NotReadWrite,
    /// A dma-buf of ours.
    Own(DmaBuf<T>),
    /// A dma-buf of another driver.
    Foreign(Foreign),
}

/// Finds what is behind a descriptor of the caller's.
pub(crate) fn find<T: Exporter>(descriptor: i32) -> Found<T> {
    // SAFETY: Any number may be asked about.
    let buffer = from_err_ptr(unsafe { bindings::dma_buf_get(descriptor) });
    let Some(buffer) = buffer.ok().and_then(NonNull::new) else {
        return Found::Nothing;
    };
    // SAFETY: The reference on it is ours.
    let foreign = unsafe { Foreign::from_raw(buffer) };
    // SAFETY: The reference keeps it. Its owner never changes, and what this module owns was made by `export`. Its file
    // never changes, nor does the mode of an open file, as far as access goes.
    let (ours, mode) = unsafe {
        let dma_buf = buffer.as_ptr();
        let ours =
            (*dma_buf).owner == this_module() && Typed::<T>::is((*dma_buf).priv_.cast_const());
        (ours, (*(*dma_buf).file).f_mode)
    };
    let both = FMODE_READ | FMODE_WRITE;
    if mode & both != both {
        return Found::NotReadWrite;
    }
    if !ours {
        return Found::Foreign(foreign);
    }
    // The reference changes hands.
    core::mem::forget(foreign);
    // INVARIANT: It was made by `export`, for a `T`.
    Found::Own(DmaBuf {
        buffer,
        _data: PhantomData,
    })
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
// SAFETY: A shared reference gives shared references to `T`, which is `Sync`, and takes more references on the dma-buf.
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

    /// For data without an address in the kernel: `dma_buf_vmap` warns if `vmap` fails, and whoever has a descriptor
    /// can make a driver call it. Without a `vmap`, it returns `EINVAL` and does not warn.
    const WITHOUT_ADDRESS: bindings::dma_buf_ops = bindings::dma_buf_ops {
        vmap: None,
        vunmap: None,
        ..Self::OPERATIONS
    };

    /// Makes a dma-buf of `size` bytes out of `data`. It holds the module as long as it lives.
    /// Its file is opened with `flags`: an access mode.
    pub(crate) fn export(data: T, size: usize, flags: u32) -> Result<Self> {
        let data = Exported::new(data);
        let revocable = data.revocable().cloned();
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
            flags: flags as kernel::ffi::c_int,
            resv: core::ptr::null_mut(),
            priv_: data.cast(),
        };
        // SAFETY: The description is valid; the operations are static.
        match from_err_ptr(unsafe { bindings::dma_buf_export(&info) }) {
            Ok(buffer) => {
                let this = Self {
                    // INVARIANT: It was just made, with one reference, for `T`.
                    buffer: NonNull::new(buffer).ok_or(ENOMEM)?,
                    _data: PhantomData,
                };
                if let Some(revocable) = revocable {
                    // SAFETY: A dma-buf is freed after its release (`dma_buf_release` of `drivers/dma-buf/dma-buf.c`),
                    // which says to what is the same at all times that it is shown no more.
                    unsafe { revocable.shown_by(this.buffer, this.file()) };
                }
                Ok(this)
            }
            Err(error) => {
                // SAFETY: `dma_buf_export` failed, so the data is still ours.
                drop(unsafe { KBox::from_raw(data) });
                Err(error)
            }
        }
    }

    fn file(&self) -> *mut bindings::file {
        // SAFETY: By the type's invariants; the file of a dma-buf never changes.
        unsafe { (*self.buffer.as_ptr()).file }
    }

    /// Makes a VMA show it, starting at page `page`. The VMA's file is the dma-buf's own, or stays that of a node which shows
    /// this dma-buf and no other: its `fsync` is then the node's, and a dma-buf's file has none.
    pub(crate) fn bind<'a>(&'a self, vma: NodeVma<'a>, page: u64) -> Result<NewVma<'a, T>> {
        let page = usize::try_from(page)?;
        let keep = vma.is_of(self.buffer);
        let vma = vma.as_ptr();
        // SAFETY: The VMA is being set up by us, and used up here. Its file was that of a node, on which the core has a
        // reference that the function exchanges for one on the dma-buf's; when `mmap` fails, the core drops that one.
        unsafe {
            if !keep {
                bindings::vma_set_file(vma, self.file());
            }
            (*vma).vm_pgoff = page;
        }
        // SAFETY: The file is now that of the dma-buf with this data, or by the invariants of `NodeVma` one that holds it;
        // the page offset counts in it.
        Ok(unsafe { NewVma::new(vma, self) })
    }

    /// For a file that shows it: the address space, where its mappings are found.
    pub(super) fn mapping(&self) -> *mut bindings::address_space {
        // SAFETY: The file is valid, and a dma-buf's address space never changes.
        unsafe { (*self.file()).f_mapping }
    }

    pub(super) fn as_ptr(&self) -> NonNull<bindings::dma_buf> {
        self.buffer
    }

    /// Hands the reference over.
    pub(super) fn into_raw(self) -> NonNull<bindings::dma_buf> {
        core::mem::ManuallyDrop::new(self).buffer
    }

    /// Whether both are references to one dma-buf.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.buffer == other.buffer
    }

    /// `DMA_BUF_IOCTL_SYNC` on the dma-buf's own descriptor, with the same argument.
    pub(crate) fn sync(&self, argument: usize) -> Result {
        // SAFETY: The file is that of a dma-buf, whose operations never change; any argument may be given.
        let done = unsafe {
            let file = self.file();
            let ioctl = (*(*file).f_op).unlocked_ioctl.ok_or(ENOTTY)?;
            ioctl(file, SYNC, argument)
        };
        to_result(done as kernel::ffi::c_int)
    }

    /// Sets the text that `/proc/PID/maps` and `bufinfo` show for it, cut at [`NAME_LEN`] bytes.
    pub(crate) fn describe(&self, text: &CStr) -> Result {
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

    /// How many VMAs map it now.
    pub(crate) fn mappings(&self) -> u32 {
        // SAFETY: The file is valid.
        unsafe { mapbuf_count_mappings(self.file()) }
    }

    /// Installs a descriptor for it that was reserved before.
    pub(crate) fn install(&self, descriptor: FileDescriptorReservation) {
        pause(Seam::Numbered);
        // SAFETY: The file is valid, and nobody uses `fdget_pos` on it: a dma-buf's descriptor is made
        // by `fd_install` alone.
        let file = unsafe { File::from_raw_file(self.file()) };
        descriptor.fd_install(ARef::from(file));
    }

    /// # Safety
    ///
    /// `buffer` was made by [`Self::export`] for `T`; the running `mmap` sets `vma` up, whose file is the dma-buf's.
    unsafe extern "C" fn mmap_callback(
        buffer: *mut bindings::dma_buf,
        vma: *mut bindings::vm_area_struct,
    ) -> kernel::ffi::c_int {
        // SAFETY: By the safety requirements; the VMA's file keeps the dma-buf, and so its data.
        let vma = unsafe { NewVma::<T>::new(vma, Exported::of(buffer)) };
        from_result(|| T::mmap(vma).map(|()| 0))
    }

    /// # Safety
    ///
    /// `buffer` was made by [`Self::export`] for `T`, and its last reference is gone.
    unsafe extern "C" fn release(buffer: *mut bindings::dma_buf) {
        // SAFETY: The last reference is gone, so the box is ours again; it came from `export`.
        let exported = unsafe { KBox::from_raw((*buffer).priv_.cast::<Exported<T>>()) };
        if let Some(revocable) = exported.revocable() {
            // SAFETY: The dma-buf is there as long as this call.
            revocable.shown_no_more(unsafe { NonNull::new_unchecked(buffer) });
        }
        KBox::into_inner(exported).into_data().release();
    }
}

impl<T: Exporter> Deref for DmaBuf<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: By the type's invariants; the data lives as long as the dma-buf.
        unsafe { Exported::of(self.buffer.as_ptr()) }
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
