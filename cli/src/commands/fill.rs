//! `mapbuf fill`

use super::create::{check_page, page_starts};
use crate::{
    failure::Failure,
    hex,
    output::{self, OutputArgs},
};
use clap::{ArgGroup, Args as Group};
use mapbuf::{abi::explain::Bytes, Named};
use serde::Serialize;
use std::fmt;

/// Fill a named buffer with a byte, or write bytes at the start of each page
#[derive(Debug, Group)]
#[command(group = ArgGroup::new("what").required(true), after_long_help = "Examples:
  mapbuf fill ring --byte 00
  mapbuf fill ring --pages ddccbbaa
  mapbuf fill ring --byte ff --offset 4K --length 4K")]
pub struct FillArgs {
    /// The buffer's name
    pub name: String,
    /// The byte to fill with, in hexadecimal
    #[arg(long, value_name = "HEX", group = "what", value_parser = one_byte)]
    pub byte: Option<u8>,
    /// Bytes to write at the start of each page, in hexadecimal; the rest of the page is unchanged
    #[arg(long, value_name = "HEXBYTES", group = "what")]
    pub pages: Option<hex::Bytes>,
    /// The first byte
    #[arg(long, default_value = "0", value_parser = mapbuf::parse_size)]
    pub offset: u64,
    /// How many bytes [default: up to the end]
    #[arg(long, value_parser = mapbuf::parse_size)]
    pub length: Option<u64>,
    #[command(flatten)]
    pub output: OutputArgs,
}

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

fn one_byte(text: &str) -> Result<u8, String> {
    u8::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16)
        .map_err(|_| "write one byte in hexadecimal, such as 5a".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_is_read_as_people_write_it() {
        assert_eq!(one_byte("5a"), Ok(0x5a));
        assert_eq!(one_byte("0xff"), Ok(0xff));
        assert!(one_byte("100").is_err());
    }
}
