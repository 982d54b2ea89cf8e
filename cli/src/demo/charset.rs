//! Which characters the terminal can be trusted with.

use std::env;

/// Characters to draw with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Charset {
    /// A cell none of whose pages lie in a row.
    pub empty: char,
    /// A cell of which a quarter, half, three quarters, all pages do.
    pub shades: [char; 4],
    /// Stands before the distance to the next row.
    pub down: char,
    /// A check that held, one that did not, one that could not run.
    pub held: &'static str,
    pub failed: &'static str,
    pub put_off: &'static str,
    /// Draws lines.
    pub line: char,
}

const UNICODE: Charset = Charset {
    empty: '·',
    shades: ['░', '▒', '▓', '█'],
    down: '↓',
    held: "✓",
    failed: "✗",
    put_off: "–",
    line: '─',
};

/// What every terminal has.
pub const ASCII: Charset = Charset {
    empty: '.',
    shades: [':', '+', '%', '#'],
    down: 'v',
    held: "ok",
    failed: "NO",
    put_off: "--",
    line: '-',
};

impl Charset {
    /// By the locale: Unicode where it says UTF-8.
    pub fn of_environment() -> Self {
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .iter()
            .filter_map(env::var_os)
            .find(|value| !value.is_empty());
        of_locale(&locale.unwrap_or_default().to_string_lossy())
    }
}

fn of_locale(locale: &str) -> Charset {
    let locale = locale.to_ascii_lowercase().replace('-', "");
    if locale.ends_with("utf8") {
        UNICODE
    } else {
        ASCII
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utf8_is_recognised() {
        assert_eq!(of_locale("C.UTF-8"), UNICODE);
        assert_eq!(of_locale("de_DE.utf8"), UNICODE);
        assert_eq!(of_locale("C"), ASCII);
        assert_eq!(of_locale(""), ASCII);
    }
}
