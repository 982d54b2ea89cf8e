//! `cargo xtask museum --reports DIR`: mistakes that people reported, rebuilt as small modules and programs, each given to
//! `mapbuf diagnose`; and the score.

use crate::guest;
use crate::kit::Kit;
use crate::vm;
use anyhow::{bail, Context, Result};
use mapbuf_init::Job;
use mapbuf_vm::museum_kernel::{self, Series};
use mapbuf_vm::{cache, qemu, Kernel};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

/// Where the reports lie in the guest.
const HALL: &str = "/reports";
/// Where the exhibits lie in the guest.
const EXHIBITS: &str = "/museum";
/// The exhibit that does not build for these kernels: `vmf_insert_mixed` takes a frame of another type there.
const OF_NEWER_KERNELS: &str = "pfn_flag_missing.o";
/// Physical memory that the kernel does not use, as a device's would be: some reports map it.
const SPARE_MEMORY: &str = "memmap=1M$0x30000000";
/// A museum has many rooms.
const TIMEOUT: Duration = Duration::from_secs(1800);

/// Builds the reports of a folder and gives each to `mapbuf diagnose` in a guest.
pub fn reports(
    kit: &Kit,
    folder: &Path,
    filter: &str,
    series: Option<Series>,
    verbose: bool,
) -> Result<ExitCode> {
    let report = boot_reports(
        kit,
        &[folder.to_owned()],
        filter,
        series,
        verbose,
        &mut vm::to_own_streams,
    )?;
    let oopses = report.log.iter().filter(|line| line.contains("Oops:"));
    kit.ui.note(format!(
        "{} ({} lines of the kernel's log mention an oops, as expected for some reports)",
        report.verdict,
        oopses.count()
    ));
    if report.program.is_none() || verbose {
        vm::explain(&kit.ui, &report, verbose);
    }
    // What the kernel says of the mistakes is what is looked for: the program's end alone counts.
    Ok(match report.program {
        Some(mapbuf_init::Ending::Exited(status)) => vm::exit_code(status),
        _ => vm::exit_code(report.verdict.exit_code()),
    })
}

/// The same, with the output going elsewhere.
pub fn boot_reports(
    kit: &Kit,
    folders: &[PathBuf],
    filter: &str,
    series: Option<Series>,
    verbose: bool,
    take: &mut dyn FnMut(qemu::Stream, &[u8]),
) -> Result<qemu::Report> {
    let mut kit = kit.clone();
    if let Some(series) = series {
        kit.kernel = museum_kernel::get(&kit.cache, &kit.ui, series)?;
    }
    // What is built for this kernel is in one place, and is read until the guest is booted.
    let place = crate::workspace()?.join("target/reports");
    fs::create_dir_all(&place)?;
    let lock = place.join(format!("{}.lock", name_of(series)));
    let _lock = cache::lock_file(&lock, &kit.ui)?;
    let mut guest = kit.guest(false)?;
    let program = guest::build(&["mapbuf-guest"], &kit.ui)?.join("mapbuf-museum");
    guest.program(&kit.command()?)?;
    guest.program(&program)?;
    for (name, path) in build(&kit, folders, filter, series)? {
        guest.copy(&path, &Path::new(HALL).join(name))?;
    }
    // On the driver's own kernel they have a guest of their own.
    let wanted = filter.split(',').any(|part| "exhibits".contains(part));
    if let (Some(series), true) = (series, wanted) {
        for file in exhibits(&kit.kernel, series)? {
            let name = file.file_name().context("a file without a name")?;
            guest.copy(&file, &Path::new(EXHIBITS).join(name))?;
        }
    }
    let mut job = Job {
        argv: ["mapbuf-museum", "--reports", HALL]
            .map(str::to_owned)
            .to_vec(),
        ..Job::default()
    };
    if verbose {
        job.argv.push("--verbose".into());
    }
    let mut machine = kit.machine();
    machine.memory = 1024;
    // See the museum's own profile.
    machine.processors = 1;
    machine.append = ["tsc=reliable", SPARE_MEMORY].map(str::to_owned).to_vec();
    machine.qemu_arguments = ["-device", "edu"].map(Into::into).to_vec();
    machine.limits.timeout = Some(TIMEOUT);
    let mut said = Vec::new();
    let report = kit.boot(&machine, guest, &job, &mut |stream, bytes| {
        said.extend_from_slice(bytes);
        take(stream, bytes);
    })?;
    let own = [crate::workspace()?.join(REPORTS)];
    if filter.is_empty() && folders.iter().eq(&own) {
        let said = String::from_utf8_lossy(&said);
        if let Some(score) = said.lines().find_map(|line| line.strip_prefix("score on ")) {
            record(series, &kit, score, &missed(&said))?;
        }
    }
    Ok(report)
}

/// The reports of this project.
pub const REPORTS: &str = "examples/reports";

/// Where the last score on a kernel is kept, with the command that it is one of.
fn kept(series: Option<Series>) -> Result<PathBuf> {
    Ok(crate::workspace()?.join(format!("target/scores/{}", name_of(series))))
}

fn name_of(series: Option<Series>) -> &'static str {
    series.map_or("stock", Series::number)
}

/// What tells one build of the command from another.
fn print_of(kit: &Kit) -> Result<String> {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    fs::read(kit.command()?)?.hash(&mut hasher);
    Ok(format!("{:016x}", hasher.finish()))
}

/// The reports whose cause was not named, or not alone: "silent: NAME".
fn missed(said: &str) -> Vec<String> {
    let of = |line: &str| {
        let (score, rest) = line.split_once(' ')?;
        let score = score.to_lowercase();
        let name = rest.split(' ').next()?;
        ["partly", "silent", "wrong"]
            .contains(&score.as_str())
            .then(|| format!("{score}: {name}"))
    };
    said.lines().filter_map(of).collect()
}

fn record(series: Option<Series>, kit: &Kit, score: &str, missed: &[String]) -> Result<()> {
    let path = kept(series)?;
    fs::create_dir_all(path.parent().context("a score is kept nowhere")?)?;
    let missed = missed.join("\n");
    fs::write(path, format!("{}\n{score}\n{missed}\n", print_of(kit)?))?;
    Ok(())
}

/// Prints the score on each kernel; what was not tried with this build of the command, is tried now.
pub fn scores(kit: &Kit) -> Result<ExitCode> {
    let folder = crate::workspace()?.join(REPORTS);
    let mut rows = Vec::new();
    for series in std::iter::once(None).chain(Series::ALL.into_iter().rev().map(Some)) {
        let read = || -> Result<Option<String>> {
            let text = fs::read_to_string(kept(series)?).unwrap_or_default();
            let (print, score) = text.split_once('\n').unwrap_or_default();
            Ok((print == print_of(kit)?).then(|| score.trim().to_owned()))
        };
        if read()?.is_none() {
            boot_reports(
                kit,
                std::slice::from_ref(&folder),
                "",
                series,
                false,
                &mut |_, _| {},
            )?;
        }
        rows.push(read()?.context("the reports gave no score: run them separately")?);
    }
    println!(
        "{:<32} {:>6} {:>7} {:>7} {:>6}",
        "kernel", "right", "partly", "silent", "wrong"
    );
    for row in rows {
        let score = row.lines().next().unwrap_or_default();
        let (kernel, numbers) = score.split_once(": ").context("a score without a kernel")?;
        let mut numbers = numbers
            .split(", ")
            .filter_map(|part| part.split(' ').next_back());
        let mut next = || numbers.next().unwrap_or("?");
        println!(
            "{kernel:<32} {:>6} {:>7} {:>7} {:>6}",
            next(),
            next(),
            next(),
            next()
        );
        for missed in row.lines().skip(1) {
            println!("  {missed}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The reports' names, and the folder of each with what was built.
fn build(
    kit: &Kit,
    folders: &[PathBuf],
    filter: &str,
    series: Option<Series>,
) -> Result<Vec<(String, PathBuf)>> {
    let step = kit.ui.step("Building the reports", 0);
    let kernel = &kit.kernel;
    let out = crate::workspace()?
        .join("target/reports")
        .join(name_of(series));
    let _ = fs::remove_dir_all(&out);
    let mut built = Vec::new();
    let mut kbuild = String::new();
    for folder in folders {
        let mut entries: Vec<_> = fs::read_dir(folder)
            .with_context(|| format!("{} is not there", folder.display()))?
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.join("prog.c").exists() || path.join("Kbuild").exists())
            .collect();
        entries.sort();
        for path in entries {
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .context("a report without a name")?
                .to_owned();
            // A driver without a program of its own is one that several use.
            let has_program = path.join("prog.c").exists();
            if has_program && !filter.split(',').any(|part| name.contains(part)) {
                continue;
            }
            let into = out.join(&name);
            fs::create_dir_all(&into)?;
            let shared = fs::read_dir(folder)?.flatten();
            let shared = shared.filter(|file| file.path().extension().is_some_and(|it| it == "h"));
            for file in fs::read_dir(&path)?.flatten().chain(shared) {
                // A header that is a link is copied as what it leads to.
                fs::copy(file.path(), into.join(file.file_name()))?;
            }
            if path.join("Kbuild").exists() {
                kbuild.push_str(&format!("obj-m += {name}/\n"));
            }
            if has_program {
                compile(&into)?;
            }
            built.push((name, into));
        }
    }
    if built.is_empty() {
        bail!("there is no report with this name: each is a folder with a prog.c");
    }
    if !kbuild.is_empty() {
        fs::write(out.join("Kbuild"), kbuild)?;
        make(kernel, series, &out)?;
    }
    for (_, folder) in &mut built {
        let shown = folder.join("shown");
        fs::create_dir_all(&shown)?;
        if folder.join("prog").exists() {
            fs::copy(folder.join("prog"), shown.join("prog"))?;
        }
        if let Ok(expected) = fs::read(folder.join("expect")) {
            fs::write(shown.join("expect"), expected)?;
        }
        for module in museum_kernel::modules_under(folder)? {
            let name = module.file_name().context("a module without a name")?;
            fs::copy(&module, shown.join(name))?;
        }
        // Modules of the kernel's own that its module needs, by name.
        let needs = fs::read_to_string(folder.join("needs")).unwrap_or_default();
        for name in needs.split_whitespace() {
            for (number, module) in kernel.module_with_dependencies(name)?.iter().enumerate() {
                unpack(module, &shown.join(format!("0{number}-{name}.ko")))?;
            }
        }
        *folder = shown;
    }
    step.done();
    Ok(built)
}

/// The exhibits of `examples/broken` for a kernel that is for the museum alone, what tries them, and a disk in memory.
fn exhibits(kernel: &Kernel, series: Series) -> Result<Vec<PathBuf>> {
    let workspace = crate::workspace()?;
    let out = workspace.join("target/exhibits").join(series.number());
    let _ = fs::remove_dir_all(&out);
    fs::create_dir_all(&out)?;
    let folder = workspace.join("examples/broken");
    for file in fs::read_dir(&folder)?.flatten() {
        if file.file_type()?.is_file() {
            fs::copy(file.path(), out.join(file.file_name()))?;
        }
    }
    let kbuild = out.join("Kbuild");
    let text = fs::read_to_string(&kbuild)?;
    fs::write(&kbuild, text.replace(OF_NEWER_KERNELS, ""))?;
    museum_kernel::build_modules(kernel, &out)?;
    let mut files = museum_kernel::modules_under(&out)?;
    files.push(crate::test::museum::visitor(&folder)?);
    for module in kernel.module_with_dependencies("brd")? {
        let unpacked = out.join("brd.ko");
        unpack(&module, &unpacked)?;
        files.push(unpacked);
    }
    Ok(files)
}

/// The program, static: the guest has no C library.
fn compile(folder: &Path) -> Result<()> {
    let flags = fs::read_to_string(folder.join("flags")).unwrap_or_default();
    let output = Command::new("cc")
        .args(["-O2", "-static", "-pthread"])
        // What this program needs beside: it may be one for 32 bits.
        .args(flags.split_whitespace())
        .arg("-o")
        .arg(folder.join("prog"))
        .arg(folder.join("prog.c"))
        .output()
        .context("cc could not be started")?;
    if !output.status.success() {
        bail!(
            "{} did not compile:\n{}",
            folder.join("prog.c").display(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// A module of the kernel's, which may be compressed.
fn unpack(module: &Path, into: &Path) -> Result<()> {
    if module.extension().is_none_or(|extension| extension != "xz") {
        fs::copy(module, into)?;
        return Ok(());
    }
    let output = Command::new("xz")
        .arg("-dc")
        .arg(module)
        .output()
        .context("xz could not be started")?;
    if !output.status.success() {
        bail!("{} could not be unpacked", module.display());
    }
    fs::write(into, output.stdout)?;
    Ok(())
}

fn make(kernel: &Kernel, series: Option<Series>, out: &Path) -> Result<()> {
    if series.is_some() {
        return museum_kernel::build_modules(kernel, out);
    }
    let output = kernel
        .sandbox()
        .write(out, out)
        .command("make")
        .arg("-C")
        .arg(kernel.tree_inside())
        .args(kernel.make_variables())
        .arg(format!("M={}", out.display()))
        .arg("modules")
        .output()
        .context("make could not be started")?;
    if !output.status.success() {
        bail!(
            "the reports' modules did not build:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::missed;

    #[test]
    fn what_was_missed_is_listed_by_name() {
        let said = "Right a (1 s): x\nSilent b (2 s): \nPartly c-d (0 s): x, y\nImpossible e (0 s): \nnote f\n";
        assert_eq!(missed(said), ["silent: b", "partly: c-d"]);
    }
}
