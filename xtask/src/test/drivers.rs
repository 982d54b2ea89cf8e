//! The example drivers (`examples/drivers`): every one is loaded and tried in the guest, by the same checks.

use super::plan::Boot;
use super::stock::{self, Results};
use crate::guest;
use crate::kit::Kit;
use crate::new_driver::{self, Language, WAYS};
use anyhow::{bail, Context, Result};
use mapbuf_guest::Profile;
use mapbuf_init::Job;
use mapbuf_vm::museum_kernel::{self, Series};
use mapbuf_vm::qemu;
use mapbuf_vm::shared::SharedMemory;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The name for `--profile`.
pub const PROFILE: &str = "drivers";

const BOOT: Profile = Profile {
    name: PROFILE,
    purpose: "the example drivers, each loaded, used and unloaded for every check",
    // `mapbuf diagnose` sets probes, for which the kernel's own code is rewritten: one processor, as in the museum.
    append: &["memmap=1M$0x30000000", "tsc=reliable"],
    memory_mib: 1024,
    processors: 1,
    modules: &[],
    module_parameters: "",
    qemu_args: &[],
    quiet_seconds: 120,
    ..Profile::PLAIN
};

/// Memory of the PCI device whose BAR is mapped.
const BAR_BYTES: u64 = 1 << 20;
/// Where the modules lie in the guest.
const HALL: &str = "/drivers";

/// What `cargo xtask new-driver` makes of each example, built as its words say: modules named `new_` and the example's
/// name, and the programs that try them.
fn new_drivers(kit: &Kit) -> Result<Vec<PathBuf>> {
    let folder = crate::workspace()?.join("target/new-drivers");
    // As a newcomer finds it: nothing there.
    let scratch = tempfile::tempdir()?;
    fs::create_dir_all(folder.with_extension("programs"))?;
    let mut files = Vec::new();
    // One run of make for all, which goes into each folder.
    let mut kbuild = String::new();
    let in_c = WAYS.iter().map(|way| (way, Language::C, ""));
    let in_rust = WAYS.iter().map(|way| (way, Language::Rust, "rust_"));
    for (way, lang, prefix) in in_c.chain(in_rust) {
        let name = format!("new_{prefix}{}", way.file);
        let made = scratch.path().join(&name);
        new_driver::make(way, &name, lang, &made)?;
        kbuild += &format!("obj-m += {name}/\n");
        let program = folder
            .with_extension("programs")
            .join(format!("{name}.try"));
        let mut command = Command::new("cc");
        command
            .args(["-Wall", "-Werror", "-static", "-o"])
            .arg(&program);
        let output = command.arg(made.join("try.c")).output();
        let output = output.context("cc could not be started")?;
        if !output.status.success() {
            bail!("{name}/try.c: {}", String::from_utf8_lossy(&output.stderr));
        }
        files.push(program);
    }
    fs::write(scratch.path().join("Kbuild"), kbuild)?;
    mirror(scratch.path(), &folder)?;
    files.extend(kit.driver(Some(&folder))?);
    Ok(files)
}

/// Makes a folder the same as another. Files that are the same already stay as they are, since make looks at their time.
fn mirror(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(to)? {
        let path = entry?.path();
        let kept = path.file_name().map(|name| from.join(name));
        if kept.is_some_and(|kept| kept.is_dir() == path.is_dir() && kept.exists()) {
            continue;
        }
        if path.is_dir() {
            fs::remove_dir_all(path)?;
        } else {
            fs::remove_file(path)?;
        }
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, place) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            mirror(&path, &place)?;
            continue;
        }
        let text = fs::read(&path)?;
        if fs::read(&place).ok() != Some(text.clone()) {
            fs::write(&place, text).with_context(|| place.display().to_string())?;
        }
    }
    Ok(())
}

/// Which checks are made, and with which kernel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope {
    /// All of them.
    Whole,
    /// Those that a slow kernel, or another series, could answer otherwise.
    Short,
    /// The drivers in C with a kernel that mapbuf's own driver does not support.
    Older(Series),
}

impl Scope {
    /// All scopes. The drivers in C are for these series before 7.2.
    pub const ALL: [Self; 4] = [
        Self::Whole,
        Self::Short,
        Self::Older(Series::V6_1),
        Self::Older(Series::V6_12),
    ];

    /// The name for `--profile`.
    pub fn profile(self) -> String {
        match self {
            Self::Whole => PROFILE.to_owned(),
            Self::Short => format!("{PROFILE}-short"),
            Self::Older(series) => format!("{PROFILE}-{series}"),
        }
    }

    /// The word for `mapbuf-drivers`.
    fn word(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Short => "short",
            Self::Older(_) => "older",
        }
    }
}

/// What is to be booted, if there are such checks.
pub fn plan<'a>(
    kit: &'a Kit,
    scope: Scope,
    filter: &'a str,
    logs: &'a Path,
) -> Result<Option<Boot<'a>>> {
    let program = guest::build(&["mapbuf-guest"], &kit.ui)?.join("mapbuf-drivers");
    let listed = Command::new(&program)
        .args(["--list", scope.word(), filter])
        .output()
        .context("mapbuf-drivers could not be started")?;
    let tests = String::from_utf8_lossy(&listed.stdout).lines().count();
    if tests == 0 {
        return Ok(None);
    }
    Ok(Some(Boot {
        name: scope.profile(),
        purpose: match scope {
            Scope::Older(_) => "the example drivers in C, in a kernel that Debian maintains",
            Scope::Short => {
                "the example drivers, those checks that other kernels could answer otherwise"
            }
            Scope::Whole => BOOT.purpose,
        },
        tests: tests as u64,
        memory: BOOT.memory_mib + kit.overhead(),
        run: Box::new(move |line| {
            let begun = Instant::now();
            let mut results = Results::default();
            let report = boot(kit, scope, &program, filter, &mut |stream, bytes| {
                results.take(stream, bytes);
                results.tell(line);
            })?;
            let rung = kit.kernel.identity.variant.name();
            let rung = match scope {
                Scope::Older(series) => series.number(),
                _ => rung,
            };
            let log = logs.join(format!("{rung}-{}.log", scope.profile()));
            results.conclude(rung, &BOOT, &report, begun.elapsed(), &log)
        }),
    }))
}

/// The examples in both languages, and a driver that takes what the exporters export.
fn modules(kit: &Kit) -> Result<Vec<PathBuf>> {
    let folders = [
        new_driver::examples()?,
        new_driver::examples_in_rust()?,
        stock::test_module("importer")?,
    ];
    let built: Result<Vec<_>> = folders.iter().map(|one| kit.driver(Some(one))).collect();
    Ok(built?.concat())
}

/// The examples in C for a kernel that has no Rust.
fn older_modules(kit: &Kit, series: Series) -> Result<Vec<PathBuf>> {
    let step = kit.ui.step("Building the example drivers", 0);
    let out = crate::workspace()?
        .join("target/drivers")
        .join(series.number());
    mirror(&new_driver::examples()?, &out)?;
    museum_kernel::build_modules(&kit.kernel, &out)?;
    step.done();
    museum_kernel::modules_under(&out)
}

/// Boots a guest that has the drivers, and tries what has such a name.
fn boot(
    kit: &Kit,
    scope: Scope,
    program: &Path,
    filter: &str,
    take: &mut dyn FnMut(qemu::Stream, &[u8]),
) -> Result<qemu::Report> {
    let mut kit = kit.clone();
    let files = match scope {
        Scope::Whole => [modules(&kit)?, new_drivers(&kit)?].concat(),
        Scope::Short => modules(&kit)?,
        Scope::Older(series) => {
            kit.kernel = museum_kernel::get(&kit.cache, &kit.ui, series)?;
            older_modules(&kit, series)?
        }
    };
    let mut guest = kit.guest(false)?;
    let mut job = Job {
        argv: ["mapbuf-drivers", "--all", scope.word(), filter]
            .map(Into::into)
            .to_vec(),
        ..Job::default()
    };
    for file in &files {
        let name = file.file_name().context("a file without a name")?;
        guest.copy(file, &Path::new(HALL).join(name))?;
    }
    guest.program(&kit.command()?)?;
    guest.program(program)?;
    for example in kit.examples()? {
        guest.example(&example)?;
    }
    kit.suit(&mut job);
    let bar = SharedMemory::new(BAR_BYTES)?;
    let mut machine = kit.machine();
    machine.memory = BOOT.memory_mib + kit.overhead();
    machine.processors = BOOT.processors;
    machine.append = BOOT.append.iter().map(|&word| word.to_owned()).collect();
    machine.qemu_arguments = vec![
        "-object".into(),
        bar.object("bar", false),
        "-device".into(),
        "ivshmem-plain,memdev=bar".into(),
    ];
    machine.limits.quiet = Some(Duration::from_secs(BOOT.quiet_seconds) * kit.patience());
    kit.boot(&machine, guest, &job, take)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    #[test]
    fn what_is_the_same_is_not_made_again() {
        let scratch = tempfile::tempdir().unwrap();
        let (from, to) = (scratch.path().join("from"), scratch.path().join("to"));
        for folder in ["from/a", "to/a", "to/gone", "to/file"] {
            fs::create_dir_all(scratch.path().join(folder)).unwrap();
        }
        fs::write(from.join("file"), "a folder once").unwrap();
        for name in ["same", "other", "a/same"] {
            fs::write(from.join(name), "now").unwrap();
            fs::write(to.join(name), if name == "other" { "then" } else { "now" }).unwrap();
            let file = fs::File::options()
                .append(true)
                .open(to.join(name))
                .unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        }
        fs::write(to.join("a/gone"), "then").unwrap();
        mirror(&from, &to).unwrap();
        assert!(!to.join("gone").exists() && !to.join("a/gone").exists());
        assert_eq!(fs::read(to.join("file")).unwrap(), b"a folder once");
        assert_eq!(fs::read(to.join("other")).unwrap(), b"now");
        let made = |name| fs::metadata(to.join(name)).unwrap().modified().unwrap();
        assert_eq!(made("same"), SystemTime::UNIX_EPOCH);
        assert_eq!(made("a/same"), SystemTime::UNIX_EPOCH);
        assert_ne!(made("other"), SystemTime::UNIX_EPOCH);
    }
}
