//! Copies from and to memory that others write: each access is volatile, and as wide as its address allows.

const WORD: usize = size_of::<u64>();

/// Copies bytes out of shared memory.
///
/// # Safety
///
/// `from` must be valid for volatile reads of `to.len()` bytes.
pub(crate) unsafe fn copy_out(from: *const u8, to: &mut [u8]) {
    let (head, rest) = to.split_at_mut(bytes_to_alignment(from, to.len()));
    let mut at = from;
    for byte in head {
        // SAFETY: `at` lies within the bytes that the caller vouches for.
        *byte = unsafe { at.read_volatile() };
        at = at.wrapping_add(1);
    }
    let mut words = rest.chunks_exact_mut(WORD);
    for chunk in &mut words {
        // SAFETY: as above; `bytes_to_alignment` has brought `at` to a multiple of a word.
        let word = unsafe { at.cast::<u64>().read_volatile() };
        chunk.copy_from_slice(&word.to_ne_bytes());
        at = at.wrapping_add(WORD);
    }
    for byte in words.into_remainder() {
        // SAFETY: as above.
        *byte = unsafe { at.read_volatile() };
        at = at.wrapping_add(1);
    }
}

/// Copies bytes into shared memory.
///
/// # Safety
///
/// `to` must be valid for volatile writes of `from.len()` bytes.
pub(crate) unsafe fn copy_in(to: *mut u8, from: &[u8]) {
    let (head, rest) = from.split_at(bytes_to_alignment(to, from.len()));
    let mut at = to;
    for byte in head {
        // SAFETY: `at` lies within the bytes that the caller vouches for.
        unsafe { at.write_volatile(*byte) };
        at = at.wrapping_add(1);
    }
    let words = rest.chunks_exact(WORD);
    let tail = words.remainder();
    for chunk in words {
        let mut word = [0; WORD];
        word.copy_from_slice(chunk);
        // SAFETY: as above; `bytes_to_alignment` has brought `at` to a multiple of a word.
        unsafe { at.cast::<u64>().write_volatile(u64::from_ne_bytes(word)) };
        at = at.wrapping_add(WORD);
    }
    for byte in tail {
        // SAFETY: as above.
        unsafe { at.write_volatile(*byte) };
        at = at.wrapping_add(1);
    }
}

/// Sets bytes of shared memory.
///
/// # Safety
///
/// `to` must be valid for volatile writes of `len` bytes.
pub(crate) unsafe fn fill(to: *mut u8, len: usize, byte: u8) {
    let block = [byte; 64 * WORD];
    let mut done = 0;
    while done < len {
        let part = block.len().min(len - done);
        // SAFETY: the part lies within the `len` bytes that the caller vouches for.
        unsafe { copy_in(to.wrapping_add(done), &block[..part]) };
        done += part;
    }
}

/// How many of `len` bytes lie before the first whole word at or after `at`.
fn bytes_to_alignment(at: *const u8, len: usize) -> usize {
    (at.addr().wrapping_neg() % WORD).min(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Every start and length copies exactly those bytes, and touches no others.
        #[test]
        fn copies_are_exact(start in 0_usize..24, len in 0_usize..80, seed: u8) {
            let bytes: Vec<u8> = (0..len).map(|n| seed.wrapping_add(n as u8)).collect();
            let mut memory = [0xee_u8; 128];

            // SAFETY: the pointer is that of `len` bytes, and nobody else has them.
            unsafe { copy_in(memory[start..start + len].as_mut_ptr(), &bytes) };
            prop_assert_eq!(&memory[start..start + len], bytes.as_slice());
            prop_assert!(memory[..start].iter().chain(&memory[start + len..]).all(|b| *b == 0xee));

            let mut back = vec![0; len];
            // SAFETY: as above.
            unsafe { copy_out(memory[start..start + len].as_ptr(), &mut back) };
            prop_assert_eq!(&back, &bytes);

            // SAFETY: as above.
            unsafe { fill(memory[start..start + len].as_mut_ptr(), len, seed) };
            prop_assert!(memory[start..start + len].iter().all(|b| *b == seed));
            prop_assert!(memory[..start].iter().chain(&memory[start + len..]).all(|b| *b == 0xee));
        }
    }
}
