//! What can be seen of a buffer's memory from outside the driver.

use mapbuf::{Buffer, Cache, Kind, RegionType};
use mapbuf_policy::plan::{Facts, Huge, Layout};
use std::{fs, fs::File, os::unix::fs::FileExt};

/// The bits of `/proc/kpageflags` that tell where a folio begins and goes on (`include/uapi/linux/kernel-page-flags.h`).
const COMPOUND_HEAD: u64 = 1 << 15;
const COMPOUND_TAIL: u64 = 1 << 16;

/// A physically contiguous run, in pages.
struct Run {
    start: u64,
    pages: u64,
    frame: u64,
}

/// The memory of a buffer, as far as the table of rules looks at it.
pub struct Memory {
    facts: Facts,
    runs: Vec<Run>,
    /// Where folios begin that have the size of a huge entry.
    folios: Vec<u64>,
}

/// What is known of a region beyond its runs.
#[derive(Clone, Copy)]
pub struct OfRegion {
    pub class: RegionType,
    pub unbacked: bool,
}

impl Memory {
    /// Looks at a buffer. `region` says what nothing else tells about one.
    pub fn of(buffer: &Buffer, region: Option<OfRegion>) -> mapbuf::Result<Self> {
        let page_size = rustix::param::page_size() as u64;
        let runs: Vec<_> = buffer
            .segments()?
            .iter()
            .map(|segment| Run {
                start: segment.offset / page_size,
                pages: segment.length / page_size,
                frame: segment.physical_address / page_size,
            })
            .collect();
        let huge_pages = huge_entry().map_or(1, |bytes| bytes / page_size);
        let folios = match buffer.kind() {
            Kind::Pages | Kind::Contiguous if huge_pages > 1 => folios(&runs, huge_pages),
            _ => Vec::new(),
        };
        Ok(Self {
            facts: Facts {
                kind: buffer.kind(),
                cache: buffer.cache(),
                pages: buffer.len() / page_size,
                page_size,
                huge_pages,
                // No buffer here is so large that its memory would come from a CMA area.
                paged: matches!(
                    buffer.kind(),
                    Kind::Vmalloc | Kind::Pages | Kind::Contiguous
                ),
                ram: region.is_none_or(|region| region.class == RegionType::Ram),
                unbacked: region.is_some_and(|region| region.unbacked),
            },
            runs,
            folios,
        })
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.facts.kind
    }

    /// Its cache mode.
    pub fn cache(&self) -> Cache {
        self.facts.cache
    }

    /// How many physically contiguous runs there are.
    pub fn runs(&self) -> usize {
        self.runs.len()
    }
}

impl Layout for Memory {
    fn facts(&self) -> Facts {
        self.facts
    }

    fn run(&self, page: u64) -> u64 {
        self.runs
            .iter()
            .find(|run| page >= run.start && page - run.start < run.pages)
            .map_or(0, |run| run.start + run.pages - page)
    }

    fn huge(&self, page: u64, end: u64) -> Huge {
        let huge = self.facts.huge_pages;
        if huge <= 1 {
            return Huge::No;
        }
        let folio = |&start: &u64| start >= page && start + huge <= end;
        if self.folios.iter().any(folio) {
            return Huge::Folio;
        }
        // Scattered pages may happen to lie side by side; no entry is made of them.
        let frames = matches!(
            self.facts.kind,
            Kind::Contiguous | Kind::Coherent | Kind::Region
        );
        let aligned = |run: &Run| {
            let first = run.frame + page.saturating_sub(run.start).min(run.pages);
            let last = run.frame + end.saturating_sub(run.start).min(run.pages);
            first.next_multiple_of(huge) + huge <= last
        };
        match frames && self.runs.iter().any(aligned) {
            true => Huge::Pfn,
            false => Huge::No,
        }
    }
}

/// Bytes in an entry of the second level, where the kernel has huge ones for us.
fn huge_entry() -> Option<u64> {
    let text = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size").ok()?;
    text.trim().parse().ok()
}

fn folios(runs: &[Run], huge: u64) -> Vec<u64> {
    let Ok(flags) = File::open("/proc/kpageflags") else {
        return Vec::new();
    };
    let flags_of = |frame: u64| {
        let mut bytes = [0; 8];
        match flags.read_exact_at(&mut bytes, frame * 8) {
            Ok(()) => u64::from_ne_bytes(bytes),
            Err(_) => 0,
        }
    };
    let begins = |frame: u64| {
        flags_of(frame) & COMPOUND_HEAD != 0
            && (1..huge).all(|page| flags_of(frame + page) & COMPOUND_TAIL != 0)
            && flags_of(frame + huge) & COMPOUND_TAIL == 0
    };
    runs.iter()
        .flat_map(|run| {
            let first = run.frame.next_multiple_of(huge);
            (first..(run.frame + run.pages).saturating_sub(huge - 1))
                .step_by(usize::try_from(huge).unwrap_or(usize::MAX))
                .filter(|frame| begins(*frame))
                .map(|frame| run.start + (frame - run.frame))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Memory of a kind whose runs have these lengths and first frames.
    fn memory(kind: Kind, runs: &[(u64, u64)], folios: &[u64]) -> Memory {
        let mut start = 0;
        let runs: Vec<_> = runs
            .iter()
            .map(|&(pages, frame)| {
                let run = Run {
                    start,
                    pages,
                    frame,
                };
                start += pages;
                run
            })
            .collect();
        Memory {
            facts: Facts {
                kind,
                cache: Cache::Cached,
                pages: start,
                page_size: 4096,
                huge_pages: 512,
                paged: true,
                ram: true,
                unbacked: false,
            },
            runs,
            folios: folios.to_vec(),
        }
    }

    #[test]
    fn folios_must_lie_in_the_part() {
        let pages = memory(Kind::Pages, &[(1024, 0x800)], &[0, 512]);
        assert_eq!(pages.huge(0, 1024), Huge::Folio);
        assert_eq!(pages.huge(512, 1024), Huge::Folio);
        assert_eq!(pages.huge(1, 1023), Huge::No);
        assert_eq!(pages.huge(256, 1024), Huge::Folio);
    }

    #[test]
    fn frames_must_be_aligned() {
        let contiguous = memory(Kind::Contiguous, &[(1024, 0x801)], &[]);
        // The first aligned frame is 0xa00, which is page 511.
        assert_eq!(contiguous.huge(0, 1024), Huge::Pfn);
        assert_eq!(contiguous.huge(511, 1023), Huge::Pfn);
        assert_eq!(contiguous.huge(512, 1024), Huge::No);
        assert_eq!(contiguous.huge(0, 1022), Huge::No);
        // Scattered pages that happen to lie side by side are none.
        let vmalloc = memory(Kind::Vmalloc, &[(1024, 0x800)], &[]);
        assert_eq!(vmalloc.huge(0, 1024), Huge::No);
    }

    proptest! {
        #[test]
        fn runs_reach_to_their_end(lengths in prop::collection::vec(1_u64..9, 1..9), page in 0_u64..99) {
            let runs: Vec<_> = lengths.iter().map(|length| (*length, 7)).collect();
            let memory = memory(Kind::Vmalloc, &runs, &[]);
            let run = memory.run(page);
            let all: u64 = lengths.iter().sum();
            prop_assert_eq!(run == 0, page >= all);
            if page + 1 < all && run > 1 {
                prop_assert_eq!(memory.run(page + 1), run - 1);
            }
        }
    }
}
