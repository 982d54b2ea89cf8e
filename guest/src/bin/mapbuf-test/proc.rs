//! What the kernel itself says in `/proc` and `/sys`: a witness that is not the driver.

use crate::sys::{Map, PAGE};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

/// One row of `/proc/self/smaps`.
#[derive(Clone, Debug, Default)]
pub struct Vma {
    pub start: usize,
    pub end: usize,
    /// The fields in KiB, such as `Rss` and `FilePmdMapped`.
    pub kib: HashMap<String, u64>,
    /// The two-letter flags, as `fs/proc/task_mmu.c` lists them.
    pub flags: Vec<String>,
}

impl Vma {
    pub fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|found| found == flag)
    }

    pub fn kib(&self, field: &str) -> u64 {
        self.kib.get(field).copied().unwrap_or(0)
    }
}

/// The rows of `/proc/self/smaps`.
pub fn smaps() -> Vec<Vma> {
    let text = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    let mut vmas: Vec<Vma> = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        if let Some(field) = first.strip_suffix(':') {
            let Some(vma) = vmas.last_mut() else { continue };
            if field == "VmFlags" {
                vma.flags = words.map(str::to_owned).collect();
            } else if let Some(value) = words.next().and_then(|value| value.parse().ok()) {
                vma.kib.insert(field.to_owned(), value);
            }
            continue;
        }
        let Some((start, end)) = first.split_once('-') else {
            continue;
        };
        let hex = |text: &str| usize::from_str_radix(text, 16).unwrap_or(0);
        vmas.push(Vma {
            start: hex(start),
            end: hex(end),
            ..Default::default()
        });
    }
    vmas
}

/// The row that an address lies in.
pub fn vma_at(address: usize) -> Option<Vma> {
    smaps()
        .into_iter()
        .find(|vma| (vma.start..vma.end).contains(&address))
}

/// The page frame under an address of this process (root only): `/proc/self/pagemap`, bits 0-54, bit 63 present.
/// PFN maps are left out.
pub fn frame_at(address: usize) -> Option<u64> {
    let file = File::open("/proc/self/pagemap").ok()?;
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, (address / PAGE * 8) as u64)
        .ok()?;
    let entry = u64::from_ne_bytes(bytes);
    (entry >> 63 == 1).then_some(entry & ((1 << 55) - 1))
}

/// The frames under a mapping, page by page; it must have been touched.
pub fn frames(map: &Map) -> Vec<Option<u64>> {
    (0..map.len)
        .step_by(PAGE)
        .map(|at| frame_at(map.start + at))
        .collect()
}

/// A field of `/proc/meminfo`, in KiB.
pub fn meminfo(field: &str) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// A parameter of the module.
pub fn parameter(name: &str) -> std::io::Result<u64> {
    let text = fs::read_to_string(format!("/sys/module/mapbuf/parameters/{name}"))?;
    text.trim().parse().map_err(std::io::Error::other)
}

/// Sets a parameter of the module, and back when the value is dropped.
pub struct Parameter {
    name: &'static str,
    before: u64,
}

impl Parameter {
    pub fn set(name: &'static str, value: u64) -> std::io::Result<Self> {
        let before = parameter(name)?;
        fs::write(
            format!("/sys/module/mapbuf/parameters/{name}"),
            value.to_string(),
        )?;
        Ok(Self { name, before })
    }
}

impl Drop for Parameter {
    fn drop(&mut self) {
        // The next test that needs it says so.
        let _ = fs::write(
            format!("/sys/module/mapbuf/parameters/{}", self.name),
            self.before.to_string(),
        );
    }
}

/// Whether a module of this name is there.
pub fn module_loaded(name: &str) -> bool {
    fs::read_to_string("/proc/modules")
        .unwrap_or_default()
        .lines()
        .any(|line| line.split(' ').next() == Some(name))
}

/// The kernel's log, from when this was opened on.
pub struct Log {
    file: Option<File>,
}

impl Log {
    pub fn from_now() -> Self {
        let file = fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/kmsg");
        let file = file.ok().and_then(|mut file| {
            file.seek(SeekFrom::End(0)).ok()?;
            Some(file)
        });
        Self { file }
    }

    /// The new lines.
    pub fn lines(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        let Some(file) = self.file.as_mut() else {
            return lines;
        };
        let mut record = [0; 8192];
        loop {
            match file.read(&mut record) {
                Ok(0) => break,
                Ok(count) => {
                    let text = String::from_utf8_lossy(&record[..count]).into_owned();
                    // "priority,sequence,time,flags;text", then lines that start with a blank.
                    let text = text.lines().next().unwrap_or_default();
                    lines.push(
                        text.split_once(';')
                            .map_or(text, |(_, text)| text)
                            .to_owned(),
                    );
                }
                // The ring was overrun: go on with what is there.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                Err(_) => break,
            }
        }
        lines
    }

    /// The first new line that no test may cause, but for those with one of these texts in them.
    pub fn splat(&mut self, forgiven: &[&str]) -> Option<String> {
        const BAD: &[&str] = &[
            "BUG:",
            "WARNING:",
            "Oops",
            "KASAN",
            "kmemleak",
            "Call Trace",
            "page allocation failure",
            "Out of memory",
            "oom-kill",
            "general protection fault",
            "refcount_t",
            "Bad page",
            "kernel BUG",
            "rcu_sched",
            "hung task",
            "vmap allocation",
            "vmalloc error",
        ];
        // Whether a data race is ours is seen from the whole report, which the host looks at.
        const ELSEWHERE: &[&str] = &["BUG: KCSAN: "];
        self.lines().into_iter().find(|line| {
            let has = |texts: &[&str]| texts.iter().any(|text| line.contains(text));
            has(BAD) && !has(forgiven) && !has(ELSEWHERE)
        })
    }
}
