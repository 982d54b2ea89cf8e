// SPDX-License-Identifier: GPL-2.0 OR MIT

//! How bytes that may be accessed in aligned words only are cut into them.
//!
//! Reading a word of a device's may do something, so none may be read twice.

/// A part of a word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Piece {
    /// How far it lies behind the first byte.
    pub at: usize,
    /// Where it begins in its word.
    pub into: usize,
    /// How many bytes it has, at least 1.
    pub length: usize,
}

/// The words that `length` bytes at an address lie in, each once. `word` is the size of one in bytes, a power of two.
pub fn words(address: usize, length: usize, word: usize) -> impl Iterator<Item = Piece> {
    cut(address, length, word).map(move |(at, length)| Piece {
        at,
        into: address.wrapping_add(at) & (word - 1),
        length,
    })
}

/// The same bytes in pieces of at most `size`, a power of two: where each begins, and how long it is. No word of that size
/// or less lies in two of them.
pub fn chunks(address: usize, length: usize, size: usize) -> impl Iterator<Item = (usize, usize)> {
    cut(address, length, size)
}

/// Cuts wherever the address is a multiple of `size`.
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
