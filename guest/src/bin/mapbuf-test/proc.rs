//! What the kernel itself says in `/proc` and `/sys`: a witness that is not the driver.

use crate::sys::{Map, PAGE};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

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

/// Where each thread of a process group is, to tell why it does not end: its state, the number of its system call,
/// and the innermost functions of its kernel stack.
pub fn whereabouts(group: i32) -> String {
    let tasks = list("/proc").into_iter().filter(|process| {
        fs::read_to_string(process.join("stat")).is_ok_and(|stat| group_of(&stat) == Some(group))
    });
    let threads = tasks.flat_map(|process| list(process.join("task")));
    let lines: Vec<_> = threads.map(|thread| whereabout(&thread)).collect();
    lines.join("; ")
}

fn whereabout(thread: &Path) -> String {
    // A thread that has ended meanwhile is nowhere.
    let read = |file: &str| fs::read_to_string(thread.join(file)).unwrap_or_default();
    let stat = read("stat");
    let state = after_name(&stat)
        .and_then(|mut fields| fields.next())
        .unwrap_or("gone");
    let syscall = read("syscall");
    let stack = read("stack");
    let functions: Vec<_> = stack
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1)?.split('+').next())
        .take(6)
        .collect();
    format!(
        "thread {} is {state}, in system call {} at {}",
        thread.file_name().unwrap_or_default().to_string_lossy(),
        syscall.split_whitespace().next().unwrap_or("none"),
        functions.join(" < ")
    )
}

fn list(folder: impl AsRef<Path>) -> Vec<PathBuf> {
    fs::read_dir(folder).map_or_else(
        |_| Vec::new(),
        |entries| entries.flatten().map(|entry| entry.path()).collect(),
    )
}

/// The fields of `/proc/PID/stat` behind the program's name, which may have blanks and brackets in it.
fn after_name(stat: &str) -> Option<impl Iterator<Item = &str>> {
    Some(stat.rsplit_once(')')?.1.split_whitespace())
}

fn group_of(stat: &str) -> Option<i32> {
    after_name(stat)?.nth(2)?.parse().ok()
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
