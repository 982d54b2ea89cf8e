//! `mapbuf explain`

use crate::{args::ExplainArgs, failure::Failure, output};
use anstyle::Style;
use mapbuf::{errno_name, Reason};
use serde::Serialize;
use std::fmt;

#[derive(Serialize)]
struct Explained {
    reasons: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    number: u32,
    name: &'static str,
    errno: Option<&'static str>,
    sentence: String,
    remedy: &'static str,
    /// Where the kernel forces it; empty where it does not.
    kernel: &'static str,
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bold = Style::new().bold();
        for entry in &self.reasons {
            let Entry {
                number,
                name,
                sentence,
                remedy,
                kernel,
                ..
            } = entry;
            writeln!(
                f,
                "{bold}{name}{bold:#} ({number}, {})",
                entry.errno.unwrap_or("?")
            )?;
            writeln!(f, "  what  {sentence}")?;
            writeln!(f, "  next  {remedy}")?;
            if !kernel.is_empty() {
                writeln!(f, "  kernel  {kernel}")?;
            }
        }
        Ok(())
    }
}

pub fn run(args: &ExplainArgs) -> Result<(), Failure> {
    let reasons: Vec<Entry> = Reason::ALL
        .iter()
        .filter(|reason| args.reason.as_deref().is_none_or(|text| is(**reason, text)))
        .map(|reason| Entry {
            number: reason.number(),
            name: reason.name(),
            errno: errno_name(reason.errno()),
            sentence: without_forms(reason.text().sentence),
            remedy: reason.text().remedy,
            kernel: reason.text().kernel,
        })
        .collect();
    if reasons.is_empty() {
        let text = args.reason.as_deref().unwrap_or_default();
        return Err(Failure::Usage(format!(
            "there is no reason '{text}'; 'mapbuf explain' lists all"
        )));
    }
    output::answer(args.output, &Explained { reasons })
}

fn is(reason: Reason, text: &str) -> bool {
    reason.name().eq_ignore_ascii_case(text) || text.parse() == Ok(reason.number())
}

/// The sentence with `<0>` for its first operand, and so on.
fn without_forms(sentence: &str) -> String {
    let mut out = String::new();
    let mut rest = sentence;
    while let Some((before, after)) = rest.split_once('{') {
        let (field, after) = after.split_once('}').unwrap_or((after, ""));
        let (index, form) = field.split_once(':').unwrap_or((field, ""));
        let index = index.parse::<u32>().map_or(0, |index| index + 1);
        out += before;
        out += &match form {
            "" => format!("<{index}>"),
            form => format!("<{index}: {form}>"),
        };
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_found() {
        assert!(is(Reason::CowNeedsContiguous, "cowneedscontiguous"));
        assert!(is(Reason::CowNeedsContiguous, "305"));
        assert!(!is(Reason::CowNeedsContiguous, "306"));
    }

    #[test]
    fn operands_have_places() {
        assert_eq!(without_forms("{0:bytes} of {1}"), "<1: bytes> of <2>");
    }
}
