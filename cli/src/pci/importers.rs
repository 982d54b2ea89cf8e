//! Devices of other drivers that have memory of a device as a dma-buf, as the kernel lists them for root
//! (`dma_buf_debug_show` of `drivers/dma-buf/dma-buf.c`).

use std::collections::BTreeSet;
use std::fs;

const LIST: &str = "/sys/kernel/debug/dma_buf/bufinfo";

/// How the driver names a dma-buf of the memory that goes with its device.
const NAME: &str = "mapbuf coherent";

/// Those that are attached to coherent memory of the driver's. Nothing where the list cannot be read.
pub fn of_coherent_memory() -> BTreeSet<String> {
    fs::read_to_string(LIST).map_or_else(|_| BTreeSet::new(), |list| find(&list))
}

fn find(list: &str) -> BTreeSet<String> {
    let mut devices = BTreeSet::new();
    let (mut ours, mut attached) = (false, false);
    for line in list.lines() {
        if let Some(device) = line.strip_prefix('\t').filter(|_| attached) {
            if ours {
                devices.insert(device.to_owned());
            }
            continue;
        }
        attached = line.ends_with("Attached Devices:");
        // The line of a dma-buf ends with its name, after a tab. Its fences stand between that and its devices.
        let words: Vec<_> = line.split('\t').collect();
        if let [.., exporter, _, name] = words.as_slice() {
            ours = *exporter == "mapbuf" && *name == NAME;
        }
    }
    devices
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str = "
Dma-buf Objects:
size    \tflags   \tmode    \tcount   \texp_name\tino     \tname
00008192\t00000002\t00080007\t00000003\tmapbuf\t00000011\tmapbuf coherent
\tbookkeep fence: mapbuf-importer mapbuf-importer seq 1 signalled
\tAttached Devices:
\tmapbuf-importer
\t0000:02:00.0
Total 2 devices attached

00004096\t00000002\t00080007\t00000001\tmapbuf\t00000012\tmapbuf pages
\tAttached Devices:
\t0000:05:00.0
Total 1 devices attached

00004096\t00000002\t00080007\t00000001\tsystem\t00000013\t<none>
\tAttached Devices:
\tvgem
Total 1 devices attached


Total 3 objects, 16384 bytes
";

    #[test]
    fn importers_of_memory_that_goes_are_found() {
        let found: Vec<_> = find(LISTED).into_iter().collect();
        assert_eq!(found, ["0000:02:00.0", "mapbuf-importer"]);
        assert!(find("").is_empty());
    }
}
