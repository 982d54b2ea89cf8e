use super::*;
use crate::diagnose::{
    facts::Facts,
    frames::{Frames, Look},
    history::History,
    iomem::Iomem,
    log::{Line, Log},
    trace,
    tracee::{Backing, Life, Vma},
};

const MMAP: &str = "sys_enter: NR 9 (0, 2000, 1, 2, 3, 0)";
const SHARED: &str = "sys_enter: NR 9 (0, 2000, 3, 1, 3, 0)";
const DONE: &str = "sys_exit: NR 9 = 28672";
/// Where page structures, the linear map and vmalloc's range are.
const BASES: &str =
    "vmemmap=0xffffea0000000000 linear=0xffff888000000000 vmalloc=0xffffc90000000000";

/// What a run is made of; the rest is a machine in which nothing is unusual.
#[derive(Default)]
struct Run<'a> {
    events: &'a [&'a str],
    life: Life,
    looks: Vec<(u64, u64)>,
    log: &'a str,
    facts: Facts,
    missing: &'a [&'static str],
}

impl Run<'_> {
    fn findings(self) -> Vec<Finding> {
        let text: Vec<_> = (1..)
            .zip(self.events)
            .map(|(time, line)| format!(" p-7 [000] 1.{time:06}: {line}"))
            .collect();
        let history = History::of(&trace::parse(&text.join("\n")));
        let iomem = Iomem::of("00100000-0fffffff : System RAM\nfe000000-feffffff : PCI Bus\n");
        let frames = Frames::with(self.looks.into_iter().map(|(pfn, flags)| {
            let look = Look {
                time: 1_000_004,
                flags,
                count: 0,
                cache: None,
            };
            (pfn, look)
        }));
        let mut log = Log::default();
        log.lines.extend(self.log.lines().map(|text| Line {
            time: 1,
            text: text.to_owned(),
        }));
        let facts = Facts {
            physical_bits: Some(40),
            ..self.facts
        };
        find(&Seen {
            history: &history,
            life: &self.life,
            iomem: &iomem,
            frames: &frames,
            log: &log,
            facts: &facts,
            missing: self.missing,
        })
    }

    fn causes(self) -> Vec<&'static str> {
        self.findings()
            .into_iter()
            .map(|finding| finding.cause)
            .collect()
    }
}

fn of(events: &[&str]) -> Vec<&'static str> {
    Run {
        events,
        ..Run::default()
    }
    .causes()
}

fn dies(signal: &'static str, code: i32, address: u64) -> Life {
    let fault = Fault {
        huge_group: None,
        pid: 7,
        signal,
        code,
        address,
        vma: None,
        backing: None,
        blind: false,
        time: 1_000_006,
        huge_pages_free: None,
        below: None,
    };
    Life {
        status: 139,
        killed_by: Some(11),
        faults: vec![fault],
        ..Life::default()
    }
}

fn remap(pfn: u64, page: u64, asked: u64, ret: i32, flags: u64) -> String {
    let addr = 0x7000 + page * PAGE;
    format!(
        "remap_pfn_range: (my_mmap+0x4/0x9 [maps] <- remap_pfn_range) ret={ret} addr={addr:#x} pfn={pfn:#x} size=0x1000 \
         asked={asked:#x} start=0x7000 end=0x9000 flags={flags:#x} pgoff=0x0 prot=0x25 ops=0x0 fault=0x0"
    )
}

fn mapped(flags: u64, fault: &str) -> String {
    let ops = u8::from(fault != "0x0");
    format!(
        "mapped: (perf_event_mmap+0x0/0x9) {BASES} start=0x7000 end=0x9000 flags={flags:#x} pgoff=0x0 prot=0x25 ops={ops:#x} file=0x1 \
         mode=0x21a4 magic=0x1 fmode=0x1 fault={fault} mmap=my_mmap+0x0/0x9 [maps] prepare=0x0 name=\"maps0\""
    )
}

#[test]
fn question_b_is_answered() {
    let (one, two, done) = (
        remap(0x200, 0, 0x25, -22, 0x71),
        remap(0x300, 1, 0x25, -22, 0x71),
        mapped(0x71, "0x0"),
    );
    assert_eq!(of(&[MMAP, &one, &two, &done, DONE]), ["copy-on-write"]);
}

#[test]
fn a_right_driver_gives_no_finding() {
    let (one, two, done) = (
        remap(0x200, 0, 0x25, 0, 0xfb),
        remap(0x300, 1, 0x25, 0, 0xfb),
        mapped(0xfb, "0x0"),
    );
    let events = [
        SHARED,
        &one,
        &two,
        &done,
        DONE,
        "sys_enter: NR 11 (7000, 2000, 0, 0, 0, 0)",
        "sys_exit: NR 11 = 0",
        "sys_enter: NR 3 (3, 0, 0, 0, 0, 0)",
        "mm_page_free: page=00001 pfn=0x200 order=0",
        "sys_exit: NR 3 = 0",
    ];
    assert!(of(&events).is_empty());
}

#[test]
fn what_is_freed_while_mapped_is_seen() {
    let (one, done) = (remap(0x200, 0, 0x25, 0, 0xfb), mapped(0xfb, "0x0"));
    let free = "mm_page_free: page=00001 pfn=0x200 order=0";
    let events = [
        SHARED,
        &one,
        &done,
        DONE,
        "sys_enter: NR 16 (3, 6d01, 0, 0, 0, 0)",
        free,
        "sys_exit: NR 16 = 0",
    ];
    assert_eq!(of(&events), ["outlived"]);
    // In a process's end its memory is unmapped before its files are closed.
    let events = [
        SHARED,
        &one,
        &done,
        DONE,
        free,
        "sched_process_exit: comm=p pid=7 prio=120",
    ];
    assert!(of(&events).is_empty());
}

#[test]
fn frames_and_cache_modes_are_compared_with_iomem() {
    let done = mapped(0xfb, "0x0");
    let uncached = remap(0x200, 0, 0x3f, 0, 0xfb);
    let granted = |value: &str| {
        format!("pfnmap_track: (remap_pfn_range+0x4/0x9 <- pfnmap_track) ret=0 granted={value}")
    };
    let cached = granted("0x8000000000000027");
    assert_eq!(
        of(&[SHARED, &cached, &uncached, &done, DONE]),
        ["uncached-ram"]
    );
    // Memory that the driver has made uncached in the kernel's view, too.
    let given = granted("0x8000000000000037");
    assert!(of(&[SHARED, &given, &uncached, &done, DONE]).is_empty());
    // What was granted cannot be seen: nothing is known, unless the log says it.
    assert!(of(&[SHARED, &uncached, &done, DONE]).is_empty());
    let run = Run {
        events: &[SHARED, &uncached, &done, DONE],
        log: "x86/PAT: p:7 map pfn RAM range req uncached-minus for [mem 0x00200000-0x00200fff], got write-back",
        ..Run::default()
    };
    assert_eq!(run.causes(), ["uncached-ram"]);
    let hole = remap(0xd0000, 0, 0x3f, 0, 0xfb);
    assert_eq!(of(&[SHARED, &hole, &done, DONE]), ["nothing-behind"]);
    let bus = remap(0xfe000, 0, 0x3f, 0, 0xfb);
    assert!(of(&[SHARED, &bus, &done, DONE]).is_empty());
}

#[test]
fn a_page_without_an_entry_is_found() {
    let (one, done) = (remap(0x200, 0, 0x25, 0, 0xfb), mapped(0xfb, "0x0"));
    let run = Run {
        events: &[SHARED, &one, &done, DONE],
        life: dies("SIGBUS", 2, 0x8010),
        ..Run::default()
    };
    assert_eq!(run.causes(), ["beyond-mapped"]);
}

#[test]
fn slab_memory_is_told_by_its_flags() {
    let (one, done) = (remap(0x200, 0, 0x25, 0, 0xfb), mapped(0xfb, "0x0"));
    let events = [SHARED, &one, &done, DONE];
    let run = |flags| Run {
        events: &events,
        looks: vec![(0x200, flags)],
        ..Run::default()
    };
    assert_eq!(run(kpf::SLAB).causes(), ["slab-memory"]);
    assert_eq!(run(kpf::BUDDY).causes(), ["others-memory"]);
    assert!(run(0).causes().is_empty());
}

#[test]
fn slab_memory_behind_other_memory_is_not_the_drivers() {
    let one = remap(0x200, 0, 0x25, 0, 0xfb).replace("size=0x1000", "size=0x2000");
    let run = Run {
        events: &[SHARED, &one, &mapped(0xfb, "0x0"), DONE],
        looks: vec![(0x200, 0), (0x201, kpf::SLAB)],
        ..Run::default()
    };
    assert_eq!(run.causes(), ["others-memory"]);
}

#[test]
fn arithmetic_of_the_linear_map_is_turned_round() {
    // virt_to_phys(0xffffc90000010000) >> 12
    let pfn = (0xffff_c900_0001_0000_u64 - 0xffff_8880_0000_0000) >> 12;
    let (one, done) = (remap(pfn, 0, 0x25, 0, 0xfb), mapped(0xfb, "0x0"));
    assert_eq!(of(&[SHARED, &one, &done, DONE]), ["frame-of-vmalloc"]);
    let one = remap(0xf_ffff_8880_0200, 0, 0x25, -22, 0xfb);
    assert_eq!(
        of(&[SHARED, &one, "sys_exit: NR 9 = -22"]),
        ["frame-impossible"]
    );
}

#[test]
fn a_conflict_of_cache_modes_quotes_the_log() {
    let one = remap(0x30000, 0, 0x2f, -22, 0xfb);
    let run = Run {
        events: &[SHARED, &one, "sys_exit: NR 9 = -11"],
        log: "x86/PAT: prog:7 map pfn expected mapping type write-combining for [mem 0x30000000-0x3000ffff], got write-back",
        ..Run::default()
    };
    let findings = run.findings();
    assert_eq!(findings[0].cause, "cache-conflict");
    assert!(
        findings[0].what.contains("EAGAIN")
            && findings[0].evidence.iter().any(|one| one.from == "log")
    );
}

#[test]
fn a_handler_that_takes_success_for_failure() {
    let done = mapped(0x4_4fb, "my_fault+0x0/0x9 [maps]");
    let run = Run {
        events: &[
            SHARED,
            &done,
            DONE,
            "vmf_insert_pfn_enter: (vmf_insert_pfn+0x0/0x9) addr=0x7000 pfn=0x200 start=0x7000 end=0x9000 flags=0x444fb ops=0x1 \
             fault=my_fault+0x0/0x9 [maps]",
            "vmf_insert_pfn_end: (my_fault+0x4/0x9 [maps] <- vmf_insert_pfn) ret=0x100",
            "handler: (do_shared_fault+0x4/0x9 <- __do_fault) ret=0x2",
            "sched_process_exit: comm=p pid=7 prio=120",
        ],
        life: dies("SIGBUS", 2, 0x7000),
        ..Run::default()
    };
    let findings = run.findings();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].cause, "success-taken-for-failure");
    assert_eq!(findings[0].function, "my_fault [maps]");
}

#[test]
fn pages_of_a_block_that_unmapping_frees() {
    let handed = |at: u64, pfn: u64, count: u64| {
        format!(
            "handed: (finish_fault+0x0/0x9) addr={:#x} page={:#x} count={count} head=0x0 write=0x1 vmemmap=0xffffea0000000000 flags=0xfb",
            0x7000 + at * PAGE,
            0xffff_ea00_0000_0000 + pfn * 64
        )
    };
    let done = mapped(0xfb, "my_fault+0x0/0x9 [maps]");
    let (first, second) = (handed(0, 0x200, 2), handed(1, 0x201, 1));
    let unmapping = "sys_enter: NR 11 (7000, 2000, 0, 0, 0, 0)";
    let free = "mm_page_free: page=00001 pfn=0x201 order=0";
    let events = [
        SHARED,
        &done,
        DONE,
        &first,
        &second,
        unmapping,
        free,
        "sys_exit: NR 11 = 0",
    ];
    assert_eq!(of(&events), ["freed-by-unmapping"]);
    // A handler that allocates each page, and gives the mapping its only reference, is right.
    let (first, second) = (handed(0, 0x200, 1), handed(1, 0x201, 1));
    let all = "mm_page_free: page=00001 pfn=0x200 order=0";
    let events = [
        SHARED,
        &done,
        DONE,
        &first,
        &second,
        unmapping,
        all,
        free,
        "sys_exit: NR 11 = 0",
    ];
    assert!(of(&events).is_empty());
    // No allocation was recorded for it, and this kernel records them: the page had been there before.
    let (first, allocated) = (
        handed(0, 0x200, 1),
        "mm_page_alloc: page=00001 pfn=0x300 order=0 migratetype=1 gfp_flags=GFP_KERNEL",
    );
    let end = "sys_exit: NR 11 = 0";
    let before = [SHARED, &done, DONE, allocated, &first, unmapping, all, end];
    let after = [SHARED, &done, DONE, &first, unmapping, all, end, allocated];
    for events in [before, after] {
        assert_eq!(of(&events), ["freed-by-unmapping"]);
    }
    let its_own = allocated.replace("0x300", "0x200");
    let events = [SHARED, &done, DONE, &its_own, &first, unmapping, all, end];
    assert!(of(&events).is_empty());
}

#[test]
fn a_fault_handler_that_would_change_the_vma() {
    let remap = "remap_pfn_range: (my_fault+0x40/0x60 [maps] <- remap_pfn_range) ret=0 addr=0x7000 pfn=0x200 size=0x2000 \
                 asked=0x27 start=0x7000 end=0x9000 flags=0xc0444fb pgoff=0x0 prot=0x27 ops=0x1 fault=my_fault+0x0/0x60 [maps]";
    let of_flags = |flags: u64| {
        let done = mapped(flags, "my_fault+0x0/0x60 [maps]");
        of(&[SHARED, &done, DONE, remap])
    };
    assert_eq!(of_flags(0xfb), ["called-in-fault"]);
    // The kernel warned of the same.
    let done = mapped(0xfb, "my_fault+0x0/0x60 [maps]");
    for (file, caller) in [
        ("a.c", "my_fault+0x40/0x60 [maps]"),
        ("rwsem.h", "do_fault+0x1/0x2"),
    ] {
        let log = format!(
            "WARNING: CPU: 0 PID: 7 at include/linux/{file}:85 track_pfn_remap+0x110/0x120\n\
             CPU: 0 UID: 0 PID: 7 Comm: p Tainted: G     O\nRIP: 0010:track_pfn_remap+0x110/0x120\n \
             {caller}\n---[ end trace 0 ]---"
        );
        let run = Run {
            events: &[SHARED, &done, DONE, remap],
            log: &log,
            ..Run::default()
        };
        let findings = run.findings();
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].evidence.iter().any(|one| one.from == "log"));
    }
    // Nothing changes where mmap set them.
    assert!(of_flags(0xc0444fb).is_empty());
    // A helper of mmap's is no handler.
    let in_mmap = remap.replace(
        "my_fault+0x40/0x60 [maps] <-",
        "my_mmap+0x40/0x60 [maps] <-",
    );
    let done = mapped(0xfb, "my_fault+0x0/0x60 [maps]");
    assert!(of(&[SHARED, &in_mmap, &done, DONE]).is_empty());
}

#[test]
fn a_page_for_a_vma_that_takes_none() {
    let log = "kernel BUG at mm/memory.c:2720!\nCPU: 0 UID: 0 PID: 7 Comm: p Tainted: G     O\n\
               RIP: 0010:vm_insert_page+0xd2/0x100\n my_fault+0x5/0x9 [maps]\n---[ end trace 0 ]---";
    let done = mapped(0xfb, "my_fault+0x0/0x9 [maps]");
    for (flags, cause) in [("0x444fb", "page-in-pfn-vma"), ("0xfb", "called-in-fault")] {
        let insert = format!(
            "vm_insert_page_enter: (vm_insert_page+0x0/0x100) addr=0x7000 size=4096 page=0xffffea0000008000 count=1 \
             vmemmap=0xffffea0000000000 start=0x7000 end=0x9000 flags={flags} ops=0x1 fault=my_fault+0x0/0x9 [maps]"
        );
        let run = Run {
            events: &[SHARED, &done, DONE, &insert],
            log,
            ..Run::default()
        };
        let findings = run.findings();
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].cause, cause);
        assert!(findings[0].function.starts_with("my_fault"), "{findings:?}");
    }
}

#[test]
fn what_the_kernel_warns_of_after_a_crash_is_its_consequence() {
    let warning = "WARNING: CPU: 0 PID: 7 at kernel/rcu/tree_plugin.h:331 rcu_note_context_switch+0x5ad/0x630\n\
                   CPU: 0 UID: 0 PID: 7 Comm: p Tainted: G      D    O\n\
                   RIP: 0010:rcu_note_context_switch+0x5ad/0x630\n---[ end trace 0 ]---";
    let crash = "kernel BUG at mm/memory.c:2557!\nCPU: 0 UID: 0 PID: 7 Comm: p Tainted: G     O\n\
                 RIP: 0010:remap_pfn_range_internal+0x389/0x520\n my_mmap+0x5/0x9 [maps]\n---[ end trace 0 ]---";
    let of_log = |log: &str| {
        let run = Run {
            events: &[SHARED],
            log,
            ..Run::default()
        };
        let findings = run.findings().into_iter().map(|finding| finding.cause);
        findings.collect::<Vec<_>>()
    };
    assert_eq!(of_log(warning), ["kernel-warning"]);
    let alone = of_log(crash);
    assert!(!alone.contains(&"kernel-warning"), "{alone:?}");
    assert_eq!(of_log(&format!("{crash}\n{warning}")), alone);
    // The other way round, it is what came before.
    let both = of_log(&format!("{warning}\n{crash}"));
    assert_eq!(both.len(), 1 + alone.len(), "{both:?}");
}

#[test]
fn a_page_of_the_programs_own_address() {
    // virt_to_page(0x7000), and its second word.
    let page = 0xffff_ea00_0000_0000_u64
        .wrapping_add((0x7000_u64.wrapping_sub(0xffff_8880_0000_0000) >> 12) * 64);
    let log = format!(
        "BUG: unable to handle page fault for address: {:016x}\nCPU: 0 UID: 0 PID: 7 Comm: p Not tainted\n\
         RIP: 0010:__do_fault+0x42/0x120\n---[ end trace 0 ]---",
        page + 8
    );
    let done = mapped(0xfb, "my_fault+0x0/0x9 [maps]");
    let run = Run {
        events: &[SHARED, &done, DONE],
        log: &log,
        ..Run::default()
    };
    let findings = run.findings();
    assert_eq!(findings[0].cause, "page-of-user-address");
    assert_eq!(findings[0].function, "my_fault [maps]");
}

#[test]
fn an_offset_within_a_page_never_reaches_a_driver() {
    let events = [
        "sys_enter: NR 9 (0, 4, 3, 1, 3, 10)",
        "sys_exit: NR 9 = -22",
    ];
    assert_eq!(of(&events), ["unaligned-offset"]);
    // Nor does it reach the kernel, where the C library looks.
    let run = Run {
        life: Life {
            status: 1,
            library: vec![(7, [0, 4, 3, 1, 3, 0x10])],
            ..Life::default()
        },
        ..Run::default()
    };
    assert_eq!(run.causes(), ["unaligned-offset"]);
}

#[test]
fn the_result_of_a_failed_mmap_is_no_address() {
    let run = |address| Run {
        events: &[
            "sys_enter: NR 9 (0, 2000, 3, 1, ffffffff, 0)",
            "sys_exit: NR 9 = -9",
        ],
        life: dies("SIGSEGV", 1, address),
        ..Run::default()
    };
    assert_eq!(
        run(u64::MAX).causes(),
        ["bad-descriptor", "map-failed-used"]
    );
    // A null pointer's field is no such thing.
    assert_eq!(run(0x10).causes(), ["bad-descriptor"]);
}

#[test]
fn mappings_that_were_there() {
    let (one, done) = (remap(0x200, 0, 0x25, 0, 0xfb), mapped(0xfb, "0x0"));
    let run = Run {
        events: &[
            SHARED,
            &one,
            &done,
            DONE,
            "sys_enter: NR 11 (7000, 2000, 0, 0, 0, 0)",
            "sys_exit: NR 11 = 0",
        ],
        life: dies("SIGSEGV", 1, 0x7004),
        ..Run::default()
    };
    assert_eq!(run.causes(), ["unmapped"]);
    let mut life = dies("SIGSEGV", 1, 0x7004);
    life.faults[0].pid = 9;
    let run = Run {
        events: &[
            SHARED,
            &one,
            &done,
            DONE,
            "sys_enter: NR 28 (7000, 1000, a, 0, 0, 0)",
            "sys_exit: NR 28 = 0",
            "task_newtask: pid=9 comm=p clone_flags=1200000 oom_score_adj=0",
        ],
        life,
        ..Run::default()
    };
    assert_eq!(run.causes(), ["not-inherited"]);
}

#[test]
fn files_are_told_apart_by_their_length_and_their_room() {
    let run = |bytes, room| {
        let mut life = dies("SIGBUS", 2, 0x1_1000);
        life.faults[0].vma = Some(Vma {
            start: 0x1_0000,
            end: 0x2_0000,
            permissions: "rw-s".into(),
            path: "/small/frames".into(),
            ..Vma::default()
        });
        life.faults[0].backing = Some(Backing {
            bytes,
            mode: 0o100_600,
            magic: 0x0102_1994,
            room,
            offset: 0,
            unreadable: None,
        });
        Run {
            life,
            ..Run::default()
        }
    };
    assert_eq!(run(4096, 0).causes(), ["file-end"]);
    assert_eq!(run(1 << 20, 0).causes(), ["filesystem-full"]);
    assert!(run(1 << 20, 1 << 20).causes().is_empty());
}

#[test]
fn unrelated_signals_blame_no_mapping() {
    let (one, done) = (remap(0x200, 0, 0x25, 0, 0xfb), mapped(0xfb, "0x0"));
    for (code, address) in [(1, 0), (1, 0x10), (128, 0), (2, 0x40_0000)] {
        let run = Run {
            events: &[SHARED, &one, &done, DONE],
            life: dies("SIGSEGV", code, address),
            ..Run::default()
        };
        assert!(run.causes().is_empty(), "{code} {address:#x}");
    }
}

#[test]
fn a_close_that_frees_for_each_mapping_is_seen() {
    let (one, done) = (remap(0x200, 0, 0x25, 0, 0xfb), mapped(0xfb, "0x0"));
    // The child's end closes its copy.
    let text = [
        format!(" p-7 [000] 1.000001: {SHARED}"),
        format!(" p-7 [000] 1.000002: {one}"),
        format!(" p-7 [000] 1.000003: {done}"),
        format!(" p-7 [000] 1.000004: {DONE}"),
        " p-7 [000] 1.000005: task_newtask: pid=8 comm=p clone_flags=1200011 oom_score_adj=0"
            .into(),
        " p-8 [000] 1.000006: sys_enter: NR 231 (0, 0, 0, 0, 0, 0)".into(),
        " p-8 [000] 1.000007: mm_page_free: page=00001 pfn=0x200 order=0".into(),
    ]
    .join("\n");
    let history = History::of(&trace::parse(&text));
    let freed: Vec<_> = history
        .mappings
        .iter()
        .filter(|mapping| !mapping.freed.is_empty())
        .map(|mapping| mapping.space)
        .collect();
    assert_eq!(freed, [7], "the parent's, and not the child's own");
    // The rest of a mapping whose other part goes.
    let two = remap(0x201, 1, 0x25, 0, 0xfb);
    let munmap = "sys_enter: NR 11 (8000, 1000, 0, 0, 0, 0)";
    let free = |pfn: &str| format!("mm_page_free: page=00001 pfn={pfn} order=0");
    let (rest, own) = (free("0x200"), free("0x201"));
    let events = [SHARED, &one, &two, &done, DONE, munmap, &rest];
    assert_eq!(of(&events), ["outlived"]);
    let events = [SHARED, &one, &two, &done, DONE, munmap, &own];
    assert!(of(&events).is_empty());
}

#[test]
fn an_error_number_from_a_fault_handler_is_no_failed_memory() {
    let done = mapped(0xfb, "my_fault+0x0/0x9 [maps]");
    let handler = "handler: (do_fault+0x4/0x9 <- __do_fault) ret=0xfffffff4 addr=0x7000 start=0x7000 end=0x9000 flags=0xfb pgoff=0x0 \
                   prot=0x25 ops=0x1 fault=my_fault+0x0/0x9 [maps]";
    let run = Run {
        events: &[SHARED, &done, DONE, handler],
        life: dies("SIGBUS", 4, 0x7000),
        ..Run::default()
    };
    let findings = run.findings();
    let causes: Vec<_> = findings.iter().map(|finding| finding.cause).collect();
    assert_eq!(causes, ["errno-from-fault"]);
    assert!(findings[0].what.contains("-ENOMEM"), "{findings:?}");
}

#[test]
fn a_copy_that_fails_is_told_of_without_a_signal() {
    let (one, done) = (remap(0x200, 0, 0x25, 0, 0xfb), mapped(0xfb, "0x0"));
    let copy = |address: u64| {
        format!("copy_failed: (fixup_exception+0x0/0x9) trap=14 error=0x2 addr={address:#x}")
    };
    let (beyond, elsewhere) = (copy(0x8010), copy(0xb000));
    assert_eq!(of(&[SHARED, &one, &done, DONE, &beyond]), ["beyond-mapped"]);
    // The program's own bad pointer.
    assert!(of(&[SHARED, &one, &done, DONE, &elsewhere]).is_empty());
}

#[test]
fn calls_that_a_program_does_without_are_not_blamed() {
    let failed = [
        "sys_enter: NR 28 (7000, 1000, e, 0, 0, 0)",
        "sys_exit: NR 28 = -22",
        "sys_enter: NR 11 (7010, 1000, 0, 0, 0, 0)",
        "sys_exit: NR 11 = -22",
    ];
    let with = |status| Run {
        events: &failed,
        life: Life {
            status,
            ..Life::default()
        },
        ..Run::default()
    };
    assert!(with(0).causes().is_empty());
    assert_eq!(with(1).causes(), ["unaligned-address"]);
    // It went on, and died of something else.
    let run = Run {
        events: &failed,
        life: Life {
            status: 139,
            killed_by: Some(11),
            ..Life::default()
        },
        ..Run::default()
    };
    assert!(run.causes().is_empty());
}

#[test]
fn a_file_is_known_where_the_beginning_of_mmap_region_was_left_out() {
    let opened =
        "opened: (fd_install+0x0/0x9) fd=3 file=0x1 mode=0x81a4 magic=0x958458f6 fmode=0x3 \
                  mmap=hugetlbfs_file_mmap+0x0/0x9 prepare=0x0 name=\"file\"";
    let events = [
        opened,
        "sys_enter: NR 9 (0, 200000, 3, 1, 3, 1000)",
        "mmap_region: (do_mmap+0x1/0x2 <- mmap_region) ret=-22",
        "sys_exit: NR 9 = -22",
    ];
    let run = |status| Run {
        events: &events,
        life: Life {
            status,
            ..Life::default()
        },
        ..Run::default()
    };
    assert_eq!(run(1).causes(), ["huge-alignment"]);
    // It is no device's: a program that does without it is not blamed.
    assert!(run(0).causes().is_empty());
}

#[test]
fn a_sealed_memfd_is_told_of_wherever_the_kernel_looks() {
    let events = [
        "opened: (fd_install+0x0/0x9) fd=3 file=0x1 mode=0x81ff magic=0x1021994 fmode=0x3 mmap=shmem_mmap+0x0/0x9 prepare=0x0 \
         name=\"memfd:frame\"",
        "sys_enter: NR 9 (0, 1000, 3, 1, 3, 0)",
        "mmap_region: (do_mmap+0x1/0x2 <- mmap_region) ret=-1",
        "sys_exit: NR 9 = -1",
    ];
    let run = Run {
        events: &events,
        life: Life {
            status: 1,
            ..Life::default()
        },
        ..Run::default()
    };
    assert_eq!(run.causes(), ["sealed"]);
}

const MAPS: &str = "opened: (fd_install+0x0/0x9) fd=3 file=0x1 mode=0x21a4 magic=0x1 fmode=0x3 mmap=my_mmap+0x0/0x9 [maps] \
                    prepare=0x0 name=\"maps0\"";

#[test]
fn an_error_number_without_its_minus_is_no_address() {
    let run = Run {
        events: &[MAPS, SHARED, "sys_exit: NR 9 = 22"],
        life: dies("SIGSEGV", 1, 22),
        ..Run::default()
    };
    let findings = run.findings();
    let [finding] = findings.as_slice() else {
        panic!("{findings:?}");
    };
    assert_eq!(finding.cause, "error-without-minus");
    assert!(finding.what.contains("my_mmap [maps] returned 22"));
    assert!(finding.evidence.iter().any(|one| one.from == "signal"));
}

#[test]
fn more_than_the_mapping_is_told() {
    let (fits, too_much, done) = (
        remap(0x200, 1, 0x25, 0, 0xfb),
        remap(0x200, 2, 0x25, 0, 0xfb),
        mapped(0xfb, "0x0"),
    );
    assert!(of(&[SHARED, &fits, &done, DONE]).is_empty());
    assert_eq!(of(&[SHARED, &too_much, &done, DONE]), ["mapped-too-much"]);
}

#[test]
fn an_area_of_vmallocs_tells_why_it_was_refused() {
    let refused = |area: &str| {
        let call = "remap_vmalloc_range: (my_mmap+0x4/0x9 [maps] <- remap_vmalloc_range) ret=-22 kernel=0xffffc90000001000 \
                    start=0x7000 end=0x9000 flags=0xfb pgoff=0x0 prot=0x25 ops=0x0 fault=0x0";
        let area =
            format!("find_vmap_area: (x+0x1/0x9 <- find_vmap_area) ret=0xffff888000001000 {area}");
        of(&[MAPS, SHARED, &area, call, "sys_exit: NR 9 = -22"])
    };
    assert_eq!(
        refused("area_flags=0x2 area_size=0x3000"),
        ["not-for-users"]
    );
    assert_eq!(
        refused("area_flags=0xa area_size=0x2000"),
        ["beyond-buffer"]
    );
}

#[test]
fn behind_the_end_is_told_from_what_was_unmapped() {
    let (one, done) = (remap(0x200, 0, 0x25, 0, 0xfb), mapped(0xfb, "0x0"));
    let behind = |events: &[&str], end| {
        let mut life = dies("SIGSEGV", 1, 0x9400);
        life.faults[0].below = Some(Vma {
            start: 0x7000,
            end,
            ..Vma::default()
        });
        let run = Run {
            events,
            life,
            ..Run::default()
        };
        run.causes()
    };
    let events = [SHARED, &one, &done, DONE];
    assert_eq!(behind(&events, 0x9000), ["past-the-end"]);
    assert!(behind(&events, 0x9200).is_empty());
    let removed = ["sys_enter: NR 11 (9000, 1000)", "sys_exit: NR 11 = 0"];
    let events: Vec<_> = events.into_iter().chain(removed).collect();
    assert!(behind(&events, 0x9000).is_empty());
}

#[test]
fn bits_that_contradict_each_other_are_an_error_number() {
    // EINVAL, ENOMEM, -EINVAL; SIGBUS, SIGBUS and MAJOR, NOPAGE and LOCKED.
    for errno in [22, 12, 0xffff_ffea] {
        assert!(is_errno(errno), "{errno:#x}");
    }
    for bits in [0x2, 0x6, 0x300] {
        assert!(!is_errno(bits), "{bits:#x}");
    }
}
