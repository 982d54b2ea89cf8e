//! Question B: vmalloc'd pages, read-only and private.

use super::{
    frames::{self, Page},
    kinds::{alloc_scattered, reason_of},
    Demo,
};
use mapbuf::{
    Access, CoreRefusal, Device, DriverInfo, MapOptions, Method, NameOptions, Named, Reason,
};

const PAGES: usize = 16;
const BYTES: [u8; 4] = [0xdd, 0xcc, 0xbb, 0xaa];
/// Those bytes, read as one number by a little-endian machine.
const WORD: u32 = 0xaabb_ccdd;

/// The program of the question, as it stands: 16 pages, `PROT_READ`, `MAP_PRIVATE`, a read-only descriptor that is
/// closed before the first byte is read.
pub fn program(demo: &mut Demo) -> mapbuf::Result<()> {
    let page = rustix::param::page_size();
    let name = format!("demo-{}", rustix::process::getpid().as_raw_nonzero());
    let segments = {
        let device = Device::open()?;
        let buffer = alloc_scattered(&device, (PAGES * page) as u64)?;
        for number in 0..PAGES {
            buffer.write_at((number * page) as u64, &BYTES)?;
        }
        NameOptions::new(&name).mode(0o444).name(&buffer)?;
        buffer.segments()?
    };
    let text = format!(
        "{PAGES} pages in {} runs; dd cc bb aa at the start of each",
        segments.len()
    );
    demo.check(&["B1"], segments.len() > 1, &text);

    let result = read_named(demo, &name, &segments);
    // Whatever happened, the name must not stay.
    let removed = Device::open()?.unname(&name);
    let mapping = result?;
    removed?;
    let words = words(&mapping)?;
    demo.check(
        &["B3"],
        words == [WORD; PAGES],
        "its name removed: the mapping still has every page",
    );
    Ok(())
}

fn read_named(
    demo: &mut Demo,
    name: &str,
    segments: &[mapbuf::Segment],
) -> mapbuf::Result<mapbuf::Mapping> {
    let named = Named::open_with(name, Access::ReadOnly)?;
    let mapping = MapOptions::new().read_only().private().map(&named)?;
    demo.check(
        &["B4"],
        true,
        &format!("read-only open, PROT_READ, MAP_PRIVATE of {}", name),
    );
    drop(named);
    let words = words(&mapping)?;
    let right = words.iter().filter(|word| **word == WORD).count();
    demo.check(
        &["B2", "B3", "B4"],
        right == PAGES,
        &format!("closed, then read: {right} of {PAGES} pages are {WORD:#x}"),
    );
    if let Some((agree, pages)) = frames::agreement(&mapping, segments, 0) {
        demo.check(
            &["B1"],
            agree == pages,
            &format!("each page lies on its own frame: {agree} of {pages}"),
        );
    }
    Ok(mapping)
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
pub fn ways_out(demo: &mut Demo) -> mapbuf::Result<()> {
    let page = rustix::param::page_size();
    let device = Device::open()?;
    let info = device.query()?;
    let buffer = alloc_scattered(&device, (PAGES * page) as u64)?;
    for number in 0..PAGES {
        buffer.write_at((number * page) as u64, &BYTES)?;
    }

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

    failing_case(demo, &info, &buffer)?;
    faults(demo, &buffer)
}

/// The question's own mistake: page by page with `remap_pfn_range`, private and writable.
fn failing_case(demo: &mut Demo, info: &DriverInfo, buffer: &mapbuf::Buffer) -> mapbuf::Result<()> {
    if !info.methods.contains(&Method::RemapEach) {
        demo.not_yet(
            "B5",
            "the failing case needs the method remap-each, which this driver does not have yet",
        );
        return Ok(());
    }
    let reason = reason_of(
        MapOptions::new()
            .private()
            .method(Method::RemapEach)
            .map(buffer),
    );
    let text = "remap-each, private, writable: mmap says CowNeedsContiguous";
    demo.check(&["B5"], reason == Some(Reason::CowNeedsContiguous), text);
    let shared = MapOptions::new().method(Method::RemapEach).map(buffer)?;
    demo.check(
        &["B1", "B5"],
        words(&shared)? == [WORD; PAGES],
        "remap-each, shared: maps, page by page",
    );
    Ok(())
}

/// Entries appear in the page tables when a page is touched, and not before.
fn faults(demo: &mut Demo, buffer: &mapbuf::Buffer) -> mapbuf::Result<()> {
    let mapping = MapOptions::new().read_only().map(buffer)?;
    let absent = |pages: &[Page]| pages.iter().filter(|page| **page == Page::Absent).count();
    let Some(before) = frames::of_mapping(&mapping) else {
        demo.not_yet("B6", "/proc/self/pagemap cannot be read here");
        return Ok(());
    };
    if absent(&before) == 0 {
        demo.not_yet("B6", "vmalloc memory is mapped at once here, not by faults");
        return Ok(());
    }
    frames::touch(&mapping)?;
    let after = frames::of_mapping(&mapping).unwrap_or_default();
    let right = absent(&before) == PAGES
        && after.len() == PAGES
        && absent(&after) == 0
        && words(&mapping)? == [WORD; PAGES];
    let text = format!(
        "{PAGES} pages absent after mmap, {} after each was touched",
        absent(&after)
    );
    demo.check(&["B6"], right, &text);
    let populated = MapOptions::new().read_only().populate().map(buffer)?;
    let eager = frames::of_mapping(&populated).is_some_and(|pages| absent(&pages) == 0);
    demo.check(
        &["B6"],
        eager,
        "with MAP_POPULATE all are there before the first access",
    );
    Ok(())
}
