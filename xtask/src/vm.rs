//! `cargo xtask vm`

use crate::kit::Kit;
use crate::terminal;
use anyhow::{bail, Context, Result};
use mapbuf_init::Job;
use mapbuf_vm::qemu::{self, Input, Report, Stream};
use mapbuf_vm::{device, splat, Choice, Flavour, Ui};
use std::fs;
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

/// Boot the kernel with the module loaded and run any program in it.
///
/// The program's output is this command's output, byte for byte, and its exit status is this
/// command's; a signal N is 128 + N. Failures that are not the program's have statuses of their own:
///
/// 119 the kit failed before the guest was booted,
/// 120 the program could not be started,
/// 121 the kernel reported a failure (BUG, WARNING, KASAN, lockdep, ...),
/// 122 the kernel panicked,
/// 123 the guest fell silent,
/// 124 the program did not end in time,
/// 125 QEMU failed.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// Which build of the kernel: `cloud-amd64` or `amd64`, which has nearly all drivers.
    #[arg(long, default_value_t)]
    flavour: Flavour,
    /// Which kernel: a series (`7.2`), one release of it (`7.2.12`), or one that is built here to find mistakes: `debug`
    /// (KASAN, lockdep, kmemleak, fault injection), `kcsan`, `debug@7.2`.
    #[arg(long, value_name = "KERNEL", default_value_t)]
    kernel: Choice,
    /// Put a file or folder into the guest [default GUESTPATH: the same name in /root].
    #[arg(long, value_name = "HOSTPATH[:GUESTPATH]")]
    copy: Vec<String>,
    /// Compile a program of examples/c, and put it into the guest.
    #[arg(long, value_name = "NAME")]
    example: Vec<String>,
    /// Bring a file back from the guest when the program has ended.
    #[arg(long, value_name = "GUESTPATH:HOSTPATH")]
    fetch: Vec<String>,
    /// Give the guest a Debian userland as its root file system; what is written to it is thrown away.
    #[arg(long)]
    root: bool,
    /// A Debian package for that userland.
    #[arg(long, value_name = "DEBIANPACKAGE", requires = "root")]
    install: Vec<String>,
    /// A PCI device of QEMU's (`edu`, `nvme`, `ivshmem-plain`...; `qemu-system-x86_64 -device help`), on a root port of its
    /// own. A disk's raw image, or the memory that is shared, is `image=FILE`; else an empty one, gone with the machine.
    #[arg(long, value_name = "MODEL[,OPTION=VALUE...]")]
    device: Vec<String>,
    /// Put an IOMMU before the devices (Intel's), and have the kernel use it.
    #[arg(long)]
    iommu: bool,
    /// An argument for QEMU.
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    qemu_arg: Vec<String>,
    /// A parameter for the kernel.
    #[arg(long, value_name = "KERNELARG", allow_hyphen_values = true)]
    append: Vec<String>,
    /// End the run after so many seconds of the guest's own time, in which a busy host does not
    /// count; 0: never [default: 600, eight times that in the slow kernels, or never for a shell].
    #[arg(long, value_name = "S")]
    timeout: Option<u64>,
    /// The guest's memory, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    memory: u32,
    /// The guest's processors.
    #[arg(long, value_name = "N", default_value_t = 2)]
    smp: u32,
    /// A parameter for the module, as `NAME=VALUE`.
    #[arg(long, value_name = "P")]
    module_param: Vec<String>,
    /// Do not load the module.
    #[arg(long)]
    no_module: bool,
    /// Take the module from this folder instead of the driver's.
    #[arg(long, value_name = "DIR")]
    driver: Option<PathBuf>,
    /// Load a module of the kernel's own, with parameters, and what it needs, first.
    #[arg(long, value_name = "NAME[ PARAMETER=VALUE...]")]
    load: Vec<String>,
    /// Compile the C examples (examples/c), and put them into /examples.
    #[arg(long)]
    examples: bool,
    /// Run the program on a terminal, as a shell always is.
    #[arg(long)]
    tty: bool,
    /// Print the kernel's log on standard error when the program has ended.
    #[arg(long)]
    log: bool,
    /// The program and its arguments; none: a shell.
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CMD"
    )]
    command: Vec<String>,
}

/// Runs the command.
pub fn main(arguments: Arguments) -> Result<ExitCode> {
    let ui = Ui::default();
    let shell = arguments.command.is_empty();
    if !shell && arguments.tty && !terminal::is_interactive() {
        bail!("--tty needs a terminal on standard input and output");
    }
    let quiet = if std::io::stderr().is_terminal() {
        ui.clone()
    } else {
        ui.quiet()
    };
    let mut kit = Kit::open(&ui, &arguments.kernel)?.with_flavour(arguments.flavour)?;
    kit.ui = quiet;
    let mut guest = kit.guest(arguments.root)?;
    let mut job = Job {
        argv: arguments.command.clone(),
        ..Job::default()
    };
    let mut machine = kit.machine();
    if arguments.root {
        kit.root_on_disk(&ui, &mut machine, &mut guest, &mut job, &arguments.install)?;
    }
    for module in &arguments.load {
        let (name, parameters) = module.split_once(' ').unwrap_or((module, ""));
        kit.load_own(&mut guest, &mut job, name, parameters)?;
    }
    if !arguments.no_module {
        let modules = kit.driver(arguments.driver.as_deref())?;
        let parameters = arguments.module_param.join(" ");
        kit.load(&mut guest, &mut job, &modules, &parameters)?;
    }
    // A command that does not build must not be in the way of somebody who tries something else.
    match kit.command() {
        Ok(program) => guest.program(&program)?,
        Err(error) => ui.note(format!(
            "Warning: the guest has no mapbuf command: {error:#}"
        )),
    }
    if arguments.examples {
        for example in kit.examples()? {
            guest.example(&example)?;
        }
        let folder = crate::workspace()?.join("examples/c");
        guest.example(&folder.join("handover.sh"))?;
    }
    if !arguments.example.is_empty() {
        let examples = kit.examples()?;
        for name in &arguments.example {
            let named =
                |path: &&PathBuf| path.file_name().is_some_and(|file| file == name.as_str());
            let program = examples.iter().find(named);
            guest.program(program.with_context(|| format!("there is no examples/c/{name}.c"))?)?;
        }
    }
    for copy in &arguments.copy {
        let (from, to) = split_paths(copy);
        let to = match to {
            Some(to) => PathBuf::from(to),
            None => {
                let name = Path::new(from).canonicalize().ok();
                let name = name.as_deref().and_then(Path::file_name);
                Path::new("/root").join(name.with_context(|| format!("{from} is not there"))?)
            }
        };
        guest.copy(Path::new(from), &to)?;
    }
    let mut fetched = Vec::new();
    for fetch in &arguments.fetch {
        let (Some(from), to) = (fetch.split(':').next(), split_paths(fetch).1) else {
            bail!("--fetch wants GUESTPATH:HOSTPATH");
        };
        job.fetch.push(from.to_owned());
        fetched.push(PathBuf::from(
            to.context("--fetch wants GUESTPATH:HOSTPATH")?,
        ));
    }
    machine.memory = arguments.memory;
    machine.processors = arguments.smp;
    machine.append = arguments.append.clone();
    machine.devices = device::parse(&arguments.device)?;
    machine.iommu = arguments.iommu;
    machine.qemu_arguments = arguments.qemu_arg.clone();
    // Nobody knows how long somebody's program may be quiet, or wait.
    machine.limits.quiet = None;
    machine.limits.idle = None;
    machine.note_idle = !shell;
    let default = if shell {
        0
    } else {
        600 * u64::from(kit.patience())
    };
    let timeout = arguments.timeout.unwrap_or(default);
    machine.limits.timeout = (timeout > 0).then(|| Duration::from_secs(timeout));

    let on_terminal = terminal::is_interactive() && (shell || arguments.tty);
    let input = if on_terminal {
        job.terminal = Some(terminal::describe());
        Some(forward_terminal())
    } else if !std::io::stdin().is_terminal() {
        Some(forward_stdin())
    } else {
        None
    };
    if shell {
        ui.note("Booting; `exit` ends the shell and the guest.");
    }
    let raw = on_terminal.then(terminal::Raw::new);
    let report = qemu::run(
        &machine,
        &kit.kernel,
        guest.archive,
        &job,
        input,
        &mut to_own_streams,
    );
    drop(raw);
    let report = report?;
    explain(&ui, &report, arguments.log);
    for (path, contents) in fetched.iter().zip(&report.files) {
        match contents {
            Ok(contents) => fs::write(path, contents)
                .with_context(|| format!("{} cannot be written", path.display()))?,
            Err(error) => ui.note(format!("{} was not fetched: {error}", path.display())),
        }
    }
    Ok(exit_code(report.verdict.exit_code()))
}

/// A process's exit status has eight bits.
pub fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(255))
}

/// Splits `A:B` at its last colon.
fn split_paths(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((from, to)) if !from.is_empty() && !to.is_empty() => (from, Some(to)),
        _ => (text, None),
    }
}

/// Writes the program's output to this process's own.
pub fn to_own_streams(stream: Stream, bytes: &[u8]) {
    // A reader that has gone away (`| head`) is no reason to leave the guest's end unseen.
    let _ = match stream {
        Stream::Stdout => {
            let mut out = std::io::stdout().lock();
            out.write_all(bytes).and_then(|()| out.flush())
        }
        Stream::Stderr => std::io::stderr().lock().write_all(bytes),
    };
}

/// Says what the program's own status does not.
pub fn explain(ui: &Ui, report: &Report, whole_log: bool) {
    use mapbuf_vm::Verdict;
    if whole_log {
        for line in &report.log {
            ui.note(line);
        }
    } else {
        for line in splat::excerpts(&report.log) {
            ui.note(line);
        }
        if matches!(
            report.verdict,
            Verdict::Silent
                | Verdict::Idle(_)
                | Verdict::Quiet(_)
                | Verdict::TimedOut
                | Verdict::QemuFailed(_)
                | Verdict::NotRun(_)
        ) {
            let tail = report.log.len().saturating_sub(25);
            for line in report.log.get(tail..).unwrap_or_default() {
                ui.note(line);
            }
        }
    }
    // The kernel takes a misspelt parameter with a shrug.
    for line in &report.log {
        if line.contains(": unknown parameter '") {
            ui.note(line);
        }
    }
    for line in report.qemu.lines() {
        ui.note(format!("qemu: {line}"));
    }
    for complaint in &report.complaints {
        ui.note(format!("guest: {complaint}"));
    }
    if !matches!(report.verdict, Verdict::Exited(_)) {
        ui.note(format!("mapbuf: {}.", report.verdict));
    }
}

fn forward_stdin() -> Receiver<Input> {
    // Bounded: a guest that does not read holds up whoever writes, as a pipe does.
    let (sender, receiver) = mpsc::sync_channel(4);
    thread::spawn(move || {
        let mut chunk = vec![0; 1 << 14];
        while let Ok(length @ 1..) = std::io::stdin().read(&mut chunk) {
            let bytes = chunk.get(..length).unwrap_or_default().to_vec();
            if sender.send(Input::Bytes(bytes)).is_err() {
                return;
            }
        }
    });
    receiver
}

fn forward_terminal() -> Receiver<Input> {
    let (sender, receiver) = mpsc::channel();
    let resizer = sender.clone();
    thread::spawn(move || {
        let mut chunk = vec![0; 1024];
        while let Ok(length @ 1..) = std::io::stdin().read(&mut chunk) {
            let bytes = chunk.get(..length).unwrap_or_default().to_vec();
            if sender.send(Input::Bytes(bytes)).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || {
        let mut known = terminal::size();
        loop {
            thread::sleep(Duration::from_millis(300));
            let now = terminal::size();
            if now != known {
                known = now;
                if resizer.send(Input::Resize(now.0, now.1)).is_err() {
                    return;
                }
            }
        }
    });
    receiver
}
