//! What a mapping may never become: writable from a read-only open, executable, longer.

use super::sharing::{numbered, shows};
use crate::check::{core_refused, dies_of, fails, refused, Outcome};
use crate::proc::vma_at;
use crate::session::{Session, KINDS};
use crate::sys::{personality, EXEC, PAGE, PRIVATE, READ, RW, SHARED, WRITE};
use crate::{check, check_eq};
use mapbuf_abi::{Kind, Operation, Reason};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

tests! { "protection":
    BOTH, 20: [
        private_read_only_never_becomes_writable,
        nothing_is_ever_executable,
        flags_of_a_mapping_are_as_they_should_be,
    ];
    STOCK, 20: [
        named_buffer_opened_for_reading_is_never_written,
        execution_asked_for_by_the_personality_is_refused,
        session_opened_for_writing_only_maps_nothing,
        debugger_does_not_write_where_the_mapping_may_not,
        write_only_mapping_works,
        mapping_without_access_can_be_opened_up,
    ];
}

// VM_MAYWRITE is cleared, so `do_mprotect_pkey` of mm/mprotect.c says EACCES; and the mapping is no copy-on-write one.
fn private_read_only_never_becomes_writable() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        let (buffer, shared) = numbered(&session, kind, 4)?;
        let map = session.map(4 * PAGE, READ, PRIVATE, buffer.mmap_offset)?;
        core_refused(session.explain(map.protect(RW)), libc::EACCES)?;
        core_refused(session.explain(map.protect(WRITE)), libc::EACCES)?;
        core_refused(
            session.explain(map.protect_part(PAGE, PAGE, RW)),
            libc::EACCES,
        )?;
        shows(&map, 0, 4, 0)?;
        dies_of(libc::SIGSEGV, || map.set_u64(0, 0))?;
        check_eq!(
            shared.u64(0),
            super::sharing::tag(0),
            "{kind:?}, the buffer's first word"
        );
        // No access at all at first, and then the same.
        let map = session.map(4 * PAGE, libc::PROT_NONE, PRIVATE, buffer.mmap_offset)?;
        core_refused(session.explain(map.protect(RW)), libc::EACCES)?;
        map.protect(READ)?;
        shows(&map, 0, 4, 0)?;
        drop(shared);
        session.free(buffer.id)?;
    }
    Ok(())
}

fn nothing_is_ever_executable() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        let buffer = session.alloc(kind, PAGE)?;
        for flags in [SHARED, PRIVATE] {
            for prot in [EXEC, READ | EXEC, RW | EXEC] {
                // EPERM would come from the core: a /dev that is mounted noexec.
                let result = session.map(PAGE, prot, flags, buffer.mmap_offset);
                refused(result, Operation::Mmap, Reason::Executable, &[])?;
            }
            let map = session.map(PAGE, READ, flags, buffer.mmap_offset)?;
            core_refused(session.explain(map.protect(READ | EXEC)), libc::EACCES)?;
            core_refused(session.explain(map.protect(EXEC)), libc::EACCES)?;
        }
        session.free(buffer.id)?;
    }
    Ok(())
}

// The letters are those of fs/proc/task_mmu.c, `show_smap_vma_flags`.
fn flags_of_a_mapping_are_as_they_should_be() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        let buffer = session.alloc(kind, PAGE)?;
        for (prot, flags, may_write) in [
            (RW, SHARED, true),
            (READ, SHARED, true),
            (READ, PRIVATE, false),
        ] {
            let map = session.map(PAGE, prot, flags, buffer.mmap_offset)?;
            let vma = vma_at(map.start).unwrap_or_default();
            check!(
                vma.has("de"),
                "{kind:?}: no VM_DONTEXPAND in {:?}",
                vma.flags
            );
            check!(
                !vma.has("me") && !vma.has("ex"),
                "{kind:?}: VM_MAYEXEC in {:?}",
                vma.flags
            );
            check_eq!(
                vma.has("mw"),
                may_write,
                "{kind:?}: VM_MAYWRITE in {:?}",
                vma.flags
            );
            // Only where pages are put in that were not touched, and never where there may be huge folios.
            let around = kind == Kind::Vmalloc;
            check_eq!(
                vma.has("mm"),
                around,
                "{kind:?}: VM_MIXEDMAP in {:?}",
                vma.flags
            );
        }
        session.free(buffer.id)?;
    }
    Ok(())
}

// `do_mmap` of mm/mmap.c: MAP_SHARED on a file without FMODE_WRITE is EACCES with PROT_WRITE, and loses VM_MAYWRITE.
fn named_buffer_opened_for_reading_is_never_written() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        let (buffer, shared) = numbered(&session, kind, 4)?;
        session.name(buffer.id, "read-only", 0o600)?;
        let result = (|| {
            let node = Session::open_named("read-only", false)?;
            core_refused(node.map(PAGE, RW, SHARED, 0), libc::EACCES)?;
            core_refused(node.map(PAGE, WRITE, SHARED, 0), libc::EACCES)?;
            for flags in [SHARED, PRIVATE] {
                let map = node.map(4 * PAGE, READ, flags, 0)?;
                shows(&map, 0, 4, 0)?;
                core_refused(node.explain(map.protect(RW)), libc::EACCES)?;
                dies_of(libc::SIGSEGV, || map.set_u64(0, 0))?;
            }
            fails(
                node.file().write_at(b"x", 0).map_err(Into::into),
                libc::EBADF,
            )?;
            refused(
                node.export(0),
                Operation::Export,
                Reason::ReadOnlyOpen,
                &[Operation::Export.number().into()],
            )?;
            check_eq!(
                shared.u64(0),
                super::sharing::tag(0),
                "{kind:?}, the buffer's first word"
            );
            // An open for reading and writing of the same node may.
            let node = Session::open_named("read-only", true)?;
            node.map(PAGE, RW, SHARED, 0)?.set_u64(8, 1);
            check_eq!(
                shared.u64(8),
                1,
                "a word written through an open for writing"
            );
            Ok(())
        })();
        session.unname("read-only")?;
        result?;
        drop(shared);
        session.free(buffer.id)?;
    }
    Ok(())
}

// READ_IMPLIES_EXEC adds PROT_EXEC to every readable mapping (mm/mmap.c, `do_mmap`).
fn execution_asked_for_by_the_personality_is_refused() -> Outcome {
    const READ_IMPLIES_EXEC: u32 = 0x0040_0000;
    let session = Session::open()?;
    let buffer = session.alloc(KINDS[0], PAGE)?;
    personality(READ_IMPLIES_EXEC)?;
    let result = session.map(PAGE, READ, SHARED, buffer.mmap_offset);
    personality(0)?;
    refused(result, Operation::Mmap, Reason::Executable, &[])
}

fn session_opened_for_writing_only_maps_nothing() -> Outcome {
    let file = OpenOptions::new()
        .write(true)
        .open(mapbuf_abi::SYSTEM_NODE)?;
    let session = Session::from_file(file);
    let buffer = session.alloc(KINDS[0], PAGE)?;
    core_refused(
        session.map(PAGE, RW, SHARED, buffer.mmap_offset),
        libc::EACCES,
    )
}

// /proc/PID/mem forces its way into read-only mappings only where that makes a private copy
// (`check_vma_flags` of mm/gup.c); `vm_ops->access` must not be softer.
fn debugger_does_not_write_where_the_mapping_may_not() -> Outcome {
    let memory: File = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/proc/self/mem")?;
    let session = Session::open()?;
    for kind in KINDS {
        let (buffer, shared) = numbered(&session, kind, 2)?;
        session.name(buffer.id, "no-debug", 0o600)?;
        let result = (|| {
            let node = Session::open_named("no-debug", false)?;
            for flags in [SHARED, PRIVATE] {
                let map = node.map(2 * PAGE, READ, flags, 0)?;
                shows(&map, 0, 2, 0)?;
                let written = memory.write_at(b"evil", map.start as u64);
                check!(
                    written.is_err(),
                    "{kind:?}, flags {flags}: {written:?} bytes were written"
                );
                check_eq!(
                    shared.u64(0),
                    super::sharing::tag(0),
                    "{kind:?}, the buffer's first word"
                );
            }
            Ok(())
        })();
        session.unname("no-debug")?;
        result?;
        drop(shared);
        session.free(buffer.id)?;
    }
    Ok(())
}

fn write_only_mapping_works() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        let (buffer, shared) = numbered(&session, kind, 2)?;
        let map = session.map(2 * PAGE, WRITE, SHARED, buffer.mmap_offset)?;
        map.set_u64(PAGE + 8, 3);
        check_eq!(shared.u64(PAGE + 8), 3, "{kind:?}, a word written");
    }
    Ok(())
}

fn mapping_without_access_can_be_opened_up() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        let (buffer, _shared) = numbered(&session, kind, 2)?;
        let map = session.map(2 * PAGE, libc::PROT_NONE, SHARED, buffer.mmap_offset)?;
        dies_of(libc::SIGSEGV, || {
            map.u64(0);
        })?;
        map.protect(READ)?;
        shows(&map, 0, 2, 0)?;
        map.protect(RW)?;
        map.set_u64(8, 1);
    }
    Ok(())
}
