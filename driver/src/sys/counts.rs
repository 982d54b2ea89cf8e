// SPDX-License-Identifier: GPL-2.0

//! How many objects of each sort exist now: a file for each in `/sys/kernel/debug/mapbuf/`, for root. They show what a
//! failed operation leaves behind.
//!
//! A new sort is a line in [`sorts`], and a [`Counted`] in the type.

use super::debugfs::{
    Directory,
    Number, //
};
use kernel::str::CStr;

macro_rules! sorts {
    ($($(#[$doc:meta])* $sort:ident = $name:literal,)*) => {
        /// What is counted.
        #[derive(Clone, Copy)]
        pub(crate) enum Sort {
            $($(#[$doc])* $sort,)*
        }

        const NAMES: [&CStr; SORTS] = [$($name,)*];
        const SORTS: usize = [$(Sort::$sort,)*].len();
    };
}

sorts! {
    /// Open files of nodes.
    File = c"files",
    /// Buffers, until their memory is given back.
    Buffer = c"buffers",
    /// Freed buffers with pages that others still refer to.
    Pinned = c"pinned",
    /// Ids in the tables of sessions.
    Id = c"ids",
    /// Ranges of `mmap` offsets in them.
    Offset = c"offsets",
    /// Names of buffers and regions, with their nodes.
    Name = c"names",
    /// Devices that are bound to us, until nobody has their node open.
    Device = c"devices",
    /// Devices of others that are attached to a buffer.
    Attachment = c"attachments",
    /// Mappings of a buffer for one of them.
    DeviceMapping = c"device_mappings",
    /// Scattered pages that the kernel sees at one address.
    KernelAddress = c"kernel_addresses",
}

static COUNTS: [Number; SORTS] = [const { Number::new() }; SORTS];

/// Counts one object until it is dropped.
pub(crate) struct Counted(&'static Number);

impl Counted {
    /// Counts an object of a sort.
    pub(crate) fn new(sort: Sort) -> Self {
        let number = &COUNTS[sort as usize];
        number.add(1);
        Self(number)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

/// Shows the numbers until the directory is dropped.
pub(crate) fn show() -> Directory {
    let directory = Directory::new(c"mapbuf");
    for (name, number) in NAMES.iter().zip(&COUNTS) {
        directory.show(name, number);
    }
    directory
}
