//! Many threads and processes at once: nothing is lost, nothing is shown to the wrong one.

use super::lifetime::comes_to;
use crate::check::{Failure, Outcome};
use crate::session::{alloc_request, id_offset, Refused, Session, KINDS};
use crate::sys::{fork, Ending, PAGE, PRIVATE, READ, RW, SHARED};
use crate::{check, check_eq};
use mapbuf_abi::{ioctl, Alloc, Kind, Reason};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

tests! { "concurrent":
    STOCK, 30: [
        threads_share_a_session,
        processes_share_a_session,
        free_races_mmap,
        unname_races_open,
        export_races_free,
        faults_race_unmapping,
        naming_races_naming,
    ];
}

const LONG: Duration = Duration::from_millis(1200);

/// A refusal that a race may end in.
fn one_of(refused: Refused, reasons: &[Reason]) -> Outcome {
    let reason = refused
        .said
        .and_then(|said| Reason::from_number(said.reason));
    check!(
        reason.is_some_and(|reason| reasons.contains(&reason)),
        "{refused}, must be one of {reasons:?}"
    );
    Ok(())
}

/// What a thread does again and again: its view of the session, and the number of the round.
type Body<'a> = dyn Fn(&Session, u64) -> Outcome + Sync + 'a;

/// Runs bodies in threads of their own, for a while; the first failure counts.
fn threads(session: &Session, bodies: &[&Body]) -> Outcome {
    let stop = AtomicBool::new(false);
    let rounds = AtomicU64::new(0);
    let start = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = bodies
            .iter()
            .map(|body| {
                let (stop, rounds) = (&stop, &rounds);
                let session = session.for_another_thread();
                scope.spawn(move || -> Outcome {
                    let mut round = 0;
                    // Longer where the machine is slow: each thread has its rounds.
                    while !stop.load(Ordering::Relaxed) && (start.elapsed() < LONG || round < 3) {
                        let result = body(&session, round);
                        if result.is_err() {
                            stop.store(true, Ordering::Relaxed);
                            return result;
                        }
                        round += 1;
                        rounds.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        for thread in threads {
            thread
                .join()
                .map_err(|_| Failure::new("a thread panicked"))??;
        }
        check!(
            rounds.load(Ordering::Relaxed) > bodies.len() as u64,
            "nothing was done"
        );
        Ok(())
    })
}

/// One life of a buffer, with a mark of its own that nobody else may see or change.
fn life(session: &Session, round: u64) -> Outcome {
    let kind = KINDS[round as usize % 4];
    let pages = 1 + round as usize % 3;
    let mark = u64::from(crate::sys::thread_id() as u32) << 32 | round;
    let (buffer, map) = session.mapped(kind, pages * PAGE)?;
    check_eq!(map.differs(0), None, "first word that is not zero");
    map.fill(mark);
    let private = session.map(pages * PAGE, READ, PRIVATE, id_offset(buffer.id))?;
    check_eq!(private.differs(mark), None, "first word that is not ours");
    check_eq!(session.info(buffer.id)?.mappings, 2, "mappings");
    session.free(buffer.id)?;
    check_eq!(
        map.differs(mark),
        None,
        "first word that is not ours, after the free"
    );
    Ok(())
}

fn threads_share_a_session() -> Outcome {
    let session = Session::open()?;
    threads(&session, &[&life, &life, &life, &life])?;
    comes_to(&session, 0, 0)
}

fn processes_share_a_session() -> Outcome {
    let session = Session::open()?;
    let mut children = Vec::new();
    for _ in 0..3 {
        children.push(fork(|| {
            let session = session.for_another_thread();
            let start = Instant::now();
            let mut round = 0;
            while start.elapsed() < LONG {
                if let Err(failure) = life(&session, round) {
                    eprintln!("{failure:?}");
                    return 1;
                }
                round += 1;
            }
            0
        })?);
    }
    for child in children {
        check_eq!(child.wait(), Ending::Exited(0), "a child's end");
    }
    comes_to(&session, 0, 0)
}

fn free_races_mmap() -> Outcome {
    let session = Session::open()?;
    let wanted = |kind: Kind| Alloc {
        id: 7,
        ..alloc_request(kind, 2 * PAGE as u64)
    };
    let maker = |session: &Session, round: u64| {
        if let Err(error) = session.ioctl(ioctl::ALLOC, wanted(KINDS[round as usize % 4])) {
            one_of(error, &[Reason::IdInUse])?;
        }
        if let Err(error) = session.free(7) {
            one_of(error, &[Reason::NoSuchId])?;
        }
        Ok(())
    };
    let mapper = |session: &Session, round: u64| {
        match session.map(2 * PAGE, RW, SHARED, id_offset(7)) {
            Ok(map) => {
                // Another mapper may have written its word already; nothing else may be there.
                let found = map.u64(PAGE);
                check!(found == 0 || found >> 32 == 0x77, "found {found:#x}");
                map.set_u64(PAGE, 0x77 << 32 | round);
            }
            Err(error) => one_of(error, &[Reason::NoSuchId])?,
        }
        Ok(())
    };
    threads(&session, &[&maker, &mapper, &mapper, &maker])?;
    // What the last maker left is the session's, and goes with it.
    drop(session);
    comes_to(&Session::open()?, 0, 0)
}

fn unname_races_open() -> Outcome {
    let session = Session::open()?;
    let namer = |session: &Session, round: u64| {
        let (buffer, map) = session.mapped(KINDS[round as usize % 4], PAGE)?;
        map.set_u64(0, 0x55);
        session.name(buffer.id, "race-open", 0o600)?;
        session.unname("race-open")?;
        session.free(buffer.id)?;
        Ok(())
    };
    let opener = |_: &Session, _: u64| {
        // The node may be gone when it is opened, and again when it is used.
        if let Ok(node) = Session::open_named("race-open", true) {
            let map = node.map(PAGE, RW, SHARED, 0)?;
            check_eq!(map.u64(0), 0x55, "word");
            check_eq!(node.info(0)?.bytes as usize, PAGE, "bytes");
        }
        Ok(())
    };
    let result = threads(&session, &[&namer, &opener, &opener]);
    // Only after a failure is it there.
    let _ = session.unname("race-open");
    result?;
    comes_to(&session, 0, 0)
}

// A descriptor that is installed before its buffer is safe would be freed twice here.
fn export_races_free() -> Outcome {
    let session = Session::open()?;
    let maker = |session: &Session, round: u64| {
        let request = Alloc {
            id: 3,
            ..alloc_request(KINDS[round as usize % 4], PAGE as u64)
        };
        if let Err(error) = session.ioctl(ioctl::ALLOC, request) {
            one_of(error, &[Reason::IdInUse])?;
        }
        if let Err(error) = session.free(3) {
            one_of(error, &[Reason::NoSuchId])?;
        }
        Ok(())
    };
    let exporter = |session: &Session, _: u64| {
        match session.export(3) {
            Ok(dma_buf) => drop(crate::sys::Map::new(&dma_buf, PAGE, RW, SHARED, 0)?),
            Err(error) => one_of(error, &[Reason::NoSuchId])?,
        }
        Ok(())
    };
    threads(&session, &[&maker, &exporter, &exporter])?;
    drop(session);
    comes_to(&Session::open()?, 0, 0)
}

fn faults_race_unmapping() -> Outcome {
    faults_race_unmapping_of(Kind::Pages)?;
    faults_race_unmapping_of(Kind::Vmalloc)
}

fn faults_race_unmapping_of(kind: Kind) -> Outcome {
    let session = Session::open()?;
    let (buffer, map) = session.mapped(kind, 4 << 20)?;
    let toucher = |_: &Session, round: u64| {
        let at = (round as usize * 7 * PAGE) % (4 << 20);
        map.set_u64(at, 1);
        Ok(())
    };
    let zapper = |_: &Session, round: u64| {
        let at = (round as usize * 5 * PAGE) % (4 << 20);
        map.advise(at, PAGE, libc::MADV_DONTNEED)?;
        Ok(())
    };
    let mapper = |session: &Session, round: u64| {
        let delta = (round as usize % 512) * PAGE;
        let other = session.map(2 << 20, RW, SHARED, buffer.mmap_offset + delta as u64)?;
        other.set_u64((2 << 20) - 8, 1);
        Ok(())
    };
    threads(&session, &[&toucher, &zapper, &mapper])?;
    check_eq!(session.info(buffer.id)?.mappings, 1, "mappings");
    Ok(())
}

fn naming_races_naming() -> Outcome {
    let session = Session::open()?;
    let namer = |session: &Session, round: u64| {
        let buffer = session.alloc(KINDS[round as usize % 4], PAGE)?;
        if let Err(error) = session.name(buffer.id, "race-name", 0o600) {
            one_of(error, &[Reason::NameTaken])?;
        }
        if let Err(error) = session.unname("race-name") {
            one_of(error, &[Reason::NameUnknown])?;
        }
        session.free(buffer.id)?;
        Ok(())
    };
    let lister = |_: &Session, _: u64| {
        for entry in std::fs::read_dir(mapbuf_abi::SYSFS_CLASS)?.flatten() {
            // It may be gone by now; it must not be a trap.
            let _ = std::fs::read_to_string(entry.path().join("kind"));
            let _ = std::fs::read_to_string(entry.path().join("mappings"));
        }
        Ok(())
    };
    let result = threads(&session, &[&namer, &namer, &lister]);
    // Only after a failure is it there.
    let _ = session.unname("race-name");
    result?;
    comes_to(&session, 0, 0)
}
