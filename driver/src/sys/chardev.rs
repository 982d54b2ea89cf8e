// SPDX-License-Identifier: GPL-2.0

//! A range of character devices, and the operations on their open files.
//!
//! The kernel crate's `MiscDevice` leaves `file_operations.owner` empty in 7.2, so `rmmod` would succeed
//! under an open file there; and one range of devices serves any number of names.

use super::{
    credentials::Opener,
    dmabuf::{
        DmaBuf,
        Exporter, //
    },
    helpers::mapbuf_inode_device,
    mode::{
        FMODE_CAN_ODIRECT,
        FMODE_READ,
        FMODE_WRITE, //
    },
    node_vma::NodeVma,
    seam::{
        pause,
        Seam, //
    },
    this_module::this_module, //
};
use crate::policy::right::Access;
use core::marker::PhantomData;
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
        c_ulong, //
    },
    iov::{
        IovIterDest,
        IovIterSource, //
    },
    prelude::*,
    sync::{
        Arc,
        ArcBorrow, //
    },
    types::Opaque, //
};

/// Devices in our range: minor numbers are used once before one is used again.
pub(crate) const MINORS: u32 = 1 << 20;

/// The minor number of the node `system`; named buffers have the others.
pub(crate) const SYSTEM_MINOR: u32 = 0;

/// The first minor number of nodes of bound devices: those from here to [`MINORS`].
pub(crate) const FIRST_DEVICE_MINOR: u32 = MINORS - 256;

/// What a driver does for its open files. Addresses are user addresses, not checked yet.
pub(crate) trait OpenFile: Send + Sync + Sized + 'static {
    /// What all open files share.
    type Shared: Send + Sync + 'static;

    /// What lies behind the dma-bufs that are mapped.
    type Buffer: Exporter;

    /// `open`; for a node that shows one dma-buf and no other, with that
    fn open(
        shared: ArcBorrow<'_, Self::Shared>,
        minor: u32,
        opener: &Opener<'_>,
    ) -> Result<(Self, Option<DmaBuf<Self::Buffer>>)>;
    /// `ioctl`, from 32-bit programs too
    fn ioctl(&self, access: Access, command: u32, argument: usize) -> Result;
    /// `mmap`
    fn mmap(&self, vma: NodeVma<'_>) -> Result;
    /// What the address of a mapping at this page offset is to be, in pages and modulo the size of a huge
    /// entry, so that such entries fit.
    fn get_unmapped_area(&self, page_offset: u64) -> u64;
    /// `read` at a position; returns the bytes read
    fn read(&self, to: &mut IovIterDest<'_>, position: u64) -> Result<usize>;
    /// `write` at a position; returns the bytes written
    fn write(&self, from: &mut IovIterSource<'_>, position: u64) -> Result<usize>;
    /// `lseek`; returns the new position
    fn seek(&self, position: i64, offset: i64, whence: i32) -> Result<i64>;
}

/// A range of device numbers that no device answers yet.
///
/// # Invariants
///
/// The range of [`MINORS`] numbers from the value on is ours.
pub(crate) struct Numbers(bindings::dev_t);

impl Numbers {
    pub(crate) fn reserve() -> Result<Arc<Self>> {
        let mut first = 0;
        // SAFETY: The name is static.
        to_result(unsafe {
            bindings::alloc_chrdev_region(&mut first, 0, MINORS, c"mapbuf".as_char_ptr())
        })?;
        // INVARIANT: The range was just given to us, and goes back even if there is no memory for the `Arc`.
        Ok(Arc::new(Self(first), GFP_KERNEL)?)
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

/// What a `struct cdev` of ours lies in.
#[repr(C)]
struct Device<F: OpenFile> {
    device: Opaque<bindings::cdev>,
    shared: Arc<F::Shared>,
}

/// A registered range of [`MINORS`] character devices.
///
/// # Invariants
///
/// The `cdev` in the box was initialized with the operations for `F`, and stays where it is.
pub(crate) struct CharDevices<F: OpenFile> {
    device: KBox<Device<F>>,
    /// Nobody else may have them as long as they lead to the device.
    _numbers: Arc<Numbers>,
    _files: PhantomData<F>,
}

// SAFETY: Registrations belong to no thread, and what is shared can be sent.
unsafe impl<F: OpenFile> Send for CharDevices<F> {}
// SAFETY: There is nothing to change through a shared reference.
unsafe impl<F: OpenFile> Sync for CharDevices<F> {}

impl<F: OpenFile> CharDevices<F> {
    /// Registers the range: from now on files can be opened.
    pub(crate) fn register(numbers: &Arc<Numbers>, shared: Arc<F::Shared>) -> Result<Self> {
        let device = Device {
            device: Opaque::zeroed(),
            shared,
        };
        let this = Self {
            device: KBox::new(device, GFP_KERNEL)?,
            _numbers: numbers.clone(),
            _files: PhantomData,
        };
        let device = this.device.device.get();
        // SAFETY: It is zeroed memory in a box, where it stays; the operations are constant.
        // INVARIANT: It is initialized.
        unsafe {
            bindings::cdev_init(device, Operations::<F>::TABLE);
            (*device).owner = this_module();
        }
        // SAFETY: The device is initialized, and the range is reserved. When this fails, dropping `this` is right all the
        // same: `cdev_del` of one that was not added only drops it.
        to_result(unsafe { bindings::cdev_add(device, numbers.0, MINORS) })?;
        Ok(this)
    }
}

impl<F: OpenFile> Drop for CharDevices<F> {
    fn drop(&mut self) {
        // SAFETY: By the type's invariants the device is ours. No file is open: each holds the module, which is going, and
        // so nobody can look it up either (`cdev_get` of `fs/char_dev.c`).
        unsafe { bindings::cdev_del(self.device.device.get()) };
        pause(Seam::Unloading);
    }
}

struct Operations<F>(PhantomData<F>);

impl<F: OpenFile> Operations<F> {
    const TABLE: &'static bindings::file_operations = &operations::<F>();
}

const fn operations<F: OpenFile>() -> bindings::file_operations {
    bindings::file_operations {
        owner: this_module(),
        open: Some(open::<F>),
        release: Some(release::<F>),
        unlocked_ioctl: Some(ioctl::<F>),
        compat_ioctl: bindings::compat_ptr_ioctl,
        mmap: Some(mmap::<F>),
        get_unmapped_area: Some(get_unmapped_area::<F>),
        read_iter: Some(read::<F>),
        write_iter: Some(write::<F>),
        llseek: Some(seek::<F>),
        // By way of `read` and `write`, so `sendfile` does it too.
        splice_read: Some(bindings::copy_splice_read),
        splice_write: Some(bindings::iter_file_splice_write),
        // What is written is in the memory at once.
        fsync: Some(bindings::noop_fsync),
        ..pin_init::zeroed()
    }
}

/// What an open file has.
///
/// # Invariants
///
/// Where there is a dma-buf in `shows`, the open file has its address space. It never changes.
struct Opened<F: OpenFile> {
    file: F,
    shows: Option<DmaBuf<F::Buffer>>,
}

/// # Safety
///
/// The file was opened by [`open`] for the same `F`, and is not released yet.
unsafe fn opened<'a, F: OpenFile>(file: *mut bindings::file) -> &'a Opened<F> {
    // SAFETY: `open` stored a box, which `release` takes back.
    unsafe { &*(*file).private_data.cast::<Opened<F>>() }
}

/// The data of an open file.
///
/// # Safety
///
/// The file was opened by [`open`] for the same `F`, and is not released yet.
unsafe fn data<'a, F: OpenFile>(file: *mut bindings::file) -> &'a F {
    // SAFETY: By the safety requirements.
    unsafe { &opened::<F>(file).file }
}

/// # Safety
///
/// `inode` is that of a device of a `CharDevices<F>`, and `file` is being opened for it.
unsafe extern "C" fn open<F: OpenFile>(
    inode: *mut bindings::inode,
    file: *mut bindings::file,
) -> c_int {
    // SAFETY: By the safety requirements the inode's `cdev` is the first field of a `Device<F>` (`chrdev_open` of
    // `fs/char_dev.c`). The file that is being opened holds the module meanwhile, so the device stays.
    let (device, minor) = unsafe {
        let device = mapbuf_inode_device(inode).cast::<Device<F>>();
        (&*device, (*inode).i_rdev & (MINORS - 1))
    };
    // SAFETY: The file is being opened, and stays until this returns.
    let opener = unsafe { Opener::of(file) };
    from_result(|| {
        let (ours, shows) = F::open(device.shared.as_arc_borrow(), minor, &opener)?;
        let mapping = shows.as_ref().map(DmaBuf::mapping);
        // INVARIANT: It is given the address space below.
        let opened = KBox::new(Opened { file: ours, shows }, GFP_KERNEL_ACCOUNT)?;
        // SAFETY: The file is being opened; its private data, mode and address space are ours to set. The box keeps the dma-buf,
        // and so the address space, until the file's release.
        unsafe {
            (*file).private_data = KBox::into_raw(opened).cast();
            // No read or write goes through a page cache (`do_dentry_open` of `fs/open.c` asks after this).
            (*file).f_mode |= FMODE_CAN_ODIRECT;
            if let Some(mapping) = mapping {
                (*file).f_mapping = mapping;
            }
        }
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
    drop(unsafe { KBox::from_raw((*file).private_data.cast::<Opened<F>>()) });
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
    // SAFETY: Called by the core for an open file of ours.
    let opened = unsafe { opened::<F>(file) };
    let shown = opened.shows.as_ref().map(DmaBuf::as_ptr);
    // SAFETY: It is the VMA that the core sets up, with our file. By the invariants of `Opened` the file has the address
    // space of the dma-buf that it shows, and holds it until its release.
    let vma = unsafe { NodeVma::from_raw(vma, shown) };
    from_result(|| opened.file.mmap(vma).map(|()| 0))
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
    let page = data.get_unmapped_area(page_offset as u64) as usize;
    // SAFETY: Any values are allowed; the address found is one where huge entries fit the memory.
    unsafe { bindings::thp_get_unmapped_area(file, address, length, page, flags) }
}

/// # Safety
///
/// The core calls this for a file that was opened by [`open`] for the same `F`, with an iterator to copy to.
unsafe extern "C" fn read<F: OpenFile>(
    request: *mut bindings::kiocb,
    to: *mut bindings::iov_iter,
) -> isize {
    // SAFETY: By the safety requirements; the request and its position are ours meanwhile.
    let (data, position, to) = unsafe {
        (
            data::<F>((*request).ki_filp),
            &mut (*request).ki_pos,
            IovIterDest::from_raw(to),
        )
    };
    transfer(position, |at| data.read(to, at))
}

/// # Safety
///
/// The core calls this for a file that was opened by [`open`] for the same `F`, with an iterator to copy from.
unsafe extern "C" fn write<F: OpenFile>(
    request: *mut bindings::kiocb,
    from: *mut bindings::iov_iter,
) -> isize {
    // SAFETY: By the safety requirements; the request and its position are ours meanwhile.
    let (data, position, from) = unsafe {
        (
            data::<F>((*request).ki_filp),
            &mut (*request).ki_pos,
            IovIterSource::from_raw(from),
        )
    };
    transfer(position, |at| data.write(from, at))
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
