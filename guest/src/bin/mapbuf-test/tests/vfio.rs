//! The yardstick: the driver for NVMe of `examples/nvme`, over VFIO.

use crate::check::{Failure, Outcome};
use crate::pci::{ask, Function, EDU, NVME};
use crate::{check, check_eq, sys};
use mapbuf_guest::vfio::Vfio;
use mapbuf_init::ask::Ask;
use mapbuf_nvme::{Disk, Function as _, Memory};
use std::process::Command;
use std::time::Duration;

tests! { "vfio":
    VFIO, 120: [
        nvme_moves_bytes_that_the_host_finds,
        stray_dma_is_stopped_and_named,
    ];
}

impl From<mapbuf_nvme::Error> for Failure {
    #[track_caller]
    fn from(error: mapbuf_nvme::Error) -> Self {
        Self::new(error)
    }
}

/// Bytes that are those of no other place, nor of the same place with another salt.
fn bytes(salt: u64, count: usize) -> Vec<u8> {
    (0..count as u64 / 8)
        .flat_map(|at| ((at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ salt << 56).to_le_bytes())
        .collect()
}

fn nvme_moves_bytes_that_the_host_finds() -> Outcome {
    let function = Function::find(NVME)?;
    function.give(Some("vfio-pci"))?;
    let mut disk = Disk::start(Vfio::open(&function.address)?)?;
    let identity = disk.identity().clone();
    check_eq!(identity.serial, "mapbuf", "serial number");
    check_eq!(
        identity.blocks * identity.block_bytes as u64,
        64 << 20,
        "bytes of the disk"
    );
    let block = identity.block_bytes as u64;
    // One block, a page, two, and so many that there is a list; some begin within a page.
    for (salt, (offset, count)) in (1..).zip([
        (0, 512),
        (0, 4096),
        (512, 8192),
        (0x1e00, 0x400),
        (4096, 64 << 10),
        (1024, 128 << 10),
    ]) {
        let memory = disk.memory(offset + count)?;
        let at = salt << 20;
        let out = bytes(salt, count);
        memory.write(offset, &out)?;
        disk.write(at / block, &memory, offset, count)?;
        disk.flush()?;
        let found = ask(&Ask::Read {
            device: "nvme".into(),
            offset: at,
            bytes: count,
        })?;
        check!(found == out, "{count} bytes: the host finds others");
        let other = bytes(salt + 100, count);
        ask(&Ask::Write {
            device: "nvme".into(),
            offset: at,
            contents: other.clone(),
        })?;
        disk.read(at / block, &memory, offset, count)?;
        let mut read = vec![0; count];
        memory.read(offset, &mut read)?;
        check!(read == other, "{count} bytes: the host wrote others");
    }
    disk.stop()?;
    function.give(None)?;
    check_eq!(
        function.driver().as_deref(),
        Some("nvme"),
        "its driver again"
    );
    Ok(())
}

fn stray_dma_is_stopped_and_named() -> Outcome {
    let function = Function::find(EDU)?;
    function.give(Some("vfio-pci"))?;
    let edu = Vfio::open(&function.address)?;
    // From its own memory to where nothing was mapped for it.
    for (register, value) in [(0x80, 0x40000), (0x88, 0x12_3000), (0x90, 64), (0x98, 0b11)] {
        edu.store(register, value)?;
    }
    let done = || edu.load(0x98).is_ok_and(|command| command & 1 == 0);
    check!(
        sys::until(Duration::from_secs(10), done),
        "its DMA does not end"
    );
    let mut said = String::new();
    let named = || {
        let doctor = Command::new("mapbuf")
            .args(["doctor", "--device", &function.address])
            .output();
        said = doctor.map_or_else(
            |error| error.to_string(),
            |output| String::from_utf8_lossy(&output.stdout).into_owned(),
        );
        said.contains(&format!(
            "stopped a DMA Write of {} at address 0x123000",
            function.address
        ))
    };
    let named = sys::until(Duration::from_secs(5), named);
    drop(edu);
    function.give(None)?;
    check!(named, "doctor says {said}");
    Ok(())
}
