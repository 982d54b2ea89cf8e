use super::*;
use std::os::unix::fs::symlink;

/// A machine in a folder.
struct Machine {
    folder: PathBuf,
}

impl Machine {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("mapbuf-pci-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        for part in ["sys/bus/pci/devices", "sys/bus/pci/drivers", "proc/self"] {
            fs::create_dir_all(folder.join(part)).unwrap();
        }
        Self { folder }
    }

    fn system(&self) -> System {
        System {
            sys: self.folder.join("sys"),
            proc: self.folder.join("proc"),
        }
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn link(&self, from: &str, to: &str) {
        let path = self.folder.join(from);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(self.folder.join(to), path).unwrap();
    }

    fn device(&self, address: &str, class: &str) {
        let own = format!("sys/devices/pci0000:00/{address}");
        self.file(&format!("{own}/vendor"), "0x1b36\n");
        self.file(&format!("{own}/device"), "0x0010\n");
        self.file(&format!("{own}/class"), class);
        self.link(&format!("sys/bus/pci/devices/{address}"), &own);
    }

    /// Something of a class below a device.
    fn member(&self, address: &str, class: &str, name: &str, file: &str, text: &str) {
        let own = format!("sys/devices/pci0000:00/{address}/{class}/{name}");
        self.file(&format!("{own}/{file}"), text);
        self.link(&format!("sys/class/{class}/{name}"), &own);
    }

    fn function(&self, address: &str) -> Function {
        self.system().function(&address.parse().unwrap()).unwrap()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn addresses_are_read() {
    for (text, whole) in [
        ("00:04.0", "0000:00:04.0"),
        ("0000:0A:1f.7", "0000:0a:1f.7"),
        ("10000:e0:00.0", "10000:e0:00.0"),
    ] {
        assert_eq!(text.parse::<Address>().unwrap().to_string(), whole);
    }
    for wrong in [
        "",
        "nvme",
        "00:04",
        "00:04.8",
        "0000:00:4.0",
        "../..:00.0",
        "0000:00:04.0/x",
    ] {
        assert!(wrong.parse::<Address>().is_err(), "{wrong}");
    }
}

#[test]
fn what_the_system_uses_is_found() {
    let machine = Machine::new("uses");
    let (disk, net) = ("0000:01:00.0", "0000:02:00.0");
    machine.device(disk, "0x010802\n");
    machine.device(net, "0x020000\n");
    let function = machine.function(disk);
    machine.member(disk, "block", "nvme0n1", "dev", "259:0\n");
    machine.member(disk, "block", "nvme0n1p1", "dev", "259:1\n");
    assert_eq!(function.uses(), []);
    assert_eq!(function.obstacles("mapbuf"), []);

    machine.file(
        "proc/self/mountinfo",
        "22 1 259:1 / /a\\040disk rw,relatime shared:1 - ext4 /dev/nvme0n1p1 rw\n23 1 0:5 / /dev rw - devtmpfs x rw\n",
    );
    machine.file(
        "proc/swaps",
        "Filename Type Size\n/dev/nvme0n1 partition 1 0 -2\n",
    );
    let said: Vec<_> = function
        .obstacles("mapbuf")
        .into_iter()
        .map(|found| found.next)
        .collect();
    assert_eq!(said, ["umount /a disk", "swapoff /dev/nvme0n1"]);

    // A volume on it, and that is mounted.
    machine.file(
        "proc/self/mountinfo",
        "22 1 253:0 / /volume rw - ext4 x rw\n",
    );
    machine.file("proc/swaps", "");
    machine.file("sys/devices/virtual/block/dm-0/dev", "253:0\n");
    machine.link("sys/class/block/dm-0", "sys/devices/virtual/block/dm-0");
    machine.file("sys/class/block/nvme0n1p1/holders/dm-0/x", "");
    let is_volume = |found: &Use| matches!(found, Use::Mounted { disk, .. } if disk == "dm-0");
    assert!(
        function.uses().iter().any(is_volume),
        "{:?}",
        function.uses()
    );
    machine.file("proc/self/mountinfo", "");
    assert!(matches!(&function.uses()[..], [Use::Part { of, .. }] if of == "dm-0"));

    machine.member(net, "net", "eth0", "flags", "0x1003\n");
    let function = machine.function(net);
    assert_eq!(function.uses()[0].remedy(), "ip link set eth0 down");
    machine.file("sys/class/net/eth0/flags", "0x1002\n");
    assert_eq!(function.uses(), []);
    machine.member(net, "tty", "hvc0", "dev", "229:0\n");
    machine.file(
        "proc/consoles",
        "hvc0                 -W- (EC p a)  229:0\n",
    );
    assert!(matches!(&function.uses()[..], [Use::Console { terminal }] if terminal == "hvc0"));
    machine.file(
        "proc/consoles",
        "ttyS0                -W- (EC p a)    4:64\n",
    );
    machine.file(&format!("sys/devices/pci0000:00/{net}/boot_vga"), "1\n");
    assert!(matches!(&function.uses()[..], [Use::Screen { .. }]));
}

#[test]
fn neighbours_in_other_hands_are_named() {
    let machine = Machine::new("group");
    for address in ["0000:01:00.0", "0000:01:00.1", "0000:00:01.0"] {
        machine.device(address, "0x010802\n");
        machine.link(
            &format!("sys/kernel/iommu_groups/7/devices/{address}"),
            &format!("sys/bus/pci/devices/{address}"),
        );
        let link = format!("sys/devices/pci0000:00/{address}/iommu_group");
        machine.link(&link, "sys/kernel/iommu_groups/7");
    }
    let function = machine.function("0000:01:00.0");
    assert_eq!(function.group(), Some(7));
    assert_eq!(function.obstacles("mapbuf"), []);
    for (address, driver) in [("0000:01:00.1", "e1000e"), ("0000:00:01.0", "pcieport")] {
        fs::create_dir_all(machine.folder.join("sys/bus/pci/drivers").join(driver)).unwrap();
        let link = format!("sys/devices/pci0000:00/{address}/driver");
        machine.link(&link, &format!("sys/bus/pci/drivers/{driver}"));
    }
    let found = function.obstacles("mapbuf");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].what.contains("0000:01:00.1") && found[0].what.contains("e1000e"));
}

#[test]
fn bridges_stay() {
    let machine = Machine::new("bridge");
    machine.device("0000:00:01.0", "0x060400\n");
    let found = machine.function("0000:00:01.0").obstacles("mapbuf");
    assert!(found[0].what.contains("bridge"));
}

#[test]
fn bars_are_listed() {
    let machine = Machine::new("bars");
    machine.device("0000:01:00.0", "0x010802\n");
    machine.file(
        "sys/devices/pci0000:00/0000:01:00.0/resource",
        "0x00000000fe000000 0x00000000fe003fff 0x0000000000140204\n\
         0x0000000000000000 0x0000000000000000 0x0000000000000000\n\
         0x0000000000006000 0x000000000000603f 0x0000000000040101\n\
         0x0000000800000000 0x00000008000fffff 0x000000000014220c\n\
         0x0 0x0 0x0\n0x0 0x0 0x0\n0x00000000fe010000 0x00000000fe01ffff 0x0000000000046200\n",
    );
    let bar = |number, bytes, memory, prefetchable| Bar {
        number,
        bytes,
        memory,
        prefetchable,
    };
    assert_eq!(
        machine.function("0000:01:00.0").bars(),
        [
            bar(0, 16384, true, false),
            bar(2, 64, false, false),
            bar(3, 1 << 20, true, true)
        ]
    );
}
