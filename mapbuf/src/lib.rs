//! Kernel memory of every kind in user space: the library for the mapbuf driver.
