// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Regions: how reserved physical ranges are declared when the module loads, and what a probe of one
//! finds out.
//!
//! A declaration is `NAME:START:SIZE:ram|mmio`, and then in any order `cached`, `wc` or `uc` (RAM is
//! cached and device memory uncached unless said otherwise), the access width of the kernel's own view
//! of uncached memory in bits (`8`, `16`, `32`, `64`; 32 unless said otherwise), `probe` (write a
//! pattern and restore what was there, to settle whether there is memory) and `trust` (do not probe, and
//! map it whatever it is). Several declarations are separated by commas. Numbers are decimal or `0x…`,
//! with `K`, `M`, `G` or `T` behind them.

use super::{
    abi::{
        reason::{
            Reason,
            Refusal, //
        },
        wire::{
            Cache,
            RegionState,
            RegionType,
            NAME_LEN, //
        },
    },
    request,
};

/// What a declaration says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Declared {
    /// Its name, padded with zeros.
    pub name: [u8; NAME_LEN],
    /// Physical address of its first byte, a multiple of the page size.
    pub start: u64,
    /// Bytes in it, whole pages.
    pub bytes: u64,
    /// Memory or a device.
    pub class: RegionType,
    /// The cache mode of every view of it.
    pub cache: Cache,
    /// The width in bits of the kernel's own accesses, where its view is uncached.
    pub width: u32,
    /// Settle by writing whether there is memory.
    pub write_probe: bool,
    /// Do not probe, and map it whatever it is.
    pub trust: bool,
}

impl Declared {
    /// Whether it is probed when it is registered, and if so, whether by writing too. A device is never touched
    /// unasked: a read can hang a bus or take data out of a queue.
    pub const fn probed_at_once(&self) -> Option<bool> {
        match self.class {
            RegionType::Ram if !self.trust => Some(self.write_probe),
            _ => None,
        }
    }

    /// Whether mappings are refused in this state.
    pub const fn refuses(&self, state: RegionState) -> bool {
        !self.trust && matches!(state, RegionState::Unbacked)
    }
}

/// A probe that somebody asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Asked {
    /// By writing too.
    pub write: bool,
    /// The caller knows the risk.
    pub risk: bool,
}

impl Asked {
    /// Checks that a region of this type, with this many mappings, may be probed in this way.
    ///
    /// # Errors
    ///
    /// [`Reason::ProbeWritesDevice`], [`Reason::ProbeIsRisky`], [`Reason::ProbeWhileMapped`].
    pub fn allowed(self, class: RegionType, mappings: u32) -> Result<(), Refusal> {
        match class {
            RegionType::Mmio if self.write => Err(Reason::ProbeWritesDevice.into()),
            RegionType::Mmio if !self.risk => Err(Reason::ProbeIsRisky.into()),
            _ if self.write && mappings > 0 => {
                Err(Reason::ProbeWhileMapped.with(&[u64::from(mappings)]))
            }
            _ => Ok(()),
        }
    }
}

/// The state after a probe. `kept` says whether the patterns stayed, if the probe wrote any; `known` is the state
/// before.
pub fn settled(kept: Option<bool>, sample: &Sample, known: RegionState) -> RegionState {
    match (kept, known) {
        (Some(true), _) => RegionState::Backed,
        (Some(false), _) => RegionState::Unbacked,
        // Reading does not overrule the result of writing.
        (None, RegionState::Backed | RegionState::Unbacked) => known,
        (None, _) => sample.state(),
    }
}

/// Why a declaration cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Malformed {
    /// The byte offset of the wrong part in the whole text.
    pub at: usize,
    /// What was expected there.
    pub expected: &'static str,
}

/// Reads declarations one after the other.
pub fn declarations(
    text: &str,
    page_size: u64,
) -> impl Iterator<Item = Result<Declared, Malformed>> + '_ {
    let mut at = 0;
    text.split(',').filter_map(move |part| {
        let here = at;
        at += part.len() + 1;
        (!part.is_empty()).then(|| declaration(part, here, page_size))
    })
}

fn declaration(text: &str, at: usize, page_size: u64) -> Result<Declared, Malformed> {
    let mut place = at;
    let mut fields = text.split(':').map(|field| {
        let here = place;
        place += field.len() + 1;
        (here, field)
    });
    let mut next = |expected| {
        fields.next().ok_or(Malformed {
            at: at + text.len(),
            expected,
        })
    };

    let (here, field) = next("a name")?;
    let wrong = |at, expected| Malformed { at, expected };
    let name = name(field).ok_or(wrong(
        here,
        "a name of 1 to 64 letters, digits, '_', '.', '-'",
    ))?;
    let (here, field) = next("the start address")?;
    let aligned = |value: &u64| value.checked_rem(page_size) == Some(0);
    let start = number(field)
        .filter(aligned)
        .ok_or(wrong(here, "a start address, a multiple of the page size"))?;
    let (here, field) = next("the size")?;
    let bytes = number(field)
        .filter(|bytes| aligned(bytes) && *bytes > 0 && start.checked_add(*bytes).is_some())
        .ok_or(wrong(
            here,
            "a size, whole pages that end within the address space",
        ))?;
    let (here, field) = next("'ram' or 'mmio'")?;
    let class = RegionType::from_name(field).ok_or(wrong(here, "'ram' or 'mmio'"))?;

    let mut declared = Declared {
        name,
        start,
        bytes,
        class,
        cache: match class {
            RegionType::Ram => Cache::Cached,
            RegionType::Mmio => Cache::Uncached,
        },
        width: 32,
        write_probe: false,
        trust: false,
    };
    for (here, field) in fields {
        match field {
            "cached" if class == RegionType::Ram => declared.cache = Cache::Cached,
            "cached" => return Err(wrong(here, "'wc' or 'uc': device memory is never cached")),
            "wc" => declared.cache = Cache::WriteCombined,
            "uc" => declared.cache = Cache::Uncached,
            "8" => declared.width = 8,
            "16" => declared.width = 16,
            "32" => declared.width = 32,
            "64" => declared.width = 64,
            "probe" if class == RegionType::Ram => declared.write_probe = true,
            "probe" => {
                return Err(wrong(
                    here,
                    "no 'probe': a device is never written to on its own",
                ))
            }
            "trust" => declared.trust = true,
            _ => {
                return Err(wrong(
                    here,
                    "'cached', 'wc', 'uc', '8', '16', '32', '64', 'probe' or 'trust'",
                ))
            }
        }
    }
    Ok(declared)
}

fn name(text: &str) -> Option<[u8; NAME_LEN]> {
    let mut field = [0; NAME_LEN];
    field
        .get_mut(..text.len())?
        .copy_from_slice(text.as_bytes());
    request::name(&field).is_ok().then_some(field)
}

/// A number, decimal or `0x…`, with `K`, `M`, `G` or `T` behind it.
fn number(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' | b'k' => (text.get(..text.len() - 1)?, 10),
        b'M' | b'm' => (text.get(..text.len() - 1)?, 20),
        b'G' | b'g' => (text.get(..text.len() - 1)?, 30),
        b'T' | b't' => (text.get(..text.len() - 1)?, 40),
        _ => (text, 0),
    };
    let value = match digits
        .strip_prefix("0x")
        .or_else(|| digits.strip_prefix("0X"))
    {
        // `from_str_radix` takes a sign.
        Some(hex) if !hex.starts_with('+') => u64::from_str_radix(hex, 16).ok()?,
        None if !digits.starts_with('+') => digits.parse().ok()?,
        _ => return None,
    };
    value.checked_mul(1 << shift)
}

/// What was read from a range.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sample {
    /// Words of nothing but ones.
    pub ones: u64,
    /// Words of nothing but zeros.
    pub zeros: u64,
    /// Other words.
    pub others: u64,
}

impl Sample {
    /// Adds a word of `width` bits.
    pub fn add(&mut self, word: u64, width: u32) {
        let all = match 1u64.checked_shl(width) {
            Some(end) if width < 64 => end - 1,
            _ => u64::MAX,
        };
        let count = match word & all {
            0 => &mut self.zeros,
            word if word == all => &mut self.ones,
            _ => &mut self.others,
        };
        *count = count.saturating_add(1);
    }

    /// The state by reading alone: nothing but ones, or nothing but zeros, is suspect.
    pub fn state(&self) -> RegionState {
        match self {
            Sample {
                ones: 0,
                zeros: 0,
                others: 0,
            } => RegionState::Unprobed,
            Sample {
                ones: 1..,
                zeros: 0,
                others: 0,
            } => RegionState::ReadsOnes,
            Sample {
                ones: 0,
                zeros: 1..,
                others: 0,
            } => RegionState::ReadsZeros,
            _ => RegionState::Answers,
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn all(text: &str) -> Vec<Result<Declared, Malformed>> {
        declarations(text, 4096).collect()
    }

    fn one(text: &str) -> Result<Declared, Malformed> {
        let all = all(text);
        assert_eq!(all.len(), 1, "{text}");
        all[0]
    }

    #[test]
    fn declarations_are_read() {
        let ring = one("ring:0x40000000:2M:ram").unwrap();
        assert_eq!(&ring.name[..5], b"ring\0");
        assert_eq!((ring.start, ring.bytes), (0x4000_0000, 2 << 20));
        assert_eq!((ring.class, ring.cache), (RegionType::Ram, Cache::Cached));
        assert!(!ring.write_probe && !ring.trust);
        let regs = one("regs:0xfeb00000:4K:mmio:16").unwrap();
        assert_eq!((regs.cache, regs.width), (Cache::Uncached, 16));
        let wc = one("fb:1G:8192:ram:wc:probe").unwrap();
        assert!(wc.write_probe && wc.cache == Cache::WriteCombined);
        assert!(one("x:0:4096:ram:trust").unwrap().trust);
        assert_eq!(all("a:0:4K:ram,,b:4K:4K:mmio").len(), 2);
        assert!(all("").is_empty());
    }

    #[test]
    fn malformed_ones_say_where() {
        let at = |text| one(text).unwrap_err().at;
        assert_eq!(at("ring"), 4);
        assert_eq!(at("-x:0:4K:ram"), 0);
        assert_eq!(at("ring:12:4K:ram"), 5);
        assert_eq!(at("ring:+4096:4K:ram"), 5);
        assert_eq!(at("ring:0:0:ram"), 7);
        assert_eq!(at("ring:0xfffffffffffff000:8K:ram"), 24);
        assert_eq!(at("ring:0:4K:rom"), 10);
        assert_eq!(at("ring:0:4K:mmio:cached"), 15);
        assert_eq!(at("ring:0:4K:mmio:probe"), 15);
        assert_eq!(at("ring:0:4K:ram:12"), 14);
        // A region of RAM has no pages.
        assert_eq!(at("ring:0:4K:ram:pages"), 14);
        let second = all("a:0:4K:ram,b:0:4K:x");
        assert_eq!(second[1].unwrap_err().at, 18);
    }

    #[test]
    fn devices_are_left_alone() {
        let (device, memory) = (RegionType::Mmio, RegionType::Ram);
        let asked = |write, risk| Asked { write, risk };
        assert_eq!(asked(false, true).allowed(device, 3), Ok(()));
        for risk in [false, true] {
            let expected = Err(Reason::ProbeWritesDevice.into());
            assert_eq!(asked(true, risk).allowed(device, 0), expected);
            assert_eq!(asked(true, risk).allowed(memory, 0), Ok(()));
            assert_eq!(asked(false, risk).allowed(memory, 3), Ok(()));
            let expected = Err(Reason::ProbeWhileMapped.with(&[3]));
            assert_eq!(asked(true, risk).allowed(memory, 3), expected);
        }
        let expected = Err(Reason::ProbeIsRisky.into());
        assert_eq!(asked(false, false).allowed(device, 0), expected);
        assert_eq!(one("x:0:4K:mmio").unwrap().probed_at_once(), None);
        assert_eq!(one("x:0:4K:ram").unwrap().probed_at_once(), Some(false));
        assert_eq!(
            one("x:0:4K:ram:probe").unwrap().probed_at_once(),
            Some(true)
        );
        assert_eq!(one("x:0:4K:ram:trust").unwrap().probed_at_once(), None);
    }

    #[test]
    fn writing_settles() {
        let zeros = Sample {
            zeros: 9,
            ..Sample::default()
        };
        let after = |kept, known| settled(kept, &zeros, known);
        for known in [
            RegionState::Unprobed,
            RegionState::Backed,
            RegionState::Unbacked,
        ] {
            assert_eq!(after(Some(true), known), RegionState::Backed);
            assert_eq!(after(Some(false), known), RegionState::Unbacked);
        }
        assert_eq!(after(None, RegionState::Backed), RegionState::Backed);
        assert_eq!(after(None, RegionState::Unbacked), RegionState::Unbacked);
        assert_eq!(after(None, RegionState::Answers), RegionState::ReadsZeros);
        let declared = one("x:0:4K:ram").unwrap();
        assert!(declared.refuses(RegionState::Unbacked));
        // Suspect is not settled.
        assert!(!declared.refuses(RegionState::ReadsZeros));
        assert!(!one("x:0:4K:ram:trust")
            .unwrap()
            .refuses(RegionState::Unbacked));
    }

    #[test]
    fn samples() {
        let state = |words: &[u64], width| {
            let mut sample = Sample::default();
            words.iter().for_each(|word| sample.add(*word, width));
            sample.state()
        };
        assert_eq!(state(&[], 32), RegionState::Unprobed);
        assert_eq!(state(&[0xffff_ffff; 3], 32), RegionState::ReadsOnes);
        assert_eq!(state(&[0xff; 3], 8), RegionState::ReadsOnes);
        assert_eq!(state(&[u64::MAX; 3], 64), RegionState::ReadsOnes);
        assert_eq!(state(&[0xffff_ffff; 3], 64), RegionState::Answers);
        assert_eq!(state(&[0; 3], 32), RegionState::ReadsZeros);
        assert_eq!(state(&[0, 0xff], 8), RegionState::Answers);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,80}") {
            for declared in declarations(&text, 4096) {
                match declared {
                    Ok(declared) => prop_assert!(
                        declared.start % 4096 == 0
                            && declared.bytes > 0
                            && declared.start.checked_add(declared.bytes).is_some()
                    ),
                    Err(malformed) => prop_assert!(malformed.at <= text.len()),
                }
            }
        }
    }
}
