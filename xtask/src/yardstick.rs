//! `cargo xtask yardstick`: the same driver for NVMe over mapbuf and over VFIO.

use crate::counting;
use crate::kit::Kit;
use anyhow::{Context, Result};
use mapbuf_guest::yardstick::{Cost, Row};
use mapbuf_vm::Ui;
use serde::Serialize;
use std::fmt::Write as _;
use std::fs;
use std::process::ExitCode;

/// Who can give the driver its device, and the file that has all that is particular to it.
const SUBJECTS: [(&str, &str); 2] = [
    ("mapbuf", "examples/nvme/src/platform.rs"),
    ("vfio", "guest/src/vfio.rs"),
];

/// A disk that takes its time, as disks do: the driver has to wait for it. One that answers at once would show neither waits
/// nor interrupts.
const DISK: [&str; 4] = [
    "-blockdev",
    "driver=null-co,node-name=disk,size=67108864,read-zeroes=on,latency-ns=300000",
    "-device",
    "nvme,drive=disk,serial=mapbuf",
];

/// Compare a driver for NVMe (examples/nvme) over mapbuf with the same over VFIO: lines, instructions, system calls.
///
/// The guest has an IOMMU, and its clock counts instructions (QEMU's `-icount`). What the processor does while it waits is
/// left out. Each figure is the least of several rounds; the guest is booted twice, and the last line says how far the two are
/// apart.
#[derive(clap::Args)]
pub struct Arguments {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// How often the guest is booted.
    #[arg(long, value_name = "N", default_value_t = 2)]
    boots: usize,
    /// Take the module from this folder instead of the driver's.
    #[arg(long, value_name = "DIR")]
    driver: Option<std::path::PathBuf>,
    /// Which kernel, as for `cargo xtask kernel`.
    #[arg(long, value_name = "KERNEL", default_value_t)]
    kernel: mapbuf_vm::Choice,
}

/// What was found of a subject.
#[derive(Serialize)]
struct Measured {
    subject: String,
    /// Lines of code, without comments, blank ones, and tests.
    lines: usize,
    first: Cost,
    alone: Cost,
    together: Cost,
    /// How far the boots are apart in instructions, in thousandths of the least: reads alone, and together.
    spread: [u64; 2],
}

/// Runs the command.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    let ui = Ui::default();
    let kit = Kit::open(&ui, &arguments.kernel)?;
    let guest = counting::Guest {
        driver: arguments.driver.as_deref(),
        program: "mapbuf-yardstick",
        modules: &["vfio_iommu_type1", "vfio-pci"],
        iommu: true,
        arguments: &DISK,
        ..Default::default()
    };
    let mut boots = Vec::new();
    for number in 1..=arguments.boots.max(1) {
        ui.note(format!("Boot {number} of {}", arguments.boots.max(1)));
        let words = SUBJECTS.map(|(subject, _)| subject.to_owned());
        boots.push(guest.measure::<Row>(&kit, &words)?);
    }
    let mut found = Vec::new();
    for (subject, file) in SUBJECTS {
        let rows = boots.iter().flatten();
        let rows: Vec<&Row> = rows.filter(|row| row.subject == subject).collect();
        if rows.is_empty() {
            // The guest has said why.
            continue;
        }
        found.push(Measured {
            subject: subject.to_owned(),
            lines: lines(file)?,
            first: least(&rows, |row| row.first)?,
            alone: least(&rows, |row| row.alone)?,
            together: least(&rows, |row| row.together)?,
            spread: [
                spread(&rows, |row| row.alone),
                spread(&rows, |row| row.together),
            ],
        });
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&found)?);
    } else {
        print!("{}", table(&found, boots.len())?);
    }
    Ok(ExitCode::SUCCESS)
}

fn least(rows: &[&Row], of: impl Fn(&Row) -> Cost) -> Result<Cost> {
    let costs = rows.iter().map(|row| of(row));
    costs
        .min_by_key(|cost| cost.instructions)
        .context("nothing was measured")
}

fn spread(rows: &[&Row], of: impl Fn(&Row) -> Cost) -> u64 {
    let costs = rows.iter().map(|row| of(row).instructions);
    let (low, high) = costs.fold((u64::MAX, 0), |(low, high), cost| {
        (low.min(cost), high.max(cost))
    });
    high.saturating_sub(low)
        .saturating_mul(1000)
        .div_ceil(low.max(1))
}

/// Lines of code in a file of the workspace.
fn lines(file: &str) -> Result<usize> {
    let path = crate::workspace()?.join(file);
    let text =
        fs::read_to_string(&path).with_context(|| format!("{} is not there", path.display()))?;
    Ok(code_lines(&text))
}

fn code_lines(text: &str) -> usize {
    let code = text
        .lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]"));
    let counts = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
    code.filter(counts).count()
}

/// The table for people.
fn table(found: &[Measured], boots: usize) -> Result<String> {
    let mut out = format!("{:<40}", "");
    for one in found {
        write!(out, "{:>12}", one.subject)?;
    }
    writeln!(out)?;
    let mut line = |what: &str, cell: &dyn Fn(&Measured) -> String| -> Result<()> {
        write!(out, "{what:<40}")?;
        for one in found {
            write!(out, "{:>12}", cell(one))?;
        }
        writeln!(out)?;
        Ok(())
    };
    line("lines of code of its own", &|one| one.lines.to_string())?;
    line("process starts to first block: calls", &|one| {
        calls(one.first)
    })?;
    line("process starts to first block: instr.", &|one| {
        one.first.instructions.to_string()
    })?;
    line("read of 4 KiB, alone: calls", &|one| calls(one.alone))?;
    line("read of 4 KiB, alone: instr.", &|one| {
        one.alone.instructions.to_string()
    })?;
    line("read of 4 KiB, 32 at once: calls", &|one| {
        calls(one.together)
    })?;
    line("read of 4 KiB, 32 at once: instr.", &|one| {
        one.together.instructions.to_string()
    })?;
    if boots > 1 {
        let most = found.iter().flat_map(|one| one.spread).max().unwrap_or(0);
        writeln!(
            out,
            "\nThe least of {boots} boots, which are at most {}.{} % apart in instructions of a read.",
            most / 10,
            most % 10
        )?;
    }
    Ok(out)
}

/// System calls: whole ones, or with two places.
fn calls(cost: Cost) -> String {
    match cost.milli_calls {
        whole if whole % 1000 == 0 => (whole / 1000).to_string(),
        part => format!("{:.2}", part as f64 / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_counted_without_words_about_it() {
        let text = "//! About.\n\nuse x;\n\n/// What.\nfn f() {\n    // Why.\n    x()\n}\n#[cfg(test)]\nmod tests {}\n";
        assert_eq!(code_lines(text), 4);
    }
}
