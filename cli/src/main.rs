//! The mapbuf command.

fn main() {}
