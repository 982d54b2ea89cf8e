//! What is looked at, in the order in which one thing needs the other.

use super::{
    options::{self, NEEDED},
    Finding, State, DEVICE, DIAGNOSE,
};
use crate::{
    diagnose::{unseen_here, Iomem, Log},
    module,
    pci::{Fault, Function, System, MAPBUF},
};
use mapbuf::{
    abi::{
        explain::Bytes,
        series::{series, SERIES},
        NAMED_DIR, SYSTEM_NODE,
    },
    errno_name, Access, Device, DriverInfo, Error, RegionInfo, RegionType,
};
use std::{fs, os::unix::fs::MetadataExt, path::Path};

/// Everything.
pub fn all() -> Vec<Finding> {
    let mut findings = Vec::new();
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy().into_owned();
    findings.push(kernel(&release, &name.machine().to_string_lossy()));
    findings.extend(kernel_options(&release));
    findings.push(lockdown());
    let loaded = module::is_loaded();
    findings.push(driver(loaded, is_supported(&release)));
    if loaded {
        findings.push(node());
        if let Ok(device) = Device::open_with(SYSTEM_NODE, Access::ReadOnly) {
            if let Ok(info) = device.query() {
                findings.extend(limits(&info));
            }
            findings.extend(regions(&device));
        }
        findings.push(names());
    }
    findings.push(iommu());
    findings.push(huge_pages());
    findings.push(free_memory());
    findings.push(diagnose());
    findings
}

/// Whether the driver is written for this kernel.
fn is_supported(release: &str) -> bool {
    series(release).is_some_and(|series| SERIES.contains(&series))
}

fn kernel(release: &str, machine: &str) -> Finding {
    let subject = "kernel";
    let found = format!("{release}, {machine}");
    match (is_supported(release), machine) {
        (true, "x86_64") => Finding::well(subject, found),
        (true, _) => Finding::new(
            subject,
            State::Lacking,
            format!("{found}: mapbuf was tested only on x86_64"),
            "run cargo xtask test on it, and report the result",
        ),
        _ => {
            let names = SERIES.join(" and ");
            let any = SERIES.join(" or ");
            Finding::new(
                subject,
                State::Wrong,
                format!("{found}: the driver supports {names}; other series have other interfaces"),
                format!(
                    "boot a kernel {any} with Rust support (Debian's backports have one), or try in a virtual machine: \
                     cargo xtask vm"
                ),
            )
        }
    }
}

fn kernel_options(release: &str) -> Vec<Finding> {
    let subject = "options";
    let Some((config, place)) = options::read(release) else {
        return vec![Finding::new(
            subject,
            State::Note,
            "the kernel's options were not found",
            format!("install /boot/config-{release}, or modprobe configs"),
        )];
    };
    let mut findings: Vec<_> = NEEDED
        .iter()
        .filter(|option| !options::is_on(&config, option.name))
        .map(|option| {
            Finding::new(
                subject,
                if option.vital {
                    State::Wrong
                } else {
                    State::Lacking
                },
                format!("CONFIG_{} is off: {}", option.name, option.without),
                "boot a kernel that has it",
            )
        })
        .collect();
    if findings.is_empty() {
        findings.push(Finding::well(
            subject,
            format!("all {} that matter are set ({place})", NEEDED.len()),
        ));
    }
    findings
}

fn lockdown() -> Finding {
    let subject = "lockdown";
    let text = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    let enforced = fs::read_to_string("/sys/module/module/parameters/sig_enforce")
        .is_ok_and(|text| text.trim() == "Y");
    let refused = if text.contains("[confidentiality]") {
        Some("unsigned modules and mapbuf diagnose are")
    } else {
        text.contains("[integrity]")
            .then_some("unsigned modules are")
    };
    if let Some(refused) = refused {
        Finding::new(
            subject,
            State::Lacking,
            format!("the kernel is locked down: {refused} refused"),
            "sign mapbuf.ko with an enrolled key (mokutil), or turn secure boot off",
        )
    } else if enforced {
        Finding::new(
            subject,
            State::Lacking,
            "only signed modules can be loaded (module.sig_enforce)",
            "sign mapbuf.ko with a key that the kernel knows",
        )
    } else {
        Finding::well(subject, "off; modules may be unsigned")
    }
}

fn driver(loaded: bool, supported: bool) -> Finding {
    let subject = "driver";
    if loaded {
        let references = module::references().unwrap_or(0);
        return Finding::well(
            subject,
            format!(
                "loaded, {references} references; {}",
                module::parameters().join(" ")
            ),
        );
    }
    match module::find(None) {
        Ok(path) => Finding::new(
            subject,
            State::Wrong,
            format!("not loaded; {} is there", path.display()),
            "mapbuf load (as root)",
        ),
        Err(_) if !supported => Finding::new(
            subject,
            State::Wrong,
            "not loaded, and it cannot be built for this kernel",
            "see the kernel's line above; mapbuf diagnose and mapbuf explain need no driver",
        ),
        Err(_) => Finding::new(
            subject,
            State::Wrong,
            "not loaded, and not installed for this kernel",
            "cargo xtask module --build running, then mapbuf load --module FILE",
        ),
    }
}

fn node() -> Finding {
    let subject = "node";
    let (mode, uid, gid) = match fs::metadata(SYSTEM_NODE) {
        Ok(node) => (node.mode() & 0o7777, node.uid(), node.gid()),
        Err(error) => {
            return Finding::new(
                subject,
                State::Wrong,
                format!("{SYSTEM_NODE}: {error}"),
                "is devtmpfs mounted on /dev? mount -t devtmpfs devtmpfs /dev",
            )
        }
    };
    let found = format!("{SYSTEM_NODE}, mode {mode:04o}, user {uid}, group {gid}");
    match Device::open_with(SYSTEM_NODE, Access::ReadWrite) {
        Ok(_) => Finding::well(subject, format!("{found}; you can open it")),
        Err(Error::Open { errno, .. }) => Finding::new(
            subject,
            State::Wrong,
            format!(
                "{found}; opening it for writing: {}",
                errno_name(errno).unwrap_or("an error")
            ),
            "become a member of its group, install dist/60-mapbuf.rules, or run as root",
        ),
        Err(error) => Finding::new(
            subject,
            State::Wrong,
            error.to_string(),
            "load this version's module",
        ),
    }
}

fn limits(info: &DriverInfo) -> Vec<Finding> {
    let mut findings = Vec::new();
    let used = [
        ("all users", "max_bytes", info.used_bytes, info.max_bytes),
        (
            "you",
            "max_bytes_per_user",
            info.used_bytes_by_user,
            info.max_bytes_per_user,
        ),
    ];
    for (whose, parameter, used, limit) in used {
        let found = format!("{whose}: {} of {}", Bytes(used), Bytes(limit));
        findings.push(if used >= limit / 10 * 9 {
            Finding::new(
                "limits",
                State::Lacking,
                format!("{found}: nearly all"),
                format!("mapbuf list, mapbuf remove; or raise /sys/module/mapbuf/parameters/{parameter}"),
            )
        } else {
            Finding::well("limits", found)
        });
    }
    findings.push(if info.has_cma() {
        Finding::well(
            "CMA",
            "there is an area for large contiguous and coherent buffers",
        )
    } else {
        Finding::new(
            "CMA",
            State::Note,
            "no area: coherent buffers are limited to 4 MiB, and larger contiguous ones depend on luck",
            "if you need them, boot with cma=256M",
        )
    });
    findings
}

fn regions(device: &Device) -> Vec<Finding> {
    let Ok(regions) = device.regions() else {
        return Vec::new();
    };
    let iomem = Iomem::read();
    regions
        .iter()
        .map(|region| of_region(region, &iomem))
        .collect()
}

fn of_region(region: &RegionInfo, iomem: &Iomem) -> Finding {
    let subject = "region";
    let class = match region.class {
        RegionType::Mmio => "device",
        _ => "memory",
    };
    let mut found = format!("{}: {} of {class}", region.name, Bytes(region.bytes));
    if let Some(start) = region.start {
        found += &format!(" at {start:#x}");
        if let Some(name) = iomem.name(start) {
            found += &format!(" (/proc/iomem: {name})");
        }
    }
    if let Some(refusal) = &region.refusal {
        return Finding::new(
            subject,
            State::Lacking,
            format!("{found}: refused, {refusal}"),
            refusal.reason.text().remedy,
        );
    }
    found += &format!(", {}", region.state.name());
    if region.state.is_bad() {
        let next = format!(
            "see whether anything answers there (mapbuf probe --help), and compare {} with the device's documentation",
            region.name
        );
        Finding::new(subject, State::Lacking, found, next)
    } else {
        Finding::well(subject, found)
    }
}

fn names() -> Finding {
    let count = fs::read_dir(NAMED_DIR).map_or(0, |entries| entries.flatten().count());
    Finding::well("names", format!("{count} named buffers (mapbuf list)"))
}

fn iommu() -> Finding {
    let subject = "IOMMU";
    let count = fs::read_dir("/sys/class/iommu").map_or(0, |entries| entries.flatten().count());
    let groups =
        fs::read_dir("/sys/kernel/iommu_groups").map_or(0, |entries| entries.flatten().count());
    if count > 0 || groups > 0 {
        return Finding::well(
            subject,
            format!(
                "{count} units, {groups} groups: a device in a group has DMA addresses of its own; those of buffers of \
                 /dev/mapbuf/system are physical ones, which such a device cannot use"
            ),
        );
    }
    Finding::new(
        subject,
        State::Note,
        "none: devices reach all of memory, and a DMA address is the physical address",
        "if devices or their users are not trusted, enable it in the firmware, and boot with intel_iommu=on or amd_iommu=on",
    )
}

/// Whether a device can be bound, or why it cannot.
pub fn device(function: &Function) -> Vec<Finding> {
    let subject = DEVICE;
    let name = format!(
        "{} ({} {})",
        function.address,
        function.class_name(),
        function.ids()
    );
    let mut findings = Vec::new();
    for obstacle in function.obstacles(MAPBUF) {
        let found = format!("{name} cannot be bound: {}", obstacle.what);
        findings.push(Finding::new(subject, State::Wrong, found, obstacle.next));
    }
    if findings.is_empty() && !System::default().has_driver(MAPBUF) {
        let found = format!("{name} cannot be bound: the kernel has no PCI driver {MAPBUF}");
        findings.push(Finding::new(subject, State::Wrong, found, "mapbuf load"));
    }
    if findings.is_empty() {
        let driver = function.driver();
        findings.push(match driver.as_deref() {
            Some(MAPBUF) => Finding::well(subject, format!("{name} is bound")),
            _ if function.group().is_none() => Finding::new(
                subject,
                State::Note,
                format!("{name} can be bound; no IOMMU confines it, so opening its node needs CAP_SYS_RAWIO"),
                format!("mapbuf bind {}", function.address),
            ),
            _ => Finding::new(
                subject,
                State::Note,
                format!("{name} can be bound"),
                format!("mapbuf bind {}", function.address),
            ),
        });
    }
    let log = Log::whole();
    let faults = log.lines.iter().filter_map(|line| Fault::of(&line.text));
    let mut faults: Vec<_> = faults
        .filter(|fault| fault.device == function.address)
        .collect();
    if let Some(last) = faults.pop() {
        let more = match faults.len() {
            0 => String::new(),
            count => format!(", and {count} times before"),
        };
        findings.push(Finding::new(
            subject,
            State::Lacking,
            format!("{last}{more}"),
            "give the device the addresses of memory allocated for it (SEGMENTS); that memory must stay as long as the device can use it",
        ));
    }
    let wanted = function.wanted_driver();
    if let (Some(wanted), false) = (wanted, function.driver().is_some()) {
        findings.push(Finding::new(
            subject,
            State::Lacking,
            format!("{name} has no driver: driver_override reserves it for {wanted}"),
            format!("load {wanted}, or clear the override: echo > /sys/bus/pci/devices/{}/driver_override", function.address),
        ));
    }
    findings
}

fn huge_pages() -> Finding {
    let subject = "huge pages";
    let folder = Path::new("/sys/kernel/mm/transparent_hugepage");
    let size = fs::read_to_string(folder.join("hpage_pmd_size"))
        .ok()
        .and_then(|text| text.trim().parse::<u64>().ok());
    match size {
        Some(size) => Finding::well(
            subject,
            format!(
                "entries of {} where a buffer's memory and its address in the program are both aligned to that (mmap \
                 of mapbuf's nodes sees to it)",
                Bytes(size)
            ),
        ),
        None => Finding::new(
            subject,
            State::Lacking,
            "none: every page has its own entry",
            "boot a kernel with CONFIG_TRANSPARENT_HUGEPAGE",
        ),
    }
}

/// Whether runs of the page allocator's large sizes are left.
fn free_memory() -> Finding {
    let subject = "memory";
    let text = fs::read_to_string("/proc/buddyinfo").unwrap_or_default();
    // Orders from 0; 2 MiB is order 9 with pages of 4 KiB.
    let large: u64 = text
        .lines()
        .filter_map(|line| line.split_once("zone"))
        .map(|(_, rest)| {
            let counts = rest.split_whitespace().skip(1);
            counts
                .skip(9)
                .zip(0..)
                .filter_map(|(count, order): (&str, u32)| Some(count.parse::<u64>().ok()? << order))
                .sum::<u64>()
        })
        .sum();
    if large > 0 {
        return Finding::well(
            subject,
            format!("{} free in runs of at least 2 MiB", Bytes(large << 21)),
        );
    }
    Finding::new(
        subject,
        State::Note,
        "there is no free run of 2 MiB",
        "as root: echo 1 > /proc/sys/vm/compact_memory",
    )
}

fn diagnose() -> Finding {
    // Asked by doing: that the file is there says nothing of what it takes.
    match unseen_here() {
        Ok(unseen) if unseen.is_empty() => Finding::well(DIAGNOSE, "its probes can be set"),
        Ok(unseen) => Finding::new(
            DIAGNOSE,
            State::Lacking,
            format!(
                "some of its probes cannot be set: it cannot see {}",
                unseen.join("; ")
            ),
            "its reports say so; with a newer kernel, or one with CONFIG_DEBUG_INFO_BTF, it sees more",
        ),
        Err(problem) => Finding::new(
            DIAGNOSE,
            State::Wrong,
            format!("its probes cannot be set: {problem}"),
            "run it as root; mount -t tracefs tracefs /sys/kernel/tracing",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_of_the_list_are_well_and_no_others() {
        for name in SERIES {
            let release = format!("{name}.4+deb13-amd64");
            assert_eq!(kernel(&release, "x86_64").state, State::Well);
            assert_eq!(kernel(&release, "aarch64").state, State::Lacking);
            // Matched on the dot: 7.20 is not 7.2.
            let longer = format!("{name}0.1");
            assert_eq!(kernel(&longer, "x86_64").state, State::Wrong);
        }
        let finding = kernel("6.12.1", "x86_64");
        assert_eq!(finding.state, State::Wrong);
        assert!(SERIES.iter().all(|name| finding.found.contains(name)));
    }
}
