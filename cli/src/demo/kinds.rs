//! The kinds of memory, one scene each: both views show the same bytes, a part can be mapped, freeing does no harm, and
//! where it lies.

use super::{
    frames,
    note::{Note, OfKind},
    picture::Picture,
    scene::{Demo, Outcome},
};
use mapbuf::{
    abi::{explain::Bytes, ADDRESS_HIDDEN},
    Buffer, Device, Kind, MapOptions, Mapping, Reason,
};

/// A kind of memory, and what is shown with it.
pub struct Shown {
    kind: Kind,
    /// How much of it is asked for.
    bytes: u64,
    shows: &'static [&'static str],
}

pub const VMALLOC: Shown = Shown {
    kind: Kind::Vmalloc,
    bytes: 64 << 10,
    shows: &["B1"],
};
pub const PAGES: Shown = Shown {
    kind: Kind::Pages,
    // One run of 2 MiB, and a rest.
    bytes: (2 << 20) + (76 << 10),
    shows: &["A2"],
};
pub const CONTIGUOUS: Shown = Shown {
    kind: Kind::Contiguous,
    bytes: 64 << 10,
    shows: &["A7"],
};
pub const COHERENT: Shown = Shown {
    kind: Kind::Coherent,
    bytes: 64 << 10,
    shows: &["A6"],
};

/// Plays the scene of a kind.
pub fn scene(demo: &mut Demo, shown: &Shown) -> Outcome {
    let mut seen = OfKind {
        kind: shown.kind.name().to_owned(),
        bytes: 0,
        user_to_kernel: false,
        kernel_to_user: false,
        survives_free: false,
    };
    let outcome = all(demo, shown, &mut seen);
    demo.tell(&Note::Kind(seen));
    Ok(outcome?)
}

fn all(demo: &mut Demo, shown: &Shown, seen: &mut OfKind) -> mapbuf::Result<()> {
    let shows = shown.shows;
    let device = Device::open()?;
    let buffer = match shown.kind {
        Kind::Vmalloc => alloc_scattered(&device, shown.bytes)?,
        kind => device.alloc(kind, shown.bytes)?,
    };
    seen.bytes = buffer.len();
    let mapping = buffer.map()?;
    let page = usize::try_from(device.query()?.page_size).unwrap_or(4096);

    let zero = mapping.to_vec().iter().all(|byte| *byte == 0);
    demo.check(
        shows,
        zero,
        &format!(
            "allocated {}, mapped, and it reads zero",
            Bytes(buffer.len())
        ),
    );

    seen.user_to_kernel = user_to_kernel(&buffer, &mapping, page)?;
    demo.check(
        shows,
        seen.user_to_kernel,
        "written through the mapping, read by the kernel (pread)",
    );
    seen.kernel_to_user = kernel_to_user(&buffer, &mapping, page)?;
    demo.check(
        shows,
        seen.kernel_to_user,
        "written by the kernel (pwrite), read through the mapping",
    );
    let part = part(&buffer, page)?;
    demo.check(
        shows,
        part,
        "pages 3 to 5 mapped by themselves show those pages",
    );

    draw(demo, &buffer, &mapping, shows)?;

    seen.survives_free = survives_free(demo, &device, buffer, mapping)?;
    Ok(())
}

/// A word for a page that no other page has.
pub fn word(salt: u32, page: usize) -> u32 {
    salt ^ u32::try_from(page).unwrap_or(0).wrapping_mul(0x9e37_79b1)
}

/// Starts and ends of pages.
fn places(len: usize, page: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..len / page).flat_map(move |number| {
        [number * page, (number + 1) * page - 4].map(|place| (number, place))
    })
}

fn user_to_kernel(buffer: &Buffer, mapping: &Mapping, page: usize) -> mapbuf::Result<bool> {
    for (number, place) in places(mapping.len(), page) {
        mapping.write(place, word(0x5eed_0001, number))?;
    }
    let mut same = true;
    for (number, place) in places(mapping.len(), page) {
        let mut bytes = [0; 4];
        buffer.read_at(place as u64, &mut bytes)?;
        same &= u32::from_ne_bytes(bytes) == word(0x5eed_0001, number);
    }
    Ok(same)
}

fn kernel_to_user(buffer: &Buffer, mapping: &Mapping, page: usize) -> mapbuf::Result<bool> {
    for (number, place) in places(mapping.len(), page) {
        buffer.write_at(place as u64, &word(0x5eed_0002, number).to_ne_bytes())?;
    }
    let mut same = true;
    for (number, place) in places(mapping.len(), page) {
        same &= mapping.read::<u32>(place)? == word(0x5eed_0002, number);
    }
    Ok(same)
}

fn part(buffer: &Buffer, page: usize) -> mapbuf::Result<bool> {
    let mapping = MapOptions::new()
        .offset(3 * page as u64)
        .len(3 * page)
        .map(buffer)?;
    let mut same = true;
    for (number, place) in places(mapping.len(), page) {
        same &= mapping.read::<u32>(place)? == word(0x5eed_0002, number + 3);
    }
    Ok(same)
}

/// Draws where the buffer lies, and holds that against the page tables.
fn draw(
    demo: &mut Demo,
    buffer: &Buffer,
    mapping: &Mapping,
    shows: &[&'static str],
) -> mapbuf::Result<()> {
    let page_size = rustix::param::page_size() as u64;
    let segments = buffer.segments()?;
    let covered: u64 = segments.iter().map(|segment| segment.length).sum();
    let in_order = segments.windows(2).all(|pair| match pair {
        [a, b] => a.offset + a.length == b.offset,
        _ => true,
    });
    demo.check(
        shows,
        covered == buffer.len() && in_order,
        "SEGMENTS covers every byte once",
    );
    if buffer.kind() == Kind::Contiguous {
        demo.check(shows, segments.len() == 1, "it is one physical run");
    }
    let Some(picture) = Picture::new(&segments, page_size) else {
        demo.stage
            .line("(only root sees physical addresses: no picture)");
        return Ok(());
    };
    frames::touch(mapping)?;
    let (summary, verdict) = picture.summary();
    demo.stage.line("");
    demo.stage.headline(buffer.kind().name(), &summary, verdict);
    demo.stage.picture(&picture);
    if let [only] = segments.as_slice() {
        if only.dma_address != ADDRESS_HIDDEN {
            demo.stage.line(&format!(
                "its DMA address for the device is {:#x}",
                only.dma_address
            ));
        }
    }
    demo.stage.line("");
    if let Some((agree, pages)) = frames::agreement(mapping, &segments, 0) {
        let text = format!("/proc/self/pagemap has these frames, page by page: {agree} of {pages}");
        demo.check(shows, agree == pages, &text);
    } else {
        // `walk_page_test`, mm/pagewalk.c: to a walk, a VM_PFNMAP mapping is a hole.
        demo.stage
            .line("(/proc/self/pagemap leaves out mappings of memory without pages)");
    }
    Ok(())
}

/// Frees the buffer while it is mapped. The bytes must be there, and the id must not.
fn survives_free(
    demo: &mut Demo,
    device: &Device,
    buffer: Buffer,
    mapping: Mapping,
) -> mapbuf::Result<bool> {
    let page = rustix::param::page_size();
    let id = buffer.id();
    let id_offset = u64::from(id) * page as u64;
    let bytes = buffer.len();
    buffer.free()?;

    let gone = reason_of(device.adopt(id)) == Some(Reason::NoSuchId)
        && is_nobody(reason_of(device.map_at(
            id_offset,
            page,
            &MapOptions::new(),
        )));
    let mut there = true;
    for (number, place) in places(mapping.len(), page) {
        there &= mapping.read::<u32>(place)? == word(0x5eed_0002, number);
        mapping.write(place, 0_u32)?;
    }
    let held = device.session()?;
    let counted = held.freed_held == 1 && held.freed_held_bytes == bytes;
    drop(mapping);
    let given_back = device.session()?.freed_held == 0;

    let survives = gone && there;
    demo.check(
        &["A10"],
        survives,
        "freed while mapped: the id is gone, all bytes are there",
    );
    demo.check(
        &["A10"],
        counted && given_back,
        "held by the mapping alone, and given back with it",
    );
    Ok(survives)
}

/// The driver's reason for a refusal, if this is one.
pub fn reason_of<T>(result: mapbuf::Result<T>) -> Option<Reason> {
    result.err().and_then(|error| error.reason())
}

/// Whether an `mmap` was refused because no buffer has the id in its offset.
pub fn is_nobody(reason: Option<Reason>) -> bool {
    matches!(reason, Some(Reason::NoSuchId | Reason::NothingAtOffset))
}

/// A reason's name.
pub fn shown(reason: Option<Reason>) -> &'static str {
    reason.map_or("no reason at all", Reason::name)
}

/// Allocates vmalloc memory between holes, as a machine has them that ran for a while: on a fresh one, single pages that
/// are taken one after the other often lie side by side, and would not look scattered.
pub fn alloc_scattered(device: &Device, bytes: u64) -> mapbuf::Result<Buffer> {
    const HOLES: usize = 128;
    let page = u64::from(device.query()?.page_size);
    let (mut holes, mut kept) = (Vec::new(), Vec::new());
    for _ in 0..HOLES {
        // A limit that is reached makes fewer holes, and no failure.
        let (Ok(hole), Ok(keep)) = (
            device.alloc(Kind::Vmalloc, page),
            device.alloc(Kind::Vmalloc, page),
        ) else {
            break;
        };
        holes.push(Some(hole));
        kept.push(keep);
    }
    // Pages that were freed last are taken first: freed in no order, they come in none.
    for number in 0..HOLES {
        if let Some(hole) = holes.get_mut(number * 77 % HOLES) {
            drop(hole.take());
        }
    }
    // By now there is room again for what a limit kept from us.
    device.alloc(Kind::Vmalloc, bytes)
}
