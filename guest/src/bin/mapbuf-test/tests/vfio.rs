//! The yardstick: the driver for NVMe of `examples/nvme`, over VFIO.

use super::disks;
use crate::check::Outcome;
use crate::pci::{Function, EDU, NVME};
use crate::{check, check_eq, sys};
use mapbuf_guest::vfio::Vfio;
use mapbuf_nvme::{Disk, Function as _};
use std::process::Command;
use std::time::Duration;

tests! { "vfio":
    VFIO, 120: [
        nvme_moves_bytes_that_the_host_finds,
        stray_dma_is_stopped_and_named,
    ];
}

fn nvme_moves_bytes_that_the_host_finds() -> Outcome {
    let function = Function::find(NVME)?;
    function.give(Some("vfio-pci"))?;
    let disk = Disk::start(Vfio::open(&function.address)?)?;
    disks::moves_bytes_that_the_host_finds(disk)?;
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
            "blocked a DMA Write by {} at address 0x123000",
            function.address
        ))
    };
    let named = sys::until(Duration::from_secs(5), named);
    drop(edu);
    function.give(None)?;
    check!(named, "doctor says {said}");
    Ok(())
}
