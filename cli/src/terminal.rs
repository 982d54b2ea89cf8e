//! Asks the person at the terminal.

use crate::failure::Failure;
use std::io::{self, BufRead, IsTerminal, Write};

/// Asks a question on standard error, and whether the answer is yes. `what` is confirmed, for the message where nobody can be
/// asked.
pub fn confirms(question: &str, what: &str) -> Result<bool, Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::Usage(format!(
            "there is no terminal to confirm on {what}; use --yes to confirm, or --dry-run to change nothing"
        )));
    }
    let mut err = io::stderr();
    let asked = write!(err, "{question}? [y/N] ").and_then(|()| err.flush());
    let mut answer = String::new();
    asked
        .and_then(|()| stdin.lock().read_line(&mut answer))
        .map_err(|source| Failure::File {
            path: "the terminal".into(),
            source,
        })?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
