//! Why a call of a mapping function failed, from its arguments.

use super::{
    catalogue::*,
    finding::{name_of, Finding, MadeOf, Seen, Sure},
    frames::{self, kpf, PAGE},
    history::{failed, vm},
    trace::Call,
};

const ENXIO: i64 = -6;
const EINVAL: i64 = -22;

/// The lines of the log about the cache modes of a range.
pub fn pat_line<'a>(seen: &'a Seen<'_>, start: u64, mark: &str) -> Option<&'a str> {
    let address = format!("{start:#010x}");
    let bare = format!("{start:x}-");
    seen.log
        .lines
        .iter()
        .map(|line| line.text.as_str())
        .find(|text| {
            text.starts_with("x86/PAT")
                && text.contains(mark)
                && (text.contains(&address) || text.contains(&bare))
        })
}

/// The cause of a mapping function's failure, in a driver's `mmap` that returned `result`.
pub fn failed_call(
    seen: &Seen<'_>,
    calls: &[Call],
    result: i64,
    file: &str,
    driver: &str,
) -> Option<Finding> {
    let call = failed(calls).next()?;
    let count = failed(calls)
        .filter(|other| other.function == call.function)
        .count();
    let (start, end) = (call.get("start"), call.get("end"));
    let address = call.number("addr").unwrap_or(start);
    let pages = end.saturating_sub(start) / PAGE;
    let mut what = format!(
        "{} returned {} (page {} of {pages}) inside {driver}",
        call.function,
        name_of(call.result()),
        address.saturating_sub(start) / PAGE + 1,
    );
    if count > 1 {
        what += &format!(", the first of {count} failures");
    }
    let ignored = result >= 0;
    what += &if ignored {
        ", but the driver's mmap returned 0".to_owned()
    } else if result != call.result() {
        format!(
            ", and the driver turned it into {}: mmap failed with {}",
            name_of(result),
            name_of(result)
        )
    } else {
        format!(", and mmap failed with {}", name_of(result))
    };
    let shown = event_of(call);
    let found = |cause: &Cause, what: String| {
        Finding::new(cause, file.to_owned(), driver.to_owned(), what).event(shown.clone())
    };
    // dma_buf_mmap is told.
    if let Some(finding) = not_insertable(seen, call, file, driver) {
        return Some(Finding {
            what: format!("{what}: {}", finding.what),
            ..finding
        });
    }
    let offset = call
        .number("asked_pgoff")
        .unwrap_or_else(|| call.get("pgoff"));
    let size = match call.function.as_str() {
        "dma_mmap_attrs" | "vm_iomap_memory" | "dma_buf_mmap" => call.get("size").div_ceil(PAGE),
        "vm_map_pages" => call.get("num"),
        _ => 0,
    };
    let whole = address == start && call.get("size").div_ceil(PAGE) == pages;
    let remap = failed(calls).find(|call| call.function == "remap_pfn_range");
    if let Some(remap) = remap {
        let physical = remap.get("pfn") << 12;
        let line = pat_line(seen, physical, "conflicting memory types")
            .or_else(|| pat_line(seen, physical, "map pfn expected mapping type"))
            .or_else(|| pat_line(seen, physical, "memtype_reserve failed"));
        if let Some(line) = line {
            return Some(found(&CACHE_CONFLICT, what).log(line));
        }
        if let Some(finding) =
            frame_that_is_none(seen, remap.get("pfn"), file, driver, &remap.function)
        {
            return Some(finding.event(shown));
        }
    }
    if call.function == "remap_pfn_range"
        && call.result() == EINVAL
        && vm::is_cow(call.get("flags"))
        && !whole
    {
        return Some(found(&COPY_ON_WRITE, what));
    }
    if let Some((cause, why)) = vmalloc_refused(call, pages) {
        what += &format!(": {why}");
        if let Some(cause) = cause.filter(|_| !ignored) {
            return Some(found(cause, what));
        }
    }
    let says_invalid = matches!(call.function.as_str(), "vm_iomap_memory" | "dma_buf_mmap");
    let beyond = call.result() == ENXIO || (says_invalid && call.result() == EINVAL);
    if beyond && offset > 0 && size > 0 && pages <= size {
        what += &format!(
            "; vm_pgoff is {offset}, the buffer has {size} pages, and {pages} were to be mapped"
        );
        return Some(found(&OFFSET_IS_ID, what));
    }
    if beyond && size > 0 && pages + offset > size {
        what += &format!("; the buffer has {size} pages, and {pages} were to be mapped");
        return Some(found(&BEYOND_BUFFER, what));
    }
    Some(found(
        if ignored {
            &IGNORED_ERROR
        } else {
            &CALL_FAILED
        },
        what,
    ))
}

/// Why `remap_vmalloc_range` refused, from the area that it found (`include/linux/vmalloc.h`). Where that was not seen, what it
/// checks, and no cause.
fn vmalloc_refused(call: &Call, pages: u64) -> Option<(Option<&'static Cause>, String)> {
    const FOR_USERS: u64 = 0x8 | 0x10;
    const NO_GUARD: u64 = 0x40;
    if !call.function.starts_with("remap_vmalloc_range") || call.result() != EINVAL {
        return None;
    }
    let kernel = call.get("kernel");
    if kernel % PAGE != 0 {
        let why = format!("the buffer begins {} bytes into a page", kernel % PAGE);
        return Some((Some(&NOT_FOR_USERS), why));
    }
    let Some(area) = call.number("area") else {
        let why = format!(
            "what it checks is whether the area at {kernel:#x} was allocated by vmalloc_user (VM_USERMAP), and has \
             {pages} pages from vm_pgoff ({}) on",
            call.get("pgoff")
        );
        return Some((None, why));
    };
    if area == 0 {
        let why = format!("{kernel:#x} is not in an area of vmalloc's");
        return Some((Some(&NOT_FOR_USERS), why));
    }
    let (flags, size) = (call.number("area_flags")?, call.number("area_size")?);
    if flags & FOR_USERS == 0 {
        let why = format!(
            "the area has the flags {flags:#x}, without VM_USERMAP (0x8): it was not allocated by vmalloc_user"
        );
        return Some((Some(&NOT_FOR_USERS), why));
    }
    let guard = if flags & NO_GUARD == 0 { PAGE } else { 0 };
    let why = format!(
        "the area has {} pages, and {pages} were to be mapped (vm_pgoff is {})",
        size.saturating_sub(guard) / PAGE,
        call.get("pgoff")
    );
    Some((Some(&BEYOND_BUFFER), why))
}

/// A page that `vm_insert_page` and similar functions do not accept (`validate_page_before_insert` of `mm/memory.c`).
pub fn not_insertable(seen: &Seen<'_>, call: &Call, file: &str, driver: &str) -> Option<Finding> {
    let one = call.function == "vm_insert_page";
    if call.result() != EINVAL || !(one || call.function == "vm_insert_pages") {
        return None;
    }
    let (page, vmemmap) = (call.number("page")?, call.number("vmemmap")?);
    let pfn = frames::frame_of(page, vmemmap, 64);
    let found = |cause: &Cause, what: String| {
        Finding::new(cause, file.to_owned(), driver.to_owned(), what).event(event_of(call))
    };
    let look = seen.frames.seen(pfn);
    if let Some(look) = look.filter(|look| look.flags & kpf::SLAB != 0) {
        let cache = look.cache.as_ref();
        let cache = cache.map_or_else(String::new, |(name, _)| format!(" of the cache {name}"));
        let what = format!("frame {pfn:#x} is slab memory{cache}, which cannot be inserted");
        let shown = format!(
            "/proc/kpageflags: frame {pfn:#x} has the flags {:#x} ({})",
            look.flags,
            frames::kind(look.flags)
        );
        return Some(found(&SLAB_MEMORY, what).proc(shown));
    }
    let compound = kpf::COMPOUND_HEAD | kpf::COMPOUND_TAIL;
    let uncounted = one && call.number("count") == Some(0);
    if uncounted && look.is_none_or(|look| look.flags & compound == 0) {
        let what = format!(
            "frame {pfn:#x} has a count of 0: it is free, or in a block without __GFP_COMP, in which only the first \
            page has a count"
        );
        return Some(found(&PAGE_NOT_INSERTABLE, what));
    }
    let anonymous = look.filter(|look| look.flags & kpf::ANON != 0)?;
    let what = format!(
        "frame {pfn:#x} is {}, which is not the driver's",
        frames::kind(anonymous.flags)
    );
    Some(found(&PAGE_NOT_INSERTABLE, what).proc(format!(
        "/proc/kpageflags: frame {pfn:#x} has the flags {:#x}",
        anonymous.flags
    )))
}

/// A call as a person would write it.
pub fn event_of(call: &Call) -> String {
    let mut text = format!("{}(", call.function);
    let shown: Vec<_> = ["addr", "pfn", "page", "size", "num"]
        .into_iter()
        .filter_map(|name| Some(format!("{name}={}", call.fields.get(name)?)))
        .collect();
    text += &shown.join(", ");
    text += ")";
    if call.unfinished {
        text += ", which did not return";
    } else if call.function.starts_with("vmf_") {
        text += &format!(" = {}", fault_name(call.result_bits()));
    } else {
        text += &format!(" = {}", name_of(call.result()));
    }
    if let Some(function) = call.module_function() {
        text += &format!(" in {function}");
    }
    text
}

/// `VM_FAULT_NOPAGE`
pub fn fault_name(bits: u64) -> String {
    let names = [
        (0x1, "VM_FAULT_OOM"),
        (0x2, "VM_FAULT_SIGBUS"),
        (0x10, "VM_FAULT_HWPOISON"),
        (0x40, "VM_FAULT_SIGSEGV"),
        (0x100, "VM_FAULT_NOPAGE"),
        (0x200, "VM_FAULT_LOCKED"),
        (0x400, "VM_FAULT_RETRY"),
    ];
    let found: Vec<_> = names
        .into_iter()
        .filter(|(bit, _)| bits & bit != 0)
        .map(|(_, name)| name)
        .collect();
    if found.is_empty() {
        return format!("{bits:#x}");
    }
    found.join(" | ")
}

/// A number that is not a frame of this machine.
pub fn frame_that_is_none(
    seen: &Seen<'_>,
    pfn: u64,
    file: &str,
    driver: &str,
    function: &str,
) -> Option<Finding> {
    let physical = pfn.checked_shl(12)?;
    let known = pfn < 1 << 52 && !seen.iomem.is_unknown(physical, PAGE);
    if known || !seen.iomem.can_see() {
        return None;
    }
    let new = |cause: &Cause, what: String| {
        Finding::new(cause, file.to_owned(), driver.to_owned(), what).sure(Sure::Follows)
    };
    let bits = seen.facts.physical_bits;
    let limit = bits.map_or_else(String::new, |bits| {
        format!("/proc/cpuinfo: {bits} bits physical")
    });
    // A page offset is still in it: an address, not a frame's number. A kernel address shifted, too.
    let too_large = bits.is_some_and(|bits| pfn >> (bits.max(12) - 12).min(52) != 0);
    match seen.made_of(pfn) {
        Some(MadeOf::Vmalloc(address)) => {
            let what = format!(
                "{function} was called with frame {pfn:#x} inside {driver}, where there is no memory; it is the \
                result of virt_to_phys for {address:#x}, which is in vmalloc's range"
            );
            return Some(new(&FRAME_OF_VMALLOC, what).proc("/proc/iomem has nothing there"));
        }
        Some(MadeOf::User(address)) if too_large => {
            let what = format!(
                "{function} was called with frame {pfn:#x} inside {driver}; it is the result of virt_to_phys for the \
                program's own address {address:#x}"
            );
            return Some(new(&FRAME_IMPOSSIBLE, what).proc(limit));
        }
        _ => {}
    }
    if !too_large {
        return None;
    }
    let mut what = format!(
        "{function} was called with frame {pfn:#x} inside {driver}, which this processor cannot address"
    );
    let whole = pfn >> 56 == 0xff;
    if whole {
        what += ": it is a kernel address, not a frame number";
    } else if pfn >> 44 == 0xff {
        what += &format!(
            ": it is the kernel's virtual address {:#x}, shifted by PAGE_SHIFT",
            pfn << 12
        );
    } else if pfn < 1 << 52 && !seen.iomem.is_unknown(pfn, 1) {
        what += &format!(
            ": it is the physical address of {}, not shifted by PAGE_SHIFT",
            seen.iomem.name(pfn).unwrap_or("something")
        );
    }
    Some(new(&FRAME_IMPOSSIBLE, what).proc(limit))
}
