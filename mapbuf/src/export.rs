//! A dma-buf descriptor of a buffer.

use crate::{
    access::Access,
    error::{Error, Result},
    file::NodeFile,
    map::{sealed::Source, MapOptions, Mappable, Target},
    mapping::Mapping,
    volatile::Copies,
};
use mapbuf_abi::Method;
use rustix::fs::SeekFrom;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

/// A dma-buf of a buffer: a descriptor that other drivers can import, that can be sent to other processes, and that keeps
/// the memory until it is closed.
#[derive(Debug)]
pub struct Export {
    fd: OwnedFd,
    bytes: u64,
    copies: Copies,
}

impl Export {
    pub(crate) fn of(file: &NodeFile, id: u32, copies: Copies) -> Result<Self> {
        let mut request = mapbuf_abi::Export {
            id,
            ..mapbuf_abi::Export::default()
        };
        file.call(&mut request)?;
        // SAFETY: the driver has just put this descriptor into our table, and nobody else knows of it.
        let fd = unsafe { OwnedFd::from_raw_fd(request.fd) };
        let export = Self::from_fd(fd)?;
        Ok(Self { copies, ..export })
    }

    /// Takes over a dma-buf descriptor, from another process for example. Its cache mode is unknown, so the copies of its
    /// mappings are those of memory that is not cached.
    ///
    /// # Errors
    ///
    /// [`Error::System`] if the file has no size, as every dma-buf has.
    pub fn from_fd(fd: OwnedFd) -> Result<Self> {
        // `dma_buf_llseek`, drivers/dma-buf/dma-buf.c: the end is the size.
        let bytes = rustix::fs::seek(&fd, SeekFrom::End(0)).map_err(|errno| Error::System {
            call: "lseek of the dma-buf",
            errno: errno.raw_os_error(),
        })?;
        Ok(Self {
            fd,
            bytes,
            copies: Copies::Words,
        })
    }

    /// Its size in bytes.
    #[expect(clippy::len_without_is_empty, reason = "there is no empty buffer")]
    pub fn len(&self) -> u64 {
        self.bytes
    }

    /// Maps all of it, shared, for reading and writing.
    ///
    /// # Errors
    ///
    /// As for [`MapOptions::map`]; there is no driver to ask for a reason, so refusals are a
    /// [`CoreRefusal`](crate::CoreRefusal).
    pub fn map(&self) -> Result<Mapping> {
        MapOptions::new().map(self)
    }
}

impl AsFd for Export {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Export> for OwnedFd {
    fn from(export: Export) -> Self {
        export.fd
    }
}

impl Mappable for Export {}

impl Source for Export {
    fn target(&self, _: Method) -> Result<Target<'_>> {
        Ok(Target {
            file: None,
            fd: self.fd.as_fd(),
            access: Access::ReadWrite,
            bytes: self.bytes,
            base: 0,
            copies: self.copies,
        })
    }
}
