//! What runs inside the virtual machine: PID 1 and the integration tests.

fn main() {}
