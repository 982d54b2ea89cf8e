//! What a user cannot do to others: take the kernel's memory without being charged, bring the OOM killer on somebody
//! else, outlive a signal.

use super::lifetime::comes_to;
use super::limits::Group;
use super::names::OpenToAll;
use crate::check::{elsewhere, Failure, Outcome};
use crate::session::{Session, KINDS};
use crate::sys::{become_user, fork, pipe, until, Ending, PAGE, PRIVATE, RW, SHARED};
use crate::{check, check_eq, skip};
use mapbuf_abi::{Kind, Method};
use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::time::Duration;

tests! { "denial":
    STOCK, 60: [
        open_files_are_charged,
        ids_and_offsets_are_charged,
        what_is_charged_to_nobody_is_less_than_the_limits_see,
        oom_stays_inside,
        full_cgroup_harms_nobody_else,
    ];
    STOCK, 180: [
        gathering_memory_ends_with_the_caller,
        mapping_ends_with_the_caller,
    ];
}

/// How much a cgroup's charge grows by something that a process in it does.
fn charged(name: &str, body: impl FnOnce() -> Outcome) -> Outcome<usize> {
    let group = Group::new(name)?;
    let mut grown = 0;
    let (mut read, mut write) = pipe()?;
    elsewhere(|| {
        group.enter()?;
        let before = group.current()?;
        body()?;
        let after = group.current()?;
        write.write_all(&after.saturating_sub(before).to_ne_bytes())?;
        Ok(())
    })?;
    drop(write);
    let mut bytes = [0; size_of::<usize>()];
    read.read_exact(&mut bytes)?;
    grown += usize::from_ne_bytes(bytes);
    Ok(grown)
}

// An open file of ours has room for the refusals of 32 threads: about 3 KiB, from `GFP_KERNEL_ACCOUNT`. What `open`
// itself takes (`struct file`, 200 bytes) would not come near.
fn open_files_are_charged() -> Outcome {
    const FILES: usize = 800;
    let grown = charged("files", || {
        let files: Result<Vec<_>, _> = (0..FILES).map(|_| Session::open()).collect();
        // They are closed when the process ends.
        std::mem::forget(files?);
        Ok(())
    })?;
    check!(
        grown >= FILES * 2048,
        "{FILES} files are charged {grown} bytes"
    );
    Ok(())
}

/// What a cgroup may have been charged ahead when the counting begins, and is not charged again: `MEMCG_CHARGE_BATCH`
/// pages (`include/linux/memcontrol.h`) for each of two processors.
pub const AHEAD: usize = 2 * 64 * PAGE;

fn ids_and_offsets_are_charged() -> Outcome {
    const IDS: usize = 4000;
    let session = Session::open()?;
    let buffer = session.alloc(Kind::Pages, PAGE)?;
    let dma_buf = session.export(buffer.id)?;
    // An entry of the table of ids and one of the table of offsets: more than 256 bytes together.
    let grown = charged("ids", || {
        for _ in 0..IDS {
            session.import(dma_buf.as_raw_fd(), 0)?;
        }
        Ok(())
    })?;
    check!(grown >= IDS * 256, "{IDS} ids are charged {grown} bytes");
    let info = session.info(0)?;
    check_eq!(info.freed_held, 0, "buffers that are freed and held");
    // A packed range for each method, more than 64 bytes each.
    let methods = Method::ALL.len() - 1;
    let grown = charged("offsets", || {
        for id in buffer.id + 1..buffer.id + 1000 {
            for &method in Method::ALL {
                session.offset(id, method)?;
            }
        }
        Ok(())
    })?;
    check!(
        grown + AHEAD >= 999 * methods * 64,
        "{} offsets are charged {grown} bytes",
        999 * methods
    );
    drop(session);
    drop(dma_buf);
    comes_to(&Session::open()?, 0, 0)
}

/// Bytes of all objects in slab caches.
fn slab() -> Outcome<usize> {
    let text = fs::read_to_string("/proc/slabinfo")?;
    let rows = text.lines().skip(2).filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let objects: usize = words.next()?.parse().ok()?;
        let size: usize = words.nth(1)?.parse().ok()?;
        Some(objects * size)
    });
    Ok(rows.sum())
}

// `dma_buf_export` and `vmap` allocate what they need uncharged: a `struct dma_buf`, a name, an area. Each buffer has at
// least a page that counts against max_bytes; with all that belongs to it, charged or not, no more than another page.
// A kernel that finds mistakes keeps books beside each object.
fn what_is_charged_to_nobody_is_less_than_the_limits_see() -> Outcome {
    const BUFFERS: usize = 3000;
    let pages_each = if mapbuf_guest::patience() > 1 { 3 } else { 1 };
    for kind in KINDS {
        let before = slab()?;
        let session = Session::open()?;
        let grown = charged("buffers", || {
            for _ in 0..BUFFERS {
                session.alloc(kind, PAGE)?;
            }
            Ok(())
        })?;
        let held = session.query()?;
        check_eq!(held.used_bytes as usize, BUFFERS * PAGE, "bytes charged");
        let taken = slab()?.saturating_sub(before);
        check!(
            taken < pages_each * BUFFERS * PAGE,
            "{kind:?}: {BUFFERS} buffers of a page take {taken} bytes of slab memory ({grown} are charged)"
        );
        drop(session);
        comes_to(&Session::open()?, 0, 0)?;
    }
    Ok(())
}

// Private copies are made by the core, for which it does take the OOM killer: inside the cgroup, and nowhere else.
fn oom_stays_inside() -> Outcome {
    let group = Group::new("oom")?;
    fs::write(format!("{}/memory.max", group.0), "24M")?;
    let bystander = fork(|| loop {
        std::thread::sleep(Duration::from_secs(1));
    })?;
    let child = fork(|| {
        let outcome: Outcome = (|| {
            group.enter()?;
            let session = Session::open()?;
            let buffer = session.alloc(Kind::Pages, 8 << 20)?;
            for _ in 0..8 {
                let map = session.map(8 << 20, RW, PRIVATE, buffer.mmap_offset)?;
                for at in (0..map.len).step_by(PAGE) {
                    map.set_u64(at, 1);
                }
                std::mem::forget(map);
            }
            Ok(())
        })();
        i32::from(outcome.is_err())
    })?;
    let ending = child.wait();
    let alive = bystander.ended().is_none();
    bystander.kill(libc::SIGKILL);
    bystander.wait();
    check_eq!(ending, Ending::Signalled(libc::SIGKILL), "the child's end");
    check!(alive, "a process outside was killed");
    let events = group.read("memory.events")?;
    check!(
        events.lines().any(|line| line == "oom_kill 1"),
        "memory.events: {events}"
    );
    comes_to(&Session::open()?, 0, 0)
}

// Who allocates in a cgroup that is full keeps nobody waiting: locks that all users share are not held meanwhile. What a
// session keeps its books in is charged like all that the kernel has for a process, so it may be that process which the
// OOM killer takes, in its cgroup; then another one comes.
fn full_cgroup_harms_nobody_else() -> Outcome {
    let group = Group::new("full")?;
    fs::write(format!("{}/memory.max", group.0), "8M")?;
    let _open = OpenToAll::new()?;
    let begin = || {
        fork(|| {
            let failed = || -> Outcome {
                group.enter()?;
                become_user(1000, 1000)?;
                loop {
                    let session = Session::open()?;
                    for kind in KINDS {
                        // Refused, again and again.
                        let _ = session.alloc(kind, 16 << 20);
                        let _ = session.alloc(kind, PAGE);
                    }
                }
            };
            i32::from(failed().is_err())
        })
    };
    let mut child = begin()?;
    for round in 0..200 {
        match child.ended() {
            None => {}
            Some(Ending::Signalled(libc::SIGKILL)) => child = begin()?,
            Some(ending) => return Err(Failure::new(format!("the other ended: {ending:?}"))),
        }
        let session = Session::open()?;
        let (buffer, map) = session.mapped(KINDS[round % 4], 4 * PAGE)?;
        map.set_u64(0, 1);
        session.free(buffer.id)?;
    }
    child.kill(libc::SIGKILL);
    child.wait();
    comes_to(&Session::open()?, 0, 0)
}

/// A gibibyte is gathered; the caller is killed when a sixteenth is there. How much more was gathered is counted in
/// pages by the cgroup, not in time.
fn gathering_memory_ends_with_the_caller() -> Outcome {
    const ALL: usize = 1 << 30;
    for kind in [Kind::Vmalloc, Kind::Pages] {
        let mut tries = 0;
        let (at_kill, most) = loop {
            let group = Group::new("killed")?;
            let child = fork(|| {
                let outcome: Outcome = (|| {
                    group.enter()?;
                    Session::open()?.alloc(kind, ALL)?;
                    Ok(())
                })();
                i32::from(outcome.is_err())
            })?;
            let mut ended = None;
            until(Duration::from_secs(30), || {
                ended = child.ended();
                ended.is_some() || group.current().is_ok_and(|bytes| bytes >= ALL / 16)
            });
            let mut at_kill = 0;
            let ending = match ended {
                Some(ending) => ending,
                None => {
                    child.kill(libc::SIGKILL);
                    at_kill = group.current()?;
                    child.wait()
                }
            };
            let most: usize = group
                .read("memory.peak")?
                .trim()
                .parse()
                .map_err(|_| Failure::new("memory.peak is no number"))?;
            comes_to(&Session::open()?, 0, 0)?;
            if ending == Ending::Signalled(libc::SIGKILL) {
                break (at_kill, most);
            }
            tries += 1;
            if tries == 5 {
                skip!("{kind:?}: a gibibyte is gathered before it can be stopped");
            }
        };
        check!(
            most.saturating_sub(at_kill) < ALL / 8,
            "{kind:?}: {} MiB were there when it was killed, and {} MiB in the end",
            at_kill >> 20,
            most >> 20
        );
    }
    Ok(())
}

/// KiB of page tables that a process has; nothing when it has ended.
fn page_tables(pid: i32) -> Option<usize> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmPTE:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// The caller is killed when a sixteenth of a gibibyte is mapped. How far the driver goes on is seen by the page tables
/// that it fills, 4 KiB for 2 MiB.
fn mapping_ends_with_the_caller() -> Outcome {
    const ALL: usize = 1 << 30;
    const TABLES: usize = (ALL >> 21) * 4;
    let session = Session::open()?;
    let buffer = session.alloc(Kind::Vmalloc, ALL)?;
    for method in [Method::Insert, Method::RemapEach] {
        let offset = session.offset(buffer.id, method)?;
        let mut tries = 0;
        let (at_kill, most) = loop {
            let child = fork(|| i32::from(session.map(ALL, RW, SHARED, offset).is_err()))?;
            let before = page_tables(child.pid).unwrap_or(0);
            let (mut at_kill, mut most, mut ended) = (0, 0, None);
            until(Duration::from_secs(60), || {
                most =
                    page_tables(child.pid).map_or(most, |now| most.max(now.saturating_sub(before)));
                if at_kill == 0 && most >= TABLES / 16 {
                    child.kill(libc::SIGKILL);
                    at_kill = most;
                }
                ended = child.ended();
                ended.is_some()
            });
            if ended == Some(Ending::Signalled(libc::SIGKILL)) {
                break (at_kill, most);
            }
            check_eq!(ended, Some(Ending::Exited(0)), "{method:?}: the child");
            tries += 1;
            if tries == 5 {
                skip!("{method:?}: a gibibyte is mapped before it can be stopped");
            }
        };
        check!(
            most < TABLES / 2,
            "{method:?}: {at_kill} KiB of {TABLES} were filled when it was killed, and {most} KiB in the end"
        );
        check_eq!(session.info(buffer.id)?.mappings, 0, "mappings left");
    }
    Ok(())
}
