//! What `cargo xtask overhead` is told by the guest.

use serde::{Deserialize, Serialize};

/// One run of the program.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Overhead {
    /// `alone` or `diagnosed`.
    pub how: String,
    /// From its first mapping to its last one's end, as the clock counts them.
    pub instructions: u64,
    /// Its page faults in that time.
    pub faults: u64,
}
