//! A Debian userland on a disk, to be the guest's root. No root user is needed: the file system is made from the
//! archive, with the owners that it has there.

use crate::cache::Cache;
use crate::debian;
use crate::kernel::Kernel;
use crate::suite::Suite;
use crate::ui::Ui;
use anyhow::{bail, Context, Result};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// Changes when what is done to make an image changes.
const RECIPE: u32 = 1;
/// What the guest may write beside what is there; the file is sparse.
const ROOM: u64 = 4 << 30;
/// What every image has beside what Debian calls essential.
const ALWAYS: [&str; 2] = ["kmod", "procps"];

/// The disk as the guest sees it.
pub const DEVICE: &str = "/dev/vda";
/// Its file system.
pub const FSTYPE: &str = "ext4";
/// The modules that it takes, where they are not built into the kernel.
pub const MODULES: [&str; 2] = ["virtio_blk", FSTYPE];

/// The image with these packages, and the kernel's modules.
pub fn image(cache: &Cache, ui: &Ui, kernel: &Kernel, packages: &[String]) -> Result<PathBuf> {
    for package in packages {
        let fits = |c: char| c.is_ascii_alphanumeric() || "+-.:=~_/".contains(c);
        if package.is_empty() || !package.chars().all(fits) {
            bail!("`{package}` is not the name of a Debian package");
        }
    }
    let mut packages: Vec<&str> = packages.iter().map(String::as_str).chain(ALWAYS).collect();
    packages.sort_unstable();
    packages.dedup();
    let suite = Suite::default();
    let mut hasher = DefaultHasher::new();
    (RECIPE, &packages, &kernel.folder).hash(&mut hasher);
    let name = format!("{suite}-{:016x}", hasher.finish());
    let folder = cache.entry("disks", &name, |part| {
        let log = cache.log(&name);
        let step = ui.step("Making a Debian userland for the guest", 600);
        let tar = part.join("root.tar");
        // The kernel's modules, as its package would have put them there.
        let hooks = [
            "mkdir -p \"$1\"/usr/lib/modules".to_owned(),
            format!("copy-in '{}' /usr/lib/modules", kernel.modules().display()),
            format!(
                "rm \"$1\"/usr/lib/modules/{}/vmlinuz",
                kernel.identity.release
            ),
        ];
        debian::mmdebstrap(&step, &log, &tar, suite, &packages, &hooks)?;
        let size = fs::metadata(&tar)?.len().saturating_mul(5) / 4 + ROOM;
        let image = part.join("root.ext4");
        fs::File::create(&image)?.set_len(size)?;
        let inside = Path::new("/mnt");
        let mut command = kernel.root.sandbox().write(part, inside).command("mke2fs");
        command
            .args(["-q", "-F", "-t", FSTYPE, "-L", "root", "-m", "0"])
            .args([
                "-E",
                "root_owner=0:0,lazy_itable_init=1,lazy_journal_init=1",
            ])
            .args(["-d", "/mnt/root.tar", "/mnt/root.ext4"]);
        step.run(&mut command, &log)
            .context("the file system could not be made")?;
        fs::remove_file(tar)?;
        fs::write(part.join("packages"), packages.join("\n") + "\n")?;
        step.done();
        Ok(())
    })?;
    Ok(folder.join("root.ext4"))
}
