//! The sizes that `cargo xtask copies` measures.

/// In bytes, from 64 bytes to 64 MiB.
pub const SIZES: [usize; 11] = [
    64,
    256,
    1 << 10,
    4 << 10,
    16 << 10,
    64 << 10,
    256 << 10,
    1 << 20,
    4 << 20,
    16 << 20,
    64 << 20,
];
