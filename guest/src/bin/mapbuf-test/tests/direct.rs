//! Mappings of page-backed memory are good for direct input and output: a disk reads and writes the buffer's own frames.
//! Mappings by page frame are refused.
//!
//! What asks for the pages is `pin_user_pages_fast` (`bio_iov_iter_get_pages` of `block/bio.c`; `io_pin_pages` of
//! `io_uring/memmap.c`), and what refuses is `check_vma_flags` of `mm/gup.c`: EFAULT for VM_IO and VM_PFNMAP.

use crate::check::{fails, Failure, Outcome};
use crate::disk::{self, Fixed, Way};
use crate::proc::vma_at;
use crate::session::Session;
use crate::sys::{self, Map, PAGE, PRIVATE, RW, SHARED};
use crate::{check, check_eq, skip};
use mapbuf_abi::{Alloc, Kind, Method};
use std::fs::File;

tests! { "direct":
    STOCK, 60: [
        disk_reads_and_writes_the_buffers_own_frames,
        fixed_buffers_carry_reads_and_writes,
        disk_fills_private_copies_and_not_the_buffer,
        frames_are_refused,
    ];
}

const HUGE: usize = 2 << 20;
/// What a disk moves begins and ends at multiples of this.
const SECTOR: usize = 512;

/// Mappings by pages, with the bytes that are to be mapped by huge entries.
const BY_PAGE: &[(Kind, Method, usize, usize)] = &[
    (Kind::Pages, Method::FaultHuge, 2 * HUGE, 2 * HUGE),
    (Kind::Pages, Method::Auto, 2 * HUGE, 2 * HUGE),
    (Kind::Contiguous, Method::FaultHuge, HUGE, HUGE),
    (Kind::Contiguous, Method::FaultHuge, 4 * HUGE, 4 * HUGE),
    (Kind::Contiguous, Method::Auto, 4 * HUGE, 4 * HUGE),
    // Single pages at the end.
    (
        Kind::Contiguous,
        Method::Auto,
        3 * HUGE + 16 * PAGE,
        3 * HUGE,
    ),
    (Kind::Pages, Method::Insert, 2 * HUGE, 0),
    (Kind::Contiguous, Method::Auto, 16 * PAGE, 0),
    (Kind::Contiguous, Method::MapPages, 16 * PAGE, 0),
    (Kind::Vmalloc, Method::Auto, 64 * PAGE, 0),
    (Kind::Vmalloc, Method::Insert, 64 * PAGE, 0),
    (Kind::Vmalloc, Method::Vmalloc, 64 * PAGE, 0),
];

/// Mappings by page frame.
const BY_FRAME: &[(Kind, Method, usize)] = &[
    (Kind::Contiguous, Method::FaultHuge, 2 * HUGE),
    (Kind::Pages, Method::FaultPfn, 16 * PAGE),
    (Kind::Contiguous, Method::Remap, 16 * PAGE),
    (Kind::Vmalloc, Method::RemapEach, 16 * PAGE),
    (Kind::Contiguous, Method::Iomap, 16 * PAGE),
    (Kind::Contiguous, Method::IoRemap, 16 * PAGE),
    (Kind::Coherent, Method::Dma, 16 * PAGE),
    (Kind::Coherent, Method::Auto, 16 * PAGE),
];

/// A word that no other place has, nor the same place with another salt.
fn word(salt: u64, at: usize) -> u64 {
    (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ salt.rotate_left(40)
}

fn mark(map: &Map, salt: u64) {
    for at in (0..map.len).step_by(8) {
        map.set_u64(at, word(salt, at));
    }
}

/// That the bytes from `at` on are those of `salt`.
fn marked(map: &Map, at: usize, len: usize, salt: u64, what: &str) -> Outcome {
    for at in (at..at + len).step_by(8) {
        check_eq!(map.u64(at), word(salt, at), "{what}: word at {at:#x}");
    }
    Ok(())
}

/// That the kernel's own view of the buffer has them too: they are in its frames, and not in copies.
fn in_buffer(session: &Session, buffer: &Alloc, salt: u64, what: &str) -> Outcome {
    let mut bytes = vec![0; buffer.bytes as usize];
    let mut done = 0;
    while done < bytes.len() {
        done += session.pread(&mut bytes[done..], buffer.mmap_offset + done as u64)?;
    }
    for (index, bytes) in bytes.chunks_exact(8).enumerate() {
        let expected = word(salt, 8 * index).to_ne_bytes();
        check!(
            bytes == expected,
            "{what}: the kernel sees {bytes:x?} at {:#x}",
            8 * index
        );
    }
    Ok(())
}

fn mapped(session: &Session, kind: Kind, method: Method, bytes: usize) -> Outcome<(Alloc, Map)> {
    let buffer = session.alloc(kind, bytes)?;
    let offset = session.offset(buffer.id, method)?;
    let map = session.map(bytes, RW, SHARED, offset)?;
    Ok((buffer, map))
}

/// Each case, mapped and touched, and seen to have huge entries where it must.
fn each_by_page(mut f: impl FnMut(&Session, &Alloc, &Map, &str) -> Outcome) -> Outcome {
    for &(kind, method, bytes, huge) in BY_PAGE {
        let session = Session::open()?;
        let (buffer, map) = mapped(&session, kind, method, bytes)?;
        let what = format!("{kind:?} by {method:?}");
        mark(&map, 0);
        let vma = vma_at(map.start).ok_or(Failure::new("the mapping is not in smaps"))?;
        let found = vma.kib("FilePmdMapped") as usize * 1024;
        check_eq!(found, huge, "{what}: bytes in huge entries");
        f(&session, &buffer, &map, &what)?;
        drop(map);
        session.free(buffer.id)?;
    }
    Ok(())
}

/// Reads or writes all of it, however many pieces that takes.
fn all(way: Way, disk: &File, map: &Map, from: usize, to: usize) -> Outcome {
    let mut at = from;
    while at < to {
        let moved = match way {
            Way::ToMemory => sys::pread_mapped(disk, map, at, to - at, at as i64)?,
            Way::ToDisk => sys::pwrite_mapped(disk, map, at, to - at, at as i64)?,
        };
        check!(moved > 0, "the disk ends at {at:#x}");
        at += moved;
    }
    Ok(())
}

fn disk_reads_and_writes_the_buffers_own_frames() -> Outcome {
    let disk = disk::open()?;
    each_by_page(|session, buffer, map, what| {
        // Out of the buffer: what is on the disk then is read into memory that has nothing to do with the driver.
        mark(map, 1);
        all(Way::ToDisk, &disk, map, 0, map.len)?;
        let other = Map::anonymous(map.len)?;
        all(Way::ToMemory, &disk, &other, 0, map.len)?;
        marked(&other, 0, map.len, 1, &format!("{what}, on the disk"))?;
        // And into it.
        mark(&other, 2);
        all(Way::ToDisk, &disk, &other, 0, map.len)?;
        all(Way::ToMemory, &disk, map, 0, map.len)?;
        marked(map, 0, map.len, 2, &format!("{what}, read"))?;
        in_buffer(session, buffer, 2, what)?;
        // A part that begins and ends within pages, and passes the edge of a huge entry where there is one.
        let (from, to) = (map.len / 2 - 3 * SECTOR, map.len / 2 + PAGE + SECTOR);
        mark(&other, 3);
        all(Way::ToDisk, &disk, &other, from, to)?;
        all(Way::ToMemory, &disk, map, from, to)?;
        marked(map, 0, from, 2, &format!("{what}, before the part"))?;
        marked(map, from, to - from, 3, &format!("{what}, the part"))?;
        marked(
            map,
            to,
            map.len - to,
            2,
            &format!("{what}, behind the part"),
        )
    })
}

fn fixed_buffers_carry_reads_and_writes() -> Outcome {
    let disk = disk::open()?;
    each_by_page(|session, buffer, map, what| {
        let Some(fixed) = Fixed::new(map, 0, map.len)? else {
            skip!("io_uring is switched off");
        };
        let mut fixed = fixed.map_err(|errno| Failure::new(format!("{what}: {errno}")))?;
        let other = Map::anonymous(map.len)?;
        let mut move_all = |way| -> Outcome {
            // Pieces that are no multiple of a page, so that some begin within one.
            let mut at = 0;
            while at < map.len {
                let len = (map.len - at).min(37 * SECTOR + 256 * SECTOR);
                let moved = fixed.transfer(way, &disk, at, len, at as u64)?;
                check_eq!(moved, len as i32, "{what}: bytes moved at {at:#x}");
                at += len;
            }
            Ok(())
        };
        mark(map, 4);
        move_all(Way::ToDisk)?;
        all(Way::ToMemory, &disk, &other, 0, map.len)?;
        marked(&other, 0, map.len, 4, &format!("{what}, on the disk"))?;
        mark(&other, 5);
        all(Way::ToDisk, &disk, &other, 0, map.len)?;
        move_all(Way::ToMemory)?;
        marked(map, 0, map.len, 5, &format!("{what}, read"))?;
        in_buffer(session, buffer, 5, what)
    })
}

// Pinning for writing breaks copy-on-write first (`faultin_page` of mm/gup.c).
fn disk_fills_private_copies_and_not_the_buffer() -> Outcome {
    let disk = disk::open()?;
    let session = Session::open()?;
    for (kind, bytes) in [(Kind::Pages, HUGE), (Kind::Vmalloc, 16 * PAGE)] {
        let (buffer, shared) = mapped(&session, kind, Method::Auto, bytes)?;
        mark(&shared, 6);
        let other = Map::anonymous(bytes)?;
        mark(&other, 7);
        all(Way::ToDisk, &disk, &other, 0, bytes)?;
        let private = session.map(bytes, RW, PRIVATE, buffer.mmap_offset)?;
        all(Way::ToMemory, &disk, &private, PAGE, 5 * PAGE)?;
        let what = format!("{kind:?}, private");
        marked(&private, 0, PAGE, 6, &what)?;
        marked(&private, PAGE, 4 * PAGE, 7, &what)?;
        marked(&private, 5 * PAGE, bytes - 5 * PAGE, 6, &what)?;
        marked(&shared, 0, bytes, 6, &format!("{kind:?}, shared"))?;
        in_buffer(&session, &buffer, 6, &what)?;
    }
    Ok(())
}

fn frames_are_refused() -> Outcome {
    let disk = disk::open()?;
    let session = Session::open()?;
    for &(kind, method, bytes) in BY_FRAME {
        let (buffer, map) = mapped(&session, kind, method, bytes)?;
        let what = format!("{kind:?} by {method:?}");
        mark(&map, 8);
        let vma = vma_at(map.start).ok_or(Failure::new("the mapping is not in smaps"))?;
        check!(vma.has("pf"), "{what} is no mapping by frame");
        fails(sys::pread_mapped(&disk, &map, 0, PAGE, 0), libc::EFAULT)?;
        fails(sys::pwrite_mapped(&disk, &map, 0, PAGE, 0), libc::EFAULT)?;
        match Fixed::new(&map, 0, bytes)? {
            Some(registered) => fails(registered.map(drop), libc::EFAULT)?,
            None => skip!("io_uring is switched off"),
        }
        marked(&map, 0, bytes, 8, &what)?;
        drop(map);
        session.free(buffer.id)?;
    }
    Ok(())
}
