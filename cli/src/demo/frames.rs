//! What the kernel's own page tables say: `/proc/self/pagemap` and `/proc/self/maps`.

use mapbuf::{abi::ADDRESS_HIDDEN, Cache, Mapping, Segment};
use procfs::process::{MMapPath, MemoryPageFlags, PageInfo, Process};
use std::{fs::File, os::unix::fs::FileExt};

/// A virtual page of a mapping, as the page tables have it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Page {
    /// No entry: the first access faults.
    Absent,
    /// An entry; its frame number is 0 where it is not shown to us.
    Frame(u64),
}

/// The pages of a mapping, or `None` where `pagemap` cannot be read.
pub fn of_mapping(mapping: &Mapping) -> Option<Vec<Page>> {
    let page_size = rustix::param::page_size();
    let first = mapping.as_ptr().addr() / page_size;
    let count = mapping.len().div_ceil(page_size);
    let mut pagemap = Process::myself().ok()?.pagemap().ok()?;
    let infos = pagemap.get_range_info(first..first + count).ok()?;
    let page = |info: &PageInfo| match info {
        PageInfo::MemoryPage(flags) if flags.contains(MemoryPageFlags::PRESENT) => {
            Page::Frame(flags.get_page_frame_number().0)
        }
        _ => Page::Absent,
    };
    Some(infos.iter().map(page).collect())
}

/// How many pages of a mapping lie on the frame that `segments` says, and how many there are. `None` where frame
/// numbers are not shown to us, there or here.
pub fn agreement(
    mapping: &Mapping,
    segments: &[Segment],
    first_page: u64,
) -> Option<(usize, usize)> {
    let page_size = rustix::param::page_size() as u64;
    let pages = of_mapping(mapping)?;
    if pages
        .iter()
        .all(|page| matches!(page, Page::Frame(0) | Page::Absent))
    {
        return None;
    }
    let mut agree = 0;
    for (page, number) in pages.iter().zip(first_page..) {
        let offset = number * page_size;
        let segment = segments
            .iter()
            .find(|segment| offset >= segment.offset && offset - segment.offset < segment.length)?;
        if segment.physical_address == ADDRESS_HIDDEN {
            return None;
        }
        let physical = segment.physical_address + (offset - segment.offset);
        agree += usize::from(*page == Page::Frame(physical / page_size));
    }
    Some((agree, pages.len()))
}

/// Touches every page, so that it has an entry in the page tables.
pub fn touch(mapping: &Mapping) -> mapbuf::Result<()> {
    for at in (0..mapping.len()).step_by(rustix::param::page_size()) {
        mapping.read::<u8>(at)?;
    }
    Ok(())
}

/// Where this process maps buffers, named nodes and dma-bufs.
pub fn mapped_ranges() -> Vec<(u64, u64)> {
    let Ok(maps) = Process::myself().and_then(|process| process.maps()) else {
        return Vec::new();
    };
    maps.iter()
        .filter(|map| match &map.pathname {
            MMapPath::Path(path) => {
                let path = path.to_string_lossy();
                path.starts_with(mapbuf::abi::DEV_DIR) || path.starts_with("/dmabuf:")
            }
            _ => false,
        })
        .map(|map| map.address)
        .collect()
}

/// The first frame of a buffer, if frames are shown to us.
pub fn first(segments: &[Segment]) -> Option<u64> {
    let address = segments.first()?.physical_address;
    (address != ADDRESS_HIDDEN).then(|| address / rustix::param::page_size() as u64)
}

/// The cache mode that the kernel has noted of a frame of RAM: on x86 in two bits of the page (`get_page_memtype` of
/// `arch/x86/mm/pat/memtype.c`), which `/proc/kpageflags` shows as `KPF_ARCH` and `KPF_ARCH_2`.
pub fn cache_of(frame: u64) -> Option<Cache> {
    const ARCH: u64 = 1 << 38;
    const ARCH_2: u64 = 1 << 41;
    if !cfg!(target_arch = "x86_64") {
        return None;
    }
    let mut bytes = [0; 8];
    let file = File::open("/proc/kpageflags").ok()?;
    file.read_exact_at(&mut bytes, frame * 8).ok()?;
    match u64::from_ne_bytes(bytes) & (ARCH | ARCH_2) {
        0 => Some(Cache::Cached),
        ARCH => Some(Cache::WriteCombined),
        ARCH_2 => Some(Cache::Uncached),
        _ => None,
    }
}

/// The name of a cache mode that may not be known.
pub fn shown(cache: Option<Cache>) -> &'static str {
    cache.map_or("something that it does not show", Cache::name)
}
