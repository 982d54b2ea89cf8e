//! Devices for the guest: any PCI device that QEMU has, on a root port of its own, so that it can be pulled out, and that
//! an IOMMU keeps it apart from all others.

use anyhow::{bail, Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::NamedTempFile;

/// How long an image is that is made for a device.
const IMAGE_BYTES: u64 = 64 << 20;

/// QEMU's arguments for an IOMMU. It remaps interrupts too: VFIO takes no device without that.
const IOMMU: [&str; 4] = [
    "-machine",
    "kernel-irqchip=split",
    "-device",
    "intel-iommu,intremap=on",
];
/// What the kernel is told, so that it uses the IOMMU.
pub const IOMMU_APPEND: &str = "intel_iommu=on";

/// One device.
#[derive(Clone, Debug)]
pub struct Device {
    /// How it is named, to QEMU and in what the guest asks of the host.
    pub id: String,
    /// QEMU's name of the model.
    model: String,
    /// QEMU's options of it.
    options: Vec<String>,
    /// A file with its bytes: the disk, or the memory that it shares.
    image: Option<Arc<Image>>,
    /// The number of its root port.
    port: usize,
    /// Whether it is there from the beginning; else it waits to be put in.
    present: bool,
}

/// A file with a device's bytes.
#[derive(Debug)]
enum Image {
    /// Gone when nobody uses it any more.
    Own(NamedTempFile),
    /// Somebody's, which stays.
    Named(PathBuf),
}

impl Image {
    fn path(&self) -> &Path {
        match self {
            Self::Own(file) => file.path(),
            Self::Named(path) => path,
        }
    }
}

/// Reads `MODEL[,OPTION=VALUE]...`, as QEMU's `-device` takes them. `image=FILE` names a disk's raw image, or the memory
/// of an `ivshmem-plain`; without it there is an empty one of 64 MiB, gone with the machine. With `absent=on` the device is
/// not there until it is put in.
///
/// # Errors
///
/// An image that is not there, or that nobody has asked for; a device that QEMU's option `bus` puts elsewhere.
pub fn parse(descriptions: &[impl AsRef<str>]) -> Result<Vec<Device>> {
    let mut devices: Vec<Device> = Vec::new();
    for description in descriptions {
        let description = description.as_ref();
        let mut words = description.split(',');
        let model = words.next().unwrap_or_default().to_owned();
        if model.is_empty() {
            bail!("`{description}` does not name a device; `qemu-system-x86_64 -device help` lists them");
        }
        let (mut named, mut id, mut options, mut present) = (None, None, Vec::new(), true);
        for word in words {
            match word.split_once('=') {
                Some(("image", path)) => named = Some(PathBuf::from(path)),
                Some(("id", value)) => id = Some(value.to_owned()),
                Some(("absent", value)) => present = value != "on",
                Some(("bus" | "addr", _)) => {
                    bail!("{model}: the kit gives each device its own bus; leave out `{word}`")
                }
                _ => options.push(word.to_owned()),
            }
        }
        let image = if has_image(&model) {
            Some(Arc::new(image(&model, named)?))
        } else if named.is_some() {
            bail!("{model} has no image; nvme, virtio-blk-pci and ivshmem-plain have");
        } else {
            None
        };
        let same = devices.iter().filter(|other| other.model == model).count();
        let usual = match same {
            0 => model.clone(),
            _ => format!("{model}{}", same + 1),
        };
        let id = id.unwrap_or(usual);
        if devices.iter().any(|other| other.id == id) {
            bail!("two devices are named {id}");
        }
        devices.push(Device {
            id,
            model,
            options,
            image,
            port: devices.len() + 1,
            present,
        });
    }
    Ok(devices)
}

fn has_image(model: &str) -> bool {
    matches!(model, "nvme" | "virtio-blk-pci" | "ivshmem-plain")
}

fn image(model: &str, named: Option<PathBuf>) -> Result<Image> {
    Ok(match named {
        Some(path) => {
            let found = path.canonicalize();
            Image::Named(found.with_context(|| format!("{model}: no image {}", path.display()))?)
        }
        None => {
            let file = tempfile::Builder::new().prefix("mapbuf-image-").tempfile();
            let file = file.context("no temporary file can be made")?;
            file.as_file().set_len(IMAGE_BYTES)?;
            Image::Own(file)
        }
    })
}

impl Device {
    /// The file with its bytes, if it has one.
    pub fn image(&self) -> Option<&Path> {
        self.image.as_deref().map(Image::path)
    }

    /// The device itself, as `-device` and the monitor's `device_add` take it.
    pub fn description(&self) -> String {
        let mut words = vec![
            self.model.clone(),
            format!("id={}", self.id),
            format!("bus=port{}", self.port),
        ];
        match self.model.as_str() {
            "nvme" => {
                words.push(format!("drive=image{}", self.port));
                // It must have one.
                if !self.options.iter().any(|word| word.starts_with("serial=")) {
                    words.push("serial=mapbuf".into());
                }
            }
            "virtio-blk-pci" => words.push(format!("drive=image{}", self.port)),
            "ivshmem-plain" => words.push(format!("memdev=image{}", self.port)),
            _ => {}
        }
        words.extend(self.options.iter().cloned());
        words.join(",")
    }

    /// QEMU's arguments: what stands behind the device, its root port, and itself.
    fn arguments(&self) -> Result<Vec<String>> {
        let mut arguments = Vec::new();
        if let Some(path) = self.image() {
            let file = path.to_string_lossy().replace(',', ",,");
            let name = format!("image{}", self.port);
            arguments.extend(match self.model.as_str() {
                // One of `-drive` would be gone with the device.
                "nvme" | "virtio-blk-pci" => [
                    "-blockdev".into(),
                    format!("driver=raw,node-name={name},file.driver=file,file.filename={file}"),
                ],
                _ => {
                    let bytes = fs::metadata(path)?.len();
                    [
                        "-object".into(),
                        format!(
                            "memory-backend-file,id={name},size={bytes},share=on,mem-path={file}"
                        ),
                    ]
                }
            });
        }
        let number = self.port;
        arguments.extend([
            "-device".into(),
            format!("pcie-root-port,id=port{number},chassis={number},slot={number}"),
        ]);
        if self.present {
            arguments.extend(["-device".into(), self.description()]);
        }
        Ok(arguments)
    }
}

/// QEMU's arguments for an IOMMU, where there is to be one, and for the devices. They come before all other devices.
pub fn arguments(devices: &[Device], iommu: bool) -> Result<Vec<String>> {
    let mut arguments: Vec<String> = Vec::new();
    if iommu {
        arguments.extend(IOMMU.map(String::from));
    }
    for device in devices {
        arguments.extend(device.arguments()?);
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_port_of_its_own() {
        let devices = parse(&["edu,dma_mask=0xfffff", "edu", "pci-testdev,id=x"]).unwrap();
        let said: Vec<_> = devices.iter().map(Device::description).collect();
        assert_eq!(
            said,
            [
                "edu,id=edu,bus=port1,dma_mask=0xfffff",
                "edu,id=edu2,bus=port2",
                "pci-testdev,id=x,bus=port3"
            ]
        );
        assert!(devices.iter().all(|device| device.image().is_none()));
        let arguments = arguments(&devices, true).unwrap().join(" ");
        assert!(arguments.starts_with("-machine kernel-irqchip=split -device intel-iommu"));
        assert!(arguments.contains("pcie-root-port,id=port3,chassis=3,slot=3"));
    }

    #[test]
    fn a_disk_has_an_image() {
        let devices = parse(&["nvme", "nvme,serial=mine"]).unwrap();
        let image = devices[0].image().unwrap().to_owned();
        assert_eq!(fs::metadata(&image).unwrap().len(), IMAGE_BYTES);
        assert_eq!(
            devices[0].description(),
            "nvme,id=nvme,bus=port1,drive=image1,serial=mapbuf"
        );
        assert_eq!(
            devices[1].description(),
            "nvme,id=nvme2,bus=port2,drive=image2,serial=mine"
        );
        drop(devices);
        assert!(!image.exists());
    }

    #[test]
    fn an_absent_one_has_its_place_and_its_image() {
        let devices = parse(&["edu", "nvme,id=spare,absent=on"]).unwrap();
        let arguments = arguments(&devices, false).unwrap().join(" ");
        assert!(arguments.contains("pcie-root-port,id=port2"), "{arguments}");
        assert!(arguments.contains("node-name=image2"), "{arguments}");
        assert!(!arguments.contains("id=spare"), "{arguments}");
        assert_eq!(
            devices[1].description(),
            "nvme,id=spare,bus=port2,drive=image2,serial=mapbuf"
        );
    }

    #[test]
    fn mistakes_are_said() {
        for (wrong, why) in [
            ("", "does not name a device"),
            ("edu,bus=pcie.0", "leave out `bus=pcie.0`"),
            ("edu,image=/dev/null", "has no image"),
            ("nvme,image=/there/is/none", "no image"),
        ] {
            let error = format!("{:#}", parse(&[wrong]).unwrap_err());
            assert!(error.contains(why), "{error}");
        }
        assert!(parse(&["edu", "pci-testdev,id=edu"]).is_err());
    }
}
