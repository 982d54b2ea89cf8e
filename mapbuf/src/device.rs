//! An allocator node, which buffers are allocated from.

use crate::{
    access::Access,
    error::Result,
    file::NodeFile,
    info::{DriverInfo, SessionInfo},
    map::MapOptions,
    mapping::Mapping,
    raw,
};
use mapbuf_abi::{last_error, Info, LastError, Query, SYSTEM_NODE};
use std::{
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    sync::Arc,
};

/// An open allocator node, which is a session of the driver: buffer ids are valid only within it.
///
/// A clone is the same session. The session ends with the last clone and the last [`Buffer`](crate::Buffer) of it; its ids are then
/// freed, and so is memory that is neither mapped, named nor exported.
#[derive(Clone, Debug)]
pub struct Device {
    file: Arc<NodeFile>,
}

impl Device {
    /// Opens `/dev/mapbuf/system`, the node without a device.
    ///
    /// # Errors
    ///
    /// [`Error::Open`](crate::Error::Open): the driver is not loaded, or the node's mode does not allow it.
    pub fn open() -> Result<Self> {
        Self::open_path(SYSTEM_NODE)
    }

    /// Opens an allocator node by its path.
    ///
    /// # Errors
    ///
    /// [`Error::Open`](crate::Error::Open), as for [`open`](Self::open);
    /// [`Error::NotANode`](crate::Error::NotANode) for any other file.
    pub fn open_path(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, Access::ReadWrite)
    }

    /// Opens an allocator node for reading and writing, or read-only: then it answers queries and refuses changes.
    ///
    /// # Errors
    ///
    /// As for [`open_path`](Self::open_path).
    pub fn open_with(path: impl AsRef<Path>, access: Access) -> Result<Self> {
        Ok(Self {
            file: Arc::new(NodeFile::open(path.as_ref(), access)?),
        })
    }

    /// The path by which it was opened.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// What the driver supports, and its limits.
    ///
    /// # Errors
    ///
    /// [`Error::System`](crate::Error::System) if this is not a node of the driver.
    pub fn query(&self) -> Result<DriverInfo> {
        let mut query = Query::default();
        self.file.call(&mut query)?;
        Ok(query.into())
    }

    /// What this session holds beyond its ids.
    ///
    /// # Errors
    ///
    /// As for [`query`](Self::query).
    pub fn session(&self) -> Result<SessionInfo> {
        Ok(self.info_of(0)?.into())
    }

    /// Maps what is at an `mmap` offset of this session: `id << PAGE_SHIFT` for a buffer from its start, or an offset
    /// that the driver returned plus whole pages. `options` says how; its offset is ignored.
    ///
    /// [`MapOptions::map`] finds the offset itself.
    ///
    /// # Errors
    ///
    /// As for [`MapOptions::map`], and [`Reason::NothingAtOffset`](crate::Reason::NothingAtOffset).
    pub fn map_at(&self, mmap_offset: u64, len: usize, options: &MapOptions) -> Result<Mapping> {
        options.map_file(&self.file, mmap_offset, len)
    }

    /// What the driver last refused to this thread in this session. The library asks by itself when one of its
    /// calls fails; this is for programs that use the descriptor ([`AsFd`]).
    ///
    /// # Errors
    ///
    /// As for [`query`](Self::query).
    pub fn last_error(&self) -> Result<LastError> {
        self.file.last_error(0)
    }

    /// What the driver last refused to this thread when it mapped a dma-buf's own descriptor
    /// ([`Export`](crate::Export)), or had another driver import one: calls that involve no open file of this
    /// driver. Any session can ask; each thread gets its own.
    ///
    /// # Errors
    ///
    /// As for [`query`](Self::query).
    pub fn last_error_of_dma_bufs(&self) -> Result<LastError> {
        self.file.last_error(last_error::OF_DMA_BUFS)
    }

    pub(crate) fn info_of(&self, id: u32) -> Result<Info> {
        let mut info = Info {
            id,
            ..Info::default()
        };
        self.file.call(&mut info)?;
        Ok(info)
    }

    pub(crate) fn file(&self) -> &Arc<NodeFile> {
        &self.file
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl raw::sealed::Node for Device {}
impl raw::Node for Device {}
