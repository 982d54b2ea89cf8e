//! Every allocation and every copy from or to user memory that an operation makes fails once, one after the other,
//! until the operation succeeds untouched. Each time the answer is an error with a reason, nothing stays behind, and
//! the session goes on working.
//!
//! Needs a kernel with fault injection; elsewhere these are skipped.

mod bound;
mod devices;
mod locks;
mod maps;
mod module;
mod requests;
mod sweep;

use super::Test;
pub use sweep::Injection;

/// The tests of all files here.
pub const TESTS: [&[Test]; 6] = [
    requests::TESTS,
    maps::TESTS,
    devices::TESTS,
    bound::TESTS,
    // While the module is there that the others have used.
    locks::TESTS,
    module::TESTS,
];
