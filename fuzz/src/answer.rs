//! What an operation answered with.

use mapbuf_abi::{Operation, Reason};
use std::fmt;

/// Values that an answer has room for.
pub const VALUES: usize = 10;

/// What the driver said about a refusal (`LAST_ERROR`); all zeros when it had nothing to say to this process.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct Said {
    /// Which refusal of the open file this was, counted from 1.
    pub sequence: u64,
    /// A reason's number.
    pub reason: u32,
    /// The number of what was refused.
    pub operation: u32,
}

/// What an operation answered with. The model predicts each field, and the kernel's answer must be the same.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct Answer {
    /// The error, 0 when it came out well.
    pub errno: i32,
    /// The signal that an access to memory raised, or 0.
    pub signal: i32,
    /// What the driver said, when it came out badly.
    pub said: Said,
    /// What came out; each operation has its own order.
    pub values: [u64; VALUES],
}

impl Answer {
    /// It came out well, with these values.
    pub fn of(values: &[u64]) -> Self {
        let mut answer = Self::default();
        for (to, from) in answer.values.iter_mut().zip(values) {
            *to = *from;
        }
        answer
    }

    /// It came out well.
    pub fn done() -> Self {
        Self::default()
    }

    /// The kernel's own refusal.
    pub fn error(errno: i32) -> Self {
        Self {
            errno,
            ..Self::default()
        }
    }

    /// Whether it came out well.
    pub fn succeeded(&self) -> bool {
        self.errno == 0 && self.signal == 0
    }

    /// What the driver says was its last reason, when this came out badly. If the kernel's core refused, that is an
    /// older one, or none.
    pub fn reason(&self) -> Option<Reason> {
        match self.errno {
            0 => None,
            _ => Reason::from_number(self.said.reason),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.errno, self.signal) {
            (0, 0) => f.write_str("well")?,
            (0, signal) => write!(f, "signal {signal}")?,
            (errno, _) => write!(f, "errno {errno}")?,
        }
        if self.said != Said::default() {
            let reason = Reason::from_number(self.said.reason).map_or("?", Reason::name);
            let operation =
                Operation::from_number(self.said.operation).map_or("?", Operation::name);
            write!(
                f,
                ", refusal {} of {operation}: {reason}",
                self.said.sequence
            )?;
        }
        let used = self.values.iter().rposition(|value| *value != 0);
        if let Some(values) = used.and_then(|last| self.values.get(..=last)) {
            write!(f, ", values")?;
            for value in values {
                write!(f, " {value:#x}")?;
            }
        }
        Ok(())
    }
}

/// A number that stands for bytes: two sequences of the same length with the same number are taken to be the same.
pub fn digest(bytes: &[u8]) -> u64 {
    let mut hash = 0x9e37_79b9_7f4a_7c15 ^ bytes.len() as u64;
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        let mut own = [0; 8];
        own.copy_from_slice(word);
        hash = mix(hash, u64::from_le_bytes(own));
    }
    for byte in words.remainder() {
        hash = mix(hash, u64::from(*byte) + 1);
    }
    hash
}

/// Adds a number to a digest.
pub fn mix(hash: u64, word: u64) -> u64 {
    (hash ^ word)
        .wrapping_mul(0xff51_afd7_ed55_8ccd)
        .rotate_left(29)
}

/// The bytes that a write with this seed writes.
pub fn pattern(seed: u32, length: usize) -> Vec<u8> {
    let mut word = (u64::from(seed) << 1 | 1).wrapping_mul(0x2545_f491_4f6c_dd1d);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&word.to_le_bytes());
        word = word.rotate_left(7).wrapping_add(0x9e37_79b9_7f4a_7c15);
    }
    bytes.truncate(length);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_tells_bytes_apart() {
        let zeros = [0; 4096];
        let mut other = zeros;
        assert_eq!(digest(&zeros), digest(&other));
        other[4095] = 1;
        assert_ne!(digest(&zeros), digest(&other));
        other[4095] = 0;
        other[17] = 1;
        assert_ne!(digest(&zeros), digest(&other));
        assert_ne!(digest(&zeros), digest(&zeros[..4095]));
        assert_ne!(digest(&pattern(1, 100)), digest(&pattern(2, 100)));
    }
}
