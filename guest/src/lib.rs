//! What the host has to know about the tests that run inside the virtual machine.
//!
//! The tests themselves are the binary `mapbuf-test`; one run of it is one boot of one [`Profile`].

pub mod overhead;
pub mod price;
pub mod profile;
pub mod vfio;
pub mod witness;
pub mod yardstick;

pub use profile::{patience, rounds, Profile, DEBUG_PROFILES, PATIENCE, PROFILES, ROUNDS};
