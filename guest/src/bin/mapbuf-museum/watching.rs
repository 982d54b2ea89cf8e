//! How `mapbuf diagnose` comes and goes: what it attaches to goes on, and nothing of it stays behind.

use super::{causes, diagnose, end_of, instances, nothing_is_left, send, Outcome};
use rustix::pty::{grantpt, openpt, ptsname, unlockpt, OpenptFlags};
use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

const EINVAL: &str = "22";
const CALL_FAILED: &str = "/museum/visit /dev/broken-call-failed 4";

/// Waits for something that is about to happen.
fn wait_for(what: &str, mut happened: impl FnMut() -> bool) -> Outcome {
    for _ in 0..6000 {
        if happened() {
            return Ok(());
        }
        sleep(Duration::from_millis(50));
    }
    Err(format!("{what} did not come about"))
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// The terminal in which it runs is closed: what hangs up its session is no reason to leave anything.
pub fn closed_terminal_ends_it() -> Outcome {
    // An end that mapbuf inherits would keep it open.
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal = openpt(flags).map_err(text)?;
    grantpt(&terminal).map_err(text)?;
    unlockpt(&terminal).map_err(text)?;
    let name = ptsname(&terminal, Vec::new()).map_err(text)?;
    let name = name.to_string_lossy().into_owned();
    let end = File::options()
        .read(true)
        .write(true)
        // It is to be the terminal of mapbuf's session, not of this one.
        .custom_flags(libc::O_NOCTTY)
        .open(name)
        .map_err(text)?;
    let copy = || end.try_clone().map_err(text);
    let mut child = Command::new("setsid")
        .args(["-c", "mapbuf", "diagnose", "--", "sleep", "100"])
        .stdin(copy()?)
        .stdout(copy()?)
        .stderr(copy()?)
        .spawn()
        .map_err(text)?;
    drop(end);
    wait_for("an instance of its own", || !instances().is_empty())?;
    sleep(Duration::from_secs(2));
    drop(terminal);
    let mut ended = false;
    wait_for("its end", || {
        ended = matches!(child.try_wait(), Ok(Some(_)));
        ended
    })?;
    nothing_is_left()
}

/// A child that outlives the program, and so the tracer, calls the function in which a trap was.
pub fn no_trap_is_left() -> Outcome {
    let path = "/tmp/lingered";
    let _ = fs::remove_file(path);
    diagnose(&["/museum/visit", "lingering", path])?;
    wait_for("the child's word", || {
        fs::read_to_string(path).is_ok_and(|text| text.ends_with('\n'))
    })?;
    let said = fs::read_to_string(path).map_err(text)?;
    if said.trim() != EINVAL {
        return Err(format!("errno was {said}"));
    }
    Ok(())
}

/// A process that uses a driver again and again.
fn daemon() -> Result<Child, String> {
    Command::new("sh")
        .args([
            "-c",
            &format!("while true; do {CALL_FAILED}; sleep 1; done"),
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(text)
}

fn watch(words: &[&str]) -> Result<Child, String> {
    Command::new("mapbuf")
        .arg("diagnose")
        .args(words)
        .stderr(Stdio::null())
        .spawn()
        .map_err(text)
}

/// A process that runs is watched for some seconds, or until a signal comes; then it goes on, and nobody traces it.
pub fn attaches() -> Outcome {
    let mut daemon = daemon()?;
    let outcome = attach(&mut daemon);
    let _ = daemon.kill();
    let _ = daemon.wait();
    outcome
}

fn attach(daemon: &mut Child) -> Outcome {
    let number = daemon.id().to_string();
    let file = "/tmp/attached.json";
    for end in ["--seconds", "-INT"] {
        // On a slow machine it takes long until everything is watched; meanwhile nothing is found, and nothing wrong.
        let mut said = String::new();
        for seconds in ["8", "40", "200"] {
            let _ = fs::remove_file(file);
            let mut words = vec!["--json", "--output", file, "--attach", &number];
            if end == "--seconds" {
                words.extend([end, seconds]);
            }
            let watcher = watch(&words)?;
            if end == "-INT" {
                wait_for("an instance of its own", || !instances().is_empty())?;
                sleep(Duration::from_secs(seconds.parse().map_err(text)?));
                send(&watcher, end)?;
            }
            let status = end_of(watcher)?;
            said = fs::read_to_string(file).unwrap_or_default();
            let found = causes(&said);
            if status.success() && found == ["not-for-users"] {
                break;
            }
            if !status.success() || !found.is_empty() || seconds == "200" {
                return Err(format!("{end}: {status}: {said}"));
            }
        }
        if !said.contains("calls of mmap that its C library refused by itself") {
            return Err(format!("{end}: what is not seen is not said: {said}"));
        }
        let status = fs::read_to_string(format!("/proc/{number}/status")).map_err(text)?;
        if !status.lines().any(|line| line == "TracerPid:\t0") || status.contains("T (") {
            return Err(format!("it is not let go: {status}"));
        }
        nothing_is_left()?;
    }
    let mut gone = watch(&["--attach", "4194303"])?;
    match gone.wait().map_err(text)?.code() {
        Some(125) => Ok(()),
        code => Err(format!("a process that is not there: {code:?}")),
    }
}

/// Each call that fails anywhere is a line.
pub fn whole_machine() -> Outcome {
    let path = "/tmp/all.txt";
    for json in [false, true] {
        let _ = fs::remove_file(path);
        let mut words = vec!["--all", "--output", path];
        words.extend(json.then_some("--json"));
        let watcher = watch(&words)?;
        wait_for("its file", || Path::new(path).exists())?;
        sleep(Duration::from_secs(3));
        let mut daemon = daemon()?;
        let seen = wait_for("a line for the driver", || {
            fs::read_to_string(path).is_ok_and(|text| {
                text.lines()
                    .any(|line| line.contains("not-for-users") && line.contains("my_mmap"))
            })
        });
        let _ = daemon.kill();
        let _ = daemon.wait();
        send(&watcher, "-INT")?;
        let status = end_of(watcher)?;
        let said = fs::read_to_string(path).unwrap_or_default();
        seen.map_err(|why| format!("{why}: {said}"))?;
        if !status.success() || json != said.starts_with('{') {
            return Err(format!("{status}: {said}"));
        }
        nothing_is_left()?;
    }
    Ok(())
}
