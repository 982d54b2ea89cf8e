//! How the demo looks: headings, checks, pictures, 80 columns wide; colours on a terminal only.

use super::{
    charset::Charset,
    ledger::{Row, Verdict},
    picture::Picture,
};
use crate::output;
use anstyle::{AnsiColor, Style};

const WIDTH: usize = 80;
/// Where the text of a check ends and the requirements that it shows begin.
const TEXT: usize = 62;

const GOOD: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Green)));
const BAD: Style = Style::new()
    .fg_color(Some(anstyle::Color::Ansi(AnsiColor::Red)))
    .bold();
const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();
/// Neighbouring rows of a picture have different ones.
const HUES: [AnsiColor; 5] = [
    AnsiColor::Cyan,
    AnsiColor::Yellow,
    AnsiColor::Magenta,
    AnsiColor::Blue,
    AnsiColor::BrightRed,
];

/// Where the demo is shown.
pub struct Stage {
    charset: Charset,
    silent: bool,
}

impl Stage {
    /// Standard output, or nowhere.
    pub fn new(silent: bool) -> Self {
        Self {
            charset: Charset::of_environment(),
            silent,
        }
    }

    /// Begins a scene.
    pub fn heading(&self, title: &str) {
        let line: String = std::iter::repeat_n(
            self.charset.line,
            WIDTH.saturating_sub(title.chars().count() + 4),
        )
        .collect();
        let dash = self.charset.line;
        self.print(&format!(
            "\n{DIM}{dash}{DIM:#} {BOLD}{title}{BOLD:#} {DIM}{line}{DIM:#}"
        ));
    }

    /// Tells something.
    pub fn line(&self, text: &str) {
        self.print(&format!("  {text}"));
    }

    /// Tells what a check saw.
    pub fn check(&self, held: bool, what: &str, shows: &[&str]) {
        let (style, mark) = match held {
            true => (GOOD, self.charset.held),
            false => (BAD, self.charset.failed),
        };
        self.marked(style, mark, what, &shows.join(" "));
    }

    /// Tells why a check does not run.
    pub fn not_yet(&self, why: &str, id: &str) {
        self.marked(DIM, self.charset.put_off, why, id);
    }

    fn marked(&self, style: Style, mark: &str, text: &str, shows: &str) {
        let mut lines = wrapped(text, TEXT).into_iter();
        let first = lines.next().unwrap_or_default();
        let room = TEXT.saturating_sub(first.chars().count());
        self.print(&format!(
            "  {style}{mark:2}{style:#} {first}{:room$}  {DIM}{shows}{DIM:#}",
            ""
        ));
        lines.for_each(|line| self.print(&format!("     {line}")));
    }

    /// Tells about a refusal: what was tried, what happened, what to do next.
    pub fn refusal(&self, tried: &str, error: &mapbuf::Error) {
        self.print(&format!("  {DIM}tried{DIM:#}  {tried}"));
        let Some(refusal) = error.refusal() else {
            self.block("what", &error.to_string());
            return;
        };
        self.block("what", &refusal.to_string());
        self.block("next", refusal.reason.text().remedy);
        let errno = mapbuf::errno_name(refusal.reason.errno()).unwrap_or("?");
        let (name, number) = (refusal.reason.name(), refusal.reason.number());
        self.block(
            "code",
            &format!("{errno}, reason {number}: mapbuf explain {name}"),
        );
    }

    fn block(&self, label: &str, text: &str) {
        for (number, line) in wrapped(text, WIDTH - 9).iter().enumerate() {
            let label = if number == 0 { label } else { "" };
            self.print(&format!("  {BOLD}{label:5}{BOLD:#}  {line}"));
        }
    }

    /// Says what the picture shows.
    pub fn headline(&self, kind: &str, summary: &str, verdict: &str) {
        self.print(&format!(
            "  {BOLD}{kind}{BOLD:#}: {summary}: {BOLD}{verdict}{BOLD:#}"
        ));
    }

    /// Draws which virtual page lies on which frame.
    pub fn picture(&self, picture: &Picture) {
        let (left, axis, right) = picture.axis();
        self.print(&format!("  {DIM}{left} {axis} {right}{DIM:#}"));
        for (number, row) in picture.rows(&self.charset).iter().enumerate() {
            let style = match picture.is_one_run() {
                true => GOOD,
                false => Style::new().fg_color(Some(HUES[number % HUES.len()].into())),
            };
            // The marks of a row in its colour, the rest dim.
            let mut cells = String::new();
            let mut on = false;
            for cell in row.cells.chars() {
                let mark = cell != self.charset.empty && cell != ' ';
                if mark != on {
                    cells += &if mark {
                        format!("{DIM:#}{style}")
                    } else {
                        format!("{style:#}{DIM}")
                    };
                    on = mark;
                }
                cells.push(cell);
            }
            let label = &row.label;
            let (run, gap) = (&row.run, &row.gap);
            self.print(&format!("  {style}{label}{style:#} {DIM}{cells}{style:#}{DIM:#} {run:>9}  {DIM}{gap}{DIM:#}"));
        }
    }

    /// Tells how a requirement stands.
    pub fn row(&self, row: Row<'_>) {
        let (style, word) = match row.verdict {
            Verdict::Pass => (GOOD, "pass"),
            Verdict::Fail => (BAD, "fail"),
            Verdict::NotYet => (DIM, "not yet"),
        };
        self.print(&format!(
            "  {:3} {style}{word:8}{style:#} {}",
            row.id, row.text
        ));
        if let Some(why) = row.why {
            wrapped(why, WIDTH - 15)
                .iter()
                .for_each(|line| self.print(&format!("               {DIM}{line}{DIM:#}")));
        }
    }

    fn print(&self, text: &str) {
        if !self.silent {
            // Nobody has to watch for the checks to be made.
            let _ = output::print(&format!("{}\n", text.trim_end()));
        }
    }
}

/// Breaks a text into lines at its spaces.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_broken_at_spaces() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("extraordinary", 5), ["extraordinary"]);
        assert!(wrapped("", 5).is_empty());
    }
}
