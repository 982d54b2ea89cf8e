//! Kernel memory of every kind in user space, at memory speed and without a copy: the library for the mapbuf driver.
//!
//! ```no_run
//! use mapbuf::{Device, Kind};
//!
//! # fn main() -> Result<(), mapbuf::Error> {
//! let device = Device::open()?;
//! let buffer = device.alloc(Kind::Contiguous, 64 << 10)?;
//! let memory = buffer.map()?;
//! memory.write(0, 0xaabb_ccdd_u32)?;
//!
//! // The kernel's own view of the same bytes.
//! let mut bytes = [0; 4];
//! buffer.read_at(0, &mut bytes)?;
//! assert_eq!(u32::from_ne_bytes(bytes), 0xaabb_ccdd);
//! # Ok(())
//! # }
//! ```
//!
//! # What holds what
//!
//! A [`Device`] is an open allocator node, which is a session of the driver: buffer ids are valid only within it. A
//! [`Buffer`] is such an id; dropping it frees the id. A [`Mapping`] keeps the *memory*: it needs neither the buffer nor
//! the device, and its bytes stay until it is dropped, in whatever order the others are dropped. The same is true of
//! the descriptor of an [`Export`]. A buffer that should outlive every process gets a name ([`NameOptions`]), and any
//! program that can open `/dev/mapbuf/named/NAME` can map it ([`Named`]).
//!
//! # Memory that others write
//!
//! The other side of a mapping is another process, the kernel or a device, which the borrow checker does not see. So a
//! [`Mapping`] has no safe `&[u8]`: it copies in and out, and reads and writes numbers, with bounds checks and volatile
//! accesses. A caller that can guarantee that nothing else writes the memory can have a slice
//! ([`Mapping::as_slice`], which is `unsafe` for that reason).
//!
//! # Send and Sync
//!
//! Every type here is both. A [`Device`], a [`Buffer`] and a [`Named`] are descriptors and numbers, and the driver
//! serves any number of threads at once. A [`Mapping`] belongs to the process and not to a thread; its accesses are
//! volatile, and the other side can make accesses at any time anyway, so `&mut` would promise an exclusive access that
//! does not exist. If two threads write the same bytes at the same time, each byte ends up with one of the two values:
//! order the threads (with a lock, an atomic, a pipe) if that matters.
//!
//! # Errors
//!
//! The driver gives a reason for each refusal, and [`Error`] carries it: what happened, with its values, and what to do
//! next. Refusals that the kernel's memory manager makes before the driver is called are recognised from the request
//! where possible ([`CoreRefusal`]); they are never explained by a reason that belongs to another call.

mod access;
mod alloc;
mod bounds;
mod buffer;
mod core_refusal;
mod device;
mod dma;
mod errno;
mod error;
mod export;
mod file;
mod info;
mod map;
mod mapping;
mod named;
mod pci;
pub mod raw;
mod region;
mod removal;
mod size;
pub mod sysfs;
mod transfer;
mod volatile;

pub use access::{Access, Sharing};
pub use alloc::AllocOptions;
pub use bounds::OutOfBounds;
pub use buffer::Buffer;
pub use core_refusal::CoreRefusal;
pub use device::Device;
pub use dma::{CpuBytes, DmaBuffer};
pub use errno::{errno_name, errno_value};
pub use error::{Error, Result};
pub use export::Export;
pub use info::{BufferInfo, DriverInfo, SessionInfo};
pub use map::{MapOptions, Mappable};
pub use mapping::{Mapping, Value};
pub use named::{NameOptions, Named};
pub use pci::{ConfigValue, Interrupt, PciBar, PciInfo};
pub use region::{ProbeOptions, Probeable, Probed, RegionInfo};
pub use removal::survive_removal;
pub use size::{parse_size, ParseSizeError};

/// The driver's binary interface, as numbers and structs.
pub use mapbuf_abi as abi;
pub use mapbuf_abi::{
    reason::Refusal, Cache, Direction, Iommu, IrqAction, IrqKind, Kind, LastError, Method,
    Operation, Reason, RegionState, RegionType, Segment,
};

/// The README's example, so that it keeps compiling.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
