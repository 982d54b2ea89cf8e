//! An out-of-tree module, built. Nothing is written beside its sources.

use crate::cache::{lock_file, Lock};
use crate::debian::Root;
use crate::kernel::Kernel;
use crate::tree::{Compilers, Tree};
use crate::ui::Ui;
use anyhow::{bail, Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Held while `make` writes to a folder.
const LOCK: &str = ".lock";
/// Says what the results in a folder were made from; a folder without it is not ours to empty.
const STAMP: &str = ".made-for";

/// What to build, and how.
#[derive(Clone, Debug)]
pub struct Module {
    /// The folder with its `Kbuild` or `Makefile`.
    pub source: PathBuf,
    /// Where the results go.
    pub out: PathBuf,
    /// Let clippy look at Rust sources as well; a warning is a failure.
    pub clippy: bool,
    /// Wait at the seams of the driver, to look for races (`driver/src/seam.rs`).
    pub seams: bool,
}

impl Module {
    /// Builds it against the kit's kernel; the `.ko` files.
    pub fn build(&self, kernel: &Kernel, ui: &Ui) -> Result<Vec<PathBuf>> {
        let made_for = format!("{} {}", kernel.identity.release, kernel.root.path.display());
        let (source, out, _lock) = self.folders(&made_for, ui)?;
        let shared = surroundings(&source);
        let sandbox = kernel.sandbox().read(&shared, &shared).write(&out, &out);
        let mut command = sandbox.command("make");
        command
            .arg("-C")
            .arg(kernel.tree_inside())
            .args(kernel.make_variables());
        self.make(&mut command, &source, &out)
    }

    /// Builds it against a tree that somebody named; what is missing for that is the error.
    pub fn build_against(&self, tree: &Tree, kit: Option<&Root>, ui: &Ui) -> Result<Vec<PathBuf>> {
        let (compilers, missing) = tree.examine(has_rust(&self.source()?), kit);
        let (later, now): (Vec<_>, Vec<_>) =
            missing.iter().partition(|missing| missing.only_loading);
        for missing in later {
            ui.note(format!("Before the module can be loaded:\n{missing}"));
        }
        if !now.is_empty() {
            let list: Vec<_> = now.iter().map(ToString::to_string).collect();
            bail!(
                "modules cannot be built against {}; missing:\n{}",
                tree.path.display(),
                list.join("\n")
            );
        }
        let made_for = format!("{} {compilers:?}", tree.path.display());
        let (source, out, _lock) = self.folders(&made_for, ui)?;
        let mut command = match compilers {
            Compilers::Host => Command::new("make"),
            Compilers::Kit(root) => {
                let shared = surroundings(&source);
                let sandbox = tree.sandbox(&root).read(&shared, &shared).write(&out, &out);
                sandbox.command("make")
            }
        };
        command
            .arg("-C")
            .arg(&tree.path)
            .args(tree.make_variables());
        self.make(&mut command, &source, &out)
    }

    /// What of it differs from a plain build, as a line.
    fn variant(&self) -> &'static str {
        if self.seams {
            "with seams\n"
        } else {
            ""
        }
    }

    /// Where the sources are and the results go, and the lock on the latter. Results that were made from other sources
    /// or for another kernel are removed: `make` would take them for its own.
    fn folders(&self, made_for: &str, ui: &Ui) -> Result<(PathBuf, PathBuf, Lock)> {
        let source = self.source()?;
        fs::create_dir_all(&self.out)
            .with_context(|| format!("{} cannot be made", self.out.display()))?;
        let out = self.out.canonicalize()?;
        let lock = lock_file(&out.join(LOCK), ui)?;
        let made_for = format!("{made_for}\n{}\n{}", source.display(), self.variant());
        let stamp = out.join(STAMP);
        let before = fs::read_to_string(&stamp).unwrap_or_default();
        if before != made_for {
            if !before.is_empty() {
                for entry in fs::read_dir(&out)?.flatten() {
                    if entry.file_name() == LOCK {
                        continue;
                    }
                    if entry.file_type()?.is_dir() {
                        fs::remove_dir_all(entry.path())?;
                    } else {
                        fs::remove_file(entry.path())?;
                    }
                }
            }
            fs::write(&stamp, made_for)?;
        }
        Ok((source, out, lock))
    }

    fn make(&self, command: &mut Command, source: &Path, out: &Path) -> Result<Vec<PathBuf>> {
        command
            .arg(format!("M={}", source.display()))
            .arg(format!("MO={}", out.display()))
            .arg(jobs());
        if self.clippy {
            // A warning that is only printed is not seen again: the next run finds the object made.
            command.args(["CLIPPY=1", "KRUSTFLAGS=-Dwarnings"]);
        }
        if self.seams {
            command.arg("MAPBUF_SEAMS=y");
        }
        run_make(command.arg("modules"))?;
        built(out)
    }

    fn source(&self) -> Result<PathBuf> {
        let context = || format!("{} is not a folder with a module", self.source.display());
        let source = self.source.canonicalize().with_context(context)?;
        if !source.join("Kbuild").exists() && !source.join("Makefile").exists() {
            bail!(
                "{}: there is neither a Kbuild file nor a Makefile",
                context()
            );
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

/// Whether a folder has Rust sources.
fn has_rust(folder: &Path) -> bool {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| {
            let path = entry.path();
            path.extension().is_some_and(|extension| extension == "rs")
                || (path.is_dir() && !path.is_symlink() && has_rust(&path))
        })
}

/// Runs `make`; shows what it printed when it failed or warned.
fn run_make(command: &mut Command) -> Result<()> {
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
        bail!("make did not build a module: does the Kbuild file have an `obj-m`?");
    }
    Ok(modules)
}
