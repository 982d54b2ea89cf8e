//! What will be booted, said before it is; and how long it took the last time.

use super::progress::Line;
use super::Tally;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Boots a guest, and tells the line which results have come.
pub type Run<'a> = Box<dyn FnOnce(&Line<'_>) -> Result<Tally> + Send + 'a>;

/// A guest that is to be booted.
pub struct Boot<'a> {
    /// The way to boot it, as for `--profile`.
    pub name: String,
    /// What it is there to show.
    pub purpose: &'static str,
    /// How many tests run in it.
    pub tests: u64,
    /// Its memory, in MiB.
    pub memory: u32,
    /// Boots it.
    pub run: Run<'a>,
}

/// Those of a list of tests whose names contain a part of the filter.
pub fn chosen<T, const N: usize>(
    tests: [(&'static str, T); N],
    filter: &str,
) -> Vec<(&'static str, T)> {
    let wanted = |name: &str| filter.split(',').any(|part| name.contains(part));
    tests.into_iter().filter(|(name, _)| wanted(name)).collect()
}

/// Runs tests of the kit's own, one after the other, and says what came of them.
pub fn one_by_one<T>(
    profile: &str,
    tests: Vec<(&'static str, T)>,
    line: &Line<'_>,
    mut run: impl FnMut(T) -> Result<()>,
) -> Tally {
    let begun = Instant::now();
    let mut tally = Tally::default();
    for (count, (name, test)) in (1..).zip(tests) {
        let outcome = run(test);
        if let Err(error) = &outcome {
            println!("{profile}: FAILED {name}: {error:#}");
        }
        tally.add(Tally::one(outcome.is_ok()));
        line.at(count, name);
    }
    println!(
        "stock {profile}: {} ok, {} not, in {:.0} s",
        tally.passed,
        tally.failed,
        begun.elapsed().as_secs_f32()
    );
    tally
}

/// How long each guest took the last time, on this machine.
#[derive(Debug, Default)]
pub struct Times {
    file: PathBuf,
    seconds: BTreeMap<String, f64>,
}

impl Times {
    /// Those of a kernel, kept in the folder of logs.
    pub fn of(kernel: &str, logs: &Path) -> Self {
        let file = logs.join(format!("times-{kernel}.json"));
        let seconds = fs::read(&file)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        Self { file, seconds }
    }

    /// What is known of a guest.
    pub fn get(&self, name: &str) -> Option<Duration> {
        let seconds = *self.seconds.get(name)?;
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// Notes how long it took now.
    pub fn set(&mut self, name: &str, took: Duration) {
        self.seconds.insert(name.to_owned(), took.as_secs_f64());
    }

    /// Keeps them for the next time.
    pub fn save(&self) -> Result<()> {
        fs::write(&self.file, serde_json::to_vec_pretty(&self.seconds)?)
            .with_context(|| format!("{} cannot be written", self.file.display()))
    }
}

/// Puts those that took longest to the front, so that no processor is idle in the end. Of which nothing is known, keep
/// their order before the others.
pub fn longest_first(boots: &mut [Boot<'_>], times: &Times) {
    boots.sort_by_key(|boot| std::cmp::Reverse(times.get(&boot.name).unwrap_or(Duration::MAX)));
}

/// How long these take with so many at once, begun in this order, if that is known of each.
pub fn estimate(
    times: impl IntoIterator<Item = Option<Duration>>,
    jobs: usize,
) -> Option<Duration> {
    let mut slots = vec![Duration::ZERO; jobs.max(1)];
    for time in times {
        *slots.iter_mut().min()? += time?;
    }
    slots.into_iter().max()
}

/// Says what is to be done: the steps on the host, then a line for each guest.
pub fn describe(
    kernel: &str,
    host: &[&str],
    boots: &[Boot<'_>],
    times: &Times,
    jobs: usize,
) -> String {
    let mut text = format!("Tests with Linux {kernel}:\n");
    if !host.is_empty() {
        text.push_str(&format!("  on the host: {}\n", host.join(", ")));
    }
    for boot in boots {
        let took = times.get(&boot.name).map_or_else(String::new, |took| {
            format!(" ({} the last time)", clock(took))
        });
        text.push_str(&format!(
            "  {:<16} {:>5}  {}{took}\n",
            boot.name, boot.tests, boot.purpose
        ));
    }
    let tests: u64 = boots.iter().map(|boot| boot.tests).sum();
    let together = estimate(boots.iter().map(|boot| times.get(&boot.name)), jobs);
    text.push_str(&format!(
        "{} {}, {tests} tests in them, {jobs} at a time{}",
        boots.len(),
        if boots.len() == 1 { "guest" } else { "guests" },
        match together {
            Some(time) if !boots.is_empty() => format!("; about {}", clock(time)),
            _ => String::new(),
        }
    ));
    text
}

/// A time as minutes and seconds.
pub fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(name: &str) -> Boot<'static> {
        Boot {
            name: name.to_owned(),
            purpose: "what it shows",
            tests: 7,
            memory: 512,
            run: Box::new(|_| Ok(Tally::default())),
        }
    }

    fn times(known: &[(&str, u64)]) -> Times {
        let mut times = Times::default();
        for (name, seconds) in known {
            times.set(name, Duration::from_secs(*seconds));
        }
        times
    }

    #[test]
    fn the_longest_come_first() {
        let mut boots = ["a", "b", "new", "c"].map(boot);
        longest_first(&mut boots, &times(&[("a", 5), ("b", 60), ("c", 20)]));
        assert_eq!(boots.map(|boot| boot.name), ["new", "b", "c", "a"]);
    }

    #[test]
    fn two_at_a_time() {
        let seconds = |list: &[u64]| -> Vec<_> {
            list.iter()
                .map(|&time| Some(Duration::from_secs(time)))
                .collect()
        };
        let minute = Some(Duration::from_secs(60));
        assert_eq!(estimate(seconds(&[60, 20, 20, 15]), 2), minute);
        assert_eq!(
            estimate(seconds(&[60, 50, 30, 10]), 2),
            Some(Duration::from_secs(80))
        );
        assert_eq!(estimate(seconds(&[20, 20, 20]), 1), minute);
        assert_eq!(estimate([Some(Duration::ZERO), None], 2), None);
    }

    #[test]
    fn it_is_said_what_will_be_done() {
        let boots = ["a", "b"].map(boot);
        let text = describe(
            "7.0",
            &["formatting", "clippy"],
            &boots,
            &times(&[("a", 65), ("b", 5)]),
            2,
        );
        assert!(text.contains("on the host: formatting, clippy\n"), "{text}");
        assert!(
            text.contains("what it shows (1:05 the last time)"),
            "{text}"
        );
        assert!(
            text.ends_with("2 guests, 14 tests in them, 2 at a time; about 1:05"),
            "{text}"
        );
        let text = describe("7.0", &[], &boots, &times(&[("a", 65)]), 2);
        assert!(text.ends_with("2 at a time"), "{text}");
    }

    #[test]
    fn times_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut times = Times::of("7.0", folder.path());
        times.set("a", Duration::from_millis(1500));
        times.save().unwrap();
        let read = Times::of("7.0", folder.path());
        assert_eq!(read.get("a"), Some(Duration::from_millis(1500)));
        assert_eq!(read.get("b"), None);
        assert_eq!(Times::of("7.1", folder.path()).get("a"), None);
    }
}
