// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Cuts a range of bytes that may be accessed only in aligned words into those words.
//!
//! Reading a device's word can have a side effect, so none may be read twice.

/// A part of a word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Piece {
    /// Its offset from the first byte.
    pub at: usize,
    /// Its offset in its word.
    pub into: usize,
    /// Its length in bytes, at least 1.
    pub length: usize,
}

/// The words that hold `length` bytes at an address, each once. `word` is the size of a word in bytes, a power of two.
pub fn words(address: usize, length: usize, word: usize) -> impl Iterator<Item = Piece> {
    cut(address, length, word).map(move |(at, length)| Piece {
        at,
        into: address.wrapping_add(at) & (word - 1),
        length,
    })
}

/// The same bytes in pieces of at most `size` bytes, a power of two: the offset and length of each. No word of that size or
/// less is split.
pub fn chunks(address: usize, length: usize, size: usize) -> impl Iterator<Item = (usize, usize)> {
    cut(address, length, size)
}

/// Cuts at every address that is a multiple of `size`.
fn cut(address: usize, length: usize, size: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut at = 0;
    core::iter::from_fn(move || {
        let left = length - at;
        let room = size - (address.wrapping_add(at) & (size - 1));
        let piece = (at, room.min(left));
        at += piece.1;
        (left > 0).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_is_met_once_and_each_byte() {
        for address in 0..17 {
            for length in 0..200 {
                for word in [1, 2, 4, 8] {
                    let mut last = None;
                    let mut next = 0;
                    for (start, bytes) in chunks(address, length, 64) {
                        assert_eq!(start, next);
                        assert!(bytes > 0 && bytes <= 64);
                        let mut inner = 0;
                        for piece in words(address + start, bytes, word) {
                            assert_eq!(piece.at, inner);
                            let at = address + start + piece.at;
                            assert_eq!(piece.into, at % word);
                            assert!(piece.length > 0 && piece.into + piece.length <= word);
                            assert!(last < Some(at / word), "{address} {length} {word}: twice");
                            last = Some(at / word);
                            inner += piece.length;
                        }
                        assert_eq!(inner, bytes);
                        next += bytes;
                    }
                    assert_eq!(next, length);
                }
            }
        }
    }
}
