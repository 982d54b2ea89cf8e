//! Finds the causes in what was seen, with one function for each kind.
//! A finding names its evidence and says how sure it is. Something that could not be seen is never a finding.

use super::{
    calls::{event_of, failed_call, frame_that_is_none, pat_line},
    catalogue::*,
    finding::{name_of, Finding, MadeOf, Seen, Sure},
    frames::{self, kpf, PAGE},
    history::{vm, Doing, Filled, Kind, Mapping, Positive, Refusal},
    log::Trouble,
    physical::Sight,
    probes::nr,
    refusals,
    trace::{symbol, Call},
    tracee::Fault,
};

/// Bits of `pgprot_t` on x86 that choose the cache mode: `_PAGE_PWT`, `_PAGE_PCD`.
pub const NOT_CACHED: u64 = 0x18;
const VM_FAULT_SIGBUS: u64 = 0x2;
const VM_FAULT_NOPAGE: u64 = 0x100;
/// `OOM | SIGBUS | HWPOISON | SIGSEGV | HWPOISON_LARGE`
const VM_FAULT_ERROR: u64 = 0x73;
const EINVAL: i64 = -22;
/// `si_code`s, `include/uapi/asm-generic/siginfo.h`.
mod si {
    pub const SEGV_ACCERR: i32 = 2;
    pub const SEGV_PKUERR: i32 = 4;
    pub const BUS_ADRERR: i32 = 2;
    pub const BUS_MCEERR_AR: i32 = 4;
    pub const BUS_MCEERR_AO: i32 = 5;
}
/// Everything that was found, the worst first.
pub fn find(seen: &Seen<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for refusal in &seen.history.refusals {
        // Failed attempts with ordinary memory that the program copes with do not matter.
        let last = seen.history.last_mmap.get(&refusal.thread) == Some(&false);
        if refusals::is_of_a_device(seen, refusal)
            || refusal.doing.number != nr::MMAP
                && seen
                    .history
                    .at(refusal.space, refusal.doing.argument(0))
                    .is_some()
            || (refusal.doing.number == nr::MMAP && last && !seen.ended_well())
            || (gave_up(seen)
                && seen.history.last_failed.get(&refusal.thread) == Some(&refusal.doing))
        {
            findings.extend(refusals::find(seen, refusal));
        }
    }
    for (thread, arguments) in &seen.life.library {
        // The C library refuses some calls by itself, and they never reach the kernel.
        let refusal = Refusal {
            thread: *thread,
            space: seen.history.space_of(*thread),
            doing: Doing {
                number: nr::MMAP,
                arguments: arguments.to_vec(),
            },
            result: EINVAL,
            reached: None,
            calls: Vec::new(),
            opened: None,
            ioctl: None,
        };
        findings.extend(refusals::find(seen, &refusal));
    }
    findings.extend(answered(seen));
    for positive in &seen.history.positive {
        findings.extend(error_without_minus(positive));
    }
    for mapping in &seen.history.mappings {
        findings.extend(freed(seen, mapping));
    }
    for mapping in seen
        .history
        .mappings
        .iter()
        .filter(|mapping| !mapping.inherited)
    {
        findings.extend(failed_in_mmap(seen, mapping));
        let of_module = module_data(seen, mapping);
        if of_module.is_none() {
            findings.extend(impossible_frames(seen, mapping));
            findings.extend(kind_of_frames(seen, mapping));
            findings.extend(unknown_frames(seen, mapping));
        }
        findings.extend(of_module);
        findings.extend(freed_by_unmapping(seen, mapping));
        findings.extend(mapped_too_much(mapping));
        findings.extend(device_off(seen, mapping));
        findings.extend(uncached(seen, mapping));
        findings.extend(same_frame(mapping));
        findings.extend(private_copy(mapping));
        findings.extend(unaligned_memory(mapping));
        findings.extend(mapped_over(seen, mapping));
        findings.extend(remapped_in_fault(mapping));
    }
    findings.extend(offset_ignored(seen));
    for insert in &seen.history.inserts {
        findings.extend(bad_insert(seen, insert));
    }
    for pin in &seen.history.pins {
        findings.extend(without_pages(seen, pin));
    }
    findings.extend(errno_from_fault(seen));
    findings.extend(killed_for_memory(seen));
    for trouble in seen.log.troubles() {
        of_trouble(seen, &trouble, &mut findings);
    }
    for fault in &seen.life.faults {
        of_fault(seen, fault, &mut findings);
    }
    for copy in &seen.history.copies {
        failed_copy(seen, copy, &mut findings);
    }
    let mut known = Vec::new();
    findings.retain(|finding: &Finding| {
        // For a file that was opened before diagnose watched, the kernel tells only the last part of the path.
        let name = finding.file.rsplit('/').next().unwrap_or_default();
        let key = (finding.cause, name.to_owned(), finding.function.clone());
        let new = !known.contains(&key);
        if new {
            known.push(key);
        }
        new
    });
    findings.sort_by_key(|finding| (finding.severity, finding.sure));
    findings
}

/// A call of `mmap` that a filter of system calls answered in the kernel's stead.
fn answered(seen: &Seen<'_>) -> Option<Finding> {
    let &(thread, result) = seen.history.answered.last()?;
    let space = seen.history.space_of(thread);
    let process = seen.facts.processes.get(&space)?;
    let last = seen.history.last_mmap.get(&thread) == Some(&false);
    if !(process.filtered && last && gave_up(seen)) {
        return None;
    }
    let what = format!(
        "mmap failed with {}, and the kernel's mmap was not called: the process has a seccomp filter, which answered",
        name_of(result)
    );
    let finding = Finding::new(&SECURITY_MODULE, "memory".into(), String::new(), what);
    let finding = finding
        .sure(Sure::Follows)
        .proc("/proc/PID/status: Seccomp: 2");
    Some(finding.event(format!("mmap = {}, without a beginning", name_of(result))))
}

/// A driver's `mmap` that returned a positive number.
fn error_without_minus(positive: &Positive) -> Option<Finding> {
    let opened = positive.opened.as_ref()?;
    let function = opened.mmap()?;
    let number = i64::try_from(positive.result).ok()?;
    let what = format!(
        "{function} returned {number} (-{number} would be {}), and mmap gave it to the program as the mapping's address",
        name_of(-number)
    );
    let file = opened.text("name").unwrap_or("a file").to_owned();
    let event = format!("{} = {:#x}", positive.doing.text(), positive.result);
    Some(Finding::new(&ERROR_WITHOUT_MINUS, file, function, what).event(event))
}

/// Entries past the mapping's end.
fn mapped_too_much(mapping: &Mapping) -> Option<Finding> {
    let call = mapping.calls.iter().find(|call| {
        let end = call.get("addr").saturating_add(call.get("size"));
        let by_number = call.function == "remap_pfn_range" && call.result() == 0;
        by_number && call.get("end") != 0 && end.div_ceil(PAGE) * PAGE > call.get("end")
    })?;
    let what = format!(
        "remap_pfn_range was called for {} pages at {:#x} inside {}, and the mapping has {} pages and ends at {:#x}",
        call.get("size").div_ceil(PAGE),
        call.get("addr"),
        mapping.driver(),
        (call.get("end") - call.get("start")) / PAGE,
        call.get("end")
    );
    Some(MAPPED_TOO_MUCH.found(mapping, what).event(event_of(call)))
}

/// Registers of a device that does not answer.
fn device_off(seen: &Seen<'_>, mapping: &Mapping) -> Option<Finding> {
    let parts = mapping.filled.iter().filter(|part| part.by_number);
    parts.into_iter().find_map(|part| {
        let device = seen.facts.off_at(part.pfn? * PAGE)?;
        let what = format!(
            "the mapping of {} leads to a BAR of the PCI device {}, whose memory space is off (bit 1 of its command register)",
            mapping.file, device
        );
        let shown = format!("/sys/bus/pci/devices/{device}/config: the command register has not 0x2");
        let finding = DEVICE_OFF.found(mapping, what).sure(Sure::Follows).proc(shown);
        Some(finding)
    })
}

/// Whether the program ended by itself, with a status that says failure.
fn gave_up(seen: &Seen<'_>) -> bool {
    const ABORTED: i32 = 6;
    let life = seen.life;
    let by_itself = life.killed_by.is_none_or(|signal| signal == ABORTED);
    by_itself && !seen.ended_well() && !life.attached && !life.stuck
}

impl Cause {
    fn found(&self, mapping: &Mapping, what: String) -> Finding {
        Finding::new(self, mapping.file.clone(), mapping.driver(), what)
    }
}

/// A mapping function that failed in an `mmap` that nevertheless succeeded.
fn failed_in_mmap(seen: &Seen<'_>, mapping: &Mapping) -> Option<Finding> {
    failed_call(
        seen,
        &mapping.calls,
        mapping.result,
        &mapping.file,
        &mapping.driver(),
    )
}

fn impossible_frames(seen: &Seen<'_>, mapping: &Mapping) -> Option<Finding> {
    let part = mapping
        .filled
        .iter()
        .find(|part| part.by_number && part.pfn.is_some())?;
    let pfn = part.pfn?;
    let by_call = mapping
        .calls
        .iter()
        .any(|call| call.number("pfn") == Some(pfn));
    let function = if by_call {
        "remap_pfn_range"
    } else {
        "vmf_insert_pfn"
    };
    let finding = frame_that_is_none(seen, pfn, &mapping.file, &mapping.driver(), function)?;
    let shown = mapping
        .calls
        .iter()
        .find(|call| call.number("pfn") == Some(pfn))
        .map(event_of);
    Some(match shown {
        Some(shown) => finding.event(shown),
        None => finding,
    })
}

/// Memory that the driver has no right to map.
fn kind_of_frames(seen: &Seen<'_>, mapping: &Mapping) -> Option<Finding> {
    let by_number = mapping.filled.iter().filter(|part| part.by_number);
    for part in by_number {
        let first = part.pfn?;
        let count = part.length.div_ceil(PAGE);
        for (pfn, look) in seen.frames.seen_within(first, count) {
            // Afterwards it may belong to anything.
            let address = part.address + (pfn - first) * PAGE;
            let gone = mapping
                .gone_at(address)
                .is_some_and(|gone| gone.time <= look.time);
            if look.time < mapping.time.saturating_sub(1_000_000) || gone {
                continue;
            }
            let kind = frames::kind(look.flags);
            let shown = format!(
                "/proc/kpageflags: frame {pfn:#x} has the flags {:#x} ({kind})",
                look.flags
            );
            // What the driver maps of an object begins with it; behind other memory, it is somebody else's.
            if look.flags & kpf::SLAB != 0 && pfn == first {
                let mut what = format!(
                    "frame {pfn:#x}, mapped at {address:#x} inside {}, is slab memory",
                    mapping.driver()
                );
                let mut finding = SLAB_MEMORY.found(mapping, String::new());
                if let Some((cache, bytes)) = &look.cache {
                    what += &format!(" of the cache {cache}, whose objects have {bytes} bytes");
                    if bytes % PAGE == 0 && *bytes > 0 {
                        // Objects of whole pages begin at a page's start: the program sees the right bytes.
                        finding.severity = Severity::Warning;
                    } else {
                        what += &format!(": {} or more of them share a page, so an object can start at any offset in \
                            it", PAGE / (*bytes).max(1));
                    }
                }
                finding.what = what;
                return Some(
                    finding
                        .proc(shown)
                        .event(mapping.calls.first().map(event_of).unwrap_or_default()),
                );
            }
            let others = kpf::BUDDY | kpf::ANON | kpf::PGTABLE | kpf::SLAB;
            if look.flags & others != 0 {
                let what = format!(
                    "frame {pfn:#x}, mapped at {address:#x} by number inside {}, is {kind}",
                    mapping.driver()
                );
                let finding = OTHERS_MEMORY.found(mapping, what).sure(Sure::Follows);
                return Some(finding.proc(shown));
            }
        }
    }
    None
}

/// The result of `virt_to_phys` for a variable of the driver.
fn module_data(seen: &Seen<'_>, mapping: &Mapping) -> Option<Finding> {
    let driver = mapping.driver();
    mapping
        .filled
        .iter()
        .filter(|part| part.by_number)
        .find_map(|part| {
            let pfn = part.pfn?;
            let address = seen.history.module_address(pfn)?;
            let (at, name, module) = seen.facts.variables.iter().find(|(at, _, module)| {
                at & !(PAGE - 1) == address & !(PAGE - 1) && driver.ends_with(&format!("[{module}]"))
            })?;
            let what = format!(
                "frame {pfn:#x} was mapped inside {driver}; it is the result of virt_to_phys for {address:#x}, the \
                address of the variable {name} of the module {module}"
            );
            let finding = FRAME_OF_IMAGE.found(mapping, what).sure(Sure::Follows);
            let finding = finding.proc(format!("/proc/kallsyms: {at:x} {name} [{module}]"));
            Some(match mapping.calls.first() {
                Some(call) => finding.event(event_of(call)),
                None => finding,
            })
        })
}

/// Memory of a device that does not begin with a page.
fn unaligned_memory(mapping: &Mapping) -> Option<Finding> {
    let start = |call: &Call| call.number("physical").or_else(|| call.number("handle"));
    let call = mapping.calls.iter().find(|call| {
        let whole_pages = ["vm_iomap_memory", "dma_mmap_attrs"];
        let inside = start(call).is_some_and(|start| start % PAGE != 0);
        whole_pages.contains(&call.function.as_str()) && call.result() == 0 && inside
    })?;
    let physical = start(call)?;
    let function = &call.function;
    let what = format!(
        "{function} was called with {physical:#x} inside {}, which is {} bytes into a page: the driver's memory \
        begins at that offset in the mapping, not at its start",
        mapping.driver(),
        physical % PAGE
    );
    Some(UNALIGNED_MEMORY.found(mapping, what).event(format!(
        "{function}({physical:#x}, size={:#x}) = 0",
        call.get("size")
    )))
}

/// A device's memory that the program replaced by something else. Some programs intend this.
fn mapped_over(seen: &Seen<'_>, mapping: &Mapping) -> Option<Finding> {
    let gone = mapping
        .gone
        .iter()
        .find(|gone| gone.by.number == nr::MMAP && gone.by.argument(2) != 0)?;
    if seen.ended_well() || mapping.gone.len() > 1 {
        return None;
    }
    let what = format!(
        "{} replaced {} of {} pages of the mapping of {} by other memory: MAP_FIXED removes what is mapped there",
        gone.by.text(),
        gone.length / PAGE,
        mapping.pages(),
        mapping.file
    );
    let finding = MAPPED_OVER
        .found(mapping, what)
        .sure(Sure::Likely)
        .event(gone.by.text());
    Some(Finding {
        function: String::new(),
        ..finding
    })
}

/// A whole mapping made by a fault handler, which may not change the VMA's flags. With all of them set in advance, as some
/// drivers did (vfio-pci before 6.10), nothing changes.
fn remapped_in_fault(mapping: &Mapping) -> Option<Finding> {
    const REMAP: [&str; 5] = [
        "remap_pfn_range",
        "remap_vmalloc_range",
        "remap_vmalloc_range_partial",
        "vm_iomap_memory",
        "dma_mmap_attrs",
    ];
    let handler = mapping.handler()?;
    let call = mapping.calls.iter().find(|call| {
        REMAP.contains(&call.function.as_str())
            && call.module_function().as_deref() == Some(handler)
    })?;
    if mapping.flags & (vm::PFNMAP | vm::MIXEDMAP) != 0 {
        return None;
    }
    let what = format!(
        "{handler}, the fault handler, called {}; the VMA's flags were {:#x} until then",
        call.function, mapping.flags
    );
    let mut finding = CALLED_IN_FAULT.found(mapping, what).event(event_of(call));
    finding.function = handler.to_owned();
    Some(finding)
}

/// Whether a fault handler's result is an error number: a negative one, or a positive one whose bits make no sense together
/// (`vm_fault_reason` of `include/linux/mm_types.h`: each error is a bit of its own, and 8 is none).
fn is_errno(result: u64) -> bool {
    const MAJOR: u64 = 0x4;
    const NO_BIT: u64 = 0x8;
    let bits = result & 0xffff_ffff;
    let contradicts = (bits & VM_FAULT_ERROR & !MAJOR).count_ones() > 1 || bits & NO_BIT != 0;
    let positive = i64::try_from(bits).is_ok_and(|bits| name_of(-bits).starts_with("-E"));
    bits & 0x8000_0000 != 0 || (contradicts && positive)
}

/// A fault handler that returns `-EINVAL` or another error number.
fn errno_from_fault(seen: &Seen<'_>) -> Option<Finding> {
    let is_negative = |call: &&Call| is_errno(call.get("ret"));
    let call = seen.history.handlers.iter().find(is_negative)?;
    let space = seen.history.space_of(call.thread);
    let mapping = seen
        .history
        .at(space, call.number("addr").unwrap_or(0))
        .or_else(|| {
            let mut with_handler = seen.history.mappings.iter().rev();
            with_handler.find(|mapping| mapping.space == space && mapping.handler().is_some())
        })?;
    let recorded = call.text("fault").filter(|_| call.get("ops") != 0);
    let function = recorded
        .map(symbol)
        .or_else(|| mapping.handler().map(str::to_owned))?;
    let bits = u32::try_from(call.get("ret") & 0xffff_ffff).unwrap_or(0);
    let error = i64::from(i32::from_ne_bytes(bits.to_ne_bytes()));
    let times = seen.history.handlers.iter().filter(is_negative).count();
    let error = if error < 0 {
        name_of(error)
    } else {
        format!(
            "{} without its minus",
            name_of(-error).trim_start_matches('-')
        )
    };
    let what = format!(
        "{function} returned {bits:#x}, which is {error}, {times} times: a fault handler must return VM_FAULT_SIGBUS, \
        VM_FAULT_OOM, VM_FAULT_NOPAGE or the like"
    );
    let mut finding = ERRNO_FROM_FAULT
        .found(mapping, what)
        .event(format!("__do_fault returned {bits:#x} for {function}"));
    finding.function = function;
    Some(finding)
}

/// The kernel killed the program because memory ran out.
fn killed_for_memory(seen: &Seen<'_>) -> Option<Finding> {
    const SIGKILL: i32 = 9;
    let is_it = |text: &&str| {
        let told = text.starts_with("Memory cgroup out of memory: Killed process ")
            || text.starts_with("Out of memory: Killed process ");
        let thread = text
            .split_once("Killed process ")
            .and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        told && thread.is_some_and(|thread: i32| seen.life.threads.contains(&thread))
    };
    let texts = seen.log.lines.iter().map(|line| line.text.as_str());
    let line = texts.into_iter().find(is_it)?;
    let whose = if line.starts_with("Memory cgroup") {
        "its cgroup was out of memory"
    } else {
        "the machine was out of memory"
    };
    let end = if seen.life.killed_by == Some(SIGKILL) {
        "the program was killed by SIGKILL"
    } else {
        "a process of the program was killed by SIGKILL"
    };
    let what = format!("{end} from the kernel: {whose}");
    let finding = Finding::new(&OUT_OF_MEMORY, "memory".to_owned(), String::new(), what);
    Some(finding.log(line))
}

/// A copy between the kernel and the program that failed in a device's mapping: no signal, but `EFAULT`.
fn failed_copy(seen: &Seen<'_>, copy: &Call, findings: &mut Vec<Finding>) {
    const WRITE: u64 = 2;
    let address = copy.get("addr");
    let space = seen.history.space_of(copy.thread);
    let Some(mapping) = seen.history.at(space, address) else {
        return;
    };
    if !mapping.was_there(address, copy.time) {
        return;
    }
    let shown = format!(
        "a copy {} {address:#x} failed in the kernel: the system call returned EFAULT, or copied less than it was asked to",
        if copy.get("error") & WRITE == 0 { "from" } else { "to" }
    );
    let known = findings
        .iter_mut()
        .find(|finding| mapping.file == finding.file && explains_signals(finding));
    if let Some(known) = known {
        *known = known.clone().event(shown);
        return;
    }
    let fault = Fault::of_copy(copy.thread, address, copy.time);
    let not_allowed = copy.get("error") & WRITE != 0 && mapping.flags & vm::WRITE == 0;
    let finding = if not_allowed {
        let what = format!("{}, which is not writable", at(&fault, mapping));
        Some(WRITE_PROTECTED.found(mapping, what))
    } else {
        of_a_device(seen, &fault, mapping)
    };
    findings.extend(finding.map(|finding| finding.event(shown)));
}

fn freed(seen: &Seen<'_>, mapping: &Mapping) -> Option<Finding> {
    let (pfn, doing) = mapping.freed.first()?;
    let by_close = doing
        .as_ref()
        .filter(|doing| [nr::MUNMAP, nr::EXIT, nr::EXIT_GROUP].contains(&doing.number));
    if let Some(doing) = by_close {
        let whose = if mapping.inherited {
            "a child's"
        } else {
            "another"
        };
        let what = format!(
            "frame {pfn:#x} was freed by {}, and {whose} mapping of {} at {:#x} (mapped by remap_pfn_range inside {}) \
            still leads to it: vm_ops->close frees it, but is called for each mapping, including copies that fork \
            makes and parts that munmap leaves",
            doing.text(),
            mapping.file,
            mapping.address,
            mapping.driver()
        );
        return Some(OUTLIVED.found(mapping, what).event(format!(
            "mm_page_free of frame {pfn:#x} in {}",
            doing.text()
        )));
    }
    let _ = seen;
    let during = match doing {
        Some(doing @ Doing { number, .. }) if [nr::IOCTL, nr::CLOSE].contains(number) => {
            format!(" during {}", doing.text())
        }
        _ => String::new(),
    };
    let what = format!(
        "frame {pfn:#x} was freed{during} while it was mapped at {:#x} ({} pages, mapped by remap_pfn_range inside {})",
        mapping.address,
        mapping.pages(),
        mapping.driver()
    );
    Some(
        OUTLIVED
            .found(mapping, what)
            .event(format!("mm_page_free of frame {pfn:#x}{during}")),
    )
}

/// Pages that the driver still used, and that unmapping freed.
fn freed_by_unmapping(seen: &Seen<'_>, mapping: &Mapping) -> Option<Finding> {
    let is_whole = |pfn: u64| {
        seen.frames.seen(pfn).is_none_or(|look| {
            look.flags & (kpf::COMPOUND_HEAD | kpf::COMPOUND_TAIL | kpf::LRU | kpf::ANON) == 0
        })
    };
    let lost: Vec<_> = mapping
        .released
        .iter()
        .filter_map(|&(pfn, time)| {
            let handed = mapping.handed.iter().find(|handed| handed.pfn == pfn)?;
            let alone = seen.history.was_allocated_alone(pfn, handed.time);
            (handed.count == 1 && !handed.compound && is_whole(pfn) && !alone)
                .then_some((pfn, time))
        })
        .collect();
    let &(pfn, time) = lost.first()?;
    let function = mapping
        .handler()
        .map_or_else(|| mapping.driver(), str::to_owned);
    // The driver returns it again: it still believes that it owns the page.
    let again = seen
        .history
        .mappings
        .iter()
        .filter(|other| other.file == mapping.file)
        .flat_map(|other| &other.handed)
        .find(|handed| handed.time > time && lost.iter().any(|(pfn, _)| *pfn == handed.pfn));
    // A block: its first page has the driver's reference, and stays.
    let kept = mapping.handed.iter().find(|handed| {
        handed.count > 1
            && mapping.released.iter().all(|(pfn, _)| *pfn != handed.pfn)
            && lost.iter().any(|(pfn, _)| pfn.abs_diff(handed.pfn) < 1024)
    });
    // Given away on purpose, it would have been allocated for this.
    let older = mapping
        .handed
        .iter()
        .filter(|handed| lost.iter().any(|(pfn, _)| *pfn == handed.pfn))
        .all(|handed| seen.history.is_older(handed.pfn, handed.time));
    let (sure, more) = match (again, kept) {
        (Some(handed), _) => (
            Sure::Seen,
            format!("; the driver has used frame {:#x} again since then", handed.pfn),
        ),
        (None, Some(kept)) => (
            Sure::Follows,
            format!(
                "; frame {:#x} of the same run had a count of {} and is still there: the pages are of one block, in \
                which only the first page has a count",
                kept.pfn, kept.count
            ),
        ),
        (None, None) if older => (
            Sure::Likely,
            "; they were allocated before the program mapped them, so the handler probably lacks get_page".to_owned(),
        ),
        (None, None) => return None,
    };
    let what = format!(
        "{} of {} pages that {function} returned went back to the page allocator when the mapping was removed, \
        beginning with frame {pfn:#x}: their only reference was the mapping's{more}",
        lost.len(),
        mapping.handed.len()
    );
    let mut finding = FREED_BY_UNMAPPING.found(mapping, what).sure(sure);
    finding.function = function;
    Some(
        finding
            .event(format!("finish_fault of frame {pfn:#x} with a count of 1"))
            .event(format!("mm_page_free of frame {pfn:#x} in the unmapping")),
    )
}

fn uncached(seen: &Seen<'_>, mapping: &Mapping) -> Option<Finding> {
    if cfg!(not(target_arch = "x86_64")) {
        return None;
    }
    let wanted = |call: &&Call| {
        call.function == "remap_pfn_range"
            && call.result() == 0
            && call.get("asked") & NOT_CACHED != 0
            && seen.iomem.is_ram(call.get("pfn") * PAGE)
    };
    let call = mapping.calls.iter().find(|call| {
        // If it was granted, the driver changed the kernel's own view of this memory before, on purpose. If it is
        // unknown what was granted, only the log tells.
        wanted(call)
            && match call.number("granted") {
                Some(granted) => granted & NOT_CACHED == 0,
                None => pat_line(seen, call.get("pfn") * PAGE, "map pfn RAM range").is_some(),
            }
    })?;
    let mode = match call.get("asked") & NOT_CACHED {
        0x8 => "a write-combined",
        _ => "an uncached",
    };
    let what = format!(
        "remap_pfn_range was asked for {mode} mapping of RAM at {:#x} inside {}, and made a cached one",
        call.get("pfn") * PAGE,
        mapping.driver()
    );
    let finding = UNCACHED_RAM.found(mapping, what).event(event_of(call));
    Some(
        match pat_line(seen, call.get("pfn") * PAGE, "map pfn RAM range") {
            Some(line) => finding.log(line),
            None => finding,
        },
    )
}

fn unknown_frames(seen: &Seen<'_>, mapping: &Mapping) -> Option<Finding> {
    let iomem = seen.iomem;
    let parts = mapping.filled.iter().filter(|part| part.by_number);
    parts.into_iter().find_map(|part| {
        let pfn = part.pfn?;
        let physical = pfn * PAGE;
        if frame_that_is_none(seen, pfn, "", "", "").is_some() {
            return None;
        }
        if let Some(finding) = dma_address(seen, mapping, part) {
            return Some(finding);
        }
        let unknown = iomem.is_unknown(physical, part.length);
        let reads = match iomem.sight(physical) {
            Some(Sight::Ones) => ", and all reads return ones",
            Some(Sight::Zeros) => ", and all reads return zeros",
            Some(Sight::Answers) => return None,
            None if unknown => "",
            None => return None,
        };
        let known = match iomem.name(physical) {
            Some(name) => format!("which /proc/iomem calls {name}"),
            None => "where /proc/iomem lists nothing".to_owned(),
        };
        let what = format!(
            "{physical:#x}-{:#x} was mapped by number inside {}, {known}{reads}",
            physical + part.length.saturating_sub(1),
            mapping.driver()
        );
        let mut finding = NOTHING_BEHIND
            .found(mapping, what)
            .proc(format!("/proc/iomem: {known}"));
        if !unknown {
            // Memory that was never written, or a device that is all zeros, looks the same.
            finding.severity = Severity::Warning;
            finding.sure = Sure::Likely;
        } else if iomem.sight(physical).is_none() {
            finding.sure = Sure::Follows;
        }
        Some(finding)
    })
}

/// A DMA address that was taken for a physical one.
fn dma_address(seen: &Seen<'_>, mapping: &Mapping, part: &Filled) -> Option<Finding> {
    let pfn = part.pfn?;
    let bases = seen.history.bases;
    let call = seen.history.dma.iter().find(|call| {
        let (handle, size) = (call.get("handle"), call.get("size"));
        let first = handle / PAGE;
        let kernel = call.get("ret");
        // The linear map tells where the memory is; vmalloc's range does not.
        let own = kernel.wrapping_sub(bases.linear) / PAGE;
        bases.linear != 0
            && kernel >= bases.linear
            && kernel - bases.linear < 1 << 46
            && first != own
            && first <= pfn
            && pfn - first < size.div_ceil(PAGE)
    });
    if let Some(call) = call {
        let what = format!(
            "frame {pfn:#x} was mapped inside {}; {:#x} is the DMA address that dma_alloc_attrs returned, and the \
            memory is at {:#x}",
            mapping.driver(),
            call.get("handle"),
            call.get("ret").wrapping_sub(bases.linear)
        );
        return Some(DMA_ADDRESS.found(mapping, what).event(format!(
            "dma_alloc_attrs of {} bytes returned the DMA address {:#x}",
            call.get("size"),
            call.get("handle")
        )));
    }
    let unknown = seen.iomem.is_unknown(pfn * PAGE, part.length);
    (unknown && seen.facts.iommu).then(|| {
        let what = format!(
            "frame {pfn:#x} was mapped inside {}, where /proc/iomem lists nothing, and an IOMMU is on: the number is \
            probably a DMA address",
            mapping.driver()
        );
        let finding = DMA_ADDRESS.found(mapping, what).sure(Sure::Likely);
        finding.proc("/sys/class/iommu has an IOMMU")
    })
}

/// One frame at several addresses of a mapping.
fn same_frame(mapping: &Mapping) -> Option<Finding> {
    let mut places: Vec<(u64, u64)> = Vec::new();
    for part in &mapping.filled {
        if let Some(pfn) = part.pfn {
            places.extend(
                (0..part.length.div_ceil(PAGE).min(1 << 12))
                    .map(|at| (pfn + at, part.address + at * PAGE)),
            );
        }
    }
    places.extend(
        mapping
            .handed
            .iter()
            .map(|handed| (handed.pfn, handed.address & !(PAGE - 1))),
    );
    places.sort_unstable();
    places.dedup();
    let (first, second) = places
        .iter()
        .zip(places.iter().skip(1))
        .find(|(first, second)| first.0 == second.0)?;
    let pages = places.iter().filter(|(pfn, _)| *pfn == first.0).count();
    let what = format!(
        "frame {:#x} was mapped at {pages} addresses of one mapping inside {}, the first two being {:#x} and {:#x}",
        first.0,
        mapping.handler().filter(|_| mapping.filled.is_empty()).map_or_else(|| mapping.driver(), str::to_owned),
        first.1,
        second.1
    );
    Some(
        SAME_FRAME
            .found(mapping, what)
            .sure(Sure::Likely)
            .event(format!("frame {:#x} twice", first.0)),
    )
}

fn private_copy(mapping: &Mapping) -> Option<Finding> {
    if !mapping.copied || mapping.flags & vm::MAYSHARE != 0 {
        return None;
    }
    let what = format!(
        "{} was mapped MAP_PRIVATE and written to: the writes went to the program's own copies (VM flags {:#x})",
        mapping.file, mapping.flags
    );
    let finding = PRIVATE_COPY.found(mapping, what);
    Some(Finding {
        function: String::new(),
        ..finding.event("__anon_vma_prepare: the first private page of this mapping")
    })
}

/// The frame that a mapping shows in its first page.
fn first_frame(mapping: &Mapping) -> Option<u64> {
    let filled = mapping
        .filled
        .iter()
        .find(|part| part.address == mapping.address);
    filled.and_then(|part| part.pfn).or_else(|| {
        let mut handed = mapping.handed.iter();
        handed
            .find(|one| one.address & !(PAGE - 1) == mapping.address)
            .map(|one| one.pfn)
    })
}

/// Two mappings with offsets within one another that show the same frame.
fn offset_ignored(seen: &Seen<'_>) -> Option<Finding> {
    let own: Vec<_> = seen
        .history
        .mappings
        .iter()
        .filter(|mapping| !mapping.inherited)
        .collect();
    own.iter().enumerate().find_map(|(at, second)| {
        own.iter().take(at).find_map(|first| {
            let (a, b) = (first.asked_pages()?, second.asked_pages()?);
            let (low, high) = if a < b { (first, second) } else { (second, first) };
            let apart = a.abs_diff(b);
            let same = first.file == second.file
                && first_frame(first)? == first_frame(second)?
                && apart > 0
                && apart < low.pages();
            same.then(|| {
                let what = format!(
                    "page {} and page {} of {} were asked for, and both mappings begin with frame {:#x}",
                    a.min(b),
                    a.max(b),
                    first.file,
                    first_frame(first).unwrap_or(0)
                );
                OFFSET_IGNORED
                    .found(high, what)
                    .sure(Sure::Follows)
                    .event(format!("mmap with offset {:#x}", high.asked_pages().unwrap_or(0) * PAGE))
            })
        })
    })
}

fn bad_insert(seen: &Seen<'_>, insert: &Call) -> Option<Finding> {
    let result = insert.result_bits();
    let by_page = !insert.function.starts_with("vmf_");
    if by_page {
        return page_not_inserted(seen, insert);
    }
    if !insert.unfinished && result & VM_FAULT_ERROR == 0 {
        return None;
    }
    let space = seen.history.space_of(insert.thread);
    // The address that was asked for may lie outside.
    let mapping = seen.history.at(space, insert.get("start"))?;
    let flags = insert.get("flags");
    let function = insert.function.as_str();
    let handler = insert
        .text("fault")
        .filter(|_| insert.get("ops") != 0)
        .map(symbol);
    // A tail call leaves no trace of its caller.
    let inside = insert
        .module_function()
        .or(handler)
        .unwrap_or_else(|| mapping.driver());
    let mut what =
        format!("{function} was called inside {inside} for a VMA with the flags {flags:#x}");
    let mixed = function.starts_with("vmf_insert_mixed");
    let cause = if vm::is_cow(flags) && flags & vm::PFNMAP != 0 && !mixed {
        &PRIVATE_PFN
    } else if (mixed && flags & vm::MIXEDMAP == 0)
        || (!mixed && flags & (vm::PFNMAP | vm::MIXEDMAP) == 0)
    {
        what += if mixed {
            ", which lack VM_MIXEDMAP (0x10000000)"
        } else {
            ", which lack VM_PFNMAP (0x400)"
        };
        &FLAG_MISSING
    } else if insert.unfinished
        && flags & vm::MIXEDMAP != 0
        && seen.iomem.is_ram(insert.get("pfn") * PAGE)
    {
        what += &format!(
            ", among them VM_MIXEDMAP (0x10000000), and for frame {:#x}, which is RAM and has a page",
            insert.get("pfn")
        );
        &FLAG_MISSING
    } else if insert.unfinished {
        return None;
    } else {
        let (start, end) = (insert.get("start"), insert.get("end"));
        let address = insert.get("addr");
        what = format!(
            "{function} failed inside {inside} for frame {:#x} at {address:#x}",
            insert.get("pfn")
        );
        if !(start..end).contains(&address) {
            what += &format!(", which is outside the mapping ({start:#x}-{end:#x})");
        } else if let Some(finding) =
            frame_that_is_none(seen, insert.get("pfn"), &mapping.file, &inside, function)
        {
            return Some(finding.event(event_of(insert)));
        }
        &INSERT_FAILED
    };
    let mut finding = cause.found(mapping, what).event(event_of(insert));
    finding.function = inside;
    Some(finding)
}

/// `vm_insert_page` and its like, which fail in a fault handler.
fn page_not_inserted(seen: &Seen<'_>, insert: &Call) -> Option<Finding> {
    const EBUSY: i64 = -16;
    let space = seen.history.space_of(insert.thread);
    let mapping = seen.history.at(space, insert.get("start"))?;
    let inside = insert
        .module_function()
        .or_else(|| mapping.handler().map(str::to_owned))
        .unwrap_or_else(|| mapping.driver());
    // Whether the handler returned an error because of it.
    let told = seen.history.handlers.iter().any(|call| {
        call.thread == insert.thread
            && call.time >= insert.time
            && call.get("ret") & VM_FAULT_ERROR != 0
    });
    if !told && !seen.missing.contains(&"handler") {
        return None;
    }
    if let Some(finding) = super::calls::not_insertable(seen, insert, &mapping.file, &inside) {
        return Some(finding);
    }
    let mut what = format!(
        "{} returned {} at {:#x} inside {inside}",
        insert.function,
        name_of(insert.result()),
        insert.get("addr")
    );
    let is_start = insert.get("addr") == insert.get("start");
    if insert.result() == EBUSY {
        what += ", where there is an entry already";
        if is_start {
            what += ": always the mapping's first page, not the page of the fault (vmf->address)";
        } else {
            what += ": another thread's fault was faster, which is not an error (return VM_FAULT_NOPAGE, as \
                vmf_insert_page_mkwrite and vmf_insert_mixed do by themselves)";
        }
    }
    let mut finding = INSERT_FAILED.found(mapping, what).event(event_of(insert));
    finding.function = inside;
    Some(finding)
}

/// What a mapping function may be asked to do with memory of a kind of its own, and the like.
fn without_pages(seen: &Seen<'_>, pin: &Call) -> Option<Finding> {
    let address = pin.get("addr");
    let space = seen.history.space_of(pin.thread);
    let secret = seen
        .history
        .marked_at(space, address)
        .filter(|marked| marked.kind == Kind::Secret);
    if let Some(marked) = secret {
        let what = format!(
            "{} returned -EFAULT for {address:#x}, which is secret memory ({})",
            pin.function,
            marked.by.text()
        );
        let finding = Finding::new(&SECRET_MEMORY, "secretmem".to_owned(), String::new(), what);
        return Some(finding.event(format!("{}({address:#x}) = -EFAULT", pin.function)));
    }
    let mapping = seen
        .history
        .at(seen.history.space_of(pin.thread), address)?;
    if mapping.flags & (vm::PFNMAP | vm::IO) == 0 {
        return None;
    }
    let what = format!(
        "{} returned -EFAULT for {address:#x}, in the mapping of {} that {} made by frame number",
        pin.function,
        mapping.file,
        mapping.driver()
    );
    Some(
        NO_PAGES
            .found(mapping, what)
            .event(format!("{}({address:#x}) = -EFAULT", pin.function)),
    )
}

/// Functions of the kernel's core that are given pages by drivers (`mm/memory.c`).
const DEALS_WITH_PAGES: [&str; 13] = [
    "__do_fault",
    "finish_fault",
    "do_fault",
    "set_pte_range",
    "validate_page_before_insert",
    "insert_page",
    "vm_insert_page",
    "vm_insert_pages",
    "do_read_fault",
    "do_shared_fault",
    "folio_add_file_rmap",
    "filemap_",
    "vm_normal_page",
];

/// What `vm_insert_page` does not take of a VMA: VM_PFNMAP, or that it would have to set VM_MIXEDMAP without the mmap lock.
fn wrong_vma_for_a_page(
    trouble: &Trouble,
    open: Option<&Call>,
) -> Option<(&'static Cause, String)> {
    let call = open.filter(|call| call.function == "vm_insert_page")?;
    let stopped = trouble.head.contains("kernel BUG at mm/memory.c")
        && trouble.place.starts_with("vm_insert_page");
    let flags = call
        .number("flags")
        .filter(|flags| stopped && flags & vm::MIXEDMAP == 0)?;
    Some(if flags & vm::PFNMAP != 0 {
        (
            &PAGE_IN_PFN_VMA,
            format!("the VMA has the flags {flags:#x}, among them VM_PFNMAP (0x400)"),
        )
    } else {
        (
            &CALLED_IN_FAULT,
            format!("the VMA has the flags {flags:#x}, without VM_MIXEDMAP (0x10000000), and the mmap lock is not held for writing"),
        )
    })
}

/// Trouble that the kernel itself reported.
fn of_trouble(seen: &Seen<'_>, trouble: &Trouble, findings: &mut Vec<Finding>) {
    if !seen.is_ours(trouble) {
        return;
    }
    // The line belongs to what was already found.
    let explained = [
        FLAG_MISSING.name,
        PRIVATE_PFN.name,
        FRAME_OF_VMALLOC.name,
        FRAME_IMPOSSIBLE.name,
        FREED_BY_UNMAPPING.name,
        MAPPED_TOO_MUCH.name,
    ];
    let bug_of_an_insert = trouble.place.starts_with("vmf_insert")
        || trouble.head.contains("kernel BUG at mm/memory.c");
    let table = trouble.head.contains("Corrupted page table") || trouble.head.contains("Bad page");
    // What was found says why: the kernel warned of it while that very function ran, which the return probes may hide in the trace,
    // or because the mmap lock was not held as it should be.
    let asserts_lock = ["rwsem.h", "mmap_lock.h"]
        .iter()
        .any(|file| trouble.head.contains(file));
    let blamed = |finding: &Finding| {
        let lock = asserts_lock && finding.cause == CALLED_IN_FAULT.name;
        let function = trouble.module_function.as_ref() == Some(&finding.function);
        finding.severity == Severity::Error && (function || lock)
    };
    if let Some(at) = findings.iter().position(|finding| {
        (bug_of_an_insert || table) && explained.contains(&finding.cause)
            || trouble.only_warned && !trouble.after_a_crash && blamed(finding)
    }) {
        let finding = findings.remove(at);
        findings.insert(at, finding.quoting(trouble));
        return;
    }
    if trouble.only_warned && trouble.after_a_crash {
        return;
    }
    if trouble.only_warned {
        let what = format!(
            "the kernel warned in {}: {}",
            place_of(trouble),
            trouble.head
        );
        let finding = Finding::new(
            &KERNEL_WARNING,
            String::new(),
            function_of(trouble, None),
            what,
        );
        findings.push(finding.quoting(trouble));
        return;
    }
    let thread = trouble.thread.unwrap_or(0);
    let space = seen.history.space_of(thread);
    // The page that was being inserted, or what lay at the address that was read.
    let open = seen
        .history
        .unfinished
        .iter()
        .rev()
        .find(|call| call.thread == thread);
    let page = open
        .and_then(|call| call.number("page"))
        .filter(|page| *page != 0);
    let pointers: Vec<u64> = page.into_iter().chain(trouble.address).collect();
    let made_of = pointers.iter().find_map(|&pointer| {
        let vmemmap = seen.history.bases.vmemmap;
        (vmemmap != 0)
            .then(|| seen.made_of(frames::frame_of(pointer, vmemmap, 64)))
            .flatten()
    });
    let deals_with_pages = trouble
        .inner_calls()
        .any(|place| DEALS_WITH_PAGES.iter().any(|name| place.starts_with(name)));
    let latest = || {
        let mut all = seen.history.mappings.iter().rev();
        all.find(|mapping| mapping.space == space)
    };
    let mapping = match &made_of {
        Some(MadeOf::User(address)) => seen.history.at(space, *address).or_else(latest),
        _ => open
            .and_then(|call| seen.history.at(space, call.get("start")))
            .or_else(latest),
    };
    let mut function = function_of(trouble, mapping);
    let mut file = mapping
        .map(|mapping| mapping.file.clone())
        .unwrap_or_default();
    // It crashed in the mmap itself, and a return probe may have hidden the caller.
    if let Some(opened) = seen
        .history
        .file_in_mmap(thread)
        .filter(|_| mapping.is_none())
    {
        let mmap = opened.text("mmap").filter(|text| text.contains('+'));
        if function.is_empty() {
            function = mmap.map(symbol).unwrap_or_default();
        }
        file = opened.text("name").unwrap_or_default().to_owned();
    }
    let in_fault = open.is_none();
    let who = if in_fault {
        mapping
            .and_then(Mapping::handler)
            .map_or_else(|| function.clone(), str::to_owned)
    } else {
        function.clone()
    };
    let wrong_vma = wrong_vma_for_a_page(trouble, open).map(|(cause, why)| {
        let place = place_of(trouble);
        let what = format!("the kernel stopped in {place}, called inside {function}: {why}");
        Finding::new(cause, file.clone(), function.clone(), what).sure(Sure::Follows)
    });
    let of_others = || match (&made_of, deals_with_pages) {
        (Some(MadeOf::User(address)), true) => {
            let what = format!(
                "the kernel crashed in {} on the page that {who} passed: it is the result of virt_to_page for \
                {address:#x}, an address of the program{}",
                place_of(trouble),
                mapping
                    .filter(|mapping| mapping.contains(*address))
                    .map_or("", |_| " in this very mapping")
            );
            Finding::new(&PAGE_OF_USER_ADDRESS, file, who, what).sure(Sure::Follows)
        }
        (Some(MadeOf::Vmalloc(address)), true) => {
            let what = format!(
                "the kernel crashed in {} on the page that {who} passed: it is the result of virt_to_page for \
                {address:#x}, which is in vmalloc's range",
                place_of(trouble)
            );
            Finding::new(&PAGE_OF_VMALLOC, file, who, what).sure(Sure::Follows)
        }
        (None, true)
            if trouble.address.is_some_and(|address| address < PAGE)
                && open.is_none()
                && mapping.is_some_and(|mapping| mapping.handler().is_some()) =>
        {
            let what = format!(
                "the kernel crashed in {} when it read a page at {:#x}, which is NULL: {who} returned success (0 or \
                VM_FAULT_LOCKED) without setting vmf->page",
                place_of(trouble),
                trouble.address.unwrap_or(0)
            );
            Finding::new(&NO_PAGE_GIVEN, file, who, what).sure(Sure::Follows)
        }
        (None, true) if mapping.is_some() => {
            let what = format!(
                "the kernel crashed in {} on a page that {who} passed",
                place_of(trouble)
            );
            Finding::new(&BAD_PAGE, file, who, what).sure(Sure::Likely)
        }
        _ if trouble.head.contains("kernel BUG at mm/memory.c")
            && trouble.place.starts_with("remap_p") =>
        {
            let before = seen.history.calls_of(thread);
            let before = before
                .iter()
                .rev()
                .find(|call| call.function == "remap_pfn_range");
            let what = format!(
                "the kernel stopped in {}, called inside {function}: {}",
                place_of(trouble),
                match before {
                    Some(call) => format!(
                        "there is an entry already where it was to make one; the call before it was {}",
                        event_of(call)
                    ),
                    None => "there is an entry already where it was to make one, or its length is 0".to_owned(),
                }
            );
            let sure = before.map_or(Sure::Likely, |_| Sure::Follows);
            Finding::new(&ENTRY_EXISTS, file, function, what).sure(sure)
        }
        _ => {
            let what = format!(
                "the kernel reported \"{}\" in {}, in thread {thread} ({})",
                trouble.head,
                place_of(trouble),
                trouble.name
            );
            Finding::new(&KERNEL_TROUBLE, String::new(), function, what)
        }
    };
    let finding = wrong_vma.unwrap_or_else(of_others);
    let finding = match open {
        Some(call) => finding.event(event_of(call)),
        None => finding,
    };
    // One oops prints several heads.
    let known = findings.iter_mut().find(|other| {
        other.cause == finding.cause
            || (finding.cause == KERNEL_TROUBLE.name
                && other.evidence.iter().any(|one| one.from == "log"))
    });
    match known {
        Some(known) => {
            for line in &trouble.quoted {
                let quoted = known.clone().log(line.clone());
                *known = quoted;
            }
        }
        None => findings.push(finding.quoting(trouble)),
    }
}

fn place_of(trouble: &Trouble) -> String {
    if trouble.place.is_empty() {
        return "the kernel".to_owned();
    }
    symbol(&trouble.place)
}

fn function_of(trouble: &Trouble, mapping: Option<&Mapping>) -> String {
    trouble
        .module_function
        .clone()
        .or_else(|| mapping.map(Mapping::driver))
        .unwrap_or_default()
}

/// Whether a cause is one that makes accesses to its mapping fail.
fn explains_signals(finding: &Finding) -> bool {
    const DO: [&str; 17] = [
        "copy-on-write",
        "ignored-error",
        "offset-is-id",
        "beyond-buffer",
        "insert-failed",
        "pfn-flag-missing",
        "copy-on-write-at-fault",
        "cache-conflict",
        "frame-of-vmalloc",
        "frame-impossible",
        "page-of-user-address",
        "page-of-vmalloc",
        "errno-from-fault",
        "no-page-given",
        "page-not-insertable",
        "slab-memory",
        "not-for-users",
    ];
    DO.contains(&finding.cause)
}

/// The cause of a signal, unless it has been found already.
fn of_fault(seen: &Seen<'_>, fault: &Fault, findings: &mut Vec<Finding>) {
    let space = seen.history.space_of(fault.pid);
    let mapping = seen.history.at(space, fault.address);
    let known = findings.iter_mut().find(|finding| {
        mapping.is_some_and(|mapping| {
            mapping.was_there(fault.address, fault.time) && mapping.file == finding.file
        }) && explains_signals(finding)
    });
    if let Some(known) = known {
        *known = known.clone().signal(fault);
        return;
    }
    let small = seen.history.positive.iter().find(|positive| {
        let length = positive.doing.argument(1);
        positive.space == space
            && (0..length).contains(&fault.address.wrapping_sub(positive.result))
    });
    let mut known = findings.iter_mut();
    let known = known.find(|finding| small.is_some() && finding.cause == ERROR_WITHOUT_MINUS.name);
    if let Some(known) = known {
        *known = known.clone().signal(fault);
        return;
    }
    let finding = if fault.signal == "SIGSEGV" {
        segv(seen, fault, space)
    } else {
        sigbus(seen, fault, space)
    };
    findings.extend(finding.map(|finding| finding.signal(fault)));
}

/// Where a fault is, for people.
fn at(fault: &Fault, mapping: &Mapping) -> String {
    let page = fault.address.saturating_sub(mapping.address) / PAGE + 1;
    format!(
        "{} at {:#x}, page {page} of {} of the mapping of {}",
        fault.signal,
        fault.address,
        mapping.pages(),
        mapping.file
    )
}

fn segv(seen: &Seen<'_>, fault: &Fault, space: i32) -> Option<Finding> {
    let address = fault.address;
    if fault.code == si::SEGV_PKUERR {
        let path = fault
            .vma
            .as_ref()
            .map(|vma| vma.path.clone())
            .unwrap_or_default();
        let what = format!(
            "SIGSEGV at {address:#x}, which a protection key does not let this thread access"
        );
        return Some(Finding::new(&PROTECTION_KEY, path, String::new(), what));
    }
    let mapping = seen.history.at(space, address);
    if fault.code == si::SEGV_ACCERR {
        let permissions = fault
            .vma
            .as_ref()
            .map(|vma| vma.permissions.clone())
            .unwrap_or_default();
        if let Some(mapping) = mapping.filter(|mapping| mapping.was_there(address, fault.time)) {
            let at = at(fault, mapping);
            let covers = |doing: &&Doing| {
                let start = doing.argument(0);
                start <= address && address - start < doing.argument(1)
            };
            let shown = format!("/proc/PID/smaps: {permissions}");
            let finding = match mapping.protected.iter().rev().find(covers) {
                Some(doing) => PROTECTION_CHANGED
                    .found(
                        mapping,
                        format!(
                            "{at}, whose permissions have been {permissions} since {}",
                            doing.text()
                        ),
                    )
                    .event(doing.text()),
                None => WRITE_PROTECTED.found(
                    mapping,
                    format!("{at}, which has the permissions {permissions}"),
                ),
            };
            return Some(finding.proc(shown));
        }
        // A file that the program has mapped shared, and not a part of a program.
        let vma = fault.vma.as_ref()?;
        if vma.permissions.ends_with('s') && vma.path.starts_with('/') {
            let what = format!(
                "SIGSEGV at {address:#x} in the mapping of {}, which has the permissions \
                {permissions}",
                vma.path
            );
            return Some(
                Finding::new(&WRITE_PROTECTED, vma.path.clone(), String::new(), what)
                    .proc(format!("/proc/PID/smaps: {permissions}")),
            );
        }
        return None;
    }
    if fault.blind || fault.vma.is_some() {
        return None;
    }
    if let Some(finding) = map_failed(seen, fault, space) {
        return Some(finding);
    }
    let was = seen
        .history
        .mappings
        .iter()
        .rev()
        .filter(|mapping| mapping.space == space)
        .find_map(|mapping| Some((mapping, mapping.gone_at(address)?)));
    if let Some((mapping, gone)) = was {
        let what = format!(
            "{}: thread {} removed it with {}, {} ms before",
            at(fault, mapping),
            gone.thread,
            gone.by.text(),
            fault.time.saturating_sub(gone.time) / 1000
        );
        let finding = UNMAPPED.found(mapping, what).event(gone.by.text());
        return Some(Finding {
            function: String::new(),
            ..finding
        });
    }
    if let Some(finding) = past_the_end(seen, fault, space) {
        return Some(finding);
    }
    let mapping = seen.history.at_in_parents(space, address)?;
    let how = match &mapping.dont_fork {
        Some(doing) => format!(
            "madvise(MADV_DONTFORK) was called for it ({})",
            doing.text()
        ),
        None if mapping.flags & vm::DONTCOPY != 0 => {
            format!(
                "the driver set VM_DONTCOPY (its flags are {:#x})",
                mapping.flags
            )
        }
        None => return None,
    };
    let what = format!(
        "{}, which belongs to the parent: {how}, so process {space} did not inherit it",
        at(fault, mapping)
    );
    let finding = NOT_INHERITED.found(mapping, what).event(how);
    Some(Finding {
        function: String::new(),
        ..finding
    })
}

/// Behind a device's mapping, as far as an index of words goes that was meant to be one of bytes.
fn past_the_end(seen: &Seen<'_>, fault: &Fault, space: i32) -> Option<Finding> {
    /// The longest word.
    const WORD: u64 = 8;
    let below = fault.below.as_ref()?;
    if seen.history.was_removed(space, fault.address) {
        return None;
    }
    let mapping = seen.history.mappings.iter().rev().find(|mapping| {
        let end = mapping.address + mapping.length;
        mapping.space == space && end == below.end && mapping.was_there(end - 1, fault.time)
    })?;
    let from_start = fault.address.checked_sub(mapping.address)?;
    if from_start >= mapping.length.saturating_mul(WORD) {
        return None;
    }
    let what = format!(
        "SIGSEGV at {:#x}, which is {from_start:#x} bytes from the start of the mapping of {}: the mapping has {:#x} bytes",
        fault.address, mapping.file, mapping.length
    );
    let finding = PAST_THE_END.found(mapping, what).sure(Sure::Likely);
    let finding = finding.proc(format!(
        "/proc/PID/maps: {:x}-{:x} {}",
        below.start, below.end, below.path
    ));
    Some(Finding {
        function: String::new(),
        ..finding
    })
}

/// `(void *)-1`, used.
fn map_failed(seen: &Seen<'_>, fault: &Fault, space: i32) -> Option<Finding> {
    let offset = fault.address.wrapping_add(1);
    let refusal = seen
        .history
        .refusals
        .iter()
        .rev()
        .find(|refusal| refusal.space == space && refusal.doing.number == nr::MMAP)?;
    let length = refusal.doing.argument(1).max(1);
    // A null pointer's field lies at an even address; a field at -1 does not.
    let aligned = offset % 4 == 0 || fault.address >= u64::MAX - 64;
    if !aligned || !(offset < length || fault.address >= u64::MAX - 64) {
        return None;
    }
    let what = format!(
        "SIGSEGV at {:#x}: {} had failed with {}, and the program accessed byte {} of its result",
        fault.address,
        refusal.doing.text(),
        name_of(refusal.result),
        offset
    );
    let finding = Finding::new(
        &MAP_FAILED_USED,
        refusals::file_of(seen, refusal),
        String::new(),
        what,
    );
    Some(finding.sure(Sure::Follows).event(format!(
        "{} = {}",
        refusal.doing.text(),
        name_of(refusal.result)
    )))
}

fn sigbus(seen: &Seen<'_>, fault: &Fault, space: i32) -> Option<Finding> {
    let vma = fault.vma.as_ref();
    let path = vma.map(|vma| vma.path.clone()).unwrap_or_default();
    let plain =
        |cause: &Cause, what: String| Finding::new(cause, path.clone(), String::new(), what);
    if [si::BUS_MCEERR_AR, si::BUS_MCEERR_AO].contains(&fault.code) {
        let what = format!(
            "SIGBUS with si_code {} at {:#x}: the memory there failed",
            fault.code, fault.address
        );
        return Some(plain(&MEMORY_FAILURE, what));
    }
    if fault.code != si::BUS_ADRERR {
        return None;
    }
    let has = |flag: &str| vma.is_some_and(|vma| vma.flags.iter().any(|own| own == flag));
    if ["um", "uw", "ui"].iter().any(|flag| has(flag)) {
        let what = format!(
            "SIGBUS at {:#x}, in memory that is registered with a userfaultfd",
            fault.address
        );
        return Some(
            plain(&USERFAULTFD, what)
                .sure(Sure::Follows)
                .proc("/proc/PID/smaps: VmFlags has um, uw or ui"),
        );
    }
    if let Some((group, limit)) = fault.huge_group.as_ref().filter(|_| has("ht")) {
        let what = format!(
            "SIGBUS at {:#x}, in hugetlb memory: {} huge pages are free, and the limit of the cgroup {group} is \
            {limit} bytes",
            fault.address,
            fault.huge_pages_free.unwrap_or(0)
        );
        return Some(
            plain(&HUGE_GROUP_LIMIT, what)
                .sure(Sure::Follows)
                .proc(format!(
                    "{group}: the hugetlb limit was reached (events: max)"
                )),
        );
    }
    let huge = has("ht");
    if huge && fault.huge_pages_free == Some(0) {
        let what = format!(
            "SIGBUS at {:#x}, in hugetlb memory, and no huge page is free",
            fault.address
        );
        return Some(
            plain(&HUGE_PAGES_GONE, what)
                .sure(Sure::Follows)
                .proc("/proc/meminfo: HugePages_Free: 0"),
        );
    }
    match seen.history.at(space, fault.address) {
        Some(mapping) if mapping.was_there(fault.address, fault.time) => {
            of_a_device(seen, fault, mapping)
        }
        // What hugetlbfs has left says nothing.
        _ if huge => None,
        _ => of_a_file(fault),
    }
}

fn of_a_device(seen: &Seen<'_>, fault: &Fault, mapping: &Mapping) -> Option<Finding> {
    let page = |address: u64| address & !(PAGE - 1);
    let here = at(fault, mapping);
    let handler = seen.history.handlers.iter().rev().find(|call| {
        call.thread == fault.pid
            && call.time <= fault.time
            && call.get("ret") & VM_FAULT_SIGBUS != 0
            && call
                .number("addr")
                .is_none_or(|address| page(address) == page(fault.address))
    });
    let mut name = mapping.handler().map(str::to_owned);
    if let Some(call) = handler {
        let recorded = call.text("fault").filter(|_| call.get("ops") != 0);
        name = recorded.map(symbol).or(name);
        let function = name?;
        let insert = seen.history.inserts.iter().rev().find(|insert| {
            insert.thread == fault.pid
                && insert.time <= call.time
                && page(insert.get("addr")) == page(fault.address)
        });
        let shown = format!("{function} returned VM_FAULT_SIGBUS");
        let mut finding = match insert {
            Some(insert)
                if insert.result_bits() & VM_FAULT_NOPAGE != 0
                    && insert.result_bits() & VM_FAULT_ERROR == 0 =>
            {
                let what = format!(
                    "{here}: {} returned VM_FAULT_NOPAGE (0x100), which is success, inside {function}, but {function} \
                    returned VM_FAULT_SIGBUS",
                    insert.function
                );
                SUCCESS_TAKEN_FOR_FAILURE
                    .found(mapping, what)
                    .event(event_of(insert))
            }
            _ => FAULT_REFUSED.found(mapping, format!("{here}: {function} had no page for it")),
        };
        finding.function = function;
        return Some(finding.event(shown));
    }
    if name.is_some() {
        // It has a handler, and nothing was seen of its saying so: perhaps page_mkwrite did.
        return None;
    }
    if seen.missing.contains(&"handler") && seen.missing.contains(&"mapped") {
        return None;
    }
    if mapping.is_filled(fault.address) {
        let what = format!(
            "{here}: {} had mapped it before, but now there is no entry and no fault handler",
            mapping.driver()
        );
        return Some(REVOKED.found(mapping, what).sure(Sure::Follows));
    }
    let mapped: u64 = mapping.filled.iter().map(|part| part.length).sum();
    let what = format!(
        "{here}: {} mapped {} of its {} pages, but not this one",
        mapping.driver(),
        mapped / PAGE,
        mapping.pages()
    );
    let finding = BEYOND_MAPPED.found(mapping, what).sure(Sure::Follows);
    Some(match mapping.calls.first() {
        Some(call) => finding.event(event_of(call)),
        None => finding
            .event("no mapping function was called in mmap, and the VMA has no fault handler"),
    })
}

/// File systems whose room is memory, `include/uapi/linux/magic.h`.
fn system_of(magic: u64) -> &'static str {
    match magic {
        0x0102_1994 => "tmpfs",
        0x9584_58f6 => "hugetlbfs",
        0x8584_58f6 => "ramfs",
        _ => "file system",
    }
}

fn of_a_file(fault: &Fault) -> Option<Finding> {
    let (vma, backing) = (fault.vma.as_ref()?, fault.backing?);
    if backing.mode & 0o170_000 != 0o100_000 {
        return None;
    }
    let place = backing.offset + (fault.address.saturating_sub(vma.start) & !(PAGE - 1));
    let page = fault.address.saturating_sub(vma.start) / PAGE + 1;
    let pages = (vma.end - vma.start) / PAGE;
    let here = format!(
        "SIGBUS at {:#x}, page {page} of {pages} of the mapping of {}",
        fault.address, vma.path
    );
    let found =
        |cause: &Cause, what: String| Finding::new(cause, vma.path.clone(), String::new(), what);
    if place >= backing.bytes {
        let what = format!(
            "{here}: byte {place} of a file that has {} bytes",
            backing.bytes
        );
        let shown = format!("/proc/PID/map_files: the file has {} bytes", backing.bytes);
        return Some(found(&FILE_END, what).proc(shown));
    }
    if let Some(error) = backing.unreadable {
        let error = name_of(-i64::from(error));
        let what = format!(
            "{here}: byte {place} is within the file, which has {} bytes, but reading it fails with {}",
            backing.bytes,
            error.trim_start_matches('-')
        );
        let shown = format!("pread of the file at {place} = {error}");
        return Some(found(&FILE_UNREADABLE, what).proc(shown));
    }
    let system = system_of(backing.magic);
    if backing.room < PAGE {
        let what = format!(
            "{here}: byte {place} is within the file, which has {} bytes, but the {system} has {} bytes left",
            backing.bytes, backing.room
        );
        let shown = format!("statfs: {system}, {} bytes left", backing.room);
        return Some(
            found(&FILESYSTEM_FULL, what)
                .sure(Sure::Follows)
                .proc(shown),
        );
    }
    None
}

#[cfg(test)]
mod tests;
