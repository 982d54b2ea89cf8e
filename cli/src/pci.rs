//! PCI functions as sysfs shows them: what they are, who drives them, and what of the system lives on them.
//!
//! `Documentation/ABI/testing/sysfs-bus-pci` lists the files.

mod capabilities;
mod faults;
pub mod importers;
mod uses;

pub use capabilities::Interrupts;
pub use faults::Fault;
#[cfg(test)]
use uses::Use;

use crate::failure::Failure;
use serde::Serialize;
use std::{
    fmt, fs,
    path::{Path, PathBuf},
    str::FromStr,
    thread,
    time::Duration,
};

/// The name of mapbuf's PCI driver.
pub const MAPBUF: &str = "mapbuf";

/// How often, and how many times, to check whether a driver has taken a device: the kernel may probe in a thread.
const LOOK: Duration = Duration::from_millis(20);
const LOOKS: usize = 250;

/// Drivers that have no memory of their own behind the IOMMU, and so share a group with anybody (`pcie_portdriver` of
/// `drivers/pci/pcie/portdrv.c` sets `driver_managed_dma`).
const HARMLESS: [&str; 1] = ["pcieport"];

/// Where the kernel shows what it has; a test has files of its own.
#[derive(Clone, Debug)]
pub struct System {
    sys: PathBuf,
    proc: PathBuf,
}

impl Default for System {
    fn default() -> Self {
        Self {
            sys: "/sys".into(),
            proc: "/proc".into(),
        }
    }
}

/// The address of a function: domain, bus, device and function.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Address(String);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is no PCI address; one looks like 0000:00:04.0, and lspci -D lists them"
            )
        };
        let whole = match text.matches(':').count() {
            1 => format!("0000:{text}"),
            _ => text.to_lowercase(),
        };
        let hexadecimal = |part: &str, digits: std::ops::RangeInclusive<usize>| {
            digits.contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        let parts = whole.split(':').collect::<Vec<_>>();
        let [domain, bus, rest] = parts[..] else {
            return Err(wrong());
        };
        let (device, function) = rest.split_once('.').ok_or_else(wrong)?;
        let fits = hexadecimal(domain, 4..=8)
            && hexadecimal(bus, 2..=2)
            && hexadecimal(device, 2..=2)
            && matches!(function.as_bytes(), [b'0'..=b'7']);
        if fits {
            Ok(Self(whole.to_lowercase()))
        } else {
            Err(wrong())
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A PCI function.
#[derive(Clone, Debug)]
pub struct Function {
    /// Where it is.
    pub address: Address,
    system: System,
}

/// A range of a device's that the processor can reach.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Bar {
    /// Its number.
    pub number: usize,
    /// Its size.
    pub bytes: u64,
    /// Whether it is memory, and not I/O ports.
    pub memory: bool,
    /// Whether reading it has no effects.
    pub prefetchable: bool,
}

impl System {
    /// The function at an address.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn function(&self, address: &Address) -> Result<Function, Failure> {
        let function = Function {
            address: address.clone(),
            system: self.clone(),
        };
        if function.folder().is_dir() {
            return Ok(function);
        }
        Err(Failure::NoDevice(format!(
            "there is no PCI device {address}; lspci -D, or ls /sys/bus/pci/devices, lists those that are there"
        )))
    }

    /// The functions that a driver has.
    pub fn functions_of(&self, driver: &str) -> Vec<Function> {
        let folder = self.sys.join("bus/pci/drivers").join(driver);
        self.functions_in(&folder)
    }

    /// Every function.
    pub fn all(&self) -> Vec<Function> {
        self.functions_in(&self.sys.join("bus/pci/devices"))
    }

    /// Whether the kernel has such a driver.
    pub fn has_driver(&self, driver: &str) -> bool {
        self.sys.join("bus/pci/drivers").join(driver).is_dir()
    }

    fn functions_in(&self, folder: &Path) -> Vec<Function> {
        let mut found: Vec<_> = fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter_map(|address| self.function(&address).ok())
            .collect();
        found.sort_by(|a, b| a.address.cmp(&b.address));
        found
    }
}

impl Function {
    fn folder(&self) -> PathBuf {
        let devices = self.system.sys.join("bus/pci/devices");
        devices.join(self.address.to_string())
    }

    /// A file of the function's.
    fn file(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// What is in that file.
    fn read(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.file(name)).ok()?;
        Some(text.trim().to_owned())
    }

    fn number(&self, name: &str) -> Option<u32> {
        let text = self.read(name)?;
        u32::from_str_radix(text.trim_start_matches("0x"), 16).ok()
    }

    fn write(&self, name: &str, value: &str) -> Result<(), Failure> {
        let path = self.file(name);
        fs::write(&path, value).map_err(|source| Failure::File { path, source })
    }

    /// The last part of where a link leads.
    fn link(&self, name: &str) -> Option<String> {
        let target = fs::read_link(self.file(name)).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }

    /// Vendor and device, as `lspci -n` prints them.
    pub fn ids(&self) -> String {
        let [vendor, device] = ["vendor", "device"].map(|name| self.number(name).unwrap_or(0));
        format!("{vendor:04x}:{device:04x}")
    }

    /// What sort of device it says it is: base class, class, interface.
    pub fn class(&self) -> u32 {
        self.number("class").unwrap_or(0)
    }

    /// The same in words, as far as it matters here (`include/linux/pci_ids.h`).
    pub fn class_name(&self) -> &'static str {
        match self.class() >> 8 {
            0x0108 => "NVMe controller",
            0x0100..=0x01ff => "storage controller",
            0x0200..=0x02ff => "network controller",
            0x0300..=0x03ff => "display controller",
            0x0400..=0x04ff => "multimedia controller",
            0x0500..=0x05ff => "memory controller",
            0x0600..=0x06ff => "bridge",
            0x0700..=0x07ff => "communication controller",
            0x0c03 => "USB controller",
            0x0c00..=0x0cff => "serial bus controller",
            _ => "device",
        }
    }

    /// The driver that has it.
    pub fn driver(&self) -> Option<String> {
        self.link("driver")
    }

    /// The driver that alone may take it, if somebody has said so.
    pub fn wanted_driver(&self) -> Option<String> {
        self.read("driver_override")
            .filter(|name| !name.is_empty() && name != "(null)")
    }

    /// The number of its IOMMU group.
    pub fn group(&self) -> Option<u32> {
        self.link("iommu_group")?.parse().ok()
    }

    /// The other functions of its IOMMU group.
    pub fn neighbours(&self) -> Vec<Self> {
        let mut all = self.system.functions_in(&self.file("iommu_group/devices"));
        all.retain(|other| other.address != self.address);
        all
    }

    /// How many address bits its driver has said that it reaches by DMA.
    pub fn dma_bits(&self) -> Option<u32> {
        self.read("dma_mask_bits")?.parse().ok()
    }

    /// Its BARs (`resource`: a line of first byte, last byte and flags for each; `IORESOURCE_*` of `include/linux/ioport.h`).
    pub fn bars(&self) -> Vec<Bar> {
        const IO: u64 = 0x100;
        const MEMORY: u64 = 0x200;
        const PREFETCH: u64 = 0x2000;
        let text = self.read("resource").unwrap_or_default();
        let rows = text.lines().take(6).enumerate();
        rows.filter_map(|(number, line)| {
            let mut words = line.split_whitespace();
            let mut word = || u64::from_str_radix(words.next()?.trim_start_matches("0x"), 16).ok();
            let (start, end, flags) = (word()?, word()?, word()?);
            let memory = flags & MEMORY != 0;
            (memory || flags & IO != 0).then_some(Bar {
                number,
                bytes: end.checked_sub(start)?.checked_add(1)?,
                memory,
                prefetchable: flags & PREFETCH != 0,
            })
        })
        .collect()
    }

    /// What interrupts it has to give.
    pub fn interrupts(&self) -> Interrupts {
        Interrupts::of(&fs::read(self.file("config")).unwrap_or_default())
    }

    /// Why `driver` cannot have it now. Empty: it can.
    pub fn obstacles(&self, driver: &str) -> Vec<Obstacle> {
        let mut found = Vec::new();
        if self.class() >> 16 == 0x06 {
            found.push(Obstacle {
                what: "it is a bridge: what lies behind it would go with it".into(),
                next: "bind a device behind it".into(),
            });
        }
        for user in self.uses() {
            found.push(Obstacle {
                what: user.to_string(),
                next: user.remedy(),
            });
        }
        for other in self.neighbours() {
            match other.driver() {
                Some(has) if has != driver && !HARMLESS.contains(&has.as_str()) => {
                    found.push(Obstacle {
                        what: format!(
                            "{} is in the same IOMMU group, and {has} has it: the IOMMU cannot keep the two apart",
                            other.address
                        ),
                        next: format!(
                            "bind {} too, or take {has} away from it, or put the device into another slot",
                            other.address
                        ),
                    });
                }
                _ => {}
            }
        }
        found
    }

    /// Gives it to a driver; none: to whichever the kernel finds.
    ///
    /// # Errors
    ///
    /// A file of sysfs's that cannot be written; a driver that does not take it, with its present driver gone.
    pub fn give(&self, driver: Option<&str>) -> Result<(), Failure> {
        // Before it is free: or the next best driver has it. An empty line is "any".
        self.write(
            "driver_override",
            &format!("{}\n", driver.unwrap_or_default()),
        )?;
        if self.driver().is_some() {
            self.write("driver/unbind", &self.address.to_string())?;
        }
        self.probe(driver)
    }

    /// Gives it back to a driver that had it, without binding it to that one for ever.
    pub fn give_back(&self, driver: Option<&str>) -> Result<(), Failure> {
        self.write("driver_override", "\n")?;
        if self.driver().is_some() {
            self.write("driver/unbind", &self.address.to_string())?;
        }
        let Some(driver) = driver.filter(|driver| self.system.has_driver(driver)) else {
            return Ok(());
        };
        let path = self
            .system
            .sys
            .join("bus/pci/drivers")
            .join(driver)
            .join("bind");
        fs::write(&path, self.address.to_string())
            .map_err(|source| Failure::File { path, source })?;
        self.await_driver(driver)
    }

    fn probe(&self, driver: Option<&str>) -> Result<(), Failure> {
        let path = self.system.sys.join("bus/pci/drivers_probe");
        let written = fs::write(&path, self.address.to_string());
        match (driver, written) {
            // What the driver's probe says is not what this file says; whether it has it now is.
            (Some(driver), Ok(()) | Err(_)) => self.await_driver(driver),
            (None, written) => written.map_err(|source| Failure::File { path, source }),
        }
    }

    fn await_driver(&self, driver: &str) -> Result<(), Failure> {
        for _ in 0..LOOKS {
            if self.driver().as_deref() == Some(driver) {
                return Ok(());
            }
            thread::sleep(LOOK);
        }
        Err(Failure::Device {
            what: format!("{driver} does not take {}", self.address),
            remedy: "the kernel's log (dmesg) has its reason".into(),
        })
    }
}

/// Why a device cannot be bound, and what to do.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Obstacle {
    /// What is in the way.
    pub what: String,
    /// What to do about it.
    pub next: String,
}

/// Who had each device before it was bound: files in a folder that does not outlive the system.
#[derive(Clone, Debug)]
pub struct Ledger(PathBuf);

impl Default for Ledger {
    fn default() -> Self {
        Self("/run/mapbuf/former-drivers".into())
    }
}

impl Ledger {
    fn file(&self, address: &Address) -> PathBuf {
        self.0.join(address.to_string())
    }

    /// Notes who had a device before.
    pub fn note(&self, address: &Address, driver: Option<&str>) -> Result<(), Failure> {
        let path = self.file(address);
        let written =
            fs::create_dir_all(&self.0).and_then(|()| fs::write(&path, driver.unwrap_or_default()));
        written.map_err(|source| Failure::File { path, source })
    }

    /// Who had it; none where nobody did, or nothing is known.
    pub fn former(&self, address: &Address) -> Option<String> {
        let text = fs::read_to_string(self.file(address)).ok()?;
        let name = text.trim();
        (!name.is_empty()).then(|| name.to_owned())
    }

    /// Strikes the note out. A device that was bound by other means has none; one that stays is written over by the next
    /// `bind`.
    pub fn forget(&self, address: &Address) {
        let _ = fs::remove_file(self.file(address));
    }
}

#[cfg(test)]
mod tests;
