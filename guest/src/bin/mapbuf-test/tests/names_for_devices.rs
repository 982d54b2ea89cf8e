//! Named buffers that are for a device: by the driver's interface, and by the command.

use super::attached::{device_rows, set_mask};
use super::devices::{device, Bound};
use super::registers::{bar, set_master};
use crate::check::{dies_of, elsewhere, refused, Failure, Outcome};
use crate::session::{alloc_request, named_path, Session};
use crate::sys::{become_user, Map, PAGE, RW, SHARED};
use crate::{check, check_eq};
use mapbuf_abi::{
    alloc, ioctl, sync, traits, Alloc, Cache, Direction, Iommu, Kind, Operation, Reason, Sync,
    ADDRESS_HIDDEN,
};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

tests! { "names_for_devices":
    DEVICES, 60: [
        name_keeps_the_addresses_until_it_is_removed,
        name_goes_with_the_device,
        nothing_is_named_while_the_device_goes,
        address_is_shown_to_writers_behind_an_iommu,
        command_makes_shows_and_removes_a_dma_buffer,
        command_says_what_is_wrong_with_a_dma_buffer,
    ];
}

const NAME: &str = "for-a-device";

fn for_device(session: &Session, kind: Kind, bytes: usize) -> Outcome<Alloc> {
    let request = Alloc {
        flags: alloc::FOR_DEVICE,
        ..alloc_request(kind, bytes as u64)
    };
    Ok(session.ioctl(ioctl::ALLOC, request)?)
}

/// Has `edu` write four bytes of its own memory to an address, after they were read from another.
fn copy(registers: &Map, from: u64, to: u64) {
    const OWN: u64 = 0x40000;
    const START: u64 = 1;
    const OUT: u64 = 2;
    for (source, destination, way) in [(from, OWN, 0), (OWN, to, OUT)] {
        registers.set_u64(0x80, source);
        registers.set_u64(0x88, destination);
        registers.set_u64(0x90, 4);
        registers.set_u64(0x98, START | way);
        while registers.u64(0x98) & START != 0 {
            thread::yield_now();
        }
    }
}

fn sync_request(session: &Session, id: u32) -> Result<(), crate::session::Refused> {
    let request = Sync {
        size: size_of::<Sync>() as u32,
        flags: sync::BEGIN,
        id,
        direction: Direction::Both as u32,
        length: 1,
        ..Default::default()
    };
    session.ioctl(ioctl::SYNC, request).map(drop)
}

fn name_keeps_the_addresses_until_it_is_removed() -> Outcome {
    for kind in [Kind::Pages, Kind::Vmalloc, Kind::Contiguous, Kind::Coherent] {
        let bound = Bound::edu()?;
        let session = bound.open()?;
        set_mask(&session, 28)?;
        let buffer = for_device(&session, kind, 3 * PAGE)?;
        let told = session.info(buffer.id)?;
        let rows = device_rows(&session, buffer.id, 9)?.0;
        session.name(buffer.id, NAME, 0o600)?;
        session.free(buffer.id)?;
        drop(session);
        let node = Session::open_named(NAME, true)?;
        let info = node.info(0)?;
        check_eq!(info.dma_address, told.dma_address, "{kind:?}: address");
        check_eq!(info.traits, told.traits, "{kind:?}: traits");
        check!(info.traits & traits::ATTACHED != 0, "{kind:?}: {info:?}");
        let again = device_rows(&node, 0, 9)?.0;
        check_eq!(again, rows, "{kind:?}: runs");
        sync_request(&node, 0)?;
        // Whoever drives the device has it write there.
        let driver = bound.open()?;
        let registers = bar(&driver, 0, Cache::Uncached, 0)?;
        let registers = driver.map(1 << 20, RW, SHARED, registers.mmap_offset)?;
        set_master(&driver)?;
        let map = node.map(3 * PAGE, RW, SHARED, 0)?;
        map.set_u32(0, 0xaabb_ccdd);
        let last = again.last().ok_or_else(|| Failure::new("no run"))?;
        copy(
            &registers,
            info.dma_address,
            last.dma_address + last.length - 4,
        );
        check_eq!(
            map.u32(3 * PAGE - 4),
            0xaabb_ccdd,
            "{kind:?}: by the device"
        );
        driver.unname(NAME)?;
        check!(!named_path(NAME).exists(), "{kind:?}: the node is there");
        map.set_u32(0, 7);
        if kind != Kind::Coherent {
            let info = node.info(0)?;
            check_eq!(info.dma_address, ADDRESS_HIDDEN, "{kind:?}: without a name");
            check_eq!(info.traits, traits::PINNABLE, "{kind:?}: without a name");
            let result = device_rows(&node, 0, 1);
            refused(result, Operation::Segments, Reason::NotAttached, &[0])?;
            refused(
                sync_request(&node, 0),
                Operation::Sync,
                Reason::NotAttached,
                &[0],
            )?;
            // Nothing is left that would keep the mask.
            set_mask(&driver, 27)?;
        }
        check_eq!(map.u32(0), 7, "{kind:?}: for who has it mapped");
    }
    // A buffer that is for no device has nothing to sync with one.
    let system = Session::open()?;
    let buffer = system.alloc(Kind::Pages, PAGE)?;
    system.name(buffer.id, NAME, 0o600)?;
    let node = Session::open_named(NAME, true)?;
    system.unname(NAME)?;
    let result = sync_request(&node, 0);
    let operation = [u64::from(Operation::Sync.number())];
    refused(result, Operation::Sync, Reason::NeedsDevice, &operation)
}

fn name_goes_with_the_device() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    let pages = for_device(&session, Kind::Pages, PAGE)?;
    let coherent = session.alloc(Kind::Coherent, PAGE)?;
    let own = session.alloc(Kind::Pages, PAGE)?;
    session.name(pages.id, "pages-of-it", 0o600)?;
    session.name(coherent.id, "coherent-of-it", 0o600)?;
    session.name(own.id, "nothing-of-it", 0o600)?;
    drop(session);
    let open = |name| -> Outcome<(Session, Map)> {
        let node = Session::open_named(name, true)?;
        let map = node.map(PAGE, RW, SHARED, 0)?;
        map.set_u32(0, 0x1357);
        Ok((node, map))
    };
    let (pages, by_pages) = open("pages-of-it")?;
    let (coherent, by_coherent) = open("coherent-of-it")?;
    let (_, by_own) = open("nothing-of-it")?;
    bound.unbind()?;
    for name in ["pages-of-it", "coherent-of-it"] {
        check!(!named_path(name).exists(), "the node {name} is there");
        let shown = format!("/sys/class/mapbuf/named!{name}");
        check!(!Path::new(&shown).exists(), "{shown} is there");
    }
    dies_of(libc::SIGBUS, || assert_eq!(by_coherent.u32(0), 0))?;
    let result = coherent.pread(&mut [0; 4], 0);
    refused(result, Operation::Read, Reason::DeviceGone, &[])?;
    for node in [&pages, &coherent] {
        check_eq!(node.info(0)?.dma_address, ADDRESS_HIDDEN, "no address");
        refused(
            sync_request(node, 0),
            Operation::Sync,
            Reason::DeviceGone,
            &[],
        )?;
    }
    // Memory that is not the device's stays with who has it.
    check_eq!(by_pages.u32(0), 0x1357, "pages");
    check_eq!(by_own.u32(0), 0x1357, "pages that the device never had");
    check!(
        named_path("nothing-of-it").exists(),
        "the other name is gone"
    );
    let again = Bound::edu()?;
    let session = again.open()?;
    session.unname("nothing-of-it")?;
    for (kind, name) in [
        (Kind::Pages, "coherent-of-it"),
        (Kind::Coherent, "pages-of-it"),
    ] {
        let buffer = for_device(&session, kind, PAGE)?;
        session.name(buffer.id, name, 0o600)?;
        let node = Session::open_named(name, true)?;
        let map = node.map(PAGE, RW, SHARED, 0)?;
        check_eq!(map.u32(0), 0, "{name}, named again");
    }
    again.unbind()?;
    check!(!named_path("pages-of-it").exists(), "it is still there");
    Ok(())
}

fn nothing_is_named_while_the_device_goes() -> Outcome {
    for round in 0..20 {
        let bound = Bound::edu()?;
        let going = AtomicBool::new(false);
        let session = bound.open()?;
        let named = thread::scope(|scope| {
            let (session, going) = (session.for_another_thread(), &going);
            let names = scope.spawn(move || {
                let mut named = 0;
                while !going.load(Relaxed) {
                    let Ok(buffer) = for_device(&session, Kind::Coherent, PAGE) else {
                        continue;
                    };
                    match session.name(buffer.id, NAME, 0o600) {
                        Ok(()) => named += 1,
                        Err(error) => {
                            let reason =
                                error.said.and_then(|said| Reason::from_number(said.reason));
                            check_eq!(reason, Some(Reason::DeviceGone), "the refusal");
                        }
                    }
                    session.free(buffer.id)?;
                    // It may be gone already.
                    let _ = session.unname(NAME);
                }
                Ok(named)
            });
            thread::sleep(std::time::Duration::from_micros(700 * round));
            let unbound = bound.unbind();
            going.store(true, Relaxed);
            let named = names
                .join()
                .map_err(|_| Failure::new("a thread panicked"))??;
            unbound?;
            Ok::<u32, Failure>(named)
        })?;
        check!(
            !named_path(NAME).exists(),
            "round {round}, {named} names: one is left"
        );
    }
    Ok(())
}

fn address_is_shown_to_writers_behind_an_iommu() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    let translated = device(&session)?.iommu == Iommu::Translated.number();
    for kind in [Kind::Pages, Kind::Coherent] {
        let buffer = for_device(&session, kind, PAGE)?;
        session.name(buffer.id, NAME, 0o666)?;
        elsewhere(|| {
            become_user(1000, 1000)?;
            for write in [true, false] {
                let node = Session::open_named(NAME, write)?;
                let shown = node.info(0)?.dma_address != ADDRESS_HIDDEN;
                check_eq!(shown, translated && write, "{kind:?}, for writing: {write}");
                let row = device_rows(&node, 0, 1)?.0;
                let shown = row.iter().any(|row| row.dma_address != ADDRESS_HIDDEN);
                check_eq!(shown, translated && write, "{kind:?}: {row:x?}");
            }
            let shown = fs::read(format!("/sys/class/mapbuf/named!{NAME}/dma_address"));
            check!(shown.is_err(), "{kind:?}: sysfs shows {shown:?}");
            Ok(())
        })?;
        session.unname(NAME)?;
    }
    Ok(())
}

fn run(words: &str) -> Outcome<Output> {
    Ok(Command::new("mapbuf").args(words.split(' ')).output()?)
}

/// What the command says, when it ends with this code.
fn said(words: &str, code: i32) -> Outcome<String> {
    let output = run(words)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = text(&output.stdout) + &text(&output.stderr);
    check_eq!(output.status.code(), Some(code), "mapbuf {words}: {said}");
    Ok(said)
}

fn json(words: &str) -> Outcome<Value> {
    let output = run(&format!("{words} --json"))?;
    serde_json::from_slice(&output.stdout)
        .map_err(|error| Failure::new(format!("mapbuf {words}: {error}: {output:?}")))
}

fn has(said: &str, words: &[&str]) -> Outcome {
    for word in words {
        check!(said.contains(word), "no `{word}` in {said}");
    }
    Ok(())
}

fn command_makes_shows_and_removes_a_dma_buffer() -> Outcome {
    let edu = crate::pci::Function::find(crate::pci::EDU)?.address;
    let short = edu.trim_start_matches("0000:");
    said(&format!("bind {edu} --yes"), 0)?;
    let told = said(
        &format!("create {NAME} --device {short} --size 64K --below 256M"),
        0,
    )?;
    has(
        &told,
        &[
            "64 KiB of pages memory",
            "DMA address 0x",
            &format!("for {edu}"),
        ],
    )?;
    let info = json(&format!("info {NAME}"))?;
    check_eq!(info["for_device"], edu.as_str(), "the device in {info}");
    check_eq!(info["pinnable"], true, "pinnable in {info}");
    let address = info["dma_address"].as_str().unwrap_or_default();
    let number = u64::from_str_radix(address.trim_start_matches("0x"), 16);
    let number = number.map_err(|_| Failure::new(format!("no address in {info}")))?;
    check!(number < 256 << 20, "{number:#x} is too high");
    let runs = info["device_segments"].as_array().map_or(0, Vec::len);
    check!(runs > 0, "no runs for the device in {info}");
    let shown = said(&format!("info {NAME}"), 0)?;
    has(
        &shown,
        &[
            &format!("DMA address: {address}, for {edu}"),
            "pinnable: yes",
            "runs for the device: ",
        ],
    )?;
    let listed = said("list", 0)?;
    has(&listed, &[&format!("{address} for {edu}")])?;
    let list = json("list")?;
    check_eq!(list["buffers"][0]["for_device"], edu.as_str(), "in {list}");
    check_eq!(list["buffers"][0]["dma_address"], address, "in {list}");
    // There is no page cache that O_DIRECT would bypass, which is no reason to refuse it.
    let node = named_path(NAME);
    fs::write("/root/64K", [0x5a; 64 << 10])?;
    for (from, to) in [
        ("/root/64K", node.to_str().unwrap_or_default()),
        (node.to_str().unwrap_or_default(), "/root/back"),
    ] {
        let direct = if from.starts_with("/dev") {
            "iflag=direct"
        } else {
            "oflag=direct"
        };
        let output = Command::new("dd")
            .args([
                &format!("if={from}"),
                &format!("of={to}"),
                "bs=4k",
                "count=16",
                direct,
            ])
            .output()?;
        check!(output.status.success(), "dd {direct}: {output:?}");
    }
    check!(
        fs::read("/root/back")? == [0x5a; 64 << 10],
        "dd read other bytes"
    );
    has(&said(&format!("remove {NAME}"), 0)?, &["removed"])?;
    said(
        &format!("create {NAME} --device {edu} --kind coherent --size 4K --mode 0600"),
        0,
    )?;
    let info = json(&format!("info {NAME}"))?;
    check_eq!(info["pinnable"], false, "coherent memory in {info}");
    has(
        &said(&format!("unbind {edu}"), 0)?,
        &[&format!("{NAME}: removed")],
    )?;
    said(&format!("info {NAME}"), 3)?;
    check!(!named_path(NAME).exists(), "the node is there");
    Ok(())
}

fn command_says_what_is_wrong_with_a_dma_buffer() -> Outcome {
    let edu = crate::pci::Function::find(crate::pci::EDU)?.address;
    let make = |rest: &str| format!("create {NAME} --device {edu} --size {rest}");
    has(
        &said(&make("4K"), 1)?,
        &["not bound to mapbuf", &format!("mapbuf bind {edu}")],
    )?;
    has(
        &said(&format!("create {NAME} --device 0000:7f:00.0 --size 4K"), 3)?,
        &["there is no PCI device"],
    )?;
    has(
        &said(&format!("create {NAME} --device 1:00 --size 4K"), 2)?,
        &["lspci -D"],
    )?;
    has(
        &said(&format!("create {NAME} --device edu --size 4K"), 3)?,
        &["no such platform device", "0000:00:04.0"],
    )?;
    has(&said(&format!("create {NAME} --size 4K"), 2)?, &["--kind"])?;
    has(
        &said(
            &format!("create {NAME} --kind pages --size 4K --numa-node device"),
            2,
        )?,
        &["--device"],
    )?;
    said(&format!("bind {edu} --yes"), 0)?;
    let outcome = (|| {
        has(&said(&make("1M --below 64K"), 1)?, &["PlacementRefused"])?;
        has(&said(&make("4K --below 1"), 1)?, &["PlacementInvalid"])?;
        has(&said(&make("4K --align 3K"), 2)?, &["power of 2"])?;
        has(&said(&make("4K --kind region"), 2)?, &["region"])?;
        // There is not so much.
        has(&said(&make("512G"), 1)?, &["Limit"])?;
        let bound = Bound(edu.clone());
        let translated = device(&bound.open()?)?.iommu == Iommu::Translated.number();
        std::mem::forget(bound);
        elsewhere(|| {
            become_user(1000, 1000)?;
            has(&said(&make("4K"), 4)?, &["its mode does not allow it"])
        })?;
        let node = format!("/dev/mapbuf/pci-{edu}");
        fs::set_permissions(&node, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
        elsewhere(|| {
            become_user(1000, 1000)?;
            match translated {
                true => {
                    said(&make("4K"), 0)?;
                    let shown = said(&format!("info {NAME}"), 0)?;
                    has(&shown, &["DMA address: 0x"])
                }
                false => has(
                    &said(&make("4K"), 4)?,
                    &["DeviceNotIsolated", "CAP_SYS_RAWIO"],
                ),
            }
        })
    })();
    said(&format!("unbind {edu}"), 0)?;
    outcome
}
