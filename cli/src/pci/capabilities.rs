//! What a device's configuration space says of its interrupts.

use serde::Serialize;
use std::fmt;

/// The kinds of interrupts that a device has. Without permission to read all of the configuration space (root's), only the
/// pin is known.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Interrupts {
    /// Entries of its MSI-X table.
    pub msix: Option<u32>,
    /// Messages that it can tell apart by MSI.
    pub msi: Option<u32>,
    /// Whether it has a pin.
    pub intx: bool,
}

const STATUS: usize = 0x06;
const HAS_LIST: u8 = 0x10;
const LIST: usize = 0x34;
const PIN: usize = 0x3d;
const MSI: u8 = 0x05;
const MSIX: u8 = 0x11;
/// There is no room for more capabilities (`PCI_FIND_CAP_TTL` of `drivers/pci/pci.h`).
const MOST: usize = 48;

impl Interrupts {
    /// Reads them out of a configuration space, or as much as there is of it.
    pub fn of(config: &[u8]) -> Self {
        let byte = |at: usize| config.get(at).copied().unwrap_or(0);
        let word = |at: usize| u32::from(byte(at)) | u32::from(byte(at + 1)) << 8;
        let mut found = Self {
            intx: byte(PIN) != 0,
            ..Self::default()
        };
        if byte(STATUS) & HAS_LIST == 0 {
            return found;
        }
        let mut at = usize::from(byte(LIST) & !3);
        for _ in 0..MOST {
            if at == 0 {
                break;
            }
            match byte(at) {
                MSI => found.msi = Some(1 << (word(at + 2) >> 1 & 7).min(5)),
                MSIX => found.msix = Some((word(at + 2) & 0x7ff) + 1),
                _ => {}
            }
            at = usize::from(byte(at + 1) & !3);
        }
        found
    }
}

impl fmt::Display for Interrupts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        words.extend(self.msix.map(|count| format!("{count} MSI-X")));
        words.extend(self.msi.map(|count| format!("{count} MSI")));
        words.extend(self.intx.then(|| "INTx".to_owned()));
        match words.is_empty() {
            true => f.write_str("none"),
            false => f.write_str(&words.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_found() {
        let mut config = [0; 256];
        config[STATUS] = HAS_LIST;
        config[LIST] = 0x40;
        config[PIN] = 1;
        // MSI with four messages, then one that is not of interest, then MSI-X with 65 entries.
        config[0x40..0x44].copy_from_slice(&[MSI, 0x60, 0b100, 0]);
        config[0x60..0x62].copy_from_slice(&[0x10, 0x80]);
        config[0x80..0x84].copy_from_slice(&[MSIX, 0, 64, 0x80]);
        let found = Interrupts::of(&config);
        assert_eq!(found.to_string(), "65 MSI-X, 4 MSI, INTx");
        // Not root: the first 64 bytes.
        assert_eq!(Interrupts::of(&config[..64]).to_string(), "INTx");
        assert_eq!(Interrupts::of(&[]).to_string(), "none");
    }

    #[test]
    fn a_list_that_bites_its_tail_ends() {
        let mut config = [0; 256];
        config[STATUS] = HAS_LIST;
        config[LIST] = 0x40;
        config[0x41] = 0x40;
        assert_eq!(Interrupts::of(&config), Interrupts::default());
    }
}
