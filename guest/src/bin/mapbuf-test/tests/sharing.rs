//! Mappings that are shared, split, moved and shrunk: everything that the memory manager may do with one.

use crate::check::{core_refused, dies_of, elsewhere, fails, Failure, Outcome};
use crate::proc::{frames, vma_at};
use crate::session::{Session, KINDS};
use crate::sys::{self, Map, PAGE, READ, RW, SHARED};
use crate::{check, check_eq};
use mapbuf_abi::{Alloc, Kind};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

tests! { "sharing":
    BOTH, 30: [
        new_memory_is_zero,
        two_mappings_show_the_same_bytes,
        fork_shares_both_ways,
        hole_in_the_middle_leaves_the_rest,
        move_keeps_the_bytes,
        move_of_the_middle_keeps_the_bytes,
        shrink_keeps_the_rest,
        grow_is_refused,
        mapping_the_same_twice_by_mremap,
        protection_of_the_middle_splits,
        fork_over_a_hole,
        mapping_shows_the_frames_that_segments_name,
        mapping_over_a_mapping_replaces_it,
        advice_never_loses_bytes,
        locked_memory_is_all_there,
    ];
    STOCK, 30: [
        dontneed_is_refilled_or_refused,
        other_process_reads_page_backed_memory,
        proc_mem_reads_and_writes_what_the_mapping_shows,
        populate_fills_at_once,
        huge_pages_are_mapped_by_huge_entries,
        hole_in_a_huge_entry_leaves_the_rest,
        hint_and_fixed_addresses_are_honoured,
        limit_of_the_address_space_is_honoured,
        other_ways_into_a_mapping,
        child_gets_none_of_what_is_not_to_be_forked,
        part_of_huge_pages_is_mapped_by_huge_entries,
    ];
}

/// A buffer mapped whole, whose every page begins with its number.
pub fn numbered(session: &Session, kind: Kind, pages: usize) -> Outcome<(Alloc, Map)> {
    let (buffer, map) = session.mapped(kind, pages * PAGE)?;
    for page in 0..pages {
        map.set_u64(page * PAGE, tag(page));
    }
    Ok((buffer, map))
}

/// What stands at the start of a page.
pub fn tag(page: usize) -> u64 {
    0xaabb_0000_0000_0000 + page as u64
}

/// That these pages of a mapping show the pages of the buffer from `first` on.
#[track_caller]
pub fn shows(map: &Map, at_page: usize, pages: usize, first: usize) -> Outcome {
    for page in 0..pages {
        let found = map.u64((at_page + page) * PAGE);
        if found != tag(first + page) {
            return Err(Failure::new(format!(
                "page {} of the mapping: is {found:#x}, must be {:#x}",
                at_page + page,
                tag(first + page)
            )));
        }
    }
    Ok(())
}

/// Runs a check for every kind, in a session of its own.
fn each(check: impl Fn(&Session, Kind) -> Outcome) -> Outcome {
    for kind in KINDS {
        check(&Session::open()?, kind).map_err(|failure| match failure {
            Failure::Failed(why) => Failure::Failed(format!("{}: {why}", kind.name())),
            skipped => skipped,
        })?;
    }
    Ok(())
}

fn new_memory_is_zero() -> Outcome {
    each(|session, kind| {
        let (_, map) = session.mapped(kind, 16 * PAGE)?;
        check_eq!(map.differs(0), None, "first byte that is not zero");
        Ok(())
    })
}

fn two_mappings_show_the_same_bytes() -> Outcome {
    each(|session, kind| {
        let (buffer, one) = session.mapped(kind, 4 * PAGE)?;
        let two = session.map(4 * PAGE, RW, SHARED, buffer.mmap_offset)?;
        check!(one.start != two.start, "both at {:#x}", one.start);
        for at in (0..4 * PAGE).step_by(1000) {
            one.set_u8(at, at as u8 | 1);
            check_eq!(two.u8(at), at as u8 | 1, "byte {at}");
        }
        two.fill(7);
        check_eq!(one.differs(7), None, "what the other wrote");
        Ok(())
    })
}

fn fork_shares_both_ways() -> Outcome {
    each(|session, kind| {
        let (buffer, map) = numbered(session, kind, 4)?;
        map.set_u64(8, 1);
        elsewhere(|| {
            shows(&map, 0, 4, 0)?;
            check_eq!(map.u64(8), 1, "the parent's word");
            map.set_u64(16, 2);
            check_eq!(
                session.info(buffer.id)?.mappings,
                2,
                "mappings with a child"
            );
            Ok(())
        })?;
        check_eq!(map.u64(16), 2, "the child's word");
        // A page that neither had touched before.
        let (_, untouched) = session.mapped(kind, 2 * PAGE)?;
        elsewhere(|| {
            untouched.set_u64(PAGE, 3);
            Ok(())
        })?;
        check_eq!(
            untouched.u64(PAGE),
            3,
            "the child's word in a page it touched first"
        );
        check_eq!(
            session.info(buffer.id)?.mappings,
            1,
            "mappings without the child"
        );
        Ok(())
    })
}

fn hole_in_the_middle_leaves_the_rest() -> Outcome {
    each(|session, kind| {
        let (buffer, mut map) = numbered(session, kind, 16)?;
        map.unmap_part(4 * PAGE, 4 * PAGE)?;
        shows(&map, 0, 4, 0)?;
        shows(&map, 8, 8, 8)?;
        check_eq!(
            session.info(buffer.id)?.mappings,
            2,
            "mappings around a hole"
        );
        map.set_u64(8 * PAGE + 8, 5);
        let other = session.map(16 * PAGE, RW, SHARED, buffer.mmap_offset)?;
        shows(&other, 0, 16, 0)?;
        check_eq!(other.u64(8 * PAGE + 8), 5, "a word written behind the hole");
        drop(other);
        dies_of(libc::SIGSEGV, || {
            map.u64(4 * PAGE);
        })?;
        map.unmap_part(0, 4 * PAGE)?;
        check_eq!(
            session.info(buffer.id)?.mappings,
            1,
            "mappings behind the hole"
        );
        shows(&map, 8, 8, 8)?;
        map.unmap_part(8 * PAGE, 8 * PAGE)?;
        check_eq!(session.info(buffer.id)?.mappings, 0, "mappings in the end");
        Ok(())
    })
}

fn move_keeps_the_bytes() -> Outcome {
    each(|session, kind| {
        let (buffer, mut map) = numbered(session, kind, 8)?;
        let before = map.start;
        map.move_over(Map::anonymous(8 * PAGE)?)?;
        check!(map.start != before, "it did not move");
        shows(&map, 0, 8, 0)?;
        check_eq!(
            session.info(buffer.id)?.mappings,
            1,
            "mappings after a move"
        );
        let other = session.map(8 * PAGE, RW, SHARED, buffer.mmap_offset)?;
        map.set_u64(7 * PAGE + 8, 9);
        check_eq!(other.u64(7 * PAGE + 8), 9, "a word written after the move");
        Ok(())
    })
}

fn move_of_the_middle_keeps_the_bytes() -> Outcome {
    each(|session, kind| {
        let (buffer, map) = numbered(session, kind, 16)?;
        // The pages that were never touched through this mapping come in by a fault after the move.
        let mut fresh = session.map(16 * PAGE, RW, SHARED, buffer.mmap_offset)?;
        let room = Map::anonymous(4 * PAGE)?;
        let mut part = fresh.split_off(4 * PAGE, 4 * PAGE);
        part.move_over(room)?;
        shows(&part, 0, 4, 4)?;
        shows(&fresh, 0, 4, 0)?;
        shows(&fresh, 8, 8, 8)?;
        shows(&map, 0, 16, 0)?;
        check_eq!(session.info(buffer.id)?.mappings, 4, "mappings");
        part.set_u64(8, 1);
        check_eq!(map.u64(4 * PAGE + 8), 1, "a word written in the moved part");
        Ok(())
    })
}

fn shrink_keeps_the_rest() -> Outcome {
    each(|session, kind| {
        let (buffer, mut map) = numbered(session, kind, 16)?;
        map.remap(16 * PAGE, 4 * PAGE, 0)?;
        shows(&map, 0, 4, 0)?;
        let start = map.start;
        check_eq!(
            vma_at(start).map(|vma| vma.end - vma.start),
            Some(4 * PAGE),
            "length"
        );
        check_eq!(session.info(buffer.id)?.mappings, 1, "mappings");
        // What was cut off is there still, in the buffer.
        let other = session.map(16 * PAGE, RW, SHARED, buffer.mmap_offset)?;
        shows(&other, 0, 16, 0)
    })
}

// `check_prep_vma` of mm/mremap.c: `if (vma->vm_flags & (VM_DONTEXPAND | VM_PFNMAP)) return -EFAULT`.
fn grow_is_refused() -> Outcome {
    each(|session, kind| {
        let (buffer, map) = numbered(session, kind, 8)?;
        drop(map);
        for mapped in [4, 8] {
            for flags in [0, libc::MREMAP_MAYMOVE] {
                let mut map = session.map(mapped * PAGE, RW, SHARED, buffer.mmap_offset)?;
                fails(
                    map.remap(mapped * PAGE, (mapped + 1) * PAGE, flags),
                    libc::EFAULT,
                )?;
                shows(&map, 0, mapped, 0)?;
            }
        }
        let map = session.map(8 * PAGE, RW, SHARED, buffer.mmap_offset)?;
        let flags = vma_at(map.start).unwrap_or_default();
        check!(flags.has("de"), "no VM_DONTEXPAND in {:?}", flags.flags);
        Ok(())
    })
}

// mm/mremap.c: an old length of 0 asks for a second mapping of the same; a new length above 0 is growth.
fn mapping_the_same_twice_by_mremap() -> Outcome {
    each(|session, kind| {
        let (_, mut map) = numbered(session, kind, 4)?;
        fails(map.remap(0, 4 * PAGE, libc::MREMAP_MAYMOVE), libc::EFAULT)?;
        // MREMAP_DONTUNMAP (4) is for memory that can be filled again: EINVAL for VM_DONTEXPAND.
        fails(
            map.remap(4 * PAGE, 4 * PAGE, libc::MREMAP_MAYMOVE | 4),
            libc::EINVAL,
        )?;
        shows(&map, 0, 4, 0)
    })
}

fn protection_of_the_middle_splits() -> Outcome {
    each(|session, kind| {
        let (buffer, map) = numbered(session, kind, 12)?;
        map.protect_part(4 * PAGE, 4 * PAGE, READ)?;
        check_eq!(session.info(buffer.id)?.mappings, 3, "mappings");
        shows(&map, 0, 12, 0)?;
        dies_of(libc::SIGSEGV, || map.set_u64(5 * PAGE, 0))?;
        map.protect_part(4 * PAGE, 4 * PAGE, libc::PROT_NONE)?;
        dies_of(libc::SIGSEGV, || {
            map.u64(5 * PAGE);
        })?;
        map.protect(RW)?;
        shows(&map, 0, 12, 0)?;
        map.set_u64(5 * PAGE + 8, 1);
        let mappings = session.info(buffer.id)?.mappings;
        check!(
            mappings == 1 || mappings == 3,
            "{mappings} mappings after a merge"
        );
        map.unmap()?;
        check_eq!(session.info(buffer.id)?.mappings, 0, "mappings in the end");
        Ok(())
    })
}

fn fork_over_a_hole() -> Outcome {
    each(|session, kind| {
        let (buffer, mut map) = numbered(session, kind, 12)?;
        map.unmap_part(4 * PAGE, 4 * PAGE)?;
        elsewhere(|| {
            check_eq!(
                session.info(buffer.id)?.mappings,
                4,
                "mappings with a child"
            );
            shows(&map, 0, 4, 0)?;
            shows(&map, 8, 4, 8)?;
            map.unmap_part(0, 4 * PAGE)?;
            check_eq!(
                session.info(buffer.id)?.mappings,
                3,
                "mappings when the child unmapped one"
            );
            Ok(())
        })?;
        check_eq!(
            session.info(buffer.id)?.mappings,
            2,
            "mappings without the child"
        );
        shows(&map, 0, 4, 0)?;
        shows(&map, 8, 4, 8)
    })
}

// /proc/self/pagemap is the kernel's own word for what is mapped; it leaves PFN maps out (mm/pagewalk.c,
// `walk_page_test`).
fn mapping_shows_the_frames_that_segments_name() -> Outcome {
    each(|session, kind| {
        let (buffer, map) = numbered(session, kind, 16)?;
        let mut expected = Vec::new();
        for segment in session.segments(buffer.id)? {
            for at in (0..segment.length).step_by(PAGE) {
                expected.push(Some((segment.physical_address + at) / PAGE as u64));
            }
        }
        if vma_at(map.start).unwrap_or_default().has("pf") {
            check_eq!(frames(&map), vec![None; 16], "page frames of a PFN map");
        } else {
            check_eq!(frames(&map), expected, "page frames");
        }
        Ok(())
    })
}

fn mapping_over_a_mapping_replaces_it() -> Outcome {
    each(|session, kind| {
        let (one, mut map) = numbered(session, kind, 8)?;
        let (two, other) = session.mapped(kind, 8 * PAGE)?;
        other.set_u64(PAGE, 0x77);
        map.map_over(
            2 * PAGE,
            2 * PAGE,
            session,
            RW,
            SHARED,
            two.mmap_offset + PAGE as u64,
        )?;
        check_eq!(map.u64(2 * PAGE), 0x77, "page 1 of the second buffer");
        shows(&map, 0, 2, 0)?;
        shows(&map, 4, 4, 4)?;
        check_eq!(session.info(one.id)?.mappings, 2, "mappings of the first");
        check_eq!(session.info(two.id)?.mappings, 2, "mappings of the second");
        // Neighbours in the address space that are neighbours in one buffer too, and may merge.
        map.map_over(
            2 * PAGE,
            2 * PAGE,
            session,
            RW,
            SHARED,
            one.mmap_offset + 2 * PAGE as u64,
        )?;
        shows(&map, 0, 8, 0)?;
        check_eq!(session.info(two.id)?.mappings, 1, "mappings of the second");
        Ok(())
    })
}

// The advice may be taken or refused; what counts is that no byte changes.
fn advice_never_loses_bytes() -> Outcome {
    const ADVICE: &[(&str, i32)] = &[
        ("NORMAL", 0),
        ("RANDOM", 1),
        ("SEQUENTIAL", 2),
        ("WILLNEED", 3),
        ("FREE", 8),
        ("REMOVE", 9),
        ("MERGEABLE", 12),
        ("HUGEPAGE", 14),
        ("NOHUGEPAGE", 15),
        ("DONTDUMP", 16),
        ("DODUMP", 17),
        ("WIPEONFORK", 18),
        ("COLD", 20),
        ("PAGEOUT", 21),
        ("POPULATE_READ", 22),
        ("POPULATE_WRITE", 23),
        ("COLLAPSE", 25),
    ];
    each(|session, kind| {
        let (_, map) = numbered(session, kind, 16)?;
        for (name, advice) in ADVICE {
            // Refusing is the kernel's right.
            let _ = map.advise(4 * PAGE, 8 * PAGE, *advice);
            for page in 0..16 {
                check_eq!(
                    map.u64(page * PAGE),
                    tag(page),
                    "page {page} after MADV_{name}"
                );
            }
        }
        elsewhere(|| shows(&map, 0, 16, 0))
    })
}

fn locked_memory_is_all_there() -> Outcome {
    each(|session, kind| {
        let (buffer, map) = numbered(session, kind, 16)?;
        drop(map);
        let map = session.map(16 * PAGE, RW, SHARED | libc::MAP_LOCKED, buffer.mmap_offset)?;
        shows(&map, 0, 16, 0)
    })
}

// mm/madvise.c, `madvise_dontneed_free_valid_vma`: MADV_DONTNEED is EINVAL for PFN maps; otherwise it drops the
// entries, and a fault brings them back.
fn dontneed_is_refilled_or_refused() -> Outcome {
    each(|session, kind| {
        let (_, map) = numbered(session, kind, 16)?;
        let pfn_map = vma_at(map.start).unwrap_or_default().has("pf");
        check_eq!(pfn_map, kind == Kind::Coherent, "PFN map");
        let result = map.advise(4 * PAGE, 8 * PAGE, libc::MADV_DONTNEED);
        if pfn_map {
            fails(result, libc::EINVAL)?;
        } else {
            result?;
        }
        shows(&map, 0, 16, 0)
    })
}

// mm/process_vm_access.c takes references to pages, so it works where there are pages.
fn other_process_reads_page_backed_memory() -> Outcome {
    each(|session, kind| {
        let (_, map) = numbered(session, kind, 4)?;
        map.set_bytes(PAGE - 3, b"across");
        let result = sys::vm_read(&map, PAGE - 3, 6);
        if kind == Kind::Coherent {
            return fails(result, libc::EFAULT);
        }
        check_eq!(result?, b"across", "bytes read by process_vm_readv");
        Ok(())
    })
}

// Debuggers go this way. `__access_remote_vm` of mm/memory.c asks `vm_ops->access` where there are no pages.
fn proc_mem_reads_and_writes_what_the_mapping_shows() -> Outcome {
    let memory = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/proc/self/mem")?;
    each(|session, kind| {
        let (_, map) = numbered(session, kind, 4)?;
        map.set_bytes(PAGE - 3, b"across");
        let mut bytes = [0; 6];
        let at = (map.start + PAGE - 3) as u64;
        memory.read_exact_at(&mut bytes, at)?;
        check_eq!(&bytes, b"across", "bytes read");
        memory.write_all_at(b"ACROSS", at)?;
        check_eq!(map.bytes(PAGE - 3, 6), b"ACROSS", "bytes written");
        Ok(())
    })
}

fn populate_fills_at_once() -> Outcome {
    each(|session, kind| {
        let buffer = session.alloc(kind, 16 * PAGE)?;
        let flags = SHARED | libc::MAP_POPULATE;
        let map = session.map(16 * PAGE, RW, flags, buffer.mmap_offset)?;
        if kind == Kind::Coherent {
            // A PFN map is full from the start, and not to be seen in pagemap.
            check_eq!(map.differs(0), None, "first word that is not zero");
            return Ok(());
        }
        check!(
            frames(&map).iter().all(Option::is_some),
            "not every page is there: {:x?}",
            frames(&map)
        );
        Ok(())
    })
}

const HUGE: usize = 2 << 20;

// `finish_fault` of mm/memory.c installs a PMD by itself for a folio of that size at a fitting address.
fn huge_pages_are_mapped_by_huge_entries() -> Outcome {
    let session = Session::open()?;
    let (_, map) = session.mapped(Kind::Pages, 64 << 20)?;
    check_eq!(map.start % HUGE, 0, "address within 2 MiB");
    for at in (0..map.len).step_by(HUGE) {
        map.set_u64(at, at as u64);
    }
    let vma = vma_at(map.start).unwrap_or_default();
    check_eq!(
        vma.kib("FilePmdMapped"),
        64 << 10,
        "KiB mapped by huge entries"
    );
    check!(
        !vma.has("mm"),
        "VM_MIXEDMAP: a huge entry in it leaks when it is split"
    );
    for at in (0..map.len).step_by(HUGE) {
        check_eq!(map.u64(at), at as u64, "word at {at:#x}");
    }
    Ok(())
}

fn hole_in_a_huge_entry_leaves_the_rest() -> Outcome {
    let session = Session::open()?;
    let pages = 2 * HUGE / PAGE;
    let (buffer, mut map) = numbered(&session, Kind::Pages, pages)?;
    check!(
        vma_at(map.start).unwrap_or_default().kib("FilePmdMapped") > 0,
        "no huge entry"
    );
    map.unmap_part(10 * PAGE, 2 * PAGE)?;
    shows(&map, 0, 10, 0)?;
    shows(&map, 12, pages - 12, 12)?;
    map.protect_part(600 * PAGE, PAGE, READ)?;
    shows(&map, 12, pages - 12, 12)?;
    elsewhere(|| shows(&map, 12, pages - 12, 12))?;
    let other = session.map(2 * HUGE, RW, SHARED, buffer.mmap_offset)?;
    shows(&other, 0, pages, 0)
}

// The address must fit to the offset in the buffer, not to the one in the space of offsets.
fn part_of_huge_pages_is_mapped_by_huge_entries() -> Outcome {
    let session = Session::open()?;
    // Something odd before it, so that its own offset is odd.
    session.alloc(Kind::Pages, 3 * PAGE)?;
    let buffer = session.alloc(Kind::Pages, 4 * HUGE)?;
    for (delta, len) in [
        (HUGE, 2 * HUGE),
        (HUGE - PAGE, 2 * HUGE + PAGE),
        (PAGE, 4 * HUGE - PAGE),
    ] {
        let map = session.map(len, RW, SHARED, buffer.mmap_offset + delta as u64)?;
        check_eq!(
            map.start % HUGE,
            delta % HUGE,
            "address within 2 MiB for delta {delta:#x}"
        );
        for at in (0..len).step_by(PAGE) {
            map.set_u64(at, at as u64);
        }
        let huge = vma_at(map.start).unwrap_or_default().kib("FilePmdMapped") as usize * 1024;
        check!(
            huge >= len / HUGE * HUGE - HUGE && huge > 0,
            "{huge} bytes in huge entries of {len}"
        );
    }
    Ok(())
}

// The session's own `get_unmapped_area` must not know better than the caller.
fn hint_and_fixed_addresses_are_honoured() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        let size = if kind == Kind::Pages { 2 * HUGE } else { HUGE };
        let pages = size / PAGE;
        let (buffer, _map) = numbered(&session, kind, pages)?;
        // A hole with an address that fits to nothing huge. `__thp_get_unmapped_area` (mm/huge_memory.c) takes the hint
        // if there is room behind it for 2 MiB more.
        let room = Map::anonymous(size + 4 * HUGE)?;
        let hint = room.start.next_multiple_of(HUGE) + 3 * PAGE;
        drop(room);
        let map = Map::near(hint, &session, size, RW, SHARED, buffer.mmap_offset)?;
        check_eq!(map.start, hint, "{kind:?}, address");
        shows(&map, 0, pages, 0)?;
        // Something is there now.
        let other = Map::near(hint, &session, PAGE, RW, SHARED, buffer.mmap_offset)?;
        check!(other.start != hint, "{kind:?}: mapped over another mapping");
        let taken = Map::near(
            hint,
            &session,
            PAGE,
            RW,
            SHARED | libc::MAP_FIXED_NOREPLACE,
            buffer.mmap_offset,
        );
        fails(taken, libc::EEXIST)?;
        let mut room = Map::anonymous(size + HUGE)?;
        room.map_over(5 * PAGE, size, &session, RW, SHARED, buffer.mmap_offset)?;
        shows(&room, 5, pages, 0)?;
        // Low addresses, as old programs want them.
        let flags = SHARED | libc::MAP_32BIT;
        let low = session.map(size, RW, flags, buffer.mmap_offset)?;
        check!(
            low.start < 1 << 31,
            "{kind:?}: MAP_32BIT gave {:#x}",
            low.start
        );
        shows(&low, 0, pages, 0)?;
    }
    Ok(())
}

fn limit_of_the_address_space_is_honoured() -> Outcome {
    let session = Session::open()?;
    let buffer = session.alloc(Kind::Pages, 64 << 20)?;
    elsewhere(|| {
        sys::limit_address_space(32 << 20)?;
        let result = session.map(64 << 20, RW, SHARED, buffer.mmap_offset);
        core_refused(result, libc::ENOMEM)
    })?;
    check_eq!(session.info(buffer.id)?.mappings, 0, "mappings");
    Ok(())
}

// `remap_file_pages` of mm/mmap.c maps the VMA's own file anew, which is the dma-buf: offsets are those in the buffer.
fn other_ways_into_a_mapping() -> Outcome {
    each(|session, kind| {
        let (buffer, map) = numbered(session, kind, 8)?;
        // `vfs_fsync_range` of fs/sync.c: a file without `fsync` has nothing to write back to.
        fails(map.sync(), libc::EINVAL)?;
        check_eq!(map.resident()?.len(), 8, "pages that mincore tells of");
        map.show_elsewhere(2 * PAGE, PAGE, 6)?;
        check_eq!(map.u64(2 * PAGE), tag(6), "page 2, which shows page 6 now");
        shows(&map, 0, 2, 0)?;
        shows(&map, 3, 5, 3)?;
        for page in [8, 9, 1 << 20] {
            fails(map.show_elsewhere(PAGE, PAGE, page), libc::EINVAL)?;
        }
        map.set_u64(2 * PAGE + 8, 1);
        check_eq!(map.u64(6 * PAGE + 8), 1, "a word written through page 2");
        check!(session.info(buffer.id)?.mappings >= 2, "no second mapping");
        Ok(())
    })
}

fn child_gets_none_of_what_is_not_to_be_forked() -> Outcome {
    each(|session, kind| {
        let (buffer, map) = numbered(session, kind, 4)?;
        map.advise(0, map.len, libc::MADV_DONTFORK)?;
        elsewhere(|| {
            check_eq!(session.info(buffer.id)?.mappings, 1, "mappings");
            check!(vma_at(map.start).is_none(), "it is there");
            Ok(())
        })?;
        shows(&map, 0, 4, 0)
    })
}
