//! The prose of the project: what a person reads in the guide, and in the comments and messages of the sources.

use super::source::{self, Language, Piece};
use std::ops::Range;

/// A paragraph, a comment or a string, in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// What is written, without the marks of comments.
    pub text: String,
    /// Whether it is a string, which may hold anything.
    pub string: bool,
    /// Where each of its lines begins, in bytes, and the number of that line in the file.
    lines: Vec<(usize, usize)>,
}

impl Passage {
    /// The number of the line in the file that the byte `at` of the text stands on.
    pub fn line(&self, at: usize) -> usize {
        let after = self.lines.partition_point(|(start, _)| *start <= at);
        self.lines
            .get(after.saturating_sub(1))
            .map_or(1, |(_, line)| *line)
    }

    fn add(&mut self, text: &str, line: usize) {
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        self.lines.push((self.text.len(), line));
        self.text.push_str(text.trim());
    }
}

/// Collects passages.
#[derive(Default)]
struct Passages {
    whole: Vec<Passage>,
    open: Option<Passage>,
    /// Inside of a fenced block, which shows code or what a command prints.
    fenced: bool,
    string: bool,
}

impl Passages {
    fn line(&mut self, text: &str, line: usize) {
        let text = text.trim();
        if text.starts_with("```") {
            self.fenced = !self.fenced;
            self.close();
        } else if self.fenced {
        } else if text.is_empty() || text.starts_with("<!--") {
            self.close();
        } else {
            let apart = ["- ", "* ", "#", "|"]
                .iter()
                .any(|mark| text.starts_with(mark));
            if apart || numbered(text) {
                self.close();
            }
            self.open
                .get_or_insert(Passage {
                    text: String::new(),
                    string: self.string,
                    lines: Vec::new(),
                })
                .add(text, line);
        }
    }

    fn close(&mut self) {
        self.whole.extend(self.open.take());
    }

    /// What follows belongs to another text.
    fn end(&mut self) {
        self.close();
        self.fenced = false;
    }
}

fn numbered(text: &str) -> bool {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    digits > 0 && text[digits..].starts_with(". ")
}

/// The passages of a Markdown file. What stands between fences is left out: it comes from programs, whose sources are
/// read themselves.
pub fn of_markdown(text: &str) -> Vec<Passage> {
    let mut passages = Passages::default();
    for (number, line) in text.lines().enumerate() {
        passages.line(&unescaped(line), number + 1);
    }
    passages.end();
    passages.whole
}

/// Without the backslashes before what Markdown would take for a mark.
fn unescaped(line: &str) -> String {
    let mut out = String::new();
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        let next = characters.peek();
        if character != '\\' || !next.is_some_and(char::is_ascii_punctuation) {
            out.push(character);
        }
    }
    out
}

/// The comments in `#` of a file.
pub fn of_settings(text: &str) -> Vec<Passage> {
    let mut passages = Passages::default();
    for (number, line) in text.lines().enumerate() {
        let comment = line.trim().strip_prefix('#').unwrap_or("");
        passages.line(comment, number + 1);
    }
    passages.end();
    passages.whole
}

/// The comments and the strings of a source file.
pub fn of_source(text: &str, language: Language) -> Vec<Passage> {
    let mut passages = Passages::default();
    let mut strings = Vec::new();
    let mut number = 1;
    for (piece, range) in source::pieces(text, language) {
        let lines = lines(text, &range, number);
        match piece {
            Piece::Code => {
                // Blanks between the lines of one comment; anything else ends it.
                if !text[range.clone()].trim().is_empty()
                    || text[range.clone()].matches('\n').count() > 1
                {
                    passages.end();
                }
            }
            Piece::LineComment => {
                for (line, number) in lines {
                    passages.line(line.trim_start_matches('/').trim_start_matches('!'), number);
                }
            }
            Piece::BlockComment => {
                passages.end();
                for (line, number) in lines {
                    let line = line.trim().trim_start_matches('/').trim_end_matches('/');
                    passages.line(line.trim_start_matches('*').trim_end_matches('*'), number);
                }
                passages.end();
            }
            Piece::Text => {
                let mut one = Passages {
                    string: true,
                    ..Passages::default()
                };
                for (line, number) in lines {
                    let line = line.trim().trim_end_matches('\\');
                    one.line(line.trim_start_matches('"').trim_end_matches('"'), number);
                }
                one.end();
                strings.extend(one.whole);
            }
        }
        number += text[range].matches('\n').count();
    }
    passages.end();
    passages.whole.extend(strings);
    passages.whole
}

fn lines<'a>(text: &'a str, range: &Range<usize>, first: usize) -> Vec<(&'a str, usize)> {
    text[range.clone()]
        .split('\n')
        .enumerate()
        .map(|(at, line)| (line, first + at))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(passages: &[Passage]) -> Vec<&str> {
        passages
            .iter()
            .map(|passage| passage.text.as_str())
            .collect()
    }

    #[test]
    fn markdown_in_paragraphs_without_what_is_fenced() {
        let text = "# Head\n\nOne `a_b`\nof c\\_d.\n- two\n- three\n```c\nint no;\n```\n1. four\n";
        let passages = of_markdown(text);
        assert_eq!(
            texts(&passages),
            ["# Head", "One `a_b` of c_d.", "- two", "- three", "1. four"]
        );
        assert_eq!(passages[1].line(0), 3);
        assert_eq!(passages[1].line(12), 4);
    }

    #[test]
    fn comments_and_strings_of_rust() {
        let text = "//! One\n//! and.\n//!\n//! Two.\nfn f() {\n    // Three,\n    // four.\n    \
                    g(\"five, \\\n       six\"); // seven\n}\n";
        let passages = of_source(text, Language::Rust);
        assert_eq!(
            texts(&passages),
            ["One and.", "Two.", "Three, four.", "seven", "five, six"]
        );
        assert_eq!(passages[2].line(8), 7);
    }

    #[test]
    fn comments_of_c() {
        let text = "/* One. */\n#include <linux/mm.h>\n/*\n * Two\n * three.\n *\n * Four.\n */\nint x; /* five */\n";
        let passages = of_source(text, Language::C);
        assert_eq!(texts(&passages), ["One.", "Two three.", "Four.", "five"]);
        assert_eq!(passages[1].line(5), 5);
    }

    #[test]
    fn comments_of_settings() {
        let passages = of_settings("# One,\n# two.\nCONFIG_A=y\n# Three.\n");
        assert_eq!(texts(&passages), ["One, two.", "Three."]);
    }
}
