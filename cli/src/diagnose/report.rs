//! The diagnosis, for people and for programs.

use super::{
    catalogue::Severity,
    causes::NOT_CACHED,
    finding::{name_of, Finding, Seen, Sure},
    frames::PAGE,
    history::{vm, Mapping, Refusal},
    iomem::Iomem,
    probes::{nr, HANDED, MAPPED},
    refusals,
    tracee::{Fault, Life},
};
use anstyle::{AnsiColor, Style};
use mapbuf::abi::explain::Bytes;
use serde::Serialize;
use std::{ffi::OsString, fmt};

/// Lines of text are at most this long.
const WIDTH: usize = 100;

/// What the report concludes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Causes were found.
    Found,
    /// The program ended well, and every mapping was looked at.
    NothingWrong,
    /// No cause was found, but something needs an explanation or could not be seen.
    NotKnown,
}

/// The whole report.
#[derive(Debug, Serialize)]
pub struct Report {
    program: Vec<String>,
    exit_status: u8,
    killed_by: Option<i32>,
    /// The kernel stopped one of its threads (BUG), and it hangs while it exits.
    stuck: bool,
    /// It took the same page fault again and again, and was killed.
    spun: bool,
    /// It was not waited for.
    abandoned: bool,
    /// It was already running, and continues.
    detached: bool,
    verdict: Verdict,
    faults: Vec<Fault>,
    findings: Vec<Finding>,
    /// Mappings of devices.
    mappings: Vec<Mapping>,
    /// Notes that are not findings.
    notes: Vec<String>,
    /// What could not be seen and is therefore unknown.
    unknown: Vec<String>,
    lost_events: u64,
}

impl Report {
    /// Makes the report.
    pub fn new(program: &[OsString], seen: &Seen<'_>, findings: Vec<Finding>, lost: u64) -> Self {
        let (history, life) = (seen.history, seen.life);
        let mappings: Vec<_> = history
            .mappings
            .iter()
            .filter(|mapping| !mapping.inherited)
            .cloned()
            .collect();
        let mut notes = Vec::new();
        for refusal in &history.refusals {
            notes.extend(unexplained(seen, refusal, &findings));
        }
        for mapping in &mappings {
            notes.extend(device_memory(mapping, seen.iomem));
            notes.extend(offset_of(mapping, &findings));
        }
        for fault in &life.faults {
            let space = history.space_of(fault.pid);
            let explained = findings.iter().any(|finding| {
                let signal = format!("at {:#x} in thread {}", fault.address, fault.pid);
                finding
                    .evidence
                    .iter()
                    .any(|one| one.from == "signal" && one.text.ends_with(&signal))
            });
            if !explained {
                notes.push(elsewhere(fault, history.at(space, fault.address)));
            }
        }
        for trouble in seen.log.troubles() {
            let told =
                |finding: &Finding| finding.evidence.iter().any(|one| one.text == trouble.head);
            if !findings.iter().any(told) {
                let when = if trouble.only_warned && trouble.after_a_crash {
                    "after that, the kernel warned"
                } else {
                    "while the program ran, the kernel reported in another thread"
                };
                notes.push(format!("{when}: {}", trouble.quoted.join(" / ")));
            }
        }
        notes.dedup();
        let mut unknown = not_seen(seen);
        for mapping in &mappings {
            unknown.extend(not_looked_at(seen, mapping));
        }
        if lost > 0 {
            unknown.push(format!(
                "{lost} events were lost because the buffer was full: this report may be incomplete"
            ));
        }
        unknown.dedup();
        let blind = seen.missing.contains(&MAPPED)
            || mappings
                .iter()
                .any(|mapping| not_looked_at(seen, mapping).is_some() || hidden(seen, mapping))
            || lost > 0;
        let verdict = if !findings.is_empty() {
            Verdict::Found
        } else if seen.ended_well() && life.faults.is_empty() && !blind {
            Verdict::NothingWrong
        } else {
            Verdict::NotKnown
        };
        Self {
            program: program
                .iter()
                .map(|word| word.to_string_lossy().into_owned())
                .collect(),
            exit_status: life.status,
            killed_by: life.killed_by,
            stuck: life.stuck,
            spun: life.spun,
            abandoned: life.abandoned,
            detached: life.detached,
            verdict,
            faults: life.faults.clone(),
            findings,
            mappings,
            notes,
            unknown,
            lost_events: lost,
        }
    }

    /// For programs.
    pub fn to_json(&self) -> String {
        // A value of plain fields always becomes JSON.
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        format!("{text}\n")
    }
}

/// A failed system call without a known cause.
fn unexplained(seen: &Seen<'_>, refusal: &Refusal, findings: &[Finding]) -> Option<String> {
    let shown = format!("{} = {}", refusal.doing.text(), name_of(refusal.result));
    let told = |finding: &Finding| {
        finding.evidence.iter().any(|one| one.text == shown)
            || finding.file == refusals::file_of(seen, refusal)
    };
    if findings.iter().any(told) || refusal.doing.number != nr::MMAP {
        return None;
    }
    let file = refusals::file_of(seen, refusal);
    let name = name_of(refusal.result);
    let name = name.trim_start_matches('-');
    Some(match refusals::find(seen, refusal) {
        Some(finding) => format!("{}; the program continued without it", finding.what),
        None => format!("mmap of {file} failed with {name} ({shown}) for an unknown reason: mapbuf explain {name} \
            lists the usual causes"),
    })
}

/// An offset that the program asked for but that did not reach the mapping function.
fn offset_of(mapping: &Mapping, findings: &[Finding]) -> Option<String> {
    let asked = mapping.asked_pages().filter(|asked| *asked > 0)?;
    let call = mapping.calls.iter().find(|call| {
        matches!(
            call.function.as_str(),
            "dma_mmap_attrs" | "vm_map_pages" | "vm_iomap_memory"
        ) && call.number("pgoff") == Some(0)
    })?;
    let told = findings.iter().any(|finding| finding.file == mapping.file);
    (!told).then(|| {
        format!(
            "the program asked for page {asked} of {}, and {} set vm_pgoff to 0 before {}: right if the offset is a \
            buffer's id, wrong if it is a place in the buffer",
            mapping.file,
            mapping.driver(),
            call.function
        )
    })
}

/// What the probes that could not be set would have shown.
pub fn unseen_without(missing: &[&str]) -> Vec<&'static str> {
    let lacking = |name: &str| missing.contains(&name);
    let mut unknown = Vec::new();
    if lacking("mapped") {
        unknown.push("which mappings were made (neither perf_event_mmap nor vma_set_page_prot can be probed, or /sys/kernel/btf/vmlinux is missing)");
    }
    if lacking("pfnmap_track") && lacking("pfnmap_setup_cachemode") && lacking("track_pfn_remap") {
        unknown.push("which cache mode was granted (uncached-ram can be seen only in the log): this kernel's probes \
            do not keep arguments");
    }
    if lacking("handler") {
        unknown.push("what fault handlers return (__do_fault cannot be probed)");
    }
    if lacking("handed") {
        unknown.push("which pages fault handlers return (finish_fault cannot be probed)");
    }
    if lacking("dma_alloc_attrs") {
        unknown.push("which DMA addresses were allocated (dma-address-as-frame can be seen only in /proc/iomem)");
    }
    unknown
}

/// What could not be seen.
fn not_seen(seen: &Seen<'_>) -> Vec<String> {
    let mut unknown: Vec<_> = unseen_without(seen.missing)
        .into_iter()
        .map(str::to_owned)
        .collect();
    if !seen.frames.can_see() {
        unknown.push(
            "what kind of memory the frames are (/proc/kpageflags cannot be read)".to_owned(),
        );
    }
    if !seen.log.can_see() {
        unknown.push("what the kernel logged meanwhile (/dev/kmsg cannot be read)".to_owned());
    }
    if !seen.iomem.can_see() {
        unknown.push("what lies at physical addresses (/proc/iomem shows nothing)".to_owned());
    }
    unknown.extend(not_watched(seen.life).map(str::to_owned));
    if seen.life.abandoned {
        unknown.push("how the program ends: diagnose did not wait for it".to_owned());
    }
    unknown
}

/// What happened while, or where, diagnose did not watch.
fn not_watched(life: &Life) -> impl Iterator<Item = &'static str> {
    [
        (life.attached, "what the process had mapped and opened before"),
        (life.detached, "what comes after"),
        // The traps for these are laid when a program is executed (library.rs).
        (
            life.attached,
            "calls of mmap that its C library refused by itself, such as those with an offset that is not a multiple \
            of the page size: they never reach the kernel, and diagnose sees them only in programs that start while \
            it watches",
        ),
    ]
    .into_iter()
    .filter_map(|(holds, what)| holds.then_some(what))
}

/// A mapping whose memory was not seen.
fn not_looked_at(seen: &Seen<'_>, mapping: &Mapping) -> Option<String> {
    let part = mapping.filled.iter().find(|part| {
        part.by_number
            && part
                .pfn
                .is_some_and(|pfn| seen.iomem.is_ram(pfn * PAGE) && seen.frames.seen(pfn).is_none())
    })?;
    Some(format!(
        "what kind of memory frame {:#x} of {} was: it was not checked",
        part.pfn.unwrap_or(0),
        mapping.file
    ))
}

/// Whether something may be wrong with a mapping that the probes that could not be set would have shown.
fn hidden(seen: &Seen<'_>, mapping: &Mapping) -> bool {
    let lacking = |name: &str| seen.missing.contains(&name);
    let of_handler = mapping.fault.is_some() && (lacking("handler") || lacking(HANDED));
    let cache_modes = lacking("pfnmap_track")
        && lacking("pfnmap_setup_cachemode")
        && lacking("track_pfn_remap")
        && mapping.calls.iter().any(|call| {
            call.get("asked") & NOT_CACHED != 0 && seen.iomem.is_ram(call.get("pfn") * PAGE)
        });
    let dma = lacking("dma_alloc_attrs")
        && seen.facts.iommu
        && mapping.filled.iter().any(|part| part.by_number);
    of_handler || cache_modes || dma
}

/// Mapped memory that is not the kernel's: without a read it is unknown whether anything answers.
fn device_memory(mapping: &Mapping, iomem: &Iomem) -> Option<String> {
    let part = mapping.filled.iter().find(|part| {
        part.pfn.is_some_and(|pfn| {
            iomem.sight(pfn * PAGE).is_none()
                && !iomem.is_ram(pfn * PAGE)
                && !iomem.is_unknown(pfn * PAGE, part.length)
        })
    })?;
    let physical = part.pfn? * PAGE;
    let name = iomem.name(physical)?;
    Some(format!(
        "{} maps physical {physical:#x} ({name}). To see whether anything answers there, use mapbuf diagnose --read: \
        it reads a word of each page, which can have side effects in a device",
        mapping.file
    ))
}

fn elsewhere(fault: &Fault, mapping: Option<&Mapping>) -> String {
    let place = match (&fault.vma, mapping) {
        _ if fault.blind => "and the memory map could not be read".to_owned(),
        (_, Some(mapping)) if mapping.was_there(fault.address, fault.time) => format!(
            "in the mapping of {}, for a reason that was not seen",
            mapping.file
        ),
        (Some(vma), _) => format!(
            "in {} ({}), which is not a device's mapping that was made while diagnose watched",
            if vma.path.is_empty() {
                "anonymous memory"
            } else {
                &vma.path
            },
            vma.permissions
        ),
        (None, _) if fault.code == 128 => {
            "at an address that cannot exist: a bug of the program itself".to_owned()
        }
        (None, _) => {
            let stack = fault
                .below
                .as_ref()
                .is_none_or(|below| below.end + (1 << 20) < fault.address);
            format!(
                "where nothing is mapped, and no device was mapped{}: a bug of the program itself",
                if stack { "" } else { " (just after a mapping)" }
            )
        }
    };
    format!("{} at {:#x}, {place}", fault.signal, fault.address)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bold = Style::new().bold();
        let program = self.program.first().map_or("", String::as_str);
        write!(f, "{bold}mapbuf diagnose:{bold:#} {program} ")?;
        match self.killed_by {
            _ if self.spun => write!(
                f,
                "took the same page fault again and again, was killed{}",
                if self.stuck {
                    ", and cannot exit before a reboot"
                } else {
                    ""
                }
            )?,
            _ if self.stuck => write!(
                f,
                "was stopped by the kernel (BUG: see dmesg) and cannot exit before a reboot"
            )?,
            _ if self.detached => write!(f, "was watched for a while, and continues")?,
            Some(signal) => write!(f, "was killed by {}", signal_name(signal))?,
            None => write!(f, "exited with {}", self.exit_status)?,
        }
        if let Some(fault) = self.faults.last() {
            match self.killed_by.map(signal_name) {
                Some(name) if name == fault.signal => write!(f, " at {:#x}", fault.address)?,
                _ => write!(f, "; {} at {:#x}", fault.signal, fault.address)?,
            }
        }
        if self.abandoned {
            write!(f, ", and diagnose did not wait for its end")?;
        }
        writeln!(f)?;
        for finding in &self.findings {
            let colour = match finding.severity {
                Severity::Error => AnsiColor::Red,
                Severity::Warning => AnsiColor::Yellow,
            };
            let style = Style::new().fg_color(Some(colour.into())).bold();
            writeln!(f, "\n{style}{}{style:#}  {}", finding.cause, finding.file)?;
            paragraph(f, "what", &finding.what)?;
            paragraph(f, "why", finding.why)?;
            paragraph(
                f,
                "sure",
                match finding.sure {
                    Sure::Seen => "seen: the kernel did this while it was watched",
                    Sure::Follows => "it follows: nothing else can explain what was seen",
                    Sure::Likely => "likely: other causes could look the same",
                },
            )?;
            for evidence in finding.evidence.iter().filter(|one| !one.text.is_empty()) {
                paragraph(f, evidence.from, &evidence.text)?;
            }
            for way in &finding.next {
                paragraph(f, "next", way)?;
            }
        }
        match self.verdict {
            Verdict::Found => {}
            Verdict::NothingWrong => writeln!(f, "found nothing wrong in {}", self.summary())?,
            Verdict::NotKnown => writeln!(f, "found no cause in {}", self.summary())?,
        }
        for note in &self.notes {
            writeln!(f)?;
            paragraph(f, "note", note)?;
        }
        // Beside a finding it would only lead astray.
        let mapped = !self.mappings.is_empty();
        let matters = match self.verdict {
            Verdict::Found => self.lost_events > 0,
            Verdict::NotKnown => true,
            Verdict::NothingWrong => mapped,
        };
        if !self.unknown.is_empty() && matters {
            writeln!(f)?;
            for unknown in &self.unknown {
                paragraph(f, "not known", unknown)?;
            }
        }
        Ok(())
    }
}

impl Report {
    fn summary(&self) -> String {
        let mut texts: Vec<(String, usize)> = Vec::new();
        for mapping in self.mappings.iter().filter(|mapping| mapping.result >= 0) {
            let how = match mapping.calls.first() {
                Some(call) => call.function.trim_end_matches("_begin").to_owned(),
                None => "page faults".to_owned(),
            };
            let sharing = if mapping.flags & vm::MAYSHARE == 0 {
                "private"
            } else {
                "shared"
            };
            let text = format!(
                "{} ({}, {sharing}, by {how})",
                mapping.file,
                Bytes(mapping.length)
            );
            match texts.iter_mut().find(|(known, _)| *known == text) {
                Some((_, times)) => *times += 1,
                None => texts.push((text, 1)),
            }
        }
        let all: usize = texts.iter().map(|(_, times)| times).sum();
        match texts.len() {
            0 => "its memory mappings (none of a device)".to_owned(),
            1..=8 => {
                let texts = texts.into_iter().map(|(text, times)| match times {
                    1 => text,
                    times => format!("{text} {times} times"),
                });
                texts.collect::<Vec<_>>().join(", ")
            }
            _ => format!("{all} mappings of devices"),
        }
    }
}

fn signal_name(number: i32) -> String {
    nix::sys::signal::Signal::try_from(number)
        .map_or_else(|_| format!("signal {number}"), |signal| signal.to_string())
}

/// A text under a word, in lines of a readable length.
fn paragraph(f: &mut fmt::Formatter<'_>, word: &str, text: &str) -> fmt::Result {
    let mut line = format!("  {word:5}");
    let mut empty = true;
    for piece in text.split_whitespace() {
        if !empty && line.chars().count() + 1 + piece.chars().count() > WIDTH {
            writeln!(f, "{line}")?;
            line = " ".repeat(7);
        }
        line.push(' ');
        line.push_str(piece);
        empty = false;
    }
    writeln!(f, "{line}")
}
