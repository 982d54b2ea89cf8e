//! Every kind, mapped by every method, with every cache mode, shared and private: it works, or it is refused with a
//! reason of its own. There is no third state.

use super::sharing::{shows, tag};
use crate::check::{elsewhere, fails, refused, Failure, Outcome};
use crate::session::{alloc_request, Session, KINDS};
use crate::sys::{become_user, Map, PAGE, PRIVATE, READ, RW, SHARED};
use crate::{check, check_eq};
use mapbuf_abi::{ioctl, Alloc, Cache, Kind, Method, Operation, Reason};

tests! { "methods":
    BOTH, 60: [
        every_cell_works_or_says_why_not,
        cells_that_must_work_do,
        cells_that_cannot_work_say_so,
    ];
    STOCK, 60: [
        every_cell_works_or_says_why_not_for_a_user,
        huge_methods_map_by_huge_entries,
        parts_of_frames_are_whole_around_huge_entries,
        two_methods_at_once_show_the_same_bytes,
        uncached_memory_maps_by_remap,
        vmalloc_page_by_page,
    ];
}

const PAGES: usize = 16;

const SHARINGS: [(&str, i32, i32); 3] = [
    ("shared", RW, SHARED),
    ("private read-only", READ, PRIVATE),
    ("private writable", RW, PRIVATE),
];

/// A numbered buffer, written through the kernel's view, so that nothing is mapped yet.
fn numbered(session: &Session, kind: Kind, cache: Cache, pages: usize) -> Outcome<Option<Alloc>> {
    let request = Alloc {
        cache: cache.number(),
        ..alloc_request(kind, (pages * PAGE) as u64)
    };
    let buffer = match session.ioctl(ioctl::ALLOC, request) {
        Ok(buffer) => buffer,
        Err(error) if kind == Kind::Coherent && cache != Cache::Cached => {
            refused(
                Err::<(), _>(error),
                Operation::Alloc,
                Reason::CoherentIsCached,
                &[],
            )?;
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    for page in 0..pages {
        let at = buffer.mmap_offset + (page * PAGE) as u64;
        check_eq!(
            session.pwrite(&tag(page).to_ne_bytes(), at)?,
            8,
            "bytes written"
        );
    }
    Ok(Some(buffer))
}

/// The reasons that a way to map may be refused for.
const REASONS: &[Reason] = &[
    Reason::CowNeedsContiguous,
    Reason::CowShowsAddress,
    Reason::CowNeedsCached,
    Reason::CowAtFault,
    Reason::NeedsOneRun,
    Reason::NeedsPages,
    Reason::NeedsVmalloc,
    Reason::NeedsCoherent,
    Reason::NothingHuge,
];

/// Everything that a mapping must be, however it was made.
fn is_right(
    session: &Session,
    buffer: Alloc,
    map: Map,
    sharing: &str,
    first: usize,
    pages: usize,
) -> Outcome {
    shows(&map, 0, pages, first)?;
    let seen = |page: usize| -> Outcome<u64> {
        let mut word = [0; 8];
        let at = buffer.mmap_offset + ((first + page) * PAGE + 8) as u64;
        session.pread(&mut word, at)?;
        Ok(u64::from_ne_bytes(word))
    };
    let last = pages - 1;
    match sharing {
        "shared" => {
            map.set_u64(last * PAGE + 8, 0x55);
            check_eq!(seen(last)?, 0x55, "the kernel's view of a shared write");
            map.set_u64(last * PAGE + 8, 0);
        }
        "private writable" => {
            map.set_u64(last * PAGE + 8, 0x66);
            check_eq!(seen(last)?, 0, "the kernel's view of a private write");
            check_eq!(map.u64(last * PAGE + 8), 0x66, "a private write");
            check_eq!(
                map.u64(last * PAGE),
                tag(first + last),
                "the rest of the page"
            );
        }
        _ => {
            fails(map.protect(RW), libc::EACCES)?;
        }
    }
    elsewhere(|| shows(&map, 0, pages, first))?;
    // What the advice drops, a fault brings back; where nothing could, it is refused.
    let _ = map.advise(0, PAGE, libc::MADV_DONTNEED);
    check_eq!(map.u64(0), tag(first), "the first word after MADV_DONTNEED");
    let mut map = map;
    if pages > 2 {
        map.unmap_part(PAGE, PAGE)?;
        check_eq!(
            session.info(buffer.id)?.mappings,
            2,
            "mappings around a hole"
        );
        check_eq!(map.u64(2 * PAGE), tag(first + 2), "the page behind a hole");
    }
    let len = map.len;
    map.unmap_part(0, len)?;
    check_eq!(session.info(buffer.id)?.mappings, 0, "mappings in the end");
    Ok(())
}

/// Tries all cells; answers with how many worked.
fn try_all(session: &Session) -> Outcome<(usize, usize)> {
    let (mut worked, mut not) = (0, 0);
    for kind in KINDS {
        for &cache in Cache::ALL {
            let Some(buffer) = numbered(session, kind, cache, PAGES)? else {
                continue;
            };
            for &method in Method::ALL {
                let offset = session.offset(buffer.id, method)?;
                for (sharing, prot, flags) in SHARINGS {
                    for (first, pages) in [(0, PAGES), (5, 3), (PAGES - 1, 1)] {
                        let at = offset + (first * PAGE) as u64;
                        let cell = || {
                            format!(
                                "{} {} by {}, {sharing}, {pages} pages from {first}",
                                cache.name(),
                                kind.name(),
                                method.name()
                            )
                        };
                        match session.map(pages * PAGE, prot, flags, at) {
                            Ok(map) => {
                                is_right(session, buffer, map, sharing, first, pages)
                                    .map_err(|failure| prefix(failure, &cell()))?;
                                worked += 1;
                            }
                            Err(error) => {
                                let reason =
                                    error.said.and_then(|said| Reason::from_number(said.reason));
                                check!(
                                    reason.is_some_and(|reason| REASONS.contains(&reason)),
                                    "{}: {error}",
                                    cell()
                                );
                                let mappings = session.info(buffer.id)?.mappings;
                                check_eq!(mappings, 0, "{}: mappings of a refused one", cell());
                                not += 1;
                            }
                        }
                    }
                }
            }
            session.free(buffer.id)?;
        }
    }
    Ok((worked, not))
}

fn prefix(failure: Failure, with: &str) -> Failure {
    match failure {
        Failure::Failed(why) => Failure::Failed(format!("{with}: {why}")),
        skipped => skipped,
    }
}

fn every_cell_works_or_says_why_not() -> Outcome {
    let (worked, not) = try_all(&Session::open()?)?;
    check!(worked > 300 && not > 100, "{worked} work, {not} do not");
    Ok(())
}

fn every_cell_works_or_says_why_not_for_a_user() -> Outcome {
    let session = Session::open()?;
    elsewhere(|| {
        become_user(1000, 1000)?;
        try_all(&session).map(drop)
    })
}

/// The methods that each kind must be mapped by, shared or private and read-only, whole.
const MUST: &[(Kind, &[Method])] = &[
    (
        Kind::Vmalloc,
        &[
            Method::Auto,
            Method::RemapEach,
            Method::Insert,
            Method::MapPages,
            Method::Vmalloc,
            Method::FaultPage,
            Method::FaultPfn,
        ],
    ),
    (
        Kind::Pages,
        &[
            Method::Auto,
            Method::RemapEach,
            Method::Insert,
            Method::MapPages,
            Method::FaultPage,
            Method::FaultPfn,
        ],
    ),
    (
        Kind::Contiguous,
        &[
            Method::Auto,
            Method::Remap,
            Method::RemapEach,
            Method::Insert,
            Method::MapPages,
            Method::Iomap,
            Method::IoRemap,
            Method::FaultPage,
            Method::FaultPfn,
        ],
    ),
    (
        Kind::Coherent,
        &[
            Method::Auto,
            Method::Remap,
            Method::RemapEach,
            Method::Dma,
            Method::Iomap,
            Method::IoRemap,
            Method::FaultPfn,
        ],
    ),
];

fn cells_that_must_work_do() -> Outcome {
    let session = Session::open()?;
    for (kind, methods) in MUST {
        let Some(buffer) = numbered(&session, *kind, Cache::Cached, PAGES)? else {
            continue;
        };
        for method in *methods {
            let offset = session.offset(buffer.id, *method)?;
            for (sharing, prot, flags) in &SHARINGS[..2] {
                let map = session
                    .map(PAGES * PAGE, *prot, *flags, offset)
                    .map_err(|error| {
                        Failure::new(format!("{kind:?} by {method:?}, {sharing}: {error}"))
                    })?;
                shows(&map, 0, PAGES, 0)?;
            }
        }
        session.free(buffer.id)?;
    }
    Ok(())
}

// The operands are those of abi/src/reason.rs; the rules are the kernel functions' own (policy/src/plan.rs).
fn cells_that_cannot_work_say_so() -> Outcome {
    let session = Session::open()?;
    let expect = |kind: Kind,
                  method: Method,
                  (prot, flags): (i32, i32),
                  reason: Reason,
                  operands: &[u64]| {
        let Some(buffer) = numbered(&session, kind, Cache::Cached, PAGES)? else {
            return Ok(());
        };
        let offset = session.offset(buffer.id, method)?;
        let result = session.map(PAGES * PAGE, prot, flags, offset);
        let verdict = refused(result, Operation::Mmap, reason, operands);
        session.free(buffer.id)?;
        verdict.map_err(|failure| prefix(failure, &format!("{kind:?} by {method:?}")))
    };
    let number = |method: Method| u64::from(method.number());
    let shared = (RW, SHARED);
    let private = (RW, PRIVATE);
    for kind in [Kind::Pages, Kind::Contiguous, Kind::Coherent] {
        let operands = [u64::from(kind.number())];
        expect(
            kind,
            Method::Vmalloc,
            shared,
            Reason::NeedsVmalloc,
            &operands,
        )?;
    }
    for kind in [Kind::Vmalloc, Kind::Pages, Kind::Contiguous] {
        let operands = [u64::from(kind.number())];
        expect(kind, Method::Dma, shared, Reason::NeedsCoherent, &operands)?;
    }
    for method in [Method::Insert, Method::MapPages, Method::FaultPage] {
        let operands = [number(method), u64::from(Kind::Coherent.number())];
        expect(
            Kind::Coherent,
            method,
            shared,
            Reason::NeedsPages,
            &operands,
        )?;
    }
    for kind in KINDS {
        let method = Method::FaultPfn;
        expect(kind, method, private, Reason::CowAtFault, &[number(method)])?;
        let bytes = (PAGES * PAGE) as u64;
        expect(
            kind,
            Method::FaultHuge,
            shared,
            Reason::NothingHuge,
            &[bytes],
        )?;
        let operands = [0, bytes, PAGES as u64];
        let each = Method::RemapEach;
        expect(kind, each, private, Reason::CowNeedsContiguous, &operands)?;
    }
    Ok(())
}

fn huge_methods_map_by_huge_entries() -> Outcome {
    const HUGE: usize = 2 << 20;
    let session = Session::open()?;
    for (kind, size) in [
        (Kind::Pages, 4 * HUGE),
        (Kind::Contiguous, HUGE),
        (Kind::Contiguous, 2 * HUGE),
        (Kind::Contiguous, 4 * HUGE),
        (Kind::Coherent, 2 * HUGE),
    ] {
        let buffer = session.alloc(kind, size)?;
        let offset = session.offset(buffer.id, Method::FaultHuge)?;
        let map = session.map(size, RW, SHARED, offset)?;
        for at in (0..size).step_by(PAGE) {
            check_eq!(map.u64(at), 0, "{kind:?}: word at {at:#x}");
            map.set_u64(at, at as u64 + 1);
        }
        let plain = session.map(size, READ, SHARED, buffer.mmap_offset)?;
        for at in (0..size).step_by(PAGE) {
            check_eq!(plain.u64(at), at as u64 + 1, "{kind:?}: word at {at:#x}");
        }
        // A hole and a fork split the entries.
        let mut map = map;
        map.unmap_part(7 * PAGE, PAGE)?;
        for at in (8 * PAGE..size).step_by(PAGE) {
            check_eq!(
                map.u64(at),
                at as u64 + 1,
                "{kind:?}: word at {at:#x}, behind a hole"
            );
        }
        elsewhere(|| {
            check_eq!(
                map.u64(size - PAGE),
                (size - PAGE) as u64 + 1,
                "{kind:?}: last page in a child"
            );
            Ok(())
        })?;
        map.unmap_part(0, size)?;
        drop(plain);
        session.free(buffer.id)?;
    }
    Ok(())
}

// What lies before the first huge entry is mapped by small ones at once, and the rest when it is touched.
fn parts_of_frames_are_whole_around_huge_entries() -> Outcome {
    const ALL: usize = 1024;
    let session = Session::open()?;
    let buffer = session.alloc(Kind::Coherent, ALL * PAGE)?;
    let whole = session.map(ALL * PAGE, RW, SHARED, buffer.mmap_offset)?;
    for page in 0..ALL {
        whole.set_u64(page * PAGE, page as u64 + 1);
    }
    for (first, pages) in [(300, 724), (0, 1000), (100, 900), (512, 512), (1, 511)] {
        let offset = buffer.mmap_offset + (first * PAGE) as u64;
        let mut part = session.map(pages * PAGE, RW, SHARED, offset)?;
        let shows = |part: &Map, from: usize, what: &str| {
            for page in from..pages {
                check_eq!(
                    part.u64(page * PAGE),
                    (first + page) as u64 + 1,
                    "page {page} of {pages} from {first}, {what}"
                );
            }
            Ok(())
        };
        shows(&part, 0, "at first")?;
        elsewhere(|| shows(&part, 0, "in a child"))?;
        // Through the middle of a huge entry, where there is one.
        part.unmap_part(pages / 2 * PAGE, PAGE)?;
        shows(&part, pages / 2 + 1, "behind a hole")?;
        part.set_u64(0, 7);
        check_eq!(whole.u64(first * PAGE), 7, "what a part from {first} wrote");
        whole.set_u64(first * PAGE, first as u64 + 1);
    }
    drop(whole);
    session.free(buffer.id)?;
    Ok(())
}

// The method is part of the offset, not of the buffer.
fn two_methods_at_once_show_the_same_bytes() -> Outcome {
    let session = Session::open()?;
    for (kind, methods) in MUST {
        let Some(buffer) = numbered(&session, *kind, Cache::Cached, PAGES)? else {
            continue;
        };
        let mut maps = Vec::new();
        for method in *methods {
            let offset = session.offset(buffer.id, *method)?;
            maps.push((*method, session.map(PAGES * PAGE, RW, SHARED, offset)?));
        }
        for (index, (method, writer)) in maps.iter().enumerate() {
            writer.set_u64(3 * PAGE + 8, index as u64 + 1);
            for (other, reader) in &maps {
                check_eq!(
                    reader.u64(3 * PAGE + 8),
                    index as u64 + 1,
                    "{kind:?}: written by {method:?}, read by {other:?}"
                );
            }
        }
    }
    Ok(())
}

fn uncached_memory_maps_by_remap() -> Outcome {
    let session = Session::open()?;
    for cache in [Cache::Uncached, Cache::WriteCombined] {
        let Some(buffer) = numbered(&session, Kind::Contiguous, cache, PAGES)? else {
            continue;
        };
        check_eq!(session.info(buffer.id)?.cache, cache.number(), "cache mode");
        let offset = session.offset(buffer.id, Method::Remap)?;
        let map = session.map(PAGES * PAGE, RW, SHARED, offset)?;
        shows(&map, 0, PAGES, 0)?;
        let copy = session.map(PAGES * PAGE, RW, PRIVATE, offset);
        let operands = [cache.number().into()];
        refused(copy, Operation::Mmap, Reason::CowNeedsCached, &operands)?;
    }
    Ok(())
}

// Question B's own way, with its result looked at.
fn vmalloc_page_by_page() -> Outcome {
    let session = Session::open()?;
    let Some(buffer) = numbered(&session, Kind::Vmalloc, Cache::Cached, PAGES)? else {
        return Ok(());
    };
    let offset = session.offset(buffer.id, Method::RemapEach)?;
    let map = session.map(PAGES * PAGE, READ, PRIVATE, offset)?;
    shows(&map, 0, PAGES, 0)?;
    // A single page may be copied even so.
    let page = session.map(PAGE, RW, PRIVATE, offset + 3 * PAGE as u64)?;
    page.set_u64(8, 1);
    check_eq!(map.u64(3 * PAGE + 8), 0, "the buffer after a private write");
    check_eq!(page.u64(0), tag(3), "the copied page");
    Ok(())
}
