// SPDX-License-Identifier: GPL-2.0

//! Interrupts of a device, each counted by an eventfd.
//!
//! The handler counts and signals, and that is all: an interrupt that nobody waits for costs no more. A pin is masked by the
//! handler, in the device's command register (`pci_check_and_mask_intx` of `drivers/pci/irq.c`), so that its line is quiet
//! until somebody has served the device. While nobody has set it, it is masked too: nobody would answer, and the kernel
//! would switch the whole line off.

use super::pci_device::PciDevice;
use crate::abi::wire::IrqKind;
use core::ptr::NonNull;
use kernel::{
    bindings,
    error::{
        from_err_ptr,
        to_result, //
    },
    ffi::{
        c_int,
        c_uint,
        c_void, //
    },
    irq::IrqReturn,
    prelude::*,
    sync::atomic::{
        Atomic,
        Full,
        Relaxed, //
    },
};

/// An eventfd of a program's.
///
/// # Invariants
///
/// A reference on it is ours.
pub(crate) struct EventFd(NonNull<bindings::eventfd_ctx>);

// SAFETY: References on an eventfd can be dropped anywhere.
unsafe impl Send for EventFd {}
// SAFETY: To signal it takes its own lock.
unsafe impl Sync for EventFd {}

impl EventFd {
    /// That of a descriptor of the caller's, if it is one.
    pub(crate) fn from_descriptor(descriptor: i32) -> Option<Self> {
        // SAFETY: Any number may be asked about.
        let context = from_err_ptr(unsafe { bindings::eventfd_ctx_fdget(descriptor) });
        // INVARIANT: The reference was just taken.
        context.ok().and_then(NonNull::new).map(Self)
    }

    /// Counts one. May be called in an interrupt; once it has counted as many as it can, that changes nothing.
    fn signal(&self) {
        // SAFETY: By the type's invariants.
        unsafe { bindings::eventfd_signal_mask(self.0.as_ptr(), 0) };
    }
}

impl Drop for EventFd {
    fn drop(&mut self) {
        // SAFETY: By the type's invariants.
        unsafe { bindings::eventfd_ctx_put(self.0.as_ptr()) };
    }
}

/// What the handler of a vector looks at.
struct Sink {
    pci: PciDevice,
    pin: bool,
    eventfd: EventFd,
    masked: Atomic<bool>,
    count: Atomic<u64>,
}

impl Sink {
    fn fire(&self) {
        self.count.add(1, Relaxed);
        self.eventfd.signal();
    }

    /// The device, or another one on the same line, interrupts; whether it was this one.
    fn interrupted(&self) -> bool {
        if self.pin {
            // What was masked is not ours, though the device may still say that it interrupts.
            if self.masked.load(Relaxed) || !self.pci.mask_pin_if_pending() {
                return false;
            }
            self.masked.store(true, Relaxed);
        }
        self.fire();
        true
    }

    /// # Safety
    ///
    /// `sink` is a `Sink`, which stays until the handler is freed.
    #[allow(
        clippy::useless_transmute,
        reason = "7.2 has an integer there, and 7.3 a struct"
    )]
    unsafe extern "C" fn handle(_number: c_int, sink: *mut c_void) -> bindings::irqreturn_t {
        // SAFETY: By the safety requirements.
        let sink = unsafe { &*sink.cast::<Self>() };
        let done = match sink.interrupted() {
            true => IrqReturn::Handled,
            false => IrqReturn::None,
        };
        // SAFETY: Both are that C enum, by its number: in 7.2 an integer, from 7.3 on a struct of one.
        unsafe { core::mem::transmute::<u32, bindings::irqreturn_t>(done as u32) }
    }
}

/// A vector that is set.
///
/// # Invariants
///
/// The handler is registered for interrupt `number`, with `sink`, and the device is bound to us.
struct Line {
    number: c_uint,
    sink: KBox<Sink>,
}

impl Line {
    /// # Safety
    ///
    /// The interrupt is one of the device, and stays so until this is dropped; the device is bound to us.
    unsafe fn new(number: c_uint, sink: Sink) -> Result<Self> {
        let flags = match sink.pin {
            true => bindings::IRQF_SHARED,
            false => 0,
        };
        let sink = KBox::new(sink, GFP_KERNEL)?;
        // SAFETY: By the safety requirements. The box stays where it is until the handler is freed; the name is static.
        to_result(unsafe {
            bindings::request_threaded_irq(
                number,
                Some(Sink::handle),
                None,
                flags as usize,
                c"mapbuf".as_char_ptr(),
                core::ptr::from_ref(&*sink).cast_mut().cast(),
            )
        })?;
        // INVARIANT: It was just registered.
        let line = Self { number, sink };
        if line.sink.pin {
            // It was masked until now.
            line.unmask();
        }
        Ok(line)
    }

    fn mask(&self) {
        if self.sink.pin {
            self.sink.pci.mask_pin();
            self.sink.masked.store(true, Relaxed);
        } else if !self.sink.masked.xchg(true, Full) {
            // SAFETY: By the type's invariants; we may sleep.
            unsafe { bindings::disable_irq(self.number) };
        }
    }

    fn unmask(&self) {
        if self.sink.pin {
            // Before it can come: the handler takes none that is masked for ours.
            self.sink.masked.store(false, Relaxed);
            // What the device has to say now is told without an interrupt, and stays masked.
            if !self.sink.pci.unmask_pin_unless_pending() && !self.sink.masked.xchg(true, Full) {
                self.sink.fire();
            }
        } else if self.sink.masked.xchg(false, Full) {
            // SAFETY: By the type's invariants. It was disabled once.
            unsafe { bindings::enable_irq(self.number) };
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.sink.pin {
            self.sink.pci.mask_pin();
        }
        // SAFETY: By the type's invariants. Afterwards the handler runs nowhere.
        unsafe {
            bindings::free_irq(
                self.number,
                core::ptr::from_ref(&*self.sink).cast_mut().cast(),
            )
        };
    }
}

/// The interrupts of a device, taken or not.
///
/// # Invariants
///
/// The device is bound to us until what is in `taken` was dropped. Nobody else takes its interrupts, and its pin is masked
/// unless a vector is set.
pub(crate) struct Interrupts<'a> {
    pci: &'a PciDevice,
    taken: &'a mut Option<Vectors>,
}

impl Interrupts<'_> {
    /// # Safety
    ///
    /// The invariants of the type.
    pub(super) unsafe fn new<'a>(
        pci: &'a PciDevice,
        taken: &'a mut Option<Vectors>,
    ) -> Interrupts<'a> {
        // INVARIANT: By the safety requirements.
        Interrupts { pci, taken }
    }

    /// Those that were taken.
    pub(crate) fn taken(&mut self) -> Option<&mut Vectors> {
        self.taken.as_mut()
    }

    /// Takes at most `most` vectors, for `owner`.
    ///
    /// # Errors
    ///
    /// Those of the kernel; `EOPNOTSUPP` for a pin that cannot be masked in the device, `EBUSY` where some were taken.
    pub(crate) fn take(&mut self, kind: IrqKind, most: u32, owner: u64) -> Result<&mut Vectors> {
        if self.taken.is_some() {
            return Err(EBUSY);
        }
        // SAFETY: By the type's invariants.
        let vectors = unsafe { Vectors::take(self.pci, kind, most, owner) }?;
        Ok(self.taken.insert(vectors))
    }

    /// Gives them back.
    pub(crate) fn give_back(&mut self) {
        *self.taken = None;
    }
}

/// Nobody has set the vector.
#[derive(Clone, Copy)]
pub(crate) struct NotSet;

/// The vectors of one kind that were taken from a device.
///
/// # Invariants
///
/// The device is bound to us. Of a kind that sends messages, there are as many as `lines`, from `pci_alloc_irq_vectors`.
pub(crate) struct Vectors {
    kind: IrqKind,
    owner: u64,
    lines: KVec<Option<Line>>,
    pci: PciDevice,
}

impl Vectors {
    /// Takes at most `most` vectors, for `owner`.
    ///
    /// # Errors
    ///
    /// Those of the kernel; `EOPNOTSUPP` for a pin that cannot be masked in the device.
    ///
    /// # Safety
    ///
    /// The device is bound to us until this is dropped, and its pin is masked. Nobody else takes vectors of it.
    unsafe fn take(pci: &PciDevice, kind: IrqKind, most: u32, owner: u64) -> Result<Self> {
        // SAFETY: The pointer is that of a device.
        let pci = unsafe { PciDevice::get(pci.as_ptr()) }?;
        let mut lines = KVec::with_capacity(most as usize, GFP_KERNEL)?;
        let taken = match kind {
            IrqKind::Intx if !pci.can_mask_pin() => {
                // Not one of the kernel crate's constants in 7.2.
                return Err(Error::from_errno(-(bindings::EOPNOTSUPP as c_int)));
            }
            IrqKind::Intx => 1,
            IrqKind::Msi | IrqKind::Msix => {
                let flags = match kind {
                    IrqKind::Msi => bindings::PCI_IRQ_MSI,
                    _ => bindings::PCI_IRQ_MSIX,
                };
                // SAFETY: By the safety requirements.
                let taken =
                    unsafe { bindings::pci_alloc_irq_vectors(pci.as_ptr(), 1, most, flags) };
                to_result(taken)?;
                taken.unsigned_abs()
            }
        };
        for _ in 0..taken.min(most) {
            // There is room for `most`.
            let _ = lines.push_within_capacity(None);
        }
        // INVARIANT: They were just taken.
        Ok(Self {
            kind,
            owner,
            lines,
            pci,
        })
    }

    /// Their kind.
    pub(crate) fn kind(&self) -> IrqKind {
        self.kind
    }

    /// Whoever took them.
    pub(crate) fn owner(&self) -> u64 {
        self.owner
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.lines.len()).unwrap_or(u32::MAX)
    }

    /// Whether none is set.
    pub(crate) fn unused(&self) -> bool {
        self.lines.iter().all(Option::is_none)
    }

    /// Has a vector counted by this eventfd from now on, and by no other. It is one of them.
    pub(crate) fn set(&mut self, index: u32, eventfd: EventFd) -> Result {
        let slot = self.lines.get_mut(index as usize).ok_or(ENXIO)?;
        *slot = None;
        let pin = self.kind == IrqKind::Intx;
        // SAFETY: By the type's invariants.
        let pci = unsafe { PciDevice::get(self.pci.as_ptr()) }?;
        let number = pci.irq_number(index)?;
        let sink = Sink {
            pci,
            pin,
            eventfd,
            masked: Atomic::new(pin),
            count: Atomic::new(0),
        };
        // SAFETY: By the type's invariants; lines are dropped before the vectors are given back.
        *slot = Some(unsafe { Line::new(number, sink) }?);
        Ok(())
    }

    /// Ends that.
    pub(crate) fn unset(&mut self, index: u32) -> Result<u64, NotSet> {
        let line = self.lines.get_mut(index as usize).and_then(Option::take);
        line.map(|line| line.sink.count.load(Relaxed)).ok_or(NotSet)
    }

    fn line(&self, index: u32) -> Result<&Line, NotSet> {
        let line = self.lines.get(index as usize);
        line.and_then(Option::as_ref).ok_or(NotSet)
    }

    /// How often a vector came since it was set.
    pub(crate) fn came(&self, index: u32) -> Result<u64, NotSet> {
        self.line(index).map(|line| line.sink.count.load(Relaxed))
    }

    /// Keeps a vector from coming.
    pub(crate) fn mask(&self, index: u32) -> Result<(), NotSet> {
        self.line(index).map(Line::mask)
    }

    /// Lets it come again.
    pub(crate) fn unmask(&self, index: u32) -> Result<(), NotSet> {
        self.line(index).map(Line::unmask)
    }

    /// Counts one, as if it had come.
    pub(crate) fn trigger(&self, index: u32) -> Result<(), NotSet> {
        self.line(index).map(|line| line.sink.fire())
    }

    /// The device goes: whoever waits for an interrupt is to look.
    pub(super) fn wake_all(&self) {
        for line in self.lines.iter().flatten() {
            line.sink.eventfd.signal();
        }
    }
}

impl Drop for Vectors {
    fn drop(&mut self) {
        self.lines.clear();
        if self.kind != IrqKind::Intx {
            // SAFETY: By the type's invariants; no handler is registered any more.
            unsafe { bindings::pci_free_irq_vectors(self.pci.as_ptr()) };
        }
        // Messages had the pin masked, and giving them back unmasks it (`pci_disable_msi` of `drivers/pci/msi/api.c`).
        self.pci.mask_pin();
    }
}
