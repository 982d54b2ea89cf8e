//! Measures the driver of `examples/nvme` over those who can give it a device: `mapbuf-yardstick SUBJECT...` prints a line of
//! JSON ([`Row`]) for each.
//!
//! Under QEMU's `-icount shift=0` the processor's time stamp counter counts instructions. While the program waits for the
//! disk, another one runs that counts its own; they are taken off. System calls are counted in a second run.

mod meter;

use mapbuf_guest::vfio::Vfio;
use mapbuf_guest::yardstick::{Cost, Row};
use mapbuf_nvme::{command, platform::Bound, Disk, Function};
use meter::{Calls, Idler, Meter};
use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// Bytes of a read.
const BYTES: usize = 4096;
/// Reads in a round, and rounds; the cheapest counts, since others have a timer's interrupt more.
const READS: usize = 64;
const ROUNDS: usize = 12;
/// Reads at once.
const DEPTH: usize = 32;

/// The first word of a process that measures.
const PART: &str = "part";
/// The class of NVMe controllers in PCI's numbering.
const NVME: &str = "0x010802";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        [PART, subject, address, how] => part(subject, address, how == "calls"),
        _ => Idler::start().and_then(|_| words.iter().try_for_each(|subject| whole(subject))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mapbuf-yardstick: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs both parts, each in a process of its own, and prints what they found.
fn whole(subject: &str) -> Result<()> {
    let driver = if subject == "vfio" {
        "vfio-pci"
    } else {
        subject
    };
    if !Path::new("/sys/bus/pci/drivers").join(driver).exists() {
        eprintln!("mapbuf-yardstick: {subject} is left out: the kernel has no PCI driver {driver}");
        return Ok(());
    }
    let address = &find()?;
    give(address, driver)?;
    let meter = &Meter::Instructions(Idler::find()?);
    let run = |how: &str| -> Result<(u64, [u64; 3])> {
        let begun = meter.begin()?;
        let output = Command::new(std::env::current_exe()?)
            .args([PART, subject, address, how])
            .stderr(Stdio::inherit())
            .output()?;
        if !output.status.success() {
            return Err(format!("{subject}: {}", output.status).into());
        }
        let text = String::from_utf8(output.stdout)?;
        let numbers = text
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<Vec<u64>, _>>()?;
        let numbers = <[u64; 3]>::try_from(numbers).map_err(|_| "three numbers are told")?;
        Ok((begun, numbers))
    };
    let (begun, [first, alone, together]) = run("instructions")?;
    let (_, calls) = run("calls")?;
    let cost = |instructions, milli_calls| Cost {
        instructions,
        milli_calls,
    };
    let row = Row {
        subject: subject.to_owned(),
        first: cost(first.saturating_sub(begun), calls[0]),
        alone: cost(alone, calls[1]),
        together: cost(together, calls[2]),
    };
    println!("{}", serde_json::to_string(&row)?);
    Ok(())
}

/// The address of the disk.
fn find() -> Result<String> {
    for entry in fs::read_dir("/sys/bus/pci/devices")?.flatten() {
        let class = fs::read_to_string(entry.path().join("class"))?;
        if class.trim() == NVME {
            return Ok(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Err("the machine has no NVMe controller".into())
}

/// Gives it to a driver.
fn give(address: &str, driver: &str) -> Result<()> {
    let folder = Path::new("/sys/bus/pci/devices").join(address);
    fs::write(folder.join("driver_override"), driver)?;
    if folder.join("driver").exists() {
        fs::write(folder.join("driver/unbind"), address)?;
    }
    fs::write("/sys/bus/pci/drivers_probe", address)?;
    Ok(())
}

/// Measures one way. Prints when the first block was there, and what a read costs, alone and among others: instructions, or
/// system calls in thousandths.
fn part(subject: &str, address: &str, calls: bool) -> Result<()> {
    let meter = if calls {
        Meter::Calls(Calls::count()?)
    } else {
        Meter::Instructions(Idler::find()?)
    };
    match subject {
        "mapbuf" => measure(Bound::open(address)?, &meter),
        "vfio" => measure(Vfio::open(address)?, &meter),
        _ => Err(format!("there is no subject {subject}").into()),
    }
}

fn measure<F: Function>(function: F, meter: &Meter) -> Result<()> {
    let mut disk = Disk::start(function)?;
    let memory = disk.memory(DEPTH * BYTES)?;
    disk.read(0, &memory, 0, BYTES)?;
    let first = meter.end()?;
    let blocks = (BYTES / disk.identity().block_bytes) as u64;
    let [mut alone, mut together] = [u64::MAX; 2];
    for _ in 0..ROUNDS {
        let before = meter.begin()?;
        for number in 0..READS {
            disk.read(number as u64 * blocks, &memory, 0, BYTES)?;
        }
        alone = alone.min((meter.end()? - before) / READS as u64);
        let before = meter.begin()?;
        for number in 0..READS {
            let slot = number % DEPTH;
            let block = number as u64 * blocks;
            disk.submit(command::READ, block, &memory, slot * BYTES, BYTES)?;
            if slot + 1 == DEPTH {
                disk.ring()?;
                for _ in 0..DEPTH {
                    disk.wait()?;
                }
            }
        }
        together = together.min((meter.end()? - before) / READS as u64);
    }
    disk.stop()?;
    println!("{first} {alone} {together}");
    Ok(())
}
