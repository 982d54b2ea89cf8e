//! `mapbuf matrix`: the table of rules and the driver agree in every cell. And what the table promises about memory that
//! is mapped by page and by frame.

use super::sharing::{numbered, shows};
use crate::check::{fails, refused, Failure, Outcome};
use crate::proc::{vma_at, Vma};
use crate::session::Session;
use crate::sys::{self, Map, PAGE, PRIVATE, RW, SHARED};
use crate::{check, check_eq, skip};
use mapbuf_abi::{Alloc, Kind, Method, Operation, Reason};
use std::io::Read;
use std::process::Command;

tests! { "matrix":
    STOCK, 200: [ table_and_driver_agree_in_every_cell ];
    STOCK, 60: [
        mappings_have_the_flags_of_their_way,
        pages_can_be_pinned_and_frames_cannot,
        huge_private_writes_are_copies,
        huge_entries_are_seen_in_smaps,
        three_ways_out_by_each_method,
        scattered_memory_is_not_one_run,
    ];
}

/// Runs the command.
pub fn mapbuf(arguments: &[&str]) -> Outcome<(bool, String, String)> {
    let output = match Command::new("mapbuf").args(arguments).output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            skip!("the mapbuf command is not there")
        }
        Err(error) => return Err(error.into()),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((
        output.status.success(),
        text(&output.stdout),
        text(&output.stderr),
    ))
}

/// That no cell of the matrix differs; answers with its lines.
pub fn agrees(arguments: &[&str]) -> Outcome<Vec<String>> {
    let (well, said, complained) = mapbuf(arguments)?;
    let cells: Vec<_> = said
        .lines()
        .filter(|line| line.contains("\"agrees\":"))
        .map(str::to_owned)
        .collect();
    if let Some(cell) = cells.iter().find(|cell| !cell.contains("\"agrees\":true")) {
        return Err(Failure::new(format!("differs: {cell}")));
    }
    check!(well, "it ended badly: {complained}");
    check!(
        said.contains(&format!("\"tried\":{}", cells.len())),
        "cells are missing: there are {}",
        cells.len()
    );
    check!(said.contains("\"differ\":0"), "the summary disagrees");
    Ok(cells)
}

fn table_and_driver_agree_in_every_cell() -> Outcome {
    let cells = agrees(&["matrix", "--json"])?;
    // Each cell of kind × method × cache × sharing, with and without rights, is there.
    for kind in ["vmalloc", "pages", "contiguous", "coherent"] {
        for method in Method::ALL {
            for cache in ["cached", "write-combined", "uncached"] {
                for sharing in ["shared", "private, read-only", "private, writable"] {
                    for admin in [true, false] {
                        let parts = [
                            format!("\"kind\":\"{kind}\""),
                            format!("\"method\":\"{}\"", method.name()),
                            format!("\"cache\":\"{cache}\""),
                            format!("\"sharing\":\"{sharing}\""),
                            format!("\"admin\":{admin}"),
                        ];
                        let tried = cells
                            .iter()
                            .any(|cell| parts.iter().all(|part| cell.contains(part.as_str())));
                        check!(tried, "no cell with {}", parts.join(", "));
                    }
                }
            }
        }
    }
    Ok(())
}

fn mapped_by(session: &Session, kind: Kind, method: Method, bytes: usize) -> Outcome<(Alloc, Map)> {
    let buffer = session.alloc(kind, bytes)?;
    let offset = session.offset(buffer.id, method)?;
    let map = session.map(bytes, RW, SHARED, offset)?;
    Ok((buffer, map))
}

fn row_of(map: &Map) -> Outcome<Vma> {
    vma_at(map.start).ok_or_else(|| Failure::new("the mapping is not in smaps"))
}

// The letters are those of fs/proc/task_mmu.c: "pf" VM_PFNMAP, "mm" VM_MIXEDMAP, "de" VM_DONTEXPAND, "io" VM_IO,
// "me" VM_MAYEXEC.
fn mappings_have_the_flags_of_their_way() -> Outcome {
    let session = Session::open()?;
    let by_frame = [
        (Kind::Contiguous, Method::Remap),
        (Kind::Vmalloc, Method::RemapEach),
        (Kind::Coherent, Method::Dma),
        (Kind::Contiguous, Method::Iomap),
        (Kind::Contiguous, Method::IoRemap),
        (Kind::Pages, Method::FaultPfn),
    ];
    let by_inserted_page = [
        (Kind::Vmalloc, Method::Insert),
        (Kind::Pages, Method::MapPages),
        (Kind::Vmalloc, Method::Vmalloc),
        // A fault brings the pages around along.
        (Kind::Vmalloc, Method::Auto),
    ];
    let by_page = [
        (Kind::Vmalloc, Method::FaultPage),
        (Kind::Pages, Method::Auto),
        (Kind::Pages, Method::FaultPage),
        (Kind::Contiguous, Method::FaultPage),
    ];
    let all = [
        (&by_frame[..], true, false),
        (&by_inserted_page[..], false, true),
        (&by_page[..], false, false),
    ];
    for (cases, frames, mixed) in all {
        for &(kind, method) in cases {
            let (_, map) = mapped_by(&session, kind, method, 16 * PAGE)?;
            map.fill(1);
            let vma = row_of(&map)?;
            let what = format!("{kind:?} by {method:?}: {:?}", vma.flags);
            check_eq!(vma.has("pf"), frames, "VM_PFNMAP of {what}");
            check_eq!(vma.has("mm"), mixed, "VM_MIXEDMAP of {what}");
            check!(vma.has("de"), "it can grow: {what}");
            check!(!vma.has("me"), "it can become executable: {what}");
        }
    }
    Ok(())
}

/// That the kernel can take the pages of a mapping for a transfer of its own, or that it cannot.
fn pinnable(map: &Map, expected: bool, what: &str) -> Outcome {
    map.set_bytes(PAGE - 4, b"12345678");
    let (mut read, write) = sys::pipe()?;
    let spliced = sys::vmsplice(&write, map, PAGE - 4, 8);
    let pinned = sys::register_fixed_buffer(map);
    let remote = sys::vm_read(map, PAGE - 4, 8);
    if !expected {
        fails(spliced, libc::EFAULT)?;
        fails(remote, libc::EFAULT)?;
        return match pinned {
            Some(result) => fails(result, libc::EFAULT),
            None => Ok(()),
        };
    }
    check_eq!(spliced?, 8, "{what}: bytes spliced");
    let mut bytes = [0; 8];
    read.read_exact(&mut bytes)?;
    check_eq!(&bytes, b"12345678", "{what}: bytes from the pipe");
    check_eq!(remote?, b"12345678", "{what}: bytes by process_vm_readv");
    if let Some(result) = pinned {
        result.map_err(|errno| Failure::new(format!("{what}: io_uring: {errno}")))?;
    }
    Ok(())
}

// check_vma_flags of mm/gup.c: no page of a VM_PFNMAP or VM_IO mapping can be had. This is what O_DIRECT, io_uring and
// RDMA ask for.
fn pages_can_be_pinned_and_frames_cannot() -> Outcome {
    const HUGE: usize = 2 << 20;
    let session = Session::open()?;
    let cases = [
        (Kind::Pages, Method::FaultHuge, 4 * HUGE, true),
        (Kind::Pages, Method::Auto, 4 * HUGE, true),
        (Kind::Contiguous, Method::FaultHuge, HUGE, true),
        (Kind::Contiguous, Method::FaultHuge, 2 * HUGE, false),
        (Kind::Vmalloc, Method::Auto, 16 * PAGE, true),
        (Kind::Vmalloc, Method::Insert, 16 * PAGE, true),
        (Kind::Vmalloc, Method::Vmalloc, 16 * PAGE, true),
        (Kind::Pages, Method::MapPages, 16 * PAGE, true),
        (Kind::Vmalloc, Method::RemapEach, 16 * PAGE, false),
        (Kind::Contiguous, Method::Remap, 16 * PAGE, false),
        (Kind::Coherent, Method::Dma, 16 * PAGE, false),
        (Kind::Pages, Method::FaultPfn, 16 * PAGE, false),
    ];
    for (kind, method, bytes, expected) in cases {
        let (buffer, map) = mapped_by(&session, kind, method, bytes)?;
        pinnable(&map, expected, &format!("{kind:?} by {method:?}"))?;
        drop(map);
        session.free(buffer.id)?;
    }
    Ok(())
}

// vmf_insert_folio_pmd (mm/huge_memory.c) makes the entry writable in a private mapping too.
fn huge_private_writes_are_copies() -> Outcome {
    const HUGE: usize = 2 << 20;
    let session = Session::open()?;
    for kind in [Kind::Pages, Kind::Contiguous] {
        let pages = HUGE / PAGE;
        let (buffer, shared) = numbered(&session, kind, pages)?;
        let offset = session.offset(buffer.id, Method::FaultHuge)?;
        for read_first in [false, true] {
            let private = session.map(HUGE, RW, PRIVATE, offset)?;
            if read_first {
                shows(&private, 0, pages, 0)?;
            }
            for page in (0..pages).step_by(41) {
                private.set_u64(page * PAGE + 8, 1);
            }
            for page in 0..pages {
                let found = shared.u64(page * PAGE + 8);
                check_eq!(found, 0, "{kind:?}, page {page}, read first: {read_first}");
                let own = u64::from(page % 41 == 0);
                check_eq!(
                    private.u64(page * PAGE + 8),
                    own,
                    "{kind:?}, the copy of page {page}"
                );
            }
            shows(&private, 0, pages, 0)?;
        }
        shows(&shared, 0, pages, 0)?;
        drop(shared);
        session.free(buffer.id)?;
    }
    Ok(())
}

fn huge_entries_are_seen_in_smaps() -> Outcome {
    let session = Session::open()?;
    let (_, map) = mapped_by(&session, Kind::Pages, Method::FaultHuge, 64 << 20)?;
    for at in (0..map.len).step_by(2 << 20) {
        map.set_u64(at, 1);
    }
    let vma = row_of(&map)?;
    check_eq!(vma.kib("FilePmdMapped"), 64 << 10, "KiB in huge entries");
    // Only read, and through a private mapping.
    let (buffer, _) = mapped_by(&session, Kind::Pages, Method::FaultHuge, 4 << 20)?;
    let offset = session.offset(buffer.id, Method::FaultHuge)?;
    let map = session.map(4 << 20, RW, PRIVATE, offset)?;
    check_eq!(map.differs(0), None, "first word that is not zero");
    let vma = row_of(&map)?;
    check_eq!(vma.kib("FilePmdMapped"), 4 << 10, "KiB in huge entries");
    Ok(())
}

// Question B: MAP_SHARED; MAP_PRIVATE that is never writable; MAP_PRIVATE page by page, each of them one run.
fn three_ways_out_by_each_method() -> Outcome {
    let session = Session::open()?;
    let methods = [
        Method::Auto,
        Method::RemapEach,
        Method::Insert,
        Method::MapPages,
        Method::Vmalloc,
        Method::FaultPage,
    ];
    let (buffer, by_faults) = numbered(&session, Kind::Vmalloc, 16)?;
    for method in methods {
        let offset = session.offset(buffer.id, method)?;
        let shared = session.map(16 * PAGE, RW, SHARED, offset)?;
        shows(&shared, 0, 16, 0)?;
        let sealed = session.map(16 * PAGE, sys::READ, PRIVATE, offset)?;
        shows(&sealed, 0, 16, 0)?;
        fails(sealed.protect(RW), libc::EACCES)?;
        for page in 0..16 {
            let single = session.map(PAGE, RW, PRIVATE, offset + (page * PAGE) as u64)?;
            shows(&single, 0, 1, page)?;
            single.set_u64(8, 1);
            check_eq!(by_faults.u64(page * PAGE + 8), 0, "{method:?}, page {page}");
            check_eq!(single.u64(8), 1, "{method:?}, the copy of page {page}");
        }
        let whole = session.map(16 * PAGE, RW, PRIVATE, offset);
        match method {
            Method::RemapEach => refused(
                whole,
                Operation::Mmap,
                Reason::CowNeedsContiguous,
                &[0, 16 * PAGE as u64, 16],
            )?,
            _ => {
                let whole = whole?;
                whole.fill(9);
                shows(&by_faults, 0, 16, 0)?;
            }
        }
    }
    Ok(())
}

// remap_pte_range (mm/memory.c) counts on from the first frame: only a run can be mapped by one call.
fn scattered_memory_is_not_one_run() -> Outcome {
    let session = Session::open()?;
    // Pages that are taken one after the other lie side by side on a fresh machine; holes make them lie apart.
    const HOLES: usize = 128;
    let mut holes = Vec::new();
    for _ in 0..HOLES {
        holes.push(session.alloc(Kind::Vmalloc, PAGE)?);
        session.alloc(Kind::Vmalloc, PAGE)?;
    }
    for number in 0..HOLES {
        session.free(holes[number * 77 % HOLES].id)?;
    }
    let buffer = session.alloc(Kind::Vmalloc, 64 * PAGE)?;
    let runs = session.segments(buffer.id)?;
    check!(runs.len() > 1, "it is one run: the test says nothing");
    let first = runs[0].length as usize;
    for method in [Method::Remap, Method::Iomap, Method::IoRemap] {
        let offset = session.offset(buffer.id, method)?;
        let number = u64::from(method.number());
        let all = 64 * PAGE as u64;
        refused(
            session.map(64 * PAGE, RW, SHARED, offset),
            Operation::Mmap,
            Reason::NeedsOneRun,
            &[number, 0, all, first as u64],
        )?;
        // vm_iomap_memory is given the whole, whatever part is mapped.
        let part = session.map(first, RW, SHARED, offset);
        match method {
            Method::Iomap => refused(
                part,
                Operation::Mmap,
                Reason::NeedsOneRun,
                &[number, 0, all, first as u64],
            )?,
            _ => part?.fill(1),
        }
    }
    Ok(())
}
