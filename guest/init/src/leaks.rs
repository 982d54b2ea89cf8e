//! What the kernel's kmemleak finds: memory of its own that nothing refers to any more.

use std::fs;
use std::io;
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

const FILE: &str = "/sys/kernel/debug/kmemleak";

/// `MSECS_MIN_AGE` of `mm/kmemleak.c`, and a little: younger objects are not reported.
const AGE: Duration = Duration::from_millis(5500);

/// The most scans. The first one notes what an object holds, and the second one reports it if that has not changed
/// (`update_checksum` there); a third one forgives what was on its way from one place to the other.
const SCANS: usize = 3;

/// More of a report than this tells nothing new.
const REPORT: usize = 1 << 16;

/// Scans, and answers with how many objects are unreferenced, and the kernel's report of them. `meanwhile` is called
/// every now and then.
pub fn find(meanwhile: &mut dyn FnMut() -> io::Result<()>) -> Result<(u32, String), String> {
    let mut report = String::new();
    for scan in 1..=SCANS {
        let begun = Instant::now();
        // By the second one all are old enough.
        while scan != 2 && begun.elapsed() < AGE {
            sleep(Duration::from_millis(100));
            meanwhile().map_err(|error| error.to_string())?;
        }
        // A scan holds up whoever asks for it.
        let scanner = spawn(|| fs::write(FILE, "scan"));
        while !scanner.is_finished() {
            sleep(Duration::from_millis(100));
            meanwhile().map_err(|error| error.to_string())?;
        }
        scanner
            .join()
            .map_err(|_| "the scan for leaks panicked".to_owned())?
            .map_err(|error| format!("{FILE}: {error}"))?;
        report = fs::read_to_string(FILE).map_err(|error| format!("{FILE}: {error}"))?;
        if scan > 1 && report.is_empty() {
            break;
        }
    }
    let count = report
        .lines()
        .filter(|line| line.starts_with("unreferenced object"))
        .count();
    let mut end = report.len().min(REPORT);
    while !report.is_char_boundary(end) {
        end -= 1;
    }
    report.truncate(end);
    Ok((u32::try_from(count).unwrap_or(u32::MAX), report))
}
