//! `cargo xtask docs`: the guide.
//!
//! The chapters are written by hand, what commands print in them is put there by `cargo xtask outputs`, and the page of
//! reasons is made here, from `abi/`.

pub mod programs;
mod table;

use crate::new_driver::{Way, WAYS};
use crate::workspace;
use anyhow::{bail, Context, Result};
use mapbuf_abi::Reason;
use mapbuf_vm::Ui;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// The program that makes a book of the chapters, pinned.
const MDBOOK: &str = "0.4.52";

/// Build the guide: target/book/index.html
///
/// Fails when a chapter on a way to map does not begin with the driver that does it right.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only see whether what is made from other sources is up to date; write nothing
    #[arg(long)]
    check: bool,
    /// Draw the figures again, in a guest, from its page tables
    #[arg(long, conflicts_with = "check")]
    figures: bool,
}

/// The figures: a file's name, and what `mapbuf figure` is told.
const FIGURES: &[(&str, &str)] = &[
    ("remap", "remap"),
    ("remap-each", "remap-each"),
    ("insert", "insert"),
    ("map-pages", "map-pages"),
    ("vmalloc", "vmalloc"),
    ("dma", "dma"),
    ("iomap", "iomap"),
    ("io-remap", "io-remap"),
    ("fault-page", "fault-page"),
    ("fault-pfn", "fault-pfn"),
    ("fault-huge", "fault-huge --pages 4096"),
    ("uncached", "remap --cache uncached --pages 4"),
    ("whole-folio", "fault-page --kind pages"),
];

/// Carries the command out.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    let path = workspace()?.join("docs/src/reasons.md");
    let made = reasons();
    if arguments.check {
        if fs::read_to_string(&path).unwrap_or_default() != made {
            bail!("docs/src/reasons.md is not what abi/ says; run: cargo xtask docs");
        }
    } else {
        fs::write(&path, made).with_context(|| format!("writing {}", path.display()))?;
    }
    begin_with_their_drivers()?;
    if arguments.figures {
        draw()?;
    }
    println!("{}", book(&Ui::default())?.join("index.html").display());
    Ok(ExitCode::SUCCESS)
}

/// Sees whether each chapter on a way has the whole of its driver, before what is seen and before what goes wrong.
fn begin_with_their_drivers() -> Result<()> {
    for way in WAYS {
        let path = workspace()?.join("docs/src").join(way.chapter);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        begins_with(&text, way).with_context(|| format!("docs/src/{}", way.chapter))?;
    }
    Ok(())
}

/// Whether a chapter has the files of a way's driver in both languages, before everything that must come after them.
fn begins_with(chapter: &str, way: &Way) -> Result<()> {
    let file = way.file;
    shows_first(
        chapter,
        &format!("{{{{#include ../../examples/drivers/c/{file}.c}}}}"),
    )?;
    shows_first(
        chapter,
        &format!("{{{{#include ../../examples/drivers/rust/{file}.rs}}}}"),
    )
}

/// Whether a chapter has a line before what is seen and what goes wrong.
fn shows_first(chapter: &str, line: &str) -> Result<()> {
    let Some(place) = chapter.find(line) else {
        bail!("it does not show its driver; the line {line} is missing");
    };
    for later in [
        "\n## Seen",
        "\n## What a driver of yours",
        "\n## What it does",
    ] {
        if chapter.find(later).is_some_and(|found| found < place) {
            bail!(
                "the driver comes first: {line} stands behind {}",
                later.trim()
            );
        }
    }
    Ok(())
}

/// Makes the book; the folder that it is in.
pub fn book(ui: &Ui) -> Result<PathBuf> {
    let book = workspace()?.join("target/book");
    let output = Command::new(mdbook(ui)?)
        .arg("build")
        .arg(workspace()?.join("docs"))
        .arg("--dest-dir")
        .arg(&book)
        .output()
        .context("mdbook could not be started")?;
    if !output.status.success() {
        bail!(
            "mdbook did not make the book:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    table::put_into(&book, ui)?;
    Ok(book)
}

/// Has `mapbuf figure` draw each figure in one guest.
fn draw() -> Result<()> {
    let folder = workspace()?.join("docs/src/figures");
    fs::create_dir_all(&folder)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("vm");
    let mut script = String::new();
    for (name, words) in FIGURES {
        script += &format!("mapbuf figure {words} > /tmp/{name}.svg || exit; ");
        let file = folder.join(format!("{name}.svg"));
        command
            .arg("--fetch")
            .arg(format!("/tmp/{name}.svg:{}", file.display()));
    }
    let status = command.args(["--", "sh", "-c", &script]).status()?;
    if !status.success() {
        bail!("the figures were not drawn");
    }
    Ok(())
}

/// The program, installed under `target/` where it is not there yet.
fn mdbook(ui: &Ui) -> Result<PathBuf> {
    let root = workspace()?.join("target/tools");
    let program = root.join("bin/mdbook");
    let said = Command::new(&program).arg("--version").output();
    if said.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(MDBOOK)) {
        return Ok(program);
    }
    let step = ui.step("Installing mdbook", 0);
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        // Made to be used a few times: what counts is how soon it is there.
        .args([
            "install",
            "--debug",
            "--locked",
            "--version",
            MDBOOK,
            "mdbook",
        ])
        .args(["--no-default-features", "--features", "search", "--root"])
        .arg(&root)
        .output()
        .context("cargo could not be started")?;
    if !output.status.success() {
        bail!(
            "mdbook was not installed:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    step.done();
    Ok(program)
}

/// The page of reasons.
fn reasons() -> String {
    let mut page = String::from(
        "# Reasons\n\n\
         <!-- Made by `cargo xtask docs` from abi/; changes here are lost. -->\n\n\
         Every refusal of the driver carries one of these, with its values. `mapbuf explain NAME` prints the same. \
         `<1>` stands for the first value, and so on.\n",
    );
    for &reason in Reason::ALL {
        let text = reason.text();
        let number = reason.number();
        // Writing to a String does not fail.
        let _ = write!(
            page,
            "\n## {}\n\n*{number}, {}*: {}.\n\n**Next:** {}.\n",
            reason.name(),
            errno_name(reason.errno()),
            escaped(&places(text.sentence)),
            escaped(text.remedy)
        );
        if !text.kernel.is_empty() {
            let _ = write!(page, "\n**In the kernel:** {}.\n", escaped(text.kernel));
        }
    }
    page
}

/// The sentence with `<1>` for its first operand.
fn places(sentence: &str) -> String {
    let mut out = String::new();
    let mut rest = sentence;
    while let Some((before, after)) = rest.split_once('{') {
        let (field, after) = after.split_once('}').unwrap_or((after, ""));
        let index = field
            .split(':')
            .next()
            .and_then(|digits| digits.parse::<u32>().ok());
        out += before;
        out += &format!("<{}>", index.map_or(0, |index| index + 1));
        rest = after;
    }
    out + rest
}

/// Characters that mean something in Markdown.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        if matches!(letter, '<' | '>' | '*' | '_' | '[' | ']' | '|' | '$' | '`') {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}

fn errno_name(number: i32) -> String {
    use mapbuf_abi::reason::errno;
    let names = [
        (errno::EPERM, "EPERM"),
        (errno::ENOENT, "ENOENT"),
        (errno::EINTR, "EINTR"),
        (errno::ENXIO, "ENXIO"),
        (errno::E2BIG, "E2BIG"),
        (errno::ENOMEM, "ENOMEM"),
        (errno::EACCES, "EACCES"),
        (errno::EFAULT, "EFAULT"),
        (errno::EBUSY, "EBUSY"),
        (errno::EEXIST, "EEXIST"),
        (errno::EINVAL, "EINVAL"),
        (errno::EMFILE, "EMFILE"),
        (errno::ENOTTY, "ENOTTY"),
        (errno::ENOSPC, "ENOSPC"),
        (errno::EOPNOTSUPP, "EOPNOTSUPP"),
        (errno::EDQUOT, "EDQUOT"),
    ];
    let name = names.iter().find(|(known, _)| *known == number);
    name.map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::new_driver::Language;
    use mapbuf_abi::Method;

    fn chapters() -> Vec<(String, String)> {
        let folder = workspace().unwrap().join("docs/src");
        fs::read_dir(folder)
            .unwrap()
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().ends_with(".md"))
            .map(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                (name, fs::read_to_string(entry.path()).unwrap())
            })
            .collect()
    }

    #[test]
    fn the_page_of_reasons_is_what_abi_says() {
        let path = workspace().unwrap().join("docs/src/reasons.md");
        assert_eq!(fs::read_to_string(path).unwrap(), reasons());
    }

    #[test]
    fn every_chapter_is_in_the_summary() {
        let chapters = chapters();
        let (_, summary) = chapters
            .iter()
            .find(|(name, _)| name == "SUMMARY.md")
            .unwrap();
        for (name, _) in &chapters {
            assert!(
                name == "SUMMARY.md" || summary.contains(&format!("({name})")),
                "{name}"
            );
        }
        for part in summary.split("](").skip(1) {
            let name = part.split(')').next().unwrap();
            assert!(
                chapters.iter().any(|(chapter, _)| chapter == name),
                "{name}"
            );
        }
    }

    #[test]
    fn every_method_and_every_cause_is_written_about() {
        let all: String = chapters().into_iter().map(|(_, text)| text).collect();
        for method in Method::ALL {
            assert!(all.contains(&format!("`{}`", method.name())), "{method:?}");
        }
        let causes = workspace().unwrap().join("cli/src/diagnose/catalogue.rs");
        let causes = fs::read_to_string(causes).unwrap();
        let names = causes
            .lines()
            .filter_map(|line| line.trim().strip_prefix("name: \""));
        for name in names.filter_map(|rest| rest.split('"').next()) {
            assert!(
                all.contains(&format!("### {name}")),
                "{name} has no section"
            );
        }
    }

    #[test]
    fn what_commands_print_is_there() {
        for (name, text) in chapters() {
            for part in text.split("<!-- output: ").skip(1) {
                let (command, rest) = part.split_once("-->").unwrap();
                let shown = rest.split("<!-- end of output -->").next().unwrap();
                let lines = shown.trim().lines().count();
                assert!(
                    shown.trim().starts_with("```text") && lines > 2,
                    "{name}: nothing is shown for {command}; run: cargo xtask outputs docs/src/{name}"
                );
            }
        }
    }

    #[test]
    fn every_figure_is_shown_and_is_one() {
        let all: String = chapters().into_iter().map(|(_, text)| text).collect();
        for (name, words) in FIGURES {
            assert!(
                all.contains(&format!("(figures/{name}.svg)")),
                "{name} is not shown"
            );
            let path = workspace()
                .unwrap()
                .join(format!("docs/src/figures/{name}.svg"));
            let drawing = fs::read_to_string(path).unwrap();
            let method = words.split(' ').next().unwrap();
            assert!(
                drawing.starts_with("<svg ")
                    && drawing.contains(&format!("memory, method {method}<"))
                    && drawing.contains("from the live page tables"),
                "{name} is stale; run: cargo xtask docs --figures"
            );
        }
    }

    /// What the museum is shown to say is what `mapbuf diagnose` has to say.
    #[test]
    fn diagnoses_are_those_of_today() {
        let source = workspace().unwrap().join("cli/src/diagnose/catalogue.rs");
        let source = fs::read_to_string(source).unwrap().replace("\\\n", " ");
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let source = words(&source);
        let mut seen = 0;
        for (name, text) in chapters() {
            for (_, shown) in crate::outputs::places(&text)
                .into_iter()
                .filter(|(command, _)| *command == "museum")
            {
                // A paragraph begins with a word of its own and goes on indented.
                let shown = shown.replace("\n       ", " ");
                for line in shown.lines() {
                    let line = line.trim();
                    let Some(said) = ["why ", "next "]
                        .iter()
                        .find_map(|word| line.strip_prefix(word))
                    else {
                        continue;
                    };
                    seen += 1;
                    assert!(
                        source.contains(&words(said)),
                        "{name} is stale; run: cargo xtask outputs docs/src/{name}\n{said}"
                    );
                }
            }
        }
        assert!(seen > 30, "{seen}");
    }

    #[test]
    fn chapters_begin_with_their_drivers() {
        begin_with_their_drivers().unwrap();
        let way = |name: &str| WAYS.iter().find(|way| way.name == name).unwrap();
        let both = way("remap-each");
        let c = "{{#include ../../examples/drivers/c/maps0.c}}";
        let rust = "{{#include ../../examples/drivers/rust/maps0.rs}}";
        assert!(begins_with(&format!("# A\n{c}\n{rust}\n## Seen\n"), both).is_ok());
        assert!(begins_with("# A\n## Seen\n", both).is_err());
        assert!(begins_with(&format!("# A\n{c}\n## Seen\n"), both).is_err());
        assert!(begins_with(&format!("# A\n{rust}\n## Seen\n"), both).is_err());
        assert!(begins_with(&format!("# A\n{c}\n## Seen\n{rust}\n"), both).is_err());
    }

    #[test]
    fn every_driver_is_named_where_one_looks_for_it() {
        let chapters = chapters();
        let (_, page) = chapters
            .iter()
            .find(|(name, _)| name == "copy-this.md")
            .unwrap();
        for way in WAYS {
            let row = format!("[`{}.c`]({}) | `{}` |", way.file, way.chapter, way.name);
            assert!(page.contains(&row), "{row}");
        }
    }

    #[test]
    fn the_tutorial_shows_what_new_driver_prints() {
        let chapters = chapters();
        let (_, page) = chapters
            .iter()
            .find(|(name, _)| name == "first-driver.md")
            .unwrap();
        let way = WAYS.iter().find(|way| way.name == "fault-page").unwrap();
        let printed = crate::new_driver::next_steps(way, "hello", Language::C);
        assert!(
            page.contains(&format!("```text\n{printed}```")),
            "{printed}"
        );
    }

    #[test]
    fn operands_have_places_and_no_markdown() {
        assert_eq!(escaped(&places("{0:bytes} of {1}")), "\\<1\\> of \\<2\\>");
    }
}
