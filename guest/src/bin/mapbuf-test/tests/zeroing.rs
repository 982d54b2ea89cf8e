//! Memory is zero before anyone can see it, in a kernel that does not see to it by itself.

use super::lifetime::comes_to;
use crate::check::{elsewhere, Failure, Outcome};
use crate::session::{Session, KINDS};
use crate::sys::{Map, PAGE, PRIVATE, READ, RW, SHARED};
use crate::{check, check_eq};
use mapbuf_abi::Kind;
use std::collections::BTreeSet;

tests! { "zeroing":
    ZEROING, 60: [
        kernel_leaves_zeroing_to_the_driver,
        frames_that_come_back_are_zero_when_mapped,
        frames_that_come_back_are_zero_when_read,
        frames_that_come_back_are_zero_in_a_dma_buf,
        frames_of_dead_processes_are_zero,
        folios_in_a_row_and_the_pages_behind_them_come_back_zero,
        tail_of_the_last_page_is_zero,
    ];
}

const DIRT: u64 = 0x6b6b_6b6b_6b6b_6b6b;

/// The page frames of a buffer.
fn frames(session: &Session, id: u32) -> Outcome<BTreeSet<u64>> {
    let rows = session.segments(id)?;
    Ok(rows
        .iter()
        .flat_map(|row| {
            (0..row.length / PAGE as u64).map(|page| row.physical_address / PAGE as u64 + page)
        })
        .collect())
}

// Otherwise these tests would pass with a driver that forgets everything.
fn kernel_leaves_zeroing_to_the_driver() -> Outcome {
    let parameters = std::fs::read_to_string("/proc/cmdline")?;
    check!(
        parameters.contains("init_on_alloc=0"),
        "booted with {parameters}"
    );
    Ok(())
}

/// Dirties buffers, frees them, and allocates until some of their frames come back.
fn come_back(kind: Kind, pages: usize, zero: impl Fn(&Session, u32, u64) -> Outcome) -> Outcome {
    let session = Session::open()?;
    let mut dirty = BTreeSet::new();
    let mut ids = Vec::new();
    for _ in 0..8 {
        let (buffer, map) = session.mapped(kind, pages * PAGE)?;
        map.fill(DIRT);
        dirty.extend(frames(&session, buffer.id)?);
        ids.push(buffer.id);
    }
    for id in ids {
        session.free(id)?;
    }
    comes_to(&session, 0, 0)?;
    let mut again = 0;
    for _ in 0..200 {
        let buffer = session.alloc(kind, pages * PAGE)?;
        // What is kept makes the next ones come from elsewhere.
        again += frames(&session, buffer.id)?.intersection(&dirty).count();
        zero(&session, buffer.id, buffer.mmap_offset)?;
        if again >= pages {
            return Ok(());
        }
    }
    Err(Failure::new(format!(
        "{kind:?}: {again} dirty frames came back, {pages} were waited for"
    )))
}

const SIZES: [usize; 3] = [1, 16, 512];

/// Contiguous memory beyond 4 MiB: three folios of 2 MiB, and single pages.
fn folios_in_a_row_and_the_pages_behind_them_come_back_zero() -> Outcome {
    const PAGES: usize = 3 * 512 + 3;
    come_back(Kind::Contiguous, PAGES, |session, _, offset| {
        let map = session.map(PAGES * PAGE, RW, SHARED, offset)?;
        check_eq!(map.differs(0), None, "first word that is not zero");
        Ok(())
    })
}

fn frames_that_come_back_are_zero_when_mapped() -> Outcome {
    for kind in KINDS {
        for pages in SIZES {
            come_back(kind, pages, |session, _, offset| {
                for (prot, flags) in [(RW, SHARED), (READ, PRIVATE)] {
                    let map = session.map(pages * PAGE, prot, flags, offset)?;
                    check_eq!(
                        map.differs(0),
                        None,
                        "{kind:?}, {pages} pages, first word that is not zero"
                    );
                }
                Ok(())
            })?;
        }
    }
    Ok(())
}

fn frames_that_come_back_are_zero_when_read() -> Outcome {
    for kind in KINDS {
        for pages in SIZES {
            come_back(kind, pages, |session, _, offset| {
                let mut bytes = vec![1; pages * PAGE];
                check_eq!(
                    session.pread(&mut bytes, offset)?,
                    bytes.len(),
                    "bytes read"
                );
                let first = bytes.iter().position(|byte| *byte != 0);
                check_eq!(
                    first,
                    None,
                    "{kind:?}, {pages} pages, first byte that is not zero"
                );
                Ok(())
            })?;
        }
    }
    Ok(())
}

fn frames_that_come_back_are_zero_in_a_dma_buf() -> Outcome {
    for kind in KINDS {
        come_back(kind, 16, |session, id, _| {
            let map = Map::new(&session.export(id)?, 16 * PAGE, READ, SHARED, 0)?;
            check_eq!(
                map.differs(0),
                None,
                "{kind:?}, first word that is not zero"
            );
            Ok(())
        })?;
    }
    Ok(())
}

// The case that matters most: what another program had in its memory.
fn frames_of_dead_processes_are_zero() -> Outcome {
    elsewhere(|| {
        let map = Map::anonymous(160 << 20)?;
        for at in (0..map.len).step_by(512) {
            map.set_u64(at, DIRT);
        }
        Ok(())
    })?;
    for (kind, size) in [
        (Kind::Vmalloc, 48 << 20),
        (Kind::Pages, 48 << 20),
        (Kind::Contiguous, 4 << 20),
        (Kind::Coherent, 4 << 20),
    ] {
        let session = Session::open()?;
        let (_, map) = session.mapped(kind, size)?;
        for at in (0..size).step_by(512) {
            check_eq!(map.u64(at), 0, "{kind:?}, word at {at:#x}");
        }
    }
    Ok(())
}

fn tail_of_the_last_page_is_zero() -> Outcome {
    for kind in KINDS {
        let session = Session::open()?;
        for _ in 0..64 {
            let (buffer, map) = session.mapped(kind, PAGE + 1)?;
            check_eq!(
                map.differs(0),
                None,
                "{kind:?}, first word that is not zero"
            );
            map.fill(DIRT);
            drop(map);
            session.free(buffer.id)?;
        }
    }
    Ok(())
}
