//! What each process holds of the driver, as `/proc` shows it: descriptors and mappings, by buffer.
//!
//! A mapping shows as "/dmabuf:", whichever way it was made, since the buffer's file is the mapping's. Which buffer it is
//! tells the inode's number: that of a named buffer is learned from an export of it, and whether another one is the
//! driver's, from the descriptors and, for root, from the list of all dma-bufs.

use crate::holders::{exported_by_us, field, is_dma_buf, is_node, without_deleted, EXPORTER};
use mapbuf::{abi::NAMED_DIR, sysfs::Entry, Named};
use procfs::process::{all_processes, FDTarget, MMapPath, Process as Running};
use serde::Serialize;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt, fs,
    os::unix::fs::MetadataExt,
    path::Path,
};

/// `dma_buf_debug_show` of `drivers/dma-buf/dma-buf.c`.
const ALL_DMA_BUFS: &str = "/sys/kernel/debug/dma_buf/bufinfo";
/// What a buffer without a name is called.
const UNNAMED: &str = "a dma-buf";

/// A process that holds something.
#[derive(Clone, Debug, Serialize)]
pub struct Process {
    pub pid: i32,
    pub command: String,
    pub uid: Option<u32>,
    /// Its control group (of version 2).
    pub cgroup: Option<String>,
    /// When it began, in clock ticks after boot.
    pub start_ticks: u64,
    pub mapped_bytes: u64,
    pub holds: Vec<Hold>,
}

/// What it holds of one buffer or node.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Hold {
    /// The name of a buffer, the node of an allocator as `/dev/mapbuf/system`, or "a dma-buf".
    pub what: String,
    pub descriptors: usize,
    pub mapped_bytes: u64,
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if self.descriptors > 1 {
            write!(f, " ({} descriptors)", self.descriptors)?;
        }
        Ok(())
    }
}

/// Which dma-buf each named buffer is, as far as the caller may open its node for reading and writing.
#[derive(Default)]
pub struct Names(HashMap<String, Option<(Node, u64)>>);

/// A node, so that one with the same name that is made later is another.
type Node = (u64, u64);

impl Names {
    /// Learns of new names, and forgets those that are gone.
    pub fn learn(&mut self, entries: &[Entry]) {
        self.0
            .retain(|name, _| entries.iter().any(|entry| entry.name == *name));
        for entry in entries {
            let node = fs::metadata(Named::path(&entry.name)).ok();
            let node = node.map(|node| (node.ino(), node.rdev()));
            let known = self.0.get(&entry.name).copied().flatten();
            if node.is_none() || node != known.map(|(node, _)| node) {
                let found = node.and_then(|node| Some((node, inode_of(&entry.name)?)));
                self.0.insert(entry.name.clone(), found);
            }
        }
    }

    fn by_inode(&self) -> HashMap<u64, &str> {
        let known = self.0.iter();
        known
            .filter_map(|(name, found)| Some((found.as_ref()?.1, name.as_str())))
            .collect()
    }
}

/// The inode of a named buffer's dma-buf.
fn inode_of(name: &str) -> Option<u64> {
    let export = Named::open(name).ok()?.export().ok()?;
    Some(rustix::fs::fstat(&export).ok()?.st_ino)
}

/// One look at all processes.
pub struct Look<'a> {
    names: HashMap<u64, &'a str>,
    /// The dma-bufs that are the driver's.
    ours: HashSet<u64>,
}

impl<'a> Look<'a> {
    pub fn new(names: &'a Names) -> Self {
        let names = names.by_inode();
        let listed = fs::read_to_string(ALL_DMA_BUFS).unwrap_or_default();
        let ours = ours_of(&listed).chain(names.keys().copied()).collect();
        Self { names, ours }
    }

    /// The processes that hold something, those that map most first. A process that ends meanwhile is left out.
    pub fn processes(mut self) -> Vec<Process> {
        let own = std::process::id();
        let running: Vec<_> = all_processes().into_iter().flatten().flatten().collect();
        let running = running
            .iter()
            .filter(|process| u32::try_from(process.pid) != Ok(own));
        // Descriptors first: they tell which mappings of other processes are the driver's.
        let opened: Vec<_> = running
            .map(|process| (process, self.opened(process)))
            .collect();
        let mut found: Vec<_> = opened
            .into_iter()
            .filter_map(|(process, held)| self.process(process, held))
            .collect();
        found.sort_by(|a, b| b.mapped_bytes.cmp(&a.mapped_bytes).then(a.pid.cmp(&b.pid)));
        found
    }

    /// What a process has open.
    fn opened(&mut self, process: &Running) -> BTreeMap<String, Hold> {
        let mut held = BTreeMap::new();
        for descriptor in process.fd().into_iter().flatten().flatten() {
            let FDTarget::Path(path) = &descriptor.target else {
                continue;
            };
            let what = if let Some(node) = node(path) {
                node
            } else if is_dma_buf(path) {
                let info = format!("/proc/{}/fdinfo/{}", process.pid, descriptor.fd);
                let info = fs::read_to_string(info).unwrap_or_default();
                let Some(inode) = inode_of_ours(&info) else {
                    continue;
                };
                self.ours.insert(inode);
                self.name(inode)
            } else {
                continue;
            };
            hold(&mut held, what).descriptors += 1;
        }
        held
    }

    /// The process, with what it maps, if it holds anything.
    fn process(&self, process: &Running, mut held: BTreeMap<String, Hold>) -> Option<Process> {
        let maps = process.maps().into_iter().flat_map(IntoIterator::into_iter);
        for map in maps {
            let MMapPath::Path(path) = &map.pathname else {
                continue;
            };
            let what = match node(path) {
                Some(node) => node,
                None if is_dma_buf(path) && self.ours.contains(&map.inode) => self.name(map.inode),
                None => continue,
            };
            hold(&mut held, what).mapped_bytes += map.address.1 - map.address.0;
        }
        if held.is_empty() {
            return None;
        }
        let stat = process.stat().ok()?;
        let groups = process
            .cgroups()
            .into_iter()
            .flat_map(IntoIterator::into_iter);
        let cgroup = groups
            .filter(|group| group.hierarchy == 0)
            .map(|group| group.pathname)
            .next();
        let holds: Vec<_> = held.into_values().collect();
        Some(Process {
            pid: process.pid,
            command: stat.comm,
            uid: process.uid().ok(),
            cgroup,
            start_ticks: stat.starttime,
            mapped_bytes: holds.iter().map(|hold| hold.mapped_bytes).sum(),
            holds,
        })
    }

    fn name(&self, inode: u64) -> String {
        let name = self.names.get(&inode).copied();
        name.unwrap_or(UNNAMED).to_owned()
    }
}

fn hold(held: &mut BTreeMap<String, Hold>, what: String) -> &mut Hold {
    held.entry(what.clone()).or_insert(Hold {
        what,
        descriptors: 0,
        mapped_bytes: 0,
    })
}

/// A node's buffer, or the node itself.
fn node(path: &Path) -> Option<String> {
    if !is_node(path) {
        return None;
    }
    let path = without_deleted(path);
    let name = Path::new(&path).strip_prefix(NAMED_DIR).ok();
    let name = name.and_then(Path::to_str).map(str::to_owned);
    Some(name.unwrap_or(path))
}

/// The inode that an `fdinfo` shows, if the dma-buf is the driver's.
fn inode_of_ours(fdinfo: &str) -> Option<u64> {
    exported_by_us(fdinfo)
        .then(|| field(fdinfo, "ino")?.parse().ok())
        .flatten()
}

/// The inodes of the driver's dma-bufs in the list of all: `size flags mode count exp_name ino name`.
fn ours_of(list: &str) -> impl Iterator<Item = u64> + '_ {
    list.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().skip(4);
        (fields.next()? == EXPORTER).then(|| fields.next()?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_called_by_what_they_stand_for() {
        let name = |path: &str| node(Path::new(path));
        assert_eq!(
            name("/dev/mapbuf/named/ring (deleted)").as_deref(),
            Some("ring")
        );
        assert_eq!(
            name("/dev/mapbuf/system").as_deref(),
            Some("/dev/mapbuf/system")
        );
        assert_eq!(name("/dev/mapbuffer"), None);
        assert!(is_dma_buf(Path::new("/dmabuf:")) && !is_dma_buf(Path::new("/tmp/dmabuf:")));
    }

    #[test]
    fn dma_bufs_are_known_by_their_exporter() {
        let list = "\nDma-buf Objects:\n\
                    size\tflags\tmode\tcount\texp_name\tino\tname\n\
                    00065536\t00000002\t00000007\t00000001\tmapbuf\t00000012\t<none>\n\
                    00065536\t00000002\t00000007\t00000001\tsystem\t00000013\t<none>\n";
        assert_eq!(ours_of(list).collect::<Vec<_>>(), [12]);
        let info = "pos:\t0\nino:\t77\nsize:\t4096\ncount:\t2\nexp_name:\tmapbuf\n";
        assert_eq!(inode_of_ours(info), Some(77));
        assert_eq!(inode_of_ours(&info.replace("mapbuf", "system")), None);
    }
}
