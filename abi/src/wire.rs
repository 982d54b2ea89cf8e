// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Numbers and layouts of the system call interface.
//!
//! # Rules for every struct
//!
//! * The first field is the struct's size in bytes, as the caller knows it. A caller older than the
//!   driver passes a smaller size (the rest reads as zero), a newer one a larger size (its unknown
//!   tail must be zero, else `E2BIG`).
//! * The second field holds flags. An unknown flag is `EINVAL`; so is a reserved field that is not zero.
//! * Every 64-bit field lies on a multiple of 8 and every size is a multiple of 8, so that 32-bit and
//!   64-bit programs see the same layout and the driver needs no second one. There is no padding.
//! * The driver dispatches on the type and the number of an ioctl, never on the size encoded in it.
//! * The last field of an ioctl's struct is a [`Refused`]: why it was refused, if the caller has room for it. The
//!   structs had no such field at first, so the driver accepts a size without it.

use core::mem::{
    offset_of,
    size_of, //
};

/// Version of this interface, in `Query::abi_version`. It changes with each incompatible change.
pub const ABI_VERSION: u32 = 1;

/// `_IOC_TYPE` of every ioctl here; free in `Documentation/userspace-api/ioctl/ioctl-number.rst`.
pub const MAGIC: u32 = 0xB9;

/// Path of the allocator node without a device.
#[cfg_attr(MODULE, expect(dead_code, reason = "for user space"))]
pub const SYSTEM_NODE: &str = "/dev/mapbuf/system";
/// Directory of all nodes.
#[cfg_attr(MODULE, expect(dead_code, reason = "for user space"))]
pub const DEV_DIR: &str = "/dev/mapbuf";
/// Directory of the nodes of named buffers.
#[cfg_attr(MODULE, expect(dead_code, reason = "for user space"))]
pub const NAMED_DIR: &str = "/dev/mapbuf/named";
/// Prefix of the path of a bound PCI device's node; the device's address (`0000:00:04.0`) follows.
#[cfg_attr(MODULE, expect(dead_code, reason = "for user space"))]
pub const PCI_NODE_PREFIX: &str = "/dev/mapbuf/pci-";
/// Prefix of the path of a bound platform device's node; the device's name (`40000000.buffer`) follows.
#[cfg_attr(MODULE, expect(dead_code, reason = "for user space"))]
pub const PLATFORM_NODE_PREFIX: &str = "/dev/mapbuf/platform-";
/// Directory of the attributes of named buffers (`size`, `kind`, …): `/sys/class/mapbuf/named!NAME/`.
#[cfg_attr(MODULE, expect(dead_code, reason = "for user space"))]
pub const SYSFS_CLASS: &str = "/sys/class/mapbuf";

/// `mmap` offsets below this many pages are buffer ids; packed offsets start here.
pub const MAX_IDS: u32 = 1 << 20;
/// All `mmap` offsets lie below this many pages, so that `mmap2` of a 32-bit program reaches them.
pub const MAX_OFFSET_PAGES: u64 = 1 << 32;
/// Longest name of a named buffer, in bytes.
pub const NAME_LEN: usize = 64;
/// Longest name of a device (`0000:00:04.0`), in bytes.
pub const DEVICE_NAME_LEN: usize = 32;
/// Number of base address registers of a PCI device.
pub const BARS: usize = 6;
/// `Device::iommu_group`: none.
#[cfg_attr(MODULE, expect(dead_code, reason = "for user space"))]
pub const NO_GROUP: u32 = u32::MAX;
/// `Irq::fd`: none.
pub const NO_DESCRIPTOR: i32 = -1;
/// Number of operands that a refusal carries.
pub const OPERANDS: usize = 4;
/// A DMA or physical address that the caller may not see, or that does not exist.
pub const ADDRESS_HIDDEN: u64 = u64::MAX;
/// `Alloc::numa_node`: any node.
pub const ANY_NODE: i32 = -1;
/// `Alloc::numa_node`: that of the node's device, or any if it has none.
pub const NEAR_DEVICE: i32 = -2;
/// `Name::uid` and `Name::gid`: the caller's own.
pub const CALLER: u32 = u32::MAX;
/// The largest struct size that the driver reads (a page on every architecture).
pub const MAX_STRUCT_SIZE: u32 = 4096;

/// Bit `n` of a mask, for kind, method or feature `n`.
pub const fn bit(number: u32) -> u32 {
    1 << number
}

const fn iowr<T>(nr: u32) -> u32 {
    // _IOC(_IOC_READ | _IOC_WRITE, MAGIC, nr, size) of include/uapi/asm-generic/ioctl.h.
    (3 << 30) | ((size_of::<T>() as u32) << 16) | (MAGIC << 8) | nr
}

/// An enumeration whose numbers are part of the interface.
macro_rules! numbered {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $( $(#[$vmeta:meta])* $variant:ident = $value:literal, $text:literal; )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[repr(u32)]
        pub enum $name {
            $( $(#[$vmeta])* $variant = $value, )*
        }

        #[cfg_attr(MODULE, allow(dead_code, reason = "the driver asks some of them for less"))]
        impl $name {
            /// All values, in the order of their numbers.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )* ];

            /// The value with this number, if there is one.
            pub const fn from_number(number: u32) -> Option<Self> {
                match number {
                    $( $value => Some(Self::$variant), )*
                    _ => None,
                }
            }

            /// Its number in the interface.
            pub const fn number(self) -> u32 {
                self as u32
            }

            /// Its name in commands, in `sysfs` and in the documentation.
            pub const fn name(self) -> &'static str {
                match self {
                    $( Self::$variant => $text, )*
                }
            }

            /// The value with this name, if there is one.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.name() == name)
            }
        }
    };
}

numbered! {
    /// Kinds of memory.
    pub enum Kind {
        /// Scattered order-0 pages, virtually contiguous in the kernel (`vmap` with `VM_USERMAP`).
        Vmalloc = 1, "vmalloc";
        /// Page-backed folios, the largest orders first (2 MiB on x86-64, down to 4 KiB).
        Pages = 2, "pages";
        /// One physically contiguous run.
        Contiguous = 3, "contiguous";
        /// DMA-coherent memory of the node's device (`dma_alloc_coherent`).
        Coherent = 4, "coherent";
        /// A reserved physical range, or a PCI BAR, registered by name.
        Region = 5, "region";
        /// Another driver's dma-buf, which `IMPORT` gave an id: that driver maps it, and pays for it.
        Foreign = 6, "foreign";
    }
}

#[cfg_attr(
    MODULE,
    expect(dead_code, reason = "for tables of what can be asked for")
)]
impl Kind {
    /// The kinds whose memory is this driver's, and which its ways to map apply to.
    pub const fn own() -> &'static [Self] {
        &[
            Self::Vmalloc,
            Self::Pages,
            Self::Contiguous,
            Self::Coherent,
            Self::Region,
        ]
    }
}

numbered! {
    /// Ways to map, each named after the kernel function that does it.
    pub enum Method {
        /// The best one for the kind.
        Auto = 0, "auto";
        /// `remap_pfn_range` over the whole mapping.
        Remap = 1, "remap";
        /// `remap_pfn_range` page by page.
        RemapEach = 2, "remap-each";
        /// `vm_insert_pages`.
        Insert = 3, "insert";
        /// `vm_map_pages`.
        MapPages = 4, "map-pages";
        /// `remap_vmalloc_range`.
        Vmalloc = 5, "vmalloc";
        /// `dma_mmap_coherent`.
        Dma = 6, "dma";
        /// `vm_iomap_memory`.
        Iomap = 7, "iomap";
        /// `io_remap_pfn_range`.
        IoRemap = 8, "io-remap";
        /// A fault handler that answers with a `struct page`.
        FaultPage = 9, "fault-page";
        /// A fault handler that calls `vmf_insert_pfn`.
        FaultPfn = 10, "fault-pfn";
        /// A huge-fault handler (`vmf_insert_folio_pmd`, `vmf_insert_pfn_pmd`).
        FaultHuge = 11, "fault-huge";
    }
}

numbered! {
    /// Cache modes of a buffer, the same for every view of it.
    pub enum Cache {
        /// Ordinary write-back memory.
        Cached = 0, "cached";
        /// Writes are gathered, reads are not cached.
        WriteCombined = 1, "write-combined";
        /// Every access goes to memory.
        Uncached = 2, "uncached";
    }
}

numbered! {
    /// What a region was declared to be.
    pub enum RegionType {
        /// Memory, which is probed when it is registered.
        Ram = 1, "ram";
        /// A device: reading it may have side effects, so it is never read unless asked for.
        Mmio = 2, "mmio";
    }
}

numbered! {
    /// What is known about a region.
    pub enum RegionState {
        /// It has not been read yet.
        Unprobed = 0, "unprobed";
        /// It reads neither only ones nor only zeros.
        Answers = 1, "answers";
        /// Suspect: it reads only ones, as on most buses where nothing answers.
        ReadsOnes = 2, "reads only ones";
        /// Suspect: it reads only zeros, as on some buses and emulators where nothing answers.
        ReadsZeros = 3, "reads only zeros";
        /// It does not keep what is written: there is no memory.
        Unbacked = 4, "unbacked";
        /// It keeps what is written: there is memory.
        Backed = 5, "backed";
        /// It could not be registered; the reason says why.
        Refused = 6, "refused";
        /// Its name was removed and it is not in use any more: the claim was released.
        Released = 7, "released";
    }
}

impl RegionState {
    /// Whether a person should look at the region: it is suspect, has nothing behind it, or was refused.
    pub const fn is_bad(self) -> bool {
        matches!(
            self,
            Self::ReadsOnes | Self::ReadsZeros | Self::Unbacked | Self::Refused
        )
    }
}

numbered! {
    /// The direction of a transfer between the CPU and a device.
    pub enum Direction {
        /// The CPU writes them, the device reads them.
        ToDevice = 1, "to-device";
        /// The device writes them, the CPU reads them.
        FromDevice = 2, "from-device";
        /// Both.
        Both = 3, "both";
    }
}

numbered! {
    /// What is between a device and memory.
    pub enum Iommu {
        /// Nothing: the device reaches all memory, and DMA addresses are physical addresses.
        None = 0, "none";
        /// An IOMMU that passes everything through, at the same addresses.
        Identity = 1, "identity";
        /// An IOMMU that translates: the device reaches only memory that was mapped for it, at its own addresses.
        Translated = 2, "translated";
    }
}

numbered! {
    /// Kinds of interrupts of a PCI device.
    pub enum IrqKind {
        /// The pin: one level-triggered interrupt. It is masked when it arrives, until [`IrqAction::Unmask`].
        Intx = 1, "intx";
        /// Message-signalled interrupts (MSI).
        Msi = 2, "msi";
        /// Message-signalled interrupts with a table (MSI-X).
        Msix = 3, "msi-x";
    }
}

numbered! {
    /// What [`Irq`] does.
    pub enum IrqAction {
        /// Makes an eventfd, `Irq::fd`, count the vector; [`NO_DESCRIPTOR`] ends that. The first vector that is set
        /// allocates the vectors of its kind, and unsetting the last one frees them. A device can use one kind of
        /// interrupts at a time.
        Set = 1, "set";
        /// Masks the vector. Masking it twice is the same as once.
        Mask = 2, "mask";
        /// Unmasks the vector. An interrupt that came in between is delivered now.
        Unmask = 3, "unmask";
        /// Triggers the vector, as if the device had sent it.
        Trigger = 4, "trigger";
    }
}

numbered! {
    /// The operation that was refused, in `LastError::operation`. Below 0x100: the number of an ioctl.
    pub enum Operation {
        /// `MAPBUF_IOCTL_QUERY`
        Query = 0, "QUERY";
        /// `MAPBUF_IOCTL_ALLOC`
        Alloc = 1, "ALLOC";
        /// `MAPBUF_IOCTL_FREE`
        Free = 2, "FREE";
        /// `MAPBUF_IOCTL_INFO`
        Info = 3, "INFO";
        /// `MAPBUF_IOCTL_SEGMENTS`
        Segments = 4, "SEGMENTS";
        /// `MAPBUF_IOCTL_OFFSET`
        Offset = 5, "OFFSET";
        /// `MAPBUF_IOCTL_SYNC`
        Sync = 6, "SYNC";
        /// `MAPBUF_IOCTL_EXPORT`
        Export = 7, "EXPORT";
        /// `MAPBUF_IOCTL_LAST_ERROR`
        LastError = 8, "LAST_ERROR";
        /// `MAPBUF_IOCTL_NAME`
        Name = 9, "NAME";
        /// `MAPBUF_IOCTL_UNNAME`
        Unname = 10, "UNNAME";
        /// `MAPBUF_IOCTL_IMPORT`
        Import = 11, "IMPORT";
        /// `MAPBUF_IOCTL_PROBE`
        Probe = 12, "PROBE";
        /// `MAPBUF_IOCTL_REGION`
        Region = 13, "REGION";
        /// `MAPBUF_IOCTL_DEVICE`
        Device = 14, "DEVICE";
        /// `MAPBUF_IOCTL_DMA_MASK`
        DmaMask = 15, "DMA_MASK";
        /// `MAPBUF_IOCTL_ATTACH`
        Attach = 16, "ATTACH";
        /// `MAPBUF_IOCTL_DETACH`
        Detach = 17, "DETACH";
        /// `MAPBUF_IOCTL_IRQ`
        Irq = 18, "IRQ";
        /// `MAPBUF_IOCTL_CONFIG`
        Config = 19, "CONFIG";
        /// `MAPBUF_IOCTL_BAR`
        Bar = 20, "BAR";
        /// An ioctl that this driver does not know.
        UnknownIoctl = 0xff, "unknown ioctl";
        /// `open(2)`
        Open = 0x100, "open";
        /// `mmap(2)`
        Mmap = 0x101, "mmap";
        /// A page fault in a mapping; the thread got SIGBUS.
        Fault = 0x102, "page fault";
        /// `read(2)`, `pread(2)`
        Read = 0x103, "read";
        /// `write(2)`, `pwrite(2)`
        Write = 0x104, "write";
        /// `lseek(2)`
        Seek = 0x105, "lseek";
        /// A device attached to a dma-buf: a driver of another device imports it for the calling thread.
        ForeignAttach = 0x106, "attaching a device";
    }
}

/// Feature bits of [`Query::features`].
pub mod feature {
    /// `OFFSET` returns offsets for named methods.
    pub const OFFSET: u64 = 1 << 0;
    /// `EXPORT` returns dma-buf descriptors.
    pub const EXPORT: u64 = 1 << 1;
    /// `NAME` creates persistent nodes.
    pub const NAME: u64 = 1 << 2;
    /// Contiguous and coherent buffers may come from a CMA area (`cma=` on the kernel command line).
    pub const CMA: u64 = 1 << 3;
    /// `IMPORT` accepts dma-buf descriptors of this driver's buffers.
    pub const IMPORT: u64 = 1 << 5;
    /// DMA addresses of the system node are public (`expose_dma=1`).
    pub const EXPOSE_DMA: u64 = 1 << 4;
    /// An ioctl that is refused returns the reason in its own struct ([`super::Refused`]).
    pub const REFUSED: u64 = 1 << 6;
    /// The node is one of a bound device: `DEVICE`, `DMA_MASK`, `ATTACH`, `DETACH`, `SYNC`, `IRQ`, `CONFIG` and `BAR`
    /// work.
    pub const DEVICE: u64 = 1 << 7;
}

/// Why an ioctl was refused, as in [`LastError`], but without a second call. An ioctl that succeeds leaves it
/// unchanged, and so does an error that is not the driver's: if it was zero before the call, a `reason` of 0 afterwards
/// means that the kernel's core refused the call.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Refused {
    /// Out: a [`crate::Reason`] by number.
    pub reason: u32,
    /// Out: the `errno` that goes with it.
    pub errno: i32,
    /// Out: the reason's operands, in its order.
    pub operands: [u64; OPERANDS],
}

/// `MAPBUF_IOCTL_QUERY`: the driver's version, features and limits.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Query {
    /// In: size of this struct in bytes.
    pub size: u32,
    /// In: 0.
    pub flags: u32,
    /// Out: [`ABI_VERSION`] of the driver.
    pub abi_version: u32,
    /// Out: bytes in a page; the unit of offsets and lengths.
    pub page_size: u32,
    /// Out: bits of [`feature`].
    pub features: u64,
    /// Out: mask of the [`Kind`]s that `ALLOC` on this node accepts (see [`bit`]).
    pub kinds: u32,
    /// Out: mask of the [`Method`]s that `OFFSET` accepts.
    pub methods: u32,
    /// Out: the largest buffer that the limits allow, in bytes.
    pub max_buffer_bytes: u64,
    /// Out: limit for all buffers together, in bytes (module parameter `max_bytes`).
    pub max_bytes: u64,
    /// Out: limit for all buffers of one user, in bytes (`max_bytes_per_user`).
    pub max_bytes_per_user: u64,
    /// Out: bytes charged now, for all users.
    pub used_bytes: u64,
    /// Out: bytes charged now to the user who opened this file.
    pub used_bytes_by_user: u64,
    /// Out: buffers that exist now, including those whose id was freed.
    pub buffers: u64,
    /// Out: why it was refused.
    pub refused: Refused,
}

/// Flags of [`Alloc`].
pub mod alloc {
    /// On the node of a device: a DMA buffer. It is attached at once, in both directions, until `DETACH` or `FREE`;
    /// coherent memory is always attached. The placement then applies to the device's addresses.
    pub const FOR_DEVICE: u32 = 1 << 0;
}

/// `MAPBUF_IOCTL_ALLOC`: allocates a buffer of zeroed memory.
/// On the node of a device without a translating IOMMU, all memory is allocated where the device reaches it. Coherent
/// memory always is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Alloc {
    /// In: size of this struct in bytes.
    pub size: u32,
    /// In: bits of [`alloc`].
    pub flags: u32,
    /// In: bytes wanted, at least 1. Out: the same, rounded up to whole pages.
    pub bytes: u64,
    /// In: a [`Kind`].
    pub kind: u32,
    /// In: a [`Cache`].
    pub cache: u32,
    /// In: NUMA node to allocate from, [`ANY_NODE`], or [`NEAR_DEVICE`].
    pub numa_node: i32,
    /// In: the id wanted, below [`MAX_IDS`], or 0 for any. Out: the id, never 0.
    pub id: u32,
    /// Out: `mmap` offset in bytes, for method `auto`; plus any whole pages maps a part.
    pub mmap_offset: u64,
    /// In: all memory lies below this address, or 0 for anywhere. This is a physical address, or, with
    /// [`alloc::FOR_DEVICE`] and for coherent memory, one of the node's device.
    pub below: u64,
    /// In: alignment of the first byte: this many low bits of its address are 0, at most 40.
    pub align_bits: u32,
    /// In: no run crosses a multiple of 2 to this power, 12 to 63, or 0 for no such boundary.
    pub boundary_bits: u32,
    /// In: 0.
    pub reserved: u64,
    /// Out: why it was refused.
    pub refused: Refused,
}

/// `MAPBUF_IOCTL_FREE`: frees the id; the memory is freed with its last user.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Free {
    /// In: size of this struct in bytes.
    pub size: u32,
    /// In: 0.
    pub flags: u32,
    /// In: the buffer's id.
    pub id: u32,
    /// In: 0.
    pub reserved: u32,
    /// Out: why it was refused.
    pub refused: Refused,
}

/// Bits of [`Info::traits`].
pub mod traits {
    /// It has pages: `O_DIRECT`, `io_uring` and RDMA can pin its mappings.
    pub const PINNABLE: u32 = 1 << 0;
    /// The node's device and the CPU see the same bytes at all times: `SYNC` has nothing to do.
    pub const COHERENT: u32 = 1 << 1;
    /// It has addresses for the node's device: `SEGMENTS` with [`super::segments::FOR_DEVICE`] returns them.
    pub const ATTACHED: u32 = 1 << 2;
    /// It goes away with the device: mappings then raise SIGBUS. Only the `fault` methods map it.
    pub const REVOCABLE: u32 = 1 << 3;
    /// Ports, which can be read and written (`pread`, `pwrite`) but not mapped.
    #[cfg_attr(MODULE, expect(dead_code, reason = "no operation looks at it yet"))]
    pub const PORTS: u32 = 1 << 4;
}

/// `MAPBUF_IOCTL_INFO`: what a buffer is. On a named node, id 0 is its buffer.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Info {
    /// In: size of this struct in bytes.
    pub size: u32,
    /// In: 0.
    pub flags: u32,
    /// In: the buffer's id (0 on a named node; 0 in a session returns only the session's fields).
    pub id: u32,
    /// Out: its [`Kind`].
    pub kind: u32,
    /// Out: its [`Cache`].
    pub cache: u32,
    /// Out: physically contiguous runs in it; 0: not known ([`Kind::Foreign`]).
    pub segments: u32,
    /// Out: virtual memory areas that map it now, in any process.
    pub mappings: u32,
    /// Out: buffers of this session whose id was freed while their memory is still in use.
    pub freed_held: u32,
    /// Out: its size in bytes, whole pages.
    pub bytes: u64,
    /// Out: bytes in the buffers of `freed_held`.
    pub freed_held_bytes: u64,
    /// Out: its `mmap` offset for `auto` in bytes (0 on a named node, whose offsets count from the start of the buffer).
    pub mmap_offset: u64,
    /// Out: its name, padded with zeros; all zeros if it has none.
    pub name: [u8; NAME_LEN],
    /// Out: the address of its first byte for the node's device, or [`ADDRESS_HIDDEN`].
    pub dma_address: u64,
    /// Out: bits of [`traits`].
    pub traits: u32,
    /// Out: bits in each of the kernel's own accesses (`read`, `write`), where those must be by words: a region that is not
    /// cached, or a BAR; 0: any.
    pub width: u32,
    /// Out: why it was refused.
    pub refused: Refused,
}

impl Default for Info {
    fn default() -> Self {
        Self {
            size: 0,
            flags: 0,
            id: 0,
            kind: 0,
            cache: 0,
            segments: 0,
            mappings: 0,
            freed_held: 0,
            bytes: 0,
            freed_held_bytes: 0,
            mmap_offset: 0,
            name: [0; NAME_LEN],
            dma_address: 0,
            traits: 0,
            width: 0,
            refused: Refused {
                reason: 0,
                errno: 0,
                operands: [0; OPERANDS],
            },
        }
    }
}

/// One physically contiguous run of a buffer.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Segment {
    /// Where it starts in the buffer, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
    /// Its address for the node's device, or [`ADDRESS_HIDDEN`]. Only coherent memory always has one.
    pub dma_address: u64,
    /// Its physical address, or [`ADDRESS_HIDDEN`]: needs CAP_SYS_ADMIN.
    pub physical_address: u64,
}

/// Flags of [`Segments`].
pub mod segments {
    /// The rows are runs that are contiguous in the addresses of the node's device, for a buffer that has such
    /// addresses. Behind an IOMMU there are fewer than physical runs. `physical_address` is [`super::ADDRESS_HIDDEN`].
    pub const FOR_DEVICE: u32 = 1 << 0;
}

/// `MAPBUF_IOCTL_SEGMENTS`: the physically contiguous runs of a buffer. On a named node, id 0 is its buffer.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Segments {
    /// In: size of this struct in bytes.
    pub size: u32,
    /// In: bits of [`segments`].
    pub flags: u32,
    /// In: the buffer's id.
    pub id: u32,
    /// In: number of the first run wanted.
    pub first: u32,
    /// In: how many rows `rows` has room for. Out: how many were written.
    pub count: u32,
    /// Out: number of runs of the buffer.
    pub total: u32,
    /// In: address of an array of [`Segment`]; ignored if `count` is 0.
    pub rows: u64,
    /// Out: why it was refused.
    pub refused: Refused,
}

/// `MAPBUF_IOCTL_OFFSET`: an `mmap` offset that maps this buffer by this method.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Offset {
    /// In: size of this struct in bytes.
    pub size: u32,
    /// In: 0.
    pub flags: u32,
    /// In: the buffer's id.
    pub id: u32,
    /// In: a [`Method`].
    pub method: u32,
    /// Out: `mmap` offset in bytes; plus any whole pages maps a part.
    pub mmap_offset: u64,
    /// In: 0.
    pub reserved: u64,
    /// Out: why it was refused.
    pub refused: Refused,
}

/// `MAPBUF_IOCTL_EXPORT`: a dma-buf descriptor of the buffer, close-on-exec, readable and writable.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Export {
    /// In: size of this struct in bytes.
    pub size: u32,
    /// In: 0.
    pub flags: u32,
    /// In: the buffer's id (0 on a named node).
    pub id: u32,
    /// Out: the descriptor.
    pub fd: i32,
    /// Out: why it was refused.
    pub refused: Refused,
}

/// Flags of [`Import`].
pub mod import {
    /// Attach it to the node's device at once, for both directions.
    pub const FOR_DEVICE: u32 = 1 << 0;
}

/// `MAPBUF_IOCTL_IMPORT`: gives a buffer whose dma-buf descriptor the caller has an id in this session. It came from
/// `EXPORT`, also of a named node, and every method maps it; or from another driver (a dma-heap, `udmabuf`, a graphics
/// card), and is of kind [`Kind::Foreign`]: `mmap` at its offset is that driver's, [`Sync`] asks that driver, and `ATTACH`
/// gives it addresses for the node's device. The descriptor must be open for reading and writing.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Import {
    /// In: size of this struct in bytes.
    pub size: u32,
    /// In: bits of [`import`].
    pub flags: u32,
    /// In: the descriptor; it may be closed afterwards.
    pub fd: i32,
    /// In: the id wanted, or 0 for any. Out: the id.
    pub id: u32,
    /// Out: the buffer's size in bytes.
    pub bytes: u64,
    /// Out: `mmap` offset in bytes, for method `auto`.
    pub mmap_offset: u64,
    /// Out: why it was refused.
    pub refused: Refused,
}

/// Flags of [`Probe`].
pub mod probe {
    /// Write a pattern to every page, check whether it stays, and restore the old contents. Memory only.
    pub const WRITE: u32 = 1 << 0;
    /// Read a device's memory, although this can hang a bus or remove data from a queue.
    pub const RISK: u32 = 1 << 1;
}

/// `MAPBUF_IOCTL_PROBE`: probes a region. On its own node the id is 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Probe {
    /// In: size of this struct in bytes.
    pub size: u32,
    /// In: bits of [`probe`].
    pub flags: u32,
    /// In: the buffer's id.
    pub id: u32,
    /// Out: a [`RegionState`].
    pub state: u32,
    /// Out: words read that were all ones.
    pub ones: u64,
    /// Out: words read that were all zeros.
    pub zeros: u64,
    /// Out: other words read.
    pub others: u64,
    /// Out: why it was refused.
    pub refused: Refused,
}

/// `MAPBUF_IOCTL_REGION`: a region that the module's parameter `regions` declared.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Region {
    /// In: size of this struct in bytes.
    pub size: u32,
    /// In: 0.
    pub flags: u32,
    /// In: its number, from 0.
    pub index: u32,
    /// Out: how many were declared. The other fields are zero if there is no region with this number.
    pub count: u32,
    /// Out: its size in bytes.
    pub bytes: u64,
    /// Out: its physical address, or [`ADDRESS_HIDDEN`]: needs CAP_SYS_ADMIN.
    pub start: u64,
    /// Out: its [`RegionType`].
    pub class: u32,
    /// Out: its [`Cache`].
    pub cache: u32,
    /// Out: width in bits of the kernel's own accesses, where its view is uncached.
    pub width: u32,
    /// Out: a [`RegionState`].
    pub state: u32,
    /// Out: when refused, a [`crate::Reason`] by number, else 0.
    pub reason: u32,
    /// Out: the `errno` that goes with it.
    pub errno: i32,
    /// Out: the reason's operands.
    pub operands: [u64; OPERANDS],
    /// Out: its name, padded with zeros.
    pub name: [u8; NAME_LEN],
    /// Out: why it was refused.
    pub refused: Refused,
}

/// Bits of [`LastError::flags`].
pub mod last_error {
    /// Ask about dma-bufs instead of this open file: the last refusal for this thread when it mapped a dma-buf's own
    /// descriptor, or had a device import one. Any open file of the driver returns it, but only for the calling thread.
    pub const OF_DMA_BUFS: u32 = 1 << 0;
}

/// `MAPBUF_IOCTL_LAST_ERROR`: the last refusal that the driver made for a thread on this open file.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LastError {
    /// In: size of this struct in bytes.
    pub size: u32,
    /// In: bits of [`last_error`].
    pub flags: u32,
    /// Out: number of this refusal; grows with each one on this open file. 0: none yet for the thread.
    /// If the caller has seen this number before, its current error came from somewhere else.
    pub sequence: u64,
    /// Out: a [`crate::Reason`] by number.
    pub reason: u32,
    /// Out: the `errno` that went with it.
    pub errno: i32,
    /// Out: an [`Operation`] by number.
    pub operation: u32,
    /// In: 0 for the calling thread, or the `gettid` number of another thread that uses this open file: a thread of a
    /// process that was killed can no longer ask by itself.
    pub thread: u32,
    /// Out: the reason's operands, in its order.
    pub operands: [u64; OPERANDS],
    /// Out: why it was refused.
    pub refused: Refused,
}

/// `MAPBUF_IOCTL_NAME`: gives a buffer its own node, `/dev/mapbuf/named/NAME`, which stays until `UNNAME`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Name {
    /// In: size of this struct in bytes.
    pub size: u32,
    /// In: 0.
    pub flags: u32,
    /// In: the buffer's id.
    pub id: u32,
    /// In: permission bits of the node, within 0666.
    pub mode: u32,
    /// In: its owner, or [`CALLER`]. Another owner needs CAP_CHOWN.
    pub uid: u32,
    /// In: its group, or [`CALLER`]. A group that the caller is not in needs CAP_CHOWN.
    pub gid: u32,
    /// In: its name, `[A-Za-z0-9_][A-Za-z0-9._-]{0,63}`, padded with zeros.
    pub name: [u8; NAME_LEN],
    /// Out: why it was refused.
    pub refused: Refused,
}

/// `MAPBUF_IOCTL_UNNAME`: removes a named buffer's node; open files and mappings keep the memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Unname {
    /// In: size of this struct in bytes.
    pub size: u32,
    /// In: 0.
    pub flags: u32,
    /// In: the name, padded with zeros.
    pub name: [u8; NAME_LEN],
    /// Out: why it was refused.
    pub refused: Refused,
}

/// Bits of [`BarInfo::flags`].
pub mod bar {
    /// Memory: it can be mapped.
    #[cfg_attr(MODULE, expect(dead_code, reason = "for user space"))]
    pub const MEMORY: u32 = 1 << 0;
    /// Ports: they can be read and written.
    pub const PORTS: u32 = 1 << 1;
    /// Reading has no side effects, and writes may be combined.
    pub const PREFETCHABLE: u32 = 1 << 2;
    /// The MSI-X table or its pending bits lie in it; no mapping of those pages is writable.
    #[cfg_attr(MODULE, expect(dead_code, reason = "for user space"))]
    pub const MSIX: u32 = 1 << 3;
}

/// What a base address register of a device leads to; zeros if there is none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct BarInfo {
    /// Its size in bytes.
    pub bytes: u64,
    /// Bits of [`bar`].
    pub flags: u32,
    /// 0.
    pub reserved: u32,
}

/// Bits of [`Device::state`].
pub mod device_state {
    /// It is present. Without this bit it is gone, and the other fields are from before.
    pub const PRESENT: u32 = 1 << 0;
    /// This open file may use it. Without this bit, each use is refused with the reason.
    pub const USABLE: u32 = 1 << 1;
    /// DMA is cache-coherent: `SYNC` has nothing to do.
    pub const COHERENT: u32 = 1 << 2;
    /// It may do DMA now (bus master).
    pub const BUS_MASTER: u32 = 1 << 3;
}

/// `MAPBUF_IOCTL_DEVICE`: describes the device of a node.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Device {
    /// In: size of this struct in bytes.
    pub size: u32,
    /// In: 0.
    pub flags: u32,
    /// Out: its address (`0000:00:04.0`), or the name of a platform device, padded with zeros.
    pub name: [u8; DEVICE_NAME_LEN],
    /// Out: vendor. A platform device has 0 in this and what else only PCI devices have.
    pub vendor: u32,
    /// Out: device.
    pub device: u32,
    /// Out: vendor of the subsystem.
    pub subsystem_vendor: u32,
    /// Out: device of the subsystem.
    pub subsystem_device: u32,
    /// Out: class, three bytes: base class, sub-class, interface.
    pub pci_class: u32,
    /// Out: revision.
    pub revision: u32,
    /// Out: bits of [`device_state`].
    pub state: u32,
    /// Out: an [`Iommu`].
    pub iommu: u32,
    /// Out: its IOMMU group, or [`NO_GROUP`].
    pub iommu_group: u32,
    /// Out: its NUMA node, or [`ANY_NODE`].
    pub numa_node: i32,
    /// Out: current width of its DMA addresses in bits.
    pub dma_mask: u32,
    /// Out: bytes of its configuration space: 256 or 4096, or 0 for a platform device.
    pub config_bytes: u32,
    /// Out: number of its [`IrqKind::Intx`] vectors.
    pub intx: u32,
    /// Out: number of its [`IrqKind::Msi`] vectors.
    pub msi: u32,
    /// Out: number of its [`IrqKind::Msix`] vectors.
    pub msix: u32,
    /// Out: 0.
    pub reserved: u32,
    /// Out: its base address registers. A 64-bit one is at the number of its lower half.
    pub bars: [BarInfo; BARS],
    /// Out: why it was refused.
    pub refused: Refused,
}

/// `MAPBUF_IOCTL_DMA_MASK`: sets how many bits the device's DMA addresses have. The driver starts with 64, or as many
/// as the platform allows. Refused while a buffer has an address for the device.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct DmaMask {
    /// In: size of this struct in bytes.
    pub size: u32,
    /// In: 0.
    pub flags: u32,
    /// In: bits, 12 to 64.
    pub bits: u32,
    /// In: 0.
    pub reserved: u32,
    /// Out: why it was refused.
    pub refused: Refused,
}

/// `MAPBUF_IOCTL_ATTACH`: maps a buffer that has pages, or another driver's, for the device. Coherent memory of the device is
/// at all times.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Attach {
    /// In: size of this struct in bytes.
    pub size: u32,
    /// In: 0.
    pub flags: u32,
    /// In: the buffer's id.
    pub id: u32,
    /// In: a [`Direction`].
    pub direction: u32,
    /// Out: the address of its first byte for the device.
    pub dma_address: u64,
    /// Out: runs of addresses for the device.
    pub segments: u32,
    /// In: 0.
    pub reserved: u32,
    /// Out: why it was refused.
    pub refused: Refused,
}

/// `MAPBUF_IOCTL_DETACH`: unmaps a buffer for the device. `FREE` does this too.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Detach {
    /// In: size of this struct in bytes.
    pub size: u32,
    /// In: 0.
    pub flags: u32,
    /// In: the buffer's id.
    pub id: u32,
    /// In: 0.
    pub reserved: u32,
    /// Out: why it was refused.
    pub refused: Refused,
}

/// Flags of [`Sync`]: exactly one of them.
pub mod sync {
    /// The CPU is about to use the bytes; the device is done with them.
    pub const BEGIN: u32 = 1 << 0;
    /// The CPU is done with the bytes; the device may have them.
    pub const END: u32 = 1 << 1;
}

/// `MAPBUF_IOCTL_SYNC`: says who has a part of a buffer, the CPU or the device. Where DMA is coherent
/// ([`traits::COHERENT`]) it does nothing. For another driver's buffer ([`Kind::Foreign`]) it is said to that driver, for the
/// whole of it, on any allocator node; BEGIN waits until the devices that write to it are done.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sync {
    /// In: size of this struct in bytes.
    pub size: u32,
    /// In: bits of [`sync`].
    pub flags: u32,
    /// In: the buffer's id.
    pub id: u32,
    /// In: a [`Direction`].
    pub direction: u32,
    /// In: first byte.
    pub offset: u64,
    /// In: number of bytes, at least 1.
    pub length: u64,
    /// Out: why it was refused.
    pub refused: Refused,
}

/// `MAPBUF_IOCTL_IRQ`: controls an interrupt of the device. It belongs to the open file that set it, and ends with that
/// file.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Irq {
    /// In: size of this struct in bytes.
    pub size: u32,
    /// In: 0.
    pub flags: u32,
    /// In: an [`IrqKind`].
    pub kind: u32,
    /// In: the vector's number, from 0.
    pub index: u32,
    /// In: an [`IrqAction`].
    pub action: u32,
    /// In: with [`IrqAction::Set`], an eventfd or [`NO_DESCRIPTOR`]; otherwise 0.
    pub fd: i32,
    /// In: with the first [`IrqAction::Set`], how many vectors to allocate, or 0 for as many as the device has, at most
    /// 32; otherwise 0. Out: how many were allocated.
    pub vectors: u32,
    /// In: 0.
    pub reserved: u32,
    /// Out: how often the interrupt came since it was set.
    pub count: u64,
    /// Out: why it was refused.
    pub refused: Refused,
}

/// Flags of [`Config`].
pub mod config {
    /// Write the value; without it, read it.
    pub const WRITE: u32 = 1 << 0;
}

/// `MAPBUF_IOCTL_CONFIG`: reads or writes the configuration space. Values are in the CPU's byte order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Config {
    /// In: size of this struct in bytes.
    pub size: u32,
    /// In: bits of [`config`].
    pub flags: u32,
    /// In: first byte, a multiple of `width`.
    pub offset: u32,
    /// In: width in bytes: 1, 2 or 4.
    pub width: u32,
    /// In: the value to write. Out: the value read.
    pub value: u32,
    /// In: 0.
    pub reserved: u32,
    /// Out: why it was refused.
    pub refused: Refused,
}

/// `MAPBUF_IOCTL_BAR`: gives the memory or ports of a base address register an id in this session. They are a buffer of
/// the kind [`Kind::Region`], which is mapped, read and written like any other.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Bar {
    /// In: size of this struct in bytes.
    pub size: u32,
    /// In: 0.
    pub flags: u32,
    /// In: its number, from 0.
    pub index: u32,
    /// In: a [`Cache`]: uncached, or write-combined if it is prefetchable. It is the same for all open files of a device.
    pub cache: u32,
    /// In: the id wanted, or 0 for any. Out: the id.
    pub id: u32,
    /// Out: bits of [`bar`].
    pub bar_flags: u32,
    /// Out: its size in bytes, whole pages.
    pub bytes: u64,
    /// Out: `mmap` offset in bytes, for method `auto`.
    pub mmap_offset: u64,
    /// In: width in bits of the kernel's own accesses: 8, 16, 32 or 64; 0 means 32.
    pub width: u32,
    /// In: 0.
    pub reserved: u32,
    /// Out: why it was refused.
    pub refused: Refused,
}

/// Where the [`Refused`] of an ioctl's struct begins, in bytes; `None` if the operation is not an ioctl.
pub const fn refused_at(operation: Operation) -> Option<usize> {
    Some(match operation {
        Operation::Query => offset_of!(Query, refused),
        Operation::Alloc => offset_of!(Alloc, refused),
        Operation::Free => offset_of!(Free, refused),
        Operation::Info => offset_of!(Info, refused),
        Operation::Segments => offset_of!(Segments, refused),
        Operation::Offset => offset_of!(Offset, refused),
        Operation::Export => offset_of!(Export, refused),
        Operation::Import => offset_of!(Import, refused),
        Operation::Probe => offset_of!(Probe, refused),
        Operation::Region => offset_of!(Region, refused),
        Operation::LastError => offset_of!(LastError, refused),
        Operation::Name => offset_of!(Name, refused),
        Operation::Unname => offset_of!(Unname, refused),
        Operation::Device => offset_of!(Device, refused),
        Operation::DmaMask => offset_of!(DmaMask, refused),
        Operation::Attach => offset_of!(Attach, refused),
        Operation::Detach => offset_of!(Detach, refused),
        Operation::Sync => offset_of!(Sync, refused),
        Operation::Irq => offset_of!(Irq, refused),
        Operation::Config => offset_of!(Config, refused),
        Operation::Bar => offset_of!(Bar, refused),
        _ => return None,
    })
}

/// ioctl numbers.
#[cfg_attr(MODULE, expect(dead_code, reason = "for user space"))]
pub mod ioctl {
    use super::*;

    /// [`Query`]
    pub const QUERY: u32 = iowr::<Query>(Operation::Query.number());
    /// [`Alloc`]
    pub const ALLOC: u32 = iowr::<Alloc>(Operation::Alloc.number());
    /// [`Free`]
    pub const FREE: u32 = iowr::<Free>(Operation::Free.number());
    /// [`Info`]
    pub const INFO: u32 = iowr::<Info>(Operation::Info.number());
    /// [`Segments`]
    pub const SEGMENTS: u32 = iowr::<Segments>(Operation::Segments.number());
    /// [`Offset`]
    pub const OFFSET: u32 = iowr::<Offset>(Operation::Offset.number());
    /// [`Export`]
    pub const EXPORT: u32 = iowr::<Export>(Operation::Export.number());
    /// [`Import`]
    pub const IMPORT: u32 = iowr::<Import>(Operation::Import.number());
    /// [`Probe`]
    pub const PROBE: u32 = iowr::<Probe>(Operation::Probe.number());
    /// [`Region`]
    pub const REGION: u32 = iowr::<Region>(Operation::Region.number());
    /// [`LastError`]
    pub const LAST_ERROR: u32 = iowr::<LastError>(Operation::LastError.number());
    /// [`Name`]
    pub const NAME: u32 = iowr::<Name>(Operation::Name.number());
    /// [`Unname`]
    pub const UNNAME: u32 = iowr::<Unname>(Operation::Unname.number());
    /// [`Device`]
    pub const DEVICE: u32 = iowr::<Device>(Operation::Device.number());
    /// [`DmaMask`]
    pub const DMA_MASK: u32 = iowr::<DmaMask>(Operation::DmaMask.number());
    /// [`Attach`]
    pub const ATTACH: u32 = iowr::<Attach>(Operation::Attach.number());
    /// [`Detach`]
    pub const DETACH: u32 = iowr::<Detach>(Operation::Detach.number());
    /// [`Sync`]
    pub const SYNC: u32 = iowr::<Sync>(Operation::Sync.number());
    /// [`Irq`]
    pub const IRQ: u32 = iowr::<Irq>(Operation::Irq.number());
    /// [`Config`]
    pub const CONFIG: u32 = iowr::<Config>(Operation::Config.number());
    /// [`Bar`]
    pub const BAR: u32 = iowr::<Bar>(Operation::Bar.number());
}

// The layouts, once more and by hand: a change to one of these breaks programs.
const _: () = {
    assert!(size_of::<Refused>() == 40);
    assert!(size_of::<Query>() == 120);
    assert!(offset_of!(Query, features) == 16);
    assert!(offset_of!(Query, max_buffer_bytes) == 32);
    assert!(offset_of!(Query, buffers) == 72);
    assert!(size_of::<Alloc>() == 104);
    assert!(offset_of!(Alloc, bytes) == 8);
    assert!(offset_of!(Alloc, kind) == 16);
    assert!(offset_of!(Alloc, mmap_offset) == 32);
    assert!(offset_of!(Alloc, below) == 40);
    assert!(offset_of!(Alloc, reserved) == 56);
    assert!(size_of::<Free>() == 56);
    assert!(size_of::<Info>() == 176);
    assert!(offset_of!(Info, bytes) == 32);
    assert!(offset_of!(Info, name) == 56);
    assert!(offset_of!(Info, dma_address) == 120);
    assert!(offset_of!(Info, width) == 132);
    assert!(size_of::<Segment>() == 32);
    assert!(size_of::<Segments>() == 72);
    assert!(offset_of!(Segments, rows) == 24);
    assert!(size_of::<Offset>() == 72);
    assert!(size_of::<Export>() == 56);
    assert!(size_of::<Import>() == 72);
    assert!(size_of::<Probe>() == 80);
    assert!(size_of::<Region>() == 192);
    assert!(offset_of!(Region, operands) == 56);
    assert!(size_of::<LastError>() == 104);
    assert!(offset_of!(LastError, operands) == 32);
    assert!(size_of::<Name>() == 128);
    assert!(offset_of!(Name, name) == 24);
    assert!(size_of::<Unname>() == 112);
    assert!(size_of::<BarInfo>() == 16);
    assert!(size_of::<Device>() == 240);
    assert!(offset_of!(Device, vendor) == 40);
    assert!(offset_of!(Device, bars) == 104);
    assert!(size_of::<DmaMask>() == 56);
    assert!(size_of::<Attach>() == 72);
    assert!(offset_of!(Attach, dma_address) == 16);
    assert!(size_of::<Detach>() == 56);
    assert!(size_of::<Sync>() == 72);
    assert!(offset_of!(Sync, offset) == 16);
    assert!(size_of::<Irq>() == 80);
    assert!(offset_of!(Irq, count) == 32);
    assert!(size_of::<Config>() == 64);
    assert!(size_of::<Bar>() == 88);
    assert!(offset_of!(Bar, bytes) == 24);
    assert!(ioctl::QUERY == 0xc078_b900);
    assert!(ioctl::ALLOC == 0xc068_b901);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_one_to_one() {
        for &kind in Kind::ALL {
            assert_eq!(Kind::from_number(kind.number()), Some(kind));
            assert_eq!(Kind::from_name(kind.name()), Some(kind));
        }
        for &method in Method::ALL {
            assert_eq!(Method::from_number(method.number()), Some(method));
            assert_eq!(Method::from_name(method.name()), Some(method));
        }
        for &cache in Cache::ALL {
            assert_eq!(Cache::from_number(cache.number()), Some(cache));
            assert_eq!(Cache::from_name(cache.name()), Some(cache));
        }
        assert_eq!(Kind::from_number(0), None);
        assert_eq!(Method::from_number(12), None);
        assert_eq!(Cache::from_name("writeback"), None);
    }
}
