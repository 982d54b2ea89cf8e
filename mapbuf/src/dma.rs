//! A buffer that the CPU and a device have by turns, where the type says whose turn it is.

use crate::{
    bounds::{self, wide},
    buffer::Buffer,
    error::Result,
    mapping::{Mapping, Value},
    Direction, Segment,
};
use std::ops::Range;

/// A buffer that a device reaches, mapped here too. The device has its bytes: there is nothing here that reads or writes
/// them. [`cpu`](Self::cpu) takes a part of them back for as long as its answer lives.
///
/// ```no_run
/// use mapbuf::{Device, Direction};
///
/// # fn main() -> Result<(), mapbuf::Error> {
/// let device = Device::open_pci("0000:00:04.0")?;
/// let mut buffer = device.alloc_dma(64 << 10)?.into_dma(Direction::Both)?;
/// {
///     let ours = buffer.cpu(0..4096)?;
///     ours.write(0, 0xaabb_ccdd_u32)?;
/// }
/// // From here on the device has them: its registers may be told of this address.
/// let address = buffer.address();
/// # let _ = address;
/// # Ok(())
/// # }
/// ```
///
/// Bytes that the device has cannot be read by mistake:
///
/// ```compile_fail,E0599
/// # fn wrong(buffer: mapbuf::DmaBuffer) -> mapbuf::Result<()> {
/// let word: u32 = buffer.read(0)?; // there is no such method
/// # let _ = word;
/// # Ok(())
/// # }
/// ```
///
/// and the device cannot be told where they are while they are ours:
///
/// ```compile_fail,E0502
/// # fn wrong(mut buffer: mapbuf::DmaBuffer) -> mapbuf::Result<()> {
/// let ours = buffer.cpu(0..4096)?;
/// let address = buffer.address();
/// ours.write(0, address)?; // `ours` still lives
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct DmaBuffer {
    /// Unmapped first.
    mapping: Mapping,
    buffer: Buffer,
    direction: Direction,
    address: u64,
}

impl Buffer {
    /// Gives it to the device of its node, and maps it. It is attached for this direction unless it is already.
    ///
    /// # Errors
    ///
    /// As for [`attach`](Self::attach) and [`map`](Self::map).
    pub fn into_dma(self, direction: Direction) -> Result<DmaBuffer> {
        let address = match self.info()?.dma_address {
            Some(address) => address,
            None => self.attach(direction)?,
        };
        Ok(DmaBuffer {
            mapping: self.map()?,
            buffer: self,
            direction,
            address,
        })
    }
}

impl DmaBuffer {
    /// The address of its first byte for the device; where it lies in several runs, [`segments`](Self::segments) tells all.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// The runs of its addresses for the device.
    ///
    /// # Errors
    ///
    /// [`Reason::NotAttached`](crate::Reason::NotAttached) when the device is gone.
    pub fn segments(&self) -> Result<Vec<Segment>> {
        self.buffer.device_segments()
    }

    /// The buffer.
    pub fn buffer(&self) -> &Buffer {
        &self.buffer
    }

    /// Takes these bytes for the CPU: the device is done with them, and what it wrote is seen. They go back to the
    /// device when the answer is dropped.
    ///
    /// # Errors
    ///
    /// [`Reason::SyncOutside`](crate::Reason::SyncOutside), [`Reason::DeviceGone`](crate::Reason::DeviceGone).
    pub fn cpu(&mut self, bytes: Range<u64>) -> Result<CpuBytes<'_>> {
        self.buffer.sync_begin(bytes.clone(), self.direction)?;
        let at = usize::try_from(bytes.start).unwrap_or(usize::MAX);
        Ok(CpuBytes {
            owner: self,
            bytes,
            at,
        })
    }
}

/// Bytes of a [`DmaBuffer`] that are the CPU's. Offsets count from the first of them. Dropping this gives them to the device.
#[derive(Debug)]
#[must_use = "the device gets the bytes back when this is dropped"]
pub struct CpuBytes<'a> {
    owner: &'a mut DmaBuffer,
    bytes: Range<u64>,
    at: usize,
}

impl CpuBytes<'_> {
    /// How many there are.
    #[expect(clippy::len_without_is_empty, reason = "there is at least one")]
    pub fn len(&self) -> u64 {
        self.bytes.end - self.bytes.start
    }

    fn place(&self, offset: usize, len: usize) -> Result<usize> {
        bounds::check(wide(offset), wide(len), self.len())?;
        Ok(self.at + offset)
    }

    /// Reads a number.
    ///
    /// # Errors
    ///
    /// As for [`Mapping::read`].
    pub fn read<T: Value>(&self, offset: usize) -> Result<T> {
        let place = self.place(offset, size_of::<T>())?;
        self.owner.mapping.read(place)
    }

    /// Writes a number.
    ///
    /// # Errors
    ///
    /// As for [`Mapping::write`].
    pub fn write<T: Value>(&self, offset: usize, value: T) -> Result<()> {
        let place = self.place(offset, size_of::<T>())?;
        self.owner.mapping.write(place, value)
    }

    /// Copies bytes out.
    ///
    /// # Errors
    ///
    /// As for [`Mapping::copy_out`].
    pub fn copy_out(&self, offset: usize, to: &mut [u8]) -> Result<()> {
        let place = self.place(offset, to.len())?;
        self.owner.mapping.copy_out(place, to)
    }

    /// Copies bytes in.
    ///
    /// # Errors
    ///
    /// As for [`Mapping::copy_in`].
    pub fn copy_in(&self, offset: usize, from: &[u8]) -> Result<()> {
        let place = self.place(offset, from.len())?;
        self.owner.mapping.copy_in(place, from)
    }
}

impl Drop for CpuBytes<'_> {
    fn drop(&mut self) {
        // It fails when the device is gone, and then nobody gets them.
        let owner = &self.owner;
        let _ = owner.buffer.sync_end(self.bytes.clone(), owner.direction);
    }
}
