//! What in a kernel's log is a failure, whatever the tests say.

/// How many lines before and after a splat's first one are shown.
const BEFORE: usize = 3;
const AFTER: usize = 45;

/// Beginnings of messages that are failures.
const STARTS: &[&str] = &[
    "BUG: ",
    // Of SLUB, with the cache's name after it.
    "BUG ",
    // Of lockdep.
    "[ BUG: ",
    "INFO: lockdep is turned off",
    "------------[ cut here ]",
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
    "ODEBUG: ",
    "page dumped because: VM_",
    "refcount_t: ",
    // Of KUnit.
    "not ok ",
    "usercopy: Kernel memory",
];

/// Parts of messages that are failures, wherever they stand.
const PARTS: &[&str] = &[
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
    "list_add corruption",
    "list_del corruption",
    "turning off the locking correctness validator",
    "Kernel memory leak detector disabled",
    "rust_kernel: panicked at",
];

/// Beginnings that look like failures and are none.
const HARMLESS: &[&str] = &[
    "INFO: task hung detection",
    "DMA-API: preallocated",
    "DMA-API: debugging enabled",
    "DMA-API: debugging disabled on kernel command line",
];

/// Whether a line of the log (with its time stamp or without) begins a failure report.
pub fn is_splat(line: &str) -> bool {
    let message = message(line);
    if HARMLESS.iter().any(|start| message.starts_with(start)) || is_frame(message) {
        return false;
    }
    STARTS.iter().any(|start| message.starts_with(start))
        || PARTS.iter().any(|part| message.contains(part))
}

/// Whether the kernel says that it will not go on.
pub fn is_panic(line: &str) -> bool {
    message(line).starts_with("Kernel panic - not syncing")
}

/// Whether a message is a function of a call trace: `f+0x1/0x2 [mapbuf]`, or `? f+0x1/0x2` of one that the unwinder found on
/// the stack and does not trust. The OOM killer prints a trace as well, and its functions may have any name.
fn is_frame(message: &str) -> bool {
    let function = message.strip_prefix("? ").unwrap_or(message);
    let (function, module) = function.split_once(' ').unwrap_or((function, "["));
    function.contains("+0x") && function.contains("/0x") && module.starts_with('[')
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

/// What frames a report of KCSAN's (`print_report` of kernel/kcsan/report.c).
const FRAME: &str = "==========";

/// Takes reports of data races out of a log in which no module's function stands; how many there were. The kernel's core
/// has races that are meant to be, or known.
pub fn leave_out_races_of_others(log: &mut Vec<String>) -> usize {
    let is_frame = |line: &String| message(line).starts_with(FRAME);
    // "f+0x1/0x2 [mapbuf]"
    let of_module = |line: &String| line.ends_with(']') && message(line).contains("+0x");
    let mut left_out = 0;
    let mut from = 0;
    while let Some(at) = log
        .iter()
        .skip(from)
        .position(|line| message(line).starts_with("BUG: KCSAN: "))
    {
        let first = from + at;
        let rest = log.get(first..).unwrap_or_default();
        let length = rest
            .iter()
            .position(is_frame)
            .map_or(rest.len(), |end| end + 1);
        if rest.iter().take(length).any(of_module) {
            from = first + length;
            continue;
        }
        log.drain(first..first + length);
        left_out += 1;
        from = first;
    }
    left_out
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
    fn races_are_left_out_where_no_module_has_part_in_them() {
        let report = |function: &str| {
            [
                "==================================================================",
                "BUG: KCSAN: data-race in a / b",
                "write to 0xffff888003 of 8 bytes by task 1 on cpu 0:",
                function,
                "Reported by Kernel Concurrency Sanitizer on:",
                "==================================================================",
            ]
            .map(|line| format!("[    9.000001] {line}"))
        };
        let ours = report(" contest+0x1/0x2 [canary]");
        let mut log = [report(" a+0x1/0x2"), ours.clone(), report(" b+0x1/0x2")].concat();
        assert_eq!(leave_out_races_of_others(&mut log), 2);
        let splats: Vec<_> = log.iter().filter(|line| is_splat(line)).collect();
        assert_eq!(splats, [&ours[1]]);
        // One that was cut off.
        let mut log = report(" a+0x1/0x2")[..4].to_vec();
        assert_eq!(leave_out_races_of_others(&mut log), 1);
        assert_eq!(log.len(), 1);
    }

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
            // The forms of the debug kernel: mm/kasan/report.c, kernel/kcsan/report.c, kernel/locking/lockdep.c,
            // kernel/sched/core.c, lib/debugobjects.c, kernel/dma/debug.c, mm/page_table_check.c, mm/debug.c, mm/slub.c,
            // lib/list_debug.c, mm/memory.c, mm/kmemleak.c, mm/usercopy.c.
            "[    9.1] BUG: KASAN: vmalloc-out-of-bounds in f+0x1/0x2 [mapbuf]",
            "[    9.1] BUG: KASAN: null-ptr-deref in f+0x1/0x2",
            "[    9.1] BUG: KCSAN: data-race in f / g",
            "[    9.1] WARNING: possible recursive locking detected",
            "[    9.1] WARNING: inconsistent lock state",
            "[    9.1] WARNING: suspicious RCU usage",
            "[    9.1] WARNING: held lock freed!",
            "[    9.1] WARNING: lock held when returning to user space!",
            "[    9.1] WARNING: SOFTIRQ-safe -> SOFTIRQ-unsafe lock order detected",
            "[    9.1] [ BUG: Invalid wait context ]",
            "[    9.1] BUG: MAX_LOCKDEP_CHAINS too low!",
            "[    9.1] turning off the locking correctness validator.",
            "[    9.1] INFO: lockdep is turned off.",
            "[    9.1] INFO: trying to register non-static key.",
            "[    9.1] BUG: sleeping function called from invalid context at kernel/locking/mutex.c:1",
            "[    9.1] BUG: scheduling while atomic: cat/1/0x00000002",
            "[    9.1] BUG: using smp_processor_id() in preemptible [00000000] code: cat/1",
            "[    9.1] ODEBUG: free active (active state 0) object: ffff type: work_struct hint: f+0x0/0x1",
            "[    9.1] DMA-API: mapbuf mapbuf: device driver tries to free DMA memory it has not allocated",
            "[    9.1] kernel BUG at mm/page_table_check.c:81!",
            "[    9.1] page dumped because: VM_BUG_ON_PAGE(page_ref_count(page) == 0)",
            "[    9.1] page dumped because: VM_WARN_ON_FOLIO(1)",
            "[    9.1] BUG: Bad page state in process cat  pfn:1234",
            "[    9.1] BUG: Bad rss-counter state mm:(____ptrval____) type:MM_FILEPAGES val:1",
            "[    9.1] BUG: Bad page map in process cat  pte:1 pmd:2",
            "[    9.1] BUG kmalloc-64 (Tainted: G           O): Poison overwritten",
            "[    9.1] list_del corruption, ffff->next is LIST_POISON1 (dead000000000100)",
            "[    9.1] refcount_t: underflow; use-after-free.",
            "[    9.1] UBSAN: shift-out-of-bounds in a.c:1:2",
            "[    9.1] usercopy: Kernel memory exposure attempt detected from page alloc (offset 0, size 8192)!",
            "[    9.1] kmemleak: Kernel memory leak detector disabled",
            "[    9.1] INFO: task cat:1 blocked for more than 120 seconds.",
            "[    9.1] BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 61s!",
            "[    9.1] ------------[ cut here ]------------",
            "[    9.1]     not ok 2 a_test",
        ] {
            assert!(is_splat(line), "{line}");
        }
        for line in [
            "[    0.100000] RETBleed: WARNING: Spectre v2 mitigation leaves CPU vulnerable",
            "[    0.1] Command line: panic=-1 BUG: x",
            "[    0.1] DMA-API: preallocated 65536 debug entries",
            "[    0.0] DMA-API: debugging disabled on kernel command line",
            "[    0.1] mapbuf: module verification failed: signature and/or required key missing - tainting kernel",
            "[    0.1] traps: prog[12] general protection fault ip:1 sp:2 error:0 in prog",
            "[    0.1] mapbuf-test[33]: segfault at 0 ip 0 sp 0 error 4",
            "[    0.1] [drm] WARNING-free",
            "[    0.1] kmemleak: Kernel memory leak detector initialized (mem pool available: 13000)",
            "[    0.1] kmemleak: Automatic memory scanning thread started",
            "[    0.1] page_owner is disabled",
            // Of the OOM killer's call trace.
            "[  289.1]  ? __page_table_check_ptes_set+0x1a6/0x2a0",
            "[  289.1]  __list_add_valid_or_report+0x1a6/0x2a0",
            "[    0.1] Lock dependency validator: Copyright (c) 2006 Red Hat, Inc., Ingo Molnar",
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
