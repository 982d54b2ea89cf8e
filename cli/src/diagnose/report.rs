//! The diagnosis, for people and for programs.

use super::{
    causes::{Finding, Severity},
    history::{vm, History, Mapping, PAGE},
    iomem::Iomem,
    tracee::{Fault, Life},
};
use anstyle::{AnsiColor, Style};
use mapbuf::{abi::explain::Bytes, errno_name};
use serde::Serialize;
use std::{ffi::OsString, fmt};

/// A line of text is not longer than this.
const WIDTH: usize = 100;

/// All that is said.
#[derive(Debug, Serialize)]
pub struct Report {
    program: Vec<String>,
    exit_status: u8,
    killed_by: Option<i32>,
    /// The kernel stopped a thread of it (BUG), and it hangs in its end.
    stuck: bool,
    faults: Vec<Fault>,
    findings: Vec<Finding>,
    /// Mappings of devices, those that failed too.
    mappings: Vec<Mapping>,
    /// What is worth knowing, and no fault.
    notes: Vec<String>,
    lost_events: u64,
}

impl Report {
    /// Puts it together.
    pub fn new(
        program: &[OsString],
        life: &Life,
        history: &History,
        iomem: &Iomem,
        findings: Vec<Finding>,
        lost: u64,
    ) -> Self {
        let mappings: Vec<_> = history
            .mappings
            .iter()
            .filter(|mapping| !mapping.regular)
            .cloned()
            .collect();
        let mut notes = Vec::new();
        for mapping in &mappings {
            notes.extend(refusal(mapping, &findings));
            notes.extend(device_memory(mapping, iomem));
        }
        for fault in &life.faults {
            if history.at(fault.address).is_none() {
                notes.push(elsewhere(fault));
            }
        }
        notes.dedup();
        Self {
            program: program
                .iter()
                .map(|word| word.to_string_lossy().into_owned())
                .collect(),
            exit_status: life.status,
            killed_by: life.killed_by,
            stuck: life.stuck,
            faults: life.faults.clone(),
            findings,
            mappings,
            notes,
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

/// A driver that refused by itself, and an `mmap` that nobody explained.
fn refusal(mapping: &Mapping, findings: &[Finding]) -> Option<String> {
    let errno = i32::try_from(-mapping.result)
        .ok()
        .filter(|errno| *errno > 0)?;
    let explained = findings.iter().any(|finding| finding.file == mapping.file);
    (!explained).then(|| {
        format!(
            "mmap of {} failed with {}: {} refused it before any mapping function was called",
            mapping.file,
            errno_name(errno).unwrap_or("an unknown error"),
            mapping.driver()
        )
    })
}

/// What was mapped that is no memory of the kernel's: whether it answers cannot be seen without a read.
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
        "{} maps physical {physical:#x} ({name}). Whether anything answers there, mapbuf diagnose --read tells: it \
         reads a word of each page, which a device may mind",
        mapping.file
    ))
}

fn elsewhere(fault: &Fault) -> String {
    match &fault.vma {
        Some(vma) => format!(
            "{} at {:#x}, in {} ({}), which is no mapping of a file made under observation",
            fault.signal,
            fault.address,
            if vma.path.is_empty() {
                "anonymous memory"
            } else {
                &vma.path
            },
            vma.permissions
        ),
        None => format!(
            "{} at {:#x}, where nothing is mapped: the program's own affair",
            fault.signal, fault.address
        ),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bold = Style::new().bold();
        let program = self.program.first().map_or("", String::as_str);
        write!(f, "{bold}mapbuf diagnose:{bold:#} {program} ")?;
        match self.killed_by {
            _ if self.stuck => write!(
                f,
                "was stopped by the kernel (BUG: see dmesg) and cannot end before a reboot"
            )?,
            Some(signal) => write!(f, "was killed by {}", signal_name(signal))?,
            None => write!(f, "exited with {}", self.exit_status)?,
        }
        if let Some(fault) = self.faults.last() {
            match self.killed_by.map(signal_name) {
                Some(name) if name == fault.signal => write!(f, " at {:#x}", fault.address)?,
                _ => write!(f, "; {} at {:#x}", fault.signal, fault.address)?,
            }
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
            for way in &finding.next {
                paragraph(f, "next", way)?;
            }
        }
        if self.findings.is_empty() {
            writeln!(f, "nothing wrong was seen in {}", self.summary())?;
        }
        for note in &self.notes {
            writeln!(f)?;
            paragraph(f, "note", note)?;
        }
        if self.lost_events > 0 {
            let text = format!(
                "{} events found no room: what is said above may be incomplete",
                self.lost_events
            );
            paragraph(f, "note", &text)?;
        }
        Ok(())
    }
}

impl Report {
    fn summary(&self) -> String {
        let mut texts: Vec<String> = Vec::new();
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
            texts.push(format!(
                "{} ({}, {sharing}, by {how})",
                mapping.file,
                Bytes(mapping.length)
            ));
        }
        texts.dedup();
        match texts.len() {
            0 => "its memory mappings (none was a device's)".to_owned(),
            1..=8 => texts.join(", "),
            more => format!("{more} mappings of devices"),
        }
    }
}

fn signal_name(number: i32) -> String {
    nix::sys::signal::Signal::try_from(number)
        .map_or_else(|_| format!("signal {number}"), |signal| signal.to_string())
}

/// A text under a word, in lines of a readable length.
fn paragraph(f: &mut fmt::Formatter<'_>, word: &str, text: &str) -> fmt::Result {
    let mut line = format!("  {word:4} ");
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
