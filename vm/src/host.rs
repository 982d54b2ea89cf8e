//! The few programs that the host must have; they are installed by its package manager.

use crate::ui::Ui;
use anyhow::{bail, Result};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What is needed, and the package that has it (the same names on Debian and Ubuntu).
struct Need {
    package: &'static str,
    present: fn() -> bool,
}

const NEEDS: [Need; 8] = [
    Need {
        package: "mmdebstrap",
        present: || find("mmdebstrap").is_some(),
    },
    Need {
        package: "bubblewrap",
        present: || find("bwrap").is_some(),
    },
    Need {
        package: "qemu-system-x86",
        present: || find("qemu-system-x86_64").is_some(),
    },
    Need {
        package: "uidmap",
        present: || is_root() || find("newuidmap").is_some(),
    },
    Need {
        package: "debian-archive-keyring",
        present: || Path::new("/usr/share/keyrings/debian-archive-keyring.gpg").exists(),
    },
    Need {
        package: "gcc",
        present: || find("cc").is_some() || find("gcc").is_some(),
    },
    Need {
        package: "libc6-dev",
        present: has_static_libc,
    },
    Need {
        package: "util-linux",
        present: || find("setpriv").is_some(),
    },
];

/// Whether this process is root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Finds a program as the shell would, and where system programs lie that a user's `PATH` leaves out.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|file| {
            rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok() && file.is_file()
        })
}

/// Guest programs are linked statically.
fn has_static_libc() -> bool {
    let Ok(output) = Command::new("cc").arg("-print-file-name=libc.a").output() else {
        return false;
    };
    let name = String::from_utf8_lossy(&output.stdout);
    Path::new(name.trim()).is_absolute() && Path::new(name.trim()).exists()
}

/// Installs what is missing, after saying so.
pub fn ensure(ui: &Ui) -> Result<()> {
    if cfg!(not(all(target_arch = "x86_64", target_os = "linux"))) {
        bail!("the kit needs an x86-64 Linux host: it links guest programs with the host's own compiler");
    }
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    install(ui, &missing)?;
    let missing = self::missing();
    if !missing.is_empty() {
        bail!(
            "these packages were installed, but something that they should provide was not found: {}",
            missing.join(" ")
        );
    }
    Ok(())
}

/// Has `cargo fmt` and `cargo clippy`, which a distribution's `cargo` comes without.
pub fn ensure_lints(ui: &Ui) -> Result<()> {
    let lints = [
        ("fmt", "rustfmt", "rustfmt"),
        ("clippy", "clippy", "rust-clippy"),
    ];
    let missing: Vec<_> = lints
        .into_iter()
        .filter(|(command, ..)| !works(cargo().args([command, "--version"])))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if find("rustup").is_some() {
        let components: Vec<_> = missing.iter().map(|(_, component, _)| *component).collect();
        ui.note(format!("+ rustup component add {}", components.join(" ")));
        if works(
            Command::new("rustup")
                .args(["component", "add"])
                .args(components),
        ) {
            return Ok(());
        }
    }
    let packages: Vec<_> = missing.iter().map(|(.., package)| *package).collect();
    install(ui, &packages)
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn works(command: &mut Command) -> bool {
    let output = command.stdin(Stdio::null()).output();
    output.is_ok_and(|output| output.status.success())
}

/// Installs packages, after saying so.
fn install(ui: &Ui, missing: &[&str]) -> Result<()> {
    let packages = missing.join(" ");
    let by_hand = format!("apt-get install --no-install-recommends {packages}");
    if find("apt-get").is_none() {
        bail!("these Debian packages, or what corresponds to them here, must be installed first: {packages}");
    }
    let prefix: &[&str] = if is_root() {
        &[]
    } else if find("sudo").is_none() {
        bail!("these packages are missing, and there is neither root nor sudo to install them: {packages}\nAs root: {by_hand}");
    } else if std::io::stdin().is_terminal() {
        &["sudo"]
    } else {
        &["sudo", "-n"]
    };
    ui.note(format!(
        "These packages are needed and will be installed now: {packages}"
    ));
    // Lists may be old or not there; a failure to update shows itself when the packages are not found.
    let _ = apt(ui, prefix, &["update", "-q"]);
    let mut arguments = vec!["install", "-q", "-y", "--no-install-recommends"];
    arguments.extend(missing);
    if !apt(ui, prefix, &arguments)? {
        bail!(
            "these packages are missing and could not be installed: {packages}\nAs root: {by_hand}"
        );
    }
    Ok(())
}

fn missing() -> Vec<&'static str> {
    NEEDS
        .iter()
        .filter(|need| !(need.present)())
        .map(|need| need.package)
        .collect()
}

fn apt(ui: &Ui, prefix: &[&str], arguments: &[&str]) -> Result<bool> {
    let words: Vec<&str> = prefix
        .iter()
        .copied()
        .chain(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"])
        .chain(arguments.iter().copied())
        .collect();
    ui.note(format!("+ {}", words.join(" ")));
    let Some((program, rest)) = words.split_first() else {
        return Ok(false);
    };
    // Its output must not mix with that of a program whose standard output somebody reads.
    let stderr = std::io::stderr();
    let status = Command::new(program)
        .args(rest)
        .stdout(Stdio::from(
            std::os::fd::AsFd::as_fd(&stderr).try_clone_to_owned()?,
        ))
        .status()?;
    Ok(status.success())
}
