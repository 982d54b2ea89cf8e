//! Bytes in hexadecimal: read from the command line, and shown as `xxd` shows them.

use std::{fmt, str::FromStr};

/// Bytes written as `ddccbbaa`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bytes(pub Vec<u8>);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let wrong =
            || format!("'{text}' is not hexadecimal with two digits per byte, such as ddccbbaa");
        if digits.is_empty() || digits.len() % 2 != 0 || !digits.is_ascii() {
            return Err(wrong());
        }
        (0..digits.len())
            .step_by(2)
            .map(|at| {
                let pair = digits.get(at..at + 2).filter(|pair| !pair.starts_with('+'));
                u8::from_str_radix(pair.unwrap_or("?"), 16).map_err(|_| wrong())
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// Shows bytes in two hexadecimal digits each.
pub struct Plain<'a>(pub &'a [u8]);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Shows bytes as `xxd` does, 16 to a line, with the offset of the first one.
pub struct Dump<'a> {
    /// The bytes.
    pub bytes: &'a [u8],
    /// Where the first one lies.
    pub offset: u64,
    /// Whether a `*` stands for lines that are the same as the one before and the one behind them.
    pub skip_repeats: bool,
}

impl fmt::Display for Dump<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<&[u8]> = self.bytes.chunks(16).collect();
        let mut skipping = false;
        for (number, line) in lines.iter().enumerate() {
            let same_as = |other: Option<usize>| other.and_then(|n| lines.get(n)) == Some(line);
            // The first of a series is shown, and the last, so that its end is seen.
            let skip = self.skip_repeats
                && same_as(number.checked_sub(1))
                && same_as(number.checked_add(1));
            if skip && !skipping {
                writeln!(f, "*")?;
            }
            skipping = skip;
            if !skip {
                self.line(f, number, line)?;
            }
        }
        Ok(())
    }
}

impl Dump<'_> {
    fn line(&self, f: &mut fmt::Formatter<'_>, number: usize, bytes: &[u8]) -> fmt::Result {
        write!(f, "{:08x}:", self.offset + 16 * number as u64)?;
        for place in 0..16 {
            if place % 2 == 0 {
                f.write_str(" ")?;
            }
            match bytes.get(place) {
                Some(byte) => write!(f, "{byte:02x}")?,
                None => f.write_str("  ")?,
            }
        }
        f.write_str("  ")?;
        for &byte in bytes {
            let shown = if byte.is_ascii_graphic() || byte == b' ' {
                char::from(byte)
            } else {
                '.'
            };
            write!(f, "{shown}")?;
        }
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_look_like_those_of_xxd() {
        let bytes = b"\xdd\xcc\xbb\xaaHello, world\n!";
        let dump = Dump {
            bytes,
            offset: 0x1000,
            skip_repeats: false,
        };
        assert_eq!(
            dump.to_string(),
            "00001000: ddcc bbaa 4865 6c6c 6f2c 2077 6f72 6c64  ....Hello, world\n\
             00001010: 0a21                                     .!\n"
        );
    }

    #[test]
    fn lines_that_repeat_are_left_out() {
        let mut bytes = vec![0; 16 * 6];
        bytes[0] = 1;
        let shown = Dump {
            bytes: &bytes,
            offset: 0,
            skip_repeats: true,
        }
        .to_string();
        let offsets: Vec<&str> = shown
            .lines()
            .map(|line| line.split(':').next().unwrap())
            .collect();
        assert_eq!(offsets, ["00000000", "00000010", "*", "00000050"]);
    }

    #[test]
    fn what_is_no_hexadecimal_is_refused() {
        assert_eq!("ddccbbaa".parse(), Ok(Bytes(vec![0xdd, 0xcc, 0xbb, 0xaa])));
        assert_eq!("0xDDCC".parse(), Ok(Bytes(vec![0xdd, 0xcc])));
        for bad in ["", "d", "ddc", "xy", "+1", "dd cc", "ää", "0x"] {
            assert!(bad.parse::<Bytes>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(bytes in proptest::collection::vec(any::<u8>(), 1..50)) {
            prop_assert_eq!(Plain(&bytes).to_string().parse(), Ok(Bytes(bytes)));
        }

        #[test]
        fn nothing_panics(text in any::<String>(), bytes in proptest::collection::vec(any::<u8>(), 0..100), offset in 0..u64::MAX / 2) {
            let _ = text.parse::<Bytes>();
            let _ = Dump { bytes: &bytes, offset, skip_repeats: true }.to_string();
        }
    }
}
