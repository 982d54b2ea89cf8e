//! What was tried, and what came out.

use crate::answer::Answer;
use crate::op::Op;
use mapbuf_abi::Reason;
use std::collections::BTreeMap;
use std::fmt;

/// Reasons that programs need not meet here, and why.
pub const UNREACHABLE: &[(&[Reason], &str)] = &[
    (
        &[
            Reason::OutOfMemory,
            Reason::NoContiguousMemory,
            Reason::NoCoherentMemory,
            Reason::CacheRefused,
            Reason::KernelRefused,
        ],
        "the kernel has to run out of something: see fault injection",
    ),
    (
        &[
            Reason::ForeignFrames,
            Reason::ExporterMaps,
            Reason::ExporterRefused,
            Reason::ForeignUnnamed,
            Reason::ForeignView,
        ],
        "takes another driver's dma-buf that gets an id: the one here is open for reading alone",
    ),
    (
        &[Reason::Interrupted],
        "is for a thread that dies, which cannot tell of it",
    ),
    (
        &[Reason::OffsetsFull],
        "takes buffers of 2^32 pages, far beyond the limits",
    ),
    (
        &[
            Reason::PortsNotMappable,
            Reason::MsixTable,
            Reason::ConfigOutside,
            Reason::ConfigReadOnly,
            Reason::BarSharesPage,
        ],
        "takes registers of the device: here nobody touches them",
    ),
    (
        &[Reason::BarTaken, Reason::IrqRefused, Reason::CannotMask],
        "takes another driver that has a part of the device, or a device that lacks something",
    ),
    (
        &[
            Reason::GroupShared,
            Reason::MaskRefused,
            Reason::DmaRefused,
            Reason::OutOfReach,
        ],
        "takes an IOMMU, or a device that reaches less memory than there is",
    ),
    (
        &[
            Reason::ImporterHolds,
            Reason::ExporterRefusedDevice,
            Reason::ForeignOutOfReach,
            Reason::ExporterRefusedSync,
        ],
        "takes another driver's dma-buf on the device, or another driver that has ours",
    ),
    (
        &[Reason::NodeNotAllowed],
        "takes two NUMA nodes, and a cpuset",
    ),
    (
        &[Reason::OverCgroupLimit],
        "takes a memory cgroup with a limit",
    ),
    (
        &[Reason::NoPagesForDevices],
        "takes a driver that attaches to dma-bufs",
    ),
    (
        &[
            Reason::RegionIsRam,
            Reason::RegionTaken,
            Reason::RegionUnmappable,
            Reason::RegionUnbacked,
            Reason::ProbeIsRisky,
            Reason::ProbeWritesDevice,
            Reason::RegionNameTaken,
        ],
        "takes regions that are no memory, or not ours",
    ),
];

/// Operations by name and reasons by number.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    operations: Vec<(u64, u64)>,
    reasons: BTreeMap<Reason, u64>,
    others: BTreeMap<i32, u64>,
    signals: u64,
}

impl Tally {
    /// Counts an operation.
    pub fn count(&mut self, op: &Op, answer: &Answer) {
        self.operations.resize(Op::NAMES.len(), (0, 0));
        if let Some((tried, well)) = self.operations.get_mut(op.number()) {
            *tried += 1;
            *well += u64::from(answer.succeeded());
        }
        if answer.signal != 0 {
            self.signals += 1;
        } else if answer.errno != 0 {
            // An older refusal of the same file, which the kernel still remembers, has another number mostly.
            match answer
                .reason()
                .filter(|reason| reason.errno() == answer.errno)
            {
                Some(reason) => *self.reasons.entry(reason).or_default() += 1,
                None => *self.others.entry(answer.errno).or_default() += 1,
            }
        }
    }

    /// How many operations there were.
    pub fn tried(&self) -> u64 {
        self.operations.iter().map(|(tried, _)| tried).sum()
    }

    /// The share that came out well, 0 to 1.
    pub fn share_of_successes(&self) -> f64 {
        let well: u64 = self.operations.iter().map(|(_, well)| well).sum();
        well as f64 / self.tried().max(1) as f64
    }

    /// Operations that never came out well, and reasons that were never met and can be.
    pub fn missing(&self) -> Vec<&'static str> {
        // This is never to come out well.
        const REFUSED: &str = "unknown";
        let mut missing = Vec::new();
        for (number, name) in Op::NAMES.iter().enumerate() {
            let (tried, well) = self.operations.get(number).copied().unwrap_or_default();
            if tried == 0 || well == 0 && *name != REFUSED {
                missing.push(*name);
            }
        }
        for reason in Reason::ALL {
            let unreachable = UNREACHABLE.iter().any(|(list, _)| list.contains(reason));
            if !unreachable && !self.reasons.contains_key(reason) {
                missing.push(reason.name());
            }
        }
        missing
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:16} {:>9} {:>9}", "operation", "tried", "well")?;
        for (name, (tried, well)) in Op::NAMES.iter().zip(&self.operations) {
            writeln!(f, "{name:16} {tried:>9} {well:>9}")?;
        }
        writeln!(f, "{:26} {:>9}", "reason", "met")?;
        for (reason, met) in &self.reasons {
            writeln!(f, "{:26} {met:>9}", reason.name())?;
        }
        for (errno, met) in &self.others {
            let what = format!("the kernel's errno {errno}");
            writeln!(f, "{what:26} {met:>9}")?;
        }
        writeln!(f, "{:26} {:>9}", "signals", self.signals)?;
        for (reasons, why) in UNREACHABLE {
            let never = reasons
                .iter()
                .filter(|reason| !self.reasons.contains_key(reason));
            let names: Vec<_> = never.map(|reason| reason.name()).collect();
            if !names.is_empty() {
                writeln!(f, "never met: {} ({why})", names.join(", "))?;
            }
        }
        Ok(())
    }
}
