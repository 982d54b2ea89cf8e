//! `mmap` by each method and through each kind of descriptor, what is done to mappings, page faults and `fork`.

use super::sweep::{comes_back, plain, sweep, Answers, Count, Injection};
use crate::check::Outcome;
use crate::session::{id_offset, Session, KINDS};
use crate::sys::{self, Ending, Map, PAGE, PRIVATE, READ, RW, SHARED};
use crate::tests::counts::Held;
use crate::tests::sharing::{numbered, shows};
use crate::{check, check_eq};
use mapbuf_abi::{Kind, Method, Operation};

tests! { "faults":
    FAULTS, 400: [
        mmap_with_failing_memory,
        mmap_of_other_descriptors_with_failing_memory,
        touch_with_failing_memory,
        partial_unmap_with_failing_memory,
        protect_with_failing_memory,
        move_with_failing_memory,
        fork_with_failing_memory,
    ];
}

/// Enough that page tables of more than one level are taken.
const PAGES: usize = 9;

fn mmap_with_failing_memory() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        let (buffer, first) = numbered(&session, kind, PAGES)?;
        drop(first);
        for &method in Method::ALL {
            let offset = session.offset(buffer.id, method)?;
            for (prot, flags, name) in [
                (RW, SHARED, "shared"),
                (READ, PRIVATE, "private, read-only"),
                (RW, PRIVATE, "private"),
            ] {
                if session.map(PAGES * PAGE, prot, flags, offset).is_err() {
                    // This cell is refused in any case.
                    continue;
                }
                sweep(
                    &format!("mmap of {} by {}, {name}", kind.name(), method.name()),
                    // The kernel makes the VMA before it asks the driver.
                    Answers::Either(Operation::Mmap),
                    || Ok(()),
                    |()| session.map(PAGES * PAGE, prot, flags, offset),
                    |(), result| {
                        if let Ok(map) = result {
                            shows(&map, 0, PAGES, 0)?;
                        }
                        check_eq!(session.info(buffer.id)?.mappings, 0, "mappings left");
                        Ok(())
                    },
                )?;
            }
        }
        session.free(buffer.id)?;
    }
    Ok(())
}

fn mmap_of_other_descriptors_with_failing_memory() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        let (buffer, first) = numbered(&session, kind, PAGES)?;
        drop(first);
        let descriptor = session.export(buffer.id)?;
        sweep(
            &format!("mmap of a dma-buf of {}", kind.name()),
            Answers::Kernel,
            || Ok(()),
            |()| Map::new(&descriptor, PAGES * PAGE, RW, SHARED, 0).map_err(plain),
            |(), result| result.map_or(Ok(()), |map| shows(&map, 0, PAGES, 0)),
        )?;
        session.name(buffer.id, "failing", 0o600)?;
        let node = Session::open_named("failing", true)?;
        sweep(
            &format!("mmap of the node of {}", kind.name()),
            Answers::Either(Operation::Mmap),
            || Ok(()),
            |()| node.map(PAGES * PAGE, RW, SHARED, 0),
            |(), result| result.map_or(Ok(()), |map| shows(&map, 0, PAGES, 0)),
        )?;
        drop(node);
        session.unname("failing")?;
        session.free(buffer.id)?;
    }
    Ok(())
}

/// A fault for which there is no memory is tried again (`pagefault_out_of_memory` of `mm/oom_kill.c`); nothing is lost.
fn touch_with_failing_memory() -> Outcome {
    let session = Session::open()?;
    let mut injection = Injection::new()?;
    for kind in KINDS {
        let (buffer, first) = numbered(&session, kind, PAGES)?;
        drop(first);
        let before = Held::now()?;
        for (prot, flags, write) in [
            (RW, SHARED, true),
            (READ, PRIVATE, false),
            (RW, PRIVATE, true),
        ] {
            let mut count = Count::default();
            for nth in 1..400 {
                // Where no page table has been: one is to be allocated.
                let fresh = 0x1000_0000_0000 + ((nth as usize) << 30);
                let offset = id_offset(buffer.id);
                let Ok(map) = Map::near(fresh, &session, PAGES * PAGE, prot, flags, offset) else {
                    // Refused in any case.
                    break;
                };
                let (seen, came) = injection.at(nth, || {
                    for page in 0..PAGES {
                        if write {
                            map.set_u64(page * PAGE + 8, 1);
                        }
                        map.u64(page * PAGE);
                    }
                })?;
                let () = seen;
                shows(&map, 0, PAGES, 0)?;
                drop(map);
                check_eq!(session.info(buffer.id)?.mappings, 0, "mappings left");
                comes_back(&before, kind.name(), nth)?;
                if !came {
                    break;
                }
                count.faults += 1;
            }
            // Memory that is mapped whole at once is touched without a fault.
            let by_fault = [Kind::Vmalloc, Kind::Pages, Kind::Contiguous].contains(&kind);
            check!(
                count.faults > 0 || !by_fault,
                "touching {}: nothing was injected",
                kind.name()
            );
            count.print(&format!("touch of {}", kind.name()));
        }
        session.free(buffer.id)?;
    }
    Ok(())
}

/// Sweeps something that is done to a mapping: after an error the mapping is as it was.
fn change_with_failing_memory(
    what: &str,
    change: impl Fn(&mut Map) -> sys::Result<()>,
    unchanged: impl Fn(&Map) -> Outcome,
) -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        let (buffer, first) = numbered(&session, kind, PAGES)?;
        drop(first);
        for method in [Method::Auto, Method::Insert, Method::RemapEach] {
            let offset = session.offset(buffer.id, method)?;
            if session.map(PAGES * PAGE, RW, SHARED, offset).is_err() {
                continue;
            }
            sweep(
                &format!("{what} of {} by {}", kind.name(), method.name()),
                Answers::Kernel,
                || {
                    let map = session.map(PAGES * PAGE, RW, SHARED, offset)?;
                    shows(&map, 0, PAGES, 0)?;
                    // Where it lies is kept, however it is cut.
                    let (start, len) = (map.start, map.len);
                    Ok((map, start, len))
                },
                |(map, ..)| change(map).map_err(plain),
                |(map, start, len), result| {
                    if result.is_err() {
                        unchanged(&map)?;
                    }
                    let moved = map.start != start;
                    drop(map);
                    if !moved {
                        sys::unmap_range(start, len)?;
                    }
                    check_eq!(session.info(buffer.id)?.mappings, 0, "mappings left");
                    Ok(())
                },
            )?;
        }
        session.free(buffer.id)?;
    }
    Ok(())
}

fn partial_unmap_with_failing_memory() -> Outcome {
    change_with_failing_memory(
        "a hole",
        |map| map.unmap_part(3 * PAGE, 2 * PAGE),
        |map| shows(map, 0, PAGES, 0),
    )
}

fn protect_with_failing_memory() -> Outcome {
    change_with_failing_memory(
        "protection",
        |map| map.protect_part(3 * PAGE, 2 * PAGE, READ),
        |map| shows(map, 0, PAGES, 0),
    )
}

fn move_with_failing_memory() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        let (buffer, first) = numbered(&session, kind, PAGES)?;
        drop(first);
        sweep(
            &format!("a move of {}", kind.name()),
            Answers::Kernel,
            || {
                let map = session.map(PAGES * PAGE, RW, SHARED, buffer.mmap_offset)?;
                Ok((map, Some(Map::anonymous(PAGES * PAGE)?)))
            },
            |(map, room)| match room.take() {
                Some(room) => map.move_over(room).map_err(plain),
                None => Ok(()),
            },
            |(map, _), _| shows(&map, 0, PAGES, 0),
        )?;
        session.free(buffer.id)?;
    }
    Ok(())
}

fn fork_with_failing_memory() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        let (buffer, map) = numbered(&session, kind, PAGES)?;
        sweep(
            &format!("fork with {}", kind.name()),
            Answers::Kernel,
            || Ok(()),
            |()| sys::fork(|| i32::from(shows(&map, 0, PAGES, 0).is_err())).map_err(plain),
            |(), result| {
                if let Ok(child) = result {
                    check_eq!(child.wait(), Ending::Exited(0), "the child");
                }
                check_eq!(session.info(buffer.id)?.mappings, 1, "mappings");
                shows(&map, 0, PAGES, 0)
            },
        )?;
        drop(map);
        session.free(buffer.id)?;
    }
    Ok(())
}
