//! A driver for NVMe disks that is an ordinary program.
//!
//! It needs three things of a device, which [`Function`] names: its registers, memory that both see, and an interrupt that
//! arrives on a descriptor. Who gives them is not its business: [`platform`] takes them from mapbuf, and the project's tests
//! also from VFIO, to compare the two.
//!
//! From the bottom up: [`queue`] has the two rings by which commands go to the disk and answers come back; [`command`] the
//! commands themselves, with the lists of pages that carry their data; [`Disk`] starts the controller and reads and writes.
//! Numbers in the comments are sections of the NVM Express Base Specification 2.0.

pub mod command;
pub mod disk;
pub mod error;
mod imported;
mod needs;
pub mod platform;
pub mod queue;

pub use disk::{Disk, Identity};
pub use error::{Error, Result};
pub use needs::{Function, Memory};

/// Bytes in a page, to this driver and to the disk that it sets up.
pub const PAGE: usize = 4096;
