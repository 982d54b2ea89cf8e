//! Where kernels stand: which of the cache's is taken, what is fetched from the archive, and how it is prepared.

use crate::build;
use crate::cache::{link_tree, remove_tree, Cache};
use crate::choice::Stock;
use crate::debian::{Apt, Root, Toolchain, Userland};
use crate::flavour::Flavour;
use crate::identity::Identity;
use crate::kernel::{config_value, entry_name, Kernel, INSIDE};
use crate::offer::{self, Look, Offers};
use crate::suite::Suite;
use crate::ui::{Step, Ui};
use crate::variant::Variant;
use anyhow::{bail, Context, Error, Result};
use mapbuf_abi::series::SERIES;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// After so long it is looked again whether the archive has the newest supported series by now.
const SOON: Duration = Duration::from_secs(24 * 3600);
/// And after so long whether it has one that is newer than all that are supported.
const LATER: Duration = Duration::from_secs(7 * 24 * 3600);

impl Kernel {
    /// The stock kernel of this flavour: the newest that is wanted in the cache; fetched and prepared when there is none.
    ///
    /// Where nothing is said of which one, it is the newest of the newest series that is supported and that the archive
    /// has whole; what is newer than that is said.
    pub fn get(cache: &Cache, ui: &Ui, flavour: Flavour, stock: &Stock) -> Result<Self> {
        let shelf = Shelf {
            cache,
            ui,
            flavour,
            stock,
        };
        let kernel = match shelf.newest() {
            Some(kernel) if shelf.is_good(&kernel) => kernel,
            _ => shelf.fill()?,
        };
        shelf.comment(&kernel);
        Ok(kernel)
    }

    /// Whether nothing newer is supported.
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
    pub fn update(cache: &Cache, ui: &Ui, flavour: Flavour, stock: &Stock) -> Result<Self> {
        let shelf = Shelf {
            cache,
            ui,
            flavour,
            stock,
        };
        {
            let _lock = cache.lock("kernel")?;
            shelf.fetch()?;
        }
        Self::get(cache, ui, flavour, stock)
    }

    /// Another build of this very version.
    pub fn with_flavour(&self, cache: &Cache, ui: &Ui, flavour: Flavour) -> Result<Self> {
        if self.identity.variant != Variant::Stock {
            bail!(
                "the {} kernel has no flavour {flavour}",
                self.identity.variant
            );
        }
        let stock = Stock {
            version: Some(self.identity.upstream().parse().map_err(Error::msg)?),
            suite: self.identity.suite,
        };
        Self::get(cache, ui, flavour, &stock)
    }

    /// Removes what nothing needs any more; the names of what was removed. Needed are this kernel, the newest one of each
    /// series that is supported, their other flavours, variants that are built from them, and the userlands of all of these.
    pub fn remove_others(&self, cache: &Cache) -> Result<Vec<String>> {
        let name = |path: &Path| path.file_name()?.to_str().map(str::to_owned);
        let mut kept = vec![self.clone()];
        for suite in Suite::ALL {
            for series in SERIES {
                let all = Self::all_cached(cache, suite, Flavour::default());
                let of_series = all.filter(|kernel| kernel.identity.series() == *series);
                kept.extend(of_series.max_by(Self::compare));
            }
        }
        let mut kernels = Vec::new();
        let mut roots = Vec::new();
        for kernel in kept {
            let flavours = Flavour::ALL.into_iter();
            let flavours = flavours.filter_map(|it| Self::of_version(cache, it, &kernel.identity));
            kernels.extend(flavours.filter_map(|kernel| name(&kernel.folder)));
            kernels.extend(name(&kernel.folder));
            let variants = Variant::ALL.into_iter();
            kernels.extend(variants.filter_map(|it| build::entry_name(cache, &kernel, it)));
            roots.extend(name(&kernel.root.path));
            roots.extend(build::root_name(&kernel));
        }
        let mut removed = Vec::new();
        // Each is named after its kernel.
        let mut drivers = cache.entries("drivers");
        drivers.retain(|name| {
            kernels
                .iter()
                .any(|kernel| name.starts_with(kernel.as_str()))
        });
        for (kind, keep) in [
            ("drivers", drivers),
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
}

/// The packages that it comes from.
fn packages(identity: &Identity, with_sources: bool) -> Vec<String> {
    let (release, version) = (&identity.release, &identity.version);
    offer::PARTS
        .iter()
        .map(|part| format!("linux-{part}-{release}={version}"))
        .chain(with_sources.then(|| format!("linux-source-{}={version}", identity.series())))
        .collect()
}

/// Where stock kernels of a flavour stand, and which one is wanted of them.
struct Shelf<'a> {
    cache: &'a Cache,
    ui: &'a Ui,
    flavour: Flavour,
    stock: &'a Stock,
}

impl Shelf<'_> {
    /// The one in the cache that is wanted.
    fn newest(&self) -> Option<Kernel> {
        Kernel::if_cached(self.cache, self.flavour, self.stock)
    }

    /// Whether a kernel of the cache is taken without asking the archive.
    fn is_good(&self, kernel: &Kernel) -> bool {
        let last = || Look::last(self.cache, self.stock.suite);
        let lately = |age| last().is_some_and(|look| look.is_younger_than(age));
        if self.stock.version.is_some() {
            true
        } else if kernel.is_of_newest_series() {
            lately(LATER)
        } else {
            lately(SOON)
        }
    }

    /// Asks the archive, and gets what is wanted from there; where that fails, what the cache has.
    fn fill(&self) -> Result<Kernel> {
        // One lock for the whole: which entry it will be is known only when the lists are here.
        let _lock = self.cache.lock("kernel")?;
        let Some(kernel) = self.newest() else {
            self.fetch()?;
            return self.newest().context("the kernel was built but is missing");
        };
        if self.is_good(&kernel) {
            return Ok(kernel);
        }
        let outcome = match kernel.is_of_newest_series() {
            // It is kept until somebody asks for an update.
            true => self.look().map(|_| ()),
            false => self.fetch(),
        };
        if let Err(error) = outcome {
            Look::put_off(self.cache, self.stock.suite)?;
            self.ui.note(format!(
                "The archive could not be asked for newer kernels: {error:#}"
            ));
        }
        Ok(self.newest().unwrap_or(kernel))
    }

    /// Says what else there is, and what the kernel is not.
    fn comment(&self, kernel: &Kernel) {
        let upstream = kernel.identity.upstream();
        let (series, supported) = (kernel.identity.series(), SERIES.join(" and "));
        if !offer::is_supported(upstream) {
            self.ui.note(format!(
                "{series} is not supported ({supported} are): the driver may not build for it or not work."
            ));
            return;
        }
        let Some(look) = Look::last(self.cache, self.stock.suite) else {
            return;
        };
        let offers = look.offers(self.flavour);
        let newest = SERIES.first().copied().unwrap_or_default();
        let asked = self.stock.version.is_some() || kernel.is_of_newest_series();
        if !asked && offers.lacks(newest) {
            self.ui.note(format!(
                "Debian {} has no complete kernel {newest}; using {upstream}.",
                self.stock.suite
            ));
        }
        if let Some(newer) = offers.newer() {
            let series = mapbuf_abi::series::series(newer).unwrap_or(newer);
            let suite = match self.stock.suite {
                suite if suite == Suite::default() => String::new(),
                suite => format!("@{suite}"),
            };
            self.ui.note(format!(
                "{newer} is available but not supported yet; `cargo xtask kernel try {series}{suite}` builds and tries it."
            ));
        }
    }

    /// Looks at what the archive has.
    fn look(&self) -> Result<Offers> {
        self.with_apt(|_, offers, _| Ok(offers))
    }

    /// Does something with the archive's package lists, brought up to date, in the newest userland of the suite.
    fn with_apt<T>(&self, then: impl FnOnce(&Apt<'_>, Offers, &Root) -> Result<T>) -> Result<T> {
        // Left by a run that was interrupted; the lock says that none is at it now.
        for entry in fs::read_dir(self.cache.root())?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(".apt-") {
                remove_tree(&entry.path())?;
            }
        }
        let work = tempfile::Builder::new()
            .prefix(".apt-")
            .tempdir_in(self.cache.root())?;
        let suite = self.stock.suite;
        let root = Userland::newest(self.cache, suite, Toolchain::Gcc).get(self.cache, self.ui)?;
        root.rustc_version()?;
        let log = self.cache.log("kernel");
        let _ = fs::remove_file(&log);
        let step = self.ui.step("Looking for the newest kernel", 0);
        let apt = Apt::update(&root, work.path(), &step, &log)?;
        let look = Look::keep(self.cache, suite, apt.packages(Look::wants)?)?;
        step.done();
        then(&apt, look.offers(self.flavour), &root)
    }

    fn fetch(&self) -> Result<()> {
        let all = || Kernel::all_cached(self.cache, self.stock.suite, self.flavour);
        self.with_apt(|apt, offers, root| {
            let cached: Vec<_> = all().map(|it| it.identity.upstream().to_owned()).collect();
            let identity = offers.choose(self.stock, &cached)?;
            if all().any(|kernel| kernel.identity == identity) {
                return Ok(());
            }
            self.ui.note(format!("The kernel is {}.", identity.release));
            let renewed;
            let mut root = root;
            if self.stock.suite.is_rolling()
                && (apt.has_other("rustc")? || apt.has_other("bindgen")?)
            {
                let userland = Userland::newest(self.cache, self.stock.suite, Toolchain::Gcc);
                renewed = userland.next().get(self.cache, self.ui)?;
                root = &renewed;
            }
            self.install(apt, &identity, root)
        })
    }

    /// Downloads a kernel and prepares it with the compilers of a userland.
    fn install(&self, apt: &Apt<'_>, identity: &Identity, root: &Root) -> Result<()> {
        // All flavours of a version have the same sources.
        let sources = Flavour::ALL
            .into_iter()
            .find_map(|other| Kernel::of_version(self.cache, other, identity))
            .map(|kernel| kernel.tree());
        let sources = sources.as_deref();
        let name = entry_name(identity, root);
        self.cache.entry("kernels", &name, |part| {
            let log = self.cache.log(&name);
            self.cache
                .require(if sources.is_some() { 1500 } else { 3000 })?;
            let step = self.ui.step("Downloading its packages", 0);
            let debs = apt.download(&packages(identity, sources.is_none()), &step, &log)?;
            step.done();
            prepare(self.ui, root, identity, &debs, sources, part, &log)?;
            fs::write(
                part.join("identity.json"),
                serde_json::to_vec_pretty(identity)?,
            )?;
            Ok(())
        })?;
        Ok(())
    }
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
            bail!("make prepare succeeded but did not make {file}; is CONFIG_RUST still set in the configuration?");
        }
    }
    let made = fs::read_to_string(part.join("build/include/config/kernel.release"))?;
    if made.trim() != release {
        bail!(
            "the tree calls itself {}, but the image {release}: modules built with it would not load",
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
