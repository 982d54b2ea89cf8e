//! The kernel's own selftests, built from its sources: `tools/testing/selftests/mm/pfnmap.c` on a node of each kind of
//! memory that is mapped by page frame when nobody asks for a method.
//!
//! Of the program: it maps two pages from offset 0 on, shared, of a file opened for reading; it ends with
//! a skip if the VMA has no `VM_PFNMAP`; and it has six cases.

use super::questions::example;
use crate::check::{Failure, Outcome};
use crate::proc::{vma_at, Parameter};
use crate::session::{alloc_request, named_path, Session};
use crate::sys::{Map, PAGE, RW, SHARED};
use crate::{check, check_eq};
use mapbuf_abi::{ioctl, Alloc, Cache, Kind};
use std::os::fd::AsRawFd;
use std::path::Path;

tests! { "selftests":
    PEERS, 60: [
        pfnmap_on_coherent_memory,
        pfnmap_on_contiguous_memory_from_cma,
        pfnmap_on_region_of_ram,
        pfnmap_on_region_of_uncached_ram,
        pfnmap_on_region_of_write_combined_ram,
        pfnmap_on_region_of_a_device,
        pfnmap_leaves_out_memory_that_is_mapped_by_page,
        dmabuf_heaps_passes_on_each_of_ours,
        heap_gives_buffers_that_are_charged_and_mapped,
    ];
}

/// The cases of the program in 7.2 and 7.3; a later one may have more.
const CASES: usize = 6;

/// What a program said in the Test Anything Protocol.
#[derive(Debug, Default, Eq, PartialEq)]
struct Tap {
    planned: Option<usize>,
    passed: usize,
    failed: usize,
    /// Left out, or known to fail: neither shows that something works.
    skipped: usize,
}

impl Tap {
    fn read(text: &str) -> Self {
        let mut tap = Self::default();
        for line in text.lines() {
            if let Some(plan) = line.strip_prefix("1..") {
                let number = plan.split(' ').next().unwrap_or_default();
                tap.planned = number.parse().ok();
                tap.skipped += usize::from(plan.contains("# SKIP"));
            } else if line.starts_with("not ok ") {
                tap.failed += 1;
            } else if line.starts_with("ok ") {
                let left_out = ["# SKIP", "# XFAIL", "# TODO"];
                if left_out.iter().any(|directive| line.contains(directive)) {
                    tap.skipped += 1;
                } else {
                    tap.passed += 1;
                }
            }
        }
        tap
    }
}

/// Runs it on a file: how it ended, what it counted, and all that it said.
fn pfnmap(path: &Path) -> Outcome<(Option<i32>, Tap, String)> {
    let mut program = example("pfnmap")?;
    let output = program.arg("--").arg(path).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    let tap = Tap::read(&said);
    Ok((output.status.code(), tap, said + &complained))
}

/// It passes on this node, with no case left out.
fn passes_on(path: &Path) -> Outcome {
    let (status, tap, said) = pfnmap(path)?;
    let Tap {
        planned,
        passed,
        failed,
        skipped,
    } = tap;
    check!(
        status == Some(0) && planned == Some(passed) && passed >= CASES && failed + skipped == 0,
        "pfnmap ended with {status:?}, {passed} of {planned:?} passed, {failed} failed, {skipped} skipped: {said}"
    );
    let path = path.display();
    println!("note pfnmap on {path}: {passed} of {passed} passed, {skipped} skipped");
    Ok(())
}

/// A named buffer, for the time of `body`.
fn with_node(request: Alloc, name: &str, body: impl FnOnce(&Path) -> Outcome) -> Outcome {
    let session = Session::open()?;
    let buffer = session.ioctl(ioctl::ALLOC, request)?;
    session.name(buffer.id, name, 0o600)?;
    let result = body(&named_path(name));
    session.unname(name)?;
    result
}

fn pfnmap_on_coherent_memory() -> Outcome {
    let request = alloc_request(Kind::Coherent, 16 * PAGE as u64);
    with_node(request, "coherent", passes_on)
}

// There is hardly another run of so many frames (see the profile): what there is gets used up.
fn pfnmap_on_contiguous_memory_from_cma() -> Outcome {
    let _limits = [
        Parameter::set("max_bytes", 1 << 50)?,
        Parameter::set("max_bytes_per_user", 1 << 50)?,
    ];
    let others = Session::open()?;
    loop {
        let session = Session::open()?;
        let request = alloc_request(Kind::Contiguous, 160 << 20);
        let buffer = session.ioctl(ioctl::ALLOC, request)?;
        let map = session.map(PAGE, RW, SHARED, buffer.mmap_offset)?;
        let vma = vma_at(map.start).unwrap_or_default();
        if vma.has("pf") {
            session.name(buffer.id, "contiguous-cma", 0o600)?;
            let result = passes_on(&named_path("contiguous-cma"));
            session.unname("contiguous-cma")?;
            return result;
        }
        others.import(session.export(buffer.id)?.as_raw_fd(), 0)?;
    }
}

fn pfnmap_on_region_of_ram() -> Outcome {
    passes_on(&named_path("ram"))
}

fn pfnmap_on_region_of_uncached_ram() -> Outcome {
    passes_on(&named_path("uc"))
}

fn pfnmap_on_region_of_write_combined_ram() -> Outcome {
    passes_on(&named_path("wc"))
}

// Nothing answers at its address, which the emulated machine reads as zeros.
fn pfnmap_on_region_of_a_device() -> Outcome {
    passes_on(&named_path("dev"))
}

// All other kinds: `pfnmap_init` of tools/testing/selftests/mm/pfnmap.c leaves, and that is not taken for a success.
fn pfnmap_leaves_out_memory_that_is_mapped_by_page() -> Outcome {
    for (kind, cache) in [
        (Kind::Vmalloc, Cache::Cached),
        (Kind::Pages, Cache::Cached),
        (Kind::Contiguous, Cache::Cached),
        (Kind::Contiguous, Cache::Uncached),
    ] {
        let mut request = alloc_request(kind, 16 * PAGE as u64);
        request.cache = cache.number();
        with_node(request, "paged", |path| {
            let (status, tap, said) = pfnmap(path)?;
            // KSFT_SKIP of tools/testing/selftests/kselftest.h.
            check_eq!(status, Some(4), "{kind:?}, {cache:?}, status");
            check_eq!(
                (tap.passed, tap.skipped),
                (0, 1),
                "{kind:?}, {cache:?}, {said}"
            );
            match passes_on(path) {
                Err(Failure::Failed(_)) => Ok(()),
                other => Err(Failure::new(format!("{kind:?}: taken for {other:?}"))),
            }
        })?;
    }
    Ok(())
}

/// The heaps that `dma_heaps=1` adds.
const HEAPS: [&str; 2] = ["mapbuf-pages", "mapbuf-contiguous"];

// The program goes through all heaps that there are, ours among them, and says which it is at.
fn dmabuf_heaps_passes_on_each_of_ours() -> Outcome {
    let output = example("dmabuf-heap")?.output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let tap = Tap::read(&said);
    check_eq!(output.status.code(), Some(0), "status; {said}");
    check!(tap.failed == 0 && tap.passed > 0, "{said}");
    for heap in HEAPS {
        check!(said.contains(heap), "{heap} was left out: {said}");
    }
    Ok(())
}

// `DMA_HEAP_IOCTL_ALLOC` of `uapi/linux/dma-heap.h`, as any program of its own does it.
fn heap_gives_buffers_that_are_charged_and_mapped() -> Outcome {
    use std::os::fd::FromRawFd;
    #[repr(C)]
    struct Request {
        len: u64,
        fd: u32,
        fd_flags: u32,
        heap_flags: u64,
    }
    let session = Session::open()?;
    for heap in HEAPS {
        let node = std::fs::File::open(format!("/dev/dma_heap/{heap}"))?;
        let before = session.query()?.used_bytes;
        let mut request = Request {
            len: 3 * PAGE as u64,
            fd: 0,
            fd_flags: (libc::O_RDWR | libc::O_CLOEXEC) as u32,
            heap_flags: 0,
        };
        // SAFETY: the struct has the 24 bytes that the number says.
        let done = unsafe { libc::ioctl(node.as_raw_fd(), 0xc018_4800, &raw mut request) };
        check_eq!(done, 0, "{heap}: {}", std::io::Error::last_os_error());
        // SAFETY: the descriptor was just made for us.
        let buffer = unsafe { std::fs::File::from_raw_fd(request.fd as i32) };
        let charged = session.query()?.used_bytes - before;
        check_eq!(charged, 3 * PAGE as u64, "{heap}: bytes charged");
        let map = Map::new(&buffer, 3 * PAGE, RW, SHARED, 0)?;
        check_eq!(map.u32(2 * PAGE), 0, "{heap}: zeroed");
        map.set_u32(2 * PAGE, 7);
        // It is a buffer like any other.
        let imported = session.import(buffer.as_raw_fd(), 0)?;
        let same = session.map(3 * PAGE, RW, SHARED, imported.mmap_offset)?;
        check_eq!(same.u32(2 * PAGE), 7, "{heap}: the same bytes");
        session.free(imported.id)?;
        drop((map, same, buffer));
        check_eq!(session.query()?.used_bytes, before, "{heap}: given back");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_did_not_pass() {
        let tap = |planned, passed, failed, skipped| Tap {
            planned,
            passed,
            failed,
            skipped,
        };
        let text =
            "TAP version 13\n1..4\n# a\nok 1 a\nok 2 b # SKIP no\nnot ok 3 c\nok 4 d # XFAIL\n";
        assert_eq!(Tap::read(text), tap(Some(4), 1, 1, 2));
        assert_eq!(
            Tap::read("TAP version 13\n1..0 # SKIP no such file\n"),
            tap(Some(0), 0, 0, 1)
        );
        assert_eq!(Tap::read(""), Tap::default());
    }
}
