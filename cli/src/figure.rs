//! `mapbuf figure`: a mapping as the page tables have it at this moment, drawn.

use crate::{
    failure::Failure,
    output,
    specimen::{Row, Source, Specimen},
    values::{CacheArg, KindArg},
};
use clap::{builder::PossibleValuesParser, Args as Group};
use mapbuf::{abi::explain::Bytes, Kind, Method};
use std::fmt::{self, Write};

const ROW: usize = 20;
const TOP: usize = 56;

/// Draw a mapping as the page tables have it: virtual pages, entries, frames (SVG on standard output)
///
/// A buffer is allocated, mapped by the method, and read (for methods that map by faults, its first half only). Then the
/// process's own page tables are read (through /proc/kcore; a probe in tracefs tells where they begin). Where that cannot
/// be, /proc/self/pagemap serves, which leaves out mappings by frame number. Needs root, who alone sees frames.
/// 'mapbuf show' says the same in words.
#[derive(Debug, Group)]
#[command(after_long_help = "Examples:
  mapbuf figure vmalloc > vmalloc.svg
  mapbuf figure fault-huge --pages 1024 > huge.svg")]
pub struct FigureArgs {
    /// The method
    #[arg(value_parser = PossibleValuesParser::new(Method::ALL.iter().map(|method| method.name())))]
    method: String,
    /// The kind of memory [default: one that suits the method]
    #[arg(long, value_enum)]
    kind: Option<KindArg>,
    /// How every view of it is cached
    #[arg(long, value_enum, default_value = "cached")]
    cache: CacheArg,
    /// How many pages
    #[arg(long, default_value_t = 8)]
    pages: u64,
}

struct Figure {
    title: String,
    /// Bytes that an entry maps.
    entry: u64,
    /// Where the frames are from.
    note: &'static str,
    rows: Vec<Row>,
}

/// Runs the command.
pub fn run(args: &FigureArgs) -> Result<(), Failure> {
    let specimen = Specimen::new(
        &args.method,
        args.kind.map(Kind::from),
        args.cache.into(),
        args.pages,
    )?;
    let figure = Figure {
        title: format!(
            "{} of {} memory, method {}",
            Bytes(specimen.buffer.len()),
            specimen.kind.name(),
            specimen.method.name()
        ),
        entry: specimen.entry(),
        note: note(specimen.source),
        rows: specimen.rows,
    };
    output::print(&figure).map(drop)
}

/// Where the frames are from.
fn note(source: Source) -> &'static str {
    match source {
        Source::Tables => "from the live page tables",
        Source::Pagemap => "from /proc/self/pagemap",
        Source::Driver => "the page tables cannot be read here; frames as reported by the driver",
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut frames: Vec<u64> = self.rows.iter().filter_map(|row| row.physical).collect();
        frames.sort_unstable();
        frames.dedup();
        let step = self.entry;
        // A frame that does not follow the one before it stands apart from it.
        let mut places: Vec<(u64, usize)> = Vec::new();
        let mut y = TOP;
        for (index, &frame) in frames.iter().enumerate() {
            let before = index.checked_sub(1).and_then(|before| frames.get(before));
            if before.is_some_and(|before| before + step != frame) {
                y += ROW / 2;
            }
            places.push((frame, y));
            y += ROW;
        }
        let bottom = y.max(TOP + self.rows.len() * ROW) + 16;
        let height = bottom + 12;
        writeln!(
            f,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 640 {height}\" width=\"640\" height=\"{height}\" \
             font-family=\"monospace\" font-size=\"12\">\n\
             <rect width=\"640\" height=\"{height}\" fill=\"#fff\"/>\n\
             <text x=\"16\" y=\"20\" font-weight=\"bold\">{}</text>\n\
             <text x=\"16\" y=\"44\">virtual</text>\n\
             <text x=\"200\" y=\"44\">entries</text>\n\
             <text x=\"440\" y=\"44\">frames</text>\n\
             <text x=\"16\" y=\"{bottom}\" fill=\"#666\">{}</text>",
            self.title, self.note
        )?;
        for (row, y) in self.rows.iter().zip((TOP..).step_by(ROW)) {
            cell(
                f,
                16,
                y,
                120,
                &format!("page {}", row.page),
                "#dbe9f6",
                false,
            )?;
            let Some(frame) = row.physical else {
                cell(f, 200, y, 140, "no entry", "#fff", true)?;
                continue;
            };
            let size = Bytes(row.bytes);
            let mode = match row.cached {
                Some(true) => ", cached",
                Some(false) => ", uncached",
                None => "",
            };
            cell(f, 200, y, 140, &format!("{size}{mode}"), "#fde9c8", false)?;
            let to = places.iter().find(|(place, _)| *place == frame);
            let to = to.map_or(y, |(_, to)| *to) + ROW / 2;
            let from = y + ROW / 2;
            writeln!(
                f,
                "<path d=\"M136 {from} H200\" stroke=\"#888\"/>\n\
                 <path d=\"M340 {from} C390 {from} 390 {to} 440 {to}\" stroke=\"#b8600b\" fill=\"none\"/>"
            )?;
        }
        for (frame, y) in places {
            cell(f, 440, y, 184, &format!("{frame:#012x}"), "#d9f0d3", false)?;
        }
        writeln!(f, "</svg>")
    }
}

fn cell(
    f: &mut fmt::Formatter<'_>,
    x: usize,
    y: usize,
    width: usize,
    text: &str,
    fill: &str,
    dashed: bool,
) -> fmt::Result {
    let mut dash = String::new();
    if dashed {
        write!(dash, " stroke-dasharray=\"3 3\"")?;
    }
    writeln!(
        f,
        "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{}\" fill=\"{fill}\" stroke=\"#666\"{dash}/>\n\
         <text x=\"{}\" y=\"{}\">{}</text>",
        ROW - 3,
        x + 6,
        y + 13,
        text.replace('>', "&gt;")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers are of the moment; the rest of a figure is its form.
    fn form(text: &str) -> String {
        let mut out = String::new();
        for letter in text.chars() {
            let letter = if letter.is_ascii_hexdigit() {
                '0'
            } else {
                letter
            };
            if letter != '0' || !out.ends_with('0') {
                out.push(letter);
            }
        }
        out
    }

    #[test]
    fn the_guide_has_figures_of_this_form() {
        let rows = (0..8).map(|page| Row {
            page,
            physical: Some((0x6d18 + page) * 4096),
            bytes: 4096,
            cached: Some(true),
        });
        let figure = Figure {
            title: "32 KiB of contiguous memory, method remap".into(),
            entry: 4096,
            note: note(Source::Tables),
            rows: rows.collect(),
        };
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/src/figures/remap.svg");
        let shown = std::fs::read_to_string(path).unwrap();
        assert_eq!(
            form(&shown),
            form(&figure.to_string()),
            "run: cargo xtask docs --figures"
        );
    }

    #[test]
    fn frames_that_do_not_follow_stand_apart() {
        let row = |page, frame: Option<u64>| Row {
            page,
            physical: frame.map(|frame| frame * 4096),
            bytes: 4096,
            cached: None,
        };
        let figure = Figure {
            title: "t".into(),
            entry: 4096,
            note: "n",
            rows: vec![
                row(0, Some(7)),
                row(1, Some(8)),
                row(2, None),
                row(3, Some(2)),
            ],
        };
        let text = figure.to_string();
        assert_eq!(text.matches("no entry").count(), 1);
        // Frames 2, 7 and 8: one gap.
        for y in [TOP, TOP + ROW + ROW / 2, TOP + 2 * ROW + ROW / 2] {
            assert!(
                text.contains(&format!("<rect x=\"440\" y=\"{y}\"")),
                "{text}"
            );
        }
    }
}
