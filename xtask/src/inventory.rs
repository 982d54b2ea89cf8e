//! `cargo xtask unsafe`: lists every `unsafe` of the driver with its reason, in `docs/unsafe.md`.

use crate::workspace;
use anyhow::{bail, Context, Result};
use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// List every unsafe block of the driver with its reason, in docs/unsafe.md
#[derive(clap::Args)]
pub struct Arguments {
    /// Do not write: fail when the list is not what it would be
    #[arg(long)]
    check: bool,
}

/// The only folders with unsafe code: what any driver could use, and what only this one needs.
const ROOMS: [&str; 2] = ["driver/kmap", "driver/src/sys"];

/// One place that is unsafe.
#[derive(Debug, Eq, PartialEq)]
struct Place {
    what: &'static str,
    /// The line of code, for a reader to search for; line numbers change too often.
    code: String,
    reason: String,
}

/// The places in a file, in their order.
fn places(source: &str) -> Vec<Place> {
    let lines: Vec<&str> = source.lines().collect();
    let mut places = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let code = line.trim();
        if code.starts_with("//") {
            continue;
        }
        let (what, marker) = if code.contains("unsafe impl") {
            ("impl", "// SAFETY:")
        } else if code.contains("unsafe {") {
            ("block", "// SAFETY:")
        } else if code.contains("unsafe fn") || code.contains("unsafe extern \"C\" fn") {
            ("fn", "/// # Safety")
        } else if code.contains("unsafe trait") {
            ("trait", "/// # Safety")
        } else {
            continue;
        };
        if code.ends_with(',') && what == "fn" {
            // The type of a function that is passed, not a function.
            continue;
        }
        places.push(Place {
            what,
            code: code.trim_end_matches('{').trim_end().to_owned(),
            reason: reason(&lines[..at], marker),
        });
    }
    places
}

/// The comment above a place, from its marker on; empty when there is none.
fn reason(before: &[&str], marker: &str) -> String {
    // A statement may have begun some lines above.
    let near = before.len().saturating_sub(14);
    let Some(start) = (near..before.len())
        .rev()
        .find(|at| before[*at].trim().starts_with(marker))
    else {
        return String::new();
    };
    let comment = marker
        .trim_end_matches("# Safety")
        .trim_end_matches(" SAFETY:");
    before[start..]
        .iter()
        .map(|line| line.trim())
        .take_while(|line| line.starts_with(comment.trim_end()))
        .map(|line| {
            line.trim_start_matches('/')
                .trim()
                .trim_start_matches("SAFETY:")
                .trim_start_matches("# Safety")
                .trim()
        })
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Safe functions whose comment asks something of the caller: what must hold belongs into a type, or the function is
/// unsafe and has a contract. Their first lines.
fn comments_that_ask(source: &str) -> Vec<String> {
    const ASKING: [&str; 6] = [
        "must", "may only", "has to", "have to", "outlive", "outlives",
    ];
    let mut found = Vec::new();
    let mut comment = String::new();
    for line in source.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            comment.push_str(text);
            comment.push('\n');
            continue;
        }
        if line.starts_with("#[") {
            continue;
        }
        let function = line
            .trim_start_matches("pub(crate) ")
            .trim_start_matches("pub(super) ")
            .trim_start_matches("const ")
            .starts_with("fn ");
        // What it answers, and what becomes an error, asks nothing.
        let asked = comment.split("# Errors").next().unwrap_or_default();
        let asked = asked.split_whitespace().collect::<Vec<_>>().join(" ");
        let asks = asked
            .split(['.', ':', ';'])
            .map(str::trim)
            .filter(|sentence| {
                !["Whether ", "Who ", "Bits "]
                    .iter()
                    .any(|answer| sentence.starts_with(answer))
            })
            .any(|sentence| {
                let words = format!(
                    " {} ",
                    sentence
                        .replace(|c: char| !c.is_alphanumeric(), " ")
                        .to_lowercase()
                );
                ASKING
                    .iter()
                    .any(|word| words.contains(&format!(" {word} ")))
            });
        if function && asks {
            found.push(line.trim_end_matches('{').trim_end().to_owned());
        }
        comment.clear();
    }
    found
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The whole list.
fn inventory(workspace: &Path) -> Result<String> {
    let mut text = String::from(
        "# Unsafe code in the driver\n\n\
         Made by `cargo xtask unsafe`. All of it lies in `driver/kmap/` and `driver/src/sys/`; each block and\n\
         implementation has its proof, each function its contract.\n",
    );
    let mut count = 0;
    for path in rust_files(&workspace.join("driver"))? {
        let source = fs::read_to_string(&path)?;
        let name = path.strip_prefix(workspace)?.display().to_string();
        let places = places(&source);
        let allowed = ROOMS.iter().any(|room| name.starts_with(room));
        if allowed {
            if let Some(function) = comments_that_ask(&source).first() {
                bail!(
                    "{name}: the comment of the safe function '{function}' has a condition for the caller; let a type \
                    ensure it, or make the function unsafe and document it under '# Safety'"
                );
            }
        }
        if places.is_empty() {
            continue;
        }
        if !allowed {
            bail!(
                "{name} has unsafe code: '{}'; move it to {}",
                places[0].code,
                ROOMS.join(" or ")
            );
        }
        write!(
            text,
            "\n## {name}\n\n| what | code | why |\n| --- | --- | --- |\n"
        )?;
        for place in places {
            if place.reason.is_empty() {
                bail!("{name}: no reason above '{}'", place.code);
            }
            if place.reason.starts_with("As above") {
                bail!(
                    "{name}: the reason of '{}' refers to another one: say what makes this place right",
                    place.code
                );
            }
            let cell = |text: &str| text.replace('|', "\\|");
            writeln!(
                text,
                "| {} | `{}` | {} |",
                place.what,
                cell(&place.code),
                cell(&place.reason)
            )?;
            count += 1;
        }
    }
    writeln!(text, "\n{count} places.")?;
    Ok(text)
}

/// Carries the command out.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    let workspace = workspace()?;
    let path = workspace.join("docs/unsafe.md");
    let text = inventory(&workspace)?;
    if arguments.check {
        if fs::read_to_string(&path).unwrap_or_default() != text {
            bail!("docs/unsafe.md is out of date: run cargo xtask unsafe");
        }
    } else {
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_with_their_reason() {
        let source =
            "/// # Safety\n///\n/// The pointer is good.\nunsafe fn f(p: *const u8) {\n    \
                      // SAFETY: It is good,\n    // as was said.\n    let x = unsafe { *p };\n}\n";
        let places = places(source);
        assert_eq!(places.len(), 2);
        assert_eq!(
            (places[0].what, places[0].reason.as_str()),
            ("fn", "The pointer is good.")
        );
        assert_eq!(places[1].reason, "It is good, as was said.");
    }

    #[test]
    fn a_safe_function_asks_nothing_of_its_caller() {
        let asks = |comment: &str, function: &str| {
            !comments_that_ask(&format!("{comment}\n{function} {{\n}}\n")).is_empty()
        };
        assert!(asks(
            "/// Maps it. The frame must be ours.",
            "pub(crate) fn map(frame: u64)"
        ));
        assert!(asks(
            "/// Maps pages, which outlive\n/// the mapping.",
            "fn map()"
        ));
        assert!(!asks(
            "/// The frame must be ours.",
            "pub(super) unsafe fn map(frame: u64)"
        ));
        assert!(!asks("/// Whether it must be one run.", "fn one_run()"));
        assert!(!asks(
            "/// Maps it.\n///\n/// # Errors\n///\n/// It must be one run.",
            "fn map()"
        ));
        assert!(!asks("/// Maps it.", "fn map()"));
    }

    // No guest of the kit's has encrypted memory, so what such a one sees is read here: there is one place that says how
    // user space sees memory, and it asks the kernel's own page tables.
    #[test]
    fn one_place_sets_the_protection_of_a_mapping() {
        let driver = workspace().unwrap().join("driver");
        let rust: String = rust_files(&driver)
            .unwrap()
            .iter()
            .map(|file| fs::read_to_string(file).unwrap())
            .collect();
        let helpers = fs::read_to_string(driver.join("kmap/helpers.c")).unwrap();
        let vma = fs::read_to_string(driver.join("kmap/vma.rs")).unwrap();
        let desc = fs::read_to_string(driver.join("kmap/prepare.rs")).unwrap();
        let well = |rust: &str, helpers: &str, vma: &str, desc: &str| {
            sets_protection_in_one_place(rust, helpers)
                && asks_before(
                    vma,
                    "fn set_up(",
                    "kmap_helper_vma_protection(",
                    "fill(self)?",
                )
                && ["kmap_helper_desc_map_pages(", "kmap_helper_desc_remap("]
                    .iter()
                    .all(|action| {
                        asks_before(desc, "mut self) -> Result {", "self.describe(", action)
                    })
                && asks_before(
                    desc,
                    "fn describe(",
                    "kmap_helper_desc_protection(",
                    "Ok(())",
                )
        };
        assert!(well(&rust, &helpers, &vma, &desc));

        // The mistakes that this is to find.
        for elsewhere in ["vma.vm_page_prot = prot;", "desc.page_prot = prot;"] {
            let elsewhere = format!("{rust}{elsewhere}");
            assert!(!well(&elsewhere, &helpers, &vma, &desc));
        }
        let by_hand = format!("{helpers}desc->page_prot = pgprot_noncached(desc->page_prot);");
        assert!(!well(&rust, &by_hand, &vma, &desc));
        let always_encrypted = helpers.replace("prot = pgprot_decrypted(prot);", ";");
        assert!(!well(&rust, &always_encrypted, &vma, &desc));
        let unset = vma.replace("kmap_helper_vma_protection(", "kmap_helper_nothing(");
        assert!(!well(&rust, &helpers, &unset, &desc));
        let unset = desc.replace("kmap_helper_desc_protection(", "kmap_helper_nothing(");
        assert!(!well(&rust, &helpers, &vma, &unset));
        let undescribed = desc.replace("self.describe(Operations::<T, false>::NEVER", "nothing(");
        assert!(!well(&rust, &helpers, &vma, &undescribed));
    }

    /// What stands between two texts.
    fn part<'a>(text: &'a str, from: &str, to: &str) -> Option<&'a str> {
        let (_, rest) = text.split_once(from)?;
        Some(rest.split_once(to)?.0)
    }

    fn sets_protection_in_one_place(rust: &str, helpers: &str) -> bool {
        let place = part(helpers, "static pgprot_t kmap_protection(", "\n}\n");
        let sets = |text: &str, to: &str| text.matches(&format!("page_prot = {to}")).count();
        sets(rust, "") == 0
            // Of a VMA, and of what describes one.
            && (sets(helpers, ""), sets(helpers, "kmap_protection(")) == (2, 2)
            && place.is_some_and(|place| {
                place.contains(
                    "if (!kmap_helper_is_encrypted(view))\n\t\tprot = pgprot_decrypted(prot);",
                )
            })
    }

    /// Whether a function asks something before it does something. Where several begin alike, the last one before that is
    /// meant.
    fn asks_before(text: &str, function: &str, asked: &str, done: &str) -> bool {
        let before = text.split(function).skip(1).find_map(|body| {
            let (before, _) = body.split_once(done)?;
            Some(before.contains(asked))
        });
        before == Some(true)
    }

    // A copy without the barrier of `access_ok` can be led past its check by speculation; the kernel's own ones have it.
    #[test]
    fn no_copy_from_user_space_is_made_by_hand() {
        let driver = workspace().unwrap().join("driver");
        let mut sources = rust_files(&driver).unwrap();
        sources.extend(ROOMS.map(|room| driver.join("..").join(room).join("helpers.c")));
        for file in sources {
            let text = fs::read_to_string(&file).unwrap();
            assert_eq!(copied_by_hand(&text), None, "{}", file.display());
        }
        let by_hand = "\tleft = __copy_from_user(to, from, n);";
        assert_eq!(copied_by_hand(by_hand), Some(by_hand));
        assert_eq!(copied_by_hand("// Not __copy_from_user."), None);
    }

    fn copied_by_hand(text: &str) -> Option<&str> {
        text.lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .find(|line| {
                ["__copy_from_user", "raw_copy_from_user", "__get_user"]
                    .iter()
                    .any(|by_hand| line.contains(by_hand))
            })
    }

    #[test]
    fn the_list_is_fresh_and_the_driver_keeps_its_rule() {
        let workspace = workspace().unwrap();
        let listed = fs::read_to_string(workspace.join("docs/unsafe.md")).unwrap();
        let stale = inventory(&workspace).unwrap() != listed;
        assert!(
            !stale,
            "docs/unsafe.md: `cargo xtask unsafe` makes it again"
        );
    }
}
