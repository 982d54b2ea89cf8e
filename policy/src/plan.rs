// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The one table that decides which kernel function maps a buffer, and why another cannot.
//!
//! [`decide`] takes a [`Request`] and the [`Layout`] of the memory. It returns a [`Plan`], which the driver
//! carries out as it is, or a refusal. The rules follow the checks of the kernel's functions, which are in
//! `mm/memory.c` unless noted. The driver asks here first, so that a refusal comes from `mmap` with a reason,
//! never later as a signal.

use super::{
    abi::{
        reason::{
            Reason,
            Refusal, //
        },
        wire::{
            Cache,
            Kind,
            Method, //
        },
    },
    place::within,
};

/// Who sees writes through the mapping, and whether writes are possible.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sharing {
    /// `MAP_SHARED`: no copy-on-write.
    Shared,
    /// `MAP_PRIVATE` without `PROT_WRITE`. `VM_MAYWRITE` is cleared, so it can never become copy-on-write.
    PrivateReadOnly,
    /// `MAP_PRIVATE` with `PROT_WRITE`: copy-on-write.
    PrivateWritable,
}

impl Sharing {
    /// Every value.
    #[cfg_attr(MODULE, expect(dead_code, reason = "for tables and tests"))]
    pub const ALL: &'static [Self] = &[Self::Shared, Self::PrivateReadOnly, Self::PrivateWritable];

    /// From the flags that the kernel's core has set: `shared` is `VM_SHARED`, `write` is `VM_WRITE`,
    /// `may_write` is `VM_MAYWRITE`.
    ///
    /// `MAP_SHARED` on a file opened for reading comes without `VM_SHARED` and without `VM_MAYWRITE`
    /// (`do_mmap` of `mm/mmap.c`); it is shared all the same, since nothing can make it copy-on-write:
    /// that is `(VM_SHARED | VM_MAYWRITE) == VM_MAYWRITE` (7.2: `is_cow_mapping` of
    /// `include/linux/mm.h`; 7.3: `vma_is_cow_mapping` of `include/linux/mm.h`).
    pub const fn new(shared: bool, write: bool, may_write: bool) -> Self {
        match (shared || !may_write, write) {
            (true, _) => Self::Shared,
            (false, false) => Self::PrivateReadOnly,
            (false, true) => Self::PrivateWritable,
        }
    }
}

/// A request to map a part of a buffer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Request {
    /// The method asked for.
    pub method: Method,
    /// First page of the part.
    pub page: u64,
    /// Pages in it, at least 1.
    pub pages: u64,
    /// Shared or private.
    pub sharing: Sharing,
    /// `PROT_EXEC`.
    pub exec: bool,
    /// `PROT_WRITE`.
    pub write: bool,
    /// The caller has CAP_SYS_ADMIN.
    pub admin: bool,
    /// The mapping begins at an address where huge entries are possible, as the driver's `get_unmapped_area` chooses it.
    pub lined_up: bool,
}

/// The sort of 2 MiB entry that a place in a buffer can have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Huge {
    /// None.
    No,
    /// An entry for a folio of exactly that size (`do_set_pmd` takes no other).
    Folio,
    /// An entry for page frames: special, so `get_user_pages` refuses it.
    Pfn,
}

/// How many single pages at the end a folio that gets a huge entry outweighs. In a mapping where the core maps folios, such
/// pages are mapped by a fault each, where others come together with those around them: that costs 2,000 instructions
/// more for each, and a huge entry saves 260,000.
const SINGLES_PER_FOLIO: u64 = 128;

/// Whether a contiguous buffer of so many pages, more than the page allocator has in one block, is made of folios that get a
/// huge entry each, with single pages at the end.
pub const fn in_huge_folios(pages: u64, huge_pages: u64) -> bool {
    huge_pages > 1
        && pages >= huge_pages
        && pages % huge_pages <= (pages / huge_pages).saturating_mul(SINGLES_PER_FOLIO)
}

/// What the memory of a buffer is like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Facts {
    /// Its kind.
    pub kind: Kind,
    /// Its cache mode.
    pub cache: Cache,
    /// Its size in pages.
    pub pages: u64,
    /// Bytes in a page.
    pub page_size: u64,
    /// Pages in a huge entry.
    pub huge_pages: u64,
    /// Each page has a reference count of its own, so it can be inserted, pinned and copied like a file's.
    /// Coherent memory, CMA memory and regions have none.
    pub paged: bool,
    /// It is RAM, not a device's memory, so its physical address is not public.
    pub ram: bool,
    /// A probe found nothing behind it.
    pub unbacked: bool,
}

/// The memory of a buffer, as far as the rules look at it. Pages count from the buffer's start.
pub trait Layout {
    /// What it is like as a whole.
    fn facts(&self) -> Facts;

    /// Pages from `page` to the end of its physically contiguous run, at least 1 within the buffer.
    fn run(&self, page: u64) -> u64;

    /// The sort of huge entry that a mapping of the pages from `page` to `end` can have somewhere, at a suitable
    /// address.
    fn huge(&self, page: u64, end: u64) -> Huge;

    /// Whether it may go before whoever maps it. Then only page faults map it, so that what is mapped can be found and taken
    /// out: an `mmap` that fills entries does so before its VMA is linked (`__mmap_region` of `mm/vma.c`).
    fn revocable(&self) -> bool {
        false
    }

    /// Why no page table may lead to it, if so.
    fn unmappable(&self) -> Option<Refusal> {
        None
    }

    /// The offset and the length in bytes of what is never written to through a mapping and lies in the pages from `page` to
    /// `end`, if there is such a thing.
    fn sealed(&self, page: u64, end: u64) -> Option<(u64, u64)> {
        let _ = (page, end);
        None
    }

    /// Whether the kernel's fault path would map one page at a time. Such memory has no folio of the size of a
    /// huge entry.
    fn faults_singly(&self) -> bool {
        matches!(self.facts().kind, Kind::Vmalloc)
    }
}

/// The kernel function that maps.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// `remap_pfn_range` over the whole mapping.
    Remap,
    /// `remap_pfn_range` page by page.
    RemapEach,
    /// `vm_insert_pages`.
    Insert,
    /// `vm_map_pages`.
    MapPages,
    /// `remap_vmalloc_range`.
    Vmalloc,
    /// `dma_mmap_coherent`.
    Dma,
    /// `vm_iomap_memory`.
    Iomap,
    /// `io_remap_pfn_range`.
    IoRemap,
    /// A `fault` that returns the page.
    FaultPage,
    /// A `fault` that calls `vmf_insert_page_mkwrite`, and `vm_insert_pages` for the pages around.
    FaultAround,
    /// A `fault` that calls `vmf_insert_pfn`.
    FaultPfn,
    /// A `huge_fault` that calls `vmf_insert_folio_pmd`, and a `fault` for the rest.
    FaultHugeFolio,
    /// A `huge_fault` that calls `vmf_insert_pfn_pmd`, and a `fault` for the rest.
    FaultHugePfn,
    /// A `huge_fault` that calls `vmf_insert_pfn_pmd`, and `remap_pfn_range` for what lies before and behind the huge
    /// entries.
    RemapAndHuge,
}

/// What the driver does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Plan {
    /// How it maps.
    pub way: Way,
    /// Clear `VM_MAYWRITE`.
    pub seal: bool,
}

impl Plan {
    /// The method that this plan carries out, never `auto`.
    pub const fn method(&self) -> Method {
        match self.way {
            Way::Remap => Method::Remap,
            Way::RemapEach => Method::RemapEach,
            Way::Insert => Method::Insert,
            Way::MapPages => Method::MapPages,
            Way::Vmalloc => Method::Vmalloc,
            Way::Dma => Method::Dma,
            Way::Iomap => Method::Iomap,
            Way::IoRemap => Method::IoRemap,
            Way::FaultPage | Way::FaultAround => Method::FaultPage,
            Way::FaultPfn => Method::FaultPfn,
            Way::FaultHugeFolio | Way::FaultHugePfn | Way::RemapAndHuge => Method::FaultHuge,
        }
    }
}

/// What a method requires of the memory, beyond a range within the buffer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Needs {
    /// Nothing.
    Nothing,
    /// The mapped part is one physical run.
    OneRun,
    /// The whole buffer is one physical run.
    WholeRun,
    /// Pages with a reference count of their own.
    Pages,
    /// The kind `vmalloc`: the area has `VM_USERMAP` (`remap_vmalloc_range_partial` of `mm/vmalloc.c`).
    Vmalloc,
    /// The kind `coherent`: the address came from the DMA API.
    Coherent,
    /// A place in the mapped part where a huge entry can begin.
    Huge,
}

/// How a method serves a private writable mapping.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Cow {
    /// Page faults copy the pages.
    Copies,
    /// `remap_pfn_range_internal` wants the whole VMA at once, and writes the PFN into `vm_pgoff`.
    OneRun,
    /// `vmf_insert_pfn_prot` has a `BUG_ON` for it.
    Never,
}

/// The table: one row for each method.
const fn row(way: Way) -> (Needs, Cow) {
    match way {
        Way::Remap | Way::IoRemap => (Needs::OneRun, Cow::OneRun),
        // vm_iomap_memory takes start and length of the whole and adds vm_pgoff itself.
        Way::Iomap => (Needs::WholeRun, Cow::OneRun),
        Way::RemapEach => (Needs::Nothing, Cow::OneRun),
        // validate_page_before_insert refuses a page whose folio has no references.
        Way::Insert | Way::MapPages => (Needs::Pages, Cow::Copies),
        Way::Vmalloc => (Needs::Vmalloc, Cow::Copies),
        // dma_direct_mmap of kernel/dma/direct.c is one remap_pfn_range.
        Way::Dma => (Needs::Coherent, Cow::OneRun),
        // Copies are left to FaultPage: `way` looks at that.
        Way::FaultPage | Way::FaultAround => (Needs::Pages, Cow::Copies),
        Way::FaultPfn => (Needs::Nothing, Cow::Never),
        Way::FaultHugeFolio => (Needs::Huge, Cow::Copies),
        Way::FaultHugePfn | Way::RemapAndHuge => (Needs::Huge, Cow::Never),
    }
}

/// The way of a method for this memory. With `around`, pages may be mapped that were not touched.
fn way(method: Method, facts: &Facts, huge: Huge, around: bool) -> Way {
    match method {
        Method::Auto if facts.paged && around => Way::FaultAround,
        Method::Auto if facts.paged => Way::FaultPage,
        Method::Auto if matches!(huge, Huge::Pfn) => Way::RemapAndHuge,
        Method::Auto if matches!(facts.kind, Kind::Coherent) => Way::Dma,
        Method::Auto if facts.ram => Way::Remap,
        Method::Auto => Way::IoRemap,
        Method::Remap => Way::Remap,
        Method::RemapEach => Way::RemapEach,
        Method::Insert => Way::Insert,
        Method::MapPages => Way::MapPages,
        Method::Vmalloc => Way::Vmalloc,
        Method::Dma => Way::Dma,
        Method::Iomap => Way::Iomap,
        Method::IoRemap => Way::IoRemap,
        Method::FaultPage => Way::FaultPage,
        Method::FaultPfn => Way::FaultPfn,
        Method::FaultHuge if matches!(huge, Huge::Folio) => Way::FaultHugeFolio,
        Method::FaultHuge => Way::FaultHugePfn,
    }
}

/// The way that a method stands for, for memory that may go at any moment.
fn revocable(method: Method, facts: &Facts, huge: Huge) -> Result<Way, Refusal> {
    match method {
        Method::Auto if matches!(huge, Huge::No) => Ok(Way::FaultPfn),
        Method::Auto => Ok(Way::FaultHugePfn),
        Method::FaultPage | Method::FaultPfn | Method::FaultHuge => {
            Ok(way(method, facts, huge, false))
        }
        method => Err(Reason::RevocableByFault.with(&[u64::from(method.number())])),
    }
}

/// Whether a mapping of another driver's dma-buf is left to that driver: one of `pages` pages.
///
/// # Errors
///
/// [`Reason::Executable`], [`Reason::ExporterMaps`], [`Reason::BeyondEnd`].
pub fn by_exporter(request: &Request, pages: u64, page_size: u64) -> Result<(), Refusal> {
    if request.exec {
        return Err(Reason::Executable.into());
    }
    if !matches!(request.method, Method::Auto) {
        return Err(Reason::ExporterMaps.with(&[u64::from(request.method.number())]));
    }
    within(request.page, request.pages, pages, page_size).map(drop)
}

/// Decides how a request is served.
///
/// # Errors
///
/// A refusal, with the reason and its operands.
pub fn decide(memory: &impl Layout, request: &Request) -> Result<Plan, Refusal> {
    let facts = memory.facts();
    if request.exec {
        return Err(Reason::Executable.into());
    }
    let end = within(request.page, request.pages, facts.pages, facts.page_size)?;
    if facts.unbacked {
        return Err(Reason::RegionUnbacked.with(&[facts.pages.saturating_mul(facts.page_size)]));
    }
    if let Some(refusal) = memory.unmappable() {
        return Err(refusal);
    }
    let cow = matches!(request.sharing, Sharing::PrivateWritable);
    if cow && facts.cache != Cache::Cached {
        // wp_page_copy gives the copy, an ordinary page, the protection of the VMA.
        return Err(Reason::CowNeedsCached.with(&[u64::from(facts.cache.number())]));
    }

    let sealed = memory.sealed(request.page, end);
    if let (Some((offset, length)), true) = (sealed, request.write) {
        return Err(Reason::MsixTable.with(&[offset, length]));
    }

    let huge = match request.method {
        Method::FaultHuge => memory.huge(request.page, end),
        Method::Auto if memory.revocable() => memory.huge(request.page, end),
        // 512 small entries cost twenty times as much as a fault that makes a huge one.
        Method::Auto if !facts.paged && !cow && request.lined_up => memory.huge(request.page, end),
        _ => Huge::No,
    };
    let around = memory.faults_singly() && !cow;
    let way = match memory.revocable() {
        true => revocable(request.method, &facts, huge)?,
        false => way(request.method, &facts, huge, around),
    };
    let plan = Plan {
        way,
        seal: sealed.is_some() || matches!(request.sharing, Sharing::PrivateReadOnly),
    };
    let (needs, cow_rule) = row(way);
    check(memory, &facts, request, needs, huge, plan.method())?;
    if cow {
        copy_on_write(memory, &facts, request, cow_rule, plan.method())?;
    }
    Ok(plan)
}

fn check(
    memory: &impl Layout,
    facts: &Facts,
    request: &Request,
    needs: Needs,
    huge: Huge,
    method: Method,
) -> Result<(), Refusal> {
    let method = u64::from(method.number());
    let kind = u64::from(facts.kind.number());
    let one_run = |page: u64, pages: u64| {
        let run = memory.run(page);
        if run >= pages {
            return Ok(());
        }
        let bytes = |pages: u64| pages.saturating_mul(facts.page_size);
        Err(Reason::NeedsOneRun.with(&[method, bytes(page), bytes(pages), bytes(run)]))
    };
    match needs {
        Needs::Nothing => Ok(()),
        Needs::OneRun => one_run(request.page, request.pages),
        Needs::WholeRun => one_run(0, facts.pages),
        Needs::Pages if facts.paged => Ok(()),
        Needs::Pages => Err(Reason::NeedsPages.with(&[method, kind])),
        Needs::Vmalloc if matches!(facts.kind, Kind::Vmalloc) => Ok(()),
        Needs::Vmalloc => Err(Reason::NeedsVmalloc.with(&[kind])),
        Needs::Coherent if matches!(facts.kind, Kind::Coherent) => Ok(()),
        Needs::Coherent => Err(Reason::NeedsCoherent.with(&[kind])),
        Needs::Huge if !matches!(huge, Huge::No) => Ok(()),
        Needs::Huge => Err(Reason::NothingHuge.with(&[
            request.pages.saturating_mul(facts.page_size),
            facts.huge_pages.saturating_mul(facts.page_size),
        ])),
    }
}

fn copy_on_write(
    memory: &impl Layout,
    facts: &Facts,
    request: &Request,
    rule: Cow,
    method: Method,
) -> Result<(), Refusal> {
    match rule {
        Cow::Copies => Ok(()),
        Cow::Never => Err(Reason::CowAtFault.with(&[u64::from(method.number())])),
        Cow::OneRun => {
            // One call for the whole VMA; `remap-each` makes one call a page.
            let covered = match method {
                Method::RemapEach => 1,
                _ => memory.run(request.page),
            };
            if covered < request.pages {
                let runs = match method {
                    Method::RemapEach => request.pages,
                    _ => runs(
                        memory,
                        request.page,
                        request.page.saturating_add(request.pages),
                    ),
                };
                let bytes = |pages: u64| pages.saturating_mul(facts.page_size);
                return Err(Reason::CowNeedsContiguous.with(&[
                    bytes(request.page),
                    bytes(request.pages),
                    runs,
                ]));
            }
            if facts.ram && !request.admin {
                return Err(Reason::CowShowsAddress.into());
            }
            Ok(())
        }
    }
}

/// Physically contiguous runs in the pages from `page` to `end`.
pub fn runs(memory: &impl Layout, page: u64, end: u64) -> u64 {
    let mut at = page;
    let mut runs = 0;
    while at < end {
        runs += 1;
        at = at.saturating_add(memory.run(at).max(1));
    }
    runs
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// Memory given by the lengths of its runs.
    struct Memory {
        facts: Facts,
        runs: Vec<u64>,
    }

    impl Layout for Memory {
        fn facts(&self) -> Facts {
            self.facts
        }

        fn run(&self, page: u64) -> u64 {
            let mut start = 0;
            for run in &self.runs {
                if page < start + run {
                    return start + run - page;
                }
                start += run;
            }
            0
        }

        fn huge(&self, _page: u64, _end: u64) -> Huge {
            Huge::No
        }
    }

    fn memory(kind: Kind, runs: &[u64]) -> Memory {
        let paged = matches!(kind, Kind::Vmalloc | Kind::Pages | Kind::Contiguous);
        Memory {
            facts: Facts {
                kind,
                cache: Cache::Cached,
                pages: runs.iter().sum(),
                page_size: 4096,
                huge_pages: 512,
                paged,
                ram: true,
                unbacked: false,
            },
            runs: runs.to_vec(),
        }
    }

    fn request(method: Method, sharing: Sharing, page: u64, pages: u64) -> Request {
        Request {
            method,
            page,
            pages,
            sharing,
            exec: false,
            write: !matches!(sharing, Sharing::PrivateReadOnly),
            admin: false,
            lined_up: true,
        }
    }

    #[test]
    fn sharing_is_what_can_become_copy_on_write() {
        assert_eq!(Sharing::new(true, true, true), Sharing::Shared);
        assert_eq!(Sharing::new(true, false, true), Sharing::Shared);
        // MAP_SHARED through a descriptor that was opened for reading.
        assert_eq!(Sharing::new(false, false, false), Sharing::Shared);
        assert_eq!(Sharing::new(false, false, true), Sharing::PrivateReadOnly);
        assert_eq!(Sharing::new(false, true, true), Sharing::PrivateWritable);
    }

    /// Question B: 16 scattered pages, mapped one by one by `remap_pfn_range`.
    #[test]
    fn question_b() {
        let scattered = memory(Kind::Vmalloc, &[1; 16]);
        let ask = |sharing| decide(&scattered, &request(Method::RemapEach, sharing, 0, 16));
        assert_eq!(ask(Sharing::Shared).unwrap().way, Way::RemapEach);
        assert_eq!(
            ask(Sharing::PrivateReadOnly),
            Ok(Plan {
                way: Way::RemapEach,
                seal: true
            })
        );
        let refusal = ask(Sharing::PrivateWritable).unwrap_err();
        assert_eq!(refusal, Reason::CowNeedsContiguous.with(&[0, 65536, 16]));
        let auto = decide(
            &scattered,
            &request(Method::Auto, Sharing::PrivateWritable, 0, 16),
        );
        assert_eq!(auto.unwrap().way, Way::FaultPage);
    }

    #[test]
    fn coherent_memory_is_mapped_by_the_dma_api() {
        let coherent = memory(Kind::Coherent, &[8]);
        let ask = |request| decide(&coherent, &request).map(|plan| plan.way);
        assert_eq!(
            ask(request(Method::Auto, Sharing::Shared, 0, 8)),
            Ok(Way::Dma)
        );
        let private = request(Method::Auto, Sharing::PrivateWritable, 2, 3);
        assert_eq!(ask(private), Err(Reason::CowShowsAddress.into()));
        assert_eq!(
            ask(Request {
                admin: true,
                lined_up: true,
                ..private
            }),
            Ok(Way::Dma)
        );
        let insert = request(Method::Insert, Sharing::Shared, 0, 8);
        assert_eq!(ask(insert), Err(Reason::NeedsPages.with(&[3, 4])));
    }

    #[test]
    fn one_run_is_counted_from_the_mapped_part() {
        let memory = memory(Kind::Pages, &[4, 4, 8]);
        let ask = |page, pages| {
            decide(
                &memory,
                &request(Method::Remap, Sharing::Shared, page, pages),
            )
            .map(|plan| plan.way)
        };
        assert_eq!(ask(4, 4), Ok(Way::Remap));
        assert_eq!(ask(9, 7), Ok(Way::Remap));
        assert_eq!(
            ask(2, 4),
            Err(Reason::NeedsOneRun.with(&[1, 2 * 4096, 4 * 4096, 2 * 4096]))
        );
        assert_eq!(ask(9, 8).unwrap_err().reason, Reason::BeyondEnd);
        assert_eq!(runs(&memory, 2, 16), 3);
        let iomap = request(Method::Iomap, Sharing::Shared, 4, 4);
        assert_eq!(
            decide(&memory, &iomap),
            Err(Reason::NeedsOneRun.with(&[7, 0, 16 * 4096, 4 * 4096]))
        );
    }

    /// Memory of any sort, as long as it is one that there can be.
    #[derive(Clone, Debug)]
    struct Any {
        facts: Facts,
        runs: Vec<u64>,
        huge: Huge,
    }

    impl Layout for Any {
        fn facts(&self) -> Facts {
            self.facts
        }

        fn run(&self, page: u64) -> u64 {
            let mut start = 0;
            for run in &self.runs {
                if page < start + run {
                    return start + run - page;
                }
                start += run;
            }
            0
        }

        fn huge(&self, page: u64, end: u64) -> Huge {
            if page.saturating_add(self.facts.huge_pages) <= end {
                self.huge
            } else {
                Huge::No
            }
        }
    }

    prop_compose! {
        fn any_memory()(
            kind in prop::sample::select(Kind::own()),
            cache in prop::sample::select(Cache::ALL),
            lengths in prop::collection::vec(1u64..6, 1..6),
            cma: bool, device: bool, unbacked: bool, huge: bool, large: bool, one_run: bool,
        ) -> Any {
            let paged = match kind {
                Kind::Vmalloc | Kind::Pages => true,
                Kind::Contiguous => !cma,
                Kind::Coherent | Kind::Region | Kind::Foreign => false,
            };
            let mut runs = match kind {
                Kind::Contiguous | Kind::Region => std::vec![lengths.iter().sum()],
                // Behind an IOMMU it need not be one run.
                Kind::Coherent if one_run => std::vec![lengths.iter().sum()],
                _ => lengths,
            };
            if large {
                runs[0] += 2048;
            }
            let huge = match kind {
                _ if !huge => Huge::No,
                Kind::Vmalloc => Huge::No,
                Kind::Pages => Huge::Folio,
                Kind::Contiguous if paged && runs[0] % 2 == 0 => Huge::Folio,
                _ => Huge::Pfn,
            };
            let region = kind == Kind::Region;
            Any {
                facts: Facts {
                    kind,
                    cache,
                    pages: runs.iter().sum(),
                    page_size: 4096,
                    huge_pages: 512,
                    paged,
                    ram: !(region && device),
                    unbacked: region && unbacked,
                },
                runs,
                huge,
            }
        }
    }

    prop_compose! {
        /// Mostly within the buffer, often at its edges, sometimes anywhere.
        fn any_range(size: u64)(
            choice in 0..4,
            page in 0..size,
            length in 1..=size,
            far: (u64, u64),
        ) -> (u64, u64) {
            match choice {
                0 => (page, length.min(size - page)),
                1 => (page, size - page),
                2 => (page, length),
                _ => (far.0, far.1.max(1)),
            }
        }
    }

    fn asked() -> impl Strategy<Value = (Any, Request)> {
        any_memory().prop_flat_map(|memory| {
            let range = any_range(memory.facts.pages);
            let methods = prop::sample::select(Method::ALL);
            let sharings = prop::sample::select(Sharing::ALL);
            let rest = (
                range,
                methods,
                sharings,
                prop::bool::weighted(0.05),
                any::<(bool, bool)>(),
            );
            (Just(memory), rest).prop_map(
                |(memory, (range, method, sharing, exec, (admin, lined_up)))| {
                    let request = Request {
                        method,
                        page: range.0,
                        pages: range.1,
                        sharing,
                        exec,
                        write: sharing != Sharing::PrivateReadOnly,
                        admin,
                        lined_up,
                    };
                    (memory, request)
                },
            )
        })
    }

    /// The ways that put page frames in when a page is touched.
    fn at_fault_by_frame(way: Way) -> bool {
        matches!(way, Way::FaultPfn | Way::FaultHugePfn | Way::RemapAndHuge)
    }

    /// The ways that need `struct page`s: `vm_insert_pages` and its like, and faults that give a page.
    fn by_page(way: Way) -> bool {
        use Way::*;
        matches!(
            way,
            Insert | MapPages | Vmalloc | FaultPage | FaultAround | FaultHugeFolio
        )
    }

    /// The ways that are one call over one physical run.
    fn in_one_call(way: Way) -> bool {
        use Way::*;
        matches!(way, Remap | IoRemap | Iomap)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        /// What a plan promises, whatever was asked for.
        #[test]
        fn every_plan_is_one_that_the_kernel_carries_out((memory, request) in asked()) {
            let Ok(plan) = decide(&memory, &request) else {
                return Ok(());
            };
            let facts = memory.facts;
            let cow = request.sharing == Sharing::PrivateWritable;
            // Never executable, never beyond the end, never into the void.
            prop_assert!(!request.exec && !facts.unbacked);
            let end = request.page.checked_add(request.pages);
            prop_assert!(end.is_some_and(|end| end <= facts.pages));
            // Sealed just where nobody may ever write.
            prop_assert_eq!(plan.seal, request.sharing == Sharing::PrivateReadOnly);
            // BUG_ON in vmf_insert_pfn_prot and vmf_insert_pfn_pmd.
            prop_assert!(!(cow && at_fault_by_frame(plan.way)));
            // validate_page_before_insert, and pins of CMA memory.
            prop_assert!(facts.paged || !by_page(plan.way));
            // The area must have VM_USERMAP; the address must be the DMA API's.
            prop_assert!(plan.way != Way::Vmalloc || facts.kind == Kind::Vmalloc);
            prop_assert!(plan.way != Way::Dma || facts.kind == Kind::Coherent);
            // One call counts frame numbers on from the first one.
            let covered = memory.run(request.page) >= request.pages;
            prop_assert!(!in_one_call(plan.way) || covered);
            // It is told where the whole begins, and adds the offset itself.
            prop_assert!(plan.way != Way::Iomap || memory.run(0) >= facts.pages);
            if cow {
                // A copy is cached memory.
                prop_assert_eq!(facts.cache, Cache::Cached);
                // get_remap_pgoff: by frame only the whole at once, and that shows an address.
                if !by_page(plan.way) {
                    prop_assert!(covered);
                    prop_assert!(plan.way != Way::RemapEach || request.pages == 1);
                    prop_assert!(request.admin || !facts.ram);
                }
            }
            // What is asked for is what is done.
            match request.method {
                Method::Auto => prop_assert!(plan.method() != Method::Auto),
                method => prop_assert_eq!(plan.method(), method),
            }
            // Where single pages are faulted in one by one, those around them come along; not where they
            // are to be copied, nor by a method that was asked for by its name.
            let around = request.method == Method::Auto && facts.kind == Kind::Vmalloc && !cow;
            prop_assert_eq!(plan.way == Way::FaultAround, around);
            // A folio in a mapping with VM_MIXEDMAP must never get a huge entry, so there are two ways.
            match plan.way {
                Way::FaultHugeFolio => prop_assert!(memory.huge == Huge::Folio && facts.paged),
                Way::FaultHugePfn => prop_assert_eq!(memory.huge, Huge::Pfn),
                // Only where huge entries come about: a fault for each small one would cost more.
                Way::RemapAndHuge => {
                    prop_assert_eq!(memory.huge, Huge::Pfn);
                    prop_assert!(request.lined_up && request.method == Method::Auto);
                }
                _ => {}
            }
        }

        /// What a refusal says is so.
        #[test]
        fn every_refusal_is_true((memory, request) in asked()) {
            let Err(refusal) = decide(&memory, &request) else {
                return Ok(());
            };
            let facts = memory.facts;
            let cow = request.sharing == Sharing::PrivateWritable;
            let bytes = |pages: u64| pages.saturating_mul(4096);
            let number = u64::from(request.method.number());
            let kind = u64::from(facts.kind.number());
            let [first, second, third, fourth] = refusal.operands;
            match refusal.reason {
                Reason::Executable => prop_assert!(request.exec),
                Reason::BeyondEnd => {
                    prop_assert!(request.page.checked_add(request.pages).is_none_or(|end| end > facts.pages));
                    prop_assert_eq!(
                        (first, second, third),
                        (bytes(request.page), bytes(request.pages), bytes(facts.pages))
                    );
                }
                Reason::RegionUnbacked => {
                    prop_assert!(facts.unbacked);
                    prop_assert_eq!(first, bytes(facts.pages));
                }
                Reason::CowNeedsCached => {
                    prop_assert!(cow && facts.cache != Cache::Cached);
                    prop_assert_eq!(first, u64::from(facts.cache.number()));
                }
                Reason::CowNeedsContiguous => {
                    prop_assert!(cow && request.pages > 1);
                    prop_assert_eq!((first, second), (bytes(request.page), bytes(request.pages)));
                    prop_assert!(third > 1 && third <= request.pages);
                }
                Reason::CowShowsAddress => prop_assert!(cow && facts.ram && !request.admin),
                Reason::CowAtFault => {
                    prop_assert!(cow);
                    prop_assert_eq!(first, number);
                }
                Reason::NeedsOneRun => {
                    prop_assert!(second + third <= bytes(facts.pages) && fourth < third);
                    prop_assert_eq!(first, number);
                    prop_assert_eq!(fourth, bytes(memory.run(second / 4096)));
                }
                Reason::NeedsPages => {
                    prop_assert!(!facts.paged);
                    prop_assert_eq!((first, second), (number, kind));
                }
                Reason::NeedsVmalloc => {
                    prop_assert!(facts.kind != Kind::Vmalloc);
                    prop_assert_eq!(first, kind);
                }
                Reason::NeedsCoherent => {
                    prop_assert!(facts.kind != Kind::Coherent);
                    prop_assert_eq!(first, kind);
                }
                Reason::NothingHuge => {
                    let end = request.page + request.pages;
                    prop_assert_eq!(memory.huge(request.page, end), Huge::No);
                    prop_assert_eq!((first, second), (bytes(request.pages), 2 << 20));
                }
                other => prop_assert!(false, "{other:?} is no reason of the table"),
            }
        }

        /// The end is looked at before anything else about the memory, for any numbers.
        #[test]
        fn beyond_the_end_is_said_first((memory, request) in asked(), page: u64, pages in 1..u64::MAX) {
            let request = Request { page, pages, exec: false, ..request };
            let outside = page.checked_add(pages).is_none_or(|end| end > memory.facts.pages);
            let said = decide(&memory, &request)
                .is_err_and(|refusal| refusal.reason == Reason::BeyondEnd);
            prop_assert_eq!(said, outside);
        }

        /// `auto` never fails where a method would do, except where every one would show an address or
        /// the memory is in pieces.
        #[test]
        fn auto_takes_what_there_is((memory, request) in asked()) {
            let by = |method| decide(&memory, &Request { method, ..request });
            let Err(refusal) = by(Method::Auto) else {
                return Ok(());
            };
            for &method in Method::ALL {
                let other = by(method);
                // A device or CMA memory behind an IOMMU in pieces would need a way by frame of its own.
                prop_assert!(
                    other.is_err() || refusal.reason == Reason::NeedsOneRun,
                    "{method:?}: {other:?}, auto: {refusal:?}"
                );
            }
        }
    }

    /// Every cell of the table once, by hand: memory of each kind in its usual shape, whole.
    #[test]
    fn every_cell() {
        use Reason::*;
        let usual = |kind, cache| {
            let runs = match kind {
                Kind::Vmalloc => std::vec![1; 16],
                Kind::Pages => std::vec![8, 8],
                _ => std::vec![16],
            };
            let mut memory = memory(kind, &runs);
            memory.facts.cache = cache;
            memory
        };
        // Shared; in the order of the methods, from `auto` on. None: it maps.
        let scattered = [None, Some(NeedsOneRun), None, None, None];
        let expected: [(Kind, [Option<Reason>; 12]); 5] = {
            let [auto, remap, each, insert, map_pages] = scattered;
            let (vmalloc, dma, huge) = (Some(NeedsVmalloc), Some(NeedsCoherent), Some(NothingHuge));
            let pages = Some(NeedsPages);
            [
                (
                    Kind::Vmalloc,
                    [
                        auto, remap, each, insert, map_pages, None, dma, remap, remap, None, None,
                        huge,
                    ],
                ),
                (
                    Kind::Pages,
                    [
                        auto, remap, each, insert, map_pages, vmalloc, dma, remap, remap, None,
                        None, huge,
                    ],
                ),
                (
                    Kind::Contiguous,
                    [
                        None, None, None, None, None, vmalloc, dma, None, None, None, None, huge,
                    ],
                ),
                (
                    Kind::Coherent,
                    [
                        None, None, None, pages, pages, vmalloc, None, None, None, pages, None,
                        huge,
                    ],
                ),
                (
                    Kind::Region,
                    [
                        None, None, None, pages, pages, vmalloc, dma, None, None, pages, None, huge,
                    ],
                ),
            ]
        };
        for (kind, reasons) in expected {
            for &cache in Cache::ALL {
                let memory = usual(kind, cache);
                for (&method, reason) in Method::ALL.iter().zip(reasons) {
                    let ask = |sharing, admin| {
                        let request = request(method, sharing, 0, 16);
                        decide(&memory, &Request { admin, ..request })
                            .map_err(|refusal| refusal.reason)
                    };
                    for sharing in [Sharing::Shared, Sharing::PrivateReadOnly] {
                        let seen = ask(sharing, false);
                        assert_eq!(
                            seen.err(),
                            reason,
                            "{kind:?} {cache:?} {method:?} {sharing:?}"
                        );
                    }
                    let private = |admin| ask(Sharing::PrivateWritable, admin).err();
                    let what = std::format!("{kind:?} {cache:?} {method:?}, private and writable");
                    if cache != Cache::Cached {
                        assert_eq!(private(true), Some(CowNeedsCached), "{what}");
                        continue;
                    }
                    let paged = matches!(kind, Kind::Vmalloc | Kind::Pages | Kind::Contiguous);
                    let copied = match method {
                        _ if reason.is_some() => reason,
                        Method::RemapEach => Some(CowNeedsContiguous),
                        Method::FaultPfn => Some(CowAtFault),
                        _ => None,
                    };
                    assert_eq!(private(true), copied, "{what}, as an administrator");
                    let by_frame = match method {
                        Method::Auto => !paged,
                        Method::Remap | Method::Dma | Method::Iomap | Method::IoRemap => true,
                        _ => false,
                    };
                    let hidden = match copied {
                        None if by_frame => Some(CowShowsAddress),
                        other => other,
                    };
                    assert_eq!(private(false), hidden, "{what}, as somebody else");
                }
            }
        }
    }
}
