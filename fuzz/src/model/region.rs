//! Regions: reserved physical ranges, which have names from the first and keep them.
//!
//! Each was written to when the module was loaded (`probe`), which has settled for good that there is memory. What is
//! in it when a program begins is nothing but zeros: who runs programs sees to that.

use super::declared::{REGIONS, WIDTH, WORD};
use super::memory::{Accounts, Buffer};
use super::Named;
use crate::answer::digest;
use crate::op::{self, PAGE};
use mapbuf_abi::{Kind, RegionState, RegionType, ADDRESS_HIDDEN};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Words that a probe reads at the start of each page behind the first.
const WORDS_PER_PAGE: usize = 8;

/// The names that there are from the first. Regions cost nobody memory, but each is a buffer.
pub(super) fn named(accounts: &Rc<Accounts>) -> BTreeMap<u8, Named> {
    let regions = (1..).zip(REGIONS);
    let named = regions.map(|(number, region)| {
        let what = (number, Kind::Region, region.cache);
        let buffer = Buffer::new(what, vec![region.pages], 0, &Rc::default(), accounts);
        buffer.name.set(Some(region.name));
        let named = Named {
            buffer,
            kept: None,
            mode: 0o660,
            uid: 0,
            gid: 0,
        };
        (region.name, named)
    });
    named.collect()
}

/// What `REGION` answers.
pub(super) fn told(index: u32, admin: bool) -> [u64; 9] {
    let count = REGIONS.len() as u64;
    let Some(region) = REGIONS.get(index as usize) else {
        let nameless = digest(&super::name_bytes(None));
        return [count, 0, 0, 0, 0, 0, 0, 0, nameless];
    };
    [
        count,
        region.pages * PAGE as u64,
        if admin { region.start } else { ADDRESS_HIDDEN },
        RegionType::Ram.number().into(),
        region.cache.number().into(),
        WIDTH.into(),
        RegionState::Backed.number().into(),
        0,
        digest(&op::name(region.name)),
    ]
}

/// What `PROBE` answers: the state, and how many words are all ones, all zeros, or neither.
pub(super) fn probed(buffer: &Buffer) -> [u64; 4] {
    let (mut ones, mut zeros, mut others) = (0, 0, 0);
    for page in 0..buffer.len() {
        let words = match page {
            0 => PAGE / WORD as usize,
            _ => WORDS_PER_PAGE,
        };
        let Some(bytes) = buffer.page(page) else {
            zeros += words as u64;
            continue;
        };
        for word in bytes.chunks_exact(WORD as usize).take(words) {
            match word {
                [0xff, 0xff, 0xff, 0xff] => ones += 1,
                [0, 0, 0, 0] => zeros += 1,
                _ => others += 1,
            }
        }
    }
    [RegionState::Backed.number().into(), ones, zeros, others]
}
