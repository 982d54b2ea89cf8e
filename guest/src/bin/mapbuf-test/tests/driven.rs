//! Devices that programs drive over mapbuf: the examples, and what the host sees of it.

use super::disks;
use crate::check::{Failure, Outcome};
use crate::disk::{Fixed, Way};
use crate::pci::{ask, Function, EDU, NVME};
use crate::{check, check_eq, skip, sys};
use mapbuf::{CoreRefusal, Direction, IrqKind, Kind};
use mapbuf_edu::{address_of, Edu, OWN_BYTES};
use mapbuf_init::ask::Ask;
use mapbuf_nvme::{platform::Bound, Disk};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::time::Duration;

tests! { "driven":
    DEVICES, 120: [
        edu_computes_and_interrupts,
        edu_copies_both_ways_below_its_mask,
        stray_dma_is_stopped_and_named,
        nvme_moves_bytes_that_the_host_finds,
        one_buffer_goes_from_disk_to_disk,
        program_copies_from_disk_to_disk,
        disk_reaches_the_end_of_a_gibibyte,
        list_shows_the_device,
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

fn stray_dma_is_stopped_and_named() -> Outcome {
    if !std::fs::exists("/sys/class/iommu/dmar0")? {
        skip!("no IOMMU is there to stop it");
    }
    let given = Given::new(EDU)?;
    let edu = Edu::open(&given.0.address, IrqKind::Msi)?;
    edu.store(0xdea_d000, 64)?;
    let mut said = String::new();
    let named = sys::until(Duration::from_secs(5), || {
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
    let frames = mapbuf::Device::open_pci(&given.0.address)?
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
