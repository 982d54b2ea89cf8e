//! `pread`, `pwrite` and `lseek`: the kernel's own view of the bytes, which must agree with the mapped one.

use super::sharing::{numbered, tag};
use crate::check::{core_refused, refused, Failure, Outcome};
use crate::session::{id_offset, Session, KINDS};
use crate::sys::{self, Map, PAGE, READ, RW, SHARED};
use crate::{check, check_eq};
use mapbuf_abi::{Kind, Operation, Reason};
use std::io::{Read, Write};

tests! { "bytes":
    BOTH, 30: [
        kernel_view_agrees_with_the_mapped_one,
        named_node_reads_and_writes,
        reads_stop_at_the_end,
        writes_stop_at_the_end,
    ];
    STOCK, 30: [
        ids_have_no_room_for_bytes,
        nothing_lies_at_other_offsets,
        seek_on_a_named_node,
        seek_on_a_session,
        sequential_reads_and_writes_move_the_position,
        bad_memory_is_refused,
        copies_cross_pages_and_folios,
        direction_must_fit_to_the_open,
    ];
}

/// Bytes that differ from place to place.
fn pattern(from: usize, len: usize) -> Vec<u8> {
    (from..from + len)
        .map(|at| (at * 7 + at / 256 * 13 + 1) as u8)
        .collect()
}

fn kernel_view_agrees_with_the_mapped_one() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        let (buffer, map) = session.mapped(kind, 8 * PAGE)?;
        map.set_bytes(0, &pattern(0, 8 * PAGE));
        for (at, len) in [
            (0, 1),
            (0, 8 * PAGE),
            (1, 3),
            (PAGE - 1, 2),
            (PAGE - 5, 2 * PAGE + 11),
            (7 * PAGE, PAGE),
        ] {
            let mut bytes = vec![0; len];
            let count = session.pread(&mut bytes, buffer.mmap_offset + at as u64)?;
            check_eq!(count, len, "{kind:?}, bytes read at {at}");
            check!(
                bytes == pattern(at, len),
                "{kind:?}: pread at {at} and the mapping disagree"
            );
            bytes.iter_mut().for_each(|byte| *byte = !*byte);
            let count = session.pwrite(&bytes, buffer.mmap_offset + at as u64)?;
            check_eq!(count, len, "{kind:?}, bytes written at {at}");
            check!(
                map.bytes(at, len) == bytes,
                "{kind:?}: pwrite at {at} and the mapping disagree"
            );
            if at > 0 {
                check_eq!(
                    map.u8(at - 1),
                    pattern(at - 1, 1)[0],
                    "{kind:?}, the byte before"
                );
            }
            if at + len < 8 * PAGE {
                check_eq!(
                    map.u8(at + len),
                    pattern(at + len, 1)[0],
                    "{kind:?}, the byte behind"
                );
            }
            map.set_bytes(at, &pattern(at, len));
        }
        check_eq!(
            session.pread(&mut [], buffer.mmap_offset)?,
            0,
            "an empty read"
        );
        session.free(buffer.id)?;
    }
    Ok(())
}

/// Runs a check on the node of a named buffer of each kind.
fn each_named(name: &str, pages: usize, check: impl Fn(&Session, &Map) -> Outcome) -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        let (buffer, map) = numbered(&session, kind, pages)?;
        session.name(buffer.id, name, 0o600)?;
        let result = match Session::open_named(name, true) {
            Ok(node) => check(&node, &map),
            Err(errno) => Err(errno.into()),
        };
        session.unname(name)?;
        result.map_err(|failure| match failure {
            Failure::Failed(why) => Failure::Failed(format!("{}: {why}", kind.name())),
            skipped => skipped,
        })?;
        drop(map);
        session.free(buffer.id)?;
    }
    Ok(())
}

fn named_node_reads_and_writes() -> Outcome {
    each_named("bytes-a", 4, |node, map| {
        let mut bytes = [0; 8];
        check_eq!(node.pread(&mut bytes, 2 * PAGE as u64)?, 8, "bytes read");
        check_eq!(u64::from_ne_bytes(bytes), tag(2), "page 2");
        check_eq!(
            node.pwrite(b"hello", 3 * PAGE as u64 - 2)?,
            5,
            "bytes written"
        );
        check_eq!(map.bytes(3 * PAGE - 2, 5), b"hello", "what was written");
        let whole = node.map(4 * PAGE, RW, SHARED, 0)?;
        check_eq!(
            whole.bytes(3 * PAGE - 2, 5),
            b"hello",
            "what was written, mapped from the node"
        );
        let part = node.map(PAGE, RW, SHARED, PAGE as u64)?;
        check_eq!(part.u64(0), tag(1), "page 1, mapped from the node");
        let operands = [PAGE, 4 * PAGE, 4 * PAGE].map(|value| value as u64);
        refused(
            node.map(4 * PAGE, RW, SHARED, PAGE as u64),
            Operation::Mmap,
            Reason::BeyondEnd,
            &operands,
        )
    })
}

fn reads_stop_at_the_end() -> Outcome {
    each_named("bytes-b", 4, |node, _| {
        let mut bytes = [1; 16];
        let end = 4 * PAGE as u64;
        check_eq!(
            node.pread(&mut bytes, end - 4)?,
            4,
            "bytes read across the end"
        );
        for offset in [end, end + 1, 1 << 40, i64::MAX as u64 - 16] {
            check_eq!(
                node.pread(&mut bytes, offset)?,
                0,
                "bytes read at {offset:#x}"
            );
        }
        Ok(())
    })?;
    // A neighbour in the space of offsets is not read into.
    let session = Session::open()?;
    for kind in KINDS {
        let one = session.alloc(kind, PAGE)?;
        let two = session.alloc(kind, PAGE)?;
        for buffer in [one, two] {
            let mut bytes = [0; 64];
            let count = session.pread(&mut bytes, buffer.mmap_offset + PAGE as u64 - 10)?;
            check_eq!(count, 10, "{kind:?}, bytes read across the end");
            let count = session.pwrite(&bytes, buffer.mmap_offset + PAGE as u64 - 10)?;
            check_eq!(count, 10, "{kind:?}, bytes written across the end");
        }
    }
    Ok(())
}

fn writes_stop_at_the_end() -> Outcome {
    each_named("bytes-c", 4, |node, map| {
        let end = 4 * PAGE as u64;
        check_eq!(
            node.pwrite(b"0123456789", end - 4)?,
            4,
            "bytes written across the end"
        );
        check_eq!(map.bytes(4 * PAGE - 5, 5), b"\x000123", "what was written");
        for offset in [end, end + 1, 1 << 40] {
            let operands = [offset, end];
            refused(
                node.pwrite(b"x", offset),
                Operation::Write,
                Reason::WriteBeyondEnd,
                &operands,
            )?;
        }
        Ok(())
    })
}

fn ids_have_no_room_for_bytes() -> Outcome {
    let session = Session::open()?;
    let buffer = session.alloc(Kind::Pages, 4 * PAGE)?;
    for offset in [
        0,
        1,
        id_offset(buffer.id),
        id_offset(buffer.id) + 8,
        (1 << 32) - 1,
    ] {
        let mut byte = [0];
        refused(
            session.pread(&mut byte, offset),
            Operation::Read,
            Reason::OffsetIsId,
            &[offset],
        )?;
        refused(
            session.pwrite(&byte, offset),
            Operation::Write,
            Reason::OffsetIsId,
            &[offset],
        )?;
    }
    Ok(())
}

fn nothing_lies_at_other_offsets() -> Outcome {
    let session = Session::open()?;
    let buffer = session.alloc(Kind::Pages, PAGE)?;
    let end = buffer.mmap_offset + PAGE as u64;
    for offset in [end + PAGE as u64, 1 << 43, 1 << 45] {
        let mut byte = [0];
        refused(
            session.pread(&mut byte, offset),
            Operation::Read,
            Reason::NothingAtOffset,
            &[offset],
        )?;
        refused(
            session.pwrite(&byte, offset),
            Operation::Write,
            Reason::NothingAtOffset,
            &[offset],
        )?;
    }
    session.free(buffer.id)?;
    let result = session.pread(&mut [0], buffer.mmap_offset);
    refused(
        result,
        Operation::Read,
        Reason::NothingAtOffset,
        &[buffer.mmap_offset],
    )
}

fn seek_on_a_named_node() -> Outcome {
    each_named("bytes-d", 4, |node, _| {
        let end = 4 * PAGE as i64;
        check_eq!(node.seek(0, libc::SEEK_END)?, end, "SEEK_END");
        check_eq!(
            node.seek(-8, libc::SEEK_END)?,
            end - 8,
            "SEEK_END, backwards"
        );
        check_eq!(node.seek(8, libc::SEEK_CUR)?, end, "SEEK_CUR");
        check_eq!(node.seek(-end, libc::SEEK_CUR)?, 0, "SEEK_CUR, backwards");
        check_eq!(node.seek(end, libc::SEEK_SET)?, end, "SEEK_SET, to the end");
        check_eq!(node.seek(100, libc::SEEK_SET)?, 100, "SEEK_SET");
        for (offset, whence) in [
            (-1, libc::SEEK_SET),
            (end + 1, libc::SEEK_SET),
            (1, libc::SEEK_END),
            (-end - 1, libc::SEEK_END),
            (-101, libc::SEEK_CUR),
            (end, libc::SEEK_CUR),
            (i64::MAX, libc::SEEK_CUR),
            (i64::MIN, libc::SEEK_END),
        ] {
            let operands = [offset as u64, whence as u64];
            refused(
                node.seek(offset, whence),
                Operation::Seek,
                Reason::BadSeek,
                &operands,
            )?;
            check_eq!(
                node.seek(0, libc::SEEK_CUR)?,
                100,
                "the position after a refusal"
            );
        }
        // `ksys_lseek` of fs/read_write.c looks at whence first.
        core_refused(node.seek(0, 99), libc::EINVAL)
    })
}

fn seek_on_a_session() -> Outcome {
    let session = Session::open()?;
    let (buffer, _map) = numbered(&session, Kind::Vmalloc, 4)?;
    let at = buffer.mmap_offset as i64;
    check_eq!(
        session.seek(at + PAGE as i64, libc::SEEK_SET)?,
        at + PAGE as i64,
        "SEEK_SET"
    );
    let mut bytes = [0; 8];
    let mut file = session.file();
    file.read_exact(&mut bytes)?;
    check_eq!(
        u64::from_ne_bytes(bytes),
        tag(1),
        "the word at the position"
    );
    check_eq!(
        session.seek(0, libc::SEEK_CUR)?,
        at + PAGE as i64 + 8,
        "the position after a read"
    );
    for (offset, whence) in [
        (-1, libc::SEEK_SET),
        (0, libc::SEEK_END),
        (i64::MIN, libc::SEEK_CUR),
    ] {
        let operands = [offset as u64, whence as u64];
        refused(
            session.seek(offset, whence),
            Operation::Seek,
            Reason::BadSeek,
            &operands,
        )?;
    }
    Ok(())
}

fn sequential_reads_and_writes_move_the_position() -> Outcome {
    each_named("bytes-e", 3, |node, map| {
        let mut file = node.file();
        let data = pattern(0, 3 * PAGE);
        for chunk in data.chunks(1000) {
            file.write_all(chunk)?;
        }
        check!(
            map.bytes(0, 3 * PAGE) == data,
            "what was written is not there"
        );
        let error = file
            .write(b"x")
            .err()
            .and_then(|error| error.raw_os_error());
        check_eq!(error, Some(libc::ENOSPC), "error of a write at the end");
        node.seek(0, libc::SEEK_SET)?;
        let mut back = Vec::new();
        file.read_to_end(&mut back)?;
        check!(
            back == data,
            "{} bytes came back, or other ones",
            back.len()
        );
        Ok(())
    })
}

// A copy that faults half-way tells how far it came, like any file; one that faults at once is EFAULT.
fn bad_memory_is_refused() -> Outcome {
    each_named("bytes-f", 4, |node, map| {
        let memory = Map::anonymous(3 * PAGE)?;
        memory.protect_part(2 * PAGE, PAGE, libc::PROT_NONE)?;
        let bad = 2 * PAGE;
        let none = node.explain(sys::pread_mapped(node, &memory, bad, 16, 0));
        refused(
            none,
            Operation::Read,
            Reason::BadAddress,
            &[(memory.start + bad) as u64],
        )?;
        let none = node.explain(sys::pwrite_mapped(node, &memory, bad, 16, 0));
        refused(
            none,
            Operation::Write,
            Reason::BadAddress,
            &[(memory.start + bad) as u64],
        )?;
        let some = node.explain(sys::pread_mapped(node, &memory, PAGE, 2 * PAGE, 0))?;
        check_eq!(some, PAGE, "bytes read before the bad page");
        check_eq!(memory.u64(PAGE), tag(0), "what was read");
        memory.set_u64(PAGE, 0x99);
        let some = node.explain(sys::pwrite_mapped(node, &memory, PAGE, 2 * PAGE, 0))?;
        check_eq!(some, PAGE, "bytes written before the bad page");
        check_eq!(
            (map.u64(0), map.u64(PAGE)),
            (0x99, tag(1)),
            "what was written"
        );
        // The buffer itself as the memory to read into.
        let own = node.map(4 * PAGE, RW, SHARED, 0)?;
        check_eq!(
            sys::pread_mapped(node, &own, 3 * PAGE, PAGE, PAGE as i64)?,
            PAGE,
            "bytes read into the buffer"
        );
        check_eq!(map.u64(3 * PAGE), tag(1), "page 1, copied to page 3");
        let own = node.map(4 * PAGE, READ, SHARED, 0)?;
        let none = node.explain(sys::pread_mapped(node, &own, 0, PAGE, 0));
        refused(none, Operation::Read, Reason::BadAddress, &[])
    })
}

// Hardened usercopy aborts a copy across the edge of a compound page (mm/usercopy.c), so none may be that long.
fn copies_cross_pages_and_folios() -> Outcome {
    const HUGE: usize = 2 << 20;
    let session = Session::open()?;
    for (kind, size) in [
        (Kind::Pages, 4 * HUGE),
        (Kind::Pages, HUGE + 13 * PAGE),
        (Kind::Contiguous, HUGE),
        (Kind::Coherent, HUGE),
        (Kind::Vmalloc, HUGE),
    ] {
        let (buffer, map) = session.mapped(kind, size)?;
        for at in (0..size).step_by(HUGE / 2).skip(1) {
            let data = pattern(at, 300);
            session.pwrite(&data, buffer.mmap_offset + at as u64 - 150)?;
            check!(
                map.bytes(at - 150, 300) == data,
                "{kind:?}: written across {at:#x}"
            );
        }
        let mut whole = vec![0; size];
        check_eq!(
            session.pread(&mut whole, buffer.mmap_offset)?,
            size,
            "{kind:?}, bytes read"
        );
        for at in (0..size).step_by(8) {
            let word = whole[at..at + 8].try_into().map(u64::from_ne_bytes).ok();
            check_eq!(word, Some(map.u64(at)), "{kind:?}, word at {at:#x}");
        }
        whole.fill(0x3c);
        check_eq!(
            session.pwrite(&whole, buffer.mmap_offset)?,
            size,
            "{kind:?}, bytes written"
        );
        check_eq!(
            map.differs(0x3c3c_3c3c_3c3c_3c3c),
            None,
            "{kind:?}, after a whole write"
        );
        drop(map);
        session.free(buffer.id)?;
    }
    Ok(())
}

// fs/read_write.c: reading wants FMODE_READ, writing wants FMODE_WRITE, EBADF otherwise.
fn direction_must_fit_to_the_open() -> Outcome {
    let session = Session::open_read_only()?;
    core_refused(session.pwrite(b"x", 1 << 32), libc::EBADF)?;
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(mapbuf_abi::SYSTEM_NODE)?;
    let session = Session::from_file(file);
    let buffer = session.alloc(Kind::Pages, PAGE)?;
    core_refused(session.pread(&mut [0], buffer.mmap_offset), libc::EBADF)?;
    check_eq!(
        session.pwrite(b"x", buffer.mmap_offset)?,
        1,
        "bytes written"
    );
    Ok(())
}
