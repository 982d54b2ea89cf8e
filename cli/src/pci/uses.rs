//! What of the system lives on a device: mounted file systems, swap, the console, the screen, a network that is up.

use super::Function;
use serde::Serialize;
use std::{
    collections::BTreeSet,
    fmt, fs,
    path::{Path, PathBuf},
};

/// One use that the system makes of a device.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase", tag = "use")]
pub enum Use {
    /// A file system on its disk is mounted.
    Mounted {
        /// The block device.
        disk: String,
        /// Where.
        at: String,
    },
    /// Its disk is swapped to.
    Swap {
        /// The block device.
        disk: String,
    },
    /// Its disk is a part of another block device (LVM, RAID, encryption) that nobody has mounted.
    Part {
        /// The block device.
        disk: String,
        /// What it is a part of.
        of: String,
    },
    /// The kernel prints to it.
    Console {
        /// The terminal.
        terminal: String,
    },
    /// It shows the screen.
    Screen {
        /// The frame buffer, or `boot` where the firmware has set it up.
        screen: String,
    },
    /// A network interface of it is up.
    Network {
        /// The interface.
        interface: String,
    },
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mounted { disk, at } => {
                write!(f, "its disk {disk} has a file system mounted at {at}")
            }
            Self::Swap { disk } => write!(f, "the system swaps to its disk {disk}"),
            Self::Part { disk, of } => write!(f, "its disk {disk} is part of {of}"),
            Self::Console { terminal } => write!(f, "the kernel's console is {terminal} on it"),
            Self::Screen { screen } => write!(f, "it shows the screen ({screen})"),
            Self::Network { interface } => {
                write!(f, "its network interface {interface} is up")
            }
        }
    }
}

impl Use {
    /// How it can be ended.
    pub fn remedy(&self) -> String {
        match self {
            Self::Mounted { at, .. } => format!("umount {at}"),
            Self::Swap { disk } => format!("swapoff /dev/{disk}"),
            Self::Part { of, .. } => format!("take {of} down (lsblk shows what it is)"),
            Self::Console { .. } => "boot with another console=".into(),
            Self::Screen { .. } => "use a machine with a second screen, or none".into(),
            Self::Network { interface } => format!("ip link set {interface} down"),
        }
    }
}

impl Function {
    /// What the system uses it for.
    pub fn uses(&self) -> Vec<Use> {
        let mut found = BTreeSet::new();
        let class = |name: &str| self.members(name);
        let mounts = self.proc("self/mountinfo");
        let swaps = self.proc("swaps");
        for disk in class("block") {
            self.disk(&disk, &mounts, &swaps, &mut found);
        }
        let consoles = self.proc("consoles");
        for terminal in class("tty") {
            let is = |line: &str| line.split_whitespace().next() == Some(&terminal);
            if consoles.lines().any(is) {
                found.insert(Use::Console { terminal });
            }
        }
        for screen in class("graphics") {
            if screen.starts_with("fb") && screen != "fbcon" {
                found.insert(Use::Screen { screen });
            }
        }
        if self.read("boot_vga").as_deref() == Some("1") {
            found.insert(Use::Screen {
                screen: "boot".into(),
            });
        }
        for interface in class("net") {
            let path = self.system.sys.join("class/net").join(&interface);
            if is_up(&path) {
                found.insert(Use::Network { interface });
            }
        }
        found.into_iter().collect()
    }

    fn proc(&self, name: &str) -> String {
        fs::read_to_string(self.system.proc.join(name)).unwrap_or_default()
    }

    /// The members of a class whose device is this one, or lies below it.
    fn members(&self, class: &str) -> Vec<String> {
        let Ok(own) = self.folder().canonicalize() else {
            return Vec::new();
        };
        let below = |path: PathBuf| path.canonicalize().is_ok_and(|path| path.starts_with(&own));
        fs::read_dir(self.system.sys.join("class").join(class))
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| below(entry.path()))
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect()
    }

    /// A disk, a part of one, and what is made of it.
    fn disk(&self, disk: &str, mounts: &str, swaps: &str, found: &mut BTreeSet<Use>) {
        let folder = self.system.sys.join("class/block").join(disk);
        let numbers = fs::read_to_string(folder.join("dev")).unwrap_or_default();
        let before = found.len();
        for line in mounts.lines() {
            // `Documentation/filesystems/proc.rst`, 3.5: major:minor is the third field, the place the fifth.
            let mut fields = line.split(' ').skip(2);
            if fields.next() == Some(numbers.trim()) {
                let at = fields.nth(1).unwrap_or_default();
                found.insert(Use::Mounted {
                    disk: disk.to_owned(),
                    at: at.replace("\\040", " "),
                });
            }
        }
        let node = format!("/dev/{disk}");
        if swaps
            .lines()
            .any(|line| line.split_whitespace().next() == Some(&node))
        {
            found.insert(Use::Swap {
                disk: disk.to_owned(),
            });
        }
        for holder in fs::read_dir(folder.join("holders"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let Ok(holder) = holder.file_name().into_string() else {
                continue;
            };
            self.disk(&holder, mounts, swaps, found);
            if found.len() == before {
                found.insert(Use::Part {
                    disk: disk.to_owned(),
                    of: holder,
                });
            }
        }
    }
}

/// `IFF_UP` of `include/uapi/linux/if.h`.
fn is_up(interface: &Path) -> bool {
    let flags = fs::read_to_string(interface.join("flags")).unwrap_or_default();
    let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16);
    flags.is_ok_and(|flags| flags & 1 != 0)
}
