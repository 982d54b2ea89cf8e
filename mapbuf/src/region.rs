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
    import, probe, reason::Refusal, Cache, Import, Probe, Reason, Refused, Region, RegionState,
    RegionType, ADDRESS_HIDDEN, NAME_LEN, OPERANDS,
};
use std::os::fd::{AsFd, AsRawFd};

/// A declared region, and what is known about it (`REGION`).
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct RegionInfo {
    /// Its name, which is also that of its node, unless it was refused.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its physical address, if the caller can see it.
    pub start: Option<u64>,
    /// Memory or a device.
    pub class: RegionType,
    /// The cache mode of every mapping of it.
    pub cache: Cache,
    /// The width in bits of the kernel's own accesses, if its mapping is uncached.
    pub width: u32,
    /// What is known about it.
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

/// The result of probing a region (`PROBE`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Probed {
    /// What is known about it now.
    pub state: RegionState,
    /// Words that read as all ones.
    pub ones: u64,
    /// Words that read as all zeros.
    pub zeros: u64,
    /// All other words.
    pub others: u64,
}

/// How to probe a region.
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
    /// Reads some words of each page, if the region is memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Also writes a pattern to each page, checks that it stays, and restores the contents. Memory only.
    pub fn write(mut self) -> Self {
        self.flags |= probe::WRITE;
        self
    }

    /// Reads device memory, although this can hang a bus or take data out of a FIFO.
    pub fn risk(mut self) -> Self {
        self.flags |= probe::RISK;
        self
    }

    /// Probes the region.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with a [`Reason`] of the 600s: `NotARegion`, `ProbeIsRisky`, `ProbeWritesDevice`,
    /// `ProbeWhileMapped`; `ReadOnlyOpen` if it was opened read-only.
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

/// What can be a region: a [`Named`] buffer, or a [`Buffer`] that was [imported](Device::import) from one.
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
    /// The declared width of a region's accesses in bits, if this node lists the region.
    pub(crate) fn width_of_region(&self, name: &str) -> Option<u32> {
        let regions = self.regions().ok()?;
        let region = regions.iter().find(|region| region.name == name)?;
        Some(region.width)
    }

    /// The region with this number, counting from 0; `None` if there are fewer.
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

    /// All declared regions, in order, including those that were refused.
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

    /// Gives a dma-buf an id in this session, by its descriptor: an [`Export`](crate::Export) of another session, or of a
    /// named buffer, which every method can then map; or one of another driver (a dma-heap, `udmabuf`, a graphics card),
    /// which is of kind [`Kind::Foreign`](crate::Kind::Foreign) and is mapped as that driver does it. The descriptor
    /// may be closed afterwards.
    ///
    /// # Errors
    ///
    /// [`Reason::NotADmaBuf`], [`Reason::DmaBufMode`]; [`Reason::ReadOnlyOpen`] if the device was opened
    /// read-only.
    pub fn import(&self, dma_buf: &impl AsFd) -> Result<Buffer> {
        self.import_with(dma_buf, 0)
    }

    /// The same on the node of a device, with addresses for that device from the first, in both directions.
    ///
    /// # Errors
    ///
    /// As for [`import`](Self::import) and [`Buffer::attach`].
    pub fn import_dma(&self, dma_buf: &impl AsFd) -> Result<Buffer> {
        self.import_with(dma_buf, import::FOR_DEVICE)
    }

    fn import_with(&self, dma_buf: &impl AsFd, flags: u32) -> Result<Buffer> {
        let mut request = Import {
            flags,
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
