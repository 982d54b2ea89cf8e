//! Every kind mapped by every method that applies: what the tests of the memory manager go through.

use super::sharing::{shows, tag};
use crate::check::{Failure, Outcome};
use crate::proc::{vma_at, Vma};
use crate::session::{Session, KINDS};
use crate::sys::{Map, PAGE, RW, SHARED};
use mapbuf_abi::{Alloc, Kind, Method};

/// What the memory manager finds in a mapping. Its answers follow from that, not from who made it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sort {
    /// Pages, by faults: neither `VM_PFNMAP` nor `VM_MIXEDMAP`.
    Pages,
    /// Pages that were inserted, or will be by faults: `VM_MIXEDMAP` (mm/memory.c, `vm_insert_pages`).
    Inserted,
    /// Page frames: `VM_PFNMAP` (mm/memory.c, `remap_pfn_range`; `vmf_insert_pfn` wants it).
    Frames,
}

impl Sort {
    /// Whether the pages can be had by `get_user_pages` (mm/gup.c, `check_vma_flags`).
    pub fn has_pages(self) -> bool {
        self != Self::Frames
    }
}

/// What a kind mapped by a method is; `None` where the method does not apply to memory that is `one_run`, or not.
fn sort(kind: Kind, method: Method, one_run: bool) -> Option<Sort> {
    // A page of coherent memory has no reference count of its own (`__GFP_COMP` is not allowed there).
    let paged = kind != Kind::Coherent;
    match method {
        // A fault brings along the scattered pages around, which takes VM_MIXEDMAP.
        Method::Auto if kind == Kind::Vmalloc => Some(Sort::Inserted),
        Method::Auto if paged => Some(Sort::Pages),
        Method::FaultPage => paged.then_some(Sort::Pages),
        Method::Insert | Method::MapPages => paged.then_some(Sort::Inserted),
        Method::Vmalloc => (kind == Kind::Vmalloc).then_some(Sort::Inserted),
        Method::Remap | Method::IoRemap | Method::Iomap => one_run.then_some(Sort::Frames),
        Method::Auto | Method::Dma => (kind == Kind::Coherent).then_some(Sort::Frames),
        Method::RemapEach | Method::FaultPfn => Some(Sort::Frames),
        // A folio of just 2 MiB gets an entry as a folio (mm/memory.c, `do_set_pmd`), any other run as frames.
        Method::FaultHuge => match kind {
            Kind::Pages => Some(Sort::Pages),
            Kind::Contiguous | Kind::Coherent => Some(Sort::Frames),
            _ => None,
        },
    }
}

/// One of them.
pub struct Way {
    pub kind: Kind,
    pub method: Method,
    pub sort: Sort,
    pub session: Session,
    pub buffer: Alloc,
    /// The offset that maps the buffer by this method.
    pub offset: u64,
    pub bytes: usize,
}

impl Way {
    /// Maps the whole buffer, shared and writable.
    pub fn map(&self) -> Outcome<Map> {
        Ok(self.session.map(self.bytes, RW, SHARED, self.offset)?)
    }

    /// The same, with the number of each page at its start.
    pub fn numbered(&self) -> Outcome<Map> {
        let map = self.map()?;
        for page in 0..self.pages() {
            map.set_u64(page * PAGE, tag(page));
        }
        Ok(map)
    }

    /// Whether its pages are to be had in a core dump: `remap_vmalloc_range_partial` (mm/vmalloc.c) sets VM_DONTDUMP, as
    /// `remap_pfn_range` does.
    pub fn dumped(&self) -> bool {
        self.sort.has_pages() && self.method != Method::Vmalloc
    }

    pub fn pages(&self) -> usize {
        self.bytes / PAGE
    }

    /// That each page has its number, as this mapping, a fork's and the kernel show it.
    pub fn whole(&self, map: &Map) -> Outcome {
        shows(map, 0, self.pages(), 0)?;
        self.kernel_has(self.pages())
    }

    /// That the kernel's view has the numbers of the first pages.
    pub fn kernel_has(&self, pages: usize) -> Outcome {
        for page in 0..pages {
            let mut word = [0; 8];
            let at = self.buffer.mmap_offset + (page * PAGE) as u64;
            self.session.pread(&mut word, at)?;
            if u64::from_ne_bytes(word) != tag(page) {
                return Err(Failure::new(format!(
                    "the kernel's view of page {page} is {word:x?}"
                )));
            }
        }
        Ok(())
    }
}

/// The row of a mapping in smaps.
pub fn row(map: &Map) -> Outcome<Vma> {
    vma_at(map.start).ok_or_else(|| Failure::new("the mapping is not in smaps"))
}

/// Runs a check for every kind by every method that applies, each with a new buffer of 16 pages, or of 4 MiB where huge
/// entries are asked for. A method that does not apply must be refused.
pub fn each_way(check: impl Fn(&Way) -> Outcome) -> Outcome {
    for kind in KINDS {
        for &method in Method::ALL {
            let bytes = match method {
                Method::FaultHuge => 4 << 20,
                _ => 16 * PAGE,
            };
            let session = Session::open()?;
            let buffer = session.alloc(kind, bytes)?;
            let offset = session.offset(buffer.id, method)?;
            let what = |why: &dyn std::fmt::Display| {
                Failure::new(format!("{} by {}: {why}", kind.name(), method.name()))
            };
            // Small buffers of scattered kinds are one run now and then.
            let one_run = session.info(buffer.id)?.segments == 1;
            let Some(sort) = sort(kind, method, one_run) else {
                if session.map(bytes, RW, SHARED, offset).is_ok() {
                    return Err(what(&"it maps, and is not in the list"));
                }
                continue;
            };
            let way = Way {
                kind,
                method,
                sort,
                session,
                buffer,
                offset,
                bytes,
            };
            check(&way).map_err(|failure| match failure {
                Failure::Failed(why) => what(&why),
                skipped => skipped,
            })?;
        }
    }
    Ok(())
}
