//! The kernels that the archive has: which of them are whole, and which one to take.

use crate::cache::Cache;
use crate::choice::Stock;
use crate::flavour::Flavour;
use crate::identity::Identity;
use crate::suite::Suite;
use crate::variant::Variant;
use crate::version::{compare_versions, upstream};
use anyhow::{bail, Result};
use mapbuf_abi::series::{series, SERIES};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, SystemTime};

/// The packages that a kernel's files come from, as they stand before its release's name.
pub const PARTS: [&str; 4] = ["base", "binary", "modules", "headers"];
/// Its sources, one package for each series.
const SOURCE: &str = "source";

/// A kernel that the archive has, or some of its packages.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Offer {
    release: String,
    version: String,
    parts: BTreeSet<&'static str>,
}

impl Offer {
    fn is_whole(&self) -> bool {
        self.parts.len() == PARTS.len() + 1
    }

    fn upstream(&self) -> &str {
        upstream(&self.release)
    }
}

/// Whether the driver is written for the series of a release.
pub fn is_supported(release: &str) -> bool {
    series(release).is_some_and(|series| SERIES.contains(&series))
}

/// What the archive has.
#[derive(Clone, Debug)]
pub struct Offers {
    flavour: Flavour,
    /// The newest first.
    offers: Vec<Offer>,
    /// Series that are taken not to be there.
    hidden: Vec<String>,
}

impl Offers {
    /// Reads the names and versions of packages, leaving out series that are hidden.
    fn new(packages: &[(String, String)], flavour: Flavour, hidden: Vec<String>) -> Self {
        let is_seen =
            |release| series(release).is_some_and(|it| hidden.iter().all(|hidden| hidden != it));
        let mut found: BTreeMap<(String, String), BTreeSet<&'static str>> = BTreeMap::new();
        let mut sources = BTreeSet::new();
        for (name, version) in packages {
            if let Some(of) = name.strip_prefix("linux-source-") {
                sources.insert((of, version.as_str()));
            }
            for part in PARTS {
                let release = name
                    .strip_prefix("linux-")
                    .and_then(|rest| rest.strip_prefix(part)?.strip_prefix('-'));
                let Some(release) = release else { continue };
                if Flavour::of(release) == Some(flavour) && is_seen(release) {
                    let key = (release.to_owned(), version.clone());
                    found.entry(key).or_default().insert(part);
                }
            }
        }
        let mut offers: Vec<_> = found
            .into_iter()
            .map(|((release, version), mut parts)| {
                let of = series(&release).unwrap_or_default();
                if sources.contains(&(of, version.as_str())) {
                    parts.insert(SOURCE);
                }
                Offer {
                    release,
                    version,
                    parts,
                }
            })
            .collect();
        offers.sort_by(|a, b| {
            compare_versions(&b.release, &a.release)
                .then_with(|| compare_versions(&b.version, &a.version))
        });
        Self {
            flavour,
            offers,
            hidden,
        }
    }

    /// The newest whole kernel that is wanted; when nothing is said of which one, the newest of a series that is
    /// supported. `cached` are releases that the cache has, for the message when there is none.
    pub fn choose(&self, stock: &Stock, cached: &[String]) -> Result<Identity> {
        let fits = |offer: &&Offer| match &stock.version {
            Some(version) => version.covers(offer.upstream()),
            None => is_supported(&offer.release),
        };
        let Some(offer) = self.whole().find(fits) else {
            bail!(self.refusal(stock, cached));
        };
        Ok(Identity {
            release: offer.release.clone(),
            version: offer.version.clone(),
            variant: Variant::Stock,
            suite: stock.suite,
        })
    }

    /// The newest whole kernel of a series that is newer than all that are supported.
    pub fn newer(&self) -> Option<&str> {
        let newest = SERIES.first()?;
        let newer = |offer: &&Offer| {
            series(&offer.release).is_some_and(|series| compare_versions(series, newest).is_gt())
        };
        self.whole().find(newer).map(Offer::upstream)
    }

    /// Whether no kernel of a series is whole.
    pub fn lacks(&self, of: &str) -> bool {
        !self.whole().any(|offer| series(&offer.release) == Some(of))
    }

    fn whole(&self) -> impl Iterator<Item = &Offer> {
        self.offers.iter().filter(|offer| offer.is_whole())
    }

    fn refusal(&self, stock: &Stock, cached: &[String]) -> String {
        let Stock { version, suite } = stock;
        let what = match version {
            Some(version) => version.to_string(),
            None => SERIES.join(" or "),
        };
        let list = |names: Vec<String>| match names.is_empty() {
            true => "nothing".to_owned(),
            false => names.join(", "),
        };
        let whole = self.whole().map(|offer| offer.upstream().to_owned());
        // Those that lack the same ones together, the ones that lack least first.
        let mut parts: BTreeMap<Vec<&str>, Vec<&str>> = BTreeMap::new();
        for offer in self.offers.iter().filter(|offer| !offer.is_whole()) {
            let all = PARTS.into_iter().chain([SOURCE]);
            let missing = all.filter(|part| !offer.parts.contains(part)).collect();
            parts.entry(missing).or_default().push(offer.upstream());
        }
        let mut parts: Vec<_> = parts.into_iter().collect();
        parts.sort_by_key(|(missing, _)| missing.len());
        let parts: String = parts
            .iter()
            .map(|(missing, of)| format!("without {}: {}\n", missing.join(", "), of.join(", ")))
            .collect();
        let mut text = format!(
            "there is no kernel {what} for {}: the archive has none whose {} and {SOURCE} packages have the same \
            version, and neither does the cache.\n\
             Debian {suite} has, whole: {}\n{parts}\
             The cache has: {}\n",
            self.flavour,
            PARTS.join(", "),
            list(whole.collect()),
            list(cached.to_vec()),
        );
        if !self.hidden.is_empty() {
            let _ = writeln!(text, "{HIDE} hides: {}", self.hidden.join(", "));
        }
        text + "Name one of these with --kernel, or another mirror with MAPBUF_DEBIAN_MIRROR."
    }
}

/// What the archive had when somebody last looked.
#[derive(Debug, Serialize, Deserialize)]
pub struct Look {
    /// When, in seconds since 1970.
    at: u64,
    /// The names and versions of the kernels' packages.
    packages: Vec<(String, String)>,
}

impl Look {
    fn file(suite: Suite) -> String {
        format!("archive-{suite}.json")
    }

    /// Whether a package can be a part of a kernel.
    pub fn wants(package: &str) -> bool {
        let rest = package.strip_prefix("linux-").unwrap_or_default();
        let mut parts = PARTS.iter().chain([&SOURCE]);
        parts.any(|part| rest.starts_with(part))
    }

    /// Keeps what is there now.
    pub fn keep(cache: &Cache, suite: Suite, packages: Vec<(String, String)>) -> Result<Self> {
        let look = Self {
            at: now(),
            packages,
        };
        look.write(cache, suite)?;
        Ok(look)
    }

    /// The last one.
    pub fn last(cache: &Cache, suite: Suite) -> Option<Self> {
        let text = fs::read(cache.root().join(Self::file(suite))).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Takes the last one for one of now: the archive could not be asked.
    pub fn put_off(cache: &Cache, suite: Suite) -> Result<()> {
        let packages = Self::last(cache, suite).map_or_else(Vec::new, |look| look.packages);
        Self {
            at: now(),
            packages,
        }
        .write(cache, suite)
    }

    fn write(&self, cache: &Cache, suite: Suite) -> Result<()> {
        let part = format!(".{}.{}", Self::file(suite), std::process::id());
        let part = cache.root().join(part);
        fs::write(&part, serde_json::to_vec(self)?)?;
        fs::rename(part, cache.root().join(Self::file(suite)))?;
        Ok(())
    }

    /// Whether it is not so long ago.
    pub fn is_younger_than(&self, age: Duration) -> bool {
        now().saturating_sub(self.at) < age.as_secs()
    }

    /// What there was of a flavour. For tests of the kit, [`HIDE`] names series that the archive is taken not to have.
    pub fn offers(&self, flavour: Flavour) -> Offers {
        let hidden = std::env::var(HIDE).unwrap_or_default();
        let hidden: Vec<_> = hidden
            .split([' ', ','])
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
        Offers::new(&self.packages, flavour, hidden)
    }
}

/// The variable of the environment for series that are to be hidden.
pub const HIDE: &str = "MAPBUF_HIDE_SERIES";

fn now() -> u64 {
    let since = SystemTime::UNIX_EPOCH.elapsed();
    since.unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str) -> (String, String) {
        (name.to_owned(), version.to_owned())
    }

    /// All packages of releases of both flavours.
    fn archive(releases: &[&str]) -> Vec<(String, String)> {
        let mut packages = Vec::new();
        for release in releases {
            let version = format!("{release}-1");
            for flavour in Flavour::ALL {
                for part in PARTS {
                    let name = format!("linux-{part}-{release}+deb13-{flavour}");
                    packages.push(package(&name, &version));
                }
            }
            let name = format!("linux-source-{}", series(release).unwrap());
            packages.push(package(&name, &version));
        }
        packages
    }

    fn chosen(packages: &[(String, String)], wanted: Option<&str>) -> Result<String, String> {
        hiding(packages, wanted, &[])
    }

    fn hiding(
        packages: &[(String, String)],
        wanted: Option<&str>,
        hidden: &[&str],
    ) -> Result<String, String> {
        let stock = Stock {
            version: wanted.map(|wanted| wanted.parse().unwrap()),
            suite: Suite::Trixie,
        };
        let hidden = hidden.iter().map(ToString::to_string).collect();
        let offers = Offers::new(packages, Flavour::Cloud, hidden);
        let identity = offers.choose(&stock, &["7.2.5".to_owned()]);
        identity
            .map(|identity| identity.release)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_newest_whole_one_is_taken() {
        let [new, old] = [SERIES[0], SERIES[1]];
        let names = [
            format!("{old}.12"),
            format!("{old}.9"),
            format!("{new}.2"),
            format!("{new}.11"),
        ];
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let mut packages = archive(&names);
        let release = |name: &str| Ok(format!("{name}+deb13-cloud-amd64"));
        assert_eq!(chosen(&packages, None), release(&format!("{new}.11")));
        assert_eq!(chosen(&packages, Some(old)), release(&format!("{old}.12")));
        let exact = format!("{old}.9");
        assert_eq!(chosen(&packages, Some(&exact)), release(&exact));
        let hidden = hiding(&packages, None, &[new]);
        assert_eq!(hidden, release(&format!("{old}.12")));
        let offers = |hidden| Offers::new(&packages, Flavour::Cloud, hidden);
        assert!(!offers(Vec::new()).lacks(new));
        assert!(offers(vec![new.to_owned()]).lacks(new));

        // Its headers are gone.
        packages.retain(|(name, _)| !name.starts_with(&format!("linux-headers-{new}.11")));
        assert_eq!(chosen(&packages, None), release(&format!("{new}.2")));
        // So are its sources.
        packages.retain(|(name, _)| *name != format!("linux-source-{new}"));
        assert_eq!(chosen(&packages, None), release(&format!("{old}.12")));
        let message = chosen(&packages, Some(new)).unwrap_err();
        let found = format!("without source: {new}.2\nwithout headers, source: {new}.11\n");
        assert!(message.contains(&found), "{message}");
        let found = format!("whole: {old}.12, {old}.9\n");
        assert!(message.contains(&found), "{message}");
    }

    #[test]
    fn one_message_says_all_that_there_is() {
        let packages = archive(&["7.3.4", "7.2.12"]);
        let message = hiding(&packages, None, &["7.3", "7.2"]).unwrap_err();
        for part in [
            "no kernel 7.3 or 7.2",
            "whole: nothing\n",
            "The cache has: 7.2.5\n",
            "hides: 7.3, 7.2\n",
        ] {
            assert!(message.contains(part), "{part} is not in: {message}");
        }
    }

    #[test]
    fn a_series_that_is_not_supported_is_said_and_taken_by_its_name_alone() {
        let packages = archive(&["99.1.3", "7.2.12"]);
        let release = |name: &str| Ok(format!("{name}+deb13-cloud-amd64"));
        assert_eq!(chosen(&packages, None), release("7.2.12"));
        assert_eq!(chosen(&packages, Some("99.1")), release("99.1.3"));
        assert!(chosen(&archive(&["99.1.3"]), None).is_err());
        let newer = |packages: &[_]| {
            let offers = Offers::new(packages, Flavour::Cloud, Vec::new());
            offers.newer().map(str::to_owned)
        };
        assert_eq!(newer(&packages).as_deref(), Some("99.1.3"));
        // Older ones that are not supported are no news.
        assert_eq!(newer(&archive(&["6.12.1", "7.2.12"])), None);
    }

    #[test]
    fn a_look_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().join("mapbuf"), &crate::Ui::default()).unwrap();
        assert!(Look::last(&cache, Suite::Trixie).is_none());
        let packages = archive(&["7.2.12"]);
        assert!(packages.iter().all(|(name, _)| Look::wants(name)));
        assert!(!Look::wants("bash"));
        Look::keep(&cache, Suite::Trixie, packages.clone()).unwrap();
        let look = Look::last(&cache, Suite::Trixie).unwrap();
        assert_eq!(look.packages, packages);
        assert!(look.is_younger_than(Duration::from_secs(60)));
        assert!(Look::last(&cache, Suite::Sid).is_none());
        let old = Look { at: 0, ..look };
        assert!(!old.is_younger_than(Duration::from_secs(60)));
        old.write(&cache, Suite::Trixie).unwrap();
        Look::put_off(&cache, Suite::Trixie).unwrap();
        let look = Look::last(&cache, Suite::Trixie).unwrap();
        assert!(look.is_younger_than(Duration::from_secs(60)));
        assert_eq!(look.packages, old.packages);
    }
}
