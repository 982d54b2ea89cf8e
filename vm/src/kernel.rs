//! Which kernel, and its tree, ready for modules.
//!
//! Debian's stock kernels have Rust support switched on, but the headers package leaves out the Rust metadata
//! (`rust/*.rmeta`). It is made again here from the source package with the kernel's own configuration and compiler;
//! a module built against it loads into the stock kernel.

use crate::build;
use crate::cache::{link_tree, remove_tree, Cache};
use crate::debian::{Apt, Root, Toolchain};
use crate::flavour::Flavour;
use crate::sandbox::Sandbox;
use crate::ui::{Step, Ui};
use crate::variant::Variant;
use anyhow::{bail, Context, Result};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The series whose newest release is taken.
const SERIES: &str = "7.2";
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
    /// The stock kernel: the newest of the series and this flavour in the cache; fetched and prepared when there is none.
    ///
    /// `MAPBUF_KERNEL` (as `7.2.11`) asks for a certain one.
    pub fn get(cache: &Cache, ui: &Ui, flavour: Flavour) -> Result<Self> {
        let root = Toolchain::Gcc.get(cache, ui)?;
        let wanted = std::env::var("MAPBUF_KERNEL").ok();
        let wanted = wanted.as_deref();
        if let Some(kernel) = Self::cached(cache, &root, flavour, wanted) {
            return Ok(kernel);
        }
        // One lock for the whole: which entry it will be is known only when the lists are here.
        let _lock = cache.lock("kernel")?;
        if let Some(kernel) = Self::cached(cache, &root, flavour, wanted) {
            return Ok(kernel);
        }
        Self::fetch(cache, ui, &root, flavour, wanted)?;
        Self::cached(cache, &root, flavour, wanted).context("the kernel was made and is not there")
    }

    /// This stock kernel, or one of our own that is built from its sources.
    pub fn variant(self, cache: &Cache, ui: &Ui, variant: Variant) -> Result<Self> {
        match variant {
            Variant::Stock => Ok(self),
            variant => build::get(cache, ui, &self, variant),
        }
    }

    /// Looks for a newer one than the cache has, and gets it.
    pub fn update(cache: &Cache, ui: &Ui, flavour: Flavour) -> Result<Self> {
        let root = Toolchain::Gcc.get(cache, ui)?;
        {
            let _lock = cache.lock("kernel")?;
            Self::fetch(cache, ui, &root, flavour, None)?;
        }
        Self::get(cache, ui, flavour)
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

    fn cached(cache: &Cache, root: &Root, flavour: Flavour, wanted: Option<&str>) -> Option<Self> {
        Self::all_cached(cache, root, flavour)
            .filter(|kernel| wanted.is_none_or(|wanted| kernel.identity.upstream() == wanted))
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
        let suffix = format!(".{RECIPE}");
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
        wanted: Option<&str>,
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
        let identity = resolve(&apt.packages()?, flavour, wanted)?;
        step.done();
        ui.note(format!("The kernel is {}.", identity.release));
        // All flavours of a version have the same sources.
        let sources = Flavour::ALL
            .into_iter()
            .find_map(|other| Self::of_version(cache, root, other, &identity))
            .map(|kernel| kernel.tree());
        let sources = sources.as_deref();
        let name = format!("{}.{RECIPE}", identity.release);
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
        self.release
            .split(['+', '-'])
            .next()
            .unwrap_or(&self.release)
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
        ["base", "binary", "modules", "headers"]
            .iter()
            .map(|part| format!("linux-{part}-{release}={version}"))
            .chain(with_sources.then(|| format!("linux-source-{SERIES}={version}")))
            .collect()
    }
}

/// The newest release of the series and the flavour of which all parts are there in one version.
fn resolve(
    packages: &[(String, String)],
    flavour: Flavour,
    wanted: Option<&str>,
) -> Result<Identity> {
    let mut candidates: BTreeMap<(String, String), Vec<&str>> = BTreeMap::new();
    let mut sources = Vec::new();
    let source = format!("linux-source-{SERIES}");
    for (name, version) in packages {
        if *name == source {
            sources.push(version.as_str());
        }
        for part in ["base", "binary", "modules", "headers"] {
            let Some(release) = name.strip_prefix(&format!("linux-{part}-")) else {
                continue;
            };
            if release.starts_with(&format!("{SERIES}.")) && Flavour::of(release) == Some(flavour) {
                candidates
                    .entry((release.to_owned(), version.clone()))
                    .or_default()
                    .push(part);
            }
        }
    }
    let mut found = String::new();
    let mut best: Option<Identity> = None;
    for ((release, version), mut parts) in candidates {
        if sources.contains(&version.as_str()) {
            parts.push("source");
        }
        parts.sort_unstable();
        parts.dedup();
        found.push_str(&format!("\n  {release} ({version}): {}", parts.join(", ")));
        let identity = Identity {
            release,
            version,
            variant: Variant::Stock,
        };
        if parts.len() < 5 || wanted.is_some_and(|wanted| identity.upstream() != wanted) {
            continue;
        }
        let newer = best.as_ref().is_none_or(|best| {
            compare_versions(&identity.release, &best.release)
                .then_with(|| compare_versions(&identity.version, &best.version))
                .is_gt()
        });
        if newer {
            best = Some(identity);
        }
    }
    let sources = if sources.is_empty() {
        "none".to_owned()
    } else {
        sources.join(", ")
    };
    if found.is_empty() {
        found = "\n  nothing".into();
    }
    best.with_context(|| {
        format!(
            "the archive has no kernel {} whose base, binary, modules, headers and source packages have the same version.\n\
             Found of {flavour}:{found}\nVersions of {source}: {sources}\n\
             MAPBUF_DEBIAN_MIRROR can name another mirror.",
            wanted.map_or_else(|| format!("{SERIES}.x"), str::to_owned)
        )
    })
}

/// Compares version numbers: runs of digits by value, all else by character.
fn compare_versions(a: &str, b: &str) -> Ordering {
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

    fn package(name: &str, version: &str) -> (String, String) {
        (name.to_owned(), version.to_owned())
    }

    fn all_of(release: &str, version: &str) -> Vec<(String, String)> {
        ["base", "binary", "modules", "headers"]
            .iter()
            .map(|part| package(&format!("linux-{part}-{release}"), version))
            .collect()
    }

    #[test]
    fn the_newest_whole_one_is_taken() {
        let mut packages = all_of("7.2.9+deb13-cloud-amd64", "7.2.9-1");
        packages.extend(all_of("7.2.11+deb13-cloud-amd64", "7.2.11-1"));
        packages.extend(all_of("7.3.1+deb13-cloud-amd64", "7.3.1-1"));
        packages.extend(all_of("7.2.12+deb13-amd64", "7.2.12-1"));
        // Its headers are still to come.
        packages.push(package("linux-binary-7.2.12+deb13-cloud-amd64", "7.2.12-1"));
        for version in ["7.2.9-1", "7.2.11-1", "7.2.12-1"] {
            packages.push(package("linux-source-7.2", version));
        }
        let resolved = resolve(&packages, Flavour::Cloud, None).unwrap();
        assert_eq!(resolved.release, "7.2.11+deb13-cloud-amd64");
        assert_eq!(resolved.upstream(), "7.2.11");
        assert_eq!(
            resolve(&packages, Flavour::Cloud, Some("7.2.9"))
                .unwrap()
                .version,
            "7.2.9-1"
        );

        packages.retain(|(name, version)| name != "linux-source-7.2" || version == "7.2.12-1");
        let message = resolve(&packages, Flavour::Cloud, None)
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("7.2.11+deb13-cloud-amd64 (7.2.11-1): base, binary, headers, modules")
        );
        assert!(message.contains("Versions of linux-source-7.2: 7.2.12-1"));
    }

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
