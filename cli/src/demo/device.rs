//! A device: bound, given memory, and driven from here. It is QEMU's `edu` (`docs/specs/edu` of QEMU's sources), which
//! computes factorials, interrupts, and copies by DMA between the machine's memory and 4 KiB of its own.

use super::{
    exporters,
    scene::{Demo, Outcome},
};
use crate::{
    diagnose::Log,
    pci::{Fault, Function, System, MAPBUF},
};
use mapbuf::{Buffer, Device, Direction, Export, Iommu, IrqKind, Kind, Mapping, Reason};
use rustix::event::{eventfd, poll, EventfdFlags, PollFd, PollFlags, Timespec};
use std::{
    fs::{self, File},
    os::{fd::OwnedFd, unix::fs::FileExt},
    thread,
    time::Duration,
};

/// Vendor and device.
const EDU: &str = "1234:11e8";
/// What its DMA engine reaches.
const BITS: u32 = 28;
/// Where its own memory lies, for its DMA engine, and how much of it is used: QEMU takes a copy up to the end for one
/// beyond it.
const OWN: u64 = 0x40000;
const OWN_BYTES: usize = 2048;
/// An address that nobody gives it.
const STRAY: u64 = 0xdea_d000;

const IDENTIFICATION: usize = 0x00;
const FACTORIAL: usize = 0x08;
const STATUS: usize = 0x20;
const INTERRUPTS: usize = 0x24;
const ACKNOWLEDGE: usize = 0x64;
const DMA: usize = 0x80;
const DMA_COMMAND: usize = 0x98;
/// PCI's command register, and its bit for DMA.
const COMMAND: u32 = 4;
const BUS_MASTER: u16 = 4;

/// Rows that one device shows.
pub const SHOWS: &[&str] = &["D1", "D2", "D3", "D4", "D5", "D6", "D7", "D8", "D9", "D12"];
/// Who exports memory that is none of mapbuf's.
const HEAP: &str = "/dev/dma_heap/system";
const UDMABUF: &str = "/dev/udmabuf";

/// The device, driven.
struct Edu {
    registers: Mapping,
    arrived: OwnedFd,
    _interrupt: mapbuf::Interrupt,
}

impl Edu {
    /// Waits for its interrupt; whether it came.
    fn wait(&self) -> Result<bool, Box<dyn std::error::Error>> {
        let patience = Timespec {
            tv_sec: 10,
            tv_nsec: 0,
        };
        let mut fds = [PollFd::new(&self.arrived, PollFlags::IN)];
        if poll(&mut fds, Some(&patience))? == 0 {
            return Ok(false);
        }
        rustix::io::read(&self.arrived, &mut [0; 8])?;
        let reasons: u32 = self.registers.read(INTERRUPTS)?;
        self.registers.write(ACKNOWLEDGE, reasons)?;
        Ok(reasons != 0)
    }

    /// Has it copy so much; whether it said that it was done.
    fn copy(&self, from: u64, to: u64, out: bool) -> Result<bool, Box<dyn std::error::Error>> {
        for (number, value) in [from, to, OWN_BYTES as u64].into_iter().enumerate() {
            self.registers.write(DMA + 8 * number, value)?;
        }
        let command = 1 | u64::from(out) << 1 | 4;
        self.registers.write(DMA_COMMAND, command)?;
        self.wait()
    }
}

pub fn scene(demo: &mut Demo) -> Outcome {
    let system = System::default();
    let none = match (system.has_driver(MAPBUF), find(&system)) {
        (false, _) => "the loaded driver does not take PCI devices",
        (true, None) => "this machine has no edu device; cargo xtask demo has one",
        (true, Some(function)) => {
            function.give(Some(MAPBUF))?;
            let shown = bound(demo, &function);
            function.give_back(None)?;
            let gone = Device::open_pci(&function.address.to_string()).is_err();
            demo.check(&["D1"], gone, "unbound: its node is gone");
            shown?;
            return pulled_out(demo, &function);
        }
    };
    for id in SHOWS {
        demo.not_yet(id, none);
    }
    Ok(())
}

/// The device, where no other driver has it.
fn find(system: &System) -> Option<Function> {
    let mut all = system.all().into_iter();
    all.find(|function| function.ids() == EDU && function.driver().is_none())
}

fn bound(demo: &mut Demo, function: &Function) -> Outcome {
    let device = Device::open_pci(&function.address.to_string())?;
    let info = device.pci()?;
    demo.check(
        &["D1"],
        info.present && info.name == function.address.to_string(),
        &format!("bound: /dev/mapbuf/pci-{} opens", function.address),
    );
    device.set_dma_mask(BITS)?;
    let command: u16 = device.config_read(COMMAND)?;
    device.config_write(COMMAND, command | BUS_MASTER)?;

    let arrived = eventfd(0, EventfdFlags::CLOEXEC)?;
    let edu = Edu {
        registers: device.bar(0)?.map()?,
        _interrupt: device.irq(IrqKind::Msi, 0, &arrived)?,
        arrived,
    };
    let identification: u32 = edu.registers.read(IDENTIFICATION)?;
    demo.check(
        &["D6"],
        identification & 0xffff == 0xed,
        &format!("BAR 0 mapped: the device identifies itself as {identification:#010x}"),
    );
    edu.registers.write(STATUS, 0x80_u32)?;
    edu.registers.write(FACTORIAL, 10_u32)?;
    let came = edu.wait()?;
    let product: u32 = edu.registers.read(FACTORIAL)?;
    demo.check(&["D7"], came, "the interrupt arrived on an eventfd");
    demo.check(
        &["D6"],
        product == 3_628_800,
        &format!("it computes 10! = {product}"),
    );

    let coherent = device.alloc(Kind::Coherent, 2 * OWN_BYTES as u64)?;
    let address = address_of(&coherent)?;
    demo.check(
        &["D2"],
        address >> BITS == 0,
        &format!("coherent memory at {address:#x}: below its {BITS} bits"),
    );
    two_addresses(demo, &coherent, info.iommu)?;
    to_and_fro(demo, &edu, &coherent, "coherent memory", "D4")?;

    let pages = device.alloc(Kind::Pages, 2 * OWN_BYTES as u64)?;
    pages.attach(Direction::Both)?;
    to_and_fro(demo, &edu, &pages, "pages, attached", "D8")?;
    foreign(demo, &edu, &device)?;
    stray(demo, &edu, function, info.iommu)
}

fn address_of(buffer: &Buffer) -> Result<u64, Box<dyn std::error::Error>> {
    let address = buffer.info()?.dma_address;
    Ok(address.ok_or("the buffer has no address for the device")?)
}

/// Behind an IOMMU the device's addresses are not the machine's.
fn two_addresses(demo: &mut Demo, buffer: &Buffer, iommu: Option<Iommu>) -> Outcome {
    if iommu != Some(Iommu::Translated) {
        demo.not_yet("D3", "no IOMMU translates the device's addresses here");
        return Ok(());
    }
    let first = buffer.segments()?.into_iter().next().ok_or("no segment")?;
    let (dma, physical) = (address_of(buffer)?, first.physical_address);
    demo.check(
        &["D3"],
        dma != physical,
        &format!("physical address {physical:#x}, DMA address {dma:#x}"),
    );
    Ok(())
}

/// From this program to the device, and back into its second half.
fn to_and_fro(
    demo: &mut Demo,
    edu: &Edu,
    buffer: &Buffer,
    what: &str,
    id: &'static str,
) -> Outcome {
    let memory = buffer.map()?;
    let address = address_of(buffer)?;
    let half = OWN_BYTES as u64;
    let sent: Vec<u8> = (0..OWN_BYTES)
        .map(|at| (at * 31 + at / 251) as u8)
        .collect();
    let attached = buffer.kind() != Kind::Coherent;
    memory.copy_in(0, &sent)?;
    if attached {
        buffer.sync_end(0..2 * half, Direction::Both)?;
    }
    let there = edu.copy(address, OWN, false)?;
    let runs = match attached {
        true => buffer.device_segments()?,
        false => buffer.segments()?,
    };
    let second = runs
        .into_iter()
        .find(|run| run.offset <= half && half < run.offset + run.length)
        .map(|run| run.dma_address + (half - run.offset));
    let back = edu.copy(OWN, second.ok_or("no second half")?, true)?;
    if attached {
        buffer.sync_begin(half..2 * half, Direction::Both)?;
    }
    let mut came = vec![0; OWN_BYTES];
    memory.copy_out(OWN_BYTES, &mut came)?;
    demo.check(
        &[id],
        there && back && came == sent,
        &format!("{what}: {OWN_BYTES} bytes from here to the device, and back"),
    );
    Ok(())
}

/// Memory that other drivers made: they map it, and the device reads and writes it.
fn foreign(demo: &mut Demo, edu: &Edu, device: &Device) -> Outcome {
    let bytes = 2 * OWN_BYTES as u64;
    let made = [
        (HEAP, exporters::of_heap(&File::open(HEAP)?, bytes)?),
        (UDMABUF, exporters::of_udmabuf(bytes)?),
    ];
    for (node, dma_buf) in made {
        let buffer = match device.import_dma(&dma_buf) {
            Err(error) if error.reason() == Some(Reason::ForeignOutOfReach) => {
                demo.not_yet("D12", "no IOMMU gives this device addresses for all memory");
                return Ok(());
            }
            imported => imported?,
        };
        let address = address_of(&buffer)?;
        // What its exporter's own descriptor shows.
        let theirs = Export::from_fd(dma_buf)?.map()?;
        let sent: Vec<u8> = (0..OWN_BYTES)
            .map(|at| (at * 37 + at / 127) as u8)
            .collect();
        buffer.sync_begin(0..bytes, Direction::Both)?;
        theirs.copy_in(0, &sent)?;
        buffer.sync_end(0..bytes, Direction::Both)?;
        let there = edu.copy(address, OWN, false)?;
        let back = edu.copy(OWN, address + bytes / 2, true)?;
        buffer.sync_begin(0..bytes, Direction::Both)?;
        let mut came = vec![0; OWN_BYTES];
        theirs.copy_out(OWN_BYTES, &mut came)?;
        buffer.sync_end(0..bytes, Direction::Both)?;
        demo.check(
            &["D12"],
            there && back && came == sent,
            &format!("{node}: {OWN_BYTES} bytes of its memory to the device, and back"),
        );
    }
    Ok(())
}

/// A DMA to an address that the device was not given.
fn stray(demo: &mut Demo, edu: &Edu, function: &Function, iommu: Option<Iommu>) -> Outcome {
    if iommu != Some(Iommu::Translated) {
        demo.not_yet("D5", "there is no IOMMU to stop a stray DMA");
        return Ok(());
    }
    edu.copy(OWN, STRAY, true)?;
    let mut found = None;
    for _ in 0..100 {
        let log = Log::whole();
        let faults = log.lines.iter().filter_map(|line| Fault::of(&line.text));
        found = faults
            .filter(|fault| fault.device == function.address)
            .find(|fault| fault.address == format!("{STRAY:#x}"));
        if found.is_some() {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    let said = match &found {
        Some(fault) => fault.to_string(),
        None => "a DMA to an address that was not mapped is not in the kernel's log".to_owned(),
    };
    demo.check(&["D5"], found.is_some(), &said);
    Ok(())
}

/// The device is taken out of the machine while this program has all that it gives, and comes back.
fn pulled_out(demo: &mut Demo, function: &Function) -> Outcome {
    function.give(Some(MAPBUF))?;
    let address = function.address.to_string();
    let device = Device::open_pci(&address)?;
    let registers = device.bar(0)?.map()?;
    let coherent = device.alloc(Kind::Coherent, OWN_BYTES as u64)?;
    let memory = coherent.map()?;
    let arrived = eventfd(0, EventfdFlags::CLOEXEC)?;
    let _interrupt = device.irq(IrqKind::Msi, 0, &arrived)?;
    memory.write(0, 7_u32)?;
    // To touch the memory itself would end this program by SIGBUS afterwards; what a debugger sees is the same.
    let own = File::open("/proc/self/mem")?;
    let there = |mapping: &Mapping| {
        own.read_at(&mut [0; 4], mapping.as_ptr().addr() as u64)
            .is_ok()
    };
    let before = there(&registers) && there(&memory);
    fs::write(format!("/sys/bus/pci/devices/{address}/remove"), "1")?;
    let after = there(&registers) || there(&memory);
    demo.check(
        &["D9"],
        before && !after,
        "the device is unplugged: its registers and memory are no longer mapped",
    );
    let now = Timespec::default();
    let mut fds = [PollFd::new(&arrived, PollFlags::IN)];
    let told = poll(&mut fds, Some(&now))? == 1;
    let said = device.config_read::<u16>(0).err();
    let gone = said.and_then(|error| error.reason()) == Some(Reason::DeviceGone);
    demo.check(
        &["D9"],
        told && gone,
        "a waiter for its interrupt is woken, and requests say that it is gone",
    );
    drop((registers, memory, coherent, device));
    fs::write("/sys/bus/pci/rescan", "1")?;
    let system = System::default();
    let again = find(&system).ok_or("the device did not come back")?;
    again.give(Some(MAPBUF))?;
    let identification: u32 = Device::open_pci(&address)?
        .bar(0)?
        .map()?
        .read(IDENTIFICATION)?;
    again.give_back(None)?;
    demo.check(
        &["D9"],
        identification & 0xffff == 0xed,
        "plugged in again: it is bound as before",
    );
    Ok(())
}
