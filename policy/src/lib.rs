// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The rules of the mapbuf driver: what maps how, and why not.
//!
//! No unsafe code, no kernel types, no allocation: every function takes values and returns a value or a
//! refusal. The files of this folder are compiled into the kernel module by path, and
//! tested here on the host.
//!
//! * [`config`]: which bits of a device's configuration space may be written;
//! * [`plan`]: the one table that decides which kernel function serves which request;
//! * [`place`]: the two encodings of `mmap` offsets, ranges, seeking;
//! * [`region`]: declarations of reserved physical ranges, and what a probe of one tells;
//! * [`request`]: sizes and headers of structs, which memory there is, sizes of buffers, names, modes;
//! * [`right`]: who may do what;
//! * [`limit`]: what may be charged.

#![no_std]
#![forbid(unsafe_code)]

// In the module, `abi` lies beside these files under the same name.
use mapbuf_abi as abi;

pub mod config;
pub mod limit;
pub mod place;
pub mod plan;
pub mod region;
pub mod request;
pub mod right;
// Of the layer that the driver is built on, which has no tests of its own on the host.
#[path = "../../driver/kmap/words.rs"]
pub mod words;
