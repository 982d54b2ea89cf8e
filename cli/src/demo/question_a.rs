//! Question A: a node that makes itself, a size that the user asks for, a buffer found by its id.

use super::{
    frames,
    kinds::{is_nobody, reason_of, shown, word},
    scene::{Demo, Outcome},
};
use mapbuf::{
    abi::{self, Alloc, ANY_NODE, MAX_IDS, SYSTEM_NODE},
    raw, sysfs, Access, AllocOptions, Buffer, Cache, Device, Kind, LastError, MapOptions, Method,
    Reason,
};
use procfs::process::Process;
use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
};

/// The node is a char device, and the kernel made it.
pub fn node(demo: &mut Demo) -> Outcome {
    let metadata = fs::metadata(SYSTEM_NODE)?;
    let number = (
        rustix::fs::major(metadata.rdev()),
        rustix::fs::minor(metadata.rdev()),
    );
    demo.check(
        &["A1"],
        metadata.file_type().is_char_device(),
        &format!("{SYSTEM_NODE} is a char device"),
    );
    let (major, minor) = sysfs::device_number("system")?;
    let text = format!("its number is the one that sysfs says: {major}:{minor}");
    demo.check(&["A1"], number == (major, minor), &text);

    // devtmpfs is where the kernel itself makes nodes; the uevent carries the name that it used.
    let uevent = fs::read_to_string(Path::new(abi::SYSFS_CLASS).join("system/uevent"))?;
    let named = uevent.lines().any(|line| line == "DEVNAME=mapbuf/system");
    let devtmpfs = Process::myself()?
        .mountinfo()?
        .into_iter()
        .any(|mount| mount.mount_point == Path::new("/dev") && mount.fs_type == "devtmpfs");
    let text = match devtmpfs {
        true => "the kernel made it (devtmpfs), and announced it by this name",
        false => "the kernel announced it by this name",
    };
    demo.check(&["A1"], named, text);
    demo.stage.line(&format!(
        "   mode {:04o}, user {}, group {}",
        metadata.mode() & 0o7777,
        metadata.uid(),
        metadata.gid()
    ));
    Ok(())
}

/// Buffers of sizes that a user may ask for.
pub fn sizes(demo: &mut Demo) -> Outcome {
    let device = Device::open()?;
    let page = u64::from(device.query()?.page_size);
    let mut right = true;
    let mut shown = Vec::new();
    for bytes in [1, page - 1, page, page + 1, 5 * page, (1 << 20) + 1] {
        let buffer = device.alloc(Kind::Vmalloc, bytes)?;
        let mapping = buffer.map()?;
        let last = mapping.len() - 1;
        mapping.write(last, 0x5a_u8)?;
        right &= buffer.len() == bytes.next_multiple_of(page)
            && mapping.len() as u64 == buffer.len()
            && mapping.read::<u8>(0)? == 0
            && mapping.read::<u8>(last)? == 0x5a;
        shown.push(bytes.to_string());
    }
    let text = format!("6 sizes, each usable to its last byte: {}", shown.join(" "));
    demo.check(&["A2"], right, &text);
    Ok(())
}

/// Every argument of ALLOC, wrong one at a time.
pub fn arguments(demo: &mut Demo) -> Outcome {
    let device = Device::open()?;
    let taken = device.alloc(Kind::Coherent, 1)?;
    let good = Alloc {
        size: size_of::<Alloc>() as u32,
        bytes: 4096,
        kind: Kind::Coherent.number(),
        numa_node: ANY_NODE,
        ..Alloc::default()
    };
    let cases = [
        (Reason::StructTooShort, Alloc { size: 8, ..good }),
        (
            Reason::UnknownFlags,
            Alloc {
                flags: 1 << 31,
                ..good
            },
        ),
        (
            Reason::ReservedNotZero,
            Alloc {
                reserved: 1,
                ..good
            },
        ),
        (Reason::ZeroBytes, Alloc { bytes: 0, ..good }),
        (
            Reason::TooManyBytes,
            Alloc {
                bytes: u64::MAX,
                ..good
            },
        ),
        (Reason::UnknownKind, Alloc { kind: 99, ..good }),
        (Reason::UnknownCache, Alloc { cache: 99, ..good }),
        (
            Reason::NoSuchNode,
            Alloc {
                numa_node: 1 << 20,
                ..good
            },
        ),
        (
            Reason::IdTooLarge,
            Alloc {
                id: MAX_IDS,
                ..good
            },
        ),
        (
            Reason::IdInUse,
            Alloc {
                id: taken.id(),
                ..good
            },
        ),
    ];
    let mut wrong = Vec::new();
    for (expected, request) in &cases {
        let (reason, errno) = refusal_of(&device, *request)?;
        if reason != Some(*expected) || errno != Some(expected.errno()) {
            wrong.push(format!("{}: {reason:?}", expected.name()));
        }
    }
    let text = match wrong.is_empty() {
        true => format!(
            "{} wrong arguments of ALLOC, {} reasons for a refusal",
            cases.len(),
            cases.len()
        ),
        false => format!(
            "wrong arguments not refused as they should be: {}",
            wrong.join(", ")
        ),
    };
    demo.check(&["A3"], wrong.is_empty(), &text);

    let unreadable = unreadable(&device)?;
    demo.check(
        &["A3"],
        unreadable,
        "an argument at an address that nobody can read is EFAULT",
    );

    let wanted = taken.id() + 41;
    let mut request = Alloc { id: wanted, ..good };
    let given = raw::call(&device, &mut request).is_ok() && request.id == wanted;
    demo.check(
        &["A3"],
        given,
        &format!("coherent memory under the id that was asked for: {wanted}"),
    );
    Ok(())
}

/// The driver's reason and the errno for a request.
fn refusal_of(
    device: &Device,
    mut request: Alloc,
) -> mapbuf::Result<(Option<Reason>, Option<i32>)> {
    let before = device.last_error()?.sequence;
    let Err(error) = raw::call(device, &mut request) else {
        return Ok((None, None));
    };
    let last: LastError = device.last_error()?;
    let reason = (last.sequence > before)
        .then(|| Reason::from_number(last.reason))
        .flatten();
    Ok((reason, error.raw_os_error()))
}

fn unreadable(device: &Device) -> mapbuf::Result<bool> {
    use rustix::{io::Errno, ioctl::IntegerSetter};
    // SAFETY: the opcode is the driver's, and takes an address.
    let null = unsafe { IntegerSetter::<{ abi::ioctl::ALLOC }>::new_usize(0) };
    // SAFETY: that address is null, so the driver finds nothing of ours to read or write there.
    let result = unsafe { rustix::ioctl::ioctl(device, null) };
    Ok(result == Err(Errno::FAULT)
        && Reason::from_number(device.last_error()?.reason) == Some(Reason::BadAddress))
}

/// Where an id is mapped.
fn id_offset(id: u32) -> u64 {
    u64::from(id) * rustix::param::page_size() as u64
}

/// Several buffers, so that finding the right one means something.
pub fn by_id(demo: &mut Demo) -> Outcome {
    let device = Device::open()?;
    let page = rustix::param::page_size();
    let mut buffers = Vec::new();
    for number in 0..4 {
        let buffer = device.alloc(Kind::Coherent, 64 << 10)?;
        buffer.write_at(0, &word(0xa4, number).to_ne_bytes())?;
        buffers.push(buffer);
    }
    let mut right = true;
    for (number, buffer) in buffers.iter().enumerate() {
        let len = usize::try_from(buffer.len())?;
        let both = device.map_at(id_offset(buffer.id()), len, &MapOptions::new())?;
        let read = device.map_at(id_offset(buffer.id()), len, &MapOptions::new().read_only())?;
        right &= both.read::<u32>(0)? == word(0xa4, number);
        both.write(len - 4, word(0x4a, number))?;
        right &= read.read::<u32>(len - 4)? == word(0x4a, number);
    }
    demo.check(
        &["A4"],
        right,
        "4 buffers found by id << PAGE_SHIFT, to write and to read",
    );
    let nothing = reason_of(device.map_at(id_offset(MAX_IDS - 1), page, &MapOptions::new()));
    let text = format!("an id that nobody has is refused: {}", shown(nothing));
    demo.check(&["A4"], is_nobody(nothing), &text);
    Ok(())
}

/// The small user program, from end to end: open, ALLOC, mmap at `id << PAGE_SHIFT`, write, read, check, free.
pub fn program(demo: &mut Demo) -> Outcome {
    const BYTES: usize = 64 << 10;
    let device = Device::open()?;
    let buffer = device.alloc(Kind::Coherent, BYTES as u64)?;
    let mapping = device.map_at(id_offset(buffer.id()), BYTES, &MapOptions::new())?;
    for at in (0..BYTES).step_by(4) {
        mapping.write(at, word(0xa11, at))?;
    }
    let mut held = true;
    for at in (0..BYTES).step_by(4) {
        held &= mapping.read::<u32>(at)? == word(0xa11, at);
    }
    // The kernel's view of all of it, by one read.
    let mut bytes = vec![0; BYTES];
    buffer.read_at(0, &mut bytes)?;
    held &= bytes
        .chunks_exact(4)
        .zip((0..BYTES).step_by(4))
        .all(|(bytes, at)| bytes == word(0xa11, at).to_ne_bytes());
    drop(mapping);
    buffer.free()?;
    let text = format!(
        "open, ALLOC, mmap, {} words written and checked, FREE",
        BYTES / 4
    );
    demo.check(&["A11"], held, &text);
    demo.stage
        .line("   (the same in C: examples/c/question-a.c)");
    Ok(())
}

/// Coherent memory, mapped by `dma_mmap_coherent` itself.
pub fn by_dma(demo: &mut Demo) -> Outcome {
    let device = Device::open()?;
    if device.query()?.methods.contains(&Method::Dma) {
        let buffer = device.alloc(Kind::Coherent, 64 << 10)?;
        let held = both_views(&buffer, Method::Dma)?;
        demo.check(
            &["A6"],
            held,
            "coherent memory by dma_mmap_coherent: both views agree",
        );
    }
    Ok(())
}

/// Uncached memory, mapped by `remap_pfn_range`.
pub fn uncached(demo: &mut Demo) -> Outcome {
    let device = Device::open()?;
    let options = AllocOptions::new(Kind::Contiguous, 64 << 10).cache(Cache::Uncached);
    let buffer = match options.alloc(&device) {
        Ok(buffer) => buffer,
        Err(error) if error.reason() == Some(Reason::CacheRefused) => {
            demo.not_yet("A5", &error.to_string());
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    let text = "uncached memory by remap_pfn_range: both views agree";
    let held = both_views(&buffer, Method::Remap)?;
    demo.check(&["A5"], held, text);
    let Some(frame) = frames::first(&buffer.segments()?) else {
        demo.not_yet(
            "A5",
            "its frames are shown to root alone: see what the kernel calls them",
        );
        return Ok(());
    };
    // The entries of a mapping take over what the kernel has noted of the frame (`pfnmap_setup_cachemode`).
    let noted = frames::cache_of(frame);
    let text = format!(
        "the kernel itself has the frame as {}",
        frames::shown(noted)
    );
    demo.check(&["A5"], noted == Some(Cache::Uncached), &text);
    let private = MapOptions::new()
        .private()
        .method(Method::Remap)
        .map(&buffer);
    demo.check(
        &["A5"],
        reason_of(private) == Some(Reason::CowNeedsCached),
        "a private copy would be cached, and is refused: CowNeedsCached",
    );
    buffer.free()?;
    let noted = frames::cache_of(frame);
    let text = format!("and after it was freed, as {}", frames::shown(noted));
    demo.check(&["A5"], noted == Some(Cache::Cached), &text);
    Ok(())
}

/// Whether a mapping by this method shows what the kernel sees, both ways, in every page.
fn both_views(buffer: &Buffer, method: Method) -> mapbuf::Result<bool> {
    let page = rustix::param::page_size();
    let mapping = MapOptions::new().method(method).map(buffer)?;
    let mut held = true;
    for number in 0..mapping.len() / page {
        let (at, mut bytes) = (number * page, [0; 4]);
        mapping.write(at, word(0xd3a, number))?;
        buffer.read_at(at as u64, &mut bytes)?;
        held &= u32::from_ne_bytes(bytes) == word(0xd3a, number);
        buffer.write_at(at as u64, &word(0xa3d, number).to_ne_bytes())?;
        held &= mapping.read::<u32>(at)? == word(0xa3d, number);
    }
    Ok(held)
}

/// Freeing twice, freeing what is exported, freeing by closing.
pub fn frees(demo: &mut Demo) -> Outcome {
    let device = Device::open()?;
    let page = rustix::param::page_size();
    let first = device.alloc(Kind::Pages, 1)?;
    let second = device.adopt(first.id())?;
    first.free()?;
    let twice = reason_of(second.free());
    demo.check(
        &["A10"],
        twice == Some(Reason::NoSuchId),
        "freed twice: refused, NoSuchId",
    );

    let exported = device.alloc(Kind::Contiguous, page as u64)?;
    exported.write_at(0, b"exported")?;
    let export = exported.export()?;
    exported.free()?;
    let mut bytes = [0; 8];
    export.map()?.copy_out(0, &mut bytes)?;
    demo.check(
        &["A10"],
        &bytes == b"exported",
        "freed while exported: the dma-buf has the bytes",
    );
    drop(export);

    let observer = Device::open_with(SYSTEM_NODE, Access::ReadOnly)?;
    let before = observer.query()?;
    let session = Device::open()?;
    let left = session.alloc(Kind::Vmalloc, 1 << 20)?.into_id();
    let during = observer.query()?;
    drop(session);
    let after = observer.query()?;
    let right = left != 0
        && during.buffers == before.buffers + 1
        && during.used_bytes == before.used_bytes + (1 << 20)
        && (after.buffers, after.used_bytes) == (before.buffers, before.used_bytes);
    demo.check(
        &["A10"],
        right,
        "not freed, but the session closed: the memory is back",
    );
    Ok(())
}
