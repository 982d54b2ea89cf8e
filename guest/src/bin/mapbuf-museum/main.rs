//! Goes through the museum: each driver in `examples/broken` is loaded, a program uses it under `mapbuf diagnose`, and
//! the diagnosis must name the cause; drivers that are right must give none; and nothing may be left in tracefs.

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

const HALL: &str = "/museum";
const TRACEFS: &str = "/sys/kernel/tracing";
const SIGBUS: i32 = 128 + 7;

/// A driver that is wrong.
struct Exhibit {
    /// Its module, and with other dashes its node.
    module: &'static str,
    /// What the visitor is to do with it.
    visit: &'static str,
    /// What must be said.
    cause: &'static str,
    /// The function that must be named.
    function: &'static str,
    /// The visitor's exit status.
    status: i32,
}

const EXHIBITS: &[Exhibit] = &[
    exhibit(
        "copy_on_write",
        "16 0 private",
        "copy-on-write",
        "my_mmap",
        SIGBUS,
    ),
    exhibit("ignored_error", "4", "ignored-error", "my_mmap", SIGBUS),
    exhibit("call_failed", "4", "call-failed", "my_mmap", 1),
    exhibit("beyond_mapped", "8", "beyond-mapped", "my_mmap", SIGBUS),
    exhibit("fault_refused", "8", "fault-refused", "my_fault", SIGBUS),
    exhibit("offset_is_id", "4 7", "offset-is-id", "my_mmap", 1),
    exhibit("offset_is_id_pages", "4 7", "offset-is-id", "my_mmap", 1),
    exhibit(
        "pfn_flag_missing",
        "1",
        "pfn-flag-missing",
        "my_fault",
        SIGBUS,
    ),
    exhibit("nothing_behind", "4", "nothing-behind", "my_mmap", 0),
    exhibit("uncached_ram", "1", "uncached-ram", "my_mmap", 0),
    exhibit("no_pages", "1 0 shared vmread", "no-pages", "my_mmap", 1),
    exhibit("outlived", "1 0 shared free", "outlived", "my_mmap", 0),
];

const fn exhibit(
    module: &'static str,
    visit: &'static str,
    cause: &'static str,
    function: &'static str,
    status: i32,
) -> Exhibit {
    Exhibit {
        module,
        visit,
        cause,
        function,
        status,
    }
}

/// Uses of drivers that are right, and of the exhibits where they are: no cause may be found.
const RIGHT: &[(&str, &str)] = &[
    ("dma_heap", "dma-heap"),
    ("udmabuf", "udmabuf"),
    ("dev_mem", "/dev/mem 16 0xf0"),
    (
        "mapbuf_vmalloc_private",
        "/dev/mapbuf/named/museum-vmalloc 16 0 private",
    ),
    (
        "mapbuf_contiguous",
        "/dev/mapbuf/named/museum-contiguous 16",
    ),
    ("mapbuf_coherent", "/dev/mapbuf/named/museum-coherent 8 8"),
    ("copy_on_write_but_shared", "/dev/broken-copy-on-write 16"),
    ("beyond_mapped_but_within", "/dev/broken-beyond-mapped 4"),
];

type Outcome = Result<(), String>;

/// A test: its name, and what it does.
type Test = (String, Box<dyn Fn() -> Outcome>);

fn tests() -> Vec<Test> {
    let mut tests: Vec<Test> = Vec::new();
    for exhibit in EXHIBITS {
        tests.push((
            format!("museum::{}", exhibit.module),
            Box::new(|| is_diagnosed(exhibit)),
        ));
    }
    for (name, visit) in RIGHT {
        tests.push((
            format!("museum::nothing_wrong_with_{name}"),
            Box::new(|| is_right(visit)),
        ));
    }
    type Other = (&'static str, fn() -> Outcome);
    let others: [Other; 5] = [
        ("reading_shows_that_nothing_answers", reading_shows),
        ("exit_status_is_kept", status_is_kept),
        ("signals_end_it_cleanly", signals_end_it),
        ("a_killed_one_is_swept_up", killed_one_is_swept_up),
        ("without_privilege_it_says_so", says_what_is_missing),
    ];
    for (name, body) in others {
        tests.push((format!("museum::{name}"), Box::new(body)));
    }
    tests
}

fn main() -> ExitCode {
    let mut list = false;
    let mut show = false;
    let mut filter = String::new();
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--list" => list = true,
            "--show" => show = true,
            _ => filter = argument,
        }
    }
    let chosen: Vec<_> = tests()
        .into_iter()
        .filter(|(name, _)| filter.split(',').any(|part| name.contains(part)))
        .collect();
    if list {
        for (name, _) in chosen {
            println!("{name}");
        }
        return ExitCode::SUCCESS;
    }
    if !show {
        println!("plan {}", chosen.len());
    }
    for exhibit in EXHIBITS {
        let path = format!("{HALL}/{}.ko", exhibit.module);
        // The test of an exhibit that is not there fails.
        let _ = Command::new("insmod").arg(path).status();
    }
    for kind in ["vmalloc", "contiguous", "coherent"] {
        // The same.
        let _ = Command::new("mapbuf")
            .args([
                "create",
                &format!("museum-{kind}"),
                "--kind",
                kind,
                "--size",
                "64K",
            ])
            .stdout(Stdio::null())
            .status();
    }
    if show {
        return show_all();
    }
    let mut failed = 0;
    for (name, body) in &chosen {
        match body().and_then(|()| nothing_is_left()) {
            Ok(()) => println!("ok {name}"),
            Err(why) => {
                failed += 1;
                let why: Vec<_> = why.split_whitespace().collect();
                println!("FAILED {name}: {}", why.join(" "));
            }
        }
    }
    println!("{} passed, {failed} failed", chosen.len() - failed);
    ExitCode::from(u8::from(failed > 0))
}

/// Prints what is said of each exhibit, as a person sees it.
fn show_all() -> ExitCode {
    let right = RIGHT
        .iter()
        .map(|(_, visit)| ("right", (*visit).to_owned()));
    let wrong = EXHIBITS.iter().map(|exhibit| {
        let node = format!("/dev/broken-{}", exhibit.module.replace('_', "-"));
        (exhibit.module, format!("{node} {}", exhibit.visit))
    });
    for (name, visit) in wrong.chain(right) {
        println!("== {name}");
        println!("# mapbuf diagnose -- visit {visit}");
        let _ = std::io::stdout().flush();
        let status = Command::new("mapbuf")
            .args(["diagnose", "--output", "/dev/stdout", "--", "/museum/visit"])
            .args(visit.split(' '))
            .stderr(std::io::stdout())
            .status();
        if let Err(error) = status {
            println!("mapbuf could not be started: {error}");
            return ExitCode::FAILURE;
        }
        println!();
    }
    println!("== end");
    ExitCode::SUCCESS
}

/// Runs a program under `mapbuf diagnose --json`; its output, and the diagnosis.
fn diagnose(command: &[&str]) -> Result<(Output, String), String> {
    let file = "/tmp/diagnosis.json";
    let _ = fs::remove_file(file);
    let output = Command::new("mapbuf")
        .args(["diagnose", "--json", "--output", file, "--"])
        .args(command)
        .output()
        .map_err(|error| error.to_string())?;
    let diagnosis = fs::read_to_string(file)
        .map_err(|error| format!("{error}: {}", String::from_utf8_lossy(&output.stderr)))?;
    Ok((output, diagnosis))
}

fn visit(words: &str) -> Result<(Option<i32>, String), String> {
    let mut command = vec!["/museum/visit"];
    command.extend(words.split(' '));
    let (output, diagnosis) = diagnose(&command)?;
    Ok((output.status.code(), diagnosis))
}

/// The causes that a diagnosis names.
fn causes(diagnosis: &str) -> Vec<&str> {
    values(diagnosis, "cause")
}

fn values<'a>(diagnosis: &'a str, key: &str) -> Vec<&'a str> {
    diagnosis
        .lines()
        .filter_map(|line| {
            let value = line.trim().strip_prefix('"')?.strip_prefix(key)?;
            Some(value.strip_prefix("\": ")?.trim_matches([',', '"']))
        })
        .collect()
}

fn is_diagnosed(exhibit: &Exhibit) -> Outcome {
    let node = format!("/dev/broken-{}", exhibit.module.replace('_', "-"));
    let (status, diagnosis) = visit(&format!("{node} {}", exhibit.visit))?;
    if causes(&diagnosis) != [exhibit.cause] {
        return Err(format!("not {}, but {diagnosis}", exhibit.cause));
    }
    let function = format!("{} [{}]", exhibit.function, exhibit.module);
    if !values(&diagnosis, "function").contains(&function.as_str()) {
        return Err(format!("{function} is not named: {diagnosis}"));
    }
    if status != Some(exhibit.status) {
        return Err(format!("status {status:?}, must be {}", exhibit.status));
    }
    Ok(())
}

fn is_right(words: &str) -> Outcome {
    let (status, diagnosis) = visit(words)?;
    if status != Some(0) || !causes(&diagnosis).is_empty() {
        return Err(format!("status {status:?}: {diagnosis}"));
    }
    Ok(())
}

/// A range that the kernel knows as the bus's, at which no device is: seen only by reading.
fn reading_shows() -> Outcome {
    let file = "/tmp/diagnosis.json";
    let status = Command::new("mapbuf")
        .args(["diagnose", "--read", "--json", "--output", file, "--"])
        .args([format!("{HALL}/visit").as_str(), "/dev/mem", "4", "0x80000"])
        .stdout(Stdio::null())
        .status()
        .map_err(|error| error.to_string())?;
    let diagnosis = fs::read_to_string(file).map_err(|error| error.to_string())?;
    if !status.success() || causes(&diagnosis) != ["nothing-behind"] {
        return Err(format!("{status}: {diagnosis}"));
    }
    is_right("/dev/mem 4 0x80000")
}

fn status_is_kept() -> Outcome {
    for (script, status) in [
        ("exit 0", 0),
        ("exit 42", 42),
        ("kill -TERM $$", 143),
        ("(exit 3) & wait $!; exit $?", 3),
    ] {
        let (output, _) = diagnose(&["sh", "-c", script])?;
        if output.status.code() != Some(status) {
            return Err(format!("{script}: {}", output.status));
        }
    }
    // What it leaves running goes on.
    let mark = "/tmp/left-running";
    diagnose(&["sh", "-c", "(sleep 3; echo > /tmp/left-running) & exit 0"])?;
    for _ in 0..200 {
        if Path::new(mark).exists() {
            break;
        }
        sleep(Duration::from_millis(50));
    }
    if !Path::new(mark).exists() {
        return Err("what the program left running did not go on".into());
    }
    let (output, _) = diagnose(&["/nowhere"])?;
    match output.status.code() {
        Some(127) => Ok(()),
        code => Err(format!("a program that is not there: {code:?}")),
    }
}

/// `mapbuf diagnose` with a program that takes long.
fn long_run() -> Result<Child, String> {
    let child = Command::new("mapbuf")
        .args(["diagnose", "--", "sleep", "100"])
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| error.to_string())?;
    for _ in 0..200 {
        if !instances().is_empty() {
            sleep(Duration::from_secs(2));
            return Ok(child);
        }
        sleep(Duration::from_millis(50));
    }
    Err("it made no instance".into())
}

fn send(child: &Child, signal: &str) -> Outcome {
    let status = Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        other => Err(format!("kill {signal}: {other:?}")),
    }
}

fn signals_end_it() -> Outcome {
    for (signal, status) in [("-INT", 130), ("-TERM", 143)] {
        let mut child = long_run()?;
        send(&child, signal)?;
        let ended = child.wait().map_err(|error| error.to_string())?;
        if ended.code() != Some(status) {
            return Err(format!("{signal}: {ended}"));
        }
        nothing_is_left()?;
    }
    Ok(())
}

fn killed_one_is_swept_up() -> Outcome {
    let mut child = long_run()?;
    send(&child, "-KILL")?;
    child.wait().map_err(|error| error.to_string())?;
    if instances().is_empty() {
        return Err("there was nothing to sweep up".into());
    }
    diagnose(&["true"]).map(drop)
}

fn says_what_is_missing() -> Outcome {
    let output = Command::new("mapbuf")
        .args(["diagnose", "--", "true"])
        .uid(1000)
        .gid(1000)
        .output()
        .map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() != Some(125) || !said.contains("root") {
        return Err(format!("{}: {said}", output.status));
    }
    Ok(())
}

fn instances() -> Vec<String> {
    let entries = fs::read_dir(Path::new(TRACEFS).join("instances"));
    entries
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn nothing_is_left() -> Outcome {
    let instances = instances();
    let events = fs::read_to_string(Path::new(TRACEFS).join("dynamic_events"))
        .map_err(|error| error.to_string())?;
    if instances.is_empty() && events.is_empty() {
        return Ok(());
    }
    Err(format!("left in tracefs: {instances:?} {events}"))
}
