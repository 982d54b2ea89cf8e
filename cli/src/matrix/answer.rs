//! What is said of a cell, by the table or by what the driver did.

use mapbuf::{Error, Refusal};
use mapbuf_policy::plan::Plan;
use serde_json::{json, Value};

/// What the table says of a cell, or what the driver did.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    /// It maps; `sealed`: and can never become writable.
    Maps { sealed: bool },
    /// It is refused.
    Refused(Refusal),
    /// Neither: what was seen instead.
    Wrong(String),
}

impl Answer {
    /// The driver's reason for an error, if it gave one.
    pub fn from_error(error: &Error) -> Self {
        match error.refusal() {
            Some(refusal) => Self::Refused(*refusal),
            None => Self::Wrong(error.to_string()),
        }
    }

    /// In the names of JSON.
    pub fn json(&self) -> Value {
        match self {
            Self::Maps { sealed } => json!({ "maps": true, "sealed": sealed }),
            Self::Refused(refusal) => json!({
                "maps": false,
                "reason": refusal.reason.name(),
                "operands": refusal.operands,
            }),
            Self::Wrong(what) => json!({ "wrong": what }),
        }
    }
}

impl From<Result<Plan, Refusal>> for Answer {
    fn from(decided: Result<Plan, Refusal>) -> Self {
        match decided {
            Ok(plan) => Self::Maps { sealed: plan.seal },
            Err(refusal) => Self::Refused(refusal),
        }
    }
}
