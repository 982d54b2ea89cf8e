//! Devices that come and go while programs use all that they give.

use super::attached::{device_rows, set_mask};
use super::devices::{device, Bound};
use super::interrupts::{vector, Event, RAISE};
use super::registers::bar;
use crate::check::{dies_of, refused, Outcome};
use crate::pci::{ask, Function, EDU};
use crate::session::Session;
use crate::sys::{self, Ending, Map, PAGE, RW, SHARED};
use crate::{check, check_eq};
use mapbuf_abi::{
    device_state, traits, Alloc, Bar, Cache, IrqAction, IrqKind, Kind, Operation, Reason,
    ADDRESS_HIDDEN,
};
use mapbuf_guest::{patience, rounds};
use mapbuf_init::ask::Ask;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

tests! { "going":
    DEVICES, 200: [
        rounds_of_bind_and_unbind_with_all_in_use,
        device_is_pulled_out_with_all_in_use,
        device_is_removed_with_all_in_use,
    ];
}

/// How many rounds, unless others are asked for.
const ROUNDS: u32 = 20;
/// Registers of `edu`'s DMA engine; a copy out of its own memory, without an interrupt.
const SOURCE: usize = 0x80;
const DESTINATION: usize = 0x88;
const COUNT: usize = 0x90;
const COMMAND: usize = 0x98;
const OWN: u64 = 0x40000;
const OUT: u64 = 1 | 2;
const BYTES: u64 = 64;

/// All that a program can have of a device.
struct InUse {
    session: Session,
    shown: Bar,
    registers: Map,
    memory: Map,
    coherent: Alloc,
    address: u64,
    exported: std::fs::File,
    event: Event,
}

impl InUse {
    fn of(bound: &Bound) -> Outcome<Self> {
        let session = bound.open()?;
        // What lies beyond, the engine does not refuse: it leaves bits of the address out, and writes to somebody else's memory.
        set_mask(&session, 28)?;
        let shown = bar(&session, 0, Cache::Uncached, 0)?;
        let registers = session.map(1 << 20, RW, SHARED, shown.mmap_offset)?;
        let (coherent, memory) = session.mapped(Kind::Coherent, 2 * PAGE)?;
        let address = session.info(coherent.id)?.dma_address;
        let exported = session.export(coherent.id)?;
        let event = Event::new()?;
        vector(&session, IrqKind::Msi).set(&event)?;
        registers.set_u64(SOURCE, OWN);
        registers.set_u64(DESTINATION, address);
        registers.set_u64(COUNT, BYTES);
        registers.set_u64(COMMAND, OUT);
        memory.set_u32(PAGE, 7);
        registers.set_u32(RAISE, 1);
        Ok(Self {
            session,
            shown,
            registers,
            memory,
            coherent,
            address,
            exported,
            event,
        })
    }

    /// That all of it says that the device is gone.
    fn is_gone(&self) -> Outcome {
        let by_export = Map::new(&self.exported, PAGE, RW, SHARED, 0)?;
        for map in [&self.registers, &self.memory, &by_export] {
            dies_of(libc::SIGBUS, || assert_eq!(map.u32(0), 0))?;
        }
        let at = [self.shown.mmap_offset, self.coherent.mmap_offset];
        for at in at {
            let result = self.session.pread(&mut [0; 4], at);
            refused(result, Operation::Read, Reason::DeviceGone, &[])?;
        }
        let told = self.session.info(self.coherent.id)?;
        check_eq!(told.dma_address, ADDRESS_HIDDEN, "the device's address");
        check_eq!(told.traits, traits::REVOCABLE, "what its memory is");
        let result = device_rows(&self.session, self.coherent.id, 1);
        let id = u64::from(self.coherent.id);
        refused(result, Operation::Segments, Reason::NotAttached, &[id])?;
        let result = vector(&self.session, IrqKind::Msi).act(IrqAction::Trigger);
        refused(result, Operation::Irq, Reason::DeviceGone, &[])?;
        let state = device(&self.session)?.state;
        check_eq!(state & device_state::PRESENT, 0, "whether it is present");
        check!(
            self.event.came_within(10_000),
            "who waits was not signalled"
        );
        Ok(())
    }
}

/// A process that uses everything all the time, and dies when the device goes.
fn user(used: &InUse) -> Outcome<sys::Child> {
    Ok(sys::fork(|| loop {
        used.registers.set_u64(SOURCE, OWN);
        used.registers.set_u64(DESTINATION, used.address);
        used.registers.set_u64(COUNT, BYTES);
        used.registers.set_u64(COMMAND, OUT);
        used.registers.set_u32(RAISE, 1);
        used.memory.set_u32(PAGE, used.memory.u32(0));
        // It may be masked, or gone.
        let _ = vector(&used.session, IrqKind::Msi).act(IrqAction::Trigger);
        used.event.came_within(0);
        let offset = used.coherent.mmap_offset;
        if let Ok(new) = used.session.map(2 * PAGE, RW, SHARED, offset) {
            new.set_u32(0, new.u32(PAGE));
        }
    })?)
}

fn rounds_of_bind_and_unbind_with_all_in_use() -> Outcome {
    let few = ROUNDS / patience().clamp(1, ROUNDS);
    for round in 0..rounds().unwrap_or(few) {
        let bound = Bound::edu()?;
        let used = InUse::of(&bound)?;
        let child = user(&used)?;
        let polls = AtomicBool::new(true);
        thread::scope(|scope| {
            let asks = used.session.for_another_thread();
            let polls = &polls;
            scope.spawn(move || {
                while polls.load(Relaxed) {
                    let _ = device(&asks);
                    let _ = asks
                        .alloc(Kind::Coherent, PAGE)
                        .map(|new| asks.free(new.id));
                    let _ = bar(&asks, 0, Cache::Uncached, 0).map(|new| asks.free(new.id));
                }
            });
            thread::sleep(Duration::from_micros(u64::from(round % 16) * 500));
            let unbound = bound.unbind();
            polls.store(false, Relaxed);
            unbound
        })?;
        let died = Ending::Signalled(libc::SIGBUS);
        check_eq!(child.wait(), died, "how the process ended in round {round}");
        used.is_gone()?;
    }
    Ok(())
}

/// As `device_del`: the guest is asked to let go, and the device is taken.
fn device_is_pulled_out_with_all_in_use() -> Outcome {
    let bound = Bound::edu()?;
    let used = InUse::of(&bound)?;
    let child = user(&used)?;
    ask(&Ask::Unplug("edu".into()))?;
    ask(&Ask::AwaitUnplugged("edu".into()))?;
    child.wait();
    used.is_gone()?;
    ask(&Ask::Plug("edu".into()))?;
    let back = sys::until(Duration::from_secs(20), || Function::find(EDU).is_ok());
    check!(back, "the device does not come back");
    let again = Bound::edu()?;
    InUse::of(&again)?;
    Ok(())
}

fn device_is_removed_with_all_in_use() -> Outcome {
    let bound = Bound::edu()?;
    let used = InUse::of(&bound)?;
    let child = user(&used)?;
    std::fs::write(format!("/sys/bus/pci/devices/{}/remove", bound.0), "1")?;
    child.wait();
    used.is_gone()?;
    std::fs::write("/sys/bus/pci/rescan", "1")?;
    let again = Bound::edu()?;
    InUse::of(&again)?;
    Ok(())
}
