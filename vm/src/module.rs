//! An out-of-tree module, built. Nothing is written beside its sources.

use crate::cache::lock_file;
use crate::kernel::Kernel;
use crate::ui::Ui;
use anyhow::{bail, Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// What to build, and how.
#[derive(Clone, Debug)]
pub struct Module {
    /// The folder with its `Kbuild` or `Makefile`.
    pub source: PathBuf,
    /// Where the results go.
    pub out: PathBuf,
    /// Let clippy look at Rust sources as well; a warning is a failure.
    pub clippy: bool,
}

impl Module {
    /// Builds it against the kit's kernel; the `.ko` files.
    pub fn build(&self, kernel: &Kernel, ui: &Ui) -> Result<Vec<PathBuf>> {
        let source = self.source()?;
        fs::create_dir_all(&self.out)
            .with_context(|| format!("{} cannot be made", self.out.display()))?;
        let out = self.out.canonicalize()?;
        let _lock = lock_file(&out.join(".lock"), ui)?;
        let shared = surroundings(&source);
        let sandbox = kernel.sandbox().read(&shared, &shared).write(&out, &out);
        let mut command = sandbox.command("make");
        command
            .arg("-C")
            .arg(kernel.tree_inside())
            .args(kernel.make_variables())
            .arg(format!("M={}", source.display()))
            .arg(format!("MO={}", out.display()))
            .arg(jobs());
        if self.clippy {
            // A warning that is only printed is not seen again: the next run finds the object made.
            command.args(["CLIPPY=1", "KRUSTFLAGS=-Dwarnings"]);
        }
        run_make(command.arg("modules"))?;
        built(&out)
    }

    fn source(&self) -> Result<PathBuf> {
        let context = || format!("{} is no folder with a module", self.source.display());
        let source = self.source.canonicalize().with_context(context)?;
        if !source.join("Kbuild").exists() && !source.join("Makefile").exists() {
            bail!("{}: neither a Kbuild nor a Makefile there", context());
        }
        Ok(source)
    }
}

/// One job for each processor.
fn jobs() -> String {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    format!("-j{count}")
}

/// A module's sources may name files outside their folder (`#[path = "../.."]`): the whole repository is shown.
fn surroundings(source: &Path) -> PathBuf {
    source
        .ancestors()
        .find(|folder| folder.join(".git").exists())
        .unwrap_or(source)
        .to_owned()
}

/// Runs `make`; shows what it printed when it failed or warned.
fn run_make(command: &mut std::process::Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| {
        format!(
            "{} could not be started",
            command.get_program().to_string_lossy()
        )
    })?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let stdout = String::from_utf8_lossy(&output.stdout);
        bail!("the module did not build:\n{stdout}{stderr}");
    }
    eprint!("{stderr}");
    Ok(())
}

/// The modules that `make` has listed in `out`.
fn built(out: &Path) -> Result<Vec<PathBuf>> {
    let order = fs::read_to_string(out.join("modules.order"))?;
    let modules: Vec<_> = order
        .lines()
        .filter_map(|line| line.strip_suffix(".o"))
        .map(|stem| out.join(stem).with_extension("ko"))
        .collect();
    if modules.is_empty() {
        bail!("make built no module: does the Kbuild file have an `obj-m`?");
    }
    Ok(modules)
}
