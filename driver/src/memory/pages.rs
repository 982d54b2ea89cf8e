// SPDX-License-Identifier: GPL-2.0

//! `pages`: folios, the largest orders first.
//!
//! The largest order is that of a PMD entry, since a folio of any other size gets none (`do_set_pmd` of
//! `mm/memory.c`). When an order is not to be had, what is left is tried with the next smaller one.

use super::{
    Backing,
    Spec, //
};
use crate::{
    abi::{reason::Refusal, wire::Cache},
    policy::plan::Huge,
    sys::{
        caller,
        pages::{
            self as phys,
            PageRef,
            Recached,
            Run, //
        },
        user::Bytes, //
    },
};
use core::ptr::NonNull;
use kernel::prelude::*;

/// One folio, and where it begins in the buffer.
struct Piece {
    start: usize,
    run: Run,
}

/// # Invariants
///
/// The pieces lie one behind the other, without gaps, from page 0 to page `len`.
pub(crate) struct Pages {
    /// Goes before the memory.
    recached: Option<Recached>,
    pieces: KVVec<Piece>,
    len: usize,
    cache: Cache,
}

impl Pages {
    pub(super) fn new(spec: &Spec) -> Result<Self, Refusal> {
        let mut memory = Self {
            recached: None,
            pieces: KVVec::new(),
            len: 0,
            cache: spec.cache,
        };
        let mut order = phys::pmd_order();
        while memory.len < spec.pages {
            let left = spec.pages - memory.len;
            order = order.min(left.ilog2());
            match Run::folio(order, spec.node, false) {
                Some(run) => memory.push(run, spec)?,
                None if order > 0 && !caller::dying() => order -= 1,
                None => return Err(spec.out_of_memory(None, memory.len, 0)),
            }
            caller::breathe();
            if caller::dying() {
                return Err(spec.out_of_memory(None, memory.len, 0));
            }
        }
        let pages = memory.pieces.iter().flat_map(|piece| piece.run.pages());
        memory.recached = Recached::new(spec.cache, spec.pages, pages)
            .map_err(|error| spec.cache_refused(error))?;
        Ok(memory)
    }

    fn push(&mut self, run: Run, spec: &Spec) -> Result<(), Refusal> {
        let start = self.len;
        let pages = run.len();
        run.set_index(start);
        self.pieces
            .push(Piece { start, run }, GFP_KERNEL_ACCOUNT | __GFP_NOWARN)
            .map_err(|_| spec.out_of_memory(None, start, 0))?;
        // INVARIANT: The new piece begins where the last one ended.
        self.len = start + pages;
        Ok(())
    }

    /// The number of the piece that holds a page.
    fn find(&self, index: usize) -> Option<usize> {
        if index >= self.len {
            return None;
        }
        self.pieces
            .partition_point(|piece| piece.start <= index)
            .checked_sub(1)
    }

    /// The piece that holds a page, and the page's place in it.
    fn locate(&self, index: usize) -> Option<(&Run, usize)> {
        let piece = self.pieces.get(self.find(index)?)?;
        Some((&piece.run, index.checked_sub(piece.start)?))
    }
}

impl Backing for Pages {
    fn len(&self) -> usize {
        self.len
    }

    fn paged(&self) -> bool {
        true
    }

    fn page(&self, index: usize) -> Option<PageRef> {
        let (run, at) = self.locate(index)?;
        run.page(at)
    }

    fn pfn(&self, index: usize) -> Option<u64> {
        self.page(index).map(PageRef::pfn)
    }

    fn run(&self, index: usize) -> usize {
        let Some((number, (first, at))) = self.find(index).zip(self.locate(index)) else {
            return 0;
        };
        let mut end = first.pfn() + first.len() as u64;
        let mut pages = first.len() - at;
        for piece in self.pieces.iter().skip(number + 1) {
            if piece.run.pfn() != end {
                break;
            }
            end += piece.run.len() as u64;
            pages += piece.run.len();
        }
        pages
    }

    fn cache(&self) -> Cache {
        self.cache
    }

    fn huge(&self, start: usize, end: usize) -> Huge {
        let huge = 1 << phys::pmd_order();
        let whole = |piece: &Piece| {
            piece.run.len() == huge && piece.start >= start && piece.start + huge <= end
        };
        if huge > 1 && self.pieces.iter().any(whole) {
            Huge::Folio
        } else {
            Huge::No
        }
    }

    fn address(&self) -> Option<NonNull<u8>> {
        None
    }

    fn bytes(&self, index: usize, offset: usize, length: usize) -> Option<Bytes<'_>> {
        let (run, at) = self.locate(index)?;
        run.bytes(at, offset, length)
    }
}
