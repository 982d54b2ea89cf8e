//! Debian's stable kernels, for the museum alone: an image and its headers, without Rust.
//!
//! `mapbuf diagnose` needs no driver of ours, and is to work on kernels that this driver does not support. C modules build
//! against the headers package as it is, so nothing is prepared here but the paths.

use crate::cache::Cache;
use crate::debian::{self, Root, Toolchain, Userland};
use crate::host;
use crate::identity::Identity;
use crate::kernel::{Kernel, INSIDE};
use crate::suite::Suite;
use crate::ui::Ui;
use crate::variant::Variant;
use anyhow::{bail, Context, Result};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;

/// Changes when what is done to unpack such a kernel changes.
const RECIPE: u32 = 1;

/// A series that a Debian release ships.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Series {
    /// Debian 11.
    V5_10,
    /// Debian 12.
    V6_1,
    /// Debian 13.
    V6_12,
}

impl Series {
    /// All of them, the oldest first.
    pub const ALL: [Self; 3] = [Self::V5_10, Self::V6_1, Self::V6_12];

    /// `6.12`
    pub fn number(self) -> &'static str {
        match self {
            Self::V5_10 => "5.10",
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
        }
    }

    fn suite(self) -> &'static str {
        match self {
            Self::V5_10 => "bullseye",
            Self::V6_1 => "bookworm",
            Self::V6_12 => "trixie",
        }
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.number())
    }
}

impl FromStr for Series {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = Self::ALL.into_iter();
        all.find(|series| series.number() == text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.map(Self::number).to_vec();
            format!(
                "there is no museum kernel {text}; there are {}",
                names.join(", ")
            )
        })
    }
}

/// The newest kernel of a series that is in the cache; fetched when there is none.
pub fn get(cache: &Cache, ui: &Ui, series: Series) -> Result<Kernel> {
    let root = Userland::newest(cache, Suite::Trixie, Toolchain::Gcc).get(cache, ui)?;
    let name = format!("debian-{series}-cloud-amd64.{RECIPE}");
    let folder = cache.entry("museum-kernels", &name, |part| {
        cache.require(1000)?;
        let log = cache.log(&name);
        let work = tempfile::Builder::new()
            .prefix(".museum-")
            .tempdir_in(cache.root())?;
        let step = ui.step("Fetching a Debian kernel for the museum", 0);
        let identity = fetch(&root, series, work.path(), &log, &step)?;
        step.done();
        let step = ui.step("Unpacking it", 0);
        unpack(&root, &identity, work.path(), part, &log, &step)?;
        fs::write(
            part.join("identity.json"),
            serde_json::to_vec_pretty(&identity)?,
        )?;
        step.done();
        Ok(())
    })?;
    let identity = fs::read(folder.join("identity.json"))?;
    Ok(Kernel {
        identity: serde_json::from_slice(&identity)?,
        folder,
        root,
    })
}

/// Downloads the packages into `work`, checked against the archive's signature.
fn fetch(
    root: &Root,
    series: Series,
    work: &Path,
    log: &Path,
    step: &crate::ui::Step,
) -> Result<Identity> {
    let suite = series.suite();
    let mirror = debian::mirror()
        .or_else(|| root.mirror())
        .context("no Debian mirror is known; set MAPBUF_DEBIAN_MIRROR")?;
    for folder in ["state/lists/partial", "cache/archives/partial", "debs"] {
        fs::create_dir_all(work.join(folder))?;
    }
    fs::write(
        work.join("sources.list"),
        format!("deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {mirror} {suite} main\n"),
    )?;
    let apt = |program: &str| {
        let sandbox = root.sandbox().network().write(work, Path::new("/mnt"));
        let mut command = sandbox.command("sh");
        command.args(["-c", "cd /mnt/debs && exec \"$@\"", "sh", program]);
        for option in [
            "Dir::State=/mnt/state",
            "Dir::State::status=/var/lib/dpkg/status",
            "Dir::Cache=/mnt/cache",
            "Dir::Etc::sourcelist=/mnt/sources.list",
            "Dir::Etc::sourceparts=-",
            "Acquire::Retries=3",
            "APT::Update::Error-Mode=any",
        ] {
            command.args(["-o", option]);
        }
        if host::is_root() {
            command.args(["-o", "APT::Sandbox::User=root"]);
        }
        for (key, value) in debian::settings() {
            command.arg("-o").arg(format!("{key}={value}"));
        }
        command
    };
    step.run(apt("apt-get").args(["-q", "update"]), log)
        .context("the package lists could not be fetched")?;
    let listed = apt("apt-cache").arg("dumpavail").output()?;
    let packages = debian::stanzas(&String::from_utf8_lossy(&listed.stdout));
    let prefix = format!("linux-image-{series}");
    let mut images: Vec<_> = packages
        .iter()
        .filter_map(|(name, version)| {
            let release = name.strip_prefix("linux-image-")?;
            let right = name.starts_with(&prefix)
                && release[series.number().len()..].starts_with(['.', '-'])
                && release.ends_with("-cloud-amd64");
            right.then(|| (release.to_owned(), version.clone()))
        })
        .collect();
    images.sort_by(|a, b| crate::version::compare_versions(&a.1, &b.1));
    let Some((release, version)) = images.pop() else {
        bail!("the archive's {suite} has no linux-image-{series}…-cloud-amd64; MAPBUF_DEBIAN_MIRROR can name another mirror");
    };
    let common = release.replace("-cloud-amd64", "-common");
    let kbuild = packages
        .iter()
        .filter(|(name, _)| name.starts_with("linux-kbuild-"))
        .find(|(_, other)| *other == version)
        .map(|(name, _)| name.clone())
        .with_context(|| format!("there is no linux-kbuild of the version {version}"))?;
    let wanted = [
        format!("linux-image-{release}={version}"),
        format!("linux-headers-{release}={version}"),
        format!("linux-headers-{common}={version}"),
        format!("{kbuild}={version}"),
    ];
    step.run(apt("apt-get").args(["-q", "download"]).args(&wanted), log)
        .context("the kernel's packages could not be downloaded")?;
    Ok(Identity {
        release,
        version,
        variant: Variant::Stock,
        suite: Suite::Trixie,
    })
}

/// Unpacks the packages into `part` as [`Kernel`] expects it.
fn unpack(
    root: &Root,
    identity: &Identity,
    work: &Path,
    part: &Path,
    log: &Path,
    step: &crate::ui::Step,
) -> Result<()> {
    let sandbox = root
        .sandbox()
        .write(part, Path::new(INSIDE))
        .read(&work.join("debs"), Path::new("/mnt"));
    let mut command = sandbox.command("sh");
    command.args([
        "-e",
        "-c",
        // The headers lead to /usr/lib/linux-kbuild-…, which a userland that is read-only cannot show: it goes beside them.
        "cd /kit; mkdir image
         for deb in /mnt/*.deb; do dpkg-deb -x $deb image; done
         if [ -d image/lib ] && [ ! -L image/lib ]; then
             mkdir -p image/usr/lib; cp -a image/lib/. image/usr/lib/; rm -rf image/lib
         fi
         ln -sfn usr/lib image/lib
         mv image/boot/vmlinuz-$1 image/usr/lib/modules/$1/vmlinuz
         depmod -b /kit/image $1
         mv image/usr/src src
         rm -f src/linux-kbuild-*
         mv image/usr/lib/linux-kbuild-* src/
         for folder in src/linux-headers-*; do
             for name in scripts tools; do
                 if [ -L $folder/$name ]; then
                     ln -sfn ../$(basename src/linux-kbuild-*)/$name $folder/$name
                 fi
             done
         done
         rm -rf image/usr/share image/boot",
        "sh",
        &identity.release,
    ]);
    step.run(&mut command, log)
}

/// Builds the modules of a folder with a Kbuild file, in place: these kernels have no `MO=`.
pub fn build_modules(kernel: &Kernel, folder: &Path) -> Result<()> {
    let headers = format!("/usr/src/linux-headers-{}", kernel.identity.release);
    let sandbox = kernel
        .root
        .sandbox()
        .read(&kernel.folder.join("src"), Path::new("/usr/src"))
        .write(folder, folder);
    // What the reports use and these kernels do not have yet (6.3, 6.13). The example drivers have a header for that.
    let older = folder.join("lacks.h");
    let prepared = folder.join("older.h").exists();
    fs::write(
        &older,
        "#define vm_flags_set(vma, flags) ((vma)->vm_flags |= (flags))\n\
         #define vm_flags_clear(vma, flags) ((vma)->vm_flags &= ~(flags))\n\
         #define pcim_request_all_regions(device, name) pci_request_regions(device, name)\n",
    )?;
    // 6.12 has all of it but the last, which is no macro there.
    let old = !kernel.identity.release.starts_with("6.12.") && !prepared;
    let output = sandbox
        .command("make")
        .args(["-C", &headers])
        .arg(format!("M={}", folder.display()))
        // The compiler that built them is not this userland's.
        .args([
            "CROSS_COMPILE=x86_64-linux-gnu-",
            "CC=x86_64-linux-gnu-gcc-14",
        ])
        // What uses functions that this kernel lacks is refused when it is loaded, and the others are not held up.
        .arg("KBUILD_MODPOST_WARN=1")
        .args(old.then(|| format!("KCFLAGS=-include {}", older.display())))
        // All that is wrong is told at once.
        .args(["-k", "modules"])
        .stdin(Stdio::null())
        .output()
        .context("make could not be started")?;
    if !output.status.success() {
        bail!(
            "modules for {} did not build:\n{}{}",
            kernel.identity.release,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// Where the modules of a folder are, after a build: each `.ko` under it.
pub fn modules_under(folder: &Path) -> Result<Vec<PathBuf>> {
    let listed = Command::new("find")
        .arg(folder)
        .args(["-name", "*.ko"])
        .output()
        .context("find could not be started")?;
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    Ok(text.lines().map(PathBuf::from).collect())
}
