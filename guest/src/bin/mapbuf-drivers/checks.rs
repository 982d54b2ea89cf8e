//! What is tried with every driver, and what with some. Each check runs in a process of its own, with a module that was
//! just loaded.

use crate::subjects::{self, Buffer, Dropped, Private, Subject};
use crate::sys::{self, errno, Map, PAGE, PRIVATE, READ, RW, SHARED};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Error, Result};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A check: its name, whether a subject is meant, and what it does.
pub struct Check {
    pub name: &'static str,
    pub meant_for: fn(&Subject) -> bool,
    pub run: fn(&Subject) -> Result<()>,
}

const SIGBUS: i32 = 128 + libc::SIGBUS;

macro_rules! checks {
    ($($name:ident: $meant:expr;)*) => {
        &[$(Check { name: stringify!($name), meant_for: $meant, run: $name }),*]
    };
}

pub const CHECKS: &[Check] = checks! {
    new_memory_is_zero: |subject| subject.zeroed;
    bytes_go_both_ways: all;
    part_shows_its_bytes: |subject| !has_ids(subject);
    beyond_the_end_is_refused: all;
    offsets_do_not_wrap: all;
    private_read_only_cannot_be_written: all;
    private_and_writable: all;
    read_only_open: |subject| !has_ids(subject);
    outlives_close: all;
    fork_shares_it: all;
    split_and_moved: all;
    cannot_grow: all;
    dropped_pages: all;
    pinned: all;
    unload_waits_for_the_last_mapping: all;
    leaks_nothing: all;
    diagnose_finds_nothing: all;
    made_by_new_driver: |subject| !is_descriptor(subject);
    freed_while_mapped: has_ids;
    arguments_are_checked: has_ids;
    ids_end_with_their_file: has_ids;
    question_a: has_ids;
    question_b: |subject| subject.way() == "maps0";
    one_entry_of_2_mib: |subject| subject.way() == "fault_huge";
    descriptor_outlives_its_node: is_descriptor;
    descriptor_allows_what_its_node_does: is_descriptor;
    synchronises: is_descriptor;
    devices_take_it: is_descriptor;
    unbinding_revokes: |subject| subject.way() == "fault_pfn";
    unbinding_revokes_by_every_node: |subject| subject.way() == "fault_pfn";
    unbinding_waits: |subject| subject.way() == "vm_iomap_memory";
    ranges_that_are_not_reserved: |subject| subject.way() == "io_remap_pfn_range";
};

/// Those for a slow kernel.
pub const SHORT: &[&str] = &[
    "bytes_go_both_ways",
    "private_and_writable",
    "fork_shares_it",
    "split_and_moved",
    "unload_waits_for_the_last_mapping",
    "diagnose_finds_nothing",
    "freed_while_mapped",
    "descriptor_outlives_its_node",
    "devices_take_it",
    "unbinding_revokes",
    "unbinding_waits",
];

/// Those that older kernels cannot have: their other modules do not build there; drivers make no entry of 2 MiB before 6.15.
pub const OF_NEWER_KERNELS: &[&str] = &[
    "made_by_new_driver",
    "devices_take_it",
    "one_entry_of_2_mib",
];

fn all(_: &Subject) -> bool {
    true
}

fn has_ids(subject: &Subject) -> bool {
    subject.way() == "dma_mmap_coherent"
}

fn is_descriptor(subject: &Subject) -> bool {
    subject.way() == "dma_buf_exporter-descriptor"
}

/// An error that says what was seen.
fn wrong<T>(what: impl Into<String>) -> Result<T> {
    Err(Error::other(what.into()))
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, seen: T, wanted: T) -> Result<()> {
    if seen != wanted {
        return wrong(format!("{what}: {seen:?}, must be {wanted:?}"));
    }
    Ok(())
}

/// Whether something is refused with this error.
fn refused<T>(what: &str, result: Result<T>, wanted: i32) -> Result<()> {
    match result {
        Ok(_) => wrong(format!("{what}: not refused")),
        Err(error) => expect(what, errno(&error), wanted),
    }
}

/// A word that is different at every place.
fn pattern(byte: usize) -> u32 {
    (byte as u32).wrapping_mul(2_654_435_761) ^ 0x5eed_0001
}

/// The first and the last word of each page.
fn places(len: usize) -> impl Iterator<Item = usize> {
    (0..len)
        .step_by(PAGE)
        .flat_map(|page| [page, page + PAGE - 4])
}

fn fill(buffer: &Buffer) -> Result<()> {
    places(buffer.len).try_for_each(|byte| buffer.set_kernel_word(byte, pattern(byte)))
}

/// Whether a mapping shows the bytes of `fill` from a byte of the buffer on.
fn shows(map: &Map, from: usize) -> Result<()> {
    for byte in places(map.len()) {
        let what = format!("word at byte {byte} of the mapping");
        expect(&what, map.word(byte), pattern(from + byte))?;
    }
    Ok(())
}

fn new_memory_is_zero(subject: &Subject) -> Result<()> {
    let buffer = subject.open()?;
    let map = buffer.map()?;
    for byte in (0..buffer.len).step_by(4) {
        let wanted = if byte % PAGE == 0 {
            subject.starts_with
        } else {
            0
        };
        expect(&format!("word at byte {byte}"), map.word(byte), wanted)?;
    }
    Ok(())
}

fn bytes_go_both_ways(subject: &Subject) -> Result<()> {
    let buffer = subject.open()?;
    let (map, again) = (buffer.map()?, buffer.map()?);
    for byte in places(buffer.len) {
        map.set_word(byte, pattern(byte));
    }
    for byte in places(buffer.len) {
        let what = format!("the kernel's word at byte {byte}");
        expect(&what, buffer.kernel_word(byte)?, pattern(byte))?;
        buffer.set_kernel_word(byte, !pattern(byte))?;
    }
    for byte in places(buffer.len) {
        expect("what the kernel wrote", map.word(byte), !pattern(byte))?;
        expect("the same mapped again", again.word(byte), !pattern(byte))?;
    }
    // The kernel's view ends with the memory too.
    if !buffer.has_ids() {
        let end = buffer.len;
        expect("a read at the end", buffer.kernel_word(end).is_err(), true)?;
    }
    Ok(())
}

fn part_shows_its_bytes(subject: &Subject) -> Result<()> {
    let buffer = subject.open()?;
    fill(&buffer)?;
    let last = subject.pages - 1;
    for (first, pages) in [(0, 1), (3, 2), (1, last), (last, 1)] {
        let map = buffer.map_part(first as u64, pages, RW, SHARED)?;
        shows(&map, first * PAGE)?;
        map.set_word(0, 7);
        expect("the kernel", buffer.kernel_word(first * PAGE)?, 7)?;
        map.set_word(0, pattern(first * PAGE));
    }
    Ok(())
}

fn beyond_the_end_is_refused(subject: &Subject) -> Result<()> {
    let buffer = subject.open()?;
    let pages = subject.pages;
    let try_it = |first: usize, count: usize, error: i32| {
        let map = buffer.map_part(first as u64, count, RW, SHARED);
        refused(&format!("{count} pages from {first} on"), map, error)
    };
    try_it(0, pages + 1, subject.outside)?;
    if buffer.has_ids() {
        // The next offset is another id.
        return try_it(1, 1, libc::ENOENT);
    }
    try_it(1, pages, subject.outside)?;
    try_it(pages - 1, 2, subject.outside)?;
    try_it(pages, 1, subject.outside)?;
    try_it(pages + 1, 1, subject.outside)
}

fn offsets_do_not_wrap(subject: &Subject) -> Result<()> {
    let buffer = subject.open()?;
    let all_pages = u64::MAX / PAGE as u64;
    for (first, pages) in [
        (1 << 20, 1),
        (1 << 32, 1),
        (1 << 51, subject.pages),
        (all_pages - subject.pages as u64, subject.pages),
        (all_pages - 1, 1),
        (all_pages, 1),
    ] {
        for sharing in [SHARED, PRIVATE] {
            if let Ok(map) = buffer.map_part(first, pages, READ, sharing) {
                return wrong(format!(
                    "{pages} pages from {first:#x} on: mapped at {:#x}",
                    map.start()
                ));
            }
        }
    }
    Ok(())
}

fn private_read_only_cannot_be_written(subject: &Subject) -> Result<()> {
    let buffer = subject.open()?;
    fill(&buffer)?;
    let map = buffer.map_part(0, subject.pages, READ, PRIVATE)?;
    shows(&map, 0)?;
    match subject.private {
        Private::Refused => refused("mprotect", map.protect(RW), libc::EACCES),
        Private::Copies => {
            map.protect(RW)?;
            map.set_word(0, 1);
            expect("the kernel", buffer.kernel_word(0)?, pattern(0))
        }
    }
}

fn private_and_writable(subject: &Subject) -> Result<()> {
    let buffer = subject.open()?;
    fill(&buffer)?;
    let map = buffer.map_part(0, subject.pages, RW, PRIVATE);
    if subject.private == Private::Refused {
        refused("private and writable", map, libc::EINVAL)?;
        return refused("one page", buffer.map_part(0, 1, RW, PRIVATE), libc::EINVAL);
    }
    let map = map?;
    // The first page is read before it is written, the others are not.
    expect("the first word", map.word(0), pattern(0))?;
    for byte in places(buffer.len) {
        map.set_word(byte, 1);
    }
    for byte in places(buffer.len) {
        expect("the copy", map.word(byte), 1)?;
        expect("the original", buffer.kernel_word(byte)?, pattern(byte))?;
    }
    Ok(())
}

fn read_only_open(subject: &Subject) -> Result<()> {
    fill(&subject.open()?)?;
    let buffer = subject.open_for(false)?;
    // Memory that belongs to an open is another one, and new.
    let first = buffer.kernel_word(0)?;
    for sharing in [SHARED, PRIVATE] {
        let map = buffer.map_part(0, subject.pages, READ, sharing)?;
        expect("the first word", map.word(0), first)?;
    }
    let shared = buffer.map_part(0, 1, RW, SHARED);
    refused("shared and writable", shared, libc::EACCES)
}

fn outlives_close(subject: &Subject) -> Result<()> {
    let buffer = subject.open()?;
    fill(&buffer)?;
    let map = buffer.map()?;
    drop(buffer);
    shows(&map, 0)?;
    for byte in places(map.len()) {
        map.set_word(byte, !pattern(byte));
    }
    for byte in places(map.len()) {
        expect("what was written", map.word(byte), !pattern(byte))?;
    }
    Ok(())
}

fn fork_shares_it(subject: &Subject) -> Result<()> {
    let buffer = subject.open()?;
    fill(&buffer)?;
    let map = buffer.map()?;
    let status = sys::in_child(|| {
        // Touched by neither, and by both.
        let seen = shows(&map, 0).is_ok();
        map.set_word(0, 1);
        seen && map.unmap(PAGE, PAGE).is_ok() && map.word(2 * PAGE) == pattern(2 * PAGE)
    })?;
    expect("the child", status, 0)?;
    expect("the child's write", map.word(0), 1)?;
    expect("the kernel", buffer.kernel_word(0)?, 1)?;
    // What the child unmapped is still here.
    expect("the second page", map.word(PAGE), pattern(PAGE))?;
    drop(buffer);
    expect("after close", map.word(PAGE), pattern(PAGE))?;
    // A child that ends last holds it alone.
    let status = sys::in_child(|| {
        let well = map.word(3 * PAGE) == pattern(3 * PAGE);
        map.set_word(3 * PAGE, 3);
        well && map.word(3 * PAGE) == 3
    })?;
    expect("the second child", status, 0)
}

fn split_and_moved(subject: &Subject) -> Result<()> {
    let buffer = subject.open()?;
    fill(&buffer)?;
    let mut map = buffer.map()?;
    // Before it is touched, and after it was.
    map.relocate()?;
    shows(&map, 0)?;
    map.relocate()?;
    shows(&map, 0)?;
    drop(buffer);
    map.unmap(5 * PAGE, PAGE)?;
    map.unmap(0, PAGE)?;
    map.unmap(map.len() - PAGE, PAGE)?;
    for page in 1..subject.pages - 1 {
        if page != 5 {
            let what = format!("page {page} beside what was unmapped");
            expect(&what, map.word(page * PAGE), pattern(page * PAGE))?;
        }
    }
    Ok(())
}

fn cannot_grow(subject: &Subject) -> Result<()> {
    let buffer = subject.open()?;
    for pages in [1, subject.pages] {
        let mut map = buffer.map_part(0, pages, RW, SHARED)?;
        map.set_word(0, 1);
        refused("mremap", map.remap((pages + 1) * PAGE), libc::EFAULT)?;
    }
    Ok(())
}

fn dropped_pages(subject: &Subject) -> Result<()> {
    let buffer = subject.open()?;
    fill(&buffer)?;
    let map = buffer.map()?;
    shows(&map, 0)?;
    let dropped = map.advise(libc::MADV_DONTNEED);
    if subject.dropped == Dropped::Refused {
        refused("MADV_DONTNEED", dropped, libc::EINVAL)?;
        return shows(&map, 0);
    }
    dropped?;
    if subject.dropped == Dropped::ComesBack {
        return shows(&map, 0);
    }
    let status = sys::in_child(|| map.word(0) == pattern(0))?;
    expect("a touch", status, SIGBUS)
}

fn pinned(subject: &Subject) -> Result<()> {
    let buffer = subject.open()?;
    let map = buffer.map()?;
    match subject.private {
        Private::Copies => map.pin(),
        Private::Refused => refused("process_vm_readv", map.pin(), libc::EFAULT),
    }
}

fn unload_waits_for_the_last_mapping(subject: &Subject) -> Result<()> {
    let unload = || sys::unload(subject.module);
    let buffer = subject.open()?;
    refused("rmmod while it is open", unload(), libc::EWOULDBLOCK)?;
    let map = buffer.map()?;
    drop(buffer);
    refused("rmmod while it is mapped", unload(), libc::EWOULDBLOCK)?;
    let half = subject.pages / 2 * PAGE;
    map.unmap(0, half)?;
    refused("rmmod with a half of it", unload(), libc::EWOULDBLOCK)?;
    drop(map);
    // The last reference to a file is dropped when the system call returns.
    let mut last = None;
    let gone = sys::until(crate::grace(), || {
        last = unload().err();
        last.is_none()
    });
    expect(&format!("rmmod at the end ({last:?})"), gone, true)?;
    expect("the node", subject.path().is_ok_and(exists), false)
}

fn exists(path: String) -> bool {
    fs::exists(path).unwrap_or(true)
}

fn leaks_nothing(subject: &Subject) -> Result<()> {
    let free = || -> Result<u64> {
        let text = fs::read_to_string("/proc/meminfo")?;
        let line = text.lines().find_map(|line| line.strip_prefix("MemFree:"));
        let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        kib.ok_or_else(|| Error::other("/proc/meminfo has no MemFree"))
    };
    let cycle = || -> Result<()> {
        let buffer = subject.open()?;
        let map = buffer.map()?;
        for byte in places(map.len()) {
            map.set_word(byte, 1);
        }
        // The paths of errors as well.
        let _ = buffer.map_part(0, subject.pages + 1, RW, SHARED);
        let _ = buffer.map_part(1 << 51, 1, RW, SHARED);
        Ok(())
    };
    // Caches fill first.
    for _ in 0..10 {
        cycle()?;
    }
    let before = free()?;
    const CYCLES: u64 = 100;
    for _ in 0..CYCLES {
        cycle()?;
    }
    let lost = before.saturating_sub(free()?);
    let held = subject.pages as u64 * 4;
    // A leak of one buffer each time would be all of it; a quarter leaves room for what the kernel keeps for itself.
    if lost > CYCLES * held / 4 {
        return wrong(format!("{lost} KiB less after {CYCLES} times {held} KiB"));
    }
    Ok(())
}

/// Visits a driver as a program would, under `mapbuf diagnose`.
pub fn visit(subject: &Subject) -> Result<()> {
    let buffer = subject.open()?;
    let sharings: &[i32] = &[SHARED, PRIVATE];
    for &sharing in sharings {
        let map = buffer.map_part(0, subject.pages, READ, sharing)?;
        for byte in places(map.len()) {
            map.word(byte);
        }
    }
    let map = buffer.map()?;
    for byte in places(map.len()) {
        map.set_word(byte, 1);
    }
    Ok(())
}

fn diagnose_finds_nothing(subject: &Subject) -> Result<()> {
    let file = "/tmp/diagnosis.json";
    let _ = fs::remove_file(file);
    let itself = std::env::current_exe()?;
    let output = Command::new("mapbuf")
        .args(["diagnose", "--json", "--output", file, "--"])
        .arg(itself)
        .args(["--visit", subject.name])
        .stdin(Stdio::null())
        .output()?;
    let diagnosis = fs::read_to_string(file)
        .map_err(|error| Error::other(format!("{error}; {}", text(&output.stderr))))?;
    if !output.status.success() || diagnosis.contains("\"cause\"") {
        return wrong(format!("{}: {diagnosis}", output.status));
    }
    Ok(())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn freed_while_mapped(subject: &Subject) -> Result<()> {
    let buffer = subject.open()?;
    fill(&buffer)?;
    let map = buffer.map()?;
    sys::ioctl_value(&buffer.node, subjects::FREE, buffer.id())?;
    refused("mapped by its id", buffer.map(), libc::ENOENT)?;
    let again = sys::ioctl_value(&buffer.node, subjects::FREE, buffer.id());
    refused("freed again", again, libc::ENOENT)?;
    refused("read by its id", buffer.kernel_word(0), libc::ENOENT)?;
    // New memory is not this memory, and has the same id perhaps.
    for _ in 0..4 {
        let id = subjects::allocate(&buffer.node, buffer.len as u64)?;
        let offset = u64::from(id) * PAGE as u64;
        let other = Map::new(&buffer.mapped, offset, buffer.len, RW, SHARED)?;
        for byte in places(buffer.len) {
            expect("new memory", other.word(byte), 0)?;
            other.set_word(byte, 1);
        }
    }
    shows(&map, 0)?;
    // The mapping alone holds it, in a child as well, and in a half.
    drop(buffer);
    map.unmap(0, PAGE)?;
    let status = sys::in_child(|| map.word(2 * PAGE) == pattern(2 * PAGE))?;
    expect("the child", status, 0)?;
    expect("the third page", map.word(2 * PAGE), pattern(2 * PAGE))
}

fn arguments_are_checked(subject: &Subject) -> Result<()> {
    let buffer = subject.open()?;
    for bytes in [0, (4 << 20) + 1, u64::MAX, u64::MAX - 4095] {
        let id = subjects::allocate(&buffer.node, bytes);
        refused(&format!("{bytes} bytes"), id, libc::EINVAL)?;
    }
    let mut flagged = [0; 16];
    flagged[1] = 16;
    flagged[8] = 1;
    let id = sys::ioctl_bytes(&buffer.node, subjects::ALLOC, &mut flagged);
    refused("an unknown flag", id, libc::EINVAL)?;
    let nowhere = sys::ioctl_value(&buffer.node, subjects::ALLOC, 8);
    refused("an argument that is nowhere", nowhere, libc::EFAULT)?;
    let unknown = sys::ioctl_value(&buffer.node, 0x4d09, 0);
    refused("an unknown ioctl", unknown, libc::ENOTTY)?;
    refused(
        "the offset 0",
        Map::new(&buffer.mapped, 0, PAGE, RW, SHARED),
        libc::ENOENT,
    )?;
    // A byte is a page.
    let id = subjects::allocate(&buffer.node, 1)?;
    let offset = u64::from(id) * PAGE as u64;
    let map = Map::new(&buffer.mapped, offset, PAGE, RW, SHARED)?;
    expect("its last word", map.word(PAGE - 4), 0)?;
    let longer = Map::new(&buffer.mapped, offset, 2 * PAGE, RW, SHARED);
    refused("two pages of it", longer, subject.outside)?;
    // No more than there are ids.
    let mut last = Ok(0);
    for _ in 0..17 {
        last = subjects::allocate(&buffer.node, 1);
    }
    refused("one buffer too many", last, libc::EBUSY)
}

fn ids_end_with_their_file(subject: &Subject) -> Result<()> {
    let (one, other) = (subject.open()?, subject.open()?);
    one.set_kernel_word(0, 1)?;
    expect(
        "the other's buffer of the same id",
        other.kernel_word(0)?,
        0,
    )?;
    let id = one.id();
    drop(one);
    expect("the ids are the same", other.id(), id)?;
    expect("the other's after that", other.kernel_word(0)?, 0)
}

/// A driver that `cargo xtask new-driver` made, tried by the program that it made.
fn made_by_new_driver(subject: &Subject) -> Result<()> {
    let node = subject.path()?;
    // The device and the range are not for two.
    sys::unload(subject.module)?;
    let module = format!("new_{}", subject.module);
    sys::load(&crate::module_path(&module), subject.parameters)?;
    let tried = run(
        &format!("/drivers/{module}.try"),
        &[
            &node.replace("/dev/", "/dev/new_"),
            &(subject.pages * PAGE).to_string(),
        ],
    );
    sys::unload(&module)?;
    tried
}

/// A program of examples/c with the node.
fn program(name: &str, subject: &Subject) -> Result<()> {
    run(&format!("/examples/{name}"), &[&subject.path()?])
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()?;
    if !output.status.success() {
        return wrong(format!(
            "{}: {}{}",
            output.status,
            text(&output.stdout),
            text(&output.stderr)
        ));
    }
    Ok(())
}

fn question_a(subject: &Subject) -> Result<()> {
    program("coherent", subject)
}

fn question_b(subject: &Subject) -> Result<()> {
    program("question-b", subject)
}

fn one_entry_of_2_mib(subject: &Subject) -> Result<()> {
    let buffer = subject.open()?;
    let map = buffer.map()?;
    map.set_word(0, 1);
    let huge = |map: &Map| -> Result<Option<u64>> {
        let smaps = fs::read_to_string("/proc/self/smaps")?;
        let row = smaps.split_once(&format!("{:x}-", map.start()));
        let field = row.and_then(|(_, rest)| rest.split_once("FilePmdMapped:"));
        Ok(field.and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok()))
    };
    expect("KiB mapped by huge entries", huge(&map)?, Some(2048))?;
    // A part of it has small ones.
    let part = buffer.map_part(1, subject.pages - 1, RW, SHARED)?;
    part.set_word(0, 1);
    expect("the same of a part", huge(&part)?, Some(0))
}

fn descriptor_outlives_its_node(subject: &Subject) -> Result<()> {
    let buffer = subject.open()?;
    fill(&buffer)?;
    let Buffer {
        node, mapped, len, ..
    } = buffer;
    drop(node);
    let map = Map::new(&mapped, 0, len, RW, SHARED)?;
    shows(&map, 0)?;
    drop(mapped);
    shows(&map, 0)
}

fn descriptor_allows_what_its_node_does(subject: &Subject) -> Result<()> {
    let buffer = subject.open_for(false)?;
    let shared = buffer.map_part(0, 1, RW, SHARED);
    refused("shared and writable", shared, libc::EACCES)?;
    let map = buffer.map_part(0, 1, READ, SHARED)?;
    refused("mprotect", map.protect(RW), libc::EACCES)
}

/// `DMA_BUF_IOCTL_SYNC`, for reading and writing.
fn synchronise(file: &fs::File) -> Result<()> {
    /// Its argument is one number: read and write, begin or end.
    const SYNC: u32 = 0x4008_6200;
    for flags in [3_u64, 3 | 4] {
        sys::ioctl_bytes(file, SYNC, &mut flags.to_ne_bytes())?;
    }
    Ok(())
}

fn synchronises(subject: &Subject) -> Result<()> {
    let (_, file) = descriptor(subject)?;
    synchronise(&file)
}

/// A buffer's node, and the descriptor that it gave.
fn descriptor(subject: &Subject) -> Result<(Buffer, fs::File)> {
    let mut buffer = subject.open()?;
    let node = subjects::Mapped::Node(buffer.node.try_clone()?);
    match std::mem::replace(&mut buffer.mapped, node) {
        subjects::Mapped::Descriptor(fd) => Ok((buffer, fs::File::from(fd))),
        subjects::Mapped::Node(_) => wrong("no descriptor"),
    }
}

/// Two devices of another driver attach, and read through the addresses that they were given.
fn devices_take_it(subject: &Subject) -> Result<()> {
    const IMPORTER: &str = "mapbuf_importer";
    sys::load(&crate::module_path(IMPORTER), "")?;
    let taken = taken_by_devices(subject);
    sys::unload(IMPORTER)?;
    taken
}

fn taken_by_devices(subject: &Subject) -> Result<()> {
    // Of tests/importer/mapbuf_importer.c.
    const ATTACH: u32 = 0x4028_7401;
    const MAP: u32 = 0x7402;
    const UNMAP: u32 = 0x7403;
    const READ_WORD: u32 = 0xc010_7405;
    let (buffer, file) = descriptor(subject)?;
    fill(&buffer)?;
    let attach = || -> Result<fs::File> {
        let mut options = fs::OpenOptions::new();
        let importer = options
            .read(true)
            .write(true)
            .open("/dev/mapbuf-importer")?;
        let mut argument = [0; 40];
        argument[..4].copy_from_slice(&file.as_raw_fd().to_ne_bytes());
        sys::ioctl_bytes(&importer, ATTACH, &mut argument)?;
        Ok(importer)
    };
    let len = buffer.len;
    let sees = |importer: &fs::File| -> Result<()> {
        for byte in places(len) {
            let mut argument = [0; 16];
            // A word of eight bytes, of which one half is a word of ours.
            argument[..8].copy_from_slice(&(byte as u64 & !7).to_ne_bytes());
            sys::ioctl_bytes(importer, READ_WORD, &mut argument)?;
            let half = 8 + (byte & 4);
            let seen = argument[half..half + 4].try_into().map(u32::from_ne_bytes);
            expect("the device's word", seen.ok(), Some(pattern(byte)))?;
        }
        Ok(())
    };
    let (one, other) = (attach()?, attach()?);
    for importer in [&one, &other] {
        sys::ioctl_value(importer, MAP, 0)?;
        sees(importer)?;
    }
    synchronise(&file)?;
    sys::ioctl_value(&one, UNMAP, 0)?;
    sees(&other)?;
    synchronise(&file)?;
    sys::ioctl_value(&one, MAP, 0)?;
    sees(&one)?;
    drop(one);
    // An attachment alone keeps the memory.
    drop((buffer, file));
    sees(&other)
}

/// The driver's folder in sysfs, and the address of its device.
fn bound(subject: &Subject) -> Result<(String, String)> {
    let path = subject.path()?;
    let address = path.split_once('-').map(|(_, address)| address.to_owned());
    let address = address.ok_or_else(|| Error::other("a node without an address"))?;
    let folder = format!("/sys/bus/pci/drivers/{}", subject.module);
    Ok((folder, address))
}

fn unbinding_revokes(subject: &Subject) -> Result<()> {
    let (folder, address) = bound(subject)?;
    let buffer = subject.open()?;
    fill(&buffer)?;
    let (map, untouched) = (buffer.map()?, buffer.map()?);
    shows(&map, 0)?;
    fs::write(format!("{folder}/unbind"), &address)?;
    for one in [&map, &untouched] {
        let status = sys::in_child(|| one.word(0) == pattern(0))?;
        expect("a touch", status, SIGBUS)?;
    }
    refused("read", buffer.kernel_word(0), libc::ENODEV)?;
    refused("write", buffer.set_kernel_word(0, 1), libc::ENODEV)?;
    expect("the node", subject.path().is_ok(), false)?;
    let unload = sys::unload(subject.module);
    refused("rmmod while it is open", unload, libc::EWOULDBLOCK)?;
    // It comes back as another one, and what was revoked stays so.
    fs::write(format!("{folder}/bind"), &address)?;
    let again = subject.open()?;
    shows(&again.map()?, 0)?;
    let status = sys::in_child(|| map.word(0) == pattern(0))?;
    expect("a touch of the old mapping", status, SIGBUS)
}

/// All mappings are in the address space of the node that was opened first, which may be in a file system that goes.
fn unbinding_revokes_by_every_node(subject: &Subject) -> Result<()> {
    const ELSEWHERE: &str = "/tmp/elsewhere";
    let (folder, address) = bound(subject)?;
    fs::create_dir(ELSEWHERE)?;
    sys::mount_tmpfs(ELSEWHERE)?;
    let node = format!("{ELSEWHERE}/node");
    sys::make_node(&node, fs::metadata(subject.path()?)?.rdev())?;
    let len = subject.pages * PAGE;
    let other = {
        let file = fs::File::options().read(true).write(true).open(&node)?;
        Map::new(&file, 0, len, RW, SHARED)?
    };
    let map = subject.open()?.map()?;
    other.set_word(0, 7);
    expect("what the other node's mapping wrote", map.word(0), 7)?;
    fs::write(format!("{folder}/unbind"), &address)?;
    for one in [&other, &map] {
        let status = sys::in_child(|| one.word(0) == one.word(4))?;
        expect("a touch", status, SIGBUS)?;
    }
    drop((other, map));
    // Nothing is left of the device that could keep the file system.
    let unmounted = sys::until(crate::grace(), || sys::unmount(ELSEWHERE).is_ok());
    expect("unmounted", unmounted, true)?;
    fs::write(format!("{folder}/bind"), &address)?;
    // The same with the device bound: the file system stays as long as its node may be needed.
    sys::mount_tmpfs(ELSEWHERE)?;
    sys::make_node(&node, fs::metadata(subject.path()?)?.rdev())?;
    drop(fs::File::open(&node)?);
    let unmounted = sys::unmount(ELSEWHERE);
    refused("unmounting what the device uses", unmounted, libc::EBUSY)?;
    fs::write(format!("{folder}/unbind"), &address)?;
    let unmounted = sys::until(crate::grace(), || sys::unmount(ELSEWHERE).is_ok());
    expect("unmounted", unmounted, true)?;
    fs::remove_dir(ELSEWHERE)?;
    fs::write(format!("{folder}/bind"), &address)
}

fn unbinding_waits(subject: &Subject) -> Result<()> {
    let (folder, address) = bound(subject)?;
    let buffer = subject.open()?;
    fill(&buffer)?;
    let map = buffer.map()?;
    drop(buffer);
    let mut unbinder = Command::new("sh")
        .args(["-c", &format!("echo {address} > {folder}/unbind")])
        .spawn()?;
    // The node goes at once; the device stays.
    let closed = sys::until(crate::grace(), || subject.path().is_err());
    expect("the node is gone", closed, true)?;
    std::thread::sleep(Duration::from_millis(300));
    expect("unbound", unbinder.try_wait()?.is_some(), false)?;
    shows(&map, 0)?;
    drop(map);
    let status = unbinder.wait()?;
    expect("unbinding", status.success(), true)?;
    fs::write(format!("{folder}/bind"), &address)?;
    shows(&subject.open()?.map()?, 0)
}

fn ranges_that_are_not_reserved(subject: &Subject) -> Result<()> {
    sys::unload(subject.module)?;
    let cases = [
        ("", libc::EINVAL),
        ("start=0x30000000", libc::EINVAL),
        ("start=0x30000010 bytes=0x10000", libc::EINVAL),
        ("start=0x30000000 bytes=0x10010", libc::EINVAL),
        ("start=0xfffffffffffff000 bytes=0x2000", libc::EINVAL),
        // Memory that the kernel uses, and a place in the machine where there is nothing.
        ("start=0x10000000 bytes=0x10000", libc::EBUSY),
        ("start=0x90000000 bytes=0x10000", libc::ENODEV),
    ];
    for (parameters, error) in cases {
        let path = crate::module_path(subject.module);
        let loaded = sys::load(&path, parameters);
        let undone = loaded.is_err() || sys::unload(subject.module).is_ok();
        expect("unloaded again", undone, true)?;
        refused(parameters, loaded, error)?;
    }
    // What was refused has left nothing reserved.
    sys::load(&crate::module_path(subject.module), subject.parameters)?;
    subject.open()?.map().map(drop)
}

/// How many checks there are of each driver: for the list.
pub fn pairs() -> Vec<(&'static Subject, &'static Check)> {
    let mut seen = BTreeMap::new();
    let mut pairs = Vec::new();
    for subject in subjects::SUBJECTS {
        for check in CHECKS.iter().filter(|check| (check.meant_for)(subject)) {
            debug_assert!(seen.insert((subject.name, check.name), ()).is_none());
            pairs.push((subject, check));
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_chosen_by_name_is_there() {
        for name in SHORT.iter().chain(OF_NEWER_KERNELS) {
            assert!(CHECKS.iter().any(|check| check.name == *name), "{name}");
        }
    }
}
