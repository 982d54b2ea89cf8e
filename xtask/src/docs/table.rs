//! The rules (`policy/`) as WebAssembly, for the page "The table, alive".

use crate::workspace;
use anyhow::{bail, Context, Result};
use mapbuf_vm::debian::{Toolchain, Userland};
use mapbuf_vm::{Cache, Suite, Ui};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "wasm32-unknown-unknown";

/// The crates, each after those that it needs.
const CRATES: [(&str, &str); 3] = [
    ("mapbuf_abi", "abi/src/lib.rs"),
    ("mapbuf_policy", "policy/src/lib.rs"),
    ("mapbuf_table", "docs/table/src/lib.rs"),
];

/// Puts the rules beside the book's pages, as a script: a page that was opened as a file may load no other file's bytes.
pub fn put_into(book: &Path, ui: &Ui) -> Result<()> {
    let bytes = compile(ui)?;
    let numbers: Vec<_> = bytes.iter().map(u8::to_string).collect();
    let script = format!(
        "// Made by `cargo xtask docs` from policy/, abi/ and docs/table/.\n\
         window.mapbufTableBytes = new Uint8Array([{}]);\n",
        numbers.join(",")
    );
    let path = book.join("table-wasm.js");
    fs::write(&path, script).with_context(|| path.display().to_string())
}

/// Compiles them: by the host's compiler, if it can, else by Debian's.
fn compile(ui: &Ui) -> Result<Vec<u8>> {
    let workspace = workspace()?;
    let out = workspace.join("target/table");
    fs::create_dir_all(&out)?;
    let host = host_can();
    let userland = if host {
        None
    } else {
        let cache = Cache::open(ui)?;
        Some(Userland::newest(&cache, Suite::default(), Toolchain::Wasm).get(&cache, ui)?)
    };
    for (name, file) in CRATES {
        let mut command = match &userland {
            None => Command::new("rustc"),
            Some(root) => root
                .sandbox()
                .read(&workspace, &workspace)
                .write(&out, &out)
                .command("rustc"),
        };
        let kind = if name == "mapbuf_table" {
            "cdylib"
        } else {
            "rlib"
        };
        command
            .args(["--edition", "2021", "--target", TARGET, "-Copt-level=s"])
            // An arithmetic mistake is to be seen, as in the tests.
            .args(["-Cpanic=abort", "-Coverflow-checks=on", "-Cstrip=symbols"])
            .args(["--crate-type", kind, "--crate-name", name])
            .arg("-L")
            .arg(&out)
            .arg("--out-dir")
            .arg(&out)
            .arg(workspace.join(file));
        if userland.is_some() {
            // Debian's compiler asks for a linker by the name that rustup's comes with.
            command.arg("-Clinker=wasm-ld");
        }
        for (other, _) in CRATES.iter().take_while(|(other, _)| *other != name) {
            command.arg("--extern").arg(other);
        }
        let output = command.output().context("rustc could not be started")?;
        if !output.status.success() {
            bail!(
                "{file} did not become WebAssembly:\n{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
    let made: PathBuf = out.join("mapbuf_table.wasm");
    fs::read(&made).with_context(|| made.display().to_string())
}

/// Whether the host's compiler has what is needed.
fn host_can() -> bool {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .output();
    output.is_ok_and(|output| {
        let folder = String::from_utf8_lossy(&output.stdout);
        output.status.success() && Path::new(folder.trim()).exists()
    })
}
