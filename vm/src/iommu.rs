//! The tables of an IOMMU, as the hardware walks them: Intel's VT-d in legacy mode, with second-level tables of three to
//! five levels, and in scalable mode, with those or first-level ones of four or five (chapters 3.4 and 9 of the VT-d
//! specification).
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
/// Scalable mode.
const SCALABLE: u64 = 0b01 << 10;
/// An entry of a root, context or PASID table is there, or one of a first-level table.
const PRESENT: u64 = 1;
/// An entry of a second-level table.
const READ: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const LARGE: u64 = 1 << 7;
/// In scalable mode, what requests have that name no address space of their own: bits of the context entry's second word.
const RID_PASID: u64 = 0xf_ffff;
/// How a PASID entry translates: bits 8 to 6.
const FIRST_LEVEL: u64 = 1;
const SECOND_LEVEL: u64 = 2;
const NOT_AT_ALL: u64 = 4;

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
    scalable: bool,
}

/// All of memory as it is.
fn untranslated(address: u64) -> Target {
    Target {
        physical: address,
        read: true,
        write: true,
    }
}

impl<'a, M: PhysicalMemory> Tables<'a, M> {
    /// Those that the unit's [`ROOT`] leads to.
    ///
    /// # Errors
    ///
    /// Tables of another sort, which the specification calls reserved or abort-DMA mode.
    pub fn new(memory: &'a M, root: u64) -> Result<Self> {
        let scalable = match root & SORT {
            0 => false,
            SCALABLE => true,
            _ => bail!(
                "the IOMMU has its tables in a mode that this does not know: RTADDR is {root:#x}"
            ),
        };
        Ok(Self {
            memory,
            root: root & FRAME,
            scalable,
        })
    }

    /// Whether they are those of scalable mode.
    pub fn scalable(&self) -> bool {
        self.scalable
    }

    /// Where an address of the device leads; nothing where the unit stops it.
    ///
    /// # Errors
    ///
    /// A table that lies where there is no memory, or of a form that there is not.
    pub fn at(&self, device: Requester, address: u64) -> Result<Option<Target>> {
        let root = self.root + 16 * u64::from(device.bus);
        match self.scalable {
            false => self.legacy(root, u64::from(device.devfn), address),
            true => self.by_pasid(root, u64::from(device.devfn), address),
        }
    }

    fn legacy(&self, root: u64, devfn: u64, address: u64) -> Result<Option<Target>> {
        let root = self.word(root)?;
        if root & PRESENT == 0 {
            return Ok(None);
        }
        let context = (root & FRAME) + 16 * devfn;
        let [low, high] = [self.word(context)?, self.word(context + 8)?];
        if low & PRESENT == 0 {
            return Ok(None);
        }
        match low >> 2 & 0b11 {
            // With or without a device that may ask for translations itself.
            0 | 1 => {}
            2 => return Ok(Some(untranslated(address))),
            sort => bail!("the context entry {low:#x} {high:#x} is of sort {sort}"),
        }
        self.second_level(low & FRAME, high & 0b111, address)
    }

    /// In scalable mode a root entry has a table for each half of the bus, and a context entry, of 32 bytes, leads to
    /// a directory of tables of PASID entries, of 64 bytes each.
    fn by_pasid(&self, root: u64, devfn: u64, address: u64) -> Result<Option<Target>> {
        let half = self.word(root + 8 * (devfn >> 7))?;
        if half & PRESENT == 0 {
            return Ok(None);
        }
        let context = (half & FRAME) + 32 * (devfn & 0x7f);
        let [low, high] = [self.word(context)?, self.word(context + 8)?];
        if low & PRESENT == 0 {
            return Ok(None);
        }
        let pasid = high & RID_PASID;
        let directory = self.word((low & FRAME) + 8 * (pasid >> 6))?;
        if directory & PRESENT == 0 {
            return Ok(None);
        }
        let entry = (directory & FRAME) + 64 * (pasid & 0x3f);
        let [low, first] = [self.word(entry)?, self.word(entry + 16)?];
        if low & PRESENT == 0 {
            return Ok(None);
        }
        match low >> 6 & 0b111 {
            FIRST_LEVEL => match first >> 2 & 0b11 {
                more @ 0..=1 => self.first_level(first & FRAME, 4 + more as u32, address),
                mode => bail!("the PASID entry {low:#x} has first-level tables of mode {mode}"),
            },
            SECOND_LEVEL => self.second_level(low & FRAME, low >> 2 & 0b111, address),
            NOT_AT_ALL => Ok(Some(untranslated(address))),
            sort => bail!(
                "the PASID entry {low:#x} translates in a way that this does not know: {sort}"
            ),
        }
    }

    fn second_level(&self, table: u64, width: u64, address: u64) -> Result<Option<Target>> {
        let levels = match width {
            1..=3 => 2 + width as u32,
            _ => bail!("second-level tables at {table:#x} are of width {width}"),
        };
        if address >> (12 + 9 * levels) != 0 {
            return Ok(None);
        }
        self.walk(table, levels, address, READ | WRITE)
    }

    /// These are the processor's: what is there can be read. Addresses are sign-extended.
    fn first_level(&self, table: u64, levels: u32, address: u64) -> Result<Option<Target>> {
        let unused = 64 - (12 + 9 * levels);
        if (address << unused) as i64 >> unused != address as i64 {
            return Ok(None);
        }
        self.walk(table, levels, address, PRESENT)
    }

    /// `there` has a bit of an entry that is there.
    fn walk(
        &self,
        mut table: u64,
        levels: u32,
        address: u64,
        there: u64,
    ) -> Result<Option<Target>> {
        let mut allowed = READ | WRITE;
        for level in (1..=levels).rev() {
            let shift = 12 + 9 * (level - 1);
            let entry = self.word(table + 8 * (address >> shift & 0x1ff))?;
            allowed &= entry;
            if entry & there == 0 {
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

    /// Bus 2, in scalable mode: device 3, function 1 (in the lower half) has second-level tables of three levels; device 19,
    /// function 1 (in the upper half) has first-level ones of four; device 4 is not translated for.
    fn scalable() -> Image {
        let devfn = 3 << 3 | 1;
        let mut image = image();
        image.0.extend([
            (0x1_0000 + 16 * 2, 0x1_1000 | PRESENT),
            (0x1_0000 + 16 * 2 + 8, 0x1_2000 | PRESENT),
            (0x1_1000 + 32 * devfn, 0x1_3000 | PRESENT),
            // PASID 65: the second table of its directory, and the second entry of that.
            (0x1_1000 + 32 * devfn + 8, 65),
            (0x1_3000 + 8, 0x1_4000 | PRESENT),
            (0x1_4000 + 64, 0x3000 | SECOND_LEVEL << 6 | 1 << 2 | PRESENT),
            (0x1_2000 + 32 * (devfn & 0x7f), 0x1_5000 | PRESENT),
            (0x1_5000, 0x1_6000 | PRESENT),
            (0x1_6000, FIRST_LEVEL << 6 | PRESENT),
            (0x1_6000 + 16, 0x1_7000),
            (0x1_7000, 0x1_8000 | PRESENT | WRITE),
            (0x1_7000 + 8 * 511, 0x1_8000 | PRESENT | WRITE),
            (0x1_8000 + 8, 0x1_9000 | PRESENT | WRITE),
            (0x1_9000, 0x1_a000 | PRESENT | WRITE),
            (0x1_9000 + 8, 0x80_0000 | PRESENT | WRITE | LARGE),
            (0x1_a000 + 8 * 5, 0x7_7000 | PRESENT | WRITE),
            (0x1_a000 + 8 * 6, 0x7_8000 | PRESENT),
            (0x1_a000 + 8 * 7, 0x7_9000 | WRITE),
            (0x1_1000 + 32 * (4 << 3), 0x1_b000 | PRESENT),
            (0x1_b000, 0x1_c000 | PRESENT),
            (0x1_c000, NOT_AT_ALL << 6 | PRESENT),
            (0x1_1000 + 32 * (5 << 3), 0x1_d000 | PRESENT),
        ]);
        image
    }

    #[test]
    fn scalable_mode_is_walked() {
        let image = scalable();
        let tables = Tables::new(&image, 0x1_0400).unwrap();
        assert!(tables.scalable());
        let at = |device: &str, address| {
            let target = tables.at(device.parse().unwrap(), address).unwrap()?;
            Some((target.physical, target.read, target.write))
        };
        let gib = 1 << 30;
        let second = "0000:02:03.1";
        assert_eq!(at(second, gib + 0x5123), Some((0x7_7123, true, true)));
        assert_eq!(at(second, gib + 0x6000), Some((0x7_8000, false, true)));
        assert_eq!(at(second, gib + 0x7000), None);
        assert_eq!(at(second, 1 << 39), None);
        let first = "0000:02:13.1";
        assert_eq!(at(first, gib + 0x5123), Some((0x7_7123, true, true)));
        assert_eq!(at(first, gib + 0x6000), Some((0x7_8000, true, false)));
        // It may be written to, and is not there.
        assert_eq!(at(first, gib + 0x7000), None);
        let large = gib + 0x20_1234;
        assert_eq!(at(first, large), Some((0x80_1234, true, true)));
        assert_eq!(at(first, 0x5123), None);
        // The upper half of addresses, and one that is in neither.
        let upper = 511 << 39 | 0xffff << 48 | gib;
        assert_eq!(at(first, upper + 0x5000), Some((0x7_7000, true, true)));
        assert_eq!(at(first, upper & !(0xffff << 48)), None);
        assert_eq!(at("0000:02:04.0", 0x5123), Some((0x5123, true, true)));
        // No table of PASIDs, no context, no bus.
        for nothing in ["0000:02:05.0", "0000:02:06.0", "0000:01:00.0"] {
            assert_eq!(at(nothing, 0x5123), None, "{nothing}");
        }
    }

    #[test]
    fn what_is_not_known_is_said() {
        let image = image();
        assert!(Tables::new(&image, 0x1800).is_err());
        assert!(Tables::new(&image, 0x1c00).is_err());
        for wrong in ["", "0001:00:00.0", "0000:00:20.0", "0000:00:00.8"] {
            assert!(wrong.parse::<Requester>().is_err(), "{wrong}");
        }
    }
}
