//! How a text refers to the kernel's sources, and what it means by that.
//!
//! A reference is a file by its path from the root of the tree, most often with what is meant in it:
//!
//! ```text
//! `do_fault` of `mm/memory.c`              of, in
//! `do_fault` (`mm/memory.c`)
//! `do_fault`, `mm/memory.c`
//! `mm/memory.c`, `do_fault`
//! `do_fault` and `do_set_pmd` of mm/memory.c
//! ```
//!
//! The backticks may be left out. What a file is said to have, it must define: a function, a macro, a struct, a variable,
//! or, with `DOC:`, a section of the documentation. `dma_buf_ops.mmap` and `ReadFile::FILE_OPS` are something within it.
//!
//! What stands by a path of another project (`cpu_get_ticks` of `softmmu/cpu-timers.c`) is that project's.
//!
//! A name by itself, in backticks or with an underscore, refers to the kernel as well, unless it is one of the
//! project's: it must stand somewhere in the kernel's code. What a manual page of a library is about has the page's
//! section: `pkey_set(3)`.
//!
//! A reference holds for every series, unless the text says otherwise right before or right behind it:
//!
//! ```text
//! 7.2: `is_cow_mapping` of `mm/internal.h`          also: in 7.2; 7.2's; up to 7.2; before 7.3; from 7.3 on
//! `is_cow_mapping` of `mm/internal.h` in 7.2        also: of 7.2; (7.2); up to 7.2; before 7.3; from 7.3 on
//! ```

use std::fmt;
use std::ops::Range;

/// A series of the kernel: `7.2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Series(pub u32, pub u32);

impl Series {
    /// Reads the beginning of a release: `7.2` of `7.2.12+deb13-cloud-amd64`.
    pub fn of_release(text: &str) -> Option<Self> {
        let (major, rest) = text.split_once('.')?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        Some(Self(major.parse().ok()?, rest[..digits].parse().ok()?))
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl std::str::FromStr for Series {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::of_release(text)
            .filter(|series| series.to_string() == text)
            .ok_or_else(|| format!("'{text}' is no series; one is written as 7.2"))
    }
}

/// The series that a reference speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Span {
    /// All of them.
    Every,
    /// This one.
    Only(Series),
    /// This one and later ones.
    From(Series),
    /// This one and earlier ones.
    UpTo(Series),
    /// Earlier ones.
    Before(Series),
}

impl Span {
    /// Whether it speaks of this series.
    pub fn has(self, series: Series) -> bool {
        match self {
            Self::Every => true,
            Self::Only(only) => series == only,
            Self::From(first) => series >= first,
            Self::UpTo(last) => series <= last,
            Self::Before(next) => series < next,
        }
    }
}

/// One reference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// The file or folder, from the root of the tree; without one, any.
    pub path: Option<String>,
    /// What of it; without a name, the file itself.
    pub name: Option<String>,
    /// Where it holds.
    pub span: Span,
    /// Where in the text it stands, in bytes.
    pub at: usize,
}

/// Something that looks like a reference and is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// What is wrong with it, and what to write.
    pub what: String,
    /// Where in the text it stands, in bytes.
    pub at: usize,
}

/// The folders at the root of the kernel's tree.
const ROOTS: &[&str] = &[
    "Documentation",
    "arch",
    "block",
    "certs",
    "crypto",
    "drivers",
    "fs",
    "include",
    "init",
    "io_uring",
    "ipc",
    "kernel",
    "lib",
    "mm",
    "net",
    "rust",
    "samples",
    "scripts",
    "security",
    "sound",
    "tools",
    "virt",
];

/// What joins the last two names of a list.
const AND: &[&str] = &["and", "or"];

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Path(String),
    /// A file by its last name alone.
    File(String),
    /// A file of another project.
    Foreign,
    Name(String),
    /// Other text in backticks.
    Code,
    Word(String),
    Series(Series),
    Mark(char),
}

/// Reads a text: what it refers to, and what it only seems to.
pub fn read(text: &str) -> (Vec<Reference>, Vec<Complaint>) {
    let tokens = tokens(text);
    let mut reader = Reader {
        tokens: &tokens,
        taken: vec![false; tokens.len()],
        references: Vec::new(),
        complaints: Vec::new(),
    };
    reader.read();
    reader.references.sort_by_key(|reference| reference.at);
    (reader.references, reader.complaints)
}

struct Reader<'a> {
    tokens: &'a [(Token, usize)],
    /// Which names belong to a path already.
    taken: Vec<bool>,
    references: Vec<Reference>,
    complaints: Vec<Complaint>,
}

impl Reader<'_> {
    fn read(&mut self) {
        for at in 0..self.tokens.len() {
            let (token, place) = &self.tokens[at];
            match token {
                Token::Path(path) => self.path(at, path),
                Token::Foreign => {
                    for name in self.names_before(at) {
                        self.taken[name] = true;
                    }
                }
                Token::File(name) => self.complaints.push(Complaint {
                    what: format!("{name}: a file of the kernel is named by its path from the root of the tree"),
                    at: *place,
                }),
                _ => {}
            }
        }
        for at in 0..self.tokens.len() {
            if let (Token::Name(name), false) = (&self.tokens[at].0, self.taken[at]) {
                let span = self.span(at..at + 1);
                self.add(None, Some(name), span, at);
            }
        }
    }

    fn token(&self, at: usize) -> Option<&Token> {
        self.tokens.get(at).map(|(token, _)| token)
    }

    fn is_mark(&self, at: usize, mark: char) -> bool {
        self.token(at) == Some(&Token::Mark(mark))
    }

    fn is_word(&self, at: usize, words: &[&str]) -> bool {
        matches!(self.token(at), Some(Token::Word(word)) if words.contains(&word.as_str()))
    }

    fn is_name(&self, at: usize) -> bool {
        matches!(self.token(at), Some(Token::Name(_)))
    }

    /// A path, with the names before or behind it.
    fn path(&mut self, at: usize, path: &str) {
        let mut behind = self.names_behind(at);
        let mut before = self.names_before(at);
        let listed = at > 0 && self.is_mark(at - 1, ',');
        let enclosed = at > 0 && self.is_mark(at - 1, '(');
        // `a` (path, `b`) and `a`, path, `b`: it is the second one that is meant to be there.
        if before.is_empty() || (!behind.is_empty() && (listed || enclosed)) {
            before.clear();
        } else {
            behind.clear();
        }
        if before.is_empty() && behind.is_empty() {
            self.complain(at, path);
            let span = self.span(at..at + 1);
            self.add(Some(path), None, span, at);
            return;
        }
        let names = if before.is_empty() { behind } else { before };
        let first = names.iter().copied().chain([at]).min().unwrap_or(at);
        let last = names.iter().copied().chain([at]).max().unwrap_or(at);
        let span = self.span(first..last + 1);
        for name in names {
            self.taken[name] = true;
            let text = match &self.tokens[name].0 {
                Token::Name(text) | Token::Word(text) => text.clone(),
                _ => continue,
            };
            self.add(Some(path), Some(&text), span, name);
        }
    }

    /// The names of `a`, `b` and `c` of PATH, (PATH) or , PATH.
    fn names_before(&self, at: usize) -> Vec<usize> {
        let mut names = Vec::new();
        let Some(link) = at.checked_sub(1) else {
            return names;
        };
        if !(self.is_mark(link, '(')
            || self.is_mark(link, ',')
            || self.is_word(link, &["of", "in"]))
        {
            return names;
        }
        let mut next = link;
        let mut listed = false;
        while let Some(name) = next.checked_sub(1) {
            if !self.is_name(name) || self.taken[name] {
                break;
            }
            names.push(name);
            // What joins it to the one before: the last two of a list are joined by a word.
            let mut joint = name;
            while joint > 0 && (self.is_mark(joint - 1, ',') || self.is_word(joint - 1, AND)) {
                joint -= 1;
                listed |= self.is_word(joint, AND);
            }
            if joint == name || !listed {
                break;
            }
            next = joint;
        }
        names
    }

    /// The names of PATH, `a`, `b` and `c`; the first may be any word that a colon follows.
    fn names_behind(&self, at: usize) -> Vec<usize> {
        let mut names = Vec::new();
        let mut next = at + 1;
        if !self.is_mark(next, ',') {
            return names;
        }
        next += 1;
        let mut listed = false;
        let word = matches!(self.token(next), Some(Token::Word(_))) && self.is_mark(next + 1, ':');
        if !self.is_name(next) && !word {
            return names;
        }
        loop {
            names.push(next);
            next += 1;
            let mut joint = next;
            let mut ends = false;
            while self.is_mark(joint, ',') || self.is_word(joint, AND) {
                ends |= self.is_word(joint, AND);
                joint += 1;
            }
            // The next in the list, unless it has a path of its own.
            let own = matches!(
                (self.token(joint + 1), self.token(joint + 2)),
                (Some(Token::Mark('(' | ',')), Some(Token::Path(_)))
            ) || (self.is_word(joint + 1, &["of", "in"])
                && matches!(self.token(joint + 2), Some(Token::Path(_))));
            if joint == next || !self.is_name(joint) || own {
                // Without a word before the last one, what follows the first is the rest of the sentence.
                names.truncate(if listed { names.len() } else { 1 });
                return names;
            }
            listed = ends;
            next = joint;
        }
    }

    /// A path that stands by a name without a word that says what they have to do with each other.
    fn complain(&mut self, at: usize, path: &str) {
        let mut names = vec![at + 1];
        if self.is_mark(at + 1, ':') {
            names.push(at + 2);
        }
        names.extend(at.checked_sub(1));
        for name in names {
            if let (Some(Token::Name(text)), false) =
                (self.token(name), self.taken.get(name) == Some(&true))
            {
                // An error or a flag may stand there.
                if !text.contains('_') || !text.bytes().any(|byte| byte.is_ascii_lowercase()) {
                    continue;
                }
                self.complaints.push(Complaint {
                    what: format!("{text} stands by {path}: write `{text}` of `{path}`, or `{path}`, `{text}`"),
                    at: self.tokens[at].1,
                });
            }
        }
    }

    /// The series that the text right before or behind these tokens names.
    fn span(&self, tokens: Range<usize>) -> Span {
        let mut before = tokens.start;
        // `a (b of path)` is introduced before its parenthesis too.
        if before > 0 && self.is_mark(before - 1, '(') {
            before -= 1;
        }
        self.span_before(tokens.start)
            .or_else(|| self.span_before(before))
            .or_else(|| self.span_behind(tokens.end))
            .unwrap_or(Span::Every)
    }

    fn series(&self, at: Option<usize>) -> Option<Series> {
        match self.token(at?)? {
            Token::Series(series) => Some(*series),
            _ => None,
        }
    }

    fn span_before(&self, start: usize) -> Option<Span> {
        let back = |by: usize| start.checked_sub(by);
        let word = |by: usize, words: &[&str]| back(by).is_some_and(|at| self.is_word(at, words));
        let mark = |by: usize, mark: char| back(by).is_some_and(|at| self.is_mark(at, mark));
        // A comma or a colon may stand between.
        let gap = usize::from(mark(1, ':') || mark(1, ','));
        if word(1 + gap, &["on"]) && word(3 + gap, &["from", "From"]) {
            return self.series(back(2 + gap)).map(Span::From);
        }
        // 7.2's
        if word(1, &["s"]) && mark(2, '\'') {
            return self.series(back(3)).map(Span::Only);
        }
        let series = self.series(back(1 + gap))?;
        if word(2 + gap, &["to"]) && word(3 + gap, &["up", "Up"]) {
            Some(Span::UpTo(series))
        } else if word(2 + gap, &["before", "Before"]) {
            Some(Span::Before(series))
        } else if word(2 + gap, &["in", "In"]) || mark(1, ':') {
            Some(Span::Only(series))
        } else {
            None
        }
    }

    fn span_behind(&self, mut end: usize) -> Option<Span> {
        // The end of `name (path)`.
        if self.is_mark(end, ')') {
            end += 1;
        }
        let open = usize::from(self.is_mark(end, '(') || self.is_mark(end, ','));
        let at = end + open;
        if self.is_mark(end, '(') && self.is_mark(at + 1, ')') {
            return self.series(Some(at)).map(Span::Only);
        }
        if self.is_word(at, &["from"]) && self.is_word(at + 2, &["on"]) {
            self.series(Some(at + 1)).map(Span::From)
        } else if self.is_word(at, &["up"]) && self.is_word(at + 1, &["to"]) {
            self.series(Some(at + 2)).map(Span::UpTo)
        } else if self.is_word(at, &["before"]) {
            self.series(Some(at + 1)).map(Span::Before)
        } else if self.is_word(at, &["in", "of"]) {
            self.series(Some(at + 1)).map(Span::Only)
        } else {
            None
        }
    }

    fn add(&mut self, path: Option<&str>, name: Option<&str>, span: Span, at: usize) {
        self.references.push(Reference {
            path: path.map(str::to_owned),
            name: name.map(str::to_owned),
            span,
            at: self.tokens[at].1,
        });
    }
}

fn tokens(text: &str) -> Vec<(Token, usize)> {
    let bytes = text.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        if byte == b'`' {
            let length = text[at + 1..].find('`').unwrap_or(text.len() - at - 1);
            let inside = &text[at + 1..at + 1 + length];
            in_backticks(inside, at + 1, &mut tokens);
            at += length + 2;
        } else if is_letter(byte) || byte == b'.' || byte == b'/' {
            let length = text[at..]
                .bytes()
                .take_while(|byte| is_letter(*byte) || matches!(byte, b'.' | b'/' | b'-' | b'+'))
                .count();
            let word = text[at..at + length].trim_end_matches(['.', '-', '/', '+']);
            if word.is_empty() {
                at += length;
                continue;
            }
            plain(word, at, &mut tokens);
            at += word.len();
            if text[at..].starts_with("()") {
                if let Some((Token::Word(word), place)) = tokens.last().cloned() {
                    // What is called is a function, whatever its name looks like.
                    if is_identifier(&word) {
                        tokens.pop();
                        tokens.push((Token::Name(word), place));
                    }
                }
                at += 2;
            } else if text[at..].starts_with("(3)") {
                if let Some((token, _)) = tokens.last_mut() {
                    *token = Token::Code;
                }
                at += 3;
            }
        } else {
            let character = text[at..].chars().next().unwrap_or(' ');
            if !character.is_whitespace() {
                tokens.push((Token::Mark(character), at));
            }
            at += character.len_utf8();
        }
    }
    tokens
}

fn in_backticks(inside: &str, at: usize, tokens: &mut Vec<(Token, usize)>) {
    let bare = inside.strip_suffix("()").unwrap_or(inside);
    let bare = ["struct ", "union ", "enum "]
        .iter()
        .find_map(|keyword| bare.strip_prefix(keyword))
        .unwrap_or(bare);
    let token = if is_path(inside) {
        Token::Path(without_line(inside).to_owned())
    } else if is_foreign(inside) {
        Token::Foreign
    } else if is_file(inside) {
        Token::File(inside.to_owned())
    } else if inside.starts_with("DOC:") || is_qualified(bare) {
        Token::Name(bare.to_owned())
    } else {
        Token::Code
    };
    tokens.push((token, at));
}

fn plain(word: &str, at: usize, tokens: &mut Vec<(Token, usize)>) {
    let token = if is_path(word) {
        Token::Path(word.to_owned())
    } else if is_foreign(word) {
        Token::Foreign
    } else if is_file(word) {
        Token::File(word.to_owned())
    } else if let Some(series) = series(word) {
        Token::Series(series)
    } else if is_qualified(word) && word.trim_start_matches('_').contains('_') {
        Token::Name(word.to_owned())
    } else {
        Token::Word(word.to_owned())
    };
    tokens.push((token, at));
}

/// `7.2` or `7.2.12`.
fn series(word: &str) -> Option<Series> {
    let numbers: Option<Vec<u32>> = word.split('.').map(|part| part.parse().ok()).collect();
    match numbers?[..] {
        [major, minor] | [major, minor, _] if major > 3 => Some(Series(major, minor)),
        _ => None,
    }
}

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_letter) && !text.as_bytes()[0].is_ascii_digit()
}

/// An identifier, or several joined by `.`, `->` or `::`.
fn is_qualified(text: &str) -> bool {
    parts(text).iter().all(|part| is_identifier(part))
}

/// The identifiers of a name: `dma_buf_ops` and `mmap` of `dma_buf_ops.mmap`.
pub fn parts(name: &str) -> Vec<&str> {
    name.split("::")
        .flat_map(|part| part.split("->"))
        .flat_map(|part| part.split('.'))
        .collect()
}

/// Whether a text is a path from the root of the kernel's tree.
fn is_path(text: &str) -> bool {
    let Some((root, rest)) = text.split_once('/') else {
        return false;
    };
    let clean = without_line(rest)
        .bytes()
        .all(|byte| is_letter(byte) || matches!(byte, b'/' | b'.' | b'-' | b'+'));
    // What the build makes is in no source.
    let made = rest
        .rsplit_once('.')
        .is_some_and(|(_, ending)| matches!(ending, "o" | "ko" | "a" | "rmeta"));
    ROOTS.contains(&root) && !rest.is_empty() && clean && !made
}

/// Whether a text is a source file in another project's tree.
fn is_foreign(text: &str) -> bool {
    let ending = text.rsplit_once('.').map(|(_, ending)| ending);
    text.contains('/') && matches!(ending, Some("c" | "h" | "rs")) && !is_path(text)
}

/// Without the `:12` that a message of the kernel's has behind a file.
fn without_line(path: &str) -> &str {
    match path.rsplit_once(':') {
        Some((path, line)) if line.bytes().all(|byte| byte.is_ascii_digit()) => path,
        _ => path,
    }
}

/// Whether a text is the last name of a C file.
fn is_file(text: &str) -> bool {
    let Some((stem, ending)) = text.rsplit_once('.') else {
        return false;
    };
    let clean = stem.bytes().all(|byte| is_letter(byte) || byte == b'-');
    matches!(ending, "c" | "h") && !stem.is_empty() && clean
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `path name` of each reference with a path; with its span, where that is not `Every`.
    fn placed(text: &str) -> Vec<String> {
        let (references, complaints) = read(text);
        assert_eq!(complaints, []);
        references
            .into_iter()
            .filter_map(|reference| {
                let name = reference.name.unwrap_or_default();
                let span = match reference.span {
                    Span::Every => String::new(),
                    span => format!(" {span:?}"),
                };
                Some(format!("{} {name}{span}", reference.path?))
            })
            .collect()
    }

    fn alone(text: &str) -> Vec<(String, Span)> {
        read(text)
            .0
            .into_iter()
            .filter(|reference| reference.path.is_none())
            .filter_map(|reference| Some((reference.name?, reference.span)))
            .collect()
    }

    #[test]
    fn every_form_of_a_reference() {
        for text in [
            "see `do_fault` of `mm/memory.c`, which",
            "see do_fault in mm/memory.c.",
            "see `do_fault()` (`mm/memory.c`)",
            "see (`do_fault`, mm/memory.c)",
            "`mm/memory.c`, `do_fault`: it does",
            "mm/memory.c, do_fault leaves",
            "the `struct do_fault` of mm/memory.c:12",
        ] {
            assert_eq!(placed(text), ["mm/memory.c do_fault"], "{text}");
        }
        assert_eq!(
            placed("arch/x86/kernel/sys_x86_64.c, mmap: EINVAL"),
            ["arch/x86/kernel/sys_x86_64.c mmap"]
        );
        assert_eq!(placed("SEEK_END (`fs/sync.c`)").len(), 1);
        assert_eq!(placed("in mm/memory.c. And"), ["mm/memory.c "]);
        assert_eq!(
            placed("`DOC: locking convention` of `drivers/dma-buf/dma-buf.c`"),
            ["drivers/dma-buf/dma-buf.c DOC: locking convention"]
        );
        assert_eq!(
            placed("`dma_buf_ops.mmap` (`include/linux/dma-buf.h`)"),
            ["include/linux/dma-buf.h dma_buf_ops.mmap"]
        );
    }

    #[test]
    fn several_names_and_several_files() {
        assert_eq!(
            placed("`a_a`, `b_b` and `c_c` of `mm/vma.c`"),
            ["mm/vma.c a_a", "mm/vma.c b_b", "mm/vma.c c_c"]
        );
        assert_eq!(
            placed("drivers/dma-buf/dma-buf.c, dma_buf_mmap and dma_buf_mmap_internal: EINVAL"),
            [
                "drivers/dma-buf/dma-buf.c dma_buf_mmap",
                "drivers/dma-buf/dma-buf.c dma_buf_mmap_internal"
            ]
        );
        assert_eq!(
            placed("mm/memory.c, a_a, and mm/huge_memory.c, b_b: BUG_ON; include/linux/mm.h, c_c"),
            [
                "mm/memory.c a_a",
                "mm/huge_memory.c b_b",
                "include/linux/mm.h c_c"
            ]
        );
        assert_eq!(
            placed(
                "`a_a` leads to `b_b` (`mm/rmap.c`), and (`c_c` of `mm/vma.c`; `d_d` of mm/gup.c)"
            ),
            ["mm/rmap.c b_b", "mm/vma.c c_c", "mm/gup.c d_d"]
        );
        // What follows a path in parentheses is what is there, not what stands before.
        assert_eq!(placed("`VM_X` (mm/memory.c, `a_a`)"), ["mm/memory.c a_a"]);
        assert_eq!(
            placed("a_a (mm/memory.c), b_b (mm/gup.c)"),
            ["mm/memory.c a_a", "mm/gup.c b_b"]
        );
    }

    #[test]
    fn names_without_a_file() {
        let every = |name: &str| (name.to_owned(), Span::Every);
        assert_eq!(
            alone(
                "`mmap` calls vma_set_file(), then do_fault of mm/memory.c, not remap_x or call()"
            ),
            [
                every("mmap"),
                every("vma_set_file"),
                every("remap_x"),
                every("call")
            ]
        );
    }

    #[test]
    fn names_of_other_projects() {
        assert_eq!(alone("(`cpu_get_ticks` of `softmmu/cpu-timers.c`)"), []);
    }

    #[test]
    fn the_series_that_it_speaks_of() {
        let only = "mm/internal.h is_cow Only(Series(7, 2))";
        for text in [
            "7.2: `is_cow` of `mm/internal.h`",
            "in 7.2 `is_cow` of `mm/internal.h`",
            "In 7.2, `is_cow` of `mm/internal.h`",
            "7.2's `is_cow` (`mm/internal.h`)",
            "`is_cow` of `mm/internal.h` in 7.2",
            "`is_cow` (`mm/internal.h`) of 7.2.12",
            "(7.2: mm/internal.h, is_cow)",
        ] {
            assert_eq!(placed(text), [only], "{text}");
        }
        for (text, span) in [
            ("from 7.3 on, `a_a` of mm/vma.c", "From(Series(7, 3))"),
            ("`a_a` of mm/vma.c from 7.3 on", "From(Series(7, 3))"),
            ("up to 7.2 `a_a` of mm/vma.c", "UpTo(Series(7, 2))"),
            ("`a_a` (mm/vma.c), up to 7.2", "UpTo(Series(7, 2))"),
            ("`a_a` of mm/vma.c before 7.3", "Before(Series(7, 3))"),
            ("before 7.3: mm/vma.c, a_a", "Before(Series(7, 3))"),
        ] {
            assert_eq!(placed(text), [format!("mm/vma.c a_a {span}")], "{text}");
        }
        let found = alone("`vma_is_cow` from 7.3 on, in 7.2 `is_cow`, and `is_x` (7.2)");
        let spans: Vec<_> = found.into_iter().map(|(_, span)| span).collect();
        assert_eq!(
            spans,
            [
                Span::From(Series(7, 3)),
                Span::Only(Series(7, 2)),
                Span::Only(Series(7, 2))
            ]
        );
        // A number that is said of something else.
        assert_eq!(
            placed("Debian has 7.2. `a_a` of mm/vma.c is"),
            ["mm/vma.c a_a"]
        );
    }

    #[test]
    fn spans_have_their_series() {
        let (old, new) = (Series(7, 2), Series(7, 3));
        assert!(Span::Every.has(old) && Span::Only(old).has(old) && !Span::Only(old).has(new));
        assert!(Span::From(new).has(new) && !Span::From(new).has(old));
        assert!(Span::UpTo(old).has(old) && !Span::UpTo(old).has(new));
        assert!(Span::Before(new).has(old) && !Span::Before(new).has(new));
        assert!(Series(7, 10) > Series(7, 9));
        assert_eq!("7.10".parse(), Ok(Series(7, 10)));
        assert!("7.2.1".parse::<Series>().is_err() && "7".parse::<Series>().is_err());
        assert_eq!(Series::of_release("7.2.12+deb13"), Some(old));
    }

    #[test]
    fn what_only_looks_like_a_reference_is_complained_of() {
        for text in [
            "mm/memory.c `do_fault`: it",
            "mm/memory.c: `do_fault` does",
            "`do_fault` mm/memory.c",
            "`do_fault` of memory.c",
            "see `memory.c`",
        ] {
            let (_, complaints) = read(text);
            assert_eq!(complaints.len(), 1, "{text}: {complaints:?}");
        }
        for text in [
            "/lib/modules/7.2/build",
            "target/driver/mm/x.c",
            "read/write",
            "CC mm/memory.o",
            "`lib.rs`",
            "mm/memory.c: MADV_X is",
        ] {
            assert_eq!(read(text).1, [], "{text}");
        }
    }
}
