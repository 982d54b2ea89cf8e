//! Device trees: from source to what a kernel takes, by the kernel's own compiler.

use crate::kernel::Kernel;
use anyhow::{bail, ensure, Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Where the source is inside the sandbox.
const SOURCE: &str = "/mnt";

/// The compiler, in the kernel's tree.
const COMPILER: &str = "scripts/dtc/dtc";

/// Whether the kernel takes device trees: it was built with `CONFIG_OF`, and so was the compiler.
pub fn taken_by(kernel: &Kernel) -> bool {
    kernel.tree().join(COMPILER).exists()
}

/// Compiles `source` into a file of the folder `out`.
///
/// # Errors
///
/// The kernel takes no device trees, or the source is wrong.
pub fn compile(kernel: &Kernel, source: &Path, out: &Path) -> Result<PathBuf> {
    ensure!(
        taken_by(kernel),
        "this kernel takes no device tree: it was built without CONFIG_OF; the one called `kcsan` has it"
    );
    let source = source
        .canonicalize()
        .with_context(|| format!("there is no {}", source.display()))?;
    let folder = source.parent().context("a file lies in a folder")?;
    let name = source.file_name().context("a file has a name")?;
    let output = kernel
        .sandbox()
        .read(folder, Path::new(SOURCE))
        .command(kernel.tree_inside().join(COMPILER))
        .args(["-I", "dts", "-O", "dtb"])
        .arg(Path::new(SOURCE).join(name))
        .output()
        .context("bwrap could not be started")?;
    if !output.status.success() {
        bail!(
            "{} does not compile:\n{}",
            source.display(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    fs::create_dir_all(out).with_context(|| format!("{} cannot be made", out.display()))?;
    let to = out.join(name).with_extension("dtb");
    fs::write(&to, output.stdout).with_context(|| format!("{} cannot be written", to.display()))?;
    Ok(to)
}
