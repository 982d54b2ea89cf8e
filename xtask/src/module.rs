//! `cargo xtask module`

use anyhow::{Context, Result};
use mapbuf_vm::debian::{Toolchain, Userland};
use mapbuf_vm::module::Module;
use mapbuf_vm::tree::Tree;
use mapbuf_vm::{host, Cache, Choice, Flavour, Kernel, Suite, Ui};
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
    /// The kit's kernel to build against, as for `cargo xtask kernel`.
    #[arg(long, value_name = "KERNEL", default_value_t, conflicts_with = "build")]
    kernel: Choice,
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

/// What a module is built against.
enum Against {
    /// A kernel of the kit's.
    Kernel(Kernel),
    /// A tree that somebody named.
    Tree(Tree),
}

impl Against {
    fn find(arguments: &Arguments, cache: &Cache, ui: &Ui) -> Result<Self> {
        let Some(name) = &arguments.build else {
            host::ensure(ui)?;
            let Choice { variant, stock } = &arguments.kernel;
            let stock = Kernel::get(cache, ui, Flavour::default(), stock)?;
            return Ok(Self::Kernel(stock.variant(cache, ui, *variant)?));
        };
        let tree = if name == Path::new("running") {
            Tree::of_running_kernel()?
        } else {
            Tree::open(name)?
        };
        Ok(match Kernel::with_tree(cache, &tree.path) {
            Some(kernel) => Self::Kernel(kernel),
            None => Self::Tree(tree),
        })
    }

    fn release(&self) -> String {
        match self {
            Self::Kernel(kernel) => kernel.identity.release.clone(),
            Self::Tree(tree) => tree.release().unwrap_or_else(|| "unprepared".into()),
        }
    }
}

/// Runs the command.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    let ui = Ui::default();
    let source = match &arguments.dir {
        Some(dir) => dir.clone(),
        None => default_dir()?,
    };
    let cache = Cache::open(&ui)?;
    let against = Against::find(arguments, &cache, &ui)?;
    let out = match &arguments.out {
        Some(out) => out.clone(),
        None => out_for(
            &source,
            &against.release(),
            arguments.clippy,
            arguments.seams,
        )?,
    };
    let module = Module {
        source,
        out,
        clippy: arguments.clippy,
        seams: arguments.seams,
    };
    let files = match against {
        Against::Kernel(kernel) => module.build(&kernel, &ui)?,
        Against::Tree(tree) => {
            let kits = Suite::ALL.map(|suite| Userland::newest(&cache, suite, Toolchain::Gcc));
            let kits: Vec<_> = kits.iter().filter_map(|it| it.if_made(&cache)).collect();
            module.build_against(&tree, tree.suited(&kits), &ui)?
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

/// Where a module's results go when nobody says: a folder for each source folder, and in it one for each kernel, so that
/// what was built for one is not thrown away for another.
pub fn out_for(source: &Path, release: &str, clippy: bool, seams: bool) -> Result<PathBuf> {
    let source = source
        .canonicalize()
        .with_context(|| format!("{} is not there", source.display()))?;
    let target = crate::workspace()?.join("target");
    let folder = if source == default_dir()?.canonicalize()? {
        "driver".to_owned()
    } else {
        let mut hasher = DefaultHasher::new();
        source.hash(&mut hasher);
        format!("module-{:016x}", hasher.finish())
    };
    let mut name = release.to_owned();
    if clippy {
        name.push_str("-clippy");
    }
    if seams {
        name.push_str("-seams");
    }
    Ok(target.join(folder).join(name))
}

/// Builds the module of a folder, quietly.
pub fn build(source: &Path, seams: bool, kernel: &Kernel, ui: &Ui) -> Result<Vec<PathBuf>> {
    let step = ui.step("Building the module", 0);
    let module = Module {
        source: source.to_owned(),
        out: out_for(source, &kernel.identity.release, false, seams)?,
        clippy: false,
        seams,
    };
    let files = module.build(kernel, ui)?;
    step.done();
    Ok(files)
}
