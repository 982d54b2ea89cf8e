//! Regions: reserved physical ranges, which the module's parameter `regions` declares.

use crate::{
    buffer::Buffer,
    device::Device,
    error::{Error, Result},
    file::NodeFile,
    info::{text_of, BufferInfo},
    named::Named,
};
use mapbuf_abi::{
    probe, reason::Refusal, Cache, Import, Probe, Reason, Refused, Region, RegionState, RegionType,
    ADDRESS_HIDDEN, NAME_LEN, OPERANDS,
};
use std::os::fd::{AsFd, AsRawFd};

/// A region that was declared, and what is known of it (`REGION`).
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct RegionInfo {
    /// Its name, which is that of its node too, unless it was refused.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its physical address, if the caller may see it.
    pub start: Option<u64>,
    /// Memory or a device.
    pub class: RegionType,
    /// How every view of it is cached.
    pub cache: Cache,
    /// Bits in an access of the kernel's own view, where that is uncached.
    pub width: u32,
    /// What is known of it.
    pub state: RegionState,
    /// Why it was refused, if it was.
    pub refusal: Option<Refusal>,
}

impl TryFrom<Region> for RegionInfo {
    type Error = Error;

    fn try_from(region: Region) -> Result<Self> {
        let unknown = |what, number| Error::UnknownNumber { what, number };
        let reason = match region.reason {
            0 => None,
            number => Some(Reason::from_number(number).ok_or_else(|| unknown("reason", number))?),
        };
        Ok(Self {
            name: text_of(&region.name).unwrap_or_default(),
            bytes: region.bytes,
            start: (region.start != ADDRESS_HIDDEN).then_some(region.start),
            class: RegionType::from_number(region.class)
                .ok_or_else(|| unknown("type of region", region.class))?,
            cache: Cache::from_number(region.cache)
                .ok_or_else(|| unknown("cache mode", region.cache))?,
            width: region.width,
            state: RegionState::from_number(region.state)
                .ok_or_else(|| unknown("state of a region", region.state))?,
            refusal: reason.map(|reason| reason.with(&region.operands)),
        })
    }
}

/// What a look at a region found (`PROBE`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Probed {
    /// What is known of it now.
    pub state: RegionState,
    /// Words read that were nothing but ones.
    pub ones: u64,
    /// Words read that were nothing but zeros.
    pub zeros: u64,
    /// Other words read.
    pub others: u64,
}

/// How a region is looked at.
///
/// ```no_run
/// use mapbuf::{Named, ProbeOptions};
///
/// # fn main() -> Result<(), mapbuf::Error> {
/// let seen = ProbeOptions::new().probe(&Named::open("ring")?)?;
/// println!("{}: {} words of ones", seen.state.name(), seen.ones);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "options do nothing until `probe` is called"]
pub struct ProbeOptions {
    flags: u32,
}

impl ProbeOptions {
    /// By reading some words of each page, if the region is memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Write a pattern to each page as well, look whether it stays, and put back what was there. Memory only.
    pub fn write(mut self) -> Self {
        self.flags |= probe::WRITE;
        self
    }

    /// Read a device's memory, knowing that this can hang a bus or take data out of a queue.
    pub fn risk(mut self) -> Self {
        self.flags |= probe::RISK;
        self
    }

    /// Looks at the region.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with a [`Reason`] of the 600s: `NotARegion`, `ProbeIsRisky`, `ProbeWritesDevice`,
    /// `ProbeWhileMapped`; `ReadOnlyOpen` if it was opened for reading alone.
    pub fn probe(&self, region: &impl Probeable) -> Result<Probed> {
        let Place { file, id } = region.place();
        let mut request = Probe {
            flags: self.flags,
            id,
            ..Probe::default()
        };
        file.call(&mut request)?;
        Ok(Probed {
            state: RegionState::from_number(request.state).ok_or(Error::UnknownNumber {
                what: "state of a region",
                number: request.state,
            })?,
            ones: request.ones,
            zeros: request.zeros,
            others: request.others,
        })
    }
}

/// What may be a region: a [`Named`] buffer, or a [`Buffer`] that was [imported](Device::import) from one.
pub trait Probeable: sealed::Source {}

impl Probeable for Named {}
impl Probeable for Buffer {}

/// Where a region is asked.
#[derive(Debug)]
pub struct Place<'a> {
    file: &'a NodeFile,
    id: u32,
}

mod sealed {
    use super::*;

    pub trait Source {
        fn place(&self) -> Place<'_>;
    }
}

impl sealed::Source for Named {
    fn place(&self) -> Place<'_> {
        Place {
            file: self.file(),
            id: 0,
        }
    }
}

impl sealed::Source for Buffer {
    fn place(&self) -> Place<'_> {
        Place {
            file: self.device().file(),
            id: self.id(),
        }
    }
}

fn request(index: u32) -> Region {
    Region {
        size: 0,
        flags: 0,
        index,
        count: 0,
        bytes: 0,
        start: 0,
        class: 0,
        cache: 0,
        width: 0,
        state: 0,
        reason: 0,
        errno: 0,
        operands: [0; OPERANDS],
        name: [0; NAME_LEN],
        refused: Refused::default(),
    }
}

impl Device {
    /// The region with this number, from 0 on; `None` where there are fewer.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownNumber`] if the driver is newer than the library.
    pub fn region(&self, index: u32) -> Result<Option<RegionInfo>> {
        let mut request = request(index);
        self.file().call(&mut request)?;
        match index < request.count {
            true => request.try_into().map(Some),
            false => Ok(None),
        }
    }

    /// All regions that were declared, in their order, also those that were refused.
    ///
    /// # Errors
    ///
    /// As for [`region`](Self::region).
    pub fn regions(&self) -> Result<Vec<RegionInfo>> {
        let mut regions = Vec::new();
        for index in 0.. {
            match self.region(index)? {
                Some(region) => regions.push(region),
                None => break,
            }
        }
        Ok(regions)
    }

    /// Gives a buffer whose dma-buf descriptor the caller has an id in this session: an [`Export`](crate::Export) of
    /// another session, or of a named buffer, that every method can map.
    ///
    /// # Errors
    ///
    /// [`Reason::NotADmaBuf`], [`Reason::ForeignDmaBuf`]; [`Reason::ReadOnlyOpen`] if the device was opened for reading
    /// alone.
    pub fn import(&self, dma_buf: &impl AsFd) -> Result<Buffer> {
        let mut request = Import {
            fd: dma_buf.as_fd().as_raw_fd(),
            ..Import::default()
        };
        self.file().call(&mut request)?;
        let info = self.info_of(request.id).and_then(BufferInfo::try_from);
        Ok(Buffer::from_info(self.clone(), &info?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_region_says_why() {
        let mut answer = request(0);
        answer.name[..4].copy_from_slice(b"ring");
        answer.class = RegionType::Ram.number();
        answer.state = RegionState::Refused.number();
        answer.reason = Reason::RegionIsRam.number();
        answer.operands[0] = 4096;
        answer.start = ADDRESS_HIDDEN;
        let region = RegionInfo::try_from(answer).unwrap();
        assert_eq!(region.name, "ring");
        assert_eq!(region.start, None);
        assert_eq!(region.refusal, Some(Reason::RegionIsRam.with(&[4096])));

        answer.reason = 9999;
        let error = RegionInfo::try_from(answer).unwrap_err();
        assert!(error.to_string().contains("reason number 9999"), "{error}");
    }
}
