//! What the page calls. WebAssembly knows numbers only, so texts lie where [`text`] says.

#![expect(
    unsafe_code,
    reason = "no_mangle: a page finds functions by these names; nothing else in it has such names"
)]

use crate::{answer, json, lists, Question, Text};
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use mapbuf_abi::{Cache, Kind, Method};
use mapbuf_policy::plan::Sharing;

/// Where the page reads the answer: as many bytes as `TEXT_LENGTH` says.
static TEXT: [AtomicU8; json::CAPACITY] = [const { AtomicU8::new(0) }; json::CAPACITY];
static TEXT_LENGTH: AtomicUsize = AtomicUsize::new(0);

fn publish(text: &Text) {
    for (place, byte) in TEXT.iter().zip(text.bytes()) {
        place.store(*byte, Ordering::Relaxed);
    }
    TEXT_LENGTH.store(text.bytes().len(), Ordering::Relaxed);
}

/// The address of the answer's first byte.
#[no_mangle]
pub extern "C" fn text() -> usize {
    TEXT.as_ptr() as usize
}

/// The answer's length in bytes.
#[no_mangle]
pub extern "C" fn text_length() -> usize {
    TEXT_LENGTH.load(Ordering::Relaxed)
}

/// Puts the lists where `text` is.
#[no_mangle]
pub extern "C" fn list() {
    let mut out = Text::default();
    lists(&mut out);
    publish(&out);
}

/// Puts the answer to a question where `text` is; 0 if a number names nothing, else 1. `rights`: bit 0 is CAP_SYS_ADMIN,
/// bit 1 says that the region is a device's.
#[no_mangle]
pub extern "C" fn table(
    kind: u32,
    cache: u32,
    method: u32,
    sharing: u32,
    size: u32,
    page: u32,
    pages: u32,
    rights: u32,
) -> u32 {
    let parsed = || {
        Some(Question {
            kind: Kind::from_number(kind)?,
            cache: Cache::from_number(cache)?,
            method: Method::from_number(method)?,
            sharing: *Sharing::ALL.get(sharing as usize)?,
            size: u64::from(size).max(1),
            page: page.into(),
            pages: pages.into(),
            admin: rights & 1 != 0,
            device: rights & 2 != 0,
        })
    };
    let Some(question) = parsed() else {
        return 0;
    };
    let mut out = Text::default();
    answer(&question, &mut out);
    publish(&out);
    1
}
