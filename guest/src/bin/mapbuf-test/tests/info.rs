//! `INFO` and `SEGMENTS`: what a buffer is, who maps it, where it lies, and who may know that.

use super::sharing::numbered;
use crate::check::{elsewhere, refused, Outcome};
use crate::session::{Session, KINDS};
use crate::sys::{become_user, bytes_of, Map, PAGE, PRIVATE, READ, RW, SHARED};
use crate::{check, check_eq};
use mapbuf_abi::{
    ioctl, Cache, Kind, Operation, Reason, Segment, Segments, ADDRESS_HIDDEN, NAME_LEN,
};

tests! { "info":
    BOTH, 20: [
        info_describes_a_buffer,
        mappings_are_counted,
        segments_cover_the_buffer,
    ];
    STOCK, 20: [
        info_of_a_session,
        info_shows_the_name,
        freed_and_held_is_counted_per_session,
        query_counts_what_there_is,
        segments_come_page_by_page,
        segments_into_bad_memory_are_refused,
        addresses_are_for_the_privileged,
        dma_addresses_belong_to_coherent_memory,
        read_only_session_sees_nothing_of_others,
    ];
}

fn info_describes_a_buffer() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        let buffer = session.alloc(kind, 5 * PAGE + 1)?;
        let info = session.info(buffer.id)?;
        check_eq!(info.kind, kind.number(), "kind");
        check_eq!(info.cache, Cache::Cached.number(), "cache");
        check_eq!(info.bytes as usize, 6 * PAGE, "bytes");
        check_eq!(info.id, buffer.id, "id");
        check_eq!(info.mmap_offset, buffer.mmap_offset, "mmap_offset");
        check_eq!(info.mappings, 0, "mappings");
        check_eq!(info.name, [0; NAME_LEN], "name");
        check_eq!(
            info.segments as usize,
            session.segments(buffer.id)?.len(),
            "segments"
        );
        if matches!(kind, Kind::Contiguous | Kind::Coherent) {
            check_eq!(info.segments, 1, "segments of one run");
        }
    }
    Ok(())
}

fn mappings_are_counted() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        let (buffer, map) = numbered(&session, kind, 8)?;
        let count = || session.info(buffer.id).map(|info| info.mappings);
        check_eq!(count()?, 1, "mappings");
        let private = session.map(2 * PAGE, READ, PRIVATE, buffer.mmap_offset)?;
        check_eq!(count()?, 2, "mappings, with a private one");
        let dma_buf = session.export(buffer.id)?;
        let exported = Map::new(&dma_buf, 8 * PAGE, RW, SHARED, 0)?;
        check_eq!(count()?, 3, "mappings, with one of the dma-buf");
        // What fails is not counted.
        refused(
            session.map(9 * PAGE, RW, SHARED, buffer.mmap_offset),
            Operation::Mmap,
            Reason::BeyondEnd,
            &[],
        )?;
        check!(
            Map::new(&dma_buf, 9 * PAGE, RW, SHARED, 0).is_err(),
            "a dma-buf of 8 pages maps 9"
        );
        check_eq!(count()?, 3, "mappings, after refused ones");
        elsewhere(|| {
            check_eq!(count()?, 6, "mappings, with a child");
            Ok(())
        })?;
        check_eq!(count()?, 3, "mappings, when the child is gone");
        drop((private, exported));
        check_eq!(count()?, 1, "mappings");
        // Moved, there are two for a moment.
        let mut map = map;
        map.move_over(Map::anonymous(8 * PAGE)?)?;
        check_eq!(count()?, 1, "mappings after a move");
        map.unmap()?;
        check_eq!(count()?, 0, "mappings in the end");
    }
    Ok(())
}

fn segments_cover_the_buffer() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        for pages in [1, 3, 16, 512, 515] {
            let buffer = session.alloc(kind, pages * PAGE)?;
            let rows = session.segments(buffer.id)?;
            let mut at = 0;
            let mut end = None;
            for row in &rows {
                check_eq!(row.offset, at, "{kind:?}, {pages} pages, offset of a run");
                check!(
                    row.length > 0 && row.length % PAGE as u64 == 0,
                    "length {:#x}",
                    row.length
                );
                check!(row.physical_address != ADDRESS_HIDDEN, "hidden from root");
                check_eq!(
                    row.physical_address % PAGE as u64,
                    0,
                    "address within a page"
                );
                check!(
                    end != Some(row.physical_address),
                    "{kind:?}: two runs that are one, at {:#x}",
                    row.offset
                );
                end = Some(row.physical_address + row.length);
                at += row.length;
            }
            check_eq!(at as usize, pages * PAGE, "{kind:?}, bytes in all runs");
            check_eq!(
                session.info(buffer.id)?.segments as usize,
                rows.len(),
                "INFO's number of runs"
            );
            session.free(buffer.id)?;
        }
    }
    Ok(())
}

fn info_of_a_session() -> Outcome {
    let session = Session::open()?;
    session.alloc(Kind::Pages, PAGE)?;
    let info = session.info(0)?;
    check_eq!(
        (info.kind, info.bytes, info.mappings),
        (0, 0, 0),
        "a buffer's fields for id 0"
    );
    check_eq!(
        (info.freed_held, info.freed_held_bytes),
        (0, 0),
        "freed and held"
    );
    Ok(())
}

fn info_shows_the_name() -> Outcome {
    let session = Session::open()?;
    let buffer = session.alloc(Kind::Pages, PAGE)?;
    let longest = "n".repeat(NAME_LEN);
    for name in ["short", longest.as_str()] {
        session.name(buffer.id, name, 0o600)?;
        let shown = session.info(buffer.id).map(|info| info.name);
        let node = Session::open_named(name, true).map(|node| {
            node.info(0)
                .map(|info| (info.name, info.id, info.mmap_offset))
        });
        session.unname(name)?;
        check_eq!(shown?, crate::session::padded(name.as_bytes()), "name");
        check_eq!(
            node??,
            (crate::session::padded(name.as_bytes()), 0, 0),
            "name, id and offset on the node"
        );
        check_eq!(
            session.info(buffer.id)?.name,
            [0; NAME_LEN],
            "name, when it was taken away"
        );
    }
    Ok(())
}

fn freed_and_held_is_counted_per_session() -> Outcome {
    let (session, other) = (Session::open()?, Session::open()?);
    let mut maps = Vec::new();
    for (index, kind) in KINDS.into_iter().enumerate() {
        let (buffer, map) = session.mapped(kind, 2 * PAGE)?;
        session.free(buffer.id)?;
        maps.push(map);
        let info = session.info(0)?;
        check_eq!(info.freed_held as usize, index + 1, "freed and held");
        check_eq!(
            info.freed_held_bytes as usize,
            (index + 1) * 2 * PAGE,
            "bytes freed and held"
        );
    }
    check_eq!(
        other.info(0)?.freed_held,
        0,
        "freed and held in another session"
    );
    // Held by an exported descriptor alone.
    let buffer = session.alloc(Kind::Pages, PAGE)?;
    let dma_buf = session.export(buffer.id)?;
    session.free(buffer.id)?;
    check_eq!(
        session.info(buffer.id + 1).is_err(),
        true,
        "an id that never was"
    );
    check_eq!(
        session.info(0)?.freed_held,
        5,
        "freed and held, with a descriptor"
    );
    drop(dma_buf);
    maps.clear();
    check!(
        crate::sys::until(std::time::Duration::from_secs(2), || session
            .info(0)
            .is_ok_and(|info| info.freed_held == 0)),
        "still held: {:?}",
        session.info(0)
    );
    Ok(())
}

fn query_counts_what_there_is() -> Outcome {
    let session = Session::open()?;
    for (index, kind) in KINDS.into_iter().enumerate() {
        session.alloc(kind, 3 * PAGE - 1)?;
        let query = session.query()?;
        let bytes = (index as u64 + 1) * 3 * PAGE as u64;
        check_eq!(
            (query.buffers, query.used_bytes, query.used_bytes_by_user),
            (index as u64 + 1, bytes, bytes),
            "use"
        );
    }
    Ok(())
}

fn segments_come_page_by_page() -> Outcome {
    let session = Session::open()?;
    // Scattered for certain: each page by itself, and some of them are neighbours.
    let buffer = session.alloc(Kind::Vmalloc, 300 * PAGE)?;
    let all = session.segments(buffer.id)?;
    let total = all.len() as u32;
    let mut found: Vec<Segment> = Vec::new();
    while (found.len() as u32) < total {
        let (rows, of) = session.segment_rows(buffer.id, found.len() as u32, 7)?;
        check_eq!(of, total, "total");
        check!(!rows.is_empty() && rows.len() <= 7, "{} rows", rows.len());
        found.extend(rows);
    }
    check_eq!(found, all, "rows, seven at a time");
    for first in [total, total + 1, u32::MAX] {
        let (rows, of) = session.segment_rows(buffer.id, first, 7)?;
        check_eq!((rows.len(), of), (0, total), "rows from {first} on");
    }
    let (rows, _) = session.segment_rows(buffer.id, total - 1, 100)?;
    check_eq!(rows[..], all[all.len() - 1..], "the last row");
    Ok(())
}

fn segments_into_bad_memory_are_refused() -> Outcome {
    let session = Session::open()?;
    let buffer = session.alloc(Kind::Pages, PAGE)?;
    let request = Segments {
        size: size_of::<Segments>() as u32,
        id: buffer.id,
        count: 1,
        ..Default::default()
    };
    for rows in [0_u64, 8, 1 << 62, 0xffff_8880_0000_0000, u64::MAX - 31] {
        let result = session.ioctl(ioctl::SEGMENTS, Segments { rows, ..request });
        refused(result, Operation::Segments, Reason::BadAddress, &[rows])?;
    }
    // Room for more rows than there are: only what is written has to be there.
    let memory = Map::anonymous(2 * PAGE)?;
    memory.protect_part(PAGE, PAGE, libc::PROT_NONE)?;
    let rows = (memory.start + PAGE - 32) as u64;
    let answer = session.ioctl(
        ioctl::SEGMENTS,
        Segments {
            rows,
            count: 1000,
            ..request
        },
    )?;
    check_eq!((answer.count, answer.total), (1, 1), "rows");
    // A count whose bytes do not fit into 32 bits, or 64.
    let answer = session.ioctl(
        ioctl::SEGMENTS,
        Segments {
            rows,
            count: u32::MAX,
            ..request
        },
    )?;
    check_eq!(answer.count, 1, "rows");
    Ok(())
}

// The caller's rights count, not the opener's: the descriptor was opened by root.
fn addresses_are_for_the_privileged() -> Outcome {
    let session = Session::open()?;
    let mut ids = Vec::new();
    for kind in KINDS {
        let buffer = session.alloc(kind, 4 * PAGE)?;
        check!(
            session.segments(buffer.id)?[0].physical_address != ADDRESS_HIDDEN,
            "{kind:?}: hidden from root"
        );
        ids.push(buffer.id);
    }
    elsewhere(|| {
        become_user(1000, 1000)?;
        for id in ids {
            for row in session.segments(id)? {
                check_eq!(
                    row.physical_address,
                    ADDRESS_HIDDEN,
                    "a stranger's physical address"
                );
                check_eq!(row.dma_address, ADDRESS_HIDDEN, "a stranger's DMA address");
            }
        }
        Ok(())
    })
}

fn dma_addresses_belong_to_coherent_memory() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        let buffer = session.alloc(kind, 4 * PAGE)?;
        for row in session.segments(buffer.id)? {
            if kind == Kind::Coherent {
                // Without an IOMMU the two are the same; this machine has none.
                check_eq!(row.dma_address, row.physical_address, "DMA address");
            } else {
                check_eq!(
                    row.dma_address,
                    ADDRESS_HIDDEN,
                    "{kind:?}: a DMA address without a device"
                );
            }
        }
    }
    Ok(())
}

fn read_only_session_sees_nothing_of_others() -> Outcome {
    let session = Session::open()?;
    let buffer = session.alloc(Kind::Pages, PAGE)?;
    let other = Session::open_read_only()?;
    refused(
        other.info(buffer.id),
        Operation::Info,
        Reason::NoSuchId,
        &[buffer.id.into()],
    )?;
    check_eq!(bytes_of(&other.info(0)?).len(), 176, "size of INFO");
    Ok(())
}
