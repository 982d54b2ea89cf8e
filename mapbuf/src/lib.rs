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
//! A [`Device`] is an open allocator node, and a session of the driver: the ids of its buffers mean something in
//! it alone. A [`Buffer`] is such an id; dropping it gives the id back. A [`Mapping`] holds the *memory*: it needs
//! neither the buffer nor the device, and whatever is dropped first, its bytes stay until it is dropped itself.
//! So does the descriptor of an [`Export`]. A buffer that is to outlive every process gets a name
//! ([`NameOptions`]), and whoever may open `/dev/mapbuf/named/NAME` maps it ([`Named`]).
//!
//! # Memory that others write
//!
//! The other side of a mapping is another process, the kernel or a device, and no borrow checker watches it. So
//! a [`Mapping`] gives out no `&[u8]`: it copies in and out, and reads and writes numbers, with bounds checks and
//! with volatile accesses. Who can promise that nobody else writes may have the slice
//! ([`Mapping::as_slice`], which is `unsafe` for that reason).
//!
//! # Send and Sync
//!
//! Every type here is both. A [`Device`], a [`Buffer`] and a [`Named`] are descriptors and numbers, and the driver
//! serves any number of threads at once. A [`Mapping`] belongs to the process and not to a thread; its accesses are
//! volatile ones of a machine word or less, and the driver's side may make them at any time anyway, so `&mut` would
//! promise an exclusiveness that nothing gives. Two threads that write the same bytes at the same time find either
//! value there, word by word: order them (a lock, an atomic, a pipe) where that matters.
//!
//! # Errors
//!
//! The driver gives a reason for each refusal, and [`Error`] carries it: what happened, with the values in it, and
//! what to do next. Refusals that the kernel's memory manager makes before the driver is asked are recognised where
//! that can be done from the request ([`CoreRefusal`]); they are never explained by a reason that belongs to another
//! call.

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
mod size;
pub mod sysfs;
mod volatile;

pub use access::{Access, Sharing};
pub use alloc::AllocOptions;
pub use bounds::OutOfBounds;
pub use buffer::Buffer;
pub use core_refusal::CoreRefusal;
pub use device::Device;
pub use dma::{CpuBytes, DmaBuffer};
pub use errno::errno_name;
pub use error::{Error, Result};
pub use export::Export;
pub use info::{BufferInfo, DriverInfo, SessionInfo};
pub use map::{MapOptions, Mappable};
pub use mapping::{Mapping, Value};
pub use named::{NameOptions, Named};
pub use pci::{ConfigValue, Interrupt, PciBar, PciInfo};
pub use region::{ProbeOptions, Probeable, Probed, RegionInfo};
pub use size::{parse_size, ParseSizeError};

/// The driver's binary interface, as numbers and structs.
pub use mapbuf_abi as abi;
pub use mapbuf_abi::{
    reason::Refusal, Cache, Direction, Iommu, IrqAction, IrqKind, Kind, LastError, Method,
    Operation, Reason, RegionState, RegionType, Segment,
};

/// The README's example, so that it goes on compiling.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
