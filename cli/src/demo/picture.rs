//! A picture in characters: virtual pages across, physical frames down.
//!
//! Each physically contiguous run is a row, the lowest address first, with a mark under each of its virtual pages. One
//! bar from edge to edge is contiguous memory; marks that jump up and down are scattered memory.

use super::charset::Charset;
use mapbuf::{abi::ADDRESS_HIDDEN, Segment};

/// Cells across, at most.
const COLUMNS: usize = 40;
/// Rows, at most: beyond, runs that lie close together share one.
const ROWS: usize = 16;
/// Characters of a physical address.
const LABEL: usize = 12;

/// A buffer's virtual pages and physical frames.
#[derive(Clone, Debug)]
pub struct Picture {
    pages: u64,
    page_size: u64,
    /// By physical address.
    runs: Vec<Run>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Run {
    first_page: u64,
    pages: u64,
    physical: u64,
}

/// A row, ready to be shown.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Row {
    /// The physical address of its first byte.
    pub label: String,
    /// A mark for each column that has pages here.
    pub cells: String,
    /// How large the run is, or how many there are.
    pub run: String,
    /// How far it is to the next row.
    pub gap: String,
}

impl Picture {
    /// A buffer with these runs, in the order of the buffer. `None` where addresses are hidden or there is nothing.
    pub fn new(segments: &[Segment], page_size: u64) -> Option<Self> {
        let mut runs: Vec<Run> = Vec::new();
        for segment in segments {
            if segment.physical_address == ADDRESS_HIDDEN {
                return None;
            }
            runs.push(Run {
                first_page: segment.offset.checked_div(page_size)?,
                pages: segment.length.checked_div(page_size)?,
                physical: segment.physical_address,
            });
        }
        runs.sort_by_key(|run| run.physical);
        let pages = runs.iter().map(|run| run.pages).sum();
        (pages > 0).then_some(Self {
            pages,
            page_size,
            runs,
        })
    }

    /// Whether all of it is one run.
    pub fn is_one_run(&self) -> bool {
        self.runs.len() == 1
    }

    /// Pages, runs, and how large those are, in words; and the verdict.
    pub fn summary(&self) -> (String, &'static str) {
        let plural = |n: u64, what: &str| match n {
            1 => format!("1 {what}"),
            n => format!("{n} {what}s"),
        };
        let pages = plural(self.pages, "page");
        let least = self.runs.iter().map(|run| run.pages).min().unwrap_or(0);
        let most = self.runs.iter().map(|run| run.pages).max().unwrap_or(0);
        let count = self.runs.len() as u64;
        let sizes = match (least, most) {
            _ if count == 1 => String::new(),
            (least, most) if least == most => format!(" of {}", plural(most, "page")),
            (least, most) => format!(" of {least} to {}", plural(most, "page")),
        };
        let verdict = match count {
            1 => "contiguous",
            _ if most * 2 > self.pages => "mostly one run",
            _ => "scattered",
        };
        (
            format!("{pages} in {}{sizes}", plural(count, "run")),
            verdict,
        )
    }

    /// What stands above the rows: over the addresses, over the cells, over the sizes.
    pub fn axis(&self) -> (String, String, String) {
        let width = self.columns() * self.cell_width();
        let last = (self.pages - 1).to_string();
        let first = if width > "page 0".len() {
            "page 0"
        } else {
            "0"
        };
        let axis = match width.checked_sub(first.len() + last.len()) {
            Some(room) if room > 0 => format!("{first}{:room$}{last}", ""),
            _ => format!("{first:width$}"),
        };
        (
            format!("{:LABEL$}", "physical"),
            axis,
            format!("{:>9}  to the next", "run"),
        )
    }

    /// The rows, the lowest address first.
    pub fn rows(&self, charset: &Charset) -> Vec<Row> {
        let groups = self.groups();
        let mut rows = Vec::new();
        for (number, group) in groups.iter().enumerate() {
            let (Some(first), Some(last)) = (group.first(), group.last()) else {
                continue;
            };
            let end = last.physical + last.pages * self.page_size;
            let gap = match groups.get(number + 1).and_then(|next| next.first()) {
                Some(next) => format!(
                    "{} {}",
                    charset.down,
                    approximate(next.physical.saturating_sub(end))
                ),
                None => String::new(),
            };
            rows.push(Row {
                label: format!("{:#0LABEL$x}", first.physical),
                cells: self.cells(group, charset),
                run: match group.len() {
                    1 => approximate(first.pages * self.page_size),
                    count => format!("{count} runs"),
                },
                gap,
            });
        }
        rows
    }

    fn columns(&self) -> usize {
        usize::try_from(self.pages).unwrap_or(COLUMNS).min(COLUMNS)
    }

    /// Few pages get wide cells.
    fn cell_width(&self) -> usize {
        (COLUMNS / self.columns()).clamp(1, 2)
    }

    /// The runs, row by row: those with the smallest gaps between them share rows when there are too many.
    fn groups(&self) -> Vec<Vec<Run>> {
        let end = |run: &Run| run.physical + run.pages * self.page_size;
        let mut gaps: Vec<(u64, usize)> = self
            .runs
            .windows(2)
            .enumerate()
            .filter_map(|(place, pair)| match pair {
                [a, b] => Some((b.physical.saturating_sub(end(a)), place + 1)),
                _ => None,
            })
            .collect();
        gaps.sort_by(|a, b| b.cmp(a));
        let mut cuts: Vec<usize> = gaps
            .iter()
            .take(ROWS - 1)
            .map(|&(_, place)| place)
            .collect();
        cuts.sort_unstable();
        let mut groups = Vec::new();
        let mut from = 0;
        for cut in cuts.into_iter().chain([self.runs.len()]) {
            groups.push(self.runs.get(from..cut).unwrap_or_default().to_vec());
            from = cut;
        }
        groups
    }

    fn cells(&self, group: &[Run], charset: &Charset) -> String {
        let columns = self.columns() as u64;
        let mut line = String::new();
        for column in 0..columns {
            // The pages that this column stands for.
            let start = column * self.pages / columns;
            let end = (column + 1) * self.pages / columns;
            let here: u64 = group
                .iter()
                .map(|run| {
                    let to = end.min(run.first_page + run.pages);
                    to.saturating_sub(start.max(run.first_page))
                })
                .sum();
            let cell = match (here * 4).div_ceil(end - start) {
                0 => charset.empty,
                quarters => {
                    let shade = usize::try_from(quarters).unwrap_or(4).min(4) - 1;
                    charset.shades[shade]
                }
            };
            (0..self.cell_width()).for_each(|_| line.push(cell));
        }
        line
    }
}

/// A size in at most 8 characters.
fn approximate(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut whole = bytes;
    let mut rest = 0;
    while whole >= 1024 && unit + 1 < units.len() {
        rest = whole % 1024;
        whole /= 1024;
        unit += 1;
    }
    let name = units[unit];
    match rest * 10 / 1024 {
        tenths if whole < 10 && tenths > 0 => format!("{whole}.{tenths} {name}"),
        _ => format!("{whole} {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::charset::ASCII, *};
    use proptest::prelude::*;

    const PAGE: u64 = 4096;

    fn segment(first_page: u64, pages: u64, frame: u64) -> Segment {
        Segment {
            offset: first_page * PAGE,
            length: pages * PAGE,
            dma_address: ADDRESS_HIDDEN,
            physical_address: frame * PAGE,
        }
    }

    #[test]
    fn contiguous_memory_is_one_bar() {
        let picture = Picture::new(&[segment(0, 16, 0x12340)], PAGE).unwrap();
        let rows = picture.rows(&ASCII);
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].label, "0x0012340000");
        assert_eq!(rows[0].cells, "#".repeat(32));
        assert_eq!(rows[0].run, "64 KiB");
        assert_eq!(
            picture.summary(),
            ("16 pages in 1 run".into(), "contiguous")
        );
    }

    #[test]
    fn scattered_memory_jumps() {
        let segments = [segment(0, 1, 9), segment(1, 2, 3), segment(3, 1, 300)];
        let picture = Picture::new(&segments, PAGE).unwrap();
        let rows = picture.rows(&ASCII);
        let cells: Vec<&str> = rows.iter().map(|row| row.cells.as_str()).collect();
        assert_eq!(cells, ["..####..", "##......", "......##"]);
        let gaps: Vec<&str> = rows.iter().map(|row| row.gap.as_str()).collect();
        assert_eq!(gaps, ["v 16 KiB", "v 1.1 MiB", ""]);
        assert_eq!(picture.summary().0, "4 pages in 3 runs of 1 to 2 pages");
    }

    #[test]
    fn large_buffers_are_shaded() {
        let segments = [segment(0, 512, 1024), segment(512, 11, 5)];
        let picture = Picture::new(&segments, PAGE).unwrap();
        let rows = picture.rows(&ASCII);
        assert_eq!(rows[1].cells, "#".repeat(39) + ":");
        assert!(
            rows[0].cells.ends_with('#') && rows[0].cells.starts_with('.'),
            "{}",
            rows[0].cells
        );
        assert_eq!(picture.summary().1, "mostly one run");
    }

    #[test]
    fn few_pages_have_room_for_their_numbers() {
        let axis = |pages| {
            Picture::new(&[segment(0, pages, 1)], PAGE)
                .unwrap()
                .axis()
                .1
        };
        assert_eq!(axis(1), "0 ");
        assert_eq!(axis(2), "0  1");
        assert_eq!(axis(4), "page 0 3");
    }

    #[test]
    fn hidden_addresses_are_not_drawn() {
        let hidden = Segment {
            physical_address: ADDRESS_HIDDEN,
            ..segment(0, 1, 0)
        };
        assert!(Picture::new(&[hidden], PAGE).is_none());
        assert!(Picture::new(&[], PAGE).is_none());
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!(approximate(4096), "4 KiB");
        assert_eq!(approximate((1 << 20) + (1 << 18)), "1.2 MiB");
        assert_eq!(approximate(1023 << 20), "1023 MiB");
        assert_eq!(approximate(0), "0 B");
    }

    proptest! {
        /// However the pages lie: 80 columns, few rows, and every column has a mark somewhere.
        #[test]
        fn every_page_is_drawn(lengths in proptest::collection::vec(1_u64..40, 1..60), seed: u64) {
            let mut segments = Vec::new();
            let mut page = 0;
            for (place, &length) in lengths.iter().enumerate() {
                let frame = (place as u64 ^ (seed % 64)) * 100 + 1;
                segments.push(segment(page, length, frame));
                page += length;
            }
            let picture = Picture::new(&segments, PAGE).unwrap();
            let rows = picture.rows(&ASCII);
            let (left, axis, right) = picture.axis();
            prop_assert!(left.len() + axis.len() + right.len() + 4 <= 80);
            prop_assert!(rows.len() <= ROWS);
            for row in &rows {
                prop_assert!(2 + LABEL + 1 + row.cells.len() + 1 + 9 + 2 + row.gap.len() <= 80);
                prop_assert_eq!(row.cells.len(), axis.len());
            }
            for column in 0..axis.len() {
                prop_assert!(rows.iter().any(|row| row.cells.as_bytes()[column] != b'.'));
            }
        }
    }
}
