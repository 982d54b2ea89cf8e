//! `mapbuf load`

use crate::{
    failure::Failure,
    module,
    output::{self, OutputArgs},
};
use clap::Args as Group;
use serde::Serialize;
use std::{fmt, path::PathBuf};

/// Load the driver's module
///
/// Looks for the file in /lib/modules/RELEASE (updates, extra, misc) and in /lib/modules, unless --module names it. A
/// driver that is already loaded is left as it is, including its parameters.
#[derive(Debug, Group)]
#[command(after_long_help = "Parameters:
  max_bytes=N            all buffers together; 0: half of the machine's memory
  max_bytes_per_user=N   one user's buffers together; 0: a quarter of it
  max_buffers=N          buffers of one session
  max_names=N            named buffers
  expose_dma=1           show DMA addresses of /dev/mapbuf/system to everyone
  dma_heaps=1            add /dev/dma_heap/mapbuf-*; they stay, and so does the module, until the machine is rebooted
  regions=NAME:START:SIZE:ram|mmio[:cached|wc|uc][:8|16|32|64][:probe][:trust],...
                         reserved physical ranges, each a named buffer; probe: write and restore a pattern

Example:
  mapbuf load --module ./mapbuf.ko max_bytes=256M")]
pub struct LoadArgs {
    /// The module's file
    #[arg(long, value_name = "FILE")]
    pub module: Option<PathBuf>,
    /// Module parameters; sizes can have units
    #[arg(value_name = "PARAM=VALUE")]
    pub params: Vec<String>,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Serialize)]
struct Loaded {
    /// Absent if the driver was already loaded.
    module: Option<String>,
    already_loaded: bool,
    parameters: Vec<String>,
}

impl fmt::Display for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.module {
            Some(module) => write!(f, "loaded {module}")?,
            None => write!(f, "the driver is already loaded")?,
        }
        writeln!(f, "; parameters: {}", self.parameters.join(" "))
    }
}

pub fn run(args: &LoadArgs) -> Result<(), Failure> {
    let already_loaded = module::is_loaded();
    let mut from = None;
    if !already_loaded {
        let path = module::find(args.module.as_deref())?;
        let parameters: Result<Vec<_>, _> =
            args.params.iter().map(|text| parameter(text)).collect();
        module::load(&path, &parameters?)?;
        from = Some(path.display().to_string());
    }
    output::answer(
        args.output,
        &Loaded {
            module: from,
            already_loaded,
            parameters: module::parameters(),
        },
    )
}

/// `NAME=VALUE` as the kernel reads it: sizes with units become numbers.
fn parameter(text: &str) -> Result<String, Failure> {
    let (name, value) = text.split_once('=').ok_or_else(|| {
        Failure::Usage(format!(
            "'{text}' is not a parameter; write NAME=VALUE, such as max_bytes=256M"
        ))
    })?;
    match mapbuf::parse_size(value) {
        Ok(number) => Ok(format!("{name}={number}")),
        Err(_) => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_become_numbers() {
        assert_eq!(parameter("max_bytes=256M").unwrap(), "max_bytes=268435456");
        assert_eq!(parameter("expose_dma=1").unwrap(), "expose_dma=1");
        assert_eq!(parameter("expose_dma=Y").unwrap(), "expose_dma=Y");
        assert!(parameter("max_bytes").is_err());
    }
}
