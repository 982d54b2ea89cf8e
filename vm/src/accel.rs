//! What QEMU runs on.

use serde::{Deserialize, Serialize};

/// What QEMU runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accel {
    /// The host's processor.
    Kvm,
    /// Emulation.
    Tcg,
    /// Emulation whose processors really run at the same time.
    ParallelTcg,
}

impl Accel {
    /// For `-accel`.
    pub fn argument(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            // One host thread for all processors: with several, QEMU 7.2 trips over the kernel's patching of its own
            // code (`Oops: int3`), at boot and whenever tracing is switched.
            Self::Tcg => "tcg,thread=single,tb-size=256",
            Self::ParallelTcg => "tcg,thread=multi,tb-size=256",
        }
    }

    /// For `-cpu`.
    pub fn cpu(self) -> &'static str {
        match self {
            Self::Kvm => "host",
            Self::Tcg | Self::ParallelTcg => "max",
        }
    }
}
