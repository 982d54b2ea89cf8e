//! Doing something with and without CAP_SYS_ADMIN.

use crate::failure::Failure;
use rustix::{
    io::Errno,
    thread::{capabilities, set_capabilities, CapabilitySet, CapabilitySets},
};

/// What this thread may do.
pub struct Rights {
    all: CapabilitySets,
}

impl Rights {
    /// This thread's rights, CAP_SYS_ADMIN among them: without it, the driver tells nobody where memory lies.
    pub fn of_administrator() -> Result<Self, Failure> {
        let all = capabilities(None).map_err(failed)?;
        if !all.effective.contains(CapabilitySet::SYS_ADMIN) {
            return Err(failed(Errno::PERM));
        }
        Ok(Self { all })
    }

    /// Does something as an administrator, or as somebody who is none.
    pub fn with<T>(&self, admin: bool, action: impl FnOnce() -> T) -> Result<T, Failure> {
        if admin {
            return Ok(action());
        }
        let without = CapabilitySets {
            effective: self.all.effective.difference(CapabilitySet::SYS_ADMIN),
            ..self.all
        };
        set_capabilities(None, without).map_err(failed)?;
        let result = action();
        // It is still among the permitted ones, so it can be taken up again.
        set_capabilities(None, self.all).map_err(failed)?;
        Ok(result)
    }
}

fn failed(errno: Errno) -> Failure {
    Failure::Module {
        what: "trying with and without CAP_SYS_ADMIN".to_owned(),
        errno,
        remedy: "run it as root",
    }
}
