//! Every reason that exists is produced by a test.

use crate::check::{elsewhere, refused, Failure, Outcome};
use crate::session::Session;
use crate::sys::{limit_descriptors, PAGE};
use crate::{check, skip};
use mapbuf_abi::{Kind, Operation, Reason};
use std::fs;
use std::path::Path;

tests! { "reasons":
    STOCK, 20: [ export_without_a_free_descriptor, ordinary_buffers_are_not_probed ];
    REASONS, 10: [ every_reason_is_produced_by_a_test ];
}

/// The profile that is run.
pub const PROFILE: &str = "MAPBUF_TEST_PROFILE";

/// Set when only some tests are run.
pub const NOT_ALL: &str = "MAPBUF_TEST_NOT_ALL";

/// A file for each reason that was met; tests are processes of their own.
const MET: &str = "/tmp/mapbuf-reasons";

/// Notes that a test has produced this reason.
pub fn met(reason: Reason) {
    let path = Path::new(MET).join(reason.name());
    if path.exists() {
        return;
    }
    // Users make notes too. What cannot be noted is missed in the end.
    let _ = fs::create_dir(MET).and_then(|()| {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(MET, PermissionsExt::from_mode(0o777))
    });
    let _ = fs::write(path, "");
}

/// Reasons that take a machine with regions.
const BY_REGIONS: &[Reason] = &[
    Reason::UnalignedWrite,
    Reason::RegionIsRam,
    Reason::RegionTaken,
    Reason::RegionUnbacked,
    Reason::ProbeIsRisky,
    Reason::ProbeWritesDevice,
    Reason::RegionNameTaken,
    Reason::RegionUnmappable,
    Reason::ProbeWhileMapped,
    Reason::OffsetsFull,
];

/// Reasons that take a machine with more than one NUMA node.
const BY_NUMA: &[Reason] = &[Reason::NodeNotAllowed];

/// Reasons that take a kernel function which fails although nothing is wrong: see `rare`.
const BY_FAULT_INJECTION: &[Reason] = &[Reason::CacheRefused, Reason::KernelRefused];

/// Reasons that take a driver of another device: see `importers`.
const BY_IMPORTERS: &[Reason] = &[Reason::NoPagesForDevices];

/// Those that have to do with a bound device.
fn by_devices(reason: &Reason) -> bool {
    reason.number() / 100 == 7 && *reason != Reason::NeedsDevice
}

fn every_reason_is_produced_by_a_test() -> Outcome {
    if std::env::var_os(NOT_ALL).is_some() {
        skip!("only some of the tests are run");
    }
    // Each reason is asked for in one profile: an ordinary one, unless it is listed for another.
    let profile = std::env::var(PROFILE).unwrap_or_default();
    let asked_for = |reason: &Reason| match profile.as_str() {
        "regions" => BY_REGIONS.contains(reason),
        "numa" => BY_NUMA.contains(reason),
        "faults" => BY_FAULT_INJECTION.contains(reason),
        "devices" => by_devices(reason),
        "importers" | "importers-and-card" => BY_IMPORTERS.contains(reason),
        _ => {
            ![BY_REGIONS, BY_NUMA, BY_FAULT_INJECTION, BY_IMPORTERS]
                .concat()
                .contains(reason)
                && !by_devices(reason)
        }
    };
    let missing: Vec<_> = Reason::ALL
        .iter()
        .filter(|reason| asked_for(reason))
        .filter(|reason| !Path::new(MET).join(reason.name()).exists())
        .collect();
    check!(missing.is_empty(), "no test produces {missing:?}");
    Ok(())
}

fn export_without_a_free_descriptor() -> Outcome {
    let session = Session::open()?;
    let buffer = session.alloc(Kind::Pages, PAGE)?;
    elsewhere(|| {
        limit_descriptors(3)?;
        let result = session.export(buffer.id);
        refused(result, Operation::Export, Reason::NoDescriptor, &[])
    })?;
    // There was none left to note it with.
    met(Reason::NoDescriptor);
    Ok(())
}

fn ordinary_buffers_are_not_probed() -> Outcome {
    let session = Session::open()?;
    for kind in crate::session::KINDS {
        let buffer = session.alloc(kind, PAGE)?;
        let operands = [u64::from(kind.number())];
        for flags in [0, mapbuf_abi::probe::WRITE, mapbuf_abi::probe::RISK] {
            let result = session.probe(buffer.id, flags);
            refused(result, Operation::Probe, Reason::NotARegion, &operands)?;
        }
    }
    let result = session.probe(99, 0);
    refused(result, Operation::Probe, Reason::NoSuchId, &[99])
        .map_err(|_| Failure::new("an id that nobody has was probed"))
}
