//! What every command that boots a guest needs, made once.

use crate::guest::{self, Guest};
use crate::module;
use anyhow::{bail, Context, Result};
use mapbuf_guest::PATIENCE;
use mapbuf_init::{Job, LoadModule, RootDisk};
use mapbuf_vm::accel::Accel;
use mapbuf_vm::drivers::{Built, Drivers};
use mapbuf_vm::{disk, host, qemu, Cache, Choice, Flavour, Kernel, Machine, Ui, Variant};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long a program in the guest may print nothing while it is busy.
const QUIET: Duration = Duration::from_secs(300);

/// A kernel, PID 1, and what QEMU runs on.
#[derive(Clone)]
pub struct Kit {
    /// Where it says what it does.
    pub ui: Ui,
    /// Where it keeps things.
    pub cache: Cache,
    /// The kernel.
    pub kernel: Kernel,
    accel: Accel,
    init: PathBuf,
    /// Drivers beside those that the kernel's build has.
    drivers: Vec<Built>,
}

impl Kit {
    /// Makes everything ready, with the kernel that is asked for; with an empty cache this takes minutes.
    pub fn open(ui: &Ui, choice: &Choice) -> Result<Self> {
        host::ensure(ui)?;
        let cache = Cache::open(ui)?;
        let stock = Kernel::get(&cache, ui, Flavour::default(), &choice.stock)?;
        let init = guest::build(&["mapbuf-init"], ui)?.join("mapbuf-init");
        let accel = Accel::find(&cache, ui, &stock, &fs::read(&init)?)?;
        let kernel = stock.variant(&cache, ui, choice.variant)?;
        Ok(Self {
            ui: ui.clone(),
            cache,
            kernel,
            accel,
            init,
            drivers: Vec::new(),
        })
    }

    /// Builds drivers of the kernel's sources that its build leaves out, so that guests can load them.
    pub fn add_drivers(&mut self, drivers: &Drivers) -> Result<()> {
        let built = drivers.build(&self.cache, &self.ui, &self.kernel)?;
        self.drivers.push(built);
        Ok(())
    }

    /// The same with another build of the kernel, which is fetched when there is none.
    pub fn with_flavour(&self, flavour: Flavour) -> Result<Self> {
        let mut kit = self.clone();
        if flavour != Flavour::default() {
            kit.kernel = self.kernel.with_flavour(&self.cache, &self.ui, flavour)?;
        }
        Ok(kit)
    }

    /// Boots the kernel with a guest and its job, and stays with it to its end; `output` gets what the program prints.
    pub fn boot(
        &self,
        machine: &Machine,
        guest: Guest,
        job: &Job,
        output: &mut dyn FnMut(qemu::Stream, &[u8]),
    ) -> Result<qemu::Report> {
        qemu::run(machine, &self.kernel, guest.archive, job, None, output)
    }

    /// A machine with the defaults, and patience for its kernel.
    pub fn machine(&self) -> Machine {
        let accel = match self.accel {
            // A processor waits for microseconds to see whether another one changes what it is about to.
            Accel::Tcg if self.kernel.identity.variant == Variant::Kcsan => Accel::ParallelTcg,
            accel => accel,
        };
        let mut machine = Machine::new(accel);
        machine.limits.silence *= self.patience();
        machine.limits.boot_silence *= self.patience();
        machine.limits.quiet = Some(QUIET * self.patience());
        machine
    }

    /// What the kernel takes of a machine's memory beside what the stock kernel does, in MiB.
    pub fn overhead(&self) -> u32 {
        self.kernel.identity.variant.overhead()
    }

    /// How many times longer things may take than in the stock kernel.
    pub fn patience(&self) -> u32 {
        self.kernel.identity.variant.patience()
    }

    /// A guest without programs; `on_disk` says that a disk is to be its root.
    pub fn guest(&self, on_disk: bool) -> Result<Guest> {
        Guest::new(&self.kernel, &self.init, on_disk)
    }

    /// Builds the driver, or the module in `folder`.
    pub fn driver(&self, folder: Option<&Path>) -> Result<Vec<PathBuf>> {
        self.variant(folder, false)
    }

    /// The same, if need be with seams to wait at.
    pub fn variant(&self, folder: Option<&Path>, seams: bool) -> Result<Vec<PathBuf>> {
        let folder = match folder {
            Some(folder) => folder.to_owned(),
            None => module::default_dir()?,
        };
        module::build(&folder, seams, &self.kernel, &self.ui)
    }

    /// Tells a job about its kernel: what takes longer in it, and what it can look for at the end.
    pub fn suit(&self, job: &mut Job) {
        let variant = self.kernel.identity.variant;
        if variant != Variant::Stock {
            let patience = variant.patience().to_string();
            job.env.insert(PATIENCE.into(), patience);
            job.find_leaks = variant.finds_leaks();
        }
        if variant.injects_faults() {
            // Preempted after a fork, a process is told its processor by a write to a page that must be copied first.
            // If that fails for want of memory, it is killed: `rseq_slowpath_update_usr` of kernel/rseq.c.
            job.env
                .insert("GLIBC_TUNABLES".into(), "glibc.pthread.rseq=0".into());
        }
    }

    /// Gives a guest an ordinary Debian with these packages for its root, and has it load what that disk takes.
    pub fn root_on_disk(
        &self,
        ui: &Ui,
        machine: &mut Machine,
        guest: &mut Guest,
        job: &mut Job,
        packages: &[String],
    ) -> Result<()> {
        machine.disk = Some(disk::image(&self.cache, ui, &self.kernel, packages)?);
        job.root = Some(RootDisk {
            device: disk::DEVICE.into(),
            fstype: disk::FSTYPE.into(),
        });
        for module in disk::MODULES {
            self.load_own(guest, job, module, "")?;
        }
        Ok(())
    }

    /// Has the guest load modules that were built.
    pub fn load(
        &self,
        guest: &mut Guest,
        job: &mut Job,
        modules: &[PathBuf],
        parameters: &str,
    ) -> Result<()> {
        for file in modules {
            let path = guest.module(file)?;
            job.modules.push(LoadModule {
                path: path.clone(),
                params: parameters.to_owned(),
            });
            // For programs that load and unload it themselves.
            job.env.insert("MAPBUF_MODULE".into(), path);
        }
        Ok(())
    }

    /// Has the guest load a module of the kernel's own, with what it needs, before those that follow.
    pub fn load_own(
        &self,
        guest: &mut Guest,
        job: &mut Job,
        name: &str,
        parameters: &str,
    ) -> Result<()> {
        let mut files = None;
        for drivers in &self.drivers {
            files = files.or(drivers.with_dependencies(&self.kernel, name)?);
        }
        let files = match files {
            Some(files) => files,
            None => self.kernel.module_with_dependencies(name)?,
        };
        let last = files.len().saturating_sub(1);
        for (number, file) in files.iter().enumerate() {
            let path = guest.module(file)?;
            // Two that are asked for may need the same one.
            if job.modules.iter().any(|module| module.path == path) {
                continue;
            }
            let params = if number == last { parameters } else { "" };
            job.modules.push(LoadModule {
                path,
                params: params.to_owned(),
            });
        }
        Ok(())
    }

    /// Builds the `mapbuf` command for the guest.
    pub fn command(&self) -> Result<PathBuf> {
        Ok(guest::build(&["mapbuf-cli"], &self.ui)?.join("mapbuf"))
    }

    /// Compiles the C examples for the guest.
    pub fn examples(&self) -> Result<Vec<PathBuf>> {
        let step = self.ui.step("Compiling the C examples", 0);
        let workspace = crate::workspace()?;
        let out = workspace.join("target/examples");
        fs::create_dir_all(&out)?;
        let folder = workspace.join("examples/c");
        let mut sources: Vec<_> = fs::read_dir(&folder)
            .with_context(|| format!("{} is not there", folder.display()))?
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "c"))
            .collect();
        sources.sort();
        let mut programs = Vec::new();
        for source in sources {
            let Some(name) = source.file_stem().and_then(|stem| stem.to_str()) else {
                continue;
            };
            let program = out.join(name);
            let mut command = Command::new("cc");
            command
                .args([
                    "-std=gnu11",
                    "-O2",
                    "-Wall",
                    "-Wextra",
                    "-Werror",
                    "-static",
                ])
                .arg("-I")
                .arg(workspace.join("include"));
            if name.ends_with("_i386") {
                // There may be no 32-bit C library: system calls alone.
                command.args([
                    "-m32",
                    "-nostdlib",
                    "-ffreestanding",
                    "-fno-stack-protector",
                ]);
                command.args(["-fno-pic", "-no-pie"]);
            }
            let output = command.arg("-o").arg(&program).arg(&source).output();
            let output = output.context("cc could not be started")?;
            if !output.status.success() {
                bail!(
                    "{} did not compile:\n{}",
                    source.display(),
                    String::from_utf8_lossy(&output.stderr)
                );
            }
            programs.push(program);
        }
        step.done();
        Ok(programs)
    }
}
