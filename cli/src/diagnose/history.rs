//! What the program mapped, and what the kernel did for it, put together from the events.

use super::{
    trace::{symbol, Call, Event, What},
    tracefs::nr,
};
use serde::Serialize;

/// What every architecture that this runs on calls a page here: the kernel's addresses are compared, not counted.
pub const PAGE: u64 = 4096;

/// Flags of a VMA, `include/linux/mm.h`.
pub mod vm {
    pub const SHARED: u64 = 0x8;
    pub const MAYWRITE: u64 = 0x20;
    pub const MAYSHARE: u64 = 0x80;
    pub const PFNMAP: u64 = 0x400;
    pub const MIXEDMAP: u64 = 0x1000_0000;

    /// What the kernel asks by 7.2's `is_cow_mapping`, and by `vma_is_cow_mapping` from 7.3 on.
    pub fn is_cow(flags: u64) -> bool {
        flags & (SHARED | MAYWRITE) == MAYWRITE
    }
}

/// One `mmap` of a file, and all that happened to it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Mapping {
    /// Whose.
    #[serde(skip)]
    pub thread: i32,
    /// The file's name, without its folders.
    pub file: String,
    /// The file's `mmap`, as a symbol.
    pub mmap: Option<String>,
    /// Whether it is a regular file.
    #[serde(skip)]
    pub regular: bool,
    /// Where it is; 0 where `mmap` failed.
    pub address: u64,
    /// How long it is.
    pub length: u64,
    /// `mmap`'s arguments.
    pub arguments: Vec<u64>,
    /// What `mmap` returned.
    pub result: i64,
    /// The VMA's flags when they were last seen.
    pub flags: u64,
    /// Calls of mapping functions in `mmap`, inner ones first.
    #[serde(skip)]
    pub calls: Vec<Call>,
    /// Ranges of addresses that have entries since then, with their first frame where it is known.
    #[serde(skip)]
    pub filled: Vec<Filled>,
    /// Whether it is still there.
    #[serde(skip)]
    pub live: bool,
    /// Frames that were freed while they were mapped: the first one, and where the program was then.
    #[serde(skip)]
    pub freed: Vec<(u64, Option<Doing>)>,
}

/// A part of a mapping that has entries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Filled {
    /// Its first address.
    pub address: u64,
    /// How long it is.
    pub length: u64,
    /// The first frame, when it was mapped by number.
    pub pfn: Option<u64>,
}

/// A system call that a thread is in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Doing {
    /// Its number.
    pub number: u64,
    /// Its arguments.
    pub arguments: Vec<u64>,
}

impl Mapping {
    /// Whether an address is in it.
    pub fn contains(&self, address: u64) -> bool {
        self.address <= address && address - self.address < self.length
    }

    /// Whether something was put at this address in `mmap`.
    pub fn is_filled(&self, address: u64) -> bool {
        self.filled
            .iter()
            .any(|part| part.address <= address && address - part.address < part.length)
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
}

/// All that is known.
#[derive(Debug, Default)]
pub struct History {
    /// Every `mmap` of a file, those that failed too.
    pub mappings: Vec<Mapping>,
    /// Faults that the kernel gave up, with their thread.
    pub faults: Vec<Call>,
    /// Inserts at fault time that went wrong.
    pub inserts: Vec<Call>,
    /// Requests for the pages behind addresses that came to EFAULT.
    pub pins: Vec<Call>,
}

/// What a thread is in the middle of.
struct Thread {
    number: i32,
    doing: Option<Doing>,
    calls: Vec<Call>,
    region: Option<Call>,
    /// The cache mode that the kernel chose for what is being mapped by frame number.
    granted: Option<String>,
}

impl History {
    /// Goes through the events.
    pub fn of(events: &[Event]) -> Self {
        let mut history = Self::default();
        let mut threads: Vec<Thread> = Vec::new();
        for event in events {
            let at = threads
                .iter()
                .position(|thread| thread.number == event.thread)
                .unwrap_or_else(|| {
                    threads.push(Thread {
                        number: event.thread,
                        doing: None,
                        calls: Vec::new(),
                        region: None,
                        granted: None,
                    });
                    threads.len() - 1
                });
            if let Some(thread) = threads.get_mut(at) {
                history.take(thread, &event.what);
            }
        }
        history
    }

    fn take(&mut self, thread: &mut Thread, what: &What) {
        match what {
            What::Enter { number, arguments } => {
                if *number == nr::EXECVE {
                    self.end_of(thread.number);
                }
                thread.calls.clear();
                thread.region = None;
                thread.doing = Some(Doing {
                    number: *number,
                    arguments: arguments.clone(),
                });
            }
            What::Exit { number, result } => {
                let Some(doing) = thread.doing.take() else {
                    return;
                };
                if doing.number == nr::MMAP && *number == nr::MMAP {
                    self.mapped(thread, doing, *result);
                } else if doing.number == nr::MUNMAP && *result == 0 {
                    self.unmapped(&doing.arguments);
                }
            }
            What::End => self.end_of(thread.number),
            What::Free { pfn, pages } => self.freed(*pfn, *pages, thread.doing.as_ref()),
            What::Call(call) => self.called(thread, call),
        }
    }

    fn called(&mut self, thread: &mut Thread, call: &Call) {
        match call.function.as_str() {
            "mmap_region" => thread.region = Some(call.clone()),
            "handle_mm_fault" => {
                let flags = call.get("flags");
                let address = call.get("addr");
                if let Some(mapping) = self.at_mut(address) {
                    mapping.flags = flags;
                }
                self.faults.push(call.clone());
            }
            name if name.starts_with("vmf_insert") => self.inserts.push(call.clone()),
            "pin_user_pages_fast"
            | "get_user_pages_fast"
            | "pin_user_pages"
            | "pin_user_pages_remote" => self.pins.push(call.clone()),
            "pfnmap_track" | "pfnmap_setup_cachemode" => {
                thread.granted = call.fields.get("granted").cloned();
            }
            // The second is for drivers with mmap_prepare.
            "remap_pfn_range" | "remap_pfn_range_complete" => {
                let mut call = call.clone();
                call.function = "remap_pfn_range".into();
                if let Some(granted) = thread.granted.take() {
                    call.fields.insert("granted".into(), granted);
                }
                thread.calls.push(call);
            }
            _ => thread.calls.push(call.clone()),
        }
    }

    fn mapped(&mut self, thread: &mut Thread, doing: Doing, result: i64) {
        let calls = std::mem::take(&mut thread.calls);
        let Some(region) = thread.region.take() else {
            return;
        };
        let Some(file) = region.text("name") else {
            return;
        };
        let address = u64::try_from(result).unwrap_or(0);
        let mapping = Mapping {
            thread: thread.number,
            file: file.to_owned(),
            mmap: region
                .text("mmap")
                .filter(|text| text.contains('+'))
                .map(symbol),
            // S_IFREG of S_IFMT
            regular: region.get("mode") & 0o170_000 == 0o100_000,
            address,
            length: region.get("size"),
            arguments: doing.arguments,
            result,
            flags: calls
                .iter()
                .rev()
                .find_map(|call| call.number("flags"))
                .unwrap_or_else(|| region.get("flags")),
            filled: filled(&calls),
            calls,
            live: result >= 0,
            freed: Vec::new(),
        };
        self.mappings.push(mapping);
    }

    fn unmapped(&mut self, arguments: &[u64]) {
        let [address, length, ..] = *arguments else {
            return;
        };
        let end = address.saturating_add(length);
        for mapping in self.mappings.iter_mut().filter(|mapping| mapping.live) {
            let gone = address <= mapping.address && mapping.address + mapping.length <= end;
            if gone {
                mapping.live = false;
            } else {
                mapping
                    .filled
                    .retain(|part| end <= part.address || part.address + part.length <= address);
            }
        }
    }

    fn end_of(&mut self, thread: i32) {
        for mapping in &mut self.mappings {
            if mapping.thread == thread {
                mapping.live = false;
            }
        }
    }

    fn freed(&mut self, pfn: u64, pages: u64, doing: Option<&Doing>) {
        for mapping in self.mappings.iter_mut().filter(|mapping| mapping.live) {
            let hit = mapping.filled.iter().any(|part| {
                part.pfn.is_some_and(|first| {
                    first < pfn.saturating_add(pages) && pfn < first + part.length.div_ceil(PAGE)
                })
            });
            if hit {
                mapping.freed.push((pfn, doing.cloned()));
            }
        }
    }

    /// The latest mapping that an address was in.
    pub fn at(&self, address: u64) -> Option<&Mapping> {
        let mut all = self.mappings.iter().rev();
        all.find(|mapping| mapping.contains(address))
    }

    fn at_mut(&mut self, address: u64) -> Option<&mut Mapping> {
        let mut all = self.mappings.iter_mut().rev();
        all.find(|mapping| mapping.contains(address))
    }
}

/// What the calls put into the mapping.
fn filled(calls: &[Call]) -> Vec<Filled> {
    let mut filled: Vec<Filled> = Vec::new();
    let mut announced = None;
    for call in calls {
        let start = call.get("start");
        let whole = call.get("end").saturating_sub(start);
        let part = |address, length, pfn| Filled {
            address,
            length,
            pfn,
        };
        let new = match call.function.as_str() {
            "vm_insert_pages_begin" => {
                announced = call.number("num");
                continue;
            }
            _ if call.result() < 0 => continue,
            "remap_pfn_range" => part(
                call.get("addr"),
                call.get("size").div_ceil(PAGE) * PAGE,
                call.number("pfn"),
            ),
            "vm_insert_pages" => {
                let pages = announced.take().unwrap_or(whole / PAGE);
                part(call.get("addr"), pages.saturating_mul(PAGE), None)
            }
            "vm_insert_page" | "remap_vmalloc_range_partial" => part(
                call.get("addr"),
                call.get("size").div_ceil(PAGE) * PAGE,
                None,
            ),
            _ => part(start, whole, None),
        };
        match filled.last_mut() {
            // Page by page, one after the other: kept as one.
            Some(last)
                if last.address + last.length == new.address
                    && last.pfn.map(|pfn| pfn + last.length / PAGE) == new.pfn =>
            {
                last.length += new.length;
            }
            _ => filled.push(new),
        }
    }
    filled
}

/// Calls that failed.
pub fn failed(mapping: &Mapping) -> impl Iterator<Item = &Call> {
    mapping
        .calls
        .iter()
        .filter(|call| !call.function.ends_with("_begin") && call.result() < 0)
}
