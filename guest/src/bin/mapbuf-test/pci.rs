//! PCI devices, by sysfs, and the host that can pull them out.

use crate::check::{Failure, Outcome};
use crate::sys;
use mapbuf_init::ask::{Ask, Host};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// Vendor and device, as sysfs shows them.
pub const NVME: [&str; 2] = ["0x1b36", "0x0010"];
pub const EDU: [&str; 2] = ["0x1234", "0x11e8"];

/// How long a driver may take to let go of a device, or to take it.
const PATIENCE: Duration = Duration::from_secs(120);

/// A PCI function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// As in `0000:01:00.0`.
    pub address: String,
}

impl Function {
    /// The first one of this vendor and device.
    pub fn find(ids: [&str; 2]) -> Outcome<Self> {
        Self::all(ids)?
            .into_iter()
            .next()
            .ok_or(Failure::new(format!("the machine has no device {ids:?}")))
    }

    /// Every one of this vendor and device.
    pub fn all(ids: [&str; 2]) -> Outcome<Vec<Self>> {
        let mut found: Vec<_> = fs::read_dir("/sys/bus/pci/devices")?
            .flatten()
            .map(|entry| Self {
                address: entry.file_name().to_string_lossy().into_owned(),
            })
            .filter(|function| {
                ["vendor", "device"].map(|file| function.read(file)) == ids.map(String::from)
            })
            .collect();
        found.sort_by(|a, b| a.address.cmp(&b.address));
        Ok(found)
    }

    /// A file of the device's in sysfs.
    pub fn file(&self, name: &str) -> PathBuf {
        ["/sys/bus/pci/devices", &self.address, name]
            .iter()
            .collect()
    }

    /// What is in that file; nothing when there is none.
    pub fn read(&self, name: &str) -> String {
        let text = fs::read_to_string(self.file(name)).unwrap_or_default();
        text.trim().to_owned()
    }

    /// The driver that has it.
    pub fn driver(&self) -> Option<String> {
        let link = fs::read_link(self.file("driver")).ok()?;
        Some(link.file_name()?.to_string_lossy().into_owned())
    }

    /// Has this driver take it, and no other one; none: whichever the kernel likes.
    pub fn give(&self, driver: Option<&str>) -> Outcome {
        if self.driver().is_some() {
            fs::write(self.file("driver/unbind"), &self.address)?;
        }
        // A line break alone takes the wish away.
        let wish = format!("{}\n", driver.unwrap_or_default());
        fs::write(self.file("driver_override"), wish)?;
        fs::write("/sys/bus/pci/drivers_probe", &self.address)?;
        let has = || match driver {
            Some(driver) => self.driver().as_deref() == Some(driver),
            None => true,
        };
        if sys::until(PATIENCE, has) {
            Ok(())
        } else {
            Err(Failure::new(format!(
                "{} is with {:?}, must be with {driver:?}",
                self.address,
                self.driver()
            )))
        }
    }
}

/// Asks the host.
pub fn ask(ask: &Ask) -> Outcome<Vec<u8>> {
    let host = Host::connect().and_then(|mut host| host.ask(ask));
    host.map_err(|error| Failure::new(format!("{ask:?}: {error}")))
}
