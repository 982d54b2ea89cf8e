// SPDX-License-Identifier: GPL-2.0

//! What an id stands for: a buffer, or another driver's dma-buf that was imported.

use crate::{
    abi::{
        reason::{
            Reason,
            Refusal, //
        },
        wire::{
            Cache,
            Direction,
            Kind,
            Method, //
        },
    },
    buffer::BufferRef,
    memory::Memory,
    policy::plan::{
        by_exporter,
        Request,
        Sharing, //
    },
    sys::{
        caller,
        dmabuf::{
            self,
            Found, //
        },
        foreign::Foreign,
        NodeVma, //
    },
};
use kernel::{
    fs::file::FileDescriptorReservation,
    page::PAGE_SIZE,
    prelude::*, //
};

/// What an id stands for.
#[derive(Clone)]
pub(crate) enum Object {
    /// A buffer of this driver's.
    Own(BufferRef),
    /// Another driver's dma-buf. That driver pays for its memory.
    Foreign(Foreign),
}

impl Object {
    /// The dma-buf behind a descriptor of the caller's.
    ///
    /// # Errors
    ///
    /// [`Reason::NotADmaBuf`], [`Reason::DmaBufMode`].
    pub(crate) fn from_descriptor(descriptor: i32) -> Result<Self, Refusal> {
        let operands = [i64::from(descriptor) as u64];
        match dmabuf::find(descriptor) {
            Found::Nothing => Err(Reason::NotADmaBuf.with(&operands)),
            Found::NotReadWrite => Err(Reason::DmaBufMode.with(&operands)),
            Found::Own(buffer) => Ok(Self::Own(buffer)),
            Found::Foreign(foreign) => Ok(Self::Foreign(foreign)),
        }
    }

    /// The buffer, if it is one of this driver's.
    pub(crate) fn own(&self) -> Option<&BufferRef> {
        match self {
            Self::Own(buffer) => Some(buffer),
            Self::Foreign(_) => None,
        }
    }

    /// Its memory, if that is this driver's.
    pub(crate) fn memory(&self) -> Option<&Memory> {
        self.own().map(|buffer| buffer.memory())
    }

    pub(crate) fn kind(&self) -> Kind {
        self.memory().map_or(Kind::Foreign, Memory::kind)
    }

    /// Its cache mode, as far as this driver knows it.
    pub(crate) fn cache(&self) -> Cache {
        self.memory().map_or(Cache::Cached, Memory::cache)
    }

    /// Its size in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Own(buffer) => buffer.bytes(),
            Self::Foreign(foreign) => foreign.bytes(),
        }
    }

    /// Its size in pages, at least 1.
    pub(crate) fn pages(&self) -> u64 {
        match self {
            Self::Own(buffer) => buffer.pages() as u64,
            Self::Foreign(foreign) => foreign.bytes().div_ceil(PAGE_SIZE as u64).max(1),
        }
    }

    /// Whether both are one dma-buf.
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Own(one), Self::Own(other)) => one.is(other),
            (Self::Foreign(one), Self::Foreign(other)) => one.is(other),
            _ => false,
        }
    }

    /// Virtual memory areas that map it now.
    pub(crate) fn mappings(&self) -> u32 {
        match self {
            Self::Own(buffer) => buffer.mappings(),
            Self::Foreign(foreign) => foreign.mappings(),
        }
    }

    /// Installs a descriptor for it that was reserved before.
    pub(crate) fn install(&self, descriptor: FileDescriptorReservation) {
        match self {
            Self::Own(buffer) => buffer.install(descriptor),
            Self::Foreign(foreign) => foreign.install(descriptor),
        }
    }
}

/// Has the exporter of a dma-buf map it, starting at page `page`.
///
/// # Errors
///
/// [`Reason::Executable`], [`Reason::ExporterMaps`], [`Reason::BeyondEnd`], [`Reason::ExporterRefused`],
/// [`Reason::Interrupted`].
pub(crate) fn map_foreign(
    foreign: &Foreign,
    vma: NodeVma<'_>,
    page: u64,
    method: Method,
) -> Result<(), Refusal> {
    let wish = vma.wish();
    let request = Request {
        method,
        page,
        pages: wish.pages,
        sharing: Sharing::new(wish.shared, wish.write, wish.may_write),
        exec: wish.exec,
        write: wish.write,
        admin: false,
        // Who maps it decides.
        lined_up: false,
    };
    by_exporter(&request, foreign.pages(), PAGE_SIZE as u64)?;
    let bytes = wish.pages.saturating_mul(PAGE_SIZE as u64);
    foreign
        .map(vma, page)
        .map_err(|error| failed(Reason::ExporterRefused, error, &[bytes], bytes))
}

/// Has the exporter of a dma-buf give all of it to the CPU, or take it back.
///
/// # Errors
///
/// [`Reason::ExporterRefusedSync`], [`Reason::Interrupted`].
pub(crate) fn sync_foreign(
    foreign: &Foreign,
    direction: Direction,
    for_cpu: bool,
) -> Result<(), Refusal> {
    let done = foreign.cpu_access(direction, for_cpu);
    done.map_err(|error| failed(Reason::ExporterRefusedSync, error, &[], foreign.bytes()))
}

/// What an exporter's error says: a signal, or `reason` with these operands and the number of the error.
pub(crate) fn failed(reason: Reason, error: Error, operands: &[u64], bytes: u64) -> Refusal {
    if error == EINTR || error == ERESTARTSYS || caller::fatal_signal_pending() {
        return Reason::Interrupted.with(&[bytes, 0]);
    }
    let mut refusal = reason.with(operands);
    if let Some(last) = refusal.operands.get_mut(operands.len()) {
        *last = u64::from(error.to_errno().unsigned_abs());
    }
    refusal
}
