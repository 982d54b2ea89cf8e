//! What kind of memory the frames are that a driver maps: `/proc/kpageflags` and `/proc/kpagecount`, looked at while they
//! are mapped, and, of slab memory, the cache that it belongs to.

use super::{
    btf::Btf,
    trace::{self, Call, What},
};
use crate::tables::Kcore;
use std::{collections::BTreeMap, fs::File, os::unix::fs::FileExt};

/// What every architecture that this runs on calls a page here: the kernel's addresses are compared, not counted.
pub const PAGE: u64 = 4096;

/// Frames of one call that are looked at.
const AT_ONCE: u64 = 64;
/// Frames that are looked at altogether.
const ALTOGETHER: usize = 1 << 16;

/// Bits of `/proc/kpageflags`, `include/uapi/linux/kernel-page-flags.h`.
pub mod kpf {
    pub const LRU: u64 = 1 << 5;
    pub const SLAB: u64 = 1 << 7;
    pub const BUDDY: u64 = 1 << 10;
    pub const ANON: u64 = 1 << 12;
    pub const COMPOUND_HEAD: u64 = 1 << 15;
    pub const COMPOUND_TAIL: u64 = 1 << 16;
    pub const HUGE: u64 = 1 << 17;
    pub const HWPOISON: u64 = 1 << 19;
    pub const NOPAGE: u64 = 1 << 20;
    pub const ZERO_PAGE: u64 = 1 << 24;
    pub const PGTABLE: u64 = 1 << 26;
    pub const RESERVED: u64 = 1 << 32;
}

/// A look at a frame.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Look {
    /// When, in microseconds of the monotonic clock, as events have it.
    pub time: u64,
    /// What `/proc/kpageflags` said.
    pub flags: u64,
    /// How many entries lead to it, as `/proc/kpagecount` has it.
    pub count: u64,
    /// The slab cache that it belongs to, and the size of its objects.
    pub cache: Option<(String, u64)>,
}

/// The frames that were looked at.
#[derive(Debug, Default)]
pub struct Frames {
    flags: Option<File>,
    counts: Option<File>,
    kcore: Option<Kcore>,
    types: Option<&'static Btf>,
    /// By their number.
    looks: BTreeMap<u64, Look>,
    /// How many bytes the kernel's structure for a page has.
    page_bytes: u64,
}

impl std::fmt::Debug for Kcore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kcore")
    }
}

impl Frames {
    /// Opens what it looks into; what cannot be opened shows nothing.
    pub fn open() -> Self {
        let types = Btf::running();
        Self {
            flags: File::open("/proc/kpageflags").ok(),
            counts: File::open("/proc/kpagecount").ok(),
            kcore: Kcore::open().ok(),
            page_bytes: types.and_then(|types| types.size("page")).unwrap_or(64),
            types,
            looks: BTreeMap::new(),
        }
    }

    /// Whether frames can be looked at.
    pub fn can_see(&self) -> bool {
        self.flags.is_some()
    }

    /// Looks at the frames that lines of events are about.
    pub fn look(&mut self, text: &str) {
        // Most has nothing of it, which is soon seen.
        let has = |mark: &str| memchr::memmem::find(text.as_bytes(), mark.as_bytes()).is_some();
        if !has(" pfn=0x") && !has(" page=0x") {
            return;
        }
        let of_frames = |line: &&str| {
            (line.contains(" pfn=0x") || line.contains(" page=0x")) && !line.contains("mm_page_")
        };
        let lines: Vec<_> = text.lines().filter(of_frames).collect();
        for event in trace::parse(&lines.join("\n")) {
            let What::Call(call) = event.what else {
                continue;
            };
            for (first, count) in frames_of(&call, self.page_bytes) {
                let step = (count / AT_ONCE).max(1);
                let mut at = 0;
                while at < count {
                    self.look_at(first + at, call.number("vmemmap"));
                    at += step;
                }
            }
        }
    }

    fn look_at(&mut self, pfn: u64, vmemmap: Option<u64>) {
        if self.looks.contains_key(&pfn) || self.looks.len() >= ALTOGETHER {
            return;
        }
        let Some(flags) = self.flags.as_ref().and_then(|file| entry(file, pfn)) else {
            return;
        };
        let count = self
            .counts
            .as_ref()
            .and_then(|file| entry(file, pfn))
            .unwrap_or(0);
        let cache = (flags & kpf::SLAB != 0)
            .then(|| self.cache_of(pfn, vmemmap))
            .flatten();
        let look = Look {
            time: now(),
            flags,
            count,
            cache,
        };
        self.looks.insert(pfn, look);
    }

    /// The slab cache of a frame, from the kernel's own memory: `struct slab` lies over `struct page`.
    fn cache_of(&self, pfn: u64, vmemmap: Option<u64>) -> Option<(String, u64)> {
        let (kcore, types) = (self.kcore.as_ref()?, self.types?);
        let vmemmap = vmemmap.or_else(|| self.vmemmap())?;
        let page = vmemmap.wrapping_add(pfn * self.page_bytes);
        let head = kcore
            .word_at(
                page + types
                    .offset("page", "compound_head")
                    .or_else(|| types.offset("page", "compound_info"))?,
            )
            .ok()?;
        let page = if head & 1 == 1 { head - 1 } else { page };
        let slab = types
            .offset("slab", "slab_cache")
            .or_else(|| types.offset("page", "slab_cache"))?;
        let cache = kcore.word_at(page + slab).ok()?;
        let size = kcore
            .word_at(cache + types.offset("kmem_cache", "object_size")?)
            .ok()?;
        let name = kcore
            .word_at(cache + types.offset("kmem_cache", "name")?)
            .ok()?;
        let mut bytes = [0; 32];
        kcore.read_at(&mut bytes, name).ok()?;
        let end = bytes.iter().position(|&byte| byte == 0)?;
        let name = std::str::from_utf8(bytes.get(..end)?).ok()?;
        let plain = |letter: char| letter.is_ascii_graphic();
        (!name.is_empty() && name.chars().all(plain))
            .then(|| (name.to_owned(), size & u64::from(u32::MAX)))
    }

    /// Where the structures of all pages begin, from the kernel's symbols.
    fn vmemmap(&self) -> Option<u64> {
        let text = std::fs::read_to_string("/proc/kallsyms").ok()?;
        let address = text
            .lines()
            .find_map(|line| line.strip_suffix(" vmemmap_base"))?;
        let address = u64::from_str_radix(address.split(' ').next()?, 16).ok()?;
        self.kcore.as_ref()?.word_at(address).ok()
    }

    /// What was seen of a frame.
    pub fn seen(&self, pfn: u64) -> Option<&Look> {
        self.looks.get(&pfn)
    }

    /// What was seen of a run of frames, by their number.
    pub fn seen_within(&self, first: u64, count: u64) -> impl Iterator<Item = (u64, &Look)> {
        let run = first..first.saturating_add(count);
        self.looks.range(run).map(|(&pfn, look)| (pfn, look))
    }

    #[cfg(test)]
    pub fn with(looks: impl IntoIterator<Item = (u64, Look)>) -> Self {
        Self {
            looks: looks.into_iter().collect(),
            page_bytes: 64,
            ..Self::default()
        }
    }
}

/// The frame that a pointer to a page stands for. One that is none comes to a number that no machine has.
pub fn frame_of(page: u64, vmemmap: u64, page_bytes: u64) -> u64 {
    page.wrapping_sub(vmemmap) / page_bytes.max(1)
}

/// The runs of frames that a call is about: the first of each, and how many.
pub fn frames_of(call: &Call, page_bytes: u64) -> Vec<(u64, u64)> {
    if let Some(pfn) = call.number("pfn") {
        return vec![(pfn, call.get("size").div_ceil(PAGE).max(1))];
    }
    match (call.number("page"), call.number("vmemmap")) {
        (Some(page), Some(vmemmap)) if page != 0 && vmemmap != 0 => {
            vec![(frame_of(page, vmemmap, page_bytes), 1)]
        }
        _ => Vec::new(),
    }
}

fn entry(file: &File, pfn: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, pfn.checked_mul(8)?).ok()?;
    Some(u64::from_ne_bytes(bytes))
}

/// The monotonic clock, in microseconds.
pub fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let number = |value: i64| u64::try_from(value).unwrap_or(0);
    number(time.tv_sec) * 1_000_000 + number(time.tv_nsec) / 1000
}

/// What memory of such flags is called.
pub fn kind(flags: u64) -> &'static str {
    let kinds = [
        (kpf::HWPOISON, "memory that has failed"),
        (kpf::SLAB, "slab memory"),
        (kpf::BUDDY, "free memory"),
        (kpf::PGTABLE, "a page table"),
        (kpf::ANON, "a program's anonymous memory"),
        (kpf::ZERO_PAGE, "the page of zeros"),
        (kpf::HUGE, "hugetlb memory"),
        (kpf::LRU, "page cache"),
        (kpf::NOPAGE, "no page"),
        (kpf::RESERVED, "reserved memory"),
    ];
    kinds
        .into_iter()
        .find(|(bit, _)| flags & bit != 0)
        .map_or("a driver's or the kernel's own pages", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_to_a_page_is_a_frame() {
        assert_eq!(
            frame_of(0xffff_ea00_0000_0040, 0xffff_ea00_0000_0000, 64),
            1
        );
    }

    #[test]
    fn kinds_have_names() {
        assert_eq!(kind(kpf::SLAB), "slab memory");
        assert_eq!(
            kind(kpf::COMPOUND_HEAD),
            "a driver's or the kernel's own pages"
        );
    }
}
