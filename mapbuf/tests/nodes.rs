//! What is no node of the driver is told apart, before anything is asked of it.

use mapbuf::{Access, Device, Error};

#[test]
fn other_devices_and_files_are_no_nodes() {
    for path in ["/dev/null", "/dev/zero", "/etc/passwd", "/"] {
        let error = Device::open_with(path, Access::ReadOnly).unwrap_err();
        assert!(matches!(error, Error::NotANode { .. }), "{path}: {error}");
        assert!(error.to_string().contains("/dev/mapbuf"), "{error}");
    }
}

#[test]
fn what_is_not_there_cannot_be_opened() {
    let error = Device::open_path("/dev/mapbuf/nothing-of-this-name").unwrap_err();
    assert!(matches!(error, Error::Open { errno: 2, .. }), "{error}");
}
