//! Options for allocating a buffer.

use crate::{buffer::Buffer, device::Device, error::Result};
use mapbuf_abi::{alloc, Alloc, Cache, Kind, ANY_NODE, NEAR_DEVICE};

/// What memory to allocate for a buffer.
///
/// ```no_run
/// use mapbuf::{AllocOptions, Device, Kind};
///
/// # fn main() -> Result<(), mapbuf::Error> {
/// let device = Device::open()?;
/// let buffer = AllocOptions::new(Kind::Pages, 8 << 20)
///     .numa_node(0)
///     .alloc(&device)?;
/// assert_eq!(buffer.len(), 8 << 20);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "options do nothing until `alloc` is called"]
pub struct AllocOptions {
    request: Alloc,
}

impl AllocOptions {
    /// A buffer of this kind with at least this many bytes (rounded up to whole pages), cached, from any NUMA node,
    /// with an id that the driver chooses.
    pub fn new(kind: Kind, bytes: u64) -> Self {
        Self {
            request: Alloc {
                bytes,
                kind: kind.number(),
                cache: Cache::Cached.number(),
                numa_node: ANY_NODE,
                ..Alloc::default()
            },
        }
    }

    /// The cache mode of every mapping of it, the kernel's own included.
    pub fn cache(mut self, cache: Cache) -> Self {
        self.request.cache = cache.number();
        self
    }

    /// The only NUMA node to allocate from.
    pub fn numa_node(mut self, node: u32) -> Self {
        // A number that is no `i32` stands for no node, and the largest one does too.
        self.request.numa_node = i32::try_from(node).unwrap_or(i32::MAX);
        self
    }

    /// The NUMA node that the node's device is near to, if it has one.
    pub fn near_device(mut self) -> Self {
        self.request.numa_node = NEAR_DEVICE;
        self
    }

    /// On the node of a device: a DMA buffer, with addresses for the device from the first, in both directions. With the
    /// kinds that have pages, its mappings can be pinned too (`O_DIRECT`, `io_uring`).
    pub fn for_device(mut self) -> Self {
        self.request.flags |= alloc::FOR_DEVICE;
        self
    }

    /// All of it lies below this address. This and the next two speak of physical addresses; with
    /// [`for_device`](Self::for_device) and with coherent memory, of the device's.
    pub fn below(mut self, address: u64) -> Self {
        self.request.below = address;
        self
    }

    /// So many low bits of its first address are 0, at most 40.
    pub fn align_bits(mut self, bits: u32) -> Self {
        self.request.align_bits = bits;
        self
    }

    /// No run of it crosses a multiple of 2 to this power, 12 to 63.
    pub fn boundary_bits(mut self, bits: u32) -> Self {
        self.request.boundary_bits = bits;
        self
    }

    /// The id to use; 0 lets the driver choose one.
    pub fn id(mut self, id: u32) -> Self {
        self.request.id = id;
        self
    }

    /// Allocates the buffer. Its memory is zero.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`](crate::Error::Refused) with a [`Reason`](crate::Reason) of the 200s: bad arguments, a limit
    /// (`OverLimit`, `OverUserLimit`, `TooManyBuffers`), or no such memory (`OutOfMemory`, `NoContiguousMemory`,
    /// `NoCoherentMemory`); nothing is left allocated. `ReadOnlyOpen` if the device was opened read-only.
    /// [`PlacementRefused`](crate::Reason::PlacementRefused) if no memory is where it was required to be.
    pub fn alloc(&self, device: &Device) -> Result<Buffer> {
        let mut request = self.request;
        device.file().call(&mut request)?;
        Buffer::from_alloc(device.clone(), &request)
    }
}

impl Device {
    /// On the node of a device: a DMA buffer of at least this many bytes. It has addresses for the device from the first,
    /// and pages, so that `O_DIRECT`, `io_uring` and RDMA take its mappings too. Behind an IOMMU its addresses are one run.
    ///
    /// # Errors
    ///
    /// As for [`AllocOptions::alloc`]; [`Reason::NeedsDevice`](crate::Reason::NeedsDevice) on the node `system`.
    pub fn alloc_dma(&self, bytes: u64) -> Result<Buffer> {
        AllocOptions::new(Kind::Pages, bytes)
            .for_device()
            .alloc(self)
    }

    /// Allocates a buffer of at least this many bytes. [`AllocOptions`] has further options.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`](crate::Error::Refused), as for [`AllocOptions::alloc`].
    pub fn alloc(&self, kind: Kind, bytes: u64) -> Result<Buffer> {
        AllocOptions::new(kind, bytes).alloc(self)
    }
}
