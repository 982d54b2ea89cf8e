//! What came of each cell.

use super::{answer::Answer, subjects::Part};
use crate::failure::Failure;
use mapbuf::{Cache, Kind, Method, Reason};
use mapbuf_policy::plan::{Request, Sharing};
use serde_json::{json, Value};
use std::fmt::Write;

/// One cell.
#[derive(Clone, Debug)]
pub struct Cell {
    pub kind: Kind,
    pub region: Option<String>,
    pub cache: Cache,
    pub bytes: u64,
    pub runs: usize,
    pub part: Part,
    pub request: Request,
    pub table: Answer,
    pub driver: Answer,
}

impl Cell {
    pub fn agrees(&self) -> bool {
        self.table == self.driver
    }

    pub fn method(&self) -> Method {
        self.request.method
    }

    fn json(&self) -> Value {
        json!({
            "kind": self.kind.name(),
            "region": self.region,
            "cache": self.cache.name(),
            "bytes": self.bytes,
            "runs": self.runs,
            "page": self.part.page,
            "pages": self.part.pages,
            "method": self.method().name(),
            "sharing": sharing(self.request.sharing),
            "admin": self.request.admin,
            "table": self.table.json(),
            "driver": self.driver.json(),
            "agrees": self.agrees(),
        })
    }
}

/// The name of a sharing.
pub fn sharing(sharing: Sharing) -> &'static str {
    match sharing {
        Sharing::Shared => "shared",
        Sharing::PrivateReadOnly => "private, read-only",
        Sharing::PrivateWritable => "private, writable",
    }
}

/// All cells.
#[derive(Default)]
pub struct Report {
    pub cells: Vec<Cell>,
}

impl Report {
    pub fn enter(&mut self, cell: Cell) {
        self.cells.push(cell);
    }

    pub fn differ(&self) -> usize {
        self.cells.iter().filter(|cell| !cell.agrees()).count()
    }

    pub fn maps(&self) -> usize {
        let maps = |cell: &&Cell| matches!(cell.driver, Answer::Maps { .. });
        self.cells.iter().filter(maps).count()
    }

    pub fn refused(&self) -> usize {
        let refused = |cell: &&Cell| matches!(cell.driver, Answer::Refused(_));
        self.cells.iter().filter(refused).count()
    }

    /// The reasons that were met, in the order of their numbers.
    pub fn reasons(&self) -> Vec<Reason> {
        let mut reasons: Vec<_> = self
            .cells
            .iter()
            .filter_map(|cell| match &cell.driver {
                Answer::Refused(refusal) => Some(refusal.reason),
                _ => None,
            })
            .collect();
        reasons.sort_unstable();
        reasons.dedup();
        reasons
    }

    /// For programs: a line for each cell, so that lines can be searched.
    pub fn json(&self) -> Result<String, Failure> {
        let mut text = String::from("{\"cells\":[\n");
        for (number, cell) in self.cells.iter().enumerate() {
            let comma = if number + 1 < self.cells.len() {
                ","
            } else {
                ""
            };
            // Writing to a string does not fail.
            let _ = writeln!(text, "{}{comma}", cell.json());
        }
        let summary = json!({
            "tried": self.cells.len(),
            "map": self.maps(),
            "refused": self.refused(),
            "differ": self.differ(),
        });
        let _ = writeln!(text, "],\"summary\":{summary}}}");
        Ok(text)
    }
}
