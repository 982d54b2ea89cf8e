// SPDX-License-Identifier: GPL-2.0

//! KUnit tests of what exists only inside the kernel: where the kernel has KUnit and is told to run tests
//! (`kunit.enable=1`), they run when the module loads. Elsewhere nothing of this is compiled.

use kernel::macros::kunit_tests;

/// Pages that the driver takes and gives back.
#[kunit_tests(mapbuf_pages)]
mod pages {
    use crate::sys::{
        alloc::{
            NumaNode,
            Run,
            MAX_ORDER, //
        },
        PageRef, //
    };

    fn contiguous(run: &Run) -> bool {
        (0..run.len()).all(|index| {
            let pfn = run.page(index).map(PageRef::pfn);
            pfn == run.frames(0, 1).map(|run| run.first() + index as u64)
        })
    }

    #[test]
    fn split_run_has_the_pages_that_were_asked_for_and_no_more() {
        for count in [1, 2, 3, 5, 8, 600] {
            let Some(run) = Run::split(count, NumaNode::ANY) else {
                assert!(false);
                return;
            };
            assert_eq!(run.len(), count);
            assert!(contiguous(&run));
            assert!(run.page(count).is_none());
            assert!(!run.compound());
        }
        assert!(Run::split(0, NumaNode::ANY).is_none_or(|run| run.len() == 0));
        assert!(Run::split((1 << MAX_ORDER) + 1, NumaNode::ANY).is_none());
        assert!(Run::split(usize::MAX, NumaNode::ANY).is_none());
    }

    #[test]
    fn folio_is_one_and_a_single_page_is_no_compound() {
        for order in [0, 1, 4, 9] {
            let Some(run) = Run::folio(order, NumaNode::ANY, true) else {
                assert!(false);
                return;
            };
            assert_eq!(run.len(), 1 << order);
            assert!(contiguous(&run));
            assert_eq!(run.compound(), order > 0);
            let begins = run
                .page(0)
                .is_some_and(|page| page.begins_folio(1 << order));
            assert_eq!(begins, order > 0);
        }
    }

    #[test]
    fn bytes_end_with_their_page() {
        let Some(run) = Run::split(2, NumaNode::ANY) else {
            assert!(false);
            return;
        };
        let length = |index, offset, length| {
            let bytes = run.bytes(index, offset, length);
            bytes.map(|bytes| bytes.len())
        };
        assert_eq!(length(0, 0, usize::MAX), Some(kernel::page::PAGE_SIZE));
        assert_eq!(length(1, 4095, 8), Some(1));
        assert_eq!(length(1, 4096, 8), Some(0));
        assert_eq!(length(1, 4097, 8), None);
        assert_eq!(length(2, 0, 8), None);
    }
}

/// Arrays of any length.
#[kunit_tests(mapbuf_long_vec)]
mod long_vec {
    use crate::sys::LongVec;
    use kernel::{
        page::PAGE_SIZE,
        prelude::*, //
    };

    /// More than fill a page.
    const MANY: usize = 3 * PAGE_SIZE / size_of::<usize>();

    #[test]
    fn entries_stay_when_a_vector_outgrows_a_page() {
        let mut entries = LongVec::new();
        for entry in 0..MANY {
            assert!(entries.push(entry, GFP_KERNEL).is_ok());
        }
        assert_eq!(entries.len(), MANY);
        assert!(entries.iter().copied().eq(0..MANY));
        assert_eq!(entries.pop(), Some(MANY - 1));
        entries.clear();
        assert!(entries.is_empty());
    }

    #[test]
    fn room_that_was_asked_for_is_there() {
        for count in [1, MANY] {
            let Ok(mut entries) = LongVec::with_capacity(count, GFP_KERNEL) else {
                assert!(false);
                return;
            };
            assert!((0..count).all(|entry| entries.push_within_capacity(entry)));
            assert!(entries.iter().copied().eq(0..count));
        }
    }
}

/// Changes of the cache mode that fail in the middle.
#[kunit_tests(mapbuf_recached)]
mod recached {
    use crate::{
        abi::wire::Cache,
        sys::{
            alloc::{
                NumaNode,
                Run, //
            },
            failing,
            Recached, //
        },
    };
    use core::ptr::NonNull;
    use kernel::page::PAGE_SIZE;

    /// Two batches.
    const ORDER: u32 = 10;

    fn all_cached(start: NonNull<u8>) -> bool {
        (0..1usize << ORDER).all(|page| {
            let address = start.as_ptr().wrapping_add(page * PAGE_SIZE);
            NonNull::new(address).is_some_and(failing::is_cached)
        })
    }

    #[test]
    fn memory_is_cached_again_however_far_the_change_came() {
        for cache in [Cache::Uncached, Cache::WriteCombined] {
            for failing in [1, 2] {
                let Some(run) = Run::folio(ORDER, NumaNode::ANY, true) else {
                    assert!(false);
                    return;
                };
                let start = run.start();
                failing::batch(failing);
                assert!(Recached::new(run, cache).is_err());
                // The memory was given back, but the page tables can still be read.
                assert!(all_cached(start));
            }
        }
    }

    #[test]
    fn memory_is_cached_again_when_it_is_given_back() {
        let Some(run) = Run::folio(ORDER, NumaNode::ANY, true) else {
            assert!(false);
            return;
        };
        let start = run.start();
        let Ok(run) = Recached::new(run, Cache::Uncached) else {
            assert!(false);
            return;
        };
        assert!(!failing::is_cached(start));
        drop(run);
        assert!(all_cached(start));
    }
}

/// What is remembered of refusals.
#[kunit_tests(mapbuf_refusals)]
mod refusals {
    use crate::{
        abi::{
            reason::Reason,
            wire::{
                LastError,
                Operation, //
            },
        },
        refusals::Refusals, //
    };
    use kernel::prelude::*;

    fn told(refusals: &Refusals) -> LastError {
        let mut last = LastError::default();
        refusals.tell(&mut last);
        last
    }

    #[test]
    fn last_refusal_of_the_thread_is_told() {
        let Ok(refusals) = KBox::pin_init(Refusals::new(), GFP_KERNEL) else {
            assert!(false);
            return;
        };
        assert_eq!(told(&refusals).sequence, 0);
        let refused = refusals.note(Operation::Free, Err::<(), _>(Reason::NoSuchId.with(&[7])));
        assert_eq!(refused, Err(ENOENT));
        let last = told(&refusals);
        assert_eq!(last.sequence, 1);
        assert_eq!(last.reason, Reason::NoSuchId.number());
        assert_eq!(last.operation, Operation::Free.number());
        assert_eq!(last.operands.first(), Some(&7));
        // A success leaves the refusal alone; the next refusal replaces it.
        assert_eq!(refusals.note(Operation::Info, Ok(1)), Ok(1));
        assert_eq!(told(&refusals).sequence, 1);
        let refused = refusals.note(Operation::Mmap, Err::<(), _>(Reason::NameTaken.into()));
        assert!(refused.is_err());
        assert_eq!(told(&refusals).sequence, 2);
        assert_eq!(told(&refusals).operation, Operation::Mmap.number());
    }
}

/// Who holds memory that may go.
#[kunit_tests(mapbuf_lease)]
mod lease {
    use crate::sys::lease::{
        Lease,
        OWNED, //
    };
    use kernel::prelude::*;

    #[test]
    fn hold_is_of_its_own_lease_and_of_no_other() {
        let made = KBox::pin_init(Lease::new(), GFP_KERNEL)
            .and_then(|one| Ok((one, KBox::pin_init(Lease::new(), GFP_KERNEL)?)));
        let Ok((one, other)) = made else {
            assert!(false);
            return;
        };
        let Some(hold) = one.hold() else {
            assert!(false);
            return;
        };
        assert!(hold.is_of(&one));
        assert!(!hold.is_of(&other));
        assert!(!OWNED.is_of(&one));
        assert_eq!((one.holds(), other.holds()), (1, 0));
        drop(hold);
        one.revoke();
        assert!(one.hold().is_none());
        assert!(other.hold().is_some());
    }

    #[test]
    fn entries_are_made_only_where_they_are_looked_for() {
        let Ok(lease) = KBox::pin_init(Lease::new(), GFP_KERNEL) else {
            assert!(false);
            return;
        };
        // Nothing of either is read.
        let (here, elsewhere) = (
            core::ptr::without_provenance(64),
            core::ptr::without_provenance(128),
        );
        assert!(lease.hold().is_some_and(|hold| !hold.is_found_in(here)));
        assert!(lease.look_in(here));
        assert!(!lease.look_in(elsewhere));
        assert!(lease.hold().is_some_and(|hold| hold.is_found_in(here)));
        assert!(lease
            .hold()
            .is_some_and(|hold| !hold.is_found_in(elsewhere)));
        assert!(OWNED.is_found_in(elsewhere));
    }
}
