//! `edu 0000:01:00.0`: has the device compute, and copy bytes to and fro.

use mapbuf::{IrqKind, Kind};
use mapbuf_edu::{address_of, Edu, Result, OWN_BYTES};
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(address) = std::env::args().nth(1) else {
        eprintln!("usage: edu 0000:01:00.0   (after: mapbuf bind 0000:01:00.0)");
        return ExitCode::from(2);
    };
    match run(&address) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("edu: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(address: &str) -> Result<()> {
    let edu = Edu::open(address, IrqKind::Msi)?;
    println!("identification  {:#010x}", edu.identification()?);
    println!("10!             {}", edu.factorial(10)?);

    let buffer = edu.device().alloc(Kind::Coherent, 2 * OWN_BYTES as u64)?;
    let memory = buffer.map()?;
    let at = address_of(&buffer)?;
    println!("DMA address     {at:#x}");
    memory.copy_in(0, b"from the program to the device, and back")?;
    edu.fetch(at, OWN_BYTES)?;
    edu.store(at + OWN_BYTES as u64, OWN_BYTES)?;
    let mut back = [0; 40];
    memory.copy_out(OWN_BYTES, &mut back)?;
    println!("it came back    {}", String::from_utf8_lossy(&back));
    Ok(())
}
