//! Two NUMA nodes, and a cpuset that has one of them: memory comes from there and from nowhere else.

use super::devices::{device, Bound};
use super::limits::Group;
use crate::check::{elsewhere, refused, Failure, Outcome};
use crate::session::{alloc_request, Session, KINDS};
use crate::sys::{self, PAGE};
use crate::{check, check_eq};
use mapbuf_abi::{alloc, ioctl, Alloc, Kind, Operation, Reason, ANY_NODE, NEAR_DEVICE};
use std::fs;

tests! { "numa":
    NUMA, 60: [
        memory_comes_from_the_cpuset,
        node_outside_of_the_cpuset_is_refused,
        memory_comes_from_where_the_policy_binds,
        full_node_does_not_spill,
        memory_near_a_device_is_in_the_cpuset,
    ];
}

const MIB: usize = 1 << 20;

/// A cgroup whose processes have memory from this node alone.
fn cpuset(node: i32) -> Outcome<Group> {
    let group = Group::new(&format!("node-{node}"))?;
    let parent = std::path::Path::new(&group.0)
        .parent()
        .map(|path| path.join("cgroup.subtree_control"));
    fs::write(parent.unwrap_or_default(), "+cpuset")?;
    fs::write(format!("{}/cpuset.mems", group.0), node.to_string())?;
    Ok(group)
}

/// The node of a physical address: that of the last zone which begins at or before it.
fn node_of(address: u64) -> Outcome<i32> {
    let zones = fs::read_to_string("/proc/zoneinfo")?;
    let mut node = 0;
    let mut found = None;
    for line in zones.lines() {
        if let Some(rest) = line.strip_prefix("Node ") {
            let number = rest.split(',').next().unwrap_or_default();
            node = number
                .parse()
                .map_err(|_| Failure::new("a node has no number"))?;
        }
        let start = line.trim().strip_prefix("start_pfn:");
        let start: Option<u64> = start.and_then(|text| text.trim().parse().ok());
        // Zones without pages begin at 0.
        let start = start
            .filter(|start| *start > 0)
            .map(|start| start * PAGE as u64);
        if let Some(start) = start.filter(|start| *start <= address) {
            found = found.max(Some((start, node)));
        }
    }
    found
        .map(|(_, node)| node)
        .ok_or_else(|| Failure::new(format!("no zone has {address:#x}")))
}

/// That all of a buffer lies on a node.
fn lies_on(session: &Session, id: u32, node: i32, what: &str) -> Outcome {
    for row in session.segments(id)? {
        for address in [row.physical_address, row.physical_address + row.length - 1] {
            check_eq!(node_of(address)?, node, "{what}: the node of {address:#x}");
        }
    }
    Ok(())
}

/// Buffers of each kind, small ones and ones that are made in another way.
fn wanted() -> impl Iterator<Item = (Kind, usize)> {
    let sizes = |kind| match kind {
        Kind::Coherent => [PAGE, 2 * MIB],
        _ => [3 * PAGE, 8 * MIB],
    };
    KINDS
        .into_iter()
        .flat_map(move |kind| sizes(kind).into_iter().map(move |bytes| (kind, bytes)))
}

fn memory_comes_from_the_cpuset() -> Outcome {
    for node in [0, 1] {
        let group = cpuset(node)?;
        elsewhere(|| {
            group.enter()?;
            let session = Session::open()?;
            for (kind, bytes) in wanted() {
                let buffer = session.alloc(kind, bytes)?;
                lies_on(
                    &session,
                    buffer.id,
                    node,
                    &format!("{kind:?}, {bytes} bytes"),
                )?;
                session.free(buffer.id)?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn node_outside_of_the_cpuset_is_refused() -> Outcome {
    let on_node = |session: &Session, (kind, bytes), numa_node| {
        let request = Alloc {
            numa_node,
            ..alloc_request(kind, bytes as u64)
        };
        session.ioctl(ioctl::ALLOC, request)
    };
    let group = cpuset(0)?;
    for wanted in wanted().filter(|(kind, _)| *kind != Kind::Coherent) {
        let session = Session::open()?;
        let buffer = on_node(&session, wanted, 1)?;
        lies_on(&session, buffer.id, 1, "without a cpuset")?;
        elsewhere(|| {
            group.enter()?;
            // By way of a file that somebody opened who may: what counts is who asks.
            let result = on_node(&session, wanted, 1);
            refused(result, Operation::Alloc, Reason::NodeNotAllowed, &[1])?;
            let buffer = on_node(&session, wanted, 0)?;
            lies_on(&session, buffer.id, 0, "in the cpuset")?;
            let result = on_node(&session, wanted, 2);
            refused(result, Operation::Alloc, Reason::NoSuchNode, &[2])
        })?;
    }
    Ok(())
}

fn memory_comes_from_where_the_policy_binds() -> Outcome {
    for node in [0, 1] {
        elsewhere(|| {
            sys::bind_memory(node)?;
            let session = Session::open()?;
            // A coherent buffer is the device's, which has no policy.
            for (kind, bytes) in wanted().filter(|(kind, _)| *kind != Kind::Coherent) {
                let buffer = session.alloc(kind, bytes)?;
                let what = format!("{kind:?}, {bytes} bytes, by policy");
                lies_on(&session, buffer.id, node as i32, &what)?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

// Without `__GFP_HARDWALL` the page allocator goes on to other nodes when those of the cpuset are full
// (`cpuset_current_node_allowed` of kernel/cgroup/cpuset.c).
fn full_node_does_not_spill() -> Outcome {
    let group = cpuset(0)?;
    for kind in [Kind::Vmalloc, Kind::Pages] {
        elsewhere(|| {
            group.enter()?;
            let session = Session::open()?;
            let mut buffers = Vec::with_capacity(24);
            // A page fault on the full node would be the end of somebody.
            sys::lock_memory()?;
            // More than the node has; the driver's limits have room for it.
            for _ in 0..24 {
                match session.alloc(kind, 16 * MIB) {
                    Ok(buffer) => buffers.push(buffer.id),
                    Err(refusal) => {
                        let said = refusal
                            .said
                            .and_then(|said| Reason::from_number(said.reason));
                        check_eq!(said, Some(Reason::OutOfMemory), "the refusal");
                        break;
                    }
                }
            }
            check!(buffers.len() < 24, "{kind:?}: the node was never full");
            check!(buffers.len() > 4, "{kind:?}: {} buffers", buffers.len());
            buffers
                .iter()
                .try_for_each(|id| lies_on(&session, *id, 0, &format!("{kind:?}")))
        })?;
    }
    Ok(())
}

// The DMA API asks for memory on the device's node, and goes on to others (`__dma_direct_alloc_pages` of kernel/dma/direct.c,
// `__iommu_dma_alloc_pages` of drivers/iommu/dma-iommu.c).
fn memory_near_a_device_is_in_the_cpuset() -> Outcome {
    let bound = Bound::edu()?;
    check_eq!(device(&bound.open()?)?.numa_node, 1, "the device's node");
    let near = |session: &Session, (kind, bytes), numa_node, flags| {
        let request = Alloc {
            flags,
            numa_node,
            ..alloc_request(kind, bytes as u64)
        };
        session.ioctl(ioctl::ALLOC, request)
    };
    for node in [0, 1] {
        let group = cpuset(node)?;
        elsewhere(|| {
            group.enter()?;
            let session = bound.open()?;
            for (kind, bytes) in wanted() {
                for flags in [0, alloc::FOR_DEVICE] {
                    let what = format!("{kind:?}, {bytes} bytes, flags {flags}, near");
                    let result = near(&session, (kind, bytes), NEAR_DEVICE, flags);
                    if node == 0 && kind != Kind::Coherent {
                        let operation = Operation::Alloc;
                        refused(result, operation, Reason::NodeNotAllowed, &[1])?;
                    } else {
                        lies_on(&session, result?.id, node, &what)?;
                    }
                    let buffer = near(&session, (kind, bytes), ANY_NODE, flags)?;
                    lies_on(&session, buffer.id, node, &what)?;
                    session.free(buffer.id)?;
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}
