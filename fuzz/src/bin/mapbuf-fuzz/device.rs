//! The device that is bound to the driver.

use mapbuf_abi::PCI_NODE_PREFIX;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::OnceLock;

/// QEMU's `edu`, by its address.
#[derive(Clone)]
pub struct Edu(String);

impl Edu {
    const BUS: &'static str = "/sys/bus/pci";

    /// The first of the machine.
    pub fn find() -> Option<&'static Self> {
        static FOUND: OnceLock<Option<Edu>> = OnceLock::new();
        FOUND.get_or_init(Self::search).as_ref()
    }

    fn search() -> Option<Self> {
        let mut devices = fs::read_dir(format!("{}/devices", Self::BUS))
            .ok()?
            .flatten();
        devices.find_map(|device| {
            let is = |file: &str, id: &str| {
                fs::read_to_string(device.path().join(file)).is_ok_and(|text| text.trim() == id)
            };
            let address = device.file_name().to_string_lossy().into_owned();
            (is("vendor", "0x1234") && is("device", "0x11e8")).then_some(Self(address))
        })
    }

    /// The path of its node.
    pub fn node(&self) -> String {
        format!("{PCI_NODE_PREFIX}{}", self.0)
    }

    /// Has the driver take it. Whether that is so shows when the node is opened.
    pub fn bind(&self) {
        let wish = format!("{}/devices/{}/driver_override", Self::BUS, self.0);
        let _ = fs::write(wish, "mapbuf");
        let _ = fs::write(format!("{}/drivers_probe", Self::BUS), &self.0);
    }

    /// Takes it from the driver.
    pub fn unbind(&self) {
        let _ = fs::write(format!("{}/drivers/mapbuf/unbind", Self::BUS), &self.0);
    }

    /// Has the driver take it as if for the first time, and lets everybody open its node.
    pub fn renew(&self) -> std::io::Result<()> {
        self.unbind();
        self.bind();
        fs::set_permissions(self.node(), fs::Permissions::from_mode(0o666))
    }
}
