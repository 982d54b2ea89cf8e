//! A dma-heap of the driver's, used as by a program that knows dma-heaps and nothing of mapbuf.

use super::{
    exporters,
    scene::{Demo, Outcome},
};
use crate::module;
use mapbuf::{sysfs, Device, Export};
use rustix::{
    fs::{open, Mode, OFlags},
    io::Errno,
};
use std::path::Path;

const HEAP: &str = "/dev/dma_heap/mapbuf-pages";
const BYTES: u64 = 64 << 10;
/// Row D11.
pub fn scene(demo: &mut Demo) -> Outcome {
    let opened = || open(HEAP, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let heap = match opened() {
        Err(Errno::NOENT) if demo.args.dma_heaps => {
            load(demo.args.module.as_deref())?;
            opened()?
        }
        Err(Errno::NOENT) => {
            let why = "the module was loaded without dma_heaps=1: mapbuf demo --dma-heaps loads it so, for good";
            demo.not_yet("D11", why);
            return Ok(());
        }
        heap => heap?,
    };
    let buffer = Export::from_fd(exporters::of_heap(&heap, BYTES)?)?;
    let memory = buffer.map();
    let works = memory.and_then(|memory| {
        let zero = memory.read::<u32>(4096)? == 0;
        memory.write(4096, 0xaabb_ccdd_u32)?;
        Ok(zero && memory.read::<u32>(4096)? == 0xaabb_ccdd)
    });
    let said = match &works {
        Ok(_) => format!("a program that knows dma-heap alone has a buffer of {HEAP}"),
        Err(error) => format!("a buffer of {HEAP}: {error}"),
    };
    demo.check(&["D11"], works.unwrap_or(false), &said);
    Ok(())
}

/// Loads the module again, with heaps.
fn load(file: Option<&Path>) -> Outcome {
    let file = module::find(file)?;
    let mut parameters = module::parameters();
    parameters.retain(|parameter| !parameter.starts_with("dma_heaps="));
    parameters.push("dma_heaps=1".to_owned());
    for entry in sysfs::list()? {
        Device::open()?.unname(&entry.name)?;
    }
    if !module::unload()? {
        return Err("the module is in use, and cannot be loaded again with dma_heaps=1".into());
    }
    Ok(module::load(&file, &parameters)?)
}
