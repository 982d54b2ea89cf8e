//! A driver for QEMU's `edu` device, as an ordinary program.
//!
//! The device computes factorials, raises an interrupt when it is done, and copies bytes by DMA between the computer's memory
//! and 4 KiB of its own. Its registers are described in `docs/specs/edu` of QEMU's sources.

use mapbuf::{Buffer, Device, Interrupt, IrqKind, Mapping};
use rustix::event::{eventfd, poll, EventfdFlags, PollFd, PollFlags, Timespec};
use std::error::Error;
use std::os::fd::OwnedFd;

/// A result of this driver's.
pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Its registers, all in BAR 0.
mod register {
    pub const IDENTIFICATION: usize = 0x00;
    pub const FACTORIAL: usize = 0x08;
    pub const STATUS: usize = 0x20;
    pub const INTERRUPTS: usize = 0x24;
    pub const ACKNOWLEDGE: usize = 0x64;
    pub const DMA_SOURCE: usize = 0x80;
    pub const DMA_DESTINATION: usize = 0x88;
    pub const DMA_COUNT: usize = 0x90;
    pub const DMA_COMMAND: usize = 0x98;
}

/// Where its own memory begins, as its DMA engine sees it, and how long that is.
const OWN_MEMORY: u64 = 0x40000;
/// Bytes of its own memory that are used: the first half. QEMU 7.2 takes a copy that ends where the memory does for one beyond
/// it, and stops the machine.
pub const OWN_BYTES: usize = 2048;
/// `STATUS`: raise an interrupt after computing.
const WHEN_COMPUTED: u32 = 0x80;
/// `DMA_COMMAND`: begin; out of its own memory, and not into it; raise an interrupt at the end.
const BEGIN: u64 = 1;
const FROM_OWN: u64 = 2;
const WHEN_COPIED: u64 = 4;
/// The address bits of its DMA engine.
const DMA_BITS: u32 = 28;
/// PCI's command register, and the bit that lets the device do DMA.
const COMMAND: u32 = 4;
const BUS_MASTER: u16 = 4;

/// The device.
pub struct Edu {
    device: Device,
    registers: Mapping,
    arrived: OwnedFd,
    interrupt: Interrupt,
    kind: IrqKind,
}

impl Edu {
    /// Opens the device, which is bound to mapbuf (`mapbuf bind 0000:00:04.0`), and has its interrupt, of this kind, arrive on
    /// an eventfd.
    pub fn open(address: &str, kind: IrqKind) -> Result<Self> {
        let device = Device::open_pci(address)?;
        // Memory for it comes from below that.
        device.set_dma_mask(DMA_BITS)?;
        let command: u16 = device.config_read(COMMAND)?;
        device.config_write(COMMAND, command | BUS_MASTER)?;
        let registers = device.bar(0)?.map()?;
        let arrived = eventfd(0, EventfdFlags::CLOEXEC)?;
        let interrupt = device.irq(kind, 0, &arrived)?;
        Ok(Self {
            device,
            registers,
            arrived,
            interrupt,
            kind,
        })
    }

    /// The device's node, where memory for it is allocated.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// What it says it is: `0xRRrr00ed`, with a version.
    pub fn identification(&self) -> Result<u32> {
        Ok(self.registers.read(register::IDENTIFICATION)?)
    }

    /// `number`!, as the device computes it: in 32 bits.
    pub fn factorial(&self, number: u32) -> Result<u32> {
        self.registers.write(register::STATUS, WHEN_COMPUTED)?;
        self.registers.write(register::FACTORIAL, number)?;
        self.wait()?;
        Ok(self.registers.read(register::FACTORIAL)?)
    }

    /// Has the device copy bytes of a buffer into its own memory.
    pub fn fetch(&self, address: u64, bytes: usize) -> Result<()> {
        self.copy(address, OWN_MEMORY, bytes, 0)
    }

    /// Has the device copy bytes of its own memory to where `address` leads.
    pub fn store(&self, address: u64, bytes: usize) -> Result<()> {
        self.copy(OWN_MEMORY, address, bytes, FROM_OWN)
    }

    fn copy(&self, from: u64, to: u64, bytes: usize, direction: u64) -> Result<()> {
        self.registers.write(register::DMA_SOURCE, from)?;
        self.registers.write(register::DMA_DESTINATION, to)?;
        self.registers.write(register::DMA_COUNT, bytes as u64)?;
        let command = BEGIN | direction | WHEN_COPIED;
        self.registers.write(register::DMA_COMMAND, command)?;
        self.wait()
    }

    /// Waits for the interrupt, and tells the device that it was seen.
    fn wait(&self) -> Result<()> {
        let patience = Timespec {
            tv_sec: 10,
            tv_nsec: 0,
        };
        let mut fds = [PollFd::new(&self.arrived, PollFlags::IN)];
        if poll(&mut fds, Some(&patience))? == 0 {
            return Err("the interrupt does not come".into());
        }
        rustix::io::read(&self.arrived, &mut [0; 8])?;
        let reasons: u32 = self.registers.read(register::INTERRUPTS)?;
        self.registers.write(register::ACKNOWLEDGE, reasons)?;
        if self.kind == IrqKind::Intx {
            // The pin was masked when it came.
            self.interrupt.unmask()?;
        }
        Ok(())
    }
}

/// What the device calls a buffer's first byte.
pub fn address_of(buffer: &Buffer) -> Result<u64> {
    let address = buffer.info()?.dma_address;
    Ok(address.ok_or("the buffer has no address for the device")?)
}
