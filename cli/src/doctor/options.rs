//! The options that a kernel was built with.

use std::{fs, path::PathBuf, process::Command};

/// What an option is there for, and how badly it is needed.
pub struct Needed {
    /// Its name, without `CONFIG_`.
    pub name: &'static str,
    /// What does not work without it.
    pub without: &'static str,
    /// Whether the driver cannot be without it.
    pub vital: bool,
}

const fn needed(name: &'static str, vital: bool, without: &'static str) -> Needed {
    Needed {
        name,
        without,
        vital,
    }
}

/// The options that matter.
pub const NEEDED: &[Needed] = &[
    needed("RUST", true, "Rust modules cannot be loaded"),
    needed("MODULES", true, "modules cannot be loaded"),
    needed(
        "DMA_SHARED_BUFFER",
        true,
        "there are no dma-bufs, and every buffer is one",
    ),
    needed("MMU", true, "kernel memory cannot be mapped"),
    needed("TRANSPARENT_HUGEPAGE", false, "there are no 2 MiB entries"),
    needed(
        "CONTIG_ALLOC",
        false,
        "contiguous buffers are limited to 4 MiB",
    ),
    needed(
        "CMA",
        false,
        "cma= at boot has no effect: contiguous and coherent buffers stay small",
    ),
    needed(
        "MEMCG",
        false,
        "buffers are charged only to the driver's own limits",
    ),
    needed(
        "KPROBE_EVENTS",
        false,
        "mapbuf diagnose needs CONFIG_FPROBE_EVENTS instead",
    ),
    needed(
        "DEBUG_INFO_BTF",
        false,
        "mapbuf diagnose cannot see which mappings came about",
    ),
];

/// The running kernel's options, as text, and where they were found.
pub fn read(release: &str) -> Option<(String, String)> {
    let places = [
        format!("/boot/config-{release}"),
        format!("/lib/modules/{release}/config"),
        format!("/lib/modules/{release}/build/.config"),
        format!("/usr/lib/modules/{release}/config"),
    ];
    for place in places {
        if let Ok(text) = fs::read_to_string(PathBuf::from(&place)) {
            return Some((text, place));
        }
    }
    let place = "/proc/config.gz";
    if fs::metadata(place).is_err() {
        return None;
    }
    let unpacked = Command::new("zcat").arg(place).output().ok()?;
    let text = String::from_utf8_lossy(&unpacked.stdout).into_owned();
    (!text.is_empty()).then(|| (text, place.to_owned()))
}

/// Whether an option is on, built in or as a module.
pub fn is_on(config: &str, name: &str) -> bool {
    config.lines().any(|line| {
        line.strip_prefix("CONFIG_")
            .and_then(|rest| rest.strip_prefix(name))
            .is_some_and(|value| value == "=y" || value == "=m")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let config =
            "CONFIG_RUST=y\n# CONFIG_CMA is not set\nCONFIG_CMA_AREAS=7\nCONFIG_UDMABUF=m\n";
        assert!(is_on(config, "RUST") && is_on(config, "UDMABUF"));
        assert!(!is_on(config, "CMA") && !is_on(config, "CMA_AREAS"));
    }
}
