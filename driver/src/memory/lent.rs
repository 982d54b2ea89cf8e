// SPDX-License-Identifier: GPL-2.0

//! `coherent` on the node of a bound device: its memory, which goes when the device does, whoever maps it.

use super::{
    huge_frames,
    Spec, //
};
use crate::{
    abi::reason::{
        Reason,
        Refusal, //
    },
    device::bound::BoundDevice,
    policy::plan::Huge,
    sys::{
        alloc,
        bytes::Bytes,
        caller,
        lease::Hold,
        lend::Lent,
        numa,
        Attributes,
        Backing,
        Frames,
        PageRef, //
    },
};
use core::ptr::NonNull;
use kernel::{
    page::PAGE_SIZE,
    sync::Arc, //
};

pub(crate) struct DeviceCoherent {
    lent: Arc<Lent>,
    device: Arc<BoundDevice>,
}

impl DeviceCoherent {
    pub(super) fn new(spec: &Spec, device: &Arc<BoundDevice>) -> Result<Self, Refusal> {
        let most = (PAGE_SIZE as u64) << alloc::MAX_ORDER;
        let none = || spec.out_of_memory(Some(Reason::NoCoherentMemory), 0, most);
        let lent = device.lend(spec.pages)?.ok_or_else(none)?;
        let device = device.clone();
        // From here on dropping it gives the memory back.
        let this = Self { lent, device };
        // The DMA API takes memory near the device, which may lie outside the caller's cpuset.
        match this.allowed()? {
            true => Ok(this),
            false => Err(none()),
        }
    }

    /// Whether all of it lies in the caller's cpuset.
    ///
    /// # Errors
    ///
    /// [`Reason::DeviceGone`].
    fn allowed(&self) -> Result<bool, Refusal> {
        let hold = self.hold().ok_or(Reason::DeviceGone)?;
        let mut at = 0;
        while let Some(frames) = self.frames(&hold, at, usize::MAX) {
            if !numa::frames_allowed(frames) {
                return Ok(false);
            }
            at += frames.count();
            caller::cond_resched();
        }
        Ok(true)
    }

    /// What it is that goes.
    pub(crate) fn lent(&self) -> &Arc<Lent> {
        &self.lent
    }

    /// Whose it is.
    pub(super) fn device(&self) -> &Arc<BoundDevice> {
        &self.device
    }

    /// Whether it is memory of this device.
    pub(super) fn is_of(&self, device: &Arc<BoundDevice>) -> bool {
        Arc::ptr_eq(&self.device, device)
    }

    /// Keeps it until the answer is dropped; `None` where the device is gone.
    pub(crate) fn hold(&self) -> Option<Hold<'_>> {
        self.lent.hold()
    }

    pub(super) fn huge(&self, start: usize, end: usize) -> Huge {
        match self.hold() {
            Some(hold) => huge_frames(self.frames(&hold, 0, usize::MAX), start, end),
            None => Huge::No,
        }
    }

    /// The device's address of a page; `None` beyond the end, and where the device is gone: it is another's then.
    pub(super) fn dma_address(&self, index: usize) -> Option<u64> {
        self.hold()?;
        self.lent.dma_address(index)
    }
}

impl Drop for DeviceCoherent {
    fn drop(&mut self) {
        self.device.take_back(&self.lent);
    }
}

impl Backing for DeviceCoherent {
    fn len(&self) -> usize {
        self.lent.pages()
    }

    fn page(&self, _index: usize) -> Option<PageRef<'_>> {
        None
    }

    fn frames<'a>(&'a self, hold: &'a Hold<'_>, index: usize, most: usize) -> Option<Frames<'a>> {
        self.lent.block(hold)?.frames(index, most)
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
        self.lent.block(hold)?.bytes(index, offset, length)
    }

    fn address(&self) -> Option<NonNull<u8>> {
        None
    }
}
