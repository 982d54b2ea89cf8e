//! Answers: text for people, JSON for programs.

use crate::{args::OutputArgs, failure::Failure};
use serde::Serialize;
use std::fmt::Display;

/// Answers with `value`: as JSON where that was asked for, else as the text that it is shown as.
pub fn answer<T: Serialize + Display>(output: OutputArgs, value: &T) -> Result<(), Failure> {
    if output.json {
        print_json(value);
    } else {
        anstream::print!("{value}");
    }
    Ok(())
}

/// Prints a value as JSON.
pub fn print_json<T: Serialize>(value: &T) {
    // What this program serializes are structs with string keys, which cannot fail.
    let text = serde_json::to_string_pretty(value)
        .unwrap_or_else(|error| format!("{{\"error\": {{\"message\": \"{error}\"}}}}"));
    anstream::println!("{text}");
}
