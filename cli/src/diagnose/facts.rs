//! What the machine and the program's processes have: limits, settings, open files. Read, never guessed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
};

/// A process, as it stood before its end.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// Where its descriptors lead.
    pub links: BTreeMap<u64, String>,
    /// Those of regular files that are not sysfs's.
    pub regular: BTreeSet<u64>,
    /// `RLIMIT_AS`, in bytes; `None`: unlimited or not known.
    pub address_space: Option<u64>,
    /// `RLIMIT_DATA`.
    pub data: Option<u64>,
    /// `RLIMIT_MEMLOCK`.
    pub locked: Option<u64>,
    /// Bytes that it has in its address space.
    pub size: u64,
    /// Bytes that it has locked.
    pub locked_now: u64,
    /// Bytes of private writable memory.
    pub data_now: u64,
    /// How many mappings it has, where that was counted.
    pub mappings: Option<u64>,
    /// A filter answers its system calls (`Seccomp: 2`).
    pub filtered: bool,
}

/// The machine, and the program's processes.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// How many bits a physical address has.
    pub physical_bits: Option<u32>,
    /// An IOMMU translates what devices say.
    pub iommu: bool,
    /// `vm.overcommit_memory`.
    pub overcommit: Option<u64>,
    /// `CommitLimit` and `Committed_AS` of `/proc/meminfo`, in bytes.
    pub commit: Option<(u64, u64)>,
    /// `vm.max_map_count`.
    pub max_map_count: Option<u64>,
    /// `vm.mmap_min_addr`.
    pub min_address: Option<u64>,
    /// `HugePages_Free`.
    pub huge_pages_free: Option<u64>,
    /// `Hugepagesize`, in bytes.
    pub huge_page_bytes: Option<u64>,
    /// The sizes of huge pages, in bytes.
    pub huge_sizes: Vec<u64>,
    /// Physical ranges of PCI devices that do not answer in memory, from and to, each with its device.
    pub off: Vec<(u64, u64, String)>,
    /// Variables of modules: where each begins, its name and the module's.
    pub variables: Vec<(u64, String, String)>,
    /// By their numbers.
    pub processes: BTreeMap<i32, Process>,
}

impl Facts {
    /// Reads what is the machine's.
    pub fn read(&mut self) {
        let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
        self.physical_bits = fs::read_to_string("/proc/cpuinfo")
            .ok()
            .and_then(|text| physical_bits(&text));
        self.iommu = fs::read_dir("/sys/class/iommu").is_ok_and(|mut all| all.next().is_some());
        self.overcommit = number("/proc/sys/vm/overcommit_memory");
        self.max_map_count = number("/proc/sys/vm/max_map_count");
        self.min_address = number("/proc/sys/vm/mmap_min_addr");
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        self.huge_pages_free = value(&memory, "HugePages_Free:");
        self.huge_page_bytes = value(&memory, "Hugepagesize:").map(|kib| kib << 10);
        let limit = value(&memory, "CommitLimit:").zip(value(&memory, "Committed_AS:"));
        self.commit = limit.map(|(limit, used)| (limit << 10, used << 10));
        let folders = fs::read_dir("/sys/kernel/mm/hugepages");
        let folders = folders.into_iter().flatten().flatten();
        self.huge_sizes = folders
            .filter_map(|folder| huge_size(folder.file_name().to_str()?))
            .collect();
        self.huge_sizes.sort_unstable();
    }

    /// Finds the PCI devices that do not answer in memory, among those whose BARs have one of these physical addresses.
    pub fn find_off(&mut self, addresses: &[u64]) {
        /// `PCI_COMMAND` and `PCI_COMMAND_MEMORY`, `include/uapi/linux/pci_regs.h`.
        const COMMAND: usize = 4;
        const MEMORY: u8 = 2;
        let devices = (!addresses.is_empty()).then(|| fs::read_dir("/sys/bus/pci/devices"));
        for device in devices.into_iter().flatten().flatten().flatten() {
            let text = fs::read_to_string(device.path().join("resource")).unwrap_or_default();
            // The six BARs; what follows is the ROM and bridges' windows.
            let ranges = (0..6).filter(|number| !is_of_ports(&text, *number));
            let ranges: Vec<_> = ranges
                .filter_map(|number| range_of(&text, number))
                .filter(|(from, to)| addresses.iter().any(|it| (from..=to).contains(&it)))
                .collect();
            if ranges.is_empty() {
                continue;
            }
            // Of one that is gone it reads as ones.
            let config = fs::read(device.path().join("config")).unwrap_or_default();
            let is_off = config.get(COMMAND).is_some_and(|low| low & MEMORY == 0);
            let name = device.file_name().to_string_lossy().into_owned();
            let off = ranges.into_iter().filter(|_| is_off);
            self.off
                .extend(off.map(|(from, to)| (from, to, name.clone())));
        }
    }

    /// The PCI device that has this physical address and does not answer.
    pub fn off_at(&self, physical: u64) -> Option<&str> {
        let mut all = self.off.iter();
        let found = all.find(|(from, to, _)| (from..=to).contains(&&physical));
        found.map(|(_, _, device)| device.as_str())
    }

    /// Finds the variables of modules that begin in the pages of these addresses.
    pub fn find_variables(&mut self, addresses: &[u64]) {
        if addresses.is_empty() {
            return;
        }
        let text = fs::read_to_string("/proc/kallsyms").unwrap_or_default();
        self.variables = text
            .lines()
            .filter_map(variable)
            .filter(|(at, _, _)| {
                addresses
                    .iter()
                    .any(|address| address & !0xfff == at & !0xfff)
            })
            .collect();
    }

    /// Reads a process that stands still before its end. Nothing here waits for its memory map.
    pub fn process(&mut self, pid: i32) {
        let folder = Path::new("/proc").join(pid.to_string());
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
        let limits = read("limits");
        let limit = |name: &str| {
            let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        let status = read("status");
        let bytes = |name: &str| value(&status, name).unwrap_or(0) << 10;
        let links: BTreeMap<u64, String> = fs::read_dir(folder.join("fd"))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let number = entry.file_name().to_str()?.parse().ok()?;
                let path = fs::read_link(entry.path()).ok()?;
                Some((number, path.to_string_lossy().into_owned()))
            })
            .collect();
        let is_regular = |descriptor: &u64| {
            let path = folder.join("fd").join(descriptor.to_string());
            fs::metadata(path).is_ok_and(|file| file.is_file())
        };
        let regular = links
            .iter()
            .filter(|(descriptor, path)| !path.starts_with("/sys/") && is_regular(descriptor))
            .map(|(descriptor, _)| *descriptor)
            .collect();
        let process = Process {
            links,
            regular,
            address_space: limit("Max address space"),
            data: limit("Max data size"),
            locked: limit("Max locked memory"),
            size: bytes("VmSize:"),
            locked_now: bytes("VmLck:"),
            data_now: bytes("VmData:"),
            mappings: None,
            filtered: value(&status, "Seccomp:") == Some(2),
        };
        self.processes.insert(pid, process);
    }

    /// Notes how many mappings such a process has, if that is known.
    pub fn note_mappings(&mut self, pid: i32, count: Option<u64>) {
        if let Some(process) = self.processes.get_mut(&pid) {
            process.mappings = count;
        }
    }

    /// Whether an open file is known to be a regular one.
    pub fn is_regular(&self, process: i32, descriptor: u64) -> bool {
        self.processes
            .get(&process)
            .is_some_and(|process| process.regular.contains(&descriptor))
    }

    /// The path of an open file.
    pub fn path(&self, process: i32, descriptor: u64) -> Option<&str> {
        let process = self.processes.get(&process)?;
        process.links.get(&descriptor).map(String::as_str)
    }
}

/// `ffffffffc0232000 b memory\t[static_buffer]`
fn variable(line: &str) -> Option<(u64, String, String)> {
    let (symbol, module) = line.split_once("\t[")?;
    let mut words = symbol.split(' ');
    let address = u64::from_str_radix(words.next()?, 16).ok()?;
    let is_data = ["b", "B", "d", "D", "r", "R"].contains(&words.next()?);
    let name = words.next()?.to_owned();
    (is_data && address != 0).then(|| (address, name, module.trim_end_matches(']').to_owned()))
}

/// Whether a process runs a program for 32 bits, by the class in its ELF header (`include/uapi/linux/elf.h`).
pub fn is_narrow(process: i32) -> bool {
    const CLASS_32: u8 = 1;
    let mut head = [0; 5];
    let read = fs::File::open(format!("/proc/{process}/exe"))
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut head));
    read.is_ok() && head == [0x7f, b'E', b'L', b'F', CLASS_32]
}

/// Whether a process was started with a descriptor of what may have a device's memory: neither an ordinary file, nor a pipe,
/// a socket, a terminal or `/dev/null`.
pub fn inherits_a_device(process: i32) -> bool {
    /// `/dev/null` and terminals (`Documentation/admin-guide/devices.txt`): major and minor numbers, from and to.
    const HARMLESS: [(u32, u32, u32); 5] = [
        (1, 3, 3),
        (4, 0, u32::MAX),
        (5, 0, u32::MAX),
        (136, 0, u32::MAX),
        (204, 0, u32::MAX),
    ];
    let all = fs::read_dir(format!("/proc/{process}/fd"));
    let files = all.into_iter().flatten().flatten();
    files
        .filter_map(|entry| fs::metadata(entry.path()).ok())
        .any(|file| {
            let kind = file.file_type();
            let ordinary = kind.is_file() || kind.is_dir() || kind.is_fifo() || kind.is_socket();
            let (major, minor) = (
                rustix::fs::major(file.rdev()),
                rustix::fs::minor(file.rdev()),
            );
            let harmless = HARMLESS
                .iter()
                .any(|&(of, from, to)| major == of && (from..=to).contains(&minor));
            !(ordinary || kind.is_char_device() && harmless)
        })
}

/// `hugepages-2048kB`
fn huge_size(name: &str) -> Option<u64> {
    let number = name.strip_prefix("hugepages-")?.strip_suffix("kB")?;
    Some(number.parse::<u64>().ok()? << 10)
}

/// The first number of a line that begins so.
fn value(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// `address sizes : 40 bits physical, 48 bits virtual`
fn physical_bits(text: &str) -> Option<u32> {
    let line = text
        .lines()
        .find(|line| line.starts_with("address sizes"))?;
    line.split_once(':')?
        .1
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

/// A PCI BAR, from the path of its file in sysfs.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Bar {
    /// `0000:00:04.0`
    pub device: String,
    /// The driver that is bound to the device.
    pub driver: Option<String>,
    /// Its first and last physical address, or port.
    pub range: Option<(u64, u64)>,
    /// It is of I/O ports.
    pub is_ports: bool,
}

impl Bar {
    /// Of `…/0000:00:04.0/resource0`, with what sysfs has beside it.
    pub fn of(path: &str) -> Option<Self> {
        let path = Path::new(path);
        let name = path.file_name()?.to_str()?;
        let number = name
            .strip_prefix("resource")?
            .trim_end_matches("_wc")
            .parse::<usize>()
            .ok()?;
        let folder = path.parent()?;
        let driver = fs::read_link(folder.join("driver")).ok();
        let resources = fs::read_to_string(folder.join("resource")).ok();
        Some(Self {
            device: folder.file_name()?.to_str()?.to_owned(),
            driver: driver.and_then(|path| Some(path.file_name()?.to_str()?.to_owned())),
            range: resources.as_ref().and_then(|text| range_of(text, number)),
            is_ports: resources.is_some_and(|text| is_of_ports(&text, number)),
        })
    }
}

/// A line `0x00000000fea00000 0x00000000feafffff 0x0000000000040200`.
fn range_of(text: &str, number: usize) -> Option<(u64, u64)> {
    let mut words = text.lines().nth(number)?.split_whitespace();
    let mut address = || u64::from_str_radix(words.next()?.trim_start_matches("0x"), 16).ok();
    let range = (address()?, address()?);
    (range.1 > 0).then_some(range)
}

/// Whether the line's flags have `IORESOURCE_IO` (`include/linux/ioport.h`).
fn is_of_ports(text: &str, number: usize) -> bool {
    const IO: u64 = 0x100;
    let flags = text
        .lines()
        .nth(number)
        .and_then(|line| line.split_whitespace().nth(2));
    let flags = flags.and_then(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok());
    flags.is_some_and(|flags| flags & IO != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_modules_are_read() {
        let of_module = "ffffffffc0232000 b memory\t[static_buffer]";
        let expected = (
            0xffff_ffff_c023_2000,
            "memory".into(),
            "static_buffer".into(),
        );
        assert_eq!(variable(of_module), Some(expected));
        assert_eq!(
            variable("ffffffffc0230000 t my_mmap\t[static_buffer]"),
            None
        );
        assert_eq!(variable("ffffffff82000000 D jiffies"), None);
    }

    #[test]
    fn sizes_of_huge_pages_are_read() {
        assert_eq!(huge_size("hugepages-2048kB"), Some(2 << 20));
        assert_eq!(huge_size("hugepages"), None);
    }

    #[test]
    fn ports_are_told_from_memory() {
        let text = "0x000000000000c000 0x000000000000c03f 0x0000000000040101\n0xfe000000 0xfe0fffff 0x40200\n";
        assert!(is_of_ports(text, 0) && !is_of_ports(text, 1) && !is_of_ports(text, 2));
    }

    #[test]
    fn numbers_are_found() {
        assert_eq!(
            physical_bits("x: 1\naddress sizes\t: 40 bits physical, 48 bits virtual\n"),
            Some(40)
        );
        assert_eq!(
            value("A: 1\nHugePages_Free:    12\n", "HugePages_Free:"),
            Some(12)
        );
        assert_eq!(
            range_of("0x0 0x0 0x0\n0xfe000000 0xfe0fffff 0x40200\n", 1),
            Some((0xfe00_0000, 0xfe0f_ffff))
        );
        assert_eq!(range_of("0x0 0x0 0x0\n", 0), None);
    }
}
