//! `cargo xtask copies`: how fast the library copies.

#[path = "../../mapbuf/benches/copies/sizes.rs"]
mod sizes;

use crate::workspace;
use anyhow::{bail, Context, Result};
use serde::Deserialize;
use sizes::SIZES;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

/// Compare the library's copies with memcpy, memset and a loop over vector registers, on this machine.
///
/// Runs the benchmark `copies` of the library (criterion), on memory of its own: no driver and no guest. Each figure is
/// the fastest of the samples, as other programs on the machine can only make one slower.
#[derive(clap::Args)]
pub struct Arguments {
    /// Show the last run again.
    #[arg(long)]
    last: bool,
    /// Fail if one is below this share of the better of the others.
    #[arg(long, value_name = "SHARE")]
    least: Option<f64>,
}

/// `sample.json` of criterion: iterations of each sample, and what they took in nanoseconds.
#[derive(Deserialize)]
struct Samples {
    iters: Vec<f64>,
    times: Vec<f64>,
}

impl Samples {
    /// Nanoseconds of one iteration, in the fastest sample.
    fn fastest(&self) -> Option<f64> {
        let each = self.times.iter().zip(&self.iters);
        each.map(|(time, iterations)| time / iterations)
            .min_by(f64::total_cmp)
    }
}

/// Bytes in a nanosecond for each way at one size.
struct Row {
    bytes: u64,
    copy_in: f64,
    copy_out: f64,
    memcpy: f64,
    vector: f64,
    fill: f64,
    memset: f64,
    vector_fill: f64,
}

impl Row {
    fn read(folder: &Path, bytes: u64) -> Result<Self> {
        let speed = |group: &str, way: &str| -> Result<f64> {
            let file = folder.join(format!("{group}/{way}/{bytes}/new/sample.json"));
            let text = std::fs::read(&file).with_context(|| {
                format!("{} is missing: run cargo xtask copies", file.display())
            })?;
            let samples: Samples = serde_json::from_slice(&text)?;
            Ok(bytes as f64 / samples.fastest().context("a run without samples")?)
        };
        Ok(Self {
            bytes,
            copy_in: speed("copy", "copy_in")?,
            copy_out: speed("copy", "copy_out")?,
            memcpy: speed("copy", "memcpy")?,
            vector: speed("copy", "vector")?,
            fill: speed("fill", "fill")?,
            memset: speed("fill", "memset")?,
            vector_fill: speed("fill", "vector")?,
        })
    }

    /// Each of the library's, as a share of the better of the others.
    fn shares(&self) -> [f64; 3] {
        let copy = self.memcpy.max(self.vector);
        let fill = self.memset.max(self.vector_fill);
        [self.copy_in / copy, self.copy_out / copy, self.fill / fill]
    }
}

/// Runs the command.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    let workspace = workspace()?;
    if !arguments.last {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command
            .args([
                "bench", "--quiet", "-p", "mapbuf", "--bench", "copies", "--", "--noplot",
                "--quiet",
            ])
            .current_dir(&workspace)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if !command.status().context("cargo bench")?.success() {
            bail!("the benchmark failed");
        }
    }
    let folder = workspace.join("target/criterion");
    let rows: Vec<Row> = SIZES
        .iter()
        .map(|&bytes| Row::read(&folder, bytes as u64))
        .collect::<Result<_>>()?;
    print!("{}", table(&rows)?);
    let low = rows.iter().flat_map(Row::shares).min_by(f64::total_cmp);
    match (arguments.least, low) {
        (Some(least), Some(low)) if low < least => {
            eprintln!("the least share is {low:.2}, below {least:.2}");
            Ok(ExitCode::FAILURE)
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn table(rows: &[Row]) -> Result<String> {
    let mut out = String::new();
    writeln!(
        out,
        "{:<8} {:>8} {:>9} {:>8} {:>8}  {:>10} {:>7} {:>7} {:>8}  {:>10}",
        "GB/s",
        "copy_in",
        "copy_out",
        "memcpy",
        "vector",
        "share",
        "fill",
        "memset",
        "vector",
        "share"
    )?;
    for row in rows {
        let [into, out_of, fill] = row.shares();
        writeln!(
            out,
            "{:<8} {:>8.1} {:>9.1} {:>8.1} {:>8.1}  {into:>5.2} {out_of:.2} {:>7.1} {:>7.1} {:>8.1}  {fill:>10.2}",
            size(row.bytes),
            row.copy_in,
            row.copy_out,
            row.memcpy,
            row.vector,
            row.fill,
            row.memset,
            row.vector_fill,
        )?;
    }
    writeln!(
        out,
        "\nshare: compared with the faster of memcpy or memset and the vector loop; the fastest of 40 samples each."
    )?;
    Ok(out)
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fastest_sample_counts() {
        let samples = Samples {
            iters: vec![1.0, 2.0, 4.0],
            times: vec![10.0, 12.0, 32.0],
        };
        assert_eq!(samples.fastest(), Some(6.0));
    }

    #[test]
    fn shares_are_of_the_better_one() {
        let row = Row {
            bytes: 64,
            copy_in: 9.0,
            copy_out: 10.0,
            memcpy: 8.0,
            vector: 10.0,
            fill: 3.0,
            memset: 4.0,
            vector_fill: 2.0,
        };
        assert_eq!(row.shares(), [0.9, 1.0, 0.75]);
    }
}
