//! Fails the first, the second, the n-th allocation or copy of an operation, until it succeeds untouched.

use crate::check::{Failure, Outcome};
use crate::session;
use crate::sys::{self, Errno};
use crate::tests::counts::Held;
use crate::{check, skip};
use mapbuf_abi::{Operation, Reason};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;

/// More chances to fail than anything has.
const MOST: u32 = 20_000;

/// The kernel's switch for the calling thread.
pub struct Injection(File);

impl Injection {
    /// Prepares the kernel: without this nothing is ever injected into allocations that may wait.
    pub fn new() -> Outcome<Self> {
        let Ok(own) = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/proc/thread-self/fail-nth")
        else {
            skip!("the kernel has no fault injection");
        };
        for (file, value) in [
            ("failslab/ignore-gfp-wait", "N"),
            ("failslab/verbose", "0"),
            ("fail_page_alloc/ignore-gfp-wait", "N"),
            ("fail_page_alloc/ignore-gfp-highmem", "N"),
            ("fail_page_alloc/min-order", "0"),
            ("fail_page_alloc/verbose", "0"),
            ("fail_usercopy/verbose", "0"),
        ] {
            let path = format!("/sys/kernel/debug/{file}");
            fs::write(&path, value).map_err(|error| Failure::new(format!("{path}: {error}")))?;
        }
        Ok(Self(own))
    }

    /// Runs `f` while its `nth` chance to fail does; whether that chance came.
    pub fn at<T>(&mut self, nth: u32, f: impl FnOnce() -> T) -> Outcome<(T, bool)> {
        self.0.write_all(nth.to_string().as_bytes())?;
        let result = f();
        let mut left = [0; 16];
        // A chance that is left may come in the copying of this very answer, and then in none that counts.
        let came = match self.0.read_at(&mut left, 0) {
            Ok(length) => left[..length].trim_ascii() == b"0",
            Err(_) => false,
        };
        while self.0.write_all(b"0").is_err() {}
        Ok((result, came))
    }
}

/// Waits until the driver holds what it held before.
pub fn comes_back(before: &Held, what: &str, nth: u32) -> Outcome {
    let mut now = None;
    let same = sys::until(std::time::Duration::from_secs(5), || {
        now = Held::now().ok();
        now.as_ref() == Some(before)
    });
    check!(
        same,
        "{what}, chance {nth}: held {before:?} before, {now:?} after"
    );
    Ok(())
}

/// Who answers when an operation fails.
#[derive(Clone, Copy, Debug)]
pub enum Answers {
    /// The driver, so there is a reason each time.
    Driver(Operation),
    /// The same; the reason may be this one too, for the kernel's function does not say what it lacked.
    DriverOr(Operation, Reason),
    /// The driver or the kernel around it, which gives no reason; a reason that there is must be right.
    Either(Operation),
    /// A call that has no session to ask.
    Kernel,
}

/// What came of a sweep.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    /// Chances that came.
    pub faults: u32,
    /// Those after which the operation failed.
    pub refusals: u32,
    /// Those of them for which the driver gave a reason.
    pub reasons: u32,
}

impl Count {
    /// Prints it, as the runner outside reads it.
    pub fn print(self, what: &str) {
        println!(
            "# {what}: {} faults, {} refusals, {} with a reason",
            self.faults, self.refusals, self.reasons
        );
    }
}

/// Sweeps: `prepare` makes what `attempt` needs, `after` takes back what both made, and sees to it that all is as it
/// must be after a success or an error.
pub fn sweep<S, T>(
    what: &str,
    answers: Answers,
    mut prepare: impl FnMut() -> Outcome<S>,
    mut attempt: impl FnMut(&mut S) -> session::Result<T>,
    mut after: impl FnMut(S, session::Result<T>) -> Outcome,
) -> Outcome {
    let mut injection = Injection::new()?;
    // What is cached on first use is not counted.
    let mut state = prepare()?;
    let result = attempt(&mut state);
    check!(result.is_ok(), "{what} fails untouched");
    after(state, result)?;
    let before = Held::now()?;
    check!(!before.objects.is_empty(), "the driver counts nothing");
    let mut count = Count::default();
    for nth in 1..MOST {
        let mut state = prepare()?;
        let (result, came) = injection.at(nth, || attempt(&mut state))?;
        let refused = result.as_ref().err().copied();
        if let Some(refused) = refused {
            check!(
                came,
                "{what}: chance {nth} did not come, and it fails: {refused}"
            );
            count.refusals += 1;
            count.reasons += u32::from(refused.said.is_some());
            judge(answers, refused)
                .map_err(|why| Failure::new(format!("{what}, chance {nth}: {why}")))?;
        }
        after(state, result)
            .map_err(|why| Failure::new(format!("{what}, after chance {nth}: {why:?}")))?;
        comes_back(&before, what, nth)?;
        if !came {
            check!(refused.is_none(), "{what}: fails without a fault");
            check!(count.faults > 0, "{what}: nothing was injected");
            count.print(what);
            return Ok(());
        }
        count.faults += 1;
    }
    Err(Failure::new(format!("{what} never succeeded untouched")))
}

/// Whether an error is one that a failed allocation or copy may have, with the reason that belongs to it.
fn judge(answers: Answers, refused: session::Refused) -> Result<(), String> {
    let errno = refused.errno.0;
    let reason = refused
        .said
        .and_then(|said| Reason::from_number(said.reason));
    if let Answers::DriverOr(_, other) = answers {
        if reason == Some(other) && other.errno() == errno {
            return Ok(());
        }
    }
    if ![libc::ENOMEM, libc::EFAULT].contains(&errno) {
        return Err(format!("the error is {refused}"));
    }
    let (operation, must) = match answers {
        Answers::Kernel => return Ok(()),
        Answers::Either(operation) => (operation, false),
        Answers::Driver(operation) | Answers::DriverOr(operation, _) => (operation, true),
    };
    let Some(said) = refused.said else {
        return if must {
            Err(format!("{refused}, and no reason"))
        } else {
            Ok(())
        };
    };
    let reason = Reason::from_number(said.reason);
    let fits = reason.is_some_and(|reason| reason.errno() == errno)
        && said.errno == errno
        && Operation::from_number(said.operation) == Some(operation);
    if fits {
        Ok(())
    } else {
        Err(format!(
            "{refused}: the reason is not that of {operation:?}"
        ))
    }
}

/// An error of the kernel's own.
pub fn plain(errno: Errno) -> session::Refused {
    session::Refused { errno, said: None }
}
