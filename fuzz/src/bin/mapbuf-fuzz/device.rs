//! Devices of the machine that are given to the driver.

use crate::sys::{self, Errno};
use mapbuf_abi::PCI_NODE_PREFIX;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::OnceLock;

/// A device, by its address.
#[derive(Clone)]
pub struct Device(String);

impl Device {
    const BUS: &'static str = "/sys/bus/pci";

    /// QEMU's `nvme`, which the model knows. Nobody ever starts its controller: it has interrupts that can be triggered, and
    /// memory of its own.
    pub fn nvme() -> Option<&'static Self> {
        static FOUND: OnceLock<Option<Device>> = OnceLock::new();
        let found = FOUND.get_or_init(|| Self::find("0x1b36", "0x0010"));
        found.as_ref()
    }

    /// QEMU's `edu`, for bytes that nobody has thought about.
    pub fn edu() -> Option<Self> {
        Self::find("0x1234", "0x11e8")
    }

    fn find(vendor: &str, device: &str) -> Option<Self> {
        let mut devices = fs::read_dir(format!("{}/devices", Self::BUS))
            .ok()?
            .flatten();
        devices.find_map(|found| {
            let is = |file: &str, id: &str| {
                fs::read_to_string(found.path().join(file)).is_ok_and(|text| text.trim() == id)
            };
            let address = found.file_name().to_string_lossy().into_owned();
            (is("vendor", vendor) && is("device", device)).then_some(Self(address))
        })
    }

    /// The path of its node.
    pub fn node(&self) -> String {
        format!("{PCI_NODE_PREFIX}{}", self.0)
    }

    fn tell(&self, file: &str) -> Result<(), Errno> {
        let path = format!("{}/drivers/mapbuf/{file}", Self::BUS);
        fs::write(path, &self.0).map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))
    }

    /// Takes it from whatever driver has it, for this one alone.
    pub fn claim(&self) {
        let device = format!("{}/devices/{}", Self::BUS, self.0);
        let _ = fs::write(format!("{device}/driver_override"), "mapbuf");
        let _ = fs::write(format!("{device}/driver/unbind"), &self.0);
    }

    /// Has the driver take it, and lets everybody open its node.
    ///
    /// # Errors
    ///
    /// `EBUSY` where it has it, and what the driver says.
    pub fn bind(&self) -> Result<(), Errno> {
        self.tell("bind")?;
        fs::set_permissions(self.node(), fs::Permissions::from_mode(0o666))
            .map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))
    }

    /// Takes it from the driver.
    ///
    /// # Errors
    ///
    /// `ENODEV` where it does not have it.
    pub fn unbind(&self) -> Result<(), Errno> {
        self.tell("unbind")
    }

    /// Has the driver take it as if for the first time.
    ///
    /// # Errors
    ///
    /// Those of [`Self::bind`].
    pub fn renew(&self) -> Result<(), Errno> {
        self.claim();
        self.bind()
    }

    /// Opens its node.
    ///
    /// # Errors
    ///
    /// Those of `open`.
    pub fn open(&self, access: u8) -> Result<i32, Errno> {
        sys::open(&self.node(), access)
    }
}
