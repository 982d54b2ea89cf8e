//! From one page to a gigabyte, and what happens to a size that cannot be had.

use super::lifetime::comes_to;
use crate::check::{elsewhere, refused, Failure, Outcome};
use crate::proc::{meminfo, Parameter};
use crate::session::{Refused, Session, KINDS};
use crate::sys::{until, Map, PAGE, PRIVATE, READ, RW, SHARED};
use crate::{check, check_eq};
use mapbuf_abi::{Alloc, Kind, Operation, Reason};
use std::time::Duration;

tests! { "sizes":
    BOTH, 30: [
        four_kibibytes_of_each_kind,
        odd_sizes_of_each_kind,
    ];
    STOCK, 90: [
        gibibyte_of_scattered_memory,
        gibibyte_of_contiguous_memory_without_cma_works_or_says_why_not,
        gibibyte_of_coherent_memory_without_cma_says_why_not,
        contiguous_memory_needs_a_place,
        more_than_the_machine_has_is_refused,
        nearly_all_of_the_machine_is_refused_or_given,
        far_more_than_any_machine_has_is_refused,
    ];
    CMA, 90: [
        gibibyte_of_contiguous_memory_from_cma,
        gibibyte_of_coherent_memory_from_cma,
        memory_from_cma_comes_back,
        more_than_the_cma_area_has_is_refused,
    ];
}

const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

fn four_kibibytes_of_each_kind() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        let (buffer, map) = session.mapped(kind, 4096)?;
        check_eq!(buffer.bytes, 4096, "{kind:?}, bytes");
        check_eq!(
            map.differs(0),
            None,
            "{kind:?}, first word that is not zero"
        );
        map.fill(1);
    }
    Ok(())
}

fn odd_sizes_of_each_kind() -> Outcome {
    for kind in KINDS {
        let session = Session::open()?;
        for pages in [3, 5, 511, 513, 700, 1023] {
            let (buffer, map) = session.mapped(kind, pages * PAGE - 1)?;
            check_eq!(
                session.query()?.used_bytes as usize,
                pages * PAGE,
                "{kind:?}, bytes charged for {pages} pages"
            );
            map.set_u64(map.len - 8, 1);
            check_eq!(
                map.u64((map.len / 2) & !7),
                0,
                "{kind:?}, word in the middle"
            );
            drop(map);
            session.free(buffer.id)?;
            comes_to(&session, 0, 0)?;
        }
    }
    Ok(())
}

/// Limits that allow as much as the machine has, and more.
fn no_limits() -> std::io::Result<[Parameter; 2]> {
    Ok([
        Parameter::set("max_bytes", 1 << 50)?,
        Parameter::set("max_bytes_per_user", 1 << 50)?,
    ])
}

/// Looks at a large buffer here and there: its two ends, and some places between.
fn works(session: &Session, buffer: Alloc) -> Outcome {
    let size = buffer.bytes as usize;
    let map = session.map(size, RW, SHARED, buffer.mmap_offset)?;
    let step = (size / 61) & !(PAGE - 1);
    let places: Vec<_> = (0..size).step_by(step).chain([size - 8]).collect();
    for at in &places {
        check_eq!(map.u64(*at), 0, "word at {at:#x} of new memory");
        map.set_u64(*at, *at as u64 + 1);
    }
    for at in &places {
        check_eq!(map.u64(*at), *at as u64 + 1, "word at {at:#x}");
        let mut bytes = [0; 8];
        check_eq!(
            session.pread(&mut bytes, buffer.mmap_offset + *at as u64)?,
            8,
            "bytes read at {at:#x}"
        );
        check_eq!(
            u64::from_ne_bytes(bytes),
            *at as u64 + 1,
            "the kernel's word at {at:#x}"
        );
    }
    let end = session.map(
        PAGE,
        READ,
        PRIVATE,
        buffer.mmap_offset + (size - PAGE) as u64,
    )?;
    check_eq!(
        end.u64(PAGE - 8),
        size as u64 - 7,
        "the last word through a mapping of the last page"
    );
    Ok(())
}

/// That free memory comes back to what it was, but for a little.
fn memory_comes_back(session: &Session, before: u64) -> Outcome {
    comes_to(session, 0, 0)?;
    let mut after = 0;
    let back = until(Duration::from_secs(5), || {
        after = meminfo("MemAvailable");
        after + (16 << 10) >= before
    });
    check!(back, "MemAvailable was {before} KiB, is {after}");
    Ok(())
}

fn gibibyte_of_scattered_memory() -> Outcome {
    let _limits = no_limits()?;
    let session = Session::open()?;
    let before = meminfo("MemAvailable");
    for kind in [Kind::Vmalloc, Kind::Pages] {
        let buffer = session.alloc(kind, GIB)?;
        works(&session, buffer)?;
        session.free(buffer.id)?;
        memory_comes_back(&session, before)?;
    }
    Ok(())
}

fn gibibyte_of_contiguous_memory_without_cma_works_or_says_why_not() -> Outcome {
    let _limits = no_limits()?;
    let session = Session::open()?;
    let before = meminfo("MemAvailable");
    match session.alloc(Kind::Contiguous, GIB) {
        Ok(buffer) => {
            check_eq!(session.segments(buffer.id)?.len(), 1, "runs");
            works(&session, buffer)?;
            session.free(buffer.id)?;
        }
        Err(error) => {
            refused(
                Err::<(), _>(error),
                Operation::Alloc,
                Reason::NoContiguousMemory,
                &[GIB as u64],
            )?;
        }
    }
    memory_comes_back(&session, before)
}

// What lies between cannot be moved away: buffers.
fn contiguous_memory_needs_a_place() -> Outcome {
    const PIECE: usize = 64 * MIB;
    const WANTED: usize = 4 * PIECE;
    let _limits = no_limits()?;
    let session = Session::open()?;
    let before = meminfo("MemAvailable");
    let mut pieces = Vec::new();
    while meminfo("MemAvailable") << 10 > (WANTED - PIECE) as u64 {
        match session.alloc(Kind::Contiguous, PIECE) {
            Ok(piece) => pieces.push(piece.id),
            Err(error) => {
                no_memory(Kind::Contiguous, error)?;
                break;
            }
        }
    }
    for id in pieces.iter().step_by(2) {
        session.free(*id)?;
    }
    let available = meminfo("MemAvailable") << 10;
    check!(available > WANTED as u64, "{available} bytes are free");
    refused(
        session.alloc(Kind::Contiguous, WANTED),
        Operation::Alloc,
        Reason::NoContiguousMemory,
        &[WANTED as u64],
    )?;
    for id in pieces.iter().skip(1).step_by(2) {
        session.free(*id)?;
    }
    memory_comes_back(&session, before)
}

// kernel/dma/direct.c takes CMA memory or one run of the buddy allocator, of 4 MiB at most.
fn gibibyte_of_coherent_memory_without_cma_says_why_not() -> Outcome {
    let _limits = no_limits()?;
    let session = Session::open()?;
    let before = meminfo("MemAvailable");
    let operands = [GIB as u64, 4 << 20];
    refused(
        session.alloc(Kind::Coherent, GIB),
        Operation::Alloc,
        Reason::NoCoherentMemory,
        &operands,
    )?;
    memory_comes_back(&session, before)?;
    // What the operand promises can be had.
    let buffer = session.alloc(Kind::Coherent, 4 * MIB)?;
    works(&session, buffer)
}

fn no_memory(kind: Kind, error: Refused) -> Outcome {
    let reason = match kind {
        // Not tried at all when the kernel estimates that there is not so much.
        _ if error
            .said
            .is_some_and(|said| said.reason == Reason::OutOfMemory.number()) =>
        {
            Reason::OutOfMemory
        }
        Kind::Contiguous => Reason::NoContiguousMemory,
        Kind::Coherent => Reason::NoCoherentMemory,
        _ => Reason::OutOfMemory,
    };
    refused(Err::<(), _>(error), Operation::Alloc, reason, &[])
}

/// More than is there is refused before anything is gathered, whatever the kind.
fn not_there(error: Refused) -> Outcome {
    refused(
        Err::<(), _>(error),
        Operation::Alloc,
        Reason::OutOfMemory,
        &[],
    )
}

// No warning (the runner reads the log), nobody killed, nothing left.
fn more_than_the_machine_has_is_refused() -> Outcome {
    let _limits = no_limits()?;
    let session = Session::open()?;
    // Something that the out-of-memory killer would like.
    let bystander = Map::anonymous(64 * MIB)?;
    for at in (0..bystander.len).step_by(PAGE) {
        bystander.set_u64(at, 1);
    }
    let before = meminfo("MemAvailable");
    let total = (meminfo("MemTotal") << 10) as usize;
    for kind in KINDS {
        for size in [total + total / 8, 8 * GIB, 64 * GIB] {
            match session.alloc(kind, size) {
                Ok(_) => {
                    return Err(Failure::new(format!(
                        "{kind:?}: {size:#x} bytes of {total:#x} were given"
                    )))
                }
                Err(error) => not_there(error)?,
            }
            memory_comes_back(&session, before)?;
        }
    }
    Ok(())
}

// Here the memory is really gathered before it runs out.
fn nearly_all_of_the_machine_is_refused_or_given() -> Outcome {
    let _limits = no_limits()?;
    let session = Session::open()?;
    let before = meminfo("MemAvailable");
    let total = (meminfo("MemTotal") << 10) as usize;
    for kind in KINDS {
        match session.alloc(kind, total - 24 * MIB) {
            Ok(buffer) => session.free(buffer.id)?,
            Err(error) => no_memory(kind, error)?,
        }
        memory_comes_back(&session, before)?;
    }
    Ok(())
}

fn far_more_than_any_machine_has_is_refused() -> Outcome {
    let _limits = no_limits()?;
    let session = Session::open()?;
    for kind in KINDS {
        for size in [1 << 40, (1 << 44) - (1 << 32)] {
            match session.alloc(kind, size) {
                Ok(_) => {
                    return Err(Failure::new(format!(
                        "{kind:?}: {size:#x} bytes were given"
                    )))
                }
                Err(error) => not_there(error)?,
            }
        }
    }
    comes_to(&session, 0, 0)
}

/// Pages on per-CPU lists are missing from CmaFree.
const CMA_SLACK: u64 = 4 << 10;

fn gibibyte_from_cma(kind: Kind) -> Outcome {
    let _limits = no_limits()?;
    let session = Session::open()?;
    // The area is the last resort, so what there is besides is taken first.
    let mut outside = Vec::new();
    let (before, buffer) = loop {
        let before = meminfo("CmaFree");
        let buffer = session.alloc(kind, GIB)?;
        check_eq!(session.segments(buffer.id)?.len(), 1, "runs");
        let during = meminfo("CmaFree");
        if during + (1 << 20) <= before + CMA_SLACK {
            break (before, buffer);
        }
        check!(
            outside.len() < 3,
            "CmaFree was {before} KiB, is {during}, with {} buffers from elsewhere",
            outside.len()
        );
        outside.push(buffer);
    };
    let others = || comes_to(&session, outside.len() as u64, outside.len() * GIB);
    works(&session, buffer)?;
    maps_by_frames(&session, buffer)?;
    session.free(buffer.id)?;
    others()?;
    // There is no other place for it: what was written into the first must not be in the second.
    let buffer = session.alloc(kind, GIB)?;
    works(&session, buffer)?;
    session.free(buffer.id)?;
    others()?;
    for buffer in &outside {
        session.free(buffer.id)?;
    }
    comes_to(&session, 0, 0)?;
    let mut after = 0;
    check!(
        until(Duration::from_secs(5), || {
            after = meminfo("CmaFree");
            after + CMA_SLACK >= before
        }),
        "CmaFree was {before} KiB, is {after}"
    );
    Ok(())
}

// CMA memory is mapped by page frames alone, since a long-term pin of it never ends.
fn maps_by_frames(session: &Session, buffer: Alloc) -> Outcome {
    let middle = buffer.bytes / 2;
    let shared = session.map(4 * PAGE, RW, SHARED, buffer.mmap_offset + middle)?;
    let vma = crate::proc::vma_at(shared.start).unwrap_or_default();
    check!(vma.has("pf"), "no PFN map: {:?}", vma.flags);
    shared.set_u64(PAGE, 1);
    let part = session.map(
        PAGE,
        READ,
        PRIVATE,
        buffer.mmap_offset + middle + PAGE as u64,
    )?;
    check_eq!(part.u64(0), 1, "a part, private and read-only");
    let copy = session.map(4 * PAGE, RW, PRIVATE, buffer.mmap_offset + middle)?;
    copy.set_u64(PAGE, 2);
    check_eq!(
        (shared.u64(PAGE), copy.u64(PAGE)),
        (1, 2),
        "buffer and copy"
    );
    elsewhere(|| {
        crate::sys::become_user(1000, 1000)?;
        let result = session.map(4 * PAGE, RW, PRIVATE, buffer.mmap_offset);
        refused(result, Operation::Mmap, Reason::CowShowsAddress, &[])
    })
}

fn gibibyte_of_contiguous_memory_from_cma() -> Outcome {
    gibibyte_from_cma(Kind::Contiguous)
}

fn gibibyte_of_coherent_memory_from_cma() -> Outcome {
    gibibyte_from_cma(Kind::Coherent)
}

fn memory_from_cma_comes_back() -> Outcome {
    let before = meminfo("CmaFree");
    let session = Session::open()?;
    for kind in [Kind::Contiguous, Kind::Coherent] {
        for _ in 0..20 {
            let (buffer, map) = session.mapped(kind, 8 * MIB)?;
            map.set_u64(0, 1);
            session.free(buffer.id)?;
            drop(map);
        }
    }
    comes_to(&session, 0, 0)?;
    let after = meminfo("CmaFree");
    check!(
        after + CMA_SLACK >= before,
        "CmaFree was {before} KiB, is {after}"
    );
    Ok(())
}

fn more_than_the_cma_area_has_is_refused() -> Outcome {
    let _limits = no_limits()?;
    let session = Session::open()?;
    for kind in [Kind::Contiguous, Kind::Coherent] {
        match session.alloc(kind, 2 * GIB + 512 * MIB) {
            Ok(_) => return Err(Failure::new(format!("{kind:?}: it was given"))),
            Err(error) => no_memory(kind, error)?,
        }
        comes_to(&session, 0, 0)?;
    }
    Ok(())
}
