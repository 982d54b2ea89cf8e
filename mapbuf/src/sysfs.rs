//! Named buffers, as listed in `/sys/class/mapbuf`, which every user can read.

use crate::{
    error::{Error, Result},
    named::Named,
};
use mapbuf_abi::{Cache, Kind, SYSFS_CLASS};
use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    str::FromStr,
};

/// What stands before a name in `/sys/class/mapbuf`: there `/` is written as `!` (`drivers/base/core.c`).
const PREFIX: &str = "named!";

/// A named buffer as sysfs and its node show it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its kind of memory.
    pub kind: Kind,
    /// Its cache mode.
    pub cache: Cache,
    /// Virtual memory areas that map it now, in any process; only root can see it.
    pub mappings: Option<u64>,
    /// Its DMA address, if it has one and the caller can see it.
    pub dma_address: Option<u64>,
    /// The bound device that it is for, as `0000:00:04.0`. The name goes when the device does.
    pub for_device: Option<String>,
    /// The node, if it exists.
    pub node: Option<Node>,
}

/// The node of a named buffer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Node {
    /// Its permission bits.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// All named buffers, by name.
///
/// # Errors
///
/// [`Error::Sysfs`]: the driver is not loaded.
pub fn list() -> Result<Vec<Entry>> {
    let class = Path::new(SYSFS_CLASS);
    let mut entries = Vec::new();
    for item in fs::read_dir(class).map_err(|source| unreadable(class, source))? {
        let item = item.map_err(|source| unreadable(class, source))?;
        let file_name = item.file_name();
        let Some(name) = file_name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX))
        else {
            continue;
        };
        match entry(name) {
            Ok(entry) => entries.push(entry),
            // The name was taken away while we were reading.
            Err(_) if !item.path().exists() => {}
            Err(error) => return Err(error),
        }
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// The buffer with this name.
///
/// # Errors
///
/// [`Error::Sysfs`]: no buffer has this name, or the driver is not loaded.
pub fn entry(name: &str) -> Result<Entry> {
    let folder = Path::new(SYSFS_CLASS).join(format!("{PREFIX}{name}"));
    Ok(Entry {
        name: name.to_owned(),
        bytes: attribute(&folder, "size", |text| text.parse().ok())?,
        kind: attribute(&folder, "kind", Kind::from_name)?,
        cache: attribute(&folder, "cache", Cache::from_name)?,
        mappings: unless_denied(attribute(&folder, "mappings", |text| text.parse().ok()))?,
        // Not everyone may read it, and not every buffer has one.
        dma_address: attribute(&folder, "dma_address", hexadecimal).ok(),
        // Most are for none.
        for_device: attribute(&folder, "for_device", |text| Some(text.to_owned())).ok(),
        node: node(&Named::path(name)),
    })
}

/// The major and minor number that a node of the driver has according to sysfs, by its name under `/dev/mapbuf`.
///
/// # Errors
///
/// [`Error::Sysfs`]: there is no such node, or the driver is not loaded.
pub fn device_number(node: &str) -> Result<(u32, u32)> {
    let folder = Path::new(SYSFS_CLASS).join(node.replace('/', "!"));
    attribute(&folder, "dev", |text| {
        let (major, minor) = text.split_once(':')?;
        Some((u32::from_str(major).ok()?, u32::from_str(minor).ok()?))
    })
}

fn node(path: &Path) -> Option<Node> {
    let metadata = fs::metadata(path).ok()?;
    Some(Node {
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
    })
}

fn attribute<T>(folder: &Path, name: &str, read: impl FnOnce(&str) -> Option<T>) -> Result<T> {
    let path: PathBuf = folder.join(name);
    let text = fs::read_to_string(&path).map_err(|source| unreadable(&path, source))?;
    read(text.trim()).ok_or_else(|| {
        unreadable(
            &path,
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("it says {:?}", text.trim()),
            ),
        )
    })
}

/// The contents of an attribute, or `None` if the caller cannot read it.
fn unless_denied<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Err(Error::Sysfs { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
            Ok(None)
        }
        other => other.map(Some),
    }
}

fn hexadecimal(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
}

fn unreadable(path: &Path, source: io::Error) -> Error {
    Error::Sysfs {
        path: path.to_owned(),
        source,
    }
}
