//! `mapbuf info`

use super::list::Row;
use crate::{
    failure::Failure,
    module,
    output::{self, OutputArgs},
};
use clap::Args as Group;
use mapbuf::{
    abi::{explain::Bytes, traits, ADDRESS_HIDDEN},
    sysfs, Access, Device, DriverInfo, Named, Segment,
};
use serde::Serialize;
use std::fmt;

/// Show one named buffer, or the driver
///
/// For a buffer: its size, kind, mappings and physical runs (addresses need privileges). Without a name: what the driver
/// supports, its limits, and how much of them is in use.
#[derive(Debug, Group)]
pub struct InfoArgs {
    /// The buffer's name
    pub name: Option<String>,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Serialize)]
struct BufferReport {
    #[serde(flatten)]
    row: Row,
    /// O_DIRECT, io_uring and RDMA accept its mappings. Like the runs, absent if the node cannot be opened.
    pinnable: Option<bool>,
    segments: Option<Vec<Run>>,
    /// In addresses of the device that it is for.
    device_segments: Option<Vec<DeviceRun>>,
}

#[derive(Serialize)]
struct DeviceRun {
    offset: u64,
    length: u64,
    dma_address: Option<String>,
}

impl From<Segment> for DeviceRun {
    fn from(segment: Segment) -> Self {
        let Run {
            offset,
            length,
            dma_address,
            ..
        } = segment.into();
        Self {
            offset,
            length,
            dma_address,
        }
    }
}

#[derive(Serialize)]
struct Run {
    offset: u64,
    length: u64,
    physical_address: Option<String>,
    dma_address: Option<String>,
}

impl From<Segment> for Run {
    fn from(segment: Segment) -> Self {
        let shown = |address| (address != ADDRESS_HIDDEN).then(|| format!("{address:#x}"));
        Self {
            offset: segment.offset,
            length: segment.length,
            physical_address: shown(segment.physical_address),
            dma_address: shown(segment.dma_address),
        }
    }
}

impl fmt::Display for BufferReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.row.describe(f)?;
        if let Some(pinnable) = self.pinnable {
            let pinnable = if pinnable { "yes" } else { "no" };
            writeln!(f, "  pinnable: {pinnable}")?;
        }
        let Some(segments) = &self.segments else {
            return writeln!(
                f,
                "  its runs are shown only to users who can open the node"
            );
        };
        const SHOWN: usize = 32;
        if let Some(runs) = &self.device_segments {
            writeln!(f, "  runs for the device: {}", runs.len())?;
            for run in runs.iter().take(SHOWN) {
                let size = Bytes(run.length).to_string();
                let address = run.dma_address.as_deref().unwrap_or("hidden");
                writeln!(f, "    at {:#12x}  {size:>12}  DMA {address}", run.offset)?;
            }
            if runs.len() > SHOWN {
                writeln!(f, "    and {} more (--json shows all)", runs.len() - SHOWN)?;
            }
        }
        writeln!(f, "  physically contiguous runs: {}", segments.len())?;
        for run in segments.iter().take(SHOWN) {
            write!(
                f,
                "    at {:#12x}  {:>12}",
                run.offset,
                Bytes(run.length).to_string()
            )?;
            if let Some(address) = &run.physical_address {
                write!(f, "  physical {address}")?;
            }
            if let Some(address) = &run.dma_address {
                write!(f, "  DMA {address}")?;
            }
            writeln!(f)?;
        }
        if segments.len() > SHOWN {
            writeln!(
                f,
                "    and {} more (--json shows all)",
                segments.len() - SHOWN
            )?;
        }
        if segments.iter().all(|run| run.physical_address.is_none()) {
            writeln!(
                f,
                "    physical addresses are shown only with CAP_SYS_ADMIN"
            )?;
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct DriverReport {
    abi_version: u32,
    page_size: u32,
    kinds: Vec<&'static str>,
    methods: Vec<&'static str>,
    cma: bool,
    max_buffer_bytes: u64,
    max_bytes: u64,
    max_bytes_per_user: u64,
    used_bytes: u64,
    used_bytes_by_user: u64,
    buffers: u64,
    parameters: Vec<String>,
}

impl From<DriverInfo> for DriverReport {
    fn from(info: DriverInfo) -> Self {
        Self {
            cma: info.has_cma(),
            abi_version: info.abi_version,
            page_size: info.page_size,
            kinds: info.kinds.iter().map(|kind| kind.name()).collect(),
            methods: info.methods.iter().map(|method| method.name()).collect(),
            max_buffer_bytes: info.max_buffer_bytes,
            max_bytes: info.max_bytes,
            max_bytes_per_user: info.max_bytes_per_user,
            used_bytes: info.used_bytes,
            used_bytes_by_user: info.used_bytes_by_user,
            buffers: info.buffers,
            parameters: module::parameters(),
        }
    }
}

impl fmt::Display for DriverReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "mapbuf driver, interface version {}, pages of {} bytes",
            self.abi_version, self.page_size
        )?;
        writeln!(f, "  kinds    {}", self.kinds.join(", "))?;
        writeln!(f, "  methods  {}", self.methods.join(", "))?;
        writeln!(
            f,
            "  CMA area {}",
            if self.cma {
                "yes"
            } else {
                "no (boot with cma=SIZE for large runs)"
            }
        )?;
        writeln!(
            f,
            "  used     {} of {} by all",
            Bytes(self.used_bytes),
            Bytes(self.max_bytes)
        )?;
        let by_user = Bytes(self.used_bytes_by_user);
        writeln!(
            f,
            "           {by_user} of {} by you",
            Bytes(self.max_bytes_per_user)
        )?;
        writeln!(
            f,
            "  buffers  {}; the largest can have {}",
            self.buffers,
            Bytes(self.max_buffer_bytes)
        )?;
        writeln!(f, "  loaded with {}", self.parameters.join(" "))
    }
}

pub fn run(args: &InfoArgs) -> Result<(), Failure> {
    let Some(name) = &args.name else {
        let device = Device::open_with(mapbuf::abi::SYSTEM_NODE, Access::ReadOnly)?;
        return output::answer(args.output, &DriverReport::from(device.query()?));
    };
    let mut report = BufferReport {
        row: Row::from(sysfs::entry(name)?),
        pinnable: None,
        segments: None,
        device_segments: None,
    };
    // The device's addresses are for those who may write.
    let named = Named::open(name).or_else(|_| Named::open_with(name, Access::ReadOnly));
    if let Ok(named) = named {
        let info = named.info()?;
        let address = info.dma_address.map(|address| format!("{address:#x}"));
        report.row.dma_address = report.row.dma_address.or(address);
        report.pinnable = Some(info.traits & traits::PINNABLE != 0);
        report.segments = Some(named.segments()?.into_iter().map(Run::from).collect());
        if report.row.for_device.is_some() && info.traits & traits::ATTACHED != 0 {
            let runs = named.device_segments()?;
            report.device_segments = Some(runs.into_iter().map(DeviceRun::from).collect());
        }
    }
    output::answer(args.output, &report)
}
