//! What went wrong, from what was seen: one function for each cause.

use super::{
    history::{failed, vm, Doing, History, Mapping, PAGE},
    iomem::Iomem,
    physical::Sight,
    trace::{symbol, Call},
    tracee::{Fault, Life},
    tracefs::nr,
};
use mapbuf::errno_name;
use serde::Serialize;

/// Bits of `pgprot_t` on x86 that choose the cache mode: `_PAGE_PWT`, `_PAGE_PCD`.
const NOT_CACHED: u64 = 0x18;
const VM_FAULT_SIGBUS: u64 = 2;
const SEGV_ACCERR: i32 = 2;
const ENXIO: i64 = -6;
const EINVAL: i64 = -22;

/// How bad it is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It is wrong, or the program could not go on.
    Error,
    /// It works, and costs or endangers something.
    Warning,
}

/// A cause that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// A name that stays, for programs and for the guide's pages.
    pub cause: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What the kernel was seen to do.
    pub what: String,
    /// Why that comes to what the program met.
    pub why: &'static str,
    /// What to do.
    pub next: Vec<&'static str>,
    /// The file that was mapped.
    pub file: String,
    /// The driver's function.
    pub function: String,
}

/// A cause: its name, why it comes to what is seen, and the ways out.
struct Cause {
    name: &'static str,
    severity: Severity,
    why: &'static str,
    next: &'static [&'static str],
}

const COPY_ON_WRITE: Cause = Cause {
    name: "copy-on-write",
    severity: Severity::Error,
    why: "the mapping is private and may become writable, so it is copy-on-write; for such a mapping the kernel keeps \
          the first frame in vm_pgoff, and takes one call for the whole range, or none (get_remap_pgoff in mm/memory.c)",
    next: &[
        "the program: map with MAP_SHARED, or map single pages privately",
        "the driver: clear VM_MAYWRITE when the mapping is not writable (vm_flags_clear(vma, VM_MAYWRITE)), so that a \
         private read-only mapping never becomes copy-on-write",
        "the driver: if private writable mappings are wanted, map by page faults (vm_operations_struct.fault), which copy",
    ],
};

const IGNORED_ERROR: Cause = Cause {
    name: "ignored-error",
    severity: Severity::Error,
    why: "the driver did not look at the result, so the program got an address with nothing behind it: its first touch \
          raises SIGBUS",
    next: &[
        "the driver: return what the mapping function returned; the kernel then undoes what was mapped, and mmap fails",
    ],
};

const CALL_FAILED: Cause = Cause {
    name: "call-failed",
    severity: Severity::Error,
    why: "the driver passed the error on, so mmap failed with it",
    next: &["the function's own checks say what it wants: see its chapter in the guide"],
};

const OFFSET_IS_ID: Cause = Cause {
    name: "offset-is-id",
    severity: Severity::Error,
    why: "vm_pgoff is read as an offset inside the buffer, in pages (dma_common_mmap in \
          kernel/dma/ops_helpers.c, dma_direct_mmap in kernel/dma/direct.c, __vm_map_pages in mm/memory.c); a driver \
          that has a buffer's id there asks for a part beyond the buffer's end, \
          or, with a small id, for the wrong part",
    next: &[
        "the driver: look the buffer up, then set vma->vm_pgoff = 0 before the call (or use vm_map_pages_zero)",
    ],
};

const BEYOND_MAPPED: Cause = Cause {
    name: "beyond-mapped",
    severity: Severity::Error,
    why: "the driver made no entry for this page and has no fault handler that could, so the fault is a SIGBUS (do_fault \
          in mm/memory.c)",
    next: &[
        "the program: map no more than the buffer has, from an offset within it",
        "the driver: compare offset + length with the buffer's size in mmap, and refuse with -EINVAL what passes its end",
    ],
};

const FAULT_REFUSED: Cause = Cause {
    name: "fault-refused",
    severity: Severity::Error,
    why: "the driver's fault handler said VM_FAULT_SIGBUS for this page: for it there is no memory there",
    next: &[
        "the program: touch only what the buffer has",
        "the driver: refuse in mmap what the handler would refuse later, and check vmf->pgoff, which has the mapping's \
         offset in it",
    ],
};

const FLAG_MISSING: Cause = Cause {
    name: "pfn-flag-missing",
    severity: Severity::Error,
    why: "a frame may be inserted by number only where the VMA says so: vmf_insert_pfn wants VM_PFNMAP, or VM_MIXEDMAP \
          for frames without a page (else BUG_ON), vmf_insert_mixed wants VM_MIXEDMAP (else VM_FAULT_SIGBUS) \
          (mm/memory.c)",
    next: &[
        "the driver: in mmap, vm_flags_set(vma, VM_PFNMAP | VM_IO | VM_DONTEXPAND | VM_DONTDUMP) for vmf_insert_pfn, or \
         VM_MIXEDMAP for vmf_insert_mixed",
    ],
};

const PRIVATE_PFN: Cause = Cause {
    name: "copy-on-write-at-fault",
    severity: Severity::Error,
    why: "a page fault cannot insert a frame by number into a private mapping that may become writable: there is no page \
          to copy, and the kernel stops with BUG_ON (vmf_insert_pfn_prot in mm/memory.c)",
    next: &[
        "the driver: in mmap, refuse mappings for which (vm_flags & (VM_SHARED | VM_MAYWRITE)) == VM_MAYWRITE",
        "the program: MAP_SHARED",
    ],
};

const INSERT_FAILED: Cause = Cause {
    name: "insert-failed",
    severity: Severity::Error,
    why: "the frame could not be inserted: the address is outside the VMA, or the frame's number is not one of this \
          machine's (vmf_insert_pfn_prot in mm/memory.c)",
    next: &[
        "the driver: insert at vmf->address; who works it out from vmf->pgoff must take vma->vm_pgoff off first",
        "the driver: check the frame's number (a DMA address or a kernel address is none)",
    ],
};

const NOTHING_BEHIND: Cause = Cause {
    name: "nothing-behind",
    severity: Severity::Error,
    why: "mapping a frame does not ask whether anything answers there: reads come back as all ones (or zeros), and writes \
          are lost, without a word",
    next: &[
        "compare the address with /proc/iomem and the device's documentation; on a PC, firmware may have moved it",
        "the driver: request_mem_region the range, and check that a written word reads back before offering it",
    ],
};

const UNCACHED_RAM: Cause = Cause {
    name: "uncached-ram",
    severity: Severity::Warning,
    why: "the frames are ordinary RAM, which the kernel has cached: on x86 the wish is dropped, with a line in the log at \
          most (reserve_pfn_range and pfnmap_setup_cachemode of arch/x86/mm/pat/memtype.c), elsewhere two views \
          disagree; and where it is granted, reads are 5 to 30 times slower",
    next: &[
        "the driver: leave vma->vm_page_prot as it is for RAM; where a device does not snoop the caches, use \
         dma_mmap_coherent, which knows what the device needs",
    ],
};

const NO_PAGES: Cause = Cause {
    name: "no-pages",
    severity: Severity::Error,
    why: "the mapping has frames by number (VM_PFNMAP), which have no pages for get_user_pages: O_DIRECT, io_uring's fixed \
          buffers, RDMA, vmsplice and process_vm_readv all need them and get EFAULT (check_vma_flags in mm/gup.c)",
    next: &[
        "the program: copy through an ordinary buffer, or read and write without O_DIRECT",
        "the driver: for RAM, insert pages instead (vm_insert_pages, vm_map_pages, or a fault handler that returns them)",
    ],
};

const OUTLIVED: Cause = Cause {
    name: "outlived",
    severity: Severity::Error,
    why: "remap_pfn_range takes no reference: the pages went back to the allocator, somebody else gets them, and the \
          program still reads and writes them",
    next: &[
        "the driver: keep the memory until the last mapping is gone: count in vm_ops->open and ->close, or give each buffer \
         a file of its own that its mappings hold (a dma-buf), and free in its release",
        "or take the mappings away first: unmap_mapping_range",
    ],
};

const FILE_END: Cause = Cause {
    name: "file-end",
    severity: Severity::Error,
    why: "the page lies beyond the file's end (filemap_fault in mm/filemap.c)",
    next: &["the program: make the file as long as the mapping (ftruncate) before touching it"],
};

const WRITE_PROTECTED: Cause = Cause {
    name: "write-protected",
    severity: Severity::Error,
    why: "the mapping's permissions do not allow it",
    next: &[
        "the program: open the file for writing, and map it with PROT_WRITE (or PROT_READ, or PROT_EXEC: what it did)",
    ],
};

/// Everything that was found, the worst first.
pub fn find(history: &History, life: &Life, iomem: &Iomem) -> Vec<Finding> {
    let mut findings = Vec::new();
    for mapping in &history.mappings {
        findings.extend(failed_call(mapping));
        findings.extend(freed(mapping));
        findings.extend(uncached(mapping, iomem));
        findings.extend(unknown_frames(mapping, iomem));
    }
    for insert in &history.inserts {
        findings.extend(bad_insert(history, insert, iomem));
    }
    for pin in &history.pins {
        findings.extend(without_pages(history, pin));
    }
    for fault in &life.faults {
        if let Some(finding) = signal(history, fault, &findings) {
            findings.push(finding);
        }
    }
    let mut seen = Vec::new();
    findings.retain(|finding: &Finding| {
        let key = (
            finding.cause,
            finding.file.clone(),
            finding.function.clone(),
        );
        let new = !seen.contains(&key);
        if new {
            seen.push(key);
        }
        new
    });
    findings.sort_by_key(|finding| finding.severity);
    findings
}

impl Cause {
    fn found(&self, mapping: &Mapping, what: String) -> Finding {
        Finding {
            cause: self.name,
            severity: self.severity,
            what,
            why: self.why,
            next: self.next.to_vec(),
            file: mapping.file.clone(),
            function: mapping.driver(),
        }
    }
}

fn failed_call(mapping: &Mapping) -> Option<Finding> {
    let call = failed(mapping).next()?;
    let count = failed(mapping)
        .filter(|other| other.function == call.function)
        .count();
    let (start, end) = (call.get("start"), call.get("end"));
    let address = call.number("addr").unwrap_or(start);
    let pages = end.saturating_sub(start) / PAGE;
    let mut what = format!(
        "{} returned {} (page {} of {pages}) inside {}",
        call.function,
        name_of(call.result()),
        address.saturating_sub(start) / PAGE + 1,
        mapping.driver()
    );
    if count > 1 {
        what += &format!(", the first of {count} failures");
    }
    let ignored = mapping.result >= 0;
    what += &if ignored {
        ", and the driver's mmap returned 0 all the same".to_owned()
    } else {
        format!(", and mmap failed with {}", name_of(mapping.result))
    };
    let offset = call.get("pgoff");
    let size = match call.function.as_str() {
        "dma_mmap_attrs" => call.get("size").div_ceil(PAGE),
        "vm_map_pages" => call.get("num"),
        _ => 0,
    };
    let whole = address == start && call.get("size").div_ceil(PAGE) == pages;
    let cause = if call.function == "remap_pfn_range"
        && call.result() == EINVAL
        && vm::is_cow(call.get("flags"))
        && !whole
    {
        &COPY_ON_WRITE
    } else if call.result() == ENXIO && offset > 0 && pages <= size {
        what += &format!(
            "; vm_pgoff is {offset}, the buffer has {size} pages, and {pages} are to be mapped"
        );
        &OFFSET_IS_ID
    } else if call.result() == ENXIO && size > 0 {
        what += &format!("; the buffer has {size} pages, and {pages} are to be mapped");
        &BEYOND_MAPPED
    } else if ignored {
        &IGNORED_ERROR
    } else {
        &CALL_FAILED
    };
    Some(cause.found(mapping, what))
}

fn freed(mapping: &Mapping) -> Option<Finding> {
    let (pfn, doing) = mapping.freed.first()?;
    let during = match doing {
        Some(Doing { number, arguments }) if *number == nr::IOCTL => format!(
            " during ioctl(fd {}, {:#x})",
            arguments.first().unwrap_or(&0),
            arguments.get(1).unwrap_or(&0)
        ),
        Some(Doing { number, arguments }) if *number == nr::CLOSE => {
            format!(" during close({})", arguments.first().unwrap_or(&0))
        }
        _ => String::new(),
    };
    let what = format!(
        "frame {pfn:#x} was freed{during} while it was mapped at {:#x} ({} pages, mapped by remap_pfn_range inside {})",
        mapping.address,
        mapping.pages(),
        mapping.driver()
    );
    Some(OUTLIVED.found(mapping, what))
}

fn uncached(mapping: &Mapping, iomem: &Iomem) -> Option<Finding> {
    if cfg!(not(target_arch = "x86_64")) {
        return None;
    }
    let call = mapping.calls.iter().find(|call| {
        call.function == "remap_pfn_range"
            && call.result() == 0
            && call.get("asked") & NOT_CACHED != 0
            // Granted: the driver has changed the kernel's own view of this memory before, and knows what it does.
            && call.get("granted") & NOT_CACHED == 0
            && iomem.is_ram(call.get("pfn") * PAGE)
    })?;
    let mode = match call.get("asked") & NOT_CACHED {
        0x8 => "a write-combined",
        _ => "an uncached",
    };
    let what = format!(
        "remap_pfn_range was asked for {mode} mapping of RAM at {:#x} inside {}",
        call.get("pfn") * PAGE,
        mapping.driver()
    );
    Some(UNCACHED_RAM.found(mapping, what))
}

fn unknown_frames(mapping: &Mapping, iomem: &Iomem) -> Option<Finding> {
    mapping.filled.iter().find_map(|part| {
        let physical = part.pfn? * PAGE;
        let unknown = iomem.is_unknown(physical, part.length);
        let reads = match iomem.sight(physical) {
            Some(Sight::Ones) => ", and reads only ones",
            Some(Sight::Zeros) => ", and reads only zeros",
            Some(Sight::Answers) => return None,
            None if unknown => "",
            None => return None,
        };
        let known = match iomem.name(physical) {
            Some(name) => format!("which /proc/iomem calls {name}"),
            None => "where /proc/iomem knows nothing".to_owned(),
        };
        let what = format!(
            "remap_pfn_range mapped {physical:#x}-{:#x} inside {}, {known}{reads}",
            physical + part.length.saturating_sub(1),
            mapping.driver()
        );
        let mut finding = NOTHING_BEHIND.found(mapping, what);
        if !unknown {
            // Memory that nobody wrote to, or a device that is all zeros, looks the same.
            finding.severity = Severity::Warning;
        }
        Some(finding)
    })
}

fn bad_insert(history: &History, insert: &Call, iomem: &Iomem) -> Option<Finding> {
    // The address that was asked for may lie outside.
    let mapping = history.at(insert.get("start"))?;
    let flags = insert.get("flags");
    let begin = insert.function.ends_with("_begin");
    let function = insert.function.trim_end_matches("_begin");
    let handler = insert.text("fault").map(symbol);
    // A call at a function's end leaves no trace of its caller.
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
    } else if begin && flags & vm::MIXEDMAP != 0 && iomem.is_ram(insert.get("pfn") * PAGE) {
        what += &format!(
            ", among them VM_MIXEDMAP (0x10000000), and for frame {:#x}, which is RAM and has a page",
            insert.get("pfn")
        );
        &FLAG_MISSING
    } else if begin {
        return None;
    } else {
        let (start, end) = (insert.get("start"), insert.get("end"));
        let address = insert.get("addr");
        what = format!(
            "{function} failed inside {inside} for frame {:#x} at {address:#x}",
            insert.get("pfn")
        );
        if !(start..end).contains(&address) {
            what += &format!(", which is outside of the mapping ({start:#x}-{end:#x})");
        }
        &INSERT_FAILED
    };
    let mut finding = cause.found(mapping, what);
    finding.function = inside;
    Some(finding)
}

fn without_pages(history: &History, pin: &Call) -> Option<Finding> {
    let address = pin.get("addr");
    let mapping = history.at(address)?;
    if mapping.flags & vm::PFNMAP == 0 {
        return None;
    }
    let what = format!(
        "{} returned -EFAULT for {address:#x}, in the mapping of {} that {} made by frame number",
        pin.function,
        mapping.file,
        mapping.driver()
    );
    Some(NO_PAGES.found(mapping, what))
}

/// The cause of a signal, unless it has been found already.
fn signal(history: &History, fault: &Fault, found: &[Finding]) -> Option<Finding> {
    let address = fault.address;
    let mapping = history.at(address)?;
    let known = found.iter().any(|finding| {
        finding.file == mapping.file
            && finding.severity == Severity::Error
            && !matches!(finding.cause, "no-pages" | "outlived")
    });
    if known {
        return None;
    }
    let page = address.saturating_sub(mapping.address) / PAGE + 1;
    let at = format!(
        "{} at {address:#x}, page {page} of {} of the mapping of {}",
        fault.signal,
        mapping.pages(),
        mapping.file
    );
    if fault.signal == "SIGSEGV" {
        let permissions = fault.vma.as_ref().map(|vma| vma.permissions.clone());
        return (fault.code == SEGV_ACCERR).then(|| {
            let permissions = permissions.unwrap_or_default();
            WRITE_PROTECTED.found(
                mapping,
                format!("{at}, which has the permissions {permissions}"),
            )
        });
    }
    if mapping.regular {
        return Some(FILE_END.found(mapping, at));
    }
    let given_up = history.faults.iter().rev().find(|call| {
        call.get("addr") & !(PAGE - 1) == address & !(PAGE - 1)
            && call.get("ret") & VM_FAULT_SIGBUS != 0
    });
    let handler = given_up.and_then(|call| call.text("fault").map(symbol));
    match handler {
        // Drivers without a handler have an empty table of operations; the functions of the kernel's own are no
        // driver's.
        Some(handler) if !handler.starts_with("0x0") && !mapping.is_filled(address) => {
            let mut finding =
                FAULT_REFUSED.found(mapping, format!("{at}: {handler} had no page for it"));
            finding.function = handler;
            Some(finding)
        }
        _ if mapping.is_filled(address) => None,
        _ => {
            let mapped: u64 = mapping.filled.iter().map(|part| part.length).sum();
            let what = format!(
                "{at}: {} mapped {} of its {} pages, and not this one",
                mapping.driver(),
                mapped / PAGE,
                mapping.pages()
            );
            Some(BEYOND_MAPPED.found(mapping, what))
        }
    }
}

/// `-EINVAL`
fn name_of(result: i64) -> String {
    i32::try_from(-result)
        .ok()
        .and_then(errno_name)
        .map_or_else(|| result.to_string(), |name| format!("-{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::trace;

    const MMAP: &str = "sys_enter: NR 9 (0, 2000, 1, 2, 3, 0)";

    fn diagnose(lines: &[&str], life: &Life) -> Vec<&'static str> {
        let text: Vec<_> = (1..)
            .zip(lines)
            .map(|(time, line)| format!(" p-7 [000] 1.{time:06}: {line}"))
            .collect();
        let history = History::of(&trace::parse(&text.join("\n")));
        let iomem = Iomem::of("00100000-0fffffff : System RAM\nfe000000-feffffff : PCI Bus\n");
        find(&history, life, &iomem)
            .into_iter()
            .map(|finding| finding.cause)
            .collect()
    }

    fn remap(pfn: u64, page: u64, asked: u64, ret: i32, flags: u64) -> String {
        let addr = 0x7000 + page * PAGE;
        format!(
            "remap_pfn_range: (my_mmap+0x4/0x9 [maps] <- remap_pfn_range) addr={addr:#x} pfn={pfn:#x} size=0x1000 \
             asked={asked:#x} ret={ret} start=0x7000 end=0x9000 flags={flags:#x} pgoff=0x0 prot=0x25"
        )
    }

    const REGION: &str = "mmap_region: (do_mmap+0x1/0x2 <- mmap_region) addr=0x7000 size=0x2000 flags=0x71 ret=0x7000 \
                          mode=0x21a4 mmap=my_mmap+0x0/0x9 [maps] name=\"maps0\"";
    const MAPPED: &str = "sys_exit: NR 9 = 28672";

    #[test]
    fn question_b_is_answered() {
        let lines = [
            MMAP,
            &remap(0x200, 0, 0x25, -22, 0x71),
            &remap(0x300, 1, 0x25, -22, 0x71),
            REGION,
            MAPPED,
        ];
        assert_eq!(diagnose(&lines, &Life::default()), ["copy-on-write"]);
    }

    #[test]
    fn a_right_driver_gives_no_finding() {
        let lines = [
            MMAP,
            &remap(0x200, 0, 0x25, 0, 0xfb),
            &remap(0x300, 1, 0x25, 0, 0xfb),
            REGION,
            MAPPED,
            "sys_enter: NR 11 (7000, 2000, 0, 0, 0, 0)",
            "sys_exit: NR 11 = 0",
            "mm_page_free: page=00001 pfn=0x200 order=0",
        ];
        assert!(diagnose(&lines, &Life::default()).is_empty());
    }

    #[test]
    fn what_is_freed_while_mapped_is_seen() {
        let lines = [
            MMAP,
            &remap(0x200, 0, 0x25, 0, 0xfb),
            REGION,
            MAPPED,
            "sys_enter: NR 16 (3, 6d01, 0, 0, 0, 0)",
            "mm_page_free: page=00001 pfn=0x200 order=0",
            "sys_exit: NR 16 = 0",
        ];
        assert_eq!(diagnose(&lines, &Life::default()), ["outlived"]);
    }

    #[test]
    fn frames_and_cache_modes_are_compared_with_iomem() {
        let lines = [MMAP, &remap(0x200, 0, 0x3f, 0, 0xfb), REGION, MAPPED];
        assert_eq!(diagnose(&lines, &Life::default()), ["uncached-ram"]);
        // Memory that the driver has made uncached in the kernel's view, too.
        let granted =
            "pfnmap_track: (remap_pfn_range+0x4/0x9 <- pfnmap_track) granted=0x8000000000000037";
        let lines = [
            MMAP,
            granted,
            &remap(0x200, 0, 0x3f, 0, 0xfb),
            REGION,
            MAPPED,
        ];
        assert!(diagnose(&lines, &Life::default()).is_empty());
        let lines = [MMAP, &remap(0xd0000, 0, 0x3f, 0, 0xfb), REGION, MAPPED];
        assert_eq!(diagnose(&lines, &Life::default()), ["nothing-behind"]);
        let lines = [MMAP, &remap(0xfe000, 0, 0x3f, 0, 0xfb), REGION, MAPPED];
        assert!(diagnose(&lines, &Life::default()).is_empty());
    }

    #[test]
    fn a_page_without_an_entry_is_found() {
        let life = Life {
            faults: vec![Fault {
                pid: 7,
                signal: "SIGBUS",
                code: 2,
                address: 0x8010,
                vma: None,
            }],
            ..Life::default()
        };
        let lines = [MMAP, &remap(0x200, 0, 0x25, 0, 0xfb), REGION, MAPPED];
        assert_eq!(diagnose(&lines, &life), ["beyond-mapped"]);
    }
}
