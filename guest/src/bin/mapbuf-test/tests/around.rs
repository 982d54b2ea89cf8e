//! Faults that bring the pages around along: `auto` in shared mappings of memory of which the kernel's fault path would
//! map one page at a time.
//!
//! A fault maps what one page table shows (512 pages), as far as the mapping reaches, and leaves entries alone that are
//! there. Addresses line up with the buffer's pages, or with the frames, so the first page of a buffer that begins at a
//! multiple of 2 MiB is the first of a table.

use super::sharing::{shows, tag};
use crate::check::Outcome;
use crate::proc::frames;
use crate::session::Session;
use crate::sys::{Map, PAGE, READ, RW, SHARED};
use crate::{check, check_eq};
use mapbuf_abi::{Alloc, Kind};
use std::ops::Range;

tests! { "around":
    STOCK, 60: [
        fault_maps_what_one_page_table_shows,
        fault_stops_where_the_mapping_ends,
        fault_stops_at_another_protection,
        what_was_dropped_comes_back,
        reading_brings_them_too,
    ];
}

/// Pages that one table shows.
const TABLE: usize = 512;
/// Such memory: scattered pages; runs of single pages, from the page allocator and beyond it (`alloc_contig_pages`); a folio
/// that is larger than a huge entry.
const SINGLE: [(Kind, usize); 4] = [
    (Kind::Vmalloc, ODD),
    (Kind::Contiguous, TABLE + 100),
    (Kind::Contiguous, ODD),
    (Kind::Contiguous, 2 * TABLE),
];
/// Two whole tables, and too much of one for folios that get a huge entry each.
const ODD: usize = 2 * TABLE + 300;

/// A buffer whose pages have their tags in them, none of which is mapped.
fn tagged(session: &Session, kind: Kind, pages: usize) -> Outcome<Alloc> {
    let buffer = session.alloc(kind, pages * PAGE)?;
    for page in 0..pages {
        let at = buffer.mmap_offset + (page * PAGE) as u64;
        session.pwrite(&tag(page).to_ne_bytes(), at)?;
    }
    Ok(buffer)
}

/// A mapping of some of its pages that begins with this page of a table.
fn map(session: &Session, buffer: &Alloc, pages: Range<usize>) -> Outcome<(Map, usize)> {
    let offset = buffer.mmap_offset + (pages.start * PAGE) as u64;
    let map = session.map(pages.len() * PAGE, RW, SHARED, offset)?;
    let first = map.start / PAGE % TABLE;
    Ok((map, first))
}

/// Of the mapping's pages just those have entries.
#[track_caller]
fn present(map: &Map, expected: impl Fn(usize) -> bool) -> Outcome {
    for (page, frame) in frames(map).iter().enumerate() {
        check_eq!(
            frame.is_some(),
            expected(page),
            "whether page {page} is present"
        );
    }
    Ok(())
}

fn fault_maps_what_one_page_table_shows() -> Outcome {
    let session = Session::open()?;
    for (kind, pages) in SINGLE {
        let buffer = tagged(&session, kind, pages)?;
        let (map, first) = map(&session, &buffer, 0..pages)?;
        // The second table's pages.
        let second = TABLE - first..(2 * TABLE - first).min(pages);
        present(&map, |_| false)?;
        map.set_u64((second.start + 7) * PAGE + 8, 1);
        present(&map, |page| second.contains(&page))?;
        // The first page of the mapping, in the first table.
        map.set_u64(8, 1);
        present(&map, |page| page < second.end)?;
        map.set_u64((pages - 1) * PAGE + 8, 1);
        shows(&map, 0, pages, 0)?;
        // What every view has is the same memory.
        let whole = frames(&map);
        let (other, _) = self::map(&session, &buffer, 0..pages)?;
        shows(&other, 0, pages, 0)?;
        check!(frames(&other) == whole, "{kind:?}: other frames");
        session.free(buffer.id)?;
    }
    Ok(())
}

fn fault_stops_where_the_mapping_ends() -> Outcome {
    let session = Session::open()?;
    for (kind, all) in SINGLE {
        let buffer = tagged(&session, kind, all)?;
        for (pages, touched) in [
            (500..530, 0),
            (500..530, 29),
            (TABLE - 1..TABLE + 1, 0),
            (all - 1..all, 0),
            (3..20, 10),
        ] {
            let (map, first) = map(&session, &buffer, pages.clone())?;
            map.set_u64(touched * PAGE + 8, 1);
            let table = (first + touched) / TABLE;
            present(&map, |page| (first + page) / TABLE == table)?;
            shows(&map, 0, pages.len(), pages.start)?;
        }
        session.free(buffer.id)?;
    }
    Ok(())
}

// A part with another protection is a mapping of its own: nothing is put in behind its back.
fn fault_stops_at_another_protection() -> Outcome {
    let session = Session::open()?;
    let buffer = tagged(&session, Kind::Vmalloc, 64)?;
    let (map, first) = map(&session, &buffer, 0..64)?;
    let with = |page: usize, touched: usize| (first + page) / TABLE == (first + touched) / TABLE;
    map.protect_part(20 * PAGE, 10 * PAGE, libc::PROT_NONE)?;
    map.set_u64(10 * PAGE + 8, 1);
    let before = |page| page < 20 && with(page, 10);
    present(&map, before)?;
    map.set_u64(40 * PAGE + 8, 1);
    present(&map, |page| before(page) || page >= 30 && with(page, 40))?;
    map.protect_part(20 * PAGE, 10 * PAGE, READ)?;
    shows(&map, 0, 64, 0)
}

fn what_was_dropped_comes_back() -> Outcome {
    let session = Session::open()?;
    for (kind, pages) in SINGLE {
        let buffer = tagged(&session, kind, pages)?;
        let (map, _) = map(&session, &buffer, 0..TABLE)?;
        shows(&map, 0, TABLE, 0)?;
        let before = frames(&map);
        for dropped in [0..1, 100..200, TABLE - 1..TABLE, 7..8] {
            let len = dropped.len() * PAGE;
            map.advise(dropped.start * PAGE, len, libc::MADV_DONTNEED)?;
            present(&map, |page| !dropped.contains(&page))?;
            // From the middle, backwards and forwards.
            let middle = dropped.start + dropped.len() / 2;
            check_eq!(map.u64(middle * PAGE), tag(middle), "page {middle}");
            for page in dropped.rev() {
                check_eq!(map.u64(page * PAGE), tag(page), "page {page}");
            }
            check!(frames(&map) == before, "{kind:?}: other frames");
        }
        session.free(buffer.id)?;
    }
    Ok(())
}

fn reading_brings_them_too() -> Outcome {
    let session = Session::open()?;
    let buffer = tagged(&session, Kind::Vmalloc, ODD)?;
    session.name(buffer.id, "around", 0o444)?;
    let result = (|| {
        let node = Session::open_named("around", false)?;
        let map = node.map(ODD * PAGE, READ, SHARED, 0)?;
        let first = map.start / PAGE % TABLE;
        check_eq!(map.u64(5 * PAGE), tag(5), "page 5");
        present(&map, |page| (first + page) / TABLE == (first + 5) / TABLE)?;
        shows(&map, 0, ODD, 0)
    })();
    session.unname("around")?;
    result
}
