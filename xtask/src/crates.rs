//! `cargo xtask crates`: could the library be published as it is, does the oldest compiler take it, and does it still keep what
//! its last release promised?

use anyhow::{bail, Context, Result};
use mapbuf_vm::debian::{Root, Toolchain, Userland};
use mapbuf_vm::{host, Cache, Suite, Ui};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// Check what is published on crates.io: `mapbuf` and `mapbuf-abi`
///
/// Packages both as `cargo publish` does, without uploading, and builds them from the packages. Builds the library by the oldest
/// compiler that is supported, Debian's. Compares the public interface with that of the last release (the newest tag `v*`)
/// by cargo-semver-checks, if there is a release.
#[derive(clap::Args)]
pub struct Arguments {
    /// Compare the public interface with this commit instead.
    #[arg(long, value_name = "COMMIT")]
    baseline: Option<String>,
}

/// What is published, each behind what it needs.
const PUBLISHED: [&str; 2] = ["mapbuf-abi", "mapbuf"];

/// Runs the command.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    let ui = Ui::default();
    run(&mut publish(false)?)?;
    println!("ok both are packaged, and build from their packages");
    host::ensure(&ui)?;
    let cache = Cache::open(&ui)?;
    let root = Userland::newest(&cache, Suite::default(), Toolchain::Gcc).get(&cache, &ui)?;
    run(&mut oldest(&root)?)?;
    println!("ok the library builds with {}", root.rustc_version()?);
    match arguments.baseline.clone().or(last_release()?) {
        None => println!("no release yet: there is no interface to keep"),
        Some(baseline) => {
            keeps(&baseline)?;
            println!("ok the interface keeps what {baseline} promises, as far as the version's number asks");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Packages them and builds the packages, without looking at the registry where nothing may be fetched.
pub fn publish(offline: bool) -> Result<Command> {
    let mut command = cargo()?;
    match offline {
        true => command.args(["package", "--offline"]),
        false => command.args(["publish", "--dry-run"]),
    };
    command.args(["--allow-dirty", "--target-dir"]);
    command.arg(target()?);
    for package in PUBLISHED {
        command.args(["--package", package]);
    }
    Ok(command)
}

/// Builds the library by the compiler of a Debian userland. Cargo is this one: it is not the compiler.
pub fn oldest(root: &Root) -> Result<Command> {
    let workspace = crate::workspace()?;
    let target = target()?.join("oldest");
    std::fs::create_dir_all(&target)?;
    let cargo = std::env::var_os("CARGO").context("cargo has not said where it is")?;
    let cargo = Path::new(&cargo);
    let home = cargo_home()?;
    let folder = cargo.parent().context("cargo lies nowhere")?;
    let mut sandbox = root.sandbox();
    // A distribution's own cargo would hide the compiler beside it.
    let inside = Path::new("/mnt/cargo");
    sandbox = sandbox
        .read(folder, inside)
        .read(&home, &home)
        .read(&workspace, &workspace)
        .write(&target, &target);
    let mut command = sandbox.command("env");
    command
        .arg(format!("CARGO_HOME={}", home.display()))
        .arg("RUSTC=/usr/bin/rustc")
        .arg(inside.join(cargo.file_name().context("cargo has no name")?))
        .args(["build", "--offline", "--locked", "--package", "mapbuf"])
        .arg("--manifest-path")
        .arg(workspace.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target);
    Ok(command)
}

/// Compares the library's interface, and that of the numbers, with a commit's.
fn keeps(baseline: &str) -> Result<()> {
    if !succeeds(cargo()?.args(["semver-checks", "--version"])) {
        bail!("cargo-semver-checks is needed: cargo install cargo-semver-checks --locked");
    }
    let mut command = cargo()?;
    command.args(["semver-checks", "--baseline-rev", baseline]);
    for package in PUBLISHED {
        command.args(["--package", package]);
    }
    run(&mut command)
}

/// The tag of the last release.
fn last_release() -> Result<Option<String>> {
    let output = Command::new("git")
        .current_dir(crate::workspace()?)
        .args(["tag", "--list", "v*", "--sort=-version:refname"])
        .output()
        .context("git could not be started")?;
    let tags = String::from_utf8_lossy(&output.stdout);
    Ok(tags.lines().next().map(str::to_owned))
}

fn target() -> Result<PathBuf> {
    Ok(crate::workspace()?.join("target/crates"))
}

fn cargo_home() -> Result<PathBuf> {
    if let Some(home) = std::env::var_os("CARGO_HOME") {
        return Ok(home.into());
    }
    let home = std::env::var_os("HOME").context("there is no home folder")?;
    Ok(Path::new(&home).join(".cargo"))
}

fn cargo() -> Result<Command> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(crate::workspace()?)
        .stdin(Stdio::null());
    Ok(command)
}

fn succeeds(command: &mut Command) -> bool {
    let output = command.stderr(Stdio::null()).stdout(Stdio::null()).status();
    output.is_ok_and(|status| status.success())
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status();
    let status = status.with_context(|| format!("{program} could not be started"))?;
    if !status.success() {
        bail!("{program}: {status}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_depends_on_nothing_that_is_not() {
        let output = cargo()
            .unwrap()
            .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
            .output()
            .unwrap();
        let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let packages = metadata["packages"].as_array().unwrap();
        for package in packages {
            let name = package["name"].as_str().unwrap();
            // `publish = false` is an empty list of registries.
            let published = !package["publish"].is_array();
            assert_eq!(PUBLISHED.contains(&name), published, "{name}");
            if !published {
                continue;
            }
            for field in ["description", "license", "readme", "rust_version"] {
                assert!(package[field].is_string(), "{name} has no {field}");
            }
            for dependency in package["dependencies"].as_array().unwrap() {
                let ours = dependency["path"].is_string() && dependency["kind"].is_null();
                let needed = dependency["name"].as_str().unwrap();
                assert!(!ours || PUBLISHED.contains(&needed), "{name}: {needed}");
                assert!(!ours || dependency["req"] != "*", "{name}: {needed}");
            }
        }
    }
}
