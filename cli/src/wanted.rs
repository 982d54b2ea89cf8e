//! Files that say which named buffers a machine has: `/etc/mapbuf.d/*.toml`.
//!
//! A file is read whole or not at all: every mistake is found, with its line and column, before anything is done.

mod accounts;
mod fields;

pub use fields::{Entry, Memory};

use fields::Mode;
use mapbuf::{
    abi::{Reason, NAME_LEN},
    Kind,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    fmt, fs, io,
    ops::Range,
    path::{Path, PathBuf},
};
use toml::Spanned;

/// Where the files are, unless the command line names some.
pub const FOLDER: &str = "/etc/mapbuf.d";

/// A file as TOML has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    buffer: Vec<Spanned<Entry>>,
}

/// A place in a file. Lines and columns begin with 1; a column is a character.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl Place {
    fn new(file: &Path, text: &str, at: usize) -> Self {
        let before = text.get(..at).unwrap_or(text);
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.get(start..).unwrap_or_default().chars().count() + 1,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// What is wrong in a file, and what to write instead.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Mistake {
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// What.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// A buffer that a file asks for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Where its name stands.
    pub place: Place,
    /// What it is to be.
    pub entry: Entry,
}

/// Why files could not be read.
#[derive(Debug)]
pub enum Unreadable {
    /// A file or the folder.
    File(PathBuf, io::Error),
    /// What stands in them.
    Mistakes(Vec<Mistake>),
}

/// The files of a folder, in the order of their names; none where there is no folder.
pub fn files_of(folder: &Path) -> Result<Vec<PathBuf>, Unreadable> {
    let unreadable = |error| Unreadable::File(folder.to_owned(), error);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        // What editors leave behind begins with a dot or ends in something else.
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden
            && path
                .extension()
                .is_some_and(|extension| extension == "toml")
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// What all of these files ask for, in their order.
pub fn read(files: &[PathBuf]) -> Result<Vec<Wanted>, Unreadable> {
    let mut texts = Vec::new();
    for file in files {
        let text =
            fs::read_to_string(file).map_err(|error| Unreadable::File(file.clone(), error))?;
        texts.push((file.as_path(), text));
    }
    let texts: Vec<_> = texts
        .iter()
        .map(|(file, text)| (*file, text.as_str()))
        .collect();
    understand(&texts).map_err(Unreadable::Mistakes)
}

/// What these texts ask for, or every mistake in them.
pub fn understand(texts: &[(&Path, &str)]) -> Result<Vec<Wanted>, Vec<Mistake>> {
    let mut wanted: Vec<Wanted> = Vec::new();
    let mut mistakes = Vec::new();
    let mut first: HashMap<String, Place> = HashMap::new();
    for &(file, text) in texts {
        let place = |span: Range<usize>| Place::new(file, text, span.start);
        let document: Document = match toml::from_str(text) {
            Ok(document) => document,
            Err(error) => {
                mistakes.push(Mistake {
                    place: place(error.span().unwrap_or(0..0)),
                    message: error.message().trim().to_owned(),
                });
                continue;
            }
        };
        for entry in document.buffer {
            let table = entry.span();
            let entry = entry.into_inner();
            let name = entry.name.span();
            mistakes.extend(
                wrong(&entry, &table)
                    .into_iter()
                    .map(|(span, message)| Mistake {
                        place: place(span),
                        message,
                    }),
            );
            let place = place(name);
            match first.get(entry.name.get_ref()) {
                Some(other) => mistakes.push(Mistake {
                    message: format!(
                        "'{}' is asked for at {other} already; use another name",
                        entry.name.get_ref()
                    ),
                    place,
                }),
                None => {
                    first.insert(entry.name.get_ref().clone(), place.clone());
                    wanted.push(Wanted { place, entry });
                }
            }
        }
    }
    match mistakes.is_empty() {
        true => Ok(wanted),
        false => Err(mistakes),
    }
}

/// What does not fit together in one entry.
fn wrong(entry: &Entry, table: &Range<usize>) -> Vec<(Range<usize>, String)> {
    let mut found = Vec::new();
    let name = entry.name.get_ref();
    if let Some(message) = bad_name(name) {
        found.push((entry.name.span(), message));
    }
    let mut say = |message: &str| found.push((table.clone(), format!("'{name}': {message}")));
    match entry.kind() {
        None => {
            say("its kind is missing; write kind = \"pages\", or another of vmalloc, contiguous, coherent, region")
        }
        Some(Memory::Region) => {
            let of_memory = [
                ("cache", entry.cache.is_some()),
                ("fill-pages", entry.fill_pages.is_some()),
                ("device", entry.device.is_some()),
                ("below", entry.below.is_some()),
                ("align", entry.align.is_some()),
                ("boundary", entry.boundary.is_some()),
                ("numa-node", entry.numa_node.is_some()),
            ];
            for (field, given) in of_memory {
                if given {
                    say(&format!(
                        "a region has no '{field}': it is declared by the module's parameter regions=; remove the line"
                    ));
                }
            }
        }
        Some(Memory::Allocated(_)) => {
            if entry.size.is_none() {
                say("its size is missing; write size = \"64K\"");
            }
            if entry.numa_node.as_ref().is_some_and(|node| node.0.is_device()) && entry.device.is_none() {
                say("numa-node = \"device\" needs a device; or write the number of a NUMA node");
            }
        }
    }
    found
}

/// What the driver would say of a name.
fn bad_name(name: &str) -> Option<String> {
    let mut field = [0; NAME_LEN];
    let fits = name.len() <= NAME_LEN && !name.contains('\0');
    for (to, from) in field.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    let refusal = match mapbuf_policy::request::name(&field) {
        Ok(_) if fits => return None,
        Ok(_) => Reason::NameInvalid.with(&[0, 0]),
        Err(refusal) => refusal,
    };
    Some(format!(
        "'{}' is no name for a buffer; {}",
        name.escape_debug(),
        refusal.reason.text().remedy
    ))
}

impl Entry {
    /// The kind of memory, or the usual one where the file leaves it out.
    pub fn kind(&self) -> Option<Memory> {
        let usual = || self.device.as_ref().map(|_| Memory::Allocated(Kind::Pages));
        self.kind.as_ref().map(|kind| kind.0).or_else(usual)
    }

    /// Permission bits for a node that is made now.
    pub fn mode(&self) -> u32 {
        self.mode.as_ref().map_or(Mode::USUAL, |mode| mode.0).0
    }
}

#[cfg(test)]
mod tests;
