//! Random programs for the driver, and a model that says what each of their operations must do.
//!
//! * [`op`]: the operations, and programs as text;
//! * [`generate`]: makes a program of a seed;
//! * [`model`]: what every operation answers with, errno, reason and bytes;
//! * [`answer`]: what an operation answered with, in the model and in the kernel alike;
//! * [`shrink`]: makes a program short that shows a difference;
//! * [`tally`]: what was tried, and what came out.
//!
//! The program `mapbuf-fuzz` runs in the guest and executes them.
//!
//! # A new operation
//!
//! is one entry in the list of [`op`], which gives it its text; one arm in [`model`]'s `step`, which says what it
//! does; one arm in the executor (`bin/mapbuf-fuzz/execute.rs`), which does it; and one arm in [`generate`], which
//! gives it arguments. The counts, the text form, the replaying and the shrinking need nothing. The compiler names
//! each place that was forgotten.
//!
//! # What the model is made of
//!
//! It shares with the driver only the numbers of `abi/`. It knows nothing of `policy/`: what it says of methods,
//! places, limits and names is a second, independent statement of the same rules, as short as it could be made. What
//! it says of `mmap`, `mprotect`, `mremap` and `madvise` follows the kernel's own `mm/`.
//!
//! Three things cannot be known beforehand, and are learned from the answer after being checked for what must hold
//! of them: an id that the driver chose, an `mmap` offset, and into how many physical runs memory fell. And where 64
//! pages or more are not to be had, that is believed, as is that a large contiguous buffer has no place for a huge
//! entry.

pub mod answer;
pub mod generate;
pub mod model;
pub mod op;
pub mod shrink;
pub mod tally;
