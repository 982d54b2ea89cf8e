//! `cargo xtask demo`

use crate::docs::{self, programs};
use crate::guest::Guest;
use crate::kit::Kit;
use crate::test::museum;
use crate::vm;
use anyhow::{bail, Context, Result};
use mapbuf_init::Job;
use mapbuf_vm::{device, qemu, Choice, Ui};
use std::fs;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

/// Where the demo writes its results in the guest.
const RESULTS: &str = "/tmp/demo.json";
/// A range of memory that the guest's kernel leaves alone, and what the module is told of it, and of a place where this
/// machine has nothing.
const RESERVED: &str = "memmap=2M$0x30000000";
const REGIONS: &str = "regions=ring:0x30000000:1M:ram:probe,uncached:0x30100000:1M:ram:uc:probe,\
                       hole:0x90000000:64K:ram:probe";
/// What the scene of devices drives, behind an IOMMU.
const DEVICES: [&str; 2] = ["edu", "nvme"];
/// Where the guest finds what the guide shows.
const GUIDE: &str = "/guide.json";
/// Buffers that the guide's programs map by name, and what they are.
const NAMED: [(&str, &str); 5] = [
    ("museum-vmalloc", "vmalloc"),
    ("museum-pages", "pages"),
    ("museum-contiguous", "contiguous"),
    ("museum-coherent", "coherent"),
    ("museum-uncached", "contiguous --cache uncached"),
];

/// Show what the driver does: get a kernel, build the module, boot, load it, run the demo.
#[derive(clap::Args)]
pub struct Arguments {
    /// Write the results to this file as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Take the module from this folder instead of the driver's.
    #[arg(long, value_name = "DIR")]
    driver: Option<PathBuf>,
    /// Which kernel, as for `cargo xtask kernel`.
    #[arg(long, value_name = "KERNEL", default_value_t)]
    kernel: Choice,
}

/// What it takes to run the demo, any number of times.
pub struct Show {
    /// The kit.
    pub kit: Kit,
    command: PathBuf,
    /// Why the guide does not build.
    guide: Option<String>,
}

impl Show {
    /// Makes all ready but the module.
    pub fn new(ui: &Ui, choice: &Choice) -> Result<Self> {
        // The guide is made meanwhile; whether it was is one of the things that are shown.
        let guide = thread::spawn(|| docs::book(&Ui::default().quiet()));
        let kit = Kit::open(ui, choice)?;
        let step = ui.step("Building the guide", 0);
        let guide = guide.join().unwrap_or_else(|_| bail!("it was broken off"));
        step.done();
        Self::with(kit, guide)
    }

    /// The same with a kit that is there.
    pub fn of(kit: Kit) -> Result<Self> {
        let guide = docs::book(&kit.ui.quiet());
        Self::with(kit, guide)
    }

    fn with<T>(kit: Kit, guide: Result<T>) -> Result<Self> {
        Ok(Self {
            command: kit.command()?,
            kit,
            guide: guide.err().map(|error| format!("{error:#}")),
        })
    }

    /// Boots a guest with the module and runs the demo in it; with `json` its results are the report's file. With
    /// `guide` the guide's programs are run as well.
    pub fn boot(
        &self,
        modules: &[PathBuf],
        json: bool,
        guide: bool,
        output: &mut dyn FnMut(qemu::Stream, &[u8]),
    ) -> Result<qemu::Report> {
        let mut guest = self.kit.guest(false)?;
        let mut job = Job {
            argv: ["mapbuf", "demo", "--dma-heaps"].map(String::from).to_vec(),
            ..Job::default()
        };
        self.kit.load(&mut guest, &mut job, modules, REGIONS)?;
        guest.program(&self.command)?;
        if guide {
            self.put_guide(&mut guest, &mut job)?;
        }
        if std::io::stdout().is_terminal() {
            let (_, columns) = crate::terminal::size();
            job.env.insert("COLUMNS".into(), columns.to_string());
            job.env.insert("CLICOLOR_FORCE".into(), "1".into());
        }
        if json {
            job.argv.extend(["--json".into(), RESULTS.into()]);
            job.fetch.push(RESULTS.into());
        }
        let mut machine = self.kit.machine();
        machine.append.push(RESERVED.into());
        machine.devices = device::parse(&DEVICES)?;
        machine.iommu = true;
        self.kit.boot(&machine, guest, &job, output)
    }

    /// Puts the guide's programs into the guest, and a list of them.
    fn put_guide(&self, guest: &mut Guest, job: &mut Job) -> Result<()> {
        museum::furnish(&self.kit, guest, job)?;
        for example in self.kit.examples()? {
            guest.program(&example)?;
            guest.example(&example)?;
        }
        let folder = crate::workspace()?.join("examples/c");
        guest.example(&folder.join("handover.sh"))?;
        let setup = |command| programs::Program {
            chapter: "setup".into(),
            command,
            status: 0,
        };
        let exhibits = "for module in /museum/*.ko; do case $module in */reads_ones.ko) ;; *) insmod $module || exit;; esac; \
                        done";
        let mut list = vec![setup(exhibits.into())];
        for (name, kind) in NAMED {
            let command = format!("mapbuf create {name} --kind {kind} --size 64K");
            list.push(setup(command));
        }
        list.extend(programs::all()?);
        for (name, _) in NAMED {
            list.push(setup(format!("mapbuf remove {name}")));
        }
        let guide = serde_json::json!({
            "failed": self.guide,
            "programs": list,
        });
        guest
            .archive
            .file(GUIDE, 0o644, guide.to_string().as_bytes())?;
        job.argv.extend(["--guide".into(), GUIDE.into()]);
        Ok(())
    }
}

/// Runs the command.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    let ui = Ui::default();
    let show = Show::new(&ui, &arguments.kernel)?;
    let modules = show.kit.driver(arguments.driver.as_deref())?;
    let release = &show.kit.kernel.identity.release;
    let step = ui.step(&format!("Booting {release}"), 0);
    let mut step = Some(step);
    let mut output = |stream, bytes: &[u8]| {
        // A bar must be gone before anything else is printed.
        if let Some(step) = step.take() {
            step.done();
        }
        vm::to_own_streams(stream, bytes);
    };
    let report = show.boot(&modules, arguments.json.is_some(), true, &mut output)?;
    drop(step);
    vm::explain(&ui, &report, false);
    if let (Some(path), Some(file)) = (&arguments.json, report.files.first()) {
        match file {
            Ok(contents) => {
                fs::write(path, contents)
                    .with_context(|| format!("{} cannot be written", path.display()))?;
                ui.note(format!("The results are in {}.", path.display()));
            }
            Err(error) => {
                ui.note(format!("The demo left no results: {error}"));
                if report.verdict.is_success() {
                    return Ok(ExitCode::FAILURE);
                }
            }
        }
    }
    Ok(vm::exit_code(report.verdict.exit_code()))
}
