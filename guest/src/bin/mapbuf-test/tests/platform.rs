//! Platform devices: those that a device tree describes (`examples/device-tree/buffers.dts`), and one that was given to the
//! driver.

use super::attached::{attach, detach, device_rows};
use super::devices::device;
use super::interrupts::Event;
use crate::check::{dies_of, refused, Outcome};
use crate::session::Session;
use crate::sys::PAGE;
use crate::{check, check_eq, skip};
use mapbuf_abi::{
    device_state, ioctl, traits, Bar, Cache, Config, Device, Direction, Info, Irq, IrqAction,
    IrqKind, Kind, Operation, Reason, PLATFORM_NODE_PREFIX,
};
use std::fs;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::path::Path;

tests! { "platform":
    DEVICES, 60: [
        device_that_was_given_has_memory,
    ];
    TREE, 60: [
        described_devices_are_there_when_the_module_is,
        device_has_nothing_of_pci,
        memory_comes_from_the_region,
        memory_of_a_region_comes_to_an_end,
        device_without_a_region_has_other_memory,
        memory_goes_with_the_device,
        region_that_is_no_pool_is_refused,
        pages_are_attached,
    ];
}

macro_rules! same {
    ($left:expr, $right:expr $(,)?) => {
        check_eq!($left, $right, "{}", stringify!($left))
    };
}

const BUS: &str = "/sys/bus/platform";
const DRIVER: &str = "/sys/bus/platform/drivers/mapbuf-buffer";

/// A device of the tree that has a region, where the region is, and what else is in the tree.
const WITH_REGION: &str = "camera-buffers";
const REGION: Range<u64> = 0x3000_0000..0x3010_0000;
const WITHOUT_REGION: &str = "buffers";
const NO_POOL: &str = "no-pool";

fn open(name: &str) -> Outcome<Session> {
    Ok(Session::open_path(
        format!("{PLATFORM_NODE_PREFIX}{name}"),
        true,
    )?)
}

fn bound(name: &str) -> bool {
    Path::new(DRIVER).join(name).exists()
}

fn info(session: &Session, id: u32) -> Outcome<Info> {
    let request = Info {
        size: size_of::<Info>() as u32,
        id,
        ..Info::default()
    };
    Ok(session.ioctl(ioctl::INFO, request)?)
}

fn name_of(told: &Device) -> String {
    let bytes = told.name.iter().copied().take_while(|byte| *byte != 0);
    String::from_utf8_lossy(&bytes.collect::<Vec<_>>()).into_owned()
}

/// Writes words by the mapping and reads them by the kernel; the rows of SEGMENTS lie in `place`.
fn works_and_lies_in(session: &Session, kind: Kind, place: Option<&Range<u64>>) -> Outcome {
    const BYTES: usize = 16 * PAGE;
    let (buffer, map) = session.mapped(kind, BYTES)?;
    for page in 0..16 {
        check_eq!(map.u32(page * PAGE), 0, "page {page}");
        map.set_u32(page * PAGE + 8, 0xaabb_cc00 + page as u32);
        let mut bytes = [0; 4];
        session.pread(&mut bytes, buffer.mmap_offset + (page * PAGE + 8) as u64)?;
        same!(u32::from_ne_bytes(bytes), 0xaabb_cc00 + page as u32);
    }
    let told = info(session, buffer.id)?;
    for row in session.segments(buffer.id)? {
        for at in (row.offset..row.offset + row.length).step_by(PAGE) {
            let physical = row.physical_address + (at - row.offset);
            same!(row.dma_address + (at - row.offset), told.dma_address + at);
            if let Some(place) = place {
                check!(
                    place.contains(&physical),
                    "{physical:#x} is not in {place:x?}"
                );
            }
        }
    }
    Ok(())
}

/// A device that no driver has.
fn idle() -> Outcome<String> {
    for entry in fs::read_dir(format!("{BUS}/devices"))? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        // The driver's own device is not for others.
        if !path.join("driver").exists() && name != "mapbuf" {
            return Ok(name);
        }
    }
    skip!("each platform device has a driver")
}

/// Gives a device to the driver, and takes it back.
struct Given(String);

impl Given {
    fn new(name: String) -> Outcome<Self> {
        fs::write(
            format!("{BUS}/devices/{name}/driver_override"),
            "mapbuf-buffer",
        )?;
        let given = Self(name);
        fs::write(format!("{BUS}/drivers_probe"), &given.0)?;
        Ok(given)
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        // It may be unbound already.
        let _ = fs::write(format!("{DRIVER}/unbind"), &self.0);
        let _ = fs::write(format!("{BUS}/devices/{}/driver_override", self.0), "\n");
    }
}

fn device_that_was_given_has_memory() -> Outcome {
    let name = idle()?;
    check!(!bound(&name), "{name} was taken without being given");
    let given = Given::new(name.clone())?;
    let session = open(&name)?;
    same!(name_of(&device(&session)?), name);
    works_and_lies_in(&session, Kind::Coherent, None)?;
    let (buffer, map) = session.mapped(Kind::Coherent, PAGE)?;
    drop(given);
    dies_of(libc::SIGBUS, || assert_eq!(map.u32(0), 0))?;
    let mut bytes = [0; 4];
    let result = session.pread(&mut bytes, buffer.mmap_offset);
    refused(result, Operation::Read, Reason::DeviceGone, &[])?;
    let node = format!("{PLATFORM_NODE_PREFIX}{name}");
    check!(!Path::new(&node).exists(), "{node} is still there");
    // Nothing is in the way of the next time.
    let _given = Given::new(name.clone())?;
    works_and_lies_in(&open(&name)?, Kind::Coherent, None)
}

fn described_devices_are_there_when_the_module_is() -> Outcome {
    for name in [WITH_REGION, WITHOUT_REGION] {
        check!(bound(name), "{name} is not bound");
        let told = device(&open(name)?)?;
        same!(name_of(&told), name);
        check!(told.dma_mask >= 32, "{told:?}");
    }
    Ok(())
}

fn device_has_nothing_of_pci() -> Outcome {
    let session = open(WITH_REGION)?;
    let told = device(&session)?;
    same!(
        (told.vendor, told.device, told.pci_class, told.config_bytes),
        (0, 0, 0, 0)
    );
    same!((told.intx, told.msi, told.msix), (0, 0, 0));
    check!(
        told.bars.iter().all(|bar| bar.bytes == 0 && bar.flags == 0),
        "{told:?}"
    );
    let state = device_state::PRESENT
        | device_state::USABLE
        | device_state::COHERENT
        | device_state::BUS_MASTER;
    same!(told.state, state);
    let config = Config {
        size: size_of::<Config>() as u32,
        width: 4,
        ..Config::default()
    };
    refused(
        session.ioctl(ioctl::CONFIG, config),
        Operation::Config,
        Reason::ConfigOutside,
        &[0, 4, 0],
    )?;
    let bar = Bar {
        size: size_of::<Bar>() as u32,
        ..Bar::default()
    };
    refused(
        session.ioctl(ioctl::BAR, bar),
        Operation::Bar,
        Reason::NoSuchBar,
        &[0],
    )?;
    let event = Event::new()?;
    for kind in [IrqKind::Intx, IrqKind::Msi, IrqKind::Msix] {
        let irq = Irq {
            size: size_of::<Irq>() as u32,
            kind: kind.number(),
            action: IrqAction::Set.number(),
            fd: event.as_raw_fd(),
            ..Irq::default()
        };
        let operands = [u64::from(kind.number()), 0, 0];
        refused(
            session.ioctl(ioctl::IRQ, irq),
            Operation::Irq,
            Reason::NoSuchVector,
            &operands,
        )?;
    }
    Ok(())
}

fn memory_comes_from_the_region() -> Outcome {
    let session = open(WITH_REGION)?;
    works_and_lies_in(&session, Kind::Coherent, Some(&REGION))?;
    let buffer = session.alloc(Kind::Coherent, 2 * PAGE)?;
    let told = info(&session, buffer.id)?;
    check!(REGION.contains(&told.dma_address), "{told:x?}");
    // As the kernel has the region mapped: two views of memory must have the same cache mode.
    same!(Cache::from_number(told.cache), Some(Cache::WriteCombined));
    same!(told.traits & traits::COHERENT, traits::COHERENT);
    // Other kinds are where they always are.
    let pages = session.alloc(Kind::Pages, PAGE)?;
    for row in session.segments(pages.id)? {
        check!(!REGION.contains(&row.physical_address), "{row:x?}");
    }
    Ok(())
}

fn memory_of_a_region_comes_to_an_end() -> Outcome {
    let session = open(WITH_REGION)?;
    let bytes = (REGION.end - REGION.start) as usize;
    let result = session.alloc(Kind::Coherent, 2 * bytes).map(drop);
    let most = 4 << 20;
    refused(
        result,
        Operation::Alloc,
        Reason::NoCoherentMemory,
        &[2 * bytes as u64, most],
    )?;
    for round in 0..3 {
        let all = session.alloc(Kind::Coherent, bytes)?;
        let told = info(&session, all.id)?;
        check_eq!(told.dma_address, REGION.start, "round {round}");
        let result = session.alloc(Kind::Coherent, PAGE).map(drop);
        refused(
            result,
            Operation::Alloc,
            Reason::NoCoherentMemory,
            &[PAGE as u64, most],
        )?;
        session.free(all.id)?;
    }
    Ok(())
}

fn device_without_a_region_has_other_memory() -> Outcome {
    let session = open(WITHOUT_REGION)?;
    works_and_lies_in(&session, Kind::Coherent, None)?;
    let buffer = session.alloc(Kind::Coherent, 4 * PAGE)?;
    for row in session.segments(buffer.id)? {
        check!(!REGION.contains(&row.physical_address), "{row:x?}");
    }
    same!(
        Cache::from_number(info(&session, buffer.id)?.cache),
        Some(Cache::Cached)
    );
    Ok(())
}

fn memory_goes_with_the_device() -> Outcome {
    let session = open(WITH_REGION)?;
    let bytes = (REGION.end - REGION.start) as usize;
    let (buffer, map) = session.mapped(Kind::Coherent, bytes)?;
    map.set_u32(PAGE, 7);
    fs::write(format!("{DRIVER}/unbind"), WITH_REGION)?;
    dies_of(libc::SIGBUS, || assert_eq!(map.u32(PAGE), 0))?;
    let mut byte = [0];
    let result = session.pread(&mut byte, buffer.mmap_offset);
    refused(result, Operation::Read, Reason::DeviceGone, &[])?;
    fs::write(format!("{DRIVER}/bind"), WITH_REGION)?;
    // All of the region is there again, and zeroed.
    let again = open(WITH_REGION)?;
    let (_buffer, map) = again.mapped(Kind::Coherent, bytes)?;
    same!(map.u32(PAGE), 0);
    Ok(())
}

fn region_that_is_no_pool_is_refused() -> Outcome {
    check!(
        Path::new(&format!("{BUS}/devices/{NO_POOL}")).exists(),
        "there is no {NO_POOL}"
    );
    check!(
        !bound(NO_POOL),
        "{NO_POOL} is bound, though its region is no pool"
    );
    let error = fs::write(format!("{DRIVER}/bind"), NO_POOL).err();
    let errno = error.and_then(|error| error.raw_os_error());
    same!(errno, Some(libc::EINVAL));
    Ok(())
}

fn pages_are_attached() -> Outcome {
    let session = open(WITH_REGION)?;
    let buffer = session.alloc(Kind::Pages, 8 * PAGE)?;
    attach(&session, buffer.id, Direction::Both.number())?;
    let (rows, _) = device_rows(&session, buffer.id, 8)?;
    same!(
        rows.iter().map(|row| row.length).sum::<u64>(),
        8 * PAGE as u64
    );
    for (row, physical) in rows.iter().zip(session.segments(buffer.id)?) {
        check_eq!(
            row.dma_address,
            physical.physical_address,
            "no IOMMU is between them"
        );
    }
    detach(&session, buffer.id)?;
    Ok(())
}
