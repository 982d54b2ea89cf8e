//! The command line, and the help that teaches it.

use crate::{
    commands::{probe::ProbeArgs, show::ShowArgs},
    demo::{SceneArgs, SCENE},
    diagnose::{DiagnoseArgs, StubArgs, STUB},
    doctor::DoctorArgs,
    figure::FigureArgs,
    hex::Bytes,
    matrix::MatrixArgs,
};
use clap::{ArgGroup, Args as Group, Parser, Subcommand, ValueEnum};
use mapbuf::{Cache, Kind};
use std::path::{Path, PathBuf};

const ABOUT: &str = "\
Kernel memory of every kind in user space.

The driver allocates memory that the kernel owns (for DMA, for vmalloc'd rings, physically contiguous) and programs map \
it without a copy. This command makes buffers that have a name and a node, /dev/mapbuf/named/NAME: whoever may open the \
node maps the buffer with an ordinary mmap, knowing nothing of mapbuf. A named buffer lives until its name is removed.";

const AFTER: &str = "\
Kinds of memory:
  vmalloc      scattered single pages, virtually contiguous in the kernel
  pages        scattered, but in the largest runs that there are (2 MiB, down to 4 KiB)
  contiguous   one physically contiguous run
  coherent     one run for DMA (dma_alloc_coherent)

Exit codes:
  0  it is done
  1  the driver or the kernel refused, and said why; or a check of the demo failed, or doctor found something lacking
  2  the command line is wrong
  3  no driver, no node, or no buffer of this name
  4  no permission
  5  the module cannot be unloaded: processes hold buffers or nodes of it
  6  something else failed (a file, a pipe)

Examples:
  mapbuf load
  mapbuf create ring --kind vmalloc --size 64K --fill-pages ddccbbaa --mode 0444
  mapbuf dump ring --length 32
  mapbuf show remap                          what a way to map does
  mapbuf diagnose -- ./my-program            why a program fails with a driver, mapbuf's or another
  mapbuf demo";

/// The mapbuf command.
#[derive(Debug, Parser)]
#[command(name = "mapbuf", version, about = "Kernel memory of every kind in user space", long_about = ABOUT, after_long_help = AFTER,
          after_help = "'mapbuf --help' tells of kinds of memory, exit codes and examples", max_term_width = 100)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    Create(CreateArgs),
    Remove(RemoveArgs),
    List(ListArgs),
    Info(InfoArgs),
    Dump(DumpArgs),
    Fill(FillArgs),
    Load(LoadArgs),
    Unload(UnloadArgs),
    Demo(DemoArgs),
    Explain(ExplainArgs),
    Matrix(MatrixArgs),
    Probe(ProbeArgs),
    Doctor(DoctorArgs),
    Show(ShowArgs),
    Figure(FigureArgs),
    Diagnose(DiagnoseArgs),
    #[command(name = STUB, hide = true)]
    DiagnosedProgram(StubArgs),
    #[command(name = SCENE, hide = true)]
    DemoScene(SceneArgs),
}

impl Command {
    /// Whether the answer, and an error, are to be JSON.
    pub fn json(&self) -> bool {
        match self {
            Self::Create(CreateArgs { output, .. })
            | Self::Remove(RemoveArgs { output, .. })
            | Self::List(ListArgs { output })
            | Self::Info(InfoArgs { output, .. })
            | Self::Dump(DumpArgs { output, .. })
            | Self::Fill(FillArgs { output, .. })
            | Self::Load(LoadArgs { output, .. })
            | Self::Unload(UnloadArgs { output })
            | Self::Explain(ExplainArgs { output, .. })
            | Self::Matrix(MatrixArgs { output, .. })
            | Self::Doctor(DoctorArgs { output })
            | Self::Show(ShowArgs { output, .. })
            | Self::Probe(ProbeArgs { output, .. }) => output.json,
            Self::Diagnose(_)
            | Self::DiagnosedProgram(_)
            | Self::DemoScene(_)
            | Self::Figure(_) => false,
            Self::Demo(args) => args.json.as_deref() == Some(Path::new("-")),
        }
    }
}

/// How to answer.
#[derive(Clone, Copy, Debug, Group)]
pub struct OutputArgs {
    /// Answer in JSON, errors too: {"error": {"message", "exit_code", "errno", "reason", …}}
    #[arg(long)]
    pub json: bool,
}

/// Make a buffer with a name and a node of its own
///
/// The memory is zero, or filled with --fill-pages before anyone can see it. The node is /dev/mapbuf/named/NAME; offsets
/// in it are offsets in the buffer. It stays until 'mapbuf remove NAME', whoever comes and goes.
#[derive(Debug, Group)]
#[command(after_long_help = "Examples:
  mapbuf create ring --kind vmalloc --size 64K --fill-pages ddccbbaa
  mapbuf create frame --kind contiguous --size 2M --mode 0640
  mapbuf create near --kind pages --size 8M --numa-node 0 --json")]
pub struct CreateArgs {
    /// Its name: 1 to 64 letters, digits, '_', '.', '-', the first no '.' or '-'
    pub name: String,
    /// Its kind of memory
    #[arg(long, value_enum)]
    pub kind: KindArg,
    /// Its size: a number, with K, M, G or T for powers of 1024; rounded up to whole pages
    #[arg(long, value_parser = mapbuf::parse_size)]
    pub size: u64,
    /// How every view of it is cached
    #[arg(long, value_enum, default_value = "cached")]
    pub cache: CacheArg,
    /// The NUMA node to take the memory from, and from no other
    #[arg(long)]
    pub numa_node: Option<u32>,
    /// Bytes to write at the start of each page, in hexadecimal: ddccbbaa is the 32-bit word 0xaabbccdd
    #[arg(long, value_name = "HEXBYTES")]
    pub fill_pages: Option<Bytes>,
    /// The node's permission bits, in octal
    #[arg(long, default_value = "0660", value_parser = octal)]
    pub mode: u32,
    /// The node's owner, by number (another than yourself needs CAP_CHOWN)
    #[arg(long)]
    pub uid: Option<u32>,
    /// The node's group, by number (one that you are not in needs CAP_CHOWN)
    #[arg(long)]
    pub gid: Option<u32>,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Take names away
///
/// The nodes are gone at once. Programs that have one open or mapped keep the memory, and it goes with the last of them.
#[derive(Debug, Group)]
pub struct RemoveArgs {
    /// The names
    #[arg(required = true)]
    pub names: Vec<String>,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// List the named buffers and the regions
///
/// Regions are declared when the module is loaded (regions=...). Those that were refused are listed with the reason, and
/// those that answer with nothing but ones or zeros, or that have nothing behind them, with that state.
#[derive(Debug, Group)]
pub struct ListArgs {
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Tell about one named buffer, or about the driver
///
/// For a buffer: size, kind, mappings, and the physical runs that it lies in (addresses need privileges). Without a
/// name: what the driver can, its limits, and what is used of them.
#[derive(Debug, Group)]
pub struct InfoArgs {
    /// The buffer's name
    pub name: Option<String>,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Show the bytes of a named buffer, as xxd does
///
/// Reads by the kernel's own view (pread), which shows what every mapping shows.
#[derive(Debug, Group)]
pub struct DumpArgs {
    /// The buffer's name
    pub name: String,
    /// The first byte
    #[arg(long, default_value = "0", value_parser = mapbuf::parse_size)]
    pub offset: u64,
    /// How many bytes; without this, all to the end
    #[arg(long, value_parser = mapbuf::parse_size)]
    pub length: Option<u64>,
    /// Let a '*' stand for lines that are the same as the one before and the one behind them
    #[arg(short = 'a', long)]
    pub autoskip: bool,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Write a byte, or bytes at each page's start, into a named buffer
#[derive(Debug, Group)]
#[command(group = ArgGroup::new("what").required(true), after_long_help = "Examples:
  mapbuf fill ring --byte 00
  mapbuf fill ring --pages ddccbbaa
  mapbuf fill ring --byte ff --offset 4K --length 4K")]
pub struct FillArgs {
    /// The buffer's name
    pub name: String,
    /// The byte, in hexadecimal, for every place
    #[arg(long, value_name = "HEX", group = "what", value_parser = one_byte)]
    pub byte: Option<u8>,
    /// Bytes for the start of each page, in hexadecimal; the rest of the page stays
    #[arg(long, value_name = "HEXBYTES", group = "what")]
    pub pages: Option<Bytes>,
    /// The first byte
    #[arg(long, default_value = "0", value_parser = mapbuf::parse_size)]
    pub offset: u64,
    /// How many bytes; without this, all to the end
    #[arg(long, value_parser = mapbuf::parse_size)]
    pub length: Option<u64>,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Load the driver's module
///
/// The file is looked for in /lib/modules/RELEASE (updates, extra, misc) and in /lib/modules, unless --module names it.
/// A driver that is loaded already is left as it is, parameters too.
#[derive(Debug, Group)]
#[command(after_long_help = "Parameters:
  max_bytes=N            all buffers together; 0: half of the machine's memory
  max_bytes_per_user=N   one user's buffers together; 0: a quarter of it
  max_buffers=N          buffers of one session
  max_names=N            named buffers
  expose_dma=1           show DMA addresses of /dev/mapbuf/system to everyone
  regions=NAME:START:SIZE:ram|mmio[:cached|wc|uc][:8|16|32|64][:probe][:trust],...
                         reserved physical ranges, each a named buffer; probe: write and restore a pattern

Example:
  mapbuf load --module ./mapbuf.ko max_bytes=256M")]
pub struct LoadArgs {
    /// The module's file
    #[arg(long, value_name = "FILE")]
    pub module: Option<PathBuf>,
    /// Parameters of the module; sizes may have units
    #[arg(value_name = "PARAM=VALUE")]
    pub params: Vec<String>,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Take all names away and unload the driver's module, if no process holds anything of it
///
/// Named buffers hold the module, so their names go first. If any process has a node or a dma-buf open, or a buffer
/// mapped, nothing is touched: the answer names the processes, and the exit code is 5.
#[derive(Debug, Group)]
pub struct UnloadArgs {
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Show what the driver does, and check it
///
/// Allocates a buffer of each kind, maps it, writes and reads through the mapping and through the kernel's view, maps a
/// part, frees while mapped, and draws which virtual page lies on which physical frame. Then come the two questions that
/// mapbuf answers, a refusal with its reason, and, where nothing else uses the driver, unloading and loading it again.
/// Run it as root: physical addresses are not shown to others.
#[derive(Debug, Group)]
pub struct DemoArgs {
    /// Write the results of all checks to this file, as JSON; without a file, or with '-', to standard output in place
    /// of the text
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub json: Option<PathBuf>,
    /// What the guide shows, to run it: a list that 'cargo xtask demo' makes
    #[arg(long, value_name = "FILE")]
    pub guide: Option<PathBuf>,
    /// The module's file, to load it again in the end
    #[arg(long, value_name = "FILE")]
    pub module: Option<PathBuf>,
}

/// Tell what a reason means and what to do about it
///
/// Every refusal of the driver carries a reason with a number and a name. Without one of them here, all are listed.
#[derive(Debug, Group)]
#[command(after_long_help = "Examples:
  mapbuf explain CowNeedsContiguous
  mapbuf explain 305")]
pub struct ExplainArgs {
    /// The reason's name or number; 'core': all that the kernel's memory manager refuses by itself
    pub reason: Option<String>,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Kinds of memory that can be asked for.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum KindArg {
    /// Scattered single pages, virtually contiguous in the kernel
    Vmalloc,
    /// Scattered, but in the largest runs that there are
    Pages,
    /// One physically contiguous run
    Contiguous,
    /// One run for DMA (dma_alloc_coherent)
    Coherent,
}

impl From<KindArg> for Kind {
    fn from(kind: KindArg) -> Self {
        match kind {
            KindArg::Vmalloc => Self::Vmalloc,
            KindArg::Pages => Self::Pages,
            KindArg::Contiguous => Self::Contiguous,
            KindArg::Coherent => Self::Coherent,
        }
    }
}

/// Cache modes.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum CacheArg {
    /// Ordinary write-back memory
    Cached,
    /// Writes are gathered, reads are not cached
    WriteCombined,
    /// Every access goes to memory
    Uncached,
}

impl From<CacheArg> for Cache {
    fn from(cache: CacheArg) -> Self {
        match cache {
            CacheArg::Cached => Self::Cached,
            CacheArg::WriteCombined => Self::WriteCombined,
            CacheArg::Uncached => Self::Uncached,
        }
    }
}

fn octal(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    u32::from_str_radix(digits, 8)
        .map_err(|_| "write permission bits in octal, such as 0660".to_owned())
}

fn one_byte(text: &str) -> Result<u8, String> {
    u8::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16)
        .map_err(|_| "write one byte in hexadecimal, such as 5a".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn kinds_and_cache_modes_have_the_names_of_the_interface() {
        for arg in KindArg::value_variants() {
            let name = arg.to_possible_value().unwrap();
            assert_eq!(Kind::from(*arg).name(), name.get_name());
        }
        for arg in CacheArg::value_variants() {
            let name = arg.to_possible_value().unwrap();
            assert_eq!(Cache::from(*arg).name(), name.get_name());
        }
    }

    #[test]
    fn numbers_are_read_as_people_write_them() {
        assert_eq!(octal("0660"), Ok(0o660));
        assert_eq!(octal("444"), Ok(0o444));
        assert!(octal("0o8").is_err());
        assert_eq!(one_byte("5a"), Ok(0x5a));
        assert_eq!(one_byte("0xff"), Ok(0xff));
        assert!(one_byte("100").is_err());
    }
}
