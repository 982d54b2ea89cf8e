//! `cargo xtask module`

use anyhow::{Context, Result};
use mapbuf_vm::debian::Toolchain;
use mapbuf_vm::module::Module;
use mapbuf_vm::tree::Tree;
use mapbuf_vm::{host, Cache, Flavour, Kernel, Ui, Variant};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Build the kernel module, or any out-of-tree module, in C or Rust.
///
/// Prints the paths of the modules. Where a module cannot be built against the kernel that is named, what is missing is
/// listed, with what to do about each.
#[derive(clap::Args)]
pub struct Arguments {
    /// A kernel tree to build against, or `running` for the running kernel's [default: the kit's kernel].
    #[arg(long, value_name = "KERNELDIR")]
    build: Option<PathBuf>,
    /// The kit's kernel to build against: `stock`, `debug` or `kcsan`.
    #[arg(long, value_name = "NAME", default_value_t, conflicts_with = "build")]
    kernel: Variant,
    /// The module's folder; nothing is written there [default: the driver's].
    #[arg(long, value_name = "MODULEDIR")]
    dir: Option<PathBuf>,
    /// Where the results go [default: a folder under target/].
    #[arg(long)]
    out: Option<PathBuf>,
    /// Let clippy check Rust sources as well.
    #[arg(long)]
    clippy: bool,
    /// Wait at the driver's seams, to look for races.
    #[arg(long)]
    seams: bool,
}

/// Runs the command.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    let ui = Ui::default();
    let source = match &arguments.dir {
        Some(dir) => dir.clone(),
        None => default_dir()?,
    };
    let out = match &arguments.out {
        Some(out) => out.clone(),
        None => out_for(&source, arguments.kernel, arguments.clippy, arguments.seams)?,
    };
    let module = Module {
        source,
        out,
        clippy: arguments.clippy,
        seams: arguments.seams,
    };
    let cache = Cache::open(&ui)?;
    let files = match &arguments.build {
        None => {
            host::ensure(&ui)?;
            let stock = Kernel::get(&cache, &ui, Flavour::default())?;
            let kernel = stock.variant(&cache, &ui, arguments.kernel)?;
            module.build(&kernel, &ui)?
        }
        Some(name) => {
            let tree = if name == Path::new("running") {
                Tree::of_running_kernel()?
            } else {
                Tree::open(name)?
            };
            match Kernel::with_tree(&cache, &tree.path) {
                Some(kernel) => module.build(&kernel, &ui)?,
                None => {
                    let kit = Toolchain::Gcc.if_made(&cache);
                    module.build_against(&tree, kit.as_ref(), &ui)?
                }
            }
        }
    };
    for file in files {
        println!("{}", file.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// The driver's folder.
pub fn default_dir() -> Result<PathBuf> {
    Ok(crate::workspace()?.join("driver"))
}

/// Where a module's results go when nobody says: a folder of its own for each source folder and kernel.
pub fn out_for(source: &Path, kernel: Variant, clippy: bool, seams: bool) -> Result<PathBuf> {
    let source = source
        .canonicalize()
        .with_context(|| format!("{} is not there", source.display()))?;
    let target = crate::workspace()?.join("target");
    let mut name = if source == default_dir()?.canonicalize()? {
        "driver".to_owned()
    } else {
        let mut hasher = DefaultHasher::new();
        source.hash(&mut hasher);
        format!("module-{:016x}", hasher.finish())
    };
    if kernel != Variant::Stock {
        name.push('-');
        name.push_str(kernel.name());
    }
    if clippy {
        name.push_str("-clippy");
    }
    if seams {
        name.push_str("-seams");
    }
    Ok(target.join(name))
}

/// Builds the module of a folder, quietly.
pub fn build(source: &Path, seams: bool, kernel: &Kernel, ui: &Ui) -> Result<Vec<PathBuf>> {
    let step = ui.step("Building the module", 0);
    let mut out = out_for(source, kernel.identity.variant, false, seams)?.into_os_string();
    // What was built for one kernel is not thrown away for another.
    if let Some(flavour) =
        Flavour::of(&kernel.identity.release).filter(|it| *it != Flavour::default())
    {
        out.push(format!("-{flavour}"));
    }
    let module = Module {
        source: source.to_owned(),
        out: out.into(),
        clippy: false,
        seams,
    };
    let files = module.build(kernel, ui)?;
    step.done();
    Ok(files)
}
