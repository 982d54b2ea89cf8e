//! The builds of one kernel version that the archive has.

use anyhow::{bail, Error, Result};
use std::fmt;
use std::str::FromStr;

/// One of Debian's builds of a kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flavour {
    /// For virtual machines: small, with few drivers.
    #[default]
    Cloud,
    /// For any machine, with nearly all drivers.
    Full,
}

impl Flavour {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::Cloud, Self::Full];

    /// As it stands in names of packages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cloud => "cloud-amd64",
            Self::Full => "amd64",
        }
    }

    /// That of a release, as `uname -r` says it: `7.2.12+deb13-cloud-amd64`.
    pub fn of(release: &str) -> Option<Self> {
        release.split_once('-')?.1.parse().ok()
    }
}

impl FromStr for Flavour {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match Self::ALL.iter().find(|flavour| flavour.name() == name) {
            Some(flavour) => Ok(*flavour),
            None => bail!(
                "there is no flavour {name}; there are {}",
                Self::ALL.map(Self::name).join(" and ")
            ),
        }
    }
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_tells_the_flavour() {
        let of = |release| Flavour::of(release);
        assert_eq!(of("7.2.12+deb13-cloud-amd64"), Some(Flavour::Cloud));
        assert_eq!(of("7.2.12+deb13-amd64"), Some(Flavour::Full));
        assert_eq!(of("7.2.12-amd64"), Some(Flavour::Full));
        assert_eq!(of("7.2.12+deb13-rt-amd64"), None);
        assert_eq!(of("7.2.12"), None);
    }
}
