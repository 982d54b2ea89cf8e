// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Checks of what a caller writes into a struct: its size, the memory wanted, a buffer's size, a name, a mode.

use super::{
    abi::{
        reason::{
            Reason,
            Refusal, //
        },
        wire::{
            sync,
            Cache,
            Direction,
            Kind,
            Method,
            ANY_NODE,
            MAX_STRUCT_SIZE,
            NAME_LEN,
            NEAR_DEVICE, //
        },
    },
    place::MAX_BUFFER_PAGES,
};

/// The least [`Placement::below`]: a page.
const LEAST_BELOW: u64 = 4096;
/// The most [`Placement::align_bits`].
const MOST_ALIGN_BITS: u32 = 40;

/// How many bytes of a struct are copied, when the caller says it is `given` bytes long, its first version had
/// `least` bytes and this driver's has `known`. The bytes between `known` and `given` must be zero.
///
/// # Errors
///
/// [`Reason::StructTooShort`], [`Reason::StructTooLong`].
pub fn struct_size(given: u32, least: u32, known: u32) -> Result<u32, Refusal> {
    if given < least {
        Err(Reason::StructTooShort.with(&[u64::from(given), u64::from(least)]))
    } else if given > MAX_STRUCT_SIZE {
        Err(Reason::StructTooLong.with(&[u64::from(given), u64::from(MAX_STRUCT_SIZE)]))
    } else {
        Ok(given.min(known))
    }
}

/// Checks that only `known` flags are set.
///
/// # Errors
///
/// [`Reason::UnknownFlags`].
pub fn flags(given: u32, known: u32) -> Result<(), Refusal> {
    if given & !known == 0 {
        Ok(())
    } else {
        Err(Reason::UnknownFlags.with(&[u64::from(given), u64::from(known)]))
    }
}

/// Checks that the reserved 64-bit words at byte `offset` of a struct are zero.
///
/// # Errors
///
/// [`Reason::ReservedNotZero`] with the byte offset of the first that is not.
pub fn reserved(words: &[u64], offset: usize) -> Result<(), Refusal> {
    match words.iter().position(|word| *word != 0) {
        None => Ok(()),
        Some(index) => Err(Reason::ReservedNotZero.with(&[(offset + 8 * index) as u64])),
    }
}

/// A NUMA node that memory is asked from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Node {
    /// Its number as the caller gave it, or [`ANY_NODE`].
    pub number: i32,
    /// The number that it stands for, where it is [`NEAR_DEVICE`].
    pub near: i32,
    /// There is such a node, and it has memory.
    pub has_memory: bool,
    /// The caller's cpuset allows memory from there.
    pub allowed: bool,
}

/// Checks the wanted memory: the numbers of its kind and cache mode, and the node.
///
/// # Errors
///
/// [`Reason::UnknownKind`], [`Reason::UnknownCache`], [`Reason::KindNotHere`], [`Reason::CoherentIsCached`],
/// [`Reason::NoSuchNode`], [`Reason::NodeOfDevice`], [`Reason::NodeNotAllowed`].
pub fn memory(kind: u32, cache: u32, node: Node) -> Result<(Kind, Cache), Refusal> {
    let no_kind = Reason::UnknownKind.with(&[u64::from(kind)]);
    let no_cache = Reason::UnknownCache.with(&[u64::from(cache)]);
    let kind = Kind::from_number(kind).ok_or(no_kind)?;
    let cache = Cache::from_number(cache).ok_or(no_cache)?;
    available(kind, cache)?;
    if node.number != ANY_NODE && node.number != NEAR_DEVICE {
        // As the caller wrote it, negative numbers too.
        let operands = [i64::from(node.number) as u64];
        if !node.has_memory {
            return Err(Reason::NoSuchNode.with(&operands));
        }
        if matches!(kind, Kind::Coherent) {
            return Err(Reason::NodeOfDevice.with(&operands));
        }
        if !node.allowed {
            return Err(Reason::NodeNotAllowed.with(&operands));
        }
    }
    // Coherent memory is near its device where that may be, and elsewhere in the cpuset where not.
    let near = node.number == NEAR_DEVICE && node.has_memory && kind != Kind::Coherent;
    if near && !node.allowed {
        return Err(Reason::NodeNotAllowed.with(&[i64::from(node.near) as u64]));
    }
    Ok((kind, cache))
}

/// Checks that memory of this kind is available with this cache mode.
///
/// # Errors
///
/// [`Reason::KindNotHere`] for a region, which is named when the module is loaded, and for another driver's dma-buf. [`Reason::CoherentIsCached`]: the only
/// machines that the driver is built for are cache-coherent. `dma_pgprot` of `kernel/dma/mapping.c` then leaves the
/// cache mode as it is; from 7.3 on it settles, for such devices too, whether the memory is encrypted.
pub fn available(kind: Kind, cache: Cache) -> Result<(), Refusal> {
    let number = u64::from(kind.number());
    match (kind, cache) {
        (Kind::Region | Kind::Foreign, _) => Err(Reason::KindNotHere.with(&[number])),
        (Kind::Coherent, Cache::WriteCombined | Cache::Uncached) => {
            Err(Reason::CoherentIsCached.with(&[number, u64::from(cache.number())]))
        }
        _ => Ok(()),
    }
}

/// The method with this number.
///
/// # Errors
///
/// [`Reason::UnknownMethod`].
pub fn method(number: u32) -> Result<Method, Refusal> {
    Method::from_number(number).ok_or(Reason::UnknownMethod.with(&[u64::from(number)]))
}

/// Where memory must lie.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Placement {
    /// All addresses are below this one; 0: any.
    pub below: u64,
    /// Low bits of the first address that are 0.
    pub align_bits: u32,
    /// No run crosses a multiple of 2 to this power; 0: it may.
    pub boundary_bits: u32,
}

impl Placement {
    /// Anywhere.
    pub const ANYWHERE: Self = Self {
        below: 0,
        align_bits: 0,
        boundary_bits: 0,
    };

    /// Checks what a caller asks for; `offset` is where it lies in the struct.
    ///
    /// # Errors
    ///
    /// [`Reason::PlacementInvalid`].
    pub fn check(self, offset: usize) -> Result<Self, Refusal> {
        let invalid = |at: usize, value: u64| {
            Err(Reason::PlacementInvalid.with(&[(offset + at) as u64, value]))
        };
        if self.below != 0 && self.below < LEAST_BELOW {
            return invalid(0, self.below);
        }
        if self.align_bits > MOST_ALIGN_BITS {
            return invalid(8, u64::from(self.align_bits));
        }
        if self.boundary_bits != 0 && !(12..=63).contains(&self.boundary_bits) {
            return invalid(12, u64::from(self.boundary_bits));
        }
        Ok(self)
    }

    /// Whether a run lies as it must; `first`: it is the first one.
    pub fn keeps(&self, first: bool, address: u64, length: u64) -> bool {
        let Some(last) = length
            .checked_sub(1)
            .and_then(|more| address.checked_add(more))
        else {
            return false;
        };
        let below = self.below == 0 || last < self.below;
        let aligned = !first || address.trailing_zeros() >= self.align_bits;
        let bits = self.boundary_bits;
        let within = bits == 0 || address >> bits == last >> bits;
        below && aligned && within
    }

    /// The refusal where there is no such memory.
    pub fn refused(&self, bytes: u64) -> Refusal {
        let bits = [self.align_bits, self.boundary_bits].map(u64::from);
        Reason::PlacementRefused.with(&[bytes, self.below, bits[0], bits[1]])
    }
}

/// The direction with this number.
///
/// # Errors
///
/// [`Reason::UnknownDirection`].
pub fn direction(number: u32) -> Result<Direction, Refusal> {
    Direction::from_number(number).ok_or(Reason::UnknownDirection.with(&[u64::from(number)]))
}

/// Whether a sync with these flags gives bytes to the CPU, rather than to the device.
///
/// # Errors
///
/// [`Reason::SyncPhase`].
pub fn phase(flags: u32) -> Result<bool, Refusal> {
    match flags {
        sync::BEGIN => Ok(true),
        sync::END => Ok(false),
        _ => Err(Reason::SyncPhase.with(&[u64::from(flags)])),
    }
}

/// The pages of a buffer of `bytes` bytes.
///
/// # Errors
///
/// [`Reason::ZeroBytes`], [`Reason::TooManyBytes`].
pub fn buffer_pages(bytes: u64, page_size: u64) -> Result<u64, Refusal> {
    match bytes.div_ceil(page_size) {
        0 => Err(Reason::ZeroBytes.into()),
        pages if pages <= MAX_BUFFER_PAGES => Ok(pages),
        _ => Err(Reason::TooManyBytes.with(&[bytes, MAX_BUFFER_PAGES.saturating_mul(page_size)])),
    }
}

/// The bytes of a name: `[A-Za-z0-9_][A-Za-z0-9._-]{0,63}`, padded with zeros.
///
/// # Errors
///
/// [`Reason::NameInvalid`] with the position and the byte.
pub fn name(field: &[u8; NAME_LEN]) -> Result<&[u8], Refusal> {
    let length = field.iter().position(|byte| *byte == 0).unwrap_or(NAME_LEN);
    let (name, padding) = field.split_at(length);
    let invalid = |at: usize, byte: u8| Reason::NameInvalid.with(&[at as u64, u64::from(byte)]);
    if name.is_empty() {
        return Err(invalid(NAME_LEN, 0));
    }
    for (at, &byte) in name.iter().enumerate() {
        let word = byte.is_ascii_alphanumeric() || byte == b'_';
        if !word && (at == 0 || !matches!(byte, b'.' | b'-')) {
            return Err(invalid(at, byte));
        }
    }
    match padding.iter().position(|byte| *byte != 0) {
        None => Ok(name),
        Some(after) => Err(invalid(length, padding.get(after).copied().unwrap_or(0))),
    }
}

/// Checks that `mode` sets only read and write permissions.
///
/// # Errors
///
/// [`Reason::ModeInvalid`].
pub fn mode(mode: u32) -> Result<u16, Refusal> {
    u16::try_from(mode)
        .ok()
        .filter(|mode| mode & !0o666 == 0)
        .ok_or(Reason::ModeInvalid.with(&[u64::from(mode)]))
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use proptest::prelude::*;

    fn field(text: &[u8]) -> [u8; NAME_LEN] {
        let mut field = [0; NAME_LEN];
        field[..text.len()].copy_from_slice(text);
        field
    }

    #[test]
    fn placement() {
        let placement = |below, align_bits, boundary_bits| Placement {
            below,
            align_bits,
            boundary_bits,
        };
        for (given, at, value) in [
            (placement(4095, 0, 0), 40, 4095),
            (placement(0, 41, 0), 48, 41),
            (placement(0, 0, 11), 52, 11),
            (placement(0, 0, 64), 52, 64),
        ] {
            let refusal = given.check(40).unwrap_err();
            assert_eq!(refusal.operands[..2], [at, value]);
        }
        let wish = placement(1 << 28, 16, 20).check(40).unwrap();
        assert!(wish.keeps(true, 0x10000, 0xf_0000));
        assert!(!wish.keeps(true, 0x11000, 0x1000));
        assert!(wish.keeps(false, 0x11000, 0x1000));
        assert!(!wish.keeps(true, 0xf_0000, 0x1_1000));
        assert!(wish.keeps(true, 0xfff_0000, 0x1_0000));
        assert!(!wish.keeps(true, 0xfff_0000, 0x1_0001));
        assert!(!wish.keeps(true, 0, 0));
        assert!(!Placement::ANYWHERE.keeps(true, u64::MAX, 2));
        assert!(Placement::ANYWHERE.keeps(true, u64::MAX, 1));
    }

    #[test]
    fn a_sync_has_one_phase() {
        assert_eq!(phase(sync::BEGIN), Ok(true));
        assert_eq!(phase(sync::END), Ok(false));
        for flags in [0, sync::BEGIN | sync::END] {
            assert_eq!(phase(flags).unwrap_err().reason, Reason::SyncPhase);
        }
        assert_eq!(direction(2), Ok(Direction::FromDevice));
        assert_eq!(direction(4).unwrap_err().operands[0], 4);
    }

    #[test]
    fn names() {
        assert_eq!(name(&field(b"ring.0-a_B")), Ok(&b"ring.0-a_B"[..]));
        assert_eq!(name(&[b'x'; NAME_LEN]), Ok(&[b'x'; NAME_LEN][..]));
        assert_eq!(name(&field(b"")).unwrap_err().operands[..2], [64, 0]);
        assert_eq!(
            name(&field(b".hidden")).unwrap_err().operands[..2],
            [0, 0x2e]
        );
        assert_eq!(name(&field(b"-x")).unwrap_err().operands[..2], [0, 0x2d]);
        assert_eq!(name(&field(b"a/b")).unwrap_err().operands[..2], [1, 0x2f]);
        assert_eq!(name(&field(b"a\0b")).unwrap_err().operands[..2], [1, 0x62]);
        assert_eq!(name(&field(b"\xff")).unwrap_err().operands[..2], [0, 0xff]);
    }

    #[test]
    fn struct_sizes() {
        assert_eq!(struct_size(64, 64, 64), Ok(64));
        assert_eq!(struct_size(72, 64, 64), Ok(64));
        assert_eq!(struct_size(64, 64, 72), Ok(64));
        assert_eq!(struct_size(4096, 64, 72), Ok(72));
        assert_eq!(
            struct_size(63, 64, 64).unwrap_err().reason,
            Reason::StructTooShort
        );
        assert_eq!(
            struct_size(4097, 64, 64).unwrap_err().reason,
            Reason::StructTooLong
        );
    }

    #[test]
    fn reserved_words_are_named() {
        assert_eq!(reserved(&[0, 0, 0], 40), Ok(()));
        assert_eq!(reserved(&[0, 0, 1], 40).unwrap_err().operands[0], 56);
        assert_eq!(flags(3, 3), Ok(()));
        assert_eq!(flags(4, 3).unwrap_err().reason, Reason::UnknownFlags);
    }

    #[test]
    fn memory_is_what_there_is() {
        // Nodes 0 and 1 have memory, and the cpuset is of node 0.
        let asked = |kind, cache, number| {
            let node = Node {
                number,
                near: number,
                has_memory: number == 0 || number == 1,
                allowed: number == 0,
            };
            memory(kind, cache, node)
        };
        let near = |kind, near| {
            let node = Node {
                number: NEAR_DEVICE,
                near,
                has_memory: near >= 0,
                allowed: near == 0,
            };
            memory(kind, 0, node)
        };
        // A device may have no node.
        for node in [0, -1] {
            assert_eq!(near(2, node), Ok((Kind::Pages, Cache::Cached)));
        }
        assert_eq!(near(2, 1), Err(Reason::NodeNotAllowed.with(&[1])));
        assert_eq!(near(4, 1), Ok((Kind::Coherent, Cache::Cached)));
        assert_eq!(
            asked(2, 1, ANY_NODE),
            Ok((Kind::Pages, Cache::WriteCombined))
        );
        assert_eq!(asked(4, 0, ANY_NODE), Ok((Kind::Coherent, Cache::Cached)));
        assert_eq!(asked(3, 2, 0), Ok((Kind::Contiguous, Cache::Uncached)));
        let refused = |kind, cache, node| asked(kind, cache, node).unwrap_err();
        assert_eq!(refused(0, 0, ANY_NODE), Reason::UnknownKind.with(&[0]));
        assert_eq!(refused(1, 3, ANY_NODE), Reason::UnknownCache.with(&[3]));
        assert_eq!(refused(5, 0, ANY_NODE), Reason::KindNotHere.with(&[5]));
        for cache in [1, 2] {
            let expected = Reason::CoherentIsCached.with(&[4, u64::from(cache)]);
            assert_eq!(refused(4, cache, ANY_NODE), expected);
        }
        assert_eq!(refused(1, 0, 7), Reason::NoSuchNode.with(&[7]));
        assert_eq!(refused(1, 0, -7), Reason::NoSuchNode.with(&[-7_i64 as u64]));
        assert_eq!(refused(4, 0, 7), Reason::NoSuchNode.with(&[7]));
        assert_eq!(refused(4, 0, 0), Reason::NodeOfDevice.with(&[0]));
        assert_eq!(refused(1, 0, 1), Reason::NodeNotAllowed.with(&[1]));
        assert_eq!(refused(4, 0, 1), Reason::NodeOfDevice.with(&[1]));
    }

    #[test]
    fn methods() {
        for &known in Method::ALL {
            assert_eq!(method(known.number()), Ok(known));
        }
        assert_eq!(method(99), Err(Reason::UnknownMethod.with(&[99])));
    }

    #[test]
    fn modes() {
        assert_eq!(mode(0o660), Ok(0o660));
        for bad in [0o770, 0o1660, 0o10660, 0x10000] {
            assert_eq!(mode(bad).unwrap_err().operands[0], u64::from(bad));
        }
    }

    proptest! {
        #[test]
        fn pages_cover_the_bytes(bytes: u64) {
            match buffer_pages(bytes, 4096) {
                Ok(pages) => {
                    prop_assert!(pages * 4096 >= bytes && (pages - 1) * 4096 < bytes);
                }
                Err(refusal) => prop_assert!(
                    bytes == 0 && refusal.reason == Reason::ZeroBytes
                        || bytes > MAX_BUFFER_PAGES * 4096 && refusal.reason == Reason::TooManyBytes
                ),
            }
        }

        #[test]
        fn a_name_that_passes_is_safe_in_a_path(bytes: [u8; 32]) {
            let mut raw = [0; NAME_LEN];
            raw[..32].copy_from_slice(&bytes);
            if let Ok(name) = name(&raw) {
                prop_assert!(!name.is_empty() && name != b"." && name != b"..");
                prop_assert!(!name.contains(&b'/') && !name.contains(&b'!') && !name.contains(&0));
            }
        }
    }
}
