//! The order of the driver's locks, as lockdep has seen it, against the list at the top of `driver/src/main.rs`.

use crate::check::Outcome;
use crate::session::Session;
use crate::sys::PAGE;
use crate::{check, skip};
use mapbuf_abi::Kind;
use std::collections::BTreeSet;
use std::fs;

tests! { "faults":
    FAULTS, 60: [ locks_are_taken_in_the_order_that_is_written_down ];
}

/// Lock before lock, by rank: one is taken under those of lower ranks only.
const RANKS: &[(&str, u32)] = &[
    ("mapbuf_regions", 2),
    ("mapbuf_names", 3),
    ("mapbuf_table", 4),
    ("mapbuf_users", 5),
    ("mapbuf_name", 5),
    ("mapbuf_records", 5),
    ("mapbuf_pinned", 5),
    ("mapbuf_gate", 5),
];

/// The kernel's locks that are taken before any of ours, and so never under one.
const BEFORE: &[&str] = &[
    "&mm->mmap_lock",
    "mm->mmap_lock",
    "reservation_ww_class_mutex",
];

fn rank(name: &str) -> Option<u32> {
    // A class of several versions has a number behind its name (`print_name` of `kernel/locking/lockdep_proc.c`).
    let name = name.split(['#', '/']).next().unwrap_or_default();
    RANKS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, rank)| *rank)
}

fn locks_are_taken_in_the_order_that_is_written_down() -> Outcome {
    // So that there is something to see, whatever ran before.
    let session = Session::open()?;
    let buffer = session.alloc(Kind::Pages, PAGE)?;
    session.name(buffer.id, "locks", 0o600)?;
    session.unname("locks")?;
    let Ok(text) = fs::read_to_string("/proc/lockdep") else {
        skip!("the kernel has no lockdep");
    };
    let stats = fs::read_to_string("/proc/lockdep_stats")?;
    let on = stats
        .lines()
        .any(|line| line.split_whitespace().eq(["debug_locks:", "1"]));
    check!(on, "lockdep has switched itself off");
    let mut seen = BTreeSet::new();
    let mut first = "";
    for line in text.lines() {
        if let Some(then) = line.strip_prefix(" -> ") {
            let then = then.split_once("] ").map_or("", |(_, name)| name);
            let Some(before) = rank(first) else { continue };
            check!(!BEFORE.contains(&then), "{then} is taken under {first}");
            if let Some(after) = rank(then) {
                check!(before < after, "{then} is taken under {first}");
            }
        } else if let Some((_, name)) = line.rsplit_once(": ") {
            first = name;
            if rank(name).is_some() {
                seen.insert(name);
            }
        }
    }
    for name in [
        "mapbuf_names",
        "mapbuf_table",
        "mapbuf_users",
        "mapbuf_name",
    ] {
        check!(seen.contains(name), "lockdep knows no {name}");
    }
    Ok(())
}
