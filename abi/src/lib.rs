//! The binary interface of the mapbuf driver: ioctl numbers, structs, kinds, methods, reasons.
