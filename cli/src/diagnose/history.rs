//! What the program mapped, and what the kernel did for it, put together from the events.

use super::{
    frames::{self, PAGE},
    probes::{
        nr, COPY_FAILED, FIND_AREA, FIND_VMAP_AREA, FOLLOWED, HANDED, MAPPED, MMAP_FAILED,
        MUNMAP_FAILED, OF_32_BITS, PROBES, REACHED, TOLD_WHEN_FAILED,
    },
    trace::{symbol, Call, Event, What},
};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Flags of clone (`include/uapi/linux/sched.h`).
const CLONE_VM: u64 = 0x100;
const CLONE_THREAD: u64 = 0x1_0000;
/// `MADV_DONTFORK` and `MADV_DOFORK`.
const DONTFORK: u64 = 10;
const DOFORK: u64 = 11;

/// Flags of a VMA, `include/linux/mm.h`.
pub mod vm {
    pub const WRITE: u64 = 0x2;
    pub const SHARED: u64 = 0x8;
    pub const MAYWRITE: u64 = 0x20;
    pub const MAYSHARE: u64 = 0x80;
    pub const PFNMAP: u64 = 0x400;
    pub const IO: u64 = 0x4000;
    pub const DONTCOPY: u64 = 0x2_0000;
    pub const DONTEXPAND: u64 = 0x4_0000;
    pub const MIXEDMAP: u64 = 0x1000_0000;

    /// What the kernel asks by 7.2's `is_cow_mapping`, and by `vma_is_cow_mapping` from 7.3 on.
    pub fn is_cow(flags: u64) -> bool {
        flags & (SHARED | MAYWRITE) == MAYWRITE
    }
}

/// File systems by their magic number, `include/uapi/linux/magic.h`.
pub mod magic {
    pub const SYSFS: u64 = 0x6265_6572;
    pub const HUGETLBFS: u64 = 0x9584_58f6;
    pub const SECRETMEM: u64 = 0x5345_434d;
    pub const PROC: u64 = 0x9fa0;
}

/// One mapping of a device, and all that happened to it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Mapping {
    /// The address space that it is in.
    #[serde(skip)]
    pub space: i32,
    /// When it was made, in microseconds.
    #[serde(skip)]
    pub time: u64,
    /// The file's name, without its folders.
    pub file: String,
    /// The file's `mmap`, as a symbol.
    pub mmap: Option<String>,
    /// Where it is; 0 where `mmap` failed.
    pub address: u64,
    /// How long it is.
    pub length: u64,
    /// `mmap`'s arguments; none where another system call made it.
    pub arguments: Vec<u64>,
    /// What `mmap` returned.
    pub result: i64,
    /// The VMA's flags when they were last seen.
    pub flags: u64,
    /// The VMA's fault handler, as a symbol.
    pub fault: Option<String>,
    /// Calls of mapping functions in `mmap`, inner ones first.
    #[serde(skip)]
    pub calls: Vec<Call>,
    /// Ranges of addresses that have entries since then, with their first frame where it is known.
    #[serde(skip)]
    pub filled: Vec<Filled>,
    /// Frames that a fault handler gave.
    #[serde(skip)]
    pub handed: Vec<Handed>,
    /// Whether it is still there.
    #[serde(skip)]
    pub live: bool,
    /// When its address space ended.
    #[serde(skip)]
    pub ended: Option<u64>,
    /// Parts that were taken away, and how.
    #[serde(skip)]
    pub gone: Vec<Gone>,
    /// It came from a parent.
    #[serde(skip)]
    pub inherited: bool,
    /// `madvise(MADV_DONTFORK)` was said of it.
    #[serde(skip)]
    pub dont_fork: Option<Doing>,
    /// Calls of `mprotect` for a part of it.
    #[serde(skip)]
    pub protected: Vec<Doing>,
    /// A write made a private copy of a page.
    #[serde(skip)]
    pub copied: bool,
    /// Frames that were freed while they were mapped: the first one, and where the program was then.
    #[serde(skip)]
    pub freed: Vec<(u64, Option<Doing>)>,
    /// Frames of it that were freed when it was unmapped, and when.
    #[serde(skip)]
    pub released: Vec<(u64, u64)>,
}

/// A part of a mapping that has entries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Filled {
    /// Its first address.
    pub address: u64,
    /// How long it is.
    pub length: u64,
    /// The first frame, when it is known.
    pub pfn: Option<u64>,
    /// The frames were mapped by number: nobody counts them.
    pub by_number: bool,
}

/// A page that a fault handler gave.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Handed {
    /// For which address.
    pub address: u64,
    /// Its frame.
    pub pfn: u64,
    /// Its count of references, as the handler left it.
    pub count: i64,
    /// It is part of a compound page, whose head has the count.
    pub compound: bool,
    /// When.
    pub time: u64,
}

/// A part that was taken away.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Gone {
    /// Its first address.
    pub address: u64,
    /// How long it was.
    pub length: u64,
    /// When, in microseconds.
    pub time: u64,
    /// By which thread.
    pub thread: i32,
    /// By what.
    pub by: Doing,
}

/// A system call that a thread is in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Doing {
    /// Its number.
    pub number: u64,
    /// Its arguments.
    pub arguments: Vec<u64>,
}

impl Doing {
    /// An argument; 0 where it is missing.
    pub fn argument(&self, number: usize) -> u64 {
        self.arguments.get(number).copied().unwrap_or(0)
    }

    /// The call as a person would write it.
    pub fn text(&self) -> String {
        let (a, b, c) = (self.argument(0), self.argument(1), self.argument(2));
        match self.number {
            nr::MMAP => format!(
                "mmap({a:#x}, {b}, {c:#x}, {:#x}, {}, {:#x})",
                self.argument(3),
                signed(self.argument(4)),
                self.argument(5)
            ),
            nr::MUNMAP => format!("munmap({a:#x}, {b})"),
            nr::MREMAP => format!("mremap({a:#x}, {b}, {c}, {:#x})", self.argument(3)),
            nr::MPROTECT => format!("mprotect({a:#x}, {b}, {c:#x})"),
            nr::MADVISE => format!("madvise({a:#x}, {b}, {c})"),
            nr::MSYNC => format!("msync({a:#x}, {b}, {c:#x})"),
            nr::MLOCK | nr::MLOCK2 => format!("mlock({a:#x}, {b})"),
            nr::MLOCKALL => format!("mlockall({a:#x})"),
            nr::IOCTL => format!("ioctl({}, {b:#x})", signed(a)),
            nr::CLOSE => format!("close({})", signed(a)),
            nr::EXIT | nr::EXIT_GROUP => "the end of a process".to_owned(),
            number => format!("system call {number}"),
        }
    }
}

/// A descriptor, which may be -1.
fn signed(value: u64) -> i32 {
    i32::from_ne_bytes(
        u32::try_from(value & 0xffff_ffff)
            .unwrap_or(0)
            .to_ne_bytes(),
    )
}

impl Mapping {
    /// Whether an address is in it.
    pub fn contains(&self, address: u64) -> bool {
        self.address <= address && address - self.address < self.length
    }

    /// Whether something was put at this address.
    pub fn is_filled(&self, address: u64) -> bool {
        let page = address & !(PAGE - 1);
        self.filled
            .iter()
            .any(|part| part.address <= address && address - part.address < part.length)
            || self
                .handed
                .iter()
                .any(|one| one.address & !(PAGE - 1) == page)
    }

    /// How many pages there are.
    pub fn pages(&self) -> u64 {
        self.length.div_ceil(PAGE)
    }

    /// The driver's function, for people.
    pub fn driver(&self) -> String {
        let called = self.calls.iter().rev().find_map(Call::module_function);
        called
            .or_else(|| self.mmap.clone())
            .unwrap_or_else(|| "the driver's mmap".to_owned())
    }

    /// The fault handler's name, if there is one.
    pub fn handler(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// The offset that was asked for, in pages; `None` where no `mmap` did.
    pub fn asked_pages(&self) -> Option<u64> {
        Some(self.arguments.get(5)? / PAGE)
    }

    /// Whether an address of it was mapped at that time.
    pub fn was_there(&self, address: u64, time: u64) -> bool {
        self.contains(address)
            && self.ended.is_none_or(|ended| time <= ended)
            && self.gone_at(address).is_none_or(|gone| time < gone.time)
    }

    /// What took this address away.
    pub fn gone_at(&self, address: u64) -> Option<&Gone> {
        self.gone
            .iter()
            .rev()
            .find(|gone| gone.address <= address && address - gone.address < gone.length)
    }
}

/// A system call that would have mapped something, and did not.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// By which thread.
    pub thread: i32,
    /// In which address space.
    pub space: i32,
    /// The call.
    pub doing: Doing,
    /// What it returned.
    pub result: i64,
    /// The kernel's core came as far as asking the driver.
    pub reached: Option<Call>,
    /// Calls of mapping functions in it.
    pub calls: Vec<Call>,
    /// What is known of the file of the descriptor.
    pub opened: Option<Call>,
    /// The last `ioctl` on this descriptor, and its result.
    pub ioctl: Option<(Doing, i64)>,
}

/// Memory of a kind of its own, which is no device's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marked {
    /// In which address space.
    pub space: i32,
    /// Its first address.
    pub address: u64,
    /// How long it is.
    pub length: u64,
    /// What it is.
    pub kind: Kind,
    /// The call that made it.
    pub by: Doing,
}

/// What memory may be beside ordinary memory and a device's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Of huge pages (`MAP_HUGETLB`, hugetlbfs).
    Huge,
    /// Of `memfd_secret`.
    Secret,
}

/// All that is known.
#[derive(Debug, Default)]
pub struct History {
    /// Every mapping of a device, in the order in which they were made.
    pub mappings: Vec<Mapping>,
    /// System calls that failed.
    pub refusals: Vec<Refusal>,
    /// Fault handlers that said an error.
    pub handlers: Vec<Call>,
    /// Frames that were inserted at a page fault, and whether that went well.
    pub inserts: Vec<Call>,
    /// Requests for the pages behind addresses that came to EFAULT.
    pub pins: Vec<Call>,
    /// Copies between the kernel and the program that failed.
    pub copies: Vec<Call>,
    /// Memory of a kind of its own.
    pub marked: Vec<Marked>,
    /// Programs that were executed, by address space and time (microseconds): whether each is one for 32 bits.
    pub narrow: BTreeMap<(i32, u64), bool>,
    /// Calls that began and did not come to their end.
    pub unfinished: Vec<Call>,
    /// DMA memory that was allocated under observation.
    pub dma: Vec<Call>,
    /// Where the structures of pages, the linear map and vmalloc's range begin.
    pub bases: Bases,
    /// How many calls of `mmap` each address space has made, and the last of them by each thread.
    pub mmaps: BTreeMap<i32, u64>,
    /// The last call of `mmap` by each thread: whether it went well.
    pub last_mmap: BTreeMap<i32, bool>,
    /// The last call by each thread that failed and is told of, unless memory was mapped since then.
    pub last_failed: BTreeMap<i32, Doing>,
    /// Calls of `mmap` that failed and had no beginning: the thread and the result.
    pub answered: Vec<(i32, i64)>,
    /// Calls of `mmap` whose result is a small positive number.
    pub positive: Vec<Positive>,
    /// What was unmapped: the address space, and from where to where.
    removed: Vec<(i32, u64, u64)>,
    /// Runs of frames that were allocated under observation: the first, how many, and when.
    allocated: Vec<(u64, u64, u64)>,
    /// The address space of each thread.
    spaces: BTreeMap<i32, i32>,
    /// The address space that another was copied from.
    parents: BTreeMap<i32, i32>,
    /// Files by address space and descriptor.
    files: BTreeMap<(i32, u64), Call>,
    /// The last ioctl by address space and descriptor.
    ioctls: BTreeMap<(i32, u64), (Doing, i64)>,
    threads: BTreeMap<i32, Thread>,
}

/// An `mmap` that returned what is no address.
#[derive(Clone, Debug)]
pub struct Positive {
    /// In which address space.
    pub space: i32,
    /// The call.
    pub doing: Doing,
    /// What it returned.
    pub result: u64,
    /// The file.
    pub opened: Option<Call>,
}

/// Where the kernel keeps what.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Bases {
    /// `vmemmap_base`; 0: unknown.
    pub vmemmap: u64,
    /// `page_offset_base`.
    pub linear: u64,
    /// `vmalloc_base`.
    pub vmalloc: u64,
    /// `phys_base`: how far the kernel's image lies from where it was linked to.
    pub image: Option<u64>,
}

/// What a thread is in the middle of.
#[derive(Debug, Default)]
struct Thread {
    doing: Option<Doing>,
    calls: Vec<Call>,
    region: Option<Call>,
    reached: Option<Call>,
    /// The cache mode that the kernel chose for what is being mapped by frame number.
    granted: Option<String>,
    /// vmalloc's area that was looked up last.
    area: Option<Call>,
    /// Frames that were freed outside of a system call that is followed: perhaps in the thread's end.
    freed: Vec<(u64, u64, u64)>,
}

impl History {
    /// Goes through the events.
    #[cfg(test)]
    pub fn of(events: &[Event]) -> Self {
        let mut history = Self::default();
        history.go_on(events);
        history
    }

    /// These threads are known, and have the address space of this process.
    pub fn with_threads(threads: &BTreeSet<i32>, process: i32) -> Self {
        let known = threads.iter();
        Self {
            spaces: threads.iter().map(|&thread| (thread, process)).collect(),
            threads: known.map(|&thread| (thread, Thread::default())).collect(),
            ..Self::default()
        }
    }

    /// Goes through more events.
    pub fn go_on(&mut self, events: &[Event]) {
        for event in events {
            let mut thread = self.threads.remove(&event.thread).unwrap_or_default();
            self.take(event.thread, &mut thread, event);
            self.threads.insert(event.thread, thread);
        }
    }

    /// Gives away the system calls that failed so far, and forgets what only a diagnosis of one program needs.
    pub fn take_refusals(&mut self) -> Vec<Refusal> {
        self.unfinished.clear();
        self.answered.clear();
        self.positive.clear();
        self.removed.clear();
        self.inserts.clear();
        self.pins.clear();
        self.mappings.clear();
        std::mem::take(&mut self.refusals)
    }

    /// Addresses in the kernel's image whose place in memory, as `virt_to_phys` has it, was mapped: of an address in the
    /// range of modules that arithmetic does not hold.
    pub fn made_of_module_addresses(&self) -> Vec<u64> {
        let parts = self.mappings.iter().flat_map(|mapping| &mapping.filled);
        parts
            .filter(|part| part.by_number)
            .filter_map(|part| self.module_address(part.pfn?))
            .collect()
    }

    /// The address in the range of modules that `virt_to_phys` makes this frame of (`__phys_addr` of
    /// `arch/x86/mm/physaddr.c`).
    pub fn module_address(&self, pfn: u64) -> Option<u64> {
        const IMAGE: u64 = 0xffff_ffff_8000_0000;
        // MODULES_VADDR without and with a moved image, and MODULES_END (arch/x86/include/asm/pgtable_64_types.h).
        const MODULES: std::ops::Range<u64> = 0xffff_ffff_a000_0000..0xffff_ffff_ff00_0000;
        let address = (pfn << 12)
            .checked_sub(self.bases.image?)?
            .checked_add(IMAGE)?;
        MODULES.contains(&address).then_some(address)
    }

    /// The physical addresses at which what was mapped by number begins.
    pub fn physical(&self) -> Vec<u64> {
        let parts = self.mappings.iter().flat_map(|mapping| &mapping.filled);
        let parts = parts.filter(|part| part.by_number);
        parts
            .filter_map(|part| part.pfn?.checked_mul(PAGE))
            .collect()
    }

    /// The address space of a thread.
    pub fn space_of(&self, thread: i32) -> i32 {
        self.spaces.get(&thread).copied().unwrap_or(thread)
    }

    /// The file of the `mmap` that a thread is in and does not come back from.
    pub fn file_in_mmap(&self, thread: i32) -> Option<&Call> {
        let doing = self.threads.get(&thread)?.doing.as_ref()?;
        let descriptor = doing.argument(4) & 0xffff_ffff;
        let file = self.files.get(&(self.space_of(thread), descriptor))?;
        (doing.number == nr::MMAP).then_some(file)
    }

    /// Whether a thread is one of the program's.
    pub fn knows(&self, thread: i32) -> bool {
        self.threads.contains_key(&thread)
    }

    /// Whether a frame was allocated under observation, by itself, before this time.
    pub fn was_allocated_alone(&self, pfn: u64, before: u64) -> bool {
        self.allocated
            .iter()
            .any(|&(first, pages, time)| first == pfn && pages == 1 && time <= before)
    }

    /// Whether a frame that a fault handler returned at this time had been allocated before allocations were recorded.
    ///
    /// The first mapping of a device turns on both records, of what handlers return and of allocations. That there is any of
    /// the latter, later perhaps, shows that this kernel has it.
    pub fn is_older(&self, pfn: u64, at: u64) -> bool {
        let has = |&(first, pages, time): &(u64, u64, u64)| {
            time <= at && first <= pfn && pfn - first < pages
        };
        !self.allocated.is_empty() && !self.allocated.iter().any(has)
    }

    fn take(&mut self, number: i32, thread: &mut Thread, event: &Event) {
        match &event.what {
            What::Enter {
                number: nr,
                arguments,
            } => {
                let Some(doing) = self.doing(number, event.time, *nr, arguments) else {
                    return;
                };
                self.begins(number, thread, doing);
            }
            What::Exit { number: nr, result } => {
                // A program that executes another one comes back as that one.
                let executed = *nr == nr::EXECVE
                    && thread
                        .doing
                        .as_ref()
                        .is_some_and(|doing| doing.number == nr::EXECVE);
                let native = self.native(number, event.time, *nr);
                let Some(nr) = native.or(executed.then_some(nr::EXECVE)) else {
                    return;
                };
                let Some(doing) = thread.doing.take().filter(|doing| doing.number == nr) else {
                    // Its beginning was left out, or it has none: a filter of system calls answered for the kernel.
                    if nr == nr::MMAP && *result < 0 {
                        self.last_mmap.insert(number, false);
                        self.answered.push((number, *result));
                    }
                    if nr == nr::MMAP && *result >= 0 {
                        self.last_mmap.insert(number, true);
                        self.last_failed.remove(&number);
                    }
                    return;
                };
                self.returned(number, thread, doing, *result, event.time);
            }
            What::Executed => {
                let executed = Doing {
                    number: nr::EXECVE,
                    arguments: Vec::new(),
                };
                self.returned(number, thread, executed, 0, event.time);
            }
            What::End => self.thread_ends(number, thread, event.time),
            What::Free { pfn, pages } => self.free(number, thread, (*pfn, *pages, event.time)),
            What::Alloc { pfn, pages } => self.allocated.push((*pfn, *pages, event.time)),
            What::Born {
                thread: child,
                flags,
            } => self.born(number, *child, *flags),
            What::Call(call) => self.called(number, thread, call),
        }
    }

    /// A thread begins a system call.
    fn begins(&mut self, number: i32, thread: &mut Thread, doing: Doing) {
        // It lives on: what it freed was not freed in its end.
        for (pfn, pages, _) in std::mem::take(&mut thread.freed) {
            self.freed(number, pfn, pages, None);
        }
        thread.calls.clear();
        thread.region = None;
        thread.reached = None;
        thread.area = None;
        thread.doing = Some(doing);
    }

    /// Whether a thread is a 32-bit program's at that time.
    fn is_narrow(&self, thread: i32, time: u64) -> bool {
        let space = self.space_of(thread);
        let mut until_then = self.narrow.range((space, 0)..=(space, time));
        until_then.next_back().is_some_and(|(_, narrow)| *narrow)
    }

    /// Whether a 32-bit program was ever in an address space.
    pub fn was_narrow(&self, space: i32) -> bool {
        let mut all = self.narrow.range((space, 0)..=(space, u64::MAX));
        all.any(|(_, narrow)| *narrow)
    }

    /// The number that a system call of a thread has among those that are followed. What is recorded are numbers, and a
    /// 32-bit program's mean other calls.
    fn native(&self, thread: i32, time: u64, number: u64) -> Option<u64> {
        let narrow = OF_32_BITS.iter().find(|(of_32, _)| *of_32 == number);
        if self.is_narrow(thread, time) {
            return narrow.map(|(_, native)| *native);
        }
        let followed = FOLLOWED.contains(&number);
        followed.then_some(number)
    }

    /// A system call that begins, if it is one that is followed.
    fn doing(&self, thread: i32, time: u64, number: u64, arguments: &[u64]) -> Option<Doing> {
        let number = self.native(thread, time, number)?;
        let mut arguments = arguments.to_vec();
        if self.is_narrow(thread, time) {
            for argument in &mut arguments {
                *argument &= 0xffff_ffff;
            }
            // mmap2 counts in pages.
            if let Some(offset) = arguments.get_mut(5).filter(|_| number == nr::MMAP) {
                *offset *= PAGE;
            }
        }
        Some(Doing { number, arguments })
    }

    fn born(&mut self, parent: i32, child: i32, flags: u64) {
        let space = self.space_of(parent);
        self.spaces.entry(parent).or_insert(space);
        self.threads.entry(child).or_default();
        if flags & (CLONE_VM | CLONE_THREAD) != 0 {
            self.spaces.insert(child, space);
            return;
        }
        self.spaces.insert(child, child);
        self.parents.insert(child, space);
        let inherited: Vec<_> = self
            .mappings
            .iter()
            .filter(|mapping| mapping.space == space && mapping.live)
            .filter(|mapping| mapping.dont_fork.is_none() && mapping.flags & vm::DONTCOPY == 0)
            .map(|mapping| Mapping {
                space: child,
                inherited: true,
                freed: Vec::new(),
                released: Vec::new(),
                ..mapping.clone()
            })
            .collect();
        self.mappings.extend(inherited);
        let files: Vec<_> = self
            .files
            .iter()
            .filter(|((of, _), _)| *of == space)
            .map(|((_, descriptor), file)| ((child, *descriptor), file.clone()))
            .collect();
        self.files.extend(files);
    }

    fn thread_ends(&mut self, number: i32, thread: &mut Thread, time: u64) {
        let space = self.space_of(number);
        // Freed in its end: by the unmapping of all that it had.
        for (pfn, pages, when) in std::mem::take(&mut thread.freed) {
            self.released(space, (pfn, pages), when, None);
        }
        thread.doing = Some(Doing {
            number: nr::EXIT,
            arguments: Vec::new(),
        });
        self.spaces.insert(number, space);
        if number == space {
            self.end_of(space, time);
        }
    }

    fn end_of(&mut self, space: i32, time: u64) {
        for mapping in self
            .mappings
            .iter_mut()
            .filter(|mapping| mapping.space == space && mapping.live)
        {
            mapping.live = false;
            mapping.ended = Some(time);
        }
    }

    fn returned(&mut self, number: i32, thread: &mut Thread, doing: Doing, result: i64, time: u64) {
        let space = self.space_of(number);
        if doing.number == nr::MMAP {
            *self.mmaps.entry(space).or_default() += 1;
            self.last_mmap.insert(number, result >= 0);
        }
        if result < 0 && TOLD_WHEN_FAILED.contains(&doing.number) {
            self.last_failed.insert(number, doing.clone());
        } else if result >= 0 && [nr::MMAP, nr::MLOCK, nr::MPROTECT].contains(&doing.number) {
            self.last_failed.remove(&number);
        }
        match doing.number {
            nr::MMAP if result < 0 => self.refused(number, thread, doing, result),
            nr::MMAP => self.mapped(number, thread, doing, result, time),
            failed if result < 0 && TOLD_WHEN_FAILED.contains(&failed) => {
                self.refused(number, thread, doing, result);
            }
            nr::MUNMAP if result == 0 => {
                self.unmapped(
                    space,
                    (doing.argument(0), doing.argument(1)),
                    number,
                    &doing,
                    time,
                );
            }
            nr::MREMAP => self.moved(number, &doing, result, time),
            nr::MPROTECT => {
                let (start, end) = (doing.argument(0), doing.argument(0) + doing.argument(1));
                for mapping in self.live_in(space) {
                    if start < mapping.address + mapping.length && mapping.address < end {
                        mapping.protected.push(doing.clone());
                    }
                }
            }
            nr::MADVISE if result == 0 => {
                let advice = doing.argument(2);
                let (start, end) = (doing.argument(0), doing.argument(0) + doing.argument(1));
                for mapping in self.live_in(space) {
                    if start < mapping.address + mapping.length && mapping.address < end {
                        match advice {
                            DONTFORK => mapping.dont_fork = Some(doing.clone()),
                            DOFORK => mapping.dont_fork = None,
                            _ => {}
                        }
                    }
                }
            }
            nr::IOCTL => {
                self.ioctls
                    .insert((space, doing.argument(0)), (doing, result));
            }
            nr::CLOSE if result == 0 => {
                self.files.remove(&(space, doing.argument(0)));
            }
            nr::EXECVE if result == 0 => {
                // A vfork's child has its own from here on.
                if space == number {
                    self.end_of(space, time);
                }
                self.spaces.insert(number, number);
            }
            _ => {}
        }
    }

    fn live_in(&mut self, space: i32) -> impl Iterator<Item = &mut Mapping> {
        self.mappings
            .iter_mut()
            .filter(move |mapping| mapping.space == space && mapping.live)
    }

    fn called(&mut self, number: i32, thread: &mut Thread, call: &Call) {
        if let Some(vmemmap) = call.number("vmemmap") {
            self.bases.vmemmap = vmemmap;
        }
        if let Some(linear) = call.number("linear") {
            self.bases.linear = linear;
        }
        if let Some(image) = call.number("image") {
            self.bases.image = Some(image);
        }
        if let Some(vmalloc) = call.number("vmalloc") {
            self.bases.vmalloc = vmalloc;
        }
        // Of some only the ends with an error are recorded: that nothing was seen of it is no sign that it did not end.
        let always_ends = PROBES
            .iter()
            .any(|probe| probe.event == call.function && probe.end_if.is_empty());
        if call.unfinished && always_ends {
            self.unfinished.push(call.clone());
        }
        let in_mmap = thread
            .doing
            .as_ref()
            .is_some_and(|doing| doing.number == nr::MMAP);
        let in_munmap = thread
            .doing
            .as_ref()
            .is_some_and(|doing| doing.number == nr::MUNMAP);
        let space = self.space_of(number);
        match call.function.as_str() {
            MMAP_FAILED => {
                let fields = ["addr", "size", "prot", "flags", "fd", "offset"];
                let doing = Doing {
                    number: nr::MMAP,
                    arguments: fields.map(|name| call.get(name)).to_vec(),
                };
                // What was recorded within it stays.
                thread.doing = None;
                self.returned(number, thread, doing, call.result(), call.time);
            }
            MUNMAP_FAILED => {
                let doing = Doing {
                    number: nr::MUNMAP,
                    arguments: vec![call.get("addr"), call.get("size")],
                };
                if !in_munmap {
                    self.begins(number, thread, doing.clone());
                }
                thread.doing = None;
                self.returned(number, thread, doing, call.result(), call.time);
            }
            MAPPED => match thread.doing.as_ref().map(|doing| doing.number) {
                Some(nr::MMAP) => thread.region = Some(call.clone()),
                Some(nr::MPROTECT) => {
                    let flags = call.get("flags");
                    if let Some(mapping) = self.at_mut(space, call.get("start")) {
                        mapping.flags = flags;
                    }
                }
                // An ioctl that maps by itself.
                _ => {
                    let doing = Doing {
                        number: nr::MMAP,
                        arguments: Vec::new(),
                    };
                    let result = i64::try_from(call.get("start")).unwrap_or(0);
                    thread.region = Some(call.clone());
                    self.mapped(number, thread, doing, result, call.time);
                }
            },
            "mmap_region" | REACHED => thread.reached = Some(call.clone()),
            "opened" => {
                self.files.insert((space, call.get("fd")), call.clone());
            }
            "handler" => self.handlers.push(call.clone()),
            HANDED => self.handed(space, call),
            "copied" => {
                if let Some(mapping) = self.at_mut(space, call.get("start")) {
                    mapping.copied = true;
                }
            }
            "dma_alloc_attrs" => self.dma.push(call.clone()),
            COPY_FAILED => self.copies.push(call.clone()),
            name if name.starts_with("vmf_insert") => {
                if call.result() & 0x73 == 0 && !call.unfinished {
                    let part = Filled {
                        address: call.get("addr"),
                        length: PAGE,
                        pfn: call.number("pfn"),
                        by_number: true,
                    };
                    if let Some(mapping) = self.at_mut(space, call.get("addr")) {
                        add(&mut mapping.filled, part);
                    }
                }
                self.inserts.push(call.clone());
            }
            name if name.starts_with("pin_user_pages") || name.starts_with("get_user_pages") => {
                if call.result() < 0 {
                    self.pins.push(call.clone());
                }
            }
            "pfnmap_track" | "pfnmap_setup_cachemode" | "track_pfn_remap" => {
                thread.granted = call.fields.get("granted").cloned();
            }
            FIND_AREA => thread.area = Some(call.clone()),
            FIND_VMAP_AREA => {
                // Where the other one is part of its callers.
                thread.area.get_or_insert_with(|| call.clone());
            }
            _ => {
                let mut call = call.clone();
                if call.function.starts_with("remap_vmalloc_range") {
                    let area = thread.area.iter().flat_map(|area| &area.fields);
                    for (name, value) in area {
                        let name = if name == "ret" { "area" } else { name };
                        let field = call.fields.entry(name.to_owned());
                        field.or_insert_with(|| value.clone());
                    }
                }
                if call.function == "remap_pfn_range_complete" {
                    call.function = "remap_pfn_range".into();
                }
                if call.function == "remap_pfn_range" {
                    if let Some(granted) = thread.granted.take() {
                        call.fields.insert("granted".into(), granted);
                    }
                }
                let in_ioctl = thread
                    .doing
                    .as_ref()
                    .is_some_and(|doing| doing.number == nr::IOCTL);
                if in_mmap {
                    thread.calls.push(call);
                } else if call.result() < 0 && !call.unfinished && !in_ioctl {
                    // In a page fault: its handler decides what becomes of it.
                    self.inserts.push(call);
                } else if let Some(mapping) = self.at_mut(space, call.get("start")) {
                    for part in filled(std::slice::from_ref(&call)) {
                        add(&mut mapping.filled, part);
                    }
                    mapping.calls.push(call);
                }
            }
        }
    }

    fn handed(&mut self, space: i32, call: &Call) {
        let (page, vmemmap) = (call.get("page"), call.get("vmemmap"));
        // A private write gets a copy.
        let copied = call.get("write") & 1 != 0 && call.get("flags") & vm::SHARED == 0;
        if page == 0 || vmemmap == 0 || copied {
            return;
        }
        let handed = Handed {
            address: call.get("addr"),
            pfn: frames::frame_of(page, vmemmap, 64),
            count: i64::from_ne_bytes(call.get("count").to_ne_bytes()),
            compound: call.get("head") & 1 == 1,
            time: call.time,
        };
        if let Some(mapping) = self.at_mut(space, handed.address) {
            mapping.handed.push(handed);
        }
    }

    fn refused(&mut self, number: i32, thread: &mut Thread, doing: Doing, result: i64) {
        let descriptor = doing.argument(4) & 0xffff_ffff;
        let space = self.space_of(number);
        let mut reached = thread.reached.take();
        // Nothing was recorded of the file where that would cost too much, or where of two events the first was left out.
        if let Some(reached) = reached
            .as_mut()
            .filter(|call| call.number("file").is_none())
        {
            for (name, value) in self
                .files
                .get(&(space, descriptor))
                .into_iter()
                .flat_map(|opened| &opened.fields)
            {
                let field = reached.fields.entry(name.clone());
                field.or_insert_with(|| value.clone());
            }
        }
        self.refusals.push(Refusal {
            thread: number,
            space,
            result,
            reached,
            calls: std::mem::take(&mut thread.calls),
            opened: self.files.get(&(space, descriptor)).cloned(),
            ioctl: self.ioctls.get(&(space, descriptor)).cloned(),
            doing,
        });
    }

    fn mapped(&mut self, number: i32, thread: &mut Thread, doing: Doing, result: i64, time: u64) {
        let calls = std::mem::take(&mut thread.calls);
        self.replaced(number, &doing, result, time);
        self.mark(number, &doing, result);
        let Some(region) = thread.region.take() else {
            self.positive(number, doing, result);
            return;
        };
        let (start, end) = (region.get("start"), region.get("end"));
        let address = u64::try_from(result).unwrap_or(start);
        let length = match doing.arguments.get(1) {
            Some(length) => length.div_ceil(PAGE) * PAGE,
            None => end.saturating_sub(start),
        };
        let function = |name| {
            region
                .text(name)
                .filter(|text| text.contains('+'))
                .map(symbol)
        };
        let mapping = Mapping {
            space: self.space_of(number),
            time,
            file: region.text("name").unwrap_or("a file").to_owned(),
            mmap: region.mmap(),
            address,
            length,
            arguments: doing.arguments,
            result,
            flags: region.get("flags"),
            // A table of operations that is not there has no handler.
            fault: (region.get("ops") != 0)
                .then(|| function("fault"))
                .flatten(),
            filled: filled(&calls),
            calls,
            live: true,
            ..Mapping::default()
        };
        self.mappings.push(mapping);
    }

    /// What is less than a page is no address: the driver's own number, which the kernel passed on.
    fn positive(&mut self, number: i32, doing: Doing, result: i64) {
        let space = self.space_of(number);
        if let Some(result) = u64::try_from(result)
            .ok()
            .filter(|it| (1..PAGE).contains(it))
        {
            let descriptor = doing.argument(4) & 0xffff_ffff;
            self.positive.push(Positive {
                space,
                opened: self.files.get(&(space, descriptor)).cloned(),
                doing,
                result,
            });
        }
    }

    /// Whether an address was unmapped, whatever was there.
    pub fn was_removed(&self, space: i32, address: u64) -> bool {
        let mut all = self.removed.iter();
        all.any(|(of, from, to)| *of == space && (*from..*to).contains(&address))
    }

    /// The calls of mapping functions in the system call that a thread is in and does not come back from.
    pub fn calls_of(&self, thread: i32) -> &[Call] {
        self.threads
            .get(&thread)
            .map_or(&[], |thread| &thread.calls)
    }

    /// What `MAP_FIXED` put itself in the place of.
    fn replaced(&mut self, number: i32, doing: &Doing, result: i64, time: u64) {
        const FIXED: u64 = 0x10;
        if doing.argument(3) & FIXED == 0 {
            return;
        }
        if let Ok(address) = u64::try_from(result) {
            let range = (address, doing.argument(1));
            self.unmapped(self.space_of(number), range, number, doing, time);
        }
    }

    /// Remembers memory of a kind of its own.
    fn mark(&mut self, number: i32, doing: &Doing, result: i64) {
        const HUGETLB: u64 = 0x4_0000;
        const ANONYMOUS: u64 = 0x20;
        let Ok(address) = u64::try_from(result) else {
            return;
        };
        let space = self.space_of(number);
        let flags = doing.argument(3);
        let file = self.files.get(&(space, doing.argument(4) & 0xffff_ffff));
        let magic = file
            .filter(|_| flags & ANONYMOUS == 0)
            .map(|file| file.get("magic"));
        let kind = match magic {
            None if flags & HUGETLB != 0 => Kind::Huge,
            Some(magic::HUGETLBFS) => Kind::Huge,
            Some(magic::SECRETMEM) => Kind::Secret,
            _ => return,
        };
        self.marked.push(Marked {
            space,
            address,
            length: doing.argument(1).div_ceil(PAGE) * PAGE,
            kind,
            by: doing.clone(),
        });
    }

    /// Memory of a kind of its own that an address is in.
    pub fn marked_at(&self, space: i32, address: u64) -> Option<&Marked> {
        let mut all = self.marked.iter().rev();
        all.find(|one| {
            one.space == space && one.address <= address && address - one.address < one.length
        })
    }

    fn unmapped(
        &mut self,
        space: i32,
        (address, length): (u64, u64),
        thread: i32,
        by: &Doing,
        time: u64,
    ) {
        let end = address.saturating_add(length.div_ceil(PAGE) * PAGE);
        self.removed.push((space, address, end));
        for mapping in self.live_in(space) {
            let last = mapping.address + mapping.length;
            if last <= address || end <= mapping.address {
                continue;
            }
            let (from, to) = (address.max(mapping.address), end.min(last));
            mapping.gone.push(Gone {
                address: from,
                length: to - from,
                time,
                thread,
                by: by.clone(),
            });
            if address <= mapping.address && last <= end {
                mapping.live = false;
            } else {
                mapping
                    .filled
                    .retain(|part| end <= part.address || part.address + part.length <= address);
            }
        }
    }

    fn moved(&mut self, number: i32, doing: &Doing, result: i64, time: u64) {
        let space = self.space_of(number);
        let (from, length, new) = (doing.argument(0), doing.argument(1), doing.argument(2));
        let to = u64::try_from(result).unwrap_or(0);
        let Some(before) = self.at(space, from).filter(|mapping| mapping.live).cloned() else {
            return;
        };
        let shift = |address: u64| address.wrapping_sub(from).wrapping_add(to);
        let moved = Mapping {
            address: to,
            length: new.div_ceil(PAGE) * PAGE,
            time,
            filled: before
                .filled
                .iter()
                .map(|part| Filled {
                    address: shift(part.address),
                    ..*part
                })
                .collect(),
            gone: Vec::new(),
            inherited: true,
            ..before
        };
        if from != to {
            self.unmapped(space, (from, length), number, doing, time);
        } else if new < length {
            self.unmapped(space, (from + new, length - new), number, doing, time);
            return;
        } else if let Some(mapping) = self.at_mut(space, from) {
            mapping.live = false;
        }
        self.mappings.push(moved);
    }

    fn free(&mut self, number: i32, thread: &mut Thread, (pfn, pages, time): (u64, u64, u64)) {
        let space = self.space_of(number);
        match thread.doing.as_ref() {
            Some(doing)
                if matches!(
                    doing.number,
                    nr::MUNMAP | nr::MREMAP | nr::MMAP | nr::EXECVE
                ) =>
            {
                let range = (doing.number == nr::MUNMAP)
                    .then(|| (doing.argument(0), doing.argument(1).div_ceil(PAGE) * PAGE));
                if doing.number == nr::MUNMAP {
                    self.freed_elsewhere(space, range, (pfn, pages), doing);
                }
                self.released(space, (pfn, pages), time, range);
            }
            Some(doing) if matches!(doing.number, nr::EXIT | nr::EXIT_GROUP) => {
                self.freed_elsewhere(space, None, (pfn, pages), doing);
                self.released(space, (pfn, pages), time, None);
            }
            Some(doing) => self.freed(number, pfn, pages, Some(&doing.clone())),
            None => thread.freed.push((pfn, pages, time)),
        }
    }

    /// Frames that went back while a mapping by number leads to them.
    fn freed(&mut self, number: i32, pfn: u64, pages: u64, doing: Option<&Doing>) {
        let space = self.space_of(number);
        for mapping in self
            .mappings
            .iter_mut()
            .filter(|mapping| mapping.live && mapping.space == space)
        {
            let hit = mapping.filled.iter().any(|part| {
                part.by_number
                    && part.pfn.is_some_and(|first| {
                        first < pfn.saturating_add(pages)
                            && pfn < first + part.length.div_ceil(PAGE)
                    })
            });
            if hit {
                mapping.freed.push((pfn, doing.cloned()));
            }
        }
    }

    /// Frames that went back with one mapping while another one, of a child or of the rest that was split off, leads to them.
    fn freed_elsewhere(
        &mut self,
        space: i32,
        range: Option<(u64, u64)>,
        (pfn, pages): (u64, u64),
        doing: &Doing,
    ) {
        for mapping in self.mappings.iter_mut().filter(|mapping| mapping.live) {
            let own = mapping.space == space;
            // All of the space goes, or this part of it.
            if own && range.is_none() {
                continue;
            }
            let hit = mapping
                .filled
                .iter()
                .filter(|part| part.by_number)
                .any(|part| {
                    let Some(first) = part.pfn else {
                        return false;
                    };
                    let count = part.length.div_ceil(PAGE);
                    let (from, to) = (
                        first.max(pfn),
                        (first + count).min(pfn.saturating_add(pages)),
                    );
                    let stays = |frame: u64| {
                        let address = part.address + (frame - first) * PAGE;
                        let goes = range.is_some_and(|(start, length)| {
                            own && start <= address && address - start < length
                        });
                        mapping.gone_at(address).is_none() && !goes
                    };
                    (from..to).any(stays)
                });
            if hit {
                mapping.freed.push((pfn, Some(doing.clone())));
            }
        }
    }

    /// Frames that went back when a mapping that counts them was taken away.
    fn released(
        &mut self,
        space: i32,
        (pfn, pages): (u64, u64),
        time: u64,
        range: Option<(u64, u64)>,
    ) {
        for mapping in self
            .mappings
            .iter_mut()
            .filter(|mapping| mapping.space == space)
        {
            let hit = mapping.handed.iter().any(|handed| {
                let within = range.is_none_or(|(address, length)| {
                    address <= handed.address && handed.address - address < length
                });
                within && pfn <= handed.pfn && handed.pfn - pfn < pages && handed.time <= time
            });
            if hit {
                mapping.released.push((pfn, time));
            }
        }
    }

    /// The latest mapping of an address space that an address was in.
    pub fn at(&self, space: i32, address: u64) -> Option<&Mapping> {
        let mut all = self.mappings.iter().rev();
        all.find(|mapping| mapping.space == space && mapping.contains(address))
    }

    /// The latest mapping of those that a space was copied from that an address was in, and that was not handed down.
    pub fn at_in_parents(&self, space: i32, address: u64) -> Option<&Mapping> {
        let parent = *self.parents.get(&space)?;
        self.at(parent, address)
            .or_else(|| self.at_in_parents(parent, address))
    }

    fn at_mut(&mut self, space: i32, address: u64) -> Option<&mut Mapping> {
        let mut all = self.mappings.iter_mut().rev();
        all.find(|mapping| mapping.space == space && mapping.live && mapping.contains(address))
    }
}

fn add(filled: &mut Vec<Filled>, new: Filled) {
    match filled.last_mut() {
        // Page by page, one after the other: kept as one.
        Some(last)
            if last.address + last.length == new.address
                && last.by_number == new.by_number
                && last.pfn.map(|pfn| pfn + last.length / PAGE) == new.pfn =>
        {
            last.length += new.length;
        }
        _ => filled.push(new),
    }
}

/// What the calls put into the mapping.
fn filled(calls: &[Call]) -> Vec<Filled> {
    let mut filled: Vec<Filled> = Vec::new();
    for call in calls
        .iter()
        .filter(|call| !call.unfinished && call.result() >= 0)
    {
        let start = call.get("start");
        let whole = call.get("end").saturating_sub(start);
        let part = |address, length, pfn, by_number| Filled {
            address,
            length,
            pfn,
            by_number,
        };
        let first_page = || {
            let (page, vmemmap) = (call.number("page")?, call.number("vmemmap")?);
            (page != 0 && vmemmap != 0).then(|| frames::frame_of(page, vmemmap, 64))
        };
        let new = match call.function.as_str() {
            "remap_pfn_range" => part(
                call.get("addr"),
                call.get("size").div_ceil(PAGE) * PAGE,
                call.number("pfn"),
                true,
            ),
            "vm_insert_pages" => {
                let pages = call.number("num").unwrap_or(whole / PAGE);
                part(call.get("addr"), pages.saturating_mul(PAGE), None, false)
            }
            "vm_insert_page" => part(call.get("addr"), PAGE, first_page(), false),
            "remap_vmalloc_range_partial" => part(
                call.get("addr"),
                call.get("size").div_ceil(PAGE) * PAGE,
                None,
                false,
            ),
            // Those that call the others: what they did is known already.
            "vm_iomap_memory" | "dma_mmap_attrs" if !filled.is_empty() => continue,
            "dma_buf_mmap" => continue,
            _ => part(start, whole, None, false),
        };
        add(&mut filled, new);
    }
    filled
}

/// Calls that failed.
pub fn failed(calls: &[Call]) -> impl Iterator<Item = &Call> {
    calls
        .iter()
        .filter(|call| !call.unfinished && call.result() < 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::trace;

    #[test]
    fn numbers_of_32_bit_programs_mean_other_calls() {
        let text = " p-7 [000] 1.000001: sys_enter: NR 192 (0, 1000, 1, 1, ffffffff, 100000)\n\
            p-7 [000] 1.000002: sys_exit: NR 192 = -22\n\
            p-7 [000] 1.000003: sys_enter: NR 9 (0, 1000, 1, 1, 3, 0)\n\
            p-7 [000] 1.000004: sys_exit: NR 9 = -2\n";
        let events = trace::parse(text);
        let mut narrow = History::default();
        narrow.narrow.insert((7, 1_000_000), true);
        narrow.go_on(&events);
        let calls: Vec<_> = narrow.refusals.iter().map(|one| one.doing.text()).collect();
        assert_eq!(calls, ["mmap(0x0, 4096, 0x1, 0x1, -1, 0x100000000)"]);
        // For others the first is no mapping call, and the second is.
        let wide = History::of(&events);
        let calls: Vec<_> = wide.refusals.iter().map(|one| one.result).collect();
        assert_eq!(calls, [-2]);
    }

    #[test]
    fn a_call_whose_beginning_was_left_out_is_known_by_its_end() {
        let failed = |time| {
            format!(
                " p-7 [000] 1.00000{time}: mmap_failed: (x64_sys_call+0x1/0x2 <- __x64_sys_mmap) ret=-12 addr=0x0 size=0x1000 \
                 prot=0x1 flags=0x2 fd=0x3 offset=0x0\n"
            )
        };
        let went_well = |time| format!(" p-7 [000] 1.00000{time}: sys_mmap -> 0x7f0000000000\n");
        let unmapped =
            " p-7 [000] 1.000003: munmap_failed: (x64_sys_call+0x1/0x2 <- __x64_sys_munmap) \
                        ret=-22 addr=0x7001 size=0x1000\n";
        let text = [failed(1), went_well(2)].concat();
        let history = History::of(&trace::parse(&text));
        assert_eq!(history.last_mmap.get(&7), Some(&true));
        // A failure of munmap is told with its arguments, and stays the last one where the next mmap fails.
        let text = went_well(1) + unmapped + &failed(4);
        let history = History::of(&trace::parse(&text));
        let calls: Vec<_> = history
            .refusals
            .iter()
            .map(|one| one.doing.text())
            .collect();
        assert_eq!(
            calls,
            ["munmap(0x7001, 4096)", "mmap(0x0, 4096, 0x1, 0x2, 3, 0x0)"]
        );
        let last = history.last_failed.get(&7).map(Doing::text);
        assert_eq!(last.as_deref(), Some("munmap(0x7001, 4096)"));
        assert_eq!(history.last_mmap.get(&7), Some(&false));
        // One that goes well makes up for it.
        let history = History::of(&trace::parse(&(text + &went_well(5))));
        assert_eq!(history.last_failed.get(&7), None);
    }
}
