//! What `mapbuf-yardstick`, in the guest, measures of a driver for NVMe: over VFIO, and over what is compared with it.

use serde::{Deserialize, Serialize};

/// One way to have the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Its name.
    pub subject: String,
    /// From the start of the process until the first block was read.
    pub first: Cost,
    /// A read of 4 KiB with no other under way.
    pub alone: Cost,
    /// A read of 4 KiB, of 32 at once.
    pub together: Cost,
}

/// What something costs, of the program, the kernel, and interrupts; what the processor does while it has nothing to do is
/// left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Instructions.
    pub instructions: u64,
    /// System calls, in thousandths.
    pub milli_calls: u64,
}
