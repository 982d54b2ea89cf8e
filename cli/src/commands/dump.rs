//! `mapbuf dump`

use crate::{
    args::DumpArgs,
    failure::Failure,
    hex::{Dump, Plain},
    output,
};
use mapbuf::{Access, Named};
use serde_json::json;
use std::{
    io::{self, Write},
    path::PathBuf,
};

/// Read and shown at once. A multiple of a line.
const CHUNK: u64 = 64 << 10;

pub fn run(args: &DumpArgs) -> Result<(), Failure> {
    let named = Named::open_with(&args.name, Access::ReadOnly)?;
    let length = args
        .length
        .unwrap_or(named.len().saturating_sub(args.offset));
    if args.output.json {
        let bytes = read(&named, args.offset, length)?;
        let hex = Plain(&bytes).to_string();
        output::print_json(
            &json!({ "name": args.name, "offset": args.offset, "length": length, "hex": hex }),
        );
        return Ok(());
    }
    let mut out = io::stdout().lock();
    let mut done = 0;
    while done < length {
        let offset = args.offset.saturating_add(done);
        let bytes = read(&named, offset, CHUNK.min(length - done))?;
        match write!(
            out,
            "{}",
            Dump {
                bytes: &bytes,
                offset,
                skip_repeats: args.autoskip,
            }
        ) {
            Ok(()) => {}
            // `mapbuf dump ring | head` has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(source) => {
                let path = PathBuf::from("standard output");
                return Err(Failure::File { path, source });
            }
        }
        done += CHUNK;
    }
    // Bounds are checked even where there is nothing to show.
    if length == 0 {
        named.read_at(args.offset, &mut [])?;
    }
    Ok(())
}

fn read(named: &Named, offset: u64, length: u64) -> Result<Vec<u8>, Failure> {
    let outside = mapbuf::OutOfBounds {
        offset,
        len: length,
        size: named.len(),
    };
    // Before memory for it is taken.
    if offset
        .checked_add(length)
        .is_none_or(|end| end > named.len())
    {
        return Err(mapbuf::Error::from(outside).into());
    }
    let length = usize::try_from(length).map_err(|_| mapbuf::Error::from(outside))?;
    let mut bytes = vec![0; length];
    named.read_at(offset, &mut bytes)?;
    Ok(bytes)
}
