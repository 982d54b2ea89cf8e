//! `mapbuf list`

mod watch;

use super::bind::describe_bars;
use crate::{
    failure::Failure,
    output::{self, OutputArgs},
    pci::{Address, Bar, Function, Interrupts, System, MAPBUF},
    platform::Platform,
};
use anstyle::{AnsiColor, Style};
use clap::Args as Group;
use mapbuf::{
    abi::explain::Bytes,
    sysfs::{self, Entry},
    Access, Device, RegionInfo,
};
use serde::Serialize;
use std::{fmt, time::Duration};
use watch::Watch;

/// List the named buffers, the regions and the bound devices
///
/// Regions are declared when the module is loaded (regions=...). A region that was refused is listed with the reason; one
/// that reads as all ones or all zeros, or that has no memory behind it, is listed with that state.
///
/// With --watch it shows instead who holds what: for each process and each control group, the nodes and buffers that are open,
/// how much of them is mapped, and since when. Root sees all processes. Ctrl-C ends it.
#[derive(Debug, Group)]
#[command(after_long_help = "Examples:
  mapbuf list --json                      described by /usr/share/mapbuf/list.schema.json
  mapbuf list --watch=0.5
  mapbuf list --watch --json              a line for each look, for a program that follows
  mapbuf list --watch --looks 1           one look")]
pub struct ListArgs {
    /// Show who holds what, again and again
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2", value_parser = seconds)]
    pub watch: Option<Duration>,
    /// End after so many looks
    #[arg(long, value_name = "NUMBER", requires = "watch", value_parser = clap::value_parser!(u32).range(1..))]
    pub looks: Option<u32>,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// A named buffer, with its JSON names.
#[derive(Serialize)]
pub struct Row {
    name: String,
    bytes: u64,
    kind: &'static str,
    cache: &'static str,
    mappings: Option<u64>,
    mode: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
    pub dma_address: Option<String>,
    /// The bound device that has that address for it.
    pub for_device: Option<String>,
}

impl From<Entry> for Row {
    fn from(entry: Entry) -> Self {
        Self {
            bytes: entry.bytes,
            kind: entry.kind.name(),
            cache: entry.cache.name(),
            mappings: entry.mappings,
            mode: entry.node.map(|node| format!("{:04o}", node.mode)),
            uid: entry.node.map(|node| node.uid),
            gid: entry.node.map(|node| node.gid),
            dma_address: entry.dma_address.map(|address| format!("{address:#x}")),
            for_device: entry.for_device,
            name: entry.name,
        }
    }
}

impl Row {
    /// A buffer in a few lines.
    pub fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: {} of {} memory, {}",
            self.name,
            Bytes(self.bytes),
            self.kind,
            self.cache
        )?;
        if let (Some(mode), Some(uid), Some(gid)) = (&self.mode, self.uid, self.gid) {
            let node = mapbuf::Named::path(&self.name);
            writeln!(
                f,
                "  node {}, mode {mode}, user {uid}, group {gid}",
                node.display()
            )?;
        }
        if let Some(mappings) = self.mappings {
            writeln!(f, "  mappings: {mappings}")?;
        }
        match (&self.dma_address, &self.for_device) {
            (Some(address), Some(device)) => writeln!(f, "  DMA address: {address}, for {device}"),
            (Some(address), None) => writeln!(
                f,
                "  DMA address: {address}, for a device of the driver's own; no other device may use it"
            ),
            (None, Some(device)) => writeln!(
                f,
                "  DMA address: hidden, for {device}; shown to those who may write to the node, without an IOMMU to CAP_SYS_RAWIO"
            ),
            (None, None) => Ok(()),
        }
    }
}

/// A declared region, with its JSON names.
#[derive(Serialize)]
struct Region {
    name: String,
    bytes: u64,
    start: Option<String>,
    class: &'static str,
    cache: &'static str,
    width: u32,
    state: &'static str,
    bad: bool,
    reason: Option<&'static str>,
    why: Option<String>,
}

impl From<RegionInfo> for Region {
    fn from(region: RegionInfo) -> Self {
        Self {
            bytes: region.bytes,
            start: region.start.map(|start| format!("{start:#x}")),
            class: region.class.name(),
            cache: region.cache.name(),
            width: region.width,
            state: region.state.name(),
            bad: region.state.is_bad(),
            reason: region.refusal.map(|refusal| refusal.reason.name()),
            why: region
                .refusal
                .map(|refusal| format!("{refusal}; {}", refusal.reason.text().remedy)),
            name: region.name,
        }
    }
}

/// A bound device, with its JSON names.
#[derive(Serialize)]
struct Bound {
    device: Address,
    ids: String,
    class: &'static str,
    node: String,
    bars: Vec<Bar>,
    interrupts: Interrupts,
    iommu_group: Option<u32>,
    dma_bits: Option<u32>,
}

impl From<Function> for Bound {
    fn from(function: Function) -> Self {
        Self {
            ids: function.ids(),
            class: function.class_name(),
            node: format!("/dev/mapbuf/pci-{}", function.address),
            bars: function.bars(),
            interrupts: function.interrupts(),
            iommu_group: function.group(),
            dma_bits: function.dma_bits(),
            device: function.address,
        }
    }
}

#[derive(Serialize)]
struct List {
    devices: Vec<Bound>,
    platform: Vec<Platform>,
    buffers: Vec<Row>,
    /// Absent if the allocator node cannot be opened.
    regions: Option<Vec<Region>>,
}

impl List {
    fn devices(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for bound in &self.devices {
            writeln!(f, "\n{}: {} {}", bound.device, bound.class, bound.ids)?;
            writeln!(f, "  node         {}", bound.node)?;
            writeln!(f, "  BARs         {}", describe_bars(&bound.bars))?;
            writeln!(f, "  interrupts   {}", bound.interrupts)?;
            match bound.iommu_group {
                Some(group) => writeln!(f, "  IOMMU group  {group}")?,
                None => writeln!(f, "  IOMMU group  none")?,
            }
            if let Some(bits) = bound.dma_bits {
                writeln!(f, "  DMA mask     {bits} bits")?;
            }
        }
        for bound in &self.platform {
            write!(f, "\n{bound}")?;
        }
        Ok(())
    }

    fn regions(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let regions = self.regions.as_deref().unwrap_or_default();
        if regions.is_empty() {
            return Ok(());
        }
        let width = regions.iter().map(|region| region.name.len()).max();
        let width = width.unwrap_or(0).max(6);
        writeln!(
            f,
            "\n{:width$}  {:>12}  {:>12}  {:4}  {:14}  STATE",
            "REGION", "START", "SIZE", "TYPE", "CACHE"
        )?;
        for region in regions {
            let style = match region.bad {
                true => AnsiColor::Red.on_default(),
                false => Style::new(),
            };
            writeln!(
                f,
                "{:width$}  {:>12}  {:>12}  {:4}  {:14}  {style}{}{style:#}",
                region.name,
                region.start.as_deref().unwrap_or("hidden"),
                Bytes(region.bytes).to_string(),
                region.class,
                region.cache,
                region.state,
            )?;
            if let Some(why) = &region.why {
                writeln!(f, "{:width$}  {why}", "")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.buffers.is_empty() {
            writeln!(
                f,
                "no named buffers; to create one: mapbuf create NAME --kind vmalloc --size 64K"
            )?;
            self.regions(f)?;
            return self.devices(f);
        }
        let width = self
            .buffers
            .iter()
            .map(|row| row.name.len())
            .max()
            .unwrap_or(0)
            .max(4);
        writeln!(
            f,
            "{:width$}  {:>12}  {:10}  {:14}  {:4}  {:>11}  {:>8}  DMA",
            "NAME", "SIZE", "KIND", "CACHE", "MODE", "OWNER", "MAPPINGS"
        )?;
        for row in &self.buffers {
            let mappings = row
                .mappings
                .map_or("-".to_owned(), |count| count.to_string());
            let owner = match (row.uid, row.gid) {
                (Some(uid), Some(gid)) => format!("{uid}:{gid}"),
                _ => "-".to_owned(),
            };
            writeln!(
                f,
                "{:width$}  {:>12}  {:10}  {:14}  {:4}  {:>11}  {:>8}  {}{}",
                row.name,
                Bytes(row.bytes).to_string(),
                row.kind,
                row.cache,
                row.mode.as_deref().unwrap_or("-"),
                owner,
                mappings,
                row.dma_address.as_deref().unwrap_or("-"),
                row.for_device
                    .as_deref()
                    .map(|device| format!(" for {device}"))
                    .unwrap_or_default(),
            )?;
        }
        self.regions(f)?;
        self.devices(f)
    }
}

/// The time between two looks.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text
        .parse()
        .ok()
        .filter(|seconds| (0.1..=3600.0).contains(seconds));
    let seconds = seconds.ok_or("write seconds from 0.1 to 3600, such as 0.5")?;
    Ok(Duration::from_secs_f64(seconds))
}

pub fn run(args: &ListArgs) -> Result<(), Failure> {
    if let Some(every) = args.watch {
        return watch::run(Watch {
            every,
            looks: args.looks,
            json: args.output.json,
        });
    }
    let buffers = sysfs::list()?.into_iter().map(Row::from).collect();
    let regions = match Device::open_with(mapbuf::abi::SYSTEM_NODE, Access::ReadOnly) {
        Ok(device) => Some(device.regions()?.into_iter().map(Region::from).collect()),
        // Names are for everybody, regions for those who may use the driver.
        Err(_) => None,
    };
    let bound = System::default().functions_of(MAPBUF);
    let list = List {
        devices: bound.into_iter().map(Bound::from).collect(),
        platform: Platform::all(),
        buffers,
        regions,
    };
    output::answer(args.output, &list)
}
