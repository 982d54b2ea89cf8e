//! The guest's own time, as the host tells it.
//!
//! A guest's clocks go on while the host has no processor for it, so a limit by them would take a busy host for a hang.
//! The host tells PID 1 every second how much time the guest has really had, and PID 1 keeps that in [`PATH`].

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Where PID 1 keeps what [`Frame::Clock`](crate::Frame::Clock) says: two numbers of eight bytes.
pub const PATH: &str = "/run/mapbuf-clock";

/// The file stays open: a process that is confined later on, or gets another root, has it still.
static FILE: OnceLock<File> = OnceLock::new();

/// For how long the guest has had nothing to do, while its program printed nothing.
pub fn idle() -> Duration {
    told().map_or(Duration::ZERO, |[_, idle]| idle)
}

/// What the host has told last; none outside of the kit's guests, and before its first word.
fn told() -> Option<[Duration; 2]> {
    let file = match FILE.get() {
        Some(file) => file,
        None => {
            let opened = File::open(PATH).ok()?;
            FILE.get_or_init(|| opened)
        }
    };
    let mut bytes = [[0; 8]; 2];
    file.read_exact_at(bytes.as_flattened_mut(), 0).ok()?;
    Some(bytes.map(|number| Duration::from_millis(u64::from_le_bytes(number))))
}

/// Measures how long something takes, in the guest's own time; where nobody tells that, by the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    told: Option<Duration>,
    begun: Instant,
}

impl Stopwatch {
    /// Begins now.
    pub fn start() -> Self {
        Self {
            told: time(),
            begun: Instant::now(),
        }
    }

    /// The time since it began. The host's word may be a second old, so what it answers may be short by that.
    pub fn elapsed(&self) -> Duration {
        elapsed(self.told, time(), self.begun.elapsed())
    }
}

fn time() -> Option<Duration> {
    told().map(|[time, _]| time)
}

fn elapsed(begun: Option<Duration>, now: Option<Duration>, own: Duration) -> Duration {
    match (begun, now) {
        // The host's first word may have come in between, and never is there more time than the clock says.
        (Some(begun), Some(now)) => now.saturating_sub(begun).min(own),
        _ => own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_word_counts() {
        let seconds = Duration::from_secs;
        assert_eq!(
            elapsed(Some(seconds(10)), Some(seconds(12)), seconds(8)),
            seconds(2)
        );
        assert_eq!(
            elapsed(Some(seconds(10)), Some(seconds(30)), seconds(8)),
            seconds(8)
        );
        assert_eq!(elapsed(None, None, seconds(8)), seconds(8));
        assert_eq!(elapsed(Some(seconds(10)), None, seconds(8)), seconds(8));
    }

    #[test]
    fn outside_of_a_guest_it_is_the_clock() {
        let watch = Stopwatch::start();
        std::thread::sleep(Duration::from_millis(5));
        assert!(watch.elapsed() >= Duration::from_millis(5));
    }
}
