// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The binary interface between the mapbuf driver and user space.
//!
//! * [`wire`]: ioctl numbers, structs, kinds of memory, methods of mapping, cache modes;
//! * [`reason`]: the closed, numbered list of reasons for a refusal;
//! * [`explain`]: what each reason means, in a sentence, and what to do about it (user space only:
//!   the kernel sends numbers);
//! * [`series`]: the kernels that the driver is written for.
//!
//! `wire` and `reason` are compiled into the kernel module as well (by path, not by Cargo), and
//! `include/mapbuf.h` is made from all of it.

#![no_std]

pub mod explain;
pub mod reason;
pub mod series;
pub mod wire;

pub use reason::Reason;
pub use wire::*;
