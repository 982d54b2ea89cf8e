//! Which processes hold the module: by an open node, by a dma-buf of it, or by a mapping.

use procfs::process::{all_processes, FDTarget, MMapPath, Process};
use serde::Serialize;
use std::{fmt, fs, path::Path};

/// What the driver calls itself in a dma-buf's `fdinfo`.
pub const EXPORTER: &str = "mapbuf";

/// A process, and what it holds.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Holder {
    /// Its number.
    pub pid: i32,
    /// Its name.
    pub command: String,
    /// Nodes, dma-bufs and mappings.
    pub holds: Vec<String>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} (process {}): {}",
            self.command,
            self.pid,
            self.holds.join(", ")
        )
    }
}

/// Which mappings count.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mapped {
    /// Those that are certainly the driver's.
    Certainly,
    /// Those of every dma-buf too: whose a mapped one is, `/proc` does not show. Graphics have many.
    Possibly,
}

/// All processes that hold something, as far as `/proc` shows them to us. A process that ends meanwhile is left out.
pub fn all(mapped: Mapped) -> Vec<Holder> {
    let Ok(processes) = all_processes() else {
        return Vec::new();
    };
    processes
        .flatten()
        .filter_map(|process| {
            let mut holds = descriptors(&process);
            holds.extend(mappings(&process, mapped));
            holds.dedup();
            (!holds.is_empty()).then(|| Holder {
                pid: process.pid,
                command: process
                    .stat()
                    .map_or_else(|_| "?".to_owned(), |stat| stat.comm),
                holds,
            })
        })
        .collect()
}

fn descriptors(process: &Process) -> Vec<String> {
    let Ok(descriptors) = process.fd() else {
        return Vec::new();
    };
    descriptors
        .flatten()
        .filter_map(|descriptor| {
            let FDTarget::Path(path) = &descriptor.target else {
                return None;
            };
            let number = descriptor.fd;
            if is_node(path) {
                return Some(format!(
                    "{} open as descriptor {number}",
                    without_deleted(path)
                ));
            }
            let info = format!("/proc/{}/fdinfo/{number}", process.pid);
            let ours = is_dma_buf(path)
                && fs::read_to_string(info).is_ok_and(|info| exported_by_us(&info));
            ours.then(|| format!("a dma-buf as descriptor {number}"))
        })
        .collect()
}

fn mappings(process: &Process, mapped: Mapped) -> Vec<String> {
    let Ok(maps) = process.maps() else {
        return Vec::new();
    };
    maps.iter()
        .filter_map(|map| {
            let MMapPath::Path(path) = &map.pathname else {
                return None;
            };
            let (start, end) = map.address;
            let counts = is_node(path) || (mapped == Mapped::Possibly && is_dma_buf(path));
            counts.then(|| format!("{} mapped at {start:#x}-{end:#x}", without_deleted(path)))
        })
        .collect()
}

/// Whether it is a node of the driver's.
pub fn is_node(path: &Path) -> bool {
    path.starts_with(mapbuf::abi::DEV_DIR)
}

/// `dmabuffs_dname`, `drivers/dma-buf/dma-buf.c`: "/dmabuf:" and the name that the dma-buf was given.
pub fn is_dma_buf(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().starts_with(b"/dmabuf:")
}

/// Whether the dma-buf with this `fdinfo` is the driver's.
pub fn exported_by_us(fdinfo: &str) -> bool {
    field(fdinfo, "exp_name") == Some(EXPORTER)
}

/// A field of a dma-buf's `fdinfo` (`dma_buf_show_fdinfo`, `drivers/dma-buf/dma-buf.c`, and those of every file).
pub fn field<'a>(fdinfo: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = fdinfo.lines();
    lines.find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

/// The node of a name that was taken away reads "(deleted)" behind it.
pub fn without_deleted(path: &Path) -> String {
    path.to_string_lossy()
        .trim_end_matches(" (deleted)")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_is_known() {
        assert!(is_node(Path::new("/dev/mapbuf/named/ring (deleted)")));
        assert!(!is_node(Path::new("/dev/mapbuffer")));
        assert!(is_dma_buf(Path::new("/dmabuf:")));
        assert!(!is_dma_buf(Path::new("/tmp/dmabuf:")));
        assert!(exported_by_us(
            "pos:\t0\nsize:\t4096\ncount:\t2\nexp_name:\tmapbuf\n"
        ));
        assert!(!exported_by_us("exp_name:\tsystem\n"));
        assert_eq!(
            without_deleted(Path::new("/dev/mapbuf/named/a (deleted)")),
            "/dev/mapbuf/named/a"
        );
    }

    #[test]
    fn a_holder_is_one_line() {
        let holder = Holder {
            pid: 7,
            command: "reader".into(),
            holds: vec![
                "/dev/mapbuf/system open as descriptor 3".into(),
                "/dmabuf: mapped at 0x1000-0x2000".into(),
            ],
        };
        assert_eq!(
            holder.to_string(),
            "reader (process 7): /dev/mapbuf/system open as descriptor 3, /dmabuf: mapped at 0x1000-0x2000"
        );
    }
}
