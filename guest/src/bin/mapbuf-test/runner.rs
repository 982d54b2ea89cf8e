//! Runs each test in a process of its own, and looks at what it leaves behind.

use crate::check::Failure;
use crate::proc::{module_loaded, whereabouts, Log};
use crate::session::Session;
use crate::sys::{self, Child, Ending};
use crate::tests::counts::Held;
use crate::tests::Test;
use mapbuf_abi::{NAMED_DIR, SYSTEM_NODE};
use mapbuf_guest::profile::PER_ROUND;
use mapbuf_init::clock::{self, Stopwatch};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long memory may take to come back: the last reference to a file is dropped in task work.
const GRACE: Duration = Duration::from_secs(3);

/// How long a test may leave the guest without anything to do: it waits for what does not come. The kit, which gives up
/// the whole guest, waits a little longer.
const IDLE: Duration = Duration::from_secs(30);

/// Runs the tests, in order, and says how it went.
pub fn run(tests: &[Test]) -> ExitCode {
    println!("plan {}", tests.len());
    sys::adopt_orphans();
    keep_free_pages_in_sight();
    let mut log = Log::from_now();
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    let mut before = Left::look();
    for test in tests {
        let start = Instant::now();
        let mut verdict = run_one(test);
        if let Some(line) = log.splat(test.forgiven()) {
            // Worse than whatever the test found by itself.
            verdict = Err(Failure::Failed(format!("the kernel says: {line}")));
        }
        let mut after = Left::look();
        if after != before {
            sys::until(GRACE, || {
                after = Left::look();
                after == before
            });
        }
        if after != before {
            let why = format!("leaves behind {after:?}, was {before:?}");
            verdict = match verdict {
                Err(Failure::Failed(first)) => Err(Failure::Failed(format!("{first}; {why}"))),
                _ => Err(Failure::Failed(why)),
            };
            after.clean(&before);
            before = Left::look();
        }
        let name = test.name();
        let took = start.elapsed();
        match verdict {
            Ok(()) => {
                passed += 1;
                println!("ok {name}");
            }
            Err(Failure::Skipped(why)) => {
                skipped += 1;
                println!("skipped {name}: {}", one_line(&why));
            }
            Err(Failure::Failed(why)) => {
                failed += 1;
                println!("FAILED {name}: {}", one_line(&why));
            }
        }
        if std::env::var_os("MAPBUF_TEST_TIMES").is_some() {
            println!("# {name} took {} ms", took.as_millis());
        }
    }
    let skipped = if skipped > 0 {
        format!(", {skipped} skipped")
    } else {
        String::new()
    };
    println!("{passed} passed, {failed} failed{skipped}");
    ExitCode::from(u8::from(failed > 0))
}

/// Free pages on the per-CPU lists count as used, tens of MiB of them. Small lists make MemAvailable a good witness.
fn keep_free_pages_in_sight() {
    // Where it cannot be set, the tests that look at free memory wait longer, and say so if that was not enough.
    let _ = std::fs::write("/proc/sys/vm/percpu_pagelist_high_fraction", "1000000");
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn run_one(test: &Test) -> Result<(), Failure> {
    let (mut read, mut write) = sys::pipe().map_err(Failure::from)?;
    let child = sys::fork(move || {
        sys::lead_group();
        let panicked = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
        let message = std::sync::Arc::clone(&panicked);
        std::panic::set_hook(Box::new(move |info| {
            if let Ok(mut message) = message.lock() {
                *message = info.to_string();
            }
        }));
        let verdict = std::panic::catch_unwind(AssertUnwindSafe(|| (test.body)()));
        let (status, why) = match verdict {
            Ok(Ok(())) => (0, String::new()),
            Ok(Err(Failure::Failed(why))) => (1, why),
            Ok(Err(Failure::Skipped(why))) => (2, why),
            Err(_) => (
                1,
                panicked
                    .lock()
                    .map_or_else(|_| "panicked".into(), |message| message.clone()),
            ),
        };
        // If the runner is gone, nobody wants to know.
        let _ = write.write_all(why.as_bytes());
        status
    })
    .map_err(Failure::from)?;
    let rounds = PER_ROUND * mapbuf_guest::rounds().unwrap_or(0);
    let deadline = (test.deadline + rounds) * mapbuf_guest::patience();
    let waited = wait(&child, deadline);
    child.kill_group();
    sys::reap();
    let why = |read: &mut std::fs::File| {
        let mut why = String::new();
        // Whatever came is what there is to say.
        let _ = read.read_to_string(&mut why);
        why
    };
    match waited {
        Ok(Ending::Exited(0)) => Ok(()),
        Ok(Ending::Exited(1)) => Err(Failure::Failed(why(&mut read))),
        Ok(Ending::Exited(2)) => Err(Failure::Skipped(why(&mut read))),
        Ok(ending) => Err(Failure::Failed(format!("ended so: {ending:?}"))),
        Err(why) => Err(Failure::Failed(why)),
    }
}

/// Waits for a test's end; why it was ended otherwise.
fn wait(child: &Child, deadline: Duration) -> Result<Ending, String> {
    let start = Stopwatch::start();
    let mut nap = Duration::from_millis(1);
    loop {
        if let Some(ending) = child.ended() {
            return Ok(ending);
        }
        let took = start.elapsed();
        // What the host says of idleness may be a second old, and speak of the test before.
        let idle = clock::idle() > IDLE && took > IDLE;
        if idle || took > deadline {
            let threads = whereabouts(child.pid);
            child.kill_group();
            // One that cannot be killed hangs in the kernel; it is left to the runner outside.
            let gone = sys::until(GRACE, || child.ended().is_some());
            let what = if idle {
                format!(
                    "did nothing for {} s: it waits for what does not come",
                    IDLE.as_secs()
                )
            } else {
                format!(
                    "did not end within {} s of the guest's own time",
                    deadline.as_secs()
                )
            };
            return Err(if gone {
                format!("{what}; {threads}")
            } else {
                format!("{what}, and hangs in the kernel; {threads}")
            });
        }
        std::thread::sleep(nap);
        nap = (nap * 2).min(Duration::from_millis(20));
    }
}

/// What the driver holds.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Left {
    loaded: bool,
    held: Held,
    names: BTreeSet<String>,
    /// What root may set: the parameters that the tests change, and the mode of the system node.
    settings: Vec<(String, String)>,
}

const PARAMETERS: &[&str] = &[
    "max_bytes",
    "max_bytes_per_user",
    "max_buffers",
    "max_names",
];

fn settings() -> Vec<(String, String)> {
    let mode = std::fs::metadata(SYSTEM_NODE).map_or(0, |node| node.permissions().mode());
    let parameters = PARAMETERS.iter().map(|name| {
        let path = format!("/sys/module/mapbuf/parameters/{name}");
        let value = std::fs::read_to_string(&path).unwrap_or_default();
        (path, value)
    });
    parameters
        .chain([("mode".to_owned(), format!("{mode:o}"))])
        .collect()
}

impl Left {
    fn look() -> Self {
        sys::reap();
        let names = std::fs::read_dir(NAMED_DIR)
            .map(|entries| {
                entries
                    .flatten()
                    .map(|entry| entry.file_name().to_string_lossy().into_owned())
                    .collect()
            })
            .unwrap_or_default();
        Self {
            loaded: module_loaded("mapbuf"),
            // There is nothing to ask when the module is gone.
            held: Held::now().unwrap_or_default(),
            names,
            settings: settings(),
        }
    }

    /// Takes away what can be, so that the next test is not blamed.
    fn clean(&self, before: &Self) {
        if !self.loaded && before.loaded {
            // The next test says it if this fails.
            let _ = crate::tests::module::load();
        }
        for (path, value) in &before.settings {
            // The same.
            let _ = match path.as_str() {
                "mode" => std::fs::set_permissions(SYSTEM_NODE, PermissionsExt::from_mode(0o660)),
                _ => std::fs::write(path, value),
            };
        }
        let Ok(session) = Session::open() else { return };
        for name in self.names.difference(&before.names) {
            // The same.
            let _ = session.unname(name);
        }
    }
}
