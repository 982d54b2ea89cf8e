//! A guest whose clock counts instructions, for `price`, `contend`, `bench-scale` and `yardstick`.

use crate::guest;
use crate::kit::Kit;
use crate::vm;
use anyhow::{bail, Context, Result};
use mapbuf_init::Job;
use mapbuf_vm::accel::Accel;
use mapbuf_vm::qemu;
use serde::de::DeserializeOwned;
use std::path::Path;
use std::time::Duration;

/// A clock that counts the instructions of all processors, which take turns. The string instructions of newer
/// processors are left out: the emulation would count each byte that they clear as one.
const QEMU: [&str; 4] = ["-icount", "shift=0,align=off", "-cpu", "max,-erms"];
/// A clock that the kernel does not doubt; and no ciphers testing themselves beside it.
const APPEND: [&str; 2] = ["tsc=reliable", "cryptomgr.notests"];
const MEMORY_MIB: u32 = 1024;
/// Counting makes the emulation slow.
const QUIET: Duration = Duration::from_secs(900);

/// The guest.
pub struct Guest<'a> {
    /// Its processors.
    pub processors: u32,
    /// Kernel parameters, beside those that counting needs.
    pub append: &'a [&'a str],
    /// Parameters of the driver.
    pub parameters: &'a str,
    /// The driver's folder, if not the usual one.
    pub driver: Option<&'a Path>,
    /// Memory of the machine in MiB.
    pub memory_mib: u32,
    /// The program that measures, of the package `mapbuf-guest`.
    pub program: &'a str,
    /// Modules of the kernel's own.
    pub modules: &'a [&'a str],
    /// Whether an IOMMU stands before the devices.
    pub iommu: bool,
    /// Whether the guest has the `mapbuf` command.
    pub command: bool,
    /// More arguments for QEMU.
    pub arguments: &'a [&'a str],
}

impl Default for Guest<'_> {
    fn default() -> Self {
        Self {
            processors: 1,
            append: &[],
            parameters: "",
            driver: None,
            memory_mib: MEMORY_MIB,
            program: "mapbuf-price",
            modules: &[],
            iommu: false,
            command: false,
            arguments: &[],
        }
    }
}

impl Guest<'_> {
    /// Boots it and runs the program with these words; what it measured, a line of JSON each.
    pub fn measure<T: DeserializeOwned>(&self, kit: &Kit, words: &[String]) -> Result<Vec<T>> {
        let program = guest::build(&["mapbuf-guest"], &kit.ui)?.join(self.program);
        let modules = kit.driver(self.driver)?;
        let mut guest = kit.guest(false)?;
        let mut job = Job {
            argv: [&[self.program.to_owned()], words].concat(),
            ..Job::default()
        };
        for name in self.modules {
            kit.load_own(&mut guest, &mut job, name, "")?;
        }
        kit.load(&mut guest, &mut job, &modules, self.parameters)?;
        guest.program(&program)?;
        if self.command {
            guest.program(&kit.command()?)?;
        }
        let mut machine = kit.machine();
        machine.accel = Accel::Tcg;
        machine.memory = self.memory_mib;
        machine.processors = self.processors;
        let append = APPEND.iter().chain(self.append);
        machine.append = append.map(|&word| word.to_owned()).collect();
        machine.qemu_arguments = QEMU.map(String::from).to_vec();
        machine.iommu = self.iommu;
        let more = self.arguments.iter().map(|&word| word.to_owned());
        machine.qemu_arguments.extend(more);
        machine.limits.quiet = Some(QUIET);
        machine.tell_time = false;
        let mut said = Vec::new();
        let report = kit.boot(&machine, guest, &job, &mut |stream, bytes| match stream {
            qemu::Stream::Stdout => said.extend_from_slice(bytes),
            qemu::Stream::Stderr => vm::to_own_streams(stream, bytes),
        })?;
        if !report.verdict.is_success() {
            vm::explain(&kit.ui, &report, false);
            bail!("nothing was measured: {}", report.verdict);
        }
        let said =
            String::from_utf8(said).with_context(|| format!("{} prints no text", self.program))?;
        let rows = said.lines().map(serde_json::from_str);
        rows.collect::<Result<_, _>>()
            .with_context(|| format!("{} printed something else", self.program))
    }
}
