//! PCI devices that programs drive, and that come and go.

use crate::check::Outcome;
use crate::pci::{ask, Function, EDU, NVME};
use crate::{check, check_eq, skip};
use mapbuf_init::ask::Ask;
use std::time::Duration;

tests! { "plugging":
    DEVICES, 120: [
        machine_has_its_devices,
        host_pulls_a_device_out_and_puts_it_back,
        host_sees_what_a_disk_was_told,
    ];
}

/// The class of bridges between PCI buses, whatever their interface.
const BRIDGE: &str = "0x0604";

fn behind_iommu() -> Outcome<bool> {
    Ok(std::fs::read_to_string("/proc/cmdline")?.contains("intel_iommu=on"))
}

fn machine_has_its_devices() -> Outcome {
    if behind_iommu()? && !std::fs::exists("/sys/class/iommu/dmar0")? {
        skip!("the kernel cannot use an IOMMU");
    }
    for ids in [EDU, NVME] {
        let function = Function::find(ids)?;
        let group = std::fs::read_link(function.file("iommu_group")).ok();
        check_eq!(group.is_some(), behind_iommu()?, "{ids:?} has a group");
        if group.is_some() {
            // A port that does not keep apart what is behind it is a member too (`pci_device_group` of
            // `drivers/iommu/iommu.c`).
            let mut members = 0;
            for member in std::fs::read_dir(function.file("iommu_group/devices"))? {
                let class = std::fs::read_to_string(member?.path().join("class"))?;
                members += usize::from(!class.starts_with(BRIDGE));
            }
            check_eq!(members, 1, "devices in the group of {ids:?}");
        }
    }
    Ok(())
}

fn host_pulls_a_device_out_and_puts_it_back() -> Outcome {
    if !std::fs::exists("/sys/bus/pci/slots")?
        || std::fs::read_dir("/sys/bus/pci/slots")?.count() == 0
    {
        skip!("the kernel cannot lose a PCI device");
    }
    let edu = Function::find(EDU)?;
    ask(&Ask::Unplug("edu".into()))?;
    ask(&Ask::AwaitUnplugged("edu".into()))?;
    check_eq!(Function::all(EDU)?, [], "what is there without it");
    ask(&Ask::Plug("edu".into()))?;
    let back = || Function::find(EDU).is_ok();
    check!(
        crate::sys::until(Duration::from_secs(20), back),
        "it does not come back"
    );
    check_eq!(Function::find(EDU)?, edu, "where it is again");
    check!(
        ask(&Ask::Unplug("fax".into())).is_err(),
        "a device that there is not can be pulled out"
    );
    Ok(())
}

fn host_sees_what_a_disk_was_told() -> Outcome {
    let contents: Vec<u8> = (0..4096_u32).map(|at| (at * 7 + at / 256) as u8).collect();
    ask(&Ask::Write {
        device: "nvme".into(),
        offset: 1 << 20,
        contents: contents.clone(),
    })?;
    let disk = crate::disk::open()?;
    let map = crate::sys::Map::anonymous(4096)?;
    let moved = crate::sys::pread_mapped(&disk, &map, 0, 4096, 1 << 20)?;
    check_eq!(moved, 4096, "bytes read");
    check!(
        map.bytes(0, 4096) == contents,
        "the disk has other bytes than the host wrote"
    );
    Ok(())
}
