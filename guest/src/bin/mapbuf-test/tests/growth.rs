//! What an operation costs when much has happened before it. `cargo xtask bench-scale` counts instructions; these tests
//! look at the time, and allow for a few times as much as it should be.

use super::limits::as_user;
use crate::check::Outcome;
use crate::proc::Parameter;
use crate::session::Session;
use crate::sys::{PAGE, RW, SHARED};
use crate::{check, check_eq, skip};
use mapbuf_abi::{Kind, Method, MAX_IDS, MAX_OFFSET_PAGES};
use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

tests! { "growth":
    STOCK, 120: [
        offsets_cost_the_same_after_all_were_given_out,
        names_cost_the_same_among_many,
        last_segments_cost_no_more_than_the_first,
    ];
    STOCK, 30: [ what_is_known_takes_no_memory ];
}

/// The median of the times that something takes.
fn median(times: u32, mut action: impl FnMut() -> Outcome) -> Outcome<Duration> {
    let mut all = Vec::new();
    for _ in 0..times {
        let start = Instant::now();
        action()?;
        all.push(start.elapsed());
    }
    all.sort();
    Ok(all[all.len() / 2])
}

/// That something takes about as long as before.
fn about(before: Duration, after: Duration, what: &str) -> Outcome {
    let most = before * 6 + Duration::from_micros(100);
    check!(after < most, "{what}: {after:?}, it was {before:?}");
    Ok(())
}

fn offsets_cost_the_same_after_all_were_given_out() -> Outcome {
    if mapbuf_guest::patience() > 1 {
        skip!("what a kernel that checks itself takes says nothing of the driver");
    }
    const IDS: u32 = 20_000;
    const LARGE: usize = 512 << 20;
    let session = Session::open()?;
    let small = session.alloc(Kind::Pages, PAGE)?;
    let small = session.export(small.id)?;
    let import = || Ok(session.import(small.as_raw_fd(), 0)?);
    let ids = (0..IDS).map(|_| import().map(|import| import.id));
    let ids: Vec<u32> = ids.collect::<Outcome<_>>()?;
    let again = || session.free(import()?.id).map_err(Into::into);
    let before = median(300, again)?;
    // Gaps of a page, between which others lie.
    for id in ids.iter().step_by(2) {
        session.free(*id)?;
    }
    let large = session.alloc(Kind::Pages, LARGE)?;
    let exported = session.export(large.id)?;
    session.free(large.id)?;
    let mut end = 0;
    while end + LARGE as u64 / PAGE as u64 <= MAX_OFFSET_PAGES {
        let import = session.import(exported.as_raw_fd(), 0)?;
        session.free(import.id)?;
        end = (import.mmap_offset + LARGE as u64) / PAGE as u64;
    }
    // What is left behind all of these, piece by piece.
    for pages in (0..17).rev().map(|power| 1_u64 << power) {
        if end + pages <= MAX_OFFSET_PAGES {
            let buffer = session.alloc(Kind::Pages, pages as usize * PAGE)?;
            check_eq!(buffer.mmap_offset / PAGE as u64, end, "the next range");
            session.free(buffer.id)?;
            end += pages;
        }
    }
    check_eq!(end, MAX_OFFSET_PAGES, "the end of all ranges");
    about(before, median(300, again)?, "IMPORT and FREE in the end")?;
    // What is given out now lies in the gaps, and maps what it should.
    let buffer = session.alloc(Kind::Pages, PAGE)?;
    let map = session.map(PAGE, RW, SHARED, buffer.mmap_offset)?;
    map.set_u64(0, 41);
    let page = buffer.mmap_offset / PAGE as u64;
    check!(
        page < u64::from(MAX_IDS) + 2 * u64::from(IDS),
        "page {page} is in no gap"
    );
    let mut word = [0; 8];
    session.pread(&mut word, buffer.mmap_offset)?;
    check_eq!(u64::from_ne_bytes(word), 41, "word at its own offset");
    session.pread(&mut word, buffer.mmap_offset + PAGE as u64)?;
    check_eq!(u64::from_ne_bytes(word), 0, "word at the neighbour's");
    // A large one fits into what the small ones left.
    let import = session.import(exported.as_raw_fd(), 0)?;
    let last = (import.mmap_offset + LARGE as u64) / PAGE as u64;
    check!(last <= MAX_OFFSET_PAGES, "the range ends at page {last}");
    Ok(())
}

fn names_cost_the_same_among_many() -> Outcome {
    if mapbuf_guest::patience() > 1 {
        skip!("what a kernel that checks itself takes says nothing of the driver");
    }
    const NAMES: u32 = 1500;
    let _limit = Parameter::set("max_names", u64::from(NAMES) + 1)?;
    as_user(|| {
        let session = Session::open()?;
        let unknown = || match session.unname("nobody-has-this") {
            Ok(()) => skip!("somebody has the name"),
            Err(_) => Ok(()),
        };
        let mine = session.alloc(Kind::Pages, PAGE)?;
        let named = || {
            session.name(mine.id, "one-more", 0o600)?;
            Ok(session.unname("one-more")?)
        };
        let before = (median(200, unknown)?, median(50, named)?);
        let name = |number: u32| format!("one-of-many-{number}");
        for number in 0..NAMES {
            let buffer = session.alloc(Kind::Pages, PAGE)?;
            session.name(buffer.id, &name(number), 0o600)?;
        }
        let after = median(200, unknown).and_then(|first| Ok((first, median(50, named)?)));
        for number in 0..NAMES {
            session.unname(&name(number))?;
        }
        let after = after?;
        about(before.0, after.0, "UNNAME of an unknown name")?;
        about(before.1, after.1, "NAME and UNNAME")
    })
}

fn last_segments_cost_no_more_than_the_first() -> Outcome {
    if mapbuf_guest::patience() > 1 {
        skip!("what a kernel that checks itself takes says nothing of the driver");
    }
    const HOLES: usize = 16_000;
    let session = Session::open()?;
    // Single pages between which others lie, so that what comes after them is scattered.
    let pages = (0..2 * HOLES).map(|_| session.alloc(Kind::Pages, PAGE).map(|page| page.id));
    let pages: Vec<u32> = pages.collect::<Result<_, _>>()?;
    for id in pages.iter().step_by(2) {
        session.free(*id)?;
    }
    let buffer = session.alloc(Kind::Vmalloc, HOLES * PAGE)?;
    let (_, total) = session.segment_rows(buffer.id, 0, 0)?;
    check!(total > 4096, "{total} runs are too few to tell");
    let rows = |first, count| session.segment_rows(buffer.id, first, count);
    let first = median(20, || rows(0, 8).map(drop).map_err(Into::into))?;
    let last = median(20, || rows(total - 8, 8).map(drop).map_err(Into::into))?;
    check!(
        last < 10 * first,
        "the last 8 of {total} runs take {last:?}, the first 8 {first:?}"
    );
    Ok(())
}

// The tracer sees each allocation of this process.
fn what_is_known_takes_no_memory() -> Outcome {
    let folder = format!(
        "/sys/kernel/tracing/instances/mapbuf-memory-{}",
        std::process::id()
    );
    if fs::create_dir(&folder).is_err() {
        skip!("this kernel has no tracer");
    }
    let set = |file: &str, text: &str| fs::write(format!("{folder}/{file}"), text);
    let marker = fs::OpenOptions::new()
        .write(true)
        .open(format!("{folder}/trace_marker"))?;
    let count = |action: &dyn Fn() -> Outcome| -> Outcome<usize> {
        set("trace", "")?;
        // An open file: opening one takes memory.
        (&marker).write_all(b"begin")?;
        action()?;
        (&marker).write_all(b"end")?;
        let trace = fs::read_to_string(format!("{folder}/trace"))?;
        let between = trace.lines().skip_while(|line| !line.contains("begin"));
        let between = between.take_while(|line| !line.ends_with(" end"));
        Ok(between.filter(|line| line.contains("bytes_alloc=")).count())
    };
    let result = (|| {
        set("set_event_pid", &std::process::id().to_string())?;
        for event in ["kmalloc", "kmem_cache_alloc"] {
            set(&format!("events/kmem/{event}/enable"), "1")?;
        }
        let session = Session::open()?;
        let buffer = session.alloc(Kind::Pages, PAGE)?;
        let taken = count(&|| {
            session
                .offset(buffer.id, Method::Insert)
                .map(drop)
                .map_err(Into::into)
        })?;
        check!(
            taken > 0,
            "the first OFFSET of a method takes no memory: is it seen?"
        );
        let known = count(&|| {
            for _ in 0..10 {
                session.offset(buffer.id, Method::Insert)?;
                session.info(buffer.id)?;
            }
            Ok(())
        })?;
        check_eq!(known, 0, "allocations by 10 times OFFSET and INFO");
        Ok(())
    })();
    // One that stays behind is in nobody's way.
    let _ = set("events/kmem/enable", "0");
    drop(marker);
    let _ = fs::remove_dir(&folder);
    result
}
