//! A kernel, and its tree, ready for modules.
//!
//! Debian's stock kernels have Rust support switched on, but the headers package leaves out the Rust metadata
//! (`rust/*.rmeta`). It is made again here from the source package with the kernel's own configuration and compiler;
//! a module built against it loads into the stock kernel.

use crate::build;
use crate::cache::{link_tree, remove_tree, Cache};
use crate::choice::Version;
use crate::debian::{Apt, Root, Toolchain};
use crate::flavour::Flavour;
use crate::offer::{self, Offers};
use crate::sandbox::Sandbox;
use crate::ui::{Step, Ui};
use crate::variant::Variant;
use anyhow::{bail, Context, Error, Result};
use mapbuf_abi::series::{series, SERIES};
use serde::{Deserialize, Serialize};
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

/// What a kernel is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// What `uname -r` says in it.
    pub release: String,
    /// The version of the packages that it came from.
    pub version: String,
    /// What kind it is.
    #[serde(default)]
    pub variant: Variant,
}

impl Kernel {
    /// The stock kernel of this flavour: the newest that is wanted in the cache; fetched and prepared when there is none.
    ///
    /// Where nothing is said of which one, it is the newest of the newest series that is supported and that the archive
    /// has whole.
    pub fn get(cache: &Cache, ui: &Ui, flavour: Flavour, wanted: Option<&Version>) -> Result<Self> {
        let root = Toolchain::Gcc.get(cache, ui)?;
        if let Some(kernel) = Self::cached(cache, &root, flavour, wanted) {
            if wanted.is_some() || kernel.is_of_newest_series() {
                return Ok(kernel);
            }
        }
        // One lock for the whole: which entry it will be is known only when the lists are here.
        let _lock = cache.lock("kernel")?;
        let cached = Self::cached(cache, &root, flavour, wanted);
        match cached {
            Some(kernel) if wanted.is_some() || kernel.is_of_newest_series() => Ok(kernel),
            Some(kernel) => {
                // An older one is here; a newer series can be had by now, or not.
                if let Err(error) = Self::fetch(cache, ui, &root, flavour, wanted) {
                    let newest = SERIES.first().copied().unwrap_or_default();
                    let release = &kernel.identity.release;
                    ui.note(format!(
                        "{newest} cannot be had, so {release} of the cache is used: {error:#}"
                    ));
                }
                Ok(Self::cached(cache, &root, flavour, wanted).unwrap_or(kernel))
            }
            None => {
                Self::fetch(cache, ui, &root, flavour, wanted)?;
                Self::cached(cache, &root, flavour, wanted)
                    .context("the kernel was made and is not there")
            }
        }
    }

    fn is_of_newest_series(&self) -> bool {
        SERIES.first() == Some(&self.identity.series())
    }

    /// This stock kernel, or one of our own that is built from its sources.
    pub fn variant(self, cache: &Cache, ui: &Ui, variant: Variant) -> Result<Self> {
        match variant {
            Variant::Stock => Ok(self),
            variant => build::get(cache, ui, &self, variant),
        }
    }

    /// Looks for a newer one than the cache has, and gets it.
    pub fn update(
        cache: &Cache,
        ui: &Ui,
        flavour: Flavour,
        wanted: Option<&Version>,
    ) -> Result<Self> {
        let root = Toolchain::Gcc.get(cache, ui)?;
        {
            let _lock = cache.lock("kernel")?;
            Self::fetch(cache, ui, &root, flavour, wanted)?;
        }
        Self::get(cache, ui, flavour, wanted)
    }

    /// Another build of this very version.
    pub fn with_flavour(&self, cache: &Cache, ui: &Ui, flavour: Flavour) -> Result<Self> {
        if self.identity.variant != Variant::Stock {
            bail!(
                "the {} kernel has no flavour {flavour}",
                self.identity.variant
            );
        }
        let version = self.identity.upstream().parse().map_err(Error::msg)?;
        Self::get(cache, ui, flavour, Some(&version))
    }

    /// Removes what neither this kernel, nor another flavour of its version, nor a variant that is built from it, nor
    /// their userlands need; the names of what was removed.
    pub fn remove_others(&self, cache: &Cache) -> Result<Vec<String>> {
        let mut removed = Vec::new();
        let name = |path: &Path| path.file_name()?.to_str().map(str::to_owned);
        let mut kernels: Vec<_> = Flavour::ALL
            .into_iter()
            .filter_map(|flavour| Self::of_version(cache, &self.root, flavour, &self.identity))
            .filter_map(|kernel| name(&kernel.folder))
            .collect();
        kernels.extend(name(&self.folder));
        let variants = Variant::ALL.into_iter();
        kernels.extend(variants.filter_map(|variant| build::entry_name(cache, self, variant)));
        let llvm = Toolchain::Llvm.if_made(cache);
        let roots = [Some(&self.root), llvm.as_ref()].into_iter().flatten();
        let roots = roots.filter_map(|root| name(&root.path)).collect();
        for (kind, keep) in [
            ("kernels", kernels),
            ("roots", roots),
            ("disks", Vec::new()),
        ] {
            for name in cache.entries(kind) {
                if !keep.contains(&name) {
                    cache.remove(kind, &name)?;
                    removed.push(format!("{kind}/{name}"));
                }
            }
        }
        Ok(removed)
    }

    /// The kernel of the cache whose tree lies at `path`, if that is one of its own.
    pub fn with_tree(cache: &Cache, path: &Path) -> Option<Self> {
        let folder = path.parent()?;
        let kernels = cache.root().join("kernels").canonicalize().ok()?;
        if folder.parent() != Some(&kernels) || path.file_name()? != "build" {
            return None;
        }
        let identity = fs::read(folder.join("identity.json")).ok()?;
        let identity: Identity = serde_json::from_slice(&identity).ok()?;
        let toolchain = match identity.variant {
            Variant::Stock => Toolchain::Gcc,
            _ => Toolchain::Llvm,
        };
        Some(Self {
            folder: folder.to_owned(),
            root: toolchain.if_made(cache)?,
            identity,
        })
    }

    /// The newest one in the cache that is wanted; when none is, of a series that is supported.
    fn cached(
        cache: &Cache,
        root: &Root,
        flavour: Flavour,
        wanted: Option<&Version>,
    ) -> Option<Self> {
        Self::all_cached(cache, root, flavour)
            .filter(|kernel| match wanted {
                Some(wanted) => wanted.covers(kernel.identity.upstream()),
                None => offer::is_supported(&kernel.identity.release),
            })
            .max_by(|a, b| compare_versions(&a.identity.release, &b.identity.release))
    }

    /// Another flavour of the same version of the packages.
    fn of_version(
        cache: &Cache,
        root: &Root,
        flavour: Flavour,
        identity: &Identity,
    ) -> Option<Self> {
        Self::all_cached(cache, root, flavour)
            .find(|kernel| kernel.identity.version == identity.version)
    }

    fn all_cached(cache: &Cache, root: &Root, flavour: Flavour) -> impl Iterator<Item = Self> {
        let suffix = entry_suffix(root);
        let folder = cache.root().join("kernels");
        let root = root.clone();
        cache
            .entries("kernels")
            .into_iter()
            .filter(move |name| name.strip_suffix(&suffix).and_then(Flavour::of) == Some(flavour))
            .filter_map(move |name| {
                let folder = folder.join(name);
                let identity = fs::read(folder.join("identity.json")).ok()?;
                let identity: Identity = serde_json::from_slice(&identity).ok()?;
                let root = root.clone();
                Some(Self {
                    folder,
                    identity,
                    root,
                })
            })
    }

    fn fetch(
        cache: &Cache,
        ui: &Ui,
        root: &Root,
        flavour: Flavour,
        wanted: Option<&Version>,
    ) -> Result<()> {
        // Left by a run that was interrupted; the lock says that none is at it now.
        for entry in fs::read_dir(cache.root())?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(".apt-") {
                remove_tree(&entry.path())?;
            }
        }
        let work = tempfile::Builder::new()
            .prefix(".apt-")
            .tempdir_in(cache.root())?;
        let log = cache.log("kernel");
        let _ = fs::remove_file(&log);
        root.rustc_version()?;
        let step = ui.step("Looking for the newest kernel", 0);
        let apt = Apt::update(root, work.path(), &step, &log)?;
        let identity = Offers::new(&apt.packages()?, flavour).choose(wanted)?;
        step.done();
        ui.note(format!("The kernel is {}.", identity.release));
        // All flavours of a version have the same sources.
        let sources = Flavour::ALL
            .into_iter()
            .find_map(|other| Self::of_version(cache, root, other, &identity))
            .map(|kernel| kernel.tree());
        let sources = sources.as_deref();
        let name = format!("{}{}", identity.release, entry_suffix(root));
        cache.entry("kernels", &name, |part| {
            let log = cache.log(&name);
            cache.require(if sources.is_some() { 1500 } else { 3000 })?;
            let step = ui.step("Downloading its packages", 0);
            let debs = apt.download(&identity.packages(sources.is_none()), &step, &log)?;
            step.done();
            prepare(ui, root, &identity, &debs, sources, part, &log)?;
            fs::write(
                part.join("identity.json"),
                serde_json::to_vec_pretty(&identity)?,
            )?;
            Ok(())
        })?;
        Ok(())
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

impl Identity {
    /// The version number that kernel.org gave it.
    pub fn upstream(&self) -> &str {
        offer::upstream(&self.release)
    }

    /// The series that it is a release of.
    pub fn series(&self) -> &str {
        series(&self.release).unwrap_or(&self.release)
    }

    /// Variables for `make`.
    pub fn make_variables(&self) -> Vec<String> {
        if self.variant != Variant::Stock {
            return vec!["LLVM=1".into(), "LOCALVERSION=".into()];
        }
        let local = self
            .release
            .get(self.upstream().len()..)
            .unwrap_or_default();
        vec![
            // Debian's configuration names its compiler by its full name, and make would ask about a new one.
            "CROSS_COMPILE=x86_64-linux-gnu-".into(),
            format!("LOCALVERSION={local}"),
        ]
    }

    fn packages(&self, with_sources: bool) -> Vec<String> {
        let (release, version) = (&self.release, &self.version);
        offer::PARTS
            .iter()
            .map(|part| format!("linux-{part}-{release}={version}"))
            .chain(with_sources.then(|| format!("linux-source-{}={version}", self.series())))
            .collect()
    }
}

/// What follows a kernel's release in the name of its entry. The metadata of a tree can be read by the very compiler that
/// made it, so the userland is a part of the name.
fn entry_suffix(root: &Root) -> String {
    format!(".{RECIPE}.{}", root.name())
}

/// Compares version numbers: runs of digits by value, all else by character.
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    fn pieces(text: &str) -> Vec<(String, u64)> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest
                .find(|c: char| c.is_ascii_digit())
                .unwrap_or(rest.len());
            let (word, tail) = rest.split_at(digits);
            let end = tail
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(tail.len());
            let (number, tail) = tail.split_at(end);
            pieces.push((word.to_owned(), number.parse().unwrap_or(0)));
            rest = tail;
        }
        pieces
    }
    pieces(a).cmp(&pieces(b))
}

/// Makes a kernel's folder in `part`, with the sources from its package or from another's tree.
fn prepare(
    ui: &Ui,
    root: &Root,
    identity: &Identity,
    debs: &Path,
    sources: Option<&Path>,
    part: &Path,
    log: &Path,
) -> Result<()> {
    let inside = Path::new(INSIDE);
    let sandbox = root
        .sandbox()
        .write(part, inside)
        .read(debs, Path::new("/mnt"));
    let run = |step: &Step, script: &str, arguments: &[&str]| {
        let mut command = sandbox.command("sh");
        command.args(["-e", "-c", script, "sh"]).args(arguments);
        step.run(&mut command, log)
    };
    let release = identity.release.as_str();

    let step = ui.step("Unpacking them", 0);
    if let Some(sources) = sources {
        link_tree(sources, &part.join("build"))?;
    }
    run(
        &step,
        // What the other flavour has made is removed before anything is written: a file that two trees share is never
        // changed.
        "cd /kit; mkdir image unpack
         for deb in /mnt/linux-base-* /mnt/linux-binary-* /mnt/linux-modules-*; do dpkg-deb -x $deb image; done
         dpkg-deb -x /mnt/linux-headers-* unpack
         rm -rf image/usr/share
         ln -s usr/lib image/lib
         depmod -b /kit/image $1
         if [ -e build ]; then
             make -C build mrproper
         else
             dpkg-deb -x /mnt/linux-source-* unpack
             xz -dc -T0 unpack/usr/src/linux-source-*.tar.xz | tar -x --no-same-owner
             mv linux-source-* build
         fi
         headers=unpack/usr/src/linux-headers-$1
         cp --remove-destination $headers/.config $headers/Module.symvers build/
         if [ -e $headers/vmlinux ]; then cp --remove-destination $headers/vmlinux build/; fi
         rm -rf unpack",
        &[release],
    )?;
    step.done();

    let config = fs::read_to_string(part.join("build/.config"))?;
    check_compiler(ui, &config, &root.rustc_version()?, release);

    let step = ui.step("Preparing the kernel's tree for Rust modules", 420);
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = format!("-j{jobs}");
    let variables = identity.make_variables();
    let mut arguments: Vec<&str> = vec![&jobs];
    arguments.extend(variables.iter().map(String::as_str));
    run(
        &step,
        // Each line can be long gone before the other job's: the log is for people.
        "make -C /kit/build \"$@\" prepare modules_prepare < /dev/null",
        &arguments,
    )?;
    step.done();
    for file in [
        "rust/libkernel.rmeta",
        "rust/libcore.rmeta",
        "scripts/mod/modpost",
    ] {
        if !part.join("build").join(file).exists() {
            bail!("make prepare ended well and yet did not make {file}; is CONFIG_RUST still set in the configuration?");
        }
    }
    let made = fs::read_to_string(part.join("build/include/config/kernel.release"))?;
    if made.trim() != release {
        bail!(
            "the tree calls itself {}, and the image {release}: its modules would not load",
            made.trim()
        );
    }
    Ok(())
}

/// A module's metadata must come from the very compiler that built the kernel; says so when it does not.
fn check_compiler(ui: &Ui, config: &str, ours: &str, release: &str) {
    match config_value(config, "CONFIG_RUSTC_VERSION_TEXT") {
        Some(theirs) if theirs == ours => {}
        Some(theirs) => ui.note(format!(
            "Warning: {release} was built by `{theirs}`, and the userland has `{ours}`: a module may be refused or misbehave."
        )),
        None => ui.note(format!("Warning: {release} does not say which rustc built it.")),
    }
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
    fn versions_are_compared_by_number() {
        assert!(compare_versions("7.2.9", "7.2.12").is_lt());
        assert!(compare_versions("7.2.12-1~bpo13+2", "7.2.12-1~bpo13+1").is_gt());
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
