//! Gets a kernel, builds modules against it, boots it in QEMU and runs programs in it.
