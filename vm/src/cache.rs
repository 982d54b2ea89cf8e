//! Where everything that was fetched or built is kept.
//!
//! An entry is a folder that is made under another name and renamed when it is whole, so whatever has the entry's
//! name is whole: an interrupt, a full disk or a lost connection leave a folder that nobody takes for it, and that the
//! next run removes. A lock file for each entry lets one run make it while the others wait; the kernel drops the lock
//! with its holder.

use crate::ui::Ui;
use anyhow::{anyhow, bail, Context, Result};
use rustix::fs::{flock, FlockOperation};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Below this a failure is blamed on the disk.
const NEARLY_FULL: u64 = 256 << 20;

/// The kit's folder.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
    ui: Ui,
}

impl Cache {
    /// `$XDG_CACHE_HOME/mapbuf` or `~/.cache/mapbuf`.
    pub fn open(ui: &Ui) -> Result<Self> {
        let base = std::env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            // The specification has relative paths ignored.
            .filter(|path| path.is_absolute())
            .or_else(|| {
                std::env::var_os("HOME")
                    .filter(|home| !home.is_empty())
                    .map(|home| Path::new(&home).join(".cache"))
            })
            .context("there is no home folder to keep the cache in; set XDG_CACHE_HOME")?;
        Self::at(base.join("mapbuf"), ui)
    }

    /// In a certain folder.
    pub fn at(root: PathBuf, ui: &Ui) -> Result<Self> {
        for folder in ["locks", "logs"] {
            fs::create_dir_all(root.join(folder))
                .with_context(|| format!("the cache folder {} cannot be made", root.display()))?;
        }
        Ok(Self {
            root,
            ui: ui.clone(),
        })
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the programs' output goes while an entry of this name is made.
    pub fn log(&self, name: &str) -> PathBuf {
        self.root.join("logs").join(format!("{name}.log"))
    }

    /// Removes an entry, whole or not; the lock keeps off whoever would be making it.
    pub fn remove(&self, kind: &str, name: &str) -> Result<()> {
        let _lock = self.lock(&format!("{kind}-{name}"))?;
        let whole = self.root.join(kind).join(name);
        // Renamed first: what is half removed must not have the name of what is whole.
        let part = self.root.join(kind).join(format!(".{name}.part-removed"));
        if whole.exists() {
            fs::rename(&whole, &part)?;
        }
        remove_tree(&part)
    }

    /// The names of the whole entries of a kind.
    pub fn entries(&self, kind: &str) -> Vec<String> {
        fs::read_dir(self.root.join(kind))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| !name.starts_with('.'))
            .collect()
    }

    /// An entry's folder; made by `make`, in a folder that it is handed, when there is none.
    pub fn entry(
        &self,
        kind: &str,
        name: &str,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let folder = self.root.join(kind);
        let whole = folder.join(name);
        if whole.exists() {
            return Ok(whole);
        }
        let _lock = self.lock(&format!("{kind}-{name}"))?;
        if whole.exists() {
            return Ok(whole);
        }
        fs::create_dir_all(&folder)?;
        let prefix = format!(".{name}.part-");
        for stale in fs::read_dir(&folder)?.flatten() {
            if stale.file_name().to_string_lossy().starts_with(&prefix) {
                remove_tree(&stale.path())?;
            }
        }
        let part = folder.join(format!("{prefix}{}", std::process::id()));
        fs::create_dir(&part)?;
        let _ = fs::remove_file(self.log(name));
        if let Err(error) = make(&part) {
            let free = free_space(&folder);
            // Who could not write may have removed its part of a file by now.
            let full =
                free < NEARLY_FULL || format!("{error:#}").contains("No space left on device");
            let error = if full {
                anyhow!(
                    "the disk that holds {} is full ({} MiB left; the kit takes about 6 GiB in all; \
                     XDG_CACHE_HOME can name another place)\n{error:#}",
                    self.root.display(),
                    free >> 20
                )
            } else {
                error.context(format!(
                    "making {name} failed; the full output is in {}",
                    self.log(name).display()
                ))
            };
            if let Err(left) = remove_tree(&part) {
                self.ui
                    .note(format!("{} is left behind: {left:#}", part.display()));
            }
            return Err(error);
        }
        fs::rename(&part, &whole)
            .with_context(|| format!("{} cannot be renamed", part.display()))?;
        Ok(whole)
    }

    /// Fails when less than so many MiB can be written, before minutes are spent on it.
    pub fn require(&self, mebibytes: u64) -> Result<()> {
        let free = free_space(&self.root) >> 20;
        if free < mebibytes {
            bail!(
                "{mebibytes} MiB are needed for this, and {free} MiB are free; XDG_CACHE_HOME can name another place than {}",
                self.root.display()
            );
        }
        Ok(())
    }

    /// Takes a lock by name, waiting for the run that has it.
    pub fn lock(&self, name: &str) -> Result<Lock> {
        let name = name.replace('/', "-");
        lock_file(&self.root.join("locks").join(name), &self.ui)
    }
}

/// A lock that is given back when dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Takes the lock that `path` stands for, saying so when that means to wait.
pub fn lock_file(path: &Path, ui: &Ui) -> Result<Lock> {
    let file = File::options()
        .create(true)
        .write(true)
        .truncate(false)
        .open(path)
        .with_context(|| format!("the lock file {} cannot be made", path.display()))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        ui.note(format!(
            "Another run is making the same thing; waiting for it ({}).",
            path.display()
        ));
        loop {
            match flock(&file, FlockOperation::LockExclusive) {
                Ok(()) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("waiting for the lock"),
            }
        }
    }
    Ok(Lock { _file: file })
}

/// Removes a folder and all in it, folders without write permission included.
pub fn remove_tree(path: &Path) -> Result<()> {
    if fs::remove_dir_all(path).is_ok() {
        return Ok(());
    }
    make_writable(path);
    fs::remove_dir_all(path).with_context(|| format!("{} cannot be removed", path.display()))
}

fn make_writable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return;
    };
    if !metadata.is_dir() {
        return;
    }
    let mode = metadata.permissions().mode() | 0o700;
    let _ = fs::set_permissions(path, fs::Permissions::from_mode(mode));
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        make_writable(&entry.path());
    }
}

/// Makes `to` a folder with all that is in `from`. Files are the same ones under a second name, and must not be written
/// to; where the file system has no such thing, they are copies.
pub fn link_tree(from: &Path, to: &Path) -> Result<()> {
    let context = || format!("{} cannot be made of {}", to.display(), from.display());
    fs::create_dir(to).with_context(context)?;
    for entry in fs::read_dir(from).with_context(context)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            link_tree(&source, &target)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&source)?, &target)?;
        } else if fs::hard_link(&source, &target).is_err() {
            fs::copy(&source, &target).with_context(context)?;
        }
    }
    Ok(())
}

/// Bytes that this user may still write to the file system of `path`.
pub fn free_space(path: &Path) -> u64 {
    rustix::fs::statvfs(path)
        .map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize))
        .unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn cache() -> (tempfile::TempDir, Cache) {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().join("mapbuf"), &Ui::default()).unwrap();
        (folder, cache)
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_failed_leaves_nothing() {
        let (_folder, cache) = cache();
        let failed = cache.entry("things", "a", |part| {
            fs::write(part.join("half"), "x")?;
            bail!("lost connection")
        });
        assert!(format!("{:#}", failed.unwrap_err()).contains("lost connection"));
        assert!(names(&cache.root().join("things")).is_empty());
        assert!(cache.entries("things").is_empty());
    }

    #[test]
    fn what_was_interrupted_is_made_anew() {
        let (_folder, cache) = cache();
        // What a killed run leaves.
        let stale = cache.root().join("things/.a.part-1/sub");
        fs::create_dir_all(&stale).unwrap();
        fs::write(stale.join("half"), "x").unwrap();
        fs::set_permissions(&stale, std::os::unix::fs::PermissionsExt::from_mode(0o500)).unwrap();
        let path = cache
            .entry("things", "a", |part| {
                Ok(fs::write(part.join("whole"), "y")?)
            })
            .unwrap();
        assert_eq!(names(&path), ["whole"]);
        assert_eq!(names(&cache.root().join("things")), ["a"]);
        assert_eq!(cache.entries("things"), ["a"]);
    }

    #[test]
    fn two_at_once_make_it_once() {
        let (_folder, cache) = cache();
        let made = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    cache
                        .entry("things", "a", |part| {
                            made.fetch_add(1, Ordering::SeqCst);
                            std::thread::sleep(std::time::Duration::from_millis(50));
                            Ok(fs::write(part.join("whole"), "y")?)
                        })
                        .unwrap();
                });
            }
        });
        assert_eq!(made.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_linked_tree_is_whole_and_can_go_by_itself() {
        let (folder, _) = cache();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir_all(from.join("sub")).unwrap();
        fs::write(from.join("sub/file"), "x").unwrap();
        std::os::unix::fs::symlink("sub/file", from.join("link")).unwrap();
        link_tree(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("link")).unwrap(), "x");
        assert!(link_tree(&from, &to).is_err(), "into what is there");
        remove_tree(&to).unwrap();
        assert_eq!(fs::read_to_string(from.join("link")).unwrap(), "x");
    }

    #[test]
    fn removed_entries_are_gone() {
        let (_folder, cache) = cache();
        cache.entry("things", "a", |_| Ok(())).unwrap();
        cache.remove("things", "a").unwrap();
        assert!(names(&cache.root().join("things")).is_empty());
    }
}
