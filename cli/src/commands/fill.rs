//! `mapbuf fill`

use super::create::{check_page, page_starts};
use crate::{args::FillArgs, failure::Failure, output};
use mapbuf::{abi::explain::Bytes, Named};
use serde::Serialize;
use std::fmt;

const CHUNK: usize = 64 << 10;

#[derive(Serialize)]
struct Filled {
    name: String,
    offset: u64,
    length: u64,
    written: u64,
}

impl fmt::Display for Filled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (written, length) = (Bytes(self.written), Bytes(self.length));
        writeln!(
            f,
            "{}: wrote {written} within {length} from byte {}",
            self.name, self.offset
        )
    }
}

pub fn run(args: &FillArgs) -> Result<(), Failure> {
    let named = Named::open(&args.name)?;
    let length = args
        .length
        .unwrap_or(named.len().saturating_sub(args.offset));
    let mut written = 0;
    match (&args.pages, args.byte) {
        (Some(bytes), _) => {
            let page = rustix::param::page_size() as u64;
            check_page(&bytes.0, page)?;
            for start in page_starts(args.offset, length, page) {
                named.write_at(start, &bytes.0)?;
                written += bytes.0.len() as u64;
            }
        }
        (None, byte) => {
            let block = [byte.unwrap_or(0); CHUNK];
            while written < length {
                let part = usize::try_from(length - written)
                    .unwrap_or(CHUNK)
                    .min(CHUNK);
                named.write_at(args.offset.saturating_add(written), &block[..part])?;
                written += part as u64;
            }
        }
    }
    output::answer(
        args.output,
        &Filled {
            name: args.name.clone(),
            offset: args.offset,
            length,
            written,
        },
    )
}
