// SPDX-License-Identifier: GPL-2.0

//! Addresses that a bound device has for buffers of a session: given by ATTACH, or with the memory.

use crate::{
    abi::{
        reason::{
            Reason,
            Refusal, //
        },
        wire::{
            traits,
            Direction, //
        },
    },
    buffer::BufferRef,
    device::bound::BoundDevice,
    object::{
        self,
        Object, //
    },
    refusals,
    sys::{
        attached::{
            Attached,
            DmaRun,
            NotMapped, //
        },
        caller, //
    },
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    sync::Arc, //
};

/// What a node's device, or the lack of one, has to do with a buffer.
#[derive(Clone)]
pub(crate) struct Reach {
    node: Option<Arc<BoundDevice>>,
    attached: Option<Arc<OnDevice>>,
}

impl Reach {
    /// On a node of this device or of none, with the addresses that ATTACH gave.
    pub(crate) fn new(node: Option<&Arc<BoundDevice>>, attached: Option<Arc<OnDevice>>) -> Self {
        let node = node.cloned();
        Self { node, attached }
    }

    /// The device of the node.
    pub(crate) fn device(&self) -> Option<&Arc<BoundDevice>> {
        self.node.as_ref()
    }

    /// The addresses that ATTACH gave.
    pub(crate) fn attached(&self) -> Option<&OnDevice> {
        self.attached.as_deref()
    }

    /// The address of a byte of the buffer, if the device has one.
    pub(crate) fn address(&self, object: &Object, offset: u64) -> Option<u64> {
        match &self.attached {
            Some(attached) => attached.address(offset),
            None => {
                let page = usize::try_from(offset / PAGE_SIZE as u64).ok()?;
                object.memory()?.dma_address(page, self.node.as_ref())
            }
        }
    }

    /// Bits of [`traits`].
    pub(crate) fn traits(&self, object: &Object) -> u32 {
        let attached = self
            .attached
            .as_ref()
            .map_or(0, |attached| attached.traits());
        let own = object.memory();
        own.map_or(0, |memory| memory.traits(self.node.as_ref())) | attached
    }

    /// Calls `f` with each run of addresses, starting at run `first`, at most `count` times. Returns how many there are, or
    /// `None` if the device has no addresses for the buffer.
    pub(crate) fn each(
        &self,
        object: &Object,
        first: u32,
        count: u32,
        mut f: impl FnMut(DmaRun) -> Result<(), Refusal>,
    ) -> Result<Option<u32>, Refusal> {
        let whole;
        let runs = match &self.attached {
            Some(attached) => attached.runs(),
            None => match self.address(object, 0) {
                // The DMA API gives one run.
                Some(address) => {
                    whole = [DmaRun {
                        offset: 0,
                        length: object.bytes(),
                        address,
                    }];
                    whole.as_slice()
                }
                None => &[],
            },
        };
        if runs.is_empty() {
            return Ok(None);
        }
        for run in runs.iter().skip(first as usize).take(count as usize) {
            f(*run)?;
            caller::cond_resched();
        }
        Ok(Some(u32::try_from(runs.len()).unwrap_or(u32::MAX)))
    }
}

/// A buffer, or another driver's dma-buf, that is attached to a device until this is dropped.
pub(crate) struct OnDevice {
    attached: Arc<Attached>,
    device: Arc<BoundDevice>,
}

impl OnDevice {
    /// Maps a buffer for a device, at addresses below `below` if that is not 0 and the device's can be chosen.
    ///
    /// # Errors
    ///
    /// [`Reason::CannotAttach`], [`Reason::OutOfReach`], [`Reason::DmaRefused`], [`Reason::ForeignOutOfReach`],
    /// [`Reason::ExporterRefusedDevice`], [`Reason::DeviceGone`], [`Reason::Interrupted`].
    pub(crate) fn new(
        object: &Object,
        device: &Arc<BoundDevice>,
        direction: Direction,
        below: u64,
    ) -> Result<Self, Refusal> {
        let (attached, fails) = match object {
            // Memory of the device's own had addresses until now.
            Object::Own(buffer) if !buffer.can_attach() && !device.there() => {
                return Err(Reason::DeviceGone.into());
            }
            Object::Own(buffer) if !buffer.can_attach() => {
                let kind = object.kind().number();
                return Err(Reason::CannotAttach.with(&[u64::from(kind)]));
            }
            Object::Own(buffer) => {
                let attached = device.attach(buffer, direction, below)?;
                (attached, Reason::DmaRefused)
            }
            Object::Foreign(foreign) => {
                let attached = device.import(foreign, direction)?;
                (attached, Reason::ExporterRefusedDevice)
            }
        };
        let bits = u64::from(device.dma_mask());
        let bytes = object.bytes();
        let attached = attached.map_err(|error| match error {
            NotMapped::OutOfReach(offset) => Reason::OutOfReach.with(&[bits, offset]),
            NotMapped::MaybeOutOfReach => Reason::ForeignOutOfReach.with(&[bits]),
            NotMapped::Failed(error) => object::failed(fails, error, &[bytes], bytes),
        })?;
        Ok(Self {
            attached,
            device: device.clone(),
        })
    }

    /// Whether the device has them still.
    pub(crate) fn alive(&self) -> bool {
        self.attached.alive()
    }

    /// The device's addresses; none when it is gone.
    pub(crate) fn runs(&self) -> &[DmaRun] {
        match self.attached.alive() {
            true => self.attached.runs(),
            false => &[],
        }
    }

    /// The address of a byte.
    pub(crate) fn address(&self, offset: u64) -> Option<u64> {
        let runs = self.runs();
        let number = runs.partition_point(|run| run.offset <= offset);
        let run = runs.get(number.checked_sub(1)?)?;
        Some(run.address.wrapping_add(offset - run.offset))
    }

    /// Bits of [`traits`].
    pub(crate) fn traits(&self) -> u32 {
        match (self.attached.alive(), self.attached.needs_sync()) {
            (false, _) => 0,
            (true, true) => traits::ATTACHED,
            (true, false) => traits::ATTACHED | traits::COHERENT,
        }
    }

    /// That it was attached for this direction.
    ///
    /// # Errors
    ///
    /// [`Reason::SyncDirection`].
    pub(crate) fn goes(&self, direction: Direction) -> Result<(), Refusal> {
        let mapped = self.attached.direction();
        if mapped != Direction::Both && mapped != direction {
            let operands = [direction, mapped].map(|direction| u64::from(direction.number()));
            return Err(Reason::SyncDirection.with(&operands));
        }
        Ok(())
    }

    /// Gives a range of a buffer of this driver's to the CPU or to the device.
    ///
    /// # Errors
    ///
    /// [`Reason::SyncDirection`], [`Reason::DeviceGone`].
    pub(crate) fn sync(
        &self,
        range: (u64, u64),
        direction: Direction,
        for_cpu: bool,
    ) -> Result<(), Refusal> {
        self.goes(direction)?;
        // Where both see the same bytes, nobody has to wait for others who sync.
        let there = match self.attached.needs_sync() {
            true => self.device.sync(&self.attached, range, direction, for_cpu),
            false => self.attached.alive(),
        };
        match there {
            true => Ok(()),
            false => Err(Reason::DeviceGone.into()),
        }
    }

    /// Takes the addresses away, also while somebody asks about them.
    fn end(&self) {
        self.device.detach(&self.attached);
    }
}

impl Drop for OnDevice {
    fn drop(&mut self) {
        self.end();
    }
}

/// What keeps addresses for a buffer: an id and a name share one. They end when it is dropped, also while somebody asks
/// about them.
pub(crate) struct Kept(Arc<OnDevice>);

impl Kept {
    /// Keeps addresses that were just made.
    pub(crate) fn new(made: OnDevice) -> Result<Arc<Self>, Refusal> {
        let no_memory = |_| refusals::no_memory(PAGE_SIZE as u64, 0);
        let made = Arc::new(made, GFP_KERNEL_ACCOUNT).map_err(no_memory)?;
        Arc::new(Self(made), GFP_KERNEL_ACCOUNT).map_err(no_memory)
    }

    /// The addresses, for somebody who asks about them and does not keep them.
    pub(crate) fn on_device(&self) -> &Arc<OnDevice> {
        &self.0
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A device that a named buffer is for: its memory is the device's, or has addresses for it. The name goes when the device
/// does.
#[derive(Clone)]
pub(crate) struct ForDevice {
    device: Arc<BoundDevice>,
    kept: Option<Arc<Kept>>,
}

impl ForDevice {
    /// The device that a buffer with these addresses is for, if it is for one.
    pub(crate) fn of(buffer: &BufferRef, kept: Option<Arc<Kept>>) -> Option<Self> {
        let device = match &kept {
            Some(kept) => &kept.on_device().device,
            None => buffer.memory().device()?,
        };
        let device = device.clone();
        Some(Self { device, kept })
    }

    /// The device.
    pub(crate) fn device(&self) -> &Arc<BoundDevice> {
        &self.device
    }

    /// What it has to do with the buffer, for somebody who does not keep the addresses.
    pub(crate) fn reach(&self) -> Reach {
        let attached = self.kept.as_ref().map(|kept| kept.on_device().clone());
        Reach::new(Some(&self.device), attached)
    }
}
