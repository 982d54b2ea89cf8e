// SPDX-License-Identifier: GPL-2.0

//! What the base address registers of a device lead to: claimed and mapped for the kernel as long as a buffer shows it, and
//! no longer than the device is bound to us.

use super::{
    bytes::Bytes,
    frames::{
        Attributes,
        Frames, //
    },
    lease::Hold,
    pci_device::PciDevice,
    revocable::Revocable,
};
use crate::abi::wire::{
    bar,
    Cache,
    BARS, //
};
use core::{
    ops::Range,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    error::to_result,
    ffi::c_int,
    page::PAGE_SIZE,
    prelude::*,
    sync::Arc, //
};

/// Why a register's window cannot be shown.
pub(crate) enum NoWindow {
    /// There is none.
    None,
    /// Somebody else has claimed it.
    Taken,
    /// It cannot have this cache mode, or has another already.
    Cache,
    /// The kernel has no memory for its view.
    NoMemory,
}

/// Where the kernel sees what a register leads to: an address, or a number for ports that `ioread8` and its like
/// understand.
#[derive(Clone, Copy)]
struct View(NonNull<u8>);

// SAFETY: The kernel's view of a device belongs to no thread.
unsafe impl Send for View {}
// SAFETY: Access is by machine instructions whose races the device's users settle among themselves.
unsafe impl Sync for View {}

/// What a register leads to, claimed and mapped.
///
/// # Invariants
///
/// The device is bound to us as long as this lives, and region `index` of it is claimed. `view` is what `pci_iomap` or
/// `pci_iomap_wc` gave for all of its `bytes`.
struct Window {
    pci: PciDevice,
    index: c_int,
    view: View,
    start: u64,
    bytes: usize,
    cache: Cache,
    ports: bool,
    /// What follows in its page is claimed, so that nobody else's registers are there.
    rest: Option<u64>,
}

impl Window {
    /// # Safety
    ///
    /// The device is bound to us until this is dropped.
    unsafe fn open(pci: &PciDevice, index: usize, cache: Cache) -> Result<Self, NoWindow> {
        let (bytes, flags) = pci.bar(index);
        let bytes = usize::try_from(bytes).map_err(|_| NoWindow::None)?;
        let ports = flags & bar::PORTS != 0;
        if bytes == 0 {
            return Err(NoWindow::None);
        }
        match cache {
            Cache::Uncached => {}
            Cache::WriteCombined if flags & bar::PREFETCHABLE != 0 => {}
            _ => return Err(NoWindow::Cache),
        }
        // SAFETY: The pointer is that of a device.
        let pci = unsafe { PciDevice::get(pci.as_ptr()) }.map_err(|_| NoWindow::None)?;
        let start = pci.bar_start(index);
        let number = index as c_int;
        // SAFETY: By the safety requirements; the register exists.
        to_result(unsafe {
            bindings::pci_request_region(pci.as_ptr(), number, c"mapbuf".as_char_ptr())
        })
        .map_err(|_| NoWindow::Taken)?;
        // SAFETY: The register exists, and what it leads to was just claimed.
        let address = unsafe {
            match cache {
                Cache::WriteCombined => bindings::pci_iomap_wc(pci.as_ptr(), number, 0),
                _ => bindings::pci_iomap(pci.as_ptr(), number, 0),
            }
        };
        let Some(view) = NonNull::new(address.cast()).map(View) else {
            // SAFETY: It was just claimed.
            unsafe { bindings::pci_release_region(pci.as_ptr(), number) };
            return Err(match cache {
                Cache::WriteCombined => NoWindow::Cache,
                _ => NoWindow::NoMemory,
            });
        };
        // INVARIANT: All of it was just done.
        let mut window = Self {
            pci,
            index: number,
            view,
            start,
            bytes,
            cache,
            ports,
            rest: None,
        };
        window.claim_rest();
        Ok(window)
    }

    /// Where it is smaller than a page, claims what follows up to the page's end, as VFIO does.
    fn claim_rest(&mut self) {
        let left = PAGE_SIZE.saturating_sub(self.bytes);
        if self.ports || left == 0 || self.start % PAGE_SIZE as u64 != 0 {
            return;
        }
        let from = self.start + self.bytes as u64;
        // SAFETY: The root of the tree is always there; the name is static.
        let claimed = unsafe {
            bindings::__request_region(
                &raw mut bindings::iomem_resource,
                from,
                left as u64,
                c"mapbuf".as_char_ptr(),
                0,
            )
        };
        if !claimed.is_null() {
            self.rest = Some(left as u64);
        }
    }

    /// Whether page tables may lead to it: its pages hold nothing else.
    fn mappable(&self) -> bool {
        let whole = self.start % PAGE_SIZE as u64 == 0 && self.bytes % PAGE_SIZE == 0;
        !self.ports && (whole || self.rest.is_some())
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: By the type's invariants; nobody uses the view any more.
        unsafe {
            if let Some(left) = self.rest {
                let from = self.start + self.bytes as u64;
                bindings::__release_region(&raw mut bindings::iomem_resource, from, left);
            }
            bindings::pci_iounmap(self.pci.as_ptr(), self.view.0.as_ptr().cast());
            bindings::pci_release_region(self.pci.as_ptr(), self.index);
        }
    }
}

/// A window, and those who show it.
///
/// # Invariants
///
/// The window lives until each of `by` is revoked.
struct Shown {
    by: KVec<Arc<LentBar>>,
    window: Window,
}

/// What is shown of a device's registers.
pub(super) struct Bars([Option<Shown>; BARS]);

impl Bars {
    pub(super) fn new() -> Self {
        Self([const { None }; BARS])
    }

    /// Shows what a register leads to; the kernel's own accesses have `width` bits: 8, 16, 32, or 64 for memory.
    ///
    /// # Safety
    ///
    /// The device is bound to us, and before it is no more, this is [revoked](Self::revoke).
    pub(super) unsafe fn show(
        &mut self,
        pci: &PciDevice,
        index: usize,
        cache: Cache,
        width: u32,
    ) -> Result<Arc<LentBar>, NoWindow> {
        let slot = self.0.get_mut(index).ok_or(NoWindow::None)?;
        let flags = GFP_KERNEL_ACCOUNT | __GFP_NOWARN;
        let revocable = Revocable::new(flags).ok_or(NoWindow::NoMemory)?;
        let mut by = KVec::new();
        let shown = match slot {
            Some(shown) => shown,
            None => {
                by.reserve(1, flags).map_err(|_| NoWindow::NoMemory)?;
                // SAFETY: By the safety requirements; it is dropped by `revoke` at the latest.
                let window = unsafe { Window::open(pci, index, cache) }?;
                // INVARIANT: Nobody shows it.
                slot.insert(Shown { by, window })
            }
        };
        if shown.window.cache != cache {
            return Err(NoWindow::Cache);
        }
        let window = &shown.window;
        // INVARIANT: The window is there, and is dropped after this was revoked.
        let lent = Arc::new(
            LentBar {
                view: window.view,
                first: window.mappable().then_some(window.start / PAGE_SIZE as u64),
                bytes: window.bytes,
                cache,
                width,
                ports: window.ports,
                msix: pci.msix_in(index),
                revocable,
            },
            flags,
        );
        let kept = match lent {
            Ok(lent) => shown.by.push(lent.clone(), flags).map(|()| lent).ok(),
            Err(_) => None,
        };
        if kept.is_none() && shown.by.is_empty() {
            *slot = None;
        }
        kept.ok_or(NoWindow::NoMemory)
    }

    /// Ends one that nobody uses any more, if it was not revoked before.
    pub(super) fn end(&mut self, lent: &Arc<LentBar>) {
        for slot in &mut self.0 {
            let Some(shown) = slot else { continue };
            let at = shown.by.iter().position(|other| Arc::ptr_eq(other, lent));
            let Some(lent) = at.and_then(|at| shown.by.remove(at).ok()) else {
                continue;
            };
            // The owner of the dma-buf's mappings, if there were any, is gone.
            lent.revocable.end();
            if shown.by.is_empty() {
                *slot = None;
            }
        }
    }

    /// Takes everything back: no mapping shows it any more, and nobody reaches it.
    pub(super) fn revoke(self) {
        for shown in self.0.into_iter().flatten() {
            for lent in &shown.by {
                lent.revocable.revoke();
            }
            drop(shown.window);
        }
    }
}

/// What a register leads to, as one buffer shows it.
///
/// # Invariants
///
/// Until it is revoked, all `bytes` at `view` are what the register leads to, as [`Window`] has it. Where there is
/// `first`, the page frames from there on hold that and nothing else.
pub(crate) struct LentBar {
    view: View,
    first: Option<u64>,
    bytes: usize,
    cache: Cache,
    width: u32,
    ports: bool,
    msix: [Range<u64>; 2],
    revocable: Arc<Revocable>,
}

impl LentBar {
    /// Keeps it until the answer is dropped; `None` where the device is gone.
    pub(crate) fn hold(&self) -> Option<Hold<'_>> {
        self.revocable.hold()
    }

    /// What goes with the device.
    pub(crate) fn revocable(&self) -> &Arc<Revocable> {
        &self.revocable
    }

    /// Its size in bytes.
    pub(crate) fn len(&self) -> usize {
        self.bytes
    }

    /// How many pages it takes.
    pub(crate) fn pages(&self) -> usize {
        self.bytes.div_ceil(PAGE_SIZE)
    }

    /// Ports, to which no page table leads.
    pub(crate) fn ports(&self) -> bool {
        self.ports
    }

    /// Whether page tables may lead to it.
    pub(crate) fn mappable(&self) -> bool {
        self.first.is_some()
    }

    /// Bits of the kernel's own accesses.
    pub(crate) fn width(&self) -> u32 {
        self.width
    }

    /// The bytes in it that hold the MSI-X table, and its pending bits; empty where they are elsewhere.
    pub(crate) fn msix(&self) -> &[Range<u64>; 2] {
        &self.msix
    }

    /// The frames from a page on, at most `most`, where page tables may lead to them; `None` where this is not what `hold`
    /// holds.
    pub(crate) fn frames<'a>(
        &'a self,
        hold: &'a Hold<'_>,
        index: usize,
        most: usize,
    ) -> Option<Frames<'a>> {
        if !self.revocable.is_held_by(hold) {
            return None;
        }
        let count = self.pages().checked_sub(index);
        let count = count.filter(|count| *count > 0)?.min(most);
        let first = self.first?.checked_add(index as u64)?;
        // SAFETY: By the type's invariants they are the register's until it is revoked, which waits for `hold`.
        Some(unsafe { Frames::new(first, count) })
    }

    /// How the kernel has it mapped.
    pub(crate) fn attributes(&self) -> Attributes<'_> {
        let view = match self.ports {
            true => core::ptr::null(),
            false => self.view.0.as_ptr().cast_const(),
        };
        // SAFETY: By the type's invariants the kernel has it mapped there until it is revoked, with this mode; there is no view
        // of ports.
        unsafe { Attributes::new(self.cache.into(), view) }.of(self.revocable.lease())
    }

    /// Bytes of a page, from `offset` in it, at most `length`; `None` where this is not what `hold` holds.
    pub(crate) fn bytes<'a>(
        &'a self,
        hold: &'a Hold<'_>,
        index: usize,
        offset: usize,
        length: usize,
    ) -> Option<Bytes<'a>> {
        if !self.revocable.is_held_by(hold) {
            return None;
        }
        let at = index.checked_mul(PAGE_SIZE)?.checked_add(offset)?;
        let left = self.bytes.checked_sub(at).filter(|left| *left > 0)?;
        let length = length.min(PAGE_SIZE.checked_sub(offset)?).min(left);
        // SAFETY: By the type's invariants they are there until it is revoked, which waits for `hold`. The size of what a
        // register leads to is a power of two, and no less than a word of this width, so the words that they lie in are there too. It need not
        // be memory: it is accessed by words alone.
        Some(unsafe {
            let address = self.view.0.as_ptr().wrapping_add(at);
            Bytes::by_words(address, length, self.width)
        })
    }
}
