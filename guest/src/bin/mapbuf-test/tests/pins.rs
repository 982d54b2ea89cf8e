//! Page-backed memory is ordinary memory to the rest of the kernel: it can be pinned, and then outlives everything.

use super::lifetime::comes_to;
use super::sharing::{numbered, tag};
use crate::check::{fails, refused, Outcome};
use crate::proc::Parameter;
use crate::session::{Session, KINDS};
use crate::sys::{self, Ring, PAGE};
use crate::{check, check_eq, skip};
use mapbuf_abi::{Kind, Operation, Reason};
use std::fs::File;
use std::io::Read;

tests! { "pins":
    BOTH, 20: [
        io_uring_takes_page_backed_memory_as_fixed_buffers,
        pages_in_a_pipe_outlive_the_buffer,
    ];
    STOCK, 20: [ fixed_buffers_of_huge_pages ];
    STOCK, 60: [
        pin_keeps_its_part_of_the_charge,
        pins_do_not_get_around_the_limits,
    ];
}

/// Kinds whose memory has pages that can be pinned; a PFN map has none (`check_vma_flags` of mm/gup.c).
fn paged(kind: Kind) -> bool {
    kind != Kind::Coherent
}

fn io_uring_takes_page_backed_memory_as_fixed_buffers() -> Outcome {
    for kind in KINDS {
        let session = Session::open()?;
        let (buffer, map) = numbered(&session, kind, 24)?;
        let Ok(ring) = Ring::new() else {
            skip!("io_uring is switched off");
        };
        if !paged(kind) {
            fails(ring.register(&map, 0, map.len), libc::EFAULT)?;
            continue;
        }
        ring.register(&map, 0, map.len)?;
        // Pinned for long, the pages stay where they are, and shared.
        map.set_u64(8, 1);
        let mut word = [0; 8];
        session.pread(&mut word, buffer.mmap_offset + 8)?;
        check_eq!(
            u64::from_ne_bytes(word),
            1,
            "{kind:?}, a word written while pinned"
        );
        session.free(buffer.id)?;
        drop(map);
        drop(ring);
        comes_to(&session, 0, 0)?;
    }
    Ok(())
}

// vmsplice takes references to pages, not to the file: the pages are still there when the buffer has long gone.
fn pages_in_a_pipe_outlive_the_buffer() -> Outcome {
    for kind in KINDS {
        let session = Session::open()?;
        let (buffer, map) = numbered(&session, kind, 8)?;
        let (mut read, write) = sys::pipe()?;
        let spliced = sys::splice_memory(&write, &map, 0, 8 * PAGE);
        if !paged(kind) {
            fails(spliced, libc::EFAULT)?;
            continue;
        }
        check_eq!(spliced?, 8 * PAGE, "{kind:?}, bytes in the pipe");
        session.free(buffer.id)?;
        drop(map);
        // Nor does the charge end before the pages do.
        comes_to(&session, 1, 8 * PAGE)?;
        let info = session.info(0)?;
        check_eq!(
            (info.freed_held, info.freed_held_bytes),
            (1, 8 * PAGE as u64),
            "{kind:?}, what is freed and held"
        );
        // Whoever gets memory now must not get that.
        for _ in 0..64 {
            let (_, map) = session.mapped(kind, 8 * PAGE)?;
            check_eq!(
                map.differs(0),
                None,
                "{kind:?}, first word that is not zero"
            );
            map.fill(!0);
        }
        let mut bytes = vec![0; 8 * PAGE];
        read.read_exact(&mut bytes)?;
        for (page, bytes) in bytes.chunks(PAGE).enumerate() {
            check!(
                bytes[..8] == tag(page).to_ne_bytes(),
                "{kind:?}: page {page} has become {:x?}",
                &bytes[..8]
            );
        }
        drop((read, write, session));
        comes_to(&Session::open()?, 0, 0)?;
    }
    Ok(())
}

fn fixed_buffers_of_huge_pages() -> Outcome {
    const HUGE: usize = 2 << 20;
    for (kind, size) in [
        (Kind::Pages, 4 * HUGE),
        (Kind::Contiguous, HUGE),
        (Kind::Contiguous, 4 * HUGE),
        (Kind::Vmalloc, HUGE),
    ] {
        let session = Session::open()?;
        let (buffer, mut map) = session.mapped(kind, size)?;
        let Ok(ring) = Ring::new() else {
            skip!("io_uring is switched off");
        };
        // From and to the middle of pages, too.
        ring.register(&map, 100, size - 200)?;
        map.unmap_part(PAGE, PAGE)?;
        map.set_u64(2 * PAGE, 1);
        let mut word = [0; 8];
        session.pread(&mut word, buffer.mmap_offset + 2 * PAGE as u64)?;
        check_eq!(
            u64::from_ne_bytes(word),
            1,
            "{kind:?}, a word behind a hole"
        );
        drop(ring);
        map.unmap()?;
        session.free(buffer.id)?;
        comes_to(&session, 0, 0)?;
    }
    Ok(())
}

/// A buffer that is gone but for the page that a pipe has; and the pipe.
fn pinned(session: &Session, kind: Kind, size: usize) -> Outcome<(File, File)> {
    let (buffer, map) = session.mapped(kind, size)?;
    let (read, write) = sys::pipe()?;
    check_eq!(
        sys::splice_memory(&write, &map, size / 2, 1)?,
        1,
        "{kind:?}, bytes in the pipe"
    );
    session.free(buffer.id)?;
    drop(map);
    Ok((read, write))
}

// A folio is freed as a whole, with its last reference; so what a pin keeps is the folio of the page.
fn pin_keeps_its_part_of_the_charge() -> Outcome {
    const MIB: usize = 1 << 20;
    let session = Session::open()?;
    for (kind, size, kept) in [
        (Kind::Vmalloc, MIB, PAGE),
        (Kind::Contiguous, MIB, MIB),
        (Kind::Contiguous, 3 * MIB, PAGE),
        (Kind::Contiguous, 4 * MIB, 4 * MIB),
        // Folios of a huge entry each.
        (Kind::Contiguous, 8 * MIB, 2 * MIB),
        (Kind::Contiguous, 12 * MIB, 2 * MIB),
    ] {
        let pipe = pinned(&session, kind, size)?;
        comes_to(&session, 1, kept)?;
        drop(pipe);
        comes_to(&session, 0, 0)?;
    }
    Ok(())
}

fn pins_do_not_get_around_the_limits() -> Outcome {
    // One folio, which a pin keeps whole.
    const SIZE: usize = 4 << 20;
    let _limit = Parameter::set("max_bytes", 3 * SIZE as u64)?;
    let session = Session::open()?;
    let mut pipes = Vec::new();
    for _ in 0..3 {
        pipes.push(pinned(&session, Kind::Contiguous, SIZE)?);
    }
    let operands = [SIZE as u64, 3 * SIZE as u64, 3 * SIZE as u64];
    let one_more = session.alloc(Kind::Contiguous, SIZE);
    refused(one_more, Operation::Alloc, Reason::OverLimit, &operands)?;
    // What ends a pin need not be told to the driver: whoever wants the bytes gets them at once.
    pipes.pop();
    let buffer = session.alloc(Kind::Contiguous, SIZE)?;
    session.free(buffer.id)?;
    drop(pipes);
    comes_to(&session, 0, 0)
}
