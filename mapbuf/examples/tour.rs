//! A tour of the library: every step checks what it shows, and the program fails when one does not hold.
//!
//! ```text
//! cargo build --example tour --target x86_64-unknown-linux-gnu --config \
//!     'target.x86_64-unknown-linux-gnu.rustflags=["-C", "target-feature=+crt-static"]'
//! cargo xtask vm --copy target/x86_64-unknown-linux-gnu/debug/examples/tour -- /root/tour
//! ```

use mapbuf::{
    sysfs, Access, AllocOptions, CoreRefusal, Device, Kind, MapOptions, NameOptions, Named, Reason,
};
use std::{error::Error, process::ExitCode, thread};

const KIB: usize = 1 << 10;
const NAME: &str = "tour";

/// A step, which says what does not hold.
type Step = fn() -> Result<(), Box<dyn Error>>;

fn main() -> ExitCode {
    let steps: &[(&str, Step)] = &[
        ("two views of one buffer", two_views),
        ("whatever is dropped first", dropping),
        ("a part of a buffer", part),
        ("private copies", private),
        ("one mapping, many threads", threads),
        ("a buffer with a name", named),
        ("a descriptor for others", export),
        ("refusals say why", refusals),
        ("slices, for those who can promise", slices),
    ];
    let mut failed = 0;
    for (what, step) in steps {
        match step() {
            Ok(()) => println!("ok      {what}"),
            Err(error) => {
                println!("FAILED  {what}: {error}");
                failed += 1;
            }
        }
    }
    ExitCode::from(failed)
}

/// Fails a step unless something holds.
fn check(holds: bool, what: &str) -> Result<(), Box<dyn Error>> {
    match holds {
        true => Ok(()),
        false => Err(format!("not so: {what}").into()),
    }
}

fn two_views() -> Result<(), Box<dyn Error>> {
    let device = Device::open()?;
    for kind in [Kind::Vmalloc, Kind::Pages, Kind::Contiguous, Kind::Coherent] {
        let buffer = device.alloc(kind, 64 << 10)?;
        let memory = buffer.map()?;
        check(
            memory.to_vec().iter().all(|byte| *byte == 0),
            "new memory is zero",
        )?;

        // The mapping, then the kernel's own view of the same bytes.
        memory.write(4096, 0xaabb_ccdd_u32)?;
        let mut bytes = [0; 4];
        buffer.read_at(4096, &mut bytes)?;
        check(
            u32::from_ne_bytes(bytes) == 0xaabb_ccdd,
            "the kernel sees what was written",
        )?;
        buffer.write_at(8191, b"x")?;
        check(memory.read::<u8>(8191)? == b'x', "and the other way round")?;
    }
    Ok(())
}

fn dropping() -> Result<(), Box<dyn Error>> {
    let device = Device::open()?;
    let buffer = device.alloc(Kind::Pages, 1 << 20)?;
    let memory = buffer.map()?;
    memory.copy_in(0, b"still here")?;
    // The id goes, then the session; the memory is the mapping's.
    drop(buffer);
    check(
        device.session()?.freed_held == 1,
        "the driver counts it as held",
    )?;
    drop(device);
    let mut bytes = [0; 10];
    memory.copy_out(0, &mut bytes)?;
    check(&bytes == b"still here", "the bytes are there")
}

fn part() -> Result<(), Box<dyn Error>> {
    let device = Device::open()?;
    let buffer = device.alloc(Kind::Vmalloc, 64 << 10)?;
    buffer.write_at(20 << 10, b"in the sixth page")?;
    let memory = MapOptions::new()
        .offset(20 << 10)
        .len(4 * KIB)
        .read_only()
        .map(&buffer)?;
    let mut bytes = [0; 17];
    memory.copy_out(0, &mut bytes)?;
    check(&bytes == b"in the sixth page", "the part starts there")?;
    check(memory.read::<u8>(4 * KIB).is_err(), "and ends after a page")
}

fn private() -> Result<(), Box<dyn Error>> {
    let device = Device::open()?;
    let buffer = device.alloc(Kind::Vmalloc, 64 << 10)?;
    let shared = buffer.map()?;
    let mut copy = MapOptions::new().private().map(&buffer)?;
    copy.write(0, 1_u8)?;
    check(
        shared.read::<u8>(0)? == 0,
        "what is written privately stays private",
    )?;
    copy.protect(Access::ReadOnly)?;
    copy.protect(Access::ReadWrite)?;

    let mut never = MapOptions::new().private().read_only().map(&buffer)?;
    let refused = never.protect(Access::ReadWrite).err();
    check(
        refused.as_ref().and_then(|error| error.core_refusal())
            == Some(&CoreRefusal::NeverWritable),
        "private and read-only stays read-only",
    )
}

fn threads() -> Result<(), Box<dyn Error>> {
    let memory = Device::open()?.alloc(Kind::Contiguous, 64 << 10)?.map()?;
    // Each writes its own quarter; see the crate's documentation for what that needs.
    thread::scope(|scope| {
        for quarter in 0..4_u8 {
            let memory = &memory;
            scope
                .spawn(move || memory.fill(usize::from(quarter) * 16 * KIB, 16 * KIB, quarter + 1));
        }
    });
    let bytes = memory.to_vec();
    let expected = |at: usize| u8::try_from(at / (16 * KIB) + 1).ok();
    let right = bytes
        .iter()
        .enumerate()
        .all(|(at, byte)| Some(*byte) == expected(at));
    check(right, "each quarter has its thread's byte")
}

fn named() -> Result<(), Box<dyn Error>> {
    let buffer = AllocOptions::new(Kind::Vmalloc, 64 << 10).alloc(&Device::open()?)?;
    buffer.write_at(0, b"known by name")?;
    NameOptions::new(NAME).mode(0o640).name(&buffer)?;
    drop(buffer);

    let result = use_named();
    let device = Device::open()?;
    device.unname(NAME)?;
    result?;
    check(sysfs::entry(NAME).is_err(), "the name is gone")
}

fn use_named() -> Result<(), Box<dyn Error>> {
    let named = Named::open_with(NAME, Access::ReadOnly)?;
    let memory = MapOptions::new().private().map(&named)?;
    drop(named);
    let mut bytes = [0; 13];
    memory.copy_out(0, &mut bytes)?;
    check(
        &bytes == b"known by name",
        "the bytes are those of the name",
    )?;
    let entry = sysfs::entry(NAME)?;
    check(
        entry.kind == Kind::Vmalloc && entry.bytes == 64 << 10,
        "sysfs knows it",
    )?;
    check(
        entry.mappings.is_none_or(|count| count == 1),
        "and that it is mapped once",
    )?;
    check(
        entry.node.is_some_and(|node| node.mode == 0o640),
        "and its node has the mode",
    )
}

fn export() -> Result<(), Box<dyn Error>> {
    let buffer = Device::open()?.alloc(Kind::Coherent, 64 << 10)?;
    buffer.write_at(0, b"to whom it may concern")?;
    let export = buffer.export()?;
    drop(buffer);
    check(export.len() == 64 << 10, "it knows its size")?;
    let mut bytes = [0; 22];
    export.map()?.copy_out(0, &mut bytes)?;
    check(&bytes == b"to whom it may concern", "the bytes are there")?;
    let too_long = MapOptions::new()
        .offset(4096)
        .len(64 * KIB)
        .map(&export)
        .err();
    let refusal = too_long.as_ref().and_then(|error| error.core_refusal());
    check(
        matches!(refusal, Some(CoreRefusal::BeyondExport { .. })),
        "a mapping beyond its end is refused by the kernel's core",
    )
}

fn refusals() -> Result<(), Box<dyn Error>> {
    let device = Device::open()?;
    let buffer = device.alloc(Kind::Vmalloc, 64 << 10)?;
    let error = match MapOptions::new().offset(4096).len(64 * KIB).map(&buffer) {
        Ok(_) => return Err("a mapping beyond the end was made".into()),
        Err(error) => error,
    };
    check(
        error.reason() == Some(Reason::BeyondEnd),
        "the driver says why",
    )?;
    check(
        error.to_string()
            == "mmap was refused: 65536 bytes from byte 4096 would run past the end of the buffer at 65536; \
                map no more than what lies between the offset and the end of the buffer (EINVAL, BeyondEnd)",
        "in words",
    )?;
    // The same errno for another cause: never explained by the reason above.
    let error = device
        .map_at(buffer.mmap_offset() + 1, 4096, &MapOptions::new())
        .err();
    check(
        matches!(
            error.as_ref().and_then(|error| error.core_refusal()),
            Some(CoreRefusal::UnalignedOffset { .. })
        ),
        "an unaligned offset is the kernel's refusal, not the driver's",
    )?;
    let mut memory = buffer.map()?;
    let grown = memory.resize(128 * KIB).err();
    check(
        matches!(
            grown.as_ref().and_then(|error| error.core_refusal()),
            Some(CoreRefusal::NoGrowth { .. })
        ),
        "mappings do not grow",
    )?;
    memory.resize(4 * KIB)?;
    check(
        memory.read::<u8>(4 * KIB).is_err() && memory.read::<u8>(4 * KIB - 1)? == 0,
        "but shrink",
    )
}

fn slices() -> Result<(), Box<dyn Error>> {
    let mut memory = Device::open()?.alloc(Kind::Pages, 64 << 10)?.map()?;
    // SAFETY: the buffer's id is gone, so this mapping is the only view of it that anybody has.
    let bytes = unsafe { memory.as_mut_slice() }?;
    bytes.fill(7);
    // SAFETY: as above, and the slice before is not used any more.
    let bytes = unsafe { memory.as_slice() };
    check(bytes.iter().all(|byte| *byte == 7), "an ordinary slice")
}
