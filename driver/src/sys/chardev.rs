// SPDX-License-Identifier: GPL-2.0

//! A range of character devices, and the operations on their open files.
//!
//! The kernel crate's `MiscDevice` leaves `file_operations.owner` empty in 7.2, so `rmmod` would succeed
//! under an open file there; and one range of devices serves any number of names.

use super::{
    credentials::Opener,
    this_module::this_module,
    vma::NewVma, //
};
use crate::{
    policy::right::Access,
    seam::{
        pause,
        Seam, //
    }, //
};
use core::ptr::NonNull;
use kernel::{
    bindings,
    error::{
        from_result,
        to_result, //
    },
    ffi::{
        c_int,
        c_long,
        c_uint,
        c_ulong,
        c_void, //
    },
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Release, //
        },
        Arc, //
    }, //
};

/// `FMODE_READ` and `FMODE_WRITE` of `include/linux/fs.h`.
const FMODE_READ: bindings::fmode_t = 1 << 0;
const FMODE_WRITE: bindings::fmode_t = 1 << 1;

/// Devices in our range: minor numbers are used once before one is used again.
pub(crate) const MINORS: u32 = 1 << 20;

/// What a driver does for its open files. Addresses are user addresses, not checked yet.
pub(crate) trait OpenFile: Send + Sync + Sized + 'static {
    /// What all open files share.
    type Shared: Send + Sync + 'static;

    /// `open`
    fn open(shared: &Arc<Self::Shared>, minor: u32, opener: &Opener<'_>) -> Result<KBox<Self>>;
    /// `ioctl`, from 32-bit programs too
    fn ioctl(&self, access: Access, command: u32, argument: usize) -> Result;
    /// `mmap`
    fn mmap(&self, vma: &NewVma<'_>) -> Result;
    /// What the address of a mapping at this page offset is to be, in pages and modulo the size of a huge
    /// entry, so that such entries fit.
    fn lines_up_with(&self, page_offset: u64) -> u64;
    /// `read` at a position; answers with the bytes read
    fn read(&self, to: usize, length: usize, position: u64) -> Result<usize>;
    /// `write` at a position; answers with the bytes written
    fn write(&self, from: usize, length: usize, position: u64) -> Result<usize>;
    /// `lseek`; answers with the new position
    fn seek(&self, position: i64, offset: i64, whence: i32) -> Result<i64>;
}

/// What open files share, as long as the devices are registered.
///
/// Holds a pointer from `Arc::into_raw`, or null.
static SHARED: Atomic<*mut c_void> = Atomic::new(core::ptr::null_mut());

/// A registered range of [`MINORS`] character devices.
///
/// # Invariants
///
/// `device` is added for the range that starts at `first`, and [`SHARED`] holds a reference to an
/// `F::Shared` that is ours.
pub(crate) struct CharDevices<F: OpenFile> {
    first: bindings::dev_t,
    device: NonNull<bindings::cdev>,
    _files: core::marker::PhantomData<F>,
}

// SAFETY: Registrations belong to no thread.
unsafe impl<F: OpenFile> Send for CharDevices<F> {}
// SAFETY: There is nothing to change through a shared reference.
unsafe impl<F: OpenFile> Sync for CharDevices<F> {}

/// A range of device numbers that no device answers yet.
///
/// # Invariants
///
/// The range of [`MINORS`] numbers from the value on is ours.
pub(crate) struct Numbers(bindings::dev_t);

impl Numbers {
    pub(crate) fn reserve() -> Result<Self> {
        let mut first = 0;
        // SAFETY: The name is static.
        to_result(unsafe {
            bindings::alloc_chrdev_region(&mut first, 0, MINORS, c"mapbuf".as_char_ptr())
        })?;
        // INVARIANT: The range was just given to us.
        Ok(Self(first))
    }

    /// The first number.
    pub(crate) fn first(&self) -> u32 {
        self.0
    }
}

impl Drop for Numbers {
    fn drop(&mut self) {
        // SAFETY: By the type's invariants.
        unsafe { bindings::unregister_chrdev_region(self.0, MINORS) };
    }
}

impl<F: OpenFile> CharDevices<F> {
    /// Registers the range: from now on files can be opened. The numbers must outlive the devices.
    pub(crate) fn register(numbers: &Numbers, shared: Arc<F::Shared>) -> Result<Self> {
        // SAFETY: Answers with a new device, or null.
        let device = NonNull::new(unsafe { bindings::cdev_alloc() }).ok_or(ENOMEM)?;
        // SAFETY: The device is ours and not added yet.
        unsafe {
            (*device.as_ptr()).owner = this_module();
            (*device.as_ptr()).ops = &raw const FILE_OPERATIONS.0;
        }
        let shared = Arc::into_raw(shared).cast_mut().cast();
        SHARED.store(shared, Release);
        // INVARIANT: If adding it succeeds; else everything is undone.
        let this = Self {
            first: numbers.0,
            device,
            _files: core::marker::PhantomData,
        };
        // SAFETY: The device is initialized, and the range is reserved. When this fails, dropping `this`
        // releases the device all the same: `cdev_del` of one that was not added only drops it.
        to_result(unsafe { bindings::cdev_add(device.as_ptr(), numbers.0, MINORS) })?;
        Ok(this)
    }
}

impl<F: OpenFile> Drop for CharDevices<F> {
    fn drop(&mut self) {
        let _ = self.first;
        // SAFETY: The device is ours. No file is open: each holds the module, which is going.
        unsafe { bindings::cdev_del(self.device.as_ptr()) };
        pause(Seam::Unloading);
        let shared = SHARED.xchg(core::ptr::null_mut(), kernel::sync::atomic::Full);
        // SAFETY: The pointer came from `Arc::into_raw` in `register`.
        drop(unsafe { Arc::from_raw(shared.cast::<F::Shared>().cast_const()) });
    }
}

struct Static(bindings::file_operations);

// SAFETY: The table is never written to.
unsafe impl Sync for Static {}

static FILE_OPERATIONS: Static = Static(operations::<crate::file::MapbufFile>());

const fn operations<F: OpenFile>() -> bindings::file_operations {
    bindings::file_operations {
        owner: this_module(),
        open: Some(open::<F>),
        release: Some(release::<F>),
        unlocked_ioctl: Some(ioctl::<F>),
        compat_ioctl: bindings::compat_ptr_ioctl,
        mmap: Some(mmap::<F>),
        get_unmapped_area: Some(get_unmapped_area::<F>),
        read: Some(read::<F>),
        write: Some(write::<F>),
        llseek: Some(seek::<F>),
        ..pin_init::zeroed()
    }
}

/// The data of an open file.
///
/// # Safety
///
/// The file was opened by [`open`] for the same `F`, and is not released yet.
unsafe fn data<'a, F>(file: *mut bindings::file) -> &'a F {
    // SAFETY: `open` stored a box, which `release` takes back.
    unsafe { &*(*file).private_data.cast::<F>() }
}

/// # Safety
///
/// `inode` is that of one of our devices, and `file` is being opened for it.
unsafe extern "C" fn open<F: OpenFile>(
    inode: *mut bindings::inode,
    file: *mut bindings::file,
) -> c_int {
    // SAFETY: The core opens the inode of one of our devices, which are registered, so the pointer is
    // that of an `Arc<F::Shared>`; the module is held while this runs, so it stays.
    let (shared, minor) = unsafe {
        let shared =
            Arc::<F::Shared>::from_raw(SHARED.load(Acquire).cast::<F::Shared>().cast_const());
        (
            core::mem::ManuallyDrop::new(shared),
            (*inode).i_rdev & (MINORS - 1),
        )
    };
    // SAFETY: The file is being opened, and stays until this returns.
    let opener = unsafe { Opener::of(file) };
    from_result(|| {
        let data = F::open(&shared, minor, &opener)?;
        // SAFETY: The file is being opened; its private data is ours to set.
        unsafe { (*file).private_data = KBox::into_raw(data).cast() };
        Ok(0)
    })
}

/// # Safety
///
/// `file` was opened by [`open`] for the same `F`, and the core calls this as its operation.
unsafe extern "C" fn release<F: OpenFile>(
    _inode: *mut bindings::inode,
    file: *mut bindings::file,
) -> c_int {
    pause(Seam::Releasing);
    // SAFETY: `open` stored a box, and this is the last operation on the file.
    drop(unsafe { KBox::from_raw((*file).private_data.cast::<F>()) });
    0
}

/// # Safety
///
/// `file` was opened by [`open`] for the same `F`, and the core calls this as its operation.
unsafe extern "C" fn ioctl<F: OpenFile>(
    file: *mut bindings::file,
    command: c_uint,
    argument: c_ulong,
) -> c_long {
    // SAFETY: Called by the core for an open file of ours.
    let (data, mode) = unsafe { (data::<F>(file), (*file).f_mode) };
    // Not by `f_flags`: an open with `O_ACCMODE` for its mode is for ioctls alone, and has neither right
    // (`OPEN_FMODE` of `include/linux/fs.h`).
    let access = Access {
        read: mode & FMODE_READ != 0,
        write: mode & FMODE_WRITE != 0,
    };
    from_result(|| data.ioctl(access, command, argument).map(|()| 0))
}

/// # Safety
///
/// `file` was opened by [`open`] for the same `F`, and the core calls this as its operation.
unsafe extern "C" fn mmap<F: OpenFile>(
    file: *mut bindings::file,
    vma: *mut bindings::vm_area_struct,
) -> c_int {
    // SAFETY: Called by the core for an open file of ours, with the VMA that it sets up.
    let (data, vma) = unsafe { (data::<F>(file), NewVma::from_raw(vma)) };
    from_result(|| data.mmap(&vma).map(|()| 0))
}

/// # Safety
///
/// `file` was opened by [`open`] for the same `F`, and the core calls this as its operation.
unsafe extern "C" fn get_unmapped_area<F: OpenFile>(
    file: *mut bindings::file,
    address: c_ulong,
    length: c_ulong,
    page_offset: c_ulong,
    flags: c_ulong,
) -> c_ulong {
    // SAFETY: Called by the core for an open file of ours.
    let data = unsafe { data::<F>(file) };
    let page = data.lines_up_with(page_offset as u64) as usize;
    // SAFETY: Any values are allowed; the address found is one where huge entries fit the memory.
    unsafe { bindings::thp_get_unmapped_area(file, address, length, page, flags) }
}

/// # Safety
///
/// `file` was opened by [`open`] for the same `F`, and the core calls this as its operation.
unsafe extern "C" fn read<F: OpenFile>(
    file: *mut bindings::file,
    to: *mut kernel::ffi::c_char,
    length: usize,
    position: *mut bindings::loff_t,
) -> isize {
    // SAFETY: Called by the core for an open file of ours, with a position that is ours meanwhile.
    let (data, position) = unsafe { (data::<F>(file), &mut *position) };
    transfer(position, |at| data.read(to.addr(), length, at))
}

/// # Safety
///
/// `file` was opened by [`open`] for the same `F`, and the core calls this as its operation.
unsafe extern "C" fn write<F: OpenFile>(
    file: *mut bindings::file,
    from: *const kernel::ffi::c_char,
    length: usize,
    position: *mut bindings::loff_t,
) -> isize {
    // SAFETY: Called by the core for an open file of ours, with a position that is ours meanwhile.
    let (data, position) = unsafe { (data::<F>(file), &mut *position) };
    transfer(position, |at| data.write(from.addr(), length, at))
}

fn transfer(position: &mut bindings::loff_t, f: impl FnOnce(u64) -> Result<usize>) -> isize {
    from_result(|| {
        let at = u64::try_from(*position).map_err(|_| EINVAL)?;
        let done = f(at)?;
        *position = position.saturating_add(done as bindings::loff_t);
        Ok(done as isize)
    })
}

/// # Safety
///
/// `file` was opened by [`open`] for the same `F`, and the core calls this as its operation.
unsafe extern "C" fn seek<F: OpenFile>(
    file: *mut bindings::file,
    offset: bindings::loff_t,
    whence: c_int,
) -> bindings::loff_t {
    // SAFETY: Called by the core for an open file of ours, with its position locked.
    let (data, position) = unsafe { (data::<F>(file), &mut (*file).f_pos) };
    match data.seek(*position, offset, whence) {
        Ok(to) => {
            *position = to;
            to
        }
        Err(error) => bindings::loff_t::from(error.to_errno()),
    }
}
