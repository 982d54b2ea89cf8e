//! What a program in the guest may ask of the host: that a device is pulled out or put back, what a disk's image has, and
//! what lies in the machine's memory.
//!
//! There is a second virtio-serial port for it where the machine was given devices. A line with an [`Ask`] in JSON goes to
//! the host, and a line with an [`Answer`] comes back.

use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

/// The name of the port.
pub const ASK_PORT: &str = "mapbuf.ask";

/// What is asked. Devices are named by their ids: the model's name, with a number from the second one on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// Press the button beside the device. The guest has it until it lets go.
    Unplug(String),
    /// Wait until the guest has let go of it.
    AwaitUnplugged(String),
    /// Put it back.
    Plug(String),
    /// So many bytes of the device's image, from this one on.
    Read {
        /// The device.
        device: String,
        /// The first byte.
        offset: u64,
        /// How many.
        bytes: usize,
    },
    /// So many bytes of the machine's memory, within a page.
    Physical {
        /// The physical address of the first.
        address: u64,
        /// How many.
        bytes: usize,
    },
    /// The same at an address of a device's own, by the tables of the IOMMU, if there is one.
    Dma {
        /// The function, as in `0000:01:00.0`.
        function: String,
        /// What it calls the first byte.
        address: u64,
        /// How many.
        bytes: usize,
    },
    /// Write to the device's image.
    Write {
        /// The device.
        device: String,
        /// The first byte.
        offset: u64,
        /// What.
        contents: Vec<u8>,
    },
}

/// What the host says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It is done.
    Done,
    /// What was read.
    Bytes(Vec<u8>),
    /// It cannot be done.
    Failed(String),
}

/// The node of the virtio-serial port with this name, when there is one.
pub fn find_port(name: &str) -> Option<PathBuf> {
    for entry in fs::read_dir("/sys/class/virtio-ports").ok()?.flatten() {
        let found = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        let node = Path::new("/dev").join(entry.file_name());
        if found.trim_end() == name && node.exists() {
            return Some(node);
        }
    }
    None
}

/// The guest's end. One program at a time has it.
pub struct Host {
    port: BufReader<File>,
}

impl Host {
    /// Opens the port.
    ///
    /// # Errors
    ///
    /// `NotFound` when the machine has no devices to ask about; those of opening the port.
    pub fn connect() -> io::Result<Self> {
        let node = find_port(ASK_PORT).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                "the host takes no requests: the machine was started without --device",
            )
        })?;
        let port = File::options().read(true).write(true).open(node)?;
        Ok(Self {
            port: BufReader::new(port),
        })
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    ///
    /// Those of the port, and what the host says that it cannot do.
    pub fn ask(&mut self, ask: &Ask) -> io::Result<Vec<u8>> {
        let mut line = serde_json::to_string(ask)?;
        line.push('\n');
        self.port.get_mut().write_all(line.as_bytes())?;
        line.clear();
        self.port.read_line(&mut line)?;
        match serde_json::from_str(&line)? {
            Answer::Done => Ok(Vec::new()),
            Answer::Bytes(bytes) => Ok(bytes),
            Answer::Failed(why) => Err(io::Error::other(why)),
        }
    }
}
