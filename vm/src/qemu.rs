//! The machine, and what it says.

use crate::accel::Accel;
use crate::attendant::Attendant;
use crate::clock::Clock;
use crate::device::{self, Device};
use crate::host;
use crate::initramfs::Archive;
use crate::kernel::Kernel;
use crate::splat;
use crate::verdict::Verdict;
use crate::vigil::{Limits, Vigil, IDLE};
use crate::wire;
use anyhow::{bail, Context, Result};
use mapbuf_init::{Ending, Frame, Job, JOB_PATH, PORT_NAME};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

/// How long the last words may take of a guest whose run is given up, and of one that has panicked; in its own time.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How often the guest is looked at, and how often it is told its own time.
const LOOK: Duration = Duration::from_millis(200);
const TELL_TIME: Duration = Duration::from_secs(1);

/// QEMU's console ends with QEMU; one that some other process has kept open is not waited for.
const CONSOLE_END: Duration = Duration::from_secs(10);

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
    /// PCI devices, each on a root port of its own; a program in the guest may ask the host about them.
    pub devices: Vec<Device>,
    /// Whether an IOMMU stands before the devices.
    pub iommu: bool,
    /// A compiled device tree for the kernel.
    pub device_tree: Option<PathBuf>,
    /// A disk image whose changes are thrown away.
    pub disk: Option<PathBuf>,
    /// What its network card is connected to; none: no card.
    pub wire: Option<wire::End>,
    /// When the run is given up.
    pub limits: Limits,
    /// Say it when the guest has been idle for long, though it may be.
    pub note_idle: bool,
    /// Tell the guest how much time it has really had. One whose instructions are counted must not be disturbed.
    pub tell_time: bool,
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
            devices: Vec::new(),
            iommu: false,
            device_tree: None,
            disk: None,
            wire: None,
            limits: Limits::default(),
            note_idle: false,
            tell_time: true,
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
        let failed = matches!(
            report.verdict,
            Verdict::Panic | Verdict::Silent | Verdict::Idle(_)
        );
        if report.reached_init || !failed || boots == BOOTS {
            return Ok(report);
        }
        boots += 1;
        let said = report.log.iter().find(|line| splat::is_panic(line));
        eprintln!(
            "The kernel did not reach PID 1: {} (emulation does that now and then). Booting again.",
            said.unwrap_or(&report.verdict.to_string())
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
    let attendant = match machine.devices.as_slice() {
        [] => None,
        devices => Some(Attendant::new(devices)?),
    };
    let begun = Instant::now();
    let mut qemu = Qemu::start(machine, kernel, initramfs, &theirs, attendant.as_ref())?;
    drop(theirs);
    if let Some(attendant) = attendant {
        attendant.begin();
    }
    let (sender, events) = mpsc::channel();
    qemu.listen(&sender)?;
    listen_to_port(port.try_clone()?, sender);
    let port = Port(Arc::new(Mutex::new(port)));
    let patience = kernel.identity.variant.patience();
    let mut watch = Watch::new(job, Clock::of(qemu.child.id()), patience);
    watch.begun = begun;
    watch.follow(machine, &port, &events, output, &mut || {
        // Not before: a machine that has to be booted again must find its input whole.
        forward(input.take(), port.clone());
    });
    if watch
        .cut_short
        .as_ref()
        .is_some_and(Verdict::may_be_asked_why)
    {
        watch.autopsy(&port, &events);
    }
    Ok(watch.finish(qemu, &events))
}

/// The kit's end of the port to PID 1. A frame is written whole before the next one.
#[derive(Clone)]
struct Port(Arc<Mutex<UnixStream>>);

impl Port {
    /// Sends a frame, and waits until the guest takes it.
    fn send(&self, frame: &Frame) -> std::io::Result<()> {
        let mut stream = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        frame.write_to(&mut *stream)
    }

    /// Sends a short frame, unless the guest takes none at this moment; whether it was sent.
    fn send_now(&self, frame: &Frame) -> bool {
        let mut stream = match self.0.try_lock() {
            Ok(stream) => stream,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Input for a program that does not read it.
            Err(TryLockError::WouldBlock) => return false,
        };
        let ready = {
            let mut fds = [PollFd::new(&*stream, PollFlags::OUT)];
            let at_once = Timespec::default();
            poll(&mut fds, Some(&at_once)).is_ok()
                && fds.iter().all(|fd| fd.revents().contains(PollFlags::OUT))
        };
        ready && frame.write_to(&mut *stream).is_ok()
    }
}

/// Sends the program's input to the guest, in a thread of its own: a program that does not read holds it up.
fn forward(input: Option<Receiver<Input>>, port: Port) {
    thread::spawn(move || {
        for item in input.into_iter().flatten() {
            let frame = match item {
                Input::Bytes(bytes) => Frame::Stdin(bytes),
                Input::Resize(rows, columns) => Frame::Resize(rows, columns),
            };
            if port.send(&frame).is_err() {
                return;
            }
        }
        // The sender is gone, and with it any further input; a guest that is gone too needs no telling.
        let _ = port.send(&Frame::Stdin(Vec::new()));
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
        attendant: Option<&Attendant>,
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
            // The kernel counts timer interrupts in a time that it measures by the TSC, and panics when there are too few
            // (`timer_irq_works` of arch/x86/kernel/apic/io_apic.c); a busy host delivers them late.
            "no_timer_check",
            "rdinit=/init",
        ];
        append.extend(kernel.identity.variant.boot_parameters());
        if machine.iommu {
            append.push(device::IOMMU_APPEND);
        }
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
            .args(device::arguments(&machine.devices, machine.iommu)?)
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
        if let Some(tree) = &machine.device_tree {
            command.arg("-dtb").arg(tree);
        }
        if let Some(disk) = &machine.disk {
            command.arg("-drive").arg(format!(
                "if=virtio,format=raw,snapshot=on,cache=unsafe,file={}",
                comma_doubled(disk)
            ));
        }
        if let Some(wire) = &machine.wire {
            inherit(wire.descriptor())?;
            command.args(wire.arguments());
        }
        if let Some(attendant) = attendant {
            inherit(attendant.descriptor())?;
            command.args(attendant.arguments());
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
    clock: Clock,
    vigil: Vigil,
    patience: u32,
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
    fn new(job: &Job, clock: Clock, patience: u32) -> Self {
        Self {
            begun: Instant::now(),
            clock,
            vigil: Vigil::default(),
            patience,
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
        port: &Port,
        events: &Receiver<Event>,
        output: &mut dyn FnMut(Stream, &[u8]),
        begin_input: &mut dyn FnMut(),
    ) {
        let mut looked = Instant::now();
        let mut told: Option<Duration> = None;
        // A guest that has panicked still prints for a moment, and ends by itself.
        let mut panicked: Option<Duration> = None;
        let mut noted = false;
        loop {
            match events.recv_timeout(LOOK) {
                Ok(Event::Frame(frame)) => {
                    if frame == Frame::Hello {
                        begin_input();
                    }
                    self.take_frame(frame, output);
                    if self.ended.is_some() {
                        return;
                    }
                }
                Ok(Event::Console(line)) => {
                    self.vigil.heard(self.clock.now());
                    self.take_line(line);
                }
                Ok(Event::Qemu(line)) => {
                    self.qemu.push_str(&line);
                    self.qemu.push('\n');
                }
                // Closed by QEMU's own end.
                Ok(Event::ConsoleClosed) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(Event::PortClosed) | Err(RecvTimeoutError::Timeout) => {}
            }
            if looked.elapsed() < LOOK {
                continue;
            }
            looked = Instant::now();
            let now = self.clock.look();
            if self.panicked && now - *panicked.get_or_insert(now) > LAST_WORDS {
                return;
            }
            self.cut_short = self.vigil.look(now, self.clock.used(), &machine.limits);
            if self.cut_short.is_some() {
                return;
            }
            let due = told.is_none_or(|told| now - told >= TELL_TIME);
            if machine.tell_time && self.reached_init && due {
                let [time, idle] = [now, self.vigil.idle()]
                    .map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
                if port.send_now(&Frame::Clock(time, idle)) {
                    told = Some(now);
                }
            }
            let idle = self.vigil.idle();
            if machine.note_idle && idle >= IDLE && !noted {
                eprintln!(
                    "The guest has been idle for {} s, and its program prints nothing; it may be waiting for \
                    something that never comes.",
                    idle.as_secs()
                );
            }
            noted = idle >= IDLE;
        }
    }

    /// Lets the guest say where it hangs, if it still can.
    fn autopsy(&mut self, port: &Port, events: &Receiver<Event>) {
        if !port.send_now(&Frame::Autopsy) {
            return;
        }
        let begun = self.clock.look();
        let mut heard = begun;
        loop {
            match events.recv_timeout(LOOK) {
                Ok(Event::Frame(Frame::Log(line)) | Event::Console(line)) => {
                    heard = self.clock.now();
                    self.take_line(line);
                }
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // The list of all tasks is long.
            let now = self.clock.look();
            if now - heard > LAST_WORDS / 2 || now - begun > 4 * LAST_WORDS {
                return;
            }
        }
    }

    fn take_frame(&mut self, frame: Frame, output: &mut dyn FnMut(Stream, &[u8])) {
        let now = self.clock.now();
        match &frame {
            Frame::Heartbeat | Frame::Log(_) | Frame::Complaint(_) => self.vigil.heard(now),
            Frame::Hello => {
                self.reached_init = true;
                // It has just cost what it has cost.
                let now = self.clock.look();
                self.clock.booted(self.patience);
                self.vigil.reached_init(now);
            }
            _ => self.vigil.came_on(now),
        }
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
            Frame::FileEnd(_, None)
            | Frame::Hello
            | Frame::Heartbeat
            | Frame::Stdin(_)
            | Frame::Resize(..)
            | Frame::Clock(..)
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
        // What it printed last is in its streams, which end with it; whoever reads them may have to wait for a processor.
        let mut patience = CONSOLE_END;
        while let Ok(event) = events.recv_timeout(patience) {
            match event {
                Event::Console(line) => self.take_line(line),
                Event::Qemu(line) => self.qemu.push_str(&(line + "\n")),
                Event::ConsoleClosed => patience = LOOK,
                Event::Frame(_) | Event::PortClosed => {}
            }
        }
        sort_by_time(&mut self.log);
        let races = splat::leave_out_races_of_others(&mut self.log);
        if races > 0 {
            self.log.push(format!(
                "({races} reports of data races that involve no module are omitted)"
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
                        "the machine ended before the kernel printed anything ({}); does it have enough memory?",
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
