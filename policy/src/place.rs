// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Places: the two encodings of `mmap` offsets, ranges within a buffer, seeking.
//!
//! Each open allocator node has one space of offsets, counted in pages. Below [`MAX_IDS`] an offset *is* a
//! buffer's id and maps that buffer from its start. Above that are packed ranges, one for each requested
//! pair of buffer and method. A range is as long as the buffer, so an offset may point into the middle.
//! Everything lies below [`MAX_OFFSET_PAGES`].

use super::abi::{
    reason::{
        Reason,
        Refusal, //
    },
    wire::{
        MAX_IDS,
        MAX_OFFSET_PAGES, //
    },
};

/// The first page offset of packed ranges.
pub const FIRST_PACKED: u64 = MAX_IDS as u64;

/// The largest buffer in pages: the whole space of packed offsets.
pub const MAX_BUFFER_PAGES: u64 = MAX_OFFSET_PAGES - FIRST_PACKED;

/// The id that a page offset is, if it is one; 0 is no id.
pub fn id_at(page: u64) -> Option<u32> {
    u32::try_from(page).ok().filter(|id| *id < MAX_IDS)
}

/// Where the search for the next id starts: after the last one given, and from 1 again at the end.
pub fn id_after(last: u32) -> u32 {
    match last.checked_add(1) {
        Some(id) if id < MAX_IDS => id,
        _ => 1,
    }
}

/// Checks an id that a caller wants.
///
/// # Errors
///
/// [`Reason::IdTooLarge`].
pub fn wanted_id(id: u32) -> Result<u32, Refusal> {
    if id < MAX_IDS {
        Ok(id)
    } else {
        Err(Reason::IdTooLarge.with(&[u64::from(id), u64::from(MAX_IDS)]))
    }
}

/// Checks that `pages` pages from page `page` lie within a buffer of `size` pages. Returns their end.
///
/// # Errors
///
/// [`Reason::BeyondEnd`], in bytes.
pub fn within(page: u64, pages: u64, size: u64, page_size: u64) -> Result<u64, Refusal> {
    page.checked_add(pages)
        .filter(|end| *end <= size)
        .ok_or(Reason::BeyondEnd.with(&[
            page.saturating_mul(page_size),
            pages.saturating_mul(page_size),
            size.saturating_mul(page_size),
        ]))
}

/// Checks that the byte at `position` of an allocator node's file can be read or written. Below the packed ranges a page
/// offset is a buffer's id, so bytes have no offsets of their own there.
///
/// # Errors
///
/// [`Reason::OffsetIsId`].
pub fn has_bytes(position: u64, page_size: u64) -> Result<(), Refusal> {
    match position.checked_div(page_size).and_then(id_at) {
        None => Ok(()),
        Some(_) => Err(Reason::OffsetIsId.with(&[position])),
    }
}

/// Checks that `length` bytes may be written to a buffer of `size` bytes, starting at byte `offset`. `word` is the width
/// in bits of an access to uncached memory. What goes beyond the end is cut off later.
///
/// # Errors
///
/// [`Reason::UnalignedWrite`], [`Reason::WriteBeyondEnd`].
pub fn write(offset: u64, length: u64, size: u64, word: Option<u32>) -> Result<(), Refusal> {
    if let Some(width) = word {
        let bytes = u64::from(width / 8);
        let whole = |at: u64| at.checked_rem(bytes) == Some(0);
        if !whole(offset) || !whole(length) {
            return Err(Reason::UnalignedWrite.with(&[offset, length, u64::from(width)]));
        }
    }
    if offset >= size && length > 0 {
        return Err(Reason::WriteBeyondEnd.with(&[offset, size]));
    }
    Ok(())
}

/// `lseek` whence values.
pub mod whence {
    /// From the start.
    pub const SET: i32 = 0;
    /// From the current position.
    pub const CUR: i32 = 1;
    /// From the end.
    pub const END: i32 = 2;
}

/// The position after an `lseek` in a file of `size` bytes; `None` is a file without an end.
///
/// # Errors
///
/// [`Reason::BadSeek`] for a place before the start, or beyond the size or `i64::MAX`.
pub fn seek(position: i64, size: Option<u64>, offset: i64, from: i32) -> Result<i64, Refusal> {
    let bad = Reason::BadSeek.with(&[offset as u64, u64::from(from as u32)]);
    let end = size.and_then(|size| i64::try_from(size).ok());
    let base = match from {
        whence::SET => Some(0),
        whence::CUR => Some(position),
        whence::END => end,
        _ => None,
    };
    base.and_then(|base| base.checked_add(offset))
        .filter(|to| *to >= 0 && end.is_none_or(|end| *to <= end))
        .ok_or(bad)
}

/// Checks the range of a sync in a buffer of `bytes` bytes.
///
/// # Errors
///
/// [`Reason::SyncOutside`].
pub fn sync(offset: u64, length: u64, bytes: u64) -> Result<(), Refusal> {
    match offset.checked_add(length) {
        Some(end) if length > 0 && end <= bytes => Ok(()),
        _ => Err(Reason::SyncOutside.with(&[offset, length, bytes])),
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_end_where_packed_offsets_begin() {
        assert_eq!(id_at(0), Some(0));
        assert_eq!(id_at(FIRST_PACKED - 1), Some(MAX_IDS - 1));
        assert_eq!(id_at(FIRST_PACKED), None);
        assert_eq!(id_at(u64::from(u32::MAX) + 2), None);
        assert_eq!(id_after(MAX_IDS - 1), 1);
        assert_eq!(id_after(u32::MAX), 1);
        assert_eq!(wanted_id(MAX_IDS - 1), Ok(MAX_IDS - 1));
        assert_eq!(wanted_id(MAX_IDS).unwrap_err().reason, Reason::IdTooLarge);
    }

    #[test]
    fn ids_have_no_bytes() {
        let first = FIRST_PACKED * 4096;
        assert_eq!(has_bytes(first, 4096), Ok(()));
        for position in [0, 4096, first - 1] {
            let expected = Reason::OffsetIsId.with(&[position]);
            assert_eq!(has_bytes(position, 4096), Err(expected));
        }
    }

    #[test]
    fn writes_are_whole_words_within_the_buffer() {
        assert_eq!(write(5, 3, 4096, None), Ok(()));
        assert_eq!(write(4095, 99, 4096, None), Ok(()));
        assert_eq!(write(4096, 0, 4096, None), Ok(()));
        let beyond = Reason::WriteBeyondEnd.with(&[4096, 4096]);
        assert_eq!(write(4096, 1, 4096, None), Err(beyond));
        assert_eq!(write(8, 8, 4096, Some(64)), Ok(()));
        for (offset, length) in [(4, 8), (8, 4)] {
            let expected = Reason::UnalignedWrite.with(&[offset, length, 64]);
            assert_eq!(write(offset, length, 4096, Some(64)), Err(expected));
        }
        assert_eq!(write(3, 1, 4096, Some(8)), Ok(()));
    }

    proptest! {
        #[test]
        fn within_is_exact_for_any_input(page: u64, pages: u64, size: u64) {
            let fits = u128::from(page) + u128::from(pages) <= u128::from(size);
            prop_assert_eq!(within(page, pages, size, 4096).is_ok(), fits);
        }

        #[test]
        fn seek_lands_in_the_file(position in 0i64.., size: u64, offset: i64, from in -1i32..4) {
            if let Ok(to) = seek(position, Some(size), offset, from) {
                prop_assert!(to >= 0 && to as u64 <= size);
            }
        }
    }

    #[test]
    fn seek_without_an_end_has_no_end() {
        assert_eq!(seek(5, None, 7, whence::CUR), Ok(12));
        assert_eq!(
            seek(0, None, 0, whence::END).unwrap_err().reason,
            Reason::BadSeek
        );
        assert_eq!(
            seek(i64::MAX, None, 1, whence::CUR).unwrap_err().reason,
            Reason::BadSeek
        );
    }
}
