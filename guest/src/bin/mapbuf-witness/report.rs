//! What goes to the host.

use mapbuf_guest::witness::{Message, MARK};
use std::io::{stdout, Result, Write};

/// Sends a message, as one line.
pub fn send(message: &Message) -> Result<()> {
    let text = serde_json::to_string(message)?;
    let mut out = stdout().lock();
    writeln!(out, "{MARK}{text}")?;
    out.flush()
}
