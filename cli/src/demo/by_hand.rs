//! A node made by hand, as one had to before the kernel made them: with a driver whose node does not appear, the rest
//! can be shown all the same.

use super::stage::Stage;
use mapbuf::{
    abi::{DEV_DIR, SYSTEM_NODE},
    sysfs,
};
use rustix::fs::{makedev, mknodat, FileType, Mode, CWD};
use std::fs;

/// A node that goes with this.
pub struct Node(());

impl Node {
    /// Makes the node for the number that sysfs tells, where there is none.
    pub fn make(stage: &Stage) -> Option<Self> {
        let (major, minor) = sysfs::device_number("system").ok()?;
        // What stands in the way of the node stands in the way of the folder too, or does not matter.
        let _ = fs::create_dir(DEV_DIR);
        let mode = Mode::from_bits_truncate(0o600);
        mknodat(
            CWD,
            SYSTEM_NODE,
            FileType::CharacterDevice,
            mode,
            makedev(major, minor),
        )
        .ok()?;
        stage.line(&format!(
            "   (made by hand, to go on: mknod {SYSTEM_NODE} c {major} {minor})"
        ));
        Some(Self(()))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // A folder that is not empty stays.
        let _ = fs::remove_file(SYSTEM_NODE).and_then(|()| fs::remove_dir(DEV_DIR));
    }
}
