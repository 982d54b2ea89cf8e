//! What runs in the guest: its programs, and the archive that it starts from.

use anyhow::{bail, Context, Result};
use mapbuf_init::{EARLY_PATH, PAYLOAD_PATH};
use mapbuf_vm::initramfs::Archive;
use mapbuf_vm::{Kernel, Ui};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Guest programs are static: there is no C library in the initramfs.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Where the C examples lie in the guest.
pub const EXAMPLES: &str = "/examples";

/// Builds packages for the guest; the folder of their programs.
pub fn build(packages: &[&str], ui: &Ui) -> Result<PathBuf> {
    let step = ui.step("Building the guest's programs", 0);
    let mut command = cargo("build")?;
    for package in packages {
        command.args(["--package", package]);
    }
    run(&mut command, &packages.join(" and "))?;
    step.done();
    Ok(target_folder()?.join(TARGET).join("release"))
}

/// Builds the library's tour and the command's own tests; their names in the guest, and where they are.
pub fn build_checks(ui: &Ui) -> Result<[(&'static str, PathBuf); 2]> {
    let step = ui.step("Building the library's and the command's tests", 0);
    let mut command = cargo("build")?;
    command.args(["--package", "mapbuf", "--example", "tour"]);
    run(&mut command, "the library's tour")?;
    let release = target_folder()?.join(TARGET).join("release");
    let mut command = cargo("test")?;
    command.args(["--no-run", "--message-format=json"]);
    command.args(["--package", "mapbuf-cli", "--test", "command"]);
    let said = run(&mut command, "the command's tests")?;
    // Its file's name has a hash in it.
    let tests = said.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_test = message["target"]["kind"][0] == "test";
        let program = message["executable"].as_str()?;
        is_test.then(|| PathBuf::from(program))
    });
    let tests = tests.context("cargo has built no tests of the command")?;
    step.done();
    // `command` is a word of the shell's.
    let tour = release.join("examples/tour");
    Ok([("tour", tour), ("command-tests", tests)])
}

fn target_folder() -> Result<PathBuf> {
    Ok(crate::workspace()?.join("target/guest"))
}

/// Cargo, for static programs.
fn cargo(subcommand: &str) -> Result<Command> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(crate::workspace()?)
        .args([subcommand, "--release", "--target", TARGET, "--target-dir"])
        .arg(target_folder()?)
        .arg("--config")
        .arg(format!(
            "target.{TARGET}.rustflags=[\"-C\",\"target-feature=+crt-static\"]"
        ))
        // Would win over the configuration above.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .stdin(Stdio::null());
    Ok(command)
}

/// Runs it; what it printed.
fn run(command: &mut Command, what: &str) -> Result<String> {
    let output = command.output().context("cargo could not be started")?;
    if !output.status.success() {
        bail!(
            "{what} did not build:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The guest's files.
pub struct Guest {
    /// What QEMU gets.
    pub archive: Archive,
    /// Before the path of everything that the program should see.
    prefix: PathBuf,
}

impl Guest {
    /// The minimal guest: PID 1, a shell, and the few files that programs look for. With a disk as root, what is added
    /// from here on is copied over it.
    pub fn new(kernel: &Kernel, init: &Path, on_disk: bool) -> Result<Self> {
        let mut archive = Archive::new();
        archive.copy(init, Path::new("/init"))?;
        let busybox = kernel.root.path.join("usr/bin/busybox");
        archive.copy(&busybox, Path::new("/bin/busybox"))?;
        for folder in [
            "/dev", "/proc", "/sys", "/tmp", "/run", "/root", "/newroot", "/etc", "/mnt",
            "/var/tmp",
        ] {
            archive.folder(folder)?;
        }
        // What the port to the host needs, where the kernel has not got it built in.
        let mut early: Vec<PathBuf> = Vec::new();
        for name in ["virtio_pci", "virtio_console"] {
            for file in kernel.module_with_dependencies(name)? {
                if !early.contains(&file) {
                    early.push(file);
                }
            }
        }
        for (number, file) in early.iter().enumerate() {
            let name = file.file_name().context("a module without a name")?;
            let name = format!("{number:02}-{}", name.to_string_lossy());
            archive.copy(file, &Path::new(EARLY_PATH).join(name))?;
        }
        if on_disk {
            let prefix = PathBuf::from(PAYLOAD_PATH);
            archive.folder(&prefix)?;
            return Ok(Self { archive, prefix });
        }
        let applets = Command::new(&busybox).arg("--list").output();
        let applets = applets.context("busybox could not be started")?;
        for applet in String::from_utf8_lossy(&applets.stdout).lines() {
            if applet != "busybox" {
                archive.link(Path::new("/bin").join(applet), "busybox")?;
            }
        }
        for folder in ["/sbin", "/usr/bin", "/usr/sbin"] {
            archive.link(folder, "/bin")?;
        }
        for (path, text) in [
            ("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/tmp:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"),
            ("/etc/group", "root:x:0:\nmapbuf:x:900:\nuser:x:1000:\nnogroup:x:65534:\n"),
            ("/etc/hosts", "127.0.0.1 localhost\n"),
        ] {
            archive.file(path, 0o644, text.as_bytes())?;
        }
        Ok(Self {
            archive,
            prefix: PathBuf::from("/"),
        })
    }

    /// Adds a file or folder of the host's.
    pub fn copy(&mut self, host: &Path, path: &Path) -> Result<()> {
        let path = self.prefix.join(path.strip_prefix("/").unwrap_or(path));
        // A link that the caller names is followed; one inside a folder is kept.
        let host = host
            .canonicalize()
            .with_context(|| format!("{} is not there", host.display()))?;
        self.archive.copy(&host, &path)
    }

    /// Adds a program to `/usr/local/bin`.
    pub fn program(&mut self, host: &Path) -> Result<()> {
        let name = host.file_name().context("a program without a name")?;
        self.copy(host, &Path::new("/usr/local/bin").join(name))
    }

    /// Adds a C example, under its file's name.
    pub fn example(&mut self, host: &Path) -> Result<()> {
        let name = host.file_name().context("a program without a name")?;
        self.copy(host, &Path::new(EXAMPLES).join(name))
    }

    /// Adds a kernel module that the initramfs loads; its path there.
    pub fn module(&mut self, host: &Path) -> Result<String> {
        let name = host.file_name().context("a module without a name")?;
        let path = Path::new("/lib/modules").join(name);
        let contents =
            fs::read(host).with_context(|| format!("{} cannot be read", host.display()))?;
        self.archive.file(&path, 0o644, &contents)?;
        if self.prefix != Path::new("/") {
            let copy = self.prefix.join("lib/modules").join(name);
            self.archive.file(copy, 0o644, &contents)?;
        }
        Ok(path.to_string_lossy().into_owned())
    }
}
