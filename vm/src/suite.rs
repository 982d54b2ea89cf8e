//! The Debian releases whose kernels and compilers are used.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A Debian release. Its kernels were built by its own compilers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Suite {
    /// Debian 13, with the kernels of its backports.
    #[default]
    Trixie,
    /// Unstable: newer compilers, which change from day to day.
    Sid,
}

impl Suite {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::Trixie, Self::Sid];

    /// Its name in the archive.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trixie => "trixie",
            Self::Sid => "sid",
        }
    }

    /// The other part of the archive that newer kernels come from, if there is one.
    pub fn backports(self) -> Option<String> {
        match self {
            Self::Trixie => Some(format!("{self}-backports")),
            Self::Sid => None,
        }
    }

    /// Whether its compilers change, so that a userland grows too old for the kernels.
    pub fn is_rolling(self) -> bool {
        self == Self::Sid
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Suite {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let suite = Self::ALL.into_iter().find(|suite| suite.name() == name);
        suite.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(" and ");
            format!("there is no suite `{name}`; there are {names}")
        })
    }
}
