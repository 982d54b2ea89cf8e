//! Why the command did not do what it was asked, and the exit code that tells a script.

use crate::{
    holders::Holder,
    wanted::{Mistake, Place},
};
use mapbuf::errno_name;
use serde_json::{json, Value};
use std::{
    fmt::{self, Write},
    io,
    path::PathBuf,
};

/// The driver or the kernel refused, or a check failed.
const REFUSED: u8 = 1;
/// The command line is wrong (clap's own code, too).
const USAGE: u8 = 2;
/// No driver, no node, no such name.
const MISSING: u8 = 3;
/// No permission.
const PERMISSION: u8 = 4;
/// Processes hold the module.
const HELD: u8 = 5;
/// Anything else.
const OTHER: u8 = 6;
/// The doctor: `mapbuf diagnose` works here, the driver does not.
const DIAGNOSE_ALONE: u8 = 7;
/// The doctor: the driver works here, `mapbuf diagnose` does not.
const DRIVER_ALONE: u8 = 8;

/// What the doctor found not to work.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unwell {
    /// The driver; `mapbuf diagnose` does.
    Driver,
    /// `mapbuf diagnose`; the driver does.
    Diagnose,
    /// Both.
    Both,
    /// The device that was asked for cannot be bound.
    Device,
}

impl fmt::Display for Unwell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Driver => "the driver does not work here, mapbuf diagnose does",
            Self::Diagnose => "mapbuf diagnose does not work here, the driver does",
            Self::Both => "neither the driver nor mapbuf diagnose works here",
            Self::Device => "the device cannot be bound",
        })?;
        f.write_str("; the obstacles are marked 'no' above")
    }
}

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The driver, or the kernel about it.
    #[error(transparent)]
    Driver(#[from] mapbuf::Error),
    /// The driver, after a part was done.
    #[error("{source}")]
    Partly {
        /// What was done, in the name that JSON has for it.
        done: (&'static str, Vec<String>),
        /// What went wrong then.
        source: mapbuf::Error,
    },
    /// The driver, the kernel or a file, in the middle of `mapbuf apply`.
    #[error("{place}: '{name}': {source}; {}", so_far(.done))]
    Applied {
        /// What was done before.
        done: Vec<String>,
        /// Where the buffer is asked for.
        place: Place,
        /// Its name.
        name: String,
        /// What went wrong.
        source: Box<Failure>,
    },
    /// Files of `mapbuf apply`.
    #[error("{}", every(.0))]
    Mistakes(Vec<Mistake>),
    /// Buffers that are not as their files say.
    #[error("left as they are, though their files differ: {}; to make them anew, without their contents: mapbuf apply --replace", .0.join(", "))]
    Differing(Vec<String>),
    /// The command line, beyond what its grammar says.
    #[error("{0}")]
    Usage(String),
    /// The module is not there.
    #[error("{0}")]
    NoModule(String),
    /// The device is not there.
    #[error("{0}")]
    NoDevice(String),
    /// A device cannot be bound, or a driver does not take it.
    #[error("{what}; next: {remedy}")]
    Device {
        /// What is in the way.
        what: String,
        /// What to do next.
        remedy: String,
    },
    /// The kernel does not load or unload the module.
    #[error("{what} failed: {errno}; {remedy}")]
    Module {
        /// What was tried.
        what: String,
        /// What the kernel answered.
        errno: rustix::io::Errno,
        /// What to do next.
        remedy: &'static str,
    },
    /// Processes hold the module.
    #[error("{}", held(.0))]
    Held(Vec<Holder>),
    /// Named buffers of the demo, or checks of it.
    #[error("{} of the demo's checks failed: {}; see the lines above", .0.len(), .0.join(", "))]
    Checks(Vec<String>),
    /// Cells of the matrix.
    #[error("{0} cells of the matrix differ from the table; they are listed above")]
    Differs(usize),
    /// What the doctor found.
    #[error("{0}")]
    Unwell(Unwell),
    /// A file.
    #[error("{}: {source}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
}

impl Failure {
    /// What it is in JSON; none where the command's own report has it already.
    pub fn json(&self) -> Option<Value> {
        let told = matches!(
            self,
            Self::Checks(_) | Self::Differs(_) | Self::Differing(_) | Self::Unwell(_)
        );
        (!told).then(|| self.to_json())
    }

    /// What the command ends with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Driver(error) | Self::Partly { source: error, .. } => of_driver(error),
            Self::Applied { source, .. } => source.exit_code(),
            Self::Usage(_) | Self::Mistakes(_) => USAGE,
            Self::NoModule(_) | Self::NoDevice(_) => MISSING,
            Self::Device { .. } => REFUSED,
            Self::Module { errno, .. } => match errno.raw_os_error() {
                code if is_permission(code) => PERMISSION,
                _ => REFUSED,
            },
            Self::Held(_) => HELD,
            Self::Unwell(Unwell::Driver) => DIAGNOSE_ALONE,
            Self::Unwell(Unwell::Diagnose) => DRIVER_ALONE,
            Self::Checks(_) | Self::Differs(_) | Self::Differing(_) | Self::Unwell(_) => REFUSED,
            Self::File { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                PERMISSION
            }
            Self::File { .. } => OTHER,
        }
    }

    fn to_json(&self) -> Value {
        let mut error = json!({ "message": self.to_string(), "exit_code": self.exit_code() });
        match self {
            Self::Driver(driver) | Self::Partly { source: driver, .. } => {
                error["errno"] = json!(driver.errno().and_then(errno_name));
                error["remedy"] = json!(driver.remedy());
                if let Some(refusal) = driver.refusal() {
                    error["reason"] = json!(refusal.reason.name());
                    error["reason_number"] = json!(refusal.reason.number());
                    error["operands"] = json!(refusal.operands);
                }
            }
            Self::Applied {
                done,
                place,
                name,
                source,
            } => {
                // What went wrong, with what `apply` knows about it.
                error = source.to_json()["error"].take();
                error["message"] = json!(self.to_string());
                error["place"] = json!(place);
                error["name"] = json!(name);
                error["done"] = json!(done);
            }
            Self::Mistakes(mistakes) => error["mistakes"] = json!(mistakes),
            Self::Held(holders) => error["holders"] = json!(holders),
            Self::Device { remedy, .. } => error["remedy"] = json!(remedy),
            _ => {}
        }
        let mut answer = json!({ "error": error });
        if let Self::Partly {
            done: (name, done), ..
        } = self
        {
            answer[*name] = json!(done);
        }
        answer
    }
}

fn of_driver(error: &mapbuf::Error) -> u8 {
    use mapbuf::{Error, Reason};
    match error {
        _ if error.reason() == Some(Reason::NameUnknown) => MISSING,
        Error::Open { errno, .. } if !is_permission(*errno) => MISSING,
        Error::Sysfs { source, .. } if source.kind() == io::ErrorKind::NotFound => MISSING,
        _ if error.errno().is_some_and(is_permission) => PERMISSION,
        Error::OutOfBounds(_) => USAGE,
        Error::Sysfs { .. } => OTHER,
        _ => REFUSED,
    }
}

fn is_permission(errno: i32) -> bool {
    matches!(errno_name(errno), Some("EPERM" | "EACCES"))
}

fn every(mistakes: &[Mistake]) -> String {
    let lines: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
    format!("{}\nnothing was changed", lines.join("\n"))
}

fn so_far(done: &[String]) -> String {
    match done.is_empty() {
        true => "nothing was changed".to_owned(),
        false => format!("before that: {}", done.join(", ")),
    }
}

fn held(holders: &[Holder]) -> String {
    let mut text = String::from(
        "the module is in use, and nothing was changed; end these processes, or have them close what they hold:",
    );
    for holder in holders {
        // Writing to a string does not fail.
        let _ = write!(text, "\n  {holder}");
    }
    if holders.is_empty() {
        text.push_str("\n  (none that you can see in /proc; run as root to see all)");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use mapbuf::{Error, Operation, Reason};

    fn refused(reason: Reason) -> Failure {
        Error::Refused {
            operation: Operation::Unname,
            refusal: reason.with(&[7]),
        }
        .into()
    }

    #[test]
    fn exit_codes_tell_what_to_do() {
        assert_eq!(refused(Reason::NoContiguousMemory).exit_code(), REFUSED);
        assert_eq!(refused(Reason::NameUnknown).exit_code(), MISSING);
        assert_eq!(refused(Reason::NotOwner).exit_code(), PERMISSION);
        assert_eq!(Failure::Held(Vec::new()).exit_code(), HELD);
        for (errno, code) in [(2, MISSING), (6, MISSING), (13, PERMISSION)] {
            let path = "/dev/mapbuf/system".into();
            let failure = Failure::from(Error::Open { path, errno });
            assert_eq!(failure.exit_code(), code, "{failure}");
        }
    }

    #[test]
    fn json_has_the_reason_and_its_operands() {
        let json = refused(Reason::NotOwner).to_json();
        assert_eq!(json["error"]["reason"], "NotOwner");
        assert_eq!(json["error"]["reason_number"], 404);
        assert_eq!(json["error"]["operands"][0], 7);
        assert_eq!(json["error"]["errno"], "EPERM");
        assert_eq!(json["error"]["exit_code"], 4);
    }
}
