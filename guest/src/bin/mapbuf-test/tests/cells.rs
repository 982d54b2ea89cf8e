//! What must map, and what the kernel forces to be refused: a list that was written by hand from the kernel's sources.
//! The driver's own table of rules is no party to it, so that the two cannot be wrong in the same way.

use crate::check::{refused, Failure, Outcome};
use crate::session::{alloc_request, Refused, Session};
use crate::sys::{Map, PAGE, PRIVATE, READ, RW, SHARED};
use crate::{check, check_eq};
use mapbuf_abi::{ioctl, Alloc, Cache, Kind, Method, Operation, Reason};
use std::os::fd::AsRawFd;

tests! { "cells":
    STOCK, 60: [
        list_maps_every_method_and_kind,
        memory_maps_by_the_methods_of_the_list,
        uncached_memory_has_no_private_copies,
    ];
    REGIONS, 60: [ regions_map_by_the_methods_of_the_list ];
}

/// What comes of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cell {
    Maps,
    /// With this reason, because of this place in the kernel.
    Refused(Reason, &'static str),
}

use Cell::{Maps as YES, Refused as No};

// Each call maps one run of frames, counted on from the first one.
const RUN: Cell = No(Reason::NeedsOneRun, "mm/memory.c, remap_pte_range");
// A page is inserted with a reference to its folio, which this memory has not.
const PAGE_: Cell = No(
    Reason::NeedsPages,
    "mm/memory.c, validate_page_before_insert",
);
const AREA: Cell = No(
    Reason::NeedsVmalloc,
    "mm/vmalloc.c, remap_vmalloc_range_partial",
);
const DMA: Cell = No(
    Reason::NeedsCoherent,
    "kernel/dma/direct.c, dma_direct_mmap",
);
// Single pages are no folio of 2 MiB.
const HUGE: Cell = No(Reason::NothingHuge, "mm/memory.c, do_set_pmd");
// A copy-on-write mapping is one call for the whole VMA.
const COW: Cell = No(Reason::CowNeedsContiguous, "mm/memory.c, get_remap_pgoff");
// BUG_ON for copy-on-write.
const FAULT: Cell = No(Reason::CowAtFault, "mm/memory.c, vmf_insert_pfn_prot");

/// Columns of the list: scattered pages, folios of 2 MiB that are not one run, one run of 4 MiB with pages, one of
/// DMA-coherent memory, one of a region.
const KINDS: [Kind; 5] = [
    Kind::Vmalloc,
    Kind::Pages,
    Kind::Contiguous,
    Kind::Coherent,
    Kind::Region,
];

/// Shared; `PROT_READ` and private is the same.
#[rustfmt::skip]
const SHARED_LIST: [(Method, [Cell; 5]); 12] = [
    //                     vmalloc pages  contig. coher. region
    (Method::Auto,        [YES,    YES,   YES,    YES,   YES]),
    (Method::Remap,       [RUN,    RUN,   YES,    YES,   YES]),
    (Method::RemapEach,   [YES,    YES,   YES,    YES,   YES]),
    (Method::Insert,      [YES,    YES,   YES,    PAGE_, PAGE_]),
    (Method::MapPages,    [YES,    YES,   YES,    PAGE_, PAGE_]),
    (Method::Vmalloc,     [YES,    AREA,  AREA,   AREA,  AREA]),
    (Method::Dma,         [DMA,    DMA,   DMA,    YES,   DMA]),
    (Method::Iomap,       [RUN,    RUN,   YES,    YES,   YES]),
    (Method::IoRemap,     [RUN,    RUN,   YES,    YES,   YES]),
    (Method::FaultPage,   [YES,    YES,   YES,    PAGE_, PAGE_]),
    (Method::FaultPfn,    [YES,    YES,   YES,    YES,   YES]),
    (Method::FaultHuge,   [HUGE,   YES,   YES,    YES,   YES]),
];

/// Private and writable, by root.
#[rustfmt::skip]
const PRIVATE_LIST: [(Method, [Cell; 5]); 12] = [
    //                     vmalloc pages  contig. coher. region
    (Method::Auto,        [YES,    YES,   YES,    YES,   YES]),
    (Method::Remap,       [RUN,    RUN,   YES,    YES,   YES]),
    (Method::RemapEach,   [COW,    COW,   COW,    COW,   COW]),
    (Method::Insert,      [YES,    YES,   YES,    PAGE_, PAGE_]),
    (Method::MapPages,    [YES,    YES,   YES,    PAGE_, PAGE_]),
    (Method::Vmalloc,     [YES,    AREA,  AREA,   AREA,  AREA]),
    (Method::Dma,         [DMA,    DMA,   DMA,    YES,   DMA]),
    (Method::Iomap,       [RUN,    RUN,   YES,    YES,   YES]),
    (Method::IoRemap,     [RUN,    RUN,   YES,    YES,   YES]),
    (Method::FaultPage,   [YES,    YES,   YES,    PAGE_, PAGE_]),
    (Method::FaultPfn,    [FAULT,  FAULT, FAULT,  FAULT, FAULT]),
    (Method::FaultHuge,   [HUGE,   YES,   FAULT,  FAULT, FAULT]),
];

/// A list that allows nothing would be kept by a driver that does nothing.
fn list_maps_every_method_and_kind() -> Outcome {
    let mut by_kind = [0; 5];
    for &method in Method::ALL {
        let row = SHARED_LIST.iter().find(|row| row.0 == method);
        let (_, cells) = row.ok_or_else(|| Failure::new(format!("no row for {method:?}")))?;
        check!(cells.contains(&YES), "{method:?} maps nothing");
        for (count, cell) in by_kind.iter_mut().zip(cells) {
            *count += u32::from(*cell == YES);
        }
    }
    for (kind, count) in KINDS.iter().zip(by_kind) {
        check!(count >= 2, "{kind:?} maps by {count} methods");
    }
    for (_, cells) in SHARED_LIST.iter().chain(&PRIVATE_LIST) {
        for cell in cells {
            if let No(reason, place) = cell {
                let told = reason.text().kernel;
                check!(
                    told.contains(place),
                    "{reason:?} tells of {told}, must be {place}"
                );
            }
        }
    }
    Ok(())
}

/// That a mapping has the buffer's bytes, at its ends and in its middle.
fn shows(session: &Session, map: &Map, offset: u64, private: bool, what: &str) -> Outcome {
    for (number, at) in [0, map.len / 2 - 8, map.len / 2, map.len - 8]
        .into_iter()
        .enumerate()
    {
        let mark = 0x5a00 + number as u64;
        session.pwrite(&mark.to_ne_bytes(), offset + at as u64)?;
        check_eq!(map.u64(at), mark, "{what}: byte {at:#x}");
        if private {
            map.set_u64(at, !mark);
            let mut bytes = [0; 8];
            session.pread(&mut bytes, offset + at as u64)?;
            check_eq!(
                u64::from_ne_bytes(bytes),
                mark,
                "{what}: the buffer's own byte {at:#x}"
            );
            check_eq!(map.u64(at), !mark, "{what}: the copy of byte {at:#x}");
        }
    }
    Ok(())
}

/// Tries a column of both lists with a buffer that the session has, at all of its bytes.
fn column(session: &Session, kind: Kind, id: u32, offset: u64, bytes: usize) -> Outcome {
    let number = KINDS.iter().position(|listed| *listed == kind);
    let number = number.ok_or_else(|| Failure::new("no such column"))?;
    let ways = [
        (SHARED_LIST, RW, SHARED),
        (SHARED_LIST, READ, PRIVATE),
        (PRIVATE_LIST, RW, PRIVATE),
    ];
    for (list, prot, flags) in ways {
        for (method, cells) in list {
            let what = format!("{kind:?} by {method:?}, prot {prot}, flags {flags}");
            let at = session.offset(id, method)?;
            let result = session.map(bytes, prot, flags, at);
            match cells[number] {
                Cell::Maps => {
                    let map = result.map_err(|error| Failure::new(format!("{what}: {error}")))?;
                    shows(session, &map, offset, prot == RW && flags == PRIVATE, &what)?;
                }
                Cell::Refused(reason, _) => refused(result, Operation::Mmap, reason, &[])
                    .map_err(|error| Failure::new(format!("{what}: {error:?}")))?,
            }
        }
    }
    Ok(())
}

/// A buffer of a kind that is several runs, or one.
fn buffer(session: &Session, kind: Kind, bytes: usize) -> Outcome<Alloc> {
    let one = !matches!(kind, Kind::Vmalloc | Kind::Pages);
    for _ in 0..16 {
        let buffer = session.alloc(kind, bytes)?;
        if (session.segments(buffer.id)?.len() == 1) == one {
            return Ok(buffer);
        }
        // What lies side by side by chance is kept, so that the next one lies elsewhere.
        session.alloc(Kind::Pages, 3 * PAGE)?;
    }
    Err(Failure::new(format!(
        "{kind:?}: the memory lies as it must not"
    )))
}

fn memory_maps_by_the_methods_of_the_list() -> Outcome {
    // Two folios of 2 MiB, and a page.
    const SCATTERED: usize = (4 << 20) + PAGE;
    let session = Session::open()?;
    for (kind, bytes) in [
        (Kind::Vmalloc, SCATTERED),
        (Kind::Pages, SCATTERED),
        (Kind::Contiguous, 4 << 20),
        (Kind::Coherent, 4 << 20),
    ] {
        let buffer = buffer(&session, kind, bytes)?;
        column(&session, kind, buffer.id, buffer.mmap_offset, bytes)?;
    }
    Ok(())
}

fn regions_map_by_the_methods_of_the_list() -> Outcome {
    let descriptor = Session::open_named("big", true)?.export(0)?;
    let session = Session::open()?;
    let region = session.import(descriptor.as_raw_fd(), 0)?;
    let bytes = region.bytes as usize;
    column(&session, Kind::Region, region.id, region.mmap_offset, bytes)
}

// wp_page_copy (mm/memory.c) gives the copy, an ordinary page, the protection of the VMA.
fn uncached_memory_has_no_private_copies() -> Outcome {
    let session = Session::open()?;
    for kind in [Kind::Vmalloc, Kind::Pages, Kind::Contiguous] {
        for cache in [Cache::WriteCombined, Cache::Uncached] {
            let mut request = alloc_request(kind, 4 << 20);
            request.cache = cache.number();
            let buffer = session.ioctl(ioctl::ALLOC, request)?;
            for &method in Method::ALL {
                let offset = session.offset(buffer.id, method)?;
                let result: Result<Map, Refused> = session.map(4 << 20, RW, PRIVATE, offset);
                let operands = [u64::from(cache.number())];
                refused(result, Operation::Mmap, Reason::CowNeedsCached, &operands)?;
            }
            session.free(buffer.id)?;
        }
    }
    Ok(())
}
