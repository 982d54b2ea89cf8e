//! The programs that the guide shows, so that they can be run again: what its places for output name, and how each
//! ended when the output was put there.

use crate::outputs;
use crate::workspace;
use anyhow::{Context, Result};
use serde::Serialize;
use std::fs;

/// A program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Program {
    /// The chapter that shows it.
    pub chapter: String,
    /// A line for the guest's shell.
    pub command: String,
    /// Its exit status, as a shell has it.
    pub status: i32,
}

/// Which programs `command` makes in a guest, and what they printed.
fn of_place(chapter: &str, command: &str, shown: &str) -> Vec<Program> {
    let program = |command: String, status| Program {
        chapter: chapter.to_owned(),
        command,
        status,
    };
    if command == "museum" {
        return visits(shown)
            .into_iter()
            .map(|(words, status)| program(format!("/museum/visit {words}"), status))
            .collect();
    }
    // The rest is a command of the shell's, and must have ended well to be shown.
    match command.split_once(" -- ") {
        // With a driver of the reader's own, or a Debian userland, there is nothing for it in another guest.
        Some((vm, _))
            if vm
                .split(' ')
                .any(|word| ["--driver", "--root"].contains(&word)) =>
        {
            Vec::new()
        }
        Some((vm, inside)) if vm.starts_with("vm") => vec![program(inside.to_owned(), 0)],
        _ => Vec::new(),
    }
}

/// The museum's visits, and how they ended. Those that the kernel stopped are left out.
fn visits(shown: &str) -> Vec<(String, i32)> {
    let mut found = Vec::new();
    let mut words = None;
    for line in shown.lines() {
        if let Some(rest) = line.strip_prefix("# mapbuf diagnose -- visit ") {
            words = Some(rest.to_owned());
        }
        let Some(end) = line.strip_prefix("mapbuf diagnose: /museum/visit ") else {
            continue;
        };
        let status = match end.split(' ').collect::<Vec<_>>().as_slice() {
            ["exited", "with", status, ..] => status.parse().ok(),
            ["was", "killed", "by", "SIGBUS", ..] => Some(128 + 7),
            ["was", "killed", "by", "SIGSEGV", ..] => Some(128 + 11),
            _ => None,
        };
        found.extend(words.take().zip(status));
    }
    found
}

/// All programs, each once, in the order of the chapters' names.
pub fn all() -> Result<Vec<Program>> {
    let folder = workspace()?.join("docs/src");
    let mut chapters: Vec<_> = fs::read_dir(&folder)
        .with_context(|| format!("{} is not there", folder.display()))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    chapters.sort();
    let mut programs: Vec<Program> = Vec::new();
    for path in chapters {
        let text = fs::read_to_string(&path)?;
        let chapter = path.file_stem().unwrap_or_default().to_string_lossy();
        for (command, shown) in outputs::places(&text) {
            for program in of_place(&chapter, command, shown) {
                if !programs
                    .iter()
                    .any(|known| known.command == program.command)
                {
                    programs.push(program);
                }
            }
        }
    }
    Ok(programs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visits_end_as_they_are_shown() {
        let shown = "== a\n# mapbuf diagnose -- visit /dev/a 16 0 private\n\
                     mapbuf diagnose: /museum/visit was killed by SIGBUS at 0x7f\n\
                     # mapbuf diagnose -- visit /dev/b 1\nvisit: mmap: Invalid argument\n\
                     mapbuf diagnose: /museum/visit exited with 1\n\
                     # mapbuf diagnose -- visit /dev/c 1\n\
                     mapbuf diagnose: /museum/visit was stopped by the kernel\n";
        let expected = [
            ("/dev/a 16 0 private".to_owned(), 135),
            ("/dev/b 1".to_owned(), 1),
        ];
        assert_eq!(visits(shown), expected);
    }

    #[test]
    fn a_place_names_its_program() {
        let command = "vm --example question-a -- question-a";
        assert_eq!(of_place("x", command, "")[0].command, "question-a");
        assert!(of_place("x", "demo", "").is_empty());
        assert!(of_place("x", "vm --root -- true", "").is_empty());
        assert!(of_place("x", "vm --driver hello --copy a -- true", "").is_empty());
    }

    #[test]
    fn every_way_and_both_questions_have_a_program() {
        let programs = all().unwrap();
        for method in mapbuf_abi::Method::ALL {
            if method.name() == "auto" {
                continue;
            }
            let shown = programs.iter().any(|program| {
                program.command.starts_with("mapbuf show ")
                    && program.command.split(' ').any(|word| word == method.name())
            });
            assert!(shown, "no chapter shows {}", method.name());
        }
        for chapter in ["question-a", "question-b", "cache", "lifetimes", "diagnose"] {
            assert!(
                programs.iter().any(|program| program.chapter == chapter),
                "{chapter} has no program"
            );
        }
    }
}
