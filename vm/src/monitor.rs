//! QEMU's monitor (QMP): stops the machine and tells what is in its registers.

use crate::clock::Clock;
use crate::pagetable::PhysicalMemory;
use anyhow::{bail, Context, Result};
use rustix::net::sockopt::socket_peercred;
use serde_json::{json, Value};
use std::cell::RefCell;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// A monitor that says nothing for so long, of QEMU's own time, is gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is asked for QEMU's time meanwhile.
const LOOK: Duration = Duration::from_secs(1);

/// What a machine that goes on for a moment shall have run at the least.
const MOMENT: Duration = Duration::from_micros(500);

/// One that has not run for so long of its own time has nothing to do.
const NOTHING_TO_DO: Duration = Duration::from_millis(50);

/// QEMU's arguments for a monitor at `path`.
pub fn arguments(path: &Path) -> [String; 2] {
    [
        "-qmp".to_owned(),
        format!("unix:{},server=on,wait=off", path.display()),
    ]
}

/// A connection to the monitor.
pub struct Monitor {
    stream: BufReader<UnixStream>,
    clock: Clock,
}

/// What a processor is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// The page tables in force.
    pub cr3: u64,
    /// Whether they have five levels, among other things.
    pub cr4: u64,
    /// Whether it runs user mode.
    pub user: bool,
}

impl Monitor {
    /// Connects to a QEMU that was started with [`arguments`].
    pub fn connect(path: &Path) -> Result<Self> {
        let stream = UnixStream::connect(path).context("QEMU's monitor cannot be reached")?;
        Self::over(stream)
    }

    fn over(stream: UnixStream) -> Result<Self> {
        stream.set_read_timeout(Some(LOOK))?;
        let qemu = socket_peercred(&stream)?.pid;
        let mut monitor = Self {
            stream: BufReader::new(stream),
            clock: Clock::of(qemu.as_raw_nonzero().get().unsigned_abs()),
        };
        let greeting = monitor.message()?;
        if greeting.get("QMP").is_none() {
            bail!("unexpected greeting of QEMU's monitor: {greeting}");
        }
        monitor.execute("qmp_capabilities", json!({}))?;
        Ok(monitor)
    }

    /// Runs a command; its answer.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let mut line = json!({ "execute": command, "arguments": arguments }).to_string();
        line.push('\n');
        self.stream.get_mut().write_all(line.as_bytes())?;
        loop {
            let mut message = self.message()?;
            if let Some(answer) = message.get_mut("return") {
                return Ok(answer.take());
            }
            if let Some(error) = message.get("error") {
                bail!("QEMU's monitor refuses {command}: {error}");
            }
            // Everything else is an event, which nobody asked for.
        }
    }

    /// Stops the machine's processors.
    pub fn stop(&mut self) -> Result<()> {
        self.execute("stop", json!({})).map(drop)
    }

    /// Lets them go on.
    pub fn go_on(&mut self) -> Result<()> {
        self.execute("cont", json!({})).map(drop)
    }

    /// Lets them go on until they have done something: on a busy host they would else be stopped again before they run.
    pub fn go_on_for_a_moment(&mut self) -> Result<()> {
        let (begun, used) = (self.time(), self.clock.used());
        self.go_on()?;
        loop {
            thread::sleep(Duration::from_millis(1));
            let idle = self.time() - begun > NOTHING_TO_DO;
            if idle || self.clock.used() - used >= MOMENT {
                return Ok(());
            }
        }
    }

    /// QEMU's own time since the connection was made.
    pub fn time(&mut self) -> Duration {
        self.clock.look()
    }

    /// Runs a command of those that are made for people; what it says.
    pub fn human(&mut self, line: &str) -> Result<String> {
        let answer = self.execute("human-monitor-command", json!({ "command-line": line }))?;
        Ok(answer.as_str().unwrap_or_default().to_owned())
    }

    /// Stops the machine, calls `f` with its memory, and lets it go on.
    pub fn stopped<T>(&mut self, f: impl FnOnce(&Memory<'_>) -> Result<T>) -> Result<T> {
        self.stop()?;
        let seen = f(&Memory(RefCell::new(self)));
        self.go_on()?;
        seen
    }

    /// What the first processor is doing.
    pub fn registers(&mut self) -> Result<Registers> {
        let text = &self.human("info registers")?;
        registers(text).with_context(|| format!("QEMU describes registers as\n{text}"))
    }

    fn message(&mut self) -> Result<Value> {
        let begun = self.time();
        let mut line = Vec::new();
        loop {
            match self.stream.read_until(b'\n', &mut line) {
                Ok(0) => bail!("QEMU has closed its monitor"),
                Ok(_) => break,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if self.time() - begun > PATIENCE {
                        bail!(
                            "QEMU's monitor does not answer for {} s",
                            PATIENCE.as_secs()
                        );
                    }
                }
                Err(error) => return Err(error).context("QEMU's monitor does not answer"),
            }
        }
        let line = String::from_utf8_lossy(&line);
        serde_json::from_str(&line).with_context(|| format!("QEMU's monitor says {line}"))
    }
}

/// The memory of a machine, registers of devices included, as its monitor shows it.
pub struct Memory<'a>(RefCell<&'a mut Monitor>);

impl PhysicalMemory for Memory<'_> {
    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<()> {
        // In pieces that a register can be read in.
        let (size, letter) = match bytes.len() % 8 {
            0 => (8, 'g'),
            4 => (4, 'w'),
            _ => (1, 'b'),
        };
        let count = bytes.len() / size;
        let text = self
            .0
            .borrow_mut()
            .human(&format!("xp /{count}{letter}x {address:#x}"))?;
        let words = words(&text).filter(|words| words.len() == count);
        let words = words.with_context(|| format!("memory at {address:#x}: QEMU says {text}"))?;
        for (to, word) in bytes.chunks_exact_mut(size).zip(words) {
            to.copy_from_slice(word.to_le_bytes().get(..size).unwrap_or_default());
        }
        Ok(())
    }
}

/// The numbers of a dump: lines of an address, a colon, and numbers.
fn words(text: &str) -> Option<Vec<u64>> {
    let mut words = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let (_, numbers) = line.split_once(':')?;
        for number in numbers.split_whitespace() {
            words.push(u64::from_str_radix(number.strip_prefix("0x")?, 16).ok()?);
        }
    }
    Some(words)
}

fn registers(text: &str) -> Option<Registers> {
    let field = |name: &str| {
        text.split_whitespace()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    };
    let number = |name| u64::from_str_radix(field(name)?, 16).ok();
    Some(Registers {
        cr3: number("CR3")?,
        cr4: number("CR4")?,
        user: number("CPL")? == 3,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_found_in_the_text() {
        let text = "RAX=0000000000000000 RBX=00000000004c8000\r\n\
            RIP=0000000000401745 RFL=00000246 [---Z-P-] CPL=3 II=0 A20=1 SMM=0 HLT=0\r\n\
            ES =0000 0000000000000000 ffffffff 00c00000\r\n\
            CR0=80050033 CR2=00000000004c9ff8 CR3=0000000004a3e002 CR4=003506f0\r\n";
        let expected = Registers {
            cr3: 0x4a3_e002,
            cr4: 0x35_06f0,
            user: true,
        };
        assert_eq!(registers(text), Some(expected));
        assert_eq!(registers("CR3=zz CR4=0 CPL=0"), None);
    }

    #[test]
    fn dumps_of_memory_are_read() {
        let text = "00000000fed90020: 0x0000000004a3e000 0x00000000000000ff\r\n\
            00000000fed90030: 0x8000000000000001\r\n";
        assert_eq!(words(text), Some(vec![0x4a3_e000, 0xff, 1 << 63 | 1]));
        assert_eq!(words("Cannot access memory\r\n"), None);
    }

    #[test]
    fn answers_are_told_from_events() {
        let (mine, theirs) = UnixStream::pair().unwrap();
        let peer = thread::spawn(move || {
            let mut lines = BufReader::new(theirs);
            lines
                .get_mut()
                .write_all(b"{\"QMP\": {}}\r\n{\"return\": {}}\r\n")
                .unwrap();
            let mut heard = String::new();
            // The connection's own command, and the first one.
            lines.read_line(&mut heard).unwrap();
            lines.read_line(&mut heard).unwrap();
            let said =
                "{\"event\": \"STOP\"}\r\n{\"return\": {}}\r\n{\"error\": {\"class\": \"x\"}}\r\n";
            lines.get_mut().write_all(said.as_bytes()).unwrap();
            lines.read_line(&mut heard).unwrap();
            heard
        });
        let mut monitor = Monitor::over(mine).unwrap();
        monitor.stop().unwrap();
        let error = monitor.go_on().unwrap_err().to_string();
        assert!(error.contains("refuses cont"), "{error}");
        let heard = peer.join().unwrap();
        assert!(heard.contains("stop") && heard.contains("cont"), "{heard}");
    }
}
