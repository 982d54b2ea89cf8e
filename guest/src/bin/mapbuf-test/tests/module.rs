//! Loading and unloading, in a guest of their own.

use super::sharing::{numbered, shows};
use crate::check::{fails, Failure, Outcome};
use crate::proc::{meminfo, module_loaded};
use crate::session::{Session, KINDS};
use crate::sys::{self, until, Errno, Map, PAGE, RW, SHARED};
use crate::{check, check_eq, skip};
use mapbuf_abi::{DEV_DIR, SYSFS_CLASS, SYSTEM_NODE};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

tests! { "module":
    RELOAD, 20: [
        unload_with_an_open_session_is_refused,
        unload_with_a_mapping_is_refused,
        unload_with_a_dma_buf_is_refused,
        unload_with_a_named_buffer_is_refused,
        unload_with_an_open_named_node_is_refused,
        unload_takes_everything_away,
        load_twice_is_refused,
        load_with_parameters,
        regions_ask_the_lockdown,
        dead_process_leaves_a_name_at_most,
    ];
    RELOAD, 180: [ many_loads_and_unloads_leak_nothing ];
}

/// The module's file.
fn module_file() -> Outcome<File> {
    let path = std::env::var("MAPBUF_MODULE").unwrap_or_else(|_| "/lib/modules/mapbuf.ko".into());
    File::open(&path).map_err(|error| Failure::new(format!("{path}: {error}")))
}

/// Loads the module, as the runner did.
pub fn load() -> Outcome {
    load_with("")
}

/// Loads it with parameters.
pub fn load_with(parameters: &str) -> Outcome {
    Ok(sys::load_module(&module_file()?, parameters)?)
}

/// Unloads it; the last reference may take a moment to go.
fn unload() -> Outcome {
    let mut result = Ok(());
    until(Duration::from_secs(3), || {
        result = sys::unload_module("mapbuf");
        result != Err(Errno(libc::EWOULDBLOCK))
    });
    Ok(result?)
}

/// With something that holds the module, unloading is refused; without it, it works.
fn holds<T>(what: impl FnOnce() -> Outcome<T>, still_there: impl FnOnce(&T) -> Outcome) -> Outcome {
    // `try_stop_module` of kernel/module/main.c: EWOULDBLOCK while there are references.
    let held = what()?;
    for _ in 0..3 {
        fails(sys::unload_module("mapbuf"), libc::EWOULDBLOCK)?;
    }
    check!(module_loaded("mapbuf"), "the module is gone");
    still_there(&held)?;
    drop(held);
    unload()?;
    check!(!module_loaded("mapbuf"), "the module is still there");
    load()?;
    Session::open()?.query()?;
    Ok(())
}

fn unload_with_an_open_session_is_refused() -> Outcome {
    holds(
        || Ok(Session::open()?),
        |session| {
            session.query()?;
            Ok(())
        },
    )
}

fn unload_with_a_mapping_is_refused() -> Outcome {
    for kind in KINDS {
        holds(
            || {
                let session = Session::open()?;
                let (_, map) = numbered(&session, kind, 8)?;
                Ok(map)
            },
            |map| shows(map, 0, 8, 0),
        )?;
    }
    Ok(())
}

// drivers/dma-buf/dma-buf.c takes a reference to the module that `exp_info.owner` names.
fn unload_with_a_dma_buf_is_refused() -> Outcome {
    for kind in KINDS {
        holds(
            || {
                let session = Session::open()?;
                let (buffer, _map) = numbered(&session, kind, 8)?;
                Ok(session.export(buffer.id)?)
            },
            |dma_buf| shows(&Map::new(dma_buf, 8 * PAGE, RW, SHARED, 0)?, 0, 8, 0),
        )?;
    }
    Ok(())
}

/// Takes a name away when it is dropped.
struct Named(&'static str);

impl Drop for Named {
    fn drop(&mut self) {
        // If it is there still, unloading fails, and says so.
        let _ = Session::open().map(|session| session.unname(self.0));
    }
}

fn unload_with_a_named_buffer_is_refused() -> Outcome {
    holds(
        || {
            let session = Session::open()?;
            let (buffer, _map) = numbered(&session, KINDS[0], 8)?;
            session.name(buffer.id, "holds", 0o600)?;
            Ok(Named("holds"))
        },
        |named| {
            shows(
                &Session::open_named(named.0, true)?.map(8 * PAGE, RW, SHARED, 0)?,
                0,
                8,
                0,
            )
        },
    )
}

fn unload_with_an_open_named_node_is_refused() -> Outcome {
    holds(
        || {
            let session = Session::open()?;
            let (buffer, _map) = numbered(&session, KINDS[1], 8)?;
            session.name(buffer.id, "holds-open", 0o600)?;
            let node = Session::open_named("holds-open", true);
            session.unname("holds-open")?;
            Ok(node?)
        },
        |node| shows(&node.map(8 * PAGE, RW, SHARED, 0)?, 0, 8, 0),
    )
}

fn unload_takes_everything_away() -> Outcome {
    unload()?;
    let left: Vec<_> = [SYSTEM_NODE, SYSFS_CLASS, "/sys/module/mapbuf"]
        .into_iter()
        .filter(|path| Path::new(path).exists())
        .collect();
    let devices = fs::read_to_string("/proc/devices")?;
    load()?;
    check_eq!(
        left,
        Vec::<&str>::new(),
        "what is left when the module is gone"
    );
    check!(
        !devices.contains("mapbuf"),
        "a device number is left: {devices}"
    );
    check!(
        Path::new(SYSTEM_NODE).exists(),
        "{SYSTEM_NODE} does not come back"
    );
    check!(Path::new(DEV_DIR).is_dir(), "{DEV_DIR} does not come back");
    Ok(())
}

fn load_twice_is_refused() -> Outcome {
    fails(sys::load_module(&module_file()?, ""), libc::EEXIST)?;
    Session::open()?.query()?;
    Ok(())
}

/// What kernel lockdown is asked for, as a probe of the kernel's sees it.
struct Lockdown(&'static str);

impl Lockdown {
    const EVENT: &'static str = "/sys/kernel/tracing/events/mapbuf_test/lockdown";

    fn watch() -> Outcome<Self> {
        let events = "/sys/kernel/tracing/kprobe_events";
        let probe = "p:mapbuf_test/lockdown security_locked_down what=$arg1:u32";
        fs::write(events, probe)?;
        fs::write(format!("{}/enable", Self::EVENT), "1")?;
        Ok(Self(events))
    }

    /// The numbers that it was asked for by this, with how often each was.
    fn asked(&self, action: impl FnOnce() -> Outcome) -> Outcome<BTreeMap<u32, usize>> {
        fs::write("/sys/kernel/tracing/trace", "")?;
        action()?;
        let trace = fs::read_to_string("/sys/kernel/tracing/trace")?;
        let numbers = trace
            .lines()
            .filter_map(|line| line.rsplit_once("what=")?.1.trim().parse().ok());
        let mut asked = BTreeMap::new();
        numbers.for_each(|number| *asked.entry(number).or_default() += 1);
        Ok(asked)
    }
}

impl Drop for Lockdown {
    fn drop(&mut self) {
        // What stays behind is an event of no more use.
        let _ = fs::write(format!("{}/enable", Self::EVENT), "0");
        let _ = fs::write(self.0, "-:mapbuf_test/lockdown");
    }
}

// `param_check_unsafe` of kernel/params.c asks for parameters with KERNEL_PARAM_FL_HWPARAM. A locked kernel takes no module
// that is not signed, so what can be seen here is that it is asked: once more than without the parameter, and for nothing
// else.
fn regions_ask_the_lockdown() -> Outcome {
    let symbols = fs::read_to_string("/proc/kallsyms")?;
    let has = |line: &str| line.ends_with(" security_locked_down");
    if !symbols.lines().any(has) {
        skip!("the kernel has no security modules to ask");
    }
    let lockdown = Lockdown::watch()?;
    let mut asked = Vec::new();
    for parameters in ["max_names=7", "regions=nowhere:0x90000000:4K:mmio"] {
        unload()?;
        asked.push(lockdown.asked(|| load_with(parameters))?);
        Session::open()?.unname("nowhere").ok();
    }
    drop(lockdown);
    unload()?;
    load()?;
    let [without, with] = [&asked[0], &asked[1]];
    let more: Vec<_> = with
        .iter()
        .filter(|(number, count)| without.get(number).unwrap_or(&0) < count)
        .collect();
    check_eq!(
        more.len(),
        1,
        "what more it was asked with regions= ({asked:?})"
    );
    Ok(())
}

fn load_with_parameters() -> Outcome {
    unload()?;
    let file = module_file()?;
    let bad = sys::load_module(&file, "max_bytes=many");
    let loaded = sys::load_module(
        &file,
        "max_bytes=8388608 max_bytes_per_user=4194304 max_buffers=2 max_names=1",
    );
    let result = (|| {
        loaded?;
        fails(bad, libc::EINVAL)?;
        let session = Session::open()?;
        let query = session.query()?;
        check_eq!(
            (query.max_bytes, query.max_bytes_per_user),
            (8 << 20, 4 << 20),
            "limits"
        );
        session.alloc(KINDS[0], PAGE)?;
        session.alloc(KINDS[0], PAGE)?;
        check!(session.alloc(KINDS[0], PAGE).is_err(), "a third buffer");
        Ok(())
    })();
    unload()?;
    load()?;
    result
}

/// Uses most of what the driver has, once.
fn use_everything() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        let (buffer, map) = session.mapped(kind, 16 * PAGE)?;
        map.set_u64(0, 1);
        session.name(buffer.id, "cycle", 0o600)?;
        let node = Session::open_named("cycle", true);
        session.unname("cycle")?;
        node?.map(PAGE, RW, SHARED, 0)?;
        session.export(buffer.id)?;
        // A refusal has a record that must go too.
        check!(session.free(77).is_err(), "an id that never was");
    }
    Ok(())
}

// A process has everything that can hold the module, also where no descriptor of its own shows it: in a message to
// itself that nobody will read (net/unix/garbage.c), and as pages in a pipe, which outlive it.
fn dead_process_leaves_a_name_at_most() -> Outcome {
    let pipe = sys::pipe()?;
    let (mut ready, mut go) = sys::pipe()?;
    let child = sys::fork(|| {
        let outcome: Outcome = (|| {
            let session = Session::open()?;
            for kind in KINDS {
                let (buffer, map) = session.mapped(kind, 4 * PAGE)?;
                let dma_buf = session.export(buffer.id)?;
                if kind == mapbuf_abi::Kind::Pages {
                    session.name(buffer.id, "left-behind", 0o600)?;
                    let node = Session::open_named("left-behind", true)?;
                    sys::splice_memory(&pipe.1, &map, 0, PAGE)?;
                    std::mem::forget((node.map(PAGE, RW, SHARED, 0)?, node));
                }
                sys::send_to_nobody(&dma_buf)?;
                std::mem::forget((map, dma_buf));
            }
            sys::send_to_nobody(session.file())?;
            std::mem::forget(session);
            go.write_all(b"x")?;
            loop {
                std::thread::sleep(Duration::from_secs(1));
            }
        })();
        i32::from(outcome.is_err())
    })?;
    let mut byte = [0];
    check_eq!(ready.read(&mut byte)?, 1, "word from the child");
    fails(sys::unload_module("mapbuf"), libc::EWOULDBLOCK)?;
    child.kill(libc::SIGKILL);
    child.wait();
    // The name is left; root takes it away.
    fails(sys::unload_module("mapbuf"), libc::EWOULDBLOCK)?;
    Session::open()?.unname("left-behind")?;
    // The kernel looks for such messages when a socket of anybody's is closed (`unix_release_sock` of net/unix/af_unix.c).
    drop(sys::sockets()?);
    unload()?;
    drop(pipe);
    load()
}

/// Areas of the kernel's virtual memory.
fn vmalloc_areas() -> usize {
    fs::read_to_string("/proc/vmallocinfo")
        .unwrap_or_default()
        .lines()
        .count()
}

/// Objects in use in each slab cache, when what is merely cached has been given back.
fn slab_objects() -> BTreeMap<String, u64> {
    for cache in fs::read_dir("/sys/kernel/slab")
        .into_iter()
        .flatten()
        .flatten()
    {
        // One that cannot be shrunk shows more noise, no more.
        let _ = fs::write(cache.path().join("shrink"), "1");
    }
    let text = fs::read_to_string("/proc/slabinfo").unwrap_or_default();
    let rows = text.lines().skip(2).filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
    });
    rows.collect()
}

/// Grace periods of RCU take most of the time of a load; expedited, more loads fit.
pub struct Expedited;

impl Expedited {
    pub fn new() -> Self {
        // Without it there are fewer cycles, which are counted below.
        let _ = fs::write("/sys/kernel/rcu_expedited", "1");
        Self
    }
}

impl Drop for Expedited {
    fn drop(&mut self) {
        // As above.
        let _ = fs::write("/sys/kernel/rcu_expedited", "0");
    }
}

// A thousand, or as many as half a minute holds under emulation. What each of a thousand would leak is seen with
// fewer: an object a cycle in the slab caches, a page a cycle in MemAvailable, an area a cycle in vmallocinfo.
fn many_loads_and_unloads_leak_nothing() -> Outcome {
    let _expedited = Expedited::new();
    let cycle = |number: usize| -> Outcome {
        if number % 4 == 0 {
            use_everything()?;
        }
        unload()?;
        load()
    };
    for number in 0..20 {
        cycle(number)?;
    }
    let memory = meminfo("MemAvailable");
    let slabs = slab_objects();
    let areas = vmalloc_areas();
    let start = Instant::now();
    let mut cycles = 0;
    while cycles < 1000 && (cycles < 100 || start.elapsed() < Duration::from_secs(30)) {
        cycle(cycles)?;
        cycles += 1;
    }
    // A page a cycle is `4 * cycles` KiB.
    let slack = 2 * cycles as u64;
    let mut now = 0;
    let back = until(Duration::from_secs(5), || {
        now = meminfo("MemAvailable");
        now + slack >= memory
    });
    check!(
        back,
        "{cycles} cycles: MemAvailable was {memory} KiB, is {now}"
    );
    let mut grown = Vec::new();
    let gone = until(Duration::from_secs(5), || {
        let now = slab_objects();
        let growth = |name: &String, count: &u64| {
            let before = slabs.get(name).copied().unwrap_or(0);
            count.saturating_sub(before)
        };
        grown = now
            .iter()
            .map(|(name, count)| (name.clone(), growth(name, count)))
            .filter(|(_, more)| *more > cycles as u64 / 2)
            .collect();
        grown.is_empty()
    });
    check!(gone, "{cycles} cycles: more slab objects: {grown:?}");
    let mut left = 0;
    let gone = until(Duration::from_secs(3), || {
        left = vmalloc_areas();
        left <= areas + 8
    });
    check!(
        gone,
        "{cycles} cycles: there were {areas} vmalloc areas, there are {left}"
    );
    Ok(())
}
