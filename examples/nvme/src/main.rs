//! `nvme 0000:01:00.0 [read BLOCK COUNT | write BLOCK | copy BLOCK COUNT FILE]`: says what a disk is, copies blocks of it to
//! standard output, or standard input to blocks of it, or blocks of it to another disk without a copy in memory.

mod copy;

use mapbuf_nvme::platform::Bound;
use mapbuf_nvme::{Disk, Error, Memory, Result};
use std::io::{Read, Write};
use std::process::ExitCode;

/// Bytes of a command.
const PIECE: usize = 128 << 10;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(Some(())) => ExitCode::SUCCESS,
        Ok(None) => {
            eprintln!(
                "usage: nvme 0000:01:00.0 [read BLOCK COUNT | write BLOCK | copy BLOCK COUNT FILE]"
            );
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("nvme: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Does what the words say; none: they say nothing.
fn run(words: &[&str]) -> Result<Option<()>> {
    let (address, task) = match *words {
        [address, ref task @ ..] => (address, task),
        [] => return Ok(None),
    };
    // A disk that is pulled out is an error like others, and no signal.
    mapbuf::survive_removal()?;
    let start = || Disk::start(Bound::open(address)?);
    match *task {
        [] => {
            let disk = start()?;
            let identity = disk.identity();
            println!("{}, serial number {}", identity.model, identity.serial);
            println!(
                "{} blocks of {} bytes",
                identity.blocks, identity.block_bytes
            );
        }
        ["read", block, count] => {
            let (Ok(block), Ok(count)) = (block.parse(), count.parse()) else {
                return Ok(None);
            };
            read(&mut start()?, block, count)?;
        }
        ["copy", block, count, file] => {
            let (Ok(block), Ok(count)) = (block.parse(), count.parse()) else {
                return Ok(None);
            };
            copy::copy(&mut start()?, block, count, file)?;
        }
        ["write", block] => {
            let Ok(block) = block.parse() else {
                return Ok(None);
            };
            write(&mut start()?, block)?;
        }
        _ => return Ok(None),
    }
    Ok(Some(()))
}

fn read(disk: &mut Disk<Bound>, first: u64, count: u64) -> Result<()> {
    let block = disk.identity().block_bytes;
    let piece = PIECE.min(disk.identity().most_bytes);
    let memory = disk.memory(piece)?;
    let mut bytes = vec![0; piece];
    let mut out = std::io::stdout().lock();
    for at in (0..count).step_by(piece / block) {
        let bytes = match usize::try_from(count - at) {
            Ok(left) if left < piece / block => bytes.get_mut(..left * block),
            _ => bytes.get_mut(..),
        };
        let bytes = bytes.unwrap_or_default();
        disk.read(first + at, &memory, 0, bytes.len())?;
        memory.read(0, bytes)?;
        out.write_all(bytes).map_err(Error::platform)?;
    }
    Ok(())
}

fn write(disk: &mut Disk<Bound>, first: u64) -> Result<()> {
    let block = disk.identity().block_bytes;
    let piece = PIECE.min(disk.identity().most_bytes);
    let memory = disk.memory(piece)?;
    let mut at = first;
    loop {
        let mut bytes = Vec::new();
        let mut input = std::io::stdin().lock().take(piece as u64);
        input.read_to_end(&mut bytes).map_err(Error::platform)?;
        if bytes.is_empty() {
            return disk.flush();
        }
        // The rest of the last block is zero.
        bytes.resize(bytes.len().next_multiple_of(block), 0);
        memory.write(0, &bytes)?;
        disk.write(at, &memory, 0, bytes.len())?;
        at += (bytes.len() / block) as u64;
    }
}
