// SPDX-License-Identifier: GPL-2.0

//! A node in `/dev` whose memory can be mapped, read and written.
//!
//! The kernel crate's `MiscDevice` leaves `file_operations.owner` empty in 7.2, so a module could be unloaded under an open
//! file there, and it gives no way to keep what a VMA shows.

use super::{
    backing::Backing,
    bytes::Bytes,
    fault::Faults,
    lease::{
        Lease,
        OWNED, //
    },
    prepare::NewDesc,
    revocable::Mappings,
    this_module::this_module,
    vma::{
        FileVma,
        NewVma, //
    },
};
use core::{
    marker::PhantomData,
    ops::Deref, //
};
use kernel::{
    bindings,
    container_of,
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
    page::PAGE_SIZE,
    prelude::*,
    str::CString,
    sync::Arc,
    types::Opaque, //
};

/// An open file of a node.
pub trait OpenFile: Send + Sync + Sized + 'static {
    /// What the node has for all its files.
    type Node: Send + Sync + 'static;

    /// `open`, for what `mode` says.
    fn open(node: &Self::Node, mode: Mode) -> Result<Self>;

    /// `mmap`. The mapping that is asked for has any offset and any length. What is [`Prepared`] has no `mmap`.
    fn mmap(&self, _vma: NodeVma<'_, Self>) -> Result {
        Err(ENODEV)
    }

    /// `ioctl`, from 32-bit programs too. A command and an argument that a program made up. What it returns is not
    /// negative.
    fn ioctl(&self, _command: u32, _argument: usize) -> Result<i32> {
        Err(ENOTTY)
    }

    /// Where the mappings of memory that may be taken back are found. A file that does not say so gets no entries for such
    /// memory.
    fn mappings(&self) -> Option<&Mappings> {
        None
    }

    /// Calls `f` with the memory that `read` and `write` show at a position in the file, and with the position in that memory.
    /// Memory that was taken back is an `ENODEV`.
    fn memory_at(
        &self,
        at: u64,
        f: impl FnOnce(&dyn Backing, u64) -> Result<usize>,
    ) -> Result<usize>;
}

/// An open file whose mappings are described by `mmap_prepare`, and made by the kernel.
pub trait Prepared: OpenFile + Faults {
    /// `mmap_prepare`. The mapping that is asked for has any offset and any length. It shows memory of the file itself, which
    /// lives until the last mapping of it is gone.
    fn mmap_prepare(desc: NewDesc<'_, Self>) -> Result;
}

/// What a file is opened for: reading, writing, or both.
#[derive(Clone, Copy)]
pub struct Mode(u32);

impl Mode {
    /// `O_RDONLY`, `O_WRONLY` or `O_RDWR`.
    pub fn flags(self) -> u32 {
        self.0
    }
}

/// What `mmap` of a file is asked to set up.
///
/// # Invariants
///
/// The VMA's file has `file`, until its release.
pub struct NodeVma<'a, F> {
    vma: FileVma<'a>,
    file: &'a F,
}

impl<'a, F> Deref for NodeVma<'a, F> {
    type Target = FileVma<'a>;

    fn deref(&self) -> &FileVma<'a> {
        &self.vma
    }
}

impl<'a, F: Faults> NodeVma<'a, F> {
    /// To show the memory of the file itself, which lives until the last mapping of it is gone.
    pub fn of_file(self) -> NewVma<'a, F> {
        // SAFETY: By the type's invariants the file keeps it, and its page offset is that in the memory.
        unsafe { NewVma::new(self.vma.as_ptr(), self.file) }
    }
}

impl<'a, F> NodeVma<'a, F> {
    /// To show other memory, from `page` on. Each VMA has a reference to it.
    pub fn of<T: Faults>(self, data: Arc<T>, page: usize) -> NewVma<'a, T> {
        NewVma::of(self.vma, data, page)
    }

    /// To have something else show it.
    pub fn into_inner(self) -> FileVma<'a> {
        self.vma
    }
}

/// What a `struct miscdevice` lies in.
struct Inner<F: OpenFile> {
    device: Opaque<bindings::miscdevice>,
    name: CString,
    data: F::Node,
}

/// A node in `/dev`, from its registration until it is dropped. Files that are open then stay so.
///
/// # Invariants
///
/// The device in the box is registered with the operations for `F`, and stays where it is.
pub struct Node<F: OpenFile>(KBox<Inner<F>>);

// SAFETY: Registrations belong to no thread, and the data can be sent.
unsafe impl<F: OpenFile> Send for Node<F> {}
// SAFETY: A shared reference gives access to the data only, which can be shared.
unsafe impl<F: OpenFile> Sync for Node<F> {}

impl<F: OpenFile> Node<F> {
    /// Makes `/dev/NAME`, which belongs to root, with the permissions of `mode`. It can be opened before this returns.
    pub fn new(name: CString, mode: u16, data: F::Node) -> Result<Self> {
        Self::register(name, mode, data, Operations::<F>::TABLE)
    }

    /// The same, of files that have `mmap_prepare`.
    pub fn prepared(name: CString, mode: u16, data: F::Node) -> Result<Self>
    where
        F: Prepared,
    {
        Self::register(name, mode, data, Operations::<F>::PREPARED)
    }

    fn register(
        name: CString,
        mode: u16,
        data: F::Node,
        operations: &'static bindings::file_operations,
    ) -> Result<Self> {
        let inner = Inner {
            device: Opaque::zeroed(),
            name,
            data,
        };
        let inner = KBox::<Inner<F>>::new(inner, GFP_KERNEL)?;
        let device = inner.device.get();
        // SAFETY: It is zeroed memory in a box, where it stays, as does the name; the operations are constant.
        to_result(unsafe {
            (*device).minor = bindings::MISC_DYNAMIC_MINOR as c_int;
            (*device).name = inner.name.as_char_ptr();
            (*device).fops = operations;
            (*device).mode = mode;
            bindings::misc_register(device)
        })?;
        // INVARIANT: It was just registered.
        Ok(Self(inner))
    }

    /// What it has for all its files.
    pub fn data(&self) -> &F::Node {
        &self.0.data
    }
}

impl<F: OpenFile> Drop for Node<F> {
    fn drop(&mut self) {
        // SAFETY: By the type's invariants. It waits for an `open` that is under way, by the mutex of the misc devices, and there is none later.
        unsafe { bindings::misc_deregister(self.0.device.get()) };
    }
}

struct Operations<F>(PhantomData<F>);

impl<F: OpenFile> Operations<F> {
    const TABLE: &'static bindings::file_operations = &bindings::file_operations {
        mmap: Some(mmap::<F>),
        ..Self::WITHOUT
    };

    const WITHOUT: bindings::file_operations = bindings::file_operations {
        // An open file, and so a mapping, keeps the module.
        owner: this_module(),
        open: Some(open::<F>),
        release: Some(release::<F>),
        unlocked_ioctl: Some(ioctl::<F>),
        compat_ioctl: bindings::compat_ptr_ioctl,
        // Where entries of 2 MiB fit.
        get_unmapped_area: Some(bindings::thp_get_unmapped_area),
        read_iter: Some(read::<F>),
        write_iter: Some(write::<F>),
        ..pin_init::zeroed()
    };
}

impl<F: Prepared> Operations<F> {
    const PREPARED: &'static bindings::file_operations = &bindings::file_operations {
        mmap_prepare: Some(mmap_prepare::<F>),
        ..Self::WITHOUT
    };
}

/// The data of an open file.
///
/// # Safety
///
/// The file was opened by [`open`] for the same `F`, and is not released yet.
unsafe fn data<'a, F: OpenFile>(file: *mut bindings::file) -> &'a F {
    // SAFETY: `open` stored a box, which `release` takes back.
    unsafe { &*(*file).private_data.cast::<F>() }
}

/// # Safety
///
/// The core opens `file` for a `Node<F>`.
unsafe extern "C" fn open<F: OpenFile>(
    _inode: *mut bindings::inode,
    file: *mut bindings::file,
) -> c_int {
    // SAFETY: `misc_open` of `drivers/char/misc.c` has put the device there, which lies in an `Inner<F>`, and keeps it
    // registered until this returns.
    let inner = unsafe {
        let device = (*file).private_data.cast::<Opaque<bindings::miscdevice>>();
        &*container_of!(device, Inner<F>, device)
    };
    // SAFETY: The file is being opened, so its flags stay as they are.
    let mode = Mode(unsafe { (*file).f_flags } & bindings::O_ACCMODE);
    from_result(|| {
        let opened = KBox::new(F::open(&inner.data, mode)?, GFP_KERNEL_ACCOUNT)?;
        if let Some(mappings) = opened.mappings() {
            // SAFETY: The file is being opened, and has what was opened, with its mappings, until its release.
            unsafe { mappings.add(file) };
        }
        // SAFETY: The file is being opened; its private data is ours to set.
        unsafe { (*file).private_data = KBox::into_raw(opened).cast() };
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
    // SAFETY: `open` stored a box, and this is the last operation on the file: no mapping has it any more.
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
    // SAFETY: By the safety requirements.
    let data = unsafe { data::<F>(file) };
    from_result(|| data.ioctl(command, argument).map(|answer| answer as c_long))
}

/// # Safety
///
/// `file` was opened by [`open`] for the same `F`, and the core calls this as its operation.
unsafe extern "C" fn mmap<F: OpenFile>(
    file: *mut bindings::file,
    vma: *mut bindings::vm_area_struct,
) -> c_int {
    // SAFETY: By the safety requirements.
    let data = unsafe { data::<F>(file) };
    // SAFETY: It is the VMA that the core sets up, with our file.
    let vma = unsafe { FileVma::from_raw(vma) };
    // INVARIANT: `release` drops the data.
    from_result(|| data.mmap(NodeVma { vma, file: data }).map(|()| 0))
}

/// # Safety
///
/// The core calls this for a mapping of a file that was opened by [`open`] for the same `F`.
unsafe extern "C" fn mmap_prepare<F: Prepared>(desc: *mut bindings::vm_area_desc) -> c_int {
    from_result(|| {
        // SAFETY: By the safety requirements; `release` drops the data, and the page offset is that in its memory.
        let desc = unsafe { NewDesc::new(desc, data::<F>((*desc).file)) }?;
        F::mmap_prepare(desc).map(|()| 0)
    })
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
    transfer(data, position, Copy::Out(to))
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
    transfer(data, position, Copy::In(from))
}

/// How many bytes go through the stack at a time where memory may be taken back.
const CHUNK: usize = 256;

/// What `read` or `write` copies to or from.
enum Copy<'a, 'b> {
    Out(&'a mut IovIterDest<'b>),
    In(&'a mut IovIterSource<'b>),
}

impl Copy<'_, '_> {
    /// How many bytes are wanted yet.
    fn left(&self) -> usize {
        match self {
            Self::Out(to) => to.len(),
            Self::In(from) => from.len(),
        }
    }

    /// Copies bytes that stay. Returns how many were copied.
    fn direct(&mut self, bytes: &Bytes<'_>) -> usize {
        match self {
            Self::Out(to) => bytes.copy_to_iter(to),
            Self::In(from) => bytes.copy_from_iter(from),
        }
    }

    /// Copies some of the memory that goes with a lease, which is not held while user memory is touched: that may take as long
    /// as a program likes (`userfaultfd`). Returns how many bytes there are, and how many of them were copied; `None` beyond
    /// the end.
    fn by_chunk(
        &mut self,
        memory: &dyn Backing,
        lease: &Lease,
        at: usize,
    ) -> Result<Option<(usize, usize)>> {
        let mut own = [0; CHUNK];
        let (page, offset) = (at / PAGE_SIZE, at % PAGE_SIZE);
        let most = CHUNK.min(self.left());
        let hold = lease.hold().ok_or(ENODEV)?;
        let Some(bytes) = memory.bytes(&hold, page, offset, most) else {
            return Ok(None);
        };
        let there = bytes.len().min(most);
        let part = own.get_mut(..there).unwrap_or_default();
        match self {
            Self::Out(to) => {
                bytes.copy_out(part);
                drop(hold);
                Ok(Some((there, to.copy_to_iter(part))))
            }
            Self::In(from) => {
                drop(hold);
                let copied = from.copy_from_iter(part);
                let hold = lease.hold().ok_or(ENODEV)?;
                let bytes = memory.bytes(&hold, page, offset, copied);
                bytes.ok_or(ENODEV)?.copy_in(part)?;
                Ok(Some((there, copied)))
            }
        }
    }

    /// Copies some bytes of the memory, at most to the end of a page. Returns as [`Self::by_chunk`].
    fn some(&mut self, memory: &dyn Backing, at: usize) -> Result<Option<(usize, usize)>> {
        if let Some(lease) = memory.attributes().lease() {
            return self.by_chunk(memory, lease, at);
        }
        let left = self.left();
        let bytes = memory.bytes(&OWNED, at / PAGE_SIZE, at % PAGE_SIZE, PAGE_SIZE);
        Ok(bytes.map(|bytes| (bytes.len().min(left), self.direct(&bytes))))
    }
}

/// Copies the memory at a position page by page.
fn transfer<F: OpenFile>(
    file: &F,
    position: &mut bindings::loff_t,
    mut copy: Copy<'_, '_>,
) -> isize {
    from_result(|| {
        let at = u64::try_from(*position).map_err(|_| EINVAL)?;
        let done = file.memory_at(at, |memory, first| {
            let mut done = 0;
            while copy.left() > 0 {
                let Ok(at) = usize::try_from(first.saturating_add(done as u64)) else {
                    break;
                };
                let (there, copied) = match copy.some(memory, at) {
                    Ok(Some(some)) => some,
                    // Beyond the end there is nothing.
                    Ok(None) => break,
                    Err(error) if done == 0 => return Err(error),
                    Err(_) => break,
                };
                done += copied;
                if copied < there {
                    return if done > 0 { Ok(done) } else { Err(EFAULT) };
                }
            }
            Ok(done)
        })?;
        *position = position.saturating_add(done as bindings::loff_t);
        Ok(done as isize)
    })
}
