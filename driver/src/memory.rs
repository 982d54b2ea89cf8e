// SPDX-License-Identifier: GPL-2.0

//! The memory of a buffer: one file for each kind, and the interface that all kinds share.

mod bar;
mod coherent;
mod contiguous;
pub(crate) mod gate;
mod huge;
mod lent;
mod pages;
pub(crate) mod region;
mod spec;
mod vmalloc;

pub(crate) use self::{
    bar::DeviceBar,
    coherent::Coherent,
    contiguous::Contiguous,
    lent::DeviceCoherent,
    pages::Pages,
    region::Region,
    spec::Spec,
    vmalloc::Vmalloc, //
};

use self::{
    gate::Gate,
    huge::huge_frames, //
};

use crate::{
    abi::{
        reason::{
            Reason,
            Refusal, //
        },
        wire::{
            traits,
            Cache,
            Kind,
            RegionType, //
        },
    },
    device::bound::BoundDevice,
    policy::{
        plan::{
            Facts,
            Huge,
            Layout, //
        },
        request::Placement, //
    },
    sys::{
        alloc::{
            self,
            Zone, //
        },
        caller,
        dma::SystemDevice,
        lease::Hold,
        Backing,
        Parked,
        Revocable, //
    },
};
use kernel::{
    page::PAGE_SIZE,
    sync::Arc, //
};

/// Whose coherent memory is meant.
pub(crate) enum Device {
    System(Arc<SystemDevice>),
    Bound(Arc<BoundDevice>),
}

/// The memory of one buffer.
pub(crate) enum Memory {
    Vmalloc(Vmalloc),
    Pages(Pages),
    Contiguous(Contiguous),
    Coherent(Coherent),
    Device(DeviceCoherent),
    Region(Region),
    Bar(DeviceBar),
}

impl Memory {
    /// Allocates zeroed memory.
    pub(crate) fn new(spec: &Spec, device: &Device) -> Result<Self, Refusal> {
        // Do not start an allocation that cannot succeed: reclaim would first drop every cache and swap out
        // everybody's memory.
        if spec.bytes() > alloc::available() {
            return Err(Reason::OutOfMemory.with(&[spec.bytes()]));
        }
        if spec.kind == Kind::Coherent {
            let memory = Self::allocate(spec, device)?;
            let node = match device {
                Device::System(_) => None,
                Device::Bound(device) => Some(device),
            };
            // The DMA API gives one run.
            let address = memory.dma_address(0, node).unwrap_or_default();
            return match spec.placement.keeps(true, address, spec.bytes()) {
                true => Ok(memory),
                false => Err(spec.placement.refused(spec.bytes())),
            };
        }
        let mut refusal = spec.placement.refused(spec.bytes());
        for zone in Zone::up_to(spec.last) {
            let spec = Spec {
                node: spec.node.within(*zone),
                ..*spec
            };
            match Self::allocate(&spec, device) {
                Ok(memory) if memory.lies_well(&spec)? => return Ok(memory),
                Ok(_) => refusal = spec.placement.refused(spec.bytes()),
                Err(other) => refusal = other,
            }
        }
        Err(refusal)
    }

    /// Whether it lies where it must.
    fn lies_well(&self, spec: &Spec) -> Result<bool, Refusal> {
        if spec.last == u64::MAX && spec.placement == Placement::ANYWHERE {
            return Ok(true);
        }
        let Some(hold) = self.hold() else {
            return Ok(false);
        };
        let mut well = true;
        let memory = self.backing();
        let mut at = 0;
        while well && at < memory.len() {
            let Some(frames) = memory.frames(&hold, at, usize::MAX) else {
                return Ok(false);
            };
            let address = frames.first().saturating_mul(PAGE_SIZE as u64);
            let length = (frames.count() * PAGE_SIZE) as u64;
            well = address.saturating_add(length - 1) <= spec.last
                && (spec.for_device || spec.placement.keeps(at == 0, address, length));
            at += frames.count();
            caller::cond_resched();
            if caller::fatal_signal_pending() {
                return Err(Reason::Interrupted.with(&[spec.bytes(), spec.bytes()]));
            }
        }
        Ok(well)
    }

    fn allocate(spec: &Spec, device: &Device) -> Result<Self, Refusal> {
        Ok(match spec.kind {
            Kind::Vmalloc => Self::Vmalloc(Vmalloc::new(spec)?),
            Kind::Pages => Self::Pages(Pages::new(spec)?),
            Kind::Contiguous => Self::Contiguous(Contiguous::new(spec)?),
            Kind::Coherent => match device {
                Device::System(device) => Self::Coherent(Coherent::new(spec, device.clone())?),
                Device::Bound(device) => Self::Device(DeviceCoherent::new(spec, device)?),
            },
            Kind::Region | Kind::Foreign => {
                return Err(Reason::KindNotHere.with(&[u64::from(spec.kind.number())]));
            }
        })
    }

    /// Its kind.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Vmalloc(_) => Kind::Vmalloc,
            Self::Pages(_) => Kind::Pages,
            Self::Contiguous(_) => Kind::Contiguous,
            Self::Coherent(_) | Self::Device(_) => Kind::Coherent,
            Self::Region(_) | Self::Bar(_) => Kind::Region,
        }
    }

    /// Its cache mode.
    pub(crate) fn cache(&self) -> Cache {
        self.backing().attributes().cache().into()
    }

    /// Whether its pages are charged and pinnable.
    pub(crate) fn paged(&self) -> bool {
        self.backing().page(0).is_some()
    }

    /// Bits of [`traits`], for a node of this device or of none.
    pub(crate) fn traits(&self, node: Option<&Arc<BoundDevice>>) -> u32 {
        let mut bits = match self.paged() {
            true => traits::PINNABLE,
            false => 0,
        };
        if self.dma_address(0, node).is_some() {
            bits |= traits::COHERENT | traits::ATTACHED;
        }
        if self.revocable() {
            bits |= traits::REVOCABLE;
        }
        bits
    }

    /// Bits in each of the kernel's own accesses, where those must be by words.
    pub(crate) fn word(&self) -> Option<u32> {
        match self {
            Self::Region(region) => region.word(),
            Self::Bar(bar) => Some(bar.word()),
            _ => None,
        }
    }

    /// Its size in bytes, where the last page holds nothing more.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Bar(bar) => bar.bytes(),
            _ => (self.backing().len() as u64).saturating_mul(PAGE_SIZE as u64),
        }
    }

    /// That user space may write to these bytes.
    ///
    /// # Errors
    ///
    /// [`Reason::MsixTable`].
    pub(crate) fn writable(&self, offset: u64, length: u64) -> Result<(), Refusal> {
        match self {
            Self::Bar(bar) => bar.writable(offset, length),
            _ => Ok(()),
        }
    }

    /// The address of the page for the device of a node (none: the platform device of ours), if the memory is that device's
    /// at all times.
    pub(crate) fn dma_address(&self, index: usize, node: Option<&Arc<BoundDevice>>) -> Option<u64> {
        match (self, node) {
            (Self::Coherent(memory), None) => memory.dma_address(index),
            (Self::Device(memory), Some(device)) if memory.is_of(device) => {
                memory.dma_address(index)
            }
            _ => None,
        }
    }

    /// The device that its memory goes with, if that is no register's.
    pub(crate) fn device(&self) -> Option<&Arc<BoundDevice>> {
        match self {
            Self::Device(memory) => Some(memory.device()),
            _ => None,
        }
    }

    /// What is told of mappings and of the kernel's own accesses.
    pub(crate) fn gate(&self) -> Option<&Gate> {
        match self {
            Self::Region(region) => Some(region.gate()),
            _ => None,
        }
    }

    /// Gives the memory back, except for pages that others refer to: those go to `parked`.
    pub(crate) fn park(self, parked: &mut Parked) {
        match self {
            Self::Vmalloc(memory) => memory.park(parked),
            Self::Pages(memory) => memory.park(parked),
            Self::Contiguous(memory) => memory.park(parked),
            // Nobody can refer to the pages of these.
            Self::Coherent(memory) => drop(memory),
            Self::Device(memory) => drop(memory),
            Self::Region(memory) => drop(memory),
            Self::Bar(memory) => drop(memory),
        }
    }

    /// The sort of huge entry that a mapping of these pages can have.
    fn huge_entry(&self, start: usize, end: usize) -> Huge {
        match self {
            Self::Vmalloc(_) => Huge::No,
            Self::Pages(memory) => memory.huge(start, end),
            Self::Contiguous(memory) => memory.huge(start, end),
            Self::Coherent(memory) => memory.huge(start, end),
            Self::Device(memory) => memory.huge(start, end),
            Self::Region(_) | Self::Bar(_) => match self.hold() {
                Some(hold) => huge_frames(self.backing().frames(&hold, 0, 1), start, end),
                None => Huge::No,
            },
        }
    }

    /// The address that a mapping starting at this page should have, in pages and modulo the size of a huge entry. An
    /// entry for frames must be aligned both there and in physical memory, one for a folio both there and in the
    /// buffer (`do_set_pmd` of `mm/memory.c`).
    pub(crate) fn unmapped_area(&self, page: u64) -> u64 {
        let frame = |index| match self {
            Self::Pages(_) | Self::Vmalloc(_) => None,
            _ => self.frame(index),
        };
        usize::try_from(page).ok().and_then(frame).unwrap_or(page)
    }

    /// Whether a mapping of so many pages from this one on, which begins at an address, in pages, can have huge entries.
    pub(crate) fn lined_up(&self, page: u64, pages: u64, address: u64) -> bool {
        let huge = 1 << alloc::pmd_order();
        pages >= huge && self.unmapped_area(page).wrapping_sub(address) & (huge - 1) == 0
    }

    /// Keeps it until the answer is dropped; `None` where it is gone.
    pub(crate) fn hold(&self) -> Option<Hold<'_>> {
        match self {
            Self::Device(memory) => memory.hold(),
            Self::Bar(memory) => memory.hold(),
            _ => Some(Hold::of_its_owner()),
        }
    }

    /// What it goes with, if it may go before its owner.
    pub(crate) fn goes_with(&self) -> Option<&Arc<Revocable>> {
        match self {
            Self::Device(memory) => Some(memory.lent().revocable()),
            Self::Bar(memory) => Some(memory.revocable()),
            _ => None,
        }
    }

    /// The number of a page's frame; `None` beyond the end, and where it is gone.
    pub(crate) fn frame(&self, index: usize) -> Option<u64> {
        let hold = self.hold()?;
        let frames = self.backing().frames(&hold, index, 1)?;
        Some(frames.first())
    }

    /// Pages from this one to the end of its physically contiguous run; 0 beyond the end, and where it is gone.
    pub(crate) fn run_from(&self, index: usize) -> usize {
        let Some(hold) = self.hold() else {
            return 0;
        };
        let frames = self.backing().frames(&hold, index, usize::MAX);
        frames.map_or(0, |frames| frames.count())
    }

    /// The interface that every kind has.
    pub(crate) fn backing(&self) -> &dyn Backing {
        match self {
            Self::Vmalloc(memory) => memory,
            Self::Pages(memory) => memory,
            Self::Contiguous(memory) => memory,
            Self::Coherent(memory) => memory,
            Self::Device(memory) => memory,
            Self::Region(memory) => memory,
            Self::Bar(memory) => memory,
        }
    }
}

impl Layout for Memory {
    fn facts(&self) -> Facts {
        let backing = self.backing();
        Facts {
            kind: self.kind(),
            cache: self.cache(),
            pages: backing.len() as u64,
            page_size: PAGE_SIZE as u64,
            huge_pages: 1 << alloc::pmd_order(),
            paged: self.paged(),
            ram: match self {
                Self::Region(region) => region.class() == RegionType::Ram,
                Self::Bar(_) => false,
                _ => true,
            },
            unbacked: match self {
                Self::Region(region) => region.unbacked(),
                _ => false,
            },
        }
    }

    fn run(&self, page: u64) -> u64 {
        usize::try_from(page).map_or(0, |page| self.run_from(page) as u64)
    }

    fn huge(&self, page: u64, end: u64) -> Huge {
        match (usize::try_from(page), usize::try_from(end)) {
            (Ok(page), Ok(end)) => self.huge_entry(page, end),
            _ => Huge::No,
        }
    }

    fn revocable(&self) -> bool {
        self.goes_with().is_some()
    }

    fn unmappable(&self) -> Option<Refusal> {
        match self {
            Self::Bar(bar) => bar.unmappable(),
            _ => None,
        }
    }

    fn sealed(&self, page: u64, end: u64) -> Option<(u64, u64)> {
        match self {
            Self::Bar(bar) => bar.sealed(page, end),
            _ => None,
        }
    }

    fn faults_singly(&self) -> bool {
        match self {
            Self::Vmalloc(_) => true,
            Self::Contiguous(memory) => memory.faults_singly(),
            Self::Pages(_)
            | Self::Coherent(_)
            | Self::Device(_)
            | Self::Region(_)
            | Self::Bar(_) => false,
        }
    }
}
