//! `cargo xtask kernel`

use anyhow::Result;
use mapbuf_vm::{host, Cache, Flavour, Kernel, Ui, Variant};
use std::process::ExitCode;

/// Tell which kernel is used, and where its parts are.
#[derive(clap::Args)]
pub struct Arguments {
    /// Which build of the kernel: `cloud-amd64` or `amd64`, which has nearly all drivers.
    #[arg(long, default_value_t)]
    flavour: Flavour,
    /// The kernel: `stock`, or one that is built here: `debug`, `kcsan`.
    #[arg(long, value_name = "NAME", default_value_t, conflicts_with = "flavour")]
    kernel: Variant,
    /// Look for a newer one in the archive first.
    #[arg(long)]
    update: bool,
    /// Remove older kernels, userlands that nothing uses any more, and the disks of `vm --root` from the cache.
    #[arg(long)]
    clean: bool,
}

/// Runs the command.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    let ui = Ui::default();
    host::ensure(&ui)?;
    let cache = Cache::open(&ui)?;
    let kernel = if arguments.update {
        Kernel::update(&cache, &ui, arguments.flavour)?
    } else {
        Kernel::get(&cache, &ui, arguments.flavour)?
    };
    if arguments.clean {
        for name in kernel.remove_others(&cache)? {
            ui.note(format!("Removed {name}"));
        }
    }
    let kernel = kernel.variant(&cache, &ui, arguments.kernel)?;
    println!("release   {}", kernel.identity.release);
    println!("package   {}", kernel.identity.version);
    println!("image     {}", kernel.image().display());
    println!("sources   {}", kernel.tree().display());
    println!("modules   {}", kernel.modules().display());
    println!("userland  {}", kernel.root.path.display());
    println!("compiler  {}", kernel.root.rustc_version()?);
    Ok(ExitCode::SUCCESS)
}
