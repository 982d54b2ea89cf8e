//! The command line, and the help that teaches it.

use crate::{
    commands::{
        apply::ApplyArgs,
        bind::BindArgs,
        create::CreateArgs,
        dump::DumpArgs,
        explain::ExplainArgs,
        fill::FillArgs,
        generate::{CompletionsArgs, ManArgs},
        info::InfoArgs,
        list::ListArgs,
        load::LoadArgs,
        probe::ProbeArgs,
        remove::RemoveArgs,
        show::ShowArgs,
        unbind::UnbindArgs,
        unload::UnloadArgs,
    },
    demo::{DemoArgs, SceneArgs, SCENE},
    diagnose::{CleanerArgs, DiagnoseArgs, StubArgs, CLEANER, STUB},
    doctor::DoctorArgs,
    figure::FigureArgs,
    matrix::MatrixArgs,
};
use clap::{Parser, Subcommand};
use std::path::Path;

const ABOUT: &str = "\
Kernel memory of every kind in user space.

The driver allocates memory that the kernel owns (for DMA, for vmalloc'd rings, physically contiguous), and programs map \
it without a copy. This command creates named buffers, each with its own node, /dev/mapbuf/named/NAME. Any program that \
can open the node can map the buffer with plain mmap, without knowing about mapbuf. A named buffer stays until its name \
is removed.";

const AFTER: &str = "\
Kinds of memory:
  vmalloc      scattered single pages, virtually contiguous in the kernel
  pages        scattered, in the largest runs available (2 MiB, down to 4 KiB)
  contiguous   one physically contiguous run
  coherent     one run for DMA (dma_alloc_coherent)

Exit codes:
  0  success
  1  the driver or the kernel refused, and said why; or a check of the demo failed; doctor: nothing works here
  2  the command line, or a file of 'mapbuf apply', is wrong
  3  no driver, no node, no such device, or no buffer with this name
  4  permission denied
  5  the module cannot be unloaded: processes hold its buffers or nodes
  6  something else failed (a file, a pipe)
  7  doctor: mapbuf diagnose works here, the driver does not
  8  doctor: the driver works here, mapbuf diagnose does not

Examples:
  mapbuf load
  mapbuf create ring --kind vmalloc --size 64K --fill-pages ddccbbaa --mode 0444
  mapbuf dump ring --length 32
  mapbuf show remap                          what a way to map does
  mapbuf diagnose -- ./my-program            why a program fails with a driver, mapbuf's or another
  mapbuf bind 0000:00:04.0                   let programs drive a PCI device
  mapbuf demo";

/// The mapbuf command.
#[derive(Debug, Parser)]
#[command(name = "mapbuf", version, about = "Kernel memory of every kind in user space", long_about = ABOUT, after_long_help = AFTER,
          after_help = "'mapbuf --help' shows the kinds of memory, the exit codes and examples", max_term_width = 100)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    Create(CreateArgs),
    Apply(ApplyArgs),
    Remove(RemoveArgs),
    List(ListArgs),
    Info(InfoArgs),
    Dump(DumpArgs),
    Fill(FillArgs),
    Bind(BindArgs),
    Unbind(UnbindArgs),
    Load(LoadArgs),
    Unload(UnloadArgs),
    Demo(DemoArgs),
    Explain(ExplainArgs),
    Matrix(MatrixArgs),
    Probe(ProbeArgs),
    Doctor(DoctorArgs),
    Show(ShowArgs),
    Figure(FigureArgs),
    Completions(CompletionsArgs),
    #[command(hide = true)]
    Man(ManArgs),
    Diagnose(DiagnoseArgs),
    #[command(name = STUB, hide = true)]
    DiagnosedProgram(StubArgs),
    #[command(name = CLEANER, hide = true)]
    DiagnoseCleaner(CleanerArgs),
    #[command(name = SCENE, hide = true)]
    DemoScene(SceneArgs),
}

impl Command {
    /// Whether the output, errors included, is JSON.
    pub fn json(&self) -> bool {
        match self {
            Self::Create(CreateArgs { output, .. })
            | Self::Apply(ApplyArgs { output, .. })
            | Self::Remove(RemoveArgs { output, .. })
            | Self::List(ListArgs { output, .. })
            | Self::Info(InfoArgs { output, .. })
            | Self::Dump(DumpArgs { output, .. })
            | Self::Fill(FillArgs { output, .. })
            | Self::Bind(BindArgs { output, .. })
            | Self::Unbind(UnbindArgs { output, .. })
            | Self::Load(LoadArgs { output, .. })
            | Self::Unload(UnloadArgs { output })
            | Self::Explain(ExplainArgs { output, .. })
            | Self::Matrix(MatrixArgs { output, .. })
            | Self::Doctor(DoctorArgs { output, .. })
            | Self::Show(ShowArgs { output, .. })
            | Self::Probe(ProbeArgs { output, .. }) => output.json,
            Self::Diagnose(_)
            | Self::DiagnosedProgram(_)
            | Self::DiagnoseCleaner(_)
            | Self::DemoScene(_)
            | Self::Figure(_)
            | Self::Completions(_)
            | Self::Man(_) => false,
            Self::Demo(args) => args.json.as_deref() == Some(Path::new("-")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }
}
