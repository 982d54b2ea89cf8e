//! `mapbuf bind` and `unbind`, with any driver to give a device to.

use crate::check::{Failure, Outcome};
use crate::disk;
use crate::pci::{Function, EDU, NVME};
use crate::sys::{self, swap_off, swap_on};
use crate::{check, check_eq};
use serde_json::Value;
use std::process::Command;
use std::time::Duration;

tests! { "bind":
    VFIO, 60: [
        device_goes_to_a_driver_and_comes_back,
        nothing_is_done_unasked,
        disk_that_the_system_uses_stays,
        doctor_says_what_is_in_the_way,
    ];
}

/// Runs the command; its exit code, and what it said.
fn mapbuf(words: &[&str]) -> Outcome<(Option<i32>, String, String)> {
    let output = Command::new("mapbuf").args(words).output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    ))
}

fn bind(function: &Function, more: &[&str]) -> Outcome<(Option<i32>, String, String)> {
    let words = ["bind", "--driver", "vfio-pci", &function.address];
    mapbuf(&[&words, more].concat())
}

fn unbind(function: &Function) -> Outcome<(Option<i32>, String, String)> {
    mapbuf(&["unbind", "--driver", "vfio-pci", &function.address])
}

fn device_goes_to_a_driver_and_comes_back() -> Outcome {
    // One that a driver has, and one that none has.
    for (ids, former) in [(NVME, Some("nvme")), (EDU, None)] {
        let function = Function::find(ids)?;
        check_eq!(function.driver().as_deref(), former, "driver of {ids:?}");
        let (code, said, complained) = bind(&function, &["--yes"])?;
        check_eq!(code, Some(0), "bind says {said}{complained}");
        for word in [&function.address, "driver now", "IOMMU group", "bar0"] {
            check!(said.contains(word), "no `{word}` in {said}");
        }
        check_eq!(function.driver().as_deref(), Some("vfio-pci"), "bound");
        let (code, said, complained) = unbind(&function)?;
        check_eq!(code, Some(0), "unbind says {said}{complained}");
        check_eq!(function.driver().as_deref(), former, "given back");
        check_eq!(
            function.read("driver_override"),
            "(null)",
            "whose it may be"
        );
    }
    let map = sys::Map::anonymous(4096)?;
    sys::pread_mapped(&disk::open()?, &map, 0, 4096, 0)?;
    Ok(())
}

fn nothing_is_done_unasked() -> Outcome {
    let function = Function::find(NVME)?;
    let (code, _, complained) = bind(&function, &[])?;
    check_eq!(code, Some(2), "without anybody to ask: {complained}");
    check!(complained.contains("--yes"), "it says {complained}");
    let (code, said, _) = bind(&function, &["--dry-run", "--json"])?;
    check_eq!(code, Some(0), "a dry run");
    let plan: Value = serde_json::from_str(&said).map_err(Failure::new)?;
    check_eq!(plan["driver"], "nvme", "its driver in {plan}");
    check_eq!(plan["done"], false, "whether it is done in {plan}");
    check_eq!(plan["bars"][0]["bytes"], 16384, "BAR 0 in {plan}");
    check_eq!(plan["interrupts"]["msix"], 65, "interrupts in {plan}");
    check_eq!(function.driver().as_deref(), Some("nvme"), "its driver");
    let (code, ..) = unbind(&function)?;
    check_eq!(code, Some(1), "unbind from a driver that does not have it");
    let (code, ..) = mapbuf(&["bind", "0000:7f:00.0", "--yes"])?;
    check_eq!(code, Some(3), "a device that is not there");
    let (code, ..) = mapbuf(&["bind", "nvme0n1", "--yes"])?;
    check_eq!(code, Some(2), "no address");
    Ok(())
}

fn disk_that_the_system_uses_stays() -> Outcome {
    let function = Function::find(NVME)?;
    drop(disk::open()?);
    let made = Command::new("mkswap").arg(disk::DEVICE).output()?;
    check!(made.status.success(), "mkswap: {made:?}");
    swap_on(disk::DEVICE)?;
    let refused = bind(&function, &["--yes", "--json"]);
    let driver = function.driver();
    swap_off(disk::DEVICE)?;
    let (code, said, complained) = refused?;
    check_eq!(code, Some(1), "bind of a disk with swap: {complained}");
    check!(said.contains("swapoff /dev/nvme0n1"), "it says {said}");
    check_eq!(driver.as_deref(), Some("nvme"), "its driver");
    let bridge = Function::all(["0x1b36", "0x000c"])?;
    let bridge = bridge.first().ok_or(Failure::new("no root port"))?;
    let (code, _, complained) = bind(bridge, &["--yes"])?;
    check_eq!(code, Some(1), "bind of a bridge: {complained}");
    let again = || bind(&function, &["--dry-run"]).is_ok_and(|(code, ..)| code == Some(0));
    check!(
        sys::until(Duration::from_secs(5), again),
        "it is not free again"
    );
    Ok(())
}

fn doctor_says_what_is_in_the_way() -> Outcome {
    let bridge = Function::all(["0x1b36", "0x000c"])?;
    let bridge = bridge.first().ok_or(Failure::new("no root port"))?;
    let (code, said, _) = mapbuf(&["doctor", "--device", &bridge.address])?;
    check_eq!(code, Some(1), "doctor says {said}");
    check!(said.contains("it is a bridge"), "doctor says {said}");
    Ok(())
}
