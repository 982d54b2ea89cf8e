//! Tables that name tests: each test that they name exists.

use crate::workspace;
use mapbuf_abi::series::SERIES;
use std::fs;

/// Pages whose tables name tests of the guest, as `file::function`.
const PAGES: &[&str] = &[
    "README.md",
    "docs/src/security.md",
    "docs/src/attackers.md",
    "tests/mutants/README.md",
];

/// What stands between backticks and looks like the name of a test.
fn names(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split('`').skip(1).step_by(2).filter_map(|code| {
        let (file, function) = code.split_once("::")?;
        let word = |text: &str| {
            !text.is_empty()
                && text.chars().all(|letter| {
                    letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_'
                })
        };
        (word(file) && (word(function) || function == "*")).then_some((file, function))
    })
}

/// The text of a file of tests.
fn source(file: &str) -> String {
    let path = workspace()
        .unwrap()
        .join(format!("guest/src/bin/mapbuf-test/tests/{file}.rs"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The cells of the rows of a table that begin with a certain line.
fn rows<'a>(text: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let lines = text.lines().map(str::trim_start);
    lines
        .skip_while(|line| *line != heading)
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

#[test]
fn every_test_that_a_page_names_exists() {
    for page in PAGES {
        let text = fs::read_to_string(workspace().unwrap().join(page)).unwrap();
        let mut seen = 0;
        for (file, function) in names(&text) {
            let source = source(file);
            let found = function == "*"
                || source.contains(&format!("fn {function}() -> Outcome {{"))
                || (file == "races" && is_pair(function));
            assert!(found, "{page} names {file}::{function}, which is no test");
            // It must be in the table of those that are run.
            assert!(
                function == "*" || file == "races" || source.matches(function).count() > 1,
                "{page} names {file}::{function}, which is not run"
            );
            seen += 1;
        }
        assert!(seen > 10, "{page} names {seen} tests");
    }
}

/// Whether this is a pair of operations that race.
fn is_pair(function: &str) -> bool {
    let table = source("races/operations");
    let known = |name: &str| table.contains(&format!("operation(\"{name}\""));
    function
        .split_once("_x_")
        .is_some_and(|(first, second)| known(first) && known(second))
}

#[test]
fn the_supported_series_are_those_of_the_list() {
    let text = fs::read_to_string(workspace().unwrap().join("README.md")).unwrap();
    let rows = rows(&text, "| series | what `.ci/run` runs in it |");
    let named: Vec<_> = rows.iter().map(|row| row[0]).collect();
    assert_eq!(named, SERIES);
}

#[test]
fn every_operation_is_in_the_security_model() {
    let page = workspace().unwrap().join("docs/src/security.md");
    let text = fs::read_to_string(page).unwrap();
    let rows = rows(&text, "| operation | on | needs | otherwise | test |");
    let wire = fs::read_to_string(workspace().unwrap().join("abi/src/wire.rs")).unwrap();
    let numbers = wire.lines().filter_map(|line| {
        line.trim()
            .strip_prefix("pub const ")?
            .split_once(": u32 = iowr::<")
    });
    assert!(numbers.clone().count() > 10);
    for (name, _) in numbers {
        let row = rows
            .iter()
            .find(|row| row[0] == format!("`{name}`"))
            .unwrap_or_else(|| panic!("{name} is not in the table"));
        assert!(names(row[4]).count() > 0, "{name} has no test");
    }
}

#[test]
fn every_row_of_the_security_model_has_a_test() {
    let page = workspace().unwrap().join("docs/src/security.md");
    let text = fs::read_to_string(page).unwrap();
    let rows = text.lines().filter(|line| {
        line.starts_with("| ") && !line.starts_with("| ---") && !line.ends_with("| test |")
    });
    for row in rows {
        assert!(names(row).count() > 0, "no test in: {row}");
    }
}

/// The tests of the host that a cell names, as `path/to/file.rs: function`; each of them exists.
fn host_names(cell: &str) -> usize {
    let codes = cell.split('`').skip(1).step_by(2);
    let named = codes.filter_map(|code| code.split_once(".rs: "));
    named
        .map(|(file, function)| {
            let path = workspace().unwrap().join(format!("{file}.rs"));
            let text = fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let test = format!("#[test]\n{}fn {function}()", text_before(&text, function));
            assert!(text.contains(&test), "{file}.rs has no test {function}");
        })
        .count()
}

/// The space before the function's line.
fn text_before<'a>(text: &'a str, function: &str) -> &'a str {
    let line = text
        .lines()
        .find(|line| line.trim_start().starts_with(&format!("fn {function}()")));
    line.map_or("", |line| &line[..line.len() - line.trim_start().len()])
}

#[test]
fn every_attack_has_a_test_and_breaks_that_exist() {
    let page = workspace().unwrap().join("docs/src/attackers.md");
    let text = fs::read_to_string(page).unwrap();
    let heading = "| # | what was tried | what happens now | test | break |";
    let rows = rows(&text, heading);
    assert_eq!(rows.len(), 16);
    for (number, row) in (1..).zip(&rows) {
        assert!(row[0].starts_with(&format!("{number}. ")), "{row:?}");
        let breaks: Vec<_> = row[4].split('`').skip(1).step_by(2).collect();
        let on_host = host_names(row[3]);
        assert!(names(row[3]).count() + on_host > 0, "{row:?} has no test");
        // What the host looks at is no break of the running driver.
        assert!(!breaks.is_empty() || on_host > 0, "{row:?} has no break");
        for name in breaks {
            // A test of the host's makes the mistake itself.
            if name.contains(".rs: ") {
                assert!(makes_a_mistake(name), "{name} makes no mistake");
                continue;
            }
            let path = workspace().unwrap().join("tests/mutants").join(name);
            assert!(path.is_file(), "{name} is no break");
        }
    }
}

/// Whether `path/to/file.rs: function` is a test that must panic.
fn makes_a_mistake(name: &str) -> bool {
    let Some((file, function)) = name.split_once(": ") else {
        return false;
    };
    let text = fs::read_to_string(workspace().unwrap().join(file)).unwrap();
    let (before, _) = text
        .split_once(&format!("fn {function}()"))
        .unwrap_or_default();
    let above = before.lines().rev().take(2);
    above
        .into_iter()
        .any(|line| line.contains("#[should_panic"))
}

// The breaks are files beside the page.
#[test]
fn every_bug_of_others_has_a_test_and_breaks_that_exist() {
    let folder = workspace().unwrap().join("tests/mutants");
    let text = fs::read_to_string(folder.join("README.md")).unwrap();
    let rows = rows(&text, "| bug | test | break |");
    for (number, row) in (1..).zip(&rows) {
        assert!(row[0].starts_with(&format!("{number}. ")), "{row:?}");
        assert!(names(row[1]).count() > 0, "{row:?} has no test");
        for name in row[2].split('`').skip(1).step_by(2) {
            assert!(folder.join(name).is_file(), "{name} is no break");
        }
    }
    assert_eq!(rows.len(), 21);
}
