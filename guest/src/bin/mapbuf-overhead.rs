//! Maps an ordinary file many times, alone and under `mapbuf diagnose`: `mapbuf-overhead N` prints a line of JSON
//! ([`Overhead`]) for each.

use mapbuf_guest::overhead::Overhead;
use rustix::mm::{mmap, munmap, MapFlags, ProtFlags};
use std::error::Error;
use std::fs::File;
use std::process::{Command, ExitCode};
use std::time::Instant;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// The first word of the process that is measured.
const WORK: &str = "work";
const PAGE: usize = 4096;
/// Pages of each mapping; each is written to, so that each is a fault of its own.
const PAGES: usize = 10;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        [WORK, count] => work(count),
        [count] => both(count),
        _ => Err("how many mappings?".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mapbuf-overhead: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the work both ways, and prints what it took.
fn both(count: &str) -> Result<()> {
    let own = std::env::current_exe()?;
    let own = own.to_string_lossy();
    let ways: [(&str, &[&str]); 2] = [
        ("alone", &[&own]),
        (
            "diagnosed",
            &[
                "mapbuf",
                "diagnose",
                "--output",
                "/tmp/diagnosis",
                "--",
                &own,
            ],
        ),
    ];
    // What only the first run pays for is nobody's cost.
    Command::new(&*own).args([WORK, "100"]).output()?;
    for (how, command) in ways {
        let (program, before) = command.split_first().ok_or("no command")?;
        let output = Command::new(program)
            .args(before)
            .args([WORK, count])
            .stderr(std::process::Stdio::inherit())
            .output()?;
        if !output.status.success() {
            return Err(format!("{how}: {}", output.status).into());
        }
        let row = Overhead {
            how: how.to_owned(),
            ..serde_json::from_slice(&output.stdout)?
        };
        println!("{}", serde_json::to_string(&row)?);
    }
    Ok(())
}

/// Maps, writes, unmaps; prints what that took.
fn work(count: &str) -> Result<()> {
    let count: u64 = count.parse()?;
    let path = "/tmp/ordinary";
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)?;
    file.set_len(u64::try_from(PAGES * PAGE)?)?;
    let (faults, begun) = (own_faults()?, Instant::now());
    for _ in 0..count {
        once(&file)?;
    }
    let row = Overhead {
        how: String::new(),
        // The clock of this guest counts an instruction as a nanosecond.
        instructions: u64::try_from(begun.elapsed().as_nanos())?,
        faults: own_faults()? - faults,
    };
    println!("{}", serde_json::to_string(&row)?);
    Ok(())
}

fn once(file: &File) -> Result<()> {
    let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
    // SAFETY: a new mapping at an address that the kernel chooses replaces nothing.
    let start = unsafe {
        mmap(
            std::ptr::null_mut(),
            PAGES * PAGE,
            protection,
            flags,
            file,
            0,
        )?
    };
    for page in 0..PAGES {
        // SAFETY: the page is within the mapping.
        let byte = unsafe { start.cast::<u8>().add(page * PAGE) };
        // SAFETY: it is writable, and the file is as long.
        unsafe { byte.write_volatile(1) };
    }
    // SAFETY: it is the mapping from above, and nothing refers to it.
    unsafe { munmap(start, PAGES * PAGE)? };
    Ok(())
}

/// Page faults of this process (`minflt` of `/proc/self/stat`).
fn own_faults() -> Result<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, rest) = stat.rsplit_once(") ").ok_or("no stat")?;
    let word = rest.split(' ').nth(7).ok_or("no minflt")?;
    Ok(word.parse()?)
}
