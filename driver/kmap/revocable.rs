// SPDX-License-Identifier: GPL-2.0

//! Memory that is taken back while programs have it mapped: that of a device that goes, for one.
//!
//! Its mappings are filled by page faults ([`Answer::Frame`](super::vma::Answer::Frame)); see `lease.rs` for why no entry
//! outlives [`Revocable::revoke`]. All files that show it share one address space, so that one walk finds every mapping.
//!
//! The lock order is: the lock of the inode, those of the address space, the lock in the lease.

use super::{
    backing::Backing,
    bytes::Bytes,
    cache::Cache,
    frames::{
        Attributes,
        Frames,
        PageRef, //
    },
    helpers::*,
    lease::{
        Hold,
        Lease,
        OWNED, //
    },
};
use core::{
    cell::UnsafeCell,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    new_mutex,
    prelude::*,
    sync::Mutex, //
};

/// Memory, until it is taken back.
///
/// # Invariants
///
/// `memory` is changed by [`Self::revoke`] alone, under the lock of the inode, after the lease was revoked. Until then it is
/// there, `view` is where the kernel sees it, or null, and it has `pages` pages.
#[pin_data]
pub struct Revocable<M> {
    #[pin]
    mappings: Mappings,
    memory: UnsafeCell<Option<M>>,
    view: *const u8,
    cache: Cache,
    pages: usize,
}

// SAFETY: Memory that can be sent belongs to no thread, and neither does the kernel's view of it.
unsafe impl<M: Send> Send for Revocable<M> {}
// SAFETY: Shared references give shared references to memory that is `Sync`. One of them takes it out, for which it is
// `Send`, when by the type's invariants nobody has such a reference.
unsafe impl<M: Send + Sync> Sync for Revocable<M> {}

impl<M: Backing> Revocable<M> {
    /// Memory that does not go by itself; nobody has it mapped yet.
    pub fn new(memory: M) -> impl PinInit<Self> {
        let attributes = memory.attributes();
        let (view, cache) = (attributes.view(&OWNED), attributes.cache());
        let pages = memory.len();
        // INVARIANT: The memory is here. A view is what `memory` answers, which does not go by itself: null if it did.
        pin_init!(Self {
            mappings <- Mappings::new(),
            memory: UnsafeCell::new(Some(memory)),
            view,
            cache,
            pages,
        })
    }

    /// Keeps the memory until the answer is dropped; `None` where it was taken back.
    pub fn hold(&self) -> Option<Hold<'_>> {
        self.mappings.lease.hold()
    }

    /// Where its mappings are found: for [`OpenFile::mappings`](super::misc::OpenFile::mappings).
    pub fn mappings(&self) -> &Mappings {
        &self.mappings
    }

    /// Takes the memory back, and drops it: whoever uses it is waited for, then no mapping has an entry for it. The next
    /// touch is a SIGBUS. Private copies that were made of it go too.
    pub fn revoke(&self) {
        let inode = self.mappings.inode.lock();
        self.mappings.lease.revoke();
        if let Some(inode) = &*inode {
            inode.unmap();
        }
        // SAFETY: By the type's invariants nobody else changes it under this lock. It is reached through a hold alone, of
        // which there is none any more.
        let memory = unsafe { (*self.memory.get()).take() };
        drop(inode);
        drop(memory);
    }

    /// The memory, as long as somebody holds it.
    fn held<'a>(&'a self, hold: &'a Hold<'_>) -> Option<&'a M> {
        if !hold.is_of(&self.mappings.lease) {
            return None;
        }
        // SAFETY: By the type's invariants it is changed by `revoke` alone, which waits for the hold.
        unsafe { (*self.memory.get()).as_ref() }
    }
}

impl<M: Backing> Backing for Revocable<M> {
    fn len(&self) -> usize {
        self.pages
    }

    /// None: who has a page keeps it, whatever becomes of the mapping.
    fn page(&self, _index: usize) -> Option<PageRef<'_>> {
        None
    }

    fn frames<'a>(&'a self, hold: &'a Hold<'_>, index: usize, most: usize) -> Option<Frames<'a>> {
        self.held(hold)?.frames(&OWNED, index, most)
    }

    fn attributes(&self) -> Attributes<'_> {
        // SAFETY: By the type's invariants the view is there as long as the memory, which a hold of this lease keeps.
        unsafe { Attributes::new(self.cache, self.view) }.of(&self.mappings.lease)
    }

    fn bytes<'a>(
        &'a self,
        hold: &'a Hold<'_>,
        index: usize,
        offset: usize,
        length: usize,
    ) -> Option<Bytes<'a>> {
        self.held(hold)?.bytes(&OWNED, index, offset, length)
    }

    fn address(&self) -> Option<NonNull<u8>> {
        None
    }
}

/// Where the mappings of some memory are found: in one address space, that of the first file that showed it.
///
/// # Invariants
///
/// The lease has entries looked for in the address space of what is in `inode`, or in none yet.
#[pin_data]
pub struct Mappings {
    #[pin]
    lease: Lease,
    #[pin]
    inode: Mutex<Option<Inode>>,
}

impl Mappings {
    fn new() -> impl PinInit<Self> {
        // INVARIANT: A new lease was told of none.
        pin_init!(Self {
            lease <- Lease::new(),
            inode <- new_mutex!(None, "mappings"),
        })
    }

    /// Gives a file the address space in which mappings are looked for. Another node with the same number (`mknod`) has an
    /// inode of its own; what is mapped by that is found as well.
    ///
    /// # Safety
    ///
    /// The file is being opened, and keeps this until its release.
    pub(super) unsafe fn add(&self, file: *mut bindings::file) {
        let mut inode = self.inode.lock();
        // SAFETY: The file is being opened.
        let inode = inode.get_or_insert_with(|| unsafe { Inode::of(file) });
        // INVARIANT: Only this function tells the lease, and always of the same one.
        self.lease.look_in(inode.space());
        // SAFETY: A file that is being opened has no mapping. The inode stays as long as this, to which the file keeps; after
        // its release nothing asks for the address space (`__fput` of `fs/file_table.c`).
        unsafe { (*file).f_mapping = inode.space() };
    }
}

/// The inode of an open file. Its file system cannot be unmounted meanwhile: an inode alone would not keep it.
///
/// # Invariants
///
/// References on the path's dentry and its mount are ours, and the dentry has an inode.
struct Inode(bindings::path);

// SAFETY: References on an inode can be dropped anywhere that may sleep.
unsafe impl Send for Inode {}
// SAFETY: There is nothing to change through a shared reference without the kernel's own locks.
unsafe impl Sync for Inode {}

impl Inode {
    /// # Safety
    ///
    /// The file is valid.
    unsafe fn of(file: *const bindings::file) -> Self {
        // SAFETY: By the safety requirements; a file has a path, and references on what is in it.
        let path = unsafe { *kmap_helper_file_path(file) };
        // SAFETY: As said.
        unsafe { bindings::path_get(&path) };
        // INVARIANT: The references were just taken. The file was opened by that inode (`do_dentry_open` of `fs/open.c`), and
        // a dentry that is held keeps its inode when its name is removed (`d_delete` of `fs/dcache.c`).
        Self(path)
    }

    fn space(&self) -> *mut bindings::address_space {
        // SAFETY: By the type's invariants it is there. Its address space never changes.
        unsafe { (*(*self.0.dentry).d_inode).i_mapping }
    }

    /// Takes out what all mappings show, private copies too.
    fn unmap(&self) {
        // SAFETY: It is an address space, and stays as long as the inode; a length of 0 is all of it.
        unsafe { bindings::unmap_mapping_range(self.space(), 0, 0, 1) };
    }
}

impl Drop for Inode {
    fn drop(&mut self) {
        // SAFETY: By the type's invariants.
        unsafe { bindings::path_put(&self.0) };
    }
}
