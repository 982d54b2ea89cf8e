// SPDX-License-Identifier: GPL-2.0

//! What a base address register of a bound device leads to, as a buffer. It goes when the device does, whoever maps it.

use crate::{
    abi::reason::{
        Reason,
        Refusal, //
    },
    device::bound::BoundDevice,
    sys::{
        bytes::Bytes,
        lease::Hold,
        Attributes,
        Backing,
        Frames,
        LentBar,
        PageRef,
        Revocable, //
    },
};
use core::ptr::NonNull;
use kernel::{
    page::PAGE_SIZE,
    sync::Arc, //
};

pub(crate) struct DeviceBar {
    lent: Arc<LentBar>,
    device: Arc<BoundDevice>,
}

impl DeviceBar {
    pub(crate) fn new(lent: Arc<LentBar>, device: Arc<BoundDevice>) -> Self {
        Self { lent, device }
    }

    /// What goes with the device.
    pub(crate) fn revocable(&self) -> &Arc<Revocable> {
        self.lent.revocable()
    }

    /// Keeps it until the answer is dropped; `None` where the device is gone.
    pub(crate) fn hold(&self) -> Option<Hold<'_>> {
        self.lent.hold()
    }

    /// Bits of the kernel's own accesses.
    pub(crate) fn word(&self) -> u32 {
        self.lent.width()
    }

    /// Its size in bytes, which need not be whole pages.
    pub(crate) fn bytes(&self) -> u64 {
        self.lent.len() as u64
    }

    /// Why it cannot be mapped, if so.
    pub(super) fn unmappable(&self) -> Option<Refusal> {
        if self.lent.mappable() {
            return None;
        }
        let reason = match self.lent.ports() {
            true => Reason::PortsNotMappable,
            false => Reason::BarSharesPage,
        };
        Some(reason.with(&[self.bytes()]))
    }

    /// The MSI-X table or its pending bits, where they lie in these pages.
    pub(super) fn sealed(&self, page: u64, end: u64) -> Option<(u64, u64)> {
        let page_size = PAGE_SIZE as u64;
        let mut parts = self.lent.msix().iter().filter(|part| !part.is_empty());
        let found = parts
            .find(|part| part.start / page_size < end && part.end.div_ceil(page_size) > page)?;
        Some((found.start, found.end - found.start))
    }

    /// That user space may write to these bytes.
    pub(super) fn writable(&self, offset: u64, length: u64) -> Result<(), Refusal> {
        let end = offset.saturating_add(length);
        let mut parts = self.lent.msix().iter();
        match parts.find(|part| part.start < end && offset < part.end) {
            None => Ok(()),
            Some(part) => Err(Reason::MsixTable.with(&[part.start, part.end - part.start])),
        }
    }
}

impl Drop for DeviceBar {
    fn drop(&mut self) {
        self.device.end_bar(&self.lent);
    }
}

impl Backing for DeviceBar {
    fn len(&self) -> usize {
        self.lent.pages()
    }

    fn page(&self, _index: usize) -> Option<PageRef<'_>> {
        None
    }

    fn frames<'a>(&'a self, hold: &'a Hold<'_>, index: usize, most: usize) -> Option<Frames<'a>> {
        self.lent.frames(hold, index, most)
    }

    fn attributes(&self) -> Attributes<'_> {
        self.lent.attributes()
    }

    fn bytes<'a>(
        &'a self,
        hold: &'a Hold<'_>,
        index: usize,
        offset: usize,
        length: usize,
    ) -> Option<Bytes<'a>> {
        self.lent.bytes(hold, index, offset, length)
    }

    fn address(&self) -> Option<NonNull<u8>> {
        None
    }
}
