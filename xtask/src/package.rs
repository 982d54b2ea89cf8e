//! `cargo xtask package`: Debian packages of what users install.

use crate::guest;
use anyhow::{bail, Context, Result};
use mapbuf_vm::Ui;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Make the Debian packages `mapbuf` (the command, manual pages, completions, udev rules, C headers, examples) and `mapbuf-dkms`
///
/// The first has no driver. The command is static, so the package depends only on what makes the group. The second has the
/// driver's sources, which DKMS builds for each kernel that is installed; where the kernel's headers lack the Rust metadata,
/// as Debian's do, it is made again from linux-source. Needs `dpkg-deb` and `gzip`.
#[derive(clap::Args)]
pub struct Arguments {}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Runs the command.
pub fn main(_: &Arguments) -> Result<ExitCode> {
    println!("{}", build(&Ui::default())?.display());
    println!("{}", build_dkms()?.display());
    Ok(ExitCode::SUCCESS)
}

/// Makes the package of the command; its file.
pub fn build(ui: &Ui) -> Result<PathBuf> {
    let built = guest::build(&["mapbuf-cli"], ui)?.join("mapbuf");
    let workspace = crate::workspace()?;
    let tree = Tree::new("mapbuf")?;
    tree.copy(&built, "usr/bin/mapbuf", 0o755)?;
    tree.generated(&built)?;
    for (from, to) in files() {
        tree.copy(&workspace.join(from), to, 0o644)?;
    }
    for entry in fs::read_dir(workspace.join("examples/c")).context("examples/c")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "c") {
            let name = path.file_name().context("a file without a name")?;
            let to = Path::new("usr/share/doc/mapbuf/examples").join(name);
            tree.copy(&path, to, 0o644)?;
        }
    }
    tree.write("usr/share/doc/mapbuf/copyright", COPYRIGHT, 0o644)?;
    tree.write("usr/share/pkgconfig/mapbuf.pc", pkg_config(), 0o644)?;
    tree.write("usr/lib/sysusers.d/mapbuf.conf", "g mapbuf -\n", 0o644)?;
    tree.folder("etc/mapbuf.d")?;
    tree.write("DEBIAN/control", control(), 0o644)?;
    tree.write("DEBIAN/postinst", POSTINST, 0o755)?;
    tree.write("DEBIAN/postrm", POSTRM, 0o755)?;
    tree.package("mapbuf")
}

/// Makes the package of the driver's sources; its file.
pub fn build_dkms() -> Result<PathBuf> {
    let workspace = crate::workspace()?;
    let tree = Tree::new("mapbuf-dkms")?;
    let source = PathBuf::from(format!("usr/src/mapbuf-{VERSION}"));
    for folder in DRIVER_SOURCES {
        tree.copy_all(&workspace.join(folder), &source.join(folder))?;
    }
    let script = workspace.join("dist/dkms/build-module");
    tree.copy(&script, source.join("build-module"), 0o755)?;
    let conf = fs::read_to_string(workspace.join("dist/dkms/dkms.conf")).context("dkms.conf")?;
    tree.write(
        source.join("dkms.conf"),
        conf.replace("@VERSION@", VERSION),
        0o644,
    )?;
    tree.write("usr/share/doc/mapbuf-dkms/copyright", DKMS_COPYRIGHT, 0o644)?;
    tree.write("DEBIAN/control", dkms_control(), 0o644)?;
    for (script, text) in [
        ("postinst", DKMS_POSTINST),
        ("prerm", DKMS_PRERM),
        ("postrm", DKMS_POSTRM),
    ] {
        let text = text.replace("@VERSION@", VERSION);
        tree.write(Path::new("DEBIAN").join(script), text, 0o755)?;
    }
    tree.package("mapbuf-dkms")
}

/// What the driver is compiled from: its own files, and those that it shares with the rest by `#[path]`.
const DRIVER_SOURCES: [&str; 3] = ["driver", "abi/src", "policy/src"];

/// Files of the repository, and where they are installed.
fn files() -> [(&'static str, &'static str); 6] {
    [
        (
            "dist/60-mapbuf.rules",
            "usr/lib/udev/rules.d/60-mapbuf.rules",
        ),
        (
            "dist/mapbuf.service",
            "usr/lib/systemd/system/mapbuf.service",
        ),
        (
            "dist/buffers.toml",
            "usr/share/doc/mapbuf/examples/buffers.toml",
        ),
        ("dist/list.schema.json", "usr/share/mapbuf/list.schema.json"),
        ("include/mapbuf.h", "usr/include/mapbuf.h"),
        ("include/mapbuf-explain.h", "usr/include/mapbuf-explain.h"),
    ]
}

/// The files of the package.
struct Tree {
    root: PathBuf,
}

impl Tree {
    /// An empty one for a package with this name.
    fn new(name: &str) -> Result<Self> {
        let root = crate::workspace()?.join("target/package").join(name);
        if root.exists() {
            fs::remove_dir_all(&root)
                .with_context(|| format!("{} cannot be removed", root.display()))?;
        }
        Ok(Self { root })
    }

    /// The package's file, made of what is in the tree.
    fn package(&self, name: &str) -> Result<PathBuf> {
        let package = self
            .root
            .with_file_name(format!("{name}_{VERSION}_amd64.deb"));
        run(Command::new("dpkg-deb")
            .args(["--root-owner-group", "--build"])
            .arg(&self.root)
            .arg(&package))?;
        Ok(package)
    }

    /// A folder with all that is below it.
    fn copy_all(&self, from: &Path, to: &Path) -> Result<()> {
        for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
            let path = entry?.path();
            let to = to.join(path.file_name().context("a file without a name")?);
            match path.is_dir() {
                true => self.copy_all(&path, &to)?,
                false => self.copy(&path, to, 0o644)?,
            }
        }
        Ok(())
    }

    /// Where a file goes; its directory is made.
    fn place(&self, to: impl AsRef<Path>) -> Result<PathBuf> {
        let path = self.root.join(to);
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)
                .with_context(|| format!("{} cannot be made", directory.display()))?;
        }
        Ok(path)
    }

    /// An empty directory, for files of the machine's own.
    fn folder(&self, to: &str) -> Result<()> {
        let path = self.place(to)?;
        fs::create_dir_all(&path).with_context(|| format!("{} cannot be made", path.display()))
    }

    fn write(&self, to: impl AsRef<Path>, text: impl AsRef<[u8]>, mode: u32) -> Result<()> {
        let path = self.place(to)?;
        fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
        set_mode(&path, mode)
    }

    fn copy(&self, from: &Path, to: impl AsRef<Path>, mode: u32) -> Result<()> {
        let path = self.place(to)?;
        fs::copy(from, &path).with_context(|| format!("{} cannot be copied", from.display()))?;
        set_mode(&path, mode)
    }

    /// What the command makes of its own definition: manual pages and completions.
    fn generated(&self, command: &Path) -> Result<()> {
        let pages = self.place("usr/share/man/man1/mapbuf.1")?;
        let pages = pages.parent().context("a path without a directory")?;
        run(Command::new(command).arg("man").arg(pages))?;
        for entry in fs::read_dir(pages)? {
            let page = entry?.path();
            set_mode(&page, 0o644)?;
            run(Command::new("gzip").arg("-9n").arg(&page))?;
        }
        let completions = [
            ("bash", "usr/share/bash-completion/completions/mapbuf"),
            ("zsh", "usr/share/zsh/vendor-completions/_mapbuf"),
            ("fish", "usr/share/fish/vendor_completions.d/mapbuf.fish"),
        ];
        for (shell, to) in completions {
            let text = run(Command::new(command).args(["completions", shell]))?;
            self.write(to, text, 0o644)?;
        }
        Ok(())
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("the mode of {} cannot be set", path.display()))
}

/// Runs a program; its standard output.
fn run(command: &mut Command) -> Result<Vec<u8>> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("{program} could not be started"))?;
    if !output.status.success() {
        bail!(
            "{program} failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(output.stdout)
}

fn control() -> String {
    format!(
        "Package: mapbuf\n\
         Version: {VERSION}\n\
         Architecture: amd64\n\
         Maintainer: mapbuf developers <root@localhost>\n\
         Section: kernel\n\
         Priority: optional\n\
         Depends: passwd\n\
         Suggests: pkgconf\n\
         Description: Kernel memory of every kind in user space\n \
         The command for the mapbuf driver: named buffers, regions and devices.\n \
         'mapbuf diagnose' finds out why a program fails with any driver's mmap,\n \
         without the mapbuf driver. The driver itself is built for one kernel\n \
         from its sources, and is not in this package.\n"
    )
}

/// What the kernel's build system calls where the Rust metadata is made again, and what it is made from.
fn dkms_control() -> String {
    format!(
        "Package: mapbuf-dkms\n\
         Version: {VERSION}\n\
         Architecture: amd64\n\
         Maintainer: mapbuf developers <root@localhost>\n\
         Section: kernel\n\
         Priority: optional\n\
         Depends: dkms (>= 3), rustc, rust-src, bindgen, make, gcc, bc, bison, flex, perl, python3, dwarves, \
         libelf-dev, libssl-dev, xz-utils, util-linux\n\
         Recommends: mapbuf, linux-source\n\
         Description: Kernel memory of every kind in user space (driver)\n \
         The sources of the mapbuf driver, built by DKMS for kernels from 7.2 on that\n \
         have Rust. Debian's kernel headers lack what a module in Rust is compiled\n \
         against: it is made from the package linux-source of the same version, once\n \
         for each kernel, by the compiler that built the kernel.\n"
    )
}

fn pkg_config() -> String {
    format!(
        "Name: mapbuf\n\
         Description: The ioctl interface of the mapbuf driver (headers only)\n\
         Version: {VERSION}\n\
         Cflags: -I/usr/include\n"
    )
}

const COPYRIGHT: &str = "\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: the mapbuf authors
License: MIT or Apache-2.0

Files: usr/include/*
Copyright: the mapbuf authors
License: GPL-2.0 or MIT
";

/// The group that the udev rules give the nodes to; by hand where there is no systemd. The service is enabled, as those of
/// Debian are, unless the administrator disabled it; without files in `/etc/mapbuf.d` it does nothing. It is not started:
/// that is for whoever writes a file.
const POSTINST: &str = "\
#!/bin/sh
set -e
if [ \"$1\" = configure ]; then
    if command -v deb-systemd-helper >/dev/null; then
        deb-systemd-helper unmask mapbuf.service >/dev/null || true
        if deb-systemd-helper --quiet was-enabled mapbuf.service; then
            deb-systemd-helper enable mapbuf.service >/dev/null || true
        else
            deb-systemd-helper update-state mapbuf.service >/dev/null || true
        fi
    fi
    if [ -d /run/systemd/system ]; then
        systemctl daemon-reload >/dev/null || true
    fi
    if command -v systemd-sysusers >/dev/null; then
        systemd-sysusers mapbuf.conf
    elif ! getent group mapbuf >/dev/null; then
        groupadd --system mapbuf
    fi
    if [ -S /run/udev/control ]; then
        udevadm control --reload
        udevadm trigger --subsystem-match=mapbuf
    fi
fi
";

/// The group stays until the package is purged, as files may belong to it.
const POSTRM: &str = "\
#!/bin/sh
set -e
if [ -S /run/udev/control ]; then
    udevadm control --reload
fi
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload >/dev/null || true
fi
if command -v deb-systemd-helper >/dev/null; then
    case \"$1\" in
        remove) deb-systemd-helper mask mapbuf.service >/dev/null || true ;;
        purge) deb-systemd-helper purge mapbuf.service >/dev/null || true
               deb-systemd-helper unmask mapbuf.service >/dev/null || true ;;
    esac
fi
if [ \"$1\" = purge ] && getent group mapbuf >/dev/null; then
    groupdel mapbuf || true
fi
";

const DKMS_COPYRIGHT: &str = "\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: the mapbuf authors
License: GPL-2.0

Files: usr/src/*/abi/* usr/src/*/policy/*
Copyright: the mapbuf authors
License: GPL-2.0 or MIT
";

/// As Debian's dh-dkms does it: the script of DKMS itself registers, builds and installs. Without the kernel's sources it fails,
/// which leaves the package installed: DKMS tries again with the next kernel, or when asked.
const DKMS_POSTINST: &str = "\
#!/bin/sh
set -e
if [ \"$1\" = configure ]; then
    /usr/lib/dkms/common.postinst mapbuf @VERSION@ /usr/share/mapbuf-dkms '' \"$2\"
fi
";

const DKMS_PRERM: &str = "\
#!/bin/sh
set -e
case \"$1\" in
    remove|upgrade|deconfigure)
        if [ -n \"$(dkms status -m mapbuf -v @VERSION@)\" ]; then
            dkms remove -m mapbuf -v @VERSION@ --all
        fi ;;
esac
";

/// What the build made for itself.
const DKMS_POSTRM: &str = "\
#!/bin/sh
set -e
if [ \"$1\" = remove ] || [ \"$1\" = purge ]; then
    rm -rf /var/cache/mapbuf-dkms
fi
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packaged_is_there() {
        let workspace = crate::workspace().unwrap();
        for (from, _) in files() {
            assert!(workspace.join(from).is_file(), "{from}");
        }
    }

    #[test]
    fn control_is_what_dpkg_reads() {
        for control in [control(), dkms_control()] {
            for line in control.lines() {
                assert!(line.starts_with(' ') || line.contains(": "), "{line}");
            }
            let described = control.lines().filter(|line| line.starts_with(' '));
            assert_eq!(described.count(), 4, "{control}");
        }
    }

    #[test]
    fn dkms_has_all_that_the_driver_is_compiled_from() {
        let workspace = crate::workspace().unwrap();
        let main = fs::read_to_string(workspace.join("driver/src/main.rs")).unwrap();
        let outside = main
            .lines()
            .filter_map(|line| line.strip_prefix("#[path = \"../../")?.strip_suffix("\"]"));
        let outside: Vec<_> = outside.collect();
        assert!(!outside.is_empty());
        for folder in outside {
            assert!(DRIVER_SOURCES.contains(&folder), "{folder}");
        }
    }
}
