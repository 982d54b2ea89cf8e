//! How a program runs inside a Debian userland that lies in a folder: by bubblewrap, with the userland read-only and
//! only named folders to write to. No root user is needed, and what is written belongs to the caller.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Folders of a userland that a program gets anew, and those that are empty there and may hold the caller's.
const OWN: [&str; 14] = [
    "dev",
    "proc",
    "sys",
    "tmp",
    "run",
    "home",
    "root",
    "mnt",
    "media",
    "opt",
    "srv",
    "usr/local",
    "var/tmp",
    "var/www",
];

/// Folders that are shown one part at a time: among the parts, but not in what is mounted read-only, there can be a
/// place for the caller's.
const PARTS: [&str; 4] = ["usr", "usr/src", "var", "var/lib"];

/// A view of a userland.
#[derive(Clone, Debug)]
pub struct Sandbox {
    root: PathBuf,
    mounts: Vec<OsString>,
    network: bool,
    environment: Vec<(OsString, OsString)>,
}

impl Sandbox {
    /// Nothing but the userland, read-only.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            mounts: Vec::new(),
            network: false,
            environment: Vec::new(),
        }
    }

    /// With `host` as `inside`, to read.
    #[must_use]
    pub fn read(self, host: &Path, inside: &Path) -> Self {
        self.mount("--ro-bind", host, inside)
    }

    /// With `host` as `inside`, to read and write.
    #[must_use]
    pub fn write(self, host: &Path, inside: &Path) -> Self {
        self.mount("--bind", host, inside)
    }

    /// With the host's network, and its proxies.
    #[must_use]
    pub fn network(mut self) -> Self {
        self.network = true;
        for name in ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy"] {
            if let Some(value) = std::env::var_os(name) {
                self.environment.push((name.into(), value));
            }
        }
        for file in ["/etc/resolv.conf", "/etc/hosts"] {
            // A link into /run would dangle inside.
            if let Ok(real) = Path::new(file).canonicalize() {
                self = self.read(&real, Path::new(file));
            }
        }
        self
    }

    fn mount(mut self, how: &str, host: &Path, inside: &Path) -> Self {
        self.mounts
            .extend([OsString::from(how), host.into(), inside.into()]);
        self
    }

    /// Shows what lies in a folder of the userland.
    fn userland(&self, command: &mut Command, folder: &Path) {
        let mut names: Vec<_> = std::fs::read_dir(self.root.join(folder))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        names.sort();
        for name in names {
            let path = folder.join(name);
            if OWN.iter().any(|own| path == Path::new(own)) {
                continue;
            }
            let (host, inside) = (self.root.join(&path), Path::new("/").join(&path));
            if let Ok(target) = std::fs::read_link(&host) {
                command.arg("--symlink").arg(target).arg(inside);
            } else if PARTS.iter().any(|parts| path == Path::new(parts)) {
                self.userland(command, &path);
            } else if host.is_dir() {
                command.arg("--ro-bind").arg(host).arg(inside);
            }
        }
    }

    /// The command that runs `program` there.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("bwrap");
        self.userland(&mut command, Path::new(""));
        command.args([
            "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp", "--dir", "/run",
        ]);
        command.args(&self.mounts);
        command.args([
            "--unshare-pid",
            "--unshare-ipc",
            "--die-with-parent",
            "--chdir",
            "/",
        ]);
        if !self.network {
            command.arg("--unshare-net");
        }
        // Nothing of the caller's environment may change what is built.
        command.arg("--clearenv");
        for (name, value) in [
            ("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"),
            ("HOME", "/tmp"),
            ("LC_ALL", "C.UTF-8"),
        ] {
            command.args(["--setenv", name, value]);
        }
        for (name, value) in &self.environment {
            command.arg("--setenv").arg(name).arg(value);
        }
        command.arg("--").arg(program);
        command
    }
}
