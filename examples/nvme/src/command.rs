//! Commands, and the lists of pages that carry their data.

use crate::error::{Error, Result};
use crate::{Memory, PAGE};

/// Bytes of a command.
pub const BYTES: usize = 64;
/// Entries in a page of addresses.
const LIST: usize = PAGE / 8;

/// A command (section 3.3.3.1), without its identifier, which the queue gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// What to do.
    pub opcode: u8,
    /// With which part of the disk; 0: the controller itself.
    pub namespace: u32,
    /// Where the data is.
    pub data: Pages,
    /// Words 10 to 12, which each command has for itself.
    pub words: [u32; 3],
}

/// Admin command: make a queue for commands.
pub const CREATE_SUBMISSION: u8 = 0x01;
/// Admin command: make a queue for answers.
pub const CREATE_COMPLETION: u8 = 0x05;
/// Admin command: say what you are.
pub const IDENTIFY: u8 = 0x06;
/// Put on the disk for good what was written.
pub const FLUSH: u8 = 0x00;
/// Write blocks.
pub const WRITE: u8 = 0x01;
/// Read blocks.
pub const READ: u8 = 0x02;

impl Command {
    /// Its bytes in a queue.
    pub fn encode(&self, identifier: u16) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        let mut put = |at: usize, value: &[u8]| {
            if let Some(place) = bytes.get_mut(at..at + value.len()) {
                place.copy_from_slice(value);
            }
        };
        put(0, &[self.opcode]);
        put(2, &identifier.to_le_bytes());
        put(4, &self.namespace.to_le_bytes());
        put(24, &self.data.first.to_le_bytes());
        put(32, &self.data.second.to_le_bytes());
        for (place, word) in (40..).step_by(4).zip(self.words) {
            put(place, &word.to_le_bytes());
        }
        bytes
    }
}

/// Where a command's data is (PRP entries, section 4.1.1): the address of its first page, and that of its second one, or of
/// a list of all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pages {
    first: u64,
    second: u64,
}

impl Pages {
    /// Those of `bytes` bytes of `memory` from `offset` on. A list, if one is needed, is written to the page of `lists`
    /// with this number, which must be left alone until the command has ended.
    pub fn of(
        memory: &impl Memory,
        offset: usize,
        bytes: usize,
        lists: &impl Memory,
        list: usize,
    ) -> Result<Self> {
        let first = memory.address(offset)?;
        let next = PAGE - offset % PAGE;
        let mut rest = (next..bytes).step_by(PAGE);
        let second = match rest.len() {
            0 => 0,
            1 => memory.address(offset + next)?,
            pages if pages > LIST => {
                return Err(Error::TooMuch {
                    bytes,
                    most: LIST * PAGE,
                })
            }
            pages => {
                let mut entries = Vec::with_capacity(8 * pages);
                for at in &mut rest {
                    let address = memory.address(offset + at)?;
                    entries.extend_from_slice(&address.to_le_bytes());
                }
                lists.write(list * PAGE, &entries)?;
                lists.address(list * PAGE)?
            }
        };
        Ok(Self { first, second })
    }

    /// One place, which ends with its page or is in one piece.
    pub fn at(address: u64) -> Self {
        Self {
            first: address,
            second: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// Page `n` has the address `(n + 1) * 0x10_0000`.
    struct Scattered(RefCell<Vec<u8>>);

    impl Scattered {
        fn new(pages: usize) -> Self {
            Self(RefCell::new(vec![0; pages * PAGE]))
        }

        fn entry(&self, page: usize, index: usize) -> u64 {
            let at = page * PAGE + 8 * index;
            u64::from_le_bytes(self.0.borrow()[at..at + 8].try_into().unwrap())
        }
    }

    impl Memory for Scattered {
        fn address(&self, offset: usize) -> Result<u64> {
            Ok(((offset / PAGE + 1) * 0x10_0000 + offset % PAGE) as u64)
        }

        fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<()> {
            bytes.copy_from_slice(&self.0.borrow()[offset..offset + bytes.len()]);
            Ok(())
        }

        fn write(&self, offset: usize, bytes: &[u8]) -> Result<()> {
            self.0.borrow_mut()[offset..offset + bytes.len()].copy_from_slice(bytes);
            Ok(())
        }

        fn load(&self, _: usize) -> Result<u32> {
            unreachable!()
        }
    }

    #[test]
    fn data_is_listed_page_by_page() {
        let (memory, lists) = (Scattered::new(8), Scattered::new(4));
        let pages = |offset, bytes| Pages::of(&memory, offset, bytes, &lists, 2).unwrap();
        let at = |first, second| Pages { first, second };
        assert_eq!(pages(0, 4096), at(0x10_0000, 0));
        assert_eq!(pages(512, 512), at(0x10_0200, 0));
        assert_eq!(pages(0, 8192), at(0x10_0000, 0x20_0000));
        assert_eq!(pages(0x1e00, 0x400), at(0x20_0e00, 0x30_0000));
        // The list is at page 2 of its memory.
        assert_eq!(pages(0, 4 * PAGE), at(0x10_0000, 0x30_0000));
        let list: Vec<_> = (0..4).map(|index| lists.entry(2, index)).collect();
        assert_eq!(list, [0x20_0000, 0x30_0000, 0x40_0000, 0]);
    }

    #[test]
    fn a_command_has_its_words_in_their_places() {
        let command = Command {
            opcode: READ,
            namespace: 1,
            data: Pages {
                first: 0x1122_3344_5566_7788,
                second: 9,
            },
            words: [0xa, 0xb, 0xc],
        };
        let bytes = command.encode(0x1234);
        assert_eq!(bytes[..8], [2, 0, 0x34, 0x12, 1, 0, 0, 0]);
        assert_eq!(
            bytes[24..33],
            [0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 9]
        );
        assert_eq!([bytes[40], bytes[44], bytes[48]], [0xa, 0xb, 0xc]);
    }
}
