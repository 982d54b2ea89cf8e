//! Who looks at a mapping from elsewhere: another process, a debugger, a core dump.

use super::sharing::tag;
use super::ways::{each_way, Sort, Way};
use crate::check::{fails, Failure, Outcome};
use crate::sys::{fork, others, Child, Map, PAGE, PRIVATE, READ, RW};
use crate::{check, check_eq};
use mapbuf_abi::Method;
use std::fs;

tests! { "onlookers":
    STOCK, 60: [
        another_process_reads_and_writes_what_has_pages,
        debugger_reads_and_writes_everything,
    ];
    STOCK, 200: [
        core_has_the_pages_that_were_asked_for_and_never_frames,
        core_has_private_copies_and_nothing_of_read_only_mappings,
    ];
}

/// A child that has what this process has mapped, and waits to be looked at.
fn waiting() -> Outcome<Child> {
    Ok(fork(|| loop {
        std::thread::sleep(std::time::Duration::from_secs(1));
    })?)
}

fn ended(child: &Child) {
    child.kill(libc::SIGKILL);
    child.wait();
}

// mm/process_vm_access.c pins pages by `pin_user_pages_remote`; `check_vma_flags` of mm/gup.c has none for VM_IO or
// VM_PFNMAP.
fn another_process_reads_and_writes_what_has_pages() -> Outcome {
    each_way(|way| {
        let map = way.numbered()?;
        let child = waiting()?;
        let at = map.start + 3 * PAGE - 4;
        map.set_bytes(3 * PAGE - 4, b"1234");
        let read = others::read(child.pid, at, 12);
        let written = others::write(child.pid, at + 12, b"across");
        ended(&child);
        if way.sort == Sort::Frames {
            fails(read, libc::EFAULT)?;
            fails(written, libc::EFAULT)?;
        } else {
            let expected = [&b"1234"[..], &tag(3).to_ne_bytes()].concat();
            check_eq!(read?, expected, "bytes read");
            check_eq!(written?, 6, "bytes written");
            check_eq!(map.bytes(3 * PAGE + 8, 6), b"across", "bytes here");
        }
        map.set_bytes(3 * PAGE - 4, &[0; 4]);
        way.whole(&map)
    })
}

// `__access_remote_vm` of mm/memory.c: where no page can be had, `vm_ops->access` is asked. The kernel's own
// `generic_access_phys` refuses RAM, in 7.2 with a warning.
fn debugger_reads_and_writes_everything() -> Outcome {
    each_way(|way| {
        let map = way.numbered()?;
        // One that was not touched: the page comes by the debugger's access.
        let untouched = way.map()?;
        let child = waiting()?;
        let stopped = others::Stopped::stop(child.pid)?;
        for page in 0..way.pages().min(16) {
            for map in [&map, &untouched] {
                check_eq!(
                    stopped.peek(map.start + page * PAGE)?,
                    tag(page),
                    "page {page}"
                );
            }
        }
        stopped.poke(map.start + 2 * PAGE + 8, 0x0102_0304_0506_0708)?;
        stopped.poke(untouched.start + 7 * PAGE + 8, 77)?;
        drop(stopped);
        ended(&child);
        check_eq!(map.u64(2 * PAGE + 8), 0x0102_0304_0506_0708, "poked");
        check_eq!(map.u64(7 * PAGE + 8), 77, "poked elsewhere");
        way.whole(&map)
    })
}

/// Where cores go, put back when dropped.
struct Pattern(String);

const PATTERN: &str = "/proc/sys/kernel/core_pattern";
const CORE: &str = "/tmp/mapbuf-core";

impl Pattern {
    fn set() -> Outcome<Self> {
        let before = fs::read_to_string(PATTERN)?;
        fs::write(PATTERN, CORE)?;
        // The number of the process would be put behind it.
        fs::write("/proc/sys/kernel/core_uses_pid", "0")?;
        Ok(Self(before))
    }
}

impl Drop for Pattern {
    fn drop(&mut self) {
        // The next test that looks for a core says it if this fails.
        let _ = fs::write(PATTERN, self.0.trim_end());
        let _ = fs::remove_file(CORE);
    }
}

/// A segment of a core: the ELF program header of a `PT_LOAD`.
struct Segment {
    start: usize,
    bytes: usize,
    /// What there is of it in the file.
    dumped: Vec<u8>,
}

/// What a process with this memory leaves when it dies, by `coredump_filter`.
fn core(filter: u32) -> Outcome<Vec<Segment>> {
    let _ = fs::remove_file(CORE);
    let child = fork(|| {
        if others::allow_core(filter).is_err() {
            return 1;
        }
        others::abort()
    })?;
    check_eq!(
        child.wait(),
        crate::sys::Ending::Signalled(libc::SIGABRT),
        "the child's end"
    );
    let core = fs::read(CORE)?;
    let word = |at: usize| -> usize {
        let bytes = core.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, usize::from_ne_bytes)
    };
    let half = |at: usize| word(at) & 0xffff;
    check_eq!(core.get(..4), Some(&b"\x7fELF"[..]), "magic number");
    // Elf64_Ehdr: e_type at 16 (ET_CORE is 4), e_phoff at 32, e_phentsize at 54, e_phnum at 56.
    check_eq!(half(16), 4, "type of the file");
    let mut segments = Vec::new();
    for number in 0..half(56) {
        let header = word(32) + number * half(54);
        // Elf64_Phdr: p_type, p_offset at 8, p_vaddr at 16, p_filesz at 32, p_memsz at 40.
        if word(header) & 0xffff_ffff != 1 {
            continue;
        }
        let (from, bytes) = (word(header + 8), word(header + 32));
        let dumped = core.get(from..from + bytes);
        let dumped = dumped.ok_or_else(|| Failure::new("a segment passes the file's end"))?;
        segments.push(Segment {
            start: word(header + 16),
            bytes: word(header + 40),
            dumped: dumped.to_vec(),
        });
    }
    fs::remove_file(CORE)?;
    Ok(segments)
}

/// The segment of a mapping.
fn of<'a>(segments: &'a [Segment], map: &Map) -> Outcome<&'a Segment> {
    let segment = segments.iter().find(|segment| segment.start == map.start);
    let segment = segment.ok_or_else(|| Failure::new("the core does not mention the mapping"))?;
    check_eq!(segment.bytes, map.len, "bytes of the segment");
    Ok(segment)
}

/// That a core has the numbered pages of a mapping.
fn has_pages(segment: &Segment, way: &Way, except: &[usize]) -> Outcome {
    check_eq!(segment.dumped.len(), segment.bytes, "bytes dumped");
    for (page, bytes) in segment.dumped.chunks(PAGE).enumerate() {
        let word = bytes.get(..8).and_then(|word| word.try_into().ok());
        let expected = (!except.contains(&page)).then_some(tag(page));
        if let Some(expected) = expected {
            check_eq!(
                word.map(u64::from_ne_bytes),
                Some(expected),
                "page {page} of {} in the core",
                way.pages()
            );
        }
    }
    Ok(())
}

/// `coredump_filter` as it is by default, and for memory alone that is shared and backed by a file (bit 3).
const DEFAULT: u32 = 0x33;
const SHARED_FILES: u32 = 0x8;

// `vma_dump_size` of fs/coredump.c: shared memory of a file that has a name (the inode of a dma-buf counts as one,
// `i_nlink` is 1) by bit 3 of the filter, which is not set by default; never with VM_DONTDUMP or VM_IO: `Way::dumped`.
fn core_has_the_pages_that_were_asked_for_and_never_frames() -> Outcome {
    let _pattern = Pattern::set()?;
    each_way(|way| {
        let map = way.numbered()?;
        if way.method == Method::Auto {
            check_eq!(of(&core(DEFAULT)?, &map)?.dumped.len(), 0, "by default");
        }
        let segments = core(SHARED_FILES)?;
        let segment = of(&segments, &map)?;
        if way.dumped() {
            has_pages(segment, way, &[])?;
            map.advise(0, map.len, libc::MADV_DONTDUMP)?;
            let segments = core(SHARED_FILES)?;
            check_eq!(of(&segments, &map)?.dumped.len(), 0, "MADV_DONTDUMP");
        } else {
            check_eq!(segment.dumped.len(), 0, "bytes that are not to be dumped");
        }
        way.whole(&map)
    })
}

// `vma_dump_size`: a private mapping with copies in it (`anon_vma`) is anonymous memory, which is dumped by default (bit 0):
// all of the mapping, the pages that were not copied too. One without copies is a file's, by bit 2.
fn core_has_private_copies_and_nothing_of_read_only_mappings() -> Outcome {
    let _pattern = Pattern::set()?;
    each_way(|way| {
        let map = way.numbered()?;
        let read = way.session.map(way.bytes, READ, PRIVATE, way.offset)?;
        let write = way.session.map(way.bytes, RW, PRIVATE, way.offset);
        if let Ok(write) = &write {
            write.set_u64(2 * PAGE, 0x7777);
        }
        let segments = core(DEFAULT)?;
        check_eq!(of(&segments, &read)?.dumped.len(), 0, "read-only");
        if let Ok(write) = &write {
            let segment = of(&segments, write)?;
            if way.dumped() {
                has_pages(segment, way, &[2])?;
                let copy = segment.dumped.get(2 * PAGE..2 * PAGE + 8);
                check_eq!(copy, Some(&0x7777_u64.to_ne_bytes()[..]), "the copy");
            } else {
                check!(segment.dumped.is_empty(), "it is in the core");
            }
        }
        way.whole(&map)
    })
}
