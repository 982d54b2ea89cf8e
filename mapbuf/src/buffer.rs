//! A buffer: an id in a session, and the memory that it stands for.

use crate::{
    bounds::{self, wide},
    device::Device,
    error::{Error, Result},
    export::Export,
    file::NodeFile,
    info::BufferInfo,
    map::{MapOptions, Mappable, Target},
    mapping::Mapping,
    raw,
    volatile::Copies,
};
use mapbuf_abi::{segments, Alloc, Cache, Free, Kind, Method, Offset, Operation, Reason, Segment};
use rustix::io::{retry_on_intr, Errno};
use std::os::fd::AsFd;

/// A buffer, by its id in a session. Dropping it frees the id; the memory is freed with its last user: this id, a
/// [`Mapping`], an [`Export`] or a name.
#[derive(Debug)]
pub struct Buffer {
    device: Device,
    id: u32,
    kind: Kind,
    cache: Cache,
    bytes: u64,
    mmap_offset: u64,
    /// Bits in an access, if it was declared here.
    width: Option<u32>,
    /// Whether dropping frees the id.
    owned: bool,
}

impl Buffer {
    pub(crate) fn from_alloc(device: Device, answer: &Alloc) -> Result<Self> {
        let unknown = |what, number| Error::UnknownNumber { what, number };
        Ok(Self {
            device,
            id: answer.id,
            kind: Kind::from_number(answer.kind).ok_or_else(|| unknown("kind", answer.kind))?,
            cache: Cache::from_number(answer.cache)
                .ok_or_else(|| unknown("cache mode", answer.cache))?,
            bytes: answer.bytes,
            mmap_offset: answer.mmap_offset,
            width: None,
            owned: true,
        })
    }

    pub(crate) fn from_info(device: Device, info: &BufferInfo) -> Self {
        Self {
            device,
            id: info.id,
            kind: info.kind,
            cache: info.cache,
            bytes: info.bytes,
            mmap_offset: info.mmap_offset,
            width: None,
            owned: true,
        }
    }

    /// The same, whose accesses have this many bits.
    pub(crate) fn with_width(mut self, width: u32) -> Self {
        self.width = Some(width);
        self
    }

    /// How copies access its memory: `INFO` tells the width of a region that was imported.
    fn copies(&self) -> Copies {
        Copies::of(Some(self.kind), Some(self.cache), || {
            let told = || self.info().ok()?.width;
            self.width.or_else(told)
        })
    }

    /// Its id in the session; `mmap` of the session at `id << PAGE_SHIFT` maps it.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Its kind of memory.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its cache mode.
    pub fn cache(&self) -> Cache {
        self.cache
    }

    /// Its size in bytes: the requested size, rounded up to whole pages.
    #[expect(clippy::len_without_is_empty, reason = "there is no empty buffer")]
    pub fn len(&self) -> u64 {
        self.bytes
    }

    /// Its `mmap` offset for the method `auto`, in bytes; adding whole pages within the buffer maps a part.
    pub fn mmap_offset(&self) -> u64 {
        self.mmap_offset
    }

    /// The session that it belongs to.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Maps all of it: shared, and for reading and writing unless the device was opened read-only. [`MapOptions`] has
    /// further options.
    ///
    /// # Errors
    ///
    /// As for [`MapOptions::map`].
    pub fn map(&self) -> Result<Mapping> {
        MapOptions::new().map(self)
    }

    /// Queries its current state: how many mappings and how many physically contiguous runs it has.
    ///
    /// # Errors
    ///
    /// [`Reason::NoSuchId`] if its id was freed elsewhere.
    pub fn info(&self) -> Result<BufferInfo> {
        self.device.info_of(self.id)?.try_into()
    }

    /// Its physically contiguous runs, in the order of the buffer. An address that the caller cannot see is
    /// [`ADDRESS_HIDDEN`](crate::abi::ADDRESS_HIDDEN).
    ///
    /// # Errors
    ///
    /// As for [`info`](Self::info).
    pub fn segments(&self) -> Result<Vec<Segment>> {
        segments(self.device.file(), self.id, 0)
    }

    /// The runs of its addresses for the device of its node, in the order of the buffer. Behind an IOMMU there are
    /// fewer than the physical ones.
    ///
    /// # Errors
    ///
    /// [`Reason::NotAttached`].
    pub fn device_segments(&self) -> Result<Vec<Segment>> {
        segments(self.device.file(), self.id, segments::FOR_DEVICE)
    }

    /// The `mmap` offset that maps it by this method, in bytes.
    ///
    /// # Errors
    ///
    /// [`Reason::UnknownMethod`], and those of the 300s that say why this kind of
    /// memory cannot be mapped this way.
    pub fn offset(&self, method: Method) -> Result<u64> {
        offset(self.device.file(), self.id, method)
    }

    /// Reads bytes through the kernel's own mapping (`pread`).
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`] if not all of them are within the buffer.
    pub fn read_at(&self, offset: u64, to: &mut [u8]) -> Result<()> {
        bounds::check(offset, wide(to.len()), self.bytes)?;
        read_exact(self.device.file(), self.mmap_offset + offset, to)
    }

    /// Writes bytes through the kernel's own mapping (`pwrite`).
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`] if not all of them are within the buffer.
    pub fn write_at(&self, offset: u64, from: &[u8]) -> Result<()> {
        bounds::check(offset, wide(from.len()), self.bytes)?;
        write_all(self.device.file(), self.mmap_offset + offset, from)
    }

    /// Makes a dma-buf descriptor of it.
    ///
    /// # Errors
    ///
    /// [`Reason::ReadOnlyOpen`] if the device was opened read-only.
    pub fn export(&self) -> Result<Export> {
        Export::of(self.device.file(), self.id, self.copies())
    }

    /// Frees the id, as dropping does, but reports a failure.
    ///
    /// # Errors
    ///
    /// [`Reason::NoSuchId`] if it was freed elsewhere.
    pub fn free(mut self) -> Result<()> {
        self.owned = false;
        self.give_back()
    }

    /// Keeps the id beyond this value: the buffer lives until the session ends, or until [`Device::adopt`] takes it
    /// over and drops it.
    pub fn into_id(mut self) -> u32 {
        self.owned = false;
        self.id
    }

    fn give_back(&self) -> Result<()> {
        self.device.file().call(&mut Free {
            id: self.id,
            ..Free::default()
        })
    }
}

impl Device {
    /// Takes over a buffer of this session by its id, as returned by [`Buffer::into_id`]. The id is freed when the
    /// `Buffer` is dropped.
    ///
    /// # Errors
    ///
    /// [`Reason::NoSuchId`].
    pub fn adopt(&self, id: u32) -> Result<Buffer> {
        // Id 0 would ask for the session.
        let info = match id {
            0 => return Err(no_such_id(0)),
            id => BufferInfo::try_from(self.info_of(id)?)?,
        };
        Ok(Buffer::from_info(self.clone(), &info))
    }
}

fn no_such_id(id: u32) -> Error {
    Error::Refused {
        operation: Operation::Info,
        refusal: Reason::NoSuchId.with(&[u64::from(id)]),
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.owned {
            // What can fail here is an id that was freed by its number: then there is nothing to give back.
            let _ = self.give_back();
        }
    }
}

impl Mappable for Buffer {}

impl crate::map::sealed::Source for Buffer {
    fn target(&self, method: Method) -> Result<Target<'_>> {
        Ok(Target {
            file: Some(self.device.file()),
            fd: self.device.as_fd(),
            access: self.device.file().access(),
            bytes: self.bytes,
            base: match method {
                Method::Auto => self.mmap_offset,
                method => self.offset(method)?,
            },
            copies: self.copies(),
        })
    }
}

pub(crate) fn offset(file: &NodeFile, id: u32, method: Method) -> Result<u64> {
    let mut request = Offset {
        id,
        method: method.number(),
        ..Offset::default()
    };
    file.call(&mut request)?;
    Ok(request.mmap_offset)
}

pub(crate) fn segments(file: &NodeFile, id: u32, flags: u32) -> Result<Vec<Segment>> {
    const AT_ONCE: usize = 512;
    let mut all = Vec::new();
    loop {
        let first = u32::try_from(all.len()).unwrap_or(u32::MAX);
        let mut rows = [Segment::default(); AT_ONCE];
        let (written, total) = file.ioctl(Operation::Segments, |fd| {
            raw::segments_of(fd, id, flags, first, &mut rows)
        })?;
        all.extend_from_slice(rows.get(..written).unwrap_or_default());
        if written == 0 || wide(all.len()) >= u64::from(total) {
            return Ok(all);
        }
    }
}

pub(crate) fn read_exact(file: &NodeFile, mut offset: u64, mut to: &mut [u8]) -> Result<()> {
    while !to.is_empty() {
        let done = file.attempt(Operation::Read, |fd| {
            match retry_on_intr(|| rustix::io::pread(fd, &mut *to, offset)) {
                // The bounds were checked: an end of file here is a buffer that is gone.
                Ok(0) => Err(Errno::IO),
                other => other,
            }
        })?;
        to = &mut to[done..];
        offset += wide(done);
    }
    Ok(())
}

pub(crate) fn write_all(file: &NodeFile, mut offset: u64, mut from: &[u8]) -> Result<()> {
    while !from.is_empty() {
        let done = file.attempt(Operation::Write, |fd| {
            match retry_on_intr(|| rustix::io::pwrite(fd, from, offset)) {
                Ok(0) => Err(Errno::IO),
                other => other,
            }
        })?;
        from = &from[done..];
        offset += wide(done);
    }
    Ok(())
}
