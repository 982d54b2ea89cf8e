//! The tests, by subject.

use crate::check::Outcome;
use std::time::Duration;

/// One test.
#[derive(Clone, Copy)]
pub struct Test {
    pub module: &'static str,
    pub function: &'static str,
    pub profiles: &'static [&'static str],
    pub deadline: Duration,
    pub body: &'static (dyn Fn() -> Outcome + Sync),
}

impl Test {
    pub fn name(&self) -> String {
        format!("{}::{}", self.module, self.function)
    }

    /// Texts of warnings that the kernel gives for what the test does to it, not for what the driver does.
    pub fn forgiven(&self) -> &'static [&'static str] {
        match (self.module, self.function) {
            // The kernel's own loader of modules asks for memory without __GFP_NOWARN.
            ("faults", "load_with_failing_memory") => &[
                "vmalloc error",
                "Call Trace",
                "page allocation failure",
                "kmemleak: Cannot",
            ],
            // The kernel reports whom it has killed, and where it ran out: in the cgroup.
            ("denial", "oom_stays_inside" | "full_cgroup_harms_nobody_else") => &[
                "invoked oom-killer",
                "oom-kill:constraint=CONSTRAINT_MEMCG",
                "Memory cgroup out of memory",
                "Call Trace",
            ],
            // The stack of the child's: the kernel asks for it without __GFP_NOWARN.
            ("faults", "fork_with_failing_memory") => {
                &["vmalloc error", "Call Trace", "kmemleak: Cannot allocate"]
            }
            ("faults", _) => &["kmemleak: Cannot allocate"],
            _ => &[],
        }
    }
}

/// Run as a user's machine boots.
pub const STOCK: &[&str] = &["stock"];
/// Run where contiguous memory comes from CMA too.
pub const BOTH: &[&str] = &["stock", "cma"];
/// Run where the kernel does not zero memory by itself.
pub const ZEROING: &[&str] = &["zeroing"];
/// Run where nothing else needs the module to stay.
pub const RELOAD: &[&str] = &["reload"];
/// Run with a CMA area only.
pub const CMA: &[&str] = &["cma"];
/// Run where the module was loaded with regions.
pub const REGIONS: &[&str] = &["regions"];
/// Run on a machine with two NUMA nodes.
pub const NUMA: &[&str] = &["numa"];
/// Run on machines with PCI devices.
pub const DEVICES: &[&str] = &["devices", "devices-iommu"];
/// Run where the IOMMU has the tables of scalable mode.
pub const SCALABLE: &[&str] = &["devices-scalable"];
/// Run where VFIO can have a device.
pub const VFIO: &[&str] = &["vfio"];
/// Run with the programs that others wrote.
pub const PEERS: &[&str] = &["peers"];
/// Run where any reason may be met.
pub const REASONS: &[&str] = &[
    "stock",
    "regions",
    "numa",
    "faults",
    "importers",
    "importers-and-card",
];
/// Run where drivers that others wrote take dma-bufs.
pub const IMPORTERS: &[&str] = &["importers", "importers-and-card"];
/// Run where a graphics card is one of them.
pub const CARD: &[&str] = &["importers-and-card"];

/// Run with several processors and a module that waits at its seams.
pub const RACES: &[&str] = &["races"];
/// Run where a device tree describes devices.
pub const TREE: &[&str] = &["tree"];
/// Run where the module's tests inside the kernel have run.
pub const KUNIT: &[&str] = &["kunit"];
/// Run where allocations can be made to fail.
pub const FAULTS: &[&str] = &["faults"];
/// Run where they can, and where there are PCI devices.
pub const BINDING: &[&str] = &["faults-binding"];
/// Run where they can, and where such devices work in all ways.
pub const BOUND: &[&str] = &["faults-devices", "faults-devices-iommu"];

/// The table of a file's tests: profiles, seconds, then the functions.
macro_rules! tests {
    ($module:literal: $( $profiles:ident, $seconds:literal: [ $($function:ident),* $(,)? ] );* $(;)?) => {
        pub const TESTS: &[$crate::tests::Test] = &[ $( $(
            $crate::tests::Test {
                module: $module,
                function: stringify!($function),
                profiles: $crate::tests::$profiles,
                deadline: std::time::Duration::from_secs($seconds),
                body: &$function,
            },
        )* )* ];
    };
}

mod around;
mod attached;
mod bind;
mod bytes;
mod calls;
mod cells;
mod concurrent;
pub mod counts;
mod cow;
mod denial;
mod devices;
mod direct;
mod disks;
mod driven;
mod encoding;
mod export;
mod faults;
mod foreign;
mod fuzz;
mod going;
mod growth;
mod handover;
mod importers;
mod info;
mod interrupts;
mod kunit;
mod last_error;
mod letting_go;
mod lifetime;
mod limits;
mod manager;
mod matrix;
mod methods;
pub mod module;
mod names;
mod names_for_devices;
mod nodes;
mod numa;
mod onlookers;
mod peers;
mod pins;
mod platform;
mod plugging;
mod programs;
mod protection;
mod questions;
mod races;
mod rare;
pub mod reasons;
mod regions;
mod registers;
mod security;
mod selftests;
mod sharing;
mod sizes;
mod structs;
mod traced;
mod vfio;
mod waiting;
mod ways;
mod zeroing;

/// Every test, in the order in which they are run.
pub fn all() -> impl Iterator<Item = Test> {
    [
        nodes::TESTS,
        structs::TESTS,
        last_error::TESTS,
        encoding::TESTS,
        sharing::TESTS,
        manager::TESTS,
        onlookers::TESTS,
        protection::TESTS,
        around::TESTS,
        cow::TESTS,
        methods::TESTS,
        lifetime::TESTS,
        pins::TESTS,
        platform::TESTS,
        direct::TESTS,
        bytes::TESTS,
        calls::TESTS,
        info::TESTS,
        interrupts::TESTS,
        waiting::TESTS,
        counts::TESTS,
        names::TESTS,
        names_for_devices::TESTS,
        export::TESTS,
        handover::TESTS,
        importers::TESTS,
        kunit::TESTS,
        rare::TESTS,
        limits::TESTS,
        denial::TESTS,
        devices::TESTS,
        attached::TESTS,
        foreign::TESTS,
        letting_go::TESTS,
        going::TESTS,
        growth::TESTS,
        numa::TESTS,
        security::TESTS,
        zeroing::TESTS,
        sizes::TESTS,
        concurrent::TESTS,
        fuzz::TESTS,
        questions::TESTS,
        matrix::TESTS,
        cells::TESTS,
        traced::TESTS,
        peers::TESTS,
        programs::TESTS,
        regions::TESTS,
        registers::TESTS,
        selftests::TESTS,
        plugging::TESTS,
        driven::TESTS,
        bind::TESTS,
        vfio::TESTS,
        races::TESTS,
        // Last: they look at what the others have met, or take the module away.
        reasons::TESTS,
        module::TESTS,
    ]
    .into_iter()
    .chain(faults::TESTS)
    .flatten()
    .copied()
    .chain(races::pairs())
}
