//! A device that is bound to the driver: what it is, its registers, its interrupts, and memory that it reaches.

use crate::{buffer::Buffer, device::Device, error::Result, file::NodeFile, info::text_of, Access};
use mapbuf_abi::{
    bar, config, device_state, sync, Attach, Bar, BarInfo, Cache, Config, Detach, Direction,
    DmaMask, Iommu, Irq, IrqAction, IrqKind, Sync, BARS, NAME_LEN, NO_DESCRIPTOR, NO_GROUP,
    PCI_NODE_PREFIX, PLATFORM_NODE_PREFIX,
};
use std::{
    ops::Range,
    os::fd::{AsFd, AsRawFd},
};

/// What a bound device is (`DEVICE`).
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct PciInfo {
    /// Its address, as `0000:00:04.0`.
    pub name: String,
    /// Vendor and device.
    pub id: (u32, u32),
    /// Vendor and device of the subsystem.
    pub subsystem: (u32, u32),
    /// Base class, sub-class and interface, a byte each.
    pub class: u32,
    /// Revision.
    pub revision: u32,
    /// It is there; else all of this is what it was.
    pub present: bool,
    /// This open file may use it.
    pub usable: bool,
    /// DMA is cache-coherent.
    pub coherent: bool,
    /// It may send DMA now.
    pub bus_master: bool,
    /// What stands between it and memory; `None` for a number that this library does not know.
    pub iommu: Option<Iommu>,
    /// Its IOMMU group.
    pub iommu_group: Option<u32>,
    /// Its NUMA node.
    pub numa_node: Option<u32>,
    /// Bits of its DMA addresses now.
    pub dma_mask: u32,
    /// Bytes of its configuration space.
    pub config_bytes: u32,
    /// Vectors that it has: INTx, MSI, MSI-X.
    pub vectors: [u32; 3],
    /// Its base address registers, by number.
    pub bars: [Option<PciBar>; BARS],
}

impl PciInfo {
    /// Vectors of this kind that it has.
    pub fn vectors_of(&self, kind: IrqKind) -> u32 {
        let [intx, msi, msix] = self.vectors;
        match kind {
            IrqKind::Intx => intx,
            IrqKind::Msi => msi,
            IrqKind::Msix => msix,
        }
    }
}

/// What a base address register leads to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct PciBar {
    /// Its size in bytes.
    pub bytes: u64,
    /// Ports, which are read and written and not mapped.
    pub ports: bool,
    /// It may be mapped write-combined.
    pub prefetchable: bool,
    /// The MSI-X table lies in it.
    pub msix: bool,
}

impl PciBar {
    fn of(info: BarInfo) -> Option<Self> {
        let has = |bit| info.flags & bit != 0;
        (info.bytes != 0).then(|| Self {
            bytes: info.bytes,
            ports: has(bar::PORTS),
            prefetchable: has(bar::PREFETCHABLE),
            msix: has(bar::MSIX),
        })
    }
}

impl From<mapbuf_abi::Device> for PciInfo {
    fn from(device: mapbuf_abi::Device) -> Self {
        let has = |bit| device.state & bit != 0;
        let mut name = [0; NAME_LEN];
        name[..device.name.len()].copy_from_slice(&device.name);
        Self {
            name: text_of(&name).unwrap_or_default(),
            id: (device.vendor, device.device),
            subsystem: (device.subsystem_vendor, device.subsystem_device),
            class: device.pci_class,
            revision: device.revision,
            present: has(device_state::PRESENT),
            usable: has(device_state::USABLE),
            coherent: has(device_state::COHERENT),
            bus_master: has(device_state::BUS_MASTER),
            iommu: Iommu::from_number(device.iommu),
            iommu_group: (device.iommu_group != NO_GROUP).then_some(device.iommu_group),
            numa_node: u32::try_from(device.numa_node).ok(),
            dma_mask: device.dma_mask,
            config_bytes: device.config_bytes,
            vectors: [device.intx, device.msi, device.msix],
            bars: device.bars.map(PciBar::of),
        }
    }
}

/// Unsigned integers of the configuration space.
pub trait ConfigValue: sealed::ConfigValue {}

mod sealed {
    pub trait ConfigValue: Copy {
        const WIDTH: u32;
        fn widen(self) -> u32;
        fn narrow(value: u32) -> Self;
    }
}

macro_rules! config_values {
    ($($type:ty)*) => {$(
        impl sealed::ConfigValue for $type {
            const WIDTH: u32 = <$type>::BITS / 8;

            fn widen(self) -> u32 {
                u32::from(self)
            }

            #[expect(clippy::allow_attributes, reason = "one of them is no cast")]
            #[allow(clippy::cast_possible_truncation, clippy::unnecessary_cast, reason = "the driver read this many bits")]
            fn narrow(value: u32) -> Self {
                value as $type
            }
        }

        impl ConfigValue for $type {}
    )*};
}

config_values!(u8 u16 u32);

impl Device {
    /// Opens the node of a bound PCI device by its address, as `0000:00:04.0`, for reading and writing.
    ///
    /// # Errors
    ///
    /// [`Error::Open`](crate::Error::Open) where the device is not bound to the driver.
    pub fn open_pci(address: &str) -> Result<Self> {
        Self::open_with(format!("{PCI_NODE_PREFIX}{address}"), Access::ReadWrite)
    }

    /// Opens the node of a bound platform device by its name, as `40000000.buffer`, for reading and writing. Such a device is
    /// one that a device tree calls `mapbuf,buffer`, or that was given to the driver `mapbuf-buffer`. It has memory, and no BARs
    /// or interrupts.
    ///
    /// # Errors
    ///
    /// [`Error::Open`](crate::Error::Open) where the device is not bound to the driver.
    pub fn open_platform(name: &str) -> Result<Self> {
        Self::open_with(format!("{PLATFORM_NODE_PREFIX}{name}"), Access::ReadWrite)
    }

    /// What the device of this node is.
    ///
    /// # Errors
    ///
    /// [`Reason::NeedsDevice`](crate::Reason::NeedsDevice) on the node `system`.
    pub fn pci(&self) -> Result<PciInfo> {
        let mut device = mapbuf_abi::Device::default();
        self.file().call(&mut device)?;
        Ok(device.into())
    }

    /// Sets how many bits the device's DMA addresses have, 12 to 64.
    ///
    /// # Errors
    ///
    /// [`Reason::MaskRefused`](crate::Reason::MaskRefused), [`Reason::MaskInUse`](crate::Reason::MaskInUse).
    pub fn set_dma_mask(&self, bits: u32) -> Result<()> {
        self.file().call(&mut DmaMask {
            bits,
            ..DmaMask::default()
        })
    }

    /// What a base address register leads to, as a buffer: uncached, its kernel view in words of 32 bits.
    ///
    /// # Errors
    ///
    /// [`Reason::NoSuchBar`](crate::Reason::NoSuchBar), [`Reason::BarTaken`](crate::Reason::BarTaken).
    pub fn bar(&self, index: u32) -> Result<Buffer> {
        self.bar_with(index, Cache::Uncached, 32)
    }

    /// The same, with a cache mode (write-combined where it is prefetchable) and the bits in an access of the kernel's
    /// own view.
    ///
    /// # Errors
    ///
    /// As for [`bar`](Self::bar), and [`Reason::BarCache`](crate::Reason::BarCache).
    pub fn bar_with(&self, index: u32, cache: Cache, width: u32) -> Result<Buffer> {
        let mut request = Bar {
            index,
            cache: cache.number(),
            width,
            ..Bar::default()
        };
        self.file().call(&mut request)?;
        let width = if width == 0 { 32 } else { width };
        Ok(self.adopt(request.id)?.with_width(width))
    }

    /// Reads a field of the configuration space.
    ///
    /// # Errors
    ///
    /// [`Reason::ConfigOutside`](crate::Reason::ConfigOutside).
    pub fn config_read<T: ConfigValue>(&self, offset: u32) -> Result<T> {
        let mut request = Config {
            offset,
            width: T::WIDTH,
            ..Config::default()
        };
        self.file().call(&mut request)?;
        Ok(T::narrow(request.value))
    }

    /// Writes a field of the configuration space.
    ///
    /// # Errors
    ///
    /// As for [`config_read`](Self::config_read), and
    /// [`Reason::ConfigReadOnly`](crate::Reason::ConfigReadOnly).
    pub fn config_write<T: ConfigValue>(&self, offset: u32, value: T) -> Result<()> {
        self.file().call(&mut Config {
            flags: config::WRITE,
            offset,
            width: T::WIDTH,
            value: value.widen(),
            ..Config::default()
        })
    }

    /// Has a vector of the device counted by an eventfd, which stays the caller's. The first vector takes the device's
    /// vectors, at most 32 of them.
    ///
    /// # Errors
    ///
    /// [`Reason::NoSuchVector`](crate::Reason::NoSuchVector), [`Reason::IrqTaken`](crate::Reason::IrqTaken),
    /// [`Reason::IrqKindInUse`](crate::Reason::IrqKindInUse),
    /// [`Reason::NotAnEventFd`](crate::Reason::NotAnEventFd).
    pub fn irq(&self, kind: IrqKind, index: u32, eventfd: impl AsFd) -> Result<Interrupt> {
        let interrupt = Interrupt {
            device: self.clone(),
            kind,
            index,
        };
        let set = interrupt.ioctl(IrqAction::Set, eventfd.as_fd().as_raw_fd());
        match set {
            Ok(_) => Ok(interrupt),
            Err(error) => {
                // There is nothing to unset.
                std::mem::forget(interrupt);
                Err(error)
            }
        }
    }
}

/// A vector that is counted by an eventfd. Dropping it ends that.
#[derive(Debug)]
pub struct Interrupt {
    device: Device,
    kind: IrqKind,
    index: u32,
}

impl Interrupt {
    fn ioctl(&self, action: IrqAction, fd: i32) -> Result<u64> {
        let mut request = Irq {
            kind: self.kind.number(),
            index: self.index,
            action: action.number(),
            fd,
            ..Irq::default()
        };
        self.device.file().call(&mut request)?;
        Ok(request.count)
    }

    /// Keeps it from coming.
    ///
    /// # Errors
    ///
    /// [`Reason::CannotMask`](crate::Reason::CannotMask), [`Reason::DeviceGone`](crate::Reason::DeviceGone).
    pub fn mask(&self) -> Result<()> {
        self.ioctl(IrqAction::Mask, 0).map(drop)
    }

    /// Lets it come again; for INTx, says that it was served.
    ///
    /// # Errors
    ///
    /// As for [`mask`](Self::mask).
    pub fn unmask(&self) -> Result<()> {
        self.ioctl(IrqAction::Unmask, 0).map(drop)
    }

    /// Counts one, as if the device had sent it. Answers with how often it came.
    ///
    /// # Errors
    ///
    /// [`Reason::DeviceGone`](crate::Reason::DeviceGone).
    pub fn trigger(&self) -> Result<u64> {
        self.ioctl(IrqAction::Trigger, 0)
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        // It fails when the device is gone, and the interrupt with it.
        let _ = self.ioctl(IrqAction::Set, NO_DESCRIPTOR);
    }
}

impl Buffer {
    /// Maps it for the device of its node. Answers with the address of its first byte for the device; where it lies in
    /// several runs, [`device_segments`](Self::device_segments) tells all.
    ///
    /// # Errors
    ///
    /// [`Reason::CannotAttach`](crate::Reason::CannotAttach),
    /// [`Reason::ExporterRefusedDevice`](crate::Reason::ExporterRefusedDevice),
    /// [`Reason::AlreadyAttached`](crate::Reason::AlreadyAttached),
    /// [`Reason::DmaRefused`](crate::Reason::DmaRefused).
    pub fn attach(&self, direction: Direction) -> Result<u64> {
        let mut request = Attach {
            id: self.id(),
            direction: direction.number(),
            ..Attach::default()
        };
        self.device().file().call(&mut request)?;
        Ok(request.dma_address)
    }

    /// Takes the device's addresses for it away. So does dropping it.
    ///
    /// # Errors
    ///
    /// [`Reason::NotAttached`](crate::Reason::NotAttached).
    pub fn detach(&self) -> Result<()> {
        self.device().file().call(&mut Detach {
            id: self.id(),
            ..Detach::default()
        })
    }

    /// Says that the CPU is about to use these bytes, and that the device is done with them.
    ///
    /// # Errors
    ///
    /// [`Reason::SyncOutside`](crate::Reason::SyncOutside), [`Reason::NotAttached`](crate::Reason::NotAttached).
    pub fn sync_begin(&self, bytes: Range<u64>, direction: Direction) -> Result<()> {
        sync(
            self.device().file(),
            self.id(),
            bytes,
            direction,
            sync::BEGIN,
        )
    }

    /// Says that the CPU is done with these bytes, and that the device may have them.
    ///
    /// # Errors
    ///
    /// As for [`sync_begin`](Self::sync_begin).
    pub fn sync_end(&self, bytes: Range<u64>, direction: Direction) -> Result<()> {
        sync(self.device().file(), self.id(), bytes, direction, sync::END)
    }
}

pub(crate) fn sync(
    file: &NodeFile,
    id: u32,
    bytes: Range<u64>,
    direction: Direction,
    flags: u32,
) -> Result<()> {
    file.call(&mut Sync {
        flags,
        id,
        direction: direction.number(),
        offset: bytes.start,
        length: bytes.end.saturating_sub(bytes.start),
        ..Sync::default()
    })
}
