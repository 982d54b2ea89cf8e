//! `open`, every ioctl, `pread` and `pwrite`.

use super::sweep::{plain, sweep, Answers};
use crate::check::Outcome;
use crate::session::{alloc_request, named_path, Session, KINDS};
use crate::sys::{self, Map, PAGE};
use crate::{check, check_eq};
use mapbuf_abi::{ioctl, Cache, Kind, LastError, Method, Operation};
use std::fs;
use std::os::fd::AsRawFd;

tests! { "faults":
    FAULTS, 240: [
        open_with_failing_memory,
        query_with_failing_copies,
        alloc_with_failing_memory,
        uncached_alloc_with_failing_memory,
        free_with_failing_memory,
        info_and_segments_with_failing_copies,
        offset_with_failing_memory,
        name_with_failing_memory,
        unname_with_failing_memory,
        export_with_failing_memory,
        import_with_failing_memory,
        last_error_with_failing_copies,
        bytes_with_failing_copies,
        dma_buf_with_failing_memory,
    ];
}

/// The session still does what sessions do.
fn works(session: &Session) -> Outcome {
    let buffer = session.alloc(Kind::Pages, PAGE)?;
    session.info(buffer.id)?;
    Ok(session.free(buffer.id)?)
}

fn open_with_failing_memory() -> Outcome {
    sweep(
        "open",
        Answers::Kernel,
        || Ok(()),
        |()| Session::open().map_err(plain),
        |(), result| result.map_or(Ok(()), |session| works(&session)),
    )?;
    let session = Session::open()?;
    let buffer = session.alloc(Kind::Vmalloc, PAGE)?;
    session.name(buffer.id, "failing", 0o600)?;
    sweep(
        "open of a named node",
        Answers::Kernel,
        || Ok(()),
        |()| Session::open_named("failing", true).map_err(plain),
        |(), result| {
            if let Ok(node) = result {
                node.pwrite(b"x", 0)?;
            }
            Ok(())
        },
    )?;
    Ok(session.unname("failing")?)
}

fn query_with_failing_copies() -> Outcome {
    let session = Session::open()?;
    sweep(
        "QUERY",
        Answers::Driver(Operation::Query),
        || Ok(()),
        |()| session.query(),
        |(), _| works(&session),
    )
}

fn alloc_with_failing_memory() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        // 600 pages are a folio of 2 MiB and some; of single pages they are 600 times the same.
        let sizes: &[usize] = match kind {
            Kind::Vmalloc => &[1, 3, 9],
            _ => &[1, 3, 9, 600],
        };
        for &pages in sizes {
            sweep(
                &format!("ALLOC of {pages} pages {}", kind.name()),
                Answers::Driver(Operation::Alloc),
                || Ok(()),
                |()| session.alloc(kind, pages * PAGE),
                |(), result| match result {
                    Ok(buffer) => Ok(session.free(buffer.id)?),
                    Err(_) => works(&session),
                },
            )?;
        }
    }
    Ok(())
}

fn uncached_alloc_with_failing_memory() -> Outcome {
    let session = Session::open()?;
    for kind in [Kind::Vmalloc, Kind::Pages, Kind::Contiguous] {
        for cache in [Cache::Uncached, Cache::WriteCombined] {
            sweep(
                &format!("ALLOC of {} {}", cache.name(), kind.name()),
                Answers::Driver(Operation::Alloc),
                || Ok(()),
                |()| {
                    let mut request = alloc_request(kind, 3 * PAGE as u64);
                    request.cache = cache.number();
                    session.ioctl(ioctl::ALLOC, request)
                },
                |(), result| match result {
                    Ok(buffer) => Ok(session.free(buffer.id)?),
                    Err(_) => works(&session),
                },
            )?;
        }
    }
    Ok(())
}

fn free_with_failing_memory() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        sweep(
            &format!("FREE of {}", kind.name()),
            Answers::Driver(Operation::Free),
            || Ok(session.alloc(kind, 3 * PAGE)?),
            |buffer| session.free(buffer.id),
            |buffer, result| {
                if result.is_err() {
                    // It is as it was.
                    check_eq!(session.info(buffer.id)?.bytes, buffer.bytes, "bytes");
                    session.free(buffer.id)?;
                }
                check!(session.info(buffer.id).is_err(), "the id is still there");
                Ok(())
            },
        )?;
    }
    Ok(())
}

fn info_and_segments_with_failing_copies() -> Outcome {
    let session = Session::open()?;
    let buffer = session.alloc(Kind::Vmalloc, 9 * PAGE)?;
    sweep(
        "INFO",
        Answers::Driver(Operation::Info),
        || Ok(()),
        |()| session.info(buffer.id),
        |(), _| Ok(session.info(buffer.id).map(drop)?),
    )?;
    sweep(
        "SEGMENTS",
        Answers::Driver(Operation::Segments),
        || Ok(Map::anonymous(PAGE)?),
        |rows| session.segment_rows_at(buffer.id, 0, 9, rows),
        |_, _| Ok(session.segments(buffer.id).map(drop)?),
    )?;
    Ok(session.free(buffer.id)?)
}

fn offset_with_failing_memory() -> Outcome {
    let session = Session::open()?;
    sweep(
        "OFFSET",
        Answers::Driver(Operation::Offset),
        // A success keeps its offset, so each try is on a buffer of its own.
        || Ok(session.alloc(Kind::Pages, PAGE)?),
        |buffer| session.offset(buffer.id, Method::Insert),
        |buffer, _| Ok(session.free(buffer.id)?),
    )
}

fn name_with_failing_memory() -> Outcome {
    let session = Session::open()?;
    let buffer = session.alloc(Kind::Pages, PAGE)?;
    let node = named_path("failing");
    sweep(
        "NAME",
        Answers::Driver(Operation::Name),
        || Ok(()),
        |()| session.name(buffer.id, "failing", 0o600),
        |(), result| {
            // `device_add` (drivers/base/core.c) does not look at what `devtmpfs_create_node` answers, so a name whose
            // node could not be made is a success all the same.
            check!(result.is_ok() || !node.exists(), "there is a node");
            if result.is_err() {
                // Nothing of it is in the way of another try.
                session.name(buffer.id, "failing", 0o600)?;
            }
            session.unname("failing")?;
            check!(!node.exists(), "the node is still there");
            Ok(())
        },
    )
}

fn unname_with_failing_memory() -> Outcome {
    let session = Session::open()?;
    let buffer = session.alloc(Kind::Pages, PAGE)?;
    let node = named_path("failing");
    sweep(
        "UNNAME",
        Answers::Driver(Operation::Unname),
        || Ok(session.name(buffer.id, "failing", 0o600)?),
        |()| session.unname("failing"),
        |(), result| {
            if result.is_err() {
                check!(node.exists(), "the node is gone");
                session.unname("failing")?;
            } else if node.exists() {
                // Nor does `device_del` look at what `devtmpfs_delete_node` answers. Nothing is behind the node.
                check!(
                    Session::open_named("failing", false).is_err(),
                    "the node of a name that is gone can be opened"
                );
                fs::remove_file(&node)?;
            }
            Ok(())
        },
    )
}

fn export_with_failing_memory() -> Outcome {
    let session = Session::open()?;
    let buffer = session.alloc(Kind::Pages, PAGE)?;
    let open_files = || fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let before = open_files();
    sweep(
        "EXPORT",
        Answers::Driver(Operation::Export),
        || Ok(()),
        |()| session.export(buffer.id),
        |(), result| {
            drop(result);
            // The sweep itself has one more.
            check_eq!(open_files(), before + 1, "open files");
            Ok(())
        },
    )
}

fn import_with_failing_memory() -> Outcome {
    let session = Session::open()?;
    let buffer = session.alloc(Kind::Pages, PAGE)?;
    let descriptor = session.export(buffer.id)?;
    sweep(
        "IMPORT",
        Answers::Driver(Operation::Import),
        || Ok(()),
        |()| session.import(descriptor.as_raw_fd(), 0),
        |(), result| match result {
            Ok(imported) => Ok(session.free(imported.id)?),
            Err(_) => works(&session),
        },
    )
}

fn last_error_with_failing_copies() -> Outcome {
    let session = Session::open()?;
    let refused = session.free(77).err().and_then(|refused| refused.said);
    let refused = refused.map_or(0, |said| said.reason);
    sweep(
        "LAST_ERROR",
        Answers::Driver(Operation::LastError),
        || Ok(()),
        |()| {
            let request = LastError {
                size: size_of::<LastError>() as u32,
                ..Default::default()
            };
            session.ioctl(ioctl::LAST_ERROR, request)
        },
        |(), result| {
            if let Ok(last) = result {
                check!(last.reason != 0 || refused == 0, "the reason is forgotten");
            }
            Ok(())
        },
    )
}

fn bytes_with_failing_copies() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        let buffer = session.alloc(kind, 3 * PAGE)?;
        let bytes = vec![0x5a; 2 * PAGE];
        sweep(
            &format!("pwrite to {}", kind.name()),
            Answers::Driver(Operation::Write),
            || Ok(()),
            |()| session.pwrite(&bytes, buffer.mmap_offset),
            |(), _| Ok(()),
        )?;
        sweep(
            &format!("pread from {}", kind.name()),
            Answers::Driver(Operation::Read),
            || Ok(vec![0; 2 * PAGE]),
            |read| session.pread(read, buffer.mmap_offset),
            |read, result| {
                // A copy that failed half-way is a short one.
                let length = result.unwrap_or(0);
                check!(
                    read[..length].iter().all(|&byte| byte == 0x5a),
                    "the bytes are others"
                );
                Ok(())
            },
        )?;
        session.free(buffer.id)?;
    }
    Ok(())
}

fn dma_buf_with_failing_memory() -> Outcome {
    // DMA_BUF_IOCTL_SYNC, _IOW('b', 0, u64): START 0, END 4, RW 3.
    const SYNC: u32 = 1 << 30 | 8 << 16 | 0x62 << 8;
    // DMA_BUF_SET_NAME, _IOW('b', 1, u64).
    const SET_NAME: u32 = 1 << 30 | 8 << 16 | 0x62 << 8 | 1;
    let session = Session::open()?;
    for kind in KINDS {
        let buffer = session.alloc(kind, 3 * PAGE)?;
        let descriptor = session.export(buffer.id)?;
        sweep(
            &format!("DMA_BUF_IOCTL_SYNC of {}", kind.name()),
            Answers::Kernel,
            || Ok(()),
            |()| {
                let mut begin = 3_u64.to_ne_bytes();
                sys::ioctl_bytes(&descriptor, SYNC, &mut begin).map_err(plain)?;
                let mut end = 7_u64.to_ne_bytes();
                sys::ioctl_bytes(&descriptor, SYNC, &mut end).map_err(plain)
            },
            |(), _| Ok(()),
        )?;
        sweep(
            &format!("DMA_BUF_SET_NAME of {}", kind.name()),
            Answers::Kernel,
            || Ok(()),
            |()| {
                sys::ioctl_bytes(&descriptor, SET_NAME, &mut b"failing\0".to_owned()).map_err(plain)
            },
            |(), _| Ok(()),
        )?;
        session.free(buffer.id)?;
    }
    Ok(())
}
