//! `mapbuf create`

use crate::{
    failure::Failure,
    hex,
    output::{self, OutputArgs},
    values::{CacheArg, KindArg},
};
use clap::Args as Group;
use mapbuf::{abi::explain::Bytes, AllocOptions, Buffer, Device, NameOptions, Named};
use serde::Serialize;
use std::fmt;

/// Create a named buffer with its own node
///
/// The memory is zeroed, or filled by --fill-pages before anyone can see it. The node is /dev/mapbuf/named/NAME; offsets
/// in the node are offsets in the buffer. The buffer stays until 'mapbuf remove NAME', whether or not programs use it.
#[derive(Debug, Group)]
#[command(after_long_help = "Examples:
  mapbuf create ring --kind vmalloc --size 64K --fill-pages ddccbbaa
  mapbuf create frame --kind contiguous --size 2M --mode 0640
  mapbuf create near --kind pages --size 8M --numa-node 0 --json")]
pub struct CreateArgs {
    /// The name: 1 to 64 letters, digits, '_', '.' or '-', not starting with '.' or '-'
    pub name: String,
    /// The kind of memory
    #[arg(long, value_enum)]
    pub kind: KindArg,
    /// The size: a number, with K, M, G or T for powers of 1024; rounded up to whole pages
    #[arg(long, value_parser = mapbuf::parse_size)]
    pub size: u64,
    /// The cache mode of every mapping, the kernel's included
    #[arg(long, value_enum, default_value = "cached")]
    pub cache: CacheArg,
    /// The only NUMA node to allocate from
    #[arg(long)]
    pub numa_node: Option<u32>,
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

#[derive(Serialize)]
struct Created {
    name: String,
    node: String,
    bytes: u64,
    kind: &'static str,
    cache: &'static str,
    mode: String,
}

impl fmt::Display for Created {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = Bytes(self.bytes);
        writeln!(
            f,
            "{}: {size} of {} memory, {}, mode {}",
            self.node, self.kind, self.cache, self.mode
        )
    }
}

pub fn run(args: &CreateArgs) -> Result<(), Failure> {
    let device = Device::open()?;
    let mut options = AllocOptions::new(args.kind.into(), args.size).cache(args.cache.into());
    if let Some(node) = args.numa_node {
        options = options.numa_node(node);
    }
    let buffer = options.alloc(&device)?;
    // Before it has a name, so that nobody sees it half filled.
    if let Some(bytes) = &args.fill_pages {
        fill_pages(&buffer, &bytes.0)?;
    }
    let mut name = NameOptions::new(&args.name).mode(args.mode);
    if let Some(uid) = args.uid {
        name = name.uid(uid);
    }
    if let Some(gid) = args.gid {
        name = name.gid(gid);
    }
    name.name(&buffer)?;
    output::answer(
        args.output,
        &Created {
            name: args.name.clone(),
            node: Named::path(&args.name).display().to_string(),
            bytes: buffer.len(),
            kind: buffer.kind().name(),
            cache: buffer.cache().name(),
            mode: format!("{:04o}", args.mode),
        },
    )
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

fn octal(text: &str) -> Result<u32, String> {
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
    fn permission_bits_are_read_as_people_write_them() {
        assert_eq!(octal("0660"), Ok(0o660));
        assert_eq!(octal("444"), Ok(0o444));
        assert!(octal("0o8").is_err());
    }
}
