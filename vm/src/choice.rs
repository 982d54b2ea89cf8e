//! What `--kernel` names: a kind of kernel, and which release.

use crate::variant::Variant;
use mapbuf_abi::series::series;
use std::fmt;
use std::str::FromStr;

/// A choice among the kernels, as `7.3`, `7.3.4`, `debug` or `debug@7.2`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// What kind of kernel.
    pub variant: Variant,
    /// Which release; none: the newest that is supported.
    pub version: Option<Version>,
}

/// A series (`7.3`) or one release of it (`7.3.4`), as kernel.org numbers them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(String);

impl Version {
    /// The series, be it that alone or that of the release.
    pub fn series(&self) -> &str {
        series(&self.0).unwrap_or(&self.0)
    }

    /// Whether a release, by its upstream number, is this one or of this series.
    pub fn covers(&self, upstream: &str) -> bool {
        upstream
            .strip_prefix(&self.0)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Vec<_> = text.split('.').collect();
        let number =
            |word: &&str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
        if matches!(numbers.len(), 2 | 3) && numbers.iter().all(number) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!(
                "`{text}` is no kernel's number; one is like 7.3 or 7.3.4"
            ))
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.version, self.variant) {
            (None, variant) => variant.fmt(f),
            (Some(version), Variant::Stock) => version.fmt(f),
            (Some(version), variant) => write!(f, "{variant}@{version}"),
        }
    }
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut variant = None;
        let mut version = None;
        for word in text.split('@') {
            let twice = if word.starts_with(|first: char| first.is_ascii_digit()) {
                version.replace(word.parse()?).is_some()
            } else {
                variant.replace(word.parse()?).is_some()
            };
            if twice {
                return Err(format!(
                    "`{text}` names two kernels; one is like debug, 7.2, 7.2.12 or debug@7.2"
                ));
            }
        }
        Ok(Self {
            variant: variant.unwrap_or_default(),
            version,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_and_written() {
        for (text, variant, version) in [
            ("stock", Variant::Stock, None),
            ("debug", Variant::Debug, None),
            ("7.2", Variant::Stock, Some("7.2")),
            ("7.3.4", Variant::Stock, Some("7.3.4")),
            ("kcsan@7.2.12", Variant::Kcsan, Some("7.2.12")),
        ] {
            let choice: Choice = text.parse().unwrap();
            assert_eq!(choice.variant, variant);
            assert_eq!(
                choice.version.as_ref().map(ToString::to_string).as_deref(),
                version
            );
            assert_eq!(choice.to_string(), text);
        }
        assert_eq!(Choice::default().to_string(), "stock");
        assert_eq!("stock@7.2".parse(), "7.2".parse::<Choice>());
        for wrong in [
            "",
            "7",
            "7.x",
            "7.2.1.1",
            "debug@",
            "@7.2",
            "7.2@7.3",
            "debug@kcsan",
            "none",
        ] {
            assert!(wrong.parse::<Choice>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn series_are_matched_on_the_dot() {
        let covers = |version: &str, upstream| version.parse::<Version>().unwrap().covers(upstream);
        assert!(covers("7.2", "7.2.12"));
        assert!(covers("7.2", "7.2"));
        assert!(!covers("7.2", "7.20.1"));
        assert!(covers("7.2.1", "7.2.1"));
        assert!(!covers("7.2.1", "7.2.12"));
        assert_eq!("7.2.12".parse::<Version>().unwrap().series(), "7.2");
    }
}
