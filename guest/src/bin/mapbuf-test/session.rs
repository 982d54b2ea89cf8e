//! One open of a node, over the raw binary interface: the tests must be able to say things that no library would.

use crate::sys::{self, bytes_of, Errno, Map, RW, SHARED};
use mapbuf_abi::reason::Refusal;
use mapbuf_abi::{
    self as wire, ioctl, last_error, Alloc, Cache, Export, Free, Import, Info, Kind, LastError,
    Method, Name, Offset, Operation, Probe, Query, Reason, Region, Segment, Segments, Unname,
    ANY_NODE, CALLER, NAMED_DIR, NAME_LEN, OPERANDS, SYSTEM_NODE,
};
use std::cell::Cell;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The kinds of memory that this driver has.
pub const KINDS: [Kind; 4] = [Kind::Vmalloc, Kind::Pages, Kind::Contiguous, Kind::Coherent];

/// An error, with what the driver said about it, if the driver was the one who made it.
#[derive(Clone, Copy, Debug)]
pub struct Refused {
    pub errno: Errno,
    pub said: Option<LastError>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.errno)?;
        let Some(said) = self.said else { return Ok(()) };
        let operation =
            Operation::from_number(said.operation).map_or("unknown operation", Operation::name);
        match Reason::from_number(said.reason) {
            Some(reason) => write!(
                f,
                " ({operation}: {reason:?}: {})",
                Refusal {
                    reason,
                    operands: said.operands
                }
            ),
            None => write!(f, " ({operation}: unknown reason {})", said.reason),
        }
    }
}

pub type Result<T> = std::result::Result<T, Refused>;

/// One open of a node, as one thread uses it.
pub struct Session {
    file: Arc<File>,
    /// The number of the last refusal that this thread has seen here.
    seen: Cell<u64>,
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Session {
    /// The system node, for reading and writing.
    pub fn open() -> std::result::Result<Self, Errno> {
        Self::open_path(SYSTEM_NODE, true)
    }

    /// The system node, for reading.
    pub fn open_read_only() -> std::result::Result<Self, Errno> {
        Self::open_path(SYSTEM_NODE, false)
    }

    /// The node of a named buffer.
    pub fn open_named(name: &str, write: bool) -> std::result::Result<Self, Errno> {
        Self::open_path(named_path(name), write)
    }

    pub fn open_path(path: impl AsRef<Path>, write: bool) -> std::result::Result<Self, Errno> {
        let file = OpenOptions::new()
            .read(true)
            .write(write)
            .custom_flags(libc::O_CLOEXEC)
            .open(path)?;
        Ok(Self::from_file(file))
    }

    pub fn from_file(file: File) -> Self {
        Self {
            file: Arc::new(file),
            seen: Cell::new(0),
        }
    }

    /// The same open file, for another thread.
    pub fn for_another_thread(&self) -> Self {
        Self {
            file: Arc::clone(&self.file),
            seen: Cell::new(0),
        }
    }

    /// What is open under a number, as long as it is: whoever closes it does so by the number.
    pub fn on_number(number: i32) -> Borrowed {
        Borrowed(Some(Self::from_file(sys::own(number))))
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    /// The driver's last refusal for this thread, as the ioctl gives it.
    pub fn last_error(&self) -> std::result::Result<LastError, Errno> {
        self.last_error_of(0)
    }

    /// The same for another thread that uses this open file.
    pub fn last_error_of(&self, thread: u32) -> std::result::Result<LastError, Errno> {
        let mut last = LastError {
            size: size_of::<LastError>() as u32,
            thread,
            ..Default::default()
        };
        sys::ioctl(self, ioctl::LAST_ERROR, &mut last)?;
        Ok(last)
    }

    /// The same for a dma-buf's own descriptor: what this thread was refused when it mapped one, or had a device take it.
    pub fn of_dma_bufs(&self) -> std::result::Result<LastError, Errno> {
        let mut last = LastError {
            size: size_of::<LastError>() as u32,
            flags: last_error::OF_DMA_BUFS,
            ..Default::default()
        };
        sys::ioctl(self, ioctl::LAST_ERROR, &mut last)?;
        Ok(last)
    }

    /// Joins an error with what the driver says about it.
    pub fn explain<T>(&self, result: std::result::Result<T, Errno>) -> Result<T> {
        result.map_err(|errno| {
            let last = self
                .last_error()
                .ok()
                .filter(|last| last.sequence > self.seen.get());
            if let Some(last) = last {
                self.seen.set(last.sequence);
            }
            Refused { errno, said: last }
        })
    }

    /// An ioctl with a struct in which everything is set, also the size. What a refusal says in the struct must be what
    /// LAST_ERROR says.
    pub fn ioctl<T: sys::Plain>(&self, number: u32, mut value: T) -> Result<T> {
        let result = self.explain(sys::ioctl(self, number, &mut value).map(|_| value));
        if let Err(refused) = &result {
            // Another thread may have closed the descriptor before LAST_ERROR was asked.
            let closed = || matches!(self.last_error(), Err(Errno(libc::EBADF)));
            if refused.said.is_none() && closed() {
                return result;
            }
            let bytes = bytes_of(&value);
            let told = &bytes[bytes.len() - size_of::<wire::Refused>()..];
            let expected = refused.said.map(|said| wire::Refused {
                reason: said.reason,
                errno: said.errno,
                operands: said.operands,
            });
            assert_eq!(told, bytes_of(&expected.unwrap_or_default()), "{refused}");
        }
        result
    }

    pub fn ioctl_bytes(&self, number: u32, bytes: &mut [u8]) -> Result<i32> {
        self.explain(sys::ioctl_bytes(self, number, bytes))
    }

    pub fn query(&self) -> Result<Query> {
        self.ioctl(
            ioctl::QUERY,
            Query {
                size: size_of::<Query>() as u32,
                ..Default::default()
            },
        )
    }

    pub fn alloc(&self, kind: Kind, bytes: usize) -> Result<Alloc> {
        self.ioctl(ioctl::ALLOC, alloc_request(kind, bytes as u64))
    }

    pub fn free(&self, id: u32) -> Result<()> {
        self.ioctl(
            ioctl::FREE,
            Free {
                size: size_of::<Free>() as u32,
                id,
                ..Default::default()
            },
        )
        .map(drop)
    }

    pub fn info(&self, id: u32) -> Result<Info> {
        self.ioctl(
            ioctl::INFO,
            Info {
                size: size_of::<Info>() as u32,
                id,
                ..Default::default()
            },
        )
    }

    pub fn offset(&self, id: u32, method: Method) -> Result<u64> {
        let offset = Offset {
            size: size_of::<Offset>() as u32,
            id,
            method: method.number(),
            ..Default::default()
        };
        Ok(self.ioctl(ioctl::OFFSET, offset)?.mmap_offset)
    }

    pub fn export(&self, id: u32) -> Result<File> {
        let export = Export {
            size: size_of::<Export>() as u32,
            id,
            fd: 0,
            ..Default::default()
        };
        Ok(sys::own(self.ioctl(ioctl::EXPORT, export)?.fd))
    }

    pub fn import(&self, fd: i32, id: u32) -> Result<Import> {
        let request = Import {
            size: size_of::<Import>() as u32,
            fd,
            id,
            ..Default::default()
        };
        self.ioctl(ioctl::IMPORT, request)
    }

    /// Looks at a region.
    pub fn probe(&self, id: u32, flags: u32) -> Result<Probe> {
        let request = Probe {
            size: size_of::<Probe>() as u32,
            flags,
            id,
            ..Default::default()
        };
        self.ioctl(ioctl::PROBE, request)
    }

    /// What is known of the region with this number.
    pub fn region(&self, index: u32) -> Result<Region> {
        let request = Region {
            size: size_of::<Region>() as u32,
            flags: 0,
            index,
            count: 0,
            bytes: 0,
            start: 0,
            class: 0,
            cache: 0,
            width: 0,
            state: 0,
            reason: 0,
            errno: 0,
            operands: [0; OPERANDS],
            name: [0; NAME_LEN],
            refused: Default::default(),
        };
        self.ioctl(ioctl::REGION, request)
    }

    pub fn name(&self, id: u32, name: &str, mode: u32) -> Result<()> {
        self.ioctl(ioctl::NAME, name_request(id, name.as_bytes(), mode))
            .map(drop)
    }

    pub fn unname(&self, name: &str) -> Result<()> {
        let request = Unname {
            size: size_of::<Unname>() as u32,
            flags: 0,
            name: padded(name.as_bytes()),
            refused: Default::default(),
        };
        self.ioctl(ioctl::UNNAME, request).map(drop)
    }

    /// Some rows of `SEGMENTS`, and how many there are.
    pub fn segment_rows(&self, id: u32, first: u32, count: u32) -> Result<(Vec<Segment>, u32)> {
        let bytes = (size_of::<Segment>() * count as usize).max(1);
        let rows = self.explain(Map::anonymous(bytes))?;
        self.segment_rows_at(id, first, count, &rows)
    }

    /// The same, with the place where the driver writes them.
    pub fn segment_rows_at(
        &self,
        id: u32,
        first: u32,
        count: u32,
        rows: &Map,
    ) -> Result<(Vec<Segment>, u32)> {
        let row = size_of::<Segment>();
        let request = Segments {
            size: size_of::<Segments>() as u32,
            id,
            first,
            count,
            rows: rows.start as u64,
            ..Default::default()
        };
        let answer = self.ioctl(ioctl::SEGMENTS, request)?;
        let list = (0..answer.count as usize).map(|index| Segment {
            offset: rows.u64(index * row),
            length: rows.u64(index * row + 8),
            dma_address: rows.u64(index * row + 16),
            physical_address: rows.u64(index * row + 24),
        });
        Ok((list.collect(), answer.total))
    }

    /// All rows of `SEGMENTS`.
    pub fn segments(&self, id: u32) -> Result<Vec<Segment>> {
        let (_, total) = self.segment_rows(id, 0, 0)?;
        Ok(self.segment_rows(id, 0, total)?.0)
    }

    pub fn map(&self, len: usize, prot: i32, flags: i32, offset: u64) -> Result<Map> {
        self.explain(Map::new(self, len, prot, flags, offset))
    }

    /// A new buffer, mapped whole, shared and writable.
    pub fn mapped(&self, kind: Kind, bytes: usize) -> Result<(Alloc, Map)> {
        let buffer = self.alloc(kind, bytes)?;
        let map = self.map(bytes, RW, SHARED, buffer.mmap_offset)?;
        Ok((buffer, map))
    }

    pub fn pread(&self, bytes: &mut [u8], offset: u64) -> Result<usize> {
        self.explain(self.file.read_at(bytes, offset).map_err(Errno::from))
    }

    pub fn pwrite(&self, bytes: &[u8], offset: u64) -> Result<usize> {
        self.explain(self.file.write_at(bytes, offset).map_err(Errno::from))
    }

    pub fn seek(&self, offset: i64, whence: i32) -> Result<i64> {
        self.explain(sys::seek(self, offset, whence))
    }
}

/// A session whose descriptor belongs to somebody else.
pub struct Borrowed(Option<Session>);

impl Deref for Borrowed {
    type Target = Session;

    fn deref(&self) -> &Session {
        self.0.as_ref().expect("it is taken when it is dropped")
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        let file = self
            .0
            .take()
            .and_then(|session| Arc::into_inner(session.file));
        // Without closing it.
        let _ = file.map(IntoRawFd::into_raw_fd);
    }
}

/// A plain request for a buffer.
pub fn alloc_request(kind: Kind, bytes: u64) -> Alloc {
    Alloc {
        size: size_of::<Alloc>() as u32,
        bytes,
        kind: kind.number(),
        cache: Cache::Cached.number(),
        numa_node: ANY_NODE,
        ..Default::default()
    }
}

/// A request for a name, for the caller himself.
pub fn name_request(id: u32, name: &[u8], mode: u32) -> Name {
    Name {
        size: size_of::<Name>() as u32,
        flags: 0,
        id,
        mode,
        uid: CALLER,
        gid: CALLER,
        name: padded(name),
        refused: Default::default(),
    }
}

/// A name as it stands in a struct.
pub fn padded(name: &[u8]) -> [u8; NAME_LEN] {
    let mut padded = [0; NAME_LEN];
    padded[..name.len()].copy_from_slice(name);
    padded
}

/// The offset that stands for a buffer's id.
pub fn id_offset(id: u32) -> u64 {
    u64::from(id) * sys::PAGE as u64
}

/// Where a named buffer's node lies.
pub fn named_path(name: &str) -> PathBuf {
    Path::new(NAMED_DIR).join(name)
}
