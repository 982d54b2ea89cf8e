//! Question B: vmalloc'd pages, read-only and private.

use super::{
    frames::{self, Page},
    kinds::{alloc_scattered, reason_of},
    scene::{Demo, Outcome},
};
use mapbuf::{Access, CoreRefusal, Device, MapOptions, Method, NameOptions, Named, Reason};

const PAGES: usize = 16;
const BYTES: [u8; 4] = [0xdd, 0xcc, 0xbb, 0xaa];
/// Those bytes, read as one number by a little-endian machine.
const WORD: u32 = 0xaabb_ccdd;

/// A read-only descriptor, `PROT_READ`, `MAP_PRIVATE`.
pub fn program(demo: &mut Demo) -> Outcome {
    let (name, segments) = named()?;
    let text = format!(
        "{PAGES} pages in {} runs; dd cc bb aa at the start of each",
        segments.len()
    );
    demo.check(&["B1"], segments.len() > 1, &text);
    let result = read_named(demo, &name, &segments);
    // Whatever happened, the name must not stay.
    Device::open()?.unname(&name)?;
    Ok(result?)
}

/// The program of the question, as it stands, closes the descriptor before it reads the first byte. Here there is no
/// name, no id and no session any more either.
pub fn outlives(demo: &mut Demo) -> Outcome {
    let (name, _) = named()?;
    let mapping = Named::open_with(&name, Access::ReadOnly)
        .and_then(|named| MapOptions::new().read_only().private().map(&named));
    Device::open()?.unname(&name)?;
    let right = count(&words(&mapping?)?);
    let text = format!("mapped, closed, its name removed, then read: {right} of {PAGES}");
    demo.check(&["B3"], right == PAGES, &text);
    Ok(())
}

/// A named buffer of scattered pages, which no session has: its name, and where it lies.
fn named() -> mapbuf::Result<(String, Vec<mapbuf::Segment>)> {
    let name = format!("demo-{}", rustix::process::getpid().as_raw_nonzero());
    let device = Device::open()?;
    let buffer = filled(&device)?;
    let segments = buffer.segments()?;
    NameOptions::new(&name).mode(0o444).name(&buffer)?;
    Ok((name, segments))
}

/// 16 scattered pages with the question's bytes at the start of each.
fn filled(device: &Device) -> mapbuf::Result<mapbuf::Buffer> {
    let page = rustix::param::page_size();
    let buffer = alloc_scattered(device, (PAGES * page) as u64)?;
    let mut bytes = vec![0; PAGES * page];
    for start in bytes.chunks_exact_mut(page) {
        start[..BYTES.len()].copy_from_slice(&BYTES);
    }
    // All but the first word by one write, which so begins within a page and passes 15 edges of pages.
    let (first, rest) = bytes.split_at(BYTES.len());
    buffer.write_at(0, first)?;
    buffer.write_at(first.len() as u64, rest)?;
    Ok(buffer)
}

fn read_named(demo: &mut Demo, name: &str, segments: &[mapbuf::Segment]) -> mapbuf::Result<()> {
    let named = Named::open_with(name, Access::ReadOnly)?;
    let mapping = MapOptions::new().read_only().private().map(&named)?;
    demo.check(
        &["B4"],
        true,
        &format!("read-only open, PROT_READ, MAP_PRIVATE of {}", name),
    );
    let right = count(&words(&mapping)?);
    demo.check(
        &["B2"],
        right == PAGES,
        &format!("read: {right} of {PAGES} pages are {WORD:#x}"),
    );
    if let Some((agree, pages)) = frames::agreement(&mapping, segments, 0) {
        demo.check(
            &["B1"],
            agree == pages,
            &format!("each page lies on its own frame: {agree} of {pages}"),
        );
    }
    Ok(())
}

/// How many words are the question's.
fn count(words: &[u32]) -> usize {
    words.iter().filter(|word| **word == WORD).count()
}

fn words(mapping: &mapbuf::Mapping) -> mapbuf::Result<Vec<u32>> {
    (0..PAGES)
        .map(|number| {
            mapping
                .read::<u32>(number * rustix::param::page_size())
                .map(u32::from_le)
        })
        .collect()
}

/// `MAP_SHARED`; single pages, private; private, and never writable. And faults, where they can be seen.
pub fn ways_out(demo: &mut Demo) -> Outcome {
    let page = rustix::param::page_size();
    let device = Device::open()?;
    let buffer = filled(&device)?;

    let shared = MapOptions::new().read_only().map(&buffer)?;
    demo.check(
        &["B5"],
        words(&shared)? == [WORD; PAGES],
        "first way: MAP_SHARED",
    );

    let mut single = true;
    for number in 0..PAGES {
        let one = MapOptions::new()
            .offset((number * page) as u64)
            .len(page)
            .private()
            .map(&buffer)?;
        one.write(4, 0x1234_5678_u32)?;
        single &=
            one.read::<u32>(0)?.to_le() == WORD && shared.read::<u32>(number * page + 4)? == 0;
    }
    demo.check(
        &["B5"],
        single,
        "second way: single pages, private and writable",
    );

    let mut private = MapOptions::new().read_only().private().map(&buffer)?;
    let reads = words(&private)? == [WORD; PAGES];
    let refused = private.protect(Access::ReadWrite);
    let never = matches!(
        refused.as_ref().map_err(mapbuf::Error::core_refusal),
        Err(Some(CoreRefusal::NeverWritable))
    );
    demo.check(
        &["B5"],
        reads && never,
        "third way: private, never writable (mprotect: EACCES)",
    );

    let writable = MapOptions::new().private().map(&buffer)?;
    let reads = words(&writable)? == [WORD; PAGES];
    writable.fill(0, writable.len(), 0xee)?;
    let private = words(&shared)? == [WORD; PAGES];
    demo.check(
        &["B5"],
        reads && private,
        "by faults even all 16 private and writable, copied on write",
    );
    Ok(())
}

/// The question's own mistake: page by page with `remap_pfn_range`, private and writable.
pub fn failing_case(demo: &mut Demo) -> Outcome {
    let device = Device::open()?;
    let buffer = filled(&device)?;
    let reason = reason_of(
        MapOptions::new()
            .private()
            .method(Method::RemapEach)
            .map(&buffer),
    );
    let text = "remap-each, private, writable: mmap says CowNeedsContiguous";
    demo.check(&["B5"], reason == Some(Reason::CowNeedsContiguous), text);
    let shared = MapOptions::new().method(Method::RemapEach).map(&buffer)?;
    demo.check(
        &["B1", "B5"],
        words(&shared)? == [WORD; PAGES],
        "remap-each, shared: maps, page by page",
    );
    Ok(())
}

/// Entries appear in the page tables when a page is touched, and not before.
pub fn faults(demo: &mut Demo) -> Outcome {
    let device = Device::open()?;
    let buffer = filled(&device)?;
    let mapping = MapOptions::new().read_only().map(&buffer)?;
    let absent = |pages: &[Page]| pages.iter().filter(|page| **page == Page::Absent).count();
    let Some(before) = frames::of_mapping(&mapping) else {
        demo.not_yet("B6", "/proc/self/pagemap cannot be read here");
        return Ok(());
    };
    frames::touch(&mapping)?;
    let after = frames::of_mapping(&mapping).unwrap_or_default();
    let right = absent(&before) == PAGES
        && after.len() == PAGES
        && absent(&after) == 0
        && words(&mapping)? == [WORD; PAGES];
    let text = format!(
        "{} pages absent after mmap, {} after each was touched",
        absent(&before),
        absent(&after)
    );
    demo.check(&["B6"], right, &text);
    let populated = MapOptions::new().read_only().populate().map(&buffer)?;
    let eager = frames::of_mapping(&populated).is_some_and(|pages| absent(&pages) == 0);
    demo.check(
        &["B6"],
        eager,
        "with MAP_POPULATE all are there before the first access",
    );
    Ok(())
}
