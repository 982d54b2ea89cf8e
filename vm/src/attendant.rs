//! Does for a program in the guest what it asks of its host: pulls a device out, puts it back, looks into a disk's image
//! or into the guest's memory.
//! `mapbuf_init::ask` is what the two say to each other.

use crate::device::Device;
use crate::iommu::{self, Requester};
use crate::monitor::{self, Monitor};
use crate::pagetable::PhysicalMemory;
use anyhow::{bail, Context, Result};
use mapbuf_init::ask::{Answer, Ask, ASK_PORT};
use serde_json::json;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// How long the guest may take to let go of a device, of QEMU's own time.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is asked whether it has.
const LOOK: Duration = Duration::from_millis(50);
/// Bytes in a page.
const PAGE: usize = 4096;
/// No more than that is read from an image at once.
const MOST: usize = 1 << 20;

/// The host's end of a machine with devices.
pub struct Attendant {
    devices: Vec<Device>,
    folder: TempDir,
    mine: UnixStream,
    theirs: UnixStream,
}

impl Attendant {
    /// Makes ready for a machine with these devices.
    pub fn new(devices: &[Device]) -> Result<Self> {
        let (mine, theirs) = UnixStream::pair()?;
        Ok(Self {
            devices: devices.to_vec(),
            folder: tempfile::Builder::new().prefix("mapbuf-vm-").tempdir()?,
            mine,
            theirs,
        })
    }

    /// What QEMU must inherit.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.theirs.as_fd()
    }

    /// QEMU's arguments: the port, which needs a `virtio-serial-pci` before it, and a monitor.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            "-chardev".into(),
            format!("socket,id=ask,fd={}", self.theirs.as_raw_fd()),
            "-device".into(),
            format!("virtserialport,chardev=ask,name={ASK_PORT}"),
        ];
        arguments.extend(monitor::arguments(&self.folder.path().join("monitor")));
        arguments
    }

    /// Attends the machine, in a thread of its own, until that is gone.
    pub fn begin(self) {
        let Self {
            devices,
            folder,
            mine,
            theirs,
        } = self;
        drop(theirs);
        thread::spawn(move || {
            let mut service = Service {
                devices,
                folder,
                monitor: None,
            };
            let Ok(mut answers) = mine.try_clone() else {
                return;
            };
            for line in BufReader::new(mine).lines() {
                let Ok(line) = line else { return };
                let asked = serde_json::from_str(&line).context("it is not understood");
                let answer = asked
                    .and_then(|ask| service.serve(ask))
                    .unwrap_or_else(|error| Answer::Failed(format!("{error:#}")));
                let Ok(mut line) = serde_json::to_string(&answer) else {
                    return;
                };
                line.push('\n');
                if answers.write_all(line.as_bytes()).is_err() {
                    return;
                }
            }
        });
    }
}

/// Bytes at a physical address.
fn physical(memory: &impl PhysicalMemory, address: u64, bytes: usize) -> Result<Vec<u8>> {
    if bytes > PAGE {
        bail!("{bytes} bytes are more than a page");
    }
    let mut contents = vec![0; bytes];
    memory.read(address, &mut contents)?;
    Ok(contents)
}

/// Bytes that a function reads at an address of its own, within a page: what the IOMMU's tables say, or where there is no
/// IOMMU, what lies there.
fn dma(
    memory: &impl PhysicalMemory,
    function: Requester,
    address: u64,
    bytes: usize,
) -> Result<Vec<u8>> {
    if address % PAGE as u64 + bytes as u64 > PAGE as u64 {
        bail!("{bytes} bytes at {address:#x} are not within a page");
    }
    let mut status = [0; 4];
    // Where there is no unit, nothing can be read.
    let there = memory.read(iommu::STATUS, &mut status).is_ok();
    if !there || u32::from_le_bytes(status) & iommu::TRANSLATES == 0 {
        return physical(memory, address, bytes);
    }
    let mut root = [0; 8];
    memory.read(iommu::ROOT, &mut root)?;
    let tables = iommu::Tables::new(memory, u64::from_le_bytes(root))?;
    match tables.at(function, address)? {
        None => bail!("the IOMMU has nothing for it at {address:#x}"),
        Some(target) if !target.read => bail!("at {address:#x} it may not read: {target}"),
        Some(target) => physical(memory, target.physical, bytes),
    }
}

struct Service {
    devices: Vec<Device>,
    folder: TempDir,
    monitor: Option<Monitor>,
}

impl Service {
    fn serve(&mut self, ask: Ask) -> Result<Answer> {
        match ask {
            Ask::Unplug(device) => {
                let id = self.device(&device)?.id.clone();
                let monitor = self.monitor()?;
                monitor.execute("device_del", json!({ "id": id }))?;
            }
            Ask::AwaitUnplugged(device) => self.await_unplugged(&device)?,
            Ask::Plug(device) => {
                let description = self.device(&device)?.description();
                let monitor = self.monitor()?;
                let said = monitor.human(&format!("device_add {description}"))?;
                if !said.trim().is_empty() {
                    bail!("{device} cannot be put in: {}", said.trim());
                }
            }
            Ask::Read {
                device,
                offset,
                bytes,
            } => {
                if bytes > MOST {
                    bail!("{bytes} bytes are more than {MOST}");
                }
                let mut contents = vec![0; bytes];
                self.image(&device, false)?
                    .read_exact_at(&mut contents, offset)
                    .with_context(|| format!("{device}: {bytes} bytes at {offset:#x}"))?;
                return Ok(Answer::Bytes(contents));
            }
            Ask::Write {
                device,
                offset,
                contents,
            } => self
                .image(&device, true)?
                .write_all_at(&contents, offset)
                .with_context(|| format!("{device} at {offset:#x}"))?,
            Ask::Physical { address, bytes } => {
                let monitor = self.monitor()?;
                return monitor
                    .stopped(|memory| physical(memory, address, bytes))
                    .map(Answer::Bytes);
            }
            Ask::Dma {
                function,
                address,
                bytes,
            } => {
                let function = function.parse()?;
                let monitor = self.monitor()?;
                return monitor
                    .stopped(|memory| dma(memory, function, address, bytes))
                    .map(Answer::Bytes);
            }
        }
        Ok(Answer::Done)
    }

    fn device(&self, id: &str) -> Result<&Device> {
        let device = self.devices.iter().find(|device| device.id == id);
        device.with_context(|| format!("the machine was started without a device {id}"))
    }

    fn image(&self, id: &str, write: bool) -> Result<File> {
        let path = self.device(id)?.image();
        let path = path.with_context(|| format!("{id} has no image"))?;
        let file = File::options().read(true).write(write).open(path);
        file.with_context(|| format!("{} cannot be opened", path.display()))
    }

    fn monitor(&mut self) -> Result<&mut Monitor> {
        let monitor = match self.monitor.take() {
            Some(monitor) => monitor,
            None => Monitor::connect(&self.folder.path().join("monitor"))?,
        };
        Ok(self.monitor.insert(monitor))
    }

    fn await_unplugged(&mut self, id: &str) -> Result<()> {
        self.device(id)?;
        let monitor = self.monitor()?;
        let begun = monitor.time();
        loop {
            let there = monitor.execute("qom-list", json!({ "path": "/machine/peripheral" }))?;
            let is = |entry: &serde_json::Value| entry["name"] == id;
            if !there.as_array().is_some_and(|list| list.iter().any(is)) {
                return Ok(());
            }
            if monitor.time() - begun > PATIENCE {
                bail!(
                    "the guest has not let go of {id} within {} s",
                    PATIENCE.as_secs()
                );
            }
            thread::sleep(LOOK);
        }
    }
}
