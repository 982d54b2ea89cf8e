//! The bugs that were found in drivers of this kind, each with a test that a driver with that bug fails.
//!
//! Two are not here: a DMA address used as a page frame shows itself under an IOMMU only, and mismatched cache
//! attributes with buffers that are not cached only.

use super::lifetime::comes_to;
use super::sharing::{numbered, shows};
use crate::check::{elsewhere, fails, refused, Failure, Outcome};
use crate::proc::meminfo;
use crate::session::{alloc_request, id_offset, Session, KINDS};
use crate::sys::{self, bytes_of, fork, Ending, Map, PAGE, PRIVATE, READ, RW, SHARED};
use crate::{check, check_eq};
use mapbuf_abi::{ioctl, Alloc, Kind, Operation, Reason, Segments, MAX_IDS};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

tests! { "peers":
    STOCK, 30: [
        bug_01_buffer_freed_while_mapped,
        bug_02_no_reference_for_a_fork_and_two_drops_for_a_split,
        bug_03_buffer_looked_up_again_after_a_split,
        bug_04_private_mapping_hits_a_bug_on_or_fails_later,
        bug_05_offset_left_out_of_the_size_check,
        bug_06_fault_beyond_the_end_or_for_ever,
        bug_07_descriptor_installed_before_it_is_safe,
        bug_08_tail_pages_without_references,
        bug_11_lock_held_across_a_copy_that_faults,
        bug_12_zapped_on_fork,
        bug_13_memory_handed_out_that_was_not_zeroed,
        bug_14_module_unloaded_under_an_open_file,
        bug_15_id_read_as_an_offset_inside_the_buffer,
        bug_16_shared_mapping_of_a_read_only_open_taken_for_copy_on_write,
        bug_17_resources_released_on_the_failure_path_only,
    ];
}

fn bug_01_buffer_freed_while_mapped() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        let (buffer, map) = numbered(&session, kind, 64)?;
        session.free(buffer.id)?;
        // Whoever gets the memory now writes into it.
        let mut others = Vec::new();
        for _ in 0..16 {
            let (other, map) = session.mapped(kind, 64 * PAGE)?;
            map.fill(!0);
            others.push((other.id, map));
        }
        shows(&map, 0, 64, 0)?;
        for (id, map) in others {
            drop(map);
            session.free(id)?;
        }
    }
    Ok(())
}

fn bug_02_no_reference_for_a_fork_and_two_drops_for_a_split() -> Outcome {
    for kind in KINDS {
        let session = Session::open()?;
        let (buffer, mut map) = numbered(&session, kind, 16)?;
        map.unmap_part(5 * PAGE, PAGE)?;
        map.unmap_part(10 * PAGE, PAGE)?;
        let child = fork(|| {
            // Every piece goes by itself, then everything with the process.
            let gone = map.unmap_part(0, 5 * PAGE).is_ok();
            i32::from(!gone || map.u64(6 * PAGE) == 0)
        })?;
        check_eq!(child.wait(), Ending::Exited(0), "{kind:?}, the child's end");
        session.free(buffer.id)?;
        comes_to(&session, 1, 16 * PAGE)?;
        // A page that went back too early is the next one's who asks.
        let others = Session::open()?;
        for _ in 0..32 {
            numbered(&others, kind, 16)?;
        }
        shows(&map, 0, 5, 0)?;
        shows(&map, 6, 4, 6)?;
        shows(&map, 11, 5, 11)?;
        drop(others);
        map.unmap_part(0, 16 * PAGE)?;
        comes_to(&session, 0, 0)?;
    }
    Ok(())
}

fn bug_03_buffer_looked_up_again_after_a_split() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        // Neighbours with the next ids and the next offsets, so that an addition leads to one of them.
        let mut buffers = Vec::new();
        for number in 0..6_u64 {
            let (buffer, map) = session.mapped(kind, 8 * PAGE)?;
            for page in 0..8 {
                map.set_u64(page * PAGE, number << 32 | page as u64);
            }
            buffers.push(buffer);
        }
        for (number, buffer) in buffers.iter().enumerate() {
            for offset in [id_offset(buffer.id), buffer.mmap_offset] {
                let mut map = session.map(8 * PAGE, RW, SHARED, offset)?;
                map.unmap_part(3 * PAGE, PAGE)?;
                let rest = map.split_off(4 * PAGE, 4 * PAGE);
                for page in 0..4 {
                    let found = rest.u64(page * PAGE);
                    check_eq!(
                        found,
                        (number as u64) << 32 | (4 + page) as u64,
                        "{kind:?}, page {page} of the rest"
                    );
                }
                rest.unmap()?;
            }
        }
        for buffer in buffers {
            session.free(buffer.id)?;
        }
    }
    Ok(())
}

fn bug_04_private_mapping_hits_a_bug_on_or_fails_later() -> Outcome {
    for kind in KINDS {
        let session = Session::open()?;
        let (buffer, shared) = numbered(&session, kind, 16)?;
        for (prot, pages, delta) in [
            (READ, 16, 0),
            (RW, 16, 0),
            (RW, 7, 3),
            (READ, 1, 15),
            (RW, 1, 15),
        ] {
            let offset = buffer.mmap_offset + (delta * PAGE) as u64;
            let map = session.map(pages * PAGE, prot, PRIVATE, offset)?;
            shows(&map, 0, pages, delta)?;
            if prot == RW {
                for page in 0..pages {
                    map.set_u64(page * PAGE + 8, 1);
                }
                shows(&map, 0, pages, delta)?;
                elsewhere(|| shows(&map, 0, pages, delta))?;
            }
        }
        for page in 0..16 {
            check_eq!(
                shared.u64(page * PAGE + 8),
                0,
                "{kind:?}, page {page}, the shared view of private writes"
            );
        }
    }
    Ok(())
}

fn bug_05_offset_left_out_of_the_size_check() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        let buffer = session.alloc(kind, 8 * PAGE)?;
        let dma_buf = session.export(buffer.id)?;
        session.name(buffer.id, "bug-05", 0o600)?;
        let node = Session::open_named("bug-05", true);
        session.unname("bug-05")?;
        let node = node?;
        for delta in 0..=8 {
            for pages in 1..=9 {
                let offset = (delta * PAGE) as u64;
                let fits = delta + pages <= 8;
                let seen = [
                    session
                        .map(pages * PAGE, RW, SHARED, buffer.mmap_offset + offset)
                        .is_ok(),
                    node.map(pages * PAGE, RW, SHARED, offset).is_ok(),
                    Map::new(&dma_buf, pages * PAGE, RW, SHARED, offset).is_ok(),
                ];
                check_eq!(
                    seen,
                    [fits; 3],
                    "{kind:?}: {pages} pages from page {delta}: session, node, dma-buf"
                );
            }
        }
        // Sums that wrap: in 64 bits of bytes, in 32 bits of pages.
        for page in [(1_u64 << 51) - 1, (1 << 32) - 1, 1 << 32, (1 << 20) - 1] {
            let offset = page * PAGE as u64;
            check!(
                node.map(PAGE, RW, SHARED, offset).is_err(),
                "{kind:?}: page {page:#x} of the node maps"
            );
            check!(
                Map::new(&dma_buf, PAGE, RW, SHARED, offset).is_err(),
                "{kind:?}: page {page:#x} of the dma-buf maps"
            );
            let mut byte = [0];
            check_eq!(
                node.pread(&mut byte, offset)?,
                0,
                "{kind:?}, bytes read at page {page:#x}"
            );
        }
        session.free(buffer.id)?;
    }
    Ok(())
}

fn bug_06_fault_beyond_the_end_or_for_ever() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        for pages in [1, 2, 511, 512, 513] {
            let (buffer, map) = session.mapped(kind, pages * PAGE)?;
            // Every page, from the last one down; a handler that finds none loops or raises SIGBUS.
            for page in (0..pages).rev() {
                map.set_u8(page * PAGE + PAGE - 1, 1);
            }
            drop(map);
            // Fault-around must not bring in what lies behind the end.
            let part = session.map(
                PAGE,
                READ,
                SHARED,
                buffer.mmap_offset + ((pages - 1) * PAGE) as u64,
            )?;
            check_eq!(
                part.u8(PAGE - 1),
                1,
                "{kind:?}, the last byte of {pages} pages"
            );
            session.free(buffer.id)?;
        }
    }
    Ok(())
}

fn bug_07_descriptor_installed_before_it_is_safe() -> Outcome {
    let session = Session::open()?;
    let buffer = session.alloc(Kind::Pages, PAGE)?;
    let request = mapbuf_abi::Export {
        size: 16,
        id: buffer.id,
        ..Default::default()
    };
    let memory = Map::anonymous(PAGE)?;
    memory.set_bytes(0, &bytes_of(&request));
    memory.protect(READ)?;
    // Another thread closes whatever appears, as fast as it can; the failing call must not close it again.
    let lowest = session.export(buffer.id)?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&lowest);
    drop(lowest);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let closer = scope.spawn(|| {
            let mut closed = 0;
            while !stop.load(Ordering::Relaxed) {
                closed += u32::from(sys::close_number(number).is_ok());
            }
            closed
        });
        let mut result = Ok(());
        for _ in 0..2000 {
            let refused_so =
                session.explain(sys::ioctl_mapped(&session, ioctl::EXPORT, &memory, 0));
            result = refused(refused_so, Operation::Export, Reason::BadAddress, &[]);
            if result.is_err() {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
        let closed = closer
            .join()
            .map_err(|_| Failure::new("the thread panicked"))?;
        result?;
        check_eq!(
            closed,
            0,
            "descriptors that appeared although the call failed"
        );
        Ok(())
    })?;
    session.free(buffer.id)?;
    comes_to(&session, 0, 0)
}

// process_vm_readv takes and drops a reference on every page, fork and unmap as well; "Bad page state" would follow.
fn bug_08_tail_pages_without_references() -> Outcome {
    for (kind, pages) in [
        (Kind::Pages, 1024),
        (Kind::Pages, 700),
        (Kind::Contiguous, 512),
        (Kind::Contiguous, 24),
    ] {
        let session = Session::open()?;
        let (buffer, map) = numbered(&session, kind, pages)?;
        for page in 0..pages {
            let bytes = sys::vm_read(&map, page * PAGE, 8)?;
            check_eq!(
                bytes,
                map.u64(page * PAGE).to_ne_bytes(),
                "{kind:?}, page {page}"
            );
        }
        elsewhere(|| shows(&map, 0, pages, 0))?;
        let mut part = session.map(5 * PAGE, RW, SHARED, buffer.mmap_offset + 3 * PAGE as u64)?;
        shows(&part, 0, 5, 3)?;
        part.unmap_part(2 * PAGE, PAGE)?;
        drop(map);
        // A page that has gone back to the kernel with its mapping is somebody else's now.
        let others = Map::anonymous(16 << 20)?;
        for at in (0..others.len).step_by(PAGE) {
            others.set_u64(at, !0);
        }
        let again = session.map(pages * PAGE, RW, SHARED, buffer.mmap_offset)?;
        shows(&again, 0, pages, 0)?;
        drop(again);
        session.free(buffer.id)?;
        part.unmap_part(0, 5 * PAGE)?;
        comes_to(&session, 0, 0)?;
    }
    Ok(())
}

// Everything that the driver copies goes from or into the buffer's own mapping, which faults then, while others take
// the memory map's lock for writing.
fn bug_11_lock_held_across_a_copy_that_faults() -> Outcome {
    let session = Session::open()?;
    let stop = AtomicBool::new(false);
    let start = Instant::now();
    std::thread::scope(|scope| {
        let shaker = {
            let session = session.for_another_thread();
            let stop = &stop;
            scope.spawn(move || -> Outcome {
                let buffer = session.alloc(Kind::Pages, 16 * PAGE)?;
                while !stop.load(Ordering::Relaxed) {
                    let map = session.map(16 * PAGE, RW, SHARED, buffer.mmap_offset)?;
                    map.set_u64(0, 1);
                    map.protect(READ)?;
                }
                session.free(buffer.id)?;
                Ok(())
            })
        };
        let result = (|| -> Outcome {
            let mut round = 0;
            while start.elapsed() < Duration::from_millis(800) {
                let kind = KINDS[round % 4];
                round += 1;
                let buffer = session.alloc(kind, 4 * PAGE)?;
                let fresh = || session.map(4 * PAGE, RW, SHARED, buffer.mmap_offset);
                let at = buffer.mmap_offset as i64;
                sys::pread_mapped(&session, &fresh()?, 0, PAGE, at + PAGE as i64)?;
                sys::pwrite_mapped(&session, &fresh()?, PAGE, PAGE, at)?;
                session.pwrite(
                    &bytes_of(&alloc_request(Kind::Pages, 1)),
                    buffer.mmap_offset,
                )?;
                sys::ioctl_mapped(&session, ioctl::ALLOC, &fresh()?, 0)?;
                let id = fresh()?.u32(28);
                session.free(id)?;
                let rows = fresh()?;
                let request = Segments {
                    size: size_of::<Segments>() as u32,
                    id: buffer.id,
                    count: 4,
                    rows: (rows.start + PAGE) as u64,
                    ..Default::default()
                };
                session.ioctl(ioctl::SEGMENTS, request)?;
                drop(rows);
                session.free(buffer.id)?;
            }
            Ok(())
        })();
        stop.store(true, Ordering::Relaxed);
        shaker
            .join()
            .map_err(|_| Failure::new("the thread panicked"))??;
        result
    })?;
    comes_to(&session, 0, 0)
}

fn bug_12_zapped_on_fork() -> Outcome {
    for kind in KINDS {
        let session = Session::open()?;
        let (buffer, map) = numbered(&session, kind, 16)?;
        for _ in 0..10 {
            elsewhere(|| {
                shows(&map, 0, 16, 0)?;
                elsewhere(|| shows(&map, 0, 16, 0))
            })?;
            shows(&map, 0, 16, 0)?;
        }
        check_eq!(session.info(buffer.id)?.mappings, 1, "mappings");
    }
    Ok(())
}

// The profile `zeroing` has the tests that a kernel which zeroes by itself cannot hide.
fn bug_13_memory_handed_out_that_was_not_zeroed() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        for _ in 0..8 {
            let (buffer, map) = session.mapped(kind, 32 * PAGE)?;
            check_eq!(
                map.differs(0),
                None,
                "{kind:?}, first word that is not zero"
            );
            map.fill(!0);
            session.free(buffer.id)?;
        }
    }
    Ok(())
}

// The profile `reload` has the tests that unload for real; here the module must stay.
fn bug_14_module_unloaded_under_an_open_file() -> Outcome {
    let session = Session::open()?;
    fails(sys::unload_module("mapbuf"), libc::EWOULDBLOCK)?;
    session.query()?;
    let (buffer, map) = numbered(&session, Kind::Vmalloc, 4)?;
    check!(buffer.id != 0, "no id");
    drop(session);
    fails(sys::unload_module("mapbuf"), libc::EWOULDBLOCK)?;
    shows(&map, 0, 4, 0)
}

fn bug_15_id_read_as_an_offset_inside_the_buffer() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        for id in [1, 3, 100, MAX_IDS - 1] {
            let request = Alloc {
                id,
                ..alloc_request(kind, 8 * PAGE as u64)
            };
            let buffer = session.ioctl(ioctl::ALLOC, request)?;
            let map = session.map(8 * PAGE, RW, SHARED, buffer.mmap_offset)?;
            for page in 0..8 {
                map.set_u64(page * PAGE, super::sharing::tag(page));
            }
            for prot in [READ, RW] {
                for flags in [SHARED, PRIVATE] {
                    shows(&session.map(8 * PAGE, prot, flags, id_offset(id))?, 0, 8, 0)?;
                }
            }
            session.free(id)?;
        }
    }
    Ok(())
}

fn bug_16_shared_mapping_of_a_read_only_open_taken_for_copy_on_write() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        let (buffer, shared) = numbered(&session, kind, 8)?;
        session.name(buffer.id, "bug-16", 0o644)?;
        let result = elsewhere(|| {
            // Without rights, so that a refused copy-on-write mapping would be seen.
            sys::become_user(1000, 1000)?;
            let node = Session::open_named("bug-16", false)?;
            let map = node.map(8 * PAGE, READ, SHARED, 0)?;
            shows(&map, 0, 8, 0)?;
            shared.set_u64(7 * PAGE, 0x99);
            check_eq!(map.u64(7 * PAGE), 0x99, "{kind:?}, a word written later");
            Ok(())
        });
        session.unname("bug-16")?;
        result?;
        drop(shared);
        session.free(buffer.id)?;
    }
    Ok(())
}

fn bug_17_resources_released_on_the_failure_path_only() -> Outcome {
    let session = Session::open()?;
    let round = || -> Outcome {
        for kind in KINDS {
            for size in [PAGE, 256 * PAGE] {
                let (buffer, map) = session.mapped(kind, size)?;
                map.set_u64(0, 1);
                let dma_buf = session.export(buffer.id)?;
                session.name(buffer.id, "bug-17", 0o600)?;
                session.unname("bug-17")?;
                drop((map, dma_buf));
                session.free(buffer.id)?;
            }
        }
        comes_to(&session, 0, 0)
    };
    for _ in 0..10 {
        round()?;
    }
    let before = meminfo("MemAvailable");
    for _ in 0..50 {
        round()?;
    }
    let mut after = 0;
    // A page a round would be 1.6 MiB, a buffer a round more than 200.
    let back = sys::until(Duration::from_secs(3), || {
        after = meminfo("MemAvailable");
        after + (4 << 10) >= before
    });
    check!(back, "MemAvailable was {before} KiB, is {after}");
    Ok(())
}
