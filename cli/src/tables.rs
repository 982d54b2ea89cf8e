//! This process's own page tables, read as they stand (x86-64).
//!
//! `/proc/self/pagemap` leaves out what was mapped by frame number (`walk_page_test` in `mm/pagewalk.c`). To root the
//! kernel shows its memory as `/proc/kcore`, page tables included, and a probe in an instance of tracefs of our own says
//! where they begin: `vma->vm_mm->pgd`, at a page fault that is made for it. Nothing of it stays.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Error, ErrorKind, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

const TRACEFS: &str = "/sys/kernel/tracing";
/// Bits of an entry, `arch/x86/include/asm/pgtable_types.h`.
const PRESENT: u64 = 1;
const CACHE_BITS: u64 = 0x18;
const LARGE: u64 = 1 << 7;
const FRAME: u64 = 0x000f_ffff_ffff_f000;
const INDEX_BITS: u32 = 9;

/// The last entry of a walk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Entry {
    /// The first virtual address that it covers.
    pub address: u64,
    /// The first physical address that it leads to.
    pub physical: u64,
    /// How much it covers.
    pub bytes: u64,
    /// Whether the processor may cache what it reads there.
    pub cached: bool,
}

/// The tables.
pub struct Tables {
    memory: Kcore,
    /// The kernel's address of the first one.
    root: u64,
}

impl Tables {
    /// Finds them. It needs root, tracefs, and a kernel that is not locked down.
    pub fn own() -> io::Result<Self> {
        if cfg!(not(target_arch = "x86_64")) {
            return Err(ErrorKind::Unsupported.into());
        }
        Ok(Self {
            memory: Kcore::open()?,
            root: root()?,
        })
    }

    /// The entries of a range of addresses, in their order; where there is none, none is listed.
    pub fn entries(&self, start: u64, bytes: u64) -> io::Result<Vec<Entry>> {
        // With five levels the kernel's half begins lower (`Documentation/arch/x86/x86_64/mm.rst`).
        let levels = if self.root < 0xffff_8000_0000_0000 {
            5
        } else {
            4
        };
        let mut found = Vec::new();
        let range = (start, start.saturating_add(bytes));
        walk(
            &|table| self.memory.table_at(table),
            self.root,
            levels,
            0,
            range,
            &|physical| self.memory.address_of(physical),
            &mut found,
        )?;
        Ok(found)
    }
}

/// Goes through a table of some level that begins at `base`.
fn walk(
    read: &dyn Fn(u64) -> io::Result<[u64; 512]>,
    table: u64,
    level: u32,
    base: u64,
    (start, end): (u64, u64),
    address_of: &dyn Fn(u64) -> io::Result<u64>,
    found: &mut Vec<Entry>,
) -> io::Result<()> {
    let covers = 1_u64 << (12 + INDEX_BITS * (level - 1));
    for (index, entry) in (0..).zip(read(table)?) {
        let address = base + index * covers;
        if entry & PRESENT == 0 || address >= end || address + covers <= start {
            continue;
        }
        if level == 1 || entry & LARGE != 0 {
            found.push(Entry {
                address,
                physical: entry & FRAME & !(covers - 1),
                bytes: covers,
                cached: entry & CACHE_BITS == 0,
            });
        } else {
            let below = address_of(entry & FRAME)?;
            walk(
                read,
                below,
                level - 1,
                address,
                (start, end),
                address_of,
                found,
            )?;
        }
    }
    Ok(())
}

/// The kernel's memory, as an ELF file of which nothing but the headers is as in a file.
pub(crate) struct Kcore {
    file: File,
    segments: Vec<Segment>,
}

struct Segment {
    offset: u64,
    address: u64,
    physical: u64,
    bytes: u64,
}

impl Kcore {
    /// Opens it; root may, unless the kernel is locked down.
    pub(crate) fn open() -> io::Result<Self> {
        let file = File::open("/proc/kcore")?;
        let mut head = [0; 64];
        file.read_exact_at(&mut head, 0)?;
        // e_phoff and e_phnum of a 64-bit ELF file.
        let (at, count) = (word(&head, 32), word(&head, 56) & 0xffff);
        let mut headers = vec![0; usize::try_from(count * 56).unwrap_or(0)];
        file.read_exact_at(&mut headers, at)?;
        let segments = headers
            .chunks_exact(56)
            // PT_LOAD, and an address that means something (only the map of all memory has one).
            .filter(|header| word(header, 0) & 0xffff_ffff == 1 && word(header, 24) != u64::MAX)
            .map(|header| Segment {
                offset: word(header, 8),
                address: word(header, 16),
                physical: word(header, 24),
                bytes: word(header, 32),
            })
            .collect();
        Ok(Self { file, segments })
    }

    /// The table at an address of the kernel's.
    fn table_at(&self, address: u64) -> io::Result<[u64; 512]> {
        let segment = self
            .segments
            .iter()
            .find(|one| address >= one.address && address - one.address < one.bytes)
            .ok_or(ErrorKind::NotFound)?;
        let mut bytes = [0; 4096];
        self.file
            .read_exact_at(&mut bytes, segment.offset + (address - segment.address))?;
        let mut table = [0; 512];
        for (entry, bytes) in table.iter_mut().zip(bytes.chunks_exact(8)) {
            *entry = word(bytes, 0);
        }
        Ok(table)
    }

    /// Where the kernel has a physical address.
    /// The bytes at an address of the kernel's.
    pub(crate) fn read_at(&self, bytes: &mut [u8], address: u64) -> io::Result<()> {
        let segment = self
            .segments
            .iter()
            .find(|one| address >= one.address && address - one.address < one.bytes)
            .ok_or(ErrorKind::NotFound)?;
        self.file
            .read_exact_at(bytes, segment.offset + (address - segment.address))
    }

    /// The word at an address of the kernel's.
    pub(crate) fn word_at(&self, address: u64) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.read_at(&mut bytes, address)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn address_of(&self, physical: u64) -> io::Result<u64> {
        let segment = self
            .segments
            .iter()
            .find(|one| physical >= one.physical && physical - one.physical < one.bytes)
            .ok_or(ErrorKind::NotFound)?;
        Ok(segment.address + (physical - segment.physical))
    }
}

/// 64 bits at a place; 0 behind the end.
fn word(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..at + 8)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, u64::from_le_bytes)
}

/// The kernel's address of this process's first table.
fn root() -> io::Result<u64> {
    let probe = Probe::set()?;
    // Pages that were never touched.
    let fresh = vec![1_u8; 64 * rustix::param::page_size()];
    std::hint::black_box(&fresh);
    let text = fs::read_to_string(probe.instance.join("trace"))?;
    text.lines()
        .find_map(|line| line.split_once("pgd=0x"))
        .and_then(|(_, digits)| u64::from_str_radix(digits.trim(), 16).ok())
        .ok_or_else(|| Error::other("no page fault was recorded"))
}

/// A probe of the page fault, for this process alone; gone when dropped.
struct Probe {
    instance: PathBuf,
    event: String,
}

impl Probe {
    fn set() -> io::Result<Self> {
        let own = std::process::id();
        let instance = Path::new(TRACEFS).join(format!("instances/mapbuf-{own}"));
        fs::create_dir(&instance)?;
        let probe = Self {
            instance,
            event: format!("mapbuf_{own}/tables"),
        };
        probe.define(&format!(
            "{} handle_mm_fault pgd=vma->vm_mm->pgd:x64",
            probe.event
        ))?;
        fs::write(probe.instance.join("set_event_pid"), own.to_string())?;
        let enable = format!("events/{}/enable", probe.event);
        fs::write(probe.instance.join(enable), "1")?;
        Ok(probe)
    }

    fn define(&self, definition: &str) -> io::Result<()> {
        // An fprobe event, or on kernels without them a kprobe event.
        append(&format!("f:{definition}")).or_else(|_| append(&format!("p:{definition}")))
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        let _ = fs::write(self.instance.join("events/enable"), "0");
        for _ in 0..20 {
            match fs::remove_dir(&self.instance) {
                Err(error) if error.kind() == ErrorKind::ResourceBusy => {
                    thread::sleep(Duration::from_millis(10));
                }
                _ => break,
            }
        }
        let _ = append(&format!("-:{}", self.event));
    }
}

fn append(line: &str) -> io::Result<()> {
    OpenOptions::new()
        .append(true)
        .open(Path::new(TRACEFS).join("dynamic_events"))?
        .write_all(format!("{line}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_finds_entries_of_both_sizes() {
        // Tables at 0x1000 (level 3), 0x2000, 0x3000; an entry of 2 MiB at its second place, of 4 KiB at 512 * 0 + 5.
        let read = |table: u64| {
            let mut entries = [0; 512];
            match table {
                0x1000 => entries[0] = 0x2000 | PRESENT,
                0x2000 => {
                    entries[0] = 0x3000 | PRESENT;
                    entries[1] = 0x4020_0000 | LARGE | PRESENT;
                }
                _ => {
                    entries[5] = (1 << 63) | 0x7000 | CACHE_BITS | PRESENT;
                    entries[6] = 0x8000 | PRESENT;
                }
            }
            Ok(entries)
        };
        let mut found = Vec::new();
        let range = (0x5000, 0x6000);
        walk(&read, 0x1000, 3, 0, range, &Ok, &mut found).unwrap();
        let small = Entry {
            address: 0x5000,
            physical: 0x7000,
            bytes: 4096,
            cached: false,
        };
        assert_eq!(found, [small]);
        found.clear();
        walk(&read, 0x1000, 3, 0, (0x20_0000, 0x20_1000), &Ok, &mut found).unwrap();
        assert_eq!(found[0].physical, 0x4020_0000);
        assert_eq!(found[0].bytes, 2 << 20);
        assert_eq!(found.len(), 1);
    }
}
