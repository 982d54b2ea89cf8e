//! What the memory manager may do with a mapping, for every kind by every method. The results are those that the
//! kernel's source gives for mappings of that sort; its file and function stand at each test.
//!
//! Every mapping of ours has `VM_DONTEXPAND`, which is one of `VM_SPECIAL`.

use super::sharing::{numbered, shows, tag};
use super::ways::{each_way, row, Sort, Way};
use crate::check::{dies_of, elsewhere, fails, Failure, Outcome};
use crate::proc::{frames, smaps};
use crate::session::Session;
use crate::sys::{self, fork, others, Ending, Errno, Map, PAGE, PRIVATE, READ, RW, SHARED};
use crate::{check, check_eq};
use mapbuf_abi::{Kind, Method};
use std::fs;
use std::time::Duration;

tests! { "manager":
    STOCK, 60: [
        mappings_are_of_the_sort_that_is_said,
        both_sides_of_a_fork_write,
        mprotect_splits_and_nothing_merges,
        munmap_in_the_middle_and_mapped_again,
        mremap_moves_and_shrinks_and_never_grows,
        each_advice_works_or_is_refused,
        lock_is_taken_and_changes_nothing,
        fixed_mapping_replaces_a_part,
        populate_fills_what_has_pages,
        proc_tells_the_truth,
        userfaultfd_is_refused,
        same_page_merging_passes_by,
    ];
}

// "pf" VM_PFNMAP, "mm" VM_MIXEDMAP, "io" VM_IO, "dd" VM_DONTDUMP (fs/proc/task_mmu.c, `show_smap_vma_flags`).
// `remap_pfn_range` sets VM_IO and VM_DONTDUMP with VM_PFNMAP (`VMA_REMAP_FLAGS`); who maps frames by faults has to.
fn mappings_are_of_the_sort_that_is_said() -> Outcome {
    each_way(|way| {
        let map = way.numbered()?;
        let vma = row(&map)?;
        let has = |flag| vma.has(flag);
        let frames = way.sort == Sort::Frames;
        check_eq!(has("pf"), frames, "VM_PFNMAP in {:?}", vma.flags);
        check_eq!(has("io"), frames, "VM_IO in {:?}", vma.flags);
        check_eq!(has("dd"), !way.dumped(), "VM_DONTDUMP in {:?}", vma.flags);
        let inserted = way.sort == Sort::Inserted;
        check_eq!(has("mm"), inserted, "VM_MIXEDMAP in {:?}", vma.flags);
        check!(has("de") && has("sh") && has("mw"), "{:?}", vma.flags);
        check!(!has("me") && !has("dc"), "{:?}", vma.flags);
        way.whole(&map)
    })
}

// `copy_page_range` of mm/memory.c: VM_PFNMAP and VM_MIXEDMAP have their entries copied, others fault anew; shared
// either way.
fn both_sides_of_a_fork_write() -> Outcome {
    each_way(|way| {
        let map = way.numbered()?;
        // Told through a word of the mapping itself.
        let (go, done) = (8, 16);
        let wait = |at: usize| sys::until(Duration::from_secs(20), || map.u64(at) == 1);
        let child = fork(|| {
            if !wait(go) || map.u64(3 * PAGE + 8) != 33 {
                return 1;
            }
            map.set_u64(5 * PAGE + 8, 55);
            map.set_u64(done, 1);
            i32::from(shows(&map, 0, way.pages(), 0).is_err())
        })?;
        map.set_u64(3 * PAGE + 8, 33);
        map.set_u64(go, 1);
        check!(wait(done), "the child's word does not come");
        check_eq!(map.u64(5 * PAGE + 8), 55, "a word of the child's");
        check_eq!(child.wait(), Ending::Exited(0), "the child's end");
        way.whole(&map)
    })
}

/// The rows of smaps that lie in a range.
fn rows_in(start: usize, bytes: usize) -> Vec<(usize, usize)> {
    smaps()
        .iter()
        .filter(|vma| vma.start < start + bytes && vma.end > start)
        .map(|vma| (vma.start - start, vma.end - start))
        .collect()
}

// `vma_merge_existing_range` and `vma_merge_new_range` of mm/vma.c: "Special VMAs are unmergeable" (VM_SPECIAL), so
// what was split stays split, though the flags are the same again; three rows work as one did.
fn mprotect_splits_and_nothing_merges() -> Outcome {
    each_way(|way| {
        let map = way.numbered()?;
        let (first, last) = (4 * PAGE, 8 * PAGE);
        let split = vec![(0, first), (first, last), (last, way.bytes)];
        map.protect_part(first, last - first, READ)?;
        check_eq!(rows_in(map.start, way.bytes), split, "rows");
        way.whole(&map)?;
        dies_of(libc::SIGSEGV, || map.set_u64(5 * PAGE, 0))?;
        map.protect_part(first, last - first, libc::PROT_NONE)?;
        dies_of(libc::SIGSEGV, || {
            map.u64(5 * PAGE);
        })?;
        map.protect(RW)?;
        check_eq!(rows_in(map.start, way.bytes), split, "rows in the end");
        check_eq!(way.session.info(way.buffer.id)?.mappings, 3, "mappings");
        map.set_u64(5 * PAGE + 8, 1);
        elsewhere(|| way.whole(&map))?;
        map.unmap()?;
        check_eq!(way.session.info(way.buffer.id)?.mappings, 0, "mappings");
        way.kernel_has(way.pages())
    })
}

// `__split_vma` of mm/vma.c: both parts keep file and offset; the hole is filled by a mapping of its own.
fn munmap_in_the_middle_and_mapped_again() -> Outcome {
    each_way(|way| {
        let mut map = way.numbered()?;
        let (first, last) = (4 * PAGE, 8 * PAGE);
        map.unmap_part(first, last - first)?;
        check_eq!(
            rows_in(map.start, way.bytes),
            vec![(0, first), (last, way.bytes)],
            "rows around the hole"
        );
        shows(&map, 0, 4, 0)?;
        shows(&map, 8, way.pages() - 8, 8)?;
        dies_of(libc::SIGSEGV, || {
            map.u64(first);
        })?;
        way.kernel_has(way.pages())?;
        // By the same method, but where the hole is too small for it.
        let offset = match way.method {
            Method::FaultHuge => way.buffer.mmap_offset,
            _ => way.offset,
        } + first as u64;
        map.map_over(first, last - first, &way.session, RW, SHARED, offset)?;
        check_eq!(
            rows_in(map.start, way.bytes),
            vec![(0, first), (first, last), (last, way.bytes)],
            "rows when the hole is mapped again"
        );
        way.whole(&map)?;
        let len = map.len;
        map.unmap_part(0, len)?;
        check_eq!(way.session.info(way.buffer.id)?.mappings, 0, "mappings");
        Ok(())
    })
}

// `check_prep_vma` of mm/mremap.c: VM_DONTEXPAND or VM_PFNMAP is EFAULT for growth (a second mapping by an old length
// of 0 is growth too) and EINVAL for MREMAP_DONTUNMAP. A move takes the entries along (`move_page_tables`).
fn mremap_moves_and_shrinks_and_never_grows() -> Outcome {
    const DONTUNMAP: i32 = 4;
    each_way(|way| {
        let mut map = way.numbered()?;
        let moved = libc::MREMAP_MAYMOVE;
        let bytes = way.bytes;
        fails(map.remap(bytes, bytes + PAGE, 0), libc::EFAULT)?;
        fails(map.remap(bytes, bytes + PAGE, moved), libc::EFAULT)?;
        fails(map.remap(0, bytes, moved), libc::EFAULT)?;
        fails(map.remap(bytes, bytes, moved | DONTUNMAP), libc::EINVAL)?;
        way.whole(&map)?;
        let before = map.start;
        map.move_over(Map::anonymous(bytes)?)?;
        check!(map.start != before, "it did not move");
        check_eq!(rows_in(before, bytes).len(), 0, "rows where it was");
        way.whole(&map)?;
        map.set_u64(PAGE + 8, 11);
        let mut word = [0; 8];
        way.session
            .pread(&mut word, way.buffer.mmap_offset + PAGE as u64 + 8)?;
        check_eq!(u64::from_ne_bytes(word), 11, "a word written after a move");
        map.remap(bytes, 5 * PAGE, 0)?;
        check_eq!(rows_in(map.start, bytes), vec![(0, 5 * PAGE)], "rows");
        shows(&map, 0, 5, 0)?;
        check_eq!(way.session.info(way.buffer.id)?.mappings, 1, "mappings");
        way.kernel_has(way.pages())
    })
}

/// An advice, and what is said to it for each sort; 0 where it is taken.
struct Advice {
    name: &'static str,
    number: i32,
    pages: i32,
    inserted: i32,
    frames: i32,
}

const fn advice(name: &'static str, number: i32, pages: i32, frames: i32) -> Advice {
    Advice {
        name,
        number,
        pages,
        inserted: pages,
        frames,
    }
}

/// All of include/uapi/asm-generic/mman-common.h but MADV_HWPOISON, which is there to do harm; mm/madvise.c decides unless
/// said otherwise. DONTFORK comes last: DOFORK does not take it back.
const ADVICE: &[Advice] = &[
    advice("NORMAL", 0, 0, 0),
    advice("RANDOM", 1, 0, 0),
    advice("SEQUENTIAL", 2, 0, 0),
    // `vfs_fadvise` is asked, and not listened to.
    advice("WILLNEED", 3, 0, 0),
    // `madvise_dontneed_free_valid_vma`: not VM_PFNMAP; a fault brings the pages back.
    advice("DONTNEED", 4, 0, libc::EINVAL),
    advice("DONTNEED_LOCKED", 24, 0, libc::EINVAL),
    // `madvise_free_single_vma`: anonymous memory only.
    advice("FREE", 8, libc::EINVAL, libc::EINVAL),
    // `vfs_fallocate` of fs/open.c: the file of a dma-buf is no regular file.
    advice("REMOVE", 9, libc::ENODEV, libc::ENODEV),
    // VM_SPECIAL.
    advice("DOFORK", 11, libc::EINVAL, libc::EINVAL),
    // `ksm_madvise` of mm/ksm.c: "just ignore the advice".
    advice("MERGEABLE", 12, 0, 0),
    advice("UNMERGEABLE", 13, 0, 0),
    // `hugepage_madvise` of mm/khugepaged.c.
    advice("HUGEPAGE", 14, 0, 0),
    advice("NOHUGEPAGE", 15, 0, 0),
    advice("DONTDUMP", 16, 0, 0),
    // VM_SPECIAL.
    advice("DODUMP", 17, libc::EINVAL, libc::EINVAL),
    // Anonymous memory only.
    advice("WIPEONFORK", 18, libc::EINVAL, libc::EINVAL),
    advice("KEEPONFORK", 19, 0, 0),
    // `can_madv_lru_vma`: not VM_PFNMAP; the pages are on no list that they could be moved on.
    advice("COLD", 20, 0, libc::EINVAL),
    advice("PAGEOUT", 21, 0, libc::EINVAL),
    // `__get_user_pages` of mm/gup.c: EINVAL where `check_vma_flags` refuses.
    advice("POPULATE_READ", 22, 0, libc::EINVAL),
    advice("POPULATE_WRITE", 23, 0, libc::EINVAL),
    // `__thp_vma_allowable_orders` of mm/huge_memory.c: not VM_NO_KHUGEPAGED, which has VM_SPECIAL in it.
    advice("COLLAPSE", 25, libc::EINVAL, libc::EINVAL),
    // `get_any_page` of mm/memory-failure.c: "unhandlable page", on no list; `get_user_pages_fast` fails for frames.
    advice("SOFT_OFFLINE", 101, libc::EIO, libc::EFAULT),
    // `is_valid_guard_vma`: not VM_SPECIAL.
    advice("GUARD_INSTALL", 102, libc::EINVAL, libc::EINVAL),
    advice("GUARD_REMOVE", 103, libc::EINVAL, libc::EINVAL),
    advice("(none)", 77, libc::EINVAL, libc::EINVAL),
    advice("DONTFORK", 10, 0, 0),
];

fn each_advice_works_or_is_refused() -> Outcome {
    each_way(|way| {
        let map = way.numbered()?;
        for advice in ADVICE {
            let errno = match way.sort {
                Sort::Pages => advice.pages,
                Sort::Inserted => advice.inserted,
                Sort::Frames => advice.frames,
            };
            let found = map.advise(4 * PAGE, 8 * PAGE, advice.number);
            let expected = if errno == 0 {
                Ok(())
            } else {
                Err(Errno(errno))
            };
            check_eq!(found, expected, "MADV_{}", advice.name);
            way.whole(&map)
                .map_err(|failure| Failure::new(format!("MADV_{}: {failure:?}", advice.name)))?;
            map.set_u64(6 * PAGE + 8, advice.number as u64 + 1);
            check_eq!(
                map.u64(6 * PAGE + 8),
                advice.number as u64 + 1,
                "a word written after MADV_{}",
                advice.name
            );
        }
        // What is not to be forked is not there in the child; the rest is.
        elsewhere(|| {
            check_eq!(
                rows_in(map.start, way.bytes),
                vec![(0, 4 * PAGE), (12 * PAGE, way.bytes)],
                "rows in a child"
            );
            shows(&map, 0, 4, 0)?;
            shows(&map, 12, way.pages() - 12, 12)
        })
    })
}

// `mlock_fixup` of mm/mlock.c: a VMA with one of VM_SPECIAL is left out (`vma_supports_mlock`), without an error; the
// call goes on to `__mm_populate`, which fills what has pages. Nothing is counted, and munlock finds nothing to do.
fn lock_is_taken_and_changes_nothing() -> Outcome {
    const ONFAULT: u32 = 1;
    each_way(|way| {
        let map = way.map()?;
        others::lock(&map, 0)?;
        let vma = row(&map)?;
        check!(!vma.has("lo"), "VM_LOCKED in {:?}", vma.flags);
        check_eq!(vma.kib("Locked"), 0, "KiB locked");
        if way.sort.has_pages() {
            check!(
                frames(&map).iter().all(Option::is_some),
                "not every page is there"
            );
        }
        others::lock(&map, ONFAULT)?;
        others::unlock(&map)?;
        drop(map);
        // And what is locked from the start.
        let map = way
            .session
            .map(way.bytes, RW, SHARED | libc::MAP_LOCKED, way.offset)?;
        for page in 0..way.pages() {
            map.set_u64(page * PAGE, tag(page));
        }
        check_eq!(row(&map)?.kib("Locked"), 0, "KiB locked from the start");
        // `munlock` does not take the flag from a VMA that it leaves out: this is how it goes.
        map.unmap()?;
        way.kernel_has(way.pages())
    })
}

// `__mmap_region` of mm/vma.c: what is in the way is unmapped first, page by page of it.
fn fixed_mapping_replaces_a_part() -> Outcome {
    each_way(|way| {
        let mut map = way.numbered()?;
        let session = Session::open()?;
        let (other, other_map) = numbered(&session, Kind::Pages, 8)?;
        other_map.set_u64(PAGE, 0x77);
        map.map_over(
            4 * PAGE,
            2 * PAGE,
            &session,
            RW,
            SHARED,
            other.mmap_offset + PAGE as u64,
        )?;
        check_eq!(map.u64(4 * PAGE), 0x77, "the other buffer's page");
        shows(&map, 0, 4, 0)?;
        shows(&map, 6, way.pages() - 6, 6)?;
        map.set_u64(4 * PAGE, 0x88);
        check_eq!(other_map.u64(PAGE), 0x88, "a word in the other buffer");
        // Anonymous memory over the end of the one and the start of the other.
        let zero = fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/zero")?;
        map.map_over(3 * PAGE, 2 * PAGE, &zero, RW, PRIVATE, 0)?;
        check_eq!(map.u64(3 * PAGE), 0, "anonymous memory");
        map.set_u64(3 * PAGE, 1);
        map.set_u64(4 * PAGE, 1);
        shows(&map, 0, 3, 0)?;
        check_eq!(map.u64(5 * PAGE), tag(2), "what is left of the other");
        shows(&map, 6, way.pages() - 6, 6)?;
        way.kernel_has(way.pages())?;
        check_eq!(way.session.info(way.buffer.id)?.mappings, 2, "mappings");
        check_eq!(session.info(other.id)?.mappings, 2, "of the other");
        Ok(())
    })
}

// `__mm_populate` of mm/gup.c: leaves out VM_IO and VM_PFNMAP, faults in everything else. What is mapped by frame is
// full from the start, or filled by faults as ever.
fn populate_fills_what_has_pages() -> Outcome {
    each_way(|way| {
        let flags = SHARED | libc::MAP_POPULATE;
        let map = way.session.map(way.bytes, RW, flags, way.offset)?;
        let there = frames(&map).iter().filter(|frame| frame.is_some()).count();
        let expected = if way.sort.has_pages() { way.pages() } else { 0 };
        check_eq!(there, expected, "pages that pagemap has before a touch");
        check_eq!(map.differs(0), None, "first word that is not zero");
        Ok(())
    })
}

// `show_map_vma` of fs/proc/task_mmu.c shows the file's name and the offset in it; `smaps_pte_entry` counts pages,
// which a VM_PFNMAP mapping has none of (`vm_normal_page` of mm/memory.c), and `pagemap_read` leaves it out
// (mm/pagewalk.c, `walk_page_test`).
fn proc_tells_the_truth() -> Outcome {
    each_way(|way| {
        let map = way.numbered()?;
        let part = way
            .session
            .map(3 * PAGE, READ, SHARED, way.offset_of_part(5 * PAGE));
        let maps = fs::read_to_string("/proc/self/maps")?;
        let line = |start: usize, bytes: usize| -> Outcome<Vec<String>> {
            let range = format!("{start:08x}-{:08x} ", start + bytes);
            let line = maps.lines().find(|line| line.starts_with(&range));
            let line = line.ok_or_else(|| Failure::new(format!("no line {range}")))?;
            Ok(line.split_whitespace().map(str::to_owned).collect())
        };
        let name = format!("/dmabuf:mapbuf {}", way.kind.name());
        let words = line(map.start, way.bytes)?;
        check_eq!(words[1..3], ["rw-s", "00000000"], "mode and offset");
        check_eq!(words[5..].join(" "), name, "name");
        // `iomap` is for the whole.
        if let Ok(part) = part {
            let words = line(part.start, part.len)?;
            check_eq!(words[1..3], ["r--s", "00005000"], "mode and offset");
            check_eq!(words[5..].join(" "), name, "name");
            shows(&part, 0, 3, 5)?;
        }
        let vma = row(&map)?;
        let kib = (way.bytes >> 10) as u64;
        check_eq!(vma.kib("Size"), kib, "size");
        let mut expected = Vec::new();
        for segment in way.session.segments(way.buffer.id)? {
            for at in (0..segment.length).step_by(PAGE) {
                expected.push(Some((segment.physical_address + at) / PAGE as u64));
            }
        }
        if way.sort.has_pages() {
            check_eq!(vma.kib("Rss"), kib, "KiB there");
            check_eq!(frames(&map), expected, "page frames");
        } else {
            check_eq!(vma.kib("Rss"), 0, "KiB there, of frames");
            check_eq!(frames(&map), vec![None; way.pages()], "page frames");
        }
        for none in ["Anonymous", "Swap", "AnonHugePages", "Locked"] {
            check_eq!(vma.kib(none), 0, "{none}");
        }
        Ok(())
    })
}

impl Way {
    /// The `mmap` offset of a part, by the same method.
    fn offset_of_part(&self, from: usize) -> u64 {
        self.offset + from as u64
    }
}

// `vma_can_userfault` of mm/userfaultfd.c: not VM_SPECIAL, in no mode: EINVAL from `userfaultfd_register`.
fn userfaultfd_is_refused() -> Outcome {
    let uffd = others::userfaultfd()?;
    each_way(|way| {
        let map = way.numbered()?;
        // UFFDIO_REGISTER_MODE_MISSING, _WP, _MINOR.
        for mode in [1, 2, 3, 4] {
            fails(others::register(&uffd, &map, mode), libc::EINVAL)?;
        }
        let vma = row(&map)?;
        check!(
            !["um", "uw", "ui"].iter().any(|flag| vma.has(flag)),
            "registered: {:?}",
            vma.flags
        );
        way.whole(&map)
    })
}

/// A setting of same-page merging, put back when dropped.
struct Setting(&'static str, String);

impl Setting {
    fn set(name: &'static str, value: &str) -> Outcome<Self> {
        let path = format!("/sys/kernel/mm/ksm/{name}");
        let before = fs::read_to_string(&path)?.trim().to_owned();
        fs::write(path, value)?;
        Ok(Self(name, before))
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        // The next run of this test says it if this fails.
        let _ = fs::write(format!("/sys/kernel/mm/ksm/{}", self.0), &self.1);
    }
}

fn ksm(name: &str) -> Outcome<u64> {
    let text = fs::read_to_string(format!("/sys/kernel/mm/ksm/{name}"))?;
    text.trim()
        .parse()
        .map_err(|_| Failure::new(format!("{name} is {text:?}")))
}

// `ksm_compatible` of mm/ksm.c: neither shared mappings nor VM_SPECIAL. The daemon goes through everything here while
// pages that are all alike lie in anonymous memory too, which shows that it works.
fn same_page_merging_passes_by() -> Outcome {
    const ALIKE: u64 = 0x5a5a_1234_5a5a_4321;
    let _scan = Setting::set("pages_to_scan", "10000")?;
    let _sleep = Setting::set("sleep_millisecs", "5")?;
    // Merges what never changes at the second look instead of trusting a checksum once more.
    let ours = Map::anonymous(64 * PAGE)?;
    ours.fill(ALIKE);
    ours.advise(0, ours.len, libc::MADV_MERGEABLE)?;
    let _run = Setting::set("run", "1")?;
    let merged = sys::until(Duration::from_secs(30), || {
        ksm("pages_sharing").is_ok_and(|pages| pages >= 60)
    });
    check!(merged, "same-page merging does not merge");
    each_way(|way| {
        let map = way.map()?;
        map.fill(ALIKE);
        map.advise(0, map.len, libc::MADV_MERGEABLE)?;
        let private = way.session.map(way.bytes, RW, PRIVATE, way.offset);
        if let Ok(private) = &private {
            // Copies, all alike: anonymous pages in a mapping of ours.
            private.fill(ALIKE);
            private.advise(0, private.len, libc::MADV_MERGEABLE)?;
            check!(!row(private)?.has("mg"), "VM_MERGEABLE of copies");
        }
        check!(!row(&map)?.has("mg"), "VM_MERGEABLE");
        let from = ksm("full_scans")?;
        let scanned = sys::until(Duration::from_secs(20), || {
            ksm("full_scans").is_ok_and(|scans| scans >= from + 2)
        });
        check!(scanned, "the daemon does not come round");
        let shared = ksm("pages_sharing")?;
        check!(shared < 64, "{shared} pages are shared, and 64 were to be");
        check_eq!(map.differs(ALIKE), None, "first word that changed");
        map.set_u64(PAGE, 1);
        check_eq!(map.u64(2 * PAGE), ALIKE, "the next page after a write");
        if let Ok(private) = &private {
            check_eq!(private.differs(ALIKE), None, "first word of the copies");
        }
        Ok(())
    })?;
    // Apart again, before the setting goes back.
    ours.advise(0, ours.len, libc::MADV_UNMERGEABLE)?;
    check_eq!(ours.differs(ALIKE), None, "first word that changed");
    Ok(())
}
