//! Named buffers: nodes that outlive every process.

use crate::{
    access::Access,
    bounds::{self, wide},
    buffer::{self, Buffer},
    device::Device,
    error::{Error, Result},
    export::Export,
    file::NodeFile,
    info::BufferInfo,
    map::{sealed::Source, MapOptions, Mappable, Target},
    mapping::Mapping,
    pci, raw,
    volatile::Copies,
};
use mapbuf_abi::{
    segments, sync, Cache, Direction, Info, Kind, Method, Name, Operation, Reason, Refused,
    Segment, Unname, CALLER, NAMED_DIR, NAME_LEN, SYSTEM_NODE,
};
use std::{
    ops::Range,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
};

/// A name for a buffer, and the mode and owner of its node.
///
/// ```no_run
/// use mapbuf::{Device, Kind, NameOptions, Named};
///
/// # fn main() -> Result<(), mapbuf::Error> {
/// let buffer = Device::open()?.alloc(Kind::Vmalloc, 64 << 10)?;
/// NameOptions::new("ring").mode(0o640).name(&buffer)?;
/// drop(buffer);
///
/// // Here, in another process, tomorrow:
/// let memory = Named::open("ring")?.map()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "options do nothing until `name` is called"]
pub struct NameOptions {
    name: String,
    mode: u32,
    uid: u32,
    gid: u32,
}

impl NameOptions {
    /// This name, with mode 0660, for the caller's user and group.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            mode: 0o660,
            uid: CALLER,
            gid: CALLER,
        }
    }

    /// The node's permission bits, within 0666.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// The node's owner. Another user than the caller needs CAP_CHOWN.
    pub fn uid(mut self, uid: u32) -> Self {
        self.uid = uid;
        self
    }

    /// The node's group. A group that the caller is not in needs CAP_CHOWN.
    pub fn gid(mut self, gid: u32) -> Self {
        self.gid = gid;
        self
    }

    /// Names the buffer. From then on it exists until the name is removed; its id can be freed. The name keeps the addresses
    /// that the node's device has for it; it goes when that device does.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with a [`Reason`] of the 400s: `NameInvalid`, `NameTaken`, `AlreadyNamed`, `ModeInvalid`,
    /// `OwnerNotPermitted`, `TooManyNames`.
    pub fn name(&self, buffer: &Buffer) -> Result<()> {
        buffer.device().file().call(&mut Name {
            size: 0,
            flags: 0,
            id: buffer.id(),
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            name: padded(&self.name, Operation::Name)?,
            refused: Refused::default(),
        })
    }
}

/// An open node of a named buffer. Offsets of its file are offsets in the buffer.
#[derive(Debug)]
pub struct Named {
    file: NodeFile,
    name: String,
    bytes: u64,
    kind: Option<Kind>,
    cache: Option<Cache>,
}

impl Named {
    /// Opens `/dev/mapbuf/named/NAME` for reading and writing.
    ///
    /// # Errors
    ///
    /// [`Error::Open`]: no buffer has this name, or the node's mode does not allow it.
    pub fn open(name: &str) -> Result<Self> {
        Self::open_with(name, Access::ReadWrite)
    }

    /// Opens `/dev/mapbuf/named/NAME` for reading and writing, or read-only.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn open_with(name: &str, access: Access) -> Result<Self> {
        // A name is one component of a path: `padded` lets no slash, and no `..`, through.
        padded(name, Operation::Open)?;
        let file = NodeFile::open(&Self::path(name), access)?;
        let mut info = Info::default();
        file.call(&mut info)?;
        Ok(Self {
            file,
            name: name.to_owned(),
            bytes: info.bytes,
            kind: Kind::from_number(info.kind),
            cache: Cache::from_number(info.cache),
        })
    }

    /// The path of the node with this name.
    pub fn path(name: &str) -> PathBuf {
        Path::new(NAMED_DIR).join(name)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its size in bytes.
    #[expect(clippy::len_without_is_empty, reason = "there is no empty buffer")]
    pub fn len(&self) -> u64 {
        self.bytes
    }

    /// Maps all of it, shared, with the access with which it was opened.
    ///
    /// # Errors
    ///
    /// As for [`MapOptions::map`].
    pub fn map(&self) -> Result<Mapping> {
        MapOptions::new().map(self)
    }

    /// Queries its current state.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownNumber`] if the driver is newer than the library.
    pub fn info(&self) -> Result<BufferInfo> {
        let mut info = Info::default();
        self.file.call(&mut info)?;
        info.try_into()
    }

    /// Its physically contiguous runs; see [`Buffer::segments`].
    ///
    /// # Errors
    ///
    /// As for [`info`](Self::info).
    pub fn segments(&self) -> Result<Vec<Segment>> {
        buffer::segments(&self.file, 0, 0)
    }

    /// The runs of its addresses for the device that it is for; see [`Buffer::device_segments`].
    ///
    /// # Errors
    ///
    /// [`Reason::NotAttached`]: it is for none, or the name was removed.
    pub fn device_segments(&self) -> Result<Vec<Segment>> {
        buffer::segments(&self.file, 0, segments::FOR_DEVICE)
    }

    /// Says that the CPU is about to use these bytes; see [`Buffer::sync_begin`].
    ///
    /// # Errors
    ///
    /// [`Reason::NeedsDevice`]: it is for no device; else as for [`Buffer::sync_begin`].
    pub fn sync_begin(&self, bytes: Range<u64>, direction: Direction) -> Result<()> {
        pci::sync(&self.file, 0, bytes, direction, sync::BEGIN)
    }

    /// Says that the CPU is done with these bytes; see [`Buffer::sync_end`].
    ///
    /// # Errors
    ///
    /// As for [`sync_begin`](Self::sync_begin).
    pub fn sync_end(&self, bytes: Range<u64>, direction: Direction) -> Result<()> {
        pci::sync(&self.file, 0, bytes, direction, sync::END)
    }

    /// Reads bytes through the kernel's own mapping (`pread`).
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`] if not all of them are within the buffer.
    pub fn read_at(&self, offset: u64, to: &mut [u8]) -> Result<()> {
        bounds::check(offset, wide(to.len()), self.bytes)?;
        buffer::read_exact(&self.file, offset, to)
    }

    /// Writes bytes through the kernel's own mapping (`pwrite`).
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`] if not all of them are within the buffer; `EBADF` if it was opened read-only.
    pub fn write_at(&self, offset: u64, from: &[u8]) -> Result<()> {
        bounds::check(offset, wide(from.len()), self.bytes)?;
        buffer::write_all(&self.file, offset, from)
    }

    /// Makes a dma-buf descriptor of it.
    ///
    /// # Errors
    ///
    /// [`Reason::ReadOnlyOpen`] if it was opened read-only.
    pub fn export(&self) -> Result<Export> {
        Export::of(&self.file, 0, self.copies())
    }

    pub(crate) fn file(&self) -> &NodeFile {
        &self.file
    }

    /// How copies access its memory. The width of a region is asked for at the node `system`, which not every program
    /// can open; without it, it is the driver's default.
    fn copies(&self) -> Copies {
        Copies::of(self.kind, self.cache, || {
            let system = Device::open_with(Path::new(SYSTEM_NODE), Access::ReadOnly).ok()?;
            system.width_of_region(&self.name)
        })
    }

    /// Removes the name. This file and mappings of it keep the memory.
    ///
    /// # Errors
    ///
    /// [`Reason::NotOwner`]; [`Reason::ReadOnlyOpen`] if it was opened read-only.
    pub fn unname(&self) -> Result<()> {
        unname(&self.file, &self.name)
    }
}

impl AsFd for Named {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Mappable for Named {}

impl Source for Named {
    fn target(&self, method: Method) -> Result<Target<'_>> {
        Ok(Target {
            file: Some(&self.file),
            fd: self.file.as_fd(),
            access: self.file.access(),
            bytes: self.bytes,
            base: match method {
                Method::Auto => 0,
                // The driver says what a named node does with methods.
                method => buffer::offset(&self.file, 0, method)?,
            },
            copies: self.copies(),
        })
    }
}

impl raw::sealed::Node for Named {}
impl raw::Node for Named {}

impl Device {
    /// Removes the name of a named buffer. Open files and mappings of it keep the memory.
    ///
    /// # Errors
    ///
    /// [`Reason::NameUnknown`], [`Reason::NotOwner`].
    pub fn unname(&self, name: &str) -> Result<()> {
        unname(self.file(), name)
    }
}

fn unname(file: &NodeFile, name: &str) -> Result<()> {
    file.call(&mut Unname {
        size: 0,
        flags: 0,
        name: padded(name, Operation::Unname)?,
        refused: Refused::default(),
    })
}

/// A name as the wire has it. What does not fit there, or would be cut short by it, is refused as the driver would;
/// so is what would be another path.
fn padded(name: &str, operation: Operation) -> Result<[u8; NAME_LEN]> {
    let refused = |position: usize, byte: u8| Error::Refused {
        operation,
        refusal: Reason::NameInvalid.with(&[wide(position), u64::from(byte)]),
    };
    let bytes = name.as_bytes();
    let mut padded = [0; NAME_LEN];
    for (position, &byte) in bytes.iter().enumerate() {
        match padded.get_mut(position) {
            Some(to) if byte != 0 && byte != b'/' && !(position == 0 && byte == b'.') => *to = byte,
            _ => return Err(refused(position, byte)),
        }
    }
    if bytes.is_empty() {
        return Err(refused(0, 0));
    }
    Ok(padded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_do_not_fit_are_refused_here() {
        let name = "a".repeat(NAME_LEN);
        assert_eq!(padded(&name, Operation::Name).unwrap(), [b'a'; NAME_LEN]);
        for bad in [
            "",
            "a\0b",
            "a/b",
            "..",
            ".hidden",
            &"a".repeat(NAME_LEN + 1),
        ] {
            let error = padded(bad, Operation::Name).unwrap_err();
            assert_eq!(error.reason(), Some(Reason::NameInvalid), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_passes_is_one_component(name in any::<String>()) {
            if padded(&name, Operation::Open).is_ok() {
                let path = Named::path(&name);
                prop_assert_eq!(path.parent(), Some(Path::new(NAMED_DIR)));
                prop_assert_eq!(path.file_name().and_then(|name| name.to_str()), Some(name.as_str()));
            }
        }
    }
}
