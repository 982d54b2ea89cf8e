//! The rules of the mapbuf driver: what maps how, and why not.
