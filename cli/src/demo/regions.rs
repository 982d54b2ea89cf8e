//! Reserved physical ranges: both views agree, and a range that nothing answers is found out.

use super::{
    kinds::word,
    scene::{Demo, Outcome},
};
use mapbuf::{
    Access, Cache, Device, MapOptions, Mapping, Named, Reason, RegionInfo, RegionState, RegionType,
};
use std::fs;

/// How one would have one: for the hints.
const HINT: &str = "reserve a range (x86: memmap=2M$0x30000000) and load with regions=ring:0x30000000:1M:ram:probe";

/// Only regions that were declared with `probe` are written to; what was there is put back.
pub fn both_views(demo: &mut Demo) -> Outcome {
    let regions = Device::open()?.regions()?;
    for region in &regions {
        let RegionInfo { name, state, .. } = region;
        demo.stage.line(&format!(
            "   {name}: {} of {}, {}",
            mapbuf::abi::explain::Bytes(region.bytes),
            region.class.name(),
            state.name()
        ));
    }
    let mut shown = false;
    for region in &regions {
        let backed = region.state == RegionState::Backed && region.class == RegionType::Ram;
        if !backed {
            continue;
        }
        let node = Named::open(&region.name)?;
        if node.info()?.mappings > 0 {
            continue;
        }
        shown = true;
        let held = agree(&node)?;
        let text = format!(
            "region {}, {}: written here and read there, and the other way round",
            region.name,
            region.cache.name()
        );
        demo.check(&["A8"], held, &text);
        let claimed = fs::read_to_string("/proc/iomem")
            .is_ok_and(|iomem| iomem.contains(&format!("mapbuf {}", region.name)));
        demo.check(&["A8"], claimed, "its claim stands in /proc/iomem");
        if region.cache == Cache::Cached {
            // Without pages of its own, it is copied by its one run.
            let copy = MapOptions::new().private().map(&node);
            demo.check(
                &["A8"],
                copy.is_ok(),
                "private and writable as well, by root",
            );
        }
    }
    if !shown {
        demo.not_yet(
            "A8",
            &format!("there is no region that may be written to; {HINT}"),
        );
    }
    Ok(())
}

/// Whether a mapping of a region and the kernel's own view show the same bytes, both ways, in every page.
fn agree(node: &Named) -> mapbuf::Result<bool> {
    let page = rustix::param::page_size();
    let mapping = node.map()?;
    let mut held = true;
    for number in 0..mapping.len() / page {
        let at = number * page;
        let before = mapping.read::<u64>(at)?;
        held &= agree_at(node, &mapping, at, word(0xa8, number))?;
        mapping.write(at, before)?;
    }
    Ok(held)
}

fn agree_at(node: &Named, mapping: &Mapping, at: usize, word: u32) -> mapbuf::Result<bool> {
    let (word, mut bytes) = (u64::from(word), [0; 8]);
    mapping.write(at, word)?;
    node.read_at(at as u64, &mut bytes)?;
    let seen = u64::from_ne_bytes(bytes) == word;
    node.write_at(at as u64, &(!word).to_ne_bytes())?;
    Ok(seen && mapping.read::<u64>(at)? == !word)
}

pub fn nothing_there(demo: &mut Demo) -> Outcome {
    let regions = Device::open()?.regions()?;
    let holes: Vec<_> = regions
        .iter()
        .filter(|region| region.state == RegionState::Unbacked)
        .collect();
    let Some(hole) = holes.first() else {
        demo.not_yet(
            "A9",
            &format!("there is no region with nothing behind it; {HINT}"),
        );
        return Ok(());
    };
    let text = format!(
        "region {}: what the probe wrote did not stay, so it is listed as {}",
        hole.name,
        hole.state.name()
    );
    demo.check(&["A9"], true, &text);
    let node = Named::open_with(&hole.name, Access::ReadWrite)?;
    let refused = node.map().err();
    let reason = refused.as_ref().and_then(mapbuf::Error::reason);
    if let Some(error) = &refused {
        demo.stage.refusal("map it", error);
        demo.stage.line("");
    }
    demo.check(
        &["A9"],
        reason == Some(Reason::RegionUnbacked),
        "mmap is refused, and says so: RegionUnbacked",
    );
    // Anybody who reads the log finds it there.
    let line = format!("region {}: {}", hole.name, hole.state.name());
    let told = log().is_some_and(|log| log.contains(&line));
    demo.check(
        &["A9"],
        told,
        "the kernel's log tells it when the driver is loaded",
    );
    let quiet = regions
        .iter()
        .filter(|region| region.class == RegionType::Mmio)
        .all(|region| region.state == RegionState::Unprobed);
    demo.check(
        &["A9"],
        quiet,
        "no device's memory was read to find that out",
    );
    Ok(())
}

/// The kernel's log, as far as it can be read without waiting.
fn log() -> Option<String> {
    use std::{io::Read, os::unix::fs::OpenOptionsExt};
    let mut file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().try_into().ok()?)
        .open("/dev/kmsg")
        .ok()?;
    let mut log = String::new();
    let mut record = [0; 8192];
    // A record a read, until there is none; one that was overwritten meanwhile is passed over.
    loop {
        match file.read(&mut record) {
            Ok(count) => log.push_str(&String::from_utf8_lossy(&record[..count])),
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            Err(_) => return Some(log),
        }
    }
}
