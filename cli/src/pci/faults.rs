//! DMA that an IOMMU has stopped. The kernel counts it nowhere and tells no program of it: it is in the log alone, and not
//! every time (`dmar_fault` of `drivers/iommu/intel/dmar.c` and `amd_iommu_report_page_fault` of `drivers/iommu/amd/iommu.c`
//! leave lines out when there are many).

use super::Address;
use serde::Serialize;
use std::fmt;

/// A DMA of a device's that did not reach memory.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Fault {
    /// The device.
    pub device: Address,
    /// Where it was to go, in the device's addresses.
    pub address: String,
    /// `DMA Read` or `DMA Write`, where the log has it.
    pub what: Option<&'static str>,
}

impl Fault {
    /// What a line of the kernel's log says of one.
    pub fn of(line: &str) -> Option<Self> {
        Self::of_intel(line).or_else(|| Self::of_amd(line))
    }

    /// `DMAR: [DMA Write NO_PASID] Request device [0000:01:00.0] fault addr 0x123000 [fault reason 0x05] PTE ...`
    fn of_intel(line: &str) -> Option<Self> {
        let rest = line.split_once("DMAR: [")?.1;
        let (kind, rest) = rest.split_once("] Request device [")?;
        let (device, rest) = rest.split_once("] fault addr ")?;
        Some(Self {
            device: device.parse().ok()?,
            address: rest.split_whitespace().next()?.to_owned(),
            what: ["DMA Read", "DMA Write"]
                .into_iter()
                .find(|what| kind.starts_with(what)),
        })
    }

    /// `nvme 0000:01:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x000f address=0x123000 flags=0x0020]`
    fn of_amd(line: &str) -> Option<Self> {
        let (before, rest) = line.split_once(": AMD-Vi: Event logged [IO_PAGE_FAULT ")?;
        let address = rest
            .split_whitespace()
            .find_map(|word| word.strip_prefix("address="))?;
        Some(Self {
            device: before.rsplit(' ').next()?.parse().ok()?,
            address: address.trim_end_matches(']').to_owned(),
            what: None,
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = self.what.unwrap_or("DMA");
        write!(
            f,
            "the IOMMU blocked a {what} by {} at address {}",
            self.device, self.address
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_log_are_understood() {
        let intel = "DMAR: [DMA Write NO_PASID] Request device [0000:01:00.0] fault addr 0x123000 [fault reason 0x05] PTE \
                     Write access is not set";
        assert_eq!(
            Fault::of(intel).unwrap().to_string(),
            "the IOMMU blocked a DMA Write by 0000:01:00.0 at address 0x123000"
        );
        let amd = "nvme 0000:01:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x000f address=0xfffd1000 flags=0x0020]";
        let fault = Fault::of(amd).unwrap();
        assert_eq!(
            (fault.device.to_string().as_str(), fault.address.as_str()),
            ("0000:01:00.0", "0xfffd1000")
        );
        for other in [
            "DMAR: Host address width 39",
            "DMAR: [INTR-REMAP] Request device [0000:01:00.0] fault index 0x1 [fault reason 0x22]",
            "",
        ] {
            assert_eq!(Fault::of(other), None, "{other}");
        }
    }
}
