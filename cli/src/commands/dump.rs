//! `mapbuf dump`

use crate::{
    failure::Failure,
    hex::{Dump, Plain},
    output::{self, OutputArgs},
};
use clap::Args as Group;
use mapbuf::{Access, Named, OutOfBounds};
use serde_json::json;

/// Show the bytes of a named buffer, in the format of xxd
///
/// Reads through the kernel's own mapping (pread), which agrees with every other mapping.
#[derive(Debug, Group)]
pub struct DumpArgs {
    /// The buffer's name
    pub name: String,
    /// The first byte
    #[arg(long, default_value = "0", value_parser = mapbuf::parse_size)]
    pub offset: u64,
    /// How many bytes [default: up to the end]
    #[arg(long, value_parser = mapbuf::parse_size)]
    pub length: Option<u64>,
    /// Replace repeated lines with a '*'
    #[arg(short = 'a', long)]
    pub autoskip: bool,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Read and shown at once. A multiple of a line.
const CHUNK: u64 = 64 << 10;

pub fn run(args: &DumpArgs) -> Result<(), Failure> {
    let named = Named::open_with(&args.name, Access::ReadOnly)?;
    let (offset, size) = (args.offset, named.len());
    let length = args.length.unwrap_or(size.saturating_sub(offset));
    // Before anything is shown, or memory is taken for it.
    let end = offset.checked_add(length).filter(|end| *end <= size);
    let Some(end) = end else {
        let len = length;
        return Err(mapbuf::Error::from(OutOfBounds { offset, len, size }).into());
    };
    if args.output.json {
        let hex = Plain(&read(&named, offset, length)?).to_string();
        return output::print_json(
            &json!({ "name": args.name, "offset": offset, "length": length, "hex": hex }),
        );
    }
    let mut at = offset;
    while at < end {
        let dump = Dump {
            bytes: &read(&named, at, CHUNK.min(end - at))?,
            offset: at,
            skip_repeats: args.autoskip,
        };
        if !output::print(&dump)? {
            break;
        }
        at += CHUNK;
    }
    Ok(())
}

fn read(named: &Named, offset: u64, length: u64) -> Result<Vec<u8>, Failure> {
    // A length that lies within a buffer, which this machine has in memory.
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    named.read_at(offset, &mut bytes)?;
    Ok(bytes)
}
