//! Interrupts of devices that are bound to the driver.

use super::devices::{device, Bound};
use super::registers::{bar, command, set_master};
use crate::check::{refused, Failure, Outcome};
use crate::session::{Result, Session};
use crate::sys::{self, Map, PAGE, RW, SHARED};
use crate::{check, check_eq};
use mapbuf_abi::{ioctl, Cache, Irq, IrqAction, IrqKind, Operation, Reason, NO_DESCRIPTOR};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::thread;
use std::time::Duration;

tests! { "interrupts":
    DEVICES, 60: [
        message_is_counted_masked_and_triggered,
        pin_is_masked_until_it_was_served,
        pin_that_nobody_serves_is_quiet,
        interrupts_belong_to_one_file_and_end_with_it,
        unbind_signals_who_waits,
        storm_costs_the_counter_only,
        messages_of_a_table_come_apart,
        what_is_no_vector_is_refused,
    ];
}

/// In the command register: the pin is masked (`PCI_COMMAND_INTX_DISABLE` of `uapi/linux/pci_regs.h`).
const PIN_OFF: u32 = 1 << 10;
/// QEMU's `nvme`.
const NVME: (u32, u32) = (0x1b36, 0x0010);
/// Registers of `edu`: raises an interrupt, and ends it.
pub const RAISE: usize = 0x60;
pub const ACKNOWLEDGE: usize = 0x64;
/// How long something that is not to come is waited for.
pub const SHORT: i32 = 50;
/// Something that must come is waited for without a limit: the runner ends a test that waits in vain.
pub const LONG: i32 = -1;

/// An eventfd.
pub struct Event(File);

impl Event {
    pub fn new() -> Outcome<Self> {
        // SAFETY: The call takes no pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        check!(fd >= 0, "no eventfd: {}", std::io::Error::last_os_error());
        Ok(Self(sys::own(fd)))
    }

    pub fn came_within(&self, milliseconds: i32) -> bool {
        let mut fd = libc::pollfd {
            fd: self.0.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: There is one structure.
        unsafe { libc::poll(&mut fd, 1, milliseconds) == 1 }
    }

    /// How often it was signalled since the last time, if at all.
    pub fn taken(&self) -> Outcome<u64> {
        if !self.came_within(LONG) {
            return Err(Failure::new("the interrupt does not come"));
        }
        let mut count = [0; 8];
        (&self.0).read_exact(&mut count)?;
        Ok(u64::from_ne_bytes(count))
    }
}

impl AsRawFd for Event {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A vector of an open file's device.
pub struct Vector<'a> {
    session: &'a Session,
    kind: IrqKind,
    index: u32,
}

impl Vector<'_> {
    fn ask(&self, action: IrqAction, fd: i32) -> Result<Irq> {
        let request = Irq {
            size: size_of::<Irq>() as u32,
            kind: self.kind.number(),
            index: self.index,
            action: action.number(),
            fd,
            ..Irq::default()
        };
        self.session.ioctl(ioctl::IRQ, request)
    }

    pub fn set(&self, event: &Event) -> Result<Irq> {
        self.ask(IrqAction::Set, event.0.as_raw_fd())
    }

    pub fn unset(&self) -> Result<Irq> {
        self.ask(IrqAction::Set, NO_DESCRIPTOR)
    }

    pub fn act(&self, action: IrqAction) -> Result<u64> {
        self.ask(action, 0).map(|irq| irq.count)
    }

    fn operands(&self) -> [u64; 2] {
        [self.kind.number(), self.index].map(u64::from)
    }
}

pub fn vector(session: &Session, kind: IrqKind) -> Vector<'_> {
    Vector {
        session,
        kind,
        index: 0,
    }
}

pub fn registers(session: &Session) -> Outcome<Map> {
    let shown = bar(session, 0, Cache::Uncached, 0)?;
    Ok(session.map(PAGE, RW, SHARED, shown.mmap_offset)?)
}

fn message_is_counted_masked_and_triggered() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    set_master(&session)?;
    let edu = registers(&session)?;
    let (event, irq) = (Event::new()?, vector(&session, IrqKind::Msi));
    let set = irq.set(&event)?;
    check_eq!((set.vectors, set.count), (1, 0), "what SET says");
    for round in 1..=3 {
        edu.set_u32(RAISE, 1);
        check_eq!(event.taken()?, 1, "signals");
        edu.set_u32(ACKNOWLEDGE, 1);
        check!(
            !event.came_within(SHORT),
            "there was another one, round {round}"
        );
    }
    irq.act(IrqAction::Mask)?;
    irq.act(IrqAction::Mask)?;
    edu.set_u32(RAISE, 1);
    check!(!event.came_within(SHORT), "it came, and was masked");
    irq.act(IrqAction::Unmask)?;
    irq.act(IrqAction::Unmask)?;
    check_eq!(event.taken()?, 1, "signals of what came meanwhile");
    edu.set_u32(ACKNOWLEDGE, 1);
    check_eq!(irq.act(IrqAction::Trigger)?, 5, "the count");
    check_eq!(event.taken()?, 1, "signals of the trigger");
    // Another eventfd takes its place.
    let other = Event::new()?;
    check_eq!(irq.set(&other)?.count, 0, "the count of the new one");
    edu.set_u32(RAISE, 1);
    check_eq!(other.taken()?, 1, "signals of the new one");
    check!(!event.came_within(SHORT), "the old one was signalled");
    edu.set_u32(ACKNOWLEDGE, 1);
    irq.unset()?;
    edu.set_u32(RAISE, 1);
    edu.set_u32(ACKNOWLEDGE, 1);
    check!(!other.came_within(SHORT), "it came, and was unset");
    let result = irq.act(IrqAction::Trigger);
    refused(result, Operation::Irq, Reason::IrqNotSet, &irq.operands())
}

fn pin_is_masked_until_it_was_served() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    set_master(&session)?;
    let edu = registers(&session)?;
    let (event, irq) = (Event::new()?, vector(&session, IrqKind::Intx));
    irq.set(&event)?;
    edu.set_u32(RAISE, 1);
    check_eq!(event.taken()?, 1, "signals");
    let masked = command(&bound)? & PIN_OFF;
    check_eq!(masked, PIN_OFF, "masked in the device");
    check!(
        !event.came_within(SHORT),
        "it came again, and was not unmasked"
    );
    // It was not served: it comes again at once.
    irq.act(IrqAction::Unmask)?;
    check_eq!(event.taken()?, 1, "signals of what was not served");
    edu.set_u32(ACKNOWLEDGE, 1);
    irq.act(IrqAction::Unmask)?;
    check!(
        !event.came_within(SHORT),
        "it came, and nothing had happened"
    );
    irq.act(IrqAction::Mask)?;
    edu.set_u32(RAISE, 2);
    check!(!event.came_within(SHORT), "it came, and was masked");
    irq.act(IrqAction::Unmask)?;
    check_eq!(event.taken()?, 1, "signals of what came meanwhile");
    edu.set_u32(ACKNOWLEDGE, 2);
    irq.act(IrqAction::Unmask)?;
    edu.set_u32(RAISE, 4);
    check_eq!(event.taken()?, 1, "signals");
    edu.set_u32(ACKNOWLEDGE, 4);
    Ok(())
}

/// The kernel would say that nobody cared, and switch the line off.
fn pin_that_nobody_serves_is_quiet() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    set_master(&session)?;
    let edu = registers(&session)?;
    let (event, irq) = (Event::new()?, vector(&session, IrqKind::Intx));
    for _ in 0..3 {
        // QEMU's pin is released when messages are switched on.
        edu.set_u32(RAISE, 1);
        // It is there already when it is set.
        irq.set(&event)?;
        check_eq!(event.taken()?, 1, "signals");
        irq.unset()?;
        let message = vector(&session, IrqKind::Msi);
        message.set(&event)?;
        message.unset()?;
    }
    edu.set_u32(ACKNOWLEDGE, 1);
    let lines = std::fs::read_to_string("/proc/interrupts")?;
    check!(!lines.contains("mapbuf"), "a handler is left: {lines}");
    Ok(())
}

fn interrupts_belong_to_one_file_and_end_with_it() -> Outcome {
    let bound = Bound::edu()?;
    let first = bound.open()?;
    let second = bound.open()?;
    let edu = registers(&second)?;
    let event = Event::new()?;
    let (mine, its) = (vector(&first, IrqKind::Msi), vector(&second, IrqKind::Msi));
    mine.set(&event)?;
    refused(
        its.set(&event),
        Operation::Irq,
        Reason::IrqTaken,
        &its.operands(),
    )?;
    let result = its.act(IrqAction::Mask);
    refused(result, Operation::Irq, Reason::IrqTaken, &its.operands())?;
    let pin = vector(&first, IrqKind::Intx);
    let kinds = [IrqKind::Intx, IrqKind::Msi].map(|kind| u64::from(kind.number()));
    refused(
        pin.set(&event),
        Operation::Irq,
        Reason::IrqKindInUse,
        &kinds,
    )?;
    mine.act(IrqAction::Mask)?;
    drop(first);
    // It was cleared where there is no IOMMU, and a message is a write of the device's.
    set_master(&second)?;
    its.set(&event)?;
    edu.set_u32(RAISE, 1);
    check_eq!(event.taken()?, 1, "signals");
    edu.set_u32(ACKNOWLEDGE, 1);
    its.unset()?;
    vector(&second, IrqKind::Intx).set(&event)?;
    Ok(())
}

fn unbind_signals_who_waits() -> Outcome {
    for kind in [IrqKind::Msi, IrqKind::Intx] {
        let bound = Bound::edu()?;
        let session = bound.open()?;
        set_master(&session)?;
        let (event, irq) = (Event::new()?, vector(&session, kind));
        irq.set(&event)?;
        let woken = thread::scope(|scope| {
            let waits = scope.spawn(|| event.came_within(LONG));
            thread::sleep(Duration::from_millis(50));
            bound.unbind()?;
            Ok::<_, Failure>(waits.join().unwrap_or(false))
        })?;
        check!(woken, "who waits for {kind:?} was not signalled");
        for action in [IrqAction::Mask, IrqAction::Unmask, IrqAction::Trigger] {
            let result = irq.act(action);
            refused(result, Operation::Irq, Reason::DeviceGone, &[])?;
        }
        refused(irq.set(&event), Operation::Irq, Reason::DeviceGone, &[])?;
        refused(irq.unset(), Operation::Irq, Reason::DeviceGone, &[])?;
    }
    Ok(())
}

fn storm_costs_the_counter_only() -> Outcome {
    const STORM: u64 = 20_000;
    let bound = Bound::edu()?;
    let session = bound.open()?;
    set_master(&session)?;
    let edu = registers(&session)?;
    let (event, irq) = (Event::new()?, vector(&session, IrqKind::Msi));
    irq.set(&event)?;
    for _ in 0..STORM {
        edu.set_u32(RAISE, 1);
        edu.set_u32(ACKNOWLEDGE, 1);
    }
    let mut signals = 0;
    while event.came_within(SHORT) {
        signals += event.taken()?;
    }
    let came = irq.act(IrqAction::Trigger)?;
    check!((2..=STORM + 1).contains(&came), "{came} of {STORM} came");
    check_eq!(signals + event.taken()?, came, "signals");
    // A counter that is full takes no more, and does not block. The last ones may still be under way.
    while event.came_within(SHORT) {
        event.taken()?;
    }
    (&event.0).write_all(&(u64::MAX - 1).to_ne_bytes())?;
    for _ in 0..10 {
        edu.set_u32(RAISE, 1);
        edu.set_u32(ACKNOWLEDGE, 1);
    }
    irq.act(IrqAction::Trigger)?;
    while event.came_within(SHORT) {
        event.taken()?;
    }
    edu.set_u32(RAISE, 1);
    check_eq!(event.taken()?, 1, "signals after it was full");
    edu.set_u32(ACKNOWLEDGE, 1);
    Ok(())
}

fn messages_of_a_table_come_apart() -> Outcome {
    let bound = Bound::of(NVME)?;
    let session = bound.open()?;
    set_master(&session)?;
    let has = device(&session)?.msix;
    check!(has > 2, "{has} vectors");
    let events = [Event::new()?, Event::new()?];
    let vectors = [0, 1].map(|index| Vector {
        session: &session,
        kind: IrqKind::Msix,
        index,
    });
    let mut taken = 0;
    for (vector, event) in vectors.iter().zip(&events) {
        taken = vector.set(event)?.vectors;
    }
    check!((2..=32).contains(&taken), "{taken} vectors were taken");
    for (at, vector) in vectors.iter().enumerate() {
        check_eq!(vector.act(IrqAction::Trigger)?, 1, "the count");
        check_eq!(events[at].taken()?, 1, "signals");
        check!(!events[1 - at].came_within(SHORT), "the other one came");
    }
    let beyond = Vector {
        session: &session,
        kind: IrqKind::Msix,
        index: taken,
    };
    let [kind, index] = beyond.operands();
    let operands = [kind, index, u64::from(taken)];
    let result = beyond.set(&events[0]);
    refused(result, Operation::Irq, Reason::NoSuchVector, &operands)?;
    vectors[0].unset()?;
    check_eq!(
        vectors[1].act(IrqAction::Trigger)?,
        2,
        "the count of what is left"
    );
    vectors[1].unset()?;
    // The caller says how many.
    let request = Irq {
        size: size_of::<Irq>() as u32,
        kind: IrqKind::Msix.number(),
        action: IrqAction::Set.number(),
        fd: events[0].0.as_raw_fd(),
        vectors: 2,
        ..Irq::default()
    };
    check_eq!(
        session.ioctl(ioctl::IRQ, request)?.vectors,
        2,
        "vectors that were taken"
    );
    Ok(())
}

fn what_is_no_vector_is_refused() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    set_master(&session)?;
    let event = Event::new()?;
    let good = Irq {
        size: size_of::<Irq>() as u32,
        kind: IrqKind::Msi.number(),
        action: IrqAction::Set.number(),
        fd: event.0.as_raw_fd(),
        ..Irq::default()
    };
    let msi = u64::from(IrqKind::Msi.number());
    let msix = u64::from(IrqKind::Msix.number());
    let fd_at = std::mem::offset_of!(Irq, fd) as u64;
    let vectors_at = std::mem::offset_of!(Irq, vectors) as u64;
    let trigger = IrqAction::Trigger.number();
    let file = File::open("/proc/self/maps")?;
    let number = file.as_raw_fd();
    let asked: [(Irq, Reason, &[u64]); 10] = [
        (Irq { kind: 0, ..good }, Reason::UnknownIrqKind, &[0]),
        (Irq { action: 9, ..good }, Reason::UnknownIrqAction, &[9]),
        (Irq { index: 1, ..good }, Reason::NoSuchVector, &[msi, 1, 1]),
        (
            Irq {
                kind: IrqKind::Msix.number(),
                ..good
            },
            Reason::NoSuchVector,
            &[msix, 0, 0],
        ),
        (
            Irq { fd: -2, ..good },
            Reason::NotAnEventFd,
            &[-2i64 as u64],
        ),
        (
            Irq { fd: number, ..good },
            Reason::NotAnEventFd,
            &[number as u64],
        ),
        (
            Irq {
                action: trigger,
                ..good
            },
            Reason::ReservedNotZero,
            &[fd_at],
        ),
        (
            Irq {
                action: trigger,
                fd: 0,
                vectors: 1,
                ..good
            },
            Reason::ReservedNotZero,
            &[vectors_at],
        ),
        (
            Irq {
                action: trigger,
                fd: 0,
                ..good
            },
            Reason::IrqNotSet,
            &[msi, 0],
        ),
        (
            Irq {
                fd: NO_DESCRIPTOR,
                ..good
            },
            Reason::IrqNotSet,
            &[msi, 0],
        ),
    ];
    for (request, reason, operands) in asked {
        let result = session.ioctl(ioctl::IRQ, request);
        refused(result, Operation::Irq, reason, operands)?;
    }
    let reader = Session::open_path(bound.node(), false)?;
    let operands = [u64::from(Operation::Irq.number())];
    let result = vector(&reader, IrqKind::Msi).set(&event);
    refused(result, Operation::Irq, Reason::ReadOnlyOpen, &operands)?;
    // Nothing was taken by all of that.
    vector(&session, IrqKind::Intx).set(&event)?;
    Ok(())
}
