//! The guide's table of who may do what (`docs/src/security.md`), asked by a user without any privilege.

use super::limits::as_user;
use super::names::OpenToAll;
use crate::check::{core_refused, elsewhere, fails, refused, Failure, Outcome};
use crate::session::{
    alloc_request, id_offset, name_request, named_path, padded, Refused, Session, KINDS,
};
use crate::sys::{self, become_user, bytes_of, Map, EXEC, PAGE, PRIVATE, READ, RW, SHARED, WRITE};
use crate::{check, check_eq};
use mapbuf_abi::{
    ioctl, Alloc, Export, Free, Import, Info, Kind, LastError, Method, Operation, Query, Reason,
    Segments, Unname, NAME_LEN, SYSTEM_NODE,
};
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{chown, PermissionsExt};

tests! { "security":
    STOCK, 20: [
        group_of_the_node_opens_it,
        user_who_may_open_needs_no_privilege,
        read_only_open_changes_nothing,
        named_node_is_for_its_buffer_alone,
        ids_belong_to_their_session,
        no_answer_has_an_address_in_it,
        parameters_are_for_root_to_set,
        user_maps_nothing_executable,
        user_gains_no_right_to_write,
        descriptor_is_all_that_a_dma_buf_takes,
        write_only_open_gives_nothing_to_read,
        open_for_ioctls_alone_has_no_right,
        names_of_users_make_no_events,
        strangers_count_no_mappings,
    ];
    REGIONS, 20: [ node_of_a_region_keeps_strangers_out ];
}

/// The node's group is this one, until the value is dropped.
struct GroupOfNode(u32);

impl GroupOfNode {
    fn set(gid: u32) -> Outcome<Self> {
        chown(SYSTEM_NODE, None, Some(gid))?;
        Ok(Self(gid))
    }
}

impl Drop for GroupOfNode {
    fn drop(&mut self) {
        // A test of the owner says it if this fails.
        let _ = chown(SYSTEM_NODE, None, Some(0));
    }
}

fn group_of_the_node_opens_it() -> Outcome {
    let group = GroupOfNode::set(900)?;
    elsewhere(|| {
        become_user(1000, group.0)?;
        Session::open()?.query()?;
        Session::open_read_only()?.query()?;
        Ok(())
    })?;
    elsewhere(|| {
        become_user(1000, 1000)?;
        fails(Session::open(), libc::EACCES)?;
        fails(Session::open_read_only(), libc::EACCES)
    })
}

// Each operation of the table, by somebody who has nothing but an open file.
fn user_who_may_open_needs_no_privilege() -> Outcome {
    as_user(|| {
        for kind in KINDS {
            let session = Session::open()?;
            session.query()?;
            let buffer = session.alloc(kind, 2 * PAGE)?;
            session.info(buffer.id)?;
            check_eq!(session.segments(buffer.id)?[0].offset, 0, "first row");
            let offset = session.offset(buffer.id, Method::Auto)?;
            let map = session.map(2 * PAGE, RW, SHARED, offset)?;
            map.set_u64(0, 7);
            session.pwrite(&[1; 8], offset + PAGE as u64)?;
            let mut word = [0; 8];
            session.pread(&mut word, offset)?;
            check_eq!(u64::from_ne_bytes(word), 7, "the first word");
            let dma_buf = session.export(buffer.id)?;
            let second = session.import(dma_buf.as_raw_fd(), 0)?;
            session.free(second.id)?;
            session.name(buffer.id, "users-own", 0o600)?;
            let node = Session::open_named("users-own", true);
            session.unname("users-own")?;
            node?.info(0)?;
            session.last_error()?;
            check_eq!(session.region(0)?.count, 0, "regions");
            session.free(buffer.id)?;
        }
        Ok(())
    })
}

fn read_only_open_changes_nothing() -> Outcome {
    as_user(|| {
        let session = Session::open_read_only()?;
        let writes = |result: Result<(), Refused>, operation: Operation| {
            let operands = [u64::from(operation.number())];
            refused(result, operation, Reason::ReadOnlyOpen, &operands)
        };
        writes(session.alloc(Kind::Pages, PAGE).map(drop), Operation::Alloc)?;
        writes(session.export(1).map(drop), Operation::Export)?;
        writes(session.import(0, 0).map(drop), Operation::Import)?;
        writes(session.probe(1, 0).map(drop), Operation::Probe)?;
        writes(session.name(1, "never", 0o600), Operation::Name)?;
        session.query()?;
        session.info(0)?;
        session.last_error()?;
        Ok(())
    })
}

fn named_node_is_for_its_buffer_alone() -> Outcome {
    as_user(|| {
        let session = Session::open()?;
        let buffer = session.alloc(Kind::Pages, PAGE)?;
        session.name(buffer.id, "alone", 0o600)?;
        let node = Session::open_named("alone", true);
        session.unname("alone")?;
        let node = node?;
        let wants = |result: Result<(), Refused>, operation: Operation| {
            let operands = [u64::from(operation.number())];
            refused(result, operation, Reason::NeedsSession, &operands)
        };
        wants(node.alloc(Kind::Pages, PAGE).map(drop), Operation::Alloc)?;
        wants(node.free(buffer.id), Operation::Free)?;
        wants(node.offset(0, Method::Auto).map(drop), Operation::Offset)?;
        wants(node.import(0, 0).map(drop), Operation::Import)?;
        wants(node.name(0, "other", 0o600), Operation::Name)?;
        let operands = [u64::from(buffer.id)];
        refused(
            node.info(buffer.id),
            Operation::Info,
            Reason::IdOnNamedNode,
            &operands,
        )?;
        node.info(0)?;
        node.export(0)?;
        Ok(())
    })
}

fn ids_belong_to_their_session() -> Outcome {
    let roots = Session::open()?;
    let buffer = roots.ioctl(
        ioctl::ALLOC,
        Alloc {
            id: 77,
            ..alloc_request(Kind::Pages, PAGE as u64)
        },
    )?;
    as_user(|| {
        let session = Session::open()?;
        let unknown = |result: Result<(), Refused>, operation: Operation| {
            refused(result, operation, Reason::NoSuchId, &[77])
        };
        unknown(session.info(77).map(drop), Operation::Info)?;
        unknown(session.free(77), Operation::Free)?;
        unknown(session.segments(77).map(drop), Operation::Segments)?;
        unknown(
            session.offset(77, Method::Auto).map(drop),
            Operation::Offset,
        )?;
        unknown(session.export(77).map(drop), Operation::Export)?;
        unknown(session.name(77, "stolen", 0o600), Operation::Name)?;
        unknown(session.probe(77, 0).map(drop), Operation::Probe)?;
        let map = session.map(PAGE, READ, SHARED, id_offset(77));
        unknown(map.map(drop), Operation::Mmap)?;
        let map = session.map(PAGE, READ, SHARED, buffer.mmap_offset);
        refused(map, Operation::Mmap, Reason::NothingAtOffset, &[])
    })
}

/// Everything that the driver says to a user about a buffer, as bytes.
fn all_answers(session: &Session, buffer: &Alloc) -> Outcome<Vec<u8>> {
    let mut said = Vec::new();
    let mut ask = |number: u32, mut bytes: Vec<u8>| {
        // A refusal is an answer too.
        let _ = session.ioctl_bytes(number, &mut bytes);
        said.extend(bytes);
    };
    let rows = Map::anonymous(PAGE)?;
    ask(
        ioctl::QUERY,
        bytes_of(&Query {
            size: size_of::<Query>() as u32,
            ..Default::default()
        }),
    );
    ask(
        ioctl::INFO,
        bytes_of(&Info {
            size: size_of::<Info>() as u32,
            id: buffer.id,
            ..Default::default()
        }),
    );
    ask(
        ioctl::SEGMENTS,
        bytes_of(&Segments {
            size: size_of::<Segments>() as u32,
            id: buffer.id,
            count: 16,
            rows: rows.start as u64,
            ..Default::default()
        }),
    );
    for &method in Method::ALL {
        let Ok(offset) = session.offset(buffer.id, method) else {
            continue;
        };
        said_of_mapping(session, buffer, offset, &mut ask)?;
    }
    ask(
        ioctl::EXPORT,
        bytes_of(&Export {
            size: size_of::<Export>() as u32,
            id: buffer.id,
            ..Default::default()
        }),
    );
    ask(
        ioctl::IMPORT,
        bytes_of(&Import {
            size: size_of::<Import>() as u32,
            fd: 0,
            ..Default::default()
        }),
    );
    ask(
        ioctl::NAME,
        bytes_of(&name_request(buffer.id, b"with-no-address", 0o600)),
    );
    for entry in
        fs::read_dir(format!("{}/named!with-no-address", mapbuf_abi::SYSFS_CLASS))?.flatten()
    {
        if let Ok(text) = fs::read(entry.path()) {
            said.extend(text);
        }
    }
    session.unname("with-no-address")?;
    said.extend(rows.bytes(0, 16 * 32));
    Ok(said)
}

/// Maps by one way, shared and private, and adds what the last error says and where the kernel says it maps.
fn said_of_mapping(
    session: &Session,
    buffer: &Alloc,
    offset: u64,
    ask: &mut impl FnMut(u32, Vec<u8>),
) -> Outcome {
    for (prot, flags) in [(RW, SHARED), (READ, PRIVATE), (RW, PRIVATE)] {
        let map = session.map(buffer.bytes as usize, prot, flags, offset);
        ask(
            ioctl::LAST_ERROR,
            bytes_of(&LastError {
                size: size_of::<LastError>() as u32,
                ..Default::default()
            }),
        );
        if map.is_ok() {
            // The offset in /proc/self/maps is where copy-on-write by frame number would show.
            let maps = fs::read_to_string("/proc/self/maps")?;
            for line in maps.lines().filter(|line| line.contains("mapbuf")) {
                let shown = line.split_whitespace().nth(2);
                let shown = shown.and_then(|shown| u64::from_str_radix(shown, 16).ok());
                // Of a number that the driver does not know: it stays as it is.
                ask(u32::MAX, shown.unwrap_or(0).to_ne_bytes().to_vec());
            }
        }
    }
    Ok(())
}

fn no_answer_has_an_address_in_it() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        let buffer = session.alloc(kind, 5 * PAGE)?;
        let rows = session.segments(buffer.id)?;
        let addresses: Vec<u64> = rows.iter().map(|row| row.physical_address).collect();
        check!(!addresses.contains(&u64::MAX), "hidden from root");
        elsewhere(|| {
            become_user(1000, 1000)?;
            let said = all_answers(&session, &buffer)?;
            for window in said.windows(8) {
                let mut word = [0; 8];
                word.copy_from_slice(window);
                let word = u64::from_ne_bytes(word);
                let told = addresses
                    .iter()
                    .any(|&address| word == address || word == address / PAGE as u64);
                check!(!told, "{kind:?}: an answer has {word:#x} in it");
            }
            let text = String::from_utf8_lossy(&said).into_owned();
            for address in &addresses {
                check!(
                    !text.contains(&format!("{address:x}")),
                    "{kind:?}: a text has {address:#x} in it"
                );
            }
            Ok(())
        })?;
        session.free(buffer.id)?;
    }
    Ok(())
}

fn parameters_are_for_root_to_set() -> Outcome {
    elsewhere(|| {
        become_user(1000, 1000)?;
        for entry in fs::read_dir("/sys/module/mapbuf/parameters")?.flatten() {
            let written = fs::OpenOptions::new().write(true).open(entry.path());
            fails(written.map_err(sys::Errno::from), libc::EACCES)?;
        }
        Ok(())
    })
}

fn user_maps_nothing_executable() -> Outcome {
    as_user(|| {
        let session = Session::open()?;
        for kind in KINDS {
            let (buffer, map) = session.mapped(kind, PAGE)?;
            for flags in [SHARED, PRIVATE] {
                let result = session.map(PAGE, READ | EXEC, flags, buffer.mmap_offset);
                refused(result, Operation::Mmap, Reason::Executable, &[])?;
            }
            fails(map.protect(READ | EXEC), libc::EACCES)?;
        }
        Ok(())
    })
}

fn user_gains_no_right_to_write() -> Outcome {
    let session = Session::open()?;
    let buffer = session.alloc(Kind::Pages, PAGE)?;
    session.name(buffer.id, "to-be-read", 0o644)?;
    let result = elsewhere(|| {
        become_user(1000, 1000)?;
        fails(Session::open_named("to-be-read", true), libc::EACCES)?;
        let node = Session::open_named("to-be-read", false)?;
        core_refused(node.map(PAGE, RW, SHARED, 0), libc::EACCES)?;
        core_refused(node.map(PAGE, WRITE, SHARED, 0), libc::EACCES)?;
        let map = node.map(PAGE, READ, SHARED, 0)?;
        fails(map.protect(RW), libc::EACCES)?;
        let operands = [u64::from(Operation::Export.number())];
        refused(
            node.export(0),
            Operation::Export,
            Reason::ReadOnlyOpen,
            &operands,
        )?;
        refused(
            node.unname("to-be-read"),
            Operation::Unname,
            Reason::NotOwner,
            &[0],
        )
    });
    session.unname("to-be-read")?;
    result
}

// Whoever is given a dma-buf's descriptor may map it, and may give it an id where there is a session to give it in.
fn descriptor_is_all_that_a_dma_buf_takes() -> Outcome {
    let session = Session::open()?;
    let (buffer, map) = session.mapped(Kind::Pages, PAGE)?;
    map.set_u64(0, 99);
    let dma_buf = session.export(buffer.id)?;
    elsewhere(|| {
        become_user(1000, 1000)?;
        let map = Map::new(&dma_buf, PAGE, RW, SHARED, 0)?;
        check_eq!(map.u64(0), 99, "word");
        fails(Session::open(), libc::EACCES)
    })?;
    as_user(|| {
        let mine = Session::open()?;
        let id = mine.import(dma_buf.as_raw_fd(), 0)?.id;
        check_eq!(mine.query()?.used_bytes_by_user, 0, "charged to its maker");
        let request = Free {
            size: size_of::<Free>() as u32,
            id,
            ..Default::default()
        };
        mine.ioctl(ioctl::FREE, request)?;
        Ok(())
    })
}

/// A file that was opened with this mode, `O_ACCMODE` included.
fn opened(path: impl AsRef<std::path::Path>, mode: i32) -> Outcome<Session> {
    Ok(Session::from_file(sys::open_with(path.as_ref(), mode)?))
}

/// The operations that give away what can be read, each refused for the file's mode.
fn gives_nothing(session: &Session, id: u32, reason: Reason) -> Outcome {
    let refuses = |result: Result<(), Refused>, operation: Operation| {
        refused(result, operation, reason, &[operation.number().into()])
    };
    refuses(session.export(id).map(drop), Operation::Export)?;
    refuses(session.probe(id, 0).map(drop), Operation::Probe)
}

// A dma-buf's descriptor is always for reading and writing, and so may a node with a new name be. A file that was opened
// for writing alone gives neither, whoever has it.
fn write_only_open_gives_nothing_to_read() -> Outcome {
    let session = Session::open()?;
    let (buffer, map) = session.mapped(Kind::Pages, PAGE)?;
    map.set_u64(0, 0x5ec7e7);
    session.name(buffer.id, "to-be-written", 0o622)?;
    let result = elsewhere(|| {
        become_user(1000, 1000)?;
        fails(Session::open_named("to-be-written", false), libc::EACCES)?;
        fails(Session::open_named("to-be-written", true), libc::EACCES)?;
        let node = opened(named_path("to-be-written"), libc::O_WRONLY)?;
        gives_nothing(&node, 0, Reason::WriteOnlyOpen)?;
        core_refused(node.map(PAGE, READ, SHARED, 0), libc::EACCES)?;
        core_refused(node.map(PAGE, WRITE, SHARED, 0), libc::EACCES)?;
        core_refused(node.map(PAGE, RW, PRIVATE, 0), libc::EACCES)?;
        core_refused(node.pread(&mut [0; 8], 0), libc::EBADF)?;
        check_eq!(node.pwrite(&[1], 8)?, 1, "bytes written");
        Ok(())
    });
    session.unname("to-be-written")?;
    result?;
    check_eq!(map.u64(8), 1, "what was written");
    // A session of that kind makes buffers, and may not give them to be read by another name.
    as_user(|| {
        let session = opened(SYSTEM_NODE, libc::O_WRONLY)?;
        let buffer = session.alloc(Kind::Pages, PAGE)?;
        gives_nothing(&session, buffer.id, Reason::WriteOnlyOpen)?;
        refused(
            session.name(buffer.id, "another-way", 0o600),
            Operation::Name,
            Reason::WriteOnlyOpen,
            &[],
        )
    })
}

// `OPEN_FMODE` of include/linux/fs.h: the access mode 3 is neither `FMODE_READ` nor `FMODE_WRITE`.
fn open_for_ioctls_alone_has_no_right() -> Outcome {
    let session = opened(SYSTEM_NODE, libc::O_ACCMODE)?;
    session.query()?;
    let operations = [Operation::Alloc, Operation::Import, Operation::Name];
    let results = [
        session.alloc(Kind::Pages, PAGE).map(drop),
        session.import(0, 0).map(drop),
        session.name(1, "never", 0o600),
    ];
    for (result, operation) in results.into_iter().zip(operations) {
        let operands = [operation.number().into()];
        refused(result, operation, Reason::ReadOnlyOpen, &operands)?;
    }
    gives_nothing(&session, 1, Reason::ReadOnlyOpen)
}

// lib/kobject_uevent.c: whatever listens for devices would have to look at each.
fn names_of_users_make_no_events() -> Outcome {
    let events = sys::Uevents::listen()?;
    as_user(|| {
        let session = Session::open()?;
        let buffer = session.alloc(Kind::Pages, PAGE)?;
        for _ in 0..20 {
            session.name(buffer.id, "quiet", 0o600)?;
            check!(named_path("quiet").exists(), "no node");
            session.unname("quiet")?;
        }
        Ok(())
    })?;
    // So that silence means something.
    fs::write(
        format!("{}/system/uevent", mapbuf_abi::SYSFS_CLASS),
        "change",
    )?;
    let heard = events.heard()?;
    let of = |text: &str| heard.iter().filter(|event| event.contains(text)).count();
    check_eq!(of("mapbuf/system"), 1, "events of the node system");
    check_eq!(of("quiet"), 0, "events of 20 names");
    Ok(())
}

// Counting walks all mappings of the buffer with the lock that `munmap` waits for.
fn strangers_count_no_mappings() -> Outcome {
    let session = Session::open()?;
    let buffer = session.alloc(Kind::Pages, PAGE)?;
    session.name(buffer.id, "counted", 0o666)?;
    let path = format!("{}/named!counted/mappings", mapbuf_abi::SYSFS_CLASS);
    let result = elsewhere(|| {
        check_eq!(fs::read_to_string(&path)?.trim(), "0", "mappings");
        become_user(1000, 1000)?;
        let read = fs::read_to_string(&path).map_err(sys::Errno::from);
        fails(read, libc::EACCES)
    });
    session.unname("counted")?;
    result
}

fn node_of_a_region_keeps_strangers_out() -> Outcome {
    let mode = fs::metadata(named_path("ring"))?.permissions().mode();
    check_eq!(mode & 0o777, 0o660, "mode");
    let _open = OpenToAll::new()?;
    elsewhere(|| {
        become_user(1000, 1000)?;
        fails(Session::open_named("ring", false), libc::EACCES)?;
        fails(Session::open_named("ring", true), libc::EACCES)?;
        let session = Session::open()?;
        check_eq!(
            session.region(0)?.start,
            mapbuf_abi::ADDRESS_HIDDEN,
            "a region's start"
        );
        let request = Unname {
            size: size_of::<Unname>() as u32,
            flags: 0,
            name: padded(b"ring"),
            refused: Default::default(),
        };
        check_eq!(request.name.len(), NAME_LEN, "bytes of a name");
        let result = session.ioctl(ioctl::UNNAME, request);
        refused(result, Operation::Unname, Reason::NotOwner, &[0])
            .map_err(|failure| Failure::new(format!("a region's name: {failure:?}")))
    })
}
