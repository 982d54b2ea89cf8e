//! What is going on while guests run: a bar for each on a terminal, otherwise a line for each every now and then.

use super::plan::{clock, estimate, Boot, Times};
use super::slots::lock;
use super::Tally;
use mapbuf_vm::ui::{Gauge, Ui};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How often a line is printed where there is no terminal.
const SAY: Duration = Duration::from_secs(30);

/// All guests of a run.
pub struct Progress<'a> {
    ui: &'a Ui,
    begun: Instant,
    jobs: usize,
    guests: Mutex<Vec<Guest>>,
    /// The bar of the whole.
    whole: Gauge,
}

/// What is known of one of them.
struct Guest {
    name: String,
    tests: u64,
    /// How long it took the last time.
    expected: Option<Duration>,
    begun: Option<Instant>,
    done: u64,
    /// What it is at.
    at: String,
    ended: Option<Duration>,
}

/// The line of a guest that runs.
pub struct Line<'a> {
    progress: &'a Progress<'a>,
    place: usize,
    gauge: Gauge,
}

impl<'a> Progress<'a> {
    /// For guests that will be booted in about this order, so many at once.
    pub fn new(ui: &'a Ui, boots: &[Boot<'_>], times: &Times, jobs: usize) -> Self {
        let guests: Vec<_> = boots
            .iter()
            .map(|boot| Guest {
                name: boot.name.clone(),
                tests: boot.tests,
                expected: times.get(&boot.name),
                begun: None,
                done: 0,
                at: String::new(),
                ended: None,
            })
            .collect();
        let tests = guests.iter().map(|guest| guest.tests).sum();
        Self {
            ui,
            begun: Instant::now(),
            jobs,
            guests: Mutex::new(guests),
            whole: ui.gauge("all guests", tests),
        }
    }

    /// A guest is booted.
    pub fn begin(&'a self, name: &str) -> Line<'a> {
        let mut guests = lock(&self.guests);
        let place = guests.iter().position(|guest| guest.name == name);
        let place = place.unwrap_or_default();
        let mut tests = 0;
        if let Some(guest) = guests.get_mut(place) {
            guest.begun = Some(Instant::now());
            tests = guest.tests;
        }
        drop(guests);
        if !self.ui.is_terminal() {
            self.say(&format!("{name}: booting, {tests} tests"));
        }
        Line {
            progress: self,
            place,
            gauge: self.ui.gauge(name, tests),
        }
    }

    /// Says how far each guest is, until nothing more is to be said.
    pub fn watch(&self, ended: &Receiver<()>) {
        while ended.recv_timeout(SAY) == Err(RecvTimeoutError::Timeout) {
            if self.ui.is_terminal() {
                continue;
            }
            let guests = lock(&self.guests);
            for line in guests.iter().filter_map(Guest::line) {
                self.say(&line);
            }
            self.say(&whole(&guests, self.jobs));
        }
    }

    fn say(&self, text: &str) {
        let time = clock(self.begun.elapsed());
        self.ui.note(format!("[{time:>5}] {text}"));
    }

    /// How long each guest took that has ended.
    pub fn took(&self) -> Vec<(String, Duration)> {
        lock(&self.guests)
            .iter()
            .filter_map(|guest| Some((guest.name.clone(), guest.ended?)))
            .collect()
    }
}

impl Guest {
    /// How far it is, if it runs.
    fn line(&self) -> Option<String> {
        let begun = self.begun.filter(|_| self.ended.is_none())?;
        let at = match self.at.as_str() {
            "" => String::new(),
            at => format!(", after {at}"),
        };
        Some(format!(
            "{}: {} of {} tests in {}{at}",
            self.name,
            self.done,
            self.tests,
            clock(begun.elapsed())
        ))
    }

    /// How long it will still take, if that is known: what it took the last time, or what its tests so far tell if they
    /// are slower now.
    fn left(&self) -> Option<Duration> {
        if self.ended.is_some() {
            return Some(Duration::ZERO);
        }
        let Some(begun) = self.begun else {
            return self.expected;
        };
        let expected = self.expected?;
        let share = self.done as f64 / self.tests.max(1) as f64;
        let by_time = expected.saturating_sub(begun.elapsed());
        Some(by_time.max(expected.mul_f64((1.0 - share).clamp(0.0, 1.0)) / 2))
    }
}

/// How far all of them are.
fn whole(guests: &[Guest], jobs: usize) -> String {
    let ended = guests.iter().filter(|guest| guest.ended.is_some()).count();
    let waits = |guest: &&Guest| guest.begun.is_none() && guest.ended.is_none();
    let waiting = guests.iter().filter(waits).count();
    let done: u64 = guests.iter().map(|guest| guest.done).sum();
    let tests: u64 = guests.iter().map(|guest| guest.tests).sum();
    let left = match estimate(guests.iter().map(Guest::left), jobs) {
        Some(left) => format!("; about {} left", clock(left)),
        None => String::new(),
    };
    format!(
        "{ended} of {} guests have ended and {waiting} wait, {done} of {tests} tests{left}",
        guests.len()
    )
}

impl Line<'_> {
    /// So many tests have a result; the last one was this.
    pub fn at(&self, done: u64, name: &str) {
        let mut guests = lock(&self.progress.guests);
        if let Some(guest) = guests.get_mut(self.place) {
            if done != guest.done {
                name.clone_into(&mut guest.at);
            }
            guest.done = done;
        }
        let all = guests.iter().map(|guest| guest.done).sum();
        let text = whole(&guests, self.progress.jobs);
        drop(guests);
        self.gauge.set(done, name);
        self.progress.whole.set(all, &text);
    }

    /// It has ended.
    pub fn end(self, tally: &Tally) {
        let mut guests = lock(&self.progress.guests);
        if let Some(guest) = guests.get_mut(self.place) {
            guest.ended = guest.begun.map(|begun| begun.elapsed());
            guest.done = guest.tests.max(tally.passed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(tests: u64, expected: Option<u64>) -> Guest {
        Guest {
            name: "stock".into(),
            tests,
            expected: expected.map(Duration::from_secs),
            begun: None,
            done: 0,
            at: String::new(),
            ended: None,
        }
    }

    #[test]
    fn it_is_said_how_much_is_left() {
        let mut guests = [guest(10, Some(60)), guest(30, Some(20)), guest(5, Some(30))];
        let said = "0 of 3 guests have ended and 3 wait, 0 of 45 tests; about 1:00 left";
        assert_eq!(whole(&guests, 2), said);
        guests[0].ended = Some(Duration::from_secs(61));
        guests[0].done = 10;
        guests[1].begun = Some(Instant::now());
        guests[1].done = 3;
        let text = whole(&guests, 1);
        assert!(
            text.starts_with("1 of 3 guests have ended and 1 wait, 13 of 45 tests; about 0:4"),
            "{text}"
        );
        guests[2].expected = None;
        assert!(whole(&guests, 1).ends_with("13 of 45 tests"));
    }

    #[test]
    fn a_guest_that_runs_has_a_line() {
        let mut guest = guest(10, None);
        assert_eq!(guest.line(), None);
        guest.begun = Some(Instant::now());
        assert_eq!(guest.line().unwrap(), "stock: 0 of 10 tests in 0:00");
        guest.done = 4;
        guest.at = "sizes::a".into();
        assert_eq!(
            guest.line().unwrap(),
            "stock: 4 of 10 tests in 0:00, after sizes::a"
        );
        guest.ended = Some(Duration::ZERO);
        assert_eq!(guest.line(), None);
    }

    #[test]
    fn a_guest_that_is_slower_than_before_has_something_left() {
        let mut guest = guest(10, Some(40));
        assert_eq!(guest.left(), Some(Duration::from_secs(40)));
        guest.begun = Instant::now().checked_sub(Duration::from_secs(50));
        guest.done = 5;
        assert_eq!(guest.left(), Some(Duration::from_secs(10)));
        guest.ended = Some(Duration::from_secs(60));
        assert_eq!(guest.left(), Some(Duration::ZERO));
    }
}
