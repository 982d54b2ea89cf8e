//! The kernel's own selftests, built from its sources by the userland's compiler.

use crate::kernel::Kernel;
use anyhow::{bail, Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Where the results are written inside the sandbox.
const OUT: &str = "/mnt";

/// Builds one program of `tools/testing/selftests` from its sources (paths in that folder), static, into `out`.
///
/// The flags are those of the folders' makefiles; the kernel's user headers are those of the userland, and for what is
/// newer the copies under `tools/include/uapi`.
pub fn build(kernel: &Kernel, name: &str, sources: &[&str], out: &Path) -> Result<PathBuf> {
    fs::create_dir_all(out).with_context(|| format!("{} cannot be made", out.display()))?;
    let out = out.canonicalize()?;
    let tree = kernel.tree_inside();
    let folder = tree.join("tools/testing/selftests");
    let mut command = kernel.sandbox().write(&out, Path::new(OUT)).command("gcc");
    command
        .args(["-O2", "-Wall", "-U_FORTIFY_SOURCE", "-static"])
        .arg("-I")
        .arg(&folder)
        .arg("-isystem")
        .arg(tree.join("tools/include/uapi"))
        // The copies there leave its types out, which programs for graphics cards need.
        .args(["-include", "linux/posix_types.h"])
        .arg("-o")
        .arg(Path::new(OUT).join(name))
        .args(sources.iter().map(|source| folder.join(source)));
    let output = command.output().context("bwrap could not be started")?;
    if !output.status.success() {
        bail!(
            "the selftest {name} does not compile:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(out.join(name))
}
