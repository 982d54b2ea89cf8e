//! The two encodings of `mmap` offsets, at their edges.

use crate::check::{core_refused, refused, Failure, Outcome};
use crate::session::{alloc_request, id_offset, Session, KINDS};
use crate::sys::{Errno, PAGE, RW, SHARED};
use crate::{check, check_eq, skip};
use mapbuf_abi::{ioctl, Alloc, Kind, Method, Operation, Reason, MAX_IDS, MAX_OFFSET_PAGES};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

tests! { "encoding":
    BOTH, 20: [
        id_and_offset_map_the_same_bytes,
        delta_maps_a_part,
        one_page_too_long_is_refused,
        delta_beyond_the_end_is_refused,
    ];
    STOCK, 20: [
        id_zero_maps_nothing,
        unknown_id_maps_nothing,
        freed_id_maps_nothing,
        freed_offset_maps_nothing,
        no_length_is_refused_by_the_kernel,
        unaligned_offset_is_refused_by_the_kernel,
        wrapping_offset_is_refused_by_the_kernel,
        huge_length_is_refused,
        length_is_rounded_up_to_pages,
        wanted_ids_are_given,
        wanted_id_in_use_is_refused,
        id_too_large_is_refused,
        ids_are_not_given_again_at_once,
        ids_of_one_session_mean_nothing_to_another,
        offsets_lie_above_the_ids_and_apart,
        offsets_are_used_again,
        offset_ioctl_gives_an_offset_for_auto,
        offset_ioctl_refuses_what_it_does_not_know,
        beyond_all_offsets_maps_nothing,
        alloc_refuses_what_it_does_not_know,
        alloc_of_nothing_is_refused,
        alloc_of_too_much_is_refused,
        program_of_32_bits_maps_by_both_encodings,
    ];
}

/// A buffer whose every page begins with its number.
fn numbered(session: &Session, kind: Kind, pages: usize) -> Outcome<Alloc> {
    let (buffer, map) = session.mapped(kind, pages * PAGE)?;
    for page in 0..pages {
        map.set_u64(page * PAGE, page as u64 + 1);
    }
    Ok(buffer)
}

fn id_and_offset_map_the_same_bytes() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        let buffer = numbered(&session, kind, 4)?;
        for offset in [
            id_offset(buffer.id),
            buffer.mmap_offset,
            session.offset(buffer.id, Method::Auto)?,
        ] {
            let map = session.map(4 * PAGE, RW, SHARED, offset)?;
            for page in 0..4 {
                check_eq!(
                    map.u64(page * PAGE),
                    page as u64 + 1,
                    "{kind:?} at {offset:#x}, page {page}"
                );
            }
        }
        // A shorter mapping shows the start.
        let map = session.map(PAGE, RW, SHARED, id_offset(buffer.id))?;
        check_eq!(map.u64(0), 1, "{kind:?}, first page");
        session.free(buffer.id)?;
    }
    Ok(())
}

fn delta_maps_a_part() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        let buffer = numbered(&session, kind, 16)?;
        for (first, pages) in [(0, 16), (1, 15), (5, 3), (15, 1), (8, 8)] {
            let map = session.map(
                pages * PAGE,
                RW,
                SHARED,
                buffer.mmap_offset + (first * PAGE) as u64,
            )?;
            for page in 0..pages {
                check_eq!(
                    map.u64(page * PAGE),
                    (first + page) as u64 + 1,
                    "{kind:?} from page {first}, page {page}"
                );
            }
        }
        session.free(buffer.id)?;
    }
    Ok(())
}

fn one_page_too_long_is_refused() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        let buffer = session.alloc(kind, 4 * PAGE)?;
        for offset in [id_offset(buffer.id), buffer.mmap_offset] {
            for flags in [SHARED, libc::MAP_PRIVATE] {
                let result = session.map(5 * PAGE, RW, flags, offset);
                let operands = [0, 5 * PAGE as u64, 4 * PAGE as u64];
                refused(result, Operation::Mmap, Reason::BeyondEnd, &operands)?;
            }
        }
        // A neighbour in the space of offsets does not make it longer.
        let neighbour = session.alloc(kind, 4 * PAGE)?;
        let result = session.map(5 * PAGE, RW, SHARED, buffer.mmap_offset);
        refused(
            result,
            Operation::Mmap,
            Reason::BeyondEnd,
            &[0, 5 * PAGE as u64, 4 * PAGE as u64],
        )?;
        session.free(buffer.id)?;
        session.free(neighbour.id)?;
    }
    Ok(())
}

fn delta_beyond_the_end_is_refused() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        let buffer = session.alloc(kind, 4 * PAGE)?;
        for (delta, pages) in [(1, 4), (3, 2), (3, 1 << 20)] {
            let result = session.map(
                pages * PAGE,
                RW,
                SHARED,
                buffer.mmap_offset + (delta * PAGE) as u64,
            );
            let operands = [delta * PAGE, pages * PAGE, 4 * PAGE].map(|value| value as u64);
            refused(result, Operation::Mmap, Reason::BeyondEnd, &operands)?;
        }
        for delta in [4, 5, 1 << 10] {
            let offset = buffer.mmap_offset + (delta * PAGE) as u64;
            let result = session.map(PAGE, RW, SHARED, offset);
            refused(result, Operation::Mmap, Reason::NothingAtOffset, &[offset])?;
        }
        session.free(buffer.id)?;
    }
    Ok(())
}

fn id_zero_maps_nothing() -> Outcome {
    let session = Session::open()?;
    refused(
        session.map(PAGE, RW, SHARED, 0),
        Operation::Mmap,
        Reason::NothingAtOffset,
        &[0],
    )?;
    session.alloc(KINDS[0], PAGE)?;
    refused(
        session.map(PAGE, RW, SHARED, 0),
        Operation::Mmap,
        Reason::NothingAtOffset,
        &[0],
    )?;
    refused(session.free(0), Operation::Free, Reason::NoSuchId, &[0])
}

fn unknown_id_maps_nothing() -> Outcome {
    let session = Session::open()?;
    let buffer = session.alloc(KINDS[0], PAGE)?;
    for id in [buffer.id + 1, 77, MAX_IDS - 1] {
        let result = session.map(PAGE, RW, SHARED, id_offset(id));
        refused(result, Operation::Mmap, Reason::NoSuchId, &[id.into()])?;
        refused(
            session.free(id),
            Operation::Free,
            Reason::NoSuchId,
            &[id.into()],
        )?;
        refused(
            session.info(id),
            Operation::Info,
            Reason::NoSuchId,
            &[id.into()],
        )?;
        refused(
            session.segments(id),
            Operation::Segments,
            Reason::NoSuchId,
            &[id.into()],
        )?;
        refused(
            session.offset(id, Method::Auto),
            Operation::Offset,
            Reason::NoSuchId,
            &[id.into()],
        )?;
        refused(
            session.export(id),
            Operation::Export,
            Reason::NoSuchId,
            &[id.into()],
        )?;
        refused(
            session.name(id, "nobody", 0o600),
            Operation::Name,
            Reason::NoSuchId,
            &[id.into()],
        )?;
    }
    Ok(())
}

fn freed_id_maps_nothing() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        let buffer = session.alloc(kind, PAGE)?;
        session.free(buffer.id)?;
        let result = session.map(PAGE, RW, SHARED, id_offset(buffer.id));
        refused(
            result,
            Operation::Mmap,
            Reason::NoSuchId,
            &[buffer.id.into()],
        )?;
        refused(
            session.free(buffer.id),
            Operation::Free,
            Reason::NoSuchId,
            &[buffer.id.into()],
        )?;
    }
    Ok(())
}

fn freed_offset_maps_nothing() -> Outcome {
    let session = Session::open()?;
    let buffer = session.alloc(KINDS[0], 4 * PAGE)?;
    session.free(buffer.id)?;
    for offset in [buffer.mmap_offset, buffer.mmap_offset + PAGE as u64] {
        refused(
            session.map(PAGE, RW, SHARED, offset),
            Operation::Mmap,
            Reason::NothingAtOffset,
            &[offset],
        )?;
    }
    Ok(())
}

// `do_mmap` of mm/mmap.c: `if (!len) return -EINVAL`, before the file is asked.
fn no_length_is_refused_by_the_kernel() -> Outcome {
    let session = Session::open()?;
    let buffer = session.alloc(KINDS[0], PAGE)?;
    core_refused(
        session.map(0, RW, SHARED, id_offset(buffer.id)),
        libc::EINVAL,
    )
}

// `mmap` of arch/x86/kernel/sys_x86_64.c: `if (off & ~PAGE_MASK) return -EINVAL`.
fn unaligned_offset_is_refused_by_the_kernel() -> Outcome {
    let session = Session::open()?;
    let buffer = session.alloc(KINDS[0], PAGE)?;
    for offset in [1, id_offset(buffer.id) + 1, buffer.mmap_offset + 512] {
        core_refused(session.map(PAGE, RW, SHARED, offset), libc::EINVAL)?;
    }
    Ok(())
}

// `file_mmap_ok` of mm/mmap.c: for a character device offset and length together must stay below ULONG_MAX.
fn wrapping_offset_is_refused_by_the_kernel() -> Outcome {
    let session = Session::open()?;
    session.alloc(KINDS[0], PAGE)?;
    for pages in [1, 2, 1 << 20] {
        core_refused(
            session.map(pages * PAGE, RW, SHARED, u64::MAX - 4095),
            libc::EOVERFLOW,
        )?;
    }
    Ok(())
}

// A length that no address space has room for never comes to the driver: `__get_unmapped_area` of mm/mmap.c
// says ENOMEM.
fn huge_length_is_refused() -> Outcome {
    let session = Session::open()?;
    let buffer = session.alloc(KINDS[0], PAGE)?;
    core_refused(
        session.map(usize::MAX - 4095, RW, SHARED, buffer.mmap_offset),
        libc::ENOMEM,
    )?;
    let len = 1 << 45;
    let result = session.map(len, RW, SHARED, buffer.mmap_offset);
    refused(
        result,
        Operation::Mmap,
        Reason::BeyondEnd,
        &[0, len as u64, PAGE as u64],
    )
}

fn length_is_rounded_up_to_pages() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        for (bytes, rounded) in [
            (1, PAGE),
            (PAGE - 1, PAGE),
            (PAGE, PAGE),
            (PAGE + 1, 2 * PAGE),
        ] {
            let buffer = session.alloc(kind, bytes)?;
            check_eq!(buffer.bytes as usize, rounded, "{kind:?}, {bytes} bytes");
            let map = session.map(bytes, RW, SHARED, buffer.mmap_offset)?;
            map.set_u8(rounded - 1, 7);
            session.free(buffer.id)?;
        }
    }
    Ok(())
}

fn wanted_ids_are_given() -> Outcome {
    let session = Session::open()?;
    for id in [1, 2, 1000, MAX_IDS - 1] {
        let buffer = session.ioctl(
            ioctl::ALLOC,
            Alloc {
                id,
                ..alloc_request(KINDS[0], 4096)
            },
        )?;
        check_eq!(buffer.id, id, "id");
        let map = session.map(PAGE, RW, SHARED, id_offset(id))?;
        map.set_u32(0, id);
        let other = session.map(PAGE, RW, SHARED, buffer.mmap_offset)?;
        check_eq!(other.u32(0), id, "through the other encoding");
    }
    // The picked ones do not collide with them.
    for _ in 0..8 {
        let buffer = session.alloc(KINDS[0], PAGE)?;
        check!(
            buffer.id != 0 && buffer.id < MAX_IDS && ![1, 2, 1000].contains(&buffer.id),
            "id {}",
            buffer.id
        );
    }
    Ok(())
}

fn wanted_id_in_use_is_refused() -> Outcome {
    let session = Session::open()?;
    let buffer = session.alloc(KINDS[0], PAGE)?;
    let buffers = session.query()?.buffers;
    let again = Alloc {
        id: buffer.id,
        ..alloc_request(KINDS[1], 4096)
    };
    refused(
        session.ioctl(ioctl::ALLOC, again),
        Operation::Alloc,
        Reason::IdInUse,
        &[buffer.id.into()],
    )?;
    check!(
        crate::sys::until(std::time::Duration::from_secs(1), || session
            .query()
            .is_ok_and(|q| q.buffers == buffers)),
        "the refused buffer stays"
    );
    session.free(buffer.id)?;
    session.ioctl(ioctl::ALLOC, again)?;
    Ok(())
}

fn id_too_large_is_refused() -> Outcome {
    let session = Session::open()?;
    for id in [MAX_IDS, MAX_IDS + 1, u32::MAX] {
        let result = session.ioctl(
            ioctl::ALLOC,
            Alloc {
                id,
                ..alloc_request(KINDS[0], 4096)
            },
        );
        refused(
            result,
            Operation::Alloc,
            Reason::IdTooLarge,
            &[id.into(), MAX_IDS.into()],
        )?;
    }
    Ok(())
}

// A stale id in a buggy program should hit nothing rather than the next buffer.
fn ids_are_not_given_again_at_once() -> Outcome {
    let session = Session::open()?;
    let first = session.alloc(KINDS[0], PAGE)?;
    session.free(first.id)?;
    let second = session.alloc(KINDS[0], PAGE)?;
    check!(
        second.id != first.id,
        "id {} was given again at once",
        first.id
    );
    Ok(())
}

fn ids_of_one_session_mean_nothing_to_another() -> Outcome {
    let (one, two) = (Session::open()?, Session::open()?);
    let wanted = Alloc {
        id: 5,
        ..alloc_request(KINDS[0], 4096)
    };
    one.ioctl(ioctl::ALLOC, wanted)?;
    refused(
        two.map(PAGE, RW, SHARED, id_offset(5)),
        Operation::Mmap,
        Reason::NoSuchId,
        &[5],
    )?;
    two.ioctl(ioctl::ALLOC, wanted)?;
    one.map(PAGE, RW, SHARED, id_offset(5))?.set_u32(0, 1);
    check_eq!(
        two.map(PAGE, RW, SHARED, id_offset(5))?.u32(0),
        0,
        "the other session's buffer 5"
    );
    Ok(())
}

fn offsets_lie_above_the_ids_and_apart() -> Outcome {
    let session = Session::open()?;
    let mut ranges = Vec::new();
    for pages in [1_u64, 7, 16, 2, 512, 1] {
        for kind in KINDS {
            let buffer = session.alloc(kind, pages as usize * PAGE)?;
            let first = buffer.mmap_offset / PAGE as u64;
            check_eq!(buffer.mmap_offset % PAGE as u64, 0, "offset within a page");
            check!(
                first >= u64::from(MAX_IDS) && first + pages <= MAX_OFFSET_PAGES,
                "offset {first:#x} pages"
            );
            ranges.push((first, first + pages));
        }
    }
    ranges.sort_unstable();
    check!(
        ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0),
        "ranges overlap: {ranges:x?}"
    );
    Ok(())
}

// 2^32 pages of offsets are not for ever: freed ones must come back, or a long-lived session runs dry.
fn offsets_are_used_again() -> Outcome {
    let session = Session::open()?;
    let mut highest = 0;
    for _ in 0..200 {
        let buffer = session.alloc(KINDS[0], 64 * PAGE)?;
        highest = highest.max(buffer.mmap_offset);
        session.offset(buffer.id, Method::Auto)?;
        session.free(buffer.id)?;
    }
    let limit = (u64::from(MAX_IDS) + 64 * 1000) * PAGE as u64;
    check!(highest < limit, "offsets have grown to {highest:#x}");
    Ok(())
}

fn offset_ioctl_gives_an_offset_for_auto() -> Outcome {
    let session = Session::open()?;
    let buffer = numbered(&session, Kind::Pages, 4)?;
    let first = session.offset(buffer.id, Method::Auto)?;
    let again = session.offset(buffer.id, Method::Auto)?;
    check_eq!(first, again, "the offset for the same buffer and method");
    let map = session.map(PAGE, RW, SHARED, first + 2 * PAGE as u64)?;
    check_eq!(map.u64(0), 3, "page 2");
    check_eq!(
        session.info(buffer.id)?.mmap_offset,
        buffer.mmap_offset,
        "INFO's offset"
    );
    Ok(())
}

fn offset_ioctl_refuses_what_it_does_not_know() -> Outcome {
    let session = Session::open()?;
    let buffer = session.alloc(KINDS[0], PAGE)?;
    for method in [12_u32, 99, u32::MAX] {
        let request = mapbuf_abi::Offset {
            size: size_of::<mapbuf_abi::Offset>() as u32,
            id: buffer.id,
            method,
            ..Default::default()
        };
        let result = session.ioctl(ioctl::OFFSET, request);
        refused(
            result,
            Operation::Offset,
            Reason::UnknownMethod,
            &[method.into()],
        )?;
    }
    Ok(())
}

fn beyond_all_offsets_maps_nothing() -> Outcome {
    let session = Session::open()?;
    let buffer = session.alloc(KINDS[0], PAGE)?;
    // Also where only a truncation to 32 bits of pages would hit the buffer.
    for page in [
        MAX_OFFSET_PAGES - 1,
        MAX_OFFSET_PAGES,
        MAX_OFFSET_PAGES + u64::from(buffer.id),
        (1 << 51) - 1,
    ] {
        let offset = page * PAGE as u64;
        refused(
            session.map(PAGE, RW, SHARED, offset),
            Operation::Mmap,
            Reason::NothingAtOffset,
            &[offset],
        )?;
    }
    let offset = buffer.mmap_offset + MAX_OFFSET_PAGES * PAGE as u64;
    refused(
        session.map(PAGE, RW, SHARED, offset),
        Operation::Mmap,
        Reason::NothingAtOffset,
        &[offset],
    )
}

fn alloc_refuses_what_it_does_not_know() -> Outcome {
    let session = Session::open()?;
    let plain = alloc_request(KINDS[0], 4096);
    for kind in [0, 7, 99, u32::MAX] {
        let result = session.ioctl(ioctl::ALLOC, Alloc { kind, ..plain });
        refused(
            result,
            Operation::Alloc,
            Reason::UnknownKind,
            &[kind.into()],
        )?;
    }
    let region = Alloc {
        kind: Kind::Region.number(),
        ..plain
    };
    let operands = [Kind::Region.number().into()];
    refused(
        session.ioctl(ioctl::ALLOC, region),
        Operation::Alloc,
        Reason::KindNotHere,
        &operands,
    )?;
    for cache in [3, u32::MAX] {
        let result = session.ioctl(ioctl::ALLOC, Alloc { cache, ..plain });
        refused(
            result,
            Operation::Alloc,
            Reason::UnknownCache,
            &[cache.into()],
        )?;
    }
    // DMA is cache-coherent on x86: a coherent buffer is cached, whatever one wishes (kernel/dma/direct.c).
    for cache in [
        mapbuf_abi::Cache::WriteCombined,
        mapbuf_abi::Cache::Uncached,
    ] {
        let request = Alloc {
            cache: cache.number(),
            ..alloc_request(Kind::Coherent, 4096)
        };
        let operands = [Kind::Coherent.number().into(), cache.number().into()];
        refused(
            session.ioctl(ioctl::ALLOC, request),
            Operation::Alloc,
            Reason::CoherentIsCached,
            &operands,
        )?;
    }
    // There is no device to be near to.
    let near = Alloc {
        numa_node: mapbuf_abi::NEAR_DEVICE,
        ..plain
    };
    let operands = [Operation::Alloc.number().into()];
    refused(
        session.ioctl(ioctl::ALLOC, near),
        Operation::Alloc,
        Reason::NeedsDevice,
        &operands,
    )?;
    for numa_node in [-3, 1, 63, 1 << 20, i32::MAX, i32::MIN] {
        let result = session.ioctl(ioctl::ALLOC, Alloc { numa_node, ..plain });
        refused(
            result,
            Operation::Alloc,
            Reason::NoSuchNode,
            &[i64::from(numa_node) as u64],
        )?;
    }
    for kind in KINDS {
        let request = Alloc {
            numa_node: 0,
            ..alloc_request(kind, 4096)
        };
        let result = session.ioctl(ioctl::ALLOC, request);
        if kind == Kind::Coherent {
            // The DMA API takes it from where its device is.
            refused(result, Operation::Alloc, Reason::NodeOfDevice, &[0])?;
        } else {
            result?;
        }
    }
    Ok(())
}

fn alloc_of_nothing_is_refused() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        refused(
            session.alloc(kind, 0),
            Operation::Alloc,
            Reason::ZeroBytes,
            &[],
        )?;
    }
    Ok(())
}

fn alloc_of_too_much_is_refused() -> Outcome {
    let session = Session::open()?;
    let most = (MAX_OFFSET_PAGES - u64::from(MAX_IDS)) * PAGE as u64;
    for kind in KINDS {
        for bytes in [most + 1, 1 << 63, u64::MAX - 4095, u64::MAX] {
            let result = session.ioctl(ioctl::ALLOC, alloc_request(kind, bytes));
            refused(
                result,
                Operation::Alloc,
                Reason::TooManyBytes,
                &[bytes, most],
            )?;
        }
    }
    Ok(())
}

/// A static program for i386 (guest/i386/mmap2.c); empty where the host cannot make one.
static PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/mmap2-i386"));

// `mmap2` has 32 bits of page offset; every offset that the driver gives fits into them.
fn program_of_32_bits_maps_by_both_encodings() -> Outcome {
    if PROGRAM.is_empty() {
        skip!("no compiler for i386 where these tests were built");
    }
    let path = format!("/tmp-mmap2-{}", std::process::id());
    std::fs::write(&path, PROGRAM)?;
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755))?;
    let output = Command::new(&path).output();
    std::fs::remove_file(&path)?;
    let output = output
        .map_err(|error| Failure::new(format!("it does not start: {}", Errno::from(error))))?;
    check!(
        output.status.success(),
        "ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stdout)
    );
    Ok(())
}
