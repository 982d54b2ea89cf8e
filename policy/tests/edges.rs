//! Every function that takes numbers from a caller, at every edge that 64 bits have: no sum wraps, no product does, and
//! the answer is the one that wide arithmetic gives. The numbers are all those next to a power of two or of a limit
//! of the interface; functions of several numbers get all combinations.
//!
//! Built with overflow checks, as `cargo test` does, a sum that wraps is a panic.

use mapbuf_abi::{reason::Reason, Cache, Kind, Method, MAX_IDS, MAX_OFFSET_PAGES, MAX_STRUCT_SIZE};
use mapbuf_policy::limit::Limits;
use mapbuf_policy::place::{self, FIRST_PACKED, MAX_BUFFER_PAGES};
use mapbuf_policy::plan::{decide, runs, Facts, Huge, Layout, Request, Sharing};
use mapbuf_policy::request;

const PAGE: u64 = 4096;

/// How far around an edge.
const AROUND: u64 = 1;
/// Every how many powers of two are an edge.
const STEP: usize = if cfg!(miri) { 16 } else { 1 };

/// The numbers around these, in order, each once.
fn around(edges: impl IntoIterator<Item = u64>) -> Vec<u64> {
    let mut all: Vec<u64> = edges
        .into_iter()
        .flat_map(|edge| {
            (0..=AROUND).flat_map(move |by| [edge.wrapping_add(by), edge.wrapping_sub(by)])
        })
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The edges of a 64-bit number of pages or bytes.
fn edges() -> Vec<u64> {
    let powers = (0..64).step_by(STEP).map(|bit| 1 << bit);
    let limits = [
        0,
        FIRST_PACKED,
        MAX_OFFSET_PAGES,
        MAX_BUFFER_PAGES,
        MAX_BUFFER_PAGES * PAGE,
        i64::MAX as u64,
        u64::MAX,
    ];
    around(powers.chain(limits))
}

/// Few enough for combinations of four and five.
fn few_edges() -> Vec<u64> {
    around([
        0,
        PAGE,
        1 << 20,
        MAX_OFFSET_PAGES,
        1 << 52,
        1 << 63,
        u64::MAX,
    ])
}

#[test]
fn a_range_lies_within_a_buffer_or_it_does_not() {
    let edges = edges();
    for &page in &edges {
        for &pages in &edges {
            let end = u128::from(page) + u128::from(pages);
            for &size in &edges {
                let answer = place::within(page, pages, size, PAGE);
                if end <= u128::from(size) {
                    assert_eq!(answer.map(u128::from), Ok(end), "{page} {pages} {size}");
                } else {
                    let refusal = answer.unwrap_err();
                    assert_eq!(refusal.reason, Reason::BeyondEnd, "{page} {pages} {size}");
                }
            }
        }
    }
}

#[test]
fn an_offset_is_an_id_or_lies_in_packed_space() {
    for page in edges() {
        match place::id_at(page) {
            Some(id) => assert!(u64::from(id) == page && id < MAX_IDS),
            None => assert!(page >= FIRST_PACKED),
        }
        // The offset in bytes that a program passes to mmap has room for every page offset that is given out.
        if page < MAX_OFFSET_PAGES {
            assert!(i64::try_from(page * PAGE).is_ok());
        }
    }
    for id in edges().into_iter().filter_map(|id| u32::try_from(id).ok()) {
        assert!((1..MAX_IDS).contains(&place::id_after(id)), "{id}");
        assert_eq!(place::wanted_id(id).is_ok(), id < MAX_IDS, "{id}");
    }
}

#[test]
fn seeking_never_leaves_the_file() {
    let edges = edges();
    let positions: Vec<i64> = few_edges()
        .into_iter()
        .filter_map(|at| i64::try_from(at).ok())
        .collect();
    let offsets: Vec<i64> = edges.iter().map(|&at| at as i64).collect();
    for &position in &positions {
        for &offset in &offsets {
            for size in few_edges().into_iter().map(Some).chain([None]) {
                for from in -1..5 {
                    let answer = place::seek(position, size, offset, from);
                    let end = size.and_then(|size| i64::try_from(size).ok());
                    let base = match from {
                        place::whence::SET => Some(0),
                        place::whence::CUR => Some(i128::from(position)),
                        place::whence::END => end.map(i128::from),
                        _ => None,
                    };
                    let most = end.map_or(i128::from(i64::MAX), i128::from);
                    let to = base
                        .map(|base| base + i128::from(offset))
                        .filter(|to| (0..=most).contains(to));
                    assert_eq!(
                        answer.ok().map(i128::from),
                        to,
                        "{position} {offset} {size:?} {from}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_buffer_has_as_many_pages_as_its_bytes_need() {
    for bytes in edges() {
        let pages = u128::from(bytes).div_ceil(u128::from(PAGE));
        let fits = pages > 0 && pages <= u128::from(MAX_BUFFER_PAGES);
        let answer = request::buffer_pages(bytes, PAGE);
        assert_eq!(
            answer.ok().map(u128::from),
            fits.then_some(pages),
            "{bytes}"
        );
        // What the driver makes of it in bytes.
        if let Ok(pages) = answer {
            assert!(pages.checked_mul(PAGE).is_some());
            assert!(FIRST_PACKED + pages <= MAX_OFFSET_PAGES);
        }
    }
}

#[test]
fn a_struct_is_copied_no_further_than_both_know_it() {
    let sizes = || {
        edges()
            .into_iter()
            .filter_map(|size| u32::try_from(size).ok())
    };
    for given in sizes() {
        for least in [4, 16, 96] {
            for known in [least, least + 8, MAX_STRUCT_SIZE] {
                let fits = (least..=MAX_STRUCT_SIZE).contains(&given);
                let copied = fits.then_some(given.min(known));
                assert_eq!(
                    request::struct_size(given, least, known).ok(),
                    copied,
                    "{given} {least} {known}"
                );
            }
        }
        assert_eq!(request::mode(given).is_ok(), given & !0o666 == 0);
    }
}

#[test]
fn a_charge_passes_no_limit() {
    let edges = few_edges();
    for &bytes in &edges {
        for &used in &edges {
            for &limit in &edges {
                let limits = Limits {
                    all: limit,
                    user: limit,
                };
                let sum = u128::from(used) + u128::from(bytes);
                let fits = (sum <= u128::from(limit)).then_some(sum);
                let all = limits.charge(bytes, used).ok().map(u128::from);
                let user = limits.charge_user(bytes, used, u32::MAX);
                assert_eq!(all, fits);
                assert_eq!(user.ok().map(u128::from), fits);
            }
        }
    }
}

/// Memory of any size in runs of one length.
struct Any {
    facts: Facts,
    run: u64,
}

impl Layout for Any {
    fn facts(&self) -> Facts {
        self.facts
    }

    fn run(&self, page: u64) -> u64 {
        let left = self.facts.pages.saturating_sub(page);
        (self.run - page % self.run).min(left)
    }

    fn huge(&self, page: u64, end: u64) -> Huge {
        if end - page >= self.facts.huge_pages {
            Huge::Pfn
        } else {
            Huge::No
        }
    }
}

// Every part of a buffer of every size by every method, shared and private: a plan only for what lies within.
#[test]
fn no_plan_reaches_beyond_the_end() {
    for &pages in few_edges().iter().filter(|&&pages| pages > 0) {
        for &page in &few_edges() {
            for &part in few_edges().iter().filter(|&&part| part > 0) {
                for &kind in Kind::own() {
                    let memory = Any {
                        facts: Facts {
                            kind,
                            cache: Cache::Cached,
                            pages,
                            page_size: PAGE,
                            huge_pages: 512,
                            paged: kind == Kind::Pages,
                            ram: true,
                            unbacked: false,
                        },
                        // Runs are counted for a reason's sake only: not all of 2^63 of them here.
                        run: u64::MAX,
                    };
                    for &method in Method::ALL {
                        for &sharing in Sharing::ALL {
                            let request = Request {
                                method,
                                page,
                                pages: part,
                                sharing,
                                exec: false,
                                write: sharing != Sharing::PrivateReadOnly,
                                admin: true,
                                lined_up: true,
                            };
                            let end = u128::from(page) + u128::from(part);
                            let answer = decide(&memory, &request);
                            if end > u128::from(pages) {
                                let reason = answer.unwrap_err().reason;
                                assert_eq!(reason, Reason::BeyondEnd, "{request:?}");
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn runs_are_counted_to_the_end_and_no_further() {
    let memory = |pages, run| Any {
        facts: Facts {
            kind: Kind::Vmalloc,
            cache: Cache::Cached,
            pages,
            page_size: PAGE,
            huge_pages: 512,
            paged: true,
            ram: true,
            unbacked: false,
        },
        run,
    };
    assert_eq!(runs(&memory(u64::MAX, 1 << 62), 0, u64::MAX), 4);
    assert_eq!(runs(&memory(u64::MAX, 1 << 62), u64::MAX - 1, u64::MAX), 1);
    assert_eq!(runs(&memory(8, 1), 0, 8), 8);
    assert_eq!(runs(&memory(8, 3), 2, 7), 3);
    assert_eq!(runs(&memory(8, 3), 7, 7), 0);
    // A buffer that ends before does not keep it from ending.
    assert_eq!(runs(&memory(4, 4), 0, 6), 3);
}

// The interface's own constants fit each other.
#[test]
fn the_spaces_do_not_overlap() {
    assert_eq!(u64::from(MAX_IDS), FIRST_PACKED);
    assert_eq!(FIRST_PACKED + MAX_BUFFER_PAGES, MAX_OFFSET_PAGES);
    // A 32-bit program reaches every offset by mmap2, whose offsets count pages.
    assert_eq!(MAX_OFFSET_PAGES - 1, u64::from(u32::MAX));
}
