// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The configuration space of a PCI device: what may be read of it, and which bits may be written.
//!
//! All of it is readable. Writable is what VFIO lets through to a device (`drivers/vfio/pci/vfio_pci_config.c`), as far as
//! nobody else answers for it. VFIO shows a program a made-up value of some fields, and does something else when they are
//! written; here the program sees the device's own, and a write is refused:
//!
//! * the command register's bits for memory, ports and INTx: the BARs stay mapped, and `IRQ` masks;
//! * the power state, function-level reset, payload and read request sizes, vital product data: the kernel's;
//! * BARs and message-signalled interrupts: the kernel's, also where VFIO lets the mask bits through;
//! * what lies between the capabilities, which VFIO passes through unseen.

use super::abi::reason::{
    Reason,
    Refusal, //
};

/// Bytes of the part of the space that every device has.
const CONVENTIONAL: u32 = 256;
/// Command and status.
const COMMAND: u32 = 0x04;
/// Bus master, special cycles, write and invalidate, parity, SERR, fast back-to-back.
const COMMAND_BITS: u32 = 0x035c;
/// There is a list of capabilities, as the status says.
const HAS_LIST: u32 = 1 << 20;
/// Cache line size, latency timer, header type, built-in self-test.
const TIMERS: u32 = 0x0c;
/// Those without the header's type.
const TIMERS_BITS: u32 = 0xff00_ffff;
/// Where the list of capabilities begins.
const LIST: u32 = 0x34;
/// The first byte where a capability can be.
const FIRST: u32 = 0x40;
/// Capabilities that the list can have at most: each has 4 bytes at least.
const MOST: u32 = (CONVENTIONAL - FIRST) / 4;
const MOST_EXTENDED: u32 = (4096 - CONVENTIONAL) / 8;

/// Bits of a word of 32 bits, as in the space.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Bits {
    /// They may be written.
    write: u32,
    /// They may not, and a one clears them, so that they are written as zeros.
    clear: u32,
}

impl Bits {
    const fn write(write: u32) -> Self {
        Self { write, clear: 0 }
    }
}

/// A write that changes nothing but what may be changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Write {
    /// First byte, a multiple of `width`.
    pub offset: u32,
    /// Bytes: 1, 2 or 4.
    pub width: u32,
    /// The value.
    pub value: u32,
}

/// That there is such a field in a space of so many bytes.
///
/// # Errors
///
/// [`Reason::ConfigOutside`].
pub fn field(offset: u32, width: u32, bytes: u32) -> Result<(), Refusal> {
    let end = offset.checked_add(width);
    match (width, end) {
        (1 | 2 | 4, Some(end)) if offset % width == 0 && end <= bytes => Ok(()),
        _ => Err(Reason::ConfigOutside.with(&[offset, width, bytes].map(u64::from))),
    }
}

/// What to write so that a field has `value`; nothing where no bit of it may be written and none is changed. `read` gives the
/// word of 32 bits at a multiple of 4.
///
/// # Errors
///
/// [`Reason::ConfigOutside`], [`Reason::ConfigReadOnly`].
pub fn write(
    read: &mut impl FnMut(u32) -> u32,
    bytes: u32,
    offset: u32,
    width: u32,
    value: u32,
) -> Result<Option<Write>, Refusal> {
    field(offset, width, bytes)?;
    let word = offset & !3;
    let shift = (offset & 3) * 8;
    let all = u32::MAX >> (32 - 8 * width);
    let now = (read(word) >> shift) & all;
    let bits = bits(read, bytes, word);
    let (may, clear) = ((bits.write >> shift) & all, (bits.clear >> shift) & all);
    if value & !all != 0 || (value ^ now) & !may != 0 {
        let operands = [offset, width, value, may].map(u64::from);
        return Err(Reason::ConfigReadOnly.with(&operands));
    }
    if may == 0 {
        return Ok(None);
    }
    // The neighbours of what may be written are left alone: a status that a one clears is often one.
    let low = may.trailing_zeros() / 8;
    let high = (31 - may.leading_zeros()) / 8;
    let width = match (low, high) {
        (low, high) if low == high => 1,
        (low, high) if low / 2 == high / 2 => 2,
        _ => 4,
    };
    let start = low / width * width;
    let value = (value & !clear) >> (8 * start);
    Ok(Some(Write {
        offset: offset + start,
        width,
        value: value & (u32::MAX >> (32 - 8 * width)),
    }))
}

/// The bits of the word at `at` that may be written.
fn bits(read: &mut impl FnMut(u32) -> u32, bytes: u32, at: u32) -> Bits {
    // Of a bridge nothing.
    if (read(TIMERS) >> 16) & 0x7f != 0 {
        return Bits::default();
    }
    match at {
        COMMAND => Bits::write(COMMAND_BITS),
        TIMERS => Bits::write(TIMERS_BITS),
        ..FIRST => Bits::default(),
        FIRST..CONVENTIONAL => conventional(read, at),
        _ => extended(read, bytes, at),
    }
}

/// Of a word in the capabilities.
fn conventional(read: &mut impl FnMut(u32) -> u32, at: u32) -> Bits {
    if read(COMMAND) & HAS_LIST == 0 {
        return Bits::default();
    }
    let mut next = read(LIST) & 0xfc;
    for _ in 0..MOST {
        if next < FIRST {
            break;
        }
        let head = read(next);
        let found = at
            .checked_sub(next)
            .map_or(Bits::default(), |into| in_capability(head, into));
        if found != Bits::default() {
            return found;
        }
        next = (head >> 8) & 0xfc;
    }
    Bits::default()
}

/// Of the word `into` bytes behind the start of a capability, which begins with `head`.
fn in_capability(head: u32, into: u32) -> Bits {
    match (head & 0xff, into) {
        // Power management: which data is selected. A one ends an event.
        (0x01, 4) => Bits {
            write: 0x1e00,
            clear: 0x8000,
        },
        // PCI-X: the command; how errors were corrected.
        (0x07, 0) => Bits::write(0xffff_0000),
        (0x07, 8) => Bits::write(u32::MAX),
        // The vendor's own, behind the length.
        (0x09, 0) => Bits::write(0xff00_0000),
        (0x09, _) => Bits::write(vendors((head >> 16) & 0xff, into)),
        // PCI Express: device control, without payload and read request sizes, phantom functions, and reset; device
        // control 2, where there is one, without ARI.
        (0x10, 8) => Bits::write(0x0d1f),
        (0x10, 0x28) if (head >> 16) & 0xf >= 2 => Bits::write(0xffdf),
        _ => Bits::default(),
    }
}

/// Of a word of the extended capabilities.
fn extended(read: &mut impl FnMut(u32) -> u32, bytes: u32, at: u32) -> Bits {
    let mut next = CONVENTIONAL;
    for _ in 0..MOST_EXTENDED {
        if next < CONVENTIONAL || next.saturating_add(8) > bytes {
            break;
        }
        let head = read(next);
        if head == 0 || head == u32::MAX {
            break;
        }
        let length = read(next + 4) >> 20;
        let found = at
            .checked_sub(next)
            .map_or(Bits::default(), |into| in_extended(head, length, into));
        if found != Bits::default() {
            return found;
        }
        next = (head >> 20) & 0xffc;
    }
    Bits::default()
}

/// The same in an extended one. `length` is meant only by those of vendors.
fn in_extended(head: u32, length: u32, into: u32) -> Bits {
    Bits::write(match (head & 0xffff, into) {
        // Advanced error reporting: status, mask and severity of errors, those that were corrected, and checksums.
        (0x01, 0x04 | 0x08 | 0x0c) => 0x03ff_f031,
        (0x01, 0x10 | 0x14) => 0xf1c1,
        (0x01, 0x18) => 0x0140,
        // The vendor's own, and that of a designated one.
        (0x0b | 0x23, 8..) => vendors(length, into),
        _ => 0,
    })
}

/// The bits of a word that lie in a capability of so many bytes.
fn vendors(length: u32, into: u32) -> u32 {
    match length.saturating_sub(into) {
        left @ 0..4 => (1 << (8 * left)) - 1,
        _ => u32::MAX,
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use proptest::prelude::*;
    use std::{
        vec,
        vec::Vec, //
    };

    /// A device with power management at 0x40, the vendor's own at 0x50 (11 bytes), PCI Express at 0x60, and advanced error
    /// reporting.
    fn space() -> Vec<u32> {
        let mut words = vec![0; 1024];
        let mut set = |at: usize, word: u32| words[at / 4] = word;
        set(0x00, 0x11e8_1234);
        set(0x04, 0xf810_0003);
        set(0x10, 0xfeb0_0000);
        set(0x34, 0x40);
        set(0x40, 0x0003_5001);
        set(0x44, 0x8008);
        set(0x50, 0x000b_6009);
        set(0x60, 0x0002_0010);
        set(0x68, 0x000f_2810);
        set(0x100, 0x0001_0001);
        set(0x104, 0x10);
        words
    }

    fn asks(offset: u32, width: u32, value: u32) -> Result<Option<Write>, Refusal> {
        let words = space();
        write(&mut |at| words[at as usize / 4], 4096, offset, width, value)
    }

    fn takes(offset: u32, width: u32, value: u32) -> Option<Write> {
        Some(Write {
            offset,
            width,
            value,
        })
    }

    fn may_not(offset: u32, width: u32, value: u32, may: u64) -> Refusal {
        let [offset, width, value] = [offset, width, value].map(u64::from);
        Reason::ConfigReadOnly.with(&[offset, width, value, may])
    }

    #[test]
    fn only_whole_fields_are_there() {
        for (offset, width) in [(0, 3), (0, 0), (0, 8), (1, 2), (2, 4), (256, 1), (254, 4)] {
            let outside = Reason::ConfigOutside.with(&[u64::from(offset), u64::from(width), 256]);
            assert_eq!(field(offset, width, 256), Err(outside));
        }
        let outside = Reason::ConfigOutside.with(&[u64::from(u32::MAX), 1, 4096]);
        assert_eq!(field(u32::MAX, 1, 4096), Err(outside));
        for (offset, width) in [(0, 1), (255, 1), (254, 2), (252, 4)] {
            assert_eq!(field(offset, width, 256), Ok(()));
        }
    }

    #[test]
    fn the_device_may_be_made_bus_master_and_not_lose_its_bars() {
        assert_eq!(asks(4, 2, 0x0007), Ok(takes(4, 2, 0x0007)));
        assert_eq!(asks(4, 2, 0x0005), Err(may_not(4, 2, 0x0005, 0x035c)));
        assert_eq!(asks(4, 2, 0x0407), Err(may_not(4, 2, 0x0407, 0x035c)));
        assert_eq!(asks(4, 2, 0x1_0003), Err(may_not(4, 2, 0x1_0003, 0x035c)));
    }

    /// A program that writes back what it has read must not clear what it does not know.
    #[test]
    fn a_status_that_ones_clear_is_not_cleared() {
        // The command alone is written, not the status beside it.
        assert_eq!(asks(4, 4, 0xf810_0007), Ok(takes(4, 2, 0x0007)));
        // The event of power management lies in the same byte as the selector.
        assert_eq!(asks(0x44, 2, 0x8208), Ok(takes(0x45, 1, 0x02)));
        // Device control, and not its status.
        assert_eq!(asks(0x68, 4, 0x000f_281f), Ok(takes(0x68, 2, 0x281f)));
    }

    #[test]
    fn what_the_kernel_answers_for_is_read_only() {
        // A BAR, a capability's head, the power state, reset, payload, what is between capabilities.
        for (offset, width, value, may) in [
            (0x10, 4, 0, 0),
            (0x40, 1, 5, 0),
            (0x44, 2, 0x800b, 0x1e00),
            (0x68, 2, 0xa810, 0x0d1f),
            (0x68, 2, 0x2830, 0x0d1f),
            (0x88, 2, 0x0020, 0xffdf),
            (0xa0, 4, 1, 0),
        ] {
            let refusal = may_not(offset, width, value, may);
            assert_eq!(asks(offset, width, value), Err(refusal));
        }
        // To write what is there anyway is nothing.
        assert_eq!(asks(0x10, 4, 0xfeb0_0000), Ok(None));
    }

    #[test]
    fn a_vendors_own_ends_where_it_says() {
        assert_eq!(asks(0x52, 1, 0xff), Err(may_not(0x52, 1, 0xff, 0)));
        assert_eq!(asks(0x53, 1, 0xff), Ok(takes(0x53, 1, 0xff)));
        assert_eq!(asks(0x54, 4, u32::MAX), Ok(takes(0x54, 4, u32::MAX)));
        assert_eq!(asks(0x5a, 1, 1), Ok(takes(0x5a, 1, 1)));
        assert_eq!(asks(0x5b, 1, 1), Err(may_not(0x5b, 1, 1, 0)));
    }

    #[test]
    fn errors_are_cleared_and_masked() {
        assert_eq!(asks(0x104, 4, 0x10), Ok(takes(0x104, 4, 0x10)));
        let refusal = may_not(0x108, 4, 2, 0x03ff_f031);
        assert_eq!(asks(0x108, 4, 2), Err(refusal));
    }

    #[test]
    fn a_bridge_is_not_written_to() {
        let mut words = space();
        words[3] = 0x0001_0000;
        let mut read = |at: u32| words[at as usize / 4];
        let refusal = may_not(4, 2, 7, 0);
        assert_eq!(write(&mut read, 256, 4, 2, 7), Err(refusal));
    }

    proptest! {
        /// Whatever a device says of itself, the walk ends and stays in the space.
        #[test]
        fn any_space_is_walked(
            words in proptest::collection::vec(any::<u32>(), 1024),
            small in any::<bool>(),
            offset in 0u32..4096,
            value in any::<u32>(),
        ) {
            let bytes = if small { 256 } else { 4096 };
            let mut read = |at: u32| {
                assert!(at % 4 == 0 && at < bytes);
                words[at as usize / 4]
            };
            let _ = write(&mut read, bytes, offset & !3, 4, value);
        }

        /// What is written differs from what is there in writable bits alone, or clears nothing.
        #[test]
        fn nothing_else_is_changed(
            words in proptest::collection::vec(any::<u32>(), 1024),
            offset in 0u32..4096,
            flip in any::<u32>(),
        ) {
            let mut read = |at: u32| words[at as usize / 4];
            let at = offset & !3;
            let may = bits(&mut read, 4096, at);
            let now = words[at as usize / 4];
            let value = now ^ (flip & may.write);
            match write(&mut read, 4096, at, 4, value) {
                Ok(Some(done)) => {
                    let shift = 8 * (done.offset - at);
                    let all = u32::MAX >> (32 - 8 * done.width);
                    prop_assert_eq!(done.value, ((value & !may.clear) >> shift) & all);
                }
                Ok(None) => prop_assert_eq!(may.write, 0),
                Err(refusal) => prop_assert!(false, "{:?}", refusal),
            }
        }
    }
}
