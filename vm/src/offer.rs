//! The kernels that the archive has: which of them are whole, and which one to take.

use crate::choice::Version;
use crate::flavour::Flavour;
use crate::kernel::{compare_versions, Identity};
use crate::variant::Variant;
use anyhow::{Context, Result};
use mapbuf_abi::series::{series, SERIES};
use std::collections::{BTreeMap, BTreeSet};

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

/// The number that kernel.org gave a release.
pub fn upstream(release: &str) -> &str {
    release.split(['+', '-']).next().unwrap_or(release)
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
}

impl Offers {
    /// Reads the names and versions of all packages.
    pub fn new(packages: &[(String, String)], flavour: Flavour) -> Self {
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
                if Flavour::of(release) == Some(flavour) && series(release).is_some() {
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
        Self { flavour, offers }
    }

    /// The newest whole kernel that is wanted; when none is, the newest of a series that is supported.
    pub fn choose(&self, wanted: Option<&Version>) -> Result<Identity> {
        let fits = |offer: &&Offer| match wanted {
            Some(wanted) => wanted.covers(offer.upstream()),
            None => is_supported(&offer.release),
        };
        let chosen = self
            .offers
            .iter()
            .filter(|offer| offer.is_whole())
            .find(fits);
        let offer = chosen.with_context(|| self.refusal(wanted))?;
        Ok(Identity {
            release: offer.release.clone(),
            version: offer.version.clone(),
            variant: Variant::Stock,
        })
    }

    fn refusal(&self, wanted: Option<&Version>) -> String {
        let what = match wanted {
            Some(wanted) => wanted.to_string(),
            None => SERIES.join(" or "),
        };
        let mut found = String::new();
        for offer in &self.offers {
            let parts: Vec<_> = offer.parts.iter().copied().collect();
            let (release, version) = (&offer.release, &offer.version);
            found.push_str(&format!("\n  {release} ({version}): {}", parts.join(", ")));
        }
        if found.is_empty() {
            found = "\n  nothing".into();
        }
        format!(
            "the archive has no kernel {what} whose base, binary, modules, headers and source packages have the same \
             version.\nFound of {}:{found}\nMAPBUF_DEBIAN_MIRROR can name another mirror.",
            self.flavour
        )
    }
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
        let wanted = wanted.map(|wanted| wanted.parse().unwrap());
        let identity = Offers::new(packages, Flavour::Cloud).choose(wanted.as_ref());
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

        // Its headers are gone.
        packages.retain(|(name, _)| !name.starts_with(&format!("linux-headers-{new}.11")));
        assert_eq!(chosen(&packages, None), release(&format!("{new}.2")));
        // So are its sources.
        packages.retain(|(name, _)| *name != format!("linux-source-{new}"));
        assert_eq!(chosen(&packages, None), release(&format!("{old}.12")));
        let message = chosen(&packages, Some(new)).unwrap_err();
        let found =
            format!("{new}.2+deb13-cloud-amd64 ({new}.2-1): base, binary, headers, modules");
        assert!(message.contains(&found), "{message}");
    }

    #[test]
    fn a_series_that_is_not_supported_is_taken_by_its_name_alone() {
        let packages = archive(&["99.1.3", "7.2.12"]);
        assert_eq!(
            chosen(&packages, None),
            Ok("7.2.12+deb13-cloud-amd64".into())
        );
        assert_eq!(
            chosen(&packages, Some("99.1")),
            Ok("99.1.3+deb13-cloud-amd64".into())
        );
        assert!(chosen(&archive(&["99.1.3"]), None).is_err());
    }
}
