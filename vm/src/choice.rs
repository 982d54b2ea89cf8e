//! What `--kernel` names: a kind of kernel, which release, and whose compilers.

use crate::suite::Suite;
use crate::variant::Variant;
use mapbuf_abi::series::series;
use std::fmt;
use std::str::FromStr;

/// A choice among the kernels, as `7.3`, `7.3.4`, `debug`, `debug@7.2`, `sid` or `debug@7.2@sid`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// What kind of kernel.
    pub variant: Variant,
    /// Which of Debian's stock kernels; it, or one that is built from its sources.
    pub stock: Stock,
}

/// A choice among Debian's stock kernels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stock {
    /// Which release; none: the newest that is supported.
    pub version: Option<Version>,
    /// Where it comes from.
    pub suite: Suite,
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
                "`{text}` is not a kernel version such as 7.3 or 7.3.4"
            ))
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stock { version, suite } = &self.stock;
        let mut words = Vec::new();
        if self.variant != Variant::Stock {
            words.push(self.variant.to_string());
        }
        words.extend(version.as_ref().map(Version::to_string));
        if *suite != Suite::default() {
            words.push(suite.to_string());
        }
        if words.is_empty() {
            words.push(self.variant.to_string());
        }
        f.write_str(&words.join("@"))
    }
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut variant = None;
        let mut version = None;
        let mut suite = None;
        for word in text.split('@') {
            let twice = if word.starts_with(|first: char| first.is_ascii_digit()) {
                version.replace(word.parse()?).is_some()
            } else if let Ok(known) = word.parse() {
                suite.replace(known).is_some()
            } else {
                let known = word.parse().map_err(|_| {
                    let variants = Variant::ALL.map(Variant::name).join(", ");
                    let suites = Suite::ALL.map(Suite::name).join(", ");
                    format!(
                        "`{word}` is neither a kernel ({variants}), nor a number like 7.2 or 7.2.12, nor a Debian release \
                         ({suites}); with `@` between them, one of each can be named: debug@7.2"
                    )
                })?;
                variant.replace(known).is_some()
            };
            if twice {
                return Err(format!("`{text}` names two of a sort"));
            }
        }
        Ok(Self {
            variant: variant.unwrap_or_default(),
            stock: Stock {
                version,
                suite: suite.unwrap_or_default(),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_and_written() {
        for (text, variant, version, suite) in [
            ("stock", Variant::Stock, None, Suite::Trixie),
            ("debug", Variant::Debug, None, Suite::Trixie),
            ("7.2", Variant::Stock, Some("7.2"), Suite::Trixie),
            ("7.3.4", Variant::Stock, Some("7.3.4"), Suite::Trixie),
            (
                "kcsan@7.2.12",
                Variant::Kcsan,
                Some("7.2.12"),
                Suite::Trixie,
            ),
            ("sid", Variant::Stock, None, Suite::Sid),
            ("debug@7.2@sid", Variant::Debug, Some("7.2"), Suite::Sid),
        ] {
            let choice: Choice = text.parse().unwrap();
            assert_eq!(choice.variant, variant);
            assert_eq!(choice.stock.suite, suite);
            let number = choice.stock.version.as_ref().map(Version::to_string);
            assert_eq!(number.as_deref(), version);
            assert_eq!(choice.to_string(), text);
        }
        assert_eq!(Choice::default().to_string(), "stock");
        assert_eq!("stock@7.2@trixie".parse(), "7.2".parse::<Choice>());
        for wrong in [
            "",
            "7",
            "7.x",
            "7.2.1.1",
            "debug@",
            "@7.2",
            "7.2@7.3",
            "debug@kcsan",
            "sid@sid",
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
