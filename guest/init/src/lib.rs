//! What the host and PID 1 say to each other.
//!
//! The host writes a [`Job`] into the initramfs as [`JOB_PATH`]; from then on both sides exchange [`Frame`]s over
//! one virtio-serial port named [`PORT_NAME`]. The kernel's console is not part of it: the host captures that from the
//! emulated serial port, so that a guest which can no longer speak is still heard. What the program itself may ask of the
//! host is in [`ask`].

pub mod ask;
pub mod clock;
pub mod protocol;

pub use protocol::{
    Ending, Frame, Job, LoadModule, RootDisk, Terminal, EARLY_PATH, JOB_PATH, PAYLOAD_PATH,
    PORT_NAME,
};
