//! `mapbuf explain EINVAL`: what an error or a signal comes from, for each call, the likeliest cause first.

use crate::diagnose::catalogue::{self, Cause, Symptom};
use anstyle::Style;
use mapbuf::{errno_name, errno_value};
use serde::Serialize;
use std::fmt;

/// The causes of a sign.
#[derive(Serialize)]
pub struct Signs {
    sign: &'static str,
    causes: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    cause: &'static str,
    call: &'static str,
    seen: &'static str,
    why: &'static str,
    next: &'static [&'static str],
    tell: &'static str,
}

impl Signs {
    /// Those of `EINVAL`, `SIGBUS` and so on, or of a cause's name; `None` where it is neither.
    pub fn of(text: &str) -> Option<Self> {
        let found = catalogue::with_sign(text);
        if let Some((_, first)) = found.first() {
            return Some(Self {
                sign: first.sign,
                causes: found.into_iter().map(entry).collect(),
            });
        }
        if let Some(sign) = errno_value(text).and_then(errno_name) {
            return Some(Self::of_others(sign));
        }
        let cause = catalogue::find(&text.to_ascii_lowercase())?;
        Some(Self {
            sign: cause.name,
            causes: cause
                .symptoms
                .iter()
                .map(|symptom| entry((cause, symptom)))
                .collect(),
        })
    }

    /// Those of an error that neither `mmap` nor the kernel's mapping functions return by themselves.
    fn of_others(sign: &'static str) -> Self {
        let cause = &catalogue::DRIVER_REFUSED;
        let symptom = Symptom {
            sign,
            call: "any call",
            seen: "an error that none of the kernel's own checks in mmap makes, so it is the driver's or the file system's",
        };
        Self {
            sign,
            causes: vec![entry((cause, &symptom))],
        }
    }

    /// Every sign that there is, with commas.
    pub fn known() -> String {
        catalogue::signs().join(", ")
    }
}

fn entry((cause, symptom): (&'static Cause, &Symptom)) -> Entry {
    Entry {
        cause: cause.name,
        call: symptom.call,
        seen: symptom.seen,
        why: cause.why,
        next: cause.next,
        tell: cause.tell,
    }
}

impl fmt::Display for Signs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bold = Style::new().bold();
        let mut calls: Vec<_> = Vec::new();
        for entry in &self.causes {
            if !calls.contains(&entry.call) {
                calls.push(entry.call);
            }
        }
        writeln!(
            f,
            "What {} comes from, the likeliest first. sudo mapbuf diagnose -- PROGRAM tells which it is.",
            self.sign
        )?;
        for call in calls {
            writeln!(f, "\n{bold}{}, {call}{bold:#}", self.sign)?;
            for entry in self.causes.iter().filter(|entry| entry.call == call) {
                writeln!(f, "\n  {bold}{}{bold:#}", entry.cause)?;
                writeln!(f, "    seen  {}", entry.seen)?;
                writeln!(f, "    why   {}", entry.why)?;
                for way in entry.next {
                    writeln!(f, "    next  {way}")?;
                }
                writeln!(f, "    tell  {}", entry.tell)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{env, fs, path::Path};

    #[test]
    fn errors_signals_and_causes_are_known() {
        for text in [
            "EINVAL",
            "eagain",
            "ENXIO",
            "EPERM",
            "EFAULT",
            "SIGBUS",
            "SIGSEGV",
            "private-copy",
        ] {
            let said = Signs::of(text).unwrap().to_string();
            assert!(said.contains("tell") && said.contains("next"), "{text}");
        }
        let said = Signs::of("EINVAL").unwrap().to_string();
        assert!(said.contains("unaligned-offset") && said.contains("bar-claimed"));
        let said = Signs::of("enospc").unwrap().to_string();
        assert!(said.contains("ENOSPC, any call") && said.contains("driver-refused"));
        assert!(Signs::of("ENOTHING").is_none());
    }

    /// The rows of the guide's list of symptoms, in the order of the causes.
    fn rows() -> String {
        let mut text = String::from("| symptom | sign | cause |\n| --- | --- | --- |\n");
        for cause in catalogue::ALL {
            for symptom in cause.symptoms {
                let sign = match symptom.sign {
                    sign if sign.starts_with('E') || sign.starts_with("SIG") => format!("`{sign}`"),
                    sign => sign.to_owned(),
                };
                text += &format!(
                    "| {} | {sign}, {} | [{name}](diagnose.md#{name}) |\n",
                    symptom.seen.replace('|', "\\|"),
                    symptom.call,
                    name = cause.name
                );
            }
        }
        text
    }

    /// The sections of the causes that no section of the chapter is written for.
    fn sections(chapter: &str) -> String {
        let written = |cause: &&Cause| !chapter.contains(&format!("\n### {}\n", cause.name));
        let mut text = String::new();
        for cause in catalogue::ALL.iter().filter(written) {
            text += &format!("### {}\n{}.\n\n", cause.name, upper(cause.why));
            for way in cause.next {
                text += &format!("- {way}\n");
            }
            text += &format!("- to tell it without `mapbuf diagnose`: {}\n\n", cause.tell);
        }
        text
    }

    fn upper(text: &str) -> String {
        // A name is written as it is.
        let first = text.split(' ').next().unwrap_or_default();
        if first.contains(['_', '/']) {
            return text.to_owned();
        }
        let mut letters = text.chars();
        match letters.next() {
            Some(first) => first.to_uppercase().chain(letters).collect(),
            None => String::new(),
        }
    }

    /// The guide says what this list says. `MAPBUF_WRITE=1 cargo test -p mapbuf-cli guide` writes it anew.
    #[test]
    fn the_guide_has_the_same_list() {
        const END: &str = "<!-- end of causes -->";
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src");
        for (page, mark) in [
            ("symptoms.md", "<!-- causes: rows -->"),
            ("diagnose.md", "<!-- causes: sections -->"),
        ] {
            let path = docs.join(page);
            let text = fs::read_to_string(&path).unwrap();
            let (before, rest) = text.split_once(mark).unwrap();
            let (_, after) = rest.split_once(END).unwrap();
            let made = match page {
                "symptoms.md" => rows(),
                _ => sections(&format!("{before}{after}")),
            };
            let wanted = format!("{before}{mark}\n\n{}\n\n{END}{after}", made.trim_end());
            if env::var_os("MAPBUF_WRITE").is_some() {
                fs::write(&path, &wanted).unwrap();
            } else {
                assert!(
                    text == wanted,
                    "{page} is not what the list of causes says; MAPBUF_WRITE=1 writes it anew"
                );
            }
        }
    }
}
