//! What is to be done so that the buffers are as the files ask for: a comparison without side effects.

use crate::{
    failure::Failure,
    wanted::{Memory, Mistake, Place, Wanted},
};
use anstyle::{AnsiColor, Style};
use mapbuf::{abi::explain::Bytes, sysfs, Cache, Kind};
use serde::Serialize;
use std::{collections::HashSet, fmt};

/// A buffer that is there, as far as it can be compared.
#[derive(Clone, Debug)]
pub struct There {
    pub name: String,
    pub bytes: u64,
    pub kind: Kind,
    pub cache: Cache,
    /// Permission bits, owner and group of the node.
    pub node: Option<(u32, u32, u32)>,
    pub for_device: Option<String>,
}

impl From<&sysfs::Entry> for There {
    fn from(entry: &sysfs::Entry) -> Self {
        Self {
            name: entry.name.clone(),
            bytes: entry.bytes,
            kind: entry.kind,
            cache: entry.cache,
            node: entry.node.map(|node| (node.mode, node.uid, node.gid)),
            for_device: entry.for_device.clone(),
        }
    }
}

/// What is to be done about one buffer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It is not there.
    Create,
    /// It is as the file says.
    Keep,
    /// Its node gets another mode, group or owner; the buffer stays.
    Change,
    /// It is another buffer, and is left as it is.
    Differs,
    /// It is another buffer, and goes.
    Replace,
    /// It cannot be.
    Impossible,
}

impl Action {
    /// How it is shown.
    fn word(self) -> (&'static str, Style) {
        match self {
            Self::Create => ("create", AnsiColor::Green.on_default()),
            Self::Keep => ("keep", Style::new()),
            Self::Change => ("change", AnsiColor::Yellow.on_default()),
            Self::Differs => ("differs", AnsiColor::Yellow.on_default()),
            Self::Replace => ("replace", AnsiColor::Red.on_default()),
            Self::Impossible => ("impossible", AnsiColor::Red.on_default()),
        }
    }

    /// Whether anything changes.
    pub fn changes(self) -> bool {
        matches!(self, Self::Create | Self::Change | Self::Replace)
    }
}

/// Where a buffer and its file are not of one mind.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Difference {
    /// The field of the file.
    pub field: &'static str,
    /// What is there.
    pub is: String,
    /// What the file says.
    pub wanted: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} -> {}", self.field, self.is, self.wanted)
    }
}

/// One buffer of the files.
#[derive(Debug, Serialize)]
pub struct Row {
    pub name: String,
    pub action: Action,
    pub differences: Vec<Difference>,
    /// What a new one is made of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made_of: Option<String>,
    #[serde(flatten)]
    pub place: Place,
    pub done: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Row {
    /// What was done with it.
    pub fn describe_done(&self) -> String {
        let done = match self.action {
            Action::Create => "created",
            Action::Change => "changed",
            _ => "replaced",
        };
        format!("{done} {}", self.name)
    }
}

/// The whole comparison.
#[derive(Debug, Default, Serialize)]
pub struct Plan {
    buffers: Vec<Row>,
    /// Named buffers that no file names.
    left_alone: Vec<String>,
}

impl Plan {
    /// Compares what is wanted with what is there.
    pub fn new(wanted: &[Wanted], there: &[There], page: u64, replace: bool) -> Self {
        let rows: Vec<_> = wanted
            .iter()
            .map(|wanted| {
                let name = wanted.entry.name.get_ref();
                let there = there.iter().find(|there| there.name == *name);
                row(wanted, there, page, replace)
            })
            .collect();
        let named: HashSet<_> = rows.iter().map(|row| row.name.as_str()).collect();
        // Regions are the module's, and are always there.
        let left_alone = there
            .iter()
            .filter(|there| there.kind != Kind::Region && !named.contains(there.name.as_str()))
            .map(|there| there.name.clone())
            .collect();
        Self {
            left_alone,
            buffers: rows,
        }
    }

    /// The buffers of the files, in their order.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.buffers.iter()
    }

    /// The buffer at a place of that order.
    pub fn row(&self, index: usize) -> Option<&Row> {
        self.buffers.get(index)
    }

    /// Notes that it was done.
    pub fn set_done(&mut self, index: usize) {
        if let Some(row) = self.buffers.get_mut(index) {
            row.done = true;
        }
    }

    /// How many buffers change.
    pub fn changes(&self) -> usize {
        self.rows().filter(|row| row.action.changes()).count()
    }

    /// Those that are left as they are, although their file differs.
    pub fn differing(&self) -> Vec<String> {
        self.rows()
            .filter(|row| row.action == Action::Differs)
            .map(|row| row.name.clone())
            .collect()
    }

    /// What cannot be, with its place in the files.
    pub fn impossible(&self, wanted: &[Wanted]) -> Option<Vec<Mistake>> {
        let mistakes: Vec<_> = self
            .rows()
            .zip(wanted)
            .filter_map(|(row, wanted)| {
                Some(Mistake {
                    place: wanted.place.clone(),
                    message: row.why.clone()?,
                })
            })
            .collect();
        (!mistakes.is_empty()).then_some(mistakes)
    }

    /// What the person is asked.
    pub fn question(&self) -> String {
        let replaced = self
            .rows()
            .filter(|row| row.action == Action::Replace)
            .count();
        let buffers = |count| if count == 1 { "buffer" } else { "buffers" };
        let changes = self.changes();
        match replaced {
            0 => format!("apply this to {changes} {}", buffers(changes)),
            lost => format!(
                "apply this to {changes} {}, and lose the contents of {lost}",
                buffers(changes)
            ),
        }
    }

    /// What was done, in one line.
    pub fn done(&self) -> String {
        let done: Vec<_> = self
            .rows()
            .filter(|row| row.done)
            .map(Row::describe_done)
            .collect();
        done.join(", ")
    }

    /// The failure of one buffer, with what was done before.
    pub fn failed(&self, done: &[String], wanted: &Wanted, source: Failure) -> Failure {
        Failure::Applied {
            done: done.to_vec(),
            place: wanted.place.clone(),
            name: wanted.entry.name.get_ref().clone(),
            source: Box::new(source),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows().map(|row| row.name.len()).max().unwrap_or(0);
        for row in &self.buffers {
            let (word, style) = row.action.word();
            write!(f, "{style}{word:10}{style:#}  {:width$}", row.name)?;
            let differences: Vec<_> = row.differences.iter().map(ToString::to_string).collect();
            let mut said = differences.join(", ");
            match row.action {
                Action::Create => said = row.made_of.clone().unwrap_or_default(),
                Action::Differs => {
                    said += "; left as it is: --replace makes it anew, without its contents"
                }
                Action::Replace => said += "; its contents are lost",
                Action::Impossible => said = row.why.clone().unwrap_or_default(),
                Action::Keep | Action::Change => {}
            }
            match said.is_empty() {
                true => writeln!(f)?,
                false => writeln!(f, "  {said}")?,
            }
        }
        if !self.left_alone.is_empty() {
            writeln!(
                f,
                "left alone, since no file names them: {}",
                self.left_alone.join(", ")
            )?;
        }
        Ok(())
    }
}

/// Compares one buffer.
fn row(wanted: &Wanted, there: Option<&There>, page: u64, replace: bool) -> Row {
    let region = wanted.entry.kind() == Some(Memory::Region);
    let mut row = Row {
        name: wanted.entry.name.get_ref().clone(),
        action: Action::Create,
        differences: Vec::new(),
        made_of: None,
        place: wanted.place.clone(),
        done: false,
        why: None,
    };
    let Some(there) = there else {
        if region {
            row.action = Action::Impossible;
            row.why = Some(format!(
                "there is no region '{}'; load the module with regions={}:START:SIZE:TYPE (options mapbuf regions=… in /etc/modprobe.d)",
                row.name, row.name
            ));
        } else {
            row.made_of = Some(made_of(wanted, page));
        }
        return row;
    };
    let of_node = node_differences(wanted, there);
    row.differences = memory_differences(wanted, there, page);
    // The driver lets the owner take the name away, whoever owns the node: so a new owner needs a new name.
    let owner = !region && of_node.iter().any(|difference| difference.field == "owner");
    let is_region = there.kind == Kind::Region;
    row.action = match (row.differences.is_empty() && !owner, of_node.is_empty()) {
        (true, true) => Action::Keep,
        (true, false) => Action::Change,
        (false, _) if is_region || region => Action::Impossible,
        (false, _) if replace => Action::Replace,
        (false, _) => Action::Differs,
    };
    row.differences.extend(of_node);
    if row.action == Action::Impossible {
        let differences: Vec<_> = row.differences.iter().map(ToString::to_string).collect();
        row.why = Some(format!(
            "'{}' cannot be changed to this ({}): {}",
            row.name,
            differences.join(", "),
            match is_region {
                true => "it is a region, which regions= declares when the module is loaded; change that, or use another name",
                false => "it is a buffer, and a region comes from regions= when the module is loaded; remove the buffer first",
            }
        ));
    }
    row
}

/// What a new buffer is made of.
fn made_of(wanted: &Wanted, page: u64) -> String {
    let entry = &wanted.entry;
    let kind = entry.kind().map_or(Kind::Pages, Memory::kind);
    let size = entry.size.map_or(0, |size| size.0 .0);
    let cache = entry.cache.map_or(Cache::Cached, |cache| cache.0.into());
    let device = entry.device.as_ref();
    let device = device.map_or(String::new(), |device| format!(", for {}", device.0));
    format!(
        "{} of {} memory, {}, mode {:04o}{device}",
        Bytes(rounded(size, page)),
        kind.name(),
        cache.name(),
        entry.mode(),
    )
}

fn rounded(size: u64, page: u64) -> u64 {
    size.checked_next_multiple_of(page).unwrap_or(size)
}

/// What a node can be given.
fn node_differences(wanted: &Wanted, there: &There) -> Vec<Difference> {
    let entry = &wanted.entry;
    let Some((mode, uid, gid)) = there.node else {
        return Vec::new();
    };
    let octal = |mode: u32| format!("{mode:04o}");
    [
        ("mode", entry.mode.map(|mode| octal(mode.0 .0)), octal(mode)),
        (
            "owner",
            entry.owner.map(|owner| owner.0 .0.to_string()),
            uid.to_string(),
        ),
        (
            "group",
            entry.group.map(|group| group.0 .0.to_string()),
            gid.to_string(),
        ),
    ]
    .into_iter()
    .filter_map(difference)
    .collect()
}

/// What only another buffer has.
fn memory_differences(wanted: &Wanted, there: &There, page: u64) -> Vec<Difference> {
    let entry = &wanted.entry;
    let kind = entry.kind().map(|kind| kind.kind().name().to_owned());
    let size = entry
        .size
        .map(|size| Bytes(rounded(size.0 .0, page)).to_string());
    let cache = entry
        .cache
        .map(|cache| Cache::from(cache.0).name().to_owned());
    let device = entry.device.as_ref().map(|device| device.0.to_string());
    let none = || "none".to_owned();
    // A file that names no device speaks of a buffer for none. A region can be for none.
    let device = (entry.kind() != Some(Memory::Region)).then(|| device.unwrap_or_else(none));
    [
        ("kind", kind, there.kind.name().to_owned()),
        ("size", size, Bytes(there.bytes).to_string()),
        ("cache", cache, there.cache.name().to_owned()),
        (
            "device",
            device,
            there.for_device.clone().unwrap_or_else(none),
        ),
    ]
    .into_iter()
    .filter_map(difference)
    .collect()
}

fn difference((field, wanted, is): (&'static str, Option<String>, String)) -> Option<Difference> {
    let wanted = wanted?;
    (wanted != is).then_some(Difference { field, is, wanted })
}

#[cfg(test)]
mod tests;
