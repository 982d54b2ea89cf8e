//! `cargo xtask kernel`

use crate::attempt;
use anyhow::Result;
use mapbuf_vm::{host, Cache, Choice, Flavour, Kernel, Ui};
use std::process::ExitCode;

/// Tell which kernel is used, and where its parts are.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    /// Which build of the kernel: `cloud-amd64` or `amd64`, which has nearly all drivers.
    #[arg(long, default_value_t)]
    flavour: Flavour,
    /// Which kernel: a series (`7.2`), one release of it (`7.2.12`), one that is built here from its sources (`debug`,
    /// `kcsan`), one of Debian unstable with its newer compilers (`sid`), or more exactly `debug@7.2`, `7.2@sid`
    /// [default: the newest of the newest series that is supported].
    #[arg(
        long,
        value_name = "KERNEL",
        default_value_t,
        hide_default_value = true
    )]
    kernel: Choice,
    /// Look for a newer one in the archive first.
    #[arg(long)]
    update: bool,
    /// Remove older kernels, userlands that nothing uses any more, and the disks of `vm --root` from the cache.
    #[arg(long)]
    clean: bool,
}

/// What else can be done.
#[derive(clap::Subcommand)]
enum Action {
    Try(attempt::Arguments),
}

/// Runs the command.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    if let Some(Action::Try(arguments)) = &arguments.action {
        return attempt::main(arguments);
    }
    let ui = Ui::default();
    host::ensure(&ui)?;
    let cache = Cache::open(&ui)?;
    let (flavour, stock) = (arguments.flavour, &arguments.kernel.stock);
    let kernel = if arguments.update {
        Kernel::update(&cache, &ui, flavour, stock)?
    } else {
        Kernel::get(&cache, &ui, flavour, stock)?
    };
    if arguments.clean {
        for name in kernel.remove_others(&cache)? {
            ui.note(format!("Removed {name}"));
        }
    }
    let kernel = kernel.variant(&cache, &ui, arguments.kernel.variant)?;
    println!("release   {}", kernel.identity.release);
    println!("package   {}", kernel.identity.version);
    println!("image     {}", kernel.image().display());
    println!("sources   {}", kernel.tree().display());
    println!("modules   {}", kernel.modules().display());
    println!("userland  {}", kernel.root.path.display());
    println!("compiler  {}", kernel.root.rustc_version()?);
    Ok(ExitCode::SUCCESS)
}
