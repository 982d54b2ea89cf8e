//! How the guest is booted: some behaviour shows itself under certain kernel parameters only.

use std::time::Duration;

/// The environment variable that says how many times longer things may take than in the stock kernel.
pub const PATIENCE: &str = "MAPBUF_PATIENCE";

/// How many times longer things may take here than in the stock kernel.
pub fn patience() -> u32 {
    std::env::var(PATIENCE)
        .ok()
        .and_then(|times| times.parse().ok())
        .unwrap_or(1)
}

/// The environment variable that says how many rounds a test has that goes on in rounds, instead of a few.
pub const ROUNDS: &str = "MAPBUF_ROUNDS";

/// How many rounds were asked for, if any were.
pub fn rounds() -> Option<u32> {
    let text = std::env::var(ROUNDS).ok()?;
    text.parse().ok()
}

/// What each round may take, beside what a test may take anyway.
pub const PER_ROUND: Duration = Duration::from_secs(1);

/// One way to boot the guest. Each is one boot and one run of `mapbuf-test --profile NAME`.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// Its name, on command lines and in the results.
    pub name: &'static str,
    /// What it is there to show.
    pub purpose: &'static str,
    /// Kernel parameters, beside those that every boot has.
    pub append: &'static [&'static str],
    /// Memory of the machine in MiB.
    pub memory_mib: u32,
    /// Its processors.
    pub processors: u32,
    /// Modules of the kernel's own that are loaded before, with their parameters.
    pub modules: &'static [(&'static str, &'static str)],
    /// Modules of the tests' own that are loaded after `mapbuf.ko`: `tests/NAME` has the sources of `mapbuf_NAME.ko`.
    pub test_modules: &'static [&'static str],
    /// Parameters of `mapbuf.ko`, as for `insmod`.
    pub module_parameters: &'static str,
    /// Arguments for QEMU, beside those that every boot has.
    pub qemu_args: &'static [&'static str],
    /// PCI devices, as for `cargo xtask vm --device`.
    pub devices: &'static [&'static str],
    /// Whether an IOMMU stands before them.
    pub iommu: bool,
    /// The source of a device tree in the project's folder, for a kernel that has `CONFIG_OF`.
    pub device_tree: Option<&'static str>,
    /// For how many seconds of its own time the guest may be busy without a result: longer than any test may take.
    pub quiet_seconds: u64,
}

/// Two cameras with a screen each. The first takes contiguous memory by its DMA address (`vb2_dma_contig_memops`), the
/// second any by the kernel's address (`vb2_vmalloc_memops`). Input 0 is a webcam, input 1 and the output are HDMI.
const VIVID: (&str, &str) = (
    "vivid",
    "n_devs=2 allocators=1,0 node_types=0x101,0x101 vid_cap_nr=0,2 vid_out_nr=1,3 \
     num_inputs=2,2 input_types=0xc,0xc num_outputs=1,1 output_types=1,1",
);

/// One with a DMA engine that reaches 28 bits, an empty disk, memory that the host shares, one with ports, a network card, and a
/// disk that the kernel keeps.
const DEVICES: &[&str] = &[
    "edu",
    "nvme",
    "ivshmem-plain",
    "pci-testdev",
    "e1000",
    "virtio-blk-pci",
    "nvme,id=spare,serial=spare,absent=on",
];

/// Every profile, in the order in which they are run.
pub const PROFILES: &[Profile] = &[
    Profile {
        name: "stock",
        purpose: "every semantic, as a user's machine boots",
        append: &[],
        memory_mib: 3072,
        processors: 2,
        modules: &[],
        module_parameters: "",
        // An empty disk, for direct input and output; what is written to it is gone with the machine.
        qemu_args: &[
            "-drive",
            "if=none,id=disk,snapshot=on,file.driver=null-co,file.size=67108864,file.read-zeroes=on",
            "-device",
            "nvme,drive=disk,serial=mapbuf",
        ],
        quiet_seconds: 300,
        ..Profile::PLAIN
    },
    Profile {
        name: "zeroing",
        purpose: "the kernel does not zero pages by itself, so a driver that forgets to is seen",
        append: &["init_on_alloc=0", "init_on_free=0"],
        // Little memory, so that a freed page comes back soon.
        memory_mib: 384,
        processors: 1,
        modules: &[],
        module_parameters: "",
        qemu_args: &[],
        quiet_seconds: 300,
        ..Profile::PLAIN
    },
    Profile {
        name: "reload",
        purpose: "the module comes and goes",
        append: &[],
        memory_mib: 512,
        processors: 2,
        modules: &[],
        module_parameters: "",
        qemu_args: &[],
        quiet_seconds: 300,
        ..Profile::PLAIN
    },
    Profile {
        name: "cma",
        purpose:
            "contiguous and coherent buffers of 1 GiB, and memory that has no pages of its own",
        // A driver that forgets to zero what it takes from there is seen. Where it lies, a gibibyte fits one entry.
        append: &["cma=1200M@4G", "init_on_alloc=0", "init_on_free=0"],
        memory_mib: 4096,
        processors: 2,
        modules: &[],
        module_parameters: "",
        qemu_args: &[],
        quiet_seconds: 300,
        ..Profile::PLAIN
    },
    Profile {
        name: "regions",
        purpose:
            "reserved physical ranges: real ones, holes, devices, and some that are somebody else's",
        append: &["memmap=16M$0x30000000", "memmap=1G$0x100000000"],
        // So much that there is a gibibyte at 4 GiB to set aside.
        memory_mib: 4096,
        processors: 2,
        // At 0x90000000 and beyond there is nothing in this machine; from 0xc0000000 on the firmware makes all
        // uncached.
        modules: &[],
        module_parameters: "regions=ring:0x30000000:1M:ram,\
            uc:0x30100000:1M:ram:uc:probe,wc:0x30200000:1M:ram:wc:probe,\
            big:0x30800000:8M:ram:probe,plain:0x30400000:64K:ram,\
            hole:0x90000000:64K:ram:probe,trusted:0x90100000:64K:ram:trust,\
            isram:0x10000000:64K:ram,twice:0x30000000:4K:ram,ring:0x30500000:4K:ram,\
            dev:0xa0000000:4K:mmio,gib:0x100000000:1G:ram,\
            mtrr:0xd0000000:64K:ram",
        // A device whose registers a test moves to the region `dev`.
        qemu_args: &["-device", "e1000,romfile="],
        quiet_seconds: 300,
        ..Profile::PLAIN
    },
    Profile {
        name: "numa",
        purpose: "two NUMA nodes, the processors on the first and a device on the second",
        append: &[],
        memory_mib: 768,
        processors: 2,
        modules: &[],
        module_parameters: "",
        qemu_args: &[
            "-object",
            "memory-backend-ram,id=near,size=384M",
            "-object",
            "memory-backend-ram,id=far,size=384M",
            "-numa",
            "node,nodeid=0,cpus=0-1,memdev=near",
            "-numa",
            "node,nodeid=1,memdev=far",
            "-device",
            "pxb-pcie,id=far-bus,bus=pcie.0,bus_nr=64,numa_node=1",
            "-device",
            "pcie-root-port,id=far-port,bus=far-bus,chassis=64,slot=1",
            "-device",
            "edu,bus=far-port",
        ],
        quiet_seconds: 300,
        ..Profile::PLAIN
    },
    Profile {
        name: "peers",
        purpose: "programs that others wrote: the kernel's own selftests, on nodes of each kind",
        // Outside of the CMA area no run of frames is as long as the buffer that is to come from there.
        append: &["cma=192M", "memmap=16M$0x8000000"],
        memory_mib: 512,
        processors: 2,
        modules: &[],
        module_parameters: "dma_heaps=1 regions=ram:0x8000000:1M:ram,\
            uc:0x8100000:1M:ram:uc,wc:0x8200000:1M:ram:wc,dev:0xa0000000:64K:mmio",
        qemu_args: &[],
        quiet_seconds: 300,
        ..Profile::PLAIN
    },
    Profile {
        name: "devices",
        purpose: "PCI devices that programs drive, without an IOMMU",
        // For a buffer of 1 GiB: half of it may be allocated.
        memory_mib: 2560,
        devices: DEVICES,
        modules: &[("virtio_blk", "")],
        test_modules: &["importer"],
        ..Profile::PLAIN
    },
    Profile {
        name: "devices-iommu",
        purpose: "the same behind an IOMMU, and two devices that it cannot tell apart",
        memory_mib: 2560,
        devices: DEVICES,
        modules: &[("virtio_blk", "")],
        test_modules: &["importer"],
        qemu_args: &[
            "-device",
            "pcie-pci-bridge,id=shared",
            "-device",
            "virtio-rng-pci,bus=shared,addr=1,disable-legacy=on,disable-modern=off",
            "-device",
            "pci-testdev,bus=shared,addr=2",
        ],
        iommu: true,
        ..Profile::PLAIN
    },
    Profile {
        name: "devices-scalable",
        purpose: "an IOMMU in scalable mode, whose tables the host walks",
        append: &["intel_iommu=on,sm_on"],
        memory_mib: 1024,
        devices: &["edu", "e1000"],
        test_modules: &["importer"],
        qemu_args: &["-global", "intel-iommu.x-scalable-mode=on"],
        iommu: true,
        ..Profile::PLAIN
    },
    Profile {
        name: "vfio",
        purpose: "VFIO, which the driver for NVMe is compared with",
        modules: &[("vfio_iommu_type1", ""), ("vfio-pci", "")],
        devices: DEVICES,
        iommu: true,
        ..Profile::PLAIN
    },
    Profile {
        name: "races",
        purpose:
            "each pair of operations at once, in a module that waits where it is most inconvenient",
        append: &[],
        memory_mib: 1024,
        processors: 4,
        modules: &[],
        module_parameters: "seam_us=60",
        qemu_args: &[],
        devices: &["edu"],
        test_modules: &["importer"],
        quiet_seconds: 300,
        ..Profile::PLAIN
    },
    Profile {
        name: "tree",
        purpose: "a device tree, which describes devices and their memory",
        append: &["memmap=2M$0x30000000"],
        memory_mib: 1024,
        device_tree: Some("examples/device-tree/buffers.dts"),
        ..Profile::PLAIN
    },
];

impl Profile {
    /// One that boots as any machine does, without a name.
    pub const PLAIN: Self = Self {
        name: "",
        purpose: "",
        append: &[],
        memory_mib: 512,
        processors: 2,
        modules: &[],
        test_modules: &[],
        module_parameters: "",
        qemu_args: &[],
        devices: &[],
        iommu: false,
        device_tree: None,
        quiet_seconds: 300,
    };

    /// Whether it takes a module that waits at its seams (`driver/src/sys/seam.rs`).
    pub fn seams(&self) -> bool {
        self.module_parameters.contains("seam_us=")
    }

    /// Whether its memory is laid out node by node, so that none can be added for a kernel that needs more.
    pub fn has_nodes(&self) -> bool {
        self.qemu_args.contains(&"-numa")
    }
}

/// When memory fails in it, the interpreter of ACPI's methods goes on with what it has freed (`acpi_ut_update_object_reference`
/// of `drivers/acpi/acpica/utdelete.c`). Without it PCI is found in the old way, and devices have no NUMA node, so that the
/// kernel probes them in the task that binds them (`pci_call_probe` of `drivers/pci/pci-driver.c`), where faults are injected.
const NO_ACPI: &str = "pci=noacpi";

/// Profiles for a kernel that was built to find mistakes.
pub const DEBUG_PROFILES: &[Profile] = &[
    Profile {
        name: "kunit",
        purpose: "the module's own tests inside the kernel, which run when it is loaded",
        append: &["kunit.enable=1", "kunit.autorun=1"],
        memory_mib: 512,
        processors: 1,
        modules: &[],
        module_parameters: "",
        qemu_args: &[],
        quiet_seconds: 300,
        ..Profile::PLAIN
    },
    Profile {
        name: "faults",
        purpose: "every allocation fails once; needs a kernel with fault injection",
        // The checks of DMA switch themselves off when an allocation of theirs fails, and say so as a failure.
        append: &["memmap=1M$0x30000000", "dma_debug=off"],
        memory_mib: 2048,
        processors: 2,
        modules: &[("vgem", "")],
        module_parameters: "",
        qemu_args: &[],
        quiet_seconds: 1000,
        ..Profile::PLAIN
    },
    Profile {
        name: "faults-binding",
        purpose: "the same while a PCI device is bound and unbound",
        append: &["dma_debug=off", NO_ACPI],
        devices: &["edu"],
        test_modules: &["importer"],
        quiet_seconds: 1000,
        ..Profile::PLAIN
    },
    Profile {
        name: "faults-devices",
        purpose: "the same while one is driven",
        append: &["dma_debug=off"],
        devices: &["edu"],
        test_modules: &["importer"],
        quiet_seconds: 1000,
        ..Profile::PLAIN
    },
    Profile {
        name: "faults-devices-iommu",
        purpose: "the same behind an IOMMU, whose tables need memory too",
        append: &["dma_debug=off"],
        devices: &["edu"],
        test_modules: &["importer"],
        iommu: true,
        quiet_seconds: 1000,
        ..Profile::PLAIN
    },
];

/// With drivers loaded that take dma-bufs.
pub const IMPORTERS: Profile = Profile {
    name: "importers",
    purpose: "drivers that others wrote take buffers, those of a device behind an IOMMU too",
    append: &["memmap=1M$0x30000000"],
    // Below 4 GiB: a device of 32 bits would get copies of what lies above.
    memory_mib: 1024,
    processors: 2,
    modules: &[VIVID],
    module_parameters: "regions=ring:0x30000000:1M:ram",
    qemu_args: &[],
    devices: &["edu"],
    iommu: true,
    quiet_seconds: 300,
    ..Profile::PLAIN
};

/// The same in a kernel that has graphics cards: `vgem` attaches to a dma-buf and does not map it.
pub const IMPORTERS_AND_CARD: Profile = Profile {
    name: "importers-and-card",
    modules: &[VIVID, ("vgem", "")],
    ..IMPORTERS
};

/// The profile with this name.
pub fn find(name: &str) -> Option<&'static Profile> {
    PROFILES
        .iter()
        .chain(DEBUG_PROFILES)
        .chain([&IMPORTERS, &IMPORTERS_AND_CARD])
        .find(|profile| profile.name == name)
}
