//! Every allocation that an operation makes fails once, one after the other, until the operation succeeds untouched.
//! Each time the answer is an error and nothing stays behind, and the session goes on working.
//!
//! Needs a kernel with fault injection; elsewhere these are skipped.

use crate::check::{Failure, Outcome};
use crate::session::{alloc_request, id_offset, named_path, Session};
use crate::sys::{self, Map, PAGE, PRIVATE, READ, RW, SHARED};
use crate::{check, check_eq, skip};
use mapbuf_abi::{Cache, Kind, Method};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;

const KINDS: &[Kind] = &[Kind::Vmalloc, Kind::Pages, Kind::Contiguous, Kind::Coherent];

tests! { "faults":
    FAULTS, 240: [
        open_with_failing_memory,
        alloc_with_failing_memory,
        uncached_alloc_with_failing_memory,
        name_with_failing_memory,
        export_with_failing_memory,
        import_with_failing_memory,
        offset_with_failing_memory,
        mmap_with_failing_memory,
        touch_with_failing_memory,
        load_with_failing_memory,
    ];
}

/// The kernel's switch for the calling thread.
pub struct Injection(File);

impl Injection {
    /// Prepares the kernel: without this nothing is ever injected into allocations that may wait.
    pub fn new() -> Outcome<Self> {
        let Ok(own) = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/proc/thread-self/fail-nth")
        else {
            skip!("the kernel has no fault injection");
        };
        for (file, value) in [
            ("failslab/ignore-gfp-wait", "N"),
            ("failslab/verbose", "0"),
            ("fail_page_alloc/ignore-gfp-wait", "N"),
            ("fail_page_alloc/ignore-gfp-highmem", "N"),
            ("fail_page_alloc/min-order", "0"),
            ("fail_page_alloc/verbose", "0"),
            ("fail_usercopy/verbose", "0"),
        ] {
            let path = format!("/sys/kernel/debug/{file}");
            fs::write(&path, value).map_err(|error| Failure::new(format!("{path}: {error}")))?;
        }
        Ok(Self(own))
    }

    /// Runs `f` while its `nth` chance to fail does; whether that chance came.
    pub fn at<T>(&mut self, nth: u32, f: impl FnOnce() -> T) -> Outcome<(T, bool)> {
        self.set(nth)?;
        let result = f();
        let mut left = [0; 16];
        // A chance that is left may come in the copying of this very answer, and then in none that counts.
        let came = match self.0.read_at(&mut left, 0) {
            Ok(length) => left[..length].trim_ascii() == b"0",
            Err(_) => false,
        };
        while self.0.write_all(b"0").is_err() {}
        Ok((result, came))
    }

    fn set(&mut self, nth: u32) -> Outcome {
        self.0.write_all(nth.to_string().as_bytes())?;
        Ok(())
    }
}

/// Buffers and bytes that the driver counts.
fn held() -> Outcome<(u64, u64)> {
    let query = Session::open()?.query()?;
    Ok((query.buffers, query.used_bytes))
}

/// Waits until the driver holds what it held before.
fn comes_back(before: (u64, u64), what: &str, nth: u32) -> Outcome {
    let mut now = (0, 0);
    let same = sys::until(std::time::Duration::from_secs(5), || {
        now = held().unwrap_or((u64::MAX, u64::MAX));
        now == before
    });
    check!(
        same,
        "{what}, chance {nth}: held {before:?} before, {now:?} after"
    );
    Ok(())
}

/// Fails chance after chance of `f`, which answers with what it made or an `errno`; `undo` takes that back.
fn sweep<T>(
    what: &str,
    mut f: impl FnMut() -> Result<T, i32>,
    mut undo: impl FnMut(T) -> Outcome,
) -> Outcome {
    let mut injection = Injection::new()?;
    // What is cached on first use is not counted.
    if let Ok(made) = f() {
        undo(made)?;
    }
    let before = held()?;
    let (mut injected, mut refused) = (0, 0);
    for nth in 1..2000 {
        let (result, came) = injection.at(nth, &mut f)?;
        match result {
            Ok(made) => undo(made)?,
            Err(errno) => {
                check!(
                    [libc::ENOMEM, libc::EFAULT, libc::EMFILE, libc::ENFILE].contains(&errno),
                    "{what}, chance {nth}: errno {errno}"
                );
                check!(
                    came,
                    "{what}, chance {nth} did not come, and the result is {errno}"
                );
                refused += 1;
            }
        }
        comes_back(before, what, nth)?;
        if !came {
            check!(injected > 0, "{what}: nothing was injected");
            println!("# {what}: {injected} faults, {refused} refusals");
            return Ok(());
        }
        injected += 1;
    }
    Err(Failure::new(format!("{what} never succeeded untouched")))
}

fn open_with_failing_memory() -> Outcome {
    sweep(
        "open",
        || Session::open().map_err(|error| error.0),
        |session| {
            drop(session);
            Ok(())
        },
    )
}

fn alloc_with_failing_memory() -> Outcome {
    let session = Session::open()?;
    for &kind in KINDS {
        for pages in [1, 3, 9] {
            sweep(
                &format!("ALLOC of {pages} pages {}", kind.name()),
                || {
                    session
                        .alloc(kind, pages * PAGE)
                        .map_err(|error| error.errno.0)
                },
                |buffer| Ok(session.free(buffer.id)?),
            )?;
        }
    }
    Ok(())
}

fn uncached_alloc_with_failing_memory() -> Outcome {
    let session = Session::open()?;
    for kind in [Kind::Vmalloc, Kind::Pages, Kind::Contiguous] {
        sweep(
            &format!("ALLOC of uncached {}", kind.name()),
            || {
                let mut request = alloc_request(kind, 3 * PAGE as u64);
                request.cache = Cache::Uncached.number();
                session
                    .ioctl(mapbuf_abi::ioctl::ALLOC, request)
                    .map_err(|error| error.errno.0)
            },
            |buffer| Ok(session.free(buffer.id)?),
        )?;
    }
    Ok(())
}

fn name_with_failing_memory() -> Outcome {
    let session = Session::open()?;
    let buffer = session.alloc(Kind::Pages, PAGE)?;
    sweep(
        "NAME",
        || {
            session
                .name(buffer.id, "failing", 0o600)
                .map_err(|error| error.errno.0)
        },
        |()| Ok(session.unname("failing")?),
    )?;
    check!(!named_path("failing").exists(), "the node is still there");
    Ok(())
}

fn export_with_failing_memory() -> Outcome {
    let session = Session::open()?;
    let buffer = session.alloc(Kind::Pages, PAGE)?;
    sweep(
        "EXPORT",
        || session.export(buffer.id).map_err(|error| error.errno.0),
        |descriptor| {
            drop(descriptor);
            Ok(())
        },
    )
}

fn import_with_failing_memory() -> Outcome {
    use std::os::fd::AsRawFd;
    let session = Session::open()?;
    let buffer = session.alloc(Kind::Pages, PAGE)?;
    let descriptor = session.export(buffer.id)?;
    sweep(
        "IMPORT",
        || {
            session
                .import(descriptor.as_raw_fd(), 0)
                .map_err(|error| error.errno.0)
        },
        |imported| Ok(session.free(imported.id)?),
    )
}

fn offset_with_failing_memory() -> Outcome {
    let session = Session::open()?;
    // Each success keeps its offset, so each try is on a buffer of its own.
    let mut ids = Vec::new();
    for _ in 0..200 {
        ids.push(session.alloc(Kind::Pages, PAGE)?.id);
    }
    let mut ids = ids.into_iter();
    sweep(
        "OFFSET",
        || {
            let id = ids.next().ok_or(0)?;
            session
                .offset(id, Method::Insert)
                .map_err(|error| error.errno.0)
        },
        |_| Ok(()),
    )
}

fn mmap_with_failing_memory() -> Outcome {
    let session = Session::open()?;
    for &kind in KINDS {
        let buffer = session.alloc(kind, 9 * PAGE)?;
        for &method in Method::ALL {
            let offset = session.offset(buffer.id, method)?;
            if session.map(9 * PAGE, RW, SHARED, offset).is_err() {
                // This cell is refused in any case.
                continue;
            }
            sweep(
                &format!("mmap of {} by {}", kind.name(), method.name()),
                || {
                    session
                        .map(9 * PAGE, RW, SHARED, offset)
                        .map_err(|error| error.errno.0)
                },
                |map| {
                    drop(map);
                    Ok(())
                },
            )?;
            check_eq!(session.info(buffer.id)?.mappings, 0, "mappings left");
        }
        session.free(buffer.id)?;
    }
    Ok(())
}

/// A fault for which there is no memory is tried again, or ends the process; nothing is lost.
fn touch_with_failing_memory() -> Outcome {
    let session = Session::open()?;
    let mut injection = Injection::new()?;
    for &kind in KINDS {
        for (prot, flags) in [(RW, SHARED), (READ, PRIVATE)] {
            let buffer = session.alloc(kind, 3 * PAGE)?;
            session.pwrite(b"there", buffer.mmap_offset + PAGE as u64)?;
            for nth in 1..40 {
                let map = session.map(3 * PAGE, prot, flags, id_offset(buffer.id))?;
                let (seen, came) = injection.at(nth, || touch(&map))?;
                check_eq!(seen, b't', "{} at chance {nth}", kind.name());
                drop(map);
                if !came {
                    break;
                }
            }
            session.free(buffer.id)?;
        }
    }
    Ok(())
}

fn touch(map: &Map) -> u8 {
    map.u8(PAGE)
}

/// A module whose start fails at any point leaves nothing, and can be loaded afterwards.
fn load_with_failing_memory() -> Outcome {
    let mut injection = Injection::new()?;
    let Some(path) = std::env::var_os("MAPBUF_MODULE") else {
        skip!("no module file is named");
    };
    let file = File::open(path)?;
    sys::unload_module("mapbuf")?;
    let mut injected = 0;
    for nth in 1..5000 {
        let (result, came) = injection.at(nth, || sys::load_module(&file, ""))?;
        if result.is_ok() {
            sys::unload_module("mapbuf")?;
        }
        check!(
            !std::path::Path::new("/dev/mapbuf").exists(),
            "/dev/mapbuf is still there after chance {nth}"
        );
        if !came {
            break;
        }
        injected += 1;
    }
    sys::load_module(&file, "")?;
    check!(injected > 0, "nothing was injected");
    println!("# load: {injected} faults");
    Ok(())
}
