//! What the driver needs, from mapbuf.

use crate::{Error, Function, Memory, Result};
use mapbuf::{Buffer, Device, Direction, Interrupt, IrqKind, Kind, MapOptions, Mapping, Segment};
use rustix::event::{eventfd, EventfdFlags};
use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::sync::atomic::{fence, Ordering};

/// PCI's command register, and the bit that lets the device do DMA.
const COMMAND: u32 = 4;
const BUS_MASTER: u16 = 4;
/// The registers and the first queues' doorbells. The MSI-X table may follow, which no program may write to.
const REGISTERS: usize = 0x2000;

/// A function that is bound to mapbuf.
pub struct Bound {
    pub(crate) device: Device,
    registers: Mapping,
    interrupts: RefCell<Vec<Interrupt>>,
    coherent: bool,
}

impl Bound {
    /// Opens the function with this address (`mapbuf bind 0000:01:00.0`).
    pub fn open(address: &str) -> Result<Self> {
        let device = Device::open_pci(address)?;
        let command: u16 = device.config_read(COMMAND)?;
        device.config_write(COMMAND, command | BUS_MASTER)?;
        Ok(Self {
            registers: MapOptions::new().len(REGISTERS).map(&device.bar(0)?)?,
            coherent: device.pci()?.coherent,
            interrupts: RefCell::default(),
            device,
        })
    }

    pub(crate) fn shared(buffer: Buffer, segments: Vec<Segment>, coherent: bool) -> Result<Shared> {
        Ok(Shared {
            mapping: buffer.map()?,
            segments,
            buffer,
            coherent,
        })
    }
}

impl Function for Bound {
    type Memory = Shared;

    fn load(&self, register: usize) -> Result<u32> {
        Ok(self.registers.read(register)?)
    }

    fn store(&self, register: usize, value: u32) -> Result<()> {
        fence(Ordering::SeqCst);
        Ok(self.registers.write(register, value)?)
    }

    fn coherent(&self, bytes: usize) -> Result<Shared> {
        let buffer = self.device.alloc(Kind::Coherent, bytes as u64)?;
        let segments = buffer.segments()?;
        Self::shared(buffer, segments, true)
    }

    fn memory(&self, bytes: usize) -> Result<Shared> {
        let buffer = self.device.alloc_dma(bytes as u64)?;
        let segments = buffer.device_segments()?;
        Self::shared(buffer, segments, self.coherent)
    }

    fn interrupts(&self, count: u32) -> Result<Vec<OwnedFd>> {
        let one = |index| {
            let fd = eventfd(0, EventfdFlags::CLOEXEC)?;
            let interrupt = self.device.irq(IrqKind::Msix, index, &fd)?;
            self.interrupts.borrow_mut().push(interrupt);
            Ok(fd)
        };
        (0..count).map(one).collect()
    }
}

/// A buffer that the device reaches.
pub struct Shared {
    mapping: Mapping,
    segments: Vec<Segment>,
    buffer: Buffer,
    coherent: bool,
}

impl Shared {
    /// The memory as it is mapped.
    pub fn mapping(&self) -> &Mapping {
        &self.mapping
    }
}

impl Memory for Shared {
    fn address(&self, offset: usize) -> Result<u64> {
        let offset = offset as u64;
        let behind = self.segments.partition_point(|run| run.offset <= offset);
        let run = behind
            .checked_sub(1)
            .and_then(|index| self.segments.get(index));
        let run = run.filter(|run| offset - run.offset < run.length);
        let run = run.ok_or_else(|| Error::platform("that is beyond the buffer's end"))?;
        Ok(run.dma_address + (offset - run.offset))
    }

    fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<()> {
        Ok(self.mapping.copy_out(offset, bytes)?)
    }

    fn write(&self, offset: usize, bytes: &[u8]) -> Result<()> {
        Ok(self.mapping.copy_in(offset, bytes)?)
    }

    fn load(&self, offset: usize) -> Result<u32> {
        let value = self.mapping.read(offset)?;
        fence(Ordering::Acquire);
        Ok(value)
    }

    fn give(&self, offset: usize, bytes: usize) -> Result<()> {
        if self.coherent {
            return Ok(());
        }
        let range = offset as u64..(offset + bytes) as u64;
        Ok(self.buffer.sync_end(range, Direction::Both)?)
    }

    fn take(&self, offset: usize, bytes: usize) -> Result<()> {
        if self.coherent {
            return Ok(());
        }
        let range = offset as u64..(offset + bytes) as u64;
        Ok(self.buffer.sync_begin(range, Direction::Both)?)
    }
}

impl From<mapbuf::Error> for Error {
    fn from(error: mapbuf::Error) -> Self {
        Self::platform(error)
    }
}
