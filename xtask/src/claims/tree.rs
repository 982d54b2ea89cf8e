//! The sources of one series of the kernel.

use super::reference::{parts, Series};
use super::source::{is_word, items, masked, Item, Language};
use anyhow::{bail, Context, Result};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Where a name is looked for that no file is named with, the likeliest folders first. Drivers have names enough for
/// anything; what is meant in one is named with its file.
const FOLDERS: &[&str] = &[
    "mm",
    "include",
    "kernel",
    "arch/x86",
    "drivers/dma-buf",
    "drivers/base",
    "fs",
    "lib",
    "rust",
    "security",
    "io_uring",
    "block",
    "init",
    "ipc",
    "net/core",
    "net/unix",
    "scripts",
];

/// The sources of one series.
pub struct Tree {
    /// Which.
    pub series: Series,
    root: PathBuf,
    files: RefCell<BTreeMap<String, Option<Rc<File>>>>,
}

struct File {
    text: String,
    items: Vec<Item>,
}

impl Tree {
    /// The sources that lie in `root`, which says itself which series it is.
    pub fn open(root: &Path) -> Result<Self> {
        let path = root.join("Makefile");
        let makefile = fs::read_to_string(&path)
            .with_context(|| format!("{}: a tree of the kernel begins there", path.display()))?;
        let number = |name: &str| {
            makefile.lines().find_map(|line| {
                line.strip_prefix(name)?
                    .trim()
                    .strip_prefix('=')?
                    .trim()
                    .parse()
                    .ok()
            })
        };
        let (Some(version), Some(patchlevel)) = (number("VERSION"), number("PATCHLEVEL")) else {
            bail!("{} has no VERSION and PATCHLEVEL", path.display());
        };
        Ok(Self {
            series: Series(version, patchlevel),
            root: root.to_owned(),
            files: RefCell::default(),
        })
    }

    /// Whether there is such a file or folder.
    pub fn has(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    fn file(&self, path: &str) -> Option<Rc<File>> {
        if let Some(file) = self.files.borrow().get(path) {
            return file.clone();
        }
        let bytes = fs::read(self.root.join(path)).ok();
        let file = bytes.map(|bytes| {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let items = Language::of(path).map_or_else(Vec::new, |language| items(&text, language));
            Rc::new(File { text, items })
        });
        self.files
            .borrow_mut()
            .insert(path.to_owned(), file.clone());
        file
    }

    /// The text of what a file defines under a name; none where it does not.
    ///
    /// Of `a.b` and `a::b`, the text of the part that the file defines and that has the others in it. Of a section of
    /// the documentation, its title. Of files in no language that is known here, the lines with the name.
    pub fn definition(&self, path: &str, name: &str) -> Option<String> {
        let file = self.file(path)?;
        if name.starts_with("DOC:") {
            return file.text.contains(name).then(|| name.to_owned());
        }
        let parts = parts(name);
        let Some(language) = Language::of(path) else {
            let name = name.strip_prefix("CONFIG_").unwrap_or(name);
            let lines: Vec<_> = file
                .text
                .lines()
                .filter(|line| has_word(line, name))
                .collect();
            return (!lines.is_empty()).then(|| lines.join("\n"));
        };
        let in_header = path.ends_with(".h");
        let texts = |name: &str| -> Vec<&str> {
            let fits = |item: &&Item| {
                (!item.declared || in_header) && item.names.iter().any(|known| known == name)
            };
            let found = file.items.iter().filter(fits);
            found.map(|item| &file.text[item.range.clone()]).collect()
        };
        let own = texts(parts.last()?);
        if parts.len() > 1 {
            let first = parts[0];
            let whole = texts(first);
            let inside = |text: &&&str| {
                parts[1..]
                    .iter()
                    .all(|part| has_word_in_code(text, part, language))
            };
            let within: Vec<&str> = whole.iter().filter(inside).copied().collect();
            if !within.is_empty() {
                return Some(within.join("\n"));
            }
            // `Type::ITEM` of Rust, which stands in an `impl`.
            let named =
                language == Language::Rust && (!whole.is_empty() || has_word(&file.text, first));
            return (named && !own.is_empty()).then(|| own.join("\n"));
        }
        (!own.is_empty()).then(|| own.join("\n"))
    }

    /// Which of these names no code of the kernel has.
    pub fn unknown(&self, names: &BTreeSet<String>) -> Result<BTreeSet<String>> {
        let mut left: HashSet<String> = names.iter().cloned().collect();
        for folder in FOLDERS {
            if !left.is_empty() {
                self.walk(&self.root.join(folder), &mut |path, bytes| {
                    strike_out(&mut left, path, bytes);
                    !left.is_empty()
                })?;
            }
        }
        Ok(left.into_iter().collect())
    }

    /// The files that define these names, functions and macros.
    pub fn definitions(&self, names: &BTreeSet<&str>) -> Result<BTreeSet<(String, String)>> {
        let mut found = BTreeSet::new();
        for folder in FOLDERS {
            self.walk(&self.root.join(folder), &mut |path, bytes| {
                let inside = path
                    .strip_prefix(&self.root)
                    .unwrap_or(path)
                    .display()
                    .to_string();
                let here: BTreeSet<&str> = words(bytes)
                    .filter_map(|word| names.get(word).copied())
                    .collect();
                for name in here {
                    if self.defines(&inside, name) {
                        found.insert((name.to_owned(), inside.clone()));
                    }
                }
                true
            })?;
        }
        Ok(found)
    }

    /// Whether a file defines a name, and does not only declare it.
    fn defines(&self, path: &str, name: &str) -> bool {
        let is = |item: &Item| !item.declared && item.names.iter().any(|known| known == name);
        self.file(path)
            .is_some_and(|file| file.items.iter().any(is))
    }

    /// Goes through the files with code in a folder, in order, while `visit` wants more.
    fn walk(&self, folder: &Path, visit: &mut dyn FnMut(&Path, &[u8]) -> bool) -> Result<bool> {
        let Ok(entries) = fs::read_dir(folder) else {
            return Ok(true);
        };
        let mut entries: Vec<_> = entries.flatten().collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let kind = entry.file_type()?;
            if kind.is_dir() {
                if path.ends_with("generated") {
                    continue;
                }
                if !self.walk(&path, visit)? {
                    return Ok(false);
                }
            } else if kind.is_file() && has_code(&path) {
                let bytes =
                    fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
                if !visit(&path, &bytes) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

fn has_code(path: &Path) -> bool {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("");
    let ending = path.extension().and_then(|ending| ending.to_str());
    // What the build makes is not what a reader finds.
    let made = name.ends_with(".mod.c") || name.ends_with("_generated.rs");
    !made && (matches!(ending, Some("c" | "h" | "rs" | "S" | "tbl")) || name.starts_with("Kconfig"))
}

/// Takes out of `left` what a file has.
fn strike_out(left: &mut HashSet<String>, path: &Path, bytes: &[u8]) {
    let is_kconfig = !matches!(
        path.extension().and_then(|ending| ending.to_str()),
        Some("c" | "h" | "rs" | "S" | "tbl")
    );
    for word in words(bytes) {
        left.remove(word);
        if is_kconfig {
            left.remove(&format!("CONFIG_{word}"));
        }
    }
}

/// The words of a file.
fn words(bytes: &[u8]) -> impl Iterator<Item = &str> {
    bytes
        .split(|byte| !is_word(*byte))
        .filter(|word| !word.is_empty())
        .filter_map(|word| std::str::from_utf8(word).ok())
}

fn has_word_in_code(text: &str, word: &str, language: Language) -> bool {
    has_word(&String::from_utf8_lossy(&masked(text, language)), word)
}

/// Whether a text has a word, whole.
fn has_word(text: &str, word: &str) -> bool {
    let bytes = text.as_bytes();
    text.match_indices(word).any(|(at, _)| {
        let end = at + word.len();
        (at == 0 || !is_word(bytes[at - 1])) && bytes.get(end).is_none_or(|byte| !is_word(*byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Tree) {
        let folder = tempfile::tempdir().unwrap();
        let makefile = (
            "Makefile",
            "# SPDX\nVERSION = 7\nPATCHLEVEL = 2\nSUBLEVEL = 12\n",
        );
        for (path, text) in files.iter().chain([&makefile]) {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let tree = Tree::open(folder.path()).unwrap();
        (folder, tree)
    }

    #[test]
    fn definitions_are_found_where_they_are_and_nowhere_else() {
        let (_folder, tree) = tree(&[
            (
                "mm/a.c",
                "int f(void)\n{\n\treturn g();\n}\n/* DOC: one thing */\n",
            ),
            ("mm/b.c", "int g(void)\n{\n\treturn 0;\n}\nint f(void);\n"),
            (
                "include/linux/a.h",
                "struct ops {\n\tint (*mmap)(void);\n\t/* munmap */\n};\nint f(void);\n",
            ),
            ("rust/a.rs", "impl ReadFile {\n    const OPS: u8 = 0;\n}\n"),
            ("init/Kconfig", "config RUST\n\tdepends on !KASAN\n"),
        ]);
        assert_eq!(tree.series, Series(7, 2));
        assert!(tree.has("mm") && tree.has("mm/a.c") && !tree.has("mm/c.c"));
        assert_eq!(
            tree.definition("mm/a.c", "f").unwrap(),
            "int f(void)\n{\n\treturn g();\n}"
        );
        assert_eq!(tree.definition("mm/a.c", "g"), None, "called, not defined");
        assert_eq!(
            tree.definition("mm/b.c", "f"),
            None,
            "declared, not defined"
        );
        assert!(
            tree.definition("include/linux/a.h", "f").is_some(),
            "what a header declares, it has"
        );
        assert!(tree.definition("include/linux/a.h", "ops.mmap").is_some());
        assert_eq!(tree.definition("include/linux/a.h", "ops.munmap"), None);
        assert!(tree.definition("rust/a.rs", "ReadFile::OPS").is_some());
        assert_eq!(tree.definition("rust/a.rs", "WriteFile::OPS"), None);
        assert!(tree.definition("mm/a.c", "DOC: one thing").is_some());
        assert_eq!(tree.definition("mm/a.c", "DOC: another"), None);
        assert!(tree.definition("init/Kconfig", "CONFIG_RUST").is_some());
        let found: Vec<_> = tree
            .definitions(&BTreeSet::from(["g", "f"]))
            .unwrap()
            .into_iter()
            .collect();
        let found: Vec<_> = found
            .iter()
            .map(|(name, path)| (name.as_str(), path.as_str()))
            .collect();
        assert_eq!(found, [("f", "mm/a.c"), ("g", "mm/b.c")]);
        let names = ["f", "gone", "CONFIG_KASAN", "CONFIG_GONE"]
            .map(str::to_owned)
            .into();
        let unknown: Vec<_> = tree.unknown(&names).unwrap().into_iter().collect();
        assert_eq!(unknown, ["CONFIG_GONE", "gone"]);
    }
}
