//! The operations that race.

use super::arena::{Arena, Side, ID, NAME};
use super::gone;
use crate::check::{Failure, Outcome};
use crate::importer::{Importer, AT_ONCE, LETS_GO};
use crate::session::{id_offset, Session};
use crate::sys::{self, fork, until, Ending, Errno, Map, PAGE, READ, RW, SHARED};
use crate::tests::attached::{attach, detach, BOTH};
use crate::tests::foreign::imported;
use crate::tests::interrupts::{vector, Event};
use crate::tests::registers::bar;
use crate::{check, check_eq};
use mapbuf_abi::{import, ioctl, sync, Cache, IrqAction, IrqKind, Method, Reason, Sync};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// One operation.
pub struct Operation {
    pub name: &'static str,
    pub act: Act,
    /// It needs a session of a PCI device.
    pub device: bool,
}

/// What an operation does.
pub enum Act {
    /// Something to what is in the arena.
    Inside(fn(&Arena, &Side) -> Outcome),
    /// Something to the module.
    Outside(fn(&Side) -> Outcome),
}

use Act::{Inside, Outside};

/// All of them: each is raced with each, itself included.
pub const OPERATIONS: &[Operation] = &[
    operation("free", Inside(free)),
    operation("map", Inside(map)),
    operation("fault", Inside(fault)),
    operation("fork", Inside(fork_and_look)),
    operation("export", Inside(export)),
    operation("import", Inside(import_again)),
    operation("importer", Inside(importer)),
    operation("info", Inside(info)),
    operation("close", Inside(close)),
    operation("kill", Inside(kill)),
    operation("name", Inside(name)),
    operation("unname", Inside(unname)),
    of_device("attach", attach_and_sync),
    of_device("registers", registers),
    of_device("irq", irq),
    of_device("unbind", unbind),
    operation("rmmod", Outside(rmmod)),
];

const fn operation(name: &'static str, act: Act) -> Operation {
    Operation {
        name,
        act,
        device: false,
    }
}

const fn of_device(name: &'static str, act: fn(&Arena, &Side) -> Outcome) -> Operation {
    Operation {
        name,
        act: Inside(act),
        device: true,
    }
}

/// Frees the buffer, and has whoever gets its memory next write into it.
fn free(arena: &Arena, _: &Side) -> Outcome {
    let session = arena.session();
    if let Err(error) = session.free(ID) {
        return arena.may(error, &[Reason::NoSuchId]);
    }
    arena.freed.fetch_add(1, Ordering::Relaxed);
    let next = match session.alloc(arena.kind, arena.bytes) {
        Ok(next) => next,
        Err(error) => return arena.may(error, &[]),
    };
    match session.map(arena.bytes, RW, SHARED, next.mmap_offset) {
        Ok(map) => {
            for page in 0..arena.bytes / PAGE {
                let found = map.u64(page * PAGE);
                if !arena.is_gone(&map, page) {
                    check_eq!(found, 0, "page {page} of a new buffer");
                }
                map.set_u64(page * PAGE, !0);
            }
        }
        Err(error) => return arena.may(error, &[Reason::NoSuchId, Reason::NothingAtOffset]),
    }
    session
        .free(next.id)
        .or_else(|error| arena.may(error, &[Reason::NoSuchId]))
}

/// Maps the buffer by its id or by an offset of one method, looks at it, and unmaps it in two pieces.
fn map(arena: &Arena, side: &Side) -> Outcome {
    let session = arena.session();
    let gone = [Reason::NoSuchId, Reason::NothingAtOffset];
    let method = arena.method(side.round);
    let offset = match method {
        Method::Auto if side.index == 0 => Ok(id_offset(ID)),
        Method::Auto => Ok(arena.offset),
        method => session.offset(ID, method),
    };
    let offset = match offset {
        Ok(offset) => offset,
        Err(error) => return arena.may(error, &gone),
    };
    match session.map(arena.bytes, RW, SHARED, offset) {
        Ok(mut map) => {
            arena.shows(&map)?;
            map.unmap_part(PAGE, PAGE)?;
            map.unmap_part(0, PAGE)?;
            map.unmap_part(2 * PAGE, arena.bytes - 2 * PAGE)?;
            Ok(())
        }
        Err(error) => arena.may(error, &gone),
    }
}

/// Faults pages in, writes to them, throws the entries away, and faults them in again.
fn fault(arena: &Arena, side: &Side) -> Outcome {
    let mine = 8 + 8 * side.index;
    for page in arena.some_pages() {
        let at = page * PAGE + mine;
        arena.map.set_u64(at, side.round);
        // Refused where entries for frames could not be put in again.
        let _ = arena.map.advise(page * PAGE, PAGE, libc::MADV_DONTNEED);
        let found = arena.map.u64(at);
        if !arena.is_gone(&arena.map, page) {
            check_eq!(found, side.round, "{:?}, a word of page {page}", arena.kind);
        }
    }
    arena.shows(&arena.map)
}

/// Forks; the child looks at what it has inherited, and goes.
fn fork_and_look(arena: &Arena, _: &Side) -> Outcome {
    let child = fork(|| i32::from(arena.shows(&arena.map).is_err()))?;
    check_eq!(child.wait(), Ending::Exited(0), "the child's end");
    Ok(())
}

/// Exports the buffer, and maps the dma-buf.
fn export(arena: &Arena, _: &Side) -> Outcome {
    match arena.session().export(ID) {
        Ok(dma_buf) => arena.shows(&Map::new(&dma_buf, arena.bytes, READ, SHARED, 0)?),
        Err(error) => arena.may(error, &[Reason::NoSuchId]),
    }
}

/// Gives the buffer a second id by way of its dma-buf, now and then with addresses for the device, maps by that, and takes it away.
fn import_again(arena: &Arena, side: &Side) -> Outcome {
    let session = arena.session();
    let dma_buf = match session.export(ID) {
        Ok(dma_buf) => dma_buf,
        Err(error) => return arena.may(error, &[Reason::NoSuchId]),
    };
    let flags = match arena.bound {
        Some(_) if side.round % 3 == 0 => import::FOR_DEVICE,
        _ => 0,
    };
    let buffer = match imported(&session, &dma_buf, flags) {
        Ok(buffer) => buffer,
        Err(error) => return arena.may(error, &[]),
    };
    drop(dma_buf);
    match session.map(arena.bytes, READ, SHARED, buffer.mmap_offset) {
        Ok(map) => arena.shows(&map)?,
        Err(error) => arena.may(error, &[])?,
    }
    session
        .free(buffer.id)
        .or_else(|error| arena.may(error, &[]))
}

/// Has another driver, which lets go when it is told to, take the buffer for its device and read it.
fn importer(arena: &Arena, _: &Side) -> Outcome {
    let dma_buf = match arena.session().export(ID) {
        Ok(dma_buf) => dma_buf,
        Err(error) => return arena.may(error, &[Reason::NoSuchId]),
    };
    let importer = Importer::open()?;
    let gone = |errno: Errno| match errno {
        // Told to let go, it has nothing mapped; afterwards it gets nothing.
        Errno(libc::ENODEV | libc::ENODATA) if arena.may_be_gone() => Ok(()),
        errno => Err(Failure::from(errno)),
    };
    if let Err(errno) = importer.attach(&dma_buf, LETS_GO | AT_ONCE, "") {
        return gone(errno);
    }
    for _ in 0..2 {
        if let Err(errno) = importer.map() {
            gone(errno)?;
            break;
        }
        match importer.read(0) {
            Ok(found) => check_eq!(found.to_ne_bytes(), arena.first_bytes(), "the first word"),
            Err(errno) => gone(errno)?,
        }
        importer.unmap()?;
    }
    Ok(importer.detach()?)
}

/// Asks for all that can be known.
fn info(arena: &Arena, _: &Side) -> Outcome {
    let session = arena.session();
    match session.info(ID) {
        Ok(info) => {
            check_eq!(info.bytes as usize, arena.bytes, "bytes");
            check_eq!(info.kind, arena.kind.number(), "kind");
        }
        Err(error) => arena.may(error, &[Reason::NoSuchId])?,
    }
    match session.segments(ID) {
        Ok(rows) => {
            let length: u64 = rows.iter().map(|row| row.length).sum();
            check_eq!(length as usize, arena.bytes, "bytes in all segments");
        }
        Err(error) => arena.may(error, &[Reason::NoSuchId])?,
    }
    let shown = format!("{}/named!{NAME}/size", mapbuf_abi::SYSFS_CLASS);
    if let Ok(size) = std::fs::read_to_string(shown) {
        check_eq!(size.trim(), (arena.bytes).to_string(), "size in sysfs");
    }
    Ok(())
}

/// Closes the session.
fn close(arena: &Arena, _: &Side) -> Outcome {
    arena.close()
}

/// A child does what the partner does, again and again, with a buffer of its own beside it; and is killed.
fn kill(arena: &Arena, side: &Side) -> Outcome {
    let child = fork(|| {
        let side = Side { index: 2, ..*side };
        loop {
            let outcome = live(arena).and_then(|()| match side.partner.act {
                // One that forks as well would leave its children behind.
                Inside(_) if ["kill", "fork"].contains(&side.partner.name) => Ok(()),
                Inside(run) => run(arena, &side),
                Outside(run) => run(&side),
            });
            if outcome.is_err() {
                return 1;
            }
        }
    })?;
    std::thread::sleep(Duration::from_micros(side.round * 137 % 1500));
    child.kill(libc::SIGKILL);
    check_eq!(
        child.wait(),
        Ending::Signalled(libc::SIGKILL),
        "the child's end"
    );
    Ok(())
}

/// The whole life of a buffer in a session of its own.
fn live(arena: &Arena) -> Outcome {
    let session = match Session::open() {
        Ok(session) => session,
        Err(Errno(libc::ENOENT | libc::ENXIO | libc::ENODEV)) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let (buffer, map) = session.mapped(arena.kind, arena.bytes)?;
    for page in arena.some_pages() {
        check_eq!(map.u64(page * PAGE), 0, "page {page} of a new buffer");
        map.set_u64(page * PAGE, 1);
    }
    session.free(buffer.id)?;
    Ok(())
}

/// Gives the buffer its name, and opens the node.
fn name(arena: &Arena, _: &Side) -> Outcome {
    if let Err(error) = arena.session().name(ID, NAME, 0o600) {
        arena.may(
            error,
            &[
                Reason::NameTaken,
                Reason::AlreadyNamed,
                Reason::NoSuchId,
                Reason::RevocableUnnamed,
            ],
        )?;
    }
    let node = match Session::open_named(NAME, true) {
        Ok(node) => node,
        // Not named, or no more: devtmpfs has no node, or the driver has no name for its number.
        Err(Errno(libc::ENOENT | libc::ENXIO | libc::ENODEV)) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut word = [0; 8];
    check_eq!(node.pread(&mut word, 0)?, 8, "bytes read");
    check_eq!(word, arena.first_bytes(), "the first word of the node");
    arena.shows(&node.map(arena.bytes, RW, SHARED, 0)?)
}

/// Takes the name away.
fn unname(arena: &Arena, _: &Side) -> Outcome {
    arena
        .session()
        .unname(NAME)
        .or_else(|error| arena.may(error, &[Reason::NameUnknown]))
}

/// Gives the buffer to the device, back to the CPU, and takes it away again.
fn attach_and_sync(arena: &Arena, _: &Side) -> Outcome {
    let session = arena.session();
    // Freed meanwhile, or the other one is faster; coherent memory is always attached.
    let may = [
        Reason::NoSuchId,
        Reason::AlreadyAttached,
        Reason::NotAttached,
    ];
    if let Err(error) = attach(&session, ID, BOTH) {
        return arena.may(error, &may);
    }
    for flags in [sync::END, sync::BEGIN] {
        let request = Sync {
            size: size_of::<Sync>() as u32,
            flags,
            id: ID,
            direction: BOTH,
            length: arena.bytes as u64,
            ..Default::default()
        };
        if let Err(error) = session.ioctl(ioctl::SYNC, request) {
            arena.may(error, &may)?;
        }
    }
    detach(&session, ID).or_else(|error| arena.may(error, &may))
}

/// Looks at the device's registers in both ways.
fn registers(arena: &Arena, _: &Side) -> Outcome {
    // What `edu` says that it is, but for its version.
    const EDU: u32 = 0xed;
    let session = arena.session();
    let shown = match bar(&session, 0, Cache::Uncached, 0) {
        Ok(shown) => shown,
        Err(error) => return arena.may(error, &[]),
    };
    match session.map(PAGE, RW, SHARED, shown.mmap_offset) {
        Ok(map) => {
            let found = map.u32(0);
            let gone = arena.rules().unbinds && gone::is_gone(&map, 0);
            check!(gone || found & 0xff == EDU, "the registers say {found:#x}");
        }
        Err(error) => arena.may(error, &[])?,
    }
    let mut word = [0; 4];
    match session.pread(&mut word, shown.mmap_offset) {
        Ok(_) => check_eq!(u32::from(word[0]), EDU, "the registers, read"),
        Err(error) => arena.may(error, &[])?,
    }
    session
        .free(shown.id)
        .or_else(|error| arena.may(error, &[]))
}

/// Has an interrupt counted, triggers it, and ends that.
fn irq(arena: &Arena, _: &Side) -> Outcome {
    let session = arena.session();
    let (event, irq) = (Event::new()?, vector(&session, IrqKind::Msi));
    if let Err(error) = irq.set(&event) {
        return arena.may(error, &[]);
    }
    for action in [
        IrqAction::Mask,
        IrqAction::Unmask,
        IrqAction::Trigger,
        IrqAction::Trigger,
    ] {
        if let Err(error) = irq.act(action) {
            arena.may(error, &[Reason::IrqNotSet])?;
        }
    }
    irq.unset()
        .map(drop)
        .or_else(|error| arena.may(error, &[Reason::IrqNotSet]))
}

/// Takes the device away; every other time it comes back at once.
fn unbind(arena: &Arena, side: &Side) -> Outcome {
    let Some(bound) = &arena.bound else {
        return Ok(());
    };
    match bound.unbind() {
        Ok(()) => {}
        // Somebody else has, or there is no such driver any more.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENOENT)) => {}
        Err(error) => return Err(error.into()),
    }
    if side.round % 2 == 1 {
        bound.bind_again()?;
    }
    Ok(())
}

/// Unloads the module, as soon as nothing holds it.
fn rmmod(side: &Side) -> Outcome {
    let mut last = Ok(());
    let gone = until(Duration::from_secs(20), || {
        last = sys::unload_module("mapbuf");
        // kernel/module/main.c: it is held; somebody else unloads it; somebody else has.
        match last {
            Ok(()) | Err(Errno(libc::ENOENT)) => true,
            Err(Errno(libc::EBUSY)) => side.rules.unloads + usize::from(side.rules.kills) < 2,
            Err(Errno(libc::EWOULDBLOCK)) => false,
            Err(_) => true,
        }
    });
    check!(gone, "the module stays: {last:?}");
    match last {
        Err(Errno(libc::ENOENT)) if side.rules.unloads > 1 || side.rules.kills => Ok(()),
        last => last.map_err(Failure::from),
    }
}
