//! `mmap`: which part of which buffer, by which of the kernel's functions, and whether that can be.

use super::files::What;
use super::memory::Buffer;
use super::space::{Vma, EXEC, WRITE};
use super::{Refused, Result, Seen, World};
use crate::answer::Answer;
use crate::op::{Op, PAGE};
use mapbuf_abi::{Cache, Kind, Method, Reason};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Pages in an entry of 2 MiB.
pub const HUGE: u64 = 512;
/// Pages in the largest block of the page allocator.
pub const BLOCK: u64 = 1024;

/// A part of a buffer, and how it is to be mapped.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The first page.
    pub page: u64,
    /// How many.
    pub pages: u64,
    /// By which function.
    pub method: Method,
    /// `MAP_PRIVATE` and `PROT_WRITE`.
    pub copies: bool,
    /// `PROT_EXEC`
    pub exec: bool,
    /// The caller may see physical addresses.
    pub admin: bool,
    /// The driver found no place for a huge entry.
    pub nothing_huge: bool,
}

/// Whether the mapping is one of page frames, or why it cannot be.
///
/// # Errors
///
/// The reason of the refusal.
pub fn plan(buffer: &Buffer, wanted: &Wanted) -> std::result::Result<bool, Reason> {
    let Wanted { page, pages, .. } = *wanted;
    if wanted.exec {
        return Err(Reason::Executable);
    }
    if page + pages > buffer.len() {
        return Err(Reason::BeyondEnd);
    }
    if wanted.copies && buffer.cache != Cache::Cached {
        return Err(Reason::CowNeedsCached);
    }
    let method = match wanted.method {
        // It may go at any moment, so nothing is mapped before it is looked for.
        Method::Auto if buffer.device.is_some() => match huge(buffer, wanted) {
            None => Method::FaultPfn,
            Some(_) => Method::FaultHuge,
        },
        method if buffer.device.is_some() => match method {
            Method::FaultPage | Method::FaultPfn | Method::FaultHuge => method,
            _ => return Err(Reason::RevocableByFault),
        },
        Method::Auto if buffer.has_pages() => Method::FaultPage,
        Method::Auto if buffer.kind == Kind::Region => Method::Remap,
        Method::Auto => Method::Dma,
        method => method,
    };
    let frames = |fits: bool, why: Reason| match (fits, wanted.copies, wanted.admin) {
        (false, ..) => Err(why),
        // The frame's number would be in the process's list of mappings.
        (true, true, false) => Err(Reason::CowShowsAddress),
        _ => Ok(true),
    };
    let paged = |fits: bool, why: Reason| if fits { Ok(false) } else { Err(why) };
    match method {
        Method::Remap | Method::IoRemap => {
            frames(buffer.run_from(page) >= pages, Reason::NeedsOneRun)
        }
        Method::Iomap => frames(buffer.run_from(0) >= buffer.len(), Reason::NeedsOneRun),
        // One call a page: a copy-on-write mapping can only be made by one call.
        Method::RemapEach => frames(!wanted.copies || pages == 1, Reason::CowNeedsContiguous),
        Method::Dma => frames(buffer.kind == Kind::Coherent, Reason::NeedsCoherent),
        Method::Vmalloc => paged(buffer.kind == Kind::Vmalloc, Reason::NeedsVmalloc),
        Method::Insert | Method::MapPages | Method::FaultPage => {
            paged(buffer.has_pages(), Reason::NeedsPages)
        }
        Method::FaultPfn if wanted.copies => Err(Reason::CowAtFault),
        Method::FaultPfn => Ok(true),
        Method::FaultHuge => match huge(buffer, wanted) {
            None => Err(Reason::NothingHuge),
            Some(true) if wanted.copies => Err(Reason::CowAtFault),
            Some(frames) => Ok(frames),
        },
        Method::Auto => Err(Reason::UnknownMethod),
    }
}

/// Whether a huge entry can lie somewhere in a part of a buffer, and if so, whether it is one of frames.
///
/// The page allocator gives blocks that are aligned to their size, so frames line up where pages do. What fits no block
/// lies anywhere, and only the driver knows where: what it says is believed where it can be so.
fn huge(buffer: &Buffer, wanted: &Wanted) -> Option<bool> {
    if buffer.gone() {
        return None;
    }
    let (page, end) = (wanted.page, wanted.page + wanted.pages);
    let first = page.next_multiple_of(HUGE);
    let mut starts = (first..end)
        .step_by(HUGE as usize)
        .filter(|start| start + HUGE <= end);
    match buffer.kind {
        Kind::Pages => starts
            .any(|start| buffer.run_from(start) >= HUGE)
            .then_some(false),
        // Folios of 2 MiB, where the single pages behind them are few.
        Kind::Contiguous
            if buffer.len() > BLOCK && buffer.len() % HUGE <= buffer.len() / HUGE * 128 =>
        {
            starts.next().map(|_| false)
        }
        Kind::Contiguous if buffer.len() > BLOCK => {
            let certain = wanted.pages >= 2 * HUGE - 1;
            let possible = wanted.pages >= HUGE && !wanted.nothing_huge;
            (certain || possible).then_some(true)
        }
        Kind::Contiguous if buffer.len() == HUGE => starts.next().map(|_| false),
        Kind::Contiguous | Kind::Coherent => starts.next().map(|_| true),
        // Ours are too small.
        Kind::Vmalloc | Kind::Region | Kind::Foreign => None,
    }
}

impl World {
    pub(super) fn map(&mut self, worker: u8, op: &Op, seen: Option<Seen<'_>>) -> Result<Answer> {
        let Op::Map {
            file,
            at,
            pages,
            place,
            prot,
            sharing,
            populate,
        } = *op
        else {
            return Err(Refused::Kernel(libc::EINVAL));
        };
        let kernel = |errno| Err(Refused::Kernel(errno));
        let process = self.process(worker);
        let offset = process.place(place);
        if offset % PAGE as u64 != 0 {
            return kernel(libc::EINVAL);
        }
        let Some(file) = process.file(file).cloned() else {
            return kernel(libc::EBADF);
        };
        let (start, pages, page) = (u64::from(at), u64::from(pages), offset / PAGE as u64);
        // From here on `do_mmap` of `mm/mmap.c`, in its order.
        if pages == 0 {
            return kernel(libc::EINVAL);
        }
        if process.space.any(start, start + pages) {
            return kernel(libc::EEXIST);
        }
        let shared = match sharing {
            1 => true,
            2 => false,
            // `MAP_SHARED_VALIDATE` takes no `MAP_FIXED_NOREPLACE`: it is not in `LEGACY_MAP_MASK`.
            3 => return kernel(libc::EOPNOTSUPP),
            _ => return kernel(libc::EINVAL),
        };
        let write = prot & WRITE != 0;
        if shared && write && !file.writes() || !file.reads() {
            return kernel(libc::EACCES);
        }
        let (buffer, first, method) = match &file.what {
            What::Session(session) => session.target(page)?,
            What::Named(buffer) => (Rc::clone(buffer), page, Method::Auto),
            What::DmaBuf(buffer) => {
                // `init_pseudo` of `fs/libfs.c` makes them `noexec`.
                if prot & EXEC != 0 {
                    return kernel(libc::EPERM);
                }
                if page + pages > buffer.len() {
                    return kernel(libc::EINVAL);
                }
                (Rc::clone(buffer), page, Method::Auto)
            }
        };
        let wanted = Wanted {
            page: first,
            pages,
            method,
            copies: !shared && write,
            exec: prot & EXEC != 0,
            admin: process.admin(),
            nothing_huge: seen.and_then(|seen| seen.answer.reason()) == Some(Reason::NothingHuge),
        };
        let frames = plan(&buffer, &wanted).map_err(|reason| match file.what {
            What::DmaBuf(_) => Refused::Kernel(reason.errno()),
            _ => Refused::Driver(reason),
        })?;
        let mut vma = Vma {
            start,
            end: start + pages,
            buffer,
            first,
            prot,
            // A private mapping that is not written to from the first never is.
            may_write: if shared { file.writes() } else { write },
            shared,
            frames,
            alone: matches!(file.what, What::Named(_)),
            copies: BTreeMap::new(),
        };
        // `populate_vma_page_range` of `mm/gup.c` writes to what is private, and leaves out page frames.
        if populate && wanted.copies && !frames {
            vma.copies = (first..first + pages)
                .map(|page| (page, vma.buffer.page(page)))
                .collect();
        }
        self.process_mut(worker).space.insert(vma);
        Ok(Answer::done())
    }
}
