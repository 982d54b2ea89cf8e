//! Regions: reserved physical ranges, real and not. The machine is that of the profile `regions`.

use super::devices::addresses;
use super::matrix::{agrees, mapbuf};
use super::reasons::met;
use super::registers::{each_register_is_read_once, E1000};
use super::sharing::{shows, tag};
use super::traced::{Calls, Tracer};
use crate::check::{elsewhere, fails, refused, Failure, Outcome};
use crate::proc::vma_at;
use crate::session::Session;
use crate::sys::{self, become_user, others, until, Errno, Map, PAGE, PRIVATE, READ, RW, SHARED};
use crate::{check, check_eq};
use mapbuf_abi::{
    probe, Cache, Kind, Method, Operation, Reason, Region, RegionState, RegionType, ADDRESS_HIDDEN,
};
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

tests! { "regions":
    REGIONS, 20: [
        log_tells_each_once,
        every_region_is_listed_with_what_is_known_of_it,
        addresses_are_for_administrators,
        claims_are_seen_in_iomem,
        user_and_kernel_see_the_same_bytes,
        uncached_regions_are_written_by_whole_words,
        hole_is_not_mapped,
        trusted_hole_is_mapped_all_the_same,
        device_is_read_only_when_somebody_takes_the_risk,
        unaligned_read_of_a_device_meets_each_register_once,
        probe_that_writes_is_alone_with_the_region,
        probe_that_writes_waits_for_accesses_that_have_begun,
        probe_restores_what_was_there,
        debugger_writes_device_words_whole_or_not_at_all,
        region_is_imported_and_mapped_by_frame,
        region_without_pages_is_copied_by_administrators_only,
        region_of_memory_cannot_be_pinned,
        command_lists_and_probes,
        gibibyte_survives_being_split,
    ];
    REGIONS, 120: [ probe_that_writes_loses_no_write_of_others ];
    REGIONS, 150: [ table_and_driver_agree_for_regions ];
    REGIONS, 60: [ offsets_of_a_session_run_out ];
    REGIONS, 30: [ names_taken_away_release_the_claims ];
}

/// All regions.
fn regions(session: &Session) -> Outcome<Vec<Region>> {
    let count = session.region(0)?.count;
    let list: Result<_, _> = (0..count).map(|index| session.region(index)).collect();
    Ok(list?)
}

fn name_of(region: &Region) -> String {
    let name = region.name.split(|byte| *byte == 0).next();
    String::from_utf8_lossy(name.unwrap_or_default()).into_owned()
}

fn state(region: &Region) -> Option<RegionState> {
    RegionState::from_number(region.state)
}

/// The first region of this name.
fn find(session: &Session, name: &str) -> Outcome<Region> {
    regions(session)?
        .into_iter()
        .find(|region| name_of(region) == name)
        .ok_or_else(|| Failure::new(format!("there is no region {name}")))
}

/// The kernel's log since the machine was started.
fn log() -> Outcome<Vec<String>> {
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/kmsg")?;
    let mut lines = Vec::new();
    let mut record = [0; 8192];
    while let Ok(count) = file.read(&mut record) {
        lines.push(String::from_utf8_lossy(&record[..count]).into_owned());
    }
    Ok(lines)
}

// Before any other test may load the module again.
fn log_tells_each_once() -> Outcome {
    let log = log()?;
    for line in [
        "region ring: reads only zeros",
        "region hole: unbacked",
        "region isram: refused, RegionIsRam",
        "region twice: refused, RegionTaken",
        "region ring: refused, RegionNameTaken",
        "region mtrr: refused, RegionUnmappable",
    ] {
        let found = log.iter().filter(|found| found.contains(line)).count();
        check_eq!(found, 1, "lines of the log with {line:?}");
    }
    for name in ["uc", "wc", "big", "trusted", "dev"] {
        let region = format!("region {name}:");
        check!(
            !log.iter().any(|line| line.contains(&region)),
            "the log complains of {name}"
        );
    }
    Ok(())
}

fn every_region_is_listed_with_what_is_known_of_it() -> Outcome {
    use RegionState::*;
    let session = Session::open()?;
    let regions = regions(&session)?;
    // What others have written makes it answer.
    let read = &[ReadsZeros, Answers, Backed][..];
    let expected: [(&str, u64, &[RegionState]); 13] = [
        ("ring", 0x3000_0000, read),
        ("uc", 0x3010_0000, &[Backed]),
        ("wc", 0x3020_0000, &[Backed]),
        ("big", 0x3080_0000, &[Backed]),
        ("plain", 0x3040_0000, read),
        ("hole", 0x9000_0000, &[Unbacked]),
        ("trusted", 0x9010_0000, &[Unprobed]),
        ("isram", 0x1000_0000, &[Refused]),
        ("twice", 0x3000_0000, &[Refused]),
        ("ring", 0x3050_0000, &[Refused]),
        (
            "dev",
            0xa000_0000,
            &[Unprobed, ReadsOnes, ReadsZeros, Answers],
        ),
        ("gib", 0x1_0000_0000, read),
        ("mtrr", 0xd000_0000, &[Refused]),
    ];
    check_eq!(regions.len(), expected.len(), "regions");
    for (region, (name, start, states)) in regions.iter().zip(expected) {
        check_eq!(name_of(region), name, "name");
        check_eq!(region.start, start, "start of {name}");
        check_eq!(region.count as usize, expected.len(), "count");
        check!(
            state(region).is_some_and(|state| states.contains(&state)),
            "state of {name} at {start:#x}: {:?}",
            state(region)
        );
        let class = if name == "dev" {
            RegionType::Mmio
        } else {
            RegionType::Ram
        };
        check_eq!(region.class, class.number(), "type of {name}");
        let cache = match name {
            "uc" | "dev" => Cache::Uncached,
            "wc" => Cache::WriteCombined,
            _ => Cache::Cached,
        };
        check_eq!(region.cache, cache.number(), "cache mode of {name}");
        check_eq!(region.width, 32, "width of {name}");
    }
    for (index, reason) in [
        (7, Reason::RegionIsRam),
        (8, Reason::RegionTaken),
        (9, Reason::RegionNameTaken),
        (12, Reason::RegionUnmappable),
    ] {
        let region = &regions[index];
        check_eq!(
            region.reason,
            reason.number(),
            "reason of {}",
            name_of(region)
        );
        check_eq!(region.errno, reason.errno(), "errno of {}", name_of(region));
        if reason != Reason::RegionNameTaken {
            check_eq!(
                region.operands[0],
                region.bytes,
                "operand of {}",
                name_of(region)
            );
        }
        met(reason);
    }
    check!(
        regions[..7]
            .iter()
            .all(|region| region.reason == 0 && region.errno == 0),
        "a region that was registered has a reason"
    );
    // Beyond the last one there is nothing but their number.
    let none = session.region(99)?;
    check_eq!(
        (none.count, none.bytes, none.name[0]),
        (13, 0, 0),
        "number 99"
    );
    Ok(())
}

fn addresses_are_for_administrators() -> Outcome {
    let session = Session::open()?;
    elsewhere(|| {
        become_user(1000, 1000)?;
        for region in regions(&session)? {
            check_eq!(
                region.start,
                ADDRESS_HIDDEN,
                "start of {}",
                name_of(&region)
            );
        }
        Ok(())
    })
}

fn iomem() -> Outcome<String> {
    Ok(fs::read_to_string("/proc/iomem")?)
}

fn claims_are_seen_in_iomem() -> Outcome {
    let iomem = iomem()?;
    for claim in [
        "30000000-300fffff : mapbuf ring",
        "30100000-301fffff : mapbuf uc",
        "30800000-30ffffff : mapbuf big",
        "90000000-9000ffff : mapbuf hole",
        "a0000000-a0000fff : mapbuf dev",
    ] {
        check!(iomem.contains(claim), "no {claim:?} in {iomem}");
    }
    for none in ["isram", "twice", "30500000", "mtrr"] {
        check!(!iomem.contains(none), "{none} in {iomem}");
    }
    Ok(())
}

/// A node of a region, and its size.
fn open(name: &str) -> Outcome<(Session, usize)> {
    let node = Session::open_named(name, true)?;
    let info = node.info(0)?;
    check_eq!(info.kind, Kind::Region.number(), "kind of {name}");
    check_eq!(info.segments, 1, "runs of {name}");
    Ok((node, info.bytes as usize))
}

fn user_and_kernel_see_the_same_bytes() -> Outcome {
    for name in ["ring", "uc", "wc", "big"] {
        let (node, bytes) = open(name)?;
        let map = node.map(bytes, RW, SHARED, 0)?;
        let vma = vma_at(map.start).unwrap_or_default();
        check!(
            vma.has("pf") && vma.has("de"),
            "flags of {name}: {:?}",
            vma.flags
        );
        for page in 0..bytes / PAGE {
            map.set_u64(page * PAGE, tag(page));
        }
        for page in (0..bytes / PAGE).step_by(3) {
            let mut word = [0; 8];
            node.pread(&mut word, (page * PAGE) as u64)?;
            check_eq!(u64::from_ne_bytes(word), tag(page), "{name}, page {page}");
            node.pwrite(&(page as u64).to_ne_bytes(), (page * PAGE + 8) as u64)?;
            check_eq!(map.u64(page * PAGE + 8), page as u64, "{name}, page {page}");
        }
        let other = Session::open_named(name, false)?;
        let read = other.map(4 * PAGE, READ, PRIVATE, 8 * PAGE as u64)?;
        shows(&read, 0, 4, 8)?;
        fails(read.protect(RW), libc::EACCES)?;
        let (_, last) = (node, map.u64(bytes - PAGE));
        check_eq!(last, tag(bytes / PAGE - 1), "{name}, the last page");
    }
    Ok(())
}

fn uncached_regions_are_written_by_whole_words() -> Outcome {
    for name in ["uc", "wc"] {
        let (node, _) = open(name)?;
        node.pwrite(&[1, 2, 3, 4], 64)?;
        for (bytes, at) in [(&[9][..], 64), (&[9, 9, 9, 9], 66), (&[9; 6], 64)] {
            refused(
                node.pwrite(bytes, at),
                Operation::Write,
                Reason::UnalignedWrite,
                &[at, bytes.len() as u64, 32],
            )?;
        }
        // Reading takes whole words and gives the part that was asked for.
        let mut bytes = [0; 2];
        check_eq!(node.pread(&mut bytes, 65)?, 2, "{name}, bytes read");
        check_eq!(bytes, [2, 3], "{name}, bytes 65 and 66");
    }
    let (node, _) = open("ring")?;
    check_eq!(
        node.pwrite(&[1, 2, 3], 67)?,
        3,
        "bytes written to cached memory"
    );
    Ok(())
}

fn hole_is_not_mapped() -> Outcome {
    let (node, bytes) = open("hole")?;
    for (prot, flags) in [(RW, SHARED), (READ, PRIVATE), (RW, PRIVATE)] {
        for len in [PAGE, bytes] {
            let result = node.map(len, prot, flags, 0);
            let operands = [bytes as u64];
            refused(result, Operation::Mmap, Reason::RegionUnbacked, &operands)?;
        }
    }
    // By its dma-buf neither, and not by any method.
    let dma_buf = node.export(0)?;
    fails(
        Map::new(&dma_buf, PAGE, RW, SHARED, 0),
        Reason::RegionUnbacked.errno(),
    )?;
    let session = Session::open()?;
    let taken = session.import(dma_buf.as_raw_fd(), 0)?;
    for &method in Method::ALL {
        let offset = session.offset(taken.id, method)?;
        let result = session.map(PAGE, RW, SHARED, offset);
        refused(result, Operation::Mmap, Reason::RegionUnbacked, &[])?;
    }
    // Reading does not unsettle what writing has settled.
    check_eq!(
        node.probe(0, 0)?.state,
        RegionState::Unbacked.number(),
        "state"
    );
    let seen = node.probe(0, probe::WRITE)?;
    check_eq!(
        seen.state,
        RegionState::Unbacked.number(),
        "state after writing"
    );
    check_eq!(seen.others, 0, "words that are neither ones nor zeros");
    check!(seen.ones + seen.zeros > 0, "nothing was read");
    Ok(())
}

fn trusted_hole_is_mapped_all_the_same() -> Outcome {
    let (node, bytes) = open("trusted")?;
    let map = node.map(bytes, RW, SHARED, 0)?;
    let first = map.u64(0);
    check!(first == 0 || first == u64::MAX, "it reads {first:#x}");
    Ok(())
}

fn device_is_read_only_when_somebody_takes_the_risk() -> Outcome {
    let session = Session::open()?;
    let (node, _) = open("dev")?;
    let before = state(&find(&session, "dev")?);
    check_eq!(before, Some(RegionState::Unprobed), "state before");
    let risky = node.probe(0, 0);
    refused(risky, Operation::Probe, Reason::ProbeIsRisky, &[])?;
    for flags in [probe::WRITE, probe::WRITE | probe::RISK] {
        let writes = node.probe(0, flags);
        refused(writes, Operation::Probe, Reason::ProbeWritesDevice, &[])?;
    }
    refused(
        node.probe(0, 4),
        Operation::Probe,
        Reason::UnknownFlags,
        &[4, 3],
    )?;
    let reader = Session::open_named("dev", false)?;
    let result = reader.probe(0, probe::RISK);
    refused(result, Operation::Probe, Reason::ReadOnlyOpen, &[])?;
    let after = state(&find(&session, "dev")?);
    check_eq!(after, before, "state after what was refused");
    // Device memory: not in a core dump, and by frame.
    let map = node.map(PAGE, RW, SHARED, 0)?;
    let vma = vma_at(map.start).unwrap_or_default();
    for flag in ["io", "pf", "dd", "de"] {
        check!(vma.has(flag), "no {flag} among {:?}", vma.flags);
    }
    drop(map);
    let seen = node.probe(0, probe::RISK)?;
    check_eq!(seen.ones + seen.zeros + seen.others, 1024, "words read");
    let now = find(&session, "dev")?.state;
    check_eq!(now, seen.state, "state after it was read");
    Ok(())
}

/// A PCI device whose first registers are moved to a physical address, until this is dropped.
struct Moved {
    space: File,
    before: [u8; 4],
}

/// Of PCI's configuration space.
const COMMAND: u64 = 4;
const BAR_0: u64 = 0x10;

impl Moved {
    fn new(device: &str, to: u32) -> Outcome<Self> {
        let space = OpenOptions::new()
            .read(true)
            .write(true)
            .open(format!("/sys/bus/pci/devices/{device}/config"))?;
        let mut before = [0; 4];
        space.read_exact_at(&mut before, BAR_0)?;
        let moved = Self { space, before };
        moved.put(to.to_le_bytes(), 2)?;
        Ok(moved)
    }

    /// Puts them somewhere, and turns the answer to memory on (2) or off (0).
    fn put(&self, bar: [u8; 4], command: u16) -> std::io::Result<()> {
        self.space.write_all_at(&[0; 2], COMMAND)?;
        self.space.write_all_at(&bar, BAR_0)?;
        self.space.write_all_at(&command.to_le_bytes(), COMMAND)
    }
}

impl Drop for Moved {
    fn drop(&mut self) {
        let _ = self.put(self.before, 0);
    }
}

fn unaligned_read_of_a_device_meets_each_register_once() -> Outcome {
    let device = addresses(E1000)?.pop();
    let device = device.ok_or_else(|| Failure::new("there is no e1000"))?;
    let _moved = Moved::new(&device, 0xa000_0000)?;
    let (node, bytes) = open("dev")?;
    let map = node.map(bytes, RW, SHARED, 0)?;
    each_register_is_read_once(&node, 0, &map)
}

fn probe_that_writes_is_alone_with_the_region() -> Outcome {
    let (node, bytes) = open("uc")?;
    let map = node.map(bytes, RW, SHARED, 0)?;
    let other = node.map(PAGE, READ, SHARED, 0)?;
    let result = node.probe(0, probe::WRITE);
    refused(result, Operation::Probe, Reason::ProbeWhileMapped, &[2])?;
    // Reading harms nobody.
    check_eq!(
        node.probe(0, 0)?.state,
        RegionState::Backed.number(),
        "state"
    );
    drop((map, other));
    check_eq!(
        node.probe(0, probe::WRITE)?.state,
        RegionState::Backed.number(),
        "state"
    );
    Ok(())
}

// The kernel is held in the middle of a `pwrite`, in a fault at the bytes to be written.
fn probe_that_writes_waits_for_accesses_that_have_begun() -> Outcome {
    let (node, _) = open("plain")?;
    let (prober, _) = open("plain")?;
    let uffd = others::userfaultfd()?;
    let bytes = Map::anonymous(PAGE)?;
    others::register(&uffd, &bytes, others::MISSING)?;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (bytes, done) = (&bytes, &done);
        let writer = scope.spawn(move || sys::pwrite_mapped(&node, bytes, 0, 8, 0));
        let begun = others::wait_for_fault(&uffd);
        let probe = scope.spawn(move || {
            let result = prober.probe(0, probe::WRITE);
            done.store(true, Ordering::Relaxed);
            result.map(|probe| probe.state)
        });
        // Long enough for a probe that does not wait.
        let early = until(Duration::from_secs(1), || done.load(Ordering::Relaxed));
        // First of all: both threads go on.
        others::fill_with_zeros(&uffd, bytes)?;
        begun?;
        check!(!early, "the probe was done in the middle of a write");
        let panicked = |_| Failure::new("a thread panicked");
        check_eq!(writer.join().map_err(panicked)??, 8, "bytes written");
        let state = probe.join().map_err(panicked)??;
        check_eq!(state, RegionState::Backed.number(), "state");
        Ok(())
    })
}

fn probe_restores_what_was_there() -> Outcome {
    for name in ["plain", "wc"] {
        let (node, bytes) = open(name)?;
        let pages = bytes / PAGE;
        for page in 0..pages {
            node.pwrite(&tag(page).to_ne_bytes(), (page * PAGE) as u64)?;
        }
        check_eq!(
            node.probe(0, probe::WRITE)?.state,
            RegionState::Backed.number(),
            "state"
        );
        shows(&node.map(bytes, READ, SHARED, 0)?, 0, pages, 0)?;
    }
    Ok(())
}

// A probe reads a word, writes patterns, and puts back what it read: whoever writes meanwhile must not be overwritten.
fn probe_that_writes_loses_no_write_of_others() -> Outcome {
    const ROUNDS: u64 = 40;
    let (node, bytes) = open("big")?;
    let done = AtomicBool::new(false);
    let probes = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let prober = scope.spawn(|| -> Outcome {
            let (node, _) = open("big")?;
            while !done.load(Ordering::Relaxed) {
                match node.probe(0, probe::WRITE) {
                    Ok(_) => drop(probes.fetch_add(1, Ordering::Relaxed)),
                    mapped => {
                        refused(mapped, Operation::Probe, Reason::ProbeWhileMapped, &[])?;
                    }
                }
            }
            Ok(())
        });
        let writes = || -> Outcome {
            let pages = (bytes / PAGE) as u64;
            let mut word = [0; 8];
            for round in 1..=ROUNDS {
                for page in (round % 3..pages).step_by(3) {
                    node.pwrite(&(round << 32 | page).to_ne_bytes(), page * PAGE as u64)?;
                }
                for page in (round % 3..pages).step_by(3) {
                    node.pread(&mut word, page * PAGE as u64)?;
                    check_eq!(
                        u64::from_ne_bytes(word),
                        round << 32 | page,
                        "round {round}, page {page}, what pwrite has written"
                    );
                }
                let map = node.map(bytes, RW, SHARED, 0)?;
                for page in (0..bytes).step_by(PAGE) {
                    map.set_u64(page, round);
                }
                let first = (0..bytes)
                    .step_by(PAGE)
                    .find(|&page| map.u64(page) != round);
                check_eq!(first, None, "round {round}, a word lost in the mapping");
            }
            Ok(())
        };
        let written = writes();
        done.store(true, Ordering::Relaxed);
        let probed = prober
            .join()
            .unwrap_or_else(|_| Err(Failure::new("it panicked")));
        written.and(probed)
    })?;
    check!(
        probes.load(Ordering::Relaxed) > 0,
        "no probe came in between"
    );
    Ok(())
}

// A word of a device's is written whole: to change a part of one, the rest would have to be read first, and reading may
// do something. A debugger must not be told that it has written what it has not.
fn debugger_writes_device_words_whole_or_not_at_all() -> Outcome {
    let memory = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/proc/self/mem")?;
    let (node, bytes) = open("uc")?;
    let map = node.map(bytes, RW, SHARED, 0)?;
    for at in [0, PAGE, 3 * PAGE + 64] {
        map.set_u64(at, 0x1111_2222_3333_4444);
        map.set_u64(at + 8, 0x5555_6666_7777_8888);
        for (into, len) in [(0, 1), (1, 8), (2, 2), (0, 6), (3, 4)] {
            let place = (map.start + at + into) as u64;
            let written = memory
                .write_at(&[0xee; 8][..len], place)
                .map_err(Errno::from);
            fails(written, libc::EIO)?;
            check_eq!(
                (map.u64(at), map.u64(at + 8)),
                (0x1111_2222_3333_4444, 0x5555_6666_7777_8888),
                "words at {at:#x} after a write of {len} bytes at {into}"
            );
        }
        for (into, len) in [(0, 4), (4, 8), (8, 8)] {
            let place = (map.start + at + into) as u64;
            let bytes = [0xdd; 8];
            check_eq!(memory.write_at(&bytes[..len], place)?, len, "bytes written");
            check_eq!(
                map.bytes(at + into, len),
                bytes[..len],
                "bytes that are there"
            );
        }
        // Reading is allowed of any bytes.
        let mut read = [0; 7];
        memory.read_exact_at(&mut read, (map.start + at + 1) as u64)?;
        check_eq!(read, [0xdd; 7], "bytes read");
    }
    Ok(())
}

fn region_is_imported_and_mapped_by_frame() -> Outcome {
    let (node, bytes) = open("big")?;
    for page in 0..bytes / PAGE {
        node.pwrite(&tag(page).to_ne_bytes(), (page * PAGE) as u64)?;
    }
    let session = Session::open()?;
    let taken = session.import(node.export(0)?.as_raw_fd(), 0)?;
    check_eq!(taken.bytes as usize, bytes, "bytes");
    let run = session.segments(taken.id)?;
    check_eq!(run[0].physical_address, 0x3080_0000, "physical address");
    for method in [
        Method::Auto,
        Method::Remap,
        Method::RemapEach,
        Method::Iomap,
        Method::IoRemap,
        Method::FaultPfn,
        Method::FaultHuge,
    ] {
        let offset = session.offset(taken.id, method)?;
        let map = session.map(bytes, RW, SHARED, offset)?;
        shows(&map, 0, bytes / PAGE, 0)?;
        // No page of it can be pinned.
        fails(sys::vm_read(&map, 0, 8), libc::EFAULT)?;
    }
    let operands = |method: Method| [u64::from(method.number()), u64::from(Kind::Region.number())];
    for method in [Method::Insert, Method::MapPages, Method::FaultPage] {
        let offset = session.offset(taken.id, method)?;
        let result = session.map(PAGE, RW, SHARED, offset);
        refused(
            result,
            Operation::Mmap,
            Reason::NeedsPages,
            &operands(method),
        )?;
    }
    Ok(())
}

fn region_without_pages_is_copied_by_administrators_only() -> Outcome {
    let (node, bytes) = open("plain")?;
    node.pwrite(&tag(1).to_ne_bytes(), PAGE as u64)?;
    let copy = node.map(bytes, RW, PRIVATE, 0)?;
    check_eq!(copy.u64(PAGE), tag(1), "the word before it is written");
    copy.set_u64(PAGE, 5);
    let mut word = [0; 8];
    node.pread(&mut word, PAGE as u64)?;
    check_eq!(u64::from_ne_bytes(word), tag(1), "the word in the region");
    check_eq!(copy.u64(PAGE), 5, "the word in the copy");
    // A part from the middle as well: the frame number is that of the part.
    let part = node.map(2 * PAGE, RW, PRIVATE, PAGE as u64)?;
    check_eq!(part.u64(0), tag(1), "the word in a part");
    part.set_u64(0, 6);
    check_eq!(copy.u64(PAGE), 5, "the word in the other copy");
    let (uncached, _) = open("uc")?;
    let operands = [u64::from(Cache::Uncached.number())];
    let result = uncached.map(PAGE, RW, PRIVATE, 0);
    refused(result, Operation::Mmap, Reason::CowNeedsCached, &operands)?;
    elsewhere(|| {
        become_user(1000, 1000)?;
        let result = node.map(bytes, RW, PRIVATE, 0);
        refused(result, Operation::Mmap, Reason::CowShowsAddress, &[])?;
        node.map(bytes, READ, PRIVATE, 0)?;
        Ok(())
    })
}

// mm_find_pmd (mm/rmap.c), which splitting a VMA asks, does not look for entries of 1 GiB: it takes the memory that one
// maps for a table of smaller ones. So there must be none of that size.
fn gibibyte_survives_being_split() -> Outcome {
    const GIB: usize = 1 << 30;
    const STEP: usize = (2 << 20) + PAGE;
    let (node, bytes) = open("gib")?;
    check_eq!(bytes, GIB, "bytes");
    let session = Session::open()?;
    let taken = session.import(node.export(0)?.as_raw_fd(), 0)?;
    let offset = session.offset(taken.id, Method::FaultHuge)?;
    let tracer = Tracer::new()?;
    let (mut map, calls) = tracer.watch(|| {
        let map = session.map(GIB, RW, SHARED, offset)?;
        for at in (0..GIB).step_by(STEP) {
            map.set_u64(at, at as u64 + 1);
        }
        Ok(map)
    })?;
    check_eq!(map.start % (2 << 20), 0, "address within 2 MiB");
    let expected = Calls::from([("vmf_insert_pfn_pmd", GIB / (2 << 20))]);
    check_eq!(calls, expected, "calls");
    let right = |map: &Map, from: usize| -> Outcome {
        for at in (0..GIB).step_by(STEP).filter(|at| *at >= from) {
            check_eq!(map.u64(at), at as u64 + 1, "word at {at:#x}");
        }
        Ok(())
    };
    right(&map, 0)?;
    elsewhere(|| right(&map, 0))?;
    let mut word = [0; 8];
    node.pread(&mut word, (7 * STEP) as u64)?;
    check_eq!(
        u64::from_ne_bytes(word),
        7 * STEP as u64 + 1,
        "the kernel's view"
    );
    map.protect_part(STEP, PAGE, READ)?;
    right(&map, 0)?;
    map.unmap_part(0, PAGE)?;
    right(&map, STEP)?;
    elsewhere(|| right(&map, STEP))?;
    map.unmap_part(PAGE, GIB - PAGE)?;
    // Private and read-only; a part of it.
    let sealed = session.map(GIB, READ, PRIVATE, offset)?;
    right(&sealed, 0)?;
    drop(sealed);
    let (part, calls) = tracer.watch(|| {
        let part = session.map(GIB / 2, RW, SHARED, offset + (GIB / 4) as u64)?;
        part.set_u64(0, 9);
        part.set_u64(GIB / 2 - 8, 9);
        Ok(part)
    })?;
    check_eq!(
        calls,
        Calls::from([("vmf_insert_pfn_pmd", 2)]),
        "calls for a part"
    );
    check_eq!(part.u64(0), 9, "the first word of a part");
    Ok(())
}

// `check_vma_flags` of mm/gup.c: a mapping by page frame has no pages to pin, whatever lies there.
fn region_of_memory_cannot_be_pinned() -> Outcome {
    let node = Session::open_named("ring", true)?;
    let map = node.map(4 * PAGE, RW, SHARED, 0)?;
    map.set_u32(0, 7);
    let (_read, write) = sys::pipe()?;
    fails(sys::splice_memory(&write, &map, 0, PAGE), libc::EFAULT)?;
    match sys::register_fixed_buffer(&map) {
        None => Ok(()),
        Some(registered) => fails(registered, libc::EFAULT),
    }
}

fn command_lists_and_probes() -> Outcome {
    let (well, said, complained) = mapbuf(&["list"])?;
    check!(well, "list: {complained}");
    for part in [
        "hole",
        "unbacked",
        "isram",
        "System RAM",
        "dev",
        "0x30000000",
        "mmio",
    ] {
        check!(said.contains(part), "{part:?} is not in the list: {said}");
    }
    let (well, said, _) = mapbuf(&["probe", "hole"])?;
    check!(well && said.contains("unbacked"), "probe of a hole: {said}");
    let (well, _, complained) = mapbuf(&["probe", "dev"])?;
    check!(
        !well && complained.contains("ProbeIsRisky") && complained.contains("hang"),
        "probe of a device: {complained}"
    );
    let (well, _, complained) = mapbuf(&["probe", "--write", "dev"])?;
    check!(
        !well && complained.contains("ProbeWritesDevice"),
        "{complained}"
    );
    let (well, said, complained) = mapbuf(&["probe", "--risk", "dev"])?;
    check!(well && said.contains("words read"), "{said} {complained}");
    check!(
        complained.contains("may hang"),
        "it does not warn: {complained}"
    );
    let (well, said, _) = mapbuf(&["probe", "--write", "--json", "plain"])?;
    check!(well && said.contains("\"state\": \"backed\""), "{said}");
    Ok(())
}

fn table_and_driver_agree_for_regions() -> Outcome {
    // What is in a region that may not be written to is left alone.
    let (ring, _) = open("ring")?;
    ring.pwrite(&tag(7).to_ne_bytes(), PAGE as u64)?;
    let cells = agrees(&[
        "matrix", "--json", "--kind", "region", "--region", "plain", "--region", "dev",
    ])?;
    for name in ["uc", "wc", "big", "hole", "plain", "dev"] {
        let of_region = format!("\"region\":\"{name}\"");
        let tried = cells
            .iter()
            .filter(|cell| cell.contains(&of_region))
            .count();
        check!(tried >= 2 * 3 * 12 * 2, "{tried} cells of {name}");
    }
    let mut word = [0; 8];
    ring.pread(&mut word, PAGE as u64)?;
    check_eq!(
        u64::from_ne_bytes(word),
        tag(7),
        "a word in a region that was not named"
    );
    Ok(())
}

fn module_file() -> Outcome<File> {
    let path = std::env::var("MAPBUF_MODULE").unwrap_or_else(|_| "/lib/modules/mapbuf.ko".into());
    File::open(&path).map_err(|error| Failure::new(format!("{path}: {error}")))
}

// A region's claim lives as long as its buffer: the name holds it, and whoever has it open or mapped.
fn names_taken_away_release_the_claims() -> Outcome {
    let text = fs::read_to_string("/sys/module/mapbuf/parameters/regions")?;
    let parameters = format!("regions={}", text.trim());
    let session = Session::open()?;
    let (node, bytes) = open("plain")?;
    let map = node.map(bytes, RW, SHARED, 0)?;
    map.set_u64(0, 9);
    session.unname("plain")?;
    drop(node);
    check!(
        iomem()?.contains("mapbuf plain"),
        "the claim of a mapped region is gone"
    );
    check_eq!(map.u64(0), 9, "the word in the mapping");
    drop(map);
    check!(
        !iomem()?.contains("mapbuf plain"),
        "the claim is still there"
    );
    let released = state(&find(&session, "plain")?);
    check_eq!(released, Some(RegionState::Released), "state");
    for name in ["ring", "uc", "wc", "big", "hole", "trusted", "dev", "gib"] {
        session.unname(name)?;
    }
    check!(
        !iomem()?.contains("mapbuf"),
        "claims are left: {}",
        iomem()?
    );
    drop(session);
    let mut unloaded = Ok(());
    until(Duration::from_secs(3), || {
        unloaded = sys::unload_module("mapbuf");
        unloaded != Err(Errno(libc::EWOULDBLOCK))
    });
    unloaded?;
    // A declaration that cannot be read: the log says where.
    let before = log()?.len();
    let file = module_file()?;
    let bad = "regions=ring:0x30000000:1M:ram,x:12:4K:ram";
    fails(sys::load_module(&file, bad), libc::EINVAL)?;
    let complaint = log()?
        .into_iter()
        .skip(before)
        .find(|line| line.contains("regions="));
    let complaint = complaint.unwrap_or_default();
    check!(
        complaint.contains("at byte 25") && complaint.contains("multiple of the page size"),
        "the log says {complaint:?}"
    );
    check!(
        !iomem()?.contains("mapbuf"),
        "claims of a refused module: {}",
        iomem()?
    );
    sys::load_module(&module_file()?, &parameters)?;
    check_eq!(regions(&Session::open()?)?.len(), 13, "regions");
    check!(iomem()?.contains("mapbuf plain"), "no claim after loading");
    Ok(())
}

// 2^32 pages, less the ids: 16380 GiB. A range costs a node of a tree, and no memory.
fn offsets_of_a_session_run_out() -> Outcome {
    const GIB: u64 = 1 << 30;
    let descriptor = Session::open_named("gib", true)?.export(0)?;
    let session = Session::open()?;
    let mut ids = Vec::new();
    let mut ranges = 0;
    let last = loop {
        let fd = descriptor.as_raw_fd();
        let imported = match session.import(fd, 0) {
            Ok(imported) => imported,
            Err(error) => break (Operation::Import, error),
        };
        ids.push(imported.id);
        ranges += 1;
        let methods = Method::ALL.iter().filter(|method| **method != Method::Auto);
        let mut all = methods.map(|method| session.offset(imported.id, *method));
        if let Some(Err(error)) = all.find_map(|result| match result {
            Ok(_) => {
                ranges += 1;
                None
            }
            error => Some(error),
        }) {
            break (Operation::Offset, error);
        }
    };
    let (operation, error) = last;
    refused::<()>(Err(error), operation, Reason::OffsetsFull, &[GIB])?;
    check_eq!(ranges, (1_u64 << 32) * PAGE as u64 / GIB - 4, "ranges");
    // What is given back is given out again.
    let id = ids[ids.len() / 2];
    session.free(id)?;
    let fd = descriptor.as_raw_fd();
    session.import(fd, id)?;
    Ok(())
}
