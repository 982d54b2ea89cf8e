//! Memory of each kind, as a machine that has enough of it gives it.

use crate::Question;
use mapbuf_abi::Kind;
use mapbuf_policy::plan::{in_huge_folios, Facts, Huge, Layout};

/// x86-64's.
const PAGE: u64 = 4096;
/// Pages in an entry of 2 MiB, and in the largest folio that gets one.
const HUGE: u64 = 512;
/// Pages in the page allocator's largest block.
const BLOCK: u64 = 1024;

/// The memory that a question is about.
///
/// `vmalloc`: no two pages side by side. `pages`: the largest folios first, no two side by side. `contiguous`, `coherent`,
/// `region`: one run that begins at a multiple of 2 MiB.
pub struct Memory {
    facts: Facts,
}

impl Memory {
    pub fn new(question: &Question) -> Self {
        let region = question.kind == Kind::Region;
        Self {
            facts: Facts {
                kind: question.kind,
                cache: question.cache,
                pages: question.size,
                page_size: PAGE,
                huge_pages: HUGE,
                paged: matches!(
                    question.kind,
                    Kind::Vmalloc | Kind::Pages | Kind::Contiguous
                ),
                ram: !(region && question.device),
                unbacked: false,
            },
        }
    }

    /// Whether contiguous memory is made of folios that get a huge entry each.
    fn in_huge_folios(&self) -> bool {
        self.facts.pages > BLOCK && in_huge_folios(self.facts.pages, HUGE)
    }

    /// Where the folio ends that a page of the kind `pages` is in.
    fn folio_end(&self, page: u64) -> u64 {
        let mut start = 0;
        loop {
            let left = self.facts.pages.saturating_sub(start);
            // The largest power of two that is left, up to the largest folio.
            let folio = match left.checked_ilog2() {
                Some(order) => (1 << order).min(HUGE),
                None => return self.facts.pages,
            };
            if page < start + folio {
                return start + folio;
            }
            start += folio;
        }
    }
}

impl Layout for Memory {
    fn facts(&self) -> Facts {
        self.facts
    }

    fn run(&self, page: u64) -> u64 {
        if page >= self.facts.pages {
            return 0;
        }
        match self.facts.kind {
            Kind::Vmalloc | Kind::Foreign => 1,
            Kind::Pages => self.folio_end(page) - page,
            Kind::Contiguous | Kind::Coherent | Kind::Region => self.facts.pages - page,
        }
    }

    fn huge(&self, page: u64, end: u64) -> Huge {
        let fits = page.next_multiple_of(HUGE) + HUGE <= end.min(self.facts.pages);
        match self.facts.kind {
            _ if !fits => Huge::No,
            Kind::Vmalloc | Kind::Foreign => Huge::No,
            Kind::Pages => Huge::Folio,
            // One folio of just that size, or several.
            Kind::Contiguous if self.facts.pages == HUGE || self.in_huge_folios() => Huge::Folio,
            Kind::Contiguous | Kind::Coherent | Kind::Region => Huge::Pfn,
        }
    }

    fn faults_singly(&self) -> bool {
        match self.facts.kind {
            Kind::Vmalloc => true,
            // Not one folio where it is no power of two, or larger than a page table shows.
            Kind::Contiguous => {
                let one = self.facts.pages.is_power_of_two() && self.facts.pages <= HUGE;
                !one && !self.in_huge_folios()
            }
            _ => false,
        }
    }
}
