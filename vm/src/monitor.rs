//! QEMU's monitor (QMP): stops the machine and tells what is in its registers.

use anyhow::{bail, Context, Result};
use serde_json::{json, Value};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// A monitor that says nothing for so long is gone.
const PATIENCE: Duration = Duration::from_secs(30);

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
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut monitor = Self {
            stream: BufReader::new(stream),
        };
        let greeting = monitor.message()?;
        if greeting.get("QMP").is_none() {
            bail!("QEMU's monitor greets with {greeting}");
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

    /// What the first processor is doing.
    pub fn registers(&mut self) -> Result<Registers> {
        let answer = self.execute(
            "human-monitor-command",
            json!({ "command-line": "info registers" }),
        )?;
        let text = answer.as_str().unwrap_or_default();
        registers(text).with_context(|| format!("QEMU describes registers as\n{text}"))
    }

    fn message(&mut self) -> Result<Value> {
        let mut line = String::new();
        let length = self
            .stream
            .read_line(&mut line)
            .context("QEMU's monitor does not answer")?;
        if length == 0 {
            bail!("QEMU has closed its monitor");
        }
        serde_json::from_str(&line).with_context(|| format!("QEMU's monitor says {line}"))
    }
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
    fn answers_are_told_from_events() {
        let (mine, theirs) = UnixStream::pair().unwrap();
        let peer = std::thread::spawn(move || {
            let mut lines = BufReader::new(theirs);
            let mut heard = String::new();
            lines.read_line(&mut heard).unwrap();
            let said =
                "{\"event\": \"STOP\"}\r\n{\"return\": {}}\r\n{\"error\": {\"class\": \"x\"}}\r\n";
            lines.get_mut().write_all(said.as_bytes()).unwrap();
            lines.read_line(&mut heard).unwrap();
            heard
        });
        let mut monitor = Monitor {
            stream: BufReader::new(mine),
        };
        monitor.stop().unwrap();
        let error = monitor.go_on().unwrap_err().to_string();
        assert!(error.contains("refuses cont"), "{error}");
        let heard = peer.join().unwrap();
        assert!(heard.contains("stop") && heard.contains("cont"), "{heard}");
    }
}
