//! `mapbuf create`

use crate::{
    failure::Failure,
    hex, module,
    output::{self, OutputArgs},
    pci::{System, MAPBUF},
    platform::DeviceName,
    values::{CacheArg, KindArg},
};
use clap::Args as Group;
use mapbuf::{
    abi::{explain::Bytes, traits},
    AllocOptions, Buffer, BufferInfo, Device, Kind, NameOptions, Named,
};
use serde::Serialize;
use std::{fmt, str::FromStr};

/// Create a named buffer with its own node
///
/// The memory is zeroed, or filled by --fill-pages before anyone can see it. The node is /dev/mapbuf/named/NAME; offsets
/// in the node are offsets in the buffer. The buffer stays until 'mapbuf remove NAME', whether or not programs use it.
///
/// With --device it is a DMA buffer: the device has addresses for it ('mapbuf info NAME' shows them) until the name is
/// removed, or the device is unbound; then the name is gone too. Every program that drives the device can have it read and
/// write the buffer, whatever the mode of the node is.
#[derive(Debug, Group)]
#[command(after_long_help = "Examples:
  mapbuf create ring --kind vmalloc --size 64K --fill-pages ddccbbaa
  mapbuf create frame --kind contiguous --size 2M --mode 0640
  mapbuf create near --kind pages --size 8M --numa-node 0 --json
  mapbuf create dma --device 0000:00:04.0 --size 64K --below 256M")]
pub struct CreateArgs {
    /// The name: 1 to 64 letters, digits, '_', '.' or '-', not starting with '.' or '-'
    pub name: String,
    /// The kind of memory [with --device, the default is pages: it can be pinned, too]
    #[arg(long, value_enum, required_unless_present = "device")]
    pub kind: Option<KindArg>,
    /// The size: a number, with K, M, G or T for powers of 1024; rounded up to whole pages
    #[arg(long, value_parser = mapbuf::parse_size)]
    pub size: u64,
    /// Make a DMA buffer for this device, which is bound to mapbuf: the address of a PCI device (0000:00:04.0 or 00:04.0), or
    /// the name of a platform device
    ///
    /// Without an IOMMU, this ends the DMA of a program that drives the device, so create such a buffer before.
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<DeviceName>,
    /// Addresses below this one only: the device's with --device and for coherent memory, else physical ones
    #[arg(long, value_name = "ADDRESS", value_parser = mapbuf::parse_size)]
    pub below: Option<u64>,
    /// The first address is a multiple of this power of 2
    #[arg(long, value_name = "SIZE", value_parser = power_of_two)]
    pub align: Option<u32>,
    /// No run crosses a multiple of this power of 2, at least a page
    #[arg(long, value_name = "SIZE", value_parser = power_of_two)]
    pub boundary: Option<u32>,
    /// The cache mode of every mapping, the kernel's included
    #[arg(long, value_enum, default_value = "cached")]
    pub cache: CacheArg,
    /// The only NUMA node to allocate from: a number, or 'device' for the one that the device is near to
    #[arg(long, value_name = "NODE")]
    pub numa_node: Option<NumaNode>,
    /// Bytes to write at the start of each page, in hexadecimal: ddccbbaa is the 32-bit word 0xaabbccdd
    #[arg(long, value_name = "HEXBYTES")]
    pub fill_pages: Option<hex::Bytes>,
    /// The node's permission bits, in octal
    #[arg(long, default_value = "0660", value_parser = octal)]
    pub mode: u32,
    /// The node's owner, as a number (another user than yourself needs CAP_CHOWN)
    #[arg(long)]
    pub uid: Option<u32>,
    /// The node's group, as a number (a group that you are not in needs CAP_CHOWN)
    #[arg(long)]
    pub gid: Option<u32>,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Where memory is to come from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NumaNode {
    /// The node with this number.
    Number(u32),
    /// The node that the device is near to.
    Device,
}

impl NumaNode {
    /// Whether it depends on the device.
    pub fn is_device(self) -> bool {
        self == Self::Device
    }
}

impl FromStr for NumaNode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "device" => Ok(Self::Device),
            number => number
                .parse()
                .map(Self::Number)
                .map_err(|_| "write the number of a NUMA node, or 'device'".to_owned()),
        }
    }
}

#[derive(Serialize)]
struct Created {
    name: String,
    node: String,
    bytes: u64,
    kind: &'static str,
    cache: &'static str,
    mode: String,
    device: Option<DeviceName>,
    dma_address: Option<String>,
    pinnable: bool,
}

impl fmt::Display for Created {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = Bytes(self.bytes);
        write!(
            f,
            "{}: {size} of {} memory, {}, mode {}",
            self.node, self.kind, self.cache, self.mode
        )?;
        if let Some(device) = &self.device {
            let address = self.dma_address.as_deref().unwrap_or("hidden");
            write!(f, ", DMA address {address} for {device}")?;
        }
        writeln!(f)
    }
}

impl CreateArgs {
    fn options(&self) -> AllocOptions {
        let kind = self.kind.map_or(Kind::Pages, Kind::from);
        let mut options = AllocOptions::new(kind, self.size).cache(self.cache.into());
        if self.device.is_some() {
            options = options.for_device();
        }
        if let Some(address) = self.below {
            options = options.below(address);
        }
        if let Some(bits) = self.align {
            options = options.align_bits(bits);
        }
        if let Some(bits) = self.boundary {
            options = options.boundary_bits(bits);
        }
        match self.numa_node {
            Some(NumaNode::Number(node)) => options.numa_node(node),
            Some(NumaNode::Device) => options.near_device(),
            None => options,
        }
    }
}

/// Opens the node of a device, or says why there is none.
fn open(device: Option<&DeviceName>) -> Result<Device, Failure> {
    let Some(name) = device else {
        return Ok(Device::open()?);
    };
    let error = match Device::open_path(name.node()) {
        Ok(device) => return Ok(device),
        Err(error) => error,
    };
    let DeviceName::Pci(address) = name else {
        return Err(error.into());
    };
    let driver = System::default().function(address)?.driver();
    if driver.as_deref() == Some(MAPBUF) || !module::is_loaded() {
        return Err(error.into());
    }
    Err(Failure::Device {
        what: match driver {
            Some(driver) => format!("{address} is bound to {driver}, not to mapbuf"),
            None => format!("{address} is not bound to mapbuf"),
        },
        remedy: format!("mapbuf bind {address}"),
    })
}

pub fn run(args: &CreateArgs) -> Result<(), Failure> {
    if args.numa_node == Some(NumaNode::Device) && args.device.is_none() {
        return Err(Failure::Usage(
            "--numa-node device needs --device; or write the number of a NUMA node".into(),
        ));
    }
    let prepared = args.prepare()?;
    let info = prepared.name(args)?;
    output::answer(args.output, &args.created(&info))
}

/// A buffer that has its contents, and no name yet. Without one it goes when this does.
pub struct Prepared {
    buffer: Buffer,
    info: BufferInfo,
}

impl Prepared {
    /// Names it.
    pub fn name(&self, args: &CreateArgs) -> Result<BufferInfo, Failure> {
        let mut name = NameOptions::new(&args.name).mode(args.mode);
        if let Some(uid) = args.uid {
            name = name.uid(uid);
        }
        if let Some(gid) = args.gid {
            name = name.gid(gid);
        }
        name.name(&self.buffer)?;
        Ok(self.info.clone())
    }
}

impl CreateArgs {
    /// Allocates and fills the buffer.
    pub fn prepare(&self) -> Result<Prepared, Failure> {
        let device = open(self.device.as_ref())?;
        let buffer = self.options().alloc(&device)?;
        // Before it has a name, so that nobody sees it half filled.
        if let Some(bytes) = &self.fill_pages {
            fill_pages(&buffer, &bytes.0)?;
        }
        let info = buffer.info()?;
        Ok(Prepared { buffer, info })
    }

    fn created(&self, info: &BufferInfo) -> Created {
        let address = info.dma_address.filter(|_| self.device.is_some());
        Created {
            name: self.name.clone(),
            node: Named::path(&self.name).display().to_string(),
            bytes: info.bytes,
            kind: info.kind.name(),
            cache: info.cache.name(),
            mode: format!("{:04o}", self.mode),
            device: self.device.clone(),
            dma_address: address.map(|address| format!("{address:#x}")),
            pinnable: info.traits & traits::PINNABLE != 0,
        }
    }
}

/// Writes bytes at the start of each page.
pub fn fill_pages(buffer: &Buffer, bytes: &[u8]) -> Result<(), Failure> {
    let page = u64::from(buffer.device().query()?.page_size);
    check_page(bytes, page)?;
    for page in page_starts(0, buffer.len(), page) {
        buffer.write_at(page, bytes)?;
    }
    Ok(())
}

/// Refuses bytes that do not fit into a page.
pub fn check_page(bytes: &[u8], page: u64) -> Result<(), Failure> {
    match u64::try_from(bytes.len()) {
        Ok(len) if len <= page => Ok(()),
        _ => Err(Failure::Usage(format!(
            "{} bytes do not fit in a page of {page}; use fewer",
            bytes.len()
        ))),
    }
}

/// Where pages start within a range of a buffer.
pub fn page_starts(offset: u64, len: u64, page: u64) -> impl Iterator<Item = u64> {
    let end = offset.saturating_add(len);
    let first = offset.checked_next_multiple_of(page).unwrap_or(u64::MAX);
    (0..).map_while(move |n: u64| {
        let start = first.checked_add(n.checked_mul(page)?)?;
        (start < end).then_some(start)
    })
}

/// The exponent of a power of 2.
pub fn power_of_two(text: &str) -> Result<u32, String> {
    let size = mapbuf::parse_size(text).map_err(|error| error.to_string())?;
    match size.is_power_of_two() {
        true => Ok(size.ilog2()),
        false => Err("write a power of 2, such as 64K or 2M".to_owned()),
    }
}

/// Permission bits.
pub fn octal(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    u32::from_str_radix(digits, 8)
        .map_err(|_| "write permission bits in octal, such as 0660".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_a_range() {
        let starts = |offset, len| page_starts(offset, len, 4096).collect::<Vec<_>>();
        assert_eq!(starts(0, 8192), [0, 4096]);
        assert_eq!(starts(1, 8192), [4096, 8192]);
        assert_eq!(starts(4096, 1), [4096]);
        assert!(starts(4097, 10).is_empty());
        assert!(starts(u64::MAX - 1, 10).is_empty());
    }

    #[test]
    fn alignments_are_powers_of_two() {
        assert_eq!(power_of_two("64K"), Ok(16));
        assert_eq!(power_of_two("1"), Ok(0));
        for bad in ["0", "3K", "x"] {
            assert!(power_of_two(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn permission_bits_are_read_as_people_write_them() {
        assert_eq!(octal("0660"), Ok(0o660));
        assert_eq!(octal("444"), Ok(0o444));
        assert!(octal("0o8").is_err());
    }
}
