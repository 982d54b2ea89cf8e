//! The person's terminal, while a program in the guest has it.

use mapbuf_init::Terminal;
use rustix::stdio::{stdin, stdout};
use rustix::termios::{isatty, tcgetattr, tcgetwinsize, tcsetattr, OptionalActions, Termios};

/// Whether a person sits at both ends.
pub fn is_interactive() -> bool {
    isatty(stdin()) && isatty(stdout())
}

/// What the guest needs to know of the terminal.
pub fn describe() -> Terminal {
    let (rows, columns) = size();
    Terminal {
        rows,
        columns,
        term: std::env::var("TERM").unwrap_or_else(|_| "vt100".into()),
    }
}

/// Its rows and columns.
pub fn size() -> (u16, u16) {
    tcgetwinsize(stdout()).map_or((24, 80), |size| (size.ws_row, size.ws_col))
}

/// A terminal that hands every key on; given back its ways when dropped.
pub struct Raw {
    before: Option<Termios>,
}

impl Raw {
    /// Makes it so, if there is a terminal.
    pub fn new() -> Self {
        let before = tcgetattr(stdin()).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.make_raw();
            let _ = tcsetattr(stdin(), OptionalActions::Now, &raw);
        }
        Self { before }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(stdin(), OptionalActions::Drain, before);
        }
    }
}
