//! What `mapbuf-price` in the guest tells `cargo xtask price` outside: one line of JSON for each measurement.

use serde::{Deserialize, Serialize};

/// What the life of one piece of memory costs. Instructions are those of the processor, the kernel's and the program's
/// together, the least of all repetitions, step by step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// What was measured.
    pub subject: String,
    /// How large it was.
    pub bytes: u64,
    /// Page faults of the first touch, one write to each page.
    pub faults: u64,
    /// How much of it has entries of 2 MiB after that.
    pub huge_bytes: u64,
    /// Whether it is mapped by page frame (`VM_PFNMAP`), without pages.
    pub by_frame: bool,
    /// Instructions, step by step.
    pub steps: Steps,
}

/// What the whole life of a piece of memory costs when many processes do the same at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contended {
    /// What was measured.
    pub subject: String,
    /// How large it was.
    pub bytes: u64,
    /// How many processes.
    pub processes: u64,
    /// How many lives each of them measured.
    pub lives: u64,
    /// Instructions of all lives of one process alone.
    pub alone: u64,
    /// Instructions of all lives of all processes, on all processors.
    pub together: u64,
}

/// What an operation costs when there is much already, or much has happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scaled {
    /// What was measured.
    pub operation: String,
    /// Among how many objects: buffers with ids and names, or pages of one buffer.
    pub objects: u64,
    /// After how many operations, of which each two have cancelled each other out.
    pub operations: u64,
    /// Instructions, the median of all rounds.
    pub instructions: u64,
}

/// Instructions, or what the clock says, step by step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Steps {
    /// To get the memory, zeroed.
    pub alloc: u64,
    /// To map it.
    pub map: u64,
    /// To write one word to each page.
    pub touch: u64,
    /// To unmap it.
    pub unmap: u64,
    /// To give it back.
    pub free: u64,
}

impl Steps {
    /// The steps, each with its name.
    pub fn named(&self) -> [(&'static str, u64); 5] {
        [
            ("alloc", self.alloc),
            ("map", self.map),
            ("touch", self.touch),
            ("unmap", self.unmap),
            ("free", self.free),
        ]
    }

    /// What it costs to have memory at hand that is there already.
    pub fn mapping(&self) -> u64 {
        self.map + self.touch + self.unmap
    }

    /// All steps together.
    pub fn whole(&self) -> u64 {
        self.alloc + self.mapping() + self.free
    }

    /// The least of both, step by step.
    #[must_use]
    pub fn least(&self, other: &Self) -> Self {
        Self {
            alloc: self.alloc.min(other.alloc),
            map: self.map.min(other.map),
            touch: self.touch.min(other.touch),
            unmap: self.unmap.min(other.unmap),
            free: self.free.min(other.free),
        }
    }
}
