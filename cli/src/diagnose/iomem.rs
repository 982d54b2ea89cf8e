//! `/proc/iomem`: what is known of physical addresses.

use super::physical::Sight;
use std::fs;

/// The lines of `/proc/iomem`.
#[derive(Debug, Default)]
pub struct Iomem {
    ranges: Vec<(u64, u64, String)>,
    /// Addresses that were read.
    seen: Vec<(u64, Sight)>,
}

impl Iomem {
    /// What this machine has. Without the privilege all addresses read 0, and nothing is known.
    pub fn read() -> Self {
        Self::of(&fs::read_to_string("/proc/iomem").unwrap_or_default())
    }

    /// The same, from its text.
    pub fn of(text: &str) -> Self {
        let ranges: Vec<_> = text
            .lines()
            .filter_map(|line| {
                let (range, name) = line.trim_start().split_once(" : ")?;
                let (start, end) = range.split_once('-')?;
                let number = |digits| u64::from_str_radix(digits, 16).ok();
                Some((number(start)?, number(end)?, name.to_owned()))
            })
            .filter(|(_, end, _)| *end > 0)
            .collect();
        Self {
            ranges,
            seen: Vec::new(),
        }
    }

    /// Whether it is memory that the kernel uses.
    pub fn is_ram(&self, address: u64) -> bool {
        self.ranges
            .iter()
            .any(|(start, end, name)| name == "System RAM" && (*start..=*end).contains(&address))
    }

    /// Whether no line has anything to do with this range.
    pub fn is_unknown(&self, address: u64, length: u64) -> bool {
        let last = address.saturating_add(length.max(1) - 1);
        !self.ranges.is_empty()
            && !self
                .ranges
                .iter()
                .any(|(start, end, _)| *start <= last && address <= *end)
    }

    /// The innermost name of an address.
    pub fn name(&self, address: u64) -> Option<&str> {
        let mut inside = self.ranges.iter().rev();
        inside
            .find(|(start, end, _)| (*start..=*end).contains(&address))
            .map(|(_, _, name)| name.as_str())
    }
}

impl Iomem {
    /// Whether anything is known: without the privilege nothing is.
    pub fn can_see(&self) -> bool {
        !self.ranges.is_empty()
    }

    /// The names of all ranges that lie within this one, the outer ones first.
    pub fn names_within(&self, first: u64, last: u64) -> Vec<&str> {
        self.ranges
            .iter()
            .filter(|(start, end, _)| first <= *start && *end <= last)
            .map(|(_, _, name)| name.as_str())
            .collect()
    }

    /// Keeps what reading showed.
    pub fn saw(&mut self, address: u64, sight: Sight) {
        self.seen.push((address, sight));
    }

    /// What reading a range from there on showed, if it was read.
    pub fn sight(&self, address: u64) -> Option<Sight> {
        let mut seen = self.seen.iter();
        seen.find(|(at, _)| *at == address).map(|(_, sight)| *sight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_told_apart() {
        let iomem = Iomem::of(
            "00001000-0009ffff : System RAM\n  00002000-00002fff : Kernel\nfe000000-fe0fffff : x\n",
        );
        assert!(iomem.is_ram(0x1000) && !iomem.is_ram(0xfe00_0000));
        assert!(iomem.is_unknown(0xa0000, 4096) && !iomem.is_unknown(0x9f000, 0x2000));
        assert_eq!(iomem.name(0x2004), Some("Kernel"));
        assert!(!Iomem::of("00000000-00000000 : System RAM\n").is_unknown(0x1000, 1));
    }
}
