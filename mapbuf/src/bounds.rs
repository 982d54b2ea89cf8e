//! The one place where an offset and a length are checked against a size.

/// A range of bytes that is not within a buffer or a mapping.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{len} bytes from byte {offset} would run past the end at byte {size}; stay within it")]
pub struct OutOfBounds {
    /// Where the first byte would be.
    pub offset: u64,
    /// How many bytes.
    pub len: u64,
    /// How many there are.
    pub size: u64,
}

/// Checks that `len` bytes from `offset` lie within `size` bytes.
pub(crate) fn check(offset: u64, len: u64, size: u64) -> Result<(), OutOfBounds> {
    match offset.checked_add(len) {
        Some(end) if end <= size => Ok(()),
        _ => Err(OutOfBounds { offset, len, size }),
    }
}

/// A length in bytes, as the ioctls take it.
pub(crate) fn wide(len: usize) -> u64 {
    // `usize` has at most 64 bits on every architecture that Linux runs on.
    len as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn edges() {
        assert_eq!(check(0, 0, 0), Ok(()));
        assert_eq!(check(4096, 0, 4096), Ok(()));
        assert_eq!(check(0, 4096, 4096), Ok(()));
        assert!(check(0, 4097, 4096).is_err());
        assert!(check(4097, 0, 4096).is_err());
        assert!(check(u64::MAX, 1, u64::MAX).is_err());
        assert!(check(u64::MAX, u64::MAX, u64::MAX).is_err());
    }

    proptest! {
        /// Whatever wraps or passes the end is refused, and nothing else is.
        #[test]
        fn agrees_with_wide_arithmetic(offset: u64, len: u64, size: u64) {
            let fits = u128::from(offset) + u128::from(len) <= u128::from(size);
            prop_assert_eq!(check(offset, len, size).is_ok(), fits);
        }
    }
}
