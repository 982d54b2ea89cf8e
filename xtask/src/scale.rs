//! `cargo xtask bench-scale`: what an operation costs when there is much already, and after much has happened.

use crate::counting;
use crate::kit::Kit;
use anyhow::{bail, Context, Result};
use mapbuf_guest::price::Scaled;
use mapbuf_vm::Ui;
use plotters::prelude::*;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Limits that are in nobody's way.
const PARAMETERS: &str = "max_buffers=1000000 max_names=500000";
/// A buffer of a page takes some 8 KiB with all that belongs to it, and a name as much again.
const MEMORY_MIB: u32 = 4096;
/// An operation may cost so many times what it costs among ten objects: logarithms grow, by a factor of four from ten
/// to a hundred thousand.
const MOST: f64 = 4.0;

/// Count the instructions of operations among 10, a thousand and a hundred thousand objects, and after a million
/// operations.
///
/// The guest runs under QEMU's `-icount`, where the clock counts instructions, on one processor. Each figure is the
/// median of several rounds. What costs more than four times as much as among ten objects fails the command.
#[derive(clap::Args)]
pub struct Arguments {
    /// Numbers of objects, with commas between them.
    #[arg(long, value_name = "N", default_value = "10,1000,100000")]
    objects: String,
    /// Operations before the last measurement.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    operations: u64,
    /// Draws the figures into this file, as SVG.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Which kernel, as for `cargo xtask kernel`.
    #[arg(long, value_name = "KERNEL", default_value_t)]
    kernel: mapbuf_vm::Choice,
    /// Take the module from this folder instead of the driver's.
    #[arg(long, value_name = "DIR")]
    driver: Option<PathBuf>,
}

/// Runs the command.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    let kit = Kit::open(&Ui::default(), &arguments.kernel)?;
    let words = [
        "--objects".to_owned(),
        arguments.objects.clone(),
        "--operations".to_owned(),
        arguments.operations.to_string(),
    ];
    let guest = counting::Guest {
        processors: 1,
        parameters: PARAMETERS,
        driver: arguments.driver.as_deref(),
        memory_mib: MEMORY_MIB,
        ..Default::default()
    };
    let rows: Vec<Scaled> = guest.measure(&kit, &words)?;
    let curves = curves(&rows)?;
    print!("{}", table(&curves)?);
    if let Some(path) = &arguments.plot {
        plot(&curves, path)?;
    }
    let grows = curves.iter().filter(|curve| curve.growth() > MOST);
    Ok(match grows.count() {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// What one operation costs.
struct Curve {
    operation: String,
    /// Instructions, by the number of objects, before any other operations.
    by_objects: Vec<(u64, u64)>,
    /// After so many operations, among so many objects.
    after: Option<(u64, u64, u64)>,
}

impl Curve {
    /// How many times as much as among the fewest objects it costs, where it costs most.
    fn growth(&self) -> f64 {
        let first = self.by_objects.first().map_or(1, |(_, cost)| *cost).max(1);
        let all = self.by_objects.iter().map(|(_, cost)| *cost);
        let most = all.chain(self.after.map(|(_, _, cost)| cost)).max();
        most.unwrap_or(0) as f64 / first as f64
    }
}

/// The rows, operation by operation, in the order in which they came.
fn curves(rows: &[Scaled]) -> Result<Vec<Curve>> {
    let mut curves: Vec<Curve> = Vec::new();
    for row in rows {
        let known = curves
            .iter()
            .position(|curve| curve.operation == row.operation);
        let index = known.unwrap_or(curves.len());
        if known.is_none() {
            curves.push(Curve {
                operation: row.operation.clone(),
                by_objects: Vec::new(),
                after: None,
            });
        }
        let curve = curves.get_mut(index).context("a curve was just added")?;
        match row.operations {
            0 => curve.by_objects.push((row.objects, row.instructions)),
            operations => curve.after = Some((operations, row.objects, row.instructions)),
        }
    }
    if curves.is_empty() {
        bail!("nothing was measured");
    }
    Ok(curves)
}

/// The table for people.
fn table(curves: &[Curve]) -> Result<String> {
    let mut out = String::new();
    let first = curves.first().context("nothing was measured")?;
    write!(out, "{:<22}", "objects")?;
    for (objects, _) in &first.by_objects {
        write!(out, "{objects:>10}")?;
    }
    let after = first.after.unwrap_or_default();
    writeln!(out, "  after {} operations   growth", after.0)?;
    for curve in curves {
        write!(out, "{:<22}", curve.operation)?;
        for (_, cost) in &curve.by_objects {
            write!(out, "{cost:>10}")?;
        }
        let after = curve.after.map(|(_, _, cost)| cost.to_string());
        let after = after.unwrap_or_default();
        writeln!(out, "{after:>26}   {:>6.2}", curve.growth())?;
    }
    writeln!(
        out,
        "\nInstructions, the median of several rounds. The operations were IMPORT and FREE, which use up all offsets; \
         there were\n{} objects then. growth: the most of a row, over the first.",
        after.1
    )?;
    Ok(out)
}

/// Draws the curves over the number of objects, both axes logarithmic.
fn plot(curves: &[Curve], path: &Path) -> Result<()> {
    let points = || curves.iter().flat_map(|curve| &curve.by_objects);
    let (Some(left), Some(right)) = (
        points().map(|(objects, _)| *objects).min(),
        points().map(|(objects, _)| *objects).max(),
    ) else {
        bail!("nothing was measured");
    };
    let low = points().map(|(_, cost)| *cost).min().unwrap_or(1).max(1);
    let high = points().map(|(_, cost)| *cost).max().unwrap_or(1);
    let area = SVGBackend::new(path, (760, 460)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(
            (left as f64..right as f64 * 1.2).log_scale(),
            (low as f64 / 2.0..high as f64 * 2.0).log_scale(),
        )?;
    let axis = |value: &f64| format!("{value:.0}");
    chart
        .configure_mesh()
        .x_desc("objects")
        .y_desc("instructions")
        .x_label_formatter(&axis)
        .y_label_formatter(&axis)
        .draw()?;
    for (index, curve) in curves.iter().enumerate() {
        let colour = Palette99::pick(index).to_rgba();
        let points = curve.by_objects.iter();
        let points: Vec<_> = points.map(|(x, y)| (*x as f64, *y as f64)).collect();
        chart
            .draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))?
            .label(curve.operation.as_str())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        let dots = points.into_iter();
        chart.draw_series(dots.map(|point| Circle::new(point, 3, colour.filled())))?;
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .position(SeriesLabelPosition::UpperLeft)
        .draw()?;
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(operation: &str, objects: u64, operations: u64, instructions: u64) -> Scaled {
        Scaled {
            operation: operation.to_owned(),
            objects,
            operations,
            instructions,
        }
    }

    #[test]
    fn growth_is_over_the_first() {
        let rows = [
            row("ALLOC", 10, 0, 1000),
            row("FREE", 10, 0, 500),
            row("ALLOC", 1000, 0, 1100),
            row("FREE", 1000, 0, 500),
            row("ALLOC", 1000, 7, 5000),
        ];
        let curves = curves(&rows).unwrap();
        assert_eq!(curves.len(), 2);
        assert!((curves[0].growth() - 5.0).abs() < 1e-9);
        assert!((curves[1].growth() - 1.0).abs() < 1e-9);
        let table = table(&curves).unwrap();
        assert!(
            table.contains("ALLOC                       1000      1100"),
            "{table}"
        );
        assert!(curves_of_nothing());
    }

    fn curves_of_nothing() -> bool {
        curves(&[]).is_err()
    }

    #[test]
    fn figures_are_drawn() {
        let rows = [row("ALLOC", 10, 0, 1000), row("ALLOC", 100_000, 0, 2000)];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scale.svg");
        plot(&curves(&rows).unwrap(), &path).unwrap();
        let drawn = std::fs::read_to_string(path).unwrap();
        assert!(
            drawn.starts_with("<svg") && drawn.contains("ALLOC"),
            "{drawn}"
        );
    }
}
