//! The registers of devices that are bound to the driver: configuration space and BARs.

use super::devices::{attribute, device, Bound};
use crate::check::{refused, Outcome};
use crate::session::{Result, Session};
use crate::{check, check_eq};
use mapbuf_abi::{config, device_state, ioctl, Config, Operation, Reason};
use std::fs;

tests! { "registers":
    DEVICES, 60: [
        configuration_space_reads_as_the_kernel_reads_it,
        bus_master_is_set_and_cleared_by_its_users,
        configuration_space_is_written_only_where_it_may_be,
    ];
}

/// PCI's command register, and its bits.
const COMMAND: u32 = 4;
const MEMORY: u32 = 1 << 1;
const MASTER: u32 = 1 << 2;
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

/// What the kernel's own view of the device says, not ours.
fn command(bound: &Bound) -> Outcome<u32> {
    let space = fs::read(format!("/sys/bus/pci/devices/{}/config", bound.0))?;
    Ok(u32::from(u16::from_le_bytes([space[4], space[5]])))
}

fn bus_master_is_set_and_cleared_by_its_users() -> Outcome {
    let bound = Bound::edu()?;
    check_eq!(command(&bound)? & MASTER, 0, "bus master without a user");
    let first = bound.open()?;
    let second = bound.open()?;
    check_eq!(command(&bound)? & MASTER, MASTER, "with two");
    drop(first);
    check_eq!(command(&bound)? & MASTER, MASTER, "with one left");
    let now = read(&second, COMMAND, 2)?;
    write(&second, COMMAND, 2, now & !MASTER)?;
    check_eq!(command(&bound)? & MASTER, 0, "after it was cleared");
    let state = device(&second)?.state;
    check_eq!(state & device_state::BUS_MASTER, 0, "what DEVICE says");
    write(&second, COMMAND, 2, now)?;
    check_eq!(command(&bound)? & MASTER, MASTER, "after it was set");
    drop(second);
    check_eq!(command(&bound)? & MASTER, 0, "when the last has gone");
    let third = bound.open()?;
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
