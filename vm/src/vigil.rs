//! When a guest is given up: by what was heard of it and what it does, never by the host's clock alone.
//!
//! All times are the guest's own ([`crate::clock`]).

use crate::verdict::Verdict;
use std::time::Duration;

/// How long the guest may say nothing before it counts as gone. PID 1 speaks every second.
pub const SILENCE: Duration = Duration::from_secs(90);

/// The same before PID 1 runs: the console is for warnings only, and a boot takes seconds.
pub const BOOT_SILENCE: Duration = Duration::from_secs(60);

/// How long the guest may have nothing to do, while its program prints nothing.
pub const IDLE: Duration = Duration::from_secs(45);

/// In a span of so long a guest is idle or not.
const SPAN: Duration = Duration::from_secs(5);

/// A guest that is idle uses no more of a processor than this share: its own clock, and whoever looks at something every
/// few milliseconds.
const IDLE_SHARE: f64 = 0.25;

/// What the limits are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// When the program has to have ended; none: whenever it likes.
    pub timeout: Option<Duration>,
    /// How long the program may print nothing while the guest is busy; none: as long as it likes.
    pub quiet: Option<Duration>,
    /// How long the program may print nothing while the guest is idle; none: as long as it likes.
    pub idle: Option<Duration>,
    /// How long nothing may be heard, not even from PID 1.
    pub silence: Duration,
    /// The same, before PID 1 runs.
    pub boot_silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            timeout: None,
            quiet: None,
            idle: Some(IDLE),
            silence: SILENCE,
            boot_silence: BOOT_SILENCE,
        }
    }
}

/// What was heard of a guest.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vigil {
    /// When anything was heard.
    word: Duration,
    /// When the run came on: the program printed something.
    step: Duration,
    /// Since then, or since the guest was busy: how long it has been idle.
    idle: Duration,
    /// When the present span began, and the processor time that had been used then.
    span: (Duration, Duration),
    reached_init: bool,
}

impl Vigil {
    /// Something was heard of the guest.
    pub fn heard(&mut self, now: Duration) {
        self.word = now;
    }

    /// The run comes on.
    pub fn came_on(&mut self, now: Duration) {
        self.word = now;
        self.step = now;
        self.idle = Duration::ZERO;
    }

    /// PID 1 runs.
    pub fn reached_init(&mut self, now: Duration) {
        self.reached_init = true;
        self.came_on(now);
    }

    /// For how long the guest has had nothing to do, and its program has printed nothing.
    pub fn idle(&self) -> Duration {
        self.idle
    }

    /// The guest's time is `now`, and it has used so much of the host's processors: whether it is given up.
    pub fn look(&mut self, now: Duration, used: Duration, limits: &Limits) -> Option<Verdict> {
        let span = now.saturating_sub(self.span.0);
        if span >= SPAN {
            let share = used.saturating_sub(self.span.1).div_duration_f64(span);
            if share > IDLE_SHARE {
                self.idle = Duration::ZERO;
            } else {
                // What was printed in this span has made it zero at that time.
                self.idle += span.min(now.saturating_sub(self.step));
            }
            self.span = (now, used);
        }
        let longer = |since: Duration, limit: Duration| now.saturating_sub(since) > limit;
        let silence = if self.reached_init {
            limits.silence
        } else {
            limits.boot_silence
        };
        if limits.timeout.is_some_and(|limit| now > limit) {
            Some(Verdict::TimedOut)
        } else if limits.idle.is_some_and(|limit| self.idle >= limit) {
            Some(Verdict::Idle(self.idle))
        } else if longer(self.word, silence) {
            Some(Verdict::Silent)
        } else if limits.quiet.is_some_and(|limit| longer(self.step, limit)) {
            Some(Verdict::Quiet(now.saturating_sub(self.step)))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        timeout: None,
        quiet: Some(Duration::from_secs(300)),
        idle: Some(IDLE),
        silence: SILENCE,
        boot_silence: BOOT_SILENCE,
    };

    /// A guest that has booted and uses so much of a processor, while PID 1 speaks every second; when it is given up, of
    /// the seconds that are tried.
    fn given_up(
        share: f64,
        prints_every: u64,
        seconds: u64,
        limits: &Limits,
    ) -> Option<(u64, Verdict)> {
        let mut vigil = Vigil::default();
        vigil.reached_init(Duration::ZERO);
        (1..=seconds).find_map(|second| {
            let now = Duration::from_secs(second);
            vigil.heard(now);
            if second % prints_every == 0 {
                vigil.came_on(now);
            }
            let verdict = vigil.look(now, now.mul_f64(share), limits)?;
            Some((second, verdict))
        })
    }

    #[test]
    fn an_idle_guest_is_noticed_within_a_minute() {
        let (second, verdict) = given_up(0.05, 1000, 1000, &LIMITS).unwrap();
        assert!(second <= 60, "{second}");
        assert!(matches!(verdict, Verdict::Idle(_)), "{verdict:?}");
    }

    #[test]
    fn an_idle_guest_that_prints_is_left_alone() {
        assert_eq!(given_up(0.05, 30, 1000, &LIMITS), None);
        let patient = Limits {
            idle: None,
            quiet: None,
            ..LIMITS
        };
        assert_eq!(given_up(0.05, 10_000, 5000, &patient), None);
    }

    #[test]
    fn a_busy_guest_is_left_alone_for_longer() {
        assert_eq!(given_up(1.0, 290, 5000, &LIMITS), None);
        let (second, verdict) = given_up(1.0, 10_000, 1000, &LIMITS).unwrap();
        assert_eq!(second, 301);
        assert!(matches!(verdict, Verdict::Quiet(_)), "{verdict:?}");
    }

    #[test]
    fn a_guest_of_which_nothing_is_heard_is_gone() {
        let mut vigil = Vigil::default();
        let at = |seconds| Duration::from_secs(seconds);
        // Busy all the time.
        assert_eq!(vigil.look(at(60), at(60), &LIMITS), None);
        assert_eq!(vigil.look(at(61), at(61), &LIMITS), Some(Verdict::Silent));
        vigil.reached_init(at(61));
        assert_eq!(vigil.look(at(151), at(151), &LIMITS), None);
        assert_eq!(vigil.look(at(152), at(152), &LIMITS), Some(Verdict::Silent));
    }

    #[test]
    fn a_timeout_counts_from_the_beginning() {
        let limits = Limits {
            timeout: Some(Duration::from_secs(20)),
            ..LIMITS
        };
        let (second, verdict) = given_up(1.0, 1, 100, &limits).unwrap();
        assert_eq!((second, verdict), (21, Verdict::TimedOut));
    }

    #[test]
    fn one_busy_span_begins_anew() {
        let mut vigil = Vigil::default();
        vigil.reached_init(Duration::ZERO);
        let mut used = Duration::ZERO;
        for second in 1..=80 {
            let now = Duration::from_secs(second);
            vigil.heard(now);
            if (36..=40).contains(&second) {
                used += Duration::from_secs(1);
            }
            assert_eq!(vigil.look(now, used, &LIMITS), None, "{second}");
        }
    }
}
