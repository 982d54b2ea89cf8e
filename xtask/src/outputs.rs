//! `cargo xtask outputs`: puts what commands print into the documents that show it.
//!
//! A place for it looks so in a document:
//!
//! ```text
//! <!-- output: vm -- mapbuf list -->
//! <!-- end of output -->
//! ```
//!
//! The words behind `output:` are the arguments of `cargo xtask`. What the command prints to its standard
//! output is put between the two lines, as a block of code. `from "TEXT"` and `to "TEXT"` before the
//! arguments cut out a part: from the first line that contains the one, up to the line before the next one
//! that contains the other.

use crate::workspace;
use anyhow::{bail, Context, Result};
use std::{
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

const BEGIN: &str = "<!-- output: ";
const END: &str = "<!-- end of output -->";

/// Run the commands that the documents show, and put their output there
#[derive(clap::Args)]
pub struct Arguments {
    /// The documents
    #[arg(default_value = "README.md")]
    documents: Vec<PathBuf>,
}

/// One place for output.
#[derive(Debug, Eq, PartialEq)]
struct Place<'a> {
    from: Option<&'a str>,
    to: Option<&'a str>,
    command: &'a str,
}

impl<'a> Place<'a> {
    /// Reads what stands behind `output:`.
    fn parse(text: &'a str) -> Option<Self> {
        let mut rest = text.strip_suffix("-->")?.trim();
        let mut quoted = |word| -> Option<&'a str> {
            let (inside, after) = rest
                .strip_prefix(word)?
                .strip_prefix(" \"")?
                .split_once('"')?;
            rest = after.trim_start();
            Some(inside)
        };
        let from = quoted("from");
        let to = quoted("to");
        Some(Self {
            from,
            to,
            command: rest,
        })
    }

    /// The part of a command's output that is shown.
    fn cut(&self, output: &str) -> Option<String> {
        let mut lines = output.lines().map(str::trim_end).peekable();
        if let Some(from) = self.from {
            while !lines.peek()?.contains(from) {
                lines.next();
            }
        }
        let mut shown: Vec<&str> = Vec::new();
        for line in lines {
            if !shown.is_empty() && self.to.is_some_and(|to| line.contains(to)) {
                break;
            }
            shown.push(line);
        }
        let text = shown.join("\n");
        Some(text.trim_matches('\n').to_owned())
    }
}

/// The document with each place filled by `run`, which is given a command.
fn fill(document: &str, mut run: impl FnMut(&str) -> Result<String>) -> Result<String> {
    let mut filled = String::new();
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        filled.push_str(line);
        filled.push('\n');
        let Some(marker) = line.strip_prefix(BEGIN) else {
            continue;
        };
        let place = Place::parse(marker).with_context(|| format!("unreadable: {line}"))?;
        if !lines.by_ref().any(|line| line == END) {
            bail!("no line '{END}' follows {line}");
        }
        let output = run(place.command)?;
        let shown = place
            .cut(&output)
            .with_context(|| format!("nothing in the output of '{}' fits {line}", place.command))?;
        // The marker is not seen in the book, so what is to be typed stands above what it printed.
        let typed = match place.from {
            None if place.command.starts_with("vm ") => {
                format!("$ cargo xtask {}\n", place.command)
            }
            _ => String::new(),
        };
        filled.push_str(&format!("```text\n{typed}{shown}\n```\n{END}\n"));
    }
    Ok(filled)
}

/// The places of a document: their commands, and what is shown there.
pub fn places(document: &str) -> Vec<(&str, &str)> {
    document
        .split(BEGIN)
        .skip(1)
        .filter_map(|part| {
            let (marker, rest) = part.split_once('\n')?;
            let place = Place::parse(marker)?;
            Some((place.command, rest.split(END).next()?))
        })
        .collect()
}

/// The words of a command: blanks between single quotes are no end of a word.
fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for letter in command.chars() {
        match letter {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            _ => {
                if let Some(word) = words.last_mut() {
                    word.push(letter);
                }
            }
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Runs a command of ours.
fn run(command: &str) -> Result<String> {
    eprintln!("cargo xtask {command}");
    let output = Command::new(std::env::current_exe()?)
        .args(words(command))
        .current_dir(workspace()?)
        .stderr(Stdio::inherit())
        .output()?;
    // Some are shown because they fail, but not without a word.
    if output.stdout.is_empty() {
        bail!(
            "cargo xtask {command} printed nothing, and ended with {}",
            output.status
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Carries the command out.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    let mut known = std::collections::BTreeMap::<String, String>::new();
    for path in &arguments.documents {
        let path = workspace()?.join(path);
        let document = std::fs::read_to_string(&path)
            .with_context(|| format!("reading {}", path.display()))?;
        let filled = fill(&document, |command| {
            if let Some(output) = known.get(command) {
                return Ok(output.clone());
            }
            let output = run(command)?;
            known.insert(command.to_owned(), output.clone());
            Ok(output)
        })?;
        std::fs::write(&path, filled).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str =
        "a\n<!-- output: from \"two\" to \"four\" demo -->\nold\n<!-- end of output -->\nb\n";

    #[test]
    fn a_place_is_filled_with_the_part_that_it_names() {
        let filled = fill(DOCUMENT, |command| {
            assert_eq!(command, "demo");
            Ok("one\ntwo\nthree\n\nfour\n".to_owned())
        })
        .unwrap();
        let expected = "a\n<!-- output: from \"two\" to \"four\" demo -->\n\
            ```text\ntwo\nthree\n```\n<!-- end of output -->\nb\n";
        assert_eq!(filled, expected);
        // A second time it is the same.
        let again = fill(&filled, |_| Ok("two\nthree\n".to_owned())).unwrap();
        assert_eq!(again, expected);
    }

    #[test]
    fn quotes_keep_words_together() {
        assert_eq!(
            words("vm -- sh -c 'a && b c'"),
            ["vm", "--", "sh", "-c", "a && b c"]
        );
        assert_eq!(places(DOCUMENT), [("demo", "old\n")]);
    }

    #[test]
    fn what_is_typed_stands_above_what_it_printed() {
        let document = "<!-- output: vm -- mapbuf list -->\n<!-- end of output -->\n";
        let filled = fill(document, |_| Ok("nothing\n".to_owned())).unwrap();
        assert!(filled.contains("```text\n$ cargo xtask vm -- mapbuf list\nnothing\n```"));
    }

    #[test]
    fn what_cannot_be_filled_is_an_error() {
        assert!(fill("<!-- output: demo -->\nno end\n", |_| Ok(String::new())).is_err());
        assert!(fill(DOCUMENT, |_| Ok("nothing\n".to_owned())).is_err());
    }
}
