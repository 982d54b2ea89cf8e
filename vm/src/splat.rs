//! What in a kernel's log is a failure, whatever the tests say.

/// How many lines before and after a splat's first one are shown.
const BEFORE: usize = 3;
const AFTER: usize = 45;

/// Beginnings of messages that are failures.
const STARTS: [&str; 19] = [
    "BUG: ",
    "WARNING: ",
    "INFO: trying to register non-static key",
    "INFO: task ",
    "INFO: rcu",
    "Oops",
    "general protection fault",
    "stack segment",
    "double fault",
    "divide error",
    "invalid opcode",
    "kernel BUG at",
    "Kernel panic",
    "UBSAN: ",
    "KASAN: ",
    "KFENCE: ",
    "KCSAN: ",
    "DMA-API: ",
    "usercopy: Kernel memory",
];

/// Parts of messages that are failures, wherever they stand.
const PARTS: [&str; 13] = [
    "BUG: KASAN",
    "BUG: KFENCE",
    "BUG: soft lockup",
    "BUG: workqueue lockup",
    "detected stall",
    "self-detected stall",
    "hard LOCKUP",
    "Kernel panic - not syncing",
    "new suspected memory leaks",
    "blocked for more than",
    "page_table_check",
    "list_add corruption",
    "rust_kernel: panicked at",
];

/// Beginnings that look like failures and are none.
const HARMLESS: [&str; 3] = [
    "INFO: task hung detection",
    "DMA-API: preallocated",
    "DMA-API: debugging enabled",
];

/// Whether a line of the log (with its time stamp or without) begins a failure report.
pub fn is_splat(line: &str) -> bool {
    let message = message(line);
    if HARMLESS.iter().any(|start| message.starts_with(start)) {
        return false;
    }
    STARTS.iter().any(|start| message.starts_with(start))
        || PARTS.iter().any(|part| message.contains(part))
}

/// Whether the kernel says that it will not go on.
pub fn is_panic(line: &str) -> bool {
    message(line).starts_with("Kernel panic - not syncing")
}

/// A line without what printk puts before it: `[    1.234567] [   T1] `.
fn message(line: &str) -> &str {
    let mut rest = line.trim_start();
    while let Some((stamp, tail)) = rest.strip_prefix('[').and_then(|tail| tail.split_once(']')) {
        let stamp = stamp.trim();
        let time = stamp.starts_with(|c: char| c.is_ascii_digit()) && stamp.contains('.');
        let caller = stamp.starts_with(['T', 'C'])
            && stamp
                .get(1..)
                .is_some_and(|id| id.chars().all(|c| c.is_ascii_digit()));
        if !time && !caller {
            break;
        }
        rest = tail.trim_start();
    }
    rest
}

/// The parts of a log that surround its splats.
pub fn excerpts(log: &[String]) -> Vec<String> {
    let mut shown = vec![false; log.len()];
    for (index, _) in log.iter().enumerate().filter(|(_, line)| is_splat(line)) {
        let from = index.saturating_sub(BEFORE);
        let to = (index + AFTER).min(log.len());
        if let Some(range) = shown.get_mut(from..to) {
            range.fill(true);
        }
    }
    let mut lines = Vec::new();
    let mut gap = false;
    for (line, shown) in log.iter().zip(shown) {
        if shown {
            if gap && !lines.is_empty() {
                lines.push("[...]".to_owned());
            }
            lines.push(line.clone());
        }
        gap = !shown;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_from_look_alikes() {
        for line in [
            "[    1.234567] WARNING: CPU: 1 PID: 77 at mm/memory.c:12 f+0x1/0x2 [mapbuf]",
            "[    1.234567][   T12] WARNING: possible circular locking dependency detected",
            "[    1.234567] [   T12] BUG: KASAN: slab-use-after-free in f+0x1/0x2",
            "BUG: unable to handle page fault for address: ffff",
            "[   12.000001] Oops: general protection fault, probably for non-canonical address 0x1: 0000 [#1] SMP",
            "[   12.000001] Kernel panic - not syncing: Attempted to kill init!",
            "[   30.1] watchdog: BUG: soft lockup - CPU#0 stuck for 26s!",
            "[   30.1] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
            "[   30.1] rcu: INFO: rcu_preempt self-detected stall on CPU",
            "[   30.1] INFO: task mapbuf:12 blocked for more than 120 seconds.",
            "[   30.1] kmemleak: 2 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
            "[   30.1] UBSAN: array-index-out-of-bounds in a.c:1:2",
            "[   30.1] rust_kernel: panicked at a.rs:1:2:",
        ] {
            assert!(is_splat(line), "{line}");
        }
        for line in [
            "[    0.100000] RETBleed: WARNING: Spectre v2 mitigation leaves CPU vulnerable",
            "[    0.1] Command line: panic=-1 BUG: x",
            "[    0.1] DMA-API: preallocated 65536 debug entries",
            "[    0.1] mapbuf: module verification failed: signature and/or required key missing - tainting kernel",
            "[    0.1] traps: prog[12] general protection fault ip:1 sp:2 error:0 in prog",
            "[    0.1] mapbuf-test[33]: segfault at 0 ip 0 sp 0 error 4",
            "[    0.1] [drm] WARNING-free",
        ] {
            assert!(!is_splat(line), "{line}");
        }
    }

    #[test]
    fn the_surroundings_are_shown_once() {
        let mut log: Vec<String> = (0..200).map(|i| format!("[    1.{i:06}] line")).collect();
        log[50] = "[    1.000050] BUG: a".into();
        log[60] = "[    1.000060] BUG: b".into();
        log[150] = "[    1.000150] BUG: c".into();
        let lines = excerpts(&log);
        assert_eq!(lines.first(), Some(&log[47]));
        assert_eq!(lines.iter().filter(|line| *line == "[...]").count(), 1);
        assert_eq!(lines.iter().filter(|line| line.contains("BUG")).count(), 3);
    }
}
