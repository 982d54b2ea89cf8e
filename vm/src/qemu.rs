//! The machine, and what it says.

use crate::accel::Accel;
use crate::host;
use crate::initramfs::Archive;
use crate::kernel::Kernel;
use crate::splat;
use crate::verdict::Verdict;
use anyhow::{bail, Context, Result};
use mapbuf_init::{Ending, Frame, Job, JOB_PATH, PORT_NAME};
use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// How long the guest may say nothing before it counts as gone. PID 1 speaks every second; an emulated guest on a busy
/// host has its pauses.
pub const SILENCE: Duration = Duration::from_secs(90);

/// The same before PID 1 runs: the console is for warnings only, and a boot takes seconds.
pub const BOOT_SILENCE: Duration = Duration::from_secs(60);

/// How long the last words may take of a guest whose run is given up.
const AUTOPSY: Duration = Duration::from_secs(5);

/// The QEMU program.
pub const PROGRAM: &str = "qemu-system-x86_64";

/// A machine to boot.
#[derive(Clone, Debug)]
pub struct Machine {
    /// What QEMU runs on.
    pub accel: Accel,
    /// Its memory, in MiB.
    pub memory: u32,
    /// Its processors.
    pub processors: u32,
    /// Kernel parameters beside the kit's own.
    pub append: Vec<String>,
    /// QEMU's arguments beside the kit's own.
    pub qemu_arguments: Vec<String>,
    /// A disk image whose changes are thrown away.
    pub disk: Option<PathBuf>,
    /// When the program has to have ended.
    pub timeout: Option<Duration>,
    /// How long the guest may say nothing.
    pub silence: Duration,
    /// The same, before PID 1 runs.
    pub boot_silence: Duration,
}

impl Machine {
    /// One with 2 GiB and two processors.
    pub fn new(accel: Accel) -> Self {
        Self {
            accel,
            memory: 2048,
            processors: 2,
            append: Vec::new(),
            qemu_arguments: Vec::new(),
            disk: None,
            timeout: None,
            silence: SILENCE,
            boot_silence: BOOT_SILENCE,
        }
    }
}

/// A stream of the program's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What a run leaves.
#[derive(Debug)]
pub struct Report {
    /// How it ended.
    pub verdict: Verdict,
    /// How the program itself ended, where it did.
    pub program: Option<Ending>,
    /// The kernel's log, whole.
    pub log: Vec<String>,
    /// What PID 1 could not do.
    pub complaints: Vec<String>,
    /// The fetched files, or why one could not be had, in the order of the job.
    pub files: Vec<Result<Vec<u8>, String>>,
    /// What the kernel found that nothing refers to any more, where the job asked: how many objects, and its report.
    pub leaks: Option<(u32, String)>,
    /// What QEMU itself printed.
    pub qemu: String,
    /// From the start of QEMU to the start of the program.
    pub boot_time: Option<Duration>,
    /// Whether PID 1 was heard of.
    pub reached_init: bool,
}

/// What the outside world may do to a running guest.
pub enum Input {
    /// Bytes for the program; none: there is no more.
    Bytes(Vec<u8>),
    /// The terminal has a new size (rows, columns).
    Resize(u16, u16),
}

enum Event {
    Console(String),
    Frame(Frame),
    /// The port is closed: no more frames.
    PortClosed,
    ConsoleClosed,
    Qemu(String),
}

/// How often a machine is booted that fails before PID 1 runs.
///
/// Emulation with several processors now and then trips over the kernel's patching of its own code (an `int3` that
/// was meant for nobody, about once in twenty boots of QEMU 7.2). Nothing of the program or the module has run then.
const BOOTS: usize = 4;

/// Boots `kernel` with `archive` and `job`, and stays with it to its end.
///
/// `input` is what goes to the program; `output` gets what it prints, byte for byte, as it comes.
pub fn run(
    machine: &Machine,
    kernel: &Kernel,
    mut archive: Archive,
    job: &Job,
    mut input: Option<Receiver<Input>>,
    output: &mut dyn FnMut(Stream, &[u8]),
) -> Result<Report> {
    archive.file(JOB_PATH, 0o644, &serde_json::to_vec(job)?)?;
    // It has no name in the file system, and neither has the port: nothing is left behind, however this ends.
    let mut initramfs = tempfile::tempfile().context("no temporary file can be made")?;
    initramfs
        .write_all(&archive.finish()?)
        .context("the initramfs cannot be written")?;
    let mut boots = 1;
    loop {
        let report = run_once(machine, kernel, &initramfs, job, &mut input, output)?;
        let failed = matches!(report.verdict, Verdict::Panic | Verdict::Silent);
        if report.reached_init || !failed || boots == BOOTS {
            return Ok(report);
        }
        boots += 1;
        eprintln!(
            "The kernel did not reach PID 1 (emulation does that now and then); booting again."
        );
    }
}

fn run_once(
    machine: &Machine,
    kernel: &Kernel,
    initramfs: &File,
    job: &Job,
    input: &mut Option<Receiver<Input>>,
    output: &mut dyn FnMut(Stream, &[u8]),
) -> Result<Report> {
    let (port, theirs) = UnixStream::pair()?;
    let begun = Instant::now();
    let mut qemu = Qemu::start(machine, kernel, initramfs, &theirs)?;
    drop(theirs);
    let (sender, events) = mpsc::channel();
    qemu.listen(&sender)?;
    listen_to_port(port.try_clone()?, sender);
    let mut last_words = port.try_clone()?;
    let mut watch = Watch::new(job);
    watch.begun = begun;
    watch.follow(machine, &events, output, &mut || {
        // Not before: a machine that has to be booted again must find its input whole.
        if let Ok(port) = port.try_clone() {
            forward(input.take(), port);
        }
    });
    if matches!(watch.cut_short, Some(Verdict::TimedOut)) {
        watch.autopsy(&mut last_words, &events);
    }
    Ok(watch.finish(qemu, &events))
}

/// Sends the program's input to the guest, in a thread of its own: a program that does not read holds it up.
fn forward(input: Option<Receiver<Input>>, mut port: UnixStream) {
    thread::spawn(move || {
        for item in input.into_iter().flatten() {
            let frame = match item {
                Input::Bytes(bytes) => Frame::Stdin(bytes),
                Input::Resize(rows, columns) => Frame::Resize(rows, columns),
            };
            if frame.write_to(&mut port).is_err() {
                return;
            }
        }
        // The sender is gone, and with it any further input; a guest that is gone too needs no telling.
        let _ = Frame::Stdin(Vec::new()).write_to(&mut port);
    });
}

/// The running QEMU; ended when dropped.
struct Qemu {
    child: Child,
}

impl Qemu {
    fn start(
        machine: &Machine,
        kernel: &Kernel,
        initramfs: &File,
        port: &UnixStream,
    ) -> Result<Self> {
        inherit(initramfs)?;
        inherit(port)?;
        // What the serial port prints is slow; PID 1 sends the whole log by the fast way, and the console is for what
        // comes when nobody can send any more: warnings and worse.
        let mut append = vec![
            "console=ttyS0",
            "loglevel=5",
            "panic=-1",
            "oops=panic",
            "audit=0",
            // Where the kernel lies decides whether a large `cma=` finds room: the same at every boot.
            "nokaslr",
            "rdinit=/init",
        ];
        append.extend(kernel.identity.variant.boot_parameters());
        append.extend(machine.append.iter().map(String::as_str));
        // QEMU would outlive a killed parent.
        let mut command = if host::find("setpriv").is_some() {
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "KILL", PROGRAM]);
            command
        } else {
            Command::new(PROGRAM)
        };
        command
            .args([
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
                "-no-reboot",
            ])
            .args(["-machine", "q35", "-accel", machine.accel.argument()])
            .args(["-cpu", machine.accel.cpu()])
            .args(["-m", &format!("{}M", machine.memory)])
            .args(["-smp", &machine.processors.to_string()])
            .args([
                "-chardev",
                "stdio,id=console,signal=off",
                "-serial",
                "chardev:console",
            ])
            .arg("-chardev")
            .arg(format!("socket,id=port,fd={}", port.as_raw_fd()))
            .args(["-device", "virtio-serial-pci"])
            .args([
                "-device",
                &format!("virtserialport,chardev=port,name={PORT_NAME}"),
            ])
            .arg("-kernel")
            .arg(kernel.image())
            .arg("-initrd")
            .arg(format!("/proc/self/fd/{}", initramfs.as_raw_fd()))
            .args(["-append", &append.join(" ")]);
        if let Some(disk) = &machine.disk {
            command.arg("-drive").arg(format!(
                "if=virtio,format=raw,snapshot=on,cache=unsafe,file={}",
                comma_doubled(disk)
            ));
        }
        command.args(&machine.qemu_arguments);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{PROGRAM} could not be started"))?;
        Ok(Self { child })
    }

    fn listen(&mut self, sender: &Sender<Event>) -> Result<()> {
        let (Some(console), Some(errors)) = (self.child.stdout.take(), self.child.stderr.take())
        else {
            bail!("QEMU's streams are gone");
        };
        let events = sender.clone();
        thread::spawn(move || {
            each_line(console, |line| events.send(Event::Console(line)).is_ok());
            let _ = events.send(Event::ConsoleClosed);
        });
        let events = sender.clone();
        thread::spawn(move || each_line(errors, |line| events.send(Event::Qemu(line)).is_ok()));
        Ok(())
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lets a child have a descriptor. One that is started by another thread at the same moment gets it as well, and knows
/// nothing of it.
fn inherit(fd: impl AsFd) -> Result<()> {
    rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
    Ok(())
}

/// Puts the lines that came by two ways into the order in which they were logged. A line without a time stamp stays
/// behind the one that it came after.
fn sort_by_time(log: &mut Vec<String>) {
    let mut last = 0.0;
    let mut stamped: Vec<(f64, String)> = log
        .drain(..)
        .map(|line| {
            let stamp = line.strip_prefix('[').and_then(|rest| rest.split_once(']'));
            if let Some(time) = stamp.and_then(|(time, _)| time.trim().parse().ok()) {
                last = time;
            }
            (last, line)
        })
        .collect();
    stamped.sort_by(|a, b| a.0.total_cmp(&b.0));
    log.extend(stamped.into_iter().map(|(_, line)| line));
}

/// QEMU's options are separated by commas; one that is meant is doubled.
fn comma_doubled(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

fn each_line(stream: impl Read, mut take: impl FnMut(String) -> bool) {
    let mut reader = BufReader::new(stream);
    let mut raw = Vec::new();
    loop {
        raw.clear();
        match reader.read_until(b'\n', &mut raw) {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let line = String::from_utf8_lossy(&raw);
                if !take(line.trim_end_matches(['\r', '\n']).to_owned()) {
                    return;
                }
            }
        }
    }
}

fn listen_to_port(stream: UnixStream, events: Sender<Event>) {
    thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        loop {
            match Frame::read_from(&mut reader) {
                Ok(Some(frame)) => {
                    if events.send(Event::Frame(frame)).is_err() {
                        return;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    let _ = events.send(Event::Qemu(format!("the port to the guest: {error}")));
                    break;
                }
            }
        }
        let _ = events.send(Event::PortClosed);
    });
}

/// What has been seen of a run so far.
struct Watch {
    begun: Instant,
    boot_time: Option<Duration>,
    reached_init: bool,
    log: Vec<String>,
    seen: HashSet<String>,
    complaints: Vec<String>,
    files: Vec<Result<Vec<u8>, String>>,
    leaks: Option<(u32, String)>,
    qemu: String,
    ended: Option<Ending>,
    panicked: bool,
    cut_short: Option<Verdict>,
}

impl Watch {
    fn new(job: &Job) -> Self {
        Self {
            begun: Instant::now(),
            boot_time: None,
            reached_init: false,
            log: Vec::new(),
            seen: HashSet::new(),
            complaints: Vec::new(),
            files: job.fetch.iter().map(|_| Ok(Vec::new())).collect(),
            leaks: None,
            qemu: String::new(),
            ended: None,
            panicked: false,
            cut_short: None,
        }
    }

    /// Takes events until the run is over, one way or another.
    fn follow(
        &mut self,
        machine: &Machine,
        events: &Receiver<Event>,
        output: &mut dyn FnMut(Stream, &[u8]),
        begin_input: &mut dyn FnMut(),
    ) {
        let deadline = machine.timeout.map(|timeout| self.begun + timeout);
        let mut last_word = Instant::now();
        // A guest that has panicked still prints for a moment, and ends by itself.
        let mut panic_deadline: Option<Instant> = None;
        loop {
            match events.recv_timeout(Duration::from_millis(200)) {
                Ok(Event::Frame(frame)) => {
                    last_word = Instant::now();
                    if frame == Frame::Hello {
                        begin_input();
                    }
                    self.take_frame(frame, output);
                    if self.ended.is_some() {
                        return;
                    }
                }
                Ok(Event::Console(line)) => {
                    last_word = Instant::now();
                    self.take_line(line);
                    if self.panicked && panic_deadline.is_none() {
                        panic_deadline = Some(Instant::now() + Duration::from_secs(5));
                    }
                }
                Ok(Event::Qemu(line)) => {
                    self.qemu.push_str(&line);
                    self.qemu.push('\n');
                }
                // Closed by QEMU's own end.
                Ok(Event::ConsoleClosed) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(Event::PortClosed) | Err(RecvTimeoutError::Timeout) => {}
            }
            let now = Instant::now();
            if panic_deadline.is_some_and(|deadline| now > deadline) {
                return;
            }
            if deadline.is_some_and(|deadline| now > deadline) {
                self.cut_short = Some(Verdict::TimedOut);
                return;
            }
            let silence = if self.reached_init {
                machine.silence
            } else {
                machine.boot_silence
            };
            if now.duration_since(last_word) > silence {
                self.cut_short = Some(Verdict::Silent);
                return;
            }
        }
    }

    /// Lets the guest say where it hangs, if it still can.
    fn autopsy(&mut self, port: &mut UnixStream, events: &Receiver<Event>) {
        let _ = port.set_write_timeout(Some(Duration::from_secs(1)));
        if Frame::Autopsy.write_to(port).is_err() {
            return;
        }
        let deadline = Instant::now() + AUTOPSY;
        while let Ok(event) =
            events.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            if let Event::Frame(Frame::Log(line)) | Event::Console(line) = event {
                self.take_line(line);
            }
        }
    }

    fn take_frame(&mut self, frame: Frame, output: &mut dyn FnMut(Stream, &[u8])) {
        match frame {
            Frame::Stdout(bytes) => output(Stream::Stdout, &bytes),
            Frame::Stderr(bytes) => output(Stream::Stderr, &bytes),
            Frame::Log(line) => self.take_line(line),
            Frame::Leaks(count, report) => self.leaks = Some((count, report)),
            Frame::Complaint(text) => self.complaints.push(text),
            Frame::Ended(ending) => self.ended = Some(ending),
            Frame::Started => self.boot_time = Some(self.begun.elapsed()),
            Frame::File(index, bytes) => {
                if let Some(Ok(file)) = self.files.get_mut(index as usize) {
                    file.extend_from_slice(&bytes);
                }
            }
            Frame::FileEnd(index, Some(error)) => {
                if let Some(file) = self.files.get_mut(index as usize) {
                    *file = Err(error);
                }
            }
            Frame::Hello => self.reached_init = true,
            Frame::FileEnd(_, None)
            | Frame::Heartbeat
            | Frame::Stdin(_)
            | Frame::Resize(..)
            | Frame::Autopsy => {}
        }
    }

    /// A line of the kernel's log, by either way.
    fn take_line(&mut self, line: String) {
        if line.is_empty() || !self.seen.insert(line.clone()) {
            return;
        }
        self.panicked |= splat::is_panic(&line);
        self.log.push(line);
    }

    fn finish(mut self, mut qemu: Qemu, events: &Receiver<Event>) -> Report {
        let _ = qemu.child.kill();
        let status = qemu.child.wait();
        while let Ok(event) = events.recv_timeout(Duration::from_millis(50)) {
            match event {
                Event::Console(line) => self.take_line(line),
                Event::Qemu(line) => self.qemu.push_str(&(line + "\n")),
                _ => {}
            }
        }
        sort_by_time(&mut self.log);
        let races = splat::leave_out_races_of_others(&mut self.log);
        if races > 0 {
            self.log.push(format!(
                "({races} reports of data races in which no module has part are left out)"
            ));
        }
        let verdict = if self.panicked {
            Verdict::Panic
        } else if self.log.iter().any(|line| splat::is_splat(line)) {
            Verdict::Splat
        } else if let Some(cut_short) = self.cut_short {
            cut_short
        } else {
            match self.ended {
                Some(Ending::Exited(status)) => Verdict::Exited(status),
                Some(Ending::Signalled(signal)) => Verdict::Signalled(signal),
                Some(Ending::NotRun) => {
                    Verdict::NotRun(self.complaints.last().cloned().unwrap_or_default())
                }
                None if self.log.is_empty() => Verdict::QemuFailed(match self.qemu.trim() {
                    "" => format!(
                        "the machine ended before the kernel said anything ({}); has it memory enough?",
                        status
                            .map_or_else(|error| error.to_string(), |status| status.to_string())
                    ),
                    said => said.to_owned(),
                }),
                // It booted, and then the machine was gone without a word.
                None => Verdict::QemuFailed("the machine ended before the program did".into()),
            }
        };
        Report {
            verdict,
            program: self.ended,
            log: self.log,
            complaints: self.complaints,
            files: self.files,
            leaks: self.leaks,
            qemu: self.qemu,
            boot_time: self.boot_time,
            reached_init: self.reached_init,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_logs_become_one() {
        let mut log: Vec<String> = [
            "SeaBIOS",
            "[    2.670291] WARNING: x",
            "no stamp",
            "[    0.000000] Linux",
            "[    2.600000] loading",
            "[    2.700000] later",
        ]
        .map(String::from)
        .to_vec();
        sort_by_time(&mut log);
        let expected = [
            "SeaBIOS",
            "[    0.000000] Linux",
            "[    2.600000] loading",
            "[    2.670291] WARNING: x",
            "no stamp",
            "[    2.700000] later",
        ];
        assert_eq!(log, expected);
    }
}
