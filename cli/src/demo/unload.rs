//! Everything is released: nothing is left of the demo, and the module unloads and loads again.

use super::scene::{Demo, Outcome};
use crate::{
    failure::Failure,
    holders::{self, Mapped},
    module,
};
use mapbuf::{abi::DEV_DIR, sysfs, sysfs::Entry, Device, Kind};
use std::path::Path;

pub fn scene(demo: &mut Demo) -> Outcome {
    let before = demo.args.before.as_deref().and_then(|before| {
        let (buffers, bytes) = before.split_once(':')?;
        Some((buffers.parse::<u64>().ok()?, bytes.parse::<u64>().ok()?))
    });
    let before = before.ok_or("it is not known what there was before")?;
    let file = demo.args.module.clone();
    let now = Device::open()?.query()?;
    let clean = (now.buffers, now.used_bytes) == before;
    let text = format!(
        "after all this: {} buffers, {} bytes, as before",
        now.buffers, now.used_bytes
    );
    demo.check(&["B8"], clean, &text);

    // Regions come back when the driver is loaded again; nothing else would.
    let (regions, named): (Vec<Entry>, Vec<Entry>) = sysfs::list()?
        .into_iter()
        .partition(|entry| entry.kind == Kind::Region && entry.mappings == Some(0));
    let others = named.len() + holders::all(Mapped::Certainly).len();
    if others > 0 || before.0 > regions.len() as u64 {
        demo.not_yet(
            "B8",
            "named buffers or other programs hold the driver: it stays loaded",
        );
        return Ok(());
    }
    let Ok(file) = module::find(file.as_deref()) else {
        demo.not_yet(
            "B8",
            "no mapbuf.ko to load again (--module FILE): it stays loaded",
        );
        return Ok(());
    };
    let parameters = module::parameters();

    // A session, and a buffer in it, must keep it loaded.
    let device = Device::open()?;
    for region in &regions {
        device.unname(&region.name)?;
    }
    let buffer = device.alloc(Kind::Vmalloc, 1)?;
    let mapping = buffer.map()?;
    match module::unload() {
        Ok(unloaded) => demo.check(
            &["B8"],
            !unloaded,
            "with a session open, unloading is refused",
        ),
        Err(
            error @ Failure::Module {
                errno: rustix::io::Errno::PERM,
                ..
            },
        ) => {
            demo.not_yet("B8", &error.to_string());
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    }
    drop((buffer, device));
    let held = !module::unload()?;
    demo.check(
        &["B8"],
        held,
        "with a mapping alone, unloading is refused too",
    );
    drop(mapping);

    let unloaded = module::unload()?;
    demo.check(&["B8"], unloaded, "with nothing open, the driver unloads");
    if !unloaded {
        return Ok(());
    }
    let gone = !Path::new(DEV_DIR).exists() && sysfs::list().is_err() && !module::is_loaded();
    demo.check(
        &["B8"],
        gone,
        &format!("{DEV_DIR} and its folder in sysfs are gone"),
    );

    module::load(&file, &parameters)?;
    let fresh = Device::open()?.query()?;
    let back = fresh.buffers == regions.len() as u64 && fresh.used_bytes == 0;
    demo.check(
        &["A1", "B8"],
        back,
        "loaded again: the node is back, and nothing is in use",
    );
    Ok(())
}
