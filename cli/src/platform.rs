//! Platform devices that the driver has: those that a device tree calls `mapbuf,buffer`, and any that was given to it.

use crate::pci::Address;
use mapbuf::abi::{PCI_NODE_PREFIX, PLATFORM_NODE_PREFIX};
use serde::Serialize;
use std::{fmt, fs, path::Path, str::FromStr};

/// Where the kernel shows those that mapbuf's platform driver has.
const BOUND: &str = "/sys/bus/platform/drivers/mapbuf-buffer";

/// A platform device that is bound, with its JSON names.
#[derive(Debug, Eq, PartialEq, Serialize)]
pub struct Platform {
    device: String,
    /// What its node in the device tree says that it is compatible with, if it has a node.
    compatible: Vec<String>,
    node: String,
    iommu_group: Option<u32>,
}

impl Platform {
    /// All that are bound.
    pub fn all() -> Vec<Self> {
        Self::in_folder(Path::new(BOUND))
    }

    /// The entries of the driver's folder that are links to devices.
    fn in_folder(folder: &Path) -> Vec<Self> {
        let mut found: Vec<_> = fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let device = entry.file_name().into_string().ok()?;
                let path = entry.path();
                // The driver has a link to its module, too, which has no bus.
                path.join("subsystem").exists().then(|| Self {
                    compatible: strings(&path.join("of_node/compatible")),
                    node: format!("{PLATFORM_NODE_PREFIX}{device}"),
                    iommu_group: group(&path),
                    device,
                })
            })
            .collect();
        found.sort_by(|a, b| a.device.cmp(&b.device));
        found
    }
}

/// A property of a device tree that is a list of strings, each with a zero behind it.
fn strings(property: &Path) -> Vec<String> {
    let bytes = fs::read(property).unwrap_or_default();
    let words = bytes
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty());
    words
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

fn group(device: &Path) -> Option<u32> {
    let link = fs::read_link(device.join("iommu_group")).ok()?;
    link.file_name()?.to_str()?.parse().ok()
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.compatible[..] {
            [] => writeln!(f, "{}: a platform device", self.device)?,
            all => writeln!(f, "{}: {}", self.device, all.join(", "))?,
        }
        writeln!(f, "  node         {}", self.node)?;
        match self.iommu_group {
            Some(group) => writeln!(f, "  IOMMU group  {group}"),
            None => writeln!(f, "  IOMMU group  none"),
        }
    }
}

/// The name of a device that may be bound to mapbuf.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(untagged)]
pub enum DeviceName {
    /// The address of a PCI device.
    Pci(Address),
    /// The name of a platform device.
    Platform(String),
}

impl DeviceName {
    /// Its node.
    pub fn node(&self) -> String {
        match self {
            Self::Pci(address) => format!("{PCI_NODE_PREFIX}{address}"),
            Self::Platform(name) => format!("{PLATFORM_NODE_PREFIX}{name}"),
        }
    }
}

impl FromStr for DeviceName {
    type Err = String;

    /// What has another character than an address has is the name of a platform device.
    fn from_str(text: &str) -> Result<Self, String> {
        let of_address = |c: char| c.is_ascii_hexdigit() || c == ':' || c == '.';
        if text.chars().all(of_address) {
            return text.parse().map(Self::Pci);
        }
        if text.contains('/') {
            return Err(format!(
                "`{text}` is a path; write the address of a PCI device (0000:00:04.0), or the name of a platform device as \
                 ls /sys/bus/platform/devices shows it"
            ));
        }
        Ok(Self::Platform(text.to_owned()))
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pci(address) => address.fmt(f),
            Self::Platform(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn names_tell_the_bus() {
        let node = |text: &str| text.parse().map(|name: DeviceName| name.node());
        assert_eq!(node("00:04.0").unwrap(), "/dev/mapbuf/pci-0000:00:04.0");
        assert_eq!(
            node("40000000.buffer").unwrap(),
            "/dev/mapbuf/platform-40000000.buffer"
        );
        assert_eq!(
            node("QEMU0002:00").unwrap(),
            "/dev/mapbuf/platform-QEMU0002:00"
        );
        for wrong in ["00:04", "0000:00:04.9", "/dev/mapbuf/pci-0000:00:04.0", ""] {
            let error = node(wrong).unwrap_err();
            assert!(error.contains("0000:00:04.0"), "{error}");
        }
    }

    #[test]
    fn devices_are_told_from_what_else_the_driver_has() {
        let folder = std::env::temp_dir().join(format!("mapbuf-platform-{}", std::process::id()));
        let device = folder.join("devices/camera-buffers");
        let driver = folder.join("driver");
        fs::create_dir_all(device.join("of_node")).unwrap();
        fs::create_dir_all(driver.join("module")).unwrap();
        fs::write(
            device.join("of_node/compatible"),
            b"a,camera\0mapbuf,buffer\0",
        )
        .unwrap();
        symlink("../bus", device.join("subsystem")).unwrap();
        fs::create_dir(folder.join("devices/bus")).unwrap();
        symlink("../../groups/7", device.join("iommu_group")).unwrap();
        symlink(&device, driver.join("camera-buffers")).unwrap();
        fs::write(driver.join("bind"), "").unwrap();
        let found = Platform::in_folder(&driver);
        fs::remove_dir_all(&folder).unwrap();
        let expected = Platform {
            device: "camera-buffers".into(),
            compatible: vec!["a,camera".into(), "mapbuf,buffer".into()],
            node: "/dev/mapbuf/platform-camera-buffers".into(),
            iommu_group: Some(7),
        };
        assert_eq!(found, [expected]);
    }
}
