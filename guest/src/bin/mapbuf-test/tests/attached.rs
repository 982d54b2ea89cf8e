//! Memory that a bound device reaches: how it is attached, synced, and how it goes.

use super::counts;
use super::devices::{device, Bound};
use crate::check::{refused, Failure, Outcome};
use crate::disk::{self, Fixed, Way};
use crate::session::{alloc_request, Refused, Session};
use crate::sys::{self, others, until, Map, PAGE, RW, SHARED};
use crate::{check, check_eq};
use mapbuf_abi::{
    alloc, ioctl, segments, sync, traits, Alloc, Attach, Detach, Direction, DmaMask, Iommu, Kind,
    Operation, Reason, Segment, Segments, Sync, ADDRESS_HIDDEN,
};
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

tests! { "attached":
    DEVICES, 60: [
        unbind_waits_for_no_user_copy,
        attached_pages_have_addresses_and_can_be_pinned,
        addresses_end_at_detach_free_close_and_unbind,
        what_cannot_be_attached_is_refused,
        sync_is_of_a_range_in_the_buffer,
        address_is_that_of_the_node_s_device,
        dma_buffer_has_addresses_and_can_be_pinned,
        large_dma_buffers_without_a_reboot,
        placement_is_kept_or_refused,
        detached_memory_is_out_of_reach_at_once,
    ];
    SCALABLE, 60: [
        attached_pages_have_addresses_and_can_be_pinned,
        detached_memory_is_out_of_reach_at_once,
    ];
}

// A program decides when a fault at its own bytes ends (userfaultfd, FUSE). The device goes meanwhile.
fn unbind_waits_for_no_user_copy() -> Outcome {
    for write in [false, true] {
        let bound = Bound::edu()?;
        let session = bound.open()?;
        let buffer = session.alloc(Kind::Coherent, 4 * PAGE)?;
        let uffd = others::userfaultfd()?;
        let bytes = Map::anonymous(PAGE)?;
        others::register(&uffd, &bytes, others::MISSING)?;
        let gone = AtomicBool::new(false);
        let copied = thread::scope(|scope| {
            let (bytes, gone, bound) = (&bytes, &gone, &bound);
            let at = buffer.mmap_offset as i64;
            let copier = session.for_another_thread();
            let copier = scope.spawn(move || match write {
                true => sys::pwrite_mapped(&copier, bytes, 0, PAGE, at),
                false => sys::pread_mapped(&copier, bytes, 0, PAGE, at),
            });
            let begun = others::wait_for_fault(&uffd);
            let unbinder = scope.spawn(move || {
                let unbound = bound.unbind();
                gone.store(true, Relaxed);
                unbound
            });
            let went = until(Duration::from_secs(10), || gone.load(Relaxed));
            // First of all: both threads go on.
            others::fill_with_zeros(&uffd, bytes)?;
            begun?;
            check!(went, "unbind waits for a copy (write: {write})");
            let panicked = |_| Failure::new("a thread panicked");
            unbinder.join().map_err(panicked)??;
            copier.join().map_err(panicked)
        })?;
        match write {
            // The bytes came too late.
            true => {
                let copied = session.explain(copied);
                check!(copied.is_err(), "{copied:?} bytes written to what is gone");
            }
            // They were copied before.
            false => check!(copied == Ok(PAGE), "read {copied:?}"),
        }
        let mut bytes = [0; 4];
        let result = session.pread(&mut bytes, buffer.mmap_offset);
        refused(result, Operation::Read, Reason::DeviceGone, &[])?;
    }
    Ok(())
}

/// Kinds whose pages are no device's.
const PAGED: [Kind; 3] = [Kind::Vmalloc, Kind::Pages, Kind::Contiguous];

pub fn attach(session: &Session, id: u32, direction: u32) -> Result<Attach, Refused> {
    let request = Attach {
        size: size_of::<Attach>() as u32,
        id,
        direction,
        ..Default::default()
    };
    session.ioctl(ioctl::ATTACH, request)
}

pub fn detach(session: &Session, id: u32) -> Result<(), Refused> {
    let request = Detach {
        size: size_of::<Detach>() as u32,
        id,
        ..Default::default()
    };
    session.ioctl(ioctl::DETACH, request).map(drop)
}

pub fn set_mask(session: &Session, bits: u32) -> Result<(), Refused> {
    let request = DmaMask {
        size: size_of::<DmaMask>() as u32,
        bits,
        ..Default::default()
    };
    session.ioctl(ioctl::DMA_MASK, request).map(drop)
}

/// Some runs of the device's addresses, and how many there are.
pub fn device_rows(session: &Session, id: u32, count: u32) -> Result<(Vec<Segment>, u32), Refused> {
    let mut rows = vec![Segment::default(); count as usize];
    let request = Segments {
        size: size_of::<Segments>() as u32,
        flags: segments::FOR_DEVICE,
        id,
        count,
        rows: rows.as_mut_ptr() as u64,
        ..Default::default()
    };
    let told = session.ioctl(ioctl::SEGMENTS, request)?;
    rows.truncate(told.count as usize);
    Ok((rows, told.total))
}

fn translated(session: &Session) -> Outcome<bool> {
    Ok(device(session)?.iommu == Iommu::Translated.number())
}

/// The trait of memory that needs no sync. A kernel that checks the DMA API has drivers sync for each device that its IOMMU
/// translates for (`dma_dev_need_sync` of `include/linux/dma-mapping.h`, `__dma_need_sync` of `kernel/dma/mapping.c`).
fn coherent(translated: bool) -> Outcome<u32> {
    let checks = fs::exists("/sys/kernel/debug/dma-api")?;
    Ok(if translated && checks {
        0
    } else {
        traits::COHERENT
    })
}

pub const BOTH: u32 = Direction::Both as u32;

fn attached_pages_have_addresses_and_can_be_pinned() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    let translated = translated(&session)?;
    for kind in PAGED {
        let buffer = session.alloc(kind, 67 * PAGE)?;
        let before = session.info(buffer.id)?;
        check_eq!(before.dma_address, ADDRESS_HIDDEN, "{kind:?} before ATTACH");
        check_eq!(before.traits, traits::PINNABLE, "{kind:?} before ATTACH");
        let told = attach(&session, buffer.id, BOTH)?;
        let (rows, total) = device_rows(&session, buffer.id, 67)?;
        check_eq!(told.segments, total, "{kind:?}: runs");
        check_eq!(rows.len() as u32, total, "{kind:?}: rows");
        check_eq!(rows[0].dma_address, told.dma_address, "{kind:?}: address");
        let info = session.info(buffer.id)?;
        check_eq!(info.dma_address, told.dma_address, "{kind:?} in INFO");
        let expected = traits::PINNABLE | traits::ATTACHED | coherent(translated)?;
        check_eq!(info.traits, expected, "{kind:?}: traits");
        if translated || kind == Kind::Contiguous {
            check_eq!(total, 1, "{kind:?}: {rows:x?}");
        }
        let mut at = 0;
        for row in &rows {
            check_eq!(row.offset, at, "{kind:?}: {rows:x?}");
            check_eq!(row.physical_address, ADDRESS_HIDDEN, "{kind:?}: {row:x?}");
            at += row.length;
        }
        check_eq!(at, buffer.bytes, "{kind:?}: {rows:x?}");
        // The physical runs have the device's addresses beside them.
        for row in session.segments(buffer.id)? {
            let run = rows
                .iter()
                .rfind(|run| run.offset <= row.offset)
                .ok_or_else(|| Failure::new("no run"))?;
            let expected = run.dma_address + (row.offset - run.offset);
            check_eq!(row.dma_address, expected, "{kind:?}: {row:x?}");
            check_eq!(
                row.dma_address == row.physical_address,
                !translated,
                "{kind:?}: {row:x?}"
            );
        }
        // A part of the rows.
        let (some, all) = device_rows(&session, buffer.id, 0)?;
        check_eq!((some.len(), all), (0, total), "{kind:?}: no rows");
        let map = session.map(PAGE, RW, SHARED, buffer.mmap_offset)?;
        check!(map.u32(0) == 0, "{kind:?}: not zeroed");
    }
    Ok(())
}

fn addresses_end_at_detach_free_close_and_unbind() -> Outcome {
    let mapped = || -> Outcome<i64> {
        let counts = counts::counts();
        let count = counts.get("device_mappings");
        count.copied().ok_or_else(|| Failure::new("no such count"))
    };
    let before = mapped()?;
    let bound = Bound::edu()?;
    let session = bound.open()?;
    let buffers = [(); 4].map(|()| session.alloc(Kind::Pages, 9 * PAGE).map(|told| told.id));
    let [first, second, third, fourth] = buffers;
    let (first, second, third, fourth) = (first?, second?, third?, fourth?);
    for id in [first, second, third, fourth] {
        attach(&session, id, BOTH)?;
    }
    check_eq!(mapped()?, before + 4, "attached");
    detach(&session, first)?;
    check_eq!(mapped()?, before + 3, "after DETACH");
    check_eq!(
        session.info(first)?.traits,
        traits::PINNABLE,
        "after DETACH"
    );
    let result = device_rows(&session, first, 1);
    refused(
        result,
        Operation::Segments,
        Reason::NotAttached,
        &[first.into()],
    )?;
    let result = detach(&session, first);
    refused(
        result,
        Operation::Detach,
        Reason::NotAttached,
        &[first.into()],
    )?;
    attach(&session, first, BOTH)?;
    // Who has the memory mapped keeps it, and the device does not.
    let offset = session.info(second)?.mmap_offset;
    let map = session.map(PAGE, RW, SHARED, offset)?;
    session.free(second)?;
    check_eq!(mapped()?, before + 3, "after FREE");
    map.set_u32(0, 7);
    let other = bound.open()?;
    let closed = other.alloc(Kind::Vmalloc, PAGE)?;
    attach(&other, closed.id, Direction::ToDevice as u32)?;
    check_eq!(mapped()?, before + 4, "another session's");
    // The mask may not change while there are addresses.
    let result = set_mask(&session, 32);
    refused(result, Operation::DmaMask, Reason::MaskInUse, &[4])?;
    drop(other);
    check_eq!(mapped()?, before + 3, "after close");
    let offset = session.info(third)?.mmap_offset;
    let stays = session.map(PAGE, RW, SHARED, offset)?;
    stays.set_u32(8, 0xabcd);
    bound.unbind()?;
    check_eq!(mapped()?, before, "when unbind has returned");
    check_eq!(stays.u32(8), 0xabcd, "the bytes of an attached buffer");
    let info = session.info(third)?;
    check_eq!(info.traits, traits::PINNABLE, "after unbind");
    check_eq!(info.dma_address, ADDRESS_HIDDEN, "after unbind");
    detach(&session, fourth)?;
    let result = attach(&session, fourth, BOTH);
    refused(result, Operation::Attach, Reason::DeviceGone, &[])?;
    Ok(())
}

fn what_cannot_be_attached_is_refused() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    let translated = translated(&session)?;
    let pages = session.alloc(Kind::Pages, 3 * PAGE)?;
    for direction in [0, 4, u32::MAX] {
        let result = attach(&session, pages.id, direction);
        let operands = [direction.into()];
        refused(
            result,
            Operation::Attach,
            Reason::UnknownDirection,
            &operands,
        )?;
    }
    refused(
        attach(&session, 99, BOTH),
        Operation::Attach,
        Reason::NoSuchId,
        &[99],
    )?;
    // Coherent memory of this device is attached at all times, and that of another never.
    let coherent = session.alloc(Kind::Coherent, PAGE)?;
    let result = attach(&session, coherent.id, BOTH);
    let operands = [coherent.id.into()];
    refused(
        result,
        Operation::Attach,
        Reason::AlreadyAttached,
        &operands,
    )?;
    session.free(coherent.id)?;
    let system = Session::open()?;
    let foreign = system.alloc(Kind::Coherent, PAGE)?;
    let foreign = session.import(
        std::os::fd::AsRawFd::as_raw_fd(&system.export(foreign.id)?),
        0,
    )?;
    let result = attach(&session, foreign.id, BOTH);
    let kind = [Kind::Coherent.number().into()];
    refused(result, Operation::Attach, Reason::CannotAttach, &kind)?;
    // Memory that was there before the mask.
    let big = session.alloc(Kind::Pages, 32 << 20)?;
    set_mask(&session, 24)?;
    let result = attach(&session, big.id, BOTH);
    match translated {
        // It has addresses of its own, and there are not so many below 24 bits.
        true => {
            let operands = [32 << 20, libc::ENOMEM as u64];
            refused(result, Operation::Attach, Reason::DmaRefused, &operands)?;
        }
        false => refused(result, Operation::Attach, Reason::OutOfReach, &[24])?,
    }
    set_mask(&session, 64)?;
    attach(&session, big.id, BOTH)?;
    let result = attach(&session, big.id, BOTH);
    let operands = [big.id.into()];
    refused(
        result,
        Operation::Attach,
        Reason::AlreadyAttached,
        &operands,
    )
}

fn sync_is_of_a_range_in_the_buffer() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    let request = |id, flags, direction, offset, length| {
        let request = Sync {
            size: size_of::<Sync>() as u32,
            flags,
            id,
            direction,
            offset,
            length,
            ..Default::default()
        };
        session.ioctl(ioctl::SYNC, request).map(drop)
    };
    let bytes = 3 * PAGE as u64;
    let pages = session.alloc(Kind::Pages, 3 * PAGE)?.id;
    let result = request(pages, sync::BEGIN, BOTH, 0, 1);
    refused(
        result,
        Operation::Sync,
        Reason::NotAttached,
        &[pages.into()],
    )?;
    attach(&session, pages, BOTH)?;
    let coherent = session.alloc(Kind::Coherent, 3 * PAGE)?.id;
    for id in [pages, coherent] {
        for direction in [1, 2, 3] {
            for (offset, length) in [(0, bytes), (1, 1), (4095, 2), (bytes - 1, 1)] {
                request(id, sync::END, direction, offset, length)?;
                request(id, sync::BEGIN, direction, offset, length)?;
            }
        }
        for (offset, length) in [
            (0, 0),
            (0, bytes + 1),
            (bytes, 1),
            (1, u64::MAX),
            (u64::MAX, 1),
        ] {
            let result = request(id, sync::BEGIN, BOTH, offset, length);
            let operands = [offset, length, bytes];
            refused(result, Operation::Sync, Reason::SyncOutside, &operands)?;
        }
        for flags in [0, sync::BEGIN | sync::END] {
            let result = request(id, flags, BOTH, 0, 1);
            refused(result, Operation::Sync, Reason::SyncPhase, &[flags.into()])?;
        }
        let result = request(id, sync::BEGIN, 0, 0, 1);
        refused(result, Operation::Sync, Reason::UnknownDirection, &[0])?;
    }
    let to = Direction::ToDevice as u32;
    let one_way = session.alloc(Kind::Vmalloc, PAGE)?.id;
    attach(&session, one_way, to)?;
    request(one_way, sync::END, to, 0, 1)?;
    let result = request(one_way, sync::BEGIN, BOTH, 0, 1);
    let operands = [BOTH.into(), to.into()];
    refused(result, Operation::Sync, Reason::SyncDirection, &operands)
}

// Each device has addresses of its own.
fn address_is_that_of_the_node_s_device() -> Outcome {
    use std::os::fd::AsRawFd;
    let bound = Bound::edu()?;
    let session = bound.open()?;
    let system = Session::open()?;
    let theirs = session.alloc(Kind::Coherent, PAGE)?;
    let ours = system.alloc(Kind::Coherent, PAGE)?;
    check!(
        system.info(ours.id)?.dma_address != ADDRESS_HIDDEN,
        "not shown"
    );
    let ours = session.import(system.export(ours.id)?.as_raw_fd(), 0)?;
    let theirs = system.import(session.export(theirs.id)?.as_raw_fd(), 0)?;
    for (session, id) in [(&session, ours.id), (&system, theirs.id)] {
        let info = session.info(id)?;
        check_eq!(info.dma_address, ADDRESS_HIDDEN, "another device's address");
        check_eq!(info.traits & traits::ATTACHED, 0, "{info:x?}");
        for row in session.segments(id)? {
            check_eq!(row.dma_address, ADDRESS_HIDDEN, "{row:x?}");
        }
    }
    Ok(())
}

pub fn dma_buffer(session: &Session, kind: Kind, bytes: u64) -> Result<Alloc, Refused> {
    let request = Alloc {
        flags: alloc::FOR_DEVICE,
        ..alloc_request(kind, bytes)
    };
    session.ioctl(ioctl::ALLOC, request)
}

// One buffer that the device reaches and that the kernel's own input and output takes too.
fn dma_buffer_has_addresses_and_can_be_pinned() -> Outcome {
    const BYTES: usize = 4 << 20;
    let bound = Bound::edu()?;
    let session = bound.open()?;
    let translated = translated(&session)?;
    let disk = disk::open()?;
    for kind in PAGED {
        let buffer = dma_buffer(&session, kind, BYTES as u64)?;
        let info = session.info(buffer.id)?;
        let expected = traits::PINNABLE | traits::ATTACHED | coherent(translated)?;
        check_eq!(info.traits, expected, "{kind:?}: traits");
        check!(info.dma_address != ADDRESS_HIDDEN, "{kind:?}: {info:x?}");
        let (_, runs) = device_rows(&session, buffer.id, 0)?;
        if translated || kind == Kind::Contiguous {
            check_eq!(runs, 1, "{kind:?}: runs");
        }
        let map = session.map(BYTES, RW, SHARED, buffer.mmap_offset)?;
        map.set_u64(BYTES - 8, 7);
        // O_DIRECT, from an empty disk.
        check_eq!(
            sys::pread_mapped(&disk, &map, 0, BYTES, 0)?,
            BYTES,
            "{kind:?}"
        );
        check_eq!(map.u64(BYTES - 8), 0, "{kind:?}: the disk's bytes");
        let mut fixed = match Fixed::new(&map, 0, BYTES)? {
            Some(fixed) => fixed?,
            None => continue,
        };
        map.set_u64(8, 7);
        let moved = fixed.transfer(Way::ToMemory, &disk, 0, PAGE, 0)?;
        check_eq!(moved, PAGE as i32, "{kind:?}: bytes by io_uring");
        check_eq!(map.u64(8), 0, "{kind:?}: the disk's bytes");
    }
    // Coherent memory is the device's in any case.
    let coherent = dma_buffer(&session, Kind::Coherent, PAGE as u64)?;
    let info = session.info(coherent.id)?;
    check!(info.traits & traits::ATTACHED != 0, "{info:x?}");
    let result = dma_buffer(&Session::open()?, Kind::Pages, PAGE as u64);
    let operation = [Operation::Alloc.number().into()];
    refused(result, Operation::Alloc, Reason::NeedsDevice, &operation)
}

fn large_dma_buffers_without_a_reboot() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    let bytes = 96 << 20;
    for kind in [Kind::Pages, Kind::Contiguous] {
        let buffer = dma_buffer(&session, kind, bytes)?;
        let (rows, runs) = device_rows(&session, buffer.id, 1)?;
        if translated(&session)? || kind == Kind::Contiguous {
            check_eq!((runs, rows[0].length), (1, bytes), "{kind:?}");
        }
        session.free(buffer.id)?;
    }
    Ok(())
}

fn placement_is_kept_or_refused() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    let translated = translated(&session)?;
    let ask = |kind, flags, below, align_bits, boundary_bits| {
        let request = Alloc {
            flags,
            below,
            align_bits,
            boundary_bits,
            ..alloc_request(kind, 4 * PAGE as u64)
        };
        session.ioctl(ioctl::ALLOC, request)
    };
    let wishes = [
        (1_u64 << 32, 14, 0),
        (1 << 24, 12, 14),
        (1 << 28, 14, 16),
        (0, 20, 20),
    ];
    for (below, align_bits, boundary_bits) in wishes {
        for flags in [0, alloc::FOR_DEVICE] {
            for kind in [Kind::Pages, Kind::Contiguous, Kind::Vmalloc] {
                let what =
                    format!("{kind:?} below {below:#x}, {align_bits}, {boundary_bits}, {flags}");
                let buffer = match ask(kind, flags, below, align_bits, boundary_bits) {
                    Ok(buffer) => buffer,
                    Err(no) => {
                        // Below 4 GiB lies all of this machine, and what is behind an IOMMU lies where it likes.
                        let easy = below == 1 << 32 && kind == Kind::Contiguous;
                        check!(
                            !(easy || flags != 0 && translated && align_bits <= 14),
                            "{what}: {no}"
                        );
                        let bits = [align_bits, boundary_bits].map(u64::from);
                        let operands = [4 * PAGE as u64, below, bits[0], bits[1]];
                        let result = Err::<(), _>(no);
                        refused(
                            result,
                            Operation::Alloc,
                            Reason::PlacementRefused,
                            &operands,
                        )?;
                        continue;
                    }
                };
                let rows = match flags {
                    0 => session.segments(buffer.id)?,
                    _ => device_rows(&session, buffer.id, 4)?.0,
                };
                for (number, row) in rows.iter().enumerate() {
                    let address = match flags {
                        0 => row.physical_address,
                        _ => row.dma_address,
                    };
                    let last = address + row.length - 1;
                    check!(below == 0 || last < below, "{what}: {row:x?}");
                    check!(
                        number > 0 || address.trailing_zeros() >= align_bits,
                        "{what}: {row:x?}"
                    );
                    let crosses =
                        boundary_bits > 0 && address >> boundary_bits != last >> boundary_bits;
                    check!(!crosses, "{what}: {row:x?}");
                }
                session.free(buffer.id)?;
            }
        }
    }
    // Coherent memory has the device's addresses.
    set_mask(&session, 28)?;
    let coherent = ask(Kind::Coherent, 0, 1 << 28, 12, 0)?;
    let info = session.info(coherent.id)?;
    check!(info.dma_address < 1 << 28, "{info:x?}");
    // What is allocated for a device lies where that reaches.
    session.free(coherent.id)?;
    set_mask(&session, 24)?;
    let pages = session.alloc(Kind::Pages, 4 * PAGE)?;
    let told = attach(&session, pages.id, BOTH)?;
    check!(told.dma_address < 1 << 24, "{told:x?}");
    for (below, align_bits, boundary_bits, at, value) in [
        (4095, 0, 0, 40, 4095),
        (0, 41, 0, 48, 41),
        (0, 0, 11, 52, 11),
        (0, 0, 64, 52, 64),
    ] {
        let result = ask(Kind::Pages, 0, below, align_bits, boundary_bits);
        refused(
            result,
            Operation::Alloc,
            Reason::PlacementInvalid,
            &[at, value],
        )?;
    }
    Ok(())
}

/// The DMA engine of QEMU's `edu` (`hw/misc/edu.c`), by its registers: it begins 100 ms after it was told.
pub struct Engine(Map);

impl Engine {
    const OWN: u64 = 0x40000;

    pub fn new(bound: &Bound) -> Outcome<Self> {
        let path = format!("/sys/bus/pci/devices/{}/resource0", bound.0);
        let file = fs::File::options().read(true).write(true).open(path)?;
        Ok(Self(Map::new(&file, 1 << 20, RW, SHARED, 0)?))
    }

    fn begin(&self, from: u64, to: u64, out: bool) {
        self.0.set_u64(0x80, from);
        self.0.set_u64(0x88, to);
        self.0.set_u64(0x90, 8);
        self.0.set_u64(0x98, 1 | u64::from(out) << 1);
    }

    /// Copies eight bytes from one DMA address to another.
    pub fn copy(&self, from: u64, to: u64) -> Outcome {
        self.begin(from, Self::OWN, false);
        self.wait()?;
        self.begin(Self::OWN, to, true);
        self.wait().map(drop)
    }

    /// Waits for its end, and says how long that took.
    fn wait(&self) -> Outcome<Duration> {
        let begun = Instant::now();
        while self.0.u64(0x98) & 1 != 0 {
            let patience = begun.elapsed() < Duration::from_secs(20);
            check!(patience, "the engine is at work for ever");
            thread::sleep(Duration::from_micros(200));
        }
        Ok(begun.elapsed())
    }
}

// The kernel leaves an address in the IOMMU's own memory for some milliseconds after it was unmapped, unless it is told to
// be strict: whoever detaches a buffer must not find it written to afterwards.
fn detached_memory_is_out_of_reach_at_once() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    if !translated(&session)? {
        return Ok(());
    }
    set_mask(&session, 28)?;
    let engine = Engine::new(&bound)?;
    let mut tried = 0;
    for round in 1..=12_u64 {
        let buffer = dma_buffer(&session, Kind::Pages, PAGE as u64)?;
        let map = session.map(PAGE, RW, SHARED, buffer.mmap_offset)?;
        let address = session.info(buffer.id)?.dma_address;
        map.set_u64(0, round);
        engine.begin(address, Engine::OWN, false);
        engine.wait()?;
        // Now the IOMMU has it in mind.
        map.set_u64(0, 0);
        engine.begin(Engine::OWN, address, true);
        let took = engine.wait()?;
        check_eq!(map.u64(0), round, "the engine does not write");
        map.set_u64(0, 0);
        engine.begin(Engine::OWN, address, true);
        thread::sleep(took.saturating_sub(Duration::from_millis(1 + round % 4 * 2)));
        detach(&session, buffer.id)?;
        let late = map.u64(0) != 0;
        engine.wait()?;
        if late {
            continue;
        }
        tried += 1;
        check_eq!(map.u64(0), 0, "written after DETACH");
    }
    check!(tried > 0, "the engine was always before DETACH");
    Ok(())
}
