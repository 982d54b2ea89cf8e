//! A kernel, and its tree, ready for modules.
//!
//! Debian's stock kernels have Rust support switched on, but the headers package leaves out the Rust metadata
//! (`rust/*.rmeta`). It is made again here from the source package with the kernel's own configuration and compiler;
//! a module built against it loads into the stock kernel.

use crate::cache::Cache;
use crate::choice::Stock;
use crate::debian::{Root, Toolchain, Userland};
use crate::flavour::Flavour;
use crate::identity::Identity;
use crate::offer;
use crate::sandbox::Sandbox;
use crate::suite::Suite;
use crate::variant::Variant;
use crate::version::compare_versions;
use anyhow::{bail, Result};
use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};

/// Changes when what is done to prepare a kernel changes.
const RECIPE: u32 = 1;
/// Where the kernel's folder appears inside the sandbox: generated files hold absolute paths.
pub const INSIDE: &str = "/kit";

/// A kernel that modules can be built for and that can be booted.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Its folder in the cache.
    pub folder: PathBuf,
    /// What it is.
    pub identity: Identity,
    /// The userland that holds its compilers.
    pub root: Root,
}

impl Kernel {
    /// The kernel of the cache whose tree lies at `path`, if that is one of its own.
    pub fn with_tree(cache: &Cache, path: &Path) -> Option<Self> {
        let folder = path.parent()?;
        let kernels = cache.root().join("kernels").canonicalize().ok()?;
        if folder.parent() != Some(&kernels) || path.file_name()? != "build" {
            return None;
        }
        let name = folder.file_name()?.to_str()?;
        let identity = fs::read(folder.join("identity.json")).ok()?;
        let identity: Identity = serde_json::from_slice(&identity).ok()?;
        let userland = match identity.variant {
            Variant::Stock => parts_of(name)?.1,
            _ => Userland::newest(cache, identity.suite, Toolchain::Llvm),
        };
        Some(Self {
            folder: folder.to_owned(),
            root: userland.if_made(cache)?,
            identity,
        })
    }

    /// The newest stock kernel in the cache that is wanted; when nothing is said of which one, of a series that is
    /// supported. Nothing is fetched.
    pub fn if_cached(cache: &Cache, flavour: Flavour, stock: &Stock) -> Option<Self> {
        Self::all_cached(cache, stock.suite, flavour)
            .filter(|kernel| match &stock.version {
                Some(version) => version.covers(kernel.identity.upstream()),
                None => offer::is_supported(&kernel.identity.release),
            })
            .max_by(Self::compare)
    }

    /// Another flavour of the same version of the packages.
    pub(crate) fn of_version(cache: &Cache, flavour: Flavour, identity: &Identity) -> Option<Self> {
        Self::all_cached(cache, identity.suite, flavour)
            .filter(|kernel| kernel.identity.version == identity.version)
            .max_by(Self::compare)
    }

    /// Which one is newer: by its release, and of two that differ in their userlands alone by these.
    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        let key = |kernel: &Self| kernel.root.name();
        compare_versions(&self.identity.release, &other.identity.release)
            .then_with(|| compare_versions(&key(self), &key(other)))
    }

    pub(crate) fn all_cached(
        cache: &Cache,
        suite: Suite,
        flavour: Flavour,
    ) -> impl Iterator<Item = Self> {
        let cache = cache.clone();
        let names = cache.entries("kernels");
        names.into_iter().filter_map(move |name| {
            let (release, userland) = parts_of(&name)?;
            if Flavour::of(release) != Some(flavour) || userland.suite != suite {
                return None;
            }
            let folder = cache.root().join("kernels").join(&name);
            let identity = fs::read(folder.join("identity.json")).ok()?;
            Some(Self {
                folder,
                identity: serde_json::from_slice(&identity).ok()?,
                root: userland.if_made(&cache)?,
            })
        })
    }

    /// The image that QEMU boots.
    pub fn image(&self) -> PathBuf {
        self.modules().join("vmlinuz")
    }

    /// The folder of the kernel's own modules.
    pub fn modules(&self) -> PathBuf {
        self.folder
            .join("image/usr/lib/modules")
            .join(&self.identity.release)
    }

    /// The tree that modules are built against; it is also the reference for the sources.
    pub fn tree(&self) -> PathBuf {
        self.folder.join("build")
    }

    /// The tree's path inside [`sandbox`](Self::sandbox).
    pub fn tree_inside(&self) -> PathBuf {
        Path::new(INSIDE).join("build")
    }

    /// The compilers' userland, with the kernel's folder in it.
    pub fn sandbox(&self) -> Sandbox {
        self.root.sandbox().read(&self.folder, Path::new(INSIDE))
    }

    /// Variables for `make` in the tree.
    pub fn make_variables(&self) -> Vec<String> {
        self.identity.make_variables()
    }

    /// The path of a module of the kernel's own, and before it those that it needs; none when it is built in.
    pub fn module_with_dependencies(&self, name: &str) -> Result<Vec<PathBuf>> {
        let wanted = name.replace('-', "_");
        let is_wanted = |module: &str| {
            let file = module.rsplit('/').next().unwrap_or(module);
            file.split(".ko").next().unwrap_or(file).replace('-', "_") == wanted
        };
        // Not every kernel has one.
        let built_in =
            fs::read_to_string(self.modules().join("modules.builtin")).unwrap_or_default();
        if built_in.lines().any(is_wanted) {
            return Ok(Vec::new());
        }
        let text = fs::read_to_string(self.modules().join("modules.dep"))?;
        for line in text.lines() {
            let Some((module, needs)) = line.split_once(':') else {
                continue;
            };
            if is_wanted(module) {
                // modules.dep lists what is needed last first.
                return Ok(needs
                    .split_whitespace()
                    .rev()
                    .chain([module])
                    .map(|path| self.modules().join(path))
                    .collect());
            }
        }
        bail!("the kernel {} has no module {name}", self.identity.release)
    }
}

/// The name of a stock kernel's entry. The metadata of a tree can be read by the very compiler that made it, so the
/// userland is a part of the name.
pub(crate) fn entry_name(identity: &Identity, root: &Root) -> String {
    format!("{}.{RECIPE}.{}", identity.release, root.name())
}

/// The release and the userland in such a name.
fn parts_of(name: &str) -> Option<(&str, Userland)> {
    let (release, userland) = name.rsplit_once(&format!(".{RECIPE}."))?;
    Some((release, Userland::of(userland)?))
}

/// A value of a kernel configuration, without quotes.
pub fn config_value<'a>(config: &'a str, name: &str) -> Option<&'a str> {
    config.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix('=')?;
        Some(value.trim_matches('"'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_carry_their_userland() {
        let userland = |name: &str| Userland::of(name).unwrap().name();
        let parts = |name| {
            let (release, userland) = parts_of(name)?;
            Some((release, userland.name()))
        };
        // The first number looks like the recipe's.
        assert_eq!(
            parts("7.1.13+deb13-cloud-amd64.1.trixie-toolchain-2"),
            Some(("7.1.13+deb13-cloud-amd64", userland("trixie-toolchain-2")))
        );
        assert_eq!(
            parts("7.2.13+deb14-amd64.1.sid-toolchain-2.3"),
            Some(("7.2.13+deb14-amd64", userland("sid-toolchain-2.3")))
        );
        assert_eq!(parts("7.2.12+mapbuf-debug.0123456789abcdef"), None);
        assert_eq!(parts("7.2.12+deb13-cloud-amd64.1"), None);
    }

    #[test]
    fn configuration_values() {
        let config = "CONFIG_RUST=y\nCONFIG_RUSTC_VERSION_TEXT=\"rustc 1.85.1 (x)\"\n# CONFIG_X is not set\n";
        assert_eq!(config_value(config, "CONFIG_RUST"), Some("y"));
        assert_eq!(
            config_value(config, "CONFIG_RUSTC_VERSION_TEXT"),
            Some("rustc 1.85.1 (x)")
        );
        assert_eq!(config_value(config, "CONFIG_X"), None);
    }
}
