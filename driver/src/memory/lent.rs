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
    device::BoundDevice,
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
        let mut at = 0;
        while at < this.len() {
            let frames = this.frames(at, usize::MAX).ok_or(Reason::DeviceGone)?;
            if !numa::frames_allowed(frames) {
                return Err(none());
            }
            at += frames.count();
            caller::cond_resched();
        }
        Ok(this)
    }

    /// What it is that goes.
    pub(crate) fn lent(&self) -> &Arc<Lent> {
        &self.lent
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
        huge_frames(self.frames(0, usize::MAX), start, end)
    }

    pub(super) fn dma_address(&self, index: usize) -> Option<u64> {
        (index < self.len()).then(|| self.lent.block().dma_address(index))
    }
}

impl Drop for DeviceCoherent {
    fn drop(&mut self) {
        self.device.take_back(&self.lent);
    }
}

impl Backing for DeviceCoherent {
    fn len(&self) -> usize {
        self.lent.block().len()
    }

    fn page(&self, _index: usize) -> Option<PageRef<'_>> {
        None
    }

    fn frames(&self, index: usize, most: usize) -> Option<Frames<'_>> {
        let _hold = self.hold()?;
        self.lent.block().frames(index, most)
    }

    fn attributes(&self) -> Attributes {
        self.lent.block().attributes()
    }

    fn bytes(&self, index: usize, offset: usize, length: usize) -> Option<Bytes<'_>> {
        self.lent.block().bytes(index, offset, length)
    }

    fn address(&self) -> Option<NonNull<u8>> {
        None
    }
}
