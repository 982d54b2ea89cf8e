// SPDX-License-Identifier: GPL-2.0

//! A dma-buf of another driver: that driver maps it, into user space and for devices, and says when the CPU may have it.
//!
//! A device of ours is a static importer (`dma_buf_attach` of `drivers/dma-buf/dma-buf.c`): while it has addresses, the core
//! keeps an exporter that could move the memory from doing so (`dma_buf_pin_on_map`), and an exporter that wants importers
//! which let go refuses the attachment. So no address ever leads anywhere else than it did at first.

use super::{
    helpers::*,
    node_vma::NodeVma, //
};
use crate::abi::wire::Direction;
use core::{
    mem::ManuallyDrop,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    error::{
        from_err_ptr,
        to_result, //
    },
    fs::{
        file::FileDescriptorReservation,
        File, //
    },
    page::PAGE_SIZE,
    prelude::*,
    sync::aref::ARef, //
};

/// A reference to a dma-buf of any driver.
///
/// # Invariants
///
/// A reference on the dma-buf is ours.
pub(crate) struct Foreign(NonNull<bindings::dma_buf>);

// SAFETY: References on a dma-buf can be dropped anywhere.
unsafe impl Send for Foreign {}
// SAFETY: The methods read what never changes, or call functions of the core that lock for themselves.
unsafe impl Sync for Foreign {}

impl Foreign {
    /// # Safety
    ///
    /// The caller has a reference on the dma-buf, and hands it over.
    pub(super) unsafe fn from_raw(buffer: NonNull<bindings::dma_buf>) -> Self {
        // INVARIANT: By the safety requirements.
        Self(buffer)
    }

    pub(super) fn as_ptr(&self) -> *mut bindings::dma_buf {
        self.0.as_ptr()
    }

    fn file(&self) -> *mut bindings::file {
        // SAFETY: By the type's invariants; the file of a dma-buf never changes.
        unsafe { (*self.as_ptr()).file }
    }

    /// Its size in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        // SAFETY: By the type's invariants; the size of a dma-buf never changes.
        unsafe { (*self.as_ptr()).size as u64 }
    }

    /// Whole pages in it: what can be mapped.
    pub(crate) fn pages(&self) -> u64 {
        self.bytes() / PAGE_SIZE as u64
    }

    /// Whether both are references to one dma-buf.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.0 == other.0
    }

    /// How many VMAs have its file now. An exporter may give mappings another one.
    pub(crate) fn mappings(&self) -> u32 {
        // SAFETY: The file is valid.
        unsafe { mapbuf_count_mappings(self.file()) }
    }

    /// Installs a descriptor for it that was reserved before.
    pub(crate) fn install(&self, descriptor: FileDescriptorReservation) {
        // SAFETY: The file is valid, and nobody uses `fdget_pos` on it: a dma-buf's descriptor is made by `fd_install` alone.
        let file = unsafe { File::from_raw_file(self.file()) };
        descriptor.fd_install(ARef::from(file));
    }

    /// Has its exporter make a VMA show it, starting at page `page`. The VMA cannot be executed.
    pub(crate) fn map(&self, vma: NodeVma<'_>, page: u64) -> Result {
        let page = usize::try_from(page)?;
        vma.never_executable()?;
        // SAFETY: By the type's invariants. The VMA is being set up by us, and used up here. Its file was that of a node, on
        // which the core has a reference that the function exchanges for one on the dma-buf's; when `mmap` fails, the core
        // drops that one.
        to_result(unsafe { bindings::dma_buf_mmap(self.as_ptr(), vma.as_ptr(), page) })
    }

    /// Gives it to the CPU or takes it back, for an access of this direction. Waits for fences that devices have put there.
    pub(crate) fn cpu_access(&self, direction: Direction, begin: bool) -> Result {
        // SAFETY: By the type's invariants; we hold no lock of the dma-buf.
        to_result(unsafe { mapbuf_cpu_access(self.as_ptr(), direction.number(), begin) })
    }
}

impl Clone for Foreign {
    fn clone(&self) -> Self {
        // SAFETY: The file is valid; a reference on it is a reference on the dma-buf.
        unsafe { bindings::get_file(self.file()) };
        // INVARIANT: The new reference is ours.
        Self(self.0)
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // SAFETY: By the type's invariants.
        unsafe { bindings::dma_buf_put(self.as_ptr()) };
    }
}

/// Another driver's dma-buf, mapped for a device by that driver.
///
/// # Invariants
///
/// The attachment is one of this dma-buf, and the table is what mapping it in this direction has given, until
/// [`Self::end`].
pub(super) struct Imported {
    foreign: Foreign,
    attachment: NonNull<bindings::dma_buf_attachment>,
    table: NonNull<bindings::sg_table>,
    direction: Direction,
}

// SAFETY: Attachments and mappings belong to no thread.
unsafe impl Send for Imported {}
// SAFETY: There is nothing to change through a shared reference.
unsafe impl Sync for Imported {}

/// An attachment, until it is dropped.
///
/// # Invariants
///
/// It is one of this dma-buf, and is not mapped when this is dropped.
struct Attachment<'a>(&'a Foreign, NonNull<bindings::dma_buf_attachment>);

impl Drop for Attachment<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type's invariants; we hold no lock of the dma-buf.
        unsafe { bindings::dma_buf_detach(self.0.as_ptr(), self.1.as_ptr()) };
    }
}

impl Imported {
    /// Attaches the device, and has the exporter map all of it.
    ///
    /// # Safety
    ///
    /// The device is bound to us, and [`Self::end`] is called before it is no more.
    pub(super) unsafe fn new(
        foreign: &Foreign,
        device: *mut bindings::device,
        direction: Direction,
    ) -> Result<Self> {
        // SAFETY: By the invariants of `Foreign` and the safety requirements; we hold no lock of the dma-buf.
        let attachment = unsafe { bindings::dma_buf_attach(foreign.as_ptr(), device) };
        let attachment = NonNull::new(from_err_ptr(attachment)?).ok_or(ENOMEM)?;
        // INVARIANT: It was just made, and is not mapped.
        let attachment = Attachment(foreign, attachment);
        // SAFETY: By the invariants of `Attachment`.
        let table = unsafe { mapbuf_import_map(attachment.1.as_ptr(), direction.number()) };
        let table = from_err_ptr(table)?;
        let table = NonNull::new(table).ok_or(ENOMEM)?;
        // INVARIANT: It was just mapped.
        Ok(Self {
            foreign: foreign.clone(),
            attachment: ManuallyDrop::new(attachment).1,
            table,
            direction,
        })
    }

    pub(super) fn table(&self) -> NonNull<bindings::sg_table> {
        self.table
    }

    /// Takes the addresses away.
    ///
    /// # Safety
    ///
    /// This is called once, and the device is bound to us.
    pub(super) unsafe fn end(&self) {
        // SAFETY: By the safety requirements and the type's invariants it is mapped so.
        unsafe {
            mapbuf_import_unmap(
                self.attachment.as_ptr(),
                self.table.as_ptr(),
                self.direction.number(),
            )
        };
        // INVARIANT: It is mapped no more.
        drop(Attachment(&self.foreign, self.attachment));
    }
}
