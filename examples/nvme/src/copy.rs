//! From one disk to another: bytes that no processor touches.

use crate::PIECE;
use mapbuf_nvme::platform::Bound;
use mapbuf_nvme::{Disk, Error, Result};
use rustix::fs::OFlags;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;

/// Copies blocks to the start of `file`. The disk writes into the pages that the other one reads from.
pub fn copy(disk: &mut Disk<Bound>, first: u64, count: u64, file: &str) -> Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .custom_flags(OFlags::DIRECT.bits() as i32)
        .open(file)
        .map_err(|error| Error::platform(format!("{file}: {error}")))?;
    let block = disk.identity().block_bytes;
    let piece = PIECE.min(disk.identity().most_bytes);
    let memory = disk.memory(piece)?;
    let blocks = (piece / block) as u64;
    for at in (0..count).step_by(piece / block) {
        let bytes = (count - at).min(blocks) as usize * block;
        disk.read(first + at, &memory, 0, bytes)?;
        let mut done = 0;
        while done < bytes {
            let position = at * block as u64 + done as u64;
            done += memory
                .mapping()
                .write_to(done, bytes - done, &file, position)?;
        }
    }
    file.sync_all().map_err(Error::platform)
}
