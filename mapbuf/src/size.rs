//! Sizes as people write them: `64K`, `2M`, `1GiB`, `0x1000`.

/// A size that cannot be read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseSizeError {
    /// Neither a decimal nor a hexadecimal number stands at the start.
    #[error("'{0}' is not a size; write a number and a unit, such as 4096, 0x1000, 64K, 2M or 1G")]
    NoNumber(String),
    /// The unit is not known.
    #[error("'{unit}' is not a unit; use K, M, G or T (powers of 1024), or none for bytes")]
    UnknownUnit {
        /// What stood there.
        unit: String,
    },
    /// The size has more than 64 bits.
    #[error("'{0}' is more than 2^64 - 1 bytes; write a smaller size")]
    TooLarge(String),
}

/// Reads a size: a decimal or `0x` number, then `K`, `M`, `G` or `T` for powers of 1024, with or without `iB` or `B`.
///
/// ```
/// assert_eq!(mapbuf::parse_size("64K"), Ok(65536));
/// assert_eq!(mapbuf::parse_size("2 MiB"), Ok(2 << 20));
/// assert_eq!(mapbuf::parse_size("0x1000"), Ok(4096));
/// assert!(mapbuf::parse_size("-1").is_err());
/// ```
///
/// # Errors
///
/// [`ParseSizeError`] tells which part cannot be read.
pub fn parse_size(text: &str) -> Result<u64, ParseSizeError> {
    let trimmed = text.trim();
    let (radix, digits) = match trimmed.strip_prefix("0x") {
        Some(rest) => (16, rest),
        None => (10, trimmed),
    };
    let end = digits
        .find(|c: char| !c.is_digit(radix))
        .unwrap_or(digits.len());
    let (number, unit) = digits.split_at(end);
    if number.is_empty() {
        return Err(ParseSizeError::NoNumber(text.to_owned()));
    }
    let too_large = || ParseSizeError::TooLarge(text.to_owned());
    let number = u64::from_str_radix(number, radix).map_err(|_| too_large())?;
    let unit = unit.trim_start();
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => {
            return Err(ParseSizeError::UnknownUnit {
                unit: unit.to_owned(),
            })
        }
    };
    number.checked_mul(1 << shift).ok_or_else(too_large)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mapbuf_abi::explain::Bytes;
    use proptest::prelude::*;

    #[test]
    fn what_people_write() {
        assert_eq!(parse_size("0"), Ok(0));
        assert_eq!(parse_size(" 4096 "), Ok(4096));
        assert_eq!(parse_size("64k"), Ok(64 << 10));
        assert_eq!(parse_size("1G"), Ok(1 << 30));
        assert_eq!(parse_size("1 TiB"), Ok(1 << 40));
        assert_eq!(parse_size("12B"), Ok(12));
        assert_eq!(parse_size("0xffK"), Ok(255 << 10));
        for bad in ["", "K", "-1", "+1", "1.5M", "0x", "four", "٣"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
        assert_eq!(
            parse_size("1Q"),
            Err(ParseSizeError::UnknownUnit { unit: "Q".into() })
        );
        assert_eq!(
            parse_size("16777216T"),
            Err(ParseSizeError::TooLarge("16777216T".into()))
        );
        assert_eq!(
            parse_size("99999999999999999999"),
            Err(ParseSizeError::TooLarge("99999999999999999999".into()))
        );
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(size: u64, shift in 0_u32..64) {
            let size = size >> shift << shift;
            let shown = Bytes(size).to_string().replace(" bytes", "");
            prop_assert_eq!(parse_size(&shown), Ok(size));
        }

        #[test]
        fn nothing_panics(text in any::<String>()) {
            let _ = parse_size(&text);
        }
    }
}
