//! The PCI devices whose memory the host shares, and the regions that are declared in it.

use super::Result;
use mapbuf_guest::witness::{
    Place, Window, CACHED_BYTES, CACHED_OFFSET, DEVICE_BYTES, MEMORIES, ONES_BYTES, PAGE, RESERVED,
};
use std::ffi::CString;
use std::fs::{self, File};
use std::path::Path;

/// Regions in memory that reads ones: one that is read when it is registered, one that is written to as well, and one
/// that is to be mapped all the same.
pub const SUSPECT: &str = "suspect";
pub const UNBACKED: &str = "unbacked";
pub const TRUSTED: &str = "trusted";
/// A region that cannot be cached, as it is declared to be.
pub const CACHED: &str = "cached";

/// QEMU's `ivshmem-plain`, as vendor and device, and which of its address ranges is the memory.
const IVSHMEM: [&str; 2] = ["0x1af4", "0x1110"];
const MEMORY_BAR: usize = 2;

/// The memory of both devices.
pub struct Devices {
    /// What the host shares.
    pub shared: Window,
    /// What reads ones.
    pub ones: Window,
}

impl Devices {
    /// Finds them by their sizes.
    pub fn find() -> Result<Self> {
        let mut windows = Vec::new();
        for entry in fs::read_dir("/sys/bus/pci/devices")? {
            windows.extend(window(&entry?.path())?);
        }
        let by_size = |bytes| {
            let mut found = windows.iter().filter(|window| window.bytes == bytes);
            found.next().copied()
        };
        match (by_size(DEVICE_BYTES), by_size(ONES_BYTES)) {
            (Some(shared), Some(ones)) => Ok(Self { shared, ones }),
            _ => Err("the machine lacks the devices that the host shares".into()),
        }
    }

    /// The module's parameter.
    fn declarations(&self) -> String {
        let mut declared = Vec::new();
        for memory in MEMORIES {
            let Some(region) = memory.region else {
                continue;
            };
            let start = match region.place {
                Place::Reserved(offset) => RESERVED + offset,
                Place::Device(offset) => self.shared.start + offset,
            };
            declared.push(format!(
                "{}:{start:#x}:{}:{}:{}",
                memory.name,
                memory.pages * PAGE,
                region.class.name(),
                region.words
            ));
        }
        let start = self.shared.start + CACHED_OFFSET;
        declared.push(format!("{CACHED}:{start:#x}:{CACHED_BYTES}:ram:cached"));
        let part = self.ones.bytes / 4;
        for (index, (name, words)) in (0..).zip([
            (SUSPECT, "ram:uc"),
            (UNBACKED, "ram:uc:probe"),
            (TRUSTED, "ram:uc:trust:probe"),
        ]) {
            let start = self.ones.start + index * part;
            declared.push(format!("{name}:{start:#x}:{part}:{words}"));
        }
        format!("regions={}", declared.join(","))
    }

    /// Loads the module with all regions.
    pub fn load_module(&self) -> Result<()> {
        let path = std::env::var("MAPBUF_MODULE")?;
        let file = File::open(&path).map_err(|error| format!("{path}: {error}"))?;
        let parameters = self.declarations();
        rustix::system::finit_module(&file, &CString::new(parameters.clone())?, 0)
            .map_err(|error| format!("loading {path} with {parameters}: {error}").into())
    }
}

/// The memory of an `ivshmem` device.
fn window(device: &Path) -> Result<Option<Window>> {
    let attribute = |name: &str| fs::read_to_string(device.join(name));
    let is = [attribute("vendor")?, attribute("device")?];
    if is.each_ref().map(|text| text.trim_end()) != IVSHMEM {
        return Ok(None);
    }
    let resource = attribute("resource")?;
    let line = resource.lines().nth(MEMORY_BAR).unwrap_or_default();
    let mut numbers = line
        .split_whitespace()
        .map(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16));
    let (Some(Ok(start)), Some(Ok(last))) = (numbers.next(), numbers.next()) else {
        return Err(format!("{} has no memory: {resource}", device.display()).into());
    };
    // Without a driver nobody has switched the device's memory on.
    fs::write(device.join("enable"), "1")?;
    Ok(Some(Window {
        start,
        bytes: last - start + 1,
    }))
}
