//! The matrix for people: a table for each kind and cache mode, a row for each method.

use super::{
    answer::Answer,
    report::{sharing, Cell, Report},
};
use anstyle::{AnsiColor, Style};
use mapbuf::{abi::explain::Bytes, Method};
use mapbuf_policy::plan::Sharing;
use std::fmt;

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();

/// The columns: how it is shared, and whether by an administrator. The rights matter to private writable mappings alone.
const COLUMNS: [(&str, Sharing, bool); 4] = [
    ("shared", Sharing::Shared, false),
    ("private, read-only", Sharing::PrivateReadOnly, false),
    ("private, writable", Sharing::PrivateWritable, false),
    ("the same, as root", Sharing::PrivateWritable, true),
];
const WIDTH: usize = 20;

/// A report as tables.
pub struct Table<'a>(pub &'a Report);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut groups: Vec<(String, Vec<&Cell>)> = Vec::new();
        for cell in &self.0.cells {
            let title = match &cell.region {
                Some(name) => format!("region {name}, {}", cell.cache.name()),
                None => format!("{}, {}", cell.kind.name(), cell.cache.name()),
            };
            match groups.last_mut() {
                Some((last, cells)) if *last == title => cells.push(cell),
                _ => groups.push((title, vec![cell])),
            }
        }
        for (title, cells) in &groups {
            group(f, title, cells)?;
        }
        legend(f, self.0)
    }
}

fn group(f: &mut fmt::Formatter<'_>, title: &str, cells: &[&Cell]) -> fmt::Result {
    write!(f, "{BOLD}{title:24}{BOLD:#}")?;
    for (name, ..) in COLUMNS {
        write!(f, "  {DIM}{name:WIDTH$}{DIM:#}")?;
    }
    writeln!(f)?;
    // Memory that cannot be had cannot be mapped by any method.
    if let [only] = outcomes(cells.iter()).as_slice() {
        let (style, text) = only;
        return writeln!(f, "  {:22}  {style}{text}{style:#}\n", "every method");
    }
    for &method in Method::ALL {
        let columns = COLUMNS.map(|(_, sharing, admin)| {
            let of_column = |cell: &&&Cell| {
                cell.method() == method
                    && cell.request.sharing == sharing
                    && cell.request.admin == admin
            };
            outcomes(cells.iter().filter(of_column))
        });
        let lines = columns.iter().map(Vec::len).max().unwrap_or(0);
        for line in 0..lines {
            let name = if line == 0 { method.name() } else { "" };
            write!(f, "  {name:22}")?;
            for column in &columns {
                let (style, text) = match column.get(line) {
                    Some(outcome) => (outcome.0, outcome.1.as_str()),
                    None => (DIM, ""),
                };
                write!(f, "  {style}{text:WIDTH$}{style:#}")?;
            }
            writeln!(f)?;
        }
    }
    writeln!(f)
}

/// What came of the parts that were tried, each outcome once. That a part which passes the end is refused everywhere is
/// said once, below.
fn outcomes<'a, 'b: 'a>(cells: impl Iterator<Item = &'a &'b Cell>) -> Vec<(Style, String)> {
    let mut outcomes = Vec::new();
    for cell in cells {
        let outcome = match &cell.driver {
            _ if !cell.agrees() => (BAD, "DIFFERS".to_owned()),
            Answer::Maps { .. } => (GOOD, "maps".to_owned()),
            Answer::Refused(refusal) if refusal.reason == mapbuf::Reason::BeyondEnd => continue,
            Answer::Refused(refusal) => (Style::new(), refusal.reason.name().to_owned()),
            Answer::Wrong(what) => (BAD, what.clone()),
        };
        if !outcomes.contains(&outcome) {
            outcomes.push(outcome);
        }
    }
    outcomes
}

fn legend(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    writeln!(
        f,
        "Several entries in one place: it depends on the part of the buffer (--json has each part).\n\
         A part that passes the buffer's end is BeyondEnd everywhere. 'mapbuf explain REASON' has the sentences.\n"
    )?;
    for reason in report.reasons() {
        let kernel = reason.text().kernel;
        if !kernel.is_empty() {
            writeln!(f, "  {BOLD}{}{BOLD:#}  {kernel}", reason.name())?;
        }
    }
    writeln!(f)?;
    for cell in report.cells.iter().filter(|cell| !cell.agrees()) {
        writeln!(
            f,
            "{BAD}differs{BAD:#}  {} of {} ({}), pages {}+{}, by {}, {}{}: the table says {}, the driver {}",
            Bytes(cell.bytes),
            cell.region.as_deref().unwrap_or(cell.kind.name()),
            cell.cache.name(),
            cell.part.page,
            cell.part.pages,
            cell.method().name(),
            sharing(cell.request.sharing),
            if cell.request.admin { ", as root" } else { "" },
            said(&cell.table),
            said(&cell.driver),
        )?;
    }
    writeln!(
        f,
        "{} cells tried: {} map and show the right bytes, {} are refused with the right reason, {} differ from the table",
        report.cells.len(),
        report.maps(),
        report.refused(),
        report.differ()
    )
}

fn said(answer: &Answer) -> String {
    match answer {
        Answer::Maps { sealed: true } => "maps, never writable".to_owned(),
        Answer::Maps { sealed: false } => "maps".to_owned(),
        Answer::Refused(refusal) => format!("{} {:?}", refusal.reason.name(), refusal.operands),
        Answer::Wrong(what) => what.clone(),
    }
}
