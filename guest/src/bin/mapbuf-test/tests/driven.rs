//! Devices that programs drive over mapbuf: the examples, and what the host sees of it.

use super::disks;
use crate::check::{Failure, Outcome};
use crate::disk::{Fixed, Way};
use crate::pci::{ask, Function, EDU, NVME};
use crate::sys::PAGE;
use crate::{check, check_eq, skip, sys};
use mapbuf::{CoreRefusal, Device, Direction, IrqKind, Kind};
use mapbuf_edu::{address_of, Edu, OWN_BYTES};
use mapbuf_init::ask::Ask;
use mapbuf_nvme::{command, platform::Bound, Disk, Memory};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::time::Duration;

tests! { "driven":
    DEVICES, 120: [
        edu_computes_and_interrupts,
        edu_copies_both_ways_below_its_mask,
        host_finds_the_bytes_at_the_device_s_address,
        stray_dma_is_stopped_and_named,
        nvme_moves_bytes_that_the_host_finds,
        nvme_is_pulled_out_with_32_requests_in_flight,
        one_buffer_goes_from_disk_to_disk,
        program_copies_from_disk_to_disk,
        disk_reaches_the_end_of_a_gibibyte,
        list_shows_the_device,
    ];
    SCALABLE, 200: [
        iommu_is_in_scalable_mode,
        host_finds_the_bytes_at_the_device_s_address,
        edu_copies_both_ways_below_its_mask,
    ];
}

/// A device that mapbuf has, until the test is over.
struct Given(Function);

impl Given {
    fn new(ids: [&str; 2]) -> Outcome<Self> {
        if !std::fs::exists("/sys/bus/pci/drivers/mapbuf")? {
            skip!("the driver takes no PCI devices yet");
        }
        let function = Function::find(ids)?;
        function.give(Some("mapbuf"))?;
        Ok(Self(function))
    }

    /// One that the host puts in now. QEMU may keep the image of a disk that was pulled out in the middle of its work, so such
    /// a disk is not put back.
    fn plugged(device: &str, ids: [&str; 2]) -> Outcome<Self> {
        let before = Function::all(ids)?;
        ask(&Ask::Plug(device.into()))?;
        let mut new = None;
        sys::until(Duration::from_secs(20), || {
            let all = Function::all(ids).unwrap_or_default();
            new = all.into_iter().find(|function| !before.contains(function));
            new.is_some()
        });
        let function = new.ok_or_else(|| Failure::new(format!("{device} does not come")))?;
        function.give(Some("mapbuf"))?;
        Ok(Self(function))
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        // The next test says it if this fails.
        let _ = self.0.give(None);
    }
}

impl From<Box<dyn std::error::Error>> for Failure {
    #[track_caller]
    fn from(error: Box<dyn std::error::Error>) -> Self {
        Self::new(error)
    }
}

impl From<mapbuf::Error> for Failure {
    #[track_caller]
    fn from(error: mapbuf::Error) -> Self {
        Self::new(error)
    }
}

fn edu_computes_and_interrupts() -> Outcome {
    let given = Given::new(EDU)?;
    for kind in [IrqKind::Msi, IrqKind::Intx] {
        let edu = Edu::open(&given.0.address, kind)?;
        check_eq!(edu.identification()? & 0xffff, 0xed, "what it says it is");
        // Each waits for an interrupt of its own.
        for (number, product) in [(1, 1), (5, 120), (10, 3_628_800)] {
            check_eq!(edu.factorial(number)?, product, "{number}! with {kind:?}");
        }
    }
    Ok(())
}

fn edu_copies_both_ways_below_its_mask() -> Outcome {
    let given = Given::new(EDU)?;
    let edu = Edu::open(&given.0.address, IrqKind::Msi)?;
    for kind in [Kind::Coherent, Kind::Pages, Kind::Vmalloc] {
        let buffer = edu.device().alloc(kind, 2 * OWN_BYTES as u64)?;
        if kind != Kind::Coherent {
            buffer.attach(Direction::Both)?;
        }
        let runs = buffer.device_segments()?;
        let address = |offset: u64| {
            let run = runs
                .iter()
                .find(|run| (run.offset..run.offset + run.length).contains(&offset));
            run.map(|run| run.dma_address + (offset - run.offset))
        };
        let [from, to] = [0, OWN_BYTES as u64].map(address);
        let (Some(from), Some(to)) = (from, to) else {
            return Err(Failure::new(format!(
                "{kind:?}: {runs:?} are not all of it"
            )));
        };
        check_eq!(
            from,
            address_of(&buffer)?,
            "{kind:?}: the first byte's address"
        );
        check!(
            (from | to) >> 28 == 0,
            "{kind:?}: {from:#x} and {to:#x} are beyond 28 bits"
        );
        let sent: Vec<u8> = (0..OWN_BYTES)
            .map(|at| (at * 31 + at / 251) as u8)
            .collect();
        let memory = buffer.map()?;
        memory.copy_in(0, &sent)?;
        let all = 0..2 * OWN_BYTES as u64;
        buffer.sync_end(all.clone(), Direction::Both)?;
        edu.fetch(from, OWN_BYTES)?;
        edu.store(to, OWN_BYTES)?;
        buffer.sync_begin(all, Direction::Both)?;
        let mut came = vec![0; OWN_BYTES];
        memory.copy_out(OWN_BYTES, &mut came)?;
        check!(came == sent, "{kind:?}: other bytes came back");
    }
    Ok(())
}

/// The register that says where the root table is, and in bits 11 and 10 of which sort (VT-d specification, 11.4.5).
const RTADDR: u64 = 0xfed9_0020;

fn iommu_is_in_scalable_mode() -> Outcome {
    let register = ask(&Ask::Physical {
        address: RTADDR,
        bytes: 8,
    })?;
    let register = register.try_into().map_or(0, u64::from_le_bytes);
    check_eq!(register >> 10 & 0b11, 1, "sort of {register:#x}");
    Ok(())
}

/// The host looks from outside: it walks the IOMMU's own tables in the machine's memory, and asks nobody in the guest.
fn host_finds_the_bytes_at_the_device_s_address() -> Outcome {
    const PAGES: u64 = 600;
    const BYTES: usize = 16;
    let translated = std::fs::exists("/sys/class/iommu/dmar0")?;
    let given = Given::new(EDU)?;
    let device = Device::open_pci(&given.0.address)?;
    let dma = |address| {
        ask(&Ask::Dma {
            function: given.0.address.clone(),
            address,
            bytes: BYTES,
        })
    };
    let mut different = false;
    for kind in [Kind::Coherent, Kind::Pages, Kind::Vmalloc, Kind::Contiguous] {
        let buffer = device.alloc(kind, PAGES * PAGE as u64)?;
        if kind != Kind::Coherent {
            buffer.attach(Direction::Both)?;
        }
        let memory = buffer.map()?;
        let looked_at = [0, 1, 2, 255, 511, 512, 513, PAGES - 1];
        let word = |page: u64| (page + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ kind as u64;
        for page in looked_at {
            let at = page as usize * PAGE;
            memory.write::<u64>(at, word(page))?;
            memory.write::<u64>(at + 8, !word(page))?;
        }
        buffer.sync_end(0..PAGES * PAGE as u64, Direction::Both)?;
        let (theirs, ours) = (buffer.device_segments()?, buffer.segments()?);
        let mut last = 0;
        for page in looked_at {
            let offset = page * PAGE as u64;
            let run = |runs: &[mapbuf::Segment]| {
                let run = runs.iter().rfind(|run| run.offset <= offset);
                run.map(|run| (*run, offset - run.offset))
            };
            let (Some((their, skip)), Some((our, skip_ours))) = (run(&theirs), run(&ours)) else {
                return Err(Failure::new(format!("{kind:?}: no run has page {page}")));
            };
            let address = their.dma_address + skip;
            let physical = our.physical_address + skip_ours;
            let expected = [word(page), !word(page)].map(u64::to_le_bytes).concat();
            let what = format!("{kind:?}, page {page}, at {address:#x}");
            check_eq!(dma(address)?, expected, "{what}: what the device finds");
            let found = ask(&Ask::Physical {
                address: physical,
                bytes: BYTES,
            })?;
            check_eq!(found, expected, "{what}: what lies at {physical:#x}");
            different |= address != physical;
            last = address;
        }
        if kind != Kind::Coherent {
            buffer.detach()?;
            check_eq!(dma(last).is_err(), translated, "{kind:?}: gone by DETACH");
            // What the device only writes, it cannot read.
            let address = buffer.attach(Direction::FromDevice)?;
            check_eq!(dma(address).is_err(), translated, "{kind:?}: one way");
            buffer.detach()?;
            last = buffer.attach(Direction::ToDevice)?;
            check!(dma(last).is_ok(), "{kind:?}: the other way");
        }
        drop(memory);
        buffer.free()?;
        check_eq!(dma(last).is_err(), translated, "{kind:?}: gone by FREE");
    }
    check_eq!(
        different,
        translated,
        "addresses are others than the physical ones"
    );
    Ok(())
}

fn stray_dma_is_stopped_and_named() -> Outcome {
    if !std::fs::exists("/sys/class/iommu/dmar0")? {
        skip!("no IOMMU is there to stop it");
    }
    let given = Given::new(EDU)?;
    let edu = Edu::open(&given.0.address, IrqKind::Msi)?;
    let mut said = String::new();
    // The kernel tells of ten lines in five seconds (`dmar_fault` of `drivers/iommu/intel/dmar.c`), of this and other tests.
    let named = sys::until(Duration::from_secs(20), || {
        if let Err(error) = edu.store(0xdea_d000, 64) {
            said = error.to_string();
            return false;
        }
        let doctor = Command::new("mapbuf")
            .args(["doctor", "--device", &given.0.address])
            .output();
        said = doctor.map_or_else(
            |error| error.to_string(),
            |output| String::from_utf8_lossy(&output.stdout).into_owned(),
        );
        said.contains(&format!(
            "blocked a DMA Write by {} at address 0xdead000",
            given.0.address
        ))
    });
    check!(named, "doctor says {said}");
    Ok(())
}

fn nvme_moves_bytes_that_the_host_finds() -> Outcome {
    let given = Given::new(NVME)?;
    disks::moves_bytes_that_the_host_finds(Disk::start(Bound::open(&given.0.address)?)?)
}

/// As `device_del`: the guest is asked to let go, in the middle of all of it.
fn nvme_is_pulled_out_with_32_requests_in_flight() -> Outcome {
    const DEPTH: usize = 32;
    mapbuf::survive_removal()?;
    let given = Given::plugged("spare", NVME)?;
    let mut disk = Disk::start(Bound::open(&given.0.address)?)?;
    let block = disk.identity().block_bytes;
    let memory = disk.memory(DEPTH * PAGE)?;
    let mut answers = 0_u64;
    let mut work = || -> mapbuf_nvme::Result<()> {
        let mut next = 0;
        let mut submit = |disk: &mut Disk<Bound>| {
            let opcode = [command::READ, command::WRITE][next % 2];
            let at = next % DEPTH * PAGE;
            next += 1;
            disk.submit(opcode, (at / block) as u64, &memory, at, PAGE)
        };
        for _ in 0..DEPTH {
            submit(&mut disk)?;
        }
        disk.ring()?;
        loop {
            disk.wait()?;
            answers += 1;
            submit(&mut disk)?;
            disk.ring()?;
        }
    };
    let (end, pulled) = std::thread::scope(|scope| {
        let pulls = scope.spawn(|| {
            ask(&Ask::Unplug("spare".into()))?;
            ask(&Ask::AwaitUnplugged("spare".into()))
        });
        let end = work();
        let pulled = pulls
            .join()
            .unwrap_or_else(|_| Err(Failure::new("panicked")));
        (end, pulled)
    });
    pulled?;
    let why = end.err().map(|error| error.to_string()).unwrap_or_default();
    check!(
        why.contains("the device was unbound from the driver, or removed"),
        "after {answers} answers it ends with: {why}"
    );
    check!(answers > 0, "it was gone before it did anything");
    // All that is left of it is held by nobody but this.
    let result = memory.read(0, &mut [0; 8]);
    drop((disk, memory, given));
    result?;
    Ok(())
}

/// The disk that the kernel has, by its node and by the host's name for it.
const KEPT: (&str, &str) = ("/dev/vda", "virtio-blk-pci");

fn kept_disk() -> Outcome<File> {
    if !std::fs::exists("/sys/module/virtio_blk")? {
        skip!("the kernel has no driver for virtio's disks");
    }
    let open = || {
        OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_DIRECT)
            .open(KEPT.0)
    };
    let mut disk = open();
    sys::until(Duration::from_secs(20), || {
        disk = open();
        disk.is_ok()
    });
    Ok(disk?)
}

fn host_has(device: &str, offset: u64, contents: &[u8], what: &str) -> Outcome {
    let device = device.to_owned();
    let bytes = contents.len();
    let found = ask(&Ask::Read {
        device,
        offset,
        bytes,
    })?;
    check!(found == contents, "{what}: the host finds others");
    Ok(())
}

// One disk's own DMA fills the buffer, and another one takes it from there: by O_DIRECT, and as io_uring's fixed buffer.
fn one_buffer_goes_from_disk_to_disk() -> Outcome {
    const BYTES: usize = 1 << 20;
    let given = Given::new(NVME)?;
    let other = kept_disk()?;
    let contents = disks::bytes(11, BYTES);
    ask(&Ask::Write {
        device: "nvme".into(),
        offset: 2 << 20,
        contents: contents.clone(),
    })?;
    let mut disk = Disk::start(Bound::open(&given.0.address)?)?;
    let memory = disk.memory(BYTES)?;
    let (block, piece) = (disk.identity().block_bytes, disk.identity().most_bytes);
    let block_at = |byte: usize| ((2 << 20) + byte as u64) / block as u64;
    for at in (0..BYTES).step_by(piece) {
        disk.read(block_at(at), &memory, at, piece.min(BYTES - at))?;
    }
    let mapping = memory.mapping();
    check_eq!(
        mapping.write_to(0, BYTES, &other, 0)?,
        BYTES,
        "bytes by O_DIRECT"
    );
    host_has(KEPT.1, 0, &contents, "O_DIRECT")?;
    if let Some(fixed) = Fixed::of(mapping)? {
        let moved = fixed?.transfer(Way::ToDisk, &other, 0, BYTES, 4 << 20)?;
        check_eq!(moved, BYTES as i32, "bytes by io_uring");
        host_has(KEPT.1, 4 << 20, &contents, "io_uring")?;
    }
    // And back, with other bytes.
    let back = disks::bytes(12, BYTES);
    ask(&Ask::Write {
        device: KEPT.1.into(),
        offset: 8 << 20,
        contents: back.clone(),
    })?;
    check_eq!(
        mapping.read_from(0, BYTES, &other, 8 << 20)?,
        BYTES,
        "bytes by O_DIRECT"
    );
    for at in (0..BYTES).step_by(piece) {
        disk.write(block_at(at), &memory, at, piece.min(BYTES - at))?;
    }
    disk.flush()?;
    host_has("nvme", 2 << 20, &back, "back")?;
    // Coherent memory of the same device has no pages to give.
    let frames = Device::open_pci(&given.0.address)?
        .alloc(Kind::Coherent, 4096)?
        .map()?;
    let refused = frames.write_to(0, 4096, &other, 0);
    let why = refused
        .as_ref()
        .err()
        .and_then(|error| error.core_refusal());
    check_eq!(why, Some(&CoreRefusal::NoPages), "{refused:?}");
    Ok(())
}

// So much on a running machine, without a reservation; the last page gets its bytes from the disk.
fn disk_reaches_the_end_of_a_gibibyte() -> Outcome {
    const BYTES: usize = 1 << 30;
    const END: usize = BYTES - 4096;
    let given = Given::new(NVME)?;
    let contents = disks::bytes(14, 4096);
    ask(&Ask::Write {
        device: "nvme".into(),
        offset: 6 << 20,
        contents: contents.clone(),
    })?;
    let mut disk = Disk::start(Bound::open(&given.0.address)?)?;
    let memory = disk.memory(BYTES)?;
    let block = (6 << 20) / disk.identity().block_bytes as u64;
    disk.read(block, &memory, END, 4096)?;
    let mut found = vec![0; 4096];
    memory.mapping().copy_out(END, &mut found)?;
    check!(found == contents, "other bytes at the end");
    memory.mapping().copy_out(END - 4096, &mut found)?;
    check!(found == [0; 4096], "bytes before them");
    Ok(())
}

fn program_copies_from_disk_to_disk() -> Outcome {
    const BYTES: usize = 300 << 10;
    let given = Given::new(NVME)?;
    drop(kept_disk()?);
    let contents = disks::bytes(13, BYTES);
    ask(&Ask::Write {
        device: "nvme".into(),
        offset: 4 << 20,
        contents: contents.clone(),
    })?;
    let (first, count) = ((4 << 20) / 512, BYTES / 512);
    let nvme = |words: &[&str]| {
        Command::new("nvme")
            .arg(&given.0.address)
            .args(words)
            .output()
    };
    let copied = nvme(&["copy", &first.to_string(), &count.to_string(), KEPT.0])?;
    check!(copied.status.success(), "{copied:?}");
    host_has(KEPT.1, 0, &contents, "nvme copy")?;
    let nowhere = nvme(&["copy", "0", "1", "/dev/null/there"])?;
    check_eq!(nowhere.status.code(), Some(1), "{nowhere:?}");
    let said = String::from_utf8_lossy(&nowhere.stderr).into_owned();
    check!(said.contains("/dev/null/there"), "it says {said}");
    Ok(())
}

fn list_shows_the_device() -> Outcome {
    let given = Given::new(EDU)?;
    let output = Command::new("mapbuf").args(["list", "--json"]).output()?;
    let list: serde_json::Value = serde_json::from_slice(&output.stdout).map_err(Failure::new)?;
    let device = &list["devices"][0];
    check_eq!(device["device"], given.0.address, "the device in {list}");
    check_eq!(device["bars"][0]["bytes"], 1 << 20, "BAR 0 in {list}");
    check_eq!(device["interrupts"]["msi"], 1, "messages in {list}");
    Ok(())
}
