//! `cargo xtask claims`: what the project's texts say of the kernel, held against its sources.
//!
//! - [`prose`]: the texts: the guide, comments, messages;
//! - [`mod@reference`]: how a text refers to the sources, and how it says which series it speaks of;
//! - [`source`]: what a file of the kernel defines;
//! - [`tree`]: the sources of a series.

mod prose;
mod reference;
mod source;
mod tree;

pub use tree::Tree;

use crate::workspace;
use anyhow::{bail, Context, Result};
use mapbuf_abi::series::SERIES;
use mapbuf_vm::choice::{Stock, Version};
use mapbuf_vm::{host, Cache, Flavour, Kernel, Ui};
use prose::Passage;
use reference::{parts, Reference, Series};
use similar::TextDiff;
use source::{Language, Piece};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Hold what the texts say of the kernel against its sources; with two series, show what changed between them
///
/// Every reference to a file of the kernel, or to something in one, is looked for in each series. With two series, the
/// definitions that the texts refer to are compared, for a person to read.
#[derive(clap::Args)]
pub struct Arguments {
    /// Two series to compare: 7.2 7.3
    #[arg(num_args = 2, value_names = ["OLD", "NEW"])]
    series: Vec<Series>,
    /// Only name what changed, and who refers to it
    #[arg(long, requires = "series")]
    list: bool,
    /// Unpacked sources to take for their series, supported or not
    #[arg(long, value_name = "FOLDER")]
    tree: Vec<PathBuf>,
}

/// Carries the command out.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    let trees = trees(&arguments.tree)?;
    let said = Said::gather(&workspace()?)?;
    if let [old, new] = arguments.series[..] {
        let find = |series: Series| {
            trees
                .iter()
                .find(|tree| tree.series == series)
                .with_context(|| {
                    let there: Vec<_> = trees.iter().map(|tree| tree.series.to_string()).collect();
                    format!(
                        "there are no sources of {series}, only of {}; name another tree with --tree",
                        there.join(" and ")
                    )
                })
        };
        print!(
            "{}",
            compare(&said, find(old)?, find(new)?, arguments.list)?
        );
        return Ok(ExitCode::SUCCESS);
    }
    let mut well = true;
    for finding in check(&said, &trees)? {
        eprintln!("{finding}");
        well = false;
    }
    let series: Vec<_> = trees.iter().map(|tree| tree.series.to_string()).collect();
    println!(
        "{} references to {} places in the kernel, checked in {}",
        said.references.iter().filter(|claim| !claim.ours).count(),
        said.places().len(),
        series.join(" and ")
    );
    Ok(if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The sources of every series that is supported, and those that were named; these count where there are two of a series.
fn trees(named: &[PathBuf]) -> Result<Vec<Tree>> {
    let ui = Ui::default();
    host::ensure(&ui)?;
    let cache = Cache::open(&ui)?;
    let mut trees = Vec::new();
    for folder in named {
        trees.push(Tree::open(folder)?);
    }
    for version in versions()? {
        let has = |tree: &Tree| tree.series.to_string() == version.series();
        if !trees.iter().any(has) {
            let kernel = Kernel::get(&cache, &ui, Flavour::default(), &stock(version))?;
            trees.push(Tree::open(&kernel.tree())?);
        }
    }
    trees.sort_by_key(|tree| tree.series);
    Ok(trees)
}

/// The sources of this kernel, and of the other supported series that the cache has.
pub fn trees_at_hand(cache: &Cache, kernel: &Kernel) -> Result<Vec<Tree>> {
    let mut trees = vec![Tree::open(&kernel.tree())?];
    for version in versions()? {
        if let Some(other) = Kernel::if_cached(cache, Flavour::default(), &stock(version)) {
            trees.push(Tree::open(&other.tree())?);
        }
    }
    trees.sort_by_key(|tree| tree.series);
    trees.dedup_by_key(|tree| tree.series);
    Ok(trees)
}

/// Debian's kernel of a series.
fn stock(version: Version) -> Stock {
    Stock {
        version: Some(version),
        ..Stock::default()
    }
}

fn versions() -> Result<Vec<Version>> {
    SERIES
        .iter()
        .map(|series| series.parse().map_err(anyhow::Error::msg))
        .collect()
}

/// What is wrong with a text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    file: String,
    line: usize,
    what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// A reference, and where it stands.
struct Claim {
    file: String,
    line: usize,
    reference: Reference,
    /// Whether the project has the same name in its own code, as of a function that it calls.
    ours: bool,
}

/// All that the texts say of the kernel.
pub struct Said {
    references: Vec<Claim>,
    complaints: Vec<Finding>,
}

/// Made from texts that are read themselves.
const MADE: &[&str] = &[
    "docs/unsafe.md",
    "docs/src/reasons.md",
    "include/mapbuf.h",
    "include/mapbuf-explain.h",
];
/// What is not the project's, and the examples of this command's own tests.
const LEFT_OUT: &[&str] = &["target", ".git", "LICENSES", "xtask/src/claims"];

impl Said {
    /// Reads all texts of the project.
    pub fn gather(workspace: &Path) -> Result<Self> {
        let mut files = Vec::new();
        walk(workspace, workspace, &mut files)?;
        let mut texts = Vec::new();
        let mut own = Own::default();
        for path in &files {
            // What is not text says nothing.
            let Ok(text) = fs::read_to_string(workspace.join(path)) else {
                continue;
            };
            own.learn(path, &text);
            texts.push((path.as_str(), text));
        }
        let mut said = Self {
            references: Vec::new(),
            complaints: Vec::new(),
        };
        for (path, text) in &texts {
            if !MADE.contains(path) {
                for passage in passages(path, text) {
                    said.read(path, &passage, &own);
                }
            }
        }
        Ok(said)
    }

    fn read(&mut self, file: &str, passage: &Passage, own: &Own) {
        let (references, complaints) = reference::read(&passage.text);
        // A string may be any data; a sentence that names a file of the kernel is meant to be read.
        let sentence = passage.text.contains(' ')
            && references.iter().any(|reference| reference.path.is_some());
        if passage.string && !sentence {
            return;
        }
        for complaint in complaints {
            if !own
                .files
                .contains(complaint.what.split(':').next().unwrap_or(""))
            {
                self.complaints.push(Finding {
                    file: file.to_owned(),
                    line: passage.line(complaint.at),
                    what: complaint.what,
                });
            }
        }
        for reference in references {
            let ours = match (&reference.path, &reference.name) {
                (Some(path), _) if own.has_path(path) => continue,
                (None, Some(name)) => own.has_name(name),
                _ => false,
            };
            self.references.push(Claim {
                file: file.to_owned(),
                line: passage.line(reference.at),
                reference,
                ours,
            });
        }
    }

    /// The definitions that are referred to with their file: path and name, and who does.
    fn places(&self) -> BTreeMap<(&str, &str), Vec<&Claim>> {
        let mut places: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for claim in &self.references {
            if let (Some(path), Some(name)) = (&claim.reference.path, &claim.reference.name) {
                places
                    .entry((path.as_str(), name.as_str()))
                    .or_default()
                    .push(claim);
            }
        }
        places
    }

    /// The names that are referred to without a file; one word alone may be anything.
    fn alone(&self) -> BTreeMap<&str, Vec<&Claim>> {
        let placed: BTreeSet<&str> = self.places().into_keys().map(|(_, name)| name).collect();
        let mut alone: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for claim in &self.references {
            if let (None, Some(name)) = (&claim.reference.path, &claim.reference.name) {
                if !placed.contains(name.as_str()) && parts(name).len() == 1 && name.contains('_') {
                    alone.entry(name.as_str()).or_default().push(claim);
                }
            }
        }
        alone
    }
}

/// The names that are the project's own.
#[derive(Default)]
struct Own {
    paths: BTreeSet<String>,
    /// The last names of its files.
    files: BTreeSet<String>,
    /// The words of its code, of strings that are one word, and the names of its files.
    words: BTreeSet<String>,
}

impl Own {
    fn learn(&mut self, path: &str, text: &str) {
        self.paths.insert(path.to_owned());
        if let Some(file) = path.rsplit('/').next() {
            self.files.insert(file.to_owned());
            self.words.extend(file.split('.').next().map(str::to_owned));
        }
        let Some(language) = Language::of(path) else {
            return;
        };
        for (piece, range) in source::pieces(text, language) {
            let name = piece == Piece::Text && !text[range.clone()].contains(char::is_whitespace);
            if piece == Piece::Code || name {
                let words = text[range]
                    .split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
                self.words.extend(words.map(str::to_owned));
            }
        }
    }

    fn has_path(&self, path: &str) -> bool {
        self.paths.contains(path)
    }

    /// Whether a name is not the kernel's: the project's own, or none that would be looked for.
    fn has_name(&self, name: &str) -> bool {
        let parts = parts(name);
        // `races::fork_x_fault`, which a macro makes.
        let path = name.contains("::") && self.words.contains(parts[0]);
        path || !parts.iter().any(|part| self.lacks(part))
    }

    /// Whether a word looks like the kernel's and is not the project's.
    fn lacks(&self, word: &str) -> bool {
        let looks =
            word.trim_start_matches('_').contains('_') && !word.to_lowercase().contains("mapbuf");
        looks && !self.words.contains(word)
    }
}

fn passages(path: &str, text: &str) -> Vec<Passage> {
    if let Some(language) = Language::of(path) {
        prose::of_source(text, language)
    } else if path.ends_with(".md") {
        prose::of_markdown(text)
    } else if path.ends_with(".config") || path.ends_with(".toml") || path.ends_with("Kbuild") {
        prose::of_settings(text)
    } else {
        Vec::new()
    }
}

fn walk(root: &Path, folder: &Path, files: &mut Vec<String>) -> Result<()> {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .with_context(|| format!("reading {}", folder.display()))?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    entries.sort();
    for path in entries {
        let inside = path.strip_prefix(root)?.display().to_string();
        if LEFT_OUT.contains(&inside.trim_end_matches(".rs")) {
            continue;
        }
        if path.is_dir() {
            walk(root, &path, files)?;
        } else {
            files.push(inside);
        }
    }
    Ok(())
}

/// Looks for everything that was said in each series that it is said of.
pub fn check(said: &Said, trees: &[Tree]) -> Result<Vec<Finding>> {
    if trees.is_empty() {
        bail!("there is no series to check the texts against");
    }
    let mut findings = said.complaints.clone();
    for tree in trees {
        // What is named with its file somewhere was looked for there.
        let placed: BTreeSet<&str> = said.places().into_keys().map(|(_, name)| name).collect();
        let mut alone = BTreeSet::new();
        let mut places = BTreeMap::new();
        let of_series = |claim: &&Claim| !claim.ours && claim.reference.span.has(tree.series);
        for claim in said.references.iter().filter(of_series) {
            match (&claim.reference.path, &claim.reference.name) {
                (None, Some(name)) if placed.contains(name.as_str()) => {}
                (None, Some(name)) => alone.extend(parts(name).into_iter().map(str::to_owned)),
                (Some(path), name) => {
                    let wrong = places
                        .entry((path, name))
                        .or_insert_with(|| wrong(tree, path, name.as_deref()));
                    if let Some(what) = wrong {
                        findings.push(claim.finding(what));
                    }
                }
                (None, None) => {}
            }
        }
        let unknown = tree.unknown(&alone)?;
        for claim in said.references.iter().filter(of_series) {
            if let (None, Some(name)) = (&claim.reference.path, &claim.reference.name) {
                if let Some(part) = parts(name).into_iter().find(|part| unknown.contains(*part)) {
                    findings
                        .push(claim.finding(&format!("no code of {} has `{part}`", tree.series)));
                }
            }
        }
    }
    findings.sort();
    findings.dedup();
    Ok(findings)
}

impl Claim {
    fn finding(&self, what: &str) -> Finding {
        Finding {
            file: self.file.clone(),
            line: self.line,
            what: what.to_owned(),
        }
    }
}

/// What is wrong with a reference to a file, or to something in it.
fn wrong(tree: &Tree, path: &str, name: Option<&str>) -> Option<String> {
    let series = tree.series;
    let there = tree.has(path);
    let name = match name {
        Some(_) | None if !there && name.is_none() => {
            return Some(format!("{series} has no {path}"))
        }
        None => return None,
        Some(name) => name,
    };
    if there && tree.definition(path, name).is_some() {
        return None;
    }
    let last = parts(name).last().map_or("", |last| *last);
    let elsewhere = tree
        .definitions(&BTreeSet::from([last]))
        .unwrap_or_default();
    let files: Vec<_> = elsewhere
        .into_iter()
        .take(3)
        .map(|(_, path)| path)
        .collect();
    let elsewhere = if files.is_empty() {
        "and neither does any other file that was checked".to_owned()
    } else {
        format!("which is in {}", files.join(", "))
    };
    Some(if there {
        format!("{path} of {series} does not define `{name}`, {elsewhere}")
    } else {
        format!("{series} has no {path} to define `{name}`, {elsewhere}")
    })
}

/// What changed between two series in the definitions that the texts refer to.
fn compare(said: &Said, old: &Tree, new: &Tree, list: bool) -> Result<String> {
    let mut out = String::new();
    let mut places = said.places();
    // Names without a file: wherever a function or a macro of that name is, unless that is many things.
    let alone = said.alone();
    let mut files: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let names: BTreeSet<&str> = alone.keys().copied().collect();
    for tree in [old, new] {
        for (name, path) in tree.definitions(&names)? {
            if let Some((name, _)) = alone.get_key_value(name.as_str()) {
                files.entry(name).or_default().insert(path);
            }
        }
    }
    for (name, paths) in files.iter().filter(|(_, paths)| paths.len() <= MANY) {
        for path in paths {
            let claims = &alone[name];
            places.entry((path, name)).or_insert_with(|| claims.clone());
        }
    }
    for ((path, name), claims) in places {
        let [before, after] = [old, new].map(|tree| {
            let mut text = tree.definition(path, name).unwrap_or_default();
            if !text.is_empty() {
                text.push('\n');
            }
            text
        });
        if before == after {
            continue;
        }
        out += &format!("{path}, {name}");
        out += match (before.is_empty(), after.is_empty()) {
            (true, _) => ": new\n",
            (_, true) => ": gone\n",
            _ => "\n",
        };
        let places: BTreeSet<_> = claims
            .iter()
            .map(|claim| format!("    {}:{}\n", claim.file, claim.line))
            .collect();
        out.extend(places);
        if !list {
            let diff = TextDiff::from_lines(&before, &after);
            let mut diff = diff.unified_diff();
            let diff = diff
                .context_radius(6)
                .header(&old.series.to_string(), &new.series.to_string());
            out += &format!("{diff}\n");
        }
    }
    Ok(out)
}

/// A name that more files than these define is not one thing.
const MANY: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    const OLD: &[(&str, &str)] = &[
        ("Makefile", "VERSION = 7\nPATCHLEVEL = 2\n"),
        ("mm/memory.c", "int do_one(void)\n{\n\treturn 1;\n}\n"),
        ("include/linux/mm.h", "#define is_old(x) 0\n"),
    ];
    const NEW: &[(&str, &str)] = &[
        ("Makefile", "VERSION = 7\nPATCHLEVEL = 3\n"),
        ("mm/memory.c", "int do_one(void)\n{\n\treturn 2;\n}\n"),
        ("include/linux/mm.h", "#define is_new(x) 0\n"),
    ];

    /// What is found wrong with a project, in both series.
    fn findings(project: &[(&str, &str)]) -> Vec<String> {
        let [old, new] = [OLD, NEW].map(folder);
        let trees = [old.path(), new.path()].map(|root| Tree::open(root).unwrap());
        let said = Said::gather(folder(project).path()).unwrap();
        let findings = check(&said, &trees).unwrap();
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_there_in_every_series_that_is_spoken_of_is_well() {
        let project = [
            (
                "docs/a.md",
                "`do_one` of `mm/memory.c`, 7.2: `is_old`, from 7.3 on `is_new`.\n",
            ),
            (
                "a.rs",
                "// own_name of ours, mapbuf_x, `do_one`.\nfn own_name() {}\n",
            ),
            ("b.rs", "const A: &str = \"mm/none.c\";\n"),
        ];
        assert_eq!(findings(&project), [""; 0]);
    }

    #[test]
    fn what_is_gone_is_found_where_it_is_said() {
        let project = [
            (
                "docs/a.md",
                "One.\n\nTwo `is_old`, `do_two` of\n`mm/memory.c`, and mm/none.c.\n",
            ),
            ("a.rs", "fn f() {\n    g(\"see mm/memory.c, do_two\");\n}\n"),
            ("b.c", "/* memory.c */\n"),
        ];
        let findings = findings(&project);
        let neither = "and neither does any other file that was checked";
        assert_eq!(
            findings,
            [
                format!("a.rs:2: mm/memory.c of 7.2 does not define `do_two`, {neither}"),
                format!("a.rs:2: mm/memory.c of 7.3 does not define `do_two`, {neither}"),
                "b.c:1: memory.c: a file of the kernel is named by its path from the root of the tree".to_owned(),
                format!("docs/a.md:3: mm/memory.c of 7.2 does not define `do_two`, {neither}"),
                format!("docs/a.md:3: mm/memory.c of 7.3 does not define `do_two`, {neither}"),
                "docs/a.md:3: no code of 7.3 has `is_old`".to_owned(),
                "docs/a.md:4: 7.2 has no mm/none.c".to_owned(),
                "docs/a.md:4: 7.3 has no mm/none.c".to_owned(),
            ]
        );
    }

    #[test]
    fn what_changed_is_shown_with_those_who_speak_of_it() {
        let [old, new] = [OLD, NEW].map(folder);
        let [old, new] = [old.path(), new.path()].map(|root| Tree::open(root).unwrap());
        let project = folder(&[("docs/a.md", "`do_one` of `mm/memory.c`, 7.2's `is_old`\n")]);
        let said = Said::gather(project.path()).unwrap();
        assert_eq!(
            compare(&said, &old, &new, true).unwrap(),
            "include/linux/mm.h, is_old: gone\n    docs/a.md:1\nmm/memory.c, do_one\n    docs/a.md:1\n"
        );
        let shown = compare(&said, &old, &new, false).unwrap();
        assert!(shown.contains("--- 7.2\n+++ 7.3\n"), "{shown}");
        assert!(shown.contains("-\treturn 1;\n+\treturn 2;\n"), "{shown}");
    }
}
