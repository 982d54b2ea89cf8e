//! `include/mapbuf.h`, `include/mapbuf-explain.h` and the Python package's `_abi.py` are made from `abi/`, and these
//! tests fail when they are stale.
//!
//! To make them again: `MAPBUF_BLESS=1 cargo test -p mapbuf --test header`.

mod explain;
mod numbers;
mod python;
mod sets;

use std::{env, fs, path::Path};

#[test]
fn mapbuf_h_is_fresh() {
    compare("include/mapbuf.h", numbers::header());
}

#[test]
fn mapbuf_explain_h_is_fresh() {
    compare("include/mapbuf-explain.h", &explain::header());
}

#[test]
fn abi_py_is_fresh() {
    compare(
        "python/src/mapbuf/_abi.py",
        &python::module(numbers::header()),
    );
}

/// Holds a file against what it should be; writes it when `MAPBUF_BLESS` is set.
fn compare(name: &str, fresh: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    if env::var_os("MAPBUF_BLESS").is_some() {
        fs::write(&path, fresh).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == fresh,
        "{name} is stale; make it again with: MAPBUF_BLESS=1 cargo test -p mapbuf --test header"
    );
}
