//! The tables of an IOMMU, as the hardware walks them: Intel's VT-d in legacy mode, with second-level tables of three to
//! five levels (chapters 3.4 and 9 of the VT-d specification).
//!
//! [`Tables`] reads them from the guest's memory and tells where a device's DMA goes. Nothing of the guest's kernel is asked.

use crate::pagetable::PhysicalMemory;
use anyhow::{bail, Context, Result};
use std::fmt;
use std::str::FromStr;

/// Where QEMU's machine `q35` has the registers of its IOMMU.
pub const REGISTERS: u64 = 0xfed9_0000;
/// The register that tells where the root table is, and of which sort.
pub const ROOT: u64 = REGISTERS + 0x20;
/// The status: bit 31 says that addresses are translated. Of 32 bits.
pub const STATUS: u64 = REGISTERS + 0x1c;
/// That bit.
pub const TRANSLATES: u32 = 1 << 31;

/// Where a table, or a frame, lies.
const FRAME: u64 = 0x000f_ffff_ffff_f000;
/// The sort of root table in the root register; legacy mode is 0.
const SORT: u64 = 0b11 << 10;
/// An entry of a root or context table is there.
const PRESENT: u64 = 1;
/// An entry of a second-level table.
const READ: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const LARGE: u64 = 1 << 7;

/// A function of a PCI device, as it signs its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requester {
    /// The bus.
    pub bus: u8,
    /// Five bits of the device, and three of the function.
    pub devfn: u8,
}

impl FromStr for Requester {
    type Err = anyhow::Error;

    /// From `0000:01:00.0`.
    fn from_str(text: &str) -> Result<Self> {
        let read = || {
            let (segment, rest) = text.split_once(':')?;
            let (bus, rest) = rest.split_once(':')?;
            let (device, function) = rest.split_once('.')?;
            let hex = |text| u8::from_str_radix(text, 16).ok();
            let (device, function) = (hex(device)?, hex(function)?);
            (segment == "0000" && device < 32 && function < 8).then_some(Self {
                bus: hex(bus)?,
                devfn: device << 3 | function,
            })
        };
        read().with_context(|| format!("{text} is no function of segment 0"))
    }
}

/// Where an address of a device leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The physical address.
    pub physical: u64,
    /// The device may read there.
    pub read: bool,
    /// The device may write there.
    pub write: bool,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flag = |set, word| if set { word } else { "-" };
        let (read, write) = (flag(self.read, "r"), flag(self.write, "w"));
        write!(f, "{:#x} {read}{write}", self.physical)
    }
}

/// The tables of a unit.
pub struct Tables<'a, M> {
    memory: &'a M,
    root: u64,
}

impl<'a, M: PhysicalMemory> Tables<'a, M> {
    /// Those that the unit's [`ROOT`] leads to.
    ///
    /// # Errors
    ///
    /// Tables of another sort, those of scalable mode.
    pub fn new(memory: &'a M, root: u64) -> Result<Self> {
        if root & SORT != 0 {
            bail!(
                "the IOMMU has its tables in a mode that this does not know: RTADDR is {root:#x}"
            );
        }
        Ok(Self {
            memory,
            root: root & FRAME,
        })
    }

    /// Where an address of the device leads; nothing where the unit stops it.
    ///
    /// # Errors
    ///
    /// A table that lies where there is no memory, or of a form that there is not.
    pub fn at(&self, device: Requester, address: u64) -> Result<Option<Target>> {
        let root = self.word(self.root + 16 * u64::from(device.bus))?;
        if root & PRESENT == 0 {
            return Ok(None);
        }
        let context = (root & FRAME) + 16 * u64::from(device.devfn);
        let [low, high] = [self.word(context)?, self.word(context + 8)?];
        if low & PRESENT == 0 {
            return Ok(None);
        }
        match low >> 2 & 0b11 {
            // With or without a device that may ask for translations itself.
            0 | 1 => {}
            2 => {
                return Ok(Some(Target {
                    physical: address,
                    read: true,
                    write: true,
                }))
            }
            sort => bail!("the context entry {low:#x} {high:#x} is of sort {sort}"),
        }
        let levels = match high & 0b111 {
            width @ 1..=3 => 2 + width as u32,
            width => bail!("the context entry {low:#x} {high:#x} has width {width}"),
        };
        if address >> (12 + 9 * levels) != 0 {
            return Ok(None);
        }
        self.walk(low & FRAME, levels, address)
    }

    fn walk(&self, mut table: u64, levels: u32, address: u64) -> Result<Option<Target>> {
        let mut allowed = READ | WRITE;
        for level in (1..=levels).rev() {
            let shift = 12 + 9 * (level - 1);
            let entry = self.word(table + 8 * (address >> shift & 0x1ff))?;
            allowed &= entry;
            if entry & (READ | WRITE) == 0 {
                return Ok(None);
            }
            if level == 1 || entry & LARGE != 0 {
                let within = (1 << shift) - 1;
                return Ok(Some(Target {
                    physical: (entry & FRAME & !within) | (address & within),
                    read: allowed & READ != 0,
                    write: allowed & WRITE != 0,
                }));
            }
            table = entry & FRAME;
        }
        Ok(None)
    }

    fn word(&self, address: u64) -> Result<u64> {
        let mut word = [0; 8];
        self.memory
            .read(address, &mut word)
            .with_context(|| format!("a table of the IOMMU has an entry at {address:#x}"))?;
        Ok(u64::from_le_bytes(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    struct Image(BTreeMap<u64, u64>);

    impl PhysicalMemory for Image {
        fn read(&self, address: u64, bytes: &mut [u8]) -> Result<()> {
            let word = self.0.get(&address).copied().unwrap_or_default();
            bytes.copy_from_slice(&word.to_le_bytes());
            Ok(())
        }
    }

    /// Bus 2, device 3, function 1, with three levels: a page, a large page, and what may only be read or written.
    fn image() -> Image {
        let devfn = 3 << 3 | 1;
        Image(BTreeMap::from([
            (0x1000 + 16 * 2, 0x2000 | PRESENT),
            (0x2000 + 16 * devfn, 0x3000 | PRESENT),
            (0x2000 + 16 * devfn + 8, 5 << 8 | 1),
            (0x2000, PRESENT | 2 << 2),
            (0x3000 + 8, 0x4000 | READ | WRITE),
            (0x4000, 0x5000 | READ | WRITE),
            (0x4000 + 8, 0x80_0000 | READ | WRITE | LARGE),
            (0x4000 + 16, 0x6000 | READ),
            (0x5000 + 8 * 5, 0x7_7000 | READ | WRITE),
            (0x5000 + 8 * 6, 0x7_8000 | WRITE),
            (0x6000, 0x7_9000 | READ | WRITE),
        ]))
    }

    fn at(device: &str, address: u64) -> Option<(u64, bool, bool)> {
        let image = image();
        let tables = Tables::new(&image, 0x1000).unwrap();
        let target = tables.at(device.parse().unwrap(), address).unwrap()?;
        Some((target.physical, target.read, target.write))
    }

    #[test]
    fn addresses_lead_where_the_tables_say() {
        let device = "0000:02:03.1";
        let gib = 1 << 30;
        assert_eq!(at(device, gib + 0x5123), Some((0x7_7123, true, true)));
        assert_eq!(at(device, gib + 0x6000), Some((0x7_8000, false, true)));
        assert_eq!(at(device, gib + 0x7000), None);
        let large = gib + 0x20_0000;
        assert_eq!(at(device, large + 0x1_2345), Some((0x81_2345, true, true)));
        // What an upper entry forbids stays forbidden.
        assert_eq!(at(device, gib + 0x40_0000), Some((0x7_9000, true, false)));
        assert_eq!(at(device, 0x5123), None);
        assert_eq!(at(device, 1 << 39), None);
    }

    #[test]
    fn a_device_without_tables_reaches_nothing() {
        assert_eq!(at("0000:01:00.0", 0x5123), None);
        assert_eq!(at("0000:02:04.0", 0x5123), None);
        // This one is not translated for.
        assert_eq!(at("0000:02:00.0", 0x5123), Some((0x5123, true, true)));
    }

    #[test]
    fn what_is_not_known_is_said() {
        let image = image();
        assert!(Tables::new(&image, 0x1400).is_err());
        for wrong in ["", "0001:00:00.0", "0000:00:20.0", "0000:00:00.8"] {
            assert!(wrong.parse::<Requester>().is_err(), "{wrong}");
        }
    }
}
