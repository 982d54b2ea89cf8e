//! Devices that are bound to the driver.

use crate::check::{dies_of, elsewhere, refused, Failure, Outcome};
use crate::session::Session;
use crate::sys::{become_user, Map, Plain, PAGE, RW, SHARED};
use crate::{check, check_eq, skip};
use mapbuf_abi::{
    device_state, feature, ioctl, traits, Attach, Bar, Config, Detach, Device, DmaMask, Info,
    Iommu, Irq, Kind, Method, Operation, Reason, Sync, NO_GROUP, PCI_NODE_PREFIX,
};
use std::collections::VecDeque;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

/// A request with nothing but its size in it.
macro_rules! request {
    ($name:ident) => {
        $name {
            size: size_of::<$name>() as u32,
            ..Default::default()
        }
    };
}

tests! { "devices":
    STOCK, 60: [
        other_nodes_have_no_device,
    ];
    DEVICES, 60: [
        no_device_is_taken_that_nobody_gave,
        bound_device_has_a_node_and_tells_what_it_is,
        new_id_binds_too,
        node_of_an_unbound_device_says_so,
        mask_is_negotiated_and_settable,
        coherent_memory_of_a_device_has_an_address_for_it,
        memory_of_a_device_is_mapped_by_faults_alone,
        memory_of_a_device_goes_with_it,
        unbind_while_memory_is_mapped_and_touched,
        device_that_another_driver_could_reach_is_refused,
    ];
}

macro_rules! same {
    ($left:expr, $right:expr $(,)?) => {
        check_eq!($left, $right, "{}", stringify!($left))
    };
}

/// QEMU's `edu`: vendor and device.
const EDU: (u32, u32) = (0x1234, 0x11e8);
const BUS: &str = "/sys/bus/pci";
const DRIVER: &str = "/sys/bus/pci/drivers/mapbuf";

pub fn attribute(device: &str, name: &str) -> Outcome<String> {
    let path = format!("{BUS}/devices/{device}/{name}");
    Ok(fs::read_to_string(path)?.trim().to_owned())
}

fn number(device: &str, name: &str) -> Outcome<u32> {
    let text = attribute(device, name)?;
    u32::from_str_radix(text.trim_start_matches("0x"), 16)
        .map_err(|_| Failure::new(format!("{name} of {device} is {text}")))
}

/// The addresses of all devices with this vendor and device.
pub fn addresses(id: (u32, u32)) -> Outcome<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(format!("{BUS}/devices"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if (number(&name, "vendor")?, number(&name, "device")?) == id {
            found.push(name);
        }
    }
    found.sort();
    Ok(found)
}

fn edu() -> Outcome<String> {
    let mut all = addresses(EDU)?;
    all.pop().ok_or_else(|| Failure::new("there is no edu"))
}

/// A device that is bound to the driver by `driver_override`, and given back when dropped.
pub struct Bound(pub String);

impl Bound {
    pub fn edu() -> Outcome<Self> {
        Self::of(EDU)
    }

    /// The last device with this vendor and device.
    pub fn of(id: (u32, u32)) -> Outcome<Self> {
        let address = addresses(id)?.pop();
        let none = || Failure::new(format!("there is no {:04x}:{:04x}", id.0, id.1));
        Self::at(address.ok_or_else(none)?)
    }

    /// The first one with this vendor and device: it shares nothing with another.
    pub fn first_of(id: (u32, u32)) -> Outcome<Self> {
        let address = addresses(id)?.into_iter().next();
        let none = || Failure::new(format!("there is no {:04x}:{:04x}", id.0, id.1));
        Self::at(address.ok_or_else(none)?)
    }

    fn at(address: String) -> Outcome<Self> {
        let other = format!("{BUS}/devices/{address}/driver/unbind");
        if Path::new(&other).exists() {
            fs::write(other, &address)?;
        }
        fs::write(format!("{BUS}/devices/{address}/driver_override"), "mapbuf")?;
        fs::write(format!("{BUS}/drivers_probe"), &address)?;
        Ok(Self(address))
    }

    pub fn node(&self) -> String {
        format!("{PCI_NODE_PREFIX}{}", self.0)
    }

    pub fn open(&self) -> Outcome<Session> {
        Ok(Session::open_path(self.node(), true)?)
    }

    /// Has the driver take it again, if there is the driver.
    pub fn bind_again(&self) -> std::io::Result<()> {
        fs::write(format!("{BUS}/drivers_probe"), &self.0)
    }

    pub fn unbind(&self) -> std::io::Result<()> {
        fs::write(format!("{DRIVER}/unbind"), &self.0)
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        // It may be unbound already.
        let _ = self.unbind();
        let _ = fs::write(format!("{BUS}/devices/{}/driver_override", self.0), "\n");
        // Whichever driver the kernel likes has it again.
        let _ = fs::write(format!("{BUS}/drivers_probe"), &self.0);
    }
}

pub fn device(session: &Session) -> Outcome<Device> {
    Ok(session.ioctl(ioctl::DEVICE, request!(Device))?)
}

fn no_device_is_taken_that_nobody_gave() -> Outcome {
    let address = edu()?;
    fs::write(format!("{BUS}/drivers_probe"), &address)?;
    let bound = Path::new(DRIVER).join(&address).exists();
    check!(!bound, "{address} was taken without being given");
    check!(
        !Path::new(&format!("{PCI_NODE_PREFIX}{address}")).exists(),
        "there is a node of {address}"
    );
    Ok(())
}

fn bound_device_has_a_node_and_tells_what_it_is() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    let told = device(&session)?;
    let end = told.name.iter().position(|byte| *byte == 0);
    let name = &told.name[..end.unwrap_or(told.name.len())];
    same!(String::from_utf8_lossy(name), bound.0.as_str());
    same!((told.vendor, told.device), EDU);
    same!(told.pci_class, number(&bound.0, "class")?);
    same!(told.revision, number(&bound.0, "revision")?);
    same!(told.subsystem_vendor, number(&bound.0, "subsystem_vendor")?);
    // One BAR of 1 MiB, one MSI vector and the pin: hw/misc/edu.c of QEMU.
    same!(told.bars[0].bytes, 1 << 20);
    same!(told.bars[0].flags, mapbuf_abi::bar::MEMORY);
    check!(told.bars[1..].iter().all(|bar| bar.bytes == 0), "{told:?}");
    same!((told.intx, told.msi, told.msix), (1, 1, 0));
    let group = fs::read_link(format!("{BUS}/devices/{}/iommu_group", bound.0));
    let group = group.ok().and_then(|path| {
        let name = path.file_name()?.to_string_lossy().into_owned();
        name.parse().ok()
    });
    same!(told.iommu_group, group.unwrap_or(NO_GROUP));
    let expected = match group {
        Some(_) => Iommu::Translated,
        None => Iommu::None,
    };
    same!(Iommu::from_number(told.iommu), Some(expected));
    let usable = device_state::PRESENT | device_state::USABLE | device_state::COHERENT;
    // Without an IOMMU the program says when it may send DMA.
    let master = match expected {
        Iommu::Translated => device_state::BUS_MASTER,
        _ => 0,
    };
    same!(told.state, usable | master);
    let query = session.query()?;
    check!(query.features & feature::DEVICE != 0, "{query:?}");
    // Without an IOMMU only who may do anything uses the device.
    fs::set_permissions(bound.node(), fs::Permissions::from_mode(0o666))?;
    elsewhere(|| {
        become_user(1000, 1000)?;
        let session = bound.open()?;
        let told = device(&session)?;
        let result = session.alloc(Kind::Pages, PAGE).map(drop);
        match group {
            Some(_) => {
                check!(told.state & device_state::USABLE != 0, "{told:?}");
                result?;
                Ok(())
            }
            None => {
                check!(told.state & device_state::USABLE == 0, "{told:?}");
                refused(result, Operation::Alloc, Reason::DeviceNotIsolated, &[])
            }
        }
    })
}

fn new_id_binds_too() -> Outcome {
    let id = format!("{:x} {:x}", EDU.0, EDU.1);
    let address = edu()?;
    fs::write(format!("{DRIVER}/new_id"), &id)?;
    let bound = Bound(address);
    let told = bound.open().and_then(|session| device(&session));
    fs::write(format!("{DRIVER}/remove_id"), &id)?;
    let told = told?;
    same!((told.vendor, told.device), EDU);
    Ok(())
}

fn node_of_an_unbound_device_says_so() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    let buffer = session.alloc(Kind::Pages, PAGE)?;
    let map = session.map(PAGE, RW, SHARED, buffer.mmap_offset)?;
    map.set_u32(0, 0x1234_5678);
    bound.unbind()?;
    check!(
        !Path::new(&bound.node()).exists(),
        "the node is still there"
    );
    let told = device(&session)?;
    same!(told.state & device_state::PRESENT, 0);
    same!((told.vendor, told.device), EDU);
    let result = session.alloc(Kind::Pages, PAGE).map(drop);
    refused(result, Operation::Alloc, Reason::DeviceGone, &[])?;
    let mask = DmaMask {
        bits: 32,
        ..request!(DmaMask)
    };
    let result = session.ioctl(ioctl::DMA_MASK, mask);
    refused(result, Operation::DmaMask, Reason::DeviceGone, &[])?;
    // What has nothing to do with the device stays.
    same!(map.u32(0), 0x1234_5678);
    // It can be bound again at once, while the old session lives.
    let again = Bound::edu()?;
    let told = device(&again.open()?)?;
    check!(told.state & device_state::PRESENT != 0, "{told:?}");
    same!(device(&session)?.state & device_state::PRESENT, 0);
    Ok(())
}

fn mask_is_negotiated_and_settable() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    same!(device(&session)?.dma_mask, 64);
    let set = |bits| {
        let mask = DmaMask {
            bits,
            ..request!(DmaMask)
        };
        session.ioctl(ioctl::DMA_MASK, mask)
    };
    for bits in [28, 32, 64] {
        set(bits)?;
        same!(device(&session)?.dma_mask, bits);
    }
    for bits in [0, 11, 65, u32::MAX] {
        let operands = [u64::from(bits), 12, 64];
        refused(
            set(bits),
            Operation::DmaMask,
            Reason::MaskInvalid,
            &operands,
        )?;
    }
    Ok(())
}

fn other_nodes_have_no_device() -> Outcome {
    fn refuses<T: Plain>(number: u32, request: T, operation: Operation) -> Outcome {
        let operands = [u64::from(operation.number())];
        let result = Session::open()?.ioctl(number, request);
        refused(result, operation, Reason::NeedsDevice, &operands)
    }
    refuses(ioctl::DEVICE, request!(Device), Operation::Device)?;
    refuses(ioctl::DMA_MASK, request!(DmaMask), Operation::DmaMask)?;
    refuses(ioctl::ATTACH, request!(Attach), Operation::Attach)?;
    refuses(ioctl::DETACH, request!(Detach), Operation::Detach)?;
    refuses(ioctl::SYNC, request!(Sync), Operation::Sync)?;
    refuses(ioctl::IRQ, request!(Irq), Operation::Irq)?;
    refuses(ioctl::CONFIG, request!(Config), Operation::Config)?;
    refuses(ioctl::BAR, request!(Bar), Operation::Bar)
}

fn info(session: &Session, id: u32) -> Outcome<Info> {
    let request = Info {
        id,
        ..request!(Info)
    };
    Ok(session.ioctl(ioctl::INFO, request)?)
}

fn coherent_memory_of_a_device_has_an_address_for_it() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    let mask = DmaMask {
        bits: 28,
        ..request!(DmaMask)
    };
    session.ioctl(ioctl::DMA_MASK, mask)?;
    let translated = device(&session)?.iommu == Iommu::Translated.number();
    let buffer = session.alloc(Kind::Coherent, 4 * PAGE)?;
    let told = info(&session, buffer.id)?;
    check!(told.dma_address + 4 * PAGE as u64 <= 1 << 28, "{told:x?}");
    let expected = traits::COHERENT | traits::ATTACHED | traits::REVOCABLE;
    same!(told.traits, expected);
    let rows = session.segments(buffer.id)?;
    for row in &rows {
        same!(row.dma_address, told.dma_address + row.offset);
        same!(row.dma_address != row.physical_address, translated);
    }
    let (map, at) = (
        session.map(4 * PAGE, RW, SHARED, buffer.mmap_offset)?,
        3 * PAGE + 8,
    );
    same!(map.u32(at), 0);
    map.set_u32(at, 0xaabb_ccdd);
    let mut bytes = [0; 4];
    session.pread(&mut bytes, buffer.mmap_offset + at as u64)?;
    same!(u32::from_ne_bytes(bytes), 0xaabb_ccdd);
    // Addresses may be larger than the next mask.
    let mask = DmaMask {
        bits: 20,
        ..request!(DmaMask)
    };
    let result = session.ioctl(ioctl::DMA_MASK, mask);
    refused(result, Operation::DmaMask, Reason::MaskInUse, &[1])?;
    Ok(())
}

fn memory_of_a_device_is_mapped_by_faults_alone() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    let buffer = session.alloc(Kind::Coherent, 4 * PAGE)?;
    let eager = [
        Method::Remap,
        Method::RemapEach,
        Method::Insert,
        Method::MapPages,
        Method::Vmalloc,
        Method::Dma,
        Method::Iomap,
        Method::IoRemap,
    ];
    for method in eager {
        let offset = session.offset(buffer.id, method)?;
        let result = session.map(PAGE, RW, SHARED, offset);
        let operands = [u64::from(method.number())];
        refused(result, Operation::Mmap, Reason::RevocableByFault, &operands)?;
    }
    let offset = session.offset(buffer.id, Method::FaultPfn)?;
    let map = session.map(PAGE, RW, SHARED, offset)?;
    map.set_u32(0, 7);
    same!(map.u32(0), 7);
    Ok(())
}

fn memory_of_a_device_goes_with_it() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    let buffer = session.alloc(Kind::Coherent, 4 * PAGE)?;
    let huge = session.alloc(Kind::Coherent, 4 << 20)?;
    let map = session.map(4 * PAGE, RW, SHARED, buffer.mmap_offset)?;
    let by_huge = session.map(4 << 20, RW, SHARED, huge.mmap_offset)?;
    let exported = session.export(buffer.id)?;
    let by_export = Map::new(&exported, 4 * PAGE, RW, SHARED, 0)?;
    for map in [&map, &by_huge, &by_export] {
        map.set_u32(PAGE, 0x1111_2222);
    }
    // A mapping of which nothing was touched, and one that somebody else has.
    let untouched = session.map(4 * PAGE, RW, SHARED, buffer.mmap_offset)?;
    bound.unbind()?;
    for map in [&map, &by_huge, &by_export, &untouched] {
        dies_of(libc::SIGBUS, || assert_eq!(map.u32(PAGE), 0))?;
    }
    let mut bytes = [0; 4];
    let result = session.pread(&mut bytes, buffer.mmap_offset);
    refused(result, Operation::Read, Reason::DeviceGone, &[])?;
    let result = session.alloc(Kind::Coherent, PAGE).map(drop);
    refused(result, Operation::Alloc, Reason::DeviceGone, &[])?;
    // A mapping that is made afterwards has nothing to show either.
    let late = session.map(4 * PAGE, RW, SHARED, buffer.mmap_offset)?;
    dies_of(libc::SIGBUS, || assert_eq!(late.u32(0), 0))?;
    let again = Bound::edu()?;
    let session = again.open()?;
    let buffer = session.alloc(Kind::Coherent, 4 * PAGE)?;
    let map = session.map(4 * PAGE, RW, SHARED, buffer.mmap_offset)?;
    same!(map.u32(PAGE), 0);
    Ok(())
}

// Entries that are made while the device goes must not be missed.
fn unbind_while_memory_is_mapped_and_touched() -> Outcome {
    const ROUNDS: u64 = 20;
    const KEPT: usize = 8;
    for round in 0..ROUNDS {
        let bound = Bound::edu()?;
        let session = bound.open()?;
        let buffer = session.alloc(Kind::Coherent, 16 * PAGE)?;
        let file = fs::File::from(session.as_fd().try_clone_to_owned()?);
        let going = AtomicBool::new(true);
        let mapped = AtomicBool::new(false);
        let maps = thread::scope(|scope| {
            let mapper = scope.spawn(|| {
                let mut maps = VecDeque::new();
                while going.load(Relaxed) {
                    // What has no page when it is populated raises no signal.
                    let flags = SHARED | libc::MAP_POPULATE;
                    maps.extend(Map::new(&file, 16 * PAGE, RW, flags, buffer.mmap_offset));
                    mapped.store(true, Relaxed);
                    if maps.len() > KEPT {
                        maps.pop_front();
                    }
                    let mut bytes = [0; 64];
                    let _ = file.read_at(&mut bytes, buffer.mmap_offset);
                }
                maps
            });
            while !mapped.load(Relaxed) && !mapper.is_finished() {
                thread::yield_now();
            }
            thread::sleep(Duration::from_micros(700 * round));
            let unbound = bound.unbind();
            // Some are made afterwards.
            thread::sleep(Duration::from_micros(500));
            going.store(false, Relaxed);
            let maps = mapper.join();
            unbound.map(|()| maps)
        })?;
        let maps = maps.map_err(|_| Failure::new("the mapper panicked"))?;
        check!(!maps.is_empty(), "nothing was mapped");
        for map in &maps {
            dies_of(libc::SIGBUS, || assert_eq!(map.u32(5 * PAGE), 0))?;
        }
    }
    Ok(())
}

/// QEMU's `pci-testdev`. Behind the IOMMU one of them shares a bridge with [`OTHER_DEVICE`], and the bridge does not tell
/// them apart.
const TEST_DEVICE: (u32, u32) = (0x1b36, 0x0005);
/// A source of random numbers (virtio 1.0), which the kernel's own driver has.
const OTHER_DEVICE: (u32, u32) = (0x1af4, 0x1044);

/// An address as a refusal has it.
fn operand(address: &str) -> Outcome<u64> {
    let mut number = 0;
    for (part, bits) in address.split([':', '.']).zip([16, 8, 5, 3]) {
        let part = u64::from_str_radix(part, 16);
        let part = part.map_err(|_| Failure::new(format!("{address} is no address")))?;
        number = number << bits | part;
    }
    Ok(number)
}

fn device_that_another_driver_could_reach_is_refused() -> Outcome {
    let group = |address: &str| {
        fs::read_link(format!("{BUS}/devices/{address}/iommu_group"))
            .ok()
            .and_then(|path| path.file_name()?.to_string_lossy().parse::<u64>().ok())
    };
    let (ours, other) = (
        addresses(TEST_DEVICE)?.pop(),
        addresses(OTHER_DEVICE)?.pop(),
    );
    let (Some(ours), Some(other)) = (&ours, &other) else {
        skip!("no two devices share a group here");
    };
    check!(group(ours).is_some(), "{ours} has no group");
    same!(group(ours), group(other));
    let at_first = fs::read_link(format!("{BUS}/devices/{other}/driver")).is_ok();
    check!(at_first, "{other} has no driver");
    fs::write(format!("{BUS}/devices/{other}/driver/unbind"), other)?;
    let bound = Bound::of(TEST_DEVICE)?;
    same!(&bound.0, ours);
    let session = bound.open()?;
    // Nobody has the other one.
    session.alloc(Kind::Pages, PAGE)?;
    let operands = [group(ours).unwrap_or(0), operand(ours)?, operand(other)?];
    fs::write(format!("{BUS}/drivers_probe"), other)?;
    let refuses = || {
        let mut config = request!(Config);
        config.width = 2;
        let mut mask = request!(DmaMask);
        mask.bits = 32;
        let (mut irq, bar) = (request!(Irq), request!(Bar));
        (irq.kind, irq.action) = (1, 4);
        let result = session.alloc(Kind::Pages, PAGE).map(drop);
        refused(result, Operation::Alloc, Reason::GroupShared, &operands)?;
        let result = session.ioctl(ioctl::CONFIG, config);
        refused(result, Operation::Config, Reason::GroupShared, &operands)?;
        let result = session.ioctl(ioctl::DMA_MASK, mask);
        refused(result, Operation::DmaMask, Reason::GroupShared, &operands)?;
        let result = session.ioctl(ioctl::IRQ, irq);
        refused(result, Operation::Irq, Reason::GroupShared, &operands)?;
        let result = session.ioctl(ioctl::BAR, bar);
        refused(result, Operation::Bar, Reason::GroupShared, &operands)?;
        let state = device(&session)?.state;
        same!(state & device_state::USABLE, 0);
        Ok(())
    };
    let refuses = refuses();
    fs::write(format!("{BUS}/devices/{other}/driver/unbind"), other)?;
    // And when that one goes, it may be used again.
    let again = session.alloc(Kind::Pages, PAGE).map(drop);
    fs::write(format!("{BUS}/drivers_probe"), other)?;
    refuses?;
    Ok(again?)
}
