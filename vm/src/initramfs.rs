//! The archive that the guest starts from: cpio in the newc format, for which neither tools nor a root user are needed.

use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

/// An archive in the making.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    folders: BTreeSet<PathBuf>,
    inode: u32,
}

impl Archive {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a folder, and those above it.
    pub fn folder(&mut self, path: impl AsRef<Path>) -> Result<()> {
        self.folder_with_mode(path.as_ref(), 0o755)
    }

    fn folder_with_mode(&mut self, path: &Path, mode: u32) -> Result<()> {
        let path = relative(path);
        if path.as_os_str().is_empty() || self.folders.contains(&path) {
            return Ok(());
        }
        self.parents(&path)?;
        self.entry(&path, 0o040_000 | mode, 2, &[])?;
        self.folders.insert(path);
        Ok(())
    }

    /// Adds a file, and the folders above it.
    pub fn file(&mut self, path: impl AsRef<Path>, mode: u32, contents: &[u8]) -> Result<()> {
        let path = relative(path.as_ref());
        self.parents(&path)?;
        self.entry(&path, 0o100_000 | (mode & 0o7777), 1, contents)
    }

    /// Adds a symbolic link, and the folders above it.
    pub fn link(&mut self, path: impl AsRef<Path>, target: impl AsRef<Path>) -> Result<()> {
        let path = relative(path.as_ref());
        self.parents(&path)?;
        self.entry(&path, 0o120_777, 1, target.as_ref().as_os_str().as_bytes())
    }

    /// Adds what lies at `host` (a file, or a folder with all in it) as `path`.
    pub fn copy(&mut self, host: &Path, path: &Path) -> Result<()> {
        let context = || format!("{} cannot be copied into the guest", host.display());
        let metadata = fs::symlink_metadata(host).with_context(context)?;
        if metadata.is_symlink() {
            self.link(path, fs::read_link(host).with_context(context)?)
        } else if metadata.is_dir() {
            self.folder_with_mode(path, metadata.permissions().mode() & 0o7777)?;
            let mut names: Vec<_> = fs::read_dir(host)
                .with_context(context)?
                .map(|entry| Ok(entry?.file_name()))
                .collect::<Result<_>>()?;
            names.sort();
            for name in names {
                self.copy(&host.join(&name), &path.join(&name))?;
            }
            Ok(())
        } else {
            let contents = fs::read(host).with_context(context)?;
            self.file(path, metadata.permissions().mode(), &contents)
        }
    }

    /// The archive's bytes.
    pub fn finish(mut self) -> Result<Vec<u8>> {
        self.entry(Path::new("TRAILER!!!"), 0, 1, &[])?;
        Ok(self.bytes)
    }

    fn parents(&mut self, path: &Path) -> Result<()> {
        match path.parent() {
            Some(parent) => self.folder_with_mode(parent, 0o755),
            None => Ok(()),
        }
    }

    fn entry(&mut self, path: &Path, mode: u32, links: u32, contents: &[u8]) -> Result<()> {
        self.inode += 1;
        let name = path.as_os_str().as_bytes();
        let size = u32::try_from(contents.len()).with_context(|| {
            format!(
                "{}: a file of 4 GiB or more does not fit in an initramfs",
                path.display()
            )
        })?;
        // inode, mode, uid, gid, links, mtime, size, device (2), special device (2), name's length, checksum.
        let fields = [
            self.inode,
            mode,
            0,
            0,
            links,
            0,
            size,
            0,
            0,
            0,
            0,
            u32::try_from(name.len() + 1)?,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name);
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(contents);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// The path as the archive has it: without the leading slash, `.` and `..`.
fn relative(path: &Path) -> PathBuf {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_once_and_before_what_is_in_them() {
        let mut archive = Archive::new();
        archive.file("/a/b/c", 0o755, b"12345").unwrap();
        archive.link("a/b/d", "c").unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let names: Vec<_> = text
            .split("070701")
            .skip(1)
            .map(|entry| entry[104..].split('\0').next().unwrap())
            .collect();
        assert_eq!(names, ["a", "a/b", "a/b/c", "a/b/d", "TRAILER!!!"]);
    }
}
