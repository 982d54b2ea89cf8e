//! JSON, written into a fixed buffer.

use core::fmt::{self, Write};

/// Bytes that an answer may have.
pub const CAPACITY: usize = 4096;

/// Text in a fixed buffer; what does not fit makes a write fail.
#[derive(Clone, Debug)]
pub struct Text {
    bytes: [u8; CAPACITY],
    length: usize,
}

impl Default for Text {
    fn default() -> Self {
        Self {
            bytes: [0; CAPACITY],
            length: 0,
        }
    }
}

impl Text {
    /// What was written.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        let place = self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?;
        place.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

/// Escapes what a JSON string must not have as it is.
struct Escaped<'a>(&'a mut Text);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            match letter {
                '"' | '\\' => write!(self.0, "\\{letter}")?,
                letter if letter < ' ' => write!(self.0, "\\u{:04x}", u32::from(letter))?,
                letter => self.0.write_char(letter)?,
            }
        }
        Ok(())
    }
}

/// An object that is being written. What does not fit is left out, closing brackets included: a reader finds it broken.
pub struct Json<'a> {
    out: &'a mut Text,
    separator: &'static str,
}

impl<'a> Json<'a> {
    /// Begins an object.
    pub fn begin(out: &'a mut Text) -> Self {
        Self {
            out,
            separator: "{",
        }
    }

    /// Ends it.
    pub fn end(self) {
        let _ = self.out.write_str("}");
    }

    fn key(&mut self, key: &str) {
        let _ = write!(self.out, "{}\"{key}\":", self.separator);
        self.separator = ",";
    }

    /// A number.
    pub fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        let _ = write!(self.out, "{value}");
    }

    /// True or false.
    pub fn bool(&mut self, key: &str, value: bool) {
        self.key(key);
        let _ = write!(self.out, "{value}");
    }

    /// A text.
    pub fn text(&mut self, key: &str, value: &str) {
        self.shown(key, &value);
    }

    /// What something prints as.
    pub fn shown(&mut self, key: &str, value: &dyn fmt::Display) {
        self.key(key);
        let _ = self.out.write_str("\"");
        let _ = write!(Escaped(self.out), "{value}");
        let _ = self.out.write_str("\"");
    }

    /// Numbers and their names.
    pub fn list(&mut self, key: &str, values: impl Iterator<Item = (u32, &'static str)>) {
        self.key(key);
        let mut separator = "[";
        for (number, name) in values {
            let _ = write!(self.out, "{separator}[{number},\"{name}\"]");
            separator = ",";
        }
        let _ = self.out.write_str("]");
    }
}
