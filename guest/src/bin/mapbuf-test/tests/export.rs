//! `EXPORT`: a buffer as a dma-buf descriptor.

use super::lifetime::comes_to;
use super::sharing::{numbered, shows};
use crate::check::{elsewhere, fails, refused, Outcome};
use crate::session::{id_offset, Session, KINDS};
use crate::sys::{self, Map, EXEC, PAGE, PRIVATE, READ, RW, SHARED};
use crate::{check, check_eq};
use mapbuf_abi::{Kind, Operation, Reason};
use std::fs;
use std::os::fd::AsRawFd;

tests! { "export":
    BOTH, 20: [
        dma_buf_maps_the_same_bytes,
        dma_buf_outlives_its_session,
    ];
    STOCK, 20: [
        dma_buf_is_as_long_as_the_buffer,
        dma_buf_maps_a_part_and_not_more,
        dma_buf_closes_on_exec,
        dma_buf_sync_works,
        dma_buf_twice_is_the_same_buffer,
        read_only_session_exports_nothing,
        private_mappings_of_a_dma_buf,
        dma_buf_of_a_freed_buffer_stays_charged,
        dma_buf_is_never_executable,
        child_uses_an_inherited_dma_buf,
        imported_buffer_is_the_same_buffer,
        import_refuses_what_is_not_ours,
    ];
}

fn dma_buf_maps_the_same_bytes() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        let (buffer, map) = numbered(&session, kind, 8)?;
        let dma_buf = session.export(buffer.id)?;
        let other = Map::new(&dma_buf, 8 * PAGE, RW, SHARED, 0)?;
        shows(&other, 0, 8, 0)?;
        other.set_u64(8, 1);
        check_eq!(
            map.u64(8),
            1,
            "{kind:?}, a word written through the dma-buf"
        );
    }
    Ok(())
}

fn dma_buf_outlives_its_session() -> Outcome {
    for kind in KINDS {
        let session = Session::open()?;
        let (buffer, map) = numbered(&session, kind, 8)?;
        let dma_buf = session.export(buffer.id)?;
        drop((session, map));
        let session = Session::open()?;
        comes_to(&session, 1, 8 * PAGE)?;
        let map = Map::new(&dma_buf, 8 * PAGE, RW, SHARED, 0)?;
        drop(dma_buf);
        shows(&map, 0, 8, 0)?;
        comes_to(&session, 1, 8 * PAGE)?;
        drop(map);
        comes_to(&session, 0, 0)?;
    }
    Ok(())
}

// `dma_buf_llseek` of drivers/dma-buf/dma-buf.c: SEEK_END and SEEK_SET with 0 are how one asks for the size.
fn dma_buf_is_as_long_as_the_buffer() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        let buffer = session.alloc(kind, 5 * PAGE - 7)?;
        let dma_buf = session.export(buffer.id)?;
        check_eq!(
            sys::seek(&dma_buf, 0, libc::SEEK_END)?,
            5 * PAGE as i64,
            "{kind:?}, size"
        );
        check_eq!(
            sys::seek(&dma_buf, 0, libc::SEEK_SET)?,
            0,
            "{kind:?}, start"
        );
    }
    Ok(())
}

// `dma_buf_mmap_internal` compares with the size before our code is asked: EINVAL.
fn dma_buf_maps_a_part_and_not_more() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        let (buffer, _map) = numbered(&session, kind, 8)?;
        let dma_buf = session.export(buffer.id)?;
        let part = Map::new(&dma_buf, 3 * PAGE, RW, SHARED, 5 * PAGE as u64)?;
        shows(&part, 0, 3, 5)?;
        for (first, pages) in [(0, 9), (5, 4), (8, 1), (1 << 20, 1)] {
            fails(
                Map::new(&dma_buf, pages * PAGE, RW, SHARED, (first * PAGE) as u64),
                libc::EINVAL,
            )?;
        }
        for end in [u64::MAX - 4095, (1 << 63) - 4096] {
            check!(
                Map::new(&dma_buf, PAGE, RW, SHARED, end).is_err(),
                "{end:#x} maps"
            );
        }
        // The id means nothing here.
        shows(&Map::new(&dma_buf, PAGE, RW, SHARED, PAGE as u64)?, 0, 1, 1)?;
    }
    Ok(())
}

fn dma_buf_closes_on_exec() -> Outcome {
    let session = Session::open()?;
    let buffer = session.alloc(Kind::Pages, PAGE)?;
    let dma_buf = session.export(buffer.id)?;
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", dma_buf.as_raw_fd()))?;
    let flags = info
        .lines()
        .find_map(|line| line.strip_prefix("flags:"))
        .unwrap_or_default()
        .trim();
    let flags = i32::from_str_radix(flags, 8).unwrap_or(0);
    check!(flags & libc::O_CLOEXEC != 0, "flags {flags:#o}");
    let exporter = info.lines().find_map(|line| line.strip_prefix("exp_name:"));
    check_eq!(exporter.map(str::trim), Some("mapbuf"), "exporter");
    let size = info.lines().find_map(|line| line.strip_prefix("size:"));
    check_eq!(size.map(str::trim), Some("4096"), "size");
    check_eq!(flags & libc::O_ACCMODE, libc::O_RDWR, "access mode");
    Ok(())
}

fn dma_buf_sync_works() -> Outcome {
    // DMA_BUF_IOCTL_SYNC, _IOW('b', 0, u64): START 0, END 4, RW 3.
    const SYNC: u32 = 1 << 30 | 8 << 16 | 0x62 << 8;
    let session = Session::open()?;
    for kind in KINDS {
        let buffer = session.alloc(kind, PAGE)?;
        let dma_buf = session.export(buffer.id)?;
        let map = Map::new(&dma_buf, PAGE, RW, SHARED, 0)?;
        for flags in [3_u64, 7] {
            sys::ioctl_bytes(&dma_buf, SYNC, &mut flags.to_ne_bytes())?;
            map.set_u64(0, flags);
        }
        fails(
            sys::ioctl_bytes(&dma_buf, SYNC, &mut 0xff_u64.to_ne_bytes()),
            libc::EINVAL,
        )?;
    }
    Ok(())
}

fn dma_buf_twice_is_the_same_buffer() -> Outcome {
    let session = Session::open()?;
    let (buffer, _map) = numbered(&session, Kind::Pages, 4)?;
    let one = session.export(buffer.id)?;
    let two = session.export(buffer.id)?;
    check_eq!(session.query()?.buffers, 1, "buffers");
    Map::new(&one, PAGE, RW, SHARED, 0)?.set_u64(8, 1);
    check_eq!(
        Map::new(&two, PAGE, RW, SHARED, 0)?.u64(8),
        1,
        "a word through the other descriptor"
    );
    drop(one);
    shows(&Map::new(&two, 4 * PAGE, RW, SHARED, 0)?, 0, 4, 0)
}

// The core does not look at the mode of the open for an ioctl, and a dma-buf is always writable.
fn read_only_session_exports_nothing() -> Outcome {
    let session = Session::open()?;
    let buffer = session.alloc(Kind::Pages, PAGE)?;
    session.name(buffer.id, "no-export", 0o600)?;
    let result = (|| {
        let node = Session::open_named("no-export", false)?;
        let operands = [Operation::Export.number().into()];
        refused(
            node.export(0),
            Operation::Export,
            Reason::ReadOnlyOpen,
            &operands,
        )?;
        let reader = Session::open_read_only()?;
        refused(
            reader.export(1),
            Operation::Export,
            Reason::ReadOnlyOpen,
            &operands,
        )
    })();
    session.unname("no-export")?;
    result
}

fn private_mappings_of_a_dma_buf() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        let (buffer, shared) = numbered(&session, kind, 4)?;
        let dma_buf = session.export(buffer.id)?;
        let read = Map::new(&dma_buf, 4 * PAGE, READ, PRIVATE, 0)?;
        shows(&read, 0, 4, 0)?;
        fails(read.protect(RW), libc::EACCES)?;
        let copy = Map::new(&dma_buf, 2 * PAGE, RW, PRIVATE, PAGE as u64)?;
        copy.set_u64(8, 1);
        shows(&copy, 0, 2, 1)?;
        check_eq!(
            shared.u64(PAGE + 8),
            0,
            "{kind:?}, the shared view of a private write"
        );
    }
    Ok(())
}

fn dma_buf_of_a_freed_buffer_stays_charged() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        let buffer = session.alloc(kind, 4 * PAGE)?;
        let dma_buf = session.export(buffer.id)?;
        session.free(buffer.id)?;
        comes_to(&session, 1, 4 * PAGE)?;
        drop(dma_buf);
        comes_to(&session, 0, 0)?;
    }
    Ok(())
}

fn dma_buf_is_never_executable() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        let buffer = session.alloc(kind, PAGE)?;
        let dma_buf = session.export(buffer.id)?;
        for flags in [SHARED, PRIVATE] {
            // EPERM where the file system of dma-bufs is noexec, EACCES from us otherwise.
            let errno = Map::new(&dma_buf, PAGE, READ | EXEC, flags, 0)
                .err()
                .map(|errno| errno.0);
            check!(
                matches!(errno, Some(libc::EACCES | libc::EPERM)),
                "{kind:?}: {errno:?}"
            );
            let map = Map::new(&dma_buf, PAGE, READ, flags, 0)?;
            fails(map.protect(READ | EXEC), libc::EACCES)?;
        }
    }
    Ok(())
}

fn child_uses_an_inherited_dma_buf() -> Outcome {
    for kind in KINDS {
        let session = Session::open()?;
        let buffer = session.alloc(kind, 2 * PAGE)?;
        let dma_buf = session.export(buffer.id)?;
        drop(session);
        elsewhere(|| {
            Map::new(&dma_buf, 2 * PAGE, RW, SHARED, 0)?.set_u64(PAGE, 7);
            Ok(())
        })?;
        check_eq!(
            Map::new(&dma_buf, 2 * PAGE, RW, SHARED, 0)?.u64(PAGE),
            7,
            "{kind:?}, the child's word"
        );
    }
    Ok(())
}

fn imported_buffer_is_the_same_buffer() -> Outcome {
    for kind in KINDS {
        let (one, two) = (Session::open()?, Session::open()?);
        let (buffer, map) = numbered(&one, kind, 4)?;
        let dma_buf = one.export(buffer.id)?;
        let taken = two.import(dma_buf.as_raw_fd(), 0)?;
        check_eq!(taken.bytes as usize, 4 * PAGE, "{kind:?}, bytes");
        let other = two.map(4 * PAGE, RW, SHARED, taken.mmap_offset)?;
        shows(&other, 0, 4, 0)?;
        let by_id = two.map(PAGE, RW, SHARED, id_offset(taken.id))?;
        shows(&by_id, 0, 1, 0)?;
        other.set_u64(8, 1);
        check_eq!(map.u64(8), 1, "{kind:?}, a word of the other session's");
        check_eq!(one.query()?.buffers, 1, "{kind:?}, buffers");
        check_eq!(two.info(taken.id)?.mappings, 3, "{kind:?}, mappings");
        // The wanted id, and one that is taken.
        check_eq!(two.import(dma_buf.as_raw_fd(), 77)?.id, 77, "wanted id");
        let again = two.import(dma_buf.as_raw_fd(), 77);
        refused(again, Operation::Import, Reason::IdInUse, &[77])?;
        // Gone here, it is still there.
        two.free(taken.id)?;
        two.free(77)?;
        drop((dma_buf, other, by_id));
        shows(&map, 1, 3, 1)?;
        check_eq!(one.info(buffer.id)?.mappings, 1, "{kind:?}, mappings");
        // The other way round: the importer keeps it.
        let dma_buf = one.export(buffer.id)?;
        let taken = two.import(dma_buf.as_raw_fd(), 0)?;
        drop((dma_buf, map, one));
        let map = two.map(4 * PAGE, RW, SHARED, taken.mmap_offset)?;
        shows(&map, 1, 3, 1)?;
        drop(map);
        two.free(taken.id)?;
        comes_to(&two, 0, 0)?;
    }
    Ok(())
}

fn import_refuses_what_is_not_ours() -> Outcome {
    let session = Session::open()?;
    let (pipe, _other_end) = sys::pipe()?;
    for fd in [-1, 9999, pipe.as_raw_fd(), session.file().as_raw_fd()] {
        let operands = [i64::from(fd) as u64];
        refused(
            session.import(fd, 0),
            Operation::Import,
            Reason::NotADmaBuf,
            &operands,
        )?;
    }
    let reader = Session::open_read_only()?;
    let buffer = session.alloc(Kind::Pages, PAGE)?;
    let dma_buf = session.export(buffer.id)?;
    let result = reader.import(dma_buf.as_raw_fd(), 0);
    refused(result, Operation::Import, Reason::ReadOnlyOpen, &[])
}
