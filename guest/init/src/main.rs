//! PID 1 of the virtual machine: makes the guest usable, runs one program, reports how it ended, powers off.

mod leaks;

use mapbuf_init::ask::find_port;
use mapbuf_init::clock::{self, Stopwatch};
use mapbuf_init::{Ending, Frame, Job, Terminal, EARLY_PATH, JOB_PATH, PAYLOAD_PATH, PORT_NAME};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::fs::{fcntl_getfl, fcntl_setfl, Mode, OFlags};
use rustix::mount::{mount, mount_move, MountFlags};
use rustix::process::{wait, Pid, Signal, WaitOptions};
use rustix::system::{delete_module, finit_module, reboot, RebootCommand};
use std::collections::VecDeque;
use std::error::Error;
use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{symlink, FileExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// How much input may wait for a program that does not read before PID 1 stops taking more from the host.
const STDIN_BACKLOG: usize = 1 << 16;
const HEARTBEAT: Duration = Duration::from_secs(1);
/// The longest sleep between two looks at children and at the kernel's log.
const TICK: Duration = Duration::from_millis(50);
/// How long what the program leaves behind may take to end.
const GRACE: Duration = Duration::from_secs(2);

fn main() {
    if std::process::id() != 1 {
        eprintln!(
            "mapbuf-init is PID 1 of the kit's virtual machine; there is nothing it could do here."
        );
        std::process::exit(2);
    }
    if let Err(error) = run() {
        // Without the port there is only the console.
        eprintln!("mapbuf-init: {error}");
    }
    rustix::fs::sync();
    let _ = reboot(RebootCommand::PowerOff);
    // The kernel panics when PID 1 returns, which the host does see.
}

fn run() -> Result<()> {
    early_mounts()?;
    load_early_modules()?;
    let mut host = Host::connect()?;
    host.send(&Frame::Hello)?;
    let ending = match serve(&mut host) {
        Ok(ending) => ending,
        Err(error) => {
            host.send(&Frame::Complaint(error.to_string()))?;
            Ending::NotRun
        }
    };
    host.flush_log()?;
    host.send(&Frame::Ended(ending))?;
    // The host ends the machine when it has read that; powering off by itself is the slower way.
    sleep(Duration::from_secs(2));
    Ok(())
}

/// Does the job; an error is something that the program's own status cannot tell.
fn serve(host: &mut Host) -> Result<Ending> {
    let text = fs::read(JOB_PATH).map_err(|error| format!("{JOB_PATH}: {error}"))?;
    let job: Job = serde_json::from_slice(&text).map_err(|error| format!("{JOB_PATH}: {error}"))?;
    // The network's loopback interface is down until somebody raises it; busybox knows how.
    let _ = Command::new("/bin/busybox")
        .args(["ip", "link", "set", "lo", "up"])
        // Not every kernel has one.
        .stderr(Stdio::null())
        .status();
    for module in &job.modules {
        load_module(&module.path, &module.params)?;
    }
    if let Some(root) = &job.root {
        switch_root(&root.device, &root.fstype)?;
    }
    late_mounts(host);
    host.flush_log()?;
    host.send(&Frame::Started)?;
    let ending = Program::start(&job)?.attend(host)?;
    kill_everything();
    for name in &job.unload {
        unload_module(host, name)?;
    }
    if job.find_leaks {
        host.flush_log()?;
        let (count, report) = leaks::find(&mut || host.keep_alive())?;
        host.send(&Frame::Leaks(count, report))?;
    }
    for (index, path) in (0u32..).zip(&job.fetch) {
        send_file(host, index, path)?;
    }
    Ok(ending)
}

// The host's end.

/// The port to the host, with the kernel's log beside it.
struct Host {
    port: File,
    incoming: Vec<u8>,
    kmsg: Option<File>,
    last_word: Instant,
    /// Where the guest's own time is kept, once there is a place for it.
    clock: Option<File>,
}

impl Host {
    fn connect() -> Result<Self> {
        let mut path = None;
        if !appears(|| {
            path = find_port(PORT_NAME);
            path.is_some()
        }) {
            return Err("the virtio-serial port to the host is missing".into());
        }
        let path = path.unwrap_or_default();
        let port = File::options()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let kmsg = rustix::fs::open(
            c"/dev/kmsg",
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
            Mode::empty(),
        );
        Ok(Self {
            port,
            incoming: Vec::new(),
            kmsg: kmsg.ok().map(File::from),
            last_word: Instant::now(),
            clock: None,
        })
    }

    fn send(&mut self, frame: &Frame) -> io::Result<()> {
        self.last_word = Instant::now();
        frame.write_to(&mut self.port)
    }

    fn keep_alive(&mut self) -> io::Result<()> {
        if self.last_word.elapsed() >= HEARTBEAT {
            self.send(&Frame::Heartbeat)?;
        }
        Ok(())
    }

    /// Keeps for everybody what the host tells of the time. Not every host does.
    fn set_time(&mut self, time: u64, idle: u64) {
        if self.clock.is_none() {
            self.clock = File::create(clock::PATH).ok();
        }
        if let Some(file) = &self.clock {
            // Without it, programs have the kernel's clock.
            let _ = file.write_all_at([time, idle].map(u64::to_le_bytes).as_flattened(), 0);
        }
    }

    /// Sends what the kernel has logged since the last time.
    fn flush_log(&mut self) -> io::Result<()> {
        let mut record = [0; 8192];
        while let Some(kmsg) = &mut self.kmsg {
            match kmsg.read(&mut record) {
                Ok(0) => break,
                Ok(length) => {
                    let record = String::from_utf8_lossy(record.get(..length).unwrap_or_default());
                    for line in log_lines(&record) {
                        self.send(&Frame::Log(line))?;
                    }
                }
                // Records were overwritten before they could be read; the next read goes on behind the gap.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                    self.send(&Frame::Log("[ records lost ]".into()))?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what has arrived; to be called when the port is readable.
    fn receive(&mut self) -> io::Result<Vec<Frame>> {
        let mut chunk = [0; 4096];
        let length = self.port.read(&mut chunk)?;
        self.incoming
            .extend_from_slice(chunk.get(..length).unwrap_or_default());
        let mut frames = Vec::new();
        while let Some(frame) = Frame::take_from(&mut self.incoming)? {
            frames.push(frame);
        }
        Ok(frames)
    }
}

/// Waits for a device: the kernel finds them while PID 1 runs already. A host that is busy makes the naps longer, so
/// they are counted, and the clock is not asked.
fn appears(mut there: impl FnMut() -> bool) -> bool {
    for _ in 0..1000 {
        if there() {
            return true;
        }
        sleep(Duration::from_millis(10));
    }
    false
}

/// Renders a `/dev/kmsg` record as the console would, so that the host can tell which lines it has already.
fn log_lines(record: &str) -> Vec<String> {
    let Some((prefix, text)) = record.split_once(';') else {
        return Vec::new();
    };
    let microseconds: u64 = prefix
        .split(',')
        .nth(2)
        .and_then(|field| field.parse().ok())
        .unwrap_or(0);
    let (seconds, fraction) = (microseconds / 1_000_000, microseconds % 1_000_000);
    // What follows the first newline is the record's dictionary; newlines of the message itself are escaped.
    let text = text.split('\n').next().unwrap_or_default();
    text.split("\\x0a")
        .map(|line| format!("[{seconds:5}.{fraction:06}] {line}"))
        .collect()
}

// Making the guest usable.

fn mount_at(source: &str, target: &str, fstype: &str, data: &str) -> Result<()> {
    let _ = fs::create_dir_all(target);
    let data = CString::new(data)?;
    let data: Option<&CStr> = (!data.is_empty()).then_some(&data);
    mount(source, target, fstype, MountFlags::empty(), data)
        .map_err(|error| format!("mounting {fstype} on {target}: {error}").into())
}

fn early_mounts() -> Result<()> {
    mount_at("proc", "/proc", "proc", "")?;
    mount_at("sysfs", "/sys", "sysfs", "")?;
    mount_at("devtmpfs", "/dev", "devtmpfs", "mode=0755")
}

fn late_mounts(host: &mut Host) {
    let mounts = [
        ("devpts", "/dev/pts", "devpts", "mode=0620,ptmxmode=0666"),
        ("shm", "/dev/shm", "tmpfs", "mode=1777"),
        ("tmp", "/tmp", "tmpfs", "mode=1777"),
        ("run", "/run", "tmpfs", "mode=0755"),
        ("cgroup2", "/sys/fs/cgroup", "cgroup2", ""),
        ("securityfs", "/sys/kernel/security", "securityfs", ""),
        ("debugfs", "/sys/kernel/debug", "debugfs", ""),
        ("tracefs", "/sys/kernel/tracing", "tracefs", ""),
    ];
    for (source, target, fstype, data) in mounts {
        if !filesystem_known(fstype) {
            continue;
        }
        if let Err(error) = mount_at(source, target, fstype, data) {
            let _ = host.send(&Frame::Complaint(error.to_string()));
        }
    }
    for (link, target) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ] {
        let _ = symlink(target, link);
    }
    let _ = rustix::system::sethostname(b"mapbuf");
}

fn filesystem_known(fstype: &str) -> bool {
    fs::read_to_string("/proc/filesystems")
        .unwrap_or_default()
        .lines()
        .any(|line| line.split_whitespace().next_back() == Some(fstype))
}

/// Loads what the port to the host needs: some kernels have its driver as a module.
fn load_early_modules() -> Result<()> {
    let entries = fs::read_dir(EARLY_PATH).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        load_module(&path.to_string_lossy(), "")?;
    }
    Ok(())
}

fn load_module(path: &str, params: &str) -> Result<()> {
    /// `MODULE_INIT_COMPRESSED_FILE` of `include/uapi/linux/module.h`: the kernel unpacks the file.
    const COMPRESSED: i32 = 4;
    let file = File::open(path).map_err(|error| format!("{path}: {error}"))?;
    let flags = if path.ends_with(".ko") { 0 } else { COMPRESSED };
    match finit_module(&file, &CString::new(params)?, flags) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(format!(
            "loading {path}{}{params}: {error}; the kernel's log says why",
            if params.is_empty() { "" } else { " with " }
        )
        .into()),
    }
}

fn unload_module(host: &mut Host, name: &str) -> Result<()> {
    /// `O_NONBLOCK`: fail at once when the module is in use.
    const NONBLOCK: i32 = 0o4000;
    let loaded = Path::new("/sys/module")
        .join(name)
        .join("initstate")
        .exists();
    if !loaded {
        return Ok(());
    }
    if let Err(error) = delete_module(&CString::new(name)?, NONBLOCK) {
        host.send(&Frame::Complaint(format!(
            "{name} could not be unloaded after the program: {error}"
        )))?;
    }
    Ok(())
}

/// Makes the disk the root file system, with the payload copied over it.
fn switch_root(device: &str, fstype: &str) -> Result<()> {
    const ROOT: &str = "/newroot";
    if !appears(|| Path::new(device).exists()) {
        return Err(format!("the root disk {device} did not appear").into());
    }
    mount_at(device, ROOT, fstype, "")?;
    if Path::new(PAYLOAD_PATH).exists() {
        copy_tree(Path::new(PAYLOAD_PATH), Path::new(ROOT))?;
        // Its memory is worth more than a second copy.
        let _ = fs::remove_dir_all(PAYLOAD_PATH);
    }
    for directory in ["dev", "proc", "sys"] {
        let target = format!("{ROOT}/{directory}");
        let _ = fs::create_dir_all(&target);
        mount_move(format!("/{directory}"), &target)?;
    }
    std::env::set_current_dir(ROOT)?;
    mount_move(".", "/")?;
    rustix::process::chroot(".")?;
    std::env::set_current_dir("/")?;
    Ok(())
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, mut target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            // A directory may be a symbolic link in the root (`/lib`), absolute as seen from there.
            if let Ok(link) = fs::read_link(&target) {
                target = to.join(link.strip_prefix("/").unwrap_or(&link));
            }
            if !target.is_dir() {
                fs::create_dir_all(&target)?;
                fs::set_permissions(&target, entry.metadata()?.permissions())?;
            }
            copy_tree(&source, &target)?;
        } else if kind.is_symlink() {
            let _ = fs::remove_file(&target);
            symlink(fs::read_link(&source)?, &target)?;
        } else {
            let _ = fs::remove_file(&target);
            fs::copy(&source, &target)
                .map_err(|error| format!("copying to {}: {error}", target.display()))?;
        }
    }
    Ok(())
}

/// Has the kernel log which tasks are blocked, what the processors do, and where every task is.
fn autopsy(host: &mut Host) -> io::Result<()> {
    for key in ["w", "l", "t"] {
        fs::write("/proc/sysrq-trigger", key)?;
        host.flush_log()?;
    }
    Ok(())
}

// The program.

/// The running program and PID 1's ends of what connects it.
struct Program {
    pid: Pid,
    /// The terminal's master side, or the write end of the pipe that is its standard input.
    input: Option<OwnedFd>,
    outputs: Vec<Output>,
    backlog: VecDeque<u8>,
    /// The host has sent its last input.
    input_ended: bool,
    on_terminal: bool,
}

struct Output {
    fd: OwnedFd,
    frame: fn(Vec<u8>) -> Frame,
}

impl Program {
    fn start(job: &Job) -> Result<Self> {
        let shell = if Path::new("/bin/bash").exists() {
            "/bin/bash"
        } else {
            "/bin/sh"
        };
        let (program, arguments) = match job.argv.split_first() {
            Some((program, arguments)) => (program.as_str(), arguments),
            None => (shell, &[][..]),
        };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("HOME", "/root")
            .env("TERM", "dumb")
            .env("MAPBUF_CLOCK", clock::PATH)
            .current_dir("/");
        // Found by the guest's own `PATH`, which is why PID 1 has the same.
        std::env::set_var(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        );
        let mut connected = match &job.terminal {
            Some(terminal) => Self::on_terminal(&mut command, terminal)?,
            None => Self::on_pipes(&mut command)?,
        };
        command.envs(&job.env);
        let child = command
            .spawn()
            .map_err(|error| format!("{program}: {error}"))?;
        connected.pid = Pid::from_raw(i32::try_from(child.id())?).ok_or("no such process")?;
        // The command holds the child's ends; the streams end only when those are closed.
        drop(command);
        Ok(connected)
    }

    fn on_pipes(command: &mut Command) -> Result<Self> {
        let (stdin, input) = pipe()?;
        let (stdout_reader, stdout) = pipe()?;
        let (stderr_reader, stderr) = pipe()?;
        command.stdin(stdin).stdout(stdout).stderr(stderr);
        // SAFETY: `setsid` is async-signal-safe, and the closure does nothing else.
        unsafe {
            command.pre_exec(|| {
                rustix::process::setsid()?;
                Ok(())
            });
        }
        set_nonblocking(&input)?;
        Ok(Self {
            pid: Pid::INIT,
            input: Some(input),
            outputs: vec![
                Output {
                    fd: stdout_reader,
                    frame: Frame::Stdout,
                },
                Output {
                    fd: stderr_reader,
                    frame: Frame::Stderr,
                },
            ],
            backlog: VecDeque::new(),
            input_ended: false,
            on_terminal: false,
        })
    }

    fn on_terminal(command: &mut Command, terminal: &Terminal) -> Result<Self> {
        use rustix::pty;
        let master = pty::openpt(
            pty::OpenptFlags::RDWR | pty::OpenptFlags::NOCTTY | pty::OpenptFlags::CLOEXEC,
        )?;
        pty::grantpt(&master)?;
        pty::unlockpt(&master)?;
        resize(&master, terminal.rows, terminal.columns);
        let name = pty::ptsname(&master, Vec::new())?;
        let slave = rustix::fs::open(
            name,
            OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        command
            .stdin(Stdio::from(slave.try_clone()?))
            .stdout(Stdio::from(slave.try_clone()?))
            .stderr(Stdio::from(slave))
            .env("TERM", &terminal.term);
        // SAFETY: `setsid` and `ioctl` are async-signal-safe, and the closure does nothing else.
        unsafe {
            command.pre_exec(|| {
                rustix::process::setsid()?;
                rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
                Ok(())
            });
        }
        set_nonblocking(&master)?;
        Ok(Self {
            pid: Pid::INIT,
            input: Some(master.try_clone()?),
            outputs: vec![Output {
                fd: master,
                frame: Frame::Stdout,
            }],
            backlog: VecDeque::new(),
            input_ended: false,
            on_terminal: true,
        })
    }

    /// Carries bytes to and fro until the program and its output have ended.
    fn attend(mut self, host: &mut Host) -> Result<Ending> {
        let mut ending = None;
        // What the program's children may still say when it has gone.
        let mut grace: Option<Stopwatch> = None;
        loop {
            self.pump(host)?;
            host.flush_log()?;
            host.keep_alive()?;
            if let Some(seen) = self.reap() {
                ending = Some(seen);
                kill_everything();
                grace = Some(Stopwatch::start());
            }
            if let (Some(ending), Some(grace)) = (ending, grace) {
                if self.outputs.is_empty() || grace.elapsed() > GRACE {
                    return Ok(ending);
                }
            }
        }
    }

    /// Waits for something to do, at most a tick, and does it.
    fn pump(&mut self, host: &mut Host) -> Result<()> {
        let (mut from_host, mut to_input, mut from_outputs) = (false, false, Vec::new());
        {
            let mut fds = Vec::new();
            for output in &self.outputs {
                fds.push(PollFd::new(&output.fd, PollFlags::IN));
            }
            let wants_host = self.backlog.len() < STDIN_BACKLOG;
            if wants_host {
                fds.push(PollFd::new(&host.port, PollFlags::IN));
            }
            let input = self.input.as_ref().filter(|_| !self.backlog.is_empty());
            if let Some(input) = input {
                fds.push(PollFd::new(input, PollFlags::OUT));
            }
            let timeout = Timespec::try_from(TICK)?;
            match poll(&mut fds, Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let mut ready = fds.iter().map(|fd| fd.revents());
            for _ in &self.outputs {
                from_outputs.push(ready.next().is_some_and(|events| !events.is_empty()));
            }
            if wants_host {
                from_host = ready
                    .next()
                    .is_some_and(|events| events.contains(PollFlags::IN));
            }
            if input.is_some() {
                to_input = ready.next().is_some_and(|events| !events.is_empty());
            }
        }
        if from_host {
            for frame in host.receive()? {
                match frame {
                    Frame::Autopsy => autopsy(host)?,
                    Frame::Clock(time, idle) => host.set_time(time, idle),
                    frame => self.take(frame),
                }
            }
        }
        if to_input {
            self.feed();
        }
        if self.input_ended && self.backlog.is_empty() && !self.on_terminal {
            self.input = None;
        }
        let mut chunk = vec![0; 1 << 15];
        let mut index = 0;
        for ready in from_outputs {
            let Some(output) = self.outputs.get(index) else {
                break;
            };
            if !ready {
                index += 1;
                continue;
            }
            match rustix::io::read(&output.fd, &mut chunk) {
                // A terminal without a slave side reads as an I/O error.
                Ok(0) | Err(rustix::io::Errno::IO) => {
                    self.outputs.remove(index);
                }
                Ok(length) => {
                    let bytes = chunk.get(..length).unwrap_or_default().to_vec();
                    let frame = (output.frame)(bytes);
                    host.send(&frame)?;
                    index += 1;
                }
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => index += 1,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn take(&mut self, frame: Frame) {
        match frame {
            Frame::Stdin(bytes) if bytes.is_empty() => {
                self.input_ended = true;
                if self.on_terminal {
                    // What a person would type.
                    self.backlog.push_back(4);
                }
            }
            Frame::Stdin(bytes) => self.backlog.extend(bytes),
            Frame::Resize(rows, columns) if self.on_terminal => {
                if let Some(input) = &self.input {
                    resize(input, rows, columns);
                }
            }
            _ => {}
        }
    }

    fn feed(&mut self) {
        let Some(input) = &self.input else {
            self.backlog.clear();
            return;
        };
        let (front, _) = self.backlog.as_slices();
        match rustix::io::write(input, front) {
            Ok(written) => {
                self.backlog.drain(..written);
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            // Nobody reads any more.
            Err(_) => {
                self.backlog.clear();
                self.input = None;
            }
        }
    }

    /// Buries the dead; tells when the program was among them.
    fn reap(&self) -> Option<Ending> {
        let mut ending = None;
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if pid == self.pid {
                let status = std::process::ExitStatus::from_raw(status.as_raw());
                ending = Some(match (status.code(), status.signal()) {
                    (Some(code), _) => Ending::Exited(code),
                    (None, Some(signal)) => Ending::Signalled(signal),
                    (None, None) => continue,
                });
            }
        }
        ending
    }
}

/// A pipe: its read end, its write end.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}

fn resize(terminal: impl AsFd, rows: u16, columns: u16) {
    let size = rustix::termios::Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let _ = rustix::termios::tcsetwinsize(terminal, size);
}

fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    let flags = fcntl_getfl(&fd)?;
    fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?;
    Ok(())
}

/// Ends every other process: nobody may hold the driver when it is unloaded, or the files that are fetched.
fn kill_everything() {
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        if let Some(pid) = pid.and_then(Pid::from_raw).filter(|pid| *pid != Pid::INIT) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
    // Kernel threads are nobody's children here, so this ends.
    // One that cannot be killed hangs in the kernel. Nobody hears meanwhile what the host tells of the time: naps are
    // counted, which are longer when the host is busy.
    let nap = Duration::from_millis(5);
    let mut naps = 0;
    while nap * naps < GRACE {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) => {}
            Ok(None) => {
                sleep(nap);
                naps += 1;
            }
            Err(_) => break,
        }
    }
}

fn send_file(host: &mut Host, index: u32, path: &str) -> Result<()> {
    let outcome = (|| {
        let mut file = File::open(path)?;
        let mut chunk = vec![0; 1 << 15];
        loop {
            let length = file.read(&mut chunk)?;
            if length == 0 {
                return Ok(());
            }
            host.send(&Frame::File(
                index,
                chunk.get(..length).unwrap_or_default().to_vec(),
            ))?;
        }
    })();
    let error = outcome.err().map(|error: io::Error| error.to_string());
    host.send(&Frame::FileEnd(index, error))?;
    Ok(())
}
