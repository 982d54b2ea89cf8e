//! What a scene tells the demo, a line of JSON a time.

use serde::{Deserialize, Serialize};

/// What a scene tells the demo.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub enum Note {
    /// What a check saw, and of which requirements.
    Check {
        shows: Vec<String>,
        held: bool,
        what: String,
    },
    /// Why a requirement cannot be shown.
    NotYet { id: String, why: String },
    /// What was seen of a kind of memory.
    Kind(OfKind),
}

/// What was seen of a kind of memory.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub struct OfKind {
    pub kind: String,
    pub bytes: u64,
    pub user_to_kernel: bool,
    pub kernel_to_user: bool,
    pub survives_free: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_come_back() {
        let note = Note::NotYet {
            id: "A1".to_owned(),
            why: "a \"reason\"\nof two lines".to_owned(),
        };
        let line = serde_json::to_string(&note).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<Note>(&line).unwrap(), note);
    }
}
