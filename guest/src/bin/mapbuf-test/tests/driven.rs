//! Devices that programs drive over mapbuf: the examples, and what the host sees of it.

use super::disks;
use crate::check::{Failure, Outcome};
use crate::pci::{Function, EDU, NVME};
use crate::{check, check_eq, skip, sys};
use mapbuf::{Direction, IrqKind, Kind};
use mapbuf_edu::{address_of, Edu, OWN_BYTES};
use mapbuf_nvme::{platform::Bound, Disk};
use std::process::Command;
use std::time::Duration;

tests! { "driven":
    DEVICES, 120: [
        edu_computes_and_interrupts,
        edu_copies_both_ways_below_its_mask,
        stray_dma_is_stopped_and_named,
        nvme_moves_bytes_that_the_host_finds,
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
