//! Reasons for what the kernel refuses although nothing is wrong with the request: one allocation of its own fails.
//!
//! Needs a kernel with fault injection; elsewhere these are skipped.

use super::faults::Injection;
use crate::check::{Failure, Outcome};
use crate::session::{alloc_request, Refused, Result, Session};
use crate::sys::{self, RW, SHARED};
use crate::{check_eq, skip};
use mapbuf_abi::{ioctl, Alloc, Cache, Kind, Method, Operation, Reason};
use std::fs::File;
use std::os::fd::AsRawFd;

tests! { "rare":
    FAULTS, 240: [
        cache_mode_that_cannot_be_changed,
        kernel_function_that_fails,
    ];
}

/// Fails one chance of `f` after the other until it is refused for this reason; what it makes is kept meanwhile.
///
/// Again and again: what is kept lets the kernel need a node more now and then, and the chance that counts comes one later.
fn until_refused<T>(reason: Reason, mut f: impl FnMut() -> Result<T>) -> Outcome<Refused> {
    let mut injection = Injection::new()?;
    let mut made = Vec::new();
    for nth in (1..60).cycle().take(600) {
        let (result, _) = injection.at(nth, &mut f)?;
        match result {
            Ok(one) => made.push(one),
            Err(refused) => {
                let said = refused.said.map(|said| said.reason);
                if said == Some(reason.number()) {
                    return Ok(refused);
                }
            }
        }
    }
    Err(Failure::new(format!("never refused as {reason:?}")))
}

// __split_large_page (arch/x86/mm/pat/set_memory.c): a page of the linear map that lies within an entry of 2 MiB gets
// another mode only if there is memory for a table; _set_pages_array makes EINVAL of it. Each try takes a new block of
// 4 MiB, and half of its second entry.
fn cache_mode_that_cannot_be_changed() -> Outcome {
    let session = Session::open()?;
    let refused = until_refused(Reason::CacheRefused, || -> Result<Alloc> {
        let mut request = alloc_request(Kind::Contiguous, 3 << 20);
        request.cache = Cache::Uncached.number();
        session.ioctl(ioctl::ALLOC, request)
    })?;
    let operands = [u64::from(Cache::Uncached.number()), libc::EINVAL as u64];
    crate::check::refused::<()>(
        Err(refused),
        Operation::Alloc,
        Reason::CacheRefused,
        &operands,
    )
}

// pfnmap_track_ctx_alloc (mm/memory.c) makes EINVAL of whatever pfnmap_track says, also where memtype_reserve
// (arch/x86/mm/pat/memtype.c) had no memory for its entry, which only ranges that are no RAM take.
fn kernel_function_that_fails() -> Outcome {
    let Some(path) = std::env::var_os("MAPBUF_MODULE") else {
        skip!("no module file is named");
    };
    let file = File::open(path)?;
    sys::unload_module("mapbuf")?;
    sys::load_module(&file, "regions=rare:0x30000000:64K:ram")?;
    let result = region_that_the_kernel_refuses();
    // Whatever came of it, the module goes back to what it was.
    let back = Session::open().map_err(Failure::from).and_then(|session| {
        session.unname("rare")?;
        drop(session);
        sys::until(std::time::Duration::from_secs(5), || {
            sys::unload_module("mapbuf").is_ok()
        });
        Ok(sys::load_module(&file, "")?)
    });
    result.and(back)
}

fn region_that_the_kernel_refuses() -> Outcome {
    let descriptor = Session::open_named("rare", true)?.export(0)?;
    let session = Session::open()?;
    let region = session.import(descriptor.as_raw_fd(), 0)?;
    let offset = session.offset(region.id, Method::Remap)?;
    let map = || session.map(region.bytes as usize, RW, SHARED, offset);
    let refused = until_refused(Reason::KernelRefused, map)?;
    let operands = [u64::from(Method::Remap.number()), libc::EINVAL as u64];
    crate::check::refused::<()>(
        Err(refused),
        Operation::Mmap,
        Reason::KernelRefused,
        &operands,
    )?;
    check_eq!(session.info(region.id)?.mappings, 0, "mappings left");
    Ok(())
}
