//! `mapbuf figure`: a mapping as the page tables have it at this moment, drawn.

use crate::{args::KindArg, demo::frames, failure::Failure, output};
use clap::{builder::PossibleValuesParser, Args as Group};
use frames::Page;
use mapbuf::{
    abi::{explain::Bytes, ADDRESS_HIDDEN},
    Device, Kind, MapOptions, Mapping, Method, Segment,
};
use std::fmt::{self, Write};

const ROW: usize = 20;
const TOP: usize = 56;
const HUGE: u64 = 2 << 20;

/// Draw a mapping as the page tables have it: virtual pages, entries, frames (SVG on standard output)
///
/// A buffer is allocated, mapped by the method, and read (for methods that map by faults, its first half only). Then the
/// process's own page table is read: /proc/self/pagemap. The kernel leaves mappings by frame number out of it: for those
/// the frames are the driver's, as the figure says. Needs root, who alone sees frames.
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
    /// How many pages
    #[arg(long, default_value_t = 8)]
    pages: u64,
}

/// A row of the figure: pages that one entry maps.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Row {
    /// The first page.
    page: u64,
    /// The first frame, or no entry.
    frame: Option<u64>,
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
    let unknown = || Failure::Usage(format!("there is no method '{}'", args.method));
    let method = Method::from_name(&args.method).ok_or_else(unknown)?;
    let kind = args.kind.map_or(suitable(method), Kind::from);
    let page_size = rustix::param::page_size() as u64;
    let pages = args.pages.clamp(1, 16 * HUGE / page_size);
    let device = Device::open()?;
    let buffer = device.alloc(kind, pages * page_size)?;
    let memory = MapOptions::new().method(method).map(&buffer)?;
    let by_fault = matches!(
        method,
        Method::Auto | Method::FaultPage | Method::FaultPfn | Method::FaultHuge
    );
    let huge = pages * page_size >= 2 * HUGE;
    let step = if huge { HUGE } else { page_size };
    let touched = if by_fault {
        memory.len() / 2
    } else {
        memory.len()
    };
    for at in (0..touched.max(1)).step_by(usize::try_from(step).unwrap_or(usize::MAX)) {
        memory.read::<u8>(at)?;
    }
    let mut table = frames::of_mapping(&memory).unwrap_or_default();
    let walked = table.iter().any(|page| *page != Page::Absent);
    if !walked {
        table = by_number(&buffer.segments()?, pages, touched as u64);
    }
    let hidden = table.is_empty() || table.contains(&Page::Frame(0));
    if hidden {
        return Err(Failure::Usage(
            "frames are shown to root alone: run it as root".to_owned(),
        ));
    }
    let entry = if huge && has_huge_entries(&memory) {
        HUGE
    } else {
        page_size
    };
    let figure = Figure {
        title: format!(
            "{} of {} memory, method {}",
            Bytes(buffer.len()),
            kind.name(),
            method.name()
        ),
        entry,
        note: if walked {
            "from /proc/self/pagemap"
        } else {
            "by frame number: /proc/self/pagemap leaves such out; frames from SEGMENTS"
        },
        rows: rows(&table, entry / page_size),
    };
    output::print(&figure).map(drop)
}

fn suitable(method: Method) -> Kind {
    match method {
        Method::Remap | Method::Iomap | Method::IoRemap | Method::FaultPfn => Kind::Contiguous,
        Method::RemapEach | Method::Vmalloc | Method::FaultPage => Kind::Vmalloc,
        Method::Dma => Kind::Coherent,
        _ => Kind::Pages,
    }
}

/// The entries of a mapping by frame number: the kernel's walk leaves such mappings out (`walk_page_test` of
/// `mm/pagewalk.c`), so the frames are those that the driver names, for what was touched.
fn by_number(segments: &[Segment], pages: u64, touched: u64) -> Vec<Page> {
    let page_size = rustix::param::page_size() as u64;
    (0..pages)
        .map(|page| {
            let offset = page * page_size;
            let segment = segments.iter().find(|segment| {
                offset >= segment.offset && offset - segment.offset < segment.length
            });
            match segment {
                _ if offset >= touched => Page::Absent,
                Some(segment) if segment.physical_address != ADDRESS_HIDDEN => {
                    Page::Frame((segment.physical_address + (offset - segment.offset)) / page_size)
                }
                _ => Page::Frame(0),
            }
        })
        .collect()
}

/// Whether the kernel counts entries of 2 MiB in the mapping.
fn has_huge_entries(memory: &Mapping) -> bool {
    let start = format!("{:x}-", memory.as_ptr().addr());
    let text = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    let mut lines = text.lines().skip_while(|line| !line.starts_with(&start));
    lines
        .find_map(|line| line.strip_prefix("FilePmdMapped:"))
        .is_some_and(|value| value.trim() != "0 kB")
}

fn rows(table: &[Page], pages_in_entry: u64) -> Vec<Row> {
    (0..)
        .zip(table)
        .step_by(usize::try_from(pages_in_entry).unwrap_or(1))
        .map(|(page, entry)| Row {
            page,
            frame: match entry {
                Page::Frame(frame) => Some(*frame),
                Page::Absent => None,
            },
        })
        .collect()
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut frames: Vec<u64> = self.rows.iter().filter_map(|row| row.frame).collect();
        frames.sort_unstable();
        frames.dedup();
        let step = self.entry / rustix::param::page_size() as u64;
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
             <text x=\"200\" y=\"44\">entries of {}</text>\n\
             <text x=\"440\" y=\"44\">frames</text>\n\
             <text x=\"16\" y=\"{bottom}\" fill=\"#666\">{}</text>",
            self.title,
            Bytes(self.entry),
            self.note
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
            let Some(frame) = row.frame else {
                cell(f, 200, y, 120, "no entry", "#fff", true)?;
                continue;
            };
            cell(f, 200, y, 120, &format!("-> {frame:#x}"), "#fde9c8", false)?;
            let to = places.iter().find(|(place, _)| *place == frame);
            let to = to.map_or(y, |(_, to)| *to) + ROW / 2;
            let from = y + ROW / 2;
            writeln!(
                f,
                "<path d=\"M136 {from} H200\" stroke=\"#888\"/>\n\
                 <path d=\"M320 {from} C380 {from} 380 {to} 440 {to}\" stroke=\"#b8600b\" fill=\"none\"/>"
            )?;
        }
        let page_size = rustix::param::page_size() as u64;
        for (frame, y) in places {
            cell(
                f,
                440,
                y,
                184,
                &format!("{:#012x}", frame * page_size),
                "#d9f0d3",
                false,
            )?;
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

    #[test]
    fn frames_that_do_not_follow_stand_apart() {
        let table = [Page::Frame(7), Page::Frame(8), Page::Absent, Page::Frame(2)];
        let figure = Figure {
            title: "t".into(),
            entry: rustix::param::page_size() as u64,
            note: "n",
            rows: rows(&table, 1),
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
