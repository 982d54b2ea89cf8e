//! The registers of devices that are bound to the driver: configuration space and BARs.

use super::devices::{attribute, device, Bound};
use crate::check::{dies_of, elsewhere, fails, refused, Outcome};
use crate::session::{Result, Session};
use crate::sys::{become_user, Map, PAGE, RW, SHARED};
use crate::{check, check_eq};
use mapbuf_abi::{
    bar, config, device_state, ioctl, probe, traits, Bar, Cache, Config, Iommu, Kind, Method,
    Operation, Reason, ADDRESS_HIDDEN,
};
use std::fs;

tests! { "registers":
    DEVICES, 60: [
        configuration_space_reads_as_the_kernel_reads_it,
        bus_master_is_set_and_cleared_by_its_users,
        configuration_space_is_written_only_where_it_may_be,
        registers_are_mapped_read_and_written,
        unaligned_read_meets_each_register_once,
        registers_are_read_in_the_width_that_was_asked_for,
        registers_go_with_the_device,
        msix_table_is_never_written_to,
        small_registers_have_a_page_to_themselves,
        prefetchable_memory_may_be_write_combined,
        ports_are_read_and_written_and_not_mapped,
        what_is_no_bar_is_refused,
    ];
}

/// PCI's command register, and its bits.
const COMMAND: u32 = 4;
const MEMORY: u32 = 1 << 1;
pub const MASTER: u32 = 1 << 2;
const BAR_0: u32 = 0x10;

fn read(session: &Session, offset: u32, width: u32) -> Result<u32> {
    let request = Config {
        size: size_of::<Config>() as u32,
        offset,
        width,
        ..Config::default()
    };
    Ok(session.ioctl(ioctl::CONFIG, request)?.value)
}

fn write(session: &Session, offset: u32, width: u32, value: u32) -> Result<()> {
    let request = Config {
        size: size_of::<Config>() as u32,
        flags: config::WRITE,
        offset,
        width,
        value,
        ..Config::default()
    };
    session.ioctl(ioctl::CONFIG, request).map(drop)
}

/// Lets the device send DMA and messages: without an IOMMU, opening its node does not.
pub fn set_master(session: &Session) -> Result<()> {
    let now = read(session, COMMAND, 2)?;
    write(session, COMMAND, 2, now | MASTER)
}

fn configuration_space_reads_as_the_kernel_reads_it() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    let bytes = device(&session)?.config_bytes;
    let whole = fs::read(format!("/sys/bus/pci/devices/{}/config", bound.0))?;
    check_eq!(whole.len() as u32, bytes, "bytes of the space");
    for (at, words) in whole.chunks_exact(4).enumerate() {
        let at = 4 * at as u32;
        let word = u32::from_le_bytes([words[0], words[1], words[2], words[3]]);
        check_eq!(read(&session, at, 4)?, word, "the word at {at:#x}");
        check_eq!(read(&session, at + 2, 2)?, word >> 16, "its upper half");
        check_eq!(
            read(&session, at + 1, 1)?,
            word >> 8 & 0xff,
            "its second byte"
        );
    }
    for (offset, width) in [(0, 3), (0, 8), (1, 2), (2, 4), (bytes, 1), (u32::MAX, 1)] {
        let operands = [offset, width, bytes].map(u64::from);
        let result = read(&session, offset, width);
        refused(result, Operation::Config, Reason::ConfigOutside, &operands)?;
        let result = write(&session, offset, width, 0);
        refused(result, Operation::Config, Reason::ConfigOutside, &operands)?;
    }
    bound.unbind()?;
    refused(
        read(&session, 0, 2),
        Operation::Config,
        Reason::DeviceGone,
        &[],
    )?;
    let result = write(&session, COMMAND, 2, 0);
    refused(result, Operation::Config, Reason::DeviceGone, &[])
}

/// The command register, as the kernel's own view of the device has it, not ours.
pub fn command(bound: &Bound) -> Outcome<u32> {
    let space = fs::read(format!("/sys/bus/pci/devices/{}/config", bound.0))?;
    Ok(u32::from(u16::from_le_bytes([space[4], space[5]])))
}

fn bus_master_is_set_and_cleared_by_its_users() -> Outcome {
    let bound = Bound::edu()?;
    check_eq!(command(&bound)? & MASTER, 0, "bus master without a user");
    let first = bound.open()?;
    let second = bound.open()?;
    let now = read(&second, COMMAND, 2)? | MASTER;
    if device(&first)?.iommu != Iommu::Translated.number() {
        // It might go on with what it was told before: whoever knows better says so.
        check_eq!(command(&bound)? & MASTER, 0, "set by nobody");
        write(&first, COMMAND, 2, now)?;
        // A file that may do nothing with the device changes nothing.
        elsewhere(|| {
            become_user(1000, 0)?;
            drop(bound.open()?);
            Ok(())
        })?;
        check_eq!(command(&bound)? & MASTER, MASTER, "after a stranger");
        // What the first one had is somebody else's when it is closed.
        drop(first);
        check_eq!(command(&bound)? & MASTER, 0, "with one left");
        write(&second, COMMAND, 2, now)?;
    } else {
        check_eq!(command(&bound)? & MASTER, MASTER, "with two");
        drop(first);
        check_eq!(command(&bound)? & MASTER, MASTER, "with one left");
    }
    write(&second, COMMAND, 2, now & !MASTER)?;
    check_eq!(command(&bound)? & MASTER, 0, "after it was cleared");
    let state = device(&second)?.state;
    check_eq!(state & device_state::BUS_MASTER, 0, "what DEVICE says");
    write(&second, COMMAND, 2, now)?;
    check_eq!(command(&bound)? & MASTER, MASTER, "after it was set");
    drop(second);
    check_eq!(command(&bound)? & MASTER, 0, "when the last has gone");
    let third = bound.open()?;
    write(&third, COMMAND, 2, now)?;
    check_eq!(command(&bound)? & MASTER, MASTER, "of the third");
    bound.unbind()?;
    check_eq!(command(&bound)? & MASTER, 0, "of a device that was unbound");
    drop(third);
    Ok(())
}

fn configuration_space_is_written_only_where_it_may_be() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    let now = read(&session, COMMAND, 2)?;
    check!(now & MEMORY != 0, "memory is off: {now:#x}");
    let operands = [COMMAND, 2, now & !MEMORY, 0x35c].map(u64::from);
    let result = write(&session, COMMAND, 2, now & !MEMORY);
    refused(result, Operation::Config, Reason::ConfigReadOnly, &operands)?;
    let bar = read(&session, BAR_0, 4)?;
    let operands = [BAR_0, 4, bar ^ 1 << 20, 0].map(u64::from);
    let result = write(&session, BAR_0, 4, bar ^ 1 << 20);
    refused(result, Operation::Config, Reason::ConfigReadOnly, &operands)?;
    // What is there anyway may be said.
    write(&session, BAR_0, 4, bar)?;
    check_eq!(read(&session, BAR_0, 4)?, bar, "BAR 0");
    check_eq!(command(&bound)? & MEMORY, MEMORY, "memory");
    check!(!attribute(&bound.0, "resource")?.is_empty(), "no resources");
    // Who may only read does only that.
    let reader = Session::open_path(bound.node(), false)?;
    check_eq!(read(&reader, COMMAND, 2)?, now, "the command, for a reader");
    let result = write(&reader, COMMAND, 2, now);
    let operands = [u64::from(Operation::Config.number())];
    refused(result, Operation::Config, Reason::ReadOnlyOpen, &operands)
}

/// QEMU's `e1000`, `nvme`, `ivshmem-plain`, and `pci-testdev`: vendor and device.
pub const E1000: (u32, u32) = (0x8086, 0x100e);
const NVME: (u32, u32) = (0x1b36, 0x0010);
const SHARED_MEMORY: (u32, u32) = (0x1af4, 0x1110);
const TEST_DEVICE: (u32, u32) = (0x1b36, 0x0005);

/// Where `edu` has a register that answers with the opposite of what was written to it.
const OPPOSITE: usize = 4;

pub fn bar(session: &Session, index: u32, cache: Cache, width: u32) -> Result<Bar> {
    let request = Bar {
        size: size_of::<Bar>() as u32,
        index,
        cache: cache.number(),
        width,
        ..Bar::default()
    };
    session.ioctl(ioctl::BAR, request)
}

fn word(session: &Session, offset: u64) -> Result<u32> {
    let mut bytes = [0; 4];
    session.pread(&mut bytes, offset)?;
    Ok(u32::from_ne_bytes(bytes))
}

fn registers_are_mapped_read_and_written() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    let shown = bar(&session, 0, Cache::Uncached, 0)?;
    check_eq!(
        (shown.bytes, shown.bar_flags),
        (1 << 20, bar::MEMORY),
        "BAR 0"
    );
    let told = session.info(shown.id)?;
    check_eq!(told.kind, Kind::Region.number(), "its kind");
    check_eq!(told.traits, traits::REVOCABLE, "its traits");
    check_eq!(told.cache, Cache::Uncached.number(), "its cache mode");
    check_eq!(told.dma_address, ADDRESS_HIDDEN, "its DMA address");
    check_eq!(told.width, 32, "bits in an access");
    for flags in [0, probe::WRITE, probe::RISK] {
        let result = session.probe(shown.id, flags);
        refused(result, Operation::Probe, Reason::BarNotProbed, &[1 << 20])?;
    }
    let map = session.map(1 << 20, RW, SHARED, shown.mmap_offset)?;
    check_eq!(map.u32(0) & 0xffff, 0xed, "what the device says it is");
    map.set_u32(OPPOSITE, 0x1234_5678);
    check_eq!(map.u32(OPPOSITE), !0x1234_5678, "the opposite");
    let at = shown.mmap_offset + OPPOSITE as u64;
    check_eq!(word(&session, at)?, !0x1234_5678, "the kernel's view of it");
    session.pwrite(&7u32.to_ne_bytes(), at)?;
    check_eq!(map.u32(OPPOSITE), !7, "after the kernel's write");
    let operands = [shown.mmap_offset % PAGE as u64 + OPPOSITE as u64, 2, 32];
    let result = session.pwrite(&[1, 2], at);
    refused(result, Operation::Write, Reason::UnalignedWrite, &operands)?;
    // By the dma-buf, too; and another open file sees the same device.
    let exported = session.export(shown.id)?;
    let by_export = Map::new(&exported, PAGE, RW, SHARED, 0)?;
    by_export.set_u32(OPPOSITE, 0xf0f0_0f0f);
    let other = bound.open()?;
    let again = bar(&other, 0, Cache::Uncached, 32)?;
    check_eq!(
        word(&other, again.mmap_offset + 4)?,
        !0xf0f0_0f0f,
        "for another"
    );
    // One that ends does not end the other.
    session.free(shown.id)?;
    check_eq!(
        word(&other, again.mmap_offset + 4)?,
        !0xf0f0_0f0f,
        "after that"
    );
    check_eq!(
        map.u32(OPPOSITE),
        !0xf0f0_0f0f,
        "in the mapping that is left"
    );
    for method in [Method::Remap, Method::IoRemap, Method::Iomap] {
        let offset = other.offset(again.id, method)?;
        let result = other.map(PAGE, RW, SHARED, offset);
        let operands = [u64::from(method.number())];
        refused(result, Operation::Mmap, Reason::RevocableByFault, &operands)?;
    }
    let result = other.map(PAGE, RW, libc::MAP_PRIVATE, again.mmap_offset);
    let operands = [u64::from(Cache::Uncached.number())];
    refused(result, Operation::Mmap, Reason::CowNeedsCached, &operands)?;
    let kind = [u64::from(Kind::Region.number())];
    let result = other.name(again.id, "of-a-device", 0o600);
    refused(result, Operation::Name, Reason::RevocableUnnamed, &kind)
}

/// The interrupt causes of an `e1000`: a read of the first register clears them, a write to the second sets them.
const CAUSES: usize = 0xc0;
const SET_CAUSES: usize = 0xc8;

/// Reads around a register that a read clears, from each byte of the 64 before it. `offset` is where the file has an
/// `e1000`'s registers, and `map` shows them.
pub fn each_register_is_read_once(file: &Session, offset: u64, map: &Map) -> Outcome {
    map.u32(CAUSES);
    check_eq!(map.u32(CAUSES), 0, "the causes after they were read");
    let causes = 0x0001_0004u32;
    map.set_u32(SET_CAUSES, causes);
    check_eq!(map.u32(CAUSES), causes, "the causes that were set");
    check_eq!(map.u32(CAUSES), 0, "the causes, read again");
    for start in CAUSES - 64..CAUSES + 4 {
        map.set_u32(SET_CAUSES, causes);
        let mut bytes = [0; 96];
        let count = file.pread(&mut bytes, offset + start as u64)?;
        check_eq!(count, bytes.len(), "bytes read");
        for (byte, expected) in causes.to_ne_bytes().into_iter().enumerate() {
            if let Some(index) = (CAUSES + byte).checked_sub(start) {
                check_eq!(
                    bytes[index],
                    expected,
                    "byte {byte} in a read from {start:#x}"
                );
            }
        }
        check_eq!(
            map.u32(CAUSES),
            0,
            "the causes after a read from {start:#x}"
        );
    }
    Ok(())
}

fn unaligned_read_meets_each_register_once() -> Outcome {
    let bound = Bound::of(E1000)?;
    let session = bound.open()?;
    let shown = bar(&session, 0, Cache::Uncached, 32)?;
    let map = session.map(PAGE, RW, SHARED, shown.mmap_offset)?;
    each_register_is_read_once(&session, shown.mmap_offset, &map)
}

fn registers_are_read_in_the_width_that_was_asked_for() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    // `edu` takes accesses of 32 bits here, and none that is narrower.
    for (width, answers) in [(8, false), (16, false), (32, true)] {
        let shown = bar(&session, 0, Cache::Uncached, width)?;
        let map = session.map(PAGE, RW, SHARED, shown.mmap_offset)?;
        map.set_u32(OPPOSITE, 0x1234_5678);
        let answer = (!0x1234_5678u32).to_ne_bytes();
        for (from, to) in [(0, 4), (1, 3), (3, 4)] {
            let mut bytes = [0; 4];
            let at = shown.mmap_offset + (OPPOSITE + from) as u64;
            session.pread(&mut bytes[from..to], at)?;
            let answered = bytes[from..to] == answer[from..to];
            check_eq!(
                answered,
                answers,
                "bytes {from} to {to} by {width} bits: {bytes:x?}"
            );
        }
        drop(map);
        session.free(shown.id)?;
    }
    Ok(())
}

fn claimed(bound: &Bound) -> Outcome<bool> {
    let line = attribute(&bound.0, "resource")?;
    let start = line.split_whitespace().next().unwrap_or_default();
    let start = start
        .trim_start_matches("0x")
        .trim_start_matches('0')
        .to_owned();
    let all = fs::read_to_string("/proc/iomem")?;
    Ok(all
        .lines()
        .any(|line| line.contains(&start) && line.ends_with(": mapbuf")))
}

fn registers_go_with_the_device() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    check!(
        !claimed(&bound)?,
        "the registers are claimed, and nobody uses them"
    );
    let shown = bar(&session, 0, Cache::Uncached, 0)?;
    check!(claimed(&bound)?, "the registers are not claimed");
    let map = session.map(PAGE, RW, SHARED, shown.mmap_offset)?;
    check_eq!(map.u32(0) & 0xffff, 0xed, "what the device says it is");
    let untouched = session.map(PAGE, RW, SHARED, shown.mmap_offset)?;
    bound.unbind()?;
    for map in [&map, &untouched] {
        dies_of(libc::SIGBUS, || assert_eq!(map.u32(0), 0))?;
    }
    check!(!claimed(&bound)?, "the registers are still claimed");
    let result = word(&session, shown.mmap_offset);
    refused(result, Operation::Read, Reason::DeviceGone, &[])?;
    let result = session.pwrite(&[0; 4], shown.mmap_offset);
    refused(result, Operation::Write, Reason::DeviceGone, &[])?;
    let result = bar(&session, 0, Cache::Uncached, 0);
    refused(result, Operation::Bar, Reason::DeviceGone, &[])?;
    let late = session.map(PAGE, RW, SHARED, shown.mmap_offset)?;
    dies_of(libc::SIGBUS, || assert_eq!(late.u32(0), 0))?;
    let again = Bound::edu()?;
    let session = again.open()?;
    let shown = bar(&session, 0, Cache::Uncached, 0)?;
    check_eq!(
        word(&session, shown.mmap_offset)? & 0xffff,
        0xed,
        "once more"
    );
    session.free(shown.id)?;
    check!(
        !claimed(&again)?,
        "the registers are claimed, and the last user has gone"
    );
    Ok(())
}

fn msix_table_is_never_written_to() -> Outcome {
    let bound = Bound::of(NVME)?;
    let session = bound.open()?;
    let told = device(&session)?;
    let shown = bar(&session, 0, Cache::Uncached, 0)?;
    check!(shown.bar_flags & bar::MSIX != 0, "{shown:?}");
    let place = |register: u32| -> Outcome<u64> {
        // The list of capabilities, up to that of MSI-X.
        let mut at = read(&session, 0x34, 1)?;
        while read(&session, at, 1)? != 0x11 {
            at = read(&session, at + 1, 1)?;
        }
        let place = read(&session, at + register, 4)?;
        check_eq!(place & 7, 0, "the BAR of the table");
        Ok(u64::from(place))
    };
    let (table, pending) = (place(4)?, place(8)?);
    let whole = shown.bytes as usize;
    let operands = [table, 16 * u64::from(told.msix)];
    let result = session.map(whole, RW, SHARED, shown.mmap_offset);
    refused(result, Operation::Mmap, Reason::MsixTable, &operands)?;
    let result = session.pwrite(&[0; 4], shown.mmap_offset + table + 16);
    refused(result, Operation::Write, Reason::MsixTable, &operands)?;
    let result = session.pwrite(&[0; 4], shown.mmap_offset + pending);
    check!(result.is_err(), "the pending bits were written");
    // It may be read, and stays read-only.
    let all = session.map(whole, libc::PROT_READ, SHARED, shown.mmap_offset)?;
    check_eq!(
        all.u32(table as usize + 12) & 1,
        1,
        "the mask of its first vector"
    );
    fails(all.protect(RW), libc::EACCES)?;
    let before = session.map(table as usize, RW, SHARED, shown.mmap_offset)?;
    check!(before.u64(0) != 0, "the controller has no capabilities");
    Ok(())
}

fn small_registers_have_a_page_to_themselves() -> Outcome {
    let bound = Bound::of(SHARED_MEMORY)?;
    let session = bound.open()?;
    let told = device(&session)?.bars[0];
    check_eq!((told.bytes, told.flags), (256, bar::MEMORY), "BAR 0");
    let shown = bar(&session, 0, Cache::Uncached, 0)?;
    check_eq!(shown.bytes, PAGE as u64, "the buffer's bytes");
    let map = session.map(PAGE, RW, SHARED, shown.mmap_offset)?;
    // ivshmem-spec: the mask, the state, the position.
    check_eq!(map.u32(8), 0, "its position");
    check_eq!(
        session.pread(&mut [0; 512], shown.mmap_offset)?,
        256,
        "bytes read"
    );
    let operands = [256, 256];
    let result = session.pwrite(&[0; 4], shown.mmap_offset + 256);
    refused(result, Operation::Write, Reason::WriteBeyondEnd, &operands)
}

fn prefetchable_memory_may_be_write_combined() -> Outcome {
    let bound = Bound::of(SHARED_MEMORY)?;
    let session = bound.open()?;
    let told = device(&session)?.bars[2];
    check_eq!(told.flags, bar::MEMORY | bar::PREFETCHABLE, "BAR 2");
    let shown = bar(&session, 2, Cache::WriteCombined, 64)?;
    check_eq!(shown.bytes, told.bytes, "the buffer's bytes");
    check_eq!(session.info(shown.id)?.width, 64, "bits in an access");
    let bytes = shown.bytes as usize;
    let map = session.map(bytes, RW, SHARED, shown.mmap_offset)?;
    map.set_u64(bytes - 8, 0x1122_3344_5566_7788);
    let mut last = [0; 8];
    session.pread(&mut last, shown.mmap_offset + bytes as u64 - 8)?;
    check_eq!(
        u64::from_ne_bytes(last),
        0x1122_3344_5566_7788,
        "the last word"
    );
    let other = bound.open()?;
    let operands = [2, u64::from(Cache::Uncached.number())];
    let result = bar(&other, 2, Cache::Uncached, 0);
    refused(result, Operation::Bar, Reason::BarCache, &operands)?;
    bar(&other, 2, Cache::WriteCombined, 8)?;
    let result = bar(&other, 2, Cache::Cached, 0);
    let operands = [2, u64::from(Cache::Cached.number())];
    refused(result, Operation::Bar, Reason::BarCache, &operands)?;
    let operands = [0, u64::from(Cache::WriteCombined.number())];
    let result = bar(&other, 0, Cache::WriteCombined, 0);
    refused(result, Operation::Bar, Reason::BarCache, &operands)
}

fn ports_are_read_and_written_and_not_mapped() -> Outcome {
    let bound = Bound::first_of(TEST_DEVICE)?;
    let session = bound.open()?;
    let told = device(&session)?.bars[1];
    check_eq!((told.bytes, told.flags), (256, bar::PORTS), "BAR 1");
    // docs/specs/pci-testdev: a byte to choose a test, its width, where it acts, and with what; a name from byte 16 on.
    let shown = bar(&session, 1, Cache::Uncached, 8)?;
    let at = shown.mmap_offset;
    session.pwrite(&[0], at)?;
    let mut name = [0; 32];
    check_eq!(session.pread(&mut name, at + 16)?, name.len(), "bytes read");
    let end = name
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(name.len());
    let name = String::from_utf8_lossy(&name[..end]).into_owned();
    check!(name.starts_with("portio"), "its name is {name:?}");
    check_eq!(session.pread(&mut [0; 512], at)?, 256, "bytes read");
    let result = session.map(PAGE, RW, SHARED, at);
    refused(result, Operation::Mmap, Reason::PortsNotMappable, &[256])?;
    let result = session.pwrite(&[0], at + 256);
    refused(
        result,
        Operation::Write,
        Reason::WriteBeyondEnd,
        &[256, 256],
    )?;
    let result = bar(&session, 1, Cache::Uncached, 64);
    refused(result, Operation::Bar, Reason::BarWidth, &[64])?;
    bound.unbind()?;
    let result = session.pread(&mut [0], at);
    refused(result, Operation::Read, Reason::DeviceGone, &[])
}

fn what_is_no_bar_is_refused() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    for index in [1, 5, 6, u32::MAX] {
        let operands = [u64::from(index)];
        let result = bar(&session, index, Cache::Uncached, 0);
        refused(result, Operation::Bar, Reason::NoSuchBar, &operands)?;
    }
    for width in [1, 7, 128, u32::MAX] {
        let operands = [u64::from(width)];
        let result = bar(&session, 0, Cache::Uncached, width);
        refused(result, Operation::Bar, Reason::BarWidth, &operands)?;
    }
    let request = Bar {
        size: size_of::<Bar>() as u32,
        cache: 9,
        ..Bar::default()
    };
    let result = session.ioctl(ioctl::BAR, request);
    refused(result, Operation::Bar, Reason::UnknownCache, &[9])?;
    let reader = Session::open_path(bound.node(), false)?;
    let operands = [u64::from(Operation::Bar.number())];
    let result = bar(&reader, 0, Cache::Uncached, 0);
    refused(result, Operation::Bar, Reason::ReadOnlyOpen, &operands)?;
    let shown = bar(&session, 0, Cache::Uncached, 0)?;
    let result = session.map(2 << 20, RW, SHARED, shown.mmap_offset);
    let operands = [0, 2 << 20, 1 << 20];
    refused(result, Operation::Mmap, Reason::BeyondEnd, &operands)?;
    let result = session.map(PAGE, RW | libc::PROT_EXEC, SHARED, shown.mmap_offset);
    refused(result, Operation::Mmap, Reason::Executable, &[])
}
