//! Which kernels there are: the stock one, and those that are built to find mistakes.

use crate::version::compare_versions;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A kind of kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// Debian's own.
    #[default]
    Stock,
    /// With KASAN, UBSAN, lockdep, kmemleak, fault injection and other checks.
    Debug,
    /// With KCSAN, which finds data races.
    Kcsan,
}

const SYSTEM: &str = include_str!("../kernels/system.config");
const IMPORTERS: &str = include_str!("../kernels/importers.config");
const DEBUG: &str = include_str!("../kernels/debug.config");
const KCSAN: &str = include_str!("../kernels/kcsan.config");

/// KASAN's shadow for five levels of page tables trips over emulation while it boots.
const NO_FIVE_LEVELS: &str = "no5lvl";
/// The guest's clock is the host's, which may be busy with something else for a while.
const WATCHDOG: &str = "watchdog_thresh=60";
const WORKQUEUE: &str = "workqueue.watchdog_thresh=120";
const STALL: &str = "rcupdate.rcu_cpu_stall_timeout=120";
/// KASAN is to report each mistake, not the first one only.
const EACH_TIME: &str = "kasan_multi_shot";
/// SLUB's arrays of free objects (`struct slab_sheaf` of `mm/slub.c`) keep the addresses of objects that they gave out,
/// and kmemleak takes them for references: of eight leaks it finds one. Caches with a debug flag have no such arrays.
const NO_SHEAVES: &str = "slab_debug=F";

impl Variant {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Stock, Self::Debug, Self::Kcsan];

    /// Its name, on command lines and in the cache.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stock => "stock",
            Self::Debug => "debug",
            Self::Kcsan => "kcsan",
        }
    }

    /// What it is configured with in a series; none for the stock kernel, which is not built here.
    pub fn fragment(self, series: &str) -> Option<String> {
        let parts: &[&str] = match self {
            Self::Stock => return None,
            Self::Debug => &[SYSTEM, IMPORTERS, DEBUG],
            Self::Kcsan => &[SYSTEM, KCSAN],
        };
        let name = self.name();
        Some(format!(
            "{}CONFIG_LOCALVERSION=\"+mapbuf-{name}\"\n",
            of_series(&parts.concat(), series)
        ))
    }

    /// Kernel parameters that it needs at every boot.
    pub fn boot_parameters(self) -> &'static [&'static str] {
        match self {
            Self::Stock => &[],
            Self::Debug => &[
                NO_FIVE_LEVELS,
                WATCHDOG,
                WORKQUEUE,
                STALL,
                NO_SHEAVES,
                EACH_TIME,
            ],
            Self::Kcsan => &[NO_FIVE_LEVELS, WATCHDOG, WORKQUEUE, STALL],
        }
    }

    /// Whether there are drivers for it that others wrote and that take dma-bufs.
    pub fn has_importers(self) -> bool {
        matches!(self, Self::Stock | Self::Debug)
    }

    /// Whether it has kmemleak.
    pub fn finds_leaks(self) -> bool {
        self == Self::Debug
    }

    /// Whether allocations can be made to fail in it.
    pub fn injects_faults(self) -> bool {
        self == Self::Debug
    }

    /// What it takes of a machine's memory beside what the stock kernel does, in MiB: its checks keep books of all of it.
    pub fn overhead(self) -> u32 {
        match self {
            Self::Stock | Self::Kcsan => 0,
            Self::Debug => 384,
        }
    }

    /// How many times longer things may take than in the stock kernel.
    pub fn patience(self) -> u32 {
        match self {
            Self::Stock => 1,
            Self::Debug | Self::Kcsan => 8,
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Variant {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|variant| variant.name() == name)
            .ok_or_else(|| {
                let names = Self::ALL.map(Self::name).join(", ");
                format!("there is no kernel `{name}`; there are {names}")
            })
    }
}

/// A fragment as it is for one series: lines that are bound to others are left out.
fn of_series(fragment: &str, series: &str) -> String {
    let mut text = String::new();
    for line in fragment.lines() {
        let bound = |word: &str| line.strip_prefix(word)?.trim_start().split_once(' ');
        let line = match (bound("#before "), bound("#since ")) {
            (Some((bound, line)), _) if compare_versions(series, bound).is_lt() => line,
            (_, Some((bound, line))) if compare_versions(series, bound).is_ge() => line,
            (None, None) => line,
            _ => continue,
        };
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// What a configuration asks for: names and values; `n` is what is not set.
pub fn options(config: &str) -> impl Iterator<Item = (&str, &str)> {
    config
        .lines()
        .filter(|line| line.starts_with("CONFIG_"))
        .filter_map(|line| line.split_once('='))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mapbuf_abi::series::SERIES;
    use std::collections::BTreeSet;

    #[test]
    fn an_option_is_named_once() {
        let all = |series| Variant::ALL.map(|variant| (variant, series));
        for (variant, series) in SERIES.iter().flat_map(all) {
            let fragment = variant.fragment(series).unwrap_or_default();
            let mut seen = BTreeSet::new();
            for line in fragment.lines() {
                let comment = line.is_empty() || line.starts_with("# ");
                assert!(comment || options(line).count() == 1, "{variant}: {line}");
            }
            for (name, _) in options(&fragment) {
                assert!(seen.insert(name), "{variant}: {name} twice");
            }
        }
    }

    #[test]
    fn a_line_can_be_bound_to_a_series() {
        let fragment = "# A.\nA=y\n#before 7.3 B=y\n#since 7.3 C=y\n";
        assert_eq!(of_series(fragment, "7.2"), "# A.\nA=y\nB=y\n");
        assert_eq!(of_series(fragment, "7.3"), "# A.\nA=y\nC=y\n");
        assert_eq!(of_series(fragment, "7.10"), "# A.\nA=y\nC=y\n");
    }

    #[test]
    fn names_are_read_back() {
        for variant in Variant::ALL {
            assert_eq!(variant.name().parse(), Ok(variant));
        }
        assert!("none".parse::<Variant>().is_err());
    }
}
