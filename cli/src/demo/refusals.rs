//! Refusals happen in `mmap`, carry their reason, and leave nothing behind.

use super::{
    frames::mapped_ranges,
    scene::{Demo, Outcome},
};
use mapbuf::{Access, CoreRefusal, Device, Error, Kind, MapOptions, Mapping, Reason};

/// What is tried, what came of it, and whether that is the refusal that it should be.
type Case = (&'static str, mapbuf::Result<Mapping>, fn(&Error) -> bool);

pub fn scene(demo: &mut Demo) -> Outcome {
    let page = rustix::param::page_size();
    let device = Device::open()?;
    let read_only = Device::open_with(device.path(), Access::ReadOnly)?;
    let buffer = device.alloc(Kind::Vmalloc, 16 * page as u64)?;
    // Right behind it among the offsets, so that whoever passes the end has something to hit.
    let _neighbour = device.alloc(Kind::Vmalloc, 16 * page as u64)?;
    let before = mapped_ranges();

    let too_long = MapOptions::new()
        .offset(page as u64)
        .len(16 * page)
        .map(&buffer);
    if let Err(error) = &too_long {
        demo.stage.refusal(
            "map 16 pages of a buffer of 16 pages, from its second page on",
            error,
        );
        demo.stage.line("");
    }
    let by_id = u64::from(buffer.id()) * page as u64;
    let all = MapOptions::new();
    let cases: [Case; 6] = [
        ("one page too long", too_long, |error| {
            error.reason() == Some(Reason::BeyondEnd)
        }),
        (
            "one page too long, by the id",
            device.map_at(by_id, 17 * page, &all),
            |error| error.reason() == Some(Reason::BeyondEnd),
        ),
        (
            "an offset that is nobody's",
            device.map_at(u64::from(u32::MAX) * page as u64, page, &all),
            |error| error.reason() == Some(Reason::NothingAtOffset),
        ),
        ("no bytes at all", device.map_at(by_id, 0, &all), |error| {
            error.core_refusal() == Some(&CoreRefusal::ZeroLength)
        }),
        (
            "within a page",
            device.map_at(by_id + 1, page, &all),
            |error| {
                matches!(
                    error.core_refusal(),
                    Some(CoreRefusal::UnalignedOffset { .. })
                )
            },
        ),
        (
            "for writing, by a read-only open",
            read_only.map_at(by_id, page, &all.clone().read_write()),
            |error| error.core_refusal() == Some(&CoreRefusal::SharedWriteOfReadOnlyOpen),
        ),
    ];
    for (what, result, expected) in &cases {
        let (held, reason) = match result {
            Ok(_) => (false, "it was mapped".to_owned()),
            Err(error) => (expected(error), short(error)),
        };
        demo.check(&["B7"], held, &format!("{what}: {reason}"));
    }
    drop(cases);
    demo.check(
        &["B7"],
        mapped_ranges() == before,
        "/proc/self/maps is as it was: nothing half-done stays",
    );
    Ok(())
}

/// An error in a few words.
fn short(error: &Error) -> String {
    match (error.refusal(), error.core_refusal()) {
        (Some(refusal), _) => format!("{}, by the driver", refusal.reason.name()),
        (_, Some(refusal)) => format!("the kernel: {refusal}"),
        _ => error.to_string(),
    }
}
