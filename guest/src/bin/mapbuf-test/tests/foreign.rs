//! `IMPORT` of dma-bufs that other drivers made: the dma-heap and udmabuf, which know nothing of this one.

use super::attached::{attach, detach, device_rows, set_mask};
use super::counts;
use super::devices::{device, Bound};
use super::disks;
use crate::check::{fails, refused, Failure, Outcome};
use crate::foreign::{heap, identity, Exporter, EXPORTERS};
use crate::pci::{EDU, NVME};
use crate::session::{id_offset, Refused, Session};
use crate::sys::{Map, EXEC, PAGE, PRIVATE, READ, RW, SHARED};
use crate::{check, check_eq};
use mapbuf::{Direction, IrqKind};
use mapbuf_abi::{
    import, ioctl, sync, traits, Import, Iommu, Kind, Method, Operation, Reason, Sync,
    ADDRESS_HIDDEN,
};
use mapbuf_edu::{address_of, Edu, OWN_BYTES};
use mapbuf_nvme::{platform, Disk};
use std::fs::File;
use std::os::fd::AsRawFd;

tests! { "foreign":
    STOCK, 30: [
        exporter_maps_what_was_imported,
        exporter_alone_says_how_it_is_mapped,
        imported_buffer_is_the_exporter_s,
        exporter_pays_and_the_id_keeps_it,
        what_only_own_buffers_can_do_is_refused,
        dma_buf_that_is_not_open_for_both_is_refused,
    ];
    DEVICES, 60: [
        edu_reaches_what_another_driver_exported,
        nvme_reaches_what_another_driver_exported,
        addresses_are_the_device_s_and_end,
        exporter_is_told_of_syncs,
        what_the_device_cannot_reach_is_refused,
        many_threads_import_and_unbind,
    ];
}

pub fn imported(session: &Session, dma_buf: &File, flags: u32) -> Result<Import, Refused> {
    let request = Import {
        size: size_of::<Import>() as u32,
        flags,
        fd: dma_buf.as_raw_fd(),
        ..Default::default()
    };
    session.ioctl(ioctl::IMPORT, request)
}

fn synced(session: &Session, id: u32, flags: u32, direction: Direction) -> Result<(), Refused> {
    let request = Sync {
        size: size_of::<Sync>() as u32,
        flags,
        id,
        direction: direction.number(),
        offset: 8,
        length: 8,
        ..Default::default()
    };
    session.ioctl(ioctl::SYNC, request).map(drop)
}

fn exporter_maps_what_was_imported() -> Outcome {
    let session = Session::open()?;
    for exporter in EXPORTERS {
        let dma_buf = exporter.make(8 * PAGE)?;
        let theirs = Map::new(&dma_buf, 8 * PAGE, RW, SHARED, 0)?;
        let told = imported(&session, &dma_buf, 0)?;
        check_eq!(told.bytes, 8 * PAGE as u64, "{exporter:?}, bytes");
        for (page, offset) in [(0, told.mmap_offset), (0, id_offset(told.id))] {
            let ours = session.map(8 * PAGE, RW, SHARED, offset)?;
            for at in (0..8 * PAGE).step_by(PAGE) {
                theirs.set_u64(at, at as u64 + offset);
                check_eq!(
                    ours.u64(at),
                    at as u64 + offset,
                    "{exporter:?}, {page}, byte {at}"
                );
                ours.set_u64(at + 8, !at as u64);
                check_eq!(theirs.u64(at + 8), !at as u64, "{exporter:?}, byte {at}");
            }
        }
        // The last three pages by themselves, read-only.
        let offset = told.mmap_offset + 5 * PAGE as u64;
        let part = session.map(3 * PAGE, READ, SHARED, offset)?;
        theirs.set_u64(6 * PAGE + 16, 77);
        check_eq!(part.u64(PAGE + 16), 77, "{exporter:?}, a part");
        // The CPU may have it, on a node without a device too.
        synced(&session, told.id, sync::BEGIN, Direction::Both)?;
        synced(&session, told.id, sync::END, Direction::Both)?;
        // What is mapped stays when the id, the descriptor and the session are gone.
        session.free(told.id)?;
        drop((dma_buf, theirs));
        check_eq!(part.u64(PAGE + 16), 77, "{exporter:?}, after FREE");
    }
    Ok(())
}

fn exporter_alone_says_how_it_is_mapped() -> Outcome {
    let session = Session::open()?;
    for exporter in EXPORTERS {
        let told = imported(&session, &exporter.make(4 * PAGE)?, 0)?;
        let at = told.mmap_offset;
        let result = session.map(PAGE, READ | EXEC, SHARED, at);
        refused(result, Operation::Mmap, Reason::Executable, &[])?;
        let map = session.map(PAGE, READ, SHARED, at)?;
        fails(map.protect(READ | EXEC), libc::EACCES)?;
        let operands = [PAGE as u64, 4 * PAGE as u64, 4 * PAGE as u64];
        let result = session.map(4 * PAGE, RW, SHARED, at + PAGE as u64);
        refused(result, Operation::Mmap, Reason::BeyondEnd, &operands)?;
        for &method in Method::ALL.iter().filter(|method| **method != Method::Auto) {
            let offset = session.offset(told.id, method)?;
            let result = session.map(PAGE, RW, SHARED, offset);
            let operands = [u64::from(method.number())];
            refused(result, Operation::Mmap, Reason::ExporterMaps, &operands)?;
        }
    }
    // `mmap_udmabuf` of drivers/dma-buf/udmabuf.c: EINVAL unless it is shared.
    let told = imported(&session, &Exporter::Udmabuf.make(2 * PAGE)?, 0)?;
    let result = session.map(2 * PAGE, RW, PRIVATE, told.mmap_offset);
    let operands = [2 * PAGE as u64, libc::EINVAL as u64];
    refused(result, Operation::Mmap, Reason::ExporterRefused, &operands)
}

fn imported_buffer_is_the_exporter_s() -> Outcome {
    let session = Session::open()?;
    for exporter in EXPORTERS {
        let dma_buf = exporter.make(3 * PAGE)?;
        let told = imported(&session, &dma_buf, 0)?;
        let info = session.info(told.id)?;
        check_eq!(info.kind, Kind::Foreign.number(), "{exporter:?}, kind");
        check_eq!(info.bytes, 3 * PAGE as u64, "{exporter:?}, bytes");
        check_eq!(info.segments, 0, "{exporter:?}, runs");
        check_eq!(info.traits, 0, "{exporter:?}, traits");
        check_eq!(info.dma_address, ADDRESS_HIDDEN, "{exporter:?}, address");
        check_eq!(info.mmap_offset, told.mmap_offset, "{exporter:?}, offset");
        check_eq!(info.mappings, 0, "{exporter:?}, mappings");
        let map = session.map(PAGE, RW, SHARED, told.mmap_offset)?;
        check_eq!(session.info(told.id)?.mappings, 1, "{exporter:?}, mapped");
        drop(map);
        let again = session.export(told.id)?;
        check_eq!(
            identity(&again)?,
            identity(&dma_buf)?,
            "{exporter:?}: EXPORT gives another dma-buf"
        );
        // Two ids of one dma-buf.
        let second = imported(&session, &again, 0)?;
        check!(second.id != told.id, "{exporter:?}: one id twice");
        session.free(told.id)?;
        session.map(3 * PAGE, RW, SHARED, second.mmap_offset)?;
    }
    Ok(())
}

fn exporter_pays_and_the_id_keeps_it() -> Outcome {
    let session = Session::open()?;
    let before = session.query()?;
    let ids = || counts::counts().get("ids").copied();
    let ids_before = ids();
    for exporter in EXPORTERS {
        let told = imported(&session, &exporter.make(64 * PAGE)?, 0)?;
        // The descriptor is closed, and the bytes are there.
        let map = session.map(PAGE, RW, SHARED, told.mmap_offset)?;
        map.set_u64(0, 5);
        let now = session.query()?;
        check_eq!(now.used_bytes, before.used_bytes, "{exporter:?}, charged");
        check_eq!(now.buffers, before.buffers, "{exporter:?}, buffers");
        check_eq!(session.info(0)?.freed_held, 0, "{exporter:?}, freed");
    }
    check_eq!(ids(), ids_before.map(|ids| ids + 2), "ids");
    drop(session);
    check_eq!(ids(), ids_before, "ids after the session");
    Ok(())
}

fn what_only_own_buffers_can_do_is_refused() -> Outcome {
    let session = Session::open()?;
    for exporter in EXPORTERS {
        let told = imported(&session, &exporter.make(PAGE)?, 0)?;
        let at = told.mmap_offset;
        let result = session.pread(&mut [0; 8], at);
        refused(result, Operation::Read, Reason::ForeignView, &[])?;
        let result = session.pwrite(&[0; 8], at);
        refused(result, Operation::Write, Reason::ForeignView, &[])?;
        let result = session.name(told.id, "theirs", 0o600);
        refused(result, Operation::Name, Reason::ForeignUnnamed, &[])?;
        let result = session.segments(told.id);
        refused(result, Operation::Segments, Reason::ForeignFrames, &[])?;
        let operands = [u64::from(Kind::Foreign.number())];
        let result = session.probe(told.id, 0);
        refused(result, Operation::Probe, Reason::NotARegion, &operands)?;
        let result = session.alloc(Kind::Foreign, PAGE);
        refused(result, Operation::Alloc, Reason::KindNotHere, &operands)?;
        let dma_buf = exporter.make(PAGE)?;
        let operands = [u64::from(Operation::Import.number())];
        let result = imported(&session, &dma_buf, import::FOR_DEVICE);
        refused(result, Operation::Import, Reason::NeedsDevice, &operands)?;
        let result = imported(&session, &dma_buf, 2);
        refused(result, Operation::Import, Reason::UnknownFlags, &[2, 1])?;
    }
    Ok(())
}

// The core looks at the mode for a mapping of the descriptor itself, and at no other time.
fn dma_buf_that_is_not_open_for_both_is_refused() -> Outcome {
    let session = Session::open()?;
    for flags in [libc::O_RDONLY, libc::O_WRONLY] {
        let dma_buf = heap(PAGE, flags)?;
        let operands = [dma_buf.as_raw_fd() as u64];
        let result = imported(&session, &dma_buf, 0);
        refused(result, Operation::Import, Reason::DmaBufMode, &operands)?;
    }
    Ok(())
}

/// Bytes that memory does not hold by chance.
fn pattern(salt: u64) -> Vec<u8> {
    (0..OWN_BYTES as u64)
        .map(|at| (at * (31 + 2 * salt) + at / 251) as u8)
        .collect()
}

/// The device writes into memory that another driver made, and reads from it.
fn edu_reaches_what_another_driver_exported() -> Outcome {
    let bound = Bound::edu()?;
    let edu = Edu::open(&bound.0, IrqKind::Msi)?;
    if device(&bound.open()?)?.iommu != Iommu::Translated.number() {
        // Without an IOMMU its 28 bits do not reach all of the memory: `what_the_device_cannot_reach_is_refused`.
        return Ok(());
    }
    for (salt, exporter) in (0..).zip(EXPORTERS) {
        let dma_buf = exporter.make(16 * PAGE)?;
        // What its exporter's own descriptor shows is what counts.
        let theirs = Map::new(&dma_buf, 16 * PAGE, RW, SHARED, 0)?;
        let buffer = edu.device().import_dma(&dma_buf)?;
        check_eq!(buffer.kind(), Kind::Foreign, "{exporter:?}, kind");
        let address = address_of(&buffer)?;
        check!(address >> 28 == 0, "{exporter:?}: {address:#x}");
        let all = 0..16 * PAGE as u64;
        buffer.sync_begin(all.clone(), Direction::Both)?;
        theirs.set_bytes(0, &pattern(salt));
        buffer.sync_end(all.clone(), Direction::Both)?;
        edu.fetch(address, OWN_BYTES)?;
        edu.store(address + 9 * PAGE as u64, OWN_BYTES)?;
        buffer.sync_begin(all.clone(), Direction::Both)?;
        let came = theirs.bytes(9 * PAGE, OWN_BYTES);
        check!(came == pattern(salt), "{exporter:?}: other bytes");
        let own = buffer.map()?;
        let mut same = vec![0; OWN_BYTES];
        own.copy_out(9 * PAGE, &mut same)?;
        check!(same == came, "{exporter:?}: the id shows other bytes");
        check_eq!(
            theirs.u8(9 * PAGE + OWN_BYTES),
            0,
            "{exporter:?}: behind them"
        );
        buffer.sync_end(all, Direction::Both)?;
    }
    Ok(())
}

/// The same with a disk, whose bytes the host finds: with and without an IOMMU.
fn nvme_reaches_what_another_driver_exported() -> Outcome {
    for exporter in EXPORTERS {
        let bound = Bound::of(number(NVME))?;
        let disk = Disk::start(platform::Bound::open(&bound.0)?)?;
        disks::moves_bytes_with(disk, |disk, bytes| {
            let dma_buf = exporter.make(bytes.next_multiple_of(PAGE))?;
            Ok(disk.function().imported(&dma_buf)?)
        })?;
    }
    Ok(())
}

/// Vendor and device, as numbers.
fn number(ids: [&str; 2]) -> (u32, u32) {
    let [vendor, device] = ids.map(|id| {
        let digits = id.trim_start_matches("0x");
        u32::from_str_radix(digits, 16).unwrap_or_default()
    });
    (vendor, device)
}

fn addresses_are_the_device_s_and_end() -> Outcome {
    let mapped = || counts::counts().get("device_mappings").copied();
    let before = mapped();
    let more = |by| before.map(|count| count + by);
    let bound = Bound::of(number(NVME))?;
    let session = bound.open()?;
    let translated = device(&session)?.iommu == Iommu::Translated.number();
    for exporter in EXPORTERS {
        // As many pieces as udmabuf makes of it.
        let dma_buf = exporter.make(37 * PAGE)?;
        let told = imported(&session, &dma_buf, 0)?;
        let result = device_rows(&session, told.id, 1);
        let id = [u64::from(told.id)];
        refused(result, Operation::Segments, Reason::NotAttached, &id)?;
        let attached = attach(&session, told.id, Direction::FromDevice.number())?;
        check_eq!(mapped(), more(1), "{exporter:?}, ATTACH");
        let (rows, total) = device_rows(&session, told.id, 37)?;
        check_eq!(total, attached.segments, "{exporter:?}, runs");
        check_eq!(rows.len() as u32, total, "{exporter:?}, rows");
        let mut at = 0;
        for row in &rows {
            check_eq!(row.offset, at, "{exporter:?}: {rows:x?}");
            check_eq!(row.physical_address, ADDRESS_HIDDEN, "{exporter:?}");
            at += row.length;
        }
        check_eq!(at, 37 * PAGE as u64, "{exporter:?}: {rows:x?}");
        if translated {
            check_eq!(total, 1, "{exporter:?}: {rows:x?}");
        }
        let info = session.info(told.id)?;
        check_eq!(info.dma_address, attached.dma_address, "{exporter:?}, INFO");
        // Only its exporter knows what a sync does.
        check_eq!(info.traits, traits::ATTACHED, "{exporter:?}, traits");
        let result = attach(&session, told.id, Direction::Both.number());
        refused(result, Operation::Attach, Reason::AlreadyAttached, &id)?;
        let result = synced(&session, told.id, sync::BEGIN, Direction::ToDevice);
        let operands = [Direction::ToDevice, Direction::FromDevice].map(|it| it.number().into());
        refused(result, Operation::Sync, Reason::SyncDirection, &operands)?;
        detach(&session, told.id)?;
        check_eq!(mapped(), before, "{exporter:?}, DETACH");
        check_eq!(session.info(told.id)?.traits, 0, "{exporter:?}, DETACH");
        // FREE and close end it too.
        attach(&session, told.id, Direction::Both.number())?;
        session.free(told.id)?;
        check_eq!(mapped(), before, "{exporter:?}, FREE");
        let other = bound.open()?;
        imported(&other, &dma_buf, import::FOR_DEVICE)?;
        check_eq!(mapped(), more(1), "{exporter:?}, FOR_DEVICE");
        drop(other);
        check_eq!(mapped(), before, "{exporter:?}, close");
    }
    // And so does the device, when it goes: the memory stays with who has it.
    let mut kept = Vec::new();
    for exporter in EXPORTERS {
        let dma_buf = exporter.make(2 * PAGE)?;
        let told = imported(&session, &dma_buf, import::FOR_DEVICE)?;
        let map = session.map(PAGE, RW, SHARED, told.mmap_offset)?;
        map.set_u64(0, 99);
        kept.push((told, map));
    }
    bound.unbind()?;
    check_eq!(mapped(), before, "unbind");
    for (told, map) in &kept {
        check_eq!(map.u64(0), 99, "after unbind");
        check_eq!(session.info(told.id)?.traits, 0, "after unbind");
        let result = attach(&session, told.id, Direction::Both.number());
        refused(result, Operation::Attach, Reason::DeviceGone, &[])?;
    }
    Ok(())
}

// `end_cpu_udmabuf` of drivers/dma-buf/udmabuf.c: EINVAL where nothing was begun.
fn exporter_is_told_of_syncs() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    let told = imported(&session, &Exporter::Udmabuf.make(PAGE)?, 0)?;
    let result = synced(&session, told.id, sync::END, Direction::Both);
    let operands = [libc::EINVAL as u64];
    refused(
        result,
        Operation::Sync,
        Reason::ExporterRefusedSync,
        &operands,
    )?;
    synced(&session, told.id, sync::BEGIN, Direction::Both)?;
    Ok(synced(&session, told.id, sync::END, Direction::Both)?)
}

fn what_the_device_cannot_reach_is_refused() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    let told = imported(&session, &Exporter::Heap.make(64 * PAGE)?, 0)?;
    if device(&session)?.iommu != Iommu::Translated.number() {
        set_mask(&session, 28)?;
        let result = attach(&session, told.id, Direction::Both.number());
        let reason = Reason::ForeignOutOfReach;
        return refused(result, Operation::Attach, reason, &[28]);
    }
    // There is no room for it in 17 bits.
    set_mask(&session, 17)?;
    let result = attach(&session, told.id, Direction::Both.number());
    let reason = Reason::ExporterRefusedDevice;
    refused(result, Operation::Attach, reason, &[64 * PAGE as u64])
}

/// Threads import, attach and sync all the time while the device comes and goes.
fn many_threads_import_and_unbind() -> Outcome {
    let mapped = || counts::counts().get("device_mappings").copied();
    let before = mapped();
    for round in 0..4 {
        let bound = Bound::of(number(EDU))?;
        let session = bound.open()?;
        std::thread::scope(|scope| {
            let busy: Vec<_> = EXPORTERS
                .into_iter()
                .map(|exporter| {
                    let session = session.for_another_thread();
                    scope.spawn(move || -> Outcome {
                        let dma_buf = exporter.make(5 * PAGE)?;
                        loop {
                            match imported(&session, &dma_buf, import::FOR_DEVICE) {
                                Ok(told) => {
                                    let _ = synced(&session, told.id, sync::BEGIN, Direction::Both);
                                    let _ = synced(&session, told.id, sync::END, Direction::Both);
                                    session.free(told.id)?;
                                }
                                gone => {
                                    let reason = Reason::DeviceGone;
                                    return refused(gone, Operation::Import, reason, &[]);
                                }
                            }
                        }
                    })
                })
                .collect();
            std::thread::sleep(std::time::Duration::from_millis(40 + 10 * round));
            bound.unbind()?;
            check_eq!(mapped(), before, "when unbind has returned");
            for thread in busy {
                let ended = thread.join();
                ended.map_err(|_| Failure::new("a thread panicked"))??;
            }
            Ok::<(), Failure>(())
        })?;
    }
    Ok(())
}
