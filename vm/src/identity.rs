//! What a kernel is: its release, and where it came from.

use crate::suite::Suite;
use crate::variant::Variant;
use crate::version::upstream;
use mapbuf_abi::series::series;
use serde::{Deserialize, Serialize};

/// What a kernel is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// What `uname -r` says in it.
    pub release: String,
    /// The version of the packages that it came from.
    pub version: String,
    /// What kind it is.
    #[serde(default)]
    pub variant: Variant,
    /// Where it, or its sources, came from.
    #[serde(default)]
    pub suite: Suite,
}

impl Identity {
    /// The version number that kernel.org gave it.
    pub fn upstream(&self) -> &str {
        upstream(&self.release)
    }

    /// The series that it is a release of.
    pub fn series(&self) -> &str {
        series(&self.release).unwrap_or(&self.release)
    }

    /// Variables for `make`.
    pub fn make_variables(&self) -> Vec<String> {
        if self.variant != Variant::Stock {
            return vec!["LLVM=1".into(), "LOCALVERSION=".into()];
        }
        let local = self
            .release
            .get(self.upstream().len()..)
            .unwrap_or_default();
        vec![
            // Debian's configuration names its compiler by its full name, and make would ask about a new one.
            "CROSS_COMPILE=x86_64-linux-gnu-".into(),
            format!("LOCALVERSION={local}"),
        ]
    }
}
