//! `cargo xtask price`: what each kind of memory costs, in instructions.

use crate::counting;
use crate::kit::Kit;
use anyhow::{bail, Context, Result};
use mapbuf_guest::price::Price;
use mapbuf_vm::Ui;
use serde::Serialize;
use std::fmt::Write as _;
use std::process::ExitCode;

/// Where the memory of the kind `region` is reserved, below the PCI devices.
const REGION: u64 = 0x1000_0000;
/// The smallest machine has room for this much of each kind, and udmabuf gives no more unless it is told to.
const LEAST_MIB: u64 = 64;

/// Count the instructions of allocating, mapping, touching, unmapping and freeing, beside the kernel's own ways.
///
/// The guest runs under QEMU's `-icount`, where the clock counts instructions, on one processor. Each figure is the
/// least of several rounds; the guest is booted twice, and the last line says how far the two are apart.
#[derive(clap::Args)]
pub struct Arguments {
    /// Print JSON: every row of every boot, and the rows with the least of both.
    #[arg(long)]
    json: bool,
    /// How often the guest is booted.
    #[arg(long, value_name = "N", default_value_t = 2)]
    boots: usize,
    /// How often each step is repeated in one boot.
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    /// Sizes in bytes, with commas between them, up to 1 GiB. The guest gets as much memory as they need.
    #[arg(long, value_name = "N", default_value = "4096,65536,2097152,67108864")]
    bytes: String,
    /// Only these (`vmalloc`, `pages`, `contiguous`, `coherent`, `region`, `dma-heap`, `udmabuf`, `anonymous`,
    /// `anonymous-huge`).
    subjects: Vec<String>,
    /// Take the module from this folder instead of the driver's.
    #[arg(long, value_name = "DIR")]
    driver: Option<std::path::PathBuf>,
    /// Which kernel, as for `cargo xtask kernel`.
    #[arg(long, value_name = "KERNEL", default_value_t)]
    kernel: mapbuf_vm::Choice,
}

/// All that was measured.
#[derive(Serialize)]
struct Measured {
    least: Vec<Price>,
    boots: Vec<Vec<Price>>,
}

/// Runs the command.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    let ui = Ui::default();
    let kit = Kit::open(&ui, &arguments.kernel)?;
    let mut boots = Vec::new();
    for number in 1..=arguments.boots.max(1) {
        ui.note(format!("Boot {number} of {}", arguments.boots.max(1)));
        boots.push(boot(&kit, arguments)?);
    }
    let least = least(&boots)?;
    let measured = Measured { least, boots };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&measured)?);
    } else {
        print!("{}", table(&measured, arguments.rounds)?);
    }
    Ok(ExitCode::SUCCESS)
}

/// What the guest needs for the largest size.
#[derive(Debug, PartialEq, Eq)]
struct Room {
    append: Vec<String>,
    parameters: String,
    memory_mib: u32,
}

impl Room {
    /// For sizes as they are given on the command line.
    fn of(sizes: &str) -> Result<Self> {
        let mut largest = 0;
        for size in sizes.split(',') {
            let size: u64 = size
                .parse()
                .with_context(|| format!("'{size}' is not a size in bytes"))?;
            largest = largest.max(size);
        }
        if largest > 1 << 30 {
            bail!(
                "{largest} bytes are more than the guest has room for: use at most {}",
                1 << 30
            );
        }
        let mib = largest.div_ceil(1 << 20).max(LEAST_MIB);
        let mut append = vec![
            // Memory for the kind `region`, and for large coherent buffers.
            format!("memmap={mib}M${REGION:#x}"),
            format!("cma={}M", mib + mib / 2),
        ];
        if mib > LEAST_MIB {
            append.push(format!("udmabuf.size_limit_mb={mib}"));
        }
        Ok(Self {
            append,
            parameters: format!("regions=price:{REGION:#x}:{mib}M:ram"),
            memory_mib: match mib {
                LEAST_MIB => 1024,
                // The region, the CMA area, and twice a buffer: the driver's own limit is half of the memory.
                mib => u32::try_from(1024 + 5 * mib)?,
            },
        })
    }
}

/// Boots the guest once; what it measured.
fn boot(kit: &Kit, arguments: &Arguments) -> Result<Vec<Price>> {
    let mut words = vec!["--bytes".to_owned(), arguments.bytes.clone()];
    words.extend(["--repeats".into(), arguments.rounds.to_string()]);
    words.extend(arguments.subjects.iter().cloned());
    let room = Room::of(&arguments.bytes)?;
    let append: Vec<&str> = room.append.iter().map(String::as_str).collect();
    let guest = counting::Guest {
        processors: 1,
        append: &append,
        parameters: &room.parameters,
        memory_mib: room.memory_mib,
        driver: arguments.driver.as_deref(),
        ..Default::default()
    };
    guest.measure(kit, &words)
}

/// The least of all boots, row by row.
fn least(boots: &[Vec<Price>]) -> Result<Vec<Price>> {
    let (first, rest) = boots.split_first().context("no boot")?;
    let mut least = first.clone();
    for boot in rest {
        if boot.len() != least.len() {
            bail!(
                "one boot measured {} rows and another {}",
                least.len(),
                boot.len()
            );
        }
        for (row, other) in least.iter_mut().zip(boot) {
            row.steps = row.steps.least(&other.steps);
            row.faults = row.faults.min(other.faults);
        }
    }
    Ok(least)
}

/// How far boots are apart in the sum of map, touch and unmap, at most, in thousandths.
fn spread(measured: &Measured) -> u64 {
    let mut spread = 0;
    for index in 0..measured.least.len() {
        let sums = measured.boots.iter().filter_map(|boot| boot.get(index));
        let sums = sums.map(|row| row.steps.mapping());
        let (low, high) = sums.fold((u64::MAX, 0), |(low, high), sum| {
            (low.min(sum), high.max(sum))
        });
        let _ = least;
        spread = spread.max((high - low).saturating_mul(1000).div_ceil(low.max(1)));
    }
    spread
}

/// The table for people.
fn table(measured: &Measured, rounds: usize) -> Result<String> {
    let mut out = String::new();
    let mut size = None;
    for row in &measured.least {
        if size != Some(row.bytes) {
            if size.is_some() {
                writeln!(out)?;
            }
            size = Some(row.bytes);
            let head = "alloc    map  touch  unmap   free   map+touch+unmap     all";
            writeln!(out, "{:<15} {head}  faults  entries", bytes(row.bytes))?;
        }
        let steps = row.steps.named().map(|(_, value)| figure(value));
        let [alloc, map, touch, unmap, free] = steps;
        writeln!(
            out,
            "{:<15} {alloc:>5} {map:>6} {touch:>6} {unmap:>6} {free:>6} {:>17} {:>7} {:>7}  {}",
            row.subject,
            figure(row.steps.mapping()),
            figure(row.steps.whole()),
            row.faults,
            entries(row),
        )?;
    }
    let boots = measured.boots.len();
    let spread = spread(measured);
    writeln!(
        out,
        "\nInstructions: k thousands, M millions; each the least of {} rounds in {boots} boots.",
        rounds
    )?;
    if boots > 1 {
        writeln!(
            out,
            "The boots are at most {}.{} % apart in map+touch+unmap.",
            spread / 10,
            spread % 10
        )?;
    }
    Ok(out)
}

/// The size of the entries that it has.
fn entries(row: &Price) -> String {
    match row.huge_bytes {
        0 => "4 KiB".into(),
        huge if huge == row.bytes => "2 MiB".into(),
        huge => format!("2 MiB for {}", bytes(huge)),
    }
}

/// A size, in the largest unit that fits.
fn bytes(bytes: u64) -> String {
    if bytes % (1 << 30) == 0 {
        format!("{} GiB", bytes >> 30)
    } else if bytes % (1 << 20) == 0 {
        format!("{} MiB", bytes >> 20)
    } else {
        format!("{} KiB", bytes >> 10)
    }
}

/// A number of instructions in three digits.
fn figure(value: u64) -> String {
    match value {
        0..1_000 => value.to_string(),
        1_000..9_995 => format!("{:.2}k", value as f64 / 1e3),
        9_995..99_950 => format!("{:.1}k", value as f64 / 1e3),
        99_950..999_500 => format!("{:.0}k", value as f64 / 1e3),
        999_500..9_995_000 => format!("{:.2}M", value as f64 / 1e6),
        9_995_000..99_950_000 => format!("{:.1}M", value as f64 / 1e6),
        _ => format!("{:.0}M", value as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guest_grows_with_the_largest_size() {
        let small = Room::of("4096,67108864").unwrap();
        assert_eq!(small.memory_mib, 1024);
        assert_eq!(small.append, ["memmap=64M$0x10000000", "cma=96M"]);
        let large = Room::of("1073741824,4096").unwrap();
        assert_eq!(large.parameters, "regions=price:0x10000000:1024M:ram");
        assert_eq!(large.memory_mib, 6144);
        assert!(Room::of("1073741825").is_err() && Room::of("64K").is_err());
    }
}
