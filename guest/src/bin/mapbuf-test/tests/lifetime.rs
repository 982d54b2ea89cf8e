//! Memory lives as long as somebody uses it, and not longer.

use super::sharing::{numbered, shows};
use crate::check::{elsewhere, refused, Failure, Outcome};
use crate::proc::meminfo;
use crate::session::{id_offset, Session, KINDS};
use crate::sys::{fork, pipe, until, Ending, PAGE, RW, SHARED};
use crate::{check, check_eq};
use mapbuf_abi::{Kind, Operation, Reason};
use std::io::{Read, Write};
use std::time::Duration;

tests! { "lifetime":
    BOTH, 30: [
        freed_while_mapped_stays_until_unmapped,
        session_closed_before_use,
        killed_session_gives_everything_back,
    ];
    STOCK, 30: [
        freed_id_can_be_given_to_another_buffer,
        mapping_of_a_child_outlives_everything_else,
        inherited_session_works_and_outlives_its_opener,
        session_with_many_buffers_is_emptied_on_close,
        exit_without_cleaning_up_gives_everything_back,
        killed_while_allocating_gives_everything_back,
    ];
}

/// How long the last reference to a buffer may take to go: it is dropped in task work.
const SOON: Duration = Duration::from_secs(2);

/// Waits until the driver holds this many buffers and bytes.
#[track_caller]
pub fn comes_to(session: &Session, buffers: u64, bytes: usize) -> Outcome {
    let mut last = session.query()?;
    until(SOON, || {
        last = session.query().unwrap_or(last);
        (last.buffers, last.used_bytes) == (buffers, bytes as u64)
    });
    if (last.buffers, last.used_bytes) != (buffers, bytes as u64) {
        return Err(Failure::new(format!(
            "{} buffers and {} bytes are held, must be {buffers} and {bytes}",
            last.buffers, last.used_bytes
        )));
    }
    Ok(())
}

fn freed_while_mapped_stays_until_unmapped() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        let (buffer, map) = numbered(&session, kind, 16)?;
        // Half of another mapping is touched for the first time after the free.
        let other = session.map(16 * PAGE, RW, SHARED, buffer.mmap_offset)?;
        shows(&other, 0, 8, 0)?;
        session.free(buffer.id)?;
        shows(&map, 0, 16, 0)?;
        shows(&other, 0, 16, 0)?;
        refused(
            session.info(buffer.id),
            Operation::Info,
            Reason::NoSuchId,
            &[buffer.id.into()],
        )?;
        let offset = id_offset(buffer.id);
        refused(
            session.map(PAGE, RW, SHARED, offset),
            Operation::Mmap,
            Reason::NoSuchId,
            &[buffer.id.into()],
        )?;
        let info = session.info(0)?;
        check_eq!(
            (info.freed_held, info.freed_held_bytes),
            (1, 16 * PAGE as u64),
            "{kind:?}, what is freed and held"
        );
        drop(map);
        comes_to(&session, 1, 16 * PAGE)?;
        other.set_u64(8, 1);
        drop(other);
        comes_to(&session, 0, 0)?;
        let info = session.info(0)?;
        check_eq!(
            (info.freed_held, info.freed_held_bytes),
            (0, 0),
            "{kind:?}, what is freed and held in the end"
        );
    }
    Ok(())
}

fn session_closed_before_use() -> Outcome {
    for kind in KINDS {
        let session = Session::open()?;
        let (buffer, map) = numbered(&session, kind, 16)?;
        let fresh = session.map(16 * PAGE, RW, SHARED, buffer.mmap_offset)?;
        drop(session);
        shows(&fresh, 0, 16, 0)?;
        fresh.set_u64(8, 1);
        check_eq!(map.u64(8), 1, "{kind:?}, a word written after close");
        let session = Session::open()?;
        comes_to(&session, 1, 16 * PAGE)?;
        drop((map, fresh));
        comes_to(&session, 0, 0)?;
    }
    Ok(())
}

/// Bytes that a killed child had: scattered memory, and as much in one run as the DMA API gives without a CMA area.
const HELD: [usize; 4] = [24 << 20, 24 << 20, 4 << 20, 4 << 20];

/// A child takes memory, touches all of it, and is killed; answers with MemAvailable before that.
fn take_and_be_killed(session: &Session) -> Outcome<u64> {
    let (mut ready, mut go) = pipe()?;
    let child = fork(move || {
        let filled: Outcome = (|| {
            let session = Session::open()?;
            for (kind, size) in KINDS.into_iter().zip(HELD) {
                let (_, map) = session.mapped(kind, size)?;
                map.fill(0x5a5a);
                std::mem::forget(map);
            }
            go.write_all(b"x")?;
            loop {
                std::thread::sleep(Duration::from_secs(1));
            }
        })();
        i32::from(filled.is_err())
    })?;
    let mut byte = [0];
    check_eq!(ready.read(&mut byte)?, 1, "word from the child");
    let held = session.query()?;
    check_eq!(
        (held.buffers, held.used_bytes as usize),
        (4, HELD.iter().sum()),
        "what the child holds"
    );
    let during = meminfo("MemAvailable");
    child.kill(libc::SIGKILL);
    check_eq!(
        child.wait(),
        Ending::Signalled(libc::SIGKILL),
        "the child's end"
    );
    comes_to(session, 0, 0)?;
    Ok(during)
}

// Free pages on per-CPU lists count as used; they settle after the first round. A buffer that stays each time does not.
fn killed_session_gives_everything_back() -> Outcome {
    let session = Session::open()?;
    take_and_be_killed(&session)?;
    let before = meminfo("MemAvailable");
    let mut during = 0;
    for _ in 0..4 {
        during = take_and_be_killed(&session)?;
    }
    let mut after = 0;
    let back = until(Duration::from_secs(5), || {
        after = meminfo("MemAvailable");
        after + (12 << 10) >= before
    });
    check!(
        back,
        "MemAvailable was {before} KiB, then {during}, and is {after}"
    );
    check!(
        during + (HELD.iter().sum::<usize>() as u64 >> 10) / 2 < before,
        "MemAvailable {during} KiB of {before} shows nothing of the buffers"
    );
    Ok(())
}

fn freed_id_can_be_given_to_another_buffer() -> Outcome {
    let session = Session::open()?;
    let wanted = mapbuf_abi::Alloc {
        id: 9,
        ..crate::session::alloc_request(Kind::Pages, 4096)
    };
    let first = session.ioctl(mapbuf_abi::ioctl::ALLOC, wanted)?;
    let map = session.map(PAGE, RW, SHARED, id_offset(9))?;
    map.set_u64(0, 1);
    session.free(9)?;
    let second = session.ioctl(mapbuf_abi::ioctl::ALLOC, wanted)?;
    let other = session.map(PAGE, RW, SHARED, id_offset(9))?;
    check_eq!(other.u64(0), 0, "the second buffer with id 9");
    other.set_u64(0, 2);
    check_eq!(map.u64(0), 1, "the first buffer with id 9");
    check_eq!((first.id, second.id), (9, 9), "ids");
    Ok(())
}

fn mapping_of_a_child_outlives_everything_else() -> Outcome {
    for kind in KINDS {
        let session = Session::open()?;
        let (buffer, map) = numbered(&session, kind, 4)?;
        let (mut read, mut write) = pipe()?;
        let child = fork(move || {
            drop(session);
            let mut byte = [0];
            let told = read.read(&mut byte).is_ok_and(|count| count == 1);
            i32::from(!told || shows(&map, 0, 4, 0).is_err())
        })?;
        let session = Session::open()?;
        comes_to(&session, 1, 4 * PAGE)?;
        check!(buffer.id != 0, "no id");
        // `map` and the first session were moved into the child's closure, and are gone here.
        write.write_all(b"x")?;
        check_eq!(child.wait(), Ending::Exited(0), "{kind:?}, the child's end");
        comes_to(&session, 0, 0)?;
    }
    Ok(())
}

fn inherited_session_works_and_outlives_its_opener() -> Outcome {
    let session = Session::open()?;
    let buffer = session.alloc(Kind::Vmalloc, PAGE)?;
    elsewhere(|| {
        session
            .map(PAGE, RW, SHARED, buffer.mmap_offset)?
            .set_u64(0, 5);
        let mine = session.alloc(Kind::Pages, PAGE)?;
        session.map(PAGE, RW, SHARED, mine.mmap_offset)?;
        Ok(())
    })?;
    // The child's buffer belongs to the session that both share.
    check_eq!(session.query()?.buffers, 2, "buffers");
    check_eq!(
        session.map(PAGE, RW, SHARED, buffer.mmap_offset)?.u64(0),
        5,
        "the child's word"
    );
    Ok(())
}

fn session_with_many_buffers_is_emptied_on_close() -> Outcome {
    let watch = Session::open()?;
    let session = Session::open()?;
    let mut bytes = 0;
    for number in 0..400 {
        let buffer = session.alloc(KINDS[number % 4], (1 + number % 5) * PAGE)?;
        bytes += buffer.bytes as usize;
        if number % 3 == 0 {
            session.free(buffer.id)?;
            bytes -= buffer.bytes as usize;
        }
    }
    check_eq!(watch.query()?.used_bytes as usize, bytes, "bytes held");
    drop(session);
    comes_to(&watch, 0, 0)
}

fn exit_without_cleaning_up_gives_everything_back() -> Outcome {
    let watch = Session::open()?;
    for kind in KINDS {
        elsewhere(|| {
            let session = Session::open()?;
            let (buffer, map) = numbered(&session, kind, 8)?;
            let dma_buf = session.export(buffer.id)?;
            session.free(buffer.id)?;
            std::mem::forget((session, map, dma_buf));
            Ok(())
        })?;
        comes_to(&watch, 0, 0)?;
    }
    Ok(())
}

fn killed_while_allocating_gives_everything_back() -> Outcome {
    let watch = Session::open()?;
    for kind in KINDS {
        for delay in [0, 2, 5, 10] {
            let child = fork(|| {
                let Ok(session) = Session::open() else {
                    return 1;
                };
                loop {
                    let size = if kind == Kind::Coherent || kind == Kind::Contiguous {
                        2 << 20
                    } else {
                        64 << 20
                    };
                    match session.alloc(kind, size) {
                        Ok(buffer) => drop(session.free(buffer.id)),
                        Err(_) => return 2,
                    }
                }
            })?;
            std::thread::sleep(Duration::from_millis(delay));
            child.kill(libc::SIGKILL);
            check_eq!(
                child.wait(),
                Ending::Signalled(libc::SIGKILL),
                "{kind:?}, the child's end"
            );
            comes_to(&watch, 0, 0)?;
        }
    }
    Ok(())
}
