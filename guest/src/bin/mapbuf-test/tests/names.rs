//! Named buffers: who may name what how, and that they stay.

use super::lifetime::comes_to;
use super::sharing::{numbered, shows};
use crate::check::{core_refused, elsewhere, fails, refused, Outcome};
use crate::proc::Parameter;
use crate::session::{name_request, named_path, padded, Session, KINDS};
use crate::sys::{become_user, enter_user_namespace, PAGE, PRIVATE, READ, RW, SHARED};
use crate::{check, check_eq};
use mapbuf_abi::{ioctl, Kind, Method, Name, Operation, Reason, Unname, NAME_LEN, SYSTEM_NODE};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

tests! { "names":
    BOTH, 20: [ named_buffer_outlives_its_session ];
    STOCK, 20: [
        rules_for_names_are_kept,
        name_is_taken_once,
        buffer_has_one_name,
        unknown_name_is_refused,
        modes_beyond_reading_and_writing_are_refused,
        stranger_may_not_unname,
        stranger_may_not_give_a_node_away,
        administrator_gives_a_node_away,
        owner_names_and_unnames,
        number_of_names_is_limited,
        name_with_opens_goes_and_the_memory_stays,
        named_node_serves_its_buffer_alone,
        unnamed_by_another_session,
        name_can_be_used_again,
        open_node_keeps_its_buffer_when_the_name_moves_on,
        root_of_a_user_namespace_is_a_stranger,
        freed_buffer_with_a_name_stays,
        mode_is_enforced_at_open,
    ];
}

fn named_buffer_outlives_its_session() -> Outcome {
    for kind in KINDS {
        let session = Session::open()?;
        let (buffer, map) = numbered(&session, kind, 4)?;
        session.name(buffer.id, "stays", 0o600)?;
        drop((session, map));
        let session = Session::open()?;
        let result = (|| {
            check_eq!(session.query()?.buffers, 1, "buffers");
            let node = Session::open_named("stays", true)?;
            let info = node.info(0)?;
            check_eq!(
                (info.kind, info.bytes as usize),
                (kind.number(), 4 * PAGE),
                "kind and size"
            );
            check_eq!(info.name, padded(b"stays"), "name");
            shows(&node.map(4 * PAGE, RW, SHARED, 0)?, 0, 4, 0)
        })();
        session.unname("stays")?;
        result?;
        comes_to(&session, 0, 0)?;
    }
    Ok(())
}

fn rules_for_names_are_kept() -> Outcome {
    let session = Session::open()?;
    let buffer = session.alloc(Kind::Pages, PAGE)?;
    let longest = "x".repeat(NAME_LEN);
    for name in ["a", "_", "0", "A.b-c_9", "x..", longest.as_str()] {
        session.name(buffer.id, name, 0o600)?;
        let there = named_path(name).exists();
        session.unname(name)?;
        check!(there, "no node for {name:?}");
    }
    let bad: &[(&[u8], u64, u8)] = &[
        (b"", 64, 0),
        (b".", 0, b'.'),
        (b"..", 0, b'.'),
        (b".hidden", 0, b'.'),
        (b"-rf", 0, b'-'),
        (b"a/b", 1, b'/'),
        (b"../x", 0, b'.'),
        (b"a b", 1, b' '),
        (b"a!b", 1, b'!'),
        (b"new\nline", 3, b'\n'),
        (b"\xc3\xa9", 0, 0xc3),
        (b"a%n", 1, b'%'),
        (b"a\0b", 1, b'b'),
    ];
    for (name, position, byte) in bad {
        let result = session.ioctl(ioctl::NAME, name_request(buffer.id, name, 0o600));
        refused(
            result,
            Operation::Name,
            Reason::NameInvalid,
            &[*position, (*byte).into()],
        )?;
        let request = Unname {
            size: size_of::<Unname>() as u32,
            flags: 0,
            name: padded(name),
            refused: Default::default(),
        };
        let result = session.ioctl(ioctl::UNNAME, request);
        refused(
            result,
            Operation::Unname,
            Reason::NameInvalid,
            &[*position, (*byte).into()],
        )?;
    }
    check_eq!(
        session.info(buffer.id)?.name,
        [0; NAME_LEN],
        "name after refusals"
    );
    Ok(())
}

fn name_is_taken_once() -> Outcome {
    let session = Session::open()?;
    let one = session.alloc(Kind::Pages, PAGE)?;
    let two = session.alloc(Kind::Vmalloc, PAGE)?;
    session.name(one.id, "taken", 0o600)?;
    let result = refused(
        session.name(two.id, "taken", 0o600),
        Operation::Name,
        Reason::NameTaken,
        &[],
    );
    let other = Session::open()?;
    let three = other.alloc(Kind::Pages, PAGE)?;
    let also = refused(
        other.name(three.id, "taken", 0o600),
        Operation::Name,
        Reason::NameTaken,
        &[],
    );
    session.unname("taken")?;
    result?;
    also?;
    other.name(three.id, "taken", 0o600)?;
    other.unname("taken")?;
    Ok(())
}

fn buffer_has_one_name() -> Outcome {
    let session = Session::open()?;
    let buffer = session.alloc(Kind::Pages, PAGE)?;
    session.name(buffer.id, "first", 0o600)?;
    let result = session.name(buffer.id, "second", 0o600);
    let there = named_path("second").exists();
    session.unname("first")?;
    refused(
        result,
        Operation::Name,
        Reason::AlreadyNamed,
        &[buffer.id.into()],
    )?;
    check!(!there, "a second node");
    session.name(buffer.id, "second", 0o600)?;
    session.unname("second")?;
    Ok(())
}

fn unknown_name_is_refused() -> Outcome {
    let session = Session::open()?;
    refused(
        session.unname("nobody"),
        Operation::Unname,
        Reason::NameUnknown,
        &[],
    )
}

fn modes_beyond_reading_and_writing_are_refused() -> Outcome {
    let session = Session::open()?;
    let buffer = session.alloc(Kind::Pages, PAGE)?;
    for mode in [
        0o777,
        0o100,
        0o4660,
        0o1000,
        1 << 16,
        (1 << 16) + 0o600,
        u32::MAX,
    ] {
        let result = session.name(buffer.id, "mode", mode);
        refused(result, Operation::Name, Reason::ModeInvalid, &[mode.into()])?;
    }
    check!(!named_path("mode").exists(), "a node was made");
    Ok(())
}

/// The system node, open to everybody while this lives.
pub struct OpenToAll(());

impl OpenToAll {
    pub fn new() -> std::io::Result<Self> {
        fs::set_permissions(SYSTEM_NODE, fs::Permissions::from_mode(0o666))?;
        Ok(Self(()))
    }
}

impl Drop for OpenToAll {
    fn drop(&mut self) {
        // A test of the mode says it if this fails.
        let _ = fs::set_permissions(SYSTEM_NODE, fs::Permissions::from_mode(0o660));
    }
}

fn stranger_may_not_unname() -> Outcome {
    let _open = OpenToAll::new()?;
    let session = Session::open()?;
    let buffer = session.alloc(Kind::Pages, PAGE)?;
    session.name(buffer.id, "mine", 0o666)?;
    let result = elsewhere(|| {
        become_user(1000, 1000)?;
        let session = Session::open()?;
        refused(
            session.unname("mine"),
            Operation::Unname,
            Reason::NotOwner,
            &[0],
        )
    });
    let there = named_path("mine").exists();
    session.unname("mine")?;
    result?;
    check!(there, "the node is gone all the same");
    Ok(())
}

fn stranger_may_not_give_a_node_away() -> Outcome {
    let _open = OpenToAll::new()?;
    elsewhere(|| {
        become_user(1000, 1000)?;
        let session = Session::open()?;
        let buffer = session.alloc(Kind::Pages, PAGE)?;
        for (uid, gid) in [(0, 1000), (1001, 1000), (1000, 0), (1000, 1001)] {
            let request = Name {
                uid,
                gid,
                ..name_request(buffer.id, b"gift", 0o600)
            };
            let result = session.ioctl(ioctl::NAME, request);
            let operands = [uid.into(), gid.into()];
            refused(
                result,
                Operation::Name,
                Reason::OwnerNotPermitted,
                &operands,
            )?;
        }
        check!(!named_path("gift").exists(), "a node was made");
        // To oneself it may be given by number too.
        let request = Name {
            uid: 1000,
            gid: 1000,
            ..name_request(buffer.id, b"gift", 0o600)
        };
        session.ioctl(ioctl::NAME, request)?;
        session.unname("gift")?;
        Ok(())
    })
}

fn administrator_gives_a_node_away() -> Outcome {
    let session = Session::open()?;
    let buffer = session.alloc(Kind::Pages, PAGE)?;
    let request = Name {
        uid: 1000,
        gid: 1001,
        ..name_request(buffer.id, b"given", 0o640)
    };
    session.ioctl(ioctl::NAME, request)?;
    let result = (|| {
        let node = fs::metadata(named_path("given"))?;
        check_eq!((node.uid(), node.gid()), (1000, 1001), "owner");
        check_eq!(node.permissions().mode() & 0o777, 0o640, "mode");
        elsewhere(|| {
            become_user(1000, 1000)?;
            Session::open_named("given", true)?
                .map(PAGE, RW, SHARED, 0)?
                .set_u64(0, 1);
            Ok(())
        })?;
        elsewhere(|| {
            become_user(1002, 1001)?;
            check_eq!(
                Session::open_named("given", false)?
                    .map(PAGE, READ, SHARED, 0)?
                    .u64(0),
                1,
                "word"
            );
            fails(Session::open_named("given", true), libc::EACCES)
        })?;
        elsewhere(|| {
            become_user(1002, 1002)?;
            fails(Session::open_named("given", false), libc::EACCES)
        })
    })();
    session.unname("given")?;
    result
}

fn owner_names_and_unnames() -> Outcome {
    let _open = OpenToAll::new()?;
    elsewhere(|| {
        become_user(1000, 1000)?;
        let session = Session::open()?;
        let buffer = session.alloc(Kind::Pages, PAGE)?;
        session.name(buffer.id, "own", 0o600)?;
        let node = fs::metadata(named_path("own"))?;
        check_eq!((node.uid(), node.gid()), (1000, 1000), "owner");
        drop(session);
        let session = Session::open()?;
        session.unname("own")?;
        Ok(())
    })?;
    // CAP_SYS_ADMIN takes away what is not its own.
    elsewhere(|| {
        become_user(1000, 1000)?;
        let session = Session::open()?;
        let buffer = session.alloc(Kind::Pages, PAGE)?;
        session.name(buffer.id, "own", 0o600)?;
        Ok(())
    })?;
    Session::open()?.unname("own")?;
    Ok(())
}

fn number_of_names_is_limited() -> Outcome {
    let _limit = Parameter::set("max_names", 3)?;
    let session = Session::open()?;
    let mut result = Ok(());
    for number in 0..4 {
        let buffer = session.alloc(Kind::Pages, PAGE)?;
        let named = session.name(buffer.id, &format!("many-{number}"), 0o600);
        result = match number {
            3 => refused(named, Operation::Name, Reason::TooManyNames, &[3]),
            _ => named.map_err(Into::into),
        };
        if result.is_err() {
            break;
        }
    }
    for number in 0..4 {
        // The fourth should not be there.
        let _ = session.unname(&format!("many-{number}"));
    }
    result?;
    let buffer = session.alloc(Kind::Pages, PAGE)?;
    session.name(buffer.id, "many-again", 0o600)?;
    session.unname("many-again")?;
    Ok(())
}

fn name_with_opens_goes_and_the_memory_stays() -> Outcome {
    for kind in KINDS {
        let session = Session::open()?;
        let (buffer, map) = numbered(&session, kind, 4)?;
        session.name(buffer.id, "opened", 0o600)?;
        drop(map);
        drop(session);
        let node = Session::open_named("opened", true)?;
        let session = Session::open()?;
        session.unname("opened")?;
        check!(!named_path("opened").exists(), "the node is still there");
        comes_to(&session, 1, 4 * PAGE)?;
        let map = node.map(4 * PAGE, RW, SHARED, 0)?;
        shows(&map, 0, 4, 0)?;
        drop(node);
        comes_to(&session, 1, 4 * PAGE)?;
        shows(&map, 0, 4, 0)?;
        drop(map);
        comes_to(&session, 0, 0)?;
    }
    Ok(())
}

fn named_node_serves_its_buffer_alone() -> Outcome {
    let session = Session::open()?;
    let (buffer, _map) = numbered(&session, Kind::Pages, 4)?;
    session.name(buffer.id, "alone", 0o600)?;
    let result = (|| {
        let node = Session::open_named("alone", true)?;
        check_eq!(node.query()?.abi_version, mapbuf_abi::ABI_VERSION, "QUERY");
        check_eq!(
            node.segments(0)?.len(),
            session.segments(buffer.id)?.len(),
            "SEGMENTS"
        );
        let id = [buffer.id.into()];
        refused(
            node.info(buffer.id),
            Operation::Info,
            Reason::IdOnNamedNode,
            &id,
        )?;
        refused(
            node.segments(buffer.id),
            Operation::Segments,
            Reason::IdOnNamedNode,
            &id,
        )?;
        refused(
            node.export(buffer.id),
            Operation::Export,
            Reason::IdOnNamedNode,
            &id,
        )?;
        let needs = |operation: Operation| [u64::from(operation.number())];
        let alloc = node.alloc(Kind::Pages, PAGE);
        refused(
            alloc,
            Operation::Alloc,
            Reason::NeedsSession,
            &needs(Operation::Alloc),
        )?;
        refused(
            node.free(0),
            Operation::Free,
            Reason::NeedsSession,
            &needs(Operation::Free),
        )?;
        let name = node.name(0, "other", 0o600);
        refused(
            name,
            Operation::Name,
            Reason::NeedsSession,
            &needs(Operation::Name),
        )?;
        let offset = node.offset(0, Method::Auto);
        refused(
            offset,
            Operation::Offset,
            Reason::NeedsSession,
            &needs(Operation::Offset),
        )?;
        let dma_buf = node.export(0)?;
        shows(
            &crate::sys::Map::new(&dma_buf, 4 * PAGE, RW, SHARED, 0)?,
            0,
            4,
            0,
        )?;
        core_refused(node.map(0, RW, SHARED, 0), libc::EINVAL)
    })();
    session.unname("alone")?;
    result
}

fn unnamed_by_another_session() -> Outcome {
    let one = Session::open()?;
    let buffer = one.alloc(Kind::Pages, PAGE)?;
    one.name(buffer.id, "shared-name", 0o600)?;
    Session::open()?.unname("shared-name")?;
    check_eq!(one.info(buffer.id)?.name, [0; NAME_LEN], "name");
    one.name(buffer.id, "shared-name", 0o600)?;
    one.unname("shared-name")?;
    Ok(())
}

fn name_can_be_used_again() -> Outcome {
    let session = Session::open()?;
    for round in 0..20 {
        let (buffer, map) = session.mapped(KINDS[round % 4], PAGE)?;
        map.set_u64(0, round as u64);
        session.name(buffer.id, "again", 0o600)?;
        let word = Session::open_named("again", false)
            .map(|node| node.map(PAGE, READ, PRIVATE, 0).map(|map| map.u64(0)));
        session.unname("again")?;
        check_eq!(word??, round as u64, "word");
        session.free(buffer.id)?;
    }
    Ok(())
}

fn freed_buffer_with_a_name_stays() -> Outcome {
    let session = Session::open()?;
    let (buffer, map) = numbered(&session, Kind::Pages, 4)?;
    session.name(buffer.id, "freed", 0o600)?;
    drop(map);
    session.free(buffer.id)?;
    let result = (|| {
        shows(
            &Session::open_named("freed", false)?.map(4 * PAGE, READ, SHARED, 0)?,
            0,
            4,
            0,
        )?;
        check_eq!(session.info(0)?.freed_held, 1, "freed and held");
        Ok(())
    })();
    session.unname("freed")?;
    result?;
    comes_to(&session, 0, 0)
}

fn mode_is_enforced_at_open() -> Outcome {
    let session = Session::open()?;
    for (mode, reads, writes) in [
        (0o600, false, false),
        (0o604, true, false),
        (0o606, true, true),
        (0o660, false, false),
    ] {
        let buffer = session.alloc(Kind::Pages, PAGE)?;
        session.name(buffer.id, "enforced", mode)?;
        let result = elsewhere(|| {
            become_user(1000, 1000)?;
            check_eq!(
                Session::open_named("enforced", false).is_ok(),
                reads,
                "mode {mode:#o}: opened for reading"
            );
            check_eq!(
                Session::open_named("enforced", true).is_ok(),
                writes,
                "mode {mode:#o}: opened for writing"
            );
            Ok(())
        });
        session.unname("enforced")?;
        result?;
    }
    Ok(())
}

fn open_node_keeps_its_buffer_when_the_name_moves_on() -> Outcome {
    let session = Session::open()?;
    let mut nodes = Vec::new();
    for round in 0..8_u64 {
        let (buffer, map) = session.mapped(KINDS[round as usize % 4], PAGE)?;
        map.set_u64(0, round);
        session.name(buffer.id, "moves", 0o600)?;
        let node = Session::open_named("moves", true);
        session.unname("moves")?;
        nodes.push(node?);
        drop(map);
        session.free(buffer.id)?;
    }
    for (round, node) in nodes.iter().enumerate() {
        let mut word = [0; 8];
        node.pread(&mut word, 0)?;
        check_eq!(
            u64::from_ne_bytes(word),
            round as u64,
            "word of an old node"
        );
        check_eq!(
            node.map(PAGE, READ, SHARED, 0)?.u64(0),
            round as u64,
            "mapped word of an old node"
        );
    }
    check_eq!(session.query()?.buffers, 8, "buffers");
    drop(nodes);
    comes_to(&session, 0, 0)
}

// Rights in a namespace of one's own are no rights over the machine's memory.
fn root_of_a_user_namespace_is_a_stranger() -> Outcome {
    let _open = OpenToAll::new()?;
    let session = Session::open()?;
    let (coherent, pages) = (
        session.alloc(Kind::Coherent, PAGE)?,
        session.alloc(Kind::Pages, PAGE)?,
    );
    session.name(pages.id, "not-yours", 0o666)?;
    let result = elsewhere(|| {
        become_user(1000, 1000)?;
        if enter_user_namespace().is_err() {
            // Not every kernel lets users do so; then there is nothing to fear.
            return Ok(());
        }
        for row in session.segments(coherent.id)? {
            let hidden = mapbuf_abi::ADDRESS_HIDDEN;
            check_eq!(
                (row.physical_address, row.dma_address),
                (hidden, hidden),
                "addresses"
            );
        }
        let copy = session.map(PAGE, RW, PRIVATE, coherent.mmap_offset);
        refused(copy, Operation::Mmap, Reason::CowShowsAddress, &[])?;
        let unnamed = session.unname("not-yours");
        refused(unnamed, Operation::Unname, Reason::NotOwner, &[])?;
        let mine = session.alloc(Kind::Pages, PAGE)?;
        let request = Name {
            uid: 0,
            ..name_request(mine.id, b"gift", 0o600)
        };
        let given = session.ioctl(ioctl::NAME, request);
        refused(given, Operation::Name, Reason::OwnerNotPermitted, &[])
    });
    session.unname("not-yours")?;
    result
}
