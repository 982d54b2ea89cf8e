//! A disk: a block of it written and read by a driver in this process (`examples/nvme`), and left as it was.

use super::scene::{Demo, Outcome};
use crate::pci::{Function, System, MAPBUF};
use mapbuf_nvme::{platform::Bound, Disk, Memory};

/// QEMU's NVMe controller: vendor and device. The demo touches no other.
const NVME: &str = "1b36:0010";
/// The serial number of the disk that the kit's guests have for this. One with another number has somebody's data.
const SERIAL: &str = "mapbuf";

/// The row that a disk shows.
pub const SHOWS: &[&str] = &["D10"];

pub fn scene(demo: &mut Demo) -> Outcome {
    let system = System::default();
    let none = match (system.has_driver(MAPBUF), find(&system)) {
        (false, _) => "the loaded driver does not take PCI devices",
        (true, None) => "this machine has no unused disk for it; cargo xtask demo has one",
        (true, Some(function)) => {
            let former = function.driver();
            function.give(Some(MAPBUF))?;
            let shown = driven(demo, &function);
            function.give_back(former.as_deref())?;
            return shown;
        }
    };
    demo.not_yet("D10", none);
    Ok(())
}

/// The disk, where nothing of the system uses it.
fn find(system: &System) -> Option<Function> {
    let mut all = system.all().into_iter();
    all.find(|function| function.ids() == NVME && function.obstacles(MAPBUF).is_empty())
}

fn driven(demo: &mut Demo, function: &Function) -> Outcome {
    let mut disk = Disk::start(Bound::open(&function.address.to_string())?)?;
    let identity = disk.identity().clone();
    if identity.serial != SERIAL {
        demo.not_yet("D10", "the disk here is not the kit's, and is left alone");
        return Ok(());
    }
    let bytes = identity.block_bytes;
    let block = identity.blocks - 1;
    let memory = disk.memory(2 * bytes)?;
    let mut before = vec![0; bytes];
    disk.read(block, &memory, 0, bytes)?;
    memory.read(0, &mut before)?;
    // Other bytes than those that are there, whatever they are.
    let sent: Vec<u8> = before
        .iter()
        .enumerate()
        .map(|(at, byte)| byte ^ (at * 31 + at / 251 | 1) as u8)
        .collect();
    memory.write(0, &sent)?;
    disk.write(block, &memory, 0, bytes)?;
    disk.flush()?;
    disk.read(block, &memory, bytes, bytes)?;
    let mut came = vec![0; bytes];
    memory.read(bytes, &mut came)?;
    memory.write(0, &before)?;
    disk.write(block, &memory, 0, bytes)?;
    disk.flush()?;
    disk.stop()?;
    demo.check(
        SHOWS,
        came == sent,
        &format!(
            "{}: block {block} written by this program and read back, {bytes} bytes",
            identity.model
        ),
    );
    Ok(())
}
