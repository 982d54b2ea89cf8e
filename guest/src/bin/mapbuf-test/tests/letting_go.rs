//! Drivers at the other end of a dma-buf, when its memory goes: those that let go when they are told to, and those that do
//! not. Both ends are tried: memory of ours that they import, and theirs that we import.

use super::attached::{attach, detach};
use super::counts;
use super::devices::{addresses, Bound};
use super::foreign::imported;
use super::registers::{self, bar, MASTER};
use crate::check::{dies_of, fails, refused, Failure, Outcome};
use crate::importer::{Importer, Told, AT_ONCE, LETS_GO, NEVER};
use crate::pci::{ask, Function, EDU};
use crate::session::{alloc_request, Refused, Session};
use crate::sys::{self, Map, PAGE, RW, SHARED};
use crate::{check, check_eq};
use mapbuf_abi::{device_state, ioctl, Cache, Direction, Iommu, Kind, Operation, Reason};
use mapbuf_guest::{patience, rounds};
use mapbuf_init::ask::Ask;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

tests! { "letting_go":
    DEVICES, 120: [
        importer_is_told_to_let_go_and_waited_for,
        importer_is_told_when_the_device_is_pulled_out,
        importer_that_does_not_let_go_is_refused,
        importer_that_an_unbind_waits_for_is_named,
        importer_keeps_what_is_no_device_s,
        importer_keeps_what_was_freed_until_the_device_goes,
        importer_comes_while_the_device_goes,
        registers_are_for_no_importer,
        exporter_cannot_take_what_our_device_has,
        exporter_that_asks_for_more_refuses_our_device,
    ];
    SCALABLE, 120: [
        importer_is_told_to_let_go_and_waited_for,
    ];
}

/// A network card of the machine's, which no driver has: behind the IOMMU where there is one.
const CARD: (u32, u32) = (0x8086, 0x100e);

const WORD: u64 = 0x1122_3344_5566_7788;

/// Whose device imports: one of the module's own, which no IOMMU stands before, and a PCI device.
fn devices() -> Outcome<[String; 2]> {
    let card = addresses(CARD)?.pop();
    let none = || Failure::new("there is no network card");
    Ok([String::new(), card.ok_or_else(none)?])
}

/// What was said to this thread about attaching.
fn attached(result: sys::Result<()>) -> Outcome<Result<(), Refused>> {
    let session = Session::open()?;
    Ok(match result {
        Ok(()) => Ok(()),
        Err(errno) => Err(Refused {
            errno,
            said: Some(session.of_dma_bufs()?),
        }),
    })
}

/// Coherent memory of the device's, with a word in each page, and its dma-buf.
fn exported(session: &Session) -> Outcome<(File, Map)> {
    let (buffer, map) = session.mapped(Kind::Coherent, 2 * PAGE)?;
    map.set_u64(0, WORD);
    map.set_u64(PAGE, !WORD);
    Ok((session.export(buffer.id)?, map))
}

/// An importer that has the memory mapped, and reads it.
fn reads(dma_buf: &File, flags: u32, device: &str) -> Outcome<Importer> {
    let importer = Importer::open()?;
    importer.attach(dma_buf, flags, device)?;
    importer.map()?;
    check_eq!(importer.read(0)?, WORD, "a word, by {device:?}");
    check_eq!(importer.read(PAGE)?, !WORD, "the next page, by {device:?}");
    // What is mapped twice would be given back after the first unmapping.
    let before = counts::counts();
    fails(importer.map_again(), libc::EBUSY)?;
    counts::more(&before, &[])?;
    check_eq!(importer.read(0)?, WORD, "a word after that");
    Ok(importer)
}

/// That the memory is out of an importer's reach.
fn has_let_go(importer: &Importer, dma_buf: &File, flags: u32, behind: bool) -> Outcome {
    let told = Told {
        invalidated: 1,
        mapped: 0,
        // It was waited for until its device had done.
        read_at_last: u32::from(flags & AT_ONCE == 0),
        pinned: 0,
    };
    check_eq!(importer.told()?, told, "what the importer was told");
    if behind {
        fails(importer.read_stale(0), libc::ENXIO)?;
        fails(importer.read_stale(PAGE), libc::ENXIO)?;
    }
    fails(importer.map(), libc::ENODEV)?;
    let late = Importer::open()?;
    let result = attached(late.attach(dma_buf, LETS_GO, ""))?;
    refused(result, Operation::ForeignAttach, Reason::DeviceGone, &[])?;
    importer.detach()?;
    Ok(())
}

fn importer_is_told_to_let_go_and_waited_for() -> Outcome {
    for device in devices()? {
        for flags in [LETS_GO | AT_ONCE, LETS_GO] {
            let bound = Bound::edu()?;
            let session = bound.open()?;
            let behind = iommu(&session)? && !device.is_empty();
            let (dma_buf, map) = exported(&session)?;
            let before = counts::counts();
            let importer = reads(&dma_buf, flags, &device)?;
            counts::more(&before, &[("attachments", 1), ("device_mappings", 1)])?;
            bound.unbind()?;
            has_let_go(&importer, &dma_buf, flags, behind)?;
            dies_of(libc::SIGBUS, || assert_eq!(map.u32(0), 0))?;
            // Others have it from now on, and the device too.
            drop((map, dma_buf, session));
            bound.bind_again()?;
            let (again, _) = exported(&bound.open()?)?;
            reads(&again, flags, &device)?;
        }
    }
    Ok(())
}

/// Whether an IOMMU stands before the devices.
fn iommu(session: &Session) -> Outcome<bool> {
    let device = super::devices::device(session)?;
    check!(
        device.state & device_state::PRESENT != 0,
        "the device is gone"
    );
    Ok(device.iommu == Iommu::Translated.number())
}

fn importer_is_told_when_the_device_is_pulled_out() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    let [_, card] = devices()?;
    let behind = iommu(&session)?;
    let (dma_buf, _map) = exported(&session)?;
    let importer = reads(&dma_buf, LETS_GO, &card)?;
    ask(&Ask::Unplug("edu".into()))?;
    ask(&Ask::AwaitUnplugged("edu".into()))?;
    has_let_go(&importer, &dma_buf, LETS_GO, behind)?;
    ask(&Ask::Plug("edu".into()))?;
    let back = sys::until(Duration::from_secs(20), || Function::find(EDU).is_ok());
    check!(back, "the device does not come back");
    Ok(())
}

// An unbind would wait for it for as long as it likes.
fn importer_that_does_not_let_go_is_refused() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    let (dma_buf, _map) = exported(&session)?;
    for device in devices()? {
        let importer = Importer::open()?;
        let result = attached(importer.attach(&dma_buf, 0, &device))?;
        let kind = [u64::from(Kind::Coherent.number())];
        refused(
            result,
            Operation::ForeignAttach,
            Reason::ImporterHolds,
            &kind,
        )?;
    }
    bound.unbind()?;
    Ok(())
}

// One that breaks its word holds the unbind up, and a person learns which it is.
fn importer_that_an_unbind_waits_for_is_named() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    let (dma_buf, map) = exported(&session)?;
    let [_, card] = devices()?;
    let importer = reads(&dma_buf, LETS_GO | NEVER, &card)?;
    registers::set_master(&session)?;
    check_eq!(registers::command(&bound)? & MASTER, MASTER, "bus master");
    let mut unbind = Command::new("mapbuf")
        .args(["unbind", "--no-driver", &bound.0])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut said = String::new();
    let complaints = unbind.stderr.take().map(BufReader::new);
    let read = complaints.map(|mut complaints| complaints.read_line(&mut said));
    let still = importer.read(0);
    let command = registers::command(&bound);
    // First of all: the unbind goes on.
    importer.unmap()?;
    let status = unbind.wait()?;
    check!(matches!(read, Some(Ok(_))), "nothing was said: {read:?}");
    let names = format!(
        "mapbuf: still waiting for importers of coherent memory, which were told to let go: {card}"
    );
    check_eq!(said.trim_end(), names, "what was said");
    check_eq!(still, Ok(WORD), "what the importer read meanwhile");
    // The device was stopped before anybody was waited for.
    check_eq!(command? & MASTER, 0, "bus master meanwhile");
    check!(status.success(), "the unbind ended with {status}");
    fails(importer.map(), libc::ENODEV)?;
    dies_of(libc::SIGBUS, || assert_eq!(map.u32(0), 0))
}

// Memory with pages belongs to nobody's device: neither an unbind nor FREE takes it from whoever has it.
fn importer_keeps_what_is_no_device_s() -> Outcome {
    for flags in [0, LETS_GO] {
        for kind in [Kind::Vmalloc, Kind::Pages, Kind::Contiguous] {
            let bound = Bound::edu()?;
            let session = bound.open()?;
            let buffer = session.ioctl(ioctl::ALLOC, alloc_request(kind, 2 * PAGE as u64))?;
            let map = session.map(2 * PAGE, RW, SHARED, buffer.mmap_offset)?;
            map.set_u64(0, WORD);
            map.set_u64(PAGE, !WORD);
            attach(&session, buffer.id, Direction::Both.number())?;
            let dma_buf = session.export(buffer.id)?;
            let importer = reads(&dma_buf, flags, "")?;
            let system = Session::open()?;
            let held = system.query()?.buffers;
            session.free(buffer.id)?;
            drop((map, dma_buf));
            check_eq!(importer.read(PAGE)?, !WORD, "{kind:?} after FREE");
            bound.unbind()?;
            drop(session);
            check_eq!(importer.read(0)?, WORD, "{kind:?} after the unbind");
            check_eq!(importer.told()?.invalidated, 0, "times it was told");
            check_eq!(system.query()?.buffers, held, "buffers held");
            importer.detach()?;
            let gone = || system.query().is_ok_and(|query| query.buffers == held - 1);
            check!(sys::until(Duration::from_secs(5), gone), "{kind:?} stays");
        }
    }
    Ok(())
}

fn importer_keeps_what_was_freed_until_the_device_goes() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    let behind = iommu(&session)?;
    let [_, card] = devices()?;
    let buffer = session.alloc(Kind::Coherent, 2 * PAGE)?;
    let map = session.map(2 * PAGE, RW, SHARED, buffer.mmap_offset)?;
    map.set_u64(0, WORD);
    map.set_u64(PAGE, !WORD);
    let dma_buf = session.export(buffer.id)?;
    let importer = reads(&dma_buf, LETS_GO | AT_ONCE, &card)?;
    session.free(buffer.id)?;
    drop((map, session));
    check_eq!(importer.read(0)?, WORD, "a word after FREE and close");
    importer.unmap()?;
    importer.map()?;
    check_eq!(importer.read(0)?, WORD, "mapped again");
    check_eq!(importer.told()?.invalidated, 0, "times it was told");
    bound.unbind()?;
    has_let_go(&importer, &dma_buf, LETS_GO | AT_ONCE, behind)
}

// Whatever comes first: what is mapped when the device goes is told, and nothing is mapped later.
fn importer_comes_while_the_device_goes() -> Outcome {
    let few = 16 / patience().clamp(1, 16);
    let [_, card] = devices()?;
    for round in 0..rounds().unwrap_or(few.max(4)) {
        let bound = Bound::edu()?;
        let session = bound.open()?;
        let (dma_buf, _map) = exported(&session)?;
        let goes_on = AtomicBool::new(true);
        let importers = [
            reads(&dma_buf, LETS_GO | AT_ONCE, &card)?,
            Importer::open()?,
        ];
        thread::scope(|scope| {
            let (goes_on, dma_buf, card) = (&goes_on, &dma_buf, &card);
            let [stays, comes] = &importers;
            scope.spawn(move || {
                while goes_on.load(Relaxed) {
                    // Any of it may come too late.
                    let _ = stays.map();
                    let _ = stays.read(PAGE);
                    let _ = stays.unmap();
                }
            });
            scope.spawn(move || {
                while goes_on.load(Relaxed) {
                    let _ = comes.attach(dma_buf, LETS_GO | AT_ONCE, card);
                    let _ = comes.map();
                    let _ = comes.detach();
                }
            });
            thread::sleep(Duration::from_micros(u64::from(round % 16) * 500));
            let unbound = bound.unbind();
            let after = importers.each_ref().map(|one| one.read(0));
            goes_on.store(false, Relaxed);
            unbound?;
            for read in after {
                check!(read.is_err(), "round {round}: read {read:x?} after unbind");
            }
            Ok::<_, Failure>(())
        })?;
        fails(importers[0].map(), libc::ENODEV)?;
    }
    Ok(())
}

// Registers have no pages, whoever lets go.
fn registers_are_for_no_importer() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    let shown = bar(&session, 0, Cache::Uncached, 0)?;
    let dma_buf = session.export(shown.id)?;
    for flags in [0, LETS_GO] {
        let result = attached(Importer::open()?.attach(&dma_buf, flags, ""))?;
        let (operation, reason) = (Operation::ForeignAttach, Reason::NoPagesForDevices);
        refused(result, operation, reason, &[Kind::Region.number().into()])?;
    }
    Ok(())
}

// Our device is one that cannot let go: nobody but its program can stop it. So its memory is pinned.
fn exporter_cannot_take_what_our_device_has() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    let exporter = Importer::open()?;
    let dma_buf = exporter.export(false)?;
    let told = imported(&session, &dma_buf, 0)?;
    let map = session.map(PAGE, RW, SHARED, told.mmap_offset)?;
    map.set_u64(0, WORD);
    attach(&session, told.id, Direction::Both.number())?;
    check_eq!(exporter.told()?.pinned, 1, "pins while it is attached");
    fails(exporter.revoke(), libc::EBUSY)?;
    check_eq!(map.u64(0), WORD, "a word after that");
    detach(&session, told.id)?;
    check_eq!(exporter.told()?.pinned, 0, "pins after DETACH");
    attach(&session, told.id, Direction::Both.number())?;
    bound.unbind()?;
    check_eq!(exporter.told()?.pinned, 0, "pins after the unbind");
    bound.bind_again()?;
    let again = bound.open()?;
    let twice = imported(&again, &dma_buf, 0)?;
    exporter.revoke()?;
    // Its mappings are the exporter's, made through us or not.
    dies_of(libc::SIGBUS, || assert_eq!(map.u64(0), 0))?;
    let result = attach(&again, twice.id, Direction::Both.number());
    let operands = [PAGE as u64, libc::ENODEV as u64];
    let reason = Reason::ExporterRefusedDevice;
    refused(result, Operation::Attach, reason, &operands)
}

fn exporter_that_asks_for_more_refuses_our_device() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    let exporter = Importer::open()?;
    let told = imported(&session, &exporter.export(true)?, 0)?;
    let result = attach(&session, told.id, Direction::Both.number());
    let operands = [PAGE as u64, libc::EOPNOTSUPP as u64];
    let reason = Reason::ExporterRefusedDevice;
    refused(result, Operation::Attach, reason, &operands)?;
    let map = session.map(PAGE, RW, SHARED, told.mmap_offset)?;
    map.set_u64(0, WORD);
    exporter.revoke()?;
    dies_of(libc::SIGBUS, || assert_eq!(map.u64(0), 0))
}
