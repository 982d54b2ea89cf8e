//! Which kernel function a method calls, as the kernel's own function tracer sees it.

use super::lifetime::comes_to;
use super::sharing::{shows, tag};
use crate::check::Outcome;
use crate::session::Session;
use crate::sys::{self, PAGE, RW, SHARED};
use crate::{check, check_eq, skip};
use mapbuf_abi::{Kind, Method};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

tests! { "traced":
    STOCK, 90: [
        each_method_calls_the_function_it_is_named_after,
        auto_takes_page_faults_where_there_are_pages,
        what_advice_drops_comes_back_by_a_page,
        huge_entries_are_made_by_the_functions_for_them,
    ];
    BOTH, 90: [ frames_line_up_with_addresses ];
    CMA, 60: [ no_entry_of_a_gibibyte ];
}

const ROOT: &str = "/sys/kernel/tracing";

/// All that maps, and what these functions themselves come down to.
const FUNCTIONS: &[&str] = &[
    "remap_pfn_range",
    "vm_insert_page",
    "vm_insert_pages",
    "vm_map_pages",
    "remap_vmalloc_range",
    "dma_mmap_attrs",
    "vm_iomap_memory",
    "vmf_insert_pfn",
    "vmf_insert_pfn_pmd",
    "vmf_insert_pfn_pud",
    "vmf_insert_folio_pmd",
    "vmf_insert_page_mkwrite",
    "finish_fault",
    "do_set_pmd",
];

/// An instance of the tracer that watches this process alone.
pub struct Tracer(PathBuf);

impl Tracer {
    pub fn new() -> Outcome<Self> {
        let available = fs::read_to_string(format!("{ROOT}/available_filter_functions"));
        let Ok(available) = available else {
            skip!("this kernel has no function tracer");
        };
        for function in FUNCTIONS {
            let known = available.lines().any(|line| line == *function);
            check!(known, "the tracer does not know {function}");
        }
        let folder = PathBuf::from(format!("{ROOT}/instances/mapbuf-{}", std::process::id()));
        fs::create_dir(&folder)?;
        let tracer = Self(folder);
        fs::write(tracer.0.join("tracing_on"), "0")?;
        fs::write(
            tracer.0.join("set_ftrace_pid"),
            std::process::id().to_string(),
        )?;
        fs::write(tracer.0.join("set_ftrace_filter"), FUNCTIONS.join("\n"))?;
        fs::write(tracer.0.join("current_tracer"), "function")?;
        // Faults in the program's own text would be seen as well.
        sys::lock_memory()?;
        Ok(tracer)
    }

    /// Which functions were called meanwhile, and how often.
    pub fn watch<T>(&self, action: impl FnOnce() -> Outcome<T>) -> Outcome<(T, Calls)> {
        fs::write(self.0.join("trace"), "")?;
        fs::write(self.0.join("tracing_on"), "1")?;
        let result = action();
        fs::write(self.0.join("tracing_on"), "0")?;
        let mut calls = Calls::new();
        for line in fs::read_to_string(self.0.join("trace"))?.lines() {
            // "task-pid [cpu] flags time: function <-caller"
            let called = line.split_once(" <-").map(|(before, _)| before);
            let Some(name) = called.and_then(|before| before.split_whitespace().last()) else {
                continue;
            };
            if let Some(name) = FUNCTIONS.iter().find(|function| **function == name) {
                *calls.entry(name).or_default() += 1;
            }
        }
        Ok((result?, calls))
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // One that stays behind costs nothing, and the next test has another name for its own.
        let _ = fs::write(self.0.join("current_tracer"), "nop");
        let _ = fs::remove_dir(&self.0);
    }
}

pub type Calls = BTreeMap<&'static str, usize>;

/// What is mapped how, and the calls that it takes.
type Case = (Kind, Method, &'static [(&'static str, usize)]);

const PAGES: usize = 16;

/// A buffer whose pages have their numbers in them, mapped by a method and written to; the calls that this took.
fn calls_for(tracer: &Tracer, kind: Kind, method: Method, bytes: usize) -> Outcome<Calls> {
    let session = Session::open()?;
    let buffer = session.alloc(kind, bytes)?;
    for page in 0..bytes / PAGE {
        let at = buffer.mmap_offset + (page * PAGE) as u64;
        session.pwrite(&tag(page).to_ne_bytes(), at)?;
    }
    let offset = session.offset(buffer.id, method)?;
    let (map, calls) = tracer.watch(|| {
        let map = session.map(bytes, RW, SHARED, offset)?;
        for page in 0..bytes / PAGE {
            map.set_u64(page * PAGE + 8, 1);
        }
        Ok(map)
    })?;
    shows(&map, 0, bytes / PAGE, 0)?;
    Ok(calls)
}

// dma_direct_mmap (kernel/dma/direct.c) and vm_iomap_memory (mm/memory.c) end in remap_pfn_range; vm_map_pages calls
// vm_insert_pages, and remap_vmalloc_range calls vm_insert_page for each page. io_remap_pfn_range is remap_pfn_range by
// another name where frame numbers are not munged (include/linux/mm.h): the tracer cannot tell them apart.
fn each_method_calls_the_function_it_is_named_after() -> Outcome {
    let tracer = Tracer::new()?;
    let cases: [Case; 10] = [
        (Kind::Contiguous, Method::Remap, &[("remap_pfn_range", 1)]),
        (
            Kind::Vmalloc,
            Method::RemapEach,
            &[("remap_pfn_range", PAGES)],
        ),
        (Kind::Vmalloc, Method::Insert, &[("vm_insert_pages", 1)]),
        (
            Kind::Pages,
            Method::MapPages,
            &[("vm_insert_pages", 1), ("vm_map_pages", 1)],
        ),
        (
            Kind::Vmalloc,
            Method::Vmalloc,
            &[("remap_vmalloc_range", 1), ("vm_insert_page", PAGES)],
        ),
        (
            Kind::Coherent,
            Method::Dma,
            &[("dma_mmap_attrs", 1), ("remap_pfn_range", 1)],
        ),
        (
            Kind::Contiguous,
            Method::Iomap,
            &[("remap_pfn_range", 1), ("vm_iomap_memory", 1)],
        ),
        (Kind::Contiguous, Method::IoRemap, &[("remap_pfn_range", 1)]),
        (Kind::Vmalloc, Method::FaultPage, &[("finish_fault", PAGES)]),
        (
            Kind::Coherent,
            Method::FaultPfn,
            &[("vmf_insert_pfn", PAGES)],
        ),
    ];
    for (kind, method, expected) in cases {
        let mut calls = calls_for(&tracer, kind, method, PAGES * PAGE)?;
        if method == Method::Iomap {
            // Both lie in one file, and clang makes one function of them.
            calls.entry("remap_pfn_range").or_insert(1);
        }
        let expected: Calls = expected.iter().copied().collect();
        check_eq!(calls, expected, "calls of {method:?} for {kind:?}");
    }
    Ok(())
}

fn auto_takes_page_faults_where_there_are_pages() -> Outcome {
    let tracer = Tracer::new()?;
    for kind in [Kind::Pages, Kind::Contiguous] {
        let calls = calls_for(&tracer, kind, Method::Auto, PAGES * PAGE)?;
        let names: Vec<_> = calls.keys().copied().collect();
        check_eq!(names, ["finish_fault"], "functions called for {kind:?}");
    }
    // One fault for each page table, of which so few pages need one or two; the others come along.
    let calls = calls_for(&tracer, Kind::Vmalloc, Method::Auto, PAGES * PAGE)?;
    let names: Vec<_> = calls.keys().copied().collect();
    let expected = ["vm_insert_pages", "vmf_insert_page_mkwrite"];
    check_eq!(names, expected, "functions called for vmalloc'd memory");
    check!(
        calls["vmf_insert_page_mkwrite"] <= 2,
        "a fault for each page: {calls:?}"
    );
    let calls = calls_for(&tracer, Kind::Coherent, Method::Auto, PAGES * PAGE)?;
    let expected = Calls::from([("dma_mmap_attrs", 1), ("remap_pfn_range", 1)]);
    check_eq!(calls, expected, "calls for coherent memory");
    Ok(())
}

// A mapping with VM_MIXEDMAP must not take the way of finish_fault, which would put huge entries into it.
fn what_advice_drops_comes_back_by_a_page() -> Outcome {
    let tracer = Tracer::new()?;
    for (kind, method) in [
        (Kind::Pages, Method::Insert),
        (Kind::Contiguous, Method::MapPages),
        (Kind::Vmalloc, Method::Vmalloc),
    ] {
        let session = Session::open()?;
        let buffer = session.alloc(kind, PAGES * PAGE)?;
        let offset = session.offset(buffer.id, method)?;
        let map = session.map(PAGES * PAGE, RW, SHARED, offset)?;
        map.fill(7);
        map.advise(0, map.len, libc::MADV_DONTNEED)?;
        let (_, calls) = tracer.watch(|| {
            check_eq!(map.differs(7), None, "first word that differs, {method:?}");
            Ok(())
        })?;
        let expected = Calls::from([("vmf_insert_page_mkwrite", PAGES)]);
        check_eq!(calls, expected, "calls for what {method:?} had mapped");
    }
    Ok(())
}

const HUGE: usize = 2 << 20;

fn huge_entries_are_made_by_the_functions_for_them() -> Outcome {
    let tracer = Tracer::new()?;
    let cases: [(Kind, Method, usize, Calls); 5] = [
        (
            Kind::Pages,
            Method::FaultHuge,
            4 * HUGE,
            Calls::from([("vmf_insert_folio_pmd", 4)]),
        ),
        (
            Kind::Pages,
            Method::Auto,
            4 * HUGE,
            Calls::from([("do_set_pmd", 4), ("finish_fault", 4)]),
        ),
        // One folio of just that size.
        (
            Kind::Contiguous,
            Method::FaultHuge,
            HUGE,
            Calls::from([("vmf_insert_folio_pmd", 1)]),
        ),
        // More than a folio can be: page frames.
        (
            Kind::Contiguous,
            Method::FaultHuge,
            2 * HUGE,
            Calls::from([("vmf_insert_pfn_pmd", 2)]),
        ),
        (
            Kind::Coherent,
            Method::FaultHuge,
            2 * HUGE,
            Calls::from([("vmf_insert_pfn_pmd", 2)]),
        ),
    ];
    for (kind, method, bytes, expected) in cases {
        let calls = calls_for(&tracer, kind, method, bytes)?;
        check_eq!(calls, expected, "calls of {method:?} for {kind:?}");
    }
    Ok(())
}

// A run of frames may begin anywhere; the address must fit to the frames, not to the offset in the buffer.
fn frames_line_up_with_addresses() -> Outcome {
    const PAGES_OF_HUGE: u64 = (HUGE / PAGE) as u64;
    let tracer = Tracer::new()?;
    // More than the page allocator gives at once, and too much behind the last 2 MiB to be a row of folios.
    for (bytes, part) in [
        (2 * HUGE + 400 * PAGE, 0),
        (3 * HUGE + 500 * PAGE, 5),
        (2 * HUGE + 300 * PAGE, 300),
    ] {
        let session = Session::open()?;
        let buffer = session.alloc(Kind::Contiguous, bytes)?;
        let runs = session.segments(buffer.id)?;
        let frame = runs[0].physical_address / PAGE as u64 + part;
        let first = frame.next_multiple_of(PAGES_OF_HUGE);
        let end = runs[0].physical_address / PAGE as u64 + (bytes / PAGE) as u64;
        let entries = ((end - first) / PAGES_OF_HUGE) as usize;
        let offset = session.offset(buffer.id, Method::FaultHuge)? + part * PAGE as u64;
        let len = bytes - part as usize * PAGE;
        let (_map, calls) = tracer.watch(|| {
            let map = session.map(len, RW, SHARED, offset)?;
            for page in 0..len / PAGE {
                map.set_u64(page * PAGE, tag(page));
            }
            Ok(map)
        })?;
        let found = calls.get("vmf_insert_pfn_pmd").copied().unwrap_or(0);
        check_eq!(found, entries, "huge entries for frames from {frame:#x}");
        let small = calls.get("vmf_insert_pfn").copied().unwrap_or(0);
        check_eq!(small, len / PAGE - entries * HUGE / PAGE, "small entries");
        for page in (0..len / PAGE).step_by(7) {
            let mut word = [0; 8];
            let at = buffer.mmap_offset + (part as usize + page) as u64 * PAGE as u64;
            session.pread(&mut word, at)?;
            check_eq!(u64::from_ne_bytes(word), tag(page), "page {page}");
        }
    }
    Ok(())
}

// Splitting a VMA takes the memory under an entry of 1 GiB for a table of entries (mm_find_pmd, mm/rmap.c): there must be
// none of that size, see also the test of a region.
fn no_entry_of_a_gibibyte() -> Outcome {
    const GIB: usize = 1 << 30;
    let tracer = Tracer::new()?;
    let session = Session::open()?;
    for (kind, function) in [
        (Kind::Contiguous, "vmf_insert_folio_pmd"),
        (Kind::Coherent, "vmf_insert_pfn_pmd"),
    ] {
        let buffer = session.alloc(kind, GIB)?;
        let offset = session.offset(buffer.id, Method::FaultHuge)?;
        let (mut map, calls) = tracer.watch(|| {
            let map = session.map(GIB, RW, SHARED, offset)?;
            for at in (0..GIB).step_by(HUGE) {
                map.set_u64(at, at as u64);
            }
            Ok(map)
        })?;
        check!(
            !calls.keys().any(|name| name.ends_with("_pud")),
            "{kind:?}, calls: {calls:?}"
        );
        check!(
            calls.get(function).is_some_and(|count| *count >= 511),
            "{kind:?}, calls: {calls:?}"
        );
        map.unmap_part(5 * HUGE + PAGE, PAGE)?;
        for at in (0..GIB).step_by(HUGE * 37) {
            let mut word = [0; 8];
            session.pread(&mut word, buffer.mmap_offset + at as u64)?;
            check_eq!(u64::from_ne_bytes(word), at as u64, "word at {at:#x}");
            check_eq!(map.u64(at), at as u64, "word at {at:#x}, mapped");
        }
        map.unmap()?;
        session.free(buffer.id)?;
        comes_to(&session, 0, 0)?;
    }
    Ok(())
}
