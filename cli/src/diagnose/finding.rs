//! Input and output of the search for causes: what was seen, and findings with their evidence and certainty.

use super::{
    catalogue::*,
    facts::Facts,
    frames::Frames,
    history::History,
    iomem::Iomem,
    log::{Log, Trouble},
    tracee::{Fault, Life},
};
use mapbuf::errno_name;
use serde::Serialize;

/// The end of what a program may map, with four levels of page tables.
const USER_END: u64 = 1 << 47;
/// How large vmalloc's range is, with four levels of page tables and with five (`VMALLOC_SIZE_TB_L4` and
/// `VMALLOC_SIZE_TB_L5` of `arch/x86/include/asm/pgtable_64_types.h`).
const VMALLOC_BYTES: [u64; 2] = [32 << 40, 12800 << 40];
/// Where the kernel's half begins, with four levels.
const KERNEL_HALF: u64 = 0xffff_8000_0000_0000;

/// How sure a finding is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sure {
    /// The kernel did it while it was watched.
    Seen,
    /// Nothing else can explain what was seen.
    Follows,
    /// Something else could look the same.
    Likely,
}

/// Evidence of a finding.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Evidence {
    /// `event`, `proc`, `log` or `signal`.
    pub from: &'static str,
    /// The call, the line or the value.
    pub text: String,
}

/// A cause that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// A stable name, for programs and for the guide's pages.
    pub cause: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// How sure it is.
    pub sure: Sure,
    /// What the kernel did.
    pub what: String,
    /// Why this has the effect that the program saw.
    pub why: &'static str,
    /// The evidence.
    pub evidence: Vec<Evidence>,
    /// What to do.
    pub next: Vec<&'static str>,
    /// The file that was mapped.
    pub file: String,
    /// The driver's function.
    pub function: String,
}

impl Finding {
    /// A cause, where it was met, and what was seen.
    pub fn new(cause: &Cause, file: String, function: String, what: String) -> Self {
        Self {
            cause: cause.name,
            severity: cause.severity,
            sure: Sure::Seen,
            what,
            why: cause.why,
            evidence: Vec::new(),
            next: cause.next.to_vec(),
            file,
            function,
        }
    }

    /// The same, so sure.
    #[must_use]
    pub fn sure(mut self, sure: Sure) -> Self {
        self.sure = sure;
        self
    }

    fn from(mut self, from: &'static str, text: impl Into<String>) -> Self {
        let text = text.into();
        let one = Evidence { from, text };
        if !self.evidence.contains(&one) {
            self.evidence.push(one);
        }
        self
    }

    /// With an event or a system call that shows it.
    #[must_use]
    pub fn event(self, text: impl Into<String>) -> Self {
        self.from("event", text)
    }

    /// With a line or value of a file in `/proc` or `/sys`.
    #[must_use]
    pub fn proc(self, text: impl Into<String>) -> Self {
        self.from("proc", text)
    }

    /// With a line of the kernel's log.
    #[must_use]
    pub fn log(self, text: impl Into<String>) -> Self {
        self.from("log", text)
    }

    /// With a signal.
    #[must_use]
    pub fn signal(self, fault: &Fault) -> Self {
        let text = format!(
            "{} with si_code {} at {:#x} in thread {}",
            fault.signal, fault.code, fault.address, fault.pid
        );
        self.from("signal", text)
    }

    /// With all lines of the kernel's log about it.
    #[must_use]
    pub fn quoting(mut self, trouble: &Trouble) -> Self {
        for line in &trouble.quoted {
            self = self.log(line.clone());
        }
        self
    }
}

/// Everything that was seen.
pub struct Seen<'a> {
    /// What was mapped, and what the kernel did for it.
    pub history: &'a History,
    /// How the program ran.
    pub life: &'a Life,
    /// Physical addresses.
    pub iomem: &'a Iomem,
    /// The frames that were mapped.
    pub frames: &'a Frames,
    /// The kernel's log.
    pub log: &'a Log,
    /// The machine and the processes.
    pub facts: &'a Facts,
    /// Probes that could not be set.
    pub missing: &'a [&'static str],
}

impl Seen<'_> {
    /// How many mappings a process had before its end, or made, where either is known; the greater number.
    pub fn mappings_of(&self, space: i32) -> u64 {
        let process = self.facts.processes.get(&space);
        let had = process.and_then(|process| process.mappings);
        let made = self.history.mmaps.get(&space).copied();
        made.max(had).unwrap_or(0)
    }

    /// Whether the program was watched from its start, ended by itself, and exited with success.
    pub fn ended_well(&self) -> bool {
        let Life {
            status,
            killed_by,
            stuck,
            abandoned,
            attached,
            ..
        } = self.life;
        *status == 0 && killed_by.is_none() && !stuck && !abandoned && !attached
    }

    /// Whether it happened to the program.
    pub fn is_ours(&self, trouble: &Trouble) -> bool {
        trouble
            .thread
            .is_some_and(|thread| self.life.threads.contains(&thread) || self.history.knows(thread))
    }

    /// The address from which a wrong page pointer or frame was computed with the arithmetic of the linear map.
    pub fn made_of(&self, pfn: u64) -> Option<MadeOf> {
        let bases = self.history.bases;
        if bases.linear == 0 {
            return None;
        }
        let address = (pfn << 12).wrapping_add(bases.linear);
        if address < USER_END {
            return Some(MadeOf::User(address));
        }
        let within = |base: u64, bytes: u64| base != 0 && address >= base && address - base < bytes;
        let [four, five] = VMALLOC_BYTES;
        let bytes = if bases.linear < KERNEL_HALF {
            five
        } else {
            four
        };
        within(bases.vmalloc, bytes).then_some(MadeOf::Vmalloc(address))
    }
}

/// The address that the arithmetic of the linear map was used on.
pub enum MadeOf {
    /// An address of the program's.
    User(u64),
    /// One in vmalloc's range.
    Vmalloc(u64),
}

/// `-EINVAL`
pub fn name_of(result: i64) -> String {
    let name = i32::try_from(-result).ok().and_then(errno_name);
    name.or_else(|| kept_by_the_kernel(result))
        .map_or_else(|| result.to_string(), |name| format!("-{name}"))
}

/// The error numbers that the kernel keeps to itself, in the order of their numbers (`include/linux/errno.h`).
const KEPT: &[&str] = &[
    "ERESTARTSYS",
    "ERESTARTNOINTR",
    "ERESTARTNOHAND",
    "ENOIOCTLCMD",
    "ERESTART_RESTARTBLOCK",
    "EPROBE_DEFER",
    "EOPENSTALE",
    "ENOPARAM",
    "520",
    "EBADHANDLE",
    "ENOTSYNC",
    "EBADCOOKIE",
    "ENOTSUPP",
    "ETOOSMALL",
    "ESERVERFAULT",
    "EBADTYPE",
    "EJUKEBOX",
    "EIOCBQUEUED",
    "ERECALLCONFLICT",
    "ENOGRACE",
];

/// The name of a result that is an error which no program should see; none of the manual pages has it.
pub fn kept_by_the_kernel(result: i64) -> Option<&'static str> {
    let at = usize::try_from((-result).checked_sub(512)?).ok()?;
    KEPT.get(at).copied()
}
