//! A disk that a program drives: the host compares its bytes. The same for each who can give the device.

use crate::check::{Failure, Outcome};
use crate::pci::ask;
use crate::{check, check_eq};
use mapbuf_init::ask::Ask;
use mapbuf_nvme::{Disk, Function, Memory};

impl From<mapbuf_nvme::Error> for Failure {
    #[track_caller]
    fn from(error: mapbuf_nvme::Error) -> Self {
        Self::new(error)
    }
}

/// Bytes that are those of no other place, nor of the same place with another salt.
pub fn bytes(salt: u64, count: usize) -> Vec<u8> {
    (0..count as u64 / 8)
        .flat_map(|at| ((at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ salt << 56).to_le_bytes())
        .collect()
}

/// That what the program writes is what the host finds in the image, and the other way round.
pub fn moves_bytes_that_the_host_finds<F: Function>(disk: Disk<F>) -> Outcome {
    moves_bytes_with(disk, |disk, bytes| Ok(disk.memory(bytes)?))
}

/// The same, in memory that `memory` makes for each command.
pub fn moves_bytes_with<F: Function>(
    mut disk: Disk<F>,
    memory: impl Fn(&Disk<F>, usize) -> Outcome<F::Memory>,
) -> Outcome {
    let identity = disk.identity().clone();
    check_eq!(identity.serial, "mapbuf", "serial number");
    check_eq!(
        identity.blocks * identity.block_bytes as u64,
        64 << 20,
        "bytes of the disk"
    );
    let block = identity.block_bytes as u64;
    // One block, a page, two, and so many that there is a list; some begin within a page.
    for (salt, (offset, count)) in (1..).zip([
        (0, 512),
        (0, 4096),
        (512, 8192),
        (0x1e00, 0x400),
        (4096, 64 << 10),
        (1024, 128 << 10),
    ]) {
        let memory = memory(&disk, offset + count)?;
        let at = salt << 20;
        let out = bytes(salt, count);
        memory.write(offset, &out)?;
        disk.write(at / block, &memory, offset, count)?;
        disk.flush()?;
        let found = ask(&Ask::Read {
            device: "nvme".into(),
            offset: at,
            bytes: count,
        })?;
        check!(found == out, "{count} bytes: the host finds others");
        let other = bytes(salt + 100, count);
        ask(&Ask::Write {
            device: "nvme".into(),
            offset: at,
            contents: other.clone(),
        })?;
        disk.read(at / block, &memory, offset, count)?;
        let mut read = vec![0; count];
        memory.read(offset, &mut read)?;
        check!(read == other, "{count} bytes: the host wrote others");
    }
    disk.stop()?;
    Ok(())
}
