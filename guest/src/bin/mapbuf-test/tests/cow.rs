//! `MAP_PRIVATE`: read-only it is no copy-on-write at all; writable it is a real copy, or refused with a reason.

use super::limits::Group;
use super::sharing::{numbered, shows, tag};
use crate::check::{elsewhere, refused, Failure, Outcome};
use crate::disk;
use crate::session::{id_offset, Session, KINDS};
use crate::sys::{self, become_user, fork, Map, PAGE, PRIVATE, READ, RW, SHARED};
use crate::{check, check_eq};
use mapbuf_abi::{Kind, Operation, Reason};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

tests! { "cow":
    BOTH, 30: [
        private_read_only_works_for_every_kind,
        private_read_only_follows_the_buffer,
        private_writable_is_a_real_copy,
        private_writable_part_is_a_real_copy,
        private_copies_are_each_process_own,
        private_coherent_shows_its_address_to_administrators_only,
        private_hole_and_move,
        debugger_sees_the_private_copy,
    ];
    STOCK, 30: [
        private_copy_outlives_the_buffer,
        private_copies_of_huge_pages,
        kernel_view_shows_the_buffer_not_the_copy,
    ];
    STOCK, 60: [ debugger_sees_a_copy_that_was_swapped_out ];
}

fn private_read_only_works_for_every_kind() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        let (buffer, map) = numbered(&session, kind, 16)?;
        drop(map);
        for offset in [id_offset(buffer.id), buffer.mmap_offset] {
            let map = session.map(16 * PAGE, READ, PRIVATE, offset)?;
            shows(&map, 0, 16, 0)?;
        }
        let map = session.map(
            3 * PAGE,
            READ,
            PRIVATE,
            buffer.mmap_offset + 5 * PAGE as u64,
        )?;
        shows(&map, 0, 3, 5)?;
        elsewhere(|| shows(&map, 0, 3, 5))?;
    }
    Ok(())
}

fn private_read_only_follows_the_buffer() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        let (buffer, shared) = numbered(&session, kind, 4)?;
        let map = session.map(4 * PAGE, READ, PRIVATE, buffer.mmap_offset)?;
        shows(&map, 0, 4, 0)?;
        shared.set_u64(2 * PAGE, 0x1234);
        check_eq!(map.u64(2 * PAGE), 0x1234, "{kind:?}, a word written later");
    }
    Ok(())
}

/// That writes through `private` stay there.
fn is_a_copy(shared: &Map, private: &Map, first: usize, pages: usize) -> Outcome {
    shows(private, 0, pages, first)?;
    private.set_u64(PAGE + 8, 0x11);
    check_eq!(
        shared.u64((first + 1) * PAGE + 8),
        0,
        "the shared view of a private write"
    );
    check_eq!(
        private.u64(PAGE + 8),
        0x11,
        "the private view of a private write"
    );
    check_eq!(
        private.u64(PAGE),
        tag(first + 1),
        "what stood in the copied page"
    );
    // The copied page no longer follows the buffer; one that was not written still may.
    shared.set_u64((first + 1) * PAGE + 16, 0x22);
    check_eq!(
        private.u64(PAGE + 16),
        0,
        "a shared write, in the page that was copied"
    );
    shared.set_u64(first * PAGE + 16, 0x33);
    check_eq!(
        private.u64(16),
        0x33,
        "a shared write, in a page that was not copied"
    );
    Ok(())
}

fn private_writable_is_a_real_copy() -> Outcome {
    for kind in KINDS {
        let session = Session::open()?;
        let (buffer, shared) = numbered(&session, kind, 16)?;
        let private = session.map(16 * PAGE, RW, PRIVATE, buffer.mmap_offset)?;
        is_a_copy(&shared, &private, 0, 16)?;
        // Written before it was ever read.
        let private = session.map(16 * PAGE, RW, PRIVATE, id_offset(buffer.id))?;
        private.set_u64(3 * PAGE + 8, 0x44);
        check_eq!(
            private.u64(3 * PAGE),
            tag(3),
            "{kind:?}, the rest of a page that was written first"
        );
        check_eq!(shared.u64(3 * PAGE + 8), 0, "{kind:?}, the shared view");
    }
    Ok(())
}

fn private_writable_part_is_a_real_copy() -> Outcome {
    for kind in KINDS {
        let session = Session::open()?;
        let (buffer, shared) = numbered(&session, kind, 16)?;
        let private = session.map(4 * PAGE, RW, PRIVATE, buffer.mmap_offset + 6 * PAGE as u64)?;
        is_a_copy(&shared, &private, 6, 4)?;
    }
    Ok(())
}

fn private_copies_are_each_process_own() -> Outcome {
    for kind in KINDS {
        let session = Session::open()?;
        let (buffer, shared) = numbered(&session, kind, 4)?;
        let private = session.map(4 * PAGE, RW, PRIVATE, buffer.mmap_offset)?;
        private.set_u64(8, 1);
        let child = fork(|| {
            private.set_u64(8, 2);
            private.set_u64(PAGE + 8, 2);
            i32::from(private.u64(8) != 2 || private.u64(PAGE) != tag(1))
        })?;
        check_eq!(
            child.wait(),
            sys::Ending::Exited(0),
            "{kind:?}, the child's end"
        );
        check_eq!(
            (private.u64(8), private.u64(PAGE + 8)),
            (1, 0),
            "{kind:?}, the parent's view"
        );
        check_eq!(
            (shared.u64(8), shared.u64(PAGE + 8)),
            (0, 0),
            "{kind:?}, the shared view"
        );
    }
    Ok(())
}

// A copy-on-write remap_pfn_range puts the page frame number into vm_pgoff (`get_remap_pgoff` of mm/memory.c), which
// /proc/PID/maps shows.
fn private_coherent_shows_its_address_to_administrators_only() -> Outcome {
    let session = Session::open()?;
    let (buffer, _shared) = numbered(&session, Kind::Coherent, 4)?;
    let offset = buffer.mmap_offset;
    // As root it works, see `private_writable_is_a_real_copy`.
    session.map(4 * PAGE, RW, PRIVATE, offset)?;
    elsewhere(|| {
        become_user(1000, 1000)?;
        refused(
            session.map(4 * PAGE, RW, PRIVATE, offset),
            Operation::Mmap,
            Reason::CowShowsAddress,
            &[],
        )?;
        // The ways out that the reason names.
        shows(&session.map(4 * PAGE, RW, SHARED, offset)?, 0, 4, 0)?;
        shows(&session.map(4 * PAGE, READ, PRIVATE, offset)?, 0, 4, 0)?;
        for kind in [Kind::Pages, Kind::Vmalloc] {
            let buffer = session.alloc(kind, PAGE)?;
            session
                .map(PAGE, RW, PRIVATE, buffer.mmap_offset)?
                .set_u64(0, 1);
            session.free(buffer.id)?;
        }
        Ok(())
    })
}

fn private_hole_and_move() -> Outcome {
    for kind in KINDS {
        let session = Session::open()?;
        let (buffer, shared) = numbered(&session, kind, 16)?;
        let mut private = session.map(16 * PAGE, RW, PRIVATE, buffer.mmap_offset)?;
        private.set_u64(9 * PAGE + 8, 0x55);
        private.unmap_part(4 * PAGE, 4 * PAGE)?;
        shows(&private, 0, 4, 0)?;
        shows(&private, 8, 8, 8)?;
        let mut rest = private.split_off(8 * PAGE, 8 * PAGE);
        rest.move_over(Map::anonymous(8 * PAGE)?)?;
        shows(&rest, 0, 8, 8)?;
        check_eq!(rest.u64(PAGE + 8), 0x55, "{kind:?}, the copy after a move");
        rest.set_u64(5 * PAGE + 8, 0x66);
        check_eq!(
            shared.u64(13 * PAGE + 8),
            0,
            "{kind:?}, the shared view after a move"
        );
        shows(&shared, 0, 16, 0)?;
    }
    Ok(())
}

fn private_copy_outlives_the_buffer() -> Outcome {
    for kind in KINDS {
        let session = Session::open()?;
        let (buffer, shared) = numbered(&session, kind, 4)?;
        let private = session.map(4 * PAGE, RW, PRIVATE, buffer.mmap_offset)?;
        private.set_u64(8, 1);
        drop(shared);
        session.free(buffer.id)?;
        drop(session);
        shows(&private, 0, 4, 0)?;
        private.set_u64(2 * PAGE + 8, 2);
        check_eq!(
            (private.u64(8), private.u64(2 * PAGE + 8)),
            (1, 2),
            "{kind:?}, the private view"
        );
    }
    Ok(())
}

fn private_copies_of_huge_pages() -> Outcome {
    const HUGE: usize = 2 << 20;
    let session = Session::open()?;
    let pages = 2 * HUGE / PAGE;
    let (buffer, shared) = numbered(&session, Kind::Pages, pages)?;
    let private = session.map(2 * HUGE, RW, PRIVATE, buffer.mmap_offset)?;
    shows(&private, 0, pages, 0)?;
    for page in (0..pages).step_by(37) {
        private.set_u64(page * PAGE + 8, 1);
    }
    shows(&private, 0, pages, 0)?;
    shows(&shared, 0, pages, 0)?;
    for page in 0..pages {
        check_eq!(
            shared.u64(page * PAGE + 8),
            0,
            "page {page}, the shared view"
        );
    }
    Ok(())
}

fn kernel_view_shows_the_buffer_not_the_copy() -> Outcome {
    for kind in KINDS {
        let session = Session::open()?;
        let (buffer, _shared) = numbered(&session, kind, 2)?;
        let private = session.map(2 * PAGE, RW, PRIVATE, buffer.mmap_offset)?;
        private.set_u64(0, 0x77);
        let mut bytes = [0; 8];
        check_eq!(
            session.pread(&mut bytes, buffer.mmap_offset)?,
            8,
            "bytes read"
        );
        check_eq!(
            u64::from_ne_bytes(bytes),
            tag(0),
            "{kind:?}, the kernel's view"
        );
        check!(private.u64(0) == 0x77, "{kind:?}, the private view");
    }
    Ok(())
}

// mm/gup.c refuses all of a PFN map, also the pages in it that were copied; `vm_ops->access` is asked for those too.
fn debugger_sees_the_private_copy() -> Outcome {
    let memory = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/proc/self/mem")?;
    for kind in KINDS {
        let session = Session::open()?;
        let (buffer, shared) = numbered(&session, kind, 4)?;
        let private = session.map(4 * PAGE, RW, PRIVATE, buffer.mmap_offset)?;
        private.set_u64(PAGE, 0x77);
        let mut word = [0; 8];
        // Told nothing is better than told something wrong.
        if memory
            .read_exact_at(&mut word, (private.start + PAGE) as u64)
            .is_ok()
        {
            let word = u64::from_ne_bytes(word);
            check_eq!(word, 0x77, "{kind:?}, a copied page as a debugger sees it");
        }
        for page in [1, 2] {
            let at = (private.start + page * PAGE) as u64;
            let written = memory.write_all_at(&0x88_u64.to_ne_bytes(), at).is_ok();
            check_eq!(
                shared.u64(page * PAGE),
                tag(page),
                "{kind:?}, page {page} of the buffer after a debugger's write"
            );
            let found = private.u64(page * PAGE) == 0x88;
            check_eq!(found, written, "{kind:?}, page {page}: it was written");
        }
    }
    Ok(())
}

/// Swap on the guest's disk, until it is dropped.
struct Swap;

impl Swap {
    fn on() -> Outcome<Self> {
        let disk = disk::open()?;
        // include/linux/swap.h, `union swap_header`: version and last page at 1024, the magic at the end of the page.
        let page = Map::anonymous(PAGE)?;
        page.set_u32(1024, 1);
        page.set_u32(1028, (32 << 20) / PAGE as u32 - 1);
        page.set_bytes(PAGE - 10, b"SWAPSPACE2");
        sys::pwrite_mapped(&disk, &page, 0, PAGE, 0)?;
        drop(disk);
        sys::swap_on(disk::DEVICE)?;
        Ok(Self)
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        // The next test that opens the disk says it if this fails.
        let _ = sys::swap_off(disk::DEVICE);
    }
}

/// Bytes of this process that are swapped out. `pagemap` and `smaps` do not look into maps of page frames.
fn swapped() -> Outcome<usize> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmSwap:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    kib.and_then(|kib| kib.parse::<usize>().ok())
        .map(|kib| kib << 10)
        .ok_or_else(|| Failure::new("no VmSwap"))
}

// The page table has no page then; what a debugger is shown must be the copy all the same, not the buffer's page.
fn debugger_sees_a_copy_that_was_swapped_out() -> Outcome {
    const PAGES: usize = 256;
    let _swap = Swap::on()?;
    let group = Group::new("swapped")?;
    for kind in [Kind::Coherent, Kind::Pages] {
        elsewhere(|| {
            group.enter()?;
            let memory = OpenOptions::new()
                .read(true)
                .write(true)
                .open("/proc/self/mem")?;
            let session = Session::open()?;
            let (buffer, shared) = numbered(&session, kind, PAGES)?;
            let private = session.map(PAGES * PAGE, RW, PRIVATE, buffer.mmap_offset)?;
            for page in 0..PAGES {
                private.set_u64(page * PAGE, 0x77);
            }
            let before = swapped()?;
            // It is an error when less than that can be had, which is so.
            let _ = fs::write(format!("{}/memory.reclaim", group.0), "1G swappiness=200");
            let out = swapped()?.saturating_sub(before);
            check!(out >= PAGES / 2 * PAGE, "{kind:?}: {out} bytes went out");
            for page in 0..PAGES {
                let at = (private.start + page * PAGE) as u64;
                let mut word = [0; 8];
                memory.read_exact_at(&mut word, at)?;
                check_eq!(
                    u64::from_ne_bytes(word),
                    0x77,
                    "{kind:?}, page {page} as a debugger sees it"
                );
            }
            let _ = fs::write(format!("{}/memory.reclaim", group.0), "1G swappiness=200");
            for page in 0..PAGES {
                let at = (private.start + page * PAGE) as u64;
                memory.write_all_at(&0x88_u64.to_ne_bytes(), at)?;
                check_eq!(
                    (private.u64(page * PAGE), shared.u64(page * PAGE)),
                    (0x88, tag(page)),
                    "{kind:?}, page {page} of the copy and of the buffer"
                );
            }
            Ok(())
        })?;
    }
    Ok(())
}
