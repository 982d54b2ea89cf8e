//! A PCI function by VFIO: the yardstick. It gives `mapbuf_nvme` what that takes from mapbuf elsewhere, by the ioctls of
//! `include/uapi/linux/vfio.h`, as `Documentation/driver-api/vfio.rst` shows them.
//!
//! It is written as briefly as it can be: the lines of set-up are counted, and compared.

use mapbuf_nvme::{Error, Function, Memory, Result};
use rustix::event::{eventfd, EventfdFlags};
use rustix::mm::{mmap, mmap_anonymous, munmap, MapFlags, ProtFlags};
use std::cell::Cell;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::ptr;
use std::rc::Rc;
use std::sync::atomic::{fence, Ordering};
use vfio_bindings::bindings::vfio as sys;

/// The numbers of the ioctls: `_IO(VFIO_TYPE, VFIO_BASE + N)`.
const fn number(n: u32) -> libc::c_ulong {
    ((sys::VFIO_TYPE as u32) << 8 | (sys::VFIO_BASE + n)) as libc::c_ulong
}
const SET_IOMMU: libc::c_ulong = number(2);
const GROUP_GET_STATUS: libc::c_ulong = number(3);
const GROUP_SET_CONTAINER: libc::c_ulong = number(4);
const GROUP_GET_DEVICE_FD: libc::c_ulong = number(6);
const DEVICE_GET_REGION_INFO: libc::c_ulong = number(8);
const DEVICE_SET_IRQS: libc::c_ulong = number(10);
const IOMMU_MAP_DMA: libc::c_ulong = number(13);
const IOMMU_UNMAP_DMA: libc::c_ulong = number(14);

/// Where the device finds the first memory that it is given: above what a PCI bridge would take for itself.
const FIRST_ADDRESS: u64 = 1 << 32;
const PCI_COMMAND: u64 = 4;
const BUS_MASTER: u8 = 4;
const PAGE: usize = 4096;

/// Calls one of VFIO's ioctls, whose argument is a number, or a pointer to what the number's definition names.
fn ioctl(file: &File, number: libc::c_ulong, argument: usize) -> Result<i32> {
    // SAFETY: the callers pass pointers to whole structures with their sizes in them, or plain numbers.
    match unsafe { libc::ioctl(file.as_raw_fd(), number, argument) } {
        -1 => Err(Error::platform(io::Error::last_os_error())),
        answer => Ok(answer),
    }
}

fn open(path: &str) -> Result<File> {
    let file = File::options().read(true).write(true).open(path);
    file.map_err(|error| Error::platform(format!("{path}: {error}")))
}

/// A function that the program has by VFIO.
pub struct Vfio {
    container: Rc<File>,
    _group: File,
    device: File,
    registers: Mapping,
    next: Cell<u64>,
}

impl Vfio {
    /// Takes the function with this address, which `vfio-pci` must have already.
    pub fn open(address: &str) -> Result<Self> {
        let container = open("/dev/vfio/vfio")?;
        let link = format!("/sys/bus/pci/devices/{address}/iommu_group");
        let number = fs::read_link(link).map_err(Error::platform)?;
        let number = number.file_name().unwrap_or_default().to_string_lossy();
        let group = open(&format!("/dev/vfio/{number}"))?;
        let mut status = sys::vfio_group_status {
            argsz: size_of::<sys::vfio_group_status>() as u32,
            flags: 0,
        };
        ioctl(&group, GROUP_GET_STATUS, &raw mut status as usize)?;
        if status.flags & sys::VFIO_GROUP_FLAGS_VIABLE == 0 {
            return Err(Error::platform("another driver has a device of the group"));
        }
        let descriptor = container.as_raw_fd();
        ioctl(&group, GROUP_SET_CONTAINER, &raw const descriptor as usize)?;
        ioctl(&container, SET_IOMMU, sys::VFIO_TYPE1v2_IOMMU as usize)?;
        let name = std::ffi::CString::new(address).map_err(Error::platform)?;
        let device = ioctl(&group, GROUP_GET_DEVICE_FD, name.as_ptr() as usize)?;
        // SAFETY: the kernel has just made it for this program.
        let device = File::from(unsafe { OwnedFd::from_raw_fd(device) });
        let bar = region(&device, sys::VFIO_PCI_BAR0_REGION_INDEX)?;
        let registers = Mapping::of(&device, bar.offset, bar.size as usize)?;
        let config = region(&device, sys::VFIO_PCI_CONFIG_REGION_INDEX)?;
        let mut command = [0; 2];
        let at = config.offset + PCI_COMMAND;
        let set = device.read_exact_at(&mut command, at).and_then(|()| {
            command[0] |= BUS_MASTER;
            device.write_all_at(&command, at)
        });
        set.map_err(Error::platform)?;
        Ok(Self {
            container: Rc::new(container),
            _group: group,
            device,
            registers,
            next: Cell::new(FIRST_ADDRESS),
        })
    }
}

fn region(device: &File, index: u32) -> Result<sys::vfio_region_info> {
    let mut info = sys::vfio_region_info {
        argsz: size_of::<sys::vfio_region_info>() as u32,
        index,
        ..Default::default()
    };
    ioctl(device, DEVICE_GET_REGION_INFO, &raw mut info as usize)?;
    Ok(info)
}

impl Function for Vfio {
    type Memory = Shared;

    fn load(&self, register: usize) -> Result<u32> {
        self.registers.load(register)
    }

    fn store(&self, register: usize, value: u32) -> Result<()> {
        let place = self.registers.place(register, 4)?.cast::<u32>();
        // What lies in memory must be there before the device is told of it.
        fence(Ordering::SeqCst);
        // SAFETY: `place` has checked that it lies within the mapping; registers are aligned.
        unsafe { place.write_volatile(value) };
        Ok(())
    }

    fn memory(&self, bytes: usize) -> Result<Shared> {
        let bytes = bytes.next_multiple_of(PAGE);
        let mapping = Mapping::anonymous(bytes)?;
        let address = self.next.get();
        let map = sys::vfio_iommu_type1_dma_map {
            argsz: size_of::<sys::vfio_iommu_type1_dma_map>() as u32,
            flags: sys::VFIO_DMA_MAP_FLAG_READ | sys::VFIO_DMA_MAP_FLAG_WRITE,
            vaddr: mapping.start as u64,
            iova: address,
            size: bytes as u64,
        };
        ioctl(&self.container, IOMMU_MAP_DMA, &raw const map as usize)?;
        self.next.set(address + bytes as u64);
        Ok(Shared {
            mapping,
            address,
            container: Rc::clone(&self.container),
        })
    }

    fn interrupts(&self, count: u32) -> Result<Vec<OwnedFd>> {
        let made = (0..count).map(|_| eventfd(0, EventfdFlags::CLOEXEC));
        let fds = made.collect::<rustix::io::Result<Vec<_>>>()?;
        // A `vfio_irq_set`, and the descriptors behind it.
        let mut words = vec![
            20 + 4 * count,
            sys::VFIO_IRQ_SET_DATA_EVENTFD | sys::VFIO_IRQ_SET_ACTION_TRIGGER,
            sys::VFIO_PCI_MSIX_IRQ_INDEX,
            0,
            count,
        ];
        words.extend(fds.iter().map(|fd| fd.as_raw_fd() as u32));
        ioctl(&self.device, DEVICE_SET_IRQS, words.as_ptr() as usize)?;
        Ok(fds)
    }
}

/// A mapping, unmapped at the end.
struct Mapping {
    start: *mut libc::c_void,
    bytes: usize,
}

impl Mapping {
    fn of(file: &File, offset: u64, bytes: usize) -> Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, where the kernel likes.
        let start = unsafe {
            mmap(
                ptr::null_mut(),
                bytes,
                access,
                MapFlags::SHARED,
                file,
                offset,
            )
        }?;
        Ok(Self { start, bytes })
    }

    fn anonymous(bytes: usize) -> Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, where the kernel likes.
        let start = unsafe { mmap_anonymous(ptr::null_mut(), bytes, access, MapFlags::SHARED) }?;
        Ok(Self { start, bytes })
    }

    /// The place of so many bytes, which lie in the mapping.
    fn place(&self, offset: usize, bytes: usize) -> Result<*mut u8> {
        if offset.checked_add(bytes).is_none_or(|end| end > self.bytes) {
            return Err(Error::platform(format!(
                "{bytes} bytes at {offset:#x} are not in {} bytes",
                self.bytes
            )));
        }
        Ok(self.start.cast::<u8>().wrapping_add(offset))
    }

    fn load(&self, offset: usize) -> Result<u32> {
        let place = self.place(offset, 4)?.cast::<u32>();
        // SAFETY: `place` has checked that it lies within the mapping; the callers align it.
        let value = unsafe { place.read_volatile() };
        fence(Ordering::Acquire);
        Ok(value)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nobody has a reference into it.
        let _ = unsafe { munmap(self.start, self.bytes) };
    }
}

/// Memory that the device has by the IOMMU.
pub struct Shared {
    mapping: Mapping,
    address: u64,
    container: Rc<File>,
}

impl Memory for Shared {
    fn address(&self, offset: usize) -> Result<u64> {
        self.mapping.place(offset, 1)?;
        Ok(self.address + offset as u64)
    }

    fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<()> {
        let place = self.mapping.place(offset, bytes.len())?;
        // SAFETY: `place` has checked it. What the device writes meanwhile comes through, or not.
        unsafe { ptr::copy_nonoverlapping(place, bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    fn write(&self, offset: usize, bytes: &[u8]) -> Result<()> {
        let place = self.mapping.place(offset, bytes.len())?;
        // SAFETY: as above.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len()) };
        Ok(())
    }

    fn load(&self, offset: usize) -> Result<u32> {
        self.mapping.load(offset)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let unmap = sys::vfio_iommu_type1_dma_unmap {
            argsz: size_of::<sys::vfio_iommu_type1_dma_unmap>() as u32,
            iova: self.address,
            size: self.mapping.bytes as u64,
            ..Default::default()
        };
        // It goes with the container at the latest.
        let _ = ioctl(&self.container, IOMMU_UNMAP_DMA, &raw const unmap as usize);
    }
}
