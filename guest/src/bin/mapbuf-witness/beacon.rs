//! The page by which the host knows this program, and tells it to go on.

use mapbuf_guest::witness::beacon::{ASKED, MADE, NONCE};
use mapbuf_init::clock::Stopwatch;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::{Error, ErrorKind, Result};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The host looks within milliseconds, of the guest's own time.
const PATIENCE: Duration = Duration::from_secs(60);

#[repr(align(4096))]
struct Page([AtomicU64; 512]);

/// The page. The host writes to it behind the processor's back, so each word is an atomic.
pub struct Beacon {
    page: Box<Page>,
    nonce: u64,
    asked: u64,
}

impl Beacon {
    pub fn new() -> Self {
        let nonce = RandomState::new().hash_one(std::process::id());
        let page = Box::new(Page([const { AtomicU64::new(0) }; 512]));
        page.0[NONCE].store(nonce, Ordering::SeqCst);
        Self {
            page,
            nonce,
            asked: 0,
        }
    }

    pub fn address(&self) -> u64 {
        self.page.0.as_ptr() as u64
    }

    pub fn nonce(&self) -> u64 {
        self.nonce
    }

    /// The number of the next look.
    pub fn next(&self) -> u64 {
        self.asked + 1
    }

    /// Begins a look.
    pub fn ask(&mut self) -> u64 {
        self.asked += 1;
        self.page.0[ASKED].store(self.asked, Ordering::SeqCst);
        self.asked
    }

    /// Waits in user mode, so that it is this program's page tables that the host finds in force.
    pub fn wait(&self) -> Result<()> {
        let begun = Stopwatch::start();
        let mut rounds = 0u64;
        while self.page.0[MADE].load(Ordering::SeqCst) != self.asked {
            for _ in 0..1000 {
                std::hint::spin_loop();
            }
            rounds += 1;
            // To ask for the time is a system call, and the host looks for user mode.
            if rounds % 1000 == 0 && begun.elapsed() > PATIENCE {
                return Err(Error::new(ErrorKind::TimedOut, "the host does not look"));
            }
        }
        Ok(())
    }
}
