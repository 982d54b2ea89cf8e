//! Debian userlands: the one with the compilers, and those that are to be the guest's root.

use crate::cache::Cache;
use crate::host;
use crate::sandbox::Sandbox;
use crate::suite::Suite;
use crate::ui::{Step, Ui};
use anyhow::{bail, Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Changes when what is done to make a root changes, so that roots made the old way are not taken for new ones.
const RECIPE: u32 = 2;

/// What the kernel's makefiles call, what unpacks its packages, and the shell of the minimal guest.
const TOOLCHAIN: [&str; 24] = [
    "bc",
    "bindgen",
    "bison",
    "busybox-static",
    "ca-certificates",
    "debian-archive-keyring",
    "dwarves",
    "e2fsprogs",
    "flex",
    "gcc",
    "kmod",
    "libarchive13t64",
    "libc6-dev",
    "libelf-dev",
    "libssl-dev",
    "make",
    "openssl",
    "perl",
    "python3",
    "rust-clippy",
    "rust-src",
    "rustc",
    "rustfmt",
    "xz-utils",
];

/// What a kernel is built with that gcc cannot build: KASAN with Rust in the kernel wants clang.
const LLVM: [&str; 3] = ["clang", "lld", "llvm"];

/// What makes WebAssembly of Rust without its library; Debian's compiler links it by LLVM's linker.
const WASM: [&str; 3] = ["libstd-rust-dev-wasm32", "lld", "rustc"];

/// The compilers of a userland.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// Those that built Debian's kernels.
    Gcc,
    /// The same, and LLVM's.
    Llvm,
    /// Rust's alone, for WebAssembly.
    Wasm,
}

/// Which userland.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Userland {
    /// The Debian release.
    pub suite: Suite,
    /// What is in it.
    pub toolchain: Toolchain,
    /// Where the release's compilers change, which one this is, from 1 on; else 0.
    number: u32,
}

impl Userland {
    /// The newest one in the cache, or the first one.
    pub fn newest(cache: &Cache, suite: Suite, toolchain: Toolchain) -> Self {
        let made = cache.entries("roots");
        let made = made.iter().filter_map(|name| Self::of(name));
        let newest = made
            .filter(|made| (made.suite, made.toolchain) == (suite, toolchain))
            .max_by_key(|made| made.number);
        newest.unwrap_or(Self {
            suite,
            toolchain,
            number: suite.is_rolling().into(),
        })
    }

    /// The one after it, with the compilers of today.
    pub fn next(self) -> Self {
        Self {
            number: self.number + 1,
            ..self
        }
    }

    /// The one with other compilers beside it.
    pub fn with(self, toolchain: Toolchain) -> Self {
        Self { toolchain, ..self }
    }

    /// The one that has this name in the cache.
    pub fn of(name: &str) -> Option<Self> {
        let [suite, kind, rest] = name.splitn(3, '-').collect::<Vec<_>>()[..] else {
            return None;
        };
        let number = match rest.split_once('.') {
            Some((_, number)) => number.parse().ok()?,
            None => 0,
        };
        let userland = Self {
            suite: suite.parse().ok()?,
            toolchain: Toolchain::ALL.into_iter().find(|it| it.name() == kind)?,
            number,
        };
        // One that was made by another recipe is none.
        (userland.name() == name).then_some(userland)
    }

    /// Its name in the cache.
    pub fn name(self) -> String {
        let Self {
            suite,
            toolchain,
            number,
        } = self;
        let name = format!("{suite}-{}-{RECIPE}", toolchain.name());
        match number {
            0 => name,
            number => format!("{name}.{number}"),
        }
    }

    /// It, if it has been made.
    pub fn if_made(self, cache: &Cache) -> Option<Root> {
        let path = cache.root().join("roots").join(self.name());
        path.exists().then_some(Root { path })
    }

    /// It, from the cache or made now.
    pub fn get(self, cache: &Cache, ui: &Ui) -> Result<Root> {
        let name = self.name();
        let path = cache.entry("roots", &name, |part| {
            let log = cache.log(&name);
            cache.require(3500)?;
            let (compilers, packages) = match self.toolchain {
                Toolchain::Gcc => ("the compilers", TOOLCHAIN.to_vec()),
                Toolchain::Wasm => ("Rust for WebAssembly", WASM.to_vec()),
                Toolchain::Llvm => ("LLVM's compilers", [TOOLCHAIN.as_slice(), &LLVM].concat()),
            };
            let title = format!(
                "Making a userland of Debian {} with {compilers}",
                self.suite
            );
            let step = ui.step(&title, 1300);
            let tar = part.join("root.tar");
            mmdebstrap(&step, &log, &tar, self.suite, &packages, &[])?;
            unpack(&step, &log, &tar, part)?;
            step.done();
            Ok(())
        })?;
        Ok(Root { path })
    }
}

impl Toolchain {
    const ALL: [Self; 3] = [Self::Gcc, Self::Llvm, Self::Wasm];

    /// As it stands in the names of userlands.
    fn name(self) -> &'static str {
        match self {
            Self::Gcc => "toolchain",
            Self::Llvm => "llvm",
            Self::Wasm => "wasm",
        }
    }
}

/// A userland in a folder.
#[derive(Clone, Debug)]
pub struct Root {
    /// The folder.
    pub path: PathBuf,
}

impl Root {
    /// Its name in the cache.
    pub fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// The mirror that it was made from, as its own list of sources has it.
    pub fn mirror(&self) -> Option<String> {
        let text = fs::read_to_string(self.path.join("etc/apt/sources.list")).ok()?;
        mirror_of_lines(&text, Suite::Trixie.name())
    }

    /// To run programs in it.
    pub fn sandbox(&self) -> Sandbox {
        Sandbox::new(&self.path)
    }

    /// What `rustc --version` says there.
    pub fn rustc_version(&self) -> Result<String> {
        self.version("rustc")
    }

    /// What `clang --version` says there, in its first line.
    pub fn clang_version(&self) -> Result<String> {
        self.version("clang")
    }

    fn version(&self, compiler: &str) -> Result<String> {
        let output = self.sandbox().command(compiler).arg("--version").output();
        let output = output.context("bwrap could not be started")?;
        if !output.status.success() {
            bail!(
                "programs cannot be run in {}:\n{}\n{}",
                self.path.display(),
                String::from_utf8_lossy(&output.stderr).trim(),
                SANDBOX_HINT
            );
        }
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.lines().next().unwrap_or_default().trim().to_owned())
    }
}

/// What to do when user namespaces are forbidden.
const SANDBOX_HINT: &str = "bubblewrap needs user namespaces. Where AppArmor restricts them (Ubuntu 24.04 and later), \
     `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0` allows them until the next boot; running as root works too.";

/// Runs `mmdebstrap` to make `tar`, from the suite and its backports; `hooks` run when the packages are there.
pub fn mmdebstrap(
    step: &Step,
    log: &Path,
    tar: &Path,
    suite: Suite,
    packages: &[&str],
    hooks: &[String],
) -> Result<()> {
    // When it fails it hangs up its whole process group, which must not be the caller's; then an interrupt from the
    // terminal does not reach it either, so it is told when the caller dies.
    let mut command = Command::new("setpriv");
    command.process_group(0);
    command.args(["--pdeathsig", "TERM", "mmdebstrap"]);
    command.arg("--variant=apt");
    command.arg(format!("--include={}", packages.join(",")));
    for hook in hooks {
        command.arg(format!("--customize-hook={hook}"));
    }
    // Documentation and translations would be a third of the whole.
    command.args([
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        "--aptopt=APT::Install-Recommends \"false\"",
        "--aptopt=Acquire::Retries \"3\"",
    ]);
    for (key, value) in settings() {
        command.arg(format!("--aptopt={key} \"{value}\""));
    }
    command.arg(suite.name()).arg(tar);
    let backports = suite.backports();
    match (mirror(), backports) {
        (Some(mirror), backports) => {
            for part in backports.into_iter().chain([suite.to_string()]) {
                command.arg(format!("deb {mirror} {part} main"));
            }
        }
        (None, Some(backports)) => {
            // mmdebstrap knows where Debian is; the backports are beside it.
            command.arg(format!(
                "--setup-hook=sed -n 's/ {suite} / {backports} /p' \"$1\"/etc/apt/sources.list > \"$1\"/etc/apt/sources.list.d/backports.list"
            ));
        }
        (None, None) => {}
    }
    // A caller's private temporary folder may be closed to the users that apt and mmdebstrap become, and /tmp may be
    // in memory.
    command.env("TMPDIR", "/var/tmp");
    step.run(&mut command, log)?;
    Ok(())
}

/// Unpacks a userland so that all of it belongs to the caller.
pub fn unpack(step: &Step, log: &Path, tar: &Path, into: &Path) -> Result<()> {
    let mut command = Command::new("tar");
    command
        .arg("--extract")
        .arg("--file")
        .arg(tar)
        .arg("--directory")
        .arg(into);
    command.args(["--no-same-owner", "--exclude=./dev/*"]);
    step.run(&mut command, log)?;
    fs::remove_file(tar)?;
    // Places for the host's own to be mounted on.
    for file in ["etc/resolv.conf", "etc/hosts"] {
        let file = into.join(file);
        let _ = fs::remove_file(&file);
        fs::write(&file, "")?;
    }
    Ok(())
}

/// Where Debian is to be had, if this host knows.
pub fn mirror() -> Option<String> {
    if let Ok(mirror) = std::env::var("MAPBUF_DEBIAN_MIRROR") {
        return Some(mirror);
    }
    let release = os_release(&fs::read_to_string("/etc/os-release").ok()?);
    // Another distribution's mirror does not serve Debian.
    if release.get("ID").map(String::as_str) != Some("debian") {
        return None;
    }
    let codename = release.get("VERSION_CODENAME")?;
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    let mut parts: Vec<_> = fs::read_dir("/etc/apt/sources.list.d")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    parts.sort();
    files.extend(parts);
    files.iter().find_map(|file| {
        let text = fs::read_to_string(file).ok()?;
        match file.extension()?.to_str()? {
            "list" => mirror_of_lines(&text, codename),
            "sources" => mirror_of_stanzas(&text, codename),
            _ => None,
        }
    })
}

fn os_release(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.trim_matches('"').to_owned()))
        .collect()
}

fn serves(uri: &str) -> bool {
    ["http://", "https://"]
        .iter()
        .any(|scheme| uri.starts_with(scheme))
}

/// The mirror in a `sources.list`: `deb [options] URI SUITE COMPONENT…`.
fn mirror_of_lines(text: &str, codename: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let line = line.split('#').next()?.trim();
        let rest = line.strip_prefix("deb ")?.trim_start();
        let rest = match rest.strip_prefix('[') {
            Some(options) => options.split_once(']')?.1,
            None => rest,
        };
        let words: Vec<_> = rest.split_whitespace().collect();
        let [uri, suite, components @ ..] = words.as_slice() else {
            return None;
        };
        let debian = suites(codename).contains(suite) && components.contains(&"main");
        (debian && serves(uri)).then(|| (*uri).to_owned())
    })
}

/// The mirror in a deb822 file.
fn mirror_of_stanzas(text: &str, codename: &str) -> Option<String> {
    let mut fields: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut last = String::new();
    for line in text.lines().chain([""]) {
        if line.trim().is_empty() {
            let has = |field: &str, wanted: &[&str]| {
                fields.get(field).is_some_and(|values| {
                    values.iter().any(|value| wanted.contains(&value.as_str()))
                })
            };
            if has("types", &["deb"])
                && has("suites", &suites(codename))
                && has("components", &["main"])
                && !has("enabled", &["no", "false", "off", "0"])
            {
                let uri = fields
                    .get("uris")
                    .and_then(|uris| uris.iter().find(|uri| serves(uri)));
                if let Some(uri) = uri {
                    return Some(uri.clone());
                }
            }
            fields.clear();
        } else if line.starts_with('#') {
        } else if line.starts_with([' ', '\t']) {
            let more = line.split_whitespace().map(str::to_owned);
            fields.entry(last.clone()).or_default().extend(more);
        } else if let Some((field, values)) = line.split_once(':') {
            last = field.trim().to_ascii_lowercase();
            let values = values.split_whitespace().map(str::to_owned).collect();
            fields.insert(last.clone(), values);
        }
    }
    None
}

/// The names by which a release's main archive goes.
fn suites(codename: &str) -> [&str; 4] {
    [codename, "stable", "testing", "sid"]
}

/// What the host's apt is told of how the archive is reached: by which proxies, and whether lists may be old, as those of
/// a mirror that stands still are.
pub(crate) fn settings() -> Vec<(String, String)> {
    let output = Command::new("apt-config").arg("dump").output();
    output.map_or_else(
        |_| Vec::new(),
        |output| settings_of(&String::from_utf8_lossy(&output.stdout)),
    )
}

fn settings_of(dump: &str) -> Vec<(String, String)> {
    dump.lines()
        .filter_map(|line| {
            let (key, value) = line.strip_suffix("\";")?.split_once(" \"")?;
            let name = key.strip_prefix("Acquire::")?.to_ascii_lowercase();
            let proxy = ["http::proxy", "https::proxy"];
            let wanted =
                proxy.iter().any(|proxy| name.starts_with(proxy)) || name == "check-valid-until";
            (wanted && !value.is_empty()).then(|| (key.to_owned(), value.to_owned()))
        })
        .collect()
}

/// Package lists of their own, up to date, over a root; and a folder to download to.
#[derive(Debug)]
pub struct Apt<'a> {
    root: &'a Root,
    folder: PathBuf,
}

impl<'a> Apt<'a> {
    /// Fetches the lists into `folder`.
    pub fn update(root: &'a Root, folder: &Path, step: &Step, log: &Path) -> Result<Self> {
        for sub in ["state/lists/partial", "cache/archives/partial", "debs"] {
            fs::create_dir_all(folder.join(sub))?;
        }
        let apt = Self {
            root,
            folder: folder.to_owned(),
        };
        step.run(apt.get().arg("update"), log)
            .context("the package lists could not be fetched")?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let sandbox = self
            .root
            .sandbox()
            .network()
            .write(&self.folder, Path::new("/mnt"));
        let mut command = sandbox.command(program);
        for option in [
            "Dir::State=/mnt/state",
            "Dir::State::status=/var/lib/dpkg/status",
            "Dir::Cache=/mnt/cache",
            "Acquire::Retries=3",
            // Packages that failed must not count as fetched.
            "APT::Update::Error-Mode=any",
        ] {
            command.args(["-o", option]);
        }
        if host::is_root() {
            // Its own user may not enter the caller's folders.
            command.args(["-o", "APT::Sandbox::User=root"]);
        }
        for (key, value) in settings() {
            command.arg("-o").arg(format!("{key}={value}"));
        }
        command
    }

    fn get(&self) -> Command {
        let mut command = self.command("apt-get");
        command.arg("-q");
        command
    }

    /// The packages of the lists whose names are wanted: name and version, a line for each version.
    pub fn packages(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<(String, String)>> {
        let names = self.cache(&["pkgnames", "linux-"])?;
        let names: Vec<_> = names.lines().filter(|name| wanted(name)).collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        // `dumpavail` would name the newest version of each only.
        let shown = self.cache(&[["show", "--all-versions"].as_slice(), &names].concat())?;
        Ok(stanzas(&shown))
    }

    /// What `apt-cache` prints.
    fn cache(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command("apt-cache").args(arguments).output()?;
        if !output.status.success() {
            bail!(
                "the package lists cannot be read:\n{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Whether the archive has another version of an installed package by now.
    pub fn has_other(&self, package: &str) -> Result<bool> {
        let text = self.cache(&["policy", package])?;
        let version = |field: &str| {
            let line = text
                .lines()
                .find_map(|line| line.trim().strip_prefix(field));
            line.map(|version| version.trim().to_owned())
        };
        match (version("Installed:"), version("Candidate:")) {
            (Some(installed), Some(candidate)) => Ok(installed != candidate),
            _ => bail!("apt-cache policy {package} names no version:\n{text}"),
        }
    }

    /// Downloads packages (`NAME=VERSION`), checked against the archive's signature, and returns their folder.
    pub fn download(&self, packages: &[String], step: &Step, log: &Path) -> Result<PathBuf> {
        let sandbox_folder = "/mnt/debs";
        let mut script = String::from("cd \"$1\" && shift && exec \"$@\"");
        script.insert_str(0, "set -e; ");
        let inner = self.get();
        // The download goes to the working folder, which only a shell can change inside.
        let mut command = Command::new(inner.get_program());
        let mut arguments: Vec<_> = inner.get_args().map(std::ffi::OsStr::to_owned).collect();
        let Some(split) = arguments.iter().position(|argument| argument == "--") else {
            bail!("the sandbox's command has no end of options");
        };
        let program = arguments.split_off(split + 1);
        command.args(arguments);
        command.args(["sh", "-c", &script, "sh", sandbox_folder]);
        command.args(program).arg("download").args(packages);
        step.run(&mut command, log)
            .context("the kernel's packages could not be downloaded")?;
        Ok(self.folder.join("debs"))
    }
}

pub(crate) fn stanzas(text: &str) -> Vec<(String, String)> {
    let mut packages = Vec::new();
    let mut name = None;
    for line in text.lines() {
        if let Some(value) = line.strip_prefix("Package: ") {
            name = Some(value.to_owned());
        } else if let Some(value) = line.strip_prefix("Version: ") {
            if let Some(name) = name.take() {
                packages.push((name, value.to_owned()));
            }
        }
    }
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_settings_are_kept() {
        let dump = "APT \"\";\nAcquire::http::Proxy \"http://proxy.invalid:3128\";\nAcquire::https::Proxy \"\";\n\
            Acquire::Check-Valid-Until \"false\";\nAcquire::Retries \"9\";\n";
        let kept = [
            ("Acquire::http::Proxy", "http://proxy.invalid:3128"),
            ("Acquire::Check-Valid-Until", "false"),
        ];
        let kept = kept.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(settings_of(dump), kept);
    }

    #[test]
    fn userlands_are_found_by_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().join("mapbuf"), &Ui::default()).unwrap();
        let newest = |suite| Userland::newest(&cache, suite, Toolchain::Gcc);
        assert_eq!(
            newest(Suite::Trixie).name(),
            format!("trixie-toolchain-{RECIPE}")
        );
        let first = newest(Suite::Sid);
        assert_eq!(first.name(), format!("sid-toolchain-{RECIPE}.1"));
        for userland in [first, first.next(), first.with(Toolchain::Llvm)] {
            cache.entry("roots", &userland.name(), |_| Ok(())).unwrap();
            assert_eq!(Userland::of(&userland.name()), Some(userland));
        }
        assert_eq!(newest(Suite::Sid), first.next());
        assert!(newest(Suite::Trixie).if_made(&cache).is_none());
        for none in [
            "sid-toolchain",
            "sid-toolchain-1.1",
            "sid-gcc-2",
            "sid-toolchain-2.x",
        ] {
            assert_eq!(Userland::of(none), None, "{none}");
        }
    }

    #[test]
    fn the_mirror_is_found_in_both_formats() {
        let lines = "# deb http://old.invalid/debian bookworm main\n\
            deb [arch=amd64] https://other.invalid/repo bookworm stable\n\
            deb [signed-by=/k.gpg] http://security.invalid/debian-security bookworm-security main\n\
            deb cdrom:[x]/ bookworm main\n\
            deb http://here.invalid/debian bookworm main contrib\n";
        assert_eq!(
            mirror_of_lines(lines, "bookworm").as_deref(),
            Some("http://here.invalid/debian")
        );
        let stanzas = "Types: deb\n# URIs: http://snapshot.invalid\nURIs: http://security.invalid/debian-security\n\
            Suites: bookworm-security\nComponents: main\n\n\
            Types: deb\nURIs: http://off.invalid/debian\nSuites: bookworm\nComponents: main\nEnabled: no\n\n\
            Types: deb deb-src\nURIs:\n https://here.invalid/debian\nSuites: bookworm bookworm-updates\nComponents: main\n";
        assert_eq!(
            mirror_of_stanzas(stanzas, "bookworm").as_deref(),
            Some("https://here.invalid/debian")
        );
        assert_eq!(mirror_of_stanzas(stanzas, "trixie"), None);
    }
}
