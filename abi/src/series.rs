// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The kernels that the driver is written for.

/// The series of kernels that the driver supports, the newest first. The kit that fetches kernels, the checks of the
/// running kernel and the README all use this list.
pub const SERIES: &[&str] = &["7.3", "7.2"];

/// The series of a release: `7.3` of `7.3.4+deb13-amd64`; `None` if it does not start with two numbers.
pub fn series(release: &str) -> Option<&str> {
    let (major, rest) = release.split_once('.')?;
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let minor = digits(rest);
    let whole = !major.is_empty() && digits(major) == major.len() && minor > 0;
    whole
        .then(|| release.get(..major.len() + 1 + minor))
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_ends_at_the_second_number() {
        assert_eq!(series("7.3.4+deb13-cloud-amd64"), Some("7.3"));
        assert_eq!(series("7.30.1"), Some("7.30"));
        assert_eq!(series("7.3-rc1"), Some("7.3"));
        assert_eq!(series("7.2"), Some("7.2"));
        for none in ["7", "7.", "7.x", ".2", "x7.2", ""] {
            assert_eq!(series(none), None, "{none}");
        }
    }

    #[test]
    fn the_list_is_newest_first() {
        let number = |name: &str| {
            let (major, minor) = name.split_once('.').unwrap();
            (major.parse::<u32>().unwrap(), minor.parse::<u32>().unwrap())
        };
        assert!(SERIES
            .windows(2)
            .all(|pair| number(pair[0]) > number(pair[1])));
        assert!(SERIES.iter().all(|name| series(name) == Some(name)));
    }
}
