//! Frames, and the job that PID 1 is given.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};

/// The name of the virtio-serial port that carries the frames.
pub const PORT_NAME: &str = "mapbuf";

/// Where in the initramfs the job lies, as JSON.
pub const JOB_PATH: &str = "/job.json";

/// Where in the initramfs the modules lie without which the port to the host does not appear, in the order of their names.
pub const EARLY_PATH: &str = "/early";

/// Where in the initramfs the files lie that are to be copied over a disk root.
pub const PAYLOAD_PATH: &str = "/payload";

/// What PID 1 is to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The program and its arguments; empty: a shell.
    pub argv: Vec<String>,
    /// Environment variables beside `PATH`, `HOME` and `TERM`.
    pub env: BTreeMap<String, String>,
    /// Kernel modules to load, in this order, before the program runs. Paths are those of the initramfs.
    pub modules: Vec<LoadModule>,
    /// Files to send to the host after the program.
    pub fetch: Vec<String>,
    /// A disk to use as the root file system instead of the initramfs.
    pub root: Option<RootDisk>,
    /// Run the program on a terminal of its own instead of on pipes.
    pub terminal: Option<Terminal>,
    /// Modules to unload after the program; one that stays busy is reported.
    pub unload: Vec<String>,
    /// Have the kernel look for memory that nothing refers to any more, when all that is done. One that cannot is a
    /// failure.
    pub find_leaks: bool,
}

/// A module to load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadModule {
    /// The file, in the initramfs.
    pub path: String,
    /// Its parameters, as in `insmod`.
    pub params: String,
}

/// The disk that holds the root file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootDisk {
    /// The block device.
    pub device: String,
    /// The file system on it.
    pub fstype: String,
}

/// The terminal of the person who waits outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// Its height.
    pub rows: u16,
    /// Its width.
    pub columns: u16,
    /// The value of `TERM`.
    pub term: String,
}

/// How the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With this exit status.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
    /// It never ran: PID 1 could not start it, or not prepare the guest. A [`Frame::Complaint`] has said why.
    NotRun,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Guest: PID 1 runs.
    Hello,
    /// Guest: the modules are loaded and the program is about to start.
    Started,
    /// Guest: what the program wrote to its standard output (or terminal).
    Stdout(Vec<u8>),
    /// Guest: what the program wrote to its standard error.
    Stderr(Vec<u8>),
    /// Guest: one line of the kernel's log.
    Log(String),
    /// Guest: still here.
    Heartbeat,
    /// Guest: a part of the fetched file with this index.
    File(u32, Vec<u8>),
    /// Guest: the fetched file with this index is complete; an error text otherwise.
    FileEnd(u32, Option<String>),
    /// Guest: PID 1 could not do something that the job asked for.
    Complaint(String),
    /// Guest: what the kernel found that nothing refers to any more: how many objects, and its report of them.
    Leaks(u32, String),
    /// Guest: the program has ended; nothing follows.
    Ended(Ending),
    /// Host: input for the program; empty: there is no more.
    Stdin(Vec<u8>),
    /// Host: the terminal has a new size (rows, columns).
    Resize(u16, u16),
    /// Host: the guest's own time in milliseconds, in which those are not counted that the host had no processor for it;
    /// and for how many of the last ones the guest has had nothing to do, while its program printed nothing.
    Clock(u64, u64),
    /// Host: the run is given up; have the kernel log what every task and processor is doing.
    Autopsy,
}

/// A frame's payload is never longer than this; a longer one means that the two sides have lost each other.
pub const MAX_PAYLOAD: usize = 1 << 20;

impl Frame {
    /// Writes the frame.
    pub fn write_to(&self, writer: &mut impl Write) -> io::Result<()> {
        let mut payload = Vec::new();
        let tag = match self {
            Self::Hello => b'h',
            Self::Started => b's',
            Self::Heartbeat => b'b',
            Self::Autopsy => b'a',
            Self::Stdout(bytes) => {
                payload.extend_from_slice(bytes);
                b'o'
            }
            Self::Stderr(bytes) => {
                payload.extend_from_slice(bytes);
                b'e'
            }
            Self::Stdin(bytes) => {
                payload.extend_from_slice(bytes);
                b'i'
            }
            Self::Log(line) => {
                payload.extend_from_slice(line.as_bytes());
                b'l'
            }
            Self::Complaint(text) => {
                payload.extend_from_slice(text.as_bytes());
                b'c'
            }
            Self::File(index, bytes) => {
                payload.extend_from_slice(&index.to_le_bytes());
                payload.extend_from_slice(bytes);
                b'f'
            }
            Self::FileEnd(index, error) => {
                payload.extend_from_slice(&index.to_le_bytes());
                if let Some(error) = error {
                    payload.extend_from_slice(error.as_bytes());
                }
                b'F'
            }
            Self::Leaks(count, report) => {
                payload.extend_from_slice(&count.to_le_bytes());
                payload.extend_from_slice(report.as_bytes());
                b'k'
            }
            Self::Ended(ending) => {
                let (kind, value) = match ending {
                    Ending::Exited(status) => (0, *status),
                    Ending::Signalled(signal) => (1, *signal),
                    Ending::NotRun => (2, 0),
                };
                payload.push(kind);
                payload.extend_from_slice(&value.to_le_bytes());
                b'x'
            }
            Self::Clock(time, idle) => {
                payload.extend_from_slice(&time.to_le_bytes());
                payload.extend_from_slice(&idle.to_le_bytes());
                b't'
            }
            Self::Resize(rows, columns) => {
                payload.extend_from_slice(&rows.to_le_bytes());
                payload.extend_from_slice(&columns.to_le_bytes());
                b'r'
            }
        };
        let length = u32::try_from(payload.len())
            .ok()
            .filter(|_| payload.len() <= MAX_PAYLOAD)
            .ok_or_else(|| invalid("frame too long"))?;
        let mut message = Vec::with_capacity(payload.len() + 5);
        message.push(tag);
        message.extend_from_slice(&length.to_le_bytes());
        message.extend_from_slice(&payload);
        writer.write_all(&message)
    }

    /// Takes the first whole frame off `buffer`, if there is one.
    pub fn take_from(buffer: &mut Vec<u8>) -> io::Result<Option<Self>> {
        let Some((header, rest)) = buffer.split_first_chunk::<5>() else {
            return Ok(None);
        };
        let [tag, length @ ..] = *header;
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_PAYLOAD {
            return Err(invalid("frame too long"));
        }
        let Some(payload) = rest.get(..length) else {
            return Ok(None);
        };
        let frame = Self::decode(tag, payload)?;
        buffer.drain(..5 + length);
        Ok(Some(frame))
    }

    /// Reads the next frame; `None` at the end of the stream.
    pub fn read_from(reader: &mut impl Read) -> io::Result<Option<Self>> {
        let mut header = [0; 5];
        if let Err(error) = reader.read_exact(&mut header) {
            return match error.kind() {
                io::ErrorKind::UnexpectedEof => Ok(None),
                _ => Err(error),
            };
        }
        let [tag, length @ ..] = header;
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_PAYLOAD {
            return Err(invalid("frame too long"));
        }
        let mut payload = vec![0; length];
        reader.read_exact(&mut payload)?;
        Self::decode(tag, &payload).map(Some)
    }

    fn decode(tag: u8, payload: &[u8]) -> io::Result<Self> {
        let text = || String::from_utf8_lossy(payload).into_owned();
        let indexed = || {
            let (index, rest) = payload
                .split_first_chunk::<4>()
                .ok_or_else(|| invalid("frame too short"))?;
            Ok::<_, io::Error>((u32::from_le_bytes(*index), rest))
        };
        Ok(match tag {
            b'h' => Self::Hello,
            b's' => Self::Started,
            b'b' => Self::Heartbeat,
            b'a' => Self::Autopsy,
            b'o' => Self::Stdout(payload.to_vec()),
            b'e' => Self::Stderr(payload.to_vec()),
            b'i' => Self::Stdin(payload.to_vec()),
            b'l' => Self::Log(text()),
            b'c' => Self::Complaint(text()),
            b'f' => {
                let (index, bytes) = indexed()?;
                Self::File(index, bytes.to_vec())
            }
            b'F' => {
                let (index, error) = indexed()?;
                let error =
                    (!error.is_empty()).then(|| String::from_utf8_lossy(error).into_owned());
                Self::FileEnd(index, error)
            }
            b'k' => {
                let (count, report) = indexed()?;
                Self::Leaks(count, String::from_utf8_lossy(report).into_owned())
            }
            b'x' => match *payload {
                [0, a, b, c, d] => Self::Ended(Ending::Exited(i32::from_le_bytes([a, b, c, d]))),
                [1, a, b, c, d] => Self::Ended(Ending::Signalled(i32::from_le_bytes([a, b, c, d]))),
                [2, ..] => Self::Ended(Ending::NotRun),
                _ => return Err(invalid("malformed ending")),
            },
            b't' => {
                let numbers = payload.split_first_chunk();
                let numbers = numbers.and_then(|(time, idle)| Some((*time, idle.try_into().ok()?)));
                let (time, idle) = numbers.ok_or_else(|| invalid("malformed time"))?;
                Self::Clock(u64::from_le_bytes(time), u64::from_le_bytes(idle))
            }
            b'r' => match *payload {
                [a, b, c, d] => {
                    Self::Resize(u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]))
                }
                _ => return Err(invalid("malformed size")),
            },
            _ => return Err(invalid("unknown frame")),
        })
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_survives_the_wire() {
        let frames = [
            Frame::Hello,
            Frame::Started,
            Frame::Stdout(b"\0\xff\r\n".to_vec()),
            Frame::Stderr(Vec::new()),
            Frame::Log("[    0.000000] x".into()),
            Frame::Heartbeat,
            Frame::File(7, vec![1, 2, 3]),
            Frame::FileEnd(7, None),
            Frame::FileEnd(8, Some("No such file".into())),
            Frame::Complaint("why".into()),
            Frame::Leaks(0, String::new()),
            Frame::Leaks(2, "unreferenced object".into()),
            Frame::Ended(Ending::Exited(255)),
            Frame::Ended(Ending::Signalled(9)),
            Frame::Ended(Ending::NotRun),
            Frame::Stdin(b"in".to_vec()),
            Frame::Resize(24, 80),
            Frame::Clock(u64::MAX - 1, 7),
            Frame::Autopsy,
        ];
        let mut wire = Vec::new();
        for frame in &frames {
            frame.write_to(&mut wire).unwrap();
        }
        let mut reader = wire.as_slice();
        for frame in &frames {
            assert_eq!(Frame::read_from(&mut reader).unwrap().as_ref(), Some(frame));
        }
        assert_eq!(Frame::read_from(&mut reader).unwrap(), None);

        // The same bytes, arriving one at a time.
        let mut buffer = Vec::new();
        let mut seen = Vec::new();
        for byte in wire {
            buffer.push(byte);
            seen.extend(Frame::take_from(&mut buffer).unwrap());
        }
        assert_eq!(seen, frames);
    }

    #[test]
    fn a_length_that_cannot_be_is_refused() {
        let mut buffer = vec![b'o', 0xff, 0xff, 0xff, 0xff];
        assert!(Frame::take_from(&mut buffer).is_err());
    }
}
